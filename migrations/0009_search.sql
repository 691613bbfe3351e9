set local role counterfoil_access;

-- What narrows a search, as conditions on audit.search s. Columns are from a closed list and values are parameters: the n-th one
-- is $4[n]. What the partial indexes are made for stands there as a constant, or no plan could use them.
create function access.log_terms(p_column text[], p_value text[], p_wanted boolean[]) returns text language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare conditions text := ''; c text;
begin
  for i in 1 .. coalesce(cardinality(p_column), 0) loop
    c := case p_column[i] when 'kind' then 'kind' when 'action' then 'action' when 'decision' then 'decision' when 'actor' then 'actor_ref' when 'subject' then 'subject_ref'
      when 'conversation' then 'conversation_ref' when 'address' then 'address_ref' when 'network' then 'address_net' end;
    if c is null or p_value[i] is null or p_wanted[i] is null then
      raise exception 'records are not searched by this' using errcode = 'invalid_parameter_value';
    end if;
    conditions := conditions || case
      when not p_wanted[i] then format(' and s.%I <> $4[%s]', c, i)
      when c = 'kind' and p_value[i] in ('denial', 'collection', 'administration') or c = 'decision' and p_value[i] in ('deny', 'masked') then format(' and s.%I = %L', c, p_value[i])
      when c like '%\_ref' or c = 'address_net' then format(' and s.%I <> '''' and s.%I = $4[%s]', c, c, i)
      else format(' and s.%I = $4[%s]', c, i) end;
  end loop;
  return conditions;
end $$;

-- The records next to a place that answer a search: the newest before it, or, forward, the oldest after it. Each statement is planned
-- for the terms it has; the plan is held to the indexes, which give the order, so that a page costs what it shows. Entries hold no EUII.
drop function access.search_log(uuid, timestamptz, timestamptz, text, text, text, text, text, text, text, text, timestamptz, bigint, int);
create function access.search_log(p_organisation uuid, p_since timestamptz, p_until timestamptz, p_column text[], p_value text[], p_wanted boolean[],
    p_place_at timestamptz, p_place_seq bigint, p_forward boolean, p_limit int)
  returns table (seq bigint, at timestamptz, body bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_sort = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare direction text := case when p_forward then 'asc' else 'desc' end;
begin
  perform access.enter(p_organisation);
  return query execute 'select s.seq, s.at, r.body from (select s.seq, s.at from audit.search s where s.organisation_id = $1 and s.at >= $2 and s.at < $3'
    || access.log_terms(p_column, p_value, p_wanted)
    || case when p_place_seq is null then '' when p_forward then ' and (s.at, s.seq) > ($5, $6)' else ' and (s.at, s.seq) < ($5, $6)' end
    || format(' order by s.at %s, s.seq %s limit $7) s
      cross join lateral (select r.body from audit.record r where r.organisation_id = $1 and r.seq = s.seq and r.at = s.at offset 0) r
      order by s.at %s, s.seq %s', direction, direction, direction, direction)
    using p_organisation, p_since, p_until, p_value, p_place_at, p_place_seq, p_limit;
end $$;

-- How many of the newest so many records that answer a search fall into each stretch of time, by decision. If there are more than so many,
-- the stretch where it ended is counted in part and those before it not at all.
create function access.log_times(p_organisation uuid, p_since timestamptz, p_until timestamptz, p_column text[], p_value text[], p_wanted boolean[], p_seconds int, p_limit int)
  returns table (start timestamptz, decision text, n bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off as $$
begin
  perform access.enter(p_organisation);
  return query execute 'select to_timestamp(floor(extract(epoch from s.at) / $5) * $5), s.decision, count(*)
    from (select s.at, s.decision from audit.search s where s.organisation_id = $1 and s.at >= $2 and s.at < $3' || access.log_terms(p_column, p_value, p_wanted)
    || ' order by s.at desc, s.seq desc limit $6) s group by 1, 2 order by 1, 2'
    using p_organisation, p_since, p_until, p_value, p_seconds, p_limit;
end $$;

-- Which references begin like this, at most so many: handles show the beginning. One probe of an index for each.
create function access.log_references(p_organisation uuid, p_column text, p_prefix text, p_limit int) returns table (reference text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off as $$
declare c text := case p_column when 'actor' then 'actor_ref' when 'subject' then 'subject_ref' when 'conversation' then 'conversation_ref' end;
begin
  if c is null or p_prefix !~ '^[a-z2-9]+$' then
    raise exception 'this is no beginning of a reference' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  reference := p_prefix;
  for i in 1 .. p_limit loop
    execute format('select s.%I from audit.search s where s.organisation_id = $1 and s.%I <> '''' and s.%I %s $2 and s.%I <= $3 order by s.organisation_id, s.%I limit 1', c, c, c, case i when 1 then '>=' else '>' end, c, c)
      into reference using p_organisation, reference, rpad(p_prefix, 32, 'z');
    exit when reference is null;
    return next;
  end loop;
end $$;

-- Every action that any record has.
create function access.log_actions(p_organisation uuid) returns table (action text)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select distinct d.action from audit.day d where d.organisation_id = p_organisation order by 1;
end $$;

-- Who asked for whom, of the newest so many records that answer a search: how often and with which answers, for which purposes, from when to
-- when, and in each of so many equal stretches of the time (action, stretch and count stand in parallel), with the last record. By actor or by
-- subject the other side is left out. Pairs come by their number, people by their last time; counted is how many records were looked at.
create function access.log_pairs(p_organisation uuid, p_since timestamptz, p_until timestamptz, p_column text[], p_value text[], p_wanted boolean[], p_by text, p_stretches int, p_records int, p_limit int)
  returns table (actor text, subject text, n bigint, masked bigint, denied bigint, first_at timestamptz, last_at timestamptz, actions text[], stretches int[], counts bigint[], body bytea, counted bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  set enable_seqscan = off set enable_bitmapscan = off set work_mem = '32MB' as $$
begin
  if p_by not in ('actor', 'subject', 'pair') then
    raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  return query execute 'with seen as (
      select ' || case p_by when 'subject' then '''''::text' else 's.actor_ref' end || ' as actor, ' || case p_by when 'actor' then '''''::text' else 's.subject_ref' end || ' as subject,
        s.action, s.decision, s.at, s.seq from audit.search s where s.organisation_id = $1 and s.at >= $2 and s.at < $3' || access.log_terms(p_column, p_value, p_wanted)
    || case p_by when 'actor' then ' and s.actor_ref <> ''''' when 'subject' then ' and s.subject_ref <> ''''' else ' and s.actor_ref <> '''' and s.subject_ref <> ''''' end
    || ' order by s.at desc, s.seq desc limit $6),
    fine as materialized (select s.actor, s.subject, s.action, width_bucket(extract(epoch from s.at)::float8, extract(epoch from $2)::float8, extract(epoch from $3)::float8, $5) as stretch,
        count(*) as n, count(*) filter (where s.decision = ''masked'') as masked, count(*) filter (where s.decision = ''deny'') as denied,
        min(s.at) as first_at, max(s.at) as last_at, max(s.seq) as last_seq from seen s group by 1, 2, 3, 4),
    pairs as (select f.actor, f.subject, sum(f.n)::bigint as n, sum(f.masked)::bigint as masked, sum(f.denied)::bigint as denied,
        min(f.first_at) as first_at, max(f.last_at) as last_at, max(f.last_seq) as last_seq from fine f group by 1, 2
      order by ' || case p_by when 'pair' then '3 desc, 8 desc' else '8 desc' end || ' limit $7)
    select p.actor, p.subject, p.n, p.masked, p.denied, p.first_at, p.last_at, d.actions, d.stretches, d.counts,
      (select r.body from audit.record r where r.organisation_id = $1 and r.seq = p.last_seq and r.at = p.last_at), (select sum(f.n)::bigint from fine f)
    from pairs p join (select f.actor, f.subject, array_agg(f.action) as actions, array_agg(f.stretch) as stretches, array_agg(f.n) as counts
        from fine f join pairs p using (actor, subject) group by 1, 2) d using (actor, subject)
    order by ' || case p_by when 'pair' then 'p.n desc, p.last_seq desc' else 'p.last_seq desc' end
    using p_organisation, p_since, p_until, p_value, p_stretches, p_records, p_limit;
end $$;

revoke all on function access.log_terms(text[], text[], boolean[]), access.search_log(uuid, timestamptz, timestamptz, text[], text[], boolean[], timestamptz, bigint, boolean, int),
  access.log_times(uuid, timestamptz, timestamptz, text[], text[], boolean[], int, int), access.log_references(uuid, text, text, int), access.log_actions(uuid),
  access.log_pairs(uuid, timestamptz, timestamptz, text[], text[], boolean[], text, int, int, int) from public;
grant execute on function access.search_log(uuid, timestamptz, timestamptz, text[], text[], boolean[], timestamptz, bigint, boolean, int),
  access.log_times(uuid, timestamptz, timestamptz, text[], text[], boolean[], int, int), access.log_references(uuid, text, text, int), access.log_actions(uuid),
  access.log_pairs(uuid, timestamptz, timestamptz, text[], text[], boolean[], text, int, int, int) to counterfoil_service;
reset role;
