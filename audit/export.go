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
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/note"
)

// maxLevel is the highest tile level of a tree of less than 2^63 leaves.
const maxLevel = 7

// ExportWriter writes a log into a directory as C2SP tlog-tiles, or continues one that it wrote before. Tiles and
// bundles are only ever created, and only after the entries were found to hash to the signed root: one that is there
// already must be equal, or be the torn beginning that a crash leaves. The checkpoint is replaced last, so at every
// moment the directory holds a whole log under its checkpoint, and what was interrupted is completed by the next Write.
type ExportWriter struct {
	dir      string
	vkey     string
	verifier note.Verifier
	previous []note.Verifier // of keys that sign no more, or soon will not
	have     Checkpoint      // of what the directory held at first; size 0 if nothing
	tree     Tree            // at Next

	bundle  []byte               // entries of the bundle being filled
	pending [maxLevel + 1][]byte // hashes of the tile being filled, by level
	dirs    map[string]bool      // directories that gained a name, to be synced
	skip    uint64               // entries before this one are pruned
	pruned  TileReader           // and these are their hashes
	keep    bool                 // checkpoints beside the newest one
	newKey  bool                 // key.pub holds a previous key
	done    bool

	write func(f *os.File, data []byte) error // writes, syncs and closes
}

// OpenExport opens or creates an export directory for the log with the verifier key vkey. What lies there may be of a
// previous key; Write then puts the present one in its place. An error says that the directory belongs to another key or
// is damaged; it has not been changed then.
func OpenExport(dir, vkey string, previous ...string) (*ExportWriter, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("open export: verifier key: %w", err)
	}
	w := &ExportWriter{dir: filepath.Clean(dir), vkey: vkey, verifier: verifier, dirs: make(map[string]bool), write: writeSync}
	for _, old := range previous {
		v, err := note.NewVerifier(old)
		if err != nil {
			return nil, fmt.Errorf("open export: previous verifier key: %w", err)
		}
		w.previous = append(w.previous, v)
	}
	switch key, err := os.ReadFile(filepath.Join(dir, keyFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open export: %w", err)
	case slices.Contains(previous, string(bytes.TrimSpace(key))):
		w.newKey = true
	case string(bytes.TrimSpace(key)) != vkey:
		return nil, fmt.Errorf("open export: %s holds another key", keyFile)
	}
	switch signed, err := os.ReadFile(filepath.Join(dir, CheckpointFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open export: %w", err)
	default:
		if w.have, err = OpenCheckpoint(signed, verifier, w.previous...); err != nil {
			return nil, fmt.Errorf("open export: the checkpoint there: %w", err)
		}
		if err := w.restore(); err != nil {
			return nil, fmt.Errorf("open export: %w", err)
		}
	}
	return w, nil
}

// restore rebuilds the tree at the last full bundle from the right edge of the tiles that are there.
func (w *ExportWriter) restore() error {
	read := DirTiles(os.DirFS(w.dir))
	whole := Tree{}
	for level := maxLevel; level >= 0; level-- {
		n := tileCount(w.have.Size, level)
		width := int(n % TileWidth)
		if width == 0 {
			continue
		}
		data, err := read(level, n/TileWidth, width)
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

// Next returns the index of the first entry that Write needs: 0 for a new directory, else where the last full bundle
// of the directory ends.
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

// Have returns the checkpoint of what the directory held when it was opened; its origin is empty if there was none.
func (w *ExportWriter) Have() Checkpoint { return w.have }

// KeepCheckpoints makes Write leave every checkpoint in the file checkpoints/SIZE as well, where none is ever replaced: so
// what was once shown stays where outsiders can compare it.
func (w *ExportWriter) KeepCheckpoints() { w.keep = true }

// KeepCosigned puts a checkpoint that a witness has cosigned beside the newest one, which need not be cosigned.
func (w *ExportWriter) KeepCosigned(signed []byte) error {
	if err := w.replace(CosignedFile, signed); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// Write brings the directory to the given signed checkpoint. entries yields the canonical bytes of the entries from
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
		return fmt.Errorf("write export: %w: the checkpoint of size %d does not continue that of size %d in the directory", ErrFork, c.Size, w.have.Size)
	}
	if err := w.check(ctx, c, entries); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	if err := w.mkdir(w.dir); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	err = w.each(ctx, w.tree, c.Size, entries, w.leaf, w.add)
	if err == nil {
		err = w.publish(c, signed)
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
func (w *ExportWriter) add(entry []byte) error {
	index := w.tree.Size()
	w.bundle = binary.BigEndian.AppendUint16(w.bundle, uint16(len(entry)))
	w.bundle = append(w.bundle, entry...)
	if index%TileWidth == TileWidth-1 {
		if err := w.create(BundlePath(index/TileWidth, TileWidth), w.bundle); err != nil {
			return err
		}
		w.bundle = w.bundle[:0]
	}
	return w.leaf(LeafHash(entry))
}

// leaf appends a leaf and writes the tiles that it completes.
func (w *ExportWriter) leaf(leaf Hash) error {
	var failed error
	w.tree.Append(leaf, func(level int, index uint64, hash Hash) {
		w.pending[level] = append(w.pending[level], hash[:]...)
		if index%TileWidth == TileWidth-1 {
			err := w.create(TilePath(level, index/TileWidth, TileWidth), w.pending[level])
			failed = errors.Join(failed, err)
			w.pending[level] = w.pending[level][:0]
		}
	})
	return failed
}

// publish writes the partial files of c, the key and the checkpoint, in this order and each safely on disk before the next.
func (w *ExportWriter) publish(c Checkpoint, signed []byte) error {
	if width := int(c.Size % TileWidth); width > 0 {
		if err := w.create(BundlePath(c.Size/TileWidth, width), w.bundle); err != nil {
			return err
		}
	}
	for level := range w.pending {
		n := tileCount(c.Size, level)
		if width := int(n % TileWidth); width > 0 {
			if err := w.create(TilePath(level, n/TileWidth, width), w.pending[level]); err != nil {
				return err
			}
		}
	}
	putKey := w.create
	if w.newKey {
		putKey = w.replace
	}
	if err := putKey(keyFile, []byte(w.vkey+"\n")); err != nil {
		return err
	}
	if w.keep {
		if err := w.keepCheckpoint(c, signed); err != nil {
			return err
		}
	}
	for dir := range w.dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := w.replace(CheckpointFile, signed); err != nil {
		return err
	}
	return w.dropPartials(c)
}

// keepCheckpoint writes a checkpoint under its size. One that is there must say the same; it may bear other signatures.
func (w *ExportWriter) keepCheckpoint(c Checkpoint, signed []byte) error {
	name := "checkpoints/" + strconv.FormatUint(c.Size, 10)
	there, err := os.ReadFile(filepath.Join(w.dir, name))
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
	return w.create(name, signed)
}

// dropPartials removes the partial files of the former checkpoint whose full files are there now.
func (w *ExportWriter) dropPartials(c Checkpoint) error {
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
			if err := os.RemoveAll(filepath.Join(w.dir, name) + ".p"); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes a file with the given content unless it is there already. A shorter file that begins like data is what an
// interrupted export leaves, and is completed; any other difference is an error.
func (w *ExportWriter) create(name string, data []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := w.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		there, err := os.ReadFile(path)
		switch {
		case err != nil:
			return err
		case bytes.Equal(there, data):
			return nil
		case bytes.HasPrefix(data, there):
			return w.replace(name, data)
		}
		return fmt.Errorf("%s is there already and differs", name)
	}
	if err != nil {
		return err
	}
	return w.write(f, data)
}

// replace writes a file so that either its former or its new content is there, whatever happens.
func (w *ExportWriter) replace(name string, data []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	err = w.write(f, data)
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// mkdir makes a directory and those above it, once, and remembers each that gains a name.
func (w *ExportWriter) mkdir(dir string) error {
	if w.dirs[dir] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for w.dirs[dir] = true; dir != w.dir; w.dirs[dir] = true {
		dir = filepath.Dir(dir)
	}
	return nil
}

func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
