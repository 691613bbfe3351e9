//go:build outside

package outside

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
)

const witnessName = "witness.example/w1"

// startWitness starts litewitness, which knows one log with nothing in it, and gives its address and its verifier key.
func startWitness(t *testing.T, s *audit.Signer) (address, vkey string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf-w-") // the path of a socket must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+filepath.Join(dir, "agent.sock"))
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return strings.TrimSpace(string(out))
	}
	start := func(program string, args ...string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	start("ssh-agent", "-D", "-a", filepath.Join(dir, "agent.sock"))
	eventually(t, "the agent listens", func() bool { _, err := os.Stat(filepath.Join(dir, "agent.sock")); return err == nil })
	run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key")
	run("ssh-add", "-q", "key")
	fingerprint := strings.Fields(run("ssh-keygen", "-lf", "key.pub"))[1]

	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listen := l.Addr().String()
	must(t, l.Close())
	start(litewitness, "-name", witnessName, "-db", "w.db", "-ssh-agent", filepath.Join(dir, "agent.sock"), "-listen", listen, "-key", fingerprint)
	eventually(t, "the witness answers", func() bool {
		conn, err := net.DialTimeout("tcp", listen, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	run("sqlite3", "w.db", fmt.Sprintf("insert into log values('%s',0,'%s'); insert into key values('%s','%s');",
		s.Origin(), audit.NewTree().Root(), s.Origin(), s.VerifierKey()))
	return "http://" + listen, witnessKey(strings.Fields(read(t, dir, "key.pub"))[1])
}

// witnessKey is the verifier key (C2SP tlog-cosignature, Ed25519) of an SSH public key.
func witnessKey(ssh string) string {
	blob, _ := base64.StdEncoding.DecodeString(ssh)
	key := append([]byte{4}, blob[len(blob)-32:]...)
	h := sha256.Sum256(append([]byte(witnessName+"\n"), key...))
	return fmt.Sprintf("%s+%08x+%s", witnessName, h[:4], base64.StdEncoding.EncodeToString(key))
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

// submit sends a checkpoint to a witness, word for word as C2SP tlog-witness has it.
func submit(t *testing.T, address string, old uint64, proof []audit.Hash, checkpoint string) (status int, answer string) {
	t.Helper()
	body := fmt.Sprintf("old %d\n", old)
	for _, h := range proof {
		body += h.String() + "\n"
	}
	resp, err := http.Post(address+"/add-checkpoint", "text/plain", strings.NewReader(body+"\n"+checkpoint))
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(b)
}

func TestLitewitnessAcceptsWhatContinuesAndRefusesWhatDoesNot(t *testing.T) {
	all, s := entries(t, largest, 0), signer(t, 1)
	address, _ := startWitness(t, s)
	grown, kept := t.TempDir(), map[int]string{}
	old := 0
	for _, n := range sizes {
		export(t, grown, s, all[:n])
		kept[n] = read(t, grown, "checkpoint")
		if status, answer := submit(t, address, uint64(old), consistency(t, grown, s, uint64(old)), kept[n]); status != http.StatusOK || !strings.HasPrefix(answer, "— "+witnessName+" ") {
			t.Fatalf("from %d to %d: %d %s", old, n, status, answer)
		}
		old = n
	}
	if status, answer := submit(t, address, 256, consistency(t, grown, s, 256), kept[largest]); status != http.StatusConflict || strings.TrimSpace(answer) != fmt.Sprint(largest) {
		t.Errorf("an old size that is not the latest: %d %s", status, answer)
	}
	if status, answer := submit(t, address, 255, nil, kept[255]); status != http.StatusConflict {
		t.Errorf("rolled back: %d %s", status, answer)
	}
	fork := t.TempDir()
	export(t, fork, s, entries(t, largest+100, 9))
	if status, answer := submit(t, address, largest, consistency(t, fork, s, largest), read(t, fork, "checkpoint")); status != http.StatusUnprocessableEntity {
		t.Errorf("forked: %d %s", status, answer)
	}
	same := t.TempDir()
	export(t, same, s, entries(t, largest, 9))
	if status, answer := submit(t, address, largest, nil, read(t, same, "checkpoint")); status != http.StatusConflict && status != http.StatusUnprocessableEntity {
		t.Errorf("forked at the same size: %d %s", status, answer)
	}
	if status, answer := submit(t, address, largest, nil, strings.Replace(kept[largest], "\n65537\n", "\n65538\n", 1)); status != http.StatusForbidden {
		t.Errorf("a forged checkpoint: %d %s", status, answer)
	}
}
