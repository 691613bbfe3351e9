package lint

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/keyring"
)

// want finds the expectations of a comment: each line of a file under testdata/misuse that must not compile says between
// backquotes what the compiler says about it.
var want = regexp.MustCompile("`([^`]+)`")

// Each file is a mistake, or an attack, that the types make impossible. A file must give exactly the errors it announces,
// so that it does not fail for another reason than its own.
func TestMisuseDoesNotCompile(t *testing.T) {
	files, err := filepath.Glob("testdata/misuse/*.go.txt")
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	refused := refusedImports(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".go.txt"), func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, file, source, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			expected := make(map[int][]string) // by line
			announced := 0
			for _, group := range f.Comments {
				for _, c := range group.List {
					if text, ok := strings.CutPrefix(c.Text, "// want "); ok {
						for _, m := range want.FindAllStringSubmatch(text, -1) {
							line := fset.Position(c.Pos()).Line
							expected[line] = append(expected[line], m[1])
							announced++
						}
					}
				}
			}
			if announced == 0 {
				t.Fatal("the file announces nothing")
			}
			found := refused[file]
			if len(found) == 0 { // what may not be imported is not looked at any further, as go build does
				found = typeErrors(fset, f)
			}
			for _, e := range found {
				line := fset.Position(e.pos).Line
				if e.line > 0 {
					line = e.line
				}
				if !take(expected, line, e.text) {
					t.Errorf("line %d: %s was not announced", line, e.text)
				}
			}
			for line, texts := range expected {
				for _, text := range texts {
					t.Errorf("line %d compiles, or fails otherwise than by %s", line, text)
				}
			}
		})
	}
}

// take removes the expectation that an error of a line meets.
func take(expected map[int][]string, line int, text string) bool {
	for i, pattern := range expected[line] {
		if ok, err := regexp.MatchString(pattern, text); ok && err == nil {
			expected[line] = append(expected[line][:i:i], expected[line][i+1:]...)
			return true
		}
	}
	return false
}

type compileError struct {
	pos  token.Pos
	line int // when pos is unknown
	text string
}

// typeErrors type-checks one file as a package of its own against the compiled packages of the module.
func typeErrors(fset *token.FileSet, f *ast.File) (found []compileError) {
	config := types.Config{
		Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
			all, err := exports()
			if err != nil {
				return nil, err
			}
			return os.Open(all[path])
		}),
		Error: func(err error) {
			var e types.Error
			// The notes that follow an error, indented, are part of it; "declared and not used" is about the example.
			if errors.As(err, &e) && !strings.HasPrefix(e.Msg, "\t") {
				found = append(found, compileError{pos: e.Pos, text: e.Msg})
			}
		},
	}
	_, _ = config.Check("counterfoil/internal/misuse", fset, []*ast.File{f}, nil) // every error went to config.Error
	return found
}

// exports maps each package that is within reach to its compiled form, which go list makes or takes from the cache.
var exports = sync.OnceValues(func() (map[string]string, error) {
	cmd := exec.Command("go", "list", "-deps", "-export", "-f", "{{.ImportPath}} {{.Export}}", "./internal/bot", "./internal/relay", "./audit/pglog")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -export: %w\n%s", err, stderr.String())
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all[path] = file
		}
	}
	return all, nil
})

// refusedImports asks the go command about the imports of each file, as if it lay in the module beside the other packages.
func refusedImports(t *testing.T, files []string) map[string][]compileError {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	args := []string{"list", "-e", "-json=ImportPath,Error,DepsErrors", "-overlay", ""}
	names := make(map[string]string)
	for _, file := range files {
		name := "internal/misuse/" + strings.TrimSuffix(filepath.Base(file), ".go.txt")
		names[module+"/"+name] = file
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(top, name, "misuse.go")] = abs
		args = append(args, "./"+name)
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	args[4] = filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(args[4], b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = top
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -overlay: %v", err)
	}
	type packageError struct {
		ImportStack []string
		Pos, Err    string
	}
	found := make(map[string][]compileError)
	listed := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; listed++ {
		var p struct {
			ImportPath string
			Error      *packageError
			DepsErrors []*packageError
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Error != nil {
			p.DepsErrors = append(p.DepsErrors, p.Error)
		}
		seen := make(map[string]bool)
		for _, e := range p.DepsErrors {
			if seen[e.Err] {
				continue
			}
			seen[e.Err] = true
			line := 0
			if parts := strings.Split(e.Pos, ":"); len(parts) > 1 {
				_, _ = fmt.Sscan(parts[1], &line)
			}
			file := names[p.ImportPath]
			found[file] = append(found[file], compileError{line: line, text: e.Err})
		}
	}
	if listed != len(files) {
		t.Fatalf("go list knows %d of %d packages", listed, len(files))
	}
	return found
}

// A type that cannot be named can still be had: type inference gives the zero value of any function's parameter. That
// value must open nothing.
func TestTheZeroValueOfAnUnnameableTypeIsInert(t *testing.T) {
	ring, err := keyring.LoadOrCreate(filepath.Join(t.TempDir(), "kek.json"))
	if err != nil {
		t.Fatal(err)
	}
	organisation, subject := uuid.New(), uuid.New()
	wrapped, err := ring.NewKey(organisation, subject)
	if err != nil {
		t.Fatal(err)
	}
	// Of all addresses, the one that a zero grant would name.
	for _, ref := range []euii.Ref{
		{Organisation: organisation, Subject: subject, Row: subject, Field: euii.AgentEmail},
		{Field: euii.AgentEmail}, {},
	} {
		if ref.Organisation == uuid.Nil {
			if wrapped, err = ring.NewKey(uuid.Nil, subject); err != nil {
				t.Fatal(err)
			}
		}
		sealed, err := ring.Seal(subject, wrapped, ref, euii.Receive("Ada"))
		if err != nil {
			t.Fatal(err)
		}
		for _, now := range []time.Time{time.Now(), {}, time.Unix(0, 0)} {
			g := firstOf5(ring.Open)
			if text, err := ring.Open(g, subject, wrapped, sealed, now); !errors.Is(err, keyring.ErrNotGranted) || text != "" {
				t.Errorf("a zero grant opened %q, %v", text, err)
			}
			if index, err := ring.BlindIndex(g, ref, wrapped, euii.Receive("Ada"), now); !errors.Is(err, keyring.ErrNotGranted) || index.Hash != nil {
				t.Errorf("a zero grant made the index %x, %v", index.Hash, err)
			}
		}
	}
	if c := euii.Clear[euii.Visitor](firstOf2(euii.Clear[euii.Visitor]), "Ada"); euii.Present(c) {
		t.Error("a zero grant cleared a text")
	}
	if text, ok := euii.ForSealing(firstOf2For2(euii.ForSealing), euii.Receive("Ada")); ok || text != "" {
		t.Errorf("a zero sealing read %q", text)
	}
}

func firstOf2[A, B, R any](func(A, B) R) (zero A)                           { return zero }
func firstOf2For2[A, B, R, S any](func(A, B) (R, S)) (zero A)               { return zero }
func firstOf5[A, B, C, D, E, R, S any](func(A, B, C, D, E) (R, S)) (zero A) { return zero }
