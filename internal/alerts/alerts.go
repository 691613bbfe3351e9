// Package alerts holds the rules of an organisation against its log, record by record, and tells whom the organisation chose what
// they found.
//
// It promises that every alert says why: the rule as it stood, the numbers that were compared, and the records; that of one cause
// there is one alert, however many nodes work and wherever they break off; that the watch reads the log as policy lets it, on
// record; and that a message holds references and counts, no person.
package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/egress"
	"counterfoil/internal/jobs"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// task is the job as which the watch asks policy.
const task = "alerts"

// Config is what a Watch is made of.
type Config struct {
	Pool   *pgxpool.Pool // the service's role
	Gate   *access.Gate
	Log    *pglog.Log
	Ring   *keyring.Ring
	Egress *egress.Register
	Ask    func(ctx context.Context, kind string, organisation, about uuid.UUID) error // asks for a job
	Wrap   func(http.RoundTripper) http.RoundTripper                                   // watches requests
	Mail   Mail
	URL    string // where the console is reached
	Logger *slog.Logger
	Now    func() time.Time
}

// Watch raises alerts and sends messages about them. It is safe for concurrent use, also by several nodes.
type Watch struct {
	cfg Config

	mu   sync.Mutex
	ways map[uuid.UUID]*way // of receivers
	mail *egress.Way        // nil while no mail can be sent
}

// New makes a Watch.
func New(c Config) (*Watch, error) {
	w := &Watch{cfg: c, ways: make(map[uuid.UUID]*way)}
	if c.Mail.Addr == "" {
		return w, nil
	}
	var err error
	w.mail, err = c.Egress.Open(egress.Destination{
		Name: "mail", Hosts: []string{strings.ToLower(c.Mail.Addr)}, Owner: "internal/alerts", Purpose: "send alerts by email",
		Data: []egress.Class{egress.Credentials, egress.Handles}, Party: egress.ThirdParty,
	})
	return w, err
}

// The kinds of jobs.
const (
	evaluateJob = "alerts_evaluate"
	deliverJob  = "alerts_deliver"
)

// Jobs are the work of the watch, for the queue.
func (w *Watch) Jobs() []jobs.Job {
	return []jobs.Job{
		{Kind: evaluateJob, Every: time.Minute, Run: func(ctx context.Context, _ jobs.Run) error { return w.Round(ctx) }},
		{Kind: deliverJob, Run: func(ctx context.Context, r jobs.Run) error { return w.Deliver(ctx, r.Organisation, r.About) }},
	}
}

const sqlOrganisations = "select organisation_id from access.organisations()"

// Round holds the rules of every organisation against what its log has by now, and sees to messages that wait. It returns jobs.Again
// where there is more to do.
func (w *Watch) Round(ctx context.Context) error {
	rows, err := w.cfg.Pool.Query(ctx, sqlOrganisations)
	if err != nil {
		return fmt.Errorf("list organisations: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("list organisations: %w", err)
	}
	var again bool
	var failed []error
	for _, organisation := range all {
		more, err := w.Evaluate(ctx, organisation)
		again = again || more
		if err == nil {
			err = w.send(ctx, organisation)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("organisation %s: %w", organisation, err))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if again {
		return jobs.Again
	}
	return nil
}

// Alert is what a rule found.
type Alert struct {
	ID      uuid.UUID
	Rule    uuid.UUID
	Version int
	Kind    string
	Terms   Terms
	Numbers Numbers
	Actor   audit.Party
	Subject audit.Party
	Records []uint64
	At      time.Time // of the record with which it was full
	Raised  time.Time

	Silenced bool
	Acked    *time.Time
	AckedBy  audit.Party
	Reason   uuid.UUID // of the note

	cause string
}

// Numbers are what was compared with the terms of a rule.
type Numbers struct {
	N      int    `json:"n,omitempty"`      // found
	Limit  int    `json:"limit,omitempty"`  // from which on it is an alert
	Usual  int    `json:"usual,omitempty"`  // the 99th percentile of the actor's own hours
	Hours  int    `json:"hours,omitempty"`  // from which that is known
	Unread int    `json:"unread,omitempty"` // places that could not be searched
	Local  string `json:"local,omitempty"`  // the time in the zone of the rule
}

// space makes ids of alerts and built-in rules out of what they stand for.
var space = uuid.MustParse("8a3b9a54-6b0c-4d8e-9d0e-4f3f0b6f6a10")

// wire is an alert as the database takes it.
type wire struct {
	ID          uuid.UUID `json:"id"`
	Rule        uuid.UUID `json:"rule"`
	Version     int       `json:"version"`
	Kind        string    `json:"kind"`
	Cause       string    `json:"cause"`
	Terms       Terms     `json:"terms"`
	Numbers     Numbers   `json:"numbers"`
	ActorKind   string    `json:"actor_kind"`
	Actor       string    `json:"actor"`
	SubjectKind string    `json:"subject_kind"`
	Subject     string    `json:"subject"`
	Records     []uint64  `json:"records"`
	At          time.Time `json:"at"`
}

const (
	sqlRaise    = "select access.raise_alerts($1, $2, $3, $4)"
	sqlRecorded = "select access.alerts_recorded($1, $2)"
	sqlAlerts   = `select alert_id, rule_id, rule_version, kind, cause, terms, numbers, actor_kind, actor_ref, subject_kind, subject_ref, records, at, raised_at, silenced, acked_at,
	coalesce(acked_by, ''), coalesce(ack_reason, '00000000-0000-0000-0000-000000000000') from access.alerts($1, $2, $3, $4)`
	sqlOpen        = "select access.open_alerts($1)"
	sqlAcknowledge = "select access.acknowledge_alerts($1, $2, $3, $4)"
)

// raise keeps what was found between two places of the log, and asks for messages. It does nothing where another node came first.
func (w *Watch) raise(ctx context.Context, organisation uuid.UUID, from, to uint64, found []Alert) error {
	all := make([]wire, len(found))
	for i, a := range found {
		all[i] = wire{a.ID, a.Rule, a.Version, a.Kind, a.cause, a.Terms, a.Numbers, a.Actor.Kind, a.Actor.Ref, a.Subject.Kind, a.Subject.Ref, a.Records, a.At}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("raise alerts: %w", err)
	}
	var first bool
	if err := w.cfg.Pool.QueryRow(ctx, sqlRaise, organisation, int64(from), int64(to), text).Scan(&first); err != nil {
		return fmt.Errorf("raise alerts: %w", err)
	}
	return nil
}

// Which alerts are listed.
const (
	Open         = "open"
	Acknowledged = "acknowledged"
)

// List gives alerts, newest first, at most so many.
func (w *Watch) List(ctx context.Context, organisation uuid.UUID, which string, limit int) ([]Alert, error) {
	return w.list(ctx, organisation, which, nil, limit)
}

// These gives the alerts of these ids.
func (w *Watch) These(ctx context.Context, organisation uuid.UUID, ids ...uuid.UUID) ([]Alert, error) {
	return w.list(ctx, organisation, "these", ids, len(ids))
}

func (w *Watch) list(ctx context.Context, organisation uuid.UUID, which string, ids []uuid.UUID, limit int) ([]Alert, error) {
	rows, err := w.cfg.Pool.Query(ctx, sqlAlerts, organisation, which, ids, limit)
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Alert, err error) {
		var records []int64
		var by string
		err = row.Scan(&a.ID, &a.Rule, &a.Version, &a.Kind, &a.cause, &a.Terms, &a.Numbers, &a.Actor.Kind, &a.Actor.Ref, &a.Subject.Kind, &a.Subject.Ref, &records, &a.At, &a.Raised,
			&a.Silenced, &a.Acked, &by, &a.Reason)
		for _, seq := range records {
			a.Records = append(a.Records, uint64(seq))
		}
		a.At, a.Raised, a.AckedBy = a.At.UTC(), a.Raised.UTC(), heard(by)
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	return all, nil
}

// said is a party as one text, and heard the other way round.
func said(p audit.Party) string { return p.Kind + " " + p.Ref }

func heard(s string) (p audit.Party) {
	p.Kind, p.Ref, _ = strings.Cut(s, " ")
	return p
}

// Unseen is how many alerts nobody has acknowledged, up to a thousand.
func (w *Watch) Unseen(ctx context.Context, organisation uuid.UUID) (n int, err error) {
	if err = w.cfg.Pool.QueryRow(ctx, sqlOpen, organisation).Scan(&n); err != nil {
		return 0, fmt.Errorf("count open alerts: %w", err)
	}
	return n, nil
}

// Acknowledge says that somebody has seen alerts, and what he noted, once policy lets him, on record. It gives how many were open.
func (w *Watch) Acknowledge(ctx context.Context, who principal.Principal, note string, ids ...uuid.UUID) (n int, err error) {
	if len(ids) == 0 || len(ids) > maxAtOnce {
		return 0, ErrTerms
	}
	organisation := who.Organisation()
	reason, err := w.cfg.Gate.Justify(ctx, organisation, note)
	if err != nil {
		return 0, err
	}
	by, err := w.cfg.Gate.Actor(ctx, who)
	if err != nil {
		return 0, err
	}
	facts := map[string]string{"alerts": strconv.Itoa(len(ids)), "alert": ids[0].String()}
	if err := w.cfg.Gate.ActOn(ctx, who, policy.HandleAlerts, organisation, "alert.acknowledge", facts, access.Grounds{Justification: reason}); err != nil {
		return 0, err
	}
	if err := w.cfg.Pool.QueryRow(ctx, sqlAcknowledge, organisation, ids, said(by), reason.ID()).Scan(&n); err != nil {
		return 0, fmt.Errorf("acknowledge alerts: %w", err)
	}
	return n, nil
}

// maxAtOnce bounds how many alerts are acknowledged, or recorded, in one go.
const maxAtOnce = 100

// record writes alerts into the log that do not stand there yet.
func (w *Watch) record(ctx context.Context, organisation uuid.UUID) error {
	for {
		all, err := w.list(ctx, organisation, "unrecorded", nil, maxAtOnce)
		if err != nil || len(all) == 0 {
			return err
		}
		facts := make([]map[string]string, len(all))
		ids := make([]uuid.UUID, len(all))
		for i, a := range all {
			numbers := make([]string, 0, len(a.Records))
			for _, seq := range a.Records[max(0, len(a.Records)-20):] {
				numbers = append(numbers, strconv.FormatUint(seq, 10))
			}
			facts[i] = map[string]string{"alert": a.ID.String(), "rule": a.Rule.String(), "rule.kind": a.Kind, "rule.version": strconv.Itoa(a.Version), "records": strings.Join(numbers, ",")}
			if a.Silenced {
				facts[i]["silenced"] = "true"
			}
			ids[i] = a.ID
		}
		if err := w.cfg.Gate.AlertsRaised(ctx, organisation, facts); err != nil {
			return err
		}
		if _, err := w.cfg.Pool.Exec(ctx, sqlRecorded, organisation, ids); err != nil {
			return fmt.Errorf("note that alerts are recorded: %w", err)
		}
	}
}
