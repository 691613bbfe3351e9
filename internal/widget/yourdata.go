package widget

import (
	"context"
	"errors"
	"iter"
	"mime"
	"net/http"
	"slices"
	"time"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/subject"
	"counterfoil/internal/web"
)

// The visitor of a session sees, gets, corrects and restricts what is kept of him. The token of the session is what says that he is the one: it
// was given to the browser that wrote, is kept in one tab, and is good for a day. It covers this one conversation, since a visitor is known
// by nothing else; whoever wrote twice is two visitors.

// shownAtOnce is how much of who was shown what is seen without the file.
const shownAtOnce = 50

type yourValue struct {
	Field string    `json:"field"`
	Text  string    `json:"value"`
	Since time.Time `json:"since"`
}

type yourShown struct {
	At      time.Time `json:"at"`
	To      string    `json:"to"`
	What    string    `json:"what"`
	Why     string    `json:"why"`
	Outcome string    `json:"outcome"`
	Record  uint64    `json:"record"`
}

type yourRequest struct {
	What     string    `json:"what"`
	State    string    `json:"state"`
	Open     bool      `json:"open"`
	Received time.Time `json:"received_at"`
	Due      time.Time `json:"due_at"`
}

type yourKeeping struct {
	What    string `json:"what"`
	HowLong string `json:"how_long"`
}

type yourData struct {
	Handle     string        `json:"handle"`
	Values     []yourValue   `json:"values"`
	Restricted bool          `json:"restricted"`
	KeptFor    []yourKeeping `json:"kept_for"`
	Requests   []yourRequest `json:"requests"`
	Shown      []yourShown   `json:"shown"`
	More       bool          `json:"more"` // than is shown here
}

// own makes the session's visitor and what may be asked about him.
func own(session relay.Session) (principal.Visitor, subject.Person) {
	return principal.NewVisitor(session.Organisation, session.Visitor), subject.Person{Organisation: session.Organisation, Kind: "visitor", ID: session.Visitor}
}

func languageOf(r *http.Request) string {
	if r.URL.Query().Get("lang") == "fr" {
		return "fr"
	}
	return "en"
}

// file begins the visitor's file: his values are opened, for him, which is recorded.
func (s *Server) file(ctx context.Context, session relay.Session) (subject.File, access.Scene, error) {
	who, person := own(session)
	scene, err := s.cfg.Relay.Scene(ctx, session.Organisation, session.Conversation)
	if err != nil {
		return subject.File{}, scene, err
	}
	organisation, err := s.cfg.Relay.Organisation(ctx, session.Organisation)
	if err != nil {
		return subject.File{}, scene, err
	}
	d, err := s.cfg.Own.Read(ctx, who, scene, session.Visitor, session.Conversation)
	if err != nil {
		return subject.File{}, scene, err
	}
	f, err := s.cfg.People.Begin(ctx, person, organisation.Name)
	if err != nil {
		return f, scene, err
	}
	kept, err := s.cfg.People.Gate.Kept(ctx, session.Organisation, session.Visitor)
	for _, k := range kept {
		if text := euii.Reveal(d.Value(k.Field)); text != "" && k.Row == session.Conversation {
			f.Values = append(f.Values, subject.Value{Field: k.Field.String(), Text: text, Since: k.Since.UTC()})
		}
	}
	return f, scene, err
}

func (s *Server) showYourData(w http.ResponseWriter, r *http.Request, session relay.Session) {
	if !s.own.allow(session.Conversation) {
		failRate(w, "your data was asked for too often")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	f, _, err := s.file(ctx, session)
	if err != nil {
		s.failOwn(w, r, err)
		return
	}
	lang := languageOf(r)
	out := yourData{Handle: f.Handle, Restricted: f.Restricted, Values: []yourValue{}, KeptFor: []yourKeeping{}, Requests: []yourRequest{}, Shown: []yourShown{}}
	for _, v := range f.Values {
		out.Values = append(out.Values, yourValue(v))
	}
	for _, k := range f.KeptFor {
		out.KeptFor = append(out.KeptFor, yourKeeping{subject.Word(lang, "keeps_"+k.What), k.In(lang)})
	}
	for _, a := range f.Asked {
		out.Requests = append(out.Requests, yourRequest{subject.Word(lang, "ask_"+a.Kind), subject.Word(lang, "state_"+a.State), a.State == "open", a.Received, a.Due})
	}
	for one, err := range f.Shown {
		if err != nil {
			s.failOwn(w, r, err)
			return
		}
		if out.More = len(out.Shown) == shownAtOnce; out.More {
			break
		}
		out.Shown = append(out.Shown, yourShown{one.At.UTC(), one.To, subject.FieldNames(lang, one.What), subject.Why(lang, one.Why), one.Outcome, one.Record})
	}
	web.JSON(w, http.StatusOK, out)
}

// askAboutYourData takes what the visitor asks: that it be restricted, that this be lifted, that he objects, or that it be erased.
func (s *Server) askAboutYourData(w http.ResponseWriter, r *http.Request, session relay.Session) {
	if !s.own.allow(session.Conversation) {
		failRate(w, "your data was asked for too often")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	f, err := readFields(w, r, "kind", "language")
	if err != nil {
		failBody(w, err)
		return
	}
	if !slices.Contains([]string{access.AsksRestriction, access.AsksObjection, access.AsksErasure, subject.Lift}, f["kind"]) || !slices.Contains(chat.Languages(), f["language"]) {
		web.Problem(w, http.StatusBadRequest, "invalid", "kind must be restriction, lift, objection or erasure, and language en or fr")
		return
	}
	who, person := own(session)
	if err := s.cfg.People.Ask(ctx, who, person, f["kind"], "widget", access.ByToken, f["language"]); err != nil {
		s.failOwn(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// correctYourData keeps another name or email, or none, in place of the one there was.
func (s *Server) correctYourData(w http.ResponseWriter, r *http.Request, session relay.Session) {
	if !s.own.allow(session.Conversation) {
		failRate(w, "your data was asked for too often")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	f, err := readFields(w, r, "name", "email", "language")
	if err != nil {
		failBody(w, err)
		return
	}
	name, email := euii.InboundTrim(euii.Receive(f["name"])), euii.InboundTrim(euii.Receive(f["email"]))
	detail := ""
	if err := euii.CheckInbound(name, maxName, false); err != nil {
		detail = "name: " + err.Error()
	} else if err := euii.CheckInbound(email, maxEmail, false); err != nil {
		detail = "email: " + err.Error()
	} else if !slices.Contains(chat.Languages(), f["language"]) {
		detail = "language must be en or fr"
	}
	if detail != "" {
		web.Problem(w, http.StatusBadRequest, "invalid", detail)
		return
	}
	who, person := own(session)
	scene, err := s.cfg.Relay.Scene(ctx, session.Organisation, session.Conversation)
	if err == nil {
		err = s.cfg.People.Correct(ctx, who, s.cfg.Collector, scene, person, session.Conversation, "widget", access.ByToken, f["language"], true,
			access.Field{Name: euii.VisitorDisplayName, Value: name}, access.Field{Name: euii.VisitorEmail, Value: email})
	}
	if err != nil {
		s.failOwn(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fileTime bounds the writing of a file, which may be long.
const fileTime = 10 * time.Minute

// yourFile sends the visitor's whole file, for programs or for people.
func (s *Server) yourFile(w http.ResponseWriter, r *http.Request, session relay.Session) {
	if !s.own.allow(session.Conversation) {
		failRate(w, "your data was asked for too often")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), fileTime)
	defer cancel()
	f, scene, err := s.file(ctx, session)
	if err != nil {
		s.failOwn(w, r, err)
		return
	}
	who, _ := own(session)
	f.Messages = s.messagesOf(ctx, s.cfg.ForVisitor.Follow(who), scene)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTime)) // where there is none it cannot be set
	if r.URL.Query().Get("as") == "html" {
		attach(w, "text/html; charset=utf-8", "your-data.html")
		err = f.WriteHTML(w, languageOf(r))
	} else {
		attach(w, "application/json", "your-data.json")
		err = f.WriteJSON(w)
	}
	if err != nil {
		if r.Context().Err() == nil {
			s.cfg.Logger.ErrorContext(r.Context(), "visitor's file broke off", "error", err)
		}
		panic(http.ErrAbortHandler) // so that what was sent does not pass for the whole
	}
}

func attach(w http.ResponseWriter, kind, name string) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
}

// messagesOf reads the visitor's conversation page by page.
func (s *Server) messagesOf(ctx context.Context, f *access.Following[euii.Visitor], scene access.Scene) iter.Seq2[subject.Message, error] {
	return func(yield func(subject.Message, error) bool) {
		for after := int64(0); after < scene.Conversation.LastSeq; {
			page, err := f.Read(ctx, scene, after, relay.FollowLimit)
			if err != nil {
				yield(subject.Message{}, err)
				return
			}
			for _, m := range page {
				after = m.Seq
				if m.Kind != chat.Message {
					continue
				}
				by := string(m.By)
				if m.By == chat.PartyAgent {
					if by, err = s.cfg.Relay.Handle(ctx, scene.Conversation.Organisation, "agent", m.ByID); err != nil {
						yield(subject.Message{}, err)
						return
					}
				}
				if !yield(subject.Message{Conversation: scene.Conversation.ID.String(), Number: m.Seq, By: by, At: m.At.UTC(), Text: euii.Reveal(m.Text)}, nil) {
					return
				}
			}
		}
	}
}

// schema describes the file for programs.
func (s *Server) schema(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/schema+json")
	_, _ = w.Write(subject.Schema) // whoever asked may have gone
}

// failOwn is failWith for what concerns the visitor's own data.
func (s *Server) failOwn(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, access.ErrErased) {
		web.Problem(w, http.StatusGone, "erased", "this was erased; nothing is kept")
		return
	}
	s.failWith(w, r, err)
}
