package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

type eraseDoCmd struct {
	Kind    string `arg:"" help:"visitor, agent, conversation, or organisation." enum:"visitor,agent,conversation,organisation"`
	Subject string `arg:"" optional:"" help:"Whom or which: an id, or the reference that stands in records; none for the organisation."`
	Reason  string `help:"Why, in 10 to 500 characters."`
	Code    string `help:"For an organisation: the code that the first operator was given."`
	DryRun  bool   `help:"List every place where something is kept, and what stands against erasing it; change nothing."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	JSON    bool   `help:"For programs."`
}

// Help is shown below the flags.
func (eraseDoCmd) Help() string {
	return "Destroys the keys and removes every row; what is held or still open is not erased. An organisation takes two: two administrators in the console, or two operators of this host. " +
		"Here the first one is told what is kept and given a code, and the second, another user of the operating system, repeats the command with it within an hour.\n" +
		"A database of your own is reached through COUNTERFOIL_RETENTION_URL, as the role counterfoil_retention.\n\n" +
		"Examples:\n  counterfoil erase do visitor yufdndrqmwn2hvcd --dry-run\n  counterfoil erase do visitor yufdndrqmwn2hvcd --reason 'asked for by letter'\n" +
		"  counterfoil erase do organisation --reason 'the contract has ended'\n  counterfoil erase do organisation --code K7Q2MXN4"
}

// Run erases.
func (c eraseDoCmd) Run(a *app) error {
	switch whole := c.Kind == "organisation"; {
	case whole != (c.Subject == ""):
		return usageError{"everything but the organisation is named by an id or a reference"}
	case !whole && c.Code != "":
		return usageError{"--code is for an organisation: everything else one operator erases"}
	case !c.DryRun && c.Reason == "" && c.Code == "":
		return usageError{"--reason says why, unless it is a --dry-run or the second operator"}
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
			return a.showKept(r)
		}
		var e control.Erasure
		var err error
		switch {
		case s.Kind != "organisation":
			var on access.Grounds
			if on, err = h.because(a, o, c.Reason); err == nil {
				e, err = h.control.Erase(a.ctx, operator(o.ID), s, on)
			}
		case c.Code == "":
			return c.begin(a, h, o)
		default:
			e, err = c.together(a, h, o)
		}
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(e)
		}
		return writeCertificate(a, h, o, e, a.lang)
	})
}

// wholeErasure is what the first operator began.
type wholeErasure struct {
	pairing
	Approval uuid.UUID `json:"approval"`
	Reason   uuid.UUID `json:"reason"`
}

func wholeErasureFile(h *heart, o chat.Organisation) string {
	return filepath.Join(h.config.DataDir, "erase", o.ID.String()+".json")
}

// begin tells the first operator what would go, and gives the code.
func (c eraseDoCmd) begin(a *app, h *heart, o chat.Organisation) error {
	r, err := h.control.Kept(a.ctx, control.Whole(o.ID))
	if err != nil {
		return err
	}
	if len(r.Holds) > 0 {
		return control.HeldError{Holds: r.Holds}
	}
	on, err := h.because(a, o, c.Reason)
	if err != nil {
		return err
	}
	begun := wholeErasure{pair(), uuid.New(), on.Justification.ID()}
	facts := map[string]string{access.FactApproval: begun.Approval.String(), access.FactReason: begun.Reason.String()}
	if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "erasure.ask", facts); err != nil {
		return err
	}
	if err := writeBegun(wholeErasureFile(h, o), begun); err != nil {
		return err
	}
	if err := a.showKept(r); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, a.in(`
All of this goes for good; the log of %s stays. Nothing was removed yet.
A second operator of this host, another user of the operating system, confirms it within an hour:

  counterfoil erase do organisation --org %s --code %s
`, `
Tout cela disparaît pour toujours ; le journal de %s demeure. Rien n’est encore supprimé.
Un second opérateur de cette machine, un autre utilisateur du système, le confirme dans l’heure :

  counterfoil erase do organisation --org %s --code %s
`), o.Name, o.ID, begun.Code)
	return nil
}

// together erases what the first operator began, with the consent of the second.
func (c eraseDoCmd) together(a *app, h *heart, o chat.Organisation) (control.Erasure, error) {
	file := wholeErasureFile(h, o)
	begun, err := readBegun[wholeErasure](file)
	if err == nil {
		err = begun.confirm(operatorName(), c.Code)
	}
	var reasons map[uuid.UUID]string
	if err == nil {
		reasons, err = h.gate.Reasons(a.ctx, o.ID, begun.Reason)
	}
	var on access.Grounds
	if err == nil {
		on, err = h.because(a, o, reasons[begun.Reason])
	}
	first := principal.NewOperator(o.ID, begun.Operator)
	if err == nil {
		on.Consent, err = h.gate.HostConsent(a.ctx, first, operator(o.ID), "erasure.approve", begun.Approval, begun.Until)
	}
	var id uuid.UUID
	if err == nil {
		id, err = h.control.OrderErasure(a.ctx, first, control.Whole(o.ID), on)
	}
	if err != nil {
		return control.Erasure{}, err
	}
	if err := os.Remove(file); err != nil { // from here on the order stands, and is carried on whatever happens
		return control.Erasure{}, err
	}
	return h.control.Resume(a.ctx, o.ID, id, a.erased())
}

// erased shows on the terminal how far an erasure is.
func (a *app) erased() func(control.Erasure) error {
	tell := a.telling()
	return func(e control.Erasure) error {
		tell(a.in("%d conversations gone\n", "%d conversations supprimées\n"), e.Conversations)
		return nil
	}
}

func (a *app) showKept(r control.Report) error {
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, a.in("%s %s\nPLACE\tROWS\tFIRST\tLAST\n", "%s %s\nENDROIT\tLIGNES\tPREMIÈRE\tDERNIÈRE\n"), r.Kind, r.Reference)
	for _, p := range r.Places {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", p.Place, p.N, dateOf(p.First), dateOf(p.Last))
	}
	for _, e := range r.Elsewhere {
		fmt.Fprintf(t, a.in("beyond: %s\t\t\tuntil %s\n", "ailleurs : %s\t\t\tjusqu’au %s\n"), strings.TrimSpace(e.What+" "+e.Name), dateOf(e.Until))
	}
	for _, h := range r.Holds {
		fmt.Fprintf(t, a.in("held by %s\n", "retenu par %s\n"), h)
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
		fmt.Fprintln(t, a.in("ERASURE\tOF\tORDERED\tDONE\tCONVERSATIONS\tKEYS\tCERTIFICATE", "EFFACEMENT\tDE\tORDONNÉ\tFAIT\tCONVERSATIONS\tCLÉS\tCERTIFICAT"))
		for _, e := range all {
			certificate := a.in("not done", "pas fait")
			if e.Certificate != nil {
				certificate = fmt.Sprintf(a.in("record %d", "enregistrement %d"), *e.Certificate)
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
		e, err := h.control.Resume(a.ctx, o.ID, id, a.erased())
		if err != nil {
			return err
		}
		return writeCertificate(a, h, o, e, a.lang)
	})
}

type eraseCertificateCmd struct {
	Erasure string `arg:"" help:"Which, as counterfoil erase list names it."`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	JSON    bool   `help:"As a file that proves it: the record, its inclusion proof, the signed checkpoint, and the key."`
}

// Help is shown below the flags.
func (eraseCertificateCmd) Help() string {
	return "The certificate is a record of the log under a signed checkpoint. --json gives all that is needed to check it without us.\n\nExamples:\n  counterfoil erase certificate 5f0c… --lang fr\n  counterfoil erase certificate 5f0c… --json > erasure.json && counterfoil-verify erasure.json --key key.pub"
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
		file, err := h.log.Certificate(a.ctx, o.ID, *e.Certificate)
		if err != nil {
			return err
		}
		_, err = a.stdout.Write(file)
		return err
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
