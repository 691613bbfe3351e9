// Package faults breaks everything a disclosure leans on, again and again while two nodes disclose, and holds what came
// out against what is recorded: whatever breaks, nothing is released without its record, nothing acknowledged is lost or
// doubled, and the nodes recover by themselves.
//
// It holds nothing but tests. `make test` runs one short round, `make soak` rounds for half an hour.
package faults
