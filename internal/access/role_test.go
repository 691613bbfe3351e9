package access_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"counterfoil/internal/relay/relaytest"
)

// state is the SQLSTATE of an error, empty when there is none.
func state(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &pgErr):
		return pgErr.Code
	}
	return err.Error()
}

const (
	forbidden = "42501" // insufficient_privilege, also of row level security
	refused   = "P0001" // raise_exception
)

// within runs statements one after another in a transaction that is rolled back, and gives the error of the last.
func within(t *testing.T, conn *pgx.Conn, statements ...string) error {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	defer tx.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // the statements are what is tested
	for i, sql := range statements {
		if _, err = tx.Exec(t.Context(), sql); err != nil && i < len(statements)-1 {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return err
}

// service connects as the role of the service, with nothing of the product in between.
func service(t *testing.T, w *relaytest.World) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.DB.URL("counterfoil_service"))
	must(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) }) //nolint:errcheck // the test is over
	return conn
}

func enter(organisation uuid.UUID) string {
	return fmt.Sprintf("select set_config('counterfoil.organisation', '%s', true)", organisation)
}

// count runs a query that counts.
func count(t *testing.T, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any) (n int) {
	t.Helper()
	must(t, q.QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// What somebody can do who has the service's connection to the database and can send it any SQL, but none of its code.
func TestTheServiceRole(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	foreign := newScene(t, relaytest.Options{DB: s.DB})
	conn := service(t, s.World)
	inside := enter(s.Organisation.ID)

	t.Run("cannot read what is sealed, recorded or ticketed", func(t *testing.T) {
		for _, what := range []string{
			"* from euii.key", "wrapped from euii.key", "* from euii.value", "ciphertext from euii.value", "count(*) from euii.value", "* from euii.lookup",
			"* from audit.head", "* from audit.record", "body from audit.record", "count(*) from audit.record", "* from audit.tile", "* from audit.node",
			"* from access.ticket", "body from chat.event", "* from chat.event", "length(body) from chat.event", "e from chat.event e", "to_jsonb(e) from chat.event e",
			"pg_read_file('PG_VERSION')", "pg_ls_dir('.')", "lo_import('/etc/passwd')",
		} {
			if err := within(t, conn, inside, "select "+what); state(err) != forbidden {
				t.Errorf("select %s: %v", what, err)
			}
		}
	})
	t.Run("cannot write where only functions may", func(t *testing.T) {
		for _, sql := range []string{
			"insert into access.ticket (organisation_id, seq, subject_id, row_id, fields, valid_until) values (gen_random_uuid(), 0, gen_random_uuid(), gen_random_uuid(), '{}', now())",
			"update access.ticket set valid_until = 'infinity'", "delete from access.ticket", "truncate access.ticket",
			"update euii.value set row_id = subject_id", "delete from euii.key", "truncate euii.value", "delete from euii.lookup",
			"update audit.head set size = 0", "delete from audit.head", "insert into audit.record select * from audit.record", "update audit.record set at = now()",
			"delete from audit.record", "truncate audit.record", "delete from audit.tile", "update audit.node set hash = ''", "drop table audit.record",
			"alter table audit.record disable trigger all", "alter table chat.event disable row level security", "drop policy own_organisation on chat.event",
			"update chat.event set body = ''", "update chat.event set by_id = gen_random_uuid()", "delete from chat.event", "truncate chat.event", "delete from chat.conversation",
			"create table chat.mine ()", "create table public.mine ()", "create function access.mine() returns int language sql return 1", "create schema mine",
			"create or replace function access.organisation() returns uuid language sql return null::uuid", "alter function access.take(uuid, bigint[]) security invoker",
			"grant select on euii.value to counterfoil_service", "create role mine", "alter role counterfoil_service superuser",
			"select audit.begin_epoch(gen_random_uuid(), gen_random_uuid(), 0, '', '', '')", "select * from audit.epoch",
			"set session_replication_role = replica", "copy (select 1) to program 'true'", "copy chat.organisation to '/tmp/counterfoil-leak'",
		} {
			// What is owned by another is refused with the same state; so are roles and files.
			if err := within(t, conn, inside, sql); state(err) != forbidden {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	t.Run("cannot become another role", func(t *testing.T) {
		for _, role := range []string{"counterfoil_access", "counterfoil_euii", "counterfoil_audit", "counterfoil_chat", "postgres"} {
			for _, sql := range []string{"set role " + role, "set session authorization " + role} {
				if err := within(t, conn, sql); err == nil {
					t.Errorf("%s worked", sql)
				}
			}
		}
	})
	t.Run("sees the rows of the organisation it has entered and no others", func(t *testing.T) {
		for _, table := range []string{"organisation", "widget", "visitor", "agent", "conversation", "session", "outbox"} {
			sql := "select count(*) from chat." + table + " where organisation_id = $1"
			tx, err := conn.Begin(t.Context())
			must(t, err)
			if n := count(t, tx, sql, s.Organisation.ID); n != 0 {
				t.Errorf("%d rows of %s without an organisation", n, table)
			}
			if _, err := tx.Exec(t.Context(), inside); err != nil {
				t.Fatal(err)
			}
			if n := count(t, tx, sql, s.Organisation.ID); n == 0 {
				t.Errorf("no row of %s: the case shows nothing", table)
			}
			if n := count(t, tx, "select count(*) from chat."+table+" where organisation_id <> $1", s.Organisation.ID); n != 0 {
				t.Errorf("%d rows of %s of others", n, table)
			}
			must(t, tx.Rollback(t.Context()))
			if n := count(t, conn, sql, s.Organisation.ID); n != 0 {
				t.Errorf("%d rows of %s after the transaction", n, table)
			}
		}
		for _, sql := range []string{
			fmt.Sprintf("insert into chat.widget (organisation_id, widget_id, public_key, name) values ('%s', gen_random_uuid(), 'w', 'w')", foreign.Organisation.ID),
			fmt.Sprintf("update chat.widget set organisation_id = '%s'", foreign.Organisation.ID),
		} {
			if err := within(t, conn, inside, sql); state(err) != forbidden {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	t.Run("takes nothing before the record is committed", func(t *testing.T) {
		tx, err := conn.Begin(t.Context())
		must(t, err)
		seq := record(t, tx, s, "agent_display_name", 0, 15)
		if n := taken(t, tx, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d values within the recording transaction", n)
		}
		if _, err := tx.Exec(t.Context(), "savepoint p"); err != nil {
			t.Fatal(err)
		}
		if n := taken(t, tx, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d values in a subtransaction", n)
		}
		if n := taken(t, service(t, s.World), s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d values on another connection", n)
		}
		must(t, tx.Rollback(t.Context()))
		if n := taken(t, conn, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d values after the rollback", n)
		}
	})
	t.Run("takes no message before the record is committed", func(t *testing.T) {
		tx, err := conn.Begin(t.Context())
		must(t, err)
		seq := recordOf(t, tx, s, s.Session.Conversation, s.Session.Conversation, "message_body", 1<<30, 15)
		const take = "select count(*) from access.take_messages($1, $2, 0, 10)"
		if n := count(t, tx, take, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d messages within the recording transaction", n)
		}
		must(t, tx.Rollback(t.Context()))
		if n := count(t, conn, take, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d messages after the rollback", n)
		}
	})
	t.Run("takes exactly what a committed record lets through", func(t *testing.T) {
		seq := committed(t, conn, s, "agent_display_name", 15)
		if n := taken(t, conn, s.Organisation.ID, seq); n != 1 {
			t.Errorf("%d values, want the display name", n)
		}
		if n := taken(t, conn, foreign.Organisation.ID, seq); n != 0 {
			t.Errorf("%d values of another organisation", n)
		}
		if n := count(t, conn, "select count(*) from access.take_messages($1, $2, 0, 10)", s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d messages through a ticket for values", n)
		}
		if n := taken(t, conn, s.Organisation.ID, seq-1); n != 0 {
			t.Errorf("%d values through a record without a ticket", n)
		}
		if n := taken(t, conn, s.Organisation.ID, committed(t, conn, s, "visitor_email", 15)); n != 0 {
			t.Errorf("%d values of a field the agent has not", n)
		}
		if n := taken(t, conn, s.Organisation.ID, committed(t, conn, s, "agent_display_name", 0)); n != 0 {
			t.Errorf("%d values through a ticket that has ended", n)
		}
	})
}

// record records as the service does, by SQL alone, a disclosure of the agent's field; it gives the number of the record.
func record(t *testing.T, tx pgx.Tx, s scene, field string, messages, seconds int) int64 {
	t.Helper()
	return recordOf(t, tx, s, s.Agent.ID, s.Session.Conversation, field, messages, seconds)
}

func recordOf(t *testing.T, tx pgx.Tx, s scene, subject, row uuid.UUID, field string, messages, seconds int) int64 {
	t.Helper()
	var seq int64
	must(t, tx.QueryRow(t.Context(), "select size from access.lock_head($1)", s.Organisation.ID).Scan(&seq))
	var done bool
	must(t, tx.QueryRow(t.Context(), `select access.record(p_organisation => $1, p_size => $2, p_at => clock_timestamp(), p_kind => '{disclosure}', p_action => '{x}',
		p_actor_kind => '{x}', p_actor_ref => '{x}', p_subject_kind => '{x}', p_subject_ref => '{x}', p_decision => '{allow}', p_conversation => '{x}',
		p_body => array['x'::bytea], p_node_level => '{}', p_node_idx => '{}', p_node_hash => '{}', p_frontier => '', p_checkpoint => 'x',
		p_ticket_seq => array[$2::bigint], p_ticket_subject => array[$3::uuid], p_ticket_row => array[$4::uuid], p_ticket_fields => array[$5::text],
		p_ticket_messages => array[$6::int], p_ticket_seconds => array[$7::int])`,
		s.Organisation.ID, seq, subject, row, field, messages, seconds).Scan(&done))
	if !done {
		t.Fatal("nothing was recorded: the case shows nothing")
	}
	return seq
}

func committed(t *testing.T, conn *pgx.Conn, s scene, field string, seconds int) int64 {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	seq := record(t, tx, s, field, 0, seconds)
	must(t, tx.Commit(t.Context()))
	return seq
}

func taken(t *testing.T, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, organisation uuid.UUID, seq int64) int {
	t.Helper()
	return count(t, q, "select count(ciphertext) from access.take($1, $2)", organisation, []int64{seq})
}

// Even the superuser changes the log only by taking its triggers off, which is a change of the schema and not a slip; an
// export taken before shows it in any case.
func TestTheLogOnlyGrowsEvenForTheSuperuser(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	conn := asSuperuser(t, s.World,
		fmt.Sprintf("insert into audit.tile (organisation_id, idx, hashes) values ('%s', 0, repeat('x', 8192)::bytea)", s.Organisation.ID),
		fmt.Sprintf("insert into audit.node (organisation_id, level, idx, hash) values ('%s', 1, 0, repeat('x', 32)::bytea)", s.Organisation.ID))
	changes := []string{"delete from audit.head", "truncate audit.head", "truncate audit.head, audit.record, audit.tile, audit.node"}
	for _, table := range []string{"record", "tile", "node"} {
		changes = append(changes, "update audit."+table+" set organisation_id = organisation_id", "delete from audit."+table, "truncate audit."+table, "truncate audit."+table+" cascade")
	}
	for _, mode := range []string{"origin", "replica", "local"} { // a replica skips triggers that are not told to fire always
		for _, sql := range changes {
			if err := within(t, conn, "set local session_replication_role = "+mode, sql); state(err) != refused || !strings.Contains(err.Error(), "only grows") {
				t.Errorf("%s as %s: %v", sql, mode, err)
			}
		}
	}
	for _, role := range []string{"counterfoil_access", "counterfoil_audit"} {
		for _, sql := range changes {
			err := within(t, conn, enter(s.Organisation.ID), "set local role "+role, sql)
			if got := state(err); got != refused && got != forbidden {
				// Row level security leaves an owner without a policy no row to change; then nothing changes.
				if strings.HasPrefix(sql, "truncate") || err != nil {
					t.Errorf("%s as %s: %v", sql, role, err)
				}
			}
		}
	}
	if n := count(t, conn, "select count(*) from audit.record"); n != len(s.Entries(t)) || n == 0 {
		t.Errorf("%d records", n)
	}
}
