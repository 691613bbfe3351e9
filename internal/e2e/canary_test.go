package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// spellings are the forms in which a value could lie in a file or a log without being recognised at once.
func spellings(value string) map[string][]byte {
	all := map[string][]byte{"plain": []byte(value), "hexadecimal": []byte(hex.EncodeToString([]byte(value)))}
	var little, big []byte
	for _, unit := range utf16.Encode([]rune(value)) {
		little = append(little, byte(unit), byte(unit>>8))
		big = append(big, byte(unit>>8), byte(unit))
	}
	all["UTF-16, little end first"], all["UTF-16, big end first"] = little, big
	// In base64 a value looks different at each of three offsets; its first and last characters also hold bits of its neighbours.
	for offset := range 3 {
		padded := append(bytes.Repeat([]byte{0}, offset), value...)
		usable := len(padded) / 3 * 4
		from := (offset*8 + 5) / 6
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64 for addresses": base64.RawURLEncoding} {
			all[name+", offset "+string(rune('0'+offset))] = []byte(encoding.EncodeToString(padded)[from:usable])
		}
	}
	return all
}

// spilled tells where in the contents a value lies, in any spelling and any case.
func spilled(contents []byte, value string) []string {
	var found []string
	folded := bytes.ToLower(contents)
	for name, form := range spellings(value) {
		if bytes.Contains(contents, form) || bytes.Contains(folded, bytes.ToLower(form)) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func TestASpilledValueIsFoundInEverySpelling(t *testing.T) {
	const value = "Ångström O’Hara"
	for _, c := range []struct {
		name, contents string
	}{
		{"plain", "x" + value + "y"},
		{"in capitals", strings.ToUpper("angstrom@example.test")},
		{"as JSON in base64", base64.StdEncoding.EncodeToString([]byte(`{"n":"` + value + `"}`))},
		{"at another offset", base64.StdEncoding.EncodeToString([]byte(`{"n1":"` + value + `"}`))},
		{"at the third offset", base64.URLEncoding.EncodeToString([]byte(`{"n12":"` + value + `"}`))},
		{"in hexadecimal", hex.EncodeToString([]byte("a" + value))},
		{"in UTF-16", string(spellings(value)["UTF-16, little end first"])},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := value
			if c.name == "in capitals" {
				want = "angstrom@example.test"
			}
			if len(spilled([]byte(c.contents), want)) == 0 {
				t.Error("not found")
			}
		})
	}
	if found := spilled([]byte("nothing of the kind"), value); len(found) != 0 {
		t.Errorf("found as %q where it is not", found)
	}
}

func TestNoNameEmailOrMessageLiesInAnyFileOrLog(t *testing.T) {
	t.Parallel()
	s := newService(t)
	random := rand.Text()
	secrets := map[string]string{
		"the visitor's name":         "Wilhelmina Q" + random[:12],
		"the visitor's email":        "canary-" + strings.ToLower(random[:16]) + "@mailbox.example",
		"the visitor's message":      "The vault code is " + random[4:20],
		"the agent's answer":         "Never write it down " + random[6:22],
		"the agent's name":           amelie.name,
		"the agent's surname":        strings.Fields(amelie.name)[1],
		"the agent's email":          amelie.email,
		"the agent's email, its box": strings.Split(amelie.email, "@")[0],
	}
	v := visit(t, s)
	v.begin(secrets["the visitor's name"], secrets["the visitor's email"], secrets["the visitor's message"])
	a := work(t, s, amelie)
	a.join(secrets["the visitor's message"])
	a.sees(secrets["the visitor's name"])
	a.sees(secrets["the visitor's email"])
	a.say(secrets["the agent's answer"])
	v.sees("> "+secrets["the visitor's message"], "< "+secrets["the agent's answer"])
	v.chat.shows("#agent", amelie.name)

	listed := s.run("counterfoil", "audit", "list", "--json", "--last", "1000") + s.run("counterfoil", "audit", "list")
	s.run("counterfoil", "audit", "export", filepath.Join(s.dir, "export"))
	// The product's own scan, which plants further people, comes to the same.
	var lines strings.Builder
	for what, value := range secrets {
		lines.WriteString(what + ": " + value + "\n")
	}
	also := filepath.Join(t.TempDir(), "also")
	if err := os.WriteFile(also, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := s.run("counterfoil", "canary", "scan", "--also", also); !strings.Contains(out, ": 0 found, 0 places not read") {
		t.Errorf("the scan says: %s", out)
	}
	v.trouble, a.trouble = true, true // nobody answers them from here on
	s.stop()

	places := map[string][]byte{"the output of the service": []byte(s.said.String()), "the listing of the audit log": []byte(listed)}
	s.keepsNot(secrets)
	for place, contents := range places {
		for what, value := range secrets {
			if found := spilled(contents, value); len(found) > 0 {
				t.Errorf("%s lies in %s as %q", what, place, found)
			}
		}
	}
}

// keepsNot fails the test for each value that lies in a file of the data directory, in any spelling.
func (s *service) keepsNot(secrets map[string]string) {
	s.t.Helper()
	known := false
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		contents, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		known = known || bytes.Contains(contents, []byte(s.WidgetKey))
		for what, value := range secrets {
			if found := spilled(contents, value); len(found) > 0 {
				s.t.Errorf("%s lies in %s as %q", what, strings.TrimPrefix(path, s.dir), found)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if !known {
		s.t.Error("not even the widget's key, which is no secret, was found: the search does not reach the tables")
	}
}
