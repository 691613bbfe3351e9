// Package bench holds the figures the product promises, each measured beside its floor in the same run. Absolute rates
// are those of the machine and of whatever else it does; the ratios (units that begin with "x/") are what a promise can
// be held to.
//
// Its server commits to a real disk with fsync. It holds nothing but benchmarks.
package bench
