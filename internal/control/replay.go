package control

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

const sqlHoldThere = "select exists (select from access.holds($1, 100000) where hold_id = $2)"

// Replay does once more what a record says that was published of the log and is newer than the state to which the database was put back: erasures,
// holds, and how long data is kept. It is called for each such record in its order, before anything is served, and may be called again. It says
// whether there was anything to do.
func (d *Desk) Replay(ctx context.Context, organisation uuid.UUID, e audit.Entry) (bool, error) {
	if e.Kind != audit.Administration || e.Decision == audit.DecisionDeny {
		return false, nil
	}
	o := access.Order{Organisation: organisation, Purpose: policy.ApplyRetention, Action: e.Action, Facts: map[string]string{"replayed": strconv.FormatUint(e.Seq, 10)}}
	id := func(fact string) uuid.UUID { u, _ := uuid.Parse(e.Facts[fact]); return u } // the zero id is nobody's
	who := principal.NewJob(organisation, "retention")
	switch e.Action {
	case ActErase, ActErased: // the order, or what is left of it when older records were pruned
		s := Subject{organisation, e.Facts["erasure.kind"], id("erasure.subject")}
		if s.Kind != "organisation" {
			o.SubjectKind, o.Subject = s.Kind, s.ID
		}
		if err := d.closeOpen(ctx, s); err != nil {
			return false, err
		}
		run, err := d.order(ctx, who, s, o)
		if err == nil {
			_, err = d.Resume(ctx, organisation, run, nil)
		}
		if errors.Is(err, ErrGone) {
			return false, nil
		}
		return err == nil, err
	case ActPlaceHold, ActLiftHold:
		var there bool
		if err := d.pool.QueryRow(ctx, sqlHoldThere, organisation, id("hold.id")).Scan(&there); err != nil {
			return false, fmt.Errorf("look for hold: %w", err)
		}
		if there == (e.Action == ActPlaceHold) {
			return false, nil
		}
	case ActSetRetention:
		if at, err := time.Parse(time.RFC3339, e.Facts["retention.effective"]); err != nil || at.IsZero() {
			return false, fmt.Errorf("record %d does not say from when on it counts", e.Seq)
		}
		days, err := strconv.Atoi(e.Facts["retention.days"])
		if err != nil {
			return false, fmt.Errorf("record %d does not say how many days", e.Seq)
		}
		o.Retention = policy.Retention{Class: e.Facts["retention.class"], Days: days}
	default:
		return false, nil
	}
	for k, v := range e.Facts {
		if _, ok := o.Facts[k]; !ok && replayable(k) {
			o.Facts[k] = v
		}
	}
	act, err := d.gate.Order(ctx, who, o)
	if err != nil {
		return false, err
	}
	sql := map[string]string{ActPlaceHold: sqlPlaceHold, ActLiftHold: sqlLiftHold, ActSetRetention: sqlSetRetention}[e.Action]
	if _, err := d.pool.Exec(ctx, sql, organisation, int64(act)); err != nil {
		return false, fmt.Errorf("replay record %d: %w", e.Seq, err)
	}
	return true, nil
}

const sqlCloseOpen = `update chat.conversation set state = 'closed', closed_at = now(), closed_by = 'system' where organisation_id = $1 and state <> 'closed'
	and ($2 = 'organisation' or $3 in (visitor_id, agent_id, conversation_id))`

// closeOpen ends what was going on in the state that was put back, and went on since.
func (d *Desk) closeOpen(ctx context.Context, s Subject) error {
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('counterfoil.organisation', $1, true)", s.Organisation.String()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sqlCloseOpen, s.Organisation, s.Kind, s.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("end conversations that were put back: %w", err)
	}
	return nil
}

// replayable tells the facts of an act from those that are members of the question by which it was decided then.
func replayable(fact string) bool {
	switch fact {
	case "hold.id", "hold.kind", "hold.subject", "hold.since", "hold.until", "reason.id", "retention.effective":
		return true
	}
	return false
}
