//go:build unix

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// readFile is what [readFile] is, by the few system calls that it takes: [os.Open] makes more of them, to offer the file to
// the poller, which takes no file. It does not wait for who may write to a pipe in the place of a file.
func (d directory) readFile(name string, limit int, buf []byte) (_ []byte, err error) {
	buf = buf[:0]
	failed := func(op string, err error) ([]byte, error) {
		return buf, &fs.PathError{Op: op, Path: name, Err: err}
	}
	if !fs.ValidPath(name) {
		return failed("open", fs.ErrInvalid)
	}
	path := d.path + "/" + filepath.FromSlash(name)
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	for errors.Is(err, syscall.EINTR) {
		fd, err = syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return failed("open", err)
	}
	defer syscall.Close(fd)
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), 2*cap(buf)+smallestRead)
			copy(grown, buf)
			buf = grown
		}
		n, err := syscall.Read(fd, buf[len(buf):cap(buf)])
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return failed("read", err)
		case n == 0:
			return buf, nil
		default:
			buf = buf[:len(buf)+n]
		}
		if len(buf) > limit {
			return buf, fmt.Errorf("read %s: %w", name, errTooLarge)
		}
	}
}

// smallestRead is the size of a full tile and a little, so that one buffer does for it.
const smallestRead = TileWidth*32 + 512
