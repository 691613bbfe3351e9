package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/principal"
)

const (
	conversationsEach = 32
	rounds            = 8
	turn              = 250 * time.Millisecond
)

// BenchmarkDisclosure reads a visitor's name and email as his agent: policy, record, tree, signature, take, decryption.
// In turns with it, through the same pool, go two floors: the bare read of a row by key, and a read that writes a plain
// audit row of 400 bytes in a transaction of its own. "x/floor-…" is a disclosure over the second. "record-us", "take-us" and
// "index-us" are the parts of a disclosure that the database spends in its functions.
func BenchmarkDisclosure(b *testing.B) {
	w := newWorld(b, 16)
	questions := make([][]question, len(w.organisations))
	for i := range questions {
		questions[i] = make([]question, conversationsEach)
	}
	each(b, len(w.organisations)*conversationsEach, workers, func(i int) (err error) {
		o := w.organisations[i%len(w.organisations)]
		questions[i%len(w.organisations)][i/len(w.organisations)], err = w.question(b.Context(), o, fmt.Sprintf("agent%d", i))
		return err
	})
	for _, organisations := range []int{1, 16} {
		for _, callers := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("organisations=%d/callers=%d", organisations, callers), func(b *testing.B) {
				disclose := func(ctx context.Context, caller int) error {
					all := questions[caller%organisations]
					return w.disclose(ctx, all[rand.IntN(len(all))])
				}
				var bare, plain, ours sample
				before := w.functionTimes(b)
				for b.Loop() {
					for range rounds {
						bare.run(b, callers, turn/3, w.bareRead)
						plain.run(b, callers, turn, w.plainAudit)
						ours.run(b, callers, turn, disclose)
					}
				}
				b.ReportMetric(0, "ns/op")
				for name, total := range w.functionTimes(b) {
					b.ReportMetric((total-before[name])*1000/float64(len(ours.latencies)), map[string]string{"record": "record-us", "take": "take-us", "index_log": "index-us"}[name])
				}
				b.ReportMetric(ours.rate(), "disclosures/s")
				b.ReportMetric(ours.ms(0.5), "p50-ms")
				b.ReportMetric(ours.ms(0.99), "p99-ms")
				b.ReportMetric(bare.rate(), "bare-reads/s")
				b.ReportMetric(plain.rate(), "floor/s")
				b.ReportMetric(plain.ms(0.5), "floor-p50-ms")
				b.ReportMetric(plain.ms(0.99), "floor-p99-ms")
				b.ReportMetric(ours.rate()/plain.rate(), "x/floor-rate")
				b.ReportMetric(ours.ms(0.5)/plain.ms(0.5), "x/floor-p50")
				b.ReportMetric(ours.ms(0.99)/plain.ms(0.99), "x/floor-p99")
			})
		}
	}
}

// functionTimes gives the milliseconds that the functions of the schema access took so far, with all they call.
func (w *world) functionTimes(b *testing.B) map[string]float64 {
	b.Helper()
	time.Sleep(1200 * time.Millisecond) // sessions report each second
	rows, err := w.admin.Query(b.Context(), "select funcname, total_time from pg_stat_user_functions where schemaname = 'access' and funcname in ('record', 'take', 'index_log')")
	must(b, err)
	times := map[string]float64{}
	var name string
	var total float64
	_, err = pgx.ForEachRow(rows, []any{&name, &total}, func() error {
		times[name] = total
		return nil
	})
	must(b, err)
	return times
}

// question is one disclosure that policy allows.
type question struct {
	who   principal.Agent
	scene access.Scene
}

func (w *world) question(ctx context.Context, o organisation, agent string) (question, error) {
	s, err := w.open(ctx, o)
	if err != nil {
		return question{}, err
	}
	if err := w.join(ctx, o, s, agent, "https://teams.example/"); err != nil {
		return question{}, err
	}
	scene, err := w.relay.Scene(ctx, o.ID, s.Conversation)
	if err != nil {
		return question{}, err
	}
	return question{principal.NewAgent(o.ID, scene.Conversation.Agent), scene}, nil
}

func (w *world) disclose(ctx context.Context, q question) error {
	c := q.scene.Conversation
	d, err := w.readers.VisitorToAgent.Read(ctx, q.who, q.scene, c.Visitor, c.ID)
	if err != nil {
		return err
	}
	if !d.Receipt().Valid() || euii.Reveal(d.Value(euii.VisitorDisplayName)) != "Vera Visitor" || euii.Reveal(d.Value(euii.VisitorEmail)) != "vera@visitors.example" {
		return errors.New("the disclosure did not give what was stored")
	}
	return nil
}

const sqlBareRead = "select ciphertext from floor.value where id = $1"

func (w *world) bareRead(ctx context.Context, _ int) error {
	var ciphertext []byte
	return w.pool.QueryRow(ctx, sqlBareRead, 1+rand.IntN(10000)).Scan(&ciphertext)
}

// auditRow is as long as the record of a small disclosure.
var auditRow = []byte(strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz.,;-", 10))

const sqlFloorInsert = "insert into floor.audit (organisation_id, body) values ($1, $2)"

func (w *world) plainAudit(ctx context.Context, _ int) error {
	tx, err := w.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(ctx) //nolint:errcheck // does nothing after the commit
	var ciphertext []byte
	if err := tx.QueryRow(ctx, sqlBareRead, 1+rand.IntN(10000)).Scan(&ciphertext); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlFloorInsert, uuid.Nil, auditRow); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
