package pglog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
)

// Head is where a log stands.
type Head struct {
	Origin     string
	Size       uint64
	Checkpoint []byte // signed, of exactly this size
}

const sqlHead = "select origin, size, checkpoint from access.log_head($1)"

// Head reads where an organisation's log stands.
func (l *Log) Head(ctx context.Context, organisation uuid.UUID) (Head, error) {
	var h Head
	var size int64
	if err := l.pool.QueryRow(ctx, sqlHead, organisation).Scan(&h.Origin, &size, &h.Checkpoint); err != nil {
		return Head{}, fmt.Errorf("read the head of the log: %w", err)
	}
	h.Size = uint64(size)
	return h, nil
}

// VerifierKey is the line by which an outsider checks the checkpoints of a log.
func (l *Log) VerifierKey(origin string) (string, error) {
	signer, err := l.key.For(origin)
	if err != nil {
		return "", err
	}
	return signer.VerifierKey(), nil
}

// Checkpoint opens a head's checkpoint with the log's own key; it fails when another key signed it.
func (l *Log) Checkpoint(h Head) (audit.Checkpoint, error) {
	signer, err := l.key.For(h.Origin)
	if err != nil {
		return audit.Checkpoint{}, err
	}
	c, err := signer.Open(h.Checkpoint)
	if err != nil {
		return audit.Checkpoint{}, fmt.Errorf("the checkpoint key is not the one that signed the log %s: %w", h.Origin, err)
	}
	return c, nil
}

var errMissing = errors.New("missing")

// missing says why an entry is not there.
func (l *Log) missing(ctx context.Context, organisation uuid.UUID, seq uint64) error {
	r, err := l.Retention(ctx, organisation)
	if err == nil && seq < r.First {
		return fmt.Errorf("entries before %d were pruned after %d days: they are in the exports made before", r.First, r.Days)
	}
	return errors.Join(fmt.Errorf("entry %d is missing", seq), err)
}

// readAtOnce bounds what is held in memory while a log is read.
const readAtOnce = 2048

const sqlEntries = "select seq, body from access.log_entries($1, $2, $3, $4)"

// Entries yields the canonical bytes of the entries from begin, up to but without to, in order, each time it is ranged over.
func (l *Log) Entries(ctx context.Context, organisation uuid.UUID, begin, to uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for from := begin; from < to; {
			rows, err := l.pool.Query(ctx, sqlEntries, organisation, int64(from), int64(to), readAtOnce)
			if err != nil {
				yield(nil, fmt.Errorf("read the log: %w", err))
				return
			}
			var seq int64
			var body []byte
			start, stop := from, false
			_, err = pgx.ForEachRow(rows, []any{&seq, &body}, func() error {
				if uint64(seq) != from {
					return errMissing
				}
				from++
				if !stop {
					stop = !yield(body, nil)
				}
				body = nil
				return nil
			})
			if stop {
				return
			}
			if err == nil && from == start || errors.Is(err, errMissing) {
				err = l.missing(ctx, organisation, from)
			}
			if err != nil {
				yield(nil, fmt.Errorf("read the log: %w", err))
				return
			}
		}
	}
}

const sqlHeads = "select organisation_id, origin, size, last_at from access.log_heads()"

// Standing is where one organisation's log stands, without its checkpoint.
type Standing struct {
	Organisation uuid.UUID
	Origin       string
	Size         uint64
	LastAt       time.Time // of the last record
}

// Standings reads where all logs stand.
func (l *Log) Standings(ctx context.Context) ([]Standing, error) {
	rows, err := l.pool.Query(ctx, sqlHeads)
	if err != nil {
		return nil, fmt.Errorf("read the heads of all logs: %w", err)
	}
	var all []Standing
	var s Standing
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&s.Organisation, &s.Origin, &size, &s.LastAt}, func() error {
		s.Size = uint64(size)
		all = append(all, s)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the heads of all logs: %w", err)
	}
	return all, nil
}

const sqlEpochs = "select epoch, log_id, origin, size, closed_at from access.epochs($1)"

// Epoch is a log of an organisation that was closed, because it did not continue what was published of it. Whatever
// reads a log reads it too, under its LogID; nothing can be appended to it.
type Epoch struct {
	Epoch    int
	LogID    uuid.UUID
	Origin   string
	Size     uint64
	ClosedAt time.Time
}

// Epochs reads which logs of an organisation were closed.
func (l *Log) Epochs(ctx context.Context, organisation uuid.UUID) ([]Epoch, error) {
	rows, err := l.pool.Query(ctx, sqlEpochs, organisation)
	if err != nil {
		return nil, fmt.Errorf("read the closed logs: %w", err)
	}
	var all []Epoch
	var e Epoch
	var size int64
	_, err = pgx.ForEachRow(rows, []any{&e.Epoch, &e.LogID, &e.Origin, &size, &e.ClosedAt}, func() error {
		e.Size = uint64(size)
		all = append(all, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the closed logs: %w", err)
	}
	return all, nil
}

// NextEpoch gives what a log is begun anew with, after h: its origin and the checkpoint of its being empty, and the id under
// which the old one is kept. Only the superuser can do it (audit.begin_epoch).
func (l *Log) NextEpoch(organisation uuid.UUID, h Head) (next Head, kept uuid.UUID, err error) {
	next.Origin = audit.NextOrigin(h.Origin)
	signer, err := l.key.For(next.Origin)
	if err != nil {
		return Head{}, uuid.Nil, err
	}
	if next.Checkpoint, err = signer.Sign(0, audit.NewTree().Root()); err != nil {
		return Head{}, uuid.Nil, err
	}
	return next, uuid.NewSHA1(organisation, []byte(h.Origin)), nil
}

// Export brings the directory dir up to the log's present checkpoint, as C2SP tlog-tiles that outside tools read. It
// says at which size it stands now.
func (l *Log) Export(ctx context.Context, organisation uuid.UUID, dir string) (Head, error) {
	h, err := l.Head(ctx, organisation)
	if err != nil {
		return Head{}, err
	}
	w, err := l.OpenExport(ctx, h.Origin, audit.Dir(dir))
	if err != nil {
		return Head{}, err
	}
	return h, l.Write(ctx, organisation, w, h)
}

// OpenExport opens the export of the log called origin.
func (l *Log) OpenExport(ctx context.Context, origin string, place audit.Place) (*audit.ExportWriter, error) {
	signer, err := l.key.For(origin)
	if err != nil {
		return nil, err
	}
	return audit.OpenExport(ctx, place, signer.VerifierKey(), signer.PreviousVerifierKeys()...)
}

// Write brings an export up to h, whose checkpoint may bear the signatures of witnesses as well.
func (l *Log) Write(ctx context.Context, organisation uuid.UUID, w *audit.ExportWriter, h Head) error {
	from := w.Next()
	if first, err := l.first(ctx, organisation, from); err != nil {
		return err
	} else if first > from { // what came before was pruned; its hashes are kept
		if err := w.Skip(first, l.tiles(ctx, organisation)); err != nil {
			return err
		}
		from = first
	}
	return w.Write(ctx, h.Checkpoint, l.Entries(ctx, organisation, from, h.Size))
}

// first is the number of the first entry from the given one on that is there; the given one if there is none.
func (l *Log) first(ctx context.Context, organisation uuid.UUID, from uint64) (uint64, error) {
	var seq int64
	var body []byte
	err := l.pool.QueryRow(ctx, sqlEntries, organisation, int64(from), int64(math.MaxInt64), 1).Scan(&seq, &body)
	if errors.Is(err, pgx.ErrNoRows) {
		return from, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	return uint64(seq), nil
}

// Consistency proves that the log at now continues the log of old entries, whose root it gives as well. now is a checkpoint
// of the log; if the log in the database is not the one that was signed there, or not the one whose root the caller
// knows, the proof or its check fails.
func (l *Log) Consistency(ctx context.Context, organisation uuid.UUID, old uint64, now audit.Checkpoint) (root audit.Hash, proof []audit.Hash, err error) {
	if now.Size == 0 && old == 0 {
		return now.Root, nil, nil
	}
	r := audit.NewHashReader(now, l.tiles(ctx, organisation))
	if root, err = audit.TreeRoot(old, r); err != nil {
		return audit.Hash{}, nil, err
	}
	if proof, err = audit.ConsistencyProof(old, now.Size, r); err != nil {
		return audit.Hash{}, nil, err
	}
	return root, proof, nil
}

// Proof makes the inclusion proof of one record against the present checkpoint.
func (l *Log) Proof(ctx context.Context, organisation uuid.UUID, index uint64) (entry []byte, proof audit.Proof, err error) {
	h, err := l.Head(ctx, organisation)
	if err != nil {
		return nil, audit.Proof{}, err
	}
	if index >= h.Size {
		return nil, audit.Proof{}, fmt.Errorf("the log has %d entries, numbered from 0: there is no entry %d", h.Size, index)
	}
	for body, err := range l.Entries(ctx, organisation, index, index+1) {
		if err != nil {
			return nil, audit.Proof{}, err
		}
		entry = body
	}
	checkpoint, err := l.Checkpoint(h)
	if err != nil {
		return nil, audit.Proof{}, err
	}
	path, err := audit.InclusionProof(index, checkpoint.Size, audit.NewHashReader(checkpoint, l.tiles(ctx, organisation)))
	if err != nil {
		return nil, audit.Proof{}, fmt.Errorf("prove entry %d: %w", index, err)
	}
	return entry, audit.Proof{Index: index, Hashes: path, Checkpoint: h.Checkpoint}, nil
}

// Certificate makes the file that shows one record and proves it without the database.
func (l *Log) Certificate(ctx context.Context, organisation uuid.UUID, index uint64) ([]byte, error) {
	record, proof, err := l.Proof(ctx, organisation, index)
	if err != nil {
		return nil, err
	}
	head, err := l.Head(ctx, organisation)
	if err != nil {
		return nil, err
	}
	vkey, err := l.VerifierKey(head.Origin)
	if err != nil {
		return nil, err
	}
	return audit.MarshalCertificate(record, proof, vkey)
}

const sqlTile = "select access.log_tile($1, $2, $3, $4)"

// tiles reads the tiles of a log from storage.
func (l *Log) tiles(ctx context.Context, organisation uuid.UUID) audit.TileReader {
	return func(level int, index uint64, width int) ([]byte, error) {
		var hashes []byte
		if err := l.pool.QueryRow(ctx, sqlTile, organisation, level, int64(index), width).Scan(&hashes); err != nil {
			return nil, fmt.Errorf("read tile %d/%d: %w", level, index, err)
		}
		return hashes, nil
	}
}
