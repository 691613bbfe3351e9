package standin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	metadataPath = "/botframework/.well-known/openidconfiguration"
	keysPath     = "/botframework/.well-known/keys"
	loginPath    = "" // the host alone, as at Microsoft
	botScope     = "https://api.botframework.com/.default"
	// sharedTenant is the authority of bots that are not bound to one tenant.
	sharedTenant = "botframework.com"
	maxForm      = 64 << 10
)

func (s *Server) identityRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+metadataPath, func(w http.ResponseWriter, _ *http.Request) {
		s.count(CallMetadata)
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer":                                s.cfg.Issuer,
			"jwks_uri":                              s.base + keysPath,
			"authorization_endpoint":                "https://invalid.botframework.com",
			"id_token_signing_alg_values_supported": []string{"RS256"},
			"token_endpoint_auth_methods_supported": []string{"private_key_jwt"},
		})
	})
	mux.HandleFunc("GET "+keysPath, func(w http.ResponseWriter, _ *http.Request) {
		s.count(CallKeys)
		writeJSON(w, http.StatusOK, map[string]any{"keys": []jwk{s.publicJWK()}})
	})
	mux.HandleFunc("POST "+loginPath+"/{tenant}/oauth2/v2.0/token", s.token)
}

// token is the client credentials grant (RFC 6749 §4.4), with the refusals of Microsoft Entra.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.count(CallToken)
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.refuseToken(w, http.StatusBadRequest, "invalid_request", 900144, "The request body must be a form.")
		return
	}
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	tenant := r.PathValue("tenant")
	switch {
	case tenant != s.cfg.TenantID && tenant != sharedTenant:
		s.refuseToken(w, http.StatusBadRequest, "invalid_request", 90002, "Tenant not found.")
	case r.PostForm.Get("grant_type") != "client_credentials":
		s.refuseToken(w, http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
	case id != s.cfg.AppID:
		s.refuseToken(w, http.StatusUnauthorized, "unauthorized_client", 700016, "Application was not found in the directory.")
	case subtle.ConstantTimeCompare([]byte(secret), []byte(s.cfg.AppSecret)) != 1:
		s.refuseToken(w, http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided.")
	case r.PostForm.Get("scope") != botScope:
		s.refuseToken(w, http.StatusBadRequest, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid.")
	default:
		s.grantToken(w)
	}
}

func (s *Server) grantToken(w http.ResponseWriter) {
	now := s.cfg.Now()
	token, err := s.sign(claims{
		Issuer: "https://sts.windows.net/" + s.cfg.TenantID + "/", Audience: botAudience,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(tokenLife).Unix(),
		AppID: s.cfg.AppID, TenantID: s.cfg.TenantID,
	})
	if err != nil {
		s.cfg.Logger.Error("stand-in could not sign a token", "error", err)
		http.Error(w, "token could not be signed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type":     "Bearer",
		"expires_in":     int(tokenLife / time.Second),
		"ext_expires_in": int(tokenLife / time.Second),
		"access_token":   token,
	})
}

func (s *Server) refuseToken(w http.ResponseWriter, status int, code string, number int, text string) {
	now := s.cfg.Now().UTC()
	trace := rand.Text()
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, status, map[string]any{
		"error": code,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Timestamp: %s",
			number, text, trace, now.Format("2006-01-02 15:04:05Z")),
		"error_codes":    []int{number},
		"timestamp":      now.Format("2006-01-02 15:04:05Z"),
		"trace_id":       trace,
		"correlation_id": trace,
	})
}

// writeJSON answers with body. A client that has gone away is no error of ours.
func writeJSON(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}
