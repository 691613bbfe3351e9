package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
)

// volumes counts the disclosures to each actor within the last hour. The log is what counts, but a disclosure to somebody
// who is shown little does not wait for it: of the parties of conversations it is read only once this process has
// released unread of them, and of everybody once a minute at most. In between, what this process releases is added. So the
// count is below the log by at most unread for each node and each start of one, and by what other nodes release within
// that minute.
type volumes struct {
	mu sync.Mutex
	m  map[volumeKey]*volume
}

type volumeKey struct {
	organisation uuid.UUID
	actor        string // reference
}

const (
	volumeWithin    = time.Hour
	volumeReadEvery = time.Minute
	volumesSize     = 1 << 16
)

// unread is how much is released to an actor before the log is asked. Conversations have very many parties, who may all come
// back at once; asking for each would take longer than answering them. The limits are far above it.
func unread(kind string) int {
	switch kind {
	case "visitor", "agent", "channel":
		return 20
	}
	return 0
}

// volume is the count of one actor. Whoever asks is counted before he is answered, so that many at once cannot all pass
// below the limit.
type volume struct {
	mu    sync.Mutex
	count int       // as last read, and what was asked for since
	open  int       // asked for and not settled
	since int       // what the reading that is under way may not see
	read  bool      // whether the count contains what the log says
	from  time.Time // when the last reading began, or the counting without one
}

func (v *volumes) of(k volumeKey, now time.Time) *volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	one, ok := v.m[k]
	if !ok {
		if v.m == nil || len(v.m) >= volumesSize {
			v.m = make(map[volumeKey]*volume)
		}
		one = &volume{from: now}
		v.m[k] = one
	}
	return one
}

// reserve says how much was disclosed to the actor and counts one more, if the question is for a disclosure. settle must
// be called with whether it was released.
func (g *Gate) reserve(ctx context.Context, q question, actor string) (recent int, settle func(released bool), err error) {
	if q.kind != audit.Disclosure {
		return 0, func(bool) {}, nil
	}
	now, few := g.now(), unread(q.who.Kind())
	organisation := q.scene.Conversation.Organisation
	v := g.volumes.of(volumeKey{organisation, actor}, now)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch age := now.Sub(v.from); {
	case !v.read && v.count >= few:
		// There is no count to go on with, so the others wait for this reading.
		v.since = v.open
		n, err := g.disclosuresTo(ctx, organisation, actor)
		if err != nil {
			return 0, nil, err
		}
		v.count, v.read, v.from = n+v.since, true, now
	case v.read && age >= volumeReadEvery:
		before := v.from
		v.from, v.since = now, v.open
		v.mu.Unlock() // the others go on with the count as it is
		n, err := g.disclosuresTo(ctx, organisation, actor)
		v.mu.Lock()
		if err != nil {
			v.from = before
			return 0, nil, err
		}
		v.count = n + v.since
		v.read = v.count >= few
	case !v.read && age >= volumeWithin:
		v.count, v.from = v.open, now
	}
	recent = v.count
	v.count, v.since, v.open = v.count+1, v.since+1, v.open+1
	return recent, func(released bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.open--
		if !released {
			v.count, v.since = v.count-1, v.since-1
		}
	}, nil
}

const sqlDisclosuresTo = "select access.disclosures_to($1, $2, $3)"

func (g *Gate) disclosuresTo(ctx context.Context, organisation uuid.UUID, actor string) (int, error) {
	var n int
	if err := g.pool.QueryRow(ctx, sqlDisclosuresTo, organisation, actor, int(volumeWithin.Seconds())).Scan(&n); err != nil {
		return 0, fmt.Errorf("%w: count disclosures: %w", ErrUnavailable, err)
	}
	return n, nil
}
