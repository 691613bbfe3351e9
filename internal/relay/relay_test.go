package relay_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/store"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func open(t *testing.T, w *relaytest.World, text string) relay.Session {
	t.Helper()
	opened, err := w.Relay.Open(t.Context(), relay.OpenRequest{
		Widget: w.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(),
		Text: euii.Receive(text), Name: euii.Receive("Vera Visitor"), Email: euii.Receive("vera@example.org"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.Relay.Session(t.Context(), opened.Token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// agreed is the identity of an agent who has accepted the notice.
func agreed(t *testing.T, w *relaytest.World, s relay.Session, name string) relay.Identity {
	t.Helper()
	id := identity(w, name)
	if err := w.Relay.AgentAccepts(t.Context(), id, s.Conversation, 1, "en"); err != nil {
		t.Fatal(err)
	}
	return id
}

func identity(w *relaytest.World, name string) relay.Identity {
	return relay.Identity{Organisation: w.Organisation.ID, DirectoryID: "aad-" + name, TeamsUser: "29:" + name, ServiceURL: "https://smba.example/"}
}

func profile(name string) func(context.Context) (relay.Profile, error) {
	return func(context.Context) (relay.Profile, error) {
		return relay.Profile{
			DisplayName: euii.Receive(name + " Agent"), GivenName: euii.Receive(name), Surname: euii.Receive("Agent"),
			Email: euii.Receive(name + "@fictional.example"),
		}, nil
	}
}

func TestAVisitorAndAnAgentTalkAndEveryNameShownIsRecorded(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	ctx := t.Context()
	s := open(t, w, "hello, is anybody there?")
	if err := w.Relay.AgentJoins(ctx, agreed(t, w, s, "alice"), s.Conversation, profile("alice")); err != nil {
		t.Fatal(err)
	}
	agent, err := w.Store.AgentByDirectory(ctx, w.Organisation.ID, "aad-alice")
	if err != nil {
		t.Fatal(err)
	}
	if agent.Current != s.Conversation {
		t.Error("what the agent types does not go to the conversation she joined")
	}
	if _, err := w.Relay.AgentSays(ctx, agent, s.Conversation, uuid.New(), euii.Receive("yes, I am")); err != nil {
		t.Fatal(err)
	}
	f := w.Relay.Follow(s)
	items, err := f.Next(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range items {
		got = append(got, fmt.Sprintf("%d %s %s %q %q", i.Event.Seq, i.Event.Kind, i.Event.By, euii.Reveal(i.Text), euii.Reveal(i.Name)))
	}
	want := []string{
		`1 message visitor "hello, is anybody there?" ""`,
		`2 agent.joined agent "" "alice Agent"`,
		`3 message agent "yes, I am" ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("the visitor sees %q, want %q", got, want)
	}
	if _, err := w.Relay.VisitorSays(ctx, s, uuid.New(), euii.Receive("thank you")); err != nil {
		t.Fatal(err)
	}
	if items, err = f.Next(ctx, 3); err != nil || len(items) != 1 {
		t.Fatalf("got %d items, %v", len(items), err)
	}
	var actions []string
	for _, e := range w.Entries(t) {
		actions = append(actions, fmt.Sprintf("%s %s %s %v", e.Kind, e.Action, e.Decision, e.Fields))
	}
	wantActions := []string{
		"administration notice.accept  []",
		"collection collect_visitor allow [visitor_display_name visitor_email]",
		"administration notice.accept  []",
		"disclosure match_agent allow [agent_email]",
		"collection collect_agent allow [agent_display_name agent_email agent_given_name agent_surname]",
		"disclosure converse allow [message_body]",
		"disclosure show_agent_to_visitor allow [agent_display_name]",
	}
	if !slices.Equal(actions, wantActions) {
		t.Errorf("the log has\n%q, want\n%q", actions, wantActions)
	}
	for _, e := range w.Entries(t) {
		if e.Kind == audit.Disclosure && (e.Actor.Ref == "" || e.Subject.Ref == "" || e.Policy == "" || e.Rule == "" || e.Conversation == "") {
			t.Errorf("entry %d lacks a reference: %+v", e.Seq, e)
		}
	}
}

func TestOfManyAgentsWhoPressJoinAtOnceExactlyOneWins(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	s := open(t, w, "hello")
	var wg sync.WaitGroup
	results := make([]error, 8)
	fetched := make([]bool, 8)
	for i := range results {
		name := fmt.Sprintf("agent%d", i)
		id := agreed(t, w, s, name)
		wg.Go(func() {
			results[i] = w.Relay.AgentJoins(t.Context(), id, s.Conversation, func(ctx context.Context) (relay.Profile, error) {
				fetched[i] = true
				return profile(name)(ctx)
			})
		})
	}
	wg.Wait()
	winners, fetches := 0, 0
	for i, err := range results {
		if err == nil {
			winners++
		} else if !errors.Is(err, chat.ErrTaken) {
			t.Errorf("agent %d got %v", i, err)
		}
		if fetched[i] {
			fetches++
		}
	}
	if winners != 1 || fetches != 1 {
		t.Errorf("%d agents joined and %d members were fetched, want 1 and 1", winners, fetches)
	}
}

func TestARepeatedMessageHasTheNumberOfTheFirst(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	s := open(t, w, "hello")
	id := uuid.New()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			seq, err := w.Relay.VisitorSays(t.Context(), s, id, euii.Receive("once"))
			if err != nil || seq != 2 {
				t.Errorf("got %d, %v", seq, err)
			}
		})
	}
	wg.Wait()
	items, err := w.Relay.Follow(s).Next(t.Context(), 0)
	if err != nil || len(items) != 2 {
		t.Errorf("%d events, %v", len(items), err)
	}
}

func TestARepeatedOpeningFindsTheSameConversation(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	q := relay.OpenRequest{Widget: w.Widget, Language: "fr", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("bonjour")}
	first, err := w.Relay.Open(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.Relay.Open(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if first.Conversation != second.Conversation || first.Token == second.Token {
		t.Errorf("got %v and %v", first.Conversation, second.Conversation)
	}
	for _, o := range []relay.Opened{first, second} {
		if _, err := w.Relay.Session(t.Context(), o.Token); err != nil {
			t.Errorf("a token does not work: %v", err)
		}
	}
}

func TestAnAgentWithoutAProfileIsRefusedWhenNoneMayBeMade(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{Settings: &chat.Settings{}})
	s := open(t, w, "hello")
	err := w.Relay.AgentJoins(t.Context(), agreed(t, w, s, "bob"), s.Conversation, profile("bob"))
	if !errors.Is(err, relay.ErrNoProfile) {
		t.Fatalf("got %v", err)
	}
	if err := w.Store.Claim(t.Context(), w.Organisation.ID, s.Conversation, "aad-carol"); err != nil {
		t.Errorf("the claim was not given back: %v", err)
	}
}

func TestAClosedConversationTakesNoMessages(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	s := open(t, w, "hello")
	if _, err := w.Relay.VisitorEnds(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Relay.VisitorSays(t.Context(), s, uuid.New(), euii.Receive("more")); !errors.Is(err, chat.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := w.Relay.AgentJoins(t.Context(), agreed(t, w, s, "bob"), s.Conversation, profile("bob")); !errors.Is(err, chat.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAClickThatIsDeliveredTwiceAtOnceIsOneJoin(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	s := open(t, w, "hello")
	var wg sync.WaitGroup
	var fetches atomic.Int32
	id := agreed(t, w, s, "alice")
	for range 6 {
		wg.Go(func() {
			err := w.Relay.AgentJoins(t.Context(), id, s.Conversation, func(ctx context.Context) (relay.Profile, error) {
				fetches.Add(1)
				return profile("alice")(ctx)
			})
			if err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	joined := 0
	for _, e := range w.Entries(t) {
		if e.Action == "collect_agent" {
			joined++
		}
	}
	if fetches.Load() != 1 || joined != 1 {
		t.Errorf("%d members fetched and %d collected, want one of each", fetches.Load(), joined)
	}
}

func TestATransferredConversationWaitsForTheNextAgent(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	ctx := t.Context()
	s := open(t, w, "hello")
	if err := w.Relay.AgentJoins(ctx, agreed(t, w, s, "alice"), s.Conversation, profile("alice")); err != nil {
		t.Fatal(err)
	}
	alice, err := w.Store.AgentByDirectory(ctx, w.Organisation.ID, "aad-alice")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is harmless
		if err := w.Relay.AgentTransfers(ctx, alice, s.Conversation); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Relay.AgentSays(ctx, alice, s.Conversation, uuid.New(), euii.Receive("one more thing")); !errors.Is(err, chat.ErrNotJoined) {
		t.Errorf("the agent who left could write: %v", err)
	}
	if err := w.Relay.AgentJoins(ctx, agreed(t, w, s, "bob"), s.Conversation, profile("bob")); err != nil {
		t.Fatal(err)
	}
	items, err := w.Relay.Follow(s).Next(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range items {
		got = append(got, fmt.Sprintf("%s %q", i.Event.Kind, euii.Reveal(i.Name)))
	}
	want := []string{`message ""`, `agent.joined ""`, `agent.left ""`, `agent.joined "bob Agent"`}
	if !slices.Equal(got, want) {
		t.Errorf("the visitor sees %q, want %q", got, want)
	}
}

func TestTheSameReplyTwiceWithinAMinuteIsOneMessage(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	ctx := t.Context()
	s := open(t, w, "hello")
	if err := w.Relay.AgentJoins(ctx, agreed(t, w, s, "alice"), s.Conversation, profile("alice")); err != nil {
		t.Fatal(err)
	}
	alice, err := w.Store.AgentByDirectory(ctx, w.Organisation.ID, "aad-alice")
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range []string{"hi", "hi", "hi there"} {
		seq, repeated, err := w.Relay.AgentReplies(ctx, alice, s.Conversation, euii.Receive(text))
		if want := []int64{3, 3, 4}[i]; err != nil || seq != want || repeated != (i == 1) {
			t.Errorf("reply %d has number %d, repeated %v (%v), want %d", i, seq, repeated, err, want)
		}
	}
}

func TestNothingOfAnAgentIsReadBeforeHeAcceptedTheNoticeAndHisClaimIsKept(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	ctx, alice := t.Context(), identity(w, "alice")
	s := open(t, w, "hello")
	never := func(context.Context) (relay.Profile, error) {
		t.Error("the member was fetched before he accepted")
		return relay.Profile{}, errors.New("no")
	}
	before := len(w.Entries(t))
	for range 2 { // pressing Join again changes nothing
		if err := w.Relay.AgentJoins(ctx, alice, s.Conversation, never); !errors.Is(err, relay.ErrNotice) {
			t.Fatalf("got %v", err)
		}
	}
	if n := len(w.Entries(t)); n != before {
		t.Errorf("%d records were made before anything was accepted", n-before)
	}
	if err := w.Relay.AgentJoins(ctx, agreed(t, w, s, "bob"), s.Conversation, profile("bob")); !errors.Is(err, chat.ErrTaken) {
		t.Errorf("while alice reads the notice bob got %v", err)
	}
	if err := w.Relay.AgentAccepts(ctx, alice, s.Conversation, 2, "en"); !errors.Is(err, relay.ErrNotice) {
		t.Errorf("a version that is not in force: %v", err)
	}
	for range 2 {
		if err := w.Relay.AgentAccepts(ctx, alice, s.Conversation, 1, "en"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Relay.AgentJoins(ctx, alice, s.Conversation, profile("alice")); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, e := range w.Entries(t) {
		if e.Action == "notice.accept" && e.Actor.Kind == "agent" && e.Facts["notice.version"] == "1" {
			accepted++
		}
	}
	if accepted != 2 {
		t.Errorf("%d acceptances by agents are on record, want alice's and bob's", accepted)
	}
}

func TestANewVersionOfANoticeAsksEverybodyAgainAndAPublishedOneNeverChanges(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	ctx := t.Context()
	s := open(t, w, "hello")
	agreed(t, w, s, "alice")
	for _, audience := range []chat.Audience{chat.ForVisitors, chat.ForAgents} {
		draft := chat.Notice{Audience: audience, Texts: map[string]string{"en": "Kept\nall", "fr": "Conservé\ntout"}}
		if err := w.Store.Publish(ctx, w.Organisation.ID, audience, 2); !errors.Is(err, store.ErrNoDraft) {
			t.Errorf("nothing was published: %v", err)
		}
		for range 2 {
			if v, err := w.Store.Draft(ctx, w.Organisation.ID, draft); v != 2 || err != nil {
				t.Fatalf("drafted %d: %v", v, err)
			}
		}
		if n, err := w.Relay.Notice(ctx, w.Organisation.ID, audience); n.Version != 1 || err != nil {
			t.Errorf("a draft is in force: %d, %v", n.Version, err)
		}
		if err := w.Store.Publish(ctx, w.Organisation.ID, audience, 2); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.DB.Superuser(t).Exec(ctx, "update chat.notice set text = 'changed'"); err == nil {
		t.Error("a published notice was changed")
	}
	q := relay.OpenRequest{Widget: w.Widget, Language: "fr", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("bonjour")}
	if _, err := w.Relay.Open(ctx, q); !errors.Is(err, relay.ErrNotice) {
		t.Errorf("a chat was opened under the notice of before: %v", err)
	}
	q.NoticeVersion = "2"
	if _, err := w.Relay.Open(ctx, q); err != nil {
		t.Fatal(err)
	}
	if err := w.Relay.AgentJoins(ctx, identity(w, "alice"), s.Conversation, profile("alice")); !errors.Is(err, relay.ErrNotice) {
		t.Errorf("alice joined under the notice of before: %v", err)
	}
	for audience, want := range map[chat.Audience][]map[string]int64{chat.ForVisitors: {{"fr": 1}, {"en": 1}}, chat.ForAgents: {{}, {"en": 1}}} {
		all, err := w.Store.Editions(ctx, w.Organisation.ID, audience)
		if err != nil || len(all) != 2 || !maps.Equal(all[0].Accepted, want[0]) || !maps.Equal(all[1].Accepted, want[1]) || all[0].Published.IsZero() {
			t.Errorf("%s: %+v (%v), want %v", audience, all, err, want)
		}
	}
}
