package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/migrations"
)

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// ours is a log in PostgreSQL: an answer means that the entry is committed under a signed checkpoint.
func ours(b *testing.B, dir string) (appendOne func(context.Context) error) {
	ctx := b.Context()
	c, err := cluster.Start(ctx, cluster.Options{DataDir: dir})
	must(b, err)
	b.Cleanup(func() { must(b, c.Stop(context.Background())) })
	conn, err := pgx.Connect(ctx, c.URL(cluster.Superuser, cluster.Database))
	must(b, err)
	_, err = pg.Migrate(ctx, conn, migrations.FS)
	must(b, err)
	decisions, err := pglog.NewDecisionKey(bytes.Repeat([]byte{1}, 32))
	must(b, err)
	must(b, decisions.Install(ctx, conn))
	must(b, conn.Close(ctx))
	pool, err := pg.Open(ctx, pg.Config{URL: c.URL("counterfoil_service", cluster.Database), MaxConns: 32})
	must(b, err)
	b.Cleanup(pool.Close)
	key, err := audit.NewKey(bytes.Repeat([]byte{2}, 32))
	must(b, err)
	l := pglog.New(pool, key, decisions)
	organisation := uuid.New()
	must(b, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return l.CreateLog(ctx, tx, organisation, "bench.example/audit/"+organisation.String())
	}))
	return func(ctx context.Context) error {
		_, err := l.Append(ctx, organisation, pglog.Draft{Entry: audit.Entry{
			Kind: audit.Disclosure, Action: "introduce_visitor_to_agent", Actor: audit.Party{Kind: "agent", Ref: "abcdefgh23456789"},
			Subject: audit.Party{Kind: "visitor", Ref: "abcdefgh23456789"}, Fields: []string{"visitor_email"}, Decision: audit.DecisionAllow, Conversation: "abcdefgh23456789",
		}})
		return err
	}
}

// theirs is a log of tessera in a directory: an answer means that the entry durably has its index; a checkpoint follows later.
func theirs(b *testing.B, dir string) (appendOne func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background()) // its shutdown has to outlive the benchmark's context
	secret, _, err := note.GenerateKey(rand.Reader, "bench.example/peer")
	must(b, err)
	signer, err := note.NewSigner(secret)
	must(b, err)
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	must(b, err)
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithBatching(1024, 2*time.Millisecond).WithCheckpointInterval(time.Second))
	must(b, err)
	b.Cleanup(func() {
		must(b, shutdown(context.Background()))
		cancel()
	})
	return func(ctx context.Context) error {
		entry := make([]byte, 330)
		rand.Read(entry)
		_, err := appender.Add(ctx, tessera.NewEntry(entry))()
		return err
	}
}

// run lets callers append for a while, and gives what each call took.
func run(b *testing.B, callers int, length time.Duration, f func(context.Context) error) (all []time.Duration, took time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	start := time.Now()
	for range callers {
		running.Go(func() {
			var mine []time.Duration
			for at := time.Now(); at.Before(start.Add(length)); {
				if err := f(b.Context()); err != nil {
					b.Error(err)
					return
				}
				now := time.Now()
				mine, at = append(mine, now.Sub(at)), now
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	running.Wait()
	return all, time.Since(start)
}

// BenchmarkAppend appends entries of about 330 bytes, in turns with tessera's POSIX storage on the same disk. "x/tessera" is the rate
// over tessera's, whose answer promises less: our entry is already under a signed checkpoint, and can be searched.
func BenchmarkAppend(b *testing.B) {
	dir, err := os.MkdirTemp("", "counterfoil-peer-")
	must(b, err)
	b.Cleanup(func() { must(b, os.RemoveAll(dir)) })
	must(b, os.Chmod(dir, 0o755))
	us, them := ours(b, filepath.Join(dir, "ours")), theirs(b, filepath.Join(dir, "theirs"))
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			var mine, peers []time.Duration
			var mineTook, peersTook time.Duration
			for b.Loop() {
				for range 4 {
					all, took := run(b, callers, 400*time.Millisecond, us)
					mine, mineTook = append(mine, all...), mineTook+took
					all, took = run(b, callers, 400*time.Millisecond, them)
					peers, peersTook = append(peers, all...), peersTook+took
				}
			}
			slices.Sort(mine)
			slices.Sort(peers)
			ms := func(all []time.Duration, part float64) float64 {
				return float64(all[int(part*float64(len(all)-1))]) / float64(time.Millisecond)
			}
			rate, peer := float64(len(mine))/mineTook.Seconds(), float64(len(peers))/peersTook.Seconds()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rate, "entries/s")
			b.ReportMetric(ms(mine, 0.5), "p50-ms")
			b.ReportMetric(ms(mine, 0.99), "p99-ms")
			b.ReportMetric(peer, "tessera/s")
			b.ReportMetric(ms(peers, 0.5), "tessera-p50-ms")
			b.ReportMetric(ms(peers, 0.99), "tessera-p99-ms")
			b.ReportMetric(rate/peer, "x/tessera")
		})
	}
}
