package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// algorithmCosignature is the signature type of a timestamped Ed25519 cosignature (C2SP tlog-cosignature).
const algorithmCosignature = 4

// WitnessKey is the public key of a witness: somebody else who saw a log's checkpoints and made sure that each continues
// the last. Its cosignatures bear the time at which it saw them. It is a note.Verifier.
type WitnessKey struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

// ParseWitnessKey reads a verifier key of the type that cosigns: name, hash and key joined by plus signs.
func ParseWitnessKey(vkey string) (*WitnessKey, error) {
	parts := strings.SplitN(strings.TrimSpace(vkey), "+", 3)
	if len(parts) != 3 || parts[0] == "" || strings.ContainsFunc(parts[0], func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("parse witness key: expected name, hash and key joined by plus signs")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != algorithmCosignature {
		return nil, errors.New("parse witness key: not an Ed25519 key for cosignatures (type 4)")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if parts[1] != fmt.Sprintf("%08x", sum[:4]) {
		return nil, errors.New("parse witness key: its hash is not that of name and key")
	}
	return &WitnessKey{parts[0], binary.BigEndian.Uint32(sum[:4]), ed25519.PublicKey(key[1:])}, nil
}

// Name names the witness.
func (k *WitnessKey) Name() string { return k.name }

// KeyHash tells its keys apart.
func (k *WitnessKey) KeyHash() uint32 { return k.hash }

// Verify reports whether sig is the witness's timestamped signature of a checkpoint's text.
func (k *WitnessKey) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	at := binary.BigEndian.Uint64(sig)
	return at <= math.MaxInt64 && ed25519.Verify(k.public, cosignedText(at, text), sig[8:])
}

// cosignedText is what a witness signs.
func cosignedText(at uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(at, 10)+"\n"), text...)
}

// ErrNotCosigned says that a checkpoint bears no valid cosignature of the witness.
var ErrNotCosigned = errors.New("the checkpoint is not cosigned by this witness")

// Cosigned returns when the witness cosigned a checkpoint, and the checkpoint without any other cosignature: signed are
// the log's own lines, more what a witness answered or nothing.
func (k *WitnessKey) Cosigned(signed, more []byte) (time.Time, []byte, error) {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	n, err := note.Open(append(append([]byte(nil), signed...), more...), note.VerifierList(k))
	if err != nil || n.Text != text+"\n" { // what a witness answers may not pose as another text
		return time.Time{}, nil, fmt.Errorf("%w: %s", ErrNotCosigned, k.name)
	}
	sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(sig) != 4+8+ed25519.SignatureSize { // the note package has verified it
		return time.Time{}, nil, fmt.Errorf("%w: %s", ErrNotCosigned, k.name)
	}
	line := "\u2014 " + k.name + " " + n.Sigs[0].Base64 + "\n"
	if !strings.Contains(string(signed), line) {
		signed = append(append([]byte(nil), signed...), line...)
	}
	return time.Unix(int64(binary.BigEndian.Uint64(sig[4:])), 0), signed, nil
}
