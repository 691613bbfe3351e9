package euii

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"counterfoil/internal/access/internal/grant"
)

// Inbound is plaintext that has just arrived from a visitor or from Teams. It decodes from JSON, and its only way
// out is the keyring's Seal. The functions of this file ask questions about it or shorten it; none gives it away.
type Inbound struct{ concealed }

// Receive wraps text that arrived from outside.
func Receive(s string) Inbound { return Inbound{conceal(s)} }

// UnmarshalJSON takes a JSON string; null is empty. The error never quotes the input, as encoding/json's own would.
func (in *Inbound) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*in = Inbound{}
		return nil
	}
	var s string
	if json.Unmarshal(b, &s) != nil {
		return errors.New("euii: a text was expected here")
	}
	*in = Receive(s)
	return nil
}

// InboundEmpty reports whether the text is empty or white space.
func InboundEmpty(in Inbound) bool { return strings.TrimSpace(in.plain()) == "" }

// InboundLen is the length of the text in bytes.
func InboundLen(in Inbound) int { return len(in.plain()) }

// InboundEqualFold reports whether the text, trimmed, is the word given by the program; it is how commands are recognised.
func InboundEqualFold(in Inbound, word string) bool {
	return strings.EqualFold(strings.TrimSpace(in.plain()), word)
}

// InboundIs reports whether the text, trimmed, is exactly one that the program knows already.
func InboundIs(in Inbound, text string) bool { return strings.TrimSpace(in.plain()) == text }

// InboundTrim removes white space around the text.
func InboundTrim(in Inbound) Inbound { return Receive(strings.TrimSpace(in.plain())) }

// InboundWithout removes every occurrence of the parts (the mention texts of a Teams message) and trims the rest.
func InboundWithout(in Inbound, parts ...Inbound) Inbound {
	s := in.plain()
	for _, p := range parts {
		if part := p.plain(); part != "" {
			s = strings.ReplaceAll(s, part, "")
		}
	}
	return Receive(strings.TrimSpace(s))
}

// InboundJoin puts texts together with a separator, leaving empty ones out.
func InboundJoin(sep string, parts ...Inbound) Inbound {
	var all []string
	for _, p := range parts {
		if s := strings.TrimSpace(p.plain()); s != "" {
			all = append(all, s)
		}
	}
	return Receive(strings.Join(all, sep))
}

// CheckInbound refuses text that is longer than limit bytes, not UTF-8, or holds control or bidirectional-override
// characters (line breaks are let through when lines is true). The error names the rule, never the text.
func CheckInbound(in Inbound, limit int, lines bool) error {
	s := in.plain()
	if len(s) > limit {
		return fmt.Errorf("euii: %d bytes, at most %d are allowed", len(s), limit)
	}
	if !utf8.ValidString(s) {
		return errors.New("euii: the text is not valid UTF-8")
	}
	for _, r := range s {
		switch {
		case lines && (r == '\n' || r == '\t'):
		case unicode.IsControl(r):
			return fmt.Errorf("euii: control character %U is not allowed", r)
		case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return fmt.Errorf("euii: text direction override %U is not allowed", r)
		}
	}
	return nil
}

// ForSealing gives the keyring the plaintext it is about to seal or to index. Nobody outside internal/access can
// make a valid grant.Sealing; without one the answer is empty.
func ForSealing(s grant.Sealing, in Inbound) (string, bool) {
	if !s.Valid() {
		return "", false
	}
	return in.plain(), true
}
