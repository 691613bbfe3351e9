package policy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

//go:embed rego/*.rego
var embedded embed.FS

//go:embed schemas/input.json
var schema []byte

// Bounds on a bundle, so that a wrong directory is refused early.
const (
	maxFiles     = 256
	maxFileBytes = 256 << 10
)

// entryPoint is the one rule that is asked.
const entryPoint = "data.counterfoil.decision"

// Bundle returns the bundle compiled into the program, tests included.
func Bundle() fs.FS {
	sub, err := fs.Sub(embedded, "rego")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return sub
}

// builtins are the only functions a policy may call. All are pure and take
// time proportional to their arguments; none reaches the network, the clock
// or the environment, and none makes a pattern out of data.
func builtins() []string {
	return []string{
		ast.Equality.Name, ast.Assign.Name, ast.Equal.Name, ast.NotEqual.Name,
		ast.LessThan.Name, ast.LessThanEq.Name, ast.GreaterThan.Name, ast.GreaterThanEq.Name,
		ast.Count.Name, ast.Member.Name, ast.MemberWithKey.Name,
		ast.And.Name, ast.Or.Name, ast.Minus.Name,
		ast.ObjectSubset.Name, ast.ObjectUnion.Name, ast.ObjectUnionN.Name,
	}
}

// testBuiltins are what OPA's own test runner adds to the modules it runs.
func testBuiltins() []string { return []string{ast.InternalTestCase.Name} }

type sourceFile struct {
	path string
	text []byte
}

func (f sourceFile) isTest() bool { return strings.HasSuffix(f.path, "_test.rego") }

// readBundle returns the Rego files of fsys in the order of their paths.
func readBundle(fsys fs.FS) ([]sourceFile, error) {
	var files []sourceFile
	err := fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".rego") {
			return err
		}
		if len(files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		file, err := fsys.Open(path)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
		if len(text) > maxFileBytes {
			return fmt.Errorf("%s: larger than %d bytes", path, maxFileBytes)
		}
		files = append(files, sourceFile{path, text})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read policy bundle: %w", err)
	}
	slices.SortFunc(files, func(a, b sourceFile) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

// revision is a digest of the files that decide: their paths and texts, each
// preceded by its length. Tests do not decide, so they do not count.
func revision(files []sourceFile) string {
	sum := sha256.New()
	for _, file := range files {
		if file.isTest() {
			continue
		}
		for _, part := range [][]byte{[]byte(file.path), file.text} {
			var size [8]byte
			binary.BigEndian.PutUint64(size[:], uint64(len(part)))
			sum.Write(size[:])
			sum.Write(part)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:16]
}

// parse parses the files, tests only when asked to. All errors are returned,
// each with file and line.
func parse(files []sourceFile, tests bool) (map[string]*ast.Module, error) {
	modules := make(map[string]*ast.Module, len(files))
	var errs []error
	for _, file := range files {
		if file.isTest() && !tests {
			continue
		}
		module, err := ast.ParseModuleWithOpts(file.path, string(file.text), ast.ParserOptions{
			RegoVersion:       ast.RegoV1,
			ProcessAnnotation: true,
		})
		switch {
		case err != nil:
			errs = append(errs, err)
		case module == nil:
			errs = append(errs, fmt.Errorf("%s:1: no package", file.path))
		default:
			modules[file.path] = module
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("parse policy: %w", err)
	}
	return modules, nil
}

// newCompiler returns a strict compiler that knows the input's schema and
// nothing but the permitted functions.
func newCompiler(functions ...string) (*ast.Compiler, error) {
	capabilities := ast.CapabilitiesForThisVersion()
	capabilities.Builtins = slices.DeleteFunc(capabilities.Builtins, func(b *ast.Builtin) bool {
		return !slices.Contains(functions, b.Name)
	})
	capabilities.AllowNet = []string{}

	decoder := json.NewDecoder(bytes.NewReader(schema))
	decoder.UseNumber()
	var input any
	if err := decoder.Decode(&input); err != nil {
		return nil, fmt.Errorf("decode input schema: %w", err)
	}
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, input)
	return ast.NewCompiler().
		WithStrict(true).
		WithCapabilities(capabilities).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true), nil
}

// compile compiles the modules and makes sure that the entry point exists.
func compile(modules map[string]*ast.Module) (*ast.Compiler, error) {
	compiler, err := newCompiler(builtins()...)
	if err != nil {
		return nil, err
	}
	if compiler.Compile(modules); compiler.Failed() {
		return nil, fmt.Errorf("compile policy: %w", compiler.Errors)
	}
	if len(compiler.GetRulesExact(ast.MustParseRef(entryPoint))) == 0 {
		return nil, fmt.Errorf("compile policy: no rule %s", entryPoint)
	}
	return compiler, nil
}

// Check compiles the bundle in fsys strictly, its tests included, against the
// schema of the input. The error names file, line and reason of everything
// that is wrong.
func Check(fsys fs.FS) error {
	files, err := readBundle(fsys)
	if err != nil {
		return err
	}
	modules, err := parse(files, true)
	if err != nil {
		return err
	}
	_, err = compile(modules)
	return err
}

// Test runs the Rego tests of the bundle in fsys and writes a line per failed
// test to w. The coverage is the percentage of the policy's lines, tests left
// out, that the tests reached. A test that fails is counted and is no error.
func Test(ctx context.Context, fsys fs.FS, w io.Writer) (passed, failed int, coverage float64, err error) {
	files, err := readBundle(fsys)
	if err != nil {
		return 0, 0, 0, err
	}
	modules, err := parse(files, true)
	if err != nil {
		return 0, 0, 0, err
	}
	compiler, err := newCompiler(append(builtins(), testBuiltins()...)...)
	if err != nil {
		return 0, 0, 0, err
	}
	store := inmem.New()
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("test policy: %w", err)
	}
	defer store.Abort(ctx, txn)

	covered := cover.New()
	results, err := tester.NewRunner().
		SetCompiler(compiler).
		SetStore(store).
		SetModules(modules).
		SetCoverageQueryTracer(covered).
		RunTests(ctx, txn)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("test policy: %w", err)
	}
	for result := range results {
		if result.Pass() {
			passed++
			continue
		}
		failed++
		if _, err := fmt.Fprintf(w, "%s: %s\n", result.Location, result); err != nil {
			return passed, failed, 0, fmt.Errorf("report policy tests: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return passed, failed, 0, fmt.Errorf("test policy: %w", err)
	}
	decide, err := parse(files, false)
	if err != nil {
		return passed, failed, 0, err
	}
	report := covered.Report(decide)
	return passed, failed, coverageOf(w, report, decide), nil
}

// coverageOf is the percentage of covered lines of the given modules; the
// lines never reached are named on w.
func coverageOf(w io.Writer, report cover.Report, modules map[string]*ast.Module) float64 {
	var lines, missed int
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		file := report.Files[path]
		lines += file.CoveredLines + file.NotCoveredLines
		missed += file.NotCoveredLines
		var last cover.Position
		for _, part := range file.NotCovered {
			if part.Start != last {
				fmt.Fprintf(w, "%s:%d: not covered\n", path, part.Start.Row)
			}
			last = part.Start
		}
	}
	if lines == 0 {
		return 0
	}
	return 100 * float64(lines-missed) / float64(lines)
}
