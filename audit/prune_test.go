package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"counterfoil/audit"
)

// pruneAct is a record of a log which says that the records before upto are no longer kept.
func pruneAct(t testing.TB, i int, upto string) audit.Entry {
	e := record(t, i, 0)
	e.Kind, e.Action, e.Fields, e.Decision, e.Reasons, e.Rule = audit.Administration, audit.ActPrune, nil, audit.DecisionAllow, nil, "administer.operator"
	e.Actor, e.Subject, e.Conversation = audit.Party{Kind: "operator", Ref: "9f86d081884c7d65"}, audit.Party{}, ""
	e.Facts = map[string]string{"upto": upto, "days": "400"}
	return e
}

// prunedHistory is a log of 1400 records, of which number 1300 is the given one.
func prunedHistory(t testing.TB, act audit.Entry) [][]byte {
	all := history(t, 1400, 0)
	all[1300] = bytesOf(t, act)
	return all
}

func nobody(uint64, uint64) {}

func TestWhereverPruningAnExportBreaksOffWhatIsLeftVerifies(t *testing.T) {
	s, all := testSigner(t, 1, origin), prunedHistory(t, pruneAct(t, 1300, "1024"))
	killed := errors.New("killed")
	for _, with := range []error{killed, &os.PathError{Op: "remove", Path: "x", Err: syscall.EROFS}} {
		for n := 0; n <= 4; n++ {
			dir := t.TempDir()
			signed := export(t, dir, s, all)
			before := listing(t, dir)
			p, err := audit.NewPruning(dir, 1024)
			must(t, err)
			audit.StopAfter(p, n, with)
			removed, err := p.Run(t.Context(), nobody)
			if n < 4 != errors.Is(err, with) || removed != uint64(n) {
				t.Fatalf("after %d removals it says %d and %v", n, removed, err)
			}
			check := func(what string, pruned uint64) {
				t.Helper()
				r := verify(t, dir, audit.Options{Key: s.VerifierKey(), Since: sign(t, s, 700, rootOf(all[:700]))})
				if len(r.Faults) > 0 || r.Pruned != pruned || r.Records != 1400-pruned || pruned > 0 && (r.PrunedBy == nil || *r.PrunedBy != 1300) {
					t.Errorf("%s: %d pruned, %d records, %v", what, r.Pruned, r.Records, r.Faults)
				}
			}
			check(fmt.Sprintf("broken off after %d", n), uint64(n)*256)
			again, err := audit.NewPruning(dir, 1024)
			must(t, err)
			if removed, err = again.Run(t.Context(), nobody); err != nil || removed != uint64(4-n) {
				t.Errorf("the second run removes %d: %v", removed, err)
			}
			check("completed", 1024)
			for name, data := range before {
				if gone := strings.HasPrefix(name, "tile/entries/00") && name < "tile/entries/004"; (listing(t, dir)[name] == data) == gone {
					t.Errorf("%s is there, or changed, or gone", name)
				}
			}

			// A proof of what is gone is made of the tiles, and one made before still verifies.
			checkpoint, err := audit.OpenCheckpoint(signed, mustVerifier(t, s))
			must(t, err)
			path, err := audit.InclusionProof(7, 1400, audit.NewHashReader(checkpoint, audit.DirTiles(os.DirFS(dir))))
			must(t, err)
			if _, err := (audit.Proof{Index: 7, Hashes: path, Checkpoint: signed}).Verify(all[7], mustVerifier(t, s)); err != nil {
				t.Error(err)
			}
			// The log goes on.
			all := append(all[:1400:1400], history(t, 2000, 0)[1400:]...)
			export(t, dir, s, all)
			if r := verify(t, dir, audit.Options{Key: s.VerifierKey()}); len(r.Faults) > 0 || r.Pruned != 1024 || r.Checkpoint.Size != 2000 {
				t.Errorf("after it went on: %v", r.Faults)
			}
		}
	}
}

func TestOnlyARecordOfTheLogExcusesWhatIsMissing(t *testing.T) {
	denied, other := pruneAct(t, 1300, "1024"), pruneAct(t, 1300, "1024")
	denied.Kind, denied.Decision, denied.Reasons = audit.Denial, audit.DecisionDeny, []string{"role_missing"}
	other.Action = "records.retention"
	for name, c := range map[string]struct {
		act  audit.Entry
		gone int // bundles
		want string
	}{
		"as much as it says":           {pruneAct(t, 1300, "1024"), 4, ""},
		"less than it says":            {pruneAct(t, 1300, "1024"), 1, ""},
		"more than it says":            {pruneAct(t, 1300, "768"), 4, "missing 0"},
		"a denied one":                 {denied, 4, "missing 0"},
		"another act":                  {other, 4, "missing 0"},
		"a place within a bundle":      {pruneAct(t, 1300, "1023"), 3, "missing 0"},
		"no number":                    {pruneAct(t, 1300, "-1024"), 4, "missing 0"},
		"all, with the record in them": {pruneAct(t, 1300, "1024"), 6, "missing 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := testSigner(t, 1, origin), t.TempDir()
			export(t, dir, s, prunedHistory(t, c.act))
			p, err := audit.NewPruning(dir, uint64(c.gone)*256)
			must(t, err)
			_, err = p.Run(t.Context(), nobody)
			must(t, err)
			if c.gone == 6 {
				must(t, os.RemoveAll(filepath.Join(dir, "tile/entries/005.p")))
			}
			r := verify(t, dir, audit.Options{Key: s.VerifierKey()})
			got := ""
			if all := faults(r); len(all) > 0 {
				got = all[0]
			}
			if got != c.want {
				t.Errorf("%v", r.Faults)
			}
			var text bytes.Buffer
			must(t, r.WriteText(&text, time.Second))
			if says := strings.Contains(text.String(), "as record 1300 of the log says"); says != (c.want == "") {
				t.Errorf("the report says:\n%s", text.String())
			}
		})
	}
	if _, err := audit.NewPruning(t.TempDir(), 1000); err == nil {
		t.Error("pruned within a bundle")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustVerifier(t testing.TB, s *audit.Signer) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(s.VerifierKey())
	must(t, err)
	return v
}
