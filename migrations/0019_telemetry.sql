-- What is measured about deliveries, over all organisations and without anything of them.
set local role counterfoil_access;

-- Counts what is not delivered yet, and since when the oldest of it has been due.
create function access.open_deliveries() returns table (n bigint, oldest interval)
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select count(*), clock_timestamp() - min(o.due_at) filter (where o.due_at <= clock_timestamp())
    from chat.outbox o where o.state in ('waiting', 'sending');
$$;

revoke all on function access.open_deliveries() from public;
grant execute on function access.open_deliveries() to counterfoil_service;
reset role;
