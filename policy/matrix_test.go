package policy

import (
	"bytes"
	"testing"
)

func TestMatrixIsGolden(t *testing.T) {
	var table bytes.Buffer
	if err := Matrix(&table, newEngine(t)); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/matrix.golden", table.Bytes())
}
