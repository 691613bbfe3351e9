package bench

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"counterfoil/audit/pglog"
)

var records = flag.Int("records", 10_000_000, "records to search in")

// The records of a year: one organisation has seven of ten, forty-nine small ones share the rest. Agents are few, visitors and
// conversations many, denials rare.
const (
	searchedMonths = 12
	agents         = 400
	purposes       = 9
)

// ref is the reference that the archive has for the n-th of a kind.
func ref(kind string, n int) string {
	letters := strings.Map(func(r rune) rune { return r - '0' + 'a' }, strconv.Itoa(n))
	return (kind + letters + strings.Repeat("z", 16))[:16]
}

// newArchive makes an archive of n records and gives its organisations, the large one first. Times and references are those
// that generate_series and a hash give, so the archive is the same each time.
func (w *world) newArchive(b *testing.B, n int) {
	b.Helper()
	ctx := b.Context()
	start := time.Now()
	for _, sql := range []string{
		fmt.Sprintf("select audit.ensure_months((now() - interval '%d months')::date, %d)", searchedMonths, searchedMonths+1),
		"create table floor.archive_organisation (i int primary key, id uuid not null)",
		`create function floor.ref(kind text, n bigint) returns text language sql immutable as $$ select rpad(kind || translate(n::text, '0123456789', 'abcdefghij'), 16, 'z') $$`,
		"alter table audit.record drop constraint record_pkey",
		"alter table audit.search drop constraint search_pkey",
		"alter table audit.asked drop constraint asked_pkey",
		"drop index audit.asked_pairs, audit.asked_actors, audit.asked_subjects",
		"drop index audit.search_by_subject, audit.search_by_actor, audit.search_by_conversation, audit.search_by_action, audit.search_not_disclosed, audit.search_not_allowed, audit.search_by_address, audit.search_by_net",
	} {
		_, err := w.admin.Exec(ctx, sql)
		must(b, err)
	}
	for i, o := range w.organisations {
		_, err := w.admin.Exec(ctx, "insert into floor.archive_organisation values ($1, $2)", i, o.ID)
		must(b, err)
	}
	for _, sql := range []string{
		// The large organisation's rows are those of which the last digit is below 7.
		fmt.Sprintf(`create unlogged table floor.archive as
			select o.id as organisation_id, row_number() over (partition by o.id order by g.i) + 1000000 as seq, now() - interval '%d months' * (1 - g.i / %d.0) as at,
				'purpose_' || h %% %d as action, case when h %% 1000 = 0 then 'deny' when h %% 50 = 1 then 'masked' else 'allow' end as decision,
				floor.ref('agent', h %% %d) as actor_ref, floor.ref('visitor', h %% %d) as subject_ref, floor.ref('talk', h %% %d) as conversation_ref,
				case when h %% 40 = 2 then floor.ref('address', h %% 97) else '' end as address_ref, h
			from generate_series(1, %d) as g(i) cross join lateral (select abs(hashint8(g.i)::bigint) as h) h
			join floor.archive_organisation o on o.i = case when g.i %% 10 < 7 then 0 else 1 + g.i %% 49 end`, searchedMonths, n, purposes, agents, n/20, n/8, n),
		`insert into audit.record (organisation_id, seq, at, body)
			select organisation_id, seq, at, convert_to(format('{"v":1,"seq":%s,"time":"%s","org":"%s","kind":"disclosure","action":"%s","actor":{"kind":"agent","ref":"%s"},"subject":{"kind":"visitor","ref":"%s"},"decision":"%s","conversation":"%s","facts":{"conversation.actor_is":"agent","conversation.state":"active"},"nonce":"00112233445566778899aabbccddeeff"}',
				seq, to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), organisation_id, action, actor_ref, subject_ref, decision, conversation_ref), 'UTF8') from floor.archive`,
		`insert into audit.search (organisation_id, seq, at, kind, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, address_net, rule)
			select organisation_id, seq, at, case when decision = 'deny' then 'denial' when h % 2000 = 4 then 'administration' else 'disclosure' end, action, decision, actor_ref, subject_ref, conversation_ref, address_ref, '',
				case decision when 'deny' then 'rule_' || h % 7 else '' end from floor.archive`,
		`insert into audit.day select organisation_id, (at at time zone 'UTC')::date, action, decision, count(*) from floor.archive group by 1, 2, 3, 4`,
		`insert into audit.answer select organisation_id, row_number() over (partition by organisation_id), kind, action, decision, rule from (select distinct organisation_id, kind, action, decision, rule from audit.search) a`,
		`insert into audit.hour select organisation_id, date_trunc('hour', at, 'UTC'), answer_id, count(*) from audit.search join audit.answer using (organisation_id, kind, action, decision, rule) group by 1, 2, 3`,
		`insert into audit.asked select organisation_id, day, actor_ref, subject_ref, max(last_seq), sum(n), array_agg(answer_id order by answer_id), array_agg(n order by answer_id) from (
			select s.organisation_id, (s.at at time zone 'UTC')::date as day, k.actor_ref, k.subject_ref, a.answer_id, count(*)::int as n, max(s.seq) as last_seq
			from audit.search s join audit.answer a using (organisation_id, kind, action, decision, rule) cross join lateral audit.sides(s.actor_ref, s.subject_ref) k group by 1, 2, 3, 4, 5) x group by 1, 2, 3, 4`,
		"drop table floor.archive",
		"set maintenance_work_mem = '1GB'",
		"alter table audit.record add primary key (organisation_id, seq, at)",
		"alter table audit.search add primary key (organisation_id, at, seq)",
		"create index search_by_subject on audit.search (organisation_id, subject_ref, at, seq) where subject_ref <> ''",
		"create index search_by_actor on audit.search (organisation_id, actor_ref, at, seq) where actor_ref <> ''",
		"create index search_by_conversation on audit.search (organisation_id, conversation_ref, at, seq) where conversation_ref <> ''",
		"create index search_by_action on audit.search (organisation_id, action, at, seq)",
		"create index search_not_disclosed on audit.search (organisation_id, kind, at, seq) where kind in ('denial', 'collection', 'administration')",
		"create index search_not_allowed on audit.search (organisation_id, decision, at, seq) where decision in ('deny', 'masked')",
		"create index search_by_address on audit.search (organisation_id, address_ref, at, seq) where address_ref <> ''",
		"create index search_by_net on audit.search (organisation_id, address_net, at, seq) where address_net <> ''",
		"alter table audit.asked add primary key (organisation_id, actor_ref, subject_ref, day)",
		"create index asked_pairs on audit.asked (organisation_id, day, last_seq) where actor_ref <> '' and subject_ref <> ''",
		"create index asked_actors on audit.asked (organisation_id, day, last_seq) where subject_ref = '' and actor_ref <> ''",
		"create index asked_subjects on audit.asked (organisation_id, day, last_seq) where actor_ref = '' and subject_ref <> ''",
		"vacuum analyze audit.record, audit.search, audit.asked, audit.hour, audit.day, audit.answer",
		"checkpoint",
	} {
		_, err := w.admin.Exec(ctx, sql)
		must(b, err)
	}
	var size string
	must(b, w.admin.QueryRow(ctx, "select pg_size_pretty(pg_database_size(current_database()))").Scan(&size))
	b.Logf("%d records made in %s; the database has %s", n, time.Since(start).Round(time.Second), size)
}

// BenchmarkSearch asks for the newest 50 records by each filter, and by the ones that find little, in a log of -records records
// of a year. The floor is the bare read of a row by key, through the same pool, in turns.
func BenchmarkSearch(b *testing.B) {
	w := newWorld(b, 50)
	w.newArchive(b, *records)
	year := time.Now().AddDate(0, -searchedMonths, 0)
	pick := func(kind string, n int) string { return ref(kind, rand.IntN(n)) }
	for _, c := range []struct {
		name string
		q    func() pglog.Query
	}{
		{"newest", func() pglog.Query { return pglog.Query{} }},
		{"subject", func() pglog.Query { return pglog.Query{Since: year, Subject: pick("visitor", *records/20)} }},
		{"actor", func() pglog.Query { return pglog.Query{Actor: pick("agent", agents)} }},
		{"actor-page-in-the-middle", func() pglog.Query {
			at := year.Add(rand.N(time.Since(year)))
			return pglog.Query{Since: year, Actor: pick("agent", agents), Before: pglog.Place{At: at, Seq: 1}}
		}},
		{"purpose", func() pglog.Query { return pglog.Query{Action: fmt.Sprint("purpose_", rand.IntN(purposes))} }},
		{"acts", func() pglog.Query { return pglog.Query{Since: year, Kind: "administration"} }},
		{"denied", func() pglog.Query { return pglog.Query{Since: year, Decision: "deny"} }},
		{"masked", func() pglog.Query { return pglog.Query{Decision: "masked"} }},
		{"allowed", func() pglog.Query { return pglog.Query{Decision: "allow"} }},
		{"conversation", func() pglog.Query { return pglog.Query{Since: year, Conversation: pick("talk", *records/8)} }},
		{"address", func() pglog.Query { return pglog.Query{Since: year, Address: pick("address", 97)} }},
		{"time", func() pglog.Query {
			at := year.Add(rand.N(time.Since(year)))
			return pglog.Query{Since: at.Add(-time.Hour), Until: at}
		}},
		{"nobody", func() pglog.Query { return pglog.Query{Since: year, Subject: pick("nobody", 1000)} }},
		{"actor-and-denied", func() pglog.Query { return pglog.Query{Since: year, Actor: pick("agent", agents), Decision: "deny"} }},
	} {
		for _, o := range []struct {
			name string
			organisation
		}{{"large", w.organisations[0]}, {"small", w.organisations[7]}} {
			b.Run(c.name+"/organisation="+o.name, func(b *testing.B) {
				w.searched(b, func(ctx context.Context) error {
					q := c.q()
					q.Limit = 50
					_, err := w.log.Search(ctx, o.ID, q)
					return err
				})
			})
		}
	}
	for _, days := range []int{30, 365} {
		b.Run(fmt.Sprintf("counts/days=%d", days), func(b *testing.B) {
			w.searched(b, func(ctx context.Context) error {
				_, err := w.log.Days(ctx, w.organisations[0].ID, time.Now().AddDate(0, 0, -days), time.Now().AddDate(0, 0, 1))
				return err
			})
		})
	}
}

// BenchmarkCounts is what the pages of the console count beside what they list.
func BenchmarkCounts(b *testing.B) {
	w := newWorld(b, 50)
	w.newArchive(b, *records)
	large := w.organisations[0].ID
	today := time.Now().UTC().Truncate(24 * time.Hour)
	since := func(days int) time.Time { return today.AddDate(0, 0, -days) }
	people := func(q pglog.Query, by string) func(context.Context) error {
		return func(ctx context.Context) error {
			q.Limit = 50
			_, err := w.log.People(ctx, large, []pglog.Query{q}, by, time.Hour)
			return err
		}
	}
	for _, c := range []struct {
		name string
		look func(context.Context) error
	}{
		{"strip-of-an-actor", func(ctx context.Context) error {
			_, _, err := w.log.Times(ctx, large, pglog.Query{Actor: ref("agent", rand.IntN(agents))}, 24*time.Hour, 20_000)
			return err
		}},
		{"strip-of-hours", func(ctx context.Context) error {
			_, _, err := w.log.Times(ctx, large, pglog.Query{Since: time.Now().AddDate(0, 0, -20)}, 6*time.Hour, 20_000)
			return err
		}},
		{"strip-of-a-year", func(ctx context.Context) error {
			_, _, err := w.log.Times(ctx, large, pglog.Query{Since: since(365)}, 24*time.Hour, 20_000)
			return err
		}},
		{"who-saw-whom-in-a-week", people(pglog.Query{Since: since(7)}, pglog.ByPair)},
		{"who-saw-whom-in-a-year", people(pglog.Query{Since: since(365)}, pglog.ByPair)},
		{"people-of-a-year", people(pglog.Query{Since: since(365)}, pglog.BySubject)},
		{"actors-of-a-year", people(pglog.Query{Since: since(365)}, pglog.ByActor)},
		{"actors-of-an-old-month", people(pglog.Query{Since: since(200), Until: since(170)}, pglog.ByActor)},
		{"who-an-actor-saw", people(pglog.Query{Since: since(365), Actor: ref("agent", 7)}, pglog.ByPair)},
		{"who-saw-whom-for-a-purpose", people(pglog.Query{Since: since(365), Action: "purpose_3"}, pglog.ByPair)},
		{"who-was-denied", people(pglog.Query{Since: since(365), Decision: "deny"}, pglog.ByPair)},
		{"the-most-frequent", func(ctx context.Context) error {
			_, err := w.log.Most(ctx, large, pglog.Query{Since: since(6), Until: since(-1), Limit: 8}, pglog.BySubject)
			return err
		}},
		{"a-handle", func(ctx context.Context) error {
			_, err := w.log.References(ctx, large, "subject", ref("visitor", 20+rand.IntN(70))[:9], 2)
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) { w.searched(b, c.look) })
	}
}

func (w *world) searched(b *testing.B, search func(context.Context) error) {
	var bare, ours sample
	for b.Loop() {
		for range 4 {
			bare.run(b, 1, 50*time.Millisecond, w.bareRead)
			ours.run(b, 1, 250*time.Millisecond, func(ctx context.Context, _ int) error { return search(ctx) })
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ours.ms(0.5), "p50-ms")
	b.ReportMetric(ours.ms(0.95), "p95-ms")
	b.ReportMetric(ours.ms(0.95)/bare.ms(0.95), "x/bare-read-p95")
}
