package signin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access"
	"counterfoil/internal/principal"
)

// Roles are what an administrator may be, in the order in which they are kept.
var Roles = []string{"auditor", "security_admin", "privacy_officer", "approver"}

// ErrRoles refuses roles that are none, or do not go together: whoever sets what others may sees nobody.
var ErrRoles = errors.New("these are no roles, or they do not go together: a security administrator is no privacy officer")

// CheckRoles gives roles as they are kept.
func CheckRoles(roles []string) ([]string, error) {
	var all []string
	for _, role := range Roles {
		if slices.Contains(roles, role) {
			all = append(all, role)
		}
	}
	if len(all) == 0 || slices.ContainsFunc(roles, func(r string) bool { return !slices.Contains(Roles, r) }) ||
		slices.Contains(all, "security_admin") && slices.Contains(all, "privacy_officer") {
		return nil, ErrRoles
	}
	return all, nil
}

const sqlSetRoles = "select access.set_roles($1, $2, $3, $4, $5)"

// SetRoles gives an administrator other roles than those he has, and ends his sessions. It fails with ErrNotDone when he has others meanwhile, or no
// security administrator would stay. The caller has it decided and recorded.
func (d *Desk) SetRoles(ctx context.Context, organisation, admin uuid.UUID, before, roles []string) error {
	seal, err := d.adminSeal(ctx, organisation, admin, roles)
	if err != nil {
		return err
	}
	if err := d.change(ctx, sqlSetRoles, organisation, admin, before, roles, seal); err != nil {
		return err
	}
	return d.notify(ctx, organisation, admin, "admin.roles")
}

// IdleDays is after how long without a sign-in an administrator may sign in no more, and whatever else was not used is proposed for removal.
const IdleDays = 90

const sqlIdleAdmin = "select coalesce(access.idle_admin($1, $2), '00000000-0000-0000-0000-000000000000')"

// DisableIdle takes away the right to sign in of whoever did not for ninety days, on record; never that of the last security administrator.
func (d *Desk) DisableIdle(ctx context.Context, organisation uuid.UUID) (disabled int, err error) {
	for {
		var id uuid.UUID
		if err := d.cfg.Pool.QueryRow(ctx, sqlIdleAdmin, organisation, IdleDays).Scan(&id); err != nil {
			return disabled, fmt.Errorf("find idle administrators: %w", err)
		}
		if id == uuid.Nil {
			return disabled, nil
		}
		if err := d.cfg.Gate.IdleDisabled(ctx, organisation, id, IdleDays); err != nil {
			return disabled, err
		}
		if err := d.Disable(ctx, organisation, id, true); err != nil {
			return disabled, err // another node was faster, or somebody else was disabled meanwhile
		}
		if err := d.notify(ctx, organisation, id, "admin.idle_disabled"); err != nil {
			return disabled, err
		}
		disabled++
	}
}

// Review is one time through everybody who may come in.
type Review struct {
	ID            uuid.UUID
	By            uuid.UUID
	Reference     string // of who began it
	Begun, Due    time.Time
	Ended         *time.Time
	Entries, Open int64
}

const sqlReviews = "select review_id, begun_by, begun_at, due_at, ended_at, entries, open from access.access_reviews($1)"

// Reviews lists the reviews of an organisation, newest first.
func (d *Desk) Reviews(ctx context.Context, organisation uuid.UUID) ([]Review, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlReviews, organisation)
	if err != nil {
		return nil, fmt.Errorf("list reviews: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Review, err error) {
		err = row.Scan(&r.ID, &r.By, &r.Begun, &r.Due, &r.Ended, &r.Entries, &r.Open)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("list reviews: %w", err)
	}
	for i := range all {
		if all[i].Reference, err = d.cfg.Gate.Reference(ctx, organisation, all[i].By); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ReviewDays is how long a review may take.
const ReviewDays = 30

const sqlBeginReview = "select access.begin_access_review($1, $2, $3, $4, $5)"

// BeginReview writes down everybody who may come in now. It fails with ErrNotDone while another review is open. The caller has it decided and recorded.
func (d *Desk) BeginReview(ctx context.Context, who principal.Admin, id uuid.UUID) error {
	return d.change(ctx, sqlBeginReview, who.Organisation(), id, who.ID(), ReviewDays, IdleDays)
}

// The decisions of a review.
const (
	Keep   = "keep"
	Revoke = "revoke"
	Change = "change" // of roles
)

// ReviewEntry is somebody or something that may come in, and what was decided about it.
type ReviewEntry struct {
	ID             uuid.UUID
	Kind           string // admin, token, agent, auditor
	Subject, Owner uuid.UUID
	Reference      string // of the subject
	OwnerReference string // of who made a token
	Login          string // of an auditor
	Roles          []string
	Since          time.Time
	Used, Ends     *time.Time
	Idle           bool
	Decision       string // empty while open
	NewRoles       []string
	DecidedBy      string // reference
	Decided        *time.Time
	Reason         uuid.UUID
	Stands         bool // may come in now
}

// Own reports whether an administrator would decide about himself.
func (e ReviewEntry) Own(admin uuid.UUID) bool { return e.Subject == admin || e.Owner == admin }

const sqlReviewEntries = "select entry_id, kind, subject_id, login, owner_id, roles, since, used_at, ends_at, idle, decision, new_roles, decided_by, decided_at, reason_id, stands from access.access_review_entries($1, $2)"

// ReviewEntries lists what a review goes through: by kind, and what is proposed for removal first.
func (d *Desk) ReviewEntries(ctx context.Context, organisation, review uuid.UUID) ([]ReviewEntry, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlReviewEntries, organisation, review)
	if err != nil {
		return nil, fmt.Errorf("list review: %w", err)
	}
	var by []uuid.UUID
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e ReviewEntry, err error) {
		var subject, owner, decidedBy, reason *uuid.UUID
		var decision *string
		err = row.Scan(&e.ID, &e.Kind, &subject, &e.Login, &owner, &e.Roles, &e.Since, &e.Used, &e.Ends, &e.Idle, &decision, &e.NewRoles, &decidedBy, &e.Decided, &reason, &e.Stands)
		e.Subject, e.Owner, e.Reason = given(subject), given(owner), given(reason)
		if decision != nil {
			e.Decision = *decision
		}
		by = append(by, given(decidedBy))
		return e, err
	})
	for i := range all {
		e := &all[i]
		for id, ref := range map[uuid.UUID]*string{by[i]: &e.DecidedBy, e.Owner: &e.OwnerReference} {
			if err == nil && id != uuid.Nil {
				*ref, err = d.cfg.Gate.Reference(ctx, organisation, id)
			}
		}
		if err == nil && e.Kind == "token" {
			e.Reference, err = d.cfg.Gate.ReferenceText(ctx, organisation, "client", e.Subject.String())
		} else if err == nil && e.Subject != uuid.Nil {
			if e.Reference, err = d.cfg.Gate.Reference(ctx, organisation, e.Subject); errors.Is(err, access.ErrErased) {
				e.Reference, err = "erased", nil
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list review: %w", err)
	}
	return all, nil
}

func given(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

const sqlDecideReview = "select access.decide_access_review($1, $2, $3, $4, $5, $6, $7, $8)"

// DecideReview decides on an entry and does it in the same moment: revoking ends what it gives, changing gives other roles. It fails with ErrNotDone when it
// was decided already, is one's own, or cannot be done, such as when no security administrator would stay. The caller has it decided and recorded.
func (d *Desk) DecideReview(ctx context.Context, who principal.Admin, review uuid.UUID, e ReviewEntry, decision string, roles []string, reason uuid.UUID) error {
	organisation := who.Organisation()
	if e.Own(who.ID()) || decision != Keep && decision != Revoke && decision != Change || (decision == Change) != (roles != nil) {
		return ErrNotDone
	}
	var seal *string
	if decision == Change {
		s, err := d.adminSeal(ctx, organisation, e.Subject, roles)
		if err != nil {
			return err
		}
		seal = &s
	}
	if err := d.change(ctx, sqlDecideReview, organisation, review, e.ID, who.ID(), decision, roles, seal, reason); err != nil {
		return err
	}
	if e.Kind == "admin" && decision != Keep {
		return d.notify(ctx, organisation, e.Subject, map[string]string{Revoke: "admin.disable", Change: "admin.roles"}[decision])
	}
	return nil
}
