package teams

import (
	"container/list"
	"strings"
	"sync"
	"time"
)

// The documented limits of a bot in one thread. A channel with all its reply threads counts as one.
const (
	burstSends, burstSpan   = 7, time.Second
	shortSends, shortSpan   = 8, 2 * time.Second
	recentSends, recentSpan = 60, 30 * time.Second
	hourlySends             = 1800
	hourMinutes             = 60
	maxThreads              = 4096
)

// Pacer keeps sends within the limits of Teams per thread: 7 in any second, 8 in any two, 60 in any 30 seconds, 1800 in any hour.
// It counts sends in sliding windows. A bucket refilled at the same rate would let through nearly twice the limit in
// some window. Memory is bounded (about 1 KiB for each of at most 4096 threads; the longest unused is forgotten).
// It is safe for concurrent use.
type Pacer struct {
	now func() time.Time

	mu      sync.Mutex
	threads map[string]*list.Element
	recent  *list.List // of *thread, the latest used in front
}

type thread struct {
	key  string
	last [recentSends]int64 // ring of the latest sends, in nanoseconds since 1970; 0 is none
	next int
	// slots count the sends of the hour by minute since 1970; a minute counts until all of it is an hour ago.
	slots [hourMinutes + 1]struct{ minute, sends int32 }
}

// NewPacer makes a Pacer.
func NewPacer(now func() time.Time) *Pacer {
	return &Pacer{now: now, threads: map[string]*list.Element{}, recent: list.New()}
}

// Take asks to send to a conversation now. Zero means yes, and the send is counted; otherwise it is how long to wait
// before asking again, and nothing is counted.
func (p *Pacer) Take(conversationID string) time.Duration {
	key, _, _ := strings.Cut(conversationID, threadMark)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	t := p.thread(key)
	if wait := t.wait(now); wait > 0 {
		return wait
	}
	t.count(now)
	return 0
}

func (p *Pacer) thread(key string) *thread {
	if e, ok := p.threads[key]; ok {
		p.recent.MoveToFront(e)
		return e.Value.(*thread)
	}
	if len(p.threads) >= maxThreads {
		oldest := p.recent.Back()
		delete(p.threads, p.recent.Remove(oldest).(*thread).key)
	}
	t := &thread{key: key}
	p.threads[key] = p.recent.PushFront(t)
	return t
}

func (t *thread) wait(now time.Time) time.Duration {
	var wait time.Duration
	// The oldest of the last n sends must be a whole span ago before another is made.
	for _, limit := range []struct {
		n    int
		span time.Duration
	}{{burstSends, burstSpan}, {shortSends, shortSpan}, {recentSends, recentSpan}} {
		oldest := t.last[(t.next-limit.n+recentSends)%recentSends]
		if oldest != 0 {
			wait = max(wait, limit.span-time.Duration(now.UnixNano()-oldest))
		}
	}
	minute, total, first := minuteOf(now), int32(0), int32(0)
	for _, s := range t.slots {
		if s.sends > 0 && s.minute >= minute-hourMinutes {
			total += s.sends
			if first == 0 || s.minute < first {
				first = s.minute
			}
		}
	}
	if total >= hourlySends {
		wait = max(wait, time.Unix(int64(first+hourMinutes+1)*60, 0).Sub(now))
	}
	return wait
}

func (t *thread) count(now time.Time) {
	t.last[t.next] = now.UnixNano()
	t.next = (t.next + 1) % recentSends
	minute := minuteOf(now)
	s := &t.slots[minute%int32(len(t.slots))]
	if s.minute != minute {
		s.minute, s.sends = minute, 0
	}
	s.sends++
}

func minuteOf(t time.Time) int32 { return int32(t.Unix() / 60) }
