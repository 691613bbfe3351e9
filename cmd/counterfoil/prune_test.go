package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/chat"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg/cluster"
	"counterfoil/policy"
)

// Records that are old enough go from the database and, when that is wanted, from the published directory, each only after it is in a
// checked export; what is published verifies at each step, and names the record that excuses what is missing.
func TestPrunedRecordsGoFromWhatIsPublishedToo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	h.run("alice", 0, "Made organisation", "org", "create", "Contoso")
	var out, errs bytes.Buffer
	a := &app{ctx, &out, &errs, append(h.env, "PATH="+os.Getenv("PATH")), egress.New(), "en"}
	grow := func(age string) {
		t.Helper()
		err := a.within("", func(heart *heart, o chat.Organisation) error {
			var wait sync.WaitGroup
			failed := make(chan error, 600)
			for range 600 {
				wait.Go(func() { failed <- heart.gate.Act(ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.list", nil) })
			}
			wait.Wait()
			close(failed)
			for err := range failed {
				if err != nil {
					return err
				}
			}
			if err := heart.publishers[0].Publish(ctx); err != nil {
				return err
			}
			if err := heart.log.Index(ctx); err != nil || age == "" {
				return err
			}
			url, err := cluster.RunningURL(clusterDir(heart.config), cluster.Superuser, cluster.Database)
			if err != nil {
				return err
			}
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				return err
			}
			defer conn.Close(ctx) //nolint:errcheck // the statements are what counts
			for _, sql := range []string{
				"select audit.ensure_months((now() - interval '" + age + "')::date, 1)",
				"alter table audit.record disable trigger append_only", "alter table audit.search disable trigger append_only",
				"update audit.record set at = at - interval '" + age + "'", "update audit.search set at = at - interval '" + age + "'",
				"alter table audit.record enable always trigger append_only", "alter table audit.search enable always trigger append_only",
			} {
				if _, err := conn.Exec(ctx, sql); err != nil {
					return fmt.Errorf("%s: %w", sql, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
		}
	}
	grow("14 months")
	grow("")
	dirs := h.exported()
	if len(dirs) != 1 {
		t.Fatalf("published are %q", dirs)
	}
	published, kept := dirs[0], filepath.Join(h.data, "kept")
	h.run("alice", 0, "The log is good", "audit", "verify", published)
	h.run("alice", 2, "is where the log is published", "audit", "prune", published, "--published")
	h.run("alice", 2, "is where the log is published", "audit", "prune", filepath.Join(published, "below"), "--published")
	h.run("alice", 0, "512 records, from 0 up to 511, would go.\nWhat "+published+" has of the records before 512 would go.", "audit", "prune", kept, "--published", "--dry-run")

	// The command may end between the database and the directory.
	h.run("alice", 0, "Removed 512 records, from 0 up to 511", "audit", "prune", kept)
	h.run("alice", 0, "The log is good", "audit", "verify", published)
	bundle := filepath.Join(published, "tile", "entries", "000")
	if _, err := os.Stat(bundle); err != nil {
		t.Fatalf("it was not asked for, and yet: %v", err)
	}
	// Not after an export that does not hold what goes.
	h.run("alice", 1, "Nothing was removed: the export in", "audit", "prune", filepath.Join(h.data, "late"), "--published")
	if err := os.Rename(filepath.Join(kept, "tile", "entries", "001"), filepath.Join(h.data, "away")); err != nil {
		t.Fatal(err)
	}
	h.run("alice", 1, "Nothing was removed: the export in", "audit", "prune", kept, "--published")
	if err := os.Rename(filepath.Join(h.data, "away"), filepath.Join(kept, "tile", "entries", "001")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bundle); err != nil {
		t.Fatal(err)
	}
	h.run("alice", 0, "Removed 2 files of records from what is published in "+published+". It verifies from record 512 on", "audit", "prune", kept, "--published")
	if _, err := os.Stat(bundle); err == nil {
		t.Error("the bundle is still published")
	}
	h.run("alice", 0, "Records 0 to 511 were pruned, as record ", "audit", "verify", published)
	h.run("alice", 0, "Removed 0 files", "audit", "prune", kept, "--published")
	h.run("alice", 0, "The log is good", "audit", "verify", kept)

	// What is published goes on, and old records can be proved from it.
	grow("")
	h.run("alice", 0, "Records 0 to 511 were pruned, as record ", "audit", "verify", published)
	h.run("alice", 0, "records.unpublish", "audit", "list", "--last", "1000")
}
