package policy

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Chapter is one file of a policy as an auditor reads it.
type Chapter struct {
	Path, Package, Title, Description string
	Clauses                           []Clause
}

// Clause is one rule, or several under one title.
type Clause struct {
	Title, Description string
	Statements         []string // of the attestation, which it holds
	Line               int      // where it begins
	Text               string
	Rule               string // by which decisions and records name it; empty of a rule that permits nothing
}

// named is how a rule that permits says its name.
var named = regexp.MustCompile(`"rule":\s*"([a-z0-9_.]+)"`)

// chapters parses the files that decide once more, for people. What has no title is under none.
func chapters(files []sourceFile) ([]Chapter, error) {
	modules, err := parse(files, false)
	if err != nil {
		return nil, err
	}
	var all []Chapter
	for _, file := range files {
		module, ok := modules[file.path]
		if !ok {
			continue
		}
		lines := strings.Split(strings.TrimRight(string(file.text), "\n"), "\n")
		c := Chapter{Path: file.path, Package: strings.TrimPrefix(module.Package.Path.String(), "data.")}
		notes := slices.Clone(module.Annotations)
		slices.SortFunc(notes, func(a, b *ast.Annotations) int { return cmp.Compare(a.Location.Row, b.Location.Row) })
		for i, note := range notes {
			end := len(lines)
			if i+1 < len(notes) {
				end = notes[i+1].Location.Row - 1
			}
			if note.Scope == "package" {
				c.Title, c.Description = note.Title, note.Description
				continue
			}
			begin := min(note.EndLoc().Row, end)
			clause := Clause{Title: note.Title, Description: note.Description, Statements: statements(note), Line: begin + 1, Text: strings.Trim(strings.Join(lines[begin:end], "\n"), "\n")}
			if m := named.FindStringSubmatch(clause.Text); m != nil {
				clause.Rule = m[1]
			}
			c.Clauses = append(c.Clauses, clause)
		}
		if len(c.Clauses) == 0 {
			c.Clauses = []Clause{{Line: 1, Text: strings.Join(lines, "\n")}}
		}
		all = append(all, c)
	}
	return all, nil
}

// statements are those that a rule says it holds.
func statements(note *ast.Annotations) []string {
	var all []string
	list, _ := note.Custom["statements"].([]any)
	for _, s := range list {
		all = append(all, fmt.Sprint(s))
	}
	return all
}

// Source is the policy as an auditor reads it: the files that decide, in the order of their paths.
func (e *Engine) Source() ([]Chapter, error) { return chapters(e.program.Load().files) }

// Answer is what a policy would say. It is no Decision: nothing is released for it.
type Answer struct {
	Outcome  Outcome
	Rule     string
	Masked   []string
	Reasons  []string
	Revision string
}

// Flips reports whether two answers would release different things.
func (a Answer) Flips(b Answer) bool {
	return a.Outcome != b.Outcome || !slices.Equal(a.Masked, b.Masked)
}

// Try answers a question that nobody asks in earnest. A candidate beside e is not asked it.
func (e *Engine) Try(ctx context.Context, in Input) (Answer, error) {
	d, err := e.decide(ctx, in)
	return Answer{d.Outcome(), d.Rule(), d.Masked(), d.Reasons(), d.Revision()}, err
}

// Candidate is the engine that is asked beside e, and what it has come to; nil while there is none.
func (e *Engine) Candidate() (*Engine, Report) {
	s := e.shadow.Load()
	if s == nil {
		return nil, Report{}
	}
	return s.candidate, s.Report()
}

// Values are what a member of the question may be, where that is a closed list: "actor.kind", for example.
func Values(member string) []string { return slices.Clone(closed()[member]) }
