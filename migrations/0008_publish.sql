set local role counterfoil_audit;

create table audit.epoch (
  organisation_id uuid not null,
  epoch           int not null check (epoch > 0),
  log_id          uuid not null,
  origin          text not null,
  size            bigint not null,
  closed_at       timestamptz not null default now(),
  primary key (organisation_id, epoch),
  constraint epoch_log unique (log_id)
);
comment on table  audit.epoch is 'Logs that were closed because they did not continue what was published of them. Their rows are those of the log, under an id of their own.';
comment on column audit.epoch.organisation_id is 'Tenant.';
comment on column audit.epoch.epoch is 'Which of its logs, from 1.';
comment on column audit.epoch.log_id is 'What stands for the organisation in the rows of the closed log.';
comment on column audit.epoch.origin is 'Origin line of its checkpoints.';
comment on column audit.epoch.size is 'Number of its entries.';
comment on column audit.epoch.closed_at is 'When the next one was begun.';
create trigger append_only before update or delete on audit.epoch for each row execute function audit.refuse();
create trigger no_truncate before truncate on audit.epoch for each statement execute function audit.refuse();
alter table audit.epoch enable always trigger append_only;
alter table audit.epoch enable always trigger no_truncate;
alter table audit.epoch enable row level security;
alter table audit.epoch force row level security;
create policy own_organisation on audit.epoch to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation());
grant select on audit.epoch to counterfoil_access;

-- A closed log's last time is infinite, and no record can be as late as that: so nothing can follow it.
alter table audit.record add constraint record_time_finite check (isfinite(at));

-- Closes the log of an organisation and begins the next one, if it is still as it was when that was decided. This moves
-- rows of tables that otherwise only grow, so no role of the service may call it: it takes the superuser.
create function audit.begin_epoch(p_organisation uuid, p_log uuid, p_size bigint, p_checkpoint text, p_origin text, p_new_checkpoint text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare t record; was_origin text; what text; keep int;
begin
  lock table audit.head, audit.record, audit.search, audit.searchable, audit.day, audit.retention, audit.tile, audit.node in access exclusive mode;
  select h.origin into was_origin from audit.head h where h.organisation_id = p_organisation and h.size = p_size and h.checkpoint = p_checkpoint;
  if not found then raise exception 'the log is not as it was when its end was decided'; end if;
  create temporary table triggers on commit drop as
    select g.tgrelid::regclass as on_table, g.tgname as name from pg_trigger g join pg_class c on c.oid = g.tgrelid
    where c.relnamespace = 'audit'::regnamespace and c.relname <> 'epoch' and not g.tgisinternal and g.tgenabled = 'A';
  for t in select on_table, name from pg_temp.triggers loop execute format('alter table %s disable trigger %I', t.on_table, t.name); end loop;
  select r.days into strict keep from audit.retention r where r.organisation_id = p_organisation;
  foreach what in array array['head','record','search','searchable','day','retention','tile','node'] loop
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
revoke all on function audit.begin_epoch(uuid, uuid, bigint, text, text, text) from public;

reset role;
set local role counterfoil_access;

-- Where every log stands, so that what is published can be kept up to date.
create function access.log_heads() returns table (organisation_id uuid, origin text, size bigint, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare o uuid;
begin
  for o in select c.organisation_id from access.organisations() c loop
    perform access.enter(o);
    return query select h.organisation_id, h.origin, h.size, case when h.size = 0 then 'epoch' else h.last_at end from audit.head h where h.organisation_id = o;
  end loop;
end $$;

-- Everything the head says, whether there are records that it does not cover, and how many records are searchable, for verifying
-- the log where it lies.
create function access.log_state(p_organisation uuid, out origin text, out size bigint, out frontier bytea, out checkpoint text, out last_at timestamptz,
    out closed boolean, out beyond boolean, out searchable bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  select h.origin, h.size, h.frontier, h.checkpoint, case when isfinite(h.last_at) then h.last_at else 'epoch' end, h.last_at = 'infinity',
      exists (select from audit.record r where r.organisation_id = p_organisation and r.seq >= h.size),
      (select count(*) from audit.search s where s.organisation_id = p_organisation)
    into strict origin, size, frontier, checkpoint, last_at, closed, beyond, searchable
    from audit.head h where h.organisation_id = p_organisation;
end $$;

-- Records with what they are searched by: kind, action, decision, actor, subject, conversation, address and network; null where a
-- search does not find the record. due says that it should.
create function access.log_rows(p_organisation uuid, p_from bigint, p_to bigint) returns table (seq bigint, at timestamptz, body bytea, due boolean, searched_by text[])
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.seq, r.at, r.body, r.seq < (select c.size from audit.searchable c where c.organisation_id = p_organisation),
      case when s.seq is not null then array[s.kind, s.action, s.decision, s.actor_ref, s.subject_ref, s.conversation_ref, s.address_ref, s.address_net] end
    from audit.record r left join audit.search s on s.organisation_id = p_organisation and s.at = r.at and s.seq = r.seq
    where r.organisation_id = p_organisation and r.seq >= p_from and r.seq < p_to order by r.seq;
end $$;

-- The closed logs of an organisation.
create function access.epochs(p_organisation uuid) returns table (epoch int, log_id uuid, origin text, size bigint, closed_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select e.epoch, e.log_id, e.origin, e.size, e.closed_at from audit.epoch e where e.organisation_id = p_organisation order by e.epoch;
end $$;

revoke all on function access.log_heads(), access.log_state(uuid), access.epochs(uuid), access.log_rows(uuid, bigint, bigint) from public;
grant execute on function access.log_heads(), access.log_state(uuid), access.epochs(uuid), access.log_rows(uuid, bigint, bigint) to counterfoil_service;
reset role;
