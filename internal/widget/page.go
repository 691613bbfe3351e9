package widget

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/internal/chat"
	"counterfoil/internal/web"
)

var keyPattern = regexp.MustCompile(`^[\w-]{1,64}$`)

const (
	forever = "public, max-age=31536000, immutable"
	aWhile  = "public, max-age=600"
)

func (s *Server) loader(w http.ResponseWriter, r *http.Request) {
	openToSites(w)
	s.assets.loader.serve(w, r, aWhile)
}

// asset serves files under their hashed names. The loader is among them, so that a site can pin it with an SRI hash.
func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	switch chi.URLParam(r, "file") {
	case s.assets.loader.name:
		openToSites(w)
		s.assets.loader.serve(w, r, forever)
	case s.assets.script.name:
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		s.assets.script.serve(w, r, forever)
	case s.assets.own.name:
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		s.assets.own.serve(w, r, forever)
	case s.assets.style.name:
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		s.assets.style.serve(w, r, forever)
	default:
		web.Problem(w, http.StatusNotFound, "not-found", "there is no such file")
	}
}

// openToSites lets any website use the answer, also one that is cross-origin isolated or checks an SRI hash.
func openToSites(w http.ResponseWriter) {
	w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin")
	w.Header().Set("Access-Control-Allow-Origin", "*")
}

type frameData struct {
	Key, Sites, Script, Style, Own string
	Notice                         int
	Terms                          string // the notice in every language, as JSON
	Known                          bool
}

// notice is what visitors have to accept before they write: in every language its paragraphs, each a heading and a text.
type notice struct {
	Version int                    `json:"version"`
	Terms   map[string][][2]string `json:"terms"`
}

func (s *Server) notice(ctx context.Context, organisation uuid.UUID) (notice, error) {
	n, err := s.cfg.Relay.Notice(ctx, organisation, chat.ForVisitors)
	if err != nil {
		return notice{}, err
	}
	out := notice{n.Version, make(map[string][][2]string)}
	for _, language := range chat.Languages() {
		for _, p := range n.Paragraphs(language) {
			out.Terms[language] = append(out.Terms[language], [2]string{p.Heading, p.Text})
		}
	}
	return out, nil
}

// showNotice gives the notice in force to a frame whose own is older.
func (s *Server) showNotice(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	key, found, err := chi.URLParam(r, "key"), chat.Widget{}, error(chat.ErrNotFound)
	if keyPattern.MatchString(key) {
		found, err = s.cfg.Relay.WidgetByKey(ctx, key)
	}
	var n notice
	if err == nil {
		n, err = s.notice(ctx, found.Organisation)
	}
	if err != nil {
		s.failWith(w, r, err)
		return
	}
	web.JSON(w, http.StatusOK, n)
}

// frame is the document of the iframe. A key that is not known gives the same document, which then says that chat is
// not available; it may be framed by anyone, because it does nothing.
func (s *Server) frame(w http.ResponseWriter, r *http.Request) {
	data := frameData{
		Script: "/widget/assets/" + s.assets.script.name, Style: "/widget/assets/" + s.assets.style.name,
		Own: "/widget/assets/" + s.assets.own.name,
	}
	status, ancestors := http.StatusOK, "*"
	key := chi.URLParam(r, "key")
	found := chat.Widget{}
	err := chat.ErrNotFound
	if keyPattern.MatchString(key) {
		found, err = s.cfg.Relay.WidgetByKey(r.Context(), key)
	}
	switch {
	case err == nil:
		data.Known, data.Key, data.Sites = true, key, strings.Join(origins(found.Sites), " ")
		ancestors = data.Sites
		if ancestors == "" {
			ancestors = "'none'"
		}
		var n notice
		if n, err = s.notice(r.Context(), found.Organisation); err != nil {
			s.failWith(w, r, err)
			return
		}
		data.Notice = n.Version
		terms, err := json.Marshal(n.Terms)
		if err != nil {
			s.failWith(w, r, err)
			return
		}
		data.Terms = string(terms)
	case errors.Is(err, chat.ErrNotFound):
		status = http.StatusNotFound
	default:
		s.cfg.Logger.ErrorContext(r.Context(), "find widget", "error", err)
		status = http.StatusServiceUnavailable
	}
	var page bytes.Buffer
	if err := s.assets.frame.Execute(&page, data); err != nil {
		s.cfg.Logger.ErrorContext(r.Context(), "render frame", "error", err)
		web.Problem(w, http.StatusInternalServerError, "internal", "the page could not be made")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors "+ancestors+"; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "+
		"microphone=(), midi=(), payment=(), publickey-credentials-get=(), screen-wake-lock=(), usb=(), xr-spatial-tracking=()")
	// A website that is cross-origin isolated takes only frames that are so themselves and say that they may be used.
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // whoever asked may have gone
}

// origins keeps the well-formed origins of a list. They end up in a header, so nothing else may pass.
func origins(sites []string) []string {
	var kept []string
	for _, site := range sites {
		u, err := url.Parse(site)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || site != u.Scheme+"://"+u.Host || !hostPattern.MatchString(u.Host) {
			continue
		}
		kept = append(kept, site)
	}
	return kept
}

var hostPattern = regexp.MustCompile(`^([a-z0-9.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$`)
