// Package egress is the one way out: every connection that the program makes to anything but its own PostgreSQL is made
// here, by the way that leads there.
//
// Its promise: nothing is reached that is not registered, with who needs it, for what, which kinds of data go there and
// whose it is. An attempt at anything else is refused before a name is looked up, counted, and handed on to be recorded. No
// host of Microsoft Graph can be registered. Connections go directly: no proxy is taken from the environment, because it
// would be a destination that nobody registered.
package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// Class is a kind of data that goes somewhere.
type Class string

// The classes of data.
const (
	Credentials Class = "credentials" // what proves that it is us
	Names       Class = "names"       // of agents and visitors, as policy lets them out
	Messages    Class = "messages"    // what people wrote
	Sealed      Class = "sealed"      // ciphertext
	Handles     Class = "handles"     // ids and keyed references
	Records     Class = "records"     // of the log; people appear in them as references
	Hashes      Class = "hashes"      // checkpoints and proofs
	Measures    Class = "measures"    // counts and times of the service itself
)

// Party is whose a destination is.
type Party string

// The parties.
const (
	Microsoft  Party = "microsoft"
	Operator   Party = "operator"    // of whoever runs the service, who may have it from somebody else
	ThirdParty Party = "third_party" // somebody else's
)

// Destination is where a part of the program may connect to.
type Destination struct {
	Organisation uuid.UUID // whose it is; zero for whoever runs the service
	Name         string    // such as witness; people read a text of that name
	Hosts        []string  // exact, host:port in lower case
	Owner        string    // the package that needs it
	Purpose      string    // in a few English words
	Data         []Class   // what goes there; nothing where it is only asked
	Party        Party
	Region       string // where it is, as far as that is known
	// Chosen says that somebody chose it who does not run the service. A name of it must not lead to this host, or to the link it is on,
	// where hosts keep what is not for others.
	Chosen bool
}

// ErrBlocked is wrapped by the error of every refused attempt.
var ErrBlocked = errors.New("this destination is not registered: nothing was sent")

// ErrRefused is wrapped by the error that says why a destination cannot be registered.
var ErrRefused = errors.New("this destination cannot be registered")

// Counts is how often a way was gone, and what went over it.
type Counts struct {
	Attempts, Connections, Failures, Blocked int64
	Sent, Received                           int64 // bytes
}

// Report is a destination and what came to its counts since the last report.
type Report struct {
	Destination
	Counts
}

// Attempt is what was refused, and how often since the last report.
type Attempt struct {
	Organisation uuid.UUID
	Name         string // of the destination whose way was tried; empty where no way was
	Target       string // host:port
	N            int64
}

// maxBlocked bounds how many targets are kept between two reports; further ones are counted as one.
const maxBlocked = 100

// Register knows the ways out. It is safe for concurrent use.
type Register struct {
	mu      sync.Mutex
	ways    []*Way
	blocked map[Attempt]int64 // by attempts without their number
}

// New makes a Register from which nothing leads out.
func New() *Register { return &Register{blocked: make(map[Attempt]int64)} }

// Way is the way to one destination, and to nothing else.
type Way struct {
	register *Register
	to       Destination
	reached  map[string]bool // addresses that its hosts led to

	attempts, connections, failures, blocked, sent, received atomic.Int64
}

// Open registers a destination and gives the way to it. The error wraps ErrRefused.
func (r *Register) Open(d Destination) (*Way, error) {
	if d.Name == "" || d.Owner == "" || d.Purpose == "" || d.Party == "" {
		return nil, fmt.Errorf("%w: name, owner, purpose and party belong to it", ErrRefused)
	}
	hosts := make([]string, 0, len(d.Hosts))
	for _, h := range d.Hosts {
		if err := check(h); err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	d.Hosts, d.Data = slices.Compact(hosts), slices.Clone(d.Data)
	w := &Way{register: r, to: d, reached: make(map[string]bool)}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ways = append(r.ways, w)
	return w, nil
}

// Close takes the destination off the register; its way leads nowhere from then on. Open connections stay with whoever has them.
func (w *Way) Close() {
	w.register.mu.Lock()
	defer w.register.mu.Unlock()
	w.register.ways = slices.DeleteFunc(w.register.ways, func(o *Way) bool { return o == w })
	w.to.Hosts = nil
}

// Host is host:port of an address such as https://host/path, in the form in which destinations are registered.
func Host(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return "", fmt.Errorf("%w: the address has no host", ErrRefused)
	}
	port := cmp.Or(u.Port(), map[string]string{"https": "443", "http": "80"}[u.Scheme])
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port)), nil
}

// check takes host:port in the one spelling that is compared.
func check(hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil || n == 0 || host == "" || host != strings.ToLower(host) || strings.HasSuffix(host, ".") || strings.ContainsAny(host, " /@%*\\") {
		return fmt.Errorf("%w: %q is not host:port in lower case", ErrRefused, hostport)
	}
	if graph(host) {
		return fmt.Errorf("%w: %s is a host of Microsoft Graph, which is never used", ErrRefused, host)
	}
	return nil
}

// microsofts are the domains below which Microsoft Graph has its hosts, in all clouds.
var microsofts = []string{"microsoft.com", "microsoft.us", "microsoft.scloud", "microsoft.eaglex.ic.gov", "microsoft.de", "windows.net", "chinacloudapi.cn", "cloudapi.de", "office.com", "office.net"}

// graph reports whether a host is one of Microsoft Graph. The names themselves stand nowhere in the program.
func graph(host string) bool {
	for _, domain := range microsofts {
		if name, ok := strings.CutSuffix(host, "."+domain); ok && slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return strings.Contains(label, "graph") }) {
			return true
		}
	}
	return false
}

// dialTimeout bounds how long a connection may take to be made.
const dialTimeout = 10 * time.Second

// Dial is DialContext for clients that know no contexts.
func (w *Way) Dial(network, address string) (net.Conn, error) {
	return w.DialContext(context.Background(), network, address)
}

// DialContext connects to the destination, or refuses with ErrBlocked.
func (w *Way) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if !w.leads(network, address) {
		w.blocked.Add(1)
		w.register.block(Attempt{Organisation: w.to.Organisation, Name: w.to.Name, Target: address})
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s: %w", w.to.Name, ErrBlocked)}
	}
	w.attempts.Add(1)
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if host, _, _ := net.SplitHostPort(address); w.to.Chosen && !local(host) {
		d.ControlContext = away
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		w.failures.Add(1)
		return nil, err
	}
	w.connections.Add(1)
	w.register.mu.Lock()
	defer w.register.mu.Unlock()
	if len(w.reached) < maxReached {
		w.reached[conn.RemoteAddr().String()] = true
	}
	return &counted{conn, w}, nil
}

// maxReached bounds how many addresses a way remembers.
const maxReached = 1000

// leads reports whether an address is one of the destination, by name, or as one of its names was found: a client that cancels a query
// has to reach the very server that runs it.
func (w *Way) leads(network, address string) bool {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return false
	}
	w.register.mu.Lock()
	defer w.register.mu.Unlock()
	return slices.Contains(w.to.Hosts, strings.ToLower(address)) || len(w.to.Hosts) > 0 && w.reached[address]
}

// local reports whether a host names this one by definition.
func local(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// away refuses addresses that a name may lead to, but never should: of this host, of its link, and of nobody.
func away(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if a := at.Addr().Unmap(); err != nil || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return fmt.Errorf("%w: its name leads to this host or to its link", ErrBlocked)
	}
	return nil
}

// Transport is for HTTP over this way, with the checks of TLS on, and bounds on how long an answer may take to begin.
func (w *Way) Transport() *http.Transport {
	return &http.Transport{
		DialContext: w.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 100, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: 30 * time.Second, ExpectContinueTimeout: time.Second,
	}
}

// Fence makes what uses the standard library's default HTTP client, knowingly or not, find that nothing is registered for it.
func (r *Register) Fence() {
	http.DefaultTransport = &http.Transport{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
		r.block(Attempt{Target: address})
		return nil, &net.OpError{Op: "dial", Net: network, Err: ErrBlocked}
	}}
}

func (r *Register) block(a Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Target = strings.ToLower(a.Target); len(a.Target) > 260 {
		a.Target = a.Target[:260]
	}
	if _, known := r.blocked[a]; !known && len(r.blocked) >= maxBlocked {
		a.Target = "" // many others
	}
	r.blocked[a]++
}

// Take gives each destination with what came to its counts since the last time, and what was refused since then, and begins anew.
func (r *Register) Take() ([]Report, []Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Report, len(r.ways))
	for i, w := range r.ways {
		all[i] = Report{w.to, Counts{w.attempts.Swap(0), w.connections.Swap(0), w.failures.Swap(0), w.blocked.Swap(0), w.sent.Swap(0), w.received.Swap(0)}}
	}
	var refused []Attempt
	for a, n := range r.blocked {
		a.N = n
		refused = append(refused, a)
	}
	clear(r.blocked)
	slices.SortFunc(refused, func(a, b Attempt) int {
		return cmp.Or(cmp.Compare(a.Organisation.String(), b.Organisation.String()), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Target, b.Target))
	})
	return all, refused
}

// Return gives back what was taken and could not be kept.
func (r *Register) Return(reports []Report, refused []Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range reports {
		for _, w := range r.ways {
			if w.to.Organisation == report.Organisation && w.to.Name == report.Name {
				w.attempts.Add(report.Attempts)
				w.connections.Add(report.Connections)
				w.failures.Add(report.Failures)
				w.blocked.Add(report.Blocked)
				w.sent.Add(report.Sent)
				w.received.Add(report.Received)
				break
			}
		}
	}
	for _, a := range refused {
		n := a.N
		a.N = 0
		r.blocked[a] += n
	}
}

// counted is a connection whose bytes are counted.
type counted struct {
	net.Conn
	way *Way
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.way.received.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.way.sent.Add(int64(n))
	return n, err
}
