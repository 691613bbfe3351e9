package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"counterfoil/internal/inventory"
)

// SEED-ORG-4, C4: a backup counts when a copy of it was started and its logs verified, and not before.
func TestABackupIsProvedBeforeItCountsAndRestoredWithoutForgettingWhatWasPublished(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := filepath.Join(filepath.Dir(h.data), "backups")
	r := serve(t, h.path, h.env)

	// Killed on the way, it leaves nothing that looks like a backup, and the next one clears it away.
	broken := exec.Command(h.path, "backup", "create", dir)
	broken.Env = append(os.Environ(), h.env...)
	said, err := broken.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := broken.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(said); lines.Scan() && !strings.Contains(lines.Text(), "proving"); {
	}
	_ = broken.Process.Kill()
	_ = broken.Wait()
	if out := h.run("alice", 0, "", "backup", "list", dir, "--json"); out != "" {
		t.Errorf("a killed backup is listed: %s", out)
	}

	var b backed
	lines := strings.Split(strings.TrimSpace(h.run("alice", 0, "", "backup", "create", dir, "--json")), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &b); err != nil || b.Logs != 1 || b.Records == 0 || b.Bytes == 0 {
		t.Fatalf("%+v, %v in %s", b, err, lines)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("there is %v, %v", left, err)
	}
	good := filepath.Join(dir, b.Name)
	h.run("alice", 0, b.Name, "backup", "list", dir)
	h.run("alice", 0, b.Name, "backup", "verify", good)
	h.run("alice", 2, "stop it first", "backup", "restore", good)
	for _, action := range []string{backupMade, backupProved} {
		h.run("alice", 0, `"action":"`+action+`"`, "audit", "list", "--json")
	}
	h.stop(r)

	// One byte that changed is enough.
	bad := filepath.Join(dir, "bad")
	if out, err := exec.Command("cp", "-a", good, bad).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	table := filepath.Join(bad, "pgdata", "global", "1262")
	raw, err := os.ReadFile(table)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(table, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	h.run("alice", 1, "The backup is not good", "backup", "verify", bad)
	h.run("alice", 3, "checksum mismatch", "backup", "restore", bad)
	if _, err := os.Stat(filepath.Join(h.data, "postgresql", "pgdata")); err != nil {
		t.Errorf("a bad backup moved the database aside: %v", err)
	}

	// The log in the backup is older than what was published since: nothing grows or is disclosed until two decide.
	h.run("alice", 1, "audit recover", "backup", "restore", good)
	if aside, _ := filepath.Glob(filepath.Join(h.data, "postgresql", "pgdata.before-*")); len(aside) != 1 {
		t.Errorf("the former database lies in %v", aside)
	}
	h.run("alice", 3, "", "audit", "list")

	// Whatever the service wrote beside its database is in the inventory.
	list, err := inventory.Read()
	if err != nil {
		t.Fatal(err)
	}
	wrote, err := os.ReadDir(h.data)
	if err != nil || len(wrote) < 4 {
		t.Fatalf("the data directory has %v, %v", wrote, err)
	}
	for _, e := range wrote {
		if !slices.Contains(list.Folders(), e.Name()) {
			t.Errorf("the inventory does not say what is in %s of the data directory", e.Name())
		}
	}
}

func TestOldBackupsGoAndTheNewestStay(t *testing.T) {
	dir := t.TempDir()
	for day := range 5 {
		made := time.Date(2026, 11, 20+day, 2, 0, 0, 0, time.UTC)
		name := filepath.Join(dir, made.Format(backupTime))
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := writeReport(name, backed{Made: made}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "something else"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := thinBackups(dir, 2); err != nil {
		t.Fatal(err)
	}
	all, err := backups(dir)
	if err != nil || len(all) != 2 || all[0].Name != "20261124T020000Z" || all[1].Name != "20261123T020000Z" {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "something else")); err != nil {
		t.Error(err)
	}
}
