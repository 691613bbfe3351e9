package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// running is the real program as a process of its own.
type running struct {
	cmd    *exec.Cmd
	env    []string
	links  struct{ Public, Console, Agents, WidgetKey string }
	stderr *bytes.Buffer
}

// program makes the test binary available under the program's name.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "counterfoil")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// reachable makes a data directory that PostgreSQL's unprivileged user can reach.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "data")
}

// freeAddr gives an address for a program that is started later. Its port lies below those that the system gives to whoever asks for
// any, so that nobody is given it meanwhile.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// serve starts the program and waits for what it announces.
func serve(t *testing.T, path string, env []string) *running {
	t.Helper()
	r := &running{cmd: exec.Command(path, "serve", "--demo", "--json"), stderr: &bytes.Buffer{}}
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stderr = r.stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill(); _ = r.cmd.Wait() })
	var links struct {
		Public    string `json:"public"`
		Console   string `json:"console"`
		Agents    string `json:"agents"`
		WidgetKey string `json:"widget_key"`
	}
	if err := json.NewDecoder(out).Decode(&links); err != nil {
		_ = r.cmd.Wait()
		t.Fatalf("the program announced nothing: %v\n%s", err, r.stderr)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	r.links.Console = links.Console
	r.links.Public, r.links.Agents, r.links.WidgetKey = links.Public, links.Agents, links.WidgetKey
	return r
}

// writer is a visitor who remembers what was acknowledged.
type writer struct {
	token string
	acked map[int64]string
}

func post(ctx context.Context, url, token string, body any) (map[string]any, int, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	var out map[string]any
	err = json.NewDecoder(resp.Body).Decode(&out)
	return out, resp.StatusCode, err
}

func (w *writer) say(ctx context.Context, r *running, text string) {
	out, status, err := post(ctx, r.links.Public+"/v1/conversation/messages", w.token, map[string]string{"client_id": uuid.NewString(), "text": text})
	if err == nil && status == http.StatusOK {
		w.acked[int64(out["seq"].(float64))] = text
	}
}

// read gives the messages of the conversation as the visitor's stream brings them, until it says that it has caught up.
func (w *writer) read(ctx context.Context, r *running) (map[int64]string, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, r.links.Public+"/v1/conversation/events", nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+w.token)
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got := make(map[int64]string)
	lines := bufio.NewScanner(resp.Body)
	event := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		switch event {
		case "ready":
			return got, nil
		case "message":
			var m struct {
				Seq  int64
				Text string
			}
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				return nil, err
			}
			if _, twice := got[m.Seq]; twice {
				return nil, fmt.Errorf("message %d came twice", m.Seq)
			}
			got[m.Seq] = m.Text
		}
	}
	return nil, fmt.Errorf("the stream ended early: %w", io.ErrUnexpectedEOF)
}

func TestNothingAcknowledgedIsLostByKillNine(t *testing.T) {
	t.Parallel()
	path, data := program(t), reachable(t)
	env := []string{"COUNTERFOIL_DATA_DIR=" + data, "COUNTERFOIL_PUBLIC_ADDR=" + freeAddr(t), "COUNTERFOIL_CONSOLE_ADDR=" + freeAddr(t), "COUNTERFOIL_DEMO_ADDR=" + freeAddr(t)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r := serve(t, path, env)
	writers := make([]*writer, 8)
	for i := range writers {
		out, status, err := post(ctx, r.links.Public+"/v1/widgets/"+r.links.WidgetKey+"/conversations", "",
			map[string]string{"client_id": uuid.NewString(), "text": fmt.Sprintf("hello from %d", i), "language": "en", "notice_version": noticeVersion(t, r)})
		if err != nil || status != http.StatusCreated {
			t.Fatalf("open: %d %v %v", status, out, err)
		}
		writers[i] = &writer{out["token"].(string), map[int64]string{1: fmt.Sprintf("hello from %d", i)}}
	}
	for round, victim := range []string{"the service", "PostgreSQL", "the service"} {
		var wg sync.WaitGroup
		write, stop := context.WithCancel(ctx)
		said := make(chan struct{}, 1024)
		for i, w := range writers {
			wg.Go(func() {
				for n := 0; n < 5 && write.Err() == nil; n++ {
					w.say(write, r, fmt.Sprintf("round %d writer %d message %d", round, i, n))
					said <- struct{}{}
				}
			})
		}
		for range 4 + 7*round { // somewhere in the middle, another place each round
			<-said
		}
		if victim == "PostgreSQL" {
			b, err := os.ReadFile(filepath.Join(data, "postgresql", "pgdata", "postmaster.pid"))
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(b), "\n")
			pid, err := strconv.Atoi(first)
			if err != nil || pid < 2 {
				t.Fatalf("postmaster.pid: %v", err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
		} else {
			if err := r.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			stop()
			wg.Wait()
			_ = r.cmd.Wait()
			r = serve(t, path, env)
		}
		stop()
		for i, w := range writers {
			var got map[int64]string
			var err error
			for got == nil && ctx.Err() == nil { // PostgreSQL may still be coming back
				if got, err = w.read(ctx, r); err != nil {
					select {
					case <-ctx.Done():
					case <-time.After(200 * time.Millisecond):
					}
				}
			}
			if err != nil {
				t.Fatalf("after %s was killed, writer %d cannot read: %v\n%s", victim, i, err, r.stderr)
			}
			for seq, text := range w.acked {
				if got[seq] != text {
					t.Errorf("after %s was killed, writer %d finds %q as message %d, acknowledged was %q", victim, i, got[seq], seq, text)
				}
			}
			for seq := int64(1); seq <= int64(len(got)); seq++ {
				if _, ok := got[seq]; !ok {
					t.Errorf("writer %d finds a gap at %d", i, seq)
				}
			}
			w.acked = got // what was written without an answer is there for good as well
		}
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("the program did not stop cleanly: %v\n%s", err, r.stderr)
	}
	out := filepath.Join(t.TempDir(), "export")
	published, err := filepath.Glob(filepath.Join(data, "export", "localhost", "audit", "*"))
	if err != nil || len(published) != 1 {
		t.Fatalf("published are %q, %v", published, err)
	}
	// What was published while it was killed is whole, and the log continues it.
	for _, args := range [][]string{{"audit", "export", out}, {"audit", "verify", out, "--since", filepath.Join(published[0], "checkpoint")}, {"audit", "verify", published[0]}, {"audit", "verify"}} {
		cmd := exec.Command(path, args...)
		cmd.Env = append(os.Environ(), env...)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, b)
		}
	}
}

// noticeVersion asks the frame which version of the notice is shown, as a browser would.
func noticeVersion(t *testing.T, r *running) string {
	t.Helper()
	resp, err := http.Get(r.links.Public + "/widget/" + r.links.WidgetKey + "/frame")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), `data-notice="`)
	if !ok {
		t.Fatalf("the frame names no version of the notice:\n%.600s", page)
	}
	version, _, _ := strings.Cut(rest, `"`)
	return version
}
