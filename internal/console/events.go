package console

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// pageSize is how many records a page shows.
const pageSize = 50

// eventsPage is a page of the log, newest first.
type eventsPage struct {
	search
	Text         string // of the filter
	Wrong        *wrong
	Builder      builder
	Saved        []saved // searches that are kept
	Strip        strip
	Total        string
	Hidden       string // how many readings are; empty when none
	Since        string // how far back is looked, when the filter does not say
	Origin       string
	Days         []day
	Older, Newer string // links; empty at the ends
	Pruned       bool   // there were older records, which are in exports only
}

type day struct {
	Date string
	Rows []row
}

// row is one record in a list.
type row struct {
	Seq         uint64
	Time        time.Time
	What        string
	Outcome     string // allow, masked, deny, or none
	Who, About  string
	WhoFilter   string // finds what he did
	AboutFilter string // finds what is about it
	Fields      []string
	OutcomeText string
}

// read lets policy decide on a reading of the log, and has it recorded, before anything is read. It says where the log
// stands, and which is the first record that is kept.
func (s *Server) read(r *http.Request, who principal.Principal, action string, facts map[string]string) (head pglog.Head, first uint64, err error) {
	if err := s.cfg.Gate.Act(r.Context(), who, policy.ReadAuditLog, who.Organisation(), action, facts); err != nil {
		return pglog.Head{}, 0, err
	}
	kept, err := s.cfg.Log.Retention(r.Context(), who.Organisation())
	if err != nil {
		return pglog.Head{}, 0, err
	}
	head, err = s.cfg.Log.Head(r.Context(), who.Organisation())
	return head, kept.First, err
}

func (s *Server) handle(r *http.Request, admin principal.Admin, lang string) (string, error) {
	ref, err := s.cfg.Gate.Reference(r.Context(), admin.Organisation(), admin.ID())
	return handle(lang, audit.Party{Kind: admin.Kind(), Ref: ref}), err
}

// number reads a record's number as it stands in an address.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 62)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}

func (s *Server) events(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	query := r.URL.Query()
	if query.Has("build") {
		http.Redirect(w, r, link("/events", "q", built(query.Get), "readings", query.Get("readings")), http.StatusSeeOther)
		return
	}
	if query.Has("from") {
		http.Redirect(w, r, link("/events", "q", closer(query.Get("q"), query.Get("from"), query.Get("to")), "readings", query.Get("readings")), http.StatusSeeOther)
		return
	}
	page := eventsPage{Text: query.Get("q")}
	facts := map[string]string{}
	var cursor uint64
	for _, name := range []string{"before", "after"} {
		if q := query.Get(name); q != "" {
			var ok bool
			if cursor, ok = number(q); !ok {
				s.message(w, v, http.StatusBadRequest, "badNumber")
				return
			}
			facts[name] = q
		}
	}
	name, err := s.handle(r, admin, v.lang)
	if err == nil {
		page.search, err = s.look(r, admin)
	}
	if e := asFilterError(err); e != nil { // nothing was looked for
		page.Wrong, page.Builder = wrongFilter(v.lang, e), build(v.lang, filter.Filter{}, nil)
		s.renderAs(w, v, http.StatusBadRequest, "events", page, view{Handle: name, Path: link("/events", "q", page.Text)})
		return
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.Text, facts["filter"] = page.Filter.String(), page.recorded
	head, first, err := s.read(r, admin, "console.events", facts)
	if err == nil {
		err = s.fill(r.Context(), v, admin, &page, head, first, cursor, facts["after"] != "")
	}
	if err == nil {
		page.Saved, err = s.searches(r, v.lang, admin, page.sought.String())
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	path := []any{"q", page.Text, "readings", query.Get("readings")}
	for _, name := range []string{"before", "after"} {
		path = append(path, name, facts[name])
	}
	s.renderAs(w, v, http.StatusOK, "events", page, view{Handle: name, Path: link("/events", path...), Zooms: true})
}

// fill reads what a page of events shows.
func (s *Server) fill(ctx context.Context, v visit, admin principal.Admin, page *eventsPage, head pglog.Head, first, cursor uint64, forward bool) error {
	page.Origin = head.Origin
	if cursor > 0 {
		cursor = max(cursor, first)
	}
	place, err := s.place(ctx, admin, cursor, head.Size)
	if err != nil {
		return err
	}
	before, after := place, pglog.Place{}
	if forward {
		before, after = after, place
	}
	found, err := s.find(ctx, admin, page.search, before, after)
	if err != nil {
		return err
	}
	if forward { // what is newer by less than a page begins with the newest
		if forward = len(found) == pageSize; forward {
			slices.Reverse(found)
		} else if found, err = s.find(ctx, admin, page.search, pglog.Place{}, pglog.Place{}); err != nil {
			return err
		}
	}
	full := len(found) == pageSize
	found = slices.DeleteFunc(found, func(f pglog.Found) bool { return f.Seq < first }) // what is being pruned
	if page.Days, err = s.daysOf(ctx, v.lang, admin, found); err != nil {
		return err
	}
	to := func(name string, seq uint64) string {
		return link("/events", "q", page.Text, "readings", page.Shown(), name, seq)
	}
	if full && len(found) > 0 && found[len(found)-1].Seq > first {
		page.Older = to("before", found[len(found)-1].Seq)
	}
	if len(found) > 0 && (forward || !before.At.IsZero()) {
		page.Newer = to("after", found[0].Seq)
	}
	page.Pruned = page.Older == "" && first > 0
	if page.Strip, err = s.count(ctx, v.lang, admin, page.search); err != nil {
		return err
	}
	page.Total = number64(v.lang, page.Strip.Total)
	if page.sought.IsZero() && page.readings {
		page.Total = number64(v.lang, int64(head.Size-first))
	} else if page.Strip.AtLeast {
		page.Total = "≥ " + page.Total
	}
	if page.sought.Since.IsZero() {
		since, _ := page.window()
		page.Since = longDate(v.lang, since)
	}
	hidden, atLeast, err := s.hidden(ctx, admin, page.search, page.Strip)
	if err != nil {
		return err
	}
	if hidden > 0 {
		if page.Hidden = number64(v.lang, hidden); atLeast {
			page.Hidden = "≥ " + page.Hidden
		}
	}
	actions, err := s.cfg.Log.Actions(ctx, admin.Organisation())
	page.Builder = build(v.lang, page.Filter, actions)
	return err
}

// place is where a record stands; zero for none and for what is not there yet.
func (s *Server) place(ctx context.Context, admin principal.Admin, seq, size uint64) (pglog.Place, error) {
	if seq == 0 || seq >= size {
		return pglog.Place{}, nil
	}
	for body, err := range s.cfg.Log.Entries(ctx, admin.Organisation(), seq, seq+1) {
		if err != nil {
			return pglog.Place{}, err
		}
		e, err := audit.ParseEntry(body)
		if err != nil {
			return pglog.Place{}, fmt.Errorf("the log in the database is damaged: %w", err)
		}
		return pglog.Place{At: e.Time, Seq: seq}, nil
	}
	return pglog.Place{}, fmt.Errorf("record %d is missing", seq)
}

// daysOf sorts records into days.
func (s *Server) daysOf(ctx context.Context, lang string, admin principal.Admin, found []pglog.Found) (days []day, err error) {
	entries, gone, err := s.parsed(ctx, admin, found)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		date := longDate(lang, e.Time)
		if n := len(days); n == 0 || days[n-1].Date != date {
			days = append(days, day{Date: date})
		}
		last := &days[len(days)-1]
		last.Rows = append(last.Rows, rowOf(lang, e, gone))
	}
	return days, nil
}

func rowOf(lang string, e audit.Entry, gone erased) row {
	outcome := e.Decision
	if outcome == "" {
		outcome = "none"
	}
	r := row{
		Seq: e.Seq, Time: e.Time, What: what(lang, e.Action), Outcome: outcome, OutcomeText: word(lang, "outcome_"+outcome),
		Who: gone.handle(lang, e.Actor), About: about(lang, e, gone), Fields: fieldNames(lang, e.Fields),
	}
	if filter.IsReference(e.Actor.Ref) {
		r.WhoFilter = filter.Filter{}.And(filter.Actor, e.Actor.Ref).String()
	}
	switch {
	case filter.IsReference(e.Subject.Ref):
		r.AboutFilter = filter.Filter{}.And(filter.Subject, e.Subject.Ref).String()
	case filter.IsReference(e.Conversation) && e.Subject.Kind == "":
		r.AboutFilter = filter.Filter{}.And(filter.Conversation, e.Conversation).String()
	}
	return r
}

// about is whom or what a record speaks of.
func about(lang string, e audit.Entry, gone erased) string {
	if e.Subject.Kind != "" {
		return gone.handle(lang, e.Subject)
	}
	if e.Conversation != "" {
		return gone.handle(lang, audit.Party{Kind: "conversation", Ref: e.Conversation})
	}
	return ""
}

// handle is the neutral name of a person or thing.
func handle(lang string, p audit.Party) string {
	if p.Kind == "" {
		return ""
	}
	kind := cmp.Or(word(lang, "kind_"+p.Kind), p.Kind)
	switch p.Ref {
	case "":
		return kind
	case "erased": // as the gate says it of whoever has no key any more
		return word(lang, "erasedSubject")
	}
	return chat.Handle(kind, p.Ref)
}

// eventPage is one record, explained.
type eventPage struct {
	row
	Date, Kind     string
	Sentences      []string
	Reasons        []string
	Why            string   // as somebody wrote it down
	People         []person // whom one can ask to see
	Conversation   string   // where one asks to read it
	ChatFilter     string   // finds all records of the conversation
	Session        string   // where all of the session is in which it was made
	Rule, RuleText string
	Facts          []fact
	Raw            string
	Previous, Next string
}

// fact is a line of what is known of a record.
type fact struct {
	Name, Value string
	Mono        bool
}

func (s *Server) event(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	seq, ok := number(chi.URLParam(r, "seq"))
	if !ok {
		s.message(w, v, http.StatusBadRequest, "badNumber")
		return
	}
	head, first, err := s.read(r, admin, "console.event", map[string]string{"index": fmt.Sprint(seq)})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if seq >= head.Size {
		s.message(w, v, http.StatusNotFound, "noRecord")
		return
	}
	if seq < first {
		s.message(w, v, http.StatusGone, "pruned")
		return
	}
	var page eventPage
	for body, err := range s.cfg.Log.Entries(r.Context(), admin.Organisation(), seq, seq+1) {
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		e, err := audit.ParseEntry(body)
		if err != nil {
			s.trouble(w, r, v, fmt.Errorf("the log in the database is damaged: %w", err))
			return
		}
		gone, err := s.erased(r.Context(), admin, e)
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		page = explain(v.lang, e, gone)
		page.Raw = string(body)
		if id, err := uuid.Parse(e.Facts[access.FactReason]); err == nil {
			texts, err := s.cfg.Gate.Reasons(r.Context(), admin.Organisation(), id)
			if err != nil {
				s.trouble(w, r, v, err)
				return
			}
			page.Why = texts[id]
		}
	}
	if seq > first {
		page.Previous = fmt.Sprintf("/events/%d", seq-1)
	}
	if seq+1 < head.Size {
		page.Next = fmt.Sprintf("/events/%d", seq+1)
	}
	name, err := s.handle(r, admin, v.lang)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if r.Header.Get("HX-Request") == "true" { // it opens beside a list
		s.renderAs(w, v, http.StatusOK, "beside", page, view{Handle: name})
		return
	}
	s.renderAs(w, v, http.StatusOK, "event", page, view{Handle: name, Path: fmt.Sprintf("/events/%d", seq)})
}
