package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/console"
)

// hostile puts records into the log whose every text tries to end the field it stands in.
func (s *site) hostile() string {
	s.t.Helper()
	const text = `a|b=c\d cs1=forged CEF:0|x\|\\=y"},{"class_uid":1`
	_, err := s.Log.Append(s.t.Context(), s.Organisation.ID,
		pglog.Draft{Entry: audit.Entry{Kind: audit.Denial, Action: text, Actor: audit.Party{Kind: text, Ref: text}, Subject: audit.Party{Kind: text, Ref: text}, Decision: "deny", Rule: text, Reasons: []string{text},
			Policy: text, Conversation: text, Fields: []string{text}, Address: text, AddressNet: text, Audience: text}},
		pglog.Draft{Entry: audit.Entry{Kind: audit.Collection, Action: "collect_visitor", Actor: audit.Party{Kind: "visitor"}, Decision: "allow", Rule: "r"}},
		pglog.Draft{Entry: audit.Entry{Kind: audit.Disclosure, Action: "reveal_to_admin", Actor: audit.Party{Kind: "admin", Ref: "a"}, Decision: "masked", Rule: "r", Masked: []string{"agent_email"}, Fields: []string{"agent_email"}}})
	must(s.t, err)
	return text
}

// schemaAttribute and schemaShape are what the published schema says of one, as testdata has it.
type (
	schemaAttribute struct {
		Type     string
		Array    bool
		Required bool
		Values   []int64
	}
	schemaShape struct {
		Attributes map[string]schemaAttribute
		AtLeastOne []string `json:"at_least_one"`
	}
)

// CON-11: an export as OCSF is one of the schema it names: only attributes of the class, each of its type and with a value that is listed, and all that are required.
func TestAnExportFollowsTheSchemaThatItNames(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(30)
	s.hostile()
	s.setUp()
	s.signIn()
	b, err := os.ReadFile("testdata/ocsf-1.6.0.json")
	must(t, err)
	var schema struct {
		Version          string
		Classes, Objects map[string]schemaShape
	}
	must(t, json.Unmarshal(b, &schema))
	var check func(where string, in schemaShape, o map[string]any)
	one := func(where string, a schemaAttribute, v any) {
		number, isNumber := v.(json.Number)
		n, err := number.Int64()
		_, isText := v.(string)
		object, isObject := v.(map[string]any)
		switch a.Type {
		case "integer_t", "long_t", "timestamp_t":
			if !isNumber || err != nil || a.Values != nil && !slices.Contains(a.Values, n) {
				t.Errorf("%s is %v, want one of %v", where, v, a.Values)
			}
		case "string_t":
			if !isText {
				t.Errorf("%s is %v, want text", where, v)
			}
		case "object":
			if !isObject {
				t.Errorf("%s is %v, want an object", where, v)
			}
		default:
			in, known := schema.Objects[a.Type]
			if !isObject || !known {
				t.Errorf("%s is %v, want a %s", where, v, a.Type)
				return
			}
			check(where, in, object)
		}
	}
	check = func(where string, in schemaShape, o map[string]any) {
		for name, v := range o {
			a, known := in.Attributes[name]
			list, isList := v.([]any)
			switch {
			case !known || a.Array != isList:
				t.Errorf("%s.%s: there is no such attribute, or not so many (%v)", where, name, v)
			case isList:
				for _, each := range list {
					one(where+"."+name, a, each)
				}
			default:
				one(where+"."+name, a, v)
			}
		}
		for name, a := range in.Attributes {
			if _, there := o[name]; a.Required && !there {
				t.Errorf("%s lacks %s", where, name)
			}
		}
		if len(in.AtLeastOne) > 0 && !slices.ContainsFunc(in.AtLeastOne, func(name string) bool { return o[name] != nil }) {
			t.Errorf("%s has none of %v", where, in.AtLeastOne)
		}
	}
	_, file := s.expect(http.StatusOK, "GET", "/export?as=ocsf", nil)
	if e := s.last(); e.Action != "console.exported" || e.Facts["format"] != "ocsf" || e.Facts["digest"] == "" {
		t.Errorf("%+v", e)
	}
	lines, classes := strings.Split(strings.TrimSuffix(file, "\n"), "\n"), map[string]int{}
	for i, line := range lines {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var o map[string]any
		must(t, d.Decode(&o))
		class := fmt.Sprint(o["class_uid"])
		in, known := schema.Classes[class]
		if !known || fmt.Sprint(o["category_uid"]) != class[:1] || fmt.Sprint(o["type_uid"]) != fmt.Sprintf("%s%02s", class, o["activity_id"]) || o["metadata"].(map[string]any)["version"] != schema.Version {
			t.Errorf("line %d is of class %s, category %v, type %v, version %v", i, class, o["category_uid"], o["type_uid"], o["metadata"])
		}
		classes[class]++
		check(fmt.Sprintf("line %d", i), in, o)
	}
	if len(lines) < 35 || classes["6003"] == 0 || classes["6005"] < 30 {
		t.Errorf("%d lines: %v", len(lines), classes)
	}
}

// CON-11: nothing that a record holds ends a field, or the line, of an export as CEF.
func TestNoTextEndsAFieldOfALineOfCEF(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.history(5)
	text := s.hostile()
	s.setUp()
	s.signIn()
	n := len(s.Entries(t))
	_, file := s.expect(http.StatusOK, "GET", "/export?as=cef", nil)
	lines := strings.Split(strings.TrimSuffix(file, "\n"), "\n")
	if len(lines) > n || len(lines) < 9 {
		t.Fatalf("%d lines of %d records", len(lines), n)
	}
	bar := regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*\|`)
	key := regexp.MustCompile(`(?:^| )(\w+)=`)
	forged := 0
	for _, line := range lines {
		if strings.ContainsRune(line, '\r') || !strings.HasPrefix(line, "CEF:0|Counterfoil|Counterfoil|1|") {
			t.Errorf("%q", line)
		}
		bars := bar.FindAllStringIndex(line, -1)
		if len(bars) < 7 {
			t.Fatalf("%q has %d fields", line, len(bars))
		}
		extension := line[bars[6][1]:]
		found := map[string]string{}
		at := key.FindAllStringSubmatchIndex(extension, -1)
		for i, k := range at {
			end := len(extension)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			name := extension[k[2]:k[3]]
			if _, twice := found[name]; twice {
				t.Errorf("%s stands twice in %q", name, line)
			}
			found[name] = strings.NewReplacer(`\\`, `\`, `\=`, `=`, `\n`, "\n", `\r`, "\r").Replace(extension[k[1]:end])
		}
		if found["rt"] == "" || found["externalId"] == "" {
			t.Errorf("%q: %v", line, found)
		}
		if found["act"] == "deny" && strings.Contains(found["suid"], "|") {
			forged++
			for name, got := range map[string]string{"suid": found["suid"], "duid": found["duid"], "rule": found["cs1"], "network": found["cs6"], "reason": found["reason"]} {
				if got != text {
					t.Errorf("%s is read as %q, want %q", name, got, text)
				}
			}
		}
	}
	if forged != 1 {
		t.Errorf("%d lines hold the text", forged)
	}
}

func FuzzCEF(f *testing.F) {
	for _, s := range []string{"", "a|b", `\`, `\|`, "a=b", "a\nb", "a\r\nb", "a\rb", `\n`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		header, value := console.CEF(s)
		if strings.ContainsAny(header+value, "\r\n") {
			t.Errorf("%q has an end of line: %q, %q", s, header, value)
		}
		if free := regexp.MustCompile(`\\.`).ReplaceAllString(header, ""); strings.ContainsAny(free, `|\`) {
			t.Errorf("%q ends the field: %q", s, header)
		}
		if free := regexp.MustCompile(`\\.`).ReplaceAllString(value, ""); strings.ContainsAny(free, `=\`) {
			t.Errorf("%q ends the value: %q", s, value)
		}
		if again := strings.NewReplacer(`\\`, `\`, `\=`, "=", `\n`, "\n", `\r`, "\r").Replace(value); again != strings.ReplaceAll(s, "\r\n", "\n") {
			t.Errorf("%q is read as %q", s, again)
		}
	})
}
