package publish_test

import (
	"errors"
	"testing"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
)

func TestNothingPublishedGoesBeforeTheRecordOfItIsPublished(t *testing.T) {
	p := newPlace(t)
	ctx := t.Context()
	for range 3 {
		p.grow(t, 200)
	}
	pub := p.publisher(nil)
	must(t, pub.Publish(ctx))
	_, err := p.log.Append(ctx, p.organisation, pglog.Draft{Entry: audit.Entry{
		Kind: audit.Administration, Action: audit.ActPrune, Decision: audit.DecisionAllow, Actor: audit.Party{Kind: "operator"}, Facts: map[string]string{"upto": "512"},
	}})
	must(t, err)
	prune := func() (uint64, error) {
		return pub.Prune(ctx, p.organisation, 600, 512, func(uint64, uint64) {})
	}
	if n, err := prune(); n != 0 || !errors.Is(err, publish.ErrNotPublished) {
		t.Errorf("removed %d: %v", n, err)
	}
	if r := p.published(t); r.Records != 600 {
		t.Errorf("%d records are left", r.Records)
	}
	must(t, pub.Publish(ctx))
	if n, err := prune(); n != 2 || err != nil {
		t.Errorf("removed %d: %v", n, err)
	}
	pruned := func(size uint64) {
		t.Helper()
		if r := p.published(t); r.Checkpoint.Size != size || r.Pruned != 512 || r.PrunedBy == nil || *r.PrunedBy != 600 {
			t.Errorf("of %d records %d are pruned by %v", r.Checkpoint.Size, r.Pruned, r.PrunedBy)
		}
	}
	pruned(601)

	// This node and another one publish on, and hold the log against what is there.
	p.grow(t, 100)
	must(t, pub.Publish(ctx))
	pruned(701)
	for range 3 {
		p.grow(t, 200)
	}
	other := p.publisher(nil)
	must(t, other.Standing(ctx, p.organisation, true))
	must(t, other.Publish(ctx))
	pruned(1301)
}
