package audit

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ErrStatement means that something is no statement of the kind that was expected.
var ErrStatement = errors.New("not a statement of this kind")

// SignStatement signs a text that is no checkpoint, as a note of the same key. Its first line is the kind: it has a blank in it, which no origin has, so
// that a statement never passes for a checkpoint, nor one of another kind for it.
func (s *Signer) SignStatement(kind, text string) ([]byte, error) {
	if !strings.Contains(kind, " ") || strings.Contains(kind, "\n") {
		return nil, fmt.Errorf("sign statement: %q does not name a kind", kind)
	}
	signers := []note.Signer{noteSigner{s}}
	if s.previous != nil {
		signers = append(signers, noteSigner{s.previous})
	}
	signed, err := note.Sign(&note.Note{Text: kind + "\n" + strings.TrimRight(text, "\n") + "\n"}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign statement: %w", err)
	}
	return signed, nil
}

// OpenStatement checks that one of these verifier keys signed a statement of a kind, and gives its text and the name of the key. The error wraps
// ErrSignature or ErrStatement.
func OpenStatement(signed []byte, kind string, vkeys ...string) (text, name string, err error) {
	verifiers := make([]note.Verifier, len(vkeys))
	for i, k := range vkeys {
		if verifiers[i], err = note.NewVerifier(strings.TrimSpace(k)); err != nil {
			return "", "", errors.New("open statement: the key is no verifier key: one line of a name, a hash and a key, joined by plus signs")
		}
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	var invalid *note.InvalidSignatureError
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &invalid) || errors.As(err, &unverified):
		return "", "", fmt.Errorf("open statement: %w", ErrSignature)
	case err != nil:
		return "", "", fmt.Errorf("open statement: %w", ErrStatement)
	}
	text, ok := strings.CutPrefix(n.Text, kind+"\n")
	if !ok {
		return "", "", fmt.Errorf("open statement: %w", ErrStatement)
	}
	return text, n.Sigs[0].Name, nil
}
