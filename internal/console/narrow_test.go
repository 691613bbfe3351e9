package console_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// On a narrow page a table has no headings, and each cell says what it is.
func TestEveryCellBesideTheFirstSaysItsHeadingOnANarrowPage(t *testing.T) {
	files, err := fs.Glob(os.DirFS("web"), "*.html")
	if err != nil {
		t.Fatal(err)
	}
	tables := regexp.MustCompile(`(?s)<table class="plain" role="table">.*?</table>`)
	headings := regexp.MustCompile(`(?s)<th scope="col" role="columnheader"[^>]*>(.*?)</th>`)
	cells := regexp.MustCompile(`<t[dh] (?:scope="row" role="rowheader"|role="cell")(?: data-label="(\{\{.*?\}\}|[^"]*)")?`)
	n := 0
	for _, file := range files {
		page, err := os.ReadFile("web/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables.FindAllString(string(page), -1) {
			n++
			head := headings.FindAllStringSubmatch(table, -1)
			body := table[strings.Index(table, "<tbody"):]
			all := cells.FindAllStringSubmatch(body, -1)
			if len(head) == 0 || len(all) == 0 || len(all)%len(head) != 0 {
				t.Errorf("%s: %d cells under %d headings", file, len(all), len(head))
				continue
			}
			for i, cell := range all {
				want := strings.Replace(head[i%len(head)][1], "{{.T ", "{{$.T ", 1)
				if i%len(head) == 0 || strings.Contains(want, "hidden") {
					want = ""
				}
				if cell[1] != want {
					t.Errorf("%s: cell %d is labelled %q, want %q", file, i+1, cell[1], want)
				}
			}
		}
	}
	if n < 12 {
		t.Errorf("%d tables were looked at", n)
	}
}
