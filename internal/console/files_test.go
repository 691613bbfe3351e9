package console_test

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// CON-11.
func TestAnExportIsRecordedWithItsDigestAndHasNoFormulas(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(70)
	const formula = `=HYPERLINK("http://elsewhere.example","x")`
	_, err := s.Log.Append(t.Context(), s.Organisation.ID, pglog.Draft{Entry: audit.Entry{Kind: audit.Denial, Action: formula, Actor: audit.Party{Kind: "+agent", Ref: "@a"}, Decision: "deny", Rule: "-1+1"}})
	must(t, err)
	s.setUp()
	s.signIn()
	resp, file := s.expect(http.StatusOK, "GET", "/export?as=csv&q="+url.QueryEscape("decision:deny"), nil)
	if resp.Header.Get("Content-Disposition") != `attachment; filename="records.csv"` {
		t.Errorf("%v", resp.Header)
	}
	rows, err := csv.NewReader(strings.NewReader(file)).ReadAll()
	must(t, err)
	if len(rows) != 1+8 || rows[1][3] != "'"+formula || rows[1][5] != "'+agent" || rows[1][6] != "'@a" || rows[1][12] != "'-1+1" || rows[8][0] != "0" {
		t.Errorf("%q", rows)
	}
	sum := sha256.Sum256([]byte(file))
	e := s.last()
	if e.Action != "console.exported" || e.Facts["last"] != "8" || e.Facts["digest"] != "sha256:"+hex.EncodeToString(sum[:]) || e.Facts["filter"] != "decision:deny" || e.Facts["format"] != "csv" {
		t.Errorf("%+v", e)
	}
	_, file = s.expect(http.StatusOK, "GET", "/export?as=jsonl&q="+url.QueryEscape("kind:disclosure"), nil)
	lines := strings.Split(strings.TrimSpace(file), "\n")
	if len(lines) != 63 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, l := range lines {
		if e, err := audit.ParseEntry([]byte(l)); err != nil || e.Kind != audit.Disclosure {
			t.Fatalf("%s: %v", l, err)
		}
	}
	s.expect(http.StatusNotFound, "GET", "/export?as=exe", nil)
	s.expect(http.StatusSeeOther, "GET", "/export?as=csv&q=nonsense", nil)
	conn := s.DB.Superuser(t)
	for _, sql := range []string{
		"create function audit.break() returns trigger language plpgsql as $$ begin if position(convert_to('console.exported', 'UTF8') in new.body) > 0 then raise exception 'the disk is full'; end if; return new; end $$",
		"create trigger break before insert on audit.record for each row execute function audit.break()",
	} {
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	if _, page := s.expect(http.StatusServiceUnavailable, "GET", "/export?as=jsonl", nil); strings.Contains(page, `"seq"`) {
		t.Errorf("though it cannot be recorded, it is given:\n%s", page)
	}
}
