package signin

import (
	"errors"
	"strings"
	"testing"
)

func TestPasswordsAreLongAndNotAmongTheFirstThatAreTried(t *testing.T) {
	for password, want := range map[string]Choice{
		"four unrelated words, here":          0,
		"blue kettle 9 nervous tractor":       0,
		"8271940365528":                       PasswordShort,
		"fourteen chars":                      PasswordShort,
		"fifteen chars!!":                     0,
		"éléphant à vélo, lundi":              0,
		"日本語のとても長いパスワードです":                    0,
		strings.Repeat("long and longer ", 9): PasswordLong,
		"aaaaaaaaaaaaaaa":                     PasswordCommon,
		"passwordpassword":                    PasswordCommon,
		"Password12345678":                    PasswordCommon,
		"P@ssw0rdP@ssw0rd":                    PasswordCommon,
		"123456789012345":                     PasswordCommon,
		"qwertyuiopasdfghjkl":                 PasswordCommon,
		"abcdefghijklmnop":                    PasswordCommon,
		"azertyuiopqsdfghjklm":                PasswordCommon,
		"abcabcabcabcabcabc":                  PasswordCommon,
		"correct horse battery staple":        PasswordCommon,
		"CorrectHorseBatteryStaple1":          PasswordCommon,
		"administrator2026!":                  PasswordCommon,
		"motdepasse123456":                    PasswordCommon,
		"letmeinletmein!!":                    PasswordCommon,
		"counterfoil-admin-1":                 PasswordCommon,
		"liverpool-chelsea-1":                 PasswordCommon,
		"Manchester99United!":                 PasswordCommon,
		"butterfly.elephant.7":                PasswordCommon,
		"ch3ls34.l1v3rp00l":                   PasswordCommon,
		"sunflower kettle nervous":            0,
		"I am Ada Lovelace, hello there":      PasswordHasName,
	} {
		err := choose("ada lovelace", normal(password))
		var choice ChoiceError
		if errors.As(err, &choice); choice.Why != want {
			t.Errorf("%q: %v, want %d", password, err, want)
		}
	}
	for name, want := range map[string]Choice{"": NameLength, "ab": NameLength, "abc": 0, strings.Repeat("x", 65): NameLength, "a\x00bc": NameLength, strings.Repeat("é", 64): 0} {
		err := choose(foldName(name), "four unrelated words, here")
		var choice ChoiceError
		if errors.As(err, &choice); choice.Why != want {
			t.Errorf("%q: %v, want %d", name, err, want)
		}
	}
}

// AUTH-PW-01: the list is the one it is said to be.
func TestThousandsOfLeakedPasswordsAreRefused(t *testing.T) {
	set, err := leaked()
	if err != nil || len(set) < 5000 {
		t.Fatalf("%d leaked passwords are known, %v", len(set), err)
	}
	for p := range set {
		if len(p) < 4 {
			continue
		}
		if bad, err := guessed(strings.ToUpper(p)); err != nil || !bad {
			t.Fatalf("%q is not refused, %v", p, err)
		}
	}
}

func TestAPasswordIsTheSameFromEveryKeyboard(t *testing.T) {
	h := newHasher()
	hash, err := h.make(t.Context(), normal("e\u0301le\u0301phant a\u0300 ve\u0301lo"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=65536,t=3,p=4$") {
		t.Errorf("the hash begins %.40s", hash)
	}
	for password, want := range map[string]bool{"éléphant à vélo": true, "elephant a velo": false, "": false, "éléphant à vél": false} {
		if ok, err := h.check(t.Context(), hash, normal(password)); ok != want || err != nil {
			t.Errorf("%q: %t, %v", password, ok, err)
		}
	}
	if again, err := h.make(t.Context(), "éléphant à vélo"); err != nil || again == hash {
		t.Errorf("two hashes of one password are equal, %v", err)
	}
}

func TestADamagedHashLetsNobodyIn(t *testing.T) {
	h := newHasher()
	good, err := h.make(t.Context(), "whatever it may be")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, "$")
	for _, hash := range []string{"x", "$argon2id$", "$argon2i" + good[9:], "$argon2id$v=18$" + strings.Join(parts[3:], "$"), good[:len(good)-4], "$argon2id$v=19$m=65536,t=0,p=4$" + parts[4] + "$" + parts[5], "$argon2id$v=19$m=65536,t=3,p=4$" + parts[4] + "$"} {
		if ok, err := h.check(t.Context(), hash, "whatever it may be"); ok || err == nil {
			t.Errorf("%.40s is taken: %t, %v", hash, ok, err)
		}
	}
	if ok, err := h.check(t.Context(), "", ""); ok || err != nil {
		t.Errorf("nobody's password: %t, %v", ok, err)
	}
}

func FuzzChoose(f *testing.F) {
	f.Add("ada", "four unrelated words, here")
	f.Add("", "\xff\xfe")
	f.Fuzz(func(t *testing.T, name, password string) {
		name, password = foldName(name), normal(password)
		if foldName(name) != name || normal(password) != password {
			t.Errorf("%q or %q has two forms", name, password)
		}
		_ = choose(name, password)
	})
}
