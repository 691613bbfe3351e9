// Package grant holds the values that open sealed EUII and read incoming plaintext.
//
// Only packages below internal/access can import it, so nobody else can name its types.
// A type that cannot be named can still be made as a zero value by type inference;
// therefore every zero value here is inert: it covers nothing and unlocks nothing.
package grant

import (
	"time"

	"github.com/google/uuid"
)

// Grant says which sealed values may be opened, and until when. It is issued only after the record of the
// disclosure is committed. The zero Grant covers nothing.
type Grant struct {
	organisation uuid.UUID
	subject      uuid.UUID
	row          uuid.UUID
	fields       uint32
	record       uint64
	until        time.Time
	issued       bool
}

// Issue makes a Grant for the fields (a bit set of field numbers) of one subject in one row.
// record is the index of the committed record in the organisation's log.
func Issue(organisation, subject, row uuid.UUID, fields uint32, record uint64, until time.Time) Grant {
	return Grant{organisation, subject, row, fields, record, until, true}
}

// Covers reports whether g opens that field of that subject's row at now.
func (g Grant) Covers(organisation, subject, row uuid.UUID, field uint8, now time.Time) bool {
	return g.issued && field < 32 &&
		g.organisation == organisation && g.subject == subject && g.row == row &&
		g.fields&(1<<field) != 0 && now.Before(g.until)
}

// Record is the index of the record the grant was issued for.
func (g Grant) Record() uint64 { return g.record }

// Until is the moment the grant ends.
func (g Grant) Until() time.Time { return g.until }

// Sealing lets the keyring read an incoming value in order to seal it. The zero Sealing lets nobody read anything.
type Sealing struct{ issued bool }

// ForSealing makes a Sealing; the keyring is its only caller.
func ForSealing() Sealing { return Sealing{true} }

// Valid reports whether s was made by ForSealing.
func (s Sealing) Valid() bool { return s.issued }
