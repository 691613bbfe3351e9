-- How long data is kept, what must not go, and what went. Nothing here is done because somebody calls a function: each takes the number of a
-- committed record of the log and does what that record says, no more. What removes data is for the role of retention alone.
create schema control authorization counterfoil_chat;
comment on schema control is 'How long data is kept, what is held, and what was erased.';
grant usage on schema control to counterfoil_access;

set local role counterfoil_chat;

create table control.retention (
  organisation_id uuid not null references chat.organisation,
  retention_id    uuid not null default gen_random_uuid(),
  class           text not null check (class in ('transcript', 'visitor', 'agent', 'conversation', 'session', 'reason', 'backup')),
  act             bigint not null,
  days            int not null check (days between 1 and 36500),
  effective_at    timestamptz not null,
  set_at          timestamptz not null default now(),
  primary key (organisation_id, retention_id)
);
comment on table  control.retention is 'How long an organisation keeps a class of data: the newest line that is in effect counts.';
comment on column control.retention.organisation_id is 'Tenant.';
comment on column control.retention.retention_id is 'Random id.';
comment on column control.retention.class is 'What is kept.';
comment on column control.retention.act is 'The record that says so.';
comment on column control.retention.days is 'How many days after its end.';
comment on column control.retention.effective_at is 'From when on it counts.';
comment on column control.retention.set_at is 'When it was set.';

create table control.hold (
  organisation_id uuid not null references chat.organisation,
  hold_id         uuid not null,
  kind            text not null check (kind in ('person', 'conversation', 'widget', 'range')),
  subject_id      uuid,
  since           timestamptz,
  until           timestamptz,
  reason_id       uuid,
  placed_act      bigint not null,
  placed_at       timestamptz not null default now(),
  lifted_act      bigint,
  lifted_at       timestamptz,
  primary key (organisation_id, hold_id),
  constraint hold_names_something check ((kind = 'range') = (subject_id is null)),
  constraint hold_range_in_order check (since < until),
  constraint hold_lifted_by_record check ((lifted_at is null) = (lifted_act is null))
);
comment on table  control.hold is 'Legal holds: what one covers is neither erased nor deleted when its time is over, until it is lifted.';
comment on column control.hold.organisation_id is 'Tenant.';
comment on column control.hold.hold_id is 'Random id.';
comment on column control.hold.kind is 'What it covers: a person, a conversation, what came by a widget, or all of a time.';
comment on column control.hold.subject_id is 'Which person, conversation or widget.';
comment on column control.hold.since is 'Only conversations opened from then on; null for any.';
comment on column control.hold.until is 'Only conversations opened before; null for any.';
comment on column control.hold.reason_id is 'Why, in the words of who placed it.';
comment on column control.hold.placed_act is 'The record of placing it.';
comment on column control.hold.placed_at is 'When it was placed.';
comment on column control.hold.lifted_act is 'The record of lifting it.';
comment on column control.hold.lifted_at is 'When it was lifted; null while it holds.';

create table control.erasure (
  organisation_id uuid not null references chat.organisation,
  erasure_id      uuid not null,
  act             bigint not null,
  kind            text not null check (kind in ('visitor', 'agent', 'conversation', 'organisation')),
  subject_id      uuid not null,
  subject_ref     text not null,
  ordered_at      timestamptz not null default now(),
  conversations   bigint not null default 0,
  messages        bigint not null default 0,
  fields          bigint not null default 0,
  keys            bigint not null default 0,
  others          bigint not null default 0,
  done_act        bigint,
  done_at         timestamptz,
  primary key (organisation_id, erasure_id),
  constraint erasure_done_by_record check ((done_at is null) = (done_act is null))
);
create index erasure_of_subject on control.erasure (organisation_id, subject_ref);
create unique index erasure_of_one on control.erasure (organisation_id, subject_id);
comment on table  control.erasure is 'Erasures that were ordered, how far they are, and the record that certifies each that is done.';
comment on column control.erasure.organisation_id is 'Tenant.';
comment on column control.erasure.erasure_id is 'Random id.';
comment on column control.erasure.act is 'The record that orders it.';
comment on column control.erasure.kind is 'What is erased.';
comment on column control.erasure.subject_id is 'Random id of what was erased; it leads to nothing any more.';
comment on column control.erasure.subject_ref is 'The keyed reference that records know it by, so that they can say that it is erased.';
comment on column control.erasure.ordered_at is 'When it was ordered.';
comment on column control.erasure.conversations is 'How many conversations went.';
comment on column control.erasure.messages is 'How many events of conversations went.';
comment on column control.erasure.fields is 'How many sealed values went.';
comment on column control.erasure.keys is 'How many keys were destroyed.';
comment on column control.erasure.others is 'How many other rows went.';
comment on column control.erasure.done_act is 'The record that certifies it.';
comment on column control.erasure.done_at is 'When nothing was left.';

create table control.run (
  organisation_id uuid not null references chat.organisation,
  run_id          uuid not null,
  act             bigint not null,
  began_at        timestamptz not null default clock_timestamp(),
  gone            jsonb not null default '{}',
  done_act        bigint,
  done_at         timestamptz,
  primary key (organisation_id, run_id),
  constraint run_done_by_record check ((done_at is null) = (done_act is null))
);
create index run_newest on control.run (organisation_id, began_at);
comment on table  control.run is 'Days on which retention was applied: what went is counted with what goes, so that a run that broke off is carried on.';
comment on column control.run.organisation_id is 'Tenant.';
comment on column control.run.run_id is 'Random id.';
comment on column control.run.act is 'The record that says which days count.';
comment on column control.run.began_at is 'Begin.';
comment on column control.run.gone is 'How much of each class went.';
comment on column control.run.done_act is 'The record of what went.';
comment on column control.run.done_at is 'End.';

alter table chat.organisation add column erased_at timestamptz;
comment on column chat.organisation.erased_at is 'When all it had was erased; its log remains.';
alter table chat.visitor add column erased_at timestamptz;
comment on column chat.visitor.erased_at is 'When what he said of himself was deleted, its time being over.';
alter table chat.conversation add column transcript_gone_at timestamptz, add column agents_gone_at timestamptz;
comment on column chat.conversation.transcript_gone_at is 'When what was written was deleted, its time being over.';
comment on column chat.conversation.agents_gone_at is 'When the names of its agents were deleted, their time being over.';

create index conversation_of_visitor on chat.conversation (organisation_id, visitor_id);
create index conversation_transcript_kept on chat.conversation (organisation_id, closed_at, conversation_id) where state = 'closed' and transcript_gone_at is null;
create index conversation_agents_kept on chat.conversation (organisation_id, closed_at, conversation_id) where state = 'closed' and agents_gone_at is null;
create index conversation_transcript_gone on chat.conversation (organisation_id, closed_at, conversation_id) where state = 'closed' and transcript_gone_at is not null;
create index visitor_kept on chat.visitor (organisation_id, created_at, visitor_id) where erased_at is null;
create index session_of_conversation on chat.session (organisation_id, conversation_id);
create index session_ended on chat.session (organisation_id, expires_at);
create index outbox_of_conversation on chat.outbox (organisation_id, conversation_id);

grant select, insert, update on control.retention, control.hold, control.erasure, control.run to counterfoil_access;
grant update, delete on chat.organisation, chat.widget, chat.visitor, chat.agent, chat.conversation to counterfoil_access;
grant delete on console.token to counterfoil_access; -- whatever the console keeps goes with its organisation
grant delete on chat.session, chat.event, chat.outbox, chat.installation to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['retention', 'hold', 'erasure', 'run'] loop
    execute format('alter table control.%I enable row level security', t);
    execute format('alter table control.%I force row level security', t);
    execute format('create policy own_organisation on control.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;

alter table console.approval drop constraint approval_kind_check;
alter table console.approval add constraint approval_kind_check check (kind in ('break_glass', 'allowlist', 'policy', 'erasure'));
comment on column console.approval.kind is 'break_glass: see one person. allowlist: a change that would shut its maker out. policy: activate a bundle. erasure: erase the organisation.';
reset role;

set local role counterfoil_euii;
create index value_of_row on euii.value (organisation_id, row_id);
grant update (wrapped, destroyed_at) on euii.key to counterfoil_access;
grant delete on euii.value, euii.lookup to counterfoil_access;
-- What is removed leaves the pages of the tables soon, not when a fifth of them is dead.
alter table euii.key set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0);
alter table euii.value set (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0);
reset role;

set local role counterfoil_access;

-- The committed record that says what is to be done. Only functions with a search path of their own may call it.
create function access.recorded(p_organisation uuid, p_act bigint, p_action text) returns json language plpgsql stable as $$
declare e json;
begin
  select convert_from(r.body, 'UTF8')::json into e from audit.record r
    where r.organisation_id = p_organisation and r.seq = p_act and pg_xact_status(r.xid) = 'committed';
  if not found or e ->> 'action' is distinct from p_action or e ->> 'kind' is distinct from 'administration' then
    raise exception 'record % does not say that this is to be done: %', p_act, p_action using errcode = 'insufficient_privilege';
  end if;
  return e;
end $$;

-- One change of what is kept at a time in an organisation, so that a hold is seen by whatever runs beside it.
create function access.alone(p_organisation uuid) returns void language sql as $$
  select pg_advisory_xact_lock(hashtextextended('control ' || p_organisation::text, 0)) $$;

-- Whether a hold covers a conversation; and whether one keeps a person, himself or by a conversation he is in.
create function access.held(p_organisation uuid, p_conversation uuid) returns boolean language sql stable as $$
  select exists (select from control.hold h join chat.conversation c on c.organisation_id = p_organisation and c.conversation_id = p_conversation
    where h.organisation_id = p_organisation and h.lifted_at is null
      and case h.kind when 'range' then true when 'conversation' then h.subject_id = c.conversation_id when 'widget' then h.subject_id = c.widget_id
            else h.subject_id in (c.visitor_id, c.agent_id)
              or exists (select from euii.value v where v.organisation_id = p_organisation and v.subject_id = h.subject_id and v.row_id = c.conversation_id) end
      and (h.since is null or c.opened_at >= h.since) and (h.until is null or c.opened_at < h.until)) $$;
create function access.person_held(p_organisation uuid, p_person uuid) returns boolean language sql stable as $$
  select exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null) and (
    exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null and h.kind = 'person' and h.subject_id = p_person)
    or exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = p_person and access.held(p_organisation, c.conversation_id))
    or exists (select from euii.value v where v.organisation_id = p_organisation and v.subject_id = p_person and v.row_id <> p_person and access.held(p_organisation, v.row_id))) $$;

-- Days that count now.
create function access.days_kept(p_organisation uuid, p_class text) returns int language sql stable as $$
  select coalesce((select r.days from control.retention r where r.organisation_id = p_organisation and r.class = p_class and r.effective_at <= now() order by r.effective_at desc, r.set_at desc limit 1),
    case p_class when 'transcript' then 400 when 'visitor' then 400 when 'agent' then 400 when 'conversation' then 1095 when 'session' then 30 when 'reason' then 730 end) $$;

create function access.set_retention(p_organisation uuid, p_act bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare facts json;
begin
  perform access.enter(p_organisation);
  facts := access.recorded(p_organisation, p_act, 'retention.set') -> 'facts';
  insert into control.retention (organisation_id, class, act, days, effective_at)
    values (p_organisation, facts ->> 'retention.class', p_act, (facts ->> 'retention.days')::int, (facts ->> 'retention.effective')::timestamptz);
end $$;

-- What is set: the days that count, since when (null as long as nobody set any), and what comes next.
create function access.retention(p_organisation uuid) returns table (class text, days int, since timestamptz, next_days int, next_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select c.class, access.days_kept(p_organisation, c.class),
      (select r.effective_at from control.retention r where r.organisation_id = p_organisation and r.class = c.class and r.effective_at <= now() order by r.effective_at desc, r.set_at desc limit 1),
      n.days, n.effective_at
    from unnest(array['transcript', 'visitor', 'agent', 'conversation', 'session', 'reason', 'backup']) as c(class)
    left join lateral (select r.days, r.effective_at from control.retention r where r.organisation_id = p_organisation and r.class = c.class and r.effective_at > now()
      order by r.effective_at desc, r.set_at desc limit 1) n on true;
end $$;

-- What of a class is older than so many days, of that what is held, and the end of the oldest that is kept at all.
create function access.retention_counts(p_organisation uuid, p_class text, p_days int, out due bigint, out held bigint, out oldest timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare cutoff timestamptz := now() - make_interval(days => p_days); holds boolean;
begin
  perform access.enter(p_organisation);
  holds := exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null);
  held := 0; due := 0;
  case p_class
  when 'transcript' then
    select count(*), count(*) filter (where holds and access.held(p_organisation, c.conversation_id)) into due, held from chat.conversation c
      where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is null and c.closed_at < cutoff;
    select min(c.closed_at) into oldest from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is null;
  when 'agent' then
    select count(*), count(*) filter (where holds and access.held(p_organisation, c.conversation_id)) into due, held from chat.conversation c
      where c.organisation_id = p_organisation and c.state = 'closed' and c.agents_gone_at is null and c.closed_at < cutoff;
    select min(c.closed_at) into oldest from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.agents_gone_at is null;
  when 'conversation' then
    select count(*), count(*) filter (where holds and access.held(p_organisation, c.conversation_id)) into due, held from chat.conversation c
      where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is not null and c.closed_at < cutoff;
    select min(c.closed_at) into oldest from chat.conversation c where c.organisation_id = p_organisation and c.state = 'closed' and c.transcript_gone_at is not null;
  when 'visitor' then
    select count(*), count(*) filter (where holds and access.person_held(p_organisation, v.visitor_id)) into due, held from chat.visitor v
      where v.organisation_id = p_organisation and v.erased_at is null and v.created_at < cutoff
        and not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = v.visitor_id and (c.state <> 'closed' or c.closed_at >= cutoff));
    select min(v.created_at) into oldest from chat.visitor v where v.organisation_id = p_organisation and v.erased_at is null;
  when 'session' then
    select count(*) into due from chat.session s where s.organisation_id = p_organisation and s.expires_at < cutoff;
    select min(s.expires_at) into oldest from chat.session s where s.organisation_id = p_organisation and s.expires_at < clock_timestamp();
  when 'reason' then
    select count(*), count(*) filter (where exists (select from control.hold h where h.organisation_id = p_organisation and h.reason_id = r.reason_id and h.lifted_at is null)) into due, held
      from console.reason r where r.organisation_id = p_organisation and r.written_at < cutoff;
    select min(r.written_at) into oldest from console.reason r where r.organisation_id = p_organisation;
  end case;
end $$;

-- Holds.
create function access.place_hold(p_organisation uuid, p_act bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare f json; k text; s uuid; there boolean;
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  f := access.recorded(p_organisation, p_act, 'hold.place') -> 'facts';
  k := f ->> 'hold.kind'; s := (f ->> 'hold.subject')::uuid;
  -- What is gone cannot be held, and a hold on nothing would say that something is safe.
  there := case k when 'range' then true when 'widget' then exists (select from chat.widget w where w.organisation_id = p_organisation and w.widget_id = s)
      when 'conversation' then exists (select from chat.conversation c join euii.key y on y.organisation_id = p_organisation and y.key_id = s and y.wrapped is not null
        where c.organisation_id = p_organisation and c.conversation_id = s)
      when 'person' then exists (select from euii.key y where y.organisation_id = p_organisation and y.key_id = s and y.kind in ('visitor', 'agent') and y.wrapped is not null) else false end;
  if not there or exists (select from control.erasure e where e.organisation_id = p_organisation and e.done_at is null and (e.subject_id = s or e.kind = 'organisation')) then
    return false;
  end if;
  insert into control.hold (organisation_id, hold_id, kind, subject_id, since, until, reason_id, placed_act)
    values (p_organisation, (f ->> 'hold.id')::uuid, k, s, (f ->> 'hold.since')::timestamptz, (f ->> 'hold.until')::timestamptz, (f ->> 'reason.id')::uuid, p_act);
  return true;
end $$;
create function access.lift_hold(p_organisation uuid, p_act bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  update control.hold h set lifted_act = p_act, lifted_at = now()
    where h.organisation_id = p_organisation and h.hold_id = (access.recorded(p_organisation, p_act, 'hold.lift') -> 'facts' ->> 'hold.id')::uuid and h.lifted_at is null;
  return found;
end $$;
create function access.holds(p_organisation uuid, p_limit int)
  returns table (hold_id uuid, kind text, subject_id uuid, since timestamptz, until timestamptz, reason_id uuid, placed_act bigint, placed_at timestamptz, lifted_act bigint, lifted_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select h.hold_id, h.kind, h.subject_id, h.since, h.until, h.reason_id, h.placed_act, h.placed_at, h.lifted_act, h.lifted_at
    from control.hold h where h.organisation_id = p_organisation order by h.lifted_at is not null, h.placed_at desc, h.hold_id limit p_limit;
end $$;

-- What is kept of a person, a conversation or the organisation, by place, with the first and last time of it.
create function access.kept(p_organisation uuid, p_kind text, p_id uuid) returns table (place text, n bigint, first_at timestamptz, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query
    with talks as materialized (select c.* from chat.conversation c where c.organisation_id = p_organisation
        and case p_kind when 'visitor' then c.visitor_id = p_id when 'conversation' then c.conversation_id = p_id when 'organisation' then true else false end),
      vals as materialized (select v.* from euii.value v where v.organisation_id = p_organisation
        and case p_kind when 'organisation' then true when 'conversation' then v.row_id = p_id when 'agent' then v.subject_id = p_id
              else v.subject_id = p_id or v.row_id in (select t.conversation_id from talks t) end),
      ks as materialized (select k.* from euii.key k where k.organisation_id = p_organisation and k.wrapped is not null
        and (p_kind = 'organisation' or k.key_id = p_id or k.key_id in (select t.conversation_id from talks t)))
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

-- The holds that stand against an erasure.
create function access.holding(p_organisation uuid, p_kind text, p_id uuid) returns table (hold_id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select h.hold_id from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null and case p_kind when 'organisation' then true
      else h.subject_id = p_id or exists (select from chat.conversation c where c.organisation_id = p_organisation
        and case p_kind when 'conversation' then c.conversation_id = p_id when 'visitor' then c.visitor_id = p_id
              else exists (select from euii.value v where v.organisation_id = p_organisation and v.subject_id = p_id and v.row_id = c.conversation_id) end
        and case h.kind when 'range' then true when 'conversation' then h.subject_id = c.conversation_id when 'widget' then h.subject_id = c.widget_id
              else h.subject_id in (c.visitor_id, c.agent_id)
                or exists (select from euii.value v where v.organisation_id = p_organisation and v.subject_id = h.subject_id and v.row_id = c.conversation_id) end
        and (h.since is null or c.opened_at >= h.since) and (h.until is null or c.opened_at < h.until)) end
    order by 1;
end $$;

create function access.may_erase(p_organisation uuid, p_kind text, p_id uuid) returns text language sql stable as $$
  select case
    when case p_kind when 'organisation' then exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null)
      when 'conversation' then access.held(p_organisation, p_id) else access.person_held(p_organisation, p_id) end then 'held'
    when exists (select from chat.conversation c where c.organisation_id = p_organisation and c.state <> 'closed'
      and case p_kind when 'organisation' then true when 'conversation' then c.conversation_id = p_id when 'visitor' then c.visitor_id = p_id else c.agent_id = p_id end) then 'open'
    else '' end $$;

create function access.erasable(p_organisation uuid, p_kind text, p_id uuid) returns text
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return access.may_erase(p_organisation, p_kind, p_id);
end $$;

-- Notes an erasure that is ordered by a record. Says why not when it cannot be: held, open (a conversation is going on), gone, or running. One that
-- was ordered in a log that is closed since is ordered anew.
create function access.order_erasure(p_organisation uuid, p_act bigint) returns text
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare e json; was control.erasure; k text; s uuid; why text;
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  e := access.recorded(p_organisation, p_act, 'erasure.order');
  k := e -> 'facts' ->> 'erasure.kind'; s := (e -> 'facts' ->> 'erasure.subject')::uuid;
  if not exists (select from euii.key y where y.organisation_id = p_organisation and y.key_id = s and y.kind = k) then return 'gone'; end if;
  select r.* into was from control.erasure r where r.organisation_id = p_organisation and r.subject_id = s;
  if was.done_at is not null then return 'gone'; end if;
  if was.act is not null then
    begin
      perform access.recorded(p_organisation, was.act, 'erasure.order');
      if was.act <> p_act then return 'running'; end if;
    exception when insufficient_privilege then null; end;
    update control.erasure r set act = p_act, erasure_id = (e -> 'facts' ->> 'erasure.id')::uuid where r.organisation_id = p_organisation and r.subject_id = s;
    return '';
  end if;
  why := access.may_erase(p_organisation, k, s);
  if why = '' then
    insert into control.erasure (organisation_id, erasure_id, act, kind, subject_id, subject_ref)
      values (p_organisation, (e -> 'facts' ->> 'erasure.id')::uuid, p_act, k, s, coalesce(e -> 'facts' ->> 'erasure.reference', ''));
  end if;
  return why;
end $$;
create function access.erasures(p_organisation uuid, p_id uuid, p_limit int)
  returns table (erasure_id uuid, act bigint, kind text, subject_id uuid, subject_ref text, ordered_at timestamptz, conversations bigint, messages bigint, fields bigint, keys bigint, others bigint, done_act bigint, done_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.erasure_id, r.act, r.kind, r.subject_id, r.subject_ref, r.ordered_at, r.conversations, r.messages, r.fields, r.keys, r.others, r.done_act, r.done_at
    from control.erasure r where r.organisation_id = p_organisation and (p_id is null or r.erasure_id = p_id or r.subject_id = p_id) order by r.done_at is not null, r.ordered_at desc, r.erasure_id limit p_limit;
end $$;
create function access.open_erasures() returns table (organisation_id uuid, erasure_id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare o uuid;
begin
  for o in select c.organisation_id from access.organisations() c loop
    perform access.enter(o);
    return query select r.organisation_id, r.erasure_id from control.erasure r where r.organisation_id = o and r.done_at is null order by r.ordered_at;
  end loop;
end $$;
-- Which of these references stand for what was erased, and the record that certifies it.
create function access.erased(p_organisation uuid, p_refs text[]) returns table (reference text, done_act bigint, done_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.subject_ref, r.done_act, r.done_at from control.erasure r where r.organisation_id = p_organisation and r.subject_ref = any(p_refs) and r.subject_ref <> '' and r.done_at is not null;
end $$;
-- Ends an erasure of which nothing is left.
create function access.finish_erasure(p_organisation uuid, p_id uuid, p_done bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  if (access.recorded(p_organisation, p_done, 'erasure.done') -> 'facts' ->> 'erasure.id') is distinct from p_id::text then
    raise exception 'record % certifies another erasure', p_done;
  end if;
  update control.erasure r set done_act = p_done, done_at = clock_timestamp() where r.organisation_id = p_organisation and r.erasure_id = p_id and r.done_at is null
    and not exists (select from access.kept(p_organisation, r.kind, r.subject_id) k where k.n > 0);
  return found;
end $$;

-- Removes conversations with all that hangs on them, and destroys their keys. Gives events, values, keys and other rows that went.
create function access.drop_conversations(p_organisation uuid, p_ids uuid[], out messages bigint, out fields bigint, out keys bigint, out others bigint) language plpgsql as $$
declare n bigint;
begin
  update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.key_id = any(p_ids) and k.wrapped is not null;
  get diagnostics keys = row_count;
  delete from euii.value v where v.organisation_id = p_organisation and v.row_id = any(p_ids);
  get diagnostics fields = row_count;
  delete from chat.event e where e.organisation_id = p_organisation and e.conversation_id = any(p_ids);
  get diagnostics messages = row_count;
  delete from chat.session s where s.organisation_id = p_organisation and s.conversation_id = any(p_ids);
  get diagnostics others = row_count;
  delete from chat.outbox o where o.organisation_id = p_organisation and o.conversation_id = any(p_ids);
  get diagnostics n = row_count;
  others := others + n;
  update chat.agent a set current_conversation = null where a.organisation_id = p_organisation and a.current_conversation = any(p_ids);
  delete from chat.conversation c where c.organisation_id = p_organisation and c.conversation_id = any(p_ids);
end $$;

-- Does a part of an erasure: at most so many conversations or rows; says how much went, and 0 when nothing is left. The key of who or what is
-- erased goes first, so that from the first part on nothing of it can be opened; that of an organisation goes last, since it names who acts.
create function access.erase_some(p_organisation uuid, p_id uuid, p_limit int) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare r control.erasure; ids uuid[]; gone record; n bigint := 0; total bigint := 0; aad text; t text; again boolean;
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  select e.* into r from control.erasure e where e.organisation_id = p_organisation and e.erasure_id = p_id and e.done_at is null for update;
  if not found then return 0; end if;
  perform access.recorded(p_organisation, r.act, 'erasure.order');
  if access.may_erase(p_organisation, r.kind, r.subject_id) <> '' then
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
  update control.erasure e set conversations = r.conversations, messages = r.messages, fields = r.fields, keys = r.keys, others = r.others
    where e.organisation_id = p_organisation and e.erasure_id = p_id;
  return total;
end $$;

-- Deletes of one class what ended before a time and no hold covers, at most so much from a place on. Gives how much went, how much is held, and the
-- place to go on from; null when that was all.
create function access.delete_due(p_organisation uuid, p_class text, p_cutoff timestamptz, p_after_at timestamptz, p_after_id uuid, p_limit int,
    out gone bigint, out held bigint, out last_at timestamptz, out last_id uuid)
  language plpgsql as $$
declare cutoff timestamptz := p_cutoff; holds boolean; ids uuid[]; keep uuid[];
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
    perform access.drop_conversations(p_organisation, ids);
    delete from chat.visitor v where v.organisation_id = p_organisation and v.erased_at is not null and v.erased_at < now()
      and not exists (select from chat.conversation c where c.organisation_id = p_organisation and c.visitor_id = v.visitor_id)
      and v.visitor_id in (select w.visitor_id from chat.visitor w where w.organisation_id = p_organisation and w.erased_at is not null and w.created_at < cutoff limit p_limit);
  when 'visitor' then
    delete from euii.value v where v.organisation_id = p_organisation and v.subject_id = any(ids);
    update euii.key k set wrapped = null, destroyed_at = now() where k.organisation_id = p_organisation and k.key_id = any(ids) and k.wrapped is not null;
    update chat.visitor v set erased_at = now() where v.organisation_id = p_organisation and v.visitor_id = any(ids);
  end case;
end $$;

-- Does a part of a run. What its record says must be what counts here, so that nothing goes by days that are not on record, nor by those of yesterday.
create function access.apply_retention(p_organisation uuid, p_run uuid, p_class text, p_after_at timestamptz, p_after_id uuid, p_limit int,
    out gone bigint, out held bigint, out last_at timestamptz, out last_id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare days int; r control.run;
begin
  perform access.enter(p_organisation);
  perform access.alone(p_organisation);
  select x.* into r from control.run x where x.organisation_id = p_organisation and x.run_id = p_run and x.done_at is null for update;
  if not found then gone := 0; held := 0; return; end if;
  days := access.days_kept(p_organisation, p_class);
  if access.recorded(p_organisation, r.act, 'retention.apply') -> 'facts' ->> ('retention.' || p_class) is distinct from days::text then
    raise exception 'record % does not say that % is kept for % days, as is set', r.act, p_class, days using errcode = 'object_not_in_prerequisite_state';
  end if;
  select d.gone, d.held, d.last_at, d.last_id into gone, held, last_at, last_id
    from access.delete_due(p_organisation, p_class, now() - make_interval(days => days), p_after_at, p_after_id, p_limit) d;
  update control.run x set gone = r.gone || jsonb_build_object(p_class, coalesce((r.gone ->> p_class)::bigint, 0) + apply_retention.gone)
    where x.organisation_id = p_organisation and x.run_id = p_run;
end $$;

create function access.begin_run(p_organisation uuid, p_act bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into control.run (organisation_id, run_id, act)
    values (p_organisation, (access.recorded(p_organisation, p_act, 'retention.apply') -> 'facts' ->> 'run.id')::uuid, p_act);
end $$;
create function access.finish_run(p_organisation uuid, p_act bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update control.run r set done_act = p_act, done_at = clock_timestamp()
    where r.organisation_id = p_organisation and r.run_id = (access.recorded(p_organisation, p_act, 'retention.run') -> 'facts' ->> 'run.id')::uuid and r.done_at is null;
  return found;
end $$;
-- The newest runs, and the time that it is here.
create function access.runs(p_organisation uuid, p_limit int) returns table (run_id uuid, act bigint, began_at timestamptz, gone jsonb, done_act bigint, done_at timestamptz, clock timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.run_id, r.act, r.began_at, r.gone, r.done_act, r.done_at, clock_timestamp() from control.run r where r.organisation_id = p_organisation order by r.began_at desc, r.run_id limit p_limit;
end $$;

do $$
declare f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'access'::regnamespace and p.proname in ('recorded', 'alone', 'held', 'person_held', 'days_kept', 'may_erase', 'drop_conversations',
      'set_retention', 'retention', 'retention_counts', 'place_hold', 'lift_hold', 'holds', 'kept', 'holding', 'erasable', 'order_erasure', 'erasures', 'open_erasures', 'erased', 'finish_erasure', 'begin_run', 'finish_run', 'runs',
      'erase_some', 'delete_due', 'apply_retention') loop
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
grant execute on function access.set_retention(uuid, bigint), access.retention(uuid), access.retention_counts(uuid, text, int), access.place_hold(uuid, bigint), access.lift_hold(uuid, bigint),
  access.holds(uuid, int), access.kept(uuid, text, uuid), access.holding(uuid, text, uuid), access.erasable(uuid, text, uuid), access.order_erasure(uuid, bigint), access.erasures(uuid, uuid, int), access.open_erasures(),
  access.erased(uuid, text[]), access.finish_erasure(uuid, uuid, bigint), access.begin_run(uuid, bigint), access.finish_run(uuid, bigint), access.runs(uuid, int) to counterfoil_service;
grant execute on function access.erase_some(uuid, uuid, int), access.apply_retention(uuid, uuid, text, timestamptz, uuid, int) to counterfoil_retention;
reset role;
