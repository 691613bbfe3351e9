-- Roles belong to the whole server, schemas to this database. Owners cannot log in; no role that can log in owns
-- anything or is a member of an owner. Several databases of one server may be migrated at once, hence the blocks.
do $$
declare r text;
begin
  foreach r in array array['counterfoil_chat','counterfoil_euii','counterfoil_audit','counterfoil_access'] loop
    begin execute format('create role %I nologin', r); exception when duplicate_object or unique_violation then null; end;
  end loop;
  begin create role counterfoil_service login connection limit 100; exception when duplicate_object or unique_violation then null; end;
  begin create role counterfoil_retention login connection limit 4; exception when duplicate_object or unique_violation then null; end;
end $$;

revoke all on schema public from public;

create schema chat    authorization counterfoil_chat;
create schema euii    authorization counterfoil_euii;
create schema audit   authorization counterfoil_audit;
create schema access  authorization counterfoil_access;
create schema console authorization counterfoil_chat;
comment on schema chat    is 'Conversations, visitors, agents and deliveries, without any EUII in the clear.';
comment on schema euii    is 'Sealed EUII and wrapped keys. No role that can log in may read it.';
comment on schema audit   is 'The append-only log: entries as canonical bytes, tree, signed checkpoints.';
comment on schema access  is 'The functions that record disclosures and hand out ciphertext afterwards.';
comment on schema console is 'Administrators, their sessions and what the audit console keeps.';

grant usage on schema chat, access to counterfoil_service;
grant usage on schema access to counterfoil_retention;
grant usage on schema chat, euii, audit to counterfoil_access;

-- The organisation of the running transaction. Row level security compares every row with it; unset means no row.
create function access.organisation() returns uuid language sql stable
  set search_path = pg_catalog, pg_temp
  as $$ select nullif(current_setting('counterfoil.organisation', true), '')::uuid $$;
alter function access.organisation() owner to counterfoil_access;
grant usage on schema access to counterfoil_chat, counterfoil_euii, counterfoil_audit;
