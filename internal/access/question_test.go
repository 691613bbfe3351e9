package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// schema is what is needed of the schema of questions to make some.
type schema struct {
	Type       string            `json:"type"`
	Enum       []string          `json:"enum"`
	Items      *schema           `json:"items"`
	Properties map[string]schema `json:"properties"`
}

// random makes a value that fits the schema, so that a member added to the question is tried without a change here.
func (s schema) random(r *rand.Rand) any {
	switch s.Type {
	case "object":
		object := map[string]any{}
		for name, property := range s.Properties {
			object[name] = property.random(r)
		}
		return object
	case "array":
		list := []any{}
		for range r.IntN(4) {
			list = append(list, s.Items.random(r))
		}
		return list
	case "boolean":
		return r.IntN(2) == 0
	case "integer":
		return []int{0, 0, 1, -1, 300, 1 << 40, r.IntN(1e6)}[r.IntN(7)]
	}
	if s.Enum != nil {
		return s.Enum[r.IntN(len(s.Enum))]
	}
	return []string{"", "o1", "o2", "yufdnd", "é \"quoted\" \\ *", "a,b:c"}[r.IntN(6)]
}

func TestEveryQuestionIsReadBackFromItsRecord(t *testing.T) {
	text, err := os.ReadFile("../../policy/schemas/input.json")
	if err != nil {
		t.Fatal(err)
	}
	var inputs schema
	if err := json.Unmarshal(text, &inputs); err != nil || len(inputs.Properties) < 9 {
		t.Fatalf("the schema of questions has %d members, %v", len(inputs.Properties), err)
	}
	engine, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		text, err := json.Marshal(inputs.random(r))
		if err != nil {
			t.Fatal(err)
		}
		var in policy.Input
		if err := json.Unmarshal(text, &in); err != nil {
			t.Fatal(err)
		}
		slices.Sort(in.Fields)
		in.Fields = slices.Compact(in.Fields)
		in.Actor.Recent, in.Retention.Days = max(in.Actor.Recent, 0), max(in.Retention.Days, 0)
		for l, n := &in.Organisation.Limits, 0; n < 6; n++ {
			of := []*int{&l.Visitor, &l.Agent, &l.Channel, &l.Admin, &l.Operator, &l.Job}[n]
			*of = max(*of, 0)
		}
		if in.Subject.Organisation == "" {
			in.Subject.Organisation = "o1" // every record lies in a log
		}
		d, err := engine.Decide(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		q := question{kind: audit.Disclosure}
		if r.IntN(3) == 0 {
			q = question{kind: audit.Administration, action: "audit.list", facts: map[string]string{"last": "5", factState: "active", factJustification: "true"}}
		}
		e := entryOf(in, d, q)
		e.Organisation, e.Time, e.Nonce = in.Subject.Organisation, time.Unix(1, 0), [16]byte{1}
		body, err := e.Marshal()
		if err != nil {
			t.Fatalf("%+v: %v", in, err)
		}
		if e, err = audit.ParseEntry(body); err != nil {
			t.Fatal(err)
		}
		back, err := InputOf(e)
		if err != nil {
			t.Fatalf("%+v: %v", in, err)
		}
		if got, want := fmt.Sprintf("%+v", back), fmt.Sprintf("%+v", in); got != want {
			t.Fatalf("read back\n%s\nasked\n%s", got, want)
		}
		again, err := engine.Decide(t.Context(), back)
		if err != nil || again.Outcome() != d.Outcome() || again.Rule() != d.Rule() || !slices.Equal(again.Reasons(), d.Reasons()) {
			t.Fatalf("%s: decided %s by %s, again %s by %s, %v", body, d.Outcome(), d.Rule(), again.Outcome(), again.Rule(), err)
		}
		if q.action != "" && e.Facts["last"] != "5" {
			t.Fatalf("the act's own facts are lost: %v", e.Facts)
		}
	}
}

func TestAJobAsksAsItself(t *testing.T) {
	organisation := uuid.New()
	for task, purpose := range map[string]policy.Purpose{"retention": policy.ApplyRetention, "canary_scan": policy.ScanForCanaries} {
		q := question{who: principal.NewJob(organisation, task), purpose: purpose, audience: "service", scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}}
		engine, err := policy.New(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for asked, want := range map[policy.Purpose]policy.Outcome{purpose: policy.Allow, policy.ArchiveConversation: policy.Deny, policy.ReadAuditLog: policy.Deny} {
			q.purpose = asked
			if d, err := engine.Decide(t.Context(), q.input(references{actor: "j"}, 0)); err != nil || d.Outcome() != want {
				t.Errorf("%s at %s: %s for %v, %v", task, asked, d.Outcome(), d.Reasons(), err)
			}
		}
	}
}

func TestARecordWithDamagedFactsGivesNoQuestion(t *testing.T) {
	for _, facts := range []map[string]string{
		{factActorRecent: "many"}, {factJustification: "maybe"}, {factActorFactors: "totp"}, {factActorFactors: "totp:soon"}, {factApprovalExpiration: "1e3"},
	} {
		if in, err := InputOf(audit.Entry{Decision: audit.DecisionDeny, Facts: facts}); err == nil {
			t.Errorf("%v gives %+v", facts, in)
		}
	}
	if _, err := InputOf(audit.Entry{Action: "notice.accept"}); !errors.Is(err, ErrUndecided) {
		t.Errorf("what nobody decided: %v", err)
	}
}
