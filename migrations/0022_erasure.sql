-- Whatever the console keeps goes with its organisation.
set local role counterfoil_chat;
grant delete on all tables in schema console to counterfoil_access;
reset role;
