//go:build outside

package outside

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
)

const (
	patience   = 2 * time.Minute
	impatience = 15 * time.Second // for what is damaged, on which fsck may hang
)

func TestFsckAcceptsExportsOfEverySize(t *testing.T) {
	all, s := entries(t, largest, 0), signer(t, 1)
	grown := t.TempDir()
	for _, n := range sizes {
		t.Run(named(n), func(t *testing.T) {
			fresh := t.TempDir()
			export(t, fresh, s, all[:n])
			export(t, grown, s, all[:n])
			for what, dir := range map[string]string{"written at once": fresh, "grown": grown} {
				if good, out := fsckAccepts(t, dir, patience); !good {
					t.Errorf("%s: fsck does not accept it:\n%s", what, out)
				}
			}
		})
	}
}

// overwrite changes one file of an export.
func overwrite(t *testing.T, dir, name string, change func([]byte) []byte) {
	t.Helper()
	write(t, dir, name, string(change([]byte(read(t, dir, name)))))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 1; return b }
}

func TestFsckRefusesWhatWasTamperedWith(t *testing.T) {
	all, s := entries(t, 600, 0), signer(t, 1)
	for name, tamper := range map[string]func(t *testing.T, dir string){
		"a bit of a record":     func(t *testing.T, dir string) { overwrite(t, dir, "tile/entries/001", flip(500)) },
		"a bit of a tile":       func(t *testing.T, dir string) { overwrite(t, dir, "tile/0/001", flip(500)) },
		"a bit of an upper one": func(t *testing.T, dir string) { overwrite(t, dir, "tile/1/000.p/2", flip(40)) },
		"bundles in each other's place": func(t *testing.T, dir string) {
			first, second := read(t, dir, "tile/entries/000"), read(t, dir, "tile/entries/001")
			write(t, dir, "tile/entries/000", second)
			write(t, dir, "tile/entries/001", first)
		},
		"a bundle that is gone": func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "tile/entries/001"))) },
		"a last bundle that is gone": func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "tile/entries/002.p/88")))
		},
		"another size in the checkpoint": func(t *testing.T, dir string) {
			overwrite(t, dir, "checkpoint", func(b []byte) []byte { return []byte(strings.Replace(string(b), "\n600\n", "\n599\n", 1)) })
		},
		"another history under the old checkpoint": func(t *testing.T, dir string) {
			kept := read(t, dir, "checkpoint")
			must(t, os.RemoveAll(filepath.Join(dir, "tile")))
			must(t, os.Remove(filepath.Join(dir, "checkpoint")))
			export(t, dir, s, entries(t, 600, 9))
			write(t, dir, "checkpoint", kept)
		},
		"a checkpoint by another key": func(t *testing.T, dir string) {
			other := t.TempDir()
			export(t, other, signer(t, 2), all)
			write(t, dir, "checkpoint", read(t, other, "checkpoint"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time passes in waiting for what hangs
			dir := t.TempDir()
			export(t, dir, s, all)
			tamper(t, dir)
			if good, out := fsckAccepts(t, dir, impatience); good {
				t.Errorf("fsck accepts it:\n%s", out)
			}
			report, err := audit.VerifyExport(t.Context(), os.DirFS(dir), audit.Options{Key: s.VerifierKey()})
			if err != nil || len(report.Faults) == 0 {
				t.Errorf("we accept it: %v", err)
			}
		})
	}
}

func TestSpicyAcceptsTheProofsOfRecordsAndNoOthers(t *testing.T) {
	all, s := entries(t, largest, 0), signer(t, 1)
	for _, n := range sizes[1:] {
		t.Run(named(n), func(t *testing.T) {
			dir := t.TempDir()
			export(t, dir, s, all[:n])
			for _, index := range []int{0, n / 2, n - 1} {
				if good, out := spicyAccepts(t, s.VerifierKey(), all[index], proof(t, dir, s, uint64(index))); !good {
					t.Errorf("record %d of %d: spicy does not accept it:\n%s", index, n, out)
				}
			}
			last := proof(t, dir, s, uint64(n-1))
			altered := strings.Replace(string(all[n-1]), `"allow"`, `"deny!"`, 1)
			for what, c := range map[string]struct {
				vkey          string
				record, proof []byte
			}{
				"an altered record": {s.VerifierKey(), []byte(altered), last},
				"another index":     {s.VerifierKey(), all[n-1], []byte(strings.Replace(string(last), "\nindex ", "\nindex 1", 1))},
				"another key":       {signer(t, 2).VerifierKey(), all[n-1], last},
				"another root":      {s.VerifierKey(), all[n-1], otherRoot(last)},
			} {
				if good, out := spicyAccepts(t, c.vkey, c.record, c.proof); good {
					t.Errorf("%d records: spicy accepts %s:\n%s", n, what, out)
				}
			}
		})
	}
}

// otherRoot alters the root in the checkpoint of a proof.
func otherRoot(proof []byte) []byte {
	head, checkpoint, _ := strings.Cut(string(proof), "\n\n")
	lines := strings.Split(checkpoint, "\n")
	lines[2] = "A" + lines[2][1:]
	if strings.Contains(checkpoint, lines[2]) {
		lines[2] = "B" + lines[2][1:]
	}
	return []byte(head + "\n\n" + strings.Join(lines, "\n"))
}
