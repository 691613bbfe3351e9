package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/alerts"
	"counterfoil/internal/chat"
	"counterfoil/internal/filter"
	"counterfoil/internal/jobs"
	"counterfoil/internal/telemetry"
	"counterfoil/policy"
)

// watch makes what holds rules against the logs and tells of alerts.
func (h *heart) watch(logger *slog.Logger, tracer trace.TracerProvider, ask func(context.Context, string, uuid.UUID, uuid.UUID) error) (*alerts.Watch, error) {
	m := h.config.SMTP
	return alerts.New(alerts.Config{
		Pool: h.pool, Gate: h.gate, Log: h.log, Ring: h.ring, Egress: h.egress, Ask: ask, URL: h.config.ConsoleURL, Logger: logger, Now: time.Now,
		Wrap: func(next http.RoundTripper) http.RoundTripper { return telemetry.Transport(next, tracer) },
		Mail: alerts.Mail{Addr: m.Addr, From: m.From, Username: m.Username, Password: func() ([]byte, error) { return keyring.ReadSecret(m.PasswordFile) }},
	})
}

// withAlerts connects and runs f for the organisation a command names. What it asks for, a running service does.
func (a *app) withAlerts(named string, f func(*alerts.Watch, *heart, chat.Organisation) error) error {
	return a.within(named, func(h *heart, o chat.Organisation) error {
		queue, err := jobs.New(h.pool, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		w, err := h.watch(slog.New(slog.DiscardHandler), noop.NewTracerProvider(), queue.Enqueue)
		if err != nil {
			return err
		}
		return f(w, h, o)
	})
}

type alertsListCmd struct {
	Org   string `help:"Organisation, by name or id; not needed when there is one."`
	Which string `help:"Which ones." enum:"open,acknowledged" default:"open"`
	Limit int    `help:"At most so many, newest first." default:"50"`
	JSON  bool   `help:"For programs: one object for each alert."`
}

// Help is shown below the flags.
func (alertsListCmd) Help() string {
	return "Examples:\n  counterfoil alerts list\n  counterfoil alerts list --which acknowledged --json"
}

type alertOut struct {
	ID       string     `json:"id"`
	At       time.Time  `json:"at"`
	Kind     string     `json:"kind"`
	Rule     string     `json:"rule"`
	Why      string     `json:"why"`
	Actor    string     `json:"actor,omitempty"`
	Subject  string     `json:"subject,omitempty"`
	Records  []uint64   `json:"records"`
	Silenced bool       `json:"silenced,omitempty"`
	Acked    *time.Time `json:"acknowledged_at,omitempty"`
}

// Run lists alerts. Looking is recorded.
func (c alertsListCmd) Run(a *app) error {
	if c.Limit < 1 || c.Limit > 1000 {
		return usageError{"the limit is a number from 1 to 1000"}
	}
	return a.withAlerts(c.Org, func(w *alerts.Watch, h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "alert.list", map[string]string{"which": c.Which}); err != nil {
			return err
		}
		all, err := w.List(a.ctx, o.ID, c.Which, c.Limit)
		if err != nil {
			return err
		}
		if len(all) == 0 && !c.JSON {
			fmt.Fprintln(a.stdout, a.in("There is no such alert.", "Il n’y a pas de telle alerte."))
		}
		for _, one := range all {
			if c.JSON {
				err = a.jsonLine(alertOut{one.ID.String(), one.At, one.Kind, one.Rule.String(), one.Why("en"), one.Actor.Ref, one.Subject.Ref, one.Records, one.Silenced, one.Acked})
			} else {
				_, err = fmt.Fprintf(a.stdout, a.in("%s  %s  %s\n  %s\n  records %s\n", "%s  %s  %s\n  %s\n  enregistrements %s\n"), one.At.Format("2006-01-02 15:04:05"), one.ID, alerts.Title(a.lang, one.Kind), one.Why(a.lang), strings.Trim(fmt.Sprint(one.Records), "[]"))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

type alertsCheckCmd struct {
	Org string `help:"Organisation whose alerts are counted, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (alertsCheckCmd) Help() string {
	return "A running service does so once a minute by itself.\n\nExample:\n  counterfoil alerts check"
}

// Run holds the rules against the logs, now.
func (c alertsCheckCmd) Run(a *app) error {
	return a.withAlerts(c.Org, func(w *alerts.Watch, _ *heart, o chat.Organisation) error {
		err := w.Round(a.ctx)
		for errors.Is(err, jobs.Again) {
			err = w.Round(a.ctx)
		}
		if err != nil {
			return err
		}
		n, err := w.Unseen(a.ctx, o.ID)
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, a.in("The rules were held against the log. Open alerts: %d\n", "Les règles ont été confrontées au journal. Alertes ouvertes : %d\n"), n)
		}
		return err
	})
}

type alertsAckCmd struct {
	Org   string   `help:"Organisation, by name or id; not needed when there is one."`
	Note  string   `required:"" help:"What was found, 10 to 500 characters; kept sealed."`
	Alert []string `arg:"" help:"Ids of alerts."`
}

// Help is shown below the flags.
func (alertsAckCmd) Help() string {
	return "Example:\n  counterfoil alerts ack 5f0c7a52-6f1e-5c0e-9d0b-0d5b1a3e7c11 --note \"It was the planned move.\""
}

// Run acknowledges alerts.
func (c alertsAckCmd) Run(a *app) error {
	ids := make([]uuid.UUID, len(c.Alert))
	for i, text := range c.Alert {
		id, err := uuid.Parse(text)
		if err != nil {
			return usageError{"an alert is named by its id: see `counterfoil alerts list`"}
		}
		ids[i] = id
	}
	return a.withAlerts(c.Org, func(w *alerts.Watch, _ *heart, o chat.Organisation) error {
		n, err := w.Acknowledge(a.ctx, operator(o.ID), c.Note, ids...)
		if errors.Is(err, access.ErrReason) || errors.Is(err, alerts.ErrTerms) {
			return usageError{err.Error()}
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, a.in("Acknowledged: %d\n", "Acquittées : %d\n"), n)
		if n < len(ids) {
			fmt.Fprintln(a.stderr, "counterfoil:", a.in("the others are acknowledged already, or there is no such alert", "les autres sont déjà acquittées, ou il n’y a pas de telle alerte"))
			return found{}
		}
		return nil
	})
}

type alertsRulesListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs: one object for each rule."`
}

// Help is shown below the flags.
func (alertsRulesListCmd) Help() string { return "Example:\n  counterfoil alerts rules list --json" }

type ruleOut struct {
	ID       string       `json:"id"`
	Kind     string       `json:"kind"`
	Label    string       `json:"label,omitempty"`
	Version  int          `json:"version"`
	On       bool         `json:"on"`
	Terms    alerts.Terms `json:"terms"`
	Silenced *time.Time   `json:"silenced_until,omitempty"`
	Text     string       `json:"text"`
}

// Run lists the rules.
func (c alertsRulesListCmd) Run(a *app) error {
	return a.withAlerts(c.Org, func(w *alerts.Watch, h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "alert.rules", nil); err != nil {
			return err
		}
		all, err := w.Rules(a.ctx, o.ID)
		if err != nil {
			return err
		}
		for _, r := range all {
			if c.JSON {
				err = a.jsonLine(ruleOut{r.ID.String(), r.Kind, r.Label, r.Version, r.On, r.Terms, r.Silenced, alerts.Describe("en", r)})
			} else {
				state := a.in("on ", "active")
				if !r.On {
					state = a.in("off", "inactive")
				}
				if r.Quiet(time.Now()) {
					state += a.in(", silenced until ", ", en sourdine jusqu’au ") + r.Silenced.UTC().Format(time.RFC3339)
				}
				_, err = fmt.Fprintf(a.stdout, "%s  %s  %s\n  %s\n", r.ID, state, cmp.Or(r.Label, alerts.Title(a.lang, r.Kind)), alerts.Describe(a.lang, r))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

type alertsRulesAddCmd struct {
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	Name    string `required:"" help:"What administrators call it."`
	Search  string `required:"" help:"A search as on the page of events, without a time."`
	AtLeast int    `help:"From so many records on." default:"1"`
	Minutes int    `help:"Within so many minutes." default:"60"`
}

// Help is shown below the flags.
func (alertsRulesAddCmd) Help() string {
	return "The built-in rules are changed in the console.\n\nExample:\n  counterfoil alerts rules add --name \"Refused reveals\" --search \"outcome:deny action:reveal_to_admin\" --at-least 3 --minutes 30"
}

// Run makes a rule out of a search.
func (c alertsRulesAddCmd) Run(a *app) error {
	return a.withAlerts(c.Org, func(w *alerts.Watch, _ *heart, o chat.Organisation) error {
		err := w.Put(a.ctx, operator(o.ID), alerts.Rule{Kind: alerts.Count, Label: c.Name, On: true, Terms: alerts.Terms{Filter: c.Search, AtLeast: c.AtLeast, Minutes: c.Minutes}})
		var wrong *filter.Error
		if errors.Is(err, alerts.ErrTerms) || errors.As(err, &wrong) {
			return usageError{err.Error()}
		}
		if err == nil {
			_, err = fmt.Fprintln(a.stdout, a.in("Made the rule. It holds from the next record on.", "La règle est créée. Elle vaut à partir du prochain enregistrement."))
		}
		return err
	})
}

type alertsSilenceCmd struct {
	Org   string `help:"Organisation, by name or id; not needed when there is one."`
	Hours int    `help:"For so many hours, 720 at most; 0 lets it be heard again." default:"24"`
	Rule  string `arg:"" help:"Id of a rule, or the kind of a built-in one."`
}

// Help is shown below the flags.
func (alertsSilenceCmd) Help() string {
	return "Nobody is told of its alerts for that time; they are raised and listed all the same.\n\nExamples:\n  counterfoil alerts silence first_pair --hours 8\n  counterfoil alerts silence first_pair --hours 0"
}

// Run silences a rule.
func (c alertsSilenceCmd) Run(a *app) error {
	return a.withAlerts(c.Org, func(w *alerts.Watch, _ *heart, o chat.Organisation) error {
		all, err := w.Rules(a.ctx, o.ID)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.ID.String() != c.Rule && (r.Kind != c.Rule || r.Kind == alerts.Count) {
				continue
			}
			err := w.Silence(a.ctx, operator(o.ID), r.ID, time.Duration(c.Hours)*time.Hour)
			if errors.Is(err, alerts.ErrTerms) {
				return usageError{"a rule is silenced for 0 to 720 hours"}
			}
			if err == nil {
				_, err = fmt.Fprintln(a.stdout, a.in("Done.", "C’est fait."))
			}
			return err
		}
		return usageError{"there is no such rule: see `counterfoil alerts rules list`"}
	})
}
