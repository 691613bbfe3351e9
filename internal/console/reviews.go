package console

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// togetherRoutes are the pages of what administrators do together.
func (s *Server) togetherRoutes(r chi.Router) {
	r.Get("/policy/activation", s.signedIn(s.activation))
	s.act(r, "/policy/demand", s.demandPolicy)
	s.act(r, "/policy/choose", s.choosePolicy)
	s.act(r, "/access/roles", s.setRoles)
	r.Get("/access/address", s.signedIn(s.showAddress))
	s.act(r, "/access/address", s.revealAddress)
	r.Get("/access/reviews", s.signedIn(s.accessReviews))
	s.act(r, "/access/reviews", s.beginAccessReview)
	r.Get("/access/reviews/{id}", s.signedIn(s.accessReview))
	s.act(r, "/access/reviews/decide", s.decideAccessReview)
	r.Get("/transcript", s.signedIn(s.showTranscript))
	s.act(r, "/transcript", s.transcript)
}

// accessReviewsPage lists the reviews.
type accessReviewsPage struct {
	Reviews []accessReviewLine
	Open    bool
	May     bool
	Days    int
}

type accessReviewLine struct {
	ID, Who, Begun, Due, Ended string
	Entries, Open              int64
	Late                       bool
}

func (s *Server) accessReviewLines(r *http.Request, lang string, admin principal.Admin) ([]accessReviewLine, error) {
	all, err := s.cfg.Desk.Reviews(r.Context(), admin.Organisation())
	if err != nil {
		return nil, err
	}
	var lines []accessReviewLine
	for _, one := range all {
		l := accessReviewLine{ID: one.ID.String(), Who: handle(lang, audit.Party{Kind: "admin", Ref: one.Reference}), Begun: moment(lang, one.Begun), Due: longDate(lang, one.Due), Entries: one.Entries, Open: one.Open}
		if one.Ended != nil {
			l.Ended = moment(lang, *one.Ended)
		}
		l.Late = one.Ended == nil && one.Due.Before(time.Now())
		lines = append(lines, l)
	}
	return lines, nil
}

func (s *Server) accessReviews(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.access_reviews", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	lines, err := s.accessReviewLines(r, v.lang, admin)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page := accessReviewsPage{Reviews: lines, May: slices.Contains(admin.Roles(), "security_admin"), Days: signin.ReviewDays}
	page.Open = slices.ContainsFunc(lines, func(l accessReviewLine) bool { return l.Ended == "" })
	s.show(w, r, v, admin, http.StatusOK, "access-reviews", page, "/access/reviews")
}

func (s *Server) beginAccessReview(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id := uuid.New()
	err := s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), "access_review.begin", map[string]string{"access_review": id.String()})
	if err == nil {
		err = s.cfg.Desk.BeginReview(r.Context(), admin, id)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	http.Redirect(w, r, "/access/reviews/"+id.String(), http.StatusSeeOther)
}

// accessReviewPage is one review: what is to be decided, and the evidence of what was.
type accessReviewPage struct {
	accessReviewLine
	Groups []accessReviewGroup
	May    bool
	Roles  []string
}

type accessReviewGroup struct {
	Kind    string
	Entries []accessReviewEntry
}

type accessReviewEntry struct {
	signin.ReviewEntry
	ID, Name, Made                string // Made is by whom
	RoleNames, NewRoleNames       string
	SinceText, UsedText, EndsText string
	Chip, State, Who, DecidedAt   string
	Why                           string
	Mine, OnHost                  bool // his own; to be done on the host
	CanChange                     bool
}

func (s *Server) accessReview(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	}
	if _, _, err := s.read(r, admin, "console.access_review", map[string]string{"access_review": id.String()}); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	lines, err := s.accessReviewLines(r, v.lang, admin)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	i := slices.IndexFunc(lines, func(l accessReviewLine) bool { return l.ID == id.String() })
	if i < 0 {
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	}
	entries, err := s.cfg.Desk.ReviewEntries(ctx, organisation, id)
	var reasons []uuid.UUID
	for _, e := range entries {
		reasons = append(reasons, e.Reason)
	}
	var texts map[uuid.UUID]string
	if err == nil {
		texts, err = s.cfg.Gate.Reasons(ctx, organisation, reasons...)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page := accessReviewPage{accessReviewLine: lines[i], May: slices.Contains(admin.Roles(), "security_admin"), Roles: signin.Roles}
	for _, e := range entries {
		shown := accessReviewEntryOf(v.lang, admin, e)
		shown.Why = texts[e.Reason]
		if n := len(page.Groups); n == 0 || page.Groups[n-1].Kind != e.Kind {
			page.Groups = append(page.Groups, accessReviewGroup{Kind: e.Kind})
		}
		g := &page.Groups[len(page.Groups)-1]
		g.Entries = append(g.Entries, shown)
	}
	s.show(w, r, v, admin, http.StatusOK, "access-review", page, "/access/reviews/"+id.String())
}

func accessReviewEntryOf(lang string, admin principal.Admin, e signin.ReviewEntry) accessReviewEntry {
	out := accessReviewEntry{ReviewEntry: e, ID: e.ID.String(), SinceText: moment(lang, e.Since), UsedText: word(lang, "never"), Mine: e.Own(admin.ID()), RoleNames: roleNames(lang, e.Roles), CanChange: e.Kind == "admin"}
	switch e.Kind {
	case "auditor":
		out.Name, out.UsedText = e.Login, word(lang, "notKnown")
	case "token":
		out.Name = chat.Handle(word(lang, "kind_client"), e.Reference)
		out.Made = handle(lang, audit.Party{Kind: "admin", Ref: e.OwnerReference})
	default:
		out.Name = handle(lang, audit.Party{Kind: e.Kind, Ref: e.Reference})
	}
	if e.Used != nil {
		out.UsedText = moment(lang, *e.Used)
	}
	if e.Ends != nil {
		out.EndsText = moment(lang, *e.Ends)
	}
	if e.Decision != "" {
		out.Who, out.DecidedAt = handle(lang, audit.Party{Kind: "admin", Ref: e.DecidedBy}), moment(lang, *e.Decided)
		out.State, out.Chip = word(lang, "accessReview_"+e.Decision), map[string]string{signin.Keep: "allow", signin.Revoke: "deny", signin.Change: "masked"}[e.Decision]
		out.NewRoleNames = roleNames(lang, e.NewRoles)
		out.OnHost = e.Decision == signin.Revoke && e.Kind == "auditor" && e.Stands
	}
	return out
}

func (s *Server) decideAccessReview(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	review, err := uuid.Parse(r.PostFormValue("review"))
	id, err2 := uuid.Parse(r.PostFormValue("entry"))
	decision := r.PostFormValue("decision")
	if err != nil || err2 != nil || decision != signin.Keep && decision != signin.Revoke && decision != signin.Change {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	var roles []string
	if decision == signin.Change {
		if roles, err = signin.CheckRoles(r.PostForm["role"]); err != nil {
			s.say(w, r, v, admin, http.StatusBadRequest, "badRoles")
			return
		}
	}
	entries, err := s.cfg.Desk.ReviewEntries(ctx, organisation, review)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	i := slices.IndexFunc(entries, func(e signin.ReviewEntry) bool { return e.ID == id })
	switch {
	case i < 0:
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	case entries[i].Own(admin.ID()):
		s.say(w, r, v, admin, http.StatusConflict, "accessReviewOwn")
		return
	}
	e := entries[i]
	facts := map[string]string{"access_review": review.String(), "access_review.kind": e.Kind, "access_review.decision": decision, "access_review.subject": e.Reference + e.Login, "roles": strings.Join(roles, ",")}
	why, err := s.cfg.Gate.Justify(ctx, organisation, r.PostFormValue("reason"))
	if err == nil {
		err = s.cfg.Gate.ActOn(ctx, admin, policy.Administer, organisation, "access_review.decide", facts, access.Grounds{Justification: why})
	}
	if err == nil {
		err = s.cfg.Desk.DecideReview(ctx, admin, review, e, decision, roles, why.ID())
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	http.Redirect(w, r, fmt.Sprintf("/access/reviews/%s#%s", review, e.Kind), http.StatusSeeOther)
}
