package console_test

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"counterfoil/audit"
	"counterfoil/internal/console"
)

var shownToken = regexp.MustCompile(`<pre tabindex="0" id="token">(cfr_[A-Za-z0-9_-]{43})</pre>`)

// token makes a token in the console.
func (s *site) token(label, network string) string {
	s.t.Helper()
	page := s.administer(http.StatusOK, "/access/tokens", url.Values{"label": {label}, "network": {network}, "days": {"30"}})
	found := shownToken.FindStringSubmatch(page)
	if found == nil {
		s.t.Fatalf("no token is shown:\n%s", page)
	}
	return found[1]
}

// administer does something as a security administrator, with a fresh factor if the last has grown old.
func (s *site) administer(status int, path string, form url.Values) string {
	s.t.Helper()
	resp, page := s.ask("POST", path, form)
	if resp.StatusCode == http.StatusForbidden {
		resp, page = s.ask("POST", "/step-up", with(s.waiting(page), "code", s.code()))
	}
	if resp.StatusCode != status {
		s.t.Fatalf("POST %s is answered with %d, want %d:\n%s", path, resp.StatusCode, status, page)
	}
	return page
}

// program asks as a program with a token does, without cookies, and reads the answer.
func (s *site) program(token string, status int, path string, into any) string {
	s.t.Helper()
	o := *s
	o.cookies, o.headers = map[string]*http.Cookie{}, http.Header{"Authorization": {"Bearer " + token}}
	resp, body := o.ask("GET", path, nil)
	if resp.StatusCode != status {
		s.t.Fatalf("GET %s is answered with %d, want %d:\n%s", path, resp.StatusCode, status, body)
	}
	if kind := resp.Header.Get("Content-Type"); status >= 400 && kind != "application/problem+json" {
		s.t.Errorf("GET %s is refused as %s", path, kind)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(body), into); err != nil {
			s.t.Fatalf("GET %s: %v\n%s", path, err, body)
		}
	}
	return body
}

type apiPage struct {
	Records []json.RawMessage
	Next    string
}

// AUTH-TOK-01, CON-22.
func TestAProgramReadsTheLogWithATokenAndEachQuestionIsRecorded(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	token := s.token("the night watch", "")
	if e := s.last(); e.Action != "token.make" || e.Decision != "allow" || e.Facts["days"] != "30" {
		t.Errorf("the last record is %+v", e)
	}
	var page apiPage
	s.program(token, http.StatusOK, "/api/v1/records?limit=3", &page)
	if e := s.last(); e.Action != "api.records" || e.Actor.Kind != "client" || e.Rule != "read_audit_log.client" || e.Address == "" || e.Facts["actor.address"] != "admitted" {
		t.Errorf("the question is recorded as %+v", e)
	}
	all := s.Entries(t)
	var got []string
	for len(page.Records) > 0 {
		for _, r := range page.Records {
			got = append(got, string(r))
		}
		if page.Next == "" {
			break
		}
		next := page.Next
		page = apiPage{}
		s.program(token, http.StatusOK, "/api/v1/records?limit=3&before="+next, &page)
	}
	// The pages after the first do not show the records they made themselves.
	var want []string
	for _, e := range slices.Backward(all) {
		b, err := e.Marshal()
		must(t, err)
		want = append(want, string(b))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %d records, want %d in the same bytes", len(got), len(want))
	}

	seq := len(all) - 1
	if body := s.program(token, http.StatusOK, fmt.Sprintf("/api/v1/records/%d", seq), nil); body != want[0] {
		t.Errorf("record %d is\n%s\nwant\n%s", seq, body, want[0])
	}
	proof, err := audit.ParseProof([]byte(s.program(token, http.StatusOK, fmt.Sprintf("/api/v1/records/%d/proof", seq), nil)))
	must(t, err)
	vkey, err := s.Log.VerifierKey(s.Organisation.Origin)
	must(t, err)
	verifier, err := note.NewVerifier(vkey)
	must(t, err)
	if _, err := proof.Verify([]byte(want[0]), verifier); err != nil {
		t.Errorf("the proof of record %d: %v", seq, err)
	}
	checkpoint := s.program(token, http.StatusOK, "/api/v1/checkpoint", nil)
	if !strings.HasPrefix(checkpoint, s.Organisation.Origin+"\n") {
		t.Errorf("the checkpoint is %q", checkpoint)
	}
	var counts struct {
		Counts []struct {
			Start, Decision string
			N               int
		}
		AtLeast bool `json:"at_least"`
	}
	s.program(token, http.StatusOK, "/api/v1/counts?by=hour&q="+url.QueryEscape("action:api.records"), &counts)
	n := 0
	for _, c := range counts.Counts {
		n += c.N
	}
	if asked := (len(all) + 2) / 3; n < asked || counts.AtLeast {
		t.Errorf("%d searches are counted, want %d", n, asked)
	}
	s.program(token, http.StatusOK, "/api/v1/records?q="+url.QueryEscape("actor:"+s.last().Actor.Ref+" -action:api.records"), &page)
	if len(page.Records) == 0 {
		t.Error("the program does not find what it did itself")
	}
}

func TestATokenWorksNowhereElseAndNotForever(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	s.expect(http.StatusOK, "GET", "/access/tokens", nil)
	token, bound := s.token("anywhere admitted", ""), s.token("one machine", "127.0.0.2")
	s.program(token, http.StatusOK, "/api/v1/checkpoint", nil)
	s.program(bound, http.StatusUnauthorized, "/api/v1/checkpoint", nil) // from 127.0.0.1
	records := len(s.Entries(t))
	for _, wrong := range []string{"", "cfr_", token + "x", token[:len(token)-1], strings.ToUpper(token), "cfr_" + strings.Repeat("A", 43), token[4:]} {
		s.program(wrong, http.StatusUnauthorized, "/api/v1/records", nil)
	}
	from := s.from
	s.from = netip.MustParseAddr("203.0.113.9")
	s.program(token, http.StatusForbidden, "/api/v1/records", nil)
	s.from = from

	s.program(token, http.StatusBadRequest, "/api/v1/records?q=whatever:x", nil)
	for _, path := range []string{"/api/v1/records?limit=0", "/api/v1/records?limit=501", "/api/v1/records?limit=x", "/api/v1/records?before=x", "/api/v1/records?before=-1.0", "/api/v1/records?before=1", "/api/v1/records?before=999999999999999999.1", "/api/v1/counts?by=week", "/api/v1/records/x", "/api/v1/records/-1", "/api/v1/records/01"} {
		s.program(token, http.StatusBadRequest, path, nil)
	}
	for _, e := range s.Entries(t)[records:] {
		if e.Action != "address.refused" && e.Actor.Kind == "client" {
			t.Errorf("a question that nobody answered is recorded as %s", e.Action)
		}
	}
	s.program(token, http.StatusNotFound, "/api/v1/records/1000000", nil)

	// Whoever has only the database can neither put one there nor move one to another network.
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update console.token set network = null")
	must(t, err)
	s.program(bound, http.StatusUnauthorized, "/api/v1/checkpoint", nil)

	_, page := s.expect(http.StatusOK, "GET", "/access/tokens", nil)
	if strings.Contains(page, token) || strings.Contains(page, bound) {
		t.Error("the list shows tokens")
	}
	id := regexp.MustCompile(`name="id" value="([0-9a-f-]{36})"><button aria-label="[^"]*anywhere admitted"`).FindStringSubmatch(html.UnescapeString(page))
	if id == nil {
		t.Fatalf("the token cannot be ended:\n%s", page)
	}
	s.administer(http.StatusSeeOther, "/access/tokens/revoke", url.Values{"id": {id[1]}})
	s.program(token, http.StatusUnauthorized, "/api/v1/checkpoint", nil)

	last := s.token("soon over", "")
	s.program(last, http.StatusOK, "/api/v1/checkpoint", nil)
	_, err = s.DB.Superuser(t).Exec(t.Context(), "update console.token set expires_at = now() - interval '1 second', made_at = now() - interval '80 days'")
	must(t, err)
	s.program(last, http.StatusUnauthorized, "/api/v1/checkpoint", nil)

	for _, form := range []url.Values{{"label": {"x"}, "days": {"91"}}, {"label": {"x"}, "days": {"0"}}, {"label": {""}, "days": {"1"}}, {"label": {"x"}, "days": {"1"}, "network": {"0.0.0.0/0"}}, {"label": {"x"}, "days": {"1"}, "network": {"nonsense"}}} {
		s.administer(http.StatusBadRequest, "/access/tokens", form)
	}
}

func TestATokenThatAsksTooOftenWaits(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	token := s.token("eager", "")
	o := *s
	o.cookies, o.headers = map[string]*http.Cookie{}, http.Header{"Authorization": {"Bearer " + token}}
	for range 400 {
		resp, _ := o.ask("GET", "/api/v1/records/x", nil)
		if resp.StatusCode == http.StatusTooManyRequests {
			if resp.Header.Get("Retry-After") == "" {
				t.Error("it is not told how long")
			}
			return
		}
	}
	t.Error("400 questions at once are all answered")
}

func TestTheDescriptionOfTheInterfaceIsTrue(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	var doc struct {
		Paths      map[string]map[string]struct{ Responses map[string]any }
		Components struct {
			Schemas struct {
				Record struct {
					Required   []string
					Properties map[string]any
				}
			}
		}
	}
	s.program("", http.StatusOK, "/api/v1/openapi.json", &doc)
	described := map[string]bool{}
	for path := range doc.Paths {
		described["GET "+path] = true
	}
	for route := range console.Declarations() {
		if strings.Contains(route, "/api/") && !described[route] {
			t.Errorf("%s is not described", route)
		}
		delete(described, route)
	}
	for route := range described {
		t.Errorf("%s is described and no route", route)
	}
	record := doc.Components.Schemas.Record
	for _, e := range s.Entries(t) {
		b, err := e.Marshal()
		must(t, err)
		var members map[string]any
		must(t, json.Unmarshal(b, &members))
		for name := range members {
			if record.Properties[name] == nil {
				t.Errorf("the member %s of a record is not described", name)
			}
		}
		for _, name := range record.Required {
			if _, ok := members[name]; !ok {
				t.Errorf("record %d has no %s", e.Seq, name)
			}
		}
	}
	golden, err := os.ReadFile("../../audit/testdata/entries.golden")
	must(t, err)
	for line := range strings.Lines(string(golden)) {
		var members map[string]any
		if json.Unmarshal([]byte(line), &members) != nil {
			continue
		}
		for name := range members {
			if record.Properties[name] == nil {
				t.Errorf("the member %s of a record is not described", name)
			}
		}
	}
}
