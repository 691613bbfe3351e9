package relaytest

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Past is what an organisation has behind it: ended conversations in which a visitor wrote, an agent joined and answered, and somebody ended it.
type Past struct {
	Organisation, Widget uuid.UUID
	Visitor              uuid.UUID   // who came in every tenth of them; the others came once
	Agents               []uuid.UUID // who answered, in turns
	Conversations        int
	Days                 int // they are spread over so many, up to yesterday
}

// pastAtOnce is how many conversations are made by one statement.
const pastAtOnce = 100_000

// Make has the database make them, as a superuser. Ciphertexts and wrapped keys are copies of what the organisation has already, so there must be a real
// conversation of this kind; none of the copies opens, and nothing that is deleted or erased is ever opened.
func (p Past) Make(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{
		"set session_replication_role = replica", // no row refers to what is not there
		"set synchronous_commit = off",
		"set maintenance_work_mem = '256MB'",
		"set work_mem = '64MB'",
		// Indexes that hold no constraint are made anew afterwards.
		`create temporary table past_index on commit preserve rows as select indexrelid::regclass::text as name, pg_get_indexdef(indexrelid) as definition from pg_index i join pg_class c on c.oid = i.indrelid
			where c.oid in ('chat.conversation'::regclass, 'chat.visitor'::regclass, 'chat.session'::regclass, 'chat.outbox'::regclass, 'euii.value'::regclass, 'euii.key'::regclass) and not i.indisunique`,
		"do $$ declare n text; begin for n in select name from past_index loop execute 'drop index ' || n; end loop; end $$",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare a past: %w", err)
		}
	}
	for from := 0; from < p.Conversations; from += pastAtOnce {
		if err := p.some(ctx, conn, from, min(pastAtOnce, p.Conversations-from)); err != nil {
			return fmt.Errorf("make a past: %w", err)
		}
	}
	for _, sql := range []string{
		"do $$ declare d text; begin for d in select definition from past_index loop execute d; end loop; end $$",
		"drop table past_index",
		"analyze chat.conversation, chat.visitor, chat.session, chat.event, chat.outbox, euii.value, euii.key",
		"reset session_replication_role",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("finish a past: %w", err)
		}
	}
	return nil
}

func (p Past) some(ctx context.Context, conn *pgx.Conn, from, n int) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `create temporary table past on commit drop as select i, gen_random_uuid() as talk, case when i % 10 = 0 then $3::uuid else gen_random_uuid() end as visitor,
			($4::uuid[])[1 + i % cardinality($4::uuid[])] as agent, now() - make_interval(days => $5) + ($5 - 1) * interval '1 day' * i / $6::float8 as at
			from generate_series($1::int, $1::int + $2::int - 1) as i order by 2`, from, n, p.Visitor, p.Agents, p.Days, p.Conversations)
		if err != nil {
			return err
		}
		for _, sql := range []string{
			`insert into chat.visitor (organisation_id, visitor_id, widget_id, created_at) select $1, visitor, $2, at from past where i % 10 <> 0`,
			`insert into chat.conversation (organisation_id, conversation_id, widget_id, visitor_id, agent_id, state, notice_version, opening_hash, last_seq, opened_at, closed_at, closed_by)
				select $1, talk, $2, visitor, agent, 'closed', '1', sha256(uuid_send(talk)), 4, at, at + interval '10 minutes', 'visitor' from past`,
			`insert into chat.event (organisation_id, conversation_id, seq, kind, by_party, by_id, client_id, body, created_at)
				select $1, talk, e.seq, e.kind, e.party, case e.party when 'visitor' then visitor else agent end, gen_random_uuid(), case e.kind when 'message' then s.body end, at + e.seq * interval '1 minute'
				from past cross join (values (1, 'message', 'visitor'), (2, 'agent.joined', 'agent'), (3, 'message', 'agent'), (4, 'closed', 'visitor')) e (seq, kind, party)
				cross join (select body from chat.event where organisation_id = $1 and $2::uuid is not null and body is not null limit 1) s`,
			`insert into euii.key (organisation_id, key_id, kind, wrapped, created_at) select $1, k.id, k.kind, s.wrapped, at
				from past cross join lateral (values (talk, 'conversation'), (visitor, 'visitor')) k (id, kind)
				join (select distinct on (kind) kind, wrapped from euii.key where organisation_id = $1 and $2::uuid is not null and wrapped is not null) s on s.kind = k.kind where k.kind = 'conversation' or i % 10 <> 0`,
			`insert into euii.value (organisation_id, subject_id, row_id, field, ciphertext, created_at)
				select $1, case when s.field like 'agent%' then agent else visitor end, case when s.field like 'agent%' then talk else visitor end, s.field, s.ciphertext, at
				from past cross join (select distinct on (field) field, ciphertext from euii.value where organisation_id = $1 and $2::uuid is not null and field in ('visitor_display_name', 'visitor_email', 'agent_display_name', 'agent_email') order by field) s
				where s.field like 'agent%' or i % 10 <> 0`,
			`insert into chat.session (organisation_id, token_hash, visitor_id, conversation_id, created_at, expires_at) select $1, sha256(uuid_send(talk) || uuid_send($2)), visitor, talk, at, at + interval '1 day' from past`,
			`insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id, state, due_at, created_at, done_at)
				select $1, talk, o.lane, o.kind, o.seq, agent, 'sent', at, at, at from past cross join (values ('card', 'card.post', 0), ('personal', 'say', 1)) o (lane, kind, seq) where $2::uuid is not null`,
		} {
			if _, err := tx.Exec(ctx, sql, p.Organisation, p.Widget); err != nil {
				return fmt.Errorf("%.60s: %w", sql, err)
			}
		}
		return nil
	})
}
