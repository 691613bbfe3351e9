package standin_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"counterfoil/internal/standin"
)

// page asks the page's own server, the way a browser on that page does.
func page(t *testing.T, s *standin.Server, method, path, body string, header map[string]string) (int, http.Header, string) {
	t.Helper()
	base := strings.TrimSuffix(s.ServiceURL(), "/connector/")
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(raw)
}

func TestPageIsServedUnderAStrictPolicy(t *testing.T) {
	s, _ := setup(t, nil)
	for path, kind := range map[string]string{
		"/": "text/html", "/?as=grace": "text/html", "/assets/app.js": "text/javascript", "/assets/card.js": "text/javascript",
		"/assets/words.js": "text/javascript", "/assets/app.css": "text/css", "/assets/icon.svg": "image/svg+xml",
	} {
		status, h, body := page(t, s, "GET", path, "", nil)
		csp := h.Get("Content-Security-Policy")
		if status != 200 || !strings.HasPrefix(h.Get("Content-Type"), kind) || h.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "require-trusted-types-for 'script'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %d %v", path, status, h)
		}
		for _, bad := range []string{"https://", "innerHTML", "eval(", " style=", "<script>", "onclick=\""} {
			if strings.Contains(body, bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
	}
	if status, _, body := page(t, s, "GET", "/", "", nil); !strings.Contains(body, `id="composer"`) || status != 200 {
		t.Error("no composer")
	}
	for _, path := range []string{"/assets/x.js", "/assets/..%2Fpage.go", "/x"} {
		if status, _, _ := page(t, s, "GET", path, "", nil); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

func TestPageActions(t *testing.T) {
	s, b := setup(t, nil)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	thread, root := b.thread(b.token())
	for _, c := range []struct {
		name, path, body string
		header           map[string]string
		status           int
	}{
		{"installs", "install", `{}`, nil, 200},
		{"says in the chat", "say", `{"as":"grace","text":"hi"}`, nil, 200},
		{"says in a thread", "say", `{"as":"grace","text":"hi","thread":"` + thread + `","mention":true}`, nil, 200},
		{"types", "typing", `{"as":"grace"}`, nil, 200},
		{"clicks", "click", `{"as":"grace","activity":"` + root + `","button":{"type":"Action.Execute","verb":"join","data":{"c":1}},"inputs":{"a":"b"}}`, nil, 200},
		{"arms a fault", "faults", `{"as":"grace","faults":{"kind":"error","calls":2,"duplicate":true,"latency":1,"oldClient":true}}`, nil, 200},
		{"disarms it", "faults", `{"as":"grace","faults":{"kind":"","duplicate":false,"latency":0}}`, nil, 200},
		{"refuses an unknown fault", "faults", `{"faults":{"kind":"x","calls":1}}`, nil, 422},
		{"refuses no fault", "faults", `{}`, nil, 422},
		{"refuses an empty message", "say", `{"as":"grace","text":" "}`, nil, 422},
		{"refuses a stranger", "say", `{"as":"x","text":"hi"}`, nil, 404},
		{"refuses an unknown card", "click", `{"as":"grace","activity":"1"}`, nil, 404},
		{"refuses a button that opens a page", "click", `{"as":"amelie","activity":"` + root + `","button":{"type":"Action.OpenUrl"}}`, nil, 422},
		{"refuses to have seen what is not in the chat", "seen", `{"as":"grace","activity":"` + root + `"}`, nil, 404},
		{"refuses what is no JSON", "say", `x`, nil, 400},
		{"refuses another type of body", "say", `{"as":"grace","text":"hi"}`, map[string]string{"Content-Type": "text/plain"}, 415},
		{"refuses another site", "say", `{"as":"grace","text":"hi"}`, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"refuses another origin", "say", `{"as":"grace","text":"hi"}`, map[string]string{"Sec-Fetch-Site": "", "Origin": "http://evil.example"}, 403},
		{"refuses another host", "say", `{"as":"grace","text":"hi"}`, map[string]string{"Host": "rebound.example"}, 421},
	} {
		t.Run(c.name, func(t *testing.T) {
			if status, _, body := page(t, s, "POST", "/api/"+c.path, c.body, c.header); status != c.status {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
	if n := len(s.Chat("grace")); n != 1 {
		t.Errorf("%d messages in the chat", n)
	}
	if got := b.deliveries("invoke"); len(got) != 1 || got[0].str("value", "action", "data", "a") != "b" {
		t.Errorf("invokes %s", got)
	}
	b.mu.Lock()
	b.answer = func(int, delivery) (int, any) { return 403, nil }
	b.mu.Unlock()
	if status, _, body := page(t, s, "POST", "/api/say", `{"as":"zoe","text":"hi"}`, nil); status != 502 {
		t.Errorf("a refusal by the bot: %d %s", status, body)
	}
}

func TestEventsShowWhatOnePersonSees(t *testing.T) {
	s, b := setup(t, nil)
	base := strings.TrimSuffix(s.ServiceURL(), "/connector/")
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/api/events?as=olena", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	type seen struct {
		Me        string
		Installed bool
		People    []struct {
			Short  string
			Unread int
		}
		Chat struct {
			Typing int64
			Posts  []struct{ ID, Text string }
		}
	}
	until := func(ok func(seen) bool) seen {
		t.Helper()
		for lines.Scan() {
			raw, found := strings.CutPrefix(lines.Text(), "data: ")
			if !found {
				continue
			}
			var v seen
			if err := json.Unmarshal([]byte(raw), &v); err != nil {
				t.Fatal(err)
			}
			if ok(v) {
				return v
			}
		}
		t.Fatal("the stream ended")
		return seen{}
	}
	unread := func(v seen) int {
		for _, p := range v.People {
			if p.Short == "olena" {
				return p.Unread
			}
		}
		return -1
	}
	until(func(v seen) bool {
		return v.Me == "olena" && !v.Installed && len(v.People) == 5 && len(v.Chat.Posts) == 0
	})
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(func(v seen) bool { return v.Installed })
	m, _ := s.Member("olena")
	tok := b.token()
	path := "/v3/conversations/" + esc(m.ChatID) + "/activities"
	b.must("POST", path, tok, obj{"type": "typing"})
	until(func(v seen) bool { return v.Chat.Typing > 0 })
	b.must("POST", path, tok, message("привіт"))
	v := until(func(v seen) bool { return len(v.Chat.Posts) == 1 })
	if v.Chat.Posts[0].Text != "привіт" || unread(v) != 1 || v.Chat.Typing != 0 {
		t.Errorf("view %+v", v)
	}
	if status, _, body := page(t, s, "POST", "/api/seen", `{"as":"olena","activity":"`+v.Chat.Posts[0].ID+`"}`, nil); status != 200 {
		t.Fatalf("seen: %d %s", status, body)
	}
	until(func(v seen) bool { return unread(v) == 0 })
}
