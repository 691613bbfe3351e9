package access_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
)

func TestWhatIsRestrictedIsShownToNobodyButHimselfUntilItIsLifted(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	ctx, organisation := t.Context(), s.Organisation.ID
	following := s.Readers.ConversationForAgent.Follow(s.agent())
	if got, err := texts(following.Read(ctx, s.Scene, 0, 10)); err != nil || len(got) == 0 {
		t.Fatalf("before: %d texts, %v", len(got), err)
	}
	own := func() ([]string, error) {
		d, err := s.Readers.OwnVisitor.Read(ctx, s.visitor(), s.Scene, s.Session.Visitor, s.Session.Conversation)
		return values(d), err
	}
	must(t, s.Gate.Restrict(ctx, s.visitor(), organisation, "visitor", s.Session.Visitor, true, nil))
	for _, r := range readings() {
		if slices.Contains([]string{"the visitor is shown the agent", "the visitor follows the conversation", "the agent is matched by email", "something is collected about the visitor"}, r.name) {
			continue // not about the visitor, or for himself
		}
		got, err := r.read(ctx, s)
		if r.name == "the channel is told who joined" { // about the agent
			if err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
			continue
		}
		var denied access.DeniedError
		if !errors.As(err, &denied) || !slices.Equal(denied.Reasons, []string{"restricted"}) || len(got) > 0 {
			t.Errorf("%s: got %d values, %v", r.name, len(got), err)
		}
	}
	if got, err := texts(following.Read(ctx, s.Scene, 0, 10)); !errors.Is(err, access.ErrDenied) || len(got) > 0 {
		t.Errorf("an agent went on reading under the grant of before: %d texts, %v", len(got), err)
	}
	if got, err := own(); err != nil || len(got) != 2 {
		t.Errorf("he himself is shown %d values, %v", len(got), err)
	}
	if got, err := texts(s.Readers.ConversationForVisitor.Follow(s.visitor()).Read(ctx, s.Scene, 0, 10)); err != nil || len(got) == 0 {
		t.Errorf("he himself reads %d texts, %v", len(got), err)
	}
	must(t, s.Gate.Restrict(ctx, s.agent(), organisation, "agent", s.Agent.ID, true, nil))
	if d, err := s.Readers.AgentToVisitor.Read(ctx, s.visitor(), s.Scene, s.Agent.ID, s.Session.Conversation); !errors.Is(err, access.ErrDenied) || len(values(d)) > 0 {
		t.Errorf("a restricted agent was shown to a visitor: %v", err)
	}
	must(t, s.Gate.Restrict(ctx, s.visitor(), organisation, "visitor", s.Session.Visitor, false, nil))
	if got, err := texts(following.Read(ctx, s.Scene, 0, 10)); err != nil || len(got) == 0 {
		t.Errorf("after it was lifted: %d texts, %v", len(got), err)
	}
	for _, e := range s.Entries(t) {
		if in, err := access.InputOf(e); err == nil && e.Kind == audit.Denial && !in.Subject.Restricted {
			t.Errorf("record %d does not say that it was restricted", e.Seq)
		}
		holdsNoCanary(t, "a record", e)
	}
}

func TestARestrictionHoldsOnOtherNodesWithinASecondAndWithoutADatabaseNothingIsShown(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	ctx := t.Context()
	if yes, err := s.Gate.Restricted(ctx, s.Organisation.ID, s.Session.Visitor); yes || err != nil {
		t.Fatalf("%v, %v", yes, err)
	}
	asSuperuser(t, s.World, "insert into euii.restriction (organisation_id, subject_id) values ('"+s.Organisation.ID.String()+"', '"+s.Session.Visitor.String()+"')")
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		yes, err := s.Gate.Restricted(ctx, s.Organisation.ID, s.Session.Visitor)
		must(t, err)
		if yes {
			break
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal("the restriction that another node made is not seen")
		}
	}
	asSuperuser(t, s.World, "alter function access.restricted(uuid) rename to restricted_before")
	time.Sleep(time.Second)
	if d, err := s.Readers.VisitorToAgent.Read(ctx, s.agent(), s.Scene, s.Session.Visitor, s.Session.Conversation); !errors.Is(err, access.ErrUnavailable) || len(values(d)) > 0 {
		t.Errorf("while nobody can tell what is restricted: %v", err)
	}
}

func TestARequestIsCarriedOnOnceAndOnRecord(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	ctx, organisation := t.Context(), s.Organisation.ID
	operator := principal.NewOperator(organisation, "olga")
	n := access.NewRequest{Kind: access.AsksAccess, SubjectKind: "visitor", Subject: s.Session.Visitor, Source: "widget", Identification: access.ByToken, Language: "en"}
	id, err := s.Gate.OpenRequest(ctx, s.visitor(), n)
	must(t, err)
	if again, err := s.Gate.OpenRequest(ctx, s.visitor(), n); err != nil || again != id {
		t.Errorf("the same again is another: %v", err)
	}
	if _, err := s.Gate.OpenRequest(ctx, principal.NewVisitor(organisation, uuid.New()), n); !errors.Is(err, access.ErrDenied) {
		t.Errorf("another visitor asked for him: %v", err)
	}
	if _, err := s.Gate.OpenRequest(ctx, s.agent(), n); !errors.Is(err, access.ErrDenied) {
		t.Errorf("an agent asked for a visitor: %v", err)
	}
	other := relaytest.New(t, relaytest.Options{DB: s.DB})
	if _, err := other.Gate.OpenRequest(ctx, principal.NewVisitor(other.Organisation.ID, s.Session.Visitor), n); err == nil {
		t.Error("a request about somebody of another organisation was kept")
	}
	if _, _, err := other.Gate.Request(ctx, other.Organisation.ID, id); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("another organisation sees the request: %v", err)
	}
	r, _, err := s.Gate.Request(ctx, organisation, id)
	must(t, err)
	if days := r.Due.Sub(r.Received).Hours() / 24; days != 30 || !r.Open() || r.Overdue(time.Now()) || !r.Overdue(time.Now().Add(31*24*time.Hour)) {
		t.Errorf("the request is %+v", r)
	}
	why, err := s.Gate.Justify(ctx, organisation, "many conversations, "+canary)
	must(t, err)
	must(t, s.Gate.StepRequest(ctx, operator, r, access.Extended, "", why))
	if err := s.Gate.StepRequest(ctx, operator, r, access.Extended, "", why); !errors.Is(err, access.ErrSettled) {
		t.Errorf("the time was extended twice: %v", err)
	}
	must(t, s.Gate.StepRequest(ctx, operator, r, access.Answered, "", access.Justification{}))
	for _, action := range []string{access.Declined, access.Identified, access.Answered} {
		if err := s.Gate.StepRequest(ctx, operator, r, action, "", access.Justification{}); !errors.Is(err, access.ErrSettled) {
			t.Errorf("%s after the answer: %v", action, err)
		}
	}
	r, steps, err := s.Gate.Request(ctx, organisation, id)
	must(t, err)
	var actions []string
	for _, step := range steps {
		actions = append(actions, step.Action)
	}
	if want := []string{"received", "extended", "answered"}; !slices.Equal(actions, want) || steps[1].Why != "many conversations, "+canary || r.State != "answered" || r.Due.Sub(r.Received).Hours() != 90*24 {
		t.Errorf("steps %v of %+v", steps, r)
	}
	var recorded []string
	for _, e := range s.Entries(t) {
		if e.Facts[access.FactRequest] == id.String() && e.Decision == "allow" {
			recorded = append(recorded, e.Action)
		}
		holdsNoCanary(t, "a record", e)
	}
	if want := []string{"request.open", "request.open", "request.extended", "request.answered"}; !slices.Equal(recorded, want) {
		t.Errorf("on record are %v", recorded)
	}
}

func TestACorrectionTakesThePlaceOfWhatWasKeptEverywhere(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	ctx, organisation := t.Context(), s.Organisation.ID
	before := sealedValues(t, s)
	must(t, s.Gate.Correct(ctx, s.Readers.VisitorCollector, s.visitor(), s.Scene, s.Session.Visitor, s.Session.Conversation, access.Grounds{},
		access.Field{Name: euii.VisitorDisplayName, Value: euii.Receive("Vera Verity")}, access.Field{Name: euii.VisitorEmail}))
	d, err := s.Readers.OwnVisitor.Read(ctx, s.visitor(), s.Scene, s.Session.Visitor, s.Session.Conversation)
	must(t, err)
	if got := values(d); !slices.Equal(got, []string{"Vera Verity"}) {
		t.Errorf("kept is %q", got)
	}
	for place, ciphertext := range sealedValues(t, s) {
		if before[place] == ciphertext && place[1] != "" && slices.Contains([]string{"visitor_display_name", "visitor_email"}, place[1]) {
			t.Errorf("%v holds what it held", place)
		}
	}
	stranger := principal.NewVisitor(organisation, uuid.New())
	err = s.Gate.Correct(ctx, s.Readers.VisitorCollector, stranger, s.Scene, s.Session.Visitor, s.Session.Conversation, access.Grounds{},
		access.Field{Name: euii.VisitorDisplayName, Value: euii.Receive("Mallory")})
	if !errors.Is(err, access.ErrDenied) {
		t.Errorf("another visitor corrected him: %v", err)
	}
	err = s.Gate.Correct(ctx, s.Readers.VisitorCollector, stranger, s.Scene, s.Session.Visitor, s.Session.Conversation, access.Grounds{}, access.Field{Name: euii.VisitorDisplayName})
	if !errors.Is(err, access.ErrDenied) {
		t.Errorf("another visitor took his name out: %v", err)
	}
}

func sealedValues(t *testing.T, s scene) map[[2]string]string {
	t.Helper()
	rows, err := s.DB.Superuser(t).Query(t.Context(), "select row_id::text, field, encode(ciphertext, 'hex') from euii.value where organisation_id = $1 and subject_id = $2", s.Organisation.ID, s.Session.Visitor)
	must(t, err)
	defer rows.Close()
	all := make(map[[2]string]string)
	for rows.Next() {
		var row, field, value string
		must(t, rows.Scan(&row, &field, &value))
		all[[2]string{row, field}] = value
	}
	must(t, rows.Err())
	return all
}

func TestALinkToOnesOwnDataLeadsThereOnceForWhoHasIt(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	ctx, organisation := t.Context(), s.Organisation.ID
	d := access.Download{Organisation: organisation, SubjectKind: "agent", Subject: s.Agent.ID, Language: "fr"}
	if _, _, err := s.Gate.NewDownload(ctx, s.visitor(), d); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a visitor got a link to an agent: %v", err)
	}
	if _, _, err := s.Gate.NewDownload(ctx, principal.NewAgent(organisation, uuid.New()), d); !errors.Is(err, access.ErrDenied) {
		t.Errorf("another agent got a link: %v", err)
	}
	token, ends, err := s.Gate.NewDownload(ctx, s.agent(), d)
	must(t, err)
	if left := time.Until(ends); left > 10*time.Minute || left < 9*time.Minute {
		t.Errorf("the link is good for %v", left)
	}
	for range 3 {
		if got, err := s.Gate.Download(ctx, token, false); err != nil || got != d {
			t.Errorf("looking at it gives %+v, %v", got, err)
		}
	}
	guesses := []string{"", "x", token[:42], token + "A", token[1:] + "A", uuid.NewString()}
	for _, guess := range guesses {
		if _, err := s.Gate.Download(ctx, guess, true); !errors.Is(err, access.ErrUnknown) {
			t.Errorf("a guess: %v", err)
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	used := 0
	for range 8 {
		all.Go(func() {
			if _, err := s.Gate.Download(ctx, token, true); err == nil {
				mu.Lock()
				used++
				mu.Unlock()
			} else if !errors.Is(err, access.ErrUnknown) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if used != 1 {
		t.Errorf("%d used the link, want one", used)
	}
	late, _, err := s.Gate.NewDownload(ctx, s.agent(), d)
	must(t, err)
	asSuperuser(t, s.World, "update chat.download set expires_at = now() - interval '1 second'")
	if _, err := s.Gate.Download(ctx, late, true); !errors.Is(err, access.ErrUnknown) {
		t.Errorf("a link that has ended: %v", err)
	}
}
