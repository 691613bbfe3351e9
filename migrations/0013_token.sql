-- Tokens with which programs read the log over the network.
set local role counterfoil_chat;

create table console.token (
  organisation_id uuid not null references chat.organisation,
  token_id        uuid not null,
  admin_id        uuid not null,
  token_hash      bytea not null unique,
  label           bytea not null,
  network         bytea,
  seal            text not null,
  made_at         timestamptz not null default now(),
  expires_at      timestamptz not null,
  used_at         timestamptz,
  revoked_at      timestamptz,
  primary key (organisation_id, token_id),
  foreign key (organisation_id, admin_id) references console.admin,
  constraint token_ends check (expires_at <= made_at + interval '90 days')
);
comment on table  console.token is 'Tokens of programs. Each reads the log of its organisation and can do nothing else.';
comment on column console.token.organisation_id is 'Tenant.';
comment on column console.token.token_id is 'Random id.';
comment on column console.token.admin_id is 'Who made it.';
comment on column console.token.token_hash is 'SHA-256 of the token, which has 256 random bits.';
comment on column console.token.label is 'What it is for, sealed by the key-encryption key.';
comment on column console.token.network is 'EUII address or network: the only one it works from, beside the allowlist; sealed by the key-encryption key; null for all that is admitted.';
comment on column console.token.seal is 'Keyed reference of token, id and network, so that nobody can put one here.';
comment on column console.token.made_at is 'When it was made.';
comment on column console.token.expires_at is 'Its end, ninety days later at most.';
comment on column console.token.used_at is 'When it was last used, to the minute.';
comment on column console.token.revoked_at is 'Since when it works no longer; null while it does.';
grant select, insert, update on console.token to counterfoil_access;
alter table console.token enable row level security;
alter table console.token force row level security;
create policy own_organisation on console.token to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation());
create policy found_by_token on console.token for select to counterfoil_access using (true);
create policy owner on console.token for select to counterfoil_chat using (true);
reset role;

set local role counterfoil_access;
create function access.make_token(p_organisation uuid, p_token uuid, p_admin uuid, p_hash bytea, p_label bytea, p_network bytea, p_seal text, p_days int) returns timestamptz
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare ends timestamptz;
begin
  perform access.enter(p_organisation);
  insert into console.token (organisation_id, token_id, admin_id, token_hash, label, network, seal, expires_at)
    values (p_organisation, p_token, p_admin, p_hash, p_label, p_network, p_seal, now() + make_interval(days => p_days)) returning expires_at into ends;
  return ends;
end $$;
-- A token that is in force, by its hash; nothing for any other, and nothing when who made it may not sign in any more.
create function access.token_by_hash(p_hash bytea, out organisation_id uuid, out token_id uuid, out network bytea, out seal text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  select t.organisation_id into organisation_id from console.token t where t.token_hash = p_hash;
  if not found then return; end if;
  perform access.enter(organisation_id);
  select t.token_id, t.network, t.seal into token_id, network, seal
    from console.token t join console.admin a on a.organisation_id = t.organisation_id and a.admin_id = t.admin_id
    where t.token_hash = p_hash and t.revoked_at is null and t.expires_at > clock_timestamp() and a.disabled_at is null;
  if not found then return; end if;
  update console.token t set used_at = now() where t.token_hash = p_hash and (t.used_at is null or t.used_at < now() - interval '1 minute');
end $$;
create function access.tokens(p_organisation uuid)
  returns table (token_id uuid, admin_id uuid, label bytea, network bytea, made_at timestamptz, expires_at timestamptz, used_at timestamptz, revoked_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select t.token_id, t.admin_id, t.label, t.network, t.made_at, t.expires_at, t.used_at, t.revoked_at from console.token t
    where t.organisation_id = p_organisation order by t.made_at desc, t.token_id;
end $$;
create function access.revoke_token(p_organisation uuid, p_token uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.token set revoked_at = now() where organisation_id = p_organisation and token_id = p_token and revoked_at is null;
  return found;
end $$;
revoke all on function access.make_token(uuid, uuid, uuid, bytea, bytea, bytea, text, int), access.token_by_hash(bytea), access.tokens(uuid), access.revoke_token(uuid, uuid) from public;
grant execute on function access.make_token(uuid, uuid, uuid, bytea, bytea, bytea, text, int), access.token_by_hash(bytea), access.tokens(uuid), access.revoke_token(uuid, uuid) to counterfoil_service;
reset role;
