package pglog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Query says which records of one organisation are looked for. Empty members do not narrow it.
type Query struct {
	Since, Until time.Time // at or after, before; Until zero is now, Since zero is DefaultWindow before Until
	Kind         string    // disclosure, denial, collection, administration
	Action       string    // a purpose, or an administrative act
	Decision     string    // allow, masked, deny
	Actor        string    // keyed references, as entries have them
	Subject      string
	Conversation string
	Address      string
	AddressNet   string
	Before       Place // what comes before this place, newest first; zero begins with the newest
	Limit        int   // 1 to MaxPage
}

// DefaultWindow is how far a query looks back that does not say. Without a limit one that finds nothing would look through
// every month there is.
const DefaultWindow = 90 * 24 * time.Hour

// MaxPage bounds the records of one page.
const MaxPage = 500

// Place is where a page ended, for the next one. The zero Place is the beginning.
type Place struct {
	At  time.Time
	Seq uint64
}

// Found is one record that answers a query, as its canonical bytes.
type Found struct {
	Place
	Body []byte
}

const sqlSearch = "select seq, at, body from access.search_log($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"

// Search gives one page of the records that answer q, newest first. A page shorter than q.Limit is the last.
func (l *Log) Search(ctx context.Context, organisation uuid.UUID, q Query) ([]Found, error) {
	if q.Limit < 1 || q.Limit > MaxPage {
		return nil, fmt.Errorf("search the log: a page has 1 to %d records", MaxPage)
	}
	if q.Until.IsZero() {
		q.Until = time.Now().Add(time.Minute) // the database's clock may be ahead of ours
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-DefaultWindow)
	}
	if !q.Since.Before(q.Until) {
		return nil, errors.New("search the log: the time begins after it ends")
	}
	var beforeAt *time.Time
	var beforeSeq *int64
	if !q.Before.At.IsZero() {
		seq := int64(q.Before.Seq)
		beforeAt, beforeSeq = &q.Before.At, &seq
	}
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlSearch, organisation, q.Since, q.Until, filter(q.Kind), filter(q.Action), filter(q.Decision),
		filter(q.Actor), filter(q.Subject), filter(q.Conversation), filter(q.Address), filter(q.AddressNet), beforeAt, beforeSeq, q.Limit)
	if err != nil {
		return nil, fmt.Errorf("search the log: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Found, error) {
		var f Found
		var seq int64
		err := row.Scan(&seq, &f.At, &f.Body)
		f.Seq, f.At = uint64(seq), f.At.UTC()
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("search the log: %w", err)
	}
	return found, nil
}

// filter is null for what does not narrow a query.
func filter(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Count is how many records a day has of one action and decision.
type Count struct {
	Day      time.Time // its beginning, UTC
	Action   string
	Decision string
	N        int64
}

const sqlDays = "select day, action, decision, n from access.log_days($1, $2, $3)"

// Days counts the records of the days from, up to but without to, UTC. It reads a few rows a day, however many records there are.
func (l *Log) Days(ctx context.Context, organisation uuid.UUID, from, to time.Time) ([]Count, error) {
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlDays, organisation, from.UTC(), to.UTC())
	if err != nil {
		return nil, fmt.Errorf("count the log: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Count])
	if err != nil {
		return nil, fmt.Errorf("count the log: %w", err)
	}
	return counts, nil
}

// indexAtOnce is how many records are made searchable in one transaction.
const indexAtOnce = 2000

const sqlIndex = "select access.index_log($1, $2)"

// index makes all records of a log searchable that are committed by now.
func (l *Log) index(ctx context.Context, organisation uuid.UUID) error {
	for n := int64(indexAtOnce); n == indexAtOnce; {
		if err := l.pool.QueryRow(ctx, sqlIndex, organisation, indexAtOnce).Scan(&n); err != nil {
			return fmt.Errorf("make the log searchable: %w", err)
		}
	}
	return nil
}

// Index makes what this process has recorded searchable, so that a search finds little left to do. It is called now and then.
func (l *Log) Index(ctx context.Context) error {
	l.mu.Lock()
	var behind []*appender
	for _, a := range l.appenders {
		if a.unsearchable {
			a.unsearchable = false
			behind = append(behind, a)
		}
	}
	l.mu.Unlock()
	for _, a := range behind {
		if err := l.index(ctx, a.organisation); err != nil {
			l.mu.Lock()
			a.unsearchable = true
			l.mu.Unlock()
			return err
		}
	}
	return nil
}

const sqlEnsureMonths = "select access.ensure_months()"

// EnsureMonths makes room for the records of this month and the next two.
func (l *Log) EnsureMonths(ctx context.Context) error {
	if _, err := l.pool.Exec(ctx, sqlEnsureMonths); err != nil {
		return fmt.Errorf("make room for the log: %w", err)
	}
	return nil
}
