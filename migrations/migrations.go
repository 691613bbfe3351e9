// Package migrations holds the numbered SQL files that make the database. They only go forward: an applied file never changes.
package migrations

import "embed"

// FS holds the files, named NNNN_name.sql.
//
//go:embed *.sql
var FS embed.FS

// Catalog is what the files make, as the doctor lists it.
//
//go:embed catalog.golden
var Catalog string
