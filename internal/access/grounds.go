package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/policy"
)

// Grounds are what somebody brings for what policy grants to nobody without: a reason in writing, the consent of a second
// person, and what a person asked about his own data. The zero Grounds are none.
type Grounds struct {
	Justification Justification
	Consent       Consent
	Covering      Covering
}

// Justification is evidence that a reason was written down and is kept. The zero Justification is none.
type Justification struct{ id uuid.UUID }

// ID is that under which the reason is kept.
func (j Justification) ID() uuid.UUID { return j.id }

// Consent is evidence of what a second person consented to, or is asked to. The zero Consent is none.
type Consent struct {
	approval, actor, by, subject uuid.UUID
	actorName, byName            string // of operators, whom no id tells apart
	ends                         time.Time
}

// keys are by what the second person, who asked, and whom it is about are referred to.
func (c Consent) keys(organisation uuid.UUID) []refKey {
	by, actor := refKey{organisation: organisation, id: c.by}, refKey{organisation: organisation, id: c.actor}
	if c.byName != "" {
		by.kind, by.name, actor.kind, actor.name = "operator", c.byName, "operator", c.actorName
	}
	return []refKey{by, actor, {organisation: organisation, id: c.subject}}
}

// Given reports whether somebody consented.
func (c Consent) Given() bool { return c.by != uuid.Nil }

// put adds the grounds to the question.
func (on Grounds) put(in *policy.Input, refs references, now time.Time) {
	in.Justification = on.Justification.id != uuid.Nil
	if on.Consent.actor != uuid.Nil {
		in.Approval = policy.Approval{By: refs.approver, Actor: refs.asker, Subject: refs.approved, ExpiresInSeconds: int(on.Consent.ends.Sub(now).Seconds())}
	}
}

// Facts under which a record names its grounds, and in which session of an administrator it was made; they are not part of the question.
const (
	FactReason   = "reason.id"
	FactApproval = "approval.id"
	FactSession  = "session.began"
)

// Began is how a record says when a session began, by which it is told from others of the same administrator.
func Began(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func (on Grounds) note(facts map[string]string) {
	if on.Justification.id != uuid.Nil {
		facts[FactReason] = on.Justification.id.String()
	}
	if on.Consent.approval != uuid.Nil {
		facts[FactApproval] = on.Consent.approval.String()
	}
	if on.Covering.request != uuid.Nil {
		facts[FactRequest] = on.Covering.request.String()
	}
}

// ErrReason refuses a reason that says nothing.
var ErrReason = errors.New("a reason has 10 to 500 characters")

const reasonLeast, reasonMost = 10, 500

const sqlPutReason = "select access.put_reason($1, $2, $3)"

// Justify keeps a reason, sealed, before it is judged whether it is enough.
func (g *Gate) Justify(ctx context.Context, organisation uuid.UUID, text string) (Justification, error) {
	text = strings.TrimSpace(text)
	n := utf8.RuneCountInString(text)
	if n < reasonLeast || n > reasonMost || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }) {
		return Justification{}, ErrReason
	}
	id := uuid.New()
	sealed, err := g.ring.WrapSecret(keyring.Reason, organisation, id, []byte(text))
	if err == nil {
		_, err = g.pool.Exec(ctx, sqlPutReason, organisation, id, sealed)
	}
	if err != nil {
		return Justification{}, fmt.Errorf("%w: keep reason: %w", ErrUnavailable, err)
	}
	return Justification{id}, nil
}

const sqlReasons = "select reason_id, text from access.reasons($1, $2)"

// Reasons gives what was written, by id. One that is not there any more is absent.
func (g *Gate) Reasons(ctx context.Context, organisation uuid.UUID, ids ...uuid.UUID) (map[uuid.UUID]string, error) {
	rows, err := g.pool.Query(ctx, sqlReasons, organisation, ids)
	if err != nil {
		return nil, fmt.Errorf("%w: get reasons: %w", ErrUnavailable, err)
	}
	all := make(map[uuid.UUID]string, len(ids))
	var id uuid.UUID
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &sealed}, func() error {
		text, err := g.ring.UnwrapSecret(keyring.Reason, organisation, id, sealed)
		if err != nil {
			return err
		}
		all[id], sealed = string(text), nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: get reasons: %w", ErrUnavailable, err)
	}
	return all, nil
}
