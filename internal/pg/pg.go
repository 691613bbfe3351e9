// Package pg opens PostgreSQL the way the product needs it: connections that are known to commit durably, time limits on
// every statement, transactions that are retried when PostgreSQL asks for it, spans that name statements but hold no
// values, and forward-only migrations.
package pg

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
	"go.opentelemetry.io/otel/trace"
)

// Config tells [Open] where to connect and how.
type Config struct {
	// URL is a PostgreSQL URL or keyword/value string.
	URL string
	// Role is the login role; it replaces the user in URL unless empty.
	Role string
	// Dial connects to a server on the network; without it only a socket or loopback is reached.
	Dial pgconn.DialFunc
	// MaxConns bounds the pool; 0 leaves it to pgx (the larger of 4 and the number of CPUs).
	MaxConns int
	// TracerProvider makes a span of each query and batch; nil makes none.
	TracerProvider trace.TracerProvider
}

// ErrNotDurable says that the server may lose a commit that it has acknowledged. The error is a [*NotDurableError].
var ErrNotDurable = errors.New("database does not commit durably")

// NotDurableError names the setting because of which a connection was refused.
type NotDurableError struct {
	Setting string
	Value   string
}

func (e *NotDurableError) Error() string {
	return fmt.Sprintf("%v: %s is %s; turn it on for this database, role and server", ErrNotDurable, e.Setting, e.Value)
}

func (e *NotDurableError) Unwrap() error { return ErrNotDurable }

// Open returns a pool of connections and makes the first one, so that what is wrong shows now.
//
// Each statement may run for 5 s, wait for a lock for 2 s, and a transaction may idle for 10 s. A host that is neither a
// socket nor on loopback must be reached with sslmode=verify-full. Each new connection is refused with [ErrNotDurable]
// while fsync, full_page_writes or synchronous_commit is off for it. Errors never hold the URL.
func Open(ctx context.Context, c Config) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		// pgx quotes the string, password included if it is malformed enough.
		return nil, errors.New("read database URL: it must look like postgres://user@host/database?sslmode=verify-full, and files it names must be readable")
	}
	if err := checkTransport(&cfg.ConnConfig.Config); err != nil {
		return nil, err
	}
	if c.Role != "" {
		cfg.ConnConfig.User = c.Role
	}
	c.route(&cfg.ConnConfig.Config)
	if c.MaxConns > 0 {
		cfg.MaxConns = int32(min(c.MaxConns, 1<<16))
	}
	params := cfg.ConnConfig.RuntimeParams
	params["application_name"] = "counterfoil"
	params["statement_timeout"] = "5s"
	params["lock_timeout"] = "2s"
	params["idle_in_transaction_session_timeout"] = "10s"
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	cfg.ConnConfig.StatementCacheCapacity = 512
	cfg.AfterConnect = prepareConn
	if c.TracerProvider != nil {
		cfg.ConnConfig.Tracer = newTracer(c.TracerProvider)
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return pool, nil
}

// Connect makes one connection, with the transport of [Open] and none of its limits and checks: for those who bring the schema up to date
// or examine the server.
func Connect(ctx context.Context, c Config) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, errors.New("read database URL: it must look like postgres://user@host/database?sslmode=verify-full, and files it names must be readable")
	}
	if err := checkTransport(&cfg.Config); err != nil {
		return nil, err
	}
	c.route(&cfg.Config)
	return pgx.ConnectConfig(ctx, cfg)
}

// route makes connections go by Dial, which is given names as they stand in the URL: what they lead to is for it to find.
func (c Config) route(cfg *pgconn.Config) {
	direct := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		switch {
		case network == "unix" || c.Dial == nil && loopback(host):
			return direct(ctx, network, address)
		case c.Dial == nil:
			return nil, errors.New("nothing leads to a database off this host")
		}
		return c.Dial(ctx, network, address)
	}
	cfg.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
}

// Hosts lists host:port of every server that a URL names and that is reached over the network.
func Hosts(url string) ([]string, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, errors.New("read database URL: it must look like postgres://user@host/database?sslmode=verify-full, and files it names must be readable")
	}
	var all []string
	add := func(host string, port uint16) {
		if network, address := pgconn.NetworkAddress(host, port); network != "unix" {
			all = append(all, strings.ToLower(address))
		}
	}
	add(cfg.Host, cfg.Port)
	for _, f := range cfg.Fallbacks {
		add(f.Host, f.Port)
	}
	return all, nil
}

// loopback reports whether a host is this one by definition.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// checkTransport refuses a configuration that could, for any of its hosts and fallbacks, send data over a network
// without knowing who receives it.
func checkTransport(c *pgconn.Config) error {
	if err := checkHost(c.Host, c.TLSConfig); err != nil {
		return err
	}
	for _, f := range c.Fallbacks {
		if err := checkHost(f.Host, f.TLSConfig); err != nil {
			return err
		}
	}
	return nil
}

func checkHost(host string, t *tls.Config) error {
	if network, _ := pgconn.NetworkAddress(host, 0); network == "unix" || loopback(host) {
		return nil
	}
	// Of the sslmodes only verify-full leaves the check of chain and name to crypto/tls.
	if t != nil && !t.InsecureSkipVerify && t.ServerName != "" {
		return nil
	}
	return fmt.Errorf("refuse to connect to database host %q without verified TLS: add sslmode=verify-full to the URL, and sslrootcert=FILE if its certificate comes from a private authority", host)
}

// prepareConn makes a new connection ready, or refuses it.
func prepareConn(ctx context.Context, conn *pgx.Conn) error {
	pgxuuid.Register(conn.TypeMap()) // binary, in place of the text that uuid.UUID offers database/sql
	return checkDurable(ctx, conn)
}

// checkDurable refuses a connection on which an acknowledged commit may be lost. What synchronous_commit is now it stays for the
// connection, whatever the server's configuration says later; the other two are the server's alone.
func checkDurable(ctx context.Context, conn *pgx.Conn) error {
	var fsync, fullPageWrites, synchronousCommit string
	err := conn.QueryRow(ctx, `-- name: check_durable
select current_setting('fsync'), current_setting('full_page_writes'), set_config('synchronous_commit', current_setting('synchronous_commit'), false)`).
		Scan(&fsync, &fullPageWrites, &synchronousCommit)
	if err != nil {
		return fmt.Errorf("check durability of database: %w", err)
	}
	switch {
	case fsync != "on":
		return &NotDurableError{Setting: "fsync", Value: fsync}
	case fullPageWrites != "on":
		return &NotDurableError{Setting: "full_page_writes", Value: fullPageWrites}
	}
	switch synchronousCommit {
	case "on", "remote_write", "remote_apply", "local":
		return nil
	}
	return &NotDurableError{Setting: "synchronous_commit", Value: synchronousCommit}
}

const maxAttempts = 5

// Tx runs f in a transaction and commits it, or rolls it back when f fails or panics. When PostgreSQL reports a
// serialization failure (40001) or a deadlock (40P01), which leave nothing behind, it runs f again in a new transaction,
// five times at most; so f must have no effect but through its argument.
//
// An error for which [IsConnectionLost] holds leaves open whether the transaction was committed.
func Tx(ctx context.Context, pool *pgxpool.Pool, f func(pgx.Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := once(ctx, pool, f)
		if attempt == maxAttempts || !wantsRetry(err) {
			return err
		}
		pause := time.NewTimer(rand.N(5 * time.Millisecond << attempt))
		select {
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(err, ctx.Err())
		case <-pause.C:
		}
	}
}

func once(ctx context.Context, pool *pgxpool.Pool, f func(pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	// Rolls back also when f panics, and does nothing after a commit. If it fails, the connection is gone, and the
	// transaction with it.
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // see above
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		if _, ok := errors.AsType[*pgconn.PgError](err); ok || errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, pgx.ErrTxClosed) {
			return fmt.Errorf("commit transaction: %w", err)
		}
		return &lostCommitError{err: err}
	}
	return nil
}

// lostCommitError says that no answer to a COMMIT was received.
type lostCommitError struct{ err error }

func (e *lostCommitError) Error() string { return "commit transaction: no answer: " + e.err.Error() }
func (e *lostCommitError) Unwrap() error { return e.err }

func wantsRetry(err error) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pgErr.Code == "40001" || pgErr.Code == "40P01")
}

// IsConnectionLost reports whether err means that the connection broke or could not be made, so that nobody knows
// whether a statement that was under way has taken effect. A context that ended while a commit was under way counts: it
// costs the connection. An error that PostgreSQL reported on a connection that lives on does not.
func IsConnectionLost(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.SeverityUnlocalized == "FATAL" || pgErr.SeverityUnlocalized == "PANIC" || strings.HasPrefix(pgErr.Code, "08")
	}
	if _, ok := errors.AsType[*lostCommitError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return pgconn.Timeout(err) || errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
