package console

import (
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"

	"counterfoil/internal/signin"
)

// setUpPage asks for a name and a password. Token is empty when the page was opened by its link, whose end the server
// never sees.
type setUpPage struct{ Token, Name, Problem, Address string }

// cardPage shows the QR code and asks for the first code.
type cardPage struct {
	Token, Handle, Key, Problem, Address string
	QR                                   template.URL
}

// codesPage shows the recovery codes.
type codesPage struct{ Codes []string }

func (s *Server) showSetUp(w http.ResponseWriter, _ *http.Request, v visit) {
	s.renderAs(w, v, http.StatusOK, "set-up", setUpPage{Address: shown(v.from)}, view{Path: "/set-up"})
}

var choices = map[signin.Choice]string{
	signin.NameLength: "nameLength", signin.NameTaken: "nameTaken", signin.PasswordShort: "passwordShort", signin.PasswordLong: "passwordLong",
	signin.PasswordCommon: "passwordCommon", signin.PasswordHasName: "passwordHasName",
}

func (s *Server) beginSetUp(w http.ResponseWriter, r *http.Request, v visit) {
	page := setUpPage{Token: r.PostFormValue("token"), Name: r.PostFormValue("name"), Address: shown(v.from)}
	if r.PostFormValue("password") != r.PostFormValue("again") {
		page.Problem = "passwordsDiffer"
		s.render(w, v, http.StatusBadRequest, "set-up", page)
		return
	}
	e, err := s.cfg.Desk.Begin(r.Context(), v.admissions, page.Token, page.Name, r.PostFormValue("password"))
	var choice signin.ChoiceError
	switch {
	case errors.As(err, &choice):
		page.Problem = choices[choice.Why]
		s.render(w, v, http.StatusBadRequest, "set-up", page)
	case errors.Is(err, signin.ErrLink):
		s.message(w, v, http.StatusForbidden, "link")
	case err != nil:
		s.trouble(w, r, v, err)
	default:
		s.card(w, v, http.StatusOK, page.Token, "", e)
	}
}

func (s *Server) card(w http.ResponseWriter, v visit, status int, token, problem string, e signin.Enrolment) {
	s.render(w, v, status, "card", cardPage{
		Token: token, Handle: e.Handle, Key: e.Card.Key, Problem: problem, Address: shown(v.from),
		QR: template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(e.Card.PNG)),
	})
}

func (s *Server) confirmSetUp(w http.ResponseWriter, r *http.Request, v visit) {
	token := r.PostFormValue("token")
	codes, again, err := s.cfg.Desk.Confirm(r.Context(), v.admissions, token, r.PostFormValue("code"))
	switch {
	case errors.Is(err, signin.ErrRefused):
		s.card(w, v, http.StatusForbidden, token, "codeRefused", again)
	case errors.Is(err, signin.ErrLink):
		s.message(w, v, http.StatusForbidden, "link")
	case err != nil:
		s.trouble(w, r, v, err)
	default:
		s.setCookie(w, "") // a session of before is over
		s.render(w, v, http.StatusOK, "codes", codesPage{codes})
	}
}

// signInPage asks for name and password.
type signInPage struct{ Name, Problem string }

// codePage asks for the one-time code.
type codePage struct{ Problem string }

func (s *Server) showSignIn(w http.ResponseWriter, r *http.Request, v visit) {
	if v.token != "" {
		if _, err := s.cfg.Desk.Resume(r.Context(), v.admissions, v.from, v.token); err == nil {
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
	}
	s.renderAs(w, v, http.StatusOK, "sign-in", signInPage{}, view{Path: "/sign-in"})
}

func (s *Server) password(w http.ResponseWriter, r *http.Request, v visit) {
	name := r.PostFormValue("name")
	token, err := s.cfg.Desk.Password(r.Context(), v.admissions, name, r.PostFormValue("password"))
	switch {
	case errors.Is(err, signin.ErrRefused):
		s.render(w, v, http.StatusForbidden, "sign-in", signInPage{name, "signInRefused"})
	case err != nil:
		s.trouble(w, r, v, err)
	default:
		s.setCookie(w, token)
		http.Redirect(w, r, "/sign-in/code", http.StatusSeeOther)
	}
}

func (s *Server) showCode(w http.ResponseWriter, r *http.Request, v visit) {
	switch err := s.cfg.Desk.Waits(r.Context(), v.admissions, v.from, v.token); {
	case errors.Is(err, signin.ErrNoSession):
		http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
	case err != nil:
		s.trouble(w, r, v, err)
	default:
		s.renderAs(w, v, http.StatusOK, "code", codePage{}, view{Path: "/sign-in/code"})
	}
}

func (s *Server) code(w http.ResponseWriter, r *http.Request, v visit) {
	token, err := s.cfg.Desk.Code(r.Context(), v.admissions, v.from, v.token, r.PostFormValue("code"))
	if err != nil {
		s.secondRefused(w, r, v, err)
		return
	}
	s.setCookie(w, token)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) recovery(w http.ResponseWriter, r *http.Request, v visit) {
	token, e, err := s.cfg.Desk.Recover(r.Context(), v.admissions, v.from, v.token, r.PostFormValue("recovery"))
	if err != nil {
		s.secondRefused(w, r, v, err)
		return
	}
	s.setCookie(w, "")
	s.card(w, v, http.StatusOK, token, "", e)
}

// unlockPage asks whoever is held back for a recovery code.
type unlockPage struct{ Name, Problem string }

func (s *Server) showUnlock(w http.ResponseWriter, _ *http.Request, v visit) {
	s.renderAs(w, v, http.StatusOK, "unlock", unlockPage{}, view{Path: "/sign-in/unlock"})
}

func (s *Server) unlock(w http.ResponseWriter, r *http.Request, v visit) {
	name := r.PostFormValue("name")
	switch err := s.cfg.Desk.Unlock(r.Context(), v.admissions, name, r.PostFormValue("recovery")); {
	case errors.Is(err, signin.ErrRefused):
		s.render(w, v, http.StatusForbidden, "unlock", unlockPage{name, "unlockRefused"})
	case err != nil:
		s.trouble(w, r, v, err)
	default:
		s.message(w, v, http.StatusOK, "unlocked")
	}
}

func (s *Server) secondRefused(w http.ResponseWriter, r *http.Request, v visit, err error) {
	switch {
	case errors.Is(err, signin.ErrRefused):
		s.render(w, v, http.StatusForbidden, "code", codePage{"signInRefused"})
	case errors.Is(err, signin.ErrNoSession):
		http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
	default:
		s.trouble(w, r, v, err)
	}
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request, v visit) {
	if err := s.cfg.Desk.SignOut(r.Context(), v.admissions, v.from, v.token); err != nil && !errors.Is(err, signin.ErrNoSession) {
		s.trouble(w, r, v, err)
		return
	}
	s.setCookie(w, "")
	w.Header().Set("Clear-Site-Data", `"cache", "storage"`)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}
