package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// tokensPage lists the tokens of programs.
type tokensPage struct {
	Tokens  []listedToken
	May     bool // make and end them
	Problem string
	Label   string
	Network string
}

type listedToken struct {
	ID, Label, Program, By, Ends, Used string
	Bound, Over                        bool
}

// tokenPage shows a token, once.
type tokenPage struct{ Token, Label, Ends, Try string }

func (s *Server) tokenRoutes(r chi.Router) {
	r.Get("/access/tokens", s.signedIn(s.tokens))
	s.act(r, "/access/tokens", s.makeToken)
	s.act(r, "/access/tokens/revoke", s.revokeToken)
}

func (s *Server) tokens(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.tokens", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	s.showTokens(w, r, v, admin, http.StatusOK, tokensPage{})
}

func (s *Server) showTokens(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, page tokensPage) {
	all, err := s.cfg.Desk.Tokens(r.Context(), admin.Organisation())
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.May = slices.Contains(admin.Roles(), "security_admin")
	for _, t := range all {
		by, err := s.cfg.Gate.Reference(r.Context(), admin.Organisation(), t.Admin)
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		shown := listedToken{
			ID: t.ID.String(), Label: t.Label, Program: handle(v.lang, audit.Party{Kind: "client", Ref: t.Reference}), By: handle(v.lang, audit.Party{Kind: "admin", Ref: by}),
			Ends: moment(v.lang, t.Ends), Used: word(v.lang, "never"), Bound: t.Bound, Over: t.Revoked != nil || t.Ends.Before(s.cfg.Now()),
		}
		if t.Used != nil {
			shown.Used = moment(v.lang, *t.Used)
		}
		page.Tokens = append(page.Tokens, shown)
	}
	s.show(w, r, v, admin, status, "tokens", page, "/access/tokens")
}

// makeToken makes a token and shows it, this once.
func (s *Server) makeToken(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	label, network := r.PostFormValue("label"), strings.TrimSpace(r.PostFormValue("network"))
	var p netip.Prefix
	if network != "" {
		var err error
		if p, err = ipallow.ParsePrefix(network); err != nil {
			s.showTokens(w, r, v, admin, http.StatusBadRequest, tokensPage{Problem: "badNetwork", Label: label, Network: network})
			return
		}
	}
	days, err := strconv.Atoi(r.PostFormValue("days"))
	if err != nil {
		days = 0
	}
	id := uuid.New()
	ref, err := s.cfg.Gate.ReferenceText(r.Context(), admin.Organisation(), "client", id.String())
	if err == nil {
		err = s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), "token.make", map[string]string{"token": ref, "days": fmt.Sprint(days), "bound": fmt.Sprint(p.IsValid())})
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	token, ends, err := s.cfg.Desk.MakeToken(r.Context(), admin, id, label, p, days)
	switch {
	case errors.Is(err, signin.ErrLabel):
		s.showTokens(w, r, v, admin, http.StatusBadRequest, tokensPage{Problem: "badLabel", Label: label, Network: network})
	case errors.Is(err, signin.ErrTokenTerms):
		s.showTokens(w, r, v, admin, http.StatusBadRequest, tokensPage{Problem: "badTerms", Label: label, Network: network})
	case err != nil:
		s.failed(w, r, v, admin, policy.Administer, err)
	default:
		try := "curl -H 'Authorization: Bearer " + token + "' '" + strings.TrimSuffix(s.cfg.URL, "/") + "/api/v1/records?q=outcome:deny'"
		s.show(w, r, v, admin, http.StatusOK, "token-made", tokenPage{token, label, moment(v.lang, ends), try}, "")
	}
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	ref, err := s.cfg.Gate.ReferenceText(r.Context(), admin.Organisation(), "client", id.String())
	if err == nil {
		err = s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), "token.revoke", map[string]string{"token": ref})
	}
	if err == nil {
		err = s.cfg.Desk.RevokeToken(r.Context(), admin.Organisation(), id)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	http.Redirect(w, r, "/access/tokens", http.StatusSeeOther)
}
