package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"counterfoil/internal/chat"
	"counterfoil/internal/console"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg"
	"counterfoil/internal/store"
	"counterfoil/internal/teams"
	"counterfoil/internal/telemetry"
	"counterfoil/policy"
)

// databaseWay registers the servers that a database URL names; nil when it names none on the network.
func databaseWay(register *egress.Register, url string) (pgconn.DialFunc, error) {
	hosts, err := pg.Hosts(url)
	if err != nil || len(hosts) == 0 {
		return nil, err
	}
	way, err := register.Open(egress.Destination{
		Name: "database", Hosts: hosts, Owner: "internal/pg", Purpose: "keep everything that is kept",
		Data: []egress.Class{egress.Credentials, egress.Sealed, egress.Handles, egress.Records, egress.Hashes}, Party: egress.Operator,
	})
	if err != nil {
		return nil, err
	}
	return way.DialContext, nil
}

// direct connects to the database with the rights that the URL gives.
func direct(ctx context.Context, register *egress.Register, url string) (*pgx.Conn, error) {
	dial, err := databaseWay(register, url)
	if err != nil {
		return nil, err
	}
	return pg.Connect(ctx, pg.Config{URL: url, Dial: dial})
}

// client registers one of the three parts of the bot service, and gives what speaks with it.
func (s *service) client(d egress.Destination, addresses ...string) (*http.Client, error) {
	for _, a := range addresses {
		host, err := egress.Host(a)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
		d.Hosts = append(d.Hosts, host)
	}
	if d.Owner, d.Party = "internal/teams", egress.Microsoft; s.config.Bot.Cloud == "custom" {
		d.Party = egress.Operator
	}
	way, err := s.egress.Open(d)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: telemetry.Transport(way.Transport(), s.tracer)}, nil
}

// botClients are the clients of the Bot Connector, of the keys of its tokens, and of the tokens for it.
func (s *service) botClients(cloud teams.Cloud) (connector, keys, tokens *http.Client, err error) {
	region := "cloud " + cloud.Name()
	connectors, keysAt, tokensAt := cloud.Addresses()
	if connector, err = s.client(egress.Destination{Name: "bot_connector", Purpose: "show conversations to agents in Teams", Region: region,
		Data: []egress.Class{egress.Credentials, egress.Names, egress.Messages, egress.Handles}}, connectors...); err != nil {
		return nil, nil, nil, err
	}
	if keys, err = s.client(egress.Destination{Name: "bot_keys", Purpose: "get the keys that verify who sends an activity", Region: region}, keysAt); err != nil {
		return nil, nil, nil, err
	}
	tokens, err = s.client(egress.Destination{Name: "bot_tokens", Purpose: "get the token with which the bot sends", Region: region, Data: []egress.Class{egress.Credentials}}, tokensAt)
	return connector, keys, tokens, err
}

// hintsWay registers the NATS servers that a URL names.
func hintsWay(register *egress.Register, url string) (*egress.Way, error) {
	var hosts []string
	for one := range strings.SplitSeq(url, ",") {
		if one = strings.TrimSpace(one); !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		host, err := egress.Host(one)
		if err != nil {
			return nil, usageError{"settings: COUNTERFOIL_NATS_URL must be a list of addresses such as nats://host:4222"}
		}
		if strings.HasSuffix(host, ":") {
			host += "4222"
		}
		hosts = append(hosts, host)
	}
	return register.Open(egress.Destination{
		Name: "hints", Hosts: hosts, Owner: "internal/bus", Purpose: "tell the other nodes that a conversation moved",
		Data: []egress.Class{egress.Credentials, egress.Handles}, Party: egress.Operator,
	})
}

// watchEgress keeps what the register counted, and puts into the log what it refused.
func (s *service) watchEgress(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	last := time.Time{}
	for {
		if err := s.noteEgress(ctx, &last); err != nil && ctx.Err() == nil {
			s.logger.Warn("where the service connected to is not noted yet", "error", err)
		}
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			last = time.Time{}
			if err := s.noteEgress(ctx, &last); err != nil {
				s.logger.Warn("where the service connected to is not noted", "error", err)
			}
			return
		case <-tick.C:
		}
	}
}

// noteEgress does so once a minute, and at once when something was refused.
func (s *service) noteEgress(ctx context.Context, last *time.Time) error {
	reports, refused := s.egress.Take()
	if len(refused) == 0 && time.Since(*last) < time.Minute {
		s.egress.Return(reports, nil)
		return nil
	}
	for _, a := range refused {
		s.logger.Error("refused to connect to what is not registered", "by", cmp.Or(a.Name, "no way at all"), "to", a.Target, "times", a.N)
	}
	if err := s.heart.store.NoteEgress(ctx, reports, refused); err != nil {
		s.egress.Return(reports, refused)
		return err
	}
	*last = time.Now()
	return s.recordRefused(ctx, refused)
}

// recordRefused writes what was refused into the log of the organisation whose way was tried, or into every log.
func (s *service) recordRefused(ctx context.Context, refused []egress.Attempt) error {
	if len(refused) == 0 {
		return nil
	}
	all, err := s.heart.store.Organisations(ctx)
	if err != nil {
		return err
	}
	for _, a := range refused {
		for _, o := range all {
			if a.Organisation != uuid.Nil && a.Organisation != o.ID {
				continue
			}
			facts := map[string]string{"destination": a.Name, "target": a.Target, "times": strconv.FormatInt(a.N, 10)}
			if err := s.heart.gate.EgressRefused(ctx, o.ID, facts); err != nil {
				return fmt.Errorf("record refused connection: %w", err)
			}
		}
	}
	return nil
}

type egressListCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs: one object for each destination and each refused attempt."`
}

// Help is shown below the flags.
func (egressListCmd) Help() string {
	return "The service connects to nothing that is not on this list; what tries to is refused, and a record of the log.\n\nExamples:\n  counterfoil egress list\n  counterfoil egress list --json"
}

type destinationOut struct {
	Name        string         `json:"name"`
	Hosts       []string       `json:"hosts"`
	Owner       string         `json:"owner"`
	Purpose     string         `json:"purpose"`
	Data        []egress.Class `json:"data"`
	Party       egress.Party   `json:"party"`
	Region      string         `json:"region"`
	OnRegister  bool           `json:"on_register"`
	Since       time.Time      `json:"since"`
	SeenAt      time.Time      `json:"seen_at"`
	Attempts    int64          `json:"attempts"`
	Connections int64          `json:"connections"`
	Failures    int64          `json:"failures"`
	Blocked     int64          `json:"blocked"`
	Sent        int64          `json:"bytes_sent"`
	Received    int64          `json:"bytes_received"`
}

type refusedOut struct {
	Refused string    `json:"refused"`
	By      string    `json:"by"`
	N       int64     `json:"times"`
	FirstAt time.Time `json:"first_at"`
	LastAt  time.Time `json:"last_at"`
}

// Run lists the outbound destinations and what was refused. Looking is recorded.
func (c egressListCmd) Run(a *app) error {
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		if err := h.gate.Act(a.ctx, operator(o.ID), policy.ReadAuditLog, o.ID, "egress.list", nil); err != nil {
			return err
		}
		all, refused, err := h.store.Egress(a.ctx, o.ID)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.egressJSON(all, refused)
		}
		return a.showEgress(all, refused)
	})
}

func (a *app) egressJSON(all []store.Destination, refused []store.Refused) error {
	for _, d := range all {
		out := destinationOut{d.Name, d.Hosts, d.Owner, d.Purpose, d.Data, d.Party, d.Region, d.OnRegister, d.Since, d.SeenAt, d.Attempts, d.Connections, d.Failures, d.Blocked, d.Sent, d.Received}
		if err := a.jsonLine(out); err != nil {
			return err
		}
	}
	for _, r := range refused {
		if err := a.jsonLine(refusedOut{r.Target, r.Name, r.N, r.FirstAt, r.LastAt}); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) showEgress(all []store.Destination, refused []store.Refused) error {
	if len(all) == 0 {
		fmt.Fprintln(a.stdout, a.in("The service connects to nothing outside of this host.", "Le service ne se connecte à rien hors de cette machine."))
	} else {
		t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, a.in("NAME\tHOSTS\tWHOSE\tWHERE\tDATA\tCONNECTIONS\tFAILED\tREFUSED\tSENT\tRECEIVED\tPURPOSE", "NOM\tHÔTES\tÀ QUI\tOÙ\tDONNÉES\tCONNEXIONS\tÉCHOUÉES\tREFUSÉES\tENVOYÉ\tREÇU\tFINALITÉ"))
		for _, d := range all {
			data := make([]string, len(d.Data))
			for i, class := range d.Data {
				data[i] = a.in(string(class), console.Word("fr", "data_"+string(class)))
			}
			name := d.Name
			if !d.OnRegister {
				name += a.in(" (before)", " (avant)")
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", name, strings.Join(d.Hosts, " "), a.in(string(d.Party), console.Word("fr", "party_"+string(d.Party))), cmp.Or(d.Region, "-"), cmp.Or(strings.Join(data, a.in(" ", ", ")), "-"),
				d.Connections, d.Failures, d.Blocked, d.Sent, d.Received, a.in(d.Purpose, cmp.Or(console.Word("fr", "egress_"+d.Name), d.Purpose)))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, r := range refused {
		fmt.Fprintf(a.stdout, a.in("REFUSED  %s, by %s, %d times, last %s\n", "REFUSÉ  %s, par %s, %d fois, la dernière le %s\n"), cmp.Or(r.Target, a.in("many others", "beaucoup d’autres")), cmp.Or(r.Name, a.in("no way at all", "aucune voie")), r.N, r.LastAt.UTC().Format(time.RFC3339))
	}
	return nil
}
