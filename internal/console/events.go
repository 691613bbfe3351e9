package console

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// pageSize is how many records a page shows.
const pageSize = 50

// eventsPage is a page of the log, newest first.
type eventsPage struct {
	Size         uint64
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
	Fields      []string
	OutcomeText string
}

// read lets policy decide on a reading of the log, and has it recorded, before anything is read. It says where the log
// stands, and which is the first record that is kept.
func (s *Server) read(r *http.Request, admin principal.Admin, action string, facts map[string]string) (head pglog.Head, first uint64, err error) {
	if err := s.cfg.Gate.Act(r.Context(), admin, policy.ReadAuditLog, admin.Organisation(), action, facts); err != nil {
		return pglog.Head{}, 0, err
	}
	kept, err := s.cfg.Log.Retention(r.Context(), admin.Organisation())
	if err != nil {
		return pglog.Head{}, 0, err
	}
	head, err = s.cfg.Log.Head(r.Context(), admin.Organisation())
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
	facts := map[string]string{}
	before, all := uint64(0), true
	if q := r.URL.Query().Get("before"); q != "" {
		var ok bool
		if before, ok = number(q); !ok {
			s.message(w, v, http.StatusBadRequest, "badNumber")
			return
		}
		all, facts["before"] = false, q
	}
	head, first, err := s.read(r, admin, "console.events", facts)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if all || before > head.Size {
		before = head.Size
	}
	before = max(before, first)
	from := max(before-min(before, pageSize), first)
	page := eventsPage{Size: head.Size, Origin: head.Origin, Pruned: from == first && first > 0}
	var rows []row
	for body, err := range s.cfg.Log.Entries(r.Context(), admin.Organisation(), from, before) {
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		e, err := audit.ParseEntry(body)
		if err != nil {
			s.trouble(w, r, v, fmt.Errorf("the log in the database is damaged: %w", err))
			return
		}
		rows = append(rows, rowOf(v.lang, e))
	}
	for i := len(rows) - 1; i >= 0; i-- {
		date := longDate(v.lang, rows[i].Time)
		if n := len(page.Days); n == 0 || page.Days[n-1].Date != date {
			page.Days = append(page.Days, day{Date: date})
		}
		last := &page.Days[len(page.Days)-1]
		last.Rows = append(last.Rows, rows[i])
	}
	if from > first {
		page.Older = fmt.Sprintf("/events?before=%d", from)
	}
	if before < head.Size {
		page.Newer = "/events"
		if newer := before + pageSize; newer < head.Size {
			page.Newer = fmt.Sprintf("/events?before=%d", newer)
		}
	}
	name, err := s.handle(r, admin, v.lang)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	path := "/events"
	if !all {
		path = fmt.Sprintf("/events?before=%d", before)
	}
	s.renderAs(w, v, http.StatusOK, "events", page, view{Handle: name, Path: path})
}

func rowOf(lang string, e audit.Entry) row {
	outcome := e.Decision
	if outcome == "" {
		outcome = "none"
	}
	return row{
		Seq: e.Seq, Time: e.Time, What: what(lang, e.Action), Outcome: outcome, OutcomeText: word(lang, "outcome_"+outcome),
		Who: handle(lang, e.Actor), About: about(lang, e), Fields: fieldNames(lang, e.Fields),
	}
}

// about is whom or what a record speaks of.
func about(lang string, e audit.Entry) string {
	if e.Subject.Kind != "" {
		return handle(lang, e.Subject)
	}
	if e.Conversation != "" {
		return handle(lang, audit.Party{Kind: "conversation", Ref: e.Conversation})
	}
	return ""
}

// handle is the neutral name of a person or thing.
func handle(lang string, p audit.Party) string {
	if p.Kind == "" {
		return ""
	}
	kind := cmp.Or(word(lang, "kind_"+p.Kind), p.Kind)
	if p.Ref == "" {
		return kind
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
		page = explain(v.lang, e)
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
	s.renderAs(w, v, http.StatusOK, "event", page, view{Handle: name, Path: fmt.Sprintf("/events/%d", seq)})
}
