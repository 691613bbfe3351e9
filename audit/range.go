package audit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// VerifyRange checks the entries from one index on, up to but without another, against the checkpoint c of their log: that each is
// the leaf which the signed root has there, canonical, numbered by its position, and not dated before the one ahead of it. It
// believes no tile that read gives. The error is for what says nothing about the log.
func VerifyRange(ctx context.Context, c Checkpoint, read TileReader, from, to uint64, entries iter.Seq2[[]byte, error], progress func(done, total uint64)) ([]Fault, error) {
	if from > to || to > c.Size {
		return nil, fmt.Errorf("verify entries %d to %d: the log has %d", from, to, c.Size)
	}
	var failed error // of reading, as opposed to what was read
	r := NewHashReader(c, func(level int, index uint64, width int) ([]byte, error) {
		data, err := read(level, index, width)
		if err == nil && len(data) != width*sha256.Size {
			return make([]byte, width*sha256.Size), nil // which hashes to nothing that was signed
		}
		failed = err
		return data, err
	})
	var faults []Fault
	add := func(kind FaultKind, index uint64, format string, args ...any) {
		if len(faults) < maxFaults {
			faults = append(faults, Fault{Kind: kind, Index: int64(index), Text: fmt.Sprintf(format, args...)})
		}
	}
	var indexes []int64
	var leaves []Hash
	compare := func(first uint64) error {
		signed, err := r.ReadHashes(indexes)
		switch {
		case failed != nil:
			return fmt.Errorf("verify entries from %d on: %w", first, failed)
		case err != nil:
			block := first / TileWidth * TileWidth
			add(CorruptTile, first, "The hashes of the block of records %d to %d, of which some were asked for, do not lead to the signed root.", block, min(block+TileWidth, c.Size)-1)
		default:
			for i, leaf := range leaves {
				if signed[i] != leaf {
					add(Changed, first+uint64(i), "The record %d is not the one that was signed.", first+uint64(i))
				}
			}
		}
		indexes, leaves = indexes[:0], leaves[:0]
		return nil
	}
	if from == to {
		return nil, nil
	}
	at, last := from, time.Time{}
	for entry, err := range entries {
		if err != nil {
			return faults, fmt.Errorf("verify entry %d: %w", at, err)
		}
		e, err := ParseEntry(entry)
		switch {
		case err != nil:
			add(NotCanonical, at, "The record %d has not the one form that is allowed.", at)
		case e.Seq != at:
			add(Gap, at, "The record %d calls itself %d.", at, e.Seq)
		case e.Time.Before(last):
			add(Redated, at, "The record %d is dated before the one ahead of it.", at)
		default:
			last = e.Time
		}
		indexes, leaves = append(indexes, tlog.StoredHashIndex(0, int64(at))), append(leaves, LeafHash(entry))
		if at++; at%TileWidth == 0 || at == to {
			if err := compare(at - uint64(len(indexes))); err != nil {
				return faults, err
			}
			if progress != nil {
				progress(at-from, to-from)
			}
		}
		if at == to {
			break
		}
		if err := ctx.Err(); err != nil {
			return faults, err
		}
	}
	if at != to {
		add(Truncated, at, "Everything from the record %d on is missing.", at)
	}
	return faults, nil
}
