package teams_test

import (
	"errors"
	"net/url"
	"slices"
	"testing"

	"counterfoil/internal/teams"
)

func TestNamedCloudsListExactHosts(t *testing.T) {
	for _, tc := range []struct {
		name  string
		extra []string
		hosts []string
	}{
		{"public", nil, []string{"login.botframework.com", "login.microsoftonline.com", "smba.trafficmanager.net"}},
		{"gcc", nil, []string{"login.botframework.com", "login.microsoftonline.com", "smba.infra.gcc.teams.microsoft.com", "smba.trafficmanager.net"}},
		{"gcchigh", nil, []string{"login.botframework.azure.us", "login.microsoftonline.us", "smba.infra.gov.teams.microsoft.us"}},
		{"dod", nil, []string{"login.botframework.azure.us", "login.microsoftonline.us", "smba.infra.dod.teams.microsoft.us"}},
		{"china", []string{"connector.example.cn"}, []string{"connector.example.cn", "login.botframework.azure.cn", "login.partner.microsoftonline.cn"}},
	} {
		c, err := teams.NamedCloud(tc.name, tc.extra...)
		if err != nil || c.Name() != tc.name || !slices.Equal(hosts(t, c), tc.hosts) {
			t.Errorf("%s: %v %v %v", tc.name, c.Name(), hosts(t, c), err)
		}
	}
	for _, bad := range [][]string{{"china"}, {"moon"}, {""}, {"public", "*.example.com"}, {"public", "Example.com"}, {"public", "a.example."}, {"public", "u@a.example"}, {"public", "a.example/x"}, {"public", "a.example:"}, {"public", "a.example:0"}, {"public", ""}} {
		if _, err := teams.NamedCloud(bad[0], bad[1:]...); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	// One cloud's extra host must not leak into the next one made.
	if _, err := teams.NamedCloud("public", "extra.example.com"); err != nil {
		t.Fatal(err)
	}
	plain, err := teams.NamedCloud("public")
	if err != nil || slices.Contains(hosts(t, plain), "extra.example.com") {
		t.Error("the table changed")
	}
}

// hosts are those of all addresses of a cloud, in order.
func hosts(t *testing.T, c teams.Cloud) []string {
	t.Helper()
	all, keys, tokens := c.Addresses()
	all = append(all, keys, tokens)
	for i, address := range all {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = u.Host
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestCustomCloudLetsPlainHTTPThroughOnLoopbackOnly(t *testing.T) {
	good := teams.CustomSettings{
		MetadataURL: "http://127.0.0.1:8/m", Issuer: "i", LoginURL: "http://localhost:9/", ServiceHosts: []string{"localhost:1", "standin.example.com"},
	}
	if _, err := teams.CustomCloud(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*teams.CustomSettings){
		"metadata over http":      func(s *teams.CustomSettings) { s.MetadataURL = "http://login.example.com/m" },
		"metadata on a lookalike": func(s *teams.CustomSettings) { s.MetadataURL = "http://127.0.0.1.example.com/m" },
		"login over http":         func(s *teams.CustomSettings) { s.LoginURL = "http://10.0.0.1" },
		"login with a path":       func(s *teams.CustomSettings) { s.LoginURL = "https://login.example.com/x" },
		"login with a user":       func(s *teams.CustomSettings) { s.LoginURL = "https://u:p@login.example.com" },
		"no issuer":               func(s *teams.CustomSettings) { s.Issuer = "" },
		"no hosts":                func(s *teams.CustomSettings) { s.ServiceHosts = nil },
		"a host with a scheme":    func(s *teams.CustomSettings) { s.ServiceHosts = []string{"http://localhost"} },
	} {
		s := good
		change(&s)
		if _, err := teams.CustomCloud(s); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestServiceURLIsOnTheListByteForByte(t *testing.T) {
	public, err := teams.NamedCloud("public")
	if err != nil {
		t.Fatal(err)
	}
	custom, err := teams.CustomCloud(teams.CustomSettings{
		MetadataURL: "http://127.0.0.1:8/m", Issuer: "i", LoginURL: "http://127.0.0.1:8",
		ServiceHosts: []string{"127.0.0.1:56150", "localhost:56150", "standin.example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		cloud teams.Cloud
		raw   string
		ok    bool
	}{
		{"the region with a slash", public, "https://smba.trafficmanager.net/amer/", true},
		{"the region without a slash", public, "https://smba.trafficmanager.net/amer", true},
		{"a tenant in the path", public, "https://smba.trafficmanager.net/emea/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee/", true},
		{"the bare host", public, "https://smba.trafficmanager.net", true},
		{"the bare host with a slash", public, "https://smba.trafficmanager.net/", true},
		{"loopback over http in a custom cloud", custom, "http://localhost:56150/_connector", true},
		{"loopback by address", custom, "http://127.0.0.1:56150/_connector", true},
		{"a custom host over https", custom, "https://standin.example.com/x", true},

		{"nothing", public, "", false},
		{"the zero cloud", teams.Cloud{}, "https://smba.trafficmanager.net/amer/", false},
		{"plain http", public, "http://smba.trafficmanager.net/amer/", false},
		{"plain http off loopback in a custom cloud", custom, "http://standin.example.com/x", false},
		{"loopback in the public cloud", public, "http://127.0.0.1:56150/", false},
		{"the public host in a custom cloud", custom, "https://smba.trafficmanager.net/amer/", false},
		{"another port of loopback", custom, "http://localhost:56151/", false},
		{"no port where one is listed", custom, "http://localhost/", false},
		{"a user", public, "https://smba.trafficmanager.net@evil.test/", false},
		{"a user before the right host", public, "https://evil@smba.trafficmanager.net/", false},
		{"an empty user", public, "https://@smba.trafficmanager.net/", false},
		{"the default port", public, "https://smba.trafficmanager.net:443/", false},
		{"another port", public, "https://smba.trafficmanager.net:8443/", false},
		{"an empty port", public, "https://smba.trafficmanager.net:/", false},
		{"a longer suffix", public, "https://smba.trafficmanager.net.evil.test/", false},
		{"a longer prefix", public, "https://evil-smba.trafficmanager.net/", false},
		{"a subdomain", public, "https://x.smba.trafficmanager.net/", false},
		{"a neighbour at the same registrar", public, "https://evil.trafficmanager.net/", false},
		{"a trailing dot", public, "https://smba.trafficmanager.net./", false},
		{"upper case", public, "https://SMBA.trafficmanager.net/", false},
		{"upper case scheme", public, "HTTPS://smba.trafficmanager.net/", false},
		{"a backslash", public, `https://smba.trafficmanager.net\@evil.test/`, false},
		{"a backslash before the host", public, `https:\\smba.trafficmanager.net/`, false},
		{"a fullwidth dot", public, "https://smba.trafficmanager。net/", false},
		{"a Cyrillic letter", public, "https://smbа.trafficmanager.net/", false},
		{"its punycode", public, "https://xn--smb-8cd.trafficmanager.net/", false},
		{"an escaped host", public, "https://smba%2etrafficmanager.net/", false},
		{"a NUL", public, "https://smba.trafficmanager.net\x00.evil.test/", false},
		{"a space in front", public, " https://smba.trafficmanager.net/", false},
		{"a line break", public, "https://smba.trafficmanager.net/\r\nHost: evil", false},
		{"a tab within", public, "https://smba.traffic\tmanager.net/", false},
		{"an address", public, "https://127.0.0.1/", false},
		{"an address as one number", custom, "http://2130706433:56150/", false},
		{"an address in hexadecimal", custom, "http://0x7f.1:56150/", false},
		{"a short address", custom, "http://127.1:56150/", false},
		{"an IPv6 address", custom, "http://[::1]:56150/", false},
		{"a mapped address", custom, "http://[::ffff:127.0.0.1]:56150/", false},
		{"no scheme", public, "//smba.trafficmanager.net/", false},
		{"no slashes", public, "https:smba.trafficmanager.net", false},
		{"three slashes", public, "https:///smba.trafficmanager.net/", false},
		{"another scheme", public, "ftp://smba.trafficmanager.net/", false},
		{"a query", public, "https://smba.trafficmanager.net/amer?x=1", false},
		{"a fragment", public, "https://smba.trafficmanager.net/amer#x", false},
		{"a fragment as host", public, "https://evil.test#smba.trafficmanager.net/", false},
		{"dot segments", public, "https://smba.trafficmanager.net/amer/../x", false},
		{"escaped dot segments", public, "https://smba.trafficmanager.net/%2e%2e/x", false},
		{"an empty segment", public, "https://smba.trafficmanager.net//evil.test/", false},
		{"a colon in the path", public, "https://smba.trafficmanager.net/a:b", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := teams.ParseServiceURL(tc.raw, tc.cloud)
			if tc.ok {
				if err != nil || s.String() != tc.raw {
					t.Fatalf("%q was refused: %v", tc.raw, err)
				}
				return
			}
			if !errors.Is(err, teams.ErrServiceURL) || !s.IsZero() {
				t.Fatalf("%q was accepted as %q", tc.raw, s)
			}
		})
	}
}

// What one parser lets through, the one that will dial must read in the same way.
func FuzzParseServiceURL(f *testing.F) {
	for _, s := range []string{"https://smba.trafficmanager.net/amer/", "https://a@smba.trafficmanager.net", `https://smba.trafficmanager.net\x`, "http://127.0.0.1:1/_c"} {
		f.Add(s)
	}
	public, err := teams.NamedCloud("public")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := teams.ParseServiceURL(raw, public)
		if err != nil {
			return
		}
		assertDials(t, s.String(), "https", "smba.trafficmanager.net")
	})
}
