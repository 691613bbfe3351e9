package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strconv"
)

// Files of an export beside the tiles.
const (
	CheckpointFile = "checkpoint"
	CosignedFile   = "cosigned" // the newest checkpoint that a witness has cosigned
	KeyFile        = "key.pub"
)

// TilePath returns where an export keeps a tile: width hashes of the given level, from hash index*256 on
// (C2SP tlog-tiles). A width below 256 names a partial tile.
func TilePath(level int, index uint64, width int) string {
	return tilePath("tile/"+strconv.Itoa(level)+"/", index, width)
}

// BundlePath returns where an export keeps a bundle: width entries from entry index*256 on (C2SP tlog-tiles).
func BundlePath(index uint64, width int) string { return tilePath("tile/entries/", index, width) }

func tilePath(prefix string, index uint64, width int) string {
	name := fmt.Sprintf("%03d", index%1000)
	for index >= 1000 {
		index /= 1000
		name = fmt.Sprintf("x%03d/%s", index%1000, name)
	}
	if width != TileWidth {
		name += ".p/" + strconv.Itoa(width)
	}
	return prefix + name
}

// tileCount returns how many hashes tile level level of a tree of size leaves holds.
func tileCount(size uint64, level int) uint64 { return size >> (tileHeight * level) }

// tileWidth returns how many of n hashes or entries the index-th tile or bundle holds, 0 to 256.
func tileWidth(n, index uint64) int {
	if index >= n/TileWidth+1 {
		return 0
	}
	return int(min(n-index*TileWidth, TileWidth))
}

// readPart reads the file of a tile or bundle into buf, which it may replace by a larger one. If a partial file is
// not there the full one is read instead, because a log may drop partial files once they are full; part tells which.
func readPart(fsys fs.FS, path func(width int) string, width, limit int, buf []byte) (data []byte, part bool, err error) {
	data, err = readFile(fsys, path(width), limit, buf)
	if width < TileWidth && errors.Is(err, fs.ErrNotExist) {
		if full, err := readFile(fsys, path(TileWidth), limit, data); !errors.Is(err, fs.ErrNotExist) {
			return full, false, err
		}
	}
	return data, width < TileWidth, err
}

// errTooLarge says that a file is larger than anything it could properly hold.
var errTooLarge = errors.New("the file is too large")

// readFile reads a whole file of at most limit bytes, reusing buf.
func readFile(fsys fs.FS, name string, limit int, buf []byte) ([]byte, error) {
	if d, ok := fsys.(directory); ok {
		return d.readFile(name, limit, buf)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return buf, err
	}
	defer f.Close()
	buf = buf[:0]
	info, err := f.Stat()
	if err != nil {
		return buf, err
	}
	size := info.Size()
	if size <= int64(limit) && int64(cap(buf)) <= size {
		buf = make([]byte, 0, size+size/8+1)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return buf, fmt.Errorf("read %s: %w", name, errTooLarge)
		}
		if err == io.EOF || err == nil && int64(len(buf)) == size {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// maxBundle is the size of the largest bundle of entries.
const maxBundle = TileWidth * (2 + MaxEntry)

// cutEntry takes the first entry off a bundle. ok is false if the bundle is empty or ends within it.
func cutEntry(bundle []byte) (entry, rest []byte, ok bool) {
	if len(bundle) < 2 {
		return nil, bundle, false
	}
	n := 2 + int(binary.BigEndian.Uint16(bundle))
	if len(bundle) < n {
		return nil, bundle, false
	}
	return bundle[2:n], bundle[n:], true
}

// ExportEntries gives the entries of an export from one index on up to a size that a checkpoint of it has. It checks nothing: VerifyExport does.
func ExportEntries(fsys fs.FS, from, size uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var buf []byte
		for b := from / TileWidth; b*TileWidth < size; b++ {
			var err error
			buf, _, err = readPart(fsys, func(width int) string { return BundlePath(b, width) }, tileWidth(size, b), maxBundle, buf)
			rest := buf
			for i := b * TileWidth; err == nil && i < min(size, (b+1)*TileWidth); i++ {
				var entry []byte
				var ok bool
				if entry, rest, ok = cutEntry(rest); !ok {
					err = fmt.Errorf("%s ends within entry %d", BundlePath(b, tileWidth(size, b)), i)
				} else if i >= from && !yield(entry, nil) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
