package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/egress"
)

const (
	sqlNoteEgress        = "select access.note_egress($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
	sqlNoteEgressBlocked = "select access.note_egress_blocked($1, $2, $3, $4)"
	sqlEgress            = `select organisation_id, name, hosts, owner, purpose, data, party, region, since, seen_at, on_register, attempts, connections, failures, blocked, sent, received
	from access.egress($1)`
	sqlEgressBlocked = "select name, target, n, first_at, last_at from access.egress_blocked($1)"
)

// NoteEgress keeps what a node has on its register of outbound destinations, and what was refused.
func (s *Store) NoteEgress(ctx context.Context, reports []egress.Report, refused []egress.Attempt) error {
	b := &pgx.Batch{}
	for _, r := range reports {
		b.Queue(sqlNoteEgress, r.Organisation, r.Name, append([]string{}, r.Hosts...), r.Owner, r.Purpose, append([]egress.Class{}, r.Data...), r.Party, r.Region, r.Attempts, r.Connections, r.Failures, r.Blocked, r.Sent, r.Received)
	}
	for _, a := range refused {
		b.Queue(sqlNoteEgressBlocked, a.Organisation, a.Name, a.Target, a.N)
	}
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("note outbound destinations: %w", err)
	}
	return nil
}

// Destination is an outbound destination, as the nodes have it and with their counts added up.
type Destination struct {
	egress.Report
	Since, SeenAt time.Time
	OnRegister    bool // of a node that runs
}

// Refused is an outbound attempt at what is not registered.
type Refused struct {
	Name, Target    string
	N               int64
	FirstAt, LastAt time.Time
}

// Egress lists the outbound destinations of an organisation and of whoever runs the service, and what was refused.
func (s *Store) Egress(ctx context.Context, organisation uuid.UUID) ([]Destination, []Refused, error) {
	rows, err := s.pool.Query(ctx, sqlEgress, organisation)
	if err != nil {
		return nil, nil, fmt.Errorf("list outbound destinations: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Destination, err error) {
		err = row.Scan(&d.Organisation, &d.Name, &d.Hosts, &d.Owner, &d.Purpose, &d.Data, &d.Party, &d.Region, &d.Since, &d.SeenAt, &d.OnRegister,
			&d.Attempts, &d.Connections, &d.Failures, &d.Blocked, &d.Sent, &d.Received)
		return d, err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list outbound destinations: %w", err)
	}
	if rows, err = s.pool.Query(ctx, sqlEgressBlocked, organisation); err != nil {
		return nil, nil, fmt.Errorf("list refused destinations: %w", err)
	}
	refused, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Refused])
	if err != nil {
		return nil, nil, fmt.Errorf("list refused destinations: %w", err)
	}
	return all, refused, nil
}
