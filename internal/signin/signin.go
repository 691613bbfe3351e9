// Package signin is how administrators become who they are: set-up, sign-in, sessions and the allowlist. It promises that
// nobody is an administrator without a password, a one-time code and an admitted address; that every attempt is counted
// before it is made, and recorded; and that a stranger learns nothing from an answer or from how long it took.
package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
	"counterfoil/internal/totp"
)

var (
	// ErrRefused is every way in which a name, password or code can be wrong; nobody is told which.
	ErrRefused = errors.New("this does not fit together")
	// ErrNoSession says that there is no session, or that it is over.
	ErrNoSession = errors.New("nobody is signed in")
	// ErrLink says that a set-up link was used, is too old, or never was.
	ErrLink = errors.New("this set-up link cannot be used")
)

// WaitError says that an attempt was not made, because too many failed before it.
type WaitError struct{ For time.Duration }

func (e WaitError) Error() string { return "too many attempts: wait " + e.For.String() }

// Config is what a Desk is made of; every field is needed.
type Config struct {
	Pool *pgxpool.Pool // the service's role
	Gate *access.Gate
	Ring *keyring.Ring
	Now  func() time.Time
	URL  string // where the console is reached; security keys are made for its host
}

// Desk is where administrators come in. It is safe for concurrent use, also by several nodes.
type Desk struct {
	cfg   Config
	codes *totp.Verifier
	web   *webauthn.WebAuthn // nil where security keys cannot be used
	hash  hasher
}

// New makes a Desk.
func New(c Config) *Desk {
	return &Desk{cfg: c, codes: totp.New(c.Pool, c.Now), web: newRelyingParty(c.URL), hash: newHasher()}
}

// newToken makes a token and what is kept of it.
func newToken() (token string, hash []byte) {
	var b [32]byte
	rand.Read(b[:])
	token = base64.RawURLEncoding.EncodeToString(b[:])
	return token, tokenHash(token)
}

// seal is the keyed reference of what a row of the console says, which nobody can make who has only the database.
func (d *Desk) seal(ctx context.Context, organisation uuid.UUID, parts ...string) (string, error) {
	return d.cfg.Gate.ReferenceText(ctx, organisation, sealed, strings.Join(parts, "\x00"))
}

// sealed is the kind of a reference that is a seal.
const sealed = "seal"

func adminSays(admin uuid.UUID, roles []string) string {
	return strings.Join([]string{"admin", admin.String(), strings.Join(roles, ",")}, "\x00")
}

func (d *Desk) adminSeal(ctx context.Context, organisation, admin uuid.UUID, roles []string) (string, error) {
	return d.cfg.Gate.ReferenceText(ctx, organisation, sealed, adminSays(admin, roles))
}

func tokenHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

const sqlNetworks = "select organisation_id, network_ref, prefix from access.networks()"

// lists reads the allowlists, by organisation. An entry that does not open admits nobody.
func (d *Desk) lists(ctx context.Context) (map[uuid.UUID]ipallow.List, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlNetworks)
	if err != nil {
		return nil, fmt.Errorf("read allowlist: %w", err)
	}
	prefixes := make(map[uuid.UUID][]netip.Prefix)
	var organisation uuid.UUID
	var ref string
	var wrapped []byte
	_, err = pgx.ForEachRow(rows, []any{&organisation, &ref, &wrapped}, func() error {
		all := prefixes[organisation] // known to have a list, whatever is in it
		b, err := d.cfg.Ring.UnwrapSecret(keyring.Network, organisation, organisation, wrapped)
		var p netip.Prefix
		if err == nil && p.UnmarshalBinary(b) == nil && p.IsValid() {
			all = append(all, p)
		}
		prefixes[organisation], wrapped = all, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read allowlist: %w", err)
	}
	lists := make(map[uuid.UUID]ipallow.List, len(prefixes))
	for organisation, all := range prefixes {
		lists[organisation] = ipallow.NewList(organisation, all)
	}
	return lists, nil
}

// Admit says to which organisations' consoles an address is admitted now.
func (d *Desk) Admit(ctx context.Context, from netip.Addr) ([]ipallow.Admission, error) {
	lists, err := d.lists(ctx)
	if err != nil {
		return nil, err
	}
	var all []ipallow.Admission
	for _, l := range lists {
		if a, ok := l.Check(from); ok {
			all = append(all, a)
		}
	}
	return all, nil
}

const sqlOrganisationIDs = "select organisation_id from access.organisations()"

// AdmitSetUp is Admit for the set-up, which this machine itself may also use while an organisation's list is empty.
func (d *Desk) AdmitSetUp(ctx context.Context, from netip.Addr) ([]ipallow.Admission, error) {
	lists, err := d.lists(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := d.cfg.Pool.Query(ctx, sqlOrganisationIDs)
	if err != nil {
		return nil, fmt.Errorf("list organisations: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("list organisations: %w", err)
	}
	var all []ipallow.Admission
	for _, id := range ids {
		check := ipallow.NewList(id, nil).CheckFirstRun
		if l, ok := lists[id]; ok { // a list of which no entry opens is not an empty one
			check = l.Check
		}
		if a, ok := check(from); ok {
			all = append(all, a)
		}
	}
	return all, nil
}

// admitted finds the admission to one organisation.
func admitted(all []ipallow.Admission, organisation uuid.UUID) (ipallow.Admission, bool) {
	for _, a := range all {
		if a.Organisation() == organisation {
			return a, true
		}
	}
	return ipallow.Admission{}, false
}

// network is an entry as it is stored.
func (d *Desk) network(ctx context.Context, organisation uuid.UUID, p netip.Prefix) (ref string, wrapped []byte, err error) {
	if ref, err = d.cfg.Gate.ReferenceText(ctx, organisation, "network", p.String()); err != nil {
		return "", nil, err
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return "", nil, errors.New("this is no network")
	}
	wrapped, err = d.cfg.Ring.WrapSecret(keyring.Network, organisation, organisation, b)
	return ref, wrapped, err
}

const sqlAllow = "select access.allow_network($1, $2, $3)"

// Allow puts a network on the allowlist and says whether it is new there. The caller has it recorded.
func (d *Desk) Allow(ctx context.Context, organisation uuid.UUID, p netip.Prefix) (added bool, err error) {
	ref, wrapped, err := d.network(ctx, organisation, p)
	if err == nil {
		err = d.cfg.Pool.QueryRow(ctx, sqlAllow, organisation, ref, wrapped).Scan(&added)
	}
	if err != nil {
		return false, fmt.Errorf("add to allowlist: %w", err)
	}
	return added, nil
}

const sqlDisallow = "select access.disallow_network($1, $2)"

// Disallow takes a network off the allowlist and says whether it was there. The caller has it recorded.
func (d *Desk) Disallow(ctx context.Context, organisation uuid.UUID, p netip.Prefix) (removed bool, err error) {
	ref, err := d.cfg.Gate.ReferenceText(ctx, organisation, "network", p.String())
	if err == nil {
		err = d.cfg.Pool.QueryRow(ctx, sqlDisallow, organisation, ref).Scan(&removed)
	}
	if err != nil {
		return false, fmt.Errorf("take off allowlist: %w", err)
	}
	return removed, nil
}

// counted is what attempts are counted by. own is an account's and begins anew after a success; shared is counted
// together with others.
type counted struct {
	own, shared  []string
	free, atMost []int32 // for own, then shared
}

// The limits: from the fifth failure in a row an account waits, for a quarter of an hour from the ninth on, and for an
// operator from the hundredth. A network may fail as often as a few people do, everybody together as often as many.
const (
	accountFree, accountLast = 5, 100
	networkFree              = 20
	everybodyFree            = 200
)

// count makes the names under which an attempt on an account is counted. about is a keyed reference.
func (d *Desk) count(ctx context.Context, from ipallow.Admission, kind, about string) (counted, error) {
	network, err := d.cfg.Gate.ReferenceText(ctx, from.Organisation(), "network", ipallow.Subscriber(from.Address()).String())
	if err != nil {
		return counted{}, err
	}
	c := counted{shared: []string{kind + " from " + network, kind}, free: []int32{networkFree, everybodyFree}, atMost: []int32{0, 0}}
	if about != "" {
		c.own, c.free, c.atMost = []string{kind + " of " + about}, append([]int32{accountFree}, c.free...), append([]int32{accountLast}, c.atMost...)
	}
	return c, nil
}

const sqlAttempt = "select access.attempt($1, $2, $3, $4)"

// attempt counts an attempt, in a transaction of its own, before it is made; so no number of attempts at once, no restart
// and no failing request makes a free one. It gives a WaitError when the attempt must not be made.
func (d *Desk) attempt(ctx context.Context, organisation uuid.UUID, c counted) error {
	var seconds int
	if err := d.cfg.Pool.QueryRow(ctx, sqlAttempt, organisation, append(c.own[:len(c.own):len(c.own)], c.shared...), c.free, c.atMost).Scan(&seconds); err != nil {
		return fmt.Errorf("count attempt: %w", err)
	}
	if seconds > 0 {
		return WaitError{time.Duration(seconds) * time.Second}
	}
	return nil
}

const sqlSucceeded = "select access.attempt_succeeded($1, $2, $3)"

func (d *Desk) succeeded(ctx context.Context, organisation uuid.UUID, c counted) error {
	if _, err := d.cfg.Pool.Exec(ctx, sqlSucceeded, organisation, c.own, c.shared); err != nil {
		return fmt.Errorf("count attempt: %w", err)
	}
	return nil
}

const sqlForget = "select access.forget_failures($1)"

// Forget lets everybody try again. The caller has it recorded.
func (d *Desk) Forget(ctx context.Context, organisation uuid.UUID) (forgotten int64, err error) {
	if err := d.cfg.Pool.QueryRow(ctx, sqlForget, organisation).Scan(&forgotten); err != nil {
		return 0, fmt.Errorf("forget attempts: %w", err)
	}
	return forgotten, nil
}

// account is a name found in the organisation of an admission.
type account struct {
	from     ipallow.Admission
	admin    uuid.UUID
	password string // hash; empty when the name is nobody's
	counted  counted
}

const sqlAdminByName = "select coalesce(admin_id, '00000000-0000-0000-0000-000000000000'), coalesce(password, '') from access.admin_by_name($1, $2)"

// Password checks name and password and gives the token of the five minutes in which the code is owed. Whether the
// name is somebody's makes no difference in the answer or in the work.
func (d *Desk) Password(ctx context.Context, from []ipallow.Admission, name, password string) (token string, err error) {
	name, password = foldName(name), normal(password)
	var all []account
	for _, a := range from {
		ref, err := d.cfg.Gate.ReferenceText(ctx, a.Organisation(), "admin name", name)
		if err != nil {
			return "", err
		}
		c, err := d.count(ctx, a, "passwords", ref)
		if err != nil {
			return "", err
		}
		if err := d.attempt(ctx, a.Organisation(), c); err != nil {
			return "", err
		}
		found := account{from: a, counted: c}
		if err := d.cfg.Pool.QueryRow(ctx, sqlAdminByName, a.Organisation(), ref).Scan(&found.admin, &found.password); err != nil {
			return "", fmt.Errorf("find administrator: %w", err)
		}
		all = append(all, found)
	}
	var right *account
	for i := range all {
		ok, err := d.hash.check(ctx, all[i].password, password)
		if err != nil {
			return "", err
		}
		if ok {
			right = &all[i]
		}
	}
	for i, a := range all {
		action := "sign_in.password_refused"
		if right == &all[i] {
			action = "sign_in.password"
		} else if right != nil { // the name is tried in each organisation that admits the address; one is enough
			if err := d.succeeded(ctx, a.from.Organisation(), a.counted); err != nil {
				return "", err
			}
			continue
		}
		if err := d.cfg.Gate.Door(ctx, a.from.Organisation(), a.admin, a.from.Address(), action, nil); err != nil {
			return "", err
		}
		if right != &all[i] && a.admin != uuid.Nil {
			if err := d.notify(ctx, a.from.Organisation(), a.admin, action); err != nil {
				return "", err
			}
		}
	}
	if right == nil {
		return "", ErrRefused
	}
	if err := d.succeeded(ctx, right.from.Organisation(), right.counted); err != nil {
		return "", err
	}
	return d.open(ctx, right.from, right.admin)
}

const sqlOpenSession = "select access.open_session($1, $2, $3, $4, $5, $6)"

func (d *Desk) open(ctx context.Context, from ipallow.Admission, admin uuid.UUID) (token string, err error) {
	address, err := d.addressRef(ctx, from)
	if err != nil {
		return "", err
	}
	s := session{from: from, id: uuid.New(), admin: admin, stage: "password", address: address}
	token, hash := newToken()
	seal, err := d.sessionSeal(ctx, s, token)
	if err != nil {
		return "", err
	}
	if _, err := d.cfg.Pool.Exec(ctx, sqlOpenSession, from.Organisation(), s.id, admin, hash, address, seal); err != nil {
		return "", fmt.Errorf("open session: %w", err)
	}
	return token, nil
}

func (s session) says(token string) string {
	return strings.Join([]string{"session", token, s.id.String(), s.admin.String(), s.stage, s.address, s.steppedFor, s.steppedBy}, "\x00")
}

func (d *Desk) sessionSeal(ctx context.Context, s session, token string) (string, error) {
	return d.cfg.Gate.ReferenceText(ctx, s.organisation(), sealed, s.says(token))
}

func (d *Desk) addressRef(ctx context.Context, from ipallow.Admission) (string, error) {
	return d.cfg.Gate.ReferenceText(ctx, from.Organisation(), "address", from.Address().String())
}

// session is a living session together with the admission of the address that presents it.
type session struct {
	from  ipallow.Admission
	of    uuid.UUID // organisation, while nothing is admitted
	id    uuid.UUID
	admin uuid.UUID
	stage string
	roles []string

	address               string // reference
	steppedFor, steppedBy string
	news                  News
}

// News says whether there is something to be told to whoever has a session, as the session was found.
type News struct {
	Consents bool // of a second person are in force
	Networks bool // a change of the allowlist is on trial, or came from the host
	Notices  bool // of his own account
}

func (s session) organisation() uuid.UUID {
	if s.of != uuid.Nil {
		return s.of
	}
	return s.from.Organisation()
}

const sqlResume = `select organisation_id, session_id, admin_id, stage, address_ref, roles, seal, admin_seal, stepped_for, stepped_by, consents, networks, notices
	from access.resume_session($1) where session_id is not null`

// resume finds a living session. One that is presented from another address than its own, or from one that is not on
// the allowlist any more, is ended, on record: its token may have been stolen. So is one that this service never opened, or
// whose administrator was given roles that it never gave him.
func (d *Desk) resume(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string) (session, error) {
	var s session
	var seal string
	var adminSeal *string
	err := d.cfg.Pool.QueryRow(ctx, sqlResume, tokenHash(token)).Scan(&s.of, &s.id, &s.admin, &s.stage, &s.address, &s.roles, &seal, &adminSeal, &s.steppedFor, &s.steppedBy,
		&s.news.Consents, &s.news.Networks, &s.news.Notices)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, ErrNoSession
	case err != nil:
		return s, fmt.Errorf("resume session: %w", err)
	}
	why, err := d.suspect(ctx, &s, admissions, token, seal, adminSeal)
	if err != nil || why == "" {
		return s, err
	}
	facts := map[string]string{"reason": why}
	if err := d.began(ctx, token, facts); err != nil {
		return s, err
	}
	if err := d.cfg.Gate.Door(ctx, s.of, s.admin, from, "session.refused", facts); err != nil {
		return s, err
	}
	if err := d.notify(ctx, s.of, s.admin, "session.refused"); err != nil {
		return s, err
	}
	if err := d.end(ctx, s.of, s.id); err != nil {
		return s, err
	}
	return session{}, ErrNoSession
}

// suspect says what is wrong with a session, if anything is.
func (d *Desk) suspect(ctx context.Context, s *session, admissions []ipallow.Admission, token, seal string, adminSeal *string) (why string, err error) {
	var ok bool
	s.from, ok = admitted(admissions, s.of)
	want, err := d.cfg.Gate.ReferenceTexts(ctx, s.of, [2]string{sealed, s.says(token)}, [2]string{sealed, adminSays(s.admin, s.roles)}, [2]string{"address", s.from.Address().String()})
	switch {
	case err != nil:
		return "", err
	case seal != want[0]:
		return "not_opened_here", nil
	case adminSeal != nil && *adminSeal != want[1]:
		return "roles_not_given_here", nil
	case !ok:
		return "address_not_admitted", nil
	case s.address != want[2]:
		return "another_address", nil
	}
	return "", nil
}

// began adds to the facts of a record when the session under a token began, once its code was given.
func (d *Desk) began(ctx context.Context, token string, facts map[string]string) error {
	proof, _, err := d.codes.Recall(ctx, tokenHash(token))
	if err == nil && proof.Admin() != uuid.Nil {
		facts[access.FactSession] = access.Began(proof.At())
	}
	return err
}

const sqlEndSession = "select access.end_session($1, $2)"

func (d *Desk) end(ctx context.Context, organisation, id uuid.UUID) error {
	if _, err := d.cfg.Pool.Exec(ctx, sqlEndSession, organisation, id); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// Waits reports whether a code is owed under this token.
func (d *Desk) Waits(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string) error {
	s, err := d.resume(ctx, admissions, from, token)
	if err == nil && s.stage != "password" {
		err = ErrNoSession
	}
	return err
}

const sqlSignIn = "select access.sign_in($1, $2, $3, $4, $5, $6)"

// Code checks the one-time code and gives the token of the session, a new one.
func (d *Desk) Code(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token, code string) (string, error) {
	s, c, err := d.second(ctx, admissions, from, token)
	if err != nil {
		return "", err
	}
	organisation := s.from.Organisation()
	proof, err := d.verify(ctx, organisation, s.admin, code)
	if errors.Is(err, totp.ErrWrong) {
		return "", d.refused(ctx, s, "sign_in.code_refused")
	}
	if err != nil {
		return "", err
	}
	if err := d.cfg.Gate.Door(ctx, organisation, s.admin, s.from.Address(), "sign_in.complete", map[string]string{"roles": strings.Join(s.roles, ",")}); err != nil {
		return "", err
	}
	if err := d.cfg.Gate.KeepAddress(ctx, organisation, s.admin, s.from.Address(), s.address); err != nil {
		return "", err
	}
	if err := d.saw(ctx, s); err != nil {
		return "", err
	}
	fresh, hash := newToken()
	next := session{from: s.from, id: uuid.New(), admin: s.admin, stage: "signed_in", address: s.address}
	seal, err := d.sessionSeal(ctx, next, fresh)
	if err != nil {
		return "", err
	}
	var done bool
	if err := d.cfg.Pool.QueryRow(ctx, sqlSignIn, organisation, s.id, proof.Step(), next.id, hash, seal).Scan(&done); err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	if !done {
		return "", ErrNoSession
	}
	return fresh, d.succeeded(ctx, organisation, c)
}

// second finds who owes a second factor and counts his attempt, apart from those at his password.
func (d *Desk) second(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string) (session, counted, error) {
	return d.counts(ctx, admissions, from, token, "password", "codes")
}

// counts finds a session in a stage and counts an attempt of its administrator.
func (d *Desk) counts(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token, stage, kind string) (session, counted, error) {
	s, err := d.resume(ctx, admissions, from, token)
	if err != nil {
		return s, counted{}, err
	}
	if s.stage != stage {
		return s, counted{}, ErrNoSession
	}
	ref, err := d.cfg.Gate.Reference(ctx, s.from.Organisation(), s.admin)
	if err != nil {
		return s, counted{}, err
	}
	c, err := d.count(ctx, s.from, kind, ref)
	if err != nil {
		return s, c, err
	}
	return s, c, d.attempt(ctx, s.from.Organisation(), c)
}

func (d *Desk) refused(ctx context.Context, s session, action string) error {
	if err := d.cfg.Gate.Door(ctx, s.from.Organisation(), s.admin, s.from.Address(), action, nil); err != nil {
		return err
	}
	if err := d.notify(ctx, s.from.Organisation(), s.admin, action); err != nil {
		return err
	}
	return ErrRefused
}

// Resume gives who is signed in under a token.
func (d *Desk) Resume(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string) (principal.Admin, error) {
	admin, _, err := d.ResumeWithNews(ctx, admissions, from, token)
	return admin, err
}

// ResumeWithNews is Resume that says also whether there is something to be told.
func (d *Desk) ResumeWithNews(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string) (principal.Admin, News, error) {
	s, err := d.resume(ctx, admissions, from, token)
	if err != nil {
		return principal.Admin{}, News{}, err
	}
	proof, fresh, err := d.codes.Recall(ctx, tokenHash(token))
	if err != nil {
		return principal.Admin{}, News{}, err
	}
	admin, err := principal.NewAdmin(s.from.Organisation(), s.admin, s.roles, proof, s.from, d.cfg.Now())
	if err != nil { // such as while the code is still owed
		return principal.Admin{}, News{}, fmt.Errorf("%w: %w", ErrNoSession, err)
	}
	return admin.SteppedUp(fresh), s.news, nil
}

// SignOut ends a session.
func (d *Desk) SignOut(ctx context.Context, admissions []ipallow.Admission, from netip.Addr, token string) error {
	s, err := d.resume(ctx, admissions, from, token)
	if err != nil {
		return err
	}
	facts := map[string]string{"stage": s.stage}
	if err := d.began(ctx, token, facts); err != nil {
		return err
	}
	if err := d.end(ctx, s.from.Organisation(), s.id); err != nil {
		return err
	}
	return d.cfg.Gate.Door(ctx, s.from.Organisation(), s.admin, s.from.Address(), "sign_out", facts)
}
