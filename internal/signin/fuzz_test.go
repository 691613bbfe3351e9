package signin_test

import (
	"strings"
	"testing"

	"counterfoil/internal/signin"
)

// What a security key answers comes from a browser, as nested JSON, base64, CBOR and ASN.1. Whatever it is, it ends without a panic, and proves nothing unless the
// key signed exactly what was asked.
func FuzzWhatASecurityKeyAnswers(f *testing.F) {
	key := newKey(&testing.T{})
	asked, err := signin.NewQuestion(console)
	if err != nil {
		f.Fatal(err)
	}
	made := key.make(asked.Register)
	if asked, err = asked.Registered(made); err != nil {
		f.Fatal(err)
	}
	right := key.get(asked.WhoIsThere)
	if !asked.Proves(right) {
		f.Fatal("a right answer proves nothing: the target shows nothing")
	}
	f.Add(made)
	f.Add(key.get(asked.Register)) // to another question
	f.Add(strings.Replace(made, "attestationObject", "authenticatorData", 1))
	f.Add(`{"id":"","rawId":"","type":"public-key","response":{}}`)
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVgA"}}`)
	f.Fuzz(func(t *testing.T, response string) {
		asked.Registers(response)
		if asked.Proves(response) {
			t.Errorf("nobody signed this: %q", response)
		}
	})
}
