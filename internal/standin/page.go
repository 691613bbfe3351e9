package standin

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"time"
)

//go:embed web
var web embed.FS

const (
	maxAction = 256 << 10 // body of a page action, a card's button with its data included
	maxShown  = 200       // newest messages of a channel or chat that the page gets
	// eventPause lets changes that come together reach the page together.
	eventPause = 30 * time.Millisecond
	// A page that has gone away without a word is noticed at the latest after this.
	eventBeat = 15 * time.Second
	policy    = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

func (s *Server) pageRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { asset(w, "index.html") })
	mux.HandleFunc("GET /assets/{file}", func(w http.ResponseWriter, r *http.Request) { asset(w, r.PathValue("file")) })
	mux.HandleFunc("GET /api/events", s.events)
	protect := http.NewCrossOriginProtection()
	for pattern, do := range map[string]func(context.Context, *pageAction) error{
		"install": func(ctx context.Context, _ *pageAction) error { return s.Install(ctx) },
		"say":     s.pageSay,
		"typing":  func(ctx context.Context, a *pageAction) error { return s.Typing(ctx, a.As) },
		"click":   s.pageClick,
		"seen":    s.pageSeen,
		"faults":  s.pageFaults,
	} {
		mux.Handle("POST /api/"+pattern, protect.Handler(pageCall(do)))
	}
}

func asset(w http.ResponseWriter, name string) {
	raw, err := fs.ReadFile(web, path.Join("web", name))
	if err != nil {
		http.Error(w, "no such page", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(raw)
}

// pageAction is what the page can ask for. Each action reads the fields it needs.
type pageAction struct {
	As       string            `json:"as"`
	Text     string            `json:"text"`
	Thread   string            `json:"thread"`
	Mention  bool              `json:"mention"`
	Activity string            `json:"activity"`
	Button   cardAction        `json:"button"`
	Inputs   map[string]string `json:"inputs"`
	Faults   *struct {
		Kind      *Fault `json:"kind"`
		Calls     int    `json:"calls"`
		Duplicate *bool  `json:"duplicate"`
		LatencyMS *int   `json:"latency"`
		OldClient *bool  `json:"oldClient"`
		Blocked   *bool  `json:"blocked"`
	} `json:"faults"`
}

func pageCall(do func(context.Context, *pageAction) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			writeJSON(w, http.StatusUnsupportedMediaType, map[string]string{"error": "the body must be JSON"})
			return
		}
		var a pageAction
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAction)).Decode(&a); err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "the body is not a page action"})
			return
		}
		err := do(r.Context(), &a)
		switch {
		case err == nil:
			writeJSON(w, http.StatusOK, struct{}{})
		case errors.Is(err, ErrNoMember), errors.Is(err, ErrNoPost):
			writeJSON(w, http.StatusNotFound, map[string]string{"error": err.Error()})
		case errors.Is(err, ErrNoAction), errors.Is(err, ErrEmpty), errors.Is(err, ErrInput), errors.Is(err, errBadFault):
			writeJSON(w, http.StatusUnprocessableEntity, map[string]string{"error": err.Error()})
		default:
			writeJSON(w, http.StatusBadGateway, map[string]string{"error": "the bot did not accept it"})
		}
	})
}

func (s *Server) pageSay(ctx context.Context, a *pageAction) error {
	var err error
	if a.Thread == "" {
		_, err = s.Say(ctx, a.As, a.Text)
	} else {
		_, err = s.SayInThread(ctx, a.As, a.Thread, a.Text, a.Mention)
	}
	return err
}

func (s *Server) pageClick(ctx context.Context, a *pageAction) error {
	_, err := s.press(ctx, a.As, a.Activity, a.Button, a.Inputs)
	return err
}

func (s *Server) pageSeen(_ context.Context, a *pageAction) error {
	m, ok := s.org.byShort(a.As)
	if !ok {
		return ErrNoMember
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.w.byID[a.Activity]
	if p == nil || p.Conversation != m.ChatID {
		return ErrNoPost
	}
	if newer(a.Activity, s.w.seen[a.As]) {
		s.w.seen[a.As] = a.Activity
		s.touch()
	}
	return nil
}

// newer compares activity ids, which are decimal numbers without leading zeros; the empty id is the oldest.
func newer(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a > b
}

var errBadFault = errors.New("no such fault")

func (s *Server) pageFaults(ctx context.Context, a *pageAction) error {
	f := a.Faults
	if f == nil {
		return errBadFault
	}
	if f.Kind != nil {
		if err := s.FailNext(*f.Kind, min(f.Calls, 1000)); err != nil {
			return fmt.Errorf("%w: %w", errBadFault, err)
		}
	}
	if f.Duplicate != nil {
		s.DuplicateNext(*f.Duplicate)
	}
	if f.LatencyMS != nil {
		s.SetLatency(time.Duration(min(*f.LatencyMS, 60_000)) * time.Millisecond)
	}
	if f.OldClient != nil {
		s.OldClient(a.As, *f.OldClient)
	}
	if f.Blocked != nil {
		return s.Block(ctx, a.As, *f.Blocked)
	}
	return nil
}

// view is everything the page shows to one person.
type view struct {
	Me        string        `json:"me"`
	Installed bool          `json:"installed"`
	Bot       string        `json:"bot"`
	Team      string        `json:"team"`
	People    []viewPerson  `json:"people"`
	Channels  []viewChannel `json:"channels"`
	Chat      viewChat      `json:"chat"`
	Faults    viewFaults    `json:"faults"`
}

type viewPerson struct {
	Short  string `json:"short"`
	Name   string `json:"name"`
	Given  string `json:"given"`
	Email  string `json:"email"`
	Unread int    `json:"unread"`
}

type viewChannel struct {
	ID      string       `json:"id"`
	Name    string       `json:"name"`
	Threads []viewThread `json:"threads"`
}

type viewThread struct {
	ID     string     `json:"id"`
	Typing int64      `json:"typing"` // milliseconds since 1970, 0 for never
	Posts  []viewPost `json:"posts"`
}

type viewChat struct {
	Typing int64      `json:"typing"`
	Posts  []viewPost `json:"posts"`
}

type viewPost struct {
	ID       string            `json:"id"`
	Author   string            `json:"author"` // short name, empty for the bot
	Name     string            `json:"name"`
	Text     string            `json:"text"`
	Plain    bool              `json:"plain"`
	Mentions []Mention         `json:"mentions"`
	Cards    []json.RawMessage `json:"cards"`
	Notice   *Notice           `json:"notice"`
	Edited   bool              `json:"edited"`
	Deleted  bool              `json:"deleted"`
	Delivery Delivery          `json:"delivery"`
	At       int64             `json:"at"`
}

type viewFaults struct {
	Kind      Fault `json:"kind"`
	Calls     int   `json:"calls"`
	Duplicate bool  `json:"duplicate"`
	LatencyMS int64 `json:"latency"`
	OldClient bool  `json:"oldClient"`
	Blocked   bool  `json:"blocked"`
}

// viewFor also returns the channel that is closed at the next change.
func (s *Server) viewFor(me Member) (view, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.w.faults
	v := view{
		Me: me.Short, Installed: s.w.installed, Bot: botName, Team: teamName,
		Chat: viewChat{Typing: s.typingIn(me.ChatID), Posts: []viewPost{}},
		Faults: viewFaults{
			f.kind, f.calls, f.duplicate, f.latency.Milliseconds(),
			s.w.oldClient[me.Short], s.w.blocked[me.Short],
		},
	}
	for _, m := range s.org.members {
		unread := 0
		for _, p := range slices.Backward(s.w.posts[m.ChatID]) {
			if !newer(p.ID, s.w.seen[m.Short]) {
				break
			}
			if p.Author == "" && !p.Deleted {
				unread++
			}
		}
		v.People = append(v.People, viewPerson{m.Short, m.Name, m.GivenName, m.Email, unread})
	}
	for _, p := range newest(s.w.posts[me.ChatID]) {
		v.Chat.Posts = append(v.Chat.Posts, s.viewPost(p, me.Short))
	}
	for _, c := range []struct{ id, name string }{{frontID, FrontDesk}, {teamID, GeneralChannel}} {
		v.Channels = append(v.Channels, viewChannel{ID: c.id, Name: c.name, Threads: s.threads(c.id, me.Short)})
	}
	return v, s.w.changed
}

func (s *Server) threads(channel, me string) []viewThread {
	list := []viewThread{}
	at := map[string]int{}
	for _, p := range newest(s.w.posts[channel]) {
		i, ok := at[p.Conversation]
		if !ok {
			i = len(list)
			at[p.Conversation] = i
			list = append(list, viewThread{ID: p.Conversation, Typing: s.typingIn(p.Conversation)})
		}
		list[i].Posts = append(list[i].Posts, s.viewPost(p, me))
	}
	return list
}

func newest(posts []*Post) []*Post { return posts[max(0, len(posts)-maxShown):] }

func (s *Server) typingIn(conversation string) int64 {
	t, ok := s.w.typing[conversation]
	if !ok {
		return 0
	}
	return t.UnixMilli()
}

func (s *Server) viewPost(p *Post, me string) viewPost {
	v := viewPost{
		ID: p.ID, Author: p.Author, Name: botName, Text: p.Text, Plain: p.Plain, Mentions: p.Mentions,
		Cards: p.CardsSeenBy(me), Edited: p.Edited, Deleted: p.Deleted, Delivery: p.Delivery, At: p.At.UnixMilli(),
	}
	if m, ok := s.org.byShort(p.Author); ok {
		v.Name = m.Name
	}
	if n, ok := p.Notices[me]; ok && n.Text != "" {
		v.Notice = &n
	}
	return v
}

// events streams the person's view (server-sent events, WHATWG HTML §9.2): the whole of it at every change.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	me, ok := s.org.byShort(r.URL.Query().Get("as"))
	if !ok {
		me = s.org.members[0]
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	var last []byte
	for {
		v, changed := s.viewFor(me)
		raw, err := json.Marshal(v)
		if err != nil {
			s.cfg.Logger.Error("stand-in could not encode its page", "error", err)
			return
		}
		line := []byte(": beat\n\n")
		if !bytes.Equal(raw, last) {
			line, last = slices.Concat([]byte("data: "), raw, []byte("\n\n")), raw
		}
		if _, err := w.Write(line); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-changed:
			if sleep(r.Context(), eventPause) != nil {
				return
			}
		case <-time.After(eventBeat):
		case <-r.Context().Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}
