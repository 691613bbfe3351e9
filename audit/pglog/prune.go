package pglog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/audit"
)

// Retention says how long the records of an organisation are kept.
type Retention struct {
	Days  int    // at least MinRetention
	First uint64 // the first record that is kept
	Upto  uint64 // records before this one may be pruned now; First when there is nothing to prune
}

// MinRetention is the least number of days that records are kept.
const MinRetention = 90

// ActPrune is the action of the record that must be committed before records are pruned; its fact "upto" says up to which.
const ActPrune = audit.ActPrune

const sqlRetention = "select days, first_seq, upto from access.log_retention($1)"

// Retention tells what is kept and what may go.
func (l *Log) Retention(ctx context.Context, organisation uuid.UUID) (Retention, error) {
	if err := l.index(ctx, organisation); err != nil {
		return Retention{}, err
	}
	var r Retention
	var first, upto int64
	if err := l.pool.QueryRow(ctx, sqlRetention, organisation).Scan(&r.Days, &first, &upto); err != nil {
		return Retention{}, fmt.Errorf("read the retention of the log: %w", err)
	}
	r.First, r.Upto = uint64(first), uint64(upto)
	return r, nil
}

const sqlSetRetention = "select access.set_log_retention($1, $2)"

// SetRetention changes how long records are kept.
func (l *Log) SetRetention(ctx context.Context, organisation uuid.UUID, days int) error {
	if days < MinRetention {
		return fmt.Errorf("records are kept for at least %d days", MinRetention)
	}
	if _, err := l.pool.Exec(ctx, sqlSetRetention, organisation, days); err != nil {
		return fmt.Errorf("set the retention of the log: %w", err)
	}
	return nil
}

// PruneAct finds the committed record of an ActPrune up to the given record.
func (l *Log) PruneAct(ctx context.Context, organisation uuid.UUID, upto uint64) (uint64, error) {
	found, err := l.Search(ctx, organisation, Query{Action: ActPrune, Limit: 1})
	if err != nil {
		return 0, err
	}
	for _, f := range found {
		var e struct{ Facts map[string]string }
		if err := json.Unmarshal(f.Body, &e); err != nil {
			return 0, errors.New("find the record of the pruning: it cannot be read")
		}
		if e.Facts["upto"] == fmt.Sprint(upto) {
			return f.Seq, nil
		}
	}
	return 0, errors.New("find the record of the pruning: the newest one says another place")
}

// pruneAtOnce is how many records go in one transaction.
const pruneAtOnce = 5000

const (
	sqlPrune           = "select access.prune_log($1, $2, $3, $4)"
	sqlDropEmptyMonths = "select access.drop_empty_months()"
)

// Prune removes the records before upto, over a pool of the role of retention, as the committed record act says. Tiles and
// checkpoints stay, so that proofs made before keep verifying. It can be run again after it was interrupted. progress is told how many
// records have gone.
func Prune(ctx context.Context, pool *pgxpool.Pool, organisation uuid.UUID, act, upto uint64, progress func(gone uint64)) error {
	for gone := uint64(0); ; {
		var n int64
		if err := pool.QueryRow(ctx, sqlPrune, organisation, int64(act), int64(upto), pruneAtOnce).Scan(&n); err != nil {
			return fmt.Errorf("prune records up to %d: %w", upto, err)
		}
		if n == 0 {
			break
		}
		gone += uint64(n)
		progress(gone)
	}
	if _, err := pool.Exec(ctx, sqlDropEmptyMonths); err != nil {
		return fmt.Errorf("drop empty months: %w", err)
	}
	return nil
}
