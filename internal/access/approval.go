package access

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// What a second person may be asked to consent to.
const (
	ForBreakGlass = "break_glass" // that somebody sees one person
	ForAllowlist  = "allowlist"   // a change that would shut its maker out
	ForPolicy     = "policy"      // that another policy decides, or that nobody has to be asked for one
	ForErasure    = "erasure"     // that all an organisation has is erased
	ForExport     = "export"      // that more records are taken out of the log than one takes by himself
)

// The decisions on what was asked.
const (
	Approved  = "approved"
	Refused   = "refused"
	Withdrawn = "withdrawn" // by who asked
)

// ErrSettled says that there is nothing to decide any more, or never was, or not by this administrator.
var ErrSettled = errors.New("this is not open for a decision")

// approvalOpen is how long somebody may decide on what was asked.
const approvalOpen = 24 * time.Hour

// approvalMost is the longest time a consent can be for.
const approvalMost = 8 * time.Hour

// Ask is what somebody wants to do and may not without a second person.
type Ask struct {
	Kind        string
	Why         Justification
	SubjectKind string            // of a break-glass
	Subject     uuid.UUID         // of a break-glass
	About       string            // otherwise: exactly what, so that the consent serves for nothing else
	Detail      string            // what the approver is shown
	Facts       map[string]string // what else the record of it says
	For         time.Duration
}

// Approval is something that was asked, as it stands. People appear by their references.
type Approval struct {
	ID                          uuid.UUID
	Kind                        string
	AskedBy, DecidedBy          uuid.UUID // DecidedBy is zero while it is open
	Asker, Decider, Reviewer    string
	SubjectKind, Subject, About string
	Why, WhyDecided, Detail     string
	Asked, Until, Decided       time.Time
	Ends, Ended, Reviewed       time.Time
	For                         time.Duration
	Decision                    string
}

// Open reports whether somebody may decide now.
func (a Approval) Open(now time.Time) bool { return a.Decision == "" && now.Before(a.Until) }

// InForce reports whether it is approved and not over.
func (a Approval) InForce(now time.Time) bool {
	return a.Decision == Approved && a.Ended.IsZero() && now.Before(a.Ends)
}

const sqlAsk = "select access.ask_approval($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"

// Ask keeps what somebody wants, for another to decide, and records that. Policy decides who may ask for records.
func (g *Gate) Ask(ctx context.Context, who principal.Admin, a Ask) (uuid.UUID, error) {
	organisation, id := who.Organisation(), uuid.New()
	if a.Why.id == uuid.Nil {
		return uuid.Nil, ErrReason
	}
	if a.For < time.Minute || a.For > approvalMost {
		return uuid.Nil, errors.New("ask for approval: it lasts from a minute to eight hours")
	}
	sealed, err := g.ring.WrapSecret(keyring.Detail, organisation, id, []byte(a.Detail))
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: ask for approval: %w", ErrUnavailable, err)
	}
	facts := map[string]string{FactApproval: id.String(), FactReason: a.Why.id.String(), "approval.kind": a.Kind, "approval.seconds": strconv.Itoa(int(a.For.Seconds()))}
	maps.Copy(facts, a.Facts)
	if a.Subject != uuid.Nil {
		if facts["approval.subject"], err = g.Reference(ctx, organisation, a.Subject); err != nil {
			return uuid.Nil, err
		}
	}
	if a.Kind == ForExport {
		_, err = g.authorize(ctx, question{who: who, purpose: policy.ExportRecords, audience: "service", kind: audit.Administration, action: "approval.ask", facts: facts,
			scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}, grounds: Grounds{Justification: a.Why}})
	} else {
		err = g.Door(ctx, organisation, who.ID(), who.Address(), "approval.ask", facts)
	}
	if err != nil {
		return uuid.Nil, err
	}
	var subject *uuid.UUID
	if a.Subject != uuid.Nil {
		subject = &a.Subject
	}
	_, err = g.pool.Exec(ctx, sqlAsk, organisation, id, a.Kind, who.ID(), a.Why.id, a.SubjectKind, subject, a.About, sealed, int(a.For.Seconds()), int(approvalOpen.Seconds()))
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: ask for approval: %w", ErrUnavailable, err)
	}
	return id, nil
}

// approvalRow is an approval as it is stored.
type approvalRow struct {
	id, askedBy, reason                        uuid.UUID
	subject, decidedBy, decidedReason, reviews *uuid.UUID
	kind, subjectKind, about                   string
	decision, seal                             *string
	detail                                     []byte
	asked, until                               time.Time
	decided, ends, ended, reviewed             *time.Time
	seconds                                    int
}

const approvalColumns = "approval_id, kind, asked_by, asked_at, reason_id, subject_kind, subject_id, about, detail, seconds, open_until, decided_by, decided_at, decision, decided_reason, ends_at, ended_at, reviewed_by, reviewed_at, seal"

const (
	sqlApprovals = "select " + approvalColumns + " from access.approvals($1, $2, $3)"
	sqlInForce   = "select " + approvalColumns + " from access.approvals_in_force($1)"
)

func (g *Gate) approvalRows(rows pgx.Rows, err error) ([]approvalRow, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: get approvals: %w", ErrUnavailable, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a approvalRow, err error) {
		err = row.Scan(&a.id, &a.kind, &a.askedBy, &a.asked, &a.reason, &a.subjectKind, &a.subject, &a.about, &a.detail, &a.seconds, &a.until,
			&a.decidedBy, &a.decided, &a.decision, &a.decidedReason, &a.ends, &a.ended, &a.reviews, &a.reviewed, &a.seal)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: get approvals: %w", ErrUnavailable, err)
	}
	return all, nil
}

// sealOf makes the keyed reference of all that a consent covers. A row without the right one is worth nothing.
func (g *Gate) sealOf(ctx context.Context, organisation uuid.UUID, a approvalRow, by uuid.UUID, ends time.Time) (string, error) {
	return g.ReferenceText(ctx, organisation, "approval", fmt.Sprintf("%s|%s|%s|%s|%s|%q|%s|%d", a.id, a.kind, a.askedBy, a.subjectKind, of(a.subject), a.about, by, ends.UnixMicro()))
}

func of[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Approvals gives what was asked of late, newest first.
func (g *Gate) Approvals(ctx context.Context, organisation uuid.UUID, limit int) ([]Approval, error) {
	rows, err := g.approvalRows(g.pool.Query(ctx, sqlApprovals, organisation, nil, limit))
	if err != nil {
		return nil, err
	}
	return g.approvals(ctx, organisation, rows)
}

// Approval gives one; ErrUnknown when there is none.
func (g *Gate) Approval(ctx context.Context, organisation, id uuid.UUID) (Approval, error) {
	rows, err := g.approvalRows(g.pool.Query(ctx, sqlApprovals, organisation, id, 1))
	if err != nil {
		return Approval{}, err
	}
	if len(rows) == 0 {
		return Approval{}, ErrUnknown
	}
	all, err := g.approvals(ctx, organisation, rows)
	if err != nil {
		return Approval{}, err
	}
	return all[0], nil
}

// InForce gives what is approved and not over, in the order in which it ends.
func (g *Gate) InForce(ctx context.Context, organisation uuid.UUID) ([]Approval, error) {
	rows, err := g.approvalRows(g.pool.Query(ctx, sqlInForce, organisation))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return g.approvals(ctx, organisation, rows)
}

func (g *Gate) approvals(ctx context.Context, organisation uuid.UUID, rows []approvalRow) ([]Approval, error) {
	var reasons []uuid.UUID
	var keys []refKey
	for _, r := range rows {
		reasons = append(reasons, r.reason)
		if r.decidedReason != nil {
			reasons = append(reasons, *r.decidedReason)
		}
		for _, id := range []uuid.UUID{r.askedBy, of(r.decidedBy), of(r.reviews), of(r.subject)} {
			keys = append(keys, refKey{organisation: organisation, id: id})
		}
	}
	texts, err := g.Reasons(ctx, organisation, reasons...)
	if err != nil {
		return nil, err
	}
	refs, err := g.keyed(ctx, organisation, keys)
	if err != nil {
		return nil, err
	}
	all := make([]Approval, len(rows))
	for i, r := range rows {
		detail, err := g.ring.UnwrapSecret(keyring.Detail, organisation, r.id, r.detail)
		if err != nil {
			return nil, fmt.Errorf("%w: get approvals: %w", ErrUnavailable, err)
		}
		a := Approval{
			ID: r.id, Kind: r.kind, AskedBy: r.askedBy, DecidedBy: of(r.decidedBy), SubjectKind: r.subjectKind, About: r.about, Why: texts[r.reason], WhyDecided: texts[of(r.decidedReason)], Detail: string(detail),
			Asked: r.asked, Until: r.until, Decided: of(r.decided), Ends: of(r.ends), Ended: of(r.ended), Reviewed: of(r.reviewed), For: time.Duration(r.seconds) * time.Second, Decision: of(r.decision),
			Asker: refs[4*i], Decider: refs[4*i+1], Reviewer: refs[4*i+2], Subject: refs[4*i+3],
		}
		if a.Decision == Approved {
			seal, err := g.sealOf(ctx, organisation, r, a.DecidedBy, a.Ends)
			if err != nil {
				return nil, err
			}
			if seal != of(r.seal) {
				g.logger.ErrorContext(ctx, "an approval in the database is not one that was given", "approval", r.id)
				a.Decision = Refused
			}
		}
		all[i] = a
	}
	return all, nil
}

const sqlDecide = "select access.decide_approval($1, $2, $3, $4, $5, $6, $7)"

// Decide approves or refuses what somebody else asked. Policy decides whether this administrator may, and it is on record
// before it counts. It fails with ErrSettled when nothing is open, and with ErrDenied.
func (g *Gate) Decide(ctx context.Context, who principal.Admin, id uuid.UUID, decision string, why Justification) error {
	organisation := who.Organisation()
	rows, err := g.approvalRows(g.pool.Query(ctx, sqlApprovals, organisation, id, 1))
	switch {
	case err != nil:
		return err
	case len(rows) == 0:
		return ErrUnknown
	case rows[0].decision != nil || !g.now().Before(rows[0].until):
		return ErrSettled
	case decision != Approved && decision != Refused:
		return errors.New("decide on approval: unknown decision")
	}
	a := rows[0]
	ends := g.now().Add(time.Duration(a.seconds) * time.Second).Truncate(time.Microsecond)
	q := question{
		who: who, purpose: policy.ApproveChange, audience: "console", kind: audit.Administration, action: map[string]string{Approved: "approval.approve", Refused: "approval.refuse"}[decision],
		facts: map[string]string{"approval.kind": a.kind}, scene: Scene{Conversation: chat.Conversation{Organisation: organisation}},
		grounds: Grounds{Justification: why, Consent: Consent{approval: a.id, actor: a.askedBy, subject: of(a.subject), ends: ends}},
	}
	if a.kind == ForBreakGlass {
		q.purpose, q.subjectKind, q.subject = policy.ApproveBreakGlass, a.subjectKind, of(a.subject)
	}
	if _, err := g.authorize(ctx, q); err != nil {
		return err
	}
	var seal *string
	var until *time.Time
	if decision == Approved {
		s, err := g.sealOf(ctx, organisation, a, who.ID(), ends)
		if err != nil {
			return err
		}
		seal, until = &s, &ends
	}
	return g.settle(ctx, sqlDecide, organisation, id, who.ID(), decision, why.id, until, seal)
}

func (g *Gate) settle(ctx context.Context, sql string, args ...any) error {
	var done bool
	if err := g.pool.QueryRow(ctx, sql, args...).Scan(&done); err != nil {
		return fmt.Errorf("%w: settle approval: %w", ErrUnavailable, err)
	}
	if !done {
		return ErrSettled
	}
	return nil
}

// Withdraw takes back what one asked oneself, while it is open.
func (g *Gate) Withdraw(ctx context.Context, who principal.Admin, id uuid.UUID) error {
	if err := g.Door(ctx, who.Organisation(), who.ID(), who.Address(), "approval.withdraw", map[string]string{FactApproval: id.String()}); err != nil {
		return err
	}
	return g.settle(ctx, sqlDecide, who.Organisation(), id, who.ID(), Withdrawn, nil, nil, nil)
}

const (
	sqlEndApproval    = "select access.end_approval($1, $2)"
	sqlReviewApproval = "select access.review_approval($1, $2, $3)"
)

// End ends a consent before its time. Anybody may: it only takes away.
func (g *Gate) End(ctx context.Context, who principal.Admin, id uuid.UUID) error {
	if err := g.Door(ctx, who.Organisation(), who.ID(), who.Address(), "approval.end", map[string]string{FactApproval: id.String()}); err != nil {
		return err
	}
	return g.settle(ctx, sqlEndApproval, who.Organisation(), id)
}

// Review notes that somebody other than who asked has read the report of what was done under a consent that is over.
func (g *Gate) Review(ctx context.Context, who principal.Admin, id uuid.UUID) error {
	if err := g.Door(ctx, who.Organisation(), who.ID(), who.Address(), "approval.review", map[string]string{FactApproval: id.String()}); err != nil {
		return err
	}
	return g.settle(ctx, sqlReviewApproval, who.Organisation(), id, who.ID())
}

// Consent gives the consent of somebody else that is in force for this administrator and exactly this: a subject, or what
// About says. Without one it gives the zero Consent, and policy answers that it is missing.
func (g *Gate) Consent(ctx context.Context, who principal.Admin, kind string, subject uuid.UUID, about string) (Consent, error) {
	rows, err := g.approvalRows(g.pool.Query(ctx, sqlInForce, who.Organisation()))
	if err != nil {
		return Consent{}, err
	}
	var best Consent
	for _, r := range rows {
		if r.kind != kind || r.askedBy != who.ID() || of(r.subject) != subject || r.about != about {
			continue
		}
		seal, err := g.sealOf(ctx, who.Organisation(), r, of(r.decidedBy), of(r.ends))
		if err != nil {
			return Consent{}, err
		}
		if seal == of(r.seal) {
			best = Consent{approval: r.id, actor: r.askedBy, by: of(r.decidedBy), subject: of(r.subject), ends: of(r.ends)} // the last one ends last
		} else {
			g.logger.ErrorContext(ctx, "an approval in the database is not one that was given", "approval", r.id)
		}
	}
	return best, nil
}

// HostConsent records that a second operator of the host consents to what the first one asked, and gives the evidence. Whoever calls it has seen to it
// that he who asked handed a code to him who consents; that they are two is for policy to say.
func (g *Gate) HostConsent(ctx context.Context, asked, consents principal.Operator, action string, approval uuid.UUID, ends time.Time) (Consent, error) {
	organisation := asked.Organisation()
	if err := g.Act(ctx, consents, policy.Administer, organisation, action, map[string]string{FactApproval: approval.String()}); err != nil {
		return Consent{}, err
	}
	return Consent{approval: approval, actor: organisation, by: organisation, actorName: asked.Name(), byName: consents.Name(), ends: ends}, nil
}

// UseUp ends a consent that was for one act, which is done.
func (g *Gate) UseUp(ctx context.Context, organisation uuid.UUID, c Consent) error {
	return g.settle(ctx, sqlEndApproval, organisation, c.approval)
}
