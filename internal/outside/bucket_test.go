//go:build outside

package outside

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"counterfoil/audit/publish/buckettest"
)

// The service that tests of ours speak to does what a real one does: the same table is held against both.
func TestARealServiceDoesWhatOursDoes(t *testing.T) {
	target, _ := bucketService(t)
	buckettest.Run(t, target)
}

// bucketService starts versitygw over a directory of the test, in which objects lie as files.
func bucketService(t *testing.T) (target buckettest.Target, objects string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	dir := t.TempDir()
	var versions string
	objects, versions = filepath.Join(dir, "objects"), filepath.Join(dir, "versions")
	must(t, errors.Join(os.Mkdir(objects, 0o755), os.Mkdir(versions, 0o755)))
	target = buckettest.Target{Endpoint: "http://" + address, Region: "us-east-1", KeyID: "key-of-the-test", Secret: "secret-of-the-test"}
	cmd := exec.Command(versitygw, "--port", address, "--quiet", "posix", "--versioning-dir", versions, objects)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+target.KeyID, "ROOT_SECRET_ACCESS_KEY="+target.Secret)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(target.Endpoint)
		if err == nil {
			must(t, resp.Body.Close())
			return target, objects
		}
		if time.Now().After(deadline) {
			t.Fatalf("versitygw does not answer: %v", err)
		}
	}
}
