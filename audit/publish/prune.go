package publish

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// ErrNotPublished says that the record which lets records go is not published yet, and so nothing may be missing from what is.
var ErrNotPublished = errors.New("the record of the pruning is not published yet")

// ErrKeeps says that a destination keeps what was published there.
var ErrKeeps = errors.New("a bucket keeps what was put into it")

// Prune removes the records before minimum from what is published in a directory, as record act of the log says, and says how many
// bundles it removed. Whoever verifies the directory afterwards finds that record in it. That the records are kept elsewhere
// is for the caller to make sure.
func (p *Publisher) Prune(ctx context.Context, organisation uuid.UUID, act, minimum uint64, progress func(done, total uint64)) (removed uint64, err error) {
	d, ok := p.To.(Directory)
	if !ok {
		return 0, ErrKeeps
	}
	head, err := p.Log.Head(ctx, organisation)
	if err != nil {
		return 0, err
	}
	path, err := d.path(head.Origin)
	if err != nil {
		return 0, err
	}
	signed, _, err := d.Seen(ctx, head.Origin, audit.CheckpointFile)
	if err != nil {
		return 0, fmt.Errorf("prune what is published: %w", err)
	}
	var seen audit.Checkpoint
	if signed != nil {
		if seen, err = p.Log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: signed}); err != nil {
			return 0, fmt.Errorf("prune what is published: %w", err)
		}
	}
	if seen.Size <= act {
		return 0, fmt.Errorf("%w: %d records are published, and it is number %d", ErrNotPublished, seen.Size, act)
	}
	pruning, err := audit.NewPruning(path, minimum)
	if err != nil {
		return 0, err
	}
	return pruning.Run(ctx, progress)
}
