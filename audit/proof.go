package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// HashReader gives inner hashes of a tree by their storage index, see [tlog.StoredHashIndex].
type HashReader = tlog.HashReader

// TileReader returns the first width hashes of a tile, 32 bytes each.
type TileReader func(level int, index uint64, width int) ([]byte, error)

// DirTiles reads the tiles of an export directory.
func DirTiles(fsys fs.FS) TileReader {
	return func(level int, index uint64, width int) ([]byte, error) {
		path := func(width int) string { return TilePath(level, index, width) }
		data, _, err := readPart(fsys, path, width, TileWidth*sha256.Size, nil)
		if err != nil {
			return nil, err
		}
		if len(data) < width*sha256.Size {
			return nil, fmt.Errorf("read %s: %d bytes, expected %d", path(width), len(data), width*sha256.Size)
		}
		return data[:width*sha256.Size], nil
	}
}

// NewHashReader returns a reader of the tree under a checkpoint that believes no tile: what it returns has been
// recomputed up to the checkpoint's root.
func NewHashReader(c Checkpoint, read TileReader) HashReader {
	if c.Size == 0 || c.Size > math.MaxInt64 {
		return tlog.HashReaderFunc(func([]int64) ([]Hash, error) {
			return nil, fmt.Errorf("read hashes: a tree of size %d has none", c.Size)
		})
	}
	return tlog.TileHashReader(tlog.Tree{N: int64(c.Size), Hash: c.Root}, tiles(read))
}

// tiles is a TileReader in the shape the tlog package wants.
type tiles TileReader

func (tiles) Height() int { return tileHeight }

func (read tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(want))
	for i, t := range want {
		var err error
		if data[i], err = read(t.L, uint64(t.N), t.W); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// ErrProof says that a proof does not show what it is held against.
var ErrProof = errors.New("the proof does not hold")

// InclusionProof returns the hashes that lead from leaf index to the root of the tree of size leaves, from the leaf's
// sibling upwards (RFC 6962 §2.1.1).
func InclusionProof(index, size uint64, r HashReader) ([]Hash, error) {
	if index >= size || size > math.MaxInt64 {
		return nil, fmt.Errorf("prove inclusion: a log of size %d has no index %d", size, index)
	}
	p, err := tlog.ProveRecord(int64(size), int64(index), r)
	if err != nil {
		return nil, fmt.Errorf("prove inclusion: %w", err)
	}
	return p, nil
}

// VerifyInclusion checks what InclusionProof returned. An error that says the proof is wrong wraps ErrProof.
func VerifyInclusion(leaf Hash, index, size uint64, root Hash, proof []Hash) error {
	if index >= size || size > math.MaxInt64 {
		return fmt.Errorf("verify inclusion: %w: a log of size %d has no index %d", ErrProof, size, index)
	}
	if err := tlog.CheckRecord(proof, int64(size), root, int64(index), leaf); err != nil {
		return fmt.Errorf("verify inclusion: %w", ErrProof)
	}
	return nil
}

// TreeRoot returns the root that the tree had at size, which is at most that of the tree r reads.
func TreeRoot(size uint64, r HashReader) (Hash, error) {
	if size == 0 {
		return NewTree().Root(), nil
	}
	if size > math.MaxInt64 {
		return Hash{}, fmt.Errorf("compute root: no log has %d entries", size)
	}
	root, err := tlog.TreeHash(int64(size), r)
	if err != nil {
		return Hash{}, fmt.Errorf("compute root: %w", err)
	}
	return root, nil
}

// ConsistencyProof returns the hashes that show the tree of size newSize to continue that of size oldSize
// (RFC 6962 §2.1.2). It is empty if oldSize is 0 or equal to newSize.
func ConsistencyProof(oldSize, newSize uint64, r HashReader) ([]Hash, error) {
	if oldSize > newSize || newSize > math.MaxInt64 {
		return nil, fmt.Errorf("prove consistency: size %d does not continue size %d", newSize, oldSize)
	}
	if oldSize == 0 || oldSize == newSize {
		return nil, nil
	}
	p, err := tlog.ProveTree(int64(newSize), int64(oldSize), r)
	if err != nil {
		return nil, fmt.Errorf("prove consistency: %w", err)
	}
	return p, nil
}

// VerifyConsistency checks what ConsistencyProof returned. An error that says the proof is wrong wraps ErrProof.
func VerifyConsistency(oldSize uint64, oldRoot Hash, newSize uint64, newRoot Hash, proof []Hash) error {
	good := false
	switch {
	case oldSize > newSize || newSize > math.MaxInt64:
	case oldSize == newSize:
		good = len(proof) == 0 && oldRoot == newRoot
	case oldSize == 0:
		good = len(proof) == 0 && oldRoot == NewTree().Root()
	default:
		good = tlog.CheckTree(proof, int64(newSize), newRoot, int64(oldSize), oldRoot) == nil
	}
	if !good {
		return fmt.Errorf("verify consistency: %w", ErrProof)
	}
	return nil
}

// Proof shows, with nothing but the log's public key, that an entry is in the log (C2SP tlog-proof).
type Proof struct {
	Index      uint64
	Hashes     []Hash // as InclusionProof returns them
	Checkpoint []byte // signed, of the size the hashes lead to
}

const proofHeader = "c2sp.org/tlog-proof@v1"

// WriteProof writes p as a .tlog-proof file.
func WriteProof(w io.Writer, p Proof) error {
	b := fmt.Appendf(nil, "%s\nindex %d\n", proofHeader, p.Index)
	for _, h := range p.Hashes {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(append(b, '\n'), p.Checkpoint...)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write proof: %w", err)
	}
	return nil
}

// WriteUpdate writes what a witness is asked to cosign (C2SP tlog-witness, add-checkpoint): that the signed checkpoint
// continues the log of old entries, as the consistency proof shows.
func WriteUpdate(w io.Writer, old uint64, proof []Hash, signed []byte) error {
	b := fmt.Appendf(nil, "old %d\n", old)
	for _, h := range proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(append(b, '\n'), signed...)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write update: %w", err)
	}
	return nil
}

// maxProof bounds a proof file: 63 hashes and a checkpoint with room for many witnesses.
const maxProof = 64 << 10

// ParseProof reads a .tlog-proof file. It proves nothing until [Proof.Verify] does.
func ParseProof(b []byte) (Proof, error) {
	if len(b) > maxProof {
		return Proof{}, errors.New("parse proof: too large")
	}
	head, checkpoint, found := strings.Cut(string(b), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != proofHeader {
		return Proof{}, errors.New("parse proof: not a " + proofHeader + " file")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:] // opaque, and not covered by the proof
	}
	if len(lines) == 0 || len(lines) > 64 {
		return Proof{}, errors.New("parse proof: expected an index and at most 63 hashes")
	}
	digits, found := strings.CutPrefix(lines[0], "index ")
	index, err := strconv.ParseUint(digits, 10, 63)
	if !found || err != nil || strconv.FormatUint(index, 10) != digits {
		return Proof{}, errors.New("parse proof: no index")
	}
	p := Proof{Index: index, Checkpoint: []byte(checkpoint)}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line {
			return Proof{}, errors.New("parse proof: a line is not a base64 hash")
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// Verify checks that entry is, byte for byte, record p.Index of the log whose checkpoints verifier checks, and returns
// that checkpoint.
func (p Proof) Verify(entry []byte, verifier note.Verifier) (Checkpoint, error) {
	c, err := OpenCheckpoint(p.Checkpoint, verifier)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := VerifyInclusion(LeafHash(entry), p.Index, c.Size, c.Root, p.Hashes); err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}
