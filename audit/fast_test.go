package audit

import (
	"bytes"
	"crypto/sha256"
	"testing"
	"time"
)

func TestHashesAreSHA256(t *testing.T) {
	b := bytes.Repeat([]byte{0xa5, 1, 2}, 400)
	for _, h := range []*hasher{newHasher(), {leaf: make([]byte, 64)}} { // the second has no saved state it could read
		h.node = newHasher().node
		for n := range b {
			if got, want := h.leafHash(b[:n]), sha256.Sum256(append([]byte{0}, b[:n]...)); got != Hash(want) {
				t.Fatalf("%d bytes: %x, want %x", n, got, want)
			}
			if !bytes.Equal(h.leaf[1:1+n], b[:n]) || len(h.leaf) < 1+n+fourBytes {
				t.Fatalf("%d bytes: not left where the moulds look", n)
			}
		}
		left, right := Hash(b[:]), Hash(b[sha256.Size:])
		if got, want := h.inner(b[:pairSize]), nodeHash(&left, &right); got != want {
			t.Errorf("node %x, want %x", got, want)
		}
	}
	if newHasher().saver == nil {
		t.Error("the saved state of SHA-256 has another layout now: verification has become slower")
	}
}

// mouldEntries are entries of many forms.
func mouldEntries(t testing.TB) [][]byte {
	e := Entry{
		Seq: 7, Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Organisation: "org1", Kind: Disclosure, Action: "introduce",
		Actor: Party{"agent", "9f86d081884c7d65"}, Audience: "agent", Subject: Party{"visitor", "2f0a"}, Fields: []string{"a", "b"}, Masked: []string{"b"},
		Decision: DecisionMasked, Rule: "r.1", Reasons: []string{"because of this", "and that"}, Policy: "0a1b", Conversation: "c1", Request: "4bf9",
		Peer: "p", PeerNet: "pn", Address: "x", AddressNet: "xn", Facts: map[string]string{"k": "value", "l": ""}, Nonce: [16]byte{1},
	}
	plain := Entry{Seq: 18, Time: e.Time, Organisation: "org1", Kind: Administration, Action: "x", Nonce: [16]byte{2}}
	odd := e
	odd.Request, odd.Rule = `with "quotes"`, "é"
	var out [][]byte
	for _, e := range []Entry{e, plain, odd} {
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// FuzzMoulds puts any bytes over an entry whose mould is known. What fits must be what the scanner accepts, and say the same.
func FuzzMoulds(f *testing.F) {
	all := mouldEntries(f)
	for i := range all {
		f.Add(uint8(i), uint16(13), []byte("8"))
		f.Add(uint8(i), uint16(13), []byte("x"))
		f.Add(uint8(i), uint16(30), []byte("2027-12-31T23:59:59.999999Z"))
		f.Add(uint8(i), uint16(30), []byte("2027-02-31"))
		for at := 20; at < 40; at++ { // the time before any was read
			f.Add(uint8(i), uint16(at), append(make([]byte, untilSecond), "000000Z"...))
		}
		for at := range len(all[i]) {
			for _, c := range "\"\\ \x1f\x7f\x800a}" {
				f.Add(uint8(i), uint16(at), []byte{byte(c)})
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, over []byte) {
		entry := all[int(which)%len(all)]
		var s scanner
		if err := s.scan(entry); err != nil {
			t.Fatal(err)
		}
		var m moulds
		m.add(&s, true)
		if at%2 == 0 { // with a time that was read before
			m.find(append(bytes.Clone(entry), make([]byte, fourBytes)...), len(entry))
		}
		changed := bytes.Clone(entry)
		copy(changed[int(at)%len(changed):], over)
		padded := append(bytes.Clone(changed), make([]byte, fourBytes)...)
		c, seq, micros := m.find(padded, len(changed))
		var again scanner
		err := again.scan(changed)
		if c == nil {
			return
		}
		if err != nil || again.seq != seq || again.micros != micros || !bytes.Equal(again.content(again.org), s.content(s.org)) ||
			!bytes.Equal(again.raw(again.kind), s.raw(s.kind)) || !bytes.Equal(again.raw(again.action), s.raw(s.action)) ||
			!bytes.Equal(again.raw(again.decision), s.raw(s.decision)) || !bytes.Equal(again.raw(again.actorKind), s.raw(s.actorKind)) {
			t.Errorf("fits, but is read otherwise: %v\n%s\n%s", err, entry, changed)
		}
	})
}

// What comes again with other references, numbers, times and nonces is recognised, or a verification would be slow.
func TestAnEntryOfAKnownFormFitsItsMould(t *testing.T) {
	entry := mouldEntries(t)[0]
	var s scanner
	if err := s.scan(entry); err != nil {
		t.Fatal(err)
	}
	var m moulds
	m.add(&s, true)
	other := entry
	for _, change := range [][2]string{{"9f86d081884c7d65", "0000000000000000"}, {`"seq":7`, `"seq":9`}, {"03:04:05", "23:59:59"}, {`"nonce":"01`, `"nonce":"ff`}, {`"k":"value"`, `"k":"other"`}} {
		next := bytes.Replace(other, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(next, other) {
			t.Fatalf("no %s in %s", change[0], other)
		}
		other = next
	}
	c, seq, _ := m.find(append(bytes.Clone(other), make([]byte, fourBytes)...), len(other))
	if c == nil || seq != 9 || c.fits != 1 {
		t.Errorf("%s does not fit %s", other, entry)
	}
}
