package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/audit/publish"
	"counterfoil/internal/config"
	"counterfoil/internal/egress"
	"counterfoil/internal/pg/cluster"
	"counterfoil/policy"
)

const (
	backupTime    = "20060102T150405Z"
	backupReport  = "backup.json"
	backupPartial = ".partial-"
)

// backed is what is known of a backup that was made and proved to be good.
type backed struct {
	Name    string    `json:"name"`
	Made    time.Time `json:"made"`
	Took    float64   `json:"seconds"`
	Bytes   int64     `json:"bytes"`
	Logs    int       `json:"logs"`
	Records uint64    `json:"records"` // that were verified in the copy
	Checked time.Time `json:"checked"`
}

// makeBackup copies the running database into a directory of its own under dir, starts a copy of the copy, and has every log verified there. Only
// then it bears its name; whatever breaks off leaves nothing that looks like a backup.
func makeBackup(ctx context.Context, c config.Config, dir string, notify func(string)) (backed, error) {
	began := time.Now().UTC()
	b := backed{Name: began.Format(backupTime), Made: began}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return b, fmt.Errorf("make directory of backups: %w", err)
	}
	if err := dropPartial(dir); err != nil {
		return b, err
	}
	partial := filepath.Join(dir, backupPartial+b.Name)
	if err := os.Mkdir(partial, 0o700); err != nil {
		return b, fmt.Errorf("make directory of backup: %w", err)
	}
	err := func() error {
		notify("copying the database")
		if err := cluster.Backup(ctx, clusterDir(c), filepath.Join(partial, "pgdata")); err != nil {
			return err
		}
		notify("proving it by starting a copy of it")
		var err error
		if b.Logs, b.Records, err = proveBackup(ctx, c, partial); err != nil {
			return err
		}
		if b.Bytes, err = sizeOf(partial); err != nil {
			return err
		}
		b.Checked = time.Now().UTC()
		b.Took = b.Checked.Sub(began).Seconds()
		return writeReport(partial, b)
	}()
	if err == nil {
		err = os.Rename(partial, filepath.Join(dir, b.Name))
	}
	if err != nil {
		return b, errors.Join(err, os.RemoveAll(partial))
	}
	return b, nil
}

// dropPartial removes what broke off.
func dropPartial(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, backupPartial+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("remove an unfinished backup: %w", err)
	}
	return nil
}

func writeReport(dir string, b backed) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, backupReport), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write report of backup: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write report of backup: %w", err)
	}
	return nil
}

func sizeOf(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

const scratchPrefix = "counterfoil-proof-"

// proveBackup restores a backup into a database of its own, opens it with the keys of this host and verifies every log in it.
func proveBackup(ctx context.Context, c config.Config, backup string) (logs int, records uint64, err error) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*")) // the pattern is well formed
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour { // of a process that was killed
			_ = os.RemoveAll(path)
		}
	}
	scratch, err := os.MkdirTemp("", scratchPrefix+"*") // where PostgreSQL's own user can reach it
	if err != nil {
		return 0, 0, fmt.Errorf("make directory to prove the backup in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if err := os.Chmod(scratch, 0o711); err != nil {
		return 0, 0, err
	}
	data := filepath.Join(scratch, "postgresql")
	if err := cluster.Restore(ctx, filepath.Join(backup, "pgdata"), data); err != nil {
		return 0, 0, err
	}
	db, err := cluster.Start(ctx, cluster.Options{DataDir: data})
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, db.Stop(stop))
	}()
	// Nothing of what belongs to the running service is touched: what it publishes goes on by itself.
	c.DatabaseURL, c.PublishDir, c.Bucket, c.Witness = "", filepath.Join(scratch, "export"), config.Bucket{}, config.Witness{Policy: config.WitnessNone}
	c.ArchiveDir, c.ArchiveBucket = "", ""
	h, err := openHeart(ctx, c, egress.New(), db.URL(serviceRole, cluster.Database), slog.New(slog.DiscardHandler), noop.NewTracerProvider(), nil)
	if err != nil {
		return 0, 0, err
	}
	defer h.close()
	all, err := h.store.Organisations(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, o := range all {
		r, err := h.log.Verify(ctx, o.ID, audit.Options{})
		if err != nil {
			return 0, 0, fmt.Errorf("verify log %s in the backup: %w", o.Origin, err)
		}
		if len(r.Faults) > 0 {
			return 0, 0, fmt.Errorf("the log %s in the backup does not verify: %s", o.Origin, r.Faults[0].Text)
		}
		logs, records = logs+1, records+r.Records
	}
	return logs, records, nil
}

// recordBackup puts into every log what was done about a backup.
func (h *heart) recordBackup(ctx context.Context, by actor, purpose policy.Purpose, action string, b backed) error {
	facts := map[string]string{"backup": b.Name, "bytes": fmt.Sprint(b.Bytes), "logs": fmt.Sprint(b.Logs), "records": fmt.Sprint(b.Records), "seconds": fmt.Sprintf("%.1f", b.Took)}
	return h.actEverywhere(ctx, by, purpose, action, facts)
}

// What is recorded about backups.
const (
	backupMade     = "backup.made"
	backupProved   = "backup.proved"
	backupRestored = "backup.restored"
)

// backups lists those in a directory, the newest first.
func backups(dir string) ([]backed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	var all []backed
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		b, err := readReport(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b backed) int { return b.Made.Compare(a.Made) })
	return all, nil
}

func readReport(dir string) (b backed, err error) {
	text, err := os.ReadFile(filepath.Join(dir, backupReport))
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("the report %s is damaged", filepath.Join(filepath.Base(dir), backupReport))
	}
	b.Name = filepath.Base(dir)
	return b, nil
}

// nightlyBackup makes a backup each night and keeps so many, if a directory is set for them.
func (s *service) nightlyBackup(ctx context.Context) {
	if s.config.BackupDir == "" {
		return
	}
	nightly(ctx, night-1, func() {
		b, err := makeBackup(ctx, s.config, s.config.BackupDir, func(string) {})
		if err == nil {
			err = s.heart.recordBackup(ctx, keeper, policy.ApplyRetention, backupMade, b)
		}
		if err == nil {
			err = thinBackups(s.config.BackupDir, s.config.BackupKeep)
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Error("tonight's backup failed; the ones before are kept", "error", err)
		}
	})
}

// thinBackups removes all but the newest. What was erased meanwhile still lies in older ones, as ciphertext without a key.
func thinBackups(dir string, keep int) error {
	all, err := backups(dir)
	if err != nil {
		return err
	}
	for _, b := range all[min(keep, len(all)):] {
		if err := os.RemoveAll(filepath.Join(dir, b.Name)); err != nil {
			return fmt.Errorf("remove old backup: %w", err)
		}
	}
	return nil
}

// backupDir is where backups lie: as a command says, or as is set.
func (a *app) backupDir(named string) (config.Config, string, error) {
	c, err := a.settings()
	if err != nil {
		return c, "", err
	}
	if c.DatabaseURL != "" {
		return c, "", usageError{"the database is not run by Counterfoil: back it up with what runs it, pg_basebackup or pgBackRest, say"}
	}
	dir := cmp.Or(named, c.BackupDir)
	if dir == "" {
		return c, "", usageError{"name a directory, or set COUNTERFOIL_BACKUP_DIR"}
	}
	return c, dir, nil
}

type backupCreateCmd struct {
	Dir  string `arg:"" optional:"" help:"Directory for backups; without it COUNTERFOIL_BACKUP_DIR." type:"path"`
	JSON bool   `help:"For programs."`
}

// Help is shown below the flags.
func (backupCreateCmd) Help() string {
	return "The service may go on meanwhile. PostgreSQL's own pg_basebackup copies and pg_verifybackup checks; then a copy of the copy is started, opened with the keys of this host, and every log in it is verified. " +
		"Only what passes is kept, and it is a record of every log. The keys and the operational log are no part of it: keep the keys apart.\n\nExamples:\n  counterfoil backup create /mnt/backups\n  counterfoil backup create --json"
}

// Run makes a backup.
func (c backupCreateCmd) Run(a *app) error {
	settings, dir, err := a.backupDir(c.Dir)
	if err != nil {
		return err
	}
	h, done, err := a.connect() // so that the database runs
	if err != nil {
		return err
	}
	defer done()
	b, err := makeBackup(a.ctx, settings, dir, func(step string) { fmt.Fprintln(a.stderr, a.in(step, backupStepInFrench[step])) })
	if err != nil {
		return err
	}
	if err := h.recordBackup(a.ctx, asOperator, policy.Administer, backupMade, b); err != nil {
		return err
	}
	return a.showBackups([]backed{b}, c.JSON)
}

// backupStepInFrench are the steps that makeBackup tells of.
var backupStepInFrench = map[string]string{
	"copying the database": "copie de la base de données", "proving it by starting a copy of it": "preuve en démarrant une copie",
}

func (a *app) showBackups(all []backed, asJSON bool) error {
	if asJSON {
		for _, b := range all {
			if err := json.NewEncoder(a.stdout).Encode(b); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, a.in("NAME\tMiB\tLOGS\tRECORDS VERIFIED\tPROVED (UTC)", "NOM\tMio\tJOURNAUX\tENREGISTREMENTS VÉRIFIÉS\tPROUVÉE (UTC)"))
	for _, b := range all {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\n", b.Name, b.Bytes>>20, b.Logs, b.Records, b.Checked.Format(time.DateTime))
	}
	return t.Flush()
}

type backupListCmd struct {
	Dir  string `arg:"" optional:"" help:"Directory of backups; without it COUNTERFOIL_BACKUP_DIR." type:"path"`
	JSON bool   `help:"For programs, one object a line."`
}

// Help is shown below the flags.
func (backupListCmd) Help() string {
	return "Example:\n  counterfoil backup list /mnt/backups"
}

// Run lists backups.
func (c backupListCmd) Run(a *app) error {
	_, dir, err := a.backupDir(c.Dir)
	if err != nil {
		return err
	}
	all, err := backups(dir)
	if err != nil {
		return err
	}
	return a.showBackups(all, c.JSON)
}

type backupVerifyCmd struct {
	Backup string `arg:"" help:"Directory of one backup." type:"path"`
	JSON   bool   `help:"For programs."`
}

// Help is shown below the flags.
func (backupVerifyCmd) Help() string {
	return "Does with it what restoring does, in a place of its own. The outcome is a record of every log. Exit code 1 if the backup is not good.\n\nExample:\n  counterfoil backup verify /mnt/backups/20261124T020000Z"
}

// Run proves a backup again.
func (c backupVerifyCmd) Run(a *app) error {
	settings, _, err := a.backupDir(c.Backup)
	if err != nil {
		return err
	}
	b, err := readReport(c.Backup)
	if err != nil {
		return fmt.Errorf("read report of backup: %w", err)
	}
	began := time.Now()
	if b.Logs, b.Records, err = proveBackup(a.ctx, settings, c.Backup); err != nil {
		if a.ctx.Err() != nil || errors.Is(err, cluster.ErrNotInstalled) {
			return err
		}
		fmt.Fprintf(a.stdout, a.in("The backup is not good: %v\n", "La sauvegarde n’est pas bonne : %v\n"), err)
		return found{}
	}
	b.Checked, b.Took = time.Now().UTC(), time.Since(began).Seconds()
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	if err := h.recordBackup(a.ctx, asOperator, policy.Administer, backupProved, b); err != nil {
		return err
	}
	return a.showBackups([]backed{b}, c.JSON)
}

type backupRestoreCmd struct {
	Backup string `arg:"" help:"Directory of one backup." type:"path"`
}

// Help is shown below the flags.
func (backupRestoreCmd) Help() string {
	return "The service must be stopped. The database that is there, if any, is moved aside and kept. Then every log is compared with what was published of it: one that is older neither grows nor " +
		"lets anything be disclosed until two operators decide (`counterfoil audit recover`); who was erased since the backup is erased again.\n\nExample:\n  counterfoil backup restore /mnt/backups/20261124T020000Z"
}

// Run puts a backup in the place of the database.
func (c backupRestoreCmd) Run(a *app) error {
	settings, _, err := a.backupDir(c.Backup)
	if err != nil {
		return err
	}
	if _, err := cluster.RunningURL(clusterDir(settings), serviceRole, cluster.Database); err == nil {
		return usageError{"the service runs: stop it first"}
	}
	fmt.Fprintln(a.stderr, a.in("proving the backup in a place of its own", "preuve de la sauvegarde dans un endroit à part"))
	began := time.Now()
	b, err := readReport(c.Backup)
	if err != nil {
		return fmt.Errorf("read report of backup: %w", err)
	}
	if b.Logs, b.Records, err = proveBackup(a.ctx, settings, c.Backup); err != nil {
		return err
	}
	pgdata := filepath.Join(clusterDir(settings), "pgdata")
	aside := pgdata + ".before-" + began.UTC().Format(backupTime)
	if err := os.Rename(pgdata, aside); err == nil {
		fmt.Fprintf(a.stderr, a.in("what was there is now %s\n", "ce qui s’y trouvait est désormais %s\n"), aside)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move the database aside: %w", err)
	}
	if err := cluster.Restore(a.ctx, filepath.Join(c.Backup, "pgdata"), clusterDir(settings)); err != nil {
		return err
	}
	b.Took = time.Since(began).Seconds()
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	frozen := 0
	all, err := h.store.Organisations(a.ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		reason := h.publishers.Standing(a.ctx, o.ID, false)
		switch {
		case errors.Is(reason, publish.ErrFrozen):
			frozen++
			fmt.Fprintf(a.stdout, a.in("%s: the backup is older than what was published of the log; nothing is disclosed. Decide with: counterfoil audit recover --org %s\n", "%s : la sauvegarde est plus ancienne que ce qui a été publié du journal ; rien n’est divulgué. Décidez avec : counterfoil audit recover --org %s\n"), o.Name, o.ID)
		case reason != nil:
			return reason
		default:
			facts := map[string]string{"backup": b.Name, "records": fmt.Sprint(b.Records), "seconds": fmt.Sprintf("%.1f", b.Took)}
			if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, backupRestored, facts); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, a.in("%s: the log continues what was published of it.\n", "%s : le journal prolonge ce qui en a été publié.\n"), o.Name)
		}
	}
	if frozen > 0 {
		return found{}
	}
	return nil
}
