package control_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/control"
	"counterfoil/internal/relay/relaytest"
)

// age makes a conversation that was ended so many days ago.
func (w world) age(t testing.TB, k talk, days int) {
	t.Helper()
	conn := w.DB.Superuser(t)
	for _, sql := range []string{
		"update chat.conversation set opened_at = now() - make_interval(days => $2), closed_at = now() - make_interval(days => $2) where conversation_id = $1",
		"update chat.visitor set created_at = now() - make_interval(days => $2) where visitor_id = (select visitor_id from chat.conversation where conversation_id = $1)",
		"update chat.session set created_at = now() - make_interval(days => $2), expires_at = now() - make_interval(days => $2) where conversation_id = $1",
	} {
		_, err := conn.Exec(t.Context(), sql, k.Conversation, days)
		must(t, err)
	}
}

// bodies, names and rows say whether these of a conversation are there.
func (w world) left(t testing.TB, k talk) string {
	t.Helper()
	var left []string
	for _, c := range []struct{ name, sql string }{
		{"text", "select count(*) from chat.event where conversation_id = $1"},
		{"text key", "select count(*) from euii.key where key_id = $1 and wrapped is not null"},
		{"agent", "select count(*) from euii.value where row_id = $1 and field like 'agent%'"},
		{"visitor", "select count(*) from euii.value v join chat.conversation c on c.visitor_id = v.subject_id where c.conversation_id = $1"},
		{"visitor key", "select count(*) from euii.key y join chat.conversation c on c.visitor_id = y.key_id where c.conversation_id = $1 and wrapped is not null"},
		{"session", "select count(*) from chat.session where conversation_id = $1"},
		{"conversation", "select count(*) from chat.conversation where conversation_id = $1"},
	} {
		if w.count(t, c.sql, k.Conversation) > 0 {
			left = append(left, c.name)
		}
	}
	return strings.Join(left, ", ")
}

const all = "text, text key, agent, visitor, visitor key, session, conversation"

func TestEachClassIsDeletedWhenItsTimeIsOverAndHeldOnesStay(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	org := w.Organisation.ID
	fresh, open, month, year, ages, held := w.talk(t, "alice", true), w.talk(t, "bob", false), w.talk(t, "carol", true), w.talk(t, "dora", true), w.talk(t, "emil", true), w.talk(t, "fay", true)
	w.age(t, open, 2000)
	w.age(t, month, 40)
	w.age(t, year, 380)
	w.age(t, ages, 1500)
	w.age(t, held, 1500)
	why, err := w.Gate.Justify(t.Context(), org, "asked for by the court in a made-up case")
	must(t, err)
	hold, err := w.desk.PlaceHold(t.Context(), w.operator, org, control.Hold{Kind: "person", Subject: &held.Visitor}, access.Grounds{Justification: why})
	must(t, err)

	for _, c := range []struct {
		class     string
		days      int
		due, held int64
	}{{"transcript", 400, 2, 1}, {"transcript", 30, 4, 1}, {"visitor", 400, 2, 1}, {"agent", 2000, 0, 0}, {"session", 30, 5, 0}, {"conversation", 30, 0, 0}} {
		got, err := w.desk.WhatIf(t.Context(), org, c.class, c.days)
		must(t, err)
		if got.Due != c.due || got.Held != c.held {
			t.Errorf("%s for %d days: %+v, want %d, %d held", c.class, c.days, got, c.due, c.held)
		}
	}
	// Within the bounds of the policy only, and from the day on that was said.
	wants(t, w.desk.SetRetention(t.Context(), w.operator, org, "transcript", 29, time.Now(), access.Grounds{}), access.ErrDenied)
	must(t, w.desk.SetRetention(t.Context(), w.operator, org, "transcript", 365, time.Now().Add(-time.Minute), access.Grounds{}))
	must(t, w.desk.SetRetention(t.Context(), w.operator, org, "transcript", 30, time.Now().Add(24*time.Hour), access.Grounds{}))
	settings, err := w.desk.Retention(t.Context(), org)
	must(t, err)
	if s := settings[0]; s.Class != "transcript" || *s.Days != 365 || s.Since == nil || *s.NextDays != 30 {
		t.Errorf("set is %+v", s)
	}
	if s := settings[6]; s.Class != "backup" || s.Days != nil {
		t.Errorf("of backups is said %+v", s)
	}

	run, err := w.desk.Apply(t.Context(), org, false, nil)
	must(t, err)
	for _, c := range []struct {
		name string
		k    talk
		want string
	}{
		{"that of today", fresh, all},
		{"an open one", open, strings.Replace(all, "session, ", "", 1)},
		{"that of a month ago", month, strings.Replace(all, "session, ", "", 1)},
		{"that of a year ago", year, "agent, visitor, visitor key, conversation"},
		{"that of ages ago", ages, ""},
		{"a held one", held, strings.Replace(all, "session, ", "", 1)},
	} {
		if got := w.left(t, c.k); got != c.want {
			t.Errorf("of %s is left %q, want %q", c.name, got, c.want)
		}
	}
	_, facts := w.said(t, control.ActRun)
	for name, want := range map[string]string{"gone.transcript": "2", "held.transcript": "1", "late.transcript": "0", "gone.visitor": "1", "held.visitor": "1", "gone.conversation": "1", "gone.session": "3", "run.id": run.ID.String()} {
		if facts[name] != want {
			t.Errorf("the evidence says %s of %s, want %s", facts[name], name, want)
		}
	}
	if facts["oldest.transcript"] == "" || run.Done == nil || run.Act == nil {
		t.Errorf("the evidence says %v of %+v", facts, run)
	}

	// A hold wins over an erasure too, and says so.
	_, err = w.desk.Erase(t.Context(), w.operator, w.visitor(held), access.Grounds{})
	wants(t, err, control.ErrHeld)
	if !strings.Contains(err.Error(), hold.String()) {
		t.Errorf("the refusal says %v", err)
	}
	if n, facts := w.said(t, control.ActRefused); n != 1 || facts["erasure.holds"] != hold.String() {
		t.Errorf("%d refusals, the last says %v", n, facts)
	}
	_, err = w.desk.Erase(t.Context(), w.operator, w.conversation(held), access.Grounds{})
	wants(t, err, control.ErrHeld)
	_, err = w.desk.Erase(t.Context(), w.operator, w.agent(held), access.Grounds{})
	wants(t, err, control.ErrHeld)
	if got := w.left(t, held); got != strings.Replace(all, "session, ", "", 1) {
		t.Errorf("of a held one is left %q", got)
	}
	must(t, w.desk.LiftHold(t.Context(), w.operator, org, hold, access.Grounds{Justification: why}))
	wants(t, w.desk.LiftHold(t.Context(), w.operator, org, hold, access.Grounds{Justification: why}), control.ErrGone)
	if _, err = w.desk.Apply(t.Context(), org, false, nil); err != nil {
		t.Fatal(err)
	}
	if got := w.left(t, held); got != "" {
		t.Errorf("of one that is held no longer is left %q", got)
	}
	holds, err := w.desk.Holds(t.Context(), org, 10)
	must(t, err)
	if len(holds) != 1 || holds[0].Lifted == nil || !strings.Contains(holds[0].Why, "made-up case") {
		t.Errorf("the holds are %+v", holds)
	}
}

func TestAHoldCoversAWidgetAConversationOrATime(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	org := w.Organisation.ID
	k := w.talk(t, "alice", true)
	w.age(t, k, 100)
	day := func(n int) *time.Time { at := time.Now().AddDate(0, 0, -n); return &at }
	for _, c := range []struct {
		name string
		hold control.Hold
		held bool
	}{
		{"the widget", control.Hold{Kind: "widget", Subject: &w.Widget.ID}, true},
		{"the conversation", control.Hold{Kind: "conversation", Subject: &k.Conversation}, true},
		{"its agent", control.Hold{Kind: "person", Subject: &k.agent.ID}, true},
		{"its time", control.Hold{Kind: "range", Since: day(101), Until: day(99)}, true},
		{"everything", control.Hold{Kind: "range"}, true},
		{"a time after", control.Hold{Kind: "range", Since: day(99)}, false},
		{"the widget at a time before", control.Hold{Kind: "widget", Subject: &w.Widget.ID, Until: day(101)}, false},
	} {
		id, err := w.desk.PlaceHold(t.Context(), w.operator, org, c.hold, access.Grounds{})
		must(t, err)
		counts, err := w.desk.WhatIf(t.Context(), org, "transcript", 30)
		must(t, err)
		kept, err := w.desk.Kept(t.Context(), w.visitor(k))
		must(t, err)
		if (counts.Held == 1) != c.held || (len(kept.Holds) == 1) != c.held {
			t.Errorf("a hold on %s: %+v, %v", c.name, counts, kept.Holds)
		}
		if c.held {
			_, err = w.desk.Erase(t.Context(), w.operator, w.visitor(k), access.Grounds{})
			wants(t, err, control.ErrHeld)
		}
		must(t, w.desk.LiftHold(t.Context(), w.operator, org, id, access.Grounds{}))
	}
	// What is gone, or was never there, cannot be held.
	_, err := w.desk.Erase(t.Context(), w.operator, w.visitor(k), access.Grounds{})
	must(t, err)
	nobody := uuid.New()
	for _, h := range []control.Hold{{Kind: "person", Subject: &k.Visitor}, {Kind: "conversation", Subject: &k.Conversation}, {Kind: "widget", Subject: &nobody}, {Kind: "person", Subject: &nobody}} {
		_, err = w.desk.PlaceHold(t.Context(), w.operator, org, h, access.Grounds{})
		wants(t, err, control.ErrGone)
	}
}

func TestARunOfRetentionIsCarriedOnAndWaitsWhenTheClockLeapt(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	org, conn := w.Organisation.ID, w.DB.Superuser(t)
	for range 3 {
		w.age(t, w.talk(t, "alice", true), 500)
	}
	// It breaks off after the first class.
	_, err := w.desk.Apply(t.Context(), org, false, func(class string, _ int64) error {
		if class == "agent" {
			return control.ErrGone
		}
		return nil
	})
	wants(t, err, control.ErrGone)
	if n, _ := w.said(t, control.ActRun); n != 0 {
		t.Error("a run that broke off is on record as done")
	}
	run, err := w.desk.Apply(t.Context(), org, false, nil)
	must(t, err)
	if n, facts := w.said(t, control.ActRun); n != 1 || run.Gone["transcript"] != 3 || facts["gone.transcript"] != "3" || facts["gone.agent"] != "3" {
		t.Errorf("carried on it is %+v, recorded %d times, the last says %v", run, n, facts)
	}
	if n, _ := w.said(t, control.ActApply); n != 1 {
		t.Errorf("%d orders for one run", n)
	}
	// It breaks off, and the days change meanwhile: what went is on record, and a new run goes by the new days.
	_, err = w.desk.Apply(t.Context(), org, false, func(string, int64) error { return control.ErrGone })
	wants(t, err, control.ErrGone)
	must(t, w.desk.SetRetention(t.Context(), w.operator, org, "transcript", 500, time.Now().Add(-time.Minute), access.Grounds{}))
	_, err = w.desk.Apply(t.Context(), org, false, nil)
	must(t, err)
	if n, _ := w.said(t, control.ActRun); n != 3 {
		t.Errorf("%d runs are on record, want 3", n)
	}
	// Another that is begun meanwhile waits for it, and gives up.
	in, out := make(chan struct{}), make(chan struct{})
	var together sync.WaitGroup
	together.Go(func() {
		begun := sync.OnceFunc(func() { close(in) })
		_, err := w.desk.Apply(t.Context(), org, false, func(string, int64) error { begun(); <-out; return nil })
		if err != nil {
			t.Errorf("the first of two: %v", err)
		}
	})
	<-in
	impatient, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	_, err = w.desk.Apply(impatient, org, false, nil)
	cancel()
	wants(t, err, context.DeadlineExceeded)
	close(out)
	together.Wait()
	if n, _ := w.said(t, control.ActRun); n != 4 {
		t.Errorf("%d runs are on record, want 4", n)
	}
	for _, leap := range []string{"- interval '60 days'", "+ interval '90 days'"} {
		_, err = conn.Exec(t.Context(), "update control.run set began_at = now() "+leap)
		must(t, err)
		_, err = w.desk.Apply(t.Context(), org, false, nil)
		wants(t, err, control.ErrClock)
	}
	if _, err = w.desk.Apply(t.Context(), org, true, nil); err != nil {
		t.Errorf("confirmed: %v", err)
	}
}
