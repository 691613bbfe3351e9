package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/chat"
	"counterfoil/policy"
)

// policyArg names the policy a command is about.
type policyArg struct {
	Policy string `arg:"" optional:"" type:"path" help:"Directory or bundle file of a policy; without it the one compiled in."`
}

type policyCheckCmd struct {
	policyArg
	Key string `type:"existingfile" help:"Public key in PEM that must have signed it."`
}

// Help is shown below the flags.
func (policyCheckCmd) Help() string {
	return "Examples:\n  counterfoil policy check ./policy\n  counterfoil policy check policy.tar.gz --key policy.pub"
}

// Run checks a policy.
func (c policyCheckCmd) Run(a *app) error {
	var key []byte
	if c.Key != "" {
		var err error
		if key, err = os.ReadFile(c.Key); err != nil {
			return err
		}
	}
	engine, err := admit(a.ctx, c.Policy, key)
	if err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	signed := ""
	if key != nil {
		signed = ", and the key signed it"
	}
	fmt.Fprintf(a.stdout, "The policy is sound%s. Revision %s\n", signed, engine.Revision())
	return nil
}

// admit loads a policy as strictly as the service does; key is nil where nobody asks who signed it.
func admit(ctx context.Context, path string, key []byte) (*policy.Engine, error) {
	if path == "" && key == nil {
		return policy.Admit(ctx, policy.Bundle())
	}
	fsys, err := policy.Open(path, key)
	if err != nil {
		return nil, err
	}
	return policy.Admit(ctx, fsys)
}

type policyTestCmd struct{ policyArg }

// Run tests a policy.
func (c policyTestCmd) Run(a *app) error {
	fsys, err := policy.Bundle(), error(nil)
	if c.Policy != "" {
		fsys, err = policy.Open(c.Policy, nil)
	}
	var passed, failed int
	var coverage float64
	if err == nil {
		passed, failed, coverage, err = policy.Test(a.ctx, fsys, a.stdout)
	}
	if err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	fmt.Fprintf(a.stdout, "%d passed, %d failed, %.1f %% of the policy covered\n", passed, failed, coverage)
	if failed > 0 || coverage < 100 {
		return found{}
	}
	return nil
}

type policyMatrixCmd struct{ policyArg }

// Run shows the decision matrix.
func (c policyMatrixCmd) Run(a *app) error {
	engine, err := admit(a.ctx, c.Policy, nil)
	if err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	return policy.Matrix(a.stdout, engine)
}

type policySignCmd struct {
	Dir string `arg:"" type:"existingdir" help:"Directory of the policy."`
	Key string `required:"" type:"existingfile" help:"Private key in PEM: Ed25519, ECDSA P-256 or RSA. Only its owner may be able to read it."`
	Out string `required:"" type:"path" help:"File for the bundle; it is put in place whole."`
}

// Help is shown below the flags.
func (policySignCmd) Help() string {
	return "Example:\n  openssl genpkey -algorithm ed25519 -out policy.key && openssl pkey -in policy.key -pubout -out policy.pub\n" +
		"  counterfoil policy sign ./policy --key policy.key --out policy.tar.gz\n" +
		"  COUNTERFOIL_POLICY_BUNDLE=policy.tar.gz COUNTERFOIL_POLICY_KEY=policy.pub counterfoil serve"
}

// Run signs.
func (c policySignCmd) Run(a *app) error {
	key, err := keyring.ReadSecret(c.Key)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	fresh := c.Out + ".new"
	out, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	err = policy.Sign(a.ctx, out, os.DirFS(c.Dir), key)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		_ = os.Remove(fresh)
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	// A service that looks at the file meanwhile sees the old one or the new one.
	if err := os.Rename(fresh, c.Out); err != nil {
		return err
	}
	engine, err := admit(a.ctx, c.Out, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Wrote %s, revision %s\n", c.Out, engine.Revision())
	return nil
}

type policyReplayCmd struct {
	Bundle string `required:"" type:"path" help:"Directory or bundle file of the other policy."`
	Since  string `help:"Not before: a time (2026-11-24, 2026-11-24T10:00:00Z) or a span back from now (30d, 12h)." default:"30d"`
	Org    string `help:"Organisation, by name or id; not needed when there is one."`
	JSON   bool   `help:"For programs: a line for each decision that differs, and a last line with the counts."`
}

// Help is shown below the flags.
func (policyReplayCmd) Help() string {
	return "Exit code 1 means that something would be decided otherwise.\nExample:\n  counterfoil policy replay --bundle ./policy --since 30d"
}

// flip is a recorded decision and what the other policy says to the same question.
type flip struct {
	Seq     uint64         `json:"seq"`
	Time    time.Time      `json:"time"`
	Purpose policy.Purpose `json:"purpose"`
	Old     verdict        `json:"old"`
	New     verdict        `json:"new"`
}

type verdict struct {
	Outcome  string   `json:"outcome"`
	Rule     string   `json:"rule"`
	Masked   []string `json:"masked,omitempty"`
	Reasons  []string `json:"reasons,omitempty"`
	Revision string   `json:"revision"`
}

// why is the rule that permits or the reasons against.
func (v verdict) why() string {
	if len(v.Reasons) > 0 {
		return strings.Join(v.Reasons, ",")
	}
	return cmp.Or(v.Rule, "-")
}

type replayed struct {
	Asked     int    `json:"asked"`
	Flipped   int    `json:"flipped"`
	Undecided int    `json:"undecided"` // records of acts on which nobody decides
	Revision  string `json:"revision"`
}

// Run asks the other policy.
func (c policyReplayCmd) Run(a *app) error {
	since, err := moment(c.Since, time.Now())
	if err != nil {
		return usageError{"--since: " + err.Error()}
	}
	engine, err := admit(a.ctx, c.Bundle, nil)
	if err != nil {
		return err
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "policy.replay", map[string]string{"since": c.Since, "other": engine.Revision()})
		if err != nil {
			return err
		}
		head, err := h.log.Head(a.ctx, o.ID)
		if err != nil {
			return err
		}
		from, err := h.firstSince(a.ctx, o, head.Size, since)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		show := func(f flip) error {
			_, err := fmt.Fprintf(t, "%d\t%s\t%s\t%s -> %s\t%s -> %s\n", f.Seq, f.Time.Format(time.DateTime), f.Purpose, f.Old.Outcome, f.New.Outcome, f.Old.why(), f.New.why())
			return err
		}
		if c.JSON {
			show = func(f flip) error { return a.jsonLine(f) }
		}
		sum := replayed{Revision: engine.Revision()}
		progress := newProgress(a.stderr, head.Size-from)
		for body, err := range h.log.Entries(a.ctx, o.ID, from, head.Size) {
			if err != nil {
				return err
			}
			progress.step()
			e, err := audit.ParseEntry(body)
			if err != nil {
				return fmt.Errorf("the log in the database is damaged: %w", err)
			}
			f, differs, err := replay(a.ctx, engine, e)
			switch {
			case errors.Is(err, access.ErrUndecided):
				sum.Undecided++
				continue
			case err != nil:
				return err
			}
			sum.Asked++
			if !differs {
				continue
			}
			if sum.Flipped++; sum.Flipped == 1 && !c.JSON {
				fmt.Fprintln(t, "#\tTIME (UTC)\tPURPOSE\tDECISION\tRULE OR REASONS")
			}
			if err := show(f); err != nil {
				return err
			}
			if sum.Flipped%1000 == 0 { // bounds what the table holds back to align it
				if err := t.Flush(); err != nil {
					return err
				}
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if c.JSON {
			err = a.jsonLine(sum)
		} else {
			_, err = fmt.Fprintf(a.stdout, "Of %d decisions %d would be otherwise under revision %s.\n", sum.Asked, sum.Flipped, sum.Revision)
		}
		if err != nil {
			return err
		}
		if sum.Flipped > 0 {
			return found{}
		}
		return nil
	})
}

// replay asks the question that an entry records, and says whether another thing would be released.
func replay(ctx context.Context, engine *policy.Engine, e audit.Entry) (flip, bool, error) {
	in, err := access.InputOf(e)
	if err != nil {
		return flip{}, false, err
	}
	d, err := engine.Decide(ctx, in)
	if err != nil && ctx.Err() != nil {
		return flip{}, false, err
	}
	f := flip{
		Seq: e.Seq, Time: e.Time, Purpose: in.Purpose,
		Old: verdict{e.Decision, e.Rule, e.Masked, e.Reasons, e.Policy},
		New: verdict{string(d.Outcome()), d.Rule(), d.Masked(), d.Reasons(), d.Revision()},
	}
	return f, f.Old.Outcome != f.New.Outcome || !slices.Equal(f.Old.Masked, f.New.Masked), nil
}

// firstSince finds the first record that is kept and not older; times in a log never decrease.
func (h *heart) firstSince(ctx context.Context, o chat.Organisation, size uint64, since time.Time) (uint64, error) {
	kept, failed := h.log.Retention(ctx, o.ID)
	if failed != nil {
		return 0, failed
	}
	n := sort.Search(int(size-kept.First), func(i int) bool {
		at := kept.First + uint64(i)
		for body, err := range h.log.Entries(ctx, o.ID, at, at+1) {
			var e audit.Entry
			if err == nil {
				e, err = audit.ParseEntry(body)
			}
			if failed = cmp.Or(failed, err); err != nil {
				return true
			}
			return !e.Time.Before(since)
		}
		return true
	})
	return kept.First + uint64(n), failed
}

// progress says how far a long work is, once a second after the first.
type progress struct {
	w     io.Writer
	total uint64
	done  uint64
	next  time.Time
}

func newProgress(w io.Writer, total uint64) *progress {
	return &progress{w: w, total: total, next: time.Now().Add(time.Second)}
}

func (p *progress) step() {
	if p.done++; p.done%256 == 0 && time.Now().After(p.next) {
		fmt.Fprintf(p.w, "%d of %d records\n", p.done, p.total)
		p.next = time.Now().Add(time.Second)
	}
}
