package canary

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const value = "Ångström O’Hara"

func search(t *testing.T, values map[string]string) *Search {
	t.Helper()
	s, err := New(values)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAPlantedValueIsFoundInEverySpelling(t *testing.T) {
	for _, c := range []struct{ name, contents, value string }{
		{"plain", "x" + value + "y", value},
		{"in capitals", strings.ToUpper("angstrom@example.test"), "angstrom@example.test"},
		{"as JSON in base64", base64.StdEncoding.EncodeToString([]byte(`{"n":"` + value + `"}`)), value},
		{"at another offset", base64.StdEncoding.EncodeToString([]byte(`{"n1":"` + value + `"}`)), value},
		{"at the third offset", base64.URLEncoding.EncodeToString([]byte(`{"n12":"` + value + `"}`)), value},
		{"in hexadecimal", hex.EncodeToString([]byte("a" + value)), value},
		{"in UTF-16", string(spellings(value)["UTF-16, little end first"]), value},
		{"in an address", "GET /?email=angstrom%40example.test HTTP/1.1", "angstrom@example.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, before := range []int{0, 1, 4<<20 - 40, 4<<20 - 5, 4 << 20, 9 << 20} { // across the chunks in which it is read
				s := search(t, map[string]string{"a name": c.value})
				if err := s.Reader(t.Context(), "here", strings.NewReader(strings.Repeat(".", before)+c.contents+strings.Repeat(".", 100))); err != nil {
					t.Fatal(err)
				}
				if r := s.Report(); len(r.Found) == 0 || r.Found[0].Place != "here" || r.Found[0].What != "a name" || r.Clean() {
					t.Errorf("behind %d bytes: %+v", before, r)
				}
			}
		})
	}
	s := search(t, map[string]string{"a name": value})
	if err := s.Reader(t.Context(), "here", strings.NewReader("nothing of the kind")); err != nil {
		t.Fatal(err)
	}
	if r := s.Report(); !r.Clean() || r.Planted != 1 || r.Places != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAValueThatWouldBeFoundByChanceIsRefused(t *testing.T) {
	if _, err := New(map[string]string{"a name": "Anna"}); err == nil || strings.Contains(err.Error(), "Anna") {
		t.Error(err)
	}
}

func TestADirectoryIsSearchedAndWhatCannotBeReadIsSaid(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a/b/leak.log": "hello " + value, "a/fine.log": "hello"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := search(t, map[string]string{"a name": value})
	for _, dir := range []string{root, filepath.Join(root, "none such")} {
		if err := s.Dir(t.Context(), "data", dir); err != nil {
			t.Fatal(err)
		}
	}
	r := s.Report()
	if len(r.Found) != 1 || r.Found[0] != (Finding{"data/a/b/leak.log", "a name", "plain"}) || r.Places != 2 || len(r.Unread) != 0 {
		t.Errorf("%+v", r)
	}
	if err := s.Reader(t.Context(), "broken", broken{}); err == nil {
		t.Error("a place that cannot be read counts as searched")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, os.ErrPermission }

func TestEveryPlantedPersonIsSentToBothEdges(t *testing.T) {
	people := People()
	sent := map[string]*strings.Builder{"public": {}, "console": {}}
	var urls []string
	for _, edge := range []string{"public", "console"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = r.Write(sent[edge])
			w.WriteHeader(http.StatusBadRequest)
		}))
		defer s.Close()
		urls = append(urls, s.URL)
	}
	n, err := Plant(t.Context(), http.DefaultClient, urls[0], urls[1], people)
	if err != nil || n < 10 {
		t.Fatalf("%d, %v", n, err)
	}
	s := search(t, people)
	for edge, text := range sent {
		if err := s.Reader(t.Context(), edge, strings.NewReader(text.String())); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for _, f := range s.Report().Found {
		seen[f.What] = true
	}
	for what := range people {
		if !seen[what] {
			t.Errorf("%s is sent nowhere", what)
		}
	}
	if _, err := Plant(t.Context(), http.DefaultClient, "http://127.0.0.1:1", "", people); !errors.Is(err, ErrSilent) {
		t.Error("a service that does not answer counts as planted")
	}
}
