package faults

import (
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// What the matrix is there to find happens for real where a node does not see to it that commits are durable: what was
// acknowledged is gone after a crash, and other records bear its numbers (D8). So its silence over the nodes as they are
// says something.
func TestTheMatrixFindsWhatIsLostWithoutDurableCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(p place) (*node, error) {
		config, err := pgxpool.ParseConfig(p.URL)
		must(t, err)
		config.MaxConns = poolSize
		config.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
		config.ConnConfig.RuntimeParams["statement_timeout"] = "5s"
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		must(t, err)
		return newNodeOver(t.Context(), p, pool)
	})
	// PostgreSQL writes late what it was not asked to wait for; here it does not get round to it at all.
	w.do("alter system set bgwriter_lru_maxpages = 0", "alter system set autovacuum = off", "select pg_reload_conf()", "checkpoint")
	writer, err := w.pid(sqlWriter)
	must(t, err)
	must(t, syscall.Kill(writer, syscall.SIGSTOP))
	l := w.turn(fault{name: "kill -9 of one process of PostgreSQL", strike: func(w *world) func() int {
		return func() int {
			for begun := time.Now(); w.releases() < 300 && time.Since(begun) < recovery; {
				time.Sleep(10 * time.Millisecond)
			}
			must(t, syscall.Kill(writer, syscall.SIGKILL))
			if !w.recovered(writer) {
				t.Fatal("PostgreSQL does not recover")
			}
			return 1
		}
	}}, 1)
	if len(l.violations) == 0 {
		t.Errorf("nothing is found among %d releases", l.released)
	}
	t.Logf("%d of %d releases are found to have no record", len(l.violations), l.released)
}
