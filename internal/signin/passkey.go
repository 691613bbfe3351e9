package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// ErrNoPasskeys says that the console is reached under an address for which browsers make no security keys, or that there is
// none that could answer.
var ErrNoPasskeys = errors.New("no security key can be used here")

// newRelyingParty is the console as security keys know it: by its host, which has to be a name. Without one it is nil.
func newRelyingParty(address string) *webauthn.WebAuthn {
	u, err := url.Parse(address)
	if err != nil {
		return nil
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return nil
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: issuer, RPOrigins: []string{u.Scheme + "://" + u.Host}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{UserVerification: protocol.VerificationRequired, ResidentKey: protocol.ResidentKeyRequirementDiscouraged},
	})
	if err != nil {
		return nil
	}
	return w
}

// passkey is a security key as it is stored.
type passkey struct {
	Factor
	Credential webauthn.Credential
}

const sqlPasskeys = "select passkey_id, credential, created_at, used_at from access.passkeys($1, $2)"

func (d *Desk) passkeys(ctx context.Context, organisation, admin uuid.UUID) ([]passkey, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlPasskeys, organisation, admin)
	if err != nil {
		return nil, fmt.Errorf("find security keys: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (passkey, error) {
		var k passkey
		var sealed []byte
		var f Factor
		if err := row.Scan(&f.ID, &sealed, &f.Added, &f.Used); err != nil {
			return k, err
		}
		b, err := d.cfg.Ring.UnwrapSecret(keyring.Passkey, organisation, admin, sealed)
		if err == nil && json.Unmarshal(b, &k) != nil {
			err = errors.New("a security key has an unknown form")
		}
		k.ID, k.Added, k.Used = f.ID, f.Added, f.Used
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("find security keys: %w", err)
	}
	return all, nil
}

// Passkeys lists the security keys of an administrator, oldest first.
func (d *Desk) Passkeys(ctx context.Context, who principal.Admin) ([]Factor, error) {
	all, err := d.passkeys(ctx, who.Organisation(), who.ID())
	if err != nil {
		return nil, err
	}
	factors := make([]Factor, len(all))
	for i, k := range all {
		factors[i] = k.Factor
	}
	return factors, nil
}

// holder is an administrator as the library knows one.
type holder struct {
	id     uuid.UUID
	handle string
	keys   []passkey
}

// WebAuthnID is his random id.
func (h holder) WebAuthnID() []byte { return h.id[:] }

// WebAuthnName is how others see him.
func (h holder) WebAuthnName() string { return h.handle }

// WebAuthnDisplayName is the same.
func (h holder) WebAuthnDisplayName() string { return h.handle }

// WebAuthnCredentials are his security keys.
func (h holder) WebAuthnCredentials() []webauthn.Credential {
	all := make([]webauthn.Credential, len(h.keys))
	for i, k := range h.keys {
		all[i] = k.Credential
	}
	return all
}

func (d *Desk) holder(ctx context.Context, organisation, admin uuid.UUID) (holder, error) {
	if d.web == nil {
		return holder{}, ErrNoPasskeys
	}
	reference, err := d.cfg.Gate.Reference(ctx, organisation, admin)
	if err != nil {
		return holder{}, err
	}
	keys, err := d.passkeys(ctx, organisation, admin)
	return holder{admin, adminHandle(reference), keys}, err
}

// challenge is what a session has to answer with a security key.
type challenge struct {
	Label   string // of a new one
	Session webauthn.SessionData
}

// challenged keeps a challenge and gives what the browser needs to answer it.
func (d *Desk) challenged(ctx context.Context, organisation, session uuid.UUID, c challenge, options any) (string, error) {
	state, err := json.Marshal(c)
	if err != nil {
		return "", errors.New("begin with security key: the challenge cannot be kept")
	}
	if err := d.ask(ctx, organisation, session, state); err != nil {
		return "", err
	}
	b, err := json.Marshal(options)
	if err != nil {
		return "", errors.New("begin with security key: the challenge cannot be sent")
	}
	return string(b), nil
}

// answered takes the challenge of a session, once.
func (d *Desk) answered(ctx context.Context, organisation, session uuid.UUID) (challenge, error) {
	var c challenge
	state, err := d.answer(ctx, organisation, session, true)
	if err != nil {
		return c, err
	}
	if json.Unmarshal(state, &c) != nil || c.Session.Challenge == "" {
		return c, ErrLink
	}
	return c, nil
}

// NewPasskey begins to register a security key and gives what the browser needs. The caller has policy decide.
func (d *Desk) NewPasskey(ctx context.Context, who principal.Admin, token, label string) (options string, err error) {
	if label, err = checkLabel(label); err != nil {
		return "", err
	}
	h, err := d.holder(ctx, who.Organisation(), who.ID())
	if err != nil {
		return "", err
	}
	session, err := d.Session(ctx, who, token)
	if err != nil {
		return "", err
	}
	var known []protocol.CredentialDescriptor
	for _, c := range h.WebAuthnCredentials() {
		known = append(known, c.Descriptor())
	}
	creation, state, err := d.web.BeginRegistration(h, webauthn.WithExclusions(known))
	if err != nil {
		return "", fmt.Errorf("begin with security key: %w", err)
	}
	return d.challenged(ctx, who.Organisation(), session, challenge{label, *state}, creation.Response)
}

const sqlAddPasskey = "select access.add_passkey($1, $2, $3, $4)"

// ConfirmPasskey registers the security key that answered. It fails with ErrRefused when the answer is not right. The caller
// has policy decide.
func (d *Desk) ConfirmPasskey(ctx context.Context, who principal.Admin, token, response string) error {
	organisation := who.Organisation()
	h, err := d.holder(ctx, organisation, who.ID())
	if err != nil {
		return err
	}
	session, err := d.Session(ctx, who, token)
	if err != nil {
		return err
	}
	c, err := d.answered(ctx, organisation, session)
	if err != nil {
		return err
	}
	credential, err := registered(d.web, h, c.Session, response)
	if err != nil {
		return ErrRefused
	}
	sealed, err := d.sealPasskey(organisation, who.ID(), passkey{Factor{Label: c.Label}, *credential})
	if err != nil {
		return err
	}
	if err := d.change(ctx, sqlAddPasskey, organisation, who.ID(), uuid.New(), sealed); err != nil {
		return err
	}
	return d.notify(ctx, organisation, who.ID(), "passkey.added")
}

// registered reads the answer of a new security key to what it was asked.
func registered(web *webauthn.WebAuthn, h holder, asked webauthn.SessionData, response string) (*webauthn.Credential, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(response))
	if err != nil {
		return nil, err
	}
	return web.CreateCredential(h, asked, parsed)
}

// proved reads the answer of a security key to what it was asked, which has to be one of its holder's.
func proved(web *webauthn.WebAuthn, h holder, asked webauthn.SessionData, response string) (*webauthn.Credential, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(response))
	if err != nil {
		return nil, err
	}
	return web.ValidateLogin(h, asked, parsed)
}

func (d *Desk) sealPasskey(organisation, admin uuid.UUID, k passkey) ([]byte, error) {
	b, err := json.Marshal(k)
	if err != nil {
		return nil, errors.New("keep security key: it has an unknown form")
	}
	return d.cfg.Ring.WrapSecret(keyring.Passkey, organisation, admin, b)
}

const sqlRemovePasskey = "select access.remove_passkey($1, $2, $3)"

// RemovePasskey removes a security key of one's own. The caller has policy decide.
func (d *Desk) RemovePasskey(ctx context.Context, who principal.Admin, id uuid.UUID) error {
	if err := d.change(ctx, sqlRemovePasskey, who.Organisation(), who.ID(), id); err != nil {
		return err
	}
	return d.notify(ctx, who.Organisation(), who.ID(), "passkey.removed")
}

// Challenge gives what the browser needs to step up with a security key; ErrNoPasskeys when there is none.
func (d *Desk) Challenge(ctx context.Context, who principal.Admin, token string) (options string, err error) {
	h, err := d.holder(ctx, who.Organisation(), who.ID())
	if err != nil {
		return "", err
	}
	if len(h.keys) == 0 {
		return "", ErrNoPasskeys
	}
	session, err := d.Session(ctx, who, token)
	if err != nil {
		return "", err
	}
	assertion, state, err := d.web.BeginLogin(h)
	if err != nil {
		return "", fmt.Errorf("begin with security key: %w", err)
	}
	return d.challenged(ctx, who.Organisation(), session, challenge{Session: *state}, assertion.Response)
}

const sqlPasskeyUsed = "select access.passkey_used($1, $2, $3, $4)"

// StepUpWithPasskey is StepUp with a security key in place of the code. One's own account is not changed with it: that takes
// password and code.
func (d *Desk) StepUpWithPasskey(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string, purpose policy.Purpose, response string) (string, error) {
	s, c, err := d.counts(ctx, admissions, from, token, "signed_in", "codes")
	if err != nil {
		return "", err
	}
	organisation := s.from.Organisation()
	h, err := d.holder(ctx, organisation, s.admin)
	if err != nil {
		return "", err
	}
	asked, err := d.answered(ctx, organisation, s.id)
	if errors.Is(err, ErrLink) || purpose == policy.OwnAccount {
		return "", d.refused(ctx, s, "step_up.refused")
	}
	if err != nil {
		return "", err
	}
	credential, err := proved(d.web, h, asked.Session, response)
	if err != nil || credential.Authenticator.CloneWarning { // its counter went back: there are two of it
		return "", d.refused(ctx, s, "step_up.refused")
	}
	for _, k := range h.keys {
		if string(k.Credential.ID) != string(credential.ID) {
			continue
		}
		k.Credential = *credential
		sealed, err := d.sealPasskey(organisation, s.admin, k)
		if err != nil {
			return "", err
		}
		if err := d.change(ctx, sqlPasskeyUsed, organisation, s.admin, k.ID, sealed); err != nil {
			return "", err
		}
		return d.steppedUp(ctx, s, c, token, purpose, "webauthn")
	}
	return "", d.refused(ctx, s, "step_up.refused")
}
