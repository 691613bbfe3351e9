package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// restrictions remember whose data is restricted. They are few, and every question asks for them, so each organisation's are
// read at most once a second: a restriction is in force at once where it was made, and within a second on other nodes.
type restrictions struct {
	mu sync.Mutex
	m  map[uuid.UUID]*restricted
}

type restricted struct {
	mu  sync.Mutex
	at  time.Time
	who map[uuid.UUID]bool
}

const restrictedFresh = time.Second

func (r *restrictions) of(organisation uuid.UUID) *restricted {
	r.mu.Lock()
	defer r.mu.Unlock()
	one, ok := r.m[organisation]
	if !ok {
		if r.m == nil {
			r.m = make(map[uuid.UUID]*restricted)
		}
		one = &restricted{}
		r.m[organisation] = one
	}
	return one
}

const (
	sqlRestricted = "select subject_id from access.restricted($1)"
	sqlRestrict   = "select access.restrict($1, $2, $3)"
)

// Restricted tells whether the data of a person is restricted.
func (g *Gate) Restricted(ctx context.Context, organisation, subject uuid.UUID) (bool, error) {
	one := g.restrictions.of(organisation)
	one.mu.Lock()
	defer one.mu.Unlock()
	if now := g.now(); one.who == nil || now.Sub(one.at) >= restrictedFresh || now.Before(one.at) {
		rows, err := g.pool.Query(ctx, sqlRestricted, organisation)
		if err != nil {
			return false, fmt.Errorf("%w: get restrictions: %w", ErrUnavailable, err)
		}
		who := make(map[uuid.UUID]bool)
		var id uuid.UUID
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			who[id] = true
			return nil
		})
		if err != nil {
			return false, fmt.Errorf("%w: get restrictions: %w", ErrUnavailable, err)
		}
		one.at, one.who = now, who
	}
	return one.who[subject], nil
}

// restricted tells it of whom a question is about: of a conversation that is its visitor.
func (g *Gate) restricted(ctx context.Context, q question) (bool, error) {
	if len(q.fields) == 0 {
		return false, nil // nothing is shown
	}
	about := q.subject
	if q.subjectKind == "conversation" {
		about = q.scene.Conversation.Visitor
	}
	return g.Restricted(ctx, q.scene.Conversation.Organisation, about)
}

// Restrict restricts what is done with a person's data, or lifts that, after it was decided and is on record. It is in force when Restrict returns.
func (g *Gate) Restrict(ctx context.Context, who principal.Principal, organisation uuid.UUID, kind string, subject uuid.UUID, on bool, facts map[string]string) error {
	action := "request.lift"
	if on {
		action = "request.restrict"
	}
	if err := g.actAbout(ctx, who, organisation, kind, subject, action, facts, Grounds{}); err != nil {
		return err
	}
	if _, err := g.pool.Exec(ctx, sqlRestrict, organisation, subject, on); err != nil {
		return fmt.Errorf("%w: restrict: %w", ErrUnavailable, err)
	}
	one := g.restrictions.of(organisation)
	one.mu.Lock()
	one.who = nil
	one.mu.Unlock()
	return nil
}

// actAbout asks policy whether somebody may carry on what a person asks about his data, and records it either way.
func (g *Gate) actAbout(ctx context.Context, who principal.Principal, organisation uuid.UUID, kind string, subject uuid.UUID, action string, facts map[string]string, on Grounds) error {
	audience := "service"
	switch who.Kind() {
	case "visitor", "agent":
		audience = who.Kind()
	case "admin":
		audience = "console"
	}
	_, err := g.authorize(ctx, question{who: who, purpose: policy.HandleRequest, audience: audience, subjectKind: kind, subject: subject, kind: audit.Administration,
		action: action, facts: facts, grounds: on, scene: Scene{Conversation: chat.Conversation{Organisation: organisation}}})
	return err
}
