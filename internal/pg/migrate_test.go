package pg_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/pgtest"
)

func file(sql string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(sql)} }

// empty returns a connection to a database that no migration was applied to.
func empty(t *testing.T) *pgx.Conn {
	t.Helper()
	return pgtest.Database(t, fstest.MapFS{}).Superuser(t)
}

func has(t *testing.T, conn *pgx.Conn, table string) (exists bool) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `select to_regclass($1) is not null`, table).Scan(&exists); err != nil {
		t.Fatal(err)
	}
	return exists
}

func TestMigrate(t *testing.T) {
	conn := empty(t)
	fsys := fstest.MapFS{
		"0001_a.sql": file("create table a (id int);\ninsert into a values (1);"),
		"0002_b.sql": file("create table b (id int);"),
		"README.md":  file("not a migration"),
	}
	migrate := func(t *testing.T, fsys fs.FS, want ...string) {
		t.Helper()
		applied, err := pg.Migrate(t.Context(), conn, fsys)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(applied, want) {
			t.Errorf("applied %q, want %q", applied, want)
		}
	}
	migrate(t, fsys, "0001_a.sql", "0002_b.sql")
	migrate(t, fsys)

	t.Run("keeps what succeeded before a failure, nothing of what failed, and names the line", func(t *testing.T) {
		fsys["0003_c.sql"] = file("create table c (id int);")
		fsys["0004_d.sql"] = file("create table d (id int);\n-- ünïcödé\nselect nothing_like_it;\n")
		applied, err := pg.Migrate(t.Context(), conn, fsys)
		if !slices.Equal(applied, []string{"0003_c.sql"}) || err == nil || !strings.Contains(err.Error(), "0004_d.sql: line 3:") {
			t.Errorf("applied %q, error %v", applied, err)
		}
		if !has(t, conn, "c") || has(t, conn, "d") {
			t.Error("c must be there and d not")
		}
	})
	t.Run("goes on where it stopped", func(t *testing.T) {
		fsys["0004_d.sql"] = file("create table d (id int);")
		migrate(t, fsys, "0004_d.sql")
	})
	t.Run("restores the time limits of the session", func(t *testing.T) {
		own, err := pgx.Connect(t.Context(), conn.Config().ConnString()+"&statement_timeout=4s&lock_timeout=3s")
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close(t.Context()) //nolint:errcheck // nothing depends on it
		if _, err := pg.Migrate(t.Context(), own, fsys); err != nil {
			t.Fatal(err)
		}
		var limits string
		if err := own.QueryRow(t.Context(), `select current_setting('statement_timeout') || current_setting('lock_timeout')`).Scan(&limits); err != nil || limits != "4s3s" {
			t.Errorf("limits are %s, %v", limits, err)
		}
	})
}

func TestMigrateRefuses(t *testing.T) {
	good := fstest.MapFS{"0001_a.sql": file("create table a (id int);"), "0002_b.sql": file("create table b (id int);")}
	for name, tt := range map[string]struct {
		fsys fstest.MapFS
		is   error
		says string
	}{
		"a changed file":           {fstest.MapFS{"0001_a.sql": file("create table a (id bigint);"), "0002_b.sql": good["0002_b.sql"]}, pg.ErrMigrationChanged, "0001_a.sql"},
		"a renamed file":           {fstest.MapFS{"0001_x.sql": good["0001_a.sql"], "0002_b.sql": good["0002_b.sql"]}, pg.ErrMigrationChanged, "0001_x.sql"},
		"a newer database":         {fstest.MapFS{"0001_a.sql": good["0001_a.sql"]}, pg.ErrDatabaseNewer, "0002_b.sql"},
		"a gap":                    {fstest.MapFS{"0001_a.sql": good["0001_a.sql"], "0003_c.sql": file("create table c ()")}, nil, "found 0003_c.sql where number 0002 is due"},
		"a number twice":           {fstest.MapFS{"0001_a.sql": good["0001_a.sql"], "0001_b.sql": file("create table c ()")}, nil, "0001_a.sql and 0001_b.sql have the same number"},
		"number zero":              {fstest.MapFS{"0000_a.sql": file("create table c ()")}, nil, "found 0000_a.sql where number 0001 is due"},
		"a name of another form":   {fstest.MapFS{"1_a.sql": file("create table c ()")}, nil, "is not named"},
		"a file that commits":      {fstest.MapFS{"0001_a.sql": good["0001_a.sql"], "0002_b.sql": good["0002_b.sql"], "0003_c.sql": file("commit;")}, nil, "ends the transaction"},
		"a file that rolls back":   {fstest.MapFS{"0001_a.sql": good["0001_a.sql"], "0002_b.sql": good["0002_b.sql"], "0003_c.sql": file("rollback;")}, nil, "ends the transaction"},
		"a list with a lost entry": {good, nil, "number 1 is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := empty(t)
			if _, err := pg.Migrate(t.Context(), conn, good); err != nil {
				t.Fatal(err)
			}
			if name == "a list with a lost entry" {
				if _, err := conn.Exec(t.Context(), `delete from counterfoil.migration where number = 1`); err != nil {
					t.Fatal(err)
				}
			}
			applied, err := pg.Migrate(t.Context(), conn, tt.fsys)
			if err == nil || len(applied) != 0 || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("applied %q, error %v", applied, err)
			}
			// The refusal leaves no lock behind.
			if name == "a list with a lost entry" {
				return
			}
			other, err := pgx.ConnectConfig(t.Context(), conn.Config())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close(t.Context()) //nolint:errcheck // nothing depends on it
			if _, err := pg.Migrate(t.Context(), other, good); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestMigrateAtOnce(t *testing.T) {
	db := pgtest.Database(t, fstest.MapFS{})
	fsys := fstest.MapFS{"0001_a.sql": file("create table a (id int); select pg_sleep(0.05);"), "0002_b.sql": file("create table b (id int);")}
	type result struct {
		applied []string
		err     error
	}
	results := make(chan result)
	const processes = 4
	for range processes {
		go func() {
			// The limit is shorter than the wait for the others may be.
			conn, err := pgx.Connect(t.Context(), db.URL(cluster.Superuser)+"&lock_timeout=1ms&statement_timeout=20ms")
			if err != nil {
				results <- result{err: err}
				return
			}
			applied, err := pg.Migrate(t.Context(), conn, fsys)
			results <- result{applied, errors.Join(err, conn.Close(t.Context()))}
		}()
	}
	total := 0
	for range processes {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		total += len(r.applied)
	}
	if total != 2 {
		t.Errorf("%d files were applied by all together, want 2", total)
	}
}
