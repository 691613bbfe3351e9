package teams_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"counterfoil/internal/teams"
)

// roundTrip is a transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(body string) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// silent never answers.
func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

const metadata = `{"jwks_uri":"https://login.botframework.com/v1/.well-known/keys","id_token_signing_alg_values_supported":["RS256"]}`

func public(t testing.TB) teams.Cloud {
	t.Helper()
	c, err := teams.NamedCloud("public")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func publicVerifier(t testing.TB, rt roundTrip, now func() time.Time) *teams.Verifier {
	t.Helper()
	v, err := teams.NewVerifier(teams.VerifierConfig{Cloud: public(t), AppID: appID, AllowTenant: allowed, HTTPClient: &http.Client{Transport: rt}, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSilentServicesAreGivenTenSeconds(t *testing.T) {
	key := rsaKey(t, "a", 2048)
	claims := goodClaims()
	claims["iss"] = "https://api.botframework.com"
	good := "Bearer " + sign(t, key, object{"alg": "RS256", "kid": "k1"}, claims)
	a := activity(t, "msteams", service)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := publicVerifier(t, silent, time.Now).Verify(t.Context(), good, a)
		if took := time.Since(begin); !errors.Is(err, teams.ErrKeysUnavailable) || took != 10*time.Second {
			t.Errorf("keys: %v after %v", err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		client := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "login.microsoftonline.com" {
				return answer(`{"token_type":"Bearer","expires_in":3600,"access_token":"x"}`)
			}
			return silent(r)
		})}
		tokens, err := teams.NewTokenSource(teams.TokenSourceConfig{
			Cloud: public(t), AppID: appID, HTTPClient: client, Now: time.Now, Secret: func() ([]byte, error) { return []byte("x"), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := teams.NewClient(teams.ClientConfig{Tokens: tokens, HTTPClient: client, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		at, err := teams.ParseServiceURL("https://smba.trafficmanager.net/amer/", public(t))
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = c.Send(t.Context(), at, "a:1", teams.Message{Text: "x"})
		if took := time.Since(begin); teams.OutcomeOf(err) != teams.Unknown || took != 10*time.Second {
			t.Errorf("send: %v after %v", err, took)
		}
		if err := c.Update(t.Context(), at, "a:1", "5", teams.Message{Text: "x"}); teams.OutcomeOf(err) != teams.Retry {
			t.Errorf("update: %v", err)
		}
	})
}

// The one good token is accepted in its one spelling, and nothing else is.
func FuzzVerify(f *testing.F) {
	key := rsaKey(f, "a", 2048)
	claims := goodClaims()
	claims["iss"], claims["serviceurl"] = "https://api.botframework.com", "https://smba.trafficmanager.net/amer/"
	good := sign(f, key, object{"alg": "RS256", "kid": "k1"}, claims)
	keys := `{"keys":[` + encoded(f, jwk("k1", key, "msteams")) + `]}`
	v := publicVerifier(f, func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			return answer(keys)
		}
		return answer(metadata)
	}, newClock().now)
	a := activity(f, "msteams", "https://smba.trafficmanager.net/amer/")
	f.Add("Bearer " + good)
	f.Add("Bearer " + good + "\n")
	f.Add("Bearer e30.e30.AA")
	f.Add("Bearer " + b64([]byte(`{"alg":"RS256","kid":"k1","crit":[]}`)) + ".e30.AA")
	f.Fuzz(func(t *testing.T, header string) {
		token, err := v.Verify(t.Context(), header, a)
		if token.Valid() != (err == nil) {
			t.Fatalf("%v %v", token, err)
		}
		if _, compact, _ := strings.Cut(header, " "); (err == nil) != (compact == good && strings.EqualFold(header[:6], "bearer")) {
			t.Fatalf("%q: %v", header, err)
		}
	})
}

// No key document may take the verifier down.
func FuzzKeyDocument(f *testing.F) {
	key := rsaKey(f, "a", 2048)
	claims := goodClaims()
	claims["iss"], claims["serviceurl"] = "https://api.botframework.com", "https://smba.trafficmanager.net/amer/"
	header := "Bearer " + sign(f, key, object{"alg": "RS256", "kid": "k1"}, claims)
	a := activity(f, "msteams", "https://smba.trafficmanager.net/amer/")
	f.Add(metadata, `{"keys":[`+encoded(f, jwk("k1", key, "msteams"))+`]}`)
	f.Add(metadata, `{"keys":[null,1,{"kty":"RSA","kid":"k1","n":"","e":""},{"kty":"RSA","kid":"k1","n":"AQAB","e":"AAAAAAAAAAAAAA"}]}`)
	f.Add(`{"jwks_uri":"https://login.botframework.com@evil.test/"}`, `{}`)
	f.Fuzz(func(t *testing.T, meta, keys string) {
		v := publicVerifier(t, func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "login.botframework.com" || r.URL.Scheme != "https" {
				t.Fatalf("%s was asked", r.URL)
			}
			if strings.HasSuffix(r.URL.Path, "/openidconfiguration") {
				return answer(meta)
			}
			return answer(keys)
		}, newClock().now)
		token, err := v.Verify(t.Context(), header, a)
		if token.Valid() != (err == nil) || err != nil && !errors.Is(err, teams.ErrUnauthorized) && !errors.Is(err, teams.ErrKeysUnavailable) {
			t.Fatalf("%v", err)
		}
	})
}
