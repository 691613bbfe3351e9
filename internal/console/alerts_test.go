package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// alert makes an alert, and gives its page.
func (s *site) alert() string {
	s.t.Helper()
	must(s.t, s.watch.Round(s.t.Context()))
	_, err := s.Log.Append(s.t.Context(), s.Organisation.ID, pglog.Draft{Entry: audit.Entry{
		Kind: audit.Disclosure, Action: "introduce_visitor_to_agent", Actor: audit.Party{Kind: "agent", Ref: "aaaaaaaaaaaaaaaa"}, Subject: audit.Party{Kind: "visitor", Ref: "bbbbbbbbbbbbbbbb"},
		Fields: []string{"visitor_email"}, Decision: audit.DecisionAllow,
	}})
	must(s.t, err)
	must(s.t, s.watch.Round(s.t.Context()))
	all, err := s.watch.List(s.t.Context(), s.Organisation.ID, "open", 1)
	must(s.t, err)
	if len(all) != 1 {
		s.t.Fatalf("%d alerts", len(all))
	}
	return "/alerts/" + all[0].ID.String()
}

func TestAlertsAreExplainedAcknowledgedAndSignedOff(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("auditor")
	s.signIn()
	if page := s.page("/alerts"); !strings.Contains(page, "No alert is open") || strings.Contains(page, `class="badge"`) {
		t.Errorf("without alerts:\n%s", page)
	}
	path := s.alert()
	for _, at := range []string{"/alerts", "/"} {
		if page := s.page(at); !strings.Contains(page, "agent aaaaa was shown visitor bbbbb while no conversation waited or was open.") || !strings.Contains(page, `class="badge">1<`) || !strings.Contains(page, `href="`+path+`"`) {
			t.Errorf("%s shows of it:\n%s", at, page)
		}
	}
	page := s.page(path)
	record := regexp.MustCompile(`<a href="/events/(\d+)">`).FindStringSubmatch(page)
	if record == nil || !strings.Contains(page, "About: agent, admin.") {
		t.Fatalf("the alert is not explained:\n%s", page)
	}
	if _, event := s.expect(http.StatusOK, "GET", "/events/"+record[1], nil); !strings.Contains(event, "bbbbb") {
		t.Error("it does not lead to its record")
	}
	if _, french := s.expect(http.StatusOK, "GET", path+"?lang=fr", nil); !strings.Contains(french, "sans conversation en attente ni ouverte") {
		t.Errorf("in French:\n%s", french)
	}
	s.headers.Set("HX-Request", "true") // beside the list it is the same without the page around it
	if beside := s.page(path + "?lang=en"); strings.Contains(beside, "<html") || !strings.Contains(beside, "data-close") || !strings.Contains(beside, "About: agent, admin.") || !strings.Contains(beside, `action="/alerts/acknowledge"`) {
		t.Errorf("beside the list:\n%s", beside)
	}
	s.headers.Del("HX-Request")
	if list := s.page("/alerts"); !strings.Contains(list, `hx-get="`+path+`" hx-target="#drawer"`) || !strings.Contains(list, `<aside id="drawer"`) {
		t.Errorf("the list opens nothing beside it:\n%s", list)
	}
	s.expect(http.StatusNotFound, "GET", "/alerts/00000000-0000-0000-0000-000000000001?lang=en", nil)
	s.expect(http.StatusBadRequest, "POST", "/alerts/acknowledge", url.Values{"reason": {"It was a test of the agent."}})
	id := url.Values{"id": {strings.TrimPrefix(path, "/alerts/")}}
	s.expect(http.StatusBadRequest, "POST", "/alerts/acknowledge", with(id, "reason", "ok"))
	s.expect(http.StatusSeeOther, "POST", "/alerts/acknowledge", with(id, "reason", "It was a test of the agent."))
	if e := s.last(); e.Action != "alert.acknowledge" || e.Rule != "handle_alerts.admin" || e.Facts["reason.id"] == "" {
		t.Errorf("recorded %+v", e)
	}
	if page := s.page("/alerts?which=acknowledged"); !strings.Contains(page, "It was a test of the agent.") || strings.Contains(page, `class="badge"`) {
		t.Errorf("acknowledged:\n%s", page)
	}
	day := url.Values{"day": {time.Now().UTC().Format(time.DateOnly)}, "reason": {"Looked through it, nothing stays open."}}
	s.expect(http.StatusSeeOther, "POST", "/alerts/review", day)
	if e := s.last(); e.Action != "review.day" || e.Facts["day"] != day.Get("day") {
		t.Errorf("recorded %+v", e)
	}
	s.expect(http.StatusConflict, "POST", "/alerts/review", day)
	day.Set("day", time.Now().AddDate(0, 0, 2).Format(time.DateOnly))
	s.expect(http.StatusConflict, "POST", "/alerts/review", day)
	if page := s.page("/alerts"); !strings.Contains(page, "nothing stays open") || !strings.Contains(page, "open then: 0") {
		t.Errorf("signed off:\n%s", page)
	}
	// An auditor changes no rule and no receiver, and sees no form for it.
	if page := s.page("/alerts/rules") + s.page("/alerts/receivers") + s.page("/alerts/rule"); strings.Contains(page, `method="post" action="/alerts/r`) {
		t.Errorf("an auditor is shown how to change them:\n%s", page)
	}
	for _, path := range []string{"/alerts/rule", "/alerts/receivers"} {
		s.expect(http.StatusForbidden, "POST", path, url.Values{"label": {"x"}, "filter": {"kind:denial"}, "at_least": {"1"}, "minutes": {"1"}, "on": {"on"}, "target": {"https://receiver.example/"}})
	}
	officer := s.another("Pia Officer", "privacy_officer")
	officer.expect(http.StatusForbidden, "POST", "/alerts/acknowledge", with(id, "reason", "I would like to."))
}

func TestRulesAndReceiversAreChangedWithAFreshFactor(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	rule := url.Values{"label": {"Widgets"}, "filter": {"action:widget.create"}, "at_least": {"1"}, "minutes": {"5"}, "on": {"on"}}
	s.do(http.StatusSeeOther, "/alerts/rule", rule)
	if e := s.last(); e.Action != "alert.rule" || e.Rule != "administer.admin" {
		t.Errorf("recorded %+v", e)
	}
	page := s.page("/alerts/rules")
	id := regexp.MustCompile(`<a href="/alerts/rule\?id=([0-9a-f-]+)">Widgets</a>`).FindStringSubmatch(page)
	if id == nil || !strings.Contains(page, "Records that answer the search action:widget.create within 5 minutes: at least 1.") {
		t.Fatalf("the rules:\n%s", page)
	}
	for name, value := range map[string]string{"filter": "colour:red", "minutes": "0", "label": " "} {
		bad := with(rule, name, value)
		if _, page := s.expect(http.StatusBadRequest, "POST", "/alerts/rule", bad); !strings.Contains(page, `id="problem"`) {
			t.Errorf("%s %q:\n%s", name, value, page)
		}
	}
	s.expect(http.StatusSeeOther, "POST", "/alerts/rule/silence", url.Values{"id": {id[1]}, "hours": {"8"}})
	if page := s.page("/alerts/rules"); !strings.Contains(page, "silenced until") {
		t.Errorf("silenced:\n%s", page)
	}
	s.expect(http.StatusBadRequest, "POST", "/alerts/rule/silence", url.Values{"id": {id[1]}, "hours": {"9999"}})
	s.expect(http.StatusSeeOther, "POST", "/alerts/rule/silence", url.Values{"id": {id[1]}, "hours": {"0"}})
	s.expect(http.StatusSeeOther, "POST", "/alerts/rule/remove", url.Values{"id": {id[1]}})
	if page := s.page("/alerts/rules"); strings.Contains(page, "Widgets") {
		t.Error("a removed rule is listed")
	}
	s.expect(http.StatusNotFound, "GET", "/alerts/rule?id="+id[1], nil)
	// The page of each built-in rule has the fields of its kind.
	for _, found := range regexp.MustCompile(`/alerts/rule\?id=[0-9a-f-]+`).FindAllString(page, -1)[:9] {
		if page := s.page(found); !strings.Contains(page, `action="/alerts/rule/silence"`) {
			t.Errorf("%s:\n%s", found, page)
		}
	}

	target := "http://127.0.0.1:9/hook?key=sesame"
	_, made := s.expect(http.StatusOK, "POST", "/alerts/receivers", url.Values{"target": {target}})
	if !regexp.MustCompile(`whsec_[A-Za-z0-9+/=]{40,}`).MatchString(strings.ReplaceAll(made, "&#43;", "+")) {
		t.Errorf("no secret:\n%s", made)
	}
	page = s.page("/alerts/receivers")
	if !strings.Contains(page, "http://127.0.0.1:9/…") || strings.Contains(page, "sesame") || strings.Contains(page, "whsec_") {
		t.Errorf("the receivers:\n%s", page)
	}
	receiver := url.Values{"id": {regexp.MustCompile(`name="id" value="([0-9a-f-]+)"`).FindStringSubmatch(page)[1]}}
	s.expect(http.StatusSeeOther, "POST", "/alerts/receivers/try", receiver)
	all, err := s.watch.Messages(t.Context(), s.Organisation.ID, 1)
	must(t, err)
	must(t, s.watch.Deliver(t.Context(), s.Organisation.ID, all[0].ID))
	if page := s.page("/alerts/receivers"); !strings.Contains(page, "it could not be reached") || !strings.Contains(page, ">waiting<") || !strings.Contains(page, "trial") {
		t.Errorf("the receipt:\n%s", page)
	}
	s.expect(http.StatusSeeOther, "POST", "/alerts/receivers/remove", receiver)
	for _, bad := range []string{"http://receiver.example/", "soc@example.org"} {
		if _, page := s.expect(http.StatusBadRequest, "POST", "/alerts/receivers", url.Values{"target": {bad}}); !strings.Contains(page, `id="problem"`) {
			t.Errorf("%s:\n%s", bad, page)
		}
	}
}
