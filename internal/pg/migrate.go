package pg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrMigrationChanged says that a file is not the one that was applied under its number.
	ErrMigrationChanged = errors.New("applied migration was changed")
	// ErrDatabaseNewer says that the database has migrations which this binary does not know.
	ErrDatabaseNewer = errors.New("database is newer than this program")
)

// migrationLock is the advisory lock held while migrating; the number only has to be ours.
const migrationLock = 0x636f756e746572

const (
	createMigrationTable = `
create schema if not exists counterfoil;
create table if not exists counterfoil.migration (
	number     int not null,
	name       text not null,
	sha256     bytea not null,
	applied_at timestamptz not null default clock_timestamp(),
	constraint migration_pkey primary key (number)
);
comment on table counterfoil.migration is 'Applied migrations: the file of each number, by name and hash.'`
	selectMigrations = `-- name: select_migrations
select number, name, sha256 from counterfoil.migration order by number`
	insertMigration = `-- name: insert_migration
insert into counterfoil.migration (number, name, sha256) values ($1, $2, $3)`
)

// migration is one file.
type migration struct {
	number int
	name   string // of the file
	sql    string
	hash   [sha256.Size]byte
}

// Migrate applies those files NNNN_name.sql at the root of fsys that the database does not have yet, in the order of
// their numbers, each in a transaction of its own, and returns the names of those it applied, also when a later one
// failed. Files are never undone. Several processes may call it at once: an advisory lock lets one at a time do the work.
//
// Nothing is applied when the numbers have a gap or a double, when an applied file has changed ([ErrMigrationChanged]),
// or when the database has a migration that fsys lacks ([ErrDatabaseNewer]). The role of conn must own the database, and
// be allowed whatever the files do; its time limits are lifted meanwhile, only ctx bounds the work.
func Migrate(ctx context.Context, conn *pgx.Conn, fsys fs.FS) (applied []string, err error) {
	files, err := readMigrations(fsys)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `set statement_timeout = 0; set lock_timeout = 0`, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("lift time limits: %w", err)
	}
	if _, err := conn.Exec(ctx, `select pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	defer func() {
		// A lost connection has released the lock, and has no settings to restore.
		if conn.IsClosed() {
			return
		}
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), fmt.Sprintf(`select pg_advisory_unlock(%d); reset statement_timeout; reset lock_timeout`, int64(migrationLock)), pgx.QueryExecModeSimpleProtocol)
		if unlockErr != nil {
			err = errors.Join(err, fmt.Errorf("unlock migrations: %w", unlockErr))
		}
	}()
	done, err := countApplied(ctx, conn, files)
	if err != nil {
		return nil, err
	}
	for _, m := range files[done:] {
		if err := apply(ctx, conn, m); err != nil {
			return applied, fmt.Errorf("apply migration %s: %w", m.name, err)
		}
		applied = append(applied, m.name)
	}
	return applied, nil
}

var migrationName = regexp.MustCompile(`^([0-9]{4})_[a-z0-9_]+\.sql$`)

// readMigrations returns the files in order; the one at index i has number i+1.
func readMigrations(fsys fs.FS) ([]migration, error) {
	names, err := fs.Glob(fsys, "*.sql") // sorted, so by number
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	var files []migration
	for _, name := range names {
		m := migrationName.FindStringSubmatch(name)
		if m == nil {
			return nil, fmt.Errorf("list migrations: %s is not named NNNN_name.sql", name)
		}
		number, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, fmt.Errorf("list migrations: %w", err)
		}
		switch want := len(files) + 1; {
		case number < want && number > 0:
			return nil, fmt.Errorf("list migrations: %s and %s have the same number", files[number-1].name, name)
		case number != want:
			return nil, fmt.Errorf("list migrations: found %s where number %04d is due", name, want)
		}
		content, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		files = append(files, migration{number: number, name: name, sql: string(content), hash: sha256.Sum256(content)})
	}
	return files, nil
}

// countApplied returns how many of files the database has, after checking that they are the same.
func countApplied(ctx context.Context, conn *pgx.Conn, files []migration) (int, error) {
	if _, err := conn.Exec(ctx, createMigrationTable, pgx.QueryExecModeSimpleProtocol); err != nil {
		return 0, fmt.Errorf("make migration table: %w", err)
	}
	type row struct {
		Number int
		Name   string
		Hash   []byte `db:"sha256"`
	}
	rows, err := conn.Query(ctx, selectMigrations)
	if err != nil {
		return 0, fmt.Errorf("list applied migrations: %w", err)
	}
	applied, err := pgx.CollectRows(rows, pgx.RowToStructByName[row])
	if err != nil {
		return 0, fmt.Errorf("list applied migrations: %w", err)
	}
	for i, a := range applied {
		switch {
		case a.Number != i+1:
			return 0, fmt.Errorf("list applied migrations: number %d is missing from the database's own list", i+1)
		case i >= len(files):
			return 0, fmt.Errorf("%w: it has %s; start the program that made it, or a later one", ErrDatabaseNewer, applied[len(applied)-1].Name)
		case a.Name != files[i].name || !bytes.Equal(a.Hash, files[i].hash[:]):
			return 0, fmt.Errorf("%w: the database has %s with hash %.4x, this program %s with %.4x; put changes into a new file", ErrMigrationChanged, a.Name, a.Hash, files[i].name, files[i].hash)
		}
	}
	return len(applied), nil
}

func apply(ctx context.Context, conn *pgx.Conn, m migration) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, m.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return located(err, m.sql)
		}
		if conn.PgConn().TxStatus() != 'T' {
			return errors.New("the file ends the transaction it is run in")
		}
		if _, err := tx.Exec(ctx, insertMigration, m.number, m.name, m.hash[:]); err != nil {
			return fmt.Errorf("note migration: %w", err)
		}
		return nil
	})
}

// located adds the line that PostgreSQL complains about; it counts in characters.
func located(err error, sql string) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pgErr.Position <= 0 {
		return err
	}
	line := 1
	for i, n := 0, int(pgErr.Position)-1; i < len(sql) && n > 0; n-- {
		r, size := utf8.DecodeRuneInString(sql[i:])
		if r == '\n' {
			line++
		}
		i += size
	}
	return fmt.Errorf("line %d: %w", line, err)
}
