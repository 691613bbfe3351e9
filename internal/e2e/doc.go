// Package e2e tries the whole product as its users do: the built program with its own PostgreSQL, the demonstration
// website and the Teams stand-in in a real browser. What it promises: whoever runs its tests sees the same as a visitor,
// an agent and an auditor would, and a test ends badly if any page on the way breaks its security policy, writes an error
// to its console, or asks a foreign host for anything.
package e2e
