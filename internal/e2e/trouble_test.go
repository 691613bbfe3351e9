package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// holdTheLog locks the heads of all audit logs, so that nothing can be recorded until release is called.
func (s *service) holdTheLog() (release func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	db, err := pgx.Connect(ctx, "host="+filepath.Join(s.dir, "postgresql", "run")+" user=postgres dbname=counterfoil")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close(context.Background()) })
	if _, err := db.Exec(ctx, "begin; select 1 from audit.head for update"); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := db.Exec(ctx, "rollback"); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestWhileNothingCanBeRecordedNoNameIsShownAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visit(t, s)
	v.begin("Vera Visitor", "vera@visitor.example", "My key does not turn")
	a := work(t, s, amelie)
	a.join("My key does not turn")
	a.say("Which one?")
	v.sees("> My key does not turn", "< Which one?")
	v.chat.shows("#agent", amelie.name)

	release := s.holdTheLog()
	v.trouble = true // answers of 503 are what this is about
	v.reload()
	v.open()
	nobodyNamed := func() {
		t.Helper()
		for _, p := range []*tab{v.tab, v.chat} {
			if everything := eval[string](p, `document.documentElement.outerHTML`); strings.Contains(everything, amelie.given) || strings.Contains(everything, amelie.email) {
				t.Fatal("the agent's name is on the visitor's page, and no record can have been made of it")
			}
		}
	}
	v.chat.shows("#status", "We’ll be right back.")
	nobodyNamed()
	v.say("The green one")
	v.chat.shows("#log", "The green one")
	v.acknowledged()
	v.chat.shows("#status", "We’ll be right back.")
	nobodyNamed()
	_ = eval[bool](v.chat, `window.sameDocument = true`)

	release()
	v.sees("> My key does not turn", "< Which one?", "> The green one")
	v.chat.shows("#agent", amelie.name)
	v.acknowledged()
	a.sees("The green one")
	if n := a.count("The green one"); n != 1 {
		t.Errorf("the agent reads the message %d times", n)
	}
	eventually(t, "the widget no longer complains", soon, func() bool { return v.chat.text("#status") == "" })
	if !eval[bool](v.chat, `window.sameDocument === true`) {
		t.Error("it took a reload to heal")
	}
}

func TestTheChatGoesOnAfterKillNine(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visit(t, s)
	v.begin("Vera Visitor", "vera@visitor.example", "number one")
	a := work(t, s, amelie)
	a.join("number one")
	a.say("two")
	v.sees("> number one", "< two")
	v.say("three")
	v.acknowledged()
	a.sees("three")

	v.trouble, a.trouble = true, true // nobody answers while the service is down
	s.kill()
	v.say("four")
	v.chat.shows("#status", "Connection lost")
	v.sees("> number one", "< two", "> three", "> four")

	s.start()
	v.acknowledged()
	// The stand-in has forgotten the rest; it lives in the service's process. If the delivery of the one before was cut short, it holds
	// back the next until its lease of a minute ends.
	eventually(t, "the agent sees what was written meanwhile", time.Minute+soon, func() bool { return a.count("four") == 1 })
	a.say("five")
	v.sees("> number one", "< two", "> three", "> four", "< five")
	v.chat.shows("#agent", amelie.name)
	if n := a.count("four"); n != 1 {
		t.Errorf("the agent reads what was written meanwhile %d times", n)
	}
}
