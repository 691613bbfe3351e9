package store_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// statement is one SQL text of the product and where it stands.
type statement struct{ where, sql string }

// verb is how a text begins that is taken for a statement.
var verb = regexp.MustCompile(`^\s*(select|insert|update|delete|with|begin|commit|rollback|set|lock|copy|truncate|create|alter|drop|merge|call|do|grant|notify|listen)\b`)

// computed are the calls whose SQL is no constant, by file and name of the variable; each of its values is a constant of
// the same package, and is found as such.
var computed = []string{"account.go sql", "agent.go sql", "approval.go sql", "count.go sql", "replay.go sql"}

// statements collects the constants and the literal arguments of a package's source that are SQL.
func statements(t *testing.T, dir string) []statement {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no source in %s: %v", dir, err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	constants := make(map[string]ast.Expr)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		for n := range ast.Preorder(f) {
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					s := spec.(*ast.ValueSpec)
					for i := range s.Values {
						constants[s.Names[i].Name] = s.Values[i]
					}
				}
			}
		}
	}
	var value func(e ast.Expr) (string, bool)
	value = func(e ast.Expr) (string, bool) {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, err := strconv.Unquote(e.Value)
			return s, err == nil && e.Kind == token.STRING
		case *ast.ParenExpr:
			return value(e.X)
		case *ast.Ident:
			if c, ok := constants[e.Name]; ok {
				return value(c)
			}
		case *ast.BinaryExpr:
			x, okX := value(e.X)
			y, okY := value(e.Y)
			return x + y, okX && okY && e.Op == token.ADD
		}
		return "", false
	}
	found := make(map[string]statement)
	for name, e := range constants {
		if sql, ok := value(e); ok && verb.MatchString(sql) {
			found[sql] = statement{filepath.Base(dir) + " " + name, sql}
		}
	}
	for _, f := range files {
		for n := range ast.Preorder(f) {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				continue
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				continue
			}
			at := map[string]int{"Query": 1, "QueryRow": 1, "Exec": 1, "Prepare": 2, "Queue": 0}
			i, ok := at[method.Sel.Name]
			if !ok || i >= len(call.Args) {
				continue
			}
			where := fmt.Sprintf("%s:%d", filepath.Base(fset.File(call.Pos()).Name()), fset.Position(call.Pos()).Line)
			sql, ok := value(call.Args[i])
			if !ok {
				id, _ := call.Args[i].(*ast.Ident)
				if id == nil || !slices.Contains(computed, filepath.Base(fset.File(call.Pos()).Name())+" "+id.Name) {
					t.Errorf("%s: the SQL is no constant", where)
				}
				continue
			}
			if !verb.MatchString(sql) {
				t.Errorf("%s: this test does not know what %q is", where, sql)
			}
			if _, ok := found[sql]; !ok {
				found[sql] = statement{where, sql}
			}
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b statement) int { return strings.Compare(a.where, b.where) })
}

// offline are the statements that others than the service run: a superuser who brings the schema up to date, and the role of retention.
var offline = []string{"pglog sqlInstallKey", "pglog sqlKeyInstalled", "pglog sqlPrune", "pglog sqlDropEmptyMonths", "control sqlEraseSome", "control sqlApplyRetention", "control sqlTakeTurn", "control sqlEndTurn"}

// Planning a statement as the service's role checks its tables, columns, types and rights, and that of its functions,
// without running it.
func TestEveryStatementFitsTheSchemaAndTheServicesRights(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, db.URL("counterfoil_service"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	admin := db.Superuser(t)
	for _, c := range []*pgx.Conn{conn, admin} {
		if _, err := c.Exec(ctx, "set plan_cache_mode = force_generic_plan"); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{".", "../access", "../../audit/pglog", "../signin", "../totp", "../control", "../alerts", "../archive"} {
		all := statements(t, dir)
		if len(all) == 0 {
			t.Errorf("%s has %d statements in a form this test reads", dir, len(all))
		}
		for i, s := range all {
			name := fmt.Sprintf("%s_%d", strings.Trim(filepath.Base(dir), "."), i)
			conn := conn
			if slices.Contains(offline, s.where) {
				conn = admin
			}
			prepared, err := conn.Prepare(ctx, name, s.sql)
			if err != nil {
				t.Errorf("%s: %v\n%s", s.where, err, s.sql)
				continue
			}
			if slices.Contains([]string{"begin", "commit", "rollback"}, s.sql) {
				continue
			}
			args := ""
			if n := len(prepared.ParamOIDs); n > 0 {
				args = "(" + strings.Join(slices.Repeat([]string{"null"}, n), ", ") + ")"
			}
			if _, err := conn.Exec(ctx, "explain execute "+pgx.Identifier{name}.Sanitize()+args); err != nil {
				t.Errorf("%s: %v\n%s", s.where, err, s.sql)
			}
		}
	}
}

// The check above would be worth nothing if it let a forbidden statement pass.
func TestTheCheckOfStatementsFindsMissingRights(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, db.URL("counterfoil_service"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{"select body from chat.event where seq = $1", "update chat.event set body = $1", "select ciphertext from euii.value where field = $1"} {
		if _, err := conn.Prepare(ctx, "forbidden", sql); err != nil {
			continue
		}
		if _, err := conn.Exec(ctx, "explain execute forbidden(null)"); err == nil {
			t.Errorf("no error for %s", sql)
		}
		if err := conn.Deallocate(ctx, "forbidden"); err != nil {
			t.Fatal(err)
		}
	}
}

// schemas are those with tables of ours.
const schemas = `array['chat', 'euii', 'audit', 'access', 'console', 'control', 'jobs', 'auditor']`

// rows runs a query as superuser and gives each row as its values joined by blanks.
func rows(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	found, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestTheSchemaIsExplainedAndFencedIn(t *testing.T) {
	conn := pgtest.Database(t, migrations.FS).Superuser(t)
	tables := rows(t, conn, `select table_schema || '.' || table_name from information_schema.tables where table_schema = any(`+schemas+`) and table_type = 'BASE TABLE' order by 1`)
	if len(tables) < 17 {
		t.Fatalf("only %d tables are there: %q", len(tables), tables)
	}
	none := func(what, sql string) {
		t.Helper()
		if got := rows(t, conn, sql); len(got) > 0 {
			t.Errorf("%s: %q", what, got)
		}
	}
	none("tables that lie outside our schemas", `select schemaname || '.' || tablename from pg_tables
		where not schemaname = any(`+schemas+` || array['pg_catalog', 'information_schema']) and not (schemaname = 'counterfoil' and tablename = 'migration')`)
	none("schemas without a comment", `select nspname::text from pg_namespace where nspname = any(`+schemas+`) and obj_description(oid, 'pg_namespace') is null`)
	none("tables without a comment", `select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(`+schemas+`) and c.relkind in ('r', 'p', 'v', 'm') and coalesce(obj_description(c.oid, 'pg_class'), '') = ''`)
	none("columns without a comment", `select c.oid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(`+schemas+`) and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition and a.attnum > 0 and not a.attisdropped and coalesce(col_description(c.oid, a.attnum), '') = ''`)
	none("tables whose primary key does not begin with organisation_id", `select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		left join pg_index i on i.indrelid = c.oid and i.indisprimary
		left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
		where n.nspname = any(`+schemas+`) and c.relkind in ('r', 'p') and a.attname is distinct from 'organisation_id'
			and c.oid <> 'access.decision_key'::regclass -- one key for all organisations of a database
			and n.nspname <> 'jobs' -- one queue for all of them, in river's own tables`)
	none("tables without enabled and forced row level security", `select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(`+schemas+`) and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)`)
	none("tables without a policy", `select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(`+schemas+`) and c.relkind in ('r', 'p') and not c.relispartition and not exists (select from pg_policy p where p.polrelid = c.oid)`)
	none("partitions that somebody may reach past their table", `select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(`+schemas+`) and c.relispartition and c.relkind = 'r' and (c.relacl is not null or exists (select from pg_policy p where p.polrelid = c.oid and not (p.polroles = array['counterfoil_audit'::regrole::oid] and p.polcmd = 'r')))`)
	none("partitions whose triggers do not fire always", `select c.oid::regclass || ' ' || t.tgname from pg_class c join pg_trigger t on t.tgrelid = c.oid
		where c.relispartition and t.tgenabled <> 'A'`)
	if got := rows(t, conn, `select count(distinct c.oid)::text || ' ' || count(*) from pg_class c join pg_trigger t on t.tgrelid = c.oid where c.relispartition and c.relkind = 'r'`); !slices.Equal(got, []string{"9 15"}) {
		t.Errorf("partitions and their triggers: %q, want three months of two tables with two each, and of one with one", got)
	}
	none("constraints without a name of their own", `select conrelid::regclass || ' ' || conname from pg_constraint c join pg_namespace n on n.oid = c.connamespace
		where n.nspname = any(`+schemas+`) and conname ~ '_check[0-9]+$'`)
}

func TestTheRolesCanDoNoMoreThanTheyMust(t *testing.T) {
	conn := pgtest.Database(t, migrations.FS).Superuser(t)
	none := func(what, sql string) {
		t.Helper()
		if got := rows(t, conn, sql); len(got) > 0 {
			t.Errorf("%s: %q", what, got)
		}
	}
	none("roles that may log in and are more than plain", `select rolname::text from pg_roles where rolname like 'counterfoil%'
		and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)`)
	none("owners that may log in", `select distinct r.rolname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
		where n.nspname = any(`+schemas+`) and r.rolcanlogin`)
	none("memberships of the roles", `select m.rolname::text from pg_auth_members a join pg_roles r on r.oid = a.roleid join pg_roles m on m.oid = a.member
		where (r.rolname like 'counterfoil\_%' or m.rolname like 'counterfoil\_%') and not m.rolsuper`)
	none("roles that may log in besides service and retention", `select rolname::text from pg_roles where rolname like 'counterfoil%' and rolcanlogin and rolname not in ('counterfoil_service', 'counterfoil_retention')`)
	none("functions that an auditor may run", `select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = any(`+schemas+`) and has_schema_privilege('counterfoil_auditor', n.oid, 'usage') and has_function_privilege('counterfoil_auditor', p.oid, 'execute')`)
	none("rights of auditors but to read the views", `select table_schema || '.' || table_name || ' ' || privilege_type from information_schema.role_table_grants
		where grantee = 'counterfoil_auditor' and not (table_schema = 'auditor' and privilege_type = 'SELECT')`)
	none("rights of the views but to read the log", `select table_schema || '.' || table_name || ' ' || privilege_type from information_schema.role_table_grants
		where grantee = 'counterfoil_views' and grantor <> grantee and not (table_schema = 'audit' and privilege_type = 'SELECT')`)
	none("functions that run as their owner with a search path of the caller's", `select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = any(`+schemas+`) and p.prosecdef and not coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']`)
	none("functions that everybody may run", `select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
		where n.nspname = 'access' and has_function_privilege('public', p.oid, 'execute')`)
	none("rights of the public on tables", `select table_schema || '.' || table_name from information_schema.role_table_grants
		where grantee = 'PUBLIC' and table_schema = any(`+schemas+`)`)
	none("tables of the keys, the log, the tickets and the administrators on which the service has rights", `select distinct table_schema || '.' || table_name || ' ' || privilege_type
		from information_schema.column_privileges where grantee = 'counterfoil_service' and table_schema in ('euii', 'audit', 'access', 'console')`)
	none("rights of the service to the text of a message other than to store it", `select privilege_type::text from information_schema.column_privileges
		where grantee = 'counterfoil_service' and table_schema = 'chat' and table_name = 'event' and column_name = 'body' and privilege_type <> 'INSERT'`)
	none("rights of the service to change or remove events", `select privilege_type || ' ' || column_name from information_schema.column_privileges
		where grantee = 'counterfoil_service' and table_schema = 'chat' and table_name = 'event' and privilege_type in ('UPDATE', 'REFERENCES')`)
	none("tables that the service may truncate or put triggers on", `select table_schema || '.' || table_name || ' ' || privilege_type
		from information_schema.role_table_grants where grantee = 'counterfoil_service' and privilege_type in ('TRUNCATE', 'TRIGGER', 'REFERENCES')`)
}

// The columns that hold EUII, or something made from it, say so in their comments. A new one is a decision: who reads it,
// how it is erased, how long it is kept.
func TestTheColumnsWithEUIIAreKnown(t *testing.T) {
	conn := pgtest.Database(t, migrations.FS).Superuser(t)
	got := rows(t, conn, `select c.oid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = any(`+schemas+`) and col_description(c.oid, a.attnum) like 'EUII %' order by 1`)
	want := []string{"chat.event.body", "console.alert_receiver.target", "console.network.prefix", "console.reason.text", "console.seen_address.address", "console.token.network", "euii.lookup.blind_index", "euii.value.blind_index", "euii.value.ciphertext"}
	if !slices.Equal(got, want) {
		t.Errorf("the columns with EUII are %q, want %q", got, want)
	}
	// They hold bytes, so that text cannot be put there by mistake.
	for _, column := range got {
		parts := strings.Split(column, ".")
		kind := rows(t, conn, fmt.Sprintf(`select data_type::text from information_schema.columns where table_schema = '%s' and table_name = '%s' and column_name = '%s'`, parts[0], parts[1], parts[2]))
		if !slices.Equal(kind, []string{"bytea"}) {
			t.Errorf("%s is %q", column, kind)
		}
	}
}
