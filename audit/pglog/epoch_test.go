package pglog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

const sqlBeginEpoch = "select audit.begin_epoch($1, $2, $3, $4, $5, $6)"

func TestALogThatIsBegunAnewKeepsTheOldOneClosed(t *testing.T) {
	p, l := grown(t, 300) // l knows the head of the old log
	ctx := t.Context()
	head, err := l.Head(ctx, p.organisation)
	must(t, err)
	next, kept, err := l.NextEpoch(p.organisation, head)
	must(t, err)
	if next.Origin != head.Origin+"/2" {
		t.Fatalf("the next origin is %s", next.Origin)
	}
	args := []any{p.organisation, kept, int64(head.Size), string(head.Checkpoint), next.Origin, string(next.Checkpoint)}
	if _, err := p.pool.Exec(ctx, sqlBeginEpoch, args...); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the service's role: %v", err)
	}
	admin := p.db.Superuser(t)
	_, err = p.append(ctx, l, "one more")
	must(t, err)
	if _, err := admin.Exec(ctx, sqlBeginEpoch, args...); err == nil || !strings.Contains(err.Error(), "not as it was when its end was decided") {
		t.Errorf("a log that has moved: %v", err)
	}
	head, err = l.Head(ctx, p.organisation)
	must(t, err)
	args[2], args[3] = int64(head.Size), string(head.Checkpoint)
	_, err = admin.Exec(ctx, sqlBeginEpoch, args...)
	must(t, err)

	// Nothing can follow the old one, whoever asks and however.
	if _, err := l.Append(ctx, kept, p.disclosure("x")); !errors.Is(err, pglog.ErrUnavailable) {
		t.Errorf("the old log grew: %v", err)
	}
	for _, at := range []string{"clock_timestamp()", "'infinity'"} {
		_, err := admin.Exec(ctx, "with h as (update audit.head set size = size where organisation_id = $1 and "+at+" >= last_at returning 1) insert into audit.record (organisation_id, seq, at, body) select $1, $2, "+at+", 'x' from h", kept, head.Size)
		var n int
		must(t, admin.QueryRow(ctx, "select count(*) from audit.record where organisation_id = $1 and seq = $2", kept, head.Size).Scan(&n))
		if n > 0 {
			t.Errorf("a record dated %s was taken: %v", at, err)
		}
	}
	for _, sql := range []string{"delete from audit.record", "update audit.tile set idx = 7", "truncate audit.head", "delete from audit.epoch", "update audit.epoch set origin = 'x'"} {
		if _, err := admin.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), "the audit log only grows") {
			t.Errorf("%s: %v", sql, err)
		}
	}

	// The new one grows, also through a process that knew the old one's head, and both are whole.
	for range 2 {
		_, err = p.append(ctx, l, "new")
		must(t, err)
	}
	for id, want := range map[uuid.UUID]pglog.Head{p.organisation: {Origin: next.Origin, Size: 2}, kept: {Origin: head.Origin, Size: 301}} {
		r, err := l.Verify(ctx, id, audit.Options{})
		must(t, err)
		if len(r.Faults) > 0 || r.Checkpoint.Origin != want.Origin || r.Records != want.Size {
			t.Errorf("%s: %d records, %v", r.Checkpoint.Origin, r.Records, r.Faults)
		}
	}
	closed, err := l.Epochs(ctx, p.organisation)
	if err != nil || len(closed) != 1 || closed[0].LogID != kept || closed[0].Origin != head.Origin || closed[0].Size != 301 || closed[0].Epoch != 1 {
		t.Errorf("%+v, %v", closed, err)
	}
	if other, err := l.Epochs(ctx, uuid.New()); err != nil || len(other) > 0 {
		t.Errorf("another organisation sees %v, %v", other, err)
	}
	// And a third.
	head, err = l.Head(ctx, p.organisation)
	must(t, err)
	next, kept, err = l.NextEpoch(p.organisation, head)
	must(t, err)
	_, err = admin.Exec(ctx, sqlBeginEpoch, p.organisation, kept, int64(head.Size), string(head.Checkpoint), next.Origin, string(next.Checkpoint))
	must(t, err)
	if closed, err = l.Epochs(ctx, p.organisation); err != nil || len(closed) != 2 || closed[1].Origin != closed[0].Origin+"/2" {
		t.Errorf("%+v, %v", closed, err)
	}
}
