package widget

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"strings"

	"counterfoil/internal/web"
)

type demoData struct {
	Key, Frame, StandIn, Nonce string
	French                     bool
}

// Demo is the website of a company that does not exist, with a widget on it. frameOrigin is where the widget is served;
// it should differ from the page's own origin, as it does on a real website. standIn is the address of the page on which
// one plays the agent; empty when there is none. The page has the strictest policy a website can have, so that it also
// shows that the loader needs no exception but a frame-src.
func Demo(key, frameOrigin, standIn string) (http.Handler, error) {
	a, err := loadAssets()
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce := rand.Text()
		var page bytes.Buffer
		if err := a.demo.Execute(&page, demoData{key, frameOrigin, standIn, nonce, wantsFrench(r)}); err != nil {
			web.Problem(w, http.StatusInternalServerError, "internal", "the page could not be made")
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"' 'strict-dynamic'; style-src 'nonce-"+nonce+"'; "+
			"frame-src "+frameOrigin+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "+
			"require-trusted-types-for 'script'; trusted-types 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		_, _ = w.Write(page.Bytes()) // whoever asked may have gone
	}), nil
}

// wantsFrench is the choice in the address, or else the first language of the browser.
func wantsFrench(r *http.Request) bool {
	if lang := r.URL.Query().Get("lang"); lang != "" {
		return lang == "fr"
	}
	return strings.HasPrefix(strings.ToLower(r.Header.Get("Accept-Language")), "fr")
}
