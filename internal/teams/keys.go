package teams

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	keysFresh = 24 * time.Hour
	// keysStale bounds how long keys serve when they cannot be fetched any more: a withdrawn key must end some day.
	keysStale    = 7 * 24 * time.Hour
	unknownKid   = time.Minute      // at most one fetch in this time because of a kid nobody knows
	failedFetch  = 10 * time.Second // pause after a fetch that failed
	fetchTimeout = 10 * time.Second
	maxMetadata  = 64 << 10
	maxKeys      = 512 << 10
)

// ErrKeysUnavailable says that the signing keys could not be fetched, so nothing can be verified now. It is not the
// sender's fault: answer 503 and the Connector delivers again.
var ErrKeysUnavailable = errors.New("teams: the signing keys of the Bot Connector are not available")

// signingKey is one key of the Connector and the channels it may sign for.
type signingKey struct {
	public       *rsa.PublicKey
	endorsements []string
}

// keySet caches the Connector's keys.
type keySet struct {
	metadataURL string
	http        *http.Client
	now         func() time.Time

	flight singleflight.Group

	mu      sync.Mutex
	keys    map[string]signingKey
	fetched time.Time // of keys
	tried   time.Time // last attempt, successful or not
	failed  bool      // the last attempt failed
}

// lookup finds a key, fetching when the cache is old or does not know the kid. A kid that stays unknown gives false.
func (s *keySet) lookup(ctx context.Context, kid string) (signingKey, bool, error) {
	key, known, due := s.cached(kid)
	if due {
		// The fetch is shared and outlives the caller that happened to start it.
		done := s.flight.DoChan("", func() (any, error) {
			// Another flight may have landed between the look above and this one.
			if _, _, due := s.cached(kid); !due {
				return nil, nil
			}
			return nil, s.refresh(context.WithoutCancel(ctx))
		})
		select {
		case <-ctx.Done():
			return signingKey{}, false, fmt.Errorf("teams: waiting for signing keys: %w", ctx.Err())
		case <-done:
		}
		key, known, _ = s.cached(kid)
	}
	s.mu.Lock()
	usable := s.keys != nil && s.now().Sub(s.fetched) < keysStale
	undecided := !known && s.failed
	s.mu.Unlock()
	// A kid that is unknown while the document cannot be read may be a new key just as well as a made-up one.
	if !usable || undecided {
		return signingKey{}, false, ErrKeysUnavailable
	}
	return key, known, nil
}

// cached looks a key up and says whether a fetch is due first.
func (s *keySet) cached(kid string) (key signingKey, known, fetch bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, known = s.keys[kid]
	now := s.now()
	pause := unknownKid
	if s.failed {
		pause = failedFetch
	}
	switch {
	case !s.tried.IsZero() && now.Sub(s.tried) < pause:
		return key, known, false
	case s.keys == nil, !known, now.Sub(s.fetched) >= keysFresh:
		return key, known, true
	}
	return key, known, false
}

// refresh replaces the cache; on failure the old keys stay.
func (s *keySet) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = s.now()
	s.failed = err != nil
	if err == nil {
		s.keys, s.fetched = keys, s.tried
	}
	return err
}

func (s *keySet) fetch(ctx context.Context) (map[string]signingKey, error) {
	var meta struct {
		KeysURL    string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := s.get(ctx, s.metadataURL, maxMetadata, &meta); err != nil {
		return nil, fmt.Errorf("teams: fetch metadata: %w", err)
	}
	if !slices.Contains(meta.Algorithms, "RS256") {
		return nil, errors.New("teams: the metadata does not offer RS256")
	}
	from, err := url.Parse(s.metadataURL)
	if err != nil {
		return nil, fmt.Errorf("teams: metadata address: %w", err)
	}
	// The document may not send us to another host: only this one is in the register of destinations.
	to, err := url.Parse(meta.KeysURL)
	if err != nil || to.Scheme != from.Scheme || to.Host != from.Host || to.User != nil {
		return nil, errors.New("teams: the metadata names keys on another host")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(ctx, meta.KeysURL, maxKeys, &set); err != nil {
		return nil, fmt.Errorf("teams: fetch keys: %w", err)
	}
	keys := map[string]signingKey{}
	for _, raw := range set.Keys {
		if kid, key, ok := parseJWK(raw); ok {
			keys[kid] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("teams: the key document holds no usable key")
	}
	return keys, nil
}

func (s *keySet) get(ctx context.Context, address string, limit int64, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := readCapped(resp.Body, limit)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

var errTooLong = errors.New("the answer is too long")

// readCapped reads a body of at most limit bytes.
func readCapped(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > limit {
		return nil, errTooLong
	}
	return body, nil
}

// parseJWK takes an RSA signature key (RFC 7517 §4, RFC 7518 §6.3); other keys are passed over, as the document may
// hold some for other uses.
func parseJWK(raw json.RawMessage) (string, signingKey, bool) {
	var k struct {
		Type         string   `json:"kty"`
		Use          string   `json:"use"`
		ID           string   `json:"kid"`
		Algorithm    string   `json:"alg"`
		N            string   `json:"n"`
		E            string   `json:"e"`
		Endorsements []string `json:"endorsements"`
	}
	if json.Unmarshal(raw, &k) != nil || k.Type != "RSA" || k.ID == "" {
		return "", signingKey{}, false
	}
	if k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != "RS256" {
		return "", signingKey{}, false
	}
	n, err := strict64.DecodeString(k.N)
	if err != nil {
		return "", signingKey{}, false
	}
	e, err := strict64.DecodeString(k.E)
	if err != nil {
		return "", signingKey{}, false
	}
	e = bytes.TrimLeft(e, "\x00")
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if modulus.BitLen() < 2048 || modulus.BitLen() > 8192 || modulus.Bit(0) == 0 ||
		exponent.BitLen() > 31 || exponent.Int64() < 3 || exponent.Bit(0) == 0 {
		return "", signingKey{}, false
	}
	return k.ID, signingKey{&rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, k.Endorsements}, true
}

// withoutRedirects is the caller's client, made to hand a redirect back instead of following it and to keep no cookies.
func withoutRedirects(c *http.Client) *http.Client {
	own := *c
	own.Jar = nil
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}
