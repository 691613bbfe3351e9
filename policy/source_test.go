package policy_test

import (
	"io/fs"
	"strings"
	"testing"

	"counterfoil/policy"
)

func TestAnAuditorReadsEveryLineOfThePolicyUnderItsTitle(t *testing.T) {
	e, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chapters, err := e.Source()
	if err != nil {
		t.Fatal(err)
	}
	rules := make(map[string]policy.Clause)
	for _, c := range chapters {
		b, err := fs.ReadFile(policy.Bundle(), c.Path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(c.Path, "_test.rego") {
			t.Errorf("%s decides nothing", c.Path)
		}
		var shown strings.Builder
		for _, clause := range c.Clauses {
			if clause.Title == "" || clause.Description == "" || clause.Text == "" {
				t.Errorf("%s:%d has no title, no description or no text", c.Path, clause.Line)
			}
			if line := strings.Split(string(b), "\n")[clause.Line-1]; line != strings.Split(clause.Text, "\n")[0] {
				t.Errorf("%s:%d is not %q", c.Path, clause.Line, clause.Text)
			}
			shown.WriteString(clause.Text + "\n")
			if clause.Rule != "" {
				rules[clause.Rule] = clause
			}
		}
		for line := range strings.Lines(string(b)) {
			code := strings.TrimRight(line, "\n")
			if code == "" || strings.HasPrefix(code, "#") || strings.HasPrefix(code, "package ") || strings.HasPrefix(code, "import ") {
				continue
			}
			if !strings.Contains(shown.String(), code+"\n") {
				t.Errorf("%s: nobody is shown %q", c.Path, code)
			}
		}
		if n := strings.Count(string(b), `"rule": "`); n > 0 && !strings.HasPrefix(c.Package, "counterfoil.purposes.") {
			t.Errorf("%s permits %d things", c.Path, n)
		}
	}
	if got := rules["read_audit_log.admin"]; got.Title != "Administrator" || len(got.Statements) != 1 || got.Statements[0] != "SEED-ORG-3" || !strings.Contains(got.Text, "admin.with_totp") {
		t.Errorf("%+v", got)
	}
	if len(rules) < 20 {
		t.Errorf("only %d rules permit something", len(rules))
	}
}

func TestWhatIsTriedIsNotAskedOfTheCandidate(t *testing.T) {
	e, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if candidate, _ := e.Candidate(); candidate != nil {
		t.Error("there is a candidate")
	}
	other, err := policy.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shadow := e.Beside(other)
	go shadow.Run(t.Context())
	in := policy.Input{Purpose: policy.ReadAuditLog, Audience: "console", Fields: []string{}, Actor: policy.Actor{Kind: "operator", Organisation: "o", Address: "none"}, Subject: policy.Subject{Organisation: "o"}}
	a, err := e.Try(t.Context(), in)
	if err != nil || a.Outcome != policy.Allow || a.Rule != "read_audit_log.operator" || a.Revision != e.Revision() {
		t.Errorf("%+v, %v", a, err)
	}
	in.Subject.Organisation = "p"
	b, err := e.Try(t.Context(), in)
	if err != nil || b.Outcome != policy.Deny || !a.Flips(b) || a.Flips(a) {
		t.Errorf("%+v, %v", b, err)
	}
	if candidate, r := e.Candidate(); candidate != other || r.Asked != 0 {
		t.Errorf("the candidate was asked %d times", r.Asked)
	}
}
