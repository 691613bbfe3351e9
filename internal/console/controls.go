package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// controlsPage is how long data is kept, what is held, and what was erased.
type controlsPage struct {
	Kept     []keptClass
	Holds    []shownHold
	Erasures []shownErasure
	Tried    *triedRetention
	Looked   *lookedAt
	Problem  string
	May      bool
	Classes  []string
	Widgets  []choice // that a hold may cover
}

type keptClass struct {
	Name, Days, Next, Due, Held string
	Usual                       bool
	Oldest                      *time.Time
}

type triedRetention struct{ Class, Days, Due, Held string }

type shownHold struct {
	ID, Covers, Since, Until, Why string
	Placed                        time.Time
	Lifted                        bool
}

type shownErasure struct {
	ID, Of  string
	Ordered time.Time
	Order   uint64
	Record  *uint64
}

// lookedAt is a dry run: what is kept of somebody, and what stands against erasing it.
type lookedAt struct {
	Kind, Ref, Name, Backups string
	Places                   []keptPlace
	Archives                 []string
	Held, Whole              bool
}

type keptPlace struct{ Place, N string }

func (s *Server) controlRoutes(r chi.Router) {
	r.Get("/controls", s.signedIn(s.controls))
	r.Get("/controls/certificate/{id}", s.signedIn(s.certificate))
	s.act(r, "/controls/retention", s.setRetention)
	s.act(r, "/controls/hold", s.placeHold)
	s.act(r, "/controls/lift", s.liftHold)
	s.act(r, "/controls/erase", s.erase)
	s.act(r, "/controls/organisation", s.eraseOrganisation)
}

// controlsShown is how many holds and erasures are listed.
const controlsShown = 100

func (s *Server) controls(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.controls", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	var page controlsPage
	ctx, organisation := r.Context(), admin.Organisation()
	if days, err := strconv.Atoi(r.FormValue("days")); err == nil && days > 0 && days <= 36500 && slices.Contains(control.Classes(), r.FormValue("class")) {
		c, err := s.cfg.Control.WhatIf(ctx, organisation, r.FormValue("class"), days)
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		page.Tried = &triedRetention{r.FormValue("class"), number64(v.lang, int64(days)), number64(v.lang, c.Due), number64(v.lang, c.Held)}
	}
	if kind := r.FormValue("kind"); kind == "visitor" || kind == "agent" || kind == "conversation" || kind == "organisation" {
		subject, err := s.controlled(r, admin)
		var kept control.Report
		if err == nil {
			kept, err = s.cfg.Control.Kept(ctx, subject)
		}
		switch {
		case errors.Is(err, access.ErrUnknown):
			page.Problem = "controlsNothing"
		case err != nil:
			s.trouble(w, r, v, err)
			return
		default:
			l := &lookedAt{Kind: kind, Ref: r.FormValue("ref"), Name: word(v.lang, "covers_organisation"), Backups: word(v.lang, "controlsNotSaid"), Held: len(kept.Holds) > 0, Whole: kind == "organisation"}
			if !l.Whole {
				l.Name = handle(v.lang, audit.Party{Kind: kind, Ref: kept.Reference})
			}
			for _, p := range kept.Places {
				l.Places = append(l.Places, keptPlace{p.Place, number64(v.lang, p.N)})
			}
			if until := kept.Elsewhere[0].Until; until != nil {
				l.Backups = longDate(v.lang, until.UTC())
			}
			for _, e := range kept.Elsewhere {
				if e.What == "archive" {
					l.Archives = append(l.Archives, fmt.Sprintf(word(v.lang, "controlsArchive"), e.Name, longDate(v.lang, e.Until.UTC())))
				}
			}
			page.Looked = l
		}
	}
	s.showControls(w, r, v, admin, http.StatusOK, page)
}

func (s *Server) showControls(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, page controlsPage) {
	ctx, organisation := r.Context(), admin.Organisation()
	page.May, page.Classes = slices.Contains(admin.Roles(), "privacy_officer"), append(control.Classes(), control.Archive, control.Backup)
	settings, err := s.cfg.Control.Retention(ctx, organisation)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	for _, set := range settings {
		k := keptClass{Name: word(v.lang, "class_"+set.Class), Days: word(v.lang, "controlsNotSaid"), Usual: set.Since == nil && set.Days != nil}
		if set.NextAt != nil {
			k.Next = number64(v.lang, int64(*set.NextDays)) + ", " + longDate(v.lang, set.NextAt.UTC())
		}
		if set.Days != nil {
			k.Days = number64(v.lang, int64(*set.Days))
			c, err := s.cfg.Control.WhatIf(ctx, organisation, set.Class, *set.Days)
			if err != nil {
				s.trouble(w, r, v, err)
				return
			}
			k.Due, k.Held, k.Oldest = number64(v.lang, c.Due), number64(v.lang, c.Held), c.Oldest
		}
		if k.Oldest != nil {
			*k.Oldest = k.Oldest.UTC()
		}
		page.Kept = append(page.Kept, k)
	}
	holds, err := s.cfg.Control.Holds(ctx, organisation, controlsShown)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	widgets, err := s.cfg.Store.Widgets(ctx, organisation)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	for _, one := range widgets {
		page.Widgets = append(page.Widgets, choice{Value: one.ID.String(), Name: one.Name})
	}
	for _, h := range holds {
		shown := shownHold{ID: h.ID.String(), Covers: word(v.lang, "covers_"+h.Kind), Why: h.Why, Placed: h.Placed.UTC(), Lifted: h.Lifted != nil}
		if h.Subject != nil && h.Kind != "widget" {
			switch ref, err := s.cfg.Gate.Reference(ctx, organisation, *h.Subject); {
			case err == nil:
				shown.Covers += " " + ref
			case errors.Is(err, access.ErrErased):
				shown.Covers = word(v.lang, "erasedSubject")
			}
		}
		if i := slices.IndexFunc(widgets, func(w chat.Widget) bool { return h.Kind == "widget" && h.Subject != nil && w.ID == *h.Subject }); i >= 0 {
			shown.Covers += " " + widgets[i].Name
		}
		if h.Since != nil {
			shown.Since = longDate(v.lang, h.Since.UTC())
		}
		if h.Until != nil {
			shown.Until = longDate(v.lang, h.Until.UTC())
		}
		page.Holds = append(page.Holds, shown)
	}
	erasures, err := s.cfg.Control.Erasures(ctx, organisation, controlsShown)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	for _, e := range erasures {
		of := word(v.lang, "covers_"+e.Kind)
		if e.Certificate != nil && e.Kind != "organisation" {
			of = erased{e.Reference: {Certificate: *e.Certificate}}.handle(v.lang, audit.Party{Kind: e.Kind, Ref: e.Reference}) + " (" + of + ")"
		} else if e.Kind != "organisation" {
			of = handle(v.lang, audit.Party{Kind: e.Kind, Ref: e.Reference})
		}
		page.Erasures = append(page.Erasures, shownErasure{e.ID.String(), of, e.Ordered.UTC(), e.Order, e.Certificate})
	}
	s.show(w, r, v, admin, status, "controls", page, "/controls")
}

// controlled finds whom or what a form is about.
func (s *Server) controlled(r *http.Request, admin principal.Admin) (control.Subject, error) {
	kind, ref := r.FormValue("kind"), strings.TrimSpace(r.FormValue("ref"))
	if kind == "organisation" {
		return control.Whole(admin.Organisation()), nil
	}
	if kind != "visitor" && kind != "agent" && kind != "conversation" || ref == "" || len(ref) > 64 {
		return control.Subject{}, access.ErrUnknown
	}
	id, _, err := s.cfg.Gate.Find(r.Context(), admin.Organisation(), kind, ref, s.cfg.Now())
	return control.Subject{Organisation: admin.Organisation(), Kind: kind, ID: id}, err
}

// notControlled answers what an act of this page ended in.
func (s *Server) notControlled(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, purpose policy.Purpose, err error) {
	for what, problem := range map[error]string{control.ErrGone: "controlsNothing", access.ErrUnknown: "controlsNothing", control.ErrOpen: "controlsOpen", control.ErrHeld: "controlsHeldNo", control.ErrNoEraser: "controlsNoEraser", errControls: "controlsBad"} {
		if errors.Is(err, what) {
			s.showControls(w, r, v, admin, http.StatusConflict, controlsPage{Problem: problem})
			return
		}
	}
	s.failed(w, r, v, admin, purpose, err)
}

var errControls = errors.New("the form is not as it must be")

// becauseOf keeps the reason of a form.
func (s *Server) becauseOf(r *http.Request, admin principal.Admin) (access.Grounds, error) {
	why, err := s.cfg.Gate.Justify(r.Context(), admin.Organisation(), r.PostFormValue("reason"))
	return access.Grounds{Justification: why}, err
}

// dayOf reads a day of a form; nil when it is empty.
func dayOf(r *http.Request, name string) (*time.Time, error) {
	text := strings.TrimSpace(r.PostFormValue(name))
	if text == "" {
		return nil, nil
	}
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return nil, errControls
	}
	return &at, nil
}

func (s *Server) setRetention(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	class := r.PostFormValue("class")
	days, err := strconv.Atoi(r.PostFormValue("days"))
	from, errFrom := dayOf(r, "from")
	now := s.cfg.Now()
	if err != nil || errFrom != nil || class != control.Backup && class != control.Archive && !slices.Contains(control.Classes(), class) || from != nil && from.Before(now.Add(-24*time.Hour)) {
		s.notControlled(w, r, v, admin, policy.ControlData, errControls)
		return
	}
	if from == nil {
		from = new(time.Time) // at once
	}
	on, err := s.becauseOf(r, admin)
	if err == nil {
		err = s.cfg.Control.SetRetention(r.Context(), admin, admin.Organisation(), class, max(days, 0), *from, on)
	}
	if err != nil {
		s.notControlled(w, r, v, admin, policy.ControlData, err)
		return
	}
	http.Redirect(w, r, "/controls", http.StatusSeeOther)
}

func (s *Server) placeHold(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	hold := control.Hold{Kind: r.PostFormValue("kind")}
	since, errSince := dayOf(r, "since")
	until, errUntil := dayOf(r, "until")
	err := errors.Join(errSince, errUntil)
	if since != nil && until != nil && !since.Before(*until) {
		err = errControls
	}
	hold.Since, hold.Until = since, until
	if err == nil && hold.Kind == "widget" {
		var widget uuid.UUID
		if widget, err = uuid.Parse(r.PostFormValue("widget")); err != nil {
			err = errControls
		}
		hold.Subject = &widget
	} else if err == nil && hold.Kind != "range" {
		var subject control.Subject
		if subject, err = s.controlled(r, admin); subject.Kind == "visitor" || subject.Kind == "agent" {
			hold.Kind = "person"
		}
		hold.Subject = &subject.ID
	}
	var on access.Grounds
	if err == nil {
		on, err = s.becauseOf(r, admin)
	}
	if err == nil {
		_, err = s.cfg.Control.PlaceHold(r.Context(), admin, admin.Organisation(), hold, on)
	}
	if err != nil {
		s.notControlled(w, r, v, admin, policy.ControlData, err)
		return
	}
	http.Redirect(w, r, "/controls", http.StatusSeeOther)
}

func (s *Server) liftHold(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	on, err := s.becauseOf(r, admin)
	if err == nil {
		err = s.cfg.Control.LiftHold(r.Context(), admin, admin.Organisation(), id, on)
	}
	if err != nil {
		s.notControlled(w, r, v, admin, policy.ControlData, err)
		return
	}
	http.Redirect(w, r, "/controls", http.StatusSeeOther)
}

func (s *Server) erase(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if r.PostFormValue("kind") == "organisation" {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	subject, err := s.controlled(r, admin)
	var on access.Grounds
	if err == nil {
		on, err = s.becauseOf(r, admin)
	}
	if err == nil {
		_, err = s.cfg.Control.Erase(r.Context(), admin, subject, on)
	}
	if err != nil {
		s.notControlled(w, r, v, admin, policy.EraseData, err)
		return
	}
	http.Redirect(w, r, "/controls", http.StatusSeeOther)
}

// certificate hands out the certificate of an erasure: in words, or as a record with its proof, which is checked without this service.
func (s *Server) certificate(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	head, first, err := s.read(r, admin, "console.certificate", map[string]string{"erasure": id.String()})
	if err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	e, err := s.cfg.Control.Erasure(ctx, organisation, id)
	if err == nil && r.FormValue("as") == "text" {
		var until *time.Time
		if until, err = s.cfg.Control.Backups(ctx, organisation); err == nil {
			download(w, "text/plain; charset=utf-8", "erasure-"+id.String()+".txt", []byte(control.CertificateText(v.lang, head.Origin, e, until)))
			return
		}
	}
	switch {
	case errors.Is(err, control.ErrGone), err == nil && e.Certificate == nil:
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	case err == nil && *e.Certificate < first:
		s.say(w, r, v, admin, http.StatusGone, "pruned")
		return
	}
	var file []byte
	if err == nil {
		file, err = s.cfg.Log.Certificate(ctx, organisation, *e.Certificate)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	download(w, "application/json", "erasure-"+id.String()+".json", file)
}

// wholeOrganisation is what a consent to erase the organisation is about.
const wholeOrganisation = "organisation"

// eraseOrganisation orders what a second person consented to; the queue does it.
func (s *Server) eraseOrganisation(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	var a access.Approval
	if err == nil {
		a, err = s.cfg.Gate.Approval(r.Context(), admin.Organisation(), id)
	}
	if err != nil || a.Kind != access.ForErasure {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	var on access.Grounds
	if on.Justification, err = s.cfg.Gate.Justify(r.Context(), admin.Organisation(), a.Why); err == nil {
		on.Consent, err = s.cfg.Gate.Consent(r.Context(), admin, a.Kind, uuid.Nil, a.About)
	}
	var erasure uuid.UUID
	if err == nil {
		erasure, err = s.cfg.Control.OrderErasure(r.Context(), admin, control.Whole(admin.Organisation()), on)
	}
	if err == nil {
		err = s.cfg.Enqueue(r.Context(), admin.Organisation(), erasure)
	}
	if err != nil {
		s.notControlled(w, r, v, admin, policy.EraseOrganisation, err)
		return
	}
	http.Redirect(w, r, "/controls", http.StatusSeeOther)
}
