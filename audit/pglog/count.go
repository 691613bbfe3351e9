package pglog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
)

// Stretch is how many records with a decision fall into a stretch of time.
type Stretch struct {
	Start    time.Time
	Decision string
	N        int64
}

const (
	sqlTimes   = "select start, decision, n from access.log_times($1, $2, $3, $4, $5, $6, $7, $8)"
	sqlHours   = "select start, decision, n from access.log_hours($1, $2, $3, $4, $5, $6, $7)"
	sqlDaysOf  = "select start, decision, n from access.log_days_of($1, $2, $3, $4, $5, $6, $7, $8, $9)"
	sqlAnswers = "select access.log_answers($1, $2, $3, $4)"
)

const day = 24 * time.Hour

// sorted are the columns of which a count exists for each hour and for each person and day.
var sorted = []string{"kind", "action", "decision", "rule"}

// counted says for which stretches of time what answers q was counted already, the longest first.
func (q Query) counted() []time.Duration {
	switch {
	case q.Conversation != "" || q.Address != "" || q.AddressNet != "" || slices.ContainsFunc(q.Not, func(t Term) bool { return !slices.Contains(sorted, t.Column) }):
		return nil
	case q.Actor != "" || q.Subject != "":
		return []time.Duration{day}
	}
	return []time.Duration{day, time.Hour}
}

// Times counts the records that answer q in stretches of time that begin at multiples of one. Of what was not counted when it became
// searchable, the newest are counted now, at most so many; more says that there are others.
func (l *Log) Times(ctx context.Context, organisation uuid.UUID, q Query, stretch time.Duration, atMost int) (counts []Stretch, more bool, err error) {
	since, until, err := q.window()
	if err != nil {
		return nil, false, err
	}
	if err := l.index(ctx, organisation); err != nil {
		return nil, false, err
	}
	columns, values, wanted := q.terms()
	open := until.After(time.Now()) // then what has begun has all of its records
	var count func(from, to time.Time, units []time.Duration) error
	count = func(from, to time.Time, units []time.Duration) error {
		if !from.Before(to) {
			return nil
		}
		if len(units) == 0 {
			found, err := l.stretches(ctx, sqlTimes, organisation, from, to, columns, values, wanted, int(stretch.Seconds()), atMost)
			var n int64
			for _, s := range found {
				n += s.N
			}
			counts, more = append(counts, found...), more || n >= int64(atMost)
			return err
		}
		unit := units[0]
		first, last := from.Add(unit-1).Truncate(unit), to.Truncate(unit)
		if open && to.Equal(until) && to.After(last) {
			last = last.Add(unit)
		}
		if stretch%unit != 0 || !first.Before(last) {
			return count(from, to, units[1:])
		}
		var found []Stretch
		var err error
		if unit == day {
			found, err = l.stretches(ctx, sqlDaysOf, organisation, first, last, q.Actor, q.Subject, columns, values, wanted, int(stretch/day))
		} else {
			found, err = l.stretches(ctx, sqlHours, organisation, first, last, columns, values, wanted, int(stretch.Seconds()))
		}
		if counts = append(counts, found...); err != nil {
			return err
		}
		if err := count(from, first, units[1:]); err != nil {
			return err
		}
		return count(last, to, units[1:])
	}
	err = count(since.UTC(), until.UTC(), q.counted())
	return counts, more, err
}

func (l *Log) stretches(ctx context.Context, sql string, args ...any) ([]Stretch, error) {
	rows, err := l.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("count the log: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Stretch])
	if err != nil {
		return nil, fmt.Errorf("count the log: %w", err)
	}
	return counts, nil
}

// What people are counted by.
const (
	ByActor   = "actor"
	BySubject = "subject"
	ByPair    = "pair"
)

// Pair is how often an actor asked for a subject. Counted by one of the two, the other is empty.
type Pair struct {
	Actor, Subject    string
	N, Masked, Denied int64
	FirstAt, LastAt   time.Time
	Actions           []string // with Starts and Counts: so many of this action in the stretch that begins then
	Starts            []time.Time
	Counts            []int64
	Last              []byte // the last of these records
	Place             Place  // for the next page
}

const (
	sqlPeople = "select actor, subject, n, masked, denied, first_at, last_at, actions, starts, counts, body, place_day, place_seq from access.log_people($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
	sqlPairs  = "select actor, subject, n, masked, denied, first_at, last_at, actions, starts, counts, body, last_at, place_seq from access.log_pairs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
)

// few is how many records are looked at one by one rather than read off the days. A page of those who come up in so many records is about as
// far down the days of ten million as it takes to read the records.
var few = int64(8_000)

// People counts who asked for whom in the records that answer any of several queries, none of which finds what another does: one page of
// pairs or people, the one of whom there is a record last first, from the place of the first query on. The queries have their time, place
// and limit in common. Counts are of all such records. They are read off the days where these tell it and the time is of whole days, and
// made of the records otherwise; then stretch says how long the stretches of time are in which each is counted, which are days otherwise.
func (l *Log) People(ctx context.Context, organisation uuid.UUID, queries []Query, by string, stretch time.Duration) ([]Pair, error) {
	if len(queries) == 0 {
		return nil, nil
	}
	q := queries[0]
	if q.Limit < 1 || q.Limit > MaxPage {
		return nil, fmt.Errorf("count people in the log: a page has 1 to %d people", MaxPage)
	}
	since, until, err := q.window()
	if err != nil {
		return nil, err
	}
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	pairs, ok, err := l.peopleByDay(ctx, organisation, queries, by, since.UTC(), until.UTC())
	if ok || err != nil {
		return pairs, err
	}
	var placeSeq *int64
	if !q.Before.At.IsZero() {
		seq := int64(q.Before.Seq)
		placeSeq = &seq
	}
	if len(queries) == 1 {
		columns, values, wanted := q.terms()
		return l.pairs(ctx, sqlPairs, organisation, since, until, columns, values, wanted, by, max(1, int(stretch.Seconds())), placeSeq, q.Limit)
	}
	// What one query finds of a pair adds to what another does, so all pairs of each are needed.
	type key struct{ actor, subject string }
	sum := make(map[key]*Pair)
	for _, q := range queries {
		columns, values, wanted := q.terms()
		found, err := l.pairs(ctx, sqlPairs, organisation, since, until, columns, values, wanted, by, max(1, int(stretch.Seconds())), nil, nil)
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			k := key{p.Actor, p.Subject}
			if sum[k] == nil {
				sum[k] = &p
			} else {
				sum[k].add(p)
			}
		}
	}
	for _, p := range sum {
		if placeSeq == nil || int64(p.Place.Seq) < *placeSeq {
			pairs = append(pairs, *p)
		}
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return cmp.Compare(b.Place.Seq, a.Place.Seq) })
	return pairs[:min(len(pairs), q.Limit)], nil
}

func (p *Pair) add(o Pair) {
	p.N, p.Masked, p.Denied = p.N+o.N, p.Masked+o.Masked, p.Denied+o.Denied
	p.Actions, p.Starts, p.Counts = append(p.Actions, o.Actions...), append(p.Starts, o.Starts...), append(p.Counts, o.Counts...)
	if o.FirstAt.Before(p.FirstAt) {
		p.FirstAt = o.FirstAt
	}
	if o.Place.Seq > p.Place.Seq {
		p.LastAt, p.Last, p.Place = o.LastAt, o.Last, o.Place
	}
}

// peopleByDay reads people off the days; ok says whether these tell it.
func (l *Log) peopleByDay(ctx context.Context, organisation uuid.UUID, queries []Query, by string, since, until time.Time) (pairs []Pair, ok bool, err error) {
	q := queries[0]
	var nots []Term
	for _, t := range q.Not {
		if !slices.Contains(sorted, t.Column) {
			nots = append(nots, t)
		}
	}
	first, last := since.Truncate(day), until.Truncate(day)
	if !until.Equal(last) && until.After(time.Now()) {
		last = last.Add(day)
	} else if !until.Equal(last) {
		return nil, false, nil
	}
	if !since.Equal(first) {
		return nil, false, nil
	}
	var answers []int32
	all := false
	for _, other := range queries {
		rest := slices.DeleteFunc(slices.Clone(other.Not), func(t Term) bool { return slices.Contains(sorted, t.Column) })
		if other.Conversation != "" || other.Address != "" || other.AddressNet != "" || other.Actor != q.Actor || other.Subject != q.Subject || !slices.Equal(rest, nots) {
			return nil, false, nil
		}
		some, err := l.answers(ctx, organisation, other)
		if err != nil {
			return nil, false, err
		}
		all, answers = all || some == nil, append(answers, some...)
	}
	if slices.ContainsFunc(nots, func(t Term) bool {
		return t.Column != "actor" && t.Column != "subject" || by != ByPair && by != t.Column
	}) {
		return nil, false, nil
	}
	if all {
		answers = nil
	}
	if !all || q.Actor != "" || q.Subject != "" {
		n, known, err := l.number(ctx, organisation, queries, since, until)
		if err != nil || !known || n <= few {
			return nil, false, err // to look for what is rare day by day would take longer
		}
	}
	columns, values, wanted := []string{}, []string{}, []bool{}
	for column, value := range map[string]string{"actor": q.Actor, "subject": q.Subject} {
		if value != "" {
			columns, values, wanted = append(columns, column), append(values, value), append(wanted, true)
		}
	}
	for _, t := range nots {
		columns, values, wanted = append(columns, t.Column), append(values, t.Value), append(wanted, false)
	}
	var placeDay *time.Time
	var placeSeq *int64
	if !q.Before.At.IsZero() {
		at, seq := q.Before.At.UTC().Truncate(day), int64(q.Before.Seq)
		placeDay, placeSeq = &at, &seq
	}
	pairs, err = l.pairs(ctx, sqlPeople, organisation, first, last, answers, columns, values, wanted, by, placeDay, placeSeq, q.Limit)
	return pairs, true, err
}

// number is how many records answer queries, if it was counted.
func (l *Log) number(ctx context.Context, organisation uuid.UUID, queries []Query, since, until time.Time) (n int64, known bool, err error) {
	for _, q := range queries {
		q.Since, q.Until = since, until
		q.Not = slices.DeleteFunc(slices.Clone(q.Not), func(t Term) bool { return !slices.Contains(sorted, t.Column) })
		if len(q.counted()) == 0 {
			return 0, false, nil
		}
		counts, _, err := l.Times(ctx, organisation, q, day, 1)
		if err != nil {
			return 0, false, err
		}
		for _, c := range counts {
			n += c.N
		}
	}
	return n, true, nil
}

func (l *Log) pairs(ctx context.Context, sql string, args ...any) ([]Pair, error) {
	rows, err := l.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("count people in the log: %w", err)
	}
	pairs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Pair, err error) {
		var seq int64
		err = row.Scan(&p.Actor, &p.Subject, &p.N, &p.Masked, &p.Denied, &p.FirstAt, &p.LastAt, &p.Actions, &p.Starts, &p.Counts, &p.Last, &p.Place.At, &seq)
		p.Place.At, p.Place.Seq = p.Place.At.UTC(), uint64(seq)
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("count people in the log: %w", err)
	}
	return pairs, nil
}

// Most is somebody with how many records there are of him, and the last of them.
type Most struct {
	Reference string
	N         int64
	Last      []byte
}

const sqlMost = "select reference, n, body from access.log_most($1, $2, $3, $4, $5, $6)"

// Most gives who asked most, or was asked for most, within the whole days of q, of the sorts of records that q names; it names nothing else.
func (l *Log) Most(ctx context.Context, organisation uuid.UUID, q Query, by string) ([]Most, error) {
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	answers, err := l.answers(ctx, organisation, q)
	if err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlMost, organisation, q.Since.UTC(), q.Until.UTC(), answers, by, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("count people in the log: %w", err)
	}
	most, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Most])
	if err != nil {
		return nil, fmt.Errorf("count people in the log: %w", err)
	}
	return most, nil
}

// answers are the sorts of records that q names; nil for all.
func (l *Log) answers(ctx context.Context, organisation uuid.UUID, q Query) (answers []int32, err error) {
	columns, values, wanted := q.terms()
	if err := l.pool.QueryRow(ctx, sqlAnswers, organisation, columns, values, wanted).Scan(&answers); err != nil {
		return nil, fmt.Errorf("count people in the log: %w", err)
	}
	return answers, nil
}

// Denied is how often a rule denied.
type Denied struct {
	Rule string
	N    int64
}

const (
	sqlDenied = "select rule, n from access.log_rules($1, $2, $3)"
	sqlRules  = "select rule from access.log_rules($1, '-infinity', 'infinity')"
)

// Denied gives how often which rule denied within whole hours, the most frequent first.
func (l *Log) Denied(ctx context.Context, organisation uuid.UUID, since, until time.Time) ([]Denied, error) {
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlDenied, organisation, since, until)
	if err != nil {
		return nil, fmt.Errorf("count denials: %w", err)
	}
	rules, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Denied])
	if err != nil {
		return nil, fmt.Errorf("count denials: %w", err)
	}
	return rules, nil
}

// Rules gives every rule by which anything was denied.
func (l *Log) Rules(ctx context.Context, organisation uuid.UUID) ([]string, error) {
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlRules, organisation)
	if err != nil {
		return nil, fmt.Errorf("list the rules of the log: %w", err)
	}
	rules, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the rules of the log: %w", err)
	}
	return rules, nil
}

const (
	sqlCountedDays = "select day from access.log_counted_days($1)"
	sqlMiscounted  = "select days, hours, people from access.log_miscounted($1, $2)"
)

// miscounted compares what is counted with the records that can be searched, which are themselves compared with what they say.
func (l *Log) miscounted(ctx context.Context, organisation uuid.UUID) ([]audit.Fault, error) {
	rows, err := l.pool.Query(ctx, sqlCountedDays, organisation)
	if err != nil {
		return nil, fmt.Errorf("check the counts of the log: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("check the counts of the log: %w", err)
	}
	var faults []audit.Fault
	for _, d := range days {
		var days, hours, people int64
		if err := l.pool.QueryRow(ctx, sqlMiscounted, organisation, d).Scan(&days, &hours, &people); err != nil {
			return nil, fmt.Errorf("check the counts of the log: %w", err)
		}
		if days+hours+people > 0 {
			faults = append(faults, audit.Fault{Kind: audit.ColumnDiffers, Index: -1, Text: fmt.Sprintf("What is counted of %s is not what its records say: %d counts of the day, %d of its hours, %d of who asked for whom.",
				d.Format(time.DateOnly), days, hours, people)})
		}
	}
	return faults, nil
}
