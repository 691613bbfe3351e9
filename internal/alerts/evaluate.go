package alerts

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

const (
	// batch is how many records are held against the rules in one go.
	batch = 2000
	// pageMost is how far a window is looked back in, and so the highest number that a rule can ask for.
	pageMost = pglog.MaxPage
	// recordsMost is how many records an alert names.
	recordsMost = 50
)

const (
	sqlCursor  = "select next, decided from access.alert_cursor($1, $2)"
	sqlDecided = "select access.alert_decided($1)"
)

// Evaluate holds the rules of an organisation against the next records of its log, and reports whether there are more. What the watch itself
// records is left out, so that it does not feed itself: that policy lets it read is on record once an hour in which there was
// something to read.
func (w *Watch) Evaluate(ctx context.Context, organisation uuid.UUID) (more bool, err error) {
	if err := w.record(ctx, organisation); err != nil {
		return false, err
	}
	head, err := w.cfg.Log.Head(ctx, organisation)
	if err != nil {
		return false, err
	}
	next, decided := int64(0), false
	if err := w.cfg.Pool.QueryRow(ctx, sqlCursor, organisation, int64(head.Size)).Scan(&next, &decided); err != nil {
		return false, fmt.Errorf("find where the watch stands: %w", err)
	}
	begin := uint64(next)
	if begin >= head.Size {
		return false, nil
	}
	if !decided {
		if err := w.cfg.Gate.Act(ctx, principal.NewJob(organisation, task), policy.RaiseAlerts, organisation, "alert.watch", map[string]string{"from": strconv.FormatUint(begin, 10)}); err != nil {
			return false, err
		}
		if _, err := w.cfg.Pool.Exec(ctx, sqlDecided, organisation); err != nil {
			return false, fmt.Errorf("note that the watch may read: %w", err)
		}
		if head, err = w.cfg.Log.Head(ctx, organisation); err != nil {
			return false, err
		}
	}
	kept, err := w.cfg.Log.Retention(ctx, organisation)
	if err != nil {
		return false, err
	}
	from, to := max(begin, kept.First), min(max(begin, kept.First)+batch, head.Size)
	e := evaluation{w: w, organisation: organisation}
	for body, err := range w.cfg.Log.Entries(ctx, organisation, from, to) {
		if err != nil {
			return false, err
		}
		entry, err := audit.ParseEntry(body)
		if err != nil {
			return false, fmt.Errorf("read record: %w", err)
		}
		if !strings.HasPrefix(entry.Action, "alert.") {
			e.entries = append(e.entries, entry)
		}
	}
	if len(e.entries) > 0 {
		rules, err := w.Rules(ctx, organisation)
		if err != nil {
			return false, err
		}
		for _, r := range rules {
			if !r.On {
				continue
			}
			if err := e.hold(ctx, r); err != nil {
				return false, fmt.Errorf("hold the rule %s against the log: %w", r.ID, err)
			}
		}
	}
	if err := w.raise(ctx, organisation, begin, to, e.found); err != nil {
		return false, err
	}
	return to < head.Size, w.record(ctx, organisation)
}

// evaluation is one batch of records of one log.
type evaluation struct {
	w            *Watch
	organisation uuid.UUID
	entries      []audit.Entry
	found        []Alert
}

// add raises an alert, of which there is one for each cause.
func (e *evaluation) add(r Rule, cause string, n Numbers, at audit.Entry, records ...uint64) {
	id := uuid.NewSHA1(space, []byte(e.organisation.String()+" "+r.ID.String()+" "+cause))
	if len(records) == 0 {
		records = []uint64{at.Seq}
	}
	e.found = append(e.found, Alert{
		ID: id, Rule: r.ID, Version: r.Version, Kind: r.Kind, Terms: r.Terms, Numbers: n, Actor: at.Actor, Subject: at.Subject,
		Records: records[max(0, len(records)-recordsMost):], At: at.Time, cause: cause,
	})
}

// hold holds one rule against the records.
func (e *evaluation) hold(ctx context.Context, r Rule) error {
	switch r.Kind {
	case FirstPair:
		return e.firstPair(ctx, r)
	case NewAddress:
		return e.newAddress(ctx, r)
	case OffHours:
		return e.offHours(r)
	case NoChat:
		for _, entry := range e.entries {
			if shown(entry, r) && !slices.Contains([]string{"waiting", "active"}, entry.Facts["conversation.state"]) {
				e.add(r, "record "+strconv.FormatUint(entry.Seq, 10), Numbers{}, entry)
			}
		}
	case BreakGlass:
		for _, entry := range e.entries {
			if entry.Kind == audit.Disclosure && entry.Action == string(policy.BreakGlass) {
				e.add(r, "record "+strconv.FormatUint(entry.Seq, 10), Numbers{}, entry)
			}
		}
	case Canary:
		for _, entry := range e.entries {
			leaked, unread := leaks(entry)
			if leaked > 0 || unread > 0 || entry.Subject.Ref != "" && slices.Contains(r.Terms.Subjects, entry.Subject.Ref) {
				e.add(r, "record "+strconv.FormatUint(entry.Seq, 10), Numbers{N: leaked, Unread: unread}, entry)
			}
		}
	case ManySubjects:
		return e.perActor(ctx, r, time.Duration(r.Terms.Minutes)*time.Minute, func(entry audit.Entry) bool { return shown(entry, r) && entry.Subject.Ref != "" }, pglog.Query{Kind: string(audit.Disclosure)}, true)
	case Denials:
		return e.perActor(ctx, r, time.Duration(r.Terms.Minutes)*time.Minute, func(entry audit.Entry) bool { return entry.Kind == audit.Denial && about(entry, r) }, pglog.Query{Kind: string(audit.Denial)}, false)
	case Volume:
		return e.volume(ctx, r)
	case Count:
		return e.count(ctx, r)
	}
	return nil
}

// leaks says of the record of a scan for planted people how many of their values lie where none may, and how many places could not be searched.
func leaks(entry audit.Entry) (found, unread int) {
	if entry.Kind != audit.Administration || entry.Action != "canary.scan" {
		return 0, 0
	}
	found, _ = strconv.Atoi(entry.Facts["found"]) // of our own making
	unread, _ = strconv.Atoi(entry.Facts["unread"])
	return found, unread
}

// about reports whether a record is of an actor whom a rule is about.
func about(entry audit.Entry, r Rule) bool {
	return entry.Actor.Ref != "" && slices.Contains(r.Terms.Actors, entry.Actor.Kind)
}

// shown reports whether a record is of a release to such an actor.
func shown(entry audit.Entry, r Rule) bool { return entry.Kind == audit.Disclosure && about(entry, r) }

func place(entry audit.Entry) pglog.Place { return pglog.Place{At: entry.Time, Seq: entry.Seq} }

// before finds whether there is a record like this before another, within so many days.
func (e *evaluation) before(ctx context.Context, entry audit.Entry, q pglog.Query, days int) (bool, error) {
	q.Since, q.Until, q.Before, q.Limit = entry.Time.AddDate(0, 0, -days), entry.Time.Add(time.Microsecond), place(entry), 1
	found, err := e.w.cfg.Log.Search(ctx, e.organisation, q)
	return len(found) > 0, err
}

func (e *evaluation) firstPair(ctx context.Context, r Rule) error {
	known := make(map[string]bool)
	for _, entry := range e.entries {
		pair := entry.Actor.Ref + " " + entry.Subject.Ref
		if !shown(entry, r) || entry.Subject.Ref == "" || known[pair] {
			continue
		}
		known[pair] = true
		was, err := e.before(ctx, entry, pglog.Query{Kind: string(audit.Disclosure), Actor: entry.Actor.Ref, Subject: entry.Subject.Ref}, r.Terms.Days)
		if err != nil {
			return err
		}
		if !was {
			e.add(r, "record "+strconv.FormatUint(entry.Seq, 10), Numbers{}, entry)
		}
	}
	return nil
}

func (e *evaluation) newAddress(ctx context.Context, r Rule) error {
	known := make(map[string]bool)
	for _, entry := range e.entries {
		from := entry.Actor.Ref + " " + entry.Address
		if entry.Address == "" || entry.Actor.Ref == "" || known[from] {
			continue
		}
		known[from] = true
		was, err := e.before(ctx, entry, pglog.Query{Actor: entry.Actor.Ref, Address: entry.Address}, r.Terms.Days)
		if err == nil && !was { // somebody who was never here comes from nowhere new
			var ever bool
			if ever, err = e.before(ctx, entry, pglog.Query{Actor: entry.Actor.Ref}, r.Terms.Days); ever {
				e.add(r, "record "+strconv.FormatUint(entry.Seq, 10), Numbers{}, entry)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// offHours raises one alert for each actor and day.
func (e *evaluation) offHours(r Rule) error {
	zone, err := time.LoadLocation(r.Terms.Zone)
	if err != nil {
		return fmt.Errorf("its zone: %w", err)
	}
	from, _ := clock(r.Terms.From)
	to, _ := clock(r.Terms.To)
	first := make(map[string]int)
	for _, entry := range e.entries {
		if !shown(entry, r) {
			continue
		}
		local := entry.Time.In(zone)
		minute, weekend := local.Hour()*60+local.Minute(), local.Weekday() == time.Saturday || local.Weekday() == time.Sunday
		if minute >= from && minute < to && (r.Terms.Weekends || !weekend) {
			continue
		}
		cause := "actor " + entry.Actor.Ref + " day " + local.Format(time.DateOnly)
		if i, ok := first[cause]; ok {
			if a := &e.found[i]; len(a.Records) < recordsMost {
				a.Records = append(a.Records, entry.Seq)
			}
			continue
		}
		first[cause] = len(e.found)
		e.add(r, cause, Numbers{Local: local.Format("2006-01-02 15:04")}, entry)
	}
	return nil
}

// item is a record of a window.
type item struct {
	seq     uint64
	at      time.Time
	subject string
}

// earlier gives the newest records before the batch that answer any of some queries, oldest first, no older than so long before it.
func (e *evaluation) earlier(ctx context.Context, queries []pglog.Query, long time.Duration) ([]item, error) {
	first := e.entries[0]
	for i := range queries {
		q := &queries[i]
		q.Since, q.Until, q.Before, q.Limit = first.Time.Add(-long), first.Time.Add(time.Microsecond), place(first), pageMost
	}
	found, err := e.w.cfg.Log.SearchAny(ctx, e.organisation, queries)
	if err != nil {
		return nil, err
	}
	items := make([]item, 0, len(found))
	for _, f := range slices.Backward(found) {
		entry, err := audit.ParseEntry(f.Body)
		if err != nil {
			return nil, fmt.Errorf("read record: %w", err)
		}
		if !strings.HasPrefix(entry.Action, "alert.") {
			items = append(items, item{entry.Seq, entry.Time, entry.Subject.Ref})
		}
	}
	return items, nil
}

// slide goes through records in order and calls full for the first with which a window has enough, of each such stretch of the clock.
func slide(items []item, begin uint64, long time.Duration, enough int, distinct bool, full func(last item, n int, records []uint64)) {
	start, raised := 0, int64(math.MinInt64)
	for end, last := range items {
		for !items[start].at.After(last.at.Add(-long)) {
			start++
		}
		stretch := last.at.UnixMicro() / long.Microseconds()
		if last.seq < begin || stretch == raised {
			continue
		}
		window := items[start : end+1]
		n, records := len(window), make([]uint64, 0, len(window))
		if n < enough {
			continue
		}
		seen := make(map[string]bool)
		for _, i := range window {
			if !distinct || !seen[i.subject] {
				records = append(records, i.seq)
			}
			seen[i.subject] = true
		}
		if n = len(records); n >= enough {
			raised = stretch
			full(last, n, records)
		}
	}
}

// entry is the record of this batch with that number.
func (e *evaluation) entry(seq uint64) audit.Entry {
	i, _ := slices.BinarySearchFunc(e.entries, seq, func(a audit.Entry, seq uint64) int { return cmp.Compare(a.Seq, seq) })
	return e.entries[i]
}

// byActor groups the records that count, in the order in which their actors come.
func (e *evaluation) byActor(counts func(audit.Entry) bool) (order []string, of map[string][]item) {
	of = make(map[string][]item)
	for _, entry := range e.entries {
		if counts(entry) {
			if of[entry.Actor.Ref] == nil {
				order = append(order, entry.Actor.Ref)
			}
			of[entry.Actor.Ref] = append(of[entry.Actor.Ref], item{entry.Seq, entry.Time, entry.Subject.Ref})
		}
	}
	return order, of
}

// perActor raises an alert when one actor has enough records, or records of enough people, within a time.
func (e *evaluation) perActor(ctx context.Context, r Rule, long time.Duration, counts func(audit.Entry) bool, q pglog.Query, distinct bool) error {
	order, of := e.byActor(counts)
	for _, actor := range order {
		q.Actor = actor
		items, err := e.earlier(ctx, []pglog.Query{q}, long)
		if err != nil {
			return err
		}
		slide(append(items, of[actor]...), e.entries[0].Seq, long, r.Terms.AtLeast, distinct, func(last item, n int, records []uint64) {
			at := e.entry(last.seq)
			if distinct {
				at.Subject = audit.Party{}
			}
			e.add(r, fmt.Sprintf("actor %s stretch %d of %d min", actor, last.at.UnixMicro()/long.Microseconds(), r.Terms.Minutes), Numbers{N: n, Limit: r.Terms.AtLeast}, at, records...)
		})
	}
	return nil
}

// usualDays is how far back an actor's own hours are looked at.
const usualDays = 30

// volume raises an alert when an actor was shown more within an hour of the clock than in 99 of 100 of his own hours in which he was
// shown anything.
func (e *evaluation) volume(ctx context.Context, r Rule) error {
	order, of := e.byActor(func(entry audit.Entry) bool { return shown(entry, r) })
	for _, actor := range order {
		items := of[actor]
		q := pglog.Query{Kind: string(audit.Disclosure), Actor: actor}
		earlier, err := e.earlier(ctx, []pglog.Query{q}, time.Hour)
		if err != nil {
			return err
		}
		hours := make(map[int64][]uint64)
		var raised int64 = -1
		for _, i := range append(earlier, items...) {
			hour := i.at.Unix() / 3600
			hours[hour] = append(hours[hour], i.seq)
			n := len(hours[hour])
			if i.seq < e.entries[0].Seq || hour == raised || n < r.Terms.AtLeast {
				continue
			}
			start := time.Unix(hour*3600, 0)
			past := q
			past.Since, past.Until = start.AddDate(0, 0, -usualDays), start
			counted, _, err := e.w.cfg.Log.Times(ctx, e.organisation, past, time.Hour, 100_000)
			if err != nil {
				return err
			}
			usual, of := percentile(counted)
			if limit := max(r.Terms.AtLeast, usual+1); n >= limit {
				raised = hour
				at := e.entry(i.seq)
				at.Subject = audit.Party{}
				e.add(r, fmt.Sprintf("actor %s hour %d", actor, hour), Numbers{N: n, Limit: limit, Usual: usual, Hours: of}, at, hours[hour]...)
			}
		}
	}
	return nil
}

// percentile is the 99th of the counts of hours, and of how many.
func percentile(counted []pglog.Stretch) (p99, of int) {
	hours := make(map[time.Time]int)
	for _, c := range counted {
		hours[c.Start] += int(c.N)
	}
	if len(hours) == 0 {
		return 0, 0
	}
	all := make([]int, 0, len(hours))
	for _, n := range hours {
		all = append(all, n)
	}
	slices.Sort(all)
	return all[(len(all)*99+99)/100-1], len(all)
}

// count raises an alert when enough records answer a search within a time.
func (e *evaluation) count(ctx context.Context, r Rule) error {
	f, err := filter.Parse(r.Terms.Filter)
	if err != nil {
		return err
	}
	queries, err := access.Queries(f, e.w.cfg.Now())
	if err != nil {
		return err
	}
	var items []item
	for _, entry := range e.entries {
		if slices.ContainsFunc(queries, func(q pglog.Query) bool { return q.Has(entry) }) {
			items = append(items, item{entry.Seq, entry.Time, entry.Subject.Ref})
		}
	}
	if len(items) == 0 {
		return nil
	}
	long := time.Duration(r.Terms.Minutes) * time.Minute
	earlier, err := e.earlier(ctx, queries, long)
	if err != nil {
		return err
	}
	slide(append(earlier, items...), e.entries[0].Seq, long, r.Terms.AtLeast, false, func(last item, n int, records []uint64) {
		at := e.entry(last.seq)
		if r.Terms.AtLeast > 1 {
			at.Actor, at.Subject = audit.Party{}, audit.Party{}
		}
		e.add(r, fmt.Sprintf("version %d stretch %d", r.Version, last.at.UnixMicro()/long.Microseconds()), Numbers{N: n, Limit: r.Terms.AtLeast}, at, records...)
	})
	return nil
}
