package pg_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var schema = fstest.MapFS{
	"0001_first.sql": {Data: []byte(`
do $$ begin create role counterfoil_service login; exception when duplicate_object then null; end $$;
create table item (id int primary key, n int not null default 0);
grant select, insert, update on item to counterfoil_service;`)},
}

const service = "counterfoil_service"

func open(t *testing.T, c pg.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pg.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestOpen(t *testing.T) {
	db := pgtest.Database(t, schema)
	pool := open(t, pg.Config{URL: db.URL(cluster.Superuser), Role: service, MaxConns: 3})
	for setting, want := range map[string]string{
		"application_name": "counterfoil", "statement_timeout": "5s", "lock_timeout": "2s",
		"idle_in_transaction_session_timeout": "10s", "session_authorization": service,
	} {
		t.Run("sets "+setting+" to "+want, func(t *testing.T) {
			var got string
			if err := pool.QueryRow(t.Context(), `select current_setting($1)`, setting).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %q", got)
			}
		})
	}
	if got := pool.Config().MaxConns; got != 3 {
		t.Errorf("pool has %d connections, want 3", got)
	}
}

func TestOpenFailsAtOnceAndKeepsTheSecret(t *testing.T) {
	for name, u := range map[string]string{
		"when nobody listens":       "postgres://me:hunter2@127.0.0.1:1/db",
		"when the URL is malformed": "postgres://me:hunter2%zz@host:port/db",
		"when sslmode is unknown":   "postgres://me:hunter2@host/db?sslmode=hunter2",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pg.Open(t.Context(), pg.Config{URL: u})
			if err == nil {
				t.Fatal("opened")
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error holds the password: %v", err)
			}
		})
	}
}

func TestTransport(t *testing.T) {
	for name, tt := range map[string]struct {
		url string
		ok  bool
	}{
		"accepts a socket":                          {"postgres:///db?host=/run/postgresql", true},
		"accepts localhost":                         {"postgres://localhost/db", true},
		"accepts IPv4 loopback":                     {"postgres://127.3.0.1/db?sslmode=disable", true},
		"accepts IPv6 loopback":                     {"postgres://[::1]/db", true},
		"accepts a remote host with verify-full":    {"postgres://db.example.org/db?sslmode=verify-full", true},
		"refuses a remote host by default":          {"postgres://db.example.org/db", false},
		"refuses disable":                           {"postgres://db.example.org/db?sslmode=disable", false},
		"refuses allow":                             {"postgres://db.example.org/db?sslmode=allow", false},
		"refuses prefer":                            {"postgres://db.example.org/db?sslmode=prefer", false},
		"refuses require":                           {"postgres://db.example.org/db?sslmode=require", false},
		"refuses a remote address":                  {"postgres://192.0.2.1/db", false},
		"refuses a name that only begins like ours": {"postgres://localhost.example.org/db", false},
		"refuses a remote host behind a local one":  {"postgres://localhost,db.example.org/db", false},
		"accepts several hosts with verify-full":    {"postgres://localhost,db.example.org/db?sslmode=verify-full", true},
	} {
		t.Run(name, func(t *testing.T) {
			err := pg.CheckTransport(tt.url)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "add sslmode=verify-full") {
				t.Errorf("error does not say what to do: %v", err)
			}
		})
	}
}

func TestOpenRefusesWhatIsNotDurable(t *testing.T) {
	db := pgtest.Private(t, schema)
	super := db.Superuser(t)
	alter := func(t *testing.T, setting, value string) {
		t.Helper()
		for _, sql := range []string{"alter system set " + setting + " = " + value, "select pg_reload_conf()"} {
			if _, err := super.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		// The reload reaches new sessions once the server has read its files.
		deadline := time.Now().Add(30 * time.Second)
		for {
			var got string
			conn, err := pgx.Connect(t.Context(), db.URL(cluster.Superuser))
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(conn.QueryRow(t.Context(), `select current_setting($1)`, setting).Scan(&got), conn.Close(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			if got == value {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s stays %s", setting, got)
			}
		}
	}
	for _, tt := range []struct {
		setting, value string
		ok             bool
	}{
		{"fsync", "off", false},
		{"full_page_writes", "off", false},
		{"synchronous_commit", "off", false},
		{"synchronous_commit", "local", true},
		{"synchronous_commit", "remote_write", true},
		{"synchronous_commit", "remote_apply", true},
	} {
		t.Run(tt.setting+" "+tt.value, func(t *testing.T) {
			alter(t, tt.setting, tt.value)
			defer alter(t, tt.setting, "on")
			pool, err := pg.Open(t.Context(), pg.Config{URL: db.URL(service)})
			if tt.ok {
				if err != nil {
					t.Fatal(err)
				}
				pool.Close()
				return
			}
			notDurable, ok := errors.AsType[*pg.NotDurableError](err)
			if !ok || !errors.Is(err, pg.ErrNotDurable) || notDurable.Setting != tt.setting {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("and keeps synchronous_commit of the connections there are", func(t *testing.T) {
		pool := open(t, pg.Config{URL: db.URL(service), MaxConns: 1})
		alter(t, "synchronous_commit", "off")
		defer alter(t, "synchronous_commit", "on")
		var got string
		if err := pool.QueryRow(t.Context(), `select current_setting('synchronous_commit')`).Scan(&got); err != nil || got != "on" {
			t.Errorf("it is %s, %v", got, err)
		}
		pool.Reset()
		if _, err := pool.Exec(t.Context(), `select 1`); !errors.Is(err, pg.ErrNotDurable) {
			t.Errorf("a new one gives %v", err)
		}
	})
	t.Run("also when only the role is set so", func(t *testing.T) {
		pool := open(t, pg.Config{URL: db.URL(service)})
		if _, err := super.Exec(t.Context(), "alter role "+service+" set synchronous_commit = off"); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), `select 1`); err != nil {
			t.Errorf("the connection made before is refused: %v", err)
		}
		pool.Reset()
		if _, err := pool.Exec(t.Context(), `select 1`); !errors.Is(err, pg.ErrNotDurable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTx(t *testing.T) {
	pool := pgtest.Database(t, schema).Pool(t, service)
	count := func(t *testing.T) (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), `select count(*) from item`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	insert := func(ctx context.Context, tx pgx.Tx, id int) error {
		_, err := tx.Exec(ctx, `insert into item (id) values ($1)`, id)
		return err
	}

	t.Run("commits", func(t *testing.T) {
		if err := pg.Tx(t.Context(), pool, func(tx pgx.Tx) error { return insert(t.Context(), tx, 1) }); err != nil {
			t.Fatal(err)
		}
		if n := count(t); n != 1 {
			t.Errorf("%d rows", n)
		}
	})
	t.Run("rolls back and returns the error", func(t *testing.T) {
		err := pg.Tx(t.Context(), pool, func(tx pgx.Tx) error {
			return errors.Join(insert(t.Context(), tx, 2), io.ErrNoProgress)
		})
		if !errors.Is(err, io.ErrNoProgress) || count(t) != 1 {
			t.Errorf("got %v and %d rows", err, count(t))
		}
	})
	t.Run("rolls back on panic", func(t *testing.T) {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			pg.Tx(t.Context(), pool, func(tx pgx.Tx) error { //nolint:errcheck // it panics
				if err := insert(t.Context(), tx, 2); err != nil {
					t.Error(err)
				}
				panic("over")
			})
		}()
		if n := count(t); n != 1 {
			t.Errorf("%d rows", n)
		}
		if n := pool.Stat().AcquiredConns(); n != 0 {
			t.Errorf("%d connections are not returned", n)
		}
	})
	t.Run("fails when the transaction was lost to a swallowed error", func(t *testing.T) {
		err := pg.Tx(t.Context(), pool, func(tx pgx.Tx) error {
			insert(t.Context(), tx, 1) //nolint:errcheck // the violation is meant to be missed
			return nil
		})
		if !errors.Is(err, pgx.ErrTxCommitRollback) || pg.IsConnectionLost(err) {
			t.Errorf("got %v", err)
		}
	})
	for _, tt := range []struct {
		code     string
		attempts int
	}{{"40001", 5}, {"40P01", 5}, {"23505", 1}, {"40002", 1}} {
		t.Run(fmt.Sprintf("tries %d times when %s persists", tt.attempts, tt.code), func(t *testing.T) {
			attempts := 0
			err := pg.Tx(t.Context(), pool, func(tx pgx.Tx) error {
				attempts++
				_, err := tx.Exec(t.Context(), fmt.Sprintf(`do $$ begin raise sqlstate '%s'; end $$`, tt.code))
				return fmt.Errorf("wrapped: %w", err)
			})
			if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != tt.code || attempts != tt.attempts {
				t.Errorf("got %v after %d attempts", err, attempts)
			}
		})
	}
	t.Run("stops trying when the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		attempts := 0
		err := pg.Tx(ctx, pool, func(pgx.Tx) error {
			attempts++
			cancel()
			return &pgconn.PgError{Code: "40001"}
		})
		if !errors.Is(err, context.Canceled) || attempts != 1 {
			t.Errorf("got %v after %d attempts", err, attempts)
		}
	})
	t.Run("gets both sides of a deadlock through", func(t *testing.T) {
		if _, err := pool.Exec(t.Context(), `insert into item (id) values (10), (11)`); err != nil {
			t.Fatal(err)
		}
		var attempts atomic.Int32
		var met [2]chan struct{}
		met[0], met[1] = make(chan struct{}), make(chan struct{})
		errs := make(chan error, 2)
		for i := range 2 {
			go func() {
				first := true
				errs <- pg.Tx(t.Context(), pool, func(tx pgx.Tx) error {
					attempts.Add(1)
					if _, err := tx.Exec(t.Context(), `update item set n = n + 1 where id = $1`, 10+i); err != nil {
						return err
					}
					if first { // both hold their first row before either asks for the second
						first = false
						close(met[i])
						<-met[1-i]
					}
					_, err := tx.Exec(t.Context(), `update item set n = n + 1 where id = $1`, 11-i)
					return err
				})
			}()
		}
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
		var sum int
		if err := pool.QueryRow(t.Context(), `select sum(n) from item`).Scan(&sum); err != nil {
			t.Fatal(err)
		}
		if sum != 4 || attempts.Load() < 3 {
			t.Errorf("sum %d after %d attempts, want 4 after 3 or more", sum, attempts.Load())
		}
	})
}

func TestIsConnectionLost(t *testing.T) {
	db := pgtest.Private(t, schema)
	pool := db.Pool(t, service)

	t.Run("not by an error of a statement", func(t *testing.T) {
		_, err := pool.Exec(t.Context(), `select 1/0`)
		if err == nil || pg.IsConnectionLost(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not by success, nor by an error of our own", func(t *testing.T) {
		if pg.IsConnectionLost(nil) || pg.IsConnectionLost(errors.New("other")) || pg.IsConnectionLost(pgx.ErrNoRows) {
			t.Error("reported as lost")
		}
	})
	t.Run("by termination of the session", func(t *testing.T) {
		err := pg.Tx(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `select pg_terminate_backend(pg_backend_pid())`)
			return err
		})
		if !pg.IsConnectionLost(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("by a deadline during commit", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := pg.Tx(ctx, pool, func(pgx.Tx) error { cancel(); return nil })
		if !pg.IsConnectionLost(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("by a kill of the server, before and during a commit and when there is none to connect to", func(t *testing.T) {
		for _, atCommit := range []bool{false, true} {
			err := pg.Tx(t.Context(), pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(t.Context(), `insert into item (id) values (1)`); err != nil {
					return err
				}
				if err := db.Cluster().Kill(syscall.SIGKILL); err != nil {
					t.Error(err)
				}
				if atCommit {
					return nil
				}
				_, err := tx.Exec(t.Context(), `select 1`)
				return err
			})
			if !pg.IsConnectionLost(err) {
				t.Errorf("at commit %v: got %v", atCommit, err)
			}
			pool.Reset()
			if err := pool.Ping(t.Context()); !pg.IsConnectionLost(err) {
				t.Errorf("at connect: got %v", err)
			}
			if err := db.Cluster().Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			var n int
			if err := pool.QueryRow(t.Context(), `select count(*) from item`).Scan(&n); err != nil || n != 0 {
				t.Errorf("after restart: %d rows, %v", n, err)
			}
		}
	})
}

func TestTracer(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	db := pgtest.Database(t, schema)
	pool := open(t, pg.Config{URL: db.URL(service), TracerProvider: provider})

	const canary = "canary@example.org"
	var s string
	if err := pool.QueryRow(t.Context(), "-- name: echo_text\nselect $1::text", canary).Scan(&s); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "-- name: to_number\nselect $1::text::int", canary); err == nil {
		t.Fatal("cast succeeded")
	}
	batch := new(pgx.Batch)
	batch.Queue("select '" + canary + "'")
	batch.Queue("-- name: second\nupdate item set n = 1")
	if err := pool.SendBatch(t.Context(), batch).Close(); err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, span := range recorder.Ended() {
		names = append(names, span.Name())
		if dump := fmt.Sprintf("%+v", tracetest.SpanStubFromReadOnlySpan(span)); strings.Contains(dump, "canary") {
			t.Errorf("span holds a value: %s", dump)
		}
		switch span.Name() {
		case "select to_number":
			if span.Status().Code != codes.Error || span.Status().Description != "22P02" {
				t.Errorf("status is %+v", span.Status())
			}
		case "batch":
			if events := span.Events(); len(events) != 2 || events[0].Name != "select" || events[1].Name != "update second" {
				t.Errorf("events are %+v", events)
			}
		}
	}
	if want := "select check_durable, select echo_text, select to_number, batch"; !strings.HasSuffix(strings.Join(names, ", "), want) {
		t.Errorf("spans are %q, want %q at the end", names, want)
	}
}

func TestSpanName(t *testing.T) {
	for name, tt := range map[string]struct{ sql, want string }{
		"verb alone":                        {"select 1", "select"},
		"verb in lower case":                {"\n\tINSERT INTO x", "insert"},
		"verb and name":                     {"-- name: find_agent\nselect 1", "select find_agent"},
		"name after another comment":        {"-- why\n  --name: x\nupdate y", "update x"},
		"name is cut at what is no name":    {"-- name: x 'value'\ndelete from y", "delete x"},
		"a name too long is dropped":        {"-- name: " + strings.Repeat("a", 65) + "\nselect", "select"},
		"a literal is no verb":              {"'value'", "query"},
		"a long word is no verb":            {strings.Repeat("v", 17), "query"},
		"comment without end":               {"-- name: x", "query"},
		"empty":                             {"", "query"},
		"parenthesis ends the verb":         {"values(1)", "values"},
		"transaction verbs are plain verbs": {"begin isolation level serializable", "begin"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pg.SpanName(tt.sql); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestURLOfInstanceHoldsNoSecret(t *testing.T) {
	u, err := url.Parse(pgtest.Database(t, schema).URL(service))
	if err != nil {
		t.Fatal(err)
	}
	if _, has := u.User.Password(); has || u.User.Username() != service {
		t.Errorf("user is %v", u.User)
	}
}
