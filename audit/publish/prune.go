package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// ErrNotPublished says that the record which lets records go is not published yet, and so nothing may be missing from what is.
var ErrNotPublished = errors.New("the record of the pruning is not published yet")

// Prune removes the records before minimum from what is published in the directory, as record act of the log says, and says how many
// bundles it removed. Whoever verifies the directory afterwards finds that record in it. That the records are kept elsewhere
// is for the caller to make sure.
func (p *Publisher) Prune(ctx context.Context, organisation uuid.UUID, act, minimum uint64, progress func(done, total uint64)) (removed uint64, err error) {
	head, err := p.Log.Head(ctx, organisation)
	if err != nil {
		return 0, err
	}
	dir, err := Dir(p.Dir, head.Origin)
	if err != nil {
		return 0, err
	}
	signed, err := os.ReadFile(filepath.Join(dir, audit.CheckpointFile))
	if err != nil {
		return 0, fmt.Errorf("prune what is published: %w", err)
	}
	seen, err := p.Log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: signed})
	if err != nil {
		return 0, fmt.Errorf("prune what is published: %w", err)
	}
	if seen.Size <= act {
		return 0, fmt.Errorf("%w: %d records are published, and it is number %d", ErrNotPublished, seen.Size, act)
	}
	pruning, err := audit.NewPruning(dir, minimum)
	if err != nil {
		return 0, err
	}
	return pruning.Run(ctx, progress)
}
