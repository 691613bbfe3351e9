package widget_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
)

func (s site) own(t *testing.T, path, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAVisitorSeesGetsCorrectsAndRestrictsWhatIsKeptOfHim(t *testing.T) {
	s := start(t)
	o, other := s.open(t, uuid.NewString(), "bonjour"), s.open(t, uuid.NewString(), "somebody else's words")
	session, err := s.Relay.Session(t.Context(), o.Token)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := s.own(t, "/v1/your-data?lang=fr", o.Token); status != http.StatusOK || !strings.Contains(body, `"Vera Visitor"`) || !strings.Contains(body, `"restricted":false`) {
		t.Errorf("he is shown %d %s", status, body)
	}
	for _, token := range []string{"", "x", other.Token[:20], strings.ToUpper(o.Token)} {
		for _, path := range []string{"/v1/your-data", "/v1/your-data/file"} {
			if status, body := s.own(t, path, token); status != http.StatusUnauthorized || strings.Contains(body, "Vera") {
				t.Errorf("%s with another token: %d %s", path, status, body)
			}
		}
	}
	if a := s.ask(t, "POST", "/v1/your-data/correct", o.Token, `{"name":"Vera Verity","email":"vera@verity.example","language":"fr"}`); a.status != http.StatusNoContent {
		t.Errorf("a correction gave %+v", a)
	}
	if a := s.ask(t, "POST", "/v1/your-data/requests", o.Token, `{"kind":"restriction","language":"fr"}`); a.status != http.StatusNoContent {
		t.Errorf("a restriction gave %+v", a)
	}
	for _, bad := range []string{`{"kind":"access","language":"en"}`, `{"kind":"restriction","language":"de"}`, `{"kind":"restriction"}`} {
		if a := s.ask(t, "POST", "/v1/your-data/requests", o.Token, bad); a.status != http.StatusBadRequest {
			t.Errorf("%s gave %+v", bad, a)
		}
	}
	if yes, err := s.Gate.Restricted(t.Context(), s.Organisation.ID, session.Visitor); !yes || err != nil {
		t.Errorf("restricted: %v, %v", yes, err)
	}
	status, body := s.own(t, "/v1/your-data/file?as=json", o.Token)
	var file struct {
		Complete, Restricted bool
		Kept                 []struct{ Field, Value string }
		Messages             []struct{ Text string }
		Requests             []struct{ Kind, State string }
	}
	if err := json.Unmarshal([]byte(body), &file); status != http.StatusOK || err != nil || !file.Complete || !file.Restricted || len(file.Kept) != 2 || file.Kept[0].Value != "Vera Verity" ||
		len(file.Messages) != 1 || len(file.Requests) != 2 || strings.Contains(body, "somebody else") || strings.Contains(body, "Vera Visitor") {
		t.Errorf("his file is %d %s (%v)", status, body, err)
	}
	if status, body := s.own(t, "/v1/your-data/file?as=html&lang=fr", o.Token); status != http.StatusOK || !strings.Contains(body, "Vera Verity") || !strings.Contains(body, `lang="fr"`) {
		t.Errorf("his page is %d %.300s", status, body)
	}
	for _, kind := range []string{"lift", "erasure", "objection", "lift"} {
		if a := s.ask(t, "POST", "/v1/your-data/requests", o.Token, `{"kind":"`+kind+`","language":"fr"}`); a.status != http.StatusNoContent {
			t.Errorf("%s gave %+v", kind, a)
		}
	}
	all, err := s.Gate.Requests(t.Context(), s.Organisation.ID, session.Visitor, 50)
	if err != nil || len(all) != 4 {
		t.Fatalf("%d requests, %v", len(all), err)
	}
	for _, r := range all {
		if r.Open() != (r.Kind == "erasure") || r.Source != "widget" || r.Identification != "token" {
			t.Errorf("the request is %+v", r)
		}
	}
	own := 0
	for _, e := range s.Entries(t) {
		if e.Action == "my_own_data" && e.Decision == "allow" && e.Actor == e.Subject {
			own++
		}
	}
	if own != 3 {
		t.Errorf("%d records say that he was shown his own data, want one for each time", own)
	}
	if _, err := s.DB.Superuser(t).Exec(t.Context(), "update euii.key set wrapped = null, destroyed_at = now() where key_id = $1", session.Visitor); err != nil {
		t.Fatal(err)
	}
	if status, body := s.own(t, "/v1/your-data", o.Token); status != http.StatusGone {
		t.Errorf("after the erasure: %d %s", status, body)
	}
}

func TestForHowLongItIsKeptIsWhatTheOrganisationSet(t *testing.T) {
	s := start(t)
	o := s.open(t, uuid.NewString(), "hello")
	says := func(texts ...string) {
		t.Helper()
		for _, lang := range []string{"en", "fr"} {
			_, shown := s.own(t, "/v1/your-data?lang="+lang, o.Token)
			_, file := s.own(t, "/v1/your-data/file?as=html&lang="+lang, o.Token)
			for _, text := range texts {
				text = map[string]string{"en": text + " days after the end of the conversation", "fr": text + " jours après la fin de la conversation"}[lang]
				if !strings.Contains(shown, text) || !strings.Contains(file, text) {
					t.Errorf("%q is not in %s, or not in the file", text, shown)
				}
			}
		}
	}
	says("400")
	operator := principal.NewOperator(s.Organisation.ID, "root")
	for class, days := range map[string]int{"transcript": 91, "visitor": 92} {
		if err := control.New(s.Pool, nil, s.Gate).SetRetention(t.Context(), operator, s.Organisation.ID, class, days, time.Time{}, access.Grounds{}); err != nil {
			t.Fatal(err)
		}
	}
	says("91", "92")
	if _, body := s.own(t, "/v1/your-data/file?as=json", o.Token); !strings.Contains(body, `{"what":"transcript","days":91}`) {
		t.Errorf("the file says %s", body)
	}
}
