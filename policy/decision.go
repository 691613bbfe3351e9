package policy

import "slices"

// Outcome is what a decision comes to.
type Outcome string

// The outcomes. A masked release is a release: it is recorded like any other.
const (
	Allow  Outcome = "allow"
	Masked Outcome = "masked"
	Deny   Outcome = "deny"
)

// Decision is evidence that policy was asked and what it answered. Only an
// Engine makes one that allows; the zero Decision denies.
type Decision struct {
	outcome     Outcome
	rule        string
	masked      []string
	reasons     []string
	obligations []string
	revision    string
	input       Input
}

// Outcome says whether the fields may be released, and how.
func (d Decision) Outcome() Outcome {
	if d.Allowed() {
		return d.outcome
	}
	return Deny
}

// Allowed reports whether anything may be released, in plain or masked.
func (d Decision) Allowed() bool { return d.outcome == Allow || d.outcome == Masked }

// Masked returns the fields that may only be shown masked, sorted.
func (d Decision) Masked() []string { return slices.Clone(d.masked) }

// Rule returns the path of the rule that decided, such as
// "show_agent_to_visitor.own_conversation". Of the zero Decision it is
// "default.deny".
func (d Decision) Rule() string {
	if d.rule == "" {
		return defaultDeny
	}
	return d.rule
}

// Reasons returns the codes of everything that speaks against, sorted; none
// when the decision allows.
func (d Decision) Reasons() []string { return slices.Clone(d.reasons) }

// Obligations returns what whoever acts on the decision must do, sorted, such
// as "first_line" or "renew_hourly".
func (d Decision) Obligations() []string { return slices.Clone(d.obligations) }

// Revision names the bundle that decided.
func (d Decision) Revision() string { return d.revision }

// Input returns a copy of the question.
func (d Decision) Input() Input { return d.input.clone() }

const defaultDeny = "default.deny"
