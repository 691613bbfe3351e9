package audit

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a SHA-256 hash of the tree. Its String method is base64, as in a checkpoint.
type Hash = tlog.Hash

// TileWidth is how many hashes a full tile and how many entries a full bundle holds (C2SP tlog-tiles).
const TileWidth = 256

// tileHeight is log2(TileWidth): a tile of level L+1 holds nodes this many tree levels above those of level L.
const tileHeight = 8

// LeafHash returns the leaf hash of an entry's canonical bytes (RFC 6962 §2.1).
func LeafHash(entry []byte) Hash {
	var room [1024]byte
	b := append(append(room[:0], 0), entry...)
	return sha256.Sum256(b)
}

// nodeHash returns the hash of an inner node (RFC 6962 §2.1).
func nodeHash(left, right *Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// Tree is an RFC 6962 Merkle tree reduced to its right edge: the roots of the complete subtrees that make up its
// leaves, at most 64. It can grow and tell its root, and needs nothing else. The zero value is the empty tree. A Tree is
// not for concurrent use.
type Tree struct {
	size uint64
	edge [64]Hash // edge[h] is the complete subtree of height h, if bit h of size is set
}

// NewTree returns an empty tree.
func NewTree() *Tree { return new(Tree) }

// LoadTree returns the tree of size leaves whose frontier [Tree.MarshalFrontier] gave.
func LoadTree(size uint64, frontier []byte) (*Tree, error) {
	if want := bits.OnesCount64(size) * sha256.Size; len(frontier) != want {
		return nil, fmt.Errorf("load tree: frontier of size %d has %d bytes, expected %d", size, len(frontier), want)
	}
	t := &Tree{size: size}
	for h := 63; h >= 0; h-- {
		if size>>h&1 == 1 {
			frontier = frontier[copy(t.edge[h][:], frontier):]
		}
	}
	return t, nil
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// MarshalFrontier returns the roots of the complete subtrees, largest first, 32 bytes each.
func (t *Tree) MarshalFrontier() []byte {
	out := make([]byte, 0, bits.OnesCount64(t.size)*sha256.Size)
	for h := 63; h >= 0; h-- {
		if t.size>>h&1 == 1 {
			out = append(out, t.edge[h][:]...)
		}
	}
	return out
}

// NodeFunc is told of a hash that belongs into a tile: the index-th hash of tile level level, that is hash index%256 of
// tile index/256. On level 0 those are the leaf hashes, on level 1 the roots of full level 0 tiles, and so on.
type NodeFunc func(level int, index uint64, hash Hash)

// Append adds a leaf. If node is not nil it is called for each hash that the leaf adds to the tiles: once for level 0,
// and once more for each tile the leaf completes. Every hash is reported exactly once in the life of a tree, and the
// hashes of one level in ascending order.
func (t *Tree) Append(leaf Hash, node NodeFunc) { t.appendAt(0, leaf, node) }

// appendAt adds a complete subtree of the given height, whose leaves must begin at a multiple of their number.
func (t *Tree) appendAt(height int, hash Hash, node NodeFunc) {
	index := t.size >> height
	for h := height; ; h++ {
		if node != nil && h%tileHeight == 0 {
			node(h/tileHeight, index, hash)
		}
		if index&1 == 0 {
			t.edge[h] = hash
			break
		}
		hash = nodeHash(&t.edge[h], &hash)
		index >>= 1
	}
	t.size += 1 << height
}

// Root returns the Merkle tree hash of all leaves (RFC 6962 §2.1); for the empty tree the hash of nothing.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	h := bits.TrailingZeros64(t.size)
	root := t.edge[h]
	for h++; h < 64; h++ {
		if t.size>>h&1 == 1 {
			root = nodeHash(&t.edge[h], &root)
		}
	}
	return root
}
