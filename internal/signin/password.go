package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/ccojocar/zxcvbn-go/data"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"
)

// Choice says what is wrong with a chosen name or password.
type Choice int

// What can be wrong.
const (
	NameLength Choice = iota + 1
	NameTaken
	PasswordShort
	PasswordLong
	PasswordCommon
	PasswordHasName
)

// ChoiceError refuses a chosen name or password.
type ChoiceError struct{ Why Choice }

func (e ChoiceError) Error() string {
	return fmt.Sprintf("the chosen name or password cannot be used (%d)", e.Why)
}

// The lengths, in characters. There is no rule about kinds of characters: length is what helps.
const (
	nameLeast, nameMost         = 3, 64
	passwordLeast, passwordMost = 15, 128
	bytesMost                   = 4 * passwordMost
)

// normal gives one form to what different keyboards send for the same characters.
func normal(s string) string {
	if len(s) > 2*bytesMost {
		s = s[:2*bytesMost] // too long anyway; what follows need not be looked at
	}
	return norm.NFC.String(s)
}

// foldName makes names equal that look equal.
func foldName(s string) string { return strings.ToLower(strings.TrimSpace(normal(s))) }

// choose refuses names and passwords that must not be used.
func choose(name, password string) error {
	n := utf8.RuneCountInString(password)
	switch l := utf8.RuneCountInString(name); {
	case l < nameLeast || l > nameMost || strings.ContainsFunc(name, unicode.IsControl):
		return ChoiceError{NameLength}
	case n < passwordLeast:
		return ChoiceError{PasswordShort}
	case n > passwordMost:
		return ChoiceError{PasswordLong}
	case len(name) > nameLeast && strings.Contains(strings.ToLower(password), name):
		return ChoiceError{PasswordHasName}
	case common(password):
		return ChoiceError{PasswordCommon}
	}
	listed, err := guessed(password)
	if err == nil && listed {
		err = ChoiceError{PasswordCommon}
	}
	return err
}

// leaked are the passwords that were found most often in what was stolen elsewhere, as zxcvbn counts them.
var leaked = sync.OnceValues(func() (map[string]bool, error) {
	b, err := data.Asset("data/Passwords.json")
	if err != nil {
		return nil, fmt.Errorf("read list of leaked passwords: %w", err)
	}
	var all struct{ List []string }
	if err := json.Unmarshal(b, &all); err != nil || len(all.List) < 3000 {
		return nil, errors.New("read list of leaked passwords: it is damaged")
	}
	set := make(map[string]bool, len(all.List))
	for _, p := range all.List {
		set[strings.ToLower(p)] = true
	}
	return set, nil
})

// guessed reports whether a password is one that leaked, or two of them joined, whatever digits and signs are around them. Few that
// leaked have fifteen characters, so those that have are mostly made so.
func guessed(password string) (bool, error) {
	set, err := leaked()
	if err != nil {
		return false, err
	}
	letters := func(s string) string {
		return strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) {
				return r
			}
			return -1
		}, s)
	}
	p := strings.ToLower(password)
	for _, form := range []string{p, strings.TrimFunc(p, func(r rune) bool { return !unicode.IsLetter(r) }), letters(p), letters(leet.Replace(p))} {
		if set[form] {
			return true, nil
		}
		for i := range form {
			if i > 3 && len(form)-i > 3 && set[form[:i]] && set[form[i:]] {
				return true, nil
			}
		}
	}
	return false, nil
}

// words are what common passwords are made of beyond those that leaked. Longer ones first.
var words = []string{
	"correcthorsebatterystaple", "administrator", "administrateur", "motdepasse", "counterfoil", "letmein", "password", "passwort",
	"passphrase", "changeme", "football", "baseball", "superman", "princess", "sunshine", "computer", "internet", "microsoft",
	"iloveyou", "jetaime", "starwars", "whatever", "trustno", "bonjour", "soleil", "chocolat", "doudou", "azerty", "qwerty", "qwertz",
	"welcome", "secret", "dragon", "monkey", "master", "shadow", "michael", "teams", "login", "admin", "access", "hello", "summer", "winter",
	"spring", "autumn", "test", "user", "pass", "root", "love", "abc",
}

var leet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i")

// rows are neighbours on a keyboard or in an alphabet.
var rows = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn", "qwertzuiop", "yxcvbnm"}

// common reports whether a password is one of those that are tried first: a short piece repeated, a walk over the
// keyboard, or well-known words with little else.
func common(password string) bool {
	p := strings.ToLower(password)
	distinct := make(map[rune]bool)
	for _, r := range p {
		distinct[r] = true
	}
	if len(distinct) <= 5 || repeats(p) || walks(p) {
		return true
	}
	// With the words taken out, what is left has to surprise a little.
	for _, form := range []string{p, leet.Replace(p)} {
		letters, others := "", ""
		for _, r := range form {
			if unicode.IsLetter(r) {
				letters += string(r)
			} else {
				others += string(r)
			}
		}
		rest := letters
		for _, w := range words {
			rest = strings.ReplaceAll(rest, w, "")
		}
		if rest != letters && surprises(rest)+surprises(others) < 6 {
			return true
		}
	}
	return false
}

// surprises counts the characters that do not just go on from the one before.
func surprises(s string) int {
	n, before := 0, rune(0)
	for _, r := range s {
		if r != before && !neighbours(before, r) {
			n++
		}
		before = r
	}
	return n
}

// repeats reports whether p is one piece of at most half its length, again and again.
func repeats(p string) bool {
	r := []rune(p)
	for n := 1; n <= len(r)/2; n++ {
		same := true
		for i := n; i < len(r) && same; i++ {
			same = r[i] == r[i-n]
		}
		if same {
			return true
		}
	}
	return false
}

// walks reports whether most steps of p go to a neighbour, or stay.
func walks(p string) bool { return 3*surprises(p) <= utf8.RuneCountInString(p)+2 }

func neighbours(a, b rune) bool {
	for _, row := range rows {
		if strings.Contains(row, string([]rune{a, b})) || strings.Contains(row, string([]rune{b, a})) {
			return true
		}
	}
	return false
}

// The second set of parameters that RFC 9106 §4 recommends.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	argonSalt    = 16
	argonKey     = 32
)

// hasher makes and checks password hashes, a few at a time, so that attempts cannot use up the memory.
type hasher struct {
	turns chan struct{}
	dummy string
}

func newHasher() hasher {
	salt := make([]byte, argonSalt)
	return hasher{make(chan struct{}, 2), encode(salt, make([]byte, argonKey))}
}

func encode(salt, key []byte) string {
	b := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads, b(salt), b(key))
}

// work runs the function when it is its turn.
func (h hasher) work(ctx context.Context, password string, salt []byte, memory, time uint32, threads uint8) ([]byte, error) {
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("check password: %w", ctx.Err())
	}
	return argon2.IDKey([]byte(password), salt, time, memory, threads, argonKey), nil
}

func (h hasher) make(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key, err := h.work(ctx, password, salt, argonMemory, argonTime, argonThreads)
	if err != nil {
		return "", err
	}
	return encode(salt, key), nil
}

// check compares a password with a hash. Without a hash it does the same work and says no.
func (h hasher) check(ctx context.Context, hash, password string) (bool, error) {
	known := hash != ""
	if !known {
		hash = h.dummy
	}
	var version int
	var memory, time uint32
	var threads uint8
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, errors.New("check password: the hash has an unknown form")
	}
	_, errVersion := fmt.Sscanf(parts[2], "v=%d", &version)
	_, errCost := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads)
	salt, errSalt := base64.RawStdEncoding.DecodeString(parts[4])
	want, errKey := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(errVersion, errCost, errSalt, errKey) != nil || version != argon2.Version || len(want) != argonKey || threads == 0 || time == 0 {
		return false, errors.New("check password: the hash has an unknown form")
	}
	got, err := h.work(ctx, password, salt, memory, time, threads)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}
