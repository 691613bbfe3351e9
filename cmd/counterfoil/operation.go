package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/egress"
	"counterfoil/internal/oplog"
	"counterfoil/internal/principal"
	"counterfoil/internal/telemetry"
	"counterfoil/policy"
)

// operate begins what the service says of its own working: lines on stderr and in files, and telemetry where that is set.
func (s *service) operate(ctx context.Context, a *app, level slog.Level) error {
	// As PostgreSQL's own user has to pass through it, it is not made for us alone.
	err := os.MkdirAll(s.config.DataDir, 0o711)
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if s.lines, err = oplog.Open(s.config.LogDir, oplog.SystemClock()); err != nil {
		return err
	}
	s.onStop(s.lines.Close)
	s.logger = slog.New(slog.NewMultiHandler(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}), slog.NewTextHandler(s.lines, nil)))
	c := telemetry.Config{Endpoint: s.config.OTLP.Endpoint, Instance: rand.Text()[:12], Version: version(), Logger: s.logger}
	if c.Endpoint != "" {
		host, err := egress.Host(c.Endpoint)
		if err != nil {
			return fmt.Errorf("COUNTERFOIL_OTLP_ENDPOINT: %w", err)
		}
		way, err := s.egress.Open(egress.Destination{
			Name: "telemetry", Hosts: []string{host}, Owner: "internal/telemetry", Purpose: "show how the service works: counts, times, and which routes were asked for",
			Party: egress.Operator, Data: []egress.Class{egress.Credentials, egress.Measures},
		})
		if err != nil {
			return err
		}
		if c.Headers, err = headers(s.config.OTLP.HeadersFile); err != nil {
			return err
		}
		s.tap = &tap{next: way.Transport()}
		c.Client = &http.Client{Transport: s.tap, Timeout: 10 * time.Second}
	}
	if s.telemetry, err = telemetry.Start(ctx, c); err != nil {
		return err
	}
	s.tracer = s.telemetry.Tracer
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.telemetry.Stop(ctx); err != nil {
			s.logger.Warn("the last telemetry is not sent")
		}
	})
	return nil
}

// headers reads the headers that a receiver of telemetry wants. They are secrets.
func headers(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("COUNTERFOIL_OTLP_HEADERS_FILE: %w", err)
	}
	all := make(map[string]string)
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t") {
			return nil, usageError{fmt.Sprintf("COUNTERFOIL_OTLP_HEADERS_FILE: line %d is not NAME: VALUE", n)}
		}
		all[name] = strings.TrimSpace(value)
	}
	return all, nil
}

// measure has looked up, for telemetry, what does not come by itself.
func (s *service) measure(streams func() int) error {
	one := func(n int64) map[string]int64 { return map[string]int64{"": n} }
	h := s.heart
	return s.telemetry.Meters.Watch(
		telemetry.Reading{Name: "counterfoil.streams", Unit: "{stream}", Text: "Open streams of visitors.", Read: func(context.Context) (map[string]int64, error) { return one(int64(streams())), nil }},
		telemetry.Reading{Name: "counterfoil.outbox", Unit: "{delivery}", Text: "Deliveries to Teams that wait or are being sent.", Read: func(ctx context.Context) (map[string]int64, error) {
			n, _, err := h.store.OpenDeliveries(ctx)
			return one(n), err
		}},
		telemetry.Reading{Name: "counterfoil.outbox.age", Unit: "s", Text: "For how long the oldest of them has been due.", Read: func(ctx context.Context) (map[string]int64, error) {
			_, oldest, err := h.store.OpenDeliveries(ctx)
			return one(int64(oldest.Seconds())), err
		}},
		telemetry.Reading{Name: "counterfoil.log.unpublished", Unit: "{record}", Text: "Records of one log that are not published yet, at most.", Read: func(ctx context.Context) (map[string]int64, error) {
			n, _, err := h.publishers.Unpublished(ctx)
			return one(int64(n)), err
		}},
		telemetry.Reading{Name: "counterfoil.log.checkpoint.age", Unit: "s", Text: "How long ago the checkpoint was signed that is the oldest of the logs' newest.", Read: func(ctx context.Context) (map[string]int64, error) {
			_, age, err := h.publishers.Unpublished(ctx)
			return one(int64(age.Seconds())), err
		}},
		telemetry.Reading{Name: "counterfoil.oplog.age", Unit: "s", Text: "No line of the operational log is older.", Read: func(context.Context) (map[string]int64, error) {
			return one(int64(s.lines.Status().Oldest.Seconds())), nil
		}},
		telemetry.Reading{Name: "counterfoil.pool", Unit: "{connection}", Text: "Connections to the database.", Read: func(context.Context) (map[string]int64, error) {
			stat := h.pool.Stat()
			return map[string]int64{"used": int64(stat.AcquiredConns()), "idle": int64(stat.IdleConns())}, nil
		}},
	)
}

// keepLines removes old lines, and puts once a day into every log that it did.
func (s *service) keepLines(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.lines.Run(ctx, s.logger)
	}()
	defer func() { <-done }()
	pause, before := time.Minute, oplog.Status{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		now := s.lines.Status()
		if err := s.heart.recordLines(ctx, before, now); err != nil {
			if pause = time.Minute; ctx.Err() == nil {
				s.logger.Warn("that old lines of the operational log were removed is not on record yet", "error", err)
			}
			continue
		}
		pause, before = 24*time.Hour, now
	}
}

// actor is who does something to every organisation.
type actor func(organisation uuid.UUID) principal.Principal

// actEverywhere asks policy whether somebody may do something, and records it, in every log.
func (h *heart) actEverywhere(ctx context.Context, by actor, purpose policy.Purpose, action string, facts map[string]string) error {
	all, err := h.store.Organisations(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := h.gate.Act(ctx, by(o.ID), purpose, o.ID, action, facts); err != nil {
			return err
		}
	}
	return nil
}

// asOperator is whoever runs the command.
func asOperator(organisation uuid.UUID) principal.Principal { return operator(organisation) }

// keeper is the job that keeps data as long as it is to be kept.
func keeper(organisation uuid.UUID) principal.Principal {
	return principal.NewJob(organisation, "retention")
}

// nightly does something at an hour (UTC) of each night until ctx ends.
func nightly(ctx context.Context, hour int, do func()) {
	for {
		now := time.Now().UTC()
		next := time.Date(now.Year(), now.Month(), now.Day(), hour, now.Nanosecond()%60, 0, 0, time.UTC) // not all nodes at once
		if !next.After(now) {
			next = next.AddDate(0, 0, 1)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		do()
	}
}

// recordLines puts into every log what became of the operational log's files since the record before.
func (h *heart) recordLines(ctx context.Context, before, now oplog.Status) error {
	facts := map[string]string{
		"files": fmt.Sprint(now.Files), "bytes": fmt.Sprint(now.Bytes), "removed": fmt.Sprint(now.Removed - before.Removed),
		"oldest_seconds": fmt.Sprint(int64(now.Oldest.Seconds())), "failures": fmt.Sprint(now.Failures - before.Failures),
	}
	return h.actEverywhere(ctx, keeper, policy.ApplyRetention, "oplog.kept_short", facts)
}

type logsStatusCmd struct {
	JSON bool `help:"For programs."`
}

// Help is shown below the flags.
func (logsStatusCmd) Help() string {
	return "The service writes what it does to files of an hour each; none holds a name, an address or a text, and no line gets a day old. Exit code 1 if one may be.\n\n" +
		"Examples:\n  counterfoil logs status\n  counterfoil logs status --json"
}

// Run tells how it stands with the files.
func (c logsStatusCmd) Run(a *app) error {
	settings, err := a.settings()
	if err != nil {
		return err
	}
	s, err := oplog.Look(settings.LogDir, oplog.SystemClock())
	if err != nil {
		return err
	}
	return a.lines(s, c.JSON)
}

type logsPruneCmd struct {
	JSON bool `help:"For programs."`
}

// Help is shown below the flags.
func (logsPruneCmd) Help() string {
	return "The running service does so by itself, each minute. While it does not run, have a timer of the system do it each hour.\n\nExample:\n  counterfoil logs prune"
}

// Run removes what is too old.
func (c logsPruneCmd) Run(a *app) error {
	settings, err := a.settings()
	if err != nil {
		return err
	}
	s, err := oplog.Prune(settings.LogDir, oplog.SystemClock())
	return errors.Join(err, a.lines(s, c.JSON))
}

// lines prints how it stands with the files.
func (a *app) lines(s oplog.Status, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(a.stdout).Encode(s); err != nil {
			return err
		}
	} else {
		t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, a.in("files\t%d\nbytes\t%d\nno line is older than\t%s\nfiles removed now\t%d\ntrouble\t%s\n", "fichiers\t%d\noctets\t%d\naucune ligne n’est plus ancienne que\t%s\nfichiers supprimés à l’instant\t%d\nproblème\t%s\n"), s.Files, s.Bytes, s.Oldest.Round(time.Second), s.Removed, cmp.Or(s.Error, a.in("none", "aucun")))
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if s.Overdue() {
		return found{}
	}
	return nil
}

type telemetryDashboardCmd struct{}

// Help is shown below the flags.
func (telemetryDashboardCmd) Help() string {
	return "Example:\n  counterfoil telemetry dashboard > counterfoil.json     then import it into Grafana"
}

// Run prints the dashboard.
func (telemetryDashboardCmd) Run(a *app) error {
	_, err := a.stdout.Write(telemetry.Dashboard)
	return err
}

// version is what was built, as far as the build says.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(devel)"
}
