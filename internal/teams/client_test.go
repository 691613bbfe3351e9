package teams_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/teams"
)

// connector stands for Teams: the login service's token endpoint and the Connector on one loopback address.
type connector struct {
	*httptest.Server
	tokens  atomic.Int32 // handed out
	calls   atomic.Int32
	login   http.HandlerFunc // nil: grant "token-N"
	answer  http.HandlerFunc
	clock   *clock
	secrets atomic.Int32
}

func newConnector(t *testing.T, answer http.HandlerFunc) *connector {
	s := &connector{answer: answer, clock: newClock()}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token") {
			n := s.tokens.Add(1)
			if s.login != nil {
				s.login(w, r)
				return
			}
			fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3600,"access_token":"token-%d"}`, n)
			return
		}
		s.calls.Add(1)
		s.answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *connector) cloud(t *testing.T) teams.Cloud {
	t.Helper()
	c, err := teams.CustomCloud(teams.CustomSettings{
		MetadataURL: s.URL + "/m", Issuer: issuer, LoginURL: s.URL, ServiceHosts: []string{strings.TrimPrefix(s.URL, "http://")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *connector) at(t *testing.T) teams.ServiceURL {
	t.Helper()
	at, err := teams.ParseServiceURL(s.URL+"/amer/", s.cloud(t))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func (s *connector) client(t *testing.T, h *http.Client) *teams.Client {
	t.Helper()
	tokens, err := teams.NewTokenSource(teams.TokenSourceConfig{
		Cloud: s.cloud(t), AppID: appID, HTTPClient: s.Client(), Now: s.clock.now,
		Secret: func() ([]byte, error) { s.secrets.Add(1); return []byte("s3cret&="), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := teams.NewClient(teams.ClientConfig{Tokens: tokens, Authority: "t-1", HTTPClient: h, Now: s.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientSendsWhatTheConnectorExpects(t *testing.T) {
	type seen struct{ method, path, body string }
	var last seen
	s := newConnector(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		last = seen{r.Method, r.RequestURI, strings.TrimSpace(string(b))}
		if r.Header.Get("Authorization") != "Bearer token-1" {
			t.Errorf("authorization %q", r.Header.Get("Authorization"))
		}
		switch {
		case r.Method == http.MethodGet:
			fmt.Fprint(w, `{"id":"29:a","name":"Ada Lovelace","givenName":"Ada","surname":"Lovelace","email":"ada@example.com","userPrincipalName":"ada@corp.example.com","objectId":"0-20"}`)
		case strings.Contains(string(b), `"typing"`):
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, `{"id":"19:x@thread.tacv2;messageid=5","activityId":"5"}`)
		}
	})
	c, at, ctx := s.client(t, s.Client()), s.at(t), t.Context()
	card := teams.ClosedCard(teams.English, "visitor 7f2k", teams.EndedByAgent)
	cardJSON, err := json.Marshal(card)
	if err != nil {
		t.Fatal(err)
	}
	attached := `"summary":"Closed: visitor 7f2k","attachments":[{"contentType":"application/vnd.microsoft.card.adaptive","content":` + string(cardJSON) + `}]`
	const thread = "19:x@thread.tacv2;messageid=5"
	const path = "/amer/v3/conversations/19%3Ax%40thread.tacv2%3Bmessageid%3D5"

	for _, tc := range []struct {
		name string
		call func() (any, error)
		want seen
		got  any
	}{
		{"create a thread", func() (any, error) { return c.CreateThread(ctx, at, "t-9", "19:x@thread.tacv2", card) },
			seen{"POST", "/amer/v3/conversations", `{"isGroup":true,"bot":{"id":"28:` + appID + `"},"tenantId":"t-9","channelData":{"channel":{"id":"19:x@thread.tacv2"},"tenant":{"id":"t-9"}},"activity":{"type":"message",` + attached + `}}`},
			teams.Posted{ConversationID: thread, ActivityID: "5"}},
		{"create a personal chat", func() (any, error) { return c.CreatePersonal(ctx, at, "t-9", "29:a") },
			seen{"POST", "/amer/v3/conversations", `{"isGroup":false,"bot":{"id":"28:` + appID + `"},"members":[{"id":"29:a"}],"tenantId":"t-9","channelData":{"tenant":{"id":"t-9"}}}`}, thread},
		{"send a text", func() (any, error) { return c.Send(ctx, at, thread, teams.Message{Text: "<b> & [x](y)"}) },
			seen{"POST", path + "/activities", `{"type":"message","text":"<b> & [x](y)","textFormat":"plain"}`}, thread},
		{"reply", func() (any, error) { return c.Reply(ctx, at, thread, "5", teams.Message{Text: "x"}) },
			seen{"POST", path + "/activities/5", `{"type":"message","text":"x","textFormat":"plain"}`}, thread},
		{"update", func() (any, error) { return nil, c.Update(ctx, at, thread, "5", teams.Message{Card: card}) },
			seen{"PUT", path + "/activities/5", `{"type":"message","id":"5",` + attached + `}`}, nil},
		{"typing", func() (any, error) { return nil, c.Typing(ctx, at, "a:1/../x?y") },
			seen{"POST", "/amer/v3/conversations/a%3A1%2F..%2Fx%3Fy/activities", `{"type":"typing"}`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := tc.call()
			if err != nil || got != tc.got || last != tc.want {
				t.Errorf("%v %v\n got %v\nwant %v", got, err, last, tc.want)
			}
		})
	}
	m, err := c.Member(ctx, at, "a:1", "29:a")
	if err != nil || m.AADObjectID != "0-20" || last.path != "/amer/v3/conversations/a%3A1/members/29%3Aa" {
		t.Fatalf("%v %v %v", m, err, last)
	}
	for want, in := range map[string]euii.Inbound{"Ada Lovelace": m.Name, "Ada": m.GivenName, "Lovelace": m.Surname, "ada@example.com": m.Email, "ada@corp.example.com": m.UPN} {
		if !euii.InboundEqualFold(in, want) {
			t.Errorf("a field is not %s", want)
		}
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", m, m, m), "Ada") {
		t.Error("a printed member shows the name")
	}
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d tokens were fetched", n)
	}
}

func TestOutcomeFollowsTheAnswer(t *testing.T) {
	card := teams.ClosedCard(teams.English, "visitor 7f2k", teams.EndedIdle)
	type call func(*teams.Client, context.Context, teams.ServiceURL) error
	send := call(func(c *teams.Client, ctx context.Context, at teams.ServiceURL) error {
		_, err := c.Send(ctx, at, "a:1", teams.Message{Text: "x"})
		return err
	})
	update := call(func(c *teams.Client, ctx context.Context, at teams.ServiceURL) error {
		return c.Update(ctx, at, "a:1", "5", teams.Message{Text: "x"})
	})
	create := call(func(c *teams.Client, ctx context.Context, at teams.ServiceURL) error {
		_, err := c.CreateThread(ctx, at, "t", "19:x", card)
		return err
	})
	member := call(func(c *teams.Client, ctx context.Context, at teams.ServiceURL) error {
		_, err := c.Member(ctx, at, "a:1", "29:a")
		return err
	})
	for _, tc := range []struct {
		name   string
		call   call
		status int
		header string
		body   string
		want   teams.Outcome
		code   string
		after  time.Duration
	}{
		{name: "201 is sent", call: send, status: 201, body: `{"id":"5"}`, want: teams.Sent},
		{name: "202 without a body is sent", call: send, status: 202, want: teams.Sent},
		{name: "429 with seconds is to be repeated", call: send, status: 429, header: "7", want: teams.Retry, after: 7 * time.Second},
		{name: "429 with a date is to be repeated", call: send, status: 429, header: start.Add(90 * time.Second).Format(http.TimeFormat), want: teams.Retry, after: 90 * time.Second},
		{name: "429 with a past date waits no more", call: send, status: 429, header: start.Add(-time.Hour).Format(http.TimeFormat), want: teams.Retry},
		{name: "429 with nonsense says no time", call: send, status: 429, header: "-3", want: teams.Retry},
		{name: "429 with a year waits an hour", call: send, status: 429, header: "31536000", want: teams.Retry, after: time.Hour},
		{name: "429 without a header says no time", call: create, status: 429, want: teams.Retry},
		{name: "412 is to be repeated", call: send, status: 412, want: teams.Retry},
		{name: "403 failed, with its code", call: send, status: 403, body: `{"error":{"code":"MessageWritesBlocked","message":"Ada blocked"}}`, want: teams.Failed, code: "MessageWritesBlocked"},
		{name: "a flat code is read", call: send, status: 400, body: `{"errorCode":209,"message":"x"}`, want: teams.Failed, code: "209"},
		{name: "a code that is a sentence is dropped", call: send, status: 400, body: `{"error":{"code":"Ada was here"}}`, want: teams.Failed},
		{name: "413 failed", call: send, status: 413, body: `<html>`, want: teams.Failed},
		{name: "404 of an update failed", call: update, status: 404, want: teams.Failed},
		{name: "500 of a send is unknown", call: send, status: 500, want: teams.Unknown},
		{name: "502 of a create is unknown", call: create, status: 502, want: teams.Unknown},
		{name: "408 of a send is unknown", call: send, status: 408, want: teams.Unknown},
		{name: "503 of an update is to be repeated", call: update, status: 503, header: "3", want: teams.Retry, after: 3 * time.Second},
		{name: "504 of a read is to be repeated", call: member, status: 504, want: teams.Retry},
		{name: "a thread without ids is unknown", call: create, status: 201, body: `{}`, want: teams.Unknown},
		{name: "a sent message with an unreadable answer is unknown", call: send, status: 201, body: `{`, want: teams.Unknown},
		{name: "an answer too long is unknown", call: send, status: 201, body: `{"id":"` + strings.Repeat("x", 300<<10) + `"}`, want: teams.Unknown},
		{name: "a refusal too long is still a refusal", call: send, status: 400, body: strings.Repeat("x", 300<<10), want: teams.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newConnector(t, func(w http.ResponseWriter, r *http.Request) {
				if tc.header != "" {
					w.Header().Set("Retry-After", tc.header)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			err := tc.call(s.client(t, s.Client()), t.Context(), s.at(t))
			if got := teams.OutcomeOf(err); got != tc.want {
				t.Fatalf("%v, want %v (%v)", got, tc.want, err)
			}
			if teams.RetryAfter(err) != tc.after {
				t.Errorf("retry after %v, want %v", teams.RetryAfter(err), tc.after)
			}
			var e *teams.CallError
			if tc.want != teams.Sent && (!errors.As(err, &e) || e.Status != tc.status && e.Status != 0 || e.Code != tc.code) {
				t.Errorf("error %+v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "Ada") || strings.Contains(err.Error(), "token-")) {
				t.Errorf("the error tells too much: %v", err)
			}
			if s.calls.Load() != 1 {
				t.Errorf("%d calls", s.calls.Load())
			}
		})
	}
}

func TestOutcomeFollowsHowFarTheRequestCame(t *testing.T) {
	s := newConnector(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	at := s.at(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	refusing := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("not in the register of destinations")
	}}}
	gone := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(closed.URL, "http://"))
	}}}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		client *http.Client
		send   teams.Outcome
		update teams.Outcome
	}{
		{"cut off after sending", t.Context(), s.Client(), teams.Unknown, teams.Retry},
		{"connection refused", t.Context(), gone, teams.Retry, teams.Retry},
		{"dialling refused by ourselves", t.Context(), refusing, teams.Retry, teams.Retry},
		{"cancelled before", cancelled, s.Client(), teams.Retry, teams.Retry},
	} {
		c := s.client(t, tc.client)
		_, err := c.Send(tc.ctx, at, "a:secret", teams.Message{Text: "x"})
		if got := teams.OutcomeOf(err); got != tc.send {
			t.Errorf("send, %s: %v (%v)", tc.name, got, err)
		}
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error names the conversation: %v", tc.name, err)
		}
		if got := teams.OutcomeOf(c.Update(tc.ctx, at, "a:1", "5", teams.Message{Text: "x"})); got != tc.update {
			t.Errorf("update, %s: %v", tc.name, got)
		}
	}
}

func TestClientRefusesBadInputWithoutCalling(t *testing.T) {
	s := newConnector(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"1"}`) })
	c, at, ctx := s.client(t, s.Client()), s.at(t), t.Context()
	card := teams.ClosedCard(teams.English, "v", teams.EndedIdle)
	elsewhere, err := teams.NamedCloud("public")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := teams.ParseServiceURL("https://smba.trafficmanager.net/amer/", elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		at   teams.ServiceURL
		to   string
		m    teams.Message
		want error
	}{
		"no address":                  {teams.ServiceURL{}, "a:1", teams.Message{Text: "x"}, teams.ErrServiceURL},
		"an address of another cloud": {foreign, "a:1", teams.Message{Text: "x"}, teams.ErrServiceURL},
		"no conversation":             {at, "", teams.Message{Text: "x"}, nil},
		"a dot segment":               {at, "..", teams.Message{Text: "x"}, nil},
		"nothing to say":              {at, "a:1", teams.Message{}, nil},
		"text and card":               {at, "a:1", teams.Message{Text: "x", Card: card}, nil},
		"too big":                     {at, "a:1", teams.Message{Text: strings.Repeat("x", 41<<10)}, teams.ErrTooBig},
		"too big in UTF-16":           {at, "a:1", teams.Message{Text: strings.Repeat("😀", 21<<10)}, teams.ErrTooBig},
	} {
		_, err := c.Send(ctx, tc.at, tc.to, tc.m)
		if teams.OutcomeOf(err) != teams.Failed || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.calls.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
	if _, err := c.Send(ctx, at, "a:1", teams.Message{Text: strings.Repeat("x", 39<<10)}); err != nil {
		t.Errorf("a message that fits: %v", err)
	}
}

func TestRedirectIsRefusedAndTheBearerStays(t *testing.T) {
	var leaked atomic.Int32
	second := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Add(1) }))
	t.Cleanup(second.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := newConnector(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, second.URL, status) })
		// A client that was told to follow is made not to.
		follow := &http.Client{Transport: s.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
		_, err := s.client(t, follow).Send(t.Context(), s.at(t), "a:1", teams.Message{Text: "x"})
		if teams.OutcomeOf(err) != teams.Failed {
			t.Errorf("%d: %v", status, err)
		}
	}
	s := newConnector(t, func(http.ResponseWriter, *http.Request) {})
	s.login = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, second.URL, http.StatusTemporaryRedirect)
	}
	if _, err := s.client(t, s.Client()).Send(t.Context(), s.at(t), "a:1", teams.Message{Text: "x"}); !errors.Is(err, teams.ErrToken) {
		t.Errorf("login redirect: %v", err)
	}
	if n := leaked.Load(); n != 0 {
		t.Errorf("the second host was reached %d times", n)
	}
}

func TestTokenIsFetchedOnceKeptAndRenewedEarly(t *testing.T) {
	var form string
	s := newConnector(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"id":"1"}`) })
	entered, hold := make(chan struct{}, 1), make(chan struct{})
	s.login = func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-hold
		_ = r.ParseForm()
		form = r.URL.Path + " " + r.PostForm.Encode()
		fmt.Fprintf(w, `{"token_type":"bearer","expires_in":"3600","access_token":"t%d"}`, s.tokens.Load())
	}
	c, at := s.client(t, s.Client()), s.at(t)
	send := func() error {
		_, err := c.Send(t.Context(), at, "a:1", teams.Message{Text: "x"})
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() { errs[i] = send() })
	}
	<-entered
	close(hold)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if s.tokens.Load() != 1 || s.secrets.Load() != 1 {
		t.Fatalf("%d tokens, %d readings of the secret", s.tokens.Load(), s.secrets.Load())
	}
	if want := "/t-1/oauth2/v2.0/token client_id=" + appID + "&client_secret=s3cret%26%3D&grant_type=client_credentials&scope=https%3A%2F%2Fapi.example.test%2F.default"; form != want {
		t.Errorf("form\n%s\n%s", form, want)
	}
	step := func(what string, after time.Duration, want int32, ok bool) {
		t.Helper()
		s.clock.advance(after)
		if err := send(); (err == nil) != ok || s.tokens.Load() != want {
			t.Fatalf("%s: %v, %d tokens, want %d", what, err, s.tokens.Load(), want)
		}
		select {
		case <-entered:
		default:
		}
	}
	step("54 minutes later", 54*time.Minute, 1, true)
	step("five minutes before the end", time.Minute, 2, true)
	s.login = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"secret s3cret is wrong"}`)
	}
	step("the old one serves while renewal fails", 56*time.Minute, 3, true)
	s.clock.advance(5 * time.Minute)
	err := send()
	if !errors.Is(err, teams.ErrToken) || teams.OutcomeOf(err) != teams.Retry || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("without a token: %v", err)
	}
}

func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		good   string
		calls  int32
		tokens int32
		want   teams.Outcome
	}{
		{"the second token is taken", "Bearer token-2", 2, 2, teams.Sent},
		{"no third is tried", "Bearer token-9", 2, 2, teams.Failed},
	} {
		s := newConnector(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != tc.good {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			b, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(b), "hello") {
				t.Errorf("the second request has the body %q", b)
			}
			fmt.Fprint(w, `{"id":"1"}`)
		})
		_, err := s.client(t, s.Client()).Send(t.Context(), s.at(t), "a:1", teams.Message{Text: "hello"})
		if teams.OutcomeOf(err) != tc.want || s.calls.Load() != tc.calls || s.tokens.Load() != tc.tokens {
			t.Errorf("%s: %v, %d calls, %d tokens", tc.name, err, s.calls.Load(), s.tokens.Load())
		}
	}
}

func TestTokenAnswersOfNoUseAreRefused(t *testing.T) {
	for name, body := range map[string]string{
		"empty":            `{}`,
		"no token":         `{"token_type":"Bearer","expires_in":3600}`,
		"another type":     `{"token_type":"mac","expires_in":3600,"access_token":"x"}`,
		"no life":          `{"token_type":"Bearer","expires_in":0,"access_token":"x"}`,
		"two header lines": `{"token_type":"Bearer","expires_in":3600,"access_token":"x\r\ny: z"}`,
		"too long":         `{"token_type":"Bearer","expires_in":3600,"access_token":"` + strings.Repeat("x", 70<<10) + `"}`,
		"no JSON":          `<html>`,
	} {
		s := newConnector(t, func(http.ResponseWriter, *http.Request) {})
		s.login = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
		err := s.client(t, s.Client()).Typing(t.Context(), s.at(t), "a:1")
		if !errors.Is(err, teams.ErrToken) || s.calls.Load() != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
