package console_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"counterfoil/audit"
)

var extractField = regexp.MustCompile(`name="extract" value="([^"]+)"`)

// CON-11, CON-16: whoever needs more than a person exports by himself has exactly what a second person consented to, once, while the consent is in force.
func TestALargeExportTakesASecondPersonAndIsExactlyWhatHeApproved(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.server.Alone(600)
	for range 5 {
		s.history(250)
	}
	s.setUpAs("auditor", "approver")
	s.signIn()
	approver, third := s.another("Anna Approver", "approver"), s.another("Theo Third", "auditor")

	resp, file := s.expect(http.StatusOK, "GET", "/export?as=jsonl&q="+url.QueryEscape("decision:deny"), nil)
	if lines := strings.Count(file, "\n"); lines != 115 || resp.Header.Get("Content-Disposition") == "" {
		t.Errorf("what one exports by himself has %d lines", lines)
	}
	resp, page := s.expect(http.StatusOK, "GET", "/export?as=jsonl&q="+url.QueryEscape("kind:disclosure since:-30d"), nil)
	found := extractField.FindStringSubmatch(page)
	if found == nil || resp.Header.Get("Content-Disposition") != "" || strings.Contains(page, `"seq"`) || !strings.Contains(page, "<dd>1,135 ·") {
		t.Fatalf("what is too much for one:\n%s", page)
	}
	extract := html.UnescapeString(found[1])
	want := url.Values{"approval": {"export"}, "extract": {extract}, "reason": {reason}, "minutes": {"15"}}
	s.history(30) // comes too late
	for _, wrong := range []string{
		"", "exe" + strings.TrimPrefix(extract, "jsonl"), extract + "x", strings.Replace(extract, " kind:", " Kind:", 1), regexp.MustCompile(`until:20\d\d`).ReplaceAllString(extract, "until:2099"),
		regexp.MustCompile(`^jsonl \d+`).ReplaceAllString(extract, "jsonl 999999"), strings.Replace(extract, "kind:disclosure", "actor:agenta", 1),
	} {
		s.expect(http.StatusNotFound, "POST", "/approvals/ask", with(want, "extract", wrong))
	}
	s.expect(http.StatusBadRequest, "POST", "/approvals/ask", with(want, "reason", "short"))
	_, page = s.expect(http.StatusForbidden, "POST", "/approvals/ask", want)
	resp, _ = s.expect(http.StatusSeeOther, "POST", "/step-up", with(s.waiting(page), "code", s.code()))
	id := strings.TrimPrefix(resp.Header.Get("Location"), "/approvals/")
	if e := s.last(); e.Action != "approval.ask" || e.Rule != "export_records.asked" || e.Facts["count"] != "1,135" || e.Facts["filter"] == "" || e.Facts["approval.id"] != id {
		t.Errorf("the record of the asking: %+v", e)
	}

	// Before anybody consented, and nobody to himself.
	take := url.Values{"id": {id}}
	s.expect(http.StatusForbidden, "POST", "/export/approved", take)
	if e := s.last(); !slices.Contains(e.Reasons, "approval_missing") || e.Action != "console.export_begun" {
		t.Errorf("before anybody consented: %+v", e)
	}
	s.expect(http.StatusForbidden, "POST", "/approvals/decide", url.Values{"id": {id}, "decision": {"approved"}, "reason": {reason}})
	if e := s.last(); !slices.Contains(e.Reasons, "approval_of_himself") {
		t.Errorf("he approves himself: %+v", e)
	}
	_, page = approver.expect(http.StatusOK, "GET", "/approvals/"+id, nil)
	for _, piece := range []string{"Records as signed (JSONL)", "1,135", "kind:disclosure", "15 minutes", reason} {
		if !strings.Contains(page, piece) {
			t.Errorf("the approver is not told %q:\n%s", piece, page)
		}
	}
	approver.consents(id)
	if _, page := third.expect(http.StatusOK, "GET", "/events", nil); !strings.Contains(page, "Two people agreed: Export many records") {
		t.Error("not everybody is told of what two agreed on")
	}
	_, page = third.expect(http.StatusForbidden, "POST", "/export/approved", take)
	third.expect(http.StatusForbidden, "POST", "/export/approved", take)
	if e := s.last(); !slices.Contains(e.Reasons, "approval_missing") {
		t.Errorf("another uses the consent: %+v\n%s", e, page)
	}

	resp, file = s.expect(http.StatusOK, "POST", "/export/approved", take)
	if resp.Header.Get("Content-Disposition") != `attachment; filename="records.jsonl"` {
		t.Errorf("%v", resp.Header)
	}
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	if len(lines) != 1135 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if e, err := audit.ParseEntry([]byte(l)); err != nil || e.Kind != audit.Disclosure || e.Seq >= 1250 {
			t.Fatalf("%s: %v", l, err)
		}
	}
	sum := sha256.Sum256([]byte(file))
	all := s.Entries(t)
	e, begun := all[len(all)-1], all[len(all)-2]
	if e.Action != "console.exported" || e.Facts["last"] != "1135" || e.Facts["digest"] != "sha256:"+hex.EncodeToString(sum[:]) || e.Facts["complete"] != "true" || e.Facts["approval.id"] != id {
		t.Errorf("the record at the end: %+v", e)
	}
	if begun.Action != "console.export_begun" || begun.Rule != "export_records.approved" || begun.Facts["approval.by"] == "" || begun.Facts["filter"] != e.Facts["filter"] {
		t.Errorf("the record at the beginning: %+v", begun)
	}
	s.expect(http.StatusForbidden, "POST", "/export/approved", take) // once
	_, page = approver.expect(http.StatusOK, "GET", "/approvals/"+id, nil)
	for _, seq := range []uint64{begun.Seq, e.Seq} {
		if !strings.Contains(page, fmt.Sprintf(`href="/events/%d"`, seq)) {
			t.Errorf("the report lacks record %d", seq)
		}
	}

	// Of many at once one has them, and a consent that is over serves nobody.
	ask := func() string {
		t.Helper()
		resp, page := s.ask("POST", "/approvals/ask", want)
		if resp.StatusCode != http.StatusSeeOther {
			resp, _ = s.expect(http.StatusSeeOther, "POST", "/step-up", with(s.waiting(page), "code", s.code()))
		}
		return strings.TrimPrefix(resp.Header.Get("Location"), "/approvals/")
	}
	id = ask()
	approver.consents(id)
	if n := s.atOnce(4, http.StatusOK, "/export/approved", url.Values{"id": {id}}); n != 1 {
		t.Errorf("%d of the requests at once had the records", n)
	}
	id = ask()
	approver.consents(id)
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update console.approval set ends_at = now() - interval '1 second' where approval_id = $1", id)
	must(t, err)
	s.expect(http.StatusForbidden, "POST", "/export/approved", url.Values{"id": {id}})
	if e := s.last(); !slices.Contains(e.Reasons, "approval_missing") {
		t.Errorf("after its end: %+v", e)
	}

	// A consent to other records, written over this one in the database, is none.
	id = ask()
	approver.consents(id)
	_, err = s.DB.Superuser(t).Exec(t.Context(), "update console.approval set about = replace(about, 'kind:disclosure ', '') where approval_id = $1", id)
	must(t, err)
	s.expect(http.StatusForbidden, "POST", "/export/approved", url.Values{"id": {id}})

	// What cannot be recorded at its end does not pass for the whole.
	id = ask()
	approver.consents(id)
	for _, sql := range []string{
		"create function audit.break() returns trigger language plpgsql as $$ begin if position(convert_to('console.exported', 'UTF8') in new.body) > 0 then raise exception 'the disk is full'; end if; return new; end $$",
		"create trigger break before insert on audit.record for each row execute function audit.break()",
	} {
		_, err := s.DB.Superuser(t).Exec(t.Context(), sql)
		must(t, err)
	}
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("it ends with %v", p)
			}
		}()
		s.ask("POST", "/export/approved", url.Values{"id": {id}})
	}()
}
