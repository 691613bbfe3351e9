set local role counterfoil_access;

-- How much was disclosed to an actor within the last seconds. The log is what counts, so that a restart or another node
-- does not start anew: what is searchable already, and the records after it.
create function access.disclosures_to(p_organisation uuid, p_actor text, p_seconds int) returns bigint
  language plpgsql security definer set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare since timestamptz := clock_timestamp() - make_interval(secs => p_seconds); n bigint;
begin
  perform access.enter(p_organisation);
  select (select count(*) from audit.search s
            where s.organisation_id = p_organisation and s.actor_ref = p_actor and s.actor_ref <> '' and s.at > since and s.kind = 'disclosure')
       + (select count(*) from audit.record r cross join lateral json_to_record(convert_from(r.body, 'UTF8')::json) as e(kind text, actor json)
            where r.organisation_id = p_organisation and r.at > since
              and r.seq >= (select s.size from audit.searchable s where s.organisation_id = p_organisation)
              and position(convert_to(p_actor, 'UTF8') in r.body) > 0 and e.kind = 'disclosure' and e.actor ->> 'ref' = p_actor)
    into n;
  return n;
end $$;
revoke all on function access.disclosures_to(uuid, text, int) from public;
grant execute on function access.disclosures_to(uuid, text, int) to counterfoil_service;
reset role;
