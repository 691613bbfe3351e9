package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/store"
	"counterfoil/internal/subject"
	"counterfoil/policy"
)

type noticesListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs, one version a line."`
}

// Help is shown below the flags.
func (noticesListCmd) Help() string { return "Example:\n  counterfoil notices list --json" }

type editionOut struct {
	Audience  string           `json:"audience"`
	Version   int              `json:"version"`
	State     string           `json:"state"` // in_force, superseded, draft
	Published *time.Time       `json:"published_at,omitempty"`
	Accepted  map[string]int64 `json:"accepted"` // by language
}

// editions lists the versions of both notices.
func (a *app) editions(h *heart, o chat.Organisation) ([]editionOut, error) {
	var out []editionOut
	for _, audience := range []chat.Audience{chat.ForVisitors, chat.ForAgents} {
		all, err := h.store.Editions(a.ctx, o.ID, audience)
		if err != nil {
			return nil, err
		}
		state := "in_force"
		for _, e := range all {
			one := editionOut{Audience: string(audience), Version: e.Version, Accepted: e.Accepted}
			if e.Published.IsZero() && e.Version > 1 {
				one.State = "draft"
			} else {
				one.State, state = state, "superseded"
			}
			if !e.Published.IsZero() {
				at := e.Published.UTC()
				one.Published = &at
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// audience and state name those of a notice.
func (a *app) audience(name string) string {
	return map[string]string{"visitor": a.in("visitor", "visiteur"), "agent": "agent"}[name]
}

func (a *app) state(name string) string {
	return map[string]string{"in_force": a.in("in force", "en vigueur"), "superseded": a.in("superseded", "remplacée"), "draft": a.in("draft", "projet")}[name]
}

// Run lists the notices.
func (c noticesListCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		all, err := a.editions(h, o)
		if err != nil {
			return err
		}
		if c.JSON {
			for _, one := range all {
				if err := a.jsonLine(one); err != nil {
					return err
				}
			}
			return nil
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, a.in("FOR\tVERSION\tSTATE\tPUBLISHED\tACCEPTED IN ENGLISH\tIN FRENCH", "POUR\tVERSION\tÉTAT\tPUBLIÉE\tACCEPTÉE EN ANGLAIS\tEN FRANÇAIS"))
		for _, one := range all {
			published := "-"
			if one.Published != nil {
				published = one.Published.Format("2006-01-02 15:04")
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%d\t%d\n", a.audience(one.Audience), one.Version, a.state(one.State), published, one.Accepted["en"], one.Accepted["fr"])
		}
		return t.Flush()
	})
}

type noticesShowCmd struct {
	Audience string `arg:"" enum:"visitor,agent" help:"Whom it is for: visitor or agent."`
	Org      string `help:"Organisation, by name or id; not needed when there is one."`
	JSON     bool   `help:"For programs."`
}

// Help is shown below the flags.
func (noticesShowCmd) Help() string { return "Example:\n  counterfoil notices show visitor" }

// Run shows the notice in force.
func (c noticesShowCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		n, err := h.store.Notice(a.ctx, o.ID, chat.Audience(c.Audience))
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(struct {
				Audience string            `json:"audience"`
				Version  int               `json:"version"`
				Texts    map[string]string `json:"texts"`
			}{c.Audience, n.Version, n.Texts})
		}
		fmt.Fprintf(a.stdout, a.in("Version %d for every %s\n", "Version %d pour chaque %s\n"), n.Version, a.audience(c.Audience))
		for _, language := range chat.Languages() {
			fmt.Fprintf(a.stdout, "\n[%s]\n%s\n", language, n.Texts[language])
		}
		return nil
	})
}

type noticesDraftCmd struct {
	Audience string `arg:"" enum:"visitor,agent" help:"Whom it is for: visitor or agent."`
	English  string `required:"" type:"existingfile" help:"File with the words in English." placeholder:"FILE"`
	French   string `required:"" type:"existingfile" help:"File with the words in French." placeholder:"FILE"`
	Org      string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (noticesDraftCmd) Help() string {
	return "Plain text, at most 4000 characters in each language. An empty line begins a paragraph; the first of several lines is its heading.\n\n" +
		"Example:\n  counterfoil notices draft visitor --english notice.en.txt --french notice.fr.txt"
}

// Run keeps a draft.
func (c noticesDraftCmd) Run(a *app) error {
	n := chat.Notice{Audience: chat.Audience(c.Audience), Texts: make(map[string]string)}
	for language, file := range map[string]string{"en": c.English, "fr": c.French} {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if n.Texts[language], err = chat.NoticeText(string(b)); err != nil {
			return usageError{file + ": " + err.Error()}
		}
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.EndUserPolicy, o.ID, "notice.draft", map[string]string{"notice.audience": c.Audience}); err != nil {
			return err
		}
		version, err := h.store.Draft(a.ctx, o.ID, n)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, a.in("Version %d is drafted.\nNext: counterfoil notices publish %s %d\n", "La version %d est rédigée.\nEnsuite : counterfoil notices publish %s %d\n"), version, c.Audience, version)
		return nil
	})
}

type noticesPublishCmd struct {
	Audience string `arg:"" enum:"visitor,agent" help:"Whom it is for: visitor or agent."`
	Version  int    `arg:"" help:"Version that was drafted."`
	Org      string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (noticesPublishCmd) Help() string { return "Example:\n  counterfoil notices publish visitor 2" }

// Run publishes a draft.
func (c noticesPublishCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		facts := map[string]string{"notice.audience": c.Audience, "notice.version": strconv.Itoa(c.Version)}
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.EndUserPolicy, o.ID, "notice.publish", facts); err != nil {
			return err
		}
		err := h.store.Publish(a.ctx, o.ID, chat.Audience(c.Audience), c.Version)
		if errors.Is(err, store.ErrNoDraft) {
			return usageError{fmt.Sprintf("there is no draft of version %d: see counterfoil notices list", c.Version)}
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, a.in("Version %d is in force; every %s is asked again.\n", "La version %d est en vigueur ; elle est de nouveau demandée à chaque %s.\n"), c.Version, a.audience(c.Audience))
		return nil
	})
}

type requestsListCmd struct {
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	Overdue bool   `help:"Only those that should have been answered by now; the exit code is 1 when there is one."`
	JSON    bool   `help:"For programs, one request a line."`
}

// Help is shown below the flags.
func (requestsListCmd) Help() string {
	return "People appear by their references. Requests are answered in the console.\n\nExamples:\n  counterfoil requests list\n  counterfoil requests list --overdue --json"
}

type requestOut struct {
	ID         string     `json:"id"`
	Kind       string     `json:"kind"`
	Person     string     `json:"person"`
	Reference  string     `json:"reference"`
	State      string     `json:"state"`
	Source     string     `json:"source"`
	Identified string     `json:"identified,omitempty"`
	Received   time.Time  `json:"received_at"`
	Due        time.Time  `json:"due_at"`
	Overdue    bool       `json:"overdue"`
	Extended   *time.Time `json:"extended_at,omitempty"`
	Closed     *time.Time `json:"closed_at,omitempty"`
}

func requestJSON(r access.Request) requestOut {
	out := requestOut{r.ID.String(), r.Kind, chat.Handle(r.SubjectKind, r.Subject), r.Subject, r.State, r.Source, r.Identification, r.Received.UTC(), r.Due.UTC(), r.Overdue(time.Now()), nil, nil}
	if !r.Extended.IsZero() {
		at := r.Extended.UTC()
		out.Extended = &at
	}
	if !r.Closed.IsZero() {
		at := r.Closed.UTC()
		out.Closed = &at
	}
	return out
}

const requestsShown = 1000

// Run lists requests.
func (c requestsListCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.HandleRequest, o.ID, "requests.list", nil); err != nil {
			return err
		}
		all, err := h.gate.Requests(a.ctx, o.ID, uuid.Nil, requestsShown)
		if err != nil {
			return err
		}
		var shown []requestOut
		late := false
		for _, r := range all {
			one := requestJSON(r)
			if late = late || one.Overdue; one.Overdue || !c.Overdue {
				shown = append(shown, one)
			}
		}
		switch {
		case c.JSON:
			for _, one := range shown {
				if err := a.jsonLine(one); err != nil {
					return err
				}
			}
		case len(shown) == 0:
			fmt.Fprintln(a.stdout, a.in("Nobody asks anything.", "Personne ne demande rien."))
		default:
			t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, a.in("ID\tASKED\tPERSON\tRECEIVED\tDUE\tSTATE", "ID\tDEMANDE\tPERSONNE\tREÇUE\tÉCHÉANCE\tÉTAT"))
			for _, one := range shown {
				state := subject.Word(a.lang, "state_"+one.State)
				if one.Overdue {
					state = a.in("OVERDUE", "EN RETARD")
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", one.ID, subject.Word(a.lang, "ask_"+one.Kind), one.Person, one.Received.Format(time.DateOnly), one.Due.Format(time.DateOnly), state)
			}
			if err := t.Flush(); err != nil {
				return err
			}
		}
		if c.Overdue && late {
			return found{}
		}
		return nil
	})
}

type requestsShowCmd struct {
	ID   string `arg:"" help:"Id of the request."`
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (requestsShowCmd) Help() string {
	return "What was written about it is shown in the console alone.\n\nExample:\n  counterfoil requests show 3f0e8f3e-3a5e-4d8e-9f4e-0c8a1c7f2b11"
}

type stepOut struct {
	Action string    `json:"action"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// Run shows a request.
func (c requestsShowCmd) Run(a *app) error {
	id, err := uuid.Parse(c.ID)
	if err != nil {
		return usageError{"the id of a request looks like 3f0e8f3e-3a5e-4d8e-9f4e-0c8a1c7f2b11: see counterfoil requests list"}
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.HandleRequest, o.ID, "requests.show", map[string]string{access.FactRequest: id.String()}); err != nil {
			return err
		}
		r, steps, err := h.gate.Request(a.ctx, o.ID, id)
		if errors.Is(err, access.ErrUnknown) {
			return usageError{"there is no such request: see counterfoil requests list"}
		}
		if err != nil {
			return err
		}
		out := struct {
			requestOut
			Steps []stepOut `json:"steps"`
		}{requestJSON(r), nil}
		for _, s := range steps {
			out.Steps = append(out.Steps, stepOut{s.Action, s.By, s.At.UTC()})
		}
		if c.JSON {
			return a.json(out)
		}
		fmt.Fprintf(a.stdout, "%s: %s\n%s, %s – %s\n", subject.Word(a.lang, "ask_"+r.Kind), out.Person, subject.Word(a.lang, "state_"+r.State), out.Received.Format(time.DateOnly), out.Due.Format(time.DateOnly))
		for _, s := range out.Steps {
			fmt.Fprintf(a.stdout, "  %s  %s  %s\n", s.At.Format("2006-01-02 15:04"), subject.Word(a.lang, "step_"+s.Action), s.By)
		}
		return nil
	})
}
