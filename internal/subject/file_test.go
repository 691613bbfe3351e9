package subject

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

func of[T any](all ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, one := range all {
			if !yield(one, nil) {
				return
			}
		}
	}
}

const hostile = `</script><script>alert(1)</script>"'<img src=x onerror=alert(1)>{{.T}}` + "\u2028\u0000\xff=cmd|' /C calc'!A0"

func hostileFile() File {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	return File{
		Organisation: hostile, Person: Person{Kind: "visitor"}, Handle: "visitor abcde", Ref: "abcdefghijklmnop", Made: at, Restricted: true,
		Values: []Value{{"visitor_display_name", hostile, at}}, Asked: []Asked{{"erasure", "open", at, at}}, KeptFor: []Keeping{{"transcript", 90}},
		Messages: of(Message{uuid.NewString(), 1, "visitor", at, hostile}), Shown: of(Shown{7, at, "agent xyzab", "agent", []string{"visitor_email"}, "introduce_visitor_to_agent", "masked"}),
		Origin: "chat.example/audit/x", Size: 8,
	}
}

func TestHostileTextsStayTextInBothFormsOfAFile(t *testing.T) {
	var b bytes.Buffer
	if err := hostileFile().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got["complete"] != true {
		t.Fatalf("no JSON: %v\n%s", err, b.String())
	}
	if bytes.Contains(b.Bytes(), []byte("<script")) || !strings.HasPrefix(got["kept"].([]any)[0].(map[string]any)["value"].(string), "</script>") {
		t.Errorf("the JSON has markup, or lost what was kept: %s", b.String())
	}
	for _, lang := range []string{"en", "fr"} {
		b.Reset()
		if err := hostileFile().WriteHTML(&b, lang); err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"<script", "<img", "ZgotmplZ", "{{"} {
			if strings.Contains(strings.ReplaceAll(b.String(), "{{.T}}", ""), bad) {
				t.Errorf("the page in %s has %q", lang, bad)
			}
		}
		if !strings.HasSuffix(strings.TrimSpace(b.String()), "</html>") || !strings.Contains(b.String(), Word(lang, "restricted")) || !strings.Contains(b.String(), Word(lang, "outcome_masked")) {
			t.Errorf("the page in %s is not whole", lang)
		}
	}
}

// Every member that is written is described, and everything that is required is written.
func TestTheSchemaDescribesWhatIsWritten(t *testing.T) {
	var schema struct {
		Required   []string
		Properties map[string]struct {
			Required   []string
			Properties map[string]any
			Items      struct {
				Required   []string
				Properties map[string]any
			}
		}
	}
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := hostileFile().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	same := func(where string, has map[string]any, properties map[string]any, required []string) {
		for name := range has {
			if _, ok := properties[name]; !ok {
				t.Errorf("%s%s is written and not described", where, name)
			}
		}
		for _, name := range required {
			if _, ok := has[name]; !ok {
				t.Errorf("%s%s is required and not written", where, name)
			}
		}
		if len(required) != len(properties) {
			t.Errorf("%s: %d members are required of %d", where, len(required), len(properties))
		}
	}
	top := make(map[string]any)
	for name := range schema.Properties {
		top[name] = true
	}
	same("", got, top, schema.Required)
	for name, p := range schema.Properties {
		switch v := got[name].(type) {
		case map[string]any:
			same(name+".", v, p.Properties, p.Required)
		case []any:
			if len(v) == 0 {
				t.Errorf("nothing in %s to compare", name)
				continue
			}
			same(name+"[].", v[0].(map[string]any), p.Items.Properties, p.Items.Required)
		}
	}
}

func TestAFileThatBreaksOffDoesNotPassForTheWhole(t *testing.T) {
	f := hostileFile()
	f.Shown = func(yield func(Shown, error) bool) { yield(Shown{}, errors.New("the database went")) }
	var b bytes.Buffer
	if err := f.WriteJSON(&b); err == nil || json.Valid(b.Bytes()) || strings.Contains(b.String(), "complete") {
		t.Errorf("the JSON passes for the whole (%v)", err)
	}
	b.Reset()
	if err := f.WriteHTML(&b, "en"); err == nil || strings.Contains(b.String(), Word("en", "end")) {
		t.Errorf("the page passes for the whole (%v)", err)
	}
}

func TestTheLongestHistoryTakesNoMoreMemoryThanTheShortest(t *testing.T) {
	f := hostileFile()
	const n = 200_000
	at := time.Now()
	f.Shown = func(yield func(Shown, error) bool) {
		for i := range n {
			if !yield(Shown{uint64(i), at, "agent xyzab", "agent", []string{"visitor_email"}, "introduce_visitor_to_agent", "allow"}, nil) {
				return
			}
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	most := uint64(0)
	out := writerFunc(func(b []byte) (int, error) {
		runtime.ReadMemStats(&after)
		most = max(most, after.HeapInuse)
		return len(b), nil
	})
	if err := f.WriteJSON(out); err != nil {
		t.Fatal(err)
	}
	if most > before.HeapInuse+32<<20 {
		t.Errorf("the heap grew by %d bytes", most-before.HeapInuse)
	}
	if err := f.WriteJSON(io.Discard); err != nil {
		t.Fatal(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestEveryTextIsInBothLanguages(t *testing.T) {
	for name, both := range words {
		if both[0] == "" || both[1] == "" {
			t.Errorf("%s lacks a language", name)
		}
	}
}
