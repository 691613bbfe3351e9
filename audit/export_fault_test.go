package audit_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"counterfoil/audit"
)

// TestWhereverAnExportBreaksOff lets the disk fill up at every file that is written. What the directory held before must
// still verify, and the next export must complete it.
func TestWhereverAnExportBreaksOff(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	for _, first := range []int{0, 100, 256, 300} {
		fresh := t.TempDir()
		keeping(t, fresh, s, all[:first], -1)
		keeping(t, fresh, s, all, -1)
		want := listing(t, fresh)
		for n := 0; ; n++ {
			dir := t.TempDir()
			keeping(t, dir, s, all[:first], -1)
			err := keeping(t, dir, s, all, n)
			if err != nil && !errors.Is(err, audit.ErrDiskFull) {
				t.Fatal(err)
			}
			what := fmt.Sprintf("from %d, after %d files", first, n)
			if r := verify(t, dir, audit.Options{Key: s.VerifierKey()}); len(r.Faults) > 0 || r.Checkpoint.Size != map[bool]uint64{true: uint64(first), false: 600}[err != nil] {
				t.Errorf("%s: %d records, %v", what, r.Checkpoint.Size, r.Faults)
			}
			if err := keeping(t, dir, s, all, -1); err != nil {
				t.Fatalf("%s: the next export fails: %v", what, err)
			}
			have := listing(t, dir)
			for name, data := range want {
				if have[name] != data {
					t.Errorf("%s: %s differs", what, name)
				}
			}
			for name := range have {
				if _, ok := want[name]; !ok && !strings.Contains(name, ".new-") {
					t.Errorf("%s: %s is left over", what, name)
				}
			}
			if err == nil {
				break
			}
		}
	}
}

// keeping exports with all checkpoints kept; unless it is negative, writes fails is how many files can be written.
func keeping(t *testing.T, dir string, s *audit.Signer, entries [][]byte, writes int) error {
	t.Helper()
	w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	w.KeepCheckpoints()
	if writes >= 0 {
		audit.FailAfter(w, writes)
	}
	return w.Write(t.Context(), sign(t, s, uint64(len(entries)), rootOf(entries)), from(entries, w.Next()))
}

func TestACheckpointThatWasKeptIsNeverReplaced(t *testing.T) {
	s, all, dir := testSigner(t, 1, origin), history(t, 600, 0), t.TempDir()
	if err := keeping(t, dir, s, all[:300], -1); err != nil {
		t.Fatal(err)
	}
	kept := listing(t, dir)["checkpoints/300"]
	if kept != listing(t, dir)["checkpoint"] {
		t.Fatalf("kept %q", kept)
	}
	if err := keeping(t, dir, s, all, -1); err != nil || listing(t, dir)["checkpoints/300"] != kept {
		t.Errorf("%v", err)
	}
	// Somebody puts the directory back, but for the checkpoint that was kept, and goes on with another history.
	a := attack{t, dir, s, all}
	a.clear()
	if err := keeping(t, dir, s, history(t, 600, 5), -1); !errors.Is(err, audit.ErrFork) {
		t.Errorf("another history went over it: %v", err)
	}
	if _, err := os.Stat(dir + "/checkpoint"); err == nil {
		t.Error("another history is published")
	}
}
