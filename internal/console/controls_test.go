package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"counterfoil/internal/control"
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

	// A hold keeps a person from being erased, until it is lifted; an open conversation does too.
	visitor := s.whom("visitor").Get("ref")
	of := url.Values{"kind": {"visitor"}, "ref": {visitor}, "reason": {reason}}
	s.expect(http.StatusSeeOther, "POST", "/controls/hold", of)
	if page = s.page("/controls?kind=visitor&ref=" + visitor); !strings.Contains(page, "euii.value visitor_email") || !strings.Contains(page, "keeps it from being erased") || !strings.Contains(page, reason) {
		t.Errorf("the dry run shows\n%s", page)
	}
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update chat.conversation set state = 'closed', closed_at = now(), closed_by = 'visitor'")
	must(t, err)
	if page = s.do(http.StatusConflict, "/controls/erase", of); !strings.Contains(page, "A legal hold forbids this") {
		t.Errorf("the refusal says\n%s", page)
	}
	holds, err := s.control().Holds(t.Context(), s.Organisation.ID, 10)
	must(t, err)
	s.do(http.StatusSeeOther, "/controls/lift", url.Values{"id": {holds[0].ID.String()}, "reason": {reason}})
	s.do(http.StatusSeeOther, "/controls/erase", of)
	if page = s.page("/controls"); !strings.Contains(page, "visitor "+visitor[:5]) {
		t.Errorf("the erasure is not listed:\n%s", page)
	}
	if page = s.page("/controls?kind=visitor&ref=" + visitor); !strings.Contains(page, "Nothing of this is kept") {
		t.Error("who was erased is found")
	}
	s.expect(http.StatusForbidden, "POST", "/controls/retention", url.Values{"class": {"session"}, "days": {"91"}, "reason": {reason}})
}

func (s *site) control() *control.Desk { return control.New(s.Pool, nil, s.Gate) }

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
