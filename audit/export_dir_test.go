package audit_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"counterfoil/audit"
)

// record is entry i of a made-up log, of about 400 bytes. Records of another salt differ in nothing but their nonce.
func record(t testing.TB, i int, salt byte) audit.Entry {
	e := audit.Entry{
		Seq: uint64(i), Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(i) * time.Millisecond),
		Organisation: "org1", Kind: audit.Disclosure, Action: "chat.participant",
		Actor: audit.Party{Kind: "visitor", Ref: "9f86d081884c7d65"}, Audience: "visitor",
		Subject: audit.Party{Kind: "agent", Ref: "2f0a"},
		Fields:  []string{"display_name"}, Decision: audit.DecisionAllow, Rule: "participants.agent_name",
		Policy: "0a1b2c3d", Conversation: "01JB2Y5QH8", Request: "4bf9",
	}
	if i%10 == 9 {
		e.Kind, e.Decision, e.Reasons = audit.Denial, audit.DecisionDeny, []string{"not a participant"}
	}
	binary.BigEndian.PutUint64(e.Nonce[:], uint64(i)+1)
	e.Nonce[15] = salt
	return e
}

func bytesOf(t testing.TB, e audit.Entry) []byte {
	t.Helper()
	b, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// history is the canonical bytes of a log of n records.
func history(t testing.TB, n int, salt byte) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = bytesOf(t, record(t, i, salt))
	}
	return out
}

func from(entries [][]byte, next uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, e := range entries[min(next, uint64(len(entries))):] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func rootOf(entries [][]byte) audit.Hash {
	tree := audit.NewTree()
	for _, e := range entries {
		tree.Append(audit.LeafHash(e), nil)
	}
	return tree.Root()
}

// export brings dir to all of entries and returns the checkpoint.
func export(t testing.TB, dir string, s *audit.Signer, entries [][]byte) []byte {
	t.Helper()
	signed := sign(t, s, uint64(len(entries)), rootOf(entries))
	w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), signed, from(entries, w.Next())); err != nil {
		t.Fatal(err)
	}
	return signed
}

// listing is every file of a directory with its content.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		out[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func names(files map[string]string) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func verify(t testing.TB, dir string, o audit.Options) audit.Report {
	t.Helper()
	r, err := audit.VerifyExport(t.Context(), os.DirFS(dir), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAnExportHasTheStandardLayout(t *testing.T) {
	dir, s := t.TempDir(), testSigner(t, 1, origin)
	export(t, dir, s, history(t, 600, 0))
	want := []string{
		"checkpoint", "key.pub", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2",
		"tile/entries/000", "tile/entries/001", "tile/entries/002.p/88",
	}
	files := listing(t, dir)
	if got := names(files); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if files["key.pub"] != s.VerifierKey()+"\n" {
		t.Errorf("key.pub is %q", files["key.pub"])
	}
	if got := audit.TilePath(1, 1234067, 8); got != "tile/1/x001/x234/067.p/8" {
		t.Errorf("TilePath gives %s", got)
	}
}

func TestAnExportVerifiesAtEverySizeAndGrowth(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 1030, 0)
	sizes := []int{0, 1, 255, 256, 257, 512, 600, 1030}
	for _, first := range sizes {
		for _, second := range sizes {
			if second < first {
				continue
			}
			grown, fresh := t.TempDir(), t.TempDir()
			old := export(t, grown, s, all[:first])
			export(t, grown, s, all[:second])
			r := verify(t, grown, audit.Options{Key: s.VerifierKey(), Since: old})
			if len(r.Faults) > 0 || r.Records != uint64(second) || r.Checkpoint.Size != uint64(second) || r.KeyFromExport {
				t.Errorf("from %d to %d: %+v", first, second, r)
			}
			export(t, fresh, s, all[:second])
			have := listing(t, grown)
			for name, data := range listing(t, fresh) {
				if have[name] != data {
					t.Errorf("from %d to %d: %s differs from a fresh export's", first, second, name)
				}
			}
		}
	}
}

func TestAReportCounts(t *testing.T) {
	dir, s := t.TempDir(), testSigner(t, 1, origin)
	all := history(t, 600, 0)
	export(t, dir, s, all)
	var calls []uint64
	r := verify(t, dir, audit.Options{Progress: func(done, total uint64) { calls = append(calls, done, total) }})
	size := 0
	for _, e := range all {
		size += len(e)
	}
	if !r.KeyFromExport || r.Key != s.VerifierKey() || r.Bytes != uint64(size) ||
		!r.First.Equal(record(t, 0, 0).Time) || !r.Last.Equal(record(t, 599, 0).Time) ||
		r.Kinds["disclosure"] != 540 || r.Kinds["denial"] != 60 || r.Decisions["allow"] != 540 || r.Decisions["deny"] != 60 ||
		r.Actions["chat.participant"] != 600 || r.Actors["visitor"] != 600 {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(calls, []uint64{600, 600}) {
		t.Errorf("progress was told %v", calls)
	}
}

func TestNothingIsWrittenWhen(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	broken := errors.New("broken")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		signed  []byte
		entries iter.Seq2[[]byte, error]
	}{
		"the root is of other entries":               {t.Context(), sign(t, s, 600, rootOf(history(t, 600, 1))), from(all, 256)},
		"there are too few entries":                  {t.Context(), sign(t, s, 601, rootOf(all)), from(all, 256)},
		"the checkpoint is older than what is there": {t.Context(), sign(t, s, 299, rootOf(all[:299])), from(all, 256)},
		"the checkpoint forks what is there":         {t.Context(), sign(t, s, 300, rootOf(history(t, 300, 1))), from(all, 256)},
		"the history before differs":                 {t.Context(), sign(t, s, 600, rootOf(append(history(t, 256, 1), all[256:]...))), from(all, 256)},
		"another key signed":                         {t.Context(), sign(t, testSigner(t, 2, origin), 600, rootOf(all)), from(all, 256)},
		"an entry is too long":                       {t.Context(), sign(t, s, 600, rootOf(all)), from(append(all[:599:599], make([]byte, 16<<10)), 256)},
		"the context has ended":                      {cancelled, sign(t, s, 600, rootOf(all)), from(all, 256)},
		"the source fails": {t.Context(), sign(t, s, 600, rootOf(all)), func(yield func([]byte, error) bool) {
			for _, e := range all[256:599] {
				yield(e, nil)
			}
			yield(nil, broken)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			export(t, dir, s, all[:300])
			before := listing(t, dir)
			w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
			if err != nil {
				t.Fatal(err)
			}
			if w.Next() != 256 {
				t.Fatalf("Next is %d", w.Next())
			}
			if err := w.Write(c.ctx, c.signed, c.entries); err == nil {
				t.Fatal("no error")
			} else if err := w.Write(t.Context(), sign(t, s, 600, rootOf(all)), from(all, 256)); err == nil {
				t.Fatal("a second Write went through")
			}
			after := listing(t, dir)
			if !slices.Equal(names(before), names(after)) {
				t.Errorf("before %q\nafter %q", names(before), names(after))
			}
			for name := range before {
				if before[name] != after[name] {
					t.Errorf("%s has changed", name)
				}
			}
		})
	}
}

func TestAnInterruptedExportIsCompleted(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	dir := t.TempDir()
	export(t, dir, s, all)
	want := listing(t, dir)
	for cut, name := range []string{"tile/entries/000", "tile/0/001", "tile/1/000.p/2"} {
		if err := os.Truncate(filepath.Join(dir, name), int64(cut*20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	export(t, dir, s, all)
	for name, data := range listing(t, dir) {
		if want[name] != data {
			t.Errorf("%s differs", name)
		}
	}
}

func TestAFullFileThatDiffersIsNeverReplaced(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	dir := t.TempDir()
	other := filepath.Join(dir, "tile/entries/001")
	if err := os.MkdirAll(filepath.Dir(other), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), sign(t, s, 600, rootOf(all)), from(all, 0)); err == nil {
		t.Error("no error")
	}
	if got := listing(t, dir); got["tile/entries/001"] != "another" || got["checkpoint"] != "" {
		t.Errorf("left %q", names(got))
	}
}

// pruned takes the bundles and tiles away that C2SP tlog-tiles lets a log withhold with this minimum index.
func prune(t testing.TB, dir string, minimum int) {
	t.Helper()
	for name := range listing(t, dir) {
		var level, index int
		if _, err := fmt.Sscanf(name, "tile/entries/%03d", &index); err != nil {
			if _, err := fmt.Sscanf(name, "tile/%d/%03d", &level, &index); err != nil {
				continue
			}
		}
		if end := (index + 1) * 256 << (8 * level); end <= minimum && filepath.Dir(name) != filepath.Join("tile", "entries", fmt.Sprintf("%03d.p", index)) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAPrunedExportVerifiesFromItsMinimumOn(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 66_600, 0)
	for _, n := range []int{600, 66_600} {
		dir := t.TempDir()
		export(t, dir, s, all[:n])
		for _, minimum := range []int{0, 255, 256, 300, 512, 65_535, 65_536, 65_900, 66_560, 66_600} {
			if minimum > n {
				continue
			}
			prune(t, dir, minimum)
			r := verify(t, dir, audit.Options{Key: s.VerifierKey(), Minimum: uint64(minimum), Since: sign(t, s, uint64(minimum), rootOf(all[:minimum]))})
			pruned := uint64(minimum / 256 * 256)
			if len(r.Faults) > 0 || r.Pruned != pruned || r.Records != uint64(n)-pruned {
				t.Errorf("%d pruned at %d: %d records after %d pruned, %v", n, minimum, r.Records, r.Pruned, r.Faults)
			}
			if pruned == 0 {
				continue
			}
			if r := verify(t, dir, audit.Options{}); len(r.Faults) == 0 || r.Faults[0].Kind != audit.Missing {
				t.Errorf("%d pruned at %d passes for a whole log: %v", n, minimum, r.Faults)
			}
			if r := verify(t, dir, audit.Options{Minimum: pruned - 1}); len(r.Faults) == 0 {
				t.Errorf("%d pruned at %d passes as pruned at %d", n, minimum, pruned-1)
			}
		}
	}
}

func TestTamperingWithAPrunedExport(t *testing.T) {
	all := history(t, 1000, 0)
	for name, c := range map[string]struct {
		do   func(a attack)
		want []string
	}{
		"nothing":                  {func(attack) {}, []string{}},
		"a bundle in the middle":   {func(a attack) { a.remove("tile/entries/002") }, []string{"missing 512"}},
		"the one at the minimum":   {func(a attack) { a.remove("tile/entries/001") }, []string{"missing 256"}},
		"the hashes of the pruned": {func(a attack) { b := a.read("tile/1/000.p/3"); b[3] ^= 1; a.write("tile/1/000.p/3", b) }, []string{"missing 0"}},
		"a record behind the minimum": {func(a attack) {
			a.bundles(slices.Concat(all[:256], [][]byte{bytesOf(t, record(t, 256, 1))}, all[257:]))
			prune(a.t, a.dir, 256)
		}, []string{"changed 256"}},
		"another history from there on": {func(a attack) {
			signed := a.read("checkpoint")
			a.clear()
			export(a.t, a.dir, a.s, append(slices.Clone(all[:256]), history(a.t, 1000, 1)[256:]...))
			prune(a.t, a.dir, 256)
			a.write("checkpoint", signed)
		}, []string{"missing 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := attack{t, t.TempDir(), testSigner(t, 1, origin), all}
			export(t, a.dir, a.s, all)
			prune(t, a.dir, 256)
			c.do(a)
			if got := faults(verify(t, a.dir, audit.Options{Key: a.s.VerifierKey(), Minimum: 300})); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAPrunedLogIsExportedWithTheHashesOfWhatIsGone(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 1000, 0)
	whole, dir := t.TempDir(), t.TempDir()
	signed := export(t, whole, s, all)
	for _, c := range []struct {
		spoil byte
		good  bool
	}{{1, false}, {0, true}} {
		w, err := audit.OpenExport(t.Context(), audit.Dir(dir), s.VerifierKey())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Skip(500, nil); err == nil {
			t.Error("skipped to the middle of a bundle")
		}
		tiles := audit.DirTiles(os.DirFS(whole))
		err = w.Skip(512, func(level int, index uint64, width int) ([]byte, error) {
			b, err := tiles(level, index, width)
			b[77] ^= c.spoil
			return b, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(t.Context(), signed, from(all, 512)); (err == nil) != c.good {
			t.Fatalf("%v", err)
		}
		if !c.good && len(listing(t, dir)) > 0 {
			t.Errorf("left %q", names(listing(t, dir)))
		}
	}
	have := listing(t, dir)
	for name, data := range listing(t, whole) {
		if pruned := name == "tile/entries/000" || name == "tile/entries/001"; !pruned && have[name] != data || pruned && have[name] != "" {
			t.Errorf("%s differs", name)
		}
	}
	if r := verify(t, dir, audit.Options{Minimum: 512}); len(r.Faults) > 0 || r.Records != 488 {
		t.Errorf("%+v", r)
	}
}

func TestOpenExportRefuses(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	for name, spoil := range map[string]func(dir string) (key string, err error){
		"a key of another log": func(string) (string, error) { return testSigner(t, 2, origin).VerifierKey(), nil },
		"what is no key":       func(string) (string, error) { return "key", nil },
		"a damaged tile at the right edge": func(dir string) (string, error) {
			return s.VerifierKey(), os.WriteFile(filepath.Join(dir, "tile/1/000.p/2"), bytes.Repeat([]byte{1}, 64), 0o644)
		},
		"a checkpoint that is not signed": func(dir string) (string, error) {
			return s.VerifierKey(), os.WriteFile(filepath.Join(dir, "checkpoint"), []byte(fmt.Sprintf("%s\n1\n\n", origin)), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			export(t, dir, s, all)
			key, err := spoil(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := audit.OpenExport(t.Context(), audit.Dir(dir), key); err == nil {
				t.Error("no error")
			}
		})
	}
}
