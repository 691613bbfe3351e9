// Package peer measures the log alone beside tessera, the library of transparency logs, on the same disk in the same run. It is a module
// of its own, so that what tessera needs stays out of the product's.
package peer
