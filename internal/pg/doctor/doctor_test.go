package doctor_test

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/pg/doctor"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var update = flag.Bool("update", false, "write the golden file anew")

const service = "counterfoil_service"

func TestTheCatalogIsAsRecorded(t *testing.T) {
	got, err := doctor.Catalog(t.Context(), pgtest.Database(t, migrations.FS).Superuser(t))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../../../migrations/catalog.golden", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != migrations.Catalog {
		t.Error("the migrations make another database than migrations/catalog.golden says; look at the difference after `make golden`")
	}
}

func run(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func examine(t *testing.T, conn *pgx.Conn) doctor.Report {
	t.Helper()
	r, err := doctor.Examine(t.Context(), conn, migrations.Catalog, service)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const installKey = "insert into access.decision_key values (true, repeat('x', 64)::bytea, repeat('y', 64)::bytea)"

func TestTheDoctorFindsNothingInADatabaseAsItShouldBe(t *testing.T) {
	conn := pgtest.Private(t, migrations.FS).Superuser(t)
	run(t, conn, installKey, "insert into audit.head values ('6b0f8e4c-7d1e-4a6e-9a55-000000000001', 'o', 0, '', '', 'epoch')",
		"select audit.admit_auditor('6b0f8e4c-7d1e-4a6e-9a55-000000000001', 'counterfoil_auditor_x', now() + '1 day', 'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy')")
	if r := examine(t, conn); len(r.Findings) > 0 || len(r.Checks) < 9 {
		t.Errorf("%d checks found %+v", len(r.Checks), r.Findings)
	}
}

func TestTheDoctorFinds(t *testing.T) {
	for name, test := range map[string]struct{ sql, want string }{
		"a right of the service on sealed values":    {"grant select on euii.value to counterfoil_service", "euii.value table to counterfoil_service SELECT"},
		"a right on one column":                      {"grant select (ciphertext) on euii.value to counterfoil_service", "euii.value column ciphertext to counterfoil_service SELECT"},
		"a right of everybody":                       {"grant select on chat.conversation to public", "chat.conversation table to public SELECT"},
		"a right past the log's table":               {"do $$ begin execute format('grant select on audit.record_%s to counterfoil_service', to_char(now() at time zone 'UTC', 'YYYY_MM')); end $$", "audit.record_month table to counterfoil_service"},
		"a right of everybody to a function":         {"grant execute on function access.authentic(bytea, bytea) to public", "access.authentic(bytea,bytea) function to public EXECUTE"},
		"a right that was taken":                     {"revoke insert on chat.event from counterfoil_service", "missing or changed: grant: chat.event table to counterfoil_service INSERT"},
		"a trigger switched off":                     {"alter table audit.head disable trigger no_delete", "audit.head no_delete enabled A"},
		"a trigger switched off for one month":       {"do $$ begin execute format('alter table audit.record_%s disable trigger append_only', to_char(now() at time zone 'UTC', 'YYYY_MM')); end $$", "audit.record_month append_only enabled D"},
		"a trigger that a replica would skip":        {"alter table audit.tile enable trigger append_only", "audit.tile append_only enabled O"},
		"a trigger that was dropped":                 {"drop trigger append_only on audit.node", "missing or changed: trigger: audit.node append_only"},
		"row level security switched off":            {"alter table chat.visitor disable row level security", "chat.visitor disabled forced"},
		"row level security its owner passes":        {"alter table euii.key no force row level security", "euii.key enabled"},
		"a policy that lets everything through":      {"create policy open on chat.visitor to counterfoil_service using (true)", "chat.visitor open"},
		"a function with another body":               {"create or replace function access.authentic(p_mac bytea, p_message bytea) returns boolean language plpgsql stable as $$ begin return true; end $$", "access.authentic(bytea,bytea)"},
		"a function that runs as its caller":         {"alter function access.take(uuid, bigint[], bytea[]) security invoker", "access.take(uuid,bigint[],bytea[])"},
		"a function that was added":                  {"create function access.mine() returns int language sql as 'select 1'", "access.mine()"},
		"another owner":                              {"alter table euii.value owner to postgres", "euii.value owner postgres"},
		"a table that was added":                     {"create table chat.mine (i int)", "chat.mine"},
		"a column that was added":                    {"alter table chat.visitor add column name text", "chat.visitor.name text"},
		"a rule that rewrites":                       {"create rule gone as on delete to chat.visitor do instead nothing", "chat.visitor gone"},
		"a view that shows more":                     {"create or replace view auditor.node as select n.organisation_id as log_id, n.level, n.idx, (select k.wrapped from euii.key k limit 1) as hash from audit.node n", "auditor.node shows euii.key.wrapped"},
		"a view of somebody else's":                  {"alter view auditor.record owner to postgres", "auditor.record owner postgres"},
		"everybody may connect":                      {"do $$ begin execute format('grant connect on database %I to public', current_database()); end $$", "database to public CONNECT"},
		"locks for everybody":                        {"grant execute on function pg_advisory_lock(bigint) to public", "pg_advisory_lock(bigint) function to public EXECUTE"},
		"a bound that was dropped":                   {"alter table audit.retention drop constraint retention_days_check", "missing or changed: constraint: audit.retention retention_days_check"},
		"a bound that was loosened":                  {"alter table access.ticket drop constraint ticket_short; alter table access.ticket add constraint ticket_short check (true)", "access.ticket ticket_short CHECK (true)"},
		"a conversation that may be open twice":      {"drop index chat.conversation_one_open", "missing or changed: unique index: CREATE UNIQUE INDEX conversation_one_open"},
		"rights on tables to come":                   {"alter default privileges for role counterfoil_audit in schema audit grant select on tables to counterfoil_service", "default grant: audit r of counterfoil_audit to counterfoil_service SELECT"},
		"a copy that leaves the database":            {"create publication everything for all tables", "not made by the migrations: publication: everything"},
		"an extension":                               {"create extension if not exists pgcrypto", "pgcrypto"},
		"a month that is missing":                    {"do $$ declare m text := to_char((now() at time zone 'UTC') + interval '1 month', 'YYYY_MM'); begin execute format('drop table audit.search_%s', m); end $$", "no table for the records of"},
		"a decision key that is missing":             {"delete from access.decision_key", "none is installed"},
		"commits of the service that are not waited": {"do $$ begin execute format('alter role counterfoil_service in database %I set synchronous_commit = off', current_database()); end $$", "synchronous_commit"},
		"commits that nobody waits for":              {"set synchronous_commit = off", "synchronous_commit is off"},
		"values in the server's log":                 {"set log_min_duration_statement = 0", "log_min_duration_statement = 0"},
		"statements in the server's log":             {"set log_statement = 'all'", "log_statement = all"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := pgtest.Database(t, migrations.FS).Superuser(t)
			run(t, conn, installKey, test.sql)
			findings := examine(t, conn).Findings
			for _, f := range findings {
				if strings.Contains(f.What, test.want) {
					if f.Remedy == "" {
						t.Error("no remedy")
					}
					return
				}
			}
			t.Errorf("found only %+v", findings)
		})
	}
}

// Roles and admission belong to the whole server, so these disturb one of their own.
func TestTheDoctorFindsInAServer(t *testing.T) {
	db := pgtest.Private(t, migrations.FS)
	conn := db.Superuser(t)
	run(t, conn, installKey)
	second := db.Superuser(t)
	run(t, second, "set application_name = 'psql'")
	const connect = "grant connect on database test_1 to counterfoil_auditor_x" // the only one of this server
	for name, test := range map[string]struct{ do, undo, want string }{
		"a superuser":                 {"alter role counterfoil_service superuser", "alter role counterfoil_service nosuperuser", "counterfoil_service may do anything"},
		"a role that sees everybody":  {"alter role counterfoil_service bypassrls", "alter role counterfoil_service nobypassrls", "see all organisations"},
		"an owner who can log in":     {"alter role counterfoil_euii login", "alter role counterfoil_euii nologin", "owner counterfoil_euii can log in"},
		"a member of an owner":        {"grant counterfoil_access to counterfoil_service", "revoke counterfoil_access from counterfoil_service", "counterfoil_service is a member of counterfoil_access"},
		"a member of a powerful role": {"grant pg_read_all_data to counterfoil_service", "revoke pg_read_all_data from counterfoil_service", "member of pg_read_all_data"},
		"an auditor nobody admitted": {
			"create role counterfoil_auditor_x login in role counterfoil_auditor; " + connect, "drop owned by counterfoil_auditor_x; drop role counterfoil_auditor_x", "counterfoil_auditor_x may read the log and is no auditor that was made on record"},
		"an auditor whose time is over": {
			"create role counterfoil_auditor_x login in role counterfoil_auditor; insert into audit.auditor values (gen_random_uuid(), 'counterfoil_auditor_x', now())",
			"drop role counterfoil_auditor_x; delete from audit.auditor", "the time of the auditor counterfoil_auditor_x is over"},
		"an auditor with more rights":   {"create role counterfoil_auditor_x login in role pg_monitor", "drop role counterfoil_auditor_x", "counterfoil_auditor_x is a member of pg_monitor"},
		"the auditors' role can log in": {"alter role counterfoil_auditor login", "alter role counterfoil_auditor nologin", "role: counterfoil_auditor can log in"},
		"a password kept as MD5":        {"set password_encryption = 'md5'; alter role counterfoil_service password 'a secret'", "alter role counterfoil_service password null", "kept as MD5"},
		"another superuser at work":     {"select 1", "select 1", "over the socket (psql) is connected"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, sql := range strings.Split(test.do, "; ") {
				run(t, conn, sql)
			}
			findings := examine(t, conn).Findings
			run(t, conn, test.undo)
			for _, f := range findings {
				if strings.Contains(f.What, test.want) {
					return
				}
			}
			t.Errorf("found only %+v", findings)
		})
	}
	var path string
	if err := conn.QueryRow(t.Context(), "select current_setting('hba_file')").Scan(&path); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ line, want string }{
		"anybody from the network":           {"host all all 0.0.0.0/0 trust", "admits anybody at 0.0.0.0"},
		"anybody on the machine":             {"local all all trust", "every user of the machine"},
		"a password that can be replayed":    {"local all all md5", "can be replayed"},
		"a network without TLS":              {"host all all 10.0.0.0/8 scram-sha-256", "lets 10.0.0.0 connect without TLS"},
		"any name without TLS":               {"host all all all scram-sha-256", "lets all connect without TLS"},
		"a line that is not understood":      {"nonsense", "is not understood"},
		"nothing in what is as it should be": {"host all all 127.0.0.1/32 scram-sha-256\nhost all all 0.0.0.0/0 reject", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, append([]byte(test.line+"\n"), good...), 0o640); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(path, good, 0o640) //nolint:errcheck // the next case writes it anew
			var found []string
			for _, f := range examine(t, conn).Findings {
				if f.Check == "who may connect from where" {
					found = append(found, f.What)
				}
			}
			if all := strings.Join(found, "\n"); (test.want == "") != (all == "") || !strings.Contains(all, test.want) {
				t.Errorf("found %q", found)
			}
		})
	}
}

func TestTheDoctorWantsToSeeEverything(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t, migrations.FS).URL(service))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the test is over
	if _, err := doctor.Examine(ctx, conn, migrations.Catalog, service); err == nil || !strings.Contains(err.Error(), "no superuser") {
		t.Errorf("got %v", err)
	}
}
