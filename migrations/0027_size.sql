-- What an erasure or a look at what is due costs is what it touches, however much else there is, and holds are looked at once, not with every part.
grant execute on function pg_catalog.pg_try_advisory_lock(bigint), pg_catalog.pg_advisory_unlock(bigint) to counterfoil_access;

set local role counterfoil_chat;
alter table control.erasure add column cleared boolean not null default false;
comment on column control.erasure.cleared is 'That all holds there are were held against it; placing another takes it back.';
create index conversation_of_agent on chat.conversation (organisation_id, agent_id, conversation_id) where agent_id is not null;
reset role;

set local role counterfoil_access;

-- Whether a hold covers what is to be erased: itself, or a conversation that it is or is in.
create function access.covers(h control.hold, p_kind text, p_id uuid) returns boolean language plpgsql stable as $$
begin
  case
  when p_kind = 'organisation' or h.subject_id = p_id then return true;
  when p_kind = 'conversation' then
    return exists (select from chat.conversation c where c.organisation_id = h.organisation_id and c.conversation_id = p_id and access.hold_in(h, c));
  when h.kind = 'conversation' then
    return exists (select from chat.conversation c where c.organisation_id = h.organisation_id and c.conversation_id = h.subject_id and access.hold_in(h, c) and access.takes_part(c, p_id));
  when p_kind = 'agent' and h.kind = 'person' then -- from the other side, which is mostly the smaller one
    return exists (select from chat.conversation c where c.organisation_id = h.organisation_id and c.visitor_id = h.subject_id and access.hold_in(h, c) and access.takes_part(c, p_id))
      or exists (select from chat.conversation c where c.organisation_id = h.organisation_id and c.agent_id = h.subject_id and access.hold_in(h, c) and access.takes_part(c, p_id))
      or exists (select from euii.value v join chat.conversation c on c.organisation_id = h.organisation_id and c.conversation_id = v.row_id
        where v.organisation_id = h.organisation_id and v.subject_id = h.subject_id and access.hold_in(h, c) and access.takes_part(c, p_id));
  when p_kind = 'visitor' then
    return exists (select from chat.conversation c where c.organisation_id = h.organisation_id and c.visitor_id = p_id and access.hold_in(h, c));
  else
    return exists (select from chat.conversation c where c.organisation_id = h.organisation_id and c.agent_id = p_id and access.hold_in(h, c))
      or exists (select from euii.value v join chat.conversation c on c.organisation_id = h.organisation_id and c.conversation_id = v.row_id
        where v.organisation_id = h.organisation_id and v.subject_id = p_id and access.hold_in(h, c));
  end case;
end $$;
create function access.takes_part(c chat.conversation, p_person uuid) returns boolean language sql stable as $$
  select p_person in (c.visitor_id, c.agent_id) or exists (select from euii.value v where v.organisation_id = c.organisation_id and v.subject_id = p_person and v.row_id = c.conversation_id) $$;
create function access.hold_in(h control.hold, c chat.conversation) returns boolean language sql stable as $$
  select (h.since is null or c.opened_at >= h.since) and (h.until is null or c.opened_at < h.until)
    and case h.kind when 'range' then true when 'conversation' then h.subject_id = c.conversation_id when 'widget' then h.subject_id = c.widget_id else access.takes_part(c, h.subject_id) end $$;

-- The conversations that holds cover; one that several do is given several times.
create function access.held_conversations(p_organisation uuid) returns setof uuid language plpgsql stable as $$
declare h control.hold;
begin
  for h in select x.* from control.hold x where x.organisation_id = p_organisation and x.lifted_at is null loop
    if h.kind = 'conversation' then
      return query select c.conversation_id from chat.conversation c where c.organisation_id = p_organisation and c.conversation_id = h.subject_id and access.hold_in(h, c);
    elsif h.kind = 'person' then
      return query select c.conversation_id from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = h.subject_id and access.hold_in(h, c)
        union select c.conversation_id from chat.conversation c where c.organisation_id = p_organisation and c.agent_id = h.subject_id and access.hold_in(h, c)
        union select c.conversation_id from euii.value v join chat.conversation c on c.organisation_id = p_organisation and c.conversation_id = v.row_id
          where v.organisation_id = p_organisation and v.subject_id = h.subject_id and access.hold_in(h, c);
    else
      return query select c.conversation_id from chat.conversation c where c.organisation_id = p_organisation and (h.kind = 'range' or c.widget_id = h.subject_id)
        and (h.since is null or c.opened_at >= h.since) and (h.until is null or c.opened_at < h.until);
    end if;
  end loop;
end $$;

create or replace function access.retention_counts(p_organisation uuid, p_class text, p_days int, out due bigint, out held bigint, out oldest timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare cutoff timestamptz := now() - make_interval(days => p_days); holds boolean;
begin
  perform access.enter(p_organisation);
  holds := exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null);
  held := 0; due := 0;
  case p_class
  when 'transcript' then
    select count(*) into due from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is null and c.closed_at < cutoff;
    select min(c.closed_at) into oldest from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is null;
    if holds and due > 0 then
      select count(*) into held from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is null and c.closed_at < cutoff
        and c.conversation_id in (select access.held_conversations(p_organisation));
    end if;
  when 'agent' then
    select count(*) into due from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.agents_gone_at is null and c.closed_at < cutoff;
    select min(c.closed_at) into oldest from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.agents_gone_at is null;
    if holds and due > 0 then
      select count(*) into held from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.agents_gone_at is null and c.closed_at < cutoff
        and c.conversation_id in (select access.held_conversations(p_organisation));
    end if;
  when 'conversation' then
    select count(*) into due from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is not null and c.closed_at < cutoff;
    select min(c.closed_at) into oldest from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is not null;
    if holds and due > 0 then
      select count(*) into held from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is not null and c.closed_at < cutoff
        and c.conversation_id in (select access.held_conversations(p_organisation));
    end if;
  when 'visitor' then
    select count(*) into due from chat.visitor v where v.organisation_id = p_organisation and v.erased_at is null and v.created_at < cutoff
      and not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = v.visitor_id and (c.state <> 'closed' or c.closed_at >= cutoff));
    select min(v.created_at) into oldest from chat.visitor v where v.organisation_id = p_organisation and v.erased_at is null;
    if holds and due > 0 then
      select count(*) into held from chat.visitor v where v.organisation_id = p_organisation and v.erased_at is null and v.created_at < cutoff
        and not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = v.visitor_id and (c.state <> 'closed' or c.closed_at >= cutoff))
        and v.visitor_id in (select h.subject_id from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null and h.kind = 'person'
          union all select c.visitor_id from chat.conversation c where c.organisation_id = p_organisation and c.conversation_id in (select access.held_conversations(p_organisation)));
    end if;
  when 'session' then
    select count(*) into due from chat.session s where s.organisation_id = p_organisation and s.expires_at < cutoff;
    select min(s.expires_at) into oldest from chat.session s where s.organisation_id = p_organisation and s.expires_at < clock_timestamp();
  when 'reason' then
    select count(*), count(*) filter (where exists (select from control.hold h where h.organisation_id = p_organisation and h.reason_id = r.reason_id and h.lifted_at is null)) into due, held
      from console.reason r where r.organisation_id = p_organisation and r.written_at < cutoff;
    select min(r.written_at) into oldest from console.reason r where r.organisation_id = p_organisation;
  end case;
end $$;

-- Each kind has conditions of its own, so that a plan made for any of them reads no more than that one needs.
create or replace function access.kept(p_organisation uuid, p_kind text, p_id uuid) returns table (place text, n bigint, first_at timestamptz, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query
    with talks as materialized (
        select c.conversation_id, c.opened_at from chat.conversation c where c.organisation_id = p_organisation and p_kind = 'visitor' and c.visitor_id = p_id
        union all select c.conversation_id, c.opened_at from chat.conversation c where c.organisation_id = p_organisation and p_kind = 'conversation' and c.conversation_id = p_id
        union all select c.conversation_id, c.opened_at from chat.conversation c where c.organisation_id = p_organisation and p_kind = 'organisation'),
      vals as (
        select v.subject_id, v.row_id, v.field, v.created_at from euii.value v where v.organisation_id = p_organisation and p_kind in ('visitor', 'agent') and v.subject_id = p_id
        union select v.subject_id, v.row_id, v.field, v.created_at from euii.value v where v.organisation_id = p_organisation and p_kind = 'conversation' and v.row_id = p_id
        union select v.subject_id, v.row_id, v.field, v.created_at from talks t join euii.value v on v.organisation_id = p_organisation and v.row_id = t.conversation_id where p_kind = 'visitor'
        union all select v.subject_id, v.row_id, v.field, v.created_at from euii.value v where v.organisation_id = p_organisation and p_kind = 'organisation'),
      ks as (
        select k.created_at from euii.key k where k.organisation_id = p_organisation and k.wrapped is not null and k.key_id = p_id and p_kind <> 'organisation'
        union all select k.created_at from talks t join euii.key k on k.organisation_id = p_organisation and k.wrapped is not null and k.key_id = t.conversation_id where p_kind = 'visitor'
        union all select k.created_at from euii.key k where k.organisation_id = p_organisation and k.wrapped is not null and p_kind = 'organisation')
    select 'chat.conversation', count(*), min(t.opened_at), max(t.opened_at) from talks t
    union all select 'chat.event', count(*), min(e.created_at), max(e.created_at) from chat.event e join talks t on t.conversation_id = e.conversation_id where e.organisation_id = p_organisation
    union all select 'chat.outbox', count(*), min(o.created_at), max(o.created_at) from chat.outbox o join talks t on t.conversation_id = o.conversation_id where o.organisation_id = p_organisation
    union all select 'chat.session', count(*), min(s.created_at), max(s.created_at) from chat.session s join talks t on t.conversation_id = s.conversation_id where s.organisation_id = p_organisation
    union all select 'chat.visitor', count(*), min(v.created_at), max(v.created_at) from chat.visitor v where v.organisation_id = p_organisation and (p_kind = 'organisation' or p_kind = 'visitor' and v.visitor_id = p_id)
    union all select 'chat.agent', count(*), min(a.created_at), max(a.created_at) from chat.agent a where a.organisation_id = p_organisation and (p_kind = 'organisation' or p_kind = 'agent' and a.agent_id = p_id and a.aad_object_id is not null)
    union all select 'euii.value ' || v.field, count(*), min(v.created_at), max(v.created_at) from vals v group by v.field
    union all select 'euii.lookup', count(*), null, null from euii.lookup l where l.organisation_id = p_organisation and (p_kind = 'organisation' or l.subject_id = p_id)
    union all select 'euii.key', count(*), min(k.created_at), max(k.created_at) from ks k
    union all select 'console', (select count(*) from console.admin a where a.organisation_id = p_organisation) + (select count(*) from console.reason r where r.organisation_id = p_organisation), null, null where p_kind = 'organisation';
end $$;

create or replace function access.holding(p_organisation uuid, p_kind text, p_id uuid) returns table (hold_id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select h.hold_id from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null and access.covers(h, p_kind, p_id) order by 1;
end $$;

create function access.going_on(p_organisation uuid, p_kind text, p_id uuid) returns boolean language sql stable as $$
  select exists (select from chat.conversation c where c.organisation_id = p_organisation and c.state <> 'closed'
    and case p_kind when 'organisation' then true when 'conversation' then c.conversation_id = p_id when 'visitor' then c.visitor_id = p_id else c.agent_id = p_id end) $$;
create or replace function access.may_erase(p_organisation uuid, p_kind text, p_id uuid) returns text language sql stable as $$
  select case when exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null and access.covers(h, p_kind, p_id)) then 'held'
    when access.going_on(p_organisation, p_kind, p_id) then 'open' else '' end $$;

-- Erasures that are under way look at the holds again when there is a new one.
create function access.hold_is_new() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  update control.erasure e set cleared = false where e.organisation_id = new.organisation_id and e.done_at is null;
  return null;
end $$;

create or replace function access.erase_some(p_organisation uuid, p_id uuid, p_limit int) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare r control.erasure; ids uuid[]; gone record; n bigint := 0; total bigint := 0; aad text; t text; again boolean;
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  select e.* into r from control.erasure e where e.organisation_id = p_organisation and e.erasure_id = p_id and e.done_at is null for update;
  if not found then return 0; end if;
  perform access.recorded(p_organisation, r.act, 'erasure.order');
  if (case when r.cleared then access.going_on(p_organisation, r.kind, r.subject_id) else access.may_erase(p_organisation, r.kind, r.subject_id) <> '' end) then
    raise exception 'a hold or an open conversation stands against this erasure' using errcode = 'object_not_in_prerequisite_state';
  end if;

  if r.kind <> 'organisation' then
    update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.key_id = r.subject_id and k.wrapped is not null;
    get diagnostics n = row_count;
    r.keys := r.keys + n; total := total + n;
  end if;
  if r.kind <> 'agent' then
    select array_agg(c.conversation_id) into ids from (select c.conversation_id from chat.conversation c where c.organisation_id = p_organisation
      and case r.kind when 'visitor' then c.visitor_id = r.subject_id when 'conversation' then c.conversation_id = r.subject_id else true end limit p_limit) c;
    if ids is not null then
      select * into gone from access.drop_conversations(p_organisation, ids);
      r.conversations := r.conversations + cardinality(ids); r.messages := r.messages + gone.messages; r.fields := r.fields + gone.fields;
      r.keys := r.keys + gone.keys; r.others := r.others + gone.others;
      total := total + cardinality(ids);
    end if;
  end if;
  if ids is null then -- the conversations are gone
    delete from euii.value v where v.organisation_id = p_organisation and (v.subject_id, v.row_id, v.field) in (select w.subject_id, w.row_id, w.field from euii.value w
      where w.organisation_id = p_organisation and (r.kind = 'organisation' or w.subject_id = r.subject_id) limit p_limit);
    get diagnostics n = row_count;
    r.fields := r.fields + n; total := total + n;
    delete from euii.lookup l where l.organisation_id = p_organisation and (l.field, l.blind_index) in (select m.field, m.blind_index from euii.lookup m
      where m.organisation_id = p_organisation and (r.kind = 'organisation' or m.subject_id = r.subject_id) limit p_limit);
    get diagnostics n = row_count;
    r.others := r.others + n; total := total + n;
    if r.kind = 'visitor' then
      delete from chat.visitor v where v.organisation_id = p_organisation and v.visitor_id = r.subject_id;
      get diagnostics n = row_count;
      r.others := r.others + n; total := total + n;
    elsif r.kind = 'agent' then
      select a.aad_object_id into aad from chat.agent a where a.organisation_id = p_organisation and a.agent_id = r.subject_id;
      if aad is not null then
        update chat.conversation c set claimed_by = null, claimed_at = null where c.organisation_id = p_organisation and c.claimed_by = aad;
        delete from chat.installation i where i.organisation_id = p_organisation and i.scope = 'personal' and i.place = aad;
        update chat.agent a set aad_object_id = null, teams_user_id = null, service_url = null, personal_conversation = null, current_conversation = null
          where a.organisation_id = p_organisation and a.agent_id = r.subject_id;
        r.others := r.others + 1; total := total + 1;
      end if;
    elsif r.kind = 'organisation' then
      delete from chat.visitor v where v.organisation_id = p_organisation and v.visitor_id in (select w.visitor_id from chat.visitor w where w.organisation_id = p_organisation limit p_limit);
      get diagnostics n = row_count;
      r.others := r.others + n; total := total + n;
      update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.key_id in (select l.key_id from euii.key l
        where l.organisation_id = p_organisation and l.wrapped is not null and l.kind <> 'organisation' limit p_limit);
      get diagnostics n = row_count;
      r.keys := r.keys + n; total := total + n;
      if total = 0 then
        foreach t in array array['agent', 'installation', 'widget'] loop
          execute format('delete from chat.%I where organisation_id = $1', t) using p_organisation;
          get diagnostics n = row_count;
          r.others := r.others + n; total := total + n;
        end loop;
        again := true;
        while again loop -- whatever else is kept, each table after those that refer to it
          again := false;
          for t in select c.oid::regclass::text from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'organisation_id'
              where c.relnamespace in ('console'::regnamespace, 'access'::regnamespace) and c.relkind in ('r', 'p') and c.relname <> 'ticket' and not c.relispartition order by c.oid desc loop
            begin
              execute format('delete from %s where organisation_id = $1', t) using p_organisation;
              get diagnostics n = row_count;
              r.others := r.others + n; total := total + n;
            exception when foreign_key_violation then again := true; end;
          end loop;
        end loop;
        update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.wrapped is not null;
        get diagnostics n = row_count;
        r.keys := r.keys + n; total := total + n;
        update chat.organisation o set name = 'erased', tenant_id = null, erased_at = now() where o.organisation_id = p_organisation and o.erased_at is null;
      end if;
    end if;
  end if;
  update control.erasure e set cleared = true, conversations = r.conversations, messages = r.messages, fields = r.fields, keys = r.keys, others = r.others
    where e.organisation_id = p_organisation and e.erasure_id = p_id;
  return total;
end $$;

-- A visitor of whom no conversation is left goes with the last of them, or with what he said of himself, whichever comes later.
create or replace function access.delete_due(p_organisation uuid, p_class text, p_cutoff timestamptz, p_after_at timestamptz, p_after_id uuid, p_limit int,
    out gone bigint, out held bigint, out last_at timestamptz, out last_id uuid)
  language plpgsql as $$
declare cutoff timestamptz := p_cutoff; holds boolean; ids uuid[]; keep uuid[]; whose uuid[];
begin
  holds := exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null);
  gone := 0; held := 0;
  if p_class = 'session' then
    delete from chat.session s where s.organisation_id = p_organisation and s.token_hash in
      (select x.token_hash from chat.session x where x.organisation_id = p_organisation and x.expires_at < cutoff order by x.expires_at limit p_limit);
    get diagnostics gone = row_count;
    if gone = p_limit then last_at := cutoff; last_id := p_organisation; end if;
    return;
  elsif p_class = 'reason' then
    delete from console.reason r where r.organisation_id = p_organisation and r.reason_id in
      (select x.reason_id from console.reason x where x.organisation_id = p_organisation and x.written_at < cutoff
        and not exists (select from control.hold h where h.organisation_id = p_organisation and h.reason_id = x.reason_id and h.lifted_at is null) limit p_limit);
    get diagnostics gone = row_count;
    if gone = p_limit then last_at := cutoff; last_id := p_organisation; end if;
    return;
  elsif p_class = 'visitor' then
    select array_agg(v.visitor_id), max(v.created_at), (array_agg(v.visitor_id order by v.created_at desc, v.visitor_id desc))[1] into ids, last_at, last_id from (select w.visitor_id, w.created_at from chat.visitor w
      where w.organisation_id = p_organisation and w.erased_at is null and w.created_at < cutoff and (w.created_at, w.visitor_id) > (p_after_at, p_after_id)
      order by w.created_at, w.visitor_id limit p_limit) v;
    if cardinality(ids) < p_limit then last_at := null; last_id := null; end if;
    select array_agg(i) into ids from unnest(ids) i where not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = i and (c.state <> 'closed' or c.closed_at >= cutoff));
    if holds then
      select array_agg(i) into keep from unnest(ids) i where access.person_held(p_organisation, i);
    end if;
  else
    select array_agg(c.conversation_id), max(c.closed_at), (array_agg(c.conversation_id order by c.closed_at desc, c.conversation_id desc))[1] into ids, last_at, last_id from (select d.conversation_id, d.closed_at from chat.conversation d
      where d.organisation_id = p_organisation and d.state = 'closed' and d.closed_at < cutoff and (d.closed_at, d.conversation_id) > (p_after_at, p_after_id)
        and case p_class when 'transcript' then d.transcript_gone_at is null when 'agent' then d.agents_gone_at is null when 'conversation' then d.transcript_gone_at is not null end
      order by d.closed_at, d.conversation_id limit p_limit) c;
    if cardinality(ids) < p_limit then last_at := null; last_id := null; end if;
    if holds then
      select array_agg(i) into keep from unnest(ids) i where access.held(p_organisation, i);
    end if;
  end if;
  held := coalesce(cardinality(keep), 0);
  select array_agg(i) into ids from unnest(ids) i where keep is null or i <> all(keep);
  if ids is null then return; end if;
  gone := cardinality(ids);
  case p_class
  when 'transcript' then
    update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.key_id = any(ids) and k.wrapped is not null;
    delete from chat.event e where e.organisation_id = p_organisation and e.conversation_id = any(ids);
    delete from chat.session s where s.organisation_id = p_organisation and s.conversation_id = any(ids);
    delete from chat.outbox o where o.organisation_id = p_organisation and o.conversation_id = any(ids);
    update chat.conversation c set transcript_gone_at = now() where c.organisation_id = p_organisation and c.conversation_id = any(ids);
  when 'agent' then
    delete from euii.value v where v.organisation_id = p_organisation and v.row_id = any(ids) and v.field like 'agent\_%';
    update chat.conversation c set agents_gone_at = now(), claimed_by = null where c.organisation_id = p_organisation and c.conversation_id = any(ids);
  when 'conversation' then
    select array_agg(distinct c.visitor_id) into whose from chat.conversation c where c.organisation_id = p_organisation and c.conversation_id = any(ids);
    perform access.drop_conversations(p_organisation, ids);
    delete from chat.visitor v where v.organisation_id = p_organisation and v.visitor_id = any(whose) and v.erased_at is not null
      and not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = v.visitor_id);
  when 'visitor' then
    delete from euii.value v where v.organisation_id = p_organisation and v.subject_id = any(ids);
    update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.key_id = any(ids) and k.wrapped is not null;
    delete from chat.visitor v where v.organisation_id = p_organisation and v.visitor_id = any(ids)
      and not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = v.visitor_id);
    update chat.visitor v set erased_at = now() where v.organisation_id = p_organisation and v.visitor_id = any(ids);
  end case;
end $$;

-- One run at a time: who begins another is given the one that is open.
drop function access.begin_run(uuid, bigint);
create function access.begin_run(p_organisation uuid, p_act bigint) returns uuid
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare run uuid;
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  select r.run_id into run from control.run r where r.organisation_id = p_organisation and r.done_at is null order by r.began_at desc limit 1;
  if run is null then
    run := (access.recorded(p_organisation, p_act, 'retention.apply') -> 'facts' ->> 'run.id')::uuid;
    insert into control.run (organisation_id, run_id, act) values (p_organisation, run, p_act);
  end if;
  return run;
end $$;

-- A turn ends with the connection, so that whoever dies keeps nobody from carrying on.
create function access.take_turn(p_what text, p_id uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  return pg_try_advisory_lock(hashtextextended('turn ' || p_what || ' ' || p_id::text, 0));
end $$;
create function access.end_turn(p_what text, p_id uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  return pg_advisory_unlock(hashtextextended('turn ' || p_what || ' ' || p_id::text, 0));
end $$;

-- What an agent accepted is known by his directory id under the key of the organisation, which outlives his own; while he is being erased it can be removed.
create function access.forget_acceptances(p_organisation uuid, p_id uuid, p_person text) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  if not exists (select from control.erasure e where e.organisation_id = p_organisation and e.erasure_id = p_id and e.kind = 'agent' and e.done_at is null) then return 0; end if;
  delete from chat.acceptance a where a.organisation_id = p_organisation and a.audience = 'agent' and a.person_ref = p_person;
  get diagnostics n = row_count;
  update control.erasure e set others = e.others + n where e.organisation_id = p_organisation and e.erasure_id = p_id;
  return n;
end $$;

revoke all on function access.covers(control.hold, text, uuid), access.takes_part(chat.conversation, uuid), access.hold_in(control.hold, chat.conversation), access.held_conversations(uuid),
  access.going_on(uuid, text, uuid), access.hold_is_new(), access.begin_run(uuid, bigint), access.forget_acceptances(uuid, uuid, text),
  access.take_turn(text, uuid), access.end_turn(text, uuid) from public;
grant execute on function access.begin_run(uuid, bigint), access.forget_acceptances(uuid, uuid, text) to counterfoil_service;
grant execute on function access.take_turn(text, uuid), access.end_turn(text, uuid) to counterfoil_retention;
grant execute on function access.hold_is_new() to counterfoil_chat;
reset role;
set local role counterfoil_chat;
create trigger hold_is_new after insert on control.hold for each row execute function access.hold_is_new();
reset role;
