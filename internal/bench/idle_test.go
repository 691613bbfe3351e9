package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/relay"
	"counterfoil/internal/stream"
	"counterfoil/internal/widget"
)

// clientEnv makes this binary the visitors of BenchmarkIdleVisitors: it names the server's address, and the visitors'
// tokens come on standard input. They must live in another process, whose memory does not count.
const clientEnv = "COUNTERFOIL_BENCH_VISITORS_OF"

// beVisitors opens a stream for each token, says "ready" when all have caught up, and holds them until its standard
// output is closed.
func beVisitors(addr string) error {
	var tokens []string
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		tokens = append(tokens, in.Text())
	}
	conns := make([]net.Conn, len(tokens))
	errs := make([]error, len(tokens))
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	for i, token := range tokens {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			conns[i], errs[i] = follow(addr, token)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println("ready")
	select {} // ended by the benchmark
}

func follow(addr, token string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "GET /v1/conversation/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", addr, token); err != nil {
		return nil, err
	}
	var got []byte
	part := make([]byte, 1024)
	for !bytes.Contains(got, []byte("event: ready")) {
		n, err := conn.Read(part)
		if err != nil {
			return nil, fmt.Errorf("before ready: %w", err)
		}
		got = append(got, part[:n]...)
	}
	return conn, nil
}

// resident is the memory of this process that is in RAM, in KiB.
func resident() (float64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS in /proc/self/status")
	}
	return strconv.ParseFloat(fields[0], 64)
}

// BenchmarkIdleVisitors measures what a visitor who only waits costs: the whole widget handler, with the session, the
// conversation grant and the cleared history behind each of 10,000 streams.
func BenchmarkIdleVisitors(b *testing.B) {
	w := newWorld(b, 1)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	hub := stream.New(stream.Config{Logger: slog.New(slog.DiscardHandler), Stale: widget.Stale(w.relay)})
	handler, err := widget.New(widget.Config{Relay: w.relay, Hub: hub, PublicURL: "http://localhost", Logger: slog.New(slog.DiscardHandler),
		Address: func(*http.Request) netip.Addr { return netip.MustParseAddr("127.0.0.1") }})
	must(b, err)
	must(b, handler.Start())
	router := chi.NewRouter()
	handler.Routes(router)
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	srv := httptest.NewServer(router)
	defer func() { cancel(); running.Wait(); srv.Close() }()

	o := w.organisations[0]
	tokens := make([]string, visitors)
	each(b, visitors, workers, func(i int) error {
		opened, err := w.relay.Open(ctx, relay.OpenRequest{Widget: o.widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("hello")})
		tokens[i] = opened.Token
		return err
	})
	debug.FreeOSMemory()
	before, err := resident()
	must(b, err)

	self, err := os.Executable()
	must(b, err)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), clientEnv+"="+srv.Listener.Addr().String())
	cmd.Stdin = strings.NewReader(strings.Join(tokens, "\n"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(b, err)
	must(b, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" || hub.Count() != visitors {
		b.Fatalf("%d of %d streams are open: %v", hub.Count(), visitors, err)
	}
	straight, err := resident()
	must(b, err)
	debug.FreeOSMemory()
	settled, err := resident()
	must(b, err)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric((straight-before)/visitors, "KiB/visitor-straight-away")
	b.ReportMetric((settled-before)/visitors, "KiB/visitor-settled")
}
