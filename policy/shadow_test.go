package policy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// stricter shows visitors nothing in closed conversations, and masks who answers.
const stricter = `package counterfoil.purposes.show_agent_to_visitor

terms := {
	"actors": {"visitor"},
	"audiences": {"visitor"},
	"subjects": {"agent"},
	"fields": {"agent_display_name"},
	"states": {"active"},
	"actor_is": {"visitor"},
	"subject_is": {"agent"},
}

permit := {"allow": true, "rule": "show_agent_to_visitor.masked", "masked": {"agent_display_name"}, "obligations": set()} if {
	input.actor.kind == "visitor"
	input.conversation.actor_is == "visitor"
	input.conversation.subject_is == "agent"
	input.conversation.state == "active"
	input.fields == ["agent_display_name"]
}
`

// settled waits until the candidate was asked so often.
func settled(t *testing.T, s *Shadow, asked uint64) Report {
	t.Helper()
	for range 500 {
		if r := s.Report(); r.Asked == asked {
			return r
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the candidate was asked %d times, not %d", s.Report().Asked, asked)
	return Report{}
}

func TestACandidateIsAskedAndNeverDecides(t *testing.T) {
	engine := newEngine(t)
	candidate, err := Load(t.Context(), withFile(t, "show_agent_to_visitor.rego", stricter))
	if err != nil {
		t.Fatal(err)
	}
	s := engine.Beside(candidate)
	go s.Run(t.Context())
	closed := showAgent()
	closed.Conversation.State = "closed"
	for _, in := range []Input{showAgent(), closed, closed, introduce(), denied()} {
		if d, err := engine.Decide(t.Context(), in); err != nil || d.Revision() != engine.Revision() || strings.HasSuffix(d.Rule(), ".masked") {
			t.Errorf("the candidate decided: %s by %s, %v", d.Outcome(), d.Rule(), err)
		}
	}
	report := settled(t, s, 5)
	want := []Counted{
		{Difference{ShowAgentToVisitor, "allow by show_agent_to_visitor.own_conversation", "deny for wrong_state"}, 2},
		{Difference{ShowAgentToVisitor, "allow by show_agent_to_visitor.own_conversation", "masked by show_agent_to_visitor.masked, masking agent_display_name"}, 1},
	}
	if fmt.Sprint(report.Differences) != fmt.Sprint(want) || report.Revision != candidate.Revision() || report.Dropped != 0 {
		t.Errorf("reported %+v, want %v", report, want)
	}
	for _, ref := range []string{"v1", "a1", "c1", "o1"} {
		if strings.Contains(fmt.Sprint(report.Differences), ref) {
			t.Errorf("the report holds the reference %s", ref)
		}
	}
}

func TestADecisionNeverWaitsForACandidate(t *testing.T) {
	engine := newEngine(t)
	s := engine.Beside(newEngine(t)) // and nobody runs it
	for range shadowQueue + 7 {
		if _, err := engine.Decide(t.Context(), showAgent()); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.Report(); r.Dropped != 7 || r.Asked != 0 {
		t.Errorf("%d dropped, %d asked", r.Dropped, r.Asked)
	}
}

func TestACandidateThatFailsDenies(t *testing.T) {
	engine := newEngine(t)
	odd, err := Load(t.Context(), fstest.MapFS{"odd.rego": {Data: []byte("package counterfoil\n\ndecision := 1")}})
	if err != nil {
		t.Fatal(err)
	}
	s := engine.Beside(odd)
	go s.Run(t.Context())
	if d, err := engine.Decide(t.Context(), showAgent()); err != nil || !d.Allowed() {
		t.Fatalf("%v, %v", d.Reasons(), err)
	}
	if r := settled(t, s, 1); len(r.Differences) != 1 || r.Differences[0].Candidate != "deny for policy_error" {
		t.Errorf("%+v", r)
	}
}

func TestTheKindsOfDifferencesAreBounded(t *testing.T) {
	s := newEngine(t).Beside(newEngine(t))
	for i := range maxDifferences + 50 {
		s.ask(context.Background(), Decision{outcome: Allow, rule: fmt.Sprint("rule ", i), input: denied()})
	}
	if r := s.Report(); len(r.Differences) != maxDifferences+1 || r.Differences[0] != (Counted{Difference{"other", "other", "other"}, 50}) {
		t.Errorf("%d kinds, the first %+v", len(r.Differences), r.Differences[0])
	}
}
