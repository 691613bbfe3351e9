package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one Chromium with a profile of its own. Everything it asks of a host that is not loopback goes to a proxy
// that refuses it and remembers it, whoever asks: a page, a frame, a worker or the browser itself.
type browser struct {
	ctx     context.Context
	close   func()
	mu      sync.Mutex
	foreign []string
}

// browsers holds one browser for each language, started when first needed.
var browsers struct {
	mu   sync.Mutex
	open map[string]*browser
}

func closeBrowsers() {
	browsers.mu.Lock()
	defer browsers.mu.Unlock()
	for _, b := range browsers.open {
		b.close()
	}
}

func browserIn(t *testing.T, language string) *browser {
	t.Helper()
	browsers.mu.Lock()
	defer browsers.mu.Unlock()
	if b := browsers.open[language]; b != nil {
		return b
	}
	b, err := startBrowser(language)
	if err != nil {
		t.Fatal(err)
	}
	if browsers.open == nil {
		browsers.open = make(map[string]*browser)
	}
	browsers.open[language] = b
	return b
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	if path := "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; exists(path) {
		return path, nil
	}
	return "", errors.New("no browser: these tests need Chromium; `internal/setup/need.sh chromium` at the top of the repository installs it")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// chromiumsOwn are the hosts where Chromium looks for its own updates and the time, whatever it is told. What a page asks
// of them is noticed all the same, in the page.
var chromiumsOwn = regexp.MustCompile(`(^|\.)(googleapis|google|gvt1)\.com(:\d+)?$`)

func startBrowser(language string) (*browser, error) {
	path, err := findChromium()
	if err != nil {
		return nil, err
	}
	// Without this Chromium fetches a dictionary when somebody first writes.
	profile, err := os.MkdirTemp("", "cf-browser-")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Mkdir(filepath.Join(profile, "Default"), 0o700),
		os.WriteFile(filepath.Join(profile, "Default", "Preferences"), []byte(`{"browser":{"enable_spellchecking":false}}`), 0o600)); err != nil {
		return nil, err
	}
	b := &browser{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !chromiumsOwn.MatchString(r.Host) {
			b.mu.Lock()
			b.foreign = append(b.foreign, r.Method+" "+r.Host)
			b.mu.Unlock()
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.ProxyServer(proxy.URL), chromedp.DisableGPU,
		chromedp.Flag("headless", "new"), chromedp.Flag("no-sandbox", os.Geteuid() == 0),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("allow-browser-signin", "false"), chromedp.Flag("gaia-url", "http://127.0.0.1:9/"),
		chromedp.Flag("disable-features", "Translate,OptimizationHints,MediaRouter,AutofillServerCommunication,NetworkTimeServiceQuerying"),
		chromedp.Flag("lang", language), chromedp.Flag("accept-lang", language), chromedp.WindowSize(1440, 900),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	b.ctx, b.close = ctx, func() { cancel(); stop(); proxy.Close(); _ = os.RemoveAll(profile) }
	if err := chromedp.Do(ctx); err != nil {
		b.close()
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return b, nil
}

// outside tells which foreign hosts were asked so far.
func (b *browser) outside() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.foreign)
}

// watch notes what a page must not do. It is told by the browser, so a page cannot hide it.
type watch struct {
	mu         sync.Mutex
	violations []string // of the content security policy
	errors     []string // in the console
	refused    []string // requests that failed or were answered with an error
	requests   []string // every address asked for
}

func (w *watch) note(event any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		switch {
		case strings.Contains(e.Entry.Text, "Content Security Policy") || strings.Contains(e.Entry.Text, "TrustedHTML"):
			w.violations = append(w.violations, e.Entry.Text)
		case e.Entry.Source == log.EntrySourceNetwork:
			w.refused = append(w.refused, e.Entry.Text+" "+e.Entry.URL)
		case e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning:
			w.errors = append(w.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *audits.EventIssueAdded:
		if e.Issue.Details.ContentSecurityPolicyIssueDetails != nil {
			w.violations = append(w.violations, e.Issue.Details.ContentSecurityPolicyIssueDetails.ViolatedDirective)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning || e.Type == runtime.ConsoleAPICalledTypeAssert {
			w.errors = append(w.errors, fmt.Sprintf("console.%s", e.Type))
		}
	case *runtime.EventExceptionThrown:
		w.errors = append(w.errors, e.ExceptionDetails.Text)
	case *network.EventRequestWillBeSent:
		w.requests = append(w.requests, e.Request.URL)
	case *network.EventWebSocketCreated:
		w.requests = append(w.requests, e.URL)
	}
}

// forget clears what was noted so far.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations, w.errors, w.refused, w.requests = nil, nil, nil, nil
}

// faults lists what the pages did wrong. Failed requests count unless trouble was made on purpose.
func (w *watch) faults(trouble bool) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []string
	for _, v := range w.violations {
		all = append(all, "policy violated: "+v)
	}
	for _, v := range w.errors {
		all = append(all, "console error: "+v)
	}
	if !trouble {
		for _, v := range w.refused {
			all = append(all, "request failed: "+v)
		}
	}
	for _, v := range w.requests {
		u, err := url.Parse(v)
		if err != nil || (u.Scheme == "http" || u.Scheme == "https" || strings.HasPrefix(u.Scheme, "ws")) && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1" {
			all = append(all, "asked a foreign host: "+v)
		}
	}
	return all
}

// tab is a page, or the frame of another origin in a page, which the browser runs in a process of its own.
type tab struct {
	t       *testing.T
	browser *browser
	ctx     context.Context
	seen    *watch
	parent  *tab // of a frame
	trouble bool // requests may fail: the test sees to that
}

// newTab opens an empty page in a profile of its own. The test fails at its end if the page did what a page must not.
func newTab(t *testing.T, language string) *tab {
	t.Helper()
	var p *tab
	before := len(browserIn(t, language).outside())
	t.Cleanup(func() { // runs after the tab was closed
		for _, fault := range p.seen.faults(p.trouble) {
			t.Error(fault)
		}
		if asked := p.browser.outside()[before:]; len(asked) > 0 {
			t.Errorf("the browser asked foreign hosts: %q", asked)
		}
	})
	p = unwatchedTab(t, language)
	return p
}

// unwatchedTab opens an empty page of which nobody minds what it does.
func unwatchedTab(t *testing.T, language string) *tab {
	t.Helper()
	b := browserIn(t, language)
	p := &tab{t: t, browser: b, seen: &watch{}}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.seen.note))
	p.ctx = ctx
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	call(p, audits.Enable, cdp.Empty{})
	p.size(1440, 900)
	return p
}

// call sends one command to the tab.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	r, err := try(p, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

func try[P, R any](p *tab, command cdp.Command[P, R], params P) (R, error) {
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	return cdp.Call(ctx, chromedp.FromContext(p.ctx).Target, command, params)
}

// eval asks the page, from outside its policy.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

func (p *tab) goTo(address string) {
	p.t.Helper()
	if r := call(p, page.Navigate, page.NavigateParams{URL: address}); r.ErrorText != "" {
		p.t.Fatalf("go to %s: %s", address, r.ErrorText)
	}
	p.loaded(address)
}

// loaded waits until the page at address stands.
func (p *tab) loaded(address string) {
	p.t.Helper()
	eventually(p.t, "the page is loaded", soon, func() bool {
		return eval[bool](p, `document.readyState === "complete" && location.href.startsWith(`+quote(address)+`)`)
	})
}

// reload loads the page anew and waits for the new one.
func (p *tab) reload() {
	p.t.Helper()
	_ = eval[bool](p, `window.before = true`)
	call(p, page.Reload, page.ReloadParams{})
	eventually(p.t, "the page is loaded anew", soon, func() bool {
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		defer cancel()
		fresh, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`!window.before && document.readyState === "complete"`))
		return err == nil && fresh
	})
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string can always be encoded
	return string(b)
}

func (p *tab) size(width, height int64) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
}

// scheme makes the page light or dark.
func (p *tab) scheme(name string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// element is something a person can perceive and act on.
type element struct {
	tab  *tab
	node cdp.BackendNodeID
	name string
}

// all finds what has a role and, if it is not empty, exactly this name, as assistive technology would; also in closed shadow roots.
// A selector that is not empty narrows it to within the first element that matches.
func (p *tab) all(within, role, name string) []element {
	p.t.Helper()
	query := accessibility.QueryAXTreeParams{Role: role, AccessibleName: name}
	if within == "" {
		within = ":root"
	}
	o, err := try(p, runtime.Evaluate, runtime.EvaluateParams{Expression: "document.querySelector(" + quote(within) + ")"})
	if err != nil || o.Result == nil || o.Result.ObjectID == "" {
		return nil
	}
	query.ObjectID = o.Result.ObjectID
	found, err := try(p, accessibility.QueryAXTree, query)
	if err != nil {
		return nil // the page is just changing
	}
	var list []element
	for _, n := range found.Nodes {
		if n.Ignored || n.BackendDOMNodeID == 0 {
			continue
		}
		e := element{tab: p, node: n.BackendDOMNodeID}
		if n.Name != nil {
			_ = json.Unmarshal([]byte(n.Name.Value), &e.name)
		}
		list = append(list, e)
	}
	return list
}

// focused tells what has the focus, as "role name"; empty when nothing has.
func (p *tab) focused() string {
	p.t.Helper()
	root := call(p, dom.GetDocument, dom.GetDocumentParams{})
	tree, err := try(p, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{BackendNodeID: root.Root.BackendNodeID})
	if err != nil {
		return ""
	}
	for _, n := range tree.Nodes {
		for _, property := range n.Properties {
			var on bool
			if property.Name != "focused" || json.Unmarshal([]byte(property.Value.Value), &on) != nil || !on || n.Role == nil {
				continue
			}
			var role, name string
			_ = json.Unmarshal([]byte(n.Role.Value), &role)
			if n.Name != nil {
				_ = json.Unmarshal([]byte(n.Name.Value), &name)
			}
			if role != "RootWebArea" {
				return role + " " + name
			}
		}
	}
	return ""
}

// tabTo presses Tab, or Shift and Tab, until what is named "role name" in the page or in its frame has the focus.
func (p *tab) tabTo(k stroke, in *tab, target string) {
	p.t.Helper()
	var passed []string
	for range 12 {
		p.key(k)
		where := in.focused()
		if where == target {
			return
		}
		passed = append(passed, where)
	}
	p.t.Fatalf("with the keyboard one does not come to %q; one passes %q", target, passed)
}

// find waits for the only element with a role and name.
func (p *tab) find(within, role, name string) element {
	p.t.Helper()
	var found []element
	eventually(p.t, fmt.Sprintf("there is one %s %q in %q", role, name, within), soon, func() bool {
		found = p.all(within, role, name)
		return len(found) == 1
	})
	return found[0]
}

// press finds an element and clicks it.
func (p *tab) press(within, role, name string) {
	p.t.Helper()
	p.find(within, role, name).click()
}

// click presses the mouse on the middle of the element, once it stands still.
func (e element) click() {
	e.tab.t.Helper()
	var x, y float64
	eventually(e.tab.t, "the element stands still to be clicked", soon, func() bool {
		_, err := try(e.tab, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: e.node})
		ax, ay, ok := e.middle()
		time.Sleep(40 * time.Millisecond) // two frames: what is put into the page or scrolled is drawn by then
		bx, by, again := e.middle()
		x, y = bx, by
		return err == nil && ok && again && ax == bx && ay == by
	})
	top := e.tab
	if top.parent != nil {
		top = top.parent
	}
	if err := chromedp.Do(top.ctx, chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, x, y), chromedp.MouseClickXY(x, y)); err != nil {
		e.tab.t.Fatalf("click %q: %v", e.name, err)
	}
}

// middle gives the middle of the element in coordinates of the whole page.
func (e element) middle() (x, y float64, ok bool) {
	box, err := try(e.tab, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: e.node})
	if err != nil || len(box.Quads) == 0 {
		return 0, 0, false
	}
	q := box.Quads[0]
	x, y = (q[0]+q[4])/2, (q[1]+q[5])/2
	if e.tab.parent == nil {
		return x, y, true
	}
	owner, err := try(e.tab.parent, dom.GetFrameOwner, dom.GetFrameOwnerParams{FrameID: cdp.FrameID(chromedp.FromContext(e.tab.ctx).Target.TargetID)})
	if err != nil {
		return 0, 0, false
	}
	around, err := try(e.tab.parent, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: owner.BackendNodeID})
	if err != nil || len(around.Quads) == 0 {
		return 0, 0, false
	}
	return x + around.Quads[0][0], y + around.Quads[0][1], true
}

// write puts the focus on a field by a click and writes.
func (e element) write(text string) {
	e.tab.t.Helper()
	e.click()
	e.tab.write(text)
}

// write writes where the focus is.
func (p *tab) write(text string) {
	p.t.Helper()
	call(p, input.InsertText, input.InsertTextParams{Text: text})
}

// stroke is a key that does something rather than write something.
type stroke struct {
	key, text string
	code      int64
	shift     bool
}

var (
	enter  = stroke{key: "Enter", text: "\r", code: 13}
	forth  = stroke{key: "Tab", code: 9}
	back   = stroke{key: "Tab", code: 9, shift: true}
	escape = stroke{key: "Escape", code: 27}
)

// key presses a key, as the keyboard of the whole page does.
func (p *tab) key(k stroke) {
	p.t.Helper()
	down := input.DispatchKeyEventParams{Type: "rawKeyDown", Key: k.key, Code: k.key, WindowsVirtualKeyCode: k.code, Text: k.text}
	if k.text != "" {
		down.Type = "keyDown"
	}
	if k.shift {
		down.Modifiers = int64(chromedp.ModifierShift)
	}
	call(p, input.DispatchKeyEvent, down)
	down.Type, down.Text = "keyUp", ""
	call(p, input.DispatchKeyEvent, down)
}

// text is what an element shows, by selector; empty while it is not there.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, `((e) => e?.checkVisibility() ? e.innerText : "")(document.querySelector(`+quote(selector)+`))`)
}

// shows waits until an element shows a text.
func (p *tab) shows(selector, text string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s shows %q", selector, text), soon, func() bool { return strings.Contains(p.text(selector), text) })
}

// frame finds the widget's frame and follows it too.
func (p *tab) frame(address string) *tab {
	p.t.Helper()
	own := chromedp.FromContext(p.ctx).BrowserContextID
	var f *tab
	eventually(p.t, "the widget's frame is there", soon, func() bool {
		all, err := chromedp.Targets(p.ctx)
		if err != nil {
			return false
		}
		for _, info := range all {
			if info.Type != "iframe" || info.BrowserContextID != own || !strings.HasPrefix(info.URL, address) {
				continue
			}
			ctx, _ := chromedp.NewContext(p.ctx, chromedp.WithTargetID(info.TargetID), chromedp.WithListener(p.seen.note))
			if chromedp.Do(ctx) != nil {
				return false // it was just going away
			}
			f = &tab{t: p.t, browser: p.browser, ctx: ctx, seen: p.seen, parent: p}
			return true
		}
		return false
	})
	call(f, audits.Enable, cdp.Empty{})
	return f
}

// offline tells the tab that it has no network, or that it has it again.
func (p *tab) offline(cut bool) {
	p.t.Helper()
	call(p, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: cut, DownloadThroughput: -1, UploadThroughput: -1})
}

// picture writes a screenshot if COUNTERFOIL_SCREENSHOTS names a directory.
func (p *tab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("COUNTERFOIL_SCREENSHOTS")
	if dir == "" {
		return
	}
	shot := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{})
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name+".png"), shot.Data, 0o644)); err != nil {
		p.t.Fatal(err)
	}
}
