// Package principal names who asks: a closed set of actors, each made only from what proved who it is.
package principal

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/ipallow"
	"counterfoil/internal/totp"
)

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

// Admin works in the console; proved by a one-time code and an admitted address.
type Admin struct {
	actor
	roles []string
	proof totp.Proof
	fresh totp.Fresh
	from  ipallow.Admission
}

// Roles are what he may be asked for.
func (a Admin) Roles() []string { return slices.Clone(a.roles) }

// ProvedAt is when he gave his password and, right after, the code.
func (a Admin) ProvedAt() time.Time { return a.proof.At() }

// Fresh is the second factor that he gave of late for one purpose; the zero Fresh when he gave none.
func (a Admin) Fresh() totp.Fresh { return a.fresh }

// SteppedUp is the administrator with a second factor that he gave for one purpose, if it is his.
func (a Admin) SteppedUp(f totp.Fresh) Admin {
	if f.Purpose() != "" && f.Admin() == a.id && f.Organisation() == a.organisation {
		a.fresh = f
	}
	return a
}

// Address is where he works from.
func (a Admin) Address() netip.Addr { return a.from.Address() }

// adminValid is how long a code proves who somebody is, at most.
const adminValid = 12 * time.Hour

// NewAdmin names an administrator. Both proofs have to speak of him and of his organisation.
func NewAdmin(organisation, admin uuid.UUID, roles []string, proof totp.Proof, from ipallow.Admission, now time.Time) (Admin, error) {
	switch {
	case admin == uuid.Nil || organisation == uuid.Nil || proof.Admin() != admin || proof.Organisation() != organisation:
		return Admin{}, errors.New("no one-time code proves who this administrator is")
	case from.Organisation() != organisation || !from.Address().IsValid():
		return Admin{}, errors.New("this administrator's address was not admitted")
	case now.Sub(proof.At()) > adminValid || proof.At().Sub(now) > time.Minute:
		return Admin{}, errors.New("this administrator's one-time code is too old, or from the future")
	}
	return Admin{actor{"admin", organisation, admin, ""}, slices.Clone(roles), proof, totp.Fresh{}, from}, nil
}

// Job is the service itself at one of its tasks.
type Job struct{ actor }

// Client is a program that reads the log over the network; proved by its token and an admitted address.
type Client struct {
	actor
	from ipallow.Admission
}

// Address is where it asks from.
func (c Client) Address() netip.Addr { return c.from.Address() }

// NewClient names the program that holds a token which was checked.
func NewClient(organisation, token uuid.UUID, from ipallow.Admission) (Client, error) {
	if organisation == uuid.Nil || token == uuid.Nil || from.Organisation() != organisation || !from.Address().IsValid() {
		return Client{}, errors.New("this program's address was not admitted")
	}
	return Client{actor{"client", organisation, organisation, token.String()}, from}, nil
}

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
