package lint

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the import path of the repository.
const module = "counterfoil"

// ours says of one package in which layer it stands and which packages of ours it imports, exactly. Data flows one way:
// a package imports lower layers only.
type ours struct {
	layer   int
	imports string
}

// testSupport is the layer of packages that only tests import.
const testSupport = 7

// layers is the map of the product. A new package, or a new import of one of ours, is a decision that is made here and
// shown in internal/README.md.
func layers() map[string]ours {
	return map[string]ours{
		"audit":                          {0, ""},
		"internal/access/internal/grant": {0, ""},
		"internal/chat":                  {0, ""},
		"internal/config":                {0, ""},
		"internal/filter":                {0, ""},
		"internal/canary":                {0, ""},
		"internal/egress":                {0, ""},
		"internal/inventory":             {0, ""},
		"internal/oplog":                 {0, ""},
		"internal/ipallow":               {0, ""},
		"internal/totp":                  {0, ""},
		"migrations":                     {0, ""},
		"policy":                         {0, ""},

		"internal/access/euii": {1, "internal/access/internal/grant"},
		"internal/bus":         {1, "internal/chat"},
		"internal/jobs":        {1, ""},
		"internal/pg":          {1, ""},
		"internal/pg/cluster":  {1, ""},
		"internal/pg/doctor":   {1, "internal/inventory"},
		"internal/principal":   {1, "internal/ipallow internal/totp"},
		"internal/stream":      {1, ""},
		"internal/telemetry":   {1, ""},
		"internal/web":         {1, ""},

		"audit/pglog":             {2, "audit"},
		"internal/access/keyring": {2, "internal/access/euii internal/access/internal/grant"},
		"internal/store":          {2, "internal/access/euii internal/chat internal/egress"},
		"internal/teams":          {2, "internal/access/euii"},

		"audit/publish":   {3, "audit audit/pglog"},
		"internal/access": {3, "audit audit/pglog internal/access/euii internal/access/internal/grant internal/access/keyring internal/chat internal/filter internal/ipallow internal/principal policy"},

		"internal/alerts":  {4, "audit audit/pglog internal/access internal/access/keyring internal/chat internal/egress internal/filter internal/jobs internal/principal policy"},
		"internal/archive": {4, "audit audit/pglog audit/publish internal/access internal/access/euii internal/chat internal/principal policy"},
		"internal/control": {4, "audit internal/access internal/principal policy"},
		"internal/demo":    {4, "audit internal/access policy"},
		"internal/relay":   {4, "internal/access internal/access/euii internal/bus internal/chat internal/principal internal/store"},
		"internal/signin":  {4, "internal/access internal/access/keyring internal/ipallow internal/principal internal/totp policy"},

		"internal/subject": {4, "audit audit/pglog internal/access internal/chat internal/principal policy"},

		"internal/bot":     {5, "audit internal/access internal/access/euii internal/chat internal/principal internal/relay internal/store internal/subject internal/teams internal/web"},
		"internal/console": {5, "audit audit/pglog audit/publish internal/access internal/access/euii internal/alerts internal/archive internal/chat internal/control internal/filter internal/ipallow internal/principal internal/signin internal/store internal/subject internal/web policy"},
		"internal/standin": {5, ""},
		"internal/widget":  {5, "internal/access internal/access/euii internal/chat internal/principal internal/relay internal/stream internal/subject internal/web"},

		"cmd/counterfoil": {6, "audit audit/pglog audit/publish internal/access internal/access/keyring internal/alerts internal/archive internal/bot internal/bus internal/canary internal/chat internal/config internal/console internal/control internal/demo internal/egress internal/filter internal/inventory internal/ipallow internal/jobs internal/oplog internal/pg internal/pg/cluster internal/pg/doctor " +
			"internal/principal internal/relay internal/signin internal/standin internal/store internal/stream internal/subject internal/teams internal/telemetry internal/web internal/widget migrations policy"},
		"cmd/counterfoil-verify": {6, "audit"},

		"audit/publish/buckettest": {testSupport, "audit audit/publish"},
		"internal/bench":           {testSupport, ""},
		"internal/faults":          {testSupport, ""},
		"internal/lint":            {testSupport, ""},
		"internal/outside":         {testSupport, ""},
		"internal/pg/pgtest":       {testSupport, "internal/pg internal/pg/cluster"},
		"internal/relay/relaytest": {testSupport, "audit audit/pglog internal/access internal/access/keyring internal/bus internal/chat internal/pg internal/pg/pgtest internal/relay internal/store migrations policy"},
	}
}

// confined says which packages may import what is dangerous or heavy, with the reason. A path that ends in "/..." stands
// for everything below it too; an empty list means nobody.
func confined() map[string]struct{ packages, why string } {
	return map[string]struct{ packages, why string }{
		"github.com/jackc/pgx/v5/...": {"audit/pglog cmd/counterfoil internal/access internal/alerts internal/archive internal/control internal/demo internal/jobs internal/pg internal/pg/cluster internal/pg/doctor internal/pg/pgtest internal/relay/relaytest internal/signin internal/store internal/totp",
			"SQL is written in few places: the log, the store, the taking of message bodies, signing in; cmd migrates and clears tickets"},
		"database/sql/...":                                                {"", "PostgreSQL is reached through pgx"},
		"database/sql/driver":                                             {"internal/access/euii", "only to refuse being an SQL argument"},
		"github.com/nats-io/...":                                          {"internal/bus", "hints have one implementation"},
		"github.com/riverqueue/river/...":                                 {"internal/jobs", "one queue, whose jobs hold ids only"},
		"github.com/open-policy-agent/opa/...":                            {"policy", "one engine, one entry point"},
		"github.com/tink-crypto/tink-go/...":                              {"internal/access/keyring", "encryption in one place"},
		"github.com/go-chi/chi/v5/...":                                    {"cmd/counterfoil internal/console internal/telemetry internal/widget", "routers are built at the edges; telemetry names routes by their patterns"},
		"github.com/alecthomas/kong/...":                                  {"cmd/counterfoil", "the command line"},
		"go.opentelemetry.io/otel/...":                                    {"cmd/counterfoil internal/access internal/pg internal/relay/relaytest internal/telemetry", "spans only at the seams"},
		"github.com/pquerna/otp/...":                                      {"internal/totp", "one-time codes are checked in one place, which claims each"},
		"github.com/ccojocar/zxcvbn-go/...":                               {"internal/signin", "its list of leaked passwords, and nothing that runs"},
		"github.com/go-webauthn/...":                                      {"internal/signin", "security keys are checked in one place"},
		"golang.org/x/crypto/...":                                         {"internal/signin", "argon2id; everything else is in the standard library"},
		"golang.org/x/mod/sumdb/...":                                      {"audit", "signed notes and tiles belong to the log"},
		"github.com/wneessen/go-mail/...":                                 {"internal/alerts", "mail is sent in one place"},
		"github.com/standard-webhooks/standard-webhooks/libraries/go/...": {"internal/alerts", "webhooks are signed in one place"},
		"filippo.io/age/...":                                              {"cmd/counterfoil internal/archive", "archives are sealed in one place, and opened with an identity that the command line reads"},
		"github.com/minio/minio-go/...":                                   {"audit/publish audit/publish/buckettest", "buckets are written to in one place"},
		"net/http/...":                                                    {"audit/publish audit/publish/buckettest cmd/counterfoil internal/alerts internal/bot internal/canary internal/console internal/egress internal/standin internal/stream internal/teams internal/telemetry internal/web internal/widget", "only the edges speak HTTP, and whoever asks a witness or a bucket or sends an alert; transports are made by the register of destinations"},
		"crypto/tls":                                                      {"internal/pg", "whoever else needs TLS gets it from net/http with its checks on"},
		"os/exec":                                                         {"internal/pg/cluster", "PostgreSQL is the only program that is started"},
		"syscall":                                                         {"audit audit/publish cmd/counterfoil internal/egress internal/pg/cluster internal/pg/pgtest internal/standin internal/stream", "signals, locks, sockets, and files without the poller"},
		"math/rand/...":                                                   {"internal/demo internal/pg internal/stream", "spreading retries and wake-ups, and what is made up; whatever must not be guessed comes from crypto/rand"},
		"html/template":                                                   {"internal/console internal/subject internal/widget", "pages are made at the edges, and the file of a person"},
		"unsafe":                                                          {"", "types are what keeps EUII in"},
		"reflect":                                                         {"", "types are what keeps EUII in"},
		"C":                                                               {"", "types are what keeps EUII in"},
		"plugin":                                                          {"", "the program is what was reviewed"},
		"log":                                                             {"", "log/slog, handed in"},
		"text/template":                                                   {"", "pages are escaped: html/template"},
		"encoding/gob":                                                    {"", "foreign bytes are never decoded into types of their sender's choice"},
		"net/http/pprof":                                                  {"", "memory holds EUII for moments; no dump of it is served"},
		"expvar":                                                          {"", "it publishes without being asked"},
		"github.com/microsoftgraph/...":                                   {"", "the bot service is all of Microsoft that is needed"},
		"github.com/lestrrat-go/jwx/...":                                  {"", "RS256 by the standard library is all the bot service uses"},
	}
}

// listed is what go list says of a package.
type listed struct {
	ImportPath, Name, Dir                                string
	Imports, GoFiles, IgnoredGoFiles, CgoFiles           []string
	TestImports, XTestImports, TestGoFiles, XTestGoFiles []string
}

func (l listed) name() string { return strings.TrimPrefix(l.ImportPath, module+"/") }

// packages lists the packages of the module, once.
var packages = sync.OnceValues(func() ([]listed, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,GoFiles,IgnoredGoFiles,CgoFiles,TestImports,XTestImports,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listed
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		all = append(all, l)
	}
})

func list(t *testing.T) []listed {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryPackageImportsExactlyWhatItsLineSays(t *testing.T) {
	want := layers()
	for _, l := range list(t) {
		line, ok := want[l.name()]
		if !ok {
			t.Errorf("%s has no line in layers(): say in which layer it stands, and in internal/README.md what it is", l.name())
			continue
		}
		delete(want, l.name())
		var imports []string
		for _, path := range l.Imports {
			if name, ok := strings.CutPrefix(path, module+"/"); ok {
				imports = append(imports, name)
			}
		}
		if got, want := imports, strings.Fields(line.imports); !slices.Equal(got, want) {
			t.Errorf("%s imports\n\t%s\nits line says\n\t%s", l.name(), strings.Join(got, " "), strings.Join(want, " "))
		}
	}
	for name := range want {
		t.Errorf("layers() has a line for %s, which does not exist", name)
	}
}

func TestDataFlowsOneWay(t *testing.T) {
	all := layers()
	for name, line := range all {
		for _, imported := range strings.Fields(line.imports) {
			below, ok := all[imported]
			support := line.layer == testSupport && below.layer == testSupport // relaytest stands on pgtest
			if !ok || below.layer >= line.layer && !support {
				t.Errorf("%s (layer %d) may not import %s (layer %d)", name, line.layer, imported, below.layer)
			}
		}
	}
}

func TestDangerousImportsAreWhereTheyBelong(t *testing.T) {
	for _, l := range list(t) {
		imports := l.Imports
		if len(l.CgoFiles) > 0 {
			imports = append(slices.Clone(imports), "C")
		}
		for _, path := range imports {
			pattern, found := ruleFor(path)
			if !found {
				continue
			}
			rule := confined()[pattern]
			if !slices.Contains(strings.Fields(rule.packages), l.name()) {
				t.Errorf("%s may not import %s: %s", l.name(), path, rule.why)
			}
		}
	}
	// A permission that nobody uses any more is taken back.
	uses := make(map[string]bool)
	for _, l := range list(t) {
		for _, path := range l.Imports {
			if pattern, found := ruleFor(path); found {
				uses[pattern+" "+l.name()] = true
			}
		}
	}
	for pattern, rule := range confined() {
		for _, name := range strings.Fields(rule.packages) {
			if !uses[pattern+" "+name] {
				t.Errorf("%s is permitted to %s, which does not import it", pattern, name)
			}
		}
	}
}

// ruleFor finds the longest pattern of confined that matches an import path.
func ruleFor(path string) (pattern string, found bool) {
	for p := range confined() {
		below, wide := strings.CutSuffix(p, "/...")
		if path != p && !(wide && (path == below || strings.HasPrefix(path, below+"/"))) {
			continue
		}
		if len(p) > len(pattern) {
			pattern, found = p, true
		}
	}
	return pattern, found
}

func TestFewTestsUseReflection(t *testing.T) {
	allowed := []string{"audit", "internal/access/euii", "policy"} // to compare, to show, to derive the schema
	for _, l := range list(t) {
		for _, path := range slices.Concat(l.TestImports, l.XTestImports) {
			if path == "unsafe" || path == "reflect" && !slices.Contains(allowed, l.name()) {
				t.Errorf("the tests of %s import %s", l.name(), path)
			}
		}
	}
}

func TestEveryPackageHasExactlyOnePackageComment(t *testing.T) {
	for _, l := range list(t) {
		var comments []string
		for _, file := range slices.Concat(l.GoFiles, l.IgnoredGoFiles, l.TestGoFiles, l.XTestGoFiles) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(l.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc == nil {
				continue
			}
			comments = append(comments, file)
			begin := "package " + l.Name + " "
			if l.Name == "main" {
				begin = filepath.Base(l.Dir) + " "
			}
			text := strings.ToLower(strings.TrimPrefix(f.Doc.Text(), "Command "))
			if !strings.HasPrefix(text, begin) {
				t.Errorf("the comment of %s in %s does not begin with its name", l.name(), file)
			}
		}
		if len(comments) != 1 {
			t.Errorf("%s has %d package comments, in %q", l.name(), len(comments), comments)
		}
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, l := range list(t) {
		for _, file := range l.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(l.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s/%s has a func init", l.name(), file)
				}
			}
		}
	}
}

// The README shows the same table, with a sentence for people.
func TestTheReadmeShowsTheLayers(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "internal/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 4 || !strings.HasPrefix(cells[0], "| ") || !strings.HasPrefix(cells[1], "`") {
			continue
		}
		layer, name, sentence := cells[0][2:], strings.Trim(cells[1], "`"), cells[2]
		imports := strings.NewReplacer("`", "", ",", "", " |", "", "–", "").Replace(cells[3])
		want, ok := layers()[name]
		switch {
		case !ok:
			t.Errorf("the README has a line for %s, which is no package", name)
		case shown[name]:
			t.Errorf("the README has two lines for %s", name)
		case len(sentence) < 20 || !strings.HasSuffix(sentence, "."):
			t.Errorf("the README has no sentence for %s", name)
		case layer != layerName(want.layer) || strings.Join(strings.Fields(imports), " ") != want.imports:
			t.Errorf("the README's line for %s should be\n%s", name, readmeLine(name, want, sentence))
		}
		shown[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(layers())) {
		if !shown[name] {
			t.Errorf("the README lacks the line\n%s", readmeLine(name, layers()[name], "What it is."))
		}
	}
}

func layerName(layer int) string {
	if layer == testSupport {
		return "tests"
	}
	return fmt.Sprint(layer)
}

func readmeLine(name string, o ours, sentence string) string {
	imports := "–"
	if o.imports != "" {
		imports = "`" + strings.Join(strings.Fields(o.imports), "`, `") + "`"
	}
	return fmt.Sprintf("| %s | `%s` | %s | %s |", layerName(o.layer), name, sentence, imports)
}
