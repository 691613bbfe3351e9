package console_test

import (
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What other people wrote is what was looked at when its hash was written down.
func TestEveryVendoredScriptIsTheOneWhoseHashIsRecorded(t *testing.T) {
	b, err := os.ReadFile("web/vendor/sums.txt")
	must(t, err)
	files, err := filepath.Glob("web/vendor/*.min.*")
	must(t, err)
	if len(files) != 5 || !strings.HasPrefix(string(b), "htmx.org 4.0.1\n") || !strings.Contains(string(b), "\nuplot 1.6.32\n") {
		t.Fatalf("%q", files)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		must(t, err)
		sum := sha512.Sum384(script)
		if want := "sha384-" + base64.StdEncoding.EncodeToString(sum[:]) + "  " + filepath.Base(file) + "\n"; !strings.Contains(string(b), want) {
			t.Errorf("%s is not recorded: %s", file, want)
		}
	}
}

// Attributes of htmx are addresses and programs, which html/template does not know: it would escape them as text. So they are
// written under rules that leave nothing to escape.
func TestNoTemplateGivesAScriptWhatItCouldMistake(t *testing.T) {
	files, err := filepath.Glob("web/*.html")
	must(t, err)
	if len(files) < 5 {
		t.Fatalf("%q", files)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		must(t, err)
		for _, fault := range templateFaults(string(b)) {
			t.Errorf("%s: %s", file, fault)
		}
	}
	for text, want := range map[string]bool{
		`<a hx-get="{{link "/x" "q" .Q}}" hx-nonce="{{$.Nonce}}">`: false, `<a hx-get="/x" hx-target="#y" hx-nonce="{{.Nonce}}">`: false,
		`<a hx-get="/x?q={{.Q}}" hx-nonce="{{$.Nonce}}">`: true, `<a hx-get="{{.URL}}" hx-nonce="{{$.Nonce}}">`: true, `<a hx-get="/x">`: true,
		`<a hx-on:click="x()" hx-nonce="{{$.Nonce}}">`: true, `<b hx-vals="js:x" hx-nonce="{{$.Nonce}}">`: true, `<p style="color:red">`: true, `<p onclick="x()">`: true,
		`<script>x()</script>`: true, `<a href="/x?q={{.Q}}">`: true, `<a href="javascript:x">`: true, `<i hx-trigger="keyup[key=='x']" hx-nonce="{{$.Nonce}}">`: true,
		`<a href="{{link "/events" "q" .Filter}}">`: false, `<a href="{{.Older}}">`: false, `<a href="/events/{{.Seq}}">`: false,
	} {
		if got := len(templateFaults(text)) > 0; got != want {
			t.Errorf("%s: faulty is %v", text, got)
		}
	}
}

var (
	tag       = regexp.MustCompile(`(?s)<[a-z][^<]*?>`)
	attribute = regexp.MustCompile(`(?s)([a-zA-Z@:-]+)=(?:"((?:[^"{]|\{\{.*?\}\}|\{)*)"|'([^']*)')`)
	action    = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	address   = regexp.MustCompile(`^(?:[^{?]*|\{\{(?:link|page) "[^"]+"[^}]*\}\})$`)
	href      = regexp.MustCompile(`^(?:[^{?]*|\{\{[^}]+\}\}|/[a-z/]+/\{\{\.[A-Z]\w*(?:\.[A-Z]\w*)*\}\})$`)
)

// templateFaults lists what a template must not have.
func templateFaults(text string) (faults []string) {
	text = strings.ReplaceAll(text, "\n", " ")
	for _, t := range tag.FindAllString(action.ReplaceAllStringFunc(text, func(a string) string {
		return strings.NewReplacer("<", "‹", ">", "›").Replace(a)
	}), -1) {
		uses, nonce := false, false
		if strings.HasPrefix(t, "<script") && !strings.Contains(t, "src=") {
			faults = append(faults, "a script in the page: "+t)
		}
		for _, a := range attribute.FindAllStringSubmatch(t, -1) {
			name, value := strings.ToLower(a[1]), a[2]+a[3]
			switch {
			case name == "hx-nonce":
				nonce = value == "{{$.Nonce}}" || value == "{{.Nonce}}"
			case strings.HasPrefix(name, "hx-on"), strings.HasPrefix(name, "on"), name == "style", name == "hx-vals", name == "hx-headers", name == "hx-config" && strings.Contains(value, "{{"):
				faults = append(faults, name+": "+t)
			case name == "href" && (!href.MatchString(value) || strings.HasPrefix(value, "javascript:")):
				faults = append(faults, "an address that is put together: "+t)
			case name == "hx-get" || name == "hx-post" || name == "hx-sse:connect":
				if uses = true; !address.MatchString(value) {
					faults = append(faults, "an address that link did not make: "+t)
				}
			case strings.HasPrefix(name, "hx-"):
				if uses = true; strings.Contains(value, "{{") || strings.ContainsAny(value, "[]") || strings.Contains(value, "js:") {
					faults = append(faults, name+": "+t)
				}
			}
		}
		if uses && !nonce {
			faults = append(faults, "no hx-nonce: "+t)
		}
	}
	return faults
}
