package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/chat"
	"counterfoil/policy"
)

type auditListCmd struct {
	Org          string `help:"Organisation, by name or id; not needed when there is one."`
	Last         uint64 `help:"How many of the newest records." default:"50"`
	Since        string `help:"Not before: a time (2026-11-24, 2026-11-24T10:00:00Z) or a span back from now (30d, 12h)."`
	Until        string `help:"Before: a time or a span back from now."`
	Kind         string `help:"disclosure, denial, collection or administration." enum:",disclosure,denial,collection,administration" default:""`
	Action       string `help:"Purpose, or administrative act, as WHAT shows it."`
	Decision     string `help:"allow, masked or deny." enum:",allow,masked,deny" default:""`
	Actor        string `help:"Who asked, by reference."`
	Subject      string `help:"Whom it is about, by reference."`
	Conversation string `help:"Conversation, by reference; --json shows it."`
	Address      string `help:"Address of a person who signed in, by reference; --json shows it."`
	Before       string `help:"Go on from where an earlier list ended, as it said."`
	JSON         bool   `help:"For programs: the canonical records, one a line."`
}

// Help is shown below the flags.
func (auditListCmd) Help() string {
	return "Examples:\n  counterfoil audit list --last 20\n  counterfoil audit list --decision deny --since 30d\n" +
		"  counterfoil audit list --json | jq 'select(.kind == \"disclosure\")'"
}

// Run lists records, the newest last.
func (c auditListCmd) Run(a *app) error {
	q, err := c.query(time.Now())
	if err != nil {
		return err
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.list", c.facts()); err != nil {
			return err
		}
		var found []pglog.Found
		for more := true; more && uint64(len(found)) < c.Last; {
			q.Limit = int(min(c.Last-uint64(len(found)), pglog.MaxPage))
			page, err := h.log.Search(a.ctx, o.ID, q)
			if err != nil {
				return err
			}
			found = append(found, page...)
			if more = len(page) == q.Limit; more {
				q.Before = page[len(page)-1].Place
			}
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(t, "#\tTIME (UTC)\tWHAT\tDECISION\tWHO\tABOUT\tFIELDS\tRULE")
		}
		for _, f := range slices.Backward(found) {
			if c.JSON {
				fmt.Fprintf(a.stdout, "%s\n", f.Body)
				continue
			}
			e, err := audit.ParseEntry(f.Body)
			if err != nil {
				return fmt.Errorf("the log in the database is damaged: %w", err)
			}
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Seq, e.Time.Format(time.DateTime), e.Action, cmp.Or(e.Decision, "-"),
				party(e.Actor), party(e.Subject), cmp.Or(strings.Join(e.Fields, ","), "-"), cmp.Or(e.Rule, "-"))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if n := len(found); uint64(n) == c.Last && found[n-1].Seq > 0 {
			fmt.Fprintf(a.stderr, "There may be older ones: add --before %s/%d\n", found[n-1].At.Format(time.RFC3339Nano), found[n-1].Seq)
		}
		return nil
	})
}

func (c auditListCmd) query(now time.Time) (pglog.Query, error) {
	q := pglog.Query{Kind: c.Kind, Action: c.Action, Decision: c.Decision, Actor: c.Actor, Subject: c.Subject, Conversation: c.Conversation, Address: c.Address}
	if c.Last < 1 || c.Last > 100_000 {
		return q, usageError{"--last takes 1 to 100000"}
	}
	q.Since = time.Unix(0, 0)
	for _, t := range []struct {
		name, text string
		into       *time.Time
	}{{"--since", c.Since, &q.Since}, {"--until", c.Until, &q.Until}} {
		if t.text == "" {
			continue
		}
		at, err := moment(t.text, now)
		if err != nil {
			return q, usageError{t.name + ": " + err.Error()}
		}
		*t.into = at
	}
	if c.Before != "" {
		at, seq, ok := strings.Cut(c.Before, "/")
		var err error
		if q.Before.At, err = time.Parse(time.RFC3339Nano, at); err == nil && ok {
			q.Before.Seq, err = strconv.ParseUint(seq, 10, 63)
		}
		if err != nil || !ok {
			return q, usageError{"--before takes what an earlier list said, such as 2026-11-24T10:00:00Z/123"}
		}
	}
	return q, nil
}

// reference is what a keyed reference looks like.
var reference = regexp.MustCompile(`^[a-z2-9]{16}$`)

// facts says for the record what was looked for. What was typed and is neither a reference nor a purpose may be anything, so of it
// stays only that something was asked for.
func (c auditListCmd) facts() map[string]string {
	facts := map[string]string{"last": strconv.FormatUint(c.Last, 10)}
	for name, value := range map[string]string{"since": c.Since, "until": c.Until, "kind": c.Kind, "decision": c.Decision, "before": c.Before} {
		facts["filter."+name] = value // checked or from a closed list
	}
	for name, value := range map[string]string{"actor": c.Actor, "subject": c.Subject, "conversation": c.Conversation, "address": c.Address, "action": c.Action} {
		if value != "" && !reference.MatchString(value) && !slices.Contains(policy.Purposes(), policy.Purpose(value)) {
			value = "something else"
		}
		facts["filter."+name] = value
	}
	return facts
}

// moment reads a point in time, or a span back from now.
func moment(text string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("takes a time such as 2026-11-24 or 2026-11-24T10:00:00Z, or a span such as 30d or 12h")
}

func party(p audit.Party) string {
	if p.Kind == "" {
		return "-"
	}
	return strings.TrimSpace(p.Kind + " " + p.Ref)
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
