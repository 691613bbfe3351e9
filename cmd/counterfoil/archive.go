package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/audit"
	"counterfoil/audit/publish"
	"counterfoil/internal/access"
	"counterfoil/internal/archive"
	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/egress"
	"counterfoil/internal/jobs"
)

// archiveTarget is where archives lie, as the host's settings say; nil for nowhere.
func archiveTarget(c config.Config, register *egress.Register, tracer trace.TracerProvider) (archive.Target, error) {
	switch {
	case c.ArchiveDir != "":
		return publish.Directory(c.ArchiveDir), nil
	case c.ArchiveBucket != "":
		b := c.Bucket
		b.Name = c.ArchiveBucket
		bucket, err := openBucket(b, register, tracer, egress.Destination{
			Name: "archive", Purpose: "keep the sealed archives of conversations", Data: []egress.Class{egress.Credentials, egress.Sealed, egress.Hashes}, Party: egress.ThirdParty, Region: c.Bucket.Region,
		})
		if err != nil {
			return nil, err
		}
		return bucket, nil
	}
	return nil, nil
}

// openArchives makes the desk where archives are made.
func (h *heart) openArchives(tracer trace.TracerProvider) error {
	target, err := archiveTarget(h.config, h.egress, tracer)
	if err != nil {
		return err
	}
	readers := h.gate.Readers()
	h.archives = archive.New(archive.Config{
		Pool: h.pool, Gate: h.gate, Log: h.log, Key: h.key, Target: target,
		Scene: func(ctx context.Context, organisation, conversation uuid.UUID) (access.Scene, error) {
			c, settings, err := h.store.Conversation(ctx, organisation, conversation)
			return access.Scene{Conversation: c, Settings: settings}, err
		},
		VisitorToArchive:      readers.VisitorToArchive,      // what a visitor said of himself goes into the archive
		AgentToArchive:        readers.AgentToArchive,        // and who answered him
		ConversationToArchive: readers.ConversationToArchive, // and what they wrote
	})
	return nil
}

// Kinds of jobs.
const (
	jobArchive    = "archive"
	jobArchiveNow = "archive_now"
)

// archiveJobs make archives when they are due or asked for, carry on with those that broke off, and remove those whose time is over.
func (h *heart) archiveJobs() []jobs.Job {
	run := func(ctx context.Context, r jobs.Run, o chat.Organisation) error {
		begun := time.Now()
		_, _, err := h.archives.Make(ctx, archivist(o.ID), o.ID, func(a archive.Archive) error {
			if time.Since(begun) > atATime {
				return jobs.Again
			}
			return r.Progress(ctx, "conversations", a.Conversations, a.Conversations)
		})
		return err
	}
	return []jobs.Job{
		{Kind: jobArchive, Every: time.Hour, Run: func(ctx context.Context, r jobs.Run) error {
			all, err := h.store.Organisations(ctx)
			if err != nil || !h.archives.Ready() {
				return err
			}
			for _, o := range all {
				due, oneErr := h.archives.Due(ctx, o.ID, time.Now())
				if oneErr == nil && due {
					oneErr = run(ctx, r, o)
				}
				if errors.Is(oneErr, jobs.Again) {
					return oneErr
				}
				if oneErr == nil {
					_, oneErr = h.archives.Expire(ctx, o.ID)
				}
				if !errors.Is(oneErr, access.ErrErased) { // nobody is left of the organisation
					err = errors.Join(err, oneErr)
				}
			}
			return err
		}},
		{Kind: jobArchiveNow, Run: func(ctx context.Context, r jobs.Run) error {
			return run(ctx, r, chat.Organisation{ID: r.Organisation})
		}},
	}
}

// archiving connects and runs f with the desk where archives are made.
func (a *app) archiving(named string, f func(*heart, chat.Organisation) error) error {
	return a.controlling(named, func(h *heart, o chat.Organisation) error {
		err := f(h, o)
		if errors.Is(err, archive.ErrRecipient) || errors.Is(err, archive.ErrNoRecipient) || errors.Is(err, archive.ErrNoTarget) {
			return usageError{err.Error()}
		}
		return err
	})
}

type archiveSetCmd struct {
	Recipient string `arg:"" optional:"" help:"The organisation's own age public key (age1…), to which archives are sealed; none to archive no more."`
	Every     int    `help:"Days between two archives, from 1 to 31; 0 for none but those somebody asks for." default:"1"`
	Org       string `help:"Organisation, by name or id; not needed when there is one."`
}

// Help is shown below the flags.
func (archiveSetCmd) Help() string {
	return "Whoever has the identity that belongs to this key can read the archives, and nobody else, this service neither: make it with age-keygen on a machine of the organisation, and keep it there. " +
		"How long archives are kept is set with: counterfoil retention set archive DAYS\n\nExamples:\n  counterfoil archive set age1… --every 1\n  counterfoil archive set"
}

// Run sets to whom archives are sealed, and how often they are made.
func (c archiveSetCmd) Run(a *app) error {
	return a.archiving(c.Org, func(h *heart, o chat.Organisation) error {
		if c.Recipient == "" {
			c.Every = 0
		}
		if c.Every < 0 || c.Every > 31 {
			return usageError{"--every is from 0 to 31"}
		}
		if err := h.archives.SetPlan(a.ctx, operator(o.ID), o.ID, c.Recipient, c.Every, access.Grounds{}); err != nil {
			return err
		}
		if c.Recipient == "" {
			fmt.Fprintln(a.stdout, a.in("No archives are made any more. Those there are stay until their time is over.", "Plus aucune archive n’est faite. Celles qui existent restent jusqu’à leur terme."))
			return nil
		}
		fmt.Fprintf(a.stdout, a.in("Archives are sealed to %s.\n", "Les archives sont scellées pour %s.\n"), c.Recipient)
		if !h.archives.Ready() {
			fmt.Fprintln(a.stdout, a.in("There is no place for them yet: set COUNTERFOIL_ARCHIVE_DIR or COUNTERFOIL_ARCHIVE_BUCKET.", "Elles n’ont pas encore de place : définissez COUNTERFOIL_ARCHIVE_DIR ou COUNTERFOIL_ARCHIVE_BUCKET."))
		}
		return nil
	})
}

type archiveCreateCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (archiveCreateCmd) Help() string {
	return "A running service does it as often as is set. What broke off is carried on. Every name and message that goes in is decided and recorded like any other look.\n\nExample:\n  counterfoil archive create"
}

// Run makes an archive now.
func (c archiveCreateCmd) Run(a *app) error {
	return a.archiving(c.Org, func(h *heart, o chat.Organisation) error {
		tell := a.telling()
		made, any, err := h.archives.Make(a.ctx, operator(o.ID), o.ID, func(one archive.Archive) error {
			tell(a.in("%d conversations archived\n", "%d conversations archivées\n"), one.Conversations)
			return nil
		})
		if err != nil {
			return err
		}
		all := []archive.Archive{}
		if any && made.Made != nil {
			all = append(all, made)
		}
		if c.JSON {
			return a.json(all)
		}
		if len(all) == 0 {
			fmt.Fprintln(a.stdout, a.in("There is nothing new to archive.", "Il n’y a rien de nouveau à archiver."))
			return nil
		}
		return a.showArchives(all)
	})
}

type archiveListCmd struct {
	Org   string `help:"Organisation, by name or id; not needed when there is one."`
	Limit int    `help:"At most so many." default:"100"`
	JSON  bool   `help:"For programs."`
}

// Help is shown below the flags.
func (archiveListCmd) Help() string { return "Example:\n  counterfoil archive list --json" }

// Run lists archives.
func (c archiveListCmd) Run(a *app) error {
	if c.Limit < 1 || c.Limit > 5000 {
		return usageError{"--limit is from 1 to 5000"}
	}
	return a.archiving(c.Org, func(h *heart, o chat.Organisation) error {
		all, err := h.archives.Archives(a.ctx, o.ID, c.Limit)
		if err != nil {
			return err
		}
		if c.JSON {
			return a.json(all)
		}
		return a.showArchives(all)
	})
}

func (a *app) showArchives(all []archive.Archive) error {
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, a.in("ARCHIVE\tSTATE\tCONVERSATIONS\tENDED FROM\tTO\tFILES\tBYTES\tKEPT UNTIL\tRECORD\tWHERE", "ARCHIVE\tÉTAT\tCONVERSATIONS\tFINIES DU\tAU\tFICHIERS\tOCTETS\tGARDÉE JUSQU’AU\tENREGISTREMENT\tOÙ"))
	for _, one := range all {
		state, record := a.in("under way", "en cours"), "-"
		switch {
		case one.Removed != nil:
			state = a.in("removed", "supprimée")
		case one.GivenUp != nil:
			state = a.in("given up", "abandonnée")
		case one.Made != nil:
			state = fmt.Sprintf(a.in("made, number %d", "faite, numéro %d"), one.Number)
		}
		if one.Record != nil {
			record = fmt.Sprint(*one.Record)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", one.Name, state, one.Conversations, dateOf(one.First), dateOf(one.Last), one.Parts, one.Bytes, one.Until.UTC().Format(time.DateOnly), record, one.Target)
	}
	return t.Flush()
}

// keysOf reads verifier keys, each a line or a file with one.
func keysOf(named []string) []string {
	keys := make([]string, len(named))
	for i, k := range named {
		if b, err := os.ReadFile(k); err == nil {
			k = string(b)
		}
		keys[i] = strings.TrimSpace(k)
	}
	return keys
}

// archivesIn finds an archive or several beside each other in a directory.
func archivesIn(dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, archive.ManifestFile)); err == nil {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	if len(all) == 0 {
		all = append(all, dir)
	}
	return all, nil
}

type archiveVerifyCmd struct {
	Dir  string   `arg:"" optional:"" type:"existingdir" help:"Directory of an archive, or of several beside each other. Without it those are checked that the database knows, where they lie."`
	Key  []string `help:"Verifier key line of the log, or a file with it, such as key.pub beside an export of the log. Several while a key was replaced."`
	Org  string   `help:"Without a directory: organisation, by name or id; not needed when there is one."`
	JSON bool     `help:"For programs."`
}

// Help is shown below the flags.
func (archiveVerifyCmd) Help() string {
	return "With a directory it needs nothing but the key: no database, no service, no identity. Exit code 1 if an archive is not good.\n\n" +
		"Examples:\n  counterfoil archive verify ./20261124T020000Z-5f0c7a52 --key key.pub\n  counterfoil archive verify"
}

// Run checks archives.
func (c archiveVerifyCmd) Run(a *app) error {
	bar := audit.NewProgress(a.stderr)
	var reports []archive.Report
	var faults []archive.Fault
	if c.Dir != "" {
		if len(c.Key) == 0 {
			return usageError{"--key says by which key the archive must be signed: that of the log"}
		}
		dirs, err := archivesIn(c.Dir)
		if err != nil {
			return err
		}
		for _, dir := range dirs {
			r, err := archive.Verify(a.ctx, os.DirFS(dir), dir, keysOf(c.Key), bar.Update)
			bar.Clear()
			if err != nil {
				return err
			}
			reports = append(reports, r)
		}
		if len(dirs) > 1 {
			faults = archive.Chain(reports, time.Now())
		}
	} else {
		err := a.archiving(c.Org, func(h *heart, o chat.Organisation) (err error) {
			reports, err = h.archives.VerifyKept(a.ctx, o.ID, bar.Update)
			bar.Clear()
			return err
		})
		if err != nil {
			return err
		}
	}
	bad := len(faults) > 0
	for _, r := range reports {
		bad = bad || len(r.Faults) > 0
	}
	if c.JSON {
		if err := a.json(map[string]any{"archives": reports, "faults": append([]archive.Fault{}, faults...)}); err != nil {
			return err
		}
	} else {
		for _, r := range reports {
			if len(r.Faults) == 0 {
				fmt.Fprintf(a.stdout, a.in("%s is good: archive %d of the log %s, %d conversations in %d files.\n", "%s est bonne : archive %d du journal %s, %d conversations dans %d fichiers.\n"), r.Place, r.Manifest.Number, r.Manifest.Log, r.Manifest.Conversations, len(r.Manifest.Files))
				continue
			}
			fmt.Fprintf(a.stdout, a.in("%s IS NOT GOOD.\n", "%s N’EST PAS BONNE.\n"), r.Place)
			for _, f := range r.Faults {
				fmt.Fprintf(a.stdout, "  %-12s %s: %s\n", f.Kind, f.File, f.Text)
			}
		}
		for _, f := range faults {
			fmt.Fprintf(a.stdout, "  %-12s %s: %s\n", f.Kind, f.File, f.Text)
		}
		if len(reports) == 0 {
			fmt.Fprintln(a.stdout, a.in("There are no archives.", "Il n’y a pas d’archives."))
		}
	}
	if bad {
		return found{}
	}
	return nil
}

type archiveRestoreCmd struct {
	Dir      string   `arg:"" type:"existingdir" help:"Directory of an archive."`
	To       string   `arg:"" type:"path" help:"Directory to write into; it must not be there, or be empty."`
	Identity string   `help:"File with the age identity that archives are sealed to, as age-keygen writes it." required:"" type:"existingfile"`
	Key      []string `help:"Verifier key line of the log, or a file with it. Without it nobody checks who signed the archive."`
	JSON     bool     `help:"For programs."`
}

// Help is shown below the flags.
func (archiveRestoreCmd) Help() string {
	return "For a machine of the organisation: it needs no database and no service, and writes one readable JSON file for each conversation, never into a database. The archive is verified first; of one that is not good nothing is written.\n\n" +
		"Example:\n  counterfoil archive restore ./20261124T020000Z-5f0c7a52 ./readable --identity key.txt --key key.pub"
}

// Run opens an archive.
func (c archiveRestoreCmd) Run(a *app) error {
	there, err := os.ReadDir(c.To)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(there) > 0 {
		return usageError{"the directory to write into is not empty"}
	}
	f, err := os.Open(c.Identity)
	if err != nil {
		return err
	}
	identities, err := age.ParseIdentities(f)
	if closeErr := f.Close(); err != nil || closeErr != nil {
		return usageError{"--identity is a file as age-keygen writes it, with a line that begins with AGE-SECRET-KEY-1"} // without what it holds
	}
	bar := audit.NewProgress(a.stderr)
	files := os.DirFS(c.Dir)
	r, err := archive.Verify(a.ctx, files, c.Dir, keysOf(c.Key), bar.Update)
	bar.Clear()
	if err != nil {
		return err
	}
	if len(r.Faults) > 0 {
		for _, f := range r.Faults {
			fmt.Fprintf(a.stderr, "  %-12s %s: %s\n", f.Kind, f.File, f.Text)
		}
		fmt.Fprintln(a.stdout, a.in("The archive is not good. Nothing was written.", "L’archive n’est pas bonne. Rien n’a été écrit."))
		return found{}
	}
	if !r.Signed {
		fmt.Fprintln(a.stderr, a.in("Without --key nobody checked who signed this archive.", "Sans --key, personne n’a vérifié qui a signé cette archive."))
	}
	got, err := archive.Restore(a.ctx, files, r.Manifest, identities, c.To, bar.Update)
	bar.Clear()
	switch {
	case errors.Is(err, archive.ErrIdentity):
		fmt.Fprintf(a.stdout, a.in("%v. It is sealed to %s.\n", "%v. Elle est scellée pour %s.\n"), err, r.Manifest.Recipient)
		return found{}
	case errors.Is(err, archive.ErrIncomplete) || errors.Is(err, archive.ErrLine):
		fmt.Fprintf(a.stdout, "%v.\n", err)
		return found{}
	case err != nil:
		return err
	}
	if c.JSON {
		return a.json(got)
	}
	fmt.Fprintf(a.stdout, a.in("Wrote %d conversations with %d events into %s.\n", "%d conversations avec %d événements écrites dans %s.\n"), got.Conversations, got.Events, c.To)
	return nil
}
