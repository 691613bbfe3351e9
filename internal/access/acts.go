package access

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Acknowledge records that a visitor accepted a version of the notice. It reads no EUII, so there is nothing to decide.
func (g *Gate) Acknowledge(ctx context.Context, who principal.Visitor, scene Scene, version string) error {
	refs, err := g.references(ctx, scene.Conversation.Organisation, question{who: who, scene: scene})
	if err != nil {
		return err
	}
	_, err = g.append(ctx, scene.Conversation.Organisation, audit.Entry{
		Kind: audit.Administration, Action: "notice.accept", Actor: audit.Party{Kind: who.Kind(), Ref: refs.actor},
		Conversation: refs.conversation, Request: scene.Request,
		Facts: map[string]string{"notice.version": version, "notice.language": scene.Conversation.Language},
	})
	return err
}

// Act asks policy whether the operator may do something to an organisation or read its log, and records it either way.
// purpose is policy.Administer or policy.ReadAuditLog; facts hold ids and counts, never EUII.
func (g *Gate) Act(ctx context.Context, who principal.Operator, purpose policy.Purpose, organisation uuid.UUID, action string, facts map[string]string) error {
	q := question{who: who, purpose: purpose, audience: "service", kind: audit.Administration,
		scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}}
	if purpose == policy.ReadAuditLog {
		q.audience = "console"
	}
	refs, err := g.references(ctx, organisation, q)
	if err != nil {
		return err
	}
	input := q.input(refs)
	decision, policyErr := g.policy.Decide(ctx, input)
	entry := entryOf(input, decision, q)
	entry.Action = action
	maps.Copy(entry.Facts, facts)
	if policyErr != nil {
		entry.Kind, entry.Decision, entry.Rule, entry.Reasons = audit.Denial, audit.DecisionDeny, "policy.error", []string{"policy_error"}
	}
	if _, err := g.append(ctx, organisation, entry); err != nil {
		return err
	}
	switch {
	case policyErr != nil:
		return fmt.Errorf("%w: policy gave no decision", ErrUnavailable)
	case !decision.Allowed():
		return fmt.Errorf("%w: %s (%s)", ErrDenied, decision.Rule(), strings.Join(decision.Reasons(), ", "))
	}
	return nil
}

func (g *Gate) append(ctx context.Context, organisation uuid.UUID, entry audit.Entry) (pglog.Receipt, error) {
	committed, err := g.log.Append(ctx, organisation, pglog.Draft{Entry: entry})
	if err != nil {
		return pglog.Receipt{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return committed[0].Receipt, nil
}
