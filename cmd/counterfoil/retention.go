package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/control"
	"counterfoil/policy"
)

// controlling connects and runs f with the desk where what is kept is looked after.
func (a *app) controlling(named string, f func(*heart, chat.Organisation) error) error {
	return a.within(named, func(h *heart, o chat.Organisation) error {
		if err := h.openControl(a.ctx); err != nil {
			return err
		}
		defer h.closeControl()
		err := f(h, o)
		if errors.Is(err, access.ErrDenied) || errors.Is(err, control.ErrHeld) || errors.Is(err, control.ErrOpen) || errors.Is(err, control.ErrGone) || errors.Is(err, control.ErrClock) || errors.Is(err, control.ErrRunning) {
			fmt.Fprintf(a.stdout, a.in("Nothing was changed: %v.\n", "Rien n’est changé : %v.\n"), err)
			return found{}
		}
		return err
	})
}

type retentionShowCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (retentionShowCmd) Help() string {
	return "Days count from the end of a conversation, for a visitor from that of his last one. Records of the log have a retention of their own: counterfoil audit retention.\n\nExample:\n  counterfoil retention show --json"
}

// kept is a class with what is due of it.
type kept struct {
	control.Setting
	control.Counts
}

func keptOf(a *app, h *heart, o chat.Organisation) ([]kept, error) {
	settings, err := h.control.Retention(a.ctx, o.ID)
	if err != nil {
		return nil, err
	}
	all := make([]kept, len(settings))
	for i, s := range settings {
		if all[i].Setting = s; s.Days != nil {
			if all[i].Counts, err = h.control.WhatIf(a.ctx, o.ID, s.Class, *s.Days); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// Run shows how long what is kept.
func (c retentionShowCmd) Run(a *app) error {
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		all, err := keptOf(a, h, o)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(all)
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, a.in("CLASS\tDAYS\tSET\tNEXT\tDUE\tHELD\tOLDEST", "CLASSE\tJOURS\tFIXÉ\tENSUITE\tÉCHUS\tRETENUS\tPLUS ANCIEN"))
		for _, k := range all {
			days, set, next := a.in("not said", "non dit"), a.in("as usual", "par défaut"), "-"
			if k.Days != nil {
				days = strconv.Itoa(*k.Days)
			}
			if k.Since != nil {
				set = a.in("since ", "depuis le ") + k.Since.UTC().Format(time.DateOnly)
			}
			if k.NextAt != nil {
				next = fmt.Sprintf(a.in("%d from %s", "%d dès le %s"), *k.NextDays, k.NextAt.UTC().Format(time.DateOnly))
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", k.Class, days, set, next, k.Due, k.Held, dateOf(k.Oldest))
		}
		return t.Flush()
	})
}

func dateOf(at *time.Time) string {
	if at == nil {
		return "-"
	}
	return at.UTC().Format(time.DateOnly)
}

type retentionSetCmd struct {
	Class  string `arg:"" help:"transcript, visitor, agent, conversation, session, reason, archive, or backup."`
	Days   int    `arg:"" help:"For so many days; the policy has bounds (retention.rego)."`
	Org    string `help:"Organisation, by name or id; not needed when there is one."`
	From   string `help:"From this day on (UTC); today if it is not said." placeholder:"2027-01-31"`
	DryRun bool   `help:"Say what would go, and change nothing."`
	JSON   bool   `help:"For programs."`
}

// Help is shown below the flags.
func (retentionSetCmd) Help() string {
	return "Of backups it only says how long the organisation's own backups of the database live, which certificates of erasures repeat.\n\n" +
		"Examples:\n  counterfoil retention set transcript 180 --dry-run\n  counterfoil retention set transcript 180 --from 2027-01-31"
}

// Run sets how long a class is kept.
func (c retentionSetCmd) Run(a *app) error {
	if c.Class != control.Backup && c.Class != control.Archive && !slices.Contains(control.Classes(), c.Class) {
		return usageError{"there is no such class: it is one of transcript, visitor, agent, conversation, session, reason, archive and backup"}
	}
	var effective time.Time // at once
	if c.From != "" {
		at, err := time.Parse(time.DateOnly, c.From)
		if err != nil {
			return usageError{"--from is a day such as 2027-01-31"}
		}
		if at.Before(time.Now().Add(-24 * time.Hour)) {
			return usageError{"--from is a day to come, or today"}
		}
		effective = at
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		counts, err := h.control.WhatIf(a.ctx, o.ID, c.Class, max(c.Days, 0))
		if err != nil {
			return err
		}
		if !c.DryRun {
			if err := h.control.SetRetention(a.ctx, operator(o.ID), o.ID, c.Class, c.Days, effective, access.Grounds{}); err != nil {
				return err
			}
		}
		if c.JSON {
			return a.json(counts)
		}
		verb := a.in("go with the next run of retention", "disparaissent à la prochaine application")
		if c.DryRun {
			verb = a.in("would go; nothing was changed", "disparaîtraient ; rien n’est changé")
		}
		fmt.Fprintf(a.stdout, a.in("%s for %d days: %d are older, %d of them are held; %d %s.\n", "%s pour %d jours : %d sont plus anciens, dont %d retenus ; %d %s.\n"), c.Class, c.Days, counts.Due, counts.Held, counts.Due-counts.Held, verb)
		return nil
	})
}

type retentionRunCmd struct {
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
	Confirm bool   `help:"The clock of the database is right, although the time since the last run cannot be."`
	JSON    bool   `help:"For programs."`
}

// Help is shown below the flags.
func (retentionRunCmd) Help() string {
	return "A running service does it each day. A database of your own is reached through COUNTERFOIL_RETENTION_URL, as the role counterfoil_retention.\n\nExample:\n  counterfoil retention run"
}

// Run applies retention now.
func (c retentionRunCmd) Run(a *app) error {
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		tell := a.telling()
		r, err := h.control.Apply(a.ctx, o.ID, c.Confirm, func(class string, gone int64) error {
			tell(a.in("%s: %d gone\n", "%s : %d supprimés\n"), class, gone)
			return nil
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(r)
		}
		for _, class := range control.Classes() {
			fmt.Fprintf(a.stdout, a.in("%s: %d gone\n", "%s : %d supprimés\n"), class, r.Gone[class])
		}
		fmt.Fprintf(a.stdout, a.in("Record %d says what went and what is left.\n", "L’enregistrement %d dit ce qui a disparu et ce qui reste.\n"), *r.Act)
		return nil
	})
}

type retentionReportCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	Days int    `help:"Of so many days until now." default:"92"`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (retentionReportCmd) Help() string {
	return "What was kept longer than it may be, by class: from the records of each day's run and from what is there now. Exit code 1 if something was.\n\nExample:\n  counterfoil retention report"
}

// exceedance is what was kept too long of a class.
type exceedance struct {
	Class  string `json:"class"`
	Days   int    `json:"days"`
	Gone   int64  `json:"gone"`   // in the time
	Held   int64  `json:"held"`   // due now and held
	Late   int64  `json:"late"`   // due now and not held
	Worst  int64  `json:"worst"`  // the most that a run left behind
	Oldest string `json:"oldest"` // that is kept now
}

type retentionReport struct {
	Since   time.Time    `json:"since"`
	Runs    int          `json:"runs"`
	Longest float64      `json:"longest_gap_hours"` // between two runs
	Classes []exceedance `json:"classes"`
}

// Run reports what was kept too long.
func (c retentionReportCmd) Run(a *app) error {
	if c.Days < 1 || c.Days > 3650 {
		return usageError{"--days is from 1 to 3650"}
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		report, err := reportOf(a, h, o, c.Days)
		if err != nil {
			return err
		}
		bad := report.Runs == 0 || report.Longest > 49
		for _, e := range report.Classes {
			bad = bad || e.Worst > 0
		}
		if c.JSON {
			err = a.json(report)
		} else {
			fmt.Fprintf(a.stdout, a.in("Since %s retention was applied %d times; the longest time without was %.0f hours.\n", "Depuis le %s, la conservation a été appliquée %d fois ; le plus long intervalle a été de %.0f heures.\n"), report.Since.Format(time.DateOnly), report.Runs, report.Longest)
			t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, a.in("CLASS\tDAYS\tGONE\tHELD NOW\tDUE NOW\tMOST LEFT BEHIND\tOLDEST", "CLASSE\tJOURS\tSUPPRIMÉS\tRETENUS\tÉCHUS\tPLUS GRAND RESTE\tPLUS ANCIEN"))
			for _, e := range report.Classes {
				fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", e.Class, e.Days, e.Gone, e.Held, e.Late, e.Worst, e.Oldest)
			}
			err = t.Flush()
		}
		if err == nil && bad {
			err = found{}
		}
		return err
	})
}

// reportOf reads the records of the runs, which is recorded itself.
func reportOf(a *app, h *heart, o chat.Organisation, days int) (retentionReport, error) {
	r := retentionReport{Since: time.Now().UTC().AddDate(0, 0, -days)}
	all, err := keptOf(a, h, o)
	if err != nil {
		return r, err
	}
	if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "retention.report", map[string]string{"days": strconv.Itoa(days)}); err != nil {
		return r, err
	}
	records, err := h.log.Search(a.ctx, o.ID, pglog.Query{Action: control.ActRun, Since: r.Since, Limit: pglog.MaxPage})
	if err != nil {
		return r, err
	}
	gone, worst := make(map[string]int64), make(map[string]int64)
	last := time.Now()
	if len(records) > 0 {
		last = records[0].At
	}
	r.Longest = time.Since(last).Hours()
	for _, f := range records { // newest first
		r.Longest = max(r.Longest, last.Sub(f.At).Hours())
		last = f.At
		var e struct{ Facts map[string]string }
		if err := json.Unmarshal(f.Body, &e); err != nil {
			return r, fmt.Errorf("read record %d: %w", f.Seq, err)
		}
		for _, class := range control.Classes() {
			g, _ := strconv.ParseInt(e.Facts["gone."+class], 10, 64) // what is not there is none
			w, _ := strconv.ParseInt(e.Facts["late."+class], 10, 64)
			gone[class] += g
			worst[class] = max(worst[class], w)
		}
	}
	r.Runs = len(records)
	for _, k := range all {
		if k.Class != control.Backup && k.Class != control.Archive && k.Days != nil {
			r.Classes = append(r.Classes, exceedance{Class: k.Class, Days: *k.Days, Gone: gone[k.Class], Held: k.Held, Late: k.Due - k.Held, Worst: worst[k.Class], Oldest: dateOf(k.Oldest)})
		}
	}
	return r, nil
}

// subject finds whom or what a command names: by id, or by the reference that stands in records.
func (h *heart) subject(a *app, o chat.Organisation, kind, named string) (control.Subject, error) {
	s := control.Subject{Organisation: o.ID, Kind: kind}
	var err error
	if s.ID, err = uuid.Parse(named); err == nil {
		return s, nil
	}
	s.ID, _, err = h.gate.Find(a.ctx, o.ID, kind, named, time.Now())
	if errors.Is(err, access.ErrUnknown) {
		return s, control.ErrGone
	}
	return s, err
}

// because keeps the reason that a command was given.
func (h *heart) because(a *app, o chat.Organisation, reason string) (access.Grounds, error) {
	if reason == "" {
		return access.Grounds{}, nil
	}
	why, err := h.gate.Justify(a.ctx, o.ID, reason)
	if errors.Is(err, access.ErrReason) {
		return access.Grounds{}, usageError{"--reason: " + err.Error()}
	}
	return access.Grounds{Justification: why}, err
}

type holdPlaceCmd struct {
	Kind    string `arg:"" help:"What it covers: visitor, agent, conversation, widget, or range for all of a time." enum:"visitor,agent,conversation,widget,range"`
	Subject string `arg:"" optional:"" help:"Which: its id, or the reference that stands in records; none for a range."`
	Reason  string `help:"Why, in 10 to 500 characters." required:""`
	Since   string `help:"Only conversations opened from this day on (UTC)." placeholder:"2026-01-31"`
	Until   string `help:"Only conversations opened before this day (UTC)." placeholder:"2026-12-31"`
	Org     string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (holdPlaceCmd) Help() string {
	return "What a hold covers is neither erased nor deleted until it is lifted.\n\nExamples:\n  counterfoil hold place conversation yufdndrqmwn2hvcd --reason 'court order of 3 May'\n" +
		"  counterfoil hold place range --since 2026-01-01 --until 2026-07-01 --reason 'audit of the first half year'"
}

// Run places a hold.
func (c holdPlaceCmd) Run(a *app) error {
	hold := control.Hold{Kind: map[string]string{"visitor": "person", "agent": "person"}[c.Kind]}
	if hold.Kind == "" {
		hold.Kind = c.Kind
	}
	if (c.Kind == "range") != (c.Subject == "") {
		return usageError{"a range names nobody, and everything else names whom or what it covers"}
	}
	for text, to := range map[string]**time.Time{c.Since: &hold.Since, c.Until: &hold.Until} {
		if text == "" {
			continue
		}
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return usageError{"--since and --until are days such as 2026-01-31"}
		}
		*to = &at
	}
	if hold.Since != nil && hold.Until != nil && !hold.Since.Before(*hold.Until) {
		return usageError{"--since comes before --until"}
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		if c.Subject != "" {
			s, err := h.subject(a, o, c.Kind, c.Subject)
			if err != nil {
				return err
			}
			hold.Subject = &s.ID
		}
		on, err := h.because(a, o, c.Reason)
		if err != nil {
			return err
		}
		id, err := h.control.PlaceHold(a.ctx, operator(o.ID), o.ID, hold, on)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, a.in("Placed the hold %s.\n", "La conservation forcée %s est posée.\n"), id)
		return nil
	})
}

type holdListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (holdListCmd) Help() string { return "Example:\n  counterfoil hold list --json" }

// Run lists holds.
func (c holdListCmd) Run(a *app) error {
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		all, err := h.control.Holds(a.ctx, o.ID, 1000)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(all)
		}
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, a.in("HOLD\tCOVERS\tSINCE\tUNTIL\tPLACED\tLIFTED\tWHY", "CONSERVATION\tCOUVRE\tDEPUIS\tJUSQU’À\tPOSÉE\tLEVÉE\tPOURQUOI"))
		for _, k := range all {
			covers := k.Kind
			if k.Subject != nil {
				covers += " " + k.Subject.String()
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, covers, dateOf(k.Since), dateOf(k.Until), k.Placed.UTC().Format(time.DateOnly), dateOf(k.Lifted), cmp.Or(k.Why, "-"))
		}
		return t.Flush()
	})
}

type holdLiftCmd struct {
	Hold   string `arg:"" help:"Which, as counterfoil hold list names it."`
	Reason string `help:"Why, in 10 to 500 characters." required:""`
	Org    string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (holdLiftCmd) Help() string {
	return "Example:\n  counterfoil hold lift 5f0c… --reason 'the case is closed'"
}

// Run lifts a hold.
func (c holdLiftCmd) Run(a *app) error {
	id, err := uuid.Parse(c.Hold)
	if err != nil {
		return usageError{"a hold is named by its id: see counterfoil hold list"}
	}
	return a.controlling(c.Org, func(h *heart, o chat.Organisation) error {
		on, err := h.because(a, o, c.Reason)
		if err != nil {
			return err
		}
		if err := h.control.LiftHold(a.ctx, operator(o.ID), o.ID, id, on); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout, a.in("Lifted. What it covered goes as its time says.", "Levée. Ce qu’elle couvrait disparaît à son terme."))
		return nil
	})
}
