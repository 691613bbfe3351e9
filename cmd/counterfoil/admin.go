package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/chat"
	"counterfoil/internal/ipallow"
	"counterfoil/policy"
)

// firstRoles are those of an administrator unless others are named: he reads the log and sets who may come in. Seeing
// people is another role, which he can be given and then has on record.
var firstRoles = []string{"auditor", "security_admin"}

type setUpOut struct {
	URL  string    `json:"set_up"`
	Ends time.Time `json:"ends"`
}

// setUpLink makes a link, and records that. The token follows the #, which no browser sends to a server, so that it
// stands in no log of addresses.
func (h *heart) setUpLink(ctx context.Context, organisation uuid.UUID, roles []string) (setUpOut, error) {
	err := h.gate.Act(ctx, operator(organisation), policy.Administer, organisation, "admin.setup_link", map[string]string{"roles": strings.Join(roles, ",")})
	if err != nil {
		return setUpOut{}, err
	}
	link, err := h.desk.NewLink(ctx, organisation, roles)
	if err != nil {
		return setUpOut{}, err
	}
	return setUpOut{h.config.ConsoleURL + "/set-up#" + link.Token, link.Ends.UTC()}, nil
}

type adminSetupCmd struct {
	Org  string   `help:"Organisation, by name or id; not needed when there is one."`
	Role []string `help:"Roles of the administrator: auditor, security_admin, privacy_officer, approver." enum:"auditor,security_admin,privacy_officer,approver" default:"auditor,security_admin"`
	JSON bool     `help:"For programs."`
}

// Help is shown below the flags.
func (adminSetupCmd) Help() string {
	return "Examples:\n  counterfoil admin setup\n  counterfoil admin setup --role privacy_officer\n\n" +
		"While nothing is on the allowlist, the link works on this machine only. To open it elsewhere, admit that address first:\n" +
		"  counterfoil admin allow 203.0.113.7"
}

// Run makes a link.
func (c adminSetupCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		link, err := h.setUpLink(a.ctx, o.ID, c.Role)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(link)
		}
		fmt.Fprintf(a.stdout, "Open this once, before %s UTC, from an admitted address:\n\n  %s\n\nWhoever opens it becomes an administrator of %s (%s).\n",
			link.Ends.Format("15:04"), link.URL, o.Name, strings.Join(c.Role, ", "))
		return nil
	})
}

type adminListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (adminListCmd) Help() string { return "Example:\n  counterfoil admin list --json" }

type adminOut struct {
	Handle    string     `json:"handle"`
	Roles     []string   `json:"roles"`
	Created   time.Time  `json:"created"`
	SignedIn  *time.Time `json:"signed_in,omitempty"`
	Disabled  *time.Time `json:"disabled,omitempty"`
	CodesLeft int64      `json:"recovery_codes_left"`
}

// Run lists administrators.
func (c adminListCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "admin.list", nil); err != nil {
			return err
		}
		all, err := h.desk.Admins(a.ctx, o.ID)
		if err != nil {
			return err
		}
		out := make([]adminOut, len(all))
		for i, l := range all {
			out[i] = adminOut{chat.Handle("admin", l.Reference), l.Roles, l.Created.UTC(), l.SignedIn, l.Disabled, l.CodesLeft}
		}
		if c.JSON {
			return a.json(out)
		}
		if len(out) == 0 {
			fmt.Fprintln(a.stdout, "There is no administrator yet. Make a set-up link: counterfoil admin setup")
			return nil
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "WHO\tROLES\tSINCE (UTC)\tLAST SIGN-IN (UTC)\tRECOVERY CODES LEFT")
		for _, l := range out {
			last := "-"
			if l.SignedIn != nil {
				last = l.SignedIn.UTC().Format(time.DateTime)
			}
			if l.Disabled != nil {
				last += " (disabled)"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\n", l.Handle, strings.Join(l.Roles, ","), l.Created.Format(time.DateTime), last, l.CodesLeft)
		}
		return t.Flush()
	})
}

type adminAllowCmd struct {
	Network string `arg:"" name:"address-or-prefix" help:"Such as 203.0.113.7, 203.0.113.0/24 or 2001:db8:1:2::/64."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (adminAllowCmd) Help() string {
	return "Examples:\n  counterfoil admin allow 203.0.113.7\n  counterfoil admin allow 2001:db8:1:2::/64      a home or office with changing IPv6 addresses"
}

// Run adds to the allowlist. The record says that an address was added, not which: addresses are not written into the log.
func (c adminAllowCmd) Run(a *app) error {
	p, err := ipallow.ParsePrefix(c.Network)
	if err != nil {
		return usageError{err.Error()}
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.changeAllowlist(a.ctx, o.ID, "allowlist.add", p.String()); err != nil {
			return err
		}
		added, err := h.desk.Allow(a.ctx, o.ID, p)
		if err != nil {
			return err
		}
		if !added {
			fmt.Fprintln(a.stdout, "It was admitted already.")
			return nil
		}
		fmt.Fprintf(a.stdout, "Admitted to the console of %s.\n", o.Name)
		return nil
	})
}

// changeAllowlist has policy decide on a change, and records it with the network's keyed reference.
func (h *heart) changeAllowlist(ctx context.Context, organisation uuid.UUID, action, network string) error {
	ref, err := h.gate.ReferenceText(ctx, organisation, "network", network)
	if err != nil {
		return err
	}
	return h.gate.Act(ctx, operator(organisation), policy.Administer, organisation, action, map[string]string{"network": ref})
}

type adminDisallowCmd struct {
	Network string `arg:"" name:"address-or-prefix" help:"As it was admitted."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (adminDisallowCmd) Help() string { return "Example:\n  counterfoil admin disallow 203.0.113.7" }

// Run takes from the allowlist.
func (c adminDisallowCmd) Run(a *app) error {
	p, err := ipallow.ParsePrefix(c.Network)
	if err != nil {
		return usageError{err.Error()}
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.changeAllowlist(a.ctx, o.ID, "allowlist.remove", p.String()); err != nil {
			return err
		}
		removed, err := h.desk.Disallow(a.ctx, o.ID, p)
		if err != nil {
			return err
		}
		if !removed {
			fmt.Fprintln(a.stdout, "It was not on the allowlist in this form.")
			return found{}
		}
		fmt.Fprintf(a.stdout, "No longer admitted to the console of %s.\n", o.Name)
		return nil
	})
}

type adminUnlockCmd struct {
	Org string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (adminUnlockCmd) Help() string { return "Example:\n  counterfoil admin unlock" }

// Run forgets failed attempts.
func (c adminUnlockCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "admin.unlock", nil); err != nil {
			return err
		}
		if _, err := h.desk.Forget(a.ctx, o.ID); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout, "Everybody may try again.")
		return nil
	})
}
