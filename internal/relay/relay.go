// Package relay holds the use cases of a conversation: open, say, join, end, follow. It decides nothing about EUII
// itself: what comes in is sealed, and what goes out passes a reader it was handed.
package relay

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/bus"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/store"
)

// sessionValid is how long a visitor's token lives.
const sessionValid = 24 * time.Hour

// ErrNoProfile means that no agent profile has the email of whoever pressed Join, and none may be made.
var ErrNoProfile = errors.New("no agent profile has this email")

// Session is a visitor's right to one conversation.
type Session = store.Session

// Relay is safe for concurrent use.
type Relay struct {
	store *store.Store
	bus   *bus.Bus
	gate  *access.Gate

	agentToVisitor access.Reader[euii.Visitor]
	forVisitor     access.Conversations[euii.Visitor]
	matcher        access.Matcher
	collectVisitor access.Collector
	collectAgent   access.Collector

	now   func() time.Time
	joins singleflight.Group
}

// Config is what a Relay is made of. Readers holds the capabilities it was handed; it uses those to show an agent to a
// visitor, to follow a conversation as its visitor, to match an agent who joins, and to collect what comes in.
type Config struct {
	Store          *store.Store
	Bus            *bus.Bus
	Gate           *access.Gate // for sealing and references only
	AgentToVisitor access.Reader[euii.Visitor]
	ForVisitor     access.Conversations[euii.Visitor]
	Matcher        access.Matcher
	CollectVisitor access.Collector
	CollectAgent   access.Collector
	Now            func() time.Time
}

// New makes a Relay.
func New(c Config) *Relay {
	return &Relay{
		store: c.Store, bus: c.Bus, gate: c.Gate, agentToVisitor: c.AgentToVisitor, forVisitor: c.ForVisitor, matcher: c.Matcher,
		collectVisitor: c.CollectVisitor, collectAgent: c.CollectAgent, now: c.Now,
	}
}

// OnMoved calls f whenever some node says that a conversation has a new event.
func (r *Relay) OnMoved(f func(conversation uuid.UUID)) error { return r.bus.OnMoved(f) }

// OnTyping calls f whenever a party of a conversation types.
func (r *Relay) OnTyping(f func(organisation, conversation uuid.UUID, by chat.Party)) error {
	return r.bus.OnTyping(f)
}

// Stale tells which conversations have events after the given numbers; it repairs lost hints.
func (r *Relay) Stale(ctx context.Context, organisation uuid.UUID, conversations []uuid.UUID, after []int64) ([]uuid.UUID, error) {
	return r.store.Moved(ctx, organisation, conversations, after)
}

// WidgetByKey finds a widget; chat.ErrNotFound when there is none.
func (r *Relay) WidgetByKey(ctx context.Context, key string) (chat.Widget, error) {
	return r.store.WidgetByKey(ctx, key)
}

// Organisation loads an organisation.
func (r *Relay) Organisation(ctx context.Context, id uuid.UUID) (chat.Organisation, error) {
	all, err := r.store.Organisations(ctx)
	if err != nil {
		return chat.Organisation{}, err
	}
	i := slices.IndexFunc(all, func(o chat.Organisation) bool { return o.ID == id })
	if i < 0 {
		return chat.Organisation{}, chat.ErrNotFound
	}
	return all[i], nil
}

// Scene loads what policy has to know about a conversation.
func (r *Relay) Scene(ctx context.Context, organisation, conversation uuid.UUID) (access.Scene, error) {
	c, settings, err := r.store.Conversation(ctx, organisation, conversation)
	if err != nil {
		return access.Scene{}, err
	}
	return access.Scene{Conversation: c, Settings: settings}, nil
}

// ErrNotice means that the notice in force has first to be accepted. Nothing was disclosed.
var ErrNotice = errors.New("the notice in force has not been accepted")

// Notice is what visitors or agents have to accept now.
func (r *Relay) Notice(ctx context.Context, organisation uuid.UUID, audience chat.Audience) (chat.Notice, error) {
	return r.store.Notice(ctx, organisation, audience)
}

// OpenRequest is a visitor's first message.
type OpenRequest struct {
	Widget                  chat.Widget
	Language, NoticeVersion string
	ClientID                uuid.UUID
	Text, Name, Email       euii.Inbound
}

// Opened is a new conversation. Token is the visitor's right to it; only its hash is kept.
type Opened struct {
	Conversation uuid.UUID
	Token        string
	ExpiresAt    time.Time
	Seq          int64
	Handle       string
}

// Open starts a conversation. That the notice was accepted and that a name or email is collected is recorded before
// anything is stored; of another version than the one in force it is ErrNotice. A repeat of the same request within ten
// minutes answers with the same conversation.
func (r *Relay) Open(ctx context.Context, q OpenRequest) (Opened, error) {
	organisation := q.Widget.Organisation
	token, hash := newToken()
	expires := r.now().Add(sessionValid).UTC().Truncate(time.Second)
	if session, err := r.store.Reopen(ctx, q.Widget, q.ClientID, hash, expires); !errors.Is(err, chat.ErrNotFound) {
		return r.reopened(ctx, session, token, err)
	}
	notice, err := r.Notice(ctx, organisation, chat.ForVisitors)
	if err != nil {
		return Opened{}, err
	}
	if q.NoticeVersion != strconv.Itoa(notice.Version) {
		return Opened{}, ErrNotice
	}
	c := chat.Conversation{
		Organisation: organisation, ID: uuid.New(), Widget: q.Widget.ID, Visitor: uuid.New(), State: chat.Waiting, Language: q.Language, LastSeq: 1,
	}
	visitorKey, visitorRef, err := r.gate.NewKey(organisation, c.Visitor)
	if err != nil {
		return Opened{}, err
	}
	conversationKey, _, err := r.gate.NewKey(organisation, c.ID)
	if err != nil {
		return Opened{}, err
	}
	scene := access.Scene{Conversation: c}
	who := principal.NewVisitor(organisation, c.Visitor)
	if err := r.gate.Acknowledge(ctx, who.Kind(), visitorRef, scene, notice.Version, c.Language); err != nil {
		return Opened{}, err
	}
	values, err := r.collectVisitor.Collect(ctx, who, scene, c.Visitor, visitorKey, []uuid.UUID{c.ID},
		access.Field{Name: euii.VisitorDisplayName, Value: q.Name}, access.Field{Name: euii.VisitorEmail, Value: q.Email})
	if err != nil {
		return Opened{}, err
	}
	first, err := r.gate.SealMessage(ctx, organisation, c.ID, q.ClientID, conversationKey, q.Text)
	if err != nil {
		return Opened{}, err
	}
	err = r.store.Open(ctx, store.Opening{
		Conversation: c, Notice: notice.Version, VisitorRef: visitorRef, ClientID: q.ClientID, First: first, Values: values, TokenHash: hash, ExpiresAt: expires,
		Keys: []store.Key{{ID: c.Visitor, Kind: "visitor", Wrapped: visitorKey}, {ID: c.ID, Kind: "conversation", Wrapped: conversationKey}},
	})
	if errors.Is(err, store.ErrOpened) {
		session, err := r.store.Reopen(ctx, q.Widget, q.ClientID, hash, expires)
		return r.reopened(ctx, session, token, err)
	}
	if err != nil {
		return Opened{}, err
	}
	r.bus.Moved(c.ID)
	return Opened{c.ID, token, expires, 1, chat.Handle("visitor", visitorRef)}, nil
}

func (r *Relay) reopened(ctx context.Context, s Session, token string, err error) (Opened, error) {
	if err != nil {
		return Opened{}, err
	}
	handle, err := r.Handle(ctx, s.Organisation, "visitor", s.Visitor)
	if err != nil {
		return Opened{}, err
	}
	return Opened{s.Conversation, token, s.ExpiresAt, 1, handle}, nil
}

// Handle is the neutral name of a visitor or agent.
func (r *Relay) Handle(ctx context.Context, organisation uuid.UUID, kind string, id uuid.UUID) (string, error) {
	ref, err := r.gate.Reference(ctx, organisation, id)
	if errors.Is(err, access.ErrErased) {
		return kind + " (erased)", nil
	}
	if err != nil {
		return "", err
	}
	return chat.Handle(kind, ref), nil
}

func newToken() (string, [sha256.Size]byte) {
	var b [32]byte
	rand.Read(b[:])
	token := base64.RawURLEncoding.EncodeToString(b[:])
	return token, sha256.Sum256([]byte(token))
}

// Session finds the session of a token; chat.ErrNotFound when it is unknown or has ended.
func (r *Relay) Session(ctx context.Context, token string) (Session, error) {
	return r.store.Session(ctx, sha256.Sum256([]byte(token)))
}

// VisitorSays appends a visitor's message and answers with its number; a repeat of the same clientID with the first's.
func (r *Relay) VisitorSays(ctx context.Context, s Session, clientID uuid.UUID, text euii.Inbound) (int64, error) {
	return r.say(ctx, s.Organisation, s.Conversation, chat.PartyVisitor, s.Visitor, clientID, text)
}

func (r *Relay) say(ctx context.Context, organisation, conversation uuid.UUID, by chat.Party, id, item uuid.UUID, text euii.Inbound) (int64, error) {
	sealed, err := r.gate.SealMessage(ctx, organisation, conversation, item, nil, text)
	if err != nil {
		return 0, err
	}
	seq, err := r.store.Say(ctx, by, id, sealed)
	if err != nil {
		return 0, err
	}
	r.bus.Moved(conversation)
	return seq, nil
}

// VisitorTypes passes on that the visitor is typing; it may be lost.
func (r *Relay) VisitorTypes(_ context.Context, s Session) {
	r.bus.Typing(s.Organisation, s.Conversation, chat.PartyVisitor)
}

// VisitorEnds closes the conversation.
func (r *Relay) VisitorEnds(ctx context.Context, s Session) (int64, error) {
	return r.end(ctx, s.Organisation, s.Conversation, chat.PartyVisitor, s.Visitor)
}

func (r *Relay) end(ctx context.Context, organisation, conversation uuid.UUID, by chat.Party, id uuid.UUID) (int64, error) {
	seq, moved, err := r.store.Close(ctx, organisation, conversation, by, id)
	if err == nil && moved {
		r.bus.Moved(conversation)
	}
	return seq, err
}

// Follower is one visitor connection. It is not for concurrent use.
type Follower struct {
	relay     *Relay
	session   Session
	following *access.Following[euii.Visitor]
	name      euii.Cleared[euii.Visitor]
	nameOf    uuid.UUID
}

// Item is one event, cleared for this visitor.
type Item struct {
	Event chat.Event
	Text  euii.Cleared[euii.Visitor] // of a message
	Agent string                     // handle, when an agent did it
	Name  euii.Cleared[euii.Visitor] // on joining: what policy lets the visitor see
}

// Follow starts a connection; nothing is read before the first Next.
func (r *Relay) Follow(s Session) *Follower {
	return &Follower{relay: r, session: s, following: r.forVisitor.Follow(principal.NewVisitor(s.Organisation, s.Visitor))}
}

// FollowLimit is how many events one Next gives at most; when it gives that many there may be more.
const FollowLimit = 200

// Next gives the events after a number. The agent's name is disclosed, and recorded, once per connection.
func (f *Follower) Next(ctx context.Context, after int64) ([]Item, error) {
	scene, err := f.relay.Scene(ctx, f.session.Organisation, f.session.Conversation)
	if err != nil {
		return nil, err
	}
	messages, err := f.following.Read(ctx, scene, after, FollowLimit)
	if err != nil {
		return nil, err
	}
	items := make([]Item, len(messages))
	for i, m := range messages {
		items[i] = Item{Event: m.Event, Text: m.Text}
		if m.By != chat.PartyAgent {
			continue
		}
		if items[i].Agent, err = f.relay.Handle(ctx, f.session.Organisation, "agent", m.ByID); err != nil {
			return nil, err
		}
		if m.Kind == chat.AgentJoined {
			if items[i].Name, err = f.agentName(ctx, scene, m.ByID); err != nil {
				return nil, err
			}
		}
	}
	return items, nil
}

func (f *Follower) agentName(ctx context.Context, scene access.Scene, agent uuid.UUID) (euii.Cleared[euii.Visitor], error) {
	if f.nameOf == agent {
		return f.name, nil
	}
	who := principal.NewVisitor(f.session.Organisation, f.session.Visitor)
	d, err := f.relay.agentToVisitor.Read(ctx, who, scene, agent, f.session.Conversation)
	switch {
	case errors.Is(err, access.ErrDenied), errors.Is(err, access.ErrErased):
		return euii.Cleared[euii.Visitor]{}, nil // the visitor sees the handle
	case err != nil:
		return euii.Cleared[euii.Visitor]{}, err
	}
	f.name, f.nameOf = d.Value(euii.AgentDisplayName), agent
	return f.name, nil
}

// Identity is who a validated activity came from.
type Identity struct {
	Organisation uuid.UUID
	DirectoryID  string
	TeamsUser    string
	ServiceURL   string
	Personal     string // his 1:1 chat, where that is where he was
}

// Profile is what the bot service tells about the one member who clicked.
type Profile struct{ DisplayName, GivenName, Surname, Email euii.Inbound }

// AgentJoins makes whoever pressed Join the agent of a waiting conversation. The claim comes first, in the database;
// only its winner is fetched, and only once he has accepted the notice in force: otherwise it is ErrNotice, and the claim stays
// his for some minutes. Pressing again is harmless. Other errors: chat.ErrTaken, chat.ErrClosed, chat.ErrNotFound,
// ErrNoProfile, access.ErrDenied, access.ErrUnavailable; after any of them the claim is given back.
func (r *Relay) AgentJoins(ctx context.Context, by Identity, conversation uuid.UUID, fetch func(context.Context) (Profile, error)) error {
	scene, err := r.Scene(ctx, by.Organisation, conversation)
	if err != nil {
		return err
	}
	agent, err := r.store.AgentByDirectory(ctx, by.Organisation, by.DirectoryID)
	known := err == nil
	if errors.Is(err, store.ErrAgentClosed) {
		return ErrNoProfile
	}
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return err
	}
	switch {
	case scene.Conversation.State == chat.Closed:
		return chat.ErrClosed
	case scene.Conversation.State == chat.Active && known && scene.Conversation.Agent == agent.ID:
		return nil
	}
	// A click that is delivered twice at the same time is one click: the member is fetched once.
	_, err, _ = r.joins.Do(conversation.String()+by.DirectoryID, func() (any, error) {
		if err := r.store.Claim(ctx, by.Organisation, conversation, by.DirectoryID); err != nil {
			return nil, err
		}
		err := r.informed(ctx, by)
		if errors.Is(err, ErrNotice) {
			return nil, errors.Join(err, r.store.Hold(ctx, by.Organisation, conversation, by.DirectoryID))
		}
		if err == nil {
			err = r.join(ctx, by, scene, agent, known, fetch)
		}
		if err != nil {
			release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return nil, errors.Join(err, r.store.Release(release, by.Organisation, conversation, by.DirectoryID))
		}
		return nil, nil
	})
	if errors.Is(err, chat.ErrTaken) && r.holds(ctx, by, conversation) {
		return nil // the other delivery of the same click, on another node, was faster
	}
	if err == nil {
		r.bus.Moved(conversation)
	}
	return err
}

// informed is nil when somebody has accepted the notice in force for agents.
func (r *Relay) informed(ctx context.Context, by Identity) error {
	notice, err := r.Notice(ctx, by.Organisation, chat.ForAgents)
	if err != nil {
		return err
	}
	person, err := r.gate.ReferenceText(ctx, by.Organisation, "directory", by.DirectoryID)
	if err != nil {
		return err
	}
	accepted, err := r.store.HasAccepted(ctx, by.Organisation, chat.ForAgents, person, notice.Version)
	if err == nil && !accepted {
		err = ErrNotice
	}
	return err
}

// AgentAccepts records that whoever pressed Accept accepts a version of the notice for agents; ErrNotice when another is in force.
// Pressing again is harmless.
func (r *Relay) AgentAccepts(ctx context.Context, by Identity, conversation uuid.UUID, version int, language string) error {
	scene, err := r.Scene(ctx, by.Organisation, conversation)
	if err != nil {
		return err
	}
	notice, err := r.Notice(ctx, by.Organisation, chat.ForAgents)
	if err != nil {
		return err
	}
	if version != notice.Version {
		return ErrNotice
	}
	if err := r.informed(ctx, by); !errors.Is(err, ErrNotice) {
		return err
	}
	person, err := r.gate.ReferenceText(ctx, by.Organisation, "directory", by.DirectoryID)
	if err != nil {
		return err
	}
	ref := person
	if agent, err := r.store.AgentByDirectory(ctx, by.Organisation, by.DirectoryID); err == nil {
		if ref, err = r.gate.Reference(ctx, by.Organisation, agent.ID); err != nil {
			return err
		}
	} else if !errors.Is(err, chat.ErrNotFound) {
		return err
	}
	if err := r.gate.Acknowledge(ctx, "agent", ref, scene, version, language); err != nil {
		return err
	}
	return r.store.Accepted(ctx, by.Organisation, chat.ForAgents, person, version, language)
}

func (r *Relay) holds(ctx context.Context, by Identity, conversation uuid.UUID) bool {
	agent, err := r.store.AgentByDirectory(ctx, by.Organisation, by.DirectoryID)
	if err != nil {
		return false
	}
	c, _, err := r.store.Conversation(ctx, by.Organisation, conversation)
	return err == nil && c.State == chat.Active && c.Agent == agent.ID
}

func (r *Relay) join(ctx context.Context, by Identity, scene access.Scene, agent store.Agent, known bool, fetch func(context.Context) (Profile, error)) error {
	var key *store.Key
	if !known {
		agent = store.Agent{Organisation: by.Organisation, ID: uuid.New()}
		wrapped, _, err := r.gate.NewKey(by.Organisation, agent.ID)
		if err != nil {
			return err
		}
		key = &store.Key{ID: agent.ID, Kind: "agent", Wrapped: wrapped}
	}
	profile, err := fetch(ctx)
	if err != nil {
		return fmt.Errorf("fetch member: %w", err)
	}
	if euii.InboundEmpty(profile.Email) {
		return ErrNoProfile
	}
	index, err := r.matcher.Match(ctx, principal.NewAgent(by.Organisation, agent.ID), scene, profile.Email)
	if err != nil {
		return err
	}
	if agent, key, err = r.profile(ctx, by, scene, agent, key, index); err != nil {
		return err
	}
	agent.DirectoryID, agent.TeamsUser, agent.ServiceURL, agent.Personal = by.DirectoryID, by.TeamsUser, by.ServiceURL, cmp.Or(by.Personal, agent.Personal)
	var wrapped []byte
	if key != nil {
		wrapped = key.Wrapped
	}
	values, err := r.collectAgent.Collect(ctx, principal.NewAgent(by.Organisation, agent.ID), scene, agent.ID, wrapped,
		[]uuid.UUID{scene.Conversation.ID, agent.ID},
		access.Field{Name: euii.AgentDisplayName, Value: profile.DisplayName}, access.Field{Name: euii.AgentGivenName, Value: profile.GivenName},
		access.Field{Name: euii.AgentSurname, Value: profile.Surname}, access.Field{Name: euii.AgentEmail, Value: profile.Email})
	if err != nil {
		return err
	}
	_, err = r.store.Join(ctx, store.Joining{Conversation: scene.Conversation.ID, Agent: agent, NewKey: key, Index: index, Values: values})
	return err
}

// profile finds whose profile the email's index belongs to. A profile that is bound to another directory id is not
// inherited: an address that was given to somebody else must not hand over his history.
func (r *Relay) profile(ctx context.Context, by Identity, scene access.Scene, agent store.Agent, key *store.Key, index euii.Index) (store.Agent, *store.Key, error) {
	if key == nil {
		return agent, nil, nil
	}
	id, err := r.store.FindByIndex(ctx, by.Organisation, index)
	if err == nil {
		found, err := r.store.Agent(ctx, by.Organisation, id)
		if err == nil && found.Closed {
			return agent, nil, ErrNoProfile
		}
		if err == nil && found.DirectoryID == "" {
			return found, nil, nil
		}
		if err != nil && !errors.Is(err, chat.ErrNotFound) {
			return agent, nil, err
		}
	} else if !errors.Is(err, chat.ErrNotFound) {
		return agent, nil, err
	}
	if !scene.Settings.CreateAgents {
		return agent, nil, ErrNoProfile
	}
	return agent, key, nil
}

// AgentSays appends an agent's message. item identifies the Teams activity, so that a redelivery answers with the
// first's number.
func (r *Relay) AgentSays(ctx context.Context, agent store.Agent, conversation, item uuid.UUID, text euii.Inbound) (int64, error) {
	return r.say(ctx, agent.Organisation, conversation, chat.PartyAgent, agent.ID, item, text)
}

// AgentTypes passes on that the agent is typing; it may be lost.
func (r *Relay) AgentTypes(agent store.Agent) {
	if agent.Current != uuid.Nil {
		r.bus.Typing(agent.Organisation, agent.Current, chat.PartyAgent)
	}
}

// AgentEnds closes a conversation the agent holds; ending it again is harmless.
func (r *Relay) AgentEnds(ctx context.Context, agent store.Agent, conversation uuid.UUID) error {
	_, err := r.end(ctx, agent.Organisation, conversation, chat.PartyAgent, agent.ID)
	return err
}

// AgentReplies is AgentSays from the reply box of a card. A redelivered click comes with a new activity id, so the same text
// by the same agent within a minute or two is taken for the same reply; repeated tells that it was.
func (r *Relay) AgentReplies(ctx context.Context, agent store.Agent, conversation uuid.UUID, text euii.Inbound) (seq int64, repeated bool, err error) {
	minute := r.now().Unix() / 60
	var item uuid.UUID
	for _, m := range []int64{minute - 1, minute} {
		if item, err = r.gate.MessageID(ctx, agent.Organisation, conversation, agent.ID, m, text); err != nil {
			return 0, false, err
		}
		if seq, err = r.store.Said(ctx, agent.Organisation, conversation, agent.ID, item); !errors.Is(err, chat.ErrNotFound) {
			return seq, true, err
		}
	}
	seq, err = r.AgentSays(ctx, agent, conversation, item, text)
	return seq, false, err
}

// AgentTransfers gives a conversation back to the channel, where its card waits for another agent.
func (r *Relay) AgentTransfers(ctx context.Context, agent store.Agent, conversation uuid.UUID) error {
	moved, err := r.store.Transfer(ctx, agent.Organisation, conversation, agent.ID)
	if err == nil && moved {
		r.bus.Moved(conversation)
	}
	return err
}
