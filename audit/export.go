package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/note"
)

// maxLevel is the highest tile level of a tree of less than 2^63 leaves.
const maxLevel = 7

// ExportWriter writes a log into a place as C2SP tlog-tiles, or continues one that it wrote before. Tiles and
// bundles are only ever created, and only after the entries were found to hash to the signed root: one that is there
// already must be equal, or be the torn beginning that a crash leaves. The checkpoint is replaced last, so at every
// moment the place holds a whole log under its checkpoint, and what was interrupted is completed by the next Write.
type ExportWriter struct {
	place    Place
	vkey     string
	verifier note.Verifier
	previous []note.Verifier // of keys that sign no more, or soon will not
	have     Checkpoint      // of what the place held at first; size 0 if nothing
	tree     Tree            // at Next

	bundle  []byte               // entries of the bundle being filled
	pending [maxLevel + 1][]byte // hashes of the tile being filled, by level
	skip    uint64               // entries before this one are pruned
	pruned  TileReader           // and these are their hashes
	keep    bool                 // checkpoints beside the newest one
	newKey  bool                 // key.pub holds a previous key
	done    bool
}

// MaxSmall is the size of the largest file beside the tiles that is read.
const MaxSmall = 1 << 20

// OpenExport opens the place of the export of the log with the verifier key vkey, or begins one there. What lies there may be
// of a previous key; Write then puts the present one in its stead. An error says that the place belongs to another key or
// is damaged; it has not been changed then.
func OpenExport(ctx context.Context, place Place, vkey string, previous ...string) (*ExportWriter, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("open export: verifier key: %w", err)
	}
	w := &ExportWriter{place: place, vkey: vkey, verifier: verifier}
	for _, old := range previous {
		v, err := note.NewVerifier(old)
		if err != nil {
			return nil, fmt.Errorf("open export: previous verifier key: %w", err)
		}
		w.previous = append(w.previous, v)
	}
	switch key, err := place.Read(ctx, KeyFile, MaxSmall); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open export: %w", err)
	case slices.Contains(previous, string(bytes.TrimSpace(key))):
		w.newKey = true
	case string(bytes.TrimSpace(key)) != vkey:
		return nil, fmt.Errorf("open export: %s holds another key", KeyFile)
	}
	switch signed, err := place.Read(ctx, CheckpointFile, MaxSmall); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open export: %w", err)
	default:
		if w.have, err = OpenCheckpoint(signed, verifier, w.previous...); err != nil {
			return nil, fmt.Errorf("open export: the checkpoint there: %w", err)
		}
		if err := w.restore(ctx); err != nil {
			return nil, fmt.Errorf("open export: %w", err)
		}
	}
	return w, nil
}

// restore rebuilds the tree at the last full bundle from the right edge of the tiles that are there.
func (w *ExportWriter) restore(ctx context.Context) error {
	whole := Tree{}
	for level := maxLevel; level >= 0; level-- {
		n := tileCount(w.have.Size, level)
		width := int(n % TileWidth)
		if width == 0 {
			continue
		}
		data, err := w.tile(ctx, level, n/TileWidth, width)
		if err != nil {
			return err
		}
		for i := range width {
			whole.appendAt(level*tileHeight, Hash(data[i*sha256.Size:]), nil)
		}
		if level > 0 {
			w.pending[level] = data
			w.tree = whole
		}
	}
	if whole.Root() != w.have.Root {
		return errors.New("the tiles there do not lead to the checkpoint there")
	}
	return nil
}

// tile reads the first width hashes of a tile that is there; the partial one may have been dropped for the full one.
func (w *ExportWriter) tile(ctx context.Context, level int, index uint64, width int) ([]byte, error) {
	name := TilePath(level, index, width)
	data, err := w.place.Read(ctx, name, TileWidth*sha256.Size)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = w.place.Read(ctx, TilePath(level, index, TileWidth), TileWidth*sha256.Size)
	}
	if err == nil && len(data) < width*sha256.Size {
		err = fmt.Errorf("read %s: %d bytes, expected %d", name, len(data), width*sha256.Size)
	}
	if err != nil {
		return nil, err
	}
	return data[:width*sha256.Size], nil
}

// Next returns the index of the first entry that Write needs: 0 for a new place, else where the last full bundle
// there ends.
func (w *ExportWriter) Next() uint64 { return w.tree.Size() }

// Skip makes Write go on from the entry minimum without the entries before it, which were pruned: their hashes come from
// the log's own tiles, and must lead to the signed root like all others. minimum is a multiple of the width of a bundle.
func (w *ExportWriter) Skip(minimum uint64, read TileReader) error {
	if minimum%TileWidth != 0 {
		return fmt.Errorf("write export: a log is not pruned at %d, within a bundle", minimum)
	}
	w.skip, w.pruned = minimum, read
	return nil
}

// Have returns the checkpoint of what the place held when it was opened; its origin is empty if there was none.
func (w *ExportWriter) Have() Checkpoint { return w.have }

// KeepCheckpoints makes Write leave every checkpoint in the file checkpoints/SIZE as well, where none is ever replaced: so
// what was once shown stays where outsiders can compare it.
func (w *ExportWriter) KeepCheckpoints() { w.keep = true }

// KeepCosigned puts a checkpoint that a witness has cosigned beside the newest one, which need not be cosigned.
func (w *ExportWriter) KeepCosigned(ctx context.Context, signed []byte) error {
	if err := w.place.Replace(ctx, CosignedFile, signed); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// Write brings the place to the given signed checkpoint. entries yields the canonical bytes of the entries from
// [ExportWriter.Next] on, or from the one that Skip named; each is used only until the next is asked for, those beyond the
// checkpoint are not asked for, and all are asked for twice: first to see that they hash to the checkpoint's root. If they
// do not, or the checkpoint does not verify or does not continue the one that is there, Write returns an error and has
// changed nothing. It needs memory for one bundle, whatever the size of the log, and can be called once.
func (w *ExportWriter) Write(ctx context.Context, signed []byte, entries iter.Seq2[[]byte, error]) error {
	if w.done {
		return errors.New("write export: already written")
	}
	w.done = true
	c, err := OpenCheckpoint(signed, w.verifier)
	if err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	if c.Size < w.have.Size || c.Size == w.have.Size && c.Size > 0 && c.Root != w.have.Root {
		return fmt.Errorf("write export: %w: the checkpoint of size %d does not continue that of size %d that is there", ErrFork, c.Size, w.have.Size)
	}
	if err := w.check(ctx, c, entries); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	leaf := func(h Hash) error { return w.leaf(ctx, h) }
	add := func(entry []byte) error { return w.add(ctx, entry) }
	err = w.each(ctx, w.tree, c.Size, entries, leaf, add)
	if err == nil {
		err = w.publish(ctx, c, signed)
	}
	if err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// ErrFork says that a checkpoint does not continue the one that is there: the log was put back to an older state, or it is
// another history under the same key.
var ErrFork = errors.New("the log is not the one that was exported")

// check finds out whether the entries lead to the root of c.
func (w *ExportWriter) check(ctx context.Context, c Checkpoint, entries iter.Seq2[[]byte, error]) error {
	tree := w.tree
	var old *Hash // root at the size that is there, if it is passed
	grow := func(leaf Hash) error {
		tree.Append(leaf, nil)
		if tree.Size() == w.have.Size {
			root := tree.Root()
			old = &root
		}
		return nil
	}
	add := func(entry []byte) error {
		if len(entry) == 0 || len(entry) > MaxEntry {
			return fmt.Errorf("entry %d has %d bytes", tree.Size(), len(entry))
		}
		return grow(LeafHash(entry))
	}
	if err := w.each(ctx, w.tree, c.Size, entries, grow, add); err != nil {
		return err
	}
	if old != nil && *old != w.have.Root {
		return fmt.Errorf("%w: its first %d entries are others", ErrFork, w.have.Size)
	}
	if tree.Root() != c.Root {
		return errors.New("the entries do not hash to the root of the checkpoint")
	}
	return nil
}

// each calls leaf for the hash of every pruned entry and add for every other, from the end of tree up to size.
func (w *ExportWriter) each(ctx context.Context, tree Tree, size uint64, entries iter.Seq2[[]byte, error], leaf func(Hash) error, add func([]byte) error) error {
	at := tree.Size()
	for ; at < w.skip; at += TileWidth {
		if err := ctx.Err(); err != nil {
			return err
		}
		tile, err := w.pruned(0, at/TileWidth, TileWidth)
		if err == nil && len(tile) != TileWidth*sha256.Size {
			err = fmt.Errorf("tile %d has %d bytes", at/TileWidth, len(tile))
		}
		for i := 0; err == nil && i < len(tile); i += sha256.Size {
			err = leaf(Hash(tile[i:]))
		}
		if err != nil {
			return err
		}
	}
	if at < size {
		for entry, err := range entries {
			if err != nil {
				return fmt.Errorf("entry %d: %w", at, err)
			}
			if err := add(entry); err != nil {
				return err
			}
			if at++; at == size {
				break
			}
			if err := ctx.Err(); err != nil && at%TileWidth == 0 {
				return err
			}
		}
	}
	if at != size {
		return fmt.Errorf("there are %d entries, the checkpoint is of %d", at, size)
	}
	return nil
}

// add appends one entry and writes what it completes.
func (w *ExportWriter) add(ctx context.Context, entry []byte) error {
	index := w.tree.Size()
	w.bundle = binary.BigEndian.AppendUint16(w.bundle, uint16(len(entry)))
	w.bundle = append(w.bundle, entry...)
	if index%TileWidth == TileWidth-1 {
		if err := w.place.Create(ctx, BundlePath(index/TileWidth, TileWidth), w.bundle); err != nil {
			return err
		}
		w.bundle = w.bundle[:0]
	}
	return w.leaf(ctx, LeafHash(entry))
}

// leaf appends a leaf and writes the tiles that it completes.
func (w *ExportWriter) leaf(ctx context.Context, leaf Hash) error {
	var failed error
	w.tree.Append(leaf, func(level int, index uint64, hash Hash) {
		w.pending[level] = append(w.pending[level], hash[:]...)
		if index%TileWidth == TileWidth-1 {
			err := w.place.Create(ctx, TilePath(level, index/TileWidth, TileWidth), w.pending[level])
			failed = errors.Join(failed, err)
			w.pending[level] = w.pending[level][:0]
		}
	})
	return failed
}

// publish writes the partial files of c, the key and the checkpoint, in this order and each safely there before the next.
func (w *ExportWriter) publish(ctx context.Context, c Checkpoint, signed []byte) error {
	if width := int(c.Size % TileWidth); width > 0 {
		if err := w.place.Create(ctx, BundlePath(c.Size/TileWidth, width), w.bundle); err != nil {
			return err
		}
	}
	for level := range w.pending {
		n := tileCount(c.Size, level)
		if width := int(n % TileWidth); width > 0 {
			if err := w.place.Create(ctx, TilePath(level, n/TileWidth, width), w.pending[level]); err != nil {
				return err
			}
		}
	}
	putKey := w.place.Create
	if w.newKey {
		putKey = w.place.Replace
	}
	if err := putKey(ctx, KeyFile, []byte(w.vkey+"\n")); err != nil {
		return err
	}
	if w.keep {
		if err := w.keepCheckpoint(ctx, c, signed); err != nil {
			return err
		}
	}
	if err := w.place.Settle(); err != nil {
		return err
	}
	if err := w.place.Replace(ctx, CheckpointFile, signed); err != nil {
		return err
	}
	return w.dropPartials(ctx, c)
}

// keepCheckpoint writes a checkpoint under its size. One that is there must say the same; it may bear other signatures.
func (w *ExportWriter) keepCheckpoint(ctx context.Context, c Checkpoint, signed []byte) error {
	name := "checkpoints/" + strconv.FormatUint(c.Size, 10)
	there, err := w.place.Read(ctx, name, MaxSmall)
	if err == nil && !bytes.HasPrefix(signed, there) {
		old, err := OpenCheckpoint(there, w.verifier, w.previous...)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if old != c {
			return fmt.Errorf("%w: %s is of another history", ErrFork, name)
		}
		return nil
	}
	return w.place.Create(ctx, name, signed)
}

// dropPartials removes the partial files of the former checkpoint whose full files are there now.
func (w *ExportWriter) dropPartials(ctx context.Context, c Checkpoint) error {
	for level := range w.pending {
		old := tileCount(w.have.Size, level)
		if old%TileWidth == 0 || tileWidth(tileCount(c.Size, level), old/TileWidth) < TileWidth {
			continue
		}
		names := []string{TilePath(level, old/TileWidth, TileWidth)}
		if level == 0 {
			names = append(names, BundlePath(old/TileWidth, TileWidth))
		}
		for _, name := range names {
			if err := w.place.Drop(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}
