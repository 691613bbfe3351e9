package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/webauthn"
)

// byName has the console reached as localhost, since security keys are made for hosts with a name.
func byName(env []string) string {
	for _, kv := range env {
		if addr, ok := strings.CutPrefix(kv, "COUNTERFOIL_CONSOLE_ADDR="); ok {
			if _, port, err := net.SplitHostPort(addr); err == nil {
				return "COUNTERFOIL_CONSOLE_URL=http://localhost:" + port
			}
		}
	}
	return ""
}

// join sets up a further administrator with these roles and signs him in.
func (s *service) join(t *testing.T, name string, roles ...string) *admin {
	t.Helper()
	args := []string{"admin", "setup", "--json"}
	for _, role := range roles {
		args = append(args, "--role", role)
	}
	var link struct {
		SetUp string `json:"set_up"`
	}
	if err := json.Unmarshal([]byte(s.run("counterfoil", args...)), &link); err != nil {
		t.Fatal(err)
	}
	a := &admin{tab: newTab(t, "en-GB"), service: s, name: name, words: consoleIn["en"]}
	a.trouble = true // pages that ask for a factor are refusals
	a.openLink(link.SetUp)
	a.choose()
	a.scan()
	a.giveCode()
	a.shows("h1", a.words.kept)
	a.press("", "link", a.words.toSignIn)
	a.givePassword()
	a.giveCode()
	a.shows("h1", a.words.overview)
	return a
}

// seen looks at a page in every respect.
func (a *admin) seen(where string) {
	a.t.Helper()
	a.tab.named("console, " + where)
	for _, width := range []int64{1440, 390} {
		a.size(width, 900)
		a.fits(where)
		for _, scheme := range []string{"light", "dark"} {
			a.scheme(scheme)
			a.legible(where)
			a.picture(fileName("access", where+", "+map[int64]string{1440: "wide", 390: "narrow"}[width]+", "+scheme))
		}
	}
	a.size(1440, 900)
	a.accessible("console, " + where)
}

func (a *admin) open(path string) {
	a.t.Helper()
	a.goTo(a.service.Console + path)
}

// usesKey puts a security key into the browser, which answers and knows its owner.
func (a *admin) usesKey() {
	a.t.Helper()
	call(a.tab, webauthn.Enable, webauthn.EnableParams{})
	call(a.tab, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportUsb, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})
}

// answers gives a factor by the security key if the page asks for one; within five minutes of the last for the same it does not.
func (a *admin) answers() {
	a.t.Helper()
	if a.text("h1") == "One more code" {
		a.press("", "button", "Use a security key instead")
	}
}

// comesTo waits for a page, and gives a factor if one is asked for on the way.
func (a *admin) comesTo(heading string) {
	a.t.Helper()
	eventually(a.t, "the page "+heading+" comes", soon, func() bool { a.answers(); return a.text("h1") == heading })
}

// asProgram asks the console as a program with a token does.
func (s *service) asProgram(token, path string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.Console+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// record is the name of the link to the newest record of this.
func (a *admin) record(what string) (name string) {
	a.t.Helper()
	eventually(a.t, "there is a record of it", soon, func() bool {
		name = eval[string](a.tab, `[...document.querySelectorAll("main a")].find((l) => l.ariaLabel?.includes(`+quote(what)+`))?.ariaLabel ?? ""`)
		return name != ""
	})
	return name
}

// revealLink is the name of the link that leads to the page on which one asks to see somebody of a kind.
func (a *admin) revealLink(kind string) (name string) {
	a.t.Helper()
	eventually(a.t, "one can ask to see him", soon, func() bool {
		name = eval[string](a.tab, `[...document.querySelectorAll("a")].find((l) => l.textContent.startsWith(`+quote("Reveal name: "+kind)+`))?.textContent ?? ""`)
		return name != ""
	})
	return name
}

// AUTH-WA-01, AUTH-WA-02, AUTH-STEP-02, AUTH-IP-08, CON-16.
func TestTwoAdministratorsLookAfterWhoSeesWhom(t *testing.T) {
	t.Parallel()
	s := newService(t, byName)
	v := visit(t, s)
	v.begin("Vera Visitor", "vera@visitor.example", "A page of my ledger is loose")
	c := work(t, s, amelie)
	c.join("A page of my ledger is loose")
	c.say("Good morning")
	v.chat.shows("#agent", amelie.name)
	ada := s.join(t, adminName, "auditor", "security_admin")
	anna := s.join(t, "Anna Approver", "approver")

	// A security key, which takes password and code to be added, answers from then on in place of codes.
	ada.usesKey()
	ada.open("/access")
	ada.seen("access")
	ada.find("", "textbox", "Add a security key").write("The blue one")
	ada.key(enter)
	ada.shows("h1", "One more code")
	ada.seen("step-up with password")
	ada.find("", "textbox", "Password").write(adminPassword)
	ada.giveCode()
	ada.shows("h1", "Register your security key")
	ada.seen("security key")
	ada.press("", "button", "Register it")
	ada.shows("h1", "Access")
	ada.shows("main", "The blue one")
	ada.shows(".banners", "A security key was registered")

	// A token lets a program read the log, until it is ended.
	ada.press("", "link", "Tokens of programs")
	ada.shows("h1", "Tokens of programs")
	ada.seen("tokens")
	ada.find("", "textbox", "What it is for").write("The night watch")
	ada.press("", "button", "Make it")
	ada.shows("h1", "One more code")
	ada.press("", "button", "Use a security key instead")
	ada.shows("h1", "Copy this token now")
	ada.seen("token made")
	token := ada.text("#token")
	if status, body := s.asProgram(token, "/api/v1/records?limit=1&q=outcome:allow"); status != http.StatusOK || !strings.Contains(body, `"records":[{"v":1,`) {
		t.Errorf("a program with the token is answered with %d: %s", status, body)
	}
	ada.press("main", "link", "Tokens of programs")
	ada.press("", "button", "End: The night watch")
	ada.shows("main", "over")
	if status, body := s.asProgram(token, "/api/v1/checkpoint"); status != http.StatusUnauthorized {
		t.Errorf("a program with an ended token is answered with %d: %s", status, body)
	}

	// An auditor sees a person masked, for a reason and with the key.
	ada.open("/events")
	ada.press("", "link", ada.record("Show the visitor who answers him"))
	reveal := ada.revealLink("agent")
	ada.press("", "link", reveal)
	ada.shows("h1", "Reveal a name")
	ada.seen("reveal")
	ada.find("", "textbox", "Why").write("Complaint 4711 of today")
	ada.press("", "button", "Reveal")
	ada.shows("h1", "One more code")
	ada.seen("step-up with key")
	ada.press("", "button", "Use a security key instead")
	ada.shows("h1.revealed", "A•••")
	ada.seen("revealed")
	if strings.Contains(eval[string](ada.tab, `document.documentElement.outerHTML`), amelie.name) {
		t.Error("an auditor sees the name")
	}

	// In an emergency he sees it, once somebody else consented.
	ada.open("/events")
	ada.press("", "link", ada.record("Show the visitor who answers him"))
	ada.press("", "link", reveal)
	ada.press("", "link", "It is an emergency: ask a second person for consent")
	ada.shows("h1", "Ask to see a person")
	ada.seen("ask")
	ada.find("", "textbox", "Why").write("He does not answer and his chats wait")
	ada.find("", "textbox", "Ticket").write("T-4711")
	ada.press("", "button", "Ask for approval")
	ada.shows("main", "You asked for this.")
	anna.open("/approvals")
	anna.shows("main", "He does not answer and his chats wait (T-4711)")
	anna.seen("approvals")
	anna.press("main", "link", "Emergency: see a person")
	anna.find("", "textbox", "Why").write("I know of the case")
	anna.press("", "button", "Approve")
	anna.shows("h1", "One more code")
	anna.giveCode()
	anna.shows("main", "in force")
	anna.shows(".banner.alarm", "Emergency in force")
	anna.seen("approval in force")
	ada.open("/events")
	ada.shows(".banner.alarm", "Emergency in force")
	ada.press("", "link", ada.record("Show the visitor who answers him"))
	ada.press("", "link", reveal)
	ada.find("", "textbox", "Why").write("He does not answer and his chats wait")
	ada.press("", "button", "Reveal")
	ada.press("", "button", "Use a security key instead")
	ada.shows("h1.revealed", amelie.name)
	anna.reload()
	anna.shows("main", "Reveal in an emergency")
	anna.press("", "button", "End it now")
	anna.shows("main", "over")
	anna.seen("approval over")

	// Everybody is reviewed, but by nobody himself; from now on two choose the policy.
	ada.open("/access/reviews")
	ada.press("main", "button", "Begin a review")
	ada.comesTo("Access review")
	ada.shows("main", "Nobody reviews himself")
	eval[bool](ada.tab, `document.querySelectorAll("main details").forEach((d) => { d.open = true }) === undefined`)
	ada.seen("access review")
	ada.open("/policy/activation")
	ada.press("main", "button", "Have two choose from now on")
	eventually(t, "two choose", soon, func() bool { ada.answers(); return strings.Contains(ada.text("main"), "No other policy decides") })
	eval[bool](ada.tab, `document.querySelectorAll("main details").forEach((d) => { d.open = true }) === undefined`)
	ada.seen("activation")

	// A privacy officer reads what was written, and from where somebody signed in.
	paul := s.join(t, "Paul Privacy", "privacy_officer")
	paul.open("/events?q=action:show_agent_to_visitor")
	paul.press("", "link", paul.record("Show the visitor who answers him"))
	paul.press("", "link", "Read what was written")
	paul.shows("h1", "What was written")
	paul.seen("transcript, asked")
	paul.find("", "textbox", "Why").write("Complaint 4711 of today")
	paul.press("", "button", "Read what was written")
	paul.shows("h1", "One more code")
	paul.giveCode()
	paul.shows(".transcript", "A page of my ledger is loose")
	paul.shows(".transcript", "Good morning")
	paul.seen("transcript")
	if strings.Contains(eval[string](paul.tab, `document.documentElement.outerHTML`), amelie.name) {
		t.Error("a transcript shows names")
	}
	paul.open("/access")
	eval[bool](paul.tab, `document.querySelector('a[href^="/access/address"]').click() ?? true`)
	paul.shows("h1", "From where somebody signed in")
	paul.find("", "textbox", "Why").write("Complaint 4711 of today")
	paul.press("", "button", "Reveal")
	paul.shows("h1", "One more code")
	paul.giveCode()
	paul.shows("h1.revealed", "127.0.0.1")
	paul.seen("address")

	// The allowlist: a change that would shut him out is refused; with consent it is made, and the host lets him in again.
	ada.open("/allowlist")
	ada.find("", "textbox", "Network").write("192.0.2.0/24")
	ada.key(enter)
	eventually(t, "the change is on trial", soon, func() bool { ada.answers(); return strings.Contains(ada.text("main"), "A change is on trial") })
	ada.seen("allowlist on trial")
	ada.press("", "button", "Take it back")
	eventually(t, "the change is taken back", soon, func() bool { return !strings.Contains(ada.text("main"), "on trial") })
	own := eval[string](ada.tab, `[...document.querySelectorAll("td")].find((d) => d.textContent.includes("yours")).parentElement.querySelector("button").ariaLabel`)
	ada.press("", "button", own)
	ada.shows("h1", "This would shut you out")
	ada.seen("lock-out")
	eval[bool](ada.tab, `document.querySelector("main details").open = true`)
	ada.find("", "textbox", "Type 127.0.0.1/32 to confirm").write("127.0.0.1/32")
	ada.find("", "textbox", "Why").write("We move to another office")
	ada.press("", "button", "Ask for approval")
	ada.shows("main", "You asked for this.")
	at := eval[string](ada.tab, `location.pathname`)
	anna.open(at)
	anna.find("", "textbox", "Why").write("I know of the move")
	anna.press("", "button", "Approve")
	anna.shows("h1", "One more code")
	anna.giveCode()
	anna.shows("main", "in force")
	ada.reload()
	ada.press("", "button", "Make the change")
	ada.press("", "button", "Use a security key instead")
	ada.shows("h1", "This address is not admitted")
	s.run("counterfoil", "admin", "allow", "127.0.0.1")
	ada.open("/sign-in")
	ada.givePassword()
	ada.giveCode()
	ada.shows(".banners", "Somebody with a shell on the host has admitted an address.")
	ada.seen("saved")
	if all := eval[string](ada.tab, `document.documentElement.outerHTML`); strings.Contains(all, amelie.name) {
		t.Error("the events show the name")
	}
}

// SEED-ORG-5: a visitor asks for erasure, and a privacy officer sees it with its clock.
func TestAVisitorAsksAndAPrivacyOfficerHandlesIt(t *testing.T) {
	t.Parallel()
	s := newService(t, byName)
	v := visit(t, s)
	v.begin("Vera Visitor", "vera@visitor.example", "Please forget me")
	v.chat.press("", "button", "Your data")
	v.chat.shows("#own", "What may be done with it")
	v.chat.shows("#own", "What was written: 400 days after the end of the conversation")
	v.chat.press("#own", "button", "Back to the chat")
	s.run("counterfoil", "retention", "set", "transcript", "91")
	v.chat.press("", "button", "Your data")
	v.chat.shows("#own", "What was written: 91 days after the end of the conversation")
	v.chat.legible("your data")
	v.picture("your data")
	v.chat.press("#own", "button", "Ask for erasure")
	v.chat.press("#own", "button", "Yes")
	v.chat.shows("#own", "Erasure: open")
	pia := s.join(t, "Pia Privacy", "privacy_officer")
	pia.open("/notices")
	pia.shows("h1", "Notices")
	pia.seen("notices")
	pia.open("/requests")
	pia.shows("main", "days left")
	pia.seen("requests")
	pia.press("#main", "link", "Erasure")
	pia.shows("main", "by the token of his chat")
	pia.seen("request")
	pia.open("/requests")
	pia.find("", "textbox", "Email he writes from").write("vera@visitor.example")
	pia.find("", "textbox", "What came, and when (10 to 500 characters)").write("a letter of 3 November")
	pia.press("", "button", "Find")
	pia.shows("h1", "One more code")
	pia.giveCode()
	pia.shows("h1", "Found")
	pia.seen("found by email")
	pia.press("#main", "link", "Register a request")
	pia.shows("h1", "Register a request")
	pia.seen("new request")

	// Who has read a notice that changed meanwhile is shown the new one before anything is sent, and keeps what he typed.
	late := visit(t, s)
	late.trouble = true // the refusal of what he accepts is an error to the browser
	late.open()
	late.chat.find("", "textbox", english.first).write("Is anybody there?")
	for language, text := range map[string]string{"en": "What is kept\nEverything, and longer than before.", "fr": "Ce qui est conservé\nTout, et plus longtemps qu’avant."} {
		if err := os.WriteFile(filepath.Join(s.dir, "..", language), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.run("counterfoil", "notices", "draft", "visitor", "--english", filepath.Join(s.dir, "..", "en"), "--french", filepath.Join(s.dir, "..", "fr"))
	s.run("counterfoil", "notices", "publish", "visitor", "2")
	late.chat.press("", "button", english.start)
	late.chat.shows("body", "This information has changed.")
	late.chat.shows("body", "longer than before")
	late.chat.legible("changed notice")
	late.picture("changed notice")
	if text := late.chat.text("#log"); strings.Contains(text, "Is anybody there?") {
		t.Error("what he typed was sent before he had read the new notice")
	}
	late.chat.press("", "button", english.start)
	late.chat.shows("#log", "Is anybody there?")

	// An agent is asked about his own data too.
	a := work(t, s, amelie)
	a.join("Is anybody there?")
	a.sees("You have accepted.")
	a.say("my data")
	a.sees("Correct my name")
	a.legible("my data")
	a.picture("my data")
	a.press("#messages", "button", "Restrict the use")
	a.sees("Lift the restriction")
	pia.open("/requests")
	pia.shows("main", "Restriction")
}
