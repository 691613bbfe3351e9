//go:build !linux

package cluster

import "syscall"

// sysProcAttr puts a child into its own process group, so that Ctrl-C reaches only the service, which then stops it in
// order. When the service dies without a chance to do so, its next start stops the server.
func sysProcAttr(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}
