package pglog

import (
	"time"

	"github.com/google/uuid"
)

// MACOfOne authenticates a batch of one record without a ticket, all of whose columns are "a".
func MACOfOne(k DecisionKey, organisation uuid.UUID, size int64, at time.Time, body []byte) []byte {
	m := newMessage(recordLabel, 512).uuid(organisation).int8(size).time(at).bytes(nil).texts("").
		int8s().uuids().uuids().texts().int4s().int4s().bytes().texts("disclosure")
	for range 7 {
		m.texts("a")
	}
	return k.mac(m.int4s().int8s().bytes().bytes(body))
}
