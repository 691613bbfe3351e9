package main

import (
	"errors"
	"fmt"

	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/doctor"
	"counterfoil/migrations"
)

type doctorCmd struct {
	JSON bool `help:"For programs."`
}

// Help is shown below the flags.
func (doctorCmd) Help() string {
	return "Looks at roles, grants, functions, triggers, row level security, durability, TLS, pg_hba.conf, sessions of superusers and logging. Changes nothing.\n\n" +
		"Examples:\n  counterfoil doctor\n  COUNTERFOIL_DATABASE_URL='postgres://owner@db.example/counterfoil?sslmode=verify-full' counterfoil doctor --json"
}

// Run examines the database as a superuser of it.
func (d doctorCmd) Run(a *app) error {
	c, err := a.settings()
	if err != nil {
		return err
	}
	url := c.DatabaseURL
	if url == "" {
		_, stop, err := a.ownDatabase(c, false)
		if err != nil {
			return err
		}
		defer stop()
		if url, err = cluster.RunningURL(clusterDir(c), cluster.Superuser, cluster.Database); err != nil {
			return err
		}
	}
	conn, err := direct(a.ctx, a.egress, url)
	if err != nil {
		return errors.New("doctor: the database cannot be reached with this URL and role")
	}
	defer conn.Close(a.ctx)
	report, err := doctor.Examine(a.ctx, conn, migrations.Catalog, serviceRole)
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	if d.JSON {
		err = a.json(report)
	} else {
		for _, check := range report.Checks {
			word := "fine   "
			for _, f := range report.Findings {
				if f.Check == check {
					word = "PROBLEM"
				}
			}
			fmt.Fprintf(a.stdout, "%s  %s\n", word, check)
		}
		for _, f := range report.Findings {
			fmt.Fprintf(a.stdout, "\n%s\n  mend it: %s\n", f.What, f.Remedy)
		}
	}
	if err == nil && len(report.Findings) > 0 {
		return found{}
	}
	return err
}
