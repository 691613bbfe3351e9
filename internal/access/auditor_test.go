package access_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/relay/relaytest"
)

// auditorOf admits an outside auditor as `counterfoil auditor create` does, and gives what he connects with.
func auditorOf(t *testing.T, w *relaytest.World, organisation uuid.UUID, login string, until time.Time) string {
	t.Helper()
	admin := w.DB.Superuser(t)
	var verifier string
	for _, sql := range []string{"set password_encryption = 'scram-sha-256'", "create role " + login + "_pattern password 'audit me'"} {
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
	must(t, admin.QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = $1", login+"_pattern").Scan(&verifier))
	_, err := admin.Exec(t.Context(), "drop role "+login+"_pattern")
	must(t, err)
	_, err = admin.Exec(t.Context(), "select audit.admit_auditor($1, $2, $3, $4)", organisation, login, until, verifier)
	must(t, err)
	t.Cleanup(func() { admin.Exec(context.Background(), "select audit.dismiss_auditor($1, $2)", organisation, login) }) //nolint:errcheck // a case may have done it
	u, err := url.Parse(w.DB.URL(login))
	must(t, err)
	u.User = url.UserPassword(login, "audit me")
	return u.String()
}

func auditor(t *testing.T, where string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), where)
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) }) //nolint:errcheck // the test is over
	return conn
}

// What an outside auditor can do who has his login and psql.
func TestAnAuditorReadsTheLogOfHisOrganisationAndNothingElse(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	foreign := newScene(t, relaytest.Options{DB: s.DB})
	must(t, s.shown(t, s.Readers))
	must(t, foreign.shown(t, foreign.Readers))
	ctx := t.Context()
	// His organisation has a closed log as well, and the others have tiles.
	before := s.Entries(t)
	head, err := s.Log.Head(ctx, s.Organisation.ID)
	must(t, err)
	next, kept, err := s.Log.NextEpoch(s.Organisation.ID, head)
	must(t, err)
	_, err = s.DB.Superuser(t).Exec(ctx, "select audit.begin_epoch($1, $2, $3, $4, $5, $6)", s.Organisation.ID, kept, int64(head.Size), string(head.Checkpoint), next.Origin, string(next.Checkpoint))
	must(t, err)
	must(t, s.shown(t, s.Readers))
	must(t, s.Log.Index(ctx))
	for _, o := range []uuid.UUID{s.Organisation.ID, foreign.Organisation.ID} {
		asSuperuser(t, s.World, fmt.Sprintf("insert into audit.tile (organisation_id, idx, hashes) values ('%s', 7, repeat('x', 8192)::bytea)", o),
			fmt.Sprintf("insert into audit.node (organisation_id, level, idx, hash) values ('%s', 1, 7, repeat('x', 32)::bytea)", o))
	}
	where := auditorOf(t, s.World, s.Organisation.ID, "counterfoil_auditor_mine", time.Now().Add(time.Hour))
	conn := auditor(t, where)
	theirs := auditor(t, auditorOf(t, s.World, foreign.Organisation.ID, "counterfoil_auditor_theirs", time.Now().Add(time.Hour)))
	if n := count(t, theirs, "select count(*) from record where log_id = $1", foreign.Organisation.ID); n != len(foreign.Entries(t)) {
		t.Fatalf("the other organisation's auditor reads %d records", n)
	}

	t.Run("reads the entries, what they are searched by, days, tree and heads of his logs", func(t *testing.T) {
		var body []byte
		var entry string
		must(t, conn.QueryRow(ctx, "select body, entry from auditor.record where log_id = $1 and seq = 0", kept).Scan(&body, &entry))
		if string(body) != entry || !strings.Contains(entry, before[0].Action) {
			t.Errorf("entry 0 of the closed log reads %q", entry)
		}
		for view, want := range map[string]int{"log": 2, "record": int(head.Size) + len(s.Entries(t)), "search": len(s.Entries(t)), "tile": 1, "node": 1} {
			if n := count(t, conn, "select count(*) from "+view); n != want { // his search path leads to the views
				t.Errorf("%d rows in %s, want %d", n, view, want)
			}
		}
		if n := count(t, conn, "select count(*) from auditor.day"); n == 0 {
			t.Error("no days")
		}
		if n := count(t, conn, "select count(*) from auditor.log where checkpoint = $1 and epoch = 1 or epoch is null and size > 0", string(head.Checkpoint)); n != 2 {
			t.Errorf("%d of two checkpoints", n)
		}
		if n := count(t, conn, "select count(*) from auditor.record where leaf_hash = sha256('\\x00'::bytea || body)"); n == 0 {
			t.Error("no leaf hash is that of its entry")
		}
	})
	t.Run("reads no other organisation's, however he asks", func(t *testing.T) {
		for _, view := range []string{"log", "record", "search", "day", "tile", "node"} {
			ask := "select count(*) from auditor." + view + " where log_id = $1"
			if n := count(t, s.DB.Superuser(t), "select count(*) from audit."+strings.ReplaceAll(view, "log", "head")+" where organisation_id = $1", foreign.Organisation.ID); n == 0 && view != "search" && view != "day" {
				t.Fatalf("the other organisation has no %s: the case shows nothing", view)
			}
			if n := count(t, conn, ask, foreign.Organisation.ID); n != 0 {
				t.Errorf("%d rows of another organisation in %s", n, view)
			}
		}
		for _, first := range []string{enter(foreign.Organisation.ID), "set local role counterfoil_auditor", "set local row_security = off"} {
			tx, err := conn.Begin(ctx)
			must(t, err)
			_, err = tx.Exec(ctx, first)
			must(t, err)
			var n int
			if err := tx.QueryRow(ctx, "select count(*) from auditor.record where log_id = $1", foreign.Organisation.ID).Scan(&n); n != 0 {
				t.Errorf("%d records after %s (%v)", n, first, err)
			}
			must(t, tx.Rollback(ctx))
		}
		// A value of a foreign row must not come out in an error either.
		if _, err := conn.Exec(ctx, "select count(*) from auditor.record where convert_from(body, 'UTF8')::int > 0 and log_id = $1", foreign.Organisation.ID); err != nil && strings.Contains(err.Error(), foreign.Organisation.ID.String()) {
			t.Errorf("an error says %v", err)
		}
	})
	t.Run("finds no plaintext and no ciphertext, ticket, key or session", func(t *testing.T) {
		for _, what := range []string{
			"* from euii.key", "* from euii.value", "count(*) from euii.value", "* from euii.lookup", "* from access.ticket", "* from access.decision_key",
			"* from chat.event", "body from chat.event", "* from chat.organisation", "* from chat.visitor", "* from console.admin", "* from console.totp", "* from console.session", "* from console.network",
			"* from audit.record", "* from audit.head", "* from audit.search", "* from audit.auditor", "* from audit.epoch",
			"* from audit.record_" + time.Now().UTC().Format("2006_01"), "* from pg_authid", "pg_read_file('PG_VERSION')",
			"* from access.take(gen_random_uuid(), '{0}', '{x}')", "access.organisation()", "* from access.organisations()", "* from access.log_entries(gen_random_uuid(), 0, 9, 9)",
			"access.log_head(gen_random_uuid())", "access.check_decision_key('', '')",
		} {
			if err := within(t, conn, "select "+what); state(err) != forbidden {
				t.Errorf("select %s: %v", what, err)
			}
		}
		rows, err := conn.Query(ctx, "select to_jsonb(r)::text from auditor.record r union all select to_jsonb(s)::text from auditor.search s union all select to_jsonb(l)::text from auditor.log l")
		must(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		if len(all) < 5 || strings.Contains(strings.ToLower(strings.Join(all, "\n")), strings.ToLower(canary)) {
			t.Errorf("%d rows, or the canary is in them", len(all))
		}
	})
	t.Run("writes nothing", func(t *testing.T) {
		for _, sql := range []string{
			"insert into auditor.day (log_id, day, action, decision, n) values (gen_random_uuid(), now(), '', '', 1)", "update auditor.record set seq = 0", "delete from auditor.search", "truncate audit.day",
			"insert into audit.auditor (organisation_id, login, until) values ('" + foreign.Organisation.ID.String() + "', session_user, 'infinity')",
			"update audit.auditor set until = 'infinity'", "update audit.auditor set organisation_id = '" + foreign.Organisation.ID.String() + "'", "delete from audit.record",
			"select access.index_log(gen_random_uuid(), 1)", "select access.ensure_months()", "select access.set_log_retention(gen_random_uuid(), 90)", "select access.prune_log(gen_random_uuid(), 0, 0, 0)",
			"select access.create_log(gen_random_uuid(), '', '')", "select access.drop_tickets()", "select audit.admit_auditor(gen_random_uuid(), 'counterfoil_auditor_y', now(), '')",
			"select audit.dismiss_auditor(gen_random_uuid(), 'counterfoil_auditor_mine')", "select audit.begin_epoch(gen_random_uuid(), gen_random_uuid(), 0, '', '', '')",
			"create table mine ()", "create temporary table mine ()", "create table public.mine ()", "create schema mine", "create view auditor.mine as select 1", "create role mine",
			"select lo_from_bytea(0, 'x')", "select lo_create(0)", "select pg_advisory_lock(1)", "select pg_try_advisory_xact_lock(1, 2)",
			"alter role counterfoil_auditor_mine superuser", "alter role counterfoil_auditor_mine valid until 'infinity'", "grant counterfoil_access to counterfoil_auditor_mine", "set role counterfoil_views", "set role counterfoil_service",
			"set session authorization counterfoil_service", "copy (select 1) to program 'true'",
		} {
			if err := within(t, conn, "set transaction read write", sql); state(err) != forbidden {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	t.Run("sees nothing once his time is over, though he is still connected", func(t *testing.T) {
		if n := count(t, conn, "select count(*) from auditor.record"); n == 0 {
			t.Fatal("he sees nothing before: the case shows nothing")
		}
		tx, err := conn.Begin(ctx)
		must(t, err)
		asSuperuser(t, s.World, "update audit.auditor set until = clock_timestamp() where login = 'counterfoil_auditor_mine'")
		for _, view := range []string{"log", "record", "search", "day", "tile", "node"} {
			if n := count(t, tx, "select count(*) from auditor."+view); n != 0 {
				t.Errorf("%d rows of %s", n, view)
			}
		}
		must(t, tx.Rollback(ctx))
	})
	t.Run("is gone when he is dismissed", func(t *testing.T) {
		asSuperuser(t, s.World, fmt.Sprintf("select audit.dismiss_auditor('%s', 'counterfoil_auditor_mine')", s.Organisation.ID))
		for begun := time.Now(); conn.Ping(ctx) == nil; time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > 10*time.Second {
				t.Fatal("his session goes on")
			}
		}
		if _, err := pgx.Connect(ctx, where); err == nil {
			t.Error("he connects")
		}
	})
}

func TestNobodyIsAnAuditorWithoutALoginOfHisOwn(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	if n := count(t, s.DB.Superuser(t), "select count(*) from pg_roles where rolname like 'counterfoil\\_auditor%' and rolcanlogin and rolname not in (select login from audit.auditor)"); n != 0 {
		t.Errorf("%d auditors may log in before one was admitted", n)
	}
	admin := s.DB.Superuser(t)
	until := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		organisation    uuid.UUID
		login, verifier string
		until           time.Time
	}{
		"a password in the clear":    {s.Organisation.ID, "counterfoil_auditor_x", "secret", until},
		"a login of the service":     {s.Organisation.ID, "counterfoil_service", "SCRAM-SHA-256$1", until},
		"an end that is past":        {s.Organisation.ID, "counterfoil_auditor_x", "SCRAM-SHA-256$1", time.Now().Add(-time.Minute)},
		"no organisation":            {uuid.New(), "counterfoil_auditor_x", "SCRAM-SHA-256$1", until},
		"a name that is a statement": {s.Organisation.ID, "counterfoil_auditor_x; drop role y", "SCRAM-SHA-256$1", until},
	} {
		if _, err := admin.Exec(t.Context(), "select audit.admit_auditor($1, $2, $3, $4)", test.organisation, test.login, test.until, test.verifier); state(err) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, sql := range []string{"select * from auditor.record", "select audit.admit_auditor(gen_random_uuid(), 'counterfoil_auditor_z', now(), '')", "create temporary table mine ()", "select lo_create(0)", "select pg_advisory_lock(1)"} {
		if err := within(t, service(t, s.World), sql); state(err) != forbidden {
			t.Errorf("the service: %s: %v", sql, err)
		}
	}
}
