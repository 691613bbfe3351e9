package signin

import (
	"encoding/json"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
)

// Question is what one administrator's security key is asked: to be registered, and who is there. The options are as a browser gets them.
type Question struct {
	web                  *webauthn.WebAuthn
	holder               holder
	register, login      webauthn.SessionData
	Register, WhoIsThere string
}

// NewQuestion asks one of whom no key is known yet.
func NewQuestion(address string) (Question, error) {
	q := Question{web: newRelyingParty(address), holder: holder{id: uuid.New(), handle: "admin"}}
	creation, session, err := q.web.BeginRegistration(q.holder)
	if err != nil {
		return q, err
	}
	b, err := json.Marshal(creation.Response)
	q.register, q.Register = *session, string(b)
	return q, err
}

// Registers reports whether an answer registers a key.
func (q Question) Registers(response string) bool {
	_, err := registered(q.web, q.holder, q.register, response)
	return err == nil
}

// Registered goes on with the key that an answer registers, which is asked who is there.
func (q Question) Registered(response string) (Question, error) {
	credential, err := registered(q.web, q.holder, q.register, response)
	if err != nil {
		return q, err
	}
	q.holder.keys = []passkey{{Credential: *credential}}
	assertion, session, err := q.web.BeginLogin(q.holder)
	if err != nil {
		return q, err
	}
	b, err := json.Marshal(assertion.Response)
	q.login, q.WhoIsThere = *session, string(b)
	return q, err
}

// Proves reports whether an answer says that the key's owner is there.
func (q Question) Proves(response string) bool {
	_, err := proved(q.web, q.holder, q.login, response)
	return err == nil
}
