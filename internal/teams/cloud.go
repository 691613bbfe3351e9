// Package teams speaks the Bot Connector protocol of Microsoft Teams, and nothing else: it verifies who sent a
// request, decodes the activity, and sends messages and cards back.
//
// Its promise: no activity counts as genuine before its token, its service address and its tenant were checked, and
// the bot's own bearer token leaves only for a host on the cloud's exact list. Names, emails and message text that
// arrive are euii.Inbound from the moment they are decoded; what is sent was cleared by the caller. The package knows
// no conversation states and no storage.
package teams

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Cloud is one of Microsoft's clouds, or the stand-in's: where tokens are checked and fetched, and which hosts may
// see the bot's bearer token. The zero value names no host and is refused everywhere.
type Cloud struct {
	name        string
	metadataURL string
	issuer      string
	loginURL    string
	// tenant is the login authority of a multi-tenant bot; empty where the cloud knows only single-tenant bots.
	tenant string
	hosts  []string
	custom bool
}

// builtin is the table of clouds. Every value is exact: a service host is compared byte for byte, because anybody may
// register a name below trafficmanager.net. China has no published service host, so the operator must name it.
var builtin = map[string]Cloud{
	"public": {
		metadataURL: "https://login.botframework.com/v1/.well-known/openidconfiguration",
		issuer:      "https://api.botframework.com",
		loginURL:    "https://login.microsoftonline.com",
		tenant:      "botframework.com",
		hosts:       []string{"smba.trafficmanager.net"},
	},
	"gcc": {
		metadataURL: "https://login.botframework.com/v1/.well-known/openidconfiguration",
		issuer:      "https://api.botframework.com",
		loginURL:    "https://login.microsoftonline.com",
		tenant:      "botframework.com",
		hosts:       []string{"smba.trafficmanager.net", "smba.infra.gcc.teams.microsoft.com"},
	},
	"gcchigh": {
		metadataURL: "https://login.botframework.azure.us/v1/.well-known/openidconfiguration",
		issuer:      "https://api.botframework.us",
		loginURL:    "https://login.microsoftonline.us",
		tenant:      "MicrosoftServices.onmicrosoft.us",
		hosts:       []string{"smba.infra.gov.teams.microsoft.us"},
	},
	"dod": {
		metadataURL: "https://login.botframework.azure.us/v1/.well-known/openidconfiguration",
		issuer:      "https://api.botframework.us",
		loginURL:    "https://login.microsoftonline.us",
		tenant:      "MicrosoftServices.onmicrosoft.us",
		hosts:       []string{"smba.infra.dod.teams.microsoft.us"},
	},
	"china": {
		metadataURL: "https://login.botframework.azure.cn/v1/.well-known/openidconfiguration",
		issuer:      "https://api.botframework.azure.cn",
		loginURL:    "https://login.partner.microsoftonline.cn",
	},
}

// NamedCloud is a cloud of Microsoft's: public, gcc, gcchigh, dod or china. The extra hosts join its list of service
// hosts (a bare lower-case name, https only); china needs at least one.
func NamedCloud(name string, extraHosts ...string) (Cloud, error) {
	c, ok := builtin[name]
	if !ok {
		return Cloud{}, fmt.Errorf("teams: no cloud is called %q (public, gcc, gcchigh, dod, china)", name)
	}
	c.name = name
	c.hosts = slices.Clone(c.hosts)
	for _, h := range extraHosts {
		if err := checkHost(h); err != nil {
			return Cloud{}, err
		}
		c.hosts = append(c.hosts, h)
	}
	if len(c.hosts) == 0 {
		return Cloud{}, fmt.Errorf("teams: the cloud %q has no published service host; name one", name)
	}
	return c, nil
}

// CustomSettings are the addresses of a cloud that is not Microsoft's: a stand-in. They change where checks get their
// keys, never whether a check is made.
type CustomSettings struct {
	// MetadataURL is the OpenID metadata document; the keys must lie on the same host.
	MetadataURL string
	// Issuer is the exact iss of inbound tokens.
	Issuer string
	// LoginURL is the scheme and host of the token endpoint, without a path.
	LoginURL string
	// ServiceHosts is the exact list of host or host:port that activities may come from and tokens may go to.
	ServiceHosts []string
}

// CustomCloud checks the settings. Plain http is let through for loopback hosts only.
func CustomCloud(s CustomSettings) (Cloud, error) {
	if s.Issuer == "" {
		return Cloud{}, errors.New("teams: a custom cloud needs an issuer")
	}
	if len(s.ServiceHosts) == 0 {
		return Cloud{}, errors.New("teams: a custom cloud needs its service hosts named")
	}
	for _, h := range s.ServiceHosts {
		if err := checkHost(h); err != nil {
			return Cloud{}, err
		}
	}
	if err := checkEndpoint(s.MetadataURL); err != nil {
		return Cloud{}, fmt.Errorf("teams: metadata address: %w", err)
	}
	if err := checkEndpoint(s.LoginURL); err != nil {
		return Cloud{}, fmt.Errorf("teams: login address: %w", err)
	}
	login := strings.TrimSuffix(s.LoginURL, "/")
	if u, err := url.Parse(login); err != nil || u.Path != "" {
		return Cloud{}, errors.New("teams: login address: only a scheme and a host are wanted")
	}
	return Cloud{
		name: "custom", metadataURL: s.MetadataURL, issuer: s.Issuer, loginURL: login,
		tenant: "botframework.com", hosts: slices.Clone(s.ServiceHosts), custom: true,
	}, nil
}

// Name is the cloud's name in settings.
func (c Cloud) Name() string { return c.name }

// Addresses are where this cloud makes the product connect to, for the register of outbound destinations: the Bot Connector as the
// address of each of its hosts, and the addresses of the keys and of the tokens.
func (c Cloud) Addresses() (connector []string, keys, tokens string) {
	for _, h := range c.hosts {
		connector = append(connector, "https://"+h)
		if c.custom && loopback(h) {
			connector = append(connector, "http://"+h)
		}
	}
	return connector, c.metadataURL, c.loginURL
}

// scope is what an outbound token is asked for; in every cloud it is the issuer's own name.
func (c Cloud) scope() string { return c.issuer + "/.default" }

// allows tells whether the bearer token may go to this scheme and host.
func (c Cloud) allows(scheme, host string) bool {
	if !slices.Contains(c.hosts, host) {
		return false
	}
	return scheme == "https" || scheme == "http" && c.custom && loopback(host)
}

// ServiceURL is the address of the Bot Connector for one conversation. Holding one proves that its host is on the
// cloud's list; the zero value reaches nothing.
type ServiceURL struct{ raw string }

// String is the address exactly as Teams gave it, which is also the form to store.
func (s ServiceURL) String() string { return s.raw }

// IsZero reports whether there is no address.
func (s ServiceURL) IsZero() bool { return s.raw == "" }

// ErrServiceURL says that a service address is not one the bot may talk to.
var ErrServiceURL = errors.New("teams: the service address is not on the cloud's list of hosts")

// ParseServiceURL checks an address from an activity or from storage. It must be https://HOST[/path] with HOST on the
// list byte for byte; no user, query, fragment, escape, dot segment or port that the list does not name.
func ParseServiceURL(raw string, cloud Cloud) (ServiceURL, error) {
	if len(raw) == 0 || len(raw) > 512 {
		return ServiceURL{}, ErrServiceURL
	}
	// One character set for the whole address leaves nothing that two parsers could read differently.
	for i := range len(raw) {
		if c := raw[i]; !unreserved(c) && c != ':' && c != '/' {
			return ServiceURL{}, ErrServiceURL
		}
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return ServiceURL{}, ErrServiceURL
	}
	host, path, _ := strings.Cut(rest, "/")
	if !cloud.allows(scheme, host) || strings.Contains(path, ":") {
		return ServiceURL{}, ErrServiceURL
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		if segment == "." || segment == ".." || segment == "" && path != "" {
			return ServiceURL{}, ErrServiceURL
		}
	}
	return ServiceURL{raw}, nil
}

// endpoint joins the address with escaped path segments.
func (s ServiceURL) endpoint(segments ...string) (string, error) {
	if s.IsZero() {
		return "", ErrServiceURL
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(s.raw, "/"))
	for _, seg := range segments {
		if seg == "" || seg == "." || seg == ".." || len(seg) > 1024 {
			return "", errors.New("teams: an id is empty, too long or a dot segment")
		}
		b.WriteByte('/')
		for i := range len(seg) {
			if c := seg[i]; unreserved(c) {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
	}
	return b.String(), nil
}

// unreserved is RFC 3986 §2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// checkHost takes the spellings a list may hold: a lower-case name or address without trailing dot, and maybe a port.
func checkHost(hostport string) error {
	bad := fmt.Errorf("teams: %q is not a host or host:port in lower case", hostport)
	u, err := url.Parse("https://" + hostport)
	if err != nil || u.Host != hostport || u.Hostname() == "" || strings.HasSuffix(u.Hostname(), ".") {
		return bad
	}
	for i := range len(hostport) {
		if c := hostport[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == ':') {
			return bad
		}
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return bad
		}
	} else if strings.Contains(hostport, ":") {
		return bad
	}
	return nil
}

func checkEndpoint(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("an absolute address without user, query and fragment is wanted")
	}
	if u.Scheme == "https" || u.Scheme == "http" && loopback(u.Host) {
		return nil
	}
	return errors.New("https is wanted (http on loopback hosts only)")
}

// loopback reports whether a host or host:port names this machine by definition.
func loopback(hostport string) bool {
	u := url.URL{Host: hostport}
	if u.Hostname() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}
