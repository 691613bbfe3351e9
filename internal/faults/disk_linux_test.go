package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// mountEnv marks the process that runs the tests in a mount namespace of its own, which ends with it and whatever it mounts.
const mountEnv = "COUNTERFOIL_FAULTS_MOUNTS"

// inOwnNamespace runs the tests again where they may mount, if the machine lets it, and gives how that ended; otherwise why it does not.
func inOwnNamespace() (code int, err error) {
	if os.Getenv(mountEnv) != "" {
		return 0, errors.New("there already")
	}
	runtime.LockOSThread() // the process below ends with the thread that started it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), mountEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			cmd.Process.Signal(s) //nolint:errcheck // it may have ended
		}
	}()
	err = cmd.Wait()
	if cmd.ProcessState.Exited() {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 1, nil
}

// mayMount tells why no file system can be mounted here; nil if one can.
func mayMount() error {
	if os.Getenv(mountEnv) == "" {
		return errors.New("this process may not have a mount namespace of its own")
	}
	dir, err := os.MkdirTemp("", "counterfoil-mount-")
	if err != nil {
		return err
	}
	defer os.Remove(dir) //nolint:errcheck // an empty directory
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return syscall.Unmount(dir, 0)
}

// disk is a file system of a directory's own, whose size can be changed.
type disk string

const roomy = 8 << 30

// moveToDisk gives a directory, which nobody uses meanwhile, a file system of its own.
func moveToDisk(dir string) (disk, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	own := info.Sys().(*syscall.Stat_t)
	aside := dir + ".aside"
	err = errors.Join(os.Rename(dir, aside), os.Mkdir(dir, 0o700))
	if err == nil {
		err = syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700,uid=%d,gid=%d", int64(roomy), own.Uid, own.Gid))
	}
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("cp", "-a", aside+"/.", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("copy %s: %w: %s", filepath.Base(dir), err, out)
	}
	return disk(dir), os.RemoveAll(aside)
}

// leave lets so many bytes of the disk be free.
func (d disk) leave(free uint64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(string(d), &s); err != nil {
		return err
	}
	return d.resize((s.Blocks-s.Bfree)*uint64(s.Bsize) + free)
}

func (d disk) resize(size uint64) error {
	return syscall.Mount("tmpfs", string(d), "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size))
}

// detach takes it away with what is on it.
func (d disk) detach() error { return syscall.Unmount(string(d), syscall.MNT_DETACH) }
