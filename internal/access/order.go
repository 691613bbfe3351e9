package access

import (
	"context"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Order is something to be done to what is kept. The database does it because the record of it says so, and only what it says.
type Order struct {
	Organisation uuid.UUID
	Purpose      policy.Purpose
	Action       string
	SubjectKind  string    // empty when it is about nobody
	Subject      uuid.UUID // zero then
	Retention    policy.Retention
	Facts        map[string]string // ids, counts and times, never EUII
	On           Grounds
}

// Order asks policy whether somebody may have it done, and records it either way. It gives the number of the record.
func (g *Gate) Order(ctx context.Context, who principal.Principal, o Order) (uint64, error) {
	q := question{who: who, purpose: o.Purpose, audience: "service", kind: audit.Administration, action: o.Action, facts: o.Facts, grounds: o.On, retention: o.Retention,
		subjectKind: o.SubjectKind, subject: o.Subject, scene: Scene{Conversation: chat.Conversation{Organisation: o.Organisation}}}
	switch who.(type) {
	case principal.Admin:
		q.audience = "console"
	case principal.Visitor:
		q.audience = "visitor"
	}
	if o.SubjectKind == "conversation" {
		q.scene.Conversation.ID = o.Subject
	}
	a, err := g.authorize(ctx, q)
	if err != nil {
		return 0, err
	}
	return a.receipt.Index(), nil
}
