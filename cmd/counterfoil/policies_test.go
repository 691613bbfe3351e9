package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/egress"
	"counterfoil/policy"
)

// policyDir writes the policy compiled in to a directory, with some files replaced.
func policyDir(t *testing.T, replaced map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, policy.Bundle()); err != nil {
		t.Fatal(err)
	}
	for name, text := range replaced {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// signingKey makes a key as openssl would, and gives the files of its two halves.
func signingKey(t *testing.T) (private, public string) {
	t.Helper()
	v, s, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "policy.key"), filepath.Join(dir, "policy.pub")
	half, err := x509.MarshalPKCS8PrivateKey(s)
	if err == nil {
		err = os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: half}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if half, err = x509.MarshalPKIXPublicKey(v); err == nil {
		err = os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: half}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// command runs a command of the program and gives its exit code and output.
func command(t *testing.T, env []string, args ...string) (int, string, string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), egress.New(), args, slices.Concat(os.Environ(), env), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// recorded gives the records of the log, oldest first.
func recorded(t *testing.T, env []string) (all []audit.Entry) {
	t.Helper()
	code, out, errs := command(t, env, "audit", "list", "--json", "--last", "10000")
	if code != exitFine {
		t.Fatalf("audit list: %d\n%s", code, errs)
	}
	for line := range strings.Lines(out) {
		e, err := audit.ParseEntry([]byte(strings.TrimSuffix(line, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// theLast waits until the newest record of an action satisfies, and gives it.
func theLast(t *testing.T, env []string, action string, satisfies func(audit.Entry) bool) audit.Entry {
	t.Helper()
	var last audit.Entry
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		for _, e := range recorded(t, env) {
			if e.Action == action {
				last = e
			}
		}
		if last.Action == action && satisfies(last) {
			return last
		}
	}
	t.Fatalf("no such record of %s; the last is %+v", action, last)
	return last
}

// opens lets a visitor begin a conversation, and gives the HTTP status.
func opens(t *testing.T, r *running) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, status, err := post(ctx, r.links.Public+"/v1/widgets/"+r.links.WidgetKey+"/conversations", "", map[string]string{
		"client_id": uuid.NewString(), "text": "hello", "name": "Vera Visitor", "email": "vera@visitors.example", "language": "en", "notice_version": noticeVersion(t, r),
	})
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// nothingCollected is a policy under which nobody may say anything about himself.
const nothingCollected = `package counterfoil.purposes.collect_visitor

terms := {
	"actors": {"visitor"},
	"audiences": {"nobody"},
	"subjects": {"visitor"},
	"fields": {"visitor_display_name"},
}
`

func TestAPolicyIsSwappedRefusedAndTriedUnderARunningService(t *testing.T) {
	t.Parallel()
	builtIn, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	private, public := signingKey(t)
	strangers, _ := signingKey(t)
	bundle, candidate := filepath.Join(t.TempDir(), "policy.tar.gz"), policyDir(t, map[string]string{"collect_visitor.rego": nothingCollected})
	sign := func(dir, key string) {
		t.Helper()
		if code, out, errs := command(t, nil, "policy", "sign", dir, "--key", key, "--out", bundle); code != exitFine {
			t.Fatalf("sign: %d\n%s%s", code, out, errs)
		}
	}
	data := reachable(t)
	env := []string{
		"COUNTERFOIL_DATA_DIR=" + data, "COUNTERFOIL_PUBLIC_ADDR=" + freeAddr(t), "COUNTERFOIL_CONSOLE_ADDR=" + freeAddr(t), "COUNTERFOIL_DEMO_ADDR=" + freeAddr(t),
		"COUNTERFOIL_POLICY_BUNDLE=" + bundle, "COUNTERFOIL_POLICY_KEY=" + public, "COUNTERFOIL_POLICY_CANDIDATE=" + candidate,
	}
	// At first no bundle lies there: the policy compiled in decides, and commands say so. The organisation of the try-out
	// is made after that, so the first service has nowhere to record it.
	path := program(t)
	r := serve(t, path, env)
	if code, _, errs := command(t, env, "org", "list"); code != exitFine || !strings.Contains(errs, "the policy bundle is refused, and the one compiled in decides") {
		t.Errorf("a command says %q", errs)
	}
	if status := opens(t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}

	// A signed one comes and decides.
	other := policyDir(t, map[string]string{"limits.rego": "package counterfoil\n\nveto contains \"volume_limit\" if input.actor.recent >= 5000\n",
		"decision_test.rego": "package test.decision\n"})
	sign(other, private)
	activated := theLast(t, env, "policy.activated", func(audit.Entry) bool { return true })
	revision := activated.Facts["revision"]
	if activated.Facts["before"] != builtIn.Revision() || revision == builtIn.Revision() || activated.Actor.Kind != "job" || activated.Decision != "" {
		t.Errorf("recorded %+v", activated)
	}
	theLast(t, env, "audit.list", func(e audit.Entry) bool { return e.Policy == revision })
	if status := opens(t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}
	theLast(t, env, "collect_visitor", func(e audit.Entry) bool { return e.Policy == revision })

	if code, out, _ := command(t, nil, "policy", "check", bundle, "--key", public); code != exitFine || !strings.Contains(out, "the key signed it. Revision "+revision) {
		t.Errorf("check: %d %s", code, out)
	}

	// One that somebody else signed is refused, and so is one that is broken; the one before stays.
	sign(policyDir(t, map[string]string{"collect_visitor.rego": nothingCollected, "person_test.rego": "package test.person\n"}), strangers)
	theLast(t, env, "policy.refused", func(e audit.Entry) bool {
		return e.Facts["revision"] == revision && strings.Contains(e.Facts["reason"], "failed to verify JWT signature")
	})
	if err := os.WriteFile(bundle, []byte("half a bundle"), 0o600); err != nil {
		t.Fatal(err)
	}
	theLast(t, env, "policy.refused", func(e audit.Entry) bool { return strings.Contains(e.Facts["reason"], "not a tar.gz") })
	if status := opens(t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}
	if last := theLast(t, env, "collect_visitor", func(audit.Entry) bool { return true }); last.Policy != revision || last.Decision != audit.DecisionAllow {
		t.Errorf("decided %s by %s", last.Decision, last.Policy)
	}

	// The candidate was asked what the service was asked, and decided nothing.
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("the program did not stop cleanly: %v\n%s", err, r.stderr)
	}
	said := r.stderr.String()
	if !strings.Contains(said, "the candidate policy decides otherwise") || !strings.Contains(said, "purpose=collect_visitor") || !strings.Contains(said, "the policy bundle is refused") {
		t.Errorf("the service said:\n%s", said)
	}

	// A start with a refused bundle is on record.
	r = serve(t, path, env)
	before := 0
	for _, e := range recorded(t, env) {
		if e.Action == "policy.refused" {
			before++
		}
	}
	if before != 3 {
		t.Errorf("%d refusals are recorded", before)
	}

	// What was decided is asked again: of the policy compiled in, and of the candidate.
	same := policyDir(t, nil)
	if code, out, errs := command(t, env, "policy", "replay", "--bundle", same, "--since", "30d"); code != exitFine || !strings.Contains(out, " 0 would be otherwise under revision "+builtIn.Revision()) {
		t.Errorf("replay of the same: %d\n%s%s", code, out, errs)
	}
	code, out, errs := command(t, env, "policy", "replay", "--bundle", candidate, "--since", "30m", "--json") // without the made-up month
	if code != exitFound {
		t.Fatalf("replay of the candidate: %d\n%s%s", code, out, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		var f flip
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Purpose != policy.CollectVisitor || f.Old.Outcome != "allow" || f.New.Outcome != "deny" || !slices.Contains(f.New.Reasons, "wrong_audience") {
			t.Errorf("%v: %s", err, line)
		}
	}
	var sum replayed
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil || sum.Flipped != 3 || sum.Flipped != len(lines)-1 || sum.Asked < 10 || sum.Undecided < 4 {
		t.Errorf("%v: %+v", err, sum)
	}
	theLast(t, env, "policy.replay", func(e audit.Entry) bool { return e.Decision == audit.DecisionAllow && e.Facts["other"] == sum.Revision })
	demandTwo(t, r, env, builtIn.Revision(), func() { sign(other, private) })
	if code, out, _ := command(t, env, "policy", "replay", "--bundle", candidate, "--since", "0h"); code != exitFine || !strings.Contains(out, "Of 1 decisions 0 would") {
		t.Errorf("replay of its own record: %d\n%s", code, out)
	}
}

// demandTwo has two choose the policy; then one that is properly signed and comes to lie there does not decide, neither now nor after another start.
func demandTwo(t *testing.T, r *running, env []string, decides string, put func()) {
	t.Helper()
	if code, out, errs := command(t, env, "policy", "demand"); code != exitFine || !strings.Contains(out, "beginning with revision "+decides) {
		t.Fatalf("demand: %d %s%s", code, out, errs)
	}
	theLast(t, env, "policy.demand", func(e audit.Entry) bool { return e.Rule == "administer.operator" && e.Facts["revision"] == decides })
	if code, _, _ := command(t, env, "policy", "demand"); code == exitFine {
		t.Error("it is demanded twice")
	}
	put()
	waits := theLast(t, env, "policy.proposed", func(audit.Entry) bool { return true })
	if waits.Facts["revision"] == decides || len(waits.Facts["digest"]) != 64 {
		t.Errorf("recorded %+v", waits)
	}
	if status := opens(t, r); status != http.StatusCreated {
		t.Fatalf("open: %d", status)
	}
	theLast(t, env, "collect_visitor", func(e audit.Entry) bool { return e.Policy == decides })
	code, out, errs := command(t, env, "policy", "revisions", "--json") // a start of its own, with that bundle before it
	var revisions revisionsOut
	if err := json.Unmarshal([]byte(out), &revisions); code != exitFine || err != nil || revisions.Revision != decides || revisions.Digest != "" || !revisions.Demanded || len(revisions.Choices) != 1 || revisions.Choices[0].Act != "demand" {
		t.Errorf("%d, %v, %+v\n%s%s", code, err, revisions, out, errs)
	}
}

func TestAPolicyIsSignedOnlyByAKeyThatIsKept(t *testing.T) {
	private, public := signingKey(t)
	out := filepath.Join(t.TempDir(), "policy.tar.gz")
	if err := os.Chmod(private, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := command(t, nil, "policy", "sign", policyDir(t, nil), "--key", private, "--out", out); code != exitEnvironment || !strings.Contains(errs, "can be read by others") {
		t.Errorf("a key that others can read: %d %s", code, errs)
	}
	if err := os.Chmod(private, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := policyDir(t, map[string]string{"more.rego": "package more\n\np if {\n"})
	if code, said, _ := command(t, nil, "policy", "sign", broken, "--key", private, "--out", out); code != exitFound || !strings.Contains(said, "more.rego:4") {
		t.Errorf("a broken policy: %d %s", code, said)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) > 0 {
		t.Errorf("something was left behind: %v, %v", left, err)
	}
	strangers, _ := signingKey(t)
	if code, said, errs := command(t, nil, "policy", "sign", policyDir(t, nil), "--key", strangers, "--out", out); code != exitFine {
		t.Errorf("%d %s%s", code, said, errs)
	}
	if code, said, _ := command(t, nil, "policy", "check", out, "--key", public); code != exitFound || !strings.Contains(said, "failed to verify JWT signature") {
		t.Errorf("somebody else's signature: %d %s", code, said)
	}
	if code, said, _ := command(t, nil, "policy", "check", out); code != exitFine || strings.Contains(said, "signed it") {
		t.Errorf("looked at without a key: %d %s", code, said)
	}
}

func TestALongWorkSaysHowFarItIs(t *testing.T) {
	var said bytes.Buffer
	p := newProgress(&said, 1000)
	for range 512 {
		p.step()
	}
	if said.Len() > 0 {
		t.Errorf("within the first second it said %q", &said)
	}
	p.next = time.Now()
	for range 256 {
		p.step()
	}
	if said.String() != "768 of 1000 records\n" {
		t.Errorf("it said %q", &said)
	}
}

func TestWhatStandsInARecordIsOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a.rego:3: bad\n\t\x1b[31mred": "a.rego:3: bad [31mred",
		"\xff\u0085x":                  "? x",
		strings.Repeat("é", 400):       strings.Repeat("é", 250),
	} {
		if got := oneLine(text); got != want && !(len(want) == 500 && len(got) <= 500 && len(got) > 480) {
			t.Errorf("%q became %q", text, got)
		}
	}
}
