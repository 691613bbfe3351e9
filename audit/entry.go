package audit

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of one entry. They bound what a reader must hold in memory and keep a leaf well below the 65,535 bytes
// that a tlog-tiles bundle can express.
const (
	MaxEntry  = 16<<10 - 1 // bytes of the canonical form
	maxString = 256        // bytes of any string before escaping, but for
	maxLong   = 512        // reasons and the values of facts
	maxCount  = 32         // members of a list or of facts
)

// entryVersion is the "v" of the canonical form. Another layout gets another number; entries already written keep theirs.
const entryVersion = 1

// timeLayout is RFC 3339 in UTC with exactly six fractional digits: what PostgreSQL keeps, so a stored time and a
// hashed time cannot differ.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// Kind says what sort of act an entry records.
type Kind string

const (
	Disclosure     Kind = "disclosure"     // a value was released
	Denial         Kind = "denial"         // a release was refused
	Collection     Kind = "collection"     // a value came in and was sealed
	Administration Kind = "administration" // an act on the system itself
)

// The values of Entry.Decision.
const (
	DecisionAllow  = "allow"
	DecisionMasked = "masked"
	DecisionDeny   = "deny"
)

// Party is somebody an entry speaks of. Ref is a keyed reference, never a name or an address.
type Party struct{ Kind, Ref string }

// Entry is one record of the log. It holds references and names of fields, never the values that were read.
//
// Seq, Time, Organisation, Kind, Action and Nonce are always present; everything else may be empty. Two entries are the
// same record exactly if their canonical bytes are equal.
type Entry struct {
	Seq          uint64    // position in the organisation's log, from 0
	Time         time.Time // whole microseconds, 1970 to 9999
	Organisation string
	Kind         Kind
	Action       string // the purpose of a disclosure or denial, else the act, such as "organisation.create"
	Actor        Party
	Audience     string
	Subject      Party
	Fields       []string // names of what was asked for; order does not matter, none twice
	Masked       []string // names of what was released masked; order does not matter, none twice
	Decision     string   // "", DecisionAllow, DecisionMasked or DecisionDeny
	Rule         string
	Reasons      []string
	Policy       string // revision of the policy that decided
	Conversation string
	Request      string
	Peer         string            // keyed reference of the connection's address
	PeerNet      string            // keyed reference of its /24 or /48
	Address      string            // keyed reference of the derived client address
	AddressNet   string            // keyed reference of its /24 or /48
	Facts        map[string]string // the decision's input, for replay
	Nonce        [16]byte          // random: a leaf hash must not let anyone guess a record of few possible values
}

// Marshal returns the canonical bytes of e: one line of JSON, no blanks, no line end, members in the order
//
//	v seq time org kind action actor audience subject fields masked decision rule reasons policy
//	conversation request peer peer_net address address_net facts nonce
//
// Members that are empty are left out, except v, seq, time, org, kind, action and nonce. The names in fields, masked
// and facts ascend by byte value. In strings only the quotation mark and the backslash are escaped, each by a backslash
// before it; every other character stands for itself in UTF-8, and control characters (U+0000 to U+001F, U+007F to
// U+009F) are refused. So there is one encoding of an entry, and reading it needs nothing but a JSON parser.
//
// The error says which member is wrong and never repeats its value.
func (e Entry) Marshal() ([]byte, error) { return e.AppendTo(make([]byte, 0, 512)) }

// AppendTo appends the canonical bytes of e, as described at [Entry.Marshal], to b. On error b comes back as it was.
func (e Entry) AppendTo(b []byte) ([]byte, error) {
	w := encoder{b: b}
	w.raw(`{"v":1,"seq":`)
	w.b = strconv.AppendUint(w.b, e.Seq, 10)
	w.raw(`,"time":"`)
	w.time(e.Time)
	w.raw(`","org":`)
	w.required("org", e.Organisation)
	w.raw(`,"kind":`)
	switch e.Kind {
	case Disclosure, Denial, Collection, Administration:
	default:
		w.fail("kind", "is none of the four")
	}
	w.str("kind", string(e.Kind), maxString)
	w.raw(`,"action":`)
	w.required("action", e.Action)
	w.party(`,"actor":{`, "actor", e.Actor)
	w.member(`,"audience":`, "audience", e.Audience)
	w.party(`,"subject":{`, "subject", e.Subject)
	w.names(`,"fields":[`, "fields", e.Fields)
	w.names(`,"masked":[`, "masked", e.Masked)
	switch e.Decision {
	case "", DecisionAllow, DecisionMasked, DecisionDeny:
	default:
		w.fail("decision", "is none of allow, masked, deny")
	}
	w.member(`,"decision":`, "decision", e.Decision)
	w.member(`,"rule":`, "rule", e.Rule)
	w.list(`,"reasons":[`, "reasons", e.Reasons, maxLong)
	w.member(`,"policy":`, "policy", e.Policy)
	w.member(`,"conversation":`, "conversation", e.Conversation)
	w.member(`,"request":`, "request", e.Request)
	w.member(`,"peer":`, "peer", e.Peer)
	w.member(`,"peer_net":`, "peer_net", e.PeerNet)
	w.member(`,"address":`, "address", e.Address)
	w.member(`,"address_net":`, "address_net", e.AddressNet)
	w.facts(e.Facts)
	w.raw(`,"nonce":"`)
	if e.Nonce == [16]byte{} {
		w.fail("nonce", "is missing")
	}
	w.b = hex.AppendEncode(w.b, e.Nonce[:])
	w.raw(`"}`)
	if n := len(w.b) - len(b); w.err == nil && n > MaxEntry {
		w.err = fmt.Errorf("encode entry: %d bytes, at most %d are allowed", n, MaxEntry)
	}
	if w.err != nil {
		return b, w.err
	}
	return w.b, nil
}

// encoder appends members and keeps the first error.
type encoder struct {
	b   []byte
	err error
}

func (w *encoder) raw(s string) { w.b = append(w.b, s...) }

func (w *encoder) fail(member, why string) {
	if w.err == nil {
		w.err = fmt.Errorf("encode entry: %s %s", member, why)
	}
}

func (w *encoder) time(t time.Time) {
	t = t.UTC()
	if t.Year() < 1970 || t.Year() > 9999 {
		w.fail("time", "is outside 1970 to 9999")
		return
	}
	if t.Nanosecond()%1000 != 0 {
		w.fail("time", "has parts of a microsecond")
	}
	w.b = t.AppendFormat(w.b, timeLayout)
}

func (w *encoder) str(member, s string, limit int) {
	if len(s) > limit {
		w.fail(member, "is longer than "+strconv.Itoa(limit)+" bytes")
		return
	}
	w.b = append(w.b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			w.b = append(w.b, '\\', c)
			i++
		case c >= ' ' && c < 0x7f:
			w.b = append(w.b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				w.fail(member, "is not UTF-8")
				return
			}
			if unicode.IsControl(r) {
				w.fail(member, "has a control character")
				return
			}
			w.b = append(w.b, s[i:i+n]...)
			i += n
		}
	}
	w.b = append(w.b, '"')
}

func (w *encoder) required(member, s string) {
	if s == "" {
		w.fail(member, "is missing")
	}
	w.str(member, s, maxString)
}

func (w *encoder) member(prefix, member, s string) {
	if s == "" {
		return
	}
	w.raw(prefix)
	w.str(member, s, maxString)
}

func (w *encoder) party(prefix, member string, p Party) {
	if p == (Party{}) {
		return
	}
	w.raw(prefix)
	if p.Kind != "" {
		w.raw(`"kind":`)
		w.str(member, p.Kind, maxString)
	}
	if p.Ref != "" {
		if p.Kind != "" {
			w.raw(`,`)
		}
		w.raw(`"ref":`)
		w.str(member, p.Ref, maxString)
	}
	w.raw(`}`)
}

func (w *encoder) list(prefix, member string, list []string, limit int) {
	if len(list) == 0 {
		return
	}
	if len(list) > maxCount {
		w.fail(member, "has more than "+strconv.Itoa(maxCount)+" members")
		return
	}
	w.raw(prefix)
	for i, s := range list {
		if i > 0 {
			w.raw(`,`)
		}
		if s == "" {
			w.fail(member, "has an empty member")
		}
		w.str(member, s, limit)
	}
	w.raw(`]`)
}

func (w *encoder) names(prefix, member string, names []string) {
	if !slices.IsSorted(names) {
		names = slices.Sorted(slices.Values(names))
	}
	for i := 1; i < len(names); i++ {
		if names[i-1] == names[i] {
			w.fail(member, "names something twice")
		}
	}
	w.list(prefix, member, names, maxString)
}

func (w *encoder) facts(facts map[string]string) {
	if len(facts) == 0 {
		return
	}
	if len(facts) > maxCount {
		w.fail("facts", "has more than "+strconv.Itoa(maxCount)+" members")
		return
	}
	var room [maxCount]string
	names := room[:0]
	for name := range facts {
		if name == "" {
			w.fail("facts", "has an empty name")
		}
		names = append(names, name)
	}
	slices.Sort(names)
	w.raw(`,"facts":{`)
	for i, name := range names {
		if i > 0 {
			w.raw(`,`)
		}
		w.str("facts", name, maxString)
		w.raw(`:`)
		w.str("facts", facts[name], maxLong)
	}
	w.raw(`}`)
}

// ErrNotCanonical is wrapped by every error of [ParseEntry].
var ErrNotCanonical = errors.New("not a canonical entry")

// ParseEntry reads canonical bytes, as described at [Entry.Marshal], and accepts nothing else: whatever it returns
// without error marshals to exactly b. Fields and Masked come back sorted, Time in UTC.
func ParseEntry(b []byte) (Entry, error) {
	var s scanner
	if err := s.scan(b); err != nil {
		return Entry{}, err
	}
	str := func(t text) string { return string(s.content(t)) }
	list := func(texts []text) []string {
		var out []string
		for _, t := range texts {
			out = append(out, str(t))
		}
		return out
	}
	e := Entry{
		Seq:          s.seq,
		Time:         time.UnixMicro(s.micros).UTC(),
		Organisation: str(s.org),
		Kind:         Kind(str(s.kind)),
		Action:       str(s.action),
		Actor:        Party{str(s.actorKind), str(s.actorRef)},
		Audience:     str(s.audience),
		Subject:      Party{str(s.subjectKind), str(s.subjectRef)},
		Fields:       list(s.fields),
		Masked:       list(s.masked),
		Decision:     str(s.decision),
		Rule:         str(s.rule),
		Reasons:      list(s.reasons),
		Policy:       str(s.policy),
		Conversation: str(s.conversation),
		Request:      str(s.request),
		Peer:         str(s.peer),
		PeerNet:      str(s.peerNet),
		Address:      str(s.address),
		AddressNet:   str(s.addressNet),
	}
	if _, err := hex.Decode(e.Nonce[:], s.raw(s.nonce)); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrNotCanonical, err)
	}
	if len(s.facts) > 0 {
		e.Facts = make(map[string]string, len(s.facts)/2)
		for i := 0; i < len(s.facts); i += 2 {
			e.Facts[str(s.facts[i])] = str(s.facts[i+1])
		}
	}
	return e, nil
}
