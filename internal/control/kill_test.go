package control_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/control"
	"counterfoil/internal/pg"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/policy"
)

var kills = flag.Int("kills", 3, "how often a run of retention, and an erasure, are killed on the way")

// childEnv says what a child of this test does: retention, or an erasure by its id.
const childEnv = "COUNTERFOIL_TEST_CHILD"

// beKilled is a process of its own that applies retention or carries on with an erasure, and says each part.
func beKilled(what string) error {
	ctx := context.Background()
	pool, err := pg.Open(ctx, pg.Config{URL: os.Getenv("COUNTERFOIL_TEST_SERVICE"), MaxConns: 4, TracerProvider: noop.NewTracerProvider()})
	if err != nil {
		return err
	}
	eraser, err := pg.Open(ctx, pg.Config{URL: os.Getenv("COUNTERFOIL_TEST_RETENTION"), MaxConns: 2, TracerProvider: noop.NewTracerProvider()})
	if err != nil {
		return err
	}
	ring, errRing := keyring.LoadOrCreate(os.Getenv("COUNTERFOIL_TEST_KEK"))
	key, errKey := audit.NewKey(make([]byte, 32)) // the keys are those of relaytest
	decisions, errDecisions := pglog.NewDecisionKey([]byte(strings.Repeat("d", 32)))
	engine, errPolicy := policy.New(ctx)
	organisation, errID := uuid.Parse(os.Getenv("COUNTERFOIL_TEST_ORGANISATION"))
	if err := errors.Join(errRing, errKey, errDecisions, errPolicy, errID); err != nil {
		return err
	}
	desk := control.New(pool, eraser, access.New(access.Config{
		Policy: engine, Log: pglog.New(pool, key, decisions), Ring: ring, Pool: pool, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Tracer: noop.NewTracerProvider(),
		Standing: func(context.Context, uuid.UUID, bool) error { return nil },
	}))
	if what == "retention" {
		_, err := desk.Apply(ctx, organisation, false, func(class string, gone int64) error { _, err := fmt.Println(class, gone); return err })
		return err
	}
	_, err = desk.Resume(ctx, organisation, uuid.MustParse(what), func(e control.Erasure) error { _, err := fmt.Println(e.Fields); return err })
	return err
}

func (w world) child(what string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+what, "COUNTERFOIL_TEST_SERVICE="+w.DB.URL("counterfoil_service"), "COUNTERFOIL_TEST_RETENTION="+w.DB.URL("counterfoil_retention"),
		"COUNTERFOIL_TEST_KEK="+w.KEK, "COUNTERFOIL_TEST_ORGANISATION="+w.Organisation.ID.String())
	cmd.Stderr = os.Stderr
	return cmd
}

// killed runs a child again and again and kills it with kill -9 after some part, nobody knows which, and then lets two at once finish.
func (w world) killed(t *testing.T, what, done string) {
	t.Helper()
	before, _ := w.said(t, done)
	for range *kills {
		cmd := w.child(what)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 1 + rand.N(4) {
			lines.Scan()
		}
		time.Sleep(rand.N(20 * time.Millisecond)) // somewhere within the next part
		must(t, cmd.Process.Kill())
		if err := cmd.Wait(); err == nil {
			t.Fatalf("%s was over before it was killed: make more to do", what)
		}
		if n, _ := w.said(t, done); n != before {
			t.Fatalf("%s was killed on the way and is on record as done", what)
		}
	}
	one, other := w.child(what), w.child(what)
	must(t, one.Start())
	must(t, other.Start())
	if err := errors.Join(one.Wait(), other.Wait()); err != nil {
		t.Errorf("two at once: %v", err)
	}
}

// Retention and an erasure are killed with kill -9 at random places and run again, two at once: what went is counted once, nothing is on record as done
// before all of it is, and whoever died keeps nobody from carrying on.
func TestRetentionAndErasureAreCarriedOnAfterKillNine(t *testing.T) {
	w := newWorld(t, relaytest.Options{})
	org := w.Organisation.ID
	k, other := w.talk(t, "alice", true), w.talk(t, "bob", true)
	made := 1500 * *kills
	must(t, relaytest.Past{Organisation: org, Widget: w.Widget.ID, Visitor: k.Visitor, Agents: []uuid.UUID{k.agent.ID}, Conversations: made, Days: 395}.Make(t.Context(), w.DB.Superuser(t)))
	must(t, w.desk.SetRetention(t.Context(), w.operator, org, "transcript", 30, time.Time{}, access.Grounds{}))

	w.killed(t, "retention", control.ActRun)
	runs, err := w.desk.Runs(t.Context(), org, 10)
	must(t, err)
	var gone int64
	for _, run := range runs {
		if run.Done == nil {
			t.Errorf("a run is left open: %+v", run)
		}
		gone += run.Gone["transcript"]
	}
	recorded, _ := w.said(t, control.ActRun)
	if went := w.count(t, "select count(*) from chat.conversation where transcript_gone_at is not null"); went == 0 || gone != int64(went) || recorded != len(runs) {
		t.Errorf("%d runs, of which %d are on record, count %d transcripts; %d are gone", len(runs), recorded, gone, went)
	}
	if late := w.count(t, "select count(*) from chat.event e join chat.conversation c using (organisation_id, conversation_id) where c.closed_at < now() - interval '30 days'"); late != 0 {
		t.Errorf("%d events are older than they may be", late)
	}

	values := w.count(t, "select count(*) from euii.value where subject_id = $1", k.agent.ID)
	id, err := w.desk.OrderErasure(t.Context(), w.operator, w.agent(k), access.Grounds{})
	must(t, err)
	w.killed(t, id.String(), control.ActErased)
	e, err := w.desk.Erasure(t.Context(), org, id)
	must(t, err)
	if n, facts := w.said(t, control.ActErased); n != 1 || e.Done == nil || e.Fields != int64(values) || facts["erased.fields"] != number(values) {
		t.Errorf("of %d values the erasure says %+v, certified %d times, the last says %v", values, e, n, facts)
	}
	if left := w.count(t, "select count(*) from euii.value where subject_id = $1", k.agent.ID); left != 0 {
		t.Errorf("%d values of him are left", left)
	}
	if left := w.count(t, "select count(*) from euii.value where subject_id = $1", other.agent.ID); left == 0 {
		t.Error("another agent went with him")
	}
	report, err := w.Log.Verify(t.Context(), org, audit.Options{})
	if err != nil || len(report.Faults) > 0 {
		t.Errorf("afterwards the log has %+v, %v", report.Faults, err)
	}
}

func number(n int) string { return fmt.Sprint(n) }
