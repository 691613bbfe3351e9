package euii

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"counterfoil/internal/access/internal/grant"
)

// The audiences. Each is a place where a cleared value may be written, and nothing else.
type (
	// Visitor is the widget of the one visitor of the conversation.
	Visitor struct{}
	// Agent is the 1:1 chat of one agent in Teams.
	Agent struct{}
	// Channel is the Teams channel that shows the card; many people read it.
	Channel struct{}
	// Admin is a page of the console, shown once to the administrator who asked.
	Admin struct{}
	// Archive is the archive of an organisation, sealed to a key of its own.
	Archive struct{}
)

// Audience is the closed set of audiences.
type Audience interface {
	Visitor | Agent | Channel | Admin | Archive
}

// Cleared is plaintext that policy has released to audience A and whose record is durable.
//
// The audience is part of its structure, though it takes no room: Go converts between types of one structure, so without
// it a value for one audience, or an Inbound, could be converted into a value for another.
type Cleared[A Audience] struct {
	_ [0]A
	concealed
}

// Clear makes a Cleared from text opened under a grant that is still valid; an inert grant gives an empty value.
// Only the access package calls it: nobody else can name grant.Grant.
func Clear[A Audience](g grant.Grant, text string) Cleared[A] {
	if g.Until().IsZero() {
		return Cleared[A]{}
	}
	return Cleared[A]{concealed: conceal(text)}
}

// Reveal is the single exit to a plain string. It is a function and not a method, so that templates cannot call
// it; the vet tool holds the list of packages that may.
func Reveal[A Audience](c Cleared[A]) string { return c.plain() }

// Present reports whether there is any text.
func Present[A Audience](c Cleared[A]) bool { return c.plain() != "" }

// FirstLine keeps the first line, shortened to at most limit bytes at a character's border with an ellipsis.
func FirstLine[A Audience](c Cleared[A], limit int) Cleared[A] {
	s := strings.TrimSpace(c.plain())
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > limit {
		s = s[:limit]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s = strings.TrimSpace(s) + "…"
	}
	return Cleared[A]{concealed: conceal(s)}
}

// Mask shortens a value to what the policy decision "masked" lets through: the first character of a name, and of an
// email address the first character and the domain, of an address its neighbourhood.
func Mask(f Field, text string) string {
	first := func(s string) string {
		_, n := utf8.DecodeRuneInString(s)
		return s[:n] + "•••"
	}
	if text == "" {
		return ""
	}
	switch f {
	case AgentEmail, VisitorEmail:
		if at := strings.LastIndexByte(text, '@'); at > 0 {
			return first(text[:at]) + text[at:]
		}
		return "•••"
	case AgentDisplayName, AgentGivenName, AgentSurname, VisitorDisplayName:
		return first(text)
	case AdminAddress:
		if a, err := netip.ParseAddr(text); err == nil {
			bits := 24
			if a.Is6() {
				bits = 48
			}
			return netip.PrefixFrom(a, bits).Masked().String()
		}
		return "•••"
	default:
		return "•••"
	}
}
