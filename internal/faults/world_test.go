package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"counterfoil/audit"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/bus"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/relay"
	"counterfoil/migrations"
)

const conversations = 8

// world is a database with two nodes whose callers disclose all the time, unless they are paused.
type world struct {
	t       *testing.T
	db      *pgtest.Instance
	place   place // with the way to PostgreSQL that no proxy is on
	nodes   []*station
	key     string // verifier key of the log
	dir     string // export
	checker *checker
	lives   int  // of nodes that were processes of their own
	shared  bool // both nodes worked in the last turn

	data, wal disk // of PostgreSQL, when it has some of its own

	mu   sync.Mutex
	seen account
}

// station is a node with what stands around it.
type station struct {
	*node
	proxy  *proxy
	pause  sync.RWMutex // its callers hold it for reading; held by the test while the node is to be quiet
	paused bool
	last   atomic.Int64 // when the last disclosure began that was released, in Unix nanoseconds
}

// account is what the callers have seen since the last look at the log.
type account struct {
	asked    int
	released []release
	refused  []refusal
	wrong    []violation
}

type refusal struct {
	began time.Time
	cause string
}

func newWorld(t *testing.T, open func(place) (*node, error)) *world {
	t.Helper()
	w := &world{t: t, db: pgtest.Private(t, migrations.FS), dir: t.TempDir(), checker: newChecker()}
	w.installKey("d")
	w.place = place{Keys: t.TempDir(), URL: w.db.URL(serviceRole), Organisation: uuid.New()}
	for _, name := range []string{"a", "b"} {
		s := &station{}
		p := w.place
		p.Name = name
		s.proxy, p.URL = startProxy(t, p.URL)
		var err error
		s.node, err = open(p)
		must(t, err)
		t.Cleanup(s.pool.Close)
		w.nodes = append(w.nodes, s)
	}
	w.place.Conversations = furnish(t, w.nodes[0].node, w.place.Organisation)
	var err error
	w.key, err = w.nodes[0].log.VerifierKey(origin(w.place.Organisation))
	must(t, err)
	_, bad := w.look() // what was recorded while furnishing is nobody's release
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	w.start()
	return w
}

// start lets the callers work as soon as they are not paused any more.
func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, s := range w.nodes {
		w.quiet(s)
		all, err := callers(ctx, s.node, w.place)
		must(w.t, err)
		for _, c := range all {
			running.Go(func() {
				for ctx.Err() == nil {
					s.pause.RLock()
					r, err := c.once(ctx)
					if ctx.Err() == nil {
						w.note(s, r, err)
					}
					s.pause.RUnlock()
					if err != nil {
						time.Sleep(breath)
					}
				}
			})
		}
	}
	w.t.Cleanup(func() {
		cancel()
		w.work(w.nodes...)
		running.Wait()
	})
}

// quiet lets nodes finish what they do and do nothing more.
func (w *world) quiet(nodes ...*station) {
	for _, s := range nodes {
		if !s.paused {
			s.pause.Lock()
			s.paused = true
		}
	}
}

// work lets them go on.
func (w *world) work(nodes ...*station) {
	for _, s := range nodes {
		if s.paused {
			s.paused = false
			s.pause.Unlock()
		}
	}
}

func (w *world) note(s *station, r release, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.asked++
	if wrong := judge(r, err); wrong != "" {
		w.seen.wrong = append(w.seen.wrong, violation{r.Request, wrong})
	}
	if err != nil {
		w.seen.refused = append(w.seen.refused, refusal{r.began, cause(err)})
		return
	}
	w.seen.released = append(w.seen.released, r)
	s.last.Store(max(s.last.Load(), r.began.UnixNano()))
}

// releases is how many there were since the last look at the log.
func (w *world) releases() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen.released)
}

// cause names why something was refused: an SQLSTATE, or a word.
func cause(err error) string {
	if errors.Is(err, pg.ErrNotDurable) {
		return "not durable"
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	if pg.IsConnectionLost(err) {
		return "connection"
	}
	return "other"
}

// super connects as a superuser, who may do what no role of the product may.
func (w *world) super() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.db.URL(cluster.Superuser))
	must(w.t, err)
	return conn
}

// upAgain returns when PostgreSQL answers again. It may have given up, at once or while it recovers, and is started again then.
func (w *world) upAgain() {
	w.t.Helper()
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-w.db.Cluster().Exited():
			must(w.t, w.db.Cluster().Restart(w.t.Context()))
		default:
		}
		conn, err := pgx.Connect(w.t.Context(), w.db.URL(cluster.Superuser))
		if err == nil {
			must(w.t, conn.Close(w.t.Context()))
			return
		}
		if time.Since(begun) > patience {
			w.t.Fatalf("PostgreSQL does not answer again: %v", err)
		}
	}
}

// do runs statements as a superuser; one that deadlocks with a node is repeated.
func (w *world) do(statements ...string) {
	w.t.Helper()
	conn := w.super()
	for _, sql := range statements {
		_, err := conn.Exec(w.t.Context(), sql)
		for again := 0; err != nil && cause(err) == "40P01" && again < 10; again++ {
			_, err = conn.Exec(w.t.Context(), sql)
		}
		if err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
	}
	must(w.t, conn.Close(w.t.Context()))
}

// disconnect ends every session that the service has, so that its settings are read anew.
func (w *world) disconnect() {
	w.t.Helper()
	conn := w.super()
	var now time.Time
	must(w.t, conn.QueryRow(w.t.Context(), "select clock_timestamp()").Scan(&now))
	for left, begun := 1, time.Now(); left > 0; {
		must(w.t, conn.QueryRow(w.t.Context(), "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1 and backend_start <= $2", serviceRole, now).Scan(&left))
		if time.Since(begun) > patience {
			w.t.Fatal("sessions do not end")
		}
	}
	must(w.t, conn.Close(w.t.Context()))
}

func (w *world) installKey(letter string) {
	w.t.Helper()
	key, err := decisionKey(letter)
	must(w.t, err)
	conn := w.super()
	must(w.t, key.Install(w.t.Context(), conn))
	must(w.t, conn.Close(w.t.Context()))
}

// look reads what the log has gained, exports it and verifies the export as an outsider would.
func (w *world) look() (gained []record, bad []violation) {
	w.t.Helper()
	gained, bad = readLog(w.t, w.place, w.dir, w.key, uint64(len(w.checker.log)))
	return gained, append(bad, w.checker.recorded(gained...)...)
}

// readLog brings the export in dir up to date, verifies it and gives the records from a number on.
func readLog(t *testing.T, p place, dir, key string, from uint64) (all []record, bad []violation) {
	t.Helper()
	say := func(format string, args ...any) { bad = append(bad, violation{"", fmt.Sprintf(format, args...)}) }
	ctx := t.Context()
	pool, err := pg.Open(ctx, pg.Config{URL: p.URL, MaxConns: 2})
	must(t, err)
	defer pool.Close()
	log, err := newLog(pool)
	must(t, err)
	head, err := log.Export(ctx, p.Organisation, dir)
	if err != nil {
		say("the log cannot be exported: %v", err)
		return nil, bad
	}
	report, err := audit.VerifyExport(ctx, os.DirFS(dir), audit.Options{Key: key})
	if err != nil || report.Records != head.Size {
		say("the export of %d of %d records cannot be verified: %v", report.Records, head.Size, err)
	}
	for _, f := range report.Faults {
		say("the export does not verify: %s at %d: %s", f.Kind, f.Index, f.Text)
	}
	for body, err := range log.Entries(ctx, p.Organisation, from, head.Size) { // an error where one is missing
		if err != nil {
			say("the log cannot be read: %v", err)
			break
		}
		e, err := audit.ParseEntry(body)
		if err != nil || e.Seq != from+uint64(len(all)) {
			say("record %d says it is %d: %v", from+uint64(len(all)), e.Seq, err)
		}
		all = append(all, record{e.Request, e.Kind})
	}
	return all, bad
}

func origin(organisation uuid.UUID) string { return "chat.example/audit/" + organisation.String() }

// furnish makes an organisation with its conversations.
func furnish(t *testing.T, n *node, organisation uuid.UUID) (all []uuid.UUID) {
	t.Helper()
	ctx := t.Context()
	hints, err := bus.Start("", nil, slog.New(slog.DiscardHandler))
	must(t, err)
	defer hints.Close()
	r := n.readers
	use := relay.New(relay.Config{
		Store: n.store, Bus: hints, Gate: n.gate, AgentToVisitor: r.AgentToVisitor, ForVisitor: r.ConversationForVisitor,
		Matcher: r.AgentMatcher, CollectVisitor: r.VisitorCollector, CollectAgent: r.AgentCollector, Now: time.Now,
	})
	o := chat.Organisation{
		ID: organisation, Name: "Fictional Ltd", Tenant: uuid.NewString(), Language: "en", Origin: origin(organisation),
		Settings: chat.Settings{ShareVisitorEmail: true, CreateAgents: true, NameInChannel: true},
	}
	wrapped, _, err := n.gate.NewKey(o.ID, o.ID)
	must(t, err)
	must(t, n.store.CreateOrganisation(ctx, o, wrapped, func(ctx context.Context, tx pgx.Tx) error {
		return n.log.CreateLog(ctx, tx, o.ID, o.Origin)
	}))
	widget := chat.Widget{Organisation: o.ID, ID: uuid.New(), Key: "w-" + uuid.NewString(), Name: "site", Sites: []string{"https://site.example"}}
	must(t, n.store.CreateWidget(ctx, widget))
	for range conversations {
		opened, err := use.Open(ctx, relay.OpenRequest{
			Widget: widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(),
			Text: euii.Receive(firstMessage), Name: euii.Receive(visitorName), Email: euii.Receive(visitorEmail),
		})
		must(t, err)
		by := relay.Identity{Organisation: o.ID, DirectoryID: "aad-alice", TeamsUser: "29:alice", ServiceURL: "https://smba.example/"}
		must(t, use.AgentAccepts(ctx, by, opened.Conversation, 1, "en"))
		must(t, use.AgentJoins(ctx, by, opened.Conversation, func(context.Context) (relay.Profile, error) {
			return relay.Profile{DisplayName: euii.Receive(agentName), GivenName: euii.Receive("Alice"), Surname: euii.Receive("Agent"), Email: euii.Receive("alice@fictional.example")}, nil
		}))
		all = append(all, opened.Conversation)
	}
	return all
}
