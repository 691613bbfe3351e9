package lint

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository, seen from here.
const root = "../.."

var (
	claimRow = regexp.MustCompile(`^\| (C-\d\d) \| .* \| .* \| (\S+) \| (.*) \|$`)
	idRow    = regexp.MustCompile(`^\| ([A-Z][A-Z0-9, -]+) \| (Test.*) \|$`)
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

// tests lists every test function of the repository.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			all[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryClaimNamesAFileAndATestThatExist(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	have, claims := tests(t), 0
	named := func(id, list string) {
		for _, name := range strings.Split(list, ", ") {
			if !have[name] {
				t.Errorf("%s names the test %s, which does not exist", id, name)
			}
		}
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if m := claimRow.FindStringSubmatch(line); m != nil {
			claims++
			if _, err := os.Stat(filepath.Join(root, m[2])); err != nil {
				t.Errorf("%s names the file %s, which does not exist", m[1], m[2])
			}
			named(m[1], m[3])
		} else if m := idRow.FindStringSubmatch(line); m != nil {
			named(m[1], m[2])
		}
	}
	if claims < 10 {
		t.Errorf("SECURITY.md has %d claims in the form this test reads", claims)
	}
}
