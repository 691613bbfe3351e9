package access_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/migrations"
	"counterfoil/policy"
)

// disturbance is something that goes wrong below the readers.
type disturbance struct {
	options func(*testing.T) relaytest.Options // nil for the defaults
	disturb func(*testing.T, *scene) (repair func())
	context func(context.Context) context.Context // nil for the test's own
	cause   error                                 // that the error must also name; nil for any
}

// trigger makes a trigger on audit.record that runs a body, at the insertion or at the commit, and takes it away again.
func trigger(atCommit bool, body string) func(*testing.T, *scene) func() {
	kind := "create trigger disturb before insert on audit.record"
	if atCommit {
		kind = "create constraint trigger disturb after insert on audit.record deferrable initially deferred"
	}
	return func(t *testing.T, s *scene) func() {
		asSuperuser(t, s.World,
			"create function public.disturb() returns trigger language plpgsql security definer as $$ begin "+body+" return new; end $$",
			kind+" for each row execute function public.disturb()")
		return func() { asSuperuser(t, s.World, "drop function public.disturb() cascade") }
	}
}

func disturbances() map[string]disturbance {
	private := func(t *testing.T) relaytest.Options { return relaytest.Options{DB: pgtest.Private(t, migrations.FS)} }
	return map[string]disturbance{
		"the head of the log is locked by somebody else": {disturb: func(t *testing.T, s *scene) func() {
			conn := asSuperuser(t, s.World, "begin", "select * from audit.head for update")
			return func() {
				_, err := conn.Exec(t.Context(), "rollback")
				must(t, err)
			}
		}},
		"PostgreSQL was killed": {options: private, disturb: func(t *testing.T, s *scene) func() {
			must(t, s.DB.Cluster().Kill(syscall.SIGKILL))
			return func() { must(t, s.DB.Cluster().Restart(t.Context())) }
		}},
		"every connection is cut": {options: private, disturb: func(t *testing.T, s *scene) func() {
			asSuperuser(t, s.World, "alter role counterfoil_service nologin",
				"select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'counterfoil_service'")
			return func() { asSuperuser(t, s.World, "alter role counterfoil_service login") }
		}},
		"the database is read-only": {disturb: func(t *testing.T, s *scene) func() {
			database := strings.Split(s.Pool.Config().ConnConfig.Database, " ")[0]
			asSuperuser(t, s.World, "alter database "+database+" set default_transaction_read_only = on")
			s.Pool.Reset()
			return func() {
				asSuperuser(t, s.World, "set default_transaction_read_only = off", "alter database "+database+" reset default_transaction_read_only")
				s.Pool.Reset()
			}
		}},
		"the record is refused":                  {disturb: trigger(false, "raise exception 'refused';")},
		"the commit is refused":                  {disturb: trigger(true, "raise exception 'refused';")},
		"the connection is lost while recording": {disturb: trigger(false, "perform pg_terminate_backend(pg_backend_pid());")},
		"the connection is lost at the commit":   {disturb: trigger(true, "perform pg_terminate_backend(pg_backend_pid());")},
		"the policy breaks while it decides": {
			options: func(t *testing.T) relaytest.Options {
				return relaytest.Options{Policy: contradictory(t), Settings: &chat.Settings{CreateAgents: true, NameInChannel: true}}
			},
			disturb: func(_ *testing.T, s *scene) func() {
				s.Settings.ShareVisitorEmail = true
				return func() { s.Settings.ShareVisitorEmail = false }
			},
		},
		"the log does not continue what was published of it": frozen(),
		"the caller has gone": {
			context: func(ctx context.Context) context.Context {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				return ctx
			},
			cause: context.Canceled,
		},
		"the keys were destroyed": {
			disturb: func(t *testing.T, s *scene) func() {
				asSuperuser(t, s.World, "create table public.kept as select * from euii.key", "update euii.key set wrapped = null, destroyed_at = now()")
				return func() {
					asSuperuser(t, s.World, "update euii.key k set wrapped = o.wrapped, destroyed_at = null from public.kept o where o.organisation_id = k.organisation_id and o.key_id = k.key_id")
				}
			},
			cause: keyring.ErrErased,
		},
		"the keys were wrapped by another key": {disturb: func(t *testing.T, s *scene) func() {
			asSuperuser(t, s.World, "create table public.kept as select * from euii.key", "update euii.key set wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)")
			return func() {
				asSuperuser(t, s.World, "update euii.key k set wrapped = o.wrapped from public.kept o where o.organisation_id = k.organisation_id and o.key_id = k.key_id")
			}
		}},
	}
}

// frozen is a log of which it is known from outside the database that it is not the one it was.
func frozen() disturbance {
	var known atomic.Bool
	return disturbance{
		options: func(*testing.T) relaytest.Options {
			return relaytest.Options{Standing: func(context.Context, uuid.UUID, bool) error {
				if known.Load() {
					return publish.ErrFrozen
				}
				return nil
			}}
		},
		disturb: func(*testing.T, *scene) func() { known.Store(true); return func() { known.Store(false) } },
		cause:   publish.ErrFrozen,
	}
}

// contradictory is the built-in policy with a second answer that contradicts the first one where the organisation
// shares its visitors' emails. It compiles; deciding fails.
func contradictory(t *testing.T) *policy.Engine {
	t.Helper()
	return engineWith(t, "contradiction.rego", `package counterfoil

decision := {"allow": true, "rule": "contradiction", "masked": set(), "obligations": set()} if {
	input.organisation.share_visitor_email == true
}
`)
}

// engineWith is the built-in policy with one file added or replaced.
func engineWith(t *testing.T, file, text string) *policy.Engine {
	t.Helper()
	engine, err := relaytest.PolicyWith(t.Context(), file, text)
	must(t, err)
	return engine
}

// Whatever goes wrong, nothing is released, by any reader; and when it is put right, everything is released again, so it
// was that which held it back.
func TestNoPlaintextWhen(t *testing.T) {
	for name, d := range disturbances() {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they spend their time waiting
			var o relaytest.Options
			if d.options != nil {
				o = d.options(t)
			}
			s := newScene(t, o)
			ctx := t.Context()
			if d.context != nil {
				ctx = d.context(ctx)
			}
			repair := func() {}
			if d.disturb != nil {
				repair = d.disturb(t, &s)
			}
			var all sync.WaitGroup
			for _, r := range readings() {
				all.Go(func() {
					got, err := r.read(ctx, s)
					if len(got) > 0 {
						t.Errorf("%s: %d values came out", r.name, len(got))
					}
					// What is erased is not to be had later either, so it need not say "try again".
					again := errors.Is(err, access.ErrUnavailable) || d.cause == keyring.ErrErased && errors.Is(err, access.ErrErased)
					if !again || errors.Is(err, access.ErrDenied) || d.cause != nil && !errors.Is(err, d.cause) {
						t.Errorf("%s: the error is %v", r.name, err)
					}
					holdsNoCanary(t, r.name, err)
				})
			}
			all.Wait()
			repair()
			for _, r := range readings() {
				if got, err := r.read(t.Context(), s); err != nil || len(got) == 0 {
					t.Errorf("%s, after the repair: %d values, %v", r.name, len(got), err)
				}
			}
			verifyLog(t, s)
		})
	}
}

// Where a witness has to have seen the log lately, nothing is released while none has; neither to those who follow a
// conversation under a record of before. What comes in is sealed and recorded all the same.
func TestNothingIsReleasedWhileNoWitnessHasSeenTheLog(t *testing.T) {
	var unwitnessed atomic.Bool
	s := newScene(t, relaytest.Options{Standing: func(_ context.Context, _ uuid.UUID, release bool) error {
		if release && unwitnessed.Load() {
			return publish.ErrUnwitnessed
		}
		return nil
	}})
	follow := s.Readers.ConversationForVisitor.Follow(s.visitor())
	if got, err := texts(follow.Read(t.Context(), s.Scene, 0, 10)); err != nil || len(got) != 1 {
		t.Fatalf("%q, %v", got, err)
	}
	unwitnessed.Store(true)
	before := len(s.Entries(t))
	if got, err := texts(follow.Read(t.Context(), s.Scene, 0, 10)); !errors.Is(err, access.ErrUnavailable) || !errors.Is(err, publish.ErrUnwitnessed) || len(got) > 0 {
		t.Errorf("who follows already: %d values, %v", len(got), err)
	}
	for _, r := range readings() {
		got, err := r.read(t.Context(), s)
		if collects := strings.Contains(r.name, "collected"); collects && err != nil {
			t.Errorf("%s: %v", r.name, err)
		} else if !collects && (!errors.Is(err, publish.ErrUnwitnessed) || len(got) > 0) {
			t.Errorf("%s: %d values, %v", r.name, len(got), err)
		}
	}
	if n := len(s.Entries(t)) - before; n != 1 {
		t.Errorf("%d records, not the one of what came in", n)
	}
}

// verifyLog checks the whole log as an outsider would.
func verifyLog(t *testing.T, s scene) {
	t.Helper()
	dir := t.TempDir()
	head, err := s.Log.Export(t.Context(), s.Organisation.ID, dir)
	must(t, err)
	key, err := s.Log.VerifierKey(s.Organisation.Origin)
	must(t, err)
	report, err := audit.VerifyExport(t.Context(), os.DirFS(dir), audit.Options{Key: key})
	if err != nil || len(report.Faults) > 0 || report.Records != head.Size {
		t.Errorf("the log does not verify: %+v, %v", report, err)
	}
	for _, e := range s.Entries(t) {
		holdsNoCanary(t, "an entry", e)
	}
}

// A ticket that is gone gives nothing, and a reader that lost it in a crash of the server asks again, on record.
func TestNothingComesOutOfATicketThatHasEnded(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	asSuperuser(t, s.World,
		"create function public.late() returns trigger language plpgsql as $$ begin new.valid_until := clock_timestamp() - interval '1 second'; return new; end $$",
		"create trigger late before insert on access.ticket for each row execute function public.late()")
	for _, r := range readings()[:6] {
		if got, err := r.read(t.Context(), s); len(got) > 0 || !errors.Is(err, access.ErrUnavailable) {
			t.Errorf("%s: %d values came out, and the error is %v", r.name, len(got), err)
		}
	}
	asSuperuser(t, s.World, "drop function public.late() cascade")

	follow := s.Readers.ConversationForVisitor.Follow(s.visitor())
	if got, err := texts(follow.Read(t.Context(), s.Scene, 0, 10)); err != nil || len(got) != 1 {
		t.Fatalf("%q, %v", got, err)
	}
	before := len(s.Entries(t))
	asSuperuser(t, s.World, "truncate access.ticket")
	got, err := texts(follow.Read(t.Context(), s.Scene, 0, 10))
	if after := len(s.Entries(t)); err != nil || len(got) != 1 || after != before+1 {
		t.Errorf("after a crash %q, %v, and %d new records", got, err, after-before)
	}
}

// question is a reading by somebody who may not.
type question struct {
	name, reason string
	read         func(context.Context, scene) ([]string, error)
}

func TestWhoMayNotReadIsDeniedOnRecord(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	second := sceneOf(t, s.World, "bob") // another visitor and another agent of the same organisation
	foreign := newScene(t, relaytest.Options{DB: s.DB})
	waiting := scene{World: s.World, Session: opened(t, s.World), Agent: second.Agent}.now(t)
	left := sceneOf(t, s.World, "carol")
	must(t, s.Relay.AgentTransfers(t.Context(), left.Agent, left.Session.Conversation))
	left = left.now(t)
	closed := sceneOf(t, s.World, "dave")
	must(t, s.Relay.AgentEnds(t.Context(), closed.Agent, closed.Session.Conversation))
	closed = closed.now(t)

	showAgent := func(who principal.Principal, in scene, subject uuid.UUID) func(context.Context, scene) ([]string, error) {
		return func(ctx context.Context, s scene) ([]string, error) {
			d, err := s.Readers.AgentToVisitor.Read(ctx, who, in.Scene, subject, in.Session.Conversation)
			return values(d), err
		}
	}
	introduce := func(who principal.Principal, in scene, subject uuid.UUID) func(context.Context, scene) ([]string, error) {
		return func(ctx context.Context, s scene) ([]string, error) {
			d, err := s.Readers.VisitorToAgent.Read(ctx, who, in.Scene, subject, in.Session.Conversation)
			return values(d), err
		}
	}
	tellChannel := func(who principal.Principal, in scene, subject uuid.UUID) func(context.Context, scene) ([]string, error) {
		return func(ctx context.Context, s scene) ([]string, error) {
			d, err := s.Readers.JoinerToChannel.Read(ctx, who, in.Scene, subject, in.Session.Conversation)
			return values(d), err
		}
	}
	asVisitor := func(who principal.Principal, in scene) func(context.Context, scene) ([]string, error) {
		return func(ctx context.Context, s scene) ([]string, error) {
			return texts(s.Readers.ConversationForVisitor.Follow(who).Read(ctx, in.Scene, 0, 10))
		}
	}
	asAgent := func(who principal.Principal, in scene) func(context.Context, scene) ([]string, error) {
		return func(ctx context.Context, s scene) ([]string, error) {
			return texts(s.Readers.ConversationForAgent.Follow(who).Read(ctx, in.Scene, 0, 10))
		}
	}
	twin := principal.NewVisitor(foreign.Organisation.ID, s.Session.Visitor) // the right id in the wrong organisation
	operator := principal.NewOperator(s.Organisation.ID, "root")

	questions := []question{
		{"the visitor of another conversation asks for the agent", "not_a_participant", showAgent(second.visitor(), s, s.Agent.ID)},
		{"the visitor asks for an agent of another conversation", "subject_not_a_participant", showAgent(s.visitor(), s, second.Agent.ID)},
		{"the visitor asks with the reader of agents for himself", "subject_not_a_participant", showAgent(s.visitor(), s, s.Session.Visitor)},
		{"the agent uses the visitor's reader", "wrong_actor", showAgent(s.agent(), s, s.Agent.ID)},
		{"the operator uses the visitor's reader", "wrong_actor", showAgent(operator, s, s.Agent.ID)},
		{"a visitor of another organisation asks for the agent", "cross_organisation", showAgent(foreign.visitor(), s, s.Agent.ID)},
		{"the same id in another organisation asks for the agent", "cross_organisation", showAgent(twin, s, s.Agent.ID)},
		{"an agent who did not join asks for the visitor", "not_a_participant", introduce(second.agent(), s, s.Session.Visitor)},
		{"the agent asks for another conversation's visitor", "subject_not_a_participant", introduce(s.agent(), s, second.Session.Visitor)},
		{"the agent asks after the end", "wrong_state", introduce(closed.agent(), closed, closed.Session.Visitor)},
		{"an agent asks while the conversation waits", "wrong_state", introduce(waiting.agent(), waiting, waiting.Session.Visitor)},
		{"an agent asks who gave the conversation back", "not_a_participant", introduce(left.agent(), left, left.Session.Visitor)},
		{"an agent of another organisation asks for the visitor", "cross_organisation", introduce(foreign.agent(), s, s.Session.Visitor)},
		{"the visitor uses the agent's reader", "wrong_actor", introduce(s.visitor(), s, s.Session.Visitor)},
		{"the channel of another organisation asks who joined", "cross_organisation", tellChannel(foreign.channel(), s, s.Agent.ID)},
		{"the visitor uses the channel's reader", "wrong_actor", tellChannel(s.visitor(), s, s.Agent.ID)},
		{"the channel asks for the visitor", "subject_not_a_participant", tellChannel(s.channel(), s, s.Session.Visitor)},
		{"another visitor follows", "not_a_participant", asVisitor(second.visitor(), s)},
		{"the agent follows as the visitor", "wrong_audience", asVisitor(s.agent(), s)},
		{"a visitor of another organisation follows", "cross_organisation", asVisitor(foreign.visitor(), s)},
		{"the operator follows", "wrong_actor", asVisitor(operator, s)},
		{"an agent follows who did not join", "not_a_participant", asAgent(second.agent(), s)},
		{"an agent follows who gave the conversation back", "wrong_state", asAgent(left.agent(), left)},
		{"an agent follows a conversation that waits", "wrong_state", asAgent(waiting.agent(), waiting)},
		{"an agent of another organisation follows", "cross_organisation", asAgent(foreign.agent(), s)},
		{"the channel of another organisation asks for the first line", "cross_organisation", func(ctx context.Context, s scene) ([]string, error) {
			line, err := s.Readers.FirstLineToChannel.Read(ctx, foreign.channel(), s.Scene)
			return present(nil, line), err
		}},
		{"the channel asks for the first line after the end", "wrong_state", func(ctx context.Context, s scene) ([]string, error) {
			line, err := s.Readers.FirstLineToChannel.Read(ctx, s.channel(), closed.Scene)
			return present(nil, line), err
		}},
		{"an agent of another organisation is matched", "cross_organisation", func(ctx context.Context, s scene) ([]string, error) {
			index, err := s.Readers.AgentMatcher.Match(ctx, foreign.agent(), s.Scene, euii.Receive("x@"+canary+".example"))
			return slices.DeleteFunc([]string{string(index.Hash)}, func(s string) bool { return s == "" }), err
		}},
		{"a visitor is collected about somebody else", "not_own_data", func(ctx context.Context, s scene) ([]string, error) {
			sealed, err := s.Readers.VisitorCollector.Collect(ctx, s.visitor(), s.Scene, second.Session.Visitor, nil, []uuid.UUID{s.Session.Conversation},
				access.Field{Name: euii.VisitorEmail, Value: euii.Receive("x@" + canary + ".example")})
			return make([]string, len(sealed)), err
		}},
		{"the visitor's collector is given a field of agents", "field_not_for_purpose", func(ctx context.Context, s scene) ([]string, error) {
			sealed, err := s.Readers.VisitorCollector.Collect(ctx, s.visitor(), s.Scene, s.Session.Visitor, nil, []uuid.UUID{s.Session.Conversation},
				access.Field{Name: euii.AgentEmail, Value: euii.Receive("x@" + canary + ".example")})
			return make([]string, len(sealed)), err
		}},
	}
	elsewhere := len(foreign.Entries(t))
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			before, _ := denials(t, s.World)
			got, err := q.read(t.Context(), s)
			if len(got) > 0 {
				t.Errorf("%d values came out", len(got))
			}
			if !errors.Is(err, access.ErrDenied) || errors.Is(err, access.ErrUnavailable) {
				t.Errorf("the error is %v", err)
			}
			holdsNoCanary(t, "the error", err)
			after, e := denials(t, s.World)
			if after != before+1 || e.Kind != audit.Denial || e.Decision != audit.DecisionDeny || !slices.Contains(e.Reasons, q.reason) {
				t.Errorf("%d denials were recorded, the last entry is %+v, want the reason %s", after-before, e, q.reason)
			}
			if e.Actor.Ref == "" || e.Subject.Ref == "" || e.Conversation == "" || e.Policy == "" || len(e.Fields) == 0 || len(e.Masked) > 0 {
				t.Errorf("the record lacks something: %+v", e)
			}
			holdsNoCanary(t, "the record", e)
		})
	}
	if now := len(foreign.Entries(t)); now != elsewhere {
		t.Errorf("%d records went into the log of the organisation that asked, not of the one whose data it is", now-elsewhere)
	}
}

func TestAReaderGivesItsFieldsAndNoOthers(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	ctx := t.Context()
	agent, err := s.Readers.AgentToVisitor.Read(ctx, s.visitor(), s.Scene, s.Agent.ID, s.Session.Conversation)
	must(t, err)
	visitor, err := s.Readers.VisitorToAgent.Read(ctx, s.agent(), s.Scene, s.Session.Visitor, s.Session.Conversation)
	must(t, err)
	joiner, err := s.Readers.JoinerToChannel.Read(ctx, s.channel(), s.Scene, s.Agent.ID, s.Session.Conversation)
	must(t, err)
	for name, c := range map[string]struct {
		got     []string
		want    []string
		receipt interface {
			Valid() bool
			Index() uint64
		}
		purpose policy.Purpose
	}{
		"the visitor": {values(agent), []string{"alice " + canary}, agent.Receipt(), policy.ShowAgentToVisitor},
		"the agent":   {values(visitor), []string{"Vera " + canary, "vera@" + canary + ".example"}, visitor.Receipt(), policy.IntroduceVisitorToAgent},
		"the channel": {values(joiner), []string{"alice " + canary}, joiner.Receipt(), policy.ShowJoinerToChannel},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s is shown %q, want %q", name, c.got, c.want)
		}
		if !c.receipt.Valid() {
			t.Fatalf("%s has no receipt", name)
		}
		if e := s.Entries(t)[c.receipt.Index()]; e.Kind != audit.Disclosure || e.Action != string(c.purpose) || e.Seq != c.receipt.Index() {
			t.Errorf("the receipt of %s is for %+v", name, e)
		}
	}
}

func TestWhatPolicyMasksIsMasked(t *testing.T) {
	s := newScene(t, relaytest.Options{Settings: &chat.Settings{CreateAgents: true}})
	ctx := t.Context()
	visitor, err := s.Readers.VisitorToAgent.Read(ctx, s.agent(), s.Scene, s.Session.Visitor, s.Session.Conversation)
	must(t, err)
	joiner, err := s.Readers.JoinerToChannel.Read(ctx, s.channel(), s.Scene, s.Agent.ID, s.Session.Conversation)
	must(t, err)
	if got, want := values(visitor), []string{"Vera " + canary, "v•••@" + canary + ".example"}; !slices.Equal(got, want) {
		t.Errorf("the agent is shown %q, want %q", got, want)
	}
	if got, want := values(joiner), []string{"a•••"}; !slices.Equal(got, want) {
		t.Errorf("the channel is shown %q, want %q", got, want)
	}
	entries := s.Entries(t)
	for index, masked := range map[uint64][]string{
		visitor.Receipt().Index(): {"visitor_email"},
		joiner.Receipt().Index():  {"agent_display_name"},
	} {
		if e := entries[index]; e.Decision != audit.DecisionMasked || !slices.Equal(e.Masked, masked) || e.Kind != audit.Disclosure {
			t.Errorf("recorded as %+v, want %q masked", e, masked)
		}
	}
}

func TestTheRecordComesBeforeTheValue(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	for _, r := range readings() {
		t.Run(r.name, func(t *testing.T) {
			before := len(s.Entries(t))
			got, err := r.read(t.Context(), s)
			if err != nil || len(got) == 0 {
				t.Fatalf("%d values, %v", len(got), err)
			}
			all := s.Entries(t)
			if len(all) != before+1 {
				t.Fatalf("%d records were written", len(all)-before)
			}
			if e := all[before]; e.Decision != audit.DecisionAllow || e.Rule == "" || e.Actor.Ref == "" || e.Subject.Ref == "" || e.Conversation == "" {
				t.Errorf("recorded as %+v", e)
			}
		})
	}
}

// One decision serves a participant for many reads; when the participants change, a new one is taken.
func TestFollowingIsRecordedOnceUntilItIsRenewed(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	before := len(s.Entries(t))
	follow := s.Readers.ConversationForVisitor.Follow(s.visitor())
	for range 3 {
		if got, err := texts(follow.Read(t.Context(), s.Scene, 0, 10)); err != nil || len(got) != 1 {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := len(s.Entries(t)) - before; n != 1 {
		t.Errorf("%d records for three reads", n)
	}
	follow.Renew()
	if _, err := follow.Read(t.Context(), s.Scene, 0, 10); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Entries(t)) - before; n != 2 {
		t.Errorf("%d records after the renewal", n)
	}
}

func TestAnAgentWhoGaveTheConversationBackFollowsItNoMore(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	follow := s.Readers.ConversationForAgent.Follow(s.agent())
	if got, err := texts(follow.Read(t.Context(), s.Scene, 0, 10)); err != nil || len(got) != 1 {
		t.Fatalf("%q, %v", got, err)
	}
	must(t, s.Relay.AgentTransfers(t.Context(), s.Agent, s.Session.Conversation))
	for _, when := range []string{"while it waits", "when another agent has joined"} {
		if got, err := texts(follow.Read(t.Context(), s.now(t).Scene, 0, 10)); !errors.Is(err, access.ErrDenied) || len(got) > 0 {
			t.Errorf("%s: %d messages, %v", when, len(got), err)
		}
		if when == "while it waits" {
			joined(t, s.World, s.Session, "bob")
		}
	}
}

func TestZeroReadersGiveNothing(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	s.Readers = access.Readers{}
	for _, r := range readings() {
		if got, err := r.read(t.Context(), s); err == nil || len(got) > 0 {
			t.Errorf("%s: %d values, %v", r.name, len(got), err)
		}
	}
}

// A message that was moved, in storage, into another conversation or to another sender's id does not open there.
func TestAMovedMessageDoesNotOpen(t *testing.T) {
	for name, sql := range map[string]string{
		"another id":           "update chat.event set client_id = gen_random_uuid() where kind = 'message'",
		"another text's place": "update chat.event e set body = o.body from chat.event o where e.kind = 'message' and o.kind = 'message' and e.conversation_id <> o.conversation_id",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, relaytest.Options{})
			sceneOf(t, s.World, "bob")
			asSuperuser(t, s.World, sql)
			got, err := texts(s.Readers.ConversationForVisitor.Follow(s.visitor()).Read(t.Context(), s.Scene, 0, 10))
			if len(got) > 0 || !errors.Is(err, access.ErrUnavailable) {
				t.Errorf("%d values, %v", len(got), err)
			}
		})
	}
}

// A name that was moved, in storage, to another person or field does not open there.
func TestAMovedValueDoesNotOpen(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	second := sceneOf(t, s.World, "bob")
	asSuperuser(t, s.World, fmt.Sprintf(`update euii.value v set ciphertext = o.ciphertext from euii.value o
		where v.subject_id = '%s' and o.subject_id = '%s' and v.field = o.field and (v.row_id = v.subject_id) = (o.row_id = o.subject_id)`, s.Agent.ID, second.Agent.ID))
	d, err := s.Readers.AgentToVisitor.Read(t.Context(), s.visitor(), s.Scene, s.Agent.ID, s.Session.Conversation)
	if got := values(d); len(got) > 0 || !errors.Is(err, access.ErrUnavailable) {
		t.Errorf("%d values, %v", len(got), err)
	}
}
