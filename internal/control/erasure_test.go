package control_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
)

func TestErasingAVisitorLeavesNothingOfHimAndOthersAsTheyWere(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	his, other := w.talk(t, "alice", true), w.talk(t, "alice", true)
	kept, err := w.desk.Kept(t.Context(), w.visitor(his))
	must(t, err)
	if kept.Total() < 8 || len(kept.Holds) != 0 || kept.Reference == "" {
		t.Errorf("of a visitor is kept %+v", kept)
	}
	before, err := w.desk.Kept(t.Context(), w.visitor(other))
	must(t, err)
	e, err := w.desk.Erase(t.Context(), principal.NewVisitor(w.Organisation.ID, his.Visitor), w.visitor(his), access.Grounds{})
	must(t, err)
	if e.Done == nil || e.Certificate == nil || e.Conversations != 1 || e.Messages < 3 || e.Keys != 2 || e.Fields < 4 || e.Reference != kept.Reference {
		t.Errorf("the erasure is %+v", e)
	}
	for _, table := range []string{"chat.conversation where conversation_id = $1", "chat.event where conversation_id = $1", "chat.session where conversation_id = $1", "chat.outbox where conversation_id = $1",
		"euii.value where row_id = $1", "euii.key where key_id = $1 and wrapped is not null"} {
		if n := w.count(t, "select count(*) from "+table, his.Conversation); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	for _, table := range []string{"chat.visitor where visitor_id = $1", "euii.value where subject_id = $1", "euii.key where key_id = $1 and wrapped is not null", "chat.event where by_id = $1"} {
		if n := w.count(t, "select count(*) from "+table, his.Visitor); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	after, err := w.desk.Kept(t.Context(), w.visitor(other))
	must(t, err)
	if after.Total() != before.Total() {
		t.Errorf("of another visitor is kept %+v, was %+v", after, before)
	}
	if _, err := w.Gate.Reference(t.Context(), w.Organisation.ID, uuid.New()); !errors.Is(err, access.ErrErased) {
		t.Errorf("a reference without a key: %v", err)
	}
	// The certificate is in the log, which still verifies, and the reference leads to it and to nobody.
	if n, facts := w.said(t, control.ActErased); n != 1 || facts["erasure.reference"] != kept.Reference || facts["erased.messages"] == "" {
		t.Errorf("%d certificates, the last says %v", n, facts)
	}
	gone, err := w.desk.Erased(t.Context(), w.Organisation.ID, kept.Reference, before.Reference)
	must(t, err)
	if len(gone) != 1 || gone[kept.Reference].Certificate != *e.Certificate {
		t.Errorf("erased are %v", gone)
	}
	_, err = w.desk.Erase(t.Context(), w.operator, w.visitor(his), access.Grounds{})
	wants(t, err, control.ErrGone)
}

func TestErasingAnAgentAndAConversation(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	a, b := w.talk(t, "alice", true), w.talk(t, "bob", true)
	if _, err := w.desk.Erase(t.Context(), w.operator, w.agent(a), access.Grounds{}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, "select (select count(*) from euii.value where subject_id = $1) + (select count(*) from euii.lookup where subject_id = $1) + (select count(*) from chat.agent where agent_id = $1 and coalesce(aad_object_id, teams_user_id, personal_conversation) is not null)", a.agent.ID); n != 0 {
		t.Errorf("%d things are left of an agent", n)
	}
	if n := w.count(t, "select count(*) from chat.acceptance where audience = 'agent'"); n != 1 {
		t.Errorf("%d acceptances are left, that of the other agent is 1", n)
	}
	if n := w.count(t, "select count(*) from chat.event where conversation_id = $1", a.Conversation); n == 0 {
		t.Error("what was written went with the agent")
	}
	if _, err := w.desk.Erase(t.Context(), w.operator, w.conversation(b), access.Grounds{}); err != nil {
		t.Fatal(err)
	}
	if n := w.count(t, "select (select count(*) from chat.conversation where conversation_id = $1) + (select count(*) from euii.value where row_id = $1)", b.Conversation); n != 0 {
		t.Errorf("%d things are left of a conversation", n)
	}
	if n := w.count(t, "select count(*) from euii.lookup where subject_id = $1", b.agent.ID); n == 0 {
		t.Error("the agent went with the conversation")
	}
}

func TestWhatIsOpenOrNotOnesOwnIsNotErased(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	open := w.talk(t, "alice", false)
	for _, s := range []control.Subject{w.visitor(open), w.agent(open), w.conversation(open)} {
		_, err := w.desk.Erase(t.Context(), w.operator, s, access.Grounds{})
		wants(t, err, control.ErrOpen)
	}
	done := w.talk(t, "bob", true)
	_, err := w.desk.Erase(t.Context(), principal.NewVisitor(w.Organisation.ID, open.Visitor), w.visitor(done), access.Grounds{})
	wants(t, err, access.ErrDenied)
	_, err = w.desk.Erase(t.Context(), w.operator, control.Whole(w.Organisation.ID), access.Grounds{})
	wants(t, err, control.ErrOpen)
	_, err = w.Relay.VisitorEnds(t.Context(), open.Session)
	must(t, err)
	_, err = w.desk.Erase(t.Context(), w.operator, control.Whole(w.Organisation.ID), access.Grounds{}) // not by one alone
	wants(t, err, access.ErrDenied)
	if n, _ := w.said(t, control.ActErased); n != 0 {
		t.Errorf("%d erasures are certified", n)
	}
}

// Whoever has the passwords of both roles and no decision key erases nothing: the database goes by records.
func TestTheDatabaseErasesOnlyWhatARecordSays(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	k := w.talk(t, "alice", true)
	_, err := w.Gate.Order(t.Context(), w.operator, access.Order{Organisation: w.Organisation.ID, Purpose: "administer", Action: "something.else", Facts: map[string]string{"erasure.kind": "visitor", "erasure.subject": k.Visitor.String(), "erasure.id": uuid.NewString()}})
	must(t, err)
	for act := range len(w.Entries(t)) + 1 {
		_, err := w.Pool.Exec(t.Context(), "select access.order_erasure($1, $2)", w.Organisation.ID, act)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
			t.Fatalf("record %d ordered an erasure: %v", act, err)
		}
	}
	for _, sql := range []string{"select access.erase_some(gen_random_uuid(), gen_random_uuid(), 1)", "select access.apply_retention(gen_random_uuid(), gen_random_uuid(), 'transcript', now(), gen_random_uuid(), 1)", "delete from chat.event", "update euii.key set wrapped = null"} {
		_, err := w.Pool.Exec(t.Context(), sql)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
			t.Errorf("the service's role: %s: %v", sql, err)
		}
	}
	for _, sql := range []string{"delete from chat.event", "update euii.key set wrapped = null", "select * from control.erasure", "select access.order_erasure(gen_random_uuid(), 1)", "select access.lift_hold(gen_random_uuid(), 1)"} {
		_, err := w.eraser.Exec(t.Context(), sql)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
			t.Errorf("the role of retention: %s: %v", sql, err)
		}
	}
}

func TestAnErasureThatBreaksOffIsResumedAndTwoAtOnceAreOne(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	k := w.talk(t, "alice", true)
	id, err := w.desk.OrderErasure(t.Context(), w.operator, w.visitor(k), access.Grounds{})
	must(t, err)
	// The process died after a part: everything is still counted once, and nobody says that it is done.
	must(t, pgx.BeginFunc(t.Context(), w.eraser, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select access.erase_some($1, $2, 200)", w.Organisation.ID, id)
		return err
	}))
	if e, err := w.desk.Erasure(t.Context(), w.Organisation.ID, id); err != nil || e.Done != nil || e.Conversations != 1 {
		t.Errorf("after a part it is %+v, %v", e, err)
	}
	open, err := w.desk.Open(t.Context())
	must(t, err)
	if len(open) != 1 || open[0] != [2]uuid.UUID{w.Organisation.ID, id} {
		t.Errorf("open are %v", open)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if e, err := w.desk.Resume(t.Context(), w.Organisation.ID, id, nil); err != nil || e.Done == nil || e.Conversations != 1 || e.Keys != 2 {
				t.Errorf("resumed it is %+v, %v", e, err)
			}
		})
	}
	wg.Wait()
	if n, _ := w.said(t, control.ActErased); n != 1 {
		t.Errorf("one erasure is certified %d times", n)
	}
	if open, err := w.desk.Open(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("open are %v, %v", open, err)
	}
}

// A hold that is placed while an erasure is under way stops it, whichever way it covers who is erased; nothing is certified until it is lifted.
func TestAHoldStopsAnErasureThatIsUnderWay(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	org := w.Organisation.ID
	for _, c := range []struct {
		name string
		who  func(talk) control.Subject
		hold func(talk) control.Hold
	}{
		{"an agent, by his visitor", w.agent, func(k talk) control.Hold { return control.Hold{Kind: "person", Subject: &k.Visitor} }},
		{"an agent, by his conversation", w.agent, func(k talk) control.Hold { return control.Hold{Kind: "conversation", Subject: &k.Conversation} }},
		{"an agent, by the widget", w.agent, func(talk) control.Hold { return control.Hold{Kind: "widget", Subject: &w.Widget.ID} }},
		{"a visitor, by his agent", w.visitor, func(k talk) control.Hold { return control.Hold{Kind: "person", Subject: &k.agent.ID} }},
		{"a conversation, by its time", w.conversation, func(talk) control.Hold { return control.Hold{Kind: "range"} }},
	} {
		k := w.talk(t, uuid.NewString()[:8], true)
		id, err := w.desk.OrderErasure(t.Context(), w.operator, c.who(k), access.Grounds{})
		must(t, err)
		before, _ := w.said(t, control.ActErased)
		// It has looked at the holds there were, and dies before anything is gone.
		_, err = w.DB.Superuser(t).Exec(t.Context(), "update control.erasure set cleared = true where erasure_id = $1", id)
		must(t, err)
		hold, err := w.desk.PlaceHold(t.Context(), w.operator, org, c.hold(k), access.Grounds{})
		must(t, err)
		if _, err = w.desk.Resume(t.Context(), org, id, nil); !errors.Is(err, control.ErrHeld) {
			t.Errorf("%s: resumed while held: %v", c.name, err)
		}
		if now, _ := w.said(t, control.ActErased); now != before || w.left(t, k) != strings.Replace(all, "session, ", "", 1) && w.left(t, k) != all {
			t.Errorf("%s: of what is held is left %q", c.name, w.left(t, k))
		}
		must(t, w.desk.LiftHold(t.Context(), w.operator, org, hold, access.Grounds{}))
		if e, err := w.desk.Resume(t.Context(), org, id, nil); err != nil || e.Done == nil {
			t.Errorf("%s: after the hold: %+v, %v", c.name, e, err)
		}
	}
}

// What an organisation has goes with the consent of a second person; its log stays, verifies, and can be added to.
func TestErasingAnOrganisationLeavesItsLogOnly(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	neighbour := newWorld(t, relaytest.Options{DB: w.DB})
	w.talk(t, "alice", true)
	w.talk(t, "bob", true)
	neighbour.talk(t, "carol", true)
	// As after a restore; asked for, it takes two administrators.
	did, err := w.desk.Replay(t.Context(), w.Organisation.ID, audit.Entry{Seq: 7, Kind: audit.Administration, Action: control.ActErase, Decision: audit.DecisionAllow,
		Facts: map[string]string{"erasure.kind": "organisation", "erasure.subject": w.Organisation.ID.String()}})
	must(t, err)
	e, err := w.desk.Erasure(t.Context(), w.Organisation.ID, w.Organisation.ID)
	if err != nil || !did {
		t.Fatalf("replayed: %t, %v", did, err)
	}
	if e.Done == nil || e.Conversations != 2 || e.Keys < 7 {
		t.Errorf("the erasure is %+v", e)
	}
	rows, err := w.DB.Superuser(t).Query(t.Context(), `select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attname = 'organisation_id' and not a.attisdropped
		where n.nspname not in ('pg_catalog', 'information_schema', 'audit', 'auditor') and c.relkind in ('r', 'p') and not c.relispartition order by 1`)
	must(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	left := map[string]string{"chat.organisation": "erased_at is null", "euii.key": "wrapped is not null", "control.erasure": "false", "control.run": "false", "access.ticket": "false"}
	for _, table := range tables {
		where, ok := left[table]
		if !ok {
			where = "true"
		}
		if n := w.count(t, "select count(*) from "+table+" where organisation_id = $1 and "+where, w.Organisation.ID); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	kept, err := neighbour.desk.Kept(t.Context(), control.Whole(neighbour.Organisation.ID))
	must(t, err)
	if kept.Total() < 10 {
		t.Errorf("of another organisation is kept %+v", kept)
	}
	if n, facts := w.said(t, control.ActErased); n != 1 || facts["erased.conversations"] != "2" {
		t.Errorf("%d certificates, the last says %v", n, facts)
	}
	if _, err := w.desk.Kept(t.Context(), control.Whole(w.Organisation.ID)); err != nil {
		t.Errorf("looking at what is left: %v", err)
	}
}
