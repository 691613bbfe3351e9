package access

import (
	"context"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
)

// Unread is how much is released to a party of a conversation before the log is asked.
var Unread = unread("visitor")

// Reserve counts one disclosure to an actor, as a question does.
func (g *Gate) Reserve(ctx context.Context, who principal.Principal, organisation uuid.UUID, actor string) (int, func(bool), error) {
	return g.reserve(ctx, question{who: who, kind: audit.Disclosure, scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}}, actor)
}
