package egress_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"counterfoil/internal/egress"
)

// to is a destination with these hosts.
func to(hosts ...string) egress.Destination {
	return egress.Destination{Name: "receiver", Hosts: hosts, Owner: "test", Purpose: "be tried", Party: egress.ThirdParty, Data: []egress.Class{egress.Handles}}
}

func open(t *testing.T, r *egress.Register, d egress.Destination) *egress.Way {
	t.Helper()
	w, err := r.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAWayLeadsToItsDestinationAndIsCounted(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	defer srv.Close()
	host, err := egress.Host(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := egress.New()
	w := open(t, r, to(host))
	client := &http.Client{Transport: w.Transport()}
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	all, refused := r.Take()
	if len(all) != 1 || len(refused) != 0 {
		t.Fatalf("%v %v", all, refused)
	}
	if c := all[0].Counts; c.Attempts != 1 || c.Connections != 1 || c.Failures != 0 || c.Blocked != 0 || c.Sent < 50 || c.Received < 50 {
		t.Errorf("counted %+v", c)
	}
	if again, _ := r.Take(); again[0].Counts != (egress.Counts{}) {
		t.Errorf("counted twice: %+v", again[0].Counts)
	}
	r.Return(all, []egress.Attempt{{Name: "receiver", Target: "x:1", N: 3}})
	if again, refused := r.Take(); again[0].Counts != all[0].Counts || len(refused) != 1 || refused[0].N != 3 {
		t.Errorf("what could not be kept is lost: %+v %v", again, refused)
	}
	srv.Close()
	if _, err := w.Dial("tcp", host); err == nil || errors.Is(err, egress.ErrBlocked) {
		t.Errorf("nobody there: %v", err)
	}
	if all, _ := r.Take(); all[0].Failures != 1 || all[0].Attempts != 1 {
		t.Errorf("counted %+v", all[0].Counts)
	}
}

func TestWhatIsNotRegisteredIsRefusedBeforeANameIsLookedUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := egress.New()
	w := open(t, r, to("collector.example:443"))
	organisation := uuid.New()
	theirs := to("127.0.0.1:1")
	theirs.Organisation, theirs.Name = organisation, "theirs"
	other := open(t, r, theirs)
	for _, target := range []string{l.Addr().String(), "collector.example:80", "collector.example.:443", "sub.collector.example:443", "127.0.0.1:1"} {
		if _, err := w.Dial("tcp", target); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s: %v", target, err)
		}
	}
	for _, network := range []string{"udp", "unix", "ip"} {
		if _, err := w.Dial(network, "collector.example:443"); !errors.Is(err, egress.ErrBlocked) {
			t.Errorf("%s: %v", network, err)
		}
	}
	other.Close()
	if _, err := other.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("a way that was closed: %v", err)
	}
	all, refused := r.Take()
	if len(all) != 1 || all[0].Attempts != 0 || all[0].Blocked != 8 {
		t.Errorf("counted %+v", all)
	}
	var got []string
	for _, a := range refused {
		got = append(got, a.Name+" "+a.Target)
		if a.Name == "theirs" && a.Organisation != organisation {
			t.Error("it is not told whose way was tried")
		}
	}
	for _, want := range []string{"receiver " + l.Addr().String(), "receiver collector.example:80", "theirs 127.0.0.1:1"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among what was refused: %q", want, got)
		}
	}
	for i := range 1000 {
		_, _ = w.Dial("tcp", strings.Repeat("a", i%300)+".example:1")
	}
	_, refused = r.Take()
	var n int64
	for _, a := range refused {
		n += a.N
	}
	if len(refused) > 102 || n != 1000 {
		t.Errorf("%d targets were kept, with %d attempts", len(refused), n)
	}
}

func TestARedirectElsewhereLeadsNowhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer elsewhere.Close()
	srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	host, err := egress.Host(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&http.Client{Transport: open(t, egress.New(), to(host)).Transport()}).Get(srv.URL); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("followed: %v", err)
	}
}

func TestNoProxyIsTakenFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if open(t, egress.New(), to("collector.example:443")).Transport().Proxy != nil {
		t.Error("a proxy is used that nobody registered")
	}
}

func TestANameThatAnAdministratorChoseDoesNotLeadToThisHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	// No other name leads here on every machine, so an address stands for what a name was found to be.
	for address, blocked := range map[string]bool{"127.0.0.1:" + port: false, "localhost:" + port: false, "169.254.169.254:80": true, "0.0.0.0:" + port: true, "[fe80::1]:80": true, "[::]:" + port: true} {
		d := to(address)
		d.Chosen = true
		if _, err := open(t, egress.New(), d).Dial("tcp", address); errors.Is(err, egress.ErrBlocked) != blocked {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// graphHosts are Microsoft's, of all clouds; they stand here and in no other file.
var graphHosts = []string{"graph.microsoft.com", "graph.microsoft.us", "dod-graph.microsoft.us", "microsoftgraph.chinacloudapi.cn", "graph.microsoft.de", "graph.windows.net", "canary.graph.microsoft.com", "graph.microsoft.scloud"}

func TestNoHostOfMicrosoftGraphCanBeRegistered(t *testing.T) {
	r := egress.New()
	for _, host := range graphHosts {
		if _, err := r.Open(to("collector.example:443", host+":443")); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"graphite.example.com", "smba.trafficmanager.net", "login.microsoftonline.com", "paragraph.example"} {
		if _, err := r.Open(to(host + ":443")); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestOnlyOneSpellingIsRegistered(t *testing.T) {
	for _, host := range []string{"", "example.com", "Example.com:443", "example.com.:443", "example.com:0", "example.com:99999", "example.com:https", "*.example.com:443", "a@example.com:443", "example.com/x:443", ":443", "exa mple.com:443"} {
		if _, err := egress.New().Open(to(host)); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("%q: %v", host, err)
		}
	}
	for address, want := range map[string]string{"https://Example.com/x": "example.com:443", "http://[::1]/": "[::1]:80", "nats://n1.example:4222": "n1.example:4222"} {
		if got, err := egress.Host(address); err != nil || got != want {
			t.Errorf("%s is %q, %v", address, got, err)
		}
	}
	for _, d := range []egress.Destination{{Hosts: []string{"a.example:1"}}, {Name: "x", Owner: "y", Purpose: "z", Hosts: []string{"a.example:1"}}} {
		if _, err := egress.New().Open(d); !errors.Is(err, egress.ErrRefused) {
			t.Errorf("registered without saying what for: %v", err)
		}
	}
}

func TestTheDefaultClientFindsNothing(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	defer srv.Close()
	r := egress.New()
	r.Fence()
	if _, err := http.Get(srv.URL); !errors.Is(err, egress.ErrBlocked) {
		t.Errorf("reached: %v", err)
	}
	if _, refused := r.Take(); len(refused) != 1 || refused[0].Target != strings.TrimPrefix(srv.URL, "http://") {
		t.Errorf("refused: %v", refused)
	}
}
