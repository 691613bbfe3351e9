package teams_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"counterfoil/internal/teams"
)

const (
	appID  = "11111111-2222-3333-4444-555555555555"
	issuer = "https://api.example.test"
	tenant = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// rsaKey makes each key once: making them is the slow part of these tests.
var rsaKey = func() func(t testing.TB, name string, bits int) *rsa.PrivateKey {
	var mu sync.Mutex
	made := map[string]*rsa.PrivateKey{}
	return func(t testing.TB, name string, bits int) *rsa.PrivateKey {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		if made[name] == nil {
			k, err := rsa.GenerateKey(rand.Reader, bits)
			if err != nil {
				t.Fatal(err)
			}
			made[name] = k
		}
		return made[name]
	}
}()

type object = map[string]any

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func jwk(kid string, k *rsa.PrivateKey, endorsements ...string) object {
	o := object{"kty": "RSA", "use": "sig", "kid": kid, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	if endorsements != nil {
		o["endorsements"] = endorsements
	}
	return o
}

func sign(t testing.TB, k *rsa.PrivateKey, header, claims any) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return signRaw(t, k, string(h), string(c))
}

func signRaw(t testing.TB, k *rsa.PrivateKey, header, claims string) string {
	t.Helper()
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + b64(sig)
}

// clock is a hand-set time.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(start.UnixNano())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()).UTC() }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// login stands for login.botframework.com: metadata and keys.
type login struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []object
	status  int
	meta    func(object)
	fetches atomic.Int32
	asked   chan struct{} // if set, gets a value when the keys are asked for,
	hold    chan struct{} // and they wait for this
}

func newLogin(t *testing.T, keys ...object) *login {
	l := &login{keys: keys, status: http.StatusOK}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		status, keys, meta, asked, hold := l.status, l.keys, l.meta, l.asked, l.hold
		l.mu.Unlock()
		var answer object
		switch r.URL.Path {
		case "/v1/.well-known/openidconfiguration":
			answer = object{
				"issuer": issuer, "jwks_uri": l.URL + "/v1/.well-known/keys",
				"id_token_signing_alg_values_supported": []string{"RS256"},
			}
			if meta != nil {
				meta(answer)
			}
		case "/v1/.well-known/keys":
			l.fetches.Add(1)
			if hold != nil {
				asked <- struct{}{}
				<-hold
			}
			answer = object{"keys": keys}
		default:
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *login) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *login) cloud(t *testing.T, hosts ...string) teams.Cloud {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1:9999"}
	}
	c, err := teams.CustomCloud(teams.CustomSettings{
		MetadataURL: l.URL + "/v1/.well-known/openidconfiguration", Issuer: issuer, LoginURL: l.URL, ServiceHosts: hosts,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func decode(t testing.TB, text string) *teams.Activity {
	t.Helper()
	a, err := teams.DecodeActivity(strings.NewReader(text))
	if err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return a
}

const service = "http://127.0.0.1:9999/_connector"

func activity(t testing.TB, channel, serviceURL string) *teams.Activity {
	t.Helper()
	return decode(t, fmt.Sprintf(`{"type":"message","channelId":%q,"serviceUrl":%q,"channelData":{"tenant":{"id":%q}}}`, channel, serviceURL, tenant))
}
