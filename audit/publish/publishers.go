package publish

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
)

// Publishers are those of all destinations. Each works by itself, so one that cannot be reached keeps nobody from publishing
// elsewhere; what any of them knows against a log counts.
type Publishers []*Publisher

// Standing is that of [Publisher.Standing] at every destination. A witness has to have seen what was published at one of them.
func (all Publishers) Standing(ctx context.Context, organisation uuid.UUID, release bool) error {
	var unwitnessed error
	witnessed := false
	for _, p := range all {
		err := p.Standing(ctx, organisation, release)
		switch {
		case errors.Is(err, ErrUnwitnessed):
			unwitnessed = err
		case err != nil:
			return err
		default:
			witnessed = true
		}
	}
	if witnessed {
		return nil
	}
	return unwitnessed
}

// Problems lists the logs of which nothing is released, and of how many is known.
func (all Publishers) Problems(ctx context.Context) (problems []Problem, of int) {
	bad := make(map[uuid.UUID]bool)
	for _, p := range all {
		found, n := p.Problems(ctx)
		of = max(of, n)
		for _, f := range found {
			if bad[f.Organisation] || errors.Is(f.Reason, ErrUnwitnessed) && all.Standing(ctx, f.Organisation, true) == nil {
				continue
			}
			bad[f.Organisation] = true
			problems = append(problems, f)
		}
	}
	return problems, of
}

// Unpublished gives how many records of one log are published nowhere yet at one of the destinations, at most, and how long ago the
// checkpoint was signed that is the oldest of the logs' newest.
func (all Publishers) Unpublished(ctx context.Context) (records uint64, age time.Duration, err error) {
	for _, p := range all {
		logs, err := p.Log.Standings(ctx)
		if err != nil {
			return 0, 0, err
		}
		p.mu.RLock()
		for _, l := range logs {
			if s := p.logs[l.Organisation]; s.origin == l.Origin || s.origin == "" {
				records = max(records, l.Size-min(s.published, l.Size))
			}
			if l.Size > 0 {
				age = max(age, p.Now().Sub(l.LastAt))
			}
		}
		p.mu.RUnlock()
	}
	return records, age, nil
}

// Forget drops what is known of a log, because it was begun anew.
func (all Publishers) Forget(organisation uuid.UUID) {
	for _, p := range all {
		p.Forget(organisation)
	}
}

// Run publishes everywhere until ctx ends, and then once more.
func (all Publishers) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, p := range all {
		running.Go(func() { p.Run(ctx) })
	}
	running.Wait()
}

// Published is what lies at one destination of a log.
type Published struct {
	Where      string
	Checkpoint []byte // the newest; nil if there is none
	Cosigned   []byte // the newest that a witness has cosigned
}

// Published reads what lies at every destination of the log called origin.
func (all Publishers) Published(ctx context.Context, origin string) ([]Published, error) {
	var found []Published
	for _, p := range all {
		at := Published{Where: p.To.Where(origin)}
		now, _, err := p.To.Seen(ctx, origin, audit.CheckpointFile)
		cosigned, _, failed := p.To.Seen(ctx, origin, audit.CosignedFile)
		if err = cmp.Or(err, failed); err != nil {
			return nil, err
		}
		at.Checkpoint, at.Cosigned = now, cosigned
		found = append(found, at)
	}
	return found, nil
}

// Status is what one publisher knows of a log without asking anybody.
type Status struct {
	Where     string
	Published uint64
	Any       bool      // that much was published, be it nothing
	Cosigned  time.Time // when a witness last saw what is there; zero if none did
	Problem   error     // why nothing is released, or it is not known yet
}

// Status says how far every destination is with a log.
func (all Publishers) Status(organisation uuid.UUID, origin string) []Status {
	var found []Status
	for _, p := range all {
		p.mu.RLock()
		s := p.logs[organisation]
		at := Status{Where: p.To.Where(origin), Published: s.published, Any: s.any, Cosigned: s.cosigned, Problem: s.fault}
		if at.Problem == nil {
			at.Problem = p.unseen[organisation]
		}
		p.mu.RUnlock()
		found = append(found, at)
	}
	return found
}

// Kept reads the checkpoint of a size of the log called origin, if it was kept at one of the destinations; nil if at none.
func (all Publishers) Kept(ctx context.Context, origin string, size uint64) ([]byte, error) {
	for _, p := range all {
		signed, _, err := p.To.Seen(ctx, origin, fmt.Sprintf("checkpoints/%d", size))
		if err != nil || signed != nil {
			return signed, err
		}
	}
	return nil, nil
}

// Verified is what was found out about what lies at one destination of a log.
type Verified struct {
	Where       string
	Report      audit.Report
	Overwritten []string // what was replaced or deleted although it never may be
	Err         error    // it cannot be told
}

// Verify reads all that lies at the destination of the log called origin, by the log's own key unless o names one.
func (p *Publisher) Verify(ctx context.Context, origin string, o audit.Options) Verified {
	v := Verified{Where: p.To.Where(origin)}
	v.Report, v.Overwritten, v.Err = p.verify(ctx, origin, o)
	return v
}

func (p *Publisher) verify(ctx context.Context, origin string, o audit.Options) (r audit.Report, overwritten []string, err error) {
	if o.Key == "" {
		if o.Key, err = p.Log.VerifierKey(origin); err != nil {
			return r, nil, err
		}
		o.KeySource = "the service's own"
	}
	files, err := p.To.Files(ctx, origin)
	if err != nil {
		return r, nil, err
	}
	if r, err = audit.VerifyExport(ctx, files, o); err != nil {
		return r, nil, err
	}
	overwritten, err = p.To.Overwritten(ctx, origin)
	return r, overwritten, err
}

// ErrFaults means that what was published does not verify.
var ErrFaults = errors.New("what was published has faults")

// After gives the records that lie at the destination of the log called origin from a size on, once all that lies there was verified by the log's own
// key; none if nothing newer lies there. A fault is an error: what somebody put there is not acted upon.
func (p *Publisher) After(ctx context.Context, origin string, size uint64) ([][]byte, error) {
	v := p.Verify(ctx, origin, audit.Options{})
	if v.Err != nil {
		return nil, v.Err
	}
	if len(v.Report.Faults) > 0 {
		return nil, fmt.Errorf("%w: %s: %s", ErrFaults, v.Where, v.Report.Faults[0].Text)
	}
	files, err := p.To.Files(ctx, origin)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for entry, err := range audit.ExportEntries(files, size, v.Report.Checkpoint.Size) {
		if err != nil {
			return nil, fmt.Errorf("read what was published to %s: %w", v.Where, err)
		}
		all = append(all, bytes.Clone(entry))
	}
	return all, nil
}
