// Package lint holds the tests that keep the architecture true: which package may import which, what must not compile,
// and that every claim made in SECURITY.md is held by a test. The house vet tool is in a module of its own below it.
package lint
