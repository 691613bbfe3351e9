// Package access is the only door to EUII: policy, then a durable record, then decryption. It promises that no value
// leaves it unless policy allowed this actor, this purpose, this subject and these fields, and the record of it is
// already committed under a signed checkpoint. If either cannot be had, it gives nothing.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// ErrUnavailable means that no decision or no durable record can be had now. Nothing was released; trying again later
// is right.
var ErrUnavailable = errors.New("nothing can be disclosed now, because it cannot be recorded")

// ErrDenied means that policy said no. The denial is recorded.
var ErrDenied = errors.New("denied by policy")

// DeniedError is an ErrDenied with what spoke against it.
type DeniedError struct {
	Rule    string
	Reasons []string
}

func (e DeniedError) Error() string {
	return fmt.Sprintf("%v: %s (%s)", ErrDenied, e.Rule, strings.Join(e.Reasons, ", "))
}

// Is says that it is an ErrDenied.
func (DeniedError) Is(target error) bool { return target == ErrDenied }

// ErrErased means that the key of the person or conversation was destroyed. Trying again is of no use.
var ErrErased = keyring.ErrErased

// How long a grant and its ticket live. A ticket is taken at once; a conversation is followed for an hour and renewed.
const (
	grantValid        = time.Minute
	ticketValid       = 15 * time.Second
	conversationValid = time.Hour
)

// Gate decides, records and opens. It is safe for concurrent use.
type Gate struct {
	policy *policy.Engine
	log    *pglog.Log
	ring   *keyring.Ring
	pool   *pgxpool.Pool
	now    func() time.Time
	logger *slog.Logger
	tracer trace.Tracer
	told   func(ctx context.Context, purpose, decision string, released bool)
	refs   refCache

	standing     Standing
	volumes      volumes
	restrictions restrictions
}

// Config is what a Gate is made of; every field is needed but Decided.
type Config struct {
	Policy *policy.Engine
	Log    *pglog.Log
	Ring   *keyring.Ring
	Pool   *pgxpool.Pool // the service's role
	Now    func() time.Time
	Logger *slog.Logger
	Tracer trace.TracerProvider

	Standing Standing

	Decided func(ctx context.Context, purpose, decision string, released bool) // told of each question, to count them
}

// New makes a Gate.
func New(c Config) *Gate {
	return &Gate{policy: c.Policy, log: c.Log, ring: c.Ring, pool: c.Pool, now: c.Now, logger: c.Logger,
		tracer: c.Tracer.Tracer("counterfoil/internal/access"), standing: c.Standing, told: c.Decided}
}

// Scene is where a question arises: a conversation as storage knows it, and the settings of its organisation. The
// organisation of a subject is the one of the row it was found in, never the caller's.
type Scene struct {
	Conversation chat.Conversation
	Settings     chat.Settings
	Request      string // id of the request that asks
}

// question is one question to the policy together with what its record needs.
type question struct {
	who         principal.Principal
	purpose     policy.Purpose
	audience    string
	subjectKind string
	subject     uuid.UUID // for messages the conversation
	row         uuid.UUID
	fields      []euii.Field
	scene       Scene
	kind        audit.Kind        // of the record if allowed
	action      string            // name of an administrative act; otherwise the purpose is the action
	facts       map[string]string // further facts of an administrative act
	grounds     Grounds
	retention   policy.Retention // that is to be, where that is the question
	messages    int              // for message bodies: up to which event
	valid       time.Duration
}

// answer is what became of a question that was allowed: the grant, the receipt and the ciphertexts.
type answer struct {
	decision policy.Decision
	receipt  pglog.Receipt
	taken    []pglog.Taken
	grant    grant.Grant
}

// authorize is the one place where grants are issued: policy, then the committed record, then the grant.
func (g *Gate) authorize(ctx context.Context, q question) (answer, error) {
	ctx, span := g.tracer.Start(ctx, "access.authorize", trace.WithAttributes(attribute.String("purpose", string(q.purpose))))
	defer span.End()
	a, err := g.decideAndRecord(ctx, q)
	span.SetAttributes(attribute.String("decision", string(a.decision.Outcome())))
	if err != nil {
		span.SetAttributes(attribute.Bool("released", false))
	}
	if g.told != nil {
		g.told(ctx, string(q.purpose), string(a.decision.Outcome()), err == nil)
	}
	return a, err
}

func (g *Gate) decideAndRecord(ctx context.Context, q question) (answer, error) {
	var a answer
	organisation := q.scene.Conversation.Organisation
	if err := g.stands(ctx, organisation, q.kind == audit.Disclosure); err != nil {
		return a, err
	}
	refs, err := g.references(ctx, organisation, q)
	if err != nil {
		return a, err
	}
	restricted, err := g.restricted(ctx, q)
	if err != nil {
		return a, err
	}
	recent, settle, err := g.reserve(ctx, q, refs.actor)
	if err != nil {
		return a, err
	}
	released := false
	defer func() { settle(released) }()
	input := q.input(refs, recent)
	prove(&input.Actor, q.who, g.now())
	q.grounds.put(&input, refs, g.now())
	input.Subject.Restricted = restricted
	if asked := q.grounds.Covering.subject; asked != uuid.Nil && (asked == q.subject || q.subjectKind == "conversation" && asked == q.scene.Conversation.Visitor) {
		input.Request = refs.subject
	}
	decision, policyErr := g.policy.Decide(ctx, input)
	a.decision = decision
	entry := entryOf(input, decision, q)
	entry.Address, entry.AddressNet = refs.address, refs.network
	if policyErr != nil {
		g.logger.ErrorContext(ctx, "policy gave no decision", "purpose", q.purpose, "error", policyErr)
		entry.Kind, entry.Decision, entry.Rule, entry.Reasons = audit.Denial, audit.DecisionDeny, "policy.error", []string{"policy_error"}
	}
	draft := pglog.Draft{Entry: entry}
	allowed := policyErr == nil && decision.Allowed()
	if allowed && q.kind == audit.Disclosure && q.valid > 0 {
		draft.Ticket = &pglog.Ticket{Subject: q.subject, Row: q.row, Fields: input.Fields, Messages: q.messages, Valid: q.valid}
	}
	committed, err := g.log.Append(ctx, organisation, draft)
	released = err == nil && allowed
	switch {
	case err != nil:
		return a, fmt.Errorf("%w: %w", ErrUnavailable, err)
	case policyErr != nil:
		return a, fmt.Errorf("%w: policy gave no decision", ErrUnavailable)
	case !allowed:
		return a, DeniedError{decision.Rule(), decision.Reasons()}
	case !committed[0].Receipt.Valid():
		return a, fmt.Errorf("%w: no receipt", ErrUnavailable)
	case draft.Ticket != nil && q.messages == 0 && committed[0].Values == nil:
		return a, fmt.Errorf("%w: the ticket ended before it was presented", ErrUnavailable)
	}
	var bits uint32
	for _, f := range q.fields {
		bits |= 1 << f
	}
	a.receipt, a.taken = committed[0].Receipt, committed[0].Values
	a.grant = grant.Issue(organisation, q.subject, q.row, bits, a.receipt.Index(), g.now().Add(max(q.valid, grantValid)))
	return a, nil
}

// opening is the error of a value that could not be opened.
func opening(err error) error {
	if errors.Is(err, ErrErased) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}
