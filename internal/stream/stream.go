// Package stream holds the open event streams of visitors and promises that none of them has a hole.
//
// A stream is resumable: its position is the number of the last event sent, kept nowhere but in the reader's hand
// (Last-Event-ID) and in storage. The hub therefore never queues events. A stream has one "read again" bit; whoever
// knows that something happened sets it with Wake, and a worker then reads everything after the position. A stream is
// registered before its first read, so that nothing can happen between the two unseen, and only one worker at a time
// holds a stream, so that events leave in the order of their numbers. In any doubt the stream is dropped: the reader
// comes back with its position and loses nothing.
//
// Over HTTP/1.1 the connection is hijacked and the handler's goroutine returns, which leaves about 3 KiB per idle
// stream instead of 30. HTTP/2 and TLS connections of our own cannot be taken over that way and keep their goroutine.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Topic names what a stream follows: the id of a conversation.
type Topic = [16]byte

// Position is how far the slowest stream of a topic has come.
type Position struct {
	Topic Topic
	After int64 // number of the last event sent
}

// Page is what one read of a stream brought.
type Page struct {
	Frames []byte // encoded events, see AppendFrame; may be empty
	Last   int64  // number of the last event in Frames, or the position read from when there was none
	More   bool   // there is more to read right away
	End    bool   // nothing will ever follow: the stream is closed after Frames
}

// Stream describes one reader.
type Stream struct {
	Owner [16]byte // whose topic it is (the organisation); only Stale is told
	Topic Topic
	After int64 // number of the last event the reader has
	// Next reads what follows the position. One call at a time is made for a stream. An error makes the reader see
	// the event "unavailable" once; the read is repeated with growing pauses until it succeeds.
	Next  func(ctx context.Context, after int64) (Page, error)
	Until time.Time // the stream ends then; zero is never
}

// Config is what a hub needs. A zero duration or count means the default in brackets.
type Config struct {
	Workers      int           // reads at the same time [64]
	Heartbeat    time.Duration // pause after which a comment is sent on a silent stream [20 s]
	WriteTimeout time.Duration // how long a slow reader may take for one page [10 s]
	ReadTimeout  time.Duration // limit of one Next [10 s]
	Grace        time.Duration // how long a worker itself waits for a slow reader [20 ms]
	// Stale says which of the owner's topics have moved past their position. It is asked every SafetyLook [5 s] about
	// all open topics, at most 1,000 in a call, and makes a lost Wake cost that long at most. One statement that
	// compares 1,000 numbers replaces 1,000 reads that would nearly all find nothing. Without Stale a lost Wake is
	// made up for when the reader reconnects.
	Stale      func(ctx context.Context, owner [16]byte, at []Position) ([]Topic, error)
	SafetyLook time.Duration
	Logger     *slog.Logger
}

const (
	perTopic   = 8    // streams of one topic (tabs of one visitor); a further one displaces the oldest
	slowLimit  = 256  // slow readers waited for at the same time, each in a goroutine of its own
	staleBatch = 1000 // topics in one call of Stale
	retryFirst = 500 * time.Millisecond
	retryLast  = 15 * time.Second
)

// Fixed frames.
const (
	frameHeartbeat   = ":\n\n"
	frameUnavailable = "event: unavailable\ndata: {}\n\n"
	frameDrain       = "event: drain\ndata: {}\n\n"
)

// What a stream wants from the next worker that holds it. Together with scheduled they are all its state.
const (
	wantRead uint32 = 1 << iota
	wantBeat
	wantPush
	wantDrain
	wantClose
	scheduled // in the queue, held by a worker or waited for as slow
)

// Hub holds all open streams of a process. Make it with New; it does nothing until Run.
type Hub struct {
	cfg Config

	mu       sync.Mutex
	topics   map[Topic]*reader // newest first, linked by reader.older
	all      []*reader
	draining bool
	empty    chan struct{} // closed when draining and no stream is left

	queueMu    sync.Mutex
	queueCond  *sync.Cond
	head, tail *reader
	stopped    bool

	slow chan struct{}
}

// reader is one open stream. It is kept small: there are many, and nearly all of them sleep.
type reader struct {
	Stream
	conn  net.Conn // nil when held
	held  *held    // the handler's goroutine, when the connection could not be taken over
	state atomic.Uint32
	push  atomic.Pointer[[]byte]
	after atomic.Int64
	wrote atomic.Int64 // Unix nanoseconds of the last write
	retry atomic.Int64 // Unix nanoseconds before which no read is tried; 0 is none
	fails uint8        // failed reads in a row; touched only by who holds the stream
	older *reader      // under Hub.mu
	index int32        // in Hub.all, -1 when removed; under Hub.mu
	next  *reader      // under Hub.queueMu
}

// New makes a hub.
func New(cfg Config) *Hub {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Heartbeat, 20*time.Second)
	def(&cfg.WriteTimeout, 10*time.Second)
	def(&cfg.ReadTimeout, 10*time.Second)
	def(&cfg.Grace, 20*time.Millisecond)
	def(&cfg.SafetyLook, 5*time.Second)
	if cfg.Workers == 0 {
		cfg.Workers = 64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{cfg: cfg, topics: map[Topic]*reader{}, empty: make(chan struct{}), slow: make(chan struct{}, slowLimit)}
	h.queueCond = sync.NewCond(&h.queueMu)
	return h
}

// AppendFrame appends one event in the form of the HTML standard's §9.2.5. An id of 0 is left out: such an event does not
// move the reader's position. The data must be one line.
func AppendFrame(dst []byte, id int64, event string, data []byte) []byte {
	if id != 0 {
		dst = append(dst, "id: "...)
		dst = strconv.AppendInt(dst, id, 10)
		dst = append(dst, '\n')
	}
	dst = append(dst, "event: "...)
	dst = append(dst, event...)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, data...)
	return append(dst, '\n', '\n')
}

// Serve answers a request with the stream. Over plain HTTP/1 it returns at once and the connection lives on in the
// hub; otherwise it returns when the stream is over. Headers set on w before are sent. While the hub drains, the
// answer is 503.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, s Stream) {
	header := w.Header()
	if h.isDraining() {
		header.Set("Retry-After", "1")
		http.Error(w, "this server is stopping; connect again", http.StatusServiceUnavailable)
		return
	}
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx and its kin must not collect events
	// The pause a reader makes before it comes back differs from reader to reader, or all would return at once.
	retry := fmt.Sprintf("retry: %d\n\n", 1000+rand.IntN(4000))
	rd := &reader{Stream: s}
	rd.after.Store(s.After)
	rd.wrote.Store(time.Now().UnixNano())
	if r.ProtoMajor == 1 && r.TLS == nil {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			rd.conn = conn
			h.serveHijacked(rd, header, retry)
			return
		}
		if !errors.Is(err, http.ErrNotSupported) {
			h.cfg.Logger.Warn("take over connection for a stream", "error", err)
			return
		}
	}
	h.serveHeld(w, r, rd, retry)
}

func (h *Hub) serveHijacked(rd *reader, header http.Header, retry string) {
	header.Set("Connection", "close") // the body has no length: it ends with the connection
	head := &headBuffer{b: []byte("HTTP/1.1 200 OK\r\nDate: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")}
	_ = header.Write(head) // writes to memory
	head.b = append(append(head.b, "\r\n"...), retry...)
	_ = rd.conn.SetDeadline(time.Time{}) // the server's own limits were meant for the request
	_ = rd.conn.SetWriteDeadline(time.Now().Add(h.cfg.WriteTimeout))
	if _, err := rd.conn.Write(head.b); err != nil || !h.register(rd) {
		_ = rd.conn.Close()
		return
	}
	h.mark(rd, wantRead)
}

// headBuffer is the smallest io.Writer; bytes.Buffer would keep 64 bytes we do not need while the stream starts.
type headBuffer struct{ b []byte }

func (b *headBuffer) Write(p []byte) (int, error) {
	b.b = append(b.b, p...)
	return len(p), nil
}

// Wake says that the topic has moved. It never blocks for long and may be called for topics nobody follows.
func (h *Hub) Wake(t Topic) { h.each(t, func(rd *reader) { h.mark(rd, wantRead) }) }

// Push sends a frame that has no number to whoever follows the topic now. It may be lost: a later one displaces it
// while it waits.
func (h *Hub) Push(t Topic, frame []byte) {
	h.each(t, func(rd *reader) {
		rd.push.Store(&frame)
		h.mark(rd, wantPush)
	})
}

func (h *Hub) each(t Topic, f func(*reader)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for rd := h.topics[t]; rd != nil; rd = rd.older {
		f(rd)
	}
}

// Count is the number of open streams.
func (h *Hub) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all)
}

// Run serves the streams until ctx ends, then closes those that are left. Call Drain before to send readers elsewhere.
func (h *Hub) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range h.cfg.Workers {
		wg.Go(func() {
			for {
				rd := h.dequeue()
				if rd == nil {
					return
				}
				h.turn(ctx, rd)
			}
		})
	}
	if h.cfg.Stale != nil {
		wg.Go(func() { h.look(ctx) })
	}
	h.scan(ctx)
	h.queueMu.Lock()
	h.stopped = true
	h.queueMu.Unlock()
	h.queueCond.Broadcast()
	wg.Wait()
	h.mu.Lock()
	h.draining = true
	left := slices.Clone(h.all)
	h.mu.Unlock()
	for _, rd := range left {
		h.close(rd)
	}
	return nil
}

// Drain refuses new streams, tells every reader to connect elsewhere and closes the streams. It returns when none is
// left, or with ctx's error. Run must still be running.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	none := len(h.all) == 0
	for _, rd := range h.all {
		h.mark(rd, wantDrain)
	}
	h.mu.Unlock()
	if none {
		return nil
	}
	select {
	case <-h.empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain streams: %d left: %w", h.Count(), ctx.Err())
	}
}

func (h *Hub) isDraining() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining
}

// register makes rd visible to Wake; after it returns true nothing that happens is missed.
func (h *Hub) register(rd *reader) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return false
	}
	rd.older = h.topics[rd.Topic]
	h.topics[rd.Topic] = rd
	rd.index = int32(len(h.all))
	h.all = append(h.all, rd)
	n, oldest := 0, rd
	for ; oldest.older != nil; oldest = oldest.older {
		n++
	}
	if n >= perTopic {
		h.mark(oldest, wantClose)
	}
	return true
}

// close ends a stream; a second call does nothing.
func (h *Hub) close(rd *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rd.index < 0 {
		return
	}
	last := h.all[len(h.all)-1]
	h.all[rd.index], last.index = last, rd.index
	h.all[len(h.all)-1] = nil
	h.all = h.all[:len(h.all)-1]
	rd.index = -1
	if first := h.topics[rd.Topic]; first == rd {
		if rd.older == nil {
			delete(h.topics, rd.Topic)
		} else {
			h.topics[rd.Topic] = rd.older
		}
	} else {
		for ; first.older != rd; first = first.older {
		}
		first.older = rd.older
	}
	if rd.held != nil {
		close(rd.held.done)
	} else {
		_ = rd.conn.Close()
	}
	if h.draining && len(h.all) == 0 {
		select {
		case <-h.empty:
		default:
			close(h.empty)
		}
	}
}

// mark sets what the stream wants and schedules it unless it is scheduled already.
func (h *Hub) mark(rd *reader, want uint32) {
	if rd.state.Or(want|scheduled)&scheduled == 0 {
		h.enqueue(rd)
	}
}

func (h *Hub) enqueue(rd *reader) {
	if rd.held != nil {
		rd.held.ready <- struct{}{} // has room: a stream is scheduled once
		return
	}
	h.queueMu.Lock()
	if h.tail == nil {
		h.head = rd
	} else {
		h.tail.next = rd
	}
	h.tail = rd
	h.queueMu.Unlock()
	h.queueCond.Signal()
}

func (h *Hub) dequeue() *reader {
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	for h.head == nil && !h.stopped {
		h.queueCond.Wait()
	}
	if h.stopped {
		return nil
	}
	rd := h.head
	h.head, rd.next = rd.next, nil
	if h.head == nil {
		h.tail = nil
	}
	return rd
}

// turn gives the stream what it wants: one page at most, so that a long history does not keep others waiting.
func (h *Hub) turn(ctx context.Context, rd *reader) {
	want := rd.state.And(scheduled) &^ scheduled
	now := time.Now()
	if want&wantClose != 0 || !rd.Until.IsZero() && !now.Before(rd.Until) {
		h.close(rd)
		return
	}
	if want&wantDrain != 0 {
		h.send(rd, []byte(frameDrain), true)
		return
	}
	var out []byte
	end := false
	if p := rd.push.Swap(nil); p != nil {
		out = *p
	}
	if want&wantRead != 0 && now.UnixNano() >= rd.retry.Load() {
		page := h.read(ctx, rd)
		if len(out) == 0 {
			out = page.Frames
		} else {
			out = append(append(make([]byte, 0, len(out)+len(page.Frames)), out...), page.Frames...)
		}
		end = page.End
		if page.More {
			rd.state.Or(wantRead)
		}
	}
	if len(out) == 0 && want&wantBeat != 0 {
		if rd.conn != nil && peerGone(rd.conn) {
			h.close(rd)
			return
		}
		out = []byte(frameHeartbeat)
	}
	if len(out) == 0 && !end {
		h.release(rd)
		return
	}
	h.send(rd, out, end)
}

// read calls Next and turns a failure into a page of its own.
func (h *Hub) read(ctx context.Context, rd *reader) Page {
	after := rd.after.Load()
	limited, cancel := context.WithTimeout(ctx, h.cfg.ReadTimeout)
	page, err := rd.Next(limited, after)
	cancel()
	if err == nil && page.Last < after {
		err = fmt.Errorf("read went back from %d to %d", after, page.Last)
	}
	if err == nil {
		rd.after.Store(page.Last)
		rd.retry.Store(0)
		rd.fails = 0
		return page
	}
	if ctx.Err() != nil {
		return Page{Last: after, End: true} // the hub is stopping or the held reader has gone
	}
	pause := min(retryFirst<<min(rd.fails, 8), retryLast)
	pause += rand.N(pause / 2)
	rd.retry.Store(time.Now().Add(pause).UnixNano())
	first := rd.fails == 0
	rd.fails = min(rd.fails+1, 8)
	if !first {
		return Page{Last: after}
	}
	h.cfg.Logger.Warn("read for a stream; will retry", "error", err, "after", pause)
	return Page{Frames: []byte(frameUnavailable), Last: after}
}

// send writes b and releases or closes the stream. A worker waits only for the grace time; what the reader could not
// take by then goes on in a goroutine of its own, of which there is a limited number.
func (h *Hub) send(rd *reader, b []byte, end bool) {
	if rd.held != nil {
		h.sent(rd, rd.held.write(b, h.cfg.WriteTimeout), end)
		return
	}
	_ = rd.conn.SetWriteDeadline(time.Now().Add(h.cfg.Grace))
	n, err := rd.conn.Write(b)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		select {
		case h.slow <- struct{}{}:
			rest := slices.Clone(b[n:])
			go func() {
				_ = rd.conn.SetWriteDeadline(time.Now().Add(h.cfg.WriteTimeout))
				_, err := rd.conn.Write(rest)
				<-h.slow
				h.sent(rd, err, end)
			}()
			return
		default:
		}
	}
	h.sent(rd, err, end)
}

func (h *Hub) sent(rd *reader, err error, end bool) {
	if err != nil || end {
		h.close(rd)
		return
	}
	rd.wrote.Store(time.Now().UnixNano())
	h.release(rd)
}

// release lets go of a stream, or schedules it again when something was wanted meanwhile.
func (h *Hub) release(rd *reader) {
	if !rd.state.CompareAndSwap(scheduled, 0) {
		h.enqueue(rd)
	}
}

// scan is the one clock of all streams: it looks at each every second and schedules those that are due.
func (h *Hub) scan(ctx context.Context) {
	tick := time.NewTicker(min(h.cfg.Heartbeat/10, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		at := now.UnixNano()
		h.mu.Lock()
		for _, rd := range h.all {
			var want uint32
			if at-rd.wrote.Load() >= int64(h.cfg.Heartbeat) {
				want |= wantBeat
			}
			if retry := rd.retry.Load(); retry != 0 && at >= retry {
				want |= wantRead
			}
			if !rd.Until.IsZero() && !now.Before(rd.Until) {
				want |= wantClose
			}
			if want != 0 {
				h.mark(rd, want)
			}
		}
		h.mu.Unlock()
	}
}

// look asks Stale about every open topic and wakes those whose hint was lost.
func (h *Hub) look(ctx context.Context) {
	tick := time.NewTicker(h.cfg.SafetyLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for owner, at := range h.positions() {
			for part := range slices.Chunk(at, staleBatch) {
				if err := h.lookAt(ctx, owner, part); err != nil && ctx.Err() == nil {
					// Readers learn of trouble from their own reads; here the next look is enough.
					h.cfg.Logger.Warn("look for streams whose hint was lost", "error", err)
					break
				}
			}
		}
	}
}

func (h *Hub) lookAt(ctx context.Context, owner [16]byte, at []Position) error {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.ReadTimeout)
	defer cancel()
	moved, err := h.cfg.Stale(ctx, owner, at)
	if err != nil {
		return err
	}
	for _, t := range moved {
		h.Wake(t)
	}
	return nil
}

func (h *Hub) positions() map[[16]byte][]Position {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[[16]byte][]Position{}
	for t, rd := range h.topics {
		owner, after := rd.Owner, rd.after.Load()
		for rd = rd.older; rd != nil; rd = rd.older {
			after = min(after, rd.after.Load())
		}
		all[owner] = append(all[owner], Position{Topic: t, After: after})
	}
	return all
}
