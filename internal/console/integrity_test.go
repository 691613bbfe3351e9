package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"counterfoil/audit"
)

// publishedDir is where the site's log is published.
func (s *site) publishedDir() string {
	s.t.Helper()
	head, err := s.Log.Head(s.t.Context(), s.Organisation.ID)
	must(s.t, err)
	return s.outside[0].To.Where(head.Origin)
}

// CON-10.
func TestTheIntegrityPageSaysWhereTheLogStandsInsideAndOutside(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	_, page := s.expect(http.StatusOK, "GET", "/integrity", nil)
	if !strings.Contains(page, "nothing yet") || !strings.Contains(page, "There is no witness") || !strings.Contains(page, "Nobody has verified this log") {
		t.Errorf("before anything was published or verified:\n%s", page)
	}
	if e := s.last(); e.Action != "console.integrity" || e.Rule != "read_audit_log.admin" {
		t.Errorf("the record: %+v", e)
	}
	must(t, s.outside[0].Publish(t.Context()))
	head, err := s.Log.Head(t.Context(), s.Organisation.ID)
	must(t, err)
	if _, page = s.expect(http.StatusOK, "GET", "/integrity", nil); !strings.Contains(page, "up to date") {
		t.Errorf("all but this look is published:\n%s", page)
	}
	_, page = s.expect(http.StatusOK, "GET", "/integrity", nil)
	now, err := s.Log.Head(t.Context(), s.Organisation.ID)
	must(t, err)
	c, err := s.Log.Checkpoint(now)
	must(t, err)
	vkey, err := s.Log.VerifierKey(now.Origin)
	must(t, err)
	for _, want := range []string{fmt.Sprintf("<dd>%d</dd>", now.Size), htmlOf(c.Root.String()), htmlOf(vkey), htmlOf(s.publishedDir()), fmt.Sprintf("%d records", head.Size), "1 to come", "counterfoil-verify ./export --key", "spicy -verify"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q:\n%s", want, page)
		}
	}
	// What lies outside is of another history.
	must(t, os.WriteFile(filepath.Join(s.publishedDir(), "checkpoint"), []byte("x\n"), 0o600))
	s.outside.Forget(s.Organisation.ID)
	if err := s.outside.Standing(t.Context(), s.Organisation.ID, false); err == nil {
		t.Fatal("it was not found")
	}
	if _, page = s.expect(http.StatusOK, "GET", "/integrity?lang=fr", nil); !strings.Contains(page, "en défaut") || !strings.Contains(page, "does not continue what was published") || !strings.Contains(page, "Intégrité") {
		t.Errorf("frozen:\n%s", page)
	}
}

func htmlOf(s string) string { return strings.NewReplacer("+", "&#43;").Replace(s) }

// verifies begins a verification, waits for its end and gives the page that shows it.
func (s *site) verifies(form url.Values) string {
	s.t.Helper()
	s.expect(http.StatusSeeOther, "POST", "/integrity/verify", form)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, page := s.ask("GET", "/integrity/verify", nil)
		if resp.StatusCode == http.StatusSeeOther {
			break
		}
		if resp.Header.Get("Refresh") == "" || !strings.Contains(page, "<progress") {
			s.t.Fatalf("the page does not ask again:\n%s", page)
		}
		if time.Now().After(deadline) {
			s.t.Fatal("it does not end")
		}
	}
	_, page := s.expect(http.StatusOK, "GET", "/integrity", nil)
	return page
}

func (s *site) verified() audit.Entry {
	s.t.Helper()
	all := s.Entries(s.t)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Action == "console.verified" {
			return all[i]
		}
	}
	s.t.Fatal("no verification is recorded")
	return audit.Entry{}
}

func TestAVerificationFromTheConsoleIsRunAndRecorded(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	if page := s.verifies(url.Values{}); !strings.Contains(page, "every record is as it was signed") {
		t.Errorf("the whole log:\n%s", page)
	}
	if e := s.verified(); e.Facts["result"] != "good" || e.Facts["whole"] != "true" || e.Facts["from"] != "0" || e.Decision != "allow" || e.Facts["milliseconds"] == "" {
		t.Errorf("the record: %+v", e)
	}
	if page := s.verifies(url.Values{"from": {"1"}, "to": {"2"}}); !strings.Contains(page, "<dd>1 – 3</dd>") {
		t.Errorf("a range:\n%s", page)
	}
	if e := s.verified(); e.Facts["result"] != "good" || e.Facts["whole"] != "false" || e.Facts["from"] != "1" || e.Facts["to"] != "3" {
		t.Errorf("the record: %+v", e)
	}
	records := len(s.Entries(t))
	for text, form := range map[string]url.Values{
		"named by its number":    {"from": {"x"}},
		"no such range":          {"from": {"3"}, "to": {"2"}},
		"no such range, neither": {"from": {"0"}, "to": {"999999"}},
		"named by its number, -": {"to": {"-1"}},
		"named by its number, 0": {"from": {"00"}, "to": {`"><script>`}},
	} {
		_, page := s.expect(http.StatusBadRequest, "POST", "/integrity/verify", form)
		text, _, _ = strings.Cut(text, ",")
		if !strings.Contains(page, text) || strings.Contains(page, "<script>") || !strings.Contains(page, `role="alert"`) {
			t.Errorf("%v:\n%s", form, page)
		}
	}
	if n := len(s.Entries(t)); n < records+5 {
		t.Errorf("looking at the page again is not recorded: %d records", n-records)
	}

	// A record is changed in the database.
	admin := s.DB.Superuser(t)
	for _, sql := range []string{"alter table audit.record disable trigger all", "update audit.record set body = convert_to(replace(convert_from(body, 'UTF8'), 'sign_in', 'sign_on'), 'UTF8') where seq = 2"} {
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
	for fault, form := range map[string]url.Values{"changed": {}, "corrupt-tile": {"from": {"2"}, "to": {"2"}}} {
		if page := s.verifies(form); !strings.Contains(page, "records are not as they were signed") {
			t.Errorf("a changed record, %v:\n%s", form, page)
		}
		if e := s.verified(); e.Facts["result"] != "faults" || e.Facts["first_fault"] != fault {
			t.Errorf("the record: %+v", e)
		}
	}
}

func TestProofsAreHandedOutOnRecordAndProveWhatTheySay(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	must(t, s.outside[0].Publish(t.Context()))
	kept, err := s.Log.Head(t.Context(), s.Organisation.ID)
	must(t, err)
	resp, text := s.expect(http.StatusOK, "GET", "/integrity/proof?record=1&as=proof", nil)
	if d := resp.Header.Get("Content-Disposition"); d != "attachment; filename=record-1.tlog-proof" {
		t.Errorf("%q", d)
	}
	_, entry := s.expect(http.StatusOK, "GET", "/integrity/proof?record=1&as=record", nil)
	if e := s.last(); e.Action != "console.proof" || e.Facts["index"] != "1" || e.Facts["as"] != "record" {
		t.Errorf("the record: %+v", e)
	}
	proof, err := audit.ParseProof([]byte(text))
	must(t, err)
	vkey, err := s.Log.VerifierKey(kept.Origin)
	must(t, err)
	verifier, err := note.NewVerifier(vkey)
	must(t, err)
	if _, err := proof.Verify([]byte(entry), verifier); err != nil {
		t.Errorf("the proof does not prove the record: %v", err)
	}
	if _, err := proof.Verify([]byte(strings.Replace(entry, "seq", "sec", 1)), verifier); err == nil {
		t.Error("it proves another record too")
	}

	resp, text = s.expect(http.StatusOK, "GET", "/integrity/consistency?old=1", nil)
	if d := resp.Header.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment; filename=update-1-") || !strings.HasPrefix(text, "old 1\n") {
		t.Errorf("%q: %s", d, text)
	}
	if e := s.last(); e.Action != "console.consistency" || e.Facts["old"] != "1" {
		t.Errorf("the record: %+v", e)
	}
	_, text = s.expect(http.StatusOK, "GET", fmt.Sprintf("/integrity/consistency?old=2&new=%d", kept.Size), nil)
	if !strings.HasSuffix(text, string(kept.Checkpoint)) {
		t.Errorf("a checkpoint that was kept: %s", text)
	}
	for path, status := range map[string]int{
		"/integrity/proof?record=x&as=proof":    http.StatusBadRequest,
		"/integrity/proof?record=1":             http.StatusBadRequest,
		"/integrity/proof?record=1&as=%3Cx%3E":  http.StatusBadRequest,
		"/integrity/proof?record=9999&as=proof": http.StatusNotFound,
		"/integrity/consistency":                http.StatusBadRequest,
		"/integrity/consistency?old=x":          http.StatusBadRequest,
		"/integrity/consistency?old=9999":       http.StatusBadRequest,
		"/integrity/consistency?old=5&new=2":    http.StatusNotFound,
		"/integrity/consistency?old=0&new=9999": http.StatusBadRequest,
	} {
		s.expect(status, "GET", path, nil)
	}
	conn := s.DB.Superuser(t)
	for _, sql := range []string{
		"create function audit.break() returns trigger language plpgsql as $$ begin raise exception 'the disk is full'; end $$",
		"create trigger break before insert on audit.record for each row execute function audit.break()",
	} {
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	for _, path := range []string{"/integrity", "/integrity/proof?record=1&as=record", "/integrity/consistency?old=1"} {
		if _, page := s.expect(http.StatusServiceUnavailable, "GET", path, nil); strings.Contains(page, "sign_in") || strings.Contains(page, kept.Origin) {
			t.Errorf("though nothing can be recorded, %s shows:\n%s", path, page)
		}
	}
}
