package access

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Acknowledge records that somebody accepted a version of the notice for his kind: a visitor, or an agent, who may have no profile yet and is
// then named by the keyed reference of his directory id. It reads no EUII, so there is nothing to decide.
func (g *Gate) Acknowledge(ctx context.Context, kind, ref string, scene Scene, version int, language string) error {
	if err := g.stands(ctx, scene.Conversation.Organisation, false); err != nil {
		return err
	}
	organisation := scene.Conversation.Organisation
	refs, err := g.keyed(ctx, organisation, []refKey{{organisation: organisation, id: scene.Conversation.ID}})
	if err != nil {
		return err
	}
	_, err = g.log.Append(ctx, organisation, pglog.Draft{Entry: audit.Entry{
		Kind: audit.Administration, Action: "notice.accept", Actor: audit.Party{Kind: kind, Ref: ref}, Conversation: refs[0], Request: scene.Request,
		Facts: map[string]string{"notice.version": strconv.Itoa(version), "notice.language": language},
	}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// Act asks policy whether an operator or administrator may do something to an organisation or read its log, and records
// it either way. purpose is policy.Administer or policy.ReadAuditLog; facts hold ids and counts, never EUII.
func (g *Gate) Act(ctx context.Context, who principal.Principal, purpose policy.Purpose, organisation uuid.UUID, action string, facts map[string]string) error {
	return g.ActOn(ctx, who, purpose, organisation, action, facts, Grounds{})
}

// ActOn is Act on grounds that were given for it.
func (g *Gate) ActOn(ctx context.Context, who principal.Principal, purpose policy.Purpose, organisation uuid.UUID, action string, facts map[string]string, on Grounds) error {
	q := question{who: who, purpose: purpose, audience: "service", kind: audit.Administration, action: action, facts: facts, grounds: on,
		scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}}
	if _, ok := who.(principal.Admin); ok || purpose == policy.ReadAuditLog {
		q.audience = "console"
	}
	_, err := g.authorize(ctx, q)
	return err
}

// ChangeLimits asks policy whether somebody may give an organisation these limits, and records it either way.
func (g *Gate) ChangeLimits(ctx context.Context, who principal.Principal, organisation uuid.UUID, limits chat.Limits) error {
	_, err := g.authorize(ctx, question{who: who, purpose: policy.Administer, audience: "service", kind: audit.Administration, action: "organisation.limits",
		scene: Scene{Conversation: chat.Conversation{Organisation: organisation}, Settings: chat.Settings{Limits: limits}}})
	return err
}

// The changes of policy that stand in every organisation's log.
const (
	PolicyActivated = "policy.activated" // a bundle decides from now on
	PolicyRefused   = "policy.refused"   // a bundle was refused, and the one before stays
	PolicyProposed  = "policy.proposed"  // a bundle lies there and waits for two to activate it
)

// PolicyChanged records what became of a policy that was put before the service. Nobody decides on that record: a policy
// does not judge its own coming. The facts hold revisions and reasons.
func (g *Gate) PolicyChanged(ctx context.Context, organisation uuid.UUID, action string, facts map[string]string) error {
	return g.note(ctx, organisation, "policy", action, facts)
}

// IdleDisabled records that an administrator may sign in no more because he did not for so many days. Nobody decides on that: it only takes away.
func (g *Gate) IdleDisabled(ctx context.Context, organisation, admin uuid.UUID, days int) error {
	ref, err := g.Reference(ctx, organisation, admin)
	if err != nil {
		return err
	}
	return g.note(ctx, organisation, "accounts", "admin.idle_disabled", map[string]string{"admin": ref, "days": strconv.Itoa(days)})
}

// EgressRefused records that the service refused to connect to what is not on its register. There is nothing to decide any more. The facts
// say by which way, to where and how often.
func (g *Gate) EgressRefused(ctx context.Context, organisation uuid.UUID, facts map[string]string) error {
	return g.note(ctx, organisation, "egress", "egress.refused", facts)
}

// AlertsRaised records what the rules of an organisation found in its log, one record for each. The facts hold ids, counts and numbers of
// records.
func (g *Gate) AlertsRaised(ctx context.Context, organisation uuid.UUID, facts []map[string]string) error {
	return g.note(ctx, organisation, "alerts", "alert.raise", facts...)
}

// Archiving records what was done to an archive of an organisation, and gives the number of the record. It shows nobody anything; what goes into an
// archive is decided and recorded as it is read. The facts hold ids, counts, times and hashes.
func (g *Gate) Archiving(ctx context.Context, organisation uuid.UUID, action string, facts map[string]string) (uint64, error) {
	return g.noted(ctx, organisation, "archive", action, facts)
}

// note records what the service did or found at one of its tasks.
func (g *Gate) note(ctx context.Context, organisation uuid.UUID, task, action string, facts ...map[string]string) error {
	_, err := g.noted(ctx, organisation, task, action, facts...)
	return err
}

// noted is note, and gives the number of the first record.
func (g *Gate) noted(ctx context.Context, organisation uuid.UUID, task, action string, facts ...map[string]string) (uint64, error) {
	q := question{who: principal.NewJob(organisation, task), scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}}
	refs, err := g.references(ctx, organisation, q)
	if err != nil {
		return 0, err
	}
	drafts := make([]pglog.Draft, len(facts))
	for i, f := range facts {
		drafts[i] = pglog.Draft{Entry: audit.Entry{Kind: audit.Administration, Action: action, Actor: audit.Party{Kind: q.who.Kind(), Ref: refs.actor}, Facts: f}}
	}
	committed, err := g.log.Append(ctx, organisation, drafts...)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return committed[0].Receipt.Index(), nil
}

// Door records what happened where administrators come in: a set-up, an attempt to sign in and how it ended, a sign-out.
// It is not known yet who it is, or he only comes and goes, asks somebody else, or gives something up, so there is nothing to decide. admin is zero when the name is
// nobody's. from is where it happened.
func (g *Gate) Door(ctx context.Context, organisation, admin uuid.UUID, from netip.Addr, action string, facts map[string]string) error {
	keys := append([]refKey{{organisation: organisation, id: admin}}, addressKeys(organisation, from)...)
	refs, err := g.keyed(ctx, organisation, keys)
	if err != nil {
		return err
	}
	_, err = g.log.Append(ctx, organisation, pglog.Draft{Entry: audit.Entry{
		Kind: audit.Administration, Action: action, Actor: audit.Party{Kind: "admin", Ref: refs[0]}, Address: refs[1], AddressNet: refs[2], Facts: facts,
	}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
