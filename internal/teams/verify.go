package teams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// channelTeams is the only channel this bot serves.
const channelTeams = "msteams"

// clockSkew is the tolerance of exp and nbf that Microsoft's own verifiers have.
const clockSkew = 300 * time.Second

// Reason tells, for logs and counters, which check refused a request. It never depends on a secret or on EUII.
type Reason string

// The reasons, in the order of the checks.
const (
	ReasonHeader      Reason = "header"       // no bearer token, or more than one thing in the header
	ReasonMalformed   Reason = "malformed"    // not a JWT in compact form
	ReasonAlgorithm   Reason = "algorithm"    // not RS256
	ReasonChannel     Reason = "channel"      // the activity is not from msteams
	ReasonKey         Reason = "key"          // nobody knows the kid
	ReasonSignature   Reason = "signature"    // the signature is wrong
	ReasonEndorsement Reason = "endorsement"  // the key may not sign for msteams
	ReasonIssuer      Reason = "issuer"       // another issuer
	ReasonAudience    Reason = "audience"     // meant for another bot
	ReasonExpired     Reason = "expired"      // exp missing or past
	ReasonNotYet      Reason = "not_yet"      // nbf ahead
	ReasonServiceURL  Reason = "service_url"  // the claim is not the activity's serviceUrl
	ReasonServiceHost Reason = "service_host" // the host is not on the cloud's list
	ReasonTenant      Reason = "tenant"       // the tenant is missing, contradictory or not on the caller's list
)

// ErrUnauthorized is what every refusal is: answer 401.
var ErrUnauthorized = errors.New("teams: the request is not from the Bot Connector for this bot")

// UnauthorizedError is a refusal with its reason. It holds no byte of the token.
type UnauthorizedError struct{ Reason Reason }

func (e *UnauthorizedError) Error() string { return ErrUnauthorized.Error() + ": " + string(e.Reason) }

// Unwrap makes it an ErrUnauthorized.
func (e *UnauthorizedError) Unwrap() error { return ErrUnauthorized }

func refuse(r Reason) (Token, error) { return Token{}, &UnauthorizedError{r} }

// Token is the evidence that an activity was checked. The zero value proves nothing: it has no tenant and no address.
type Token struct {
	tenant  string
	service ServiceURL
	expires time.Time
}

// Valid reports whether the token stands for a check that was made.
func (t Token) Valid() bool { return t.tenant != "" && !t.service.IsZero() }

// Tenant is the Microsoft 365 tenant of the activity, on the caller's list.
func (t Token) Tenant() string { return t.tenant }

// ServiceURL is where answers to the activity go. It may change over time, so keep the newest.
func (t Token) ServiceURL() ServiceURL { return t.service }

// Expires is the end of the token's validity, without tolerance.
func (t Token) Expires() time.Time { return t.expires }

// VerifierConfig is what a Verifier needs; every field is required.
type VerifierConfig struct {
	Cloud Cloud
	// AppID is the bot's application id, the audience of every token.
	AppID string
	// AllowTenant says whether activities of this tenant are served. An error refuses, and is handed on.
	AllowTenant func(ctx context.Context, tenant string) (bool, error)
	HTTPClient  *http.Client
	Now         func() time.Time
}

// Verifier checks that requests come from the Bot Connector.
type Verifier struct {
	cloud  Cloud
	appID  string
	tenant func(context.Context, string) (bool, error)
	now    func() time.Time
	keys   *keySet
}

// NewVerifier makes a Verifier. It fetches nothing yet.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if cfg.Cloud.metadataURL == "" || cfg.Cloud.issuer == "" {
		return nil, errors.New("teams: the verifier needs a cloud")
	}
	if cfg.AppID == "" || cfg.AllowTenant == nil || cfg.HTTPClient == nil || cfg.Now == nil {
		return nil, errors.New("teams: the verifier needs the bot's id, a tenant list, a client and a clock")
	}
	return &Verifier{
		cloud: cfg.Cloud, appID: cfg.AppID, tenant: cfg.AllowTenant, now: cfg.Now,
		keys: &keySet{metadataURL: cfg.Cloud.metadataURL, http: withoutRedirects(cfg.HTTPClient), now: cfg.Now},
	}, nil
}

// Verify checks the Authorization header against the activity it came with. The error is an ErrUnauthorized, an
// ErrKeysUnavailable, or that of AllowTenant or the context; no token without all checks passed.
func (v *Verifier) Verify(ctx context.Context, authorizationHeader string, activity *Activity) (Token, error) {
	scheme, compact, _ := strings.Cut(authorizationHeader, " ")
	if !strings.EqualFold(scheme, "Bearer") || compact == "" {
		return refuse(ReasonHeader)
	}
	token, err := parseJWT(compact)
	switch {
	case errors.Is(err, errAlgorithm):
		return refuse(ReasonAlgorithm)
	case err != nil:
		return refuse(ReasonMalformed)
	}
	if activity == nil || activity.ChannelID != channelTeams {
		return refuse(ReasonChannel)
	}
	key, known, err := v.keys.lookup(ctx, token.kid)
	if err != nil {
		return Token{}, err
	}
	if !known {
		return refuse(ReasonKey)
	}
	if !token.verifySignature(key.public) {
		return refuse(ReasonSignature)
	}
	// Microsoft's libraries pass over a key without endorsements; a key that signs for Teams always has them.
	if !slices.Contains(key.endorsements, activity.ChannelID) {
		return refuse(ReasonEndorsement)
	}
	if iss, ok := textOf(token.claims["iss"]); !ok || iss != v.cloud.issuer {
		return refuse(ReasonIssuer)
	}
	if aud, ok := textOf(token.claims["aud"]); !ok || aud != v.appID {
		return refuse(ReasonAudience)
	}
	now := v.now()
	expires, ok := dateOf(token.claims["exp"])
	if !ok || !now.Before(expires.Add(clockSkew)) {
		return refuse(ReasonExpired)
	}
	if raw, has := token.claims["nbf"]; has {
		if from, ok := dateOf(raw); !ok || from.After(now.Add(clockSkew)) {
			return refuse(ReasonNotYet)
		}
	}
	if claim, ok := serviceURLClaim(token.claims); !ok || claim != activity.ServiceURL {
		return refuse(ReasonServiceURL)
	}
	service, err := ParseServiceURL(activity.ServiceURL, v.cloud)
	if err != nil {
		return refuse(ReasonServiceHost)
	}
	tenant := activity.Tenant()
	if tenant == "" {
		return refuse(ReasonTenant)
	}
	allowed, err := v.tenant(ctx, tenant)
	if err != nil {
		return Token{}, fmt.Errorf("teams: look up the tenant: %w", err)
	}
	if !allowed {
		return refuse(ReasonTenant)
	}
	return Token{tenant, service, expires}, nil
}

// serviceURLClaim finds the claim in whichever case it is spelled; two spellings in one token prove nothing.
func serviceURLClaim(claims map[string]json.RawMessage) (string, bool) {
	var found []json.RawMessage
	for name, raw := range claims {
		if strings.EqualFold(name, "serviceurl") {
			found = append(found, raw)
		}
	}
	if len(found) != 1 {
		return "", false
	}
	return textOf(found[0])
}
