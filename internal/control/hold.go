package control

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Actions of holds in the log.
const (
	ActPlaceHold = "hold.place"
	ActLiftHold  = "hold.lift"
)

// Hold keeps what it covers, whatever retention or an erasure says, until it is lifted.
type Hold struct {
	ID      uuid.UUID  `json:"id"`
	Kind    string     `json:"kind"`              // person, conversation, widget, range
	Subject *uuid.UUID `json:"subject,omitempty"` // none for a range
	Since   *time.Time `json:"since,omitempty"`   // only conversations opened from then on
	Until   *time.Time `json:"until,omitempty"`   // and before
	Reason  *uuid.UUID `json:"-"`
	Why     string     `json:"why,omitempty"`
	Act     uint64     `json:"record"` // of placing it
	Placed  time.Time  `json:"placed"`
	Lifted  *time.Time `json:"lifted,omitempty"`
}

const (
	sqlPlaceHold = "select access.place_hold($1, $2)"
	sqlLiftHold  = "select access.lift_hold($1, $2)"
	sqlHolds     = "select hold_id, kind, subject_id, since, until, reason_id, placed_act, placed_at, lifted_at from access.holds($1, $2)"
)

// PlaceHold places a hold for a reason that was written down. What is gone cannot be held: ErrGone.
func (d *Desk) PlaceHold(ctx context.Context, who principal.Principal, organisation uuid.UUID, h Hold, on access.Grounds) (uuid.UUID, error) {
	id := uuid.New()
	o := access.Order{Organisation: organisation, Purpose: policy.ControlData, Action: ActPlaceHold, On: on, Facts: map[string]string{"hold.id": id.String(), "hold.kind": h.Kind}}
	if h.Subject != nil {
		o.Facts["hold.subject"] = h.Subject.String()
	}
	for name, at := range map[string]*time.Time{"hold.since": h.Since, "hold.until": h.Until} {
		if at != nil {
			o.Facts[name] = at.UTC().Format(time.RFC3339)
		}
	}
	act, err := d.gate.Order(ctx, who, o)
	if err != nil {
		return uuid.Nil, err
	}
	var placed bool
	if err := d.pool.QueryRow(ctx, sqlPlaceHold, organisation, int64(act)).Scan(&placed); err != nil {
		return uuid.Nil, fmt.Errorf("place hold: %w", err)
	}
	if !placed {
		return uuid.Nil, ErrGone
	}
	return id, nil
}

// LiftHold ends a hold, for a reason that was written down.
func (d *Desk) LiftHold(ctx context.Context, who principal.Principal, organisation, id uuid.UUID, on access.Grounds) error {
	act, err := d.gate.Order(ctx, who, access.Order{Organisation: organisation, Purpose: policy.ControlData, Action: ActLiftHold, On: on, Facts: map[string]string{"hold.id": id.String()}})
	if err != nil {
		return err
	}
	var lifted bool
	if err := d.pool.QueryRow(ctx, sqlLiftHold, organisation, int64(act)).Scan(&lifted); err != nil {
		return fmt.Errorf("lift hold: %w", err)
	}
	if !lifted {
		return ErrGone
	}
	return nil
}

// Holds gives the holds of an organisation, those in force first, with their reasons.
func (d *Desk) Holds(ctx context.Context, organisation uuid.UUID, limit int) ([]Hold, error) {
	rows, err := d.pool.Query(ctx, sqlHolds, organisation, limit)
	if err != nil {
		return nil, fmt.Errorf("list holds: %w", err)
	}
	var reasons []uuid.UUID
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Hold, err error) {
		var act int64
		err = row.Scan(&h.ID, &h.Kind, &h.Subject, &h.Since, &h.Until, &h.Reason, &act, &h.Placed, &h.Lifted)
		if h.Act = uint64(act); h.Reason != nil {
			reasons = append(reasons, *h.Reason)
		}
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("list holds: %w", err)
	}
	texts, err := d.gate.Reasons(ctx, organisation, reasons...)
	if err != nil {
		return nil, err
	}
	for i, h := range all {
		if h.Reason != nil {
			all[i].Why = texts[*h.Reason]
		}
	}
	return all, nil
}
