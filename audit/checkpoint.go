package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Key is the Ed25519 key of a deployment. One key signs the logs of all its organisations, under the origin of each.
// It does not show itself in logs. While a key is being replaced, the one before it signs as well.
type Key struct{ private, previous ed25519.PrivateKey }

// NewKey returns the key made from a seed of 32 random bytes.
func NewKey(seed []byte) (Key, error) {
	if len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("make checkpoint key: seed has %d bytes, expected %d", len(seed), ed25519.SeedSize)
	}
	return Key{private: ed25519.NewKeyFromSeed(seed)}, nil
}

// After returns k together with the key before it: what they sign bears both signatures, and what either has signed is
// theirs.
func (k Key) After(previous Key) Key { return Key{k.private, previous.private} }

// Format writes that a key is there and nothing of it.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[checkpoint key]") }

// For returns the signer of the log called origin: not empty, without spaces and plus signs.
func (k Key) For(origin string) (*Signer, error) {
	if len(k.private) == 0 {
		return nil, errors.New("make signer: the key is empty")
	}
	vkey, err := note.NewEd25519VerifierKey(origin, k.private.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("make signer: origin cannot name a key: %w", err)
	}
	s := &Signer{origin: origin, private: k.private, vkey: vkey, verifier: verifier}
	if len(k.previous) > 0 {
		if s.previous, err = (Key{private: k.previous}).For(origin); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Signer signs the checkpoints of one log (C2SP signed-note, Ed25519). It does not show its key in logs.
// It is safe for concurrent use.
type Signer struct {
	origin   string
	private  ed25519.PrivateKey
	vkey     string
	verifier note.Verifier
	previous *Signer // signs as well, if not nil
}

// GenerateSigner returns a signer with a new random key.
func GenerateSigner(origin string) (*Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	key, err := NewKey(seed)
	if err != nil {
		return nil, err
	}
	return key.For(origin)
}

// algorithmEd25519 is the signature type of an Ed25519 key in a note.
const algorithmEd25519 = 1

// ParseSigner reads what [Signer.PrivateKey] wrote. The error does not repeat it.
func ParseSigner(skey string) (*Signer, error) {
	skey = strings.TrimSpace(skey)
	if _, err := note.NewSigner(skey); err != nil { // checks the form and that the key's hash belongs to it
		return nil, errors.New("parse signer: not a note private key")
	}
	parts := strings.SplitN(skey, "+", 5) // PRIVATE, KEY, name, hash, algorithm and seed
	secret, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(secret) != 1+ed25519.SeedSize || secret[0] != algorithmEd25519 {
		return nil, errors.New("parse signer: not an Ed25519 note private key")
	}
	key, err := NewKey(secret[1:])
	if err != nil {
		return nil, err
	}
	return key.For(parts[2])
}

// Format writes whose signer this is and nothing of its key.
func (s Signer) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "[signer of %s]", s.origin) }

// PrivateKey returns the secret key as one line of text, the form note tools read.
func (s *Signer) PrivateKey() string {
	secret := append([]byte{algorithmEd25519}, s.private.Seed()...)
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", s.origin, s.verifier.KeyHash(), base64.StdEncoding.EncodeToString(secret))
}

// VerifierKey returns the public key as one line of text without line end: name, hash and key joined by plus signs.
func (s *Signer) VerifierKey() string { return s.vkey }

// Verifier returns what checks this signer's signatures.
func (s *Signer) Verifier() note.Verifier { return s.verifier }

// Open opens a checkpoint of this signer's log, as [OpenCheckpoint] does. While its key is being replaced, a signature of the
// one before is enough.
func (s *Signer) Open(signed []byte) (Checkpoint, error) {
	if s.previous == nil {
		return OpenCheckpoint(signed, s.verifier)
	}
	return OpenCheckpoint(signed, s.verifier, s.previous.verifier)
}

// PreviousVerifierKeys returns the public keys before this one that still count, at most one.
func (s *Signer) PreviousVerifierKeys() []string {
	if s.previous == nil {
		return nil
	}
	return []string{s.previous.vkey}
}

// Origin returns the name of the log.
func (s *Signer) Origin() string { return s.origin }

// Sign returns a checkpoint of the log (C2SP tlog-checkpoint, no extension lines). Whoever calls it must know that the
// tree continues every tree signed before.
func (s *Signer) Sign(size uint64, root Hash) ([]byte, error) {
	signers := []note.Signer{noteSigner{s}}
	if s.previous != nil {
		signers = append(signers, noteSigner{s.previous})
	}
	signed, err := note.Sign(&note.Note{Text: checkpointText(Checkpoint{s.origin, size, root})}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// noteSigner is a Signer in the shape the note package wants.
type noteSigner struct{ s *Signer }

func (n noteSigner) Name() string                    { return n.s.origin }
func (n noteSigner) KeyHash() uint32                 { return n.s.verifier.KeyHash() }
func (n noteSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(n.s.private, msg), nil }

// Checkpoint is a signed tree head: what a log of this name held when it had this many entries.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Hash
}

func checkpointText(c Checkpoint) string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + c.Root.String() + "\n"
}

// Why a checkpoint is refused.
var (
	ErrSignature  = errors.New("the signature is not by this key")
	ErrOrigin     = errors.New("the checkpoint is of another log")
	ErrCheckpoint = errors.New("not a checkpoint")
)

// OpenCheckpoint checks the signature of a checkpoint and that its origin is the name of the verifier's key, and
// returns what was signed. Of several verifiers, which are of the same name, one is enough. Signatures by other keys
// (such as witnesses) may stand beside it. The error wraps ErrSignature, ErrOrigin or ErrCheckpoint.
func OpenCheckpoint(signed []byte, verifier note.Verifier, others ...note.Verifier) (Checkpoint, error) {
	// The origin is read before the signature is known to be good, only to give the more telling error.
	text, _, found := strings.Cut(string(signed), "\n\n")
	if !found {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", ErrCheckpoint)
	}
	c, err := parseCheckpointText(text + "\n")
	if err != nil {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	if c.Origin != verifier.Name() {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w: it names %q, the key %q", ErrOrigin, c.Origin, verifier.Name())
	}
	n, err := note.Open(signed, note.VerifierList(append(others, verifier)...))
	if err != nil {
		var invalid *note.InvalidSignatureError
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &invalid) || errors.As(err, &unverified) {
			return Checkpoint{}, fmt.Errorf("open checkpoint: %w", ErrSignature)
		}
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w: %w", ErrCheckpoint, err)
	}
	if n.Text != checkpointText(c) {
		return Checkpoint{}, fmt.Errorf("open checkpoint: %w", ErrCheckpoint)
	}
	return c, nil
}

func parseCheckpointText(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" {
		return Checkpoint{}, fmt.Errorf("%w: expected the three lines origin, size and root", ErrCheckpoint)
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%w: the size is not a decimal number", ErrCheckpoint)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: the root is not a base64 hash", ErrCheckpoint)
	}
	return Checkpoint{lines[0], size, root}, nil
}
