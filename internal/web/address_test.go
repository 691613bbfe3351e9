package web_test

import (
	"net/http"
	"net/netip"
	"testing"

	"counterfoil/internal/web"
)

var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func TestClientAddress(t *testing.T) {
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"is the peer without proxies", "198.51.100.7:4000", nil, "198.51.100.7"},
		{"ignores the header of an untrusted peer", "198.51.100.7:4000", []string{"203.0.113.9"}, "198.51.100.7"},
		{"is the rightmost untrusted entry", "10.0.0.1:4000", []string{"203.0.113.9, 198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"joins several header lines", "10.0.0.1:4000", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7"},
		{"folds IPv4 in IPv6", "[::ffff:198.51.100.7]:4000", nil, "198.51.100.7"},
		{"drops the zone", "[fe80::1%eth0]:4000", nil, "fe80::1"},
		{"takes an entry with a port", "10.0.0.1:4000", []string{"198.51.100.7:5555"}, "198.51.100.7"},
		{"takes a bracketed IPv6 entry", "[fd00::1]:4000", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"is unknown when the header is missing", "10.0.0.1:4000", nil, "invalid IP"},
		{"is unknown when an entry is garbage", "10.0.0.1:4000", []string{"198.51.100.7, what"}, "invalid IP"},
		{"is unknown when all are proxies", "10.0.0.1:4000", []string{"10.0.0.3"}, "invalid IP"},
		{"refuses leading zeros", "10.0.0.1:4000", []string{"198.051.100.7"}, "invalid IP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
			if got := web.ClientAddress(r, proxies).String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzClientAddress(f *testing.F) {
	f.Add("10.0.0.1:1", "198.51.100.7")
	f.Add("10.0.0.1:1", "::ffff:10.0.0.1, 1.2.3.4:5")
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {forwarded}}}
		got := web.ClientAddress(r, proxies)
		if got.IsValid() && (got.Is4In6() || got.Zone() != "") {
			t.Errorf("%s is not in its plain form", got)
		}
		plain := web.ClientAddress(&http.Request{RemoteAddr: peer}, nil)
		if plain.IsValid() && !proxies[0].Contains(plain) && !proxies[1].Contains(plain) && got != plain {
			t.Errorf("an untrusted peer %s passed for %s", plain, got)
		}
	})
}
