package principal_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/totp"
)

// The proofs that speak for somebody are made in internal/signin's tests, where codes are taken.
func TestNobodyIsAnAdministratorWithoutProofs(t *testing.T) {
	organisation, admin := uuid.New(), uuid.New()
	from, ok := ipallow.NewList(organisation, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}).Check(netip.MustParseAddr("192.0.2.7"))
	if !ok {
		t.Fatal("not admitted")
	}
	for name, c := range map[string]struct {
		organisation, admin uuid.UUID
		from                ipallow.Admission
	}{
		"an address and no code":  {organisation, admin, from},
		"neither":                 {organisation, admin, ipallow.Admission{}},
		"nobody at all":           {uuid.Nil, uuid.Nil, ipallow.Admission{}},
		"nobody in particular":    {organisation, uuid.Nil, from},
		"somebody of nowhere":     {uuid.Nil, admin, from},
		"an address, other place": {uuid.New(), admin, from},
	} {
		if a, err := principal.NewAdmin(c.organisation, c.admin, []string{"security_admin"}, totp.Proof{}, c.from, time.Now()); err == nil || a.Kind() != "" {
			t.Errorf("%s makes an administrator", name)
		}
	}
}
