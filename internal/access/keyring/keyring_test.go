package keyring_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
	"counterfoil/internal/access/keyring"
)

const secret = "Zyxwvut Kanari"

func newRing(t testing.TB) *keyring.Ring {
	t.Helper()
	ring, err := keyring.LoadOrCreate(filepath.Join(t.TempDir(), "keys", "kek.json"))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// place is one sealed value with all that opens it.
type place struct {
	ring    *keyring.Ring
	key     uuid.UUID // whose key it is sealed under
	wrapped []byte
	sealed  euii.Sealed
	now     time.Time
}

func seal(t testing.TB, text string) place {
	t.Helper()
	p := place{ring: newRing(t), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	ref := euii.Ref{Organisation: uuid.New(), Subject: uuid.New(), Row: uuid.New(), Item: uuid.New(), Field: euii.AgentEmail}
	p.key = ref.Subject
	p.wrapped = newKey(t, p.ring, ref.Organisation, ref.Subject)
	p.sealed = sealAt(t, p, ref, text)
	return p
}

func newKey(t testing.TB, ring *keyring.Ring, organisation, id uuid.UUID) []byte {
	t.Helper()
	wrapped, err := ring.NewKey(organisation, id)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func sealAt(t testing.TB, p place, ref euii.Ref, text string) euii.Sealed {
	t.Helper()
	s, err := p.ring.Seal(p.key, p.wrapped, ref, euii.Receive(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// granted is a grant for everything about the address of a value, so that only the encryption is left in the way.
func (p place) granted() grant.Grant { return covering(p.sealed.Ref(), p.now) }

func covering(r euii.Ref, now time.Time) grant.Grant {
	return grant.Issue(r.Organisation, r.Subject, r.Row, ^uint32(0), 7, now.Add(time.Minute))
}

func (p place) open() (string, error) {
	return p.ring.Open(p.granted(), p.key, p.wrapped, p.sealed, p.now)
}

func TestWhatWasSealedOpens(t *testing.T) {
	for _, text := range []string{secret, "", "Zoë 👩‍🔬", strings.Repeat("long ", 1<<14), "\x00\xff"} {
		p := seal(t, text)
		got, err := p.open()
		if err != nil || got != text {
			t.Errorf("%.20q opened as %.20q, %v", text, got, err)
		}
		if text != "" && bytes.Contains(p.sealed.Ciphertext(), []byte(text)) {
			t.Errorf("%.20q lies in the open", text)
		}
	}
	p := seal(t, secret)
	again := sealAt(t, p, p.sealed.Ref(), secret)
	if bytes.Equal(again.Ciphertext(), p.sealed.Ciphertext()) {
		t.Error("the same text is sealed the same way twice: whoever reads the table can tell")
	}
}

func TestSealedValueOpensOnlyAtItsPlace(t *testing.T) {
	other := uuid.New()
	tests := map[string]func(t *testing.T, p *place){
		"another organisation": func(t *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Organisation = other
			// Even with the key of that organisation's subject.
			p.wrapped = newKey(t, p.ring, other, p.key)
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"another organisation's reference to the same key": func(_ *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Organisation = other
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"another subject": func(_ *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Subject = other
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"another subject with its own key": func(t *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Subject, p.key = other, other
			p.wrapped = newKey(t, p.ring, r.Organisation, other)
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"another row": func(_ *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Row = other
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"another item": func(_ *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Item = other
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"another field": func(_ *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Field = euii.AgentDisplayName
			p.sealed = euii.NewSealed(r, p.sealed.Ciphertext())
		},
		"the ciphertext of another value of the same subject": func(t *testing.T, p *place) {
			r := p.sealed.Ref()
			r.Field = euii.AgentSurname
			p.sealed = euii.NewSealed(p.sealed.Ref(), sealAt(t, *p, r, "swapped").Ciphertext())
		},
		"another subject's key": func(t *testing.T, p *place) {
			p.wrapped = newKey(t, p.ring, p.sealed.Ref().Organisation, other)
		},
		"another subject's key under its own name": func(t *testing.T, p *place) {
			p.key = other
			p.wrapped = newKey(t, p.ring, p.sealed.Ref().Organisation, other)
		},
		"a new key of the same subject": func(t *testing.T, p *place) {
			p.wrapped = newKey(t, p.ring, p.sealed.Ref().Organisation, p.key)
		},
		"another key-encryption key": func(t *testing.T, p *place) { p.ring = newRing(t) },
		"no ciphertext":              func(_ *testing.T, p *place) { p.sealed = euii.NewSealed(p.sealed.Ref(), nil) },
		"a ciphertext cut short": func(_ *testing.T, p *place) {
			p.sealed = euii.NewSealed(p.sealed.Ref(), p.sealed.Ciphertext()[:20])
		},
		"nothing but the version": func(_ *testing.T, p *place) {
			p.sealed = euii.NewSealed(p.sealed.Ref(), p.sealed.Ciphertext()[:1])
		},
		"a damaged wrapped key": func(_ *testing.T, p *place) {
			p.wrapped = bytes.Clone(p.wrapped)
			p.wrapped[len(p.wrapped)-1] ^= 1
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			p := seal(t, secret)
			if _, err := p.open(); err != nil { // also fills the cache of keys, which must not help
				t.Fatal(err)
			}
			change(t, &p)
			text, err := p.open()
			if err == nil || text != "" {
				t.Fatalf("opened as %q, %v", text, err)
			}
			if strings.Contains(err.Error(), "Kanari") {
				t.Errorf("the error holds the text: %v", err)
			}
		})
	}
}

func TestAnyChangedByteDoesNotOpen(t *testing.T) {
	p := seal(t, secret)
	for i := range p.sealed.Ciphertext() {
		for _, bit := range []byte{1, 0x80} {
			changed := bytes.Clone(p.sealed.Ciphertext())
			changed[i] ^= bit
			q := p
			q.sealed = euii.NewSealed(p.sealed.Ref(), changed)
			if text, err := q.open(); err == nil || text != "" {
				t.Errorf("with byte %d changed it opened as %q", i, text)
			}
		}
	}
}

func TestNothingOpensWithoutAGrantThatCoversIt(t *testing.T) {
	p := seal(t, secret)
	r := p.sealed.Ref()
	email := uint32(1) << euii.AgentEmail
	until := p.now.Add(time.Minute)
	grants := map[string]grant.Grant{
		"the zero grant":                   {},
		"a grant that has ended":           grant.Issue(r.Organisation, r.Subject, r.Row, email, 1, p.now),
		"a grant without an end":           grant.Issue(r.Organisation, r.Subject, r.Row, email, 1, time.Time{}),
		"a grant for another organisation": grant.Issue(uuid.New(), r.Subject, r.Row, email, 1, until),
		"a grant for another subject":      grant.Issue(r.Organisation, uuid.New(), r.Row, email, 1, until),
		"a grant for another row":          grant.Issue(r.Organisation, r.Subject, uuid.New(), email, 1, until),
		"a grant for other fields":         grant.Issue(r.Organisation, r.Subject, r.Row, ^email, 1, until),
		"a grant for no field":             grant.Issue(r.Organisation, r.Subject, r.Row, 0, 1, until),
	}
	for name, g := range grants {
		t.Run(name, func(t *testing.T) {
			if text, err := p.ring.Open(g, p.key, p.wrapped, p.sealed, p.now); !errors.Is(err, keyring.ErrNotGranted) || text != "" {
				t.Errorf("opened as %q, %v", text, err)
			}
			if index, err := p.ring.BlindIndex(g, r, p.wrapped, euii.Receive(secret), p.now); !errors.Is(err, keyring.ErrNotGranted) || index.Hash != nil {
				t.Errorf("indexed as %x, %v", index.Hash, err)
			}
		})
	}
	// The grant that covers it does open it, or the cases above show nothing.
	if text, err := p.ring.Open(grant.Issue(r.Organisation, r.Subject, r.Row, email, 1, until), p.key, p.wrapped, p.sealed, p.now); err != nil || text != secret {
		t.Errorf("opened as %q, %v", text, err)
	}
	// A field that no bit stands for is never covered, however many bits are set.
	if grant.Issue(r.Organisation, r.Subject, r.Row, ^uint32(0), 1, until).Covers(r.Organisation, r.Subject, r.Row, 32, p.now) {
		t.Error("field 32 is covered")
	}
}

func TestADestroyedKeyErases(t *testing.T) {
	p := seal(t, secret)
	if _, err := p.open(); err != nil { // the key is in the cache now
		t.Fatal(err)
	}
	r := p.sealed.Ref()
	for _, destroyed := range [][]byte{nil, {}} {
		p.wrapped = destroyed
		_, openErr := p.open()
		_, sealErr := p.ring.Seal(p.key, destroyed, r, euii.Receive(secret))
		_, refErr := p.ring.Reference(r.Organisation, p.key, destroyed)
		_, textErr := p.ring.ReferenceText(r.Organisation, destroyed, "channel", "x")
		_, indexErr := p.ring.BlindIndex(p.granted(), r, destroyed, euii.Receive(secret), p.now)
		_, digestErr := p.ring.Digest(r, destroyed, 1, euii.Receive(secret))
		for i, err := range []error{openErr, sealErr, refErr, textErr, indexErr, digestErr} {
			if !errors.Is(err, keyring.ErrErased) {
				t.Errorf("use %d gave %v", i, err)
			}
		}
	}
}

func TestTheFileOfTheKey(t *testing.T) {
	t.Run("is made once and read again", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "deep", "kek.json")
		p := seal(t, secret)
		first, err := keyring.LoadOrCreate(path)
		if err != nil {
			t.Fatal(err)
		}
		p.ring, p.wrapped = first, newKey(t, first, p.sealed.Ref().Organisation, p.key)
		p.sealed = sealAt(t, p, p.sealed.Ref(), secret)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, load := range []func(string) (*keyring.Ring, error){keyring.LoadOrCreate, keyring.Load} {
			if p.ring, err = load(path); err != nil {
				t.Fatal(err)
			}
			if text, err := p.open(); err != nil || text != secret {
				t.Errorf("a later start opens %q, %v", text, err)
			}
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("the file was written again: %v", err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the file has mode %v, %v", info.Mode(), err)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-*")); err != nil || len(left) > 0 {
			t.Errorf("%q was left behind, %v", left, err)
		}
	})
	t.Run("is not made by Load", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "kek.json")
		if _, err := keyring.Load(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("it was made")
		}
	})
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o700 | 0o070} {
		t.Run(fmt.Sprintf("is refused with mode %o", mode), func(t *testing.T) {
			path := made(t)
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := keyring.LoadOrCreate(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("is refused as a link", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "link.json")
		if err := os.Symlink(made(t), path); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.LoadOrCreate(path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("is refused as a link to nothing and nothing is made there", func(t *testing.T) {
		path, target := filepath.Join(t.TempDir(), "link.json"), filepath.Join(t.TempDir(), "target")
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.LoadOrCreate(path); err == nil {
			t.Error("it was taken")
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Error("a key was written through the link")
		}
	})
	t.Run("is refused as a directory", func(t *testing.T) {
		if _, err := keyring.LoadOrCreate(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	for name, content := range map[string]string{
		"empty": "", "no JSON": "zyxwvut", "no keyset": `{}`, "without keys": `{"primaryKeyId":1,"key":[]}`, "half": `{"primaryKeyId":1,"key":[{"keyData"`,
	} {
		t.Run("is refused when "+name+" and never replaced", func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kek.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := keyring.LoadOrCreate(path)
			if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "zyxwvut") {
				t.Errorf("got %v", err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != content {
				t.Errorf("it was changed to %q, %v", got, err)
			}
		})
	}
	t.Run("is never overwritten", func(t *testing.T) {
		path := made(t)
		if err := keyring.WriteSecret(path, []byte("other")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("got %v", err)
		}
		if _, err := keyring.Load(path); err != nil {
			t.Error(err)
		}
	})
}

// made makes a key file and tells where.
func made(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek.json")
	if _, err := keyring.LoadOrCreate(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReferencesTellPeopleApartAndMeanNothingWithoutTheKey(t *testing.T) {
	ring := newRing(t)
	organisation, other, subject := uuid.New(), uuid.New(), uuid.New()
	wrapped := newKey(t, ring, organisation, subject)
	organisationKey := newKey(t, ring, organisation, organisation)
	reference := func(ref string, err error) string {
		t.Helper()
		if err != nil || len(ref) != 16 {
			t.Fatalf("got %q, %v", ref, err)
		}
		return ref
	}
	first := reference(ring.Reference(organisation, subject, wrapped))
	if again := reference(ring.Reference(organisation, subject, wrapped)); again != first {
		t.Errorf("the reference changed from %s to %s", first, again)
	}
	if renewed := reference(ring.Reference(organisation, subject, newKey(t, ring, organisation, subject))); renewed == first {
		t.Error("a new key gives the old reference: destroying one would erase nothing")
	}
	if _, err := ring.Reference(other, subject, wrapped); err == nil {
		t.Error("another organisation has a reference under this key")
	}
	seen := map[string]string{first: "the subject"}
	for _, c := range [][2]string{{"channel", "19:a"}, {"channel", "19:b"}, {"operator", "19:a"}, {"channel19", ":a"}, {"", "channel\x0019:a"}} {
		ref := reference(ring.ReferenceText(organisation, organisationKey, c[0], c[1]))
		if was, ok := seen[ref]; ok {
			t.Errorf("%q and %s have the same reference", c, was)
		}
		seen[ref] = fmt.Sprint(c)
	}
}

func TestTheBlindIndex(t *testing.T) {
	ring, now := newRing(t), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	organisation, other := uuid.New(), uuid.New()
	key, otherKey := newKey(t, ring, organisation, organisation), newKey(t, ring, other, other)
	index := func(organisation uuid.UUID, key []byte, field euii.Field, text string) string {
		t.Helper()
		ref := euii.Ref{Organisation: organisation, Subject: uuid.New(), Row: uuid.New(), Field: field}
		got, err := ring.BlindIndex(covering(ref, now), ref, key, euii.Receive(text), now)
		if err != nil || got.Field != field || len(got.Hash) != 32 || bytes.Contains(got.Hash, []byte(text)) {
			t.Fatalf("got %v, %v", got, err)
		}
		return string(got.Hash)
	}
	first := index(organisation, key, euii.AgentEmail, "ada@example.org")
	for _, same := range []string{"ADA@Example.ORG", " ada@example.org\n"} {
		if index(organisation, key, euii.AgentEmail, same) != first {
			t.Errorf("%q is not found as the same address", same)
		}
	}
	for name, got := range map[string]string{
		"another address":      index(organisation, key, euii.AgentEmail, "ada@example.com"),
		"another field":        index(organisation, key, euii.VisitorEmail, "ada@example.org"),
		"another organisation": index(other, otherKey, euii.AgentEmail, "ada@example.org"),
		"another key":          index(organisation, newKey(t, ring, organisation, organisation), euii.AgentEmail, "ada@example.org"),
	} {
		if got == first {
			t.Errorf("%s has the same index", name)
		}
	}
	ref := euii.Ref{Organisation: organisation, Field: euii.AgentEmail}
	if _, err := ring.BlindIndex(covering(ref, now), ref, otherKey, euii.Receive("ada@example.org"), now); err == nil {
		t.Error("an index was made with the key of another organisation")
	}
}

func TestADigestTellsARepetitionFromANewMessage(t *testing.T) {
	ring := newRing(t)
	conversation := uuid.New()
	ref := euii.Ref{Organisation: uuid.New(), Subject: conversation, Row: conversation, Item: uuid.New(), Field: euii.MessageBody}
	key := newKey(t, ring, ref.Organisation, conversation)
	digest := func(r euii.Ref, minute int64, text string) uuid.UUID {
		t.Helper()
		id, err := ring.Digest(r, key, minute, euii.Receive(text))
		if err != nil || id.Version() != 8 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("got %s, %v", id, err)
		}
		return id
	}
	first := digest(ref, 5, "hi")
	if digest(ref, 5, "hi") != first {
		t.Error("the same reply has two digests")
	}
	byOther := ref
	byOther.Item = uuid.New()
	for i, other := range []uuid.UUID{digest(ref, 6, "hi"), digest(ref, 5, "hi!"), digest(byOther, 5, "hi"), digest(ref, 55, "hi"), digest(ref, 5, "")} {
		if other == first {
			t.Errorf("case %d has the digest of another reply", i)
		}
	}
}

func TestARingIsSafeForConcurrentUse(t *testing.T) {
	p := seal(t, secret)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if text, err := p.open(); err != nil || text != secret {
					t.Errorf("opened as %q, %v", text, err)
				}
				id := uuid.New()
				wrapped := newKey(t, p.ring, p.sealed.Ref().Organisation, id)
				if _, err := p.ring.Reference(p.sealed.Ref().Organisation, id, wrapped); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// FuzzOpen feeds the ring with sealed values, wrapped keys and key files of somebody else's making.
func FuzzOpen(f *testing.F) {
	p := seal(f, secret)
	f.Add(p.sealed.Ciphertext(), p.wrapped)
	f.Add([]byte{1}, p.wrapped)
	f.Add([]byte{}, []byte{})
	f.Add(append([]byte{2}, p.sealed.Ciphertext()[1:]...), p.wrapped)
	f.Add(p.sealed.Ciphertext(), p.wrapped[:len(p.wrapped)-1])
	f.Fuzz(func(t *testing.T, ciphertext, wrapped []byte) {
		q := p
		q.wrapped, q.sealed = wrapped, euii.NewSealed(p.sealed.Ref(), ciphertext)
		text, err := q.open()
		if genuine := bytes.Equal(ciphertext, p.sealed.Ciphertext()) && bytes.Equal(wrapped, p.wrapped); genuine != (err == nil) || !genuine && text != "" {
			t.Errorf("opened as %q, %v", text, err)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"primaryKeyId":1,"key":[]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "kek.json")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		ring, err := keyring.Load(path)
		if (ring == nil) == (err == nil) {
			t.Errorf("got %v, %v", ring, err)
		}
		if ring != nil {
			newKey(t, ring, uuid.New(), uuid.New())
		}
	})
}
