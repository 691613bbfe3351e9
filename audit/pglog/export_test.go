package pglog

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
)

// MACOfOne authenticates a batch of one record without a ticket.
func MACOfOne(k DecisionKey, organisation uuid.UUID, size int64, at time.Time, body []byte) []byte {
	m := newMessage(recordLabel, 512).uuid(organisation).int8(size).time(at).bytes(nil).texts("").
		int8s().uuids().uuids().texts().int4s().int4s().bytes().int4s().int8s().bytes().bytes(body)
	return k.mac(m)
}

// SetFew changes how many records are looked at one by one, for the rest of a test.
func SetFew(t *testing.T, n int64) {
	was := few
	few = n
	t.Cleanup(func() { few = was })
}

// Miscounted compares the counts alone.
func (l *Log) Miscounted(ctx context.Context, organisation uuid.UUID) ([]audit.Fault, error) {
	return l.miscounted(ctx, organisation)
}
