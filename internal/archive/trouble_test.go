package archive_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"counterfoil/audit"
	"counterfoil/audit/publish"
	"counterfoil/audit/publish/buckettest"
	"counterfoil/internal/access"
	"counterfoil/internal/archive"
	"counterfoil/internal/control"
)

// brittle is a directory that stops taking files: after so many, before, in the middle of or after the next.
type brittle struct {
	publish.Directory
	left *int
	how  string
}

func (b brittle) Open(ctx context.Context, name string, keep time.Time) (audit.Place, func(), error) {
	place, release, err := b.Directory.Open(ctx, name, keep)
	return brittlePlace{place, b, b.Where(name)}, release, err
}

type brittlePlace struct {
	audit.Place
	of   brittle
	path string
}

func (p brittlePlace) Create(ctx context.Context, name string, data []byte) error {
	if *p.of.left--; *p.of.left >= 0 {
		return p.Place.Create(ctx, name, data)
	}
	switch p.of.how {
	case "torn":
		return errors.Join(syscall.ENOSPC, os.WriteFile(filepath.Join(p.path, name), data[:len(data)/2], 0o600))
	case "after":
		return errors.Join(syscall.EIO, p.Place.Create(ctx, name, data))
	}
	return syscall.ENOSPC
}

func TestWhereverAnArchiveBreaksOffItIsCarriedOnAndNothingHalfDoneCounts(t *testing.T) {
	w := newWorld(t)
	w.config.PartBytes = 1 // every step a file of its own
	good, number := w.config.Target, 0
	for _, how := range []string{"before", "torn", "after"} {
		for left := 0; ; left++ {
			first, second := w.talk(t, "vera", "ada"), w.talk(t, "vico", "ada")
			n := left
			w.config.Target = brittle{good.(publish.Directory), &n, how}
			_, _, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil)
			w.config.Target = good
			if err == nil { // it broke off nowhere any more
				number++
				break
			}
			if !errors.Is(err, archive.ErrTarget) {
				t.Fatalf("%s %d: %v", how, left, err)
			}
			all, err := w.desk().Archives(t.Context(), w.Organisation.ID, 1)
			must(t, err)
			if !all[0].UnderWay() || len(w.said(t, archive.ActMade)) != number {
				t.Fatalf("%s %d: what broke off counts: %+v", how, left, all[0])
			}
			a, dir := w.made(t)
			number++
			r, err := archive.Verify(t.Context(), os.DirFS(dir), dir, []string{w.key}, nil)
			must(t, err)
			if a.ID != all[0].ID || a.Number != number || a.Conversations != 2 || len(r.Faults) > 0 {
				t.Errorf("%s %d: carried on to %+v %+v", how, left, a, r.Faults)
			}
			out := t.TempDir()
			got, err := archive.Restore(t.Context(), os.DirFS(dir), r.Manifest, []age.Identity{w.identity}, out, nil)
			files, globErr := filepath.Glob(filepath.Join(out, "*", "*"))
			must(t, globErr)
			names := strings.Join(files, " ")
			if err != nil || got.Conversations != 2 || len(files) != 2 || !strings.Contains(names, first.Conversation.String()+".json") || !strings.Contains(names, second.Conversation.String()+".json") {
				t.Errorf("%s %d: restored %+v %q: %v", how, left, got, files, err)
			}
		}
	}
	if number < 6 {
		t.Errorf("only %d archives were made", number)
	}
}

func TestAnArchiveWhoseFilesAreGoneIsGivenUpAndMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.config.PartBytes = 1
	w.talk(t, "vera", "ada")
	good, n := w.config.Target, 2
	w.config.Target = brittle{good.(publish.Directory), &n, "before"}
	if _, _, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil); !errors.Is(err, archive.ErrTarget) {
		t.Fatal(err)
	}
	w.config.Target = good
	must(t, os.RemoveAll(w.dir))
	if _, _, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil); !errors.Is(err, archive.ErrLost) || len(w.said(t, archive.ActMade)) != 0 {
		t.Errorf("with files gone: %v", err)
	}
	if a, _ := w.made(t); a.Conversations != 1 || len(w.said(t, archive.ActGivenUp)) != 1 {
		t.Errorf("made anew: %+v", a)
	}
	// Where no directory can be, nothing is archived and it is said.
	w.talk(t, "vico", "ada")
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	w.config.Target = publish.Directory(file)
	if _, _, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil); !errors.Is(err, archive.ErrTarget) {
		t.Errorf("in a file: %v", err)
	}
}

func TestVerifyNamesWhatWasDoneToAnArchive(t *testing.T) {
	w := newWorld(t)
	w.config.PartBytes = 1
	w.talk(t, "vera", "ada")
	w.talk(t, "vico", "ada")
	_, dir := w.made(t)
	parts, err := filepath.Glob(filepath.Join(dir, "part-*"))
	must(t, err)
	one, other := filepath.Base(parts[0]), filepath.Base(parts[1])
	change := func(name string, f func([]byte) []byte) func(string) error {
		return func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, name))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, name), f(b), 0o600))
		}
	}
	for kind, c := range map[string]func(dir string) error{
		archive.Missing:    func(dir string) error { return os.Remove(filepath.Join(dir, one)) },
		archive.Truncated:  change(one, func(b []byte) []byte { return b[:len(b)-1] }),
		archive.Changed:    change(one, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		archive.Added:      func(dir string) error { return os.WriteFile(filepath.Join(dir, "part-x"), nil, 0o600) },
		archive.NoManifest: func(dir string) error { return os.Remove(filepath.Join(dir, archive.ManifestFile)) },
		archive.Forged:     change(archive.ManifestFile, func(b []byte) []byte { return bytes.Replace(b, []byte(`"number": 1`), []byte(`"number": 2`), 1) }),
		archive.Swapped: func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, other))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, one), b, 0o600))
		},
	} {
		t.Run(kind, func(t *testing.T) {
			copied := t.TempDir()
			must(t, os.CopyFS(copied, os.DirFS(dir)))
			if r, err := archive.Verify(t.Context(), os.DirFS(copied), "", []string{w.key}, nil); err != nil || len(r.Faults) > 0 {
				t.Fatalf("the copy is not good: %+v %v", r.Faults, err)
			}
			must(t, c(copied))
			r, err := archive.Verify(t.Context(), os.DirFS(copied), "", []string{w.key}, nil)
			if err != nil || len(r.Faults) != 1 || r.Faults[0].Kind != kind {
				t.Errorf("found was %+v: %v", r.Faults, err)
			}
		})
	}
	// The service knows its own by what is on record.
	if all, err := w.desk().VerifyKept(t.Context(), w.Organisation.ID, nil); err != nil || len(all) != 1 || len(all[0].Faults) > 0 {
		t.Errorf("where it lies: %+v %v", all, err)
	}
	must(t, change(archive.ManifestFile, func(b []byte) []byte { return bytes.Replace(b, []byte(`"number": 1`), []byte(`"number": 2`), 1) })(dir))
	if all, err := w.desk().VerifyKept(t.Context(), w.Organisation.ID, nil); err != nil || len(all[0].Faults) != 1 || all[0].Faults[0].Kind != archive.Forged {
		t.Errorf("changed where it lies: %+v %v", all, err)
	}
}

func TestAnErasureNamesTheArchivesThatHaveSomebodyUntilTheyGo(t *testing.T) {
	w := newWorld(t)
	desk := control.New(w.Pool, w.DB.Pool(t, "counterfoil_retention"), w.Gate)
	s := w.talk(t, "vera", "ada")
	a, dir := w.made(t)
	vera := control.Subject{Organisation: w.Organisation.ID, Kind: "visitor", ID: s.Visitor}
	kept, err := desk.Kept(t.Context(), vera)
	must(t, err)
	if e := kept.Elsewhere[len(kept.Elsewhere)-1]; e.What != "archive" || e.Name != a.Name || e.Until == nil || !e.Until.Equal(a.Until) {
		t.Errorf("elsewhere is %+v", kept.Elsewhere)
	}
	why, err := w.Gate.Justify(t.Context(), w.Organisation.ID, "asked for by letter")
	must(t, err)
	e, err := desk.Erase(t.Context(), w.operator, vera, access.Grounds{Justification: why})
	must(t, err)
	if facts := w.said(t, control.ActErased)[0].Facts; facts["erased.archives"] != "1" || facts["erased.archives_until"] == "" {
		t.Errorf("certified is %v", facts)
	}
	for _, lang := range []string{"en", "fr"} {
		if text := control.CertificateText(lang, w.Organisation.Origin, e, nil); !strings.Contains(text, a.Name) {
			t.Errorf("the certificate says %q", text)
		}
	}
	if _, any, err := w.desk().Make(t.Context(), w.job(), w.Organisation.ID, nil); err != nil || any {
		t.Errorf("who was erased is archived again: %v %v", any, err)
	}
	// A hold on whoever is in it keeps an archive beyond its time, and without one it goes, on record.
	if n, err := w.desk().Expire(t.Context(), w.Organisation.ID); err != nil || n != 0 {
		t.Errorf("before its time %d archives went: %v", n, err)
	}
	_, err = w.DB.Superuser(t).Exec(t.Context(), "update control.archive set made_at = made_at - interval '401 days'")
	must(t, err)
	hold, err := desk.PlaceHold(t.Context(), w.operator, w.Organisation.ID, control.Hold{Kind: "range"}, access.Grounds{Justification: why})
	must(t, err)
	if n, err := w.desk().Expire(t.Context(), w.Organisation.ID); err != nil || n != 0 {
		t.Errorf("under a hold %d archives went: %v", n, err)
	}
	must(t, desk.LiftHold(t.Context(), w.operator, w.Organisation.ID, hold, access.Grounds{Justification: why}))
	if n, err := w.desk().Expire(t.Context(), w.Organisation.ID); err != nil || n != 1 || len(w.said(t, archive.ActRemoved)) != 1 {
		t.Errorf("after its time %d archives went: %v", n, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of the archive: %v", err)
	}
	kept, err = desk.Kept(t.Context(), vera)
	must(t, err)
	if kept.Elsewhere[len(kept.Elsewhere)-1].What == "archive" {
		t.Errorf("elsewhere is still %+v", kept.Elsewhere)
	}
}

func TestAllArchivesOfAnErasedOrganisationGoWhenTheirTimeIsOver(t *testing.T) {
	w := newWorld(t)
	var dirs []string
	for _, visitor := range []string{"vera", "vito"} {
		w.talk(t, visitor, "ada")
		_, dir := w.made(t)
		dirs = append(dirs, dir)
	}
	_, err := w.DB.Superuser(t).Exec(t.Context(), "update control.archive set made_at = made_at - interval '401 days'")
	must(t, err)
	did, err := control.New(w.Pool, w.DB.Pool(t, "counterfoil_retention"), w.Gate).Replay(t.Context(), w.Organisation.ID, audit.Entry{Seq: 7, Kind: audit.Administration,
		Action: control.ActErase, Decision: audit.DecisionAllow, Facts: map[string]string{"erasure.kind": "organisation", "erasure.subject": w.Organisation.ID.String()}})
	if err != nil || !did {
		t.Fatalf("erased: %t, %v", did, err)
	}
	if n, err := w.desk().Expire(t.Context(), w.Organisation.ID); err != nil || n != 2 || len(w.said(t, archive.ActRemoved)) != 2 {
		t.Errorf("%d archives went: %v", n, err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the directory of an archive: %v", err)
		}
	}
}

func TestABucketKeepsAnArchiveUntilItsTime(t *testing.T) {
	w := newWorld(t)
	server := buckettest.Serve(t)
	buckettest.MakeBuckets(t, server.Target)
	bucket := buckettest.Open(t, server.Target, buckettest.Locked)
	w.config.Target = bucket
	w.talk(t, "vera", "ada")
	a, _ := w.made(t)
	if a.Locked == nil || a.Locked.Before(time.Now().AddDate(0, 0, 399)) || a.Until.Before(*a.Locked) {
		t.Errorf("it is locked until %v", a.Locked)
	}
	if all, err := w.desk().VerifyKept(t.Context(), w.Organisation.ID, nil); err != nil || len(all) != 1 || len(all[0].Faults) > 0 {
		t.Errorf("where it lies: %+v %v", all, err)
	}
	if err := bucket.Remove(t.Context(), "archive/"+w.Organisation.ID.String()+"/"+a.Name, ""); err == nil {
		t.Error("a locked archive was removed")
	}
}
