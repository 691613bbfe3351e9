set local role counterfoil_access;

-- Where every log stands, so that what is published can be kept up to date.
create function access.log_heads() returns table (organisation_id uuid, origin text, size bigint, last_at timestamptz)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare o uuid;
begin
  for o in select c.organisation_id from access.organisations() c loop
    perform access.enter(o);
    return query select h.organisation_id, h.origin, h.size, case when h.size = 0 then 'epoch' else h.last_at end from audit.head h where h.organisation_id = o;
  end loop;
end $$;

-- Everything the head says, and whether there are records that it does not cover, for verifying the log where it lies.
create function access.log_state(p_organisation uuid, out origin text, out size bigint, out frontier bytea, out checkpoint text, out last_at timestamptz, out beyond boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  select h.origin, h.size, h.frontier, h.checkpoint, case when h.size = 0 then 'epoch' else h.last_at end,
      exists (select from audit.record r where r.organisation_id = p_organisation and r.seq >= h.size)
    into strict origin, size, frontier, checkpoint, last_at, beyond
    from audit.head h where h.organisation_id = p_organisation;
end $$;

-- Records with the columns that are copies of what their bodies say.
create function access.log_rows(p_organisation uuid, p_from bigint, p_to bigint)
  returns table (seq bigint, at timestamptz, kind text, action text, actor_kind text, actor_ref text, subject_kind text, subject_ref text, decision text, conversation_ref text, body bytea)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform access.enter(p_organisation);
  return query select r.seq, r.at, r.kind, r.action, r.actor_kind, r.actor_ref, r.subject_kind, r.subject_ref, r.decision, r.conversation_ref, r.body
    from audit.record r where r.organisation_id = p_organisation and r.seq >= p_from and r.seq < p_to order by r.seq;
end $$;

revoke all on function access.log_heads(), access.log_state(uuid), access.log_rows(uuid, bigint, bigint) from public;
grant execute on function access.log_heads(), access.log_state(uuid), access.log_rows(uuid, bigint, bigint) to counterfoil_service;
reset role;
