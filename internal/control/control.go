// Package control decides how long data is kept, holds it, deletes it when its time is over, and erases it when that is asked for. It promises
// that each of these is on record before it is done, that the database does what the record says and nothing else, that a hold wins, and
// that nothing is called done of which something is left.
package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/access"
)

var (
	// ErrNoEraser means that nothing can be removed, because the role that may is not known here.
	ErrNoEraser = errors.New("nothing can be removed here: COUNTERFOIL_RETENTION_URL must name the database as the role counterfoil_retention")
	// ErrGone means that there is nothing to erase or to hold: it never was, or it was erased.
	ErrGone = errors.New("nothing of this is kept: it was erased, or never was")
	// ErrOpen means that a conversation is going on.
	ErrOpen = errors.New("a conversation is still open: end it first")
	// ErrRunning means that somebody else does the same at this moment.
	ErrRunning = errors.New("retention is being applied by another process at this moment")
	// ErrHeld means that a legal hold forbids it.
	ErrHeld = errors.New("a legal hold forbids this")
)

// HeldError is an ErrHeld with the holds that stand against it.
type HeldError struct{ Holds []uuid.UUID }

func (e HeldError) Error() string {
	ids := make([]string, len(e.Holds))
	for i, id := range e.Holds {
		ids[i] = id.String()
	}
	return ErrHeld.Error() + ": " + strings.Join(ids, ", ")
}

// Is says that it is an ErrHeld.
func (HeldError) Is(target error) bool { return target == ErrHeld }

// Desk is where what is kept is looked after. It is safe for concurrent use.
type Desk struct {
	pool  *pgxpool.Pool
	erase *pgxpool.Pool
	gate  *access.Gate
}

// New makes a Desk. pool is of the service's role; erase is of the role of retention, nil where that is not known.
func New(pool, erase *pgxpool.Pool, gate *access.Gate) *Desk {
	return &Desk{pool: pool, erase: erase, gate: gate}
}

// A turn ends with its connection, so that whoever dies keeps nobody from carrying on.
const (
	sqlTakeTurn = "select access.take_turn($1, $2)"
	sqlEndTurn  = "select access.end_turn($1, $2)"
)

// patience is how long one waits for who does the same: a process that was killed is missed by the database within this time.
const patience = 10 * time.Second

// alone runs f with the connection of the role of retention while nobody else, on any node, does the same to the same. It waits for them at most so long.
func (d *Desk) alone(ctx context.Context, what string, id uuid.UUID, wait time.Duration, f func(*pgxpool.Conn) error) error {
	conn, err := d.erase.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect as the role of retention: %w", err)
	}
	defer conn.Release()
	for begun := time.Now(); ; {
		var ours bool
		if err := conn.QueryRow(ctx, sqlTakeTurn, what, id).Scan(&ours); err != nil {
			return fmt.Errorf("wait for others: %w", err)
		}
		if ours {
			break
		}
		if time.Since(begun) > wait {
			return ErrRunning
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if _, err := conn.Exec(ctx, sqlEndTurn, what, id); err != nil {
			_ = conn.Conn().Close(ctx) // which ends the lock too
		}
	}()
	return f(conn)
}

// Subject is whom or what something is about: a visitor, an agent, a conversation, or the organisation itself.
type Subject struct {
	Organisation uuid.UUID
	Kind         string // visitor, agent, conversation, organisation
	ID           uuid.UUID
}

// Whole is an organisation as a subject.
func Whole(organisation uuid.UUID) Subject {
	return Subject{Organisation: organisation, Kind: "organisation", ID: organisation}
}

// Place is where something of a subject is kept.
type Place struct {
	Place string     `json:"place"` // table, with the field where it is one of several
	N     int64      `json:"n"`
	First *time.Time `json:"first,omitempty"`
	Last  *time.Time `json:"last,omitempty"`
}

// Elsewhere is where something of a subject is beyond the reach of an erasure, until when; without a time it is not for us to say.
type Elsewhere struct {
	What  string     `json:"what"` // backup, record, teams, archive
	Until *time.Time `json:"until,omitempty"`
	Name  string     `json:"name,omitempty"` // of an archive
}

// Report is all that is kept of a subject, and what stands against erasing it.
type Report struct {
	Kind      string      `json:"kind"`
	Reference string      `json:"reference"`
	Places    []Place     `json:"places"`
	Elsewhere []Elsewhere `json:"elsewhere"`
	Holds     []uuid.UUID `json:"holds"`
}

// Total is how many rows there are.
func (r Report) Total() (n int64) {
	for _, p := range r.Places {
		n += p.N
	}
	return n
}

const (
	sqlKept    = "select place, n, first_at, last_at from access.kept($1, $2, $3) where n > 0 order by place"
	sqlHolding = "select hold_id from access.holding($1, $2, $3)"
	sqlBackups = "select now() + make_interval(days => days) from access.retention($1) where class = 'backup' and days is not null"
)

// Kept reports what is kept of a subject. It opens nothing and is no disclosure.
func (d *Desk) Kept(ctx context.Context, s Subject) (Report, error) {
	r := Report{Kind: s.Kind, Places: []Place{}, Holds: []uuid.UUID{}, Elsewhere: []Elsewhere{}}
	var err error
	if r.Reference, err = d.gate.Reference(ctx, s.Organisation, s.ID); errors.Is(err, access.ErrErased) {
		r.Reference, err = "erased", nil
	}
	if err != nil {
		return r, err
	}
	var all []Place
	err = d.counting(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlKept, s.Organisation, s.Kind, s.ID)
		if err == nil {
			all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Place, err error) {
				return p, row.Scan(&p.Place, &p.N, &p.First, &p.Last)
			})
		}
		return err
	})
	if err != nil {
		return r, fmt.Errorf("look at what is kept: %w", err)
	}
	r.Places = append(r.Places, all...)
	if r.Holds, err = d.holding(ctx, s); err != nil {
		return r, err
	}
	// Records know people by references that mean nothing without the key; what was delivered to Teams is kept there.
	until, err := d.Backups(ctx, s.Organisation)
	r.Elsewhere = append(r.Elsewhere, Elsewhere{What: "backup", Until: until}, Elsewhere{What: "record"}, Elsewhere{What: "teams"})
	if err != nil {
		return r, err
	}
	archives, err := d.archives(ctx, s)
	r.Elsewhere = append(r.Elsewhere, archives...)
	return r, err
}

// counting runs what counts, which may take as long as its caller waits: of a million conversations longer than any statement of the service.
func (d *Desk) counting(ctx context.Context, f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('statement_timeout', '10min', true)"); err != nil {
			return err
		}
		return f(tx)
	})
}

const sqlArchives = "select 'archive', until, name from access.archives_with($1, $2, $3)"

// archives gives the sealed archives that have a subject, with when each is removed. They are beyond keys: only the organisation can open them.
func (d *Desk) archives(ctx context.Context, s Subject) ([]Elsewhere, error) {
	rows, err := d.pool.Query(ctx, sqlArchives, s.Organisation, s.Kind, s.ID)
	if err == nil {
		var all []Elsewhere
		if all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Elsewhere]); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("look for archives: %w", err)
}

func (d *Desk) holding(ctx context.Context, s Subject) ([]uuid.UUID, error) {
	rows, err := d.pool.Query(ctx, sqlHolding, s.Organisation, s.Kind, s.ID)
	if err == nil {
		var holds []uuid.UUID
		if holds, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err == nil {
			return holds, nil
		}
	}
	return nil, fmt.Errorf("look at the holds: %w", err)
}

// Backups tells until when backups that are made now are kept, as the organisation says; nil if it does not.
func (d *Desk) Backups(ctx context.Context, organisation uuid.UUID) (*time.Time, error) {
	var until *time.Time
	if err := d.pool.QueryRow(ctx, sqlBackups, organisation).Scan(&until); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("look at how long backups are kept: %w", err)
	}
	return until, nil
}
