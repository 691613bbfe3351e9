package signin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

const console = "http://localhost:8081"

// key is a security key, and the browser it is in.
type key struct {
	t       *testing.T
	private *ecdsa.PrivateKey
	id      []byte
	origin  string
	flags   byte // 1: somebody is there; 4: it is its owner
	counter uint32
}

func newKey(t *testing.T) *key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	id := make([]byte, 32)
	rand.Read(id)
	return &key{t: t, private: private, id: id, origin: console, flags: 5}
}

var b64 = base64.RawURLEncoding.EncodeToString

// said is what the browser signs: what was asked, and by which page.
func (k *key) said(kind, options string) []byte {
	k.t.Helper()
	var asked struct{ Challenge string }
	must(k.t, json.Unmarshal([]byte(options), &asked))
	b, err := json.Marshal(map[string]any{"type": kind, "challenge": asked.Challenge, "origin": k.origin, "crossOrigin": false})
	must(k.t, err)
	return b
}

func (k *key) data(flags byte) []byte {
	host := sha256.Sum256([]byte("localhost"))
	k.counter++
	return binary.BigEndian.AppendUint32(append(host[:], k.flags|flags), k.counter)
}

func (k *key) answer(response map[string]string) string {
	k.t.Helper()
	b, err := json.Marshal(map[string]any{"id": b64(k.id), "rawId": b64(k.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{}})
	must(k.t, err)
	return string(b)
}

// make answers what a page asks that registers a key.
func (k *key) make(options string) string {
	k.t.Helper()
	said := k.said("webauthn.create", options)
	point, err := k.private.PublicKey.Bytes()
	must(k.t, err)
	data := append(k.data(0x40), make([]byte, 16)...)
	data = append(append(data, 0, byte(len(k.id))), k.id...)
	// The public key and what is around it, as CBOR: {1: 2, 3: -7, -1: 1, -2: x, -3: y}, {fmt: none, attStmt: {}, authData: data}.
	data = append(append(data, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32), point[1:33]...)
	data = append(append(data, 0x22, 0x58, 32), point[33:]...)
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"), byte(len(data)))
	return k.answer(map[string]string{"clientDataJSON": b64(said), "attestationObject": b64(append(object, data...))})
}

// get answers what a page asks that wants to know who is there.
func (k *key) get(options string) string {
	k.t.Helper()
	said, data := k.said("webauthn.get", options), k.data(0)
	hash := sha256.Sum256(said)
	sum := sha256.Sum256(append(slices.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, k.private, sum[:])
	must(k.t, err)
	return k.answer(map[string]string{"clientDataJSON": b64(said), "authenticatorData": b64(data), "signature": b64(signature), "userHandle": ""})
}

// AUTH-WA-01, AUTH-WA-02.
func TestASecurityKeyAnswersOnceForItsOwnerAndItsPurpose(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	p.Desk = signin.New(signin.Config{Pool: p.Pool, Gate: p.Gate, Ring: p.Ring, Now: p.now, URL: console})
	ctx := t.Context()
	ph, _ := p.setUp(t, name)
	from := p.admit(t, here)
	token := p.signIn(t, ph, here)
	admin, err := p.resume(t, here, token)
	must(t, err)
	if _, err = p.Challenge(ctx, admin, token); !errors.Is(err, signin.ErrNoPasskeys) {
		t.Errorf("a challenge without a key: %v", err)
	}

	k := newKey(t)
	options, err := p.NewPasskey(ctx, admin, token, "The blue one")
	must(t, err)
	foreign := newKey(t)
	foreign.origin = "http://localhost:9999"
	refused(t, "a key that another page asked", p.ConfirmPasskey(ctx, admin, token, foreign.make(options)), signin.ErrRefused)
	refused(t, "a challenge a second time", p.ConfirmPasskey(ctx, admin, token, k.make(options)), signin.ErrLink)
	options, err = p.NewPasskey(ctx, admin, token, "The blue one")
	must(t, err)
	k.flags = 1
	refused(t, "a key that does not ask who holds it", p.ConfirmPasskey(ctx, admin, token, k.make(options)), signin.ErrRefused)
	k.flags = 5
	options, err = p.NewPasskey(ctx, admin, token, "The blue one")
	must(t, err)
	must(t, p.ConfirmPasskey(ctx, admin, token, k.make(options)))
	all, err := p.Passkeys(ctx, admin)
	if err != nil || len(all) != 1 || all[0].Label != "The blue one" {
		t.Fatalf("%+v, %v", all, err)
	}

	challenge := func() string {
		t.Helper()
		p.sql(t, "delete from console.failure")
		options, err := p.Challenge(ctx, admin, token)
		must(t, err)
		return options
	}
	wrong := func(what string, purpose policy.Purpose, response string) {
		t.Helper()
		_, err := p.StepUpWithPasskey(ctx, from, here, token, purpose, response)
		refused(t, what, err, signin.ErrRefused)
		if e := p.last(t); e.Action != "step_up.refused" {
			t.Errorf("%s: the last record is %s", what, e.Action)
		}
	}
	wrong("nothing", policy.Administer, "{}")
	wrong("another key", policy.Administer, newKey(t).get(challenge()))
	impostor := newKey(t)
	impostor.id = k.id
	wrong("another key that says it is this one", policy.Administer, impostor.get(challenge()))
	k.origin = "http://localhost:9999"
	wrong("for another page", policy.Administer, k.get(challenge()))
	k.origin, k.flags = console, 1
	wrong("held by nobody knows whom", policy.Administer, k.get(challenge()))
	k.flags = 5
	wrong("for one's own account", policy.OwnAccount, k.get(challenge()))
	answer := k.get(challenge())
	challenge()
	wrong("to a challenge of before", policy.Administer, answer)

	answer = k.get(challenge())
	stepped, err := p.StepUpWithPasskey(ctx, from, here, token, policy.Administer, answer)
	must(t, err)
	_, err = p.resume(t, here, token)
	refused(t, "the session under the token of before", err, signin.ErrNoSession)
	token = stepped
	admin, err = p.resume(t, here, token)
	must(t, err)
	if f := admin.Fresh(); f.Method() != "webauthn" || f.Purpose() != "administer" {
		t.Errorf("what he gave: %s for %s", f.Method(), f.Purpose())
	}
	must(t, p.Gate.Act(ctx, admin, policy.Administer, p.Organisation.ID, "allowlist.show", nil))
	wrong("the same answer again", policy.Administer, answer)
	k.counter = 0
	wrong("a copy of it, whose counter is behind", policy.Administer, k.get(challenge()))
	must(t, p.RemovePasskey(ctx, admin, all[0].ID))
	if _, err = p.Challenge(ctx, admin, token); !errors.Is(err, signin.ErrNoPasskeys) {
		t.Errorf("a challenge after the key was removed: %v", err)
	}
}
