-- Who may connect is said here and nowhere else, and nobody who may can write past the grants: large objects and advisory locks (with
-- which anybody could hold up sign-ins) are taken from the public. Functions that need a lock run as their owner.
do $$
declare f regprocedure;
begin
  execute format('revoke all on database %I from public', current_database());
  execute format('grant connect on database %I to counterfoil_service, counterfoil_retention', current_database());
  for f in select p.oid from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^(lo_|lowrite$|loread$|pg_(try_)?advisory_)' loop
    execute format('revoke all on function %s from public', f);
  end loop;
end $$;
grant execute on function pg_catalog.pg_advisory_xact_lock(bigint) to counterfoil_access;

-- Outside auditors read views, each by a login of his own that an operator makes for a time. The login decides whose rows there are, since
-- it is the one thing about a session that the session cannot change. counterfoil_auditor holds the rights and cannot log in.
do $$
declare r text;
begin
  foreach r in array array['counterfoil_views', 'counterfoil_auditor'] loop
    begin execute format('create role %I nologin', r); exception when duplicate_object or unique_violation then null; end;
  end loop;
end $$;
create schema auditor authorization counterfoil_views;
comment on schema auditor is 'What an outside auditor may read: the logs of one organisation.';
grant usage on schema auditor to counterfoil_auditor;

set local role counterfoil_audit;
create table audit.auditor (
  organisation_id uuid not null,
  login           name not null,
  until           timestamptz not null,
  created_at      timestamptz not null default now(),
  primary key (organisation_id, login),
  constraint auditor_login unique (login)
);
comment on table  audit.auditor is 'Outside auditors: which login reads the logs of which organisation, and until when.';
comment on column audit.auditor.organisation_id is 'Tenant.';
comment on column audit.auditor.login is 'Role of the server; a random name, that of no person.';
comment on column audit.auditor.until is 'End. The views are empty for him afterwards, also in a session that is still open.';
comment on column audit.auditor.created_at is 'When an operator made it.';
alter table audit.auditor enable row level security;
alter table audit.auditor force row level security;
create policy own_login on audit.auditor for select to counterfoil_views using (login = session_user and until > clock_timestamp());

grant usage on schema audit to counterfoil_views;
grant select on audit.auditor, audit.epoch, audit.head, audit.retention, audit.record, audit.search, audit.day, audit.tile, audit.node to counterfoil_views;
create policy own_auditor on audit.epoch for select to counterfoil_views using (organisation_id = any (array(select a.organisation_id from audit.auditor a)));
do $$
declare t text;
begin
  foreach t in array array['head', 'retention', 'record', 'search', 'day', 'tile', 'node'] loop
    execute format('create policy own_auditor on audit.%I for select to counterfoil_views using (organisation_id = any (array(
      select a.organisation_id from audit.auditor a union all select e.log_id from audit.epoch e)))', t);
  end loop;
end $$;

-- Makes the login of an auditor. The password comes as a SCRAM verifier, so that it is in no log of statements. Roles are made by
-- superusers only, so no role of the service may call it.
create function audit.admit_auditor(p_organisation uuid, p_login text, p_until timestamptz, p_verifier text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if p_login !~ '^counterfoil_auditor_[a-z0-9]+$' or p_verifier !~ '^SCRAM-SHA-256\$' or p_until <= now() then
    raise exception 'an auditor needs a login that begins with counterfoil_auditor_, a SCRAM verifier, and an end that is to come';
  end if;
  if not exists (select from audit.head h where h.organisation_id = p_organisation) then raise exception 'there is no such organisation'; end if;
  execute format('create role %I login connection limit 4 password %L valid until %L in role counterfoil_auditor', p_login, p_verifier, p_until);
  execute format('alter role %I set default_transaction_read_only = on', p_login);
  execute format('alter role %I set search_path = auditor', p_login);
  execute format('alter role %I set statement_timeout = ''10min''', p_login);
  execute format('alter role %I set idle_in_transaction_session_timeout = ''5min''', p_login);
  execute format('grant connect on database %I to %I', current_database(), p_login);
  insert into audit.auditor (organisation_id, login, until) values (p_organisation, p_login, p_until);
end $$;

-- Takes it away, with the sessions it has; says whether it was there.
create function audit.dismiss_auditor(p_organisation uuid, p_login text) returns boolean
  language plpgsql set search_path = pg_catalog, pg_temp as $$
declare who oid := (select r.oid from pg_roles r where r.rolname = p_login);
begin
  delete from audit.auditor a where a.organisation_id = p_organisation and a.login = p_login;
  if not found then return false; end if;
  if who is not null then
    execute format('revoke all on database %I from %I', current_database(), p_login);
    execute format('drop role %I', p_login);
    perform pg_terminate_backend(s.pid) from pg_stat_activity s where s.usesysid = who;
  end if;
  return true;
end $$;
revoke all on function audit.admit_auditor(uuid, text, timestamptz, text), audit.dismiss_auditor(uuid, text) from public;
reset role;

set local role counterfoil_views;
create view auditor.log as
  select h.organisation_id as log_id, h.origin, e.epoch, h.size, nullif(nullif(h.last_at, 'infinity'), '-infinity') as last_at, h.checkpoint, e.closed_at, r.days as retention_days, r.first_seq
  from audit.head h join audit.retention r using (organisation_id) left join audit.epoch e on e.log_id = h.organisation_id;
create view auditor.record as
  select r.organisation_id as log_id, r.seq, r.at, r.db_user, r.body, sha256('\x00'::bytea || r.body) as leaf_hash, convert_from(r.body, 'UTF8') as entry from audit.record r;
create view auditor.search as
  select s.organisation_id as log_id, s.seq, s.at, s.kind, s.action, s.decision, s.actor_ref, s.subject_ref, s.conversation_ref, s.address_ref, s.address_net from audit.search s;
create view auditor.day as select d.organisation_id as log_id, d.day, d.action, d.decision, d.n from audit.day d;
create view auditor.tile as select t.organisation_id as log_id, t.idx, t.hashes from audit.tile t;
create view auditor.node as select n.organisation_id as log_id, n.level, n.idx, n.hash from audit.node n;
comment on view auditor.log    is 'The organisation''s present log and those that were closed.';
comment on view auditor.record is 'The entries, as the tree covers them.';
comment on view auditor.search is 'What records are searched by; a second behind the records at most while the service runs.';
comment on view auditor.day    is 'Number of records per day (UTC), action and decision.';
comment on view auditor.tile   is 'Full tiles of leaf hashes (C2SP tlog-tiles level 0).';
comment on view auditor.node   is 'Hashes of the tiles of higher levels.';
comment on column auditor.log.log_id is 'What stands for the log in the other views.';
comment on column auditor.log.origin is 'Origin line of its checkpoints.';
comment on column auditor.log.epoch is 'Which of the closed logs, from 1; null for the present one.';
comment on column auditor.log.size is 'Number of entries.';
comment on column auditor.log.last_at is 'Time of the last entry; null for none, and for a closed log.';
comment on column auditor.log.checkpoint is 'Signed tree head of exactly this size.';
comment on column auditor.log.closed_at is 'When the next one was begun.';
comment on column auditor.log.retention_days is 'Records younger than this stay.';
comment on column auditor.log.first_seq is 'The first record that is kept.';
comment on column auditor.record.log_id is 'The log.';
comment on column auditor.record.seq is 'Index in it, from 0, without gaps.';
comment on column auditor.record.at is 'UTC, microseconds.';
comment on column auditor.record.db_user is 'Role that wrote it, set by the database.';
comment on column auditor.record.body is 'Canonical bytes of the entry.';
comment on column auditor.record.leaf_hash is 'Its leaf in the tree, computed here from the bytes: compare it with the tile.';
comment on column auditor.record.entry is 'The same bytes as text (JSON); it holds no EUII.';
comment on column auditor.search.log_id is 'The log.';
comment on column auditor.search.seq is 'The record.';
comment on column auditor.search.at is 'Its time.';
comment on column auditor.search.kind is 'disclosure, denial, collection or administration.';
comment on column auditor.search.action is 'Purpose, or name of the administrative act.';
comment on column auditor.search.decision is 'allow, masked or deny; empty for what is not decided.';
comment on column auditor.search.actor_ref is 'Who asked: keyed reference.';
comment on column auditor.search.subject_ref is 'Whom it is about: keyed reference.';
comment on column auditor.search.conversation_ref is 'Conversation: keyed reference.';
comment on column auditor.search.address_ref is 'Address of the human who signed in: keyed reference.';
comment on column auditor.search.address_net is 'Its /24 or /48: keyed reference.';
comment on column auditor.day.log_id is 'The log.';
comment on column auditor.day.day is 'UTC.';
comment on column auditor.day.action is 'As in the record.';
comment on column auditor.day.decision is 'As in the record.';
comment on column auditor.day.n is 'How many.';
comment on column auditor.tile.log_id is 'The log.';
comment on column auditor.tile.idx is 'Tile number.';
comment on column auditor.tile.hashes is '256 leaf hashes.';
comment on column auditor.node.log_id is 'The log.';
comment on column auditor.node.level is 'Tile level, from 1.';
comment on column auditor.node.idx is 'Position in the level.';
comment on column auditor.node.hash is 'Root of 256 nodes of the level below.';
grant select on all tables in schema auditor to counterfoil_auditor;
reset role;

-- How much may be disclosed within an hour to one actor of a kind, where the organisation has a number of its own. The policy says what is usual
-- and how far a number may lie from it.
set local role counterfoil_chat;
alter table chat.organisation
  add column limit_visitor  int check (limit_visitor > 0),
  add column limit_agent    int check (limit_agent > 0),
  add column limit_channel  int check (limit_channel > 0),
  add column limit_admin    int check (limit_admin > 0),
  add column limit_operator int check (limit_operator > 0),
  add column limit_job      int check (limit_job > 0);
comment on column chat.organisation.limit_visitor is 'Disclosures to one visitor within an hour; null for what the policy has as usual.';
comment on column chat.organisation.limit_agent is 'Disclosures to one agent within an hour; null for the usual.';
comment on column chat.organisation.limit_channel is 'Disclosures to one channel within an hour; null for the usual.';
comment on column chat.organisation.limit_admin is 'Disclosures to one administrator within an hour; null for the usual.';
comment on column chat.organisation.limit_operator is 'Disclosures to one operator within an hour; null for the usual.';
comment on column chat.organisation.limit_job is 'Disclosures to one job within an hour; null for the usual.';
reset role;

set local role counterfoil_access;
drop function access.organisations();
create function access.organisations() returns table (organisation_id uuid, name text, tenant_id text, log_origin text, language text,
    share_visitor_email boolean, create_agents boolean, name_in_channel boolean,
    limit_visitor int, limit_agent int, limit_channel int, limit_admin int, limit_operator int, limit_job int)
  language sql security definer set search_path = pg_catalog, pg_temp as $$
  select o.organisation_id, o.name, coalesce(o.tenant_id, ''), o.log_origin, o.language, o.share_visitor_email, o.create_agents, o.name_in_channel,
    coalesce(o.limit_visitor, 0), coalesce(o.limit_agent, 0), coalesce(o.limit_channel, 0), coalesce(o.limit_admin, 0), coalesce(o.limit_operator, 0), coalesce(o.limit_job, 0)
  from chat.organisation o order by o.created_at, o.organisation_id $$;
revoke all on function access.organisations() from public;
grant execute on function access.organisations() to counterfoil_service;
reset role;
