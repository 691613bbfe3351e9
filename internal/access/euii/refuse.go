package euii

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
)

// ErrNotEncodable is what every encoder gets: writing a token where data was meant would corrupt silently.
var ErrNotEncodable = errors.New("euii: values of this kind cannot be encoded; seal them or reveal them at the edge")

const token = "‹euii›"

// concealed is embedded by Inbound and Cleared. The text sits behind a function value (see the package comment),
// which also makes the types incomparable with ==.
type concealed struct{ text func() string }

func conceal(s string) concealed { return concealed{func() string { return s }} }

func (c concealed) plain() string {
	if c.text == nil {
		return ""
	}
	return c.text()
}

// Format prints the token for every verb.
func (concealed) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(token)) }

// String is the token.
func (concealed) String() string { return token }

// GoString is the token.
func (concealed) GoString() string { return token }

// LogValue is the token.
func (concealed) LogValue() slog.Value { return slog.StringValue(token) }

// MarshalJSON refuses.
func (concealed) MarshalJSON() ([]byte, error) { return nil, ErrNotEncodable }

// MarshalText refuses; it also stops XML.
func (concealed) MarshalText() ([]byte, error) { return nil, ErrNotEncodable }

// MarshalBinary refuses; it also stops gob.
func (concealed) MarshalBinary() ([]byte, error) { return nil, ErrNotEncodable }

// GobEncode refuses.
func (concealed) GobEncode() ([]byte, error) { return nil, ErrNotEncodable }

// Value refuses to become an SQL argument.
func (concealed) Value() (driver.Value, error) { return nil, ErrNotEncodable }
