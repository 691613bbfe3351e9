package console_test

import (
	"context"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"counterfoil/internal/relay/relaytest"
	"counterfoil/policy"
)

// CON-09.
func TestThePolicyIsReadAsItDecidesWithTheRuleOfARecordMarked(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	_, page := s.expect(http.StatusOK, "GET", "/policy", nil)
	if e := s.last(); e.Action != "console.policy" || e.Facts["rule"] != "" {
		t.Errorf("the record: %+v", e)
	}
	names, err := fs.Glob(policy.Bundle(), "*.rego")
	must(t, err)
	for _, name := range names {
		if strings.Contains(page, `>`+name+`<`) == strings.HasSuffix(name, "_test.rego") {
			t.Errorf("%s is shown, or not", name)
		}
	}
	for _, want := range []string{s.policy.Revision(), "The log holds references and no EUII", "SEED-ORG-3", html.EscapeString(`permit := {"allow": true, "rule": "read_audit_log.admin"`)} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if _, policy, _ := strings.Cut(page, "<main"); strings.Contains(policy, `id="marked"`) || strings.Contains(policy, "<details open>") {
		t.Error("something is marked that nobody asked for")
	}
	_, record := s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", s.last().Seq), nil)
	link := regexp.MustCompile(`href="(/policy\?rule=[^"]+)"`).FindStringSubmatch(record)
	if link == nil {
		t.Fatalf("the record does not lead to its rule:\n%s", record)
	}
	_, page = s.expect(http.StatusOK, "GET", html.UnescapeString(link[1]), nil)
	if _, marked, ok := strings.Cut(page, `id="marked"`); !ok || strings.Count(page, `id="marked"`) != 1 || !strings.Contains(marked[:1500], "read_audit_log.admin") {
		t.Errorf("the rule is not marked:\n%s", page)
	}
	if e := s.last(); e.Facts["rule"] != "read_audit_log.admin" {
		t.Errorf("the record: %+v", e)
	}
	const hostile = `"><script>alert(1)</script>`
	if _, page = s.expect(http.StatusOK, "GET", "/policy?rule="+url.QueryEscape(hostile), nil); !strings.Contains(page, "No rule of this revision is called so") || strings.Contains(page, "<script>alert") {
		t.Errorf("no rule:\n%s", page)
	}
	if e := s.last(); e.Facts["rule"] != "something else" {
		t.Errorf("what was typed is on record: %+v", e)
	}
	s.expect(http.StatusNotFound, "GET", "/policy?of=candidate", nil)
	s.expect(http.StatusNotFound, "GET", "/policy?rule="+strings.Repeat("x", 300), nil)
	if _, page = s.expect(http.StatusOK, "GET", "/policy/replay", nil); !strings.Contains(page, "No candidate is tried now") {
		t.Errorf("without a candidate:\n%s", page)
	}
}

var formValue = regexp.MustCompile(`(?s)<select id="c\d+" name="([^"]+)">(.*?)</select>|<input id="c\d+" name="([^"]+)"[^>]*value="([^"]*)"|<input type="checkbox" name="([^"]+)"(?: value="([^"]*)")? checked>`)
var selected = regexp.MustCompile(`<option value="([^"]*)" selected>`)

// formOn is what a browser would send of the form on a page.
func formOn(page string) url.Values {
	form := url.Values{"asked": {"1"}}
	for _, m := range formValue.FindAllStringSubmatch(page, -1) {
		switch {
		case m[1] != "":
			if chosen := selected.FindStringSubmatch(m[2]); chosen != nil {
				form.Add(m[1], chosen[1])
			}
		case m[3] != "":
			form.Add(m[3], m[4])
		case m[6] != "":
			form.Add(m[5], m[6])
		default:
			form.Add(m[5], "on")
		}
	}
	return form
}

func TestAPastQuestionIsChangedAndAskedAgainOnRecord(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	s.expect(http.StatusOK, "GET", "/events", nil)
	seq := fmt.Sprint(s.last().Seq)
	_, page := s.expect(http.StatusOK, "GET", "/policy/simulate?record="+seq, nil)
	if e := s.last(); e.Action != "console.simulate" || e.Facts["index"] != seq || e.Facts["asked"] != "" {
		t.Errorf("the record: %+v", e)
	}
	if !strings.Contains(page, "The question as it was recorded") || !strings.Contains(page, `class="chip allow"`) || !strings.Contains(page, "read_audit_log.admin") || strings.Contains(page, "Candidate") {
		t.Errorf("as it was:\n%s", page)
	}
	form := formOn(page)
	if form.Get("purpose") != "read_audit_log" || form.Get("actor.kind") != "admin" || form.Get("actor.address") != "admitted" || len(form["actor.roles"]) != 2 || form.Get("factor.totp") == "" {
		t.Fatalf("the form is %v", form)
	}
	for name, c := range map[string]struct {
		change func(url.Values)
		wants  []string
	}{
		"nothing":              {func(url.Values) {}, []string{"The question as it was recorded", `class="chip allow"`}},
		"no code":              {func(f url.Values) { f.Set("factor.totp", "") }, []string{"Changed: One-time code given", `class="chip deny"`, "No one-time code was given"}},
		"elsewhere":            {func(f url.Values) { f.Set("actor.address", "refused") }, []string{`class="chip deny"`, "The address is not on the allowlist"}},
		"another organisation": {func(f url.Values) { f.Set("actor.organisation", "another") }, []string{`class="chip deny"`, "different organisations"}},
		"an operator":          {func(f url.Values) { f.Set("actor.kind", "operator"); f.Del("actor.roles") }, []string{`class="chip allow"`, "read_audit_log.operator"}},
		"no role":              {func(f url.Values) { f.Del("actor.roles") }, []string{`class="chip deny"`, "The actor has no role for it"}},
		"an emergency": {func(f url.Values) {
			f.Set("purpose", "break_glass")
			f.Set("approval.by", "himself")
			f.Set("approval.expires_in_seconds", "60")
			f.Set("subject.kind", "visitor")
			f.Set("fields", "visitor_email")
		}, []string{`class="chip deny"`, "<li>Nobody else approved.</li><li>No reason was written down.</li>"}},
	} {
		asked := copied(form)
		c.change(asked)
		_, page := s.expect(http.StatusOK, "GET", "/policy/simulate?record="+seq+"&"+asked.Encode(), nil)
		for _, want := range c.wants {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not say %q:\n%s", name, want, page)
			}
		}
		if e := s.last(); e.Action != "console.simulate" || !strings.Contains(e.Facts["asked"], "purpose="+asked.Get("purpose")) {
			t.Errorf("%s: the record: %+v", name, e)
		}
		if again := formOn(page); again.Encode() != asked.Encode() {
			t.Errorf("%s: the form has become\n%s\nand was\n%s", name, again.Encode(), asked.Encode())
		}
	}
	records := len(s.Entries(t))
	for name, value := range map[string]string{"actor.kind": `"><script>`, "purpose": "", "fields": "x", "actor.recent": "1e3", "factor.totp": "-", "approval.by": "me", "actor.organisation": "x", "audience": "x"} {
		asked := copied(form)
		asked.Set(name, value)
		_, page := s.expect(http.StatusBadRequest, "GET", "/policy/simulate?record="+seq+"&"+asked.Encode(), nil)
		if !strings.Contains(page, "cannot hold one of these values") || strings.Contains(page, "<script>") {
			t.Errorf("%s=%s:\n%s", name, value, page)
		}
	}
	if n := len(s.Entries(t)); n != records {
		t.Errorf("what a question cannot hold came into %d records", n-records)
	}
	s.expect(http.StatusOK, "GET", "/policy/simulate", nil)
	s.expect(http.StatusBadRequest, "GET", "/policy/simulate?record=x", nil)
	s.expect(http.StatusNotFound, "GET", "/policy/simulate?record=9999", nil)
	if _, page := s.expect(http.StatusBadRequest, "GET", "/policy/simulate?record=0", nil); !strings.Contains(page, "nothing was decided") {
		t.Errorf("a record of no decision:\n%s", page)
	}
}

func copied(v url.Values) url.Values {
	c := make(url.Values, len(v))
	for k, all := range v {
		c[k] = append([]string(nil), all...)
	}
	return c
}

func TestACandidateIsShownWithWhatItWouldDecideOtherwise(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	s.expect(http.StatusOK, "GET", "/events", nil)
	events := s.last().Seq
	text, err := fs.ReadFile(policy.Bundle(), "read_audit_log.rego")
	must(t, err)
	candidate, err := relaytest.PolicyWith(t.Context(), "read_audit_log.rego", strings.Replace(string(text), "admin.with_any_role\n\tadmin.with_totp", "admin.with_any_role\n\tinput.actor.recent > 5\n\tadmin.with_totp", 1))
	must(t, err)
	shadow := s.policy.Beside(candidate)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go shadow.Run(ctx)
	s.expect(http.StatusOK, "GET", "/events", nil)
	for deadline := time.Now().Add(10 * time.Second); shadow.Report().Asked == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the candidate is not asked")
		}
	}
	_, page := s.expect(http.StatusOK, "GET", "/policy", nil)
	for _, want := range []string{candidate.Revision(), "allow by read_audit_log.admin → deny for no_rule", "questions were put to it"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	if _, page = s.expect(http.StatusOK, "GET", "/policy?of=candidate", nil); !strings.Contains(page, "input.actor.recent &gt; 5") {
		t.Error("the candidate's own rules are not shown")
	}
	_, page = s.expect(http.StatusOK, "GET", fmt.Sprintf("/policy/simulate?record=%d", events), nil)
	if strings.Count(page, `class="answer"`) != 2 || !strings.Contains(page, `class="chip allow"`) || !strings.Contains(page, `class="chip deny"`) {
		t.Errorf("both answers:\n%s", page)
	}
	asked := shadow.Report().Asked
	_, page = s.expect(http.StatusOK, "GET", "/policy/replay", nil)
	if e := s.last(); e.Action != "console.replay" || e.Facts["other"] != candidate.Revision() {
		t.Errorf("the record: %+v", e)
	}
	for _, want := range []string{fmt.Sprintf(`<a href="/events/%d">`, events), "would be otherwise", "No rule permits it", fmt.Sprintf("/policy/simulate?record=%d", events)} {
		if !strings.Contains(page, want) {
			t.Errorf("the replay does not say %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, `<b class="number">0</b>`) || !strings.Contains(page, "decisions from record 0") {
		t.Errorf("the counts:\n%s", page)
	}
	if n := shadow.Report().Asked; n > asked+2 { // itself, and the one before
		t.Errorf("what is replayed is counted as if it had arisen: %d", n-asked)
	}
}
