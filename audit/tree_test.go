package audit_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"counterfoil/audit"
	"golang.org/x/mod/sumdb/tlog"
)

// reference is the same log kept by x/mod's tlog, node by node.
type reference struct{ stored []tlog.Hash }

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = r.stored[x]
	}
	return out, nil
}

func (r *reference) add(t *testing.T, n int64, data []byte) {
	hashes, err := tlog.StoredHashes(n, data, r)
	if err != nil {
		t.Fatal(err)
	}
	r.stored = append(r.stored, hashes...)
}

func TestTreeAgreesWithTlog(t *testing.T) {
	var ref reference
	tree := audit.NewTree()
	told := make(map[int]uint64)
	for n := range int64(65538) {
		if n <= 600 || n >= 65535 {
			want, err := tlog.TreeHash(n, &ref)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Size() != uint64(n) || tree.Root() != want {
				t.Fatalf("size %d: root %s, want %s", n, tree.Root(), want)
			}
			loaded, err := audit.LoadTree(tree.Size(), tree.MarshalFrontier())
			if err != nil || loaded.Root() != want {
				t.Fatalf("size %d: loaded tree has root %s, %v", n, loaded.Root(), err)
			}
			tree = loaded
		}
		data := binary.BigEndian.AppendUint64(nil, uint64(n))
		ref.add(t, n, data)
		tree.Append(audit.LeafHash(data), func(level int, index uint64, hash audit.Hash) {
			if index != told[level] {
				t.Fatalf("level %d: told of %d, expected %d", level, index, told[level])
			}
			told[level]++
			if want := ref.stored[tlog.StoredHashIndex(8*level, int64(index))]; hash != want {
				t.Fatalf("level %d index %d: %s, want %s", level, index, hash, want)
			}
		})
	}
	if told[0] != 65538 || told[1] != 256 || told[2] != 1 || len(told) != 3 {
		t.Errorf("told of %v", told)
	}
}

func TestLoadTreeRefusesAFrontierOfAnotherSize(t *testing.T) {
	if _, err := audit.LoadTree(3, make([]byte, 32)); err == nil {
		t.Error("no error")
	}
	if tree, err := audit.LoadTree(0, nil); err != nil || !bytes.Equal(tree.MarshalFrontier(), nil) {
		t.Errorf("empty tree: %v", err)
	}
}

func TestAppendingALeafDoesNotAllocate(t *testing.T) {
	tree, entry := audit.NewTree(), make([]byte, 400)
	var nodes int
	count := func(int, uint64, audit.Hash) { nodes++ }
	if n := testing.AllocsPerRun(1000, func() { tree.Append(audit.LeafHash(entry), count); tree.Root() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
