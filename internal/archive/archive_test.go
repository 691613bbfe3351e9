package archive_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/archive"
)

func TestAnArchiveIsSealedSignedAndOpensOnTheOrganisationsOwnMachine(t *testing.T) {
	w := newWorld(t)
	vera, _ := w.talk(t, "vera", "ada"), w.talk(t, "vico", "ada")
	a, dir := w.made(t)
	if a.Number != 1 || a.Conversations != 2 || a.People != 4 || a.Recipient != w.identity.Recipient().String() {
		t.Errorf("the archive is %+v", a)
	}

	// Nothing of it can be read where it lies, and everything that went into it is on record.
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, word := range []string{"zyxwvut", "Zyxwvut", "help me", vera.Visitor.String(), vera.Conversation.String()} {
			if strings.Contains(string(b), word) {
				t.Errorf("%s holds %q", path, word)
			}
		}
		return err
	}))
	read := make(map[string]int)
	for _, e := range w.said(t, "archive_conversation") {
		if e.Decision != "allow" || e.Kind != audit.Disclosure || e.Audience != "archive" || e.Facts["actor.job"] != "archive" {
			t.Errorf("a record of reading is %+v", e)
		}
		read[e.Subject.Kind]++
	}
	if read["visitor"] != 2 || read["agent"] != 2 || read["conversation"] != 2 {
		t.Errorf("read were %v", read)
	}
	made := w.said(t, archive.ActMade)
	if len(made) != 1 || made[0].Facts["archive.conversations"] != "2" || made[0].Facts["archive.manifest"] != a.Manifest || a.Record == nil || made[0].Seq != *a.Record {
		t.Errorf("that it is made is on record as %+v", made)
	}

	// With the key of the log and nothing else it is checked; with the organisation's identity it is opened.
	r, err := archive.Verify(t.Context(), os.DirFS(dir), dir, []string{w.key}, nil)
	must(t, err)
	if len(r.Faults) > 0 || !r.Signed || r.Digest != a.Manifest || r.Manifest.Conversations != 2 || r.Manifest.Log != w.Organisation.Origin {
		t.Errorf("verified: %+v", r)
	}
	if c, err := audit.GenerateSigner(w.Organisation.Origin); err != nil {
		t.Fatal(err)
	} else if r, err := archive.Verify(t.Context(), os.DirFS(dir), dir, []string{c.VerifierKey()}, nil); err != nil || len(r.Faults) != 1 || r.Faults[0].Kind != archive.Forged {
		t.Errorf("by the key of somebody else: %+v %v", r.Faults, err)
	}
	out := t.TempDir()
	got, err := archive.Restore(t.Context(), os.DirFS(dir), r.Manifest, []age.Identity{w.identity}, out, nil)
	if err != nil || got.Conversations != 2 || got.Events != r.Manifest.Events {
		t.Fatalf("restored %+v: %v", got, err)
	}
	b, err := os.ReadFile(filepath.Join(out, time.Now().UTC().Format(time.DateOnly), vera.Conversation.String()+".json"))
	must(t, err)
	var file struct {
		Conversation struct {
			People []struct {
				Kind   string
				Values map[string]string
			}
		}
		Events []struct{ Kind, By, Text string }
	}
	must(t, json.Unmarshal(b, &file))
	if p := file.Conversation.People; len(p) != 2 || p[0].Values["visitor_email"] != "vera@zyxwvut.example" || p[1].Values["agent_display_name"] != "ada Zyxwvut" {
		t.Errorf("the people are %+v", p)
	}
	if e := file.Events; len(e) != 4 || e[0].Text != "Can you help me, asks vera?" || e[1].Kind != "agent.joined" || e[2].Text != "Of course, says ada" || e[3].Kind != "closed" {
		t.Errorf("the events are %+v", e)
	}
	stranger, err := age.GenerateX25519Identity()
	must(t, err)
	if _, err := archive.Restore(t.Context(), os.DirFS(dir), r.Manifest, []age.Identity{stranger}, t.TempDir(), nil); !errors.Is(err, archive.ErrIdentity) {
		t.Errorf("with the identity of a stranger: %v", err)
	}

	// What is in an archive is not archived again; the next one has what came since, and follows the first.
	if _, any, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil); err != nil || any {
		t.Errorf("without anything new: %v %v", any, err)
	}
	w.talk(t, "vinz", "bob")
	second, path := w.made(t)
	r2, err := archive.Verify(t.Context(), os.DirFS(path), path, []string{w.key}, nil)
	must(t, err)
	if second.Number != 2 || second.Conversations != 1 || len(r2.Faults) > 0 || r2.Manifest.Previous == nil || r2.Manifest.Previous.Manifest != a.Manifest {
		t.Errorf("the second is %+v %+v", second, r2)
	}
	if f := archive.Chain([]archive.Report{r, r2}, time.Now()); len(f) != 0 {
		t.Errorf("the chain has %+v", f)
	}
	if f := archive.Chain([]archive.Report{r2}, time.Now()); len(f) != 1 || f[0].Kind != archive.Missing {
		t.Errorf("without the first, the chain has %+v", f)
	}
}

func TestWithoutAKeyOrAPlaceNothingIsArchived(t *testing.T) {
	w := newWorld(t)
	w.talk(t, "vera", "ada")
	none := w.config
	none.Target = nil
	if _, _, err := archive.New(none).Make(t.Context(), w.job(), w.Organisation.ID, nil); !errors.Is(err, archive.ErrNoTarget) {
		t.Errorf("without a place: %v", err)
	}
	if err := w.desk().SetPlan(t.Context(), w.operator, w.Organisation.ID, "age1qqqq", 1, access.Grounds{}); !errors.Is(err, archive.ErrRecipient) {
		t.Errorf("a recipient that is none: %v", err)
	}
	must(t, w.desk().SetPlan(t.Context(), w.operator, w.Organisation.ID, "", 0, access.Grounds{}))
	if _, _, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil); !errors.Is(err, archive.ErrNoRecipient) {
		t.Errorf("without a recipient: %v", err)
	}
	if n := len(w.said(t, "archive_conversation")); n != 0 {
		t.Errorf("%d times something was read", n)
	}
}
