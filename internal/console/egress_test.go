package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"counterfoil/internal/egress"
)

func TestThePageOfDestinationsShowsTheRegisterAndWhatWasRefused(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	if page := s.page("/egress"); !strings.Contains(page, "connects to nothing outside of its host") || !strings.Contains(page, "None. Each would be a sign") {
		t.Errorf("an empty register:\n%s", page)
	}
	witness := egress.Destination{Name: "witness", Hosts: []string{"witness.example:443"}, Owner: "audit/publish", Purpose: "x", Data: []egress.Class{egress.Hashes}, Party: egress.ThirdParty, Region: "eu"}
	theirs := egress.Destination{Organisation: uuid.New(), Name: "foreign", Hosts: []string{"foreign.example:443"}, Owner: "o", Purpose: "p", Party: egress.ThirdParty}
	own := theirs
	own.Organisation, own.Name, own.Hosts = s.Organisation.ID, "own", []string{"own.example:443"}
	must(t, s.Store.NoteEgress(t.Context(), []egress.Report{
		{Destination: witness, Counts: egress.Counts{Attempts: 1500, Connections: 1499, Failures: 1, Sent: 10, Received: 20}}, {Destination: theirs}, {Destination: own},
	}, []egress.Attempt{{Name: "witness", Target: "elsewhere.example:25", N: 2}, {Organisation: theirs.Organisation, Name: "foreign", Target: "secret.example:1", N: 1}}))
	must(t, s.Store.NoteEgress(t.Context(), []egress.Report{{Destination: witness, Counts: egress.Counts{Attempts: 1, Connections: 1, Sent: 5}}}, []egress.Attempt{{Name: "witness", Target: "elsewhere.example:25", N: 1}}))
	page := s.page("/egress")
	for _, want := range []string{"witness.example:443", "have checkpoints of the logs cosigned", "checkpoints and proofs", "a third party", "1,500", ">15<br>", "own.example:443", "chosen by this organisation", "elsewhere.example:25", `class="n">3</td>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, not := range []string{"foreign.example", "secret.example"} {
		if strings.Contains(page, not) {
			t.Errorf("the page shows %q of another organisation", not)
		}
	}
	if _, french := s.expect(http.StatusOK, "GET", "/egress?lang=fr", nil); !strings.Contains(french, "faire contresigner") || !strings.Contains(french, "un tiers") {
		t.Errorf("in French:\n%s", french)
	}
}
