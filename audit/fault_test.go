package audit

import (
	"errors"
	"os"
)

// ErrDiskFull is what FailAfter makes writes end with.
var ErrDiskFull = errors.New("the disk is full")

// FailAfter lets n files be written whole; the next is left torn, as a full disk or a kill leaves it, and all after it fail.
func FailAfter(w *ExportWriter, n int) {
	w.place.(*dir).write = func(f *os.File, data []byte) error {
		if n--; n >= 0 {
			return writeSync(f, data)
		}
		_, err := f.Write(data[:len(data)/2])
		return errors.Join(ErrDiskFull, err, f.Close())
	}
}

// StopAfter lets n removals happen; the next fails with the given error, as a kill or a medium that keeps everything makes it.
func StopAfter(p *Pruning, n int, with error) {
	remove := p.remove
	p.remove = func(path string) error {
		if n--; n < 0 {
			return with
		}
		return remove(path)
	}
}
