package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopOrphan ends a server of this cluster that outlived its service. The lock is held, so no living service owns it.
func (c *Cluster) stopOrphan(ctx context.Context) error {
	pid, err := readPid(c.pgdata)
	if err != nil {
		return err
	}
	if pid == 0 || !isServerOf(ctx, pid, c.pgdata) {
		return nil
	}
	c.opts.Logger.Warn("stopping a PostgreSQL left behind by a service that was killed", "pid", pid)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop PostgreSQL left behind (process %d): %w", pid, err)
		}
		ended, err := awaitEnd(ctx, pid, c.pgdata)
		if err != nil {
			return err
		}
		if ended {
			return nil
		}
	}
	return fmt.Errorf("a PostgreSQL left behind by a killed service (process %d) does not end: stop it by hand", pid)
}

func awaitEnd(ctx context.Context, pid int, pgdata string) (bool, error) {
	deadline := time.Now().Add(orphanPatience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for isServerOf(ctx, pid, pgdata) {
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("stop PostgreSQL left behind: %w", ctx.Err())
		case <-poll.C:
		}
		if time.Now().After(deadline) {
			return false, nil
		}
	}
	return true, nil
}

// clearPidFile prepares for a start: no server of ours runs. It reports whether a previous one left its pid file. If
// the number in it meanwhile belongs to some other process, PostgreSQL would take that for a running server and refuse;
// then the file is removed. Otherwise it stays, since PostgreSQL learns from it which shared memory to look for.
func (c *Cluster) clearPidFile() (relic bool, err error) {
	pid, err := readPid(c.pgdata)
	if err != nil || pid == 0 {
		return false, err
	}
	if syscall.Kill(pid, 0) != nil {
		return true, nil
	}
	if err := os.Remove(pidFile(c.pgdata)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("remove stale pid file: %w", err)
	}
	return true, nil
}

func pidFile(pgdata string) string { return filepath.Join(pgdata, "postmaster.pid") }

// readPid returns the process named in the pid file, or 0 when there is no file or it is damaged.
func readPid(pgdata string) (int, error) {
	b, err := os.ReadFile(pidFile(pgdata))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read pid file: %w", err)
	}
	return parsePid(b), nil
}

// parsePid returns the number on the first line, or 0 when that is no process id.
func parsePid(b []byte) int {
	first, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.ParseInt(string(bytes.TrimSpace(first)), 10, 32)
	if err != nil || pid <= 1 {
		return 0
	}
	return int(pid)
}

// isServerOf reports whether process pid is a living PostgreSQL server working in pgdata.
func isServerOf(ctx context.Context, pid int, pgdata string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		// A zombie has neither link.
		exe, err := os.Readlink(filepath.Join(proc, "exe"))
		if err != nil || !strings.HasPrefix(filepath.Base(exe), "postgres") { // "postgres (deleted)" after an upgrade
			return false
		}
		there, err := os.Stat(filepath.Join(proc, "cwd"))
		if err != nil {
			return false
		}
		here, err := os.Stat(pgdata)
		return err == nil && os.SameFile(here, there)
	}
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres -D "+pgdata+" ")
}
