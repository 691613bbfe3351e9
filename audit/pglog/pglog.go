// Package pglog appends to the audit logs in PostgreSQL and reads them back. It promises that whoever holds a Receipt
// holds proof that the record is committed under a signed checkpoint, and that ciphertexts are taken only after that.
//
// There is one log per organisation and one lock per log: the row of its head. An appender per organisation and
// process takes everything that queued while its previous commit was in flight and commits it as one batch (group commit,
// without a timer). Several processes may append to one log; the row lock puts their batches in order.
//
// A process that was the last to append knows the head already and records without asking for it: the database takes
// the batch only if the log has still the size it was made for. Otherwise nothing is written and the batch is made anew
// under the lock, as for some time afterwards, so that processes which share a log do not work in vain. What was signed
// for a head that had moved never leaves the process.
package pglog

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
)

// maxBatch bounds one commit, so that a caller never waits behind more than this many others.
const maxBatch = 256

// batchTimeout bounds one batch; callers of a batch that takes longer get an error and no data.
const batchTimeout = 8 * time.Second

// sharedFor is how long batches begin with the lock after another process was found to append to the same log.
const sharedFor = time.Second

// ErrUnavailable wraps every failure to record. Whoever gets it must not release anything.
var ErrUnavailable = errors.New("the audit log cannot record now")

// Log appends to the logs of all organisations of one database.
type Log struct {
	pool      *pgxpool.Pool
	key       audit.Key
	decisions DecisionKey
	committed func(records int, took time.Duration) // nil, or told of each batch

	mu        sync.Mutex
	appenders map[uuid.UUID]*appender // those of organisations that were ever appended to
}

// New makes a Log over a pool of the service's role. key signs the checkpoints; decisions is the key that is installed in
// the database.
func New(pool *pgxpool.Pool, key audit.Key, decisions DecisionKey) *Log {
	return &Log{pool: pool, key: key, decisions: decisions, appenders: make(map[uuid.UUID]*appender)}
}

// OnCommit has f told of each batch that was committed: how many records, and how long it took. It must be quick, and be set
// before the log is used.
func (l *Log) OnCommit(f func(records int, took time.Duration)) { l.committed = f }

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
	secret [16]byte // of the ticket; zero without one
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

// Committed is the outcome of one Draft. Values is nil when the ticket was not honoured, because it ended before it was
// presented; it is empty when nothing is stored there.
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
	a.unsearchable = true
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

// appender is the queue of one organisation. Log.mu guards the queue, running and unsearchable; the rest belongs to the goroutine that
// runs.
type appender struct {
	log          *Log
	organisation uuid.UUID
	queue        []*call
	running      bool
	unsearchable bool // something was queued since Index was last called

	head        head      // as our last commit left it; zero when unknown
	sharedUntil time.Time // until when to begin with the lock
	signer      *audit.Signer
}

// head is what a batch continues.
type head struct {
	known    bool
	origin   string
	size     uint64
	frontier []byte
	lastAt   time.Time
	ahead    time.Duration // of the database's clock before ours, less one way of the network
}

// next gives the calls of the next batch, or nil when the queue is empty and the goroutine may end.
func (a *appender) next() []*call {
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	if len(a.queue) == 0 {
		a.running = false
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
		b := &batch{calls: calls}
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
		err := a.commit(ctx, b)
		cancel()
		if err == nil && a.log.committed != nil {
			a.log.committed(len(b.bodies), time.Since(began))
		}
		if err != nil || len(b.take) == 0 {
			b.answer(nil, err)
			continue
		}
		go a.take(b) // beside the next batch's commit
	}
}

// batch is what one transaction commits.
type batch struct {
	calls  []*call
	origin string
	first  uint64
	at     time.Time
	bodies [][]byte
	claims [][16]byte // the secret of each record's ticket; zero without one
	take   []int64    // the records whose tickets are for values
}

// answer gives each call its receipts and what was taken for them, or the error.
func (b *batch) answer(taken [][]Taken, err error) {
	index := 0
	for _, c := range b.calls {
		if err != nil {
			c.err = err
		} else {
			c.committed = make([]Committed, len(c.drafts))
			for i := range c.drafts {
				c.committed[i].Receipt = Receipt{b.origin, b.first + uint64(index), b.at, b.claims[index], true}
				if taken != nil {
					c.committed[i].Values = taken[index]
				}
				index++
			}
		}
		close(c.done)
	}
}

// commit appends the batch to the tree, signs and commits. It returns nil only when the commit is known to have
// happened.
func (a *appender) commit(ctx context.Context, b *batch) error {
	conn, err := a.log.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("get a connection: %w", err)
	}
	defer conn.Release()
	if h := a.head; h.known && time.Now().After(a.sharedUntil) {
		moved, err := a.commitAfter(ctx, conn, b, h)
		if !moved {
			return err
		}
		a.sharedUntil = time.Now().Add(sharedFor)
	}
	return a.commitLocked(ctx, conn, b)
}

// commitAfter records the batch in one statement, which is a transaction of its own, if the head is still h. Otherwise
// it writes nothing and says that the head has moved.
func (a *appender) commitAfter(ctx context.Context, conn *pgxpool.Conn, b *batch, h head) (moved bool, err error) {
	a.head = head{}
	next, args, err := a.prepare(b, h, time.Now().Add(h.ahead))
	if err != nil {
		return false, err
	}
	recorded := false
	// Scan returns when the server is ready again, which it says after the commit and never before.
	if err := conn.QueryRow(ctx, sqlRecord, args...).Scan(&recorded); err != nil {
		return false, a.outcome(conn, b, err)
	}
	if recorded {
		a.head = next
	}
	return !recorded, nil
}

const sqlLockHead = "select origin, size, frontier, last_at, now from access.lock_head($1)"

// commitLocked locks the head before it makes the batch, so that nobody else can append meanwhile.
func (a *appender) commitLocked(ctx context.Context, conn *pgxpool.Conn, b *batch) error {
	a.head = head{}
	h := head{known: true}
	var size int64
	var now time.Time
	lock := &pgx.Batch{}
	lock.Queue("begin")
	lock.Queue(sqlLockHead, pgtype.UUID{Bytes: a.organisation, Valid: true}).QueryRow(func(row pgx.Row) error {
		return row.Scan(&h.origin, &size, &h.frontier, &h.lastAt, &now)
	})
	if err := conn.SendBatch(ctx, lock).Close(); err != nil {
		rollback(conn)
		return fmt.Errorf("lock the head of the log: %w", err)
	}
	h.size, h.ahead = uint64(size), time.Until(now)
	next, args, err := a.prepare(b, h, now)
	if err != nil {
		rollback(conn)
		return err
	}
	recorded := false
	record := &pgx.Batch{}
	record.Queue(sqlRecord, args...).QueryRow(func(row pgx.Row) error { return row.Scan(&recorded) })
	record.Queue("commit")
	if err := conn.SendBatch(ctx, record).Close(); err != nil {
		return a.outcome(conn, b, err)
	}
	if !recorded {
		return fmt.Errorf("the clock of the database jumped while log %s was locked", h.origin)
	}
	a.head = next
	return nil
}

// outcome finds out what became of a batch whose commit ended in an error, and gives nil when it is committed. An
// ordinary error of the server on a connection that lives on undid everything; after any other the records are looked for.
func (a *appender) outcome(conn *pgxpool.Conn, b *batch, err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR" && !conn.Conn().IsClosed() {
		rollback(conn)
		return fmt.Errorf("record: %w", err)
	}
	// The connection is of no more use, and its backend may still hold the lock that settling waits for.
	ended, cancel := context.WithCancel(context.Background())
	cancel() // drop it without waiting for the server
	_ = conn.Conn().Close(ended)
	if pgconn.SafeToRetry(err) { // nothing was sent, so nothing can have been recorded
		return fmt.Errorf("record: %w", err)
	}
	conn.Release() // settling needs a place in the pool, and all others may be waiting for one too
	return a.settle(b, err)
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
func (a *appender) settle(b *batch, lost error) error {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		there, err := a.recorded(ctx, b)
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
func (a *appender) recorded(ctx context.Context, b *batch) (bool, error) {
	there := false
	err := pgx.BeginFunc(ctx, a.log.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select access.lock_head($1)", a.organisation); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "select body from access.log_entries($1, $2, $3, $4)", a.organisation, int64(b.first), int64(b.first)+int64(len(b.bodies)), len(b.bodies))
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

const sqlRecord = "select access.record($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)"

// prepare makes the entries that continue h at the time now, and gives the head after them and the arguments of the
// statement that records both.
func (a *appender) prepare(b *batch, h head, now time.Time) (head, []any, error) {
	tree, err := audit.LoadTree(h.size, h.frontier)
	if err != nil {
		return head{}, nil, fmt.Errorf("the head of log %s is damaged: %w", h.origin, err)
	}
	b.origin, b.first = h.origin, h.size
	b.at = now.UTC().Truncate(time.Microsecond)
	if b.at.Before(h.lastAt) {
		b.at = h.lastAt.UTC()
	}
	n := 0
	for _, c := range b.calls {
		n += len(c.drafts)
	}
	if n = a.encode(b, h.size, n); n == 0 {
		return head{}, nil, errNothing
	}
	var (
		nodeLevels  = []int32{} // no array is null: the MAC is over all of them
		nodeIndexes = []int64{}
		nodeHashes  = [][]byte{}

		ticketSeqs                    = make([]int64, 0, n)
		ticketSubjects, ticketRows    = make([]pgtype.UUID, 0, n), make([]pgtype.UUID, 0, n)
		ticketFields                  = make([]string, 0, n)
		ticketMessages, ticketSeconds = make([]int32, 0, n), make([]int32, 0, n)
		ticketClaims                  = make([][]byte, 0, n)
	)
	b.take = make([]int64, 0, n)
	i := 0
	for _, c := range b.calls {
		for _, d := range c.drafts {
			tree.Append(audit.LeafHash(b.bodies[i]), func(level int, index uint64, hash audit.Hash) {
				if level > 0 {
					nodeLevels = append(nodeLevels, int32(level))
					nodeIndexes = append(nodeIndexes, int64(index))
					nodeHashes = append(nodeHashes, hash[:])
				}
			})
			if t := d.Ticket; t != nil {
				seq := int64(h.size) + int64(i)
				if t.Messages == 0 {
					b.take = append(b.take, seq)
				}
				ticketSeqs = append(ticketSeqs, seq)
				ticketSubjects = append(ticketSubjects, pgtype.UUID{Bytes: t.Subject, Valid: true})
				ticketRows = append(ticketRows, pgtype.UUID{Bytes: t.Row, Valid: true})
				ticketFields = append(ticketFields, strings.Join(t.Fields, ","))
				ticketMessages = append(ticketMessages, int32(t.Messages))
				ticketSeconds = append(ticketSeconds, int32(t.Valid/time.Second))
				claim := sha256.Sum256(b.claims[i][:])
				ticketClaims = append(ticketClaims, claim[:])
			}
			i++
		}
	}
	if a.signer == nil || a.signer.Origin() != h.origin {
		if a.signer, err = a.log.key.For(h.origin); err != nil {
			return head{}, nil, fmt.Errorf("sign for %s: %w", h.origin, err)
		}
	}
	checkpoint, err := a.signer.Sign(tree.Size(), tree.Root())
	if err != nil {
		return head{}, nil, fmt.Errorf("sign the checkpoint of %s: %w", h.origin, err)
	}
	m := newMessage(recordLabel, 512+len(b.bodies)*1280).uuid(a.organisation).int8(int64(h.size)).time(b.at)
	frontier := tree.MarshalFrontier()
	m.bytes(frontier).texts(string(checkpoint)).int8s(ticketSeqs...).uuids(ticketSubjects...).uuids(ticketRows...).
		texts(ticketFields...).int4s(ticketMessages...).int4s(ticketSeconds...).bytes(ticketClaims...).
		int4s(nodeLevels...).int8s(nodeIndexes...).bytes(nodeHashes...).bytes(b.bodies...)
	next := head{known: true, origin: h.origin, size: tree.Size(), frontier: frontier, lastAt: b.at, ahead: h.ahead}
	// The plain types below spare pgx the search for a way to encode them.
	return next, []any{
		pgtype.UUID{Bytes: a.organisation, Valid: true}, int64(h.size), b.at, pgtype.FlatArray[[]byte](b.bodies),
		nodeLevels, nodeIndexes, pgtype.FlatArray[[]byte](nodeHashes), frontier, string(checkpoint),
		ticketSeqs, pgtype.FlatArray[pgtype.UUID](ticketSubjects), pgtype.FlatArray[pgtype.UUID](ticketRows), ticketFields, ticketMessages, ticketSeconds,
		pgtype.FlatArray[[]byte](ticketClaims), a.log.decisions.mac(m),
	}, nil
}

// errNothing says that no entry of a batch could be written.
var errNothing = errors.New("none of the entries can be written")

// encode makes the bodies of a batch that begins at size, and a secret for each that has a ticket. A call with an entry
// that has no canonical form is answered with its error and leaves the batch, so that it costs nobody else the answer. The
// number of entries, n before, is given as it is afterwards.
func (a *appender) encode(b *batch, size uint64, n int) int {
	organisation := a.organisation.String()
	random := make([]byte, 32*n)
	rand.Read(random)
	calls := b.calls
	b.calls, b.bodies, b.claims = make([]*call, 0, len(calls)), make([][]byte, 0, n), make([][16]byte, 0, n)
	for _, c := range calls {
		before := len(b.bodies)
		for _, d := range c.drafts {
			e := d.Entry
			e.Seq = size + uint64(len(b.bodies))
			e.Time = b.at
			e.Organisation = organisation
			copy(e.Nonce[:], random[:16])
			body, err := e.AppendTo(make([]byte, 0, 1024))
			if err != nil {
				c.err = err
				break
			}
			b.bodies = append(b.bodies, body)
			var claim [16]byte
			if d.Ticket != nil {
				copy(claim[:], random[16:32])
			}
			b.claims = append(b.claims, claim)
			random = random[32:]
		}
		if c.err != nil {
			b.bodies, b.claims = b.bodies[:before], b.claims[:before]
			close(c.done)
			continue
		}
		b.calls = append(b.calls, c)
	}
	return len(b.bodies)
}

const sqlTake = "select seq, field, ciphertext, wrapped from access.take($1, $2, $3)"

// take answers the calls of a committed batch with the ciphertexts of their tickets.
func (a *appender) take(b *batch) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	taken, err := a.taken(ctx, b)
	b.answer(taken, err)
}

// taken gets the ciphertexts of all tickets of a committed batch in one statement, in the order of its drafts.
func (a *appender) taken(ctx context.Context, b *batch) ([][]Taken, error) {
	secrets := make([][]byte, len(b.take))
	for i, seq := range b.take {
		secrets[i] = b.claims[uint64(seq)-b.first][:]
	}
	rows, err := a.log.pool.Query(ctx, sqlTake, pgtype.UUID{Bytes: a.organisation, Valid: true}, b.take, pgtype.FlatArray[[]byte](secrets))
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	tickets := make([]*Ticket, 0, len(b.bodies))
	for _, c := range b.calls {
		for i := range c.drafts {
			tickets = append(tickets, c.drafts[i].Ticket)
		}
	}
	taken := make([][]Taken, len(tickets))
	var seq int64
	var field *string
	var t Taken
	_, err = pgx.ForEachRow(rows, []any{&seq, &field, &t.Ciphertext, &t.Wrapped}, func() error {
		i := uint64(seq) - b.first
		if i >= uint64(len(tickets)) || tickets[i] == nil {
			return fmt.Errorf("record %d was not asked for", seq)
		}
		if field == nil {
			taken[i] = []Taken{}
			return nil
		}
		t.Subject, t.Row, t.Field = tickets[i].Subject, tickets[i].Row, *field
		taken[i] = append(taken[i], t)
		t, field = Taken{}, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	return taken, nil
}
