package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"counterfoil/audit"
	"golang.org/x/mod/sumdb/note"
)

const origin = "chat.example/audit/org1"

func testKey(t testing.TB, seed byte) audit.Key {
	t.Helper()
	k, err := audit.NewKey(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testSigner(t testing.TB, seed byte, origin string) *audit.Signer {
	t.Helper()
	s, err := testKey(t, seed).For(origin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s *audit.Signer, size uint64, root audit.Hash) []byte {
	t.Helper()
	signed, err := s.Sign(size, root)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestACheckpointOpensWithItsKey(t *testing.T) {
	s := testSigner(t, 1, origin)
	want := audit.Checkpoint{Origin: origin, Size: 3, Root: audit.Hash{7}}
	signed := sign(t, s, want.Size, want.Root)
	verifier, err := note.NewVerifier(s.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := audit.OpenCheckpoint(signed, verifier); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	// A witness signs the same text; its line neither helps nor hurts.
	other := testSigner(t, 2, "witness.example")
	skey, err := note.NewSigner(other.PrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	cosigned, err := note.Sign(n, skey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := audit.OpenCheckpoint(cosigned, verifier); err != nil || got != want {
		t.Errorf("cosigned: got %v, %v", got, err)
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	s := testSigner(t, 1, origin)
	good := string(sign(t, s, 3, audit.Hash{7}))
	n := &note.Note{Text: origin + "\n3\n" + audit.Hash{7}.String() + "\nextension\n"}
	skey, err := note.NewSigner(s.PrivateKey())
	if err != nil {
		t.Fatal(err)
	}
	extended, err := note.Sign(n, skey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		signed string
		want   error
	}{
		"another size":            {strings.Replace(good, "\n3\n", "\n4\n", 1), audit.ErrSignature},
		"another key's signature": {string(sign(t, testSigner(t, 2, origin), 3, audit.Hash{7})), audit.ErrSignature},
		"another log":             {string(sign(t, testSigner(t, 1, "chat.example/audit/org2"), 3, audit.Hash{7})), audit.ErrOrigin},
		"no signature":            {good[:strings.Index(good, "—")], audit.ErrCheckpoint},
		"a size with a zero":      {strings.Replace(good, "\n3\n", "\n03\n", 1), audit.ErrCheckpoint},
		"a negative size":         {strings.Replace(good, "\n3\n", "\n-3\n", 1), audit.ErrCheckpoint},
		"extension lines":         {string(extended), audit.ErrCheckpoint},
		"nothing":                 {"", audit.ErrCheckpoint},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := audit.OpenCheckpoint([]byte(c.signed), s.Verifier()); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestASignerComesBackFromItsText(t *testing.T) {
	s, err := audit.GenerateSigner(origin)
	if err != nil {
		t.Fatal(err)
	}
	again, err := audit.ParseSigner(s.PrivateKey() + "\n")
	if err != nil || again.VerifierKey() != s.VerifierKey() || again.Origin() != origin {
		t.Fatalf("got %v, %v", again, err)
	}
	if !bytes.Equal(sign(t, s, 1, audit.Hash{1}), sign(t, again, 1, audit.Hash{1})) {
		t.Error("the two sign differently")
	}
	other, err := audit.GenerateSigner(origin)
	if err != nil || other.VerifierKey() == s.VerifierKey() {
		t.Errorf("two generated signers are equal, %v", err)
	}
	for _, bad := range []string{"", s.VerifierKey(), strings.Replace(s.PrivateKey(), "org1", "org2", 1)} {
		if _, err := audit.ParseSigner(bad); err == nil {
			t.Errorf("ParseSigner accepted something of %d bytes", len(bad))
		}
	}
}

func TestKeysDoNotShowThemselves(t *testing.T) {
	k, s := testKey(t, 'A'), testSigner(t, 'A', origin)
	secret := s.PrivateKey()[strings.LastIndex(s.PrivateKey(), "+")+1:]
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		got := fmt.Sprintf(format+format+format+format, k, &k, s, *s)
		for _, leak := range []string{secret, "AAAA", "65 65", "414141", "0x41"} {
			if strings.Contains(got, leak) {
				t.Errorf("%s gives %s", format, got)
			}
		}
	}
}

func TestForRefusesAnOriginThatCannotNameAKey(t *testing.T) {
	for _, bad := range []string{"", "a b", "a+b", "a\nb"} {
		if _, err := testKey(t, 1).For(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := (audit.Key{}).For(origin); err == nil {
		t.Error("an empty key signs")
	}
}

func BenchmarkSign(b *testing.B) {
	s := testSigner(b, 1, origin)
	for b.Loop() {
		sign(b, s, 1, audit.Hash{})
	}
}

func TestWhileAKeyIsReplacedBothSignAndEitherIsEnough(t *testing.T) {
	old, next, other := testKey(t, 1), testKey(t, 2), testKey(t, 3)
	signerOf := func(k audit.Key) *audit.Signer {
		s, err := k.For(origin)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	both := signerOf(next.After(old))
	signed := sign(t, both, 3, audit.Hash{7})
	for name, s := range map[string]*audit.Signer{"the old key": signerOf(old), "the new key": signerOf(next), "both": both} {
		if c, err := s.Open(signed); err != nil || c.Size != 3 {
			t.Errorf("%s does not open what both signed: %v", name, err)
		}
		if c, err := both.Open(sign(t, s, 4, audit.Hash{8})); err != nil || c.Size != 4 {
			t.Errorf("both do not open what %s signed: %v", name, err)
		}
	}
	if _, err := both.Open(sign(t, signerOf(other), 3, audit.Hash{7})); !errors.Is(err, audit.ErrSignature) {
		t.Errorf("another key's: %v", err)
	}
	if both.VerifierKey() != signerOf(next).VerifierKey() || len(both.PreviousVerifierKeys()) != 1 || both.PreviousVerifierKeys()[0] != signerOf(old).VerifierKey() {
		t.Error("the keys are told wrongly")
	}
	// One good signature does not cover for a bad one of the other key.
	forged := strings.Replace(string(signed), "\n3\n", "\n4\n", 1)
	if _, err := both.Open([]byte(forged)); !errors.Is(err, audit.ErrSignature) {
		t.Errorf("forged: %v", err)
	}
	if shown := fmt.Sprintf("%v %+v %s", both, next.After(old), *both); strings.Contains(shown, "+") || len(shown) > 200 {
		t.Errorf("shows %s", shown)
	}
}

func TestAnExportGoesOverToTheNewKey(t *testing.T) {
	old, next := testSigner(t, 1, origin), testSigner(t, 2, origin)
	key := testKey(t, 2).After(testKey(t, 1))
	both, err := key.For(origin)
	if err != nil {
		t.Fatal(err)
	}
	all, dir := history(t, 600, 0), t.TempDir()
	export(t, dir, old, all[:300])
	if _, err := audit.OpenExport(t.Context(), audit.Dir(dir), next.VerifierKey()); err == nil {
		t.Error("a key that nobody announced took the directory over")
	}
	w, err := audit.OpenExport(t.Context(), audit.Dir(dir), both.VerifierKey(), both.PreviousVerifierKeys()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(t.Context(), sign(t, both, 600, rootOf(all)), from(all, w.Next())); err != nil {
		t.Fatal(err)
	}
	for _, vkey := range []string{old.VerifierKey(), next.VerifierKey(), ""} {
		if r := verify(t, dir, audit.Options{Key: vkey}); len(r.Faults) > 0 || r.Records != 600 || vkey == "" && r.Key != next.VerifierKey() {
			t.Errorf("by %q: %+v", vkey, r.Faults)
		}
	}
	export(t, dir, next, all) // the old one is gone
	if r := verify(t, dir, audit.Options{Key: old.VerifierKey()}); len(r.Faults) != 1 || r.Faults[0].Kind != audit.ForgedSignature {
		t.Errorf("by the old key after its end: %+v", r.Faults)
	}
}
