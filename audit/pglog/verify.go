package pglog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
)

const sqlState = "select origin, size, frontier, checkpoint, last_at, closed, beyond, searchable from access.log_state($1)"

// Verify checks a log where it lies, in the database: all that [audit.VerifyExport] checks, and the columns beside the
// records and the head as well, which no export shows. Without a key in o it is the log's own that counts.
func (l *Log) Verify(ctx context.Context, organisation uuid.UUID, o audit.Options) (audit.Report, error) {
	var origin string
	var size, searchable int64
	var frontier, checkpoint []byte
	var lastAt time.Time
	var closed, beyond bool
	if err := l.pool.QueryRow(ctx, sqlState, organisation).Scan(&origin, &size, &frontier, &checkpoint, &lastAt, &closed, &beyond, &searchable); err != nil {
		return audit.Report{}, fmt.Errorf("read the head of the log: %w", err)
	}
	if o.Key == "" {
		var err error
		if o.Key, o.KeySource, err = l.keyOf(origin, checkpoint); err != nil {
			return audit.Report{}, err
		}
	}
	minimum, err := l.pruned(ctx, organisation)
	if err != nil {
		return audit.Report{}, err
	}
	o.Minimum = max(o.Minimum, minimum)
	d := &database{ctx: ctx, log: l, organisation: organisation, checkpoint: checkpoint, found: make(map[int64]int64)}
	r, err := audit.VerifyExport(ctx, d, o)
	r.Database = true
	if err != nil || r.Checkpoint.Origin == "" {
		return r, err
	}
	slices.SortFunc(d.faults, func(a, b audit.Fault) int { return cmp.Compare(a.Index, b.Index) })
	r.Faults, r.More = append(r.Faults, d.faults...), r.More || d.more
	head := func(text string) {
		r.Faults = append(r.Faults, audit.Fault{Kind: audit.HeadDiffers, Index: -1, Text: text})
	}
	tree, err := audit.LoadTree(uint64(size), frontier)
	switch {
	case uint64(size) != r.Checkpoint.Size || origin != r.Checkpoint.Origin:
		head("The head has another size or origin than its checkpoint: nothing can be recorded.")
	case err != nil || tree.Root() != r.Checkpoint.Root:
		head("The frontier in the head does not lead to the root of its checkpoint: the next record would begin another history.")
	case r.Records > 0 && len(r.Faults) == 0 && !closed && !lastAt.Equal(r.Last):
		head("The time in the head is not that of the last record.")
	}
	for _, n := range d.found {
		searchable -= n
	}
	if searchable > 0 {
		r.Faults = append(r.Faults, audit.Fault{Kind: audit.ColumnDiffers, Index: -1, Text: fmt.Sprintf("A search finds %d records that are not in the log.", searchable)})
	}
	if len(r.Faults) == 0 { // else counts are not what they should be either
		if r.Faults, err = l.miscounted(ctx, organisation); err != nil {
			return r, err
		}
	}
	if beyond {
		r.Faults = append(r.Faults, audit.Fault{Kind: audit.Inserted, Index: size, Text: fmt.Sprintf("There are records from number %d on, which the checkpoint does not cover.", size)})
	}
	return r, nil
}

// VerifyRange checks some of the records of a log where it lies against its present checkpoint, by the log's own key: see
// [audit.VerifyRange].
func (l *Log) VerifyRange(ctx context.Context, organisation uuid.UUID, from, to uint64, progress func(done, total uint64)) ([]audit.Fault, error) {
	h, err := l.Head(ctx, organisation)
	if err != nil {
		return nil, err
	}
	c, err := l.Checkpoint(h)
	if err != nil {
		return nil, err
	}
	return audit.VerifyRange(ctx, c, l.tiles(ctx, organisation), from, to, l.Entries(ctx, organisation, from, to), progress)
}

// keyOf is the key by which a checkpoint is to be checked, in words too: the present one, or the one before it if that
// still counts and alone has signed.
func (l *Log) keyOf(origin string, checkpoint []byte) (vkey, source string, err error) {
	signer, err := l.key.For(origin)
	if err != nil {
		return "", "", err
	}
	if _, err := audit.OpenCheckpoint(checkpoint, signer.Verifier()); err != nil {
		if _, err := signer.Open(checkpoint); err == nil {
			return signer.PreviousVerifierKeys()[0], "the key with which this service signed before the present one", nil
		}
	}
	return signer.VerifierKey(), "the key with which this service signs", nil
}

// database shows a log in the database as the directory that an export of it would be.
type database struct {
	ctx          context.Context
	log          *Log
	organisation uuid.UUID
	checkpoint   []byte

	mu     sync.Mutex
	faults []audit.Fault // of columns
	more   bool
	found  map[int64]int64 // how many records of a bundle a search finds
}

// maxColumnFaults are listed.
const maxColumnFaults = 100

// Open reads the checkpoint, a bundle or a tile.
func (d *database) Open(name string) (fs.File, error) {
	data, err := d.read(name)
	if err == nil && data == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return &memoryFile{Reader: bytes.NewReader(data), name: name}, nil
}

func (d *database) read(name string) ([]byte, error) {
	if name == "checkpoint" {
		return d.checkpoint, nil
	}
	kind, index, width, ok := parseTile(name)
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case kind == "entries":
		return d.bundle(index, width)
	}
	level, err := strconv.Atoi(kind)
	if err != nil {
		return nil, fs.ErrNotExist
	}
	return d.log.tiles(d.ctx, d.organisation)(level, uint64(index), width)
}

// parseTile reads the path of a tile or bundle (C2SP tlog-tiles).
func parseTile(name string) (kind string, index int64, width int, ok bool) {
	width = audit.TileWidth
	if before, after, partial := strings.Cut(name, ".p/"); partial {
		n, err := strconv.Atoi(after)
		if err != nil {
			return "", 0, 0, false
		}
		name, width = before, n
	}
	parts := strings.Split(name, "/")
	if len(parts) < 3 || parts[0] != "tile" {
		return "", 0, 0, false
	}
	for _, p := range parts[2:] {
		n, err := strconv.ParseUint(strings.TrimPrefix(p, "x"), 10, 10)
		if err != nil || index > 1<<53 {
			return "", 0, 0, false
		}
		index = 1000*index + int64(n)
	}
	return parts[1], index, width, true
}

const sqlRows = "select seq, at, body, due, searched_by from access.log_rows($1, $2, $3)"

// bundle reads the records of a bundle, and compares what each is searched by with what it says.
func (d *database) bundle(index int64, width int) ([]byte, error) {
	first := index * audit.TileWidth
	rows, err := d.log.pool.Query(d.ctx, sqlRows, d.organisation, first, first+int64(width))
	if err != nil {
		return nil, err
	}
	var out, body []byte
	var seq, found int64
	var at time.Time
	var due bool
	var by []string
	_, err = pgx.ForEachRow(rows, []any{&seq, &at, &body, &due, &by}, func() error {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(body))), body...)
		if by != nil {
			found++
		}
		e, err := audit.ParseEntry(body)
		if err != nil {
			return nil //nolint:nilerr // the verification finds it in what is returned
		}
		var differ []string
		if !at.Equal(e.Time) {
			differ = append(differ, "at")
		}
		if uint64(seq) != e.Seq {
			differ = append(differ, "seq")
		}
		rule := ""
		if e.Decision == audit.DecisionDeny {
			rule = e.Rule
		}
		want := []string{string(e.Kind), e.Action, e.Decision, e.Actor.Ref, e.Subject.Ref, e.Conversation, e.Address, e.AddressNet, rule}
		for i, name := range []string{"kind", "action", "decision", "actor_ref", "subject_ref", "conversation_ref", "address_ref", "address_net", "rule"} {
			if len(by) == len(want) && by[i] != want[i] {
				differ = append(differ, name)
			}
		}
		if by == nil && due {
			differ = append(differ, "all that it is searched by")
		}
		if len(differ) > 0 {
			d.fault(seq, strings.Join(differ, ", "))
		}
		return nil
	})
	d.mu.Lock()
	d.found[index] = found
	d.mu.Unlock()
	return out, err
}

// pruned is the number of the first record that is kept, if a record of the log says that those before it were pruned.
func (l *Log) pruned(ctx context.Context, organisation uuid.UUID) (uint64, error) {
	r, err := l.Retention(ctx, organisation)
	if err != nil || r.First == 0 {
		return 0, err
	}
	if _, err := l.PruneAct(ctx, organisation, r.First); err != nil {
		return 0, nil //nolint:nilerr // then they are missing, and the verification says so
	}
	return r.First, nil
}

func (d *database) fault(seq int64, columns string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.more = d.more || len(d.faults) >= maxColumnFaults; d.more {
		return
	}
	for _, f := range d.faults {
		if f.Index == seq { // a bundle may be read twice
			return
		}
	}
	d.faults = append(d.faults, audit.Fault{Kind: audit.ColumnDiffers, Index: seq,
		Text: fmt.Sprintf("In the database the record stored as %d has columns that do not say what it says: %s.", seq, columns)})
}

// memoryFile is what was read, as a file.
type memoryFile struct {
	*bytes.Reader
	name string
}

func (f *memoryFile) Close() error               { return nil }
func (f *memoryFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *memoryFile) Name() string               { return f.name }
func (f *memoryFile) Size() int64                { return f.Reader.Size() }
func (f *memoryFile) Mode() fs.FileMode          { return 0o444 }
func (f *memoryFile) ModTime() time.Time         { return time.Time{} }
func (f *memoryFile) IsDir() bool                { return false }
func (f *memoryFile) Sys() any                   { return nil }
