package access_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/internal/access"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/policy"
)

// limited is the built-in policy with another limit for visitors, and none for others.
func limited(t *testing.T, visitors int) *policy.Engine {
	t.Helper()
	return engineWith(t, "limits.rego", fmt.Sprintf(`package counterfoil

veto contains "volume_limit" if {
	input.actor.kind == "visitor"
	input.actor.recent >= %d
}
`, visitors))
}

func (s scene) shown(t *testing.T, readers access.Readers) error {
	t.Helper()
	_, err := readers.AgentToVisitor.Read(t.Context(), s.visitor(), s.Scene, s.Agent.ID, s.Session.Conversation)
	return err
}

// gate is another one over the same database, as on another node.
func (s scene) gate(engine *policy.Engine, now func() time.Time) *access.Gate {
	return access.New(access.Config{
		Policy: engine, Log: s.Log, Ring: s.Ring, Pool: s.Pool, Now: now, Logger: slog.New(slog.DiscardHandler), Tracer: noop.NewTracerProvider(),
	})
}

// isVolume fails unless the denial says that too much was disclosed.
func isVolume(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, access.ErrDenied) || !strings.Contains(err.Error(), "volume_limit") {
		t.Errorf("got %v, want a denial for volume", err)
	}
}

func TestWhoWasShownAsMuchAsHisKindMayIsShownNoMore(t *testing.T) {
	s := newScene(t, relaytest.Options{Policy: limited(t, 3)})
	for range 3 {
		must(t, s.shown(t, s.Readers))
	}
	for range 3 {
		isVolume(t, s.shown(t, s.Readers))
	}
	n, last := denials(t, s.World)
	if n != 3 || !slices.Equal(last.Reasons, []string{"volume_limit"}) || last.Facts["actor.recent"] != "3" {
		t.Errorf("%d denials, the last for %v with %v", n, last.Reasons, last.Facts)
	}
	// Others are counted by themselves, and what is denied does not count.
	other := sceneOf(t, s.World, "bob")
	other.Scene.Conversation.State = "waiting"
	for range 5 {
		if err := other.shown(t, s.Readers); !errors.Is(err, access.ErrDenied) || strings.Contains(err.Error(), "volume_limit") {
			t.Errorf("another visitor in the wrong state: %v", err)
		}
	}
	must(t, other.now(t).shown(t, s.Readers))
}

func TestALimitOfZeroOrBelowLetsNothingThrough(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	for _, limit := range []int{0, -1} {
		isVolume(t, s.shown(t, s.gate(limited(t, limit), time.Now).Readers()))
	}
}

func TestOfManyWhoAskAtOnceNoMoreThanTheLimitAreAnswered(t *testing.T) {
	s := newScene(t, relaytest.Options{Policy: limited(t, 5)})
	var answered atomic.Int32
	var wait sync.WaitGroup
	for range 40 {
		wait.Go(func() {
			if err := s.shown(t, s.Readers); err == nil {
				answered.Add(1)
			} else if !errors.Is(err, access.ErrDenied) {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if n := answered.Load(); n != 5 {
		t.Errorf("%d were answered, the limit is 5", n)
	}
}

func TestTheCountOfDisclosuresIsThatOfTheLog(t *testing.T) {
	engine := limited(t, 4)
	s := newScene(t, relaytest.Options{Policy: engine})
	later := time.Now()
	node := s.gate(engine, func() time.Time { return later }).Readers()

	must(t, s.shown(t, s.Readers))
	must(t, s.shown(t, s.Readers))
	must(t, s.shown(t, node)) // it starts with what the first one recorded
	must(t, s.shown(t, s.Readers))
	later = later.Add(time.Minute) // and looks again
	isVolume(t, s.shown(t, node))

	var before int
	who := s.Entries(t)[0].Actor.Ref
	must(t, s.Pool.QueryRow(t.Context(), "select access.disclosures_to($1, $2, 3600)", s.Organisation.ID, who).Scan(&before))
	if before != 4 {
		t.Errorf("%d are counted before they are searchable, recorded are 4", before)
	}
	must(t, s.Log.Index(t.Context()))
	asSuperuser(t, s.World, "select audit.ensure_months((now() - interval '2 hours')::date, 1)",
		fmt.Sprintf(`insert into audit.search (organisation_id, seq, at, kind, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, address_net)
		select '%s', 1000 + i, clock_timestamp() - make_interval(mins => 40 + 10 * i), case when i = 1 then 'denial' else 'disclosure' end, 'x', 'allow', '%s', '', '', '', ''
		from generate_series(0, 4) i`, s.Organisation.ID, who))
	var after int
	must(t, s.Pool.QueryRow(t.Context(), "select access.disclosures_to($1, $2, 3600)", s.Organisation.ID, who).Scan(&after))
	if after != before+1 {
		t.Errorf("of one within the hour, a denial and three before it, %d are counted", after-before)
	}
}
