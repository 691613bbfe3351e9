package console

import (
	"bytes"
	"testing"
)

func TestOfAReportOnlyTheDirectiveIsRead(t *testing.T) {
	for body, want := range map[string]string{
		`{"csp-report":{"document-uri":"http://127.0.0.1/","effective-directive":"style-src-elem","blocked-uri":"inline","script-sample":"secret"}}`: "style-src-elem",
		`{"csp-report":{"effective-directive":"default-src"}}`:        "default-src",
		`{"csp-report":{"effective-directive":"Vera Visitor"}}`:       "",
		`{"csp-report":{"effective-directive":"style-src http://x"}}`: "",
		`{"csp-report":{"violated-directive":"style-src"}}`:           "",
		`{"csp-report":[]}`: "", `[]`: "", ``: "", `null`: "", "\xff": "",
	} {
		if got, err := directive([]byte(body)); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
}

func FuzzDirective(f *testing.F) {
	f.Add([]byte(`{"csp-report":{"effective-directive":"style-src-elem"}}`))
	f.Add([]byte(`{"csp-report":{"effective-directive":"a b"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		name, err := directive(body)
		if (err == nil) != (name != "") || len(name) > 104 || bytes.ContainsAny([]byte(name), " \n\t\"=.@/") {
			t.Errorf("%q, %v", name, err)
		}
	})
}
