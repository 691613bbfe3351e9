//go:build outside

package outside

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"counterfoil/internal/pg/pgtest"
)

// Programs of others, in the versions whose behaviour these tests know.
const (
	fsckModule        = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"
	spicyModule       = "filippo.io/torchwood/cmd/spicy@v0.9.0"
	litewitnessModule = "filippo.io/torchwood/cmd/litewitness@v0.9.0"
	versitygwModule   = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
)

var fsck, spicy, litewitness, versitygw string

func TestMain(m *testing.M) {
	for program, module := range map[*string]string{&fsck: fsckModule, &spicy: spicyModule, &litewitness: litewitnessModule, &versitygw: versitygwModule} {
		var err error
		if *program, err = install(module); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	for _, name := range []string{"ssh-agent", "ssh-add", "ssh-keygen", "sqlite3"} {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintf(os.Stderr, "%s is missing: install the packages openssh-client and sqlite3 (internal/setup/need.sh ssh sqlite3)\n", name)
			os.Exit(1)
		}
	}
	os.Exit(pgtest.Run(m))
}

// install builds a program into the user's cache, once for each version.
func install(module string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path, version, _ := strings.Cut(module, "@")
	dir := filepath.Join(cache, "counterfoil-outside", version)
	program := filepath.Join(dir, filepath.Base(path))
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintln(os.Stderr, "Installing", module, "into", dir)
	cmd := exec.Command("go", "install", module)
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w\n%s", module, err, out)
	}
	return program, nil
}

// outcome is what a program wrote, and how it ended.
func outcome(t *testing.T, limit time.Duration, dir, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// fsckAccepts asks tessera's fsck about a whole export. It is judged by the line that it prints when all is well, because
// this version exits with 0 whatever it finds; with a single worker it may hang on what is damaged.
func fsckAccepts(t *testing.T, dir string, limit time.Duration) (bool, string) {
	t.Helper()
	checkpoint := strings.Split(read(t, dir, "checkpoint"), "\n")
	out, err := outcome(t, limit, dir, fsck, "--storage_url=file://"+dir+"/", "--public_key="+filepath.Join(dir, "key.pub"), "--ui=false", "-N", "4")
	line := fmt.Sprintf("Successfully fsck'd log with size %s and root %s", checkpoint[1], checkpoint[2])
	good := err == nil && strings.Contains(out, line)
	return good, out
}

// spicyAccepts asks torchwood's spicy about one record and its proof.
func spicyAccepts(t *testing.T, vkey string, record, proof []byte) (bool, string) {
	t.Helper()
	dir := t.TempDir()
	// spicy wants no header line.
	_, body, _ := bytes.Cut(proof, []byte("\n"))
	write(t, dir, "record", string(record))
	write(t, dir, "record.spicy", string(body))
	out, err := outcome(t, 30*time.Second, dir, spicy, "-verify", vkey, "record")
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run spicy: %v", err)
	}
	return err == nil, out
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	must(t, err)
	return string(b)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
