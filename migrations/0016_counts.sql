-- How often whom was asked for by whom, per day, and how much happened each hour, counted as records become searchable: pages that count
-- people read a few rows for each of them, however many records there are.
set local role counterfoil_audit;

alter table audit.search add column rule text not null default '';
comment on column audit.search.rule is 'Of a denial: the rule that denied; empty otherwise.';

create table audit.answer (
  organisation_id uuid not null,
  answer_id       int not null,
  kind            text not null,
  action          text not null,
  decision        text not null,
  rule            text not null,
  primary key (organisation_id, answer_id),
  constraint answer_once unique (organisation_id, kind, action, decision, rule)
);
comment on table  audit.answer is 'The sorts of records that a log has, numbered, so that counts need not repeat them.';
comment on column audit.answer.organisation_id is 'Tenant.';
comment on column audit.answer.answer_id is 'Number, from 1.';
comment on column audit.answer.kind is 'As in audit.search.';
comment on column audit.answer.action is 'As in audit.search.';
comment on column audit.answer.decision is 'As in audit.search.';
comment on column audit.answer.rule is 'As in audit.search.';

create table audit.hour (
  organisation_id uuid not null,
  hour            timestamptz not null,
  answer_id       int not null,
  n               bigint not null,
  primary key (organisation_id, hour, answer_id) include (n)
) with (fillfactor = 70);
comment on table  audit.hour is 'Number of records of each sort per hour (UTC).';
comment on column audit.hour.organisation_id is 'Tenant.';
comment on column audit.hour.hour is 'Its beginning.';
comment on column audit.hour.answer_id is 'The sort.';
comment on column audit.hour.n is 'How many.';

create table audit.asked (
  organisation_id uuid not null,
  day             date not null,
  actor_ref       text not null,
  subject_ref     text not null,
  last_seq        bigint not null,
  n               int not null,
  answers         int[] not null,
  counts          int[] not null,
  primary key (organisation_id, actor_ref, subject_ref, day),
  constraint asked_each check (cardinality(answers) = cardinality(counts))
) partition by range (day);
create index asked_pairs    on audit.asked (organisation_id, day, last_seq) where actor_ref <> '' and subject_ref <> '';
create index asked_actors   on audit.asked (organisation_id, day, last_seq) where subject_ref = '' and actor_ref <> '';
create index asked_subjects on audit.asked (organisation_id, day, last_seq) where actor_ref = '' and subject_ref <> '';
comment on table  audit.asked is 'How often an actor asked for a subject on a day (UTC). With an empty subject: all he asked; with an empty actor: all that was asked about the subject; with both: all records of the day.';
comment on column audit.asked.organisation_id is 'Tenant.';
comment on column audit.asked.day is 'UTC.';
comment on column audit.asked.actor_ref is 'As in audit.search, or empty.';
comment on column audit.asked.subject_ref is 'As in audit.search, or empty.';
comment on column audit.asked.last_seq is 'The last of these records.';
comment on column audit.asked.n is 'How many.';
comment on column audit.asked.answers is 'The sorts of these records, in ascending order.';
comment on column audit.asked.counts is 'How many of each, in the same order.';

do $$
declare t text;
begin
  foreach t in array array['answer','hour','asked'] loop
    execute format('create trigger no_truncate before truncate on audit.%I for each statement execute function audit.refuse()', t);
    execute format('alter table audit.%I enable always trigger no_truncate', t);
    execute format('alter table audit.%I enable row level security', t);
    execute format('alter table audit.%I force row level security', t);
    execute format('create policy own_organisation on audit.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
    execute format('create policy pruning_sees on audit.%I for select to counterfoil_audit using (organisation_id = access.organisation())', t);
  end loop;
  create trigger append_only before update or delete on audit.answer for each row execute function audit.refuse();
  alter table audit.answer enable always trigger append_only;
  create policy pruning on audit.hour for update to counterfoil_audit using (organisation_id = access.organisation());
  create policy pruning_empty on audit.hour for delete to counterfoil_audit using (organisation_id = access.organisation() and n <= 0);
  create policy pruning on audit.asked for update to counterfoil_audit using (organisation_id = access.organisation());
  create policy pruning_empty on audit.asked for delete to counterfoil_audit using (organisation_id = access.organisation() and answers = '{}');
  create policy pruning_sees on audit.day for select to counterfoil_audit using (organisation_id = access.organisation());
  create policy pruning on audit.day for update to counterfoil_audit using (organisation_id = access.organisation());
end $$;
grant select, insert on audit.answer to counterfoil_access;
grant select, insert, update on audit.hour, audit.asked to counterfoil_access;

create or replace function audit.ensure_months(p_from date, p_months int) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare start date; t text; name text;
begin
  for start in select date_trunc('month', p_from + make_interval(months => i))::date from generate_series(0, p_months - 1) as i loop
    foreach t in array array['record', 'search', 'asked'] loop
      name := t || '_' || to_char(start, 'YYYY_MM');
      continue when to_regclass('audit.' || name) is not null;
      if t = 'asked' then
        execute format('create table audit.%I partition of audit.asked for values from (%L) to (%L)', name, start, (start + interval '1 month')::date);
      else
        execute format('create table audit.%I partition of audit.%I for values from (%L) to (%L)', name, t,
          start::timestamp at time zone 'UTC', (start + interval '1 month')::timestamp at time zone 'UTC');
      end if;
      execute format('comment on table audit.%I is %L', name, to_char(start, 'YYYY-MM') || ' (UTC) of audit.' || t || '.');
      execute format('alter table audit.%I enable row level security', name);
      execute format('alter table audit.%I force row level security', name);
      execute format('create policy seen_whole on audit.%I for select to counterfoil_audit using (true)', name); -- to know when it is empty
      if t <> 'asked' then execute format('alter table audit.%I enable always trigger append_only', name); end if;
      execute format('create trigger no_truncate before truncate on audit.%I for each statement execute function audit.refuse()', name);
      execute format('alter table audit.%I enable always trigger no_truncate', name);
    end loop;
  end loop;
end $$;

create or replace function audit.drop_empty_months() returns int language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare name text; n int := 0; there boolean;
begin
  for name in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where i.inhparent in ('audit.record'::regclass, 'audit.search'::regclass, 'audit.asked'::regclass)
        and to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' < now() - interval '90 days' loop
    execute format('lock table audit.%I in access exclusive mode', name);
    execute format('select exists (select 1 from audit.%I)', name) into there;
    if not there then execute format('drop table audit.%I', name); n := n + 1; end if;
  end loop;
  return n;
end $$;

-- As before, and what goes is counted no longer.
create or replace function audit.prune(p_organisation uuid, p_act bigint, p_upto bigint, p_limit int) returns bigint
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
  if (select s.size from audit.searchable s where s.organisation_id = p_organisation for update) < p_upto then raise exception 'some of the records are not searchable yet'; end if;
  if exists (select 1 from audit.record r where r.organisation_id = p_organisation and r.seq = p_upto - 1 and r.at >= keep) then
    raise exception 'some of the records are to be kept';
  end if;
  update audit.retention set first_seq = p_upto where organisation_id = p_organisation and first_seq < p_upto;
  with gone as (delete from audit.search s using (select s.at, s.seq from audit.search s where s.organisation_id = p_organisation and s.at < keep and s.seq < p_upto
      order by s.at, s.seq limit p_limit) g where s.organisation_id = p_organisation and s.at = g.at and s.seq = g.seq
      returning s.at, s.kind, s.action, s.decision, s.rule, s.actor_ref, s.subject_ref),
  sorted as (select g.*, (g.at at time zone 'UTC')::date as day, a.answer_id from gone g join audit.answer a on a.organisation_id = p_organisation
      and a.kind = g.kind and a.action = g.action and a.decision = g.decision and a.rule = g.rule),
  days as (update audit.day d set n = d.n - g.n from (select s.day, s.action, s.decision, count(*) as n from sorted s group by 1, 2, 3) g
      where d.organisation_id = p_organisation and d.day = g.day and d.action = g.action and d.decision = g.decision),
  hours as (update audit.hour h set n = h.n - g.n from (select date_trunc('hour', s.at, 'UTC') as hour, s.answer_id, count(*) as n from sorted s group by 1, 2) g
      where h.organisation_id = p_organisation and h.hour = g.hour and h.answer_id = g.answer_id),
  less as (select k.actor_ref, k.subject_ref, s.day, s.answer_id, count(*)::int as n from sorted s
      cross join lateral audit.sides(s.actor_ref, s.subject_ref) k group by 1, 2, 3, 4),
  fewer as (update audit.asked p set (n, answers, counts) = (
        select coalesce(sum(u.n), 0), coalesce(array_agg(u.answer order by u.answer), '{}'), coalesce(array_agg(u.n order by u.answer), '{}') from (
          select x.answer, x.n - coalesce(l.n, 0) as n from unnest(p.answers, p.counts) as x(answer, n)
            left join less l on l.actor_ref = p.actor_ref and l.subject_ref = p.subject_ref and l.day = p.day and l.answer_id = x.answer) u where u.n > 0)
      from (select distinct l.actor_ref, l.subject_ref, l.day from less l) k
      where p.organisation_id = p_organisation and p.actor_ref = k.actor_ref and p.subject_ref = k.subject_ref and p.day = k.day)
  select count(*) into n from gone;
  delete from audit.hour h where h.organisation_id = p_organisation and h.hour < keep and h.n <= 0;
  delete from audit.asked p where p.organisation_id = p_organisation and p.day <= (keep at time zone 'UTC')::date and p.answers = '{}';
  with gone as (delete from audit.record r using (select r.at, r.seq from audit.record r where r.organisation_id = p_organisation and r.seq < p_upto
      order by r.seq limit p_limit) g where r.organisation_id = p_organisation and r.seq = g.seq and r.at = g.at returning 1) select count(*) into m from gone;
  return greatest(n, m);
end $$;

-- Under which keys a record is counted: the pair, if there is one, each of the two by himself, and all.
create function audit.sides(p_actor text, p_subject text) returns table (actor_ref text, subject_ref text) language sql immutable set search_path = pg_catalog, pg_temp as $$
  select p_actor, p_subject where p_actor <> '' and p_subject <> '' union all select p_actor, '' where p_actor <> '' union all select '', p_subject where p_subject <> '' union all select '', '' $$;
revoke all on function audit.sides(text, text) from public;
grant execute on function audit.sides(text, text) to counterfoil_access;

create or replace function audit.begin_epoch(p_organisation uuid, p_log uuid, p_size bigint, p_checkpoint text, p_origin text, p_new_checkpoint text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare t record; was_origin text; what text; keep int;
begin
  lock table audit.head, audit.record, audit.search, audit.searchable, audit.day, audit.answer, audit.hour, audit.asked, audit.retention, audit.tile, audit.node in access exclusive mode;
  select h.origin into was_origin from audit.head h where h.organisation_id = p_organisation and h.size = p_size and h.checkpoint = p_checkpoint;
  if not found then raise exception 'the log is not as it was when its end was decided'; end if;
  create temporary table triggers on commit drop as
    select g.tgrelid::regclass as on_table, g.tgname as name from pg_trigger g join pg_class c on c.oid = g.tgrelid
    where c.relnamespace = 'audit'::regnamespace and c.relname <> 'epoch' and not g.tgisinternal and g.tgenabled = 'A';
  for t in select on_table, name from pg_temp.triggers loop execute format('alter table %s disable trigger %I', t.on_table, t.name); end loop;
  select r.days into strict keep from audit.retention r where r.organisation_id = p_organisation;
  foreach what in array array['head','record','search','searchable','day','answer','hour','asked','retention','tile','node'] loop
    execute format('update audit.%I set organisation_id = $1 where organisation_id = $2', what) using p_log, p_organisation;
  end loop;
  update audit.head set last_at = 'infinity' where organisation_id = p_log;
  for t in select on_table, name from pg_temp.triggers loop execute format('alter table %s enable always trigger %I', t.on_table, t.name); end loop;
  insert into audit.epoch (organisation_id, epoch, log_id, origin, size)
    select p_organisation, count(*) + 1, p_log, was_origin, p_size from audit.epoch e where e.organisation_id = p_organisation;
  insert into audit.head (organisation_id, origin, size, frontier, checkpoint, last_at) values (p_organisation, p_origin, 0, '', p_new_checkpoint, '-infinity');
  insert into audit.searchable (organisation_id, size) values (p_organisation, 0);
  insert into audit.retention (organisation_id, days) values (p_organisation, keep);
  delete from access.ticket where organisation_id = p_organisation; -- they name records by number
  update chat.organisation set log_origin = p_origin where organisation_id = p_organisation;
end $$;

-- The months there are, and what is in them already. Denials learn their rule from their bodies.
do $$
declare name text; o uuid;
begin
  perform audit.ensure_months(to_date(right(c.relname, 7), 'YYYY_MM'), 1) from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit.search'::regclass;
  create policy filling on audit.answer for insert to counterfoil_audit with check (true);
  create policy filling on audit.hour for insert to counterfoil_audit with check (true);
  create policy filling on audit.asked for insert to counterfoil_audit with check (true);
  create policy filling on audit.search for update to counterfoil_audit using (true);
  create policy filling on audit.searchable for select to counterfoil_audit using (true);
  for name in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit.search'::regclass loop
    execute format('alter table audit.%I disable trigger append_only', name);
  end loop;
  for o in select s.organisation_id from audit.searchable s where s.size > 0 loop
    perform set_config('counterfoil.organisation', o::text, true);
    update audit.search s set rule = coalesce(convert_from(r.body, 'UTF8')::json ->> 'rule', '') from audit.record r
      where s.organisation_id = o and s.decision = 'deny' and r.organisation_id = o and r.seq = s.seq and r.at = s.at;
    insert into audit.answer (organisation_id, answer_id, kind, action, decision, rule)
      select o, row_number() over (order by a.kind, a.action, a.decision, a.rule), a.* from (select distinct s.kind, s.action, s.decision, s.rule from audit.search s where s.organisation_id = o) a;
    insert into audit.hour (organisation_id, hour, answer_id, n)
      select o, date_trunc('hour', s.at, 'UTC'), a.answer_id, count(*) from audit.search s join audit.answer a using (organisation_id, kind, action, decision, rule) where s.organisation_id = o group by 2, 3;
    insert into audit.asked (organisation_id, day, actor_ref, subject_ref, last_seq, n, answers, counts)
      select o, x.day, x.actor_ref, x.subject_ref, max(x.last_seq), sum(x.n), array_agg(x.answer_id order by x.answer_id), array_agg(x.n order by x.answer_id) from (
        select (s.at at time zone 'UTC')::date as day, k.actor_ref, k.subject_ref, a.answer_id, count(*)::int as n, max(s.seq) as last_seq
        from audit.search s join audit.answer a using (organisation_id, kind, action, decision, rule) cross join lateral audit.sides(s.actor_ref, s.subject_ref) k
        where s.organisation_id = o group by 1, 2, 3, 4) x group by 2, 3, 4;
  end loop;
  perform set_config('counterfoil.organisation', '', true);
  for name in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit.search'::regclass loop
    execute format('alter table audit.%I enable always trigger append_only', name);
  end loop;
  drop policy filling on audit.answer;
  drop policy filling on audit.hour;
  drop policy filling on audit.asked;
  drop policy filling on audit.search;
  drop policy filling on audit.searchable;
end $$;
reset role;

set local role counterfoil_access;

create or replace function access.index_log(p_organisation uuid, p_limit int) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare done bigint; n bigint;
begin
  perform access.enter(p_organisation);
  select s.size into done from audit.searchable s where s.organisation_id = p_organisation for update;
  if not found then return 0; end if;
  with copied as (
    insert into audit.search (organisation_id, seq, at, kind, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, address_net, rule)
      select r.organisation_id, r.seq, r.at, e.kind, e.action, coalesce(e.decision, ''), coalesce(e.actor ->> 'ref', ''), coalesce(e.subject ->> 'ref', ''),
        coalesce(e.conversation, ''), coalesce(e.address, ''), coalesce(e.address_net, ''), case when e.decision = 'deny' then coalesce(e.rule, '') else '' end
      from audit.record r cross join lateral json_to_record(convert_from(r.body, 'UTF8')::json)
        as e(kind text, action text, decision text, actor json, subject json, conversation text, address text, address_net text, rule text)
      where r.organisation_id = p_organisation and r.seq >= done and r.seq < done + p_limit order by r.seq
      returning seq, at, kind, action, decision, actor_ref, subject_ref, rule),
  sorts as materialized (select c.kind, c.action, c.decision, c.rule from copied c group by 1, 2, 3, 4),
  known as materialized (select s.*, a.answer_id from sorts s left join audit.answer a
      on a.organisation_id = p_organisation and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule),
  fresh as (
    insert into audit.answer (organisation_id, answer_id, kind, action, decision, rule)
      select p_organisation, (select coalesce(max(a.answer_id), 0) from audit.answer a where a.organisation_id = p_organisation) + row_number() over (order by k.kind, k.action, k.decision, k.rule),
        k.kind, k.action, k.decision, k.rule from known k where k.answer_id is null
      returning kind, action, decision, rule, answer_id),
  numbered as materialized (
    select c.seq, c.at, c.action, c.decision, c.actor_ref, c.subject_ref, k.answer_id from copied c
      join (select k.* from known k where k.answer_id is not null union all select f.* from fresh f) k using (kind, action, decision, rule)),
  days as (
    insert into audit.day as d (organisation_id, day, action, decision, n)
      select p_organisation, (c.at at time zone 'UTC')::date, c.action, c.decision, count(*) from numbered c group by 2, 3, 4
      on conflict (organisation_id, day, action, decision) do update set n = d.n + excluded.n),
  hours as (
    insert into audit.hour as h (organisation_id, hour, answer_id, n)
      select p_organisation, date_trunc('hour', c.at, 'UTC'), c.answer_id, count(*) from numbered c group by 2, 3
      on conflict (organisation_id, hour, answer_id) do update set n = h.n + excluded.n),
  people as (
    insert into audit.asked as p (organisation_id, day, actor_ref, subject_ref, last_seq, n, answers, counts)
      select p_organisation, x.day, x.actor_ref, x.subject_ref, max(x.last_seq), sum(x.n), array_agg(x.answer_id order by x.answer_id), array_agg(x.n order by x.answer_id) from (
        select (c.at at time zone 'UTC')::date as day, k.actor_ref, k.subject_ref, c.answer_id, count(*)::int as n, max(c.seq) as last_seq
        from numbered c cross join lateral audit.sides(c.actor_ref, c.subject_ref) k group by 1, 2, 3, 4) x group by 2, 3, 4
      on conflict (organisation_id, actor_ref, subject_ref, day) do update set last_seq = excluded.last_seq, n = p.n + excluded.n, (answers, counts) = (
        select array_agg(u.answer order by u.answer), array_agg(u.n order by u.answer) from (
          select y.answer, sum(y.n)::int as n from (select * from unnest(p.answers, p.counts) as a(answer, n) union all select * from unnest(excluded.answers, excluded.counts) as b(answer, n)) y group by 1) u))
  select count(*) into n from copied;
  if n > 0 then
    update audit.searchable s set size = done + n where s.organisation_id = p_organisation;
  end if;
  return n;
end $$;

create or replace function access.log_terms(p_column text[], p_value text[], p_wanted boolean[]) returns text language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare conditions text := ''; c text;
begin
  for i in 1 .. coalesce(cardinality(p_column), 0) loop
    c := case p_column[i] when 'kind' then 'kind' when 'action' then 'action' when 'decision' then 'decision' when 'rule' then 'rule' when 'actor' then 'actor_ref' when 'subject' then 'subject_ref'
      when 'conversation' then 'conversation_ref' when 'address' then 'address_ref' when 'network' then 'address_net' end;
    if c is null or p_value[i] is null or p_wanted[i] is null then
      raise exception 'records are not searched by this' using errcode = 'invalid_parameter_value';
    end if;
    conditions := conditions || case
      when not p_wanted[i] then format(' and s.%I <> $4[%s]', c, i)
      when c = 'kind' and p_value[i] in ('denial', 'collection', 'administration') or c = 'decision' and p_value[i] in ('deny', 'masked') then format(' and s.%I = %L', c, p_value[i])
      when c = 'rule' then format(' and s.decision = ''deny'' and s.rule = $4[%s]', i)
      when c like '%\_ref' or c = 'address_net' then format(' and s.%I <> '''' and s.%I = $4[%s]', c, c, i)
      else format(' and s.%I = $4[%s]', c, i) end;
  end loop;
  return conditions;
end $$;

-- Which sorts of records fulfil the terms on kind, action, decision and rule; null for all, when there is no such term.
create function access.log_answers(p_organisation uuid, p_column text[], p_value text[], p_wanted boolean[]) returns int[]
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  if not p_column && array['kind', 'action', 'decision', 'rule'] then return null; end if;
  return (select coalesce(array_agg(a.answer_id), '{}') from audit.answer a where a.organisation_id = p_organisation and not exists (
    select from unnest(p_column, p_value, p_wanted) as t(c, v, wanted)
    where t.c in ('kind', 'action', 'decision', 'rule') and (case t.c when 'kind' then a.kind when 'action' then a.action when 'decision' then a.decision else a.rule end = t.v) <> t.wanted));
end $$;

-- How many records of each decision there are in each stretch of so many seconds, of those that fulfil terms on kind, action, decision and
-- rule: read from the hours, so the time begins and ends with one.
create function access.log_hours(p_organisation uuid, p_since timestamptz, p_until timestamptz, p_column text[], p_value text[], p_wanted boolean[], p_seconds int)
  returns table (start timestamptz, decision text, n bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare wanted int[];
begin
  perform access.enter(p_organisation);
  wanted := access.log_answers(p_organisation, p_column, p_value, p_wanted);
  return query select to_timestamp(floor(extract(epoch from h.hour) / p_seconds) * p_seconds), a.decision, sum(h.n)::bigint
    from audit.hour h join audit.answer a on a.organisation_id = p_organisation and a.answer_id = h.answer_id
    where h.organisation_id = p_organisation and h.hour >= p_since and h.hour < p_until and (wanted is null or h.answer_id = any (wanted)) group by 1, 2 order by 1, 2;
end $$;

-- The same of one who asked, of one who was asked for, of a pair, or of all, from the days.
create function access.log_days_of(p_organisation uuid, p_from date, p_to date, p_actor text, p_subject text, p_column text[], p_value text[], p_wanted boolean[], p_days int)
  returns table (start timestamptz, decision text, n bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
declare wanted int[];
begin
  perform access.enter(p_organisation);
  wanted := access.log_answers(p_organisation, p_column, p_value, p_wanted);
  return query select to_timestamp(floor(extract(epoch from x.day) / 86400 / p_days) * 86400 * p_days), a.decision, sum(x.n)::bigint from (
      select p.day, unnest(p.answers) as answer, unnest(p.counts) as n from audit.asked p
      where p.organisation_id = p_organisation and p.actor_ref = p_actor and p.subject_ref = p_subject and p.day >= p_from and p.day < p_to) x
    join audit.answer a on a.organisation_id = p_organisation and a.answer_id = x.answer where wanted is null or x.answer = any (wanted) group by 1, 2 order by 1, 2;
end $$;

-- Denials by rule within whole hours, the most frequent first.
create function access.log_rules(p_organisation uuid, p_since timestamptz, p_until timestamptz) returns table (rule text, n bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.rule, sum(h.n)::bigint from audit.hour h join audit.answer a on a.organisation_id = p_organisation and a.answer_id = h.answer_id
    where h.organisation_id = p_organisation and h.hour >= p_since and h.hour < p_until and a.decision = 'deny' group by 1 order by 2 desc, 1;
end $$;

create or replace function access.log_actions(p_organisation uuid) returns table (action text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select distinct a.action from audit.answer a where a.organisation_id = p_organisation order by 1;
end $$;

-- Plans are kept: planning for every month takes longer than looking.
create or replace function access.log_references(p_organisation uuid, p_column text, p_prefix text, p_limit int) returns table (reference text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare last text := p_prefix; highest text := rpad(p_prefix, 32, 'z'); found text;
begin
  if p_column not in ('actor', 'subject', 'conversation') or p_prefix !~ '^[a-z2-9]+$' then
    raise exception 'this is no beginning of a reference' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  for i in 1 .. p_limit loop
    case p_column
      when 'actor' then
        select p.actor_ref into reference from audit.asked p where p.organisation_id = p_organisation and p.actor_ref >= last and p.actor_ref <= highest and (i = 1 or p.actor_ref > last)
          order by p.organisation_id, p.actor_ref limit 1;
      when 'subject' then
        select p.subject_ref into reference from audit.asked p where p.organisation_id = p_organisation and p.actor_ref = '' and p.subject_ref >= last and p.subject_ref <= highest and (i = 1 or p.subject_ref > last)
          order by p.organisation_id, p.actor_ref, p.subject_ref limit 1;
      else
        select s.conversation_ref into reference from audit.search s where s.organisation_id = p_organisation and s.conversation_ref <> '' and s.conversation_ref >= last and s.conversation_ref <= highest
          and (i = 1 or s.conversation_ref > last) order by s.organisation_id, s.conversation_ref limit 1;
    end case;
    exit when reference is null;
    last := reference;
    return next;
  end loop;
end $$;

-- When the first record on one day and the last on another are, of a pair or of one of the two.
create function access.log_edges(p_organisation uuid, p_actor text, p_subject text, p_first date, p_last date, p_answers int[], out first_at timestamptz, out last_at timestamptz, out last_seq bigint)
  language plpgsql stable set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  first_from timestamptz := p_first::timestamp at time zone 'UTC'; first_to timestamptz := first_from + interval '24 hours';
  last_from timestamptz := p_last::timestamp at time zone 'UTC'; last_to timestamptz := last_from + interval '24 hours';
begin
  if p_subject = '' then
    select s.at into first_at from audit.search s where s.organisation_id = p_organisation and s.actor_ref <> '' and s.actor_ref = p_actor and s.at >= first_from and s.at < first_to
      and (p_answers is null or exists (select from audit.answer a where a.organisation_id = p_organisation and a.answer_id = any (p_answers) and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule))
      order by s.at, s.seq limit 1;
    select s.at, s.seq into last_at, last_seq from audit.search s where s.organisation_id = p_organisation and s.actor_ref <> '' and s.actor_ref = p_actor and s.at >= last_from and s.at < last_to
      and (p_answers is null or exists (select from audit.answer a where a.organisation_id = p_organisation and a.answer_id = any (p_answers) and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule))
      order by s.at desc, s.seq desc limit 1;
  elsif p_actor = '' then
    select s.at into first_at from audit.search s where s.organisation_id = p_organisation and s.subject_ref <> '' and s.subject_ref = p_subject and s.at >= first_from and s.at < first_to
      and (p_answers is null or exists (select from audit.answer a where a.organisation_id = p_organisation and a.answer_id = any (p_answers) and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule))
      order by s.at, s.seq limit 1;
    select s.at, s.seq into last_at, last_seq from audit.search s where s.organisation_id = p_organisation and s.subject_ref <> '' and s.subject_ref = p_subject and s.at >= last_from and s.at < last_to
      and (p_answers is null or exists (select from audit.answer a where a.organisation_id = p_organisation and a.answer_id = any (p_answers) and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule))
      order by s.at desc, s.seq desc limit 1;
  else
    select s.at into first_at from audit.search s where s.organisation_id = p_organisation and s.subject_ref <> '' and s.subject_ref = p_subject and s.actor_ref = p_actor and s.at >= first_from and s.at < first_to
      and (p_answers is null or exists (select from audit.answer a where a.organisation_id = p_organisation and a.answer_id = any (p_answers) and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule))
      order by s.at, s.seq limit 1;
    select s.at, s.seq into last_at, last_seq from audit.search s where s.organisation_id = p_organisation and s.subject_ref <> '' and s.subject_ref = p_subject and s.actor_ref = p_actor and s.at >= last_from and s.at < last_to
      and (p_answers is null or exists (select from audit.answer a where a.organisation_id = p_organisation and a.answer_id = any (p_answers) and a.kind = s.kind and a.action = s.action and a.decision = s.decision and a.rule = s.rule))
      order by s.at desc, s.seq desc limit 1;
  end if;
end $$;

-- People, or pairs of whom one asked for the other, within whole days: those of whom there is a record last come first, from a place on. Each
-- with how often and with which answers, from when to when, for which actions in which stretches of a twenty-fourth of the time or a day (action,
-- start and count stand in parallel), and with the last of these records. What it costs depends on what it gives, not on how many records there are.
create function access.log_people(p_organisation uuid, p_from date, p_to date, p_answers int[], p_column text[], p_value text[], p_wanted boolean[], p_by text, p_place_day date, p_place_seq bigint, p_limit int)
  returns table (actor text, subject text, n bigint, masked bigint, denied bigint, first_at timestamptz, last_at timestamptz, actions text[], starts timestamptz[], counts bigint[], body bytea, place_day date, place_seq bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set work_mem = '32MB' as $$
declare others text := ''; paired boolean := p_by = 'pair'; rows text; who text; whom text;
begin
  if p_by not in ('actor', 'subject', 'pair') then
    raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  for i in 1 .. coalesce(cardinality(p_column), 0) loop
    if p_column[i] not in ('actor', 'subject') or not p_wanted[i] and p_by <> 'pair' and p_by <> p_column[i] then
      raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
    end if;
    others := others || format(' and p.%I %s $5[%s]', p_column[i] || '_ref', case when p_wanted[i] then '=' else '<>' end, i);
    paired := paired or p_column[i] <> p_by;
  end loop;
  rows := case when paired then 'p.actor_ref <> '''' and p.subject_ref <> ''''' when p_by = 'actor' then 'p.subject_ref = '''' and p.actor_ref <> ''''' else 'p.actor_ref = '''' and p.subject_ref <> ''''' end;
  who := case p_by when 'subject' then '''''::text' else 'l.actor_ref' end;
  whom := case p_by when 'actor' then '''''::text' else 'l.subject_ref' end;
  return query execute 'with listed as materialized (
      select p.actor_ref, p.subject_ref, p.day, p.last_seq from audit.asked p where p.organisation_id = $1 and ' || rows || ' and p.day >= $2 and p.day < $3' || others
    || case when p_place_day is null then '' else ' and p.day <= $6 and (p.day, p.last_seq) < ($6, $7)' end
    || case when p_answers is null then '' else ' and p.answers && $4' end
    || ' and not exists (select from audit.asked q where q.organisation_id = $1 and q.actor_ref = p.actor_ref and q.subject_ref = p.subject_ref and q.day > p.day and q.day < $3'
    || case when p_answers is null then '' else ' and q.answers && $4' end || ')
      order by p.day desc, p.last_seq desc limit $8),
    fine as materialized (
      select x.last_seq, (x.day - $2) / $9 as step, x.answer, sum(x.n) as n, min(x.day) as first_day, max(x.day) as last_day from (
        select l.last_seq, p.day, unnest(p.answers) as answer, unnest(p.counts) as n from listed l
          cross join lateral (select p.day, p.answers, p.counts from audit.asked p where p.organisation_id = $1 and p.actor_ref = l.actor_ref and p.subject_ref = l.subject_ref and p.day >= $2 and p.day < $3 offset 0) p) x'
    || case when p_answers is null then '' else ' where x.answer = any ($4)' end || ' group by 1, 2, 3),
    summed as (select f.last_seq, sum(f.n)::bigint as n, sum(case a.decision when ''masked'' then f.n else 0 end)::bigint as masked, sum(case a.decision when ''deny'' then f.n else 0 end)::bigint as denied,
        min(f.first_day) as first_day, max(f.last_day) as last_day, array_agg(a.action) as actions, array_agg(($2 + f.step * $9)::timestamp at time zone ''UTC'') as starts, array_agg(f.n) as counts
      from fine f join audit.answer a on a.organisation_id = $1 and a.answer_id = f.answer group by 1)
    select ' || who || ', ' || whom || ', s.n, s.masked, s.denied, e.first_at, e.last_at, s.actions, s.starts, s.counts,
      (select r.body from audit.record r where r.organisation_id = $1 and r.seq = e.last_seq and r.at = e.last_at), l.day, l.last_seq
    from listed l join summed s using (last_seq)
      cross join lateral access.log_edges($1, l.actor_ref, l.subject_ref, s.first_day, s.last_day, $4) e
    order by l.day desc, l.last_seq desc'
    using p_organisation, p_from, p_to, p_answers, p_value, p_place_day, p_place_seq, p_limit, greatest((p_to - p_from) / 24, 1);
end $$;

-- The same of all records that answer a search, looked at one by one: for searches that the days cannot answer, or that find few. The place
-- is the number of the last record.
drop function access.log_pairs(uuid, timestamptz, timestamptz, text[], text[], boolean[], text, int, int, int);
create function access.log_pairs(p_organisation uuid, p_since timestamptz, p_until timestamptz, p_column text[], p_value text[], p_wanted boolean[], p_by text, p_seconds int, p_place_seq bigint, p_limit int)
  returns table (actor text, subject text, n bigint, masked bigint, denied bigint, first_at timestamptz, last_at timestamptz, actions text[], starts timestamptz[], counts bigint[], body bytea, place_seq bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set work_mem = '32MB' as $$
begin
  if p_by not in ('actor', 'subject', 'pair') then
    raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  return query execute 'with fine as materialized (
      select ' || case p_by when 'subject' then '''''::text' else 's.actor_ref' end || ' as actor, ' || case p_by when 'actor' then '''''::text' else 's.subject_ref' end || ' as subject,
        s.action, to_timestamp(floor(extract(epoch from s.at) / $5) * $5) as start,
        count(*) as n, count(*) filter (where s.decision = ''masked'') as masked, count(*) filter (where s.decision = ''deny'') as denied,
        min(s.at) as first_at, max(s.at) as last_at, max(s.seq) as last_seq
      from audit.search s where s.organisation_id = $1 and s.at >= $2 and s.at < $3' || access.log_terms(p_column, p_value, p_wanted)
    || case p_by when 'actor' then ' and s.actor_ref <> ''''' when 'subject' then ' and s.subject_ref <> ''''' else ' and s.actor_ref <> '''' and s.subject_ref <> ''''' end
    || ' group by 1, 2, 3, 4),
    listed as (select f.actor, f.subject, sum(f.n)::bigint as n, sum(f.masked)::bigint as masked, sum(f.denied)::bigint as denied,
        min(f.first_at) as first_at, max(f.last_at) as last_at, max(f.last_seq) as last_seq, array_agg(f.action) as actions, array_agg(f.start) as starts, array_agg(f.n) as counts
      from fine f group by 1, 2 having $6::bigint is null or max(f.last_seq) < $6 order by 8 desc limit $7)
    select l.actor, l.subject, l.n, l.masked, l.denied, l.first_at, l.last_at, l.actions, l.starts, l.counts,
      (select r.body from audit.record r where r.organisation_id = $1 and r.seq = l.last_seq and r.at = l.last_at), l.last_seq
    from listed l order by l.last_seq desc'
    using p_organisation, p_since, p_until, p_value, p_seconds, p_place_seq, p_limit;
end $$;

-- Whoever asked most, or was asked for most, within whole days, of all sorts of records or of some.
create function access.log_most(p_organisation uuid, p_from date, p_to date, p_answers int[], p_by text, p_limit int) returns table (reference text, n bigint, body bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
  if p_by not in ('actor', 'subject') then
    raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  return query execute format('select x.reference, x.n, (select r.body from audit.record r where r.organisation_id = $1 and r.seq = x.last_seq) from (
      select p.%1$I as reference, sum(%3$s)::bigint as n, max(p.last_seq) as last_seq from audit.asked p
      where p.organisation_id = $1 and p.%2$I = '''' and p.%1$I <> '''' and p.day >= $2 and p.day < $3 and ($5 is null or p.answers && $5)
      group by 1 order by 2 desc, 3 desc limit $4) x order by x.n desc, x.last_seq desc',
    p_by || '_ref', case p_by when 'actor' then 'subject_ref' else 'actor_ref' end,
    case when p_answers is null then 'p.n' else '(select sum(u.n) from unnest(p.answers, p.counts) as u(answer, n) where u.answer = any ($5))' end)
    using p_organisation, p_from, p_to, p_limit, p_answers;
end $$;

-- Records with what they are searched by, as before, and the rule of a denial.
create or replace function access.log_rows(p_organisation uuid, p_from bigint, p_to bigint) returns table (seq bigint, at timestamptz, body bytea, due boolean, searched_by text[])
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.seq, r.at, r.body, r.seq < (select c.size from audit.searchable c where c.organisation_id = p_organisation),
      case when s.seq is not null then array[s.kind, s.action, s.decision, s.actor_ref, s.subject_ref, s.conversation_ref, s.address_ref, s.address_net, s.rule] end
    from audit.record r left join audit.search s on s.organisation_id = p_organisation and s.at = r.at and s.seq = r.seq
    where r.organisation_id = p_organisation and r.seq >= p_from and r.seq < p_to order by r.seq;
end $$;

-- The days for which a count is kept or there is a record that can be searched.
create function access.log_counted_days(p_organisation uuid) returns table (day date)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select d.day from audit.day d where d.organisation_id = p_organisation
    union select (h.hour at time zone 'UTC')::date from audit.hour h where h.organisation_id = p_organisation
    union select p.day from audit.asked p where p.organisation_id = p_organisation
    union select (s.at at time zone 'UTC')::date from audit.search s where s.organisation_id = p_organisation order by 1;
end $$;

-- How many counts of a day are not what the records that can be searched say: of the day, of its hours, and of who asked for whom.
create function access.log_miscounted(p_organisation uuid, p_day date, out days bigint, out hours bigint, out people bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set work_mem = '32MB' as $$
declare since timestamptz := p_day::timestamp at time zone 'UTC'; until timestamptz := since + interval '24 hours';
begin
  perform access.enter(p_organisation);
  select count(*) into days from (select s.action, s.decision, count(*) as n from audit.search s where s.organisation_id = p_organisation and s.at >= since and s.at < until group by 1, 2) w
    full join (select d.action, d.decision, d.n from audit.day d where d.organisation_id = p_organisation and d.day = p_day and d.n <> 0) g using (action, decision) where w.n is distinct from g.n;
  select count(*) into hours from (select date_trunc('hour', s.at, 'UTC') as hour, s.kind, s.action, s.decision, s.rule, count(*) as n
      from audit.search s where s.organisation_id = p_organisation and s.at >= since and s.at < until group by 1, 2, 3, 4, 5) w
    full join (select h.hour, a.kind, a.action, a.decision, a.rule, h.n from audit.hour h left join audit.answer a on a.organisation_id = p_organisation and a.answer_id = h.answer_id
      where h.organisation_id = p_organisation and h.hour >= since and h.hour < until) g using (hour, kind, action, decision, rule) where w.n is distinct from g.n;
  select count(*) into people from (
      select k.actor_ref, k.subject_ref, s.kind, s.action, s.decision, s.rule, count(*) as n, max(max(s.seq)) over (partition by k.actor_ref, k.subject_ref) as last_seq, sum(count(*)) over (partition by k.actor_ref, k.subject_ref) as total
      from audit.search s cross join lateral audit.sides(s.actor_ref, s.subject_ref) k where s.organisation_id = p_organisation and s.at >= since and s.at < until group by 1, 2, 3, 4, 5, 6) w
    full join (select p.actor_ref, p.subject_ref, a.kind, a.action, a.decision, a.rule, x.n::bigint as n, p.last_seq, p.n::numeric as total from audit.asked p cross join lateral unnest(p.answers, p.counts) as x(answer, n)
      left join audit.answer a on a.organisation_id = p_organisation and a.answer_id = x.answer where p.organisation_id = p_organisation and p.day = p_day) g
      using (actor_ref, subject_ref, kind, action, decision, rule) where (w.n, w.last_seq, w.total) is distinct from (g.n, g.last_seq, g.total);
end $$;

revoke all on function access.log_answers(uuid, text[], text[], boolean[]), access.log_edges(uuid, text, text, date, date, int[]), access.log_hours(uuid, timestamptz, timestamptz, text[], text[], boolean[], int),
  access.log_days_of(uuid, date, date, text, text, text[], text[], boolean[], int), access.log_rules(uuid, timestamptz, timestamptz),
  access.log_people(uuid, date, date, int[], text[], text[], boolean[], text, date, bigint, int), access.log_pairs(uuid, timestamptz, timestamptz, text[], text[], boolean[], text, int, bigint, int),
  access.log_most(uuid, date, date, int[], text, int), access.log_counted_days(uuid), access.log_miscounted(uuid, date) from public;
grant execute on function access.log_answers(uuid, text[], text[], boolean[]), access.log_hours(uuid, timestamptz, timestamptz, text[], text[], boolean[], int),
  access.log_days_of(uuid, date, date, text, text, text[], text[], boolean[], int), access.log_rules(uuid, timestamptz, timestamptz),
  access.log_people(uuid, date, date, int[], text[], text[], boolean[], text, date, bigint, int), access.log_pairs(uuid, timestamptz, timestamptz, text[], text[], boolean[], text, int, bigint, int),
  access.log_most(uuid, date, date, int[], text, int), access.log_counted_days(uuid), access.log_miscounted(uuid, date) to counterfoil_service;
reset role;
