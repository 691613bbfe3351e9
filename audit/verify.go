package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// FaultKind names what is wrong with an export, as precisely as the signed tree allows.
type FaultKind string

const (
	Changed         FaultKind = "changed"          // a record is not the one that was signed
	Missing         FaultKind = "missing"          // a record or file that the signed tree has is not there
	Swapped         FaultKind = "swapped"          // records stand in each other's place
	Inserted        FaultKind = "inserted"         // a record stands between those that were signed
	Truncated       FaultKind = "truncated"        // everything from a record on is not there
	Redated         FaultKind = "redated"          // time goes backwards
	ForgedSignature FaultKind = "forged-signature" // the checkpoint is not signed by the key
	WrongOrigin     FaultKind = "wrong-origin"     // the checkpoint or a record is of another log
	Gap             FaultKind = "gap"              // the records' own numbers leave some out or come twice
	NotCanonical    FaultKind = "not-canonical"    // a record has not the one form that is allowed
	Inconsistent    FaultKind = "inconsistent"     // the log does not continue a checkpoint seen earlier
	CorruptTile     FaultKind = "corrupt-tile"     // a tile does not hold the hashes it should
	ColumnDiffers   FaultKind = "column-differs"   // a column beside a record in the database says something else than the record
	NotWitnessed    FaultKind = "not-witnessed"    // the witness has not cosigned it, or not this
	Overwritten     FaultKind = "overwritten"      // where it lies, something was replaced or deleted that never may be
	HeadDiffers     FaultKind = "head-differs"     // the head in the database is not that of its checkpoint
)

// Fault is one thing that is wrong.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	Index int64     `json:"index"` // the record, or -1 if it is not about a certain one
	File  string    `json:"file"`  // within the directory, or empty
	Text  string    `json:"text"`  // one sentence in plain words
}

// Options of a verification.
type Options struct {
	// Key is the log's verifier key. If it is empty the one beside the log is believed, which shows only that the log
	// agrees with itself: whoever can replace the log can replace that key too.
	Key string
	// KeySource says in a few words where Key comes from, for the report.
	KeySource string
	// Minimum is the index below which the log may have been pruned (C2SP tlog-tiles): bundles and tiles that lie wholly
	// below it may be missing from the beginning of the log on. Their hashes are proven by the signed root all the same. What
	// a record of the log itself says to be pruned may be missing without it.
	Minimum uint64
	// Since is a signed checkpoint of the same log seen earlier, if there is one.
	Since []byte
	// Witness is the verifier key of a witness that must have cosigned the log, if one must. Its cosignature lies with the
	// checkpoint or, of an earlier one, beside it.
	Witness string
	// Progress, if not nil, is told now and then how many records are done. It is called from one goroutine.
	Progress func(done, total uint64)
}

// Report is the outcome of a verification. The log is good if it has no faults; the counts speak of what was read and
// mean nothing otherwise.
type Report struct {
	Checkpoint    Checkpoint
	Key           string  // the verifier key that was believed
	KeyFromExport bool    // and that it came from the directory itself
	KeySource     string  // as Options had it
	Pruned        uint64  // records that are not there any more, from the first on, as Options allowed or a record says
	PrunedBy      *uint64 // the record that says so, if one does
	Since         Checkpoint
	HasSince      bool

	Witness   string    // that was asked for
	Witnessed time.Time // when it saw the log
	SeenSize  uint64    // and how many records that had then

	Database bool // it was read from the database, and its columns and head were looked at too

	Records     uint64
	Bytes       uint64    // of entries
	First, Last time.Time // zero if there are no records
	Kinds       map[string]uint64
	Decisions   map[string]uint64 // of disclosures and denials; "none" if a record names none
	Actions     map[string]uint64 // at most maxNames different ones, the rest under "(others)"
	Actors      map[string]uint64 // by kind of actor; likewise

	Faults []Fault // in the order of the log
	More   bool    // there are faults beyond those listed
}

const (
	maxFaults = 100 // listed
	maxBad    = 32  // bundles looked into to name what is wrong with them
	maxNames  = 1000
)

// chunkBundles is how many bundles one goroutine takes at a time: as many as a level 1 tile covers.
const chunkBundles = TileWidth

// VerifyExport reads a whole export directory and checks that it is, byte for byte, the log that its checkpoint was
// signed for: the signature, every bundle and tile, the root recomputed from the entries, and that each entry is
// canonical, numbered by its position, not dated before the one ahead of it and of the organisation that the origin's
// last element names.
//
// The error is for what says nothing about the log: a file that cannot be read, no checkpoint or key at all, a bad
// option, or the end of ctx. What is wrong with the log is in the report's faults. Memory use does not grow with the
// size of the log.
func VerifyExport(ctx context.Context, fsys fs.FS, o Options) (Report, error) {
	v := verification{ctx: ctx, fsys: fsys, report: Report{Key: strings.TrimSpace(o.Key), KeySource: o.KeySource}}
	err := v.run(o)
	r := v.report
	slices.SortStableFunc(r.Faults, func(a, b Fault) int { return cmp.Compare(uint64(a.Index), uint64(b.Index)) })
	if err != nil {
		return r, fmt.Errorf("verify export: %w", err)
	}
	return r, nil
}

// verification is one run of VerifyExport.
type verification struct {
	ctx    context.Context
	fsys   fs.FS
	report Report
	org    []byte // that every entry must name
	c      Checkpoint

	tree    Tree
	upper   [maxLevel + 1][]byte // hashes of the tile being filled, by level from 2 on
	broken  bool                 // some entries could not be read, so the root cannot be recomputed
	bad     []uint64             // bundles to be looked into
	tiles   []tileID             // tiles that do not hold what the entries hash to
	present uint64               // bundles up to and including the last one that is there
	absent  []uint64             // the first bundles that are not there
	prune   pruneAct             // the record that says the most
}

// pruneAct is a record of ActPrune.
type pruneAct struct{ upto, seq uint64 }

type tileID struct {
	level int
	index uint64
	gone  bool // not there at all
}

func (v *verification) fault(kind FaultKind, index int64, file, format string, args ...any) {
	if len(v.report.Faults) >= maxFaults {
		v.report.More = true
		return
	}
	v.report.Faults = append(v.report.Faults, Fault{kind, index, file, fmt.Sprintf(format, args...)})
}

func (v *verification) run(o Options) error {
	var witness *WitnessKey
	if o.Witness != "" {
		var err error
		if witness, err = ParseWitnessKey(o.Witness); err != nil {
			return err
		}
		v.report.Witness = witness.Name()
	}
	if v.report.Key == "" {
		key, err := readFile(v.fsys, KeyFile, 4<<10, nil)
		if err != nil {
			return fmt.Errorf("no key was given and there is none beside the log: %w", err)
		}
		v.report.Key, v.report.KeyFromExport = strings.TrimSpace(string(key)), true
	}
	verifier, err := note.NewVerifier(v.report.Key)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	signed, err := readFile(v.fsys, CheckpointFile, 1<<20, nil)
	if err != nil {
		return fmt.Errorf("this is no export: %w", err)
	}
	if v.c, err = OpenCheckpoint(signed, verifier); err != nil {
		v.checkpointFault(CheckpointFile, err)
		return nil
	}
	v.report.Checkpoint = v.c
	v.org = []byte(organisationOf(v.c.Origin))
	if o.Since != nil {
		if v.report.Since, err = OpenCheckpoint(o.Since, verifier); err != nil {
			v.checkpointFault("", err)
			return nil
		}
		v.report.HasSince = true
	}
	if whole, err := v.prefix(o.Minimum); err != nil || !whole {
		return err
	}
	if err := v.entries(o.Progress); err != nil {
		return err
	}
	v.pruned(o.Minimum)
	if err := v.explain(); err != nil {
		return err
	}
	if err := v.since(); err != nil {
		return err
	}
	return v.witness(witness, signed, verifier)
}

// clocks is how far the clocks of a log and its witness may differ.
const clocks = 5 * time.Minute

// witness checks that the log is one that the witness has cosigned, or continues it.
func (v *verification) witness(key *WitnessKey, signed []byte, verifier note.Verifier) error {
	if key == nil {
		return nil
	}
	file, c := CheckpointFile, v.c
	at, _, err := key.Cosigned(signed, nil)
	if err != nil {
		file = CosignedFile
		earlier, readErr := readFile(v.fsys, file, 1<<20, nil)
		if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
			return readErr
		}
		if at, _, err = key.Cosigned(earlier, nil); err == nil {
			c, err = OpenCheckpoint(earlier, verifier)
		}
	}
	switch {
	case err != nil:
		v.fault(NotWitnessed, -1, CheckpointFile, "The witness %s has not cosigned the checkpoint, nor an earlier one that lies there.", key.Name())
		return nil
	case c.Size > v.c.Size:
		v.fault(Inconsistent, indexOf(v.c.Size), CheckpointFile, "The witness %s has seen %d records, and there are %d: the log was rolled back or cut.", key.Name(), c.Size, v.c.Size)
		return nil
	case len(v.report.Faults) == 0 && c != v.c:
		root, err := v.rootAt(c.Size)
		if err != nil {
			return err
		}
		if root != c.Root {
			v.fault(Inconsistent, -1, file, "The first %d records are not those that the witness %s has seen.", c.Size, key.Name())
			return nil
		}
	}
	v.report.Witnessed, v.report.SeenSize = at.UTC(), c.Size
	if c == v.c && v.report.Records > 0 && v.report.Last.After(at.Add(clocks)) {
		v.fault(Redated, indexOf(c.Size-1), "", "The last record is dated after the witness %s saw it.", key.Name())
	}
	return nil
}

// rootAt is the root of the first size records, as the signed root proves it.
func (v *verification) rootAt(size uint64) (Hash, error) {
	if size == 0 {
		return NewTree().Root(), nil
	}
	return TreeRoot(size, NewHashReader(v.c, DirTiles(v.fsys)))
}

// organisationOf returns the organisation that the log called origin is of: its last element, or the one before it if that
// is the number of an epoch, as a log has that was begun anew.
func organisationOf(origin string) string {
	elements := strings.Split(origin, "/")
	last := len(elements) - 1
	if _, ok := epochOf(elements[last]); ok && last > 0 {
		last--
	}
	return elements[last]
}

// epochOf reads the number of an epoch: 2 or more, in decimal.
func epochOf(element string) (epoch int, ok bool) {
	n, err := strconv.Atoi(element)
	return n, err == nil && n > 1 && strconv.Itoa(n) == element
}

// NextOrigin returns the origin under which a log is begun anew: with the number of its next epoch.
func NextOrigin(origin string) string {
	at := strings.LastIndexByte(origin, '/')
	if epoch, ok := epochOf(origin[at+1:]); ok && at >= 0 {
		return origin[:at+1] + strconv.Itoa(epoch+1)
	}
	return origin + "/2"
}

func (v *verification) checkpointFault(file string, err error) {
	which := "The checkpoint"
	if file == "" {
		which = "The earlier checkpoint"
	}
	switch {
	case errors.Is(err, ErrOrigin):
		v.fault(WrongOrigin, -1, file, "%s is of another log than the key: %v.", which, err)
	case errors.Is(err, ErrSignature):
		v.fault(ForgedSignature, -1, file, "%s is not signed by this key.", which)
	default:
		v.fault(ForgedSignature, -1, file, "%s is malformed, so nothing is signed: %v.", which, err)
	}
}

// since checks that the log continues the earlier checkpoint.
func (v *verification) since() error {
	old := v.report.Since
	switch {
	case !v.report.HasSince:
	case old.Size > v.c.Size:
		v.fault(Inconsistent, int64(v.c.Size), CheckpointFile,
			"The log had %d records and now has %d: it was rolled back or cut.", old.Size, v.c.Size)
	case old.Size == 0 || old.Size == v.c.Size:
		want := v.c.Root
		if old.Size == 0 {
			want = NewTree().Root()
		}
		if old.Root != want {
			v.fault(Inconsistent, -1, CheckpointFile, "The same key signed another history of the same %d records.", old.Size)
		}
	case len(v.report.Faults) == 0:
		root, err := v.rootAt(old.Size)
		if err != nil {
			return err
		}
		if root != old.Root {
			v.fault(Inconsistent, -1, CheckpointFile,
				"The first %d records are not those the earlier checkpoint was signed for: the same key signed two histories.", old.Size)
		}
	}
	return nil
}

// prefix finds out how many bundles at the beginning of the log were pruned, and takes the hashes of what lies before the
// first that is there from the tiles, as far as the signed root proves them. whole is false if it does not. Beyond minimum it
// takes only what the tiles prove; whether a record allows that is seen once the records were read.
func (v *verification) prefix(minimum uint64) (whole bool, err error) {
	if minimum > v.c.Size {
		return false, fmt.Errorf("the log has %d records, so it cannot have been pruned below %d", v.c.Size, minimum)
	}
	bundles, full := uint64(0), v.c.Size/TileWidth
	for ; bundles < full; bundles++ {
		_, err := fs.Stat(v.fsys, BundlePath(bundles, TileWidth))
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if err := v.ctx.Err(); err != nil {
			return false, err
		}
	}
	if allowed := minimum / TileWidth; bundles > allowed {
		if bundles*TileWidth < v.c.Size { // there is something that may say so
			if whole, err := v.skip(bundles); whole || err != nil {
				return whole, err
			}
		}
		bundles = allowed
	}
	whole, err = v.skip(bundles)
	if !whole && err == nil {
		v.fault(Missing, 0, "", "The records below %d were pruned, and the tiles do not prove what they were.", bundles*TileWidth)
	}
	return whole, err
}

// pruned finds out whether what is missing at the beginning may be.
func (v *verification) pruned(minimum uint64) {
	size, allowed := v.report.Pruned, min(minimum/TileWidth*TileWidth, v.report.Pruned)
	switch {
	case size > 0 && v.prune.upto >= size:
		v.report.PrunedBy = &v.prune.seq
	case size > allowed:
		var missing []uint64
		for b := allowed / TileWidth; b < size/TileWidth && len(missing) <= maxBad; b++ {
			missing = append(missing, b)
		}
		v.absent, v.report.Pruned = append(missing, v.absent...), allowed
	}
}

// skip begins the tree behind the first bundles, if the tiles prove their hashes.
func (v *verification) skip(bundles uint64) (proved bool, err error) {
	size := bundles * TileWidth
	if size == 0 {
		return true, nil
	}
	proven := NewHashReader(v.c, DirTiles(v.fsys))
	var tree Tree
	var upper [maxLevel + 1][]byte
	var indexes []int64
	for h := range tree.edge {
		if size>>h&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(h, int64(size>>h)-1))
		}
	}
	hashes, err := proven.ReadHashes(indexes)
	for h := 0; err == nil && h < len(tree.edge); h++ {
		if size>>h&1 == 1 {
			tree.edge[h], hashes = hashes[0], hashes[1:]
		}
	}
	for level := 1; err == nil && level <= maxLevel; level++ {
		n := tileCount(size, level)
		indexes = indexes[:0]
		for i := n / TileWidth * TileWidth; i < n; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(level*tileHeight, int64(i)))
		}
		if len(indexes) == 0 {
			continue
		}
		hashes, err = proven.ReadHashes(indexes)
		for i := range hashes {
			upper[level] = append(upper[level], hashes[i][:]...)
		}
	}
	if err != nil {
		return false, environment(err)
	}
	tree.size = size
	v.tree, v.upper, v.present, v.report.Pruned = tree, upper, bundles, size
	return true, nil
}

// chunk is the work of one goroutine at a time: bundles from to below to.
type chunk struct {
	from, to uint64
	before   []byte // hashes of the level 1 tile that lie before those of the bundles
	out      chan chunkResult
}

// chunkResult is what became of a chunk. Its hashes are of whole bundles and, at the end of the log, of single entries.
type chunkResult struct {
	nodes       []Hash // roots of the full bundles
	leaves      []byte // leaf hashes of the partial bundle
	broken      bool
	bad, absent []uint64
	present     uint64 // one past the last bundle that is there, or 0
	tiles       []tileID
	records     uint64
	bytes       uint64
	first, last int64 // microseconds; meaningful if records > 0
	prune       pruneAct
	err         error
}

// entries reads everything once, on all processors, and hashes it up to the root.
func (v *verification) entries(progress func(done, total uint64)) error {
	bundles := (v.c.Size + TileWidth - 1) / TileWidth
	workers := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(v.ctx)
	work, order := make(chan chunk), make(chan chunk, workers)
	readers := make([]*reader, workers)
	from, before := v.present, v.upper[1]
	var running sync.WaitGroup
	for i := range readers {
		r := &reader{ctx: ctx, fsys: v.fsys, size: v.c.Size, org: v.org, hash: newHasher(), tally: newTally()}
		readers[i] = r
		running.Go(func() {
			for c := range work {
				c.out <- r.chunk(c)
			}
		})
	}
	running.Go(func() {
		defer close(order)
		defer close(work)
		for ; from < bundles; from += chunkBundles - from%chunkBundles {
			c := chunk{from, min(from+chunkBundles-from%chunkBundles, bundles), before, make(chan chunkResult, 1)}
			before = nil
			select {
			case order <- c:
			case <-ctx.Done():
				return
			}
			work <- c
		}
	})
	err := v.collect(order, progress)
	cancel()
	for range order { // lets the dispatcher end
	}
	running.Wait()
	if err == nil {
		err = v.ctx.Err()
	}
	total := newTally()
	for _, r := range readers {
		for i := range r.moulds.slots {
			for _, m := range r.moulds.slots[i] {
				r.count(m)
			}
		}
		total.merge(r.tally)
	}
	v.report.Kinds, v.report.Decisions = total.kinds.counts(), total.decisions.counts()
	v.report.Actions, v.report.Actors = total.actions.counts(), total.actors.counts()
	return err
}

// collect puts the chunks' results together in the order of the log.
func (v *verification) collect(order <-chan chunk, progress func(done, total uint64)) error {
	var last int64
	for c := range order {
		r := <-c.out
		if r.err != nil {
			return r.err
		}
		if r.records > 0 {
			if v.report.Records == 0 {
				v.report.First = time.UnixMicro(r.first).UTC()
			} else if r.first < last {
				v.noteBad(c.from)
			}
			last = r.last
			v.report.Last = time.UnixMicro(last).UTC()
		}
		if r.prune.upto > v.prune.upto {
			v.prune = r.prune
		}
		v.report.Records += r.records
		v.report.Bytes += r.bytes
		v.present = max(v.present, r.present)
		for _, b := range r.bad {
			v.noteBad(b)
		}
		v.absent = append(v.absent, r.absent[:min(len(r.absent), maxBad-min(maxBad, len(v.absent)))]...)
		v.tiles = append(v.tiles, r.tiles[:min(len(r.tiles), maxFaults-min(maxFaults, len(v.tiles)))]...)
		v.broken = v.broken || r.broken
		if !v.broken {
			if err := v.grow(r); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(min(c.to*TileWidth, v.c.Size), v.c.Size)
		}
	}
	if v.broken {
		return nil
	}
	for level := 2; level <= maxLevel; level++ {
		if n := tileCount(v.c.Size, level); n%TileWidth > 0 {
			if err := v.compareTile(level, n/TileWidth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verification) noteBad(bundle uint64) {
	if len(v.bad) < maxBad {
		v.bad = append(v.bad, bundle)
	} else {
		v.report.More = true
	}
}

// grow appends a chunk to the tree and compares the tiles of level 2 and above that it fills.
func (v *verification) grow(r chunkResult) error {
	var failed error
	node := func(level int, index uint64, hash Hash) {
		if level < 2 {
			return
		}
		v.upper[level] = append(v.upper[level], hash[:]...)
		if index%TileWidth == TileWidth-1 {
			failed = errors.Join(failed, v.compareTile(level, index/TileWidth))
			v.upper[level] = v.upper[level][:0]
		}
	}
	for _, h := range r.nodes {
		v.tree.appendAt(tileHeight, h, node)
	}
	for i := 0; i < len(r.leaves); i += sha256.Size {
		v.tree.appendAt(0, Hash(r.leaves[i:]), node)
	}
	return failed
}

func (v *verification) compareTile(level int, index uint64) error {
	gone, same, err := compareTile(v.fsys, level, index, v.upper[level], nil)
	if err == nil && !same {
		v.tiles = append(v.tiles, tileID{level, index, gone})
	}
	return err
}

// compareTile reads a tile and compares it with the hashes it should hold.
func compareTile(fsys fs.FS, level int, index uint64, want []byte, buf *[]byte) (gone, same bool, err error) {
	if buf == nil {
		buf = new([]byte)
	}
	path := func(width int) string { return TilePath(level, index, width) }
	data, part, err := readPart(fsys, path, len(want)/sha256.Size, TileWidth*sha256.Size, *buf)
	*buf = data
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, false, nil
	case errors.Is(err, errTooLarge):
		return false, false, nil
	case err != nil:
		return false, false, err
	}
	if !part && len(want) < TileWidth*sha256.Size && len(data) > len(want) {
		data = data[:len(want)] // the tile has become full since
	}
	return false, bytes.Equal(data, want), nil
}

// reader does chunks. Each goroutine has its own, with its own buffers.
type reader struct {
	ctx   context.Context
	fsys  fs.FS
	size  uint64
	org   []byte
	tally tally

	hash   *hasher
	moulds moulds
	scan   scanner
	bundle []byte
	tile   []byte
	hashes [TileWidth * sha256.Size]byte
}

func (r *reader) chunk(c chunk) (out chunkResult) {
	out.nodes = make([]Hash, 0, c.to-c.from)
	for b := c.from; b < c.to; b++ {
		if out.err = r.ctx.Err(); out.err != nil {
			return out
		}
		if out.err = r.one(b, &out); out.err != nil {
			return out
		}
	}
	if out.broken || len(out.nodes) == 0 {
		return out
	}
	want := append(r.tile[:0], c.before...)
	for i := range out.nodes {
		want = append(want, out.nodes[i][:]...)
	}
	r.tile = want
	gone, same, err := compareTile(r.fsys, 1, c.from/TileWidth, want, &r.bundle)
	if out.err = err; err == nil && !same {
		out.tiles = append(out.tiles, tileID{1, c.from / TileWidth, gone})
	}
	return out
}

// one reads bundle b, checks its entries and compares its tile.
func (r *reader) one(b uint64, out *chunkResult) error {
	width := tileWidth(r.size, b)
	path := func(width int) string { return BundlePath(b, width) }
	data, part, err := readPart(r.fsys, path, width, maxBundle, r.bundle)
	r.bundle = data
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.absent, out.broken = append(out.absent, b), true
		return nil
	case errors.Is(err, errTooLarge):
		out.present = b + 1
		out.bad, out.broken = append(out.bad, b), true
		return nil
	case err != nil:
		return err
	}
	out.present = b + 1
	good, n := r.entries(data, b*TileWidth, width, part || width == TileWidth, out)
	if n < width {
		out.bad, out.broken = append(out.bad, b), true
		return nil
	}
	leaves := r.hashes[:width*sha256.Size]
	gone, same, err := compareTile(r.fsys, 0, b, leaves, &r.tile)
	if err != nil {
		return err
	}
	if !same {
		out.tiles = append(out.tiles, tileID{0, b, gone})
	}
	if !good || !same && !gone {
		out.bad = append(out.bad, b)
	}
	if width == TileWidth {
		out.nodes = append(out.nodes, r.hash.tileRoot(&r.hashes))
	} else {
		out.leaves = bytes.Clone(leaves)
	}
	return nil
}

// entries checks width entries of a bundle that begins at index first, and leaves their hashes in r.hashes. whole says
// that the bundle must hold no more. good turns false if anything is wrong with them; n is how many there were.
func (r *reader) entries(bundle []byte, first uint64, width int, whole bool, out *chunkResult) (good bool, n int) {
	good = true
	at := 0 // where the next entry's length stands
	for n = 0; n < width; n++ {
		entry, _, ok := cutEntry(bundle[at:])
		if !ok {
			return false, n
		}
		at += 2 + len(entry)
		leaf := r.hash.leafHash(entry)
		copy(r.hashes[n*sha256.Size:], leaf[:])

		mould, seq, micros := r.moulds.find(r.hash.leaf[1:], len(entry))
		org := false
		if mould != nil {
			org = mould.org
		} else {
			s := &r.scan
			if s.scan(entry) != nil {
				good = false
				continue
			}
			seq, micros, org = s.seq, s.micros, bytes.Equal(s.content(s.org), r.org)
			if upto := s.prunes(); upto > out.prune.upto {
				out.prune = pruneAct{upto, s.seq}
			}
			r.tally.add(s, 1)
			r.count(r.moulds.add(s, org))
		}
		if seq != first+uint64(n) || !org || out.records > 0 && micros < out.last {
			good = false
		}
		if out.records == 0 {
			out.first = micros
		}
		out.last = micros
		out.records++
		out.bytes += uint64(len(entry))
	}
	return good && (!whole || at == len(bundle)), n
}

// count adds what fitted a mould to the tally.
func (r *reader) count(m *mould) {
	if m != nil && m.fits > 0 && r.scan.scan(m.entry) == nil {
		r.tally.add(&r.scan, m.fits)
	}
}

// tally counts what entries say.
type tally struct{ kinds, decisions, actions, actors counter }

func newTally() tally {
	return tally{newCounter(), newCounter(), newCounter(), newCounter()}
}

// add counts n entries that say what s has read.
func (t *tally) add(s *scanner, n uint64) {
	t.kinds.add(s.content(s.kind), "", n)
	t.actions.add(s.content(s.action), "", n)
	t.actors.add(s.content(s.actorKind), "nobody", n)
	if k := Kind(s.raw(s.kind)); k == Disclosure || k == Denial {
		t.decisions.add(s.content(s.decision), "none", n)
	}
}

func (t *tally) merge(u tally) {
	t.kinds.merge(u.kinds)
	t.decisions.merge(u.decisions)
	t.actions.merge(u.actions)
	t.actors.merge(u.actors)
}

// counter counts by name.
type counter struct{ n map[string]*uint64 }

func newCounter() counter { return counter{n: make(map[string]*uint64)} }

func (c *counter) add(name []byte, ifEmpty string, n uint64) {
	if p := c.n[string(name)]; p != nil {
		*p += n
	} else if len(name) == 0 {
		*c.of(ifEmpty) += n
	} else {
		*c.of(string(name)) += n
	}
}

// of returns where a name is counted.
func (c *counter) of(name string) *uint64 {
	if c.n[name] == nil && len(c.n) >= maxNames {
		name = "(others)"
	}
	if c.n[name] == nil {
		c.n[name] = new(uint64)
	}
	return c.n[name]
}

func (c *counter) merge(d counter) {
	for name, n := range d.n {
		*c.of(name) += *n
	}
}

func (c *counter) counts() map[string]uint64 {
	out := make(map[string]uint64, len(c.n))
	for name, n := range c.n {
		out[name] = *n
	}
	return out
}

// indexOf turns the position of a record into a Fault.Index.
func indexOf(position uint64) int64 { return int64(min(position, math.MaxInt64)) }
