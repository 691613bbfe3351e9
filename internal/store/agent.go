package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
)

// Agent is an agent's profile, without EUII.
type Agent struct {
	Organisation uuid.UUID
	ID           uuid.UUID
	DirectoryID  string // aadObjectId
	TeamsUser    string // "29:…"
	ServiceURL   string
	Personal     string    // id of the 1:1 chat, empty until known
	Current      uuid.UUID // conversation that what he types goes to
	Closed       bool      // he may act no more
}

// ErrAgentClosed is a chat.ErrNotFound of a profile that was closed.
var ErrAgentClosed = fmt.Errorf("%w: the profile was closed", chat.ErrNotFound)

const agentColumns = `agent_id, coalesce(aad_object_id, ''), coalesce(teams_user_id, ''), coalesce(service_url, ''), coalesce(personal_conversation, ''),
	coalesce(current_conversation, '00000000-0000-0000-0000-000000000000'), closed_at is not null`

const (
	sqlAgent            = `select ` + agentColumns + ` from chat.agent where organisation_id = $1 and agent_id = $2`
	sqlAgentByDirectory = `select ` + agentColumns + ` from chat.agent where organisation_id = $1 and aad_object_id = $2`
)

// Agent loads a profile.
func (s *Store) Agent(ctx context.Context, organisation, id uuid.UUID) (Agent, error) {
	return s.agent(ctx, organisation, sqlAgent, id)
}

// AgentByDirectory finds the profile of a directory id; ErrAgentClosed when nobody may act under it any more.
func (s *Store) AgentByDirectory(ctx context.Context, organisation uuid.UUID, directoryID string) (Agent, error) {
	a, err := s.agent(ctx, organisation, sqlAgentByDirectory, directoryID)
	if err == nil && a.Closed {
		return Agent{}, ErrAgentClosed
	}
	return a, err
}

func (s *Store) agent(ctx context.Context, organisation uuid.UUID, sql string, arg any) (Agent, error) {
	a := Agent{Organisation: organisation}
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sql, organisation, arg).QueryRow(func(row pgx.Row) error {
			return row.Scan(&a.ID, &a.DirectoryID, &a.TeamsUser, &a.ServiceURL, &a.Personal, &a.Current, &a.Closed)
		})
	})
	if err != nil {
		return Agent{}, fmt.Errorf("load agent: %w", notFound(err))
	}
	return a, nil
}

const sqlFindSubject = `select access.find_subject($1, $2, $3)`

// FindByIndex finds the subject of a blind index; chat.ErrNotFound when there is none.
func (s *Store) FindByIndex(ctx context.Context, organisation uuid.UUID, index euii.Index) (uuid.UUID, error) {
	var id *uuid.UUID
	if err := s.pool.QueryRow(ctx, sqlFindSubject, organisation, index.Field.String(), index.Hash).Scan(&id); err != nil {
		return uuid.Nil, fmt.Errorf("find agent: %w", err)
	}
	if id == nil {
		return uuid.Nil, fmt.Errorf("find agent: %w", chat.ErrNotFound)
	}
	return *id, nil
}

const sqlClaim = `update chat.conversation set claimed_by = $3, claimed_at = now(), claim_ends = now() + interval '30 seconds'
	where organisation_id = $1 and conversation_id = $2 and state = 'waiting'
		and (claimed_by is null or claimed_by = $3 or coalesce(claim_ends, claimed_at + interval '30 seconds') < now())
	returning conversation_id`

// Claim lets exactly one agent go on with joining a waiting conversation. A claim that is not completed lapses after 30 s.
func (s *Store) Claim(ctx context.Context, organisation, conversation uuid.UUID, directoryID string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlClaim, organisation, conversation, directoryID).QueryRow(func(row pgx.Row) error { return row.Scan(&conversation) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("claim: %w", chat.ErrTaken)
	}
	if err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	return nil
}

const sqlHold = `update chat.conversation set claim_ends = now() + interval '5 minutes'
	where organisation_id = $1 and conversation_id = $2 and state = 'waiting' and claimed_by = $3`

// Hold keeps a claim for five minutes, while the agent reads what he has to accept.
func (s *Store) Hold(ctx context.Context, organisation, conversation uuid.UUID, directoryID string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) { b.Queue(sqlHold, organisation, conversation, directoryID) })
	if err != nil {
		return fmt.Errorf("hold claim: %w", err)
	}
	return nil
}

const sqlRelease = `update chat.conversation set claimed_by = null, claimed_at = null, claim_ends = null
	where organisation_id = $1 and conversation_id = $2 and state = 'waiting' and claimed_by = $3`

// Release gives a claim back, so that the card waits for the next.
func (s *Store) Release(ctx context.Context, organisation, conversation uuid.UUID, directoryID string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) { b.Queue(sqlRelease, organisation, conversation, directoryID) })
	if err != nil {
		return fmt.Errorf("release claim: %w", err)
	}
	return nil
}

// Joining completes a claim.
type Joining struct {
	Conversation uuid.UUID
	Agent        Agent
	NewKey       *Key // of an agent without a profile
	Index        euii.Index
	Values       []euii.Sealed
}

const (
	sqlUpsertAgent = `insert into chat.agent (organisation_id, agent_id, aad_object_id, teams_user_id, service_url, personal_conversation, current_conversation)
		values ($1, $2, $3, $4, $5, nullif($6, ''), $7)
		on conflict (organisation_id, agent_id) do update set aad_object_id = excluded.aad_object_id, teams_user_id = excluded.teams_user_id,
			service_url = excluded.service_url, personal_conversation = coalesce(excluded.personal_conversation, agent.personal_conversation),
			current_conversation = excluded.current_conversation`
	sqlPutLookup = `select access.put_lookup($1, $2, $3, $4)`
	sqlJoin      = `with moved as (
		update chat.conversation set state = 'active', agent_id = $4, last_seq = last_seq + 1
		where organisation_id = $1 and conversation_id = $2 and state = 'waiting' and claimed_by = $3
		returning last_seq),
	joined as (
		insert into chat.event (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id)
		select $1, $2, last_seq, 'agent.joined', 'agent', $4, gen_random_uuid() from moved),
	card as (
		insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq) select $1, $2, 'card', 'card.update', last_seq from moved),
	intro as (
		insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id)
		select $1, $2, 'personal', q.kind, q.seq, $4 from (
			select 'intro' as kind, moved.last_seq as seq, 0 as o from moved
			union all
			select 'say', e.seq, e.seq from moved, chat.event e
			where e.organisation_id = $1 and e.conversation_id = $2 and e.kind = 'message' and e.by_party = 'visitor'
			order by o) q)
	select last_seq from moved`
)

// Join makes the claiming agent the agent of the conversation: profile, sealed values, event and deliveries commit
// together. chat.ErrTaken when the claim lapsed and somebody else was faster.
func (s *Store) Join(ctx context.Context, j Joining) (int64, error) {
	a := j.Agent
	var seq int64
	err := s.transaction(ctx, a.Organisation, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		if j.NewKey != nil {
			b.Queue(sqlCreateKey, a.Organisation, j.NewKey.ID, j.NewKey.Kind, j.NewKey.Wrapped)
		}
		b.Queue(sqlUpsertAgent, a.Organisation, a.ID, a.DirectoryID, a.TeamsUser, a.ServiceURL, a.Personal, j.Conversation)
		b.Queue(sqlPutLookup, a.Organisation, j.Index.Field.String(), j.Index.Hash, a.ID)
		queueValues(b, j.Values)
		b.Queue(sqlJoin, a.Organisation, j.Conversation, a.DirectoryID, a.ID).QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
		return tx.SendBatch(ctx, b).Close()
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("join: %w", chat.ErrTaken)
	}
	if err != nil {
		return 0, fmt.Errorf("join: %w", err)
	}
	return seq, nil
}

const sqlSetPersonal = `update chat.agent set personal_conversation = $3, service_url = $4, teams_user_id = coalesce(nullif($5, ''), teams_user_id)
	where organisation_id = $1 and agent_id = $2`

// SetPersonal keeps where an agent's 1:1 chat is.
func (s *Store) SetPersonal(ctx context.Context, organisation, agent uuid.UUID, conversation, serviceURL, teamsUser string) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlSetPersonal, organisation, agent, conversation, serviceURL, teamsUser)
	})
	if err != nil {
		return fmt.Errorf("keep 1:1 chat: %w", err)
	}
	return nil
}

const sqlSetCurrent = `update chat.agent a set current_conversation = c.conversation_id from chat.conversation c
	where a.organisation_id = $1 and a.agent_id = $2 and c.organisation_id = $1 and c.conversation_id = $3 and c.agent_id = $2 and c.state = 'active'
	returning c.conversation_id`

// SetCurrent says which of his conversations what an agent types goes to.
func (s *Store) SetCurrent(ctx context.Context, organisation, agent, conversation uuid.UUID) error {
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlSetCurrent, organisation, agent, conversation).QueryRow(func(row pgx.Row) error { return row.Scan(&conversation) })
	})
	if err != nil {
		return fmt.Errorf("switch conversation: %w", notFound(err))
	}
	return nil
}

const sqlOpenOfAgent = `select conversation_id, visitor_id from chat.conversation where organisation_id = $1 and agent_id = $2 and state = 'active' order by opened_at`

// Held is a conversation an agent holds.
type Held struct{ Conversation, Visitor uuid.UUID }

// HeldBy lists the active conversations of an agent, oldest first.
func (s *Store) HeldBy(ctx context.Context, organisation, agent uuid.UUID) ([]Held, error) {
	var out []Held
	err := s.batch(ctx, organisation, func(b *pgx.Batch) {
		b.Queue(sqlOpenOfAgent, organisation, agent).Query(func(rows pgx.Rows) (err error) {
			out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Held])
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list conversations of agent: %w", err)
	}
	return out, nil
}
