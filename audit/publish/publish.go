// Package publish keeps every log where whoever owns the database cannot change it: as C2SP tlog-tiles in directories and
// buckets, and remembered by a witness. It promises that a log in the database which does not continue what was published of it
// neither grows nor lets anything be released, until people have decided what to do.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// heartbeat is how long a log may say nothing. Then a record is made that says just this: a checkpoint bears no time,
// and signed again it would be the same bytes, but a record has a time, and its place in the tree proves that there is
// nothing between it and the one before.
const heartbeat = 24 * time.Hour

// heartbeatAction is the name of that record.
const heartbeatAction = "audit.heartbeat"

// keepEvery is how often a checkpoint is kept under its size. The newest one is always there.
const keepEvery = time.Minute

// Config is what a Publisher is made of.
type Config struct {
	Log      *pglog.Log
	To       Destination
	Interval time.Duration // between two looks at the logs
	Witness  *Witness      // nil without one
	Require  bool          // nothing is released of a log that no witness has seen for MaxAge
	MaxAge   time.Duration
	Logger   *slog.Logger
	Now      func() time.Time
}

// Publisher publishes the logs to one destination and says whether they continue what was published there. It is safe for
// concurrent use.
type Publisher struct {
	Config

	mu     sync.RWMutex
	logs   map[uuid.UUID]standing
	unseen map[uuid.UUID]error  // logs that could not be compared yet, and why
	told   map[string]time.Time // when it was last said

	silent pause // the witness gave no answer

	round sync.Mutex // one at a time
}

// pause is how long something that failed is not tried again: twice as long after each failure, at most a minute.
type pause struct {
	until time.Time
	last  time.Duration
}

func (p *pause) begin(now time.Time, least time.Duration) {
	p.last = min(max(2*p.last, least), time.Minute)
	p.until = now.Add(p.last)
}

// standing is what is known of a log from outside the database.
type standing struct {
	origin    string
	fault     error // the log does not continue what was published
	published uint64
	any       bool      // that much was published, be it nothing
	kept      time.Time // when its checkpoint was last kept under its size
	cosigned  time.Time // when a witness last saw it
	refused   pause     // the witness would not cosign it
}

// New makes a Publisher; nothing is read or written yet.
func New(c Config) *Publisher {
	return &Publisher{Config: c, logs: make(map[uuid.UUID]standing), unseen: make(map[uuid.UUID]error), told: make(map[string]time.Time)}
}

// ErrFrozen is wrapped by the error that says why a log must not grow.
var ErrFrozen = errors.New("the log in the database does not continue what was published of it")

// ErrUnwitnessed says that no witness has seen the log lately, although one has to.
var ErrUnwitnessed = errors.New("no witness has seen the log lately")

// ErrUnseen is wrapped by the error that says why a log could not be compared with what was published of it.
var ErrUnseen = errors.New("the log cannot be compared with what was published of it")

// Standing says whether a log may grow and, if release is set, whether what it records may be released. It is asked for
// every disclosure: only the first time it looks at what was published and at the database, and if that fails the answer is no.
func (p *Publisher) Standing(ctx context.Context, organisation uuid.UUID, release bool) error {
	p.mu.RLock()
	s, known := p.logs[organisation]
	p.mu.RUnlock()
	if !known {
		var err error
		if s, err = p.look(ctx, organisation); err != nil {
			return err
		}
	}
	switch {
	case s.fault != nil:
		return s.fault
	case release && p.Require && p.Now().Sub(s.cosigned) > p.MaxAge:
		return fmt.Errorf("%w: for more than %s, the longest that is allowed", ErrUnwitnessed, p.MaxAge)
	}
	return nil
}

// Problem is a log of which nothing is released, and why.
type Problem struct {
	Organisation uuid.UUID
	Reason       error
}

// Problems lists the logs of which nothing is released, and of how many it knows.
func (p *Publisher) Problems(ctx context.Context) (problems []Problem, of int) {
	p.mu.RLock()
	ids := make([]uuid.UUID, 0, len(p.logs))
	for id := range p.logs {
		ids = append(ids, id)
	}
	for id, err := range p.unseen {
		problems = append(problems, Problem{id, err})
	}
	p.mu.RUnlock()
	of = len(ids) + len(problems)
	for _, id := range ids {
		if err := p.Standing(ctx, id, true); err != nil {
			problems = append(problems, Problem{id, err})
		}
	}
	return problems, of
}

// look compares a log in the database with what lies outside it, and remembers the outcome.
func (p *Publisher) look(ctx context.Context, organisation uuid.UUID) (standing, error) {
	s, err := p.compare(ctx, organisation)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnseen, err)
		if s.origin != "" { // there is such a log
			p.unseen[organisation] = err
		}
		return s, err
	}
	delete(p.unseen, organisation)
	if old, known := p.logs[organisation]; known && old.origin == s.origin {
		return old, nil // another was faster, and may have published since
	}
	p.logs[organisation] = s
	return s, nil
}

func (p *Publisher) compare(ctx context.Context, organisation uuid.UUID) (standing, error) {
	head, err := p.Log.Head(ctx, organisation)
	if err != nil {
		return standing{}, err
	}
	s := standing{origin: head.Origin}
	var all []audit.Checkpoint
	for _, name := range []string{audit.CheckpointFile, audit.CosignedFile} {
		signed, before, err := p.To.Seen(ctx, head.Origin, name)
		if err != nil {
			return s, err
		}
		newest := uint64(0) // of what the file held before
		for _, b := range before {
			// What somebody else put there in between says nothing.
			if seen, err := p.Log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: b}); err == nil {
				all, newest = append(all, seen), max(newest, seen.Size)
			}
		}
		var seen audit.Checkpoint
		if signed != nil {
			if seen, err = p.Log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: signed}); err != nil {
				s.fault = frozen(organisation, fmt.Sprintf("%s/%s is no checkpoint of this log and key (%v)", p.To.Where(head.Origin), name, err))
				return s, nil
			}
			all = append(all, seen)
		}
		if len(before) > 0 && seen.Size < newest {
			p.tell("what was published was deleted or written over by somebody else", "organisation", organisation, "where", p.To.Where(head.Origin)+"/"+name, "records_before", newest, "records_now", seen.Size)
		}
		switch {
		case signed == nil:
		case name == audit.CheckpointFile:
			s.published, s.any = seen.Size, true
		case p.Witness != nil:
			if at, _, err := p.Witness.key.Cosigned(signed, nil); err == nil {
				s.cosigned = at
			}
		}
	}
	// The head is read again: what another process has published meanwhile is not ahead of it.
	if head, err = p.Log.Head(ctx, organisation); err != nil {
		return s, err
	}
	now, err := p.Log.Checkpoint(head)
	if err != nil {
		return s, err
	}
	for _, seen := range all {
		if s.fault, err = p.continues(ctx, organisation, seen, now); err != nil || s.fault != nil {
			return s, err
		}
	}
	return s, nil
}

// continues finds out whether the log at now continues what was seen of it: fault says that it does not, err that it
// cannot be told.
func (p *Publisher) continues(ctx context.Context, organisation uuid.UUID, seen, now audit.Checkpoint) (fault, err error) {
	if seen.Size > now.Size {
		return frozen(organisation, fmt.Sprintf("%d records were published and the database has %d: it was put back to an older state", seen.Size, now.Size)), nil
	}
	root, _, err := p.Log.Consistency(ctx, organisation, seen.Size, now)
	if err != nil {
		return nil, err
	}
	if root != seen.Root {
		return frozen(organisation, fmt.Sprintf("its first %d records are not those that were published: it is another history", seen.Size)), nil
	}
	return nil, nil
}

// frozen is the plain message for whoever runs the service.
func frozen(organisation uuid.UUID, why string) error {
	return fmt.Errorf("%w: %s. Nothing is recorded or disclosed. Put the newer database back, or begin a new log with: counterfoil audit recover --org %s", ErrFrozen, why, organisation)
}

// lastRound bounds what is still published when the service stops.
const lastRound = 5 * time.Second

// Run publishes until ctx ends, and then once more.
func (p *Publisher) Run(ctx context.Context) {
	tick := time.NewTicker(p.Interval)
	defer tick.Stop()
	for {
		if err := p.Publish(ctx); err != nil && ctx.Err() == nil {
			p.tell("logs not published", "error", err)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRound)
			defer cancel()
			if err := p.Publish(last); err != nil {
				p.tell("the end of the logs is not published", "error", err)
			}
			return
		case <-tick.C:
		}
	}
}

// Publish brings what is published of every log up to date. What goes wrong with one log does not keep the others.
func (p *Publisher) Publish(ctx context.Context) error {
	p.round.Lock()
	defer p.round.Unlock()
	all, err := p.Log.Standings(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(all))
	var several errgroup.Group
	several.SetLimit(atOnce)
	for i, l := range all {
		several.Go(func() error {
			errs[i] = p.one(ctx, l)
			return nil
		})
	}
	_ = several.Wait() // what went wrong is in errs
	return errors.Join(errs...)
}

// atOnce is how many logs are published at a time: most of it is waiting for disks and other machines.
const atOnce = 8

func (p *Publisher) one(ctx context.Context, l pglog.Standing) error {
	p.mu.RLock()
	s, known := p.logs[l.Organisation]
	p.mu.RUnlock()
	if !known || s.origin != l.Origin {
		p.Forget(l.Organisation)
		var err error
		if s, err = p.look(ctx, l.Organisation); err != nil {
			return err
		}
	}
	if s.fault != nil {
		p.tell("a log is frozen", "organisation", l.Organisation, "error", s.fault)
		return nil
	}
	if l.Size > 0 && p.Now().Sub(l.LastAt) > heartbeat {
		_, err := p.Log.Append(ctx, l.Organisation, pglog.Draft{Entry: audit.Entry{
			Kind: audit.Administration, Action: heartbeatAction, Actor: audit.Party{Kind: "service"},
		}})
		if err != nil {
			return err
		}
		l.Size++
	}
	aged := p.Witness != nil && p.Now().Sub(s.cosigned) > p.MaxAge/2
	if s.any && s.published == l.Size && !aged {
		return nil
	}
	if !s.any || s.published != l.Size || p.asks(s) {
		if err := p.write(ctx, l, s); !errors.Is(err, errBusy) {
			return err
		}
	}
	var err error
	if s, err = p.reread(ctx, l.Organisation, s); err != nil {
		return err
	}
	p.remember(l.Organisation, s)
	return nil
}

// reread takes over what another process has published and had cosigned.
func (p *Publisher) reread(ctx context.Context, organisation uuid.UUID, s standing) (standing, error) {
	there, err := p.compare(ctx, organisation)
	there.kept, there.refused = s.kept, s.refused
	return there, err
}

func (p *Publisher) remember(organisation uuid.UUID, s standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logs[organisation] = s
}

// asks says whether the witness is to be asked about a log now.
func (p *Publisher) asks(s standing) bool {
	now := p.Now()
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.Witness != nil && !now.Before(p.silent.until) && !now.Before(s.refused.until)
}

// Forget drops what is known of a log, because it was begun anew: the next question looks again.
func (p *Publisher) Forget(organisation uuid.UUID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.logs, organisation)
}

// write publishes one log as it stands now.
func (p *Publisher) write(ctx context.Context, l pglog.Standing, s standing) error {
	retention, err := p.Log.Retention(ctx, l.Organisation)
	if err != nil {
		return err
	}
	place, release, err := p.To.Open(ctx, l.Origin, p.Now().AddDate(0, 0, retention.Days))
	if err != nil {
		return err
	}
	defer release()
	w, err := p.Log.OpenExport(ctx, l.Origin, place)
	if err != nil {
		return err
	}
	head, err := p.Log.Head(ctx, l.Organisation)
	if err != nil {
		return err
	}
	if head.Origin != l.Origin { // begun anew meanwhile
		return nil
	}
	now, err := p.Log.Checkpoint(head)
	if err != nil {
		return err
	}
	have := w.Have()
	if have.Origin != "" {
		if s.fault, err = p.continues(ctx, l.Organisation, have, now); err != nil {
			return err
		}
	}
	cosigned := false
	if s.fault == nil && p.asks(s) {
		at, signed, err := p.cosign(ctx, l.Organisation, place, head, now)
		switch {
		case errors.Is(err, ErrContradicted):
			s.fault = frozen(l.Organisation, err.Error())
		case errors.Is(err, errNoAnswer):
			p.mu.Lock()
			p.silent.begin(p.Now(), p.Interval)
			p.mu.Unlock()
		case err != nil:
			s.refused.begin(p.Now(), p.Interval)
		default:
			head.Checkpoint, s.cosigned, cosigned = signed, at, true
			s.refused = pause{}
			p.mu.Lock()
			p.silent = pause{}
			p.mu.Unlock()
		}
		if err != nil && s.fault == nil {
			p.tell("a checkpoint is not cosigned", "organisation", l.Organisation, "error", err)
		}
	}
	switch {
	case s.fault != nil:
	case have.Origin != "" && have.Size == head.Size && !cosigned:
		if s, err = p.reread(ctx, l.Organisation, s); err != nil {
			return err
		}
	default:
		keep := p.Now().Sub(s.kept) >= keepEvery
		if keep {
			w.KeepCheckpoints()
		}
		if err = p.Log.Write(ctx, l.Organisation, w, head); err == nil {
			s.published, s.any = head.Size, true
			if keep {
				s.kept = p.Now()
			}
			if cosigned {
				err = w.KeepCosigned(ctx, head.Checkpoint)
			}
		}
		if errors.Is(err, audit.ErrFork) {
			s.fault, err = frozen(l.Organisation, err.Error()), nil
		}
	}
	p.remember(l.Organisation, s)
	if s.fault != nil {
		p.tell("a log is frozen", "organisation", l.Organisation, "error", s.fault)
	}
	return err
}

// cosign asks the witness, beginning with what it has cosigned before.
func (p *Publisher) cosign(ctx context.Context, organisation uuid.UUID, place audit.Place, head pglog.Head, now audit.Checkpoint) (time.Time, []byte, error) {
	var old uint64
	if signed, err := place.Read(ctx, audit.CosignedFile, audit.MaxSmall); err == nil {
		if c, err := p.Log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: signed}); err == nil {
			old = min(c.Size, now.Size)
		}
	}
	return p.Witness.Cosign(ctx, old, now.Size, head.Checkpoint, func(old uint64) ([]audit.Hash, error) {
		_, proof, err := p.Log.Consistency(ctx, organisation, old, now)
		return proof, err
	})
}

// tell logs a warning, the same one at most once a minute.
func (p *Publisher) tell(what string, args ...any) {
	key := fmt.Sprint(append([]any{what}, args...)...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if last, said := p.told[key]; said && p.Now().Sub(last) < time.Minute {
		return
	}
	if len(p.told) > 1000 {
		clear(p.told)
	}
	p.told[key] = p.Now()
	p.Logger.Warn(what, args...)
}
