set local role counterfoil_audit;

create table audit.head (
  organisation_id uuid primary key,
  origin          text not null,
  size            bigint not null,
  frontier        bytea not null,
  checkpoint      text not null,
  last_at         timestamptz not null
) with (fillfactor = 10);
comment on table  audit.head is 'State of each log. Its row is the only lock: whoever holds it appends.';
comment on column audit.head.organisation_id is 'Tenant.';
comment on column audit.head.origin is 'Origin line of its checkpoints.';
comment on column audit.head.size is 'Number of entries.';
comment on column audit.head.frontier is 'Roots of the perfect subtrees of the RFC 6962 tree.';
comment on column audit.head.checkpoint is 'Signed tree head of exactly this size.';
comment on column audit.head.last_at is 'Time of the last entry; times never decrease.';

create table audit.record (
  organisation_id  uuid not null,
  seq              bigint not null,
  at               timestamptz not null,
  xid              xid8 not null default pg_current_xact_id(),
  db_user          name not null default session_user,
  body             bytea not null,
  primary key (organisation_id, seq, at) -- the head lock is what keeps two records from one number
) partition by range (at);
comment on table  audit.record is 'The entries, as the tree covers them. What they are searched by is in audit.search.';
comment on column audit.record.organisation_id is 'Tenant.';
comment on column audit.record.seq is 'Index in the log, from 0, without gaps.';
comment on column audit.record.at is 'UTC, microseconds, assigned under the head lock.';
comment on column audit.record.xid is 'Transaction that wrote it, set by the database.';
comment on column audit.record.db_user is 'Role that wrote it, set by the database.';
comment on column audit.record.body is 'Canonical bytes of the entry, kept verbatim.';

-- Copied out of the bodies by this database, shortly after they were recorded and before a search: a disclosure does not wait for
-- indexes, and what a search goes by cannot differ from what was recorded.
create table audit.search (
  organisation_id  uuid not null,
  seq              bigint not null,
  at               timestamptz not null,
  kind             text not null,
  action           text not null,
  decision         text not null,
  actor_ref        text not null,
  subject_ref      text not null,
  conversation_ref text not null,
  address_ref      text not null,
  address_net      text not null,
  primary key (organisation_id, at, seq)
) partition by range (at);
create index search_by_subject      on audit.search (organisation_id, subject_ref, at, seq) where subject_ref <> '';
create index search_by_actor        on audit.search (organisation_id, actor_ref, at, seq) where actor_ref <> '';
create index search_by_conversation on audit.search (organisation_id, conversation_ref, at, seq) where conversation_ref <> '';
create index search_by_action       on audit.search (organisation_id, action, at, seq);
create index search_not_disclosed   on audit.search (organisation_id, kind, at, seq) where kind in ('denial', 'collection', 'administration');
create index search_not_allowed     on audit.search (organisation_id, decision, at, seq) where decision in ('deny', 'masked');
create index search_by_address      on audit.search (organisation_id, address_ref, at, seq) where address_ref <> '';
create index search_by_net          on audit.search (organisation_id, address_net, at, seq) where address_net <> '';
comment on table  audit.search is 'What records are searched by, copied out of their bodies.';
comment on column audit.search.organisation_id is 'Tenant.';
comment on column audit.search.seq is 'The record.';
comment on column audit.search.at is 'Its time.';
comment on column audit.search.kind is 'disclosure, denial, collection or administration.';
comment on column audit.search.action is 'Purpose, or name of the administrative act.';
comment on column audit.search.decision is 'allow, masked or deny; empty for what is not decided.';
comment on column audit.search.actor_ref is 'Who asked: keyed reference.';
comment on column audit.search.subject_ref is 'Whom it is about: keyed reference, meaningless once the subject''s key is destroyed.';
comment on column audit.search.conversation_ref is 'Conversation: keyed reference.';
comment on column audit.search.address_ref is 'Address of the human who signed in: keyed reference.';
comment on column audit.search.address_net is 'Its /24 or /48: keyed reference.';

create table audit.searchable (
  organisation_id uuid primary key,
  size            bigint not null
);
comment on table  audit.searchable is 'How much of each log is in audit.search. Its row is the lock of whoever copies.';
comment on column audit.searchable.organisation_id is 'Tenant.';
comment on column audit.searchable.size is 'Number of records, from the first.';

-- How many records a day has of each action and decision, counted as they become searchable, so that nobody counts records.
create table audit.day (
  organisation_id uuid not null,
  day             date not null,
  action          text not null,
  decision        text not null,
  n               bigint not null,
  primary key (organisation_id, day, action, decision)
) with (fillfactor = 70);
comment on table  audit.day is 'Number of records per day (UTC), action and decision.';
comment on column audit.day.organisation_id is 'Tenant.';
comment on column audit.day.day is 'UTC.';
comment on column audit.day.action is 'As in the record.';
comment on column audit.day.decision is 'As in the record; empty for what is not decided.';
comment on column audit.day.n is 'How many.';

create table audit.retention (
  organisation_id uuid primary key,
  days            int not null default 400 check (days between 90 and 36500),
  first_seq       bigint not null default 0 check (first_seq >= 0 and first_seq % 256 = 0)
);
comment on table  audit.retention is 'How long an organisation''s records are kept, and where those begin that still are.';
comment on column audit.retention.organisation_id is 'Tenant.';
comment on column audit.retention.days is 'Records younger than this stay.';
comment on column audit.retention.first_seq is 'The first record that is kept, at the beginning of a bundle (C2SP tlog-tiles, pruning).';

create table audit.tile (
  organisation_id uuid not null,
  idx             bigint not null,
  hashes          bytea not null,
  primary key (organisation_id, idx),
  constraint tile_full check (length(hashes) = 8192)
);
alter table audit.tile alter column hashes set storage external;
comment on table  audit.tile is 'Full tiles of leaf hashes (C2SP tlog-tiles level 0).';
comment on column audit.tile.organisation_id is 'Tenant.';
comment on column audit.tile.idx is 'Tile number.';
comment on column audit.tile.hashes is '256 leaf hashes.';

create table audit.node (
  organisation_id uuid not null,
  level           int not null check (level > 0),
  idx             bigint not null,
  hash            bytea not null check (length(hash) = 32),
  primary key (organisation_id, level, idx)
);
comment on table  audit.node is 'Hashes of the tiles of higher levels.';
comment on column audit.node.organisation_id is 'Tenant.';
comment on column audit.node.level is 'Tile level, from 1.';
comment on column audit.node.idx is 'Position in the level.';
comment on column audit.node.hash is 'Root of 256 nodes of the level below.';

-- Nothing is changed, and nothing removed but records of a pruned prefix that are older than any retention allows to go.
create function audit.refuse() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'DELETE' and tg_nargs = 1 then
    if old.at < now() - interval '90 days'
      and exists (select 1 from audit.retention r where r.organisation_id = old.organisation_id and old.seq < r.first_seq) then
      return old;
    end if;
  end if;
  raise exception 'the audit log only grows: % on %.% is refused', tg_op, tg_table_schema, tg_table_name; end $$;
do $$
declare t text;
begin
  foreach t in array array['head','record','search','searchable','retention','day','tile','node'] loop
    if t in ('head', 'searchable', 'retention', 'day') then
      execute format('create trigger no_delete before delete on audit.%I for each row execute function audit.refuse()', t);
      execute format('alter table audit.%I enable always trigger no_delete', t);
    else
      execute format('create trigger append_only before update or delete on audit.%I for each row execute function audit.refuse(%s)', t,
        case when t in ('record', 'search') then quote_literal('prunable') else '' end);
      execute format('alter table audit.%I enable always trigger append_only', t);
    end if;
    execute format('create trigger no_truncate before truncate on audit.%I for each statement execute function audit.refuse()', t);
    execute format('alter table audit.%I enable always trigger no_truncate', t);
  end loop;
end $$;

grant select, update on audit.head to counterfoil_access;
grant insert on audit.head to counterfoil_access;
grant select on audit.record, audit.tile, audit.node to counterfoil_access;
grant insert (organisation_id, seq, at, body) on audit.record to counterfoil_access;
grant select, insert on audit.search to counterfoil_access;
grant select, insert, update on audit.searchable, audit.retention to counterfoil_access;
grant insert on audit.tile, audit.node to counterfoil_access;
grant select, insert, update on audit.day to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['head','record','search','searchable','retention','day','tile','node'] loop
    execute format('alter table audit.%I enable row level security', t);
    execute format('alter table audit.%I force row level security', t);
    execute format('create policy own_organisation on audit.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;

-- A month of records is a table of its own, so that old months go by dropping a table and indexes stay small. There is always one
-- for this month and the next two; without one for the present nothing can be recorded, so the service asks for them daily.
-- What is dated otherwise than the clock has no place, on purpose.
create function audit.ensure_months(p_from date, p_months int) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare start date; t text; name text;
begin
  for start in select date_trunc('month', p_from + make_interval(months => i))::date from generate_series(0, p_months - 1) as i loop
    foreach t in array array['record', 'search'] loop
      name := t || '_' || to_char(start, 'YYYY_MM');
      continue when to_regclass('audit.' || name) is not null;
      execute format('create table audit.%I partition of audit.%I for values from (%L) to (%L)', name, t,
        start::timestamp at time zone 'UTC', (start + interval '1 month')::timestamp at time zone 'UTC');
      execute format('comment on table audit.%I is %L', name, to_char(start, 'YYYY-MM') || ' (UTC) of audit.' || t || '.');
      execute format('alter table audit.%I enable row level security', name);
      execute format('alter table audit.%I force row level security', name);
      execute format('create policy seen_whole on audit.%I for select to counterfoil_audit using (true)', name); -- to know when it is empty
      execute format('alter table audit.%I enable always trigger append_only', name);
      execute format('create trigger no_truncate before truncate on audit.%I for each statement execute function audit.refuse()', name);
      execute format('alter table audit.%I enable always trigger no_truncate', name);
    end loop;
  end loop;
end $$;
revoke all on function audit.ensure_months(date, int) from public;
grant execute on function audit.ensure_months(date, int) to counterfoil_access;
select audit.ensure_months((now() at time zone 'UTC')::date, 3);

-- Pruning works as the owner of the tables, one organisation at a time. The service cannot call it.
do $$
declare t text;
begin
  foreach t in array array['head','record','search','searchable','retention'] loop
    execute format('create policy pruning_sees on audit.%I for select to counterfoil_audit using (organisation_id = access.organisation())', t);
  end loop;
  create policy pruning on audit.retention for update to counterfoil_audit using (organisation_id = access.organisation());
  create policy pruning on audit.record for delete to counterfoil_audit using (organisation_id = access.organisation());
  create policy pruning on audit.search for delete to counterfoil_audit using (organisation_id = access.organisation());
end $$;

-- Removes some of the records before p_upto and says how many; 0 when none is left. What it may remove is decided by the log itself:
-- a committed record of the act, the organisation's retention, and the whole prefix being searchable and in tiles, which stay.
create function audit.prune(p_organisation uuid, p_act bigint, p_upto bigint, p_limit int) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint; m bigint; keep timestamptz;
begin
  perform set_config('counterfoil.organisation', p_organisation::text, true);
  select now() - make_interval(days => r.days) into strict keep from audit.retention r where r.organisation_id = p_organisation;
  if p_upto % 256 <> 0 or p_upto <= 0 or p_limit <= 0 then raise exception 'records are pruned up to the beginning of a bundle'; end if;
  if not exists (select 1 from audit.record r where r.organisation_id = p_organisation and r.seq = p_act and pg_xact_status(r.xid) = 'committed'
      and convert_from(r.body, 'UTF8')::json ->> 'action' = 'records.prune' and convert_from(r.body, 'UTF8')::json #>> '{facts,upto}' = p_upto::text) then
    raise exception 'record % does not say that records up to % are pruned', p_act, p_upto;
  end if;
  if (select s.size from audit.searchable s where s.organisation_id = p_organisation) < p_upto then raise exception 'some of the records are not searchable yet'; end if;
  if exists (select 1 from audit.record r where r.organisation_id = p_organisation and r.seq = p_upto - 1 and r.at >= keep) then
    raise exception 'some of the records are to be kept';
  end if;
  update audit.retention set first_seq = p_upto where organisation_id = p_organisation and first_seq < p_upto;
  with gone as (delete from audit.search s using (select s.at, s.seq from audit.search s where s.organisation_id = p_organisation and s.at < keep and s.seq < p_upto
      order by s.at, s.seq limit p_limit) g where s.organisation_id = p_organisation and s.at = g.at and s.seq = g.seq returning 1) select count(*) into n from gone;
  with gone as (delete from audit.record r using (select r.at, r.seq from audit.record r where r.organisation_id = p_organisation and r.seq < p_upto
      order by r.seq limit p_limit) g where r.organisation_id = p_organisation and r.seq = g.seq and r.at = g.at returning 1) select count(*) into m from gone;
  return greatest(n, m);
end $$;

-- Drops the months that no organisation has records of any more, which gives their disk space back, and says how many tables went.
create function audit.drop_empty_months() returns int language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare name text; n int := 0; there boolean;
begin
  for name in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent in ('audit.record'::regclass, 'audit.search'::regclass)
        and to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' < now() - interval '90 days' loop
    execute format('lock table audit.%I in access exclusive mode', name);
    execute format('select exists (select 1 from audit.%I)', name) into there;
    if not there then execute format('drop table audit.%I', name); n := n + 1; end if;
  end loop;
  return n;
end $$;
revoke all on function audit.prune(uuid, bigint, bigint, int), audit.drop_empty_months() from public;
grant execute on function audit.prune(uuid, bigint, bigint, int), audit.drop_empty_months() to counterfoil_access;
reset role;
