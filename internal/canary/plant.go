package canary

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// ErrSilent says that the service does not answer.
var ErrSilent = errors.New("the service does not answer")

// request is one way in which a stranger can put something into the service.
type request struct {
	method, path string
	header       map[string]string
	body         []byte
}

// Plant sends the people of a search to the service, in requests that it refuses: nothing is opened, nobody is told, and nobody signs in. It
// gives how many were answered. public and console are where the service listens.
func Plant(ctx context.Context, client *http.Client, public, console string, people map[string]string) (answered int, err error) {
	name, email, message := people["a visitor's given name"], people["a visitor's email"], people["a visitor's message"]
	agent, agentEmail := people["an agent's name"], people["an agent's email"]
	object := func(members map[string]any) []byte {
		b, err := json.Marshal(members)
		if err != nil {
			panic(err) // strings always can be
		}
		return b
	}
	asJSON := map[string]string{"Content-Type": "application/json"}
	opening := map[string]any{"client_id": "00000000-0000-4000-8000-000000000001", "text": message, "language": "en", "notice_version": "none such", "name": name, "email": email}
	claims := base64.RawURLEncoding.EncodeToString(object(map[string]any{"name": agent, "upn": agentEmail}))
	activity := object(map[string]any{"type": "message", "text": message, "from": map[string]any{"id": agentEmail, "name": agent, "aadObjectId": agent}})
	odd := map[string]string{"User-Agent": name, "Referer": "https://site.example/?who=" + url.QueryEscape(email), "X-Forwarded-For": email, "Cookie": "__Host-session=" + url.QueryEscape(name), "Accept-Language": message}
	for edge, requests := range map[string][]request{
		public: {
			{http.MethodPost, "/v1/widgets/" + strings.Repeat("a", 22) + "/conversations", asJSON, object(opening)},
			{http.MethodPost, "/v1/widgets/" + url.PathEscape(email) + "/conversations", asJSON, object(opening)},
			{http.MethodPost, "/v1/widgets/x/conversations", asJSON, append(object(opening), "trailing "+message...)},
			{http.MethodPost, "/v1/widgets/x/conversations", asJSON, object(map[string]any{name: email})},
			{http.MethodPost, "/v1/widgets/x/conversations", map[string]string{"Content-Type": message}, []byte(name + "\x00" + email)},
			{http.MethodPost, "/v1/conversation/messages", map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + email}, object(map[string]any{"client_id": name, "text": message})},
			{http.MethodGet, "/v1/conversation/events", map[string]string{"Authorization": "Bearer " + base64.RawURLEncoding.EncodeToString([]byte(name)), "Last-Event-ID": email}, nil},
			{http.MethodGet, "/" + url.PathEscape(name) + "?email=" + url.QueryEscape(email), odd, nil},
			{http.MethodPost, "/teams/messages", map[string]string{"Content-Type": "application/json", "Authorization": "Bearer eyJhbGciOiJSUzI1NiJ9." + claims + ".c2lnbmF0dXJl"}, activity},
			{http.MethodPost, "/teams/messages", asJSON, activity},
			{"PATCH", "/v1/conversation?name=" + url.QueryEscape(name), odd, []byte(message)},
		},
		console: {
			{http.MethodGet, "/events?q=" + url.QueryEscape(`subject:"`+name+`"`), odd, nil},
			{http.MethodGet, "/api/v1/records?q=" + url.QueryEscape(email), map[string]string{"Authorization": "Bearer " + email}, nil},
			{http.MethodPost, "/sign-in", map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
				[]byte(url.Values{"name": {people["an administrator"]}, "password": {people["a password"]}}.Encode())},
			{http.MethodGet, "/set-up/" + url.PathEscape(people["an administrator"]), odd, nil},
			{http.MethodPost, "/violations", map[string]string{"Content-Type": "application/csp-report"}, object(map[string]any{"csp-report": map[string]any{"blocked-uri": email, "violated-directive": "style-src", "script-sample": name}})},
		},
	} {
		for _, q := range requests {
			if edge == "" {
				continue
			}
			r, err := http.NewRequestWithContext(ctx, q.method, edge+q.path, bytes.NewReader(q.body))
			if err != nil {
				return answered, fmt.Errorf("plant canaries: %w", err)
			}
			for k, v := range q.header {
				r.Header.Set(k, v)
			}
			resp, err := client.Do(r)
			if err != nil {
				return answered, fmt.Errorf("plant canaries at %s: %w", edge, ErrSilent)
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // what it says is not kept
			_ = resp.Body.Close()
			answered++
		}
	}
	return answered, nil
}
