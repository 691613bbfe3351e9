package console

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// person is somebody whom a reference in a record stands for.
type person struct {
	Kind, Ref, At string // At is when the record was made, in microseconds
	Handle        string
}

func personOf(lang string, p audit.Party, at time.Time) person {
	return person{p.Kind, p.Ref, strconv.FormatInt(at.UnixMicro(), 10), handle(lang, p)}
}

// Link leads to the page on which one asks to see him; empty when he is nobody of whom a name is kept.
func (p person) Link() string { return p.to("/reveal") }

// Ask leads to the page on which one asks a second person for consent to see him.
func (p person) Ask() string {
	if p.Kind == "conversation" {
		return "/approvals/ask?" + p.query()
	}
	return p.to("/approvals/ask")
}

// Transcript leads to the page on which one asks to read what was written; empty for what is no conversation.
func (p person) Transcript() string {
	if p.Kind != "conversation" || p.Ref == "" || p.Ref == "erased" {
		return ""
	}
	return "/transcript?" + p.query()
}

func (p person) query() string {
	return url.Values{"kind": {p.Kind}, "ref": {p.Ref}, "at": {p.At}}.Encode()
}

func (p person) to(page string) string {
	if p.Kind != "agent" && p.Kind != "visitor" || p.Ref == "" || p.Ref == "erased" {
		return ""
	}
	return page + "?" + p.query()
}

// asked reads whom a request is about. Without a time the search begins with those of today.
func (s *Server) asked(r *http.Request, lang string) (p person, at time.Time, ok bool) {
	at = time.Now()
	if micros, err := strconv.ParseInt(r.FormValue("at"), 10, 64); err == nil {
		at = time.UnixMicro(micros)
	}
	p = personOf(lang, audit.Party{Kind: r.FormValue("kind"), Ref: r.FormValue("ref")}, at)
	return p, at, p.Link() != "" && len(p.Ref) <= 64
}

// revealPage asks why a person is to be shown.
type revealPage struct {
	person
	Masked, Plain bool // what policy will show
	Emergency     bool // somebody else consented
}

func (s *Server) showReveal(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, at, ok := s.asked(r, v.lang)
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
		return
	}
	if _, _, err := s.read(r, admin, "console.reveal", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	if there, err := s.stillThere(r.Context(), admin, p); err != nil || !there {
		s.failed(w, r, v, admin, policy.RevealToAdmin, cmp.Or(err, access.ErrUnknown))
		return
	}
	page := revealPage{person: p, Plain: slices.Contains(admin.Roles(), "privacy_officer")}
	page.Masked = !page.Plain && slices.Contains(admin.Roles(), "auditor")
	if !page.Plain {
		subject, _, err := s.cfg.Gate.Find(r.Context(), admin.Organisation(), p.Kind, p.Ref, at)
		if err != nil {
			s.failed(w, r, v, admin, policy.RevealToAdmin, err)
			return
		}
		consent, err := s.cfg.Gate.Consent(r.Context(), admin, access.ForBreakGlass, subject, "")
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		page.Emergency = consent.Given()
	}
	s.show(w, r, v, admin, http.StatusOK, "reveal", page, "")
}

// revealedPage shows a person, once.
type revealedPage struct {
	person
	Name, Email string
	Masked      bool
	Record      uint64
	Why         string
}

// reveal shows a person to whom policy allows it, after that is on record.
func (s *Server) reveal(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, at, ok := s.asked(r, v.lang)
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
		return
	}
	ctx, organisation := r.Context(), admin.Organisation()
	subject, row, err := s.cfg.Gate.Find(ctx, organisation, p.Kind, p.Ref, at)
	if err != nil {
		s.failed(w, r, v, admin, policy.RevealToAdmin, err)
		return
	}
	on, purpose := access.Grounds{}, policy.RevealToAdmin
	if on.Justification, err = s.cfg.Gate.Justify(ctx, organisation, r.PostFormValue("reason")); err != nil {
		s.failed(w, r, v, admin, purpose, err)
		return
	}
	agents, visitors := s.cfg.AgentToAdmin, s.cfg.VisitorToAdmin
	if !slices.Contains(admin.Roles(), "privacy_officer") {
		if on.Consent, err = s.cfg.Gate.Consent(ctx, admin, access.ForBreakGlass, subject, ""); err != nil {
			s.trouble(w, r, v, err)
			return
		}
		if on.Consent.Given() {
			purpose, agents, visitors = policy.BreakGlass, s.cfg.AgentInEmergency, s.cfg.VisitorInEmergency
		}
	}
	scene := access.Scene{Conversation: chat.Conversation{Organisation: organisation}}
	if row != subject {
		scene.Conversation.ID = row
	}
	page := revealedPage{person: p, Why: r.PostFormValue("reason")}
	if p.Kind == "agent" {
		page, err = s.disclose(r, admin, agents, scene, subject, row, on, page, euii.AgentDisplayName, euii.AgentEmail)
	} else {
		page, err = s.disclose(r, admin, visitors, scene, subject, row, on, page, euii.VisitorDisplayName, euii.VisitorEmail)
	}
	if err != nil {
		s.failed(w, r, v, admin, purpose, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "revealed", page, "")
}

func (s *Server) disclose(r *http.Request, admin principal.Admin, reader access.Reader[euii.Admin], scene access.Scene, subject, row uuid.UUID, on access.Grounds, page revealedPage, name, email euii.Field) (revealedPage, error) {
	d, err := reader.ReadOn(r.Context(), admin, scene, subject, row, on)
	if err != nil {
		return page, err
	}
	page.Name, page.Email, page.Masked, page.Record = euii.Reveal(d.Value(name)), euii.Reveal(d.Value(email)), d.Masked(), d.Receipt().Index()
	return page, nil
}
