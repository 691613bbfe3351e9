package main

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// The packages under testdata bear a "want" comment on each line that must be found, and nothing else may be found.
func TestFindings(t *testing.T) {
	const ours = "counterfoil/internal/"
	analysistest.Run(t, analysistest.TestData(), analyzer,
		ours+"access/euii", ours+"access/internal/grant", ours+"access", ours+"access/keyring",
		ours+"relay", ours+"widget", ours+"bot")
}
