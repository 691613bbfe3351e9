-- The longest that a ticket is good for is this database's word too, not only that of whoever authenticates what is recorded: 15 seconds for
-- values and the first line of a conversation, an hour for following one.
set local role counterfoil_access;
alter table access.ticket add constraint ticket_short check (valid_until <= clock_timestamp() + case when messages > 1 then interval '1 hour' else interval '15 seconds' end);
reset role;
