package policy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

func TestRegoTestsPassAndReachEveryLine(t *testing.T) {
	var report bytes.Buffer
	passed, failed, coverage, err := Test(t.Context(), Bundle(), &report)
	if err != nil {
		t.Fatal(err)
	}
	if passed < 40 || failed != 0 || coverage != 100 {
		t.Errorf("%d passed, %d failed, %.1f %% covered:\n%s", passed, failed, coverage, &report)
	}
}

func TestAFailingRegoTestIsCountedAndNamed(t *testing.T) {
	var report bytes.Buffer
	bundle := withFile(t, "extra_test.rego", "package test.extra\n\ntest_that_fails if 1 == 2\n")
	_, failed, _, err := Test(t.Context(), bundle, &report)
	if err != nil || failed != 1 || !strings.Contains(report.String(), "extra_test.rego:3") {
		t.Errorf("%d failed, %v:\n%s", failed, err, &report)
	}
}

func TestARuleWithoutTestLowersTheCoverage(t *testing.T) {
	var report bytes.Buffer
	bundle := withFile(t, "extra.rego", "package counterfoil.extra\n\nunused := 1 if input.actor.kind == \"job\"\n")
	_, failed, coverage, err := Test(t.Context(), bundle, &report)
	if err != nil || failed != 0 || coverage >= 100 || !strings.Contains(report.String(), "extra.rego:3: not covered") {
		t.Errorf("%d failed, %.1f %%, %v:\n%s", failed, coverage, err, &report)
	}
}

func TestRegoIsFormatted(t *testing.T) {
	files, err := readBundle(Bundle())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		want, err := format.Source(file.path, file.text)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "rego/"+file.path, want)
	}
}

func TestEveryRuleSaysWhatItMeans(t *testing.T) {
	files, err := readBundle(Bundle())
	if err != nil {
		t.Fatal(err)
	}
	modules, err := parse(files, false)
	if err != nil {
		t.Fatal(err)
	}
	for path, module := range modules {
		for _, rule := range module.Rules {
			said := slices.ContainsFunc(rule.Annotations, func(a *ast.Annotations) bool {
				return a.Title != "" && a.Description != ""
			})
			if !said {
				t.Errorf("%s:%d: %s has no title or no description", path, rule.Location.Row, rule.Head.Ref())
			}
		}
	}
}

// The statements of the attestation that a decision can make true, each by a rule that names it.
func TestEveryStatementThatADecisionCanHoldHasARule(t *testing.T) {
	files, err := readBundle(Bundle())
	if err != nil {
		t.Fatal(err)
	}
	modules, err := parse(files, false)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, module := range modules {
		for _, rule := range module.Rules {
			for _, a := range rule.Annotations {
				statements, _ := a.Custom["statements"].([]any)
				for _, statement := range statements {
					named = append(named, statement.(string))
				}
			}
		}
	}
	slices.Sort(named)
	want := []string{
		"SEED-BOT-1", "SEED-BOT-2", "SEED-BOT-3", "SEED-ORG-1", "SEED-ORG-2", "SEED-ORG-3", "SEED-ORG-4", "SEED-ORG-6", "SEED-ORG-7", "SEED-TEL-1", "SEED-TEL-2",
	}
	if got := slices.Compact(named); !slices.Equal(got, want) {
		t.Errorf("rules name the statements %q, want %q", got, want)
	}
}

func TestRevisionChangesWith(t *testing.T) {
	files, err := readBundle(Bundle())
	if err != nil {
		t.Fatal(err)
	}
	before := revision(files)
	if len(before) != 16 {
		t.Errorf("revision is %q", before)
	}
	changed := func(name, text string) bool {
		files, err := readBundle(withFile(t, name, text))
		if err != nil {
			t.Fatal(err)
		}
		return revision(files) != before
	}
	if !changed("converse.rego", "package counterfoil.purposes.converse\n") {
		t.Error("another text has the same revision")
	}
	if !changed("new.rego", "") {
		t.Error("another file has the same revision")
	}
	if changed("decision_test.rego", "package test.decision\n") {
		t.Error("a test changes the revision")
	}
}
