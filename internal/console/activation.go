package console

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Activation is what is known of the policies that could decide.
type Activation struct {
	Current  func() policy.Signed                  // the one that does
	Proposed func(context.Context) []policy.Signed // what lies on the host, is signed, and does not
}

// activationPage says which policy decides and who chose it, and has another one activated by two.
type activationPage struct {
	Now      policy.Signed
	Demanded bool
	Waits    bool // other organisations have not chosen it
	May      bool // ask, and demand
	Choices  []chosen
	Others   []policy.Signed // that can be asked for
}

// chosen is what the organisation once wanted, in words.
type chosen struct {
	Act, At, Who, Revision, Digest, Approval string
}

// BuiltIn reports whether it is the policy compiled in.
func (c chosen) BuiltIn() bool { return c.Digest == "" }

func (s *Server) activation(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx := r.Context()
	if _, _, err := s.read(r, admin, "console.activation", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	all, err := s.cfg.Gate.Choices(ctx)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	own := all[admin.Organisation()]
	page := activationPage{Now: s.cfg.Activation.Current(), Demanded: access.Demanded(own), May: slices.Contains(admin.Roles(), "security_admin")}
	page.Others = s.cfg.Activation.Proposed(ctx)
	for _, c := range slices.Backward(own) {
		shown := chosen{Act: word(v.lang, "choice_"+c.Act), At: moment(v.lang, c.At), Who: word(v.lang, "theHost"), Revision: c.Revision, Digest: c.Digest}
		if c.By != uuid.Nil {
			ref, err := s.cfg.Gate.Reference(ctx, admin.Organisation(), c.By)
			if err != nil {
				s.trouble(w, r, v, err)
				return
			}
			shown.Who = handle(v.lang, audit.Party{Kind: "admin", Ref: ref})
		}
		if c.Approval != uuid.Nil {
			shown.Approval = "/approvals/" + c.Approval.String()
		}
		page.Choices = append(page.Choices, shown)
		former := policy.Signed{Digest: c.Digest, Revision: c.Revision}
		if c.Act != access.Release && c.Digest != page.Now.Digest && !slices.ContainsFunc(page.Others, func(o policy.Signed) bool { return o.Digest == c.Digest }) {
			page.Others = append(page.Others, former)
		}
	}
	page.Waits = page.Demanded && own[len(own)-1].Digest != page.Now.Digest
	s.show(w, r, v, admin, http.StatusOK, "activation", page, "/policy/activation")
}

// demandPolicy has it that from now on two choose the policy.
func (s *Server) demandPolicy(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if err := s.cfg.Gate.DemandPolicy(r.Context(), admin, admin.Organisation(), s.cfg.Activation.Current()); err != nil {
		s.failed(w, r, v, admin, policy.Administer, err)
		return
	}
	http.Redirect(w, r, "/policy/activation", http.StatusSeeOther)
}

// wanted reads which policy is asked for: one that lies on the host, which is kept as it is now, or a former one.
func (s *Server) wanted(r *http.Request, admin principal.Admin) (access.Choice, error) {
	ctx, c := r.Context(), access.Choice{Act: r.PostFormValue("act"), Digest: r.PostFormValue("digest")}
	all, err := s.cfg.Gate.Choices(ctx)
	if err != nil {
		return c, err
	}
	own := all[admin.Organisation()]
	switch {
	case !access.Demanded(own):
		return c, access.ErrSettled
	case c.Act == access.Release:
		c.Digest, c.Revision = s.cfg.Activation.Current().Digest, s.cfg.Activation.Current().Revision
		return c, nil
	case c.Act != access.Activate:
		return c, access.ErrUnknown
	}
	for _, b := range s.cfg.Activation.Proposed(ctx) {
		if b.Digest == c.Digest {
			c.Revision = b.Revision
			return c, s.cfg.Gate.KeepBundle(ctx, admin.Organisation(), b)
		}
	}
	for _, former := range own {
		if former.Act != access.Release && former.Digest == c.Digest {
			c.Revision = former.Revision
			return c, nil
		}
	}
	return c, access.ErrUnknown
}

// choosePolicy makes the choice to which somebody else consented.
func (s *Server) choosePolicy(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	a, err := s.cfg.Gate.Approval(ctx, organisation, id)
	if err == nil && a.Kind != access.ForPolicy {
		err = access.ErrUnknown
	}
	var why access.Justification
	if err == nil {
		why, err = s.cfg.Gate.Justify(ctx, organisation, a.Why)
	}
	if err == nil {
		act, digest, _ := strings.Cut(a.About, " ")
		err = s.cfg.Gate.ChoosePolicy(ctx, admin, act, digest, a.Detail, why)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ChangeTogether, err)
		return
	}
	http.Redirect(w, r, "/policy/activation", http.StatusSeeOther)
}

// kept is the policy of a bundle that somebody asked for, so that whoever is to consent can read it.
func (s *Server) kept(ctx context.Context, admin principal.Admin, digest string) (*policy.Engine, error) {
	if len(digest) != len(policy.Digest(nil)) {
		return nil, access.ErrUnknown
	}
	packed, err := s.cfg.Gate.KeptBundle(ctx, admin.Organisation(), digest)
	if err != nil {
		return nil, err
	}
	return policy.AdmitKept(ctx, packed)
}
