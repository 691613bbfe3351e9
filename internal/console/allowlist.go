package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// allowlistPage shows from where the console may be used. Networks are addresses of people: they appear as references, but
// for the one's own, until one asks to see them, which is decided and recorded.
type allowlistPage struct {
	Networks []network
	Shown    bool
	Address  string   // as which one is seen
	Through  []string // proxies in between
	May      bool     // change it
	OnHost   bool     // something was admitted there that nobody has acknowledged
	Trial    *trial
	Problem  string
	Typed    string
}

// network is an entry of the allowlist.
type network struct {
	Ref, Handle, Prefix, Added, By string
	Mine, OnHost                   bool
	Pending                        string
}

// trial is a change that nobody has confirmed yet.
type trial struct {
	Change, Until string
	Minutes       int
}

func (s *Server) allowlistPage(r *http.Request, v visit, admin principal.Admin, shown bool) (allowlistPage, error) {
	page := allowlistPage{Shown: shown, Address: v.from.String(), May: slices.Contains(admin.Roles(), "security_admin")}
	for _, a := range s.cfg.Through(r) {
		page.Through = append(page.Through, a.String())
	}
	all, err := s.cfg.Desk.Allowlist(r.Context(), admin.Organisation())
	if err != nil {
		return page, err
	}
	for _, n := range all {
		e := network{Ref: n.Reference, Handle: chat.Handle(word(v.lang, "network"), n.Reference), Added: moment(v.lang, n.Added), OnHost: n.OnHost, By: word(v.lang, "theHost")}
		if n.AddedBy != "" {
			e.By = handle(v.lang, audit.Party{Kind: "admin", Ref: n.AddedBy})
		}
		e.Mine = n.Prefix().IsValid() && n.Prefix().Contains(v.from.Unmap())
		if shown || e.Mine {
			e.Prefix = n.Prefix().String()
		}
		page.OnHost = page.OnHost || n.OnHost
		if n.Pending != "" {
			e.Pending = word(v.lang, "pending_"+n.Pending)
			page.Trial = &trial{n.Change.String(), n.Until.UTC().Format("15:04:05 UTC"), int(time.Until(n.Until).Minutes()) + 1}
		}
		page.Networks = append(page.Networks, e)
	}
	return page, nil
}

func (s *Server) allowlist(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.allowlist", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	page, err := s.allowlistPage(r, v, admin, false)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "allowlist", page, "/allowlist")
}

// showNetworks shows the networks themselves, after policy allowed it and that is on record.
func (s *Server) showNetworks(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if err := s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), "allowlist.show", nil); err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	page, err := s.allowlistPage(r, v, admin, true)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "allowlist", page, "")
}

// lockOutPage refuses a change that would shut its maker out, and says how two can make it.
type lockOutPage struct {
	Change, Network, Address, Problem string
	Other                             bool // somebody else is shut out
}

func (s *Server) lockOut(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, page lockOutPage) {
	s.show(w, r, v, admin, http.StatusConflict, "lock-out", page, "")
}

// typed reads the network of a change: as it was typed, or by the reference of an entry.
func (s *Server) typed(r *http.Request, admin principal.Admin) (netip.Prefix, error) {
	if ref := r.PostFormValue("ref"); ref != "" {
		all, err := s.cfg.Desk.Allowlist(r.Context(), admin.Organisation())
		if err != nil {
			return netip.Prefix{}, err
		}
		for _, n := range all {
			if n.Reference == ref && n.Prefix().IsValid() {
				return n.Prefix(), nil
			}
		}
		return netip.Prefix{}, signin.ErrNotDone
	}
	p, err := ipallow.ParsePrefix(strings.TrimSpace(r.PostFormValue("network")))
	if err != nil {
		return p, badNetworkError{err.Error()}
	}
	return p, nil
}

// badNetworkError says what is wrong with a network that was typed.
type badNetworkError struct{ text string }

func (e badNetworkError) Error() string { return e.text }

// changeAllowlist makes a change that counts for five minutes unless it is confirmed.
func (s *Server) changeAllowlist(change string) func(http.ResponseWriter, *http.Request, visit, principal.Admin) {
	return func(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
		ctx := r.Context()
		p, err := s.typed(r, admin)
		var bad badNetworkError
		if errors.As(err, &bad) {
			page, err := s.allowlistPage(r, v, admin, false)
			if err != nil {
				s.trouble(w, r, v, err)
				return
			}
			page.Problem, page.Typed = "badNetworkText", r.PostFormValue("network")
			s.show(w, r, v, admin, http.StatusBadRequest, "allowlist", page, "")
			return
		}
		var about string
		if err == nil {
			about, err = s.cfg.Desk.About(ctx, admin.Organisation(), change, p)
		}
		if err == nil {
			err = s.cfg.Gate.Act(ctx, admin, policy.Administer, admin.Organisation(), "allowlist."+change, map[string]string{"network": strings.TrimPrefix(about, change+" ")})
		}
		if err == nil {
			err = s.cfg.Desk.Guard(ctx, admin, change, p)
		}
		var lockOut signin.LockOutError
		if errors.As(err, &lockOut) {
			s.lockOut(w, r, v, admin, lockOutPage{Change: change, Network: p.String(), Address: v.from.String(), Other: lockOut.Other})
			return
		}
		if err == nil {
			err = s.cfg.Desk.Try(ctx, admin, change, p)
		}
		if err != nil {
			s.failed(w, r, v, admin, policy.Administer, err)
			return
		}
		http.Redirect(w, r, "/allowlist", http.StatusSeeOther)
	}
}

// settleAllowlist confirms a change, or takes it back. Whoever comes here was admitted under it.
func (s *Server) settleAllowlist(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	change, err := uuid.Parse(r.PostFormValue("change"))
	keep := r.PostFormValue("keep")
	if err != nil || keep != "yes" && keep != "no" {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	action := map[string]string{"yes": "allowlist.confirm", "no": "allowlist.return"}[keep]
	if err = s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), action, nil); err == nil {
		err = s.cfg.Desk.Settle(r.Context(), admin.Organisation(), change, keep == "yes")
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	http.Redirect(w, r, "/allowlist", http.StatusSeeOther)
}

// acknowledge notes that somebody knows of what was admitted on the host.
func (s *Server) acknowledge(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	err := s.cfg.Gate.Act(r.Context(), admin, policy.Administer, admin.Organisation(), "allowlist.acknowledge", nil)
	if err == nil {
		err = s.cfg.Desk.Acknowledge(r.Context(), admin.Organisation())
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	http.Redirect(w, r, "/allowlist", http.StatusSeeOther)
}

// banner is something that hangs over every page of who is signed in.
type banner struct {
	Kind        string // alarm or note
	Text        string
	Link, Label string
	Until       string // of notices that are to be forgotten
}

// banners are what everybody in the console has to know, whatever he does there: what two agreed on and is in force, changes of the
// allowlist that wait or came from the host, and what happened to his own account.
func (s *Server) banners(r *http.Request, lang string, admin principal.Admin, news signin.News) (all []banner, err error) {
	var inForce []access.Approval
	if news.Consents {
		inForce, err = s.cfg.Gate.InForce(r.Context(), admin.Organisation())
	}
	var networks []signin.Network
	if err == nil && news.Networks {
		networks, err = s.cfg.Desk.Allowlist(r.Context(), admin.Organisation())
	}
	var notices []signin.Notice
	if err == nil && news.Notices {
		notices, err = s.cfg.Desk.Notices(r.Context(), admin)
	}
	if err != nil {
		return nil, err
	}
	for _, a := range inForce {
		if a.SubjectKind == "" {
			all = append(all, banner{Kind: "note", Link: "/approvals/" + a.ID.String(), Label: word(lang, "seeIt"), Text: fmt.Sprintf(word(lang, "bannerConsent"), word(lang, "approval_"+a.Kind),
				handle(lang, audit.Party{Kind: "admin", Ref: a.Asker}), a.Ends.UTC().Format("15:04"))})
			continue
		}
		all = append(all, banner{Kind: "alarm", Link: "/approvals/" + a.ID.String(), Label: word(lang, "seeIt"), Text: fmt.Sprintf(word(lang, "bannerEmergency"),
			handle(lang, audit.Party{Kind: "admin", Ref: a.Asker}), handle(lang, audit.Party{Kind: a.SubjectKind, Ref: a.Subject}), a.Ends.UTC().Format("15:04"))})
	}
	if i := slices.IndexFunc(networks, func(n signin.Network) bool { return n.Pending != "" }); i >= 0 {
		all = append(all, banner{Kind: "note", Text: fmt.Sprintf(word(lang, "bannerTrial"), networks[i].Until.UTC().Format("15:04:05")), Link: "/allowlist", Label: word(lang, "confirmIt")})
	}
	if slices.ContainsFunc(networks, func(n signin.Network) bool { return n.OnHost }) {
		all = append(all, banner{Kind: "note", Text: word(lang, "bannerHost"), Link: "/allowlist", Label: word(lang, "seeIt")})
	}
	for i, n := range notices {
		b := banner{Kind: "note", Text: fmt.Sprintf(word(lang, "bannerNotice"), what(lang, n.Kind), n.Times, moment(lang, n.Last))}
		if i == len(notices)-1 {
			b.Until = notices[0].Last.UTC().Format(time.RFC3339Nano)
		}
		all = append(all, b)
	}
	if n := s.cfg.MadeUp[admin.Organisation()]; n > 0 {
		all = append(all, banner{Kind: "note", Text: fmt.Sprintf(word(lang, "bannerMadeUp"), number64(lang, int64(n)))})
	}
	return all, nil
}
