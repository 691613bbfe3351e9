package access_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
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
		Standing: func(context.Context, uuid.UUID, bool) error { return nil },
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
	limit := 2*access.Unread + 10
	engine := limited(t, limit)
	s := newScene(t, relaytest.Options{Policy: engine})
	later := time.Now()
	node := s.gate(engine, func() time.Time { return later })
	readers := node.Readers()
	until := func(readers access.Readers) (n int) {
		for ; n <= limit; n++ {
			if err := s.shown(t, readers); err != nil {
				isVolume(t, err)
				return n
			}
		}
		return n
	}

	// Another node looks into the log once it has released a few, and finds that others released as much as may be.
	for range limit - 5 {
		must(t, s.shown(t, s.Readers))
	}
	if n := until(readers); n != access.Unread {
		t.Errorf("another node released %d, before it looks they are %d", n, access.Unread)
	}
	// The first one looks again after a minute, and meanwhile knows only what it released itself.
	if n := until(s.Readers); n != 5 {
		t.Errorf("the first node released %d more, up to the limit they are 5", n)
	}

	// What is not searchable yet is counted like what is; what is older than an hour, or no disclosure, is not.
	who := s.Entries(t)[0].Actor.Ref
	counted := func(who string) (n int) {
		must(t, s.Pool.QueryRow(t.Context(), "select access.disclosures_to($1, $2, 3600)", s.Organisation.ID, who).Scan(&n))
		return n
	}
	if n := counted(who); n != limit+access.Unread {
		t.Errorf("%d are counted before they are searchable, recorded are %d", n, limit+access.Unread)
	}
	must(t, s.Log.Index(t.Context()))
	if n := counted(who); n != limit+access.Unread {
		t.Errorf("%d are counted when they are searchable, recorded are %d", n, limit+access.Unread)
	}
	asSuperuser(t, s.World, "select audit.ensure_months((now() - interval '2 hours')::date, 1)",
		fmt.Sprintf(`insert into audit.search (organisation_id, seq, at, kind, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, address_net)
			select '%s', 1000 + i, clock_timestamp() - make_interval(mins => 38 + 7 * i), case when i = 1 then 'denial' else 'disclosure' end, 'x', 'allow', 'root', '', '', '', ''
			from generate_series(0, 6) i`, s.Organisation.ID))
	if n := counted("root"); n != 3 {
		t.Errorf("of three within the hour, a denial and three before it, %d are counted", n)
	}

	// Of whoever takes no part in conversations the log is read at first, and again after a minute.
	operator := principal.NewOperator(s.Organisation.ID, "root")
	reserve := func() int {
		n, settle, err := node.Reserve(t.Context(), operator, s.Organisation.ID, "root")
		must(t, err)
		settle(true)
		return n
	}
	if first, second := reserve(), reserve(); first != 3 || second != 4 {
		t.Errorf("of 3 in the log, %d and then %d were counted", first, second)
	}
	later = later.Add(time.Minute)
	if n := reserve(); n != 3 { // what was reserved here was never recorded
		t.Errorf("%d after a minute", n)
	}
}

func TestWhatWasReleasedLongAgoOrNotAtAllDoesNotCount(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	now := time.Now()
	g := s.gate(limited(t, 1000), func() time.Time { return now })
	reserve := func(released bool) int {
		n, settle, err := g.Reserve(t.Context(), s.visitor(), s.Organisation.ID, "somebody")
		must(t, err)
		settle(released)
		return n
	}
	for i := range 5 {
		if n := reserve(true); n != i {
			t.Errorf("%d instead of %d", n, i)
		}
		if n := reserve(false); n != i+1 {
			t.Errorf("%d instead of %d", n, i+1)
		}
	}
	now = now.Add(time.Hour)
	if n := reserve(true); n != 0 {
		t.Errorf("%d after an hour", n)
	}
}

func TestEachOrganisationHasLimitsOfItsOwnWithinTheBoundsOfThePolicy(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	foreign := newScene(t, relaytest.Options{DB: s.DB})
	must(t, s.Store.SetLimits(t.Context(), s.Organisation.ID, chat.Limits{Visitor: 20, Agent: 30}))
	s, foreign = s.now(t), foreign.now(t)
	before := len(s.Entries(t))
	n := 0
	for ; n < 25; n++ {
		if err := s.shown(t, s.Readers); err != nil {
			isVolume(t, err)
			break
		}
		must(t, foreign.shown(t, foreign.Readers))
	}
	if n != 20 {
		t.Errorf("%d were shown, the organisation's limit is 20", n)
	}
	entries := s.Entries(t)
	if len(entries) != before+21 {
		t.Fatalf("%d records, %d before", len(entries), before)
	}
	last := entries[len(entries)-1]
	in, err := access.InputOf(last)
	must(t, err)
	if in.Organisation.Limits != (policy.Limits{Visitor: 20, Agent: 30}) || in.Actor.Recent != 20 {
		t.Errorf("the record says %+v", in)
	}

	operator := principal.NewOperator(s.Organisation.ID, "root")
	must(t, s.Gate.ChangeLimits(t.Context(), operator, s.Organisation.ID, chat.Limits{Admin: 50}))
	if err := s.Gate.ChangeLimits(t.Context(), operator, s.Organisation.ID, chat.Limits{Admin: 50, Visitor: 19}); !errors.Is(err, access.ErrDenied) || !strings.Contains(err.Error(), "limit_out_of_bounds") {
		t.Errorf("a limit below the least: %v", err)
	}
	if _, last := denials(t, s.World); !slices.Equal(last.Reasons, []string{"limit_out_of_bounds"}) || last.Facts["organisation.limits.visitor"] != "19" || last.Facts["organisation.limits.admin"] != "50" {
		t.Errorf("the denial says %v with %v", last.Reasons, last.Facts)
	}
}
