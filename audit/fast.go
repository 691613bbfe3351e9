package audit

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// This file makes a verification fast and decides nothing: what is not recognised here is read by the scanner, and
// a hash is SHA-256 either way.

// hasher computes SHA-256 of leaves and nodes. It pads the message itself, so that all of it is hashed in one go, and
// reads the result from the saved state, which is the hash once the last block is in.
type hasher struct {
	digest hash.Hash
	saver  encoding.BinaryAppender // nil if the saved state has another layout than the one known here
	state  []byte
	leaf   []byte              // a zero, the entry, padding
	node   [2 * blockSize]byte // a one, two hashes, padding
}

const (
	blockSize = sha256.BlockSize
	savedHash = 4 // where a saved state holds the hash
	pairSize  = 2 * sha256.Size
)

func newHasher() *hasher {
	h := &hasher{digest: sha256.New(), leaf: make([]byte, 1024)}
	h.saver, _ = h.digest.(encoding.BinaryAppender)
	h.node[0], h.node[1+pairSize] = 1, 0x80
	binary.BigEndian.PutUint64(h.node[2*blockSize-8:], 8*(1+pairSize))
	probe := [pairSize]byte{1, 2, 3}
	if left, right := Hash(probe[:]), Hash(probe[sha256.Size:]); h.saver != nil && h.inner(probe[:]) != nodeHash(&left, &right) {
		h.saver = nil
	}
	return h
}

// leafHash returns the leaf hash of an entry. It leaves the entry in h.leaf from 1 on, with room for
// another 32 bytes behind it.
func (h *hasher) leafHash(entry []byte) Hash {
	n := 1 + len(entry)
	padded := (n + 1 + 8 + blockSize - 1) / blockSize * blockSize
	if padded+fourBytes > len(h.leaf) {
		h.leaf = make([]byte, 2*padded+fourBytes)
	}
	b := h.leaf[:padded]
	copy(b[1:], entry)
	if h.saver == nil {
		return sha256.Sum256(b[:n])
	}
	clear(b[n:])
	b[n] = 0x80
	binary.BigEndian.PutUint64(b[padded-8:], 8*uint64(n))
	return h.sum(b)
}

// inner returns the hash of the node over the two hashes of pair.
func (h *hasher) inner(pair []byte) Hash {
	copy(h.node[1:1+pairSize], pair)
	if h.saver == nil {
		return sha256.Sum256(h.node[:1+pairSize])
	}
	return h.sum(h.node[:])
}

func (h *hasher) sum(padded []byte) Hash {
	h.digest.Reset()
	h.digest.Write(padded)
	state, err := h.saver.AppendBinary(h.state[:0])
	if err != nil || len(state) < savedHash+sha256.Size {
		return Hash{} // which newHasher finds to be wrong
	}
	h.state = state
	return Hash(state[savedHash:])
}

// tileRoot returns the root of a full tile. It overwrites the tile's hashes.
func (h *hasher) tileRoot(tile *[TileWidth * sha256.Size]byte) Hash {
	for n := TileWidth / 2; n > 0; n /= 2 {
		for i := range n {
			parent := h.inner(tile[i*pairSize : (i+1)*pairSize])
			copy(tile[i*sha256.Size:], parent[:])
		}
	}
	return Hash(tile[:sha256.Size])
}

// mould is the form of an entry that the scanner has read. Another entry fits if it repeats the fixed bytes, which are
// all outside of strings and the strings whose content matters, and has only plain characters in the other strings:
// then the scanner would take the same steps. What remains is to read its number, time and nonce.
type mould struct {
	entry           []byte // that it was made of
	words           []fourWords
	plain           []plainWord
	timeAt, nonceAt int
	org             bool   // names the right organisation
	fits            uint64 // how many entries did
}

// fourWords are 32 bytes: what they should be, and which of them must be that.
type fourWords struct{ want, fixed [4]uint64 }

const fourBytes = 32

// plainWord is eight bytes of which some must be plain.
type plainWord struct {
	at   int
	mask uint64
}

// odd marks, by the high bit of a byte of x, whatever is not plain: what [special] marks, and the blank, the exclamation mark
// and the quotation mark in one go with it. Borrows and carries may add marks and never take one away.
func odd(x uint64) uint64 {
	return (x | (x + ones) | (x - ones*('"'+1)) | ((x ^ ones*'\\') - ones)) & highs
}

// What is kept of moulds, which are found by the length of an entry.
const (
	mouldSlots = 256
	mouldWays  = 4
	mouldLimit = 2 << 10 // bytes of an entry that is given one
)

// moulds are the forms that one reader has met.
type moulds struct {
	slots      [mouldSlots][mouldWays]*mould
	made, used uint64
	scan       scanner

	second [len(timeLayout)]byte // the time that was read last, down to the second
	micros int64                 // at its beginning
}

// untilSecond is how much of a time stands before the fraction of its second.
const untilSecond = len("2006-01-02T15:04:05.")

// time reads the time at offset i of the scanned entry. It is most often within the second of the one before.
func (m *moulds) time(i int) {
	s := &m.scan
	b := s.b[i : i+len(timeLayout)]
	if m.second[0] != 0 && string(b[:untilSecond]) == string(m.second[:untilSecond]) && b[len(b)-1] == 'Z' {
		ok := true
		micro := two(b, untilSecond, &ok)*10000 + two(b, untilSecond+2, &ok)*100 + two(b, untilSecond+4, &ok)
		if ok {
			s.micros = m.micros + int64(micro)
			return
		}
	}
	s.time(i)
	if s.what == "" {
		copy(m.second[:], b)
		m.micros = s.micros - s.micros%1_000_000
	}
}

// find returns the mould that an entry of size bytes fits, and its number and time. There must be room
// for another 32 bytes behind it.
func (m *moulds) find(entry []byte, size int) (c *mould, seq uint64, micros int64) {
	for _, c := range &m.slots[size%mouldSlots] {
		if c == nil || len(c.entry) != size || !c.matches(entry) {
			continue
		}
		s := &m.scan
		s.b, s.what = entry[:size], ""
		end := s.number(len(litSeq.text))
		m.time(c.timeAt)
		s.hex(c.nonceAt)
		if s.what == "" && end == c.timeAt-len(litTime.text) {
			c.fits++
			m.used++
			return c, s.seq, s.micros
		}
	}
	return nil, 0, 0
}

func (c *mould) matches(entry []byte) bool {
	for i := range c.words {
		w, b := &c.words[i], (*[fourBytes]byte)(entry[fourBytes*i:])
		wrong := (binary.LittleEndian.Uint64(b[0:])^w.want[0])&w.fixed[0] | (binary.LittleEndian.Uint64(b[8:])^w.want[1])&w.fixed[1] |
			(binary.LittleEndian.Uint64(b[16:])^w.want[2])&w.fixed[2] | (binary.LittleEndian.Uint64(b[24:])^w.want[3])&w.fixed[3]
		if wrong != 0 {
			return false
		}
	}
	wrong := uint64(0)
	for _, w := range c.plain {
		wrong |= odd(binary.LittleEndian.Uint64(entry[w.at:])) & w.mask
	}
	return wrong == 0
}

// add makes a mould of the entry that s has read without finding fault, unless few have been of use. It returns the
// one that made room for it, if any.
func (m *moulds) add(s *scanner, org bool) (evicted *mould) {
	size := len(s.b)
	if string(s.raw(s.action)) == ActPrune { // its facts matter
		return nil
	}
	if size > mouldLimit || m.made > 4096+m.used/8 {
		return nil
	}
	m.made++
	groups := (size + fourBytes - 1) / fourBytes
	want, fixed, plain := make([]byte, groups*fourBytes), make([]byte, groups*fourBytes), make([]byte, groups*fourBytes)
	copy(want, s.b)
	for i := range size {
		fixed[i] = 0xff
	}
	free := func(from, to int, class byte) {
		for i := from; i < to; i++ {
			fixed[i], plain[i] = 0, class
		}
	}
	timeAt, nonceAt := int(s.timeAt), int(s.nonce.start)
	free(len(litSeq.text), timeAt-len(litTime.text), 0)
	free(timeAt, timeAt+len(timeLayout), 0)
	free(nonceAt, nonceAt+nonceDigits, 0)
	strings := []text{s.actorRef, s.subjectRef, s.policy, s.conversation, s.request, s.peer, s.peerNet, s.address, s.addressNet}
	for i := 1; i < len(s.facts); i += 2 {
		strings = append(strings, s.facts[i])
	}
	for _, t := range strings {
		if t.escapes > 0 {
			return nil
		}
		free(int(t.start), int(t.end), 0x80)
	}
	c := &mould{entry: want[:size], words: make([]fourWords, groups), timeAt: timeAt, nonceAt: nonceAt, org: org}
	for i := range 4 * groups {
		w := &c.words[i/4]
		w.want[i%4] = binary.LittleEndian.Uint64(want[8*i:])
		w.fixed[i%4] = binary.LittleEndian.Uint64(fixed[8*i:])
		if mask := binary.LittleEndian.Uint64(plain[8*i:]); mask != 0 {
			c.plain = append(c.plain, plainWord{8 * i, mask})
		}
	}
	slot := &m.slots[size%mouldSlots]
	place := 0 // of the one that has been of least use
	for i, old := range slot {
		if old == nil {
			place = i
			break
		}
		if old.fits < slot[place].fits {
			place = i
		}
	}
	evicted, slot[place] = slot[place], c
	return evicted
}
