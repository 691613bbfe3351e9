set local role counterfoil_audit;

create table audit.head (
  organisation_id uuid primary key,
  origin          text not null,
  size            bigint not null,
  frontier        bytea not null,
  checkpoint      text not null,
  last_at         timestamptz not null
) with (fillfactor = 10);
comment on table  audit.head is 'State of each log. Its row is the only lock: whoever holds it appends.';
comment on column audit.head.organisation_id is 'Tenant.';
comment on column audit.head.origin is 'Origin line of its checkpoints.';
comment on column audit.head.size is 'Number of entries.';
comment on column audit.head.frontier is 'Roots of the perfect subtrees of the RFC 6962 tree.';
comment on column audit.head.checkpoint is 'Signed tree head of exactly this size.';
comment on column audit.head.last_at is 'Time of the last entry; times never decrease.';

create table audit.record (
  organisation_id  uuid not null,
  seq              bigint not null,
  at               timestamptz not null,
  kind             text not null,
  action           text not null,
  actor_kind       text not null,
  actor_ref        text not null,
  subject_kind     text not null,
  subject_ref      text not null,
  decision         text not null,
  conversation_ref text not null,
  xid              xid8 not null default pg_current_xact_id(),
  db_user          name not null default session_user,
  body             bytea not null,
  primary key (organisation_id, seq)
);
create index record_by_time    on audit.record (organisation_id, at, seq);
create index record_by_subject on audit.record (organisation_id, subject_ref, at, seq) where subject_ref <> '';
comment on table  audit.record is 'The entries. The columns beside the body are copies for searching; the body is what the tree covers.';
comment on column audit.record.organisation_id is 'Tenant.';
comment on column audit.record.seq is 'Index in the log, from 0, without gaps.';
comment on column audit.record.at is 'UTC, microseconds, assigned under the head lock.';
comment on column audit.record.kind is 'disclosure, denial, collection or administration.';
comment on column audit.record.action is 'Purpose, or name of the administrative act.';
comment on column audit.record.actor_kind is 'Who asked: kind.';
comment on column audit.record.actor_ref is 'Who asked: keyed reference.';
comment on column audit.record.subject_kind is 'Whom it is about: kind.';
comment on column audit.record.subject_ref is 'Whom it is about: keyed reference, meaningless once the subject''s key is destroyed.';
comment on column audit.record.decision is 'allow, masked or deny.';
comment on column audit.record.conversation_ref is 'Conversation: keyed reference.';
comment on column audit.record.xid is 'Transaction that wrote it, set by the database.';
comment on column audit.record.db_user is 'Role that wrote it, set by the database.';
comment on column audit.record.body is 'Canonical bytes of the entry, kept verbatim.';

create table audit.tile (
  organisation_id uuid not null,
  idx             bigint not null,
  hashes          bytea not null,
  primary key (organisation_id, idx),
  constraint tile_full check (length(hashes) = 8192)
);
alter table audit.tile alter column hashes set storage external;
comment on table  audit.tile is 'Full tiles of leaf hashes (C2SP tlog-tiles level 0).';
comment on column audit.tile.organisation_id is 'Tenant.';
comment on column audit.tile.idx is 'Tile number.';
comment on column audit.tile.hashes is '256 leaf hashes.';

create table audit.node (
  organisation_id uuid not null,
  level           int not null check (level > 0),
  idx             bigint not null,
  hash            bytea not null check (length(hash) = 32),
  primary key (organisation_id, level, idx)
);
comment on table  audit.node is 'Hashes of the tiles of higher levels.';
comment on column audit.node.organisation_id is 'Tenant.';
comment on column audit.node.level is 'Tile level, from 1.';
comment on column audit.node.idx is 'Position in the level.';
comment on column audit.node.hash is 'Root of 256 nodes of the level below.';

create function audit.refuse() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin raise exception 'the audit log only grows: % on %.% is refused', tg_op, tg_table_schema, tg_table_name; end $$;
create trigger append_only before update or delete on audit.record for each row execute function audit.refuse();
create trigger no_truncate before truncate on audit.record for each statement execute function audit.refuse();
create trigger append_only before update or delete on audit.tile for each row execute function audit.refuse();
create trigger no_truncate before truncate on audit.tile for each statement execute function audit.refuse();
create trigger append_only before update or delete on audit.node for each row execute function audit.refuse();
create trigger no_truncate before truncate on audit.node for each statement execute function audit.refuse();
create trigger no_delete before delete on audit.head for each row execute function audit.refuse();
create trigger no_truncate before truncate on audit.head for each statement execute function audit.refuse();
alter table audit.record enable always trigger append_only;
alter table audit.record enable always trigger no_truncate;
alter table audit.tile enable always trigger append_only;
alter table audit.tile enable always trigger no_truncate;
alter table audit.node enable always trigger append_only;
alter table audit.node enable always trigger no_truncate;
alter table audit.head enable always trigger no_delete;
alter table audit.head enable always trigger no_truncate;

grant select, update on audit.head to counterfoil_access;
grant insert on audit.head to counterfoil_access;
grant select on audit.record, audit.tile, audit.node to counterfoil_access;
grant insert (organisation_id, seq, at, kind, action, actor_kind, actor_ref, subject_kind, subject_ref, decision, conversation_ref, body) on audit.record to counterfoil_access;
grant insert on audit.tile, audit.node to counterfoil_access;

do $$
declare t text;
begin
  foreach t in array array['head','record','tile','node'] loop
    execute format('alter table audit.%I enable row level security', t);
    execute format('alter table audit.%I force row level security', t);
    execute format('create policy own_organisation on audit.%I to counterfoil_access using (organisation_id = access.organisation()) with check (organisation_id = access.organisation())', t);
  end loop;
end $$;
reset role;
