package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// ErrUnknown means that a reference is that of nobody whose key is still there.
var ErrUnknown = errors.New("nobody with this reference is kept here")

// findBatch is how many keys are looked at at once.
const findBatch = 500

const (
	sqlSubjectsBefore = "select key_id, wrapped, created_at from access.subjects_before($1, $2, $3, $4, $5)"
	sqlNewestRow      = "select coalesce(access.newest_row($1, $2), '00000000-0000-0000-0000-000000000000')"
)

// Find gives the subject of a kind that stands under a reference in a record of some time, and where his values lie. The
// reference is computed of one key after another, beginning with those that were new at the time: what leads from a
// reference to a person is written down nowhere.
func (g *Gate) Find(ctx context.Context, organisation uuid.UUID, kind, ref string, at time.Time) (subject, row uuid.UUID, err error) {
	before, last := at.Add(time.Minute), uuid.Max
	for subject == uuid.Nil {
		rows, err := g.pool.Query(ctx, sqlSubjectsBefore, organisation, kind, before, last, findBatch)
		if err != nil {
			return uuid.Nil, uuid.Nil, fmt.Errorf("%w: find subject: %w", ErrUnavailable, err)
		}
		n := 0
		var wrapped []byte
		_, err = pgx.ForEachRow(rows, []any{&last, &wrapped, &before}, func() error {
			n++
			got, err := g.ring.Reference(organisation, last, wrapped)
			if err == nil && got == ref && ref != "" { // a key that does not open is nobody's whom one could be shown
				subject = last
			}
			wrapped = nil
			return nil
		})
		if err != nil {
			return uuid.Nil, uuid.Nil, fmt.Errorf("%w: find subject: %w", ErrUnavailable, err)
		}
		if subject == uuid.Nil && n < findBatch {
			return uuid.Nil, uuid.Nil, ErrUnknown
		}
	}
	row = subject // an agent's values lie in his profile
	if kind == "visitor" {
		if err := g.pool.QueryRow(ctx, sqlNewestRow, organisation, subject).Scan(&row); err != nil {
			return uuid.Nil, uuid.Nil, fmt.Errorf("%w: find values: %w", ErrUnavailable, err)
		}
		if row == uuid.Nil {
			row = subject
		}
	}
	return subject, row, nil
}

// Finder finds whose email an address is. That somebody is kept here is something to know of him, so each search is a disclosure, though nobody is
// shown but by a reference.
type Finder struct{ gate *Gate }

// Found is somebody who was found, by his reference, and since when his email is kept.
type Found struct {
	Ref   string
	Since time.Time
}

// foundMost bounds who is found: a visitor is somebody else each time he opens a chat.
const foundMost = 50

const (
	sqlFoundBy    = "select subject_id, created_at from access.found_by($1, $2, $3, $4)"
	sqlFoundAgent = "select access.find_subject($1, $2, $3)"
)

// Find records the search and gives the agents or visitors who have the email, those of late first.
func (f Finder) Find(ctx context.Context, who principal.Admin, kind string, email euii.Inbound, on Grounds) ([]Found, error) {
	if f.gate == nil {
		return nil, errNoReader
	}
	g, organisation, field := f.gate, who.Organisation(), euii.VisitorEmail
	if kind == "agent" {
		field = euii.AgentEmail
	}
	a, err := g.authorize(ctx, question{who: who, purpose: policy.FindPerson, audience: "service", subjectKind: kind, row: organisation, fields: []euii.Field{field},
		scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}, kind: audit.Disclosure, grounds: on})
	if err != nil {
		return nil, err
	}
	wrapped, err := g.wrappedKeys(ctx, organisation, organisation)
	if err != nil {
		return nil, err
	}
	index, err := g.ring.BlindIndex(a.grant, euii.Ref{Organisation: organisation, Row: organisation, Field: field}, wrapped[organisation], email, g.now())
	if err != nil {
		return nil, opening(err)
	}
	var all []Found
	var keys []refKey
	if kind == "agent" {
		var id *uuid.UUID
		err = g.pool.QueryRow(ctx, sqlFoundAgent, organisation, field.String(), index.Hash).Scan(&id)
		if id != nil {
			all, keys = append(all, Found{Since: g.now()}), append(keys, refKey{organisation: organisation, id: *id})
		}
	} else {
		var rows pgx.Rows
		if rows, err = g.pool.Query(ctx, sqlFoundBy, organisation, field.String(), index.Hash, foundMost); err == nil {
			var id uuid.UUID
			var since time.Time
			_, err = pgx.ForEachRow(rows, []any{&id, &since}, func() error {
				all, keys = append(all, Found{Since: since}), append(keys, refKey{organisation: organisation, id: id})
				return nil
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: find by email: %w", ErrUnavailable, err)
	}
	refs, err := g.keyed(ctx, organisation, keys)
	for i := range all {
		if err == nil {
			all[i].Ref = refs[i]
		}
	}
	return all, err
}
