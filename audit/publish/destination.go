package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"counterfoil/audit"
)

// Destination is where logs are published: a directory or a bucket. Every log has a place of its own in it, named by its origin.
type Destination interface {
	// Where names the place of a log for people.
	Where(origin string) string
	// Open gives the place for writing, to one at a time: the error is errBusy while another writes there. What never changes
	// is kept until keep, if the destination can promise that.
	Open(ctx context.Context, origin string, keep time.Time) (place audit.Place, release func(), err error)
	// Seen gives what a file holds, nil if it is not there, and what it held before as far as the destination remembers.
	Seen(ctx context.Context, origin, name string) (now []byte, before [][]byte, err error)
	// Files gives the place for reading.
	Files(ctx context.Context, origin string) (fs.FS, error)
	// Overwritten lists what was replaced or deleted in the place although it never may be, as far as the destination remembers.
	Overwritten(ctx context.Context, origin string) ([]string, error)
}

// errBusy says that another process is writing to a place.
var errBusy = errors.New("another process is publishing there")

// Directory is a destination on a file system.
type Directory string

// Where implements [Destination].
func (d Directory) Where(origin string) string {
	path, err := d.path(origin)
	if err != nil {
		return string(d)
	}
	return path
}

func (d Directory) path(origin string) (string, error) {
	path, err := localPath(origin)
	return filepath.Join(string(d), filepath.FromSlash(path)), err
}

// localPath is the origin of a log as a path below a destination, which it must not leave.
func localPath(origin string) (string, error) {
	if path := filepath.FromSlash(origin); !filepath.IsLocal(path) || filepath.Clean(path) != path {
		return "", fmt.Errorf("the log's origin %q does not name a directory", origin)
	}
	return origin, nil
}

// Open implements [Destination]. The lock ends with the process.
func (d Directory) Open(_ context.Context, origin string, _ time.Time) (audit.Place, func(), error) {
	path, err := d.path(origin)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := lock(filepath.Clean(string(d)), path)
	if err != nil {
		return nil, nil, err
	}
	return audit.Dir(path), unlock, nil
}

// Seen implements [Destination].
func (d Directory) Seen(_ context.Context, origin, name string) ([]byte, [][]byte, error) {
	path, err := d.path(origin)
	if err != nil {
		return nil, nil, err
	}
	b, err := os.ReadFile(filepath.Join(path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	return b, nil, err
}

// Files implements [Destination].
func (d Directory) Files(_ context.Context, origin string) (fs.FS, error) {
	path, err := d.path(origin)
	return audit.Files(path), err
}

// Overwritten implements [Destination]: a directory remembers nothing.
func (Directory) Overwritten(context.Context, string) ([]string, error) { return nil, nil }

// Locks reports that nothing keeps what is written there from being removed.
func (Directory) Locks() bool { return false }

// Remove removes a file of a place, or with an empty name the whole place. It is for what is no log.
func (d Directory) Remove(_ context.Context, place, name string) error {
	path, err := d.path(place)
	if err != nil || !filepath.IsLocal(filepath.Join(place, name)) {
		return errors.Join(err, fs.ErrInvalid)
	}
	if err := os.RemoveAll(filepath.Join(path, name)); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(filepath.Join(path, name))); errors.Is(err, fs.ErrNotExist) {
		return nil // it never was
	}
	return syncDir(filepath.Dir(filepath.Join(path, name)))
}

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
