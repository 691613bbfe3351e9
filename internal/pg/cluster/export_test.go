package cluster

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
)

// StartFrom is Start with other places to look for PostgreSQL in.
func StartFrom(ctx context.Context, o Options, path string, patterns []string) (*Cluster, error) {
	return start(ctx, o, path, patterns)
}

// Orphan runs the server of a stopped cluster the way it is left behind where no signal ties it to the service.
func Orphan(c *Cluster) (*exec.Cmd, error) {
	cmd := exec.Command(c.bin.postgres(), "-D", c.pgdata, "-c", "listen_addresses=", "-c", "unix_socket_directories="+quoteListItem(c.socket))
	cmd.Dir = c.pgdata
	cmd.Env = childEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.cred}
	return cmd, cmd.Start()
}

// Bystander runs a program of the server's user that is no server.
func Bystander(c *Cluster) (*exec.Cmd, error) {
	cmd := exec.Command("/bin/sleep", "600")
	cmd.Dir = c.pgdata
	cmd.SysProcAttr = sysProcAttr(c.cred)
	return cmd, cmd.Start()
}

func SocketPath(c *Cluster) string { return filepath.Join(c.socket, socketName) }

func ServerRuns(ctx context.Context, pid int, pgdata string) bool {
	return isServerOf(ctx, pid, pgdata)
}

var (
	ReadPid      = readPid
	ParsePid     = parsePid
	ClosedParent = closedParent
)
