package access_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/store"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// canary is part of every name, address and message of these tests, and must be part of nothing that is recorded, logged
// or said in an error.
const canary = "Zyxwvut"

// scene is a conversation with a visitor who wrote and an agent who joined.
type scene struct {
	*relaytest.World
	access.Scene
	Session relay.Session
	Agent   store.Agent
}

func newScene(t *testing.T, o relaytest.Options) scene {
	t.Helper()
	w := relaytest.New(t, o)
	return sceneOf(t, w, "alice")
}

// sceneOf opens a further conversation, which the named agent joins.
func sceneOf(t *testing.T, w *relaytest.World, agent string) scene {
	t.Helper()
	s := scene{World: w, Session: opened(t, w)}
	s.Agent = joined(t, w, s.Session, agent)
	return s.now(t)
}

// now loads the conversation as it stands.
func (s scene) now(t *testing.T) scene {
	t.Helper()
	var err error
	s.Scene, err = s.Relay.Scene(t.Context(), s.Organisation.ID, s.Session.Conversation)
	must(t, err)
	return s
}

func opened(t *testing.T, w *relaytest.World) relay.Session {
	t.Helper()
	o, err := w.Relay.Open(t.Context(), relay.OpenRequest{
		Widget: w.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive(canary + ", can you help me?"),
		Name: euii.Receive("Vera " + canary), Email: euii.Receive("vera@" + canary + ".example"),
	})
	must(t, err)
	s, err := w.Relay.Session(t.Context(), o.Token)
	must(t, err)
	return s
}

func joined(t *testing.T, w *relaytest.World, s relay.Session, name string) store.Agent {
	t.Helper()
	id := relay.Identity{Organisation: w.Organisation.ID, DirectoryID: "aad-" + name, TeamsUser: "29:" + name, ServiceURL: "https://smba.example/"}
	must(t, w.Relay.AgentAccepts(t.Context(), id, s.Conversation, 1, "en"))
	must(t, w.Relay.AgentJoins(t.Context(), id, s.Conversation, func(context.Context) (relay.Profile, error) {
		return relay.Profile{
			DisplayName: euii.Receive(name + " " + canary), GivenName: euii.Receive(name), Surname: euii.Receive(canary),
			Email: euii.Receive(name + "@" + canary + ".example"),
		}, nil
	}))
	agent, err := w.Store.AgentByDirectory(t.Context(), w.Organisation.ID, id.DirectoryID)
	must(t, err)
	return agent
}

func (s scene) visitor() principal.Visitor {
	return principal.NewVisitor(s.Organisation.ID, s.Session.Visitor)
}
func (s scene) agent() principal.Agent { return principal.NewAgent(s.Organisation.ID, s.Agent.ID) }
func (s scene) channel() principal.Channel {
	return principal.NewChannel(s.Organisation.ID, "19:channel@thread.tacv2")
}

// reading is one way by which something leaves storage.
type reading struct {
	name string
	read func(context.Context, scene) (got []string, err error)
}

// readings are all of them, by the one who may.
func readings() []reading {
	return []reading{
		{"the visitor is shown the agent", func(ctx context.Context, s scene) ([]string, error) {
			d, err := s.Readers.AgentToVisitor.Read(ctx, s.visitor(), s.Scene, s.Agent.ID, s.Session.Conversation)
			return values(d), err
		}},
		{"the agent is introduced to the visitor", func(ctx context.Context, s scene) ([]string, error) {
			d, err := s.Readers.VisitorToAgent.Read(ctx, s.agent(), s.Scene, s.Session.Visitor, s.Session.Conversation)
			return values(d), err
		}},
		{"the channel is told who joined", func(ctx context.Context, s scene) ([]string, error) {
			d, err := s.Readers.JoinerToChannel.Read(ctx, s.channel(), s.Scene, s.Agent.ID, s.Session.Conversation)
			return values(d), err
		}},
		{"the visitor follows the conversation", func(ctx context.Context, s scene) ([]string, error) {
			return texts(s.Readers.ConversationForVisitor.Follow(s.visitor()).Read(ctx, s.Scene, 0, 10))
		}},
		{"the agent follows the conversation", func(ctx context.Context, s scene) ([]string, error) {
			return texts(s.Readers.ConversationForAgent.Follow(s.agent()).Read(ctx, s.Scene, 0, 10))
		}},
		{"the channel is shown the first line", func(ctx context.Context, s scene) ([]string, error) {
			line, err := s.Readers.FirstLineToChannel.Read(ctx, s.channel(), s.Scene)
			return present(nil, line), err
		}},
		{"the agent is matched by email", func(ctx context.Context, s scene) ([]string, error) {
			index, err := s.Readers.AgentMatcher.Match(ctx, s.agent(), s.Scene, euii.Receive("alice@"+canary+".example"))
			if len(index.Hash) == 0 {
				return nil, err
			}
			return []string{string(index.Hash)}, err
		}},
		{"something is collected about the visitor", func(ctx context.Context, s scene) ([]string, error) {
			sealed, err := s.Readers.VisitorCollector.Collect(ctx, s.visitor(), s.Scene, s.Session.Visitor, nil, []uuid.UUID{s.Session.Conversation},
				access.Field{Name: euii.VisitorDisplayName, Value: euii.Receive("Vera " + canary)})
			var got []string
			for _, v := range sealed {
				got = append(got, string(v.Ciphertext()))
			}
			return got, err
		}},
	}
}

func values[A euii.Audience](d access.Disclosed[A]) (all []string) {
	for f := range euii.Field(32) {
		all = present(all, d.Value(f))
	}
	return all
}

func texts[A euii.Audience](messages []access.Message[A], err error) (all []string, _ error) {
	for _, m := range messages {
		all = present(all, m.Text)
		if len(m.Sealed) > 0 {
			all = append(all, string(m.Sealed))
		}
	}
	return all, err
}

func present[A euii.Audience](all []string, c euii.Cleared[A]) []string {
	if euii.Present(c) {
		all = append(all, euii.Reveal(c))
	}
	return all
}

// denials counts the denials in the log and gives the last entry.
func denials(t *testing.T, w *relaytest.World) (n int, last audit.Entry) {
	t.Helper()
	for _, e := range w.Entries(t) {
		if e.Kind == audit.Denial {
			n++
		}
		last = e
	}
	return n, last
}

// asSuperuser runs statements that no role of the product may.
func asSuperuser(t *testing.T, w *relaytest.World, statements ...string) *pgx.Conn {
	t.Helper()
	conn := w.DB.Superuser(t)
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	return conn
}

// holdsNoCanary fails when an error or a record says what only the reader may see.
func holdsNoCanary(t *testing.T, what string, v any) {
	t.Helper()
	if strings.Contains(strings.ToLower(fmt.Sprintf("%v %+v", v, v)), strings.ToLower(canary)) {
		t.Errorf("%s holds EUII: %v", what, v)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
