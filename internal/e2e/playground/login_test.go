//go:build playground

package playground

import (
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
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	loginHost = "login.microsoftonline.com"
	botHost   = "login.botframework.com"
)

// startLogin answers in place of Microsoft's login services on port 443 and returns the file with the authority that
// vouches for it.
func startLogin(t *testing.T, dir, serviceURL string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	authority, certificate := certificates(t, loginHost, botHost)
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, authority, 0o644); err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	keys := map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "kid": "k1", "x5t": "k1", "alg": "RS256", "endorsements": []string{"msteams"},
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": "AQAB",
	}}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+loginHost+"/{tenant}/oauth2/v2.0/token", func(w http.ResponseWriter, r *http.Request) {
		claims := map[string]any{"nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(), "appid": r.PostFormValue("client_id")}
		if scope := r.PostFormValue("scope"); strings.Contains(scope, "https://api.botframework.com") { // the service asks
			claims["iss"], claims["aud"] = "https://sts.windows.net/"+tenant+"/", "https://api.botframework.com"
		} else { // the Playground asks
			claims["iss"], claims["aud"], claims["serviceurl"] = "https://api.botframework.com", app, serviceURL
		}
		answer(w, map[string]any{"token_type": "Bearer", "expires_in": 3600, "ext_expires_in": 3600, "access_token": sign(t, key, claims)})
	})
	mux.HandleFunc("GET "+loginHost+"/{tenant}/v2.0/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		base := "https://" + loginHost + "/" + r.PathValue("tenant")
		answer(w, map[string]any{
			"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
			"end_session_endpoint": base + "/oauth2/v2.0/logout", "jwks_uri": base + "/discovery/v2.0/keys",
		})
	})
	mux.HandleFunc("GET "+loginHost+"/{tenant}/discovery/v2.0/keys", func(w http.ResponseWriter, _ *http.Request) { answer(w, keys) })
	mux.HandleFunc("GET "+botHost+"/v1/.well-known/openidconfiguration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer": "https://api.botframework.com", "jwks_uri": "https://" + botHost + "/v1/.well-known/keys", "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET "+botHost+"/v1/.well-known/keys", func(w http.ResponseWriter, _ *http.Request) { answer(w, keys) })
	l, err := net.Listen("tcp", "127.0.0.1:443")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go func() { _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return file
}

// sign makes a token signed with RS256 (RFC 7515).
func sign(t *testing.T, key *rsa.PrivateKey, claims map[string]any) string {
	head, _ := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": "k1"})
	body, _ := json.Marshal(claims)
	signed := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Error(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// certificates makes an authority, as PEM, and a certificate of it for the hosts.
func certificates(t *testing.T, hosts ...string) ([]byte, tls.Certificate) {
	t.Helper()
	make := func(subject string) (*ecdsa.PrivateKey, *x509.Certificate) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key, &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: subject},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		}
	}
	caKey, ca := make("Authority of a test")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	key, leaf := make(hosts[0])
	leaf.DNSNames, leaf.ExtKeyUsage = hosts, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
