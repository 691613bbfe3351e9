//go:build outside

package outside

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

// A log that grew in PostgreSQL, through the door that everything passes, is accepted by all three.
func TestALogOfPostgreSQLIsAccepted(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	pool := db.Pool(t, "counterfoil_service")
	key, err := audit.NewKey(bytes.Repeat([]byte{1}, 32))
	must(t, err)
	must(t, decisionKey(t).Install(t.Context(), db.Superuser(t)))
	organisation, log := uuid.New(), pglog.New(pool, key, decisionKey(t))
	s, err := key.For("chat.example/audit/" + organisation.String())
	must(t, err)
	must(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return log.CreateLog(t.Context(), tx, organisation, s.Origin()) }))
	address, _ := startWitness(t, s)
	dir, old := t.TempDir(), uint64(0)
	for i, n := range []int{0, 1, 254, 1, 1, 300} { // 0, 1, 255, 256, 257, 557
		drafts := make([]pglog.Draft, 0, 256)
		for j := range n {
			drafts = append(drafts, pglog.Draft{Entry: audit.Entry{
				Kind: audit.Disclosure, Action: "introduce", Actor: audit.Party{Kind: "agent", Ref: "a"}, Decision: audit.DecisionAllow, Request: fmt.Sprintf("%d-%d", i, j),
			}})
			if len(drafts) == 256 || j == n-1 {
				_, err := log.Append(t.Context(), organisation, drafts...)
				must(t, err)
				drafts = drafts[:0]
			}
		}
		head, err := log.Export(t.Context(), organisation, dir)
		must(t, err)
		if good, out := fsckAccepts(t, dir, patience); !good {
			t.Fatalf("%d records: fsck does not accept them:\n%s", head.Size, out)
		}
		if status, answer := submit(t, address, old, consistency(t, dir, s, old), string(head.Checkpoint)); status != http.StatusOK {
			t.Fatalf("from %d to %d: %d %s", old, head.Size, status, answer)
		}
		old = head.Size
		if head.Size == 0 {
			continue
		}
		record, proof, err := log.Proof(t.Context(), organisation, head.Size/2)
		must(t, err)
		var b bytes.Buffer
		must(t, audit.WriteProof(&b, proof))
		if good, out := spicyAccepts(t, s.VerifierKey(), record, b.Bytes()); !good {
			t.Fatalf("record %d of %d: spicy does not accept it:\n%s", head.Size/2, head.Size, out)
		}
	}
	if old != 557 {
		t.Errorf("the log has %d records", old)
	}
}
