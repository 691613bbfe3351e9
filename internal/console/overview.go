package console

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/alerts"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
)

// overviewDays is how far back the overview looks.
const overviewDays = 30

// overviewPeople is how many people or rules the overview shows of each list.
const overviewPeople = 6

// overviewPage says at a glance what happened lately and where the log stands.
type overviewPage struct {
	Strip    strip
	Figures  []figure
	Purposes []share
	Actors   []share // who asked most
	Subjects []share // who was asked for most
	Rules    []share // by which most was denied
	Heat     heat
	Denials  []day
	Alerts   []shownAlert // the newest that nobody has acknowledged
	Origin   string
	Size     string
	Last     time.Time // of the newest record; the checkpoint covers it
	Silent   int       // days without a record other than readings
	Days     int
	Review   string // what waits of the access reviews; empty when nothing does
}

// figure is a number that matters, beside what it was before.
type figure struct {
	Name, Filter string // of a text; what finds the records
	N, Before    string
	Outcome      string
}

// share is how often a purpose came up.
type share struct {
	What, Filter string
	N            string
	Width        float64 // of 100
}

// heat says when in the week much happens.
type heat struct {
	Hours []string
	Rows  []heatRow
}

type heatRow struct {
	Name  string
	Cells []heatCell
}

// heatCell is an hour of a weekday, with the latest such hour in which anything was recorded.
type heatCell struct {
	Hour, Level  int // from 0, where nothing was, to 4
	N            int64
	Name, Filter string
	last         time.Time
}

// heatOf sums stretches of an hour by hour and weekday.
func heatOf(lang string, hours []pglog.Stretch) heat {
	var out heat
	for h := range 24 {
		out.Hours = append(out.Hours, fmt.Sprintf("%02d", h))
	}
	var highest int64
	cells := make([][24]heatCell, 7)
	for _, x := range hours {
		at := x.Start.UTC()
		c := &cells[(int(at.Weekday())+6)%7][at.Hour()]
		c.N += x.N
		highest = max(highest, c.N)
		if at.After(c.last) {
			c.last = at
		}
	}
	for i, row := range cells {
		name := weekdays[lang][i]
		for h := range row {
			c := &row[h]
			c.Hour, c.Name = h, fmt.Sprintf("%s, %02d:00: %s", name, h, number64(lang, c.N))
			if c.N > 0 {
				c.Level = int(1 + 3*c.N/highest)
				c.Filter = filter.Filter{}.Within(filter.Moment{At: c.last}, filter.Moment{At: c.last.Add(time.Hour)}).String()
			}
		}
		out.Rows = append(out.Rows, heatRow{name, row[:]})
	}
	return out
}

// shares are figures beside each other, the highest as wide as can be.
func shares(lang string, names, filters []string, numbers []int64) (list []share) {
	for i, n := range numbers {
		list = append(list, share{names[i], filters[i], number64(lang, n), tenth(100 * float64(n) / float64(slices.Max(numbers)))})
	}
	return list
}

// most says who asked most, or was asked for most, since a day, but for readings of the log.
func (s *Server) most(ctx context.Context, lang string, admin principal.Admin, since time.Time, by string, readings []pglog.Term) ([]share, error) {
	found, err := s.cfg.Log.Most(ctx, admin.Organisation(), pglog.Query{Since: since, Until: since.AddDate(0, 0, 8), Not: readings, Limit: overviewPeople}, by)
	if err != nil {
		return nil, err
	}
	var names, filters, refs []string
	var numbers []int64
	for _, m := range found {
		refs = append(refs, m.Reference)
	}
	gone, err := s.erasedOf(ctx, admin, refs)
	if err != nil {
		return nil, err
	}
	for _, m := range found {
		last, err := audit.ParseEntry(m.Last)
		if err != nil {
			return nil, fmt.Errorf("the log in the database is damaged: %w", err)
		}
		party := last.Subject
		if by == pglog.ByActor {
			party = last.Actor
		}
		names, filters, numbers = append(names, gone.handle(lang, party)), append(filters, filter.Filter{}.And(by, m.Reference).Within(filter.Moment{At: since}, filter.Moment{}).String()), append(numbers, m.N)
	}
	return shares(lang, names, filters, numbers), nil
}

// recordList is a list of records on a page of something else.
type recordList struct{ Days []day }

// Days makes a list of records.
func (view) Days(days []day) recordList { return recordList{days} }

func (s *Server) overview(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	head, _, err := s.read(r, admin, "console.overview", nil)
	page := overviewPage{Origin: head.Origin, Size: number64(v.lang, int64(head.Size)), Days: overviewDays}
	if err == nil {
		err = s.sum(r.Context(), v.lang, admin, head, &page)
	}
	if err == nil {
		var open []alerts.Alert
		if open, err = s.cfg.Alerts.List(r.Context(), admin.Organisation(), alerts.Open, 3); err == nil {
			page.Alerts, err = s.shownAlerts(r, v, admin, open)
		}
	}
	if err == nil {
		page.Review, err = s.accessReviewReminder(r, v.lang, admin)
	}
	name, errName := s.handle(r, admin, v.lang)
	if err = cmp.Or(err, errName); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.renderAs(w, v, http.StatusOK, "overview", page, view{Handle: name, Path: "/", Zooms: true})
}

// accessReviewReminder says whether a review of who may come in waits, or none was done for long.
func (s *Server) accessReviewReminder(r *http.Request, lang string, admin principal.Admin) (string, error) {
	all, err := s.cfg.Desk.Reviews(r.Context(), admin.Organisation())
	if err != nil {
		return "", err
	}
	long := time.Now().AddDate(0, 0, -signin.IdleDays)
	for _, one := range all {
		if one.Ended == nil {
			return fmt.Sprintf(word(lang, "overviewReviewOpen"), one.Open, one.Entries, longDate(lang, one.Due)), nil
		}
		if one.Ended.After(long) {
			return "", nil
		}
	}
	admins, err := s.cfg.Desk.Admins(r.Context(), admin.Organisation())
	if err != nil || len(admins) == 0 || admins[0].Created.After(long) { // the oldest is not there for as long
		return "", err
	}
	return word(lang, "overviewReviewNever"), nil
}

// sum reads what the overview shows: a few rows for each day, and the latest denials.
func (s *Server) sum(ctx context.Context, lang string, admin principal.Admin, head pglog.Head, page *overviewPage) error {
	now := time.Now().UTC()
	today := now.Truncate(24 * time.Hour)
	first := today.AddDate(0, 0, -overviewDays+1)
	counts, err := s.cfg.Log.Days(ctx, admin.Organisation(), today.AddDate(0, 0, -2*overviewDays), today.AddDate(0, 0, 1))
	if err != nil {
		return err
	}
	lately := search{Filter: filter.Filter{}.Within(filter.Moment{At: first}, filter.Moment{}), now: now, hiding: true}
	lately.sought = lately.Filter
	q := pglog.Query{}
	for _, action := range readings {
		q.Not = append(q.Not, pglog.Term{Column: filter.Action, Value: action})
	}
	lately.queries = []pglog.Query{q}
	if page.Strip, err = s.count(ctx, lang, admin, lately); err != nil {
		return err
	}
	week := today.AddDate(0, 0, -6)
	type two struct{ now, before int64 }
	byDecision, byAction, busy := make(map[string]two), make(map[string]int64), make(map[time.Time]bool)
	for _, c := range counts {
		if slices.Contains(readings, c.Action) {
			continue
		}
		day := c.Day.UTC()
		if n := byDecision[c.Decision]; !day.Before(week) {
			n.now += c.N
			byDecision[c.Decision] = n
			byAction[c.Action] += c.N
		} else if !day.Before(week.AddDate(0, 0, -7)) {
			n.before += c.N
			byDecision[c.Decision] = n
		}
		if !day.Before(first) {
			busy[day] = true
		}
	}
	page.Silent = overviewDays - len(busy)
	since := filter.Moment{At: week}
	for _, o := range []string{audit.DecisionAllow, audit.DecisionMasked, audit.DecisionDeny} {
		n := byDecision[o]
		page.Figures = append(page.Figures, figure{"outcome_" + o, filter.Filter{}.And(filter.Decision, o).Within(since, filter.Moment{}).String(),
			number64(lang, n.now), fmt.Sprintf(word(lang, "weekBefore"), number64(lang, n.before)), o})
	}
	actions := slices.SortedFunc(maps.Keys(byAction), func(a, b string) int { return cmp.Or(cmp.Compare(byAction[b], byAction[a]), cmp.Compare(a, b)) })
	var names, filters []string
	var numbers []int64
	for _, a := range actions[:min(len(actions), 8)] {
		names, filters, numbers = append(names, what(lang, a)), append(filters, filter.Filter{}.And(filter.Action, a).Within(since, filter.Moment{}).String()), append(numbers, byAction[a])
	}
	page.Purposes = shares(lang, names, filters, numbers)
	if page.Actors, err = s.most(ctx, lang, admin, week, pglog.ByActor, q.Not); err != nil {
		return err
	}
	if page.Subjects, err = s.most(ctx, lang, admin, week, pglog.BySubject, nil); err != nil {
		return err
	}
	rules, err := s.cfg.Log.Denied(ctx, admin.Organisation(), first, today.AddDate(0, 0, 1))
	if err != nil {
		return err
	}
	names, filters, numbers = nil, nil, nil
	for _, r := range rules[:min(len(rules), overviewPeople)] {
		names, filters, numbers = append(names, cmp.Or(word(lang, "rule_"+r.Rule), r.Rule)), append(filters, filter.Filter{}.And(filter.Rule, r.Rule).Within(filter.Moment{At: first}, filter.Moment{}).String()), append(numbers, r.N)
	}
	page.Rules = shares(lang, names, filters, numbers)
	q.Since, q.Until = first, now.Add(time.Minute)
	hours, _, err := s.cfg.Log.Times(ctx, admin.Organisation(), q, time.Hour, countedAtMost)
	if err != nil {
		return err
	}
	page.Heat = heatOf(lang, hours)
	denied, err := access.Queries(filter.Filter{}.And(filter.Decision, audit.DecisionDeny).Within(filter.Moment{At: first}, filter.Moment{}), now)
	if err != nil {
		return err
	}
	denied[0].Limit = 5
	found, err := s.cfg.Log.SearchAny(ctx, admin.Organisation(), denied)
	if err != nil {
		return err
	}
	if page.Denials, err = s.daysOf(ctx, lang, admin, found); err != nil || head.Size == 0 {
		return err
	}
	place, err := s.place(ctx, admin, head.Size-1, head.Size)
	page.Last = place.At
	return err
}
