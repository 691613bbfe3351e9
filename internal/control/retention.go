package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Actions of retention in the log.
const (
	ActSetRetention = "retention.set"
	ActApply        = "retention.apply"
	ActRun          = "retention.run"
)

// ErrClock means that retention was last applied too long ago, or in the future: rather than delete by a clock that leapt, it waits for somebody to confirm.
var ErrClock = errors.New("the time since retention was last applied cannot be right: look at the clock of the database, then confirm it with counterfoil retention run --confirm")

// clockMost is how long ago the last run may be.
const clockMost = 40 * 24 * time.Hour

// Classes are what is deleted when its time is over, in the order in which that is done.
func Classes() []string {
	return []string{"transcript", "agent", "visitor", "conversation", "session", "reason"}
}

// Backup is the class of which an organisation only says how long it lives: its own backups of the database.
const Backup = "backup"

// Archive is the class of sealed archives, which are removed by whoever makes them.
const Archive = "archive"

// elsewhere says that a class is not deleted here.
func elsewhere(class string) bool { return class == Backup || class == Archive }

// Setting is how long an organisation keeps a class of data.
type Setting struct {
	Class    string     `json:"class"`
	Days     *int       `json:"days"`            // null for backups of which nobody said anything
	Since    *time.Time `json:"since,omitempty"` // null while nobody set it
	NextDays *int       `json:"next_days,omitempty"`
	NextAt   *time.Time `json:"next_at,omitempty"`
}

// Counts are what a number of days means for a class.
type Counts struct {
	Due    int64      `json:"due"`              // older than that
	Held   int64      `json:"held"`             // of these
	Oldest *time.Time `json:"oldest,omitempty"` // the end of the oldest that is kept
}

const (
	sqlSettings       = "select class, days, since, next_days, next_at from access.retention($1)"
	sqlCounts         = "select due, held, oldest from access.retention_counts($1, $2, $3)"
	sqlSetRetention   = "select access.set_retention($1, $2)"
	sqlRuns           = "select run_id, act, began_at, gone, done_act, done_at, clock from access.runs($1, $2)"
	sqlBeginRun       = "select access.begin_run($1, $2)"
	sqlFinishRun      = "select access.finish_run($1, $2)"
	sqlApplyRetention = "select gone, held, last_at, last_id from access.apply_retention($1, $2, $3, $4, $5, $6)"
)

// Retention gives how long an organisation keeps what.
func (d *Desk) Retention(ctx context.Context, organisation uuid.UUID) ([]Setting, error) {
	rows, err := d.pool.Query(ctx, sqlSettings, organisation)
	if err == nil {
		var all []Setting
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Setting, err error) {
			return s, row.Scan(&s.Class, &s.Days, &s.Since, &s.NextDays, &s.NextAt)
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("read retention: %w", err)
}

// WhatIf counts what of a class would go if it were kept for so many days.
func (d *Desk) WhatIf(ctx context.Context, organisation uuid.UUID, class string, days int) (Counts, error) {
	var c Counts
	if elsewhere(class) {
		return c, nil
	}
	if err := d.pool.QueryRow(ctx, sqlCounts, organisation, class, days).Scan(&c.Due, &c.Held, &c.Oldest); err != nil {
		return c, fmt.Errorf("count what is due: %w", err)
	}
	return c, nil
}

// SetRetention sets how long an organisation keeps a class from some time on, at once if that is zero. Policy holds the bounds.
func (d *Desk) SetRetention(ctx context.Context, who principal.Principal, organisation uuid.UUID, class string, days int, effective time.Time, on access.Grounds) error {
	if effective.IsZero() {
		if err := d.pool.QueryRow(ctx, "select now()").Scan(&effective); err != nil { // by whose clock it counts
			return fmt.Errorf("set retention: %w", err)
		}
	}
	act, err := d.gate.Order(ctx, who, access.Order{Organisation: organisation, Purpose: policy.ControlData, Action: ActSetRetention, Retention: policy.Retention{Class: class, Days: days}, On: on,
		Facts: map[string]string{"retention.effective": effective.UTC().Format(time.RFC3339)}})
	if err != nil {
		return err
	}
	if _, err := d.pool.Exec(ctx, sqlSetRetention, organisation, int64(act)); err != nil {
		return fmt.Errorf("set retention: %w", err)
	}
	return nil
}

// Run is one application of retention, as it stands.
type Run struct {
	ID    uuid.UUID        `json:"id"`
	Order uint64           `json:"order"` // the record of what counts
	Began time.Time        `json:"began"`
	Gone  map[string]int64 `json:"gone"`
	Done  *time.Time       `json:"done,omitempty"`
	Act   *uint64          `json:"record,omitempty"` // of what went

	clock time.Time
}

// Runs gives the newest runs of an organisation.
func (d *Desk) Runs(ctx context.Context, organisation uuid.UUID, limit int) ([]Run, error) {
	rows, err := d.pool.Query(ctx, sqlRuns, organisation, limit)
	if err != nil {
		return nil, fmt.Errorf("list runs of retention: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Run, err error) {
		var act int64
		var done *int64
		var gone []byte
		if err = row.Scan(&r.ID, &act, &r.Began, &gone, &done, &r.Done, &r.clock); err != nil {
			return r, err
		}
		if r.Order = uint64(act); done != nil {
			r.Act = new(uint64)
			*r.Act = uint64(*done)
		}
		return r, json.Unmarshal(gone, &r.Gone)
	})
	if err != nil {
		return nil, fmt.Errorf("list runs of retention: %w", err)
	}
	return all, nil
}

// applyAtOnce is how many conversations, visitors or sessions go in one transaction.
const applyAtOnce = 200

// Apply deletes what an organisation has kept long enough and no hold covers, and records what went and what is left. A run that broke off is carried
// on, with its counts. progress may be nil; it is told the class and how much of it went. While somebody else does it, it fails with ErrRunning.
func (d *Desk) Apply(ctx context.Context, organisation uuid.UUID, confirmed bool, progress func(class string, gone int64) error) (run Run, err error) {
	if d.erase == nil {
		return Run{}, ErrNoEraser
	}
	err = d.alone(ctx, "retention", organisation, patience, func(conn *pgxpool.Conn) (err error) {
		run, err = d.apply(ctx, conn, organisation, confirmed, progress)
		return err
	})
	return run, err
}

func (d *Desk) apply(ctx context.Context, conn *pgxpool.Conn, organisation uuid.UUID, confirmed bool, progress func(class string, gone int64) error) (Run, error) {
	last, err := d.Runs(ctx, organisation, 2)
	if err != nil {
		return Run{}, err
	}
	for _, r := range last {
		if since := r.clock.Sub(r.Began); !confirmed && (since > clockMost || since < -time.Hour) {
			return Run{}, fmt.Errorf("%w (last %s, now %s)", ErrClock, r.Began.UTC().Format(time.RFC3339), r.clock.UTC().Format(time.RFC3339))
		}
		if r.Done != nil {
			break
		}
		r, err = d.carryOn(ctx, conn, organisation, r.ID, progress)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "55000" && pgErr.Code != "42501" {
			return r, err
		}
		// What counts has changed since, or the log was begun anew: what it did is put on record, and the next run begins.
		if _, err := d.finishRun(ctx, organisation, r.ID, map[string]string{"run.broken_off": "true"}); err != nil {
			return r, err
		}
		break
	}
	settings, err := d.Retention(ctx, organisation)
	if err != nil {
		return Run{}, err
	}
	id := uuid.New()
	facts := map[string]string{"run.id": id.String()}
	for _, s := range settings {
		if !elsewhere(s.Class) && s.Days != nil {
			facts["retention."+s.Class] = strconv.Itoa(*s.Days)
		}
	}
	act, err := d.gate.Order(ctx, principal.NewJob(organisation, "retention"), access.Order{Organisation: organisation, Purpose: policy.ApplyRetention, Action: ActApply, Facts: facts})
	if err != nil {
		return Run{}, err
	}
	if err := d.pool.QueryRow(ctx, sqlBeginRun, organisation, int64(act)).Scan(&id); err != nil {
		return Run{}, fmt.Errorf("begin run of retention: %w", err)
	}
	return d.carryOn(ctx, conn, organisation, id, progress)
}

func (d *Desk) carryOn(ctx context.Context, conn *pgxpool.Conn, organisation, id uuid.UUID, progress func(string, int64) error) (Run, error) {
	for _, class := range Classes() {
		at, after, total := time.Unix(0, 0), uuid.Nil, int64(0)
		for {
			var gone, held int64
			var lastAt *time.Time
			var lastID *uuid.UUID
			if err := conn.QueryRow(ctx, sqlApplyRetention, organisation, id, class, at, after, applyAtOnce).Scan(&gone, &held, &lastAt, &lastID); err != nil {
				return Run{ID: id}, fmt.Errorf("apply retention to class %s: %w", class, err)
			}
			if total += gone; progress != nil {
				if err := progress(class, total); err != nil {
					return Run{ID: id}, err
				}
			}
			if lastAt == nil {
				break
			}
			at, after = *lastAt, *lastID
		}
	}
	return d.finishRun(ctx, organisation, id, nil)
}

// finishRun records what went in a run, and for each class what is due and held, what is late, and the oldest that is left.
func (d *Desk) finishRun(ctx context.Context, organisation, id uuid.UUID, facts map[string]string) (Run, error) {
	if facts == nil {
		facts = make(map[string]string)
	}
	facts["run.id"] = id.String()
	run, err := d.run(ctx, organisation, id)
	if err != nil {
		return run, err
	}
	settings, err := d.Retention(ctx, organisation)
	if err != nil {
		return run, err
	}
	for _, s := range settings {
		if elsewhere(s.Class) || s.Days == nil {
			continue
		}
		c, err := d.WhatIf(ctx, organisation, s.Class, *s.Days)
		if err != nil {
			return run, err
		}
		facts["gone."+s.Class] = number(run.Gone[s.Class])
		facts["held."+s.Class] = number(c.Held)
		facts["late."+s.Class] = number(c.Due - c.Held)
		if c.Oldest != nil {
			facts["oldest."+s.Class] = c.Oldest.UTC().Format(time.RFC3339)
		}
	}
	act, err := d.gate.Order(ctx, principal.NewJob(organisation, "retention"), access.Order{Organisation: organisation, Purpose: policy.ApplyRetention, Action: ActRun, Facts: facts})
	if err != nil {
		return run, err
	}
	if _, err := d.pool.Exec(ctx, sqlFinishRun, organisation, int64(act)); err != nil {
		return run, fmt.Errorf("finish run of retention: %w", err)
	}
	return d.run(ctx, organisation, id)
}

func (d *Desk) run(ctx context.Context, organisation, id uuid.UUID) (Run, error) {
	all, err := d.Runs(ctx, organisation, 10)
	if err != nil {
		return Run{}, err
	}
	for _, r := range all {
		if r.ID == id {
			return r, nil
		}
	}
	return Run{}, fmt.Errorf("run %s of retention is not there", id)
}
