package publish_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// place is a database with the log of one organisation, and a directory beside it.
type place struct {
	db           *pgtest.Instance
	pool         *pgxpool.Pool
	log          *pglog.Log
	organisation uuid.UUID
	origin       string
	root         string
	clock        time.Duration // ahead of the real one
	said         bytes.Buffer
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{db: pgtest.Database(t, migrations.FS), root: t.TempDir()}
	p.pool = p.db.Pool(t, "counterfoil_service")
	key, err := audit.NewKey(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	must(t, decisionKey(t).Install(t.Context(), p.db.Superuser(t)))
	p.log = pglog.New(p.pool, key, decisionKey(t))
	p.organisation = p.organise(t)
	p.origin = origin(p.organisation)
	return p
}

func decisionKey(t *testing.T) pglog.DecisionKey {
	t.Helper()
	k, err := pglog.NewDecisionKey(bytes.Repeat([]byte{9}, 32))
	must(t, err)
	return k
}

func origin(organisation uuid.UUID) string { return "chat.example/audit/" + organisation.String() }

// organise makes an organisation with an empty log.
func (p *place) organise(t *testing.T) uuid.UUID {
	t.Helper()
	id := uuid.New()
	must(t, pgx.BeginFunc(t.Context(), p.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select set_config('counterfoil.organisation', $1, true)", id.String())
		if err == nil {
			_, err = tx.Exec(t.Context(), "insert into chat.organisation (organisation_id, name, log_origin) values ($1, $2, $3)", id, id.String(), origin(id))
		}
		if err != nil {
			return err
		}
		return p.log.CreateLog(t.Context(), tx, id, origin(id))
	}))
	return id
}

// publisher is what one node has.
func (p *place) publisher(change func(*publish.Config)) *publish.Publisher {
	c := publish.Config{
		Log: p.log, To: publish.Directory(p.root), Interval: time.Second, MaxAge: 10 * time.Minute, Logger: slog.New(slog.NewTextHandler(&p.said, nil)),
		Now: func() time.Time { return time.Now().Add(p.clock) },
	}
	if change != nil {
		change(&c)
	}
	return publish.New(c)
}

func (p *place) grow(t *testing.T, n int) {
	t.Helper()
	drafts := make([]pglog.Draft, n)
	for i := range drafts {
		drafts[i].Entry = audit.Entry{Kind: audit.Denial, Action: "introduce", Decision: audit.DecisionDeny, Request: fmt.Sprint(i)}
	}
	_, err := p.log.Append(t.Context(), p.organisation, drafts...)
	must(t, err)
}

// published verifies what lies in the directory, by a key from elsewhere.
func (p *place) published(t *testing.T) audit.Report {
	t.Helper()
	vkey, err := p.log.VerifierKey(p.origin)
	must(t, err)
	r, err := audit.VerifyExport(t.Context(), os.DirFS(filepath.Join(p.root, p.origin)), audit.Options{Key: vkey})
	must(t, err)
	if len(r.Faults) > 0 {
		t.Fatalf("what is published does not verify: %v", r.Faults)
	}
	return r
}

// tables are those of a log.
var tables = []string{"head", "record", "search", "searchable", "day", "answer", "hour", "asked", "retention", "tile", "node"}

// backup remembers the log in the database, and gives what puts it back to that state.
func (p *place) backup(t *testing.T) (restore func()) {
	t.Helper()
	admin := p.db.Superuser(t)
	for _, table := range tables {
		_, err := admin.Exec(t.Context(), fmt.Sprintf("create table public.%s_kept as select * from audit.%s", table, table))
		must(t, err)
	}
	return func() {
		t.Helper()
		for _, table := range tables {
			for _, sql := range []string{"alter table audit.%s disable trigger all", "delete from audit.%s", "insert into audit.%[1]s select * from public.%[1]s_kept", "alter table audit.%s enable always trigger no_truncate"} {
				_, err := admin.Exec(t.Context(), fmt.Sprintf(sql, table))
				must(t, err)
			}
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestALogIsPublishedAsItGrows(t *testing.T) {
	p := newPlace(t)
	n := p.publisher(nil)
	for _, more := range []int{0, 1, 254, 1, 1, 100} {
		if more > 0 {
			p.grow(t, more)
		}
		must(t, n.Publish(t.Context()))
		head, err := p.log.Head(t.Context(), p.organisation)
		must(t, err)
		if r := p.published(t); r.Checkpoint.Size != head.Size {
			t.Fatalf("%d records are published, there are %d", r.Checkpoint.Size, head.Size)
		}
		must(t, n.Standing(t.Context(), p.organisation, true))
	}
	dir := filepath.Join(p.root, p.origin)
	kept, err := filepath.Glob(filepath.Join(dir, "checkpoints", "*"))
	must(t, err)
	if len(kept) != 1 {
		t.Errorf("%d checkpoints were kept within a minute, not 1", len(kept))
	}
	p.clock = time.Minute
	p.grow(t, 1)
	must(t, n.Publish(t.Context()))
	b, err := os.ReadFile(filepath.Join(dir, "checkpoints", "358"))
	must(t, err)
	if now, err := os.ReadFile(filepath.Join(dir, "checkpoint")); err != nil || !bytes.Equal(b, now) {
		t.Errorf("after a minute: %v", err)
	}
	// Nothing new, nothing written.
	before, err := os.Stat(filepath.Join(dir, "checkpoint"))
	must(t, err)
	must(t, n.Publish(t.Context()))
	if after, err := os.Stat(filepath.Join(dir, "checkpoint")); err != nil || !os.SameFile(before, after) {
		t.Errorf("an unchanged log was written again: %v", err)
	}
}

func TestASilentLogSaysSoOnceADay(t *testing.T) {
	p := newPlace(t)
	n := p.publisher(nil)
	p.grow(t, 1)
	for range 3 {
		must(t, n.Publish(t.Context()))
	}
	if r := p.published(t); r.Records != 1 {
		t.Fatalf("%d records within a day", r.Records)
	}
	p.clock = 25 * time.Hour
	must(t, n.Publish(t.Context()))
	if r := p.published(t); r.Records != 2 || r.Actions["audit.heartbeat"] != 1 {
		t.Errorf("after a day of silence: %+v", r.Actions)
	}
}

func TestARestoredBackupNeitherGrowsNorReleases(t *testing.T) {
	for name, c := range map[string]struct {
		after func(t *testing.T, p *place) // it was restored
		want  string
	}{
		"as it was": {func(*testing.T, *place) {}, "300 records were published and the database has 200: it was put back to an older state"},
		"and has grown to another log": {func(t *testing.T, p *place) {
			_, err := anew(t, p).Append(t.Context(), p.organisation, make200()...)
			must(t, err)
		}, "its first 300 records are not those that were published: it is another history"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.grow(t, 200)
			restore := p.backup(t)
			p.grow(t, 100)
			running := p.publisher(nil)
			must(t, running.Publish(t.Context()))
			before := p.published(t)
			restore()
			c.after(t, p)
			fresh := p.publisher(nil)
			for what, n := range map[string]*publish.Publisher{"started anew": fresh, "still running": running} {
				if what == "still running" {
					must(t, n.Publish(t.Context())) // finds it when it would publish
				}
				for _, release := range []bool{false, true} {
					if err := n.Standing(t.Context(), p.organisation, release); !errors.Is(err, publish.ErrFrozen) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "audit recover --org") {
						t.Errorf("%s: %v", what, err)
					}
				}
				must(t, n.Publish(t.Context()))
				if problems, of := n.Problems(t.Context()); len(problems) != 1 || of != 1 {
					t.Errorf("%s: %v of %d", what, problems, of)
				}
			}
			if after := p.published(t); after.Checkpoint != before.Checkpoint {
				t.Errorf("what is published has changed: %v", after.Checkpoint)
			}
			if !strings.Contains(p.said.String(), "a log is frozen") {
				t.Errorf("nobody was told: %s", &p.said)
			}
		})
	}
}

func mustKey(t *testing.T) audit.Key {
	t.Helper()
	key, err := audit.NewKey(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	return key
}

func make200() []pglog.Draft {
	drafts := make([]pglog.Draft, 200)
	for i := range drafts {
		drafts[i].Entry = audit.Entry{Kind: audit.Denial, Action: "other", Decision: audit.DecisionDeny}
	}
	return drafts
}

func TestWhatIsNoCheckpointOfTheLogFreezesIt(t *testing.T) {
	for _, name := range []string{"checkpoint", "cosigned"} {
		p := newPlace(t)
		p.grow(t, 3)
		must(t, p.publisher(nil).Publish(t.Context()))
		file := filepath.Join(p.root, p.origin, name)
		must(t, os.WriteFile(file, []byte("x\n"), 0o644))
		if err := p.publisher(nil).Standing(t.Context(), p.organisation, false); !errors.Is(err, publish.ErrFrozen) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatCannotBeComparedIsNotServed(t *testing.T) {
	p := newPlace(t)
	p.grow(t, 3)
	must(t, p.publisher(nil).Publish(t.Context()))
	n := p.publisher(nil)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Standing(gone, p.organisation, false); err == nil {
		t.Error("it was served without having been compared")
	}
	must(t, n.Standing(t.Context(), p.organisation, false)) // and is when it can be
	if err := n.Standing(t.Context(), uuid.New(), false); err == nil {
		t.Error("an organisation without a log was served")
	}
	file := filepath.Join(p.root, p.origin, "checkpoint")
	must(t, os.Remove(file))
	must(t, os.Mkdir(file, 0o755)) // cannot be read
	if err := p.publisher(nil).Standing(t.Context(), p.organisation, false); err == nil {
		t.Error("it was served although what is published cannot be read")
	}
}

// Two nodes publish the same log into one directory and each into its own, while it grows.
func TestTwoNodesPublishAtOnce(t *testing.T) {
	p := newPlace(t)
	second := t.TempDir()
	nodes := []*publish.Publisher{p.publisher(nil), p.publisher(nil), p.publisher(func(c *publish.Config) { c.To = publish.Directory(second) })}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for _, n := range nodes {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := n.Publish(t.Context()); err != nil {
					t.Errorf("publish: %v", err)
					return
				}
			}
		})
	}
	for range 60 {
		p.grow(t, 17)
	}
	close(stop)
	running.Wait()
	for _, n := range nodes {
		must(t, n.Publish(t.Context()))
		must(t, n.Standing(t.Context(), p.organisation, true))
	}
	for _, root := range []string{p.root, second} {
		p.root = root
		if r := p.published(t); r.Records != 60*17 {
			t.Errorf("%d records are published", r.Records)
		}
	}
}

func TestOneLogThatCannotBePublishedDoesNotKeepTheOthers(t *testing.T) {
	p := newPlace(t)
	first := p.organisation
	p.organisation = p.organise(t)
	must(t, os.MkdirAll(filepath.Join(p.root, filepath.Dir(p.origin)), 0o755))
	must(t, os.WriteFile(filepath.Join(p.root, p.origin), nil, 0o644)) // in the place of the directory
	p.origin = origin(p.organisation)
	p.grow(t, 3)
	n := p.publisher(nil)
	if err := n.Publish(t.Context()); err == nil {
		t.Error("no error")
	}
	if r := p.published(t); r.Records != 3 {
		t.Errorf("%d records", r.Records)
	}
	if err := n.Standing(t.Context(), p.organisation, true); err != nil {
		t.Errorf("the other: %v", err)
	}
	if err := n.Standing(t.Context(), first, true); err == nil {
		t.Error("what cannot be compared is served")
	}
}

func TestNoOriginLeavesItsDestination(t *testing.T) {
	d := publish.Directory(t.TempDir())
	for _, bad := range []string{"", "..", "../x", "a/../../b", "/etc", "a//b", "a/./b", "a/"} {
		if _, _, err := d.Open(t.Context(), bad, time.Time{}); err == nil {
			t.Errorf("%q is opened", bad)
		}
	}
	_, release, err := d.Open(t.Context(), "chat.example/audit/x/2", time.Time{})
	must(t, err)
	release()
	if where := d.Where("chat.example/audit/x/2"); where != filepath.Join(string(d), "chat.example/audit/x/2") {
		t.Errorf("%s", where)
	}
}

func TestRunPublishesUntilItsEnd(t *testing.T) {
	p := newPlace(t)
	n := p.publisher(func(c *publish.Config) { c.Interval = 10 * time.Millisecond })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx) }()
	p.grow(t, 3)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(p.root, p.origin, "checkpoint"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\n3\n") {
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal("not published")
		}
	}
	cancel()
	<-done
}

// anew is the log as another process has it, which knows nothing of the head before.
func anew(t *testing.T, p *place) *pglog.Log { return pglog.New(p.pool, mustKey(t), decisionKey(t)) }

func TestPublishingGoesOnUnderANewKey(t *testing.T) {
	p := newPlace(t)
	p.grow(t, 200)
	must(t, p.publisher(nil).Publish(t.Context()))
	next, err := audit.NewKey(bytes.Repeat([]byte{8}, 32))
	must(t, err)
	for what, key := range []audit.Key{next.After(mustKey(t)), next} {
		p.log = pglog.New(p.pool, key, decisionKey(t))
		n := p.publisher(nil)
		must(t, n.Standing(t.Context(), p.organisation, false))
		p.grow(t, 10)
		must(t, n.Publish(t.Context()))
		if r := p.published(t); r.Records != uint64(210+10*what) {
			t.Errorf("%d records", r.Records)
		}
	}
	p.log = anew(t, p) // the key that was given up
	if err := p.publisher(nil).Standing(t.Context(), p.organisation, false); err == nil {
		t.Error("the key that was given up still counts")
	}
}
