package signin_test

import (
	"context"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp/hotp"

	"counterfoil/audit"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

var (
	here      = netip.MustParseAddr("127.0.0.1")
	elsewhere = netip.MustParseAddr("203.0.113.9")
)

const (
	name     = "Ada Canary"
	password = "four unrelated words, here"
)

// place is a desk over a world of its own, with a clock that can be put forward.
type place struct {
	*relaytest.World
	*signin.Desk
	ahead atomic.Int64 // seconds
}

func newPlace(t *testing.T, w *relaytest.World) *place {
	t.Helper()
	p := &place{World: w}
	p.Desk = signin.New(signin.Config{Pool: w.Pool, Gate: w.Gate, Ring: w.Ring, Now: p.now})
	return p
}

func (p *place) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load()) * time.Second) }

// phone is an authenticator.
type phone struct {
	place *place
	seed  string
}

func newPhone(p *place, e signin.Enrolment) phone {
	return phone{p, strings.ReplaceAll(e.Card.Key, " ", "")}
}

// code waits for the beginning of the next time step, so that each code is a fresh one with time to be used however slow this machine is.
func (p phone) code(t *testing.T) string {
	t.Helper()
	p.place.ahead.Add(31 - p.place.now().Unix()%30)
	return p.present(t)
}

func (p phone) present(t *testing.T) string {
	t.Helper()
	c, err := hotp.GenerateCode(p.seed, uint64(p.place.now().Unix()/30))
	must(t, err)
	return c
}

// wrong is a code that is not the present one, nor one near it.
func (p phone) wrong(t *testing.T) string {
	t.Helper()
	right := p.present(t)
	return fmt.Sprintf("%06d", (int(right[0]-'0')*100000+1+atoi(right))%1000000)
}

func atoi(s string) (n int) {
	for _, r := range s {
		n = n*10 + int(r-'0')
	}
	return n
}

func (p *place) admit(t *testing.T, from netip.Addr) []ipallow.Admission {
	t.Helper()
	all, err := p.Admit(t.Context(), from)
	must(t, err)
	return all
}

// setUp makes an administrator from this machine.
func (p *place) setUp(t *testing.T, name string) (phone, []string) {
	t.Helper()
	link, err := p.NewLink(t.Context(), p.Organisation.ID, []string{"auditor", "security_admin"})
	must(t, err)
	from, err := p.AdmitSetUp(t.Context(), here)
	must(t, err)
	e, err := p.Begin(t.Context(), from, link.Token, name, password)
	must(t, err)
	ph := newPhone(p, e)
	codes, _, err := p.Confirm(t.Context(), from, link.Token, ph.code(t))
	must(t, err)
	return ph, codes
}

// signIn gives the token of a session.
func (p *place) signIn(t *testing.T, ph phone, from netip.Addr) string {
	t.Helper()
	waiting, err := p.Password(t.Context(), p.admit(t, from), name, password)
	must(t, err)
	token, err := p.Code(t.Context(), p.admit(t, from), from, waiting, ph.code(t))
	must(t, err)
	return token
}

func (p *place) resume(t *testing.T, from netip.Addr, token string) (principal.Admin, error) {
	t.Helper()
	return p.Resume(t.Context(), p.admit(t, from), from, token)
}

func (p *place) allow(t *testing.T, organisation uuid.UUID, prefix string) {
	t.Helper()
	_, err := p.Allow(t.Context(), organisation, netip.MustParsePrefix(prefix))
	must(t, err)
}

// actions are those recorded so far.
func (p *place) actions(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, e := range p.Entries(t) {
		all = append(all, e.Action)
	}
	return all
}

func (p *place) last(t *testing.T) audit.Entry {
	t.Helper()
	all := p.Entries(t)
	return all[len(all)-1]
}

func (p *place) sql(t *testing.T, statement string) {
	t.Helper()
	_, err := p.DB.Superuser(t).Exec(t.Context(), statement)
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func waits(t *testing.T, what string, err error) {
	t.Helper()
	var wait signin.WaitError
	if !errors.As(err, &wait) || wait.For <= 0 {
		t.Errorf("%s: %v, want to be told to wait", what, err)
	}
}

// AUTH-PW-02, AUTH-TOTP-04, AUTH-TOTP-12, AUTH-IP-11.
func TestASetUpLinkMakesOneAdministratorWithAnAuthenticator(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ctx := t.Context()
	link, err := p.NewLink(ctx, p.Organisation.ID, []string{"auditor", "security_admin"})
	must(t, err)
	if len(p.admit(t, here)) != 0 {
		t.Error("an empty allowlist admits")
	}
	if away, err := p.AdmitSetUp(ctx, elsewhere); err != nil || len(away) != 0 {
		t.Errorf("the first set-up is admitted from elsewhere: %v", err)
	}
	from, err := p.AdmitSetUp(ctx, here)
	must(t, err)
	_, _, err = p.Confirm(ctx, from, link.Token, "000000")
	refused(t, "a code before anything was chosen", err, signin.ErrLink)
	_, err = p.Begin(ctx, from, link.Token+"x", name, password)
	refused(t, "a link that is none", err, signin.ErrLink)
	_, err = p.Begin(ctx, nil, link.Token, name, password)
	refused(t, "a link from an address that is not admitted", err, signin.ErrLink)

	first, err := p.Begin(ctx, from, link.Token, "A mistyped name", password)
	must(t, err)
	e, err := p.Begin(ctx, from, link.Token, name, password)
	must(t, err)
	ph := newPhone(p, e)
	if _, _, err = p.Confirm(ctx, from, link.Token, newPhone(p, first).present(t)); ph.present(t) != newPhone(p, first).present(t) {
		refused(t, "a code of the seed that was replaced", err, signin.ErrRefused)
	}
	if all, err := p.Admins(ctx, p.Organisation.ID); err != nil || len(all) != 0 {
		t.Errorf("before a code was given there are %d administrators, %v", len(all), err)
	}
	_, again, err := p.Confirm(ctx, from, link.Token, ph.wrong(t))
	refused(t, "a wrong code", err, signin.ErrRefused)
	if again.Card.Key != e.Card.Key || again.Handle != e.Handle {
		t.Error("after a wrong code another seed is shown")
	}
	right := ph.code(t)
	codes, _, err := p.Confirm(ctx, from, link.Token, right)
	must(t, err)
	if len(codes) != 10 || len(codes[0]) != 19 {
		t.Errorf("recovery codes: %d", len(codes))
	}
	if e := p.last(t); e.Action != "admin.set_up" || e.Actor.Kind != "admin" || !strings.HasPrefix(e.Actor.Ref, again.Handle[len("admin "):]) || e.Address == "" || e.AddressNet == "" {
		t.Errorf("the record of the set-up: %+v", e)
	}
	if all, err := p.Admins(ctx, p.Organisation.ID); err != nil || len(all) != 1 || all[0].CodesLeft != 10 || !slices.Equal(all[0].Roles, []string{"auditor", "security_admin"}) {
		t.Errorf("administrators: %+v, %v", all, err)
	}

	_, err = p.Begin(ctx, from, link.Token, "Another name", password)
	refused(t, "the link a second time", err, signin.ErrLink)
	_, _, err = p.Confirm(ctx, from, link.Token, ph.code(t))
	refused(t, "the link a second time", err, signin.ErrLink)

	if len(p.admit(t, here)) != 1 || len(p.admit(t, elsewhere)) != 0 {
		t.Error("the allowlist is not exactly the address of the set-up")
	}
	p.ahead.Store(0)
	for p.present(t, ph) != right { // back in the step of the set-up
		p.ahead.Add(30)
	}
	waiting, err := p.Password(ctx, p.admit(t, here), name, password)
	must(t, err)
	_, err = p.Code(ctx, p.admit(t, here), here, waiting, right)
	refused(t, "the code of the set-up to sign in", err, signin.ErrRefused)
}

func (p *place) present(t *testing.T, ph phone) string { return ph.present(t) }

func TestASetUpLinkEnds(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	from, err := p.AdmitSetUp(t.Context(), here)
	must(t, err)
	link, err := p.NewLink(t.Context(), p.Organisation.ID, []string{"auditor"})
	must(t, err)
	if left := time.Until(link.Ends); left > 30*time.Minute || left < 29*time.Minute {
		t.Errorf("a link is good for %s", left)
	}
	e, err := p.Begin(t.Context(), from, link.Token, name, password)
	must(t, err)
	ph := newPhone(p, e)
	p.sql(t, "update console.setup set begun_at = begun_at - interval '10 minutes'")
	_, _, err = p.Confirm(t.Context(), from, link.Token, ph.code(t))
	refused(t, "ten minutes after the seed was shown", err, signin.ErrLink)
	_, err = p.Begin(t.Context(), from, link.Token, name, password)
	must(t, err)
	p.sql(t, "update console.setup set expires_at = now()")
	_, err = p.Begin(t.Context(), from, link.Token, name, password)
	refused(t, "after its end", err, signin.ErrLink)
	_, _, err = p.Confirm(t.Context(), from, link.Token, ph.code(t))
	refused(t, "after its end", err, signin.ErrLink)
}

func TestANameIsTakenOnce(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	p.setUp(t, name)
	link, err := p.NewLink(t.Context(), p.Organisation.ID, []string{"approver"})
	must(t, err)
	_, err = p.Begin(t.Context(), p.admit(t, here), link.Token, " ADA canary ", password)
	var choice signin.ChoiceError
	if !errors.As(err, &choice) || choice.Why != signin.NameTaken {
		t.Errorf("the name a second time: %v", err)
	}
	p.setUp(t, "Somebody else")
}

// AUTH-TOTP-08, AUTH-SESS-01, AUTH-SESS-02.
func TestSigningInTakesPasswordThenCode(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ctx := t.Context()
	ph, _ := p.setUp(t, name)
	from := p.admit(t, here)
	waiting, err := p.Password(ctx, from, "  ada CANARY", password)
	must(t, err)
	must(t, p.Waits(ctx, from, here, waiting))
	_, err = p.resume(t, here, waiting)
	refused(t, "the password alone", err, signin.ErrNoSession)
	_, err = p.Code(ctx, from, here, waiting, ph.wrong(t))
	refused(t, "a wrong code", err, signin.ErrRefused)
	right := ph.code(t)
	token, err := p.Code(ctx, from, here, waiting, right)
	must(t, err)
	if token == waiting {
		t.Error("the token is the same after the code")
	}
	_, err = p.Code(ctx, from, here, waiting, ph.code(t))
	refused(t, "the wait for a code a second time", err, signin.ErrNoSession)
	refused(t, "the wait for a code afterwards", p.Waits(ctx, from, here, waiting), signin.ErrNoSession)
	refused(t, "a session in place of the wait", p.Waits(ctx, from, here, token), signin.ErrNoSession)
	_, err = p.Code(ctx, from, here, token, ph.code(t))
	refused(t, "a session in place of the wait", err, signin.ErrNoSession)

	admin, err := p.resume(t, here, token)
	must(t, err)
	must(t, p.Gate.Act(ctx, admin, policy.ReadAuditLog, p.Organisation.ID, "console.events", nil))
	e := p.last(t)
	if e.Decision != "allow" || e.Rule != "read_audit_log.admin" || e.Actor.Kind != "admin" || e.Address == "" ||
		e.Facts["actor.roles"] != "auditor,security_admin" || e.Facts["actor.address"] != "admitted" || !strings.HasPrefix(e.Facts["actor.factors"], "password:") || !strings.Contains(e.Facts["actor.factors"], "totp:") {
		t.Errorf("the record of a reading: %+v", e)
	}
	if err := p.Gate.Act(ctx, admin, policy.ReadAuditLog, uuid.New(), "console.events", nil); err == nil {
		t.Error("an administrator reads the log of another organisation")
	}
	must(t, p.SignOut(ctx, from, here, token))
	_, err = p.resume(t, here, token)
	refused(t, "after the sign-out", err, signin.ErrNoSession)
	for _, want := range []string{"sign_in.password", "sign_in.code_refused", "sign_in.complete", "sign_out"} {
		if !slices.Contains(p.actions(t), want) {
			t.Errorf("%s is not in the log", want)
		}
	}
	// The same code for a new sign-in.
	waiting, err = p.Password(ctx, from, name, password)
	must(t, err)
	for ph.present(t) != right {
		p.ahead.Add(-30)
	}
	_, err = p.Code(ctx, from, here, waiting, right)
	refused(t, "a code that was used", err, signin.ErrRefused)
}

func TestWhoHasNoRoleForItIsDenied(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, _ := p.setUp(t, name)
	p.sql(t, "update console.admin set roles = '{auditor}', seal = null") // as one of those set up before there were seals
	admin, err := p.resume(t, here, p.signIn(t, ph, here))
	must(t, err)
	must(t, p.Gate.Act(t.Context(), admin, policy.ReadAuditLog, p.Organisation.ID, "console.events", nil))
	err = p.Gate.Act(t.Context(), admin, policy.Administer, p.Organisation.ID, "allowlist.add", nil)
	if e := p.last(t); err == nil || e.Kind != audit.Denial || !slices.Contains(e.Reasons, "role_missing") {
		t.Errorf("an auditor administers: %v, %+v", err, e)
	}
}

// AUTH-TOTP-08: one answer, and the same work.
func TestAStrangerLearnsNothingFromARefusal(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	p.setUp(t, name)
	from := p.admit(t, here)
	spent := map[string]time.Duration{}
	for range 5 {
		for _, who := range []string{name, "Nobody Known"} {
			start := time.Now()
			_, err := p.Password(t.Context(), from, who, "not the right words at all")
			d := time.Since(start)
			if err == nil || err.Error() != signin.ErrRefused.Error() {
				t.Errorf("%v", err)
			}
			if spent[who] == 0 || d < spent[who] {
				spent[who] = d
			}
		}
	}
	if ratio := float64(spent["Nobody Known"]) / float64(spent[name]); ratio < 0.5 || ratio > 2 {
		t.Errorf("an unknown name takes %.2f times as long as a wrong password", ratio)
	}
	known, unknown := 0, 0
	for _, e := range p.Entries(t) {
		if e.Action == "sign_in.password_refused" && e.Actor.Ref != "" {
			known++
		} else if e.Action == "sign_in.password_refused" {
			unknown++
		}
	}
	if known != 5 || unknown != 5 {
		t.Errorf("%d and %d refusals are in the log, want 5 of each", known, unknown)
	}
}

// AUTH-RATE-01, AUTH-RATE-02.
func TestFailedAttemptsAreCountedOnEveryNodeAndOutliveIt(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, _ := p.setUp(t, name)
	from := p.admit(t, here)
	other := signin.New(signin.Config{Pool: p.DB.Pool(t, "counterfoil_service"), Gate: p.Gate, Ring: p.Ring, Now: p.now})
	var wg sync.WaitGroup
	var made, held atomic.Int32
	for i := range 24 {
		wg.Go(func() {
			desk := []*signin.Desk{p.Desk, other}[i%2]
			_, err := desk.Password(t.Context(), from, name, fmt.Sprintf("a wrong guess, number %d", i))
			var wait signin.WaitError
			switch {
			case errors.Is(err, signin.ErrRefused):
				made.Add(1)
			case errors.As(err, &wait):
				held.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 5 || held.Load() != 19 {
		t.Errorf("of 24 guesses at once %d were tried and %d held back, want 5 and 19", made.Load(), held.Load())
	}
	p.sql(t, "update console.failure set blocked_until = blocked_until + interval '1 hour'") // however slow this machine is
	restarted := signin.New(signin.Config{Pool: p.DB.Pool(t, "counterfoil_service"), Gate: p.Gate, Ring: p.Ring, Now: p.now})
	_, err := restarted.Password(t.Context(), from, name, password)
	waits(t, "the right password while waiting, after a restart", err)
	p.sql(t, "update console.failure set blocked_until = now() where blocked_until is not null")
	token := p.signIn(t, ph, here) // having waited
	if _, err := p.resume(t, here, token); err != nil {
		t.Error(err)
	}
	_, err = p.Password(t.Context(), from, name, "one more wrong password")
	refused(t, "after a success the count begins anew", err, signin.ErrRefused)

	p.sql(t, "insert into console.failure select organisation_id, about, 99, now(), null from console.failure where about like 'passwords of %' on conflict (organisation_id, about) do update set failures = 99")
	_, err = p.Password(t.Context(), from, name, "the hundredth wrong one")
	refused(t, "the hundredth", err, signin.ErrRefused)
	p.sql(t, "update console.failure set last_at = now() - interval '30 days' where about like 'passwords of %'")
	_, err = p.Password(t.Context(), from, name, password)
	waits(t, "after a hundred, for good", err)
	_, err = p.Forget(t.Context(), p.Organisation.ID)
	must(t, err)
	p.signIn(t, ph, here)
}

func TestTheWaitGrowsWithEachFailure(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	conn := p.DB.Superuser(t)
	var got []int
	for range 12 {
		var seconds int
		must(t, p.Pool.QueryRow(t.Context(), "select access.attempt($1, '{x}', '{5}', '{100}')", p.Organisation.ID).Scan(&seconds))
		if seconds != 0 {
			t.Fatalf("held back for %d s though the wait is over", seconds)
		}
		var blocked *float64
		must(t, conn.QueryRow(t.Context(), "select extract(epoch from blocked_until - last_at) from console.failure").Scan(&blocked))
		if blocked == nil {
			got = append(got, 0)
		} else {
			got = append(got, int(*blocked+0.5))
		}
		p.sql(t, "update console.failure set blocked_until = now() where blocked_until is not null")
	}
	if want := []int{0, 0, 0, 0, 4, 16, 64, 256, 900, 900, 900, 900}; !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
}

// AUTH-RATE-02: codes apart from passwords, and not reset by a right password.
func TestGuessingCodesIsStoppedThoughThePasswordIsRight(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, codes := p.setUp(t, name)
	from := p.admit(t, here)
	tried := 0
	var err error
	for range 8 {
		var waiting string
		waiting, err = p.Password(t.Context(), from, name, password)
		must(t, err)
		if _, err = p.Code(t.Context(), from, here, waiting, ph.wrong(t)); errors.Is(err, signin.ErrRefused) {
			tried++
		}
	}
	waits(t, "the eighth guess", err)
	if tried != 5 {
		t.Errorf("%d codes could be tried, want 5", tried)
	}
	p.sql(t, "update console.failure set blocked_until = blocked_until + interval '1 hour'") // however slow this machine is
	waiting, err := p.Password(t.Context(), from, name, password)
	must(t, err)
	_, err = p.Code(t.Context(), from, here, waiting, ph.code(t))
	waits(t, "the right code while waiting", err)
	// AUTH-RATE-03: whoever guesses codes does not shut the owner out.
	for range 5 {
		_, _, err = p.Recover(t.Context(), from, here, waiting, "aaaa-bbbb-cccc-dddd")
		refused(t, "a recovery code that is none", err, signin.ErrRefused)
	}
	_, _, err = p.Recover(t.Context(), from, here, waiting, codes[0])
	waits(t, "a recovery code after five wrong ones", err)
	p.sql(t, "delete from console.failure where about like 'recoveries%'")
	if _, _, err = p.Recover(t.Context(), from, here, waiting, codes[0]); err != nil {
		t.Errorf("a recovery code while codes are waited for: %v", err)
	}
}

// AUTH-RATE-01, AUTH-RATE-03: who stuffs passwords into many accounts from one network is held back, and shuts nobody out who has a recovery code.
func TestWhoTriesManyAccountsIsHeldBackAndShutsNobodyOutWhoHasARecoveryCode(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, codes := p.setUp(t, name)
	from := p.admit(t, here)
	tried := 0
	var err error
	for i := range 30 { // each account once
		if _, err = p.Password(t.Context(), from, fmt.Sprintf("somebody number %d", i), "Winter2026!Winter2026!"); !errors.Is(err, signin.ErrRefused) {
			break
		}
		tried++
	}
	waits(t, "many accounts from one network", err)
	if tried != 20 {
		t.Errorf("%d accounts could be tried from one network, want 20", tried)
	}
	for _, about := range []string{"update console.failure set blocked_until = 'infinity'",
		"insert into console.failure select organisation_id, 'passwords', 5000, now(), 'infinity' from console.failure limit 1 on conflict (organisation_id, about) do update set blocked_until = 'infinity'"} {
		p.sql(t, about)
	}
	_, err = p.Password(t.Context(), from, name, password)
	waits(t, "the owner, meanwhile", err)
	refused(t, "a recovery code that is none", p.Unlock(t.Context(), from, name, "aaaa-bbbb-cccc-dddd"), signin.ErrRefused)
	refused(t, "that of another", p.Unlock(t.Context(), from, "somebody number 3", codes[0]), signin.ErrRefused)
	_, err = p.Password(t.Context(), from, name, password)
	waits(t, "the owner, after a wrong one", err)
	for range 40 {
		err = p.Unlock(t.Context(), from, name, "aaaa-bbbb-cccc-dddd")
	}
	waits(t, "wrong recovery codes without end", err)
	must(t, p.Unlock(t.Context(), from, name, codes[0]))
	refused(t, "the same code once more", p.Unlock(t.Context(), from, name, codes[0]), signin.ErrRefused)
	token := p.signIn(t, ph, here)
	if admin, err := p.resume(t, here, token); err != nil || admin.ID() == uuid.Nil {
		t.Error(err)
	}
	done := make(map[string]int)
	for _, e := range p.Entries(t) {
		done[e.Action]++
	}
	if done["sign_in.unlock"] != 1 || done["sign_in.unlock_refused"] < 3 || done["sign_in.unlock_refused"] > 25 {
		t.Errorf("recorded are %d and %d", done["sign_in.unlock"], done["sign_in.unlock_refused"])
	}
}

// AUTH-IP-08: not one's own address alone.
func TestAChangeOfTheAllowlistThatShutsAnotherOutIsRefused(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, _ := p.setUp(t, name)
	office, home := netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24")
	for _, n := range []netip.Prefix{office, home} {
		_, err := p.Allow(t.Context(), p.Organisation.ID, n)
		must(t, err)
	}
	at := func(a string) principal.Admin {
		t.Helper()
		token := p.signIn(t, ph, netip.MustParseAddr(a))
		admin, err := p.resume(t, netip.MustParseAddr(a), token)
		must(t, err)
		return admin
	}
	fromHome := at("203.0.113.9")
	p.sql(t, "delete from console.seen_address")
	fromOffice := at("198.51.100.7")
	for _, c := range []struct {
		name          string
		who           principal.Admin
		change        string
		network       netip.Prefix
		locked, other bool
	}{
		{"his own", fromOffice, signin.Remove, office, true, false},
		{"where nobody was of late", fromOffice, signin.Remove, home, false, false},
		{"where another was, who was nowhere else", fromHome, signin.Remove, office, true, true},
		{"one that admits more", fromHome, signin.Add, netip.MustParsePrefix("192.0.2.0/24"), false, false},
	} {
		err := p.Guard(t.Context(), c.who, c.change, c.network)
		var lockOut signin.LockOutError
		if errors.As(err, &lockOut) != c.locked || lockOut.Other != c.other || err != nil && !c.locked {
			t.Errorf("%s: %v, %+v", c.name, err, lockOut)
		}
	}
	p.sql(t, "update console.seen_address set seen_at = now() - interval '31 days'")
	if err := p.Guard(t.Context(), fromHome, signin.Remove, office); err != nil {
		t.Errorf("where somebody was long ago: %v", err)
	}
}

// AUTH-IP-13.
func TestASessionWorksFromItsOwnAdmittedAddressOnly(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, _ := p.setUp(t, name)
	p.allow(t, p.Organisation.ID, "203.0.113.0/24")
	token := p.signIn(t, ph, here)
	_, err := p.resume(t, elsewhere, token)
	refused(t, "from another admitted address", err, signin.ErrNoSession)
	if e := p.last(t); e.Action != "session.refused" || e.Facts["reason"] != "another_address" || e.Actor.Ref == "" {
		t.Errorf("the record: %+v", e)
	}
	_, err = p.resume(t, here, token)
	refused(t, "a session that was presented elsewhere", err, signin.ErrNoSession)

	token = p.signIn(t, ph, elsewhere)
	if _, err := p.resume(t, elsewhere, token); err != nil {
		t.Fatal(err)
	}
	removed, err := p.Disallow(t.Context(), p.Organisation.ID, netip.MustParsePrefix("203.0.113.0/24"))
	if err != nil || !removed {
		t.Fatal(removed, err)
	}
	if len(p.admit(t, elsewhere)) != 0 {
		t.Error("an address is admitted that was taken off the list")
	}
	_, err = p.Resume(t.Context(), nil, elsewhere, token)
	refused(t, "after the address left the list", err, signin.ErrNoSession)
	if e := p.last(t); e.Action != "session.refused" || e.Facts["reason"] != "address_not_admitted" {
		t.Errorf("the record: %+v", e)
	}
	if _, err := p.Disallow(t.Context(), p.Organisation.ID, netip.MustParsePrefix("127.0.0.1/32")); err != nil {
		t.Fatal(err)
	}
	if len(p.admit(t, here)) != 0 {
		t.Error("the allowlist is empty and admits")
	}
}

// AUTH-SESS-03.
func TestASessionEndsWhenItIsIdleOrOld(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, _ := p.setUp(t, name)
	for why, old := range map[string]string{
		"fifteen minutes without a request": "update console.session set seen_at = seen_at - interval '15 minutes'",
		"twelve hours":                      "update console.session set started_at = started_at - interval '12 hours'",
	} {
		token := p.signIn(t, ph, here)
		if _, err := p.resume(t, here, token); err != nil {
			t.Fatal(err)
		}
		p.sql(t, old)
		_, err := p.resume(t, here, token)
		refused(t, why, err, signin.ErrNoSession)
	}
	waiting, err := p.Password(t.Context(), p.admit(t, here), name, password)
	must(t, err)
	p.sql(t, "update console.session set started_at = started_at - interval '5 minutes'")
	_, err = p.Code(t.Context(), p.admit(t, here), here, waiting, ph.code(t))
	refused(t, "five minutes after the password", err, signin.ErrNoSession)

	token := p.signIn(t, ph, here)
	p.sql(t, "update console.session set seen_at = seen_at - interval '14 minutes'")
	if _, err := p.resume(t, here, token); err != nil {
		t.Errorf("fourteen minutes: %v", err)
	}
	p.sql(t, "update console.session set seen_at = seen_at - interval '14 minutes'")
	if _, err := p.resume(t, here, token); err != nil {
		t.Errorf("a request does not keep the session alive: %v", err)
	}
}

// AUTH-REC-01.
func TestARecoveryCodeLeadsToANewAuthenticatorAndNowhereElse(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ctx := t.Context()
	lost, codes := p.setUp(t, name)
	session := p.signIn(t, lost, here)
	from := p.admit(t, here)
	waiting, err := p.Password(ctx, from, name, password)
	must(t, err)
	_, _, err = p.Recover(ctx, from, here, waiting, "aaaa-bbbb-cccc-dddd")
	refused(t, "a code that is none", err, signin.ErrRefused)
	_, _, err = p.Recover(ctx, from, here, session, codes[0])
	refused(t, "without having given the password just now", err, signin.ErrNoSession)
	token, e, err := p.Recover(ctx, from, here, waiting, strings.ToUpper(strings.ReplaceAll(codes[3], "-", " ")))
	must(t, err)
	_, err = p.resume(t, here, token)
	refused(t, "the token of the new set-up as a session", err, signin.ErrNoSession)
	_, err = p.resume(t, here, session)
	refused(t, "a session of before", err, signin.ErrNoSession)
	_, err = p.Begin(ctx, from, token, "Another name", password)
	refused(t, "another name and password", err, signin.ErrLink)

	found := newPhone(p, e)
	fresh, _, err := p.Confirm(ctx, from, token, found.code(t))
	must(t, err)
	if len(fresh) != 10 || slices.Contains(fresh, codes[0]) {
		t.Error("no new recovery codes")
	}
	waiting, err = p.Password(ctx, from, name, password)
	must(t, err)
	_, err = p.Code(ctx, from, here, waiting, lost.code(t))
	refused(t, "a code of the lost authenticator", err, signin.ErrRefused)
	_, _, err = p.Recover(ctx, from, here, waiting, codes[4])
	refused(t, "a recovery code of before", err, signin.ErrRefused)
	if _, err := p.Code(ctx, from, here, waiting, found.code(t)); err != nil {
		t.Errorf("a code of the new authenticator: %v", err)
	}
	for _, want := range []string{"sign_in.recovery_refused", "sign_in.recovery_code", "admin.new_authenticator"} {
		if !slices.Contains(p.actions(t), want) {
			t.Errorf("%s is not in the log", want)
		}
	}

	waiting, err = p.Password(ctx, from, name, password)
	must(t, err)
	_, _, err = p.Recover(ctx, from, here, waiting, fresh[0])
	must(t, err)
	waiting, err = p.Password(ctx, from, name, password)
	must(t, err)
	_, _, err = p.Recover(ctx, from, here, waiting, fresh[0])
	refused(t, "a recovery code a second time", err, signin.ErrRefused)
}

func TestOrganisationsDoNotMeetAtTheDoor(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ctx := t.Context()
	foreign := p.Organisation
	foreign.ID, foreign.Tenant, foreign.Origin = uuid.New(), uuid.NewString(), "chat.example/audit/foreign"
	wrapped, _, err := p.Gate.NewKey(foreign.ID, foreign.ID)
	must(t, err)
	must(t, p.Store.CreateOrganisation(ctx, foreign, wrapped, func(ctx context.Context, tx pgx.Tx) error {
		return p.Log.CreateLog(ctx, tx, foreign.ID, foreign.Origin)
	}))
	ph, _ := p.setUp(t, name)
	token := p.signIn(t, ph, here)
	p.allow(t, foreign.ID, "203.0.113.9/32")
	admitted := p.admit(t, elsewhere)
	if len(admitted) != 1 || admitted[0].Organisation() != foreign.ID {
		t.Fatalf("%d admissions", len(admitted))
	}
	_, err = p.Resume(ctx, admitted, elsewhere, token)
	refused(t, "a session from an address of another organisation", err, signin.ErrNoSession)
	link, err := p.NewLink(ctx, p.Organisation.ID, []string{"auditor"})
	must(t, err)
	_, err = p.Begin(ctx, admitted, link.Token, "Another name", password)
	refused(t, "a set-up link from an address of another organisation", err, signin.ErrLink)
	_, err = p.Password(ctx, admitted, name, password)
	refused(t, "name and password from an address of another organisation", err, signin.ErrRefused)

	// Whom both admit is looked for in both.
	p.allow(t, foreign.ID, "127.0.0.1/32")
	token = p.signIn(t, ph, here)
	admin, err := p.resume(t, here, token)
	if err != nil || admin.Organisation() != p.Organisation.ID {
		t.Errorf("%v, %v", admin.Organisation(), err)
	}

	// An entry that was moved to another organisation admits nobody, and keeps no other from being read.
	p.sql(t, "insert into console.network select '"+foreign.ID.String()+"', 'moved', prefix from console.network where organisation_id = '"+p.Organisation.ID.String()+"'")
	p.sql(t, "delete from console.network where organisation_id = '"+foreign.ID.String()+"' and network_ref <> 'moved'")
	if all := p.admit(t, here); len(all) != 1 || all[0].Organisation() != p.Organisation.ID {
		t.Errorf("%d admissions", len(all))
	}
	if all, err := p.AdmitSetUp(ctx, here); err != nil || len(all) != 1 {
		t.Errorf("a list with nothing readable on it is taken for an empty one: %d, %v", len(all), err)
	}
}

// AUTH-FAIL-01.
func TestWhileNothingCanBeRecordedNobodySignsIn(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, _ := p.setUp(t, name)
	from := p.admit(t, here)
	waiting, err := p.Password(t.Context(), from, name, password)
	must(t, err)
	p.sql(t, "create function audit.break() returns trigger language plpgsql as $$ begin raise exception 'the disk is full'; end $$; create trigger break before insert on audit.record for each row execute function audit.break()")
	if _, err := p.Code(t.Context(), from, here, waiting, ph.code(t)); err == nil || errors.Is(err, signin.ErrRefused) {
		t.Errorf("a right code: %v", err)
	}
	if _, err := p.Password(t.Context(), from, name, password); err == nil || errors.Is(err, signin.ErrRefused) {
		t.Errorf("a right password: %v", err)
	}
	p.sql(t, "drop trigger break on audit.record")
	if n := count(t, p, "select count(*) from console.session where stage = 'signed_in'"); n != 0 {
		t.Errorf("%d sessions began without a record", n)
	}
	p.signIn(t, ph, here)
}

func count(t *testing.T, p *place, sql string) (n int) {
	t.Helper()
	must(t, p.DB.Superuser(t).QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// AUTH-TOTP-02, AUTH-REC-01, AUTH-SESS-01.
func TestNoSecretAndNoAddressLiesInTheDatabaseInTheClear(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ph, codes := p.setUp(t, name)
	p.allow(t, p.Organisation.ID, "203.0.113.9/32")
	token := p.signIn(t, ph, here)
	link, err := p.NewLink(t.Context(), p.Organisation.ID, []string{"auditor"})
	must(t, err)
	e, err := p.Begin(t.Context(), p.admit(t, here), link.Token, "Grace Canary", password+"!")
	must(t, err)
	secrets := map[string]string{
		"the name": "canary", "the password": password, "an address": "127.0.0.1", "another address": "203.0.113", "an address in bytes": "cb007109",
		"a session": token, "a link": link.Token, "a recovery code": strings.ReplaceAll(codes[0], "-", ""),
	}
	for which, key := range map[string]string{"a seed": ph.seed, "a seed not confirmed": strings.ReplaceAll(e.Card.Key, " ", "")} {
		raw, err := base32.StdEncoding.DecodeString(key)
		must(t, err)
		secrets[which], secrets[which+" in bytes"] = strings.ToLower(key), hex.EncodeToString(raw)
	}
	conn := p.DB.Superuser(t)
	rows, err := conn.Query(t.Context(), "select table_schema || '.' || table_name from information_schema.tables where table_schema in ('chat', 'euii', 'audit', 'access', 'console') and table_type = 'BASE TABLE'")
	must(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	seen := 0
	for _, table := range tables {
		rows, err := conn.Query(t.Context(), "select lower(r::text) from "+table+" r")
		must(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		for _, line := range lines {
			seen++
			for what, secret := range secrets {
				for _, form := range []string{strings.ToLower(secret), hex.EncodeToString([]byte(secret))} {
					if strings.Contains(line, form) {
						t.Errorf("%s lies in %s", what, table)
					}
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d rows were looked at", seen)
	}
}
