// Package pgtest gives tests databases of a real PostgreSQL.
//
// One server runs per test process. It is started by the first test that asks, keeps its data in memory where the
// machine can, and commits as durably as the product demands. Each test has a database of its own, copied from a
// template that is migrated once. A machine without PostgreSQL fails the tests: what they hold is not optional.
//
// A package that uses it says so in its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
package pgtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
)

const (
	memory     = "/dev/shm"
	dirPattern = "counterfoil-pgtest-"
	// roomNeeded is what the data directory must have free; a server with a few databases takes about 200 MiB.
	roomNeeded = 1 << 30
	// startPatience bounds the start of a server on a busy machine.
	startPatience = 2 * time.Minute
)

// server is a cluster with the templates made in it.
type server struct {
	cluster *cluster.Cluster
	dir     string

	mu        sync.Mutex
	templates map[[sha256.Size]byte]string
	databases int
}

// shared is the one server of the process.
var shared struct {
	mu      sync.Mutex
	running bool // within Run
	server  *server
	err     error // of the first start; later tests fail by it at once
}

// Run runs the tests of a package, then stops the server if one was started. Its result is for [os.Exit].
func Run(m *testing.M) int {
	shared.mu.Lock()
	shared.running = true
	shared.mu.Unlock()
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.running = false
	if shared.server == nil {
		return code
	}
	if err := shared.server.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// Instance is a test's own database.
type Instance struct {
	server *server
	name   string
}

// Database returns a new database with the migrations of fsys, dropped when the test ends. It fails the test when there
// is no PostgreSQL, when the migrations fail, or when TestMain does not use [Run].
func Database(t testing.TB, fsys fs.FS) *Instance {
	t.Helper()
	shared.mu.Lock()
	if !shared.running {
		shared.mu.Unlock()
		t.Fatal("pgtest: this package needs func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = startServer()
	}
	s, err := shared.server, shared.err
	shared.mu.Unlock()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s.database(t, fsys)
}

// Private is [Database] on a server of the test's own, for tests that kill it or change its settings.
func Private(t testing.TB, fsys fs.FS) *Instance {
	t.Helper()
	s, err := startServer()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s.database(t, fsys)
}

// URL returns the connection string of the database for a login role: [cluster.Superuser], or one of [cluster.Roles]
// that the migrations made.
func (i *Instance) URL(role string) string { return i.server.cluster.URL(role, i.name) }

// Pool opens the database as the product does, as a login role; it is closed when the test ends.
func (i *Instance) Pool(t testing.TB, role string) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(t.Context(), pg.Config{URL: i.URL(role)})
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Superuser opens a connection to the database that may do anything; it is closed when the test ends.
func (i *Instance) Superuser(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), i.URL(cluster.Superuser))
	if err != nil {
		t.Fatalf("pgtest: connect: %v", err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) }) //nolint:errcheck // the test may have killed the server
	return conn
}

// Cluster returns the server the database is on. Only a test with [Private] may disturb it.
func (i *Instance) Cluster() *cluster.Cluster { return i.server.cluster }

func startServer() (*server, error) {
	base := chooseBase()
	sweep(base)
	dir, err := os.MkdirTemp(base, dirPattern)
	if err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	c, err := cluster.Start(ctx, cluster.Options{DataDir: dir})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &server{cluster: c, dir: dir, templates: make(map[[sha256.Size]byte]string)}, nil
}

// stop ends the server at once, for its data is not kept.
func (s *server) stop() error {
	err := s.cluster.Kill(syscall.SIGQUIT)
	stopErr := s.cluster.Stop(context.Background())
	if errors.Is(err, os.ErrProcessDone) {
		err, stopErr = nil, nil // a test left it killed
	}
	return errors.Join(err, stopErr, os.RemoveAll(s.dir))
}

// chooseBase returns memory if it is there and has room, else the temporary directory.
func chooseBase() string {
	var free syscall.Statfs_t
	if err := syscall.Statfs(memory, &free); err == nil && uint64(free.Bavail)*uint64(free.Bsize) >= roomNeeded {
		return memory
	}
	return os.TempDir()
}

// sweep removes what test processes that were killed left behind: their lock is free. Young directories are spared,
// since they may be about to be locked.
func sweep(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, dirPattern+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
		if err == nil {
			err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
			if err == nil {
				os.RemoveAll(dir) //nolint:errcheck // the next process tries again
			}
			lock.Close() //nolint:errcheck // nothing was written
		}
	}
}

func (s *server) database(t testing.TB, fsys fs.FS) *Instance {
	t.Helper()
	// Not t.Context: the drop comes after its end.
	ctx := context.Background()
	template, err := s.template(ctx, fsys)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s.mu.Lock()
	s.databases++
	name := fmt.Sprintf("test_%d", s.databases)
	s.mu.Unlock()
	for _, sql := range []string{
		"create database " + name + " template " + template,
		// A copy has everything of its template but who may connect.
		"update pg_database set datacl = (select t.datacl from pg_database t where t.datname = '" + template + "') where datname = '" + name + "'",
	} {
		if err := s.admin(ctx, sql); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
	t.Cleanup(func() {
		// A test that killed its private server has nothing to drop.
		select {
		case <-s.cluster.Exited():
			return
		default:
		}
		if err := s.admin(ctx, "drop database "+name+" with (force)"); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return &Instance{server: s, name: name}
}

// template returns the name of a database with the migrations of fsys, made on first use.
func (s *server) template(ctx context.Context, fsys fs.FS) (string, error) {
	key, err := hash(fsys)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.templates[key]; ok {
		return name, nil
	}
	name := fmt.Sprintf("template_%x", key[:8])
	if err := s.admin(ctx, "drop database if exists "+name+" with (force)"); err != nil {
		return "", err
	}
	if err := s.admin(ctx, "create database "+name); err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, s.cluster.URL(cluster.Superuser, name))
	if err != nil {
		return "", fmt.Errorf("connect to template: %w", err)
	}
	_, err = pg.Migrate(ctx, conn, fsys)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", err
	}
	s.templates[key] = name
	return name, nil
}

// admin runs one statement outside the databases of tests.
func (s *server) admin(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.cluster.URL(cluster.Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_, err = conn.Exec(ctx, sql)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// hash tells sets of migrations apart.
func hash(fsys fs.FS) (key [sha256.Size]byte, err error) {
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return key, fmt.Errorf("list migrations: %w", err)
	}
	var all bytes.Buffer
	for _, name := range names {
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return key, fmt.Errorf("read migration: %w", err)
		}
		fmt.Fprintf(&all, "%q %q\n", name, content)
	}
	return sha256.Sum256(all.Bytes()), nil
}
