package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

type policyRevisionsCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (policyRevisionsCmd) Help() string { return "Example:\n  counterfoil policy revisions --json" }

type revisionsOut struct {
	Revision string      `json:"revision"` // that decides
	Digest   string      `json:"digest"`   // of its bundle; empty for the policy compiled in
	Demanded bool        `json:"demanded"` // whether two have to choose
	Choices  []choiceOut `json:"choices"`
}

type choiceOut struct {
	Act      string    `json:"act"`
	At       time.Time `json:"at"`
	Revision string    `json:"revision"`
	Digest   string    `json:"digest"`
	By       string    `json:"by,omitempty"` // empty for the host
	Approval string    `json:"approval,omitempty"`
}

// Run lists choices, oldest first.
func (c policyRevisionsCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "policy.revisions", nil); err != nil {
			return err
		}
		all, err := h.gate.Choices(a.ctx)
		if err != nil {
			return err
		}
		now := h.policies.current.Load()
		out := revisionsOut{Revision: now.Revision, Digest: now.Digest, Demanded: access.Demanded(all[o.ID]), Choices: []choiceOut{}}
		for _, one := range all[o.ID] {
			shown := choiceOut{Act: one.Act, At: one.At.UTC(), Revision: one.Revision, Digest: one.Digest}
			if one.By != uuid.Nil {
				ref, err := h.gate.Reference(a.ctx, o.ID, one.By)
				if err != nil {
					return err
				}
				shown.By, shown.Approval = chat.Handle("admin", ref), one.Approval.String()
			}
			out.Choices = append(out.Choices, shown)
		}
		if c.JSON {
			return a.json(out)
		}
		who := "The host chooses it."
		if out.Demanded {
			who = "Two administrators choose it."
		}
		fmt.Fprintf(a.stdout, "Revision %s decides. %s\n", out.Revision, who)
		if len(out.Choices) == 0 {
			return nil
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "WHEN (UTC)\tWHAT\tREVISION\tBY\tAPPROVAL")
		for _, one := range out.Choices {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", one.At.Format(time.DateTime), one.Act, one.Revision, orDash(one.By), orDash(one.Approval))
		}
		return t.Flush()
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type policyDemandCmd struct {
	Org string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (policyDemandCmd) Help() string {
	return "What decides now goes on deciding, on every node and after every start. Another one is activated in the console, by two.\n\nExample:\n  counterfoil policy demand"
}

// Run demands.
func (c policyDemandCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		now := *h.policies.current.Load()
		if err := h.gate.DemandPolicy(a.ctx, operator(o.ID), o.ID, now); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "From now on two administrators of %s choose the policy, beginning with revision %s.\n", o.Name, now.Revision)
		return nil
	})
}

type adminReviewsCmd struct {
	Review string `arg:"" optional:"" help:"Id of a review; without it all are listed."`
	Org    string `help:"Organisation, by name or id; not needed when there is one."`
	JSON   bool   `help:"For programs."`
}

// Help is shown below the flags.
func (adminReviewsCmd) Help() string {
	return "Examples:\n  counterfoil admin reviews\n  counterfoil admin reviews 3f0c… --json      what was decided, when and by whom"
}

type reviewOut struct {
	ID      string     `json:"id"`
	By      string     `json:"by"`
	Begun   time.Time  `json:"begun"`
	Due     time.Time  `json:"due"`
	Ended   *time.Time `json:"ended,omitempty"`
	Entries int64      `json:"entries"`
	Open    int64      `json:"open"`
}

type reviewEntryOut struct {
	Kind     string     `json:"kind"`
	Who      string     `json:"who"`
	Roles    []string   `json:"roles,omitempty"`
	Since    time.Time  `json:"since"`
	Used     *time.Time `json:"used,omitempty"`
	Idle     bool       `json:"idle"`
	Decision string     `json:"decision,omitempty"`
	NewRoles []string   `json:"new_roles,omitempty"`
	By       string     `json:"decided_by,omitempty"`
	At       *time.Time `json:"decided_at,omitempty"`
	Reason   string     `json:"reason,omitempty"` // id, as the record names it
	Stands   bool       `json:"stands"`
}

// Run lists.
func (c adminReviewsCmd) Run(a *app) error {
	id := uuid.Nil
	if c.Review != "" {
		var err error
		if id, err = uuid.Parse(c.Review); err != nil {
			return usageError{"this is no id of a review: see `counterfoil admin reviews`"}
		}
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "access_review.list", nil); err != nil {
			return err
		}
		if id != uuid.Nil {
			return c.entries(a, h, o, id)
		}
		all, err := h.desk.Reviews(a.ctx, o.ID)
		if err != nil {
			return err
		}
		out := make([]reviewOut, len(all))
		for i, r := range all {
			out[i] = reviewOut{r.ID.String(), chat.Handle("admin", r.Reference), r.Begun.UTC(), r.Due.UTC(), r.Ended, r.Entries, r.Open}
		}
		if c.JSON {
			return a.json(out)
		}
		if len(out) == 0 {
			fmt.Fprintln(a.stdout, "There was no access review yet. A security administrator begins one in the console, under Access.")
			return nil
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "REVIEW\tBEGUN (UTC)\tBY\tDUE (UTC)\tOPEN")
		for _, r := range out {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d of %d\n", r.ID, r.Begun.Format(time.DateTime), r.By, r.Due.Format(time.DateOnly), r.Open, r.Entries)
		}
		return t.Flush()
	})
}

func (c adminReviewsCmd) entries(a *app, h *heart, o chat.Organisation, id uuid.UUID) error {
	all, err := h.desk.ReviewEntries(a.ctx, o.ID, id)
	if err != nil {
		return err
	}
	out := make([]reviewEntryOut, len(all))
	for i, e := range all {
		out[i] = reviewEntryOut{Kind: e.Kind, Who: entryName(e), Roles: e.Roles, Since: e.Since.UTC(), Used: e.Used, Idle: e.Idle, Decision: e.Decision, NewRoles: e.NewRoles, At: e.Decided, Stands: e.Stands}
		if e.Decision != "" {
			out[i].By, out[i].Reason = chat.Handle("admin", e.DecidedBy), e.Reason.String()
		}
	}
	if c.JSON {
		return a.json(out)
	}
	if len(out) == 0 {
		fmt.Fprintln(a.stdout, "There is no such review, or it has no entries.")
		return found{}
	}
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tWHO\tROLES\tLAST USED (UTC)\tDECISION\tBY")
	for _, e := range out {
		used, decision := "-", orDash(e.Decision)
		if e.Used != nil {
			used = e.Used.UTC().Format(time.DateTime)
		}
		if e.Idle {
			used += " (idle)"
		}
		if len(e.NewRoles) > 0 {
			decision += " to " + strings.Join(e.NewRoles, ",")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Kind, e.Who, orDash(strings.Join(e.Roles, ",")), used, decision, orDash(e.By))
	}
	return t.Flush()
}

func entryName(e signin.ReviewEntry) string {
	switch e.Kind {
	case "auditor":
		return e.Login
	case "token":
		return chat.Handle("program", e.Reference)
	}
	return chat.Handle(e.Kind, e.Reference)
}
