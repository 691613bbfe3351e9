package widget

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/relay"
	"counterfoil/internal/stream"
	"counterfoil/internal/web"
)

const (
	maxName  = 480 // bytes: 120 characters of any script
	maxEmail = 254 // bytes, the longest address SMTP can carry (RFC 5321 §4.5.3.1.3)
	maxToken = 128 // bytes
)

type opened struct {
	Conversation uuid.UUID `json:"conversation"`
	Token        string    `json:"token"`
	ExpiresAt    time.Time `json:"expires_at"`
	Seq          int64     `json:"seq"`
	Handle       string    `json:"handle"`
}

type numbered struct {
	Seq int64 `json:"seq"`
}

type standing struct {
	State   chat.State `json:"state"`
	LastSeq int64      `json:"last_seq"`
}

func (s *Server) open(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	key := chi.URLParam(r, "key")
	if !keyPattern.MatchString(key) {
		s.failWith(w, r, chat.ErrNotFound)
		return
	}
	f, err := readFields(w, r, "client_id", "text", "language", "notice_version", "name", "email")
	if err != nil {
		failBody(w, err)
		return
	}
	q := relay.OpenRequest{
		Language: f["language"], NoticeVersion: f["notice_version"],
		Text: euii.Receive(f["text"]), Name: euii.InboundTrim(euii.Receive(f["name"])), Email: euii.InboundTrim(euii.Receive(f["email"])),
	}
	if detail := checkOpening(f["client_id"], &q); detail != "" {
		web.Problem(w, http.StatusBadRequest, "invalid", detail)
		return
	}
	if !s.openings.allow(neighbourhood(s.cfg.Address(r))) {
		w.Header().Set("Retry-After", "120")
		web.Problem(w, http.StatusTooManyRequests, "rate", "too many conversations were opened from this network")
		return
	}
	if q.Widget, err = s.cfg.Relay.WidgetByKey(ctx, key); err != nil {
		s.failWith(w, r, err)
		return
	}
	o, err := s.cfg.Relay.Open(ctx, q)
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	web.JSON(w, http.StatusCreated, opened(o))
}

// checkOpening fills in the client's id and says what is wrong with the request, if anything.
func checkOpening(clientID string, q *relay.OpenRequest) string {
	id, ok := parseID(clientID)
	if !ok {
		return "client_id must be a UUID"
	}
	q.ClientID = id
	if q.Language != "en" && q.Language != "fr" {
		return "language must be en or fr"
	}
	if detail := checkText(q.Text); detail != "" {
		return detail
	}
	if err := euii.CheckInbound(q.Name, maxName, false); err != nil {
		return "name: " + err.Error()
	}
	if err := euii.CheckInbound(q.Email, maxEmail, false); err != nil {
		return "email: " + err.Error()
	}
	return ""
}

func checkText(text euii.Inbound) string {
	if euii.InboundEmpty(text) {
		return "text must not be empty"
	}
	if err := euii.CheckInbound(text, chat.MaxMessage, true); err != nil {
		return "text: " + err.Error()
	}
	return ""
}

// parseID takes the 36 characters of RFC 9562 §4 and not the other forms uuid.Parse knows; the zero id means "none"
// elsewhere and is refused.
func parseID(s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && len(s) == 36 && id != uuid.Nil
}

// withSession finds the visitor's session. A token that is absent, malformed, unknown or over is answered alike.
func (s *Server) withSession(next func(http.ResponseWriter, *http.Request, relay.Session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		session, err := relay.Session{}, error(chat.ErrNotFound)
		if strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= maxToken {
			ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
			session, err = s.cfg.Relay.Session(ctx, token)
			cancel()
		}
		switch {
		case errors.Is(err, chat.ErrNotFound):
			w.Header().Set("WWW-Authenticate", "Bearer")
			web.Problem(w, http.StatusUnauthorized, "token", "a token of an open session is needed")
		case err != nil:
			s.failWith(w, r, err)
		default:
			next(w, r, session)
		}
	}
}

func (s *Server) state(w http.ResponseWriter, r *http.Request, session relay.Session) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	scene, err := s.cfg.Relay.Scene(ctx, session.Organisation, session.Conversation)
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, standing{scene.Conversation.State, scene.Conversation.LastSeq})
}

func (s *Server) say(w http.ResponseWriter, r *http.Request, session relay.Session) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	f, err := readFields(w, r, "client_id", "text")
	if err != nil {
		failBody(w, err)
		return
	}
	id, ok := parseID(f["client_id"])
	if !ok {
		web.Problem(w, http.StatusBadRequest, "invalid", "client_id must be a UUID")
		return
	}
	text := euii.Receive(f["text"])
	if detail := checkText(text); detail != "" {
		web.Problem(w, http.StatusBadRequest, "invalid", detail)
		return
	}
	if !s.messages.allow(session.Conversation) {
		failRate(w, "too many messages at once")
		return
	}
	seq, err := s.cfg.Relay.VisitorSays(ctx, session, id, text)
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, numbered{seq})
}

func (s *Server) typing(w http.ResponseWriter, r *http.Request, session relay.Session) {
	if s.notices.allow(session.Conversation) { // a notice too many is dropped: nobody misses it
		s.cfg.Relay.VisitorTypes(r.Context(), session)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) end(w http.ResponseWriter, r *http.Request, session relay.Session) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	seq, err := s.cfg.Relay.VisitorEnds(ctx, session)
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, numbered{seq})
}

// events opens the visitor's stream.
func (s *Server) events(w http.ResponseWriter, r *http.Request, session relay.Session) {
	after := int64(0)
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			web.Problem(w, http.StatusBadRequest, "invalid", "Last-Event-ID must be the number of an event")
			return
		}
		after = n
	}
	// Each stream begins with a recorded decision, so opening them is not free.
	if !s.streams.allow(session.Conversation) {
		failRate(w, "this conversation's stream was opened too often")
		return
	}
	f := &feed{follower: s.cfg.Relay.Follow(session)}
	s.cfg.Hub.Serve(w, r, stream.Stream{
		Owner: session.Organisation, Topic: session.Conversation, After: after, Next: f.next, Until: session.ExpiresAt,
	})
}

// feed turns one visitor's events into frames.
type feed struct {
	follower *relay.Follower
	ready    bool // "ready" was sent, and nothing failed since
}

func (f *feed) next(ctx context.Context, after int64) (stream.Page, error) {
	items, err := f.follower.Next(ctx, after)
	if errors.Is(err, chat.ErrNotFound) { // erased meanwhile: who comes back learns it from the session
		return stream.Page{Last: after, End: true}, nil
	}
	if err != nil {
		f.ready = false
		return stream.Page{}, err
	}
	page := stream.Page{Last: after, More: len(items) >= relay.FollowLimit}
	for _, item := range items {
		name, data, err := encode(item)
		if err != nil {
			return stream.Page{}, err
		}
		page.Frames = stream.AppendFrame(page.Frames, item.Event.Seq, name, data)
		page.Last = item.Event.Seq
		page.End = item.Event.Kind == chat.Ended
	}
	if !page.More && !f.ready {
		f.ready = true
		page.Frames = stream.AppendFrame(page.Frames, 0, "ready", []byte(`{"last":`+strconv.FormatInt(page.Last, 10)+`}`))
	}
	return page, nil
}

type messageData struct {
	Seq      int64      `json:"seq"`
	By       chat.Party `json:"by"`
	ClientID uuid.UUID  `json:"client_id"`
	Text     string     `json:"text"`
	At       time.Time  `json:"at"`
	Agent    string     `json:"agent,omitempty"`
}

type joinedData struct {
	Seq   int64     `json:"seq"`
	Agent string    `json:"agent"`
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
}

type leftData struct {
	Seq   int64     `json:"seq"`
	Agent string    `json:"agent"`
	At    time.Time `json:"at"`
}

type closedData struct {
	Seq int64      `json:"seq"`
	By  chat.Party `json:"by"`
	At  time.Time  `json:"at"`
}

// encode gives an event its name and its data on one line. It is the only place of this package where cleared text
// becomes plain. An event of a kind the frame does not know keeps its number, or the frame would see a gap.
func encode(item relay.Item) (name string, data []byte, err error) {
	e := item.Event
	switch e.Kind {
	case chat.Message:
		data, err = json.Marshal(messageData{e.Seq, e.By, e.ClientID, euii.Reveal(item.Text), e.At.UTC(), item.Agent})
	case chat.AgentJoined:
		data, err = json.Marshal(joinedData{e.Seq, item.Agent, euii.Reveal(item.Name), e.At.UTC()})
	case chat.AgentLeft:
		data, err = json.Marshal(leftData{e.Seq, item.Agent, e.At.UTC()})
	case chat.Ended:
		data, err = json.Marshal(closedData{e.Seq, e.By, e.At.UTC()})
	default:
		data, err = json.Marshal(numbered{e.Seq})
	}
	return string(e.Kind), data, err
}

func failRate(w http.ResponseWriter, detail string) {
	w.Header().Set("Retry-After", "1")
	web.Problem(w, http.StatusTooManyRequests, "rate", detail)
}

// failWith answers with what an error of the relay means to the visitor. Whatever is not the visitor's doing means
// that nothing was done and that asking again is right.
func (s *Server) failWith(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, chat.ErrNotFound):
		web.Problem(w, http.StatusNotFound, "not-found", "there is nothing under this address")
	case errors.Is(err, chat.ErrClosed):
		web.Problem(w, http.StatusConflict, "closed", "the conversation is closed")
	case errors.Is(err, relay.ErrNotice):
		web.Problem(w, http.StatusConflict, "notice-outdated", "the notice has changed; it has to be shown again")
	case errors.Is(err, access.ErrDenied):
		web.Problem(w, http.StatusForbidden, "denied", "this is not permitted here")
	default:
		if !errors.Is(err, access.ErrUnavailable) && r.Context().Err() == nil {
			s.cfg.Logger.ErrorContext(r.Context(), "visitor's request failed", "error", err)
		}
		w.Header().Set("Retry-After", "2")
		web.Problem(w, http.StatusServiceUnavailable, "unavailable", "nothing can be recorded right now; please ask again")
	}
}
