// Package doctor compares a live database with what the migrations made, and looks at the server around it. It promises to
// change nothing, and to say for each finding how to mend it.
package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/inventory"
)

// Finding is one thing that is not as it must be.
type Finding struct {
	Check  string `json:"check"`  // the name of the check
	What   string `json:"what"`   // what was found
	Remedy string `json:"remedy"` // how to mend it
}

// Report is the outcome of an examination.
type Report struct {
	Checks   []string  `json:"checks"`   // the names of those that were made
	Findings []Finding `json:"findings"` // none when all is well
}

func (r *Report) found(check, remedy, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{check, fmt.Sprintf(format, args...), remedy})
}

// Examine looks at the database of conn, whose role must be a superuser, because others do not see everything. expected is what
// [Catalog] gives of a database as the migrations of this program make it; service is the login role of the service.
func Examine(ctx context.Context, conn *pgx.Conn, expected, service string) (Report, error) {
	r := Report{Findings: []Finding{}}
	var super bool
	if err := conn.QueryRow(ctx, "select rolsuper from pg_roles where rolname = current_user").Scan(&super); err != nil {
		return r, fmt.Errorf("look at the own role: %w", err)
	}
	if !super {
		return r, fmt.Errorf("the role %s is no superuser, and others do not see everything", conn.Config().User)
	}
	for _, c := range []struct {
		name  string
		check func(context.Context, *pgx.Conn, *Report, string) error
	}{
		{"schema, owners, grants, functions, triggers, policies", func(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
			return catalog(ctx, conn, r, name, expected)
		}},
		{"data inventory", inventoried},
		{"months to come", months},
		{"decision key", decisionKey},
		{"durability", durability},
		{"roles", func(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
			return roles(ctx, conn, r, name, service)
		}},
		{"outside auditors", auditors},
		{"who may connect from where", admission},
		{"superusers at work", superusers},
		{"what the server logs", logging},
		{"version", version},
	} {
		r.Checks = append(r.Checks, c.name)
		if err := c.check(ctx, conn, &r, c.name); err != nil {
			return r, fmt.Errorf("check %s: %w", c.name, err)
		}
	}
	return r, nil
}

// catalog compares line by line.
func catalog(ctx context.Context, conn *pgx.Conn, r *Report, name, expected string) error {
	live, err := Catalog(ctx, conn)
	if err != nil {
		return err
	}
	want, got := strings.Split(strings.TrimSpace(expected), "\n"), strings.Split(strings.TrimSpace(live), "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			r.found(name, remedy(line, true), "missing or changed: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			r.found(name, remedy(line, false), "not made by the migrations: %s", line)
		}
	}
	return nil
}

// remedy says how to get from the live line to the expected one.
func remedy(line string, missing bool) string {
	kind, rest, _ := strings.Cut(line, ": ")
	object, detail, _ := strings.Cut(rest, " ")
	switch {
	case kind == "grant" && !missing:
		return fmt.Sprintf("find out who granted it and what it was used for, then: revoke all on %s from %s; and grant again what is said to be missing", object, grantee(detail))
	case kind == "grant":
		return fmt.Sprintf("grant it as %s says; if the migrations are not all applied, run `counterfoil migrate` first", rest)
	case kind == "row security":
		return fmt.Sprintf("alter table %s enable row level security; alter table %s force row level security", object, object)
	case kind == "trigger" && missing:
		return fmt.Sprintf("the table could be changed meanwhile: compare the log with its export (counterfoil audit verify), then restore the trigger from the migrations and: alter table %s enable always trigger %s",
			object, strings.SplitN(detail, " ", 2)[0])
	case kind == "constraint" && missing:
		return fmt.Sprintf("the table could hold what it must not: compare the log with its export (counterfoil audit verify), then restore the constraint of %s from the migrations", object)
	case kind == "default grant":
		return "alter default privileges … revoke what it grants, and revoke it from every object made meanwhile"
	case kind == "publication" || kind == "subscription" || kind == "foreign server":
		return fmt.Sprintf("rows can leave or enter by it past every record: find out who made it and what for, then: drop %s %s", strings.TrimPrefix(kind, "foreign "), object)
	case kind == "function" && missing:
		return "compare the log with its export (counterfoil audit verify), then restore the function from the migrations of this program; if it is new, run `counterfoil migrate`"
	case missing:
		return "run `counterfoil migrate`; if that changes nothing, find out who changed it and restore it from the migrations"
	}
	return "find out who made it and what for, then drop it"
}

func grantee(detail string) string {
	_, who, _ := strings.Cut(detail, "to ")
	return strings.SplitN(who, " ", 2)[0]
}

// inventoried finds columns of which the data inventory does not say what they hold and why.
func inventoried(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	all, err := inventory.Read()
	if err != nil {
		return err
	}
	rows, err := conn.Query(ctx, inventory.SQLColumns)
	if err != nil {
		return err
	}
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	untagged, _ := all.Differences(columns)
	for _, c := range untagged {
		r.found(name, "find out who made it and what for, then drop it; nothing is kept here that `counterfoil inventory show` does not list", "nobody says what %s holds, of whom, why and how long", c)
	}
	return nil
}

func months(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	rows, err := conn.Query(ctx, `select to_char(m, 'YYYY-MM') from generate_series(0, 1) as i
		cross join lateral (select date_trunc('month', now() at time zone 'UTC') + make_interval(months => i) as m) m
		where to_regclass('audit.record_' || to_char(m, 'YYYY_MM')) is null or to_regclass('audit.search_' || to_char(m, 'YYYY_MM')) is null or to_regclass('audit.asked_' || to_char(m, 'YYYY_MM')) is null`)
	return each(rows, err, func(month string) {
		r.found(name, "select access.ensure_months(); a running service does it each minute, so look why it does not", "there is no table for the records of %s", month)
	})
}

func decisionKey(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, "select exists (select 1 from access.decision_key)").Scan(&there); err != nil {
		return err
	}
	if !there {
		r.found(name, "run `counterfoil migrate` as a superuser of this database", "none is installed, so nothing can be recorded")
	}
	return nil
}

// durable are the settings without which an acknowledged commit may be lost.
const durable = "'fsync', 'full_page_writes', 'synchronous_commit'"

func durability(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	rows, err := conn.Query(ctx, `select name || ' is off' from pg_settings where name in (`+durable+`) and setting = 'off'
		union all select 'data_checksums is off' where current_setting('data_checksums') = 'off'
		union all select coalesce(nullif(setrole, 0)::regrole::text, 'everybody') || ' has ' || c from pg_db_role_setting, unnest(setconfig) as c
			where split_part(c, '=', 1) in (`+durable+`) and split_part(c, '=', 2) in ('off', 'false', 'no', '0')`)
	return each(rows, err, func(what string) {
		if strings.HasPrefix(what, "data_checksums") {
			r.found(name, "stop the server, then: pg_checksums --enable -D DATADIR", "%s: damage on the disk goes unnoticed", what)
			return
		}
		r.found(name, "turn it on for this server, database and role (alter system / alter database / alter role … reset), then reload", "%s: a commit that was acknowledged may be lost, so the service refuses to connect", what)
	})
}

func roles(ctx context.Context, conn *pgx.Conn, r *Report, name, service string) error {
	rows, err := conn.Query(ctx, `select 'the role ' || rolname || ' may ' || w from pg_authid cross join lateral (values
			(rolsuper, 'do anything (superuser)'), (rolcreaterole, 'make roles'), (rolcreatedb, 'make databases'), (rolreplication, 'copy the whole server (replication)'),
			(rolbypassrls, 'see all organisations (bypassrls)')) as p(has, w) where rolname like 'counterfoil\_%' and has
		union all select 'the owner ' || rolname || ' can log in' from pg_authid where rolname in ('counterfoil_chat', 'counterfoil_euii', 'counterfoil_audit', 'counterfoil_access', 'counterfoil_views') and rolcanlogin
		union all select 'the role ' || m.rolname || ' is a member of ' || g.rolname from pg_auth_members a join pg_authid g on g.oid = a.roleid join pg_authid m on m.oid = a.member
			where g.rolname like 'counterfoil\_%' and not m.rolsuper and not (g.rolname = 'counterfoil_auditor' and m.rolname like `+anAuditor+`)
		union all select 'the role ' || m.rolname || ' is a member of ' || g.rolname from pg_auth_members a join pg_authid g on g.oid = a.roleid join pg_authid m on m.oid = a.member
			where (m.rolname = $1 or m.rolname like `+anAuditor+`) and g.rolname not like 'counterfoil\_%'
		union all select 'the password of ' || rolname || ' is kept as MD5' from pg_authid where (rolname = $1 or rolname like `+anAuditor+`) and rolpassword like 'md5%'`, service)
	return each(rows, err, func(what string) {
		r.found(name, "alter role … with the opposite (nosuperuser, nologin, revoke ROLE from MEMBER); for a password: set password_encryption = 'scram-sha-256' and set it anew", "%s", what)
	})
}

// anAuditor is what the logins of outside auditors look like. They are made and taken away as operators wish, so they are no part of the catalog.
const anAuditor = `'counterfoil\_auditor\_%'`

// auditors looks at the logins that may read the auditors' views here: each was made for a time, and that is not over.
func auditors(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	var there bool
	if err := conn.QueryRow(ctx, "select to_regclass('audit.auditor') is not null").Scan(&there); err != nil || !there { // the catalog says that it is missing
		return err
	}
	rows, err := conn.Query(ctx, `select m.rolname || ' may read the log and is no auditor that was made on record' from pg_auth_members a join pg_authid g on g.oid = a.roleid join pg_authid m on m.oid = a.member
			where g.rolname = 'counterfoil_auditor' and not m.rolsuper and has_database_privilege(m.oid, current_database(), 'connect')
				and not exists (select from audit.auditor u where u.login = m.rolname)
		union all select 'the time of the auditor ' || u.login || ' is over, and the login is still there' from audit.auditor u join pg_authid l on l.rolname = u.login where u.until <= now()`)
	return each(rows, err, func(what string) {
		r.found(name, "counterfoil auditor remove LOGIN; if it does not know the login, find out who made it, then: drop owned by LOGIN; drop role LOGIN", "%s", what)
	})
}

// admission looks at pg_hba.conf: whoever comes over a network has to come over TLS and to prove who he is.
func admission(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	type rule struct {
		line                             int
		kind, address, mask, method, err *string
	}
	rows, err := conn.Query(ctx, "select line_number, type, address, netmask, auth_method, error from pg_hba_file_rules order by line_number")
	if err != nil {
		return err
	}
	rules, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h rule, err error) {
		return h, row.Scan(&h.line, &h.kind, &h.address, &h.mask, &h.method, &h.err)
	})
	if err != nil {
		return err
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, h := range rules {
		method := text(h.method)
		where := fmt.Sprintf("line %d of pg_hba.conf", h.line)
		switch {
		case h.err != nil:
			r.found(name, "correct the line, then: select pg_reload_conf()", "%s is not understood and makes the server keep its old rules", where)
		case method == "reject":
		case method == "trust" && text(h.kind) != "local":
			r.found(name, "replace trust by scram-sha-256 or cert, then reload", "%s admits anybody at %s without a proof", where, text(h.address))
		case method == "trust":
			r.found(name, "replace trust by peer or scram-sha-256, then reload", "%s admits every user of the machine without a proof", where)
		case method == "password" || method == "md5":
			r.found(name, "replace "+method+" by scram-sha-256, then reload", "%s takes a password in a form that can be replayed", where)
		case (text(h.kind) == "host" || text(h.kind) == "hostnossl") && !loopback(text(h.address)):
			r.found(name, "write hostssl in place of "+text(h.kind)+", then reload", "%s lets %s connect without TLS", where, text(h.address))
		}
	}
	var listens, ssl string
	if err := conn.QueryRow(ctx, "select current_setting('listen_addresses'), current_setting('ssl')").Scan(&listens, &ssl); err != nil {
		return err
	}
	for a := range strings.SplitSeq(listens, ",") {
		if a = strings.TrimSpace(a); a != "" && a != "localhost" && !loopback(a) && ssl != "on" {
			r.found(name, "alter system set ssl = on, with ssl_cert_file and ssl_key_file; then restart", "the server listens at %s and offers no TLS", a)
		}
	}
	return nil
}

func loopback(address string) bool {
	a, err := netip.ParseAddr(strings.SplitN(address, "/", 2)[0])
	return err == nil && a.Unmap().IsLoopback()
}

func superusers(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	rows, err := conn.Query(ctx, `select distinct a.usename || coalesce(' from ' || host(a.client_addr), ' over the socket') || ' (' || coalesce(nullif(a.application_name, ''), 'unnamed') || ')'
		from pg_stat_activity a join pg_roles r on r.rolname = a.usename
		where a.datname = current_database() and r.rolsuper and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'`)
	return each(rows, err, func(who string) {
		r.found(name, "a superuser is above every fence in the database: end the session unless you know what it is for, and let the service connect as its own role", "%s is connected to this database", who)
	})
}

// logging finds settings by which values of statements get into the server's log.
func logging(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	rows, err := conn.Query(ctx, `select name || ' = ' || setting from pg_settings where
		(name = 'log_statement' and setting not in ('none', 'ddl')) or (name in ('log_min_duration_statement', 'log_min_duration_sample') and setting <> '-1')
		or (name = 'log_min_error_statement' and setting <> 'panic') or (name in ('log_parameter_max_length', 'log_parameter_max_length_on_error') and setting <> '0')
		or (name = 'log_error_verbosity' and setting <> 'terse')`)
	return each(rows, err, func(what string) {
		setting, _, _ := strings.Cut(what, " ")
		want := map[string]string{"log_statement": "none", "log_min_duration_statement": "-1", "log_min_duration_sample": "-1", "log_min_error_statement": "panic",
			"log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0", "log_error_verbosity": "terse"}[setting]
		r.found(name, fmt.Sprintf("alter system set %s = %s, then: select pg_reload_conf()", setting, want), "%s: blind indexes and ciphertexts can get into the server's log", what)
	})
}

// oldest is the first major version that the product is made for.
const oldest = 15

func version(ctx context.Context, conn *pgx.Conn, r *Report, name string) error {
	var n int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&n); err != nil {
		return err
	}
	if n/10000 < oldest {
		r.found(name, fmt.Sprintf("move to PostgreSQL %d or newer", oldest), "the server is PostgreSQL %d", n/10000)
	}
	return nil
}

func each(rows pgx.Rows, err error, f func(string)) error {
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, s := range all {
		f(s)
	}
	return nil
}

// ours are the schemas whose every object is made by the migrations.
const ours = "'chat', 'euii', 'audit', 'access', 'console', 'control', 'jobs', 'auditor', 'counterfoil'"

// Catalog lists what of a database decides who may do what: one object a line, sorted, with monthly tables as one. A function's
// body and a trigger's definition are in it by their hash.
func Catalog(ctx context.Context, conn *pgx.Conn) (string, error) {
	rows, err := conn.Query(ctx, `
with rel as (
	select n.nspname || '.' || regexp_replace(c.relname, '_[0-9]{4}_[0-9]{2}', '_month') as name, c.* from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where n.nspname in (`+ours+`)),
acl as (
	select 'grant: schema ' || n.nspname as what, n.nspacl as acl from pg_namespace n where n.nspname in (`+ours+`) or n.nspname = 'public'
	union all select 'grant: ' || name || ' table', relacl from rel where relkind in ('r', 'p', 'v', 'm', 'f', 'S')
	union all select 'grant: ' || name || ' column ' || a.attname, a.attacl from rel join pg_attribute a on a.attrelid = rel.oid where a.attacl is not null
	union all select 'grant: ' || p.oid::regprocedure || ' function', coalesce(p.proacl, acldefault('f', p.proowner)) from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in (`+ours+`)
	union all select 'grant: ' || p.oid::regprocedure || ' function', coalesce(p.proacl, acldefault('f', p.proowner)) from pg_proc p
		where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^(lo_|lowrite$|loread$|pg_(try_)?advisory_)'
	union all select 'grant: database', coalesce(d.datacl, acldefault('d', d.datdba)) from pg_database d where d.datname = current_database())
select line from (select distinct line from (
	select 'schema: ' || n.nspname || ' owner ' || n.nspowner::regrole as line from pg_namespace n where n.nspname in (`+ours+`) and n.nspname <> 'counterfoil'
	union all select 'table: ' || name || case when nspowned then '' else ' owner ' || relowner::regrole end || ' kind ' || relkind::text
		from rel cross join lateral (select name like 'counterfoil.%' as nspowned) o where relkind in ('r', 'p', 'v', 'm', 'f')
	union all select 'column: ' || name || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
		from rel join pg_attribute a on a.attrelid = rel.oid left join pg_attrdef d on d.adrelid = rel.oid and d.adnum = a.attnum
		where relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped
	union all select 'view: ' || name || ' shows ' || n.nspname || '.' || b.relname || '.' || a.attname from rel join pg_rewrite w on w.ev_class = rel.oid join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
		and d.refclassid = 'pg_class'::regclass and d.refobjid <> rel.oid join pg_class b on b.oid = d.refobjid join pg_namespace n on n.oid = b.relnamespace
		join pg_attribute a on a.attrelid = b.oid and a.attnum = d.refobjsubid where rel.relkind in ('v', 'm')
	union all select 'row security: ' || name || case when relrowsecurity then ' enabled' else ' disabled' end || case when relforcerowsecurity then ' forced' else '' end from rel where relkind in ('r', 'p')
	union all select 'policy: ' || name || ' ' || p.polname || ' for ' || p.polcmd::text || ' to ' || (select string_agg(r::regrole::text, ',' order by r::regrole::text) from unnest(p.polroles) r)
		|| regexp_replace(coalesce(' using ' || pg_get_expr(p.polqual, p.polrelid), '') || coalesce(' with check ' || pg_get_expr(p.polwithcheck, p.polrelid), ''), '\s+', ' ', 'g') from rel join pg_policy p on p.polrelid = rel.oid
	union all select 'trigger: ' || name || ' ' || t.tgname || ' enabled ' || t.tgenabled::text || ' runs ' || t.tgfoid::regproc || ' type ' || t.tgtype from rel join pg_trigger t on t.tgrelid = rel.oid where not t.tgisinternal
	union all select 'function: ' || p.oid::regprocedure || ' returns ' || pg_get_function_result(p.oid) || ' owner ' || p.proowner::regrole || case when p.prosecdef then ' definer' else '' end || ' ' || l.lanname
		|| coalesce(' settings ' || array_to_string(p.proconfig, '; '), '') || ' body ' || left(md5(p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '')), 12)
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang where n.nspname in (`+ours+`)
	union all select acl.what || ' to ' || case x.grantee when 0 then 'public' else x.grantee::regrole::text end || ' ' || x.privilege_type || case when x.is_grantable then ' with grant option' else '' end
		from acl, aclexplode(acl.acl) x where x.grantee <> x.grantor and not exists (select from pg_roles s where s.oid = x.grantee and s.rolsuper)
			and not (acl.what = 'grant: database' and x.grantee in (select r.oid from pg_roles r where r.rolname like `+anAuditor+`))
	union all select 'role: ' || rolname || case when rolcanlogin then ' can log in' else '' end from pg_roles where rolname like 'counterfoil\_%' and rolname not like `+anAuditor+`
	union all select 'constraint: ' || regexp_replace(regexp_replace(name || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid), '_[0-9]{4}_[0-9]{2}', '_month', 'g'), '\s+', ' ', 'g') || case when c.convalidated then '' else ' not validated' end
		from rel join pg_constraint c on c.conrelid = rel.oid where c.contype in ('c', 'f', 'p', 'u', 'x')
	union all select 'unique index: ' || regexp_replace(pg_get_indexdef(i.indexrelid), '_[0-9]{4}_[0-9]{2}', '_month', 'g') from rel join pg_index i on i.indrelid = rel.oid
		where i.indisunique and not exists (select from pg_constraint c where c.conindid = i.indexrelid)
	union all select 'default grant: ' || coalesce(nullif(d.defaclnamespace, 0)::regnamespace::text, 'everywhere') || ' ' || d.defaclobjtype::text || ' of ' || d.defaclrole::regrole || ' to '
		|| case x.grantee when 0 then 'public' else x.grantee::regrole::text end || ' ' || x.privilege_type from pg_default_acl d, aclexplode(d.defaclacl) x where x.grantee <> d.defaclrole
	union all select 'publication: ' || pubname from pg_publication
	union all select 'subscription: ' || subname from pg_subscription s join pg_database d on d.oid = s.subdbid where d.datname = current_database()
	union all select 'foreign server: ' || srvname from pg_foreign_server
	union all select 'event trigger: ' || evtname from pg_event_trigger
	union all select 'rule: ' || name || ' ' || r.rulename from rel join pg_rewrite r on r.ev_class = rel.oid where rel.relkind in ('r', 'p')
	union all select 'extension: ' || extname from pg_extension where extname <> 'plpgsql'
	union all select 'language: ' || lanname from pg_language where lanname not in ('internal', 'c', 'sql', 'plpgsql')
) all_lines) sorted order by line collate "C"`)
	if err != nil {
		return "", fmt.Errorf("list the catalog: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("list the catalog: %w", err)
	}
	return strings.Join(lines, "\n") + "\n", nil
}
