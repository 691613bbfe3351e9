package standin_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"counterfoil/internal/standin"
)

// offline makes a stand-in whose bot cannot be reached, and a way to get a token for it. Its clock runs so fast that no
// rate limit is met, and tokens do not last.
func offline(f *testing.F) (*standin.Server, func() string) {
	f.Helper()
	var clock atomic.Int64
	start := time.Now()
	s, err := standin.New(standin.Config{
		Addr: "127.0.0.1:9", BotEndpoint: "http://127.0.0.1:9/", AppID: appID, AppSecret: secret, TenantID: tenant,
		Now: func() time.Time { return start.Add(time.Duration(clock.Add(1)) * 2 * time.Second) },
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {appID}, "client_secret": {secret},
		"scope": {"https://api.botframework.com/.default"},
	}.Encode()
	return s, func() string {
		r := httptest.NewRequest("POST", s.LoginURL()+"/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		var body struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			panic(err)
		}
		return body.Token
	}
}

func FuzzActivity(f *testing.F) {
	s, login := offline(f)
	token := login()
	m, _ := s.Member("grace")
	path := s.ServiceURL() + "v3/conversations/" + esc(m.ChatID) + "/activities"
	for _, seed := range []any{
		message("hi"), cardMessage(waitingCard()), obj{"type": "typing"}, obj{}, []int{1},
		cardMessage(obj{"type": "AdaptiveCard", "actions": []any{obj{"type": "Action.ShowCard"}, obj{"type": 1}, nil}}),
		cardMessage(obj{"type": "AdaptiveCard", "actions": []any{obj{"type": "Action.Execute", "verb": "join", "data": "text"}}}),
	} {
		raw, err := json.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	allowed := []int{201, 202, 400, 413}
	f.Fuzz(func(t *testing.T, body []byte) {
		post := func() *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", path, bytes.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			return w
		}
		w := post()
		if w.Code == http.StatusUnauthorized {
			token = login()
			w = post()
		}
		if !slices.Contains(allowed, w.Code) || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("answer %d %s", w.Code, w.Body)
		}
		var made struct{ ID string }
		if w.Code != http.StatusCreated || json.Unmarshal(w.Body.Bytes(), &made) != nil {
			return
		}
		// A name no button bears makes the stand-in read the whole card and send nothing.
		if _, err := s.Click(t.Context(), "grace", made.ID, "\x00", nil); err == nil {
			t.Error("a button without a name was pressed")
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	s, login := offline(f)
	token := login()
	for _, seed := range []string{"", "Bearer", "Bearer ..", "Basic " + token, "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer " + token[:len(token)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", s.ServiceURL()+"v3/teams/x", http.NoBody)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if _, sent, _ := strings.Cut(header, " "); w.Code != http.StatusUnauthorized && sent != token {
			t.Errorf("accepted with %d", w.Code)
		}
	})
}
