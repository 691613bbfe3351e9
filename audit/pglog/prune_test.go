package pglog_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/mod/sumdb/note"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// age makes all records of the log older, as a superuser who knows what he does could; the tree does not notice, since it covers the
// bodies alone.
func (p *place) age(t *testing.T, by string, upto int) {
	t.Helper()
	admin := p.db.Superuser(t)
	for _, sql := range []string{
		"select audit.ensure_months((now() - interval '" + by + "')::date, 1)",
		"alter table audit.record disable trigger append_only",
		"alter table audit.search disable trigger append_only",
		fmt.Sprintf("update audit.record set at = at - interval '%s' where seq < %d and at > now() - interval '1 month'", by, upto),
		fmt.Sprintf("update audit.search set at = at - interval '%s' where seq < %d and at > now() - interval '1 month'", by, upto),
		"alter table audit.record enable always trigger append_only",
		"alter table audit.search enable always trigger append_only",
	} {
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
	for _, sql := range slices.Concat([]string{"alter table audit.day disable trigger no_delete"}, recount, []string{"alter table audit.day enable always trigger no_delete"}) {
		_, err := admin.Exec(t.Context(), sql)
		must(t, err)
	}
}

func (p *place) retention(t *testing.T) *pgxpool.Pool { return p.db.Pool(t, "counterfoil_retention") }

func (p *place) fill(t *testing.T, l *pglog.Log, n int) {
	t.Helper()
	for range n / 64 {
		drafts := make([]pglog.Draft, 64)
		for i := range drafts {
			drafts[i] = p.disclosure("old")
			drafts[i].Ticket = nil
		}
		_, err := l.Append(t.Context(), p.organisation, drafts...)
		must(t, err)
	}
}

func (p *place) act(t *testing.T, l *pglog.Log, upto uint64) uint64 {
	t.Helper()
	_, err := l.Append(t.Context(), p.organisation, pglog.Draft{Entry: audit.Entry{
		Kind: audit.Administration, Action: pglog.ActPrune, Actor: audit.Party{Kind: "operator", Ref: "o"}, Facts: map[string]string{"upto": fmt.Sprint(upto)},
	}})
	must(t, err)
	act, err := l.PruneAct(t.Context(), p.organisation, upto)
	must(t, err)
	return act
}

func TestPruningTakesOldRecordsAndLeavesTheProofs(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	l := newLog(t, p.pool)
	p.fill(t, l, 1024)
	dir := t.TempDir()
	_, err := l.Export(ctx, p.organisation, dir)
	must(t, err)
	entry, proof, err := l.Proof(ctx, p.organisation, 7)
	must(t, err)
	before, err := l.Head(ctx, p.organisation)
	must(t, err)
	vkey, err := l.VerifierKey(before.Origin)
	must(t, err)
	verifier, err := note.NewVerifier(vkey)
	must(t, err)
	_, err = l.Search(ctx, p.organisation, pglog.Query{Limit: 1}) // makes them searchable
	must(t, err)
	p.age(t, "14 months", 900)

	r, err := l.Retention(ctx, p.organisation)
	must(t, err)
	if r.Days != 400 || r.First != 0 || r.Upto != 768 {
		t.Fatalf("the retention is %+v, want everything before 768, where the bundle of record 900 begins, to go", r)
	}
	const sqlUsed = "select sum(pg_total_relation_size(i.inhrelid))::bigint from pg_inherits i where i.inhparent in ('audit.record'::regclass, 'audit.search'::regclass)"

	act := p.act(t, l, r.Upto)
	steps := 0
	must(t, pglog.Prune(ctx, p.retention(t), p.organisation, act, r.Upto, func(uint64) { steps++ }))
	if r, err = l.Retention(ctx, p.organisation); err != nil || r.First != 768 || r.Upto != 768 || steps == 0 {
		t.Errorf("after it the retention is %+v (%v), and there were %d steps", r, err, steps)
	}
	found, err := l.Search(ctx, p.organisation, pglog.Query{Since: time.Unix(0, 0), Limit: 500})
	must(t, err)
	if len(found) != 1024-768+1 {
		t.Errorf("%d records are found, want those from 768 on and that of the pruning", len(found))
	}
	if faults, err := l.Miscounted(ctx, p.organisation); err != nil || len(faults) > 0 {
		t.Errorf("after it the counts are wrong: %v %v", faults, err)
	}
	for _, err := range l.Entries(ctx, p.organisation, 7, 8) {
		if err == nil || !strings.Contains(err.Error(), "pruned") {
			t.Errorf("asking for a pruned record says %v", err)
		}
	}

	t.Run("a proof made before still verifies", func(t *testing.T) {
		if _, err := proof.Verify(entry, verifier); err != nil {
			t.Error(err)
		}
	})
	t.Run("what is left can be proved", func(t *testing.T) {
		entry, proof, err := l.Proof(ctx, p.organisation, 1000)
		must(t, err)
		if _, err := proof.Verify(entry, verifier); err != nil {
			t.Error(err)
		}
	})
	t.Run("the export goes on", func(t *testing.T) {
		h, err := l.Export(ctx, p.organisation, dir)
		must(t, err)
		report, err := audit.VerifyExport(ctx, os.DirFS(dir), audit.Options{Key: vkey, Since: before.Checkpoint})
		must(t, err)
		if len(report.Faults) > 0 || report.Records != h.Size {
			t.Errorf("the export does not verify: %v", report.Faults)
		}
	})
	t.Run("the log goes on", func(t *testing.T) {
		p.fill(t, l, 256)
		_, err := p.append(ctx, l, "after")
		must(t, err)
	})
	t.Run("disk use falls once a month is empty", func(t *testing.T) {
		p.age(t, "14 months", 1280)
		var used int64
		must(t, p.db.Superuser(t).QueryRow(ctx, sqlUsed).Scan(&used))
		must(t, l.SetRetention(ctx, p.organisation, 90))
		p.fill(t, l, 256)
		r, err := l.Retention(ctx, p.organisation)
		must(t, err)
		must(t, pglog.Prune(ctx, p.retention(t), p.organisation, p.act(t, l, r.Upto), r.Upto, func(uint64) {}))
		var months int
		must(t, p.db.Superuser(t).QueryRow(ctx, "select count(*) from pg_inherits where inhparent = 'audit.record'::regclass").Scan(&months))
		var left int64
		must(t, p.db.Superuser(t).QueryRow(ctx, sqlUsed).Scan(&left))
		var counted, hours int
		must(t, p.db.Superuser(t).QueryRow(ctx, "select (select count(*) from audit.asked where day < now() - interval '13 months'), (select count(*) from audit.hour where hour < now() - interval '13 months')").Scan(&counted, &hours))
		if counted+hours > 0 {
			t.Errorf("%d people and %d hours are still counted of what went", counted, hours)
		}
		if left >= used || months != 3 {
			t.Errorf("%d bytes are used by %d months, %d before", left, months, used)
		}
	})
}

func TestNothingIsPrunedThatMustStay(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	l := newLog(t, p.pool)
	p.fill(t, l, 512)
	act := p.act(t, l, 256)
	retention := p.retention(t)
	prune := func(act, upto uint64) error {
		return pglog.Prune(ctx, retention, p.organisation, act, upto, func(uint64) {})
	}
	for name, test := range map[string]struct {
		do   func() error
		want string
	}{
		"young records":                        {func() error { return prune(act, 256) }, "to be kept"},
		"more than the record of the act says": {func() error { return prune(act, 512) }, "does not say"},
		"without a record of the act":          {func() error { return prune(3, 256) }, "does not say"},
		"a part of a bundle":                   {func() error { return prune(act, 100) }, "beginning of a bundle"},
		"by the service": {func() error {
			_, err := p.pool.Exec(ctx, "select access.prune_log($1, $2, 256, 10)", p.organisation, int64(act))
			return err
		}, "permission denied"},
		"months, by the service":                     {func() error { _, err := p.pool.Exec(ctx, "select access.drop_empty_months()"); return err }, "permission denied"},
		"by anybody, with a retention of a few days": {func() error { return l.SetRetention(ctx, p.organisation, 30) }, "at least 90 days"},
		"by SQL, with a retention of a few days": {func() error {
			_, err := p.pool.Exec(ctx, "select access.set_log_retention($1, 30)", p.organisation)
			return err
		}, "retention_days_check"},
		"by the role of retention, past its function": {func() error { _, err := retention.Exec(ctx, "delete from audit.record"); return err }, "permission denied"},
		"by raising where records begin": {func() error {
			admin := p.db.Superuser(t)
			if _, err := admin.Exec(ctx, "update audit.retention set first_seq = 256"); err != nil {
				return err
			}
			_, err := admin.Exec(ctx, "delete from audit.record where seq = 3")
			return err
		}, "only grows"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.do(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if got := len(p.requests(t)); got != 513 {
		t.Errorf("%d records are left", got)
	}
	must(t, func() error { _, err := retention.Exec(ctx, "select access.drop_empty_months()"); return err }())
	var months int
	must(t, p.db.Superuser(t).QueryRow(ctx, "select count(*) from pg_inherits where inhparent = 'audit.record'::regclass").Scan(&months))
	if months != 3 {
		t.Errorf("%d months are left", months)
	}
}
