package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/bus"
	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/store"
	"counterfoil/migrations"
	"counterfoil/policy"
)

const (
	serviceRole = "counterfoil_service"
	// poolSize is that of the service.
	poolSize = 32
	// workers is how many at once prepare what a benchmark needs.
	workers = 32
)

// server is the one PostgreSQL of the process, started by the first benchmark that asks.
var server struct {
	cluster   *cluster.Cluster
	dir       string
	databases int
}

func TestMain(m *testing.M) {
	if addr := os.Getenv(clientEnv); addr != "" {
		fmt.Fprintln(os.Stderr, "visitors:", beVisitors(addr))
		os.Exit(1)
	}
	release := config.HoldHeap() // as the service does
	code := m.Run()
	release()
	if server.cluster != nil {
		if err := errors.Join(server.cluster.Stop(context.Background()), os.RemoveAll(server.dir)); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// tmpfsMagic is the type of a file system that is memory (statfs(2)).
const tmpfsMagic = 0x01021994

// onDisk makes a directory that is not in memory: in the temporary directory if that is a disk, else in the working one.
func onDisk() (string, error) {
	base := os.TempDir()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(base, &fs); err != nil || int64(fs.Type) == tmpfsMagic {
		base = "."
	}
	return os.MkdirTemp(base, "counterfoil-bench-")
}

// database makes a new migrated database and gives the connection string of a role.
func database(b *testing.B) func(role string) string {
	b.Helper()
	ctx := b.Context()
	if server.cluster == nil {
		dir, err := onDisk()
		must(b, err)
		server.dir = dir
		server.cluster, err = cluster.Start(ctx, cluster.Options{DataDir: dir})
		must(b, err)
		b.Logf("PostgreSQL in %s", dir)
	}
	server.databases++
	name := fmt.Sprintf("bench_%d", server.databases)
	admin, err := pgx.Connect(ctx, server.cluster.URL(cluster.Superuser, "postgres"))
	must(b, err)
	for _, sql := range []string{"create database " + name, "alter database " + name + " set track_functions = 'all'"} {
		_, err = admin.Exec(ctx, sql)
		must(b, err)
	}
	must(b, admin.Close(ctx))
	conn, err := pgx.Connect(ctx, server.cluster.URL(cluster.Superuser, name))
	must(b, err)
	_, err = pg.Migrate(ctx, conn, migrations.FS)
	must(b, err)
	must(b, decisionKey(b).Install(ctx, conn))
	_, err = conn.Exec(ctx, floorSchema)
	must(b, err)
	must(b, conn.Close(ctx))
	return func(role string) string { return server.cluster.URL(role, name) }
}

func decisionKey(b *testing.B) pglog.DecisionKey {
	b.Helper()
	k, err := pglog.NewDecisionKey([]byte(strings.Repeat("d", 32)))
	must(b, err)
	return k
}

// floorSchema is what an access layer that only wrote an audit row would need.
const floorSchema = `
create schema floor;
create table floor.value (id int primary key, ciphertext bytea not null);
insert into floor.value select i, sha256(i::text::bytea) from generate_series(1, 10000) as i;
create table floor.audit (id bigint generated always as identity primary key, organisation_id uuid not null, at timestamptz not null default now(), body bytea not null);
create index on floor.audit (organisation_id, at);
grant usage on schema floor to counterfoil_service;
grant select on floor.value to counterfoil_service;
grant select, insert on floor.audit to counterfoil_service;
analyze floor.value;`

// world is everything below the edges, as the program wires it.
type world struct {
	pool          *pgxpool.Pool
	admin         *pgx.Conn // a superuser's
	log           *pglog.Log
	ring          *keyring.Ring
	engine        *policy.Engine
	outside       publish.Publishers
	gate          *access.Gate
	readers       access.Readers
	store         *store.Store
	relay         *relay.Relay
	organisations []organisation
}

type organisation struct {
	chat.Organisation
	widget chat.Widget
}

func newWorld(b *testing.B, organisations int) *world {
	b.Helper()
	ctx := b.Context()
	w := &world{}
	var err error
	url := database(b)
	w.admin, err = pgx.Connect(ctx, url(cluster.Superuser))
	must(b, err)
	b.Cleanup(func() { w.admin.Close(context.Background()) }) //nolint:errcheck // the benchmark is over
	w.pool, err = pg.Open(ctx, pg.Config{URL: url(serviceRole), MaxConns: poolSize, TracerProvider: noop.NewTracerProvider()})
	must(b, err)
	b.Cleanup(w.pool.Close)
	ring, err := keyring.LoadOrCreate(filepath.Join(b.TempDir(), "kek.json"))
	must(b, err)
	key, err := audit.NewKey([]byte(strings.Repeat("k", 32)))
	must(b, err)
	engine, err := relaytest.Busy(ctx)
	must(b, err)
	logger := slog.New(slog.DiscardHandler)
	w.log = pglog.New(w.pool, key, decisionKey(b))
	outside := publish.New(publish.Config{Log: w.log, To: publish.Directory(b.TempDir()), Interval: time.Second, MaxAge: time.Minute, Logger: logger, Now: time.Now})
	w.ring, w.engine, w.outside = ring, engine, publish.Publishers{outside}
	w.gate = access.New(access.Config{Policy: engine, Log: w.log, Ring: ring, Pool: w.pool, Now: time.Now, Logger: logger, Tracer: noop.NewTracerProvider(), Standing: outside.Standing})
	w.readers = w.gate.Readers()
	b.Cleanup(w.index()) // as the service does, so that its cost is in the figures
	w.store = store.New(w.pool)
	hints, err := bus.Start("", nil, logger)
	must(b, err)
	b.Cleanup(hints.Close)
	r := w.readers
	w.relay = relay.New(relay.Config{
		Store: w.store, Bus: hints, Gate: w.gate, AgentToVisitor: r.AgentToVisitor, ForVisitor: r.ConversationForVisitor,
		Matcher: r.AgentMatcher, CollectVisitor: r.VisitorCollector, CollectAgent: r.AgentCollector, Now: time.Now,
	})
	for range organisations {
		id := uuid.New()
		o := chat.Organisation{
			ID: id, Name: "Fictional Ltd", Tenant: uuid.NewString(), Language: "en", Origin: "chat.example/audit/" + id.String(),
			Settings: chat.Settings{ShareVisitorEmail: true, CreateAgents: true, NameInChannel: true},
		}
		wrapped, _, err := w.gate.NewKey(o.ID, o.ID)
		must(b, err)
		must(b, w.store.CreateOrganisation(ctx, o, wrapped, func(ctx context.Context, tx pgx.Tx) error {
			return w.log.CreateLog(ctx, tx, o.ID, o.Origin)
		}))
		widget := chat.Widget{Organisation: o.ID, ID: uuid.New(), Key: "w-" + uuid.NewString(), Name: "site", Sites: []string{"https://site.example"}}
		must(b, w.store.CreateWidget(ctx, widget))
		w.organisations = append(w.organisations, organisation{o, widget})
	}
	return w
}

// index makes records searchable each second, until it is told to stop.
func (w *world) index() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := w.log.Index(ctx); err != nil && ctx.Err() == nil {
					panic(err)
				}
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// open begins a conversation of an organisation, as its visitor.
func (w *world) open(ctx context.Context, o organisation) (relay.Session, error) {
	opened, err := w.relay.Open(ctx, relay.OpenRequest{
		Widget: o.widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(),
		Text: euii.Receive("hello, is anybody there?"), Name: euii.Receive("Vera Visitor"), Email: euii.Receive("vera@visitors.example"),
	})
	if err != nil {
		return relay.Session{}, err
	}
	return w.relay.Session(ctx, opened.Token)
}

// join makes the agent called name join a conversation; Teams is reached at service.
func (w *world) join(ctx context.Context, o organisation, s relay.Session, name, service string) error {
	by := relay.Identity{Organisation: o.ID, DirectoryID: "aad-" + name, TeamsUser: "29:" + name, ServiceURL: service}
	if err := w.relay.AgentAccepts(ctx, by, s.Conversation, 1, "en"); err != nil {
		return err
	}
	return w.relay.AgentJoins(ctx, by, s.Conversation, func(context.Context) (relay.Profile, error) {
		return relay.Profile{
			DisplayName: euii.Receive(name + " Agent"), GivenName: euii.Receive(name), Surname: euii.Receive("Agent"), Email: euii.Receive(name + "@fictional.example"),
		}, nil
	})
}

// inside asks for one value as the service, within an organisation.
func (w *world) inside(ctx context.Context, o organisation, sql string, value any) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('counterfoil.organisation', $1, true)", o.ID.String()); err != nil {
			return err
		}
		return tx.QueryRow(ctx, sql).Scan(value)
	})
}

// each calls f for 0 to n-1, a few at once, and fails the benchmark by the first error.
func each(b *testing.B, n, atOnce int, f func(i int) error) {
	b.Helper()
	var running sync.WaitGroup
	var once sync.Once
	var failed error
	next := make(chan int)
	for range atOnce {
		running.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					once.Do(func() { failed = err })
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	running.Wait()
	must(b, failed)
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
