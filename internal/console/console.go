// Package console is the audit console in the browser: set-up, sign-in, and the log with every decision explained.
//
// It promises that no page is shown to an address that is not admitted, that no page but those of set-up and sign-in is
// shown to anybody who has not given a one-time code, and that whatever is read of the log is decided by policy and
// recorded first. The pages need no script. They show references in place of people.
package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/alerts"
	"counterfoil/internal/archive"
	"counterfoil/internal/control"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/internal/store"
	"counterfoil/internal/subject"
	"counterfoil/policy"
)

// Config is what the console is made of; every field but MadeUp is needed.
type Config struct {
	Desk    *signin.Desk
	Gate    *access.Gate
	Log     *pglog.Log
	URL     string                           // where the console is reached, such as https://console.example
	Address func(*http.Request) netip.Addr   // the address a request comes from, behind whatever proxies are trusted
	Through func(*http.Request) []netip.Addr // those proxies, the nearest last
	Logger  *slog.Logger
	Now     func() time.Time

	Publishers publish.Publishers // what is known of the logs outside the database
	Outside    Outside
	Policy     *policy.Engine // which the gate asks
	Alerts     *alerts.Watch

	Activation Activation
	Scene      func(context.Context, uuid.UUID, uuid.UUID) (access.Scene, error) // of a conversation, as storage knows it

	Enqueue func(ctx context.Context, organisation, erasure uuid.UUID) error // an erasure that was ordered

	Egress func(context.Context, uuid.UUID) ([]store.Destination, []store.Refused, error) // of an organisation

	MadeUp map[uuid.UUID]uint64 // how many records a log begins with that a try-out made up

	Store            *store.Store  // notices
	People           subject.Desk  // what people ask about their data
	Control          *control.Desk // holds and erasures
	Archives         *archive.Desk
	EnqueueArchive   func(ctx context.Context, organisation uuid.UUID) error // that was asked for
	OrganisationName func(context.Context, uuid.UUID) (string, error)

	VisitorFile, AgentFile           access.Reader[euii.Admin] // of who asked for it
	ConversationFile                 access.ConversationFile
	VisitorCorrector, AgentCorrector access.Collector
	Finder                           access.Finder

	AgentToAdmin, VisitorToAdmin         access.Reader[euii.Admin]
	AgentInEmergency, VisitorInEmergency access.Reader[euii.Admin]
	AddressToAdmin                       access.Reader[euii.Admin]

	TranscriptToAdmin, TranscriptInEmergency access.Transcripts
}

// Server answers the console's requests.
type Server struct {
	cfg    Config
	assets *assets
	secure bool // reached with https; otherwise on loopback, which config sees to
	csrf   *http.CrossOriginProtection
	acts   map[string]http.HandlerFunc // what administrators do, by path

	alone    int // how many records somebody exports by himself
	verifier *verifier

	reports *rate.Limiter // of violations
	paces   *paces        // of programs

	stopping chan struct{} // closed when live tails are to end
	stop     func()
}

// New makes a Server.
func New(c Config) (*Server, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("the console's URL is not of the form https://host")
	}
	a, err := loadAssets()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: c, assets: a, secure: u.Scheme == "https", csrf: http.NewCrossOriginProtection(), alone: exportRows, verifier: newVerifier(), paces: newPaces(), acts: make(map[string]http.HandlerFunc), reports: rate.NewLimiter(rate.Every(time.Second), 10)}
	s.stopping = make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	if err := s.csrf.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
		return nil, fmt.Errorf("trust the console's own origin: %w", err)
	}
	return s, nil
}

// requestLimit is how long one request may take, waiting for its turn to check a password included.
const requestLimit = 15 * time.Second

// maxForm bounds what a form may send.
const maxForm = 16 << 10

// Routes adds the console's routes to a router that has none. Each is one of three kinds: door, which an admitted address
// opens; setUp, the same, but this machine itself may come before there is an allowlist; and signedIn.
func (s *Server) Routes(r chi.Router) {
	r.Use(s.guard)
	r.Get("/set-up", s.setUp(s.showSetUp))
	r.Post("/set-up", s.setUp(s.beginSetUp))
	r.Post("/set-up/confirm", s.setUp(s.confirmSetUp))
	r.Get("/assets/{file}", s.setUp(s.asset))
	r.Get("/favicon.ico", s.setUp(func(w http.ResponseWriter, _ *http.Request, _ visit) { w.WriteHeader(http.StatusNoContent) })) // browsers ask unbidden
	r.Post("/violations", s.setUp(s.violation))
	r.Get("/sign-in", s.door(s.showSignIn))
	r.Post("/sign-in", s.door(s.password))
	r.Get("/sign-in/code", s.door(s.showCode))
	r.Post("/sign-in/code", s.door(s.code))
	r.Post("/sign-in/recovery", s.door(s.recovery))
	r.Get("/sign-in/unlock", s.door(s.showUnlock))
	r.Post("/sign-in/unlock", s.door(s.unlock))
	r.Post("/sign-out", s.door(s.signOut))
	s.searchRoutes(r)
	s.savedRoutes(r)
	s.decisionRoutes(r)
	s.integrityRoutes(r)
	s.accessRoutes(r)
	s.tokenRoutes(r)
	s.togetherRoutes(r)
	s.controlRoutes(r)
	s.archiveRoutes(r)
	s.apiRoutes(r)
	r.Get("/egress", s.signedIn(s.egress))
	s.alertRoutes(r)
	s.peopleRoutes(r)
	r.NotFound(s.door(func(w http.ResponseWriter, _ *http.Request, v visit) {
		s.message(w, v, http.StatusNotFound, "notFound")
	}))
	r.MethodNotAllowed(s.door(func(w http.ResponseWriter, _ *http.Request, v visit) {
		s.message(w, v, http.StatusMethodNotAllowed, "notFound")
	}))
}

// guard sets what all answers have in common and refuses changes that a page of another origin asks for.
func (s *Server) guard(next http.Handler) http.Handler {
	s.csrf.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.message(w, s.visit(r), http.StatusForbidden, "foreign")
	}))
	protected := s.csrf.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy("", "", false))
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "accelerometer=(), autoplay=(), camera=(), display-capture=(), fullscreen=(), geolocation=(), gyroscope=(), "+
			"magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-create=(self), publickey-credentials-get=(self), screen-wake-lock=(), usb=(), xr-spatial-tracking=()")
		h.Set("Cache-Control", "no-store")
		if s.secure {
			h.Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if r.URL.Path == livePath { // it has no end, and limits each of its steps
			if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
				s.message(w, s.visit(r), http.StatusForbidden, "foreign")
				return
			}
			protected.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
		defer cancel()
		protected.ServeHTTP(w, r.WithContext(ctx))
	})
}

// contentPolicy is the content security policy of a page with this nonce; images are further sources of images. A page that is live
// asks for parts of others, and only the script that puts them in their place, after it has checked their nonce, may make markup.
func contentPolicy(nonce, images string, live bool) string {
	own, connect, markup := "'none'", "'none'", "'none'"
	if nonce != "" {
		own = "'nonce-" + nonce + "'"
	}
	if live {
		connect, markup = "'self'", "htmx"
	}
	return "default-src 'none'; script-src " + own + "; style-src " + own + "; img-src 'self'" + images + "; connect-src " + connect + "; form-action 'self'; " +
		"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types " + markup + "; report-uri /violations"
}

// visit is one request of somebody whose address was looked up.
type visit struct {
	from       netip.Addr
	admissions []ipallow.Admission
	token      string // from the cookie; empty without one
	lang       string
	theme      string   // light or dark; empty is what the system has
	banners    []banner // of who is signed in
	alerts     int      // that nobody has acknowledged
}

func (s *Server) visit(r *http.Request) visit {
	v := visit{from: s.cfg.Address(r), lang: language(r), theme: theme(r)}
	if c, err := r.Cookie(s.cookieName()); err == nil && len(c.Value) <= 64 {
		v.token = c.Value
	}
	return v
}

type doorHandler func(http.ResponseWriter, *http.Request, visit)

func (s *Server) door(next doorHandler) http.HandlerFunc { return s.admitted(s.cfg.Desk.Admit, next) }

func (s *Server) setUp(next doorHandler) http.HandlerFunc {
	return s.admitted(s.cfg.Desk.AdmitSetUp, next)
}

func (s *Server) admitted(admit func(context.Context, netip.Addr) ([]ipallow.Admission, error), next doorHandler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.visit(r)
		var err error
		if v.admissions, err = admit(r.Context(), v.from); err != nil {
			s.trouble(w, r, v, err)
			return
		}
		if len(v.admissions) > 0 {
			s.remember(w, r, v)
			next(w, r, v)
			return
		}
		if v.token != "" { // whoever has a session and left the allowlist has it no longer, on record
			if _, err := s.cfg.Desk.Resume(r.Context(), nil, v.from, v.token); err != nil && !errors.Is(err, signin.ErrNoSession) {
				s.cfg.Logger.ErrorContext(r.Context(), "end session", "error", err)
			}
		}
		s.cfg.Logger.WarnContext(r.Context(), "refused: the address is on no allowlist", "known", v.from.IsValid())
		if err := s.cfg.Desk.Refused(r.Context(), v.from, len(s.cfg.Through(r))); err != nil {
			s.cfg.Logger.ErrorContext(r.Context(), "record refused request", "error", err)
		}
		// The page brings its style along, for nothing else is answered to this address.
		s.renderAs(w, v, http.StatusForbidden, "message", messagePage{Name: "refused", Address: shown(v.from)}, view{Inline: template.CSS(s.assets.style.content)})
	}
}

// shown is an address as its own owner is told it.
func shown(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// signedIn lets an administrator through and sends everybody else to the sign-in.
func (s *Server) signedIn(next func(http.ResponseWriter, *http.Request, visit, principal.Admin)) http.HandlerFunc {
	return s.door(func(w http.ResponseWriter, r *http.Request, v visit) {
		admin, news, err := s.cfg.Desk.ResumeWithNews(r.Context(), v.admissions, v.from, v.token)
		switch {
		case errors.Is(err, signin.ErrNoSession):
			if r.Header.Get("HX-Request") == "true" { // the whole page goes there, not the part that was asked for
				w.Header().Set("HX-Redirect", "/sign-in")
				if r.URL.Path == livePath { // asked for again by a page that was left open
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = w.Write([]byte("event: end\ndata: \n\n")) // whoever asked may have gone
					return
				}
				w.WriteHeader(http.StatusNoContent)
				return
			}
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		case err != nil:
			s.trouble(w, r, v, err)
		default:
			if v.banners, err = s.banners(r, v.lang, admin, news); err != nil {
				s.trouble(w, r, v, err)
				return
			}
			if v.alerts, err = s.cfg.Alerts.Unseen(r.Context(), admin.Organisation()); err != nil {
				s.trouble(w, r, v, err)
				return
			}
			next(w, r, v, admin)
		}
	})
}

// cookieName says by __Host- that only this host, over https, can have set the cookie. On loopback without https a browser
// would not take it by that name.
func (s *Server) cookieName() string {
	if s.secure {
		return "__Host-counterfoil"
	}
	return "counterfoil"
}

// setCookie hands out the token of a session; an empty one takes it back.
func (s *Server) setCookie(w http.ResponseWriter, token string) {
	c := &http.Cookie{Name: s.cookieName(), Value: token, Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteStrictMode}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

const languageCookie = "counterfoil_language"

// language is the choice in the address, or the one made before, or the first language of the browser.
func language(r *http.Request) string {
	chosen := r.URL.Query().Get("lang")
	if c, err := r.Cookie(languageCookie); chosen == "" && err == nil {
		chosen = c.Value
	}
	if chosen == "" && strings.HasPrefix(strings.ToLower(r.Header.Get("Accept-Language")), "fr") {
		chosen = "fr"
	}
	if chosen == "fr" {
		return "fr"
	}
	return "en"
}

const themeCookie = "counterfoil_theme"

// theme is the choice in the address, or the one made before.
func theme(r *http.Request) string {
	chosen := r.URL.Query().Get("theme")
	if c, err := r.Cookie(themeCookie); chosen == "" && err == nil {
		chosen = c.Value
	}
	if chosen == "light" || chosen == "dark" {
		return chosen
	}
	return ""
}

// remember keeps what was chosen in the address.
func (s *Server) remember(w http.ResponseWriter, r *http.Request, v visit) {
	for name, c := range map[string]http.Cookie{"lang": {Name: languageCookie, Value: v.lang}, "theme": {Name: themeCookie, Value: v.theme}} {
		if r.URL.Query().Has(name) {
			c.Path, c.MaxAge, c.HttpOnly, c.Secure, c.SameSite = "/", 365*24*3600, true, s.secure, http.SameSiteStrictMode
			http.SetCookie(w, &c)
		}
	}
}

// view is what every page has.
type view struct {
	Lang, Title, Theme string
	Nonce, Style       string
	SetUp              string       // the script of the set-up page
	Scripts            []string     // those of whoever is signed in
	Zooms              bool         // there is a chart that one can zoom
	ChartStyle         string       // of that
	Path               string       // where this page is; empty where it cannot be asked for again
	Handle             string       // who is signed in; empty when nobody is
	Inline             template.CSS // in place of the style sheet
	Banners            []banner
	Alerts             int // that nobody has acknowledged
	Page               any
}

// section is a part of the console, which everybody who is signed in can go to.
type section struct {
	Path, Name, Group string // name and group are those of texts
}

// sections are the parts, in the order in which they are shown, those of a group beside each other.
var sections = []section{
	{"/", "overview", "navNow"},
	{"/events", "events", "navNow"},
	{"/live", "live", "navNow"},
	{"/alerts", "alerts", "navNow"},
	{"/people", "people", "navPeople"},
	{"/who", "who", "navPeople"},
	{"/requests", "requests", "navPeople"},
	{"/policy", "policyTitle", "navProof"},
	{"/integrity", "integrity", "navProof"},
	{"/egress", "egress", "navProof"},
	{"/approvals", "approvals", "navAccess"},
	{"/allowlist", "allowlist", "navAccess"},
	{"/access", "accessTitle", "navAccess"},
	{"/notices", "notices", "navData"},
	{"/controls", "controls", "navData"},
	{"/archive", "archive", "navData"},
}

// sectionGroup are the parts under one heading.
type sectionGroup struct {
	Name     string
	Sections []section
}

// Groups are what one can go to from here.
func (v view) Groups() (all []sectionGroup) {
	for _, s := range sections {
		if n := len(all); n == 0 || all[n-1].Name != s.Group {
			all = append(all, sectionGroup{Name: s.Group})
		}
		all[len(all)-1].Sections = append(all[len(all)-1].Sections, s)
	}
	return all
}

// Here is the part of the console in which the page is; its name is empty where it is in none.
func (v view) Here() (s section) {
	if i := slices.IndexFunc(sections, v.Current); i >= 0 {
		s = sections[i]
	}
	return s
}

// With is the same view of another page, for a part of it.
func (v view) With(page any) view {
	v.Page = page
	return v
}

// AllRoles are those an administrator can have.
func (v view) AllRoles() []string { return signin.Roles }

// Among reports whether one of several is this.
func (v view) Among(all []string, one string) bool { return slices.Contains(all, one) }

// Themes are the choices of colours.
func (v view) Themes() []string { return []string{"", "light", "dark"} }

// Current reports whether the page is in a section.
func (v view) Current(s section) bool {
	path, _, _ := strings.Cut(v.Path, "?")
	return path == s.Path || s.Path != "/" && strings.HasPrefix(path, s.Path+"/")
}

// T gives a text in the language of the page.
func (v view) T(name string) (string, error) {
	if s := word(v.Lang, name); s != "" {
		return s, nil
	}
	return "", fmt.Errorf("there is no text %q", name)
}

// In is the address of the page in a language.
func (v view) In(lang string) string { return v.with("lang", lang) }

// As is the address of the page in a theme.
func (v view) As(theme string) string { return v.with("theme", theme) }

func (v view) with(name, value string) string {
	path, query, _ := strings.Cut(v.Path, "?")
	q, _ := url.ParseQuery(query) // of our own making
	q.Set(name, value)
	return path + "?" + q.Encode()
}

// link is the address of a page of ours with what it is asked; names and values take turns. Empty values are left out.
func link(path string, query ...any) string {
	q := make(url.Values)
	for i := 0; i+1 < len(query); i += 2 {
		if v := fmt.Sprint(query[i+1]); v != "" {
			q.Set(fmt.Sprint(query[i]), v)
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// page is the address of one of many pages.
func page(path string, of any) string { return path + url.PathEscape(fmt.Sprint(of)) }

// messagePage is a page that says one thing.
type messagePage struct {
	Name    string // of the text
	Address string // as which the visitor is seen
}

func (s *Server) message(w http.ResponseWriter, v visit, status int, name string) {
	s.render(w, v, status, "message", messagePage{Name: name})
}

// trouble answers what is nobody's mistake: nothing is shown, and the log of the service says why.
func (s *Server) trouble(w http.ResponseWriter, r *http.Request, v visit, err error) {
	var wait signin.WaitError
	switch {
	case errors.As(err, &wait):
		w.Header().Set("Retry-After", fmt.Sprint(int(wait.For.Seconds())))
		s.message(w, v, http.StatusTooManyRequests, "wait")
	case errors.Is(err, access.ErrDenied):
		s.message(w, v, http.StatusForbidden, "denied")
	default:
		s.cfg.Logger.ErrorContext(r.Context(), "console", "error", err)
		s.message(w, v, http.StatusServiceUnavailable, "unavailable")
	}
}

func (s *Server) render(w http.ResponseWriter, v visit, status int, name string, page any) {
	s.renderAs(w, v, status, name, page, view{})
}

// titles are the texts by which pages are told apart in a window's list of tabs.
var titles = map[string]string{"set-up": "setUpTitle", "card": "cardTitle", "codes": "codesTitle", "sign-in": "signInTitle", "code": "codeTitle", "events": "events",
	"step-up": "stepUpTitle", "denied": "denied", "reveal": "revealTitle", "revealed": "revealTitle", "ask": "askTitle", "approvals": "approvals", "approval": "approvals",
	"allowlist": "allowlist", "lock-out": "lockOutTitle", "access": "accessTitle", "link-page": "linkTitle", "further-card": "cardTitle", "new-codes": "codesTitle", "passkey": "passkeyTitle",
	"policy": "policyTitle", "simulate": "simulator", "replay": "replay", "integrity": "integrity", "verifying": "verifying",
	"unlock": "unlockTitle", "activation": "activation", "access-reviews": "accessReviews", "access-review": "accessReviews", "transcript-ask": "transcriptTitle", "transcript": "transcriptTitle", "address-ask": "addressTitle",
	"overview": "overview", "live": "live", "people": "people", "who": "who", "letter": "letterTitle", "tokens": "tokens", "notices": "notices", "requests": "requests", "request": "requests", "new-request": "requestNew", "token-made": "tokenMade", "egress": "egress", "controls": "controls", "archive": "archive",
	"export-ask": "exportAskTitle", "signed-in": "signedInTitle", "session": "sessionTitle",
	"alerts": "alerts", "alert": "alerts", "alert-beside": "alerts", "alert-rules": "alertRules", "alert-rule": "alertRules", "alert-receivers": "alertReceivers", "alert-secret": "alertReceivers"}

func title(lang, name string, page any) string {
	switch p := page.(type) {
	case messagePage:
		name = p.Name
	case personPage:
		return p.Name
	case eventPage:
		return fmt.Sprintf("%s %d", word(lang, "record"), p.Seq)
	default:
		name = titles[name]
	}
	return word(lang, name)
}

// renderAs makes a whole page before it sends any of it.
func (s *Server) renderAs(w http.ResponseWriter, v visit, status int, name string, page any, as view) {
	if as.Handle != "" {
		as.Banners, as.Alerts = v.banners, v.alerts
	}
	as.Lang, as.Theme, as.Page, as.Nonce, as.Title = v.lang, v.theme, page, rand.Text(), title(v.lang, name, page)
	as.Style, as.SetUp = "/assets/"+s.assets.style.name, "/assets/"+s.assets.setUp.name
	for _, script := range s.assets.scripts {
		as.Scripts = append(as.Scripts, "/assets/"+script.name)
	}
	if as.Zooms {
		as.ChartStyle = "/assets/" + s.assets.charts[0].name
		for _, script := range s.assets.charts[1:] {
			as.Scripts = append(as.Scripts, "/assets/"+script.name)
		}
	}
	var b bytes.Buffer
	if err := s.assets.pages.ExecuteTemplate(&b, name, as); err != nil {
		s.cfg.Logger.Error("make page", "page", name, "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	images := ""
	if _, ok := page.(cardPage); ok {
		images = " data:" // the QR code, which lies at no address
	}
	w.Header().Set("Content-Security-Policy", contentPolicy(as.Nonce, images, as.Handle != ""))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // whoever asked may have gone
}

func (s *Server) asset(w http.ResponseWriter, r *http.Request, v visit) {
	for _, a := range s.assets.all() {
		if chi.URLParam(r, "file") == a.name {
			w.Header().Set("Content-Type", a.kind)
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
			w.Header().Set("Vary", "Accept-Encoding")
			content := a.content
			if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				w.Header().Set("Content-Encoding", "gzip")
				content = a.packed
			}
			_, _ = w.Write(content) // whoever asked may have gone
			return
		}
	}
	s.message(w, v, http.StatusNotFound, "notFound")
}
