package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
)

// Restored is what came out of an archive.
type Restored struct {
	Conversations int64 `json:"conversations"`
	Events        int64 `json:"events"`
}

var (
	// ErrIdentity means that an archive is sealed to another key.
	ErrIdentity = errors.New("this identity does not open the archive")
	// ErrLine means that an archive holds what no archive holds, although its manifest is good.
	ErrLine = errors.New("the archive holds a line that this program does not know")
	// ErrIncomplete means that an archive has not all that its manifest says.
	ErrIncomplete = errors.New("the archive does not hold what its manifest says")
)

// maxLine is more than the longest line: a message of the greatest length, written with escapes.
const maxLine = 1 << 20

// Restore opens an archive that was verified, and writes each conversation as a JSON file into a directory, below the day on which it ended. Nothing is written that did not
// come out of the files as the manifest names them, and no conversation that is not complete. progress may be nil.
func Restore(ctx context.Context, files fs.FS, m Manifest, identities []age.Identity, to string, progress func(done, of uint64)) (Restored, error) {
	w := &restoring{dir: to}
	for i, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return w.Restored, errors.Join(err, w.drop())
		}
		if err := w.part(files, f.Name, identities); err != nil {
			return w.Restored, errors.Join(fmt.Errorf("%s: %w", f.Name, err), w.drop())
		}
		if progress != nil {
			progress(uint64(i+1), uint64(len(m.Files)))
		}
	}
	if err := w.drop(); err != nil {
		return w.Restored, err
	}
	if w.Conversations != m.Conversations {
		return w.Restored, fmt.Errorf("%w: %d conversations of %d", ErrIncomplete, w.Conversations, m.Conversations)
	}
	return w.Restored, nil
}

// restoring is a directory into which an archive is opened. One conversation at a time is being written.
type restoring struct {
	Restored
	dir string

	conversation uuid.UUID
	path         string // where it will be
	file         *os.File
	out          *bufio.Writer
	events       int64
}

func (w *restoring) part(files fs.FS, name string, identities []age.Identity) error {
	f, err := files.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it is only read
	plain, err := age.Decrypt(bufio.NewReader(f), identities...)
	var no *age.NoIdentityMatchError
	if errors.As(err, &no) {
		return ErrIdentity
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return w.lines(plain)
}

func (w *restoring) lines(packed io.Reader) error {
	plain, err := gzip.NewReader(packed)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	s := bufio.NewScanner(plain)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	for s.Scan() {
		if err := w.line(s.Bytes()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

func (w *restoring) line(line []byte) error {
	var l struct {
		Type         string    `json:"type"`
		Conversation uuid.UUID `json:"conversation"`
		Closed       time.Time `json:"closed_at"`
		Events       int64     `json:"events"`
	}
	if err := json.Unmarshal(line, &l); err != nil || l.Conversation == uuid.Nil {
		return ErrLine
	}
	switch {
	case l.Type == "conversation" && !l.Closed.IsZero():
		if err := w.drop(); err != nil {
			return err
		}
		return w.open(l.Conversation, l.Closed, line)
	case l.Type == "event" && l.Conversation == w.conversation:
		between := ",\n  "
		if w.events == 0 {
			between = "\n  "
		}
		w.events++
		_, _ = w.out.WriteString(between)
		_, err := w.out.Write(bytes.TrimSpace(line))
		return err
	case l.Type == "end" && l.Conversation == w.conversation:
		if l.Events != w.events {
			return fmt.Errorf("%w: a conversation has %d events of %d", ErrIncomplete, w.events, l.Events)
		}
		return w.close()
	}
	return ErrLine
}

const partial = ".incomplete"

func (w *restoring) open(id uuid.UUID, closed time.Time, line []byte) error {
	dir := filepath.Join(w.dir, closed.UTC().Format(time.DateOnly))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	w.path = filepath.Join(dir, id.String()+".json")
	f, err := os.OpenFile(w.path+partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w.conversation, w.file, w.out, w.events = id, f, bufio.NewWriter(f), 0
	_, err = fmt.Fprintf(w.out, "{\n \"conversation\": %s,\n \"events\": [", bytes.TrimSpace(line))
	return err
}

func (w *restoring) close() error {
	_, _ = w.out.WriteString("\n ]\n}\n") // the error is that of flushing
	if err := errors.Join(w.out.Flush(), w.file.Close()); err != nil {
		return err
	}
	w.file, w.conversation = nil, uuid.Nil
	w.Conversations, w.Events = w.Conversations+1, w.Events+w.events
	return os.Rename(w.path+partial, w.path)
}

// drop removes a conversation that was begun and not ended: it begins again elsewhere, or never was complete.
func (w *restoring) drop() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.file.Close(), os.Remove(w.path+partial))
	w.file, w.conversation = nil, uuid.Nil
	return err
}
