package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// programs is the directory with the two built programs.
var programs string

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runAll builds the programs, unless COUNTERFOIL_BIN names a directory that has them, and runs the tests.
func runAll(m *testing.M) (int, error) {
	programs = os.Getenv("COUNTERFOIL_BIN")
	if programs == "" {
		dir, err := os.MkdirTemp("", "cf-bin-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		build := exec.Command("go", "build", "-o", dir+"/", "./cmd/counterfoil", "./cmd/counterfoil-verify")
		build.Dir = filepath.Join("..", "..")
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("build the programs: %w\n%s", err, out)
		}
		programs = dir
	}
	for _, name := range []string{"counterfoil", "counterfoil-verify"} {
		if _, err := os.Stat(filepath.Join(programs, name)); errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("COUNTERFOIL_BIN=%s has no %s", programs, name)
		}
	}
	defer closeBrowsers()
	return m.Run(), nil
}

// eventually polls a condition until it holds. Nothing in these tests waits for a fixed time.
func eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("within %s it did not come about that %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// soon is how long a page may take to show what has happened, on a busy machine.
const soon = 15 * time.Second
