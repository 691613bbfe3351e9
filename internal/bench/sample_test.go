package bench

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// sample is what one path did in all its turns.
type sample struct {
	latencies []time.Duration
	busy      time.Duration
	sorted    bool
}

// run lets callers call f in a loop for a while and adds what they saw. A call that began in time counts, and the time
// until the last of them is back counts with it.
func (s *sample) run(b *testing.B, callers int, length time.Duration, f func(ctx context.Context, caller int) error) {
	b.Helper()
	ctx := b.Context()
	var running sync.WaitGroup
	each := make([][]time.Duration, callers)
	errs := make([]error, callers)
	start := time.Now()
	end := start.Add(length)
	for c := range callers {
		running.Go(func() {
			for at := time.Now(); at.Before(end); {
				if errs[c] = f(ctx, c); errs[c] != nil {
					return
				}
				now := time.Now()
				each[c] = append(each[c], now.Sub(at))
				at = now
			}
		})
	}
	running.Wait()
	s.busy += time.Since(start)
	for c := range callers {
		must(b, errs[c])
		s.latencies = append(s.latencies, each[c]...)
	}
	s.sorted = false
}

func (s *sample) rate() float64 { return float64(len(s.latencies)) / s.busy.Seconds() }

// ms is the latency in milliseconds that a part of the calls (0.5, 0.99) kept within.
func (s *sample) ms(part float64) float64 {
	if len(s.latencies) == 0 {
		return 0
	}
	if !s.sorted {
		slices.Sort(s.latencies)
		s.sorted = true
	}
	return float64(s.latencies[int(part*float64(len(s.latencies)-1))]) / float64(time.Millisecond)
}
