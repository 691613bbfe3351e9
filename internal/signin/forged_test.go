package signin_test

import (
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/google/uuid"

	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/signin"
)

// Whoever has the credential of the service's database role can call its functions, and has no key.
func TestARowThatWasWrittenIntoTheDatabaseGivesNothing(t *testing.T) {
	p := newPlace(t, relaytest.New(t, relaytest.Options{}))
	ctx := t.Context()
	ph, _ := p.setUp(t, name)
	from := p.admit(t, here)
	all, err := p.Admins(ctx, p.Organisation.ID)
	must(t, err)
	hash := func(token string) []byte { sum := sha256.Sum256([]byte(token)); return sum[:] }
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := p.Pool.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}

	// A session of his own token, beside a real one whose address and seal he can see.
	token := p.signIn(t, ph, here)
	var step int64
	must(t, p.DB.Superuser(t).QueryRow(ctx, "select last_step from console.step").Scan(&step))
	var address, seal string
	must(t, p.Pool.QueryRow(ctx, "select address_ref, seal from access.resume_session($1)", hash(token)).Scan(&address, &seal))
	waiting, forged := uuid.New(), uuid.New()
	exec("select access.open_session($1, $2, $3, $4, $5, $6)", p.Organisation.ID, waiting, all[0].ID, hash("waiting"), address, seal)
	var done bool
	must(t, p.Pool.QueryRow(ctx, "select access.sign_in($1, $2, $3, $4, $5, $6)", p.Organisation.ID, waiting, step, forged, hash("forged"), seal).Scan(&done))
	if !done {
		t.Fatal("the row could not be written")
	}
	_, err = p.resume(t, here, "forged")
	refused(t, "a session that was written", err, signin.ErrNoSession)
	if e := p.last(t); e.Action != "session.refused" || e.Facts["reason"] != "not_opened_here" {
		t.Errorf("the record: %+v", e)
	}

	// The real one goes on; a factor that was never given makes it none.
	admin, err := p.resume(t, here, token)
	must(t, err)
	notices, err := p.Notices(ctx, admin)
	if err != nil || !slices.ContainsFunc(notices, func(n signin.Notice) bool { return n.Kind == "session.refused" }) {
		t.Errorf("he is not told: %+v, %v", notices, err)
	}
	id, err := p.Session(ctx, admin, token)
	must(t, err)
	exec("select access.step_up($1, $2, $3, $4, 'administer', 'totp', $5)", p.Organisation.ID, id, uuid.New(), hash("stepped"), seal)
	_, err = p.resume(t, here, "stepped")
	refused(t, "a factor that was written", err, signin.ErrNoSession)

	// Roles that nobody gave him.
	token = p.signIn(t, ph, here)
	p.sql(t, "update console.admin set roles = roles || '{privacy_officer}'")
	_, err = p.resume(t, here, token)
	refused(t, "roles that were written", err, signin.ErrNoSession)
	if e := p.last(t); e.Facts["reason"] != "roles_not_given_here" {
		t.Errorf("the record: %+v", e)
	}

	// A link that nobody made.
	exec("select access.make_setup($1, $2, $3, '{security_admin}', 1800, $4)", p.Organisation.ID, uuid.New(), hash("link"), seal)
	_, err = p.Begin(ctx, from, "link", "Eve", password)
	refused(t, "a link that was written", err, signin.ErrLink)
}
