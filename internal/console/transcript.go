package console

import (
	"net/http"
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

// transcriptPage asks why a conversation is to be read.
type transcriptPage struct {
	person
	May, Emergency bool
}

// asksFor reads which conversation a request is about.
func (s *Server) asksFor(r *http.Request, lang string) (p person, at time.Time, ok bool) {
	at = time.Now()
	if micros, err := strconv.ParseInt(r.FormValue("at"), 10, 64); err == nil {
		at = time.UnixMicro(micros)
	}
	p = personOf(lang, audit.Party{Kind: "conversation", Ref: r.FormValue("ref")}, at)
	return p, at, p.Ref != "" && p.Ref != "erased" && len(p.Ref) <= 64
}

// mayRead says on what grounds an administrator could read a conversation: his role, or the consent of somebody else.
func (s *Server) mayRead(r *http.Request, admin principal.Admin, conversation uuid.UUID) (byRole bool, consent access.Consent, err error) {
	if slices.Contains(admin.Roles(), "privacy_officer") {
		return true, consent, nil
	}
	consent, err = s.cfg.Gate.Consent(r.Context(), admin, access.ForBreakGlass, conversation, "")
	return false, consent, err
}

func (s *Server) showTranscript(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, at, ok := s.asksFor(r, v.lang)
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
		return
	}
	if _, _, err := s.read(r, admin, "console.transcript", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	conversation, _, err := s.cfg.Gate.Find(r.Context(), admin.Organisation(), p.Kind, p.Ref, at)
	page := transcriptPage{person: p}
	var consent access.Consent
	if err == nil {
		page.May, consent, err = s.mayRead(r, admin, conversation)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ReadTranscript, err)
		return
	}
	page.Emergency = consent.Given()
	s.show(w, r, v, admin, http.StatusOK, "transcript-ask", page, "")
}

// writtenPage is a conversation as it was written, shown once.
type writtenPage struct {
	person
	Lines  []said
	Record uint64
	Why    string
	Cut    bool
}

// said is a message, or something that happened.
type said struct {
	By, Party, Text, Happened string
	Time                      time.Time
}

// transcript shows a conversation to whom policy allows it, after that is on record.
func (s *Server) transcript(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, at, ok := s.asksFor(r, v.lang)
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
		return
	}
	ctx, organisation, purpose := r.Context(), admin.Organisation(), policy.ReadTranscript
	id, _, err := s.cfg.Gate.Find(ctx, organisation, p.Kind, p.Ref, at)
	var scene access.Scene
	if err == nil {
		scene, err = s.cfg.Scene(ctx, organisation, id)
	}
	var on access.Grounds
	if err == nil {
		on.Justification, err = s.cfg.Gate.Justify(ctx, organisation, r.PostFormValue("reason"))
	}
	reader := s.cfg.TranscriptToAdmin
	if err == nil {
		_, on.Consent, err = s.mayRead(r, admin, id)
	}
	if on.Consent.Given() {
		purpose, reader = policy.BreakGlass, s.cfg.TranscriptInEmergency
	}
	var t access.Transcript
	if err == nil {
		t, err = reader.Read(ctx, admin, scene, on)
	}
	if err != nil {
		s.failed(w, r, v, admin, purpose, err)
		return
	}
	page := writtenPage{person: p, Record: t.Receipt.Index(), Why: r.PostFormValue("reason"), Cut: t.Cut}
	for _, m := range t.Messages {
		l := said{By: word(v.lang, "kind_"+string(m.By)), Party: string(m.By), Time: m.At.UTC()}
		if m.Kind == chat.Message {
			l.Text = euii.Reveal(m.Text)
		} else {
			l.Happened = word(v.lang, "happened_"+string(m.Kind))
		}
		page.Lines = append(page.Lines, l)
	}
	s.show(w, r, v, admin, http.StatusOK, "transcript", page, "")
}
