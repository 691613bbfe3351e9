package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// This file names what is wrong once verify.go has found that something is. It looks again, slowly, at the few bundles
// that were noted, and holds them against the leaf hashes of the tiles, where those are proven by the signed root. So it
// can tell a record that was moved from one that was altered.

// item is one entry as it stands in a bundle.
type item struct {
	hash      Hash
	canonical bool
	seq       uint64
	micros    int64
	org       bool // names the right organisation
}

// explainer holds what explain has read, a few bundles at a time.
type explainer struct {
	v       *verification
	proven  HashReader
	items   map[uint64][]item
	excess  map[uint64]bool // bundles with bytes after their last whole entry
	leaves  map[uint64]reference
	faulted map[uint64]bool // positions whose record has been spoken of
	shift   int64           // a genuine record stands this many places before its own
	next    uint64          // the bundle for which shift holds
}

// reference is what a bundle's entries should hash to.
type reference struct {
	hashes []byte
	proven bool // by the signed root; otherwise only by the tile that lies there
}

func (v *verification) explain() error {
	slices.Sort(v.bad)
	v.bad = slices.Compact(v.bad)
	x := &explainer{
		v: v, proven: NewHashReader(v.c, DirTiles(v.fsys)),
		items: make(map[uint64][]item), excess: make(map[uint64]bool), leaves: make(map[uint64]reference), faulted: make(map[uint64]bool),
	}
	end := v.absentBundles()
	genuine := !v.broken && v.tree.Root() == v.c.Root
	if genuine {
		for _, b := range v.bad {
			if err := x.signedSo(b); err != nil {
				return err
			}
		}
	} else {
		for _, b := range v.bad {
			if err := x.bundle(b); err != nil {
				return err
			}
		}
	}
	for _, t := range v.tiles {
		if err := x.tile(t, genuine, end); err != nil {
			return err
		}
	}
	if genuine && len(v.bad) > 0 && len(v.report.Faults) == 0 {
		v.fault(Changed, indexOf(v.bad[0]*TileWidth), BundlePath(v.bad[0], tileWidth(v.c.Size, v.bad[0])), "Something is wrong with this file that has no name.")
	}
	if !genuine && len(v.report.Faults) == 0 {
		v.fault(Changed, -1, "", "The records and tiles agree with each other, but not with the signed root: "+
			"at least one record is not the one that was signed, and the tiles were recomputed. Which one cannot be told.")
	}
	return nil
}

// absentBundles reports the bundles that are not there, and returns the index of the first record of those missing at
// the end of the log.
func (v *verification) absentBundles() (end uint64) {
	end = min(v.present*TileWidth, v.c.Size)
	for i, b := range v.absent {
		if i >= maxBad {
			v.report.More = true
			break
		}
		if b < v.present {
			first := b * TileWidth
			v.fault(Missing, indexOf(first), BundlePath(b, tileWidth(v.c.Size, b)), "The file with records %d to %d is not there.", first, first+TileWidth-1)
		}
	}
	if end < v.c.Size {
		b := end / TileWidth
		v.fault(Truncated, indexOf(end), BundlePath(b, tileWidth(v.c.Size, b)),
			"The checkpoint is of %d records; the files with the records from %d on are not there.", v.c.Size, end)
	}
	return end
}

// tile reports a tile that does not hold what the entries hash to. Where the entries are at fault and have been
// reported, the tile is good and nothing is said.
func (x *explainer) tile(t tileID, genuine bool, end uint64) error {
	n := tileCount(x.v.c.Size, t.level)
	path := TilePath(t.level, t.index, tileWidth(n, t.index))
	first := t.index * TileWidth << (tileHeight * t.level)
	switch {
	case t.gone && end < x.v.c.Size && (t.index+1)*TileWidth<<(tileHeight*t.level) > end:
		return nil // part of what was cut off
	case t.gone:
		x.v.fault(Missing, indexOf(first), path, "The tile is not there.")
		return nil
	case !genuine && t.level > 0:
		_, err := x.proven.ReadHashes([]int64{tlog.StoredHashIndex(t.level*tileHeight, int64(t.index*TileWidth))})
		if err == nil {
			return nil
		}
		if err := environment(err); err != nil {
			return err
		}
	case !genuine:
		ref, err := x.reference(t.index)
		if err != nil || ref.proven {
			return err
		}
		if same, err := x.underParent(t.index); err != nil || !same {
			return err
		}
	}
	x.v.fault(CorruptTile, indexOf(first), path, "The tile does not hold the hashes of the records and tiles below it.")
	return nil
}

// underParent reports whether the entries of a full bundle hash to what the proven level 1 tile says of them.
func (x *explainer) underParent(b uint64) (bool, error) {
	items, err := x.load(b)
	if err != nil || len(items) != TileWidth {
		return false, err
	}
	parent, err := x.proven.ReadHashes([]int64{tlog.StoredHashIndex(tileHeight, int64(b))})
	if err != nil {
		return false, environment(err)
	}
	var hashes [TileWidth * sha256.Size]byte
	for i, it := range items {
		copy(hashes[i*sha256.Size:], it.hash[:])
	}
	return newHasher().tileRoot(&hashes) == parent[0], nil
}

// environment returns err if it says that a file cannot be read, and nil if it speaks of what is in the files.
func environment(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// load reads the entries of a bundle as far as they can be told apart.
func (x *explainer) load(b uint64) ([]item, error) {
	if items, ok := x.items[b]; ok {
		return items, nil
	}
	width := tileWidth(x.v.c.Size, b)
	path := func(width int) string { return BundlePath(b, width) }
	data, part, err := readPart(x.v.fsys, path, width, maxBundle, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errTooLarge) {
		return nil, err
	}
	var items []item
	var s scanner
	for err == nil && (part || width == TileWidth || len(items) < width) && len(items) <= 2*TileWidth {
		entry, rest, ok := cutEntry(data)
		if !ok {
			break
		}
		data = rest
		it := item{hash: LeafHash(entry), canonical: s.scan(entry) == nil}
		if it.canonical {
			it.seq, it.micros, it.org = s.seq, s.micros, bytes.Equal(s.content(s.org), x.v.org)
		}
		items = append(items, it)
	}
	if len(x.items) > 8 {
		clear(x.items)
	}
	x.items[b] = items
	x.excess[b] = len(data) > 0 && (part || width == TileWidth)
	return items, nil
}

// at returns the entry that stands at a position, if there is one.
func (x *explainer) at(position int64) (item, bool, error) {
	if position < 0 || uint64(position) >= x.v.c.Size {
		return item{}, false, nil
	}
	items, err := x.load(uint64(position) / TileWidth)
	if i := int(position % TileWidth); err == nil && i < len(items) {
		return items[i], true, nil
	}
	return item{}, false, err
}

// reference returns the leaf hashes of a bundle: proven if the tiles lead to the signed root, else as the tile there says.
func (x *explainer) reference(b uint64) (reference, error) {
	if ref, ok := x.leaves[b]; ok {
		return ref, nil
	}
	width := tileWidth(x.v.c.Size, b)
	indexes := make([]int64, width)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, int64(b*TileWidth)+int64(i))
	}
	var ref reference
	if hashes, err := x.proven.ReadHashes(indexes); err == nil {
		ref.proven = true
		for _, h := range hashes {
			ref.hashes = append(ref.hashes, h[:]...)
		}
	} else if err := environment(err); err != nil {
		return ref, err
	} else if data, err := DirTiles(x.v.fsys)(0, b, width); err == nil {
		ref.hashes = data
	} else if err := environment(err); err != nil {
		return ref, err
	}
	if len(x.leaves) > 8 {
		clear(x.leaves)
	}
	x.leaves[b] = ref
	return ref, nil
}

// verdict is what the tiles say of a record.
type verdict int

const (
	unknown verdict = iota
	genuine         // its hash is the one of that index
	foreign         // it is not
)

// judge holds an entry, which stands at a position, against the leaf hash of an index. Where the signed root does not
// stand behind the tile, the tile can only speak against the entry: it may have been recomputed together with it.
func (x *explainer) judge(it item, position, index uint64) (verdict, error) {
	if index >= x.v.c.Size {
		return foreign, nil
	}
	ref, err := x.reference(index / TileWidth)
	if err != nil {
		return unknown, err
	}
	if ref.holds(index, it.hash) {
		if ref.proven {
			return genuine, nil
		}
		return unknown, nil
	}
	if !ref.proven {
		if ref, err = x.reference(position / TileWidth); err != nil || len(ref.hashes) == 0 || ref.holds(position, it.hash) {
			return unknown, err
		}
	}
	return foreign, nil
}

// holds reports whether h is the hash of the leaf of this index, which is one of the bundle's.
func (r reference) holds(index uint64, h Hash) bool {
	at := int(index%TileWidth) * sha256.Size
	return at < len(r.hashes) && bytes.Equal(r.hashes[at:at+sha256.Size], h[:])
}

// signedSo looks at a bundle whose entries are those that were signed: what is wrong with them the log did itself.
func (x *explainer) signedSo(b uint64) error {
	items, err := x.load(b)
	if err != nil {
		return err
	}
	file := BundlePath(b, tileWidth(x.v.c.Size, b))
	if x.next != b {
		x.shift = 0
	}
	x.next = b + 1
	for i, it := range items {
		p := b*TileWidth + uint64(i)
		if i >= tileWidth(x.v.c.Size, b) {
			x.v.fault(Inserted, indexOf(p), file, "The file holds more records than the checkpoint covers.")
			return nil
		}
		if !it.canonical {
			x.v.fault(NotCanonical, indexOf(p), file, "Record %d has not the form of a record, and was signed so.", p)
			continue
		}
		if it.seq != p+uint64(x.shift) {
			x.v.fault(Gap, indexOf(p), file, "The record at position %d calls itself %d, and was signed so.", p, it.seq)
			x.shift = int64(it.seq - p)
		}
		if err := x.check(p, it, file); err != nil {
			return err
		}
	}
	x.trailing(b, items)
	return nil
}

// trailing reports bytes after the last record of a bundle that is otherwise whole.
func (x *explainer) trailing(b uint64, items []item) {
	if width := tileWidth(x.v.c.Size, b); x.excess[b] && len(items) >= width {
		end := b*TileWidth + uint64(width)
		x.v.fault(Inserted, indexOf(end), BundlePath(b, width), "The file holds bytes after record %d, its last.", end-1)
	}
}

// check looks at the organisation and time of a record that is otherwise good.
func (x *explainer) check(p uint64, it item, file string) error {
	if !it.org {
		x.v.fault(WrongOrigin, indexOf(p), file, "Record %d is of another organisation than the log.", p)
	}
	prev, ok, err := x.at(int64(p) - 1)
	if err != nil {
		return err
	}
	if ok && prev.canonical && p > 0 && !x.faulted[p-1] && it.micros < prev.micros {
		x.faulted[p] = true
		x.v.fault(Redated, indexOf(p), file, "Record %d is dated before the record ahead of it.", p)
	}
	return nil
}

// bundle looks at a bundle of a log whose entries do not hash to the signed root.
func (x *explainer) bundle(b uint64) error {
	if same, err := x.underParent(b); err != nil {
		return err
	} else if same {
		return x.signedSo(b) // its tile is wrong, not its entries
	}
	items, err := x.load(b)
	if err != nil {
		return err
	}
	width := tileWidth(x.v.c.Size, b)
	file := BundlePath(b, width)
	if x.next != b {
		x.shift = 0
	}
	x.next = b + 1
	for i, it := range items {
		if err := x.position(b*TileWidth+uint64(i), it, file); err != nil {
			return err
		}
	}
	// If it is short of as many as stand before their place, those have been spoken of.
	if end := b*TileWidth + uint64(len(items)); len(items) < width && x.shift < int64(width-len(items)) {
		kind, text := Missing, "The file ends before record %d, which the signed tree has."
		if b == (x.v.c.Size-1)/TileWidth {
			kind, text = Truncated, "The log ends before record %d, which the checkpoint covers."
		}
		x.v.fault(kind, indexOf(end), file, text, end)
	}
	x.trailing(b, items)
	if len(items) != width {
		x.next = 0 // the next bundle begins at its own place again
		x.shift = 0
	}
	return nil
}

// position looks at the entry that stands at p, where record p+shift should.
func (x *explainer) position(p uint64, it item, file string) error {
	if x.faulted[p] {
		return nil
	}
	want := p + uint64(x.shift)
	next, hasNext, err := x.at(int64(p) + 1)
	if err != nil {
		return err
	}
	nextIs := func(seq uint64) bool { return hasNext && next.canonical && next.seq == seq }

	if !it.canonical {
		x.faulted[p] = true
		says, err := x.judge(it, p, want)
		switch {
		case err != nil:
			return err
		case says == foreign && nextIs(want):
			x.shift--
			x.v.fault(Inserted, indexOf(p), file, "What stands before record %d is not in the signed tree and has not the form of a record.", want)
		case says == foreign:
			x.v.fault(Changed, indexOf(want), file, "Record %d is not the one that was signed, and has not the form of a record.", want)
		default:
			x.v.fault(NotCanonical, indexOf(want), file, "Record %d has not the form of a record.", want)
		}
		return nil
	}

	says, err := x.judge(it, p, it.seq)
	if err != nil {
		return err
	}
	if it.seq == want {
		if says != foreign {
			return x.check(p, it, file)
		}
		x.faulted[p] = true
		prev, hasPrev, err := x.at(int64(p) - 1)
		if err != nil {
			return err
		}
		switch {
		case nextIs(want):
			x.shift--
			x.v.fault(Inserted, indexOf(p), file, "The record before record %d is not in the signed tree.", want)
		case hasPrev && prev.canonical && !x.faulted[p-1] && it.micros < prev.micros, hasNext && next.canonical && it.micros > next.micros:
			x.v.fault(Redated, indexOf(want), file, "Record %d is not the one that was signed: its time does not fit between its neighbours'.", want)
		default:
			x.v.fault(Changed, indexOf(want), file, "Record %d is not the one that was signed.", want)
		}
		return nil
	}

	x.faulted[p] = true
	home := int64(it.seq) - x.shift // where a record of this number should stand
	other, hasOther, err := x.at(home)
	if err != nil {
		return err
	}
	switch {
	case hasOther && other.canonical && other.seq == want:
		x.faulted[uint64(home)] = true
		x.v.fault(Swapped, indexOf(want), file, "Records %d and %d stand in each other's place.", want, it.seq)
	case nextIs(want):
		x.shift--
		x.v.fault(Inserted, indexOf(p), file, "A record that calls itself %d stands before record %d and does not belong there.", it.seq, want)
	case it.seq > want && (!hasNext || nextIs(it.seq+1)):
		x.faulted[p] = false
		x.shift += int64(it.seq - want)
		if says == genuine {
			x.v.fault(Missing, indexOf(want), file, "Record %d is in the signed tree and is not here (%d missing in a row).", want, it.seq-want)
		} else {
			x.v.fault(Gap, indexOf(want), file, "The records' numbers leave out %d to %d.", want, it.seq-1)
		}
	case says == genuine:
		x.v.fault(Swapped, indexOf(want), file, "Record %d stands in the place of record %d.", it.seq, want)
	default:
		x.v.fault(Changed, indexOf(want), file, "Record %d is not the one that was signed: it calls itself %d.", want, it.seq)
	}
	return nil
}
