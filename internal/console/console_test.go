package console_test

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"html"
	"image/png"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/pquerna/otp/hotp"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/alerts"
	"counterfoil/internal/archive"
	"counterfoil/internal/console"
	"counterfoil/internal/control"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/signin"
	"counterfoil/internal/subject"
	"counterfoil/policy"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

const (
	name     = "Ada Canary"
	password = "four unrelated words, here"
)

// site is the console over a world of its own, as somebody at an address sees it.
type site struct {
	*relaytest.World
	t       *testing.T
	desk    *signin.Desk
	watch   *alerts.Watch
	server  *console.Server
	routes  chi.Routes
	handler http.Handler
	from    netip.Addr
	through []netip.Addr
	name    string
	cookies map[string]*http.Cookie
	headers http.Header
	ahead   *atomic.Int64 // nanoseconds
	outside publish.Publishers
	policy  *policy.Engine
	lies    *[]policy.Signed // on the host, signed, and not deciding
	seed    string
	codes   []string
}

func newSite(t *testing.T, address string) *site {
	t.Helper()
	engine, err := policy.New(t.Context())
	must(t, err)
	s := &site{World: relaytest.New(t, relaytest.Options{Policy: engine}), t: t, policy: engine, lies: new([]policy.Signed), from: netip.MustParseAddr("127.0.0.1"), name: name, ahead: new(atomic.Int64), cookies: map[string]*http.Cookie{}, headers: http.Header{}}
	s.desk = signin.New(signin.Config{Pool: s.Pool, Gate: s.Gate, Ring: s.Ring, Now: s.now, URL: address})
	s.outside = publish.Publishers{publish.New(publish.Config{
		Log: s.Log, To: publish.Directory(t.TempDir()), Interval: time.Second, MaxAge: time.Minute, Logger: slog.New(slog.DiscardHandler), Now: s.now,
	})}
	s.watch, err = alerts.New(alerts.Config{
		Pool: s.Pool, Gate: s.Gate, Log: s.Log, Ring: s.Ring, Egress: egress.New(), URL: address, Logger: slog.New(slog.DiscardHandler), Now: s.now,
		Wrap: func(next http.RoundTripper) http.RoundTripper { return next }, Ask: func(context.Context, string, uuid.UUID, uuid.UUID) error { return nil },
	})
	must(t, err)
	c, err := console.New(console.Config{
		Desk: s.desk, Gate: s.Gate, Log: s.Log, URL: address, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: s.now, Publishers: s.outside, Policy: s.policy, Egress: s.Store.Egress, Alerts: s.watch,
		Enqueue: func(context.Context, uuid.UUID, uuid.UUID) error { return nil },
		Address: func(*http.Request) netip.Addr { return s.from }, Through: func(*http.Request) []netip.Addr { return s.through },
		Store: s.Store, People: subject.Desk{Gate: s.Gate, Log: s.Log, Now: s.now}, Control: control.New(s.Pool, s.DB.Pool(t, "counterfoil_retention"), s.Gate),
		Archives: archive.New(archive.Config{Pool: s.Pool, Gate: s.Gate, Log: s.Log, Target: publish.Directory(t.TempDir())}), EnqueueArchive: func(context.Context, uuid.UUID) error { return nil },
		OrganisationName: func(context.Context, uuid.UUID) (string, error) { return s.Organisation.Name, nil },
		VisitorFile:      s.Readers.VisitorFile, AgentFile: s.Readers.AgentFile, ConversationFile: s.Readers.ConversationFile, VisitorCorrector: s.Readers.VisitorCorrector, AgentCorrector: s.Readers.AgentCorrector,
		Finder: s.Readers.PersonFinder,
		Scene:  s.Relay.Scene, Activation: console.Activation{Current: func() policy.Signed { return policy.Signed{Revision: engine.Revision()} }, Proposed: func(context.Context) []policy.Signed { return *s.lies }},
		AddressToAdmin: s.Readers.AddressToAdmin, TranscriptToAdmin: s.Readers.TranscriptToAdmin, TranscriptInEmergency: s.Readers.TranscriptInEmergency,
		AgentToAdmin: s.Readers.AgentToAdmin, VisitorToAdmin: s.Readers.VisitorToAdmin, AgentInEmergency: s.Readers.AgentInEmergency, VisitorInEmergency: s.Readers.VisitorInEmergency,
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	r := chi.NewRouter()
	c.Routes(r)
	s.server, s.routes, s.handler = c, r, r
	return s
}

func (s *site) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// another is somebody else before the same console, signed in with these roles.
func (s *site) another(name string, roles ...string) *site {
	s.t.Helper()
	o := *s
	o.name, o.cookies, o.codes = name, map[string]*http.Cookie{}, nil
	o.setUpAs(roles...)
	o.signIn()
	return &o
}

// ask sends a request as a browser on a page of the console would.
func (s *site) ask(method, path string, form url.Values) (*http.Response, string) {
	s.t.Helper()
	r := httptest.NewRequestWithContext(s.t.Context(), method, "http://127.0.0.1:8081"+path, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for name, values := range s.headers {
		r.Header[name] = values
	}
	for _, c := range s.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	resp := w.Result()
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(s.cookies, c.Name)
		} else {
			s.cookies[c.Name] = c
		}
	}
	return resp, w.Body.String()
}

// expect asks and wants a status.
func (s *site) expect(status int, method, path string, form url.Values) (*http.Response, string) {
	s.t.Helper()
	resp, body := s.ask(method, path, form)
	if resp.StatusCode != status {
		s.t.Fatalf("%s %s is answered with %d, want %d:\n%s", method, path, resp.StatusCode, status, body)
	}
	return resp, body
}

// code waits for the beginning of the next time step, so that there is time to use it however slow this machine is.
func (s *site) code() string {
	s.t.Helper()
	now := s.now()
	s.ahead.Add(int64(now.Truncate(30 * time.Second).Add(31 * time.Second).Sub(now)))
	c, err := hotp.GenerateCode(s.seed, uint64(s.now().Unix()/30))
	must(s.t, err)
	return c
}

var qr = regexp.MustCompile(`<img id="qr" src="data:image/png;base64,([^"]+)"`)

// enrol takes the key off the page with the QR code.
func (s *site) enrol(page string) {
	s.t.Helper()
	found := qr.FindStringSubmatch(page)
	if found == nil {
		s.t.Fatalf("there is no QR code:\n%s", page)
	}
	_, err := png.Decode(base64.NewDecoder(base64.StdEncoding, strings.NewReader(html.UnescapeString(found[1]))))
	must(s.t, err)
	_, key, _ := strings.Cut(page, `<dd class="mono key">`)
	key, _, _ = strings.Cut(key, "</dd>")
	s.seed = strings.ReplaceAll(key, " ", "")
	if raw, err := base32.StdEncoding.DecodeString(s.seed); err != nil || len(raw) != 20 {
		s.t.Fatalf("the key is %q", key)
	}
}

// setUp becomes the first administrator.
func (s *site) setUp() {
	s.t.Helper()
	s.setUpAs("auditor", "security_admin")
}

// setUpAs becomes an administrator with these roles.
func (s *site) setUpAs(roles ...string) {
	s.t.Helper()
	link, err := s.desk.NewLink(s.t.Context(), s.Organisation.ID, roles)
	must(s.t, err)
	s.expect(http.StatusOK, "GET", "/set-up", nil)
	_, page := s.expect(http.StatusOK, "POST", "/set-up", url.Values{"token": {link.Token}, "name": {s.name}, "password": {password}, "again": {password}})
	s.enrol(page)
	_, page = s.expect(http.StatusOK, "POST", "/set-up/confirm", url.Values{"token": {link.Token}, "code": {s.code()}})
	for _, found := range regexp.MustCompile(`<li class="mono">([a-z0-9-]{19})</li>`).FindAllStringSubmatch(page, -1) {
		s.codes = append(s.codes, found[1])
	}
	if len(s.codes) != 10 {
		s.t.Fatalf("%d recovery codes are shown", len(s.codes))
	}
}

func (s *site) signIn() {
	s.t.Helper()
	s.expect(http.StatusOK, "GET", "/sign-in", nil)
	s.expect(http.StatusSeeOther, "POST", "/sign-in", url.Values{"name": {s.name}, "password": {password}})
	s.expect(http.StatusOK, "GET", "/sign-in/code", nil)
	resp, _ := s.expect(http.StatusSeeOther, "POST", "/sign-in/code", url.Values{"code": {s.code()}})
	if to := resp.Header.Get("Location"); to != "/" {
		s.t.Fatalf("after the sign-in one comes to %s", to)
	}
}

func (s *site) last() audit.Entry {
	s.t.Helper()
	all := s.Entries(s.t)
	return all[len(all)-1]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// doors are the routes for whoever is not signed in yet. A new route is a decision that is made here.
// What else it touches, why, and what of it is recorded, is declared in console.Declarations.
var doors = []string{"GET /sign-in", "POST /sign-in", "GET /sign-in/code", "POST /sign-in/code", "POST /sign-in/recovery", "GET /sign-in/unlock", "POST /sign-in/unlock", "POST /sign-out", "GET /api/v1/openapi.json"}

// firstRun are those that this machine may use before there is an allowlist.
var firstRun = []string{"GET /set-up", "POST /set-up", "POST /set-up/confirm", "GET /assets/{file}", "GET /favicon.ico", "POST /violations"}

// AUTH-TOTP-11, AUTH-TOTP-12, AUTH-IP-13.
func TestEveryRouteDemandsAnAdmittedAddressAndAllButTheDoorsACode(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	var routes []string
	must(t, chi.Walk(s.routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, method+" "+route)
		return nil
	}))
	if len(routes) < 13 {
		t.Fatalf("only %d routes", len(routes))
	}
	for _, known := range slices.Concat(doors, firstRun) {
		if !slices.Contains(routes, known) {
			t.Errorf("%s is no route", known)
		}
	}
	declared := console.Declarations()
	for _, route := range routes {
		d, ok := declared[route]
		door := slices.Contains(slices.Concat(doors, firstRun), route)
		if !ok || d.Class == "" || d.Purpose != "" && d.Purpose.Title("en") == "" || !door && d.Class != console.None && (d.Record == "" || d.Purpose == "" && strings.HasPrefix(route, "GET ")) {
			t.Errorf("%s does not declare what it shows, why, and what of it is recorded: %+v", route, d)
		}
		delete(declared, route)
	}
	for route := range declared {
		t.Errorf("%s is declared and no route", route)
	}
	routes = append(routes, "GET /nothing", "POST /nothing/at/all", "DELETE /events", "GET /sign-out", "HEAD /events", "GET /../events", "GET //events", "GET /health/ready", "GET /debug/pprof/")
	ask := func(route string) (*http.Response, string) {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{seq}", "0", "{file}", "console.css", "{id}", uuid.Nil.String()).Replace(path)
		var form url.Values
		if method == "POST" {
			form = url.Values{"name": {name}, "password": {password}, "code": {"000000"}, "token": {"x"}}
		}
		return s.ask(method, path, form)
	}
	refused := func(when string, except []string) {
		t.Helper()
		for _, route := range routes {
			resp, body := ask(route)
			if slices.Contains(except, route) {
				if resp.StatusCode == http.StatusForbidden && strings.Contains(body, "not admitted") {
					t.Errorf("%s, %s is refused", when, route)
				}
				continue
			}
			if resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 || !strings.HasPrefix(route, "HEAD") && !strings.Contains(body, "This address is not admitted") {
				t.Errorf("%s, %s is answered with %d", when, route, resp.StatusCode)
			}
		}
	}
	s.from = netip.MustParseAddr("203.0.113.9")
	refused("before the first set-up, from elsewhere", nil)
	s.from = netip.Addr{}
	refused("from nobody knows where", nil)
	s.from = netip.MustParseAddr("127.0.0.1")
	refused("before the first set-up, on this machine", firstRun)

	s.setUp()
	records := len(s.Entries(t))
	demandCode := func(when string) {
		t.Helper()
		for _, route := range routes {
			if slices.Contains(slices.Concat(doors, firstRun), route) || strings.HasPrefix(route, "POST /nothing") {
				continue
			}
			kept := maps(s.cookies)
			resp, body := ask(route)
			s.cookies = kept
			switch resp.StatusCode {
			case http.StatusNotFound, http.StatusMethodNotAllowed:
				if slices.Contains(routes[:len(routes)-9], route) {
					t.Errorf("%s, %s is answered with %d", when, route, resp.StatusCode)
				}
			case http.StatusUnauthorized: // programs are not shown the way
				if !strings.HasPrefix(route, "GET /api/v1/") || !strings.Contains(body, `"code":"no_token"`) {
					t.Errorf("%s, %s is answered with %d", when, route, resp.StatusCode)
				}
			case http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusMovedPermanently:
				if to := resp.Header.Get("Location"); to != "/sign-in" {
					t.Errorf("%s, %s leads to %s", when, route, to)
				}
			default:
				t.Errorf("%s, %s is answered with %d", when, route, resp.StatusCode)
			}
			if strings.Contains(body, "admin.set_up") || strings.Contains(body, "Events") {
				t.Errorf("%s, %s shows something of the log", when, route)
			}
		}
	}
	demandCode("without a session")
	s.cookies["counterfoil"] = &http.Cookie{Name: "counterfoil", Value: "made-up"}
	demandCode("with a session that was made up")
	if n := len(s.Entries(t)); n != records {
		t.Errorf("%d records came by requests of nobody", n-records)
	}
	s.expect(http.StatusSeeOther, "POST", "/sign-in", url.Values{"name": {name}, "password": {password}})
	demandCode("after the password alone")

	s.signIn()
	s.expect(http.StatusOK, "GET", "/events", nil)
	s.from = netip.MustParseAddr("203.0.113.9")
	refused("signed in, from elsewhere", nil)
	if e := s.last(); e.Action != "session.refused" {
		t.Errorf("the last record is %s", e.Action)
	}
	s.from = netip.MustParseAddr("127.0.0.1")
	s.expect(http.StatusSeeOther, "GET", "/events", nil)
}

func maps(m map[string]*http.Cookie) map[string]*http.Cookie {
	c := make(map[string]*http.Cookie, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// AUTH-SESS-01.
func TestTheCookieIsThisHostsAlone(t *testing.T) {
	for address, want := range map[string]struct {
		name   string
		secure bool
	}{"http://127.0.0.1:8081": {"counterfoil", false}, "https://console.example": {"__Host-counterfoil", true}} {
		s := newSite(t, address)
		s.setUp()
		s.signIn()
		c := s.cookies[want.name]
		if len(s.cookies) != 1 || c == nil || c.Secure != want.secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || len(c.Value) != 43 || c.MaxAge != 0 || !c.Expires.IsZero() {
			t.Fatalf("%s: %+v", address, s.cookies)
		}
		if s.expectHeader("Strict-Transport-Security") != want.secure {
			t.Errorf("%s: Strict-Transport-Security", address)
		}
		stolen := *c
		resp, _ := s.expect(http.StatusSeeOther, "POST", "/sign-out", url.Values{})
		if len(s.cookies) != 0 || resp.Header.Get("Clear-Site-Data") == "" {
			t.Errorf("%s: after the sign-out the browser keeps %v", address, s.cookies)
		}
		s.cookies[want.name] = &stolen
		s.expect(http.StatusSeeOther, "GET", "/events", nil)
	}
}

func (s *site) expectHeader(name string) bool {
	s.t.Helper()
	resp, _ := s.ask("GET", "/events", nil)
	return resp.Header.Get(name) != ""
}

func TestEveryAnswerForbidsWhatItDoesNotNeed(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	look := func(method, path string, form url.Values) {
		t.Helper()
		resp, body := s.ask(method, path, form)
		h := resp.Header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s lacks %s: %s", path, want, csp)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") || strings.Contains(csp, "data:") != strings.Contains(body, `src="data:`) {
			t.Errorf("%s: %s", path, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if cache := h.Get("Cache-Control"); !strings.Contains(path, "/assets/") && cache != "no-store" {
			t.Errorf("%s may be kept: %q", path, cache)
		}
		nonces := regexp.MustCompile(`nonce="([^"]+)"`).FindAllStringSubmatch(body, -1)
		for _, n := range nonces {
			if !strings.Contains(csp, "'nonce-"+n[1]+"'") {
				t.Errorf("%s has a nonce that its policy has not", path)
			}
		}
		if strings.Contains(body, "<style") && len(nonces) == 0 || strings.Contains(body, " style=") || strings.Contains(body, " onclick") {
			t.Errorf("%s has styles or handlers of its own", path)
		}
	}
	look("GET", "/sign-in", nil)
	look("GET", "/set-up", nil)
	s.setUp()
	for _, path := range []string{"/sign-in", "/events", "/nothing", "/favicon.ico", "/assets/none"} {
		look("GET", path, nil)
	}
	look("POST", "/sign-in", url.Values{"name": {"Nobody"}, "password": {"x"}})
	s.signIn()
	for _, path := range []string{"/events", "/events/0", "/events/99999", "/events/x", "/events?before=x"} {
		look("GET", path, nil)
	}
	_, first := s.ask("GET", "/events", nil)
	_, second := s.ask("GET", "/events", nil)
	nonce := regexp.MustCompile(`nonce="([^"]+)"`)
	if nonce.FindString(first) == nonce.FindString(second) {
		t.Error("two answers have one nonce")
	}
}

// AUTH-SESS-06.
func TestAPageOfAnotherOriginCannotAct(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	for _, h := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Sec-Fetch-Site": nil, "Origin": {"http://elsewhere.example"}}, {"Sec-Fetch-Site": nil, "Origin": {"null"}},
		{"Sec-Fetch-Site": nil, "Origin": {"http://127.0.0.1:8080"}},
	} {
		s.headers = h
		s.expect(http.StatusForbidden, "POST", "/sign-out", url.Values{})
		s.expect(http.StatusForbidden, "POST", "/sign-in", url.Values{"name": {name}, "password": {password}})
		if site := h["Sec-Fetch-Site"]; site != nil { // AUTH-SESS-07: a stream is nobody else's either
			s.expect(http.StatusForbidden, "GET", "/live/stream", nil)
		}
	}
	s.headers = http.Header{}
	s.expect(http.StatusOK, "GET", "/events", nil)
}

func TestTheDoorsSayWhatIsWrongAndNoMore(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	link, err := s.desk.NewLink(t.Context(), s.Organisation.ID, []string{"auditor"})
	must(t, err)
	for problem, form := range map[string]url.Values{
		"at least 15 characters":                     {"name": {name}, "password": {"short"}, "again": {"short"}},
		"The two passwords differ":                   {"name": {name}, "password": {password}, "again": {password + "x"}},
		"among the first that are tried":             {"name": {name}, "password": {"passwordpassword"}, "again": {"passwordpassword"}},
		"The name needs 3 to 64 characters":          {"name": {"a"}, "password": {password}, "again": {password}},
		"The password must not contain the name":     {"name": {"unrelated"}, "password": {password}, "again": {password}},
		"The password may have 128 characters at mo": {"name": {name}, "password": {strings.Repeat("unlike ", 20)}, "again": {strings.Repeat("unlike ", 20)}},
	} {
		form.Set("token", link.Token)
		_, page := s.expect(http.StatusBadRequest, "POST", "/set-up", form)
		if !strings.Contains(page, problem) || strings.Contains(page, `value="`+form.Get("password")) {
			t.Errorf("want %q:\n%s", problem, page)
		}
	}
	_, page := s.expect(http.StatusForbidden, "POST", "/set-up", url.Values{"token": {"x"}, "name": {name}, "password": {password}, "again": {password}})
	if !strings.Contains(page, "counterfoil admin setup") {
		t.Errorf("a link that is none:\n%s", page)
	}
	s.setUp()
	_, wrong := s.expect(http.StatusForbidden, "POST", "/sign-in", url.Values{"name": {name}, "password": {"not the right words"}})
	_, unknown := s.expect(http.StatusForbidden, "POST", "/sign-in", url.Values{"name": {"Ada Nobody"}, "password": {"not the right words"}})
	same := regexp.MustCompile(`nonce="[^"]+"|value="[^"]*"`)
	if same.ReplaceAllString(wrong, "") != same.ReplaceAllString(unknown, "") || !strings.Contains(wrong, "do not fit together") {
		t.Error("a wrong password and an unknown name look different")
	}
	s.expect(http.StatusSeeOther, "POST", "/sign-in", url.Values{"name": {name}, "password": {password}})
	_, page = s.expect(http.StatusForbidden, "POST", "/sign-in/code", url.Values{"code": {"12345"}})
	if !strings.Contains(page, "do not fit together") {
		t.Errorf("a wrong code:\n%s", page)
	}
	for range 4 {
		s.ask("POST", "/sign-in/code", url.Values{"code": {"12345"}})
	}
	resp, page := s.expect(http.StatusTooManyRequests, "POST", "/sign-in/code", url.Values{"code": {"12345"}})
	if resp.Header.Get("Retry-After") == "" || !strings.Contains(page, "Too many attempts") {
		t.Errorf("after five wrong codes:\n%s", page)
	}
	resp, _ = s.ask("POST", "/sign-in", url.Values{"name": {strings.Repeat("x", 1<<20)}})
	if resp.StatusCode < 400 {
		t.Errorf("a form of a megabyte is answered with %d", resp.StatusCode)
	}
}

func TestARecoveryCodeShowsANewCardOnThePage(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	before := s.seed
	s.expect(http.StatusSeeOther, "POST", "/sign-in", url.Values{"name": {name}, "password": {password}})
	_, page := s.expect(http.StatusOK, "POST", "/sign-in/recovery", url.Values{"recovery": {s.codes[0]}})
	s.enrol(page)
	if s.seed == before || len(s.cookies) != 0 {
		t.Errorf("the seed is the old one, or a session is left: %v", s.cookies)
	}
	token := regexp.MustCompile(`name="token" value="([\w-]{43})"`).FindStringSubmatch(page)
	if token == nil {
		t.Fatal(page)
	}
	_, page = s.expect(http.StatusOK, "POST", "/set-up/confirm", url.Values{"token": {token[1]}, "code": {s.code()}})
	if !strings.Contains(page, "Keep your recovery codes") {
		t.Fatal(page)
	}
	s.signIn()
}

// CON-22.
func TestReadingTheLogIsDecidedAndRecordedBeforeAnythingIsShown(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	_, page := s.expect(http.StatusOK, "GET", "/events?readings=shown", nil)
	e := s.last()
	if e.Action != "console.events" || e.Decision != "allow" || e.Rule != "read_audit_log.admin" || e.Actor.Kind != "admin" || e.Facts["actor.roles"] != "auditor,security_admin" {
		t.Errorf("the record of the reading: %+v", e)
	}
	if !strings.Contains(page, fmt.Sprintf(`<a href="/events/%d"`, e.Seq)) || !strings.Contains(page, "An administrator was set up") {
		t.Error("the page does not show its own reading, or what was before")
	}
	_, page = s.expect(http.StatusOK, "GET", fmt.Sprintf("/events/%d", e.Seq), nil)
	if got := s.last(); got.Action != "console.event" || got.Facts["index"] != fmt.Sprint(e.Seq) {
		t.Errorf("the record of the second reading: %+v", got)
	}
	for _, want := range []string{"Whoever has a role in the console", "read_audit_log.admin", "auditor,security_admin", "&#34;action&#34;:&#34;console.events&#34;", "counterfoil audit proof"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of the record does not say %q:\n%s", want, page)
		}
	}
	conn := s.DB.Superuser(t)
	for _, sql := range []string{
		"create function audit.break() returns trigger language plpgsql as $$ begin raise exception 'the disk is full'; end $$",
		"create trigger break before insert on audit.record for each row execute function audit.break()",
	} {
		_, err := conn.Exec(t.Context(), sql)
		must(t, err)
	}
	for _, path := range []string{"/events", "/events/0"} {
		if _, page := s.expect(http.StatusServiceUnavailable, "GET", path, nil); strings.Contains(page, "set up") || strings.Contains(page, "sign_in") {
			t.Errorf("though nothing can be recorded, %s shows:\n%s", path, page)
		}
	}
}

func TestOnePagesThroughTheWholeLogWithoutGapsOrDoubles(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	operator := principal.NewOperator(s.Organisation.ID, "test")
	for range 120 {
		must(t, s.Gate.Act(t.Context(), operator, policy.ReadAuditLog, s.Organisation.ID, "audit.list", nil))
	}
	s.setUp()
	s.signIn()
	link := regexp.MustCompile(`<a href="/events/(\d+)"`)
	older := regexp.MustCompile(`<a rel="next" href="([^"]+)"`)
	var seen []string
	for path, pages := "/events?readings=shown", 0; path != ""; pages++ {
		if pages > 5 {
			t.Fatal("there is no end to the pages")
		}
		_, page := s.expect(http.StatusOK, "GET", path, nil)
		for _, found := range link.FindAllStringSubmatch(page, -1) {
			seen = append(seen, found[1])
		}
		path = ""
		if found := older.FindStringSubmatch(page); found != nil {
			path = html.UnescapeString(found[1])
		}
	}
	first, ok := 0, true
	_, err := fmt.Sscan(seen[0], &first)
	must(t, err)
	for i, n := range seen {
		ok = ok && n == fmt.Sprint(first-i)
	}
	if !ok || first < 120 || seen[len(seen)-1] != "0" {
		t.Errorf("from %d on one sees %v", first, seen)
	}
	_, page := s.expect(http.StatusOK, "GET", "/events?readings=shown&before=60", nil)
	if newer := `<a rel="prev" href="/events?after=59&amp;readings=shown">`; !strings.Contains(page, newer) {
		t.Errorf("there is no way back to newer ones:\n%s", page)
	}
	for _, path := range []string{"/events?before=-1", "/events?before=1e3", "/events?before=01", "/events?before=99999999999999999999", "/events/-1", "/events/00"} {
		s.expect(http.StatusBadRequest, "GET", path, nil)
	}
	s.expect(http.StatusNotFound, "GET", "/events/4000000000", nil)
}

func TestWhatWasPrunedIsSaidToBeElsewhere(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	drafts := make([]pglog.Draft, 150)
	for i := range drafts {
		drafts[i].Entry = audit.Entry{Kind: audit.Administration, Action: "audit.list"}
	}
	for range 2 {
		_, err := s.Log.Append(t.Context(), s.Organisation.ID, drafts...)
		must(t, err)
	}
	s.setUp()
	s.signIn()
	_, err := s.DB.Superuser(t).Exec(t.Context(), "update audit.retention set first_seq = 256 where organisation_id = $1", s.Organisation.ID)
	must(t, err)
	_, page := s.expect(http.StatusOK, "GET", "/events?readings=shown&before=270", nil)
	if !strings.Contains(page, `"/events/256"`) || strings.Contains(page, `"/events/255"`) || strings.Contains(page, `rel="next"`) || !strings.Contains(page, "no longer kept here") {
		t.Errorf("the last page:\n%s", page)
	}
	s.expect(http.StatusOK, "GET", "/events?readings=shown&before=10", nil)
	s.expect(http.StatusGone, "GET", "/events/255", nil)
	if _, page := s.expect(http.StatusOK, "GET", "/events/256", nil); strings.Contains(page, `rel="prev"`) {
		t.Error("a link leads to what was pruned")
	}
	if _, page := s.expect(http.StatusOK, "GET", "/events?readings=shown", nil); strings.Contains(page, "no longer kept here") {
		t.Error("the first page speaks of what was pruned")
	}
}

func TestWhatARecordHoldsIsShownAsTextWhateverItIs(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	const hostile = `"><script>alert(1)</script>{{.}}`
	_, err := s.Log.Append(t.Context(), s.Organisation.ID, pglog.Draft{Entry: audit.Entry{
		Kind: audit.Denial, Action: hostile, Actor: audit.Party{Kind: hostile, Ref: hostile}, Audience: hostile, Subject: audit.Party{Kind: hostile, Ref: hostile},
		Fields: []string{hostile}, Decision: "deny", Rule: hostile, Reasons: []string{hostile}, Policy: hostile, Facts: map[string]string{hostile: hostile},
	}})
	must(t, err)
	s.setUp()
	s.signIn()
	for _, path := range []string{"/events", "/events/0"} {
		_, page := s.expect(http.StatusOK, "GET", path, nil)
		if strings.Contains(page, "<script>") || !strings.Contains(page, "&lt;script&gt;") {
			t.Errorf("%s:\n%s", path, page)
		}
	}
}

func TestThePagesSpeakTheLanguageOneChose(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.headers.Set("Accept-Language", "fr-CA,fr;q=0.9")
	if _, page := s.expect(http.StatusOK, "GET", "/set-up", nil); !strings.Contains(page, `<html lang="fr">`) || !strings.Contains(page, "Créer un administrateur") {
		t.Errorf("to a French browser:\n%s", page)
	}
	if _, page := s.expect(http.StatusOK, "GET", "/set-up?lang=en", nil); !strings.Contains(page, `<html lang="en">`) {
		t.Errorf("chosen English:\n%s", page)
	}
	if _, page := s.expect(http.StatusOK, "GET", "/set-up", nil); !strings.Contains(page, `<html lang="en">`) {
		t.Errorf("English as chosen before:\n%s", page)
	}
	s.expect(http.StatusOK, "GET", "/set-up?lang=fr", nil)
	s.setUp()
	s.signIn()
	_, page := s.expect(http.StatusOK, "GET", "/events", nil)
	for _, want := range []string{"Événements", "Connexion réussie", "Un administrateur a été créé", "permis"} {
		if !strings.Contains(page, want) {
			t.Errorf("the events in French lack %q", want)
		}
	}
}

// The pages explain every rule and reason there is, in both languages; what is not known would be shown as a code.
func TestEveryRuleReasonFieldAndTextHasWords(t *testing.T) {
	var needed []string
	collect := func(fsys fs.FS, pattern string, expressions map[string]*regexp.Regexp) {
		t.Helper()
		names, err := fs.Glob(fsys, pattern)
		must(t, err)
		before := len(needed)
		for _, file := range names {
			b, err := fs.ReadFile(fsys, file)
			must(t, err)
			for prefix, e := range expressions {
				for _, found := range e.FindAllStringSubmatch(string(b), -1) {
					needed = append(needed, prefix+found[1])
				}
			}
		}
		if len(needed)-before < 20 {
			t.Fatalf("only %d texts are needed for %s", len(needed)-before, pattern)
		}
	}
	collect(policy.Bundle(), "*.rego", map[string]*regexp.Regexp{
		"rule_":   regexp.MustCompile(`"rule": "([a-z_.]+)"`),
		"reason_": regexp.MustCompile(`(?:reasons|unmet|veto|unfit) contains "([a-z_]+)"`),
	})
	collect(os.DirFS("web"), "*.html", map[string]*regexp.Regexp{"": regexp.MustCompile(`\.T "(\w+)"`)})
	for _, f := range policy.Fields() {
		needed = append(needed, "field_"+f)
	}
	for _, name := range needed {
		for _, lang := range []string{"en", "fr"} {
			if console.Word(lang, name) == "" {
				t.Errorf("there is no %s text %q", lang, name)
			}
		}
	}
	for _, p := range policy.Purposes() {
		if p.Title("en") == "" || p.Title("fr") == "" {
			t.Errorf("the purpose %s has no title", p)
		}
	}
}

func TestADecisionIsExplainedInWords(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 8, 7, 0, time.UTC)
	base := audit.Entry{Time: at, Organisation: uuid.NewString(), Action: "show_agent_to_visitor", Actor: audit.Party{Kind: "visitor", Ref: "abcdefgh"}, Subject: audit.Party{Kind: "agent", Ref: "mnpqrstu"}, Fields: []string{"agent_display_name"}}
	for name, c := range map[string]struct {
		change func(*audit.Entry)
		en, fr []string
	}{
		"allowed": {func(e *audit.Entry) {
			e.Kind, e.Decision, e.Rule = audit.Disclosure, "allow", "show_agent_to_visitor.own_conversation"
		}, []string{"visitor abcde was given the agent’s display name of agent mnpqr, in plain.", "Policy allowed it before it happened"}, []string{"visiteur abcde a reçu le nom affiché de l’agent (agent mnpqr), en clair."}},
		"masked": {func(e *audit.Entry) {
			e.Kind, e.Decision, e.Fields, e.Masked = audit.Disclosure, "masked", []string{"agent_display_name", "agent_email"}, []string{"agent_email"}
		}, []string{"the agent’s display name of agent mnpqr, in plain.", "the agent’s email of agent mnpqr masked"}, []string{"sous forme masquée"}},
		"denied": {func(e *audit.Entry) {
			e.Kind, e.Decision, e.Rule, e.Reasons = audit.Denial, "deny", "default.deny", []string{"other_conversation"}
		}, []string{"visitor abcde asked for the agent’s display name of agent mnpqr. Nothing was released.", "No rule of the policy permits it"}, []string{"Rien n’a été divulgué."}},
		"an act": {func(e *audit.Entry) {
			e.Kind, e.Decision, e.Action, e.Fields, e.Subject, e.Actor.Kind = audit.Administration, "allow", "widget.create", nil, audit.Party{}, "operator"
		}, []string{"operator abcde asked to do this."}, []string{"opérateur abcde a demandé à le faire."}},
	} {
		e := base
		c.change(&e)
		for lang, wants := range map[string][]string{"en": c.en, "fr": c.fr} {
			got := strings.Join(console.Explain(lang, e).Sentences, " ")
			for _, want := range wants {
				if !strings.Contains(got, want) {
					t.Errorf("%s: %q does not say %q", name, got, want)
				}
			}
		}
	}
}
