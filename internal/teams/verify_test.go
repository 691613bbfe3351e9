package teams_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"counterfoil/internal/teams"
)

func allowed(_ context.Context, id string) (bool, error) { return id == tenant, nil }

func newVerifier(t *testing.T, l *login, c *clock) *teams.Verifier {
	t.Helper()
	v, err := teams.NewVerifier(teams.VerifierConfig{
		Cloud: l.cloud(t), AppID: appID, AllowTenant: allowed, HTTPClient: l.Client(), Now: c.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func goodClaims() object {
	return object{
		"iss": issuer, "aud": appID, "serviceurl": service,
		"nbf": start.Unix() - 60, "exp": start.Unix() + 3600,
	}
}

func TestVerifyDecidesEachTokenByTheProtocol(t *testing.T) {
	key, other, small := rsaKey(t, "a", 2048), rsaKey(t, "b", 2048), rsaKey(t, "small", 1024)
	l := newLogin(t, jwk("k1", key, "msteams"), jwk("web", key, "webchat"), jwk("bare", key), jwk("small", small, "msteams"),
		object{"kty": "EC", "kid": "ec"}, object{"kty": "RSA", "kid": "enc", "use": "enc", "n": b64(key.N.Bytes()), "e": "AQAB", "endorsements": []string{"msteams"}})
	header := object{"alg": "RS256", "typ": "JWT", "kid": "k1"}
	with := func(base object, change object) object {
		o := maps.Clone(base)
		for k, v := range change {
			if v == nil {
				delete(o, k)
			} else {
				o[k] = v
			}
		}
		return o
	}
	claims := func(change object) string { return "Bearer " + sign(t, key, header, with(goodClaims(), change)) }
	headed := func(change object) string { return "Bearer " + sign(t, key, with(header, change), goodClaims()) }
	good := claims(nil)
	now := start.Unix()
	hs := func() string {
		signed := b64([]byte(`{"alg":"HS256","kid":"k1"}`)) + "." + strings.Split(good, ".")[1]
		m := hmac.New(sha256.New, key.N.Bytes())
		m.Write([]byte(signed))
		return "Bearer " + signed + "." + b64(m.Sum(nil))
	}

	for _, tc := range []struct {
		name    string
		header  string
		channel string
		service string
		want    teams.Reason
	}{
		{name: "a good token is accepted", header: good},
		{name: "the scheme is read in any case", header: "bearer" + strings.TrimPrefix(good, "Bearer")},
		{name: "the claim serviceUrl is found in any case", header: claims(object{"serviceurl": nil, "serviceUrl": service})},
		{name: "exp 240 s ago is accepted", header: claims(object{"exp": now - 240})},
		{name: "nbf in 240 s is accepted", header: claims(object{"nbf": now + 240})},
		{name: "nbf may be missing", header: claims(object{"nbf": nil})},
		{name: "exp 299 s ago is accepted", header: claims(object{"exp": now - 299})},

		{name: "no header is refused", header: "", want: teams.ReasonHeader},
		{name: "another scheme is refused", header: "Basic " + good[7:], want: teams.ReasonHeader},
		{name: "an empty bearer is refused", header: "Bearer ", want: teams.ReasonHeader},
		{name: "two tokens are refused", header: good + " " + good[7:], want: teams.ReasonMalformed},
		{name: "two parts are refused", header: good[:strings.LastIndexByte(good, '.')], want: teams.ReasonMalformed},
		{name: "padding is refused", header: good + "=", want: teams.ReasonMalformed},
		{name: "a line break is refused", header: good[:len(good)-4] + "\n" + good[len(good)-4:], want: teams.ReasonMalformed},
		{name: "a huge token is refused", header: "Bearer " + strings.Repeat("a", 20<<10), want: teams.ReasonMalformed},
		{name: "a repeated claim is refused", header: "Bearer " + signRaw(t, key, `{"alg":"RS256","kid":"k1"}`, fmt.Sprintf(`{"iss":%q,"iss":%q}`, issuer, issuer)), want: teams.ReasonMalformed},
		{name: "a critical extension is refused", header: headed(object{"crit": []string{"exp"}}), want: teams.ReasonMalformed},
		{name: "a token without kid is refused", header: headed(object{"kid": nil}), want: teams.ReasonMalformed},
		{name: "alg none is refused", header: "Bearer " + b64([]byte(`{"alg":"none","kid":"k1"}`)) + "." + strings.Split(good, ".")[1] + ".", want: teams.ReasonAlgorithm},
		{name: "HS256 with the public key is refused", header: hs(), want: teams.ReasonAlgorithm},
		{name: "RS512 is refused", header: headed(object{"alg": "RS512"}), want: teams.ReasonAlgorithm},
		{name: "rs256 in lower case is refused", header: headed(object{"alg": "rs256"}), want: teams.ReasonAlgorithm},
		{name: "another channel is refused", header: good, channel: "webchat", want: teams.ReasonChannel},
		{name: "the channel is compared exactly", header: good, channel: "MSTeams", want: teams.ReasonChannel},
		{name: "an unknown kid is refused", header: headed(object{"kid": "k9"}), want: teams.ReasonKey},
		{name: "an encryption key is not used", header: headed(object{"kid": "enc"}), want: teams.ReasonKey},
		{name: "a key of 1024 bits is not used", header: "Bearer " + sign(t, small, object{"alg": "RS256", "kid": "small"}, goodClaims()), want: teams.ReasonKey},
		{name: "another key's signature is refused", header: "Bearer " + sign(t, other, header, goodClaims()), want: teams.ReasonSignature},
		{name: "changed claims are refused", header: strings.Join([]string{strings.Split(good, ".")[0], strings.Split(claims(object{"x": 1}), ".")[1], strings.Split(good, ".")[2]}, "."), want: teams.ReasonSignature},
		{name: "an empty signature is refused", header: good[:strings.LastIndexByte(good, '.')+1], want: teams.ReasonSignature},
		{name: "a key endorsed for webchat is refused", header: headed(object{"kid": "web"}), want: teams.ReasonEndorsement},
		{name: "a key without endorsements is refused", header: headed(object{"kid": "bare"}), want: teams.ReasonEndorsement},
		{name: "another issuer is refused", header: claims(object{"iss": issuer + "/"}), want: teams.ReasonIssuer},
		{name: "ISS is not iss", header: claims(object{"iss": nil, "ISS": issuer}), want: teams.ReasonIssuer},
		{name: "another audience is refused", header: claims(object{"aud": "66666666-2222-3333-4444-555555555555"}), want: teams.ReasonAudience},
		{name: "a list of audiences is refused", header: claims(object{"aud": []string{appID}}), want: teams.ReasonAudience},
		{name: "exp 300 s ago is refused", header: claims(object{"exp": now - 300}), want: teams.ReasonExpired},
		{name: "exp 360 s ago is refused", header: claims(object{"exp": now - 360}), want: teams.ReasonExpired},
		{name: "no exp is refused", header: claims(object{"exp": nil}), want: teams.ReasonExpired},
		{name: "exp as text is refused", header: claims(object{"exp": "4102444800"}), want: teams.ReasonExpired},
		{name: "nbf in 360 s is refused", header: claims(object{"nbf": now + 360}), want: teams.ReasonNotYet},
		{name: "no serviceurl claim is refused", header: claims(object{"serviceurl": nil}), want: teams.ReasonServiceURL},
		{name: "another serviceurl is refused", header: claims(object{"serviceurl": "http://127.0.0.1:9998/"}), want: teams.ReasonServiceURL},
		{name: "one more slash is refused", header: claims(object{"serviceurl": service + "/"}), want: teams.ReasonServiceURL},
		{name: "two serviceurl claims are refused", header: claims(object{"serviceUrl": service}), want: teams.ReasonServiceURL},
		{name: "a signed address off the list is refused", header: claims(object{"serviceurl": "https://smba.trafficmanager.net.evil.test/"}), service: "https://smba.trafficmanager.net.evil.test/", want: teams.ReasonServiceHost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClock()
			channel, at := "msteams", service
			if tc.channel != "" {
				channel = tc.channel
			}
			if tc.service != "" {
				at = tc.service
			}
			token, err := newVerifier(t, l, c).Verify(t.Context(), tc.header, activity(t, channel, at))
			if tc.want == "" {
				if err != nil || !token.Valid() || token.Tenant() != tenant || token.ServiceURL().String() != service {
					t.Fatalf("refused: %v (%+v)", err, token)
				}
				return
			}
			var u *teams.UnauthorizedError
			if !errors.Is(err, teams.ErrUnauthorized) || !errors.As(err, &u) || u.Reason != tc.want {
				t.Fatalf("got %v, want reason %q", err, tc.want)
			}
			if token.Valid() {
				t.Error("a refused token is valid")
			}
			if len(tc.header) > 40 && strings.Contains(err.Error(), tc.header[7:40]) {
				t.Error("the error holds the token")
			}
		})
	}
}

func TestVerifyDecidesTheTenantLast(t *testing.T) {
	key := rsaKey(t, "a", 2048)
	l := newLogin(t, jwk("k1", key, "msteams"))
	good := "Bearer " + sign(t, key, object{"alg": "RS256", "kid": "k1"}, goodClaims())
	boom := errors.New("no database")
	for _, tc := range []struct {
		name, channelData string
		allow             func(context.Context, string) (bool, error)
		want              error
	}{
		{"a tenant on the list passes", `{"tenant":{"id":"` + tenant + `"}}`, allowed, nil},
		{"another tenant is refused", `{"tenant":{"id":"other"}}`, allowed, teams.ErrUnauthorized},
		{"no tenant is refused", `{}`, func(context.Context, string) (bool, error) { return true, nil }, teams.ErrUnauthorized},
		{"a failing lookup refuses", `{"tenant":{"id":"` + tenant + `"}}`, func(context.Context, string) (bool, error) { return true, boom }, boom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := teams.NewVerifier(teams.VerifierConfig{
				Cloud: l.cloud(t), AppID: appID, AllowTenant: tc.allow, HTTPClient: l.Client(), Now: newClock().now,
			})
			if err != nil {
				t.Fatal(err)
			}
			a := decode(t, fmt.Sprintf(`{"type":"message","channelId":"msteams","serviceUrl":%q,"channelData":%s}`, service, tc.channelData))
			token, err := v.Verify(t.Context(), good, a)
			if !errors.Is(err, tc.want) || token.Valid() != (tc.want == nil) {
				t.Fatalf("got %v, %v; want %v", token.Valid(), err, tc.want)
			}
		})
	}
}

func TestNewVerifierRefusesAnythingMissing(t *testing.T) {
	l := newLogin(t)
	full := teams.VerifierConfig{Cloud: l.cloud(t), AppID: appID, AllowTenant: allowed, HTTPClient: l.Client(), Now: time.Now}
	for name, take := range map[string]func(*teams.VerifierConfig){
		"cloud": func(c *teams.VerifierConfig) { c.Cloud = teams.Cloud{} }, "app": func(c *teams.VerifierConfig) { c.AppID = "" },
		"tenants": func(c *teams.VerifierConfig) { c.AllowTenant = nil }, "client": func(c *teams.VerifierConfig) { c.HTTPClient = nil },
		"clock": func(c *teams.VerifierConfig) { c.Now = nil },
	} {
		cfg := full
		take(&cfg)
		if _, err := teams.NewVerifier(cfg); err == nil {
			t.Errorf("a verifier without %s was made", name)
		}
	}
}

func TestZeroTokenProvesNothing(t *testing.T) {
	var token teams.Token
	if token.Valid() || token.Tenant() != "" || !token.ServiceURL().IsZero() {
		t.Fatal("the zero token proves something")
	}
}

func TestKeysAreCachedAndRefetchedSparingly(t *testing.T) {
	key, second := rsaKey(t, "a", 2048), rsaKey(t, "b", 2048)
	l := newLogin(t, jwk("k1", key, "msteams"))
	c := newClock()
	v := newVerifier(t, l, c)
	verify := func(kid string) error {
		t.Helper()
		k := key
		if kid == "k2" {
			k = second
		}
		claims := goodClaims()
		claims["exp"] = c.now().Add(time.Hour).Unix()
		_, err := v.Verify(t.Context(), "Bearer "+sign(t, k, object{"alg": "RS256", "kid": kid}, claims), activity(t, "msteams", service))
		return err
	}
	step := func(what, kid string, want error, fetches int32) {
		t.Helper()
		if err := verify(kid); !errors.Is(err, want) {
			t.Fatalf("%s: got %v, want %v", what, err, want)
		}
		if n := l.fetches.Load(); n != fetches {
			t.Fatalf("%s: %d fetches so far, want %d", what, n, fetches)
		}
	}
	step("first", "k1", nil, 1)
	for range 20 {
		step("again", "k1", nil, 1)
	}
	step("unknown kid within the minute", "k2", teams.ErrUnauthorized, 1)
	c.advance(61 * time.Second)
	step("unknown kid after the minute", "k2", teams.ErrUnauthorized, 2)
	step("unknown kid at once again", "k2", teams.ErrUnauthorized, 2)
	l.set(func() { l.keys = append(l.keys, jwk("k2", second, "msteams")) })
	c.advance(61 * time.Second)
	step("new key after rotation", "k2", nil, 3)
	c.advance(23 * time.Hour)
	step("still fresh", "k1", nil, 3)
	c.advance(2 * time.Hour)
	step("older than a day", "k1", nil, 4)

	l.set(func() { l.status = http.StatusInternalServerError })
	c.advance(25 * time.Hour)
	step("stale keys serve while the fetch fails", "k1", nil, 4)
	step("an unknown kid is undecided while the fetch fails", "k3", teams.ErrKeysUnavailable, 4)
	c.advance(7 * 24 * time.Hour)
	step("stale keys end", "k1", teams.ErrKeysUnavailable, 4)
	l.set(func() { l.status = http.StatusOK })
	c.advance(11 * time.Second)
	step("back again", "k1", nil, 5)
}

func TestKeysAreFetchedOnceForManyCallers(t *testing.T) {
	key := rsaKey(t, "a", 2048)
	l := newLogin(t, jwk("k1", key, "msteams"))
	hold := make(chan struct{})
	l.hold, l.asked = hold, make(chan struct{}, 1)
	v := newVerifier(t, l, newClock())
	good := "Bearer " + sign(t, key, object{"alg": "RS256", "kid": "k1"}, goodClaims())
	a := activity(t, "msteams", service)

	// The caller that starts the fetch goes away; the others must not notice.
	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := v.Verify(impatient, good, a)
		left <- err
	}()
	<-l.asked
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatalf("the impatient caller got %v", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() { _, errs[i] = v.Verify(t.Context(), good, a) })
	}
	close(hold)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if n := l.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches", n)
	}
}

func TestKeyDocumentsOfNoUseAreRefused(t *testing.T) {
	key := rsaKey(t, "a", 2048)
	good := "Bearer " + sign(t, key, object{"alg": "RS256", "kid": "k1"}, goodClaims())
	evil := newLogin(t, jwk("k1", key, "msteams"))
	for _, tc := range []struct {
		name   string
		change func(l *login)
	}{
		{"keys on another host", func(l *login) {
			l.meta = func(m object) { m["jwks_uri"] = evil.URL + "/v1/.well-known/keys" }
		}},
		{"no RS256", func(l *login) {
			l.meta = func(m object) { m["id_token_signing_alg_values_supported"] = []string{"ES256"} }
		}},
		{"metadata too long", func(l *login) { l.meta = func(m object) { m["x"] = strings.Repeat("x", 70<<10) } }},
		{"keys too long", func(l *login) { l.keys = append(l.keys, object{"x": strings.Repeat("x", 600<<10)}) }},
		{"no key", func(l *login) { l.keys = nil }},
		{"a redirect", func(l *login) {
			l.Config.Handler = http.RedirectHandler(evil.URL+"/v1/.well-known/openidconfiguration", http.StatusFound)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLogin(t, jwk("k1", key, "msteams"))
			l.set(func() { tc.change(l) })
			token, err := newVerifier(t, l, newClock()).Verify(t.Context(), good, activity(t, "msteams", service))
			if !errors.Is(err, teams.ErrKeysUnavailable) || token.Valid() {
				t.Fatalf("got %v", err)
			}
		})
	}
	if n := evil.fetches.Load(); n != 0 {
		t.Errorf("the other host was asked %d times", n)
	}
}
