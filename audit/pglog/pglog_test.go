package pglog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

const service = "counterfoil_service"

// place is a database with the log of one organisation and one sealed value.
type place struct {
	db           *pgtest.Instance
	pool         *pgxpool.Pool
	organisation uuid.UUID
	subject      uuid.UUID
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{db: pgtest.Database(t, migrations.FS), organisation: uuid.New(), subject: uuid.New()}
	p.pool = p.db.Pool(t, service)
	ctx := t.Context()
	must(t, decisionKey(t).Install(ctx, p.db.Superuser(t)))
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		return newLog(t, p.pool).CreateLog(ctx, tx, p.organisation, "chat.example/audit/"+p.organisation.String())
	})
	must(t, err)
	for _, sql := range []string{
		"select access.create_key($1, $2, 'visitor', 'wrapped key'::bytea)",
		"select access.put_value($1, $2, $2, 'visitor_email', 'ciphertext'::bytea)",
	} {
		_, err := p.pool.Exec(ctx, sql, p.organisation, p.subject)
		must(t, err)
	}
	return p
}

func decisionKey(t *testing.T) pglog.DecisionKey {
	t.Helper()
	k, err := pglog.NewDecisionKey(bytes.Repeat([]byte{9}, 32))
	must(t, err)
	return k
}

// newLog is the log as one process of the service has it.
func newLog(t *testing.T, pool *pgxpool.Pool) *pglog.Log {
	t.Helper()
	key, err := audit.NewKey(bytes.Repeat([]byte{7}, 32))
	must(t, err)
	return pglog.New(pool, key, decisionKey(t))
}

// disclosure is a draft that can be recognised by its request.
func (p *place) disclosure(request string) pglog.Draft {
	return pglog.Draft{
		Entry: audit.Entry{
			Kind: audit.Disclosure, Action: "introduce", Actor: audit.Party{Kind: "agent", Ref: "a"}, Subject: audit.Party{Kind: "visitor", Ref: "v"},
			Fields: []string{"visitor_email"}, Decision: audit.DecisionAllow, Request: request,
		},
		Ticket: &pglog.Ticket{Subject: p.subject, Row: p.subject, Fields: []string{"visitor_email"}, Valid: 15 * time.Second},
	}
}

// append records one disclosure and checks that what it releases is what is stored.
func (p *place) append(ctx context.Context, l *pglog.Log, request string) (pglog.Receipt, error) {
	committed, err := l.Append(ctx, p.organisation, p.disclosure(request))
	if err != nil {
		if !errors.Is(err, pglog.ErrUnavailable) || committed != nil {
			return pglog.Receipt{}, fmt.Errorf("a failure released something or is of the wrong kind: %w", err)
		}
		return pglog.Receipt{}, err
	}
	c := committed[0]
	if !c.Receipt.Valid() || len(c.Values) != 1 || string(c.Values[0].Ciphertext) != "ciphertext" || string(c.Values[0].Wrapped) != "wrapped key" ||
		c.Values[0].Subject != p.subject || c.Values[0].Row != p.subject || c.Values[0].Field != "visitor_email" {
		return pglog.Receipt{}, fmt.Errorf("%w: released %+v", errWrong, c)
	}
	return c.Receipt, nil
}

var errWrong = errors.New("wrong answer")

// requests reads the log back through an export that it verifies as an outsider would, and gives the requests by index.
func (p *place) requests(t *testing.T) []string {
	t.Helper()
	ctx := t.Context()
	l := newLog(t, p.pool)
	dir := t.TempDir()
	h, err := l.Export(ctx, p.organisation, dir)
	must(t, err)
	key, err := l.VerifierKey(h.Origin)
	must(t, err)
	report, err := audit.VerifyExport(ctx, os.DirFS(dir), audit.Options{Key: key})
	must(t, err)
	if len(report.Faults) > 0 || report.Records != h.Size {
		t.Fatalf("the export of %d records does not verify: %v", h.Size, report.Faults)
	}
	var all []string
	for body, err := range l.Entries(ctx, p.organisation, 0, h.Size) {
		must(t, err)
		e, err := audit.ParseEntry(body)
		must(t, err)
		all = append(all, e.Request)
	}
	return all
}

// TestNothingAcknowledgedIsLostWhileConnectionsDie lets two processes with 64 callers each append to one log while
// their connections are killed at random moments.
func TestNothingAcknowledgedIsLostWhileConnectionsDie(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	admin := p.db.Superuser(t)
	const callers, least = 64, 3000
	var mu sync.Mutex
	acknowledged := map[uint64]string{}
	tried := map[string]bool{}
	var failed, done atomic.Int64
	var callersDone sync.WaitGroup
	stop := make(chan struct{})
	for node := range 2 {
		l := newLog(t, p.db.Pool(t, service))
		for caller := range callers {
			callersDone.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					request := fmt.Sprintf("%d-%d-%d", node, caller, i)
					r, err := p.append(ctx, l, request)
					mu.Lock()
					tried[request] = true
					if err == nil {
						if other, taken := acknowledged[r.Index()]; taken {
							t.Errorf("%s and %s have the same index", other, request)
						}
						acknowledged[r.Index()] = request
						done.Add(1)
					} else {
						failed.Add(1)
						if errors.Is(err, errWrong) || !errors.Is(err, pglog.ErrUnavailable) {
							t.Errorf("%s: %v", request, err)
						}
					}
					mu.Unlock()
				}
			})
		}
	}
	kills := 0
	for begun := time.Now(); (done.Load() < least || failed.Load() == 0) && time.Since(begun) < time.Minute; {
		// One at a time, whichever was active last, so that commits are hit too.
		tag, err := admin.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
			where usename = $1 and datname = current_database() and state <> 'idle' order by state_change desc limit 1`, service)
		must(t, err)
		kills += int(tag.RowsAffected())
		_, err = admin.Exec(ctx, "select pg_sleep(0.01)")
		must(t, err)
	}
	close(stop)
	callersDone.Wait()
	requests := p.requests(t)
	seen := map[string]bool{}
	for i, request := range requests {
		if seen[request] || !tried[request] {
			t.Errorf("record %d is of %s, which was recorded twice or never tried", i, request)
		}
		seen[request] = true
	}
	for index, request := range acknowledged {
		if index >= uint64(len(requests)) || requests[index] != request {
			t.Errorf("%s was acknowledged as record %d, which is not its", request, index)
		}
	}
	if kills == 0 || failed.Load() == 0 || done.Load() < least {
		t.Errorf("nothing was put to the test: %d connections killed, %d failed, %d acknowledged", kills, failed.Load(), done.Load())
	}
	t.Logf("%d records, %d acknowledged, %d failed, %d connections killed", len(requests), done.Load(), failed.Load(), kills)
}

// cut is a network that loses what is said about one request: either the request never arrives, or its answer never
// comes back.
type cut struct {
	request atomic.Pointer[string]
	before  bool
}

type cutConn struct {
	net.Conn
	cut  *cut
	lost atomic.Bool
}

var errCut = errors.New("the network is down")

func (c *cutConn) Write(b []byte) (int, error) {
	if request := c.cut.request.Load(); request != nil && bytes.Contains(b, []byte(*request)) && c.cut.request.CompareAndSwap(request, nil) {
		c.lost.Store(true)
		if c.cut.before {
			return 0, errors.Join(errCut, c.Conn.Close())
		}
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.lost.Load() { // the server has answered, so it has committed
		return 0, errors.Join(errCut, c.Conn.Close())
	}
	return n, err
}

func (p *place) poolThrough(t *testing.T, c *cut) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(p.db.URL(service))
	must(t, err)
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &cutConn{Conn: conn, cut: c}, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestALostCommit(t *testing.T) {
	for name, test := range map[string]struct{ before, first bool }{
		"whose answer is lost is found, when the head was locked":       {before: false, first: true},
		"whose answer is lost is found, when the head was known":        {before: false, first: false},
		"that never arrived releases nothing, when the head was locked": {before: true, first: true},
		"that never arrived releases nothing, when the head was known":  {before: true, first: false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			c := &cut{before: test.before}
			l := newLog(t, p.poolThrough(t, c))
			want := []string{}
			if !test.first {
				_, err := p.append(t.Context(), l, "first")
				must(t, err)
				want = append(want, "first")
			}
			lost := "lost-" + uuid.NewString()
			c.request.Store(&lost)
			r, err := p.append(t.Context(), l, lost)
			if test.before {
				if !errors.Is(err, pglog.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
			} else {
				must(t, err)
				want = append(want, lost)
				if r.Index() != uint64(len(want)-1) {
					t.Errorf("the receipt says %d", r.Index())
				}
			}
			if c.request.Load() != nil {
				t.Fatal("the network lost nothing")
			}
			_, err = p.append(t.Context(), l, "after")
			must(t, err)
			if got, want := strings.Join(p.requests(t), " "), strings.Join(append(want, "after"), " "); got != want {
				t.Errorf("the log has %q, want %q", got, want)
			}
		})
	}
}

// A statement that is a transaction of its own is answered before it is committed; only the server's readiness
// afterwards says that it is.
func TestACommitThatFailsAtTheVeryEndReleasesNothing(t *testing.T) {
	for name, first := range map[string]bool{"when the head was locked": true, "when the head was known": false} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			ctx := t.Context()
			admin := p.db.Superuser(t)
			l := newLog(t, p.pool)
			want := ""
			if !first {
				_, err := p.append(ctx, l, "first")
				must(t, err)
				want = "first "
			}
			_, err := admin.Exec(ctx, `create function public.refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$;
				create constraint trigger late after insert on audit.record deferrable initially deferred for each row execute function public.refuse()`)
			must(t, err)
			if _, err := p.append(ctx, l, "refused"); !errors.Is(err, pglog.ErrUnavailable) || !strings.Contains(err.Error(), "not today") {
				t.Errorf("got %v", err)
			}
			_, err = admin.Exec(ctx, "drop trigger late on audit.record")
			must(t, err)
			_, err = p.append(ctx, l, "after")
			must(t, err)
			if got := strings.Join(p.requests(t), " "); got != want+"after" {
				t.Errorf("the log has %q", got)
			}
		})
	}
}

func TestProcessesThatTakeTurnsContinueOneAnother(t *testing.T) {
	p := newPlace(t)
	nodes := []*pglog.Log{newLog(t, p.pool), newLog(t, p.pool)}
	var last time.Time
	for i := range 300 { // across the end of a tile
		r, err := p.append(t.Context(), nodes[i/3%2], fmt.Sprint(i))
		must(t, err)
		if r.Index() != uint64(i) || r.Time().Before(last) {
			t.Fatalf("record %d has index %d and time %s after %s", i, r.Index(), r.Time(), last)
		}
		last = r.Time()
	}
	for i, request := range p.requests(t) {
		if request != fmt.Sprint(i) {
			t.Fatalf("record %d is of %s", i, request)
		}
	}
}

func TestTheDatabaseRefusesABatch(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	_, err := p.append(ctx, newLog(t, p.pool), "first")
	must(t, err)
	for name, test := range map[string]struct {
		size     int
		at       string
		recorded bool
	}{
		"of the size before the last":          {size: 0, at: "clock_timestamp()"},
		"of a size not reached yet":            {size: 2, at: "clock_timestamp()"},
		"dated before the last record":         {size: 1, at: "clock_timestamp() - interval '9 seconds'"},
		"dated long ago":                       {size: 1, at: "'2000-01-01'"},
		"dated in the future":                  {size: 1, at: "clock_timestamp() + interval '2 seconds'"},
		"unless it continues the log, that is": {size: 1, at: "clock_timestamp()", recorded: true},
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := p.pool.Begin(ctx)
			must(t, err)
			defer tx.Rollback(ctx) //nolint:errcheck // it is not to last
			var recorded bool
			var size int
			var at time.Time
			must(t, tx.QueryRow(ctx, "select ("+test.at+")::timestamptz").Scan(&at))
			must(t, tx.QueryRow(ctx, `select access.record($1, $2, $3, array['x'::bytea], '{}', '{}', '{}', '', '', '{}', '{}', '{}', '{}', '{}', '{}', '{}', $4)`, p.organisation, test.size, at,
				pglog.MACOfOne(decisionKey(t), p.organisation, int64(test.size), at, []byte("x"))).Scan(&recorded))
			must(t, tx.QueryRow(ctx, "select size from access.log_head($1)", p.organisation).Scan(&size))
			if recorded != test.recorded || size != map[bool]int{false: 1, true: 2}[recorded] {
				t.Errorf("recorded is %v and the log has %d records", recorded, size)
			}
		})
	}
}

// The plans of the functions that are called for every disclosure are made once in a session, when the tables may be
// empty. Were one of them to read a whole table, it would be noticed only under load.
func TestWhatADisclosureReadsDoesNotGrowWithTheTables(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	config, err := pgxpool.ParseConfig(p.db.URL(service))
	must(t, err)
	config.MaxConns = 2 // one commits, the other takes
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(t, err)
	defer pool.Close()
	l := newLog(t, pool)
	disclose := func(n int) {
		for i := range n {
			_, err := p.append(ctx, l, fmt.Sprint(i))
			must(t, err)
		}
	}
	disclose(20)
	admin := p.db.Superuser(t)
	_, err = admin.Exec(ctx, `insert into access.ticket (organisation_id, seq, subject_id, row_id, fields, claim, valid_until)
		select $1, 1000000 + i, $2, $2, '{visitor_email}', sha256(''), now() + interval '15 seconds' from generate_series(1, 20000) as i`, p.organisation, p.subject)
	must(t, err)
	disclose(20)
	pool.Close() // a session that ends reports what it has counted
	for sessions := 1; sessions > 0; {
		must(t, admin.QueryRow(ctx, "select count(*) from pg_stat_activity, pg_sleep(0.02) where datname = current_database() and usename = $1 and pid <> all($2)",
			service, p.pids(t)).Scan(&sessions))
	}
	var rows int
	must(t, admin.QueryRow(ctx, "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_all_tables where schemaname in ('access', 'euii', 'audit')").Scan(&rows))
	if rows > 40*100 {
		t.Errorf("40 disclosures read %d rows", rows)
	}
}

// pids are the sessions of the place's own pool.
func (p *place) pids(t *testing.T) []int32 {
	t.Helper()
	var all []int32
	for _, c := range p.pool.AcquireAllIdle(t.Context()) {
		all = append(all, int32(c.Conn().PgConn().PID()))
		c.Release()
	}
	return all
}

// One entry that has no canonical form, as when something in it is too long, costs its caller the answer and nobody else.
func TestAnEntryThatCannotBeWrittenIsRefusedAlone(t *testing.T) {
	p := newPlace(t)
	l := newLog(t, p.pool)
	for _, size := range []int{1, 32} { // alone in its batch, and among others
		conn := p.db.Superuser(t)
		_, err := conn.Exec(t.Context(), "begin; select * from audit.head for update") // so that a batch gathers behind the first
		must(t, err)
		var all sync.WaitGroup
		all.Go(func() {
			_, err := p.append(t.Context(), l, fmt.Sprintf("first-%d", size))
			if err != nil {
				t.Error(err)
			}
		})
		time.Sleep(200 * time.Millisecond)
		for i := range size {
			all.Go(func() {
				request, odd := fmt.Sprintf("%d-%d", size, i), i == size/2
				if odd {
					request += strings.Repeat("x", 300)
				}
				if _, err := p.append(t.Context(), l, request); odd != errors.Is(err, pglog.ErrUnavailable) || !odd && err != nil {
					t.Errorf("%d of %d: %v", i, size, err)
				}
			})
		}
		time.Sleep(200 * time.Millisecond)
		_, err = conn.Exec(t.Context(), "rollback")
		must(t, err)
		all.Wait()
	}
	if n := len(p.requests(t)); n != 2+31 {
		t.Errorf("%d records", n)
	}
}

func TestAppendRefusesWhatIsNoBatch(t *testing.T) {
	p := newPlace(t)
	l := newLog(t, p.pool)
	for _, n := range []int{0, 257} {
		if _, err := l.Append(t.Context(), p.organisation, make([]pglog.Draft, n)...); err == nil {
			t.Errorf("%d drafts were taken", n)
		}
	}
	if _, err := l.Append(t.Context(), p.organisation, pglog.Draft{}); !errors.Is(err, pglog.ErrUnavailable) {
		t.Errorf("an empty entry gave %v", err)
	}
	if _, err := l.Append(t.Context(), uuid.New(), p.disclosure("x")); !errors.Is(err, pglog.ErrUnavailable) {
		t.Errorf("an organisation without a log gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, p.organisation, p.disclosure("x")); !errors.Is(err, context.Canceled) || !errors.Is(err, pglog.ErrUnavailable) {
		t.Errorf("a caller who has gone got %v", err)
	}
	if (pglog.Receipt{}).Valid() {
		t.Error("the zero receipt proves something")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
