// Package archive writes what was said in conversations that are over into archives that only their organisation can read, checks them, and opens them on
// the organisation's own machine. It promises that every name and every message that goes into one was decided and recorded first, that nothing half-written passes for an
// archive, that an archive which was changed is found out with nothing but the public key of the log, and that it is known which archive has whom.
package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Actions of archives in the log.
const (
	ActPlan    = "archive.plan"
	ActAsk     = "archive.ask"
	ActBegin   = "archive.begin"
	ActMade    = "archive.made"
	ActGivenUp = "archive.given_up"
	ActRemoved = "archive.removed"
)

var (
	// ErrNoTarget means that the host has no place for archives.
	ErrNoTarget = errors.New("there is no place for archives: set COUNTERFOIL_ARCHIVE_DIR or COUNTERFOIL_ARCHIVE_BUCKET")
	// ErrNoRecipient means that the organisation has not said to whose key archives are sealed.
	ErrNoRecipient = errors.New("nobody has set to whose key archives are sealed: counterfoil archive set")
	// ErrRecipient means that something is no recipient.
	ErrRecipient = errors.New("a recipient is an age public key: age1 and 58 letters and digits, as age-keygen prints it")
	// ErrBusy means that an archive of the organisation is being written.
	ErrBusy = errors.New("an archive of this organisation is being written already")
	// ErrTarget means that the place of the archives does not take what is written. What was written before stays and is carried on from.
	ErrTarget = errors.New("the place of the archives does not take it")
	// ErrLost means that files of an archive under way are no more what they were. It was given up, and the next one has their conversations again.
	ErrLost = errors.New("files of the archive under way are gone or changed: it was given up, and the next one begins anew")
)

// Target is where archives lie: a directory or a bucket.
type Target interface {
	publish.Destination
	// Locks reports whether what is written there can be removed by nobody for a time.
	Locks() bool
	// Remove removes a file of a place, or with an empty name the place; what is locked stays.
	Remove(ctx context.Context, place, name string) error
}

// Config is what a Desk is made of; every field is needed but Target and PartBytes.
type Config struct {
	Pool   *pgxpool.Pool // the service's role
	Gate   *access.Gate
	Log    *pglog.Log
	Key    audit.Key // that signs the logs
	Target Target    // nil for none
	Scene  func(ctx context.Context, organisation, conversation uuid.UUID) (access.Scene, error)

	VisitorToArchive      access.Reader[euii.Archive]
	AgentToArchive        access.Reader[euii.Archive]
	ConversationToArchive access.ConversationToArchive

	PartBytes int // of a file before it is packed; zero for what is usual
}

// partBytes bounds what is held in memory of a file.
const partBytes = 8 << 20

// Desk is where archives are made. It is safe for concurrent use.
type Desk struct{ Config }

// New makes a Desk.
func New(c Config) *Desk {
	if c.PartBytes == 0 {
		c.PartBytes = partBytes
	}
	return &Desk{c}
}

// Ready reports whether there is a place for archives.
func (d *Desk) Ready() bool { return d.Target != nil }

// Place names for people where the archives of an organisation lie; empty when there is nowhere.
func (d *Desk) Place(organisation uuid.UUID) string {
	if d.Target == nil {
		return ""
	}
	return d.Target.Where(placeOf(organisation, ""))
}

// placeOf is the place of an archive, or with an empty name of all archives of an organisation.
func placeOf(organisation uuid.UUID, name string) string {
	return path.Join("archive", organisation.String(), name)
}

// Plan is to whose key an organisation has its archives sealed, and how often.
type Plan struct {
	Recipient string    `json:"recipient"` // empty while nobody set one
	Every     int       `json:"every_days"`
	Set       time.Time `json:"set,omitzero"`
	Act       uint64    `json:"record"`
}

// The most days between two archives.
const mostDays = 31

const (
	sqlPlan    = "select act, recipient, every_days, set_at from access.archive_plan($1)"
	sqlSetPlan = "select access.set_archive_plan($1, $2)"
)

// Plan gives it as it is set.
func (d *Desk) Plan(ctx context.Context, organisation uuid.UUID) (Plan, error) {
	var p Plan
	var act int64
	err := d.Pool.QueryRow(ctx, sqlPlan, organisation).Scan(&act, &p.Recipient, &p.Every, &p.Set)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return p, fmt.Errorf("read plan of archives: %w", err)
	}
	p.Act = uint64(act)
	return p, nil
}

// SetPlan sets it: an empty recipient ends archiving, and every zero days means only when somebody asks. Policy decides who may.
func (d *Desk) SetPlan(ctx context.Context, who principal.Principal, organisation uuid.UUID, recipient string, every int, on access.Grounds) error {
	if recipient != "" {
		if _, err := age.ParseX25519Recipient(recipient); err != nil {
			return ErrRecipient
		}
	}
	if every < 0 || every > mostDays {
		return fmt.Errorf("archives are made every 1 to %d days, or 0 for none but those somebody asks for", mostDays)
	}
	facts := map[string]string{"archive.recipient": recipient, "archive.every": strconv.Itoa(every)}
	act, err := d.Gate.Order(ctx, who, access.Order{Organisation: organisation, Purpose: policy.ControlData, Action: ActPlan, Facts: facts, On: on})
	if err != nil {
		return err
	}
	if _, err := d.Pool.Exec(ctx, sqlSetPlan, organisation, int64(act)); err != nil {
		return fmt.Errorf("set plan of archives: %w", err)
	}
	return nil
}

// Archive is one, as it stands.
type Archive struct {
	ID        uuid.UUID  `json:"id"`
	Name      string     `json:"name"`
	Number    int        `json:"number,omitempty"` // zero until it is made
	Recipient string     `json:"recipient"`
	Target    string     `json:"target"`
	Began     time.Time  `json:"began"`
	Order     uint64     `json:"order"` // the record of beginning it
	Made      *time.Time `json:"made,omitempty"`
	Record    *uint64    `json:"record,omitempty"` // that it is made
	Manifest  string     `json:"manifest,omitempty"`
	GivenUp   *time.Time `json:"given_up,omitempty"`
	Removed   *time.Time `json:"removed,omitempty"`
	Locked    *time.Time `json:"locked_until,omitempty"`
	Until     time.Time  `json:"until"`

	Conversations int64      `json:"conversations"`
	Events        int64      `json:"events"`
	People        int64      `json:"people"`
	Parts         int64      `json:"files"`
	Bytes         int64      `json:"bytes"`
	First         *time.Time `json:"first,omitempty"`
	Last          *time.Time `json:"last,omitempty"`
}

// UnderWay reports whether it is neither made nor given up.
func (a Archive) UnderWay() bool { return a.Made == nil && a.GivenUp == nil }

const sqlArchives = `select archive_id, act, recipient, target, name, locked_until, began_at, coalesce(number, 0), coalesce(manifest, ''), made_act, made_at, given_up_at, removed_at, until,
	conversations, events, people, parts, bytes, first_at, last_at from access.archives($1, $2)`

// Archives gives those of an organisation, the newest first.
func (d *Desk) Archives(ctx context.Context, organisation uuid.UUID, limit int) ([]Archive, error) {
	rows, err := d.Pool.Query(ctx, sqlArchives, organisation, limit)
	if err != nil {
		return nil, fmt.Errorf("list archives: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Archive, err error) {
		var act int64
		var made *int64
		err = row.Scan(&a.ID, &act, &a.Recipient, &a.Target, &a.Name, &a.Locked, &a.Began, &a.Number, &a.Manifest, &made, &a.Made, &a.GivenUp, &a.Removed, &a.Until,
			&a.Conversations, &a.Events, &a.People, &a.Parts, &a.Bytes, &a.First, &a.Last)
		if a.Order = uint64(act); made != nil {
			a.Record = new(uint64)
			*a.Record = uint64(*made)
		}
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list archives: %w", err)
	}
	return all, nil
}

// listed is how many archives are looked through: more than a daily one makes in ten years.
const listed = 5000

// Due reports whether an archive of an organisation is to be made by itself now, or carried on with.
func (d *Desk) Due(ctx context.Context, organisation uuid.UUID, now time.Time) (bool, error) {
	p, err := d.Plan(ctx, organisation)
	if err != nil || p.Recipient == "" || p.Every == 0 {
		return false, err
	}
	all, err := d.Archives(ctx, organisation, listed)
	if err != nil {
		return false, err
	}
	for _, a := range all {
		switch {
		case a.UnderWay():
			return true, nil
		case a.Made != nil:
			return !now.Before(a.Began.AddDate(0, 0, p.Every)), nil
		}
	}
	return true, nil
}

const sqlDue = "select archive_id, name from access.archives_due($1) where target = $2"

// Expire removes the archives whose time is over and those that were given up, and records each. What a hold covers stays.
func (d *Desk) Expire(ctx context.Context, organisation uuid.UUID) (removed int, err error) {
	if d.Target == nil {
		return 0, nil
	}
	rows, err := d.Pool.Query(ctx, sqlDue, organisation, d.Place(organisation))
	if err != nil {
		return 0, fmt.Errorf("look for archives that are due: %w", err)
	}
	type due struct {
		ID   uuid.UUID
		Name string
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[due])
	if err != nil {
		return 0, fmt.Errorf("look for archives that are due: %w", err)
	}
	for _, a := range all {
		if err := d.Target.Remove(ctx, placeOf(organisation, a.Name), ""); err != nil {
			return removed, fmt.Errorf("remove archive %s: %w", a.Name, err)
		}
		act, err := d.Gate.Archiving(ctx, organisation, ActRemoved, map[string]string{"archive.id": a.ID.String(), "archive.name": a.Name})
		if err != nil {
			return removed, err
		}
		if _, err := d.Pool.Exec(ctx, sqlRemoved, organisation, int64(act)); err != nil {
			return removed, fmt.Errorf("note removal of archive %s: %w", a.Name, err)
		}
		removed++
	}
	return removed, nil
}

const sqlRemoved = "select access.remove_archive($1, $2)"
