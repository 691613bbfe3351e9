package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/chat"
)

// Delivery is one thing to be delivered to Teams. Its content is read from its source when it is sent.
type Delivery struct {
	Organisation   uuid.UUID
	ID             int64
	Conversation   uuid.UUID
	Kind           string
	Seq            int64
	Agent          *uuid.UUID
	Attempts       int
	OutcomeUnknown bool // an earlier sender died while sending
}

const sqlClaimDeliveries = `select organisation_id, delivery_id, conversation_id, kind, seq, agent_id, attempts, outcome_unknown from access.claim_deliveries($1, $2)`

// DeliveryLease is how long a claimed delivery belongs to its sender. When the sender dies, what comes after it in the
// conversation waits that long.
const DeliveryLease = 20 * time.Second

// ClaimDeliveries leases due deliveries, at most one per conversation and lane, in order.
func (s *Store) ClaimDeliveries(ctx context.Context, limit int) ([]Delivery, error) {
	rows, err := s.pool.Query(ctx, sqlClaimDeliveries, limit, int(DeliveryLease/time.Second))
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Delivery])
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	return out, nil
}

const sqlOpenDeliveries = `select n, coalesce(extract(epoch from oldest), 0)::float8 from access.open_deliveries()`

// OpenDeliveries counts what is not delivered yet, and tells for how long the oldest of it has been due.
func (s *Store) OpenDeliveries(ctx context.Context) (n int64, oldest time.Duration, err error) {
	var seconds float64
	if err := s.pool.QueryRow(ctx, sqlOpenDeliveries).Scan(&n, &seconds); err != nil {
		return 0, 0, fmt.Errorf("count open deliveries: %w", err)
	}
	return n, time.Duration(seconds * float64(time.Second)), nil
}

const sqlFinishDelivery = `with done as (
		update chat.outbox set state = $3, reason = $4, due_at = now() + make_interval(secs => $5),
			done_at = case when $3 = 'waiting' then null else now() end
		where organisation_id = $1 and delivery_id = $2 and state = 'sending'
		returning conversation_id, kind, seq, agent_id)
	insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id)
	select $1, conversation_id, 'personal', 'doubt', seq, agent_id from done where $3 = 'unknown' and kind = 'say'`

// FinishDelivery sets the outcome: sent, failed, unknown, or waiting with a delay to try again. That nobody knows whether
// a message reached its agent is told to the agent.
func (s *Store) FinishDelivery(ctx context.Context, d Delivery, state, reason string, again time.Duration) error {
	err := s.batch(ctx, d.Organisation, func(b *pgx.Batch) {
		b.Queue(sqlFinishDelivery, d.Organisation, d.ID, state, reason, again.Seconds())
	})
	if err != nil {
		return fmt.Errorf("finish delivery: %w", err)
	}
	return nil
}

const sqlSetCard = `update chat.conversation set card_thread = $3, card_activity = $4, card_service = $5 where organisation_id = $1 and conversation_id = $2`

// SetCard keeps where a conversation's channel card is.
func (s *Store) SetCard(ctx context.Context, organisation, conversation uuid.UUID, thread, activity, service string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlSetCard, organisation, conversation, thread, activity, service)
	})
	if err != nil {
		return fmt.Errorf("keep card: %w", err)
	}
	return nil
}

const sqlSetIntro = `update chat.conversation set intro_activity = $3 where organisation_id = $1 and conversation_id = $2`

// SetIntro keeps where the introduction in the agent's 1:1 chat is.
func (s *Store) SetIntro(ctx context.Context, organisation, conversation uuid.UUID, activity string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) { b.Queue(sqlSetIntro, organisation, conversation, activity) })
	if err != nil {
		return fmt.Errorf("keep introduction: %w", err)
	}
	return nil
}

// Installation is a place in Teams where the app is installed.
type Installation struct {
	Organisation uuid.UUID
	Scope        string // "team" or "personal"
	Place        string // team id or directory id
	Channel      string // that receives the cards
	ServiceURL   string
	Bot          string
}

const sqlUpsertInstallation = `insert into chat.installation (organisation_id, scope, place, channel_id, service_url, bot_id) values ($1, $2, $3, $4, $5, $6)
	on conflict (organisation_id, scope, place) do update set service_url = excluded.service_url, bot_id = excluded.bot_id,
		channel_id = case when $7 then excluded.channel_id else installation.channel_id end, updated_at = now()`

// Installed keeps an installation; install events come in any order and several times. chosen says that somebody chose the
// channel; only then it replaces one that is known.
func (s *Store) Installed(ctx context.Context, i Installation, chosen bool) error {
	err := s.batch(ctx, i.Organisation, func(b *pgx.Batch) {
		b.Queue(sqlUpsertInstallation, i.Organisation, i.Scope, i.Place, i.Channel, i.ServiceURL, i.Bot, chosen)
	})
	if err != nil {
		return fmt.Errorf("keep installation: %w", err)
	}
	return nil
}

const sqlDeleteInstallation = `delete from chat.installation where organisation_id = $1 and scope = $2 and place = $3`

// Uninstalled forgets an installation.
func (s *Store) Uninstalled(ctx context.Context, organisation uuid.UUID, scope, place string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) { b.Queue(sqlDeleteInstallation, organisation, scope, place) })
	if err != nil {
		return fmt.Errorf("forget installation: %w", err)
	}
	return nil
}

const sqlCardChannel = `select scope, place, channel_id, service_url, bot_id from chat.installation
	where organisation_id = $1 and scope = 'team' and channel_id <> '' order by updated_at desc limit 1`

// CardChannel finds the channel that receives the cards; chat.ErrNotFound while the app is in no team.
func (s *Store) CardChannel(ctx context.Context, organisation uuid.UUID) (Installation, error) {
	i := Installation{Organisation: organisation}
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlCardChannel, organisation).QueryRow(func(row pgx.Row) error {
			return row.Scan(&i.Scope, &i.Place, &i.Channel, &i.ServiceURL, &i.Bot)
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Installation{}, chat.ErrNotFound
	}
	if err != nil {
		return Installation{}, fmt.Errorf("find card channel: %w", err)
	}
	return i, nil
}

const sqlMoved = `select distinct conversation_id from unnest($1::uuid[], $2::bigint[]) as u(conversation_id, seq)
	join chat.conversation c using (conversation_id) where c.organisation_id = $3 and c.last_seq > u.seq`

// Moved tells which of the conversations have events after the given numbers.
func (s *Store) Moved(ctx context.Context, organisation uuid.UUID, ids []uuid.UUID, seqs []int64) ([]uuid.UUID, error) {
	var out []uuid.UUID
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlMoved, ids, seqs, organisation).Query(func(rows pgx.Rows) (err error) {
			out, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("look for moved conversations: %w", err)
	}
	return out, nil
}
