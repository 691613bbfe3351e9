package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
	"counterfoil/internal/subject"
	"counterfoil/policy"
)

// peopleRoutes are the pages of notices, and of what people ask about their own data.
func (s *Server) peopleRoutes(r chi.Router) {
	r.Get("/notices", s.signedIn(s.notices))
	s.act(r, "/notices/draft", s.draftNotice)
	s.act(r, "/notices/publish", s.publishNotice)
	r.Get("/requests", s.signedIn(s.requests))
	r.Get("/requests/new", s.signedIn(s.newRequest))
	r.Get("/requests/{id}", s.signedIn(s.request))
	s.act(r, "/requests/find", s.findPerson)
	s.act(r, "/requests/open", s.openRequest)
	s.act(r, "/requests/step", s.stepRequest)
	s.act(r, "/requests/use", s.restrictUse)
	s.act(r, "/requests/correct", s.correct)
	s.act(r, "/requests/erase", s.eraseAsked)
	s.act(r, "/requests/file", s.file)
}

// asked is a request in words.
type asked struct {
	ID, What, Who, Kind, Ref       string
	Source, Identified, State      string
	Received, Due, Extended, Ended string
	Letter                         string
	Days                           int64 // until it is due; below zero since
	Open, Overdue, Proven          bool
	Extendable                     bool
}

func askedOf(lang string, r access.Request, now time.Time) asked {
	a := asked{
		ID: r.ID.String(), What: subject.Word(lang, "ask_"+r.Kind), Who: handle(lang, audit.Party{Kind: r.SubjectKind, Ref: r.Subject}), Kind: r.Kind, Ref: r.Subject,
		Source: word(lang, "source_"+r.Source), Identified: word(lang, "identified_"+r.Identification), State: subject.Word(lang, "state_"+r.State),
		Received: longDate(lang, r.Received), Due: longDate(lang, r.Due), Days: int64(r.Due.Sub(now).Hours()) / 24,
		Open: r.Open(), Overdue: r.Overdue(now), Proven: r.Identification != "", Extendable: r.Open() && r.Extended.IsZero() && !r.Overdue(now),
	}
	if !r.Extended.IsZero() {
		a.Extended = longDate(lang, r.Extended)
	}
	if !r.Closed.IsZero() {
		a.Ended = longDate(lang, r.Closed)
	}
	if r.Subject != "erased" {
		a.Letter = page("/letters/", r.Subject)
	}
	return a
}

// requestList is a table of requests under a title.
type requestList struct {
	Title string
	List  []asked
}

// Requests is the table whose title is the text of this name.
func (v view) Requests(name string, list []asked) view {
	return v.With(requestList{word(v.Lang, name), list})
}

type requestsPage struct {
	Open, Closed []asked
	Overdue      int
}

const requestsShown = 500

func (s *Server) requests(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if err := s.cfg.Gate.Act(r.Context(), admin, policy.HandleRequest, admin.Organisation(), "console.requests", nil); err != nil {
		s.failed(w, r, v, admin, policy.HandleRequest, err)
		return
	}
	all, err := s.cfg.Gate.Requests(r.Context(), admin.Organisation(), uuid.Nil, requestsShown)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	var page requestsPage
	for _, one := range all {
		shown := askedOf(v.lang, one, s.cfg.Now())
		if shown.Open {
			page.Open = append(page.Open, shown)
		} else {
			page.Closed = append(page.Closed, shown)
		}
		if shown.Overdue {
			page.Overdue++
		}
	}
	s.show(w, r, v, admin, http.StatusOK, "requests", page, "/requests")
}

// stepShown is something that was done, in words.
type stepShown struct{ What, Who, Why, At string }

type requestPage struct {
	asked
	Steps           []stepShown
	Held            int
	Restricted      bool
	Visitor         bool
	Identifications []choice
}

// foundPage is who was found by an email: handles, and where one registers what they ask.
type foundPage struct {
	Kind string
	List []foundPerson
}

type foundPerson struct{ Handle, Since, To string }

// findPerson finds whose email an address is, after that is decided and on record. The email is not shown again.
func (s *Server) findPerson(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	kind, email := r.PostFormValue("kind"), euii.InboundTrim(euii.Receive(r.PostFormValue("email")))
	if kind != "visitor" && kind != "agent" || euii.InboundEmpty(email) || euii.CheckInbound(email, 254, false) != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "badForm")
		return
	}
	on, err := s.becauseOf(r, admin)
	var found []access.Found
	if err == nil {
		found, err = s.cfg.Finder.Find(r.Context(), admin, kind, email, on)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.FindPerson, err)
		return
	}
	page := foundPage{Kind: kind}
	for _, f := range found {
		p := personOf(v.lang, audit.Party{Kind: kind, Ref: f.Ref}, f.Since)
		one := foundPerson{Handle: p.Handle, To: p.to("/requests/new")}
		if kind == "visitor" { // of an agent it is not when his profile was made
			one.Since = moment(v.lang, f.Since)
		}
		page.List = append(page.List, one)
	}
	s.show(w, r, v, admin, http.StatusOK, "found-person", page, "")
}

// requested finds the request of a form or an address.
func (s *Server) requested(r *http.Request, admin principal.Admin, id string) (access.Request, []access.Step, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return access.Request{}, nil, access.ErrUnknown
	}
	return s.cfg.Gate.Request(r.Context(), admin.Organisation(), parsed)
}

func (s *Server) request(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.cfg.Gate.Act(r.Context(), admin, policy.HandleRequest, admin.Organisation(), "console.request", map[string]string{access.FactRequest: strings.ToLower(chi.URLParam(r, "id"))})
	var one access.Request
	var steps []access.Step
	if err == nil {
		one, steps, err = s.requested(r, admin, chi.URLParam(r, "id"))
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.HandleRequest, err)
		return
	}
	page := requestPage{asked: askedOf(v.lang, one, s.cfg.Now()), Visitor: one.SubjectKind == "visitor"}
	for _, id := range access.Identifications() {
		page.Identifications = append(page.Identifications, choice{Value: id, Name: word(v.lang, "identified_"+id)})
	}
	for _, step := range steps {
		kind, ref, _ := strings.Cut(step.By, " ")
		page.Steps = append(page.Steps, stepShown{subject.Word(v.lang, "step_"+step.Action), handle(v.lang, audit.Party{Kind: kind, Ref: ref}), step.Why, moment(v.lang, step.At)})
	}
	if page.Restricted, err = s.cfg.Gate.Restricted(r.Context(), admin.Organisation(), one.SubjectID); err == nil {
		var kept control.Report
		kept, err = s.cfg.Control.Kept(r.Context(), control.Subject{Organisation: admin.Organisation(), Kind: one.SubjectKind, ID: one.SubjectID})
		page.Held = len(kept.Holds)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "request", page, "/requests/"+page.ID)
}

// newRequestPage takes in what somebody asked by letter or mail.
type newRequestPage struct {
	person
	Kinds, Sources, Identifications []choice
	Today                           string
}

func (s *Server) newRequest(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, _, ok := s.asked(r, v.lang)
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
		return
	}
	if err := s.cfg.Gate.Act(r.Context(), admin, policy.HandleRequest, admin.Organisation(), "console.new_request", nil); err != nil {
		s.failed(w, r, v, admin, policy.HandleRequest, err)
		return
	}
	if there, err := s.stillThere(r.Context(), admin, p); err != nil || !there {
		s.failed(w, r, v, admin, policy.HandleRequest, cmp.Or(err, access.ErrUnknown))
		return
	}
	page := newRequestPage{person: p, Today: s.cfg.Now().UTC().Format(time.DateOnly)}
	for _, kind := range access.RequestKinds() {
		page.Kinds = append(page.Kinds, choice{Value: kind, Name: subject.Word(v.lang, "ask_"+kind)})
	}
	for _, source := range access.RequestSources() {
		page.Sources = append(page.Sources, choice{Value: source, Name: word(v.lang, "source_"+source)})
	}
	for _, id := range append([]string{""}, access.Identifications()...) {
		page.Identifications = append(page.Identifications, choice{Value: id, Name: word(v.lang, "identified_"+id)})
	}
	s.show(w, r, v, admin, http.StatusOK, "new-request", page, "")
}

// noted keeps what was written, if anything was.
func (s *Server) noted(r *http.Request, admin principal.Admin, name string) (access.Justification, error) {
	if strings.TrimSpace(r.PostFormValue(name)) == "" {
		return access.Justification{}, nil
	}
	return s.cfg.Gate.Justify(r.Context(), admin.Organisation(), r.PostFormValue(name))
}

func (s *Server) openRequest(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, at, ok := s.asked(r, v.lang)
	received, err := time.Parse(time.DateOnly, r.PostFormValue("received"))
	if !ok || err != nil || !slices.Contains(access.RequestSources(), r.PostFormValue("source")) || !slices.Contains(append(access.Identifications(), ""), r.PostFormValue("identified")) {
		s.say(w, r, v, admin, http.StatusBadRequest, "badForm")
		return
	}
	if now := s.cfg.Now(); received.After(now) {
		received = now
	}
	id, _, err := s.cfg.Gate.Find(r.Context(), admin.Organisation(), p.Kind, p.Ref, at)
	var note access.Justification
	if err == nil {
		note, err = s.noted(r, admin, "note")
	}
	if err == nil {
		id, err = s.cfg.Gate.OpenRequest(r.Context(), admin, access.NewRequest{Kind: r.PostFormValue("asks"), SubjectKind: p.Kind, Subject: id, Source: r.PostFormValue("source"),
			Identification: r.PostFormValue("identified"), Language: v.lang, Received: received, Note: note})
	}
	if errors.Is(err, access.ErrRequest) {
		s.say(w, r, v, admin, http.StatusBadRequest, "badForm")
		return
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.HandleRequest, err)
		return
	}
	http.Redirect(w, r, "/requests/"+id.String(), http.StatusSeeOther)
}

// forRequest does something about the request of a form, and shows it afterwards.
func (s *Server) forRequest(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, purpose policy.Purpose, do func(access.Request) error) {
	one, _, err := s.requested(r, admin, r.PostFormValue("id"))
	if err == nil {
		err = do(one)
	}
	switch {
	case errors.Is(err, control.ErrHeld):
		s.say(w, r, v, admin, http.StatusConflict, "requestHeld")
	case errors.Is(err, control.ErrOpen):
		s.say(w, r, v, admin, http.StatusConflict, "requestTalking")
	case errors.Is(err, control.ErrGone):
		s.say(w, r, v, admin, http.StatusGone, "erased")
	case err != nil:
		s.failed(w, r, v, admin, purpose, err)
	default:
		http.Redirect(w, r, "/requests/"+one.ID.String(), http.StatusSeeOther)
	}
}

// stepRequest notes who asks, gives more time, answers, refuses or takes back.
func (s *Server) stepRequest(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	action, identified := r.PostFormValue("action"), r.PostFormValue("identified")
	s.forRequest(w, r, v, admin, policy.HandleRequest, func(one access.Request) error {
		switch {
		case !slices.Contains([]string{access.Identified, access.Extended, access.Answered, access.Declined, access.TakenBack}, action):
			return access.ErrSettled
		case action != access.Identified:
			identified = ""
		case !slices.Contains(access.Identifications(), identified):
			return access.ErrSettled
		}
		why, err := s.noted(r, admin, "reason")
		if err == nil && why == (access.Justification{}) && (action == access.Extended || action == access.Declined) {
			err = access.ErrReason
		}
		if err != nil {
			return err
		}
		return s.cfg.Gate.StepRequest(r.Context(), admin, one, action, identified, why)
	})
}

func (s *Server) restrictUse(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	s.forRequest(w, r, v, admin, policy.HandleRequest, func(one access.Request) error {
		why, err := s.noted(r, admin, "reason")
		if err != nil {
			return err
		}
		return s.cfg.People.Restrict(r.Context(), admin, one, r.PostFormValue("on") == "yes", why)
	})
}

// correct keeps what the person says of himself in place of what was kept.
func (s *Server) correct(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	s.forRequest(w, r, v, admin, policy.AnswerRequest, func(one access.Request) error {
		_, covering, err := s.cfg.Gate.Covering(r.Context(), admin.Organisation(), one.ID)
		if err != nil {
			return err
		}
		text := euii.InboundTrim(euii.Receive(r.PostFormValue("value")))
		if euii.InboundEmpty(text) || euii.CheckInbound(text, 480, false) != nil {
			return access.ErrReason
		}
		field, corrector := euii.AgentDisplayName, s.cfg.AgentCorrector
		if one.SubjectKind == "visitor" {
			field, corrector = euii.VisitorDisplayName, s.cfg.VisitorCorrector
			if r.PostFormValue("field") == "email" {
				field = euii.VisitorEmail
			}
		}
		kept, err := s.cfg.Gate.Kept(r.Context(), admin.Organisation(), one.SubjectID)
		if err != nil {
			return err
		}
		row := one.SubjectID
		if len(kept) > 0 && one.SubjectKind == "visitor" {
			row = kept[0].Row
		}
		scene := access.Scene{Conversation: chat.Conversation{Organisation: admin.Organisation()}}
		err = s.cfg.Gate.Correct(r.Context(), corrector, admin, scene, one.SubjectID, row, access.Grounds{Covering: covering}, access.Field{Name: field, Value: text})
		if err != nil {
			return err
		}
		return s.cfg.Gate.StepRequest(r.Context(), admin, one, access.Corrected, "", access.Justification{})
	})
}

// eraseAsked erases the person, unless a hold forbids it, and answers the request.
func (s *Server) eraseAsked(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	s.forRequest(w, r, v, admin, policy.EraseData, func(one access.Request) error {
		why, err := s.cfg.Gate.Justify(r.Context(), admin.Organisation(), r.PostFormValue("reason"))
		if err != nil {
			return err
		}
		_, err = s.cfg.Control.Erase(r.Context(), admin, control.Subject{Organisation: admin.Organisation(), Kind: one.SubjectKind, ID: one.SubjectID}, access.Grounds{Justification: why})
		if err != nil {
			return err
		}
		for _, step := range []string{access.Erased, access.Answered} {
			if err := s.cfg.Gate.StepRequest(r.Context(), admin, one, step, "", access.Justification{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// fileTime bounds the writing of a file, which may be long.
const fileTime = 10 * time.Minute

// file sends the file of who asked, to be handed to him.
func (s *Server) file(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), fileTime)
	defer cancel()
	one, _, err := s.requested(r, admin, r.PostFormValue("id"))
	var f subject.File
	if err == nil {
		f, err = s.fileOf(ctx, admin, one)
	}
	if err == nil {
		err = s.cfg.Gate.StepRequest(ctx, admin, one, access.FileMade, "", access.Justification{})
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.AnswerRequest, err)
		return
	}
	name := "data-" + one.ID.String()[:8]
	if r.PostFormValue("as") == "html" {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Disposition", "attachment; filename="+name+".html")
		err = f.WriteHTML(w, one.Language)
	} else {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Disposition", "attachment; filename="+name+".json")
		err = f.WriteJSON(w)
	}
	if err != nil {
		s.cfg.Logger.ErrorContext(ctx, "a person's file broke off", "error", err)
		panic(http.ErrAbortHandler) // so that what was sent does not pass for the whole
	}
}

// fileOf opens the file of who asked: his values now, his conversations one after another while it is written.
func (s *Server) fileOf(ctx context.Context, admin principal.Admin, one access.Request) (subject.File, error) {
	organisation := admin.Organisation()
	_, covering, err := s.cfg.Gate.Covering(ctx, organisation, one.ID)
	if err != nil {
		return subject.File{}, err
	}
	on := access.Grounds{Covering: covering}
	kept, err := s.cfg.Gate.Kept(ctx, organisation, one.SubjectID)
	if err != nil {
		return subject.File{}, err
	}
	reader, row := s.cfg.VisitorFile, one.SubjectID
	if one.SubjectKind == "agent" {
		reader = s.cfg.AgentFile
	} else if len(kept) > 0 {
		row = kept[len(kept)-1].Row
	}
	scene := access.Scene{Conversation: chat.Conversation{Organisation: organisation}}
	if row != one.SubjectID {
		scene.Conversation.ID = row
	}
	d, err := reader.ReadOn(ctx, admin, scene, one.SubjectID, row, on)
	if err != nil {
		return subject.File{}, err
	}
	name, err := s.cfg.OrganisationName(ctx, organisation)
	if err != nil {
		return subject.File{}, err
	}
	f, err := s.cfg.People.Begin(ctx, subject.Person{Organisation: organisation, Kind: one.SubjectKind, ID: one.SubjectID}, name)
	if err != nil {
		return f, err
	}
	for _, k := range kept {
		if text := euii.Reveal(d.Value(k.Field)); text != "" && k.Row == row {
			f.Values = append(f.Values, subject.Value{Field: k.Field.String(), Text: text, Since: k.Since.UTC()})
		}
	}
	if one.SubjectKind == "visitor" {
		f.Messages = s.messagesOf(ctx, admin, f.Person, on)
	}
	return f, nil
}

// errStop ends the reading of a conversation of which no more is wanted.
var errStop = errors.New("no more is wanted")

func (s *Server) messagesOf(ctx context.Context, admin principal.Admin, p subject.Person, on access.Grounds) iter.Seq2[subject.Message, error] {
	return func(yield func(subject.Message, error) bool) {
		for id, err := range s.cfg.People.Conversations(ctx, p) {
			var scene access.Scene
			if err == nil {
				scene, err = s.cfg.Scene(ctx, p.Organisation, id)
			}
			if err == nil {
				err = s.cfg.ConversationFile.Read(ctx, admin, scene, on, func(page []access.Message[euii.Admin]) error {
					for _, m := range page {
						if m.Kind != chat.Message {
							continue
						}
						by := string(m.By)
						if m.By == chat.PartyAgent {
							ref, err := s.cfg.Gate.Reference(ctx, p.Organisation, m.ByID)
							if err != nil && !errors.Is(err, access.ErrErased) {
								return err
							}
							by = chat.Handle("agent", ref)
						}
						if !yield(subject.Message{Conversation: id.String(), Number: m.Seq, By: by, At: m.At.UTC(), Text: euii.Reveal(m.Text)}, nil) {
							return errStop
						}
					}
					return nil
				})
			}
			if errors.Is(err, errStop) {
				return
			}
			if err != nil {
				yield(subject.Message{}, fmt.Errorf("read a conversation of who asked: %w", err))
				return
			}
		}
	}
}
