-- A second person also consents to an export of many records, and whatever two agreed on hangs over every page while it is in force.
set local role counterfoil_chat;
alter table console.approval drop constraint approval_kind_check;
alter table console.approval add constraint approval_kind_check check (kind in ('break_glass', 'allowlist', 'policy', 'erasure', 'export'));
comment on column console.approval.kind is 'break_glass: see one person. allowlist: a change that would shut its maker out. policy: activate a bundle. erasure: erase the organisation. export: take many records out of the log.';
comment on column console.approval.about is 'Otherwise what exactly: the keyed reference of a change of the allowlist, the revision of a policy, or which records, by a filter with references.';
reset role;

set local role counterfoil_access;
drop function access.resume_session(bytea);
create function access.resume_session(p_token_hash bytea, out organisation_id uuid, out session_id uuid, out admin_id uuid, out stage text, out address_ref text, out roles text[],
    out seal text, out admin_seal text, out stepped_for text, out stepped_by text, out consents boolean, out networks boolean, out notices boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  select e.organisation_id into organisation_id from console.session e where e.token_hash = p_token_hash;
  if not found then return; end if;
  perform access.enter(organisation_id);
  update console.session e set seen_at = case e.stage when 'signed_in' then clock_timestamp() else e.seen_at end
    from console.admin a
    where e.token_hash = p_token_hash and a.organisation_id = e.organisation_id and a.admin_id = e.admin_id and a.disabled_at is null
      and case e.stage when 'password' then e.started_at > clock_timestamp() - interval '5 minutes'
            else e.started_at > clock_timestamp() - interval '12 hours' and e.seen_at > clock_timestamp() - interval '15 minutes' end
    returning e.session_id, e.admin_id, e.stage, e.address_ref, a.roles, e.seal, a.seal, coalesce(e.stepped_for, ''), coalesce(e.stepped_by, '')
      into session_id, admin_id, stage, address_ref, roles, seal, admin_seal, stepped_for, stepped_by;
  consents := exists (select from access.approvals_in_force(organisation_id) f);
  networks := exists (select from console.network n where n.organisation_id = resume_session.organisation_id and (n.on_host or n.until > clock_timestamp()));
  notices := exists (select from console.notice o where o.organisation_id = resume_session.organisation_id and o.admin_id = resume_session.admin_id);
end $$;
revoke all on function access.resume_session(bytea) from public;
grant execute on function access.resume_session(bytea) to counterfoil_service;
reset role;
