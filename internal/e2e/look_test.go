package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/runtime"
)

// faint lists the texts within this that do not stand out enough from what is behind them (WCAG 2.2, 1.4.3): 4.5 to 1,
// or 3 to 1 for large text. Disabled controls are exempt.
const faint = `function () {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (layers) => {
    canvas.fillStyle = "Canvas";
    canvas.fillRect(0, 0, 1, 1);
    for (const c of layers) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const texts = document.createTreeWalker(this, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const e = texts.currentNode.parentElement;
    if (!text || !e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || e.closest("script, style, option, :disabled")) continue;
    const style = getComputedStyle(e);
    const behind = [];
    for (let p = e; p; p = p.parentElement ?? p.getRootNode().host) behind.unshift(getComputedStyle(p).backgroundColor);
    const [a, b] = [light(paint(behind)), light(paint([...behind, style.color]))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < least) found.push(text.slice(0, 40) + ": " + ratio.toFixed(2) + " (" + style.color + ")");
  }
  return found;
}`

// legible fails the test for text that is too faint, in the page or in one element of it.
func (p *tab) legible(where string) {
	p.t.Helper()
	eventually(p.t, "the colours have changed", soon, func() bool {
		return eval[bool](p, `document.body.offsetWidth > 0 && document.getAnimations().length === 0`)
	})
	for _, text := range eval[[]string](p, "("+faint+").call(document.body)") {
		p.t.Errorf("%s: too faint: %s", where, text)
	}
}

func (e element) legible(where string) {
	e.tab.t.Helper()
	o := call(e.tab, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: e.node})
	yes := true
	r := call(e.tab, runtime.CallFunctionOn, runtime.CallFunctionOnParams{FunctionDeclaration: faint, ObjectID: o.Object.ObjectID, ReturnByValue: &yes})
	var texts []string
	if r.ExceptionDetails != nil || json.Unmarshal([]byte(r.Result.Value), &texts) != nil {
		e.tab.t.Fatalf("%s: the contrast of %q cannot be computed", where, e.name)
	}
	for _, text := range texts {
		e.tab.t.Errorf("%s: too faint: %s", where, text)
	}
}

// named fails the test for a control or a region that assistive technology could not name.
func (p *tab) named(where string) {
	p.t.Helper()
	for _, role := range []string{"button", "link", "textbox", "checkbox", "combobox", "spinbutton", "DisclosureTriangle", "log", "navigation", "region"} {
		for _, e := range p.all("", role, "") {
			if strings.TrimSpace(e.name) == "" {
				p.t.Errorf("%s: a %s has no name", where, role)
			}
		}
	}
	if n := eval[int](p, `[...document.querySelectorAll("h1")].filter((h) => h.checkVisibility()).length`); n != 1 {
		p.t.Errorf("%s: %d headings of the first level, want 1", where, n)
	}
	if eval[string](p, `document.documentElement.lang`) == "" || eval[string](p, `document.title`) == "" {
		p.t.Errorf("%s: the page has no language or no title", where)
	}
	if twice := eval[[]string](p, `[...document.querySelectorAll("[id]")].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i)`); len(twice) > 0 {
		p.t.Errorf("%s: ids used twice: %q", where, twice)
	}
}

// fits fails the test when one would have to scroll sideways, except in a list that is made for it.
func (p *tab) fits(where string) {
	p.t.Helper()
	if over := eval[float64](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		p.t.Errorf("%s: the page is %g px too wide", where, over)
	}
	out := eval[[]string](p, `[...document.querySelectorAll("button, input, textarea, select, a, h1, h2, p")].filter((e) => e.checkVisibility() && !e.closest(".hidden")).filter((e) => {
		for (let p = e.parentElement; p; p = p.parentElement) if (/auto|scroll/.test(getComputedStyle(p).overflowX) && p.scrollWidth > p.clientWidth && p !== document.documentElement) return false;
		const r = e.getBoundingClientRect();
		return r.width > 0 && (r.left < -1 || r.right > document.documentElement.clientWidth + 1);
	}).map((e) => e.tagName + " " + (e.id || e.innerText.slice(0, 30)))`)
	for _, e := range out {
		p.t.Errorf("%s: %s reaches out of the window", where, e)
	}
	if eval[bool](p, `((a, b) => !!a && !!b && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)(...[".side", "main"].map((s) => document.querySelector(s)?.getBoundingClientRect()))`) {
		p.t.Errorf("%s: the menu and the page lie over each other", where)
	}
}

func TestThePagesCanBeReadAtEveryWidthInLightAndDark(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visit(t, s)
	v.find("", "button", english.open).legible("launcher")
	v.open()
	v.chat.shows("#hello", english.hello)
	a := work(t, s, amelie)

	// each looks at the visitor's page and the agent's in every width and scheme.
	each := func(moment string, look func(where string)) {
		t.Helper()
		for _, width := range []int64{1440, 1024, 390} {
			for _, scheme := range []string{"light", "dark"} {
				for _, p := range []*tab{v.tab, a.tab} {
					p.size(width, 900)
				}
				for _, p := range []*tab{v.tab, v.chat, a.tab} {
					p.scheme(scheme)
				}
				look(fmt.Sprintf("%s, %d px, %s", moment, width, scheme))
			}
		}
	}
	visitorLooks := func(where string) {
		t.Helper()
		for _, p := range []*tab{v.tab, v.chat} {
			p.legible(where)
			p.fits(where)
		}
		v.picture(fileName("visitor", where))
	}
	agentLooks := func(where string) {
		t.Helper()
		panes := []string{""}
		if a.text(".panes") != "" {
			panes = []string{"channel", "chat", "more"}
		}
		for _, pane := range panes {
			if pane != "" {
				eval[bool](a.tab, `document.querySelector('[data-pane-to="`+pane+`"]').click() ?? true`)
			}
			a.legible(where + " " + pane)
			a.fits(where + " " + pane)
			a.picture(fileName("agent", where+" "+pane))
		}
	}

	each("notice", visitorLooks)
	v.named("notice, website")
	v.chat.named("notice, widget")
	a.named("stand-in, empty")
	each("nothing yet", agentLooks)

	v.size(1440, 900)
	a.size(1440, 900)
	v.chat.find("", "textbox", english.name).write("Vera Visitor")
	v.chat.find("", "textbox", english.email).write("vera@visitor.example")
	v.chat.find("", "textbox", english.first).write("A page of my ledger is loose. Can it be saved, and what would it cost?")
	v.chat.press("", "button", english.start)
	v.chat.shows("#log", "A page of my ledger")
	a.card("A page of my ledger")
	a.find("#threads", "button", "Join")
	a.named("stand-in, card")
	each("waiting", func(where string) { t.Helper(); visitorLooks(where); agentLooks(where) })

	a.size(1440, 900)
	v.size(1440, 900)
	a.join("A page of my ledger")
	a.say("Good morning. Most likely it can: is the paper torn, or has only the glue let go?")
	v.chat.shows("#log", "Good morning")
	v.say("Only the glue, I think. See https://example.test/a-rather-long-address/of-a-picture-that-shows-the-spine-of-the-ledger-from-above.")
	a.sees("Only the glue")
	v.chat.named("chat, widget")
	a.named("stand-in, chat")
	each("chat", func(where string) { t.Helper(); visitorLooks(where); agentLooks(where) })

	a.size(1440, 900)
	v.size(1440, 900)
	a.press("#messages", "button", "End")
	v.chat.shows("#over", "The chat has ended.")
	v.chat.named("over, widget")
	each("over", func(where string) { t.Helper(); visitorLooks(where); agentLooks(where) })
}

func fileName(who, where string) string {
	return who + "-" + strings.NewReplacer(", ", "-", " px", "", " ", "-").Replace(strings.TrimSpace(where))
}

func TestFrenchIsSpokenToWhoeverAsksForIt(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visitInFrench(t, s)
	v.begin("Véronique Visiteuse", "veronique@visitor.example", "Une page s’est détachée")
	v.chat.shows("#presence", "En attente d’un collègue")
	if lang := eval[string](v.chat, `document.documentElement.lang`); lang != "fr" {
		t.Errorf("the widget says it speaks %q", lang)
	}

	bare := newTab(t, "fr-FR") // the widget without a page that says which language it has
	bare.trouble = true        // opened like this, the browser asks for an icon
	bare.goTo(s.frameAddress())
	bare.shows("#hello", french.hello)
	bare.find("", "button", french.start)

	a := &agent{tab: newTab(t, "fr-FR")}
	a.goTo(s.Agents)
	a.shows("#banner", "Doublure de Teams")
	a.find("#compose", "button", french.send)

}

func TestTheWidgetCanBeUsedWithTheKeyboardAlone(t *testing.T) {
	t.Parallel()
	s := newService(t)
	v := visit(t, s)
	visible := func(p *tab) {
		t.Helper()
		if !eval[bool](p, `((e) => e.matches(":focus-visible") && getComputedStyle(e).outlineStyle !== "none" && parseFloat(getComputedStyle(e).outlineWidth) >= 2)(document.activeElement)`) {
			t.Errorf("one does not see that %q has the focus", p.focused())
		}
	}
	v.tabTo(forth, v.tab, "button "+english.open)
	v.key(enter)
	v.chat = v.frame(s.frameAddress())
	v.chat.shows("#hello", english.hello)
	eventually(t, "one can write at once", soon, func() bool { return v.chat.focused() == "textbox "+english.first })
	visible(v.chat)

	v.tabTo(back, v.chat, "textbox "+english.name)
	visible(v.chat)
	v.write("Vera Visitor")
	v.key(forth)
	if at := v.chat.focused(); at != "textbox "+english.email {
		t.Errorf("after the name comes %q, want the email", at)
	}
	v.write("vera at home")
	v.key(forth)
	if at := v.chat.focused(); at != "textbox "+english.first {
		t.Errorf("after the email comes %q, want the message", at)
	}
	v.write("Written without a mouse")
	v.key(forth)
	if at := v.chat.focused(); at != "button "+english.start {
		t.Errorf("after the message comes %q, want the button", at)
	}
	visible(v.chat)
	v.key(enter)
	v.chat.shows("#problem", "Please check the email address")
	if at := v.chat.focused(); at != "textbox "+english.email {
		t.Errorf("with an email that is none the focus goes to %q", at)
	}
	for range "vera at home" {
		v.key(stroke{key: "Backspace", code: 8})
	}
	v.write("vera@visitor.example")
	v.key(enter)
	v.chat.shows("#log", "Written without a mouse")
	eventually(t, "one can go on writing", soon, func() bool { return v.chat.focused() == "textbox "+english.compose })
	v.write("and a second line")
	v.key(enter)
	v.sees("> Written without a mouse", "> and a second line")

	v.key(escape)
	eventually(t, "the launcher is back and has the focus", soon, func() bool { return v.focused() == "button "+english.open })
	v.key(enter)
	eventually(t, "the chat is as it was", soon, func() bool { return v.chat.focused() == "textbox "+english.compose })

	v.tabTo(back, v.chat, "button End this chat")
	visible(v.chat)
	v.key(enter)
	if at := v.chat.focused(); at != "button Go on" {
		t.Errorf("asked whether to end, the focus is on %q, want what does no harm", at)
	}
	v.tabTo(forth, v.chat, "button End it")
	v.key(enter)
	v.chat.shows("#over", "You ended this chat.")
	eventually(t, "one can begin anew", soon, func() bool { return v.chat.focused() == "button Start a new chat" })
	v.key(enter)
	v.chat.shows("#hello", english.hello)
}

// The other tests lean on this: that a page which does what it must not is noticed.
//
// It asks for a foreign host, which the browser of all tests remembers, so it runs before those that are parallel.
func TestAPageThatMisbehavesIsNoticed(t *testing.T) {
	s := newService(t)
	p := unwatchedTab(t, "en-GB")
	p.goTo(s.Website)
	if faults := p.seen.faults(false); len(faults) > 0 {
		t.Fatalf("before anything was done: %q", faults)
	}
	p.press("", "button", english.open)
	frame := p.frame(s.frameAddress())
	const (
		ownStyle = `document.head.append(Object.assign(document.createElement("style"), { textContent: "p { color: red }" })) ?? true`
		complain = `console.error("no") ?? true`
	)
	for _, c := range []struct {
		name        string
		in          *tab
		do, noticed string
	}{
		{"a style of its own", p, ownStyle, "policy violated"},
		{"a style of the frame's own", frame, ownStyle, "policy violated"},
		{"text taken for a script", p, `(() => { try { document.createElement("script").text = "1"; } catch {} return true; })()`, "policy violated"},
		{"a line in the console", p, complain, "console error"},
		{"a line in the frame's console", frame, complain, "console error"},
		{"an exception", p, `setTimeout(() => { throw new Error("no"); }) > 0`, "console error"},
		{"a picture from elsewhere", p, `(new Image().src = "http://elsewhere.example/x") !== ""`, "policy violated"},
		{"a request that fails", frame, `(fetch("/widget/none/at/all").catch(() => 0), true)`, "request failed"},
		{"a page from elsewhere", p, `(location.href = "http://elsewhere.example/") !== ""`, "asked a foreign host"},
	} {
		p.seen.forget()
		_ = eval[bool](c.in, c.do)
		eventually(t, c.name+" is noticed", soon, func() bool {
			return slices.ContainsFunc(p.seen.faults(false), func(fault string) bool { return strings.HasPrefix(fault, c.noticed) })
		})
	}
	eventually(t, "the proxy hears of the foreign host", soon, func() bool {
		return slices.ContainsFunc(p.browser.outside(), func(asked string) bool { return strings.Contains(asked, "elsewhere.example") })
	})
}
