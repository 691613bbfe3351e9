package console

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// approval is something that was asked, in words.
type approval struct {
	ID, What, About, Who, Decider, Reviewer string
	Why, WhyDecided, State, Chip            string
	Asked, Decided, Ends, Reviewed          string
	Apply                                   string // where what was consented to is done
	Digest, Source                          string // of a policy: exactly which, and where one reads it
	Count, Records                          string // of an export: how many, and where one sees them
	Minutes                                 int
	Open, Mine, InForce, Over, Approve      bool
}

// approvalsPage lists what was asked, what is open first.
type approvalsPage struct {
	Open, Past []approval
	May        bool // decide
}

// approvalsShown is how many are listed.
const approvalsShown = 100

func (s *Server) approval(lang string, admin principal.Admin, a access.Approval, now time.Time) approval {
	who := func(ref string) string { return handle(lang, audit.Party{Kind: "admin", Ref: ref}) }
	out := approval{
		ID: a.ID.String(), What: word(lang, "approval_"+a.Kind), Who: who(a.Asker), Why: a.Why, WhyDecided: a.WhyDecided, Asked: moment(lang, a.Asked), Minutes: int(a.For.Minutes()),
		Open: a.Open(now), Mine: a.AskedBy == admin.ID(), InForce: a.InForce(now),
	}
	if a.SubjectKind != "" {
		out.About = handle(lang, audit.Party{Kind: a.SubjectKind, Ref: a.Subject})
	} else {
		out.About = a.Detail
	}
	if a.Decision != "" {
		out.Decider, out.Decided = who(a.Decider), moment(lang, a.Decided)
	}
	if !a.Ends.IsZero() {
		out.Ends = moment(lang, a.Ends)
		if !a.Ended.IsZero() {
			out.Ends = moment(lang, a.Ended)
		}
	}
	if !a.Reviewed.IsZero() {
		out.Reviewer, out.Reviewed = who(a.Reviewer), moment(lang, a.Reviewed)
	}
	state, chip := "expired", "none"
	switch {
	case out.Open:
		state = "open"
	case out.InForce:
		state, chip = "in_force", "masked"
	case a.Decision == access.Approved:
		state, chip, out.Over = "over", "allow", true
	case a.Decision == access.Refused:
		state, chip = "refused", "deny"
	case a.Decision == access.Withdrawn:
		state = "withdrawn"
	}
	out.State, out.Chip = word(lang, "approval_is_"+state), chip
	out.Approve = out.Open && !out.Mine && slices.Contains(admin.Roles(), "approver")
	if out.InForce && out.Mine {
		out.Apply = map[string]string{access.ForAllowlist: "/allowlist/apply", access.ForPolicy: "/policy/choose", access.ForErasure: "/controls/organisation", access.ForExport: "/export/approved"}[a.Kind]
	}
	if act, digest, _ := strings.Cut(a.About, " "); a.Kind == access.ForPolicy {
		out.About = word(lang, "choice_"+act) + ": " + a.Detail
		if out.Digest = digest; digest != "" {
			out.Source = link("/policy", "of", digest)
		}
	}
	if x, ok := parseExtract(a.About); ok && a.Kind == access.ForExport {
		out.About, out.Count, out.Records = x.What(lang), a.Detail, x.Link()
	}
	return out
}

// moment is a time as one reads it.
func moment(lang string, t time.Time) string {
	t = t.UTC()
	return fmt.Sprintf("%s, %s UTC", longDate(lang, t), t.Format("15:04"))
}

func (s *Server) approvals(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.approvals", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	all, err := s.cfg.Gate.Approvals(r.Context(), admin.Organisation(), approvalsShown)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page := approvalsPage{May: slices.Contains(admin.Roles(), "approver")}
	for _, a := range all {
		shown := s.approval(v.lang, admin, a, time.Now())
		if shown.Open || shown.InForce {
			page.Open = append(page.Open, shown)
		} else {
			page.Past = append(page.Past, shown)
		}
	}
	s.show(w, r, v, admin, http.StatusOK, "approvals", page, "/approvals")
}

// reportPage is one of them with what was done under it.
type reportPage struct {
	approval
	Rows      []row
	MayReview bool
}

func (s *Server) report(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	}
	if _, _, err := s.read(r, admin, "console.approval", map[string]string{access.FactApproval: id.String()}); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	a, err := s.cfg.Gate.Approval(r.Context(), admin.Organisation(), id)
	if err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	page := reportPage{approval: s.approval(v.lang, admin, a, time.Now())}
	page.MayReview = page.Over && !page.Mine && page.Reviewed == ""
	q := pglog.Query{Since: a.Asked.Add(-time.Minute), Actor: a.Asker, Limit: pglog.MaxPage}
	for a.Decision == access.Approved {
		found, err := s.cfg.Log.Search(r.Context(), admin.Organisation(), q)
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		entries, gone, err := s.parsed(r.Context(), admin, found)
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		for _, e := range entries {
			if e.Facts[access.FactApproval] == a.ID.String() && (e.Facts["approval.by"] != "" || e.Action == exported) { // decided with the consent, or what came of it
				page.Rows = append(page.Rows, rowOf(v.lang, e, gone))
			}
		}
		if len(found) < q.Limit {
			break
		}
		q.Before = found[len(found)-1].Place
	}
	s.show(w, r, v, admin, http.StatusOK, "approval", page, "/approvals/"+a.ID.String())
}

// askPage asks for somebody's consent to see a person.
type askPage struct {
	person
	Durations []int // minutes
}

func (s *Server) showAsk(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	p, _, ok := s.asked(r, v.lang)
	if r.FormValue("kind") == "conversation" {
		p, _, ok = s.asksFor(r, v.lang)
	}
	if !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
		return
	}
	if _, _, err := s.read(r, admin, "console.ask", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	if there, err := s.stillThere(r.Context(), admin, p); err != nil || !there {
		s.failed(w, r, v, admin, policy.ReadAuditLog, cmp.Or(err, access.ErrUnknown))
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "ask", askPage{p, []int{15, 30, 60, 240}}, "")
}

// ask keeps what somebody wants for another to decide.
func (s *Server) ask(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	minutes, err := strconv.Atoi(r.PostFormValue("minutes"))
	if err != nil || minutes < 1 || minutes > 480 {
		s.say(w, r, v, admin, http.StatusBadRequest, "badDuration")
		return
	}
	a := access.Ask{Kind: r.PostFormValue("approval"), For: time.Duration(minutes) * time.Minute}
	switch a.Kind {
	case access.ForBreakGlass:
		p, at, ok := s.asked(r, v.lang)
		if r.FormValue("kind") == "conversation" {
			p, at, ok = s.asksFor(r, v.lang)
		}
		if !ok {
			s.say(w, r, v, admin, http.StatusBadRequest, "unknownHere")
			return
		}
		a.SubjectKind = p.Kind
		if a.Subject, _, err = s.cfg.Gate.Find(r.Context(), admin.Organisation(), p.Kind, p.Ref, at); err != nil {
			s.failed(w, r, v, admin, policy.ReadAuditLog, err)
			return
		}
	case access.ForAllowlist:
		change, network := r.PostFormValue("change"), r.PostFormValue("network")
		p, err := ipallow.ParsePrefix(strings.TrimSpace(network))
		if err != nil || change != signin.Add && change != signin.Remove {
			s.say(w, r, v, admin, http.StatusBadRequest, "badNetwork")
			return
		}
		if strings.TrimSpace(r.PostFormValue("confirm")) != network {
			s.lockOut(w, r, v, admin, lockOutPage{Change: change, Network: network, Address: shown(v.from), Problem: "notConfirmed"})
			return
		}
		if a.About, err = s.cfg.Desk.About(r.Context(), admin.Organisation(), change, p); err != nil {
			s.trouble(w, r, v, err)
			return
		}
		a.Detail = change + " " + p.String()
	case access.ForPolicy:
		c, err := s.wanted(r, admin)
		if err != nil {
			s.failed(w, r, v, admin, policy.ReadAuditLog, err)
			return
		}
		a.About, a.Detail = c.About(), c.Revision
	case access.ForErasure:
		a.About, a.Detail = wholeOrganisation, word(v.lang, "covers_organisation")
	case access.ForExport:
		if err := s.exportAsked(r, v.lang, admin, &a); err != nil {
			s.failed(w, r, v, admin, policy.ReadAuditLog, err)
			return
		}
	default:
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	reason := strings.TrimSpace(r.PostFormValue("reason"))
	if ticket := strings.TrimSpace(r.PostFormValue("ticket")); ticket != "" {
		reason += " (" + ticket + ")"
	}
	if a.Why, err = s.cfg.Gate.Justify(r.Context(), admin.Organisation(), reason); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	id, err := s.cfg.Gate.Ask(r.Context(), admin, a)
	if err != nil {
		s.failed(w, r, v, admin, policy.ExportRecords, err) // where policy decides on the asking
		return
	}
	http.Redirect(w, r, "/approvals/"+id.String(), http.StatusSeeOther)
}

// decide approves or refuses what somebody else asked.
func (s *Server) decide(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	decision := r.PostFormValue("decision")
	if err != nil || decision != access.Approved && decision != access.Refused {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	a, err := s.cfg.Gate.Approval(r.Context(), admin.Organisation(), id)
	purpose := policy.ApproveChange
	if err == nil && a.Kind == access.ForBreakGlass {
		purpose = policy.ApproveBreakGlass
	}
	var why access.Justification
	if err == nil {
		why, err = s.cfg.Gate.Justify(r.Context(), admin.Organisation(), r.PostFormValue("reason"))
	}
	if err == nil {
		err = s.cfg.Gate.Decide(r.Context(), admin, id, decision, why)
	}
	if err != nil {
		s.failed(w, r, v, admin, purpose, err)
		return
	}
	http.Redirect(w, r, "/approvals/"+id.String(), http.StatusSeeOther)
}

// settle does with an approval what needs no decision: withdraw one's own, end what is in force, note that the report was read.
func (s *Server) settle(do func(*http.Request, principal.Admin, uuid.UUID) error) func(http.ResponseWriter, *http.Request, visit, principal.Admin) {
	return func(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
		id, err := uuid.Parse(r.PostFormValue("id"))
		if err != nil {
			s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
			return
		}
		if err := do(r, admin, id); err != nil {
			s.failed(w, r, v, admin, policy.ReadAuditLog, err)
			return
		}
		http.Redirect(w, r, "/approvals/"+id.String(), http.StatusSeeOther)
	}
}

// apply makes the change of the allowlist to which somebody else consented.
func (s *Server) apply(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	a, err := s.cfg.Gate.Approval(ctx, organisation, id)
	if err != nil {
		s.failed(w, r, v, admin, policy.ChangeTogether, err)
		return
	}
	change, network, _ := strings.Cut(a.Detail, " ")
	p, err := netip.ParsePrefix(network)
	if err != nil || a.Kind != access.ForAllowlist {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	var on access.Grounds
	if on.Justification, err = s.cfg.Gate.Justify(ctx, organisation, cmp.Or(a.Why, "-")); err == nil {
		on.Consent, err = s.cfg.Gate.Consent(ctx, admin, a.Kind, uuid.Nil, a.About)
	}
	if err == nil {
		err = s.cfg.Gate.ActOn(ctx, admin, policy.ChangeTogether, organisation, "allowlist."+change, map[string]string{"network": strings.TrimPrefix(a.About, change+" ")}, on)
	}
	if err == nil {
		err = s.cfg.Desk.Try(ctx, admin, change, p)
	}
	if err == nil {
		err = s.cfg.Gate.UseUp(ctx, organisation, on.Consent)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ChangeTogether, err)
		return
	}
	http.Redirect(w, r, "/allowlist", http.StatusSeeOther)
}
