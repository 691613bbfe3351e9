//go:build outside

package outside

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"testing"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

const origin = "chat.example/audit/org1"

// largest is the size of the largest log made here: one more than two whole levels of tiles.
const largest = 256*256 + 1

// sizes are those around which tiles begin and end.
var sizes = []int{0, 1, 255, 256, 257, largest - 2, largest - 1, largest}

func signer(t *testing.T, seed byte) *audit.Signer {
	t.Helper()
	key, err := audit.NewKey(bytes.Repeat([]byte{seed}, 32))
	must(t, err)
	s, err := key.For(origin)
	must(t, err)
	return s
}

// entries are the canonical bytes of a log of n records. Logs of another salt have other records from the start.
func entries(t *testing.T, n int, salt byte) [][]byte {
	t.Helper()
	all := make([][]byte, n)
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range all {
		e := audit.Entry{
			Seq: uint64(i), Time: begin.Add(time.Duration(i) * time.Millisecond), Organisation: "org1", Kind: audit.Disclosure, Action: "introduce",
			Actor: audit.Party{Kind: "agent", Ref: "9f86d081"}, Subject: audit.Party{Kind: "visitor", Ref: "2f0a"}, Decision: audit.DecisionAllow,
		}
		binary.BigEndian.PutUint64(e.Nonce[:], uint64(i)+1)
		e.Nonce[15] = salt
		var err error
		all[i], err = e.Marshal()
		must(t, err)
	}
	return all
}

// export brings dir to the log of all entries, as the product does.
func export(t *testing.T, dir string, s *audit.Signer, all [][]byte) {
	t.Helper()
	tree := audit.NewTree()
	for _, e := range all {
		tree.Append(audit.LeafHash(e), nil)
	}
	signed, err := s.Sign(tree.Size(), tree.Root())
	must(t, err)
	w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
	must(t, err)
	must(t, w.Write(t.Context(), signed, from(all, w.Next())))
}

func from(all [][]byte, next uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, e := range all[min(next, uint64(len(all))):] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// opened is the checkpoint of an export.
func opened(t *testing.T, dir string, s *audit.Signer) audit.Checkpoint {
	t.Helper()
	c, err := audit.OpenCheckpoint([]byte(read(t, dir, "checkpoint")), s.Verifier())
	must(t, err)
	return c
}

// proof is the tlog-proof of one record of an export.
func proof(t *testing.T, dir string, s *audit.Signer, index uint64) []byte {
	t.Helper()
	c := opened(t, dir, s)
	hashes, err := audit.InclusionProof(index, c.Size, audit.NewHashReader(c, audit.DirTiles(os.DirFS(dir))))
	must(t, err)
	var b bytes.Buffer
	must(t, audit.WriteProof(&b, audit.Proof{Index: index, Hashes: hashes, Checkpoint: []byte(read(t, dir, "checkpoint"))}))
	return b.Bytes()
}

// consistency is the proof that an export continues the log of its first old records.
func consistency(t *testing.T, dir string, s *audit.Signer, old uint64) []audit.Hash {
	t.Helper()
	c := opened(t, dir, s)
	hashes, err := audit.ConsistencyProof(old, c.Size, audit.NewHashReader(c, audit.DirTiles(os.DirFS(dir))))
	must(t, err)
	return hashes
}

// decisionKey is the key under which the database takes records.
func decisionKey(t *testing.T) pglog.DecisionKey {
	t.Helper()
	k, err := pglog.NewDecisionKey(bytes.Repeat([]byte{9}, 32))
	must(t, err)
	return k
}

func named(n int) string { return fmt.Sprintf("%d records", n) }
