package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/canary"
	"counterfoil/internal/config"
	"counterfoil/internal/egress"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// tap keeps what was lately sent to the receiver of telemetry.
type tap struct {
	next http.RoundTripper

	mu   sync.Mutex
	last []byte
}

// maxTapped is how much of it is kept, in bytes.
const maxTapped = 4 << 20

// RoundTrip implements http.RoundTripper.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		_ = r.Body.Close() // it was in memory
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(b))
		t.mu.Lock()
		if t.last = append(t.last, b...); len(t.last) > maxTapped {
			t.last = slices.Clone(t.last[len(t.last)-maxTapped:])
		}
		t.mu.Unlock()
	}
	return t.next.RoundTrip(r)
}

func (t *tap) sent() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.last)
}

// scan plants people who do not exist at the edges of the running service, if it runs, and looks for them and for what else is asked for.
func scan(ctx context.Context, c config.Config, register *egress.Register, plant bool, also map[string]string, further func(*canary.Search) error) (canary.Report, error) {
	people := make(map[string]string)
	if plant {
		people = canary.People()
		if err := plantAt(ctx, c, register, people); err != nil {
			return canary.Report{}, err
		}
	}
	for what, value := range also {
		people[what] = value
	}
	s, err := canary.New(people)
	if err != nil {
		return canary.Report{}, err
	}
	for _, p := range sinks(c) {
		if err := s.Dir(ctx, p.name, p.path); err != nil {
			return canary.Report{}, fmt.Errorf("look for canaries: %w", err)
		}
	}
	if further != nil {
		if err := further(s); err != nil {
			return canary.Report{}, fmt.Errorf("look for canaries: %w", err)
		}
	}
	return s.Report(), nil
}

// sink is a directory to which the service writes.
type sink struct{ name, path string }

// sinks are those directories, none within another.
func sinks(c config.Config) []sink {
	all := []sink{{"data", c.DataDir}, {"log", c.LogDir}, {"published", c.PublishDir}}
	return slices.DeleteFunc(slices.Clone(all), func(s sink) bool {
		return slices.ContainsFunc(all, func(o sink) bool {
			below, err := filepath.Rel(o.path, s.path)
			return o != s && err == nil && below != ".." && !strings.HasPrefix(below, "../")
		})
	})
}

func plantAt(ctx context.Context, c config.Config, register *egress.Register, people map[string]string) error {
	public, console := here(c.PublicAddr), here(c.ConsoleAddr)
	way, err := register.Open(egress.Destination{
		Name: "own_edges", Hosts: []string{public, console}, Owner: "internal/canary", Purpose: "plant people who do not exist at its own edges", Party: egress.Operator,
	})
	if err != nil {
		return err
	}
	defer way.Close()
	client := &http.Client{Transport: way.Transport(), Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	_, err = canary.Plant(ctx, client, "http://"+public, "http://"+console, people)
	return err
}

// here is how a listener is reached from its own host.
func here(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// night is the hour, in UTC, in which the service looks for canaries by itself.
const night = 3

// watchCanaries looks for them each night, on every node, since each has files of its own.
func (s *service) watchCanaries(ctx context.Context) {
	nightly(ctx, night, func() {
		if err := s.scanNow(ctx); err != nil && ctx.Err() == nil {
			s.logger.Error("could not look for canaries", "error", err)
		}
	})
}

// scanNow looks for canaries and records the outcome in every log.
func (s *service) scanNow(ctx context.Context) error {
	s.telemetry.SendAll(true)
	defer s.telemetry.SendAll(false)
	r, err := scan(ctx, s.config, s.egress, true, nil, s.searchTelemetry(ctx))
	if err != nil {
		return err
	}
	if !r.Clean() {
		s.logger.Error("a planted name lies where none may be: counterfoil canary scan says where", "found", len(r.Found), "unread", len(r.Unread))
	}
	return s.heart.recordScan(ctx, scanner, r)
}

// scanner is the job that looks for canaries.
func scanner(organisation uuid.UUID) principal.Principal {
	return principal.NewJob(organisation, "canary_scan")
}

// searchTelemetry searches what was sent to the receiver of telemetry, if there is one.
func (s *service) searchTelemetry(ctx context.Context) func(*canary.Search) error {
	return func(search *canary.Search) error {
		if s.tap == nil {
			return nil
		}
		if err := s.telemetry.Flush(ctx); err != nil {
			return err
		}
		return search.Reader(ctx, "telemetry", bytes.NewReader(s.tap.sent()))
	}
}

// recordScan puts into every log what became of a scan.
func (h *heart) recordScan(ctx context.Context, by actor, r canary.Report) error {
	facts := map[string]string{
		"planted": fmt.Sprint(r.Planted), "places": fmt.Sprint(r.Places), "bytes": fmt.Sprint(r.Bytes), "found": fmt.Sprint(len(r.Found)), "unread": fmt.Sprint(len(r.Unread)),
	}
	return h.actEverywhere(ctx, by, policy.ScanForCanaries, "canary.scan", facts)
}

type canaryScanCmd struct {
	Also string `help:"A file with a line WHAT: VALUE for each value to be looked for too, such as the name of a test account with which you chatted." placeholder:"FILE" type:"path"`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (canaryScanCmd) Help() string {
	return "Requests with names, addresses and texts of people who do not exist are sent to the service, which refuses them all; then its files are searched in a dozen spellings: " +
		"tables, write-ahead log, operational log, crashes, what is published. It says where something lies and never what. The service does the same each night. " +
		"Exit code 1 if something was found or could not be read.\n\nExamples:\n  counterfoil canary scan\n  counterfoil canary scan --also test-accounts.txt --json"
}

// Run looks for canaries.
func (c canaryScanCmd) Run(a *app) error {
	also, err := values(c.Also)
	if err != nil {
		return err
	}
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	r, err := scan(a.ctx, h.config, a.egress, true, also, nil)
	if errors.Is(err, canary.ErrSilent) {
		if len(also) == 0 {
			return errors.New("the service does not run here: start it, or give values to look for with --also")
		}
		fmt.Fprintln(a.stderr, "counterfoil:", a.in("the service does not run here, so nobody is planted; what is there is searched for the values you gave.", "le service ne tourne pas ici, donc personne n’est planté ; ce qui s’y trouve est parcouru pour les valeurs données."))
		r, err = scan(a.ctx, h.config, a.egress, false, also, nil)
	}
	if err != nil {
		return err
	}
	if err := h.recordScan(a.ctx, asOperator, r); err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(a.stdout).Encode(r)
	} else {
		for _, f := range r.Found {
			fmt.Fprintf(a.stdout, a.in("%s lies in %s (%s)\n", "%s se trouve dans %s (%s)\n"), f.What, f.Place, f.Spelling)
		}
		for _, p := range r.Unread {
			fmt.Fprintf(a.stdout, a.in("%s could not be read\n", "%s n’a pas pu être lu\n"), p)
		}
		_, err = fmt.Fprintf(a.stdout, a.in("%d planted values, %d places, %d MiB searched: %d found, %d places not read\n", "%d valeurs plantées, %d endroits, %d Mio parcourus : %d trouvées, %d endroits non lus\n"), r.Planted, r.Places, r.Bytes>>20, len(r.Found), len(r.Unread))
	}
	if err == nil && !r.Clean() {
		return found{}
	}
	return err
}

// values reads what else is to be looked for.
func values(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{"--also: the file cannot be read"}
	}
	all := make(map[string]string)
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if strings.TrimSpace(line) == "" {
			continue
		}
		what, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || what == "" || value == "" {
			return nil, usageError{fmt.Sprintf("--also: line %d is not WHAT: VALUE", n)}
		}
		all[what] = value
	}
	return all, nil
}
