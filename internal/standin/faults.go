package standin

import (
	"context"
	"fmt"
	"time"
)

// Fault is what connector calls meet instead of an ordinary answer.
type Fault string

const (
	FaultNone     Fault = ""
	FaultThrottle Fault = "throttle" // 429 with Retry-After; nothing was done
	FaultError    Fault = "error"    // 500; nothing was done
	FaultStall    Fault = "stall"    // the call is carried out, and its answer never comes
)

type faults struct {
	kind      Fault
	calls     int // how many calls still meet kind
	duplicate bool
	latency   time.Duration
}

// FailNext lets the next n connector calls meet the fault. FaultNone, or n of 0, ends the fault.
func (s *Server) FailNext(kind Fault, n int) error {
	switch kind {
	case FaultNone, FaultThrottle, FaultError, FaultStall:
	default:
		return fmt.Errorf("unknown fault %q", kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.faults.kind, s.w.faults.calls = kind, max(n, 0)
	if kind == FaultNone || n <= 0 {
		s.w.faults.kind, s.w.faults.calls = FaultNone, 0
	}
	s.touch()
	return nil
}

// DuplicateNext lets the next activity reach the bot twice at the same time.
func (s *Server) DuplicateNext(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.faults.duplicate = on
	s.touch()
}

// SetLatency delays every connector call and every delivery to the bot by d.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.faults.latency = max(d, 0)
	s.touch()
}

// OldClient makes the member's Teams one that does not know Action.Execute and uses its Action.Submit fallback.
func (s *Server) OldClient(short string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.oldClient[short] = on
	s.touch()
}

func (s *Server) takeFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.w.faults
	if f.calls == 0 {
		return FaultNone
	}
	kind := f.kind
	if f.calls--; f.calls == 0 {
		f.kind = FaultNone
	}
	s.touch()
	return kind
}

func (s *Server) takeDuplicate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.w.faults.duplicate
	if on {
		s.w.faults.duplicate = false
		s.touch()
	}
	return on
}

func (s *Server) delay(ctx context.Context) error {
	s.mu.Lock()
	d := s.w.faults.latency
	s.mu.Unlock()
	return sleep(ctx, d)
}
