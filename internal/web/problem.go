package web

import (
	"encoding/json"
	"net/http"
)

// Problem answers with a problem document (RFC 9457). code is a stable word for programs, detail a sentence for people that
// says what to do; neither ever repeats what was sent.
func Problem(w http.ResponseWriter, status int, code, detail string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail,omitempty"`
	}{"about:blank", http.StatusText(status), status, code, detail})
}
