-- Notices for visitors and agents, and the requests of those whom data is about.
set local role counterfoil_chat;

create table chat.notice (
  organisation_id uuid not null references chat.organisation,
  audience        text not null check (audience in ('visitor', 'agent')),
  version         int not null check (version > 1),
  language        text not null check (language in ('en', 'fr')),
  text            text not null check (length(text) between 1 and 4000),
  published_at    timestamptz,
  primary key (organisation_id, audience, version, language)
);
comment on table  chat.notice is 'What visitors and agents are told before they take part, in the organisation''s own words. Version 1 is the product''s and is in force until another is published. A published one never changes.';
comment on column chat.notice.organisation_id is 'Tenant.';
comment on column chat.notice.audience is 'Who reads and accepts it: visitor or agent.';
comment on column chat.notice.version is 'From 2 on; the highest published one is in force.';
comment on column chat.notice.language is 'Language of the text.';
comment on column chat.notice.text is 'Paragraphs apart by an empty line; the first line of a paragraph with more than one is its heading. It is about nobody.';
comment on column chat.notice.published_at is 'Since when it is in force; null while it is a draft.';

create table chat.acceptance (
  organisation_id uuid not null references chat.organisation,
  audience        text not null check (audience in ('visitor', 'agent')),
  person_ref      text not null,
  version         int not null check (version > 0),
  language        text not null check (language in ('en', 'fr')),
  accepted_at     timestamptz not null default now(),
  primary key (organisation_id, audience, person_ref, version)
);
comment on table  chat.acceptance is 'Who accepted which version of a notice. The log has a record of each.';
comment on column chat.acceptance.organisation_id is 'Tenant.';
comment on column chat.acceptance.audience is 'As a visitor or as an agent.';
comment on column chat.acceptance.person_ref is 'Keyed reference of the visitor, or of the directory id of the agent, who may have no profile yet.';
comment on column chat.acceptance.version is 'Version of the notice.';
comment on column chat.acceptance.language is 'Language he read it in.';
comment on column chat.acceptance.accepted_at is 'When.';

alter table chat.conversation add column claim_ends timestamptz;
comment on column chat.conversation.claim_ends is 'When the claim lapses; later while the agent who claims it reads the notice.';

create function chat.keep_published() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if old.published_at is not null then
    raise exception 'a published notice never changes' using errcode = 'integrity_constraint_violation';
  end if;
  return new;
end $$;
create trigger notice_is_kept before update on chat.notice for each row execute function chat.keep_published();
revoke all on function chat.keep_published() from public;

grant select, insert, update on chat.notice to counterfoil_service;
grant select, insert on chat.acceptance to counterfoil_service;

create table chat.request (
  organisation_id uuid not null references chat.organisation,
  request_id      uuid not null,
  kind            text not null check (kind in ('access', 'portability', 'rectification', 'restriction', 'objection', 'erasure')),
  subject_kind    text not null check (subject_kind in ('agent', 'visitor')),
  subject_id      uuid not null,
  source          text not null check (source in ('widget', 'teams', 'letter', 'mail', 'other')),
  state           text not null default 'open' check (state in ('open', 'answered', 'refused', 'withdrawn')),
  identified      text not null default '' check (identified in ('', 'token', 'teams', 'document', 'correspondence')),
  language        text not null default 'en' check (language in ('en', 'fr')),
  received_at     timestamptz not null,
  due_at          timestamptz not null,
  extended_at     timestamptz,
  closed_at       timestamptz,
  primary key (organisation_id, request_id),
  constraint request_closed check ((state = 'open') = (closed_at is null)),
  constraint request_due check (due_at <= received_at + interval '92 days')
);
create index request_open on chat.request (organisation_id, due_at) where state = 'open';
create index request_newest on chat.request (organisation_id, received_at desc, request_id);
create index request_subject on chat.request (organisation_id, subject_id);
comment on table  chat.request is 'What a person asked about the data that is kept of him, with the time by which he has to be answered.';
comment on column chat.request.organisation_id is 'Tenant.';
comment on column chat.request.request_id is 'Random id.';
comment on column chat.request.kind is 'What is asked: access, portability, rectification, restriction, objection or erasure.';
comment on column chat.request.subject_kind is 'What he is here: agent or visitor.';
comment on column chat.request.subject_id is 'Who asks, or on whose behalf it is asked.';
comment on column chat.request.source is 'How it came.';
comment on column chat.request.state is 'open, answered, refused or withdrawn.';
comment on column chat.request.identified is 'How it was established that he is the one: his session''s token, his account in Teams, a document, earlier correspondence; empty while it was not.';
comment on column chat.request.language is 'Language of the answer.';
comment on column chat.request.received_at is 'When it came; the time to answer begins.';
comment on column chat.request.due_at is 'By when he has to be answered: 30 days, or 90 when extended.';
comment on column chat.request.extended_at is 'When the time was extended, once.';
comment on column chat.request.closed_at is 'When it was answered, refused or withdrawn.';

create table chat.request_step (
  organisation_id uuid not null,
  request_id      uuid not null,
  step            int not null,
  action          text not null check (action in ('received', 'identified', 'extended', 'answered', 'refused', 'withdrawn', 'restricted', 'lifted', 'corrected', 'erased', 'file')),
  by_ref          text not null,
  reason_id       uuid,
  at              timestamptz not null default now(),
  primary key (organisation_id, request_id, step),
  foreign key (organisation_id, request_id) references chat.request
);
comment on table  chat.request_step is 'What was done about a request, in order. Each is a record of the log too.';
comment on column chat.request_step.organisation_id is 'Tenant.';
comment on column chat.request_step.request_id is 'Request.';
comment on column chat.request_step.step is 'Number, from 1.';
comment on column chat.request_step.action is 'What was done.';
comment on column chat.request_step.by_ref is 'Kind and keyed reference of who did it.';
comment on column chat.request_step.reason_id is 'What he wrote about it, sealed in console.reason; null for nothing.';
comment on column chat.request_step.at is 'When.';

create table chat.download (
  organisation_id uuid not null references chat.organisation,
  token_hash      bytea not null unique check (length(token_hash) = 32),
  subject_kind    text not null check (subject_kind in ('agent', 'visitor')),
  subject_id      uuid not null,
  language        text not null check (language in ('en', 'fr')),
  expires_at      timestamptz not null,
  primary key (organisation_id, token_hash)
);
comment on table  chat.download is 'Links by which a person gets his own data, each once and for some minutes. A row goes when its link is used.';
comment on column chat.download.organisation_id is 'Tenant.';
comment on column chat.download.token_hash is 'SHA-256 of the token, which has 256 random bits and is not kept.';
comment on column chat.download.subject_kind is 'What he is here: agent or visitor.';
comment on column chat.download.subject_id is 'Whose data it leads to.';
comment on column chat.download.language is 'Language in which he reads it.';
comment on column chat.download.expires_at is 'End.';

grant select, insert, update, delete on chat.request, chat.request_step to counterfoil_access;
grant select, insert, delete on chat.download to counterfoil_access;
grant select, delete on chat.notice, chat.acceptance to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['notice','acceptance','request','request_step','download'] loop
    execute format('alter table chat.%I enable row level security', t);
    execute format('alter table chat.%I force row level security', t);
    execute format('create policy owner on chat.%I for select to counterfoil_chat using (true)', t);
  end loop;
  foreach t in array array['notice','acceptance'] loop
    execute format('create policy own_organisation on chat.%I to counterfoil_service using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
  foreach t in array array['notice','acceptance'] loop
    execute format('create policy functions on chat.%I to counterfoil_access using (organisation_id = access.organisation())', t);
  end loop;
  foreach t in array array['request','request_step','download'] loop
    execute format('create policy own_organisation on chat.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
create policy found_by_token on chat.download for select to counterfoil_access using (true);
reset role;

set local role counterfoil_euii;
create table euii.restriction (
  organisation_id uuid not null,
  subject_id      uuid not null,
  since           timestamptz not null default now(),
  primary key (organisation_id, subject_id)
);
comment on table  euii.restriction is 'Whose data may be kept and shown to nobody but himself, until it is lifted.';
comment on column euii.restriction.organisation_id is 'Tenant.';
comment on column euii.restriction.subject_id is 'Agent or visitor.';
comment on column euii.restriction.since is 'Since when.';
grant select, insert, delete on euii.restriction to counterfoil_access;
grant delete on euii.value to counterfoil_access;
alter table euii.restriction enable row level security;
alter table euii.restriction force row level security;
create policy own_organisation on euii.restriction to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation());
reset role;

set local role counterfoil_access;

create function access.restricted(p_organisation uuid) returns table (subject_id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.subject_id from euii.restriction r where r.organisation_id = p_organisation;
end $$;
create function access.restrict(p_organisation uuid, p_subject uuid, p_on boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  if p_on then
    insert into euii.restriction (organisation_id, subject_id) values (p_organisation, p_subject) on conflict do nothing;
  else
    delete from euii.restriction r where r.organisation_id = p_organisation and r.subject_id = p_subject;
  end if;
  return found;
end $$;

-- Which values of a person lie where, and since when; never the values.
create function access.kept_values(p_organisation uuid, p_subject uuid) returns table (row_id uuid, field text, created_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return query select v.row_id, v.field, v.created_at from euii.value v where v.organisation_id = p_organisation and v.subject_id = p_subject order by v.created_at, v.row_id, v.field;
end $$;

-- Puts a corrected value everywhere the old one lies, or takes it out where it is to be nothing. A value is bound to its place, so each has a ciphertext of its own.
create function access.drop_values(p_organisation uuid, p_subject uuid, p_field text) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  delete from euii.value v where v.organisation_id = p_organisation and v.subject_id = p_subject and v.field = p_field;
  get diagnostics n = row_count;
  return n;
end $$;

create function access.open_request(p_organisation uuid, p_id uuid, p_kind text, p_subject_kind text, p_subject uuid, p_source text, p_identified text, p_language text,
    p_received timestamptz, p_by text, p_reason uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into chat.request (organisation_id, request_id, kind, subject_kind, subject_id, source, identified, language, received_at, due_at)
    values (p_organisation, p_id, p_kind, p_subject_kind, p_subject, p_source, p_identified, p_language, p_received, p_received + interval '30 days');
  insert into chat.request_step (organisation_id, request_id, step, action, by_ref, reason_id) values (p_organisation, p_id, 1, 'received', p_by, p_reason);
end $$;

-- Carries a request on, if it is open: what closes it or gives it more time does so once.
create function access.step_request(p_organisation uuid, p_id uuid, p_action text, p_identified text, p_by text, p_reason uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update chat.request r set
      state = case when p_action in ('answered', 'refused', 'withdrawn') then p_action else r.state end,
      closed_at = case when p_action in ('answered', 'refused', 'withdrawn') then now() end,
      identified = case when p_action = 'identified' then p_identified else r.identified end,
      extended_at = case when p_action = 'extended' then now() else r.extended_at end,
      due_at = case when p_action = 'extended' then r.received_at + interval '90 days' else r.due_at end
    where r.organisation_id = p_organisation and r.request_id = p_id and r.state = 'open' and (p_action <> 'extended' or r.extended_at is null and r.due_at >= now());
  if not found then return false; end if;
  insert into chat.request_step (organisation_id, request_id, step, action, by_ref, reason_id)
    select p_organisation, p_id, max(s.step) + 1, p_action, p_by, p_reason from chat.request_step s where s.organisation_id = p_organisation and s.request_id = p_id;
  return true;
end $$;

-- Requests: what is open first, by when it is due, then the newest. One of them, or those of a person, where asked for.
create function access.requests(p_organisation uuid, p_id uuid, p_subject uuid, p_limit int)
  returns table (request_id uuid, kind text, subject_kind text, subject_id uuid, source text, state text, identified text, language text,
    received_at timestamptz, due_at timestamptz, extended_at timestamptz, closed_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.request_id, r.kind, r.subject_kind, r.subject_id, r.source, r.state, r.identified, r.language, r.received_at, r.due_at, r.extended_at, r.closed_at
    from chat.request r where r.organisation_id = p_organisation and (p_id is null or r.request_id = p_id) and (p_subject is null or r.subject_id = p_subject)
    order by r.state <> 'open', case when r.state = 'open' then r.due_at end, r.received_at desc, r.request_id limit p_limit;
end $$;
create function access.request_steps(p_organisation uuid, p_id uuid) returns table (action text, by_ref text, reason_id uuid, at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select s.action, s.by_ref, s.reason_id, s.at from chat.request_step s where s.organisation_id = p_organisation and s.request_id = p_id order by s.step;
end $$;

-- The conversations of a visitor, or those an agent joined, from a place on; they are many for an agent.
create function access.conversations_of(p_organisation uuid, p_kind text, p_subject uuid, p_after uuid, p_limit int) returns table (conversation_id uuid)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select c.conversation_id from chat.conversation c where c.organisation_id = p_organisation and c.conversation_id > p_after
    and (p_kind = 'visitor' and c.visitor_id = p_subject or p_kind = 'agent' and c.agent_id = p_subject) order by c.conversation_id limit p_limit;
end $$;

create function access.put_download(p_organisation uuid, p_hash bytea, p_kind text, p_subject uuid, p_language text, p_seconds int) returns timestamptz
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare ends timestamptz := now() + make_interval(secs => least(p_seconds, 900));
begin
  perform access.enter(p_organisation);
  delete from chat.download d where d.organisation_id = p_organisation and d.expires_at < now();
  insert into chat.download (organisation_id, token_hash, subject_kind, subject_id, language, expires_at) values (p_organisation, p_hash, p_kind, p_subject, p_language, ends);
  return ends;
end $$;
-- Looks at a link, or uses it up: then it is gone, whoever else asks at the same time.
create function access.download(p_hash bytea, p_use boolean, out organisation_id uuid, out subject_kind text, out subject_id uuid, out language text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  select d.organisation_id, d.subject_kind, d.subject_id, d.language into organisation_id, subject_kind, subject_id, language
    from chat.download d where d.token_hash = p_hash and d.expires_at > clock_timestamp();
  if not found or not p_use then return; end if;
  perform access.enter(organisation_id);
  delete from chat.download d where d.token_hash = p_hash;
  if not found then
    organisation_id := null; subject_kind := null; subject_id := null; language := null;
  end if;
end $$;

-- Who is erased leaves no link to his data and no restriction of it. What he asked stays without him: that it was answered has to be shown.
create function access.forget_person() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from chat.download d where d.organisation_id = new.organisation_id and d.subject_id = new.key_id;
  delete from euii.restriction r where r.organisation_id = new.organisation_id and r.subject_id = new.key_id;
  return null;
end $$;
-- An organisation that is erased leaves neither notices nor requests.
create function access.forget_requests() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  delete from chat.request_step s where s.organisation_id = new.organisation_id;
  delete from chat.request r where r.organisation_id = new.organisation_id;
  delete from chat.download d where d.organisation_id = new.organisation_id;
  delete from chat.acceptance a where a.organisation_id = new.organisation_id;
  delete from chat.notice n where n.organisation_id = new.organisation_id;
  return null;
end $$;
revoke all on function access.forget_person(), access.forget_requests() from public;
grant execute on function access.forget_person() to counterfoil_euii;
grant execute on function access.forget_requests() to counterfoil_chat;

do $$
declare f text;
begin
  foreach f in array array['restricted(uuid)', 'restrict(uuid, uuid, boolean)', 'kept_values(uuid, uuid)', 'drop_values(uuid, uuid, text)',
      'open_request(uuid, uuid, text, text, uuid, text, text, text, timestamptz, text, uuid)', 'step_request(uuid, uuid, text, text, text, uuid)',
      'requests(uuid, uuid, uuid, int)', 'request_steps(uuid, uuid)', 'conversations_of(uuid, text, uuid, uuid, int)',
      'put_download(uuid, bytea, text, uuid, text, int)', 'download(bytea, boolean)'] loop
    execute format('revoke all on function access.%s from public', f);
    execute format('grant execute on function access.%s to counterfoil_service', f);
  end loop;
end $$;
reset role;
set local role counterfoil_euii;
create trigger person_is_forgotten after update on euii.key for each row when (new.wrapped is null and old.wrapped is not null) execute function access.forget_person();
reset role;
set local role counterfoil_chat;
create trigger requests_are_forgotten after update on chat.organisation for each row when (new.erased_at is not null and old.erased_at is null) execute function access.forget_requests();
reset role;
