package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// errBusy says that another process is writing to the directory.
var errBusy = errors.New("another process is publishing there")

// lock makes sure that one process at a time writes to a directory below root, which it makes so that it outlasts a loss of
// power. The lock ends with the process.
func lock(root, dir string) (unlock func(), err error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		err := os.MkdirAll(dir, 0o755)
		for made := dir; err == nil && len(made) >= len(root); made = filepath.Dir(made) {
			err = syncDir(filepath.Dir(made))
		}
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", dir, err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = errBusy
		}
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
