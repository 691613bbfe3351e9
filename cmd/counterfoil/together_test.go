package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp/hotp"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/chat"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/policy"
)

// node is one process over the same data, without its listeners.
func node(t *testing.T, env []string) *heart {
	t.Helper()
	a := &app{t.Context(), io.Discard, io.Discard, slices.Concat(os.Environ(), env), egress.New(), "en"}
	h, done, err := a.connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return h
}

// admin signs somebody in on this machine, and has him give a code for each of the purposes, of which the last counts. The clock of codes runs ahead,
// so that nobody has to wait for the next one.
func (h *heart) admin(t *testing.T, o chat.Organisation, ahead *time.Duration, name string, roles []string, purposes ...policy.Purpose) principal.Admin {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ring, err := keyring.LoadOrCreate(h.config.KEKFile)
	must(err)
	now := func() time.Time { return time.Now().Add(*ahead) }
	desk := signin.New(signin.Config{Pool: h.pool, Gate: h.gate, Ring: ring, Now: now, URL: h.config.ConsoleURL})
	here := netip.MustParseAddr("127.0.0.1")
	link, err := desk.NewLink(ctx, o.ID, roles)
	must(err)
	from, err := desk.AdmitSetUp(ctx, here)
	must(err)
	const password = "four unrelated words, here"
	card, err := desk.Begin(ctx, from, link.Token, name, password)
	must(err)
	code := func() string {
		*ahead += now().Truncate(30 * time.Second).Add(31 * time.Second).Sub(now())
		c, err := hotp.GenerateCode(strings.ReplaceAll(card.Card.Key, " ", ""), uint64(now().Unix()/30))
		must(err)
		return c
	}
	_, _, err = desk.Confirm(ctx, from, link.Token, code())
	must(err)
	from, err = desk.Admit(ctx, here)
	must(err)
	token, err := desk.Password(ctx, from, name, password)
	must(err)
	token, err = desk.Code(ctx, from, here, token, code())
	must(err)
	for _, purpose := range purposes {
		token, err = desk.StepUp(ctx, from, here, token, purpose, password, code())
		must(err)
	}
	admin, err := desk.Resume(ctx, from, here, token)
	must(err)
	return admin
}

func TestAnActivatedPolicyDecidesOnEveryNodeAndAfterEveryStart(t *testing.T) {
	private, public := signingKey(t)
	bundle, candidate := filepath.Join(t.TempDir(), "policy.tar.gz"), filepath.Join(t.TempDir(), "candidate.tar.gz")
	sign := func(out, mark string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("..", "..", "policy", "rego", "limits.rego"))
		if err != nil {
			t.Fatal(err)
		}
		dir := policyDir(t, map[string]string{"limits.rego": string(text) + "\n# " + mark + "\n"})
		if code, said, errs := command(t, nil, "policy", "sign", dir, "--key", private, "--out", out); code != exitFine {
			t.Fatalf("sign: %d\n%s%s", code, said, errs)
		}
	}
	sign(candidate, "candidate")
	data := reachable(t)
	env := []string{"COUNTERFOIL_DATA_DIR=" + data, "COUNTERFOIL_POLICY_BUNDLE=" + bundle, "COUNTERFOIL_POLICY_CANDIDATE=" + candidate, "COUNTERFOIL_POLICY_KEY=" + public}
	sign(bundle, "first")
	if code, _, errs := command(t, env, "org", "create", "Acme", "--tenant", "33333333-3333-3333-3333-333333333333"); code != exitFine {
		t.Fatalf("org create: %d %s", code, errs)
	}
	one, two := node(t, env), node(t, env)
	ctx := t.Context()
	o, err := one.organisation(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	first := *one.policies.current.Load()
	var ahead time.Duration
	asker := one.admin(t, o, &ahead, "Ada Asker", []string{"security_admin"}, policy.ChangeTogether)
	giver := one.admin(t, o, &ahead, "Gus Giver", []string{"approver"}, policy.ApproveChange)
	if err := one.gate.DemandPolicy(ctx, operator(o.ID), o.ID, first); err != nil {
		t.Fatal(err)
	}
	activate := func(b policy.Signed) {
		t.Helper()
		want := access.Choice{Act: access.Activate, Digest: b.Digest}
		why, err := one.gate.Justify(ctx, o.ID, "As agreed in the meeting")
		if err == nil {
			err = one.gate.KeepBundle(ctx, o.ID, b)
		}
		if err != nil {
			t.Fatal(err)
		}
		id, err := one.gate.Ask(ctx, asker, access.Ask{Kind: access.ForPolicy, Why: why, About: want.About(), Detail: b.Revision, For: time.Hour})
		if err == nil {
			err = one.gate.Decide(ctx, giver, id, access.Approved, why)
		}
		if err == nil {
			err = one.gate.ChoosePolicy(ctx, asker, access.Activate, b.Digest, b.Revision, why)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	decides := func(h *heart, want policy.Signed, when string) {
		t.Helper()
		if err := h.followChoice(ctx); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got := h.policies.current.Load(); got.Digest != want.Digest || h.policies.engine.Revision() != want.Revision {
			t.Errorf("%s: %s decides by revision %s, want %s", when, got.Digest, h.policies.engine.Revision(), want.Revision)
		}
	}
	proposed := one.policies.proposed(ctx)
	if len(proposed) != 1 || proposed[0].Digest == first.Digest {
		t.Fatalf("proposed are %+v", proposed)
	}
	decides(one, first, "at first")
	activate(proposed[0])
	if err := os.Remove(candidate); err != nil { // what was approved is kept
		t.Fatal(err)
	}
	decides(two, proposed[0], "another node")
	decides(one, proposed[0], "this node")
	sign(bundle, "another") // nobody approved it
	one.policies.bundle.tried = ""
	one.takeOver(ctx)
	decides(one, proposed[0], "after another bundle came")
	decides(node(t, env), proposed[0], "after another start")
	decides(node(t, env[:1]), proposed[0], "after a start without any bundle or key")
	activate(first) // whose bundle lies nowhere any more
	decides(two, first, "the way back")
	decides(node(t, env), first, "the way back, after another start")
	var activated, waits int
	head, err := one.log.Head(ctx, o.ID)
	if err != nil {
		t.Fatal(err)
	}
	for body, err := range one.log.Entries(ctx, o.ID, 0, head.Size) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := audit.ParseEntry(body)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Action == access.PolicyActivated && (e.Facts["digest"] == first.Digest || e.Facts["digest"] == proposed[0].Digest):
			activated++
		case e.Action == access.PolicyProposed:
			waits++
		}
	}
	if activated != 3 || waits != 1 { // both nodes, and one on the way back
		t.Errorf("%d activations and %d bundles that wait are recorded", activated, waits)
	}

	// What was chosen and is not there, or is other bytes, is replaced by nothing: no start.
	owner, err := cluster.RunningURL(clusterDir(one.config), cluster.Superuser, cluster.Database)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // the test is over
	if _, err := conn.Exec(ctx, "delete from console.policy_bundle where digest = $1", first.Digest); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, env[:1], "org", "list"); code != exitEnvironment || !strings.Contains(errs, "which was chosen, is not there") {
		t.Errorf("without what was chosen it starts: %d %s", code, errs)
	}
	if two.followChoice(ctx) != nil {
		t.Error("a node that has it does not go on")
	}
}
