package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"counterfoil/internal/egress"
)

// loopbackUp makes this process's network namespace one in which a host can speak with itself and with nobody else.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	const loopback = 1 // the index of lo in a new namespace
	m := binary.NativeEndian.AppendUint32(nil, syscall.NLMSG_HDRLEN+syscall.SizeofIfInfomsg)
	m = binary.NativeEndian.AppendUint16(m, syscall.RTM_NEWLINK)
	m = binary.NativeEndian.AppendUint16(m, syscall.NLM_F_REQUEST|syscall.NLM_F_ACK)
	m = append(m, make([]byte, 8+4)...) // sequence, port; family, padding, type
	m = binary.NativeEndian.AppendUint32(m, loopback)
	m = binary.NativeEndian.AppendUint32(m, syscall.IFF_UP)
	m = binary.NativeEndian.AppendUint32(m, syscall.IFF_UP) // what of it changes
	if err := syscall.Sendto(fd, m, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil || n < syscall.NLMSG_HDRLEN+4 {
		return fmt.Errorf("raise loopback: %d bytes, %w", n, err)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[syscall.NLMSG_HDRLEN:])); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}

// alone starts a command of this test's program in a network namespace of its own.
func alone(t *testing.T, env []string, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	path, err := exec.LookPath("counterfoil-alone")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start in a network namespace of its own (this test needs one): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	return cmd, out
}

// tried counts the connections that were begun and the datagrams that were sent in the namespace of a process, and what found no way out.
func tried(t *testing.T, pid int) (n int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/snmp", pid))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(names) == 0 || names[0] != fields[0] {
			names = fields
			continue
		}
		for i, name := range names {
			if what := names[0] + name; what == "Tcp:ActiveOpens" || what == "Udp:OutDatagrams" || what == "Ip:OutNoRoutes" {
				got, err := strconv.Atoi(fields[i])
				if err != nil {
					t.Fatal(err)
				}
				n += got
			}
		}
	}
	return n
}

// With its settings as they come, and nothing connected to it, the service tries to reach nothing at all.
func TestTheServiceWithItsDefaultsTriesToReachNothing(t *testing.T) {
	dir := reachable(t)
	cmd, out := alone(t, []string{"COUNTERFOIL_DATA_DIR=" + dir}, "serve", "--json")
	var links struct {
		DataDir string `json:"data_dir"`
	}
	if err := json.NewDecoder(out).Decode(&links); err != nil || links.DataDir != dir {
		t.Fatalf("the service did not start: %v", err)
	}
	time.Sleep(1500 * time.Millisecond) // what runs each second has run
	if n := tried(t, cmd.Process.Pid); n != 0 {
		t.Errorf("%d attempts to reach something", n)
	}
	env := []string{"COUNTERFOIL_DATA_DIR=" + dir}
	if code, _, stderr := command(t, env, "org", "create", "Contoso"); code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := command(t, env, "egress", "list")
	if code != 0 || !strings.Contains(stdout, "connects to nothing outside of this host") || strings.Contains(stdout, "REFUSED") {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
}

// The test above would be worth nothing if an attempt did not count.
func TestAnAttemptToReachSomethingCounts(t *testing.T) {
	cmd, out := alone(t, nil, "reach")
	line := make([]byte, 64)
	n, err := out.Read(line)
	if err != nil || string(line[:n]) != "tried\n" {
		t.Fatalf("%q %v", line[:n], err)
	}
	if tried(t, cmd.Process.Pid) == 0 {
		t.Error("a connection that was tried is not seen")
	}
}

// reach tries to connect to an address that nobody has, and waits to be ended.
func reach() {
	if c, err := net.DialTimeout("tcp", "192.0.2.1:443", time.Second); err == nil {
		c.Close()
	}
	fmt.Println("tried")
	time.Sleep(time.Minute)
}

// Each refused attempt stands in the log of every organisation, or of the one whose way it was, and is listed.
func TestWhatWasRefusedIsOnRecordAndListed(t *testing.T) {
	h := newHost(t)
	h.run("alice", 0, "Made organisation", "org", "create", "Contoso")
	env := append(h.env, "PATH="+os.Getenv("PATH"))
	a := &app{t.Context(), io.Discard, io.Discard, env, egress.New(), "en"}
	heart, done, err := a.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	s := &service{egress: a.egress, heart: heart, logger: slog.New(slog.DiscardHandler)}
	way, err := a.egress.Open(egress.Destination{Name: "witness", Hosts: []string{"witness.example:443"}, Owner: "audit/publish", Purpose: "have checkpoints of the logs cosigned",
		Party: egress.ThirdParty, Data: []egress.Class{egress.Hashes}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := way.Dial("tcp", "elsewhere.example:25"); err == nil {
			t.Fatal("connected")
		}
	}
	last := time.Now()
	if err := s.noteEgress(t.Context(), &last); err != nil {
		t.Fatal(err)
	}
	last = time.Now()
	if err := s.noteEgress(t.Context(), &last); err != nil { // nothing new
		t.Fatal(err)
	}
	n := 0
	for _, e := range recorded(t, env) {
		if e.Action == "egress.refused" {
			n++
			if e.Facts["target"] != "elsewhere.example:25" || e.Facts["destination"] != "witness" || e.Facts["times"] != "3" || e.Actor.Kind != "job" {
				t.Errorf("recorded %+v", e)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d records of it", n)
	}
	h.run("alice", 0, "witness.example:443", "egress", "list")
	h.run("alice", 0, "REFUSED  elsewhere.example:25, by witness, 3 times", "egress", "list")
	h.run("alice", 0, `"refused":"elsewhere.example:25"`, "egress", "list", "--json")
}
