package demo_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/demo"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/policy"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func month(t *testing.T, w *relaytest.World) []audit.Entry {
	t.Helper()
	engine, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := demo.Month(t.Context(), engine, w.Organisation.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestAMadeUpMonthSaysOfEachRecordThatItIs(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	entries := month(t, w)
	if n := demo.Made(entries[0]); n != uint64(len(entries)) || n < 3000 {
		t.Errorf("the first record says that %d were made up, of %d", n, len(entries))
	}
	seen := make(map[string]int)
	for i, e := range entries {
		if e.Facts[demo.Fact] != demo.Value {
			t.Fatalf("record %d passes for real: %+v", i, e)
		}
		if i > 0 && e.Time.Before(entries[i-1].Time) || e.Time.After(time.Now()) || e.Seq != uint64(i) {
			t.Fatalf("record %d is out of place: %s after %s", e.Seq, e.Time, entries[max(0, i-1)].Time)
		}
		seen[e.Decision]++
		seen[string(e.Kind)]++
		seen[e.Action]++
	}
	for _, what := range []string{"allow", "deny", "disclosure", "collection", "denial", "administration", "reveal_to_admin", "scan_for_canaries", "sign_in.password_refused", "show_agent_to_visitor"} {
		if seen[what] == 0 {
			t.Errorf("nothing is %s in a month: %v", what, seen)
		}
	}
	if real := (audit.Entry{Action: "organisation.create"}); demo.Made(real) != 0 || demo.Made(audit.Entry{Action: demo.Action}) != 0 {
		t.Error("a real log passes for a made-up one")
	}
}

func TestPolicyDecidesOnAMadeUpQuestionAsItsRecordSays(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	engine, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range month(t, w)[:1500] {
		in, err := access.InputOf(e)
		if errors.Is(err, access.ErrUndecided) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := engine.Decide(t.Context(), in)
		if err != nil || string(d.Outcome()) != e.Decision || d.Rule() != e.Rule || len(e.Reasons) > 0 && !slices.Equal(d.Reasons(), e.Reasons) {
			t.Fatalf("record %d says %s by %s, and policy %s by %s (%v)", e.Seq, e.Decision, e.Rule, d.Outcome(), d.Rule(), err)
		}
	}
}

func TestAMadeUpMonthVerifiesAndRealRecordsContinueIt(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	entries := month(t, w)
	key, err := audit.NewKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	owner := w.DB.Superuser(t)
	if err := demo.Write(t.Context(), owner, key, w.Organisation.ID, entries); err != nil {
		t.Fatal(err)
	}
	if err := w.Gate.Act(t.Context(), principal.NewOperator(w.Organisation.ID, "root"), policy.Administer, w.Organisation.ID, "organisation.create", nil); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := w.Log.Export(t.Context(), w.Organisation.ID, dir); err != nil {
		t.Fatal(err)
	}
	signer, err := key.For(w.Organisation.Origin)
	if err != nil {
		t.Fatal(err)
	}
	r, err := audit.VerifyExport(t.Context(), os.DirFS(dir), audit.Options{Key: signer.VerifierKey()})
	if err != nil || len(r.Faults) > 0 || r.Records != uint64(len(entries))+1 {
		t.Errorf("%d records of %d, faults %v, %v", r.Records, len(entries)+1, r.Faults, err)
	}
	if r, err = w.Log.Verify(t.Context(), w.Organisation.ID, audit.Options{}); err != nil || len(r.Faults) > 0 {
		t.Errorf("where it lies: %v, %v", r.Faults, err)
	}
	if err := demo.Write(t.Context(), owner, key, w.Organisation.ID, entries); !errors.Is(err, demo.ErrNotEmpty) {
		t.Errorf("records were made up behind real ones: %v", err)
	}
}

func TestTheServiceCannotMakeUpRecords(t *testing.T) {
	w := relaytest.New(t, relaytest.Options{})
	key, err := audit.NewKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := w.Pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if err := demo.Write(t.Context(), conn.Conn(), key, w.Organisation.ID, month(t, w)); err == nil || errors.Is(err, demo.ErrNotEmpty) {
		t.Errorf("the service's role wrote the past: %v", err)
	}
}
