package console

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

const (
	// peopleShown is how many people or pairs a page shows.
	peopleShown = 50
	// trendSteps is in how many steps a trend is drawn at most.
	trendSteps = 24
	// short is the longest time in which people are counted from one moment to another; in a longer one whole days are.
	short = 48 * time.Hour
)

// tally is somebody, or a pair of whom one asked for the other, with what the log says of them.
type tally struct {
	Actor, Subject    audit.Party
	Who, About        string // handles
	N, Masked, Denied int64
	Over              bool // it has as many records as somebody wants to be marked
	FirstAt, LastAt   time.Time
	Purposes          []string
	Trend             string // points of a line, 96 wide and 24 high
	Filter            string // finds the records
	Erased            bool   // one of them was
}

// Outcome tells apart pairs to which something was denied or masked.
func (p tally) Outcome() string {
	switch {
	case p.Denied > 0:
		return audit.DecisionDeny
	case p.Masked > 0:
		return audit.DecisionMasked
	}
	return audit.DecisionAllow
}

// Ref is the reference of who is listed by one side alone.
func (p tally) Ref() string { return cmp.Or(p.Actor.Ref, p.Subject.Ref) }

// Handle is how he is shown.
func (p tally) Handle() string { return cmp.Or(p.Who, p.About) }

// pairList is a table of pairs under a title.
type pairList struct {
	Title string
	List  []tally
}

// Pairs is the table of pairs whose title is the text of this name.
func (v view) Pairs(name string, list []tally) view {
	return v.With(pairList{word(v.Lang, name), list})
}

// counted is a page of people, those of whom there is a record last first.
type counted struct {
	People     []tally
	From, To   string // of the time, when whole days were counted
	Next       string // where the next page begins; empty at the end
	Continuing bool   // this is not the first page
}

// days are the time that people are counted in: from one moment to another if it is short, else of whole days.
func (f search) days() (since, until time.Time, whole bool) {
	since, until = f.window()
	const day = 24 * time.Hour
	if until.Sub(since) > short || since.Equal(since.Truncate(day)) && (until.Equal(until.Truncate(day)) || until.After(f.now)) {
		return since.Truncate(day), until.Add(day - 1).Truncate(day), true
	}
	return since, until, false
}

// people counts people or pairs in all records that a search finds, and gives those of one page.
func (s *Server) people(ctx context.Context, lang string, admin principal.Admin, f search, by string, after pglog.Place) (counted, error) {
	since, until, whole := f.days()
	out := counted{Continuing: !after.At.IsZero()}
	if !since.Before(until) {
		return out, nil
	}
	queries := slices.Clone(f.queries)
	for i := range queries {
		queries[i].Since, queries[i].Until, queries[i].Before, queries[i].Limit = since, until, after, peopleShown
	}
	stretch := max(until.Sub(since)/trendSteps, time.Minute)
	pairs, err := s.cfg.Log.People(ctx, admin.Organisation(), queries, by, stretch)
	if err != nil {
		return out, err
	}
	within := f.Filter
	steps := trendSteps
	if whole {
		out.From, out.To = longDate(lang, since), longDate(lang, until.Add(-time.Hour))
		end := filter.Moment{At: until}
		if until.After(f.now) {
			end = filter.Moment{}
		}
		within = within.Within(filter.Moment{At: since}, end)
		steps = min(steps, int(until.Sub(since)/(24*time.Hour)))
	}
	refs := make([]string, 0, 2*len(pairs))
	for _, c := range pairs {
		refs = append(refs, c.Actor, c.Subject)
	}
	gone, err := s.erasedOf(ctx, admin, refs)
	if err != nil {
		return out, err
	}
	for _, c := range pairs {
		p, err := tallyOf(lang, c, within, gone)
		if err != nil {
			return out, err
		}
		p.Trend = trend(c, since, until, steps)
		out.People = append(out.People, p)
	}
	if len(pairs) == peopleShown {
		out.Next = cursorOf(pairs[len(pairs)-1].Place)
	}
	return out, nil
}

// tallyOf puts a count into words.
func tallyOf(lang string, c pglog.Pair, within filter.Filter, gone erased) (tally, error) {
	last, err := audit.ParseEntry(c.Last)
	if err != nil {
		return tally{}, fmt.Errorf("the log in the database is damaged: %w", err)
	}
	p := tally{N: c.N, Masked: c.Masked, Denied: c.Denied, FirstAt: c.FirstAt.UTC(), LastAt: c.LastAt.UTC()}
	if c.Actor != "" {
		p.Actor, p.Who, p.Erased = last.Actor, gone.handle(lang, last.Actor), gone.has(last.Actor.Ref)
		within = within.And(filter.Actor, c.Actor)
	}
	if c.Subject != "" {
		p.Subject, p.About, p.Erased = last.Subject, gone.handle(lang, last.Subject), p.Erased || gone.has(last.Subject.Ref)
		within = within.And(filter.Subject, c.Subject)
	}
	p.Filter = within.String()
	each := make(map[string]int64)
	for i, action := range c.Actions {
		each[action] += c.Counts[i]
	}
	actions := slices.Collect(maps.Keys(each))
	slices.SortFunc(actions, func(a, b string) int { return cmp.Or(cmp.Compare(each[b], each[a]), strings.Compare(a, b)) })
	for _, a := range actions {
		p.Purposes = append(p.Purposes, what(lang, a))
	}
	return p, nil
}

// trend draws how often in each of so many steps of a time.
func trend(c pglog.Pair, since, until time.Time, steps int) string {
	sums := make([]int64, max(steps, 2))
	for i, at := range c.Starts {
		step := int(float64(at.Sub(since)) / float64(until.Sub(since)) * float64(steps))
		sums[min(max(step, 0), len(sums)-1)] += c.Counts[i]
	}
	if steps < 2 {
		sums[1] = sums[0] // of one day there is no trend
	}
	highest := slices.Max(sums)
	points := make([]string, len(sums))
	for i, n := range sums {
		points[i] = fmt.Sprintf("%d,%.1f", i*96/(len(sums)-1), 23-22*float64(n)/float64(max(highest, 1)))
	}
	return strings.Join(points, " ")
}

// peoplePage lists people: whose data was asked for, or who asked.
type peoplePage struct {
	search
	counted
	Text    string
	Wrong   *wrong
	By      string
	Windows []choice
	Base    string // of its addresses
	after   pglog.Place
}

// Marked is from how many records on a pair is marked, where that is asked.
func (peoplePage) Marked() string { return "" }

// Marked is from how many records on a pair is marked.
func (p whoPage) Marked() string { return strconv.FormatInt(p.Least, 10) }

// within gives a filter that says no time the last days, and the choices of others.
func within(lang string, f *search, days int) []choice {
	if f.sought.Since.IsZero() && f.sought.Until.IsZero() {
		span := filter.Moment{Ago: time.Duration(days) * 24 * time.Hour}
		f.Filter, f.sought = f.Filter.Within(span, filter.Moment{}), f.sought.Within(span, filter.Moment{})
	}
	var list []choice
	for _, n := range []int{1, 7, 30, 90, 365} {
		span := filter.Moment{Ago: time.Duration(n) * 24 * time.Hour}
		list = append(list, choice{f.Filter.Within(span, filter.Moment{}).String(), fmt.Sprintf(word(lang, "lastDays"), n), f.Filter.Since == span && f.Filter.Until.IsZero()})
	}
	return list
}

// looked is what the pages on people have in common: the filter is read, and the reading recorded.
func (s *Server) looked(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, action string) (page peoplePage, name string, ok bool) {
	page.Text, page.Base = r.URL.Query().Get("q"), r.URL.Path
	name, err := s.handle(r, admin, v.lang)
	if err == nil {
		page.search, err = s.look(r, admin)
	}
	if e := asFilterError(err); e != nil {
		page.Wrong = wrongFilter(v.lang, e)
		return page, name, true
	}
	if err == nil {
		page.Text = page.Filter.String()
		page.Windows = within(v.lang, &page.search, 7)
		after := r.URL.Query().Get("place")
		var errPlace error
		if page.after, errPlace = cursorPlace(after); errPlace != nil {
			s.message(w, v, http.StatusBadRequest, "badNumber")
			return page, name, false
		}
		_, _, err = s.read(r, admin, action, map[string]string{"filter": page.recorded, "place": after})
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return page, name, false
	}
	return page, name, true
}

func (s *Server) showPeople(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	page, name, ok := s.looked(w, r, v, admin, "console.people")
	if !ok {
		return
	}
	status := http.StatusOK
	if page.By = pglog.BySubject; r.URL.Query().Get("by") == pglog.ByActor {
		page.By = pglog.ByActor
	}
	if page.Wrong != nil {
		status = http.StatusBadRequest
	} else {
		var err error
		if page.counted, err = s.people(r.Context(), v.lang, admin, page.search, page.By, page.after); err != nil {
			s.trouble(w, r, v, err)
			return
		}
	}
	s.renderAs(w, v, status, "people", page, view{Handle: name, Path: link("/people", "q", page.Text, "by", page.By)})
}

// whoPage shows who saw whom.
type whoPage struct {
	peoplePage
	Least   int64   // from how many records on a pair is marked
	Columns []tally // whose data is asked for most
	Matrix  []matrixRow
}

// leastMarked is from how many records on a pair is marked where nobody says.
const leastMarked = 10

func leastOf(r *http.Request) int64 {
	if n, ok := number(r.URL.Query().Get("least")); ok && n > 0 {
		return int64(n)
	}
	return leastMarked
}

// mark marks the pairs with as many records as that.
func mark(list []tally, least int64) {
	for i := range list {
		list[i].Over = list[i].N >= least
	}
}

// matrixRow is one who asked, with how often for each of the columns.
type matrixRow struct {
	tally
	Cells []tally // N is zero where he did not
}

const matrixSize = 8

// matrix takes those with most records out of a page of pairs.
func matrix(pairs []tally) (columns []tally, rows []matrixRow) {
	add := func(list []tally, same func(tally) bool, p tally) []tally {
		if i := slices.IndexFunc(list, same); i >= 0 {
			list[i].N += p.N
			return list
		}
		return append(list, p)
	}
	var actors []tally
	for _, p := range pairs {
		actors = add(actors, func(o tally) bool { return o.Actor == p.Actor }, p)
		columns = add(columns, func(o tally) bool { return o.Subject == p.Subject }, p)
	}
	most := func(a, b tally) int { return cmp.Compare(b.N, a.N) }
	slices.SortStableFunc(actors, most)
	slices.SortStableFunc(columns, most)
	actors, columns = actors[:min(len(actors), matrixSize)], columns[:min(len(columns), matrixSize)]
	for _, a := range actors {
		row := matrixRow{tally: a}
		for _, c := range columns {
			cell := tally{}
			if i := slices.IndexFunc(pairs, func(p tally) bool { return p.Actor == a.Actor && p.Subject == c.Subject }); i >= 0 {
				cell = pairs[i]
			}
			row.Cells = append(row.Cells, cell)
		}
		rows = append(rows, row)
	}
	return columns, rows
}

func (s *Server) who(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	looked, name, ok := s.looked(w, r, v, admin, "console.who")
	if !ok {
		return
	}
	page, status := whoPage{peoplePage: looked, Least: leastOf(r)}, http.StatusOK
	if page.Wrong != nil {
		status = http.StatusBadRequest
	} else {
		var err error
		if page.counted, err = s.people(r.Context(), v.lang, admin, page.search, pglog.ByPair, page.after); err != nil {
			s.trouble(w, r, v, err)
			return
		}
		mark(page.People, page.Least)
		page.Columns, page.Matrix = matrix(page.People)
		mark(page.Columns, page.Least)
	}
	s.renderAs(w, v, status, "who", page, view{Handle: name, Path: link("/who", "q", page.Text, "least", page.Least)})
}

// exportPairs gives who saw whom as a table for a spreadsheet: all pairs, and not those of one page. It is recorded before any of it is sent.
func (s *Server) exportPairs(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	looked, _, ok := s.looked(w, r, v, admin, "console.who")
	if !ok {
		return
	}
	page := whoPage{peoplePage: looked, Least: leastOf(r)}
	if page.Wrong != nil {
		http.Redirect(w, r, link("/who", "q", page.Text), http.StatusSeeOther) // which shows what is wrong
		return
	}
	b := bytes.NewBufferString("actor_kind,actor,subject_kind,subject,records,masked,denied,at_least_" + strconv.FormatInt(page.Least, 10) + ",purposes,first,last\n")
	table, n := csv.NewWriter(b), 0
	var after pglog.Place
	for more := true; more; {
		counted, err := s.people(r.Context(), "en", admin, page.search, pglog.ByPair, after)
		if err == nil {
			more = counted.Next != ""
			after, err = cursorPlace(counted.Next)
		}
		if n += len(counted.People); err == nil && n > s.alone {
			s.say(w, r, v, admin, http.StatusRequestEntityTooLarge, "pairsTooMany")
			return
		}
		mark(counted.People, page.Least)
		for _, p := range counted.People {
			row := []string{p.Actor.Kind, p.Actor.Ref, p.Subject.Kind, p.Subject.Ref, strconv.FormatInt(p.N, 10), strconv.FormatInt(p.Masked, 10), strconv.FormatInt(p.Denied, 10), strconv.FormatBool(p.Over),
				strings.Join(p.Purposes, "; "), access.Began(p.FirstAt), access.Began(p.LastAt)}
			for i := range row {
				row[i] = plainCell(row[i])
			}
			err = errors.Join(err, table.Write(row))
		}
		if table.Flush(); err != nil || table.Error() != nil {
			s.trouble(w, r, v, errors.Join(err, table.Error()))
			return
		}
	}
	sum := sha256.Sum256(b.Bytes())
	err := s.cfg.Gate.Act(r.Context(), admin, policy.ReadAuditLog, admin.Organisation(), exported,
		map[string]string{"filter": page.recorded, "format": "pairs", "last": strconv.Itoa(n), "digest": "sha256:" + hex.EncodeToString(sum[:])})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	format{name: "pairs.csv", kind: "text/csv; charset=utf-8"}.announce(w)
	_, _ = w.Write(b.Bytes()) // whoever asked may have gone
}

// personPage is the history of one person.
type personPage struct {
	Name         string
	Ref          string
	Known        bool
	Human        bool   // and no conversation or channel
	Reveal       string // leads to the page on which one asks to see him; empty when he is nobody of whom a name is kept
	Request      string // leads to the page on which one registers what he asks
	About, Asked tally  // what was asked about him, and what he asked
	ByOthers     []tally
	Of           []tally
	Days         []day
	Filter       string
	MoreBy       string // finds all who asked; empty when they are listed
	MoreOf       string
	Since        string
	Origin       string
	Size         uint64
}

// about reads what a page on one person shows, from all records that are kept.
func (s *Server) about(ctx context.Context, lang string, admin principal.Admin, ref string, head pglog.Head) (personPage, error) {
	page := personPage{Ref: ref, Filter: filter.Filter{}.And(filter.Person, ref).Within(filter.Moment{Ago: 36500 * 24 * time.Hour}, filter.Moment{}).String(), Origin: head.Origin, Size: head.Size}
	now := time.Now()
	for _, side := range []struct {
		column string
		total  *tally
		list   *[]tally
		more   *string
	}{{filter.Subject, &page.About, &page.ByOthers, &page.MoreBy}, {filter.Actor, &page.Asked, &page.Of, &page.MoreOf}} {
		f := filter.Filter{}.And(side.column, ref)
		f = f.Within(filter.Moment{Ago: 36500 * 24 * time.Hour}, filter.Moment{})
		q := pglog.Query{Since: time.Unix(0, 0), Until: now.Add(time.Minute)}
		if side.column == filter.Subject {
			q.Subject = ref
		} else {
			q.Actor = ref
		}
		found := search{Filter: f, sought: f, now: now, queries: []pglog.Query{q}}
		total, err := s.people(ctx, lang, admin, found, side.column, pglog.Place{})
		if err != nil {
			return page, err
		}
		if len(total.People) > 0 {
			*side.total, page.Known = total.People[0], true
			page.Name = side.total.Handle()
			party := side.total.Subject
			if side.column == filter.Actor {
				party = side.total.Actor
			}
			page.Human = party.Kind == "visitor" || party.Kind == "agent"
			if !side.total.Erased {
				page.Request, page.Reveal = personOf(lang, party, side.total.LastAt).to("/requests/new"), personOf(lang, party, side.total.LastAt).Link()
			}
		}
		pairs, err := s.people(ctx, lang, admin, found, pglog.ByPair, pglog.Place{})
		if err != nil {
			return page, err
		}
		if *side.list = pairs.People; pairs.Next != "" {
			*side.more = f.String()
		}
	}
	if !page.Known {
		return page, nil
	}
	q := pglog.Query{Since: time.Unix(0, 0), Limit: pageSize}
	asked, about := q, q
	asked.Actor, about.Subject = ref, ref
	last, err := s.cfg.Log.SearchAny(ctx, admin.Organisation(), []pglog.Query{about, asked})
	if err != nil {
		return page, err
	}
	page.Days, err = s.daysOf(ctx, lang, admin, last)
	return page, err
}

// personAsked reads which person a request is about; what is no reference is nobody's.
func (s *Server) personAsked(w http.ResponseWriter, r *http.Request, v visit) (string, bool) {
	ref := chi.URLParam(r, "ref")
	if !filter.IsReference(ref) {
		s.message(w, v, http.StatusNotFound, "noPerson")
		return "", false
	}
	return ref, true
}

func (s *Server) person(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ref, ok := s.personAsked(w, r, v)
	if !ok {
		return
	}
	head, _, err := s.read(r, admin, "console.person", map[string]string{"person": ref})
	var page personPage
	if err == nil {
		page, err = s.about(r.Context(), v.lang, admin, ref, head)
	}
	name, errName := s.handle(r, admin, v.lang)
	if err = cmp.Or(err, errName); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if !page.Known {
		s.message(w, v, http.StatusNotFound, "noPerson")
		return
	}
	s.renderAs(w, v, http.StatusOK, "person", page, view{Handle: name, Path: "/people/" + ref})
}

// letterRows bounds a letter.
const letterRows = 5000

// letterPage answers a person who asks who was shown what of him (article 15 GDPR). It holds no name: who writes it puts that on.
type letterPage struct {
	Name, Ref   string
	Today, From string
	Shown       []letterRow
	Recipients  []string
	Fields      []string
	Denied      int
	More        bool
	Origin      string
	Size        uint64
}

// letterRow is one time that somebody was shown something.
type letterRow struct {
	Seq     uint64
	Date    string
	Time    time.Time
	To      string
	What    string
	Why     string
	Outcome string
}

func (s *Server) letter(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ref, ok := s.personAsked(w, r, v)
	if !ok {
		return
	}
	head, _, err := s.read(r, admin, "console.letter", map[string]string{"person": ref, "language": v.lang})
	page := letterPage{Ref: ref, Origin: head.Origin, Size: head.Size, Today: longDate(v.lang, time.Now())}
	if err == nil {
		err = s.write(r.Context(), v.lang, admin, &page)
	}
	name, errName := s.handle(r, admin, v.lang)
	if err = cmp.Or(err, errName); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if page.Name == "" {
		s.message(w, v, http.StatusNotFound, "noPerson")
		return
	}
	s.renderAs(w, v, http.StatusOK, "letter", page, view{Handle: name, Path: "/letters/" + ref})
}

// write reads what a letter says.
func (s *Server) write(ctx context.Context, lang string, admin principal.Admin, page *letterPage) error {
	q := pglog.Query{Since: time.Unix(0, 0), Subject: page.Ref, Limit: pglog.MaxPage}
	for more := true; more; {
		found, err := s.cfg.Log.Search(ctx, admin.Organisation(), q)
		if err != nil {
			return err
		}
		entries, gone, err := s.parsed(ctx, admin, found)
		if err != nil {
			return err
		}
		for _, e := range entries {
			page.Name, page.From = gone.handle(lang, e.Subject), longDate(lang, e.Time)
			switch {
			case e.Kind == audit.Denial:
				page.Denied++
			case e.Kind == audit.Disclosure && len(page.Shown) < letterRows:
				page.add(lang, e, gone)
			case e.Kind == audit.Disclosure:
				page.More = true
			}
		}
		if more = len(found) == q.Limit && !page.More; more {
			q.Before = found[len(found)-1].Place
		}
	}
	slices.Reverse(page.Shown) // the oldest first, as one tells it
	slices.Sort(page.Recipients)
	slices.Sort(page.Fields)
	return nil
}

func (p *letterPage) add(lang string, e audit.Entry, gone erased) {
	outcome := cmp.Or(e.Decision, "none")
	names := fieldNames(lang, e.Fields)
	to := cmp.Or(gone.handle(lang, e.Actor), word(lang, "somebody"))
	p.Shown = append(p.Shown, letterRow{Seq: e.Seq, Date: longDate(lang, e.Time), Time: e.Time, To: to, What: list(lang, names), Why: what(lang, e.Action), Outcome: word(lang, "outcome_"+outcome)})
	for _, f := range names {
		if !slices.Contains(p.Fields, f) {
			p.Fields = append(p.Fields, f)
		}
	}
	if kind := cmp.Or(word(lang, "recipients_"+e.Actor.Kind), e.Actor.Kind); !slices.Contains(p.Recipients, kind) {
		p.Recipients = append(p.Recipients, kind)
	}
}
