package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/principal"
)

// egressPage says where the service connects to, and what it refused.
type egressPage struct {
	Destinations []destination
	Refused      []refusedTarget
}

// destination is one of them, in words.
type destination struct {
	Purpose, Owner, Party, Region string
	Hosts, Data                   []string
	Connections, Failures         string
	Sent, Received                string
	Blocked                       int64
	Own, Before                   bool // chosen by this organisation; on the register of no node any more
}

type refusedTarget struct {
	Target, By, N string
	Last          time.Time
}

func (s *Server) egress(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	_, _, err := s.read(r, admin, "console.egress", nil)
	name, errName := s.handle(r, admin, v.lang)
	if err = cmp.Or(err, errName); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	all, refused, err := s.cfg.Egress(r.Context(), admin.Organisation())
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	var page egressPage
	for _, d := range all {
		shown := destination{
			Purpose: cmp.Or(word(v.lang, "egress_"+d.Name), d.Purpose), Owner: d.Owner, Party: word(v.lang, "party_"+string(d.Party)), Region: d.Region, Hosts: d.Hosts,
			Connections: number64(v.lang, d.Connections), Failures: number64(v.lang, d.Failures), Sent: number64(v.lang, d.Sent), Received: number64(v.lang, d.Received),
			Blocked: d.Blocked, Own: d.Organisation != uuid.Nil, Before: !d.OnRegister,
		}
		if len(d.Hosts) > 0 && !slices.ContainsFunc(d.Hosts, func(h string) bool { return !here(h) }) {
			shown.Party = word(v.lang, "party_here")
		}
		for _, class := range d.Data {
			shown.Data = append(shown.Data, word(v.lang, "data_"+string(class)))
		}
		page.Destinations = append(page.Destinations, shown)
	}
	for _, t := range refused {
		page.Refused = append(page.Refused, refusedTarget{cmp.Or(t.Target, word(v.lang, "egressMany")), cmp.Or(t.Name, word(v.lang, "egressNoWay")), number64(v.lang, t.N), t.LastAt})
	}
	s.renderAs(w, v, http.StatusOK, "egress", page, view{Handle: name, Path: "/egress"})
}

// here reports whether host:port is on this host.
func here(hostport string) bool {
	host, _, _ := strings.Cut(hostport, ":")
	return host == "localhost" || strings.HasPrefix(host, "127.") || strings.HasPrefix(hostport, "[::1]:")
}
