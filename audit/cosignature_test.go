package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
)

// cosigner is a witness that cosigns whatever it is shown.
type cosigner struct {
	name    string
	private ed25519.PrivateKey
}

func newCosigner(name string, seed byte) cosigner {
	return cosigner{name, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))}
}

func (c cosigner) key() []byte { return append([]byte{4}, c.private.Public().(ed25519.PublicKey)...) }

func (c cosigner) hash() []byte {
	h := sha256.Sum256(append([]byte(c.name+"\n"), c.key()...))
	return h[:4]
}

func (c cosigner) vkey() string {
	return fmt.Sprintf("%s+%x+%s", c.name, c.hash(), base64.StdEncoding.EncodeToString(c.key()))
}

func (c cosigner) line(signed []byte, at uint64) string {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	sig := ed25519.Sign(c.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s\n", at, text))
	full := append(binary.BigEndian.AppendUint64(c.hash(), at), sig...)
	return "— " + c.name + " " + base64.StdEncoding.EncodeToString(full) + "\n"
}

func TestACosignatureIsVerifiedAndKept(t *testing.T) {
	w, other := newCosigner("witness.example/w1", 8), newCosigner("other.example/w2", 9)
	key, err := audit.ParseWitnessKey(w.vkey())
	if err != nil {
		t.Fatal(err)
	}
	s := testSigner(t, 1, origin)
	signed := sign(t, s, 3, audit.Hash{7})
	at := uint64(1_800_000_000)
	answer := other.line(signed, at+5) + w.line(signed, at)
	when, cosigned, err := key.Cosigned(signed, []byte(answer))
	if err != nil || !when.Equal(time.Unix(int64(at), 0)) || string(cosigned) != string(signed)+w.line(signed, at) {
		t.Fatalf("%v %v\n%s", when, err, cosigned)
	}
	if when, again, err := key.Cosigned(cosigned, nil); err != nil || !when.Equal(time.Unix(int64(at), 0)) || !bytes.Equal(again, cosigned) {
		t.Errorf("read again: %v %v", when, err)
	}
	if _, err := audit.OpenCheckpoint(cosigned, s.Verifier()); err != nil {
		t.Errorf("the log's own signature: %v", err)
	}
	for what, more := range map[string]string{
		"nothing":                     "",
		"another witness":             other.line(signed, at),
		"another checkpoint":          w.line(sign(t, s, 4, audit.Hash{7}), at),
		"a time that is not signed":   strings.Replace(w.line(signed, at), "\n", "", 1)[:60] + w.line(signed, at+1)[60:],
		"a time beyond all times":     w.line(signed, 1<<63),
		"a note of its own":           "\nother\n\n" + w.line([]byte("other\n\n"), at),
		"the whole of another note":   "\n\n" + w.line(append(signed, '\n'), at),
		"what are no signatures":      "hello\n",
		"a cosignature as a log does": "— " + w.name + " " + base64.StdEncoding.EncodeToString(append(w.hash(), ed25519.Sign(w.private, []byte("x"))...)) + "\n",
	} {
		if when, _, err := key.Cosigned(signed, []byte(more)); !errors.Is(err, audit.ErrNotCosigned) {
			t.Errorf("%s: %v, %v", what, when, err)
		}
	}
}

func TestParseWitnessKeyRefuses(t *testing.T) {
	good := newCosigner("witness.example/w1", 8)
	for _, vkey := range []string{
		"", "witness", "witness+1+2", strings.Replace(good.vkey(), "w1+", "w2+", 1), strings.Replace(good.vkey(), "witness", " witness", 1)[1:] + "=",
		testSigner(t, 1, "witness.example/w1").VerifierKey(), "+" + good.vkey(), strings.Replace(good.vkey(), ".", "\n", 1),
	} {
		if _, err := audit.ParseWitnessKey(vkey); err == nil {
			t.Errorf("%q was taken for a witness key", vkey)
		}
	}
}

// FuzzCosigned lets a witness answer anything: only its own cosignature of this very checkpoint counts, and what is kept
// is still the log's checkpoint.
func FuzzCosigned(f *testing.F) {
	w := newCosigner("witness.example/w1", 8)
	key, err := audit.ParseWitnessKey(w.vkey())
	if err != nil {
		f.Fatal(err)
	}
	s := testSigner(f, 1, origin)
	signed := sign(f, s, 3, audit.Hash{7})
	f.Add([]byte(w.line(signed, 5)))
	f.Add([]byte("\n\n" + w.line(signed, 5)))
	f.Add([]byte(newCosigner("other", 9).line(signed, 5) + w.line(signed, 1<<40)))
	f.Fuzz(func(t *testing.T, answer []byte) {
		at, kept, err := key.Cosigned(signed, answer)
		if err != nil {
			return
		}
		c, err := audit.OpenCheckpoint(kept, s.Verifier())
		if err != nil || c.Size != 3 || string(kept) != string(signed)+w.line(signed, uint64(at.Unix())) {
			t.Errorf("kept %q: %v", kept, err)
		}
	})
}

func FuzzParseWitnessKey(f *testing.F) {
	f.Add(newCosigner("witness.example/w1", 8).vkey())
	f.Add("witness.example/w1+00000000+BAAA")
	f.Fuzz(func(t *testing.T, vkey string) {
		k, err := audit.ParseWitnessKey(vkey)
		if err == nil && !strings.HasPrefix(strings.TrimSpace(vkey), fmt.Sprintf("%s+%08x+", k.Name(), k.KeyHash())) {
			t.Errorf("%q is read as %s+%08x", vkey, k.Name(), k.KeyHash())
		}
	})
}

func TestAWitnessedExport(t *testing.T) {
	w, s, all := newCosigner("witness.example/w1", 8), testSigner(t, 1, origin), history(t, 600, 0)
	last := record(t, 599, 0).Time
	cosign := func(signed []byte, at time.Time) string { return string(signed) + w.line(signed, uint64(at.Unix())) }
	at300 := sign(t, s, 300, rootOf(all[:300]))
	for name, c := range map[string]struct {
		checkpoint, cosigned func(signed []byte) string // nil leaves the file as it is
		vkey                 string
		want                 string
		size                 uint64
	}{
		"now":                             {checkpoint: func(b []byte) string { return cosign(b, last.Add(time.Second)) }, size: 600},
		"earlier":                         {cosigned: func([]byte) string { return cosign(at300, last) }, size: 300},
		"before it began":                 {cosigned: func([]byte) string { return cosign(sign(t, s, 0, rootOf(nil)), last) }},
		"never":                           {want: "not-witnessed -1"},
		"by somebody else":                {checkpoint: func(b []byte) string { return string(b) + newCosigner("witness.example/w1", 9).line(b, 5) }, want: "not-witnessed -1"},
		"by another log's":                {cosigned: func([]byte) string { return cosign(sign(t, testSigner(t, 2, origin), 300, rootOf(all[:300])), last) }, want: "not-witnessed -1"},
		"when it was longer":              {cosigned: func([]byte) string { return cosign(sign(t, s, 700, rootOf(history(t, 700, 0))), last) }, want: "inconsistent 600"},
		"when it was another":             {cosigned: func([]byte) string { return cosign(sign(t, s, 300, rootOf(history(t, 300, 1))), last) }, want: "inconsistent -1"},
		"before its last record is dated": {checkpoint: func(b []byte) string { return cosign(b, last.Add(-time.Hour)) }, size: 600, want: "redated 599"},
	} {
		t.Run(name, func(t *testing.T) {
			a := attack{t, t.TempDir(), s, all}
			signed := export(t, a.dir, s, all)
			if c.checkpoint != nil {
				a.write("checkpoint", []byte(c.checkpoint(signed)))
			}
			if c.cosigned != nil {
				a.write("cosigned", []byte(c.cosigned(signed)))
			}
			r := verify(t, a.dir, audit.Options{Key: s.VerifierKey(), Witness: w.vkey()})
			if got := strings.Join(faults(r), " "); got != c.want || r.SeenSize != c.size || r.Witnessed.IsZero() != (c.want != "" && c.size == 0) {
				t.Errorf("%q, %d records seen at %s", got, r.SeenSize, r.Witnessed)
			}
			var b strings.Builder
			if err := r.WriteText(&b, time.Second); err != nil || !strings.Contains(b.String(), "witness.example/w1") {
				t.Errorf("%v\n%s", err, &b)
			}
		})
	}
	if _, err := audit.VerifyExport(t.Context(), os.DirFS(t.TempDir()), audit.Options{Key: s.VerifierKey(), Witness: "x"}); err == nil || !strings.Contains(err.Error(), "witness key") {
		t.Errorf("%v", err)
	}
}
