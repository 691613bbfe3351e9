-- The archive: what was said in conversations that are over, sealed to a key that the organisation alone has. Rows here know what lies in which archive, so that
-- an erasure can say where somebody lies beyond its reach, and until when. As everywhere in this schema, what is done is what a committed record says.
set local role counterfoil_chat;

alter table control.retention drop constraint retention_class_check;
alter table control.retention add constraint retention_class_check check (class in ('transcript', 'visitor', 'agent', 'conversation', 'session', 'reason', 'backup', 'archive'));

create table control.archive_plan (
  organisation_id uuid not null references chat.organisation,
  plan_id         uuid not null default gen_random_uuid(),
  act             bigint not null,
  recipient       text not null check (recipient ~ '^(age1[a-z0-9]{58})?$'),
  every_days      int not null check (every_days between 0 and 31),
  set_at          timestamptz not null default clock_timestamp(),
  primary key (organisation_id, plan_id)
);
comment on table  control.archive_plan is 'To whose key an organisation has its archives sealed, and how often: the newest line counts.';
comment on column control.archive_plan.organisation_id is 'Tenant.';
comment on column control.archive_plan.plan_id is 'Random id.';
comment on column control.archive_plan.act is 'The record that says so.';
comment on column control.archive_plan.recipient is 'The organisation''s age recipient, a public key; empty for no archive.';
comment on column control.archive_plan.every_days is 'How many days lie between two archives; 0 for none but those somebody asks for.';
comment on column control.archive_plan.set_at is 'When it was set.';

create table control.archive (
  organisation_id uuid not null references chat.organisation,
  archive_id      uuid not null,
  act             bigint not null,
  recipient       text not null,
  target          text not null,
  name            text not null,
  locked_until    timestamptz,
  began_at        timestamptz not null default clock_timestamp(),
  writer_id       uuid,
  number          int,
  manifest        text,
  made_act        bigint,
  made_at         timestamptz,
  given_up_at     timestamptz,
  removed_act     bigint,
  removed_at      timestamptz,
  primary key (organisation_id, archive_id),
  constraint archive_made_by_record check ((made_at is null) = (made_act is null) and (made_at is null) = (number is null) and (made_at is null) = (manifest is null)),
  constraint archive_removed_by_record check ((removed_at is null) = (removed_act is null)),
  constraint archive_made_or_given_up check (made_at is null or given_up_at is null)
);
create unique index archive_number on control.archive (organisation_id, number);
create unique index archive_under_way on control.archive (organisation_id) where made_at is null and given_up_at is null;
comment on table  control.archive is 'Archives that were begun, those that were made, and those that are no more.';
comment on column control.archive.organisation_id is 'Tenant.';
comment on column control.archive.archive_id is 'Random id.';
comment on column control.archive.act is 'The record of beginning it.';
comment on column control.archive.recipient is 'The age recipient it is sealed to.';
comment on column control.archive.target is 'Where it lies: the directory or bucket of the host''s settings.';
comment on column control.archive.name is 'Its directory there.';
comment on column control.archive.locked_until is 'Until when the bucket keeps it, whoever asks; null in a directory.';
comment on column control.archive.began_at is 'Begin: what was over by then is in it.';
comment on column control.archive.writer_id is 'Random id of whoever took it up last: nobody else writes to it.';
comment on column control.archive.number is 'Its place in the row of archives; null until it is made.';
comment on column control.archive.manifest is 'SHA-256 of its manifest.';
comment on column control.archive.made_act is 'The record that it is made.';
comment on column control.archive.made_at is 'When it was whole.';
comment on column control.archive.given_up_at is 'When it was given up; what it had counts as not archived.';
comment on column control.archive.removed_act is 'The record of removing it.';
comment on column control.archive.removed_at is 'When its files were removed.';

create table control.archive_part (
  organisation_id uuid not null references chat.organisation,
  archive_id      uuid not null,
  name            text not null,
  sha256          text not null,
  bytes           bigint not null,
  conversations   bigint not null,
  events          bigint not null,
  people          bigint not null,
  first_at        timestamptz,
  last_at         timestamptz,
  holds           uuid[] not null,
  stored_at       timestamptz,
  primary key (organisation_id, archive_id, name),
  constraint archive_part_of_archive foreign key (organisation_id, archive_id) references control.archive
);
comment on table  control.archive_part is 'The files of archives. A line is written before its file, so that after a crash it is known what may lie there.';
comment on column control.archive_part.organisation_id is 'Tenant.';
comment on column control.archive_part.archive_id is 'Of which archive.';
comment on column control.archive_part.name is 'Name of the file.';
comment on column control.archive_part.sha256 is 'SHA-256 of the file.';
comment on column control.archive_part.bytes is 'Size of the file.';
comment on column control.archive_part.conversations is 'How many conversations end in it.';
comment on column control.archive_part.events is 'How many events it has.';
comment on column control.archive_part.people is 'How many times it has what somebody said of himself.';
comment on column control.archive_part.first_at is 'When the first of its conversations ended.';
comment on column control.archive_part.last_at is 'When the last of them ended.';
comment on column control.archive_part.holds is 'Random ids of the conversations that end in it, until it is stored.';
comment on column control.archive_part.stored_at is 'When its file was known to lie there; null before.';

create table control.archived (
  organisation_id uuid not null references chat.organisation,
  subject_id      uuid not null,
  archive_id      uuid not null,
  primary key (organisation_id, subject_id, archive_id),
  constraint archived_in_archive foreign key (organisation_id, archive_id) references control.archive
);
create index archived_of_archive on control.archived (organisation_id, archive_id);
comment on table  control.archived is 'Which archive has whom or what, as long as there is the archive.';
comment on column control.archived.organisation_id is 'Tenant.';
comment on column control.archived.subject_id is 'Random id of a conversation, a visitor or an agent.';
comment on column control.archived.archive_id is 'The archive that has it, or may.';

alter table chat.conversation add column archive_id uuid;
comment on column chat.conversation.archive_id is 'The archive that has it; null before.';
create index conversation_to_archive on chat.conversation (organisation_id, closed_at, conversation_id) where state = 'closed' and archive_id is null and transcript_gone_at is null;

grant select, insert on control.archive_plan to counterfoil_access;
grant select, insert, update, delete on control.archive, control.archive_part, control.archived to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['archive_plan', 'archive', 'archive_part', 'archived'] loop
    execute format('alter table control.%I enable row level security', t);
    execute format('alter table control.%I force row level security', t);
    execute format('create policy own_organisation on control.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
reset role;

set local role counterfoil_access;

create or replace function access.days_kept(p_organisation uuid, p_class text) returns int language sql stable as $$
  select coalesce((select r.days from control.retention r where r.organisation_id = p_organisation and r.class = p_class and r.effective_at <= now() order by r.effective_at desc, r.set_at desc limit 1),
    case p_class when 'transcript' then 400 when 'visitor' then 400 when 'agent' then 400 when 'conversation' then 1095 when 'session' then 30 when 'reason' then 730 when 'archive' then 400 end) $$;
create or replace function access.retention(p_organisation uuid) returns table (class text, days int, since timestamptz, next_days int, next_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select c.class, access.days_kept(p_organisation, c.class),
      (select r.effective_at from control.retention r where r.organisation_id = p_organisation and r.class = c.class and r.effective_at <= now() order by r.effective_at desc, r.set_at desc limit 1),
      n.days, n.effective_at
    from unnest(array['transcript', 'visitor', 'agent', 'conversation', 'session', 'reason', 'backup', 'archive']) as c(class)
    left join lateral (select r.days, r.effective_at from control.retention r where r.organisation_id = p_organisation and r.class = c.class and r.effective_at > now()
      order by r.effective_at desc, r.set_at desc limit 1) n on true;
end $$;

-- Sets to whom archives are sealed, and how often.
create function access.set_archive_plan(p_organisation uuid, p_act bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare f json;
begin
  perform access.enter(p_organisation);
  f := access.recorded(p_organisation, p_act, 'archive.plan') -> 'facts';
  insert into control.archive_plan (organisation_id, act, recipient, every_days) values (p_organisation, p_act, coalesce(f ->> 'archive.recipient', ''), (f ->> 'archive.every')::int);
end $$;
create function access.archive_plan(p_organisation uuid) returns table (act bigint, recipient text, every_days int, set_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select p.act, p.recipient, p.every_days, p.set_at from control.archive_plan p where p.organisation_id = p_organisation order by p.set_at desc, p.act desc limit 1;
end $$;

-- Begins an archive, sealed to whom the plan says. One at a time is under way.
create function access.begin_archive(p_organisation uuid, p_act bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare f json;
begin
  perform access.enter(p_organisation);
  f := access.recorded(p_organisation, p_act, 'archive.begin') -> 'facts';
  if f ->> 'archive.recipient' is distinct from (select p.recipient from control.archive_plan p where p.organisation_id = p_organisation order by p.set_at desc, p.act desc limit 1) then
    raise exception 'record % has another recipient than is set', p_act using errcode = 'insufficient_privilege';
  end if;
  insert into control.archive (organisation_id, archive_id, act, recipient, target, name, locked_until)
    values (p_organisation, (f ->> 'archive.id')::uuid, p_act, f ->> 'archive.recipient', f ->> 'archive.target', f ->> 'archive.name', (f ->> 'archive.locked_until')::timestamptz);
end $$;

-- When an archive goes: as is set now, and not before its lock ends.
create function access.archive_until(p_archive control.archive) returns timestamptz language sql stable as $$
  select greatest(p_archive.locked_until, coalesce(p_archive.made_at, p_archive.began_at) + make_interval(days => access.days_kept(p_archive.organisation_id, 'archive'))) $$;

create function access.archives(p_organisation uuid, p_limit int)
  returns table (archive_id uuid, act bigint, recipient text, target text, name text, locked_until timestamptz, began_at timestamptz, number int, manifest text, made_act bigint, made_at timestamptz,
    given_up_at timestamptz, removed_act bigint, removed_at timestamptz, until timestamptz, conversations bigint, events bigint, people bigint, parts bigint, bytes bigint, first_at timestamptz, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.archive_id, a.act, a.recipient, a.target, a.name, a.locked_until, a.began_at, a.number, a.manifest, a.made_act, a.made_at, a.given_up_at, a.removed_act, a.removed_at,
      access.archive_until(a), p.conversations, p.events, p.people, p.parts, p.bytes, p.first_at, p.last_at
    from control.archive a cross join lateral (select coalesce(sum(x.conversations), 0)::bigint as conversations, coalesce(sum(x.events), 0)::bigint as events, coalesce(sum(x.people), 0)::bigint as people,
        count(*) as parts, coalesce(sum(x.bytes), 0)::bigint as bytes, min(x.first_at) as first_at, max(x.last_at) as last_at
      from control.archive_part x where x.organisation_id = p_organisation and x.archive_id = a.archive_id and x.stored_at is not null) p
    where a.organisation_id = p_organisation order by a.began_at desc, a.archive_id limit p_limit;
end $$;

-- The conversations that are over and in no archive, from a place on, with those who said something of themselves in them. What is restricted, held back by an
-- erasure under way, or deleted is none of them.
create function access.to_archive(p_organisation uuid, p_before timestamptz, p_after_at timestamptz, p_after_id uuid, p_limit int)
  returns table (conversation_id uuid, closed_at timestamptz, visitors uuid[], agents uuid[])
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select c.conversation_id, c.closed_at,
      array(select distinct v.subject_id from euii.value v where v.organisation_id = p_organisation and v.row_id = c.conversation_id and v.field like 'visitor\_%'),
      array(select distinct v.subject_id from euii.value v where v.organisation_id = p_organisation and v.row_id = c.conversation_id and v.field like 'agent\_%'
        and not exists (select from euii.restriction r where r.organisation_id = p_organisation and r.subject_id = v.subject_id))
    from chat.conversation c
    where c.organisation_id = p_organisation and c.state = 'closed' and c.archive_id is null and c.transcript_gone_at is null
      and c.closed_at < p_before and (c.closed_at, c.conversation_id) > (p_after_at, p_after_id)
      and not exists (select from euii.restriction r where r.organisation_id = p_organisation and r.subject_id = c.visitor_id)
      and not exists (select from control.erasure e where e.organisation_id = p_organisation and e.done_at is null and (e.kind = 'organisation' or e.subject_id in (c.conversation_id, c.visitor_id)))
    order by c.closed_at, c.conversation_id limit p_limit;
end $$;

-- Takes up an archive under way: whoever wrote to it before writes no more.
create function access.take_up_archive(p_organisation uuid, p_archive uuid, p_writer uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update control.archive a set writer_id = p_writer where a.organisation_id = p_organisation and a.archive_id = p_archive and a.made_at is null and a.given_up_at is null;
  return found;
end $$;
-- Notes a file that is about to be written: whose data it has is known from then on, whatever happens. Says whether he who asks is the one who writes.
create function access.write_archive_part(p_organisation uuid, p_archive uuid, p_writer uuid, p_name text, p_sha256 text, p_bytes bigint, p_events bigint, p_people bigint, p_first timestamptz, p_last timestamptz,
    p_conversations uuid[], p_subjects uuid[]) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform 1 from control.archive a where a.organisation_id = p_organisation and a.archive_id = p_archive and a.writer_id = p_writer and a.made_at is null and a.given_up_at is null for update;
  if not found then return false; end if;
  insert into control.archive_part (organisation_id, archive_id, name, sha256, bytes, conversations, events, people, first_at, last_at, holds)
    values (p_organisation, p_archive, p_name, p_sha256, p_bytes, cardinality(p_conversations), p_events, p_people, p_first, p_last, p_conversations);
  insert into control.archived (organisation_id, subject_id, archive_id) select p_organisation, s, p_archive from unnest(p_conversations || p_subjects) s on conflict do nothing;
  return true;
end $$;
-- Notes that the file lies there: its conversations are archived.
create function access.archive_part_stored(p_organisation uuid, p_archive uuid, p_writer uuid, p_name text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare ids uuid[];
begin
  perform access.enter(p_organisation);
  select p.holds into ids from control.archive_part p join control.archive a using (organisation_id, archive_id)
    where p.organisation_id = p_organisation and p.archive_id = p_archive and p.name = p_name and p.stored_at is null and a.writer_id = p_writer and a.made_at is null and a.given_up_at is null for update;
  if not found then return false; end if;
  update chat.conversation c set archive_id = p_archive where c.organisation_id = p_organisation and c.conversation_id = any(ids) and c.archive_id is null;
  update control.archive_part p set stored_at = clock_timestamp(), holds = '{}' where p.organisation_id = p_organisation and p.archive_id = p_archive and p.name = p_name;
  return true;
end $$;
-- Forgets a file that was never whole. Whose data it was to have stays noted.
create function access.forget_archive_part(p_organisation uuid, p_archive uuid, p_name text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from control.archive_part p where p.organisation_id = p_organisation and p.archive_id = p_archive and p.name = p_name and p.stored_at is null;
end $$;
create function access.archive_parts(p_organisation uuid, p_archive uuid)
  returns table (name text, sha256 text, bytes bigint, conversations bigint, events bigint, people bigint, first_at timestamptz, last_at timestamptz, stored boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select p.name, p.sha256, p.bytes, p.conversations, p.events, p.people, p.first_at, p.last_at, p.stored_at is not null
    from control.archive_part p where p.organisation_id = p_organisation and p.archive_id = p_archive order by p.name;
end $$;

-- Notes that an archive is made, as its record says.
create function access.finish_archive(p_organisation uuid, p_writer uuid, p_act bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare f json;
begin
  perform access.enter(p_organisation);
  f := access.recorded(p_organisation, p_act, 'archive.made') -> 'facts';
  update control.archive a set number = (f ->> 'archive.number')::int, manifest = f ->> 'archive.manifest', made_act = p_act, made_at = clock_timestamp()
    where a.organisation_id = p_organisation and a.archive_id = (f ->> 'archive.id')::uuid and a.made_at is null and a.given_up_at is null and a.writer_id = p_writer
      and not exists (select from control.archive_part p where p.organisation_id = p_organisation and p.archive_id = a.archive_id and p.stored_at is null);
  return found;
end $$;
-- Gives up an archive that cannot be finished: what it had is to be archived anew.
create function access.give_up_archive(p_organisation uuid, p_act bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare id uuid;
begin
  perform access.enter(p_organisation);
  update control.archive a set given_up_at = clock_timestamp()
    where a.organisation_id = p_organisation and a.archive_id = (access.recorded(p_organisation, p_act, 'archive.given_up') -> 'facts' ->> 'archive.id')::uuid and a.made_at is null and a.given_up_at is null
    returning a.archive_id into id;
  if not found then return false; end if;
  update chat.conversation c set archive_id = null where c.organisation_id = p_organisation and c.archive_id = id;
  return true;
end $$;

-- Archives whose time is over, and those given up, that no hold keeps.
create function access.archives_due(p_organisation uuid) returns table (archive_id uuid, target text, name text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.archive_id, a.target, a.name from control.archive a
    where a.organisation_id = p_organisation and a.removed_at is null and (a.made_at is not null or a.given_up_at is not null)
      and (a.given_up_at is not null and (a.locked_until is null or a.locked_until < clock_timestamp()) or access.archive_until(a) < clock_timestamp())
      and (a.given_up_at is not null or not exists (select from control.hold h where h.organisation_id = p_organisation and h.lifted_at is null
        and (h.kind in ('range', 'widget') or exists (select from control.archived d where d.organisation_id = p_organisation and d.archive_id = a.archive_id and d.subject_id = h.subject_id))))
    order by a.began_at;
end $$;
create function access.remove_archive(p_organisation uuid, p_act bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare id uuid;
begin
  perform access.enter(p_organisation);
  id := (access.recorded(p_organisation, p_act, 'archive.removed') -> 'facts' ->> 'archive.id')::uuid;
  update control.archive a set removed_act = p_act, removed_at = clock_timestamp()
    where a.organisation_id = p_organisation and a.archive_id = id and a.removed_at is null and a.archive_id in (select d.archive_id from access.archives_due(p_organisation) d);
  if not found then return false; end if;
  delete from control.archived d where d.organisation_id = p_organisation and d.archive_id = id;
  return true;
end $$;

-- The archives that have somebody or something, or may, and until when.
create function access.archives_with(p_organisation uuid, p_kind text, p_id uuid) returns table (name text, until timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.name, access.archive_until(a) from control.archive a where a.organisation_id = p_organisation and a.removed_at is null
    and (p_kind = 'organisation' or exists (select from control.archived d where d.organisation_id = p_organisation and d.archive_id = a.archive_id and d.subject_id = p_id))
    order by a.began_at;
end $$;

do $$
declare f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'access'::regnamespace and p.proname in ('set_archive_plan', 'archive_plan', 'begin_archive', 'archive_until', 'archives', 'to_archive', 'take_up_archive', 'write_archive_part',
      'archive_part_stored', 'forget_archive_part', 'archive_parts', 'finish_archive', 'give_up_archive', 'archives_due', 'remove_archive', 'archives_with') loop
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
grant execute on function access.set_archive_plan(uuid, bigint), access.archive_plan(uuid), access.begin_archive(uuid, bigint), access.archives(uuid, int), access.to_archive(uuid, timestamptz, timestamptz, uuid, int),
  access.take_up_archive(uuid, uuid, uuid), access.write_archive_part(uuid, uuid, uuid, text, text, bigint, bigint, bigint, timestamptz, timestamptz, uuid[], uuid[]), access.archive_part_stored(uuid, uuid, uuid, text), access.forget_archive_part(uuid, uuid, text),
  access.archive_parts(uuid, uuid), access.finish_archive(uuid, uuid, bigint), access.give_up_archive(uuid, bigint), access.archives_due(uuid), access.remove_archive(uuid, bigint), access.archives_with(uuid, text, uuid)
  to counterfoil_service;
reset role;
