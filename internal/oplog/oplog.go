// Package oplog keeps what the service says of its own working in files whose oldest line is never a day old. Nothing of a person stands
// in them in the first place; that they are gone within a day is there for the day on which that is not so.
package oplog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// Within is the age that no line reaches (SEED-TEL-2).
	Within = 24 * time.Hour
	// keep is the age at which a file goes, which is that of its first line: early enough for some missed looks.
	keep = Within - 30*time.Minute
	// stretch is how long lines are written to one file.
	stretch = time.Hour
	// skew is how far into the future a file may have been begun: the clock was set back further than that, so its age is unknown.
	skew = time.Minute

	maxFile  = 32 << 20  // bytes, after which another file is begun
	maxTotal = 512 << 20 // bytes, beyond which the oldest files go before their time
)

// Clock tells the time, and how long the machine has been running: the one can be set, the other cannot.
type Clock struct {
	Now    func() time.Time
	Uptime func() (boot string, up time.Duration) // boot is empty where the machine does not say
}

// SystemClock is the machine's.
func SystemClock() Clock { return Clock{time.Now, uptime} }

// uptime reads the id of this boot, and for how long it has lasted, sleep included.
func uptime() (string, time.Duration) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	text, err2 := os.ReadFile("/proc/uptime")
	if err != nil || err2 != nil || len(id) < 8 {
		return "", 0
	}
	seconds, _, _ := strings.Cut(string(text), " ")
	up, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return "", 0
	}
	return string(id[:8]), time.Duration(up * float64(time.Second))
}

// Dir is a directory of such files. Its methods may be called at once.
type Dir struct {
	path  string
	clock Clock

	mu       sync.Mutex
	file     *os.File // being written to, or nil
	name     string
	begun    time.Time
	size     int64
	removed  int64 // files, by this process
	failures int64
	failed   error // the last time, if it has not succeeded since
}

// Open begins to write in a directory, which it makes if need be, and removes what is too old there.
func Open(path string, clock Clock) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	d := &Dir{path: path, clock: clock}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prune()
	if err := d.begin(); err != nil {
		return nil, err
	}
	return d, nil
}

const (
	beginning = "counterfoil-"
	ending    = ".log"
)

// begin opens another file, to which a crash of the process is written too. A file to which nothing was written is not kept.
func (d *Dir) begin() error {
	now := d.clock.Now()
	boot, up := d.clock.Uptime()
	var file *os.File
	var name string
	var err error
	for n := range 100 { // several in one second
		name = fmt.Sprintf("%s%d-%s-%d-%02d%s", beginning, now.Unix(), boot, int64(up/time.Second), n, ending)
		if file, err = os.OpenFile(filepath.Join(d.path, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err == nil {
		err = debug.SetCrashOutput(file, debug.CrashOptions{})
	}
	if err != nil {
		return fmt.Errorf("begin log file: %w", err)
	}
	d.close()
	d.file, d.name, d.begun, d.size = file, name, now, 0
	return nil
}

func (d *Dir) close() {
	if d.file == nil {
		return
	}
	info, err := d.file.Stat()
	_ = d.file.Close() // what was written is with the system already
	if err == nil && info.Size() == 0 {
		_ = os.Remove(filepath.Join(d.path, d.name))
	}
	d.file = nil
}

// Close ends writing. What is there stays, and is pruned by the next Open or Prune.
func (d *Dir) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	d.close()
}

// due reports whether the file has lasted its stretch by either clock, or the clock was set back.
func (d *Dir) due() bool {
	now := d.clock.Now()
	wall := now.Round(0).Sub(d.begun.Round(0))
	return d.file == nil || d.size >= maxFile || wall >= stretch || wall < -skew || now.Sub(d.begun) >= stretch
}

// Write appends lines.
func (d *Dir) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due() {
		d.note(d.begin())
	}
	if d.file == nil {
		return 0, fs.ErrClosed
	}
	n, err := d.file.Write(b)
	d.size += int64(n)
	d.note(err)
	return n, err
}

func (d *Dir) note(err error) {
	if d.failed = err; err != nil {
		d.failures++
	}
}

// Run removes what is too old, each minute until ctx ends, and says so when it cannot.
func (d *Dir) Run(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if s := d.Tend(); s.Error != "" {
			logger.ErrorContext(ctx, "log files cannot be kept as they should be", "error", s.Error, "oldest", s.Oldest)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Tend begins another file when it is time, removes those that are too old, and tells how it stands.
func (d *Dir) Tend() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prune()
	if d.due() && d.file != nil {
		d.note(d.begin())
	}
	return d.status()
}

// Status is how it stands with the files.
type Status struct {
	Files    int           `json:"files"`
	Bytes    int64         `json:"bytes"`
	Oldest   time.Duration `json:"oldest_ns"` // no line is older
	Removed  int64         `json:"removed"`   // files, since the process began
	Failures int64         `json:"failures"`
	Error    string        `json:"error,omitempty"`
}

// Overdue reports whether a line may be a day old.
func (s Status) Overdue() bool { return s.Oldest >= Within }

// Status tells how it stands.
func (d *Dir) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status()
}

func (d *Dir) status() Status {
	s := Status{Removed: d.removed, Failures: d.failures}
	files, err := list(d.path, d.clock)
	for _, f := range files {
		s.Files++
		s.Bytes += f.size
		if f.size > 0 {
			s.Oldest = max(s.Oldest, f.age)
		}
	}
	if err = errors.Join(d.failed, err); err != nil {
		s.Error = reason(err)
	}
	return s
}

// reason is an error without the path of the machine in it.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}

// prune removes files that are too old or too much.
func (d *Dir) prune() {
	removed, err := remove(d.path, d.clock, d.name)
	d.removed += int64(removed)
	d.note(err)
}

// Look tells how it stands with a directory that another process writes to.
func Look(path string, clock Clock) (Status, error) {
	d := &Dir{path: path, clock: clock}
	s := d.Status()
	if s.Error != "" {
		return s, fmt.Errorf("look at log files: %s", s.Error)
	}
	return s, nil
}

// Prune removes what is too old from a directory that nobody writes to, and tells how it stands with the rest.
func Prune(path string, clock Clock) (Status, error) {
	d := &Dir{path: path, clock: clock}
	d.prune()
	return d.Status(), d.failed
}

// remove removes what is too old, or beyond the most that is kept, except the file that is being written to.
func remove(path string, clock Clock, current string) (removed int, err error) {
	files, err := list(path, clock)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, f := range files { // the youngest first
		total += f.size
		if f.name == current || f.age < keep && total <= maxTotal {
			continue
		}
		if e := os.Remove(filepath.Join(path, f.name)); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
			continue
		}
		removed++
	}
	return removed, err
}

// logFile is one file. Its age is that of its first line, or the whole of Within where the clock leaves that open.
type logFile struct {
	name string
	size int64
	age  time.Duration
}

// list lists the files by age, the youngest first. A file in a form that is not known is as old as can be.
func list(path string, clock Clock) ([]logFile, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list log files: %w", err)
	}
	boot, up := clock.Uptime()
	now := clock.Now()
	var files []logFile
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), ending) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list log files: %w", err)
		}
		files = append(files, logFile{e.Name(), info.Size(), age(e.Name(), now, boot, up)})
	}
	slices.SortFunc(files, func(a, b logFile) int { return strings.Compare(b.name, a.name) })
	slices.SortStableFunc(files, func(a, b logFile) int { return int(min(1, max(-1, a.age-b.age))) })
	return files, nil
}

// age is the longer of what the two clocks say. Within one boot the one that cannot be set is right; over boots there is only
// the other, and where that says that the file comes from the future, its age is unknown.
func age(name string, now time.Time, boot string, up time.Duration) time.Duration {
	parts := strings.Split(strings.TrimSuffix(strings.TrimPrefix(name, beginning), ending), "-")
	if len(parts) != 4 || !strings.HasPrefix(name, beginning) {
		return Within
	}
	begun, err := strconv.ParseInt(parts[0], 10, 64)
	began, err2 := strconv.ParseInt(parts[2], 10, 64)
	wall := now.Sub(time.Unix(begun, 0))
	switch {
	case err != nil || err2 != nil:
		return Within
	case parts[1] != "" && parts[1] == boot:
		return max(wall, up-time.Duration(began)*time.Second, 0)
	case wall < -skew:
		return Within
	}
	return max(wall, 0)
}
