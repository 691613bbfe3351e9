package audit_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"counterfoil/audit"
)

// attack is somebody at work on an export of a good log, who may or may not know how tiles are made.
type attack struct {
	t   *testing.T
	dir string
	s   *audit.Signer
	all [][]byte
}

func (a attack) write(name string, data []byte) {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		a.t.Fatal(err)
	}
}

func (a attack) remove(name string) {
	a.t.Helper()
	if err := os.Remove(filepath.Join(a.dir, name)); err != nil {
		a.t.Fatal(err)
	}
}

func (a attack) read(name string) []byte {
	a.t.Helper()
	data, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil {
		a.t.Fatal(err)
	}
	return data
}

// bundles writes entries into the bundle files that size promises, and leaves the tiles alone.
func (a attack) bundles(entries [][]byte) {
	a.t.Helper()
	for first := 0; first < len(a.all); first += 256 {
		width := min(256, len(a.all)-first)
		last := min(first+width, len(entries))
		if first+width == len(a.all) {
			last = len(entries)
		}
		var b []byte
		for _, e := range entries[min(first, last):last] {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(e))), e...)
		}
		a.write(audit.BundlePath(uint64(first/256), width), b)
	}
}

// recompute makes bundles and tiles of entries, and puts them under the checkpoint that was there.
func (a attack) recompute(entries [][]byte) {
	a.t.Helper()
	signed, key := a.read("checkpoint"), a.read("key.pub")
	a.clear()
	export(a.t, a.dir, testSigner(a.t, 99, origin), entries)
	a.write("checkpoint", signed)
	a.write("key.pub", key)
}

func (a attack) clear() {
	a.t.Helper()
	if err := errors.Join(os.RemoveAll(filepath.Join(a.dir, "tile")), os.Remove(filepath.Join(a.dir, "checkpoint")), os.Remove(filepath.Join(a.dir, "key.pub"))); err != nil {
		a.t.Fatal(err)
	}
}

func with(entries [][]byte, change func([][]byte) [][]byte) [][]byte {
	return change(slices.Clone(entries))
}

// faults lists kind and index of what was found.
func faults(r audit.Report) []string {
	out := []string{}
	for _, f := range r.Faults {
		out = append(out, fmt.Sprintf("%s %d", f.Kind, f.Index))
	}
	return out
}

// TestTampering does to an export of 600 records what an insider might do, first to the files of records alone and then
// with all tiles recomputed, and expects the fault by name and place.
func TestTampering(t *testing.T) {
	all := history(t, 600, 0)
	alter := func(i int, change func(*audit.Entry)) func([][]byte) [][]byte {
		return func(l [][]byte) [][]byte {
			e := record(t, i, 0)
			change(&e)
			l[i] = bytesOf(t, e)
			return l
		}
	}
	swap := func(i, j int) func([][]byte) [][]byte {
		return func(l [][]byte) [][]byte { l[i], l[j] = l[j], l[i]; return l }
	}
	for name, c := range map[string]struct {
		change     func([][]byte) [][]byte
		files      []string // what is found if only the bundles were edited
		recomputed []string // and if the tiles were recomputed too
	}{
		"a record is changed": {
			alter(300, func(e *audit.Entry) { e.Subject.Ref = "another" }), []string{"changed 300"}, []string{"changed -1"}},
		"the first record is changed": {
			alter(0, func(e *audit.Entry) { e.Nonce[3] = 1 }), []string{"changed 0"}, []string{"changed -1"}},
		"two records are changed": {
			func(l [][]byte) [][]byte {
				return alter(599, func(e *audit.Entry) { e.Rule = "x" })(alter(3, func(e *audit.Entry) { e.Rule = "x" })(l))
			}, []string{"changed 3", "changed 599"}, []string{"changed -1"}},
		"a byte is changed": {
			func(l [][]byte) [][]byte {
				l[300] = []byte(strings.Replace(string(l[300]), `"allow"`, `"deny!"`, 1))
				return l
			}, []string{"changed 300"}, []string{"not-canonical 300"}},
		"a record is renumbered": {
			alter(300, func(e *audit.Entry) { e.Seq = 7000 }), []string{"changed 300"}, []string{"changed 300"}},
		"a record is replaced by a copy of another": {
			func(l [][]byte) [][]byte { l[300] = l[10]; return l }, []string{"swapped 300"}, []string{"changed 300"}},
		"a record is dropped": {
			func(l [][]byte) [][]byte { return slices.Delete(l, 300, 301) }, []string{"missing 300"}, []string{"gap 300", "truncated 512"}},
		"records at a file's edge are dropped": {
			func(l [][]byte) [][]byte { return slices.Delete(l, 254, 260) }, []string{"missing 254"}, []string{"gap 254", "truncated 512"}},
		"the first record is dropped": {
			func(l [][]byte) [][]byte { return l[1:] }, []string{"missing 0"}, []string{"gap 0", "truncated 512"}},
		"the last record is dropped": {
			func(l [][]byte) [][]byte { return l[:599] }, []string{"truncated 599"}, []string{"truncated 512"}},
		"neighbours are swapped": {
			swap(300, 301), []string{"swapped 300"}, []string{"swapped 300"}},
		"records far apart are swapped": {
			swap(5, 590), []string{"swapped 5"}, []string{"swapped 5"}},
		"a record is inserted": {
			func(l [][]byte) [][]byte { return slices.Insert(l, 300, bytesOf(t, record(t, 300, 1))) },
			[]string{"inserted 300"}, []string{"inserted 301"}},
		"a copy is inserted": {
			func(l [][]byte) [][]byte { return slices.Insert(l, 300, l[20]) }, []string{"inserted 300"}, []string{"inserted 300"}},
		"a record is dated back": {
			alter(300, func(e *audit.Entry) { e.Time = e.Time.Add(-time.Hour) }), []string{"redated 300"}, []string{"redated 300"}},
		"a record is dated ahead": {
			alter(300, func(e *audit.Entry) { e.Time = e.Time.Add(time.Hour) }), []string{"redated 300"}, []string{"redated 301"}},
		"the first record of a file is dated back": {
			alter(256, func(e *audit.Entry) { e.Time = e.Time.Add(-time.Hour) }), []string{"redated 256"}, []string{"redated 256"}},
		"a record is moved to another organisation": {
			alter(300, func(e *audit.Entry) { e.Organisation = "org2" }), []string{"changed 300"}, []string{"wrong-origin 300"}},
		"everything is rewritten": {
			func([][]byte) [][]byte { return history(t, 600, 9) }, nil, []string{"changed -1"}},
	} {
		for _, recomputed := range []bool{false, true} {
			want := c.files
			if recomputed {
				want = c.recomputed
			}
			if want == nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/recomputed=%t", name, recomputed), func(t *testing.T) {
				a := attack{t, t.TempDir(), testSigner(t, 1, origin), all}
				export(t, a.dir, a.s, all)
				if recomputed {
					entries := with(all, c.change)
					if len(entries) > 600 {
						entries = entries[:600]
					}
					a.recompute(entries)
				} else {
					a.bundles(with(all, c.change))
				}
				r := verify(t, a.dir, audit.Options{Key: a.s.VerifierKey()})
				if got := faults(r); !slices.Equal(got, want) {
					t.Errorf("got %q, want %q: %+v", got, want, r.Faults)
				}
			})
		}
	}
}

// TestTamperingWithFiles works on whole files, checkpoints and keys.
func TestTamperingWithFiles(t *testing.T) {
	all := history(t, 600, 0)
	for name, c := range map[string]struct {
		do    func(a attack)
		since bool // the verifier has the checkpoint of 600 from before
		want  []string
	}{
		"a bundle is missing":           {func(a attack) { a.remove("tile/entries/001") }, false, []string{"missing 256"}},
		"the first bundle is missing":   {func(a attack) { a.remove("tile/entries/000") }, false, []string{"missing 0"}},
		"the last bundle is missing":    {func(a attack) { a.remove("tile/entries/002.p/88") }, false, []string{"truncated 512"}},
		"a tile is missing":             {func(a attack) { a.remove("tile/0/001") }, false, []string{"missing 256"}},
		"a partial tile is missing":     {func(a attack) { a.remove("tile/0/002.p/88") }, false, []string{"missing 512"}},
		"an upper tile is missing":      {func(a attack) { a.remove("tile/1/000.p/2") }, false, []string{"missing 0"}},
		"a tile is damaged":             {func(a attack) { b := a.read("tile/0/001"); b[40] ^= 1; a.write("tile/0/001", b) }, false, []string{"corrupt-tile 256"}},
		"a partial tile is damaged":     {func(a attack) { b := a.read("tile/0/002.p/88"); b[40] ^= 1; a.write("tile/0/002.p/88", b) }, false, []string{"corrupt-tile 512"}},
		"an upper tile is damaged":      {func(a attack) { b := a.read("tile/1/000.p/2"); b[40] ^= 1; a.write("tile/1/000.p/2", b) }, false, []string{"corrupt-tile 0"}},
		"a tile is cut":                 {func(a attack) { a.write("tile/0/001", a.read("tile/0/001")[:100]) }, false, []string{"corrupt-tile 256"}},
		"a tile is too long":            {func(a attack) { a.write("tile/0/001", append(a.read("tile/0/001"), 0)) }, false, []string{"corrupt-tile 256"}},
		"a bundle is cut in a record":   {func(a attack) { b := a.read("tile/entries/001"); a.write("tile/entries/001", b[:len(b)-5]) }, false, []string{"missing 511"}},
		"a bundle is empty":             {func(a attack) { a.write("tile/entries/001", nil) }, false, []string{"missing 256"}},
		"the last bundle is cut":        {func(a attack) { b := a.read("tile/entries/002.p/88"); a.write("tile/entries/002.p/88", b[:len(b)-5]) }, false, []string{"truncated 599"}},
		"a bundle has bytes at its end": {func(a attack) { a.write("tile/entries/001", append(a.read("tile/entries/001"), 0)) }, false, []string{"inserted 512"}},
		"a tile and a record are altered": {func(a attack) {
			b := a.read("tile/0/000")
			b[40] ^= 1
			a.write("tile/0/000", b)
			l := slices.Clone(a.all)
			e := record(t, 300, 0)
			e.Rule = "x"
			l[300] = bytesOf(t, e)
			a.bundles(l)
		}, false, []string{"corrupt-tile 0", "changed 300"}},
		"the log is cut without a new checkpoint": {func(a attack) {
			signed := a.read("checkpoint")
			a.clear()
			export(t, a.dir, a.s, a.all[:500])
			a.write("checkpoint", signed)
		}, false, []string{"truncated 256"}},
		"the checkpoint is not the key's": {func(a attack) {
			a.write("checkpoint", sign(t, testSigner(t, 2, origin), 600, rootOf(all)))
		}, false, []string{"forged-signature -1"}},
		"log and key are replaced": {func(a attack) {
			a.clear()
			export(t, a.dir, testSigner(t, 2, origin), history(t, 600, 3))
		}, false, []string{"forged-signature -1"}},
		"the checkpoint is another log's": {func(a attack) {
			a.write("checkpoint", sign(t, testSigner(t, 1, "chat.example/audit/org2"), 600, rootOf(all)))
		}, false, []string{"wrong-origin -1"}},
		"the checkpoint is no checkpoint": {func(a attack) { a.write("checkpoint", []byte("600\n")) }, false, []string{"forged-signature -1"}},
		"the size is altered": {func(a attack) {
			a.write("checkpoint", []byte(strings.Replace(string(a.read("checkpoint")), "\n600\n", "\n599\n", 1)))
		}, false, []string{"forged-signature -1"}},
		"an older log is put back": {func(a attack) {
			a.clear()
			export(t, a.dir, a.s, a.all[:500])
		}, true, []string{"inconsistent 500"}},
		"an older log is put back, and nobody remembers": {func(a attack) {
			a.clear()
			export(t, a.dir, a.s, a.all[:500])
		}, false, []string{}},
		"the key signed a second history": {func(a attack) {
			a.clear()
			export(t, a.dir, a.s, history(t, 700, 3))
		}, true, []string{"inconsistent -1"}},
		"the key signed a second history of the same size": {func(a attack) {
			a.clear()
			export(t, a.dir, a.s, history(t, 600, 3))
		}, true, []string{"inconsistent -1"}},
		"the key went on": {func(a attack) {
			export(t, a.dir, a.s, history(t, 700, 0))
		}, true, []string{}},
		"the log itself left a number out": {func(a attack) {
			a.clear()
			export(t, a.dir, a.s, slices.Delete(slices.Clone(all), 300, 301))
		}, false, []string{"gap 300"}},
		"the log itself signed another organisation's record": {func(a attack) {
			e := record(t, 0, 0)
			e.Organisation = "org2"
			a.clear()
			export(t, a.dir, a.s, [][]byte{bytesOf(t, e)})
		}, false, []string{"wrong-origin 0"}},
		"the log itself signed what is no record": {func(a attack) {
			a.clear()
			export(t, a.dir, a.s, [][]byte{[]byte("{}")})
		}, false, []string{"not-canonical 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := attack{t, t.TempDir(), testSigner(t, 1, origin), all}
			seen := export(t, a.dir, a.s, all)
			c.do(a)
			o := audit.Options{Key: a.s.VerifierKey()}
			if c.since {
				o.Since = seen
			}
			r := verify(t, a.dir, o)
			if got := faults(r); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q: %+v", got, c.want, r.Faults)
			}
		})
	}
}

func TestTamperingAtTheEdgesOfTiles(t *testing.T) {
	for _, n := range []int{1, 2, 255, 256, 257} {
		all := history(t, n, 0)
		last := bytesOf(t, record(t, n-1, 1))
		want := fmt.Sprintf("changed %d", n-1)
		a := attack{t, t.TempDir(), testSigner(t, 1, origin), all}
		export(t, a.dir, a.s, all)
		a.bundles(append(slices.Clone(all[:n-1]), last))
		if got := faults(verify(t, a.dir, audit.Options{})); !slices.Equal(got, []string{want}) {
			t.Errorf("size %d: got %q, want %s", n, got, want)
		}
		a.recompute(append(slices.Clone(all[:n-1]), last))
		if got := faults(verify(t, a.dir, audit.Options{})); !slices.Equal(got, []string{"changed -1"}) {
			t.Errorf("size %d, recomputed: got %q", n, got)
		}
	}
	dir, s := t.TempDir(), testSigner(t, 1, origin)
	export(t, dir, s, nil)
	a := attack{t, dir, s, nil}
	a.write("checkpoint", sign(t, s, 0, audit.Hash{1}))
	if got := faults(verify(t, dir, audit.Options{})); !slices.Equal(got, []string{"changed -1"}) {
		t.Errorf("empty log with another root: got %q", got)
	}
}

func TestAFullFileStandsInForAPartialOne(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 700, 0)
	dir := t.TempDir()
	old := export(t, dir, s, all[:500])
	export(t, dir, s, all) // drops the partial files of 500
	a := attack{t, dir, s, all}
	a.write("checkpoint", old)
	a.write("tile/1/000.p/1", a.read("tile/1/000.p/2")[:32])
	if r := verify(t, dir, audit.Options{}); len(r.Faults) > 0 || r.Records != 500 {
		t.Errorf("%+v", r)
	}
}

func TestALargerLogVerifiesOverSeveralChunks(t *testing.T) {
	dir, s := t.TempDir(), testSigner(t, 1, origin)
	n := 2*65536 + 300
	short := func(i int) []byte {
		return bytesOf(t, audit.Entry{Seq: uint64(i), Time: at(int64(i)), Organisation: "org1", Kind: audit.Administration, Action: "x", Nonce: [16]byte{1}})
	}
	all := make([][]byte, n)
	for i := range all {
		all[i] = short(i)
	}
	old := export(t, dir, s, all[:70000])
	export(t, dir, s, all)
	var told []uint64
	r := verify(t, dir, audit.Options{Since: old, Progress: func(done, _ uint64) { told = append(told, done) }})
	if len(r.Faults) > 0 || r.Records != uint64(n) || !slices.Equal(told, []uint64{65536, 131072, uint64(n)}) {
		t.Errorf("%+v, told %v", r, told)
	}
	a := attack{t, dir, s, all}
	b := a.read("tile/2/000.p/2")
	b[0] ^= 1
	a.write("tile/2/000.p/2", b)
	if got := faults(verify(t, dir, audit.Options{})); !slices.Equal(got, []string{"corrupt-tile 0"}) {
		t.Errorf("damaged tile of level 2: got %q", got)
	}
	b[0] ^= 1
	a.write("tile/2/000.p/2", b)
	l := slices.Delete(slices.Clone(all), 66000, 66003)
	a.bundles(l)
	if got := faults(verify(t, dir, audit.Options{})); !slices.Equal(got, []string{"missing 66000"}) {
		t.Errorf("dropped records: got %q", got)
	}
}

func TestVerifyExportCannotSayAnything(t *testing.T) {
	s := testSigner(t, 1, origin)
	good := t.TempDir()
	export(t, good, s, history(t, 600, 0))
	noKey := t.TempDir()
	export(t, noKey, s, nil)
	if err := os.Remove(filepath.Join(noKey, "key.pub")); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	unreadable := failing{os.DirFS(good), "tile/entries/001"}
	for name, c := range map[string]struct {
		ctx  context.Context
		fsys fs.FS
		o    audit.Options
		want error
	}{
		"of a directory that is none":  {t.Context(), os.DirFS(t.TempDir()), audit.Options{Key: s.VerifierKey()}, fs.ErrNotExist},
		"without any key":              {t.Context(), os.DirFS(noKey), audit.Options{}, fs.ErrNotExist},
		"of a file that is unreadable": {t.Context(), unreadable, audit.Options{}, fs.ErrPermission},
		"after the end of the context": {cancelled, os.DirFS(good), audit.Options{}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := audit.VerifyExport(c.ctx, c.fsys, c.o); !errors.Is(err, c.want) || len(r.Faults) > 0 {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	if _, err := audit.VerifyExport(t.Context(), os.DirFS(good), audit.Options{Key: "no key"}); err == nil {
		t.Error("a key that is none was taken")
	}
}

// failing is a file system in which one file cannot be read.
type failing struct {
	fs.FS
	name string
}

func (f failing) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

// FuzzVerifyExport puts any bytes in the place of one file of a good export: only the good ones may pass.
func FuzzVerifyExport(f *testing.F) {
	dir, s := f.TempDir(), testSigner(f, 1, origin)
	export(f, dir, s, history(f, 258, 0))
	files := listing(f, dir)
	all := slices.DeleteFunc(names(files), func(name string) bool { return name == "key.pub" })
	for i, name := range all {
		f.Add(uint8(i), []byte(files[name]))
		f.Add(uint8(i), []byte(files[name][1:]))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		name := all[int(which)%len(all)]
		fsys := make(fstest.MapFS)
		for name, data := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(data)}
		}
		fsys[name] = &fstest.MapFile{Data: data}
		r, err := audit.VerifyExport(t.Context(), fsys, audit.Options{Key: s.VerifierKey()})
		if err != nil {
			t.Fatal(err)
		}
		if good := string(data) == files[name]; good != (len(r.Faults) == 0) && name != "checkpoint" {
			t.Errorf("%s: equal %t, faults %+v", name, good, r.Faults)
		}
		if name == "checkpoint" && len(r.Faults) == 0 && (r.Checkpoint.Size != 258 || r.Records != 258) {
			t.Errorf("another checkpoint passed: %+v", r)
		}
	})
}
