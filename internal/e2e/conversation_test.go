package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

func TestVisitorAndAgentChatAndTheNameIsRecorded(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const name, email = "Vera Visitor", "vera@visitor.example"
	v := visit(t, s)
	v.begin(name, email, "A page of my ledger is loose")

	a := work(t, s, amelie)
	card := a.card("A page of my ledger is loose")
	if shown := a.text(card); strings.Contains(shown, name) || strings.Contains(shown, email) {
		t.Errorf("the channel sees who the visitor is: %q", shown)
	}
	a.join("A page of my ledger is loose")
	a.sees(name)
	a.sees(email)
	a.say("Good morning, is it torn or unglued?")
	v.chat.shows("#agent", amelie.name)
	v.sees("> A page of my ledger is loose", "< Good morning, is it torn or unglued?")
	a.shows(card, amelie.name) // the channel learns who joined
	before := len(s.records())

	v.say("Torn")
	a.sees("Torn")
	a.say("Then bring it in")
	v.sees("> A page of my ledger is loose", "< Good morning, is it torn or unglued?", "> Torn", "< Then bring it in")
	if after := len(s.records()); after != before+1 {
		t.Errorf("%d records became %d by two messages and one listing; a message must not make one", before, after)
	}

	v.chat.press("", "button", "Your data")
	v.chat.shows("#own", "Introduce the visitor to his agent")
	v.chat.legible("your data")
	v.chat.named("your data")
	v.chat.press("#own", "button", "Restrict")
	v.chat.shows("#own", "Restricted: it is kept and shown to nobody but you.")
	a.sees("use restricted by the visitor") // the card in Teams follows
	v.chat.press("#own", "button", "Allow again")
	v.chat.shows("#own", "It is shown to whoever answers you.")
	a.sees(name)
	v.chat.press("#own", "button", "Back to the chat")
	v.chat.shows("#log", "Torn")

	a.press("#messages", "button", "End")
	v.chat.shows("#over", "The chat has ended.")
	if v.chat.text("#write") != "" {
		t.Error("one can still write into a conversation that has ended")
	}

	got := map[string]int{}
	for _, r := range s.records() {
		if r.Kind == "administration" {
			continue
		}
		got[fmt.Sprintf("%s %s by %s of %s: %s", r.Decision, r.Action, r.Actor.Kind, r.Subject.Kind, strings.Join(r.Fields, " "))]++
	}
	want := map[string]int{
		"allow collect_visitor by visitor of visitor: visitor_display_name visitor_email":                      1,
		"allow converse by visitor of conversation: message_body":                                              2, // when he began, and when somebody joined
		"allow announce_to_channel by channel of conversation: message_body":                                   1,
		"allow match_agent by agent of agent: agent_email":                                                     1,
		"allow collect_agent by agent of agent: agent_display_name agent_email agent_given_name agent_surname": 1,
		"allow show_agent_to_visitor by visitor of agent: agent_display_name":                                  1,
		"allow show_joiner_to_channel by channel of agent: agent_display_name":                                 1,
		"allow introduce_visitor_to_agent by agent of visitor: visitor_display_name visitor_email":             2, // again once he allowed it again
		"deny introduce_visitor_to_agent by agent of visitor: visitor_display_name visitor_email":              1,
		"allow converse by agent of conversation: message_body":                                                1,
		"allow my_own_data by visitor of visitor: visitor_display_name visitor_email":                          3, // each time the page of his data is drawn
	}
	for _, what := range slices.Sorted(maps.Keys(want)) {
		if got[what] != want[what] {
			t.Errorf("%d records say %q, want %d", got[what], what, want[what])
		}
		delete(got, what)
	}
	for _, what := range slices.Sorted(maps.Keys(got)) {
		t.Errorf("%d records say %q, which nobody expects", got[what], what)
	}

	export := filepath.Join(t.TempDir(), "export")
	s.run("counterfoil", "audit", "export", export)
	s.run("counterfoil-verify", export)
}

func TestOfTwoAgentsWhoJoinAtOnceOneWins(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visit(t, s)
	v.begin("Vera Visitor", "vera@visitor.example", "Who takes me?")
	agents := []*agent{work(t, s, amelie), work(t, s, grace)}
	type press struct {
		x, y float64
	}
	presses := make([]press, len(agents))
	for i, a := range agents {
		button := a.find(a.card("Who takes me?"), "button", "Join")
		x, y, ok := button.middle()
		if !ok {
			t.Fatal("the button cannot be pressed")
		}
		presses[i] = press{x, y}
	}
	failed := make(chan error, len(agents))
	for i, a := range agents {
		go func() { failed <- chromedp.Do(a.ctx, chromedp.MouseClickXY(presses[i].x, presses[i].y)) }()
	}
	for range agents {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	const kind = "Somebody else has joined this conversation already."
	won := func(a *agent) bool { return strings.Contains(a.text("#messages"), "Before you join") }
	told := func(a *agent) bool { return strings.Contains(a.text("#threads"), kind) }
	eventually(t, "one wins and the other is told", soon, func() bool {
		return won(agents[0]) && told(agents[1]) || won(agents[1]) && told(agents[0])
	})
	if won(agents[0]) == won(agents[1]) || told(agents[0]) == told(agents[1]) {
		t.Errorf("won: %v and %v, told: %v and %v; want one of each", won(agents[0]), won(agents[1]), told(agents[0]), told(agents[1]))
	}
	winner := 0
	if won(agents[1]) {
		winner = 1
	}
	agents[winner].press("#messages", "button", "Accept and join")
	agents[winner].sees("vera@visitor.example")
	agents[winner].say("I do")
	v.sees("> Who takes me?", "< I do")
	if steps := eval[int](v.chat, `document.querySelectorAll("#log .step").length`); steps != 1 {
		t.Errorf("the visitor sees %d people join, want 1", steps)
	}
}

func TestAReloadAndACutNetworkLoseNothingAndDoubleNothing(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visit(t, s)
	v.begin("Vera Visitor", "vera@visitor.example", "number one")
	a := work(t, s, amelie)
	a.join("number one")
	a.say("two")
	v.sees("> number one", "< two")

	v.reload()
	v.open()
	v.sees("> number one", "< two")
	v.chat.shows("#agent", amelie.name)
	v.say("three")
	v.sees("> number one", "< two", "> three")
	v.acknowledged()

	v.trouble = true // the cut is on purpose
	s.cable.cut()
	v.chat.offline(true)
	v.chat.shows("#status", "You are offline")
	a.say("four")
	a.say("five")
	a.delivered()
	v.say("six")
	v.sees("> number one", "< two", "> three", "> six") // his own line stays with him
	s.cable.mend()
	v.chat.offline(false)
	v.sees("> number one", "< two", "> three", "< four", "< five", "> six")
	v.acknowledged()
	a.sees("six")
	for _, text := range []string{"three", "six"} {
		if n := a.count(text); n != 1 {
			t.Errorf("the agent reads %q %d times", text, n)
		}
	}
	if status := v.chat.text("#status"); status != "" {
		t.Errorf("the widget still complains: %q", status)
	}
}
