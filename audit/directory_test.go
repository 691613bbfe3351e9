//go:build unix

package audit_test

import (
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"counterfoil/audit"
)

func TestWhatStandsInThePlaceOfAFileIsFoundAsEverywhereElse(t *testing.T) {
	const n = 600
	s := testSigner(t, 1, origin)
	verify := func(dir string, plain bool) (audit.Report, error) {
		files := audit.Files(dir)
		if plain {
			files = os.DirFS(dir)
		}
		return audit.VerifyExport(t.Context(), files, audit.Options{Key: s.VerifierKey()})
	}
	for name, put := range map[string]func(path string) error{
		"nothing":      func(string) error { return nil },
		"a directory":  func(path string) error { return os.Mkdir(path, 0o700) },
		"a loop":       func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"an empty one": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a large one":  func(path string) error { return os.WriteFile(path, make([]byte, 256*(2+audit.MaxEntry)+1), 0o600) },
		"a pipe":       func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			export(t, dir, s, history(t, n, 0))
			if r, err := verify(dir, false); err != nil || len(r.Faults) > 0 || r.Records != n {
				t.Fatalf("the export itself: %v, %+v", err, r.Faults)
			}
			path := filepath.Join(dir, filepath.FromSlash(audit.BundlePath(0, audit.TileWidth)))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			fast, err := verify(dir, false)
			if err == nil && len(fast.Faults) == 0 {
				t.Fatal("verified")
			}
			if name == "a pipe" {
				return // where os.DirFS waits for a writer
			}
			plain, plainErr := verify(dir, true)
			if (err == nil) != (plainErr == nil) || !reflect.DeepEqual(fast.Faults, plain.Faults) {
				t.Errorf("%v, %+v, where os.DirFS gives %v, %+v", err, fast.Faults, plainErr, plain.Faults)
			}
		})
	}
}
