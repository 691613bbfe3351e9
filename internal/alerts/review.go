package alerts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Review is a day whose alerts somebody has looked through.
type Review struct {
	Day    time.Time // its beginning, UTC
	At     time.Time
	By     audit.Party
	Open   int // alerts of the day that were open then
	Reason uuid.UUID
}

// ErrDay refuses to sign off a day that has not begun, that is long past, or that is signed off already.
var ErrDay = errors.New("this day cannot be signed off")

// reviewable is how far back a day may lie.
const reviewable = 90

const (
	sqlReviews = "select day, reviewed_at, reviewed_by, open_alerts, reason_id from access.reviews($1, $2)"
	sqlReview  = "select access.review_day($1, $2, $3, $4)"
)

// Reviews lists the days that were signed off, newest first.
func (w *Watch) Reviews(ctx context.Context, organisation uuid.UUID, since time.Time) ([]Review, error) {
	rows, err := w.cfg.Pool.Query(ctx, sqlReviews, organisation, since.UTC())
	if err != nil {
		return nil, fmt.Errorf("list reviews: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Review, err error) {
		var by string
		err = row.Scan(&r.Day, &r.At, &by, &r.Open, &r.Reason)
		r.By = heard(by)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("list reviews: %w", err)
	}
	return all, nil
}

// SignOff says that somebody has looked through the alerts of a day, and what he noted, once policy lets him, on record.
func (w *Watch) SignOff(ctx context.Context, who principal.Principal, day time.Time, note string) error {
	organisation, now := who.Organisation(), w.cfg.Now().UTC()
	day = day.UTC().Truncate(24 * time.Hour)
	if day.After(now) || day.Before(now.AddDate(0, 0, -reviewable)) {
		return ErrDay
	}
	reason, err := w.cfg.Gate.Justify(ctx, organisation, note)
	if err != nil {
		return err
	}
	by, err := w.cfg.Gate.Actor(ctx, who)
	if err != nil {
		return err
	}
	if err := w.cfg.Gate.ActOn(ctx, who, policy.HandleAlerts, organisation, "review.day", map[string]string{"day": day.Format(time.DateOnly)}, access.Grounds{Justification: reason}); err != nil {
		return err
	}
	var first bool
	if err := w.cfg.Pool.QueryRow(ctx, sqlReview, organisation, day, said(by), reason.ID()).Scan(&first); err != nil {
		return fmt.Errorf("sign off a day: %w", err)
	}
	if !first {
		return ErrDay
	}
	return nil
}
