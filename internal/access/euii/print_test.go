package euii_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"text/template"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/tracelog"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/pg/pgtest"
)

// panicWith makes the test program panic with one of the holders instead of testing; see TestPanicsPrintNothing.
const panicWith = "EUII_TEST_PANIC_WITH"

func TestMain(m *testing.M) {
	if name := os.Getenv(panicWith); name != "" {
		panicAs(name)
	}
	os.Exit(pgtest.Run(m))
}

// canary is the text that must appear nowhere. Its bytes in decimal and in hexadecimal are looked for too, for that is
// how fmt shows the memory of a slice.
const canary = "Zyxwvut Kanari <k@example.org>"

func leaks(out string) bool {
	first := []byte(canary)[:6]
	decimal := strings.Trim(fmt.Sprint(first), "[]")
	hexadecimal := fmt.Sprintf("%x", first)
	spaced := strings.TrimPrefix(fmt.Sprintf("%# x", first), "0x")
	lower := strings.ToLower(out)
	return strings.Contains(out, "Zyxwvut") || strings.Contains(out, "Kanari") || strings.Contains(out, decimal) ||
		strings.Contains(lower, hexadecimal) || strings.Contains(lower, spaced) ||
		strings.Contains(lower, strings.ReplaceAll(spaced, " ", ", ")) || strings.Contains(out, "k@example")
}

func TestTheCanaryIsFoundInEveryForm(t *testing.T) {
	for _, verb := range []string{"%s", "%q", "%x", "%X", "%# x", "%v", "%#v", "%d"} {
		if out := fmt.Sprintf(verb, []byte(canary)); !leaks(out) {
			t.Errorf("not found in %s", out)
		}
	}
}

type exported struct {
	ID    int
	Name  any
	Other string
}

type wrapped struct {
	In      euii.Inbound
	Cleared euii.Cleared[euii.Visitor]
}

type unexported struct {
	id      int
	in      euii.Inbound
	cleared euii.Cleared[euii.Agent]
	list    []euii.Inbound
	byName  map[string]euii.Cleared[euii.Agent]
	pointer *euii.Inbound
}

type embedded struct{ euii.Inbound }

type named struct{ Name euii.Inbound }

// holders are the values that hold the canary, in every shape in which code might carry them.
func holders() map[string]any {
	in := euii.Receive(canary)
	visitor := clear[euii.Visitor](canary)
	agent := clear[euii.Agent](canary)
	u := unexported{1, in, agent, []euii.Inbound{in}, map[string]euii.Cleared[euii.Agent]{"a": agent}, &in}
	return map[string]any{
		"an inbound":                  in,
		"a pointer to an inbound":     &in,
		"a cleared":                   visitor,
		"a pointer to a cleared":      &visitor,
		"a cleared for an agent":      agent,
		"an exported field":           exported{1, in, "x"},
		"a pointer in a field":        &exported{1, &visitor, "x"},
		"typed fields":                wrapped{in, visitor},
		"pointer to typed fields":     &wrapped{in, visitor},
		"unexported fields":           u,
		"pointer to unexported":       &u,
		"an embedded inbound":         embedded{in},
		"a slice":                     []euii.Inbound{in, in},
		"an array":                    [1]euii.Cleared[euii.Visitor]{visitor},
		"a slice of any":              []any{in, visitor},
		"a map":                       map[string]euii.Inbound{"name": in},
		"a map of any":                map[string]any{"name": &visitor},
		"a struct in a slice":         []unexported{u},
		"a struct in a map":           map[string]*unexported{"u": &u},
		"an error that wraps":         fmt.Errorf("join: %v", in),
		"joined and trimmed":          euii.InboundJoin(", ", euii.InboundTrim(in), euii.InboundWithout(in, euii.Receive("x"))),
		"a field of a field":          struct{ inner unexported }{u},
		"a value behind an interface": struct{ v fmt.Stringer }{in},
		"a first line":                euii.FirstLine(visitor, 200),
	}
}

func TestNothingPrints(t *testing.T) {
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%# x", "%d", "%c", "%U", "%b", "%o", "%e", "%t", "%p", "%w", "%200v", "%.3s", "%-10q", "%[1]*v", "%!"}
	for name, value := range holders() {
		t.Run(name, func(t *testing.T) {
			check := func(how, out string) {
				t.Helper()
				if leaks(out) {
					t.Errorf("%s printed %s", how, out)
				}
			}
			for _, verb := range verbs {
				check(verb, fmt.Sprintf(verb, value))
			}
			check("Sprint", fmt.Sprint(value))
			check("Sprintln", fmt.Sprintln(value, value))
			check("Errorf", fmt.Errorf("join: %v: %w", value, errors.New("x")).Error())
			check("Append", string(fmt.Append(nil, value)))

			var out strings.Builder
			log.New(&out, "", 0).Println(value)
			log.New(&out, "", 0).Printf("%+v", value)
			check("log", out.String())
			for how, handler := range map[string]slog.Handler{
				"slog text": slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}),
				"slog JSON": slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}),
			} {
				out.Reset()
				l := slog.New(handler).With("with", value).WithGroup("group")
				l.Info("a message", "value", value, slog.Group("inner", "value", value), slog.Any("list", []any{value}))
				l.Error(fmt.Sprint(value), "error", fmt.Errorf("%v", value))
				check(how, out.String())
				if strings.Count(out.String(), "\n") != 2 {
					t.Errorf("%s wrote %q", how, out.String())
				}
			}

			check("json", encoded(json.Marshal(value)))
			check("json indented", encoded(json.MarshalIndent(value, "", " ")))
			check("xml", encoded(xml.Marshal(value)))
			var buf bytes.Buffer
			err := gob.NewEncoder(&buf).Encode(value)
			check("gob", encoded(buf.Bytes(), err))
			if v, ok := value.(driver.Valuer); ok {
				got, err := v.Value()
				check("driver.Valuer", fmt.Sprint(got, err))
			}
			dumped := &dumper{seen: make(map[uintptr]bool)}
			dumped.dump(reflect.ValueOf(value))
			check("a dumper by reflection", dumped.out.String())
		})
	}
}

func encoded(b []byte, err error) string { return fmt.Sprint(string(b), err) }

// dumper prints everything that reflection can reach without unsafe, as debugging packages do.
type dumper struct {
	out  strings.Builder
	seen map[uintptr]bool
}

func (d *dumper) dump(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && !d.seen[v.Pointer()] {
			d.seen[v.Pointer()] = true
			d.dump(v.Elem())
		}
	case reflect.Interface:
		d.dump(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			d.dump(v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			d.dump(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			d.dump(k)
			d.dump(v.MapIndex(k))
		}
	case reflect.Func:
		func() {
			defer func() { fmt.Fprint(&d.out, recover()) }() // reflection refuses to call what is not exported
			for _, r := range v.Call(nil) {
				d.dump(r)
			}
		}()
	default:
		fmt.Fprintf(&d.out, "%v %+v ", v, v)
	}
}

func TestEncodersAreRefused(t *testing.T) {
	in, cleared := euii.Receive(canary), clear[euii.Visitor](canary)
	for name, encode := range map[string]func() error{
		"json":                 func() error { _, err := json.Marshal(in); return err },
		"json of a field":      func() error { _, err := json.Marshal(wrapped{in, cleared}); return err },
		"json of a pointer":    func() error { _, err := json.Marshal(&cleared); return err },
		"json of a map":        func() error { _, err := json.Marshal(map[string]any{"name": cleared}); return err },
		"json of an embedding": func() error { _, err := json.Marshal(embedded{in}); return err },
		"xml":                  func() error { _, err := xml.Marshal(named{in}); return err },
		"gob":                  func() error { return gob.NewEncoder(io.Discard).Encode(named{in}) },
		"gob of a value":       func() error { return gob.NewEncoder(io.Discard).Encode(cleared) },
		"text":                 func() error { _, err := encoding.TextMarshaler(in).MarshalText(); return err },
		"binary":               func() error { _, err := encoding.BinaryMarshaler(cleared).MarshalBinary(); return err },
		"an SQL argument":      func() error { _, err := driver.Valuer(in).Value(); return err },
		"a cleared argument":   func() error { _, err := driver.Valuer(&cleared).Value(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			if err := encode(); err == nil || !strings.Contains(err.Error(), euii.ErrNotEncodable.Error()) || leaks(err.Error()) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTemplatesShowNothing(t *testing.T) {
	in, cleared := euii.Receive(canary), clear[euii.Visitor](canary)
	data := map[string]any{"In": in, "Name": cleared, "Pointer": &cleared, "Struct": wrapped{in, cleared}, "List": []euii.Inbound{in}}
	sources := []string{
		`{{.}}`, `{{.Name}}`, `{{.In}}`, `{{.Pointer}}`, `{{.Struct}}`, `{{.List}}`, `{{range .List}}{{.}}{{end}}`,
		`{{print .Name}}`, `{{printf "%s %q %x %#v" .Name .In .Pointer .Struct}}`, `{{println .In}}`, `{{html .Name}}`, `{{js .In}}`, `{{urlquery .Name}}`,
		`{{.Name.String}}`, `{{.Name.GoString}}`, `{{.Name.LogValue}}`, `{{with .Struct}}{{.In}}{{.Cleared}}{{end}}`,
		`{{index .List 0}}`, `{{eq .Name "Ada"}}`, `{{len .Name}}`, `{{slice .Name 0 1}}`,
		`{{.Name.Reveal}}`, `{{.Name.Text}}`, `{{.Name.text}}`, `{{call .Name.text}}`, `{{.Name.plain}}`, `{{.In.concealed}}`, `{{.In.concealed.text}}`,
		`{{.Name.Value}}`, `{{.Name.MarshalJSON}}`, `{{.Name.MarshalText}}`, `{{.In.GobEncode}}`, `{{.Name.Format}}`,
		`<a href="{{.Name}}" title={{.In}} onclick="f({{.Name}})" style="color:{{.In}}">{{.Name}}</a>`,
		`<script>var x = {{.Name}}, y = "{{.In}}", z = {{.Struct}}, l = {{.List}};</script>`,
		`<style>p { color: {{.Name}} }</style>`, `<script type="application/json">{{.Struct}}</script>`,
	}
	for _, source := range sources {
		t.Run(source, func(t *testing.T) {
			var text, html strings.Builder
			if parsed, err := template.New("t").Parse(source); err == nil {
				fmt.Fprint(&text, parsed.Execute(&text, data))
			}
			if parsed, err := htmltemplate.New("t").Parse(source); err == nil {
				fmt.Fprint(&html, parsed.Execute(&html, data))
			}
			if leaks(text.String()) || leaks(html.String()) {
				t.Errorf("shown:\n%s\n%s", text.String(), html.String())
			}
		})
	}
}

func TestNoValueBecomesAnSQLArgument(t *testing.T) {
	db := pgtest.Database(t, fstest.MapFS{"0001_names.sql": {Data: []byte(`create table names (t text, b bytea, j jsonb, a text[], v varchar(50))`)}})
	var trace strings.Builder
	config, err := pgx.ParseConfig(db.URL(cluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	config.Tracer = &tracelog.TraceLog{LogLevel: tracelog.LogLevelTrace, Logger: tracelog.LoggerFunc(
		func(_ context.Context, level tracelog.LogLevel, message string, data map[string]any) {
			fmt.Fprintf(&trace, "%s %s %v %+v\n", level, message, data, data)
			if b, err := json.Marshal(data); err == nil {
				trace.Write(b)
			}
		})}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	in, cleared := euii.Receive(canary), clear[euii.Visitor](canary)
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	refused := func(how string, err error) {
		t.Helper()
		if err == nil || leaks(err.Error()) {
			t.Errorf("%s: got %v", how, err)
		}
	}
	for _, mode := range modes {
		for _, column := range []string{"t", "b", "j", "a", "v"} {
			for what, value := range map[string]any{"inbound": in, "cleared": cleared, "a pointer": &in, "a list": []euii.Inbound{in}} {
				_, err := conn.Exec(t.Context(), "insert into names ("+column+") values ($1)", mode, value)
				refused(fmt.Sprintf("%s as %s by %s", what, column, mode), err)
			}
		}
	}
	b := &pgx.Batch{}
	b.Queue("insert into names (t) values ($1)", in)
	refused("in a batch", conn.SendBatch(t.Context(), b).Close())
	_, err = conn.CopyFrom(t.Context(), pgx.Identifier{"names"}, []string{"t"}, pgx.CopyFromRows([][]any{{cleared}}))
	refused("by copying", err)
	_, err = conn.Exec(t.Context(), "insert into names (t) values (@name)", pgx.NamedArgs{"name": cleared})
	refused("as a named argument", err)

	var stored int
	if err := conn.QueryRow(t.Context(), "select count(*) from names").Scan(&stored); err != nil || stored != 0 {
		t.Errorf("%d rows were stored, %v", stored, err)
	}
	if !strings.Contains(trace.String(), "‹euii›") || leaks(trace.String()) {
		t.Errorf("pgx traced %s", trace.String())
	}
}

func panicAs(name string) {
	value, ok := holders()[name]
	if !ok {
		os.Exit(0)
	}
	deeper(value)
}

//go:noinline
func deeper(value any) { panic(value) }

// What a dying program writes names types and addresses only, with the traces of all goroutines.
func TestPanicsPrintNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range holders() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Env = append(os.Environ(), panicWith+"="+name, "GOTRACEBACK=system")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "panic: ") || !strings.Contains(string(out), "deeper") {
				t.Fatalf("the program did not panic: %v\n%s", err, out)
			}
			if leaks(string(out)) {
				t.Errorf("the panic printed %s", out)
			}
		})
	}
}

func TestValuesAreDecodedFromJSONWithoutBeingQuoted(t *testing.T) {
	var got struct{ Name, None, Null euii.Inbound }
	if err := json.Unmarshal([]byte(`{"Name":"Ada \u0026 Bob","Null":null}`), &got); err != nil {
		t.Fatal(err)
	}
	if !euii.InboundEqualFold(got.Name, "ada & bob") || !euii.InboundEmpty(got.None) || !euii.InboundEmpty(got.Null) {
		t.Error("another text was decoded")
	}
	for _, wrong := range []string{`{"Name":{"x":"` + canary + `"}}`, `{"Name":["` + canary + `"]}`, `{"Name":17}`} {
		if err := json.Unmarshal([]byte(wrong), &got); err == nil || leaks(err.Error()) {
			t.Errorf("%s gave %v", wrong, err)
		}
	}
}

func TestCheckInboundNamesTheRuleAndNotTheText(t *testing.T) {
	tests := []struct {
		name, text string
		lines      bool
		rule       string // empty when the text is fine
	}{
		{"AName/is fine", "Zoë Müller-Škvorecký", false, ""},
		{"Emoji/are fine", "Ada 👩‍🔬", false, ""},
		{"ALineBreak/is fine in a message", "one\ntwo\tthree", true, ""},
		{"ALineBreak/is refused in a name", canary + "\n", false, "control character U+000A"},
		{"ANull/is refused", canary + "\x00", true, "control character U+0000"},
		{"ACarriageReturn/is refused", canary + "\r", true, "control character U+000D"},
		{"AnOverride/is refused", canary + "\u202e", true, "text direction override U+202E"},
		{"AnIsolate/is refused", canary + "\u2066", true, "text direction override U+2066"},
		{"BrokenUTF8/is refused", canary + "\xff", true, "not valid UTF-8"},
		{"ALongText/is refused", strings.Repeat(canary, 10), true, "at most 64"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := euii.CheckInbound(euii.Receive(test.text), 64, test.lines)
			if test.rule == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.rule) || leaks(err.Error()) {
				t.Errorf("got %v", err)
			}
		})
	}
}
