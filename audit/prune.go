package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// ActPrune is the action of the record which says that the records before the one its fact "upto" names are no longer kept.
const ActPrune = "records.prune"

// prunes reads from the scanned entry up to where records are pruned, if it says so; otherwise 0.
func (s *scanner) prunes() uint64 {
	if string(s.raw(s.action)) != ActPrune || Kind(s.raw(s.kind)) != Administration || string(s.raw(s.decision)) != DecisionAllow {
		return 0
	}
	for i := 0; i+1 < len(s.facts); i += 2 {
		if string(s.raw(s.facts[i])) == "upto" {
			upto, err := strconv.ParseUint(string(s.raw(s.facts[i+1])), 10, 63)
			if err == nil && upto%TileWidth == 0 {
				return upto
			}
		}
	}
	return 0
}

// Pruning takes the bundles of old entries out of an export. The tiles stay, so that every proof can still be made and checked.
type Pruning struct {
	dir     string
	bundles uint64 // from the first on

	remove func(path string) error // of a file, or of a directory and what is in it
}

// NewPruning prepares to take out the entries before minimum, which is a multiple of the width of a bundle. That they are kept
// elsewhere, and that a record of [ActPrune] under the export's checkpoint says so, is for the caller to make sure.
func NewPruning(dir string, minimum uint64) (*Pruning, error) {
	if minimum%TileWidth != 0 {
		return nil, fmt.Errorf("prune export: a log is not pruned at %d, within a bundle", minimum)
	}
	return &Pruning{dir: filepath.Clean(dir), bundles: minimum / TileWidth, remove: os.RemoveAll}, nil
}

// Run removes bundles from the oldest on and says how many. At every moment what is left begins at the start of a bundle, and
// verifies from there; a run that was broken off is completed by the next. Where the medium keeps what was written, the first
// removal fails and nothing has changed.
func (p *Pruning) Run(ctx context.Context, progress func(done, total uint64)) (removed uint64, err error) {
	for b := range p.bundles {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		path := filepath.Join(p.dir, filepath.FromSlash(BundlePath(b, TileWidth)))
		for _, name := range []string{path, path + ".p"} {
			_, err := os.Lstat(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = p.remove(name)
			}
			if err != nil {
				return removed, fmt.Errorf("prune export: %w", err)
			}
			if name == path {
				removed++
			}
		}
		// The order holds after a loss of power too: a directory is done with before the next is begun.
		if dir := filepath.Dir(path); b+1 == p.bundles || b%1000 == 999 {
			if err := syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return removed, fmt.Errorf("prune export: %w", err)
			}
		}
		progress(b+1, p.bundles)
	}
	return removed, nil
}
