package teams

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"
)

// The token is parsed here and not by a JOSE library: one algorithm, one key type and five claims are wanted, and
// what such a library mostly adds (algorithm negotiation, embedded keys, remote key references, encryption) is what
// must not be reachable from an unauthenticated request.

// maxToken bounds a bearer token; real ones are below 2 KiB.
const maxToken = 16 << 10

var errMalformed = errors.New("teams: malformed token")

// strict64 refuses padding, line breaks and non-zero trailing bits, so that a token has one spelling.
var strict64 = base64.RawURLEncoding.Strict()

// jwt is a token in compact form (RFC 7515 §7.1) whose signature is not yet checked.
type jwt struct {
	kid       string
	claims    map[string]json.RawMessage
	signed    string
	signature []byte
}

func parseJWT(compact string) (jwt, error) {
	if len(compact) > maxToken {
		return jwt{}, errMalformed
	}
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return jwt{}, errMalformed
	}
	header, err := decodeSegment(parts[0])
	if err != nil {
		return jwt{}, err
	}
	claims, err := decodeSegment(parts[1])
	if err != nil {
		return jwt{}, err
	}
	signature, err := strict64.DecodeString(parts[2])
	if err != nil || strings.ContainsAny(parts[2], "\r\n") {
		return jwt{}, errMalformed
	}
	// RFC 7515 §4.1.11: an extension that is critical and not understood makes the token invalid; none is understood.
	if _, has := header["crit"]; has {
		return jwt{}, errMalformed
	}
	if alg, ok := textOf(header["alg"]); !ok || alg != "RS256" {
		return jwt{}, errAlgorithm
	}
	kid, ok := textOf(header["kid"])
	if !ok || kid == "" || len(kid) > 256 {
		return jwt{}, errMalformed
	}
	return jwt{kid, claims, parts[0] + "." + parts[1], signature}, nil
}

var errAlgorithm = errors.New("teams: token is not signed with RS256")

// verifySignature is RS256 (RFC 7518 §3.3).
func (t jwt) verifySignature(key *rsa.PublicKey) bool {
	digest := sha256.Sum256([]byte(t.signed))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], t.signature) == nil
}

func decodeSegment(segment string) (map[string]json.RawMessage, error) {
	raw, err := strict64.DecodeString(segment)
	if err != nil || strings.ContainsAny(segment, "\r\n") {
		return nil, errMalformed
	}
	return decodeObject(raw)
}

// decodeObject reads a JSON object whose names are compared exactly and occur once (RFC 7519 §4 lets a parser refuse
// duplicates). encoding/json into a struct would take "ISS" for "iss" and the last of two.
func decodeObject(raw []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errMalformed
	}
	members := map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errMalformed
		}
		if _, twice := members[name]; twice {
			return nil, errMalformed
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil, errMalformed
		}
		members[name] = value
	}
	if end, err := dec.Token(); err != nil || end != json.Delim('}') {
		return nil, errMalformed
	}
	if len(bytes.TrimSpace(raw[dec.InputOffset():])) != 0 {
		return nil, errMalformed
	}
	return members, nil
}

func textOf(raw json.RawMessage) (string, bool) {
	var s *string
	if raw == nil || json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

// dateOf reads a NumericDate (RFC 7519 §2).
func dateOf(raw json.RawMessage) (time.Time, bool) {
	var n *float64
	if raw == nil || json.Unmarshal(raw, &n) != nil || n == nil || *n < 0 || *n > 1<<40 {
		return time.Time{}, false
	}
	whole, part := math.Modf(*n)
	return time.Unix(int64(whole), int64(part*1e9)), true
}
