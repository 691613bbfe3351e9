// Package web holds what every HTTP edge needs: problem documents, the client's address, and response headers.
package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddress is the address a request came from. The X-Forwarded-For header counts only when the peer is a trusted
// proxy; then the rightmost address that is not one of the proxies is the client's. The result is invalid when it cannot be
// known, and whoever decides by it must then refuse.
func ClientAddress(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := parse(r.RemoteAddr)
	if !peer.IsValid() || !contains(trusted, peer) {
		return peer
	}
	// Several header lines are one list; reading only the first would let a client put his own before the proxy's.
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, entry := range slices.Backward(chain) {
		addr := parse(strings.TrimSpace(entry))
		if !addr.IsValid() {
			return netip.Addr{}
		}
		if !contains(trusted, addr) {
			return addr
		}
	}
	return netip.Addr{}
}

// Proxies are the trusted proxies that a request came through, the nearest last: what stands between ClientAddress and
// this machine.
func Proxies(r *http.Request, trusted []netip.Prefix) []netip.Addr {
	var all []netip.Addr
	chain := append(strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ","), r.RemoteAddr)
	for _, entry := range slices.Backward(chain) {
		addr := parse(strings.TrimSpace(entry))
		if !addr.IsValid() || !contains(trusted, addr) {
			break
		}
		all = append(all, addr)
	}
	slices.Reverse(all)
	return all
}

// parse takes an address with or without a port (some proxies append one), folds IPv4 in IPv6, and drops the zone.
func parse(s string) netip.Addr {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
