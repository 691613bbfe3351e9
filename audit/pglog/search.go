package pglog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
)

// Query says which records of one organisation are looked for. Empty members do not narrow it.
type Query struct {
	Since, Until time.Time // at or after, before; Until zero is now, Since zero is DefaultWindow before Until
	Kind         string    // disclosure, denial, collection, administration
	Action       string    // a purpose, or an administrative act
	Decision     string    // allow, masked, deny, or Undecided
	Actor        string    // keyed references, as entries have them
	Subject      string
	Conversation string
	Address      string
	AddressNet   string
	Rule         string // by which something was denied
	Not          []Term // what a record must not be
	Before       Place  // what comes before this place, newest first; zero begins with the newest
	After        Place  // what comes after this place, oldest first; not together with Before
	Limit        int    // 1 to MaxPage
}

// Undecided is the decision of records on which nothing was decided.
const Undecided = "none"

// Term is a value of one of the columns that a log is searched by: kind, action, decision, actor, subject, conversation, address,
// network or rule.
type Term struct{ Column, Value string }

// terms are the conditions of q as the database takes them.
func (q Query) terms() (columns, values []string, wanted []bool) {
	columns, values, wanted = []string{}, []string{}, []bool{}
	add := func(t Term, want bool) {
		if t.Column == "decision" && t.Value == Undecided {
			t.Value = ""
		}
		columns, values, wanted = append(columns, t.Column), append(values, t.Value), append(wanted, want)
	}
	for _, t := range []Term{{"kind", q.Kind}, {"action", q.Action}, {"decision", q.Decision}, {"actor", q.Actor}, {"subject", q.Subject},
		{"conversation", q.Conversation}, {"address", q.Address}, {"network", q.AddressNet}, {"rule", q.Rule}} {
		if t.Value != "" {
			add(t, true)
		}
	}
	for _, t := range q.Not {
		add(t, false)
	}
	return columns, values, wanted
}

// Has reports whether a record has the terms of q, whatever its time: what a search by them would find.
func (q Query) Has(e audit.Entry) bool {
	columns, values, wanted := q.terms()
	for i, c := range columns {
		is := map[string]string{
			"kind": string(e.Kind), "action": e.Action, "decision": e.Decision, "actor": e.Actor.Ref, "subject": e.Subject.Ref,
			"conversation": e.Conversation, "address": e.Address, "network": e.AddressNet,
		}[c]
		if (is == values[i]) != wanted[i] {
			return false
		}
	}
	return true
}

// window is the time that q looks at.
func (q Query) window() (since, until time.Time, err error) {
	since, until = q.Since, q.Until
	if until.IsZero() {
		until = time.Now().Add(time.Minute) // the database's clock may be ahead of ours
	}
	if since.IsZero() {
		since = until.Add(-DefaultWindow)
	}
	if !since.Before(until) {
		return since, until, errors.New("search the log: the time begins after it ends")
	}
	return since, until, nil
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

const sqlSearch = "select seq, at, body from access.search_log($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

// Search gives one page of the records that answer q, newest first, or oldest first after q.After. A page shorter than q.Limit is the last.
func (l *Log) Search(ctx context.Context, organisation uuid.UUID, q Query) ([]Found, error) {
	if q.Limit < 1 || q.Limit > MaxPage {
		return nil, fmt.Errorf("search the log: a page has 1 to %d records", MaxPage)
	}
	since, until, err := q.window()
	if err != nil {
		return nil, err
	}
	place, forward := q.Before, false
	if !q.After.At.IsZero() {
		place, forward = q.After, true
	}
	var placeAt *time.Time
	var placeSeq *int64
	if !place.At.IsZero() {
		seq := int64(place.Seq)
		placeAt, placeSeq = &place.At, &seq
	}
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	columns, values, wanted := q.terms()
	rows, err := l.pool.Query(ctx, sqlSearch, organisation, since, until, columns, values, wanted, placeAt, placeSeq, forward, q.Limit)
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

// SearchAny gives one page of the records that answer any of several queries, each once, as Search does. The queries have their
// places and limit in common.
func (l *Log) SearchAny(ctx context.Context, organisation uuid.UUID, queries []Query) ([]Found, error) {
	var all []Found
	for _, q := range queries {
		page, err := l.Search(ctx, organisation, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	if len(queries) < 2 {
		return all, nil
	}
	order := -1
	if !queries[0].After.At.IsZero() {
		order = 1
	}
	slices.SortFunc(all, func(a, b Found) int { return order * cmp.Compare(a.Seq, b.Seq) })
	all = slices.CompactFunc(all, func(a, b Found) bool { return a.Seq == b.Seq })
	return all[:min(len(all), queries[0].Limit)], nil
}

const sqlReferences = "select reference from access.log_references($1, $2, $3, $4)"

// References gives the references in a column (actor, subject or conversation) that begin like this, at most so many.
func (l *Log) References(ctx context.Context, organisation uuid.UUID, column, prefix string, limit int) ([]string, error) {
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlReferences, organisation, column, prefix, limit)
	if err != nil {
		return nil, fmt.Errorf("find references in the log: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("find references in the log: %w", err)
	}
	return found, nil
}

const sqlActions = "select action from access.log_actions($1)"

// Actions gives every action that any record has.
func (l *Log) Actions(ctx context.Context, organisation uuid.UUID) ([]string, error) {
	if err := l.index(ctx, organisation); err != nil {
		return nil, err
	}
	rows, err := l.pool.Query(ctx, sqlActions, organisation)
	if err != nil {
		return nil, fmt.Errorf("list the actions of the log: %w", err)
	}
	actions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the actions of the log: %w", err)
	}
	return actions, nil
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
