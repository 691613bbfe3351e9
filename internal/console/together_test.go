package console_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// signed writes a bundle as `counterfoil policy sign` does, and loads it as the service does. mark tells one from another.
func signed(t *testing.T, mark string) policy.Signed {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	half, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	other, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	dir := t.TempDir()
	must(t, os.CopyFS(dir, policy.Bundle()))
	text, err := os.ReadFile(filepath.Join(dir, "limits.rego"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "limits.rego"), append(text, "\n# "+mark+"\n"...), 0o600))
	var b bytes.Buffer
	must(t, policy.Sign(t.Context(), &b, os.DirFS(dir), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: half})))
	file := filepath.Join(t.TempDir(), "policy.tar.gz")
	must(t, os.WriteFile(file, b.Bytes(), 0o600))
	s, _, err := policy.Pack(t.Context(), file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: other}))
	must(t, err)
	return s
}

// principal is who is signed in.
func (s *site) principal() principal.Admin {
	s.t.Helper()
	admissions, err := s.desk.Admit(s.t.Context(), s.from)
	must(s.t, err)
	admin, err := s.desk.Resume(s.t.Context(), admissions, s.from, s.cookies["counterfoil"].Value)
	must(s.t, err)
	return admin
}

// consents has an approver say yes.
func (s *site) consents(approval string) {
	s.t.Helper()
	form := url.Values{"id": {approval}, "decision": {"approved"}, "reason": {"The case is known to me"}}
	if resp, page := s.ask("POST", "/approvals/decide", form); resp.StatusCode != http.StatusSeeOther {
		s.expect(http.StatusSeeOther, "POST", "/step-up", with(s.waiting(page), "code", s.code()))
	}
}

// asks has somebody ask for an approval.
func (s *site) asks(form url.Values) string {
	s.t.Helper()
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/approvals/ask", with(form, "reason", reason, "minutes", "60"))
	return strings.TrimPrefix(resp.Header.Get("Location"), "/approvals/")
}

// atOnce sends one request many times at the same time, and says how often it was answered with a status.
func (s *site) atOnce(n, status int, path string, form url.Values) int32 {
	s.t.Helper()
	var all sync.WaitGroup
	var hits atomic.Int32
	for range n {
		o := *s
		o.cookies = maps(s.cookies)
		all.Go(func() {
			if resp, _ := o.ask("POST", path, form); resp.StatusCode == status {
				hits.Add(1)
			}
		})
	}
	all.Wait()
	return hits.Load()
}

func TestAPolicyIsActivatedByTwoAndExactlyAsItWasApproved(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("security_admin", "approver")
	s.signIn()
	approver, third := s.another("Anna Approver", "approver"), s.another("Theo Third", "security_admin")
	chosen := func() (access.Choice, bool) {
		t.Helper()
		all, err := s.Gate.Choices(t.Context())
		must(t, err)
		return access.Chosen(all)
	}
	one, other := signed(t, "one"), signed(t, "other")
	*s.lies = []policy.Signed{one}
	want := url.Values{"approval": {"policy"}, "act": {"activate"}, "digest": {one.Digest}}
	s.expect(http.StatusConflict, "POST", "/approvals/ask", with(want, "reason", reason, "minutes", "60"))
	if _, page := s.expect(http.StatusOK, "GET", "/policy/activation", nil); !strings.Contains(page, "the host chooses") || strings.Contains(page, "Ask to activate") {
		t.Errorf("before it is demanded:\n%s", page)
	}
	if _, page := approver.expect(http.StatusForbidden, "POST", "/policy/demand", nil); strings.Contains(page, "One more code") {
		t.Error("an approver demands it")
	}
	s.do(http.StatusSeeOther, "/policy/demand", url.Values{})
	if c, ok := chosen(); !ok || c.Digest != "" || c.Revision != s.policy.Revision() {
		t.Errorf("at first %+v is chosen", c)
	}
	s.expect(http.StatusNotFound, "POST", "/approvals/ask", with(want, "reason", reason, "minutes", "60", "digest", other.Digest))
	s.expect(http.StatusNotFound, "POST", "/approvals/ask", with(want, "reason", reason, "minutes", "60", "act", "demand"))

	id := s.asks(want)
	*s.lies = []policy.Signed{other} // somebody puts another one there
	_, page := approver.expect(http.StatusOK, "GET", "/approvals/"+id, nil)
	if !strings.Contains(page, one.Digest) || !strings.Contains(page, "/policy?of="+one.Digest) {
		t.Errorf("the approver is not told which:\n%s", page)
	}
	if _, page := approver.expect(http.StatusOK, "GET", "/policy?of="+one.Digest, nil); !strings.Contains(page, "# one") || strings.Contains(page, "# other") {
		t.Error("the approver does not read what he is to approve")
	}
	approver.expect(http.StatusNotFound, "GET", "/policy?of="+other.Digest, nil)
	choose := url.Values{"id": {id}}
	_, page = s.expect(http.StatusForbidden, "POST", "/policy/choose", choose)
	if strings.Contains(page, "One more code") {
		t.Error("nothing but a code is missing before anybody consented")
	}
	s.expect(http.StatusForbidden, "POST", "/approvals/decide", url.Values{"id": {id}, "decision": {"approved"}, "reason": {reason}})
	if e := s.last(); !slices.Contains(e.Reasons, "approval_of_himself") {
		t.Errorf("he approves himself: %+v", e)
	}
	approver.consents(id)
	third.expect(http.StatusForbidden, "POST", "/policy/choose", choose)
	if e := s.last(); !slices.Contains(e.Reasons, "approval_missing") || e.Action != "policy.activate" {
		t.Errorf("another uses the consent: %+v", e)
	}
	if c, _ := chosen(); c.Digest != "" {
		t.Error("it is chosen before anybody chose it")
	}
	_, page = s.expect(http.StatusForbidden, "POST", "/policy/choose", choose)
	s.expect(http.StatusSeeOther, "POST", "/step-up", with(s.waiting(page), "code", s.code()))
	c, ok := chosen()
	if !ok || c.Digest != one.Digest || c.Revision != one.Revision || c.Approval.String() != id {
		t.Errorf("chosen is %+v", c)
	}
	packed, err := s.Gate.KeptBundle(t.Context(), s.Organisation.ID, c.Digest)
	if err != nil || !bytes.Equal(packed, one.Packed) {
		t.Errorf("other bytes are kept: %v", err)
	}
	s.expect(http.StatusForbidden, "POST", "/policy/choose", choose) // used up

	// Of many requests with one consent one is the choice.
	id = s.asks(url.Values{"approval": {"policy"}, "act": {"activate"}, "digest": {""}})
	approver.consents(id)
	if n := s.atOnce(6, http.StatusSeeOther, "/policy/choose", url.Values{"id": {id}}); n != 1 {
		t.Errorf("%d of the requests at once were the way back", n)
	}
	if c, _ := chosen(); c.Digest != "" || c.Act != access.Activate {
		t.Errorf("the way back led to %+v", c)
	}

	// Whoever ends the consent while it is used either is first, and nothing is chosen, or comes too late.
	for range 3 {
		all, err := s.Gate.Choices(t.Context())
		must(t, err)
		id = s.asks(url.Values{"approval": {"policy"}, "act": {"activate"}, "digest": {one.Digest}})
		approver.consents(id)
		var ended, used *http.Response
		var both sync.WaitGroup
		ender, user := *approver, *s
		ender.cookies, user.cookies = maps(approver.cookies), maps(s.cookies)
		both.Go(func() { ended, _ = ender.ask("POST", "/approvals/end", url.Values{"id": {id}}) })
		both.Go(func() { used, _ = user.ask("POST", "/policy/choose", url.Values{"id": {id}}) })
		both.Wait()
		after, err := s.Gate.Choices(t.Context())
		must(t, err)
		if chose := len(after[s.Organisation.ID]) > len(all[s.Organisation.ID]); chose != (used.StatusCode == http.StatusSeeOther) || chose == (ended.StatusCode == http.StatusSeeOther) {
			t.Errorf("chosen: %v, while the end was answered with %d and the use with %d", chose, ended.StatusCode, used.StatusCode)
		}
	}
	id = s.asks(url.Values{"approval": {"policy"}, "act": {"activate"}, "digest": {""}})
	approver.consents(id)
	s.expect(http.StatusSeeOther, "POST", "/policy/choose", url.Values{"id": {id}})

	// A consent that is over, and a choice that was written into the database, count for nothing.
	id = s.asks(with(want))
	approver.consents(id)
	_, err = s.DB.Superuser(t).Exec(t.Context(), "update console.approval set ends_at = now() - interval '1 second' where approval_id = $1", id)
	must(t, err)
	s.expect(http.StatusForbidden, "POST", "/policy/choose", url.Values{"id": {id}})
	before, err := s.Gate.Choices(t.Context())
	must(t, err)
	n := len(before[s.Organisation.ID])
	for _, act := range []string{"activate", "release"} {
		id = s.asks(url.Values{"approval": {"policy"}, "act": {act}, "digest": {one.Digest}})
		var done bool
		must(t, s.Pool.QueryRow(t.Context(), "select access.decide_approval($1, $2, (select admin_id from access.admins($1) order by created_at desc limit 1), 'approved', null, now() + interval '1 minute', 'abcdefghijkmnpqr')",
			s.Organisation.ID, id).Scan(&done))
		must(t, s.Pool.QueryRow(t.Context(), "select access.choose_policy($1, gen_random_uuid(), clock_timestamp(), $2, $3, 'mine', (select asked_by from access.approvals($1, $4, 1)), $4, 'abcdefghijkmnpqr')",
			s.Organisation.ID, act, one.Digest, id).Scan(&done))
		if !done {
			t.Fatal("the row could not be written: the case shows nothing")
		}
	}
	after, err := s.Gate.Choices(t.Context())
	must(t, err)
	if c, _ := chosen(); len(after[s.Organisation.ID]) != n || c.Digest != "" || !access.Demanded(after[s.Organisation.ID]) {
		t.Errorf("what somebody wrote counts: %+v", after)
	}

	// That two choose ends by two as well.
	id = s.asks(url.Values{"approval": {"policy"}, "act": {"release"}})
	s.expect(http.StatusForbidden, "POST", "/policy/choose", url.Values{"id": {id}})
	approver.consents(id)
	s.expect(http.StatusSeeOther, "POST", "/policy/choose", url.Values{"id": {id}})
	if _, ok := chosen(); ok || s.last().Action != "policy.release" {
		t.Errorf("two still have to choose: %+v", s.last())
	}
}

// Several organisations share a service, and one policy decides for all.
func TestThePolicyIsTheOneToWhichTheLastOrganisationCameRound(t *testing.T) {
	at := func(n int, act, digest string) access.Choice {
		return access.Choice{At: time.Unix(int64(n), 0), Act: act, Digest: digest}
	}
	a, b := uuid.New(), uuid.New()
	for _, c := range []struct {
		name string
		a, b []access.Choice
		want string
		none bool
	}{
		{name: "nobody demands", none: true},
		{name: "one alone", a: []access.Choice{at(1, "demand", "x"), at(2, "activate", "y")}, want: "y"},
		{name: "the other has not come round", a: []access.Choice{at(1, "demand", "x"), at(3, "activate", "y")}, b: []access.Choice{at(2, "demand", "x")}, want: "x"},
		{name: "both came round", a: []access.Choice{at(1, "demand", "x"), at(3, "activate", "y")}, b: []access.Choice{at(2, "demand", "x"), at(4, "activate", "y")}, want: "y"},
		{name: "one alone does not go back", a: []access.Choice{at(1, "demand", "x"), at(3, "activate", "y"), at(5, "activate", "x")}, b: []access.Choice{at(2, "demand", "x"), at(4, "activate", "y")}, want: "y"},
		{name: "both go back", a: []access.Choice{at(1, "demand", "x"), at(3, "activate", "y"), at(5, "activate", "x")}, b: []access.Choice{at(2, "demand", "x"), at(4, "activate", "y"), at(6, "activate", "x")}, want: "x"},
		{name: "one lets the host choose", a: []access.Choice{at(1, "demand", "x"), at(5, "activate", "y")}, b: []access.Choice{at(2, "demand", "x"), at(6, "release", "x")}, want: "y"},
		{name: "they never agreed", a: []access.Choice{at(1, "demand", "x")}, b: []access.Choice{at(2, "demand", "y")}, none: true},
	} {
		got, ok := access.Chosen(map[uuid.UUID][]access.Choice{a: c.a, b: c.b})
		if ok == c.none || got.Digest != c.want {
			t.Errorf("%s: %q, %v", c.name, got.Digest, ok)
		}
	}
}

var entryForm = regexp.MustCompile(`name="review" value="([^"]+)"><input type="hidden" name="entry" value="([^"]+)"`)

// CON-15.
func TestAReviewGoesThroughEverybodyAndNobodyReviewsHimself(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.conversation()
	s.setUpAs("security_admin")
	s.signIn()
	sam, ann := s.another("Sam Second", "security_admin"), s.another("Ann Auditor", "auditor")
	s.token("reads along", "")
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update console.admin set created_at = now() - interval '200 days', signed_in_at = now() - interval '91 days' where roles = '{auditor}'")
	must(t, err)
	if _, page := ann.expect(http.StatusForbidden, "POST", "/access/reviews", url.Values{}); strings.Contains(page, "One more code") {
		t.Error("an auditor begins a review")
	}
	if _, page := ann.expect(http.StatusOK, "GET", "/", nil); !strings.Contains(page, "An access review waits") {
		t.Errorf("nobody is reminded that none was ever done:\n%s", page)
	}
	sam.do(http.StatusSeeOther, "/access/reviews", url.Values{})
	s.expect(http.StatusConflict, "POST", "/access/reviews", url.Values{})
	reviews, err := s.desk.Reviews(t.Context(), s.Organisation.ID)
	must(t, err)
	at := "/access/reviews/" + reviews[0].ID.String()
	if _, page := ann.expect(http.StatusOK, "GET", "/", nil); !strings.Contains(page, "An access review waits") || !strings.Contains(page, "5 of 5") {
		t.Errorf("nobody is reminded of the review:\n%s", page)
	}
	entries := func() map[string]signin.ReviewEntry {
		t.Helper()
		all, err := s.desk.ReviewEntries(t.Context(), s.Organisation.ID, reviews[0].ID)
		must(t, err)
		by := make(map[string]signin.ReviewEntry)
		for _, e := range all {
			by[e.Kind+" "+strings.Join(e.Roles, ",")+e.Since.Format(" 05.000000")] = e
		}
		return by
	}
	admins, err := s.desk.Admins(t.Context(), s.Organisation.ID)
	must(t, err)
	find := func(kind string, admin uuid.UUID) signin.ReviewEntry {
		for _, e := range entries() {
			if e.Kind == kind && (admin == uuid.Nil || e.Subject == admin) {
				return e
			}
		}
		t.Fatalf("no %s", kind)
		return signin.ReviewEntry{}
	}
	var idS, idSam, idAnn uuid.UUID // oldest first, and Ann was made the oldest
	idAnn, idS, idSam = admins[0].ID, admins[1].ID, admins[2].ID
	_, page := s.expect(http.StatusOK, "GET", at, nil)
	if n := len(entryForm.FindAllString(page, -1)); n != 3 || strings.Count(page, "Nobody reviews himself") != 2 { // not himself, not his token
		t.Errorf("he is offered %d to decide on:\n%s", n, page)
	}
	if !regexp.MustCompile(`value="revoke" checked`).MatchString(page) || !find("admin", idAnn).Idle || find("admin", idS).Idle {
		t.Error("who is idle is not proposed for removal, or somebody else is")
	}
	decide := func(e signin.ReviewEntry, decision string) url.Values {
		return url.Values{"review": {reviews[0].ID.String()}, "entry": {e.ID.String()}, "decision": {decision}, "reason": {"As agreed in the meeting"}}
	}
	s.expect(http.StatusConflict, "POST", "/access/reviews/decide", decide(find("admin", idS), "keep"))
	s.expect(http.StatusConflict, "POST", "/access/reviews/decide", decide(find("token", uuid.Nil), "keep"))
	if err := s.desk.DecideReview(t.Context(), s.principal(), reviews[0].ID, signin.ReviewEntry{ID: find("admin", idS).ID}, "keep", nil, uuid.New()); !errors.Is(err, signin.ErrNotDone) {
		t.Errorf("past the page he reviews himself: %v", err)
	}
	ann.expect(http.StatusForbidden, "POST", "/access/reviews/decide", decide(find("agent", uuid.Nil), "keep"))
	s.expect(http.StatusBadRequest, "POST", "/access/reviews/decide", decide(find("admin", idSam), "change"))
	s.expect(http.StatusBadRequest, "POST", "/access/reviews/decide", with(decide(find("admin", idSam), "change"), "role", "superuser"))
	s.expect(http.StatusBadRequest, "POST", "/access/reviews/decide", with(decide(find("admin", idAnn), "revoke"), "reason", "short"))
	s.expect(http.StatusConflict, "POST", "/access/reviews/decide", with(decide(find("agent", uuid.Nil), "change"), "role", "auditor"))

	s.expect(http.StatusSeeOther, "POST", "/access/reviews/decide", decide(find("admin", idAnn), "revoke"))
	e := s.last()
	if e.Action != "access_review.decide" || e.Rule != "administer.admin" || e.Facts["access_review.decision"] != "revoke" || e.Facts["access_review.subject"] == "" || e.Facts["reason.id"] == "" {
		t.Errorf("the record: %+v", e)
	}
	if resp, _ := ann.ask("GET", "/events", nil); resp.StatusCode != http.StatusSeeOther {
		t.Error("whoever was revoked is still in")
	}
	if n := s.atOnce(4, http.StatusSeeOther, "/access/reviews/decide", decide(find("agent", uuid.Nil), "revoke")); n != 1 {
		t.Errorf("%d of the requests at once decided", n)
	}
	o, err := s.Relay.Open(t.Context(), relay.OpenRequest{Widget: s.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("is anybody there?")})
	must(t, err)
	session, err := s.Relay.Session(t.Context(), o.Token)
	must(t, err)
	must(t, s.Relay.AgentAccepts(t.Context(), relay.Identity{Organisation: s.Organisation.ID, DirectoryID: "aad-amelie"}, session.Conversation, 1, "en"))
	if err := s.Relay.AgentJoins(t.Context(), relay.Identity{Organisation: s.Organisation.ID, DirectoryID: "aad-amelie", TeamsUser: "29:amelie", ServiceURL: "https://smba.example/"}, session.Conversation, nil); !errors.Is(err, relay.ErrNoProfile) {
		t.Errorf("an agent whose profile was closed joins: %v", err)
	}
	sam.expect(http.StatusSeeOther, "POST", "/access/reviews/decide", decide(find("token", uuid.Nil), "revoke"))
	tokens, err := s.desk.Tokens(t.Context(), s.Organisation.ID)
	if err != nil || tokens[0].Revoked == nil {
		t.Errorf("the token of a program goes on working: %v", err)
	}
	sam.expect(http.StatusSeeOther, "POST", "/access/reviews/decide", decide(find("admin", idS), "keep"))
	if _, page := sam.expect(http.StatusOK, "GET", at, nil); !strings.Contains(page, "1 / 5") {
		t.Errorf("the page says:\n%s", page)
	}
	s.expect(http.StatusSeeOther, "POST", "/access/reviews/decide", with(decide(find("admin", idSam), "change"), "role", "approver"))
	if resp, _ := sam.ask("GET", "/events", nil); resp.StatusCode != http.StatusSeeOther {
		t.Error("whose roles were changed goes on as before")
	}
	_, page = s.expect(http.StatusOK, "GET", at, nil)
	for _, want := range []string{"0 / 5", "Done", "As agreed in the meeting", "kept", "revoked", "changed", ": approver"} {
		if !strings.Contains(page, want) {
			t.Errorf("the evidence does not say %q:\n%s", want, page)
		}
	}
	s.expect(http.StatusConflict, "POST", "/access/reviews/decide", decide(find("admin", idSam), "revoke"))
	if _, page := s.expect(http.StatusOK, "GET", "/", nil); strings.Contains(page, "An access review waits") {
		t.Error("one is reminded of what is done")
	}
}

func TestRolesAreChangedBySomebodyElseOnlyAndSecurityAdministratorsStay(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("security_admin")
	s.signIn()
	sam := s.another("Sam Second", "security_admin")
	admins, err := s.desk.Admins(t.Context(), s.Organisation.ID)
	must(t, err)
	own, his := admins[0].ID.String(), admins[1].ID.String()
	s.expect(http.StatusConflict, "POST", "/access/roles", url.Values{"id": {own}, "role": {"security_admin", "approver"}})
	for _, roles := range [][]string{nil, {"security_admin", "privacy_officer"}, {"auditor", "root"}} {
		s.expect(http.StatusBadRequest, "POST", "/access/roles", url.Values{"id": {his}, "role": roles})
	}
	if _, err := s.desk.NewLink(t.Context(), s.Organisation.ID, []string{"privacy_officer", "security_admin"}); !errors.Is(err, signin.ErrRoles) {
		t.Errorf("a link gives roles that do not go together: %v", err)
	}
	s.expect(http.StatusNotFound, "POST", "/access/roles", url.Values{"id": {uuid.NewString()}, "role": {"auditor"}})
	s.do(http.StatusSeeOther, "/access/roles", url.Values{"id": {his}, "role": {"approver", "auditor"}})
	if e := s.last(); e.Action != "admin.roles" || e.Facts["roles"] != "auditor,approver" || e.Facts["roles.before"] != "security_admin" {
		t.Errorf("the record: %+v", e)
	}
	if resp, _ := sam.ask("GET", "/access", nil); resp.StatusCode != http.StatusSeeOther {
		t.Error("a session goes on under other roles than it began with")
	}
	sam.signIn()
	if _, page := sam.expect(http.StatusOK, "GET", "/access", nil); !strings.Contains(page, "auditor, approver") || !strings.Contains(page, "roles") || strings.Contains(page, `action="/access/roles"`) {
		t.Errorf("he has other roles, or may change some:\n%s", page)
	}
	if _, page := sam.expect(http.StatusForbidden, "POST", "/access/roles", url.Values{"id": {own}, "role": {"auditor"}}); strings.Contains(page, "One more code") {
		t.Error("somebody without the role for it changes roles")
	}
	if err := s.desk.SetRoles(t.Context(), s.Organisation.ID, admins[0].ID, []string{"security_admin"}, []string{"auditor"}); !errors.Is(err, signin.ErrNotDone) {
		t.Errorf("the last security administrator goes: %v", err)
	}
	// Two take each other's role away at the same moment: one stays.
	must(t, s.desk.SetRoles(t.Context(), s.Organisation.ID, admins[1].ID, []string{"auditor", "approver"}, []string{"security_admin"}))
	var done atomic.Int32
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			if s.desk.SetRoles(t.Context(), s.Organisation.ID, admins[i].ID, []string{"security_admin"}, []string{"auditor"}) == nil {
				done.Add(1)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 {
		t.Errorf("%d of two lost the role", done.Load())
	}
}

func TestWhoIsIdleForNinetyDaysIsDisabledButNotTheLast(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("security_admin")
	s.signIn()
	s.another("Sam Second", "security_admin")
	ann := s.another("Ann Auditor", "auditor")
	disable := func() int {
		t.Helper()
		n, err := s.desk.DisableIdle(t.Context(), s.Organisation.ID)
		must(t, err)
		return n
	}
	if n := disable(); n != 0 {
		t.Errorf("%d are disabled who were here today", n)
	}
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update console.admin set created_at = now() - interval '200 days', signed_in_at = now() - interval '91 days'")
	must(t, err)
	if n := disable(); n != 2 {
		t.Errorf("%d of three idle ones are disabled", n)
	}
	if e := s.last(); e.Action != "admin.idle_disabled" || e.Actor.Kind != "job" || e.Facts["admin"] == "" || e.Facts["days"] != "90" {
		t.Errorf("the record: %+v", e)
	}
	admins, err := s.desk.Admins(t.Context(), s.Organisation.ID)
	must(t, err)
	left := slices.DeleteFunc(slices.Clone(admins), func(l signin.Listed) bool { return l.Disabled != nil })
	if len(left) != 1 || !slices.Contains(left[0].Roles, "security_admin") {
		t.Errorf("left are %+v", left)
	}
	if resp, _ := ann.ask("GET", "/events", nil); resp.StatusCode != http.StatusSeeOther {
		t.Error("his session goes on")
	}
	for _, a := range admins { // whoever is given it back counts as here from then on
		if a.Disabled != nil {
			must(t, s.desk.Disable(t.Context(), s.Organisation.ID, a.ID, false))
		}
	}
	if n := disable(); n != 1 { // the one who was left
		t.Errorf("%d are disabled again", n)
	}
}

// DESIGN: the sealed address lives with the session and is shown through a reader.
func TestTheAddressOfASignInIsShownForAReasonAndOnRecord(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUpAs("privacy_officer")
	s.signIn()
	ann, sec := s.another("Ann Auditor", "auditor"), s.another("Sid Setter", "security_admin")
	sessions, err := s.desk.Sessions(t.Context(), s.Organisation.ID)
	must(t, err)
	own := s.principal().ID() // whose session has another id after the factor
	form := url.Values{"admin": {own.String()}, "address": {sessions[0].Address}, "reason": {reason}}
	for who, want := range map[*site]string{s: ">127.0.0.1<", ann: ">127.0.0.0/24<"} {
		who.expect(http.StatusOK, "GET", "/access/address?"+form.Encode(), nil)
		who.expect(http.StatusBadRequest, "POST", "/access/address", with(form, "reason", "why"))
		page := who.do(http.StatusOK, "/access/address", form)
		if !strings.Contains(page, want) {
			t.Errorf("instead of %s:\n%s", want, page)
		}
		e := s.last()
		if e.Kind != audit.Disclosure || e.Subject.Kind != "admin" || !slices.Equal(e.Fields, []string{"admin_address"}) || e.Facts["reason.id"] == "" {
			t.Errorf("the record: %+v", e)
		}
	}
	if _, page := sec.expect(http.StatusForbidden, "POST", "/access/address", form); strings.Contains(page, "One more code") || strings.Contains(page, ">127.0.0") {
		t.Errorf("whoever sets the allowlist is shown addresses:\n%s", page)
	}
	sec.expect(http.StatusNotFound, "POST", "/access/address", with(form, "address", "aaaaaaaaaaaaaaaa"))
	sec.expect(http.StatusNotFound, "POST", "/access/address", with(form, "admin", uuid.NewString()))
	var n int
	must(t, s.DB.Superuser(t).QueryRow(t.Context(), "select count(*) from euii.value where field = 'admin_address' and position('127.0.0.1' in encode(ciphertext, 'escape')) = 0").Scan(&n))
	if n != 3 {
		t.Errorf("%d addresses are kept", n)
	}
}

func TestAConversationIsReadByWhomPolicyAllowsOnceForEachRecord(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	hostile := []string{"<script>alert('4711')</script>", `"><img src=x onerror=alert(4711)>`, "\u202ereversed \u2066isolated", "{{.Nonce}} javascript:alert(4711)", "=HYPERLINK(\"http://evil.example\")"}
	o, err := s.Relay.Open(t.Context(), relay.OpenRequest{Widget: s.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive(hostile[0]), Name: euii.Receive(visitorName)})
	must(t, err)
	session, err := s.Relay.Session(t.Context(), o.Token)
	must(t, err)
	for _, text := range hostile[1:] {
		_, err := s.Relay.VisitorSays(t.Context(), session, uuid.New(), euii.Receive(text))
		must(t, err)
	}
	s.setUpAs("privacy_officer")
	s.signIn()
	both, approver := s.another("Ada Auditor", "auditor", "security_admin"), s.another("Anna Approver", "approver")
	ref := ""
	for _, e := range s.Entries(t) {
		if e.Conversation != "" {
			_, page := s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", e.Seq), nil)
			if ref = e.Conversation; !strings.Contains(page, "/transcript?") {
				t.Errorf("the record of a conversation does not lead to it:\n%s", page)
			}
			break
		}
	}
	form := url.Values{"kind": {"conversation"}, "ref": {ref}, "reason": {reason}}
	s.expect(http.StatusOK, "GET", "/transcript?"+form.Encode(), nil)
	s.expect(http.StatusNotFound, "GET", "/transcript?ref=aaaaaaaaaaaaaaaa", nil)
	s.expect(http.StatusBadRequest, "GET", "/transcript?ref=", nil)
	before := len(s.Entries(t))
	page := s.do(http.StatusOK, "/transcript", form)
	if strings.Contains(page, "<script>alert") || strings.Contains(page, "<img src=x") || strings.Contains(page, visitorName) {
		t.Errorf("what was written acts in the page, or a name is shown:\n%s", page)
	}
	for _, want := range []string{"&lt;script&gt;alert(&#39;4711&#39;)&lt;/script&gt;", "&lt;img src=x", `dir="auto">` + hostile[2], "{{.Nonce}}", "=HYPERLINK"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not shown:\n%s", want, page)
		}
	}
	e := s.last()
	if e.Kind != audit.Disclosure || e.Action != "read_transcript" || e.Rule != "read_transcript.privacy_officer" || e.Subject.Kind != "conversation" || e.Conversation != ref || e.Facts["reason.id"] == "" {
		t.Errorf("the record: %+v", e)
	}
	if n := len(s.Entries(t)) - before; n != 3 { // the denial, the factor, the reading
		t.Errorf("%d records of one reading", n)
	}
	s.expect(http.StatusOK, "POST", "/transcript", form)
	if s.last().Seq == e.Seq {
		t.Error("a second reading has no record of its own")
	}
	s.expect(http.StatusBadRequest, "POST", "/transcript", with(form, "reason", "because"))

	for _, who := range []*site{both, approver} {
		if _, page := who.expect(http.StatusForbidden, "POST", "/transcript", form); strings.Contains(page, "4711") || strings.Contains(page, "One more code") {
			t.Errorf("without the role for it:\n%s", page)
		}
	}
	both.expect(http.StatusOK, "GET", "/approvals/ask?"+form.Encode(), nil)
	resp, _ := both.expect(http.StatusSeeOther, "POST", "/approvals/ask", with(form, "approval", "break_glass", "minutes", "15"))
	approver.consents(strings.TrimPrefix(resp.Header.Get("Location"), "/approvals/"))
	if page := both.do(http.StatusOK, "/transcript", form); !strings.Contains(page, "&lt;script&gt;alert") || s.last().Rule != "break_glass.approved" {
		t.Errorf("with consent: %+v\n%s", s.last(), page)
	}
	// Whatever is missing, nothing written comes to a page.
	_, err = s.DB.Superuser(t).Exec(t.Context(), "update euii.key set wrapped = null, destroyed_at = now() where kind = 'conversation'")
	must(t, err)
	if _, page := s.expect(http.StatusNotFound, "POST", "/transcript", form); strings.Contains(page, "4711") {
		t.Errorf("once it is erased:\n%s", page)
	}
}
