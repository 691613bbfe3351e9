package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/alerts"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
)

// overviewDays is how far back the overview looks.
const overviewDays = 30

// overviewPage says at a glance what happened lately and where the log stands.
type overviewPage struct {
	Strip    strip
	Figures  []figure
	Purposes []share
	Denials  []day
	Alerts   []shownAlert // the newest that nobody has acknowledged
	Origin   string
	Size     string
	Last     time.Time // of the newest record; the checkpoint covers it
	Silent   int       // days without a record other than readings
	Days     int
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
	name, errName := s.handle(r, admin, v.lang)
	if err = cmp.Or(err, errName); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.renderAs(w, v, http.StatusOK, "overview", page, view{Handle: name, Path: "/"})
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
	var most int64
	actions := make([]string, 0, len(byAction))
	for a, n := range byAction {
		actions, most = append(actions, a), max(most, n)
	}
	slices.SortFunc(actions, func(a, b string) int { return cmp.Or(cmp.Compare(byAction[b], byAction[a]), cmp.Compare(a, b)) })
	for _, a := range actions[:min(len(actions), 8)] {
		page.Purposes = append(page.Purposes, share{what(lang, a), filter.Filter{}.And(filter.Action, a).Within(since, filter.Moment{}).String(), number64(lang, byAction[a]), tenth(100 * float64(byAction[a]) / float64(most))})
	}
	denied, err := access.Queries(filter.Filter{}.And(filter.Decision, audit.DecisionDeny).Within(filter.Moment{At: first}, filter.Moment{}), now)
	if err != nil {
		return err
	}
	denied[0].Limit = 5
	found, err := s.cfg.Log.SearchAny(ctx, admin.Organisation(), denied)
	if err != nil {
		return err
	}
	if page.Denials, err = daysOf(lang, found); err != nil || head.Size == 0 {
		return err
	}
	place, err := s.place(ctx, admin, head.Size-1, head.Size)
	page.Last = place.At
	return err
}
