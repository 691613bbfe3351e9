-- Administrators, how they sign in, and from where. The service reaches all of it through functions only.
set local role counterfoil_euii;
alter table euii.key drop constraint key_kind_check;
alter table euii.key add constraint key_kind_check check (kind in ('organisation', 'agent', 'visitor', 'conversation', 'admin'));
reset role;

set local role counterfoil_chat;
grant usage on schema console to counterfoil_access;

create table console.admin (
  organisation_id uuid not null references chat.organisation,
  admin_id        uuid not null,
  name_ref        text not null,
  password        text not null,
  roles           text[] not null,
  created_at      timestamptz not null default now(),
  signed_in_at    timestamptz,
  primary key (organisation_id, admin_id),
  unique (organisation_id, name_ref),
  constraint admin_roles_known check (cardinality(roles) > 0 and roles <@ array['auditor', 'security_admin', 'privacy_officer', 'approver'])
);
comment on table  console.admin is 'Administrators. Each has a confirmed authenticator; nobody becomes one without.';
comment on column console.admin.organisation_id is 'Tenant.';
comment on column console.admin.admin_id is 'Random id; also the id of his key.';
comment on column console.admin.name_ref is 'Keyed reference of the sign-in name, which itself is kept nowhere.';
comment on column console.admin.password is 'Argon2id hash with its salt and parameters.';
comment on column console.admin.roles is 'What policy may let him do.';
comment on column console.admin.created_at is 'End of his set-up.';
comment on column console.admin.signed_in_at is 'Last sign-in.';

create table console.totp (
  organisation_id uuid not null,
  admin_id        uuid not null,
  seed            bytea not null,
  confirmed_at    timestamptz not null default now(),
  primary key (organisation_id, admin_id),
  foreign key (organisation_id, admin_id) references console.admin
);
comment on table  console.totp is 'Authenticators, each confirmed by a code.';
comment on column console.totp.organisation_id is 'Tenant.';
comment on column console.totp.admin_id is 'Whose it is.';
comment on column console.totp.seed is 'Seed of the codes, sealed by the key-encryption key, which is not in this database.';
comment on column console.totp.confirmed_at is 'When the first code was given.';

create table console.step (
  organisation_id uuid not null,
  admin_id        uuid not null,
  last_step       bigint not null,
  primary key (organisation_id, admin_id)
);
comment on table  console.step is 'The last time step of which a code was taken; it only grows, also when the authenticator is replaced.';
comment on column console.step.organisation_id is 'Tenant.';
comment on column console.step.admin_id is 'Whose code it was; during a set-up not an administrator yet.';
comment on column console.step.last_step is 'Seconds since 1970 divided by 30.';

create table console.recovery_code (
  organisation_id uuid not null,
  admin_id        uuid not null,
  code_hash       bytea not null,
  used_at         timestamptz,
  primary key (organisation_id, admin_id, code_hash),
  foreign key (organisation_id, admin_id) references console.admin
);
comment on table  console.recovery_code is 'One-time codes for whoever lost his authenticator. Using one makes him enrol another.';
comment on column console.recovery_code.organisation_id is 'Tenant.';
comment on column console.recovery_code.admin_id is 'Whose they are.';
comment on column console.recovery_code.code_hash is 'SHA-256 of the owner''s id and the code, which has 80 random bits.';
comment on column console.recovery_code.used_at is 'When it was used; a code works once.';

create table console.setup (
  organisation_id uuid not null references chat.organisation,
  setup_id        uuid not null,
  token_hash      bytea not null unique,
  roles           text[] not null default '{}',
  admin_id        uuid,
  again           boolean not null default false,
  name_ref        text,
  password        text,
  seed            bytea,
  begun_at        timestamptz,
  expires_at      timestamptz not null,
  used_at         timestamptz,
  primary key (organisation_id, setup_id)
);
comment on table  console.setup is 'Set-up links: each makes one administrator, or gives one a new authenticator.';
comment on column console.setup.organisation_id is 'Tenant.';
comment on column console.setup.setup_id is 'Random id.';
comment on column console.setup.token_hash is 'SHA-256 of the token in the link.';
comment on column console.setup.roles is 'Roles the new administrator will have.';
comment on column console.setup.admin_id is 'Who is being set up, once a name and password were chosen.';
comment on column console.setup.again is 'Whether he is an administrator already, who only gets a new authenticator.';
comment on column console.setup.name_ref is 'Keyed reference of the chosen name.';
comment on column console.setup.password is 'Argon2id hash of the chosen password.';
comment on column console.setup.seed is 'Seed shown as a QR code, sealed by the key-encryption key.';
comment on column console.setup.begun_at is 'When the seed was shown; a code has to follow within ten minutes.';
comment on column console.setup.expires_at is 'End of the link.';
comment on column console.setup.used_at is 'When it was used; a link works once.';

create table console.session (
  organisation_id uuid not null,
  session_id      uuid not null,
  admin_id        uuid not null,
  token_hash      bytea not null unique,
  stage           text not null check (stage in ('password', 'signed_in')),
  address_ref     text not null,
  started_at      timestamptz not null default now(),
  seen_at         timestamptz not null default now(),
  primary key (organisation_id, session_id),
  foreign key (organisation_id, admin_id) references console.admin
);
comment on table  console.session is 'Sessions of administrators, and the five minutes between password and code.';
comment on column console.session.organisation_id is 'Tenant.';
comment on column console.session.session_id is 'Random id.';
comment on column console.session.admin_id is 'Whose it is.';
comment on column console.session.token_hash is 'SHA-256 of the token in the cookie.';
comment on column console.session.stage is 'password: the code is still owed. signed_in: a code was taken when it started.';
comment on column console.session.address_ref is 'Keyed reference of the address it was begun from; it works from there only.';
comment on column console.session.started_at is 'When it began; it ends twelve hours later at the latest.';
comment on column console.session.seen_at is 'Last request; it ends fifteen minutes later.';

create table console.failure (
  organisation_id uuid not null references chat.organisation,
  about           text not null,
  failures        int not null,
  last_at         timestamptz not null,
  blocked_until   timestamptz,
  primary key (organisation_id, about)
);
comment on table  console.failure is 'Attempts to sign in that have not succeeded (yet), and until when further ones are refused.';
comment on column console.failure.organisation_id is 'Tenant.';
comment on column console.failure.about is 'What is counted: an account''s passwords or codes, a network, or everything; accounts and networks as keyed references.';
comment on column console.failure.failures is 'How many in a row.';
comment on column console.failure.last_at is 'The last one.';
comment on column console.failure.blocked_until is 'Until when attempts are refused unseen.';

create table console.network (
  organisation_id uuid not null references chat.organisation,
  network_ref     text not null,
  prefix          bytea not null,
  added_at        timestamptz not null default now(),
  primary key (organisation_id, network_ref)
);
comment on table  console.network is 'The allowlist: from where the console may be used. An organisation without an entry admits nobody.';
comment on column console.network.organisation_id is 'Tenant.';
comment on column console.network.network_ref is 'Keyed reference of the network, so that it can be found and taken out.';
comment on column console.network.prefix is 'EUII address or network: sealed by the key-encryption key; opened to be compared, never to be shown.';
comment on column console.network.added_at is 'When it was added.';

grant select, insert, update, delete on all tables in schema console to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['admin','totp','step','recovery_code','setup','session','failure','network'] loop
    execute format('alter table console.%I enable row level security', t);
    execute format('alter table console.%I force row level security', t);
    -- Foreign keys are checked as the table's owner.
    execute format('create policy owner on console.%I for select to counterfoil_chat using (true)', t);
    execute format('create policy own_organisation on console.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
  -- What must be found before the organisation is known.
  foreach t in array array['setup','session','network'] loop
    execute format('create policy found_by_token on console.%I for select to counterfoil_access using (true)', t);
  end loop;
end $$;
reset role;

set local role counterfoil_access;

-- Allowlist.
create function access.networks() returns table (organisation_id uuid, network_ref text, prefix bytea)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select n.organisation_id, n.network_ref, n.prefix from console.network n $$;
create function access.allow_network(p_organisation uuid, p_ref text, p_prefix bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.network (organisation_id, network_ref, prefix) values (p_organisation, p_ref, p_prefix)
    on conflict (organisation_id, network_ref) do nothing;
  return found;
end $$;
create function access.disallow_network(p_organisation uuid, p_ref text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.network n where n.organisation_id = p_organisation and n.network_ref = p_ref;
  return found;
end $$;

-- Administrators.
create function access.admins(p_organisation uuid)
  returns table (admin_id uuid, roles text[], created_at timestamptz, signed_in_at timestamptz, codes_left bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select a.admin_id, a.roles, a.created_at, a.signed_in_at,
      (select count(*) from console.recovery_code c where c.organisation_id = p_organisation and c.admin_id = a.admin_id and c.used_at is null)
    from console.admin a where a.organisation_id = p_organisation order by a.created_at, a.admin_id;
end $$;
create function access.admin_by_name(p_organisation uuid, p_name_ref text, out admin_id uuid, out password text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  select a.admin_id, a.password into admin_id, password from console.admin a where a.organisation_id = p_organisation and a.name_ref = p_name_ref;
end $$;
create function access.totp_seed(p_organisation uuid, p_admin uuid) returns bytea
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return (select t.seed from console.totp t where t.organisation_id = p_organisation and t.admin_id = p_admin);
end $$;

-- Takes a time step, if it is later than every one taken before: of any number of requests with one code one gets it.
create function access.claim_step(p_organisation uuid, p_admin uuid, p_step bigint) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.step as s (organisation_id, admin_id, last_step) values (p_organisation, p_admin, p_step)
    on conflict (organisation_id, admin_id) do update set last_step = excluded.last_step where s.last_step < excluded.last_step;
  return found;
end $$;

-- Set-up.
create function access.make_setup(p_organisation uuid, p_setup uuid, p_token_hash bytea, p_roles text[], p_seconds int) returns timestamptz
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare ends timestamptz := clock_timestamp() + make_interval(secs => p_seconds);
begin
  perform access.enter(p_organisation);
  delete from console.setup s where s.organisation_id = p_organisation and s.expires_at < clock_timestamp() - interval '1 day';
  insert into console.setup (organisation_id, setup_id, token_hash, roles, expires_at) values (p_organisation, p_setup, p_token_hash, p_roles, ends);
  return ends;
end $$;
create function access.setup_by_token(p_token_hash bytea)
  returns table (organisation_id uuid, setup_id uuid, roles text[], admin_id uuid, again boolean, seed bytea)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.organisation_id, s.setup_id, s.roles, s.admin_id, s.again, case when s.begun_at > clock_timestamp() - interval '10 minutes' then s.seed end
  from console.setup s where s.token_hash = p_token_hash and s.used_at is null and s.expires_at > clock_timestamp() $$;

-- Keeps what was chosen until a code confirms it. A first choice brings the key of the administrator to be.
create function access.begin_setup(p_organisation uuid, p_setup uuid, p_admin uuid, p_wrapped bytea, p_name_ref text, p_password text, p_seed bytea) returns text
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  if exists (select from console.admin a where a.organisation_id = p_organisation and a.name_ref = p_name_ref) then return 'taken'; end if;
  update console.setup s set admin_id = p_admin, name_ref = p_name_ref, password = p_password, seed = p_seed, begun_at = clock_timestamp()
    where s.organisation_id = p_organisation and s.setup_id = p_setup and s.used_at is null and s.expires_at > clock_timestamp()
      and not s.again and (s.admin_id is null or s.admin_id = p_admin);
  if not found then return 'gone'; end if;
  if p_wrapped is not null then
    insert into euii.key (organisation_id, key_id, kind, wrapped) values (p_organisation, p_admin, 'admin', p_wrapped);
  end if;
  return 'begun';
end $$;

-- Makes the administrator, or replaces his authenticator. The step has to be the one that was taken last for him, and
-- the address he came from goes on the allowlist. Sessions he had are over.
create function access.finish_setup(p_organisation uuid, p_setup uuid, p_step bigint, p_code_hashes bytea[], p_network_ref text, p_network bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare s console.setup;
begin
  perform access.enter(p_organisation);
  update console.setup u set used_at = clock_timestamp()
    where u.organisation_id = p_organisation and u.setup_id = p_setup and u.used_at is null and u.expires_at > clock_timestamp()
      and u.begun_at > clock_timestamp() - interval '10 minutes'
      and exists (select from console.step t where t.organisation_id = p_organisation and t.admin_id = u.admin_id and t.last_step = p_step)
    returning u.* into s;
  if not found then return false; end if;
  if not s.again then
    insert into console.admin (organisation_id, admin_id, name_ref, password, roles) values (p_organisation, s.admin_id, s.name_ref, s.password, s.roles);
  end if;
  insert into console.totp (organisation_id, admin_id, seed) values (p_organisation, s.admin_id, s.seed)
    on conflict (organisation_id, admin_id) do update set seed = excluded.seed, confirmed_at = clock_timestamp();
  delete from console.recovery_code c where c.organisation_id = p_organisation and c.admin_id = s.admin_id;
  insert into console.recovery_code (organisation_id, admin_id, code_hash) select p_organisation, s.admin_id, h from unnest(p_code_hashes) as h;
  delete from console.session e where e.organisation_id = p_organisation and e.admin_id = s.admin_id;
  update console.setup u set seed = null, password = null where u.organisation_id = p_organisation and u.setup_id = p_setup;
  insert into console.network (organisation_id, network_ref, prefix) values (p_organisation, p_network_ref, p_network)
    on conflict (organisation_id, network_ref) do nothing;
  return true;
end $$;

-- Uses up a recovery code and gives its owner, whose password was right, ten minutes to enrol a new authenticator.
create function access.use_recovery_code(p_organisation uuid, p_session uuid, p_code_hash bytea, p_setup uuid, p_token_hash bytea, p_seed bytea) returns boolean
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
  insert into console.setup (organisation_id, setup_id, token_hash, admin_id, again, seed, begun_at, expires_at)
    values (p_organisation, p_setup, p_token_hash, who, true, p_seed, clock_timestamp(), clock_timestamp() + interval '10 minutes');
  return true;
end $$;

-- Sessions.
create function access.open_session(p_organisation uuid, p_session uuid, p_admin uuid, p_token_hash bytea, p_address_ref text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation
    and (e.started_at < clock_timestamp() - interval '12 hours' or e.seen_at < clock_timestamp() - interval '15 minutes');
  insert into console.session (organisation_id, session_id, admin_id, token_hash, stage, address_ref)
    values (p_organisation, p_session, p_admin, p_token_hash, 'password', p_address_ref);
end $$;

-- Ends the wait for a code with a session under a new token, if the code's step is the one taken last.
create function access.sign_in(p_organisation uuid, p_waiting uuid, p_step bigint, p_session uuid, p_token_hash bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare waiting console.session;
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation and e.session_id = p_waiting and e.stage = 'password'
      and e.started_at > clock_timestamp() - interval '5 minutes'
      and exists (select from console.step t where t.organisation_id = p_organisation and t.admin_id = e.admin_id and t.last_step = p_step)
    returning e.* into waiting;
  if not found then return false; end if;
  insert into console.session (organisation_id, session_id, admin_id, token_hash, stage, address_ref)
    values (p_organisation, p_session, waiting.admin_id, p_token_hash, 'signed_in', waiting.address_ref);
  update console.admin a set signed_in_at = clock_timestamp() where a.organisation_id = p_organisation and a.admin_id = waiting.admin_id;
  return true;
end $$;

-- Finds a living session, and keeps one that is signed in alive.
create function access.resume_session(p_token_hash bytea, out organisation_id uuid, out session_id uuid, out admin_id uuid, out stage text, out address_ref text, out roles text[])
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  select e.organisation_id into organisation_id from console.session e where e.token_hash = p_token_hash;
  if not found then return; end if;
  perform access.enter(organisation_id);
  update console.session e set seen_at = case e.stage when 'signed_in' then clock_timestamp() else e.seen_at end
    from console.admin a
    where e.token_hash = p_token_hash and a.organisation_id = e.organisation_id and a.admin_id = e.admin_id
      and case e.stage when 'password' then e.started_at > clock_timestamp() - interval '5 minutes'
            else e.started_at > clock_timestamp() - interval '12 hours' and e.seen_at > clock_timestamp() - interval '15 minutes' end
    returning e.session_id, e.admin_id, e.stage, e.address_ref, a.roles into session_id, admin_id, stage, address_ref, roles;
end $$;

-- For whom, and when, a code was taken to begin this session.
create function access.session_proof(p_token_hash bytea) returns table (organisation_id uuid, admin_id uuid, proved_at timestamptz)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select e.organisation_id, e.admin_id, e.started_at from console.session e
  where e.token_hash = p_token_hash and e.stage = 'signed_in'
    and e.started_at > clock_timestamp() - interval '12 hours' and e.seen_at > clock_timestamp() - interval '15 minutes' $$;
create function access.end_session(p_organisation uuid, p_session uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.session e where e.organisation_id = p_organisation and e.session_id = p_session;
  return found;
end $$;

-- Counts an attempt before it is made, under each of the names it is counted by, and says how many seconds it has to
-- wait instead if it is refused. After the free ones the wait grows fourfold, up to a quarter of an hour; the last one
-- (0 for none) is refused until an operator forgets it. Where there is no last one, an hour of quiet forgets.
create function access.attempt(p_organisation uuid, p_about text[], p_free int[], p_last int[]) returns int
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare wait interval; clock timestamptz;
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.failure ' || p_organisation::text, 0)); -- one after another, or some would slip through at once
  clock := clock_timestamp();
  select max(least(f.blocked_until, clock + interval '1 day')) - clock into wait from console.failure f
    where f.organisation_id = p_organisation and f.about = any(p_about) and f.blocked_until > clock;
  if wait is not null then return ceil(extract(epoch from wait)); end if; -- what is not tried is not counted
  delete from console.failure f using unnest(p_about, p_last) as a(about, last)
    where f.organisation_id = p_organisation and f.about = a.about and a.last = 0 and f.last_at < clock - interval '1 hour';
  insert into console.failure as f (organisation_id, about, failures, last_at)
    select p_organisation, a.about, 1, clock from unnest(p_about) as a(about)
    on conflict (organisation_id, about) do update set failures = f.failures + 1, last_at = clock, blocked_until = null;
  for i in 1..cardinality(p_about) loop
    update console.failure f set
        blocked_until = case when p_last[i] > 0 and f.failures >= p_last[i] then 'infinity' when f.failures >= p_free[i] then clock + make_interval(secs => least(900, power(4, least(f.failures + 1 - p_free[i], 6)))) end
      where f.organisation_id = p_organisation and f.about = p_about[i];
  end loop;
  return 0;
end $$;

-- Takes an attempt that succeeded out of the count: an account begins anew, what it shares with others is one less.
create function access.attempt_succeeded(p_organisation uuid, p_own text[], p_shared text[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.failure f where f.organisation_id = p_organisation and f.about = any(p_own);
  update console.failure f set failures = greatest(f.failures - 1, 0), blocked_until = null where f.organisation_id = p_organisation and f.about = any(p_shared);
end $$;
create function access.forget_failures(p_organisation uuid) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  delete from console.failure f where f.organisation_id = p_organisation;
  get diagnostics n = row_count;
  return n;
end $$;

do $$
declare f regprocedure;
begin
  for f in select p.oid from pg_proc p where p.pronamespace = 'access'::regnamespace and p.proname in ('networks', 'allow_network', 'disallow_network', 'admins', 'admin_by_name', 'totp_seed', 'claim_step', 'make_setup',
      'setup_by_token', 'begin_setup', 'finish_setup', 'use_recovery_code', 'open_session', 'sign_in', 'resume_session', 'session_proof',
      'end_session', 'attempt', 'attempt_succeeded', 'forget_failures') loop
    execute format('revoke all on function %s from public', f);
    execute format('grant execute on function %s to counterfoil_service', f);
  end loop;
end $$;
reset role;
