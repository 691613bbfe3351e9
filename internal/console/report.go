package console

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
)

var errReport = errors.New("this is no report of a violation")

// directiveName is what the name of a policy's directive looks like; nothing else of a report is kept, for the rest is
// addresses and text of pages.
var directiveName = regexp.MustCompile(`^[a-z]{2,20}(-[a-z]{1,20}){0,4}$`)

// directive reads which directive of its policy a page violated, from what browsers send to a report-uri.
func directive(body []byte) (string, error) {
	var report struct {
		Body struct {
			Effective string `json:"effective-directive"`
		} `json:"csp-report"`
	}
	if json.Unmarshal(body, &report) != nil || !directiveName.MatchString(report.Body.Effective) {
		return "", errReport
	}
	return report.Body.Effective, nil
}

// violation notes that a page did what its policy forbids: it was injected into, or is wrong.
func (s *Server) violation(w http.ResponseWriter, r *http.Request, _ visit) {
	w.WriteHeader(http.StatusNoContent)
	if !s.reports.Allow() {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if name, err := directive(body); err == nil {
		s.cfg.Logger.WarnContext(r.Context(), "a page of the console violated its content security policy", "directive", name)
	}
}
