package standin

import "time"

// A limit allows n calls in any stretch of time d.
type limit struct {
	n int
	d time.Duration
}

// The limits Teams documents per bot and thread. A channel with all its threads is one thread to them.
var (
	sendWindows = [4]limit{{7, time.Second}, {8, 2 * time.Second}, {60, 30 * time.Second}, {1800, time.Hour}}
	readWindows = [4]limit{{14, time.Second}, {16, 2 * time.Second}, {120, 30 * time.Second}, {3600, time.Hour}}
)

// meter keeps the times of the calls within the longest window, by thread.
type meter struct {
	windows [4]limit
	times   map[string][]time.Time
}

func newMeter(windows [4]limit) meter {
	return meter{windows: windows, times: map[string][]time.Time{}}
}

// take books n calls at once and returns 0, or books none and returns how long to wait.
func (m *meter) take(thread string, n int, now time.Time) time.Duration {
	times := m.times[thread]
	longest := m.windows[len(m.windows)-1].d
	for len(times) > 0 && now.Sub(times[0]) >= longest {
		times = times[1:]
	}
	var wait time.Duration
	for _, w := range m.windows {
		// The call that has to leave the window before n more fit in.
		if i := len(times) + n - w.n - 1; i >= 0 {
			leaving := times[min(i, len(times)-1)]
			wait = max(wait, leaving.Add(w.d).Sub(now))
		}
	}
	if wait <= 0 {
		wait = 0
		for range n {
			times = append(times, now)
		}
	}
	m.times[thread] = times
	return wait
}
