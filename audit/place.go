package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Place is where an export lies: a directory ([Dir]) or what somebody else keeps. Names are those of C2SP tlog-tiles.
type Place interface {
	// Read returns a whole file of at most limit bytes. The error is fs.ErrNotExist when there is none.
	Read(ctx context.Context, name string, limit int) ([]byte, error)
	// Create writes a file that is never to change. One that is there already must be equal, or be the torn beginning that a
	// crash leaves, which is completed.
	Create(ctx context.Context, name string, data []byte) error
	// Replace writes a file so that either its former or its new content is there, whatever happens.
	Replace(ctx context.Context, name string, data []byte) error
	// Settle returns when everything that was created outlasts a loss of power.
	Settle() error
	// Drop removes the partial files of a full one.
	Drop(ctx context.Context, full string) error
}

// Dir is an export directory. What it promises needs one writer at a time.
func Dir(path string) Place {
	return &dir{path: filepath.Clean(path), gained: make(map[string]bool), write: writeSync}
}

type dir struct {
	path   string
	gained map[string]bool                     // directories that gained a name, to be synced
	write  func(f *os.File, data []byte) error // writes, syncs and closes
}

// Read implements [Place].
func (d *dir) Read(_ context.Context, name string, limit int) ([]byte, error) {
	return readFile(Files(d.path), name, limit, nil)
}

// Create implements [Place].
func (d *dir) Create(ctx context.Context, name string, data []byte) error {
	path := filepath.Join(d.path, filepath.FromSlash(name))
	if err := d.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		there, err := os.ReadFile(path)
		switch {
		case err != nil:
			return err
		case bytes.Equal(there, data):
			return nil
		case bytes.HasPrefix(data, there):
			return d.Replace(ctx, name, data)
		}
		return fmt.Errorf("%s is there already and differs", name)
	}
	if err != nil {
		return err
	}
	return d.write(f, data)
}

// Replace implements [Place].
func (d *dir) Replace(_ context.Context, name string, data []byte) error {
	path := filepath.Join(d.path, filepath.FromSlash(name))
	if err := d.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	err = d.write(f, data)
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// Settle implements [Place].
func (d *dir) Settle() error {
	for gained := range d.gained {
		if err := syncDir(gained); err != nil {
			return err
		}
	}
	return nil
}

// Drop implements [Place].
func (d *dir) Drop(_ context.Context, full string) error {
	return os.RemoveAll(filepath.Join(d.path, filepath.FromSlash(full)) + ".p")
}

// mkdir makes a directory and those above it, once, and remembers each that gains a name.
func (d *dir) mkdir(path string) error {
	if d.gained[path] {
		return nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	for d.gained[path] = true; path != d.path; d.gained[path] = true {
		path = filepath.Dir(path)
	}
	return nil
}

func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
