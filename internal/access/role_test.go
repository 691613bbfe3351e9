package access_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"counterfoil/audit/pglog"
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
	violated  = "23514" // check_violation
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
func count(t *testing.T, q querier, sql string, args ...any) (n int) {
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
			"* from access.ticket", "* from access.decision_key", "inner_pad from access.decision_key", "access.authentic('', '')", "body from chat.event", "* from chat.event", "length(body) from chat.event", "e from chat.event e", "to_jsonb(e) from chat.event e",
			"pg_read_file('PG_VERSION')", "pg_ls_dir('.')", "lo_import('/etc/passwd')",
		} {
			if err := within(t, conn, inside, "select "+what); state(err) != forbidden {
				t.Errorf("select %s: %v", what, err)
			}
		}
	})
	t.Run("cannot write where only functions may", func(t *testing.T) {
		for _, sql := range []string{
			"insert into access.ticket (organisation_id, seq, subject_id, row_id, fields, claim, valid_until) values (gen_random_uuid(), 0, gen_random_uuid(), gen_random_uuid(), '{}', '', now())",
			"update access.ticket set valid_until = 'infinity'", "update access.decision_key set inner_pad = outer_pad", "delete from access.decision_key", "delete from access.ticket", "truncate access.ticket",
			"update euii.value set row_id = subject_id", "delete from euii.key", "truncate euii.value", "delete from euii.lookup",
			"update audit.head set size = 0", "delete from audit.head", "insert into audit.record select * from audit.record", "update audit.record set at = now()",
			"delete from audit.record", "truncate audit.record", "delete from audit.tile", "update audit.node set hash = ''", "drop table audit.record",
			"alter table audit.record disable trigger all", "alter table chat.event disable row level security", "drop policy own_organisation on chat.event",
			"update chat.event set body = ''", "update chat.event set by_id = gen_random_uuid()", "delete from chat.event", "truncate chat.event", "delete from chat.conversation",
			"create table chat.mine ()", "create table public.mine ()", "create function access.mine() returns int language sql return 1", "create schema mine",
			"create or replace function access.organisation() returns uuid language sql return null::uuid", "alter function access.take(uuid, bigint[], bytea[]) security invoker",
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
		if n := messagesTaken(t, tx, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d messages within the recording transaction", n)
		}
		must(t, tx.Rollback(t.Context()))
		if n := messagesTaken(t, conn, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d messages after the rollback", n)
		}
	})
	t.Run("gets no ticket that lasts longer than it may, whoever authenticates it", func(t *testing.T) {
		for _, c := range []struct {
			messages, seconds int
			want              string
		}{{0, 15, ""}, {0, 16, violated}, {1, 15, ""}, {1, 3600, violated}, {1 << 30, 3600, ""}, {1 << 30, 3601, violated}} {
			tx, err := conn.Begin(t.Context())
			must(t, err)
			var size int64
			var now time.Time
			must(t, tx.QueryRow(t.Context(), "select size, now from access.lock_head($1)", s.Organisation.ID).Scan(&size, &now))
			args := []any{s.Organisation.ID, size, now, s.Agent.ID, s.Session.Conversation, "agent_email", c.messages, c.seconds, []byte("secret")}
			var mac []byte
			must(t, s.DB.Superuser(t).QueryRow(t.Context(), sqlMAC(), args...).Scan(&mac))
			_, err = tx.Exec(t.Context(), sqlRecord("$10"), append(args, mac)...)
			if state(err) != c.want {
				t.Errorf("%d messages for %d seconds: %v", c.messages, c.seconds, err)
			}
			must(t, tx.Rollback(t.Context()))
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
		if n := messagesTaken(t, conn, s.Organisation.ID, seq); n != 0 {
			t.Errorf("%d messages through a ticket for values", n)
		}
		if n := taken(t, conn, s.Organisation.ID, ticket{seq.seq - 1, seq.secret}); n != 0 {
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

// ticket is a record made by SQL alone, and the secret that its ticket asks for.
type ticket struct {
	seq    int64
	secret []byte
}

// record records as the service does, by SQL alone, a disclosure of the agent's field. What a thief of the role's password
// lacks is the MAC, which here comes from whoever may read the key.
func record(t *testing.T, tx pgx.Tx, s scene, field string, messages, seconds int) ticket {
	t.Helper()
	return recordOf(t, tx, s, s.Agent.ID, s.Session.Conversation, field, messages, seconds)
}

// theRecord names what the service's role passes to access.record, in the terms of the parameters of one query.
var theRecord = []struct{ name, value string }{
	{"p_organisation", "$1::uuid"}, {"p_size", "$2::bigint"}, {"p_at", "$3::timestamptz"}, {"p_frontier", "''::bytea"}, {"p_checkpoint", "'x'::text"},
	{"p_ticket_seq", "array[$2::bigint]"}, {"p_ticket_subject", "array[$4::uuid]"}, {"p_ticket_row", "array[$5::uuid]"}, {"p_ticket_fields", "array[$6::text]"},
	{"p_ticket_messages", "array[$7::int]"}, {"p_ticket_seconds", "array[$8::int]"}, {"p_ticket_claim", "array[sha256($9::bytea)]"},
	{"p_node_level", "'{}'::int[]"}, {"p_node_idx", "'{}'::bigint[]"}, {"p_node_hash", "'{}'::bytea[]"}, {"p_body", "array['x'::bytea]"},
}

// sqlMAC is the MAC as RFC 2104 has it, over the arguments in their order above.
func sqlMAC() string {
	message := `'counterfoil/record/1'::bytea || '\x0a'`
	for _, a := range theRecord {
		switch a.name {
		case "p_organisation":
			message += " || uuid_send(" + a.value + ")"
		case "p_size":
			message += " || int8send(" + a.value + ")"
		case "p_at":
			message += " || timestamptz_send(" + a.value + ")"
		case "p_frontier", "p_checkpoint":
			message += " || array_send(array[" + a.value + "])"
		default:
			message += " || array_send(" + a.value + ")"
		}
	}
	return "select sha256(outer_pad || sha256(inner_pad || " + message + ")) from access.decision_key"
}

func sqlRecord(mac string) string {
	sql := "select access.record("
	for _, a := range theRecord {
		sql += a.name + " => " + a.value + ", "
	}
	return sql + "p_mac => " + mac + ")"
}

func recordOf(t *testing.T, tx pgx.Tx, s scene, subject, row uuid.UUID, field string, messages, seconds int) ticket {
	t.Helper()
	k := ticket{secret: []byte("known to one process")}
	var now time.Time
	must(t, tx.QueryRow(t.Context(), "select size, now from access.lock_head($1)", s.Organisation.ID).Scan(&k.seq, &now))
	args := []any{s.Organisation.ID, k.seq, now, subject, row, field, messages, seconds, k.secret}
	var mac []byte
	must(t, s.DB.Superuser(t).QueryRow(t.Context(), sqlMAC(), args...).Scan(&mac))
	var done bool
	must(t, tx.QueryRow(t.Context(), sqlRecord("$10"), append(args, mac)...).Scan(&done))
	if !done {
		t.Fatal("nothing was recorded: the case shows nothing")
	}
	return k
}

func committed(t *testing.T, conn *pgx.Conn, s scene, field string, seconds int) ticket {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	must(t, err)
	k := record(t, tx, s, field, 0, seconds)
	must(t, tx.Commit(t.Context()))
	return k
}

type querier interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}

func taken(t *testing.T, q querier, organisation uuid.UUID, k ticket) int {
	t.Helper()
	return count(t, q, "select count(ciphertext) from access.take($1, $2, $3)", organisation, []int64{k.seq}, [][]byte{k.secret})
}

func messagesTaken(t *testing.T, q querier, organisation uuid.UUID, k ticket) int {
	t.Helper()
	return count(t, q, "select count(body) from access.take_messages($1, $2, $3, 0, 10)", organisation, k.seq, k.secret)
}

// What somebody can do who has the service's password and psql, but neither the decision key nor the memory of a process.
func TestTheServicePasswordAloneGivesNothing(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	foreign := newScene(t, relaytest.Options{DB: s.DB})
	conn := service(t, s.World)
	ctx := t.Context()
	const sqlRecords = "select count(*) from audit.record where organisation_id = $1"
	before := count(t, s.DB.Superuser(t), sqlRecords, s.Organisation.ID)
	args := func(organisation uuid.UUID) []any {
		var seq int64
		var now time.Time
		must(t, conn.QueryRow(ctx, "select size, now from access.lock_head($1)", organisation).Scan(&seq, &now))
		return []any{organisation, seq, now, s.Agent.ID, s.Session.Conversation, "agent_email", 0, 15, []byte("mine")}
	}
	for name, mac := range map[string][]byte{
		"no MAC": nil, "an empty MAC": {}, "a made-up MAC": make([]byte, 32),
		"the MAC of a key of zeros": func() []byte {
			k, err := pglog.NewDecisionKey(make([]byte, 32))
			must(t, err)
			return fmt.Appendf(nil, "%v", k)
		}(),
	} {
		for _, organisation := range []uuid.UUID{s.Organisation.ID, foreign.Organisation.ID} {
			var done bool
			if err := conn.QueryRow(ctx, sqlRecord("$10"), append(args(organisation), mac)...).Scan(&done); state(err) != forbidden {
				t.Errorf("D7: a record with %s: %v", name, err)
			}
		}
	}

	t.Run("D5: a MAC for one organisation, subject, field, time or place in the log is none for another", func(t *testing.T) {
		genuine := args(s.Organisation.ID)
		var mac []byte
		must(t, s.DB.Superuser(t).QueryRow(ctx, sqlMAC(), genuine...).Scan(&mac))
		for i, other := range []any{foreign.Organisation.ID, genuine[1].(int64) + 1, genuine[2].(time.Time).Add(time.Microsecond), s.Session.Visitor, s.Agent.ID, "agent_display_name", 1, 3600, []byte("else")} {
			changed := append([]any{}, genuine...)
			changed[i] = other
			var done bool
			if err := conn.QueryRow(ctx, sqlRecord("$10"), append(changed, mac)...).Scan(&done); state(err) != forbidden {
				t.Errorf("with argument %d changed: %v", i+1, err)
			}
		}
	})

	t.Run("the tickets of the running service are not the thief's", func(t *testing.T) {
		// The service holds this one; it is not fifteen seconds old.
		if _, err := s.Readers.AgentToVisitor.Read(ctx, s.visitor(), s.Scene, s.Agent.ID, s.Session.Conversation); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Readers.ConversationForVisitor.Follow(s.visitor()).Read(ctx, s.Scene, 0, 10); err != nil {
			t.Fatal(err)
		}
		live := count(t, s.DB.Superuser(t), "select count(*) from access.ticket where organisation_id = $1 and valid_until > now()", s.Organisation.ID)
		if live < 2 {
			t.Fatalf("%d tickets are alive: the case shows nothing", live)
		}
		for seq := range int64(before + 2) {
			for _, secret := range [][]byte{nil, {}, make([]byte, 16)} {
				k := ticket{seq, secret}
				if n := taken(t, conn, s.Organisation.ID, k) + messagesTaken(t, conn, s.Organisation.ID, k); n != 0 {
					t.Errorf("D7: %d ciphertexts of record %d", n, seq)
				}
			}
		}
	})

	t.Run("D1 to D4: rolling back, failing, hanging up and catching the error give nothing", func(t *testing.T) {
		k := ticket{int64(before), []byte("mine")}
		take := fmt.Sprintf("select ciphertext from access.take('%s', '{%d}', array['mine'::bytea])", s.Organisation.ID, k.seq)
		for name, run := range map[string]func(*pgx.Conn) (int, error){
			"D1: begin, record, take, rollback": func(c *pgx.Conn) (int, error) {
				tx, err := c.Begin(ctx)
				must(t, err)
				defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // the point of the case
				return taken(t, tx, s.Organisation.ID, record(t, tx, s, "agent_email", 0, 15)), nil
			},
			"D2: take, then an error in the same message": func(c *pgx.Conn) (int, error) {
				results, err := c.PgConn().Exec(ctx, take+"; select 1/0;").ReadAll()
				return len(results[0].Rows), err
			},
			"D3: take, then hang up": func(c *pgx.Conn) (int, error) {
				results, err := c.PgConn().Exec(ctx, "begin; "+take).ReadAll()
				must(t, err)
				return len(results[1].Rows), c.Close(ctx)
			},
			"D4: take in a block that catches its own error": func(c *pgx.Conn) (int, error) {
				n := 0
				_, err := c.Exec(ctx, fmt.Sprintf(`do $$ declare x bytea; begin
					begin select ciphertext into x from access.take('%s', '{%d}', array['mine'::bytea]); raise exception 'sub'; exception when others then null; end;
					if x is not null then raise exception 'got it'; end if; end $$`, s.Organisation.ID, k.seq))
				if err != nil {
					n = 1
				}
				return n, err
			},
		} {
			if n, _ := run(service(t, s.World)); n != 0 {
				t.Errorf("%s: %d ciphertexts", name, n)
			}
		}
	})

	t.Run("D6: one ticket is for one subject", func(t *testing.T) {
		var mine ticket
		tx, err := conn.Begin(ctx)
		must(t, err)
		mine = record(t, tx, s, "agent_display_name", 0, 15)
		must(t, tx.Commit(ctx))
		n := count(t, conn, "select count(ciphertext) from generate_series(0, 999) g, lateral access.take($1, array[g::bigint], array[$2::bytea])", s.Organisation.ID, mine.secret)
		if n != 1 {
			t.Errorf("%d ciphertexts with one ticket", n)
		}
	})
	if n := count(t, s.DB.Superuser(t), sqlRecords, s.Organisation.ID); n != before+3 { // the two readings of the service and the one of D6, which had its MAC from the superuser
		t.Errorf("%d records, %d before", n, before)
	}
}

// Even the superuser changes the log only by taking its triggers off, which is a change of the schema and not a slip; an
// export taken before shows it in any case.
func TestTheLogOnlyGrowsEvenForTheSuperuser(t *testing.T) {
	s := newScene(t, relaytest.Options{})
	conn := asSuperuser(t, s.World,
		fmt.Sprintf("insert into audit.tile (organisation_id, idx, hashes) values ('%s', 0, repeat('x', 8192)::bytea)", s.Organisation.ID),
		fmt.Sprintf("insert into audit.node (organisation_id, level, idx, hash) values ('%s', 1, 0, repeat('x', 32)::bytea)", s.Organisation.ID),
		fmt.Sprintf("select access.index_log('%s', 1000)", s.Organisation.ID))
	changes := []string{"truncate audit.head, audit.record, audit.tile, audit.node"}
	for _, table := range []string{"head", "searchable", "retention"} {
		changes = append(changes, "delete from audit."+table, "truncate audit."+table)
	}
	month := time.Now().UTC().Format("2006_01")
	for _, table := range []string{"record", "record_" + month, "search", "search_" + month, "tile", "node"} {
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
