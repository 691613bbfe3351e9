package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"counterfoil/internal/pg/cluster"
)

// serveEnv makes the test binary a service that starts a cluster in the directory it names and waits to be killed.
const serveEnv = "CLUSTER_TEST_SERVE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if _, err := cluster.Start(context.Background(), cluster.Options{DataDir: dir}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	os.Exit(m.Run())
}

// newDir returns a data directory that the server's user can reach, unlike t.TempDir when run by root.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cluster-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func startIn(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, c) })
	return c
}

func stop(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, c *cluster.Cluster) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL(cluster.Superuser, cluster.Database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) }) //nolint:errcheck // the server may be gone
	return conn
}

func exec1(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func rows(t *testing.T, c *cluster.Cluster) (n int) {
	t.Helper()
	if err := connect(t, c).QueryRow(t.Context(), `select count(*) from kept`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// lockedBuffer is a writer that may be read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// await polls until done holds.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestNewClusterIsOursAlone(t *testing.T) {
	t.Setenv("COUNTERFOIL_SECRET", "s3cr3t-in-environment")
	dir := newDir(t)
	// What a start leaves that was cut short.
	if err := os.MkdirAll(filepath.Join(dir, "pgdata.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	var notes []string
	c := startIn(t, cluster.Options{DataDir: dir, Stderr: &log, Notify: func(s string) { notes = append(notes, s) }})
	conn := connect(t, c)

	t.Run("says that it creates the database", func(t *testing.T) {
		if len(notes) == 0 || !strings.Contains(notes[0], "creating a database") {
			t.Errorf("notes are %q", notes)
		}
	})

	for setting, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on", "listen_addresses": "",
		"jit": "off", "wal_compression": "pglz", "max_connections": "200", "shared_buffers": "128MB", "TimeZone": "UTC",
		"log_statement": "none", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0",
		"log_error_verbosity": "terse", "log_min_error_statement": "panic", "log_min_duration_statement": "-1",
		"server_encoding": "UTF8", "lc_collate": "C",
	} {
		t.Run("runs with "+setting+" "+want, func(t *testing.T) {
			var got string
			if err := conn.QueryRow(t.Context(), `select current_setting($1)`, setting).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %q", got)
			}
		})
	}

	t.Run("admits each of the service's roles", func(t *testing.T) {
		for _, role := range cluster.Roles() {
			exec1(t, conn, "create role "+role+" login")
			own, err := pgx.Connect(t.Context(), c.URL(role, cluster.Database))
			if err != nil {
				t.Errorf("%s: %v", role, err)
				continue
			}
			own.Close(t.Context()) //nolint:errcheck // nothing depends on it
		}
	})

	t.Run("refuses a role outside the map", func(t *testing.T) {
		exec1(t, conn, "create role intruder login superuser")
		_, err := pgx.Connect(t.Context(), c.URL("intruder", cluster.Database))
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "28000" {
			t.Errorf("got %v, want SQLSTATE 28000", err)
		}
	})

	t.Run("keeps strangers out of its directories", func(t *testing.T) {
		for name, want := range map[string]os.FileMode{"pgdata": 0o700, "run": 0o700, "lock": 0o600} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %v, want %v", name, got, want)
			}
		}
		for _, name := range []string{".", "conf", "conf/pg_hba.conf", "conf/pg_ident.conf"} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if uid := int(info.Sys().(*syscall.Stat_t).Uid); uid != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
				t.Errorf("%s belongs to %d with mode %v; only the service may write it", name, uid, info.Mode())
			}
		}
	})

	t.Run("is not run by root", func(t *testing.T) {
		pid, err := cluster.ReadPid(filepath.Join(dir, "pgdata"))
		if err != nil {
			t.Fatal(err)
		}
		group, err := syscall.Getpgid(pid)
		if err != nil {
			t.Fatal(err)
		}
		if group == syscall.Getpgrp() {
			t.Error("a signal from the terminal would reach the server")
		}
		info, err := os.Stat(filepath.Join(dir, "pgdata", "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Error("the server writes its files as root")
		}
	})

	t.Run("does not see the service's environment", func(t *testing.T) {
		exec1(t, conn, `create temp table environment (line text)`)
		exec1(t, conn, `copy environment from program 'env'`)
		var n, leaked int
		if err := conn.QueryRow(t.Context(), `select count(*), count(*) filter (where line like '%s3cr3t%') from environment`).Scan(&n, &leaked); err != nil {
			t.Fatal(err)
		}
		if n == 0 || leaked != 0 {
			t.Errorf("%d lines, of which %d hold the secret", n, leaked)
		}
	})

	t.Run("logs no value", func(t *testing.T) {
		for _, sql := range []string{
			`select 'canary@example.org'::int`,
			`select $1::text::int`,
			`do $$ begin raise exception 'canary@example.org'; end $$`,
			`do $$ begin raise warning 'canary@example.org'; end $$`,
		} {
			var args []any
			if strings.Contains(sql, "$1") {
				args = append(args, "canary@example.org")
			}
			_, err := conn.Exec(t.Context(), sql, args...)
			if err == nil && !strings.Contains(sql, "warning") {
				t.Errorf("%s: succeeded", sql)
			}
		}
		// The log is complete once the server has ended.
		stop(t, c)
		if got := log.String(); strings.Contains(got, "canary") || !strings.Contains(got, "shut down") {
			t.Errorf("log is:\n%s", got)
		}
	})
}

func TestStopAndStartAgain(t *testing.T) {
	dir := newDir(t)
	c := startIn(t, cluster.Options{DataDir: dir})
	pgdata := filepath.Join(dir, "pgdata")
	exec1(t, connect(t, c), `create table kept (id int)`)

	t.Run("another process is refused while it runs", func(t *testing.T) {
		if _, err := cluster.Start(t.Context(), cluster.Options{DataDir: dir}); !errors.Is(err, cluster.ErrInUse) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("restart of a running server is refused", func(t *testing.T) {
		if err := c.Restart(t.Context()); err == nil {
			t.Error("succeeded")
		}
	})

	t.Run("kill -9 of the server loses nothing committed", func(t *testing.T) {
		for i := range 3 {
			exec1(t, connect(t, c), `insert into kept values (1)`)
			exited := c.Exited()
			if err := c.Kill(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {
			case <-exited:
			default:
				t.Error("Exited does not tell")
			}
			if err := c.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := rows(t, c); n != i+1 {
				t.Errorf("%d rows, want %d", n, i+1)
			}
		}
	})

	t.Run("stop is clean and may be repeated", func(t *testing.T) {
		stop(t, c)
		stop(t, c)
		if _, err := os.Stat(filepath.Join(pgdata, "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("pid file: %v", err)
		}
		if err := c.Restart(t.Context()); err == nil {
			t.Error("restart after stop succeeded")
		}
	})

	again := func(t *testing.T) {
		t.Helper()
		notes := 0
		c := startIn(t, cluster.Options{DataDir: dir, Notify: func(string) { notes++ }})
		if n := rows(t, c); n != 3 {
			t.Errorf("%d rows, want 3", n)
		}
		if notes != 0 {
			t.Errorf("%d notes about an existing database", notes)
		}
		stop(t, c)
	}
	giveTo := func(t *testing.T, path string) {
		t.Helper()
		info, err := os.Stat(pgdata)
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	writePid := func(t *testing.T, pid int) {
		t.Helper()
		path := filepath.Join(pgdata, "postmaster.pid")
		if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n%s\n1700000000\n5432\n%s\n\n  5432001 0\nready\n", pid, pgdata, dir), 0o600); err != nil {
			t.Fatal(err)
		}
		giveTo(t, path)
	}

	t.Run("starts over the pid file of a dead process", func(t *testing.T) {
		dead := exec.Command("/bin/sh", "-c", "exit")
		if err := dead.Run(); err != nil {
			t.Fatal(err)
		}
		writePid(t, dead.Process.Pid)
		again(t)
	})

	t.Run("starts over a pid file whose number now belongs to a bystander, who lives on", func(t *testing.T) {
		cmd, err := cluster.Bystander(c)
		if err != nil {
			t.Fatal(err)
		}
		writePid(t, cmd.Process.Pid)
		again(t)
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("the bystander was ended: %v", err)
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("the bystander ended with %v", err)
		}
	})

	t.Run("stops a server left behind", func(t *testing.T) {
		orphan, err := cluster.Orphan(c)
		if err != nil {
			t.Fatal(err)
		}
		await(t, "the orphan runs", func() bool {
			pid, err := cluster.ReadPid(pgdata)
			return err == nil && pid == orphan.Process.Pid && cluster.ServerRuns(t.Context(), pid, pgdata)
		})
		reaped := make(chan error, 1)
		go func() { reaped <- orphan.Wait() }()
		again(t)
		if err := <-reaped; err != nil {
			t.Errorf("the orphan was not shut down in order: %v", err)
		}
	})

	t.Run("ends with a service that is killed, and starts again", func(t *testing.T) {
		service := exec.Command(os.Args[0])
		service.Env = append(os.Environ(), serveEnv+"="+dir)
		out, err := service.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		service.Stderr = os.Stderr
		if err := service.Start(); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 6)
		if _, err := out.Read(line); err != nil {
			t.Fatal(err)
		}
		pid, err := cluster.ReadPid(pgdata)
		if err != nil || !cluster.ServerRuns(t.Context(), pid, pgdata) {
			t.Fatalf("server of the service does not run: %v", err)
		}
		if err := service.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		service.Wait() //nolint:errcheck // it was killed
		again(t)
		if cluster.ServerRuns(t.Context(), pid, pgdata) {
			t.Error("the old server runs on")
		}
	})

	t.Run("refuses a database of another major version", func(t *testing.T) {
		path := filepath.Join(pgdata, "PG_VERSION")
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("12\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = cluster.Start(t.Context(), cluster.Options{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "made by PostgreSQL 12") || !strings.Contains(err.Error(), "pg_upgrade") {
			t.Errorf("got %v", err)
		}
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
		again(t)
	})

	t.Run("refuses a database of another user", func(t *testing.T) {
		if os.Geteuid() != 0 {
			// Only root can give a directory away; what an ordinary user meets is a directory of root's.
			_, err := cluster.Start(t.Context(), cluster.Options{DataDir: "/"})
			if err == nil {
				t.Error("started in /")
			}
			return
		}
		if err := os.Chown(pgdata, 1, 1); err != nil {
			t.Fatal(err)
		}
		_, err := cluster.Start(t.Context(), cluster.Options{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "belongs to user") || !strings.Contains(err.Error(), "chown -R") {
			t.Errorf("got %v", err)
		}
	})
}

func TestLongPathGetsAShortSocket(t *testing.T) {
	base := newDir(t)
	if err := os.Chmod(base, 0o711); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, strings.Repeat("long", 30))
	c := startIn(t, cluster.Options{DataDir: dir})
	path := cluster.SocketPath(c)
	if len(path) >= 100 {
		t.Fatalf("socket path has %d bytes", len(path))
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("socket directory has mode %v", info.Mode())
	}
	exec1(t, connect(t, c), `select 1`)
	stop(t, c)
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket directory stays behind: %v", err)
	}
}

func TestPathClosedToTheServer(t *testing.T) {
	closed := filepath.Join(newDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(closed), 0o711); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(t.Context(), cluster.Options{DataDir: filepath.Join(closed, "data")})
	if os.Geteuid() != 0 {
		// The server runs as the user whose directory it is.
		if err != nil {
			t.Fatal(err)
		}
		stop(t, c)
		return
	}
	if err == nil {
		stop(t, c)
		t.Fatal("started in a directory that its user cannot reach")
	}
	for _, part := range []string{"may not pass through " + closed + " ", "COUNTERFOIL_DATA_DIR"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
}

func TestMissingPostgreSQL(t *testing.T) {
	empty := t.TempDir()
	old := t.TempDir()
	for _, program := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(old, program), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 11.22'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		path     string
		patterns []string
		says     string
	}{
		"names the packages when there is nothing": {empty, []string{empty + "/*/bin"}, "nothing found"},
		"names what is too old in PATH":            {old, nil, "found only 11.22 in " + old},
		"names what is too old elsewhere":          {"", []string{old[:len(old)-1] + "*"}, "found only 11.22 in " + old},
		"ignores relative entries of PATH":         {".:bin", nil, "nothing found"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := cluster.StartFrom(t.Context(), cluster.Options{DataDir: newDir(t)}, tt.path, tt.patterns)
			if err == nil {
				stop(t, c)
			}
			if !errors.Is(err, cluster.ErrNotInstalled) {
				t.Fatalf("got %v", err)
			}
			for _, part := range []string{tt.says, "postgresql-server", "postgresql@17", "no system-wide server needs to run"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error does not say %q: %v", part, err)
				}
			}
		})
	}
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	dir := newDir(t)
	c := startIn(t, cluster.Options{DataDir: dir})
	exec1(t, connect(t, c), `alter system set shared_preload_libraries = 'no_such_library'`)
	stop(t, c)
	_, err := cluster.Start(t.Context(), cluster.Options{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "no_such_library") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := cluster.Start(ctx, cluster.Options{DataDir: dir}); err == nil {
		t.Error("started although its context was over")
	}
}

func TestImpatientStopLosesNothing(t *testing.T) {
	c := startIn(t, cluster.Options{DataDir: newDir(t)})
	conn := connect(t, c)
	exec1(t, conn, `create table kept (id int)`)
	exec1(t, conn, `insert into kept values (1)`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	exited := c.Exited()
	// Whether the fast shutdown was faster than the look at ctx is not ours to say.
	if err := c.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-exited
}

func TestClosedParent(t *testing.T) {
	dir := t.TempDir() // 0777 &^ umask below a directory of mode 0700 or more
	inner := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	got := cluster.ClosedParent(inner)
	if got == inner || !strings.HasPrefix(inner, got) {
		t.Errorf("got %s for %s", got, inner)
	}
}

func FuzzParsePid(f *testing.F) {
	for _, seed := range []string{"", "\n", "1234\n/data\n", "-5\n", "1\n", "0", "99999999999999999999\n", " 77 \n", "77"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		pid := cluster.ParsePid(b)
		if pid == 0 {
			return
		}
		// Never a group, never init: a signal goes to one process or to none.
		first, _, _ := strings.Cut(string(b), "\n")
		if n, err := strconv.Atoi(strings.TrimSpace(first)); err != nil || n != pid || pid <= 1 {
			t.Errorf("pid %d from %q", pid, first)
		}
	})
}
