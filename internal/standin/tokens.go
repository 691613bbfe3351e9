package standin

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

const (
	// botAudience is what the bot's tokens for the connector are made out to.
	botAudience = "https://api.botframework.com"
	tokenLife   = time.Hour
	clockSkew   = 5 * time.Minute
)

type tokenHeader struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

// claims are the members of both kinds of token: serviceurl is in those sent to the bot, appid and tid in those it gets.
type claims struct {
	Issuer     string `json:"iss"`
	Audience   string `json:"aud"`
	IssuedAt   int64  `json:"iat,omitempty"`
	NotBefore  int64  `json:"nbf"`
	Expires    int64  `json:"exp"`
	ServiceURL string `json:"serviceurl,omitempty"`
	AppID      string `json:"appid,omitempty"`
	TenantID   string `json:"tid,omitempty"`
}

// jwk is a public key as published (RFC 7517 §4), with the Bot Framework's list of channels the key may speak for.
type jwk struct {
	Kty          string   `json:"kty"`
	Use          string   `json:"use"`
	Alg          string   `json:"alg"`
	Kid          string   `json:"kid"`
	N            string   `json:"n"`
	E            string   `json:"e"`
	Endorsements []string `json:"endorsements"`
}

func (s *Server) publicJWK() jwk {
	pub := &s.key.PublicKey
	return jwk{
		Kty: "RSA", Use: "sig", Alg: "RS256", Kid: s.kid,
		N:            base64.RawURLEncoding.EncodeToString(pub.N.Bytes()),
		E:            base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes()),
		Endorsements: []string{channelID},
	}
}

func keyID(pub *rsa.PublicKey) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(pub.N.Bytes(), uint32(pub.E)))
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// sign makes a JWS in compact form (RFC 7515 §7.1) with RS256.
func (s *Server) sign(c claims) (string, error) {
	header, err := json.Marshal(tokenHeader{Alg: "RS256", Kid: s.kid, Typ: "JWT"})
	if err != nil {
		return "", fmt.Errorf("encode token header: %w", err)
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encode token claims: %w", err)
	}
	input := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// deliveryToken is the bearer of one delivery to the bot.
func (s *Server) deliveryToken() (string, error) {
	now := s.cfg.Now()
	return s.sign(claims{
		Issuer: s.cfg.Issuer, Audience: s.cfg.AppID, ServiceURL: s.ServiceURL(),
		NotBefore: now.Unix(), Expires: now.Add(tokenLife).Unix(),
	})
}

// checkAccess accepts an Authorization header that bears an unexpired access token of this stand-in for its bot.
func (s *Server) checkAccess(header string) error {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return errors.New("no bearer token")
	}
	c, err := s.verify(token)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	switch {
	case c.Audience != botAudience:
		return errors.New("token is for another audience")
	case c.AppID != s.cfg.AppID:
		return errors.New("token is for another app")
	case now.After(time.Unix(c.Expires, 0).Add(clockSkew)):
		return errors.New("token has expired")
	case now.Before(time.Unix(c.NotBefore, 0).Add(-clockSkew)):
		return errors.New("token is not valid yet")
	}
	return nil
}

// verify checks form and signature, and nothing of what the claims say.
func (s *Server) verify(token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}, errors.New("token is not in compact form")
	}
	var h tokenHeader
	if err := decodePart(parts[0], &h); err != nil {
		return claims{}, err
	}
	if h.Alg != "RS256" || h.Kid != s.kid {
		return claims{}, errors.New("token is not signed by a known RS256 key")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return claims{}, errors.New("token signature is not base64url")
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if rsa.VerifyPKCS1v15(&s.key.PublicKey, crypto.SHA256, digest[:], signature) != nil {
		return claims{}, errors.New("token signature does not match")
	}
	var c claims
	if err := decodePart(parts[1], &c); err != nil {
		return claims{}, err
	}
	return c, nil
}

func decodePart(part string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil || json.Unmarshal(raw, into) != nil {
		return errors.New("token is malformed")
	}
	return nil
}
