package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"counterfoil/internal/jobs"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s has not come about", what)
		}
	}
}

// start runs a worker until it is told to stop, and says how long stopping took.
func start(t *testing.T, db *pgtest.Instance, all ...jobs.Job) (w *jobs.Worker, stop func() time.Duration) {
	t.Helper()
	w, err := jobs.New(db.Pool(t, "counterfoil_service"), slog.New(slog.DiscardHandler), all...)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	once := sync.OnceValue(func() time.Duration {
		begun := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return time.Since(begun)
	})
	t.Cleanup(func() { once() })
	return w, once
}

// The tables are made by our migration; they must be those that this version of river works with.
func TestTheTablesAreThoseOfRiver(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	conn := db.Superuser(t)
	_, err := conn.Exec(t.Context(), "create schema expected")
	must(t, err)
	m, err := rivermigrate.New(riverpgxv5.New(db.Pool(t, "postgres")), &rivermigrate.Config{Schema: "expected", Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	_, err = m.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	must(t, err)
	lines := func(schema string) []string {
		rows, err := conn.Query(t.Context(), `select replace(line, $1::text || '.', '') from (
			select c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end
				|| case when a.attname <> 'id' and not (c.relname, a.attname) = ('river_job', 'args') then coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') else '' end
			from pg_class c join pg_attribute a on a.attrelid = c.oid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
			where c.relnamespace = $1::text::regnamespace and c.relkind = 'r' and c.relname not in ('river_migration', 'river_notification') and a.attnum > 0 and not a.attisdropped
			union all select c.relname || ' ' || n.conname || ' ' || pg_get_constraintdef(n.oid) from pg_class c join pg_constraint n on n.conrelid = c.oid
			where c.relnamespace = $1::text::regnamespace and c.relname not in ('river_migration', 'river_notification') and n.contype in ('c', 'p') and n.conname <> 'args_are_ids'
			union all select regexp_replace(pg_get_indexdef(i.indexrelid), '\s+', ' ', 'g') from pg_index i join pg_class c on c.oid = i.indrelid
			where c.relnamespace = $1::text::regnamespace and i.indisunique and c.relname = 'river_job'
			union all select 'state ' || e.enumlabel from pg_enum e join pg_type t on t.oid = e.enumtypid where t.typnamespace = $1::text::regnamespace
			union all select 'mask of ' || s::text || ' ' || jobs.river_job_state_in_bitmask(b::bit(8), s)::text from unnest(enum_range(null::jobs.river_job_state)) s, (values ('10000001'), ('01110110')) v(b) where $1::text = 'jobs'
			union all select 'mask of ' || s::text || ' ' || expected.river_job_state_in_bitmask(b::bit(8), s)::text from unnest(enum_range(null::expected.river_job_state)) s, (values ('10000001'), ('01110110')) v(b) where $1::text = 'expected'
		) as all_lines(line) order by 1`, schema)
		must(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		return all
	}
	got, want := lines("jobs"), lines("expected")
	if len(want) < 60 || !slices.Equal(got, want) {
		t.Errorf("the tables are\n%s\nriver has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAJobHoldsIdsAndNothingElse(t *testing.T) {
	conn := pgtest.Database(t, migrations.FS).Superuser(t)
	for _, c := range []struct {
		args string
		want bool
	}{
		{`{"organisation":"` + uuid.NewString() + `","about":"` + uuid.NewString() + `"}`, true},
		{`{"organisation":"` + uuid.NewString() + `"}`, false},
		{`{"organisation":"` + uuid.NewString() + `","about":"anna@example.org"}`, false},
		{`{"organisation":"` + uuid.NewString() + `","about":"` + uuid.NewString() + `","name":"Anna"}`, false},
	} {
		_, err := conn.Exec(t.Context(), "insert into jobs.river_job (kind, args) values ('k', $1::jsonb)", c.args)
		if (err == nil) != c.want {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}

func TestJobsRunOnceAcrossNodesAndAgainWhenTheyMust(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	conn := db.Superuser(t)
	organisation, about := uuid.New(), uuid.New()
	// What a process left behind that was killed in the midst of it.
	_, err := conn.Exec(t.Context(), `insert into jobs.river_job (kind, args, state, attempt, attempted_at) values ('lost', $1::jsonb, 'running', 1, now() - interval '1 hour')`,
		`{"organisation":"`+organisation.String()+`","about":"`+about.String()+`"}`)
	must(t, err)
	var hourly, lost, parts, atOnce, most atomic.Int32
	all := []jobs.Job{
		{Kind: "hourly", Every: time.Hour, Run: func(context.Context, jobs.Run) error { hourly.Add(1); return nil }},
		{Kind: "lost", Run: func(_ context.Context, r jobs.Run) error {
			if r.Organisation == organisation && r.About == about {
				lost.Add(1)
			}
			return nil
		}},
		{Kind: "parts", Run: func(ctx context.Context, r jobs.Run) error {
			if n := atOnce.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer atOnce.Add(-1)
			n := parts.Add(1)
			if err := r.Progress(ctx, "counting", int64(n), 3); err != nil {
				return err
			}
			if n < 3 {
				return jobs.Again
			}
			return nil
		}},
		{Kind: "fails", Run: func(context.Context, jobs.Run) error { return errors.New("fetch thing 7: it is gone") }},
		{Kind: "panics", Run: func(context.Context, jobs.Run) error { panic("anna@example.org") }},
	}
	a, stopA := start(t, db, all...)
	b, stopB := start(t, db, all...)
	for _, w := range []*jobs.Worker{a, b, a} { // asked for three times, and one
		must(t, w.Enqueue(t.Context(), "parts", organisation, about))
	}
	must(t, a.Enqueue(t.Context(), "fails", organisation, uuid.Nil))
	must(t, a.Enqueue(t.Context(), "panics", organisation, uuid.Nil))
	state := func(kind string) (found []jobs.State) {
		list, err := a.List(t.Context(), 100)
		must(t, err)
		for _, s := range list {
			if s.Kind == kind {
				found = append(found, s)
			}
		}
		return found
	}
	until(t, "every job", func() bool {
		return hourly.Load() > 0 && lost.Load() > 0 && parts.Load() >= 3 && len(state("fails")) == 1 && state("fails")[0].Error != "" && state("panics")[0].Error != ""
	})
	if s := state("parts"); len(s) != 1 || s[0].Progress == nil || *s[0].Progress != (jobs.Progress{Step: "counting", Done: 3, Of: 3}) || s[0].About != about.String() || most.Load() != 1 {
		t.Errorf("a job in parts is %+v, and %d ran at once", s, most.Load())
	}
	if s := state("fails"); s[0].Error != "fetch thing 7: it is gone" || s[0].Failed() || s[0].Ended != nil {
		t.Errorf("a job that failed once is %+v", s)
	}
	if s := state("panics"); strings.Contains(s[0].Error, "anna") {
		t.Errorf("the queue keeps what a panic said: %q", s[0].Error)
	}
	stopA()
	stopB()
	var probe atomic.Int32
	start(t, db, append(all, jobs.Job{Kind: "probe", Every: time.Hour, Run: func(context.Context, jobs.Run) error { probe.Add(1); return nil }})...) // the next start, of another version
	until(t, "the probe", func() bool { return probe.Load() == 1 })
	if n := hourly.Load(); n != 1 || len(state("hourly")) != 1 {
		t.Errorf("what comes each hour came %d times", n)
	}
	if n := lost.Load(); n != 1 {
		t.Errorf("what was lost ran %d times", n)
	}
}

func TestStoppingWaitsForAJobAndThenBreaksItOff(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	begun, broken := make(chan bool), make(chan bool, 1)
	w, stop := start(t, db, jobs.Job{Kind: "hangs", Run: func(ctx context.Context, _ jobs.Run) error {
		close(begun)
		<-ctx.Done()
		broken <- true
		return ctx.Err()
	}})
	must(t, w.Enqueue(t.Context(), "hangs", uuid.New(), uuid.Nil))
	<-begun
	if took := stop(); took > 20*time.Second || len(broken) != 1 {
		t.Errorf("stopping took %s, and the job was told %d times", took, len(broken))
	}
}
