package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
)

// searchRoutes are the pages on which the log is searched, followed and counted.
func (s *Server) searchRoutes(r chi.Router) {
	r.Get("/", s.signedIn(s.overview))
	r.Get("/events", s.signedIn(s.events))
	r.Get("/events/{seq}", s.signedIn(s.event))
	r.Get("/events/{seq}/session", s.signedIn(s.session))
	r.Get("/export", s.signedIn(s.export))
	s.act(r, "/export/approved", s.exportApproved)
	r.Get("/people", s.signedIn(s.showPeople))
	r.Get("/people/{ref}", s.signedIn(s.person))
	r.Get("/letters/{ref}", s.signedIn(s.letter))
	r.Get("/who", s.signedIn(s.who))
	r.Get("/who/pairs", s.signedIn(s.exportPairs))
	r.Get("/live", s.signedIn(s.live))
	r.Get(livePath, s.signedIn(s.stream))
}

// search is what a page of the log looks for.
type search struct {
	Filter   filter.Filter // as it was written
	sought   filter.Filter // with references
	recorded string
	readings bool // readings of the log are shown too
	hiding   bool // some are not
	now      time.Time
	queries  []pglog.Query
}

// readings are the acts by which people look at the log. They are many and say little to whoever looks for disclosures, so they are hidden
// where nobody asks for acts or for what somebody did; how many are hidden is always said.
var readings = []string{"console.overview", "console.events", "console.event", "console.live", "console.people", "console.person", "console.who", "audit.list", "api.records", "api.record", "api.counts", "api.checkpoint", "api.searches",
	"console.alerts", "console.alert", "console.rules", "console.rule", "console.receivers", "console.egress", "alert.watch"}

// seek reads a filter. What is wrong with it is a *filter.Error.
func (s *Server) seek(ctx context.Context, who principal.Principal, text string) (found search, err error) {
	found.now = time.Now()
	if found.Filter, err = filter.Parse(text); err == nil {
		found.sought, found.recorded, err = s.cfg.Gate.Seek(ctx, who.Organisation(), who.Organisation(), found.Filter)
	}
	if err == nil {
		found.queries, err = access.Queries(found.sought, found.now)
	}
	return found, err
}

// look is seek for a page, which leaves readings of the log out where nobody asks for them.
func (s *Server) look(r *http.Request, admin principal.Admin) (search, error) {
	return s.lookFor(r.Context(), admin, r.URL.Query().Get("q"), r.URL.Query().Get("readings") != "")
}

func (s *Server) lookFor(ctx context.Context, admin principal.Admin, text string, shown bool) (search, error) {
	found, err := s.seek(ctx, admin, text)
	if err != nil {
		return found, err
	}
	found.readings = shown
	found.hiding = !found.readings && !slices.ContainsFunc([]string{filter.Action, filter.Kind, filter.Actor, filter.Person, filter.Address, filter.Network}, found.sought.Names)
	for i := range found.queries {
		q := &found.queries[i]
		if q.Since.IsZero() && found.sought.IsZero() {
			q.Since = time.Unix(0, 0) // the index gives what is newest, however far back it lies
		}
		if found.hiding {
			for _, action := range readings {
				q.Not = append(q.Not, pglog.Term{Column: filter.Action, Value: action})
			}
		}
	}
	return found, nil
}

// find looks for a page's worth of records.
func (s *Server) find(ctx context.Context, admin principal.Admin, f search, before, after pglog.Place) ([]pglog.Found, error) {
	return s.findUpTo(ctx, admin, f, before, after, pageSize)
}

func (s *Server) findUpTo(ctx context.Context, admin principal.Admin, f search, before, after pglog.Place, limit int) ([]pglog.Found, error) {
	if since, until := f.window(); !since.Before(until) {
		return nil, nil
	}
	queries := slices.Clone(f.queries)
	for i := range queries {
		queries[i].Before, queries[i].After, queries[i].Limit = before, after, limit
	}
	return s.cfg.Log.SearchAny(ctx, admin.Organisation(), queries)
}

// Shown is how an address says that readings of the log are shown.
func (f search) Shown() string {
	if f.readings {
		return "shown"
	}
	return ""
}

// window is the time that is looked at, and that the strip above the records shows.
func (f search) window() (since, until time.Time) {
	since, until = f.sought.Since.On(f.now), f.sought.Until.On(f.now)
	if until.IsZero() {
		until = f.now.Add(time.Minute)
	}
	if since.IsZero() {
		since = until.Add(-pglog.DefaultWindow)
	}
	return since.UTC(), until.UTC()
}

// wrong is what is wrong with a filter, as a page says it.
type wrong struct{ Text, Before, Part, Problem string }

func wrongFilter(lang string, e *filter.Error) *wrong {
	return &wrong{Text: e.Text, Before: e.Text[:e.Begin], Part: cmp.Or(e.Part(), " "), Problem: word(lang, "filter_"+string(e.Problem))}
}

// line is the field in which one writes a filter.
type line struct {
	view
	Path, Text, Shown string
	Wrong             *wrong
}

// Line makes the field on a page.
func (v view) Line(path, text, shown string, w *wrong) line { return line{v, path, text, shown, w} }

// Texts are the keys that have fields to write into, and Lists those with a closed list.
func (builder) Texts() []string {
	return []string{filter.Person, filter.Actor, filter.Subject, filter.IP, "since", "until"}
}
func (builder) Lists() []string { return []string{filter.Decision, filter.Kind} }

// bar is a stretch of time in the strip above the records.
type bar struct {
	Start    time.Time
	Name     string // when it was
	Filter   string // narrows the search to it
	X, W     float64
	Parts    []part
	N        int64
	byAnswer map[string]int64
}

// part is how many records of a bar have one decision.
type part struct {
	Outcome string
	Y, H    float64
	N       int64
}

// strip counts the records of a search in stretches of time.
type strip struct {
	Bars          []bar
	Outcomes      []string // of which there are any, from the bottom up
	From, To      string
	Total         int64
	AtLeast       bool   // there are more, which were not counted
	Query         string // what is counted, whenever it was
	Readings      string // whether readings of the log are, too
	step          time.Duration
	Width, Height float64
}

const (
	stripWidth, stripHeight = 960, 64
	// countedAtMost bounds what is counted record by record.
	countedAtMost = 20_000
)

// Data is what a script draws it from.
func (p strip) Data() (string, error) {
	type series struct {
		Outcome string  `json:"outcome"`
		N       []int64 `json:"n"`
	}
	out := struct {
		Start  int64    `json:"start"` // in seconds
		Step   int64    `json:"step"`
		N      int      `json:"n"`
		Series []series `json:"series"`
	}{Step: int64(p.step.Seconds()), N: len(p.Bars), Series: []series{}}
	if len(p.Bars) > 0 {
		out.Start = p.Bars[0].Start.Unix()
	}
	for _, o := range p.Outcomes {
		one := series{Outcome: o}
		for _, b := range p.Bars {
			one.N = append(one.N, b.Of(o))
		}
		out.Series = append(out.Series, one)
	}
	b, err := json.Marshal(out)
	return string(b), err
}

// closer is a filter with the time between two moments, in seconds. What is no filter or no time stays as it was, and the page says what is wrong.
func closer(text, from, to string) string {
	f, err := filter.Parse(text)
	a, okFrom := number(from)
	b, okTo := number(to)
	if err != nil || !okFrom || !okTo || a >= b || b > uint64(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).Unix()) {
		return text
	}
	return f.Within(filter.Moment{At: time.Unix(int64(a), 0).UTC()}, filter.Moment{At: time.Unix(int64(b), 0).UTC()}).String()
}

// stretchOf chooses how long a bar is.
func stretchOf(window time.Duration) time.Duration {
	for _, s := range []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour} {
		if window <= 96*s {
			return s
		}
	}
	return 7 * 24 * time.Hour
}

// count makes the strip. What was counted when it became searchable is read off the hours and days; the rest is counted now, up to a bound.
func (s *Server) count(ctx context.Context, lang string, admin principal.Admin, f search) (strip, error) {
	since, until := f.window()
	step := stretchOf(until.Sub(since))
	counts := make(map[time.Time]map[string]int64)
	out := strip{Width: stripWidth, Height: stripHeight}
	for _, q := range f.queries {
		if !since.Before(until) {
			break
		}
		q.Since, q.Until = since, until
		stretches, more, err := s.cfg.Log.Times(ctx, admin.Organisation(), q, min(step, 24*time.Hour), countedAtMost) // weeks begin on Mondays here and not there
		if err != nil {
			return out, err
		}
		for _, x := range stretches {
			at := x.Start.UTC().Truncate(step)
			if counts[at] == nil {
				counts[at] = make(map[string]int64)
			}
			counts[at][cmp.Or(x.Decision, "none")] += x.N
			out.Total += x.N
		}
		out.AtLeast = out.AtLeast || more
	}
	out.draw(lang, f, counts, since, until, step)
	return out, nil
}

// outcomes are the decisions, in the order in which they are drawn from the bottom up: what is rare lies at the bottom.
var outcomes = []string{audit.DecisionDeny, audit.DecisionMasked, audit.DecisionAllow, "none"}

// draw places the bars.
func (p *strip) draw(lang string, f search, counts map[time.Time]map[string]int64, since, until time.Time, step time.Duration) {
	p.Query, p.Readings, p.step = f.Filter.Within(filter.Moment{}, filter.Moment{}).String(), f.Shown(), step
	start := since.Truncate(step)
	n := int((until.Sub(start) + step - 1) / step)
	var highest int64
	for _, c := range counts {
		var sum int64
		for _, k := range c {
			sum += k
		}
		highest = max(highest, sum)
	}
	wide := stripWidth / float64(max(n, 1))
	for i := range n {
		at := start.Add(time.Duration(i) * step)
		b := bar{Start: at, Name: stretchName(lang, at, step), X: tenth(float64(i) * wide), W: tenth(max(wide-1, wide*0.8)), byAnswer: counts[at],
			Filter: f.Filter.Within(filter.Moment{At: at}, filter.Moment{At: at.Add(step)}).String()}
		y := float64(stripHeight)
		for _, o := range outcomes {
			k := counts[at][o]
			if k == 0 {
				continue
			}
			h := max(1.5, float64(k)/float64(highest)*(stripHeight-8))
			y -= h
			b.Parts = append(b.Parts, part{o, tenth(max(y, 0)), tenth(h), k})
			b.N += k
			if !slices.Contains(p.Outcomes, o) {
				p.Outcomes = append(p.Outcomes, o)
			}
		}
		p.Bars = append(p.Bars, b)
	}
	slices.SortFunc(p.Outcomes, func(a, b string) int { return slices.Index(outcomes, a) - slices.Index(outcomes, b) })
	p.From, p.To = stretchName(lang, start, step), stretchName(lang, start.Add(time.Duration(max(n-1, 0))*step), step)
}

// tenth rounds to what is seen.
func tenth(x float64) float64 { return math.Round(10*x) / 10 }

// Of is how many records of a bar have a decision.
func (b bar) Of(outcome string) int64 { return b.byAnswer[outcome] }

func stretchName(lang string, at time.Time, step time.Duration) string {
	if step >= 24*time.Hour {
		return longDate(lang, at)
	}
	return longDate(lang, at) + ", " + at.Format("15:04")
}

// hidden counts the readings that a search hides: what it would find more with them than the strip has without.
func (s *Server) hidden(ctx context.Context, admin principal.Admin, f search, shown strip) (n int64, atLeast bool, err error) {
	since, until := f.window()
	if !f.hiding || !since.Before(until) {
		return 0, false, nil
	}
	count := func(q pglog.Query, atMost int) error {
		q.Since, q.Until = since, until
		stretches, more, err := s.cfg.Log.Times(ctx, admin.Organisation(), q, 24*time.Hour, atMost)
		for _, x := range stretches {
			n += x.N
		}
		atLeast = atLeast || more
		return err
	}
	var all []pglog.Query
	for _, q := range f.queries {
		q.Not = slices.DeleteFunc(slices.Clone(q.Not), func(t pglog.Term) bool { return t.Column == filter.Action && slices.Contains(readings, t.Value) })
		all = append(all, q)
		if err := count(q, countedAtMost); err != nil {
			return 0, false, err
		}
	}
	if n -= shown.Total; !atLeast && !shown.AtLeast {
		return n, false, nil
	}
	n, atLeast = 0, false
	for _, q := range all { // more than are counted one by one, so the readings are by themselves
		for _, action := range readings {
			q.Action = action
			if err := count(q, 1000); err != nil {
				return 0, false, err
			}
		}
	}
	return n, atLeast, nil
}

// built is the filter that the fields of a form say, as text. What somebody wrote into a field is a value, whatever it is.
func built(form func(string) string) string {
	var terms []string
	for _, key := range []string{filter.Person, filter.Actor, filter.Subject, filter.Action, filter.Decision, filter.Kind, filter.IP, "since", "until"} {
		v := strings.TrimSpace(form(key))
		if v == "" {
			continue
		}
		terms = append(terms, key+`:"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v)+`"`)
	}
	if rest := strings.TrimSpace(form("rest")); rest != "" {
		terms = append(terms, rest)
	}
	text := strings.Join(terms, " ")
	if f, err := filter.Parse(text); err == nil {
		return f.String()
	}
	return text
}

// builder is a filter as the fields of a form show it.
type builder struct {
	Values  map[string]string
	Rest    string // what no field can show
	Actions []choice
}

// choice is one of a list.
type choice struct {
	Value, Name string
	Chosen      bool
}

// build takes a filter apart for the form.
func build(lang string, f filter.Filter, actions []string) builder {
	b := builder{Values: map[string]string{"since": f.Since.String(), "until": f.Until.String()}}
	terms, complete := f.Terms()
	for _, t := range terms {
		if _, twice := b.Values[t.Key]; twice || len(t.Values) > 1 || slices.Contains([]string{filter.Conversation, filter.Address, filter.Network}, t.Key) {
			complete = false
			break
		}
		b.Values[t.Key] = t.Values[0]
	}
	if !complete {
		b = builder{Values: map[string]string{"since": f.Since.String(), "until": f.Until.String()}, Rest: f.Within(filter.Moment{}, filter.Moment{}).String()}
	}
	for _, a := range actions {
		b.Actions = append(b.Actions, choice{a, what(lang, a), a == b.Values[filter.Action]})
	}
	slices.SortFunc(b.Actions, func(x, y choice) int { return strings.Compare(x.Name, y.Name) })
	return b
}

// Choices are the values of a key with a closed list.
func (b builder) Choices(lang, key string) []choice {
	names := map[string][]string{filter.Decision: {"allow", "masked", "deny", "none"}, filter.Kind: {"disclosure", "denial", "collection", "administration"}}
	prefix := map[string]string{filter.Decision: "outcome_", filter.Kind: "kind_of_"}
	var list []choice
	for _, v := range names[key] {
		list = append(list, choice{v, word(lang, prefix[key]+v), v == b.Values[key]})
	}
	return list
}

// asFilterError gives what is wrong with a filter, if that is what err says.
func asFilterError(err error) *filter.Error {
	var e *filter.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// number64 prints a count as people read it.
func number64(lang string, n int64) string {
	digits := fmt.Sprint(n)
	between := ","
	if lang == "fr" {
		between = "\u202f"
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + between + digits[i:]
	}
	return digits
}
