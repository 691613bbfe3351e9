package signin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/principal"
	"counterfoil/internal/totp"
)

// Listed is an administrator as others see him.
type Listed struct {
	ID                       uuid.UUID
	Reference                string
	Roles                    []string
	Created                  time.Time
	SignedIn, Disabled       *time.Time
	CodesLeft                int64 // recovery codes
	Authenticators, Passkeys int64
}

const sqlAdmins = "select admin_id, roles, created_at, signed_in_at, disabled_at, codes_left, authenticators, passkeys from access.admins($1)"

// Admins lists the administrators of an organisation, oldest first.
func (d *Desk) Admins(ctx context.Context, organisation uuid.UUID) ([]Listed, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlAdmins, organisation)
	if err != nil {
		return nil, fmt.Errorf("list administrators: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Listed, err error) {
		err = row.Scan(&l.ID, &l.Roles, &l.Created, &l.SignedIn, &l.Disabled, &l.CodesLeft, &l.Authenticators, &l.Passkeys)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("list administrators: %w", err)
	}
	for i := range all {
		if all[i].Reference, err = d.cfg.Gate.Reference(ctx, organisation, all[i].ID); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ErrNotDone says that a change of an account is not possible: it was made already, or somebody would be left without.
var ErrNotDone = errors.New("this cannot be changed")

const sqlDisable = "select access.disable_admin($1, $2, $3)"

// Disable takes away the right to sign in and ends all sessions, or gives it back. It fails with ErrNotDone when no security
// administrator would stay. The caller has it recorded.
func (d *Desk) Disable(ctx context.Context, organisation, admin uuid.UUID, disabled bool) error {
	return d.change(ctx, sqlDisable, organisation, admin, disabled)
}

// change runs a function that says whether it changed anything.
func (d *Desk) change(ctx context.Context, sql string, args ...any) error {
	var done bool
	if err := d.cfg.Pool.QueryRow(ctx, sql, args...).Scan(&done); err != nil {
		return fmt.Errorf("change account: %w", err)
	}
	if !done {
		return ErrNotDone
	}
	return nil
}

// Open is a session that is open now.
type Open struct {
	ID, Admin     uuid.UUID
	Reference     string
	Address       string // reference
	Started, Seen time.Time
}

const sqlSessions = "select session_id, admin_id, address_ref, started_at, seen_at from access.sessions($1)"

// Sessions lists the open sessions, last used first.
func (d *Desk) Sessions(ctx context.Context, organisation uuid.UUID) ([]Open, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlSessions, organisation)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Open, err error) {
		err = row.Scan(&o.ID, &o.Admin, &o.Address, &o.Started, &o.Seen)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	for i := range all {
		if all[i].Reference, err = d.cfg.Gate.Reference(ctx, organisation, all[i].Admin); err != nil {
			return nil, err
		}
	}
	return all, nil
}

const sqlRevoke = "select access.revoke_sessions($1, $2, $3, $4)"

// Revoke ends one session of an administrator, or with a zero session all but the excepted one, at once. The caller has it
// recorded.
func (d *Desk) Revoke(ctx context.Context, organisation, admin, session, except uuid.UUID) (ended int64, err error) {
	if err := d.cfg.Pool.QueryRow(ctx, sqlRevoke, organisation, admin, known(session), known(except)).Scan(&ended); err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return ended, nil
}

func known(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// Factor is something by which an administrator proves who he is.
type Factor struct {
	ID    uuid.UUID
	Label string
	Added time.Time
	Used  *time.Time
}

// Authenticators lists those of an administrator, oldest first.
func (d *Desk) Authenticators(ctx context.Context, who principal.Admin) ([]Factor, error) {
	all, err := d.authenticators(ctx, who.Organisation(), who.ID())
	if err != nil {
		return nil, err
	}
	factors := make([]Factor, len(all))
	for i, a := range all {
		factors[i] = a.Factor
	}
	return factors, nil
}

// ErrLabel refuses the name of a factor.
var ErrLabel = errors.New("a name has 1 to 40 characters")

func checkLabel(label string) (string, error) {
	label = strings.TrimSpace(label)
	if n := utf8.RuneCountInString(label); n < 1 || n > 40 || !utf8.ValidString(label) || strings.ContainsFunc(label, unicode.IsControl) {
		return "", ErrLabel
	}
	return label, nil
}

const (
	sqlBeginCeremony = "select access.begin_ceremony($1, $2, $3)"
	sqlCeremony      = "select access.ceremony($1, $2, $3)"
)

// ask keeps, sealed, what a session has to answer; answer gives it back, for the last time if taken.
func (d *Desk) ask(ctx context.Context, organisation, session uuid.UUID, state []byte) error {
	sealed, err := d.cfg.Ring.WrapSecret(keyring.Ceremony, organisation, session, state)
	if err == nil {
		_, err = d.cfg.Pool.Exec(ctx, sqlBeginCeremony, organisation, session, sealed)
	}
	if err != nil {
		return fmt.Errorf("begin ceremony: %w", err)
	}
	return nil
}

func (d *Desk) answer(ctx context.Context, organisation, session uuid.UUID, take bool) ([]byte, error) {
	var sealed []byte
	if err := d.cfg.Pool.QueryRow(ctx, sqlCeremony, organisation, session, take).Scan(&sealed); err != nil {
		return nil, fmt.Errorf("find ceremony: %w", err)
	}
	if sealed == nil {
		return nil, ErrLink
	}
	return d.cfg.Ring.UnwrapSecret(keyring.Ceremony, organisation, session, sealed)
}

// NewAuthenticator gives the seed of a further authenticator, to be confirmed within five minutes in this session. The caller
// has policy decide.
func (d *Desk) NewAuthenticator(ctx context.Context, who principal.Admin, token, label string) (Enrolment, error) {
	label, err := checkLabel(label)
	if err != nil {
		return Enrolment{}, err
	}
	session, err := d.Session(ctx, who, token)
	if err != nil {
		return Enrolment{}, err
	}
	seed := totp.NewSeed()
	if err := d.ask(ctx, who.Organisation(), session, append(seed, label...)); err != nil {
		return Enrolment{}, err
	}
	reference, err := d.cfg.Gate.Reference(ctx, who.Organisation(), who.ID())
	if err != nil {
		return Enrolment{}, err
	}
	return d.enrolment(reference, seed)
}

const seedSize = 20

const sqlAddTOTP = "select access.add_totp($1, $2, $3, $4, $5, $6)"

// ConfirmAuthenticator takes the first code of a further authenticator. On a wrong code it gives the enrolment once more with
// ErrRefused. The caller has policy decide.
func (d *Desk) ConfirmAuthenticator(ctx context.Context, who principal.Admin, token, code string) (again Enrolment, err error) {
	organisation := who.Organisation()
	session, err := d.Session(ctx, who, token)
	if err != nil {
		return again, err
	}
	state, err := d.answer(ctx, organisation, session, false)
	if err != nil {
		return again, err
	}
	if len(state) <= seedSize {
		return again, ErrLink
	}
	seed, label := state[:seedSize:seedSize], state[seedSize:]
	proof, err := d.codes.Verify(ctx, organisation, who.ID(), seed, code)
	if errors.Is(err, totp.ErrWrong) {
		reference, err := d.cfg.Gate.Reference(ctx, organisation, who.ID())
		if err != nil {
			return again, err
		}
		if again, err = d.enrolment(reference, seed); err != nil {
			return again, err
		}
		return again, ErrRefused
	}
	if err != nil {
		return again, err
	}
	if _, err := d.answer(ctx, organisation, session, true); err != nil {
		return again, err
	}
	sealed, err := d.cfg.Ring.WrapSecret(keyring.TOTPSeed, organisation, who.ID(), seed)
	if err != nil {
		return again, err
	}
	named, err := d.cfg.Ring.WrapSecret(keyring.Label, organisation, who.ID(), label)
	if err != nil {
		return again, err
	}
	if err := d.change(ctx, sqlAddTOTP, organisation, who.ID(), uuid.New(), sealed, named, proof.Step()); err != nil {
		return again, err
	}
	return again, d.notify(ctx, organisation, who.ID(), "factor.added")
}

const sqlRemoveTOTP = "select access.remove_totp($1, $2, $3)"

// RemoveAuthenticator removes one of an administrator's own. It fails with ErrNotDone for the last one, which stays. The
// caller has policy decide.
func (d *Desk) RemoveAuthenticator(ctx context.Context, who principal.Admin, factor uuid.UUID) error {
	if err := d.change(ctx, sqlRemoveTOTP, who.Organisation(), who.ID(), factor); err != nil {
		return err
	}
	return d.notify(ctx, who.Organisation(), who.ID(), "factor.removed")
}

const sqlRenewCodes = "select access.renew_recovery_codes($1, $2, $3)"

// RenewRecoveryCodes gives new codes, which nobody sees again; those of before are worth nothing from then on. The caller has
// policy decide.
func (d *Desk) RenewRecoveryCodes(ctx context.Context, who principal.Admin) ([]string, error) {
	codes, hashes := newRecoveryCodes(who.ID())
	if _, err := d.cfg.Pool.Exec(ctx, sqlRenewCodes, who.Organisation(), who.ID(), hashes); err != nil {
		return nil, fmt.Errorf("renew recovery codes: %w", err)
	}
	return codes, d.notify(ctx, who.Organisation(), who.ID(), "recovery_codes.renewed")
}

// Notice is something that an administrator has to hear of his account.
type Notice struct {
	Kind        string // as the action of a record
	Times       int
	First, Last time.Time
}

const (
	sqlAddNotice     = "select access.add_notice($1, $2, $3)"
	sqlNotices       = "select kind, n, first_at, last_at from access.notices($1, $2)"
	sqlForgetNotices = "select access.forget_notices($1, $2, $3)"
)

func (d *Desk) notify(ctx context.Context, organisation, admin uuid.UUID, kind string) error {
	if _, err := d.cfg.Pool.Exec(ctx, sqlAddNotice, organisation, admin, kind); err != nil {
		return fmt.Errorf("notify administrator: %w", err)
	}
	return nil
}

// Notify tells an administrator of a change that somebody else made to his account.
func (d *Desk) Notify(ctx context.Context, organisation, admin uuid.UUID, kind string) error {
	return d.notify(ctx, organisation, admin, kind)
}

// Notices gives what an administrator has not read yet, newest first.
func (d *Desk) Notices(ctx context.Context, who principal.Admin) ([]Notice, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlNotices, who.Organisation(), who.ID())
	if err != nil {
		return nil, fmt.Errorf("get notices: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Notice])
	if err != nil {
		return nil, fmt.Errorf("get notices: %w", err)
	}
	return all, nil
}

// ReadNotices forgets what he has read, up to a time.
func (d *Desk) ReadNotices(ctx context.Context, who principal.Admin, until time.Time) error {
	if _, err := d.cfg.Pool.Exec(ctx, sqlForgetNotices, who.Organisation(), who.ID(), until); err != nil {
		return fmt.Errorf("forget notices: %w", err)
	}
	return nil
}
