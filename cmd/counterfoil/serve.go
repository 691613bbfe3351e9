package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/alerts"
	"counterfoil/internal/bot"
	"counterfoil/internal/bus"
	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/console"
	"counterfoil/internal/demo"
	"counterfoil/internal/egress"
	"counterfoil/internal/jobs"
	"counterfoil/internal/oplog"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/relay"
	"counterfoil/internal/standin"
	"counterfoil/internal/stream"
	"counterfoil/internal/subject"
	"counterfoil/internal/teams"
	"counterfoil/internal/telemetry"
	"counterfoil/internal/web"
	"counterfoil/internal/widget"
	"counterfoil/policy"
)

type serveCmd struct {
	Demo bool `help:"Also start a stand-in for Teams and a website to try it on, on loopback only."`
	JSON bool `help:"Print the links as one JSON object."`
}

// Help is shown below the flags.
func (serveCmd) Help() string {
	return "Examples:\n  counterfoil serve --demo            try it: no Teams, no database needed\n" +
		"  counterfoil serve                   the service, with settings from the environment"
}

// Run runs the service until it is told to stop.
func (s serveCmd) Run(a *app) error {
	c, err := a.settings()
	if err != nil {
		return err
	}
	if s.Demo {
		if err := demoAllowed(c); err != nil {
			return err
		}
	}
	defer config.HoldHeap()()
	level := slog.LevelInfo
	if s.Demo {
		level = slog.LevelWarn
	}
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	svc := &service{config: c, egress: a.egress, fail: make(chan error, 1)}
	defer svc.stop()
	if err := svc.operate(ctx, a, level); err != nil {
		return err
	}
	if err := svc.start(ctx, s.Demo, func(text string) { fmt.Fprintln(a.stderr, text) }); err != nil {
		return err
	}
	if err := svc.announce(a.stdout, s.JSON); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-svc.fail:
		return err
	}
}

// service is the running program. What it started is ended in the opposite order.
type service struct {
	config    config.Config
	egress    *egress.Register
	logger    *slog.Logger
	tracer    trace.TracerProvider
	lines     *oplog.Dir
	telemetry *telemetry.Export
	tap       *tap       // nil while no telemetry is sent
	fail      chan error // the first part that ended by itself

	ownerURL string // of the own database; empty over somebody else's
	heart    *heart
	demo     *tryOut
	enders   []func()
	running  sync.WaitGroup
}

func (s *service) onStop(f func()) { s.enders = append(s.enders, f) }

func (s *service) stop() {
	for i := len(s.enders) - 1; i >= 0; i-- {
		s.enders[i]()
	}
}

// background runs f until the service stops.
func (s *service) background(f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	s.onStop(func() { cancel(); <-done })
}

func (s *service) start(ctx context.Context, withDemo bool, notify func(string)) error {
	c := s.config
	databaseURL, err := s.database(ctx, notify)
	if err != nil {
		return err
	}
	if s.heart, err = openHeart(ctx, c, s.egress, databaseURL, s.logger, s.tracer, s.telemetry.Meters); err != nil {
		return err
	}
	s.onStop(s.heart.close)
	if err := s.heart.checkBucket(ctx, s.logger); err != nil {
		return err
	}
	if err := s.heart.recordPolicy(ctx); errors.Is(err, access.ErrUnavailable) {
		s.logger.Error("which policy decides is not on record yet; it is tried again, and nothing is decided that is not recorded", "error", err)
	} else if err != nil {
		return err
	}
	s.background(s.heart.watchPolicies)
	hints, err := s.hints()
	if err != nil {
		return err
	}
	s.onStop(hints.Close)
	if withDemo {
		if s.demo, err = s.prepareDemo(ctx); err != nil {
			return err
		}
	}

	// The record of processing: which part of the program may open what, for which purpose.
	readers := s.heart.gate.Readers()
	conversations := relay.New(relay.Config{
		Store: s.heart.store, Bus: hints, Gate: s.heart.gate, Now: time.Now,
		AgentToVisitor: readers.AgentToVisitor,         // the widget shows who answers
		ForVisitor:     readers.ConversationForVisitor, // the widget shows the conversation
		Matcher:        readers.AgentMatcher,           // Join finds the agent's profile
		CollectVisitor: readers.VisitorCollector,       // what the visitor says about himself is kept
		CollectAgent:   readers.AgentCollector,         // who joined is kept
	})
	people := subject.Desk{Gate: s.heart.gate, Log: s.heart.log, Now: time.Now}
	var teamsBot *bot.Bot
	if s.config.Bot.AppID != "" {
		client, verifier, tenants, cloud, err := s.connector()
		if err != nil {
			return err
		}
		teamsBot = bot.New(bot.Config{
			Cloud: cloud, Verifier: verifier, Client: client, Store: s.heart.store, Relay: conversations, Tenants: tenants, Logger: s.logger, Now: time.Now,
			VisitorToAgent:  readers.VisitorToAgent,       // the joined agent learns who writes
			JoinerToChannel: readers.JoinerToChannel,      // the channel learns who joined
			FirstLine:       readers.FirstLineToChannel,   // the channel sees what waits
			ForAgent:        readers.ConversationForAgent, // the agent's 1:1 chat shows the conversation
			Own:             readers.OwnAgent,             // an agent gets what is kept of him
			Collector:       readers.AgentCollector,       // and has his name kept as Teams gives it
			People:          people, PublicURL: c.PublicURL, Address: func(r *http.Request) netip.Addr { return web.ClientAddress(r, c.TrustedProxies) },
		})
	}

	hub := stream.New(stream.Config{Logger: s.logger, Stale: widget.Stale(conversations)})
	visitors, err := widget.New(widget.Config{
		Relay: conversations, Hub: hub, PublicURL: c.PublicURL, Logger: s.logger, People: people,
		Own:        readers.OwnVisitor,             // a visitor sees what is kept of him
		ForVisitor: readers.ConversationForVisitor, // and what he wrote
		Collector:  readers.VisitorCollector,       // and corrects it
		Address:    func(r *http.Request) netip.Addr { return web.ClientAddress(r, c.TrustedProxies) },
	})
	if err != nil {
		return err
	}
	if err := visitors.Start(); err != nil {
		return err
	}
	s.background(func(ctx context.Context) {
		if err := hub.Run(ctx); err != nil && ctx.Err() == nil {
			s.report(err)
		}
	})
	s.background(s.heart.publishers.Run)
	s.background(s.watchEgress)
	s.background(s.index)
	s.background(s.upkeep)
	all, err := s.heart.store.Organisations(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := recovered(c, o.ID); err != nil {
			return err
		}
	}
	if err := s.heart.openControl(ctx); err != nil {
		return err
	}
	s.onStop(s.heart.closeControl)
	s.background(s.keepLines)
	s.background(s.watchCanaries)
	s.background(s.nightlyBackup)
	if err := s.measure(hub.Count); err != nil {
		return err
	}
	var work *jobs.Worker
	watch, err := s.heart.watch(s.logger, s.tracer, func(ctx context.Context, kind string, organisation, about uuid.UUID) error {
		return work.Enqueue(ctx, kind, organisation, about)
	})
	if err != nil {
		return err
	}
	if work, err = jobs.New(s.heart.pool, s.logger, s.jobs(watch)...); err != nil {
		return err
	}
	s.background(func(ctx context.Context) {
		if err := work.Run(ctx); err != nil {
			s.report(err)
		}
	})

	public := s.router()
	visitors.Routes(public)
	s.health(public)
	if teamsBot != nil {
		public.Post("/teams/messages", teamsBot.ServeHTTP)
		public.Get("/your-data/{token}", teamsBot.ShowDownload)
		public.Post("/your-data/{token}", teamsBot.Download)
		public.Head("/teams/messages", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		if err := conversations.OnMoved(func(uuid.UUID) { teamsBot.Wake() }); err != nil {
			return err
		}
		err := conversations.OnTyping(func(organisation, conversation uuid.UUID, by chat.Party) {
			if by == chat.PartyVisitor {
				s.running.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					defer cancel()
					teamsBot.VisitorTypes(ctx, organisation, conversation)
				})
			}
		})
		if err != nil {
			return err
		}
		s.onStop(s.running.Wait)
		s.background(teamsBot.Deliver)
		teamsBot.Wake()
	}
	if s.demo != nil {
		page, err := widget.Demo(s.demo.widget.Key, c.PublicURL, s.demo.agentsURL)
		if err != nil {
			return err
		}
		public.Method(http.MethodGet, "/demo", page)
	}
	if err := s.serve(ctx, c.PublicAddr, public); err != nil {
		return err
	}
	// Registered after the listener, so done before it: streams are sent elsewhere while others can still answer.
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = hub.Drain(ctx)
	})
	madeUp, err := s.madeUp(ctx)
	if err != nil {
		return err
	}
	admins, err := console.New(console.Config{
		Desk: s.heart.desk, Gate: s.heart.gate, Log: s.heart.log, URL: c.ConsoleURL, Logger: s.logger, Now: time.Now,
		Publishers: s.heart.publishers, Outside: s.heart.outside(), Policy: s.heart.policies.engine, Egress: s.heart.store.Egress, Alerts: watch, MadeUp: madeUp,
		Address:    func(r *http.Request) netip.Addr { return web.ClientAddress(r, c.TrustedProxies) },
		Through:    func(r *http.Request) []netip.Addr { return web.Proxies(r, c.TrustedProxies) },
		Activation: console.Activation{Current: func() policy.Signed { return *s.heart.policies.current.Load() }, Proposed: s.heart.policies.proposed},
		Scene:      conversations.Scene,
		Store:      s.heart.store, People: people, Control: s.heart.control,
		Enqueue: func(ctx context.Context, organisation, erasure uuid.UUID) error {
			return work.Enqueue(ctx, jobErasure, organisation, erasure)
		},
		Archives: s.heart.archives, EnqueueArchive: func(ctx context.Context, organisation uuid.UUID) error {
			return work.Enqueue(ctx, jobArchiveNow, organisation, uuid.Nil)
		},
		OrganisationName: func(ctx context.Context, id uuid.UUID) (string, error) {
			o, err := conversations.Organisation(ctx, id)
			return o.Name, err
		},
		VisitorFile: readers.VisitorFile, AgentFile: readers.AgentFile, ConversationFile: readers.ConversationFile, // who asked for his file is given it
		VisitorCorrector: readers.VisitorCorrector, AgentCorrector: readers.AgentCorrector,
		Finder:                readers.PersonFinder,          // who asks by letter is found by his email
		AgentToAdmin:          readers.AgentToAdmin,          // who has the role for it sees an agent
		VisitorToAdmin:        readers.VisitorToAdmin,        // and a visitor
		AgentInEmergency:      readers.AgentInEmergency,      // to whom a second person consented sees an agent
		VisitorInEmergency:    readers.VisitorInEmergency,    // and a visitor
		AddressToAdmin:        readers.AddressToAdmin,        // from where somebody signed in
		TranscriptToAdmin:     readers.TranscriptToAdmin,     // who has the role for it reads a conversation
		TranscriptInEmergency: readers.TranscriptInEmergency, // and so does to whom a second person consented
	})
	if err != nil {
		return err
	}
	s.background(admins.Run)
	inside := chi.NewRouter()
	inside.Use(telemetry.Requests(s.logger, s.tracer))
	admins.Routes(inside)
	if err := s.serve(ctx, c.ConsoleAddr, inside); err != nil {
		return err
	}
	s.onStop(admins.Stop) // before its listener
	if s.demo != nil {
		return s.startStandin(ctx)
	}
	return nil
}

// database gives the connection string of the service: the one named, or that of an own PostgreSQL, which is started,
// brought up to date, and started again should it die.
func (s *service) database(ctx context.Context, notify func(string)) (string, error) {
	if s.config.DatabaseURL != "" {
		return s.config.DatabaseURL, nil
	}
	db, err := cluster.Start(ctx, cluster.Options{DataDir: clusterDir(s.config), Logger: s.logger, Notify: notify})
	if err != nil {
		return "", err
	}
	s.background(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-db.Exited():
			}
			s.logger.Error("PostgreSQL ended by itself; it is started again")
			for db.Restart(ctx) != nil {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
			}
		}
	})
	// Ends before the watch above is told to, so it is registered first to be ended last.
	watch := s.enders[len(s.enders)-1]
	s.enders[len(s.enders)-1] = func() {
		watch()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := db.Stop(ctx); err != nil {
			s.logger.Error("PostgreSQL did not stop cleanly", "error", err)
		}
	}
	s.ownerURL = db.URL(cluster.Superuser, cluster.Database)
	if _, err := migrateURL(ctx, s.egress, s.config, s.ownerURL, false); err != nil {
		return "", err
	}
	return db.URL(serviceRole, cluster.Database), nil
}

// hints starts what tells nodes that a conversation moved.
func (s *service) hints() (*bus.Bus, error) {
	if s.config.NATSURL == "" {
		return bus.Start("", nil, s.logger)
	}
	way, err := hintsWay(s.egress, s.config.NATSURL)
	if err != nil {
		return nil, err
	}
	return bus.Start(s.config.NATSURL, way, s.logger)
}

// connector makes what speaks with the bot service.
func (s *service) connector() (*teams.Client, *teams.Verifier, *bot.Tenants, teams.Cloud, error) {
	b := s.config.Bot
	var cloud teams.Cloud
	var err error
	if b.Cloud == "custom" {
		cloud, err = teams.CustomCloud(teams.CustomSettings{MetadataURL: b.MetadataURL, Issuer: b.Issuer, LoginURL: b.LoginURL, ServiceHosts: b.ServiceHosts})
	} else {
		cloud, err = teams.NamedCloud(b.Cloud)
	}
	if err != nil {
		return nil, nil, nil, cloud, usageError{"settings: " + err.Error()}
	}
	secret := func() ([]byte, error) { return keyring.ReadSecret(b.SecretFile) }
	if s.demo != nil {
		secret = func() ([]byte, error) { return []byte(s.demo.secret), nil }
	}
	connector, keys, authority, err := s.botClients(cloud)
	if err != nil {
		return nil, nil, nil, cloud, err
	}
	tokens, err := teams.NewTokenSource(teams.TokenSourceConfig{Cloud: cloud, AppID: b.AppID, Secret: secret, HTTPClient: authority, Now: time.Now})
	if err != nil {
		return nil, nil, nil, cloud, err
	}
	client, err := teams.NewClient(teams.ClientConfig{Tokens: tokens, Authority: b.TenantID, HTTPClient: connector, Now: time.Now})
	if err != nil {
		return nil, nil, nil, cloud, err
	}
	tenants := &bot.Tenants{Store: s.heart.store, Now: time.Now}
	verifier, err := teams.NewVerifier(teams.VerifierConfig{Cloud: cloud, AppID: b.AppID, AllowTenant: tenants.Allowed, HTTPClient: keys, Now: time.Now})
	return client, verifier, tenants, cloud, err
}

// serve starts a listener and ends it with the service.
func (s *service) serve(ctx context.Context, addr string, handler http.Handler) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w (is another program using it?)", err)
	}
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // its lines quote what clients send
	}
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.report(fmt.Errorf("serve %s: %w", addr, err))
		}
	}()
	s.onStop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			_ = srv.Close()
		}
	})
	return nil
}

func (s *service) report(err error) {
	select {
	case s.fail <- err:
	default:
	}
}

// router makes the public listener's router.
func (s *service) router() chi.Router {
	r := chi.NewRouter()
	r.Use(telemetry.Requests(s.logger, s.tracer))
	r.Get("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }) // browsers ask unbidden
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		web.Problem(w, http.StatusNotFound, "not-found", "there is nothing under this address")
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		web.Problem(w, http.StatusMethodNotAllowed, "method", "this address does not take this method")
	})
	return r
}

// health tells a supervisor whether the process lives, and whether EUII can be served and why not.
func (s *service) health(r chi.Router) {
	r.Get("/health/live", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "live\n") })
	r.Get("/health/ready", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := s.heart.pool.Ping(ctx); err != nil {
			web.Problem(w, http.StatusServiceUnavailable, "database", "The database does not answer; nothing is disclosed until it does.")
			return
		}
		s.ready(w, r.WithContext(ctx))
	})
}

// jobs are what is worked off the queue.
func (s *service) jobs(watch *alerts.Watch) []jobs.Job {
	return append(slices.Concat(s.heart.controlJobs(), s.heart.archiveJobs(), watch.Jobs()), jobs.Job{Kind: "idle_admins", Every: time.Hour, Run: s.disableIdle})
}

// disableIdle takes away the right to sign in of administrators who have not for long.
func (s *service) disableIdle(ctx context.Context, _ jobs.Run) error {
	all, err := s.heart.store.Organisations(ctx)
	for _, o := range all {
		if err == nil {
			_, err = s.heart.desk.DisableIdle(ctx, o.ID)
		}
	}
	return err
}

// index makes records searchable soon after they were made.
func (s *service) index(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.heart.log.Index(ctx); err != nil && ctx.Err() == nil {
				s.logger.Warn("searches have to wait for records to become searchable", "error", err)
			}
		}
	}
}

// upkeep clears away tickets that have ended, and makes room for the months to come.
func (s *service) upkeep(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, err := s.heart.pool.Exec(ctx, "select access.drop_tickets()"); err != nil && ctx.Err() == nil {
				s.logger.Warn("ended tickets not cleared away", "error", err)
			}
			if err := s.heart.log.EnsureMonths(ctx); err != nil && ctx.Err() == nil {
				s.logger.Error("without a place for the records of a month to come, nothing can be disclosed in it", "error", err)
			}
		}
	}
}

// announce says where to go.
func (s *service) announce(w io.Writer, asJSON bool) error {
	out := struct {
		Website   string `json:"website,omitempty"`
		Agents    string `json:"agents,omitempty"`
		Console   string `json:"console"`
		SetUp     string `json:"set_up,omitempty"`
		Public    string `json:"public"`
		WidgetKey string `json:"widget_key,omitempty"`
		AppID     string `json:"app_id,omitempty"`
		DataDir   string `json:"data_dir"`
	}{Console: s.config.ConsoleURL, Public: s.config.PublicURL, AppID: s.config.Bot.AppID, DataDir: s.config.DataDir}
	if s.demo != nil {
		out.Website, out.Agents, out.WidgetKey, out.SetUp = s.demo.websiteURL, s.demo.agentsURL, s.demo.widget.Key, s.demo.setUpURL
	}
	if asJSON {
		return (&app{stdout: w}).json(out)
	}
	if s.demo == nil {
		_, err := fmt.Fprintf(w, "Serving %s (console %s). Ctrl-C stops it.\n", out.Public, out.Console)
		return err
	}
	_, err := fmt.Fprintf(w, `
Counterfoil runs. Open these two pages side by side and chat with yourself:

  1. The website   %s
     Press the button at the bottom right and write something.
  2. The agents    %s
     A stand-in for Microsoft Teams. A card appears in the channel: press Join, then answer in the 1:1 chat.
  3. The console   %s
     %s
     From the shell the same is seen with:
         bin/counterfoil audit list
         bin/counterfoil audit export ./export && bin/counterfoil-verify ./export

Data is kept in %s. Ctrl-C stops everything.
`, out.Website, out.Agents, cmp.Or(out.SetUp, out.Console), consoleHint(out.SetUp), out.DataDir)
	return err
}

// consoleHint says what to do with the link of the console.
func consoleHint(setUp string) string {
	if setUp == "" {
		return "Sign in and see who was shown whose name. (A further administrator: bin/counterfoil admin setup)"
	}
	return "Open this link once, within 30 minutes, to become the first administrator; then sign in and see who was shown whose name.\n" +
		"     It takes an authenticator app on a phone. (A fresh link: bin/counterfoil admin setup)"
}

// tryOut is what a try-out has beside the service.
type tryOut struct {
	organisation          chat.Organisation
	widget                chat.Widget
	standin               *standin.Server
	secret                string
	websiteURL, agentsURL string
	setUpURL              string // empty once there is an administrator
}

// The fictional organisation of a try-out.
const (
	demoName   = "Demonstration (fictional)"
	demoTenant = "5f0c7a52-6f1e-4c0e-9d0b-0d5b1a3e7c11"
	demoApp    = "c0de7e57-0000-4000-8000-00000000c0de"
)

// demoAllowed refuses to put a stand-in beside anything real.
func demoAllowed(c config.Config) error {
	if c.Bot.AppID != "" {
		return usageError{"--demo brings its own bot: unset COUNTERFOIL_BOT_APP_ID, or run without --demo"}
	}
	if c.DatabaseURL != "" {
		u, err := url.Parse(c.DatabaseURL)
		if err != nil || u.Hostname() != "" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" {
			return usageError{"--demo does not work on a database off this machine"}
		}
	}
	return nil
}

// prepareDemo makes the fictional organisation at first start, and the stand-in whose addresses become the settings.
func (s *service) prepareDemo(ctx context.Context) (*tryOut, error) {
	d := &tryOut{secret: uuid.NewString()}
	all, err := s.heart.store.Organisations(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o.Tenant == demoTenant {
			d.organisation = o
		}
	}
	if d.organisation.ID == uuid.Nil {
		d.organisation, err = s.heart.createOrganisation(ctx, chat.Organisation{
			Name: demoName, Tenant: demoTenant, Language: "en",
			Settings: chat.Settings{ShareVisitorEmail: true, CreateAgents: true, NameInChannel: true},
		}, s.demoMonth)
		if err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(s.config.PublicAddr)
	if err != nil {
		return nil, err
	}
	site := "http://127.0.0.1:" + port
	widgets, err := s.heart.store.Widgets(ctx, d.organisation.ID)
	if err != nil {
		return nil, err
	}
	for _, w := range widgets {
		if len(w.Sites) == 1 && w.Sites[0] == site {
			d.widget = w
		}
	}
	if d.widget.ID == uuid.Nil {
		if d.widget, err = s.heart.createWidget(ctx, d.organisation, "Demonstration website", []string{site}); err != nil {
			return nil, err
		}
	}
	admins, err := s.heart.desk.Admins(ctx, d.organisation.ID)
	if err != nil {
		return nil, err
	}
	if len(admins) == 0 {
		link, err := s.heart.setUpLink(ctx, d.organisation.ID, firstRoles)
		if errors.Is(err, access.ErrUnavailable) { // the service starts and says why nothing can be recorded
			s.logger.Error("no set-up link can be made now; make one later with: counterfoil admin setup", "error", err)
		} else if err != nil {
			return nil, err
		}
		d.setUpURL = link.URL
	}
	d.websiteURL = site + "/demo"
	d.agentsURL = "http://" + s.config.DemoAddr + "/"
	d.standin, err = standin.New(standin.Config{
		Addr: s.config.DemoAddr, BotEndpoint: site + "/teams/messages", AppID: demoApp, AppSecret: d.secret, TenantID: demoTenant, Logger: s.logger,
	})
	if err != nil {
		return nil, err
	}
	service, err := url.Parse(d.standin.ServiceURL())
	if err != nil {
		return nil, err
	}
	s.config.Bot = config.Bot{
		AppID: demoApp, TenantID: demoTenant, Cloud: "custom", MetadataURL: d.standin.MetadataURL(), Issuer: d.standin.Issuer(),
		LoginURL: d.standin.LoginURL(), ServiceHosts: []string{service.Host},
	}
	return d, nil
}

// demoPause lies between what is made up and what happens, so that the last hour tells the truth.
const demoPause = time.Hour

// demoMonth makes up what happened before the try-out, if this program owns the database.
func (s *service) demoMonth(ctx context.Context, o chat.Organisation) error {
	if s.ownerURL == "" {
		return nil
	}
	owner, err := direct(ctx, s.egress, s.ownerURL)
	if err != nil {
		return fmt.Errorf("connect as the owner of the database: %w", err)
	}
	defer owner.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is lost with it
	entries, err := demo.Month(ctx, s.heart.policies.engine, o.ID, time.Now().Add(-demoPause))
	if err != nil {
		return err
	}
	return demo.Write(ctx, owner, s.heart.key, o.ID, entries)
}

// madeUp says with how many records a log begins that were made up for a try-out, also when it goes on without one.
func (s *service) madeUp(ctx context.Context) (map[uuid.UUID]uint64, error) {
	all, err := s.heart.store.Organisations(ctx)
	if err != nil {
		return nil, err
	}
	made := make(map[uuid.UUID]uint64)
	for _, o := range all {
		if o.Tenant != demoTenant {
			continue
		}
		for body, err := range s.heart.log.Entries(ctx, o.ID, 0, 1) {
			if err != nil {
				return nil, err
			}
			if e, err := audit.ParseEntry(body); err == nil && demo.Made(e) > 0 {
				made[o.ID] = demo.Made(e)
			}
		}
	}
	return made, nil
}

func (s *service) startStandin(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.DemoAddr)
	if err != nil {
		return fmt.Errorf("listen: %w (is another program using it?)", err)
	}
	s.background(func(ctx context.Context) {
		if err := s.demo.standin.Serve(ctx, l); err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrClosed) {
			s.report(fmt.Errorf("stand-in: %w", err))
		}
	})
	return nil
}
