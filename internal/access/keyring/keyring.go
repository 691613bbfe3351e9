// Package keyring seals and opens EUII, makes the keyed references that stand for people in records, and computes
// blind indexes. It promises that nothing opens without a grant that covers it, and that a ciphertext opens only at
// the address it was sealed at.
//
// There are two levels of keys. The key-encryption key (a Tink AES-256-GCM keyset, so that it can be rotated) is
// kept outside the database. Each subject and each conversation has a random 32-byte key of its own, which the
// database holds only wrapped; from it the data key, the reference key and the index key are derived with HKDF-SHA-256.
// Destroying the wrapped key makes all that was sealed under it, and every reference derived from it, meaningless:
// that is erasure.
package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
)

// ErrErased is returned when the key of a subject or conversation has been destroyed.
var ErrErased = errors.New("the key of this subject was destroyed: its data is erased")

// ErrNotGranted is returned when the grant does not cover the value.
var ErrNotGranted = errors.New("no grant covers this value")

const (
	keySize       = 32
	sealedVersion = 1
	cacheSize     = 1 << 15
)

// Ring holds the key-encryption key. It is safe for concurrent use.
type Ring struct {
	kek tink.AEAD

	mu    sync.Mutex
	cache map[string]*keys // by wrapped bytes: a destroyed key is never found, since nobody can present it again
}

// keys are the primitives derived from one subject's or conversation's key.
type keys struct {
	data      tink.AEAD
	reference []byte
	index     []byte
}

// LoadOrCreate reads the key-encryption key from path, making it at first start. The file must not be readable
// by anybody else (0600), must not be a link, and belongs outside the database's directory.
func LoadOrCreate(path string) (*Ring, error) {
	ring, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make key-encryption key: %w", err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return nil, fmt.Errorf("encode key-encryption key: %w", err)
	}
	if err := WriteSecret(path, buf.Bytes()); err != nil && !errors.Is(err, fs.ErrExist) { // of two starts at once the first one's key counts
		return nil, err
	}
	return Load(path)
}

// Load reads an existing key-encryption key; fs.ErrNotExist when there is none.
func Load(path string) (*Ring, error) {
	b, err := ReadSecret(path)
	if err != nil {
		return nil, err
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, fmt.Errorf("the key-encryption key in %s cannot be read: it is damaged or no Tink keyset", path)
	}
	kek, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("use the key-encryption key in %s: %w", path, err)
	}
	return &Ring{kek: kek, cache: make(map[string]*keys)}, nil
}

// ReadSecret reads a secret file and refuses one that others may read or that is not a regular file.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): run chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return os.ReadFile(path)
}

// WriteSecret writes a new 0600 file durably; an existing file is an error.
func WriteSecret(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the directory for %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // unlike rename, fails when somebody else was first
	}
	if err == nil {
		err = syncDir(filepath.Dir(path)) // a name that is not durable loses the key, and with it all that was sealed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func wrapAAD(organisation, id uuid.UUID) []byte {
	return append(append([]byte("cf-key-1"), organisation[:]...), id[:]...)
}

// NewKey makes the key of a new subject or conversation and gives it wrapped, bound to its place.
func (r *Ring) NewKey(organisation, id uuid.UUID) ([]byte, error) {
	raw := make([]byte, keySize)
	rand.Read(raw)
	wrapped, err := r.kek.Encrypt(raw, wrapAAD(organisation, id))
	if err != nil {
		return nil, fmt.Errorf("wrap key: %w", err)
	}
	return wrapped, nil
}

func (r *Ring) keys(organisation, id uuid.UUID, wrapped []byte) (*keys, error) {
	if len(wrapped) == 0 {
		return nil, ErrErased
	}
	name := string(wrapped) + string(organisation[:]) + string(id[:])
	r.mu.Lock()
	k, ok := r.cache[name]
	r.mu.Unlock()
	if ok {
		return k, nil
	}
	raw, err := r.kek.Decrypt(wrapped, wrapAAD(organisation, id))
	if err != nil {
		return nil, errors.New("unwrap key: it was wrapped by another key-encryption key or belongs to another subject")
	}
	derive := func(label string) []byte {
		b, kerr := hkdf.Key(sha256.New, raw, nil, label, keySize)
		err = errors.Join(err, kerr)
		return b
	}
	k = &keys{reference: derive("cf-reference-1"), index: derive("cf-index-1")}
	data := derive("cf-data-1")
	if err != nil {
		return nil, fmt.Errorf("derive keys: %w", err)
	}
	if k.data, err = subtle.NewAESGCM(data); err != nil {
		return nil, fmt.Errorf("use data key: %w", err)
	}
	r.mu.Lock()
	if len(r.cache) >= cacheSize {
		clear(r.cache)
	}
	r.cache[name] = k
	r.mu.Unlock()
	return k, nil
}

// Seal encrypts an incoming value for one address under the wrapped key of keyID (the subject's, or for a message
// body the conversation's).
func (r *Ring) Seal(keyID uuid.UUID, wrapped []byte, ref euii.Ref, in euii.Inbound) (euii.Sealed, error) {
	k, err := r.keys(ref.Organisation, keyID, wrapped)
	if err != nil {
		return euii.Sealed{}, err
	}
	text, _ := euii.ForSealing(grant.ForSealing(), in)
	ct, err := k.data.Encrypt([]byte(text), ref.AAD())
	if err != nil {
		return euii.Sealed{}, fmt.Errorf("seal %s: %w", ref.Field, err)
	}
	return euii.NewSealed(ref, append([]byte{sealedVersion}, ct...)), nil
}

// Open decrypts a sealed value, if the grant covers it at now.
func (r *Ring) Open(g grant.Grant, keyID uuid.UUID, wrapped []byte, s euii.Sealed, now time.Time) (string, error) {
	ref := s.Ref()
	if !g.Covers(ref.Organisation, ref.Subject, ref.Row, uint8(ref.Field), now) {
		return "", ErrNotGranted
	}
	k, err := r.keys(ref.Organisation, keyID, wrapped)
	if err != nil {
		return "", err
	}
	ct := s.Ciphertext()
	if len(ct) == 0 || ct[0] != sealedVersion {
		return "", fmt.Errorf("open %s: unknown sealed form", ref.Field)
	}
	text, err := k.data.Decrypt(ct[1:], ref.AAD())
	if err != nil {
		return "", fmt.Errorf("open %s: the ciphertext was changed or belongs to another place", ref.Field)
	}
	return string(text), nil
}

var refEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// Reference is the name a subject or conversation bears in records: HMAC-SHA-256 under its own key, 80 bits. It means nothing once
// that key is destroyed.
func (r *Ring) Reference(organisation, id uuid.UUID, wrapped []byte) (string, error) {
	k, err := r.keys(organisation, id, wrapped)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, k.reference)
	mac.Write(organisation[:])
	mac.Write(id[:])
	return refEncoding.EncodeToString(mac.Sum(nil)[:10]), nil
}

// ReferenceText is the reference of something outside storage (an address, a Teams channel) under the
// organisation's own key.
func (r *Ring) ReferenceText(organisation uuid.UUID, wrapped []byte, kind, text string) (string, error) {
	k, err := r.keys(organisation, organisation, wrapped)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, k.reference)
	fmt.Fprintf(mac, "%s\x00%s", kind, text)
	return refEncoding.EncodeToString(mac.Sum(nil)[:10]), nil
}

// What a secret of the console is for; a secret opens only as what it was wrapped as.
const (
	TOTPSeed = "cf-totp-seed-1" // id is the administrator's
	Network  = "cf-network-1"   // of the allowlist; id is the organisation's
	Label    = "cf-label-1"     // how an administrator calls a factor; id is his
	Passkey  = "cf-passkey-1"   // a security key; id is the administrator's
	Ceremony = "cf-ceremony-1"  // what a session was asked to answer; id is the session's
	Reason   = "cf-reason-1"    // what somebody wrote down; id is its own
	Saved    = "cf-saved-1"     // a search that somebody keeps; id is its own
	Detail   = "cf-detail-1"    // what an approver is shown; id is the approval's
	Seen     = "cf-seen-1"      // from where an administrator signed in; id is his
	Receiver = "cf-receiver-1"  // where alerts go; id is the receiver's
	Signing  = "cf-signing-1"   // what signs messages to a receiver; id is his
)

// WrapSecret encrypts what is no EUII of a subject but must not lie in the database in the clear, under the
// key-encryption key itself, bound to its kind and place.
func (r *Ring) WrapSecret(kind string, organisation, id uuid.UUID, secret []byte) ([]byte, error) {
	wrapped, err := r.kek.Encrypt(secret, secretAAD(kind, organisation, id))
	if err != nil {
		return nil, errors.New("wrap secret: the key-encryption key cannot be used")
	}
	return wrapped, nil
}

// UnwrapSecret gives back what WrapSecret was given.
func (r *Ring) UnwrapSecret(kind string, organisation, id uuid.UUID, wrapped []byte) ([]byte, error) {
	secret, err := r.kek.Decrypt(wrapped, secretAAD(kind, organisation, id))
	if err != nil {
		return nil, errors.New("unwrap secret: it was changed, wrapped by another key-encryption key, or belongs to another place")
	}
	return secret, nil
}

func secretAAD(kind string, organisation, id uuid.UUID) []byte {
	return append(append([]byte(kind+"\x00"), organisation[:]...), id[:]...)
}

// BlindIndex is the keyed hash under which somebody is found by email, per organisation. It uses a value to find
// him, which is a disclosure, or keeps what he will be found by: the grant must cover the email.
func (r *Ring) BlindIndex(g grant.Grant, ref euii.Ref, organisationKey []byte, in euii.Inbound, now time.Time) (euii.Index, error) {
	if !g.Covers(ref.Organisation, ref.Subject, ref.Row, uint8(ref.Field), now) {
		return euii.Index{}, ErrNotGranted
	}
	k, err := r.keys(ref.Organisation, ref.Organisation, organisationKey)
	if err != nil {
		return euii.Index{}, err
	}
	text, _ := euii.ForSealing(grant.ForSealing(), in)
	mac := hmac.New(sha256.New, k.index)
	mac.Write([]byte{byte(ref.Field)})
	mac.Write([]byte(strings.ToLower(strings.TrimSpace(text))))
	return euii.Index{Field: ref.Field, Hash: mac.Sum(nil)}, nil
}

// Digest is a keyed hash of an incoming message under its conversation's key, shaped as a UUID (version 8, RFC 9562
// §5.8). It tells a repetition from a new message and gives nothing away without the key.
func (r *Ring) Digest(ref euii.Ref, wrapped []byte, minute int64, in euii.Inbound) (uuid.UUID, error) {
	k, err := r.keys(ref.Organisation, ref.Subject, wrapped)
	if err != nil {
		return uuid.Nil, err
	}
	text, _ := euii.ForSealing(grant.ForSealing(), in)
	mac := hmac.New(sha256.New, k.index)
	mac.Write(ref.AAD())
	fmt.Fprintf(mac, "%d\x00%s", minute, text)
	id := uuid.UUID(mac.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id, nil
}
