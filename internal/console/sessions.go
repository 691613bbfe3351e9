package console

import (
	"context"
	"fmt"
	"iter"
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

// The limits of a session, and how near its beginning its sign-in is recorded: in the same minute, which two codes of one administrator are not.
const (
	sessionLongest = 12 * time.Hour
	sessionIdle    = 15 * time.Minute
	signInNear     = 20 * time.Second
)

// sessionEnded is the fact by which a record says which session of somebody it ended; without it, all of them.
const sessionEnded = "session.ended"

// attendLong is how long a party of a conversation reads under one record, so that who takes part in one has a record at least so often.
const attendLong = time.Hour

// sessionOf says when the session began in which a record was made. Records from before that was written down say how old the code was.
func sessionOf(e audit.Entry) (began time.Time, ok bool) {
	if e.Actor.Kind != "admin" {
		return time.Time{}, false
	}
	if began, err := time.Parse(time.RFC3339Nano, e.Facts[access.FactSession]); err == nil {
		return began, true
	}
	if e.Action == signInComplete {
		return e.Time, true
	}
	in, err := access.InputOf(e)
	if err != nil {
		return time.Time{}, false
	}
	for _, f := range in.Actor.Factors {
		if f.Method == "totp" && f.For == "" {
			return e.Time.Add(-time.Duration(f.AgeSeconds) * time.Second), true
		}
	}
	return time.Time{}, false
}

const signInComplete = "sign_in.complete"

// in reports whether a record was made in the session that began then.
func in(e audit.Entry, began time.Time) bool {
	at, ok := sessionOf(e)
	return ok && at.Sub(began).Abs() < signInNear
}

// ends reports whether a record says that the session of somebody that began then is over.
func ends(e audit.Entry, who string, began time.Time) bool {
	switch e.Action {
	case "sign_out", "session.refused":
		return in(e, began)
	case "session.revoke":
		at, err := time.Parse(time.RFC3339Nano, e.Facts[sessionEnded])
		one := err == nil && at.Sub(began).Abs() < signInNear
		return e.Decision != audit.DecisionDeny && e.Facts["admin"] == who && (one || e.Facts[sessionEnded] == "" && !(e.Actor.Ref == who && in(e, began)))
	case "admin.disable", "admin.roles":
		return e.Decision != audit.DecisionDeny && e.Facts["admin"] == who
	}
	return false
}

// attended is a session that was open at a moment.
type attended struct {
	Who, Ref, Roles        string
	Address, AddressFilter string
	Factors                []string
	Began, Last, Ended     time.Time // Ended is zero where nothing says that it was ended
	Session                string    // where all of it is
	Open                   bool      // still
}

// signedInPage says who was signed in at a moment.
type signedInPage struct {
	At       string // as the field takes it
	Moment   time.Time
	Sessions []attended
	Others   []tally // who was shown something within the hour before, and is no administrator
	More     bool    // there are others
	Wrong    bool
}

// signInsMost and actorsMost bound what is looked through for one moment.
const (
	signInsMost = 500
	actorsMost  = 1000
)

// signedInAt answers who was signed in at a moment, from where, and by what he had proved who he was, as the log says it.
func (s *Server) signedInAt(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	page := signedInPage{At: strings.TrimSpace(r.URL.Query().Get("at")), Moment: time.Now().UTC().Truncate(time.Second)}
	if page.At != "" {
		var err error
		for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339Nano} {
			if page.Moment, err = time.Parse(layout, page.At); err == nil {
				break
			}
		}
		page.Wrong = err != nil
	}
	if page.Wrong || page.Moment.Year() < 1971 || page.Moment.Year() > 9998 {
		page.Wrong = true
		s.show(w, r, v, admin, http.StatusBadRequest, "signed-in", page, "/access/signed-in")
		return
	}
	page.Moment = page.Moment.UTC()
	page.At = page.Moment.Format("2006-01-02T15:04:05")
	_, _, err := s.read(r, admin, "console.signed_in", map[string]string{"at": access.Began(page.Moment)})
	if err == nil {
		err = s.attending(r.Context(), v.lang, admin, &page)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "signed-in", page, link("/access/signed-in", "at", page.At))
}

func (s *Server) attending(ctx context.Context, lang string, admin principal.Admin, page *signedInPage) error {
	at := page.Moment
	q := pglog.Query{Action: signInComplete, Since: at.Add(-sessionLongest), Until: at.Add(time.Microsecond)}
	n := 0
	for e, err := range s.entries(ctx, admin, q) {
		if err != nil {
			return err
		}
		if n++; n > signInsMost {
			page.More = true
			break
		}
		one, open, err := s.attended(ctx, lang, admin, e, at)
		if err != nil {
			return err
		}
		if open {
			page.Sessions = append(page.Sessions, one)
		}
	}
	f := filter.Filter{}.Within(filter.Moment{At: at.Add(-attendLong)}, filter.Moment{At: at.Add(time.Microsecond)})
	found := search{Filter: f, sought: f, now: time.Now(), queries: []pglog.Query{{Since: f.Since.At, Until: f.Until.At}}}
	var after pglog.Place
	for range actorsMost / peopleShown {
		counted, err := s.people(ctx, lang, admin, found, pglog.ByActor, after)
		if err != nil {
			return err
		}
		for _, p := range counted.People {
			if slices.Contains([]string{"agent", "client", "operator"}, p.Actor.Kind) {
				page.Others = append(page.Others, p)
			}
		}
		if counted.Next == "" {
			return nil
		}
		if after, err = cursorPlace(counted.Next); err != nil {
			return err
		}
	}
	page.More = true
	return nil
}

// attended follows the session that began with a sign-in, and reports whether it was open at a moment: it had begun, nothing had ended it, and
// it was not idle for longer than a session can be.
func (s *Server) attended(ctx context.Context, lang string, admin principal.Admin, signIn audit.Entry, at time.Time) (one attended, open bool, err error) {
	one = attended{
		Who: handle(lang, signIn.Actor), Ref: signIn.Actor.Ref, Address: signIn.Address, AddressFilter: filter.Filter{}.And(filter.Address, signIn.Address).String(),
		Began: signIn.Time, Last: signIn.Time, Session: fmt.Sprintf("/events/%d/session", signIn.Seq), Roles: roleNames(lang, strings.FieldsFunc(signIn.Facts["roles"], func(r rune) bool { return r == ',' })),
	}
	methods := []string{"password", "totp"} // there is no other way in
	end := signIn.Time.Add(sessionLongest)
	for _, q := range []pglog.Query{{Actor: signIn.Actor.Ref}, {Action: "session.revoke"}, {Action: "admin.disable"}, {Action: "admin.roles"}} {
		q.Since, q.Until, q.After = signIn.Time, end.Add(time.Minute), pglog.Place{At: signIn.Time, Seq: signIn.Seq}
		for e, err := range s.entries(ctx, admin, q) {
			if err != nil {
				return one, false, err
			}
			if q.Actor != "" && in(e, signIn.Time) {
				one.Last = e.Time
				if e.Action == "step_up" && !e.Time.After(at) && !slices.Contains(methods, e.Facts["method"]) {
					methods = append(methods, e.Facts["method"])
				}
			}
			if ends(e, signIn.Actor.Ref, signIn.Time) {
				if one.Ended.IsZero() || e.Time.Before(one.Ended) {
					one.Ended = e.Time
				}
				break
			}
		}
	}
	for _, m := range methods {
		one.Factors = append(one.Factors, word(lang, "proved_"+m))
	}
	if one.Ended.IsZero() {
		if idle := one.Last.Add(sessionIdle); idle.Before(end) {
			end = idle
		}
	} else {
		end = one.Ended
	}
	one.Open = one.Ended.IsZero() && time.Now().Before(end)
	return one, at.Before(end), nil
}

// sessionPage is all that was done in one session of an administrator.
type sessionPage struct {
	Who   string
	Began time.Time
	Total int
	Shown []pglog.Found
	Days  []day
}

// sessionMost bounds the records of a session that are shown.
const sessionMost = 500

// session shows all records of the session in which one was made.
func (s *Server) session(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	seq, ok := number(chi.URLParam(r, "seq"))
	if !ok {
		s.message(w, v, http.StatusBadRequest, "badNumber")
		return
	}
	head, first, err := s.read(r, admin, "console.session", map[string]string{"index": fmt.Sprint(seq)})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if seq >= head.Size || seq < first {
		s.message(w, v, http.StatusNotFound, "noRecord")
		return
	}
	var page sessionPage
	var actor string
	for body, err := range s.cfg.Log.Entries(r.Context(), admin.Organisation(), seq, seq+1) {
		var e audit.Entry
		if err == nil {
			e, err = audit.ParseEntry(body)
		}
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		page.Who, actor = handle(v.lang, e.Actor), e.Actor.Ref
		page.Began, ok = sessionOf(e)
	}
	if !ok {
		s.message(w, v, http.StatusNotFound, "noSession")
		return
	}
	q := pglog.Query{Actor: actor, Since: page.Began.Add(-signInNear), Until: page.Began.Add(sessionLongest + time.Minute), After: pglog.Place{At: page.Began.Add(-signInNear)}}
	for f, err := range s.records(r.Context(), admin, q) {
		var e audit.Entry
		if err == nil {
			e, err = audit.ParseEntry(f.Body)
		}
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		if in(e, page.Began) && f.Seq < head.Size {
			if page.Total++; page.Total <= sessionMost {
				page.Shown = append(page.Shown, f)
			}
		}
	}
	if page.Days, err = s.daysOf(r.Context(), v.lang, admin, page.Shown); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "session", page, fmt.Sprintf("/events/%d/session", seq))
}

// records gives all that answer a query, a page of the log after another: the oldest first where it begins after a place.
func (s *Server) records(ctx context.Context, admin principal.Admin, q pglog.Query) iter.Seq2[pglog.Found, error] {
	q.Limit = pglog.MaxPage
	return func(yield func(pglog.Found, error) bool) {
		for {
			found, err := s.cfg.Log.Search(ctx, admin.Organisation(), q)
			if err != nil {
				yield(pglog.Found{}, err)
				return
			}
			for _, f := range found {
				if !yield(f, nil) {
					return
				}
			}
			if len(found) < q.Limit {
				return
			}
			if last := found[len(found)-1].Place; q.After.At.IsZero() {
				q.Before = last
			} else {
				q.After = last
			}
		}
	}
}

func (s *Server) entries(ctx context.Context, admin principal.Admin, q pglog.Query) iter.Seq2[audit.Entry, error] {
	return func(yield func(audit.Entry, error) bool) {
		for f, err := range s.records(ctx, admin, q) {
			var e audit.Entry
			if err == nil {
				if e, err = audit.ParseEntry(f.Body); err != nil {
					err = fmt.Errorf("the log in the database is damaged: %w", err)
				}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
