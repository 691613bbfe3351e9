// Package relaytest builds the heart of the product over a fresh database, for the tests of the packages above it.
package relaytest

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/bus"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/relay"
	"counterfoil/internal/store"
	"counterfoil/migrations"
	"counterfoil/policy"
)

// World is everything below the edges, with one organisation and one widget.
type World struct {
	DB           *pgtest.Instance
	Pool         *pgxpool.Pool
	Log          *pglog.Log
	Decisions    pglog.DecisionKey
	Gate         *access.Gate
	Readers      access.Readers
	Store        *store.Store
	Ring         *keyring.Ring
	KEK          string // the file of the key-encryption key
	Bus          *bus.Bus
	Relay        *relay.Relay
	Organisation chat.Organisation
	Widget       chat.Widget
}

// Options change what a World is made of.
type Options struct {
	Policy   *policy.Engine // nil for the built-in one
	Settings *chat.Settings // nil for the defaults
	DB       *pgtest.Instance
	Tracer   trace.TracerProvider // nil for none
	Standing access.Standing      // nil for logs of which nothing speaks from outside the database
}

// New makes a World.
func New(t testing.TB, o Options) *World {
	t.Helper()
	ctx := t.Context()
	w := &World{DB: o.DB}
	if w.DB == nil {
		w.DB = pgtest.Database(t, migrations.FS)
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider()
	}
	var err error
	w.Pool, err = pg.Open(ctx, pg.Config{URL: w.DB.URL("counterfoil_service"), MaxConns: 16, TracerProvider: o.Tracer})
	must(t, err)
	t.Cleanup(w.Pool.Close)
	w.KEK = filepath.Join(t.TempDir(), "kek.json")
	w.Ring, err = keyring.LoadOrCreate(w.KEK)
	must(t, err)
	key, err := audit.NewKey(make([]byte, 32))
	must(t, err)
	if o.Policy == nil {
		o.Policy, err = policy.New(ctx)
		must(t, err)
	}
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	if o.Standing == nil {
		o.Standing = func(context.Context, uuid.UUID, bool) error { return nil }
	}
	w.Decisions, err = pglog.NewDecisionKey([]byte(strings.Repeat("d", 32)))
	must(t, err)
	must(t, w.Decisions.Install(ctx, w.DB.Superuser(t)))
	w.Log = pglog.New(w.Pool, key, w.Decisions)
	w.Gate = access.New(access.Config{Policy: o.Policy, Log: w.Log, Ring: w.Ring, Pool: w.Pool, Now: time.Now, Logger: logger, Tracer: o.Tracer, Standing: o.Standing})
	w.Readers = w.Gate.Readers()
	w.Store = store.New(w.Pool)
	w.Bus, err = bus.Start("", nil, logger)
	must(t, err)
	t.Cleanup(w.Bus.Close)
	r := w.Readers
	w.Relay = relay.New(relay.Config{
		Store: w.Store, Bus: w.Bus, Gate: w.Gate, AgentToVisitor: r.AgentToVisitor, ForVisitor: r.ConversationForVisitor,
		Matcher: r.AgentMatcher, CollectVisitor: r.VisitorCollector, CollectAgent: r.AgentCollector, Now: time.Now,
	})
	w.Organisation = chat.Organisation{
		ID: uuid.New(), Name: "Fictional Ltd", Tenant: uuid.NewString(), Language: "en",
		Settings: chat.Settings{ShareVisitorEmail: true, CreateAgents: true, NameInChannel: true},
	}
	if o.Settings != nil {
		w.Organisation.Settings = *o.Settings
	}
	w.Organisation.Origin = "chat.example/audit/" + w.Organisation.ID.String()
	wrapped, _, err := w.Gate.NewKey(w.Organisation.ID, w.Organisation.ID)
	must(t, err)
	must(t, w.Store.CreateOrganisation(ctx, w.Organisation, wrapped, func(ctx context.Context, tx pgx.Tx) error {
		return w.Log.CreateLog(ctx, tx, w.Organisation.ID, w.Organisation.Origin)
	}))
	w.Widget = chat.Widget{Organisation: w.Organisation.ID, ID: uuid.New(), Key: "w-" + uuid.NewString(), Name: "site", Sites: []string{"https://site.example"}}
	must(t, w.Store.CreateWidget(ctx, w.Widget))
	return w
}

// PolicyWith is the built-in policy with one file added or replaced.
func PolicyWith(ctx context.Context, file, text string) (*policy.Engine, error) {
	files := fstest.MapFS{}
	names, err := fs.Glob(policy.Bundle(), "*.rego")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(policy.Bundle(), name)
		if err != nil {
			return nil, err
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	files[file] = &fstest.MapFile{Data: []byte(text)}
	return policy.Load(ctx, files)
}

// Busy is the built-in policy with limits that nobody reaches who asks as fast as a machine can answer.
func Busy(ctx context.Context) (*policy.Engine, error) {
	return PolicyWith(ctx, "limits.rego", "package counterfoil\n\nveto contains \"volume_limit\" if input.actor.recent >= 1000000000\n")
}

// Entries gives the whole log of the organisation.
func (w *World) Entries(t testing.TB) []audit.Entry {
	t.Helper()
	rows, err := w.Pool.Query(t.Context(), "select body from access.log_entries($1, 0, 1000000, 1000000)", w.Organisation.ID)
	must(t, err)
	bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	must(t, err)
	entries := make([]audit.Entry, len(bodies))
	for i, b := range bodies {
		entries[i], err = audit.ParseEntry(b)
		must(t, err)
	}
	return entries
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
