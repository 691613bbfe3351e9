package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
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
}

// Help is shown below the flags.
func (auditPruneCmd) Help() string {
	return "Removes records older than the organisation's retention from the database. They stay in the export; the tree, its checkpoints and all proofs stay valid.\n" +
		"A database of your own is reached through COUNTERFOIL_RETENTION_URL, as the role counterfoil_retention: the service's role cannot remove records.\n\n" +
		"Example:\n  counterfoil audit prune ./export --dry-run"
}

// Run prunes.
func (c auditPruneCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		r, err := h.log.Retention(a.ctx, o.ID)
		if err != nil {
			return err
		}
		if r.Upto == r.First {
			fmt.Fprintf(a.stdout, "No record is older than %d days.\n", r.Days)
			return nil
		}
		if c.DryRun {
			fmt.Fprintf(a.stdout, "%d records, from %d up to %d, would go.\n", r.Upto-r.First, r.First, r.Upto-1)
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
		report, err := audit.VerifyExport(a.ctx, os.DirFS(c.Dir), audit.Options{Key: vkey})
		if err != nil {
			return fmt.Errorf("check the export: %w", err)
		}
		if len(report.Faults) > 0 || report.Records != head.Size {
			fmt.Fprintf(a.stdout, "Nothing was removed: the export in %s does not verify. See counterfoil audit verify %s\n", c.Dir, c.Dir)
			return found{}
		}
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
		begun, said := time.Now(), time.Now()
		err = pglog.Prune(a.ctx, pool, o.ID, act, r.Upto, func(gone uint64) {
			if time.Since(said) > time.Second {
				said = time.Now()
				fmt.Fprintf(a.stderr, "%d of %d removed after %s\n", gone, r.Upto-r.First, time.Since(begun).Round(time.Second))
			}
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "Removed %d records, from %d up to %d, as record %d says. They are in %s.\n", r.Upto-r.First, r.First, r.Upto-1, act, c.Dir)
		return nil
	})
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
	return pg.Open(a.ctx, pg.Config{URL: url, MaxConns: 1})
}
