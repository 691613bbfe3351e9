package console

import (
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// accessPage shows who may come in, who is in, and by what one proves who one is.
type accessPage struct {
	Admins         []listed
	Sessions       []open
	Authenticators []factor
	Passkeys       []factor
	CodesLeft      int64
	May            bool // change others
	Problem        string
}

type listed struct {
	ID, Handle, Roles, SignedIn         string
	Has                                 []string // roles
	Authenticators, Passkeys, CodesLeft int64
	Me, Disabled                        bool
}

type open struct {
	ID, Admin, Handle, Address, Started, Seen string
	Mine, This                                bool
}

type factor struct{ ID, Label, Added, Used string }

func roleNames(lang string, roles []string) string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = word(lang, "role_"+role)
	}
	return strings.Join(names, ", ")
}

func factors(lang string, all []signin.Factor) (out []factor) {
	for _, f := range all {
		shown := factor{ID: f.ID.String(), Label: f.Label, Added: moment(lang, f.Added), Used: word(lang, "never")}
		if shown.Label == "" {
			shown.Label = word(lang, "firstFactor")
		}
		if f.Used != nil {
			shown.Used = moment(lang, *f.Used)
		}
		out = append(out, shown)
	}
	return out
}

func (s *Server) accessPage(r *http.Request, v visit, admin principal.Admin) (accessPage, error) {
	page := accessPage{May: slices.Contains(admin.Roles(), "security_admin")}
	ctx, organisation := r.Context(), admin.Organisation()
	admins, err := s.cfg.Desk.Admins(ctx, organisation)
	if err != nil {
		return page, err
	}
	who := func(ref string) string { return handle(v.lang, audit.Party{Kind: "admin", Ref: ref}) }
	for _, a := range admins {
		l := listed{
			ID: a.ID.String(), Handle: who(a.Reference), Roles: roleNames(v.lang, a.Roles), SignedIn: word(v.lang, "never"), Me: a.ID == admin.ID(), Disabled: a.Disabled != nil, Has: a.Roles,
			Authenticators: a.Authenticators, Passkeys: a.Passkeys, CodesLeft: a.CodesLeft,
		}
		if a.SignedIn != nil {
			l.SignedIn = moment(v.lang, *a.SignedIn)
		}
		if l.Me {
			page.CodesLeft = a.CodesLeft
		}
		page.Admins = append(page.Admins, l)
	}
	this, err := s.cfg.Desk.Session(ctx, admin, v.token)
	if err != nil {
		return page, err
	}
	sessions, err := s.cfg.Desk.Sessions(ctx, organisation)
	if err != nil {
		return page, err
	}
	for _, o := range sessions {
		page.Sessions = append(page.Sessions, open{
			ID: o.ID.String(), Admin: o.Admin.String(), Handle: who(o.Reference), Address: o.Address, Started: moment(v.lang, o.Started), Seen: moment(v.lang, o.Seen),
			Mine: o.Admin == admin.ID(), This: o.ID == this,
		})
	}
	authenticators, err := s.cfg.Desk.Authenticators(ctx, admin)
	if err != nil {
		return page, err
	}
	passkeys, err := s.cfg.Desk.Passkeys(ctx, admin)
	if err != nil {
		return page, err
	}
	page.Authenticators, page.Passkeys = factors(v.lang, authenticators), factors(v.lang, passkeys)
	return page, nil
}

func (s *Server) access(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.access", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	page, err := s.accessPage(r, v, admin)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "access", page, "/access")
}

// linkPage shows a set-up link, once.
type linkPage struct{ Link, Ends, Roles string }

// invite makes a set-up link for a further administrator.
func (s *Server) invite(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	roles, err := signin.CheckRoles(r.PostForm["role"])
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "badRoles")
		return
	}
	err = s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), "admin.setup_link", map[string]string{"roles": strings.Join(roles, ",")})
	var link signin.Link
	if err == nil {
		link, err = s.cfg.Desk.NewLink(r.Context(), admin.Organisation(), roles)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "link-page", linkPage{strings.TrimSuffix(s.cfg.URL, "/") + "/set-up#" + link.Token, link.Ends.UTC().Format("15:04"), roleNames(v.lang, roles)}, "")
}

// reference names an administrator in a record.
func (s *Server) reference(r *http.Request, admin principal.Admin, id uuid.UUID) (map[string]string, error) {
	ref, err := s.cfg.Gate.Reference(r.Context(), admin.Organisation(), id)
	return map[string]string{"admin": ref}, err
}

// disable takes away somebody's right to sign in, or gives it back.
func (s *Server) disable(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	disabled := r.PostFormValue("disabled") == "yes"
	if err != nil || id == admin.ID() {
		s.say(w, r, v, admin, http.StatusConflict, "settled")
		return
	}
	action := "admin.enable"
	if disabled {
		action = "admin.disable"
	}
	facts, err := s.reference(r, admin, id)
	if err == nil {
		err = s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), action, facts)
	}
	if err == nil {
		err = s.cfg.Desk.Disable(r.Context(), admin.Organisation(), id, disabled)
	}
	s.backToAccess(w, r, v, admin, policy.Administer, err)
}

func (s *Server) backToAccess(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, purpose policy.Purpose, err error) {
	if err != nil {
		s.failed(w, r, v, admin, purpose, err)
		return
	}
	http.Redirect(w, r, "/access", http.StatusSeeOther)
}

// revoke ends one session, or all of an administrator but the one in which it is asked.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(r.PostFormValue("admin"))
	session, err2 := uuid.Parse(r.PostFormValue("session"))
	if err != nil || err2 != nil && r.PostFormValue("session") != "" {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	purpose := policy.Administer
	if id == admin.ID() {
		purpose = policy.OwnAccount
	}
	facts, err := s.reference(r, admin, id)
	var sessions []signin.Open
	if err == nil && session != uuid.Nil {
		sessions, err = s.cfg.Desk.Sessions(ctx, organisation)
	}
	if i := slices.IndexFunc(sessions, func(o signin.Open) bool { return o.ID == session }); i >= 0 {
		facts[sessionEnded] = access.Began(sessions[i].Started)
	}
	if err == nil {
		err = s.cfg.Gate.Act(ctx, admin, purpose, organisation, "session.revoke", facts)
	}
	var this uuid.UUID
	if err == nil && session == uuid.Nil && id == admin.ID() {
		this, err = s.cfg.Desk.Session(ctx, admin, v.token)
	}
	if err == nil {
		_, err = s.cfg.Desk.Revoke(ctx, organisation, id, session, this)
	}
	if err == nil && id != admin.ID() {
		err = s.cfg.Desk.Notify(ctx, organisation, id, "session.revoke")
	}
	s.backToAccess(w, r, v, admin, purpose, err)
}

// own lets policy decide on a change of one's own account, and has it recorded.
func (s *Server) own(r *http.Request, admin principal.Admin, action string) error {
	return s.cfg.Gate.Act(r.Context(), admin, policy.OwnAccount, admin.Organisation(), action, nil)
}

// addAuthenticator shows the seed of a further authenticator.
func (s *Server) addAuthenticator(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.own(r, admin, "factor.begin")
	var e signin.Enrolment
	if err == nil {
		e, err = s.cfg.Desk.NewAuthenticator(r.Context(), admin, v.token, r.PostFormValue("label"))
	}
	switch {
	case errors.Is(err, signin.ErrLabel):
		s.say(w, r, v, admin, http.StatusBadRequest, "badLabel")
	case err != nil:
		s.failed(w, r, v, admin, policy.OwnAccount, err)
	default:
		s.furtherCard(w, r, v, admin, http.StatusOK, "", e)
	}
}

func (s *Server) furtherCard(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, problem string, e signin.Enrolment) {
	s.show(w, r, v, admin, status, "further-card", cardPage{
		Handle: e.Handle, Key: e.Card.Key, Problem: problem, QR: template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(e.Card.PNG)),
	}, "")
}

func (s *Server) confirmAuthenticator(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.own(r, admin, "factor.add")
	var again signin.Enrolment
	if err == nil {
		again, err = s.cfg.Desk.ConfirmAuthenticator(r.Context(), admin, v.token, r.PostFormValue("code"))
	}
	switch {
	case errors.Is(err, signin.ErrRefused):
		s.furtherCard(w, r, v, admin, http.StatusForbidden, "codeRefused", again)
	case errors.Is(err, signin.ErrLink):
		s.say(w, r, v, admin, http.StatusGone, "tooLate")
	default:
		s.backToAccess(w, r, v, admin, policy.OwnAccount, err)
	}
}

func (s *Server) removeAuthenticator(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	if err = s.own(r, admin, "factor.remove"); err == nil {
		err = s.cfg.Desk.RemoveAuthenticator(r.Context(), admin, id)
	}
	s.backToAccess(w, r, v, admin, policy.OwnAccount, err)
}

// passkeyPage has a security key answer a challenge, to be registered.
type passkeyPage struct{ Options string }

// addPasskey begins to register a security key.
func (s *Server) addPasskey(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.own(r, admin, "passkey.begin")
	var options string
	if err == nil {
		options, err = s.cfg.Desk.NewPasskey(r.Context(), admin, v.token, r.PostFormValue("label"))
	}
	switch {
	case errors.Is(err, signin.ErrLabel):
		s.say(w, r, v, admin, http.StatusBadRequest, "badLabel")
	case errors.Is(err, signin.ErrNoPasskeys):
		s.say(w, r, v, admin, http.StatusConflict, "noPasskeys")
	case err != nil:
		s.failed(w, r, v, admin, policy.OwnAccount, err)
	default:
		s.show(w, r, v, admin, http.StatusOK, "passkey", passkeyPage{options}, "")
	}
}

func (s *Server) confirmPasskey(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.own(r, admin, "passkey.add")
	if err == nil {
		err = s.cfg.Desk.ConfirmPasskey(r.Context(), admin, v.token, r.PostFormValue("response"))
	}
	if errors.Is(err, signin.ErrRefused) || errors.Is(err, signin.ErrLink) || errors.Is(err, signin.ErrNoPasskeys) {
		s.say(w, r, v, admin, http.StatusGone, "tooLate")
		return
	}
	s.backToAccess(w, r, v, admin, policy.OwnAccount, err)
}

func (s *Server) removePasskey(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	if err = s.own(r, admin, "passkey.remove"); err == nil {
		err = s.cfg.Desk.RemovePasskey(r.Context(), admin, id)
	}
	s.backToAccess(w, r, v, admin, policy.OwnAccount, err)
}

// renewCodes shows new recovery codes, once.
func (s *Server) renewCodes(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.own(r, admin, "recovery_codes.renewed")
	var codes []string
	if err == nil {
		codes, err = s.cfg.Desk.RenewRecoveryCodes(r.Context(), admin)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.OwnAccount, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "new-codes", codesPage{codes}, "")
}

// readNotices takes what an administrator has read off his pages.
func (s *Server) readNotices(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	until, err := time.Parse(time.RFC3339Nano, r.PostFormValue("until"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	if err = s.cfg.Gate.Door(r.Context(), admin.Organisation(), admin.ID(), admin.Address(), "notices.read", nil); err == nil {
		err = s.cfg.Desk.ReadNotices(r.Context(), admin, until)
	}
	s.backToAccess(w, r, v, admin, policy.OwnAccount, err)
}

// setRoles gives somebody else other roles. His sessions end.
func (s *Server) setRoles(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil || id == admin.ID() { // nobody changes his own
		s.say(w, r, v, admin, http.StatusConflict, "settled")
		return
	}
	roles, err := signin.CheckRoles(r.PostForm["role"])
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "badRoles")
		return
	}
	all, err := s.cfg.Desk.Admins(ctx, organisation)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	i := slices.IndexFunc(all, func(l signin.Listed) bool { return l.ID == id })
	if i < 0 {
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	}
	facts := map[string]string{"admin": all[i].Reference, "roles": strings.Join(roles, ","), "roles.before": strings.Join(all[i].Roles, ",")}
	if err = s.cfg.Gate.Act(ctx, admin, policy.Administer, organisation, "admin.roles", facts); err == nil {
		err = s.cfg.Desk.SetRoles(ctx, organisation, id, all[i].Roles, roles)
	}
	s.backToAccess(w, r, v, admin, policy.Administer, err)
}

// addressAsked is the page on which one asks to see from where somebody signed in.
type addressAsked struct {
	Admin, Address  string
	Handle, Started string
	May             bool
}

// openSession finds the session that a request is about: by whose it is and from where, since one's own has another id after a factor was given.
func (s *Server) openSession(r *http.Request, admin principal.Admin) (signin.Open, error) {
	id, err := uuid.Parse(r.FormValue("admin"))
	if err != nil {
		return signin.Open{}, access.ErrUnknown
	}
	all, err := s.cfg.Desk.Sessions(r.Context(), admin.Organisation())
	if err != nil {
		return signin.Open{}, err
	}
	for _, o := range all {
		if o.Admin == id && o.Address == r.FormValue("address") {
			return o, nil
		}
	}
	return signin.Open{}, access.ErrUnknown
}

func (s *Server) showAddress(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.address", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	o, err := s.openSession(r, admin)
	if err != nil {
		s.failed(w, r, v, admin, policy.RevealToAdmin, err)
		return
	}
	may := slices.Contains(admin.Roles(), "privacy_officer") || slices.Contains(admin.Roles(), "auditor")
	s.show(w, r, v, admin, http.StatusOK, "address-ask", addressAsked{o.Admin.String(), o.Address, handle(v.lang, audit.Party{Kind: "admin", Ref: o.Reference}), moment(v.lang, o.Started), may}, "")
}

// revealAddress shows from where somebody signed in, after that is on record.
func (s *Server) revealAddress(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	o, err := s.openSession(r, admin)
	var on access.Grounds
	if err == nil {
		on.Justification, err = s.cfg.Gate.Justify(r.Context(), admin.Organisation(), r.PostFormValue("reason"))
	}
	var d access.Disclosed[euii.Admin]
	if err == nil {
		d, err = s.cfg.AddressToAdmin.ReadAddress(r.Context(), admin, o.Admin, o.Address, on)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.RevealToAdmin, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "revealed", revealedPage{
		person: person{Handle: handle(v.lang, audit.Party{Kind: "admin", Ref: o.Reference})}, Name: euii.Reveal(d.Value(euii.AdminAddress)), Masked: d.Masked(), Record: d.Receipt().Index(), Why: r.PostFormValue("reason"),
	}, "")
}
