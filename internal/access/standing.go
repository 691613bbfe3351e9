package access

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// Standing says what is known of an organisation's log from outside the database: nil if it continues what was published
// of it and may grow; with release set, also that a witness has seen it lately, where one has to. It is asked for every
// record and every release, so it must not wait for anything.
type Standing func(ctx context.Context, organisation uuid.UUID, release bool) error

// stands gives the error with which nothing is recorded or released.
func (g *Gate) stands(ctx context.Context, organisation uuid.UUID, release bool) error {
	if g.standing == nil {
		return fmt.Errorf("%w: nobody says whether the log is still itself", ErrUnavailable)
	}
	if err := g.standing(ctx, organisation, release); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
