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

	"golang.org/x/mod/sumdb/note"
)

// maxLevel is the highest tile level of a tree of less than 2^63 leaves.
const maxLevel = 7

// ExportWriter writes a log into a directory as C2SP tlog-tiles, or continues one that it wrote before. Tiles and
// bundles are only ever created: one that is there already must be equal. The checkpoint is replaced last, so at every
// moment the directory holds a whole log under its checkpoint.
type ExportWriter struct {
	dir      string
	vkey     string
	verifier note.Verifier
	have     Checkpoint // of what the directory held at first; size 0 if nothing
	tree     Tree       // at Next

	bundle  []byte               // entries of the bundle being filled
	pending [maxLevel + 1][]byte // hashes of the tile being filled, by level
	dirs    map[string]bool      // directories that gained a name, to be synced
	made    [maxLevel + 2]span   // full files made here, by level; bundles last
	done    bool
}

// span is the range of indices from from to below to.
type span struct{ from, to uint64 }

// OpenExport opens or creates an export directory for the log with the verifier key vkey. An error says that the
// directory belongs to another key or is damaged; it has not been changed then.
func OpenExport(dir, vkey string) (*ExportWriter, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("open export: verifier key: %w", err)
	}
	w := &ExportWriter{dir: filepath.Clean(dir), vkey: vkey, verifier: verifier, dirs: make(map[string]bool)}
	switch key, err := os.ReadFile(filepath.Join(dir, keyFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open export: %w", err)
	case string(bytes.TrimSpace(key)) != vkey:
		return nil, fmt.Errorf("open export: %s holds another key", keyFile)
	}
	switch signed, err := os.ReadFile(filepath.Join(dir, checkpointFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open export: %w", err)
	default:
		if w.have, err = OpenCheckpoint(signed, verifier); err != nil {
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

// Write brings the directory to the given signed checkpoint. entries yields the canonical bytes of the entries from
// [ExportWriter.Next] on; each is used only until the next is asked for, and those beyond the checkpoint are not asked
// for. If the checkpoint does not verify, does not continue the one that is there, or the entries do not hash to its
// root, Write takes back what it wrote and returns an error. It needs memory for one bundle, whatever the size of the
// log, and can be called once.
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
		return fmt.Errorf("write export: the checkpoint of size %d does not continue that of size %d in the directory", c.Size, w.have.Size)
	}
	if err := w.write(ctx, c, entries); err != nil {
		return fmt.Errorf("write export: %w", errors.Join(err, w.undo()))
	}
	if err := w.publish(c, signed); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	return nil
}

// write creates every full tile and bundle up to c.
func (w *ExportWriter) write(ctx context.Context, c Checkpoint, entries iter.Seq2[[]byte, error]) error {
	if err := w.mkdir(w.dir); err != nil {
		return err
	}
	if w.tree.Size() < c.Size {
		for entry, err := range entries {
			if err != nil {
				return fmt.Errorf("entry %d: %w", w.tree.Size(), err)
			}
			if err := w.add(entry); err != nil {
				return err
			}
			if w.tree.Size() == c.Size {
				break
			}
			if err := ctx.Err(); err != nil && w.tree.Size()%TileWidth == 0 {
				return err
			}
		}
	}
	if w.tree.Size() != c.Size {
		return fmt.Errorf("there are %d entries, the checkpoint is of %d", w.tree.Size(), c.Size)
	}
	if w.tree.Root() != c.Root {
		return errors.New("the entries do not hash to the root of the checkpoint")
	}
	return nil
}

// add appends one entry and writes what it completes.
func (w *ExportWriter) add(entry []byte) error {
	index := w.tree.Size()
	if len(entry) == 0 || len(entry) > MaxEntry {
		return fmt.Errorf("entry %d has %d bytes", index, len(entry))
	}
	w.bundle = binary.BigEndian.AppendUint16(w.bundle, uint16(len(entry)))
	w.bundle = append(w.bundle, entry...)
	if index%TileWidth == TileWidth-1 {
		if err := w.full(maxLevel+1, index/TileWidth, BundlePath(index/TileWidth, TileWidth), w.bundle); err != nil {
			return err
		}
		w.bundle = w.bundle[:0]
	}
	var failed error
	w.tree.Append(LeafHash(entry), func(level int, index uint64, hash Hash) {
		w.pending[level] = append(w.pending[level], hash[:]...)
		if index%TileWidth == TileWidth-1 {
			err := w.full(level, index/TileWidth, TilePath(level, index/TileWidth, TileWidth), w.pending[level])
			failed = errors.Join(failed, err)
			w.pending[level] = w.pending[level][:0]
		}
	})
	return failed
}

// full writes a full tile or bundle and remembers it for undo.
func (w *ExportWriter) full(kind int, index uint64, name string, data []byte) error {
	made, err := w.create(name, data)
	if made {
		if s := &w.made[kind]; s.to == 0 {
			*s = span{index, index + 1}
		} else {
			s.to = index + 1
		}
	}
	return err
}

// undo removes the full files that this writer made.
func (w *ExportWriter) undo() error {
	var failed error
	for kind, s := range w.made {
		for index := s.from; index < s.to; index++ {
			name := BundlePath(index, TileWidth)
			if kind <= maxLevel {
				name = TilePath(kind, index, TileWidth)
			}
			if err := os.Remove(filepath.Join(w.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, fmt.Errorf("take back: %w", err))
			}
		}
	}
	return failed
}

// publish writes the partial files of c, the key and the checkpoint, in this order and each safely on disk before the next.
func (w *ExportWriter) publish(c Checkpoint, signed []byte) error {
	if width := int(c.Size % TileWidth); width > 0 {
		if _, err := w.create(BundlePath(c.Size/TileWidth, width), w.bundle); err != nil {
			return err
		}
	}
	for level := range w.pending {
		n := tileCount(c.Size, level)
		if width := int(n % TileWidth); width > 0 {
			if _, err := w.create(TilePath(level, n/TileWidth, width), w.pending[level]); err != nil {
				return err
			}
		}
	}
	if _, err := w.create(keyFile, []byte(w.vkey+"\n")); err != nil {
		return err
	}
	for dir := range w.dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := w.replace(checkpointFile, signed); err != nil {
		return err
	}
	return w.dropPartials(c)
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

// create makes a file with the given content unless it is there already. made tells whether it was made. A shorter
// file that begins like data is what an interrupted export leaves, and is completed; any other difference is an error.
func (w *ExportWriter) create(name string, data []byte) (made bool, err error) {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := w.mkdir(filepath.Dir(path)); err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		there, err := os.ReadFile(path)
		switch {
		case err != nil:
			return false, err
		case bytes.Equal(there, data):
			return false, nil
		case bytes.HasPrefix(data, there):
			return false, w.replace(name, data)
		}
		return false, fmt.Errorf("%s is there already and differs", name)
	}
	if err != nil {
		return false, err
	}
	return true, writeSync(f, data)
}

// replace writes a file so that either its former or its new content is there, whatever happens.
func (w *ExportWriter) replace(name string, data []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	err = writeSync(f, data)
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
