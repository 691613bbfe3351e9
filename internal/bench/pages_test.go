package bench

import (
	"context"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/pquerna/otp/hotp"

	"counterfoil/internal/alerts"
	"counterfoil/internal/console"
	"counterfoil/internal/control"
	"counterfoil/internal/signin"
	"counterfoil/internal/store"
	"counterfoil/policy"
)

// reader is an administrator in front of the console.
type reader struct {
	*http.Client
	b    *testing.B
	base string
}

// newReader serves the console of the large organisation and signs somebody in.
func (w *world) newReader(b *testing.B) *reader {
	b.Helper()
	var ahead time.Duration
	now := func() time.Time { return time.Now().Add(ahead) }
	r := chi.NewRouter()
	srv := httptest.NewServer(r)
	b.Cleanup(srv.Close)
	desk := signin.New(signin.Config{Pool: w.pool, Gate: w.gate, Ring: w.ring, Now: now, URL: srv.URL})
	watch, err := alerts.New(alerts.Config{Pool: w.pool, Gate: w.gate, Log: w.log, Ring: w.ring, Now: now, Logger: slog.New(slog.DiscardHandler)})
	must(b, err)
	c, err := console.New(console.Config{
		Desk: desk, Gate: w.gate, Log: w.log, URL: srv.URL, Logger: slog.New(slog.DiscardHandler), Now: now, Publishers: w.outside, Policy: w.engine,
		Alerts: watch, Store: w.store, Control: control.New(w.pool, nil, w.gate), OrganisationName: func(context.Context, uuid.UUID) (string, error) { return w.organisations[0].Name, nil },
		Activation: console.Activation{Current: func() policy.Signed { return policy.Signed{Revision: w.engine.Revision()} }, Proposed: func(context.Context) []policy.Signed { return nil }},
		Egress:     func(context.Context, uuid.UUID) ([]store.Destination, []store.Refused, error) { return nil, nil, nil },
		Address:    func(*http.Request) netip.Addr { return netip.MustParseAddr("127.0.0.1") }, Through: func(*http.Request) []netip.Addr { return nil },
		AgentToAdmin: w.readers.AgentToAdmin, VisitorToAdmin: w.readers.VisitorToAdmin, AgentInEmergency: w.readers.AgentInEmergency, VisitorInEmergency: w.readers.VisitorInEmergency,
	})
	must(b, err)
	c.Routes(r)
	jar, err := cookiejar.New(nil)
	must(b, err)
	a := &reader{&http.Client{Jar: jar}, b, srv.URL}
	const name, password = "Bea Bench", "four unrelated words, here"
	link, err := desk.NewLink(b.Context(), w.organisations[0].ID, []string{"auditor", "security_admin"})
	must(b, err)
	page := a.post("/set-up", url.Values{"token": {link.Token}, "name": {name}, "password": {password}, "again": {password}})
	_, seed, _ := strings.Cut(page, `<dd class="mono key">`)
	seed, _, _ = strings.Cut(seed, "</dd>")
	code := func() url.Values { // each step counts once
		ahead += 31 * time.Second
		c, err := hotp.GenerateCode(strings.ReplaceAll(html.UnescapeString(seed), " ", ""), uint64(now().Unix()/30))
		must(b, err)
		return url.Values{"code": {c}, "token": {link.Token}}
	}
	a.post("/set-up/confirm", code())
	a.post("/sign-in", url.Values{"name": {name}, "password": {password}})
	a.post("/sign-in/code", code())
	return a
}

func (a *reader) post(path string, form url.Values) string {
	a.b.Helper()
	r, err := http.NewRequestWithContext(a.b.Context(), http.MethodPost, a.base+path, strings.NewReader(form.Encode()))
	must(a.b, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return a.answer(r)
}

func (a *reader) get(ctx context.Context, path string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := a.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || resp.Request.URL.Path == "/sign-in") {
		err = fmt.Errorf("%s is answered with %s: %s", path, resp.Status, page)
	}
	return string(page), err
}

func (a *reader) answer(r *http.Request) string {
	a.b.Helper()
	resp, err := a.Do(r)
	must(a.b, err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	must(a.b, err)
	if resp.StatusCode != http.StatusOK {
		a.b.Fatalf("%s is answered with %s: %s", r.URL.Path, resp.Status, page)
	}
	return string(page)
}

// BenchmarkPages asks for every page of the console over HTTP, beside an archive of -records records: what it decides, records, reads and
// makes, to the last byte. The last figure is a first visit after signing in, with all that the page loads, one after the other.
func BenchmarkPages(b *testing.B) {
	w := newWorld(b, 50)
	w.newArchive(b, *records)
	a := w.newReader(b)
	q := func(path, filter string) func() string {
		return func() string { return path + "?q=" + url.QueryEscape(filter) }
	}
	at := func(path string) func() string { return func() string { return path } }
	agent := func() string { return ref("agent", rand.IntN(agents)) }
	visitor := func() string { return ref("visitor", rand.IntN(*records/20)) }
	for _, c := range []struct {
		name string
		path func() string
	}{
		{"overview", at("/")},
		{"events", at("/events")},
		{"events-of-a-year", q("/events", "since:-365d")},
		{"events-of-an-hour", q("/events", "since:-3h until:-2h")},
		{"events-denied", q("/events", "decision:deny")},
		{"events-by-a-rule", q("/events", "rule:rule_3 since:-365d")},
		{"events-of-a-kind", q("/events", "kind:disclosure since:-365d")},
		{"events-of-an-actor", func() string { return q("/events", "actor:"+agent())() }},
		{"events-of-a-person", func() string { return q("/events", "person:"+visitor()+" since:-365d")() }},
		{"events-of-a-handle", func() string { return q("/events", "person:"+visitor()[:13]+" since:-365d")() }},
		{"event", at("/events/0")},
		{"live", at("/live")},
		{"people", at("/people")},
		{"people-of-a-year", q("/people", "since:-365d")},
		{"people-who-asked", at("/people?by=actor")},
		{"people-who-asked-in-a-year", at("/people?by=actor&q=since:-365d")},
		{"person-visitor", func() string { return "/people/" + visitor() }},
		{"person-agent", func() string { return "/people/" + agent() }},
		{"letter", func() string { return "/letters/" + visitor() }},
		{"who", at("/who")},
		{"who-in-a-quarter", q("/who", "since:-90d")},
		{"who-in-a-year", q("/who", "since:-365d")},
		{"who-for-a-purpose", q("/who", "action:purpose_3 since:-365d")},
		{"who-an-actor-saw", func() string { return q("/who", "actor:"+agent()+" since:-365d")() }},
		{"policy", at("/policy")},
		{"simulate", at("/policy/simulate")},
		{"replay", at("/policy/replay")},
		{"integrity", at("/integrity")},
		{"approvals", at("/approvals")},
		{"allowlist", at("/allowlist")},
		{"access", at("/access")},
		{"tokens", at("/access/tokens")},
	} {
		b.Run(c.name, func(b *testing.B) {
			w.searched(b, func(ctx context.Context) error {
				_, err := a.get(ctx, c.path())
				return err
			})
		})
	}
	loaded := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)
	b.Run("first-visit", func(b *testing.B) {
		w.searched(b, func(ctx context.Context) error {
			page, err := a.get(ctx, "/")
			for _, found := range loaded.FindAllStringSubmatch(page, -1) {
				if err == nil {
					_, err = a.get(ctx, found[1])
				}
			}
			return err
		})
	})
}
