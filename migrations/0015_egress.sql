-- Where the service connects to, and what was refused. The zero organisation stands for whoever runs the service.
set local role counterfoil_access;

create table access.egress (
  organisation_id uuid not null,
  name            text not null check (length(name) between 1 and 100),
  hosts           text[] not null,
  owner           text not null,
  purpose         text not null,
  data            text[] not null,
  party           text not null check (party in ('microsoft', 'operator', 'third_party')),
  region          text not null,
  since           timestamptz not null default now(),
  seen_at         timestamptz not null default now(),
  attempts        bigint not null default 0,
  connections     bigint not null default 0,
  failures        bigint not null default 0,
  blocked         bigint not null default 0,
  sent            bigint not null default 0,
  received        bigint not null default 0,
  primary key (organisation_id, name)
);
comment on table  access.egress is 'The register of outbound destinations as the nodes of the service hold it, with their counts added up.';
comment on column access.egress.organisation_id is 'Tenant who chose it; the zero id for whoever runs the service.';
comment on column access.egress.name is 'Name of the destination.';
comment on column access.egress.hosts is 'Exact host:port.';
comment on column access.egress.owner is 'The package that needs it.';
comment on column access.egress.purpose is 'What for, in English.';
comment on column access.egress.data is 'Classes of data that go there.';
comment on column access.egress.party is 'Whose it is: microsoft, operator or third_party.';
comment on column access.egress.region is 'Where it is, as far as that is known.';
comment on column access.egress.since is 'Since when it is counted.';
comment on column access.egress.seen_at is 'When a node last had it on its register; each says so once a minute.';
comment on column access.egress.attempts is 'Connections that were tried.';
comment on column access.egress.connections is 'Connections that were made.';
comment on column access.egress.failures is 'Connections that could not be made.';
comment on column access.egress.blocked is 'Attempts at something else by its way, which were refused.';
comment on column access.egress.sent is 'Bytes.';
comment on column access.egress.received is 'Bytes.';

create table access.egress_blocked (
  organisation_id uuid not null,
  name            text not null check (length(name) <= 100),
  target          text not null check (length(target) <= 260),
  n               bigint not null,
  first_at        timestamptz not null default now(),
  last_at         timestamptz not null default now(),
  primary key (organisation_id, name, target)
);
comment on table  access.egress_blocked is 'Attempts at what is not registered: refused, and each a record of the log.';
comment on column access.egress_blocked.organisation_id is 'Tenant whose way was tried; the zero id for whoever runs the service.';
comment on column access.egress_blocked.name is 'Destination whose way was tried; empty where none was.';
comment on column access.egress_blocked.target is 'host:port that was tried; empty for many.';
comment on column access.egress_blocked.n is 'How often.';
comment on column access.egress_blocked.first_at is 'When first.';
comment on column access.egress_blocked.last_at is 'When last.';

do $$
declare t text;
begin
  foreach t in array array['egress', 'egress_blocked'] loop
    execute format('alter table access.%I enable row level security', t);
    execute format('alter table access.%I force row level security', t);
    execute format('create policy own_and_the_operators on access.%I for select to counterfoil_access
      using (organisation_id = access.organisation() or organisation_id = ''00000000-0000-0000-0000-000000000000'')', t);
    execute format('create policy own_organisation on access.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;

-- What a node has on its register, and what came to its counts since it last said so.
create function access.note_egress(p_organisation uuid, p_name text, p_hosts text[], p_owner text, p_purpose text, p_data text[], p_party text, p_region text,
    p_attempts bigint, p_connections bigint, p_failures bigint, p_blocked bigint, p_sent bigint, p_received bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into access.egress as e (organisation_id, name, hosts, owner, purpose, data, party, region, attempts, connections, failures, blocked, sent, received)
    values (p_organisation, p_name, p_hosts, p_owner, p_purpose, p_data, p_party, p_region, p_attempts, p_connections, p_failures, p_blocked, p_sent, p_received)
    on conflict (organisation_id, name) do update set hosts = excluded.hosts, owner = excluded.owner, purpose = excluded.purpose, data = excluded.data, party = excluded.party,
      region = excluded.region, seen_at = now(), attempts = e.attempts + excluded.attempts, connections = e.connections + excluded.connections, failures = e.failures + excluded.failures,
      blocked = e.blocked + excluded.blocked, sent = e.sent + excluded.sent, received = e.received + excluded.received;
end $$;
create function access.note_egress_blocked(p_organisation uuid, p_name text, p_target text, p_n bigint) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into access.egress_blocked as b (organisation_id, name, target, n) values (p_organisation, p_name, p_target, p_n)
    on conflict (organisation_id, name, target) do update set n = b.n + excluded.n, last_at = now();
end $$;
-- The destinations of an organisation and of whoever runs the service.
create function access.egress(p_organisation uuid)
  returns table (organisation_id uuid, name text, hosts text[], owner text, purpose text, data text[], party text, region text, since timestamptz, seen_at timestamptz, on_register boolean,
    attempts bigint, connections bigint, failures bigint, blocked bigint, sent bigint, received bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select e.organisation_id, e.name, e.hosts, e.owner, e.purpose, e.data, e.party, e.region, e.since, e.seen_at, e.seen_at > now() - interval '3 minutes',
    e.attempts, e.connections, e.failures, e.blocked, e.sent, e.received from access.egress e order by e.organisation_id, e.name;
end $$;
create function access.egress_blocked(p_organisation uuid) returns table (name text, target text, n bigint, first_at timestamptz, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select b.name, b.target, b.n, b.first_at, b.last_at from access.egress_blocked b order by b.last_at desc, b.name, b.target limit 100;
end $$;
revoke all on function access.note_egress(uuid, text, text[], text, text, text[], text, text, bigint, bigint, bigint, bigint, bigint, bigint), access.note_egress_blocked(uuid, text, text, bigint),
  access.egress(uuid), access.egress_blocked(uuid) from public;
grant execute on function access.note_egress(uuid, text, text[], text, text, text[], text, text, bigint, bigint, bigint, bigint, bigint, bigint), access.note_egress_blocked(uuid, text, text, bigint),
  access.egress(uuid), access.egress_blocked(uuid) to counterfoil_service;
reset role;
