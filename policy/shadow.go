package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// shadowQueue is how many decisions may wait for the candidate; those beyond it are dropped and counted.
const shadowQueue = 1024

// maxDifferences bounds how many kinds of differences are told apart.
const maxDifferences = 256

// Shadow asks a candidate what its engine is asked, after the engine has decided and beside it. What the candidate says
// is counted and nothing else.
type Shadow struct {
	candidate *Engine
	queue     chan Decision
	dropped   atomic.Uint64

	mu          sync.Mutex
	asked       uint64
	differences map[Difference]uint64
}

// Difference is a kind of question to which the candidate has another answer. It holds no reference to anybody.
type Difference struct {
	Purpose   Purpose
	Now       string // the answer in force, such as "allow by converse.agent"
	Candidate string // the candidate's answer, such as "deny for wrong_state"
}

// Counted is a difference with how often it arose.
type Counted struct {
	Difference
	Count uint64
}

// Report is what a candidate has come to since it was put beside the engine.
type Report struct {
	Revision    string
	Asked       uint64
	Dropped     uint64    // decisions it was not asked about, because too many came at once
	Differences []Counted // the most frequent first
}

// Beside puts a candidate beside e, in place of an earlier one. It is asked while Run runs.
func (e *Engine) Beside(candidate *Engine) *Shadow {
	s := &Shadow{candidate: candidate, queue: make(chan Decision, shadowQueue), differences: make(map[Difference]uint64)}
	e.shadow.Store(s)
	return s
}

// Alone takes away the candidate beside e.
func (e *Engine) Alone() { e.shadow.Store(nil) }

// offer hands a decision over without ever waiting.
func (s *Shadow) offer(d Decision) {
	if s == nil {
		return
	}
	select {
	case s.queue <- d:
	default:
		s.dropped.Add(1)
	}
}

// Run asks the candidate until the context ends.
func (s *Shadow) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.queue:
			s.ask(ctx, d)
		}
	}
}

func (s *Shadow) ask(ctx context.Context, now Decision) {
	// An error of the candidate is an answer too: it denies.
	then, _ := s.candidate.Decide(ctx, now.input)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if !Flips(now, then) {
		return
	}
	difference := Difference{now.input.Purpose, answerOf(now), answerOf(then)}
	if _, known := s.differences[difference]; !known && len(s.differences) >= maxDifferences {
		difference = Difference{"other", "other", "other"}
	}
	s.differences[difference]++
}

// Flips reports whether two decisions on one question release different things.
func Flips(a, b Decision) bool {
	return a.Outcome() != b.Outcome() || !slices.Equal(a.masked, b.masked)
}

func answerOf(d Decision) string {
	if !d.Allowed() {
		return "deny for " + strings.Join(d.reasons, ", ")
	}
	answer := string(d.outcome) + " by " + d.rule
	if len(d.masked) > 0 {
		answer += ", masking " + strings.Join(d.masked, ", ")
	}
	return answer
}

// Report says what was counted until now.
func (s *Shadow) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{Revision: s.candidate.Revision(), Asked: s.asked, Dropped: s.dropped.Load()}
	for difference, n := range s.differences {
		r.Differences = append(r.Differences, Counted{difference, n})
	}
	slices.SortFunc(r.Differences, func(a, b Counted) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Purpose, b.Purpose), cmp.Compare(a.Now, b.Now), cmp.Compare(a.Candidate, b.Candidate))
	})
	return r
}
