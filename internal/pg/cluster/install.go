package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest major version that the schema is written for.
const minMajor = 15

// ErrNotInstalled says that the machine has no PostgreSQL we can run.
var ErrNotInstalled = errors.New("PostgreSQL 15 or newer is not installed")

const howToInstall = `install the package
  postgresql          on Debian, Ubuntu, Alpine, Arch
  postgresql-server   on Fedora, RHEL, openSUSE
  postgresql@17       with Homebrew
Only its programs are used: no system-wide server needs to run. Or set COUNTERFOIL_DATABASE_URL to a server elsewhere`

// wellKnown are the places where packages put the server's programs outside PATH.
var wellKnown = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

// install is one set of PostgreSQL's programs.
type install struct {
	dir     string
	version string // such as 15.4
	major   int
}

func (i install) postgres() string { return filepath.Join(i.dir, "postgres") }
func (i install) initdb() string   { return filepath.Join(i.dir, "initdb") }

// chooseInstall returns the first installation that can run the cluster in pgdata: of its very major version if there
// is one, else the first that is new enough.
func (c *Cluster) chooseInstall(ctx context.Context, path string, patterns []string) (install, error) {
	made, err := majorOf(c.pgdata)
	if err != nil {
		return install{}, err
	}
	found := findInstalls(ctx, path, patterns)
	for _, i := range found {
		if made == i.major || made == 0 && i.major >= minMajor {
			return i, nil
		}
	}
	var versions []string
	for _, i := range found {
		versions = append(versions, i.version+" in "+i.dir)
	}
	have := "nothing found"
	if len(versions) > 0 {
		have = "found only " + strings.Join(versions, ", ")
	}
	if made == 0 || len(found) == 0 {
		return install{}, fmt.Errorf("%w (%s): %s", ErrNotInstalled, have, howToInstall)
	}
	return install{}, fmt.Errorf("the database in %s was made by PostgreSQL %d, which is not installed (%s): install version %d beside it, and to move to a newer one later use pg_upgrade, or pg_dump and a new data directory",
		c.pgdata, made, have, made)
}

// majorOf returns the major version that made pgdata, or 0 when there is none yet.
func majorOf(pgdata string) (int, error) {
	b, err := os.ReadFile(filepath.Join(pgdata, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(pgdata); err == nil {
			return 0, fmt.Errorf("%s exists but holds no PostgreSQL database: move it away", pgdata)
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of database: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("read version of database: %s is damaged", filepath.Join(pgdata, "PG_VERSION"))
	}
	return major, nil
}

// findInstalls returns what is on the machine: PATH first, then the well-known places, in each the newest first, then
// where pg_config points.
func findInstalls(ctx context.Context, path string, patterns []string) []install {
	var found []install
	seen := make(map[string]bool)
	add := func(dirs []string) {
		var here []install
		for _, dir := range dirs {
			i, ok := probe(ctx, dir)
			if !ok {
				continue
			}
			real, err := filepath.EvalSymlinks(i.postgres())
			if err != nil || seen[real] {
				continue
			}
			seen[real] = true
			here = append(here, i)
		}
		slices.SortStableFunc(here, func(a, b install) int { return cmp.Compare(b.major, a.major) })
		found = append(found, here...)
	}
	// A program found by a relative path could be anybody's.
	dirs := slices.DeleteFunc(filepath.SplitList(path), func(dir string) bool { return !filepath.IsAbs(dir) })
	for _, dir := range dirs {
		add([]string{dir})
	}
	for _, p := range patterns {
		matches, err := filepath.Glob(p)
		if err == nil { // the patterns are ours and well formed
			add(matches)
		}
	}
	for _, dir := range dirs {
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "pg_config"), "--bindir").Output()
		if dir := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(dir) {
			add([]string{dir})
		}
	}
	return found
}

var versionLine = regexp.MustCompile(`^postgres \(PostgreSQL\) ((\d+)[.\w]*)`)

// probe asks the server in dir for its version.
func probe(ctx context.Context, dir string) (install, bool) {
	i := install{dir: dir}
	for _, program := range []string{i.postgres(), i.initdb()} {
		if info, err := os.Stat(program); err != nil || info.IsDir() || info.Mode().Perm()&0o111 == 0 {
			return install{}, false
		}
	}
	out, err := exec.CommandContext(ctx, i.postgres(), "--version").Output()
	if err != nil {
		return install{}, false
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return install{}, false
	}
	i.version = string(m[1])
	i.major, err = strconv.Atoi(string(m[2]))
	return i, err == nil
}
