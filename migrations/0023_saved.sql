-- Searches of the log that an administrator keeps, for himself or for everybody.
set local role counterfoil_chat;
create table console.saved (
  organisation_id uuid not null references chat.organisation,
  saved_id        uuid not null,
  admin_id        uuid not null,
  shared          boolean not null,
  content         bytea not null,
  made_at         timestamptz not null default now(),
  primary key (organisation_id, saved_id),
  foreign key (organisation_id, admin_id) references console.admin
);
create index saved_of_admin on console.saved (organisation_id, admin_id);
comment on table  console.saved is 'Searches that administrators keep.';
comment on column console.saved.organisation_id is 'Tenant.';
comment on column console.saved.saved_id is 'Random id.';
comment on column console.saved.admin_id is 'Whose it is.';
comment on column console.saved.shared is 'Whether the others see it. Says where to look; what counts is in the content.';
comment on column console.saved.content is 'Name, description, filter with references, and whether it is shared, sealed by the key-encryption key.';
comment on column console.saved.made_at is 'When it was made.';
grant select, insert, update, delete on console.saved to counterfoil_access;
alter table console.saved enable row level security;
alter table console.saved force row level security;
create policy own_organisation on console.saved to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation());
create policy owner on console.saved for select to counterfoil_chat using (true);
reset role;

set local role counterfoil_access;
-- Keeps a search, or changes one's own; says whether it did. Nobody has more than a hundred.
create function access.save_search(p_organisation uuid, p_saved uuid, p_admin uuid, p_shared boolean, p_content bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.saved s set shared = p_shared, content = p_content where s.organisation_id = p_organisation and s.saved_id = p_saved and s.admin_id = p_admin;
  if found then return true; end if;
  if exists (select from console.saved s where s.organisation_id = p_organisation and s.saved_id = p_saved)
    or (select count(*) from console.saved s where s.organisation_id = p_organisation and s.admin_id = p_admin) >= 100 then
    return false;
  end if;
  insert into console.saved (organisation_id, saved_id, admin_id, shared, content) values (p_organisation, p_saved, p_admin, p_shared, p_content);
  return true;
end $$;
-- Somebody's own searches and those that are shared; without anybody, those that are shared.
create function access.saved_searches(p_organisation uuid, p_admin uuid) returns table (saved_id uuid, admin_id uuid, content bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select s.saved_id, s.admin_id, s.content from console.saved s where s.organisation_id = p_organisation and (s.shared or s.admin_id = p_admin) order by s.made_at, s.saved_id;
end $$;
create function access.drop_search(p_organisation uuid, p_saved uuid, p_admin uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.saved s where s.organisation_id = p_organisation and s.saved_id = p_saved and s.admin_id = p_admin;
  return found;
end $$;
revoke all on function access.save_search(uuid, uuid, uuid, boolean, bytea), access.saved_searches(uuid, uuid), access.drop_search(uuid, uuid, uuid) from public;
grant execute on function access.save_search(uuid, uuid, uuid, boolean, bytea), access.saved_searches(uuid, uuid), access.drop_search(uuid, uuid, uuid) to counterfoil_service;
reset role;
