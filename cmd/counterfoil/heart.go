package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/archive"
	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/control"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/internal/store"
	"counterfoil/internal/telemetry"
	"counterfoil/migrations"
)

const serviceRole = "counterfoil_service"

// heart is everything below the edges: storage, log, keys, policy and the gate.
type heart struct {
	config config.Config
	egress *egress.Register
	pool   *pgxpool.Pool
	store  *store.Store
	log    *pglog.Log
	key    audit.Key
	ring   *keyring.Ring
	gate   *access.Gate
	desk   *signin.Desk

	publishers publish.Publishers
	policies   *policies

	control *control.Desk // once it is opened
	eraser  *pgxpool.Pool

	archives *archive.Desk
}

// openHeart builds the heart over a database that is there and migrated.
func openHeart(ctx context.Context, c config.Config, register *egress.Register, databaseURL string, logger *slog.Logger, tracer trace.TracerProvider, meters *telemetry.Meters) (*heart, error) {
	policies, err := openPolicies(ctx, c.Policy, logger)
	if err != nil {
		return nil, err
	}
	role := ""
	if c.DatabaseURL == "" {
		role = serviceRole
	}
	dial, err := databaseWay(register, databaseURL)
	if err != nil {
		return nil, err
	}
	pool, err := pg.Open(ctx, pg.Config{URL: databaseURL, Role: role, Dial: dial, MaxConns: 32, TracerProvider: tracer})
	if err != nil {
		return nil, err
	}
	var ready bool
	err = pool.QueryRow(ctx, "select to_regprocedure('access.archives_with(uuid, text, uuid)') is not null").Scan(&ready)
	if err == nil && !ready {
		err = errors.New("the database has no schema of this version: run `counterfoil migrate` as a superuser of it")
	}
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	h := &heart{config: c, egress: register, pool: pool, store: store.New(pool), policies: policies}
	all, err := h.store.Organisations(ctx)
	if err != nil {
		pool.Close()
		return nil, err
	}
	ring, err := h.keys(len(all) == 0)
	if err != nil {
		pool.Close()
		return nil, err
	}
	if h.publishers, err = newPublishers(c, register, h.log, logger, tracer); err != nil {
		pool.Close()
		return nil, err
	}
	h.ring = ring
	h.log.OnCommit(func(records int, took time.Duration) { meters.Batch(context.Background(), records, took) })
	h.gate = access.New(access.Config{Policy: policies.engine, Log: h.log, Ring: ring, Pool: pool, Now: time.Now, Logger: logger, Tracer: tracer, Standing: h.publishers.Standing, Decided: meters.Decision})
	h.desk = signin.New(signin.Config{Pool: pool, Gate: h.gate, Ring: ring, Now: time.Now, URL: c.ConsoleURL})
	err = errors.Join(h.openArchives(tracer), h.agree(ctx, all), h.log.EnsureMonths(ctx))
	if err == nil {
		err = h.startPolicy(ctx)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return h, nil
}

// keys loads the key-encryption key and the checkpoint key. They are made only while the database is empty: new keys
// beside old data would make everybody unreadable and start a second history.
func (h *heart) keys(empty bool) (*keyring.Ring, error) {
	decisionFile := keyFile(h.config, decisionKeyName)
	if !empty {
		for _, file := range []string{h.config.KEKFile, seedFile(h.config), decisionFile} {
			if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("the key %s is missing, but the database holds data that needs it: put the key back from its backup", file)
			}
		}
	}
	var err error
	if h.key, err = checkpointKey(h.config); err != nil {
		return nil, err
	}
	secret, err := keyring.ReadSecret(decisionFile)
	if err != nil {
		return nil, fmt.Errorf("decision key, which `counterfoil migrate` makes: %w", err)
	}
	decisions, err := pglog.NewDecisionKey(secret)
	if err != nil {
		return nil, fmt.Errorf("decision key %s: %w", decisionFile, err)
	}
	h.log = pglog.New(h.pool, h.key, decisions)
	return keyring.LoadOrCreate(h.config.KEKFile)
}

// agree checks that the keys are those the database was written with.
func (h *heart) agree(ctx context.Context, all []chat.Organisation) error {
	if err := h.log.CheckDecisionKey(ctx); err != nil {
		return fmt.Errorf("%s: %w; put the right one back, or install this one with `counterfoil migrate --replace-decision-key` as a superuser of the database", keyFile(h.config, decisionKeyName), err)
	}
	for _, o := range all {
		if _, err := h.gate.Reference(ctx, o.ID, o.ID); err != nil && !errors.Is(err, access.ErrErased) {
			return fmt.Errorf("the key-encryption key %s does not open the data of organisation %s: %w", h.config.KEKFile, o.ID, err)
		}
		head, err := h.log.Head(ctx, o.ID)
		if err != nil {
			return err
		}
		if _, err := h.log.Checkpoint(head); err != nil {
			return err
		}
	}
	return nil
}

func (h *heart) close() { h.pool.Close() }

const decisionKeyName = "decision.key"

func keyFile(c config.Config, name string) string { return filepath.Join(c.DataDir, "keys", name) }

// checkpointKey reads the seed of the key that signs checkpoints, or makes it at first start, and that of the one before
// while both sign.
func checkpointKey(c config.Config) (audit.Key, error) {
	seed, err := loadOrMake(seedFile(c))
	if err != nil {
		return audit.Key{}, fmt.Errorf("checkpoint key: %w", err)
	}
	key, err := audit.NewKey(seed)
	if err != nil {
		return audit.Key{}, err
	}
	if rotating, err := rotation(c); err != nil || !rotating {
		return key, err
	}
	if seed, err = keyring.ReadSecret(previousSeedFile(c)); err != nil {
		return audit.Key{}, fmt.Errorf("previous checkpoint key: %w", err)
	}
	previous, err := audit.NewKey(seed)
	return key.After(previous), err
}

// loadOrMake reads a key of 32 bytes, or makes it at first start.
func loadOrMake(path string) ([]byte, error) {
	secret, err := keyring.ReadSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	if err = keyring.WriteSecret(path, secret); errors.Is(err, fs.ErrExist) { // another start made it first
		return keyring.ReadSecret(path)
	}
	return secret, err
}

// connect gives a command the heart: over the named database, over the PostgreSQL of a running service, or over one it
// starts for the time of the command.
func (a *app) connect() (*heart, func(), error) {
	c, err := a.settings()
	if err != nil {
		return nil, nil, err
	}
	url, stop := c.DatabaseURL, func() {}
	if url == "" {
		if url, stop, err = a.ownDatabase(c, false); err != nil {
			return nil, nil, err
		}
	}
	h, err := openHeart(a.ctx, c, a.egress, url, slog.New(slog.DiscardHandler), noop.NewTracerProvider(), nil)
	if err != nil {
		stop()
		return nil, nil, err
	}
	if err := h.policies.refused; err != nil {
		fmt.Fprintf(a.stderr, "counterfoil: the policy bundle is refused, and the one compiled in decides: %v\n", err)
	}
	return h, func() { h.close(); stop() }, nil
}

func clusterDir(c config.Config) string { return filepath.Join(c.DataDir, "postgresql") }

func (a *app) ownDatabase(c config.Config, replaceKey bool) (string, func(), error) {
	db, err := cluster.Start(a.ctx, cluster.Options{DataDir: clusterDir(c), Notify: func(s string) { fmt.Fprintln(a.stderr, s) }})
	if errors.Is(err, cluster.ErrInUse) {
		url, err := cluster.RunningURL(clusterDir(c), serviceRole, cluster.Database)
		return url, func() {}, err
	}
	if err != nil {
		return "", nil, err
	}
	stop := a.stopping(db)
	if _, err := migrateURL(a.ctx, a.egress, c, db.URL(cluster.Superuser, cluster.Database), replaceKey); err != nil {
		stop()
		return "", nil, err
	}
	return db.URL(serviceRole, cluster.Database), stop, nil
}

// stopping is what stops a PostgreSQL that runs for the time of a command.
func (a *app) stopping(db *cluster.Cluster) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := db.Stop(ctx); err != nil {
			fmt.Fprintln(a.stderr, "counterfoil:", err)
		}
	}
}

// migrateURL brings the schema up to date as a superuser, and sees to it that the database knows the decision key. A new key
// is made and installed only where there is none, unless replace is asked for.
func migrateURL(ctx context.Context, register *egress.Register, c config.Config, url string, replace bool) ([]string, error) {
	conn, err := direct(ctx, register, url)
	if err != nil {
		return nil, errors.New("migrate: the database cannot be reached with this URL and role")
	}
	defer conn.Close(context.WithoutCancel(ctx))
	applied, err := pg.Migrate(ctx, conn, migrations.FS)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	there, err := pglog.Installed(ctx, conn)
	if err != nil || there && !replace {
		return applied, err
	}
	secret, err := loadOrMake(keyFile(c, decisionKeyName))
	if err != nil {
		return applied, fmt.Errorf("decision key: %w", err)
	}
	key, err := pglog.NewDecisionKey(secret)
	if err != nil {
		return applied, fmt.Errorf("decision key %s: %w", keyFile(c, decisionKeyName), err)
	}
	return applied, key.Install(ctx, conn)
}

type migrateCmd struct {
	ReplaceDecisionKey bool `help:"Install the decision key of this data directory although the database has another one. Processes that hold the other one record nothing from then on."`
}

// Help is shown below the flags.
func (migrateCmd) Help() string {
	return "Example:\n  COUNTERFOIL_DATABASE_URL='postgres://owner@db.example/counterfoil?sslmode=verify-full' counterfoil migrate\n" +
		"Then give the role counterfoil_service a password, and run the service with it and with the decision key that was made in the data directory."
}

// Run migrates.
func (m migrateCmd) Run(a *app) error {
	c, err := a.settings()
	if err != nil {
		return err
	}
	if c.DatabaseURL == "" {
		_, stop, err := a.ownDatabase(c, m.ReplaceDecisionKey)
		if err != nil {
			return err
		}
		stop()
		fmt.Fprintln(a.stdout, "The schema is up to date.")
		return nil
	}
	applied, err := migrateURL(a.ctx, a.egress, c, c.DatabaseURL, m.ReplaceDecisionKey)
	if err != nil {
		return err
	}
	for _, name := range applied {
		fmt.Fprintln(a.stdout, "applied", name)
	}
	fmt.Fprintln(a.stdout, "The schema is up to date.")
	return nil
}

// operator names whoever runs the command.
func operator(organisation uuid.UUID) principal.Operator {
	return principal.NewOperator(organisation, operatorName())
}

// archivist names the job that makes archives.
func archivist(organisation uuid.UUID) principal.Job {
	return principal.NewJob(organisation, "archive")
}

// operatorName is the operating system user who runs the command, before sudo made another of him.
func operatorName() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// organisation finds the one a command is about: by name or id, or the only one there is.
func (h *heart) organisation(ctx context.Context, named string) (chat.Organisation, error) {
	all, err := h.store.Organisations(ctx)
	if err != nil {
		return chat.Organisation{}, err
	}
	if named == "" && len(all) == 1 {
		return all[0], nil
	}
	for _, o := range all {
		if named != "" && (o.Name == named || o.ID.String() == named) {
			return o, nil
		}
	}
	if named == "" {
		return chat.Organisation{}, usageError{fmt.Sprintf("there are %d organisations: name one with --org", len(all))}
	}
	return chat.Organisation{}, usageError{"there is no such organisation: see `counterfoil org list`"}
}

// within connects and runs f for the organisation a command names.
func (a *app) within(named string, f func(*heart, chat.Organisation) error) error {
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	o, err := h.organisation(a.ctx, named)
	if err != nil {
		return err
	}
	return f(h, o)
}
