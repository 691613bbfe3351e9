// Package principal names who asks: a closed set of actors, each made only from what proved who it is.
package principal

import "github.com/google/uuid"

// Principal is an actor. The set is closed: nobody outside this package can add a kind.
type Principal interface {
	Kind() string
	Organisation() uuid.UUID
	// ID is the subject whose keyed reference stands for the actor in records. For a channel, the operator and a job it
	// is the organisation, told apart by Name.
	ID() uuid.UUID
	// Name tells actors apart that have no subject of their own (a Teams channel id, an operating system user, a task); it is keyed before it is recorded.
	Name() string
	sealed()
}

type actor struct {
	kind         string
	organisation uuid.UUID
	id           uuid.UUID
	name         string
}

func (a actor) Kind() string            { return a.kind }
func (a actor) Organisation() uuid.UUID { return a.organisation }
func (a actor) ID() uuid.UUID           { return a.id }
func (a actor) Name() string            { return a.name }
func (actor) sealed()                   {}

// Visitor writes in a widget; proved by the session token of his conversation.
type Visitor struct{ actor }

// Agent answers in Teams; proved by a validated activity of the bot service.
type Agent struct{ actor }

// Channel is the Teams channel that shows the cards, as an audience of many.
type Channel struct{ actor }

// Operator is whoever has a shell on the host.
type Operator struct{ actor }

// Job is the service itself at one of its tasks.
type Job struct{ actor }

// NewVisitor names a visitor whose session was checked.
func NewVisitor(organisation, visitor uuid.UUID) Visitor {
	return Visitor{actor{"visitor", organisation, visitor, ""}}
}

// NewAgent names an agent whose activity was validated.
func NewAgent(organisation, agent uuid.UUID) Agent {
	return Agent{actor{"agent", organisation, agent, ""}}
}

// NewChannel names the channel a card is posted to.
func NewChannel(organisation uuid.UUID, channelID string) Channel {
	return Channel{actor{"channel", organisation, organisation, channelID}}
}

// NewOperator names the operating system user that runs a command on the host.
func NewOperator(organisation uuid.UUID, user string) Operator {
	return Operator{actor{"operator", organisation, organisation, user}}
}

// NewJob names the service at the task of that name.
func NewJob(organisation uuid.UUID, task string) Job {
	return Job{actor{"job", organisation, organisation, task}}
}
