package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"counterfoil/internal/jobs"
)

type jobsListCmd struct {
	Limit int  `help:"At most so many." default:"50"`
	JSON  bool `help:"For programs."`
}

// Help is shown below the flags.
func (jobsListCmd) Help() string {
	return "A running service works them off. A job holds ids and nothing else.\n\nExample:\n  counterfoil jobs list --json"
}

// Run lists jobs.
func (c jobsListCmd) Run(a *app) error {
	if c.Limit < 1 || c.Limit > 10000 {
		return usageError{"--limit is from 1 to 10000"}
	}
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	queue, err := jobs.New(h.pool, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	all, err := queue.List(a.ctx, c.Limit)
	if err != nil {
		return err
	}
	bad, now := false, time.Now()
	for _, j := range all {
		bad = bad || j.Late(now) || j.Failed()
	}
	if c.JSON {
		if err := a.json(all); err != nil {
			return err
		}
	} else if err := a.showJobs(all, now); err != nil {
		return err
	}
	if bad {
		return found{}
	}
	return nil
}

func (a *app) showJobs(all []jobs.State, now time.Time) error {
	if len(all) == 0 {
		fmt.Fprintln(a.stdout, "There are no jobs. A running service puts them here.")
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "JOB\tKIND\tSTATE\tORGANISATION\tDUE\tTRIES\tPROGRESS\tLAST ERROR")
	for _, j := range all {
		state, progress := j.State, "-"
		switch {
		case j.Failed():
			state = "given up"
		case j.Late(now):
			state += ", late"
		}
		if p := j.Progress; p != nil {
			progress = fmt.Sprintf("%s %d of %d", p.Step, p.Done, p.Of)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", j.ID, j.Kind, state, cmp.Or(j.Organisation, "all"), j.Due.UTC().Format("2006-01-02 15:04:05"), j.Attempt, progress, cmp.Or(j.Error, "-"))
	}
	return t.Flush()
}
