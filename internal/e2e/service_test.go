package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// service is the running program with a data directory of its own.
type service struct {
	t     *testing.T
	dir   string // the data directory
	env   []string
	cmd   *exec.Cmd
	said  printed // everything it ever wrote to stdout and stderr
	cable *cable  // between the browsers and the chat's own origin
	links
}

type links struct {
	Website   string `json:"website"`
	Agents    string `json:"agents"`
	Console   string `json:"console"`
	SetUp     string `json:"set_up"`
	Public    string `json:"public"`
	WidgetKey string `json:"widget_key"`
}

// cable carries connections to the service and can be cut, which no emulation in the browser does to a running stream.
type cable struct {
	t    *testing.T
	addr string
	to   string

	mu   sync.Mutex
	in   net.Listener
	ends map[net.Conn]bool
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	c := &cable{t: t, addr: "127.0.0.1:0", to: to, ends: make(map[net.Conn]bool)}
	c.mend()
	t.Cleanup(c.cut)
	return c
}

// mend lets connections through.
func (c *cable) mend() {
	c.t.Helper()
	l, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in, c.addr = l, l.Addr().String()
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(near)
		}
	}()
}

func (c *cable) carry(near net.Conn) {
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		near.Close()
		return
	}
	c.mu.Lock()
	c.ends[near], c.ends[far] = true, true
	c.mu.Unlock()
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		to.Close()
		from.Close()
	}
	go one(far, near)
	one(near, far)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ends, near)
	delete(c.ends, far)
}

// cut ends every connection and refuses new ones.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.Close()
	for end := range c.ends {
		end.Close()
	}
}

// printed collects the output of a process.
type printed struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.String()
}

// newService starts the program with a demonstration on free ports; it ends with the test. Further settings are made of those there are.
func newService(t *testing.T, further ...func(env []string) string) *service {
	t.Helper()
	// Short, because it holds a socket, and open to PostgreSQL's unprivileged user.
	dir, err := os.MkdirTemp("/tmp", "cf-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, dir: filepath.Join(dir, "data")}
	s.env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "COUNTERFOIL_") })
	s.env = append(s.env, "COUNTERFOIL_DATA_DIR="+s.dir)
	var held []net.Listener
	for _, name := range []string{"PUBLIC", "CONSOLE", "DEMO"} {
		// Below the ports that the system gives to whoever asks for any, so that nobody is given it meanwhile.
		var l net.Listener
		err := errors.New("no port was tried")
		for tries := 0; err != nil && tries < 100; tries++ {
			l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l) // all three at once, so that they differ
		s.env = append(s.env, "COUNTERFOIL_"+name+"_ADDR="+l.Addr().String())
	}
	for _, l := range held {
		l.Close()
	}
	s.cable = newCable(t, held[0].Addr().String())
	_, port, err := net.SplitHostPort(s.cable.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "COUNTERFOIL_PUBLIC_URL=http://localhost:"+port)
	for _, setting := range further {
		s.env = append(s.env, setting(s.env))
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.stop()
		}
		if t.Failed() {
			t.Logf("the service wrote:\n%s", s.said.String())
		}
	})
	s.start()
	return s
}

// start runs the program and waits until it announces its links.
func (s *service) start() {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "counterfoil"), "serve", "--demo", "--json")
	cmd.Env, cmd.Stderr = s.env, &s.said
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.links = cmd, links{}
	stuck := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	err = json.NewDecoder(io.TeeReader(out, &s.said)).Decode(&s.links)
	stuck.Stop()
	if err != nil {
		s.t.Fatalf("the program announced nothing: %v\n%s", err, s.said.String())
	}
	go func() { _, _ = io.Copy(&s.said, out) }()
}

// stop asks the program to end, and wants it to end well.
func (s *service) stop() {
	s.t.Helper()
	cmd := s.cmd
	s.cmd = nil
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		s.t.Fatal(err)
	}
	stuck := time.AfterFunc(45*time.Second, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	if err := cmd.Wait(); err != nil {
		s.t.Errorf("the service did not stop well: %v", err)
	}
}

// kill ends the program without a word.
func (s *service) kill() {
	s.t.Helper()
	cmd := s.cmd
	s.cmd = nil
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	_ = cmd.Wait()
}

// run calls one of the programs on the service's data and returns what it printed.
func (s *service) run(program string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(programs, program), args...)
	cmd.Env = s.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// record is what a test reads of an audit record.
type record struct {
	Kind, Action, Decision string
	Actor, Subject         struct{ Kind string }
	Fields                 []string
	Facts                  map[string]string
}

// records lists what the audit log has beside the made-up month.
func (s *service) records() []record {
	s.t.Helper()
	var all []record
	for line := range strings.Lines(s.run("counterfoil", "audit", "list", "--json", "--last", "1000")) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("a record is not JSON: %v", err)
		}
		if r.Facts["generated"] != "" {
			continue
		}
		all = append(all, r)
	}
	return all
}
