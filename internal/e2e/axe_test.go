package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// axe-core is fetched when it is first needed and kept beside other caches of the user; what was fetched counts only with
// this hash, which is that of npm's registry.
const (
	axeRelease   = "4.14.1"
	axeIntegrity = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==" // SHA-512
)

var axeCore = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "counterfoil-e2e")
	file := filepath.Join(dir, "axe-core-"+axeRelease+".tgz")
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		scratch, err := os.MkdirTemp(dir, "fetch-")
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(scratch)
		cmd := exec.Command("npm", "pack", "axe-core@"+axeRelease, "--ignore-scripts", "--silent", "--pack-destination", scratch)
		cmd.Dir = scratch
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("fetch axe-core: %w\n%s", err, out)
		}
		if b, err = os.ReadFile(filepath.Join(scratch, filepath.Base(file))); err != nil {
			return "", err
		}
		if err := checkAxe(b); err != nil {
			return "", err
		}
		if err := os.Rename(filepath.Join(scratch, filepath.Base(file)), file); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	if err := checkAxe(b); err != nil {
		return "", fmt.Errorf("%s: %w; remove it", file, err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	for archive := tar.NewReader(unpacked); ; {
		h, err := archive.Next()
		if err != nil {
			return "", fmt.Errorf("find axe.min.js: %w", err)
		}
		if h.Name == "package/axe.min.js" {
			script, err := io.ReadAll(archive)
			return string(script), err
		}
	}
})

func checkAxe(b []byte) error {
	sum := sha512.Sum512(b)
	if got := base64.StdEncoding.EncodeToString(sum[:]); got != axeIntegrity {
		return fmt.Errorf("axe-core %s has the hash %s, want %s", axeRelease, got, axeIntegrity)
	}
	return nil
}

// axe lists what axe-core finds wrong with the page, as people with assistive technology would meet it. It runs in a world of
// its own, so that neither the page's policy nor its scripts are disturbed.
func (p *tab) axe() []string {
	p.t.Helper()
	script, err := axeCore()
	if err != nil {
		p.t.Fatal(err)
	}
	tree := call(p, page.GetFrameTree, cdp.Empty{})
	world := call(p, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: tree.FrameTree.Frame.ID, WorldName: "axe"})
	yes := true
	run := func(expression string) *runtime.RemoteObject {
		p.t.Helper()
		r := call(p, runtime.Evaluate, runtime.EvaluateParams{Expression: expression, ContextID: world.ExecutionContextID, ReturnByValue: &yes, AwaitPromise: &yes})
		if r.ExceptionDetails != nil {
			p.t.Fatalf("axe: %s", r.ExceptionDetails.Exception.Description)
		}
		return r.Result
	}
	run(script + "; true")
	result := run(`axe.run(document, { iframes: false, resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
		.then((r) => ({ passes: r.passes.length, found: r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary.replace(/\s+/g, " "))) }))`)
	var report struct {
		Passes int
		Found  []string
	}
	if err := json.Unmarshal([]byte(result.Value), &report); err != nil || report.Passes < 5 {
		p.t.Fatalf("axe looked at too little: %d rules, %v", report.Passes, err)
	}
	return report.Found
}

// accessible fails the test for whatever axe finds, in light and in dark.
func (p *tab) accessible(where string) {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.scheme(scheme)
		eventually(p.t, "the colours have changed", soon, func() bool { return eval[bool](p, `document.getAnimations().length === 0`) })
		for _, fault := range p.axe() {
			p.t.Errorf("%s, %s: %s", where, scheme, fault)
		}
	}
}

func TestAxeFindsNothingInEnglishAndFrench(t *testing.T) {
	t.Parallel()
	for _, lang := range []string{"en", "fr"} {
		t.Run(lang, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			v, a := visit(t, s), &agent{tab: newTab(t, "en-GB")}
			if lang == "fr" {
				v, a = visitInFrench(t, s), &agent{tab: newTab(t, "fr-FR")}
			}
			v.accessible("website")
			v.open()
			v.chat.shows("#hello", v.words.hello)
			v.chat.accessible("widget, notice")
			v.chat.find("", "textbox", v.words.first).write("A page is loose")
			v.chat.press("", "button", v.words.start)
			v.chat.shows("#log", "A page is loose")
			v.accessible("website with the widget open")
			v.chat.accessible("widget, waiting")
			a.goTo(s.Agents + "?as=" + amelie.short)
			a.shows("#people", amelie.name)
			card := a.card("A page is loose")
			a.accessible("stand-in, waiting")
			found := a.all(card, "button", "")
			if len(found) == 0 {
				t.Fatal("the card has no button")
			}
			found[0].click()
			a.shows("#messages", "Before you join")
			a.accessible("stand-in, notice for agents")
			a.press("#messages", "button", "Accept and join")
			a.shows("#messages", "A page is loose")
			a.find("#compose", "textbox", "").write("Good morning")
			a.key(enter)
			v.chat.shows("#log", "Good morning")
			v.chat.accessible("widget, conversation")
			a.accessible("stand-in, conversation")
			walkConsole(t, s, lang, func(p *tab, where string) { t.Helper(); p.accessible("console, " + where) })
		})
	}
}

// The test above leans on this: that axe is asked and does find.
func TestAxeFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := newTab(t, "en-GB")
	p.openLink(s.SetUp)
	p.shows("h1", "Set up an administrator")
	if found := p.axe(); len(found) > 0 {
		t.Fatalf("before anything was broken: %q", found)
	}
	_ = eval[bool](p, `document.querySelector("label[for=name]").remove() ?? true`)
	if found := p.axe(); !slices.ContainsFunc(found, func(fault string) bool { return strings.HasPrefix(fault, "label: #name: ") }) {
		t.Errorf("a field without a label: %q", found)
	}
}
