package pgtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/pgtest"
)

// withoutRun makes the test binary one of a package that forgot Run.
const withoutRun = "PGTEST_WITHOUT_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(withoutRun) != "" {
		os.Exit(m.Run())
	}
	os.Exit(pgtest.Run(m))
}

var schema = fstest.MapFS{
	"0001_first.sql": {Data: []byte(`
do $$ begin create role counterfoil_service login; exception when duplicate_object then null; end $$;
create table item (id int primary key);
grant select, insert on item to counterfoil_service;`)},
}

func TestDatabaseBelongsToOneTest(t *testing.T) {
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			pool := pgtest.Database(t, schema).Pool(t, cluster.Roles()[0])
			var user string
			var before int
			if err := pool.QueryRow(t.Context(), `select session_user, (select count(*) from item)`).Scan(&user, &before); err != nil {
				t.Fatal(err)
			}
			if user != "counterfoil_service" || before != 0 {
				t.Errorf("session user %s sees %d rows, want counterfoil_service and 0", user, before)
			}
			if _, err := pool.Exec(t.Context(), `insert into item values (1)`); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPackageWithoutRunFails(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestDatabaseBelongsToOneTest$")
	cmd.Env = append(os.Environ(), withoutRun+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "os.Exit(pgtest.Run(m))") {
		t.Errorf("ended with %v and said:\n%s", err, out)
	}
}

func TestPrivateServersAreApart(t *testing.T) {
	common, own := pgtest.Database(t, schema), pgtest.Private(t, schema)
	conn := common.Superuser(t)
	if err := own.Cluster().Kill(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Errorf("the common server is gone too: %v", err)
	}
	// It stays dead: the end of the test must cope.
}

func TestSweep(t *testing.T) {
	base := t.TempDir()
	for _, tt := range []struct {
		name         string
		locked, old  bool
		wantsRemoval bool
	}{
		{"left behind", false, true, true},
		{"in use", true, true, false},
		{"just made", false, false, false},
	} {
		dir := filepath.Join(base, pgtest.DirPattern+tt.name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		lock, err := os.Create(filepath.Join(dir, "lock"))
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close() //nolint:errcheck // nothing was written
		if tt.locked {
			if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
				t.Fatal(err)
			}
		}
		if tt.old {
			then := time.Now().Add(-time.Hour)
			if err := os.Chtimes(dir, then, then); err != nil {
				t.Fatal(err)
			}
		}
		t.Run(tt.name, func(t *testing.T) {
			pgtest.Sweep(base)
			_, err := os.Stat(dir)
			if removed := os.IsNotExist(err); removed != tt.wantsRemoval {
				t.Errorf("removed: %v, want %v", removed, tt.wantsRemoval)
			}
		})
	}
}
