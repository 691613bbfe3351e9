package standin_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"counterfoil/internal/standin"
)

func TestNewRefuses(t *testing.T) {
	good := standin.Config{Addr: "127.0.0.1:8082", BotEndpoint: "http://127.0.0.1:8080/teams/messages", AppID: "a", AppSecret: "s", TenantID: "t"}
	if _, err := standin.New(good); err != nil {
		t.Fatalf("a loopback configuration: %v", err)
	}
	for name, edit := range map[string]func(*standin.Config){
		"an address on all interfaces":   func(c *standin.Config) { c.Addr = "0.0.0.0:8082" },
		"an address without a host":      func(c *standin.Config) { c.Addr = ":8082" },
		"an address of another machine":  func(c *standin.Config) { c.Addr = "192.0.2.1:8082" },
		"an address without a port":      func(c *standin.Config) { c.Addr = "127.0.0.1" },
		"a port chosen later":            func(c *standin.Config) { c.Addr = "127.0.0.1:0" },
		"a bot on another machine":       func(c *standin.Config) { c.BotEndpoint = "https://bot.example/x" },
		"a bot behind a name":            func(c *standin.Config) { c.BotEndpoint = "http://127.0.0.1.bot.example/x" },
		"a bot endpoint with user info":  func(c *standin.Config) { c.BotEndpoint = "http://u@127.0.0.1/x" },
		"a bot endpoint that is no HTTP": func(c *standin.Config) { c.BotEndpoint = "file:///x" },
		"an empty app id":                func(c *standin.Config) { c.AppID = "" },
		"an empty secret":                func(c *standin.Config) { c.AppSecret = "" },
		"an empty tenant":                func(c *standin.Config) { c.TenantID = "" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			edit(&c)
			if _, err := standin.New(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestTokenEndpoint(t *testing.T) {
	_, b := setup(t, nil)
	b.token()
	for name, c := range map[string]struct {
		tenant, key, value string
		status             int
		code               string
	}{
		"refuses a wrong secret":         {tenant, "client_secret", "x", 401, "invalid_client"},
		"refuses another app":            {tenant, "client_id", "x", 401, "unauthorized_client"},
		"refuses another scope":          {tenant, "scope", "https://graph.microsoft.com/.default", 400, "invalid_scope"},
		"refuses another grant":          {tenant, "grant_type", "password", 400, "unsupported_grant_type"},
		"refuses another tenant":         {"other", "", "", 400, "invalid_request"},
		"takes the shared tenant's name": {"botframework.com", "", "", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			form := url.Values{
				"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {secret},
				"scope": {"https://api.botframework.com/.default"},
			}
			if c.key != "" {
				form.Set(c.key, c.value)
			}
			status, body := b.login(c.tenant, form)
			code, _ := body["error"].(string)
			if status != c.status || code != c.code {
				t.Errorf("got %d %v", status, body)
			}
		})
	}
}

func TestConnectorRefusesATokenThat(t *testing.T) {
	now := time.Now()
	var clock atomic.Int64
	clock.Store(now.Unix())
	s, b := setup(t, func(c *standin.Config) { c.Now = func() time.Time { return time.Unix(clock.Load(), 0) } })
	good := b.token()
	_, other := setup(t, nil)
	parts := strings.Split(good, ".")
	for name, token := range map[string]string{
		"is missing":              "",
		"is not a JWT":            "x",
		"is signed by another":    other.token(),
		"has other claims":        parts[0] + ".e30." + parts[2],
		"says that it is not RS":  "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"is one meant for bots":   "e30." + parts[1] + "." + parts[2],
		"has a cut off signature": strings.TrimSuffix(good, good[len(good)-8:]),
	} {
		t.Run(name, func(t *testing.T) {
			if r := b.must("GET", "/v3/teams/x", token, nil); r.status != http.StatusUnauthorized || r.str("message") == "" {
				t.Errorf("got %d %s", r.status, r.raw)
			}
		})
	}
	t.Run("has expired, but not within the skew", func(t *testing.T) {
		clock.Store(now.Add(time.Hour + 4*time.Minute).Unix())
		if r := b.must("GET", "/v3/teams/x", good, nil); r.status != http.StatusNotFound {
			t.Errorf("within the skew: %d", r.status)
		}
		clock.Store(now.Add(time.Hour + 6*time.Minute).Unix())
		if r := b.must("GET", "/v3/teams/x", good, nil); r.status != http.StatusUnauthorized {
			t.Errorf("after the skew: %d", r.status)
		}
	})
	if n := s.Calls()[standin.CallRefused]; n != 8 {
		t.Errorf("%d refused calls counted", n)
	}
}

func TestInstallTellsTheBotInBothOrders(t *testing.T) {
	s, b := setup(t, nil)
	for range 2 {
		if err := s.Install(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.got {
		order = append(order, d.str("type"))
		if d.str("channelData", "team", "name") != "Support" || d.str("channelData", "team", "aadGroupId") == "" ||
			d.str("channelData", "tenant", "id") != tenant || d.str("from", "name") != "" || d.str("from", "aadObjectId") == "" {
			t.Errorf("event %s", d.raw)
		}
	}
	if got := strings.Join(order, " "); got != "installationUpdate conversationUpdate conversationUpdate installationUpdate" {
		t.Error(got)
	}
}

func TestServeInstallsOnceTheBotAnswers(t *testing.T) {
	b := &bot{t: t}
	var ready atomic.Bool
	botListener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	botServer := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ready.Swap(true) {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		b.ServeHTTP(w, r)
	})}
	go botServer.Serve(botListener)
	defer botServer.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := standin.New(standin.Config{
		Addr: l.Addr().String(), BotEndpoint: "http://" + botListener.Addr().String() + "/", AppID: appID, AppSecret: secret, TenantID: tenant,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.standin = s
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	wait(t, s, func(st standin.State) bool { return st.Installed })
	if len(b.deliveries("installationUpdate")) == 0 || len(b.deliveries("conversationUpdate")) == 0 {
		t.Error("installed without telling the bot")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := s.Say(t.Context(), "amelie", "late"); err == nil {
		t.Error("a closed stand-in delivers")
	}
}

func TestServeRefusesAListenerOffLoopback(t *testing.T) {
	s, err := standin.New(standin.Config{Addr: "127.0.0.1:9", BotEndpoint: "http://127.0.0.1:9/", AppID: "a", AppSecret: "s", TenantID: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(t.Context(), elsewhere{}); err == nil {
		t.Error("served")
	}
}

type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func TestChannelNeedsTheInstallation(t *testing.T) {
	s, b := setup(t, nil)
	tok := b.token()
	m, _ := s.Member("grace")
	r := b.must("POST", "/v3/conversations", tok, obj{"members": []obj{{"id": m.ID}}, "tenantId": tenant})
	if r.status != http.StatusCreated || r.str("id") != m.ChatID {
		t.Errorf("1:1 chat: %d %s", r.status, r.raw)
	}
	const general = "19:5b0f6d9c2a7e4c83b1d94e7f0a6c3d21@thread.tacv2"
	if r := b.must("POST", "/v3/conversations/"+esc(general)+"/activities", tok, message("hi")); r.status != 403 || r.code() != "BotNotInConversationRoster" {
		t.Errorf("before: %d %s", r.status, r.raw)
	}
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := b.must("POST", "/v3/conversations/"+esc(general)+"/activities", tok, message("hi")); r.status != 201 {
		t.Errorf("after: %d %s", r.status, r.raw)
	}
	if n := len(s.Posts(standin.GeneralChannel)); n != 1 {
		t.Errorf("%d posts", n)
	}
}

func TestConnector(t *testing.T) {
	s, b := setup(t, nil)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	tok := b.token()
	thread, root := b.thread(tok)
	if thread != b.front()+";messageid="+root {
		t.Fatalf("thread %s of %s", thread, root)
	}
	amelie, _ := s.Member("amelie")
	conv := "/v3/conversations/" + esc(thread)
	chat := "/v3/conversations/" + esc(amelie.ChatID)
	if s.Say(t.Context(), "amelie", "hello"); len(s.Chat("amelie")) != 1 {
		t.Fatal("no message to try to change")
	}
	hers := s.Chat("amelie")[0].ID
	big := strings.Repeat("é", 51<<10)
	for _, c := range []struct {
		name, method, path string
		body               any
		status             int
		code               string
	}{
		{"answers in the thread", "POST", conv + "/activities", message("reply"), 201, ""},
		{"answers to a message", "POST", conv + "/activities/" + root, message("reply"), 201, ""},
		{"accepts typing", "POST", conv + "/activities", obj{"type": "typing"}, 202, ""},
		{"posts in a 1:1 chat", "POST", chat + "/activities", message("hi"), 201, ""},
		{"creates a chat by directory id", "POST", "/v3/conversations", obj{"members": []obj{{"id": amelie.AADObjectID}}}, 201, ""},
		{"creates a chat with a first message", "POST", "/v3/conversations", obj{"members": []obj{{"id": amelie.ID}}, "activity": message("hi")}, 201, ""},
		{"refuses a chat with a stranger", "POST", "/v3/conversations", obj{"members": []obj{{"id": "29:1x"}}}, 400, "BadArgument"},
		{"refuses a chat with nobody", "POST", "/v3/conversations", obj{"members": []obj{}}, 400, "BadArgument"},
		{"refuses another tenant", "POST", "/v3/conversations", obj{"tenantId": "x", "members": []obj{{"id": amelie.ID}}}, 403, "Forbidden"},
		{"refuses a thread without a message", "POST", "/v3/conversations", obj{"isGroup": true, "channelData": obj{"channel": obj{"id": b.front()}}}, 400, "BadSyntax"},
		{"refuses a thread in no channel", "POST", "/v3/conversations", obj{"isGroup": true, "activity": message("x")}, 404, "ConversationNotFound"},
		{"refuses an unknown conversation", "POST", "/v3/conversations/a%3A1x/activities", message("x"), 404, "ConversationNotFound"},
		{"refuses an unknown thread", "POST", "/v3/conversations/" + esc(b.front()+";messageid=1") + "/activities", message("x"), 404, "ConversationNotFound"},
		{"refuses an empty message", "POST", chat + "/activities", message(" "), 400, "BadSyntax"},
		{"refuses broken JSON", "POST", chat + "/activities", "x", 400, "BadSyntax"},
		{"refuses a card that is none", "POST", chat + "/activities", cardMessage(obj{"type": "HeroCard"}), 400, "BadArgument"},
		{"refuses more than 100 KB in UTF-16", "POST", chat + "/activities", message(big), 413, "MessageSizeTooBig"},
		{"refuses more than it reads", "POST", chat + "/activities", message(strings.Repeat("x", 2<<20)), 413, "MessageSizeTooBig"},
		{"changes a message", "PUT", conv + "/activities/" + root, cardMessage(obj{"type": "AdaptiveCard", "body": []obj{}}), 200, ""},
		{"refuses to change what is not there", "PUT", conv + "/activities/1", message("x"), 404, "ActivityNotFoundInConversation"},
		{"refuses to change a message from elsewhere", "PUT", chat + "/activities/" + root, message("x"), 404, "ActivityNotFoundInConversation"},
		{"refuses to change a person's message", "PUT", chat + "/activities/" + hers, message("x"), 404, "ActivityNotFoundInConversation"},
		{"tells a member by the bot's id", "GET", conv + "/members/" + esc(amelie.ID), nil, 200, ""},
		{"tells a member by the directory's id", "GET", conv + "/members/" + amelie.AADObjectID, nil, 200, ""},
		{"knows no stranger", "GET", conv + "/members/" + esc("29:1x"), nil, 404, "MemberNotFoundInConversation"},
		{"lists members", "GET", conv + "/members", nil, 200, ""},
		{"pages members", "GET", conv + "/pagedmembers?pageSize=50", nil, 200, ""},
		{"refuses an unknown page", "GET", conv + "/pagedmembers?continuationToken=x", nil, 403, "BadArgument"},
		{"tells of the team", "GET", "/v3/teams/" + esc("19:5b0f6d9c2a7e4c83b1d94e7f0a6c3d21@thread.tacv2"), nil, 200, ""},
		{"tells of its channels", "GET", "/v3/teams/" + esc("19:5b0f6d9c2a7e4c83b1d94e7f0a6c3d21@thread.tacv2") + "/conversations", nil, 200, ""},
		{"knows no other team", "GET", "/v3/teams/x", nil, 404, "ConversationNotFound"},
		{"deletes a message", "DELETE", conv + "/activities/" + root, nil, 200, ""},
		{"refuses to delete it again", "DELETE", conv + "/activities/" + root, nil, 404, "ActivityNotFoundInConversation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := b.must(c.method, c.path, tok, c.body)
			if r.status != c.status || r.code() != c.code {
				t.Errorf("got %d %s", r.status, r.raw)
			}
		})
	}
	want := map[string]int{
		standin.CallMember: 3, standin.CallMembers: 1, standin.CallPagedMembers: 2, standin.CallTyping: 1, standin.CallToken: 1,
		standin.CallUpdate: 4, standin.CallDelete: 2, standin.CallTeam: 2, standin.CallChannels: 1, standin.CallCreate: 8,
	}
	got := s.Calls()
	maps.DeleteFunc(got, func(k string, _ int) bool { _, ok := want[k]; return !ok })
	if !maps.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
}

func TestMemberReadTellsOnePerson(t *testing.T) {
	s, b := setup(t, nil)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	tok := b.token()
	thread, _ := b.thread(tok)
	if s.Calls()[standin.CallMembers]+s.Calls()[standin.CallPagedMembers]+s.Calls()[standin.CallMember] != 0 {
		t.Error("a roster was read before anybody asked")
	}
	for _, m := range s.Members() {
		r := b.must("GET", "/v3/conversations/"+esc(thread)+"/members/"+esc(m.ID), tok, nil)
		for key, want := range map[string]string{
			"id": m.ID, "aadObjectId": m.AADObjectID, "name": m.Name, "givenName": m.GivenName, "surname": m.Surname,
			"email": m.Email, "userPrincipalName": m.Email, "tenantId": tenant, "userRole": "user",
		} {
			if r.str(key) != want || want == "" {
				t.Errorf("%s: %s is %q, want %q", m.Short, key, r.str(key), want)
			}
		}
		if r := b.must("GET", "/v3/conversations/"+esc(m.ChatID)+"/members/"+esc(s.Members()[0].ID), tok, nil); (r.status == 200) != (m.Short == s.Members()[0].Short) {
			t.Errorf("the 1:1 chat of %s tells of the first member: %d", m.Short, r.status)
		}
	}
}

func TestRateLimit(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1_800_000_000_000)
	s, b := setup(t, func(c *standin.Config) { c.Now = func() time.Time { return time.UnixMilli(clock.Load()) } })
	tok := b.token()
	m, _ := s.Member("jonas")
	other, _ := s.Member("grace")
	send := func(m standin.Member) response {
		t.Helper()
		return b.must("POST", "/v3/conversations/"+esc(m.ChatID)+"/activities", tok, message("x"))
	}
	burst := func(want int, wait string) {
		t.Helper()
		for i := range want {
			if r := send(m); r.status != 201 {
				t.Fatalf("message %d: %d %s", i+1, r.status, r.raw)
			}
		}
		if r := send(m); r.status != 429 || r.header.Get("Retry-After") != wait {
			t.Fatalf("message %d: %d, Retry-After %q, want %s", want+1, r.status, r.header.Get("Retry-After"), wait)
		}
	}
	burst(7, "1")
	if r := send(other); r.status != 201 {
		t.Errorf("another thread: %d", r.status)
	}
	clock.Add(1000)
	burst(1, "1") // eight in two seconds
	for sent := 8; sent < 56; sent += 8 {
		clock.Add(2000)
		for range 7 {
			send(m)
		}
		clock.Add(1000)
		if r := send(m); r.status != 201 {
			t.Fatalf("after %d: %d", sent, r.status)
		}
	}
	clock.Add(2000)
	burst(4, "9") // sixty in thirty seconds: the oldest leave nine seconds from here
	clock.Add(30_000)
	burst(7, "1")
	body, _ := json.Marshal(s.Calls())
	if s.Calls()[standin.CallSend] < 60 {
		t.Errorf("calls %s", body)
	}
}

func TestRootMessageWithTextAndCardIsSplit(t *testing.T) {
	s, b := setup(t, nil)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := cardMessage(waitingCard())
	a["text"] = "New chat"
	r := b.must("POST", "/v3/conversations", b.token(), obj{"isGroup": true, "channelData": obj{"channel": obj{"id": b.front()}}, "activity": a})
	posts := s.Posts(standin.FrontDesk)
	if len(posts) != 2 || posts[0].ID != r.str("activityId") || len(posts[0].Cards) != 0 || !posts[0].Root ||
		len(posts[1].Cards) != 1 || posts[1].Root || posts[1].Conversation != posts[0].Conversation {
		t.Errorf("posts %+v", posts)
	}
}

func TestBlockedChat(t *testing.T) {
	s, b := setup(t, nil)
	tok := b.token()
	m, _ := s.Member("zoe")
	path := "/v3/conversations/" + esc(m.ChatID) + "/activities"
	for _, c := range []struct {
		blocked bool
		status  int
		code    string
	}{{true, 403, "MessageWritesBlocked"}, {false, 201, ""}} {
		if err := s.Block(t.Context(), "zoe", c.blocked); err != nil {
			t.Fatal(err)
		}
		if r := b.must("POST", path, tok, message("x")); r.status != c.status || r.code() != c.code {
			t.Errorf("blocked %v: %d %s", c.blocked, r.status, r.raw)
		}
	}
	if got := b.deliveries("installationUpdate"); len(got) != 2 || got[0].str("action") != "remove" || got[1].str("action") != "add" {
		t.Errorf("events %v", got)
	}
	if err := s.Block(t.Context(), "nobody", true); !errors.Is(err, standin.ErrNoMember) {
		t.Error(err)
	}
}

func TestConnectorFaults(t *testing.T) {
	s, b := setup(t, func(c *standin.Config) { c.Timing.Stall = 20 * time.Millisecond })
	tok := b.token()
	m, _ := s.Member("grace")
	path := "/v3/conversations/" + esc(m.ChatID) + "/activities"
	for _, c := range []struct {
		kind   standin.Fault
		status int
	}{{standin.FaultThrottle, 429}, {standin.FaultError, 500}} {
		if err := s.FailNext(c.kind, 2); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int{c.status, c.status, 201} {
			if r := b.must("POST", path, tok, message("x")); r.status != want || (want == 429) != (r.header.Get("Retry-After") != "") {
				t.Errorf("%s, call %d: %d", c.kind, i+1, r.status)
			}
		}
	}
	if n := len(s.Chat("grace")); n != 2 {
		t.Errorf("%d messages, though only two calls were accepted", n)
	}
	if err := s.FailNext(standin.FaultStall, 1); err != nil {
		t.Fatal(err)
	}
	if r, err := b.api(t.Context(), "POST", path, tok, message("x")); err == nil {
		t.Errorf("a stalled call was answered %d", r.status)
	}
	if n := len(s.Chat("grace")); n != 3 {
		t.Errorf("%d messages: a stalled call was not carried out", n)
	}
	if err := s.FailNext("flood", 1); err == nil {
		t.Error("unknown fault accepted")
	}
}
