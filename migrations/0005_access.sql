set local role counterfoil_access;

-- A ticket lets the service take the ciphertext of one record, once the transaction that wrote both is committed.
-- It is worth nothing after its end, so it need not survive a crash: unlogged.
create unlogged table access.ticket (
  organisation_id uuid not null,
  seq             bigint not null,
  subject_id      uuid not null,
  row_id          uuid not null,
  fields          text[] not null,
  messages        int,
  claim           bytea not null check (length(claim) = 32),
  valid_until     timestamptz not null,
  xid             xid8 not null default pg_current_xact_id(),
  primary key (organisation_id, seq)
);
comment on table  access.ticket is 'Which ciphertexts a committed record lets the service take, and until when.';
comment on column access.ticket.organisation_id is 'Tenant.';
comment on column access.ticket.seq is 'The record.';
comment on column access.ticket.subject_id is 'Subject, or for messages the conversation.';
comment on column access.ticket.row_id is 'Row the values lie in.';
comment on column access.ticket.fields is 'Fields the decision let through.';
comment on column access.ticket.messages is 'For message bodies: events from the first that may be taken; null for values.';
comment on column access.ticket.claim is 'SHA-256 of a secret that only the process which recorded it knows and has to show.';
comment on column access.ticket.valid_until is 'End.';
comment on column access.ticket.xid is 'Transaction that wrote it, set by the database.';
alter table access.ticket enable row level security;
alter table access.ticket force row level security;
create policy own_organisation on access.ticket to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation());

-- The key under which the service authenticates what it asks to be recorded. The service has it from a file; its role in
-- the database cannot read it, so whoever has only the role's password can neither record nor take. HMAC-SHA-256 (RFC 2104)
-- needs the key in two forms.
create table access.decision_key (
  the_only_one boolean primary key default true check (the_only_one),
  inner_pad    bytea not null check (length(inner_pad) = 64),
  outer_pad    bytea not null check (length(outer_pad) = 64)
);
comment on table  access.decision_key is 'The key that authenticates decisions; installed by a superuser, readable by no role that can log in.';
comment on column access.decision_key.the_only_one is 'There is one.';
comment on column access.decision_key.inner_pad is 'Key, exclusive or 0x36.';
comment on column access.decision_key.outer_pad is 'Key, exclusive or 0x5c.';

alter table access.decision_key enable row level security;
alter table access.decision_key force row level security;
create policy functions on access.decision_key for select to counterfoil_access using (true);

-- Both sides are hashed once more, so that the time the comparison takes says nothing. Only functions with a search path of their
-- own may call it; it has none, because setting one costs more than the hash.
create function access.authentic(p_mac bytea, p_message bytea) returns boolean language plpgsql stable as $$
begin
  return (select sha256(sha256(k.outer_pad || sha256(k.inner_pad || p_message))) = sha256(p_mac) from access.decision_key k);
end $$;

-- Tells the service whether it has the key that is installed here.
create function access.check_decision_key(p_challenge bytea, p_mac bytea) returns boolean
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce(access.authentic(p_mac, '\x636f756e746572666f696c2f636865636b2f310a'::bytea || p_challenge), false) $$;

-- Row level security asks for the organisation on every row, so this has to be a plain expression to the planner: a
-- function with settings of its own is not taken apart, and would be run for each row. Its body is bound to pg_catalog
-- when it is created, whatever the search path of the caller.
create or replace function access.organisation() returns uuid language sql stable
  return nullif(pg_catalog.current_setting('counterfoil.organisation', true), '')::uuid;

create function access.enter(p_organisation uuid) returns text language sql
  return pg_catalog.set_config('counterfoil.organisation', p_organisation::text, true);

-- Starts an organisation's log.
create function access.create_log(p_organisation uuid, p_origin text, p_checkpoint text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into audit.head (organisation_id, origin, size, frontier, checkpoint, last_at)
    values (p_organisation, p_origin, 0, '', p_checkpoint, '-infinity');
  insert into audit.searchable (organisation_id, size) values (p_organisation, 0);
  insert into audit.retention (organisation_id) values (p_organisation);
end $$;

-- Locks the head of a log for the running transaction and says where it stands.
create function access.lock_head(p_organisation uuid, out origin text, out size bigint, out frontier bytea, out last_at timestamptz, out now timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  select h.origin, h.size, h.frontier, case when h.size = 0 then 'epoch' else h.last_at end into strict origin, size, frontier, last_at
    from audit.head h where h.organisation_id = p_organisation for update;
  now := clock_timestamp();
end $$;

-- Records a batch and says true, if the log is still of the size that the batch continues; otherwise it writes nothing.
-- All entries of a batch bear one time, which must not lie before the last one nor away from this server's clock; a
-- last time that lies in the future, because the clock was set back, is repeated until the clock has caught up.
-- Reads no EUII. The MAC is over everything that is asked for, so whoever lacks the key cannot make up an organisation, a
-- subject, a field, a policy revision or a ticket, and since a size is reached only once, cannot say it again.
create function access.record(p_organisation uuid, p_size bigint, p_at timestamptz, p_body bytea[],
    p_node_level int[], p_node_idx bigint[], p_node_hash bytea[], p_frontier bytea, p_checkpoint text,
    p_ticket_seq bigint[], p_ticket_subject uuid[], p_ticket_row uuid[], p_ticket_fields text[], p_ticket_messages int[], p_ticket_seconds int[],
    p_ticket_claim bytea[], p_mac bytea)
  returns boolean language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare n int := cardinality(p_body); clock timestamptz := clock_timestamp();
begin
  if not coalesce(access.authentic(p_mac, '\x636f756e746572666f696c2f7265636f72642f310a'::bytea || uuid_send(p_organisation) || int8send(p_size) || timestamptz_send(p_at)
      || array_send(array[p_frontier]) || array_send(array[p_checkpoint]) || array_send(p_ticket_seq) || array_send(p_ticket_subject) || array_send(p_ticket_row)
      || array_send(p_ticket_fields) || array_send(p_ticket_messages) || array_send(p_ticket_seconds) || array_send(p_ticket_claim)
      || array_send(p_node_level) || array_send(p_node_idx) || array_send(p_node_hash) || array_send(p_body)), false) then
    raise exception 'the decisions to be recorded are not authentic' using errcode = 'insufficient_privilege';
  end if;
  perform access.enter(p_organisation);
  update audit.head set size = p_size + n, frontier = p_frontier, checkpoint = p_checkpoint, last_at = p_at
    where organisation_id = p_organisation and size = p_size and p_at >= last_at
      and p_at >= clock - interval '10 seconds' and p_at <= greatest(last_at, clock + interval '1 second');
  if not found then return false; end if;
  insert into audit.record (organisation_id, seq, at, body)
    select p_organisation, p_size + r.i - 1, p_at, r.body from unnest(p_body) with ordinality as r(body, i);
  if (p_size + n) / 256 > p_size / 256 then
    insert into audit.tile (organisation_id, idx, hashes)
      select p_organisation, r.seq / 256, string_agg(sha256('\x00'::bytea || r.body), ''::bytea order by r.seq)
      from audit.record r
      where r.organisation_id = p_organisation and r.seq >= p_size / 256 * 256 and r.seq < (p_size + n) / 256 * 256
      group by r.seq / 256;
    insert into audit.node (organisation_id, level, idx, hash)
      select p_organisation, u.level, u.idx, u.hash from unnest(p_node_level, p_node_idx, p_node_hash) as u(level, idx, hash);
  end if;
  if cardinality(p_ticket_seq) > 0 then
    insert into access.ticket (organisation_id, seq, subject_id, row_id, fields, messages, claim, valid_until)
      select p_organisation, t.seq, t.subject, t.row, string_to_array(t.fields, ','), nullif(t.messages, 0), t.claim, clock + make_interval(secs => t.seconds)
      from unnest(p_ticket_seq, p_ticket_subject, p_ticket_row, p_ticket_fields, p_ticket_messages, p_ticket_seconds, p_ticket_claim) as t(seq, subject, row, fields, messages, seconds, claim);
  end if;
  return true;
end $$;

-- Hands out the ciphertexts of committed records. In the recording transaction itself it gives nothing:
-- whoever could read before the commit could roll the record back. A ticket that is honoured gives at least one row, without
-- a field when nothing is stored there. Only who knows the ticket's secret can present it.
-- The plan is made once, perhaps while the tables are empty, and has to be right when they are not: each step is fenced
-- (offset 0) and finds its rows through the primary key.
create function access.take(p_organisation uuid, p_seqs bigint[], p_secrets bytea[])
  returns table (seq bigint, subject_id uuid, row_id uuid, field text, ciphertext bytea, wrapped bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return query
    select t.seq, t.subject_id, t.row_id, v.field, v.ciphertext, k.wrapped
    from unnest(p_seqs, p_secrets) as s(seq, secret)
    cross join lateral (select t.* from access.ticket t where t.organisation_id = p_organisation and t.seq = s.seq and t.messages is null and t.claim = sha256(s.secret)
      and t.valid_until > clock_timestamp() and pg_xact_status(t.xid) = 'committed' offset 0) t
    cross join lateral (select k.wrapped from euii.key k where k.organisation_id = p_organisation and k.key_id = t.subject_id offset 0) k
    left join lateral (select v.field, v.ciphertext from euii.value v
      where v.organisation_id = p_organisation and v.subject_id = t.subject_id and v.row_id = t.row_id and v.field = any(t.fields) offset 0) v on true;
end $$;

-- Hands out message bodies under the committed record of a conversation grant.
create function access.take_messages(p_organisation uuid, p_seq bigint, p_secret bytea, p_after bigint, p_limit int)
  returns table (seq bigint, kind text, by_party text, by_id uuid, client_id uuid, created_at timestamptz, body bytea, wrapped bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return query
    select e.seq, e.kind, e.by_party, e.by_id, e.client_id, e.created_at, e.body, k.wrapped
    from (select t.* from access.ticket t where t.organisation_id = p_organisation and t.seq = p_seq and t.claim = sha256(p_secret)
      and t.valid_until > clock_timestamp() and pg_xact_status(t.xid) = 'committed' offset 0) t
    cross join lateral (select k.wrapped from euii.key k where k.organisation_id = p_organisation and k.key_id = t.subject_id offset 0) k
    cross join lateral (select e.* from chat.event e
      where e.organisation_id = p_organisation and e.conversation_id = t.subject_id and e.seq > p_after and e.seq <= t.messages
      order by e.seq limit p_limit) e
    order by e.seq;
end $$;

create function access.drop_tickets() returns bigint language sql security definer set search_path = pg_catalog, pg_temp as $$
  with gone as (delete from access.ticket where valid_until < clock_timestamp() - interval '1 minute' returning 1) select count(*) from gone $$;
create policy purge on access.ticket for delete to counterfoil_access using (valid_until < clock_timestamp() - interval '1 minute');
create policy purge_sees on access.ticket for select to counterfoil_access using (valid_until < clock_timestamp() - interval '1 minute');

-- Keys and sealed values go in; nothing comes out here but wrapped keys, which open nothing without the key outside.
create function access.create_key(p_organisation uuid, p_id uuid, p_kind text, p_wrapped bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into euii.key (organisation_id, key_id, kind, wrapped) values (p_organisation, p_id, p_kind, p_wrapped);
end $$;
create function access.wrapped_keys(p_organisation uuid, p_ids uuid[]) returns table (key_id uuid, wrapped bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return query select k.key_id, k.wrapped from (select distinct i.id from unnest(p_ids) as i(id)) i
    cross join lateral (select k.key_id, k.wrapped from euii.key k where k.organisation_id = p_organisation and k.key_id = i.id offset 0) k;
end $$;
create function access.put_value(p_organisation uuid, p_subject uuid, p_row uuid, p_field text, p_ciphertext bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into euii.value (organisation_id, subject_id, row_id, field, ciphertext) values (p_organisation, p_subject, p_row, p_field, p_ciphertext)
    on conflict (organisation_id, subject_id, row_id, field) do update set ciphertext = excluded.ciphertext, created_at = now();
end $$;
create function access.put_lookup(p_organisation uuid, p_field text, p_index bytea, p_subject uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into euii.lookup (organisation_id, field, blind_index, subject_id) values (p_organisation, p_field, p_index, p_subject)
    on conflict (organisation_id, field, blind_index) do update set subject_id = excluded.subject_id;
end $$;
create function access.find_subject(p_organisation uuid, p_field text, p_index bytea) returns uuid
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return (select l.subject_id from euii.lookup l where l.organisation_id = p_organisation and l.field = p_field and l.blind_index = p_index);
end $$;

-- The log is read through these; entries hold no EUII.
create function access.log_head(p_organisation uuid, out origin text, out size bigint, out checkpoint text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  select h.origin, h.size, h.checkpoint into strict origin, size, checkpoint from audit.head h where h.organisation_id = p_organisation;
end $$;
create function access.log_entries(p_organisation uuid, p_from bigint, p_to bigint, p_limit int) returns table (seq bigint, body bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.seq, r.body from audit.record r
    where r.organisation_id = p_organisation and r.seq >= p_from and r.seq < p_to order by r.seq limit p_limit;
end $$;

-- Makes the next records of a log searchable, at most so many, and says how many it made so. Records are committed in the order
-- of their numbers, so whoever holds the lock sees all that come before the last it sees.
create function access.index_log(p_organisation uuid, p_limit int) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare done bigint; n bigint;
begin
  perform access.enter(p_organisation);
  select s.size into done from audit.searchable s where s.organisation_id = p_organisation for update;
  if not found then return 0; end if;
  with copied as (
    insert into audit.search (organisation_id, seq, at, kind, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, address_net)
      select r.organisation_id, r.seq, r.at, e.kind, e.action, coalesce(e.decision, ''), coalesce(e.actor ->> 'ref', ''), coalesce(e.subject ->> 'ref', ''),
        coalesce(e.conversation, ''), coalesce(e.address, ''), coalesce(e.address_net, '')
      from audit.record r cross join lateral json_to_record(convert_from(r.body, 'UTF8')::json)
        as e(kind text, action text, decision text, actor json, subject json, conversation text, address text, address_net text)
      where r.organisation_id = p_organisation and r.seq >= done and r.seq < done + p_limit order by r.seq
      returning at, action, decision),
  counted as (
    insert into audit.day as d (organisation_id, day, action, decision, n)
      select p_organisation, (c.at at time zone 'UTC')::date, c.action, c.decision, count(*) from copied c group by 2, 3, 4
      on conflict (organisation_id, day, action, decision) do update set n = d.n + excluded.n)
  select count(*) into n from copied;
  if n > 0 then
    update audit.searchable s set size = done + n where s.organisation_id = p_organisation;
  end if;
  return n;
end $$;

-- The newest records that answer a search, from a place on backwards. Each statement is planned for the filters it has; the
-- plan is held to the indexes, which give the order, so that a page costs what it shows. Entries hold no EUII.
create function access.search_log(p_organisation uuid, p_since timestamptz, p_until timestamptz, p_kind text, p_action text, p_decision text,
    p_actor text, p_subject text, p_conversation text, p_address text, p_address_net text, p_before_at timestamptz, p_before_seq bigint, p_limit int)
  returns table (seq bigint, at timestamptz, body bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_sort = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  perform access.enter(p_organisation);
  return query execute 'select s.seq, s.at, r.body from (select s.seq, s.at from audit.search s where s.organisation_id = $1 and s.at >= $2 and s.at < $3'
    || case when p_kind is null then '' when p_kind in ('denial', 'collection', 'administration') then format(' and s.kind = %L', p_kind) else ' and s.kind = $4' end
    || case when p_action is null then '' else ' and s.action = $5' end
    || case when p_decision is null then '' when p_decision in ('deny', 'masked') then format(' and s.decision = %L', p_decision) else ' and s.decision = $6' end
    || case when p_actor is null then '' else ' and s.actor_ref <> '''' and s.actor_ref = $7' end
    || case when p_subject is null then '' else ' and s.subject_ref <> '''' and s.subject_ref = $8' end
    || case when p_conversation is null then '' else ' and s.conversation_ref <> '''' and s.conversation_ref = $9' end
    || case when p_address is null then '' else ' and s.address_ref <> '''' and s.address_ref = $10' end
    || case when p_address_net is null then '' else ' and s.address_net <> '''' and s.address_net = $11' end
    || case when p_before_seq is null then '' else ' and (s.at, s.seq) < ($12, $13)' end
    || ' order by s.at desc, s.seq desc limit $14) s
      cross join lateral (select r.body from audit.record r where r.organisation_id = $1 and r.seq = s.seq and r.at = s.at offset 0) r
      order by s.at desc, s.seq desc'
    using p_organisation, p_since, p_until, p_kind, p_action, p_decision, p_actor, p_subject, p_conversation, p_address, p_address_net, p_before_at, p_before_seq, p_limit;
end $$;
create function access.log_days(p_organisation uuid, p_from date, p_to date) returns table (day date, action text, decision text, n bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select d.day, d.action, d.decision, d.n from audit.day d
    where d.organisation_id = p_organisation and d.day >= p_from and d.day < p_to order by d.day, d.action, d.decision;
end $$;
create function access.ensure_months() returns void language sql security definer set search_path = pg_catalog, pg_temp as $$
  select audit.ensure_months((clock_timestamp() at time zone 'UTC')::date, 3) $$;

-- How long records are kept, what may go by now, and from where on they are kept.
create function access.log_retention(p_organisation uuid, out days int, out first_seq bigint, out upto bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  select r.days, r.first_seq into strict days, first_seq from audit.retention r where r.organisation_id = p_organisation;
  select s.seq / 256 * 256 into upto from audit.search s
    where s.organisation_id = p_organisation and s.at >= now() - make_interval(days => log_retention.days) order by s.at, s.seq limit 1;
  upto := greatest(first_seq, coalesce(upto, 0));
end $$;
create function access.set_log_retention(p_organisation uuid, p_days int) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update audit.retention set days = p_days where organisation_id = p_organisation;
end $$;

-- Pruning is for the role of retention alone: the service cannot remove a record.
create function access.prune_log(p_organisation uuid, p_act bigint, p_upto bigint, p_limit int) returns bigint
  language sql security definer set search_path = pg_catalog, pg_temp as $$ select audit.prune(p_organisation, p_act, p_upto, p_limit) $$;
create function access.drop_empty_months() returns int language sql security definer set search_path = pg_catalog, pg_temp as $$
  select audit.drop_empty_months() $$;

-- The first hashes of a tile (C2SP tlog-tiles); of the last one they are computed from the entries.
create function access.log_tile(p_organisation uuid, p_level int, p_idx bigint, p_width int) returns bytea
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  if p_level > 0 then
    return (select string_agg(n.hash, ''::bytea order by n.idx) from audit.node n
      where n.organisation_id = p_organisation and n.level = p_level and n.idx >= p_idx * 256 and n.idx < p_idx * 256 + p_width);
  end if;
  return coalesce(
    (select substr(t.hashes, 1, p_width * 32) from audit.tile t where t.organisation_id = p_organisation and t.idx = p_idx),
    (select string_agg(sha256('\x00'::bytea || r.body), ''::bytea order by r.seq) from audit.record r
      where r.organisation_id = p_organisation and r.seq >= p_idx * 256 and r.seq < p_idx * 256 + p_width));
end $$;

-- What must be found before the organisation is known.
create function access.organisations() returns table (organisation_id uuid, name text, tenant_id text, log_origin text, language text,
    share_visitor_email boolean, create_agents boolean, name_in_channel boolean)
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  select o.organisation_id, o.name, coalesce(o.tenant_id, ''), o.log_origin, o.language, o.share_visitor_email, o.create_agents, o.name_in_channel
  from chat.organisation o order by o.created_at, o.organisation_id $$;
create function access.widget_by_key(p_key text) returns table (organisation_id uuid, widget_id uuid, name text, sites text[])
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select w.organisation_id, w.widget_id, w.name, w.sites from chat.widget w where w.public_key = p_key $$;
create function access.session_by_token(p_hash bytea) returns table (organisation_id uuid, visitor_id uuid, conversation_id uuid, expires_at timestamptz)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.organisation_id, s.visitor_id, s.conversation_id, s.expires_at from chat.session s where s.token_hash = p_hash and s.expires_at > now() $$;

-- Takes deliveries that are due, the oldest of each conversation and lane, and leases them. A lease that ran out
-- means the sender died with the outcome unknown. The open deliveries are few among very many, which the planner cannot
-- know of a plan made once: it is held to the indexes of the open ones.
create function access.claim_deliveries(p_limit int, p_lease_seconds int)
  returns table (organisation_id uuid, delivery_id bigint, conversation_id uuid, kind text, seq bigint, agent_id uuid, attempts int, outcome_unknown boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare clock timestamptz := clock_timestamp();
begin
  return query
    with due as materialized (
      select o.organisation_id, o.delivery_id, o.state from chat.outbox o
      where o.state in ('waiting', 'sending') and o.due_at <= clock
        and not exists (select 1 from chat.outbox e where e.organisation_id = o.organisation_id and e.conversation_id = o.conversation_id
                          and e.lane = o.lane and e.state in ('waiting', 'sending') and e.delivery_id < o.delivery_id)
      order by o.due_at limit p_limit for update skip locked)
    update chat.outbox o set state = 'sending', attempts = o.attempts + 1, due_at = clock + make_interval(secs => p_lease_seconds)
      from due where o.organisation_id = due.organisation_id and o.delivery_id = due.delivery_id
      returning o.organisation_id, o.delivery_id, o.conversation_id, o.kind, o.seq, o.agent_id, o.attempts, due.state = 'sending';
end $$;

revoke all on all functions in schema access from public;
grant execute on all functions in schema access to counterfoil_service;
revoke execute on function access.authentic(bytea, bytea), access.prune_log(uuid, bigint, bigint, int), access.drop_empty_months() from counterfoil_service;
grant execute on function access.prune_log(uuid, bigint, bigint, int), access.drop_empty_months() to counterfoil_retention;
grant execute on function access.organisation() to counterfoil_chat, counterfoil_euii, counterfoil_audit;
reset role;
