package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
)

// Key is a new wrapped key to be stored.
type Key struct {
	ID      uuid.UUID
	Kind    string
	Wrapped []byte
}

// Session is a visitor's right to one conversation.
type Session struct {
	Organisation, Visitor, Conversation uuid.UUID
	ExpiresAt                           time.Time
}

// Opening is a new conversation with its first message.
type Opening struct {
	Conversation chat.Conversation
	Keys         []Key
	Notice       int    // version that the visitor accepted
	VisitorRef   string // under which that is noted
	ClientID     uuid.UUID
	First        euii.Sealed
	Values       []euii.Sealed
	TokenHash    [sha256.Size]byte
	ExpiresAt    time.Time
}

// ErrOpened means that the same request opened a conversation before.
var ErrOpened = errors.New("this conversation was opened before")

const (
	sqlInsertVisitor      = `insert into chat.visitor (organisation_id, visitor_id, widget_id) values ($1, $2, $3)`
	sqlInsertConversation = `insert into chat.conversation (organisation_id, conversation_id, widget_id, visitor_id, language, notice_version, opening_hash, last_seq)
		values ($1, $2, $3, $4, $5, $6, $7, 1)`
	sqlInsertFirst = `insert into chat.event (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id, body)
		values ($1, $2, 1, 'message', 'visitor', $3, $4, $5)`
	sqlInsertSession = `insert into chat.session (organisation_id, token_hash, visitor_id, conversation_id, expires_at) values ($1, $2, $3, $4, $5)`
	sqlQueueCard     = `insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq) values ($1, $2, 'card', $3, $4)`
)

// Open stores a new conversation, its first message and the card to be posted, all or nothing.
func (s *Store) Open(ctx context.Context, o Opening) error {
	c := o.Conversation
	hash := sha256.Sum256(o.ClientID[:])
	err := s.batch(ctx, c.Organisation, func(b *pgx.Batch) {
		for _, k := range o.Keys {
			b.Queue(sqlCreateKey, c.Organisation, k.ID, k.Kind, k.Wrapped)
		}
		b.Queue(sqlInsertVisitor, c.Organisation, c.Visitor, c.Widget)
		b.Queue(sqlInsertConversation, c.Organisation, c.ID, c.Widget, c.Visitor, c.Language, strconv.Itoa(o.Notice), hash[:])
		b.Queue(sqlAccept, c.Organisation, string(chat.ForVisitors), o.VisitorRef, o.Notice, c.Language)
		b.Queue(sqlInsertFirst, c.Organisation, c.ID, c.Visitor, o.ClientID, o.First.Ciphertext())
		queueValues(b, o.Values)
		b.Queue(sqlInsertSession, c.Organisation, o.TokenHash[:], c.Visitor, c.ID, o.ExpiresAt)
		b.Queue(sqlQueueCard, c.Organisation, c.ID, "card.post", 1)
	})
	if conflict(err, "conversation_opening") {
		return ErrOpened
	}
	if err != nil {
		return fmt.Errorf("open conversation: %w", err)
	}
	return nil
}

const sqlOpened = `select conversation_id, visitor_id from chat.conversation
	where organisation_id = $1 and widget_id = $2 and opening_hash = $3 and opened_at > now() - interval '10 minutes'`

// Reopen gives a further session to a request that opened a conversation in the last ten minutes and lost the answer.
func (s *Store) Reopen(ctx context.Context, w chat.Widget, clientID uuid.UUID, tokenHash [sha256.Size]byte, expires time.Time) (Session, error) {
	hash := sha256.Sum256(clientID[:])
	out := Session{Organisation: w.Organisation, ExpiresAt: expires}
	err := s.batch(ctx, w.Organisation, func(b *pgx.Batch) {
		b.Queue(sqlOpened, w.Organisation, w.ID, hash[:]).QueryRow(func(row pgx.Row) error { return row.Scan(&out.Conversation, &out.Visitor) })
	})
	if err == nil {
		err = s.batch(ctx, w.Organisation, func(b *pgx.Batch) {
			b.Queue(sqlInsertSession, w.Organisation, tokenHash[:], out.Visitor, out.Conversation, expires)
		})
	}
	if err != nil {
		return Session{}, fmt.Errorf("find opened conversation: %w", notFound(err))
	}
	return out, nil
}

const sqlSession = `select organisation_id, visitor_id, conversation_id, expires_at from access.session_by_token($1)`

// Session finds the session of a token's hash.
func (s *Store) Session(ctx context.Context, tokenHash [sha256.Size]byte) (Session, error) {
	var out Session
	err := s.pool.QueryRow(ctx, sqlSession, tokenHash[:]).Scan(&out.Organisation, &out.Visitor, &out.Conversation, &out.ExpiresAt)
	if err != nil {
		return Session{}, fmt.Errorf("find session: %w", notFound(err))
	}
	return out, nil
}

const sqlConversation = `select c.widget_id, c.visitor_id, coalesce(c.agent_id, '00000000-0000-0000-0000-000000000000'), c.state, c.language, c.last_seq, c.opened_at, coalesce(c.closed_by, ''),
	coalesce(c.card_thread, ''), coalesce(c.card_activity, ''), coalesce(c.card_service, ''), coalesce(c.intro_activity, ''),
	o.share_visitor_email, o.create_agents, o.name_in_channel,
	coalesce(o.limit_visitor, 0), coalesce(o.limit_agent, 0), coalesce(o.limit_channel, 0), coalesce(o.limit_admin, 0), coalesce(o.limit_operator, 0), coalesce(o.limit_job, 0)
	from chat.conversation c join chat.organisation o using (organisation_id)
	where c.organisation_id = $1 and c.conversation_id = $2`

// Conversation loads a conversation and the settings of its organisation.
func (s *Store) Conversation(ctx context.Context, organisation, id uuid.UUID) (chat.Conversation, chat.Settings, error) {
	c := chat.Conversation{Organisation: organisation, ID: id}
	var set chat.Settings
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlConversation, organisation, id).QueryRow(func(row pgx.Row) error {
			return row.Scan(&c.Widget, &c.Visitor, &c.Agent, &c.State, &c.Language, &c.LastSeq, &c.OpenedAt, &c.ClosedBy,
				&c.Thread, &c.Card, &c.ServiceURL, &c.Intro, &set.ShareVisitorEmail, &set.CreateAgents, &set.NameInChannel,
				&set.Limits.Visitor, &set.Limits.Agent, &set.Limits.Channel, &set.Limits.Admin, &set.Limits.Operator, &set.Limits.Job)
		})
	})
	if err != nil {
		return chat.Conversation{}, chat.Settings{}, fmt.Errorf("load conversation: %w", notFound(err))
	}
	return c, set, nil
}

const sqlSay = `with moved as (
		update chat.conversation set last_seq = last_seq + 1
		where organisation_id = $1 and conversation_id = $2 and state <> 'closed'
			and ($4 = 'visitor' and visitor_id = $5 or $4 = 'agent' and state = 'active' and agent_id = $5)
			and not exists (select 1 from chat.event e where e.organisation_id = $1 and e.conversation_id = $2 and e.client_id = $3)
		returning last_seq, state, agent_id),
	said as (
		insert into chat.event (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id, body)
		select $1, $2, last_seq, 'message', $4, $5, $3, $6 from moved),
	queued as (
		insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id)
		select $1, $2, 'personal', 'say', last_seq, agent_id from moved where $4 = 'visitor' and state = 'active')
	select last_seq from moved`

// Say appends a message. The number is given under the row lock of the conversation, so numbers have no gaps and are
// in commit order; the delivery to Teams commits with it. A repeat of the same item answers with the first's number.
func (s *Store) Say(ctx context.Context, by chat.Party, id uuid.UUID, message euii.Sealed) (int64, error) {
	ref := message.Ref()
	var seq int64
	err := s.batch(ctx, ref.Organisation, func(b *pgx.Batch) {
		b.Queue(sqlSay, ref.Organisation, ref.Subject, ref.Item, string(by), id, message.Ciphertext()).QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
	})
	if err == nil {
		return seq, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) && !conflict(err, "event_organisation_id_conversation_id_client_id_key") {
		return 0, fmt.Errorf("store message: %w", err)
	}
	if seq, err := s.Said(ctx, ref.Organisation, ref.Subject, id, ref.Item); err == nil || !errors.Is(err, chat.ErrNotFound) {
		return seq, err
	}
	c, _, err := s.Conversation(ctx, ref.Organisation, ref.Subject)
	if err != nil {
		return 0, err
	}
	if c.Part(id) == "" {
		return 0, fmt.Errorf("store message: %w", chat.ErrNotJoined)
	}
	if err := c.CanSay(by, id); err != nil {
		return 0, fmt.Errorf("store message: %w", err)
	}
	return 0, errors.New("store message: the conversation changed meanwhile")
}

const sqlSaid = `select seq from chat.event where organisation_id = $1 and conversation_id = $2 and by_id = $3 and client_id = $4`

// Said gives the number of an item that somebody said before; chat.ErrNotFound when there is none.
func (s *Store) Said(ctx context.Context, organisation, conversation, by, item uuid.UUID) (int64, error) {
	var seq int64
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlSaid, organisation, conversation, by, item).QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
	})
	return seq, notFound(err)
}

// freed gives an agent his next conversation when he lost the current one; moved is the conversation that moved.
const freed = `freed as (
		update chat.agent a set current_conversation = (
			select o.conversation_id from chat.conversation o where o.organisation_id = $1 and o.agent_id = a.agent_id and o.state = 'active'
				and o.conversation_id <> $2 order by o.opened_at limit 1)
		from moved where a.organisation_id = $1 and a.agent_id = moved.left_by and a.current_conversation = $2)`

const sqlClose = `with moved as (
		update chat.conversation set last_seq = last_seq + 1, state = 'closed', closed_at = now(), closed_by = $3
		where organisation_id = $1 and conversation_id = $2 and state <> 'closed'
			and ($3 = 'visitor' and visitor_id = $4 or $3 = 'agent' and agent_id = $4)
		returning last_seq, agent_id, agent_id as left_by),
	ended as (
		insert into chat.event (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id)
		select $1, $2, last_seq, 'closed', $3, $4, gen_random_uuid() from moved),
	` + freed + `,
	queued as (
		insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id)
		select $1, $2, q.lane, q.kind, moved.last_seq, moved.agent_id
		from moved, (values ('card', 'card.update'), ('personal', 'closed')) as q(lane, kind)
		where q.lane = 'card' or moved.agent_id is not null)
	select last_seq from moved`

// Close ends a conversation. Ending a closed one answers with its last number and moved false.
func (s *Store) Close(ctx context.Context, organisation, conversation uuid.UUID, by chat.Party, id uuid.UUID) (seq int64, moved bool, err error) {
	err = s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlClose, organisation, conversation, string(by), id).QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
	})
	if err == nil {
		return seq, true, nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return 0, false, fmt.Errorf("close conversation: %w", err)
	}
	c, _, err := s.Conversation(ctx, organisation, conversation)
	if err != nil {
		return 0, false, err
	}
	if c.Part(id) != string(by) {
		return 0, false, fmt.Errorf("close conversation: %w", chat.ErrNotJoined)
	}
	return c.LastSeq, false, nil
}

const sqlTransfer = `with moved as (
		update chat.conversation set last_seq = last_seq + 1, state = 'waiting', agent_id = null, claimed_by = null, claimed_at = null, claim_ends = null
		where organisation_id = $1 and conversation_id = $2 and state = 'active' and agent_id = $3
		returning last_seq, $3::uuid as left_by),
	gone as (
		insert into chat.event (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id)
		select $1, $2, last_seq, 'agent.left', 'agent', $3, gen_random_uuid() from moved),
	` + freed + `,
	queued as (
		insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id)
		select $1, $2, q.lane, q.kind, moved.last_seq, case when q.lane = 'personal' then $3 end
		from moved, (values ('card', 'card.update'), ('personal', 'left')) as q(lane, kind))
	select last_seq from moved`

// Transfer gives a conversation back to the channel. When the agent does not hold it, nothing moves.
func (s *Store) Transfer(ctx context.Context, organisation, conversation, agent uuid.UUID) (moved bool, err error) {
	var seq int64
	err = s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlTransfer, organisation, conversation, agent).QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("transfer conversation: %w", err)
	}
	return true, nil
}

const sqlByThread = `select conversation_id from chat.conversation where organisation_id = $1 and card_thread = $2`

// ByThread finds the conversation whose card began a thread.
func (s *Store) ByThread(ctx context.Context, organisation uuid.UUID, thread string) (uuid.UUID, error) {
	var id uuid.UUID
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlByThread, organisation, thread).QueryRow(func(row pgx.Row) error { return row.Scan(&id) })
	})
	if err != nil {
		return uuid.Nil, fmt.Errorf("find conversation of thread: %w", notFound(err))
	}
	return id, nil
}
