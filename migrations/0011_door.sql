-- What administrators do beyond reading: step-up, several authenticators, consents of a second person, changes of the
-- allowlist that return by themselves, and notices to who they concern. Whatever gives rights bears a seal: a keyed
-- reference that only the service with its key can make, so that a row somebody put here is worth nothing.
delete from console.session; -- those of before bear none
delete from console.setup where used_at is null;

set local role counterfoil_chat;

alter table console.session add column seal text not null, add column stepped_at timestamptz, add column stepped_for text, add column stepped_by text,
  add constraint session_stepped check ((stepped_at is null) = (stepped_for is null) and (stepped_at is null) = (stepped_by is null) and stepped_by in ('totp', 'webauthn'));
comment on column console.session.seal is 'Keyed reference of token, session, administrator, stage and step-up.';
comment on column console.session.stepped_at is 'When he last gave a second factor within the session.';
comment on column console.session.stepped_for is 'The purpose for which he gave it.';
comment on column console.session.stepped_by is 'How: totp or webauthn.';

alter table console.setup add column seal text;
comment on column console.setup.seal is 'Keyed reference of token, link, roles and whom a new authenticator is for.';

alter table console.admin add column seal text, add column disabled_at timestamptz;
comment on column console.admin.seal is 'Keyed reference of administrator and roles; null of those set up before there were seals, which nobody can set.';
comment on column console.admin.disabled_at is 'Since when he cannot sign in; null while he can.';

alter table console.totp add column factor_id uuid not null default gen_random_uuid(), add column label bytea, add column used_at timestamptz;
alter table console.totp drop constraint totp_pkey, add primary key (organisation_id, admin_id, factor_id);
comment on column console.totp.factor_id is 'Random id.';
comment on column console.totp.label is 'How he calls it, sealed by the key-encryption key; null for the first.';
comment on column console.totp.used_at is 'When one of its codes was last taken.';

create table console.passkey (
  organisation_id uuid not null,
  admin_id        uuid not null,
  passkey_id      uuid not null,
  credential      bytea not null,
  created_at      timestamptz not null default now(),
  used_at         timestamptz,
  primary key (organisation_id, admin_id, passkey_id),
  foreign key (organisation_id, admin_id) references console.admin
);
comment on table  console.passkey is 'Security keys (WebAuthn), beside the authenticator that everybody has.';
comment on column console.passkey.organisation_id is 'Tenant.';
comment on column console.passkey.admin_id is 'Whose it is.';
comment on column console.passkey.passkey_id is 'Random id.';
comment on column console.passkey.credential is 'The credential with its counter and label, sealed by the key-encryption key and bound to its place, so that nobody can put one here.';
comment on column console.passkey.created_at is 'When it was registered.';
comment on column console.passkey.used_at is 'When it was last used.';

create table console.ceremony (
  organisation_id uuid not null,
  session_id      uuid not null,
  state           bytea not null,
  made_at         timestamptz not null default now(),
  primary key (organisation_id, session_id)
);
comment on table  console.ceremony is 'What a session was asked to answer: a new authenticator to be confirmed, or the challenge of a security key. Good for five minutes and once.';
comment on column console.ceremony.organisation_id is 'Tenant.';
comment on column console.ceremony.session_id is 'Whose session it is.';
comment on column console.ceremony.state is 'Sealed by the key-encryption key.';
comment on column console.ceremony.made_at is 'When it was asked.';

create table console.notice (
  organisation_id uuid not null,
  admin_id        uuid not null,
  kind            text not null,
  n               int not null default 1,
  first_at        timestamptz not null default now(),
  last_at         timestamptz not null default now(),
  primary key (organisation_id, admin_id, kind),
  foreign key (organisation_id, admin_id) references console.admin
);
comment on table  console.notice is 'What an administrator has to hear of his account: attempts of others, and changes. It goes when he has read it.';
comment on column console.notice.organisation_id is 'Tenant.';
comment on column console.notice.admin_id is 'Whom it concerns.';
comment on column console.notice.kind is 'What happened, as the action of a record.';
comment on column console.notice.n is 'How often.';
comment on column console.notice.first_at is 'The first time.';
comment on column console.notice.last_at is 'The last time.';

create table console.reason (
  organisation_id uuid not null references chat.organisation,
  reason_id       uuid not null,
  text            bytea not null,
  written_at      timestamptz not null default now(),
  primary key (organisation_id, reason_id)
);
comment on table  console.reason is 'What administrators wrote down as the reason of what they asked for; records name it by its id.';
comment on column console.reason.organisation_id is 'Tenant.';
comment on column console.reason.reason_id is 'Random id.';
comment on column console.reason.text is 'EUII perhaps, since people write names: sealed by the key-encryption key.';
comment on column console.reason.written_at is 'When it was written.';

create table console.approval (
  organisation_id uuid not null references chat.organisation,
  approval_id     uuid not null,
  kind            text not null check (kind in ('break_glass', 'allowlist', 'policy')),
  asked_by        uuid not null,
  asked_at        timestamptz not null default now(),
  reason_id       uuid not null,
  subject_kind    text not null default '' check (subject_kind in ('', 'agent', 'visitor')),
  subject_id      uuid,
  about           text not null default '',
  detail          bytea,
  seconds         int not null check (seconds between 60 and 28800),
  open_until      timestamptz not null,
  decided_by      uuid,
  decided_at      timestamptz,
  decision        text check (decision in ('approved', 'refused', 'withdrawn')),
  decided_reason  uuid,
  ends_at         timestamptz,
  ended_at        timestamptz,
  reviewed_by     uuid,
  reviewed_at     timestamptz,
  seal            text,
  primary key (organisation_id, approval_id),
  foreign key (organisation_id, asked_by) references console.admin,
  constraint approval_decided check ((decision is null) = (decided_at is null) and (decision is null) = (decided_by is null)),
  constraint approval_of_another check (decision is distinct from 'approved' or decided_by <> asked_by),
  constraint approval_sealed check ((decision is not distinct from 'approved') = (seal is not null) and (seal is null) = (ends_at is null))
);
create index approval_newest on console.approval (organisation_id, asked_at);
comment on table  console.approval is 'What needs the consent of a second person: asked for, decided, in force for a time. Nobody approves himself.';
comment on column console.approval.organisation_id is 'Tenant.';
comment on column console.approval.approval_id is 'Random id.';
comment on column console.approval.kind is 'break_glass: see one person. allowlist: a change that would shut its maker out. policy: activate a bundle.';
comment on column console.approval.asked_by is 'The administrator who asked.';
comment on column console.approval.asked_at is 'When he asked.';
comment on column console.approval.reason_id is 'Why, in his words.';
comment on column console.approval.subject_kind is 'Of a break-glass: agent or visitor.';
comment on column console.approval.subject_id is 'Of a break-glass: whom he wants to see.';
comment on column console.approval.about is 'Otherwise what exactly: the keyed reference of a change of the allowlist, or the revision of a policy.';
comment on column console.approval.detail is 'What the approver is shown of it, sealed by the key-encryption key.';
comment on column console.approval.seconds is 'For how long it is to be in force.';
comment on column console.approval.open_until is 'Until when somebody may decide.';
comment on column console.approval.decided_by is 'Who decided.';
comment on column console.approval.decided_at is 'When.';
comment on column console.approval.decision is 'approved, refused, or withdrawn by who asked; null while open.';
comment on column console.approval.decided_reason is 'Why, in the words of who decided.';
comment on column console.approval.ends_at is 'Until when it is in force.';
comment on column console.approval.ended_at is 'When it was ended before its time, or used up.';
comment on column console.approval.reviewed_by is 'Who read the report afterwards.';
comment on column console.approval.reviewed_at is 'When.';
comment on column console.approval.seal is 'Keyed reference of all that the consent covers, and of who gave it.';

create table console.refusal (
  organisation_id uuid not null references chat.organisation,
  skipped         bigint not null default 0,
  recorded_at     timestamptz not null,
  primary key (organisation_id)
);
comment on table  console.refusal is 'Requests from addresses that are not admitted: one a minute is recorded, the others are counted.';
comment on column console.refusal.organisation_id is 'Tenant.';
comment on column console.refusal.skipped is 'How many came since the last that was recorded.';
comment on column console.refusal.recorded_at is 'When the last was recorded.';

alter table console.network add column pending text check (pending in ('add', 'remove')), add column change_id uuid, add column until timestamptz,
  add column added_by uuid, add column on_host boolean not null default false,
  add constraint network_pending check ((pending is null) = (change_id is null) and (pending is null) = (until is null));
comment on column console.network.pending is 'A change that nobody has confirmed: add counts until its end, remove until then counts as removed.';
comment on column console.network.change_id is 'Random id of the change as it was last edited.';
comment on column console.network.until is 'When an unconfirmed change returns by itself.';
comment on column console.network.added_by is 'The administrator who added it; null for the host.';
comment on column console.network.on_host is 'Added on the host and not yet acknowledged in the console.';

grant select, insert, update, delete on console.passkey, console.ceremony, console.notice, console.reason, console.approval, console.refusal to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['passkey','ceremony','notice','reason','approval','refusal'] loop
    execute format('alter table console.%I enable row level security', t);
    execute format('alter table console.%I force row level security', t);
    execute format('create policy owner on console.%I for select to counterfoil_chat using (true)', t);
    execute format('create policy own_organisation on console.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
reset role;

-- Whose a reference is can be told only by computing it of the keys there were at the time; it is written nowhere.
set local role counterfoil_euii;
create index key_newest on euii.key (organisation_id, kind, created_at, key_id);
reset role;

set local role counterfoil_access;

create function access.subjects_before(p_organisation uuid, p_kind text, p_at timestamptz, p_id uuid, p_limit int)
  returns table (key_id uuid, wrapped bytea, created_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return query select k.key_id, k.wrapped, k.created_at from euii.key k
    where k.organisation_id = p_organisation and k.kind = p_kind and (k.created_at, k.key_id) < (p_at, p_id) and k.wrapped is not null
    order by k.created_at desc, k.key_id desc limit p_limit;
end $$;

-- The row in which the newest values of a person lie.
create function access.newest_row(p_organisation uuid, p_subject uuid) returns uuid
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return (select v.row_id from euii.value v where v.organisation_id = p_organisation and v.subject_id = p_subject order by v.created_at desc, v.row_id limit 1);
end $$;

-- Allowlist: a change that nobody confirmed counts until its end, and is as if it had never been made afterwards.
drop function access.networks();
create function access.networks() returns table (organisation_id uuid, network_ref text, prefix bytea)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select n.organisation_id, n.network_ref, n.prefix from console.network n
  where case n.pending when 'add' then n.until > clock_timestamp() when 'remove' then n.until <= clock_timestamp() else true end $$;
create function access.allowlist(p_organisation uuid)
  returns table (network_ref text, prefix bytea, added_at timestamptz, added_by uuid, on_host boolean, pending text, change_id uuid, until timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select n.network_ref, n.prefix, n.added_at, n.added_by, n.on_host,
      case when n.until > clock_timestamp() then n.pending end, case when n.until > clock_timestamp() then n.change_id end, case when n.until > clock_timestamp() then n.until end
    from console.network n where n.organisation_id = p_organisation and not (n.pending is not distinct from 'add' and n.until <= clock_timestamp())
    order by n.added_at, n.network_ref;
end $$;

-- On the host a network is put on and taken off for good.
create or replace function access.allow_network(p_organisation uuid, p_ref text, p_prefix bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare was boolean;
begin
  perform access.enter(p_organisation);
  select true into was from console.network n where n.organisation_id = p_organisation and n.network_ref = p_ref
    and case n.pending when 'add' then n.until > clock_timestamp() when 'remove' then n.until <= clock_timestamp() else true end for update;
  insert into console.network as n (organisation_id, network_ref, prefix, on_host) values (p_organisation, p_ref, p_prefix, true)
    on conflict (organisation_id, network_ref) do update set pending = null, change_id = null, until = null, prefix = excluded.prefix, on_host = n.on_host or was is null;
  return was is null;
end $$;

-- In the console a change is on trial for some seconds. Whatever else is on trial joins it, so that what is confirmed is
-- what was seen. An earlier trial that ran out is forgotten.
create function access.try_network(p_organisation uuid, p_ref text, p_prefix bytea, p_change text, p_by uuid, p_id uuid, p_seconds int) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare clock timestamptz := clock_timestamp(); ends timestamptz := clock_timestamp() + make_interval(secs => p_seconds); changed boolean;
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.network ' || p_organisation::text, 0));
  delete from console.network n where n.organisation_id = p_organisation and n.pending = 'add' and n.until <= clock;
  update console.network n set pending = null, change_id = null, until = null where n.organisation_id = p_organisation and n.until <= clock;
  if p_change = 'add' then
    -- What is on trial to go, stays.
    update console.network n set pending = null, change_id = null, until = null where n.organisation_id = p_organisation and n.network_ref = p_ref and n.pending = 'remove';
    changed := found;
    if not changed then
      insert into console.network (organisation_id, network_ref, prefix, added_by, pending, change_id, until) values (p_organisation, p_ref, p_prefix, p_by, 'add', p_id, ends)
        on conflict (organisation_id, network_ref) do nothing;
      changed := found;
    end if;
  else
    delete from console.network n where n.organisation_id = p_organisation and n.network_ref = p_ref and n.pending = 'add';
    changed := found;
    if not changed then
      update console.network n set pending = 'remove', change_id = p_id, until = ends where n.organisation_id = p_organisation and n.network_ref = p_ref and n.pending is null;
      changed := found;
    end if;
  end if;
  if changed then
    update console.network n set change_id = p_id, until = ends where n.organisation_id = p_organisation and n.pending is not null;
  end if;
  return changed;
end $$;

-- Confirms exactly the change that was seen, or takes it back, before its end.
create function access.settle_networks(p_organisation uuid, p_id uuid, p_keep boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.network ' || p_organisation::text, 0));
  select count(*) into n from console.network w where w.organisation_id = p_organisation and w.change_id = p_id and w.until > clock_timestamp();
  if n = 0 then return false; end if;
  delete from console.network w where w.organisation_id = p_organisation and w.change_id = p_id and w.pending = case when p_keep then 'remove' else 'add' end;
  update console.network w set pending = null, change_id = null, until = null where w.organisation_id = p_organisation and w.change_id = p_id;
  return true;
end $$;
create function access.acknowledge_host(p_organisation uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.network n set on_host = false where n.organisation_id = p_organisation and n.on_host;
end $$;

-- Whether a refused request is to be recorded, and how many came since the last that was.
create function access.refusal_due(p_organisation uuid) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  insert into console.refusal as r (organisation_id, recorded_at) values (p_organisation, '-infinity') on conflict (organisation_id) do nothing;
  update console.refusal r set skipped = 0, recorded_at = clock_timestamp() from console.refusal o
    where r.organisation_id = p_organisation and o.organisation_id = p_organisation and r.recorded_at < clock_timestamp() - interval '1 minute'
    returning o.skipped into n;
  if found then return n; end if;
  update console.refusal r set skipped = r.skipped + 1 where r.organisation_id = p_organisation;
  return null;
end $$;

-- Administrators.
drop function access.admins(uuid);
create function access.admins(p_organisation uuid)
  returns table (admin_id uuid, roles text[], seal text, created_at timestamptz, signed_in_at timestamptz, disabled_at timestamptz, codes_left bigint, authenticators bigint, passkeys bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.admin_id, a.roles, a.seal, a.created_at, a.signed_in_at, a.disabled_at,
      (select count(*) from console.recovery_code c where c.organisation_id = p_organisation and c.admin_id = a.admin_id and c.used_at is null),
      (select count(*) from console.totp t where t.organisation_id = p_organisation and t.admin_id = a.admin_id),
      (select count(*) from console.passkey p where p.organisation_id = p_organisation and p.admin_id = a.admin_id)
    from console.admin a where a.organisation_id = p_organisation order by a.created_at, a.admin_id;
end $$;
create or replace function access.admin_by_name(p_organisation uuid, p_name_ref text, out admin_id uuid, out password text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  select a.admin_id, a.password into admin_id, password from console.admin a
    where a.organisation_id = p_organisation and a.name_ref = p_name_ref and a.disabled_at is null;
end $$;
create function access.admin_password(p_organisation uuid, p_admin uuid) returns text
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return (select a.password from console.admin a where a.organisation_id = p_organisation and a.admin_id = p_admin and a.disabled_at is null);
end $$;

-- Takes away or gives back the right to sign in. One security administrator has to stay who can.
create function access.disable_admin(p_organisation uuid, p_admin uuid, p_disabled boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.admin ' || p_organisation::text, 0));
  if p_disabled and not exists (select from console.admin a where a.organisation_id = p_organisation and a.admin_id <> p_admin
      and a.disabled_at is null and 'security_admin' = any(a.roles)) then return false; end if;
  update console.admin a set disabled_at = case when p_disabled then clock_timestamp() end
    where a.organisation_id = p_organisation and a.admin_id = p_admin and (a.disabled_at is null) = p_disabled;
  if not found then return false; end if;
  delete from console.session s where s.organisation_id = p_organisation and s.admin_id = p_admin;
  return true;
end $$;

-- Authenticators.
drop function access.totp_seed(uuid, uuid);
create function access.totp_factors(p_organisation uuid, p_admin uuid) returns table (factor_id uuid, seed bytea, label bytea, confirmed_at timestamptz, used_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select t.factor_id, t.seed, t.label, t.confirmed_at, t.used_at from console.totp t
    where t.organisation_id = p_organisation and t.admin_id = p_admin order by t.confirmed_at, t.factor_id;
end $$;
create function access.totp_used(p_organisation uuid, p_admin uuid, p_factor uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.totp t set used_at = clock_timestamp() where t.organisation_id = p_organisation and t.admin_id = p_admin and t.factor_id = p_factor;
end $$;
create function access.add_totp(p_organisation uuid, p_admin uuid, p_factor uuid, p_seed bytea, p_label bytea, p_step bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.totp (organisation_id, admin_id, factor_id, seed, label)
    select p_organisation, p_admin, p_factor, p_seed, p_label
    where exists (select from console.step s where s.organisation_id = p_organisation and s.admin_id = p_admin and s.last_step = p_step)
      and (select count(*) from console.totp t where t.organisation_id = p_organisation and t.admin_id = p_admin) < 10;
  return found;
end $$;
-- The last one stays.
create function access.remove_totp(p_organisation uuid, p_admin uuid, p_factor uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.totp ' || p_admin::text, 0));
  delete from console.totp t where t.organisation_id = p_organisation and t.admin_id = p_admin and t.factor_id = p_factor
    and exists (select from console.totp o where o.organisation_id = p_organisation and o.admin_id = p_admin and o.factor_id <> p_factor);
  return found;
end $$;
create function access.renew_recovery_codes(p_organisation uuid, p_admin uuid, p_code_hashes bytea[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.recovery_code c where c.organisation_id = p_organisation and c.admin_id = p_admin;
  insert into console.recovery_code (organisation_id, admin_id, code_hash) select p_organisation, p_admin, h from unnest(p_code_hashes) as h;
end $$;

-- Security keys.
create function access.passkeys(p_organisation uuid, p_admin uuid) returns table (passkey_id uuid, credential bytea, created_at timestamptz, used_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select p.passkey_id, p.credential, p.created_at, p.used_at from console.passkey p
    where p.organisation_id = p_organisation and p.admin_id = p_admin order by p.created_at, p.passkey_id;
end $$;
create function access.add_passkey(p_organisation uuid, p_admin uuid, p_passkey uuid, p_credential bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.passkey (organisation_id, admin_id, passkey_id, credential)
    select p_organisation, p_admin, p_passkey, p_credential
    where (select count(*) from console.passkey p where p.organisation_id = p_organisation and p.admin_id = p_admin) < 10;
  return found;
end $$;
create function access.passkey_used(p_organisation uuid, p_admin uuid, p_passkey uuid, p_credential bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.passkey p set credential = p_credential, used_at = clock_timestamp()
    where p.organisation_id = p_organisation and p.admin_id = p_admin and p.passkey_id = p_passkey;
  return found;
end $$;
create function access.remove_passkey(p_organisation uuid, p_admin uuid, p_passkey uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.passkey p where p.organisation_id = p_organisation and p.admin_id = p_admin and p.passkey_id = p_passkey;
  return found;
end $$;
create function access.begin_ceremony(p_organisation uuid, p_session uuid, p_state bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.ceremony c where c.organisation_id = p_organisation and c.made_at < clock_timestamp() - interval '5 minutes';
  insert into console.ceremony (organisation_id, session_id, state) values (p_organisation, p_session, p_state)
    on conflict (organisation_id, session_id) do update set state = excluded.state, made_at = clock_timestamp();
end $$;
-- What a session was asked, once, or while it may be tried again.
create function access.ceremony(p_organisation uuid, p_session uuid, p_take boolean) returns bytea
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare s bytea;
begin
  perform access.enter(p_organisation);
  select c.state into s from console.ceremony c where c.organisation_id = p_organisation and c.session_id = p_session and c.made_at > clock_timestamp() - interval '5 minutes' for update;
  if p_take then
    delete from console.ceremony c where c.organisation_id = p_organisation and c.session_id = p_session;
  end if;
  return s;
end $$;

-- Set-up, with seals.
drop function access.make_setup(uuid, uuid, bytea, text[], int);
create function access.make_setup(p_organisation uuid, p_setup uuid, p_token_hash bytea, p_roles text[], p_seconds int, p_seal text) returns timestamptz
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare ends timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
begin
  perform access.enter(p_organisation);
  delete from console.setup s where s.organisation_id = p_organisation and s.expires_at < clock_timestamp() - interval '1 day';
  insert into console.setup (organisation_id, setup_id, token_hash, roles, expires_at, seal) values (p_organisation, p_setup, p_token_hash, p_roles, ends, p_seal);
  return ends;
end $$;
drop function access.setup_by_token(bytea);
create function access.setup_by_token(p_token_hash bytea)
  returns table (organisation_id uuid, setup_id uuid, roles text[], admin_id uuid, again boolean, seed bytea, seal text)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.organisation_id, s.setup_id, s.roles, s.admin_id, s.again, case when s.begun_at > clock_timestamp() - interval '10 minutes' then s.seed end, s.seal
  from console.setup s where s.token_hash = p_token_hash and s.used_at is null and s.expires_at > clock_timestamp() $$;
drop function access.finish_setup(uuid, uuid, bigint, bytea[], text, bytea);
create function access.finish_setup(p_organisation uuid, p_setup uuid, p_step bigint, p_code_hashes bytea[], p_network_ref text, p_network bytea, p_factor uuid, p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare s console.setup;
begin
  perform access.enter(p_organisation);
  update console.setup u set used_at = clock_timestamp()
    where u.organisation_id = p_organisation and u.setup_id = p_setup and u.used_at is null and u.expires_at > clock_timestamp()
      and u.begun_at > clock_timestamp() - interval '10 minutes' and p_seal is not null
      and exists (select from console.step t where t.organisation_id = p_organisation and t.admin_id = u.admin_id and t.last_step = p_step)
    returning u.* into s;
  if not found then return false; end if;
  if not s.again then
    insert into console.admin (organisation_id, admin_id, name_ref, password, roles, seal) values (p_organisation, s.admin_id, s.name_ref, s.password, s.roles, p_seal);
  end if;
  delete from console.totp t where t.organisation_id = p_organisation and t.admin_id = s.admin_id;
  insert into console.totp (organisation_id, admin_id, factor_id, seed) values (p_organisation, s.admin_id, p_factor, s.seed);
  delete from console.recovery_code c where c.organisation_id = p_organisation and c.admin_id = s.admin_id;
  insert into console.recovery_code (organisation_id, admin_id, code_hash) select p_organisation, s.admin_id, h from unnest(p_code_hashes) as h;
  delete from console.session e where e.organisation_id = p_organisation and e.admin_id = s.admin_id;
  update console.setup u set seed = null, password = null where u.organisation_id = p_organisation and u.setup_id = p_setup;
  insert into console.network (organisation_id, network_ref, prefix, added_by) values (p_organisation, p_network_ref, p_network, s.admin_id)
    on conflict (organisation_id, network_ref) do nothing;
  return true;
end $$;
drop function access.use_recovery_code(uuid, uuid, bytea, uuid, bytea, bytea);
create function access.use_recovery_code(p_organisation uuid, p_session uuid, p_code_hash bytea, p_setup uuid, p_token_hash bytea, p_seed bytea, p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare who uuid;
begin
  perform access.enter(p_organisation);
  update console.recovery_code c set used_at = clock_timestamp()
    from console.session e
    where e.organisation_id = p_organisation and e.session_id = p_session and e.stage = 'password' and e.started_at > clock_timestamp() - interval '5 minutes'
      and c.organisation_id = p_organisation and c.admin_id = e.admin_id and c.code_hash = p_code_hash and c.used_at is null
    returning c.admin_id into who;
  if not found then return false; end if;
  delete from console.session e where e.organisation_id = p_organisation and e.admin_id = who;
  insert into console.setup (organisation_id, setup_id, token_hash, admin_id, again, seed, begun_at, expires_at, seal)
    values (p_organisation, p_setup, p_token_hash, who, true, p_seed, clock_timestamp(), clock_timestamp() + interval '10 minutes', p_seal);
  return true;
end $$;

-- Sessions, with seals. A session under a new token keeps when it began.
drop function access.open_session(uuid, uuid, uuid, bytea, text);
create function access.open_session(p_organisation uuid, p_session uuid, p_admin uuid, p_token_hash bytea, p_address_ref text, p_seal text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation
    and (e.started_at < clock_timestamp() - interval '12 hours' or e.seen_at < clock_timestamp() - interval '15 minutes');
  insert into console.session (organisation_id, session_id, admin_id, token_hash, stage, address_ref, seal)
    values (p_organisation, p_session, p_admin, p_token_hash, 'password', p_address_ref, p_seal);
end $$;
drop function access.sign_in(uuid, uuid, bigint, uuid, bytea);
create function access.sign_in(p_organisation uuid, p_waiting uuid, p_step bigint, p_session uuid, p_token_hash bytea, p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare waiting console.session;
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation and e.session_id = p_waiting and e.stage = 'password'
      and e.started_at > clock_timestamp() - interval '5 minutes'
      and exists (select from console.step t where t.organisation_id = p_organisation and t.admin_id = e.admin_id and t.last_step = p_step)
    returning e.* into waiting;
  if not found then return false; end if;
  insert into console.session (organisation_id, session_id, admin_id, token_hash, stage, address_ref, seal)
    values (p_organisation, p_session, waiting.admin_id, p_token_hash, 'signed_in', waiting.address_ref, p_seal);
  update console.admin a set signed_in_at = clock_timestamp() where a.organisation_id = p_organisation and a.admin_id = waiting.admin_id;
  return true;
end $$;
create function access.step_up(p_organisation uuid, p_old uuid, p_session uuid, p_token_hash bytea, p_for text, p_by text, p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare old console.session;
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation and e.session_id = p_old and e.stage = 'signed_in' returning e.* into old;
  if not found then return false; end if;
  insert into console.session (organisation_id, session_id, admin_id, token_hash, stage, address_ref, started_at, seal, stepped_at, stepped_for, stepped_by)
    values (p_organisation, p_session, old.admin_id, p_token_hash, 'signed_in', old.address_ref, old.started_at, p_seal, clock_timestamp(), p_for, p_by);
  return true;
end $$;
drop function access.resume_session(bytea);
create function access.resume_session(p_token_hash bytea, out organisation_id uuid, out session_id uuid, out admin_id uuid, out stage text, out address_ref text, out roles text[],
    out seal text, out admin_seal text, out stepped_for text, out stepped_by text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  select e.organisation_id into organisation_id from console.session e where e.token_hash = p_token_hash;
  if not found then return; end if;
  perform access.enter(organisation_id);
  update console.session e set seen_at = case e.stage when 'signed_in' then clock_timestamp() else e.seen_at end
    from console.admin a
    where e.token_hash = p_token_hash and a.organisation_id = e.organisation_id and a.admin_id = e.admin_id and a.disabled_at is null
      and case e.stage when 'password' then e.started_at > clock_timestamp() - interval '5 minutes'
            else e.started_at > clock_timestamp() - interval '12 hours' and e.seen_at > clock_timestamp() - interval '15 minutes' end
    returning e.session_id, e.admin_id, e.stage, e.address_ref, a.roles, e.seal, a.seal, coalesce(e.stepped_for, ''), coalesce(e.stepped_by, '')
      into session_id, admin_id, stage, address_ref, roles, seal, admin_seal, stepped_for, stepped_by;
end $$;
drop function access.session_proof(bytea);
create function access.session_proof(p_token_hash bytea)
  returns table (organisation_id uuid, admin_id uuid, proved_at timestamptz, stepped_at timestamptz, stepped_for text, stepped_by text)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.organisation_id, e.admin_id, e.started_at, e.stepped_at, coalesce(e.stepped_for, ''), coalesce(e.stepped_by, '') from console.session e
  where e.token_hash = p_token_hash and e.stage = 'signed_in'
    and e.started_at > clock_timestamp() - interval '12 hours' and e.seen_at > clock_timestamp() - interval '15 minutes' $$;
create function access.sessions(p_organisation uuid) returns table (session_id uuid, admin_id uuid, stage text, address_ref text, started_at timestamptz, seen_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select e.session_id, e.admin_id, e.stage, e.address_ref, e.started_at, e.seen_at from console.session e
    where e.organisation_id = p_organisation and e.stage = 'signed_in'
      and e.started_at > clock_timestamp() - interval '12 hours' and e.seen_at > clock_timestamp() - interval '15 minutes'
    order by e.seen_at desc, e.session_id;
end $$;
-- Ends the sessions of an administrator, or one of them, but the one that is excepted.
create function access.revoke_sessions(p_organisation uuid, p_admin uuid, p_session uuid, p_except uuid) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation and e.admin_id = p_admin
    and (p_session is null or e.session_id = p_session) and e.session_id is distinct from p_except;
  get diagnostics n = row_count;
  return n;
end $$;

-- Notices.
create function access.add_notice(p_organisation uuid, p_admin uuid, p_kind text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.notice as n (organisation_id, admin_id, kind) values (p_organisation, p_admin, p_kind)
    on conflict (organisation_id, admin_id, kind) do update set n = n.n + 1, last_at = clock_timestamp();
end $$;
create function access.notices(p_organisation uuid, p_admin uuid) returns table (kind text, n int, first_at timestamptz, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select o.kind, o.n, o.first_at, o.last_at from console.notice o where o.organisation_id = p_organisation and o.admin_id = p_admin order by o.last_at desc, o.kind;
end $$;
create function access.forget_notices(p_organisation uuid, p_admin uuid, p_until timestamptz) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.notice o where o.organisation_id = p_organisation and o.admin_id = p_admin and o.last_at <= p_until;
end $$;

-- Reasons.
create function access.put_reason(p_organisation uuid, p_reason uuid, p_text bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.reason (organisation_id, reason_id, text) values (p_organisation, p_reason, p_text);
end $$;
create function access.reasons(p_organisation uuid, p_reasons uuid[]) returns table (reason_id uuid, text bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.reason_id, r.text from console.reason r where r.organisation_id = p_organisation and r.reason_id = any(p_reasons);
end $$;

-- Consents of a second person.
create function access.ask_approval(p_organisation uuid, p_approval uuid, p_kind text, p_by uuid, p_reason uuid, p_subject_kind text, p_subject uuid, p_about text,
    p_detail bytea, p_seconds int, p_open_seconds int) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.approval (organisation_id, approval_id, kind, asked_by, reason_id, subject_kind, subject_id, about, detail, seconds, open_until)
    values (p_organisation, p_approval, p_kind, p_by, p_reason, p_subject_kind, p_subject, p_about, p_detail, p_seconds, clock_timestamp() + make_interval(secs => p_open_seconds));
end $$;
create function access.approvals(p_organisation uuid, p_approval uuid, p_limit int) returns setof console.approval
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.* from console.approval a where a.organisation_id = p_organisation and (p_approval is null or a.approval_id = p_approval)
    order by a.asked_at desc, a.approval_id limit p_limit;
end $$;
create function access.approvals_in_force(p_organisation uuid) returns setof console.approval
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.* from console.approval a where a.organisation_id = p_organisation and a.decision = 'approved' and a.ended_at is null and a.ends_at > clock_timestamp()
    order by a.ends_at, a.approval_id;
end $$;
-- Decides what is open, once. Only who asked withdraws, and only somebody else decides otherwise.
create function access.decide_approval(p_organisation uuid, p_approval uuid, p_by uuid, p_decision text, p_reason uuid, p_ends timestamptz, p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.approval a set decided_by = p_by, decided_at = clock_timestamp(), decision = p_decision, decided_reason = p_reason, ends_at = p_ends, seal = p_seal
    where a.organisation_id = p_organisation and a.approval_id = p_approval and a.decision is null and a.open_until > clock_timestamp()
      and (p_decision = 'withdrawn') = (a.asked_by = p_by) and (p_ends is null or p_ends <= clock_timestamp() + make_interval(secs => a.seconds + 5));
  return found;
end $$;
create function access.end_approval(p_organisation uuid, p_approval uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.approval a set ended_at = clock_timestamp()
    where a.organisation_id = p_organisation and a.approval_id = p_approval and a.decision = 'approved' and a.ended_at is null and a.ends_at > clock_timestamp();
  return found;
end $$;
create function access.review_approval(p_organisation uuid, p_approval uuid, p_by uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.approval a set reviewed_by = p_by, reviewed_at = clock_timestamp()
    where a.organisation_id = p_organisation and a.approval_id = p_approval and a.decision = 'approved' and a.reviewed_at is null and a.asked_by <> p_by
      and (a.ended_at is not null or a.ends_at <= clock_timestamp());
  return found;
end $$;

do $$
declare f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'access'::regnamespace and p.proname in ('subjects_before', 'newest_row', 'networks', 'allowlist', 'try_network', 'settle_networks',
      'acknowledge_host', 'refusal_due', 'admins', 'admin_password', 'disable_admin', 'totp_factors', 'totp_used', 'add_totp', 'remove_totp', 'renew_recovery_codes',
      'passkeys', 'add_passkey', 'passkey_used', 'remove_passkey', 'begin_ceremony', 'ceremony', 'make_setup', 'setup_by_token', 'finish_setup', 'use_recovery_code', 'open_session',
      'sign_in', 'step_up', 'resume_session', 'session_proof', 'sessions', 'revoke_sessions', 'add_notice', 'notices', 'forget_notices', 'put_reason', 'reasons',
      'ask_approval', 'approvals', 'approvals_in_force', 'decide_approval', 'end_approval', 'review_approval') loop
    execute format('revoke all on function %s from public', f);
    execute format('grant execute on function %s to counterfoil_service', f);
  end loop;
end $$;
reset role;
