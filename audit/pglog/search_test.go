package pglog_test

import (
	"cmp"
	"fmt"
	"maps"
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
		e.Kind, e.Decision, e.Rule = audit.Denial, audit.DecisionDeny, "some.rule"
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
	t.Run("stretches of time count every record, or the newest", func(t *testing.T) {
		for name, test := range map[string]struct {
			q       pglog.Query
			stretch time.Duration
			atMost  int
			of      func(audit.Entry) bool
		}{
			"one by one":            {pglog.Query{Not: []pglog.Term{{"decision", "allow"}}}, time.Second, 1000, func(e audit.Entry) bool { return e.Decision != "allow" }},
			"one by one, too many":  {pglog.Query{Not: []pglog.Term{{"decision", "allow"}}}, time.Second, 10, func(e audit.Entry) bool { return e.Decision != "allow" }},
			"by hour":               {pglog.Query{Action: "show", Not: []pglog.Term{{"kind", "denial"}}}, time.Hour, 10, func(e audit.Entry) bool { return e.Action == "show" && e.Kind != audit.Denial }},
			"by six hours":          {pglog.Query{}, 6 * time.Hour, 10, func(audit.Entry) bool { return true }},
			"of an actor by day":    {pglog.Query{Actor: "a3", Decision: "allow"}, 24 * time.Hour, 10, func(e audit.Entry) bool { return e.Actor.Ref == "a3" && e.Decision == "allow" }},
			"of a pair by day":      {pglog.Query{Actor: "a3", Subject: "v6"}, 24 * time.Hour, 10, func(e audit.Entry) bool { return e.Actor.Ref == "a3" && e.Subject.Ref == "v6" }},
			"denied by a rule":      {pglog.Query{Rule: "some.rule"}, time.Hour, 10, func(e audit.Entry) bool { return e.Decision == "deny" }},
			"with an open end":      {pglog.Query{Since: middle}, time.Hour, 1000, func(e audit.Entry) bool { return !e.Time.Before(middle) }},
			"until a moment":        {pglog.Query{Until: middle}, time.Hour, 1000, func(e audit.Entry) bool { return e.Time.Before(middle) }},
			"an actor, by the hour": {pglog.Query{Actor: "a3"}, time.Hour, 1000, func(e audit.Entry) bool { return e.Actor.Ref == "a3" }},
		} {
			counts, more, err := l.Times(t.Context(), p.organisation, test.q, test.stretch, test.atMost)
			must(t, err)
			want := map[string]int64{}
			var got, all64 int64
			for _, e := range all {
				if test.of(e) {
					want[e.Decision]++
					all64++
				}
			}
			for _, c := range counts {
				got += c.N
				if want[c.Decision] -= c.N; !c.Start.UTC().Equal(c.Start.UTC().Truncate(test.stretch)) {
					t.Errorf("%s: a stretch begins at %s", name, c.Start)
				}
			}
			if name == "one by one, too many" {
				if got != 10 || !more {
					t.Errorf("%s: %d are counted, %v", name, got, more)
				}
				continue
			}
			for decision, missing := range want {
				if missing != 0 || more {
					t.Errorf("%s: %d of %q are missing, %v", name, missing, decision, more)
				}
			}
		}
	})
	t.Run("pairs and people", func(t *testing.T) {
		today := all[n-1].Time.Truncate(24 * time.Hour)
		sides := map[string]func(audit.Entry) [2]string{
			pglog.ByPair:    func(e audit.Entry) [2]string { return [2]string{e.Actor.Ref, e.Subject.Ref} },
			pglog.ByActor:   func(e audit.Entry) [2]string { return [2]string{e.Actor.Ref} },
			pglog.BySubject: func(e audit.Entry) [2]string { return [2]string{"", e.Subject.Ref} },
		}
		for name, test := range map[string]struct {
			qs []pglog.Query
			of func(audit.Entry) bool
		}{
			"by day":                        {[]pglog.Query{{Since: today}}, func(audit.Entry) bool { return true }},
			"one by one":                    {[]pglog.Query{{}}, func(audit.Entry) bool { return true }},
			"by day, of one actor":          {[]pglog.Query{{Since: today, Actor: "a3"}}, func(e audit.Entry) bool { return e.Actor.Ref == "a3" }},
			"by day, of one subject":        {[]pglog.Query{{Since: today, Subject: "v6"}}, func(e audit.Entry) bool { return e.Subject.Ref == "v6" }},
			"one by one, of two actors":     {[]pglog.Query{{Since: today, Actor: "a3"}, {Since: today, Actor: "a1"}}, func(e audit.Entry) bool { return e.Actor.Ref == "a3" || e.Actor.Ref == "a1" }},
			"one by one, of two decisions":  {[]pglog.Query{{Since: today, Decision: "deny"}, {Since: today, Decision: "masked"}}, func(e audit.Entry) bool { return e.Decision != "allow" }},
			"one by one, of a conversation": {[]pglog.Query{{Since: today, Conversation: "c2"}}, func(e audit.Entry) bool { return e.Conversation == "c2" }},
			"until a moment":                {[]pglog.Query{{Since: today, Until: middle}}, func(e audit.Entry) bool { return e.Time.Before(middle) }},
		} {
			for by, of := range sides {
				peopleAre(t, l, p, name+", "+by, test.qs, by, all, test.of, of)
			}
		}
		// What is frequent is read off the days also when only some records are looked for.
		pglog.SetFew(t, 3)
		for name, test := range map[string]struct {
			qs []pglog.Query
			of func(audit.Entry) bool
		}{
			"by day, of one actor, who is frequent": {[]pglog.Query{{Since: today, Actor: "a3"}}, func(e audit.Entry) bool { return e.Actor.Ref == "a3" }},
			"by day, of a subject who is frequent":  {[]pglog.Query{{Since: today, Subject: "v6"}}, func(e audit.Entry) bool { return e.Subject.Ref == "v6" }},
			"by day, of a pair that is frequent":    {[]pglog.Query{{Since: today, Actor: "a1", Subject: "v1"}}, func(e audit.Entry) bool { return e.Actor.Ref == "a1" && e.Subject.Ref == "v1" }},
			"by day, of an action":                  {[]pglog.Query{{Since: today, Action: "show"}}, func(e audit.Entry) bool { return e.Action == "show" }},
			"by day, of two decisions":              {[]pglog.Query{{Since: today, Decision: "allow"}, {Since: today, Decision: "masked"}}, func(e audit.Entry) bool { return e.Decision != "deny" }},
			"by day, of an actor and what is not":   {[]pglog.Query{{Since: today, Actor: "a3", Not: []pglog.Term{{"action", "show"}}}}, func(e audit.Entry) bool { return e.Actor.Ref == "a3" && e.Action != "show" }},
			"by day, of all but one, by pairs only": {[]pglog.Query{{Since: today, Not: []pglog.Term{{"actor", "a3"}}}}, func(e audit.Entry) bool { return e.Actor.Ref != "a3" }},
		} {
			for by, of := range sides {
				peopleAre(t, l, p, name+", "+by, test.qs, by, all, test.of, of)
			}
		}
		if _, err := l.People(t.Context(), p.organisation, []pglog.Query{{Limit: 10, Since: today}}, "body", time.Hour); err == nil {
			t.Error("people are counted by anything")
		}
	})
	t.Run("the most frequent, and the rules that denied", func(t *testing.T) {
		today := all[n-1].Time.Truncate(24 * time.Hour)
		q := pglog.Query{Since: today, Until: today.AddDate(0, 0, 2), Limit: 2}
		most, err := l.Most(t.Context(), p.organisation, q, pglog.BySubject)
		must(t, err)
		counts := map[string]int64{}
		for _, e := range all {
			counts[e.Subject.Ref]++
		}
		if len(most) != 2 || most[0].N < most[1].N || counts[most[0].Reference] != most[0].N || most[0].N != slices.Max(slices.Collect(maps.Values(counts))) {
			t.Errorf("%+v of %v", most, counts)
		}
		q.Not = []pglog.Term{{"decision", "allow"}, {"decision", "masked"}}
		most, err = l.Most(t.Context(), p.organisation, q, pglog.ByActor)
		must(t, err)
		clear(counts)
		for _, e := range all {
			if e.Decision == "deny" {
				counts[e.Actor.Ref]++
			}
		}
		if len(most) != 2 || counts[most[0].Reference] != most[0].N || most[0].N != slices.Max(slices.Collect(maps.Values(counts))) {
			t.Errorf("denied: %+v of %v", most, counts)
		}
		rules, err := l.Denied(t.Context(), p.organisation, today, today.AddDate(0, 0, 2))
		if err != nil || len(rules) != 1 || rules[0] != (pglog.Denied{Rule: "some.rule", N: 11}) {
			t.Errorf("%+v, %v", rules, err)
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

// peopleAre compares what is counted of people, page by page, with what the entries say.
func peopleAre(t *testing.T, l *pglog.Log, p *place, name string, qs []pglog.Query, by string, all []audit.Entry, wanted func(audit.Entry) bool, of func(audit.Entry) [2]string) {
	t.Helper()
	type sum struct {
		n, masked, denied int64
		first, last       time.Time
		seq               uint64
	}
	want := map[[2]string]*sum{}
	for _, e := range all { // the newest first
		if !wanted(e) {
			continue
		}
		c := want[of(e)]
		if c == nil {
			c = &sum{last: e.Time, seq: e.Seq}
			want[of(e)] = c
		}
		c.n, c.first = c.n+1, e.Time
		switch e.Decision {
		case audit.DecisionMasked:
			c.masked++
		case audit.DecisionDeny:
			c.denied++
		}
	}
	var got []pglog.Pair
	var before pglog.Place
	for {
		page := slices.Clone(qs)
		for i := range page {
			page[i].Limit, page[i].Before = 3, before
		}
		pairs, err := l.People(t.Context(), p.organisation, page, by, time.Hour)
		must(t, err)
		got = append(got, pairs...)
		if len(pairs) < 3 || len(got) > len(all) {
			break
		}
		before = pairs[2].Place
	}
	if len(got) != len(want) {
		t.Errorf("%s: there are %d, want %d", name, len(got), len(want))
	}
	for i, x := range got {
		c := want[[2]string{x.Actor, x.Subject}]
		if c == nil {
			t.Errorf("%s: %s and %s are counted", name, x.Actor, x.Subject)
			continue
		}
		var n int64
		for _, k := range x.Counts {
			n += k
		}
		last, err := audit.ParseEntry(x.Last)
		must(t, err)
		if (sum{x.N, x.Masked, x.Denied, x.FirstAt.UTC(), x.LastAt.UTC(), last.Seq}) != *c || n != x.N || len(x.Actions) != len(x.Counts) || len(x.Starts) != len(x.Counts) {
			t.Errorf("%s: %+v, want %+v", name, x, c)
		}
		if i > 0 && cmp.Compare(got[i-1].Place.Seq, x.Place.Seq) <= 0 {
			t.Errorf("%s: %d comes after %d", name, x.Place.Seq, got[i-1].Place.Seq)
		}
	}
}
