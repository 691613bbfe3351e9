package pglog_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit/pglog"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

// What was in a log before there were counts is counted when they come.
func TestALogFromBeforeThereWereCountsIsCounted(t *testing.T) {
	ctx := t.Context()
	before := fstest.MapFS{}
	names, err := fs.Glob(migrations.FS, "*.sql")
	must(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_counts.sql") {
			break
		}
		content, err := fs.ReadFile(migrations.FS, name)
		must(t, err)
		before[name] = &fstest.MapFile{Data: content}
	}
	if len(before) == len(names) {
		t.Fatal("no migration brings the counts")
	}
	p := &place{db: pgtest.Database(t, before), organisation: uuid.New()}
	p.pool = p.db.Pool(t, service)
	admin := p.db.Superuser(t)
	must(t, decisionKey(t).Install(ctx, admin))
	must(t, pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		return newLog(t, p.pool).CreateLog(ctx, tx, p.organisation, "chat.example/audit/"+p.organisation.String())
	}))
	l := newLog(t, p.pool)
	const n = 60
	for i := range n {
		p.record(t, l, i)
	}
	_, err = p.pool.Exec(ctx, "select access.index_log($1, 50)", p.organisation)
	must(t, err)
	_, err = pg.Migrate(ctx, admin, migrations.FS)
	must(t, err)

	people, err := l.People(ctx, p.organisation, []pglog.Query{{Limit: 10}}, pglog.ByActor, 0)
	must(t, err)
	var sum int64
	for _, x := range people {
		sum += x.N
	}
	if sum != n {
		t.Errorf("%d are counted, want %d", sum, n)
	}
	if rules, err := l.Rules(ctx, p.organisation); err != nil || len(rules) != 1 {
		t.Errorf("%q, %v", rules, err)
	}
	if faults, err := l.Miscounted(ctx, p.organisation); err != nil || len(faults) > 0 {
		t.Errorf("%v, %v", faults, err)
	}
	if _, err := admin.Exec(ctx, "update audit.search set rule = ''"); err == nil || !strings.Contains(err.Error(), "only grows") {
		t.Errorf("after it the log can be changed: %v", err)
	}
}
