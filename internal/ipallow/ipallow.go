// Package ipallow decides from which addresses the console may be used. It promises that an address is admitted only when
// an organisation's list has it, that an empty list admits nobody, and that only it can make an Admission.
package ipallow

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/google/uuid"
)

// List is the allowlist of an organisation. The zero List admits nobody.
type List struct {
	organisation uuid.UUID
	prefixes     []netip.Prefix
}

// NewList makes the list of an organisation from what [ParsePrefix] gave.
func NewList(organisation uuid.UUID, prefixes []netip.Prefix) List {
	return List{organisation, prefixes}
}

// Admission is evidence that an address is on the list of an organisation. The zero Admission proves nothing.
type Admission struct {
	organisation uuid.UUID
	address      func() netip.Addr // a function, because fmt prints what lies in unexported fields
}

// Organisation is the one whose list has the address; it is zero when nothing was proved.
func (a Admission) Organisation() uuid.UUID { return a.organisation }

// Address is the address that was admitted; it is invalid when nothing was proved.
func (a Admission) Address() netip.Addr {
	if a.address == nil {
		return netip.Addr{}
	}
	return a.address()
}

func (l List) admit(address netip.Addr) Admission {
	return Admission{l.organisation, func() netip.Addr { return address }}
}

// Check admits an address that the list has.
func (l List) Check(address netip.Addr) (Admission, bool) {
	address = plain(address)
	if !address.IsValid() {
		return Admission{}, false
	}
	for _, p := range l.prefixes {
		if p.Contains(address) {
			return l.admit(address), true
		}
	}
	return Admission{}, false
}

// CheckFirstRun admits what Check admits and, while nothing is on the list, this machine itself: for the set-up of the
// first administrator and nothing else.
func (l List) CheckFirstRun(address netip.Addr) (Admission, bool) {
	address = plain(address)
	if len(l.prefixes) == 0 && address.IsLoopback() {
		return l.admit(address), true
	}
	return l.Check(address)
}

// plain makes one address of the several forms it may come in: prefixes contain neither IPv4 in IPv6 nor zones.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// Single is the prefix of one address.
func Single(a netip.Addr) netip.Prefix {
	a = plain(a)
	return netip.PrefixFrom(a, a.BitLen())
}

// Network is the neighbourhood of an address that records speak of beside it: its /24, or its /48 for IPv6.
func Network(a netip.Addr) netip.Prefix { return within(a, 24, 48) }

// Subscriber is what one connection to the internet has: the address itself, or its /64 for IPv6.
func Subscriber(a netip.Addr) netip.Prefix { return within(a, 32, 64) }

func within(a netip.Addr, four, six int) netip.Prefix {
	a = plain(a)
	bits := four
	if a.Is6() {
		bits = six
	}
	p, err := a.Prefix(bits)
	if err != nil { // not an address
		return netip.Prefix{}
	}
	return p
}

// ParsePrefix reads an address or a network. It refuses what could be meant otherwise than it would work. The error says
// what to write and does not repeat what was written.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return netip.Prefix{}, errors.New("this is no address and no network: write 192.0.2.7, 192.0.2.0/24 or 2001:db8:1:2::/64")
		case a.Zone() != "":
			return netip.Prefix{}, errors.New("an address with a zone means something on this machine only: write it without %")
		case a.IsUnspecified():
			return netip.Prefix{}, errors.New("nobody comes from this address")
		}
		return Single(a), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("this is no network: write 192.0.2.0/24 or 2001:db8:1:2::/64")
	case p.Bits() == 0:
		return netip.Prefix{}, errors.New("this network is the whole internet; an allowlist with it would be none")
	case p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write IPv4 networks in their own form: addresses are compared in it, so this one would never match")
	case p != p.Masked():
		return netip.Prefix{}, errors.New("the address has bits outside of the network: write the network with zeros there, or the address alone")
	}
	return p, nil
}
