package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ErrUnknown means that a reference is that of nobody whose key is still there.
var ErrUnknown = errors.New("nobody with this reference is kept here")

// findBatch is how many keys are looked at at once.
const findBatch = 500

const (
	sqlSubjectsBefore = "select key_id, wrapped, created_at from access.subjects_before($1, $2, $3, $4, $5)"
	sqlNewestRow      = "select coalesce(access.newest_row($1, $2), '00000000-0000-0000-0000-000000000000')"
)

// Find gives the subject of a kind that stands under a reference in a record of some time, and where his values lie. The
// reference is computed of one key after another, beginning with those that were new at the time: what leads from a
// reference to a person is written down nowhere.
func (g *Gate) Find(ctx context.Context, organisation uuid.UUID, kind, ref string, at time.Time) (subject, row uuid.UUID, err error) {
	before, last := at.Add(time.Minute), uuid.Max
	for subject == uuid.Nil {
		rows, err := g.pool.Query(ctx, sqlSubjectsBefore, organisation, kind, before, last, findBatch)
		if err != nil {
			return uuid.Nil, uuid.Nil, fmt.Errorf("%w: find subject: %w", ErrUnavailable, err)
		}
		n := 0
		var wrapped []byte
		_, err = pgx.ForEachRow(rows, []any{&last, &wrapped, &before}, func() error {
			n++
			got, err := g.ring.Reference(organisation, last, wrapped)
			if err == nil && got == ref && ref != "" { // a key that does not open is nobody's whom one could be shown
				subject = last
			}
			wrapped = nil
			return nil
		})
		if err != nil {
			return uuid.Nil, uuid.Nil, fmt.Errorf("%w: find subject: %w", ErrUnavailable, err)
		}
		if subject == uuid.Nil && n < findBatch {
			return uuid.Nil, uuid.Nil, ErrUnknown
		}
	}
	row = subject // an agent's values lie in his profile
	if kind == "visitor" {
		if err := g.pool.QueryRow(ctx, sqlNewestRow, organisation, subject).Scan(&row); err != nil {
			return uuid.Nil, uuid.Nil, fmt.Errorf("%w: find values: %w", ErrUnavailable, err)
		}
		if row == uuid.Nil {
			row = subject
		}
	}
	return subject, row, nil
}
