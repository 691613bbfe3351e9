// Package widget is the visitor's side of a conversation: the script a website includes, the frame it opens, and the
// requests that frame makes.
//
// It promises that a website learns nothing of what its visitors write (the frame is of another origin and speaks with
// the page about its size only), that nothing happens before the visitor asks for it, that every request is bounded in
// size, time and number, and that no answer tells a stranger whether something exists. This package and its frame are
// one of the edges where cleared values are revealed: into the event stream of the one visitor they were cleared for.
package widget

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/relay"
	"counterfoil/internal/stream"
	"counterfoil/internal/subject"
	"counterfoil/internal/web"
)

// Config is what the widget's server is made of.
type Config struct {
	Relay     *relay.Relay
	Hub       *stream.Hub
	PublicURL string                         // where the frame is served, such as https://chat.example
	Origins   []string                       // further origins the frame may be served under
	Address   func(*http.Request) netip.Addr // the visitor's address, behind whatever proxies are trusted
	Now       func() time.Time               // time.Now when nil
	Logger    *slog.Logger

	People     subject.Desk                       // what people ask about their data
	Own        access.Reader[euii.Visitor]        // a visitor sees what is kept of him
	ForVisitor access.Conversations[euii.Visitor] // and what he wrote
	Collector  access.Collector                   // and corrects it
}

// Server answers the widget's requests.
type Server struct {
	cfg     Config
	assets  *assets
	origins []string

	openings *limiter[netip.Prefix]
	messages *limiter[uuid.UUID] // by conversation, as all below
	notices  *limiter[uuid.UUID] // typing
	streams  *limiter[uuid.UUID]
	own      *limiter[uuid.UUID] // his own data
}

// requestLimit is how long one request may take, apart from streams.
const requestLimit = 15 * time.Second

// New makes a Server. It fails when PublicURL is not the URL of a server's root.
func New(c Config) (*Server, error) {
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("public URL %q is not of the form https://host", c.PublicURL)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	a, err := loadAssets()
	if err != nil {
		return nil, err
	}
	const room = 50_000
	return &Server{
		cfg: c, assets: a, origins: append([]string{u.Scheme + "://" + u.Host}, c.Origins...),
		// Thirty, and one more every two minutes: a whole office behind one address can write to us in the same
		// hour, and a machine gets no further than a person with patience.
		openings: newLimiter[netip.Prefix](rate.Every(2*time.Minute), 30, room, c.Now),
		messages: newLimiter[uuid.UUID](rate.Every(time.Second), 5, room, c.Now),
		notices:  newLimiter[uuid.UUID](rate.Every(time.Second), 3, room, c.Now),
		streams:  newLimiter[uuid.UUID](rate.Every(time.Second), 20, room, c.Now),
		own:      newLimiter[uuid.UUID](rate.Every(3*time.Second), 20, room, c.Now),
	}, nil
}

// Start passes on what the relay's hints say to the open streams.
func (s *Server) Start() error {
	if err := s.cfg.Relay.OnMoved(func(c uuid.UUID) { s.cfg.Hub.Wake(c) }); err != nil {
		return fmt.Errorf("follow moved conversations: %w", err)
	}
	frame := stream.AppendFrame(nil, 0, "typing", []byte(`{"by":"agent"}`))
	err := s.cfg.Relay.OnTyping(func(_, c uuid.UUID, by chat.Party) {
		if by == chat.PartyAgent {
			s.cfg.Hub.Push(c, frame)
		}
	})
	if err != nil {
		return fmt.Errorf("follow typing: %w", err)
	}
	return nil
}

// Routes adds the widget's routes.
func (s *Server) Routes(r chi.Router) {
	r.Get("/widget/loader.js", s.loader)
	r.Get("/widget/assets/{file}", s.asset)
	r.Get("/widget/{key}/frame", s.frame)
	r.Route("/v1", func(r chi.Router) {
		r.Use(s.guard)
		r.Get("/widgets/{key}/notice", s.showNotice)
		r.Post("/widgets/{key}/conversations", s.open)
		r.Get("/conversation", s.withSession(s.state))
		r.Post("/conversation/messages", s.withSession(s.say))
		r.Post("/conversation/typing", s.withSession(s.typing))
		r.Post("/conversation/end", s.withSession(s.end))
		r.Get("/conversation/events", s.withSession(s.events))
		r.Get("/your-data", s.withSession(s.showYourData))
		r.Get("/your-data/file", s.withSession(s.yourFile))
		r.Post("/your-data/requests", s.withSession(s.askAboutYourData))
		r.Post("/your-data/correct", s.withSession(s.correctYourData))
		r.Get("/your-data/file.schema.json", s.schema)
		r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
			web.Problem(w, http.StatusNotFound, "not-found", "there is nothing under this address")
		})
		r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
			web.Problem(w, http.StatusMethodNotAllowed, "method", "this address does not take this method")
		})
	})
}

// guard sets what all answers have in common and refuses changes that a page of another origin asks for. No cookie is
// ever used, so such a page could do nothing a stranger cannot; this only keeps it from trying.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if origin := r.Header.Get("Origin"); r.Method != http.MethodGet && origin != "" && !slices.Contains(s.origins, origin) {
			web.Problem(w, http.StatusForbidden, "origin", "requests from pages of other origins are refused")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Stale is the safety look of a hub that holds visitors' streams: it asks storage which conversations have moved on.
func Stale(r *relay.Relay) func(context.Context, [16]byte, []stream.Position) ([]stream.Topic, error) {
	return func(ctx context.Context, organisation [16]byte, at []stream.Position) ([]stream.Topic, error) {
		ids, after := make([]uuid.UUID, len(at)), make([]int64, len(at))
		for i, p := range at {
			ids[i], after[i] = p.Topic, p.After
		}
		moved, err := r.Stale(ctx, organisation, ids, after)
		if err != nil {
			return nil, err
		}
		topics := make([]stream.Topic, len(moved))
		for i, id := range moved {
			topics[i] = id
		}
		return topics, nil
	}
}
