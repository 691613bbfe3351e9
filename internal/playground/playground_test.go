//go:build playground

package playground

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	appID    = "c0de7e57-0000-4000-8000-00000000c0de"
	tenant   = "00000000-0000-0000-0000-0000000000001" // the playground's own
	service  = "http://localhost:56150/_connector"
	metadata = "https://login.botframework.com/v1/.well-known/openidconfiguration"
)

// login stands in for Microsoft's login service, for both sides: it signs what each asks for.
type login struct {
	key *rsa.PrivateKey
	mu  sync.Mutex
	log []string
}

func (l *login) sign(claims map[string]any) string {
	enc := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := enc(map[string]string{"alg": "RS256", "typ": "JWT", "kid": "k1"}) + "." + enc(claims)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(nil, l.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func (l *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.log = append(l.log, r.Method+" "+r.Host+r.URL.Path)
	l.mu.Unlock()
	now := time.Now().Unix()
	var out any
	switch {
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		_ = r.ParseForm()
		claims := map[string]any{"nbf": now - 60, "iat": now - 60, "exp": now + 3600, "appid": r.Form.Get("client_id")}
		if strings.HasPrefix(r.Form.Get("scope"), "https://api.botframework.com") {
			claims["iss"], claims["aud"] = "https://sts.windows.net/"+tenant+"/", "https://api.botframework.com"
		} else {
			claims["iss"], claims["aud"], claims["serviceurl"] = "https://api.botframework.com", appID, service
		}
		out = map[string]any{"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": l.sign(claims)}
	case r.Host == "login.botframework.com" && strings.HasSuffix(r.URL.Path, "/openidconfiguration"):
		out = map[string]any{"issuer": "https://api.botframework.com", "jwks_uri": "https://login.botframework.com/v1/.well-known/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"}}
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		base := "https://login.microsoftonline.com/" + strings.Split(r.URL.Path, "/")[1]
		out = map[string]any{"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"end_session_endpoint": base + "/oauth2/v2.0/logout", "jwks_uri": base + "/discovery/v2.0/keys"}
	case strings.HasSuffix(r.URL.Path, "/keys"):
		out = map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "endorsements": []string{"msteams"},
			"n": base64.RawURLEncoding.EncodeToString(l.key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(l.key.E)).Bytes())}}}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// startLogin listens on 443 of this namespace with a certificate of a CA made for this run, and gives the CA's file.
func startLogin(t *testing.T) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "playground CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"login.microsoftonline.com", "login.botframework.com"}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	must(err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o644))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:443")
	must(err)
	l := &login{key: rsaKey}
	srv := &http.Server{Handler: l, TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER, caDER}, PrivateKey: key}}}}
	go func() { _ = srv.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		_ = srv.Close()
		if t.Failed() {
			t.Logf("login service was asked: %q", l.log)
		}
	})
	return file
}

// start runs a program until the test ends and gives what it writes.
func start(t *testing.T, env []string, name string, args ...string) *syncBuffer {
	t.Helper()
	out := &syncBuffer{}
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
		}
		if t.Failed() {
			t.Logf("%s said:\n%.4000s", filepath.Base(name), out)
		}
	})
	return out
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func waitFor(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v", url, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func TestInstallCardJoinAnswerEnd(t *testing.T) {
	caFile := startLogin(t)
	scratch, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(scratch, "bot.secret")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	counterfoil := filepath.Join(scratch, "counterfoil")
	env := []string{
		"SSL_CERT_FILE=" + caFile, "COUNTERFOIL_DATA_DIR=" + filepath.Join(scratch, "data"), "COUNTERFOIL_BOT_APP_ID=" + appID,
		"COUNTERFOIL_BOT_TENANT_ID=" + tenant, "COUNTERFOIL_BOT_SECRET_FILE=" + secret, "COUNTERFOIL_BOT_CLOUD=custom",
		"COUNTERFOIL_BOT_METADATA_URL=" + metadata, "COUNTERFOIL_BOT_ISSUER=https://api.botframework.com",
		"COUNTERFOIL_BOT_LOGIN_URL=https://login.microsoftonline.com", "COUNTERFOIL_BOT_SERVICE_HOSTS=localhost:56150",
	}
	command := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(counterfoil, args...)
		cmd.Env = append(os.Environ(), env...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("counterfoil %v: %v\n%s", args, err, errOut.String())
		}
		return out
	}
	command("org", "create", "Playground", "--tenant", tenant)
	var widget struct{ Key string }
	if err := json.Unmarshal(command("widget", "create", "--site", "http://127.0.0.1:8080", "--json"), &widget); err != nil {
		t.Fatal(err)
	}
	start(t, env, counterfoil, "serve")
	waitFor(t, "http://127.0.0.1:8080/health/ready")
	start(t, []string{"NODE_EXTRA_CA_CERTS=" + caFile, "TEAMSAPPTESTER_BROWSER=none"}, "node", "node_modules/@microsoft/m365agentsplayground/cli.js", "start",
		"-e", "http://127.0.0.1:8080/teams/messages", "-c", "msteams", "-p", "56150", "--client-id", appID, "--client-secret", "x", "--tenant-id", tenant, "--disable-telemetry")
	waitFor(t, "http://127.0.0.1:56150/_debug/ping")

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	drive := exec.CommandContext(ctx, "node", "drive.mjs", widget.Key)
	out, err := drive.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("drive: %v", err)
	}
	records := string(command("audit", "list", "--json"))
	for _, purpose := range []string{"announce_to_channel", "match_agent", "introduce_visitor_to_agent", "show_joiner_to_channel", "show_agent_to_visitor"} {
		if n := strings.Count(records, `"action":"`+purpose+`"`); n != 1 {
			t.Errorf("%s is recorded %d times, want once", purpose, n)
		}
	}
	for _, word := range []string{"Alex", "alexw", "Vera"} {
		if strings.Contains(records, word) {
			t.Errorf("the records hold %q", word)
		}
	}
	fmt.Println("playground: install, card, Join, 1:1 answer, End")
}
