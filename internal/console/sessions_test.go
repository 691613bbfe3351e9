package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/signin"
)

var signedInRow = regexp.MustCompile(`(?s)<tr><th scope="row" class="ref"><a href="/people/(\w+)">(?:[^<]*)</a>(?:<br><small>([^<]*)</small>)?</th>\s*<td><a class="mono" href="[^"]*">(\w+)</a></td>\s*<td>([^<]*)</td>(.*?)</tr>`)

// signedIn gives who was signed in at a moment, by reference, with what the page says of it.
func (s *site) signedIn(at time.Time) (rows map[string][]string, page string) {
	s.t.Helper()
	rows = map[string][]string{}
	page = s.page("/access/signed-in?at=" + url.QueryEscape(at.UTC().Format(time.RFC3339Nano)))
	for _, found := range signedInRow.FindAllStringSubmatch(page, -1) {
		rows[found[1]] = append(rows[found[1]], found[2:]...)
	}
	return rows, page
}

// CON-07: who was signed in at a moment, from where, by what, and everything that was done in one session.
func TestTheLogSaysWhoWasSignedInAtAMomentAndWhatWasDoneInASession(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	before := time.Now()
	s.setUpAs("auditor", "security_admin")
	s.signIn()
	second := s.another("Bo Second", "auditor", "security_admin")
	ref := func(o *site) string {
		t.Helper()
		r, err := s.Gate.Reference(t.Context(), s.Organisation.ID, o.principal().ID())
		must(t, err)
		return r
	}
	me, other := ref(s), ref(second)
	second.do(http.StatusOK, "/allowlist/show", url.Values{}) // steps up: the session goes on under a new token
	second.page("/integrity")
	e := s.last()
	if _, err := time.Parse(time.RFC3339Nano, e.Facts["session.began"]); err != nil || e.Action != "console.integrity" {
		t.Errorf("the record of an act says of its session %q: %v", e.Facts["session.began"], err)
	}
	both := time.Now()

	rows, page := s.signedIn(both)
	if len(rows) != 2 || !strings.Contains(rows[me][0], "auditor, security administrator") || rows[me][1] != e.Address || rows[me][2] != "password · one-time code" || !strings.Contains(rows[me][3], "still open") || len(rows[other]) == 0 {
		t.Errorf("signed in are %v:\n%s", rows, page)
	}
	agent := slices.IndexFunc(s.Entries(t), func(e audit.Entry) bool { return e.Actor.Kind == "agent" && e.Actor.Ref != "" })
	if !strings.Contains(page, `<a href="/people/`+s.Entries(t)[agent].Actor.Ref+`">`) || strings.Contains(page, ">visitor ") {
		t.Errorf("the agents who took part, and nobody else of the conversation:\n%s", page)
	}
	if e := s.last(); e.Action != "console.signed_in" || e.Facts["at"] == "" {
		t.Errorf("%+v", e)
	}
	if rows, page := s.signedIn(before); len(rows) != 0 {
		t.Errorf("before anybody came: %v\n%s", rows, page)
	}

	// All of one session, those before and after the further factor alike, and nobody else's.
	_, page = s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d/session", e.Seq), nil)
	shown := map[string]bool{}
	for _, found := range regexp.MustCompile(`<a href="/events/(\d+)" data-row`).FindAllStringSubmatch(page, -1) {
		shown[found[1]] = true
	}
	for _, r := range s.Entries(t) {
		mine := r.Actor.Ref == other && (r.Facts["session.began"] != "" || r.Action == "sign_in.complete")
		if mine != shown[fmt.Sprint(r.Seq)] {
			t.Errorf("of record %d, %s of %s: shown is %v", r.Seq, r.Action, r.Actor.Ref, !mine)
		}
	}
	if len(shown) < 5 {
		t.Errorf("%d records are shown", len(shown))
	}
	if _, page := s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", e.Seq), nil); !strings.Contains(page, fmt.Sprintf(`href="/events/%d/session"`, e.Seq)) {
		t.Error("the record does not lead to its session")
	}
	chat := slices.IndexFunc(s.Entries(t), func(e audit.Entry) bool { return e.Conversation != "" })
	s.expect(http.StatusNotFound, "GET", fmt.Sprintf("/events/%d/session", chat), nil)
	_, page = s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", chat), nil)
	all := regexp.MustCompile(`<a href="(/events\?q=conversation[^"]+)">All of this conversation`).FindStringSubmatch(page)
	if all == nil {
		t.Fatalf("the record does not lead to the others of its conversation:\n%s", page)
	}
	if page := s.page(html.UnescapeString(all[1])); !strings.Contains(page, fmt.Sprintf(`href="/events/%d"`, chat)) {
		t.Errorf("of the conversation:\n%s", page)
	}

	// A session that was ended, by himself or by somebody else, was open until then.
	sessions, err := s.desk.Sessions(t.Context(), s.Organisation.ID)
	must(t, err)
	i := slices.IndexFunc(sessions, func(o signin.Open) bool { return o.Reference == other })
	s.do(http.StatusSeeOther, "/access/revoke", url.Values{"admin": {sessions[i].Admin.String()}, "session": {sessions[i].ID.String()}})
	after := time.Now()
	if rows, page := s.signedIn(after); len(rows) != 1 || len(rows[me]) == 0 {
		t.Errorf("after one was ended: %v\n%s", rows, page)
	}
	if rows, _ := s.signedIn(both); len(rows) != 2 || strings.Contains(rows[other][3], "still open") {
		t.Errorf("before it was ended: %v", rows)
	}
	third := s.another("Cy Third", "auditor")
	gone := ref(third)
	during := s.last().Time // by the log's own clock, which a batch reads before its last record joins it
	third.expect(http.StatusSeeOther, "POST", "/sign-out", nil)
	if rows, _ := s.signedIn(time.Now()); len(rows[gone]) != 0 {
		t.Errorf("after he signed out: %v", rows)
	}
	if rows, page := s.signedIn(during); len(rows[gone]) == 0 {
		t.Errorf("while he was there, at %s: %v\n%s", during, rows, page)
	}
	if rows, _ := s.signedIn(time.Now().Add(16 * time.Minute)); len(rows) != 0 {
		t.Errorf("a quarter of an hour after the last act: %v", rows)
	}
	for _, wrong := range []string{"yesterday", "2026-13-01T00:00", "0001-01-01T00:00"} {
		s.expect(http.StatusBadRequest, "GET", "/access/signed-in?at="+wrong, nil)
	}
	if _, page := s.expect(http.StatusOK, "GET", "/access/signed-in?lang=fr", nil); !strings.Contains(page, "Qui était connecté") {
		t.Error("it does not speak French")
	}
}
