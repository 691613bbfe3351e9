package stream_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"counterfoil/internal/stream"
)

// store is a conversation store with nothing but numbers.
type store struct {
	mu   sync.Mutex
	last map[stream.Topic]int64
	fail error
}

func newStore() *store { return &store{last: map[stream.Topic]int64{}} }

func (s *store) add(t stream.Topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[t]++
}

func (s *store) breakWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *store) next(t stream.Topic) func(context.Context, int64) (stream.Page, error) {
	return func(_ context.Context, after int64) (stream.Page, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.fail != nil {
			return stream.Page{}, s.fail
		}
		p := stream.Page{Last: after}
		for p.Last < s.last[t] {
			if p.Last == after+20 {
				p.More = true
				break
			}
			p.Last++
			p.Frames = stream.AppendFrame(p.Frames, p.Last, "message", []byte("{}"))
		}
		return p, nil
	}
}

func (s *store) stale(_ context.Context, owner [16]byte, at []stream.Position) ([]stream.Topic, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var moved []stream.Topic
	for _, p := range at {
		if owner != p.Topic { // in these tests every topic is its own owner
			return nil, fmt.Errorf("topic %x was asked for under owner %x", p.Topic, owner)
		}
		if s.last[p.Topic] > p.After {
			moved = append(moved, p.Topic)
		}
	}
	return moved, nil
}

func topic(n int) (t stream.Topic) {
	binary.BigEndian.PutUint64(t[:], uint64(n))
	return t
}

// run starts a hub and a server over it; the path of a request is the topic's number.
func run(t *testing.T, cfg stream.Config, http2 bool, describe func(stream.Topic) stream.Stream) (*stream.Hub, *httptest.Server) {
	t.Helper()
	h := stream.New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.Run(ctx) })
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		s := describe(topic(n))
		s.Topic, s.Owner = topic(n), topic(n)
		s.After, _ = strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.Serve(w, r, s)
	}))
	if http2 {
		srv.EnableHTTP2 = true
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(func() {
		stop()
		wg.Wait()
		srv.Close()
	})
	return h, srv
}

// event is one parsed event; a comment has the name ":".
type event struct {
	id   int64
	name string
}

type client struct {
	resp *http.Response
	in   *bufio.Reader
}

func open(t *testing.T, srv *httptest.Server, n int, last int64) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/%d", srv.URL, n), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", strconv.FormatInt(last, 10))
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &client{resp, bufio.NewReader(resp.Body)}
}

func (c *client) next() (event, error) {
	var e event
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		switch name, value, _ := strings.Cut(line, ":"); {
		case line == "" && e.name != "":
			return e, nil
		case line == ":":
			e.name = ":"
		case name == "id":
			e.id, _ = strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		case name == "event":
			e.name = strings.TrimSpace(value)
		}
	}
}

func (c *client) want(t *testing.T, want ...event) {
	t.Helper()
	for _, w := range want {
		got, err := c.next()
		if err != nil || got != w {
			t.Fatalf("got %+v, %v; want %+v", got, err, w)
		}
	}
}

func (c *client) wantEnd(t *testing.T) {
	t.Helper()
	if e, err := c.next(); err == nil {
		t.Fatalf("got %+v; want the end of the stream", e)
	}
}

// eventually waits for a condition that other goroutines bring about and that nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func TestEveryEventArrivesOnceAndInOrder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		http2 bool
	}{{"on connections taken over", false}, {"on HTTP/2", true}} {
		t.Run(tc.name, func(t *testing.T) {
			const topics, events = 10, 120
			st := newStore()
			h, srv := run(t, stream.Config{Workers: 4, Stale: st.stale, SafetyLook: 20 * time.Millisecond}, tc.http2,
				func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
			var readers, writers sync.WaitGroup
			for n := range topics {
				writers.Go(func() {
					for range events {
						st.add(topic(n))
						if rand.IntN(5) > 0 { // one hint in five is lost
							h.Wake(topic(n))
						}
						time.Sleep(time.Millisecond)
					}
				})
				readers.Go(func() {
					last := int64(0)
					for last < events {
						c := open(t, srv, n, last)
						for cut := last + 1 + rand.Int64N(40); last < cut && last < events; {
							e, err := c.next()
							if err != nil || e.id != last+1 {
								t.Errorf("after %d came %+v, %v", last, e, err)
								return
							}
							last = e.id
						}
						c.resp.Body.Close()
					}
				})
			}
			writers.Wait()
			readers.Wait()
		})
	}
}

func TestAnEventDuringTheFirstReadIsNotMissed(t *testing.T) {
	st := newStore()
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h, srv := run(t, stream.Config{}, false, func(tp stream.Topic) stream.Stream {
		next := st.next(tp)
		return stream.Stream{Next: func(ctx context.Context, after int64) (stream.Page, error) {
			p, err := next(ctx, after)
			once.Do(func() {
				close(reading)
				<-goOn
			})
			return p, err
		}}
	})
	c := open(t, srv, 1, 0)
	<-reading // it has found nothing and has not yet said so
	st.add(topic(1))
	h.Wake(topic(1))
	close(goOn)
	c.want(t, event{1, "message"})
}

func TestASlowReaderHoldsNoWorkerAndIsDropped(t *testing.T) {
	st := newStore()
	big := make([]byte, 32<<20)
	h, srv := run(t, stream.Config{Workers: 1, WriteTimeout: 2 * time.Second}, false, func(tp stream.Topic) stream.Stream {
		if tp == topic(1) {
			return stream.Stream{Next: func(context.Context, int64) (stream.Page, error) { return stream.Page{Frames: big, Last: 1}, nil }}
		}
		return stream.Stream{Next: st.next(tp)}
	})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "the slow stream", func() bool { return h.Count() == 1 })
	st.add(topic(2))
	start := time.Now()
	open(t, srv, 2, 0).want(t, event{1, "message"})
	if took := time.Since(start); took > time.Second {
		t.Errorf("the other reader waited %v for the slow one", took)
	}
	eventually(t, "dropping the slow stream", func() bool { return h.Count() == 1 })
}

func TestALongPageReachesAReaderThatIsOnlyUnhurried(t *testing.T) {
	const n = 400_000
	_, srv := run(t, stream.Config{Workers: 1, Grace: time.Millisecond}, false, func(stream.Topic) stream.Stream {
		return stream.Stream{Next: func(_ context.Context, after int64) (stream.Page, error) {
			p := stream.Page{Last: n, End: after == n}
			for after < n {
				after++
				p.Frames = stream.AppendFrame(p.Frames, after, "message", []byte("{}"))
			}
			return p, nil
		}}
	})
	c := open(t, srv, 1, 0)
	for i := range int64(n) {
		c.want(t, event{i + 1, "message"})
	}
}

func TestDrainSendsReadersElsewhere(t *testing.T) {
	for _, tc := range []struct {
		name  string
		http2 bool
	}{{"on connections taken over", false}, {"on HTTP/2", true}} {
		t.Run(tc.name, func(t *testing.T) {
			st := newStore()
			h, srv := run(t, stream.Config{}, tc.http2, func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
			st.add(topic(1))
			c := open(t, srv, 1, 0)
			c.want(t, event{1, "message"})
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := h.Drain(ctx); err != nil {
				t.Fatal(err)
			}
			c.want(t, event{0, "drain"})
			c.wantEnd(t)
			if late := open(t, srv, 1, 1).resp; late.StatusCode != http.StatusServiceUnavailable || late.Header.Get("Retry-After") == "" {
				t.Errorf("a reader that comes during the drain got %d", late.StatusCode)
			}
			if err := h.Drain(ctx); err != nil {
				t.Errorf("a second drain: %v", err)
			}
		})
	}
}

func TestDrainGivesUpWhenItsContextEnds(t *testing.T) {
	h := stream.New(stream.Config{}) // not running: nobody serves the stream
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.Serve(w, r, stream.Stream{}) }))
	defer srv.Close()
	open(t, srv, 1, 0)
	eventually(t, "the stream", func() bool { return h.Count() == 1 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := h.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := h.Run(ctx); err != nil || h.Count() != 0 {
		t.Errorf("after Run: %v, %d streams left", err, h.Count())
	}
}

func TestATroubledReadIsToldOnceAndRepeated(t *testing.T) {
	st := newStore()
	st.breakWith(errors.New("storage is away"))
	_, srv := run(t, stream.Config{Heartbeat: 200 * time.Millisecond}, false,
		func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
	st.add(topic(1))
	c := open(t, srv, 1, 0)
	c.want(t, event{0, "unavailable"}, event{0, ":"}, event{0, ":"}, event{0, ":"}) // and not a second time
	st.breakWith(nil)
	for {
		e, err := c.next()
		if err != nil || e.name == "unavailable" {
			t.Fatalf("got %+v, %v", e, err)
		}
		if e == (event{1, "message"}) {
			return
		}
	}
}

func TestAReadThatGoesBackIsTrouble(t *testing.T) {
	_, srv := run(t, stream.Config{}, false, func(stream.Topic) stream.Stream {
		return stream.Stream{Next: func(context.Context, int64) (stream.Page, error) { return stream.Page{Last: 3}, nil }}
	})
	open(t, srv, 1, 4).want(t, event{0, "unavailable"})
}

func TestAStreamEnds(t *testing.T) {
	st := newStore()
	for _, tc := range []struct {
		name string
		s    stream.Stream
		sees []event
	}{
		{"when its time is over", stream.Stream{Next: st.next(topic(1)), Until: time.Now().Add(300 * time.Millisecond)}, nil},
		{"before anything is read when its time was over", stream.Stream{Until: time.Now().Add(-time.Second)}, nil},
		{"after the last page", stream.Stream{Next: func(context.Context, int64) (stream.Page, error) {
			return stream.Page{Frames: stream.AppendFrame(nil, 1, "closed", []byte("{}")), Last: 1, End: true}, nil
		}}, []event{{1, "closed"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, srv := run(t, stream.Config{Heartbeat: time.Second}, false, func(stream.Topic) stream.Stream { return tc.s })
			c := open(t, srv, 1, 0)
			c.want(t, tc.sees...)
			c.wantEnd(t)
			eventually(t, "forgetting the stream", func() bool { return h.Count() == 0 })
		})
	}
}

func TestAReaderThatWentIsForgotten(t *testing.T) {
	for _, tc := range []struct {
		name  string
		http2 bool
	}{{"on connections taken over", false}, {"on HTTP/2", true}} {
		t.Run(tc.name, func(t *testing.T) {
			st := newStore()
			h, srv := run(t, stream.Config{Heartbeat: 50 * time.Millisecond}, tc.http2,
				func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
			c := open(t, srv, 1, 0)
			c.want(t, event{0, ":"})
			c.resp.Body.Close()
			eventually(t, "forgetting the reader", func() bool { return h.Count() == 0 })
		})
	}
}

func TestPushReachesWhoeverFollowsNow(t *testing.T) {
	st := newStore()
	st.add(topic(1))
	h, srv := run(t, stream.Config{}, false, func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
	a, b := open(t, srv, 1, 0), open(t, srv, 1, 0)
	a.want(t, event{1, "message"})
	b.want(t, event{1, "message"})
	frame := stream.AppendFrame(nil, 0, "typing", []byte(`{"by":"agent"}`))
	h.Push(topic(2), frame)
	h.Push(topic(1), frame)
	a.want(t, event{0, "typing"})
	b.want(t, event{0, "typing"})
}

func TestTheOldestOfTooManyStreamsOfATopicIsDisplaced(t *testing.T) {
	st := newStore()
	st.add(topic(1))
	h, srv := run(t, stream.Config{}, false, func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
	oldest := open(t, srv, 1, 0)
	oldest.want(t, event{1, "message"})
	var newest *client
	for range 8 {
		newest = open(t, srv, 1, 0)
		newest.want(t, event{1, "message"})
	}
	oldest.wantEnd(t)
	if n := h.Count(); n != 8 {
		t.Errorf("%d streams are open", n)
	}
	st.add(topic(1))
	h.Wake(topic(1))
	newest.want(t, event{2, "message"})
}

func TestTheAnswerBearsTheHeadersOfAnEventStream(t *testing.T) {
	st := newStore()
	for _, http2 := range []bool{false, true} {
		_, srv := run(t, stream.Config{}, http2, func(tp stream.Topic) stream.Stream { return stream.Stream{Next: st.next(tp)} })
		resp := open(t, srv, 1, 0).resp
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"} {
			if got := resp.Header.Get(name); got != want || resp.StatusCode != http.StatusOK {
				t.Errorf("HTTP/2 %v: %d, %s is %q", http2, resp.StatusCode, name, got)
			}
		}
	}
}

func TestAppendFrame(t *testing.T) {
	for _, tc := range []struct {
		name, event string
		id          int64
		want        string
	}{
		{"gives a numbered event its id", "message", 7, "id: 7\nevent: message\ndata: {}\n\n"},
		{"gives an event without number none", "typing", 0, "event: typing\ndata: {}\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(stream.AppendFrame(nil, tc.id, tc.event, []byte("{}"))); got != tc.want {
				t.Errorf("got %q", got)
			}
		})
	}
}
