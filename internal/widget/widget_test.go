package widget

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/time/rate"
)

func server(t *testing.T) http.Handler {
	t.Helper()
	s, err := New(Config{PublicURL: "https://chat.example", Origins: []string{"https://chat.other.example"}})
	if err != nil {
		t.Fatal(err)
	}
	r := chi.NewRouter()
	s.Routes(r)
	return r
}

func get(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestWhatTheBrowserLoadsIsSmall(t *testing.T) {
	a, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	page, err := fs.ReadFile(webFS, "web/frame.html")
	if err != nil {
		t.Fatal(err)
	}
	document, err := newAsset("frame.html", page)
	if err != nil {
		t.Fatal(err)
	}
	loader, frame := len(a.loader.packed), len(a.script.packed)+len(a.style.packed)+len(document.packed)
	t.Logf("gzip: loader %d bytes, frame %d bytes", loader, frame)
	if loader > 4<<10 {
		t.Errorf("the loader is %d bytes in gzip, more than 4 KiB", loader)
	}
	if frame > 25<<10 {
		t.Errorf("the frame is %d bytes in gzip, more than 25 KiB", frame)
	}
}

func TestBothLanguagesSayTheSameThings(t *testing.T) {
	b, err := fs.ReadFile(webFS, "web/text.js")
	if err != nil {
		t.Fatal(err)
	}
	en, fr, found := strings.Cut(string(b), "\n  fr: {")
	if !found {
		t.Fatal("no French texts")
	}
	names := func(s string) []string {
		set := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^    (\w+): `).FindAllStringSubmatch(s, -1) {
			set[m[1]] = true
		}
		return slices.Sorted(maps.Keys(set))
	}
	if a, b := names(en), names(fr); len(a) < 30 || !slices.Equal(a, b) {
		t.Errorf("English has %v, French has %v", a, b)
	}
}

// TestScriptsNeedNoExceptionFromAStrictPolicy: nothing in the scripts makes markup or code out of text.
func TestScriptsNeedNoExceptionFromAStrictPolicy(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b|new Function|\.cookie|localStorage|setAttribute\('style|createPolicy`)
	files, err := fs.Glob(webFS, "web/*.js")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, f := range files {
		b, err := fs.ReadFile(webFS, f)
		if err != nil {
			t.Fatal(err)
		}
		if m := forbidden.Find(b); m != nil {
			t.Errorf("%s uses %s", f, m)
		}
	}
}

func TestAssets(t *testing.T) {
	h := server(t)
	a, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, kind, cache, policy string }{
		{"the loader lives shortly under its plain name", "/widget/loader.js", "text/javascript; charset=utf-8", aWhile, "cross-origin"},
		{"the loader can be pinned", "/widget/assets/" + a.loader.name, "text/javascript; charset=utf-8", forever, "cross-origin"},
		{"the script never changes under its name", "/widget/assets/" + a.script.name, "text/javascript; charset=utf-8", forever, "same-origin"},
		{"the style never changes under its name", "/widget/assets/" + a.style.name, "text/css; charset=utf-8", forever, "same-origin"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := get(h, tc.path)
			for name, want := range map[string]string{
				"Content-Type": tc.kind, "Cache-Control": tc.cache, "Cross-Origin-Resource-Policy": tc.policy, "X-Content-Type-Options": "nosniff", "Content-Encoding": "",
			} {
				if got := w.Header().Get(name); got != want || w.Code != http.StatusOK {
					t.Errorf("%d, %s is %q, want %q", w.Code, name, got, want)
				}
			}
			if packed := get(h, tc.path, "Accept-Encoding", "br, gzip"); packed.Header().Get("Content-Encoding") != "gzip" || packed.Body.Len() >= w.Body.Len() {
				t.Errorf("gzip gave %q and %d bytes of %d", packed.Header().Get("Content-Encoding"), packed.Body.Len(), w.Body.Len())
			}
			if again := get(h, tc.path, "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
				t.Errorf("a copy the browser has gave %d", again.Code)
			}
		})
	}
	if w := get(h, "/widget/assets/frame.0000000000000000.js"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown hash gave %d", w.Code)
	}
}

func TestAFrameWhoseKeyCannotExistSaysThatChatIsNotAvailable(t *testing.T) {
	w := get(server(t), "/widget/no%20such%3Ckey%3E/frame")
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "data-unknown") || strings.Contains(w.Body.String(), "such") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	policy := w.Header().Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors *", "require-trusted-types-for 'script'", "trusted-types 'none'", "form-action 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q lacks %s", policy, want)
		}
	}
}

func TestOnlyWellFormedOriginsMayFrame(t *testing.T) {
	got := origins([]string{
		"https://a.example", "http://127.0.0.1:8080", "http://[::1]:8080", "https://a.example/", "https://a.example; script-src *", "https://a.example b.example",
		"javascript:alert(1)", "*", "https://*", "https://u:p@a.example", "https://A.example", "", "https://",
	})
	if want := []string{"https://a.example", "http://127.0.0.1:8080", "http://[::1]:8080"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRequestsThatAreRefusedBeforeAnythingIsAsked(t *testing.T) {
	h := server(t)
	const key = "/v1/widgets/abc/conversations"
	good := `{"client_id":"3f0e8f3e-3a5e-4d8e-9f4e-0c8a1c7f2b11","text":"hi","language":"en","notice_version":"1"}`
	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"a page of another origin", "POST", key, good, []string{"Origin", "https://evil.example"}, 403, "origin"},
		{"a page without origin", "POST", key, good, []string{"Origin", "null"}, 403, "origin"},
		{"a form", "POST", key, good, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "media-type"},
		{"a body without type", "POST", key, good, []string{"Content-Type", ""}, 415, "media-type"},
		{"another charset", "POST", key, good, []string{"Content-Type", "application/json; charset=utf-16"}, 415, "media-type"},
		{"a body too large", "POST", key, strings.Repeat(" ", maxBody) + good, nil, 413, "too-large"},
		{"no JSON", "POST", key, "hello secret", nil, 400, "malformed"},
		{"a field unknown", "POST", key, `{"secret":"x"}`, nil, 400, "malformed"},
		{"an id that is none", "POST", key, strings.Replace(good, "3f0e", "secret", 1), nil, 400, "invalid"},
		{"a language unknown", "POST", key, strings.Replace(good, `"en"`, `"secret"`, 1), nil, 400, "invalid"},
		{"no message", "POST", key, strings.Replace(good, `"hi"`, `"  \n "`, 1), nil, 400, "invalid"},
		{"a message too long", "POST", key, strings.Replace(good, `"hi"`, `"`+strings.Repeat("secret ", 600)+`"`, 1), nil, 400, "invalid"},
		{"a control character", "POST", key, strings.Replace(good, `"hi"`, `"secret\u0000"`, 1), nil, 400, "invalid"},
		{"a name of two lines", "POST", key, strings.Replace(good, `"text"`, `"name":"se\ncret","text"`, 1), nil, 400, "invalid"},
		{"an email too long", "POST", key, strings.Replace(good, `"text"`, `"email":"`+strings.Repeat("secret", 50)+`","text"`, 1), nil, 400, "invalid"},
		{"a key that cannot exist", "POST", "/v1/widgets/a%20b/conversations", good, nil, 404, "not-found"},
		{"no token", "GET", "/v1/conversation", "", nil, 401, "token"},
		{"another scheme", "POST", "/v1/conversation/messages", good, []string{"Authorization", "Basic c2VjcmV0"}, 401, "token"},
		{"a token too long", "GET", "/v1/conversation/events", "", []string{"Authorization", "Bearer " + strings.Repeat("x", maxToken+1)}, 401, "token"},
		{"a method unknown", "DELETE", "/v1/conversation", "", nil, 405, "method"},
		{"a path unknown", "GET", "/v1/secret", "", nil, 404, "not-found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Origin", "https://chat.other.example")
			for i := 0; i < len(tc.header); i += 2 {
				r.Header.Set(tc.header[i], tc.header[i+1])
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.status || w.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(w.Body.String(), `"code":"`+tc.code+`"`) {
				t.Errorf("got %d %q %s", w.Code, w.Header().Get("Content-Type"), w.Body)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("the answer repeats what was sent: %s", w.Body)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
}

func TestNewRefusesAPublicURLThatIsNone(t *testing.T) {
	for _, u := range []string{"", "chat.example", "ftp://chat.example", "https://", "https://chat.example/sub", "://"} {
		if _, err := New(Config{PublicURL: u}); err == nil {
			t.Errorf("%q was taken", u)
		}
	}
}

func TestParseFields(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       error
	}{
		{"takes texts", `{"a":"1","b":"\u00e9"}`, nil},
		{"takes nothing", `{}`, nil},
		{"refuses a field twice", `{"a":"1","a":"2"}`, errField},
		{"refuses an unknown field", `{"c":"1"}`, errField},
		{"refuses another spelling", `{"A":"1"}`, errField},
		{"refuses a number", `{"a":1}`, errShape},
		{"refuses null", `{"a":null}`, errShape},
		{"refuses a nested object", `{"a":{"a":"1"}}`, errShape},
		{"refuses depth", `{"a":` + strings.Repeat("[", 10000), errShape},
		{"refuses a list", `["a"]`, errShape},
		{"refuses nothing at all", ``, errShape},
		{"refuses half an object", `{"a":"1"`, errShape},
		{"refuses something after the object", `{"a":"1"}{}`, errShape},
		{"refuses a comma too many", `{"a":"1",}`, errShape},
		{"refuses what is not UTF-8", "{\"a\":\"\xff\"}", errShape},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := parseFields([]byte(tc.body), "a", "b"); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func FuzzParseFields(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":"1","b":"2"}`, `{"a":"1","a":"2"}`, `{"a":{"b":"1"}}`, "{\"a\":\"\xff\"}", `{"a":"1"} `, `[{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFields(b, "a", "b")
		if err != nil {
			return
		}
		for name := range got {
			if name != "a" && name != "b" {
				t.Errorf("field %q came through", name)
			}
		}
		if again, err := parseFields(fmt.Appendf(nil, " %s\n", b), "a", "b"); err != nil || !maps.Equal(got, again) {
			t.Errorf("white space changed %v to %v, %v", got, again, err)
		}
	})
}

func TestParseID(t *testing.T) {
	const id = "3f0e8f3e-3a5e-4d8e-9f4e-0c8a1c7f2b11"
	for s, want := range map[string]bool{
		id: true, strings.ToUpper(id): true, "": false, "{" + id + "}": false, "urn:uuid:" + id: false,
		strings.ReplaceAll(id, "-", ""): false, "00000000-0000-0000-0000-000000000000": false, id[:35] + "g": false,
	} {
		if _, ok := parseID(s); ok != want {
			t.Errorf("%q: %v", s, ok)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := newLimiter[string](rate.Every(time.Second), 2, 2, func() time.Time { return now })
	step := func(key string, want bool) {
		t.Helper()
		if got := l.allow(key); got != want {
			t.Errorf("%s at %v: %v", key, now.Unix(), got)
		}
	}
	step("a", true)
	step("a", true)
	step("a", false)
	step("b", true) // somebody else is not held up
	now = now.Add(time.Second)
	step("a", true)
	step("a", false)
	step("c", true) // a third key displaces the one that was silent longest, b, and not a
	step("a", false)
	if n := len(l.buckets); n != 2 || l.order.Len() != 2 {
		t.Errorf("%d buckets are held", n)
	}
}

func TestNeighbourhood(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := neighbourhood(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s is counted under %s, want %s", a, got, want)
		}
	}
	if got := neighbourhood(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address is counted under %v", got)
	}
}

func TestDemo(t *testing.T) {
	h, err := Demo("abc", "http://localhost:8080", "http://127.0.0.1:8090/")
	if err != nil {
		t.Fatal(err)
	}
	one, two := get(h, "/demo"), get(h, "/demo?lang=fr")
	nonce := regexp.MustCompile(`'nonce-([A-Z2-7]+)'`)
	n1, n2 := nonce.FindStringSubmatch(one.Header().Get("Content-Security-Policy")), nonce.FindStringSubmatch(two.Header().Get("Content-Security-Policy"))
	if n1 == nil || n2 == nil || n1[1] == n2[1] {
		t.Fatalf("nonces %v and %v", n1, n2)
	}
	for _, want := range []string{`nonce="` + n1[1] + `" src="http://localhost:8080/widget/loader.js" data-widget="abc"`, `href="http://127.0.0.1:8090/"`, `<html lang="en">`} {
		if !strings.Contains(one.Body.String(), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if !strings.Contains(two.Body.String(), `<html lang="fr">`) {
		t.Error("the French page is not French")
	}
}
