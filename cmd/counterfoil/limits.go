package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"counterfoil/internal/access"
	"counterfoil/internal/chat"
)

type orgLimitsShowCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs; 0 is what the policy has as usual."`
}

// Help is shown below the flags.
func (orgLimitsShowCmd) Help() string {
	return "Limits are disclosures to one actor within an hour. What is usual, and how far an organisation may go from it, is in the policy (limits.rego).\n\nExample:\n  counterfoil org limits show --json"
}

// Run shows the limits of an organisation.
func (c orgLimitsShowCmd) Run(a *app) error {
	return a.within(c.Org, func(_ *heart, o chat.Organisation) error { return a.showLimits(o.Settings.Limits, c.JSON) })
}

type limitsOut struct {
	Visitor  int `json:"visitor"`
	Agent    int `json:"agent"`
	Channel  int `json:"channel"`
	Admin    int `json:"admin"`
	Operator int `json:"operator"`
	Job      int `json:"job"`
}

func (a *app) showLimits(l chat.Limits, json bool) error {
	if json {
		return a.json(limitsOut(l))
	}
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tDISCLOSURES WITHIN AN HOUR")
	for _, k := range []struct {
		kind string
		n    int
	}{{"visitor", l.Visitor}, {"agent", l.Agent}, {"channel", l.Channel}, {"admin", l.Admin}, {"operator", l.Operator}, {"job", l.Job}} {
		own := ""
		if k.n != 0 {
			own = strconv.Itoa(k.n)
		}
		fmt.Fprintf(t, "%s\t%s\n", k.kind, cmp.Or(own, "as is usual in the policy"))
	}
	return t.Flush()
}

type orgLimitsSetCmd struct {
	Org      string `help:"Organisation, by name or id; not needed when there is one."`
	Visitor  *int   `help:"For each visitor; 0 for what is usual, as for the others." placeholder:"N"`
	Agent    *int   `help:"For each agent." placeholder:"N"`
	Channel  *int   `help:"For each channel." placeholder:"N"`
	Admin    *int   `help:"For each administrator." placeholder:"N"`
	Operator *int   `help:"For each operator." placeholder:"N"`
	Job      *int   `help:"For each job." placeholder:"N"`
	JSON     bool   `help:"For programs."`
}

// Help is shown below the flags.
func (orgLimitsSetCmd) Help() string {
	return "The policy in force decides whether a limit lies within its bounds; what is asked for is recorded either way. It holds for the next disclosure.\n\n" +
		"Examples:\n  counterfoil org limits set --admin 50 --visitor 200\n  counterfoil org limits set --admin 0      back to what is usual"
}

// Run sets limits, if policy allows them.
func (c orgLimitsSetCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		l := o.Settings.Limits
		for _, k := range []struct {
			own *int
			n   *int
		}{{&l.Visitor, c.Visitor}, {&l.Agent, c.Agent}, {&l.Channel, c.Channel}, {&l.Admin, c.Admin}, {&l.Operator, c.Operator}, {&l.Job, c.Job}} {
			if k.n == nil {
				continue
			}
			if *k.own = *k.n; *k.n < 0 || *k.n > 1<<30 {
				return usageError{"a limit is a number of disclosures, or 0 for what is usual"}
			}
		}
		if l == o.Settings.Limits {
			return usageError{"nothing would change: name a limit, such as --admin 50"}
		}
		if err := h.gate.ChangeLimits(a.ctx, operator(o.ID), o.ID, l); errors.Is(err, access.ErrDenied) {
			fmt.Fprintf(a.stdout, "Nothing was changed: %v.\nThe bounds are in limits.rego of the policy in force.\n", err)
			return found{}
		} else if err != nil {
			return err
		}
		if err := h.store.SetLimits(a.ctx, o.ID, l); err != nil {
			return err
		}
		return a.showLimits(l, c.JSON)
	})
}
