package cluster

import "syscall"

// sysProcAttr puts a child into its own process group, so that Ctrl-C reaches only the service, which then stops it in
// order, and has the kernel send it SIGINT (PostgreSQL: fast shutdown) when the service dies without a chance to do so.
func sysProcAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT, Credential: cred}
}
