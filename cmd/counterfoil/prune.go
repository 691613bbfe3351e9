package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/chat"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
	"counterfoil/policy"
)

const retentionRole = "counterfoil_retention"

type auditRetentionCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	Days int    `help:"Keep records for so many days from now on, at least 90."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (auditRetentionCmd) Help() string {
	return "Examples:\n  counterfoil audit retention\n  counterfoil audit retention --days 730"
}

// Run shows or sets how long records are kept.
func (c auditRetentionCmd) Run(a *app) error {
	if c.Days != 0 && c.Days < pglog.MinRetention {
		return usageError{fmt.Sprintf("--days takes %d or more", pglog.MinRetention)}
	}
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if c.Days != 0 {
			facts := map[string]string{"days": strconv.Itoa(c.Days)}
			if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "records.retention", facts); err != nil {
				return err
			}
			if err := h.log.SetRetention(a.ctx, o.ID, c.Days); err != nil {
				return err
			}
		}
		r, err := h.log.Retention(a.ctx, o.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(map[string]any{"days": r.Days, "first_kept": r.First, "may_be_pruned_before": r.Upto})
		}
		fmt.Fprintf(a.stdout, "Records are kept for %d days. Those from %d on are here.\n", r.Days, r.First)
		if r.Upto > r.First {
			fmt.Fprintf(a.stdout, "%d records are older: counterfoil audit prune DIR removes them, after an export to DIR.\n", r.Upto-r.First)
		}
		return nil
	})
}

type auditPruneCmd struct {
	Dir    string `arg:"" help:"Directory of the export that keeps what goes; it is brought up to date and checked first."`
	Org    string `help:"Organisation, by name or id; not needed when there is one."`
	DryRun bool   `help:"Say what would go, and change nothing."`

	Published bool `help:"Remove them from the published directory too; what proves that they were there stays."`
}

// Help is shown below the flags.
func (auditPruneCmd) Help() string {
	return "Removes records older than the organisation's retention from the database. They stay in the export; the tree, its checkpoints and all proofs stay valid.\n" +
		"A database of your own is reached through COUNTERFOIL_RETENTION_URL, as the role counterfoil_retention: the service's role cannot remove records.\n\n" +
		"Examples:\n  counterfoil audit prune ./export --dry-run\n  counterfoil audit prune ./export --published"
}

// Run prunes.
func (c auditPruneCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		r, err := h.log.Retention(a.ctx, o.ID)
		if err != nil {
			return err
		}
		published := publish.Directory(h.config.PublishDir).Where(o.Origin)
		if c.Published && within(published, c.Dir) {
			return usageError{c.Dir + " is where the log is published: export to another place what is to go from there"}
		}
		if r.Upto == r.First && !(c.Published && r.First > 0) {
			fmt.Fprintf(a.stdout, "No record is older than %d days.\n", r.Days)
			return nil
		}
		if c.DryRun {
			if r.Upto > r.First {
				fmt.Fprintf(a.stdout, "%d records, from %d up to %d, would go.\n", r.Upto-r.First, r.First, r.Upto-1)
			}
			if c.Published {
				fmt.Fprintf(a.stdout, "What %s has of the records before %d would go.\n", published, r.Upto)
			}
			return nil
		}
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "audit.export", nil); err != nil {
			return err
		}
		head, err := h.log.Export(a.ctx, o.ID, c.Dir)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		vkey, err := h.log.VerifierKey(head.Origin)
		if err != nil {
			return err
		}
		report, err := audit.VerifyExport(a.ctx, audit.Files(c.Dir), audit.Options{Key: vkey})
		if err != nil {
			return fmt.Errorf("check the export: %w", err)
		}
		if len(report.Faults) > 0 || report.Records != head.Size {
			fmt.Fprintf(a.stdout, "Nothing was removed: the export in %s is not whole. See counterfoil audit verify %s\n", c.Dir, c.Dir)
			return found{}
		}
		if r.Upto > r.First {
			if err := c.prune(a, h, o, r, report); err != nil {
				return err
			}
		}
		if !c.Published {
			return nil
		}
		return c.unpublish(a, h, o, r.Upto)
	})
}

// prune removes records from the database.
func (c auditPruneCmd) prune(a *app, h *heart, o chat.Organisation, r pglog.Retention, report audit.Report) error {
	facts := map[string]string{"upto": strconv.FormatUint(r.Upto, 10), "from": strconv.FormatUint(r.First, 10), "days": strconv.Itoa(r.Days),
		"size": strconv.FormatUint(report.Records, 10), "root": fmt.Sprintf("%x", report.Checkpoint.Root)}
	if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, pglog.ActPrune, facts); err != nil {
		return err
	}
	act, err := h.log.PruneAct(a.ctx, o.ID, r.Upto)
	if err != nil {
		return err
	}
	pool, err := a.asRetention()
	if err != nil {
		return err
	}
	defer pool.Close()
	begun, tell := time.Now(), a.telling()
	err = pglog.Prune(a.ctx, pool, o.ID, act, r.Upto, func(gone uint64) {
		tell("%d of %d removed after %s\n", gone, r.Upto-r.First, time.Since(begun).Round(time.Second))
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Removed %d records, from %d up to %d, as record %d says. They are in %s.\n", r.Upto-r.First, r.First, r.Upto-1, act, c.Dir)
	return nil
}

// unpublish removes the records before upto, which are pruned and in a checked export, from the published directory. It can be run
// again after it was interrupted.
func (c auditPruneCmd) unpublish(a *app, h *heart, o chat.Organisation, upto uint64) error {
	act, err := h.log.PruneAct(a.ctx, o.ID, upto)
	if err != nil {
		return err
	}
	facts := map[string]string{"upto": strconv.FormatUint(upto, 10)}
	if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "records.unpublish", facts); err != nil {
		return err
	}
	kept := false
	for _, p := range h.publishers {
		dir := p.To.Where(o.Origin)
		if err := p.Publish(a.ctx); err != nil {
			return fmt.Errorf("publish the record of the pruning: %w", err)
		}
		bar := audit.NewProgress(a.stderr)
		removed, err := p.Prune(a.ctx, o.ID, act, upto, bar.Update)
		bar.Clear()
		switch {
		case errors.Is(err, publish.ErrNotPublished) || a.ctx.Err() != nil:
			return err
		case errors.Is(err, publish.ErrKeeps):
			fmt.Fprintf(a.stdout, "What was published to %s stays there, as long as it is locked.\n", dir)
		case err != nil:
			kept = true
			fmt.Fprintf(a.stdout, "From what is published in %s %d files of records were removed, and then no more: %v\nWhat is there still verifies, and publishing goes on. "+
				"If the place keeps for ever what was written, that is its purpose; otherwise mend it and run the command again.\n", dir, removed, err)
		default:
			fmt.Fprintf(a.stdout, "Removed %d files of records from what is published in %s. It verifies from record %d on, and says so by record %d.\n", removed, dir, upto, act)
		}
	}
	if kept {
		return found{}
	}
	return nil
}

// within says whether path lies in dir, or is it.
func within(dir, path string) bool {
	for _, p := range []*string{&dir, &path} {
		if abs, err := filepath.Abs(*p); err == nil {
			*p = abs
		}
		if real, err := filepath.EvalSymlinks(*p); err == nil {
			*p = real
		}
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// asRetention connects as the role that may prune.
func (a *app) asRetention() (*pgxpool.Pool, error) {
	c, err := a.settings()
	if err != nil {
		return nil, err
	}
	url := c.RetentionURL
	switch {
	case url == "" && c.DatabaseURL != "":
		return nil, usageError{"settings: COUNTERFOIL_RETENTION_URL must name the database as the role " + retentionRole}
	case url == "":
		if url, err = cluster.RunningURL(clusterDir(c), retentionRole, cluster.Database); err != nil {
			return nil, err
		}
	}
	dial, err := databaseWay(a.egress, url)
	if err != nil {
		return nil, err
	}
	return pg.Open(a.ctx, pg.Config{URL: url, Dial: dial, MaxConns: 1})
}
