package ipallow_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"

	"counterfoil/internal/ipallow"
)

func list(t *testing.T, prefixes ...string) ipallow.List {
	t.Helper()
	var all []netip.Prefix
	for _, s := range prefixes {
		p, err := ipallow.ParsePrefix(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		all = append(all, p)
	}
	return ipallow.NewList(uuid.New(), all)
}

// AUTH-IP-01, AUTH-IP-11.
func TestAnAddressIsAdmittedOnlyWhenTheListHasIt(t *testing.T) {
	l := list(t, "192.0.2.0/24", "198.51.100.7", "2001:db8:1::/48", "fe80::/10")
	for address, want := range map[string]bool{
		"192.0.2.5": true, "::ffff:192.0.2.5": true, "198.51.100.7": true, "2001:db8:1:2::3": true, "fe80::1%eth0": true,
		"192.0.3.5": false, "198.51.100.8": false, "2001:db8:2::1": false, "127.0.0.1": false, "::1": false, "::ffff:192.0.3.5": false,
	} {
		if a, ok := l.Check(netip.MustParseAddr(address)); ok != want || ok != a.Address().IsValid() || ok != (a.Organisation() != uuid.Nil) {
			t.Errorf("%s is admitted: %t, want %t", address, ok, want)
		}
		if _, ok := (ipallow.List{}).Check(netip.MustParseAddr(address)); ok {
			t.Errorf("an empty list admits %s", address)
		}
	}
	if _, ok := l.Check(netip.Addr{}); ok {
		t.Error("an address that is not known is admitted")
	}
}

func TestBeforeTheFirstEntryOnlyThisMachineMaySetUp(t *testing.T) {
	empty, full := list(t), list(t, "192.0.2.0/24")
	for _, c := range []struct {
		list    ipallow.List
		address string
		want    bool
	}{
		{empty, "127.0.0.1", true}, {empty, "::1", true}, {empty, "::ffff:127.0.0.1", true}, {empty, "192.0.2.5", false},
		{full, "127.0.0.1", false}, {full, "::1", false}, {full, "192.0.2.5", true},
	} {
		if _, ok := c.list.CheckFirstRun(netip.MustParseAddr(c.address)); ok != c.want {
			t.Errorf("%s is admitted: %t, want %t", c.address, ok, c.want)
		}
	}
	if _, ok := empty.CheckFirstRun(netip.Addr{}); ok {
		t.Error("an address that is not known is admitted")
	}
}

// AUTH-IP-02.
func TestWhatCouldBeMeantOtherwiseIsNoNetwork(t *testing.T) {
	for _, s := range []string{"", "x", "192.0.2.77/24", "::ffff:192.0.2.0/120", "0.0.0.0/0", "::/0", "192.0.2.0/33", "192.0.2.1%eth0", "fe80::1%eth0", "0.0.0.0", "::", "192.0.2", "192.0.2.1:80"} {
		if p, err := ipallow.ParsePrefix(s); err == nil {
			t.Errorf("%q is taken for %s", s, p)
		}
	}
	if _, err := ipallow.ParsePrefix("203.0.113.77/24"); err == nil || strings.Contains(err.Error(), "203") {
		t.Errorf("the error repeats the address: %v", err)
	}
}

func TestAnAdmissionDoesNotPrintTheAddress(t *testing.T) {
	a, ok := list(t, "203.0.113.77").Check(netip.MustParseAddr("203.0.113.77"))
	if !ok {
		t.Fatal("not admitted")
	}
	// As text, as bytes or as one number; the organisation's own bytes may hold a part of it by chance.
	whole := regexp.MustCompile(`(?i)203\D+0\D+113\D+77|0xcb\W+0x0\W+0x71\W+0x4d|cb00714d|3405803853|281474087547213`)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		if s := fmt.Sprintf(verb, struct{ inside ipallow.Admission }{a}); whole.MatchString(s) {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

func FuzzParsePrefix(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "2001:db8::/32", "198.51.100.7", "::ffff:1.2.3.4", "1.2.3.4/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ipallow.ParsePrefix(s)
		if err != nil {
			return
		}
		again, err := ipallow.ParsePrefix(p.String())
		if err != nil || again != p {
			t.Errorf("%q is %s, which is read as %s (%v)", s, p, again, err)
		}
		if _, ok := ipallow.NewList(uuid.New(), []netip.Prefix{p}).Check(p.Addr()); !ok {
			t.Errorf("%s does not admit its own first address", p)
		}
	})
}
