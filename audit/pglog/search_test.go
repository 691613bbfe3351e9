package pglog_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// kinds of records that differ in everything one can search by.
func (p *place) record(t *testing.T, l *pglog.Log, i int) {
	t.Helper()
	e := audit.Entry{
		Kind: audit.Disclosure, Action: []string{"introduce", "show"}[i%2], Decision: []string{audit.DecisionAllow, audit.DecisionMasked, audit.DecisionAllow}[i%3],
		Actor: audit.Party{Kind: "agent", Ref: fmt.Sprint("a", i%5)}, Subject: audit.Party{Kind: "visitor", Ref: fmt.Sprint("v", i%7)}, Conversation: fmt.Sprint("c", i%4),
		Request: fmt.Sprint(i),
	}
	if i%11 == 0 {
		e.Kind, e.Decision = audit.Denial, audit.DecisionDeny
	}
	if i%3 == 0 {
		e.Address, e.AddressNet = fmt.Sprint("p", i%2), "n"
	}
	_, err := l.Append(t.Context(), p.organisation, pglog.Draft{Entry: e})
	must(t, err)
}

func TestSearchFindsWhatAScanOfTheLogFinds(t *testing.T) {
	p := newPlace(t)
	l := newLog(t, p.pool)
	const n = 120
	for i := range n {
		p.record(t, l, i)
	}
	var all []audit.Entry
	for body, err := range l.Entries(t.Context(), p.organisation, 0, n) {
		must(t, err)
		e, err := audit.ParseEntry(body)
		must(t, err)
		all = append(all, e)
	}
	slices.Reverse(all)
	middle := all[n/2].Time
	for name, test := range map[string]struct {
		q    pglog.Query
		want func(audit.Entry) bool
	}{
		"everything":         {pglog.Query{}, func(audit.Entry) bool { return true }},
		"by kind":            {pglog.Query{Kind: "denial"}, func(e audit.Entry) bool { return e.Kind == audit.Denial }},
		"by action":          {pglog.Query{Action: "show"}, func(e audit.Entry) bool { return e.Action == "show" }},
		"allowed":            {pglog.Query{Decision: "allow"}, func(e audit.Entry) bool { return e.Decision == "allow" }},
		"denied":             {pglog.Query{Decision: "deny"}, func(e audit.Entry) bool { return e.Decision == "deny" }},
		"masked":             {pglog.Query{Decision: "masked"}, func(e audit.Entry) bool { return e.Decision == "masked" }},
		"by actor":           {pglog.Query{Actor: "a3"}, func(e audit.Entry) bool { return e.Actor.Ref == "a3" }},
		"by subject":         {pglog.Query{Subject: "v6"}, func(e audit.Entry) bool { return e.Subject.Ref == "v6" }},
		"by conversation":    {pglog.Query{Conversation: "c0"}, func(e audit.Entry) bool { return e.Conversation == "c0" }},
		"by address":         {pglog.Query{Address: "p1"}, func(e audit.Entry) bool { return e.Address == "p1" }},
		"by network":         {pglog.Query{AddressNet: "n"}, func(e audit.Entry) bool { return e.AddressNet == "n" }},
		"by actor, denied":   {pglog.Query{Actor: "a0", Decision: "deny"}, func(e audit.Entry) bool { return e.Actor.Ref == "a0" && e.Decision == "deny" }},
		"since":              {pglog.Query{Since: middle}, func(e audit.Entry) bool { return !e.Time.Before(middle) }},
		"until":              {pglog.Query{Until: middle}, func(e audit.Entry) bool { return e.Time.Before(middle) }},
		"not an actor":       {pglog.Query{Not: []pglog.Term{{"actor", "a1"}, {"actor", "a2"}}}, func(e audit.Entry) bool { return e.Actor.Ref != "a1" && e.Actor.Ref != "a2" }},
		"denied, not by":     {pglog.Query{Decision: "deny", Not: []pglog.Term{{"action", "show"}}}, func(e audit.Entry) bool { return e.Decision == "deny" && e.Action != "show" }},
		"from nowhere":       {pglog.Query{Not: []pglog.Term{{"network", "n"}}}, func(e audit.Entry) bool { return e.AddressNet == "" }},
		"undecided":          {pglog.Query{Decision: pglog.Undecided}, func(e audit.Entry) bool { return e.Decision == "" }},
		"what is not there":  {pglog.Query{Subject: "nobody"}, func(audit.Entry) bool { return false }},
		"what would be SQL":  {pglog.Query{Actor: "' or true --"}, func(audit.Entry) bool { return false }},
		"a decision of none": {pglog.Query{Decision: "deny' or 'a'='a"}, func(audit.Entry) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []string
			for _, e := range all {
				if test.want(e) {
					want = append(want, e.Request)
				}
			}
			q := test.q
			q.Limit = 7
			for {
				page, err := l.Search(t.Context(), p.organisation, q)
				must(t, err)
				for _, f := range page {
					e, err := audit.ParseEntry(f.Body)
					must(t, err)
					if e.Seq != f.Seq || !e.Time.Equal(f.At) {
						t.Errorf("record %d is said to be %d", e.Seq, f.Seq)
					}
					got = append(got, e.Request)
				}
				if len(page) < q.Limit {
					break
				}
				q.Before = page[len(page)-1].Place
			}
			if !slices.Equal(got, want) {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
	t.Run("not in another organisation", func(t *testing.T) {
		page, err := l.Search(t.Context(), p.subject, pglog.Query{Limit: 10})
		if err != nil || len(page) != 0 {
			t.Errorf("found %d records, %v", len(page), err)
		}
	})
	for _, q := range []pglog.Query{{}, {Limit: -1}, {Limit: pglog.MaxPage + 1}, {Limit: 1, Since: middle, Until: middle}} {
		if _, err := l.Search(t.Context(), p.organisation, q); err == nil {
			t.Errorf("P6: %+v is accepted", q)
		}
	}

	t.Run("forward from a place, oldest first", func(t *testing.T) {
		q := pglog.Query{Actor: "a3", Limit: 4, After: pglog.Place{At: middle, Seq: all[n/2].Seq}}
		var want, got []uint64
		for _, e := range slices.Backward(all) {
			if e.Actor.Ref == "a3" && e.Seq > all[n/2].Seq {
				want = append(want, e.Seq)
			}
		}
		for {
			page, err := l.Search(t.Context(), p.organisation, q)
			must(t, err)
			for _, f := range page {
				got = append(got, f.Seq)
			}
			if len(page) < q.Limit {
				break
			}
			q.After = page[len(page)-1].Place
		}
		if !slices.Equal(got, want) {
			t.Errorf("found %d, want %d", got, want)
		}
	})
	t.Run("any of several queries, each record once", func(t *testing.T) {
		var want, got []uint64
		for _, e := range all {
			if e.Actor.Ref == "a3" || e.Subject.Ref == "v6" {
				want = append(want, e.Seq)
			}
		}
		qs := []pglog.Query{{Actor: "a3", Limit: 5}, {Subject: "v6", Limit: 5}}
		for {
			page, err := l.SearchAny(t.Context(), p.organisation, qs)
			must(t, err)
			for _, f := range page {
				got = append(got, f.Seq)
			}
			if len(page) < 5 {
				break
			}
			for i := range qs {
				qs[i].Before = page[4].Place
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("found %d, want %d", got, want)
		}
	})
	t.Run("stretches of time count the newest", func(t *testing.T) {
		for _, atMost := range []int{1000, 10} {
			counts, err := l.Times(t.Context(), p.organisation, pglog.Query{Not: []pglog.Term{{"decision", "allow"}}}, time.Second, atMost)
			must(t, err)
			var got, want int64
			for _, c := range counts {
				if got += c.N; c.Decision == "allow" || c.Start.Nanosecond() != 0 {
					t.Errorf("%+v", c)
				}
			}
			for _, e := range all {
				if e.Decision != "allow" {
					want++
				}
			}
			if got != min(want, int64(atMost)) {
				t.Errorf("%d are counted, want %d", got, min(want, int64(atMost)))
			}
		}
	})
	t.Run("pairs and people", func(t *testing.T) {
		for by, of := range map[string]func(audit.Entry) [2]string{
			pglog.ByPair:    func(e audit.Entry) [2]string { return [2]string{e.Actor.Ref, e.Subject.Ref} },
			pglog.ByActor:   func(e audit.Entry) [2]string { return [2]string{e.Actor.Ref} },
			pglog.BySubject: func(e audit.Entry) [2]string { return [2]string{"", e.Subject.Ref} },
		} {
			want := map[[2]string][3]int64{}
			for _, e := range all {
				c := want[of(e)]
				c[0]++
				if e.Decision == "masked" {
					c[1]++
				}
				if e.Decision == "deny" {
					c[2]++
				}
				want[of(e)] = c
			}
			pairs, err := l.Pairs(t.Context(), p.organisation, pglog.Query{Limit: 100}, by, 6, 1000)
			must(t, err)
			if len(pairs) != len(want) {
				t.Errorf("by %s there are %d, want %d", by, len(pairs), len(want))
			}
			for _, x := range pairs {
				var sum int64
				for i, c := range x.Counts {
					if sum += c; x.Stretches[i] < 1 || x.Stretches[i] > 6 {
						t.Errorf("stretch %d", x.Stretches[i])
					}
				}
				last, err := audit.ParseEntry(x.Last)
				if c := want[[2]string{x.Actor, x.Subject}]; err != nil || c != [3]int64{x.N, x.Masked, x.Denied} || sum != x.N || of(last) != [2]string{x.Actor, x.Subject} || !last.Time.Equal(x.LastAt) || x.Counted != n {
					t.Errorf("by %s: %+v, want %v (%v)", by, x, c, err)
				}
			}
		}
		if pairs, err := l.Pairs(t.Context(), p.organisation, pglog.Query{Actor: "a3", Limit: 2}, pglog.ByPair, 6, 10); err != nil || len(pairs) != 2 || pairs[0].Counted != 10 {
			t.Errorf("%+v, %v", pairs, err)
		}
	})
	t.Run("references are found by how they begin", func(t *testing.T) {
		for prefix, want := range map[string]int{"v": 3, "v6": 1, "z": 0, "a": 0} {
			if got, err := l.References(t.Context(), p.organisation, "subject", prefix, 3); err != nil || len(got) != want {
				t.Errorf("%s: %q, %v, want %d", prefix, got, err, want)
			}
		}
		for column, prefix := range map[string]string{"subject": "v' or true", "body": "v", "actor": ""} {
			if _, err := l.References(t.Context(), p.organisation, column, prefix, 3); err == nil {
				t.Errorf("%s %q is accepted", column, prefix)
			}
		}
		if got, err := l.Actions(t.Context(), p.organisation); err != nil || !slices.Equal(got, []string{"introduce", "show"}) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("by nothing else", func(t *testing.T) {
		if _, err := l.Search(t.Context(), p.organisation, pglog.Query{Limit: 1, Not: []pglog.Term{{"body", "x"}}}); err == nil {
			t.Error("a column that is none is accepted")
		}
	})

	t.Run("days count every record once", func(t *testing.T) {
		counts, err := l.Days(t.Context(), p.organisation, all[n-1].Time.Truncate(24*time.Hour), all[0].Time.Add(24*time.Hour))
		must(t, err)
		want := map[string]int64{}
		for _, e := range all {
			want[e.Action+" "+e.Decision]++
		}
		for _, c := range counts {
			want[c.Action+" "+c.Decision] -= c.N
		}
		for what, missing := range want {
			if missing != 0 {
				t.Errorf("%s: %d more in the log than in the days", what, missing)
			}
		}
	})
}

// Were a plan to sort or to read a whole month, a page would cost what the log holds.
func TestAPageCostsWhatItShows(t *testing.T) {
	p := newPlace(t)
	admin := p.db.Superuser(t)
	ctx := t.Context()
	_, err := admin.Exec(ctx, `select audit.ensure_months((now() - interval '5 months')::date, 6)`)
	must(t, err)
	for _, sql := range []string{
		`insert into audit.record (organisation_id, seq, at, body) select $1, i, now() - interval '5 months' * (1 - i / 60000.0), 'x' from generate_series(1, 60000) as i`,
		`insert into audit.search (organisation_id, seq, at, kind, action, actor_ref, subject_ref, decision, conversation_ref, address_ref, address_net)
			select organisation_id, i, at, case i % 500 when 0 then 'denial' else 'disclosure' end, 'act' || i % 9, 'a' || i % 50, 'v' || i % 20000,
				case i % 500 when 0 then 'deny' when 1 then 'masked' else 'allow' end, 'c' || i % 20000, case i % 7 when 0 then 'p' || i % 3 else '' end, case i % 7 when 0 then 'n' else '' end
			from audit.record cross join lateral (select seq as i) i where organisation_id = $1`,
		`update audit.searchable set size = 60001 where organisation_id = $1`,
	} {
		_, err = admin.Exec(ctx, sql, p.organisation)
		must(t, err)
	}
	_, err = admin.Exec(ctx, "analyze audit.record, audit.search")
	must(t, err)
	config, err := pgxpool.ParseConfig(p.db.URL(service))
	must(t, err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(ctx, config)
	must(t, err)
	defer pool.Close()
	l := newLog(t, pool)
	for name, q := range map[string]pglog.Query{
		"everything": {}, "action": {Action: "act3"}, "kind": {Kind: "denial"}, "deny": {Decision: "deny"}, "masked": {Decision: "masked"}, "allow": {Decision: "allow"}, "actor": {Actor: "a7"}, "subject": {Subject: "v77"},
		"conversation": {Conversation: "c77"}, "address": {Address: "p1"}, "network": {AddressNet: "n"}, "forward": {After: pglog.Place{At: time.Now().AddDate(0, -3, 0), Seq: 1}}, "not": {Action: "act3", Not: []pglog.Term{{"actor", "a7"}}}, "nobody": {Subject: "nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			q.Since, q.Limit = time.Now().AddDate(0, -6, 0), 50
			before := blocks(t, p, pool)
			found, err := l.Search(ctx, p.organisation, q)
			must(t, err)
			if len(found) == 0 && name != "nobody" {
				t.Error("nothing is found")
			}
			if read := blocks(t, p, pool) - before; read > 400 {
				t.Errorf("a page of %d records touched %d blocks", len(found), read)
			}
		})
	}
}

// blocks is how many blocks of the log's tables and indexes were touched so far. A session reports what it has counted before it
// is ready again, if asked to; the pool has one.
func blocks(t *testing.T, p *place, pool *pgxpool.Pool) (n int) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "select pg_stat_force_next_flush()")
	must(t, err)
	must(t, p.db.Superuser(t).QueryRow(t.Context(), `select sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::int from pg_statio_all_tables where schemaname = 'audit'`).Scan(&n))
	return n
}
