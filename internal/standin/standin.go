// Package standin plays Microsoft Teams and the Bot Connector service, so that the product can be tried out and tested
// without an account at Microsoft.
//
// It promises that whatever a bot validates or has to survive is as in Teams: the tokens of its deliveries are signed and
// published the same way, the connector checks the bot's own token, keeps the rate and size limits, answers with the
// same codes, and delivers again what was not answered in time. It never listens on, nor speaks to, anything but the
// loopback interface. Its keys, people and messages live in memory and end with the process.
package standin

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// Config says where the stand-in listens, which bot it serves and how fast its clocks run.
type Config struct {
	// Addr is the host:port the stand-in is reached at. Every URL it hands out is built from it, so the port must be
	// given. It has to be a loopback address.
	Addr string
	// BotEndpoint is the bot's messaging endpoint, on loopback.
	BotEndpoint string
	// AppID and AppSecret are the bot's registration, TenantID the directory of the fictional organisation.
	AppID, AppSecret, TenantID string
	// Issuer signs the deliveries to the bot; empty means the issuer of the public cloud.
	Issuer string
	// Timing replaces the deadlines of Teams, for tests.
	Timing Timing
	// Now is the clock for identifiers, tokens and rate limits; nil means time.Now.
	Now func() time.Time
	// Logger receives operational lines without names or message text; nil discards them.
	Logger *slog.Logger
}

// Timing holds the deadlines of Teams. A zero field means the value Teams is known for.
type Timing struct {
	Answer     time.Duration // how long the bot may take to answer a delivery; 15 s
	Resend     time.Duration // pause before the same activity is delivered again; 1 s
	SecondPair time.Duration // from the first delivery of an invoke to its copy with a new id; 30 s
	Stall      time.Duration // how long FaultStall holds a call it has carried out; 60 s
	Install    time.Duration // how long Serve keeps trying to install the app; 60 s
}

// DefaultIssuer is the issuer of the Bot Framework in Microsoft's public cloud.
const DefaultIssuer = "https://api.botframework.com"

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		d     *time.Duration
		value time.Duration
	}{
		{&t.Answer, 15 * time.Second},
		{&t.Resend, time.Second},
		{&t.SecondPair, 30 * time.Second},
		{&t.Stall, time.Minute},
		{&t.Install, time.Minute},
	} {
		if *f.d <= 0 {
			*f.d = f.value
		}
	}
	return t
}

// Server is one running organisation with its Teams, its identity provider and its Bot Connector. Make it with New.
type Server struct {
	cfg     Config
	base    string // scheme, host and port, without a trailing slash
	key     *rsa.PrivateKey
	kid     string
	org     organisation
	client  *http.Client
	handler http.Handler

	// ctx ends with Close; every delivery, stalled call and event stream is bound to it.
	ctx  context.Context
	stop context.CancelFunc

	mu         sync.Mutex // guards all below
	closed     bool
	background sync.WaitGroup // grows only under mu while closed is false
	w          world
}

// New makes a stand-in with a fresh signing key. It refuses an address or bot endpoint that is not on loopback.
func New(cfg Config) (*Server, error) {
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("stand-in address: %w", err)
	}
	if !loopbackHost(host) {
		return nil, fmt.Errorf("stand-in address %q is not on the loopback interface", cfg.Addr)
	}
	if port == "" || port == "0" {
		return nil, fmt.Errorf("stand-in address %q has no fixed port", cfg.Addr)
	}
	bot, err := url.Parse(cfg.BotEndpoint)
	if err != nil {
		return nil, fmt.Errorf("bot endpoint: %w", err)
	}
	if bot.Scheme != "http" && bot.Scheme != "https" || bot.User != nil || !loopbackHost(bot.Hostname()) {
		return nil, fmt.Errorf("bot endpoint %q is not an HTTP address on the loopback interface", bot.Redacted())
	}
	if cfg.AppID == "" || cfg.AppSecret == "" || cfg.TenantID == "" {
		return nil, errors.New("stand-in needs an app id, an app secret and a tenant id")
	}
	if cfg.Issuer == "" {
		cfg.Issuer = DefaultIssuer
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Timing = cfg.Timing.withDefaults()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	s := &Server{
		cfg:    cfg,
		base:   "http://" + cfg.Addr,
		key:    key,
		kid:    keyID(&key.PublicKey),
		org:    newOrganisation(cfg.AppID, cfg.TenantID),
		client: loopbackClient(),
		w:      newWorld(),
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.handler = s.routes()
	return s, nil
}

// MetadataURL is the OpenID metadata document that describes the keys of deliveries to the bot.
func (s *Server) MetadataURL() string { return s.base + metadataPath }

// Issuer is the iss claim of deliveries to the bot.
func (s *Server) Issuer() string { return s.cfg.Issuer }

// LoginURL is the authority in front of "/{tenant}/oauth2/v2.0/token", without a trailing slash.
func (s *Server) LoginURL() string { return s.base + loginPath }

// ServiceURL is the serviceUrl of every activity, byte for byte. It ends with a slash, as the real one does.
func (s *Server) ServiceURL() string { return s.base + connectorPath }

// Handler serves all parts: identity provider, connector and page. Whoever uses it without Serve calls Close at the end.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers on l, which must be on loopback, until ctx ends, and installs the app as soon as the bot answers.
// It returns nil after a clean stop.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok || !addr.IP.IsLoopback() {
		return fmt.Errorf("stand-in listener %s is not on the loopback interface", l.Addr())
	}
	srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	s.spawn(s.autoInstall)
	select {
	case err := <-done:
		s.Close()
		return fmt.Errorf("serve stand-in: %w", err)
	case <-ctx.Done():
	}
	s.Close()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(stop)
	<-done
	if err != nil {
		return fmt.Errorf("stop stand-in: %w", err)
	}
	return nil
}

// Close ends all deliveries and event streams and waits for the deliveries. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.background.Wait()
	s.client.CloseIdleConnections()
}

// spawn runs f beside the caller with the server's context, and reports false when the server is closed.
func (s *Server) spawn(f func(context.Context)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.background.Go(func() { f(s.ctx) })
	return true
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.identityRoutes(mux)
	s.connectorRoutes(mux)
	s.pageRoutes(mux)
	// A foreign name that resolves to 127.0.0.1 must not reach the stand-in through a browser.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if !loopbackHost(host) {
			http.Error(w, "this host is not served here", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// loopbackClient cannot connect anywhere else, whatever a name resolves to, and follows no redirect.
func loopbackClient() *http.Client {
	dialer := &net.Dialer{
		Timeout: 5 * time.Second,
		Control: func(_, address string, _ syscall.RawConn) error {
			if ap, err := netip.ParseAddrPort(address); err != nil || !ap.Addr().IsLoopback() {
				return errors.New("not a loopback address")
			}
			return nil
		},
	}
	return &http.Client{
		Transport:     &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
