package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Actions of erasures in the log.
const (
	ActErase   = "erasure.order"
	ActRefused = "erasure.refused"
	ActErased  = "erasure.done"
)

// eraseAtOnce is how many conversations go in one transaction: few enough that nobody waits for it.
const eraseAtOnce = 200

// Erasure is one that was ordered, as it stands. When it is done, record Certificate certifies it.
type Erasure struct {
	ID            uuid.UUID  `json:"id"`
	Kind          string     `json:"kind"`
	Reference     string     `json:"reference"` // that records know the subject by
	Subject       uuid.UUID  `json:"-"`
	Order         uint64     `json:"order"` // the record
	Ordered       time.Time  `json:"ordered"`
	Conversations int64      `json:"conversations"`
	Messages      int64      `json:"messages"`
	Fields        int64      `json:"fields"`
	Keys          int64      `json:"keys"`
	Others        int64      `json:"others"`
	Certificate   *uint64    `json:"certificate,omitempty"`
	Done          *time.Time `json:"done,omitempty"`

	Archives []Elsewhere `json:"archives,omitempty"` // that have the subject still, of one that is looked at alone
}

const (
	sqlErasable          = "select access.erasable($1, $2, $3)"
	sqlOrderErasure      = "select access.order_erasure($1, $2)"
	sqlEraseSome         = "select access.erase_some($1, $2, $3)"
	sqlFinishErasure     = "select access.finish_erasure($1, $2, $3)"
	sqlOpenErasures      = "select organisation_id, erasure_id from access.open_erasures()"
	sqlErasures          = "select erasure_id, kind, subject_ref, subject_id, act, ordered_at, conversations, messages, fields, keys, others, done_act, done_at from access.erasures($1, $2, $3)"
	sqlDirectory         = "select aad_object_id from chat.agent where organisation_id = $1 and agent_id = $2"
	sqlForgetAcceptances = "select access.forget_acceptances($1, $2, $3)"
	sqlErased            = "select reference, done_act, done_at from access.erased($1, $2)"
)

// Erase erases a person, a conversation or the organisation: it asks policy, records the order, removes everything, makes sure that nothing is
// left, and records that. It fails with ErrHeld, ErrOpen, ErrGone or access.ErrDenied, and then nothing was removed. When it breaks off later, what is
// left is resumed by Resume.
func (d *Desk) Erase(ctx context.Context, who principal.Principal, s Subject, on access.Grounds) (Erasure, error) {
	id, err := d.OrderErasure(ctx, who, s, on)
	if err != nil {
		return Erasure{}, err
	}
	return d.Resume(ctx, s.Organisation, id, nil)
}

// OrderErasure is the first part of Erase: from then on the erasure will be done.
func (d *Desk) OrderErasure(ctx context.Context, who principal.Principal, s Subject, on access.Grounds) (uuid.UUID, error) {
	o := access.Order{Organisation: s.Organisation, Purpose: policy.EraseData, SubjectKind: s.Kind, Subject: s.ID, On: on}
	if s.Kind == "organisation" {
		o.Purpose, o.SubjectKind, o.Subject = policy.EraseOrganisation, "", uuid.Nil
	}
	return d.order(ctx, who, s, o)
}

func (d *Desk) order(ctx context.Context, who principal.Principal, s Subject, o access.Order) (uuid.UUID, error) {
	if d.erase == nil {
		return uuid.Nil, ErrNoEraser
	}
	ref, err := d.gate.Reference(ctx, s.Organisation, s.ID)
	if errors.Is(err, access.ErrErased) {
		return uuid.Nil, ErrGone
	}
	if err != nil {
		return uuid.Nil, err
	}
	var why string
	if err := d.pool.QueryRow(ctx, sqlErasable, s.Organisation, s.Kind, s.ID).Scan(&why); err != nil {
		return uuid.Nil, fmt.Errorf("order erasure: %w", err)
	}
	if why == "open" {
		return uuid.Nil, ErrOpen
	}
	id := uuid.New()
	facts := map[string]string{"erasure.id": id.String(), "erasure.kind": s.Kind, "erasure.subject": s.ID.String(), "erasure.reference": ref}
	for k, v := range o.Facts {
		facts[k] = v
	}
	o.Action, o.Facts = ActErase, facts
	holds, err := d.holding(ctx, s)
	if err != nil {
		return uuid.Nil, err
	}
	if len(holds) > 0 {
		o.Action = ActRefused
		facts["erasure.holds"] = HeldError{holds}.Error()[len(ErrHeld.Error())+2:]
		facts["erasure.holds"] = facts["erasure.holds"][:min(len(facts["erasure.holds"]), 400)]
	}
	act, err := d.gate.Order(ctx, who, o)
	switch {
	case err != nil:
		return uuid.Nil, err
	case len(holds) > 0:
		return uuid.Nil, HeldError{holds}
	}
	if err := d.pool.QueryRow(ctx, sqlOrderErasure, s.Organisation, int64(act)).Scan(&why); err != nil {
		return uuid.Nil, fmt.Errorf("order erasure: %w", err)
	}
	switch why {
	case "":
		return id, nil
	case "held": // since a moment ago
		if holds, err = d.holding(ctx, s); err != nil {
			return uuid.Nil, err
		}
		return uuid.Nil, HeldError{holds}
	case "open":
		return uuid.Nil, ErrOpen
	case "running":
		e, err := d.erasure(ctx, s.Organisation, s.ID)
		return e.ID, err
	}
	return uuid.Nil, ErrGone
}

// Resume carries on with an erasure until nothing is left, also when somebody else does the same, and gives it as it is then. progress may be nil.
func (d *Desk) Resume(ctx context.Context, organisation, id uuid.UUID, progress func(Erasure) error) (e Erasure, err error) {
	if d.erase == nil {
		return Erasure{}, ErrNoEraser
	}
	if e, err = d.erasure(ctx, organisation, id); err != nil || e.Done != nil {
		return e, err
	}
	err = d.alone(ctx, "erasure", id, math.MaxInt64, func(conn *pgxpool.Conn) (err error) {
		e, err = d.resume(ctx, conn, organisation, id, progress)
		return err
	})
	return e, err
}

func (d *Desk) resume(ctx context.Context, conn *pgxpool.Conn, organisation, id uuid.UUID, progress func(Erasure) error) (Erasure, error) {
	e, err := d.erasure(ctx, organisation, id)
	if err != nil || e.Done != nil { // who did the same has finished
		return e, err
	}
	if e.Kind == "agent" {
		if err := d.forgetAcceptances(ctx, organisation, e); err != nil {
			return e, err
		}
	}
	for {
		var n int64
		err := conn.QueryRow(ctx, sqlEraseSome, organisation, id, eraseAtOnce).Scan(&n)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55000" {
			return Erasure{}, fmt.Errorf("erasure %s cannot go on: %w", id, ErrHeld)
		}
		if err != nil {
			return Erasure{}, fmt.Errorf("erase: %w", err)
		}
		if n == 0 {
			break
		}
		if progress != nil {
			e, err := d.erasure(ctx, organisation, id)
			if err == nil {
				err = progress(e)
			}
			if err != nil {
				return Erasure{}, err
			}
		}
	}
	if e, err = d.erasure(ctx, organisation, id); err != nil {
		return e, err
	}
	facts := map[string]string{"erasure.id": id.String(), "erasure.kind": e.Kind, "erasure.subject": e.Subject.String(), "erasure.reference": e.Reference, "erasure.order": strconv.FormatUint(e.Order, 10),
		"erased.conversations": number(e.Conversations), "erased.messages": number(e.Messages), "erased.fields": number(e.Fields), "erased.keys": number(e.Keys), "erased.others": number(e.Others)}
	until, err := d.Backups(ctx, organisation)
	if err != nil {
		return e, err
	}
	if until != nil {
		facts["erased.backups_until"] = until.UTC().Format(time.RFC3339)
	}
	if len(e.Archives) > 0 {
		facts["erased.archives"] = number(int64(len(e.Archives)))
		facts["erased.archives_until"] = lastOf(e.Archives).UTC().Format(time.RFC3339)
	}
	left, err := d.Kept(ctx, Subject{organisation, e.Kind, e.Subject})
	if err != nil {
		return e, err
	}
	if left.Total() > 0 {
		return e, fmt.Errorf("erasure %s: %d rows are left in %s", id, left.Total(), left.Places[0].Place)
	}
	done, err := d.gate.Order(ctx, principal.NewJob(organisation, "retention"), access.Order{Organisation: organisation, Purpose: policy.ApplyRetention, Action: ActErased, Facts: facts})
	if err != nil {
		return e, err
	}
	var finished bool
	if err := d.pool.QueryRow(ctx, sqlFinishErasure, organisation, id, int64(done)).Scan(&finished); err != nil {
		return e, fmt.Errorf("finish erasure: %w", err)
	}
	if e, err = d.erasure(ctx, organisation, id); err == nil && e.Done == nil {
		err = fmt.Errorf("erasure %s: something came back while it was finished", id)
	}
	return e, err
}

// forgetAcceptances removes which notices an agent accepted: they are known by his directory id, which goes with him.
func (d *Desk) forgetAcceptances(ctx context.Context, organisation uuid.UUID, e Erasure) error {
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('counterfoil.organisation', $1, true)", organisation.String()); err != nil {
			return err
		}
		var directory *string
		if err := tx.QueryRow(ctx, sqlDirectory, organisation, e.Subject).Scan(&directory); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if directory == nil {
			return nil
		}
		person, err := d.gate.ReferenceText(ctx, organisation, "directory", *directory)
		if err == nil {
			_, err = tx.Exec(ctx, sqlForgetAcceptances, organisation, e.ID, person)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove what an agent accepted: %w", err)
	}
	return nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// Open gives the erasures of all organisations that are not done.
func (d *Desk) Open(ctx context.Context) ([][2]uuid.UUID, error) {
	rows, err := d.pool.Query(ctx, sqlOpenErasures)
	if err == nil {
		var all [][2]uuid.UUID
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e [2]uuid.UUID, err error) { return e, row.Scan(&e[0], &e[1]) })
		if err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("list open erasures: %w", err)
}

func (d *Desk) erasure(ctx context.Context, organisation, id uuid.UUID) (Erasure, error) {
	all, err := d.erasures(ctx, organisation, &id, 1)
	if err == nil && len(all) == 0 {
		err = ErrGone
	}
	if err != nil {
		return Erasure{}, err
	}
	e := all[0]
	e.Archives, err = d.archives(ctx, Subject{organisation, e.Kind, e.Subject})
	return e, err
}

// lastOf is when the last of some archives is removed.
func lastOf(all []Elsewhere) (last time.Time) {
	for _, a := range all {
		if a.Until != nil && a.Until.After(last) {
			last = *a.Until
		}
	}
	return last
}

// Erasure gives one, by its id or that of its subject.
func (d *Desk) Erasure(ctx context.Context, organisation, id uuid.UUID) (Erasure, error) {
	return d.erasure(ctx, organisation, id)
}

// Erasures gives those of an organisation, the open ones first and then the newest.
func (d *Desk) Erasures(ctx context.Context, organisation uuid.UUID, limit int) ([]Erasure, error) {
	return d.erasures(ctx, organisation, nil, limit)
}

func (d *Desk) erasures(ctx context.Context, organisation uuid.UUID, id *uuid.UUID, limit int) ([]Erasure, error) {
	rows, err := d.pool.Query(ctx, sqlErasures, organisation, id, limit)
	if err != nil {
		return nil, fmt.Errorf("list erasures: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Erasure, err error) {
		var order int64
		var certificate *int64
		err = row.Scan(&e.ID, &e.Kind, &e.Reference, &e.Subject, &order, &e.Ordered, &e.Conversations, &e.Messages, &e.Fields, &e.Keys, &e.Others, &certificate, &e.Done)
		if e.Order = uint64(order); certificate != nil {
			e.Certificate = new(uint64)
			*e.Certificate = uint64(*certificate)
		}
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("list erasures: %w", err)
	}
	return all, nil
}

// Gone is that a reference stands for what was erased.
type Gone struct {
	Certificate uint64 // the record that certifies it
	At          time.Time
}

// Erased tells which references stand for what was erased.
func (d *Desk) Erased(ctx context.Context, organisation uuid.UUID, refs ...string) (map[string]Gone, error) {
	rows, err := d.pool.Query(ctx, sqlErased, organisation, refs)
	if err != nil {
		return nil, fmt.Errorf("look for erased references: %w", err)
	}
	all := make(map[string]Gone)
	var ref string
	var done int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&ref, &done, &at}, func() error {
		all[strings.Clone(ref)] = Gone{uint64(done), at}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for erased references: %w", err)
	}
	return all, nil
}
