package oplog

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machine is a clock that can be set and one that cannot.
type machine struct {
	now  time.Time
	boot string
	up   time.Duration
}

func (m *machine) clock() Clock {
	return Clock{func() time.Time { return m.now }, func() (string, time.Duration) { return m.boot, m.up }}
}

// pass lets time go by.
func (m *machine) pass(d time.Duration) { m.now, m.up = m.now.Add(d), m.up+d }

// restart is another boot after a while.
func (m *machine) restart(after time.Duration) {
	m.now, m.up = m.now.Add(after), 0
	m.boot = string([]byte{'b', byte('0' + rand.IntN(10)), byte('0' + rand.IntN(10)), byte('0' + rand.IntN(10)), '0', '0', '0', '0'})
}

// truth knows when each line was really written.
type truth map[string]time.Duration

// oldest is how old the oldest line in the directory really is.
func (k truth) oldest(t *testing.T, dir string, real time.Duration) (oldest time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			oldest = max(oldest, real-k[strings.TrimSpace(line)])
		}
	}
	return oldest
}

// SEED-TEL-2.
func TestNoLineIsEverADayOldWhateverTheClockDoes(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(m *machine, hour int, d *Dir) (gone time.Duration)
	}{
		{"nothing", func(*machine, int, *Dir) time.Duration { return 0 }},
		{"the clock is put forward two days", func(m *machine, hour int, _ *Dir) time.Duration {
			if hour == 30 {
				m.now = m.now.Add(48 * time.Hour)
			}
			return 0
		}},
		{"the clock is put back two days", func(m *machine, hour int, _ *Dir) time.Duration {
			if hour == 30 {
				m.now = m.now.Add(-48 * time.Hour)
			}
			return 0
		}},
		{"the clock is put back five hours, and again", func(m *machine, hour int, _ *Dir) time.Duration {
			if hour%10 == 5 {
				m.now = m.now.Add(-5 * time.Hour)
			}
			return 0
		}},
		{"an hour of summer time comes and goes", func(m *machine, hour int, _ *Dir) time.Duration {
			m.now = m.now.Add([]time.Duration{time.Hour, -time.Hour}[hour%2])
			return 0
		}},
		{"the machine sleeps for thirty hours", func(m *machine, hour int, _ *Dir) time.Duration {
			if hour == 20 {
				m.pass(30 * time.Hour)
				return 30 * time.Hour
			}
			return 0
		}},
		{"the looks of half an hour are missed", func(*machine, int, *Dir) time.Duration { return -1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			m := &machine{time.Date(2026, 3, 28, 20, 0, 0, 0, time.UTC), "b0000000", time.Hour}
			d, err := Open(dir, m.clock())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			known, real := truth{}, time.Duration(0)
			for minute := range 60 * 60 {
				if minute%60 == 0 {
					if gone := c.do(m, minute/60, d); gone > 0 {
						real += gone
						d.Tend() // the first thing after it
					}
				}
				line := "line " + real.String()
				known[line] = real
				if _, err := d.Write([]byte(line + "\n")); err != nil {
					t.Fatal(err)
				}
				m.pass(time.Minute)
				real += time.Minute
				if !strings.Contains(c.name, "missed") || minute%25 == 0 {
					d.Tend()
				}
				if minute%7 == 0 {
					if oldest := known.oldest(t, dir, real); oldest >= Within {
						t.Fatalf("after %s a line is %s old", real, oldest)
					}
				}
				if s := d.Status(); s.Overdue() || s.Error != "" || s.Files == 0 {
					t.Fatalf("after %s it stands thus: %+v", real, s)
				}
			}
			if d.Status().Removed == 0 {
				t.Error("nothing was removed in sixty hours")
			}
		})
	}
}

func TestWhatIsLeftByAnEarlierProcessGoesWhenTheNextBegins(t *testing.T) {
	for _, c := range []struct {
		name  string
		after func(m *machine)
		gone  bool
	}{
		{"at once", func(*machine) {}, false},
		{"a day later", func(m *machine) { m.pass(24 * time.Hour) }, true},
		{"a day later by the machine, though the clock was put back", func(m *machine) { m.pass(24 * time.Hour); m.now = m.now.Add(-20 * time.Hour) }, true},
		{"a day later in another boot", func(m *machine) { m.restart(24 * time.Hour) }, true},
		{"in another boot, in which the clock has been put back behind the first line", func(m *machine) { m.restart(time.Hour); m.now = m.now.Add(-3 * time.Hour) }, true},
		{"an hour later in another boot", func(m *machine) { m.restart(time.Hour) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			m := &machine{time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), "b0000000", time.Hour}
			for _, line := range []string{"before\n", "after\n"} {
				d, err := Open(dir, m.clock())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.Write([]byte(line)); err != nil {
					t.Fatal(err)
				}
				d.Close()
				if line == "before\n" {
					c.after(m)
				}
			}
			var all string
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				all += string(b)
			}
			if gone := !strings.Contains(all, "before"); gone != c.gone || !strings.Contains(all, "after") {
				t.Errorf("there is %q", all)
			}
		})
	}
}

func TestFilesOfAnUnknownFormCountAsOldAndOthersAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"counterfoil-x.log", "other.log", "counterfoil-1-2-3-4-5.log", "keep.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Prune(dir, SystemClock())
	if err != nil || s.Removed != 3 || s.Files != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keep.txt")); err != nil {
		t.Error(err)
	}
}

func TestLogsDoNotFillTheDisk(t *testing.T) {
	dir := t.TempDir()
	m := &machine{time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), "b0000000", time.Hour}
	d, err := Open(dir, m.clock())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	// Holes count as what they stand for, so nothing of this lies on the disk.
	for range 40 {
		if err := d.file.Truncate(maxFile); err != nil {
			t.Fatal(err)
		}
		d.size = maxFile
		m.pass(time.Second)
		if _, err := d.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
	}
	if s := d.Tend(); s.Bytes > maxTotal || s.Removed == 0 {
		t.Errorf("%+v", s)
	}
}

func TestAFileThatCannotBeWrittenIsSaidAndStopsNothing(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir, SystemClock())
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(d, nil))
	d.file.Close()
	logger.Info("this is lost")
	if s := d.Status(); s.Failures != 1 || s.Error == "" || strings.Contains(s.Error, dir) {
		t.Errorf("%+v", s)
	}
	d.file = nil
	logger.Info("and this is kept")
	if s := d.Status(); s.Error != "" || s.Bytes == 0 {
		t.Errorf("%+v", s)
	}
	d.Close()
}

// TestACrashIsWrittenToTheFilesToo crashes a process of its own.
func TestACrashIsWrittenToTheFilesToo(t *testing.T) {
	if dir := os.Getenv("OPLOG_CRASH"); dir != "" {
		if _, err := Open(dir, SystemClock()); err != nil {
			t.Fatal(err)
		}
		go func() { panic("a crash of this test's own") }()
		select {}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestACrashIsWrittenToTheFilesToo$")
	cmd.Env = append(os.Environ(), "OPLOG_CRASH="+dir)
	if err := cmd.Run(); err == nil {
		t.Fatal("it did not crash")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.Contains(string(b), "a crash of this test's own") {
			return
		}
	}
	t.Errorf("the crash is in none of %d files", len(files))
}
