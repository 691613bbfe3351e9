-- What people ask about their own data changes what cards in Teams show, is asked once however often it arrives, and is found by the email of who wrote.
set local role counterfoil_chat;
alter table chat.outbox drop constraint outbox_kind_check;
alter table chat.outbox add constraint outbox_kind_check check (kind in ('card.post', 'card.update', 'intro', 'intro.update', 'say', 'closed', 'left', 'doubt'));
grant insert on chat.outbox to counterfoil_access;
reset role;

set local role counterfoil_euii;
alter table euii.value add column blind_index bytea;
create index value_found on euii.value (organisation_id, blind_index) where blind_index is not null;
comment on column euii.value.blind_index is 'EUII visitor_email: HMAC-SHA-256 under a key of the organisation, by which who writes a letter is found; null of other fields. It goes with the value.';
reset role;

set local role counterfoil_access;

-- The cards that show a person are shown anew: what they show was corrected, restricted or taken out.
create function access.show_anew(p_organisation uuid, p_subject uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into chat.outbox (organisation_id, conversation_id, lane, kind, seq, agent_id)
    select p_organisation, c.conversation_id, c.lane, c.kind, c.last_seq, c.receiver from (
      select v.conversation_id, 'personal' as lane, 'intro.update' as kind, v.last_seq, v.agent_id as receiver from chat.conversation v
        where v.organisation_id = p_organisation and v.visitor_id = p_subject and v.state = 'active'
      union all
      select w.conversation_id, 'card', 'card.update', w.last_seq, null from chat.conversation w
        where w.organisation_id = p_organisation and w.visitor_id = p_subject and w.state = 'waiting'
      union all
      select a.conversation_id, 'card', 'card.update', a.last_seq, null from chat.conversation a
        where a.organisation_id = p_organisation and a.agent_id = p_subject and a.state = 'active') c
    where not exists (select from chat.outbox o where o.organisation_id = p_organisation and o.conversation_id = c.conversation_id and o.lane = c.lane and o.kind = c.kind and o.state = 'waiting');
end $$;

create or replace function access.drop_values(p_organisation uuid, p_subject uuid, p_field text) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  delete from euii.value v where v.organisation_id = p_organisation and v.subject_id = p_subject and v.field = p_field;
  get diagnostics n = row_count;
  perform access.show_anew(p_organisation, p_subject);
  return n;
end $$;
create or replace function access.restrict(p_organisation uuid, p_subject uuid, p_on boolean) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare changed boolean;
begin
  perform access.enter(p_organisation);
  if p_on then
    insert into euii.restriction (organisation_id, subject_id) values (p_organisation, p_subject) on conflict do nothing;
  else
    delete from euii.restriction r where r.organisation_id = p_organisation and r.subject_id = p_subject;
  end if;
  changed := found;
  if changed then perform access.show_anew(p_organisation, p_subject); end if;
  return changed;
end $$;

-- Keeps a request, and gives its id: that of an open one of the same kind and person, if there is one. Of two that arrive at once one waits.
drop function access.open_request(uuid, uuid, text, text, uuid, text, text, text, timestamptz, text, uuid);
create function access.open_request(p_organisation uuid, p_id uuid, p_kind text, p_subject_kind text, p_subject uuid, p_source text, p_identified text, p_language text,
    p_received timestamptz, p_by text, p_reason uuid) returns uuid
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare before uuid;
begin
  perform access.enter(p_organisation);
  perform pg_advisory_xact_lock(hashtextextended(p_organisation::text || p_subject::text || p_kind, 25));
  select r.request_id into before from chat.request r where r.organisation_id = p_organisation and r.subject_id = p_subject and r.kind = p_kind and r.state = 'open' limit 1;
  if found then return before; end if;
  insert into chat.request (organisation_id, request_id, kind, subject_kind, subject_id, source, identified, language, received_at, due_at)
    values (p_organisation, p_id, p_kind, p_subject_kind, p_subject, p_source, p_identified, p_language, p_received, p_received + interval '30 days');
  insert into chat.request_step (organisation_id, request_id, step, action, by_ref, reason_id) values (p_organisation, p_id, 1, 'received', p_by, p_reason);
  return p_id;
end $$;

-- What is written over a value has no index until it is given one.
create or replace function access.put_value(p_organisation uuid, p_subject uuid, p_row uuid, p_field text, p_ciphertext bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into euii.value (organisation_id, subject_id, row_id, field, ciphertext) values (p_organisation, p_subject, p_row, p_field, p_ciphertext)
    on conflict (organisation_id, subject_id, row_id, field) do update set ciphertext = excluded.ciphertext, created_at = now(), blind_index = null;
end $$;
create function access.put_index(p_organisation uuid, p_subject uuid, p_row uuid, p_field text, p_index bytea) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update euii.value v set blind_index = p_index where v.organisation_id = p_organisation and v.subject_id = p_subject and v.row_id = p_row and v.field = p_field;
end $$;
-- Whose value has an index, the newest first.
create function access.found_by(p_organisation uuid, p_field text, p_index bytea, p_limit int) returns table (subject_id uuid, created_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select v.subject_id, max(v.created_at) from euii.value v where v.organisation_id = p_organisation and v.blind_index = p_index and v.field = p_field
    group by v.subject_id order by 2 desc, 1 limit p_limit;
end $$;

do $$
declare f text;
begin
  foreach f in array array['show_anew(uuid, uuid)', 'open_request(uuid, uuid, text, text, uuid, text, text, text, timestamptz, text, uuid)',
      'put_index(uuid, uuid, uuid, text, bytea)', 'found_by(uuid, text, bytea, int)'] loop
    execute format('revoke all on function access.%s from public', f);
    execute format('grant execute on function access.%s to counterfoil_service', f);
  end loop;
end $$;
reset role;
