package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
)

func TestAPrivacyOfficerControlsWhatIsKeptWithACodeAndAReason(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("privacy_officer")
	s.signIn()
	page := s.page("/controls?class=transcript&days=30")
	for _, want := range []string{"What was written", "400 <small>as usual</small>", "Nothing is held", "Kept for 30 days, 0 are older"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	s.do(http.StatusSeeOther, "/controls/retention", url.Values{"class": {"transcript"}, "days": {"180"}, "reason": {reason}})
	s.expect(http.StatusForbidden, "POST", "/controls/retention", url.Values{"class": {"transcript"}, "days": {"29"}, "reason": {reason}})
	s.expect(http.StatusConflict, "POST", "/controls/retention", url.Values{"class": {"everything"}, "days": {"180"}, "reason": {reason}})
	s.expect(http.StatusBadRequest, "POST", "/controls/retention", url.Values{"class": {"visitor"}, "days": {"180"}, "reason": {"because"}})
	if page = s.page("/controls"); !strings.Contains(page, ">180</td>") {
		t.Error("what was set is not shown")
	}

	// All that came by a widget is held, or the form names none.
	widget := url.Values{"kind": {"widget"}, "widget": {s.Widget.ID.String()}, "reason": {reason}}
	s.expect(http.StatusSeeOther, "POST", "/controls/hold", widget)
	if page = s.page("/controls"); !strings.Contains(page, "a widget "+s.Widget.Name) {
		t.Error("a hold on a widget does not name it")
	}
	s.expect(http.StatusConflict, "POST", "/controls/hold", with(widget, "widget", "nothing"))
	s.expect(http.StatusConflict, "POST", "/controls/hold", with(widget, "widget", uuid.NewString()))
	placed, err := s.control().Holds(t.Context(), s.Organisation.ID, 10)
	must(t, err)
	s.expect(http.StatusSeeOther, "POST", "/controls/lift", url.Values{"id": {placed[0].ID.String()}, "reason": {reason}})

	// A hold keeps a person from being erased, until it is lifted; an open conversation does too.
	visitor := s.whom("visitor").Get("ref")
	of := url.Values{"kind": {"visitor"}, "ref": {visitor}, "reason": {reason}}
	s.expect(http.StatusSeeOther, "POST", "/controls/hold", of)
	if page = s.page("/controls?kind=visitor&ref=" + visitor); !strings.Contains(page, "euii.value visitor_email") || !strings.Contains(page, "keeps it from being erased") || !strings.Contains(page, reason) {
		t.Errorf("the dry run shows\n%s", page)
	}
	_, err = s.DB.Superuser(t).Exec(t.Context(), "update chat.conversation set state = 'closed', closed_at = now(), closed_by = 'visitor'")
	must(t, err)
	if page = s.do(http.StatusConflict, "/controls/erase", of); !strings.Contains(page, "A legal hold forbids this") {
		t.Errorf("the refusal says\n%s", page)
	}
	holds, err := s.control().Holds(t.Context(), s.Organisation.ID, 10)
	must(t, err)
	s.do(http.StatusSeeOther, "/controls/lift", url.Values{"id": {holds[0].ID.String()}, "reason": {reason}})
	s.do(http.StatusSeeOther, "/controls/erase", of)
	erasures, err := s.control().Erasures(t.Context(), s.Organisation.ID, 10)
	must(t, err)
	called := fmt.Sprintf("erased subject #%d", *erasures[0].Certificate)
	if page = s.page("/controls"); !strings.Contains(page, called+" (a visitor)") {
		t.Errorf("the erasure is not listed:\n%s", page)
	}
	s.calledErased(visitor, called)
	s.certified(erasures[0])
	if page = s.page("/controls?kind=visitor&ref=" + visitor); !strings.Contains(page, "Nothing of this is kept") {
		t.Error("who was erased is found")
	}
	s.expect(http.StatusForbidden, "POST", "/controls/retention", url.Values{"class": {"session"}, "days": {"91"}, "reason": {reason}})
}

// erasesVisitor has a visitor erased who said something and left.
func (s *site) erasesVisitor() control.Erasure {
	s.t.Helper()
	o, err := s.Relay.Open(s.t.Context(), relay.OpenRequest{Widget: s.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("never mind")})
	must(s.t, err)
	session, err := s.Relay.Session(s.t.Context(), o.Token)
	must(s.t, err)
	_, err = s.Relay.VisitorEnds(s.t.Context(), session)
	must(s.t, err)
	e, err := s.control().Erase(s.t.Context(), principal.NewOperator(s.Organisation.ID, "ops"), control.Subject{Organisation: s.Organisation.ID, Kind: "visitor", ID: session.Visitor}, access.Grounds{})
	must(s.t, err)
	return e
}

// calledErased looks at every page of records and people: no page has the handle of who was erased.
func (s *site) calledErased(ref, called string) {
	s.t.Helper()
	seq := slices.IndexFunc(s.Entries(s.t), func(e audit.Entry) bool { return e.Subject.Ref == ref })
	for _, path := range []string{"/", "/events?q=subject:" + ref, fmt.Sprintf("/events/%d", seq), "/live?q=subject:" + ref, "/people", "/people?by=actor", "/people/" + ref, "/letters/" + ref, "/who", "/controls"} {
		page := s.page(path)
		if strings.Contains(page, "visitor "+ref[:5]) {
			s.t.Errorf("%s shows the handle of who was erased", path)
		}
		if path != "/live?q=subject:"+ref && !strings.Contains(page, called) {
			s.t.Errorf("%s does not say that he was erased:\n%s", path, page)
		}
	}
	if page := s.page("/people/" + ref + "?lang=fr"); !strings.Contains(page, strings.Replace(called, "erased subject", "sujet effacé", 1)) {
		s.t.Error("in French it does not say that he was erased")
	}
	s.page("/people?lang=en")
	for _, path := range []string{"/reveal", "/approvals/ask", "/requests/new"} {
		if _, page := s.expect(http.StatusNotFound, "GET", path+"?kind=visitor&ref="+ref, nil); strings.Contains(page, "visitor "+ref[:5]) {
			s.t.Errorf("%s shows the handle of who was erased", path)
		}
	}
}

// certified downloads a certificate as it is handed out, and checks it with nothing but the key; the log verifies as before.
func (s *site) certified(e control.Erasure) {
	s.t.Helper()
	path := "/controls/certificate/" + e.ID.String()
	key, err := s.Log.VerifierKey(s.Organisation.Origin)
	must(s.t, err)
	c, err := audit.ReadCertificate(strings.NewReader(s.page(path)))
	must(s.t, err)
	record, under, err := c.Verify(key)
	must(s.t, err)
	if record.Action != control.ActErased || record.Seq != *e.Certificate || record.Facts["erasure.reference"] != e.Reference || record.Facts["erased.conversations"] != "1" || under.Origin != s.Organisation.Origin {
		s.t.Errorf("certified is %+v under %+v", record, under)
	}
	if text := s.page(path + "?as=text"); !strings.Contains(text, "known to the log as "+e.Reference+" is erased") {
		s.t.Errorf("to read it says\n%s", text)
	}
	if last := s.last(); last.Action != "console.certificate" || last.Facts["erasure"] != e.ID.String() {
		s.t.Errorf("the download is recorded as %+v", last)
	}
	s.expect(http.StatusNotFound, "GET", "/controls/certificate/"+uuid.NewString(), nil)
	report, err := s.Log.Verify(s.t.Context(), s.Organisation.ID, audit.Options{})
	if err != nil || len(report.Faults) > 0 {
		s.t.Errorf("after the erasure the log has %+v, %v", report.Faults, err)
	}
}

func (s *site) control() *control.Desk {
	return control.New(s.Pool, s.DB.Pool(s.t, "counterfoil_retention"), s.Gate)
}

func TestTheOrganisationIsErasedBySomebodyWithTheConsentOfAnother(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("privacy_officer")
	s.signIn()
	approver := s.another("Ada Approver", "approver")
	if page := s.page("/controls?kind=organisation"); !strings.Contains(page, "Ask a second person") {
		t.Errorf("the dry run shows\n%s", page)
	}
	id := s.asks(url.Values{"approval": {"erasure"}, "kind": {"organisation"}})
	if _, page := s.expect(http.StatusForbidden, "POST", "/controls/organisation", url.Values{"id": {id}}); !strings.Contains(page, "Policy does not allow this") {
		t.Errorf("without a consent:\n%s", page)
	}
	approver.consents(id)
	s.do(http.StatusSeeOther, "/controls/organisation", url.Values{"id": {id}})
	e, err := s.control().Erasure(t.Context(), s.Organisation.ID, s.Organisation.ID)
	if err != nil || e.Kind != "organisation" || e.Done != nil || e.ID == uuid.Nil {
		t.Errorf("ordered is %+v, %v", e, err)
	}
}
