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

	"counterfoil/internal/access"
)

// savedHere are the searches that the page of events lists: name and address.
func (s *site) savedHere() (list [][2]string, page string) {
	s.t.Helper()
	page = s.page("/events")
	for _, found := range regexp.MustCompile(`(?s)<li>\s*<p><a href="([^"]+)"[^>]*>([^<]*)</a> <small>`).FindAllStringSubmatch(page, -1) {
		list = append(list, [2]string{found[2], html.UnescapeString(found[1])})
	}
	return list, page
}

// CON-03: whoever keeps a search finds it again, alone or with everybody; it is recorded what is looked for, and not how it is called.
func TestASearchIsKeptSharedRenamedAndDeletedByItsOwner(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(30)
	s.setUpAs("auditor")
	s.signIn()
	other := s.another("Bo Keeper", "security_admin")
	save := func(as *site, status int, form ...string) {
		t.Helper()
		values := url.Values{}
		for i := 0; i < len(form); i += 2 {
			values.Set(form[i], form[i+1])
		}
		as.expect(status, "POST", "/searches", values)
	}
	save(s, http.StatusSeeOther, "name", "Denials", "description", "of Vera Visitor", "q", "decision:deny person:agenta")
	if e := s.last(); e.Action != "search.save" || e.Decision != "allow" || e.Facts["filter"] != "decision:deny person:agenta2222222222" || e.Facts["shared"] != "" || strings.Contains(fmt.Sprint(e), "Vera") || strings.Contains(fmt.Sprint(e), "Denials") {
		t.Errorf("%+v", e)
	}
	save(s, http.StatusSeeOther, "name", "From here", "q", "ip:127.0.0.1 decision:none", "readings", "shown", "shared", "yes")
	mine, page := s.savedHere()
	if len(mine) != 2 || mine[0][0] != "Denials" || !strings.HasPrefix(mine[1][1], "/events?") || !strings.Contains(mine[1][1], "readings=shown") || strings.Contains(page, "127.0.0.1 decision") {
		t.Fatalf("%q\n%s", mine, page)
	}
	s.expect(http.StatusOK, "GET", mine[1][1], nil)
	if e := s.last(); !regexp.MustCompile(`^address:[a-z2-9]{16} decision:none$`).MatchString(e.Facts["filter"]) {
		t.Errorf("opened is %q", e.Facts["filter"])
	}
	theirs, page := other.savedHere()
	if len(theirs) != 1 || theirs[0][0] != "From here" || strings.Contains(page, "/searches/delete") || strings.Contains(page, "Vera") {
		t.Fatalf("somebody else sees %q", theirs)
	}
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(s.page("/events"))[1] // of the first by name

	// Nobody changes what is another's.
	save(other, http.StatusBadRequest, "id", id, "name", "Mine now", "q", "")
	other.expect(http.StatusNotFound, "POST", "/searches/delete", url.Values{"id": {id}})
	save(s, http.StatusSeeOther, "id", id, "name", "Renamed", "q", "decision:deny", "shared", "yes")
	if list, _ := other.savedHere(); len(list) != 2 || list[1] != [2]string{"Renamed", "/events?q=decision%3Adeny"} {
		t.Errorf("%q", list)
	}
	for _, bad := range [][]string{{"name", "", "q", ""}, {"name", strings.Repeat("x", 61), "q", ""}, {"name", "x", "description", strings.Repeat("x", 201), "q", ""}, {"name", "x\ny", "q", ""}, {"name", "x", "q", "nonsense"}, {"name", "x", "q", "", "id", "1"}} {
		save(s, http.StatusBadRequest, bad...)
	}

	var found struct{ Searches []access.Saved }
	other.program(other.token("reads along", ""), http.StatusOK, "/api/v1/searches", &found)
	if len(found.Searches) != 2 || found.Searches[1].Name != "Renamed" || found.Searches[1].Filter != "decision:deny" || found.Searches[1].Owner == "" {
		t.Errorf("%+v", found)
	}
	if e := s.last(); e.Action != "api.searches" || e.Actor.Kind != "client" {
		t.Errorf("%+v", e)
	}

	// What is written into the database alone shares nothing, and says nothing in the clear.
	conn := s.DB.Superuser(t)
	save(s, http.StatusSeeOther, "name", "Alone", "q", "")
	_, err := conn.Exec(t.Context(), "update console.saved set shared = true")
	must(t, err)
	if list, _ := other.savedHere(); len(list) != 2 {
		t.Errorf("by the database alone somebody else sees %q", list)
	}
	var content []byte
	must(t, conn.QueryRow(t.Context(), "select string_agg(content, '') from console.saved").Scan(&content))
	if strings.Contains(string(content), "Denials") || strings.Contains(string(content), "deny") {
		t.Error("searches lie in the database in the clear")
	}

	s.expect(http.StatusSeeOther, "POST", "/searches/delete", url.Values{"id": {id}})
	if e := s.last(); e.Action != "search.delete" || e.Facts["search"] != id {
		t.Errorf("%+v", e)
	}
	if list, _ := s.savedHere(); len(list) != 2 || slices.ContainsFunc(list, func(x [2]string) bool { return x[0] == "Renamed" }) {
		t.Errorf("after deleting there are %q", list)
	}
}
