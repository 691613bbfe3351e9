package widget

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter holds a token bucket for each of the most recently seen keys. Its memory is bounded: the key that has been
// silent longest is forgotten first, and its bucket is most likely full again by then.
type limiter[K comparable] struct {
	every rate.Limit
	burst int
	room  int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[K]*list.Element
	order   *list.List // of *bucket[K], most recently used first
}

type bucket[K comparable] struct {
	key K
	*rate.Limiter
}

func newLimiter[K comparable](every rate.Limit, burst, room int, now func() time.Time) *limiter[K] {
	return &limiter[K]{every: every, burst: burst, room: room, now: now, buckets: map[K]*list.Element{}, order: list.New()}
}

// allow takes one token of the key's bucket.
func (l *limiter[K]) allow(key K) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.buckets[key]
	if ok {
		l.order.MoveToFront(e)
	} else {
		if l.order.Len() >= l.room {
			oldest := l.order.Back()
			delete(l.buckets, l.order.Remove(oldest).(*bucket[K]).key)
		}
		e = l.order.PushFront(&bucket[K]{key, rate.NewLimiter(l.every, l.burst)})
		l.buckets[key] = e
	}
	return e.Value.(*bucket[K]).AllowN(l.now(), 1)
}

// neighbourhood is what an address is counted under: itself for IPv4, its /64 for IPv6, because one connection to the
// internet has at least that many IPv6 addresses.
func neighbourhood(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // no address is known: all such visitors are counted together
		return netip.Prefix{}
	}
	return p
}
