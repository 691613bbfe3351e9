package alerts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/alerts"
	"counterfoil/internal/demo"
	"counterfoil/internal/egress"
	"counterfoil/internal/jobs"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
)

// certificates is a directory with the certificate of the mail server of these tests, which counts as one of the system's.
var certificates string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cf-mail-")
	if err == nil {
		certificates = filepath.Join(dir, "cert.pem")
		err = errors.Join(makeCertificate(certificates), os.Setenv("SSL_CERT_FILE", certificates))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := pgtest.Run(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a log with a watch.
type world struct {
	*relaytest.World
	t        *testing.T
	watch    *alerts.Watch
	config   alerts.Config
	mu       sync.Mutex
	asked    []uuid.UUID // messages for which a job was asked
	operator principal.Operator
}

func newWorld(t *testing.T, change ...func(*alerts.Config)) *world {
	t.Helper()
	return over(t, relaytest.New(t, relaytest.Options{}), change...)
}

func over(t *testing.T, below *relaytest.World, change ...func(*alerts.Config)) *world {
	t.Helper()
	w := &world{World: below, t: t, operator: principal.NewOperator(below.Organisation.ID, "olga")}
	w.config = alerts.Config{
		Pool: w.Pool, Gate: w.Gate, Log: w.Log, Ring: w.Ring, Egress: egress.New(), URL: "https://console.example", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: time.Now,
		Wrap: func(next http.RoundTripper) http.RoundTripper { return next },
		Ask: func(_ context.Context, _ string, _, about uuid.UUID) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, about)
			return nil
		},
	}
	for _, c := range change {
		c(&w.config)
	}
	var err error
	w.watch, err = alerts.New(w.config)
	must(t, err)
	w.round() // from here on
	return w
}

// round lets the watch do all there is to do.
func (w *world) round() {
	w.t.Helper()
	for {
		err := w.watch.Round(w.t.Context())
		if errors.Is(err, jobs.Again) {
			continue
		}
		must(w.t, err)
		return
	}
}

// append records entries and gives the number of the first.
func (w *world) append(entries ...audit.Entry) uint64 {
	w.t.Helper()
	head, err := w.Log.Head(w.t.Context(), w.Organisation.ID)
	must(w.t, err)
	for chunk := range slices.Chunk(entries, 200) {
		drafts := make([]pglog.Draft, len(chunk))
		for i, e := range chunk {
			drafts[i] = pglog.Draft{Entry: e}
		}
		_, err := w.Log.Append(w.t.Context(), w.Organisation.ID, drafts...)
		must(w.t, err)
	}
	return head.Size
}

// ref is a reference that stands for somebody.
func ref(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	b := []byte("aaaaaaaaaaaaaaaa")
	for i := range b {
		b[i] = letters[(n>>(5*i))&31]
	}
	return string(b)
}

func party(kind string, n int) audit.Party { return audit.Party{Kind: kind, Ref: ref(n)} }

// shown is a disclosure within an open conversation.
func shown(actor, subject audit.Party) audit.Entry {
	return audit.Entry{Kind: audit.Disclosure, Action: "introduce_visitor_to_agent", Actor: actor, Subject: subject, Audience: "agent", Decision: audit.DecisionAllow,
		Fields: []string{"visitor_email"}, Facts: map[string]string{"conversation.state": "active"}}
}

func with(e audit.Entry, change func(*audit.Entry)) audit.Entry {
	e.Facts = map[string]string{"conversation.state": e.Facts["conversation.state"]}
	change(&e)
	return e
}

func (w *world) open() []alerts.Alert {
	w.t.Helper()
	all, err := w.watch.List(w.t.Context(), w.Organisation.ID, alerts.Open, 5000)
	must(w.t, err)
	return all
}

func (w *world) of(kind string) (found []alerts.Alert) {
	w.t.Helper()
	for _, a := range w.open() {
		if a.Kind == kind {
			found = append(found, a)
		}
	}
	return found
}

func (w *world) rule(kind string) alerts.Rule {
	w.t.Helper()
	all, err := w.watch.Rules(w.t.Context(), w.Organisation.ID)
	must(w.t, err)
	return all[slices.IndexFunc(all, func(r alerts.Rule) bool { return r.Kind == kind })]
}

// set changes a rule.
func (w *world) set(kind string, change func(*alerts.Rule)) {
	w.t.Helper()
	r := alerts.Rule{Kind: kind, On: true, Label: "of a test"}
	if kind != alerts.Count {
		r = w.rule(kind)
	}
	change(&r)
	must(w.t, w.watch.Put(w.t.Context(), w.operator, r))
}

// recorded gives the records of an action.
func (w *world) recorded(action string) (found []audit.Entry) {
	w.t.Helper()
	head, err := w.Log.Head(w.t.Context(), w.Organisation.ID)
	must(w.t, err)
	for body, err := range w.Log.Entries(w.t.Context(), w.Organisation.ID, 0, head.Size) {
		must(w.t, err)
		e, err := audit.ParseEntry(body)
		must(w.t, err)
		if e.Action == action {
			found = append(found, e)
		}
	}
	return found
}

// says expects words in both languages.
func says(t *testing.T, a alerts.Alert, en, fr string) {
	t.Helper()
	if got := a.Why("en"); !strings.Contains(got, en) {
		t.Errorf("%s says %q, not %q", a.Kind, got, en)
	}
	if got := a.Why("fr"); !strings.Contains(got, fr) {
		t.Errorf("%s says %q, not %q", a.Kind, got, fr)
	}
}

func TestEachRuleFindsWhatItIsForAndSaysWhy(t *testing.T) {
	admin, agent, visitor := party("admin", 1), party("agent", 2), party("visitor", 3)
	// Each begins with a log of its own, which has known the admin for a while.
	for _, c := range []struct {
		kind    string
		set     func(*alerts.Rule)
		entries func() []audit.Entry
		records []int // of the alert, counted from the first of the entries
		en, fr  string
	}{
		{alerts.FirstPair, nil, func() []audit.Entry {
			return []audit.Entry{shown(admin, visitor), shown(admin, visitor), shown(agent, visitor)}
		}, []int{0}, "was shown visitor " + ref(3)[:5] + ", for the first time within 90 days", "a vu visiteur " + ref(3)[:5] + ", pour la première fois en 90 jours"},
		{alerts.Volume, func(r *alerts.Rule) { r.Terms.AtLeast = 3 }, func() []audit.Entry {
			return slices.Repeat([]audit.Entry{shown(agent, visitor)}, 4)
		}, []int{0, 1, 2}, "3 people within one hour; he was shown nobody in the 30 days before, and the rule begins at 3", "n’en avait vu aucune"},
		{alerts.OffHours, func(r *alerts.Rule) {
			from := time.Now().UTC().Add(2 * time.Hour)
			if from.Hour() > 21 {
				from = from.Add(-12 * time.Hour)
			}
			r.On, r.Terms.From, r.Terms.To, r.Terms.Weekends = true, from.Format("15:04"), from.Add(time.Hour).Format("15:04"), true
		}, func() []audit.Entry { return []audit.Entry{shown(agent, visitor), shown(agent, party("visitor", 4))} }, []int{0, 1}, "(UTC); the hours of work are", "les heures de travail sont de"},
		{alerts.NewAddress, nil, func() []audit.Entry {
			at := func(n int) audit.Entry {
				return audit.Entry{Kind: audit.Administration, Action: "sign_in.password", Actor: admin, Address: ref(n), AddressNet: ref(n + 1)}
			}
			return []audit.Entry{at(100), at(100), at(200), at(200)}
		}, []int{2}, "came from an address from which he did not come in the 90 days before", "d’où il n’était pas venu"},
		{alerts.ManySubjects, func(r *alerts.Rule) { r.Terms.AtLeast = 3 }, func() []audit.Entry {
			return []audit.Entry{shown(agent, party("visitor", 10)), shown(agent, party("visitor", 10)), shown(agent, party("visitor", 11)), shown(agent, party("visitor", 11)), shown(agent, party("visitor", 12))}
		}, []int{0, 2, 4}, "3 different people within 10 minutes; the rule begins at 3", "3 personnes différentes en 10 minutes"},
		{alerts.NoChat, nil, func() []audit.Entry {
			return []audit.Entry{shown(agent, visitor), with(shown(agent, visitor), func(e *audit.Entry) { e.Facts["conversation.state"] = "closed" })}
		}, []int{1}, "while no conversation waited or was open", "sans conversation en attente ni ouverte"},
		{alerts.Canary, func(r *alerts.Rule) { r.Terms.Subjects = []string{ref(77)} }, func() []audit.Entry {
			return []audit.Entry{shown(agent, visitor), with(shown(agent, party("visitor", 77)), func(e *audit.Entry) { e.Kind, e.Decision, e.Reasons = audit.Denial, audit.DecisionDeny, []string{"x"} })}
		}, []int{1}, "who was planted and does not exist", "témoin qui n’existe pas"},
		{alerts.Canary, nil, func() []audit.Entry { // a scan that is clean is none
			scan := func(found, unread string) audit.Entry {
				return audit.Entry{Kind: audit.Administration, Action: "canary.scan", Actor: party("job", 9), Decision: audit.DecisionAllow, Facts: map[string]string{"planted": "9", "found": found, "unread": unread}}
			}
			return []audit.Entry{scan("0", "0"), scan("3", "1"), scan("0", "0")}
		}, []int{1}, "found 3 values where none may lie, and could not search 1 places", "a trouvé 3 valeurs"},
		{alerts.BreakGlass, nil, func() []audit.Entry {
			return []audit.Entry{with(shown(admin, visitor), func(e *audit.Entry) { e.Action = "break_glass" })}
		}, []int{0}, "in an emergency to which a second person consented", "dans une urgence acceptée"},
		{alerts.Denials, func(r *alerts.Rule) { r.Terms.AtLeast = 2 }, func() []audit.Entry {
			no := with(shown(agent, visitor), func(e *audit.Entry) { e.Kind, e.Decision, e.Reasons = audit.Denial, audit.DecisionDeny, []string{"x"} })
			return []audit.Entry{no, shown(agent, visitor), no, no}
		}, []int{0, 2}, "Policy refused agent " + ref(2)[:5] + " 2 times within 10 minutes; the rule begins at 2", "2 fois en 10 minutes"},
		{alerts.Count, func(r *alerts.Rule) {
			r.Terms = alerts.Terms{Filter: "action:widget.create,widget.remove", AtLeast: 2, Minutes: 5}
		}, func() []audit.Entry {
			return []audit.Entry{{Kind: audit.Administration, Action: "widget.create", Actor: admin}, shown(agent, visitor), {Kind: audit.Administration, Action: "widget.remove", Actor: admin}}
		}, []int{0, 2}, "answer the search action:widget.create,widget.remove within 5 minutes: 2; the rule begins at 2", "en 5 minutes : 2 ;"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.append(audit.Entry{Kind: audit.Administration, Action: "sign_in.password", Actor: admin, Address: ref(100), AddressNet: ref(101)})
			if c.kind == alerts.Canary { // handles are of people whom the log knows
				w.append(shown(agent, party("visitor", 77)))
			}
			w.round()
			if c.set != nil {
				w.set(c.kind, c.set)
				w.round()
			}
			before := len(w.of(c.kind))
			first := w.append(c.entries()...)
			w.round()
			found := w.of(c.kind)
			if len(found) != before+1 {
				t.Fatalf("%d alerts: %+v", len(found)-before, found)
			}
			var want []uint64
			for _, i := range c.records {
				want = append(want, first+uint64(i))
			}
			if !slices.Equal(found[0].Records, want) {
				t.Errorf("it names the records %v, want %v", found[0].Records, want)
			}
			says(t, found[0], c.en, c.fr)
			for _, e := range w.recorded("alert.raise") {
				if e.Facts["alert"] == found[0].ID.String() && e.Facts["rule.kind"] == c.kind && e.Actor.Kind == "job" {
					return
				}
			}
			t.Error("it does not stand in the log")
		})
	}
}

func TestVolumeIsComparedWithHisOwnHours(t *testing.T) {
	if left := time.Until(time.Now().Truncate(time.Hour).Add(time.Hour)); left < 30*time.Second { // what follows happens within one hour of the clock
		time.Sleep(left)
	}
	below := relaytest.New(t, relaytest.Options{})
	agent := party("agent", 2)
	then := time.Now().AddDate(0, 0, -10).UTC().Truncate(time.Hour)
	var past []audit.Entry
	for i := range 5 { // in one hour of ten days ago
		e := shown(agent, party("visitor", 3))
		e.Time, e.Seq, e.Organisation, e.Nonce = then.Add(time.Duration(i)*time.Minute), uint64(i), below.Organisation.ID.String(), [16]byte{byte(i + 1)}
		past = append(past, e)
	}
	key, err := audit.NewKey(make([]byte, 32))
	must(t, err)
	must(t, demo.Write(t.Context(), below.DB.Superuser(t), key, below.Organisation.ID, past))
	w := over(t, below)
	w.set(alerts.Volume, func(r *alerts.Rule) { r.Terms.AtLeast = 2 })
	w.append(slices.Repeat([]audit.Entry{shown(agent, party("visitor", 3))}, 5)...)
	w.round()
	if all := w.of(alerts.Volume); len(all) != 0 {
		t.Errorf("as much as he is used to makes alerts: %+v", all)
	}
	w.append(slices.Repeat([]audit.Entry{shown(agent, party("visitor", 3))}, 3)...)
	w.round()
	found := w.of(alerts.Volume)
	if len(found) != 1 || found[0].Numbers.N != 6 {
		t.Fatalf("%+v", found)
	}
	says(t, found[0], "6 people within one hour; in 99 of 100 of his hours of the 30 days before (1 are known) it were 5 at most, and the rule begins at 6", "il y en avait 5 au plus, et la règle commence à 6")
}

// The same cause makes one alert, whichever node comes there and wherever one breaks off, and each stands in the log.
func TestAlertsAreRaisedOnceByManyNodesAndAfterABreak(t *testing.T) {
	w := newWorld(t)
	agent := party("agent", 2)
	for i := range 40 {
		w.append(with(shown(agent, party("visitor", 100+i)), func(e *audit.Entry) { e.Facts["conversation.state"] = "" }))
	}
	var nodes sync.WaitGroup
	for range 4 {
		node, err := alerts.New(w.config)
		must(t, err)
		nodes.Go(func() {
			for range 5 {
				if err := node.Round(t.Context()); err != nil && !errors.Is(err, jobs.Again) {
					t.Error(err)
				}
			}
		})
	}
	nodes.Wait()
	if n := len(w.of(alerts.NoChat)); n != 40 {
		t.Errorf("%d alerts of 40 causes", n)
	}
	// A node that broke off after raising, before recording, and one that knows nothing of what was raised.
	conn := w.DB.Superuser(t)
	lost := w.of(alerts.NoChat)[0].ID
	_, err := conn.Exec(t.Context(), "update console.alert set recorded = false where alert_id = $1", lost)
	must(t, err)
	_, err = conn.Exec(t.Context(), "update console.alert_cursor set next = 3")
	must(t, err)
	w.round()
	if n := len(w.of(alerts.NoChat)); n != 40 {
		t.Errorf("%d alerts once the records are read again", n)
	}
	times := make(map[string]int)
	for _, e := range w.recorded("alert.raise") {
		times[e.Facts["alert"]]++
	}
	for _, a := range w.of(alerts.NoChat) {
		if times[a.ID.String()] == 0 {
			t.Errorf("alert %s does not stand in the log", a.ID)
		}
	}
}

func TestTheWatchIsLetInByPolicyOnRecordAndDoesNotFeedItself(t *testing.T) {
	w := newWorld(t)
	w.append(shown(party("agent", 2), party("visitor", 3)))
	w.round()
	head, err := w.Log.Head(t.Context(), w.Organisation.ID)
	must(t, err)
	for range 5 {
		w.round()
	}
	again, err := w.Log.Head(t.Context(), w.Organisation.ID)
	must(t, err)
	if head.Size != again.Size {
		t.Errorf("with nothing new it writes %d records", again.Size-head.Size)
	}
	if all := w.recorded("alert.watch"); len(all) != 1 || all[0].Decision != audit.DecisionAllow || all[0].Rule != "raise_alerts.job" {
		t.Errorf("its reading is recorded as %+v", all)
	}
	for range 3 { // new records within the hour cost no further one
		w.append(shown(party("agent", 2), party("visitor", 3)))
		w.round()
	}
	if n := len(w.recorded("alert.watch")); n != 1 {
		t.Errorf("%d records within the hour", n)
	}
	_, err = w.DB.Superuser(t).Exec(t.Context(), "update console.alert_cursor set decided_at = now() - interval '61 minutes'")
	must(t, err)
	w.round()
	if n := len(w.recorded("alert.watch")); n != 1 {
		t.Error("with nothing to read it asks all the same")
	}
	w.append(shown(party("agent", 2), party("visitor", 3)))
	w.round()
	if n := len(w.recorded("alert.watch")); n != 2 {
		t.Errorf("%d records after the hour", n)
	}

	engine, err := relaytest.PolicyWith(t.Context(), "raise_alerts.rego", "package counterfoil.purposes.raise_alerts\n\nterms := {\"actors\": {\"job\"}, \"audiences\": {\"service\"}, \"subjects\": {\"\"}, \"fields\": set()}\n")
	must(t, err)
	denied := relaytest.New(t, relaytest.Options{Policy: engine})
	config := w.config
	config.Pool, config.Gate, config.Log, config.Ring = denied.Pool, denied.Gate, denied.Log, denied.Ring
	node, err := alerts.New(config)
	must(t, err)
	must(t, node.Round(t.Context()))
	d := world{World: denied, t: t, watch: node}
	d.append(with(shown(party("agent", 2), party("visitor", 3)), func(e *audit.Entry) { e.Facts["conversation.state"] = "" }))
	if err := node.Round(t.Context()); !errors.Is(err, access.ErrDenied) {
		t.Errorf("policy says no, and the watch: %v", err)
	}
	if len(d.open()) != 0 {
		t.Error("it read what it may not")
	}
}

func TestRulesAreKeptChangedSilencedAndRemovedOnRecord(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for name, r := range map[string]alerts.Rule{
		"no kind":               {Kind: "magic"},
		"no number":             {Kind: alerts.Denials, Terms: alerts.Terms{Minutes: 5, Actors: []string{"agent"}}},
		"no time":               {Kind: alerts.Denials, Terms: alerts.Terms{AtLeast: 5, Actors: []string{"agent"}}},
		"too long":              {Kind: alerts.Denials, Terms: alerts.Terms{AtLeast: 5, Minutes: 1441, Actors: []string{"agent"}}},
		"nobody":                {Kind: alerts.Denials, Terms: alerts.Terms{AtLeast: 5, Minutes: 5}},
		"somebody unknown":      {Kind: alerts.Denials, Terms: alerts.Terms{AtLeast: 5, Minutes: 5, Actors: []string{"ghost"}}},
		"hours without a place": {Kind: alerts.OffHours, Terms: alerts.Terms{From: "08:00", To: "17:00", Zone: "Moon/Base", Actors: []string{"agent"}}},
		"hours the wrong way":   {Kind: alerts.OffHours, Terms: alerts.Terms{From: "18:00", To: "17:00", Zone: "Europe/Paris", Actors: []string{"agent"}}},
		"no name":               {Kind: alerts.Count, Terms: alerts.Terms{Filter: "kind:denial", AtLeast: 1, Minutes: 5}},
		"a filter with a time":  {Kind: alerts.Count, Label: "x", Terms: alerts.Terms{Filter: "since:-1h", AtLeast: 1, Minutes: 5}},
		"a filter that is none": {Kind: alerts.Count, Label: "x", Terms: alerts.Terms{Filter: "colour:red", AtLeast: 1, Minutes: 5}},
	} {
		if err := w.watch.Put(ctx, w.operator, r); err == nil {
			t.Errorf("%s is kept", name)
		}
	}
	w.set(alerts.Count, func(r *alerts.Rule) {
		r.Label, r.Terms = "Widgets", alerts.Terms{Filter: "action:widget.create", AtLeast: 1, Minutes: 5}
	})
	own := w.rule(alerts.Count)
	if own.Label != "Widgets" || own.Version != 1 {
		t.Fatalf("kept as %+v", own)
	}
	raise := func() int {
		w.append(audit.Entry{Kind: audit.Administration, Action: "widget.create", Actor: party("admin", 1)})
		w.round()
		return len(w.of(alerts.Count))
	}
	if n := raise(); n != 1 {
		t.Fatalf("%d alerts", n)
	}
	// Changed meanwhile: what was raised keeps the terms as they stood.
	own.Terms.Minutes = 7
	must(t, w.watch.Put(ctx, w.operator, own))
	must(t, w.watch.Silence(ctx, w.operator, own.ID, time.Hour))
	if err := w.watch.Silence(ctx, w.operator, own.ID, 31*24*time.Hour); !errors.Is(err, alerts.ErrTerms) {
		t.Errorf("silenced for ever: %v", err)
	}
	if r := w.rule(alerts.Count); !r.Quiet(time.Now()) || r.Quiet(time.Now().Add(2*time.Hour)) || r.By.Kind != "operator" || r.Version != 2 {
		t.Errorf("silenced: %+v", r)
	}
	if n := raise(); n != 2 {
		t.Fatalf("a silenced rule raises %d alerts", n)
	}
	all := w.of(alerts.Count)
	if !all[0].Silenced || all[1].Silenced || all[0].Terms.Minutes != 7 || all[1].Terms.Minutes != 5 || all[1].Version != 1 {
		t.Errorf("%+v", all)
	}
	must(t, w.watch.Silence(ctx, w.operator, own.ID, 0))
	if w.rule(alerts.Count).Quiet(time.Now()) {
		t.Error("it is not heard again")
	}
	must(t, w.watch.Silence(ctx, w.operator, w.rule(alerts.NoChat).ID, time.Hour)) // one that is built in
	if r := w.rule(alerts.NoChat); !r.Quiet(time.Now()) || !r.On || len(r.Terms.Actors) == 0 {
		t.Errorf("a built-in rule, silenced: %+v", r)
	}
	if err := w.watch.Remove(ctx, w.operator, w.rule(alerts.NoChat).ID); !errors.Is(err, alerts.ErrTerms) {
		t.Errorf("a built-in rule is removed: %v", err)
	}
	must(t, w.watch.Remove(ctx, w.operator, own.ID))
	if n := raise(); n != 2 {
		t.Errorf("a removed rule raises alerts: %d", n)
	}
	n, err := w.watch.Acknowledge(ctx, w.operator, "It was the move to the new site.", all[0].ID, all[1].ID)
	if err != nil || n != 2 {
		t.Errorf("acknowledged %d: %v", n, err)
	}
	if n, err := w.watch.Acknowledge(ctx, w.operator, "It was the move to the new site.", all[0].ID); err != nil || n != 0 {
		t.Errorf("acknowledged twice: %d %v", n, err)
	}
	if _, err := w.watch.Acknowledge(ctx, w.operator, "ok", all[0].ID); !errors.Is(err, access.ErrReason) {
		t.Errorf("acknowledged without a word: %v", err)
	}
	seen, err := w.watch.These(ctx, w.Organisation.ID, all[0].ID)
	must(t, err)
	if len(seen) != 1 || seen[0].Acked == nil || seen[0].AckedBy.Kind != "operator" || seen[0].Reason == uuid.Nil {
		t.Errorf("%+v", seen)
	}
	for action, n := range map[string]int{"alert.rule": 2, "alert.silence": 2, "alert.hear": 1, "alert.rule_remove": 1, "alert.acknowledge": 2} {
		if got := w.recorded(action); len(got) != n || got[0].Decision != audit.DecisionAllow {
			t.Errorf("%d records of %s, want %d: %+v", len(got), action, n, got)
		}
	}
	stranger := principal.NewJob(w.Organisation.ID, "archive")
	if err := w.watch.Put(ctx, stranger, w.rule(alerts.Denials)); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a job changes a rule: %v", err)
	}
	if _, err := w.watch.Acknowledge(ctx, stranger, "It is nothing at all.", all[0].ID); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a job acknowledges: %v", err)
	}
}
