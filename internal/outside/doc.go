// Package outside holds our logs against programs that others wrote: tessera's fsck reads whole exports, torchwood's spicy
// checks single records, and torchwood's litewitness decides whether one checkpoint continues another. What it promises:
// they accept what is good, at every size where tiles begin and end, and refuse what was altered, rolled back or forked.
//
// Its tests install those programs, so they have the build tag outside and are run by make test-outside.
package outside
