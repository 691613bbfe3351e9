package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/control"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/store"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if err := beKilled(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Run(m))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is everything below the edges, with the desk.
type world struct {
	*relaytest.World
	desk     *control.Desk
	eraser   *pgxpool.Pool
	operator principal.Operator
}

func newWorld(t testing.TB, o relaytest.Options) world {
	t.Helper()
	w := world{World: relaytest.New(t, o)}
	w.eraser = w.DB.Pool(t, "counterfoil_retention")
	w.desk = control.New(w.Pool, w.eraser, w.Gate)
	w.operator = principal.NewOperator(w.Organisation.ID, "ops")
	return w
}

// talk is a conversation that a visitor opened, an agent joined, and somebody ended.
type talk struct {
	relay.Session
	agent store.Agent
}

func (w world) talk(t testing.TB, agent string, end bool) talk {
	t.Helper()
	o, err := w.Relay.Open(t.Context(), relay.OpenRequest{
		Widget: w.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("Zyxwvut, can you help me?"),
		Name: euii.Receive("Vera Zyxwvut"), Email: euii.Receive("vera@zyxwvut.example"),
	})
	must(t, err)
	s, err := w.Relay.Session(t.Context(), o.Token)
	must(t, err)
	id := relay.Identity{Organisation: w.Organisation.ID, DirectoryID: "aad-" + agent, TeamsUser: "29:" + agent, ServiceURL: "https://smba.example/"}
	must(t, w.Relay.AgentAccepts(t.Context(), id, s.Conversation, 1, "en"))
	must(t, w.Relay.AgentJoins(t.Context(), id, s.Conversation, func(context.Context) (relay.Profile, error) {
		return relay.Profile{DisplayName: euii.Receive(agent + " Zyxwvut"), Email: euii.Receive(agent + "@zyxwvut.example")}, nil
	}))
	a, err := w.Store.AgentByDirectory(t.Context(), w.Organisation.ID, id.DirectoryID)
	must(t, err)
	_, err = w.Relay.AgentSays(t.Context(), a, s.Conversation, uuid.New(), euii.Receive("Of course, Zyxwvut"))
	must(t, err)
	if end {
		_, err = w.Relay.VisitorEnds(t.Context(), s)
		must(t, err)
	}
	return talk{s, a}
}

func (w world) visitor(k talk) control.Subject {
	return control.Subject{Organisation: w.Organisation.ID, Kind: "visitor", ID: k.Visitor}
}
func (w world) conversation(k talk) control.Subject {
	return control.Subject{Organisation: w.Organisation.ID, Kind: "conversation", ID: k.Conversation}
}
func (w world) agent(k talk) control.Subject {
	return control.Subject{Organisation: w.Organisation.ID, Kind: "agent", ID: k.agent.ID}
}

func (w world) count(t testing.TB, sql string, args ...any) (n int) {
	t.Helper()
	must(t, w.DB.Superuser(t).QueryRow(t.Context(), sql, args...).Scan(&n))
	return n
}

// said gives how many records there are of an action, and the facts of the last.
func (w world) said(t testing.TB, action string) (n int, facts map[string]string) {
	t.Helper()
	for _, e := range w.Entries(t) {
		if e.Action == action {
			n, facts = n+1, e.Facts
		}
	}
	return n, facts
}

func wants(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("the error is %v, want %v", err, want)
	}
}
