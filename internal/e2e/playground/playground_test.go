//go:build playground

package playground

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	release = "0.2.28" // of the Playground
	app     = "c0de7e57-0000-4000-8000-0000000000aa"
	tenant  = "5f0c7a52-6f1e-4c0e-9d0b-0d5b1a3e7caa"
	team    = "19:5b0f6d9c2a7e4c83b1d94e7f0a6c3daa@thread.tacv2"

	public     = "http://localhost:8080"
	page       = "http://localhost:56150"
	serviceURL = page + "/_connector"

	// scratch tells the test that it already runs within the namespace, and where its files are.
	scratch = "E2E_PLAYGROUND_SCRATCH"
)

// config has ids of the form that Teams uses; those built into the Playground have not.
const config = `version: "0.1.1"
tenantId: ` + tenant + `
bot: {id: "28:` + app + `", name: Counterfoil}
currentUser: {id: "29:1alex", name: Alex Wilber, userPrincipleName: alexw@contoso.example, aadObjectId: 0d9b7c52-3f1e-4a86-b7d0-5c2e91f4a6aa, givenName: Alex, surname: Wilber, email: alexw@contoso.example}
users:
  - {id: "29:1megan", name: Megan Bowen, userPrincipleName: meganb@contoso.example, aadObjectId: 7a41e6f3-98c2-4d05-8e3b-1f6d20b9c5a1, givenName: Megan, surname: Bowen, email: meganb@contoso.example}
  - {id: "29:1adele", name: Adele Vance, userPrincipleName: adelev@contoso.example, aadObjectId: 7a41e6f3-98c2-4d05-8e3b-1f6d20b9c5a2, givenName: Adele, surname: Vance, email: adelev@contoso.example}
  - {id: "29:1isaiah", name: Isaiah Langer, userPrincipleName: isaiahl@contoso.example, aadObjectId: 7a41e6f3-98c2-4d05-8e3b-1f6d20b9c5a3, givenName: Isaiah, surname: Langer, email: isaiahl@contoso.example}
  - {id: "29:1patti", name: Patti Fernandez, userPrincipleName: pattif@contoso.example, aadObjectId: 7a41e6f3-98c2-4d05-8e3b-1f6d20b9c5a4, givenName: Patti, surname: Fernandez, email: pattif@contoso.example}
  - {id: "29:1lynne", name: Lynne Robbins, userPrincipleName: lynner@contoso.example, aadObjectId: 7a41e6f3-98c2-4d05-8e3b-1f6d20b9c5a5, givenName: Lynne, surname: Robbins, email: lynner@contoso.example}
personalChat: {id: "a:1personal"}
groupChat: {id: "19:group@thread.v2", name: Group}
team:
  id: "` + team + `"
  name: Support
  aadGroupId: 4d6c1f0e-8a2b-4f57-9c3d-71e5b08a26aa
  channels: [{id: "19:c3e1a8f47d2b4956a0f8b6d5e9172caa@thread.tacv2", name: Announcements}]
`

func TestAChatThroughMicrosoftsPlayground(t *testing.T) {
	if dir := os.Getenv(scratch); dir != "" {
		within(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("this test makes a network namespace and a name table of its own: run it as root")
	}
	dir, err := os.MkdirTemp("/tmp", "cf-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	outside := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if name == "go" {
			cmd.Dir = filepath.Join("..", "..", "..")
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	outside("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "@microsoft/m365agentsplayground@"+release)
	outside("go", "build", "-o", dir+"/", "./cmd/counterfoil")

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	inner := exec.CommandContext(ctx, self, "-test.run=^"+t.Name()+"$", "-test.v")
	inner.Env = append(os.Environ(), scratch+"="+dir)
	inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	out, err := inner.CombinedOutput()
	t.Logf("within the namespace:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// within runs the test in the namespace, which ends with every process in it.
func within(t *testing.T, dir string) {
	hosts := filepath.Join(dir, "hosts")
	if err := errors.Join(
		os.WriteFile(hosts, []byte("127.0.0.1 localhost "+loginHost+" "+botHost+"\n"), 0o644),
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""),
		os.WriteFile(filepath.Join(dir, ".m365agentsplayground.yml"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(dir, "secret"), []byte("a secret of no worth"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("bring loopback up: %v\n%s", err, out)
	}
	authority := startLogin(t, dir, serviceURL)

	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "COUNTERFOIL_") })
	env = append(env, "SSL_CERT_FILE="+authority, "NODE_EXTRA_CA_CERTS="+authority, "TEAMSAPPTESTER_BROWSER=none",
		"COUNTERFOIL_DATA_DIR="+filepath.Join(dir, "data"),
		"COUNTERFOIL_BOT_APP_ID="+app, "COUNTERFOIL_BOT_TENANT_ID="+tenant, "COUNTERFOIL_BOT_SECRET_FILE="+filepath.Join(dir, "secret"),
		"COUNTERFOIL_BOT_CLOUD=custom", "COUNTERFOIL_BOT_METADATA_URL=https://"+botHost+"/v1/.well-known/openidconfiguration",
		"COUNTERFOIL_BOT_ISSUER=https://api.botframework.com", "COUNTERFOIL_BOT_LOGIN_URL=https://"+loginHost, "COUNTERFOIL_BOT_SERVICE_HOSTS=localhost:56150")
	program := filepath.Join(dir, "counterfoil")
	start(t, dir, env, program, "serve")
	reachable(t, public+"/health/ready")
	start(t, dir, env, "node", "node_modules/@microsoft/m365agentsplayground/cli.js", "start", "-e", public+"/teams/messages", "-c", "msteams", "-p", "56150",
		"--client-id", app, "--client-secret", "a secret of no worth", "--tenant-id", tenant, "--disable-telemetry")
	reachable(t, page+"/")

	t.Cleanup(func() {
		if said, err := os.ReadFile(filepath.Join(dir, "devTools", "m365agentsplayground.log")); err == nil && t.Failed() {
			t.Logf("the Playground noted:\n%s", said[max(0, len(said)-8000):])
		}
	})

	run(t, dir, env, program, "org", "create", "Contoso", "--tenant", tenant)
	var widget struct {
		Key string `json:"key"`
	}
	if out := run(t, dir, env, program, "widget", "create", "--site", public, "--json"); json.Unmarshal(out, &widget) != nil || widget.Key == "" {
		t.Fatalf("the widget has no key: %s", out)
	}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("headless", "new"), chromedp.DisableGPU, chromedp.WindowSize(1440, 900))
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			options = append(options, chromedp.ExecPath(path))
			break
		}
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	defer stop()
	teams, closeTeams := chromedp.NewContext(allocator)
	defer closeTeams()
	if err := chromedp.Do(teams); err != nil {
		t.Fatal(err)
	}
	visitor, closeVisitor := chromedp.NewContext(teams)
	defer closeVisitor()
	defer func() {
		for name, tab := range map[string]context.Context{"visitor": visitor, "teams": teams} {
			if t.Failed() {
				text, _ := chromedp.Run(tab, chromedp.Evaluate[string](`document.body.innerText`))
				t.Logf("the page %s shows:\n%s", name, text)
				if shot, err := chromedp.Run(tab, chromedp.CaptureScreenshot()); err == nil && os.Getenv("COUNTERFOIL_SCREENSHOTS") != "" {
					_ = os.WriteFile(filepath.Join(os.Getenv("COUNTERFOIL_SCREENSHOTS"), "playground-"+name+".png"), shot, 0o644)
				}
			}
		}
	}()
	goTo(t, teams, page)
	install(t)

	goTo(t, visitor, public+"/widget/"+widget.Key+"/frame")
	const question = "Does the Playground take me?"
	script(t, visitor, `document.querySelector("#name").value = "Vera Visitor", document.querySelector("#email").value = "vera@visitor.example",
		document.querySelector("#first").value = `+quote(question)+`, document.querySelector("#notice").requestSubmit()`)
	shows(t, visitor, question)

	press(t, teams, "General")
	shows(t, teams, question)
	press(t, teams, "Join")
	shows(t, visitor, "Alex Wilber joined")
	press(t, teams, "Personal Chat")
	shows(t, teams, "vera@visitor.example")
	write(t, teams, "It does")
	shows(t, visitor, "It does")
	press(t, teams, "End")
	shows(t, visitor, "The chat has ended.")
}

// install adds the app to the team, as the Playground's menu does.
func install(t *testing.T) {
	t.Helper()
	answer, err := http.Post(page+"/_debug/conversation/"+url.PathEscape(team)+"/installation", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("install: %s %s", answer.Status, text)
	}
}

// start runs a program until the test ends.
func start(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer stuck.Stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", filepath.Base(name), said.String())
		}
	})
}

func run(t *testing.T, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("in 20 s it did not come about that %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func reachable(t *testing.T, address string) {
	t.Helper()
	last := "nothing"
	defer func() {
		if t.Failed() {
			t.Logf("the last answer was %s", last)
		}
	}()
	eventually(t, address+" answers", func() bool {
		answer, err := http.Get(address)
		if err != nil {
			last = err.Error()
			return false
		}
		answer.Body.Close()
		last = answer.Status
		return answer.StatusCode == http.StatusOK
	})
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string can always be encoded
	return string(b)
}

func script(t *testing.T, tab context.Context, code string) {
	t.Helper()
	if _, err := chromedp.Run(tab, chromedp.Evaluate[chromedp.Void](code)); err != nil {
		t.Fatal(err)
	}
}

// goTo opens a page without waiting for fonts that never come.
func goTo(t *testing.T, tab context.Context, address string) {
	t.Helper()
	script(t, tab, `location.href = `+quote(address))
	eventually(t, address+" is open", func() bool {
		at, err := chromedp.Run(tab, chromedp.Evaluate[bool](`location.href.startsWith(`+quote(address)+`) && document.readyState !== "loading" && document.body.innerText.trim() !== ""`))
		return err == nil && at
	})
}

// shows waits until the page shows a text.
func shows(t *testing.T, tab context.Context, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the page shows %q", text), func() bool {
		there, err := chromedp.Run(tab, chromedp.Evaluate[bool](`document.body.innerText.includes(`+quote(text)+`)`))
		return err == nil && there
	})
}

// press clicks the last visible element that can be pressed and bears exactly the text.
func press(t *testing.T, tab context.Context, text string) {
	t.Helper()
	var at struct{ X, Y float64 }
	eventually(t, fmt.Sprintf("%q can be pressed", text), func() bool {
		var err error
		at, err = chromedp.Run(tab, chromedp.Evaluate[struct{ X, Y float64 }](`(() => {
			const e = [...document.querySelectorAll("button, [role=button], [role=treeitem], [role=tab], [role=listitem], a, li, span, div")].filter((e) => e.checkVisibility() && e.innerText?.trim() === `+quote(text)+`).at(-1);
			e.scrollIntoView({ block: "center" });
			const r = e.getBoundingClientRect();
			return { X: r.x + r.width / 2, Y: r.y + r.height / 2 };
		})()`))
		return err == nil
	})
	if err := chromedp.Do(tab, chromedp.MouseClickXY(at.X, at.Y)); err != nil {
		t.Fatal(err)
	}
}

// write writes into the Playground's composer and sends.
func write(t *testing.T, tab context.Context, text string) {
	t.Helper()
	script(t, tab, `document.querySelector("[role=textbox][data-lexical-editor]").focus()`)
	if err := chromedp.Do(tab, chromedp.KeyEvent(text+"\r")); err != nil {
		t.Fatal(err)
	}
}
