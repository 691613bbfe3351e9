package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
)

// volumes counts the disclosures to each actor within the last hour. The log is what counts: it is read when an actor is
// first met and then once a minute at most; in between, what this process releases is added. So the count is never below
// what is recorded, but for what other nodes released within that minute.
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

// volume is the count of one actor. Whoever asks is counted before he is answered, so that many at once cannot all pass
// below the limit.
type volume struct {
	mu     sync.Mutex
	count  int       // as last read, and what was asked for since
	open   int       // asked for and not settled
	since  int       // what the reading that is under way may not see
	readAt time.Time // when the last reading began; zero before the first
}

func (v *volumes) of(k volumeKey) *volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	one, ok := v.m[k]
	if !ok {
		if v.m == nil || len(v.m) >= volumesSize {
			v.m = make(map[volumeKey]*volume)
		}
		one = &volume{}
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
	organisation := q.scene.Conversation.Organisation
	v := g.volumes.of(volumeKey{organisation, actor})
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := g.now(); now.Sub(v.readAt) >= volumeReadEvery {
		first, before := v.readAt.IsZero(), v.readAt
		v.readAt, v.since = now, v.open
		if !first { // the others go on with the count as it is; at first there is none, and they wait
			v.mu.Unlock()
		}
		n, err := g.disclosuresTo(ctx, organisation, actor)
		if !first {
			v.mu.Lock()
		}
		if err != nil {
			v.readAt = before
			return 0, nil, err
		}
		v.count = n + v.since
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
