package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/filter"
	"counterfoil/policy"
)

// whichLog names a log in the database.
type whichLog struct {
	Org   string `help:"Organisation, by name or id; not needed when there is one."`
	Epoch int    `help:"A log that was closed when a new one was begun, counted from 1; without it the present one." placeholder:"N"`
}

// read connects, records that the log is read, and runs f with the id under which the log lies.
func (w whichLog) read(a *app, action string, facts map[string]string, f func(h *heart, log uuid.UUID) error) error {
	return w.readAs(a, action, func(*heart, chat.Organisation, uuid.UUID) (map[string]string, error) { return facts, nil }, f)
}

// readAs is read with facts that the log itself is needed for.
func (w whichLog) readAs(a *app, action string, factsOf func(*heart, chat.Organisation, uuid.UUID) (map[string]string, error), f func(h *heart, log uuid.UUID) error) error {
	return a.within(w.Org, func(h *heart, o chat.Organisation) error {
		id := o.ID
		if w.Epoch != 0 {
			closed, err := h.log.Epochs(a.ctx, o.ID)
			if err != nil {
				return err
			}
			if w.Epoch < 0 || w.Epoch > len(closed) {
				return usageError{fmt.Sprintf("%d logs of this organisation were closed: there is no epoch %d", len(closed), w.Epoch)}
			}
			id = closed[w.Epoch-1].LogID
		}
		facts, err := factsOf(h, o, id)
		if err != nil {
			return err
		}
		if w.Epoch != 0 {
			if facts == nil {
				facts = make(map[string]string)
			}
			facts["epoch"] = strconv.Itoa(w.Epoch)
		}
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, action, facts); err != nil {
			return err
		}
		return f(h, id)
	})
}

type auditListCmd struct {
	whichLog
	Filter       string `help:"What to look for, as in the console: actor: subject: person: conversation: action: decision: kind: rule: ip: since: until:, with - or not, or, and parentheses." placeholder:"FILTER"`
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
		"  counterfoil audit list --filter 'person:4hk2a -action:converse since:-7d'\n" +
		"  counterfoil audit list --json | jq 'select(.kind == \"disclosure\")'"
}

// Run lists records, the newest last.
func (c auditListCmd) Run(a *app) error {
	now := time.Now()
	q, err := c.query(now)
	if err != nil {
		return err
	}
	sought, err := filter.Parse(c.Filter)
	if err != nil {
		return usageError{"--filter: " + err.Error()}
	}
	facts := func(h *heart, o chat.Organisation, log uuid.UUID) (map[string]string, error) {
		facts := c.facts()
		var wrong *filter.Error
		if sought, facts["filter"], err = h.gate.Seek(a.ctx, o.ID, log, sought); errors.As(err, &wrong) {
			return nil, usageError{"--filter: " + err.Error()}
		}
		return facts, err
	}
	return c.readAs(a, "audit.list", facts, func(h *heart, log uuid.UUID) error {
		queries, err := both(q, sought, now)
		if err != nil {
			return err
		}
		var found []pglog.Found
		for more := len(queries) > 0; more && uint64(len(found)) < c.Last; {
			limit := int(min(c.Last-uint64(len(found)), pglog.MaxPage))
			for i := range queries {
				queries[i].Limit = limit
			}
			page, err := h.log.SearchAny(a.ctx, log, queries)
			if err != nil {
				return err
			}
			found = append(found, page...)
			if more = len(page) == limit; more {
				for i := range queries {
					queries[i].Before = page[len(page)-1].Place
				}
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

type auditSearchesCmd struct {
	Org  string `help:"Organisation, by id or name; not needed while there is one."`
	JSON bool   `help:"For programs: one search a line."`
}

func (auditSearchesCmd) Help() string {
	return "Examples:\n  counterfoil audit searches\n  counterfoil audit searches --json | jq -r 'select(.name == \"Denials\").filter'"
}

func (c auditSearchesCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.searches", nil); err != nil {
			return err
		}
		all, err := h.gate.Searches(a.ctx, o.ID, uuid.Nil)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		if !c.JSON {
			fmt.Fprintln(t, a.in("NAME\tFILTER\tOWNER\tWHAT IT IS FOR", "NOM\tFILTRE\tÀ QUI\tÀ QUOI ELLE SERT"))
		}
		out := json.NewEncoder(a.stdout)
		for _, s := range all {
			if c.JSON {
				if err := out.Encode(s); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, cmp.Or(s.Filter, "-"), party(audit.Party{Kind: "admin", Ref: s.Owner}), s.Description)
		}
		return t.Flush()
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

// both are the queries for what answers q and the filter.
func both(q pglog.Query, f filter.Filter, now time.Time) ([]pglog.Query, error) {
	alternatives, err := access.Queries(f, now)
	if err != nil {
		return nil, err
	}
	var queries []pglog.Query
	for _, a := range alternatives {
		possible := true
		for into, value := range map[*string]string{
			&a.Kind: q.Kind, &a.Action: q.Action, &a.Decision: q.Decision, &a.Actor: q.Actor, &a.Subject: q.Subject, &a.Conversation: q.Conversation, &a.Address: q.Address,
		} {
			possible = possible && (*into == "" || value == "" || *into == value)
			*into = cmp.Or(*into, value)
		}
		if a.Since.Before(q.Since) {
			a.Since = q.Since
		}
		if a.Until.IsZero() || !q.Until.IsZero() && q.Until.Before(a.Until) {
			a.Until = q.Until
		}
		a.Before = q.Before
		if until := a.Until; possible && (until.IsZero() || a.Since.Before(until)) {
			queries = append(queries, a)
		}
	}
	return queries, nil
}

// facts says for the record what was looked for. What was typed and is neither a reference nor a purpose may be anything, so of it
// stays only that something was asked for.
func (c auditListCmd) facts() map[string]string {
	facts := map[string]string{"last": strconv.FormatUint(c.Last, 10)}
	for name, value := range map[string]string{"since": c.Since, "until": c.Until, "kind": c.Kind, "decision": c.Decision, "before": c.Before} {
		facts["filter."+name] = value // checked or from a closed list
	}
	for name, value := range map[string]string{"actor": c.Actor, "subject": c.Subject, "conversation": c.Conversation, "address": c.Address, "action": c.Action} {
		if value != "" && !filter.IsReference(value) && !slices.Contains(policy.Purposes(), policy.Purpose(value)) {
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
	whichLog
	Dir string `arg:"" help:"Directory to write to; an earlier export of the same log is continued."`
}

// Help is shown below the flags.
func (auditExportCmd) Help() string {
	return "Example:\n  counterfoil audit export ./export && counterfoil-verify ./export"
}

// Run exports.
func (c auditExportCmd) Run(a *app) error {
	return c.read(a, "audit.export", nil, func(h *heart, log uuid.UUID) error {
		head, err := h.log.Export(a.ctx, log, c.Dir)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		fmt.Fprintf(a.stdout, "Exported %d records of %s\nCheck them: counterfoil-verify %s --key VKEY\nThe key to give outsiders beforehand is in %s\n",
			head.Size, head.Origin, c.Dir, filepath.Join(c.Dir, "key.pub"))
		return nil
	})
}

type auditVerifyCmd struct {
	whichLog
	Dir         string `arg:"" optional:"" type:"existingdir" help:"Directory of an export. Without it the log is checked where it lies, in the database, with its columns and its head."`
	Key         string `help:"Verifier key line, or a file with it. Without it the key beside an export is believed, and of the database the service's own."`
	Since       string `type:"existingfile" help:"A checkpoint of the same log seen earlier. Without it, of the database, what was published counts."`
	Witness     string `help:"Verifier key line of a witness that must have cosigned the export, or a file with it."`
	PrunedBelow uint64 `help:"Records before this index may have been pruned."`
	Published   bool   `help:"Check what was published instead, in the directory and in the bucket, whole and whether anything was replaced or deleted there."`
	JSON        bool   `help:"For programs."`
}

// Help is shown below the flags.
func (auditVerifyCmd) Help() string {
	return "Examples:\n  counterfoil audit verify\n  counterfoil audit verify --published\n  counterfoil audit verify ./export --key auditor/key.pub --since auditor/checkpoint-2026-03"
}

// Run checks a log.
func (c auditVerifyCmd) Run(a *app) error {
	o := audit.Options{Key: c.Key, KeySource: "given by you", Minimum: c.PrunedBelow}
	if b, err := os.ReadFile(c.Key); c.Key != "" && err == nil {
		o.Key, o.KeySource = strings.TrimSpace(string(b)), "given by you, in the file "+c.Key
	}
	if o.Witness = c.Witness; c.Witness != "" {
		if b, err := os.ReadFile(c.Witness); err == nil {
			o.Witness = strings.TrimSpace(string(b))
		}
	}
	if c.Since != "" {
		b, err := os.ReadFile(c.Since)
		if err != nil {
			return err
		}
		o.Since = b
	}
	bar := audit.NewProgress(a.stderr)
	o.Progress = bar.Update
	if c.Published {
		if c.Dir != "" {
			return usageError{"--published and a directory exclude each other"}
		}
		return c.published(a, o, bar)
	}
	var report audit.Report
	start := time.Now()
	if c.Dir != "" {
		var err error
		report, err = audit.VerifyExport(a.ctx, audit.Files(c.Dir), o)
		bar.Clear()
		if err != nil {
			return err
		}
	} else {
		err := c.read(a, "audit.verify", nil, func(h *heart, log uuid.UUID) (err error) {
			if c.Since == "" {
				if o.Since, err = h.published(a.ctx, log); err != nil {
					return err
				}
			}
			start = time.Now()
			report, err = h.log.Verify(a.ctx, log, o)
			bar.Clear()
			return err
		})
		if err != nil {
			return err
		}
	}
	write := report.WriteText
	if c.JSON {
		write = report.WriteJSON
	}
	if err := write(a.stdout, time.Since(start)); err != nil {
		return err
	}
	if len(report.Faults) > 0 {
		return found{}
	}
	return nil
}

// published checks what lies outside the database, everywhere.
func (c auditVerifyCmd) published(a *app, o audit.Options, bar *audit.Progress) error {
	return c.read(a, "audit.verify", map[string]string{"published": "true"}, func(h *heart, log uuid.UUID) error {
		head, err := h.log.Head(a.ctx, log)
		if err != nil {
			return err
		}
		bad := false
		for _, p := range h.publishers {
			start := time.Now()
			v := p.Verify(a.ctx, head.Origin, o)
			bar.Clear()
			if v.Err != nil {
				return fmt.Errorf("%s: %w", v.Where, v.Err)
			}
			if !c.JSON {
				fmt.Fprintf(a.stdout, "%s\n", v.Where)
			}
			for _, text := range v.Overwritten {
				v.Report.Faults = append(v.Report.Faults, audit.Fault{Kind: audit.Overwritten, Index: -1, Text: text})
			}
			write := v.Report.WriteText
			if c.JSON {
				write = v.Report.WriteJSON
			}
			if err := write(a.stdout, time.Since(start)); err != nil {
				return err
			}
			bad = bad || len(v.Report.Faults) > 0
		}
		if bad {
			return found{}
		}
		return nil
	})
}

type auditConsistencyCmd struct {
	Old string `arg:"" help:"The earlier state: a file with a checkpoint, or a number of records."`
	New string `arg:"" optional:"" help:"The later state, likewise; without it the present one."`
	Out string `help:"File for the proof, as a witness takes it (C2SP tlog-witness)."`
	whichLog
}

// Help is shown below the flags.
func (auditConsistencyCmd) Help() string {
	return "Examples:\n  counterfoil audit consistency auditor/checkpoint-2026-03\n" +
		"  counterfoil audit consistency 300 ./export/checkpoint --out update && curl --data-binary @update http://witness.example/add-checkpoint"
}

// Run proves that the log only grew.
func (c auditConsistencyCmd) Run(a *app) error {
	return c.read(a, "audit.consistency", nil, func(h *heart, log uuid.UUID) error {
		head, err := h.log.Head(a.ctx, log)
		if err != nil {
			return err
		}
		old, err := c.state(h, head, c.Old)
		if err != nil {
			return err
		}
		now := state{signed: head.Checkpoint}
		if c.New != "" {
			if now, err = c.state(h, head, c.New); err != nil {
				return err
			}
			if now.signed == nil && now.Size != head.Size {
				return usageError{fmt.Sprintf("no signed checkpoint of %d records is at hand: give the file with it", now.Size)}
			}
		}
		if now.signed == nil || c.New == "" {
			now.signed = head.Checkpoint
			if now.Checkpoint, err = h.log.Checkpoint(head); err != nil {
				return err
			}
		}
		if old.Size > now.Size {
			return usageError{fmt.Sprintf("%d records are not earlier than %d", old.Size, now.Size)}
		}
		root, proof, err := h.log.Consistency(a.ctx, log, old.Size, now.Checkpoint)
		if err != nil {
			return err
		}
		if old.signed == nil {
			old.Root = root
		}
		if err := audit.VerifyConsistency(old.Size, old.Root, now.Size, now.Root, proof); err != nil {
			fmt.Fprintf(a.stdout, "THE LOG DOES NOT CONTINUE the checkpoint of %d records: its first %d records are others. It was written anew.\n", old.Size, old.Size)
			return found{}
		}
		var update bytes.Buffer
		if err := audit.WriteUpdate(&update, old.Size, proof, now.signed); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "The log of %d records continues that of %d: its first %d records are the same (%d hashes prove it).\n", now.Size, old.Size, old.Size, len(proof))
		if old.signed == nil {
			fmt.Fprintf(a.stdout, "The root of %d records is %s; give a file with a checkpoint you kept to have it compared.\n", old.Size, old.Root)
		}
		if c.Out == "" {
			return nil
		}
		if err := os.WriteFile(c.Out, update.Bytes(), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "Wrote %s, which a witness takes as it is\n", c.Out)
		return nil
	})
}

// state is one of the two ends of a consistency proof. Of a number of records only the size is known.
type state struct {
	audit.Checkpoint
	signed []byte
}

// state reads an argument.
func (auditConsistencyCmd) state(h *heart, head pglog.Head, argument string) (state, error) {
	if size, err := strconv.ParseUint(argument, 10, 63); err == nil {
		return state{Checkpoint: audit.Checkpoint{Size: size}}, nil
	}
	signed, err := os.ReadFile(argument)
	if err != nil {
		return state{}, usageError{argument + " is neither a number of records nor a file with a checkpoint"}
	}
	c, err := h.log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: signed})
	return state{c, signed}, err
}

type auditProofCmd struct {
	Index uint64 `arg:"" help:"Number of the record."`
	Out   string `help:"File for the proof (C2SP tlog-proof); the record goes beside it as .json." default:"record.tlog-proof"`
	whichLog
}

// Help is shown below the flags.
func (auditProofCmd) Help() string {
	return "Example:\n  counterfoil audit proof 17 --out record-17.tlog-proof"
}

// Run writes a proof.
func (c auditProofCmd) Run(a *app) error {
	return c.read(a, "audit.proof", map[string]string{"index": strconv.FormatUint(c.Index, 10)}, func(h *heart, log uuid.UUID) error {
		entry, proof, err := h.log.Proof(a.ctx, log, c.Index)
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
