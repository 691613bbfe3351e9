package pglog

import (
	"time"

	"github.com/google/uuid"
)

// MACOfOne authenticates a batch of one record without a ticket.
func MACOfOne(k DecisionKey, organisation uuid.UUID, size int64, at time.Time, body []byte) []byte {
	m := newMessage(recordLabel, 512).uuid(organisation).int8(size).time(at).bytes(nil).texts("").
		int8s().uuids().uuids().texts().int4s().int4s().bytes().int4s().int8s().bytes().bytes(body)
	return k.mac(m)
}
