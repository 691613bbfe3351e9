package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"counterfoil/internal/stream"
)

const serverEnv = "COUNTERFOIL_BENCH_STREAM_SERVER"

// BenchmarkIdleStreams measures the resident memory of one idle stream with 10,000 open. The server is a process of
// its own (this test binary again), so that the memory of the readers is not counted; it reads its own RSS.
func BenchmarkIdleStreams(b *testing.B) {
	if os.Getenv(serverEnv) != "" {
		serveIdle(b)
		return
	}
	const streams = 10_000
	var perStream, busy float64
	for b.Loop() {
		cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkIdleStreams$", "-test.benchtime=1x")
		cmd.Env = append(os.Environ(), serverEnv+"=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		answer := func(word string) string {
			for lines.Scan() {
				if v, ok := strings.CutPrefix(lines.Text(), word+" "); ok {
					return v
				}
			}
			b.Fatalf("the server did not say %s", word)
			return ""
		}
		address := answer("address")
		ask := func(count int) (rss, cpu float64) {
			fmt.Fprintf(in, "%d\n", count)
			if _, err := fmt.Sscan(answer("state"), &rss, &cpu); err != nil {
				b.Fatal(err)
			}
			return rss, cpu
		}
		// A first few streams bring the server to its working size, which is not the price of a stream.
		var conns []net.Conn
		dial := func(n int) {
			for range n {
				c, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer 0123456789012345678901234567890123456789012\r\n\r\n", len(conns))
				if _, err := c.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				conns = append(conns, c)
			}
		}
		dial(64)
		before, _ := ask(64)
		dial(streams)
		after, cpu := ask(64 + streams)
		perStream += (after - before) / streams
		start := time.Now()
		time.Sleep(3 * time.Second)
		_, later := ask(64 + streams)
		busy += 100 * (later - cpu) / time.Since(start).Seconds()
		for _, c := range conns {
			c.Close()
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(perStream/float64(b.N), "KiB/stream")
	b.ReportMetric(busy/float64(b.N), "%cpu")
	b.ReportMetric(0, "ns/op")
}

// serveIdle is the server's side. For each number that comes in it waits for that many streams and says its resident
// memory in KiB and the CPU seconds it has used.
func serveIdle(b *testing.B) {
	h := stream.New(stream.Config{})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { _ = h.Run(ctx) }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Path[1:])
			h.Serve(w, r, stream.Stream{Topic: topic(n), Until: time.Now().Add(time.Hour),
				Next: func(_ context.Context, after int64) (stream.Page, error) { return stream.Page{Last: after}, nil }})
		}))
	}()
	fmt.Printf("\naddress %s\n", l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		want, err := strconv.Atoi(in.Text())
		if err != nil {
			b.Fatal(err)
		}
		for h.Count() < want {
			time.Sleep(5 * time.Millisecond)
		}
		rss, cpu := usage(b)
		fmt.Printf("\nstate %f %f\n", rss, cpu)
	}
}

func usage(b *testing.B) (rssKiB, cpuSeconds float64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &rssKiB); err != nil {
		b.Fatal(err)
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		b.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(fields)
	for _, ticks := range f[11:13] { // utime and stime, in 1/100 s
		n, _ := strconv.ParseFloat(ticks, 64)
		cpuSeconds += n / 100
	}
	return rssKiB, cpuSeconds
}
