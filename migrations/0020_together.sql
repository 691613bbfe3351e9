-- What administrators do together: a policy is activated by two, everybody who may come in is reviewed, roles are changed, and the address of a
-- sign-in is kept sealed for as long as a session from there can last.
set local role counterfoil_euii;
alter table euii.value drop constraint value_field_check;
alter table euii.value add constraint value_field_check check (field in ('agent_display_name', 'agent_given_name', 'agent_surname', 'agent_email',
  'visitor_display_name', 'visitor_email', 'visitor_phone', 'visitor_answers', 'admin_address'));
reset role;

set local role counterfoil_chat;
alter table console.approval drop constraint approval_subject_kind_check;
alter table console.approval add constraint approval_subject_kind_check check (subject_kind in ('', 'agent', 'visitor', 'conversation'));
comment on column console.approval.subject_kind is 'Of a break-glass: agent, visitor or conversation.';

alter table chat.agent add column closed_at timestamptz;
comment on column chat.agent.closed_at is 'Since when he can join no conversation; null while he can.';

alter table console.admin add column enabled_at timestamptz;
comment on column console.admin.enabled_at is 'When he was last given back the right to sign in; from then on he counts as idle.';

create table console.policy_bundle (
  organisation_id uuid not null references chat.organisation,
  digest          text not null check (digest ~ '^[0-9a-f]{64}$'),
  bundle          bytea not null check (length(bundle) <= 16777216),
  kept_at         timestamptz not null default now(),
  primary key (organisation_id, digest),
  constraint policy_bundle_digest check (digest = encode(sha256(bundle), 'hex'))
);
comment on table  console.policy_bundle is 'Signed bundles that somebody wanted to be activated, so that every node and every start has them.';
comment on column console.policy_bundle.organisation_id is 'Tenant.';
comment on column console.policy_bundle.digest is 'SHA-256 of the bundle.';
comment on column console.policy_bundle.bundle is 'The bundle as it was signed, tar.gz.';
comment on column console.policy_bundle.kept_at is 'When it was first asked for.';

create table console.policy_choice (
  organisation_id uuid not null references chat.organisation,
  choice_id       uuid not null,
  chosen_at       timestamptz not null,
  act             text not null check (act in ('demand', 'activate', 'release')),
  digest          text not null,
  revision        text not null,
  chosen_by       uuid,
  approval_id     uuid,
  seal            text not null,
  primary key (organisation_id, choice_id),
  unique (organisation_id, chosen_at),
  foreign key (organisation_id, approval_id) references console.approval,
  constraint policy_choice_by_two check ((act = 'demand') = (approval_id is null) and (approval_id is null or chosen_by is not null))
);
comment on table  console.policy_choice is 'Which policy an organisation wants to be decided by, since it demands that two choose it. Rows are only added.';
comment on column console.policy_choice.organisation_id is 'Tenant.';
comment on column console.policy_choice.choice_id is 'Random id.';
comment on column console.policy_choice.chosen_at is 'When; later than every choice before.';
comment on column console.policy_choice.act is 'demand: from now on two choose, beginning with what decides. activate: this one. release: nobody has to be asked any more.';
comment on column console.policy_choice.digest is 'SHA-256 of the bundle; empty for the policy compiled in.';
comment on column console.policy_choice.revision is 'As records name it.';
comment on column console.policy_choice.chosen_by is 'The administrator; null for the host.';
comment on column console.policy_choice.approval_id is 'The consent of somebody else, which it used up.';
comment on column console.policy_choice.seal is 'Keyed reference of all that the row says. A row without the right one is as if it were not there.';

create table console.access_review (
  organisation_id uuid not null references chat.organisation,
  review_id       uuid not null,
  begun_by        uuid not null,
  begun_at        timestamptz not null default now(),
  due_at          timestamptz not null,
  ended_at        timestamptz,
  primary key (organisation_id, review_id),
  foreign key (organisation_id, begun_by) references console.admin
);
create unique index access_review_one_open on console.access_review (organisation_id) where ended_at is null;
comment on table  console.access_review is 'Reviews of who may come in: one at a time goes through everybody.';
comment on column console.access_review.organisation_id is 'Tenant.';
comment on column console.access_review.review_id is 'Random id.';
comment on column console.access_review.begun_by is 'The administrator who began it.';
comment on column console.access_review.begun_at is 'When.';
comment on column console.access_review.due_at is 'Until when it is to be done.';
comment on column console.access_review.ended_at is 'When the last entry was decided.';

create table console.access_review_entry (
  organisation_id uuid not null,
  review_id       uuid not null,
  entry_id        uuid not null,
  kind            text not null check (kind in ('admin', 'token', 'agent', 'auditor')),
  subject_id      uuid,
  login           text not null default '',
  owner_id        uuid,
  roles           text[] not null default '{}',
  since           timestamptz not null,
  used_at         timestamptz,
  ends_at         timestamptz,
  idle            boolean not null,
  decision        text check (decision in ('keep', 'revoke', 'change')),
  new_roles       text[],
  decided_by      uuid,
  decided_at      timestamptz,
  reason_id       uuid,
  primary key (organisation_id, review_id, entry_id),
  foreign key (organisation_id, review_id) references console.access_review,
  constraint access_review_entry_decided check ((decision is null) = (decided_by is null) and (decision is null) = (decided_at is null) and (decision is null) = (reason_id is null)),
  constraint access_review_entry_changed check ((decision is not distinct from 'change') = (new_roles is not null)),
  constraint access_review_entry_of_another check (decided_by is distinct from subject_id and (owner_id is null or decided_by is distinct from owner_id))
);
comment on table  console.access_review_entry is 'Who may come in, one by one, and what was decided about him. Nobody decides about himself or what he made.';
comment on column console.access_review_entry.organisation_id is 'Tenant.';
comment on column console.access_review_entry.review_id is 'The review.';
comment on column console.access_review_entry.entry_id is 'Random id.';
comment on column console.access_review_entry.kind is 'admin, token of a program, agent, or auditor with a login of the database.';
comment on column console.access_review_entry.subject_id is 'The administrator, token or agent.';
comment on column console.access_review_entry.login is 'Of an auditor: his login, which is no name.';
comment on column console.access_review_entry.owner_id is 'Of a token: who made it.';
comment on column console.access_review_entry.roles is 'Of an administrator: the roles he had.';
comment on column console.access_review_entry.since is 'Since when he may come in.';
comment on column console.access_review_entry.used_at is 'When he last did; null for never, and where nobody knows.';
comment on column console.access_review_entry.ends_at is 'Until when, where that is settled.';
comment on column console.access_review_entry.idle is 'He did not for more than ninety days.';
comment on column console.access_review_entry.decision is 'keep, revoke or change; null while open.';
comment on column console.access_review_entry.new_roles is 'Of a change: the roles from then on.';
comment on column console.access_review_entry.decided_by is 'Who decided.';
comment on column console.access_review_entry.decided_at is 'When.';
comment on column console.access_review_entry.reason_id is 'Why, in his words.';

create table console.seen_address (
  organisation_id uuid not null,
  admin_id        uuid not null,
  address_ref     text not null,
  address         bytea not null,
  seen_at         timestamptz not null default now(),
  primary key (organisation_id, admin_id, address_ref),
  foreign key (organisation_id, admin_id) references console.admin
);
comment on table  console.seen_address is 'From where administrators signed in within the last thirty days, so that a change of the allowlist that shuts one of them out takes two.';
comment on column console.seen_address.organisation_id is 'Tenant.';
comment on column console.seen_address.admin_id is 'Who signed in.';
comment on column console.seen_address.address_ref is 'Keyed reference of the address.';
comment on column console.seen_address.address is 'EUII address: sealed by the key-encryption key; opened to be compared with a network, never to be shown.';
comment on column console.seen_address.seen_at is 'When he last did.';

grant select, insert, update, delete on console.seen_address to counterfoil_access;
grant select, insert, delete on console.policy_bundle, console.policy_choice to counterfoil_access; -- whatever the console keeps goes with its organisation
grant select, insert, update, delete on console.access_review, console.access_review_entry to counterfoil_access;
do $$
declare t text;
begin
  foreach t in array array['policy_bundle','policy_choice','access_review','access_review_entry','seen_address'] loop
    execute format('alter table console.%I enable row level security', t);
    execute format('alter table console.%I force row level security', t);
    execute format('create policy owner on console.%I for select to counterfoil_chat using (true)', t);
    execute format('create policy own_organisation on console.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
create policy chosen_by_all on console.policy_choice for select to counterfoil_access using (true);
reset role;

set local role counterfoil_audit;
grant select on audit.auditor to counterfoil_access;
create policy own_organisation on audit.auditor for select to counterfoil_access using (organisation_id = access.organisation());
reset role;

set local role counterfoil_access;

-- Policy.
create function access.keep_bundle(p_organisation uuid, p_digest text, p_bundle bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.policy_bundle (organisation_id, digest, bundle) values (p_organisation, p_digest, p_bundle) on conflict (organisation_id, digest) do nothing;
end $$;
create function access.policy_bundle(p_organisation uuid, p_digest text) returns bytea
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return (select b.bundle from console.policy_bundle b where b.organisation_id = p_organisation and b.digest = p_digest);
end $$;
-- Of all organisations, since one policy decides for all.
create function access.policy_choices() returns setof console.policy_choice
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select c.* from console.policy_choice c order by c.organisation_id, c.chosen_at $$;
-- Adds a choice that is later than all before. A consent that it rests on is used up by it, in the same moment: of any number of requests one gets it.
create function access.choose_policy(p_organisation uuid, p_choice uuid, p_at timestamptz, p_act text, p_digest text, p_revision text, p_by uuid, p_approval uuid, p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.policy_choice ' || p_organisation::text, 0));
  if p_at > clock_timestamp() + interval '10 seconds' or p_digest <> '' and not exists (select from console.policy_bundle b where b.organisation_id = p_organisation and b.digest = p_digest)
    or exists (select from console.policy_choice c where c.organisation_id = p_organisation and c.chosen_at >= p_at) then return false; end if;
  if p_approval is not null then
    update console.approval a set ended_at = clock_timestamp()
      where a.organisation_id = p_organisation and a.approval_id = p_approval and a.kind = 'policy' and a.asked_by = p_by
        and a.decision = 'approved' and a.ended_at is null and a.ends_at > clock_timestamp();
    if not found then return false; end if;
  end if;
  insert into console.policy_choice (organisation_id, choice_id, chosen_at, act, digest, revision, chosen_by, approval_id, seal)
    values (p_organisation, p_choice, p_at, p_act, p_digest, p_revision, p_by, p_approval, p_seal);
  return true;
end $$;

-- Roles. One security administrator has to stay who can sign in, and nobody else's sessions outlive what he may do.
create function access.set_roles(p_organisation uuid, p_admin uuid, p_before text[], p_roles text[], p_seal text) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.admin ' || p_organisation::text, 0));
  if not 'security_admin' = any(p_roles) and not exists (select from console.admin a where a.organisation_id = p_organisation and a.admin_id <> p_admin
      and a.disabled_at is null and 'security_admin' = any(a.roles)) then return false; end if;
  update console.admin a set roles = p_roles, seal = p_seal
    where a.organisation_id = p_organisation and a.admin_id = p_admin and a.roles = p_before and a.roles <> p_roles;
  if not found then return false; end if;
  delete from console.session s where s.organisation_id = p_organisation and s.admin_id = p_admin;
  return true;
end $$;
create or replace function access.disable_admin(p_organisation uuid, p_admin uuid, p_disabled boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.admin ' || p_organisation::text, 0));
  if p_disabled and not exists (select from console.admin a where a.organisation_id = p_organisation and a.admin_id <> p_admin
      and a.disabled_at is null and 'security_admin' = any(a.roles)) then return false; end if;
  update console.admin a set disabled_at = case when p_disabled then clock_timestamp() end, enabled_at = case when p_disabled then a.enabled_at else clock_timestamp() end
    where a.organisation_id = p_organisation and a.admin_id = p_admin and (a.disabled_at is null) = p_disabled;
  if not found then return false; end if;
  delete from console.session s where s.organisation_id = p_organisation and s.admin_id = p_admin;
  return true;
end $$;
-- The one who has been idle longest and may be disabled without leaving nobody.
create function access.idle_admin(p_organisation uuid, p_days int) returns uuid
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return (select a.admin_id from console.admin a
    where a.organisation_id = p_organisation and a.disabled_at is null
      and greatest(a.created_at, a.signed_in_at, a.enabled_at) < clock_timestamp() - make_interval(days => p_days)
      and exists (select from console.admin o where o.organisation_id = p_organisation and o.admin_id <> a.admin_id and o.disabled_at is null and 'security_admin' = any(o.roles))
    order by coalesce(a.signed_in_at, a.created_at), a.admin_id limit 1);
end $$;

-- Agents.
create function access.close_agent(p_organisation uuid, p_agent uuid, p_closed boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update chat.agent a set closed_at = case when p_closed then clock_timestamp() end
    where a.organisation_id = p_organisation and a.agent_id = p_agent and (a.closed_at is null) = p_closed;
  return found;
end $$;

-- Reviews.
create function access.begin_access_review(p_organisation uuid, p_review uuid, p_by uuid, p_due_days int, p_idle_days int) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare clock timestamptz := clock_timestamp(); long_ago timestamptz := clock_timestamp() - make_interval(days => p_idle_days);
begin
  perform access.enter(p_organisation);
  insert into console.access_review (organisation_id, review_id, begun_by, due_at) values (p_organisation, p_review, p_by, clock + make_interval(days => p_due_days))
    on conflict do nothing;
  if not found then return false; end if;
  insert into console.access_review_entry (organisation_id, review_id, entry_id, kind, subject_id, roles, since, used_at, idle)
    select p_organisation, p_review, gen_random_uuid(), 'admin', a.admin_id, a.roles, a.created_at, a.signed_in_at, coalesce(a.signed_in_at, a.created_at) < long_ago
    from console.admin a where a.organisation_id = p_organisation and a.disabled_at is null;
  insert into console.access_review_entry (organisation_id, review_id, entry_id, kind, subject_id, owner_id, since, used_at, ends_at, idle)
    select p_organisation, p_review, gen_random_uuid(), 'token', t.token_id, t.admin_id, t.made_at, t.used_at, t.expires_at, coalesce(t.used_at, t.made_at) < long_ago
    from console.token t where t.organisation_id = p_organisation and t.revoked_at is null and t.expires_at > clock;
  insert into console.access_review_entry (organisation_id, review_id, entry_id, kind, subject_id, since, used_at, idle)
    select p_organisation, p_review, gen_random_uuid(), 'agent', a.agent_id, a.created_at, u.at, coalesce(u.at, a.created_at) < long_ago
    from chat.agent a left join lateral (select max(c.opened_at) as at from chat.conversation c where c.organisation_id = p_organisation and c.agent_id = a.agent_id) u on true
    where a.organisation_id = p_organisation and a.closed_at is null;
  insert into console.access_review_entry (organisation_id, review_id, entry_id, kind, login, since, ends_at, idle)
    select p_organisation, p_review, gen_random_uuid(), 'auditor', d.login::text, d.created_at, d.until, false
    from audit.auditor d where d.organisation_id = p_organisation and d.until > clock;
  return true;
end $$;
create function access.access_reviews(p_organisation uuid)
  returns table (review_id uuid, begun_by uuid, begun_at timestamptz, due_at timestamptz, ended_at timestamptz, entries bigint, open bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.review_id, r.begun_by, r.begun_at, r.due_at, r.ended_at, count(e.entry_id), count(e.entry_id) filter (where e.decision is null)
    from console.access_review r left join console.access_review_entry e on e.organisation_id = r.organisation_id and e.review_id = r.review_id
    where r.organisation_id = p_organisation group by r.organisation_id, r.review_id order by r.begun_at desc, r.review_id;
end $$;
create function access.access_review_entries(p_organisation uuid, p_review uuid)
  returns table (entry_id uuid, kind text, subject_id uuid, login text, owner_id uuid, roles text[], since timestamptz, used_at timestamptz, ends_at timestamptz, idle boolean,
    decision text, new_roles text[], decided_by uuid, decided_at timestamptz, reason_id uuid, stands boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select e.entry_id, e.kind, e.subject_id, e.login, e.owner_id, e.roles, e.since, e.used_at, e.ends_at, e.idle,
      e.decision, e.new_roles, e.decided_by, e.decided_at, e.reason_id,
      case e.kind when 'admin' then exists (select from console.admin a where a.organisation_id = p_organisation and a.admin_id = e.subject_id and a.disabled_at is null)
        when 'token' then exists (select from console.token t where t.organisation_id = p_organisation and t.token_id = e.subject_id and t.revoked_at is null and t.expires_at > clock_timestamp())
        when 'agent' then exists (select from chat.agent a where a.organisation_id = p_organisation and a.agent_id = e.subject_id and a.closed_at is null)
        else exists (select from audit.auditor d where d.organisation_id = p_organisation and d.login::text = e.login and d.until > clock_timestamp()) end
    from console.access_review_entry e where e.organisation_id = p_organisation and e.review_id = p_review order by e.kind, e.idle desc, e.since, e.entry_id;
end $$;
-- Decides what is open, once, and not about oneself, and does it in the same moment. What cannot be done is not decided. The last one ends the review.
create function access.decide_access_review(p_organisation uuid, p_review uuid, p_entry uuid, p_by uuid, p_decision text, p_roles text[], p_seal text, p_reason uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare e console.access_review_entry; done boolean := true;
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended('console.access_review ' || p_organisation::text, 0));
  select w.* into e from console.access_review_entry w
    where w.organisation_id = p_organisation and w.review_id = p_review and w.entry_id = p_entry and w.decision is null
      and w.subject_id is distinct from p_by and w.owner_id is distinct from p_by;
  if not found or p_decision = 'change' and e.kind <> 'admin' then return false; end if;
  if p_decision = 'change' then
    done := access.set_roles(p_organisation, e.subject_id, e.roles, p_roles, p_seal);
  elsif p_decision = 'revoke' and e.kind = 'admin' then
    done := access.disable_admin(p_organisation, e.subject_id, true)
      or exists (select from console.admin a where a.organisation_id = p_organisation and a.admin_id = e.subject_id and a.disabled_at is not null);
  elsif p_decision = 'revoke' and e.kind = 'token' then
    perform access.revoke_token(p_organisation, e.subject_id);
  elsif p_decision = 'revoke' and e.kind = 'agent' then
    perform access.close_agent(p_organisation, e.subject_id, true);
  end if;
  if not done then return false; end if;
  update console.access_review_entry w set decision = p_decision, new_roles = p_roles, decided_by = p_by, decided_at = clock_timestamp(), reason_id = p_reason
    where w.organisation_id = p_organisation and w.review_id = p_review and w.entry_id = p_entry;
  update console.access_review r set ended_at = clock_timestamp()
    where r.organisation_id = p_organisation and r.review_id = p_review and r.ended_at is null
      and not exists (select from console.access_review_entry w where w.organisation_id = p_organisation and w.review_id = p_review and w.decision is null);
  return true;
end $$;

-- The address of a sign-in, sealed; gone once no session from there can be open.
create function access.put_admin_address(p_organisation uuid, p_admin uuid, p_row uuid, p_ciphertext bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from euii.value v where v.organisation_id = p_organisation and v.field = 'admin_address' and v.created_at < clock_timestamp() - interval '12 hours';
  insert into euii.value (organisation_id, subject_id, row_id, field, ciphertext) values (p_organisation, p_admin, p_row, 'admin_address', p_ciphertext)
    on conflict (organisation_id, subject_id, row_id, field) do update set ciphertext = excluded.ciphertext, created_at = clock_timestamp();
end $$;

create function access.put_seen(p_organisation uuid, p_admin uuid, p_ref text, p_address bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  delete from console.seen_address s where s.organisation_id = p_organisation and s.seen_at < clock_timestamp() - interval '30 days';
  insert into console.seen_address (organisation_id, admin_id, address_ref, address) values (p_organisation, p_admin, p_ref, p_address)
    on conflict (organisation_id, admin_id, address_ref) do update set address = excluded.address, seen_at = clock_timestamp();
end $$;
create function access.seen(p_organisation uuid) returns table (admin_id uuid, address bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select s.admin_id, s.address from console.seen_address s join console.admin a on a.organisation_id = s.organisation_id and a.admin_id = s.admin_id
    where s.organisation_id = p_organisation and s.seen_at > clock_timestamp() - interval '30 days' and a.disabled_at is null;
end $$;

-- Uses up a recovery code of whoever is held back because others failed in his name; it counts for nothing else.
create function access.spend_recovery_code(p_organisation uuid, p_admin uuid, p_code_hash bytea) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.recovery_code c set used_at = clock_timestamp()
    where c.organisation_id = p_organisation and c.admin_id = p_admin and c.code_hash = p_code_hash and c.used_at is null;
  return found;
end $$;

revoke all on function access.keep_bundle(uuid, text, bytea), access.policy_bundle(uuid, text), access.policy_choices(),
  access.choose_policy(uuid, uuid, timestamptz, text, text, text, uuid, uuid, text), access.set_roles(uuid, uuid, text[], text[], text), access.idle_admin(uuid, int),
  access.close_agent(uuid, uuid, boolean), access.begin_access_review(uuid, uuid, uuid, int, int), access.access_reviews(uuid), access.access_review_entries(uuid, uuid),
  access.decide_access_review(uuid, uuid, uuid, uuid, text, text[], text, uuid), access.put_admin_address(uuid, uuid, uuid, bytea), access.put_seen(uuid, uuid, text, bytea), access.seen(uuid), access.spend_recovery_code(uuid, uuid, bytea) from public;
grant execute on function access.keep_bundle(uuid, text, bytea), access.policy_bundle(uuid, text), access.policy_choices(),
  access.choose_policy(uuid, uuid, timestamptz, text, text, text, uuid, uuid, text), access.set_roles(uuid, uuid, text[], text[], text), access.idle_admin(uuid, int),
  access.close_agent(uuid, uuid, boolean), access.begin_access_review(uuid, uuid, uuid, int, int), access.access_reviews(uuid), access.access_review_entries(uuid, uuid),
  access.decide_access_review(uuid, uuid, uuid, uuid, text, text[], text, uuid), access.put_admin_address(uuid, uuid, uuid, bytea), access.put_seen(uuid, uuid, text, bytea), access.seen(uuid), access.spend_recovery_code(uuid, uuid, bytea) to counterfoil_service;
reset role;
