package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/chat"
	"counterfoil/policy"
)

type auditListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	Last uint64 `help:"How many of the newest records." default:"50"`
	JSON bool   `help:"For programs: the canonical records, one a line."`
}

// Help is shown below the flags.
func (auditListCmd) Help() string {
	return "Examples:\n  counterfoil audit list --last 20\n  counterfoil audit list --json | jq 'select(.kind == \"disclosure\")'"
}

// Run lists records.
func (c auditListCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.list", map[string]string{"last": strconv.FormatUint(c.Last, 10)}); err != nil {
			return err
		}
		head, err := h.log.Head(a.ctx, o.ID)
		if err != nil {
			return err
		}
		from := head.Size - min(head.Size, c.Last)
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(t, "#\tTIME (UTC)\tWHAT\tDECISION\tWHO\tABOUT\tFIELDS\tRULE")
		}
		for body, err := range h.log.Entries(a.ctx, o.ID, from, head.Size) {
			if err != nil {
				return err
			}
			if c.JSON {
				fmt.Fprintf(a.stdout, "%s\n", body)
				continue
			}
			e, err := audit.ParseEntry(body)
			if err != nil {
				return fmt.Errorf("the log in the database is damaged: %w", err)
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.Time.Format(time.DateTime), e.Action, cmp.Or(e.Decision, "-"),
				party(e.Actor), party(e.Subject), cmp.Or(strings.Join(e.Fields, ","), "-"), cmp.Or(e.Rule, "-"))
		}
		return t.Flush()
	})
}

func party(p audit.Party) string {
	if p.Kind == "" {
		return "-"
	}
	return fmt.Sprintf("%s %.8s", p.Kind, p.Ref)
}

type auditExportCmd struct {
	Dir string `arg:"" help:"Directory to write to; an earlier export of the same log is continued."`
	Org string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (auditExportCmd) Help() string {
	return "Example:\n  counterfoil audit export ./export && counterfoil-verify ./export"
}

// Run exports.
func (c auditExportCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.export", nil); err != nil {
			return err
		}
		head, err := h.log.Export(a.ctx, o.ID, c.Dir)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		fmt.Fprintf(a.stdout, "Exported %d records of %s\nCheck them: counterfoil-verify %s --key VKEY\nThe key to give outsiders beforehand is in %s\n",
			head.Size, head.Origin, c.Dir, filepath.Join(c.Dir, "key.pub"))
		return nil
	})
}

type auditVerifyCmd struct {
	Dir   string `arg:"" type:"existingdir" help:"Directory of an export."`
	Key   string `help:"Verifier key line, or a file with it. Without it the key beside the log is believed."`
	Since string `type:"existingfile" help:"A checkpoint of the same log seen earlier."`
	JSON  bool   `help:"For programs."`
}

// Run checks an export.
func (c auditVerifyCmd) Run(a *app) error {
	o := audit.Options{Key: c.Key}
	if b, err := os.ReadFile(c.Key); c.Key != "" && err == nil {
		o.Key = strings.TrimSpace(string(b))
	}
	if c.Since != "" {
		b, err := os.ReadFile(c.Since)
		if err != nil {
			return err
		}
		o.Since = b
	}
	report, err := audit.VerifyExport(a.ctx, os.DirFS(c.Dir), o)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := a.json(report); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.stdout, "%s\n%d records, %s to %s\n", report.Checkpoint.Origin, report.Records, report.First.Format(time.DateTime), report.Last.Format(time.DateTime))
		if report.KeyFromExport {
			fmt.Fprintln(a.stdout, "The key was taken from beside the log: this shows only that the log agrees with itself.")
		}
		for _, f := range report.Faults {
			fmt.Fprintf(a.stdout, "FAULT %s: %s\n", f.Kind, f.Text)
		}
	}
	if len(report.Faults) > 0 {
		return found{}
	}
	if !c.JSON {
		fmt.Fprintln(a.stdout, "The log is whole.")
	}
	return nil
}

type auditProofCmd struct {
	Index uint64 `arg:"" help:"Number of the record."`
	Out   string `help:"File for the proof (C2SP tlog-proof); the record goes beside it as .json." default:"record.tlog-proof"`
	Org   string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (auditProofCmd) Help() string {
	return "Example:\n  counterfoil audit proof 17 --out record-17.tlog-proof"
}

// Run writes a proof.
func (c auditProofCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.proof", map[string]string{"index": strconv.FormatUint(c.Index, 10)})
		if err != nil {
			return err
		}
		entry, proof, err := h.log.Proof(a.ctx, o.ID, c.Index)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := audit.WriteProof(&out, proof); err != nil {
			return err
		}
		record := strings.TrimSuffix(c.Out, filepath.Ext(c.Out)) + ".json"
		if !json.Valid(entry) {
			return fmt.Errorf("record %d is damaged", c.Index)
		}
		if err := os.WriteFile(record, entry, 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(c.Out, out.Bytes(), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "Wrote %s and the record's exact bytes, %s\n", c.Out, record)
		return nil
	})
}
