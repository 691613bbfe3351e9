package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/chat"
	"counterfoil/policy"
)

type orgCreateCmd struct {
	Name         string `arg:"" help:"Name of the organisation."`
	Tenant       string `help:"Microsoft Entra tenant id whose Teams users are its agents."`
	Language     string `help:"Language of cards and bot texts." enum:"en,fr" default:"en"`
	MaskVisitors bool   `help:"Agents see a visitor's email masked."`
	MaskJoiner   bool   `help:"The channel sees who joined masked."`
	NoNewAgents  bool   `help:"The first Join of an unknown agent does not make a profile."`
	JSON         bool   `help:"For programs."`
}

// Help is shown below the flags.
func (orgCreateCmd) Help() string {
	return "Example:\n  counterfoil org create \"Contoso\" --tenant 11111111-2222-3333-4444-555555555555 --language fr"
}

// Run makes an organisation and starts its log.
func (c orgCreateCmd) Run(a *app) error {
	if name := strings.TrimSpace(c.Name); name == "" || len(name) > 120 {
		return usageError{"the name needs 1 to 120 bytes"}
	}
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	o, err := h.createOrganisation(a.ctx, chat.Organisation{
		Name: strings.TrimSpace(c.Name), Tenant: strings.ToLower(c.Tenant), Language: c.Language,
		Settings: chat.Settings{ShareVisitorEmail: !c.MaskVisitors, NameInChannel: !c.MaskJoiner, CreateAgents: !c.NoNewAgents},
	}, nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(organisationJSON(o))
	}
	fmt.Fprintf(a.stdout, "Made organisation %s\nIts log is %s\nNext: counterfoil widget create --org %s --site https://www.example.com\n", o.ID, o.Origin, o.ID)
	return nil
}

// createOrganisation makes an organisation with its key and its log, and records that. What was before, if not nil, comes into the
// log first.
func (h *heart) createOrganisation(ctx context.Context, o chat.Organisation, before func(context.Context, chat.Organisation) error) (chat.Organisation, error) {
	o.ID = uuid.New()
	public, err := url.Parse(h.config.PublicURL)
	if err != nil {
		return o, err
	}
	o.Origin = public.Hostname() + "/audit/" + o.ID.String()
	wrapped, _, err := h.gate.NewKey(o.ID, o.ID)
	if err != nil {
		return o, err
	}
	err = h.store.CreateOrganisation(ctx, o, wrapped, func(ctx context.Context, tx pgx.Tx) error { return h.log.CreateLog(ctx, tx, o.ID, o.Origin) })
	if err != nil {
		return o, err
	}
	if before != nil {
		if err := before(ctx, o); err != nil {
			return o, err
		}
	}
	return o, h.gate.Act(ctx, operator(o.ID), policy.Administer, o.ID, "organisation.create", map[string]string{"origin": o.Origin})
}

type organisationOut struct {
	ID       string        `json:"id"`
	Name     string        `json:"name"`
	Tenant   string        `json:"tenant,omitempty"`
	Origin   string        `json:"log_origin"`
	Language string        `json:"language"`
	Settings chat.Settings `json:"settings"`
}

func organisationJSON(o chat.Organisation) organisationOut {
	return organisationOut{o.ID.String(), o.Name, o.Tenant, o.Origin, o.Language, o.Settings}
}

type orgListCmd struct {
	JSON bool `help:"For programs."`
}

// Run lists organisations.
func (c orgListCmd) Run(a *app) error {
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	all, err := h.store.Organisations(a.ctx)
	if err != nil {
		return err
	}
	out := make([]organisationOut, len(all))
	for i, o := range all {
		out[i] = organisationJSON(o)
	}
	if c.JSON {
		return a.json(out)
	}
	if len(out) == 0 {
		fmt.Fprintln(a.stdout, "There is no organisation yet. Make one: counterfoil org create NAME --tenant TENANT_ID")
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tTEAMS TENANT\tLANGUAGE")
	for _, o := range out {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", o.ID, o.Name, cmp.Or(o.Tenant, "-"), o.Language)
	}
	return t.Flush()
}

type widgetCreateCmd struct {
	Org  string   `help:"Organisation, by name or id; not needed when there is one."`
	Name string   `help:"Name for administrators." default:"Website"`
	Site []string `required:"" help:"Origin of a website that may embed it, such as https://www.example.com; repeatable."`
	JSON bool     `help:"For programs."`
}

// Help is shown below the flags.
func (widgetCreateCmd) Help() string {
	return "Example:\n  counterfoil widget create --site https://www.example.com --site https://shop.example.com"
}

// Run makes a widget.
func (c widgetCreateCmd) Run(a *app) error {
	for i, site := range c.Site {
		u, err := url.Parse(strings.TrimSuffix(site, "/"))
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" || u.RawQuery != "" || u.User != nil || strings.ContainsAny(site, " ;,'\"*") {
			return usageError{"a site is a scheme and a host, such as https://www.example.com"}
		}
		c.Site[i] = u.Scheme + "://" + u.Host
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		w, err := h.createWidget(a.ctx, o, c.Name, c.Site)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(widgetJSON(w))
		}
		fmt.Fprintf(a.stdout, "Made widget %s\nPut this line into the website:\n\n  <script src=\"%s/widget/loader.js\" data-widget=\"%s\" async></script>\n", w.ID, h.config.PublicURL, w.Key)
		return nil
	})
}

func (h *heart) createWidget(ctx context.Context, o chat.Organisation, name string, sites []string) (chat.Widget, error) {
	var key [12]byte
	rand.Read(key[:])
	w := chat.Widget{Organisation: o.ID, ID: uuid.New(), Key: base64.RawURLEncoding.EncodeToString(key[:]), Name: name, Sites: sites}
	err := h.gate.Act(ctx, operator(o.ID), policy.Administer, o.ID, "widget.create",
		map[string]string{"widget": w.ID.String(), "sites": fmt.Sprint(len(sites))})
	if err != nil {
		return w, err
	}
	return w, h.store.CreateWidget(ctx, w)
}

type widgetOut struct {
	ID    string   `json:"id"`
	Key   string   `json:"key"`
	Name  string   `json:"name"`
	Sites []string `json:"sites"`
}

func widgetJSON(w chat.Widget) widgetOut { return widgetOut{w.ID.String(), w.Key, w.Name, w.Sites} }

type widgetListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Run lists widgets.
func (c widgetListCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		all, err := h.store.Widgets(a.ctx, o.ID)
		if err != nil {
			return err
		}
		out := make([]widgetOut, len(all))
		for i, w := range all {
			out[i] = widgetJSON(w)
		}
		if c.JSON {
			return a.json(out)
		}
		if len(out) == 0 {
			fmt.Fprintln(a.stdout, "There is no widget yet. Make one: counterfoil widget create --site https://www.example.com")
			return nil
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "KEY\tNAME\tSITES")
		for _, w := range out {
			fmt.Fprintf(t, "%s\t%s\t%s\n", w.Key, w.Name, strings.Join(w.Sites, " "))
		}
		return t.Flush()
	})
}
