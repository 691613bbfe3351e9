package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/chat"
	"counterfoil/internal/control"
)

type eraseDoCmd struct {
	Kind    string `arg:"" help:"visitor, agent, conversation, or organisation." enum:"visitor,agent,conversation,organisation"`
	Subject string `arg:"" optional:"" help:"Whom or which: an id, or the reference that stands in records; none for the organisation."`
	Reason  string `help:"Why, in 10 to 500 characters."`
	DryRun  bool   `help:"List every place where something is kept, and what stands against erasing it; change nothing."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	JSON    bool   `help:"For programs."`
}

// Help is shown below the flags.
func (eraseDoCmd) Help() string {
	return "Destroys the keys and removes every row; what is held or still open is not erased. An organisation takes two administrators, in the console; here it can be looked at.\n" +
		"A database of your own is reached through COUNTERFOIL_RETENTION_URL, as the role counterfoil_retention.\n\n" +
		"Examples:\n  counterfoil erase do visitor yufdndrqmwn2hvcd --dry-run\n  counterfoil erase do visitor yufdndrqmwn2hvcd --reason 'asked for by letter'"
}

// Run erases.
func (c eraseDoCmd) Run(a *app) error {
	switch whole := c.Kind == "organisation"; {
	case whole != (c.Subject == ""):
		return usageError{"everything but the organisation is named by an id or a reference"}
	case whole && !c.DryRun:
		return usageError{"an organisation is erased in the console, where a second person consents; --dry-run says what is kept"}
	case !c.DryRun && c.Reason == "":
		return usageError{"--reason says why, unless it is a --dry-run"}
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		s := control.Whole(o.ID)
		if c.Subject != "" {
			var err error
			if s, err = h.subject(a, o, c.Kind, c.Subject); err != nil {
				return err
			}
		}
		if c.DryRun {
			r, err := h.control.Kept(a.ctx, s)
			if err != nil {
				return err
			}
			if c.JSON {
				return a.json(r)
			}
			return showKept(a.stdout, r)
		}
		on, err := h.because(a, o, c.Reason)
		if err != nil {
			return err
		}
		e, err := h.control.Erase(a.ctx, operator(o.ID), s, on)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(e)
		}
		return writeCertificate(a, h, o, e, "en")
	})
}

func showKept(w io.Writer, r control.Report) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "%s %s\nPLACE\tROWS\tFIRST\tLAST\n", r.Kind, r.Reference)
	for _, p := range r.Places {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", p.Place, p.N, dateOf(p.First), dateOf(p.Last))
	}
	for _, e := range r.Elsewhere {
		fmt.Fprintf(t, "beyond: %s\t\t\tuntil %s\n", e.What, dateOf(e.Until))
	}
	for _, h := range r.Holds {
		fmt.Fprintf(t, "held by %s\n", h)
	}
	return t.Flush()
}

type eraseListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (eraseListCmd) Help() string { return "Example:\n  counterfoil erase list --json" }

// Run lists erasures.
func (c eraseListCmd) Run(a *app) error {
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		all, err := h.control.Erasures(a.ctx, o.ID, 1000)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(all)
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "ERASURE\tOF\tORDERED\tDONE\tCONVERSATIONS\tKEYS\tCERTIFICATE")
		for _, e := range all {
			certificate := "not done"
			if e.Certificate != nil {
				certificate = fmt.Sprintf("record %d", *e.Certificate)
			}
			fmt.Fprintf(t, "%s\t%s %s\t%s\t%s\t%d\t%d\t%s\n", e.ID, e.Kind, e.Reference, e.Ordered.UTC().Format(time.DateOnly), dateOf(e.Done), e.Conversations, e.Keys, certificate)
		}
		return t.Flush()
	})
}

type eraseResumeCmd struct {
	Erasure string `arg:"" help:"Which, as counterfoil erase list names it."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (eraseResumeCmd) Help() string {
	return "A running service does it each hour.\n\nExample:\n  counterfoil erase resume 5f0c…"
}

// Run carries on with an erasure that broke off.
func (c eraseResumeCmd) Run(a *app) error {
	id, err := uuid.Parse(c.Erasure)
	if err != nil {
		return usageError{"an erasure is named by its id: see counterfoil erase list"}
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		said := time.Now()
		e, err := h.control.Resume(a.ctx, o.ID, id, func(e control.Erasure) error {
			if time.Since(said) > time.Second {
				said = time.Now()
				fmt.Fprintf(a.stderr, "%d conversations gone\n", e.Conversations)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return writeCertificate(a, h, o, e, "en")
	})
}

type eraseCertificateCmd struct {
	Erasure string `arg:"" help:"Which, as counterfoil erase list names it."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	JSON    bool   `help:"For programs: with the record, its inclusion proof and the signed checkpoint."`
}

// Help is shown below the flags.
func (eraseCertificateCmd) Help() string {
	return "The certificate is a record of the log under a signed checkpoint. --json gives all that is needed to check it without us.\n\nExample:\n  counterfoil erase certificate 5f0c… --lang fr"
}

// Run shows the certificate of an erasure.
func (c eraseCertificateCmd) Run(a *app) error {
	id, err := uuid.Parse(c.Erasure)
	if err != nil {
		return usageError{"an erasure is named by its id: see counterfoil erase list"}
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		e, err := h.control.Erasure(a.ctx, o.ID, id)
		if err != nil {
			return err
		}
		if !c.JSON || e.Certificate == nil {
			return writeCertificate(a, h, o, e, a.lang)
		}
		body, proof, err := h.log.Proof(a.ctx, o.ID, *e.Certificate)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := audit.WriteProof(&text, proof); err != nil {
			return err
		}
		return a.json(map[string]any{"erasure": e, "record": base64.StdEncoding.EncodeToString(body), "proof": text.String()})
	})
}

// writeCertificate says what was erased, and which record certifies it.
func writeCertificate(a *app, h *heart, o chat.Organisation, e control.Erasure, lang string) error {
	backups, err := h.control.Backups(a.ctx, o.ID)
	if err != nil {
		return err
	}
	fmt.Fprint(a.stdout, control.CertificateText(lang, o.Origin, e, backups))
	if e.Certificate == nil {
		return found{}
	}
	return nil
}
