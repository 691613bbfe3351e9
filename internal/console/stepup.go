package console

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"

	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// act registers something that an administrator does. What it needs a fresh factor for is asked again once he gave one.
func (s *Server) act(r chi.Router, path string, next func(http.ResponseWriter, *http.Request, visit, principal.Admin)) {
	s.acts[path] = s.signedIn(func(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
		if err := r.ParseForm(); err != nil { // before anything is decided, since it is kept while a factor is asked for
			s.say(w, r, v, admin, http.StatusBadRequest, "badForm")
			return
		}
		next(w, r, v, admin)
	})
	r.Post(path, s.acts[path])
}

// stepUpPage asks for a second factor, and keeps what it is needed for.
type stepUpPage struct {
	For      policy.Purpose
	What     string
	Path     string
	Password bool   // one's own account takes the password too
	Passkey  string // what a security key has to answer; empty without one
	Fields   []field
	Problem  string
}

// field is a value of a form that waits.
type field struct{ Name, Value string }

// kept is how the fields of a form that waits are told from those of the step-up.
const kept = "kept."

// failed answers what an act ended in. What lacks nothing but a fresh factor leads to the page that asks for one.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, purpose policy.Purpose, err error) {
	var denied access.DeniedError
	switch {
	case errors.As(err, &denied) && slices.Equal(denied.Reasons, []string{"step_up_required"}):
		page := stepUpPage{For: purpose, Path: r.URL.Path}
		for name, values := range r.PostForm {
			for _, value := range values {
				page.Fields = append(page.Fields, field{kept + name, value})
			}
		}
		slices.SortFunc(page.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
		s.askFactor(w, r, v, admin, http.StatusForbidden, page)
	case errors.As(err, &denied):
		page := deniedPage{}
		for _, code := range denied.Reasons {
			if text := word(v.lang, "reason_"+code); text != "" {
				page.Reasons = append(page.Reasons, text)
			}
		}
		s.show(w, r, v, admin, http.StatusForbidden, "denied", page, "")
	case errors.Is(err, access.ErrReason):
		s.say(w, r, v, admin, http.StatusBadRequest, "badReason")
	case errors.Is(err, access.ErrUnknown):
		s.say(w, r, v, admin, http.StatusNotFound, "unknownHere")
	case errors.Is(err, access.ErrErased):
		s.say(w, r, v, admin, http.StatusGone, "erased")
	case errors.Is(err, access.ErrSettled), errors.Is(err, signin.ErrNotDone):
		s.say(w, r, v, admin, http.StatusConflict, "settled")
	default:
		s.trouble(w, r, v, err)
	}
}

// deniedPage says why policy said no.
type deniedPage struct{ Reasons []string }

func (s *Server) askFactor(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, page stepUpPage) {
	page.What, page.Password = page.For.Title(v.lang), page.For == policy.OwnAccount
	if !page.Password {
		var err error
		if page.Passkey, err = s.cfg.Desk.Challenge(r.Context(), admin, v.token); err != nil && !errors.Is(err, signin.ErrNoPasskeys) {
			s.trouble(w, r, v, err)
			return
		}
	}
	s.show(w, r, v, admin, status, "step-up", page, "")
}

// stepUp takes the second factor, hands out the new token, and does what was asked.
func (s *Server) stepUp(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	page, form, ok := s.waiting(r)
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	var token string
	var err error
	if response := r.PostFormValue("response"); response != "" {
		token, err = s.cfg.Desk.StepUpWithPasskey(r.Context(), v.admissions, v.from, v.token, page.For, response)
	} else {
		token, err = s.cfg.Desk.StepUp(r.Context(), v.admissions, v.from, v.token, page.For, r.PostFormValue("password"), r.PostFormValue("code"))
	}
	switch {
	case errors.Is(err, signin.ErrRefused):
		page.Problem = "stepUpRefused"
		s.askFactor(w, r, v, admin, http.StatusForbidden, page)
	case err != nil:
		s.trouble(w, r, v, err)
	default:
		s.resume(w, r, token, page.Path, form)
	}
}

// waiting reads what waits for a second factor.
func (s *Server) waiting(r *http.Request) (page stepUpPage, form url.Values, ok bool) {
	page = stepUpPage{For: policy.Purpose(r.PostFormValue("for")), Path: r.PostFormValue("path")}
	form = url.Values{}
	for name, values := range r.PostForm {
		if name, is := strings.CutPrefix(name, kept); is {
			form[name] = values
			for _, value := range values {
				page.Fields = append(page.Fields, field{kept + name, value})
			}
		}
	}
	slices.SortFunc(page.Fields, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	_, known := s.acts[page.Path]
	return page, form, known && page.Path != "/step-up" && page.For.Title("en") != ""
}

// resume does what was asked before the factor was, in the session under its new token.
func (s *Server) resume(w http.ResponseWriter, r *http.Request, token, path string, form url.Values) {
	s.setCookie(w, token)
	again := r.Clone(r.Context())
	again.URL = &url.URL{Path: path}
	again.Form, again.PostForm = form, form
	again.Header.Del("Cookie")
	for _, c := range r.Cookies() {
		if c.Name == s.cookieName() {
			c.Value = token
		}
		again.AddCookie(c)
	}
	s.acts[path](w, again)
}

// show renders a page of somebody who is signed in, with what hangs over every page.
func (s *Server) show(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, name string, page any, path string) {
	handle, err := s.handle(r, admin, v.lang)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.renderAs(w, v, status, name, page, view{Handle: handle, Path: path})
}

// say is message to somebody who is signed in.
func (s *Server) say(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, name string) {
	s.show(w, r, v, admin, status, "message", messagePage{Name: name}, "")
}
