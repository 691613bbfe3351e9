// Package euii holds the three forms of end-user identifiable information: Inbound (can only be sealed),
// Sealed (ciphertext bound to its place) and Cleared (plaintext released for one audience).
//
// Inbound and Cleared print as a token in logs and refuse every encoder. They keep their text behind a function
// value, because fmt prints the raw memory of strings in unexported fields of an enclosing struct, past any
// Format or String method; of a function it prints only an address.
package euii

import (
	"fmt"

	"github.com/google/uuid"
)

// Field is one kind of EUII.
type Field uint8

// The closed list of fields. Numbers are part of the sealed form (AAD) and never change.
const (
	AgentDisplayName   Field = 1
	AgentGivenName     Field = 2
	AgentSurname       Field = 3
	AgentEmail         Field = 4
	VisitorDisplayName Field = 5
	VisitorEmail       Field = 6
	VisitorPhone       Field = 7
	VisitorAnswers     Field = 8
	MessageBody        Field = 9
	AdminAddress       Field = 10
)

var fieldNames = [...]string{
	AgentDisplayName:   "agent_display_name",
	AgentGivenName:     "agent_given_name",
	AgentSurname:       "agent_surname",
	AgentEmail:         "agent_email",
	VisitorDisplayName: "visitor_display_name",
	VisitorEmail:       "visitor_email",
	VisitorPhone:       "visitor_phone",
	VisitorAnswers:     "visitor_answers",
	MessageBody:        "message_body",
	AdminAddress:       "admin_address",
}

// String is the field's name in records, policy and SQL.
func (f Field) String() string {
	if f == 0 || int(f) >= len(fieldNames) {
		return fmt.Sprintf("field(%d)", uint8(f))
	}
	return fieldNames[f]
}

// ParseField finds the field of a name.
func ParseField(name string) (Field, bool) {
	for f := AgentDisplayName; int(f) < len(fieldNames); f++ {
		if fieldNames[f] == name {
			return f, true
		}
	}
	return 0, false
}

// Ref is the address of one sealed value: whose it is, which field, and the row it lies in (the subject's own
// profile, or the conversation whose history holds it). Item tells the messages of one conversation apart and is zero
// otherwise. All of it is authenticated with the ciphertext, so a value moved to another address does not open.
type Ref struct {
	Organisation, Subject, Row, Item uuid.UUID
	Field                            Field
}

// AAD is the additional authenticated data of a value sealed at r.
func (r Ref) AAD() []byte {
	b := make([]byte, 0, 2+1+4*16)
	b = append(b, 'c', 'f', byte(r.Field))
	b = append(b, r.Organisation[:]...)
	b = append(b, r.Subject[:]...)
	b = append(b, r.Row[:]...)
	return append(b, r.Item[:]...)
}

// Sealed is one sealed value. Only the keyring can open it, and only under a grant.
type Sealed struct {
	ref        Ref
	ciphertext []byte
	index      []byte
}

// NewSealed joins a ciphertext read from storage with the address it was read from. Nothing is trusted:
// opening fails unless the ciphertext was sealed at exactly that address.
func NewSealed(ref Ref, ciphertext []byte) Sealed { return Sealed{ref: ref, ciphertext: ciphertext} }

// Ref is the value's address.
func (s Sealed) Ref() Ref { return s.ref }

// Ciphertext is what storage keeps.
func (s Sealed) Ciphertext() []byte { return s.ciphertext }

// Found gives the value with the index by which its subject is to be found.
func (s Sealed) Found(by Index) Sealed {
	s.index = by.Hash
	return s
}

// Index is what the value is found by; nil when it is not.
func (s Sealed) Index() []byte { return s.index }

// Index is a keyed hash of one value, by which storage finds its subject without knowing the value.
type Index struct {
	Field Field
	Hash  []byte
}
