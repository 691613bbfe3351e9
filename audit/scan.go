package audit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"unicode"
	"unicode/utf8"
)

// scanner reads canonical entries without allocating: it is the grammar of [Entry.Marshal] turned around, and the inner
// loop of a verification. Its text values are places in the scanned bytes. A scanner is
// reused; scan overwrites everything.
type scanner struct {
	seq    uint64
	micros int64 // since 1970
	timeAt int32 // where the time begins

	org, kind, action, nonce text
	actorKind, actorRef      text
	subjectKind, subjectRef  text
	audience, decision, rule text
	policy, conversation     text
	request, peer, peerNet   text
	address, addressNet      text
	fields, masked, reasons  []text
	facts                    []text // name, value, name, value, ...

	b     []byte
	wrong int    // where the first violation was met, if what is not empty
	what  string // what was expected there
}

// text is the inside of a JSON string as it stands in the entry: where it begins and ends, and how many backslashes in it
// are not content. It holds no pointer, so that a scanner is cheap to overwrite.
type text struct{ start, end, escapes int32 }

func (t text) empty() bool { return t.start == t.end }

// raw returns t as it stands in the entry. It is the content if t has no escapes.
func (s *scanner) raw(t text) []byte { return s.b[t.start:t.end] }

// content returns what t says, in the entry's bytes if they can stand for it.
func (s *scanner) content(t text) []byte {
	raw := s.raw(t)
	if t.escapes == 0 {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' {
			i++
		}
		out = append(out, raw[i])
	}
	return out
}

// literal is a fixed text of at most 16 bytes, made to be compared as two words.
type literal struct {
	text       string
	head, tail uint64
	headMask   uint64 // the bytes of head that count
	tailMask   uint64
}

func lit(s string) literal {
	var b, m [16]byte
	copy(b[:], s)
	for i := range len(s) {
		m[i] = 0xff
	}
	return literal{
		text: s, head: binary.LittleEndian.Uint64(b[:]), tail: binary.LittleEndian.Uint64(b[8:]),
		headMask: binary.LittleEndian.Uint64(m[:]), tailMask: binary.LittleEndian.Uint64(m[8:]),
	}
}

// What stands between the values.
var (
	litSeq          = lit(`{"v":1,"seq":`)
	litTime         = lit(`,"time":"`)
	litOrg          = lit(`","org":`)
	litKind         = lit(`,"kind":`)
	litAction       = lit(`,"action":`)
	litActor        = lit(`,"actor":{`)
	litAudience     = lit(`,"audience":`)
	litSubject      = lit(`,"subject":{`)
	litFields       = lit(`,"fields":[`)
	litMasked       = lit(`,"masked":[`)
	litDecision     = lit(`,"decision":`)
	litRule         = lit(`,"rule":`)
	litReasons      = lit(`,"reasons":[`)
	litPolicy       = lit(`,"policy":`)
	litConversation = lit(`,"conversation":`)
	litRequest      = lit(`,"request":`)
	litPeer         = lit(`,"peer":`)
	litPeerNet      = lit(`,"peer_net":`)
	litAddress      = lit(`,"address":`)
	litAddressNet   = lit(`,"address_net":`)
	litFacts        = lit(`,"facts":{`)
	litNonce        = lit(`,"nonce":"`)
	litEnd          = lit(`"}`)
	litKindFirst    = lit(`"kind":`)
	litRef          = lit(`"ref":`)
)

// scan reads b wholly. The error wraps ErrNotCanonical and says where and what, without any of the content.
//
// Each step below takes the place it begins at and returns where it ended. One that fails notes why and returns the end
// of b, where nothing else can succeed, so the first failure is the one that is told.
func (s *scanner) scan(b []byte) error {
	*s = scanner{b: b, fields: s.fields[:0], masked: s.masked[:0], reasons: s.reasons[:0], facts: s.facts[:0]}
	if len(b) > MaxEntry {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrNotCanonical, len(b), MaxEntry)
	}
	i, ok := s.want(0, &litSeq), false
	i = s.number(i)
	i = s.want(i, &litTime)
	s.timeAt = int32(i)
	i = s.time(i)
	i = s.want(i, &litOrg)
	s.org, i = s.nonEmpty(i, maxString)
	i = s.want(i, &litKind)
	s.kind, i = s.nonEmpty(i, maxString)
	switch Kind(s.raw(s.kind)) {
	case Disclosure, Denial, Collection, Administration:
	default:
		i = s.fail(i, "one of the four kinds")
	}
	i = s.want(i, &litAction)
	s.action, i = s.nonEmpty(i, maxString)
	if i, ok = s.has(i, &litActor); ok {
		s.actorKind, s.actorRef, i = s.party(i)
	}
	i = s.member(i, &litAudience, &s.audience)
	if i, ok = s.has(i, &litSubject); ok {
		s.subjectKind, s.subjectRef, i = s.party(i)
	}
	if i, ok = s.has(i, &litFields); ok {
		s.fields, i = s.names(i, s.fields)
	}
	if i, ok = s.has(i, &litMasked); ok {
		s.masked, i = s.names(i, s.masked)
	}
	if i, ok = s.has(i, &litDecision); ok {
		s.decision, i = s.nonEmpty(i, maxString)
		switch string(s.raw(s.decision)) {
		case DecisionAllow, DecisionMasked, DecisionDeny:
		default:
			i = s.fail(i, "allow, masked or deny")
		}
	}
	i = s.member(i, &litRule, &s.rule)
	if i, ok = s.has(i, &litReasons); ok {
		s.reasons, i = s.list(i, s.reasons, maxLong)
	}
	i = s.member(i, &litPolicy, &s.policy)
	i = s.member(i, &litConversation, &s.conversation)
	i = s.member(i, &litRequest, &s.request)
	i = s.member(i, &litPeer, &s.peer)
	i = s.member(i, &litPeerNet, &s.peerNet)
	i = s.member(i, &litAddress, &s.address)
	i = s.member(i, &litAddressNet, &s.addressNet)
	if i, ok = s.has(i, &litFacts); ok {
		i = s.pairs(i)
	}
	i = s.want(i, &litNonce)
	i = s.hex(i)
	i = s.want(i, &litEnd)
	if i != len(b) {
		s.fail(i, "the end")
	}
	if s.what != "" {
		return fmt.Errorf("%w: byte %d: expected %s", ErrNotCanonical, s.wrong, s.what)
	}
	return nil
}

func (s *scanner) fail(i int, what string) int {
	if s.what == "" {
		s.wrong, s.what = i, what
	}
	return len(s.b)
}

// has steps over l if it stands at i.
func (s *scanner) has(i int, l *literal) (int, bool) {
	if b := s.b[i:]; len(b) >= 16 {
		if (binary.LittleEndian.Uint64(b)^l.head)&l.headMask|(binary.LittleEndian.Uint64(b[8:])^l.tail)&l.tailMask != 0 {
			return i, false
		}
	} else if len(b) < len(l.text) || string(b[:len(l.text)]) != l.text {
		return i, false
	}
	return i + len(l.text), true
}

func (s *scanner) want(i int, l *literal) int {
	i, ok := s.has(i, l)
	if !ok {
		return s.fail(i, l.text)
	}
	return i
}

func (s *scanner) hasByte(i int, c byte) bool { return i < len(s.b) && s.b[i] == c }

func (s *scanner) wantByte(i int, c byte) int {
	if !s.hasByte(i, c) {
		return s.fail(i, string(c))
	}
	return i + 1
}

func (s *scanner) number(i int) int {
	const tenth = math.MaxUint64 / 10
	b, start, n := s.b, i, uint64(0)
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		digit := uint64(b[i] - '0')
		if n >= tenth && (n > tenth || digit > math.MaxUint64%10) || n == 0 && i > start {
			return s.fail(i, "a number below 2^64 without leading zeros")
		}
		n = 10*n + digit
	}
	if i == start {
		return s.fail(i, "a number")
	}
	s.seq = n
	return i
}

// two reads two decimal digits at offset i of b, which the caller knows to be there; ok turns false if they are not digits.
func two(b []byte, i int, ok *bool) int {
	hi, lo := b[i]-'0', b[i+1]-'0'
	if hi > 9 || lo > 9 {
		*ok = false
	}
	return int(hi)*10 + int(lo)
}

// time reads a time in timeLayout.
func (s *scanner) time(i int) int {
	if len(s.b)-i < len(timeLayout) {
		return s.fail(i, "a time")
	}
	t, ok := s.b[i:i+len(timeLayout)], true
	year := two(t, 0, &ok)*100 + two(t, 2, &ok)
	month, day := two(t, 5, &ok), two(t, 8, &ok)
	hour, minute, second := two(t, 11, &ok), two(t, 14, &ok), two(t, 17, &ok)
	micro := two(t, 20, &ok)*10000 + two(t, 22, &ok)*100 + two(t, 24, &ok)
	ok = ok && t[4] == '-' && t[7] == '-' && t[10] == 'T' && t[13] == ':' && t[16] == ':' && t[19] == '.' && t[26] == 'Z'
	if !ok || year < 1970 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour > 23 || minute > 59 || second > 59 {
		return s.fail(i, "a time as 2006-01-02T15:04:05.000000Z")
	}
	// Days since 1970-01-01 with years that begin in March, so that the leap day comes last.
	y, m := year, month-3
	if m < 0 {
		y, m = y-1, m+12
	}
	days := 365*y + y/4 - y/100 + y/400 + (153*m+2)/5 + day - 1 - 719468
	s.micros = ((int64(days)*24+int64(hour))*60+int64(minute))*60_000_000 + int64(second)*1_000_000 + int64(micro)
	return i + len(timeLayout)
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special marks, by the high bit of a byte of x, the bytes that are not plain ASCII content of a string: below 0x20, the
// quotation mark, the backslash, and 0x7f and above. Only the lowest mark is exact; borrows and carries may add marks
// above it. A byte for which one of the differences is negative without equality has its own high bit set, and is marked
// rightly anyway.
func special(x uint64) uint64 {
	return (x | (x + ones) | (x - ones*' ') | ((x ^ ones*'"') - ones) | ((x ^ ones*'\\') - ones)) & highs
}

// str reads a string of at most limit bytes of content.
func (s *scanner) str(i, limit int) (text, int) {
	b, escapes := s.b, 0
	if i >= len(b) || b[i] != '"' {
		return text{}, s.fail(i, "a string")
	}
	i++
	start := i
	for {
		for i+8 <= len(b) {
			if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			return text{}, s.fail(i, "the end of a string")
		}
		c := b[i]
		if c == '"' {
			if i-start-escapes > limit {
				return text{}, s.fail(i, "a shorter string")
			}
			return text{int32(start), int32(i), int32(escapes)}, i + 1
		}
		n := 1
		switch {
		case c == '\\':
			if i+1 >= len(b) || b[i+1] != '"' && b[i+1] != '\\' {
				return text{}, s.fail(i, "an escaped quotation mark or backslash")
			}
			escapes++
			n = 2
		case c < ' ' || c >= 0x7f:
			var r rune
			r, n = utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 || unicode.IsControl(r) {
				return text{}, s.fail(i, "UTF-8 without control characters")
			}
		}
		i += n
	}
}

func (s *scanner) nonEmpty(i, limit int) (text, int) {
	t, next := s.str(i, limit)
	if t.empty() {
		next = s.fail(i, "a string that is not empty")
	}
	return t, next
}

func (s *scanner) member(i int, prefix *literal, t *text) int {
	i, ok := s.has(i, prefix)
	if ok {
		*t, i = s.nonEmpty(i, maxString)
	}
	return i
}

func (s *scanner) party(i int) (kind, ref text, next int) {
	i, ok := s.has(i, &litKindFirst)
	if ok {
		kind, i = s.nonEmpty(i, maxString)
		if s.hasByte(i, '}') {
			return kind, ref, i + 1
		}
		i = s.wantByte(i, ',')
	}
	i = s.want(i, &litRef)
	ref, i = s.nonEmpty(i, maxString)
	return kind, ref, s.wantByte(i, '}')
}

func (s *scanner) list(i int, list []text, limit int) ([]text, int) {
	for i < len(s.b) {
		var t text
		t, i = s.nonEmpty(i, limit)
		list = append(list, t)
		if s.hasByte(i, ']') {
			return list, i + 1
		}
		if len(list) == maxCount {
			i = s.fail(i, "fewer members")
		}
		i = s.wantByte(i, ',')
	}
	return list, s.fail(i, "the end of a list")
}

func (s *scanner) names(i int, list []text) ([]text, int) {
	list, i = s.list(i, list, maxString)
	for n := 1; n < len(list); n++ {
		if bytes.Compare(s.content(list[n-1]), s.content(list[n])) >= 0 {
			i = s.fail(i, "ascending names")
		}
	}
	return list, i
}

func (s *scanner) pairs(i int) int {
	for i < len(s.b) {
		var name, value text
		name, i = s.nonEmpty(i, maxString)
		i = s.wantByte(i, ':')
		value, i = s.str(i, maxLong)
		if n := len(s.facts); n > 0 && bytes.Compare(s.content(s.facts[n-2]), s.content(name)) >= 0 {
			i = s.fail(i, "ascending names")
		}
		s.facts = append(s.facts, name, value)
		if s.hasByte(i, '}') {
			return i + 1
		}
		if len(s.facts) == 2*maxCount {
			i = s.fail(i, "fewer members")
		}
		i = s.wantByte(i, ',')
	}
	return s.fail(i, "the end of the facts")
}

// hex reads the nonce: 32 lower-case digits, not all zero.
func (s *scanner) hex(i int) int {
	if len(s.b)-i < nonceDigits {
		return s.fail(i, "a nonce")
	}
	digits := s.b[i : i+nonceDigits]
	valid, some := uint64(highs), uint64(0)
	for at := 0; at < nonceDigits; at += 8 {
		x := binary.LittleEndian.Uint64(digits[at:])
		// Below 0x80 an added constant sets the high bit of a byte from a certain value on, and carries nothing over.
		number := (x + ones*(0x80-'0')) &^ (x + ones*(0x80-'9'-1))
		letter := (x + ones*(0x80-'a')) &^ (x + ones*(0x80-'f'-1))
		valid &= (number | letter) &^ x
		some |= x ^ ones*'0'
	}
	if valid != highs || some == 0 {
		return s.fail(i, "32 lower-case hexadecimal digits, not all zero")
	}
	s.nonce = text{int32(i), int32(i + nonceDigits), 0}
	return i + nonceDigits
}

// nonceDigits is the length of a nonce in hexadecimal.
const nonceDigits = 2 * len(Entry{}.Nonce)
