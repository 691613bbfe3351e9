package teams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	tokenTimeout = 10 * time.Second
	tokenEarly   = 5 * time.Minute
	maxTokenBody = 64 << 10
	// maxAuthorities bounds the cache; a bot has one authority, or one per organisation that brought its own.
	maxAuthorities = 256
)

// TokenSourceConfig is what a TokenSource needs; every field is required.
type TokenSourceConfig struct {
	Cloud Cloud
	// AppID is the bot's application id.
	AppID string
	// Secret gives the client secret each time one is needed, so that a rotated secret is taken up without a restart.
	Secret     func() ([]byte, error)
	HTTPClient *http.Client
	Now        func() time.Time
}

// TokenSource fetches and keeps the bot's own bearer tokens, one per login authority (OAuth 2.0 client credentials,
// RFC 6749 §4.4).
type TokenSource struct {
	cfg    TokenSourceConfig
	http   *http.Client
	flight singleflight.Group

	mu    sync.Mutex
	cache map[string]bearer
}

// bearer is a token whose text no logger can print.
type bearer struct {
	text    func() string
	renew   time.Time
	expires time.Time
}

// ErrToken says that the bot could not get a token of its own; nothing was sent to Teams.
var ErrToken = errors.New("teams: no token for the bot")

// NewTokenSource makes a TokenSource. It fetches nothing yet.
func NewTokenSource(cfg TokenSourceConfig) (*TokenSource, error) {
	if cfg.Cloud.loginURL == "" || cfg.AppID == "" || cfg.Secret == nil || cfg.HTTPClient == nil || cfg.Now == nil {
		return nil, errors.New("teams: the token source needs a cloud, the bot's id, its secret, a client and a clock")
	}
	return &TokenSource{cfg: cfg, http: withoutRedirects(cfg.HTTPClient), cache: map[string]bearer{}}, nil
}

// token is the current token of an authority (a tenant id or domain). It is renewed five minutes early; while that
// fails, the old one serves until it ends.
func (s *TokenSource) token(ctx context.Context, authority string) (bearer, error) {
	if held, due := s.cached(authority); !due {
		return held, nil
	}
	done := s.flight.DoChan(authority, func() (any, error) {
		if held, due := s.cached(authority); !due {
			return held, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tokenTimeout)
		defer cancel()
		fresh, err := s.fetch(ctx, authority)
		if err != nil {
			return bearer{}, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, has := s.cache[authority]; !has && len(s.cache) >= maxAuthorities {
			clear(s.cache)
		}
		s.cache[authority] = fresh
		return fresh, nil
	})
	select {
	case <-ctx.Done():
		return bearer{}, fmt.Errorf("%w: %w", ErrToken, ctx.Err())
	case r := <-done:
		if r.Err == nil {
			return r.Val.(bearer), nil
		}
		if held, _ := s.cached(authority); held.text != nil && s.cfg.Now().Before(held.expires) {
			return held, nil
		}
		return bearer{}, fmt.Errorf("%w: %w", ErrToken, r.Err)
	}
}

func (s *TokenSource) cached(authority string) (held bearer, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held = s.cache[authority]
	return held, held.text == nil || !s.cfg.Now().Before(held.renew)
}

// invalidate drops a token the Connector refused, unless another has taken its place meanwhile.
func (s *TokenSource) invalidate(authority string, refused bearer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held := s.cache[authority]; held.text != nil && held.text() == refused.text() {
		delete(s.cache, authority)
	}
}

func (s *TokenSource) fetch(ctx context.Context, authority string) (bearer, error) {
	if !isReference(authority) {
		return bearer{}, errors.New("the authority is not a tenant id or domain")
	}
	secret, err := s.cfg.Secret()
	if err != nil {
		return bearer{}, fmt.Errorf("read the client secret: %w", err)
	}
	form := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {s.cfg.AppID},
		"client_secret": {string(secret)},
		"scope":         {s.cfg.Cloud.scope()},
	}
	address := s.cfg.Cloud.loginURL + "/" + authority + "/oauth2/v2.0/token"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return bearer{}, errors.New("the login address is not an address")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	asked := s.cfg.Now()
	resp, err := s.http.Do(req)
	if err != nil {
		return bearer{}, fmt.Errorf("ask the login service: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readCapped(resp.Body, maxTokenBody)
	if err != nil {
		return bearer{}, fmt.Errorf("read the login service's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &refusal)
		return bearer{}, fmt.Errorf("the login service answered %d %s", resp.StatusCode, cleanCode(refusal.Error))
	}
	var granted struct {
		Type    string      `json:"token_type"`
		Access  string      `json:"access_token"`
		Expires json.Number `json:"expires_in"`
	}
	if json.Unmarshal(body, &granted) != nil {
		return bearer{}, errors.New("the login service's answer is not readable")
	}
	seconds, err := strconv.ParseInt(granted.Expires.String(), 10, 32)
	if err != nil || seconds <= 0 || !strings.EqualFold(granted.Type, "Bearer") || !headerSafe(granted.Access) {
		return bearer{}, errors.New("the login service's answer holds no usable bearer token")
	}
	life := time.Duration(seconds) * time.Second
	text := granted.Access
	return bearer{
		text:    func() string { return text },
		renew:   asked.Add(life - min(tokenEarly, life/2)),
		expires: asked.Add(life),
	}, nil
}

// headerSafe keeps anything out of a header that would not be one token.
func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxToken
}

// cleanCode lets an error code of a service through to logs, and nothing that could be a sentence.
func cleanCode(s string) string {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return ""
		}
	}
	if len(s) > 64 {
		return ""
	}
	return s
}
