package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/open-policy-agent/opa/v1/ast"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with the file, or rewrites the file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not as it should be; look at the difference after: go test ./policy -update", path)
	}
}

// schemaOf describes a type as JSON Schema: closed objects, every member
// required, closed lists as enums.
func schemaOf(t *testing.T, typ reflect.Type, path string) map[string]any {
	t.Helper()
	switch typ.Kind() {
	case reflect.String:
		values := closed()[path]
		if typ == reflect.TypeFor[Purpose]() {
			for _, purpose := range Purposes() {
				values = append(values, string(purpose))
			}
		}
		if values == nil {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"type": "string", "enum": values}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t, typ.Elem(), path)}
	case reflect.Struct:
		properties := map[string]any{}
		for i := range typ.NumField() {
			field := typ.Field(i)
			name := field.Tag.Get("json")
			if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, ",-") {
				t.Fatalf("%s.%s has the JSON name %q", typ, field.Name, name)
			}
			properties[name] = schemaOf(t, field.Type, strings.TrimPrefix(path+"."+name, "."))
		}
		return map[string]any{
			"type":                 "object",
			"additionalProperties": false,
			"required":             slices.Sorted(maps.Keys(properties)),
			"properties":           properties,
		}
	default:
		t.Fatalf("%s at %s has no schema", typ, path)
		return nil
	}
}

func TestSchemaIsTheInputStruct(t *testing.T) {
	root := schemaOf(t, reflect.TypeFor[Input](), "")
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "Policy input"
	got, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "schemas/input.json", append(got, '\n'))
}

func TestInputReachesOPAAsItsJSON(t *testing.T) {
	for name, in := range map[string]Input{
		"a full one": {
			Actor: Actor{
				Kind: "admin", Organisation: "o", Ref: "a", Roles: []string{"auditor", "other"},
				Factors: []Factor{{"totp", 12, "administer"}, {"password", 100000, ""}, {"elsewhere", -1, "nowhere"}}, Address: "admitted", Job: "archive", Recent: 123456,
			},
			Purpose: RevealToAdmin, Audience: "console",
			Subject:      Subject{Kind: "agent", Organisation: "o", Ref: "s"},
			Fields:       []string{AgentEmail, "no_such_field"},
			Conversation: Conversation{Ref: "c", State: "active", ActorIs: "visitor", SubjectIs: "agent"},
			Organisation: Organisation{ShareVisitorEmail: true, NameInChannel: true},

			Justification: true, Approval: Approval{By: "b", Actor: "a", Subject: "s", ExpiresInSeconds: 3600}, Request: "s",
			Retention: Retention{Class: "visitor", Days: 90},
		},
		"an empty one": {
			Actor:        Actor{Roles: []string{}, Factors: []Factor{}},
			Fields:       []string{},
			Organisation: Organisation{CreateAgents: true},
		},
	} {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if want := ast.MustParseTerm(string(text)).Value; in.value().Compare(want) != 0 {
			t.Errorf("%s: value is %v, its JSON %v", name, in.value(), want)
		}
	}
}

// withFile is the compiled-in bundle with one file added or replaced.
func withFile(t *testing.T, name, text string) fstest.MapFS {
	t.Helper()
	files, err := readBundle(Bundle())
	if err != nil {
		t.Fatal(err)
	}
	bundle := fstest.MapFS{}
	for _, file := range files {
		bundle[file.path] = &fstest.MapFile{Data: file.text}
	}
	bundle[name] = &fstest.MapFile{Data: []byte(text)}
	return bundle
}

func TestCheckAcceptsTheBundle(t *testing.T) {
	if err := Check(Bundle()); err != nil {
		t.Fatal(err)
	}
}

func TestBundleIsRefusedWith(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"a misspelled input path", "package counterfoil.x\n\np if input.actr.kind == \"agent\"\n", "extra.rego:3: rego_type_error: undefined ref: input.actr.kind"},
		{"a misspelled path further down", "package counterfoil.x\n\np if input.actor.knd == \"agent\"\n", "extra.rego:3: rego_type_error: undefined ref: input.actor.knd"},
		{"a misspelled member of a factor", "package counterfoil.x\n\np if input.actor.factors[_].age == 1\n", "extra.rego:3: rego_type_error: undefined ref: input.actor.factors"},
		{"a value of the wrong type", "package counterfoil.x\n\np if input.organisation.create_agents == \"yes\"\n", "extra.rego:3: rego_type_error: match error"},
		{"a syntax error", "package counterfoil.x\n\np if {\n", "extra.rego:4: rego_parse_error"},
		{"an empty file", "", "extra.rego:0: rego_parse_error: empty module"},
		{"an unused variable", "package counterfoil.x\n\np if { y := 1 }\n", "extra.rego:3: rego_compile_error: assigned var y unused"},
		{"an unused import", "package counterfoil.x\n\nimport data.counterfoil.admin\n\np := 1\n", "extra.rego:3: rego_compile_error: import data.counterfoil.admin unused"},
		{"a request to the network", "package counterfoil.x\n\np := http.send({\"url\": \"http://127.0.0.1\", \"method\": \"get\"})\n", "extra.rego:3: rego_type_error: undefined function http.send"},
		{"a look at the clock", "package counterfoil.x\n\np if time.now_ns() > 0\n", "extra.rego:3: rego_type_error: undefined function time.now_ns"},
		{"a look at the environment", "package counterfoil.x\n\np := opa.runtime()\n", "extra.rego:3: rego_type_error: undefined function opa.runtime"},
		{"a regular expression", "package counterfoil.x\n\np if regex.match(input.actor.ref, input.subject.ref)\n", "extra.rego:3: rego_type_error: undefined function regex.match"},
		{"a glob", "package counterfoil.x\n\np if glob.match(input.actor.ref, [], input.subject.ref)\n", "extra.rego:3: rego_type_error: undefined function glob.match"},
		{"a recursion", "package counterfoil.x\n\np if q\n\nq if p\n", "rego_recursion_error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bundle := withFile(t, "extra.rego", c.text)
			err := Check(bundle)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check: %v, want %q", err, c.want)
			}
			engine, err := Load(t.Context(), bundle)
			if err == nil || engine != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Load: %v, want %q", err, c.want)
			}
		})
	}
}

func TestBundleIsRefusedWhen(t *testing.T) {
	many := fstest.MapFS{}
	for i := range maxFiles + 1 {
		many[strings.Repeat("x", i+1)+".rego"] = &fstest.MapFile{Data: []byte("package x")}
	}
	for name, c := range map[string]struct {
		bundle fstest.MapFS
		want   string
	}{
		"it has no rule to ask": {fstest.MapFS{"a.rego": {Data: []byte("package counterfoil\n\nallow := true\n")}}, "no rule " + entryPoint},
		"it is empty":           {fstest.MapFS{}, "no rule " + entryPoint},
		"a file is too large":   {withFile(t, "extra.rego", "package x\n"+strings.Repeat("#", maxFileBytes)), "extra.rego: larger than"},
		"it has too many files": {many, "more than 256 files"},
	} {
		if err := Check(c.bundle); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: Check says %v, want %q", name, err, c.want)
		}
	}
}
