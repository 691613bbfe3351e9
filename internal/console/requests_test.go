package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
)

func TestARequestByLetterIsAnsweredWithAFileOfThePersonOnceIdentityIsEstablished(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	whom := s.whom("visitor")
	form := with(whom, "asks", "access", "source", "letter", "received", s.now().Add(-25*24*time.Hour).Format(time.DateOnly), "note", "A letter of the 3rd, signed <b>Vera</b>")
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/requests/open", form)
	at := resp.Header.Get("Location")
	id := strings.TrimPrefix(at, "/requests/")
	_, page := s.expect(http.StatusOK, "GET", at, nil)
	if strings.Contains(page, "<b>Vera") || !strings.Contains(page, "signed &lt;b&gt;Vera") || !strings.Contains(page, "4 days left") && !strings.Contains(page, "5 days left") {
		t.Errorf("the request is shown as %s", page)
	}
	s.expect(http.StatusForbidden, "POST", "/requests/file", url.Values{"id": {id}, "as": {"json"}}) // nobody knows yet who wrote
	s.expect(http.StatusSeeOther, "POST", "/requests/step", url.Values{"id": {id}, "action": {"identified"}, "identified": {"document"}})
	body := s.do(http.StatusOK, "/requests/file", url.Values{"id": {id}, "as": {"json"}})
	var file struct {
		Format   string
		Complete bool
		Kept     []struct{ Field, Value string }
		Messages []struct{ Text string }
		Shown    []struct{ Why string }
	}
	if err := json.Unmarshal([]byte(body), &file); err != nil || !file.Complete || len(file.Kept) != 2 || len(file.Messages) != 1 || file.Messages[0].Text != "can you help me?" {
		t.Errorf("the file is %s (%v)", body, err)
	}
	if !strings.Contains(body, visitorEmail) {
		t.Error("the file lacks the address")
	}
	for _, e := range s.Entries(t) {
		if e.Action == "answer_request" && e.Decision == "allow" && (e.Facts["request.id"] != id || e.Facts["request.covers"] == "") {
			t.Errorf("record %d of the file: %+v", e.Seq, e)
		}
	}
	s.expect(http.StatusBadRequest, "POST", "/requests/step", url.Values{"id": {id}, "action": {"refused"}})
	s.expect(http.StatusSeeOther, "POST", "/requests/step", url.Values{"id": {id}, "action": {"extended"}, "reason": {"many conversations to look through"}})
	s.expect(http.StatusConflict, "POST", "/requests/step", url.Values{"id": {id}, "action": {"extended"}, "reason": {"and again many conversations"}})
	s.expect(http.StatusSeeOther, "POST", "/requests/use", url.Values{"id": {id}, "on": {"yes"}})
	if _, page := s.expect(http.StatusOK, "GET", at, nil); !strings.Contains(page, "restricted") || !strings.Contains(page, "extended") {
		t.Error("the page does not say that it is restricted and extended")
	}
	if _, page := s.expect(http.StatusForbidden, "POST", "/reveal", with(whom, "reason", reason)); strings.Contains(page, visitorName) {
		t.Error("a restricted person was revealed")
	}
	s.expect(http.StatusSeeOther, "POST", "/requests/step", url.Values{"id": {id}, "action": {"answered"}})
	s.expect(http.StatusForbidden, "POST", "/requests/file", url.Values{"id": {id}, "as": {"html"}})
	if _, page := s.expect(http.StatusOK, "GET", "/requests", nil); !strings.Contains(page, "answered") {
		t.Error("the list lacks the answered request")
	}
	s.expect(http.StatusNotFound, "GET", "/requests/"+uuid.NewString(), nil)
}

func TestARequestThatIsNotAnsweredInTimeIsOverdue(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/requests/open", with(s.whom("agent"), "asks", "objection", "source", "mail", "received", s.now().Add(-31*24*time.Hour).Format(time.DateOnly)))
	if _, page := s.expect(http.StatusOK, "GET", "/requests", nil); !strings.Contains(page, "overdue") {
		t.Error("it is not marked")
	}
	s.expect(http.StatusConflict, "POST", "/requests/step", url.Values{"id": {strings.TrimPrefix(resp.Header.Get("Location"), "/requests/")}, "action": {"extended"}, "reason": {"it is too late for that"}})
}

func TestAnAuditorHandlesNoRequestAndPublishesNoNotice(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("auditor", "security_admin")
	s.signIn()
	s.expect(http.StatusForbidden, "GET", "/requests", nil)
	s.expect(http.StatusForbidden, "POST", "/notices/draft", url.Values{"audience": {"visitor"}, "en": {"Kept\nall"}, "fr": {"Conservé\ntout"}})
	if n, err := s.Store.Notice(t.Context(), s.Organisation.ID, chat.ForVisitors); err != nil || n.Version != 1 {
		t.Errorf("version %d is in force (%v)", n.Version, err)
	}
}

func TestANoticeIsDraftedAndPublishedOnRecord(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	s.expect(http.StatusBadRequest, "POST", "/notices/draft", url.Values{"audience": {"visitor"}, "en": {"only in English"}})
	s.do(http.StatusSeeOther, "/notices/draft", url.Values{"audience": {"visitor"}, "en": {"What is kept\n<script>all</script>"}, "fr": {"Ce qui est conservé\ntout"}})
	if _, page := s.expect(http.StatusOK, "GET", "/notices", nil); strings.Contains(page, "<script>all") || !strings.Contains(page, "Draft of version 2") || !strings.Contains(page, "Publish version 2") {
		t.Error("the draft is not shown as text")
	}
	s.expect(http.StatusSeeOther, "POST", "/notices/publish", url.Values{"audience": {"visitor"}, "version": {"2"}})
	s.expect(http.StatusConflict, "POST", "/notices/publish", url.Values{"audience": {"visitor"}, "version": {"2"}})
	if n, err := s.Store.Notice(t.Context(), s.Organisation.ID, chat.ForVisitors); err != nil || n.Version != 2 {
		t.Errorf("version %d is in force (%v)", n.Version, err)
	}
	drafted, published := 0, 0
	for _, e := range s.Entries(t) {
		if e.Decision == "allow" && e.Action == "notice.draft" {
			drafted++
		}
		if e.Decision == "allow" && e.Action == "notice.publish" && e.Facts["notice.version"] == "2" {
			published++
		}
	}
	if drafted != 1 || published < 1 {
		t.Errorf("%d drafts and %d publications are on record", drafted, published)
	}
}

func TestWhoWritesALetterIsFoundByHisEmailForAReasonAndOnRecord(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	form := url.Values{"kind": {"visitor"}, "email": {" " + strings.ToUpper(visitorEmail)}, "reason": {"a letter of 3 November"}}
	s.expect(http.StatusBadRequest, "POST", "/requests/find", url.Values{"kind": {"visitor"}, "email": {visitorEmail}})
	s.expect(http.StatusForbidden, "POST", "/requests/find", form) // no factor was given for it
	page := s.do(http.StatusOK, "/requests/find", form)
	ref := s.whom("visitor").Get("ref")
	if !strings.Contains(page, "/requests/new?") || !strings.Contains(page, "ref="+ref) || strings.Contains(strings.ToLower(page), visitorEmail) || strings.Contains(page, visitorName) {
		t.Errorf("he is found as %s", page)
	}
	if _, page := s.expect(http.StatusOK, "POST", "/requests/find", with(form, "email", "nobody@example.org")); strings.Contains(page, "/requests/new?") {
		t.Errorf("nobody is found as %s", page)
	}
	if _, page := s.expect(http.StatusOK, "POST", "/requests/find", with(form, "kind", "agent", "email", agentEmail)); !strings.Contains(page, "ref="+s.whom("agent").Get("ref")) {
		t.Errorf("the agent is found as %s", page)
	}
	allowed := 0
	for _, e := range s.Entries(t) {
		if e.Action == "find_person" && e.Decision == "allow" {
			if allowed++; e.Rule != "find_person.by_email" || e.Facts["reason.id"] == "" || e.Subject.Ref != "" {
				t.Errorf("record %d of the search: %+v", e.Seq, e)
			}
		}
	}
	if allowed != 3 {
		t.Errorf("%d searches are on record", allowed)
	}
	from := strings.Index(page, "/requests/new?")
	address := strings.ReplaceAll(page[from:from+strings.Index(page[from:], `"`)], "&amp;", "&")
	s.expect(http.StatusOK, "GET", address, nil)
	q, err := url.ParseQuery(address[strings.Index(address, "?")+1:])
	if err != nil {
		t.Fatal(err)
	}
	s.expect(http.StatusSeeOther, "POST", "/requests/open", with(q, "asks", "erasure", "source", "letter", "received", s.now().Format(time.DateOnly)))

	// Who corrected his email is found by the new one alone, and who is erased by none.
	subject, row, err := s.Gate.Find(t.Context(), s.Organisation.ID, "visitor", ref, s.now())
	if err != nil {
		t.Fatal(err)
	}
	scene := access.Scene{Conversation: chat.Conversation{Organisation: s.Organisation.ID}}
	err = s.Gate.Correct(t.Context(), s.Readers.VisitorCollector, principal.NewVisitor(s.Organisation.ID, subject), scene, subject, row, access.Grounds{}, access.Field{Name: euii.VisitorEmail, Value: euii.Receive("new@example.org")})
	if err != nil {
		t.Fatal(err)
	}
	for email, found := range map[string]bool{visitorEmail: false, "new@example.org": true} {
		if _, page := s.expect(http.StatusOK, "POST", "/requests/find", with(form, "email", email)); strings.Contains(page, "ref="+ref) != found {
			t.Errorf("by %s he is found: %t", email, !found)
		}
	}
}
