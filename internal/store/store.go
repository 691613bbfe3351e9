// Package store keeps conversations in PostgreSQL: organisations, widgets, visitors, agents, events and the outbox. It
// handles sealed values only. Every statement runs with the organisation set for row level security.
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
)

// Store is safe for concurrent use.
type Store struct{ pool *pgxpool.Pool }

// New makes a Store over a pool of the service's role.
func New(pool *pgxpool.Pool) *Store { return &Store{pool} }

// enter makes row level security let the statements that follow in the same transaction see one organisation.
const enter = "select set_config('counterfoil.organisation', $1, true)"

// transaction runs fn in a transaction for one organisation and rolls back when fn fails.
func (s *Store) transaction(ctx context.Context, organisation uuid.UUID, fn func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, enter, organisation.String()); err != nil {
			return err
		}
		return fn(tx)
	})
}

// batch sends statements for one organisation in one round trip. Without an explicit begin, all statements of a
// pipeline up to its end are one transaction; what a row callback returns comes too late to undo them.
func (s *Store) batch(ctx context.Context, organisation uuid.UUID, queue func(*pgx.Batch)) error {
	b := &pgx.Batch{}
	b.Queue(enter, organisation.String())
	queue(b)
	return s.pool.SendBatch(ctx, b).Close()
}

// conflict reports whether err is a violation of the named unique constraint or index.
func conflict(err error, name string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505" && pgErr.ConstraintName == name
}

func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return chat.ErrNotFound
	}
	return err
}

func queueValues(b *pgx.Batch, sealed []euii.Sealed) {
	for _, v := range sealed {
		r := v.Ref()
		b.Queue("select access.put_value($1, $2, $3, $4, $5)", r.Organisation, r.Subject, r.Row, r.Field.String(), v.Ciphertext())
		if index := v.Index(); index != nil {
			b.Queue("select access.put_index($1, $2, $3, $4, $5)", r.Organisation, r.Subject, r.Row, r.Field.String(), index)
		}
	}
}

const sqlOrganisations = `select organisation_id, name, tenant_id, log_origin, language, share_visitor_email, create_agents, name_in_channel,
	limit_visitor, limit_agent, limit_channel, limit_admin, limit_operator, limit_job
	from access.organisations()`

// Organisations lists all organisations, oldest first.
func (s *Store) Organisations(ctx context.Context) ([]chat.Organisation, error) {
	rows, err := s.pool.Query(ctx, sqlOrganisations)
	if err != nil {
		return nil, fmt.Errorf("list organisations: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o chat.Organisation, err error) {
		l := &o.Settings.Limits
		err = row.Scan(&o.ID, &o.Name, &o.Tenant, &o.Origin, &o.Language, &o.Settings.ShareVisitorEmail, &o.Settings.CreateAgents, &o.Settings.NameInChannel,
			&l.Visitor, &l.Agent, &l.Channel, &l.Admin, &l.Operator, &l.Job)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("list organisations: %w", err)
	}
	return out, nil
}

const sqlInsertOrganisation = `insert into chat.organisation (organisation_id, name, tenant_id, log_origin, language,
	share_visitor_email, create_agents, name_in_channel) values ($1, $2, nullif($3, ''), $4, $5, $6, $7, $8)`

// CreateOrganisation makes an organisation with its wrapped key; start begins its log in the same transaction.
func (s *Store) CreateOrganisation(ctx context.Context, o chat.Organisation, wrapped []byte, start func(context.Context, pgx.Tx) error) error {
	err := s.transaction(ctx, o.ID, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlInsertOrganisation, o.ID, o.Name, o.Tenant, o.Origin, o.Language,
			o.Settings.ShareVisitorEmail, o.Settings.CreateAgents, o.Settings.NameInChannel); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlCreateKey, o.ID, o.ID, "organisation", wrapped); err != nil {
			return err
		}
		return start(ctx, tx)
	})
	if conflict(err, "organisation_tenant_id_key") {
		return fmt.Errorf("another organisation has the Teams tenant %s already", o.Tenant)
	}
	if err != nil {
		return fmt.Errorf("create organisation: %w", err)
	}
	return nil
}

const sqlSetLimits = `update chat.organisation set limit_visitor = nullif($2, 0), limit_agent = nullif($3, 0), limit_channel = nullif($4, 0),
	limit_admin = nullif($5, 0), limit_operator = nullif($6, 0), limit_job = nullif($7, 0) where organisation_id = $1`

// SetLimits gives an organisation these limits.
func (s *Store) SetLimits(ctx context.Context, organisation uuid.UUID, l chat.Limits) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlSetLimits, organisation, l.Visitor, l.Agent, l.Channel, l.Admin, l.Operator, l.Job)
	})
	if err != nil {
		return fmt.Errorf("set limits: %w", err)
	}
	return nil
}

const sqlCreateKey = "select access.create_key($1, $2, $3, $4)"

const sqlInsertWidget = `insert into chat.widget (organisation_id, widget_id, public_key, name, sites) values ($1, $2, $3, $4, $5)`

// CreateWidget makes a widget.
func (s *Store) CreateWidget(ctx context.Context, w chat.Widget) error {
	err := s.batch(ctx, w.Organisation, func(b *pgx.Batch) {
		b.Queue(sqlInsertWidget, w.Organisation, w.ID, w.Key, w.Name, w.Sites)
	})
	if err != nil {
		return fmt.Errorf("create widget: %w", err)
	}
	return nil
}

const sqlWidgets = `select organisation_id, widget_id, public_key, name, sites from chat.widget where organisation_id = $1 order by created_at, widget_id`

// Widgets lists the widgets of an organisation, oldest first.
func (s *Store) Widgets(ctx context.Context, organisation uuid.UUID) ([]chat.Widget, error) {
	var out []chat.Widget
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlWidgets, organisation).Query(func(rows pgx.Rows) (err error) {
			out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w chat.Widget, err error) {
				err = row.Scan(&w.Organisation, &w.ID, &w.Key, &w.Name, &w.Sites)
				return w, err
			})
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list widgets: %w", err)
	}
	return out, nil
}

const sqlWidgetByKey = `select organisation_id, widget_id, name, sites from access.widget_by_key($1)`

// WidgetByKey finds a widget by its public key.
func (s *Store) WidgetByKey(ctx context.Context, key string) (chat.Widget, error) {
	w := chat.Widget{Key: key}
	err := s.pool.QueryRow(ctx, sqlWidgetByKey, key).Scan(&w.Organisation, &w.ID, &w.Name, &w.Sites)
	if err != nil {
		return chat.Widget{}, fmt.Errorf("find widget: %w", notFound(err))
	}
	return w, nil
}
