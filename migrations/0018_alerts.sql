-- Alerts: what an organisation's rules found in its log, and who was told.
set local role counterfoil_chat;

create table console.alert_cursor (
  organisation_id uuid not null references chat.organisation,
  next            bigint not null,
  decided_at      timestamptz,
  primary key (organisation_id)
);
comment on table  console.alert_cursor is 'How far the rules were held against the log.';
comment on column console.alert_cursor.organisation_id is 'Tenant.';
comment on column console.alert_cursor.next is 'The first record that they were not held against yet.';
comment on column console.alert_cursor.decided_at is 'When policy last let the watch read the log, which is on record and good for an hour.';

create table console.alert_rule (
  organisation_id uuid not null references chat.organisation,
  rule_id         uuid not null,
  kind            text not null,
  version         int not null,
  label           bytea,
  enabled         boolean not null,
  terms           jsonb not null,
  silenced_until  timestamptz,
  silenced_by     text,
  changed_at      timestamptz not null default now(),
  changed_by      text not null,
  removed_at      timestamptz,
  primary key (organisation_id, rule_id)
);
comment on table  console.alert_rule is 'Rules by which alerts are raised; of the built-in ones only those that were changed.';
comment on column console.alert_rule.organisation_id is 'Tenant.';
comment on column console.alert_rule.rule_id is 'Random id; of a built-in one made of its kind.';
comment on column console.alert_rule.kind is 'Which of the kinds that the program knows.';
comment on column console.alert_rule.version is 'Counts its changes.';
comment on column console.alert_rule.label is 'How an administrator calls it, sealed by the key-encryption key; null for a built-in one.';
comment on column console.alert_rule.enabled is 'Whether it is held against the log.';
comment on column console.alert_rule.terms is 'Its thresholds; people appear in them as references.';
comment on column console.alert_rule.silenced_until is 'Until when nobody is told of its alerts; null when it is not silenced.';
comment on column console.alert_rule.silenced_by is 'Keyed reference of who silenced it.';
comment on column console.alert_rule.changed_at is 'When it was last changed.';
comment on column console.alert_rule.changed_by is 'Keyed reference of who did.';
comment on column console.alert_rule.removed_at is 'When it was taken away; its alerts stay.';

create table console.alert (
  organisation_id uuid not null references chat.organisation,
  alert_id        uuid not null,
  rule_id         uuid not null,
  rule_version    int not null,
  kind            text not null,
  cause           text not null,
  terms           jsonb not null,
  numbers         jsonb not null,
  actor_kind      text not null,
  actor_ref       text not null,
  subject_kind    text not null,
  subject_ref     text not null,
  records         bigint[] not null check (cardinality(records) between 1 and 50),
  at              timestamptz not null,
  raised_at       timestamptz not null default now(),
  silenced        boolean not null,
  recorded        boolean not null default false,
  acked_at        timestamptz,
  acked_by        text,
  ack_reason      uuid,
  primary key (organisation_id, alert_id),
  constraint alert_once unique (organisation_id, rule_id, cause),
  constraint alert_acked check ((acked_at is null) = (acked_by is null) and (acked_at is null) = (ack_reason is null))
);
create index alert_open on console.alert (organisation_id, at desc, alert_id) where acked_at is null;
create index alert_newest on console.alert (organisation_id, at desc, alert_id);
create index alert_unrecorded on console.alert (organisation_id) where not recorded;
comment on table  console.alert is 'What a rule found, with all that says why: the rule as it stood, the numbers that were compared, the records.';
comment on column console.alert.organisation_id is 'Tenant.';
comment on column console.alert.alert_id is 'Made of rule and cause, so that the same is raised once.';
comment on column console.alert.rule_id is 'The rule.';
comment on column console.alert.rule_version is 'As it stood.';
comment on column console.alert.kind is 'Its kind.';
comment on column console.alert.cause is 'What made it, so that the same makes no other: references and counts.';
comment on column console.alert.terms is 'The thresholds as they stood.';
comment on column console.alert.numbers is 'What was compared with them.';
comment on column console.alert.actor_kind is 'Who made it, if that is one.';
comment on column console.alert.actor_ref is 'His keyed reference.';
comment on column console.alert.subject_kind is 'About whom, if that is one.';
comment on column console.alert.subject_ref is 'His keyed reference.';
comment on column console.alert.records is 'Numbers of the records that made it, the newest fifty.';
comment on column console.alert.at is 'Time of the record with which it was full.';
comment on column console.alert.raised_at is 'When it was raised.';
comment on column console.alert.silenced is 'Nobody was told, because its rule was silenced.';
comment on column console.alert.recorded is 'It stands in the log.';
comment on column console.alert.acked_at is 'When somebody acknowledged it.';
comment on column console.alert.acked_by is 'Keyed reference of who did.';
comment on column console.alert.ack_reason is 'The note he left.';

create table console.alert_receiver (
  organisation_id uuid not null references chat.organisation,
  receiver_id     uuid not null,
  kind            text not null check (kind in ('webhook', 'email')),
  target          bytea not null,
  secret          bytea,
  made_at         timestamptz not null default now(),
  made_by         text not null,
  removed_at      timestamptz,
  primary key (organisation_id, receiver_id)
);
comment on table  console.alert_receiver is 'Who is told of alerts.';
comment on column console.alert_receiver.organisation_id is 'Tenant.';
comment on column console.alert_receiver.receiver_id is 'Random id.';
comment on column console.alert_receiver.kind is 'webhook or email.';
comment on column console.alert_receiver.target is 'EUII address of a mailbox, or that of a webhook; sealed by the key-encryption key.';
comment on column console.alert_receiver.secret is 'What signs the messages to a webhook, sealed by the key-encryption key.';
comment on column console.alert_receiver.made_at is 'When it was made.';
comment on column console.alert_receiver.made_by is 'Keyed reference of who did.';
comment on column console.alert_receiver.removed_at is 'When it was taken away.';

create table console.alert_delivery (
  organisation_id uuid not null references chat.organisation,
  delivery_id     uuid not null,
  receiver_id     uuid not null,
  alerts          uuid[] not null check (cardinality(alerts) <= 50),
  state           text not null default 'waiting' check (state in ('waiting', 'sent', 'failed')),
  made_at         timestamptz not null default now(),
  due_at          timestamptz not null default now(),
  attempts        int not null default 0,
  tried_at        timestamptz,
  status          int not null default 0,
  error           text not null default '',
  primary key (organisation_id, delivery_id),
  foreign key (organisation_id, receiver_id) references console.alert_receiver
);
create index alert_delivery_due on console.alert_delivery (organisation_id, due_at) where state = 'waiting';
create index alert_delivery_newest on console.alert_delivery (organisation_id, made_at desc, delivery_id);
comment on table  console.alert_delivery is 'Messages about alerts, each with what became of it.';
comment on column console.alert_delivery.organisation_id is 'Tenant.';
comment on column console.alert_delivery.delivery_id is 'Random id, by which a receiver knows a repetition.';
comment on column console.alert_delivery.receiver_id is 'To whom.';
comment on column console.alert_delivery.alerts is 'Of which alerts; none when it is a trial.';
comment on column console.alert_delivery.state is 'waiting, sent, or failed for good.';
comment on column console.alert_delivery.made_at is 'When it was made.';
comment on column console.alert_delivery.due_at is 'When it is to be tried next.';
comment on column console.alert_delivery.attempts is 'How often it was tried.';
comment on column console.alert_delivery.tried_at is 'When last.';
comment on column console.alert_delivery.status is 'The status that the receiver answered with; 0 without an answer.';
comment on column console.alert_delivery.error is 'Why it was not taken, in words of ours.';

create table console.review (
  organisation_id uuid not null references chat.organisation,
  day             date not null,
  reviewed_at     timestamptz not null default now(),
  reviewed_by     text not null,
  open_alerts     int not null,
  reason_id       uuid not null,
  primary key (organisation_id, day)
);
comment on table  console.review is 'Days whose alerts somebody has looked through.';
comment on column console.review.organisation_id is 'Tenant.';
comment on column console.review.day is 'The day, UTC.';
comment on column console.review.reviewed_at is 'When he signed off.';
comment on column console.review.reviewed_by is 'Keyed reference of who did.';
comment on column console.review.open_alerts is 'Alerts of the day that were open then.';
comment on column console.review.reason_id is 'What he wrote.';

grant select, insert, update on console.alert_cursor, console.alert_rule, console.alert, console.alert_receiver, console.alert_delivery, console.review to counterfoil_access;
do $$
declare t text;
begin
  foreach t in array array['alert_cursor', 'alert_rule', 'alert', 'alert_receiver', 'alert_delivery', 'review'] loop
    execute format('alter table console.%I enable row level security', t);
    execute format('alter table console.%I force row level security', t);
    execute format('create policy owner on console.%I for select to counterfoil_chat using (true)', t);
    execute format('create policy own_organisation on console.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
reset role;

set local role counterfoil_access;

-- How far the rules were held against the log. The first time they begin with what is recorded from then on.
create function access.alert_cursor(p_organisation uuid, p_size bigint) returns table (next bigint, decided boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.alert_cursor as c (organisation_id, next) values (p_organisation, p_size) on conflict (organisation_id) do nothing;
  return query select c.next, coalesce(c.decided_at > now() - interval '1 hour', false) from console.alert_cursor c where c.organisation_id = p_organisation;
end $$;
create function access.alert_decided(p_organisation uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.alert_cursor set decided_at = now() where organisation_id = p_organisation;
end $$;
-- Raises what was found between two places, and asks for the messages about it, if nobody else came there first. Of one rule and cause there
-- is one alert.
create function access.raise_alerts(p_organisation uuid, p_from bigint, p_to bigint, p_alerts jsonb) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare told uuid[];
begin
  perform access.enter(p_organisation);
  update console.alert_cursor set next = p_to where organisation_id = p_organisation and next = p_from and p_to > p_from;
  if not found then return false; end if;
  with raised as (
    insert into console.alert (organisation_id, alert_id, rule_id, rule_version, kind, cause, terms, numbers, actor_kind, actor_ref, subject_kind, subject_ref, records, at, silenced)
      select p_organisation, (a->>'id')::uuid, (a->>'rule')::uuid, (a->>'version')::int, a->>'kind', a->>'cause', a->'terms', a->'numbers', a->>'actor_kind', a->>'actor', a->>'subject_kind', a->>'subject',
        array(select jsonb_array_elements_text(a->'records')::bigint), (a->>'at')::timestamptz,
        exists (select from console.alert_rule r where r.organisation_id = p_organisation and r.rule_id = (a->>'rule')::uuid and r.silenced_until > now())
      from jsonb_array_elements(p_alerts) a
      on conflict do nothing
      returning alert_id, at, silenced)
  select array_agg(alert_id order by at, alert_id) filter (where not silenced) into told from raised;
  insert into console.alert_delivery (organisation_id, delivery_id, receiver_id, alerts)
    select p_organisation, gen_random_uuid(), r.receiver_id, told[i : i + 49]
    from console.alert_receiver r, generate_series(1, coalesce(cardinality(told), 0), 50) i
    where r.organisation_id = p_organisation and r.removed_at is null;
  return true;
end $$;
create function access.alert_rules(p_organisation uuid) returns setof console.alert_rule
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select * from console.alert_rule r where r.organisation_id = p_organisation and r.removed_at is null order by r.kind, r.rule_id;
end $$;
create function access.put_alert_rule(p_organisation uuid, p_rule uuid, p_kind text, p_label bytea, p_enabled boolean, p_terms jsonb, p_by text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.alert_rule as r (organisation_id, rule_id, kind, version, label, enabled, terms, changed_by) values (p_organisation, p_rule, p_kind, 1, p_label, p_enabled, p_terms, p_by)
    on conflict (organisation_id, rule_id) do update set version = r.version + 1, label = excluded.label, enabled = excluded.enabled, terms = excluded.terms, changed_at = now(), changed_by = excluded.changed_by
      where r.removed_at is null;
end $$;
-- Silences a rule that is there, or that is given because it is built in and was never changed; without a time it is heard again.
create function access.silence_alert_rule(p_organisation uuid, p_rule uuid, p_kind text, p_enabled boolean, p_terms jsonb, p_until timestamptz, p_by text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.alert_rule as r (organisation_id, rule_id, kind, version, enabled, terms, changed_by, silenced_until, silenced_by) values (p_organisation, p_rule, p_kind, 0, p_enabled, p_terms, p_by, p_until, p_by)
    on conflict (organisation_id, rule_id) do update set silenced_until = excluded.silenced_until, silenced_by = excluded.silenced_by;
end $$;
create function access.remove_alert_rule(p_organisation uuid, p_rule uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.alert_rule set removed_at = now() where organisation_id = p_organisation and rule_id = p_rule and removed_at is null;
  return found;
end $$;
-- Alerts, newest first: open ones, acknowledged ones, or those that do not stand in the log yet.
create function access.alerts(p_organisation uuid, p_which text, p_alert uuid[], p_limit int) returns setof console.alert
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select * from console.alert a where a.organisation_id = p_organisation
    and case p_which when 'open' then a.acked_at is null when 'acknowledged' then a.acked_at is not null when 'unrecorded' then not a.recorded when 'these' then a.alert_id = any (p_alert) end
    order by a.at desc, a.alert_id limit p_limit;
end $$;
create function access.open_alerts(p_organisation uuid) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return (select count(*) from (select from console.alert a where a.organisation_id = p_organisation and a.acked_at is null limit 1000) a);
end $$;
create function access.alerts_recorded(p_organisation uuid, p_alerts uuid[]) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.alert set recorded = true where organisation_id = p_organisation and alert_id = any (p_alerts);
end $$;
create function access.acknowledge_alerts(p_organisation uuid, p_alerts uuid[], p_by text, p_reason uuid) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare n bigint;
begin
  perform access.enter(p_organisation);
  update console.alert set acked_at = now(), acked_by = p_by, ack_reason = p_reason where organisation_id = p_organisation and alert_id = any (p_alerts) and acked_at is null;
  get diagnostics n = row_count;
  return n;
end $$;
create function access.alert_receivers(p_organisation uuid) returns setof console.alert_receiver
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select * from console.alert_receiver r where r.organisation_id = p_organisation order by r.made_at, r.receiver_id;
end $$;
create function access.put_alert_receiver(p_organisation uuid, p_receiver uuid, p_kind text, p_target bytea, p_secret bytea, p_by text) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.alert_receiver (organisation_id, receiver_id, kind, target, secret, made_by) values (p_organisation, p_receiver, p_kind, p_target, p_secret, p_by);
end $$;
create function access.remove_alert_receiver(p_organisation uuid, p_receiver uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.alert_receiver set removed_at = now() where organisation_id = p_organisation and receiver_id = p_receiver and removed_at is null;
  if not found then return false; end if;
  update console.alert_delivery set state = 'failed', error = 'the receiver was taken away' where organisation_id = p_organisation and receiver_id = p_receiver and state = 'waiting';
  return true;
end $$;
create function access.try_alert_receiver(p_organisation uuid, p_receiver uuid, p_delivery uuid) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.alert_delivery (organisation_id, delivery_id, receiver_id, alerts) values (p_organisation, p_delivery, p_receiver, '{}');
end $$;
-- Messages: those that are due, the newest, or one.
create function access.alert_deliveries(p_organisation uuid, p_which text, p_delivery uuid, p_limit int) returns setof console.alert_delivery
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  if p_which = 'due' then
    return query select * from console.alert_delivery d where d.organisation_id = p_organisation and d.state = 'waiting' and d.due_at <= now() order by d.due_at limit p_limit;
  else
    return query select * from console.alert_delivery d where d.organisation_id = p_organisation and case p_which when 'newest' then true when 'this' then d.delivery_id = p_delivery end
      order by d.made_at desc, d.delivery_id limit p_limit;
  end if;
end $$;
create function access.note_alert_delivery(p_organisation uuid, p_delivery uuid, p_state text, p_status int, p_error text, p_seconds int) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  update console.alert_delivery set state = p_state, status = p_status, error = p_error, attempts = attempts + 1, tried_at = now(), due_at = now() + make_interval(secs => p_seconds)
    where organisation_id = p_organisation and delivery_id = p_delivery and state = 'waiting';
end $$;
create function access.reviews(p_organisation uuid, p_since date) returns setof console.review
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select * from console.review r where r.organisation_id = p_organisation and r.day >= p_since order by r.day desc;
end $$;
create function access.review_day(p_organisation uuid, p_day date, p_by text, p_reason uuid) returns boolean
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  insert into console.review (organisation_id, day, reviewed_by, open_alerts, reason_id)
    select p_organisation, p_day, p_by, (select count(*) from console.alert a where a.organisation_id = p_organisation and a.acked_at is null and a.at >= p_day::timestamp at time zone 'UTC'
      and a.at < (p_day + 1)::timestamp at time zone 'UTC'), p_reason
    on conflict do nothing;
  return found;
end $$;
do $$
declare f text;
begin
  foreach f in array array['alert_cursor(uuid, bigint)', 'alert_decided(uuid)', 'raise_alerts(uuid, bigint, bigint, jsonb)', 'alert_rules(uuid)', 'put_alert_rule(uuid, uuid, text, bytea, boolean, jsonb, text)',
    'silence_alert_rule(uuid, uuid, text, boolean, jsonb, timestamptz, text)', 'remove_alert_rule(uuid, uuid)', 'alerts(uuid, text, uuid[], int)', 'open_alerts(uuid)', 'alerts_recorded(uuid, uuid[])',
    'acknowledge_alerts(uuid, uuid[], text, uuid)', 'alert_receivers(uuid)', 'put_alert_receiver(uuid, uuid, text, bytea, bytea, text)', 'remove_alert_receiver(uuid, uuid)', 'try_alert_receiver(uuid, uuid, uuid)',
    'alert_deliveries(uuid, text, uuid, int)', 'note_alert_delivery(uuid, uuid, text, int, text, int)', 'reviews(uuid, date)', 'review_day(uuid, date, text, uuid)'] loop
    execute 'revoke all on function access.' || f || ' from public';
    execute 'grant execute on function access.' || f || ' to counterfoil_service';
  end loop;
end $$;
reset role;
