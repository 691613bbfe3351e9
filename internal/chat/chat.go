// Package chat holds the pure values of a conversation: its states, its events, and which change is allowed when.
package chat

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// State is where a conversation stands.
type State string

// The states of a conversation.
const (
	Waiting State = "waiting" // no agent yet
	Active  State = "active"  // an agent has joined
	Closed  State = "closed"
)

// Kind is the kind of an event. Every event has a number in its conversation and can be replayed.
type Kind string

// The kinds of events.
const (
	Message     Kind = "message"
	AgentJoined Kind = "agent.joined"
	AgentLeft   Kind = "agent.left" // gave the conversation back; it waits again
	Ended       Kind = "closed"
)

// Party is who caused an event.
type Party string

// The parties of a conversation.
const (
	PartyVisitor Party = "visitor"
	PartyAgent   Party = "agent"
	PartySystem  Party = "system"
)

// MaxMessage is the longest message, in bytes.
const MaxMessage = 4096

// Errors of the domain; edges turn them into what a person reads.
var (
	ErrNotFound  = errors.New("there is no such conversation")
	ErrClosed    = errors.New("the conversation is closed")
	ErrTaken     = errors.New("somebody else has joined the conversation")
	ErrNotJoined = errors.New("this agent has not joined the conversation")
)

// Organisation is the tenant.
type Organisation struct {
	ID       uuid.UUID
	Name     string
	Tenant   string // Entra tenant id, empty until Teams is connected
	Origin   string // of its audit log
	Language string // "en" or "fr": the language of cards and bot texts
	Settings Settings
}

// Settings are the organisation's choices that policy sees as data.
type Settings struct {
	ShareVisitorEmail bool // the agent who joins sees the visitor's email and phone plain, otherwise masked
	CreateAgents      bool // the first Join of an unknown agent makes a profile
	NameInChannel     bool // "joined by" on the channel card bears the name plain, otherwise masked
	Limits            Limits
}

// Limits are how much may be disclosed within an hour to one actor of a kind, where the organisation has a number of its own; 0 where it
// has none, and what the policy has as usual counts.
type Limits struct {
	Visitor, Agent, Channel, Admin, Operator, Job int
}

// Widget is one place on a website where visitors may write.
type Widget struct {
	Organisation uuid.UUID
	ID           uuid.UUID
	Key          string
	Name         string
	Sites        []string // origins that may embed it
}

// Conversation is the state of one conversation, without any EUII.
type Conversation struct {
	Organisation uuid.UUID
	ID           uuid.UUID
	Widget       uuid.UUID
	Visitor      uuid.UUID
	Agent        uuid.UUID // zero while waiting
	State        State
	Language     string
	LastSeq      int64
	OpenedAt     time.Time
	ClosedBy     Party  // empty while open
	Thread       string // Teams conversation id of the channel card, empty until posted
	Card         string // activity id of the channel card
	Intro        string // activity id of the introduction in the agent's 1:1 chat, empty until sent
	ServiceURL   string // where the channel card was posted
	Handle       string // neutral name shown in place of the visitor, such as "visitor k3f9"
}

// Event is one numbered step of a conversation. Body stays sealed here.
type Event struct {
	Seq      int64
	Kind     Kind
	By       Party
	ByID     uuid.UUID
	ClientID uuid.UUID // given by the sender, unique in the conversation; zero for events without one
	Sealed   []byte    // only for Message
	At       time.Time
}

// CanSay reports whether a party may write now.
func (c Conversation) CanSay(by Party, agent uuid.UUID) error {
	switch {
	case c.State == Closed:
		return ErrClosed
	case by == PartyAgent && (c.State != Active || c.Agent != agent):
		return ErrNotJoined
	}
	return nil
}

// Part says which part somebody plays in c, as policy sees it: "visitor", "agent" or "" for none.
func (c Conversation) Part(id uuid.UUID) string {
	switch {
	case id == uuid.Nil:
		return ""
	case id == c.Visitor:
		return "visitor"
	case id == c.Agent:
		return "agent"
	}
	return ""
}

// Handle makes the neutral name of a person or conversation from its keyed reference.
func Handle(kind, reference string) string {
	return fmt.Sprintf("%s %.5s", kind, reference)
}
