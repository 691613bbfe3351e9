-- One person's own days are found by the person: an order would have them looked for among those of everybody.
set local role counterfoil_access;
create or replace function access.log_people(p_organisation uuid, p_from date, p_to date, p_answers int[], p_column text[], p_value text[], p_wanted boolean[], p_by text, p_place_day date, p_place_seq bigint, p_limit int)
  returns table (actor text, subject text, n bigint, masked bigint, denied bigint, first_at timestamptz, last_at timestamptz, actions text[], starts timestamptz[], counts bigint[], body bytea, place_day date, place_seq bigint)
  language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set work_mem = '32MB' as $$
declare others text := ''; paired boolean := p_by = 'pair'; one boolean := false; rows text; who text; whom text;
begin
  if p_by not in ('actor', 'subject', 'pair') then
    raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
  end if;
  perform access.enter(p_organisation);
  for i in 1 .. coalesce(cardinality(p_column), 0) loop
    if p_column[i] not in ('actor', 'subject') or not p_wanted[i] and p_by <> 'pair' and p_by <> p_column[i] then
      raise exception 'people are not counted by this' using errcode = 'invalid_parameter_value';
    end if;
    others := others || format(' and p.%I %s $5[%s]', p_column[i] || '_ref', case when p_wanted[i] then '=' else '<>' end, i);
    paired := paired or p_column[i] <> p_by;
    one := one or p_wanted[i] and p_column[i] = p_by;
  end loop;
  rows := case when paired then 'p.actor_ref <> '''' and p.subject_ref <> ''''' when p_by = 'actor' then 'p.subject_ref = '''' and p.actor_ref <> ''''' else 'p.actor_ref = '''' and p.subject_ref <> ''''' end;
  who := case p_by when 'subject' then '''''::text' else 'l.actor_ref' end;
  whom := case p_by when 'actor' then '''''::text' else 'l.subject_ref' end;
  return query execute 'with listed as materialized (
      select p.actor_ref, p.subject_ref, p.day, p.last_seq from audit.asked p where p.organisation_id = $1 and ' || rows || ' and p.day >= $2 and p.day < $3' || others
    || case when p_place_day is null then '' else ' and p.day <= $6 and (p.day, p.last_seq) < ($6, $7)' end
    || case when p_answers is null then '' else ' and p.answers && $4' end
    || ' and not exists (select from audit.asked q where q.organisation_id = $1 and q.actor_ref = p.actor_ref and q.subject_ref = p.subject_ref and q.day > p.day and q.day < $3'
    || case when p_answers is null then '' else ' and q.answers && $4' end || ')
      ' || case when one then '' else 'order by p.day desc, p.last_seq desc limit $8' end || '),
    fine as materialized (
      select x.last_seq, (x.day - $2) / $9 as step, x.answer, sum(x.n) as n, min(x.day) as first_day, max(x.day) as last_day from (
        select l.last_seq, p.day, unnest(p.answers) as answer, unnest(p.counts) as n from listed l
          cross join lateral (select p.day, p.answers, p.counts from audit.asked p where p.organisation_id = $1 and p.actor_ref = l.actor_ref and p.subject_ref = l.subject_ref and p.day >= $2 and p.day < $3 offset 0) p) x'
    || case when p_answers is null then '' else ' where x.answer = any ($4)' end || ' group by 1, 2, 3),
    summed as (select f.last_seq, sum(f.n)::bigint as n, sum(case a.decision when ''masked'' then f.n else 0 end)::bigint as masked, sum(case a.decision when ''deny'' then f.n else 0 end)::bigint as denied,
        min(f.first_day) as first_day, max(f.last_day) as last_day, array_agg(a.action) as actions, array_agg(($2 + f.step * $9)::timestamp at time zone ''UTC'') as starts, array_agg(f.n) as counts
      from fine f join audit.answer a on a.organisation_id = $1 and a.answer_id = f.answer group by 1)
    select ' || who || ', ' || whom || ', s.n, s.masked, s.denied, e.first_at, e.last_at, s.actions, s.starts, s.counts,
      (select r.body from audit.record r where r.organisation_id = $1 and r.seq = e.last_seq and r.at = e.last_at), l.day, l.last_seq
    from listed l join summed s using (last_seq)
      cross join lateral access.log_edges($1, l.actor_ref, l.subject_ref, s.first_day, s.last_day, $4) e
    order by l.day desc, l.last_seq desc'
    using p_organisation, p_from, p_to, p_answers, p_value, p_place_day, p_place_seq, p_limit, greatest((p_to - p_from) / 24, 1);
end $$;
reset role;
