package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// visitor is somebody on the demonstration website, with the widget's frame once it is open.
type visitor struct {
	*tab
	service *service
	chat    *tab
	words   words
}

// words are the names under which somebody finds things, in a language.
type words struct{ open, name, email, first, start, send, compose, hello string }

var (
	english = words{open: "Chat with us", name: "Name optional", email: "Email optional", first: "Your message", start: "Start the chat", send: "Send", compose: "Write a message", hello: "How can we help?"}
	french  = words{open: "Discuter avec nous", name: "Nom facultatif", email: "E-mail facultatif", first: "Votre message", start: "Démarrer la discussion", send: "Envoyer", compose: "Écrire un message", hello: "Comment vous aider ?"}
)

// visit opens the website.
func visit(t *testing.T, s *service) *visitor {
	t.Helper()
	v := &visitor{tab: newTab(t, "en-GB"), service: s, words: english}
	v.goTo(s.Website)
	return v
}

// visitInFrench opens the website in French, with a French browser.
func visitInFrench(t *testing.T, s *service) *visitor {
	t.Helper()
	v := &visitor{tab: newTab(t, "fr-FR"), service: s, words: french}
	v.goTo(s.Website + "?lang=fr")
	return v
}

// frameAddress is where the widget's frame is.
func (s *service) frameAddress() string { return s.Public + "/widget/" + s.WidgetKey + "/frame" }

// open presses the launcher and waits for the frame.
func (v *visitor) open() {
	v.t.Helper()
	v.press("", "button", v.words.open)
	v.chat = v.frame(v.service.frameAddress())
}

// begin reads the notice, fills in the form and starts the chat.
func (v *visitor) begin(name, email, text string) {
	v.t.Helper()
	v.open()
	v.chat.shows("#hello", v.words.hello)
	v.chat.find("", "textbox", v.words.name).write(name)
	v.chat.find("", "textbox", v.words.email).write(email)
	v.chat.find("", "textbox", v.words.first).write(text)
	v.chat.press("", "button", v.words.start)
	v.chat.shows("#log", text)
}

// say writes a message and sends it.
func (v *visitor) say(text string) {
	v.t.Helper()
	v.chat.find("", "textbox", v.words.compose).write(text)
	v.chat.press("", "button", v.words.send)
}

// sees waits until the conversation is exactly these lines, "< " before the agent's and "> " before the visitor's own.
func (v *visitor) sees(lines ...string) {
	v.t.Helper()
	var got []string
	defer func() {
		if v.t.Failed() {
			v.t.Logf("the visitor sees %q, status %q", got, v.chat.text("#status"))
		}
	}()
	eventually(v.t, fmt.Sprintf("the visitor sees exactly %q", lines), 2*soon, func() bool {
		got = eval[[]string](v.chat, `[...document.querySelectorAll("#log .message")].map((m) => (m.classList.contains("mine") ? "> " : "< ") + [...m.querySelector(".text").childNodes].slice(1).map((n) => n.textContent).join(""))`)
		return slices.Equal(got, lines)
	})
}

// acknowledged waits until every message of the visitor has its number.
func (v *visitor) acknowledged() {
	v.t.Helper()
	eventually(v.t, "every message is acknowledged", 2*soon, func() bool {
		return eval[bool](v.chat, `[...document.querySelectorAll("#log .message")].every((m) => m.dataset.seq)`)
	})
}

// agent is somebody of the fictional organisation at the Teams stand-in.
type agent struct {
	*tab
}

// The members of the stand-in's organisation that these tests play.
type member struct{ short, name, given, email string }

var (
	amelie = member{"amelie", "Amélie Dubois", "Amélie", "amelie.dubois@contoso.example"}
	grace  = member{"grace", "Grace Okafor", "Grace", "grace.okafor@contoso.example"}
)

// work opens the stand-in as a member.
func work(t *testing.T, s *service, m member) *agent {
	t.Helper()
	a := &agent{tab: newTab(t, "en-GB")}
	a.goTo(s.Agents + "?as=" + m.short)
	a.shows("#people", m.name)
	return a
}

// card waits for the card of a waiting conversation by its first line and gives a selector of its thread.
func (a *agent) card(firstLine string) string {
	a.t.Helper()
	var id string
	eventually(a.t, "a card shows "+firstLine, soon, func() bool {
		id = eval[string](a.tab, `[...document.querySelectorAll("#threads .thread")].find((n) => n.innerText.includes(`+quote(firstLine)+`))?.dataset.thread ?? ""`)
		return id != ""
	})
	return `[data-thread=` + quote(id) + `]`
}

// join presses Join on a card, accepts the notice if that is asked, and waits for the introduction in the 1:1 chat.
func (a *agent) join(firstLine string) {
	a.t.Helper()
	a.press(a.card(firstLine), "button", "Join")
	eventually(a.t, "the agent has joined, or is shown the notice", soon, func() bool {
		shown := a.text("#messages")
		return strings.Contains(shown, firstLine) || strings.Contains(shown, "Before you join")
	})
	if !strings.Contains(a.text("#messages"), firstLine) {
		a.press("#messages", "button", "Accept and join")
	}
	a.shows("#messages", firstLine)
}

// say writes into the 1:1 chat with the bot.
func (a *agent) say(text string) {
	a.t.Helper()
	a.find("#compose", "textbox", "").write(text)
	a.key(enter)
	a.shows("#messages", text)
}

// sees waits until the 1:1 chat shows a text.
func (a *agent) sees(text string) {
	a.t.Helper()
	a.shows("#messages", text)
}

// count tells how often the 1:1 chat shows a text.
func (a *agent) count(text string) int {
	a.t.Helper()
	return strings.Count(a.text("#messages"), text)
}

// delivered waits until the bot has taken everything the agent wrote.
func (a *agent) delivered() {
	a.t.Helper()
	eventually(a.t, "the bot takes what the agent wrote", soon, func() bool {
		return eval[bool](a.tab, `document.querySelector("#messages .delivery") === null`)
	})
}
