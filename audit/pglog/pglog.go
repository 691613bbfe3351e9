// Package pglog appends to the audit logs in PostgreSQL and reads them back. It promises that whoever holds a Receipt
// holds proof that the record is committed under a signed checkpoint, and that ciphertexts are taken only after that.
//
// There is one log per organisation and one lock per log: the row of its head. An appender per organisation and
// process takes everything that queued while its previous commit was in flight and commits it as one batch (group commit,
// without a timer). Several processes may append to one log; the row lock puts their batches in order.
package pglog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
)

// maxBatch bounds one commit, so that a caller never waits behind more than this many others.
const maxBatch = 256

// batchTimeout bounds one batch; callers of a batch that takes longer get an error and no data.
const batchTimeout = 8 * time.Second

// ErrUnavailable wraps every failure to record. Whoever gets it must not release anything.
var ErrUnavailable = errors.New("the audit log cannot record now")

// Log appends to the logs of all organisations of one database.
type Log struct {
	pool *pgxpool.Pool
	key  audit.Key

	mu        sync.Mutex
	appenders map[uuid.UUID]*appender
}

// New makes a Log over a pool of the service's role. key signs the checkpoints.
func New(pool *pgxpool.Pool, key audit.Key) *Log {
	return &Log{pool: pool, key: key, appenders: make(map[uuid.UUID]*appender)}
}

// Draft is an entry to be recorded; the log fills in its index, time and nonce. A ticket goes with a disclosure whose
// values are taken afterwards.
type Draft struct {
	Entry  audit.Entry
	Ticket *Ticket
}

// Ticket says what the record lets the service take.
type Ticket struct {
	Subject, Row uuid.UUID
	Fields       []string
	Messages     int           // for message bodies: up to which event, AllMessages for all; 0 for values
	Valid        time.Duration // whole seconds
}

// AllMessages as Ticket.Messages lets every event of the conversation be taken, those to come included.
const AllMessages = 1<<31 - 1

// Receipt proves that a record is committed under a signed checkpoint. The zero Receipt proves nothing.
type Receipt struct {
	origin string
	index  uint64
	at     time.Time
	ok     bool
}

// Valid reports whether r was issued for a committed record.
func (r Receipt) Valid() bool { return r.ok }

// Index is the record's position in the log.
func (r Receipt) Index() uint64 { return r.index }

// Time is the record's time.
func (r Receipt) Time() time.Time { return r.at }

// Origin names the log.
func (r Receipt) Origin() string { return r.origin }

// Taken is one ciphertext handed out for a committed record, with the wrapped key that opens it.
type Taken struct {
	Subject, Row uuid.UUID
	Field        string
	Ciphertext   []byte
	Wrapped      []byte
}

// Committed is the outcome of one Draft.
type Committed struct {
	Receipt Receipt
	Values  []Taken
}

// CreateLog starts the log of a new organisation in the caller's transaction.
func (l *Log) CreateLog(ctx context.Context, tx pgx.Tx, organisation uuid.UUID, origin string) error {
	signer, err := l.key.For(origin)
	if err != nil {
		return fmt.Errorf("sign for %s: %w", origin, err)
	}
	checkpoint, err := signer.Sign(0, audit.NewTree().Root())
	if err != nil {
		return fmt.Errorf("sign the empty log of %s: %w", origin, err)
	}
	if _, err := tx.Exec(ctx, "select access.create_log($1, $2, $3)", organisation, origin, string(checkpoint)); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return nil
}

// Append records the drafts in one commit and then takes the ciphertexts of their tickets. It answers in the order of
// the drafts, or with an error that wraps ErrUnavailable; in that case records may exist, but nothing was taken.
func (l *Log) Append(ctx context.Context, organisation uuid.UUID, drafts ...Draft) ([]Committed, error) {
	if len(drafts) == 0 || len(drafts) > maxBatch {
		return nil, fmt.Errorf("append %d entries: between 1 and %d are allowed", len(drafts), maxBatch)
	}
	call := &call{drafts: drafts, done: make(chan struct{})}
	l.mu.Lock()
	a := l.appenders[organisation]
	if a == nil {
		a = &appender{log: l, organisation: organisation}
		l.appenders[organisation] = a
	}
	a.queue = append(a.queue, call)
	if !a.running {
		a.running = true
		go a.run()
	}
	l.mu.Unlock()
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	if call.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, call.err)
	}
	return call.committed, nil
}

type call struct {
	drafts    []Draft
	committed []Committed
	err       error
	done      chan struct{}
}

// appender is the queue of one organisation. Its fields are guarded by Log.mu.
type appender struct {
	log          *Log
	organisation uuid.UUID
	queue        []*call
	running      bool
}

// next gives the calls of the next batch, or nil when the queue is empty and the goroutine may end.
func (a *appender) next() []*call {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	if len(a.queue) == 0 {
		a.running = false
		delete(a.log.appenders, a.organisation)
		return nil
	}
	n, drafts := 0, 0
	for n < len(a.queue) && drafts+len(a.queue[n].drafts) <= maxBatch {
		drafts += len(a.queue[n].drafts)
		n++
	}
	calls := a.queue[:n:n]
	a.queue = a.queue[n:]
	return calls
}

func (a *appender) run() {
	for calls := a.next(); calls != nil; calls = a.next() {
		b := &batch{organisation: a.organisation, calls: calls}
		ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
		err := a.log.commit(ctx, b)
		cancel()
		if err != nil || len(b.tickets.take) == 0 {
			b.answer(nil, err)
			continue
		}
		// The take runs beside the next batch's commit.
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
			defer cancel()
			taken, err := a.log.take(ctx, b)
			b.answer(taken, err)
		}()
	}
}

// batch is what one transaction commits.
type batch struct {
	organisation uuid.UUID
	calls        []*call

	origin string
	first  uint64
	at     time.Time
	bodies [][]byte

	tickets ticketColumns
}

type ticketColumns struct {
	take []int64 // those of seqs that are for values
	seqs           []int64
	subjects, rows []uuid.UUID
	fields         []string
	messages       []int32
	seconds        []int32
}

func (b *batch) answer(taken map[uint64][]Taken, err error) {
	index := b.first
	for _, c := range b.calls {
		if err != nil {
			c.err = err
		} else {
			c.committed = make([]Committed, len(c.drafts))
			for i := range c.drafts {
				c.committed[i] = Committed{Receipt{b.origin, index, b.at, true}, taken[index]}
				index++
			}
		}
		close(c.done)
	}
}

// commit locks the head, appends the batch to the tree, signs, and commits. It returns nil only when the commit is known
// to have happened.
func (l *Log) commit(ctx context.Context, b *batch) error {
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("get a connection: %w", err)
	}
	defer conn.Release()

	var size int64
	var frontier []byte
	var lastAt, now time.Time
	lock := &pgx.Batch{}
	lock.Queue("begin")
	lock.Queue("select origin, size, frontier, last_at, now from access.lock_head($1)", b.organisation).QueryRow(func(row pgx.Row) error {
		return row.Scan(&b.origin, &size, &frontier, &lastAt, &now)
	})
	if err := conn.SendBatch(ctx, lock).Close(); err != nil {
		rollback(conn)
		return fmt.Errorf("lock the head of the log: %w", err)
	}

	record, err := l.prepare(b, uint64(size), frontier, lastAt, now)
	if err != nil {
		rollback(conn)
		return err
	}
	record.Queue("commit")
	if err := conn.SendBatch(ctx, record).Close(); err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) && !conn.Conn().IsClosed() {
			rollback(conn)
			return fmt.Errorf("record: %w", err)
		}
		return l.settle(b, err)
	}
	return nil
}

// rollback ends a transaction that failed; when even that fails, the connection is closed and not used again.
func rollback(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	if _, err := conn.Exec(ctx, "rollback"); err != nil {
		_ = conn.Conn().Close(ctx)
	}
}

// settle finds out what became of a batch whose connection was lost at the commit. It answers nil when the records are
// there; otherwise the original error, also when the database cannot be asked in time.
func (l *Log) settle(b *batch, lost error) error {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		there, err := l.recorded(ctx, b)
		if err == nil && there {
			return nil
		}
		if err == nil {
			return fmt.Errorf("record: %w", lost)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("record, outcome unknown: %w", lost)
		case <-time.After(wait):
		}
	}
}

// recorded reports whether exactly the bodies of b are committed at their places. It takes the head lock first, so
// that a transaction of ours that is still running on the server has ended before the answer.
func (l *Log) recorded(ctx context.Context, b *batch) (bool, error) {
	there := false
	err := pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select access.lock_head($1)", b.organisation); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "select body from access.log_entries($1, $2, $3, $4)", b.organisation, int64(b.first), int64(b.first)+int64(len(b.bodies)), len(b.bodies))
		if err != nil {
			return err
		}
		bodies, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return err
		}
		there = len(bodies) == len(b.bodies)
		for i := range bodies {
			there = there && string(bodies[i]) == string(b.bodies[i])
		}
		return nil
	})
	return there, err
}

// prepare turns the batch into the statement that records it.
func (l *Log) prepare(b *batch, size uint64, frontier []byte, lastAt, now time.Time) (*pgx.Batch, error) {
	tree, err := audit.LoadTree(size, frontier)
	if err != nil {
		return nil, fmt.Errorf("the head of log %s is damaged: %w", b.origin, err)
	}
	b.first = size
	b.at = now.UTC().Truncate(time.Microsecond)
	if b.at.Before(lastAt) {
		b.at = lastAt.UTC()
	}
	n := 0
	for _, c := range b.calls {
		n += len(c.drafts)
	}
	var (
		ats                                                                                        = make([]time.Time, 0, n)
		kinds, actions, actorKinds, actorRefs, subjectKinds, subjectRefs, decisions, conversations = text(n), text(n), text(n), text(n), text(n), text(n), text(n), text(n)
		nodeLevels                                                                                 []int32
		nodeIndexes                                                                                []int64
		nodeHashes                                                                                 [][]byte
	)
	b.bodies = make([][]byte, 0, n)
	nonces := make([]byte, 16*n)
	rand.Read(nonces)
	for _, c := range b.calls {
		for _, d := range c.drafts {
			e := d.Entry
			e.Seq = size + uint64(len(b.bodies))
			e.Time = b.at
			e.Organisation = b.organisation.String()
			copy(e.Nonce[:], nonces[16*len(b.bodies):])
			body, err := e.Marshal()
			if err != nil {
				return nil, fmt.Errorf("encode entry: %w", err)
			}
			tree.Append(audit.LeafHash(body), func(level int, index uint64, hash audit.Hash) {
				if level > 0 {
					nodeLevels = append(nodeLevels, int32(level))
					nodeIndexes = append(nodeIndexes, int64(index))
					nodeHashes = append(nodeHashes, hash[:])
				}
			})
			ats = append(ats, b.at)
			kinds = append(kinds, string(e.Kind))
			actions = append(actions, e.Action)
			actorKinds = append(actorKinds, e.Actor.Kind)
			actorRefs = append(actorRefs, e.Actor.Ref)
			subjectKinds = append(subjectKinds, e.Subject.Kind)
			subjectRefs = append(subjectRefs, e.Subject.Ref)
			decisions = append(decisions, e.Decision)
			conversations = append(conversations, e.Conversation)
			b.bodies = append(b.bodies, body)
			if t := d.Ticket; t != nil {
				b.tickets.seqs = append(b.tickets.seqs, int64(e.Seq))
				if t.Messages == 0 {
					b.tickets.take = append(b.tickets.take, int64(e.Seq))
				}
				b.tickets.subjects = append(b.tickets.subjects, t.Subject)
				b.tickets.rows = append(b.tickets.rows, t.Row)
				b.tickets.fields = append(b.tickets.fields, strings.Join(t.Fields, ","))
				b.tickets.messages = append(b.tickets.messages, int32(t.Messages))
				b.tickets.seconds = append(b.tickets.seconds, int32(t.Valid/time.Second))
			}
		}
	}
	signer, err := l.key.For(b.origin)
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", b.origin, err)
	}
	checkpoint, err := signer.Sign(tree.Size(), tree.Root())
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint of %s: %w", b.origin, err)
	}
	t := &b.tickets
	record := &pgx.Batch{}
	record.Queue("select access.record($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23)",
		b.organisation, int64(size), ats, kinds, actions, actorKinds, actorRefs, subjectKinds, subjectRefs, decisions, conversations, b.bodies,
		nodeLevels, nodeIndexes, nodeHashes, tree.MarshalFrontier(), string(checkpoint),
		t.seqs, t.subjects, t.rows, t.fields, t.messages, t.seconds)
	return record, nil
}

func text(n int) []string { return make([]string, 0, n) }

// take gets the ciphertexts of all tickets of a committed batch in one statement.
func (l *Log) take(ctx context.Context, b *batch) (map[uint64][]Taken, error) {
	rows, err := l.pool.Query(ctx, "select seq, subject_id, row_id, field, ciphertext, wrapped from access.take($1, $2)", b.organisation, b.tickets.take)
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	taken := make(map[uint64][]Taken, len(b.tickets.take))
	var seq int64
	var t Taken
	_, err = pgx.ForEachRow(rows, []any{&seq, &t.Subject, &t.Row, &t.Field, &t.Ciphertext, &t.Wrapped}, func() error {
		taken[uint64(seq)] = append(taken[uint64(seq)], t)
		t = Taken{}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	return taken, nil
}
