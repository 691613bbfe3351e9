package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/totp"
)

const (
	linkValid     = 30 * time.Minute
	recoveryCodes = 10
)

// Link is a set-up link's token and its end.
type Link struct {
	Token string
	Ends  time.Time
}

const sqlMakeSetup = "select access.make_setup($1, $2, $3, $4, $5, $6)"

// NewLink makes a set-up link for an administrator with these roles. The caller has it recorded.
func (d *Desk) NewLink(ctx context.Context, organisation uuid.UUID, roles []string) (Link, error) {
	roles, err := CheckRoles(roles)
	if err != nil {
		return Link{}, err
	}
	token, hash := newToken()
	l, id := Link{Token: token}, uuid.New()
	seal, err := d.setupSeal(ctx, organisation, token, id, uuid.Nil, roles)
	if err != nil {
		return Link{}, err
	}
	if err := d.cfg.Pool.QueryRow(ctx, sqlMakeSetup, organisation, id, hash, roles, int(linkValid.Seconds()), seal).Scan(&l.Ends); err != nil {
		return Link{}, fmt.Errorf("make set-up link: %w", err)
	}
	return l, nil
}

// setupSeal says which roles a link gives, or to whom a new authenticator.
func (d *Desk) setupSeal(ctx context.Context, organisation uuid.UUID, token string, id, again uuid.UUID, roles []string) (string, error) {
	return d.seal(ctx, organisation, "set-up", token, id.String(), again.String(), strings.Join(roles, ","))
}

// setup is a set-up link that can be used, with the admission of the address that uses it.
type setup struct {
	from  ipallow.Admission
	id    uuid.UUID
	roles []string
	admin uuid.UUID // zero before a name and password were chosen
	again bool
	seed  []byte // wrapped; nil before it was shown, or when that is too long ago
}

const sqlSetup = `select organisation_id, setup_id, roles, coalesce(admin_id, '00000000-0000-0000-0000-000000000000'), again, seed, coalesce(seal, '')
	from access.setup_by_token($1)`

// setup finds a link and counts the attempt to use it.
func (d *Desk) setup(ctx context.Context, admissions []ipallow.Admission, token string) (setup, counted, error) {
	var s setup
	var organisation uuid.UUID
	var seal string
	token = strings.TrimSpace(token)
	err := d.cfg.Pool.QueryRow(ctx, sqlSetup, tokenHash(token)).Scan(&organisation, &s.id, &s.roles, &s.admin, &s.again, &s.seed, &seal)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, counted{}, fmt.Errorf("find set-up link: %w", err)
	}
	if err == nil {
		again := uuid.Nil
		if s.again {
			again = s.admin
		}
		want, err := d.setupSeal(ctx, organisation, token, s.id, again, s.roles)
		if err != nil {
			return s, counted{}, err
		}
		if seal != want { // nobody made it here
			s, organisation = setup{}, uuid.Nil
		}
	}
	var known bool
	s.from, known = admitted(admissions, organisation)
	for _, a := range admissions { // a link that is nobody's counts for all who admit the address
		if known && a.Organisation() != organisation {
			continue
		}
		c, err := d.count(ctx, a, "set-ups", "")
		if err != nil {
			return s, c, err
		}
		if err := d.attempt(ctx, a.Organisation(), c); err != nil {
			return s, c, err
		}
		if known {
			return s, c, nil
		}
	}
	return s, counted{}, ErrLink
}

// Enrolment is what the new administrator takes into his authenticator.
type Enrolment struct {
	Card   totp.Card
	Handle string // how others see him
}

// issuer is the name under which authenticators file the code.
const issuer = "Counterfoil"

func (d *Desk) enrolment(reference string, seed []byte) (Enrolment, error) {
	handle := adminHandle(reference)
	card, err := totp.NewCard(issuer, handle, seed)
	return Enrolment{card, handle}, err
}

func adminHandle(reference string) string { return fmt.Sprintf("admin %.5s", reference) }

const sqlBegin = "select access.begin_setup($1, $2, $3, $4, $5, $6, $7)"

// Begin takes the chosen name and password and gives the seed of the authenticator. The link is not used up by it: who
// mistyped begins anew. It fails with ErrLink, a WaitError or a ChoiceError.
func (d *Desk) Begin(ctx context.Context, admissions []ipallow.Admission, token, name, password string) (Enrolment, error) {
	s, c, err := d.setup(ctx, admissions, token)
	if err != nil {
		return Enrolment{}, err
	}
	organisation := s.from.Organisation()
	if s.again {
		return Enrolment{}, ErrLink // his name and password stay as they are
	}
	name, password = foldName(name), normal(password)
	if err := choose(name, password); err != nil {
		return Enrolment{}, errors.Join(err, d.succeeded(ctx, organisation, c))
	}
	var wrapped []byte
	reference := ""
	if s.admin == uuid.Nil {
		s.admin = uuid.New()
		wrapped, reference, err = d.cfg.Gate.NewKey(organisation, s.admin)
	} else {
		reference, err = d.cfg.Gate.Reference(ctx, organisation, s.admin)
	}
	if err != nil {
		return Enrolment{}, err
	}
	nameRef, err := d.cfg.Gate.ReferenceText(ctx, organisation, "admin name", name)
	if err != nil {
		return Enrolment{}, err
	}
	hash, err := d.hash.make(ctx, password)
	if err != nil {
		return Enrolment{}, err
	}
	seed := totp.NewSeed()
	sealed, err := d.cfg.Ring.WrapSecret(keyring.TOTPSeed, organisation, s.admin, seed)
	if err != nil {
		return Enrolment{}, err
	}
	var outcome string
	if err := d.cfg.Pool.QueryRow(ctx, sqlBegin, organisation, s.id, s.admin, wrapped, nameRef, hash, sealed).Scan(&outcome); err != nil {
		return Enrolment{}, fmt.Errorf("begin set-up: %w", err)
	}
	if err := d.succeeded(ctx, organisation, c); err != nil {
		return Enrolment{}, err
	}
	switch outcome {
	case "taken":
		return Enrolment{}, ChoiceError{NameTaken}
	case "gone":
		return Enrolment{}, ErrLink
	}
	return d.enrolment(reference, seed)
}

const sqlFinish = "select access.finish_setup($1, $2, $3, $4, $5, $6, $7, $8)"

// Confirm takes the first code of the authenticator, which cannot be used to sign in afterwards, makes the administrator,
// puts his address on the allowlist, and gives his recovery codes, which nobody sees again. On a wrong code it gives
// the enrolment once more with ErrRefused.
func (d *Desk) Confirm(ctx context.Context, admissions []ipallow.Admission, token, code string) (codes []string, again Enrolment, err error) {
	s, c, err := d.setup(ctx, admissions, token)
	if err != nil {
		return nil, again, err
	}
	if s.seed == nil {
		return nil, again, ErrLink
	}
	organisation := s.from.Organisation()
	seed, err := d.cfg.Ring.UnwrapSecret(keyring.TOTPSeed, organisation, s.admin, s.seed)
	if err != nil {
		return nil, again, err
	}
	proof, err := d.codes.Verify(ctx, organisation, s.admin, seed, code)
	if errors.Is(err, totp.ErrWrong) {
		if err := d.cfg.Gate.Door(ctx, organisation, s.admin, s.from.Address(), "admin.code_refused", nil); err != nil {
			return nil, again, err
		}
		reference, err := d.cfg.Gate.Reference(ctx, organisation, s.admin)
		if err != nil {
			return nil, again, err
		}
		if again, err = d.enrolment(reference, seed); err != nil {
			return nil, again, err
		}
		return nil, again, ErrRefused
	}
	if err != nil {
		return nil, again, err
	}
	action, facts := "admin.set_up", map[string]string{"allowlist": "this address", "roles": strings.Join(s.roles, ",")}
	if s.again {
		action = "admin.new_authenticator"
		delete(facts, "roles")
	}
	if err := d.cfg.Gate.Door(ctx, organisation, s.admin, s.from.Address(), action, facts); err != nil {
		return nil, again, err
	}
	codes, hashes := newRecoveryCodes(s.admin)
	ref, network, err := d.network(ctx, organisation, ipallow.Single(s.from.Address()))
	if err != nil {
		return nil, again, err
	}
	seal, err := d.adminSeal(ctx, organisation, s.admin, s.roles)
	if err != nil {
		return nil, again, err
	}
	var done bool
	if err := d.cfg.Pool.QueryRow(ctx, sqlFinish, organisation, s.id, proof.Step(), hashes, ref, network, uuid.New(), seal).Scan(&done); err != nil {
		return nil, again, fmt.Errorf("finish set-up: %w", err)
	}
	if !done {
		return nil, again, ErrLink
	}
	return codes, again, d.succeeded(ctx, organisation, c)
}

const sqlRecover = "select access.use_recovery_code($1, $2, $3, $4, $5, $6, $7)"

// Recover uses up a recovery code in place of a one-time code. It does not sign anybody in: it gives ten minutes to
// enrol a new authenticator, with which he then signs in as always.
func (d *Desk) Recover(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token, recovery string) (_ string, e Enrolment, err error) {
	// Apart from codes, so that who guesses those does not keep the owner from this.
	s, c, err := d.counts(ctx, admissions, from, token, "password", "recoveries")
	if err != nil {
		return "", e, err
	}
	organisation := s.from.Organisation()
	seed := totp.NewSeed()
	sealed, err := d.cfg.Ring.WrapSecret(keyring.TOTPSeed, organisation, s.admin, seed)
	if err != nil {
		return "", e, err
	}
	setupToken, hash := newToken()
	setupID := uuid.New()
	seal, err := d.setupSeal(ctx, organisation, setupToken, setupID, s.admin, nil)
	if err != nil {
		return "", e, err
	}
	var done bool
	err = d.cfg.Pool.QueryRow(ctx, sqlRecover, organisation, s.id, recoveryHash(s.admin, recovery), setupID, hash, sealed, seal).Scan(&done)
	if err != nil {
		return "", e, fmt.Errorf("use recovery code: %w", err)
	}
	if !done {
		return "", e, d.refused(ctx, s, "sign_in.recovery_refused")
	}
	if err := d.cfg.Gate.Door(ctx, organisation, s.admin, s.from.Address(), "sign_in.recovery_code", nil); err != nil {
		return "", e, err
	}
	if err := d.notify(ctx, organisation, s.admin, "sign_in.recovery_code"); err != nil {
		return "", e, err
	}
	if err := d.succeeded(ctx, organisation, c); err != nil {
		return "", e, err
	}
	reference, err := d.cfg.Gate.Reference(ctx, organisation, s.admin)
	if err != nil {
		return "", e, err
	}
	e, err = d.enrolment(reference, seed)
	return setupToken, e, err
}

var recoveryEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// newRecoveryCodes makes the codes of an administrator and what is kept of them.
func newRecoveryCodes(admin uuid.UUID) (codes []string, hashes [][]byte) {
	for range recoveryCodes {
		code := newRecoveryCode()
		codes, hashes = append(codes, code), append(hashes, recoveryHash(admin, code))
	}
	return codes, hashes
}

// newRecoveryCode has 80 random bits, in groups of four that one can read aloud.
func newRecoveryCode() string {
	var b [10]byte
	rand.Read(b[:])
	s := recoveryEncoding.EncodeToString(b[:])
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

// recoveryHash is what is kept of a code, however it is typed.
func recoveryHash(admin uuid.UUID, code string) []byte {
	code = strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(code))
	sum := sha256.Sum256(append(admin[:], code...))
	return sum[:]
}
