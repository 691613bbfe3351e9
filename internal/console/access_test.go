package console_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/console"
	"counterfoil/internal/relay"
)

const (
	visitorName, visitorEmail = "Vera Zyxwvut", "vera@zyxwvut.example"
	agentName, agentEmail     = "Amélie Zyxwvut", "amelie@zyxwvut.example"
	reason                    = "Complaint 4711 of today"
)

// conversation makes one, with a visitor who said who he is and an agent who joined.
func (s *site) conversation() {
	s.t.Helper()
	o, err := s.Relay.Open(s.t.Context(), relay.OpenRequest{
		Widget: s.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("can you help me?"), Name: euii.Receive(visitorName), Email: euii.Receive(visitorEmail),
	})
	must(s.t, err)
	session, err := s.Relay.Session(s.t.Context(), o.Token)
	must(s.t, err)
	id := relay.Identity{Organisation: s.Organisation.ID, DirectoryID: "aad-amelie", TeamsUser: "29:amelie", ServiceURL: "https://smba.example/"}
	must(s.t, s.Relay.AgentAccepts(s.t.Context(), id, session.Conversation, 1, "en"))
	must(s.t, s.Relay.AgentJoins(s.t.Context(), id, session.Conversation, func(context.Context) (relay.Profile, error) {
		return relay.Profile{DisplayName: euii.Receive(agentName), GivenName: euii.Receive("Amélie"), Surname: euii.Receive("Zyxwvut"), Email: euii.Receive(agentEmail)}, nil
	}))
}

var link = regexp.MustCompile(`href="(/reveal\?[^"]+)"`)

// whom finds, on the page of the last record about somebody of a kind, the way to see him, as the values of its form.
func (s *site) whom(kind string) url.Values {
	s.t.Helper()
	for _, e := range slices.Backward(s.Entries(s.t)) {
		if e.Subject.Kind != kind {
			continue
		}
		_, page := s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", e.Seq), nil)
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			u, err := url.Parse(html.UnescapeString(found[1]))
			must(s.t, err)
			if q := u.Query(); q.Get("kind") == kind {
				s.expect(http.StatusOK, "GET", u.String(), nil)
				return q
			}
		}
	}
	s.t.Fatalf("no record leads to a %s", kind)
	return nil
}

func with(form url.Values, pairs ...string) url.Values {
	out := url.Values{}
	for k, v := range form {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out.Set(pairs[i], pairs[i+1])
	}
	return out
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// waiting is the form of a page that asks for a factor.
func (s *site) waiting(page string) url.Values {
	s.t.Helper()
	if !strings.Contains(page, "One more code") {
		s.t.Fatalf("no factor is asked for:\n%s", page)
	}
	form := url.Values{}
	for _, found := range hidden.FindAllStringSubmatch(page, -1) {
		form.Add(html.UnescapeString(found[1]), html.UnescapeString(found[2]))
	}
	return form
}

// do does something that takes a fresh factor, which is asked for and given.
func (s *site) do(status int, path string, form url.Values) string {
	s.t.Helper()
	_, page := s.expect(http.StatusForbidden, "POST", path, form)
	waiting := s.waiting(page)
	_, page = s.expect(status, "POST", "/step-up", with(waiting, "code", s.code(), "password", password))
	return page
}

// AUTH-STEP-01, AUTH-STEP-02, AUTH-SESS-02.
func TestAPersonIsRevealedOnceForAReasonAndAFactorGivenForIt(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	for _, kind := range []string{"agent", "visitor"} {
		want := map[string][]string{"agent": {agentName, agentEmail}, "visitor": {visitorName, visitorEmail}}[kind]
		whom := s.whom(kind)
		s.expect(http.StatusBadRequest, "POST", "/reveal", with(whom, "reason", "because"))
		var page string
		if kind == "agent" {
			_, page = s.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
		}
		if e := s.last(); kind == "agent" && (e.Kind != audit.Denial || !slices.Equal(e.Reasons, []string{"step_up_required"}) || e.Facts["reason.id"] == "") {
			t.Errorf("the record of the asking without a factor: %+v", e)
		}
		if kind == "agent" { // the code counts for five minutes, so it is not asked for again
			waiting := s.waiting(page)
			before := s.cookies["counterfoil"].Value
			_, page = s.expect(http.StatusForbidden, "POST", "/step-up", with(waiting, "code", "12345"))
			if s.waiting(page).Get("kept.reason") != reason || s.cookies["counterfoil"].Value != before {
				t.Error("after a wrong code what was asked is lost, or the session is another")
			}
			old := *s.cookies["counterfoil"]
			_, page = s.expect(http.StatusOK, "POST", "/step-up", with(waiting, "code", s.code()))
			if s.cookies["counterfoil"].Value == before {
				t.Error("after the factor the session has the same token")
			}
			kept := s.cookies
			s.cookies = map[string]*http.Cookie{"counterfoil": &old}
			s.expect(http.StatusSeeOther, "GET", "/events", nil)
			s.cookies = kept
		} else {
			_, page = s.expect(http.StatusOK, "POST", "/reveal", with(whom, "reason", reason))
		}
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("the page does not show %q:\n%s", text, page)
			}
		}
		e := s.last()
		if e.Kind != audit.Disclosure || e.Action != "reveal_to_admin" || e.Rule != "reveal_to_admin.privacy_officer" || e.Subject.Kind != kind || e.Audience != "console" || e.Facts["reason.id"] == "" ||
			e.Facts["justification"] != "true" || !strings.Contains(e.Facts["actor.factors"], ":reveal_to_admin") || !slices.Equal(e.Fields, []string{kind + "_display_name", kind + "_email"}) {
			t.Errorf("the record of the disclosure: %+v", e)
		}
		if !strings.Contains(page, fmt.Sprintf(`href="/events/%d"`, e.Seq)) {
			t.Error("the page does not say under which record it was shown")
		}
		_, page = s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", e.Seq), nil)
		if !strings.Contains(page, reason) || strings.Contains(page, want[0]) {
			t.Errorf("the page of the record does not show the reason, or shows the person:\n%s", page)
		}
	}
	// What was given to see people changes nothing else, and is too old after five minutes.
	_, page := s.expect(http.StatusForbidden, "POST", "/access/codes", url.Values{})
	s.waiting(page)
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update console.session set stepped_at = stepped_at - interval '301 seconds'")
	must(t, err)
	whom := s.whom("agent")
	_, page = s.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
	s.waiting(page)

	// Nobody is found under a reference that is nobody's, and no path of its own choice is resumed.
	s.expect(http.StatusNotFound, "POST", "/reveal", with(whom, "reason", reason, "ref", "aaaaaaaaaaaaaaaa"))
	s.expect(http.StatusBadRequest, "POST", "/reveal", with(whom, "reason", reason, "kind", "organisation"))
	s.expect(http.StatusBadRequest, "POST", "/step-up", url.Values{"for": {"reveal_to_admin"}, "path": {"/sign-in"}, "code": {s.code()}})
	s.expect(http.StatusBadRequest, "POST", "/step-up", url.Values{"for": {"other"}, "path": {"/reveal"}, "code": {s.code()}})
}

// CON-28.
func TestAnAuditorSeesPeopleMaskedAndWhoSetsPolicyNobody(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUp()
	s.signIn()
	whom := s.whom("agent")
	page := s.do(http.StatusOK, "/reveal", with(whom, "reason", reason))
	if strings.Contains(page, agentName) || strings.Contains(page, agentEmail) || !strings.Contains(page, "A•••") || !strings.Contains(page, "a•••@zyxwvut.example") || s.last().Decision != "masked" {
		t.Errorf("an auditor is shown:\n%s", page)
	}
	setter := s.another("Sid Setter", "security_admin", "approver")
	_, page = setter.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
	if strings.Contains(page, "One more code") || !strings.Contains(page, "no role for it") || strings.Contains(page, "Zyxwvut") {
		t.Errorf("whoever sets policy is shown:\n%s", page)
	}
}

// CON-16.
func TestASecondPersonConsentsToAnEmergencyForATimeAndAReportStays(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("security_admin", "approver")
	s.signIn()
	approver := s.another("Anna Approver", "approver")
	whom := s.whom("agent")
	s.expect(http.StatusOK, "GET", "/approvals/ask?"+whom.Encode(), nil)
	s.expect(http.StatusBadRequest, "POST", "/approvals/ask", with(whom, "approval", "break_glass", "reason", reason, "ticket", "T-1", "minutes", "481"))
	s.expect(http.StatusBadRequest, "POST", "/approvals/ask", with(whom, "approval", "break_glass", "reason", "", "ticket", "T-1", "minutes", "15"))
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/approvals/ask", with(whom, "approval", "break_glass", "reason", reason, "ticket", "T-1", "minutes", "15"))
	at := resp.Header.Get("Location")
	id := strings.TrimPrefix(at, "/approvals/")
	if e := s.last(); e.Action != "approval.ask" || e.Facts["approval.id"] != id || e.Facts["approval.subject"] != whom.Get("ref") {
		t.Errorf("the record of the asking: %+v", e)
	}
	_, page := approver.expect(http.StatusOK, "GET", at, nil)
	for _, want := range []string{reason + " (T-1)", "agent " + whom.Get("ref")[:5], "15 minutes", "Approve"} {
		if !strings.Contains(page, want) {
			t.Errorf("the approver is not told %q:\n%s", want, page)
		}
	}

	// Nobody approves himself, neither by the page nor past it.
	_, page = s.expect(http.StatusOK, "GET", at, nil)
	if strings.Contains(page, `value="approved"`) {
		t.Error("who asked is offered to approve")
	}
	_, page = s.expect(http.StatusForbidden, "POST", "/approvals/decide", url.Values{"id": {id}, "decision": {"approved"}, "reason": {reason}})
	if e := s.last(); !slices.Contains(e.Reasons, "approval_of_himself") || strings.Contains(page, "One more code") {
		t.Errorf("he approves himself: %+v\n%s", e, page)
	}
	if _, err := s.Pool.Exec(t.Context(), "select access.decide_approval($1, $2, (select admin_id from access.admins($1) order by created_at limit 1), 'approved', null, now() + interval '1 minute', 'x')", s.Organisation.ID, id); err != nil {
		t.Fatal(err)
	}
	_, page = s.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
	if strings.Contains(page, "Zyxwvut") || strings.Contains(page, "One more code") {
		t.Errorf("before anybody consented:\n%s", page)
	}

	page = approver.do(http.StatusSeeOther, "/approvals/decide", url.Values{"id": {id}, "decision": {"approved"}, "reason": {"The case is known to me"}})
	if e := s.last(); e.Action != "approval.approve" || e.Rule != "approve_break_glass.approver" || e.Facts["approval.id"] != id {
		t.Errorf("the record of the consent: %+v\n%s", e, page)
	}
	approver.expect(http.StatusConflict, "POST", "/approvals/decide", url.Values{"id": {id}, "decision": {"refused"}, "reason": {"The case is known to me"}})
	for _, one := range []*site{s, approver} {
		if _, page := one.expect(http.StatusOK, "GET", "/events", nil); !strings.Contains(page, "Emergency in force") {
			t.Error("not everybody is told of the emergency")
		}
	}
	page = s.do(http.StatusOK, "/reveal", with(whom, "reason", reason))
	if !strings.Contains(page, agentName) || !strings.Contains(page, agentEmail) {
		t.Errorf("with consent:\n%s", page)
	}
	e := s.last()
	if e.Rule != "break_glass.approved" || e.Facts["approval.id"] != id || e.Facts["approval.by"] == "" || e.Decision != "allow" {
		t.Errorf("the record of the disclosure: %+v", e)
	}
	visitor := s.whom("visitor")
	_, page = s.expect(http.StatusForbidden, "POST", "/reveal", with(visitor, "reason", reason))
	if strings.Contains(page, "Zyxwvut") {
		t.Error("the consent serves for somebody else")
	}
	_, page = approver.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
	if strings.Contains(page, "Zyxwvut") {
		t.Error("the consent serves another administrator")
	}

	approver.expect(http.StatusSeeOther, "POST", "/approvals/end", url.Values{"id": {id}})
	_, page = s.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
	if strings.Contains(page, "Zyxwvut") {
		t.Error("after the end:")
	}
	_, page = approver.expect(http.StatusOK, "GET", at, nil)
	if !strings.Contains(page, fmt.Sprintf(`href="/events/%d"`, e.Seq)) || !strings.Contains(page, "I have read this report") || strings.Contains(page, "Emergency in force") {
		t.Errorf("the report:\n%s", page)
	}
	s.expect(http.StatusConflict, "POST", "/approvals/review", url.Values{"id": {id}})
	approver.expect(http.StatusSeeOther, "POST", "/approvals/review", url.Values{"id": {id}})
	s.expect(http.StatusNotFound, "GET", "/approvals/"+uuid.NewString(), nil)
}

// Whoever has the database's credential can write a row, and not what makes it count.
func TestAnApprovalThatWasWrittenIntoTheDatabaseCountsForNothing(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("security_admin")
	s.signIn()
	approver := s.another("Anna Approver", "approver")
	whom := s.whom("agent")
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/approvals/ask", with(whom, "approval", "break_glass", "reason", reason, "minutes", "15"))
	id := strings.TrimPrefix(resp.Header.Get("Location"), "/approvals/")
	var done bool
	must(t, s.Pool.QueryRow(t.Context(), "select access.decide_approval($1, $2, (select admin_id from access.admins($1) order by created_at desc limit 1), 'approved', null, now() + interval '1 minute', 'abcdefghijkmnpqr')",
		s.Organisation.ID, id).Scan(&done))
	if !done {
		t.Fatal("the row could not be written")
	}
	_, page := s.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason))
	if strings.Contains(page, "Zyxwvut") || strings.Contains(page, "One more code") {
		t.Errorf("a written consent counts:\n%s", page)
	}
	if _, page := approver.expect(http.StatusOK, "GET", "/approvals", nil); strings.Contains(page, "in force") && !strings.Contains(page, "refused") {
		t.Errorf("a written consent is listed as one:\n%s", page)
	}
}

// AUTH-IP-08, AUTH-IP-09, AUTH-IP-14, CON-19.
func TestAChangeOfTheAllowlistReturnsByItselfUnlessItIsConfirmedFromInside(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	s.through = []netip.Addr{netip.MustParseAddr("198.51.100.5")}
	_, page := s.expect(http.StatusOK, "GET", "/allowlist", nil)
	if !strings.Contains(page, `<strong class="mono" id="seen">127.0.0.1</strong>`) || !strings.Contains(page, "198.51.100.5") || !strings.Contains(page, "127.0.0.1/32") {
		t.Errorf("one is not told as what one is seen:\n%s", page)
	}
	elsewhere := netip.MustParseAddr("100.64.7.9")
	admitted := func(want bool, when string) {
		t.Helper()
		all, err := s.desk.Admit(t.Context(), elsewhere)
		must(t, err)
		if (len(all) == 1) != want {
			t.Errorf("%s, the address is admitted: %v", when, !want)
		}
	}
	expire := func() {
		t.Helper()
		_, err := s.DB.Superuser(t).Exec(t.Context(), "update console.network set until = now() where until is not null")
		must(t, err)
	}
	change := func() string {
		t.Helper()
		_, page := s.expect(http.StatusOK, "GET", "/allowlist", nil)
		found := regexp.MustCompile(`name="change" value="([^"]+)"`).FindStringSubmatch(page)
		if found == nil {
			t.Fatalf("nothing is on trial:\n%s", page)
		}
		return found[1]
	}
	_, page = s.expect(http.StatusBadRequest, "POST", "/allowlist/add", url.Values{"network": {"100.64.7.9/24"}})
	if !strings.Contains(page, "zeros outside") {
		t.Errorf("a network with bits outside:\n%s", page)
	}
	s.do(http.StatusSeeOther, "/allowlist/add", url.Values{"network": {"100.64.7.0/24"}})
	if e := s.last(); e.Action != "allowlist.add" || e.Rule != "administer.admin" || len(e.Facts["network"]) != 16 || strings.Contains(fmt.Sprint(e), "100.64") {
		t.Errorf("the record: %+v", e)
	}
	admitted(true, "on trial")
	if _, page := s.expect(http.StatusOK, "GET", "/events", nil); !strings.Contains(page, "on trial until") {
		t.Error("no banner speaks of the trial")
	}
	if _, page := s.expect(http.StatusOK, "GET", "/allowlist", nil); strings.Contains(page, "100.64") {
		t.Error("the page shows a network that is not one's own")
	}
	_, page = s.expect(http.StatusOK, "POST", "/allowlist/show", url.Values{})
	if !strings.Contains(page, "100.64.7.0/24") || s.last().Action != "allowlist.show" {
		t.Errorf("the networks are not shown to whom they may be:\n%s", page)
	}
	old := change()
	expire()
	admitted(false, "after the trial")
	s.expect(http.StatusConflict, "POST", "/allowlist/settle", url.Values{"change": {old}, "keep": {"yes"}})
	admitted(false, "confirmed too late")

	s.expect(http.StatusSeeOther, "POST", "/allowlist/add", url.Values{"network": {"100.64.7.0/24"}})
	s.expect(http.StatusSeeOther, "POST", "/allowlist/settle", url.Values{"change": {change()}, "keep": {"no"}})
	admitted(false, "taken back")
	s.expect(http.StatusSeeOther, "POST", "/allowlist/add", url.Values{"network": {"100.64.7.0/24"}})
	s.expect(http.StatusSeeOther, "POST", "/allowlist/settle", url.Values{"change": {change()}, "keep": {"yes"}})
	expire()
	admitted(true, "confirmed")
	s.expect(http.StatusSeeOther, "POST", "/allowlist/remove", url.Values{"network": {"100.64.7.0/24"}})
	admitted(false, "removed on trial")
	old = change()
	s.expect(http.StatusSeeOther, "POST", "/allowlist/add", url.Values{"network": {"192.0.2.0/24"}})
	s.expect(http.StatusConflict, "POST", "/allowlist/settle", url.Values{"change": {old}, "keep": {"yes"}}) // what was seen is not what is on trial
	expire()
	admitted(true, "the removal has returned by itself")
	s.expect(http.StatusConflict, "POST", "/allowlist/remove", url.Values{"network": {"192.0.2.0/24"}})

	// A change that shuts its maker out is refused.
	_, page = s.expect(http.StatusConflict, "POST", "/allowlist/remove", url.Values{"network": {"127.0.0.1"}})
	if !strings.Contains(page, "This would shut you out") {
		t.Errorf("a lock-out:\n%s", page)
	}
	s.expect(http.StatusOK, "GET", "/allowlist", nil)
	ask := url.Values{"approval": {"allowlist"}, "change": {"remove"}, "network": {"127.0.0.1/32"}, "minutes": {"30"}, "reason": {reason}}
	s.expect(http.StatusConflict, "POST", "/approvals/ask", with(ask, "confirm", "yes"))
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/approvals/ask", with(ask, "confirm", "127.0.0.1/32"))
	id := strings.TrimPrefix(resp.Header.Get("Location"), "/approvals/")
	_, page = s.expect(http.StatusForbidden, "POST", "/allowlist/apply", url.Values{"id": {id}})
	if !strings.Contains(page, "Nobody else approved") {
		t.Errorf("before anybody consented:\n%s", page)
	}
	approver := s.another("Anna Approver", "approver")
	approver.do(http.StatusSeeOther, "/approvals/decide", url.Values{"id": {id}, "decision": {"approved"}, "reason": {"We move to another office"}})
	s.do(http.StatusSeeOther, "/allowlist/apply", url.Values{"id": {id}})
	if e := s.last(); e.Rule != "change_together.approved" {
		t.Errorf("the record: %+v", e)
	}
	s.expect(http.StatusForbidden, "GET", "/allowlist", nil) // shut out, as he wanted
	expire()
	s.signIn() // and saved: the list has returned
	_, page = s.expect(http.StatusForbidden, "POST", "/allowlist/apply", url.Values{"id": {id}})
	if !strings.Contains(page, "Nobody else approved") {
		t.Errorf("a consent serves twice:\n%s", page)
	}
}

// AUTH-IP-10, AUTH-IP-12.
func TestWhatTheHostAdmitsAndWhomTheListRefusesIsTold(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	_, page := s.expect(http.StatusOK, "GET", "/events", nil)
	if strings.Contains(page, "shell on the host has admitted") {
		t.Error("the set-up is taken for an admission by the host")
	}
	_, err := s.desk.Allow(t.Context(), s.Organisation.ID, netip.MustParsePrefix("203.0.113.9/32"))
	must(t, err)
	_, page = s.expect(http.StatusOK, "GET", "/events", nil)
	if !strings.Contains(page, "shell on the host has admitted") {
		t.Errorf("nothing tells of what the host admitted:\n%s", page)
	}
	s.do(http.StatusSeeOther, "/allowlist/acknowledge", url.Values{})
	if _, page = s.expect(http.StatusOK, "GET", "/events", nil); strings.Contains(page, "shell on the host has admitted") {
		t.Error("the banner stays")
	}

	here := s.from
	s.from = netip.MustParseAddr("198.51.100.77")
	stranger := *s
	stranger.cookies = map[string]*http.Cookie{}
	refusals := func() (all []audit.Entry) {
		for _, e := range s.Entries(t) {
			if e.Action == "console.refused" {
				all = append(all, e)
			}
		}
		return all
	}
	for range 5 {
		stranger.from = s.from
		s.cookies, stranger.cookies = stranger.cookies, s.cookies
		s.expect(http.StatusForbidden, "GET", "/sign-in", nil)
		s.cookies, stranger.cookies = stranger.cookies, s.cookies
	}
	all := refusals()
	if len(all) != 1 || all[0].Address == "" || all[0].AddressNet == "" || all[0].Facts["reason"] != "address_not_admitted" || strings.Contains(fmt.Sprint(all), "198.51") {
		t.Errorf("five refusals at once are recorded as %+v", all)
	}
	_, err = s.DB.Superuser(t).Exec(t.Context(), "update console.refusal set recorded_at = recorded_at - interval '1 minute'")
	must(t, err)
	s.cookies = map[string]*http.Cookie{}
	s.expect(http.StatusForbidden, "GET", "/sign-in", nil)
	if all = refusals(); len(all) != 2 || all[1].Facts["skipped"] != "4" {
		t.Errorf("a minute later: %+v", all)
	}
	s.from = here
}

// AUTH-SESS-05, CON-18.
func TestASessionThatIsEndedEndsAtOnceAndADisabledAdministratorHasNone(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	other := s.another("Otto Other", "auditor", "security_admin")
	_, page := s.expect(http.StatusOK, "GET", "/access", nil)
	form := regexp.MustCompile(`name="admin" value="([^"]+)"><input type="hidden" name="session" value="([^"]+)"`).FindStringSubmatch(page)
	if form == nil || strings.Count(page, ">this one<") != 1 {
		t.Fatalf("the sessions are not listed:\n%s", page)
	}
	s.do(http.StatusSeeOther, "/access/revoke", url.Values{"admin": {form[1]}, "session": {form[2]}})
	other.expect(http.StatusSeeOther, "GET", "/events", nil)
	other.signIn()
	if _, page := other.expect(http.StatusOK, "GET", "/events", nil); !strings.Contains(page, "About your account: End sessions") {
		t.Error("he is not told that somebody ended his session")
	}

	s.expect(http.StatusSeeOther, "POST", "/access/disable", url.Values{"id": {form[1]}, "disabled": {"yes"}})
	other.expect(http.StatusSeeOther, "GET", "/events", nil)
	other.expect(http.StatusForbidden, "POST", "/sign-in", url.Values{"name": {other.name}, "password": {password}})
	s.expect(http.StatusConflict, "POST", "/access/disable", url.Values{"id": {form[1]}, "disabled": {"yes"}})
	me := regexp.MustCompile(`name="admin" value="([^"]+)"><button>End all my other`).FindStringSubmatch(page)
	if me == nil {
		t.Fatal(page)
	}
	s.expect(http.StatusConflict, "POST", "/access/disable", url.Values{"id": {me[1]}, "disabled": {"yes"}})
	s.expect(http.StatusSeeOther, "POST", "/access/disable", url.Values{"id": {form[1]}, "disabled": {"no"}})
	other.signIn()

	second := *s
	second.cookies = map[string]*http.Cookie{}
	second.signIn()
	s.do(http.StatusSeeOther, "/access/revoke", url.Values{"admin": {me[1]}})
	second.expect(http.StatusSeeOther, "GET", "/events", nil)
	s.expect(http.StatusOK, "GET", "/events", nil)
	auditor := s.another("Ute Auditor", "auditor")
	auditor.expect(http.StatusForbidden, "POST", "/access/disable", url.Values{"id": {form[1]}, "disabled": {"yes"}})
	auditor.expect(http.StatusForbidden, "POST", "/access/revoke", url.Values{"admin": {form[1]}})
	auditor.expect(http.StatusForbidden, "POST", "/access/invite", url.Values{"role": {"auditor"}})
	other.expect(http.StatusOK, "GET", "/events", nil)
}

// CON-28.
func TestASecurityAdministratorInvitesFurtherOnesByALinkShownOnce(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	s.expect(http.StatusBadRequest, "POST", "/access/invite", url.Values{"role": {"emperor"}})
	page := s.do(http.StatusOK, "/access/invite", url.Values{"role": {"approver", "privacy_officer"}})
	found := regexp.MustCompile(`http://127.0.0.1:8081/set-up#([\w-]{43})`).FindStringSubmatch(page)
	if e := s.last(); found == nil || e.Action != "admin.setup_link" || e.Facts["roles"] != "privacy_officer,approver" {
		t.Fatalf("no link: %+v\n%s", e, page)
	}
	guest := *s
	guest.cookies, guest.name = map[string]*http.Cookie{}, "Gwen Guest"
	_, page = guest.expect(http.StatusOK, "POST", "/set-up", url.Values{"token": {found[1]}, "name": {guest.name}, "password": {password}, "again": {password}})
	guest.enrol(page)
	guest.expect(http.StatusOK, "POST", "/set-up/confirm", url.Values{"token": {found[1]}, "code": {guest.code()}})
	guest.signIn()
	if _, page := guest.expect(http.StatusOK, "GET", "/access", nil); !strings.Contains(page, "privacy officer, approver") || strings.Contains(page, "Make a set-up link") {
		t.Errorf("the invited one has other roles:\n%s", page)
	}
}

// AUTH-TOTP-09, AUTH-TOTP-10, AUTH-REC-02.
func TestOnesOwnFactorsAreChangedWithPasswordAndCodeAndTheLastOneStays(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("auditor")
	s.signIn()
	remove := regexp.MustCompile(`action="/access/authenticators/remove"><input type="hidden" name="id" value="([^"]+)"`)
	factors := func() (ids []string) {
		_, page := s.expect(http.StatusOK, "GET", "/access", nil)
		for _, found := range remove.FindAllStringSubmatch(page, -1) {
			ids = append(ids, found[1])
		}
		return ids
	}
	first := factors()
	_, page := s.expect(http.StatusForbidden, "POST", "/access/authenticators/remove", url.Values{"id": {first[0]}})
	waiting := s.waiting(page)
	if !strings.Contains(page, `name="password"`) {
		t.Error("the password is not asked for")
	}
	s.expect(http.StatusForbidden, "POST", "/step-up", with(waiting, "code", s.code(), "password", "not the right words"))
	_, page = s.expect(http.StatusConflict, "POST", "/step-up", with(waiting, "code", s.code(), "password", password))
	if !strings.Contains(page, "the last authenticator") || len(factors()) != 1 {
		t.Errorf("the last authenticator:\n%s", page)
	}

	s.expect(http.StatusBadRequest, "POST", "/access/authenticators", url.Values{"label": {" "}})
	_, page = s.expect(http.StatusOK, "POST", "/access/authenticators", url.Values{"label": {"Tablet <b>"}})
	old := s.seed
	s.enrol(page)
	_, page = s.expect(http.StatusForbidden, "POST", "/access/authenticators/confirm", url.Values{"code": {"000 000"}})
	if !strings.Contains(page, "not the code of this moment") {
		t.Errorf("a wrong first code:\n%s", page)
	}
	right := s.code()
	s.expect(http.StatusSeeOther, "POST", "/access/authenticators/confirm", url.Values{"code": {right}})
	s.expect(http.StatusGone, "POST", "/access/authenticators/confirm", url.Values{"code": {s.code()}})
	both := factors()
	_, page = s.expect(http.StatusOK, "GET", "/access", nil)
	if len(both) != 2 || !strings.Contains(page, "Tablet &lt;b&gt;") || !strings.Contains(page, "About your account: An authenticator was added") {
		t.Errorf("after adding one:\n%s", page)
	}
	signOut := func() { s.expect(http.StatusSeeOther, "POST", "/sign-out", url.Values{}) }
	signOut()
	s.signIn() // with the new one
	tablet := s.seed
	s.seed = old
	signOut()
	s.signIn() // and with the old one
	s.do(http.StatusSeeOther, "/access/authenticators/remove", url.Values{"id": {both[0]}})
	s.expect(http.StatusSeeOther, "POST", "/sign-out", url.Values{})
	s.expect(http.StatusSeeOther, "POST", "/sign-in", url.Values{"name": {s.name}, "password": {password}})
	s.expect(http.StatusForbidden, "POST", "/sign-in/code", url.Values{"code": {s.code()}})
	s.seed = tablet
	s.signIn()

	// What was typed is kept while the factor is asked for.
	page = s.do(http.StatusConflict, "/access/passkeys", url.Values{"label": {"The blue one"}})
	if !strings.Contains(page, "a host with a name") {
		t.Errorf("a security key where none can be used:\n%s", page)
	}

	// Notices go when they were read.
	_, page = s.expect(http.StatusOK, "GET", "/events", nil)
	until := regexp.MustCompile(`name="until" value="([^"]+)"`).FindStringSubmatch(page)
	if until == nil || !strings.Contains(page, "Sign-in refused: code. Times: 1") {
		t.Fatalf("he is not told of an attempt with his password:\n%s", page)
	}
	s.expect(http.StatusSeeOther, "POST", "/notices/read", url.Values{"until": {html.UnescapeString(until[1])}})
	if _, page = s.expect(http.StatusOK, "GET", "/events", nil); strings.Contains(page, "About your account") {
		t.Error("notices stay though they were read")
	}

	_, page = s.expect(http.StatusOK, "POST", "/access/codes", url.Values{})
	codes := regexp.MustCompile(`<li class="mono">([a-z0-9-]{19})</li>`).FindAllStringSubmatch(page, -1)
	if len(codes) != 10 {
		t.Fatalf("%d new codes", len(codes))
	}
	s.expect(http.StatusSeeOther, "POST", "/sign-out", url.Values{})
	s.expect(http.StatusSeeOther, "POST", "/sign-in", url.Values{"name": {name}, "password": {password}})
	s.expect(http.StatusForbidden, "POST", "/sign-in/recovery", url.Values{"recovery": {s.codes[0]}})
	s.expect(http.StatusOK, "POST", "/sign-in/recovery", url.Values{"recovery": {codes[0][1]}})
}

// The record that a page declares is made before it is shown.
func TestEveryPageMakesTheRecordItDeclares(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	keeper := s.another("Bo Keeper", "security_admin")
	program := keeper.token("walks along", "")
	keeper.administer(http.StatusSeeOther, "/access/reviews", url.Values{})
	reviews, err := s.desk.Reviews(t.Context(), s.Organisation.ID)
	must(t, err)
	sessions, err := s.desk.Sessions(t.Context(), s.Organisation.ID)
	must(t, err)
	entries := s.Entries(t)
	talked := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.Conversation != "" })
	signedIn := slices.IndexFunc(entries, func(e audit.Entry) bool { return e.Action == "sign_in.complete" })
	whom := s.whom("agent")
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/approvals/ask", with(whom, "approval", "break_glass", "reason", reason, "minutes", "15"))
	asked, _ := s.expect(http.StatusSeeOther, "POST", "/requests/open", with(whom, "asks", "access", "source", "letter", "received", s.now().Format(time.DateOnly)))
	alert := s.alert()
	erasure := s.erasesVisitor()
	must(t, chi.Walk(s.routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		d := console.Declarations()[method+" "+route]
		if method != http.MethodGet || d.Record == "" {
			return nil
		}
		path := strings.NewReplacer("/events/{seq}/session", fmt.Sprintf("/events/%d/session", signedIn), "{seq}", "0", "{ref}", whom.Get("ref"), "/approvals/{id}", resp.Header.Get("Location"), "/alerts/{id}", alert, "/access/reviews/{id}", "/access/reviews/"+reviews[0].ID.String(), "/requests/{id}", asked.Header.Get("Location"), "/controls/certificate/{id}", "/controls/certificate/"+erasure.ID.String()).Replace(route)
		query := whom
		if route == "/transcript" || route == "/access/address" {
			query = url.Values{"ref": {entries[talked].Conversation}, "admin": {sessions[0].Admin.String()}, "address": {sessions[0].Address}}
		} else if strings.HasPrefix(route, "/integrity/") {
			query = url.Values{"record": {"0"}, "as": {"record"}, "old": {"1"}}
		} else if !strings.Contains(route, "reveal") && !strings.Contains(route, "ask") && !strings.HasSuffix(route, "/new") {
			query = url.Values{"after": {"0"}, "as": {"csv"}} // of a stream, which ends at once where it cannot be flushed
		}
		if strings.HasPrefix(route, "/api/") {
			s.program(program, http.StatusOK, path, nil)
		} else {
			s.expect(http.StatusOK, method, path+"?"+query.Encode(), nil)
		}
		if e := s.last(); e.Action != d.Record || e.Decision != "allow" || !strings.HasPrefix(e.Rule, string(d.Purpose)+".") {
			t.Errorf("%s declares %+v and records %s by %s", route, d, e.Action, e.Rule)
		}
		return nil
	}))
}

// A1: whatever is missing, no name comes to a page.
func TestNobodyIsRevealedWhileItCannotBeRecordedOrIsErased(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	whom := s.whom("agent")
	s.do(http.StatusOK, "/reveal", with(whom, "reason", reason))
	conn := s.DB.Superuser(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := conn.Exec(t.Context(), sql, args...)
		must(t, err)
	}
	hidden := func(status int, when string) {
		t.Helper()
		if _, page := s.expect(status, "POST", "/reveal", with(whom, "reason", reason)); strings.Contains(page, "Zyxwvut") || strings.Contains(page, "zyxwvut") {
			t.Errorf("%s, the page shows him:\n%s", when, page)
		}
	}
	exec("create function audit.break() returns trigger language plpgsql as $$ begin raise exception 'the disk is full'; end $$")
	exec("create trigger break before insert on audit.record for each row execute function audit.break()")
	hidden(http.StatusServiceUnavailable, "while nothing can be recorded")
	exec("drop trigger break on audit.record")

	// Between him and today lie many whose keys do not open.
	exec("insert into euii.key (organisation_id, key_id, kind, wrapped, created_at) select $1, gen_random_uuid(), 'agent', 'x', now() from generate_series(1, 1200)", s.Organisation.ID)
	delete(whom, "at")
	if _, page := s.expect(http.StatusOK, "POST", "/reveal", with(whom, "reason", reason)); !strings.Contains(page, agentName) {
		t.Errorf("among many he is not found:\n%s", page)
	}
	exec("update euii.key set wrapped = null, destroyed_at = now() where kind = 'agent' and wrapped <> 'x'")
	hidden(http.StatusNotFound, "once he is erased")
}
