// Package canary looks for names of people who do not exist where no name may be. It plants them at the edges of the service, in every
// place that a stranger can fill, and then searches whatever the service writes, in any spelling. It promises to say where something was found and
// never what.
package canary

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf16"
)

// spellings are the forms in which a value could lie in a file without being recognised at once.
func spellings(value string) map[string][]byte {
	all := map[string][]byte{"plain": []byte(value), "hexadecimal": []byte(hex.EncodeToString([]byte(value))), "an address": []byte(url.QueryEscape(value))}
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
			all[fmt.Sprintf("%s, offset %d", name, offset)] = []byte(encoding.EncodeToString(padded)[from:usable])
		}
	}
	return all
}

// least is how many bytes a value has at least. Shorter ones are found by chance.
const least = 6

// Finding is a value that lies where it may not.
type Finding struct {
	Place    string `json:"place"`
	What     string `json:"what"`
	Spelling string `json:"spelling"`
}

// Search looks for values. It is for one goroutine.
type Search struct {
	patterns []pattern
	longest  int
	buf      []byte
	found    map[Finding]bool
	places   int
	bytes    int64
	unread   []string
}

type pattern struct {
	what, spelling string
	folded         []byte
}

// New makes a search for values by what they are.
func New(values map[string]string) (*Search, error) {
	s := &Search{buf: make([]byte, 4<<20), found: make(map[Finding]bool)}
	for _, what := range slices.Sorted(maps.Keys(values)) {
		if len(values[what]) < least {
			return nil, fmt.Errorf("%s is shorter than %d bytes and would be found by chance", what, least)
		}
		forms := spellings(values[what])
		for _, spelling := range slices.Sorted(maps.Keys(forms)) {
			folded := forms[spelling]
			lower(folded)
			if !slices.ContainsFunc(s.patterns, func(p pattern) bool { return p.what == what && bytes.Equal(p.folded, folded) }) {
				s.patterns = append(s.patterns, pattern{what, spelling, folded})
				s.longest = max(s.longest, len(folded))
			}
		}
	}
	return s, nil
}

// Reader searches what r gives, in any case of letters.
func (s *Search) Reader(ctx context.Context, place string, r io.Reader) error {
	s.places++
	kept := 0 // of the chunk before, for what lies across
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, s.buf[kept:])
		chunk := s.buf[:kept+n]
		lower(chunk[kept:])
		for _, p := range s.patterns {
			if bytes.Contains(chunk, p.folded) {
				s.found[Finding{place, p.what, p.spelling}] = true
			}
		}
		s.bytes += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		kept = copy(s.buf, chunk[len(chunk)-min(s.longest-1, len(chunk)):])
	}
}

// lower folds letters of ASCII. Names with others are found in the case in which they were planted.
func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// Dir searches all files below a directory. Those that vanish meanwhile, as PostgreSQL's do, are left out; those that cannot be read are said.
func (s *Search) Dir(ctx context.Context, place, root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := place
		if below, e := filepath.Rel(root, path); e == nil && below != "." {
			name = place + "/" + filepath.ToSlash(below)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			s.unread = append(s.unread, name)
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err == nil {
			err = s.Reader(ctx, name, f)
			_ = f.Close() // it was only read
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.unread = append(s.unread, name)
		}
		return nil
	})
}

// Report is the outcome.
type Report struct {
	Planted int       `json:"planted"` // values that were looked for
	Places  int       `json:"places"`  // files and outputs that were searched
	Bytes   int64     `json:"bytes"`
	Found   []Finding `json:"found"`
	Unread  []string  `json:"unread"` // places that could not be read, about which nothing is known
}

// Clean reports whether everything could be searched and nothing was found.
func (r Report) Clean() bool { return len(r.Found) == 0 && len(r.Unread) == 0 && r.Places > 0 }

// Report tells what came out.
func (s *Search) Report() Report {
	kinds := map[string]bool{}
	for _, p := range s.patterns {
		kinds[p.what] = true
	}
	found := slices.SortedFunc(maps.Keys(s.found), func(a, b Finding) int {
		return strings.Compare(a.Place+"\x00"+a.What+a.Spelling, b.Place+"\x00"+b.What+b.Spelling)
	})
	return Report{Planted: len(kinds), Places: s.places, Bytes: s.bytes, Found: found, Unread: s.unread}
}

// People are a visitor and an agent who do not exist, anew each time.
func People() map[string]string {
	word := func() string { return strings.ToLower(rand.Text()[:10]) }
	visitor, agent := word(), word()
	return map[string]string{
		"a visitor's given name": "Wilhelmina " + visitor,
		"a visitor's email":      visitor + ".visitor@canary.example",
		"a visitor's message":    "my account is " + word(),
		"an agent's name":        "Amaury " + agent,
		"an agent's email":       agent + ".agent@canary.example",
		"an administrator":       "Ottilie " + word(),
		"a password":             "open " + word() + " sesame",
	}
}
