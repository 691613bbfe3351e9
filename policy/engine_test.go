package policy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
)

// showAgent is a visitor who is shown who answers him.
func showAgent() Input {
	return Input{
		Actor:        Actor{Kind: "visitor", Organisation: "o1", Ref: "v1", Address: "none"},
		Purpose:      ShowAgentToVisitor,
		Audience:     "visitor",
		Subject:      Subject{Kind: "agent", Organisation: "o1", Ref: "a1"},
		Fields:       []string{AgentDisplayName},
		Conversation: Conversation{Ref: "c1", State: "active", ActorIs: "visitor", SubjectIs: "agent"},
	}
}

// introduce is an agent who is shown whom he answers.
func introduce() Input {
	return Input{
		Actor:        Actor{Kind: "agent", Organisation: "o1", Ref: "a1", Address: "none"},
		Purpose:      IntroduceVisitorToAgent,
		Audience:     "agent",
		Subject:      Subject{Kind: "visitor", Organisation: "o1", Ref: "v1"},
		Fields:       []string{VisitorAnswers, VisitorDisplayName, VisitorEmail, VisitorPhone},
		Conversation: Conversation{Ref: "c1", State: "active", ActorIs: "agent", SubjectIs: "visitor"},
	}
}

// reveal is a privacy officer who looks a person up.
func reveal() Input {
	return Input{
		Actor: Actor{
			Kind: "admin", Organisation: "o1", Ref: "p1", Roles: []string{"privacy_officer"},
			Factors: []Factor{{"password", 4000, ""}, {"totp", 60, "reveal_to_admin"}}, Address: "admitted",
		},
		Purpose:  RevealToAdmin,
		Audience: "console",
		Subject:  Subject{Kind: "agent", Organisation: "o1", Ref: "a1"},
		Fields:   []string{AgentDisplayName, AgentEmail},

		Justification: true,
	}
}

// denied is a visitor who asks for an email in another organisation.
func denied() Input {
	in := showAgent()
	in.Subject.Organisation = "o2"
	in.Fields = []string{AgentEmail}
	return in
}

func newEngine(t testing.TB) *Engine {
	t.Helper()
	engine, err := New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return engine
}

// wantDenied fails unless d denies in every way one can look at it.
func wantDenied(t *testing.T, d Decision) {
	t.Helper()
	if d.Allowed() || d.Outcome() != Deny || d.Rule() != "default.deny" || d.Masked() != nil || d.Obligations() != nil {
		t.Errorf("%s by %s, masks %v, obliges to %v", d.Outcome(), d.Rule(), d.Masked(), d.Obligations())
	}
}

func TestTheZeroDecisionDenies(t *testing.T) { wantDenied(t, Decision{}) }

func TestTheZeroInputIsDenied(t *testing.T) {
	d, err := newEngine(t).Decide(t.Context(), Input{})
	if err != nil {
		t.Fatal(err)
	}
	wantDenied(t, d)
}

func TestDecisionKeepsItsInputToItself(t *testing.T) {
	engine := newEngine(t)
	in := introduce()
	in.Actor.Roles, in.Actor.Factors = []string{"auditor"}, []Factor{{"totp", 1, ""}}
	d, err := engine.Decide(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(in Input) {
		in.Fields[0], in.Actor.Roles[0], in.Actor.Factors[0] = "x", "x", Factor{"x", 9, ""}
	}
	spoil(in)
	spoil(d.Input())
	d.Masked()[0] = "x"
	got := d.Input()
	if got.Fields[0] != VisitorAnswers || got.Actor.Roles[0] != "auditor" || got.Actor.Factors[0].Method != "totp" {
		t.Errorf("the input changed: %+v", got)
	}
	if want := []string{VisitorEmail, VisitorPhone}; !slices.Equal(d.Masked(), want) {
		t.Errorf("masks %v, want %v", d.Masked(), want)
	}
	if d.Revision() != engine.Revision() || d.Revision() == "" {
		t.Errorf("revision %q, of the engine %q", d.Revision(), engine.Revision())
	}
}

func TestDecideDeniesWithAnErrorWhen(t *testing.T) {
	good := newEngine(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	overdue := newEngine(t)
	overdue.limit = -time.Second
	odd := func(text string) *Engine {
		engine, err := Load(t.Context(), fstest.MapFS{"odd.rego": {Data: []byte("package counterfoil\n\n" + text)}})
		if err != nil {
			t.Fatal(err)
		}
		return engine
	}
	ask := func(change func(*Input)) Input {
		in := showAgent()
		change(&in)
		return in
	}
	release := `"allow": true, "rule": "r", "masked": set(), "obligations": set()`
	many := make([]string, maxList+1)
	for i := range many {
		many[i] = fmt.Sprintf("f%03d", i)
	}
	for _, c := range []struct {
		name   string
		ctx    context.Context
		engine *Engine
		in     Input
		want   error // nil: any
	}{
		{"there is no engine", t.Context(), nil, showAgent(), nil},
		{"the context is cancelled", cancelled, good, showAgent(), context.Canceled},
		{"the time is over", t.Context(), overdue, showAgent(), context.DeadlineExceeded},
		{"nothing is decided", t.Context(), odd("decision := 1 if input.audience == \"x\""), showAgent(), errOdd},
		{"two rules contradict each other", t.Context(), odd("decision := {" + release + "}\n\ndecision := 2 if input.audience == \"visitor\""), showAgent(), nil},
		{"the answer is a boolean", t.Context(), odd("decision := true"), showAgent(), errOdd},
		{"the answer is empty", t.Context(), odd("decision := {}"), showAgent(), errOdd},
		{"allow is a word", t.Context(), odd(`decision := {"allow": "yes", "rule": "r", "masked": set(), "obligations": set()}`), showAgent(), errOdd},
		{"a release has reasons", t.Context(), odd("decision := {" + release + `, "reasons": set()}`), showAgent(), errOdd},
		{"a release has no rule", t.Context(), odd(`decision := {"allow": true, "rule": "", "masked": set(), "obligations": set()}`), showAgent(), errOdd},
		{"a release lacks the obligations", t.Context(), odd(`decision := {"allow": true, "rule": "r", "masked": set(), "x": set()}`), showAgent(), errOdd},
		{"the masked fields are an array", t.Context(), odd(`decision := {"allow": true, "rule": "r", "masked": [], "obligations": set()}`), showAgent(), errOdd},
		{"a masked field is a number", t.Context(), odd(`decision := {"allow": true, "rule": "r", "masked": {1}, "obligations": set()}`), showAgent(), errOdd},
		{"a field is masked that nobody asked for", t.Context(), odd(`decision := {"allow": true, "rule": "r", "masked": {"agent_email"}, "obligations": set()}`), showAgent(), errOdd},
		{"a denial has no reason", t.Context(), odd(`decision := {"allow": false, "reasons": set()}`), showAgent(), errOdd},
		{"a denial has a rule", t.Context(), odd(`decision := {"allow": false, "rule": "r", "reasons": {"x"}}`), showAgent(), errOdd},
		{"a field is asked for twice", t.Context(), good, ask(func(in *Input) { in.Fields = []string{AgentDisplayName, AgentDisplayName} }), nil},
		{"the fields are not sorted", t.Context(), good, ask(func(in *Input) { in.Fields = []string{AgentEmail, AgentDisplayName} }), nil},
		{"there are too many fields", t.Context(), good, ask(func(in *Input) { in.Fields = many }), nil},
		{"less than nothing was disclosed", t.Context(), good, ask(func(in *Input) { in.Actor.Recent = -1 }), nil},
		{"there are too many roles", t.Context(), good, ask(func(in *Input) { in.Actor.Roles = many }), nil},
		{"there are too many factors", t.Context(), good, ask(func(in *Input) { in.Actor.Factors = make([]Factor, maxList+1) }), nil},
		{"a reference is too long", t.Context(), good, ask(func(in *Input) { in.Subject.Ref = strings.Repeat("x", maxText+1) }), nil},
		{"the purpose is too long", t.Context(), good, ask(func(in *Input) { in.Purpose = Purpose(strings.Repeat("x", maxText+1)) }), nil},
		{"a field is too long", t.Context(), good, ask(func(in *Input) { in.Fields = []string{strings.Repeat("x", maxText+1)} }), nil},
		{"a role is too long", t.Context(), good, ask(func(in *Input) { in.Actor.Roles = []string{strings.Repeat("x", maxText+1)} }), nil},
		{"a factor is too long", t.Context(), good, ask(func(in *Input) { in.Actor.Factors = []Factor{{strings.Repeat("x", maxText+1), 1, ""}} }), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := c.engine.Decide(c.ctx, c.in)
			if err == nil || !errors.Is(err, c.want) && c.want != nil {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if err != nil && len(err.Error()) > 400 {
				t.Errorf("the error holds what was sent: %d bytes", len(err.Error()))
			}
			wantDenied(t, d)
			if !slices.Equal(d.Reasons(), []string{ReasonPolicyError}) {
				t.Errorf("reasons %v", d.Reasons())
			}
		})
	}
}

// TestAnEndlessEvaluationIsCutShort runs a policy that would try 32^10
// combinations.
func TestAnEndlessEvaluationIsCutShort(t *testing.T) {
	loops := strings.Repeat("\tinput.fields[_] != \"\"\n", 10)
	engine, err := Load(t.Context(), fstest.MapFS{"slow.rego": {Data: []byte(
		"package counterfoil\n\ndecision := {\"allow\": false, \"reasons\": {\"x\"}} if {\n" + loops + "\tcount(input.fields) > 99\n}\n",
	)}})
	if err != nil {
		t.Fatal(err)
	}
	engine.limit = 20 * time.Millisecond
	in := showAgent()
	in.Fields = make([]string, maxList)
	for i := range in.Fields {
		in.Fields[i] = fmt.Sprintf("f%03d", i)
	}
	d, err := engine.Decide(t.Context(), in)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	wantDenied(t, d)

	engine.limit = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	d, err = engine.Decide(ctx, in)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	wantDenied(t, d)
}

func TestAVetoWinsOverEveryPermit(t *testing.T) {
	engine, err := Load(t.Context(), withFile(t, "hold.rego", "package counterfoil\n\nveto contains \"legal_hold\" if input.subject.ref != \"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	for _, purpose := range Purposes() {
		for _, base := range bases(purpose) {
			for range 50 {
				d, err := engine.Decide(t.Context(), base.in)
				if err != nil {
					t.Fatal(err)
				}
				if base.in.Subject.Ref != "" {
					wantDenied(t, d)
				}
				if base.in.Subject.Ref != "" && !slices.Contains(d.Reasons(), "legal_hold") {
					t.Errorf("%s: reasons %v", base.in.Purpose, d.Reasons())
				}
				base.in = mutate(r, base.in.clone())
			}
		}
	}
}

// members gives the members of a question that are words of somebody's, by name.
func members(in *Input) map[string]*string {
	all := map[string]*string{
		"kind": &in.Actor.Kind, "address": &in.Actor.Address, "job": &in.Actor.Job, "actor's organisation": &in.Actor.Organisation, "actor": &in.Actor.Ref,
		"purpose": (*string)(&in.Purpose), "audience": &in.Audience,
		"subject's kind": &in.Subject.Kind, "subject's organisation": &in.Subject.Organisation, "subject": &in.Subject.Ref,
		"conversation": &in.Conversation.Ref, "state": &in.Conversation.State, "actor is": &in.Conversation.ActorIs, "subject is": &in.Conversation.SubjectIs,
		"approved by": &in.Approval.By, "approved for": &in.Approval.Actor, "approved about": &in.Approval.Subject, "requested": &in.Request,
	}
	for i := range in.Actor.Roles {
		all[fmt.Sprint("role ", i)] = &in.Actor.Roles[i]
	}
	for i := range in.Actor.Factors {
		all[fmt.Sprint("factor ", i)] = &in.Actor.Factors[i].Method
	}
	for i := range in.Fields {
		all[fmt.Sprint("field ", i)] = &in.Fields[i]
	}
	return all
}

// sameAsAnyOther fails unless a word in place of each member of each permitted question comes to what any other word
// comes to that means nothing.
func sameAsAnyOther(t *testing.T, words func(was string) []string) {
	t.Helper()
	engine := newEngine(t)
	ask := func(in Input, member, word string) string {
		in = in.clone()
		*members(&in)[member] = word
		d, err := engine.Decide(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return string(d.Outcome()) + " " + say(d)
	}
	for _, purpose := range Purposes() {
		for _, base := range bases(purpose) {
			for member, was := range members(&base.in) {
				for _, word := range words(*was) {
					if got, want := ask(base.in, member, word), ask(base.in, member, "meaningless"); got != want && word != *was {
						t.Errorf("%s, %s, %s: %q comes to %s, any other word to %s", purpose, base.name, member, word, got, want)
					}
				}
			}
		}
	}
}

func TestNoValueOfAQuestionBecomesAPattern(t *testing.T) {
	sameAsAnyOther(t, func(was string) []string {
		return []string{"*", "+", "**", ".*", ".+", "%", "?", "/", "../" + was, was + "/*", was + "*", "[a-z]+", "{" + was + "}", was + ",x", "data." + was, "true", "null"}
	})
}

func TestCaseAndBlanksAreNotForgiven(t *testing.T) {
	sameAsAnyOther(t, func(was string) []string {
		if was == "" {
			return nil
		}
		return []string{strings.ToUpper(was), strings.ToUpper(was[:1]) + was[1:], " " + was, was + " ", was + "\x00", was + "\n"}
	})
}

func TestNobodyApprovesHimself(t *testing.T) {
	engine := newEngine(t)
	for _, purpose := range []Purpose{BreakGlass, ApproveBreakGlass} {
		for _, base := range bases(purpose) {
			in := base.in
			in.Approval.By, in.Approval.Actor = in.Actor.Ref, in.Actor.Ref
			d, err := engine.Decide(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			wantDenied(t, d)
		}
	}
}

func TestWhoSetsPolicyAndWhoApprovesAreShownNothing(t *testing.T) {
	engine := newEngine(t)
	for _, purpose := range []Purpose{RevealToAdmin, ReadTranscript} {
		for _, base := range bases(purpose) {
			for _, roles := range [][]string{{"security_admin"}, {"approver"}, {"security_admin", "approver"}} {
				in := base.in.clone()
				in.Actor.Roles = roles
				d, err := engine.Decide(t.Context(), in)
				if err != nil {
					t.Fatal(err)
				}
				wantDenied(t, d)
				if !slices.Equal(d.Reasons(), []string{"role_missing"}) {
					t.Errorf("%s to %v: %v", purpose, roles, d.Reasons())
				}
			}
		}
	}
}

func TestAHugeQuestionIsRefusedBeforeItIsAsked(t *testing.T) {
	engine := newEngine(t)
	in := showAgent()
	in.Fields = make([]string, 1_000_000)
	for i := range in.Fields {
		in.Fields[i] = fmt.Sprintf("f%07d", i)
	}
	d, err := engine.Decide(t.Context(), in)
	if err == nil || !strings.Contains(err.Error(), "more than 32") {
		t.Errorf("%v", err)
	}
	wantDenied(t, d)
}

func TestDecideMayRunInParallel(t *testing.T) {
	engine := newEngine(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				if d, err := engine.Decide(t.Context(), introduce()); err != nil || d.Outcome() != Masked {
					t.Errorf("%s, %v", d.Outcome(), err)
				}
				if d, err := engine.Decide(t.Context(), denied()); err != nil || d.Allowed() {
					t.Errorf("%s, %v", d.Outcome(), err)
				}
			}
		})
	}
	wait.Wait()
}

// permitted says, independently of the Rego, which fields a purpose may ever
// release.
func permitted(p Purpose) []string {
	agents := []string{AgentDisplayName, AgentEmail, AgentGivenName, AgentSurname}
	visitors := []string{VisitorAddress, VisitorAnswers, VisitorDisplayName, VisitorEmail, VisitorGivenName, VisitorPhone, VisitorSurname}
	switch p {
	case MatchAgent:
		return []string{AgentEmail}
	case ShowAgentToVisitor, ShowJoinerToChannel:
		return []string{AgentDisplayName}
	case IntroduceVisitorToAgent:
		return []string{VisitorDisplayName, VisitorEmail, VisitorPhone, VisitorAnswers}
	case AnnounceToChannel, Converse, ReadTranscript:
		return []string{MessageBody}
	case CollectVisitor:
		return visitors
	case CollectAgent:
		return agents
	case MyOwnData:
		return append(agents, visitors...)
	case RevealToAdmin:
		return append(append(agents, visitors...), AdminAddress)
	case BreakGlass, ArchiveConversation, AnswerRequest:
		return Fields()
	case FindPerson:
		return []string{AgentEmail, VisitorEmail}
	}
	return nil
}

// mutate changes one to three members of a permitted question to random values
// of their lists, or to something in none.
func mutate(r *rand.Rand, in Input) Input {
	all := dimensions()
	for range 1 + r.IntN(3) {
		d := all[r.IntN(len(all))]
		d.changes[r.IntN(len(d.changes))].apply(&in)
	}
	switch r.IntN(8) {
	case 0:
		in.Purpose = append(Purposes(), "", "*", "Administer", "my_own_data.permit")[r.IntN(len(Purposes())+4)]
	case 1:
		in.Fields = nil
		for _, field := range append(Fields(), "zzz") {
			if r.IntN(3) == 0 {
				in.Fields = append(in.Fields, field)
			}
		}
	}
	if r.IntN(4) == 0 {
		in.Actor.Recent = r.IntN(3000)
	}
	return in
}

// TestNoRandomQuestionIsAllowedThatMustNotBe asks around the permitted
// questions, where a wrong rule would show, and checks every answer against
// what must hold whatever the rules say.
func TestNoRandomQuestionIsAllowedThatMustNotBe(t *testing.T) {
	engine := newEngine(t)
	explain, err := rego.New(rego.Compiler(engine.program.Load().compiler), rego.Query("count(data.counterfoil.reasons)")).PrepareForEval(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	var starts []Input
	for _, purpose := range Purposes() {
		for _, base := range bases(purpose) {
			starts = append(starts, base.in)
		}
	}
	const questions = 4000
	allowed := 0
	for range questions {
		in := mutate(r, starts[r.IntN(len(starts))].clone())
		d, err := engine.Decide(t.Context(), in)
		if err != nil {
			t.Fatalf("%+v: %v", in, err)
		}
		found, err := explain.Eval(t.Context(), rego.EvalParsedInput(in.value()))
		if err != nil {
			t.Fatal(err)
		}
		if unexplained := fmt.Sprint(found[0].Expressions[0].Value) == "0"; d.Allowed() != unexplained || slices.Contains(d.Reasons(), "no_rule") {
			t.Errorf("%+v: %s, but the reasons say otherwise: %v", in, d.Outcome(), d.Reasons())
		}
		if !d.Allowed() {
			continue
		}
		allowed++
		administrative := permitted(in.Purpose) == nil
		ofJobs := in.Purpose == ArchiveConversation || in.Purpose == ApplyRetention || in.Purpose == ScanForCanaries || in.Purpose == RaiseAlerts
		operated := in.Actor.Kind == "operator" && in.Purpose == ScanForCanaries // by hand, from the host
		shown := in.Purpose == RevealToAdmin || in.Purpose == ReadTranscript || in.Purpose == BreakGlass
		changes := in.Actor.Kind == "admin" && in.Purpose != ReadAuditLog && in.Purpose != HandleAlerts && in.Purpose != HandleRequest
		governed := in.Actor.Kind == "admin" && (in.Purpose == ControlData || in.Purpose == EraseData || in.Purpose == EraseOrganisation)
		consented := in.Purpose == ApproveBreakGlass || in.Purpose == ApproveChange
		switch {
		case in.Actor.Organisation == "" || in.Actor.Organisation != in.Subject.Organisation:
			t.Errorf("%+v: allowed across organisations", in)
		case !slices.Contains(Purposes(), in.Purpose):
			t.Errorf("%+v: allowed for an unknown purpose", in)
		case slices.ContainsFunc(in.Fields, func(f string) bool { return !slices.Contains(permitted(in.Purpose), f) }):
			t.Errorf("%+v: allowed a field that is not for the purpose", in)
		case administrative != (len(in.Fields) == 0):
			t.Errorf("%+v: allowed with the wrong number of fields", in)
		case (in.Actor.Kind == "job") != ofJobs && !operated || !slices.Contains(closed()["actor.kind"], in.Actor.Kind):
			t.Errorf("%+v: allowed to that actor", in)
		case in.Actor.Kind == "job" && in.Purpose != map[string]Purpose{"archive": ArchiveConversation, "retention": ApplyRetention, "canary_scan": ScanForCanaries, "alerts": RaiseAlerts}[in.Actor.Job]:
			t.Errorf("%+v: allowed to another job", in)
		case changes && !slices.ContainsFunc(in.Actor.Factors, func(f Factor) bool {
			return f.Method != "password" && f.AgeSeconds >= 0 && f.AgeSeconds <= 300 && f.For == string(in.Purpose)
		}):
			t.Errorf("%+v: shown or changed without a fresh factor for it", in)
		case governed && !slices.Contains(in.Actor.Roles, "privacy_officer"):
			t.Errorf("%+v: what is kept was controlled by somebody else", in)
		case (shown || consented || governed || in.Purpose == ExportRecords) && !in.Justification:
			t.Errorf("%+v: allowed without a justification", in)
		case (in.Purpose == RevealToAdmin || in.Purpose == ReadTranscript) && slices.Contains(in.Actor.Roles, "security_admin") && slices.Contains(in.Actor.Roles, "privacy_officer"):
			t.Errorf("%+v: shown to whoever sets policy", in)
		case in.Subject.Restricted && !administrative && in.Purpose != BreakGlass && in.Purpose != AnswerRequest && in.Actor.Ref != in.Subject.Ref && in.Conversation.ActorIs != "visitor":
			t.Errorf("%+v: shown to somebody else although it is restricted", in)
		case in.Purpose == FindPerson && (in.Audience != "service" || len(in.Fields) != 1 || !in.Justification || !slices.Contains(in.Actor.Roles, "privacy_officer") || slices.Contains(in.Actor.Roles, "security_admin")):
			t.Errorf("%+v: found by somebody else, or shown", in)
		case in.Purpose == AnswerRequest && (in.Request == "" || in.Request != in.Subject.Ref):
			t.Errorf("%+v: answered though nobody asked", in)
		case (in.Purpose == BreakGlass || in.Purpose == ChangeTogether || in.Purpose == EraseOrganisation || in.Purpose == ExportRecords && in.Audience != "service") && (in.Approval.By == "" || in.Approval.By == in.Actor.Ref || in.Approval.Actor != in.Actor.Ref || in.Approval.ExpiresInSeconds <= 0):
			t.Errorf("%+v: an emergency that nobody else approved", in)
		case consented && in.Approval.Actor == in.Actor.Ref:
			t.Errorf("%+v: he approved himself", in)
		case !administrative && (in.Actor.Recent < 0 || in.Actor.Recent >= 10000000 || in.Actor.Kind == "admin" && in.Actor.Recent >= cmp.Or(min(in.Organisation.Limits.Admin, 2000), 500)):
			t.Errorf("%+v: allowed above every limit", in)
		case in.Purpose == Administer && (in.Organisation.Limits.Admin > 2000 || in.Organisation.Limits.Job > 0 && in.Organisation.Limits.Job < 1000):
			t.Errorf("%+v: limits allowed out of bounds", in)
		case in.Actor.Kind == "admin" && in.Actor.Address != "admitted":
			t.Errorf("%+v: allowed from an address not admitted", in)
		case in.Actor.Kind == "admin" && !slices.ContainsFunc(in.Actor.Factors, func(f Factor) bool { return f.Method == "totp" }):
			t.Errorf("%+v: allowed without a one-time code", in)
		}
	}
	if allowed < questions/10 || allowed > questions*9/10 {
		t.Errorf("%d of %d allowed: the questions are not near the border", allowed, questions)
	}
}

func TestEveryPurposeHasATitleInBothLanguages(t *testing.T) {
	for _, purpose := range Purposes() {
		en, fr := purpose.Title("en"), purpose.Title("fr")
		if en == "" || fr == "" || en == fr || purpose.Title("de") != en {
			t.Errorf("%s: %q, %q", purpose, en, fr)
		}
		if len(bases(purpose)) == 0 {
			t.Errorf("%s is not in the matrix", purpose)
		}
	}
	if title := Purpose("curiosity").Title("en"); title != "" {
		t.Errorf("an unknown purpose has the title %q", title)
	}
}

func TestEveryBaseOfTheMatrixIsPermitted(t *testing.T) {
	engine := newEngine(t)
	for _, purpose := range Purposes() {
		for _, base := range bases(purpose) {
			if d, err := engine.Decide(t.Context(), base.in); err != nil || !d.Allowed() {
				t.Errorf("%s, %s: %v, %v", purpose, base.name, d.Reasons(), err)
			}
		}
	}
}
