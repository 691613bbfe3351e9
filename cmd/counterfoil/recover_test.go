package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/config"
)

// host is the machine on which the program runs.
type host struct {
	t    *testing.T
	path string
	env  []string
	data string
}

func newHost(t *testing.T) *host {
	t.Helper()
	data := reachable(t)
	return &host{t, program(t), []string{"COUNTERFOIL_DATA_DIR=" + data, "COUNTERFOIL_PUBLIC_ADDR=" + freeAddr(t), "COUNTERFOIL_CONSOLE_ADDR=" + freeAddr(t), "COUNTERFOIL_DEMO_ADDR=" + freeAddr(t)}, data}
}

// run runs a command as a user, and expects an exit code and a text.
func (h *host) run(user string, code int, want string, args ...string) string {
	h.t.Helper()
	cmd := exec.Command(h.path, args...)
	cmd.Env = append(os.Environ(), append(h.env, "SUDO_USER="+user)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
		h.t.Fatalf("%v: exit %d, want %d and %q\n%s", args, got, code, want, out)
	}
	return string(out)
}

// open lets a visitor write, and gives the status.
func open(ctx context.Context, t *testing.T, r *running) int {
	t.Helper()
	_, status, err := post(ctx, r.links.Public+"/v1/widgets/"+r.links.WidgetKey+"/conversations", "",
		map[string]string{"client_id": uuid.NewString(), "text": "hello", "language": "en", "notice_version": noticeVersion(t, r)})
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func (h *host) stop(r *running) {
	h.t.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		h.t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		h.t.Fatalf("the program did not stop cleanly: %v\n%s", err, r.stderr)
	}
}

func (h *host) copy(from, to string) {
	h.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		h.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		h.t.Fatalf("cp: %v\n%s", err, out)
	}
}

// exported finds the directories of published logs, without those of closed ones.
func (h *host) exported() []string {
	h.t.Helper()
	all, err := filepath.Glob(filepath.Join(h.data, "export", "localhost", "audit", "*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// The database is put back to an older backup, as it lies on disk. Nothing may be disclosed from then on, and it must be
// said why; two operators bring it back to life, with both logs whole.
func TestARestoredBackupIsRefusedUntilTwoOperatorsRecover(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	database, backup := filepath.Join(h.data, "postgresql"), filepath.Join(filepath.Dir(h.data), "backup")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r := serve(t, h.path, h.env)
	first, status, err := post(ctx, r.links.Public+"/v1/widgets/"+r.links.WidgetKey+"/conversations", "",
		map[string]string{"client_id": uuid.NewString(), "text": "hello", "language": "en", "notice_version": noticeVersion(t, r)})
	if err != nil || status != http.StatusCreated {
		t.Fatalf("open: %d, %v", status, err)
	}
	h.stop(r)
	h.run("alice", 0, "There is nothing to recover", "audit", "recover")
	h.copy(database, backup)
	var accepted struct{ Actor struct{ Ref string } }
	if err := json.NewDecoder(strings.NewReader(h.run("alice", 0, "notice.accept", "audit", "list", "--action", "notice.accept", "--last", "1", "--json"))).Decode(&accepted); err != nil {
		t.Fatal(err)
	}
	visitor := accepted.Actor.Ref
	r = serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}
	h.run("alice", 3, "the service is running: stop it first", "audit", "recover")
	h.run("alice", 1, "a conversation is still open", "erase", "do", "visitor", visitor, "--reason", "asked for by letter")
	if _, status, err := post(ctx, r.links.Public+"/v1/conversation/end", first["token"].(string), nil); err != nil || status != http.StatusOK {
		t.Fatalf("end: %d, %v", status, err)
	}
	h.run("alice", 0, "is erased", "erase", "do", "visitor", visitor, "--reason", "asked for by letter")
	h.run("alice", 0, "Placed the hold", "hold", "place", "range", "--since", "2026-01-01", "--until", "2026-02-01", "--reason", "asked for by the court")
	h.stop(r)
	dirs := h.exported()
	if len(dirs) != 1 {
		t.Fatalf("published are %q", dirs)
	}
	h.run("alice", 0, "The log is good", "audit", "verify", dirs[0])
	h.copy(backup, database)

	// Neither the commands nor the service go on.
	h.run("alice", 3, "it was put back to an older state", "audit", "list")
	r = serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusServiceUnavailable {
		t.Errorf("a visitor gets %d", status)
	}
	notReady(t, r, "does not continue what was published of it.")
	h.stop(r)
	if said := r.stderr.String(); !strings.Contains(said, "put back to an older state") || !strings.Contains(said, "counterfoil audit recover --org ") {
		t.Errorf("the service's log does not say what to do:\n%s", said)
	}

	out := h.run("alice", 0, "no record in it is lost", "audit", "recover")
	code := regexp.MustCompile(`--code (\w+)`).FindStringSubmatch(out)
	if code == nil {
		t.Fatalf("no code:\n%s", out)
	}
	h.run("bob", 2, "not the code that alice was given", "audit", "recover", "--code", "AAAAAAAA")
	h.run("alice", 2, "another operator has to confirm it", "audit", "recover", "--code", code[1])
	// What was erased since the backup is erased again before anything is served, and what was held is held.
	out = h.run("bob", 0, "/2. The old one is kept", "audit", "recover", "--code", code[1])
	if !strings.Contains(out, "2 erasures, holds and settings of retention, which are newer than the database, were done once more.") {
		t.Errorf("the recovery says\n%s", out)
	}
	h.run("alice", 1, "nothing of this is kept", "erase", "do", "visitor", visitor, "--reason", "asked for by letter")
	h.run("alice", 0, "visitor "+visitor, "erase", "list")
	h.run("alice", 0, "range   2026-01-01  2026-02-01", "hold", "list") // why it was placed lay in the newer database
	h.run("bob", 0, "There is nothing to recover", "audit", "recover", "--code", code[1])

	// The new log begins with who decided; the old one can still be read, verified and exported.
	list := h.run("alice", 0, "log.recover.approve", "audit", "list")
	if first := strings.Split(list, "\n")[1]; !strings.HasPrefix(first, "0 ") || !strings.Contains(first, "log.recover ") {
		t.Errorf("the new log begins with %q", first)
	}
	h.run("alice", 0, "organisation.create", "audit", "list", "--epoch", "1")
	h.run("alice", 0, "The log is good", "audit", "verify")
	h.run("alice", 1, "rolled back or cut", "audit", "verify", "--epoch", "1") // more was published of it
	old := filepath.Join(filepath.Dir(h.data), "old")
	h.run("alice", 0, "Exported", "audit", "export", old, "--epoch", "1")
	h.run("alice", 0, "The log is good", "audit", "verify", old)
	h.run("alice", 0, "continues that of 2", "audit", "consistency", "2", "--epoch", "1")
	h.run("alice", 1, "rolled back or cut", "audit", "verify", old, "--since", filepath.Join(dirs[0], "checkpoint"))
	h.run("alice", 2, "there is no epoch 2", "audit", "list", "--epoch", "2")

	r = serve(t, h.path, h.env)
	if status := open(ctx, t, r); status != http.StatusCreated {
		t.Errorf("after the recovery a visitor gets %d\n%s", status, r.stderr)
	}
	h.stop(r)
	h.run("alice", 0, "/2\n", "audit", "verify", filepath.Join(dirs[0], "2"))
	h.run("alice", 0, "an earlier checkpoint of", "audit", "verify")
	h.run("alice", 0, "The log is good", "audit", "verify", dirs[0]) // what was published of the old one is untouched
}

// With a witness that is required and does not answer, what a visitor writes is taken in, and nothing is shown to anybody.
func TestARequiredWitnessThatIsSilentKeepsEverythingIn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.env = append(h.env, "COUNTERFOIL_WITNESS_URL=http://"+freeAddr(t), "COUNTERFOIL_WITNESS_KEY=witness.example/w1+fea3b187+BBOY9ixtGkV8UbpqS189vS9p/KkyFiGNyJl+QWvRfZPK", "COUNTERFOIL_WITNESS_POLICY=require")
	r := serve(t, h.path, h.env)
	out, status, err := post(t.Context(), r.links.Public+"/v1/widgets/"+r.links.WidgetKey+"/conversations", "",
		map[string]string{"client_id": uuid.NewString(), "text": "hello", "language": "en", "notice_version": noticeVersion(t, r)})
	if err != nil || status != http.StatusCreated {
		t.Fatalf("open: %d %v %v", status, out, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if got, err := (&writer{token: out["token"].(string)}).read(ctx, r); err == nil || len(got) > 0 {
		t.Errorf("the visitor is shown %v", got)
	}
	notReady(t, r, "Nothing is disclosed: no witness has seen the log lately.")
	h.stop(r)
	if !strings.Contains(r.stderr.String(), "a checkpoint is not cosigned") {
		t.Errorf("nobody was told: %s", r.stderr)
	}
	h.env[len(h.env)-2] = "COUNTERFOIL_WITNESS_KEY=witness.example/w1+00000000+AA=="
	h.run("alice", 2, "COUNTERFOIL_WITNESS_KEY: parse witness key", "org", "list")
}

// A checkpoint that the log's own key has signed, of another history than the one in the database, is told from one that
// the log continues.
func TestConsistencyTellsAnotherHistory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("alice", 0, "Made organisation", "org", "create", "Contoso")
	key, err := checkpointKey(config.Config{DataDir: h.data})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.For(regexp.MustCompile(`localhost/audit/[0-9a-f-]+`).FindString(h.run("alice", 0, "log_origin", "org", "list", "--json")))
	if err != nil {
		t.Fatal(err)
	}
	for root, code := range map[audit.Hash]int{audit.NewTree().Root(): 0, {9}: 1} {
		signed, err := signer.Sign(0, root)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "checkpoint")
		if err := os.WriteFile(file, signed, 0o600); err != nil {
			t.Fatal(err)
		}
		h.run("alice", code, []string{"continues that of 0", "THE LOG DOES NOT CONTINUE"}[code], "audit", "consistency", file)
	}
}

// eventually asks until there is nothing wrong.
func eventually(t *testing.T, wrong func() string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		what := wrong()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Error(what)
			return
		}
	}
}

// notReady waits until the service says that it discloses nothing, and why.
func notReady(t *testing.T, r *running, why string) {
	t.Helper()
	eventually(t, func() string {
		resp, err := http.Get(r.links.Public + "/health/ready")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), why) {
			return fmt.Sprintf("ready: %d %s", resp.StatusCode, b)
		}
		return ""
	})
}
