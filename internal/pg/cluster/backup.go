package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Backup copies the server that runs in dataDir into a new directory, with what it takes to start from it, and checks every file
// against the sums that the server gave. PostgreSQL's own programs do both.
func Backup(ctx context.Context, dataDir, into string) error {
	c, err := found(ctx, dataDir)
	if err != nil {
		return err
	}
	socket := filepath.Join(c.opts.DataDir, "run")
	if note, err := os.ReadFile(filepath.Join(c.conf, "socket")); err == nil {
		socket = string(note)
	}
	if _, err := os.Stat(filepath.Join(socket, socketName)); err != nil {
		return ErrNotRunning
	}
	// Not into the directory itself: what it makes there is the database's alone.
	if err := c.tool(ctx, "pg_basebackup", "--pgdata="+into, "--host="+socket, "--port=5432", "--username="+Superuser, "--no-password",
		"--wal-method=stream", "--checkpoint=fast", "--manifest-checksums=SHA256", "--format=plain"); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return c.check(ctx, into)
}

// CheckBackup checks every file of a backup against the sums that the server gave when it was made, and that the write-ahead log that it
// needs is there.
func CheckBackup(ctx context.Context, backup string) error {
	c, err := found(ctx, filepath.Dir(backup))
	if err != nil {
		return err
	}
	return c.check(ctx, backup)
}

func (c *Cluster) check(ctx context.Context, backup string) error {
	// pg_verifybackup calls pg_waldump by name beside itself.
	if err := c.tool(ctx, "pg_verifybackup", "--exit-on-error", backup); err != nil {
		return fmt.Errorf("check backup: %w", err)
	}
	return nil
}

// Restore puts a checked backup where [Start] with this data directory finds it. There must be no database yet. A restore that was cut
// short leaves none.
func Restore(ctx context.Context, backup, dataDir string) error {
	if err := CheckBackup(ctx, backup); err != nil {
		return err
	}
	c, err := at(dataDir)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.pgdata); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore: there is a database in %s already: move it away", c.opts.DataDir)
	}
	if _, err := c.chooseUser(); err != nil {
		return err
	}
	if err := c.makeDirs(); err != nil {
		return err
	}
	if err := c.takeLock(); err != nil {
		return err
	}
	defer c.release()
	fresh := c.pgdata + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove unfinished database: %w", err)
	}
	if err := c.copyTree(ctx, backup, fresh); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	syscall.Sync() // a thousand small files, at once
	if err := os.Rename(fresh, c.pgdata); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return syncDir(c.opts.DataDir)
}

// at is the cluster of a data directory, not started.
func at(dataDir string) (*Cluster, error) {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, fmt.Errorf("resolve data directory: %w", err)
	}
	return &Cluster{opts: Options{DataDir: dataDir, Notify: func(string) {}}, pgdata: filepath.Join(dataDir, "pgdata"), conf: filepath.Join(dataDir, "conf")}, nil
}

// found is that cluster with the programs of its version.
func found(ctx context.Context, dataDir string) (*Cluster, error) {
	c, err := at(dataDir)
	if err != nil {
		return nil, err
	}
	c.bin, err = c.chooseInstall(ctx, os.Getenv("PATH"), wellKnown)
	return c, err
}

// tool runs one of PostgreSQL's programs as this process's user.
func (c *Cluster) tool(ctx context.Context, name string, args ...string) error {
	path := filepath.Join(c.bin.dir, name)
	if real, err := filepath.EvalSymlinks(c.bin.postgres()); err == nil { // the server may be linked to from elsewhere, alone
		path = filepath.Join(filepath.Dir(real), name)
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: %s is missing beside the server: install PostgreSQL's client programs", ErrNotInstalled, name)
	}
	last := new(tail)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Dir, cmd.Stderr = childEnv(), "/", last
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = killPatience
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; its last words: %s", name, err, strings.TrimSpace(last.String()))
	}
	return nil
}

// copyTree copies a backup for the user that the server runs as.
func (c *Cluster) copyTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		switch {
		case d.IsDir():
			return c.mkdirOwned(target)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no ordinary file: a backup of another program's tablespaces cannot be restored here", below)
		}
		return c.copyFile(path, target)
	})
}

func (c *Cluster) copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it is only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), c.own(to))
}
