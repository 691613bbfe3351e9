package console_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// history puts records into the log that differ in everything one can search by.
func (s *site) history(n int) {
	s.t.Helper()
	var drafts []pglog.Draft
	for i := range n {
		e := audit.Entry{
			Kind: audit.Disclosure, Action: []string{"introduce_visitor_to_agent", "show_agent_to_visitor"}[i%2], Decision: audit.DecisionAllow, Rule: "converse.agent",
			Actor: audit.Party{Kind: "agent", Ref: fmt.Sprintf("agent%c2222222222", 'a'+i%5)}, Subject: audit.Party{Kind: "visitor", Ref: fmt.Sprintf("visit%c3333333333", 'a'+i%7)},
			Audience: "agent", Fields: []string{"visitor_display_name"}, Conversation: fmt.Sprintf("talks%c4444444444", 'a'+i%4), Policy: "p",
		}
		if i%11 == 0 {
			e.Kind, e.Decision, e.Rule, e.Reasons = audit.Denial, audit.DecisionDeny, "default.deny", []string{"no_rule"}
		}
		drafts = append(drafts, pglog.Draft{Entry: e})
	}
	_, err := s.Log.Append(s.t.Context(), s.Organisation.ID, drafts...)
	must(s.t, err)
}

var recordLink = regexp.MustCompile(`<a href="/events/(\d+)"`)

// shownBy gives the numbers of the records that a page of events lists.
func (s *site) shownBy(filter string) (seqs []string, page string) {
	s.t.Helper()
	_, page = s.expect(http.StatusOK, "GET", "/events?q="+url.QueryEscape(filter), nil)
	for _, found := range recordLink.FindAllStringSubmatch(page, -1) {
		seqs = append(seqs, found[1])
	}
	return seqs, page
}

// CON-01, CON-02, CON-03.
func TestEventsAnswerTheFilterInTheAddress(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	for filter, want := range map[string]int{
		"actor:agenta2222222222":                             14,
		`who:"agent agentb…"`:                                14,
		"actor:agentz":                                       0,
		"subject:visita decision:deny":                       1,
		"person:agentc -action:show_agent_to_visitor":        7,
		"decision:deny or subject:visitb":                    16,
		"kind:denial since:-1h":                              7,
		"kind:denial until:-1h":                              0,
		"conversation:talksa":                                18,
		"action:someone_typed_a_name":                        0,
		"decision:none action:admin.set_up":                  1,
		"kind:disclosure -actor:agenta,agentb,agentc,agentd": 13,
	} {
		seqs, page := s.shownBy(filter)
		if len(seqs) != want {
			t.Errorf("%s finds %d records, want %d", filter, len(seqs), want)
		}
		if total := regexp.MustCompile(`<dt>records[^<]*</dt><dd>([^<]*)</dd>`).FindStringSubmatch(page); total == nil || total[1] != fmt.Sprint(want) {
			t.Errorf("%s is said to find %q, want %d", filter, total, want)
		}
	}
	_, page := s.shownBy(`about:"visitor visita"`)
	if !strings.Contains(page, `value="subject:visita"`) {
		t.Error("the filter is not shown in its one form")
	}
	if e := s.last(); e.Facts["filter"] != "subject:visita3333333333" {
		t.Errorf("recorded is %q", e.Facts["filter"])
	}
	if _, page := s.shownBy("kind:disclosure"); !strings.Contains(page, "href=\"/events?before=") || !strings.Contains(page, "q=kind%3Adisclosure\"") {
		t.Error("the link to older records does not keep the filter")
	}
}

// CON-01: what is wrong is shown at its place, and the log is not read.
func TestAFilterThatIsWrongIsShownWhere(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(10)
	s.setUp()
	s.signIn()
	before := len(s.Entries(t))
	for filter, want := range map[string]string{
		"actor:agenta purposse:x":   "<span>actor:agenta </span><mark>purposse</mark>",
		`<script>alert(1)</script>`: "<mark>&lt;script&gt;alert</mark>",
		"actor:agent":               "Several people",
		"since:-1h since:-2h":       "<mark>since:-2h</mark>",
	} {
		_, page := s.expect(http.StatusBadRequest, "GET", "/events?q="+url.QueryEscape(filter), nil)
		if !strings.Contains(page, want) || recordLink.MatchString(page) {
			t.Errorf("%s: want %s:\n%s", filter, want, page)
		}
	}
	if n := len(s.Entries(t)); n != before {
		t.Errorf("%d records came though nothing was read", n-before)
	}
}

// An address that was typed is EUII: it is looked for, and stands in the record, by reference.
func TestAnAddressIsLookedForAndRecordedByReference(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	for _, filter := range []string{"ip:127.0.0.1", "ip:127.0.0.0/24", "ip:127.0.0.1 decision:none"} {
		seqs, _ := s.shownBy(filter)
		if len(seqs) < 3 {
			t.Errorf("%s finds %q", filter, seqs)
		}
		if e := s.last(); e.Action != "console.events" || !regexp.MustCompile(`^(address|network):[a-z2-9]{16}( decision:none)?$`).MatchString(e.Facts["filter"]) {
			t.Errorf("%s is recorded as %q", filter, e.Facts["filter"])
		}
	}
	if seqs, _ := s.shownBy("ip:203.0.113.9"); len(seqs) != 0 {
		t.Errorf("an address that never was finds %q", seqs)
	}
	for _, e := range s.Entries(t) {
		if strings.Contains(fmt.Sprint(e), "203.0.113") || strings.Contains(fmt.Sprint(e.Facts), "127.0.0") {
			t.Errorf("a record holds an address: %+v", e)
		}
	}
}

// CON-29, CON-22.
func TestReadingsOfTheLogAreHiddenAndCounted(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	for range 5 {
		s.expect(http.StatusOK, "GET", "/events", nil)
	}
	_, page := s.shownBy("")
	if !strings.Contains(page, "Readings of this log that are not shown: 6.") || strings.Contains(page, ": Read the events") {
		t.Errorf("by default:\n%s", page)
	}
	_, page = s.expect(http.StatusOK, "GET", "/events?readings=shown", nil)
	if n := strings.Count(page, ": Read the events"); n != 7 || !strings.Contains(page, "Hide them") {
		t.Errorf("%d readings are shown, want 7", n)
	}
	// Whoever asks for what somebody did is shown all of it.
	me := s.last().Actor.Ref
	for i, filter := range []string{"actor:" + me, "person:" + me, "kind:administration", "action:console.events"} {
		_, page := s.shownBy(filter)
		if n := strings.Count(page, ": Read the events"); n != 8+i || strings.Contains(page, "not shown") {
			t.Errorf("%s shows %d readings, want %d", filter, n, 8+i)
		}
	}
	if _, page := s.shownBy("decision:allow"); !strings.Contains(page, "not shown: 12.") {
		t.Errorf("beside a filter:\n%s", page)
	}
	if _, page := s.shownBy("decision:allow since:-1h -subject:visita3333333333"); !strings.Contains(page, "not shown: 13.") {
		t.Errorf("counted one by one:\n%s", page)
	}
}

func TestTheFormWritesTheFilter(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	for query, want := range map[string]string{
		"build=1&actor=agent+4hk2a&decision=deny&since=-7d":      "actor:4hk2a decision:deny since:-7d",
		"build=1&actor=&subject=":                                "",
		"build=1&ip=203.0.113.9&rest=-action%3Aconverse":         "ip:203.0.113.9 -action:converse",
		"build=1&actor=" + url.QueryEscape(`x" or kind:"denial`): `actor:"x\" or kind:\"denial"`,
		"build=1&until=tomorrow":                                 `until:"tomorrow"`,
	} {
		resp, _ := s.expect(http.StatusSeeOther, "GET", "/events?"+query, nil)
		to, err := url.Parse(resp.Header.Get("Location"))
		must(t, err)
		if to.Path != "/events" || to.Query().Get("q") != want {
			t.Errorf("%s writes %q, want %q", query, to.Query().Get("q"), want)
		}
	}
	_, page := s.shownBy("actor:agentz decision:deny since:-7d")
	for _, want := range []string{`name="actor" value="agentz"`, `<option value="deny" selected>`, `name="since" value="-7d"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the form lacks %s", want)
		}
	}
	if _, page = s.shownBy("actor:agentz or decision:deny"); !strings.Contains(page, `name="rest" value="actor:agentz or decision:deny"`) {
		t.Error("what no field can show is not kept")
	}
}

// CON-12: each bar is a link that narrows the time, and a table says the same.
func TestTheStripAboveTheRecordsNarrowsTheTime(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(22)
	s.setUp()
	s.signIn()
	for _, filter := range []string{"", "kind:denial", "action:show_agent_to_visitor since:-2h"} {
		seqs, page := s.shownBy(filter)
		bars := regexp.MustCompile(`<a href="([^"]+)" tabindex="-1"><title>[^<]*: (\d+)</title>`).FindAllStringSubmatch(page, -1)
		if len(bars) == 0 || len(bars) > 3 { // a minute may have begun
			t.Fatalf("%s: %d bars", filter, len(bars))
		}
		n := 0
		for _, b := range bars {
			_, narrowed := s.expect(http.StatusOK, "GET", html.UnescapeString(b[1]), nil)
			found := recordLink.FindAllString(narrowed, -1)
			if fmt.Sprint(len(found)) != b[2] {
				t.Errorf("%s: a bar says %s, its link finds %d", filter, b[2], len(found))
			}
			n += len(found)
			if !strings.Contains(page, `<th scope="row"><a href="`+b[1]+`">`) {
				t.Errorf("%s: the table lacks %s", filter, b[1])
			}
		}
		if n != len(seqs) {
			t.Errorf("%s: bars hold %d, the list %d", filter, n, len(seqs))
		}
	}
}

// CON-12: a stretch that one chose in the chart is a filter like any other, and what is no stretch changes nothing.
func TestAStretchOfTheChartIsAFilter(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	for query, want := range map[string]string{
		"q=decision:deny+since:-30d&from=1767225600&to=1767229200&readings=shown": "decision:deny since:2026-01-01 until:2026-01-01T01:00:00Z",
		"q=decision:deny+or+action:x&from=1767225600&to=1767229200":               "(decision:deny or action:x) since:2026-01-01 until:2026-01-01T01:00:00Z",
		"q=since:-30d&from=1767229200&to=1767225600":                              "since:-30d",
		"q=since:-30d&from=x&to=1":                                                "since:-30d",
		"q=nonsense&from=1767225600&to=1767229200":                                "nonsense",
	} {
		resp, _ := s.expect(http.StatusSeeOther, "GET", "/events?"+query, nil)
		to, err := url.Parse(resp.Header.Get("Location"))
		must(t, err)
		if to.Path != "/events" || to.Query().Get("q") != want || to.Query().Has("from") || to.Query().Get("readings") != map[bool]string{true: "shown"}[strings.Contains(query, "readings")] {
			t.Errorf("%s leads to %s", query, to)
		}
	}
	page := s.page("/events?q=" + url.QueryEscape("kind:administration since:-1d"))
	if !strings.Contains(page, `data-q="kind:administration"`) || !strings.Contains(page, `data-counts="{&#34;start&#34;:`) {
		t.Errorf("the chart does not say what it is drawn from:\n%s", page)
	}
}

// A record beside its list is the part of its page that says something.
func TestARecordOpensBesideItsList(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	s.headers.Set("HX-Request", "true")
	_, part := s.expect(http.StatusOK, "GET", "/events/0", nil)
	if strings.Contains(part, "<html") || strings.Contains(part, "<h1") || !strings.Contains(part, "An administrator was set up") {
		t.Errorf("%s", part)
	}
	if e := s.last(); e.Action != "console.event" || e.Facts["index"] != "0" {
		t.Errorf("%+v", e)
	}
	s.cookies = map[string]*http.Cookie{}
	if resp, part := s.expect(http.StatusNoContent, "GET", "/events/0", nil); resp.Header.Get("HX-Redirect") != "/sign-in" || part != "" {
		t.Errorf("without a session: %v %s", resp.Header, part)
	}
}
