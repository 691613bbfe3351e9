package standin_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"counterfoil/internal/standin"
)

const (
	appID  = "6a1d0a2e-9b54-4e0e-8a57-2f4c8a1f9d10"
	secret = "not-a-secret"
	tenant = "b7c3e5a1-4f28-4d96-a0b1-93d2c6e8f754"
)

// delivery is one activity as it reached the bot.
type delivery struct {
	raw  []byte
	body map[string]any
}

func (d delivery) str(path ...string) string {
	var v any = d.body
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

// bot is the smallest bot that checks everything a bot has to check.
type bot struct {
	t        *testing.T
	srv      *httptest.Server
	standin  *standin.Server
	mu       sync.Mutex
	got      []delivery
	rejected []string
	answer   func(n int, d delivery) (int, any) // nil answers 200 and nothing
}

func (b *bot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	d := delivery{raw: raw}
	if err = json.Unmarshal(raw, &d.body); err == nil {
		err = b.verify(r.Header.Get("Authorization"), d)
	}
	b.mu.Lock()
	if err != nil {
		b.rejected = append(b.rejected, err.Error())
		b.mu.Unlock()
		http.Error(w, "unauthorised", http.StatusUnauthorized)
		return
	}
	b.got = append(b.got, d)
	n, answer := len(b.got), b.answer
	b.mu.Unlock()
	if answer == nil {
		return
	}
	status, body := answer(n, d)
	w.WriteHeader(status)
	if body != nil {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (b *bot) deliveries(kind string) []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.got), func(d delivery) bool { return d.str("type") != kind })
}

// verify follows the Bot Framework's rules for a connector's token: RS256 with a published and endorsed key, issuer,
// audience, times, and a serviceurl equal to the activity's.
func (b *bot) verify(header string, d delivery) error {
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return errors.New("no bearer")
	}
	var meta struct {
		Issuer string   `json:"issuer"`
		JWKS   string   `json:"jwks_uri"`
		Algs   []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := getJSON(b.standin.MetadataURL(), &meta); err != nil {
		return err
	}
	var keys struct {
		Keys []struct {
			Kid, N, E    string
			Endorsements []string
		}
	}
	if err := getJSON(meta.JWKS, &keys); err != nil {
		return err
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("not a JWS")
	}
	var head struct{ Alg, Kid string }
	var claims struct {
		Iss, Aud, Serviceurl string
		Nbf, Exp             int64
	}
	for i, into := range []any{&head, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return err
		}
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	if head.Alg != "RS256" || !slices.Contains(meta.Algs, head.Alg) {
		return fmt.Errorf("alg %s", head.Alg)
	}
	found := false
	for _, k := range keys.Keys {
		if k.Kid != head.Kid || !slices.Contains(k.Endorsements, "msteams") {
			continue
		}
		n, _ := base64.RawURLEncoding.DecodeString(k.N)
		e, _ := base64.RawURLEncoding.DecodeString(k.E)
		pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		found = rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig) == nil
	}
	now := time.Now().Unix()
	switch {
	case !found:
		return errors.New("signature")
	case claims.Iss != meta.Issuer || claims.Iss != b.standin.Issuer():
		return errors.New("iss")
	case claims.Aud != appID:
		return errors.New("aud")
	case claims.Serviceurl == "" || claims.Serviceurl != d.str("serviceUrl"):
		return errors.New("serviceurl")
	case now > claims.Exp || now < claims.Nbf-1:
		return errors.New("time")
	case d.str("channelId") != "msteams":
		return errors.New("channelId")
	}
	return nil
}

func getJSON(address string, into any) error {
	res, err := http.Get(address)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(into)
}

// setup runs a stand-in and a bot that trusts it. Deadlines are short; the stand-in's clock is the real one unless edit
// changes it.
func setup(t *testing.T, edit func(*standin.Config)) (*standin.Server, *bot) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bot{t: t}
	b.srv = httptest.NewServer(b)
	t.Cleanup(b.srv.Close)
	cfg := standin.Config{
		Addr: l.Addr().String(), BotEndpoint: b.srv.URL + "/teams/messages",
		AppID: appID, AppSecret: secret, TenantID: tenant,
		Timing: standin.Timing{
			Answer: 5 * time.Second, Resend: time.Millisecond, SecondPair: 5 * time.Millisecond, Stall: 10 * time.Second,
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	s, err := standin.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.standin = s
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: s.Handler()}}
	srv.Start()
	t.Cleanup(srv.Close)
	t.Cleanup(s.Close)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, r := range b.rejected {
			t.Errorf("the bot could not verify a delivery: %s", r)
		}
	})
	return s, b
}

func (b *bot) token() string {
	b.t.Helper()
	status, body := b.login(tenant, url.Values{
		"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {secret},
		"scope": {"https://api.botframework.com/.default"},
	})
	token, _ := body["access_token"].(string)
	if status != http.StatusOK || token == "" || body["token_type"] != "Bearer" || body["expires_in"] != 3600.0 {
		b.t.Fatalf("token answer %d %v", status, body)
	}
	return token
}

func (b *bot) login(tenant string, form url.Values) (int, map[string]any) {
	b.t.Helper()
	res, err := http.PostForm(b.standin.LoginURL()+"/"+tenant+"/oauth2/v2.0/token", form)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, body
}

type response struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
}

func (r response) code() string {
	e, _ := r.body["error"].(map[string]any)
	c, _ := e["code"].(string)
	return c
}

func (r response) str(key string) string {
	v, _ := r.body[key].(string)
	return v
}

// api calls the connector as a client does, the slash of the service URL trimmed.
func (b *bot) api(ctx context.Context, method, path, token string, body any) (response, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return response{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(b.standin.ServiceURL(), "/")+path, bytes.NewReader(raw))
	if err != nil {
		return response{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	out := response{status: res.StatusCode, header: res.Header}
	all, err := io.ReadAll(res.Body)
	if err != nil {
		return response{}, err
	}
	out.raw = string(all)
	_ = json.Unmarshal(all, &out.body) // some answers are lists or empty
	return out, nil
}

func (b *bot) must(method, path, token string, body any) response {
	b.t.Helper()
	r, err := b.api(b.t.Context(), method, path, token, body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func esc(id string) string {
	return strings.NewReplacer(":", "%3A", ";", "%3B", "@", "%40").Replace(url.PathEscape(id))
}

type obj = map[string]any

func message(text string) obj { return obj{"type": "message", "text": text} }

func cardMessage(card obj) obj {
	return obj{"type": "message", "attachments": []obj{{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}}}
}

func waitingCard() obj {
	return obj{
		"type": "AdaptiveCard", "version": "1.5",
		"body": []obj{
			{"type": "TextBlock", "text": "Visitor 7f2k is waiting"},
			{"type": "Input.Text", "id": "note", "value": "none"},
		},
		"actions": []obj{
			{
				"type": "Action.Execute", "title": "Join", "verb": "join", "data": obj{"chat": "c-1", "n": 9007199254740993},
				"fallback": obj{"type": "Action.Submit", "title": "Join", "data": obj{"verb": "join", "chat": "c-1"}},
			},
			{"type": "Action.ShowCard", "title": "Reply", "card": obj{
				"type":    "AdaptiveCard",
				"body":    []obj{{"type": "Input.Text", "id": "reply", "isRequired": true}},
				"actions": []obj{{"type": "Action.Execute", "title": "Send", "verb": "send", "data": obj{"chat": "c-1"}}},
			}},
			{"type": "Action.Submit", "title": "Old", "data": obj{"verb": "old"}},
		},
	}
}

// thread posts the waiting card in the front desk channel and returns the thread's and the message's id.
func (b *bot) thread(token string) (thread, id string) {
	b.t.Helper()
	r := b.must(http.MethodPost, "/v3/conversations", token, obj{
		"isGroup": true, "tenantId": tenant, "bot": obj{"id": "28:" + appID},
		"channelData": obj{"channel": obj{"id": b.front()}, "tenant": obj{"id": tenant}}, "activity": cardMessage(waitingCard()),
	})
	if r.status != http.StatusCreated {
		b.t.Fatalf("create thread: %d %s", r.status, r.raw)
	}
	return r.str("id"), r.str("activityId")
}

// front is the channel chosen at installation, as the bot learned it.
func (b *bot) front() string {
	b.t.Helper()
	for _, d := range b.deliveries("installationUpdate") {
		if id := d.str("channelData", "settings", "selectedChannel", "id"); id != "" {
			return id
		}
	}
	b.t.Fatal("the bot was not told a channel")
	return ""
}
