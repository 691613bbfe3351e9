package widget_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/stream"
	"counterfoil/internal/subject"
	"counterfoil/internal/widget"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// site is a running widget over a real relay.
type site struct {
	*relaytest.World
	url string
}

func start(t *testing.T) site {
	t.Helper()
	w := relaytest.New(t, relaytest.Options{})
	hub := stream.New(stream.Config{Stale: widget.Stale(w.Relay), SafetyLook: time.Second})
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hub.Run(ctx) })
	s, err := widget.New(widget.Config{
		Relay: w.Relay, Hub: hub, PublicURL: "https://chat.example", Logger: slog.New(slog.DiscardHandler),
		Address: func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		People:  subject.Desk{Gate: w.Gate, Log: w.Log, Now: time.Now}, Own: w.Readers.OwnVisitor, ForVisitor: w.Readers.ConversationForVisitor, Collector: w.Readers.VisitorCollector,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	s.Routes(r)
	srv := httptest.NewServer(r)
	t.Cleanup(func() {
		stop()
		wg.Wait()
		srv.Close()
	})
	return site{w, srv.URL}
}

// answer is any answer of the API.
type answer struct {
	status       int
	Code         string
	Token        string
	Handle       string
	State        string
	Seq          int64
	LastSeq      int64     `json:"last_seq"`
	Conversation uuid.UUID `json:"conversation"`
}

func (s site) ask(t *testing.T, method, path, token, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return a
}

func (s site) open(t *testing.T, id, text string) answer {
	t.Helper()
	return s.ask(t, "POST", "/v1/widgets/"+s.Widget.Key+"/conversations", "",
		`{"client_id":"`+id+`","text":"`+text+`","language":"fr","notice_version":"1","name":"Vera Visitor"}`)
}

func message(id, text string) string { return `{"client_id":"` + id + `","text":"` + text + `"}` }

// follow opens the stream and gives its events, one line "name data" each.
func (s site) follow(t *testing.T, token, last string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/conversation/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream answered %d", resp.StatusCode)
	}
	events := make(chan string, 100)
	var done sync.WaitGroup
	done.Go(func() {
		defer close(events)
		name := ""
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			if v, ok := strings.CutPrefix(in.Text(), "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(in.Text(), "data: "); ok {
				events <- name + " " + v
			}
		}
	})
	t.Cleanup(func() {
		resp.Body.Close()
		done.Wait()
	})
	return events
}

func want(t *testing.T, events <-chan string, name string, parts ...string) {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok || !strings.HasPrefix(e, name+" ") {
			t.Fatalf("got %q, want %s", e, name)
		}
		for _, p := range parts {
			if !strings.Contains(e, p) {
				t.Fatalf("%q lacks %s", e, p)
			}
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not come", name)
	}
}

func TestAConversationFromTheFirstMessageToTheEnd(t *testing.T) {
	s := start(t)
	first, second := uuid.NewString(), uuid.NewString()
	o := s.open(t, first, "bonjour")
	if o.status != http.StatusCreated || o.Seq != 1 || len(o.Token) < 40 || !strings.HasPrefix(o.Handle, "visitor ") {
		t.Fatalf("opening gave %+v", o)
	}
	if again := s.open(t, first, "bonjour"); again.Conversation != o.Conversation {
		t.Errorf("a repeated opening gave another conversation: %+v", again)
	} else {
		o.Token = again.Token
	}
	events := s.follow(t, o.Token, "0")
	want(t, events, "message", `"seq":1`, `"by":"visitor"`, `"client_id":"`+first+`"`, `"text":"bonjour"`)
	want(t, events, "ready", `"last":1`)

	by := relay.Identity{Organisation: s.Organisation.ID, DirectoryID: "aad-1", TeamsUser: "29:1", ServiceURL: "https://smba.example/"}
	if err := s.Relay.AgentAccepts(t.Context(), by, o.Conversation, 1, "en"); err != nil {
		t.Fatal(err)
	}
	err := s.Relay.AgentJoins(t.Context(), by, o.Conversation, func(context.Context) (relay.Profile, error) {
		return relay.Profile{DisplayName: euii.Receive("Alice Agent"), Email: euii.Receive("alice@fictional.example")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want(t, events, "agent.joined", `"seq":2`, `"agent":"agent `, `"name":"Alice Agent"`)
	agent, err := s.Store.AgentByDirectory(t.Context(), s.Organisation.ID, "aad-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Relay.AgentSays(t.Context(), agent, o.Conversation, uuid.New(), euii.Receive("line one\nline \u2028two")); err != nil {
		t.Fatal(err)
	}
	want(t, events, "message", `"seq":3`, `"by":"agent"`, `"agent":"agent `, `line one\nline \u2028two`)

	for range 2 { // a message whose answer got lost is sent again and exists once
		if a := s.ask(t, "POST", "/v1/conversation/messages", o.Token, message(second, "merci")); a.status != http.StatusOK || a.Seq != 4 {
			t.Errorf("a message gave %+v", a)
		}
	}
	want(t, events, "message", `"seq":4`, `"client_id":"`+second+`"`)
	if a := s.ask(t, "POST", "/v1/conversation/typing", o.Token, ""); a.status != http.StatusNoContent {
		t.Errorf("typing gave %+v", a)
	}
	if a := s.ask(t, "GET", "/v1/conversation", o.Token, ""); a.status != http.StatusOK || a.State != "active" || a.LastSeq != 4 {
		t.Errorf("the state is %+v", a)
	}
	if a := s.ask(t, "POST", "/v1/conversation/end", o.Token, ""); a.status != http.StatusOK || a.Seq != 5 {
		t.Errorf("the end gave %+v", a)
	}
	want(t, events, "closed", `"seq":5`, `"by":"visitor"`)
	if e, open := <-events; open && !strings.HasPrefix(e, "ready ") {
		t.Errorf("after the end came %q", e)
	}
	if a := s.ask(t, "POST", "/v1/conversation/messages", o.Token, message(uuid.NewString(), "encore")); a.status != http.StatusConflict || a.Code != "closed" {
		t.Errorf("a message after the end gave %+v", a)
	}

	resumed := s.follow(t, o.Token, "3")
	want(t, resumed, "message", `"seq":4`)
	want(t, resumed, "closed", `"seq":5`)
	want(t, resumed, "ready", `"last":5`)
	if e, open := <-resumed; open {
		t.Errorf("the stream of a closed conversation went on with %q", e)
	}
}

func TestWhoHasNoRightLearnsNothing(t *testing.T) {
	s := start(t)
	o := s.open(t, uuid.NewString(), "hello")
	if a := s.ask(t, "GET", "/v1/conversation", o.Token[:len(o.Token)-1]+"-", ""); a.status != http.StatusUnauthorized {
		t.Errorf("a wrong token gave %+v", a)
	}
	unknown := s.Widget
	unknown.Key = "nobody"
	if a := (site{&relaytest.World{Widget: unknown}, s.url}).open(t, uuid.NewString(), "hello"); a.status != http.StatusNotFound {
		t.Errorf("an unknown widget gave %+v", a)
	}
}

func TestTooMuchAtOnceIsRefused(t *testing.T) {
	s := start(t)
	o := s.open(t, uuid.NewString(), "hello")
	codes := map[int]int{}
	for range 8 {
		codes[s.ask(t, "POST", "/v1/conversation/messages", o.Token, message(uuid.NewString(), "again")).status]++
	}
	if codes[http.StatusOK] < 5 || codes[http.StatusTooManyRequests] == 0 {
		t.Errorf("eight messages at once gave %v", codes)
	}
	for n := 1; n < 30; n++ {
		s.open(t, "not an id", "is refused before it counts")
	}
	for n := 1; n < 30; n++ {
		if a := s.open(t, uuid.NewString(), "hello"); a.status != http.StatusCreated {
			t.Fatalf("conversation %d from one address gave %+v", n+1, a)
		}
	}
	if a := s.open(t, uuid.NewString(), "hello"); a.status != http.StatusTooManyRequests {
		t.Errorf("conversation 31 from one address gave %+v", a)
	}
}

func TestTheFrameMayBeShownByItsSitesOnly(t *testing.T) {
	s := start(t)
	for key, want := range map[string]struct {
		status    int
		ancestors string
	}{s.Widget.Key: {http.StatusOK, "frame-ancestors https://site.example;"}, "nobody": {http.StatusNotFound, "frame-ancestors *;"}} {
		resp, err := http.Get(s.url + "/widget/" + key + "/frame")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if policy := resp.Header.Get("Content-Security-Policy"); resp.StatusCode != want.status || !strings.Contains(policy, want.ancestors) {
			t.Errorf("%s: %d %s", key, resp.StatusCode, policy)
		}
	}
}

func TestWhoReadANoticeThatHasChangedIsShownTheNewOne(t *testing.T) {
	s := start(t)
	draft := chat.Notice{Audience: chat.ForVisitors, Texts: map[string]string{"en": "What is kept\n<b>Everything</b>", "fr": "Ce qui est conservé\nTout"}}
	if _, err := s.Store.Draft(t.Context(), s.Organisation.ID, draft); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.Publish(t.Context(), s.Organisation.ID, chat.ForVisitors, 2); err != nil {
		t.Fatal(err)
	}
	if a := s.open(t, uuid.NewString(), "bonjour"); a.status != http.StatusConflict || a.Code != "notice-outdated" {
		t.Errorf("a chat under the notice of before gave %+v", a)
	}
	resp, err := http.Get(s.url + "/v1/widgets/" + s.Widget.Key + "/notice")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Version int
		Terms   map[string][][2]string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Version != 2 || got.Terms["en"][0] != [2]string{"What is kept", "<b>Everything</b>"} || len(got.Terms["fr"]) != 1 {
		t.Errorf("the notice is %+v (%v)", got, err)
	}
	page, err := http.Get(s.url + "/widget/" + s.Widget.Key + "/frame")
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	b, err := io.ReadAll(page.Body)
	if err != nil || !strings.Contains(string(b), `data-notice="2"`) || strings.Contains(string(b), "<b>") {
		t.Errorf("the frame has another notice: %s (%v)", b, err)
	}
	body := `{"client_id":"` + uuid.NewString() + `","text":"bonjour","language":"fr","notice_version":"2"}`
	if a := s.ask(t, "POST", "/v1/widgets/"+s.Widget.Key+"/conversations", "", body); a.status != http.StatusCreated {
		t.Errorf("a chat under the new notice gave %+v", a)
	}
}
