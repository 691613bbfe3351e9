// Package playground proves the Teams side against a client that is not ours: Microsoft's own playground. Its test
// has a build tag, because it needs root, npm and a network namespace; run.sh prepares them.
package playground
