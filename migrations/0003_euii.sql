set local role counterfoil_euii;

create table euii.key (
  organisation_id uuid not null,
  key_id          uuid not null,
  kind            text not null check (kind in ('organisation', 'agent', 'visitor', 'conversation')),
  wrapped         bytea,
  created_at      timestamptz not null default now(),
  destroyed_at    timestamptz,
  primary key (organisation_id, key_id),
  constraint key_destroyed_or_present check ((wrapped is null) = (destroyed_at is not null))
);
comment on table  euii.key is 'One key per subject, conversation and organisation, wrapped by a key that is not in this database.';
comment on column euii.key.organisation_id is 'Tenant.';
comment on column euii.key.key_id is 'Id of the subject, conversation or organisation.';
comment on column euii.key.kind is 'Whose key it is.';
comment on column euii.key.wrapped is 'The wrapped key; null once destroyed, which erases all that was sealed under it.';
comment on column euii.key.created_at is 'When it was made.';
comment on column euii.key.destroyed_at is 'When it was destroyed.';

create table euii.value (
  organisation_id uuid not null,
  subject_id      uuid not null,
  row_id          uuid not null,
  field           text not null check (field in ('agent_display_name', 'agent_given_name', 'agent_surname', 'agent_email',
                    'visitor_display_name', 'visitor_email', 'visitor_phone', 'visitor_answers')),
  ciphertext      bytea not null,
  created_at      timestamptz not null default now(),
  primary key (organisation_id, subject_id, row_id, field)
);
comment on table  euii.value is 'Sealed names, emails and answers.';
comment on column euii.value.organisation_id is 'Tenant.';
comment on column euii.value.subject_id is 'Whom it is about.';
comment on column euii.value.row_id is 'The subject''s own profile, or the conversation in whose history it lies.';
comment on column euii.value.field is 'Which field.';
comment on column euii.value.ciphertext is 'EUII of the named field: AES-256-GCM, bound to organisation, subject, row and field.';
comment on column euii.value.created_at is 'When it was collected.';

create table euii.lookup (
  organisation_id uuid not null,
  field           text not null,
  blind_index     bytea not null,
  subject_id      uuid not null,
  primary key (organisation_id, field, blind_index)
);
comment on table  euii.lookup is 'Finds a subject by a keyed hash of a value.';
comment on column euii.lookup.organisation_id is 'Tenant.';
comment on column euii.lookup.field is 'Which field was hashed.';
comment on column euii.lookup.blind_index is 'EUII agent_email: HMAC-SHA-256 under a key of the organisation.';
comment on column euii.lookup.subject_id is 'Whom it finds.';

grant select, insert on euii.key to counterfoil_access;
grant select, insert, update on euii.value to counterfoil_access;
grant select, insert, update on euii.lookup to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['key','value','lookup'] loop
    execute format('alter table euii.%I enable row level security', t);
    execute format('alter table euii.%I force row level security', t);
    execute format('create policy own_organisation on euii.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
reset role;
