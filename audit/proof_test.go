package audit_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"counterfoil/audit"
)

func TestEveryProofFromAnExportHolds(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	for _, size := range []uint64{1, 2, 255, 256, 257, 600} {
		dir := t.TempDir()
		signed := export(t, dir, s, all[:size])
		c, err := audit.OpenCheckpoint(signed, s.Verifier())
		if err != nil {
			t.Fatal(err)
		}
		r := audit.NewHashReader(c, audit.DirTiles(os.DirFS(dir)))
		for index := uint64(0); index < size; index += 7 {
			hashes, err := audit.InclusionProof(index, size, r)
			if err != nil {
				t.Fatal(err)
			}
			var file bytes.Buffer
			if err := audit.WriteProof(&file, audit.Proof{Index: index, Hashes: hashes, Checkpoint: signed}); err != nil {
				t.Fatal(err)
			}
			p, err := audit.ParseProof(file.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.Verify(all[index], s.Verifier()); err != nil || got != c {
				t.Fatalf("size %d index %d: %v", size, index, err)
			}
			if _, err := p.Verify(all[(index+1)%600], s.Verifier()); !errors.Is(err, audit.ErrProof) {
				t.Fatalf("size %d index %d holds for another entry: %v", size, index, err)
			}
			if _, err := p.Verify(all[index], testSigner(t, 2, origin).Verifier()); !errors.Is(err, audit.ErrSignature) {
				t.Fatalf("size %d index %d holds under another key: %v", size, index, err)
			}
		}
		for old := uint64(0); old <= size; old += 5 {
			p, err := audit.ConsistencyProof(old, size, r)
			if err != nil {
				t.Fatal(err)
			}
			if err := audit.VerifyConsistency(old, rootOf(all[:old]), size, c.Root, p); err != nil {
				t.Fatalf("from %d to %d: %v", old, size, err)
			}
			if err := audit.VerifyConsistency(old, audit.Hash{1}, size, c.Root, p); !errors.Is(err, audit.ErrProof) {
				t.Fatalf("from %d to %d holds for another root: %v", old, size, err)
			}
		}
		if _, err := audit.InclusionProof(size, size, r); err == nil {
			t.Error("proved a record beyond the end")
		}
		if _, err := audit.ConsistencyProof(size+1, size, r); err == nil {
			t.Error("proved consistency with a larger tree")
		}
	}
}

func TestAHashReaderBelievesNoTile(t *testing.T) {
	s, all := testSigner(t, 1, origin), history(t, 600, 0)
	dir := t.TempDir()
	c, err := audit.OpenCheckpoint(export(t, dir, s, all), s.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	good := audit.DirTiles(os.DirFS(dir))
	for level := range 2 {
		r := audit.NewHashReader(c, func(l int, index uint64, width int) ([]byte, error) {
			data, err := good(l, index, width)
			if l == level && index == 0 {
				data[3] ^= 1
			}
			return data, err
		})
		if _, err := audit.InclusionProof(5, 600, r); err == nil {
			t.Errorf("a proof came from a damaged tile of level %d", level)
		}
	}
	if _, err := audit.NewHashReader(audit.Checkpoint{}, good).ReadHashes([]int64{0}); err == nil {
		t.Error("the empty tree has hashes")
	}
}

func TestParseProofRefuses(t *testing.T) {
	hash := audit.Hash{}.String() + "\n"
	for name, text := range map[string]string{
		"another header":        "c2sp.org/tlog-proof@v2\nindex 1\n\nx",
		"no index":              "c2sp.org/tlog-proof@v1\n" + hash + "\nx",
		"nothing but extra":     "c2sp.org/tlog-proof@v1\nextra AA==\n\nx",
		"an index with a zero":  "c2sp.org/tlog-proof@v1\nindex 01\n\nx",
		"a hash that is short":  "c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nx",
		"no checkpoint":         "c2sp.org/tlog-proof@v1\nindex 1\n",
		"more hashes than bits": "c2sp.org/tlog-proof@v1\nindex 1\n" + string(bytes.Repeat([]byte(hash), 64)) + "\nx",
	} {
		t.Run(name, func(t *testing.T) {
			if p, err := audit.ParseProof([]byte(text)); err == nil {
				t.Errorf("got %+v", p)
			}
		})
	}
	if p, err := audit.ParseProof([]byte("c2sp.org/tlog-proof@v1\nextra AA==\nindex 7\n" + hash + "\nx")); err != nil || p.Index != 7 || len(p.Hashes) != 1 {
		t.Errorf("extra data is not skipped: %+v, %v", p, err)
	}
}

func FuzzParseProof(f *testing.F) {
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 7\n" + audit.Hash{}.String() + "\n\nx\n1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := audit.ParseProof(b)
		if err != nil || bytes.Contains(b, []byte("\nextra ")) {
			return
		}
		var out bytes.Buffer
		if err := audit.WriteProof(&out, p); err != nil || !bytes.Equal(out.Bytes(), b) {
			t.Errorf("%q came back as %q, %v", b, out.Bytes(), err)
		}
	})
}

func FuzzOpenCheckpoint(f *testing.F) {
	s := testSigner(f, 1, origin)
	good := sign(f, s, 3, audit.Hash{7})
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := audit.OpenCheckpoint(b, s.Verifier()); err == nil && (c.Size != 3 || c.Root != audit.Hash{7}) {
			t.Errorf("%q opened as %v", b, c)
		}
	})
}
