package archive_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/archive"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is everything below the edges, with a desk that archives into a directory.
type world struct {
	*relaytest.World
	dir      string
	config   archive.Config
	identity *age.X25519Identity
	operator principal.Operator
	key      string
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{World: relaytest.New(t, relaytest.Options{}), dir: t.TempDir()}
	key, err := audit.NewKey(make([]byte, 32)) // that of the world
	must(t, err)
	w.identity, err = age.GenerateX25519Identity()
	must(t, err)
	w.operator = principal.NewOperator(w.Organisation.ID, "ops")
	w.config = archive.Config{Pool: w.Pool, Gate: w.Gate, Log: w.Log, Key: key, Target: publish.Directory(w.dir), Scene: w.Relay.Scene,
		VisitorToArchive: w.Readers.VisitorToArchive, AgentToArchive: w.Readers.AgentToArchive, ConversationToArchive: w.Readers.ConversationToArchive}
	must(t, w.desk().SetPlan(t.Context(), w.operator, w.Organisation.ID, w.identity.Recipient().String(), 1, access.Grounds{}))
	w.key, err = w.Log.VerifierKey(w.Organisation.Origin)
	must(t, err)
	return w
}

func (w world) desk() *archive.Desk { return archive.New(w.config) }

func (w world) job() principal.Job { return principal.NewJob(w.Organisation.ID, "archive") }

// made makes an archive and gives it with its directory.
func (w world) made(t testing.TB) (archive.Archive, string) {
	t.Helper()
	a, any, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil)
	if err != nil || !any || a.Made == nil {
		t.Fatalf("no archive was made: %+v %v %v", a, any, err)
	}
	return a, w.path(a)
}

func (w world) path(a archive.Archive) string {
	return filepath.Join(w.desk().Place(w.Organisation.ID), a.Name)
}

// talk is a conversation between a visitor and an agent, which is over.
func (w world) talk(t testing.TB, visitor, agent string) relay.Session {
	t.Helper()
	o, err := w.Relay.Open(t.Context(), relay.OpenRequest{
		Widget: w.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("Can you help me, asks " + visitor + "?"),
		Name: euii.Receive(visitor + " Zyxwvut"), Email: euii.Receive(visitor + "@zyxwvut.example"),
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
	_, err = w.Relay.AgentSays(t.Context(), a, s.Conversation, uuid.New(), euii.Receive("Of course, says "+agent))
	must(t, err)
	_, err = w.Relay.VisitorEnds(t.Context(), s)
	must(t, err)
	return s
}

// said gives the records of an action.
func (w world) said(t testing.TB, action string) (all []audit.Entry) {
	t.Helper()
	for _, e := range w.Entries(t) {
		if e.Action == action {
			all = append(all, e)
		}
	}
	return all
}
