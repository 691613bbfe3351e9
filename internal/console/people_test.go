package console_test

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

func (s *site) page(path string) string {
	s.t.Helper()
	_, page := s.expect(http.StatusOK, "GET", path, nil)
	return page
}

// CON-06, CON-07.
func TestPeopleAreListedWithTheirCountsAndHaveAHistory(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	page := s.page("/people")
	for _, want := range []string{`<a href="/people/visita3333333333">visitor visit</a>`, `aria-label="10: visitor visit"`} {
		if !strings.Contains(page, want) {
			t.Errorf("those asked about lack %s:\n%s", want, page)
		}
	}
	if e := s.last(); e.Action != "console.people" || e.Decision != "allow" {
		t.Errorf("%+v", e)
	}
	if page = s.page("/people?by=actor"); strings.Count(page, `<th scope="row"`) != 6 || !strings.Contains(page, `aria-label="14: agent agent"`) { // five agents and oneself
		t.Errorf("those who asked:\n%s", page)
	}
	if page = s.page("/people?q=" + url.QueryEscape("decision:deny")); strings.Count(page, `<th scope="row"`) != 7 || !strings.Contains(page, `aria-label="1: visitor visit"`) {
		t.Errorf("of what was denied:\n%s", page)
	}
	if page = s.page("/people?q=" + url.QueryEscape("since:2026-01-01 until:2026-01-02")); !strings.Contains(page, "Nobody was asked for") {
		t.Errorf("of a day on which nothing was:\n%s", page)
	}
	page = s.page("/people/agenta2222222222")
	for _, want := range []string{"<dd>14</dd>", "Whom he asked about", "visitor visit", `q=person%3Aagenta2222222222`, `data-seq="0"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the history lacks %q:\n%s", want, page)
		}
	}
	if e := s.last(); e.Action != "console.person" || e.Facts["person"] != "agenta2222222222" {
		t.Errorf("%+v", e)
	}
	for _, path := range []string{"/people/nobody2222222222", "/people/x", "/letters/nobody2222222222", "/letters/" + url.PathEscape("Vera Visitor")} {
		s.expect(http.StatusNotFound, "GET", path, nil)
	}
	for _, e := range s.Entries(t) {
		if strings.Contains(e.Facts["person"], "Vera") {
			t.Errorf("what was typed is recorded: %+v", e)
		}
	}
}

// CON-06: the letter tells each time somebody was shown something of a person, in the language chosen, without a name.
func TestALetterTellsWhoWasShownWhat(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	for lang, wants := range map[string][]string{
		"en": {"Who was shown data about you", "Introduce the visitor to his agent", "the visitor’s name (allowed)", "agents who answer in Microsoft Teams", "<dd>9</dd>", "<dd>1</dd>"},
		"fr": {"Qui a vu des données vous concernant", "Présenter le visiteur à son agent", "le nom du visiteur (permis)", "agents qui répondent dans Microsoft Teams", "<dd>9</dd>", "Madame, Monsieur"},
	} {
		page := s.page("/letters/visita3333333333?lang=" + lang)
		for _, want := range wants {
			if !strings.Contains(page, strings.ReplaceAll(want, "'", "&#39;")) {
				t.Errorf("in %s the letter lacks %q:\n%s", lang, want, page)
			}
		}
		if n := strings.Count(page, `<tr><td class="time">`); n != 9 { // ten asked, one was denied
			t.Errorf("the letter has %d lines, want 9", n)
		}
		if e := s.last(); e.Action != "console.letter" || e.Facts["language"] != lang || e.Facts["person"] != "visita3333333333" {
			t.Errorf("%+v", e)
		}
	}
}

// CON-05.
func TestWhoSawWhomCountsEveryPair(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	page := s.page("/who")
	pair := regexp.MustCompile(`(?s)<tr class="(\w+)">\s*<th scope="row" class="ref"><a href="/people/(\w+)">[^<]*</a></th>\s*<td class="ref"><a href="/people/(\w+)">[^<]*</a></td>\s*<td class="n"><a href="([^"]+)" aria-label="2: `)
	pairs := pair.FindAllStringSubmatch(page, -1)
	if len(pairs) != 35 {
		t.Fatalf("%d pairs of two records, want 35:\n%s", len(pairs), page)
	}
	if n := strings.Count(page, `class="deny"`); n != 2*7 { // in the matrix and in the list
		t.Errorf("%d pairs are marked as denied", n)
	}
	if _, page := s.expect(http.StatusOK, "GET", html.UnescapeString(pairs[0][4]), nil); len(recordLink.FindAllString(page, -1)) != 2 {
		t.Errorf("the link %s does not find the two records:\n%s", pairs[0][4], page)
	}
	if !strings.Contains(page, `<polyline points="0,`) || strings.Count(page, "<th scope=\"col\" class=\"ref\">") != 7 {
		t.Error("there is no trend, or the matrix does not have seven columns")
	}
	if e := s.last(); e.Action != "console.events" {
		t.Errorf("%+v", e)
	}
	page = s.page("/who?q=" + url.QueryEscape("actor:agenta or actor:agentb"))
	if n := len(pair.FindAllString(page, -1)); n != 14 {
		t.Errorf("of two agents there are %d pairs, want 14", n)
	}
	s.expect(http.StatusBadRequest, "GET", "/who?q=nonsense", nil)
	s.expect(http.StatusBadRequest, "GET", "/people?q=nonsense", nil)
}

// CON-05: pairs with as many records as one says are marked, not by colour alone, and all pairs can be had as a table.
func TestPairsFromAThresholdOnAreMarkedAndTakenOutAsATable(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.history(1)
	s.setUp()
	s.signIn()
	marked := func(page string) int { return strings.Count(page, `▲<span class="hidden"> at or above`) }
	if page := s.page("/who"); marked(page) != 0 || !strings.Contains(page, `name="least" type="number" min="1" max="1000000000" value="10"`) {
		t.Errorf("without saying, from ten on:\n%s", page)
	}
	page := s.page("/who?least=3")
	if marked(page) != 2 || strings.Count(page, `class="deny over"`) != 1 { // once in the matrix, once in the list
		t.Errorf("%d are marked:\n%s", marked(page), page)
	}
	for _, kept := range []string{`least=3&amp;q=since%3A-1d`, `value="3"`} {
		if !strings.Contains(page, kept) {
			t.Errorf("the page forgets the threshold: no %s", kept)
		}
	}
	if n := marked(s.page("/who?least=2")); n != 2*35 {
		t.Errorf("from two on %d are marked", n)
	}
	resp, file := s.expect(http.StatusOK, "GET", "/who/pairs?least=3", nil)
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	must(t, err)
	over := 0
	for _, row := range rows[1:] {
		if row[7] == "true" {
			over++
		}
	}
	if len(rows) != 1+35 || over != 1 || rows[0][7] != "at_least_3" || resp.Header.Get("Content-Disposition") != `attachment; filename="pairs.csv"` {
		t.Errorf("%d rows, %d over: %q", len(rows), over, rows[0])
	}
	sum := sha256.Sum256([]byte(file))
	if e := s.last(); e.Action != "console.exported" || e.Facts["format"] != "pairs" || e.Facts["last"] != "35" || e.Facts["digest"] != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("%+v", e)
	}
	s.expect(http.StatusSeeOther, "GET", "/who/pairs?q=nonsense", nil)
	s.server.Alone(30)
	s.expect(http.StatusRequestEntityTooLarge, "GET", "/who/pairs", nil)
}

// CON-05: there is no ceiling and no offset; each page goes on where the last one ended, and the counts are of the whole period.
func TestOnePagesThroughAllPairs(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	var drafts []pglog.Draft
	for i := range 2 * 120 {
		ref := func(n int) string { return fmt.Sprintf("%c%c34567234567234", 'a'+n/26, 'a'+n%26) }
		drafts = append(drafts, pglog.Draft{Entry: audit.Entry{Kind: audit.Disclosure, Action: "introduce_visitor_to_agent", Decision: audit.DecisionAllow, Rule: "converse.agent",
			Actor: audit.Party{Kind: "agent", Ref: ref(i % 3)}, Subject: audit.Party{Kind: "visitor", Ref: ref(10 + i%120)}, Audience: "agent", Policy: "p"}})
	}
	_, err := s.Log.Append(t.Context(), s.Organisation.ID, drafts...)
	must(t, err)
	s.setUp()
	s.signIn()
	row := regexp.MustCompile(`(?s)<th scope="row" class="ref"><a href="/people/(\w+)">[^<]*</a></th>\s*<td class="ref"><a href="/people/(\w+)">[^<]*</a></td>\s*<td class="n"><a href="[^"]+" aria-label="(\d+): `)
	next := regexp.MustCompile(`<a rel="next" href="([^"]+)"`)
	seen, sum, pages := map[string]bool{}, 0, 0
	for at := "/who"; at != ""; pages++ {
		page := s.page(at)
		for _, found := range row.FindAllStringSubmatch(page, -1) {
			if seen[found[1]+found[2]] {
				t.Errorf("%s and %s come twice", found[1], found[2])
			}
			seen[found[1]+found[2]] = true
			n, err := strconv.Atoi(found[3])
			must(t, err)
			sum += n
		}
		if e := s.last(); e.Action != "console.who" || (e.Facts["place"] != "") != (pages > 0) {
			t.Errorf("%+v", e.Facts)
		}
		at = ""
		if more := next.FindStringSubmatch(page); more != nil {
			at = html.UnescapeString(more[1])
		}
	}
	if len(seen) != 120 || sum != 240 || pages != 3 {
		t.Errorf("%d pairs of %d records on %d pages", len(seen), sum, pages)
	}
	s.expect(http.StatusBadRequest, "GET", "/who?place=x", nil)
}

func TestARuleThatDeniedIsFoundAndWhatElseWasTypedIsNotRecorded(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	s.setUp()
	s.signIn()
	for filter, want := range map[string]struct {
		n        int
		recorded string
	}{"rule:default.deny": {7, "rule:default.deny"}, "-rule:default.deny kind:denial": {0, "-rule:default.deny kind:denial"}, "rule:vera": {0, "rule:nothing"}} {
		seqs, _ := s.shownBy(filter)
		if e := s.last(); len(seqs) != want.n || e.Facts["filter"] != want.recorded {
			t.Errorf("%s finds %d and is recorded as %q", filter, len(seqs), e.Facts["filter"])
		}
	}
}
