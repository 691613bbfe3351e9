package console_test

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestTheOverviewCountsWhatTheEventsShow(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	page := s.page("/")
	if e := s.last(); e.Action != "console.overview" || e.Decision != "allow" {
		t.Errorf("%+v", e)
	}
	figure := regexp.MustCompile(`<dd><a href="([^"]+)" aria-label="(\d+) (\w+)">`)
	found := figure.FindAllStringSubmatch(page, -1)
	if len(found) != 3 || found[2][2] != "7" || found[2][3] != "denied" {
		t.Fatalf("the figures are %q", found)
	}
	_, denied := s.expect(http.StatusOK, "GET", html.UnescapeString(found[2][1]), nil)
	if n := len(recordLink.FindAllString(denied, -1)); n != 7 {
		t.Errorf("the figure of denials leads to %d records", n)
	}
	for _, want := range []string{"Introduce the visitor to his agent</a> <b>35</b>", "<dt>Days without a record, of thirty</dt><dd>29</dd>", `<title>`, `data-seq="66"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the overview lacks %q:\n%s", want, page)
		}
	}
	// CON-12: each figure leads to what it counts.
	for name, of := range map[string]*regexp.Regexp{
		"a cell of the week": regexp.MustCompile(`<td class="heat-4"><a href="([^"]+)" title="[^"]*" aria-label="[^"]*">(\d+)</a>`),
		"who asked most":     regexp.MustCompile(`(?s)id="actors".*?<li><a href="([^"]+)">agent agent</a> <b>(\d+)</b>`),
		"who was asked for":  regexp.MustCompile(`(?s)id="subjects".*?<li><a href="([^"]+)">visitor visit</a> <b>(\d+)</b>`),
		"a rule that denied": regexp.MustCompile(`(?s)id="rules".*?<li><a href="([^"]+)">[^<]+</a> <b>(\d+)</b>`),
	} {
		found := of.FindStringSubmatch(page)
		if found == nil {
			t.Errorf("%s is missing:\n%s", name, page)
			continue
		}
		_, led := s.expect(http.StatusOK, "GET", html.UnescapeString(found[1]), nil)
		total := regexp.MustCompile(`<dt>records[^<]*</dt><dd>([^<]*)</dd>`).FindStringSubmatch(led)
		if total == nil || total[1] != found[2] && name != "a cell of the week" || name == "who asked most" && found[2] != "14" {
			t.Errorf("%s says %s and leads to %q", name, found[2], total)
		}
	}
	if strings.Contains(page, "Read the overview") {
		t.Error("the overview counts who looked at it")
	}
}

// What a browser with an empty cache takes in for one page.
func TestAPageWithAllItNeedsIsSmall(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	s.headers.Set("Accept-Encoding", "gzip")
	needs := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)
	for _, path := range []string{"/", "/events", "/live", "/people", "/who", "/policy", "/integrity", "/approvals", "/allowlist", "/access", "/egress"} {
		page := s.page(path)
		total, seen := len(page), map[string]bool{}
		for _, found := range needs.FindAllStringSubmatch(page, -1) {
			if !seen[found[1]] {
				seen[found[1]] = true
				_, content := s.expect(http.StatusOK, "GET", found[1], nil)
				total += len(content)
			}
		}
		if len(seen) < 2 {
			t.Errorf("%s needs nothing but %v", path, seen)
		}
		if total > 150_000 {
			t.Errorf("%s takes %d bytes", path, total)
		}
		t.Logf("%s takes %d bytes, of which the page has %d", path, total, len(page))
	}
}

// CON-30: one goes from every page to every part, each once and under a heading, and is told where one is.
func TestTheMenuLeadsEverywhereUnderHeadings(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	parts := regexp.MustCompile(`<li><a href="([^"]+)"( aria-current="page")?>`)
	for lang, headings := range map[string][]string{"en": {"What happens", "About people", "Rules and proof", "Who may come in", "What is kept"}, "fr": {"Ce qui se passe", "Les personnes", "Règles et preuves", "Qui peut entrer", "Ce qui est conservé"}} {
		_, menu, _ := strings.Cut(s.page("/events?lang="+lang), `<nav class="side"`)
		menu, _, _ = strings.Cut(menu, "</nav>")
		last := -1
		for _, h := range headings {
			if at := strings.Index(menu, ">"+h+"</p>"); at <= last {
				t.Errorf("the heading %q is not in its place", h)
			} else {
				last = at
			}
		}
		seen := map[string]bool{}
		for _, p := range parts.FindAllStringSubmatch(menu, -1) {
			if seen[p[1]] || (p[2] != "") != (p[1] == "/events") {
				t.Errorf("%s comes twice, or is wrongly said to be here: %q", p[1], p[2])
			}
			seen[p[1]] = true
			if resp, page := s.ask("GET", p[1]+"?lang="+lang, nil); resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden { // not everybody may look at all of them
				t.Errorf("%s is answered with %d:\n%s", p[1], resp.StatusCode, page)
			}
		}
		if len(seen) < 15 || strings.Count(menu, "<ul aria-labelledby=") != len(headings) {
			t.Errorf("%d parts:\n%s", len(seen), menu)
		}
	}
}
