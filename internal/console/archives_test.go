package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestAPrivacyOfficerSetsToWhoseKeyArchivesAreSealed(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("privacy_officer")
	s.signIn()
	identity, err := age.GenerateX25519Identity()
	must(t, err)
	recipient := identity.Recipient().String()
	if page := s.page("/archive"); !strings.Contains(page, "Nobody has set a recipient") || !strings.Contains(page, "There are no archives yet") {
		t.Error("the page does not say that nothing is archived")
	}
	s.expect(http.StatusConflict, "POST", "/archive/plan", url.Values{"recipient": {recipient}, "every": {"32"}, "reason": {reason}})
	s.expect(http.StatusConflict, "POST", "/archive/now", url.Values{"reason": {reason}})
	s.do(http.StatusSeeOther, "/archive/plan", url.Values{"recipient": {recipient}, "every": {"7"}, "reason": {reason}})
	s.expect(http.StatusConflict, "POST", "/archive/plan", url.Values{"recipient": {"age1nobody"}, "every": {"7"}, "reason": {reason}})
	s.expect(http.StatusSeeOther, "POST", "/archive/now", url.Values{"reason": {reason}})
	if page := s.page("/archive"); !strings.Contains(page, recipient) || !strings.Contains(page, "Days between two archives: 7") {
		t.Error("what was set is not shown")
	}
	said := make(map[string]string)
	for _, e := range s.Entries(t) {
		if e.Decision == "allow" {
			said[e.Action] = e.Facts["archive.recipient"]
		}
	}
	if _, asked := said["archive.ask"]; !asked || said["archive.plan"] != recipient {
		t.Errorf("on record is %v", said)
	}
}
