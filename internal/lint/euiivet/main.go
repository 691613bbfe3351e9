// Command euiivet is the house vet tool: it keeps the few functions that make end-user identifiable information readable
// to the packages they are meant for, and what they give out of logs, errors and spans.
//
// It is run by go vet -vettool and has a module of its own, so that what it is built with stays out of the product's.
package main

import "golang.org/x/tools/go/analysis/unitchecker"

func main() { unitchecker.Main(analyzer) }
