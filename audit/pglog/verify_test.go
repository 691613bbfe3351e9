package pglog_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// grown is a place whose log has n records.
func grown(t *testing.T, n int) (*place, *pglog.Log) {
	t.Helper()
	p := newPlace(t)
	l := newLog(t, p.pool)
	for n > 0 {
		drafts := make([]pglog.Draft, min(n, 256))
		for i := range drafts {
			drafts[i] = p.disclosure(fmt.Sprint(n - i))
			drafts[i].Ticket = nil
		}
		_, err := l.Append(t.Context(), p.organisation, drafts...)
		must(t, err)
		n -= len(drafts)
	}
	_, err := l.Retention(t.Context(), p.organisation) // makes all of it searchable
	must(t, err)
	return p, l
}

// tamper does what somebody can do who owns the database.
func (p *place) tamper(t *testing.T, statements ...string) {
	t.Helper()
	admin := p.db.Superuser(t)
	must(t, pgx.BeginFunc(t.Context(), admin, func(tx pgx.Tx) error {
		for _, table := range []string{"record", "search", "searchable", "day", "tile", "node", "head", "retention"} {
			if _, err := tx.Exec(t.Context(), "alter table audit."+table+" disable trigger all"); err != nil {
				return err
			}
		}
		for _, sql := range statements {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	}))
}

// recount counts anew what can be searched.
var recount = []string{
	"delete from audit.day", "delete from audit.hour", "delete from audit.asked",
	"insert into audit.day select organisation_id, (at at time zone 'UTC')::date, action, decision, count(*) from audit.search group by 1, 2, 3, 4",
	"insert into audit.hour select organisation_id, date_trunc('hour', at, 'UTC'), answer_id, count(*) from audit.search join audit.answer using (organisation_id, kind, action, decision, rule) group by 1, 2, 3",
	`insert into audit.asked select organisation_id, day, actor_ref, subject_ref, max(last_seq), sum(n), array_agg(answer_id order by answer_id), array_agg(n order by answer_id) from (
		select s.organisation_id, (s.at at time zone 'UTC')::date as day, k.actor_ref, k.subject_ref, a.answer_id, count(*)::int as n, max(s.seq) as last_seq
		from audit.search s join audit.answer a using (organisation_id, kind, action, decision, rule), audit.sides(s.actor_ref, s.subject_ref) k group by 1, 2, 3, 4, 5) x group by 1, 2, 3, 4`,
}

func TestVerifyFindsInTheDatabaseThat(t *testing.T) {
	for name, c := range map[string]struct {
		sql  []string
		want []string
	}{
		"all is well":         {nil, []string{}},
		"a record is altered": {[]string{`update audit.record set body = convert_to(replace(convert_from(body, 'UTF8'), '"ref":"v"', '"ref":"w"'), 'UTF8') where seq = 300`, "update audit.search set subject_ref = 'w' where seq = 300"}, []string{"changed 300"}},
		"a record is altered and its columns forgotten": {[]string{`update audit.record set body = convert_to(replace(convert_from(body, 'UTF8'), '"ref":"v"', '"ref":"w"'), 'UTF8') where seq = 300`},
			[]string{"changed 300", "column-differs 300"}},
		"a column is altered":                 {[]string{"update audit.search set subject_ref = 'somebody else' where seq = 301"}, []string{"column-differs 301"}},
		"several columns of several":          {[]string{"update audit.search set decision = 'deny', action = 'x' where seq in (2, 299)"}, []string{"column-differs 2", "column-differs 299"}},
		"a time column is altered":            {[]string{"update audit.record set at = at + interval '1 microsecond' where seq = 5", "update audit.search set at = at + interval '1 microsecond' where seq = 5"}, []string{"column-differs 5"}},
		"a record is missing":                 {[]string{"delete from audit.record where seq = 100", "delete from audit.search where seq = 100"}, []string{"missing 100"}},
		"a search does not find a record":     {[]string{"delete from audit.search where seq = 100"}, []string{"column-differs 100"}},
		"a search finds what is no record":    {[]string{"insert into audit.search select organisation_id, 9999, at, kind, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, address_net from audit.search where seq = 5"}, []string{"column-differs -1"}},
		"the last record is missing":          {[]string{"delete from audit.record where seq = 599", "delete from audit.search where seq = 599"}, []string{"truncated 599"}},
		"a day is counted twice":              {[]string{"update audit.day set n = 2 * n"}, []string{"column-differs -1"}},
		"an hour is not counted":              {[]string{"delete from audit.hour"}, []string{"column-differs -1"}},
		"an hour has another rule":            {[]string{"alter table audit.answer disable trigger all", "update audit.answer set rule = 'x'"}, []string{"column-differs -1"}},
		"somebody asked more often":           {[]string{"update audit.asked set counts = array[599] where subject_ref <> '' and actor_ref <> ''"}, []string{"column-differs -1"}},
		"somebody asked more often in all":    {[]string{"update audit.asked set n = n + 1 where actor_ref = ''"}, []string{"column-differs -1"}},
		"somebody never asked":                {[]string{"delete from audit.asked where actor_ref = ''"}, []string{"column-differs -1"}},
		"somebody asked last at another time": {[]string{"update audit.asked set last_seq = 3 where actor_ref = ''"}, []string{"column-differs -1"}},
		"somebody else asked":                 {[]string{"insert into audit.asked select organisation_id, day - 1, 'x', subject_ref, last_seq, n, answers, counts from audit.asked where actor_ref = ''"}, []string{"column-differs -1"}},
		"a tile is altered":                   {[]string{"update audit.tile set hashes = overlay(hashes placing '\\x00' from 9) where idx = 1"}, []string{"corrupt-tile 256"}},
		"a tile is missing":                   {[]string{"delete from audit.tile where idx = 1"}, []string{}}, // its hashes are computed from the records then
		"a node is altered":                   {[]string{"update audit.node set hash = sha256('x') where idx = 1"}, []string{"corrupt-tile 0"}},
		"a node is missing":                   {[]string{"delete from audit.node where idx = 1"}, []string{"corrupt-tile 0"}},
		"the frontier is altered":             {[]string{"update audit.head set frontier = overlay(frontier placing '\\x00' from 3)"}, []string{"head-differs -1"}},
		"the head's time is altered":          {[]string{"update audit.head set last_at = last_at + interval '1 second'"}, []string{"head-differs -1"}},
		"the head's size is altered":          {[]string{"update audit.head set size = 599"}, []string{"head-differs -1", "inserted 599"}},
		"the checkpoint is altered":           {[]string{"update audit.head set checkpoint = replace(checkpoint, E'\\n600\\n', E'\\n599\\n')"}, []string{"forged-signature -1"}},
		"a record follows the last":           {[]string{"insert into audit.record select organisation_id, 600, at, xid, db_user, body from audit.record where seq = 599"}, []string{"inserted 600"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, l := grown(t, 600)
			if c.sql != nil {
				p.tamper(t, c.sql...)
			}
			r, err := l.Verify(t.Context(), p.organisation, audit.Options{})
			must(t, err)
			got := []string{}
			for _, f := range r.Faults {
				got = append(got, fmt.Sprintf("%s %d", f.Kind, f.Index))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q: %+v", got, c.want, r.Faults)
			}
			if len(c.want) == 0 && (r.Records != 600 || !r.Database || r.Kinds["disclosure"] != 600 || r.KeyFromExport || r.KeySource == "") {
				t.Errorf("the report says %+v", r)
			}
		})
	}
}

func TestVerifyAcceptsAPrunedLogIfTheLogItselfSaysSo(t *testing.T) {
	p, l := grown(t, 600)
	p.tamper(t, "delete from audit.record where seq < 256", "delete from audit.search where seq < 256", "update audit.retention set first_seq = 256")
	p.tamper(t, recount...)
	r, err := l.Verify(t.Context(), p.organisation, audit.Options{})
	must(t, err)
	if len(r.Faults) == 0 || r.Faults[0].Kind != audit.Missing {
		t.Errorf("a prefix was taken away without a record: %v", r.Faults)
	}
	if r, err = l.Verify(t.Context(), p.organisation, audit.Options{Minimum: 256}); err != nil || len(r.Faults) > 0 || r.Pruned != 256 || r.Records != 344 {
		t.Errorf("with a minimum: %d pruned, %d records, %v, %v", r.Pruned, r.Records, r.Faults, err)
	}
	_, err = l.Append(t.Context(), p.organisation, pglog.Draft{Entry: audit.Entry{Kind: audit.Administration, Action: pglog.ActPrune, Facts: map[string]string{"upto": "256"}}})
	must(t, err)
	if r, err = l.Verify(t.Context(), p.organisation, audit.Options{}); err != nil || len(r.Faults) > 0 || r.Pruned != 256 || r.Records != 345 {
		t.Errorf("with its record: %d pruned, %d records, %v, %v", r.Pruned, r.Records, r.Faults, err)
	}
	dir := t.TempDir()
	_, err = l.Export(t.Context(), p.organisation, dir)
	must(t, err)
	if r, err = audit.VerifyExport(t.Context(), os.DirFS(dir), audit.Options{Minimum: 256}); err != nil || len(r.Faults) > 0 || r.Pruned != 256 {
		t.Errorf("its export: %+v, %v", r, err)
	}
}

func TestConsistencyIsProvenBetweenAnyTwoSizes(t *testing.T) {
	p, l := grown(t, 600)
	head, err := l.Head(t.Context(), p.organisation)
	must(t, err)
	now, err := l.Checkpoint(head)
	must(t, err)
	for _, old := range []uint64{0, 1, 255, 256, 257, 512, 599, 600} {
		root, proof, err := l.Consistency(t.Context(), p.organisation, old, now)
		must(t, err)
		if err := audit.VerifyConsistency(old, root, now.Size, now.Root, proof); err != nil {
			t.Errorf("from %d: %v", old, err)
		}
	}
	if _, _, err := l.Consistency(t.Context(), p.organisation, 601, now); err == nil {
		t.Error("a size that was not reached yet was proven")
	}
	other := now
	other.Root[0] ^= 1
	if _, _, err := l.Consistency(t.Context(), p.organisation, 300, other); err == nil {
		t.Error("another history was proven")
	}
}
