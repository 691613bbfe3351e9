package audit

import (
	"bytes"
	"errors"
	"testing"
)

func TestAStatementIsNoCheckpointAndNoOtherStatement(t *testing.T) {
	signer, err := GenerateSigner("chat.example/audit/1")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.SignStatement("a kind v1", "one\ntwo\n")
	if err != nil {
		t.Fatal(err)
	}
	if text, name, err := OpenStatement(signed, "a kind v1", signer.VerifierKey()); err != nil || text != "one\ntwo\n" || name != signer.Origin() {
		t.Errorf("opened %q of %q: %v", text, name, err)
	}
	if _, err := signer.Open(signed); err == nil {
		t.Error("a statement passes for a checkpoint")
	}
	if _, _, err := OpenStatement(signed, "a kind v2", signer.VerifierKey()); !errors.Is(err, ErrStatement) {
		t.Errorf("as another kind: %v", err)
	}
	checkpoint, err := signer.Sign(3, Hash{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStatement(checkpoint, signer.Origin(), signer.VerifierKey()); err != nil {
		t.Fatal("the control does not work", err)
	}
	if _, err := signer.SignStatement(signer.Origin(), "3\n"); err == nil {
		t.Error("a text was signed whose first line is the origin of a log")
	}
	if _, _, err := OpenStatement(bytes.Replace(signed, []byte("two"), []byte("too"), 1), "a kind v1", signer.VerifierKey()); !errors.Is(err, ErrSignature) {
		t.Errorf("changed: %v", err)
	}
	other, err := GenerateSigner("chat.example/audit/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStatement(signed, "a kind v1", other.VerifierKey()); !errors.Is(err, ErrSignature) {
		t.Errorf("by another key: %v", err)
	}
}
