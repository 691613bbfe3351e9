package bot_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/bot"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/standin"
	"counterfoil/internal/subject"
	"counterfoil/internal/teams"
	"counterfoil/internal/telemetry"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

const appID = "c0de7e57-0000-4000-8000-00000000c0de"

// office is the product's Teams edge with the stand-in on its other side.
type office struct {
	*relaytest.World
	teams    *standin.Server
	endpoint string
	logs     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func openOffice(t *testing.T, o relaytest.Options) *office {
	t.Helper()
	of := &office{World: relaytest.New(t, o), logs: &lockedBuffer{}}
	logger := slog.New(slog.NewTextHandler(of.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	tracer := o.Tracer
	if tracer == nil {
		tracer = noop.NewTracerProvider()
	}
	out := &http.Client{Transport: telemetry.Transport(http.DefaultTransport, tracer)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler
	product := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(product.Close)
	of.endpoint = product.URL + "/teams/messages"
	of.teams, err = standin.New(standin.Config{
		Addr: listener.Addr().String(), BotEndpoint: of.endpoint, AppID: appID, AppSecret: "not a secret", TenantID: of.Organisation.Tenant,
		Timing: standin.Timing{Answer: 10 * time.Second, Resend: 50 * time.Millisecond, SecondPair: 300 * time.Millisecond, Stall: 12 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	cloud, err := teams.CustomCloud(teams.CustomSettings{
		MetadataURL: of.teams.MetadataURL(), Issuer: of.teams.Issuer(), LoginURL: of.teams.LoginURL(), ServiceHosts: []string{listener.Addr().String()},
	})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := teams.NewTokenSource(teams.TokenSourceConfig{Cloud: cloud, AppID: appID, Secret: func() ([]byte, error) { return []byte("not a secret"), nil },
		HTTPClient: out, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	client, err := teams.NewClient(teams.ClientConfig{Tokens: tokens, Authority: of.Organisation.Tenant, HTTPClient: out, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	tenants := &bot.Tenants{Store: of.Store, Now: time.Now}
	verifier, err := teams.NewVerifier(teams.VerifierConfig{Cloud: cloud, AppID: appID, AllowTenant: tenants.Allowed, HTTPClient: out, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	r := of.Readers
	b := bot.New(bot.Config{
		Cloud: cloud, Verifier: verifier, Client: client, Store: of.Store, Relay: of.Relay, Tenants: tenants, Logger: logger, Now: time.Now,
		VisitorToAgent: r.VisitorToAgent, JoinerToChannel: r.JoinerToChannel, FirstLine: r.FirstLineToChannel, ForAgent: r.ConversationForAgent, Own: r.OwnAgent, Collector: r.AgentCollector,
		People: subject.Desk{Gate: of.Gate, Log: of.Log, Now: time.Now}, PublicURL: product.URL,
	})
	router := chi.NewRouter()
	router.Use(telemetry.Requests(logger, tracer))
	router.Post("/teams/messages", b.ServeHTTP)
	router.Get("/your-data/{token}", b.ShowDownload)
	router.Post("/your-data/{token}", b.Download)
	handler = router
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.Deliver(ctx) })
	running.Go(func() { _ = of.teams.Serve(ctx, listener) })
	t.Cleanup(func() { cancel(); running.Wait() })
	if err := of.Relay.OnMoved(func(uuid.UUID) { b.Wake() }); err != nil {
		t.Fatal(err)
	}
	of.wait(t, "the app is installed", func(s standin.State) bool { return s.Installed })
	return of
}

// wait waits for something to be seen in Teams.
func (of *office) wait(t *testing.T, what string, ok func(standin.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := of.teams.WaitFor(ctx, ok); err != nil {
		t.Fatalf("not seen: %s; the product says:\n%s", what, of.logs)
	}
}

// writes opens a conversation as a visitor and waits for its card.
func (of *office) writes(t *testing.T, text string) (relay.Session, standin.Post) {
	t.Helper()
	opened, err := of.Relay.Open(t.Context(), relay.OpenRequest{
		Widget: of.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(),
		Text: euii.Receive(text), Name: euii.Receive("Vera Visitor"), Email: euii.Receive("vera@example.org"),
	})
	if err != nil {
		t.Fatal(err)
	}
	session, err := of.Relay.Session(t.Context(), opened.Token)
	if err != nil {
		t.Fatal(err)
	}
	var card standin.Post
	of.wait(t, "the card", func(s standin.State) bool {
		for _, p := range s.Channels[standin.FrontDesk] {
			if slices.ContainsFunc(p.Cards, func(c json.RawMessage) bool { return bytes.Contains(c, []byte(session.Conversation.String())) }) {
				card = p
				return true
			}
		}
		return false
	})
	return session, card
}

// click presses a button as soon as the card has it: cards follow what happens with a delay.
func (of *office) click(t *testing.T, who string, card standin.Post, verb string, inputs map[string]string) standin.Answer {
	t.Helper()
	var seen standin.Post
	of.wait(t, fmt.Sprintf("a button %q on the card before %s", verb, who), func(s standin.State) bool {
		for _, posts := range []map[string][]standin.Post{s.Channels, s.Chats} {
			for _, p := range slices.Concat(slices.Collect(maps.Values(posts))...) {
				if p.ID == card.ID && slices.ContainsFunc(p.CardsSeenBy(who), func(c json.RawMessage) bool { return bytes.Contains(c, []byte(`"`+verb+`"`)) }) {
					seen = p
					return true
				}
			}
		}
		return false
	})
	a, err := of.teams.ClickSeen(t.Context(), who, seen, verb, inputs)
	if err != nil {
		t.Fatalf("%s presses %s: %v", who, verb, err)
	}
	if verb == "join" && !a.Error && strings.HasPrefix(a.Text, "First read the notice") {
		return of.click(t, who, of.notice(t, who), "accept", nil)
	}
	return a
}

// notice waits for the notice in somebody's 1:1 chat.
func (of *office) notice(t *testing.T, who string) (card standin.Post) {
	t.Helper()
	of.wait(t, "the notice in the chat of "+who, func(s standin.State) bool {
		i := slices.IndexFunc(s.Chats[who], func(p standin.Post) bool { return has(p, `"accept"`) })
		if i >= 0 {
			card = s.Chats[who][i]
		}
		return i >= 0
	})
	return card
}

// chat waits until somebody's 1:1 chat has a post with the text.
func (of *office) chat(t *testing.T, who, text string) {
	t.Helper()
	of.wait(t, fmt.Sprintf("%q in the chat of %s", text, who), func(s standin.State) bool {
		return slices.ContainsFunc(s.Chats[who], func(p standin.Post) bool { return has(p, text) })
	})
}

// card waits until the card says something.
func (of *office) card(t *testing.T, id, text string) {
	t.Helper()
	of.wait(t, fmt.Sprintf("%q on the card", text), func(s standin.State) bool {
		return slices.ContainsFunc(s.Channels[standin.FrontDesk], func(p standin.Post) bool { return p.ID == id && has(p, text) })
	})
}

func has(p standin.Post, text string) bool {
	return strings.Contains(p.Text, text) || slices.ContainsFunc(p.Cards, func(c json.RawMessage) bool { return bytes.Contains(c, []byte(text)) })
}

// says is what the visitor reads.
func (of *office) says(t *testing.T, s relay.Session) []string {
	t.Helper()
	items, err := of.Relay.Follow(s).Next(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range items {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s%s", i.Event.Kind, euii.Reveal(i.Text), euii.Reveal(i.Name))))
	}
	return out
}

func count(entries []audit.Entry, action string) (n int) {
	for _, e := range entries {
		if e.Action == action {
			n++
		}
	}
	return n
}

func TestAnAgentJoinsAnswersAndEnds(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	s, card := of.writes(t, "Hello *there*\nsecond line")
	if has(card, "Vera") || has(card, "second line") {
		t.Error("the channel card has more than the handle and the first line")
	}
	if a := of.click(t, "amelie", card, "join", nil); a.Error {
		t.Fatalf("join: %s", a.Text)
	}
	of.chat(t, "amelie", "Vera Visitor")
	of.chat(t, "amelie", "vera@example.org")
	of.chat(t, "amelie", "second line")
	of.card(t, card.ID, "Amélie Dubois")
	if _, err := of.teams.Say(t.Context(), "amelie", "Good evening"); err != nil {
		t.Fatal(err)
	}
	if _, err := of.Relay.VisitorSays(t.Context(), s, uuid.New(), euii.Receive("thank you")); err != nil {
		t.Fatal(err)
	}
	of.chat(t, "amelie", "thank you")
	of.click(t, "amelie", card, "end", nil)
	of.card(t, card.ID, "Closed")
	of.chat(t, "amelie", "You have ended the conversation")
	for _, p := range of.teams.Chat("amelie") {
		if has(p, "Vera Visitor") || has(p, `"end"`) {
			t.Error("after the end the 1:1 chat still has the visitor's name or a button")
		}
	}
	want := []string{"message Hello *there*\nsecond line", "agent.joined Amélie Dubois", "message Good evening", "message thank you", "closed"}
	if got := of.says(t, s); !slices.Equal(got, want) {
		t.Errorf("the visitor reads %q, want %q", got, want)
	}
	calls := of.teams.Calls()
	if calls[standin.CallMember] != 1 {
		t.Errorf("SEED-BOT-1: %d members were read for one Join", calls[standin.CallMember])
	}
	if calls[standin.CallMembers]+calls[standin.CallPagedMembers] != 0 {
		t.Error("SEED-BOT-1: a roster was read")
	}
	entries := of.Entries(t)
	for _, action := range []string{"match_agent", "collect_agent", "introduce_visitor_to_agent", "show_joiner_to_channel", "announce_to_channel"} {
		if n := count(entries, action); n != 1 {
			t.Errorf("%s is recorded %d times, want once", action, n)
		}
	}
	for _, word := range []string{"Amélie", "Dubois", "amelie.dubois", "Vera", "vera@", "Good evening"} {
		if strings.Contains(of.logs.String(), word) {
			t.Errorf("L1: %q is in the product's log", word)
		}
	}
}

func TestOfTwoAgentsExactlyOneJoins(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	_, card := of.writes(t, "hello")
	answers := make([]standin.Answer, 3)
	var wg sync.WaitGroup
	for i, who := range []string{"amelie", "jonas", "grace"} {
		wg.Go(func() {
			var err error
			if answers[i], err = of.teams.ClickSeen(t.Context(), who, card, "join", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	joined := 0
	for _, a := range answers {
		if !a.Error {
			joined++
		} else if !strings.Contains(a.Text, "Somebody else has joined") {
			t.Errorf("a loser reads %q", a.Text)
		}
	}
	if joined != 1 {
		t.Errorf("%d agents joined", joined)
	}
}

func TestAnAgentAnswersFromTheCardAndFromItsThread(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	s, card := of.writes(t, "hello")
	if a := of.click(t, "jonas", card, "join", nil); a.Error {
		t.Fatal(a.Text)
	}
	of.card(t, card.ID, "Jonas")
	if a := of.click(t, "jonas", card, "reply", map[string]string{"reply": "from the card"}); a.Error {
		t.Fatal(a.Text)
	}
	if _, err := of.teams.SayInThread(t.Context(), "jonas", card.Conversation, "from the thread", true); err != nil {
		t.Fatal(err)
	}
	if _, err := of.teams.SayInThread(t.Context(), "jonas", card.Conversation, "among colleagues", false); err != nil {
		t.Fatal(err)
	}
	if a := of.click(t, "grace", card, "reply", map[string]string{"reply": "not mine"}); !a.Error {
		t.Error("an agent who has not joined could reply")
	}
	if _, err := of.teams.SayInThread(t.Context(), "grace", card.Conversation, "not mine either", true); err != nil {
		t.Fatal(err)
	}
	want := []string{"message hello", "agent.joined Jonas Lindström", "message from the card", "message from the thread"}
	if got := of.says(t, s); !slices.Equal(got, want) {
		t.Errorf("the visitor reads %q, want %q", got, want)
	}
}

func TestWhatTeamsDeliversTwiceIsSaidOnce(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	s, card := of.writes(t, "hello")
	of.teams.DuplicateNext(true)
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "Vera Visitor")
	of.teams.DuplicateNext(true)
	if _, err := of.teams.Say(t.Context(), "amelie", "once"); err != nil {
		t.Fatal(err)
	}
	of.card(t, card.ID, "Amélie")
	of.teams.DuplicateNext(true)
	of.click(t, "amelie", card, "reply", map[string]string{"reply": "from the card"})
	of.teams.DuplicateNext(true)
	of.click(t, "amelie", card, "end", nil)
	of.card(t, card.ID, "Closed")
	want := []string{"message hello", "agent.joined Amélie Dubois", "message once", "message from the card", "closed"}
	if got := of.says(t, s); !slices.Equal(got, want) {
		t.Errorf("the visitor reads %q, want %q", got, want)
	}
	if n := of.teams.Calls()[standin.CallMember]; n != 1 {
		t.Errorf("%d members read", n)
	}
}

func TestDeliveriesWaitForTeamsAndKeepTheirOrder(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	s, card := of.writes(t, "hello")
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "hello")
	of.card(t, card.ID, "Amélie")
	if err := of.teams.FailNext(standin.FaultThrottle, 2); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if _, err := of.Relay.VisitorSays(t.Context(), s, uuid.New(), euii.Receive(fmt.Sprintf("line %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	of.chat(t, "amelie", "line 3")
	var got []string
	for _, p := range of.teams.Chat("amelie") {
		if strings.HasPrefix(p.Text, "line") {
			got = append(got, p.Text)
		}
	}
	if want := []string{"line 0", "line 1", "line 2", "line 3"}; !slices.Equal(got, want) {
		t.Errorf("the agent reads %q", got)
	}
}

func TestADeliveryOfUnknownOutcomeIsNotRepeated(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	s, card := of.writes(t, "hello")
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "hello")
	of.card(t, card.ID, "Amélie") // otherwise the fault may meet the card
	if err := of.teams.FailNext(standin.FaultError, 1); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"perhaps", "surely"} {
		if _, err := of.Relay.VisitorSays(t.Context(), s, uuid.New(), euii.Receive(text)); err != nil {
			t.Fatal(err)
		}
	}
	of.chat(t, "amelie", "surely")
	of.chat(t, "amelie", "may not have reached you")
	var unknown int
	err := of.DB.Superuser(t).QueryRow(t.Context(), "select count(*) from chat.outbox where state = 'unknown'").Scan(&unknown)
	if err != nil || unknown != 1 {
		t.Errorf("%d deliveries are unknown (%v), want 1", unknown, err)
	}
}

func TestATransferredCardCanBeJoinedByAnother(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	s, card := of.writes(t, "hello")
	of.click(t, "amelie", card, "join", nil)
	of.card(t, card.ID, "Amélie")
	of.chat(t, "amelie", "Vera Visitor") // otherwise there is no introduction to be taken back
	if a := of.click(t, "amelie", card, "transfer", nil); a.Error {
		t.Fatal(a.Text)
	}
	of.card(t, card.ID, "Waiting")
	of.chat(t, "amelie", "Given back to the channel")
	if a := of.click(t, "grace", card, "join", nil); a.Error {
		t.Fatal(a.Text)
	}
	of.chat(t, "grace", "hello")
	if got := of.says(t, s); got[len(got)-1] != "agent.joined Grace Okafor" {
		t.Errorf("the visitor reads %q", got)
	}
}

func TestTheChannelSeesTheJoinerMaskedWhenTheOrganisationWantsIt(t *testing.T) {
	of := openOffice(t, relaytest.Options{Settings: &chat.Settings{CreateAgents: true}})
	_, card := of.writes(t, "hello")
	of.click(t, "amelie", card, "join", nil)
	of.card(t, card.ID, "A•••")
	of.chat(t, "amelie", "v•••@example.org")
	for _, p := range of.teams.Posts(standin.FrontDesk) {
		if has(p, "Amélie") {
			t.Error("the name is in the channel")
		}
	}
}

func TestAnAgentWithTwoConversationsChoosesWhereHisWordsGo(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	first, firstCard := of.writes(t, "first")
	second, secondCard := of.writes(t, "second")
	of.click(t, "amelie", firstCard, "join", nil)
	of.chat(t, "amelie", "first")
	of.click(t, "amelie", secondCard, "join", nil)
	of.chat(t, "amelie", "second")
	if _, err := of.teams.Say(t.Context(), "amelie", "to the second"); err != nil {
		t.Fatal(err)
	}
	if _, err := of.teams.Say(t.Context(), "amelie", "chats"); err != nil {
		t.Fatal(err)
	}
	of.chat(t, "amelie", first.Conversation.String())
	posts := of.teams.Chat("amelie")
	of.click(t, "amelie", posts[len(posts)-1], "switch", map[string]string{"conversation": first.Conversation.String()})
	if _, err := of.teams.Say(t.Context(), "amelie", "to the first"); err != nil {
		t.Fatal(err)
	}
	if got := of.says(t, first); got[len(got)-1] != "message to the first" {
		t.Errorf("the first visitor reads %q", got)
	}
	if got := of.says(t, second); got[len(got)-1] != "message to the second" {
		t.Errorf("the second visitor reads %q", got)
	}
}

func TestActivitiesWithoutAValidTokenAreRefused(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	for _, tt := range []struct {
		name, header, body string
		status             int
	}{
		{"no token", "", `{"type":"message","channelId":"msteams"}`, http.StatusUnauthorized},
		{"a made-up token", "Bearer a.b.c", `{"type":"message","channelId":"msteams"}`, http.StatusUnauthorized},
		{"no activity", "Bearer a.b.c", `[1,2]`, http.StatusBadRequest},
		{"deep nesting", "Bearer a.b.c", strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), http.StatusBadRequest},
		{"too long", "Bearer a.b.c", `{"type":"message","text":"` + strings.Repeat("x", 300<<10) + `"}`, http.StatusRequestEntityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, of.endpoint, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != tt.status {
				t.Errorf("answered %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
}

func TestNoSpanAndNoLogLineHoldsWhoOrWhat(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	of := openOffice(t, relaytest.Options{Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))})
	s, card := of.writes(t, "canary message text")
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "canary message text")
	if _, err := of.teams.Say(t.Context(), "amelie", "canary answer text"); err != nil {
		t.Fatal(err)
	}
	of.says(t, s)
	of.click(t, "amelie", card, "end", nil)
	of.card(t, card.ID, "Closed")
	var all strings.Builder
	for _, span := range recorder.Ended() {
		fmt.Fprintf(&all, "%s %+v %+v %s\n", span.Name(), span.Attributes(), span.Events(), span.Status().Description)
	}
	if !strings.Contains(all.String(), "access.authorize") || !strings.Contains(all.String(), "POST /teams/messages") {
		t.Fatalf("the seams made no spans:\n%.2000s", all.String())
	}
	for _, canary := range []string{"canary", "Amélie", "Dubois", "amelie.dubois", "Vera", "vera@", s.Conversation.String()} {
		if strings.Contains(all.String(), canary) {
			t.Errorf("L1: a span holds %q", canary)
		}
		if strings.Contains(of.logs.String(), canary) {
			t.Errorf("L1: a log line holds %q", canary)
		}
	}
}

func TestAnAgentReadsAndAcceptsTheNoticeBeforeAnythingIsShownToHim(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	_, card := of.writes(t, "Hello there")
	a, err := of.teams.ClickSeen(t.Context(), "amelie", card, "join", nil)
	if err != nil || a.Error || !strings.HasPrefix(a.Text, "First read the notice") {
		t.Fatalf("join answered %+v (%v)", a, err)
	}
	notice := of.notice(t, "amelie")
	for _, text := range []string{"What is kept", "Your rights", "Version 1."} {
		if !has(notice, text) {
			t.Errorf("the notice lacks %q", text)
		}
	}
	if posts := of.teams.Chat("amelie"); len(posts) != 1 || has(posts[0], "Vera") || has(posts[0], "Hello") {
		t.Errorf("before she accepted she was shown %d posts", len(posts))
	}
	if entries := of.Entries(t); count(entries, "match_agent")+count(entries, "collect_agent")+count(entries, "introduce_visitor_to_agent") != 0 {
		t.Error("something of her was read before she accepted")
	}
	if a := of.click(t, "grace", card, "join", nil); !a.Error {
		t.Errorf("the conversation that is kept for her was given to somebody else: %+v", a)
	}
	if err := of.teams.FailNext(standin.FaultError, 1); err != nil { // somewhere on the way something goes wrong
		t.Fatal(err)
	}
	for range 2 {
		if a, err := of.teams.ClickSeen(t.Context(), "amelie", notice, "accept", nil); err != nil {
			t.Fatal(err)
		} else if a.Error && !strings.HasPrefix(a.Text, "Nothing can be recorded") {
			t.Fatalf("accept: %s", a.Text)
		}
	}
	accepted := func() {
		t.Helper()
		of.wait(t, "the accepted notice without its button", func(s standin.State) bool {
			return slices.ContainsFunc(s.Chats["amelie"], func(p standin.Post) bool {
				return p.ID == notice.ID && has(p, "You have accepted. Version 1.") && has(p, "Your rights") && !has(p, `"accept"`)
			})
		})
	}
	accepted()
	of.teams.DuplicateNext(true)
	if a, err := of.teams.ClickSeen(t.Context(), "amelie", notice, "accept", nil); err != nil || a.Error {
		t.Fatalf("accept arrives again: %+v (%v)", a, err)
	}
	accepted()
	of.chat(t, "amelie", "Vera Visitor")
	of.card(t, card.ID, "Amélie Dubois")
	if n := count(of.Entries(t), "notice.accept"); n != 2 {
		t.Errorf("%d acceptances are on record, want the visitor's and hers", n)
	}
}

func TestMyDataCountsWhatWasShownAndLinksToTheFileOnce(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	session, card := of.writes(t, "Hello there")
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "Vera Visitor")
	of.says(t, session) // the visitor is shown her name
	if _, err := of.teams.Say(t.Context(), "amelie", "my data"); err != nil {
		t.Fatal(err)
	}
	of.chat(t, "amelie", "/your-data/")
	posts := of.teams.Chat("amelie")
	text := posts[slices.IndexFunc(posts, func(p standin.Post) bool { return has(p, "/your-data/") })].Text
	if !strings.Contains(text, "Show the visitor who answers him") || strings.Contains(text, "Amélie") || strings.Contains(text, "Vera") {
		t.Errorf("she reads %q", text)
	}
	link := text[strings.LastIndex(text, "http"):]
	for range 2 { // what scans links does not use it up
		resp, err := http.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), `<form method="post">`) || resp.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("the link shows %d %s", resp.StatusCode, b)
		}
	}
	resp, err := http.Post(link, "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the file is %d (%v)", resp.StatusCode, err)
	}
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	files := make(map[string][]byte)
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name], _ = io.ReadAll(in)
		in.Close()
		names = append(names, f.Name)
	}
	if len(names) != 5 || !bytes.Contains(files["your-data.json"], []byte("Amélie Dubois")) || !bytes.Contains(files["your-data.html"], []byte("Amélie Dubois")) || bytes.Contains(b, []byte("Vera")) || !json.Valid(files["your-data.json"]) {
		t.Errorf("the file holds %v", names)
	}
	proof, err := audit.ParseProof(files[names[4]])
	if err != nil {
		t.Fatal(err)
	}
	key, err := audit.NewKey(make([]byte, 32)) // that of relaytest
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.For(of.Organisation.Origin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proof.Verify(files[names[3]], signer.Verifier()); err != nil {
		t.Errorf("the proof does not hold: %v", err)
	}
	again, err := http.Post(link, "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Body.Close()
	if again.StatusCode != http.StatusNotFound {
		t.Errorf("the link worked twice: %d", again.StatusCode)
	}
	if n := count(of.Entries(t), "my_own_data"); n != 1 {
		t.Errorf("%d records say that she was given her data", n)
	}
}

func TestARestrictedVisitorIsShownToAgentsAsRestricted(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	session, card := of.writes(t, "Hello there")
	who := principal.NewVisitor(of.Organisation.ID, session.Visitor)
	if err := of.Gate.Restrict(t.Context(), who, of.Organisation.ID, "visitor", session.Visitor, true, nil); err != nil {
		t.Fatal(err)
	}
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "use restricted by the visitor")
	of.chat(t, "amelie", "his message is shown to nobody")
	for _, p := range of.teams.Chat("amelie") {
		if has(p, "Vera") || has(p, "Hello there") {
			t.Error("the agent is shown what is restricted")
		}
	}
}

// asked lists what an agent asked about his own data, as the console sees it.
func (of *office) asked(t *testing.T, agent uuid.UUID) (all []string) {
	t.Helper()
	requests, err := of.Gate.Requests(t.Context(), of.Organisation.ID, agent, 50)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		if days := r.Due.Sub(r.Received) / (24 * time.Hour); r.Source != "teams" || r.Identification != access.ByTeams || days != 30 {
			t.Errorf("%s came by %s, identified by %q, with %d days", r.Kind, r.Source, r.Identification, days)
		}
		all = append(all, r.Kind+" "+r.State)
	}
	slices.Sort(all)
	return all
}

// ownCard asks for one's own data and waits for the card with what one may ask.
func (of *office) ownCard(t *testing.T, who, command, title string) (card standin.Post) {
	t.Helper()
	if _, err := of.teams.Say(t.Context(), who, command); err != nil {
		t.Fatal(err)
	}
	of.wait(t, "the card about her own data", func(s standin.State) bool {
		for _, p := range s.Chats[who] {
			if has(p, title) && has(p, `"restrict"`) {
				card = p
				return true
			}
		}
		return false
	})
	return card
}

func TestAnAgentAsksAboutHisOwnDataByButtonsAndByCommands(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	if _, err := of.teams.Say(t.Context(), "grace", "my data erase"); err != nil {
		t.Fatal(err)
	}
	of.chat(t, "grace", "No name and no address is kept of you.")
	_, waiting := of.writes(t, "Hello there")
	of.click(t, "amelie", waiting, "join", nil)
	of.chat(t, "amelie", "Vera Visitor")
	member, _ := of.teams.Member("amelie")
	agent, err := of.Store.AgentByDirectory(t.Context(), of.Organisation.ID, member.AADObjectID)
	if err != nil {
		t.Fatal(err)
	}
	card := of.ownCard(t, "amelie", "my data", "Correct my name")
	press := func(verb, want string) {
		t.Helper()
		if a := of.click(t, "amelie", card, verb, nil); a.Error || !strings.HasPrefix(a.Text, want) {
			t.Errorf("%s answered %+v", verb, a)
		}
	}
	check := func(restricted bool, want ...string) {
		t.Helper()
		if got := of.asked(t, agent.ID); !slices.Equal(got, want) {
			t.Errorf("she asked %q, want %q", got, want)
		}
		if on, err := of.Gate.Restricted(t.Context(), of.Organisation.ID, agent.ID); on != restricted || err != nil {
			t.Errorf("restricted is %t (%v)", on, err)
		}
	}
	before := count(of.Entries(t), "request.open")
	of.teams.DuplicateNext(true)
	press("restrict", "The use of your data is restricted")
	if a, err := of.teams.ClickSeen(t.Context(), "amelie", card, "restrict", nil); err != nil || a.Error { // as a client that lags behind shows it
		t.Errorf("restrict again answered %+v (%v)", a, err)
	}
	check(true, "restriction answered")
	of.card(t, waiting.ID, "Active") // the channel is shown her name no more
	of.wait(t, "the channel card without her name", func(s standin.State) bool {
		return slices.ContainsFunc(s.Channels[standin.FrontDesk], func(p standin.Post) bool { return p.ID == waiting.ID && !has(p, "Amélie") })
	})
	press("lift", "The restriction is lifted")
	check(false, "restriction answered")
	of.card(t, waiting.ID, "Amélie Dubois")
	for range 2 {
		press("erase", "Your request for erasure is noted")
	}
	of.wait(t, "the open request on the card", func(s standin.State) bool {
		return slices.ContainsFunc(s.Chats["amelie"], func(p standin.Post) bool { return p.ID == card.ID && has(p, "Erasure, answer due by") })
	})
	for range 2 {
		if _, err := of.teams.Say(t.Context(), "amelie", "Mes données opposer"); err != nil {
			t.Fatal(err)
		}
	}
	of.chat(t, "amelie", "Your objection is noted.")
	check(true, "erasure open", "objection open", "restriction answered")
	if _, err := of.teams.Say(t.Context(), "amelie", "mes données lever"); err != nil {
		t.Fatal(err)
	}
	of.chat(t, "amelie", "The restriction is lifted.")
	check(false, "erasure open", "objection withdrawn", "restriction answered")

	// Her file answers that she asked for it.
	press("file", "The link is in this chat.")
	check(false, "access open", "erasure open", "objection withdrawn", "restriction answered")
	posts := of.teams.Chat("amelie")
	text := posts[len(posts)-1].Text
	resp, err := http.Post(text[strings.LastIndex(text, "http"):], "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the file is %d (%v)", resp.StatusCode, err)
	}
	check(false, "access answered", "erasure open", "objection withdrawn", "restriction answered")
	if n := count(of.Entries(t), "request.open") - before; n < 5 {
		t.Errorf("%d records say that she asked", n)
	}
}

func TestAnAgentsNameIsCorrectedFromHisProfileInTeams(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	_, card := of.writes(t, "Hello there")
	of.click(t, "amelie", card, "join", nil)
	of.card(t, card.ID, "Amélie Dubois")
	member, _ := of.teams.Member("amelie")
	agent, err := of.Store.AgentByDirectory(t.Context(), of.Organisation.ID, member.AADObjectID)
	if err != nil {
		t.Fatal(err)
	}
	who := principal.NewAgent(of.Organisation.ID, agent.ID)
	scene := access.Scene{Conversation: chat.Conversation{Organisation: of.Organisation.ID}}
	err = of.Gate.Correct(t.Context(), of.Readers.AgentCollector, who, scene, agent.ID, agent.ID, access.Grounds{}, access.Field{Name: euii.AgentDisplayName, Value: euii.Receive("Amelie Dubios")})
	if err != nil {
		t.Fatal(err)
	}
	of.card(t, card.ID, "Amelie Dubios")
	for range 2 { // once more when it arrives again
		if _, err := of.teams.Say(t.Context(), "amelie", "my data correct"); err != nil {
			t.Fatal(err)
		}
		of.chat(t, "amelie", "Your name is now kept as your Teams profile gives it")
	}
	of.card(t, card.ID, "Amélie Dubois")
	if got := of.asked(t, agent.ID); !slices.Equal(got, []string{"rectification answered"}) {
		t.Errorf("she asked %q", got)
	}
	if n := of.teams.Calls()[standin.CallMember]; n != 2 {
		t.Errorf("%d members read, want one for Join and one for the correction", n)
	}

	// Where nothing is wrong here, the mistake is elsewhere, and somebody has to look.
	_, other := of.writes(t, "Hello again")
	of.click(t, "jonas", other, "join", nil)
	of.card(t, other.ID, "Jonas Lindström")
	for range 2 {
		if _, err := of.teams.Say(t.Context(), "jonas", "mes données rectifier"); err != nil {
			t.Fatal(err)
		}
		of.chat(t, "jonas", "Your organisation was asked to have it corrected")
	}
	member, _ = of.teams.Member("jonas")
	if agent, err = of.Store.AgentByDirectory(t.Context(), of.Organisation.ID, member.AADObjectID); err != nil {
		t.Fatal(err)
	}
	if got := of.asked(t, agent.ID); !slices.Equal(got, []string{"rectification open"}) {
		t.Errorf("he asked %q", got)
	}
}

func TestTheCardInTeamsFollowsWhatAVisitorCorrectsAndRestricts(t *testing.T) {
	of := openOffice(t, relaytest.Options{})
	session, card := of.writes(t, "Hello there")
	of.click(t, "amelie", card, "join", nil)
	of.chat(t, "amelie", "Vera Visitor")
	intro := of.teams.Chat("amelie")[slices.IndexFunc(of.teams.Chat("amelie"), func(p standin.Post) bool { return has(p, "Vera Visitor") })].ID
	shows := func(text string) {
		t.Helper()
		of.wait(t, fmt.Sprintf("%q on the introduction", text), func(s standin.State) bool {
			return slices.ContainsFunc(s.Chats["amelie"], func(p standin.Post) bool { return p.ID == intro && has(p, text) })
		})
	}
	desk := subject.Desk{Gate: of.Gate, Log: of.Log, Now: time.Now}
	who, person := principal.NewVisitor(of.Organisation.ID, session.Visitor), subject.Person{Organisation: of.Organisation.ID, Kind: "visitor", ID: session.Visitor}
	scene, err := of.Relay.Scene(t.Context(), of.Organisation.ID, session.Conversation)
	if err != nil {
		t.Fatal(err)
	}
	before := count(of.Entries(t), "introduce_visitor_to_agent")
	err = desk.Correct(t.Context(), who, of.Readers.VisitorCollector, scene, person, session.Conversation, "widget", access.ByToken, "en", true, access.Field{Name: euii.VisitorDisplayName, Value: euii.Receive("Vera Vasquez")})
	if err != nil {
		t.Fatal(err)
	}
	shows("Vera Vasquez")
	if n := count(of.Entries(t), "introduce_visitor_to_agent"); n != before+1 {
		t.Errorf("%d records say that the new name was shown, want %d", n, before+1)
	}
	for _, step := range []struct{ kind, text string }{{access.AsksRestriction, "use restricted by the visitor"}, {subject.Lift, "Vera Vasquez"}} {
		if err := desk.Ask(t.Context(), who, person, step.kind, "widget", access.ByToken, "en"); err != nil {
			t.Fatal(err)
		}
		shows(step.text)
	}
	of.click(t, "amelie", card, "end", nil)
	shows("Closed")
	err = desk.Correct(t.Context(), who, of.Readers.VisitorCollector, scene, person, session.Conversation, "widget", access.ByToken, "en", true, access.Field{Name: euii.VisitorDisplayName, Value: euii.Receive("Vera Third")})
	if err != nil {
		t.Fatal(err)
	}
	var waiting int
	if err := of.DB.Superuser(t).QueryRow(t.Context(), "select count(*) from chat.outbox where state = 'waiting'").Scan(&waiting); err != nil || waiting != 0 {
		t.Errorf("after the end %d deliveries wait (%v)", waiting, err)
	}
}
