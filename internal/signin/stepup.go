package signin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/totp"
	"counterfoil/policy"
)

const (
	sqlFactors  = "select factor_id, seed, label, confirmed_at, used_at from access.totp_factors($1, $2)"
	sqlTOTPUsed = "select access.totp_used($1, $2, $3)"
)

// authenticator is one of an administrator's, as it is stored.
type authenticator struct {
	Factor
	seed []byte // wrapped
}

func (d *Desk) authenticators(ctx context.Context, organisation, admin uuid.UUID) ([]authenticator, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlFactors, organisation, admin)
	if err != nil {
		return nil, fmt.Errorf("find authenticators: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a authenticator, err error) {
		var label []byte
		if err = row.Scan(&a.ID, &a.seed, &label, &a.Added, &a.Used); err == nil && label != nil {
			label, err = d.cfg.Ring.UnwrapSecret(keyring.Label, organisation, admin, label)
			a.Label = string(label)
		}
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("find authenticators: %w", err)
	}
	return all, nil
}

// verify takes a code of any of an administrator's authenticators, once. It fails with totp.ErrWrong.
func (d *Desk) verify(ctx context.Context, organisation, admin uuid.UUID, code string) (totp.Proof, error) {
	all, err := d.authenticators(ctx, organisation, admin)
	if err != nil {
		return totp.Proof{}, err
	}
	for _, a := range all {
		seed, err := d.cfg.Ring.UnwrapSecret(keyring.TOTPSeed, organisation, admin, a.seed)
		if err != nil {
			return totp.Proof{}, err
		}
		proof, err := d.codes.Verify(ctx, organisation, admin, seed, code)
		if errors.Is(err, totp.ErrWrong) {
			continue
		}
		if err != nil {
			return totp.Proof{}, err
		}
		if _, err := d.cfg.Pool.Exec(ctx, sqlTOTPUsed, organisation, admin, a.ID); err != nil {
			return totp.Proof{}, fmt.Errorf("note use of authenticator: %w", err)
		}
		return proof, nil
	}
	return totp.Proof{}, totp.ErrWrong
}

const (
	sqlStepUp        = "select access.step_up($1, $2, $3, $4, $5, $6, $7)"
	sqlAdminPassword = "select coalesce(access.admin_password($1, $2), '')"
)

// StepUp takes a one-time code for one purpose within a session, which goes on under a new token. What concerns his own
// account takes his password too. Wrong ones are counted as those of the sign-in are.
func (d *Desk) StepUp(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string, purpose policy.Purpose, password, code string) (string, error) {
	s, c, err := d.counts(ctx, admissions, from, token, "signed_in", "codes")
	if err != nil {
		return "", err
	}
	organisation := s.from.Organisation()
	if purpose == policy.OwnAccount {
		var hash string
		if err := d.cfg.Pool.QueryRow(ctx, sqlAdminPassword, organisation, s.admin).Scan(&hash); err != nil {
			return "", fmt.Errorf("find administrator: %w", err)
		}
		ok, err := d.hash.check(ctx, hash, normal(password))
		if err != nil {
			return "", err
		}
		if !ok {
			return "", d.refused(ctx, s, "step_up.refused")
		}
	}
	if _, err = d.verify(ctx, organisation, s.admin, code); errors.Is(err, totp.ErrWrong) {
		return "", d.refused(ctx, s, "step_up.refused")
	}
	if err != nil {
		return "", err
	}
	return d.steppedUp(ctx, s, c, token, purpose, "totp")
}

// steppedUp goes on under a new token after a second factor was given.
func (d *Desk) steppedUp(ctx context.Context, s session, c counted, old string, purpose policy.Purpose, method string) (string, error) {
	organisation := s.from.Organisation()
	facts := map[string]string{"for": string(purpose), "method": method}
	if err := d.began(ctx, old, facts); err != nil {
		return "", err
	}
	if err := d.cfg.Gate.Door(ctx, organisation, s.admin, s.from.Address(), "step_up", facts); err != nil {
		return "", err
	}
	token, hash := newToken()
	next := session{from: s.from, id: uuid.New(), admin: s.admin, stage: "signed_in", address: s.address, steppedFor: string(purpose), steppedBy: method}
	seal, err := d.sessionSeal(ctx, next, token)
	if err != nil {
		return "", err
	}
	var done bool
	if err := d.cfg.Pool.QueryRow(ctx, sqlStepUp, organisation, s.id, next.id, hash, string(purpose), method, seal).Scan(&done); err != nil {
		return "", fmt.Errorf("step up: %w", err)
	}
	if !done {
		return "", ErrNoSession
	}
	return token, d.succeeded(ctx, organisation, c)
}

// Session is the id of the session under a token, by which it can be told apart in a list.
func (d *Desk) Session(ctx context.Context, who principal.Admin, token string) (uuid.UUID, error) {
	var s session
	var seal string
	var adminSeal *string
	err := d.cfg.Pool.QueryRow(ctx, sqlResume, tokenHash(token)).Scan(&s.of, &s.id, &s.admin, &s.stage, &s.address, &s.roles, &seal, &adminSeal, &s.steppedFor, &s.steppedBy,
		&s.news.Consents, &s.news.Networks, &s.news.Notices)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && s.admin != who.ID() {
		return uuid.Nil, ErrNoSession
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("resume session: %w", err)
	}
	return s.id, nil
}
