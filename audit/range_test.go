package audit_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"counterfoil/audit"
)

func TestARangeIsHeldAgainstTheSignedRoot(t *testing.T) {
	s, all, dir := testSigner(t, 1, origin), history(t, 600, 0), t.TempDir()
	if err := keeping(t, dir, s, all, -1); err != nil {
		t.Fatal(err)
	}
	c := audit.Checkpoint{Origin: origin, Size: 600, Root: rootOf(all)}
	tiles := audit.DirTiles(os.DirFS(dir))
	changed := func(i int, to []byte) [][]byte {
		other := slices.Clone(all)
		other[i] = to
		return other
	}
	swapped := slices.Clone(all)
	swapped[300], swapped[301] = swapped[301], swapped[300]
	other := history(t, 600, 5)
	for name, tt := range map[string]struct {
		from, to uint64
		entries  [][]byte
		read     audit.TileReader
		want     audit.FaultKind
		at       int64
	}{
		"all of it":           {0, 600, all, tiles, "", 0},
		"some of it":          {10, 400, all, tiles, "", 0},
		"one record":          {599, 600, all, tiles, "", 0},
		"none":                {7, 7, all, tiles, "", 0},
		"a changed record":    {200, 400, changed(270, other[270]), tiles, audit.Changed, 270},
		"one outside of it":   {200, 270, changed(270, other[270]), tiles, "", 0},
		"swapped records":     {256, 512, swapped, tiles, audit.Gap, 300},
		"no record":           {200, 400, changed(270, []byte("{}")), tiles, audit.NotCanonical, 270},
		"the end is missing":  {500, 600, all[:550], tiles, audit.Truncated, 550},
		"another history":     {0, 300, other, tiles, audit.Changed, 0},
		"a changed tile":      {0, 256, all, bent(tiles, 1), audit.CorruptTile, 0},
		"a tile that is torn": {0, 256, all, bent(tiles, 0), audit.CorruptTile, 0},
	} {
		done := uint64(0)
		faults, err := audit.VerifyRange(t.Context(), c, tt.read, tt.from, tt.to, from(tt.entries, tt.from), func(n, of uint64) { done = n })
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want == "" && (len(faults) > 0 || done != tt.to-tt.from):
			t.Errorf("%s: %v, %d done", name, faults, done)
		case tt.want != "" && (len(faults) == 0 || !slices.ContainsFunc(faults, func(f audit.Fault) bool { return f.Kind == tt.want && f.Index == tt.at })):
			t.Errorf("%s: %v", name, faults)
		}
	}
	if _, err := audit.VerifyRange(t.Context(), c, tiles, 0, 601, from(all, 0), nil); err == nil || !strings.Contains(err.Error(), "the log has 600") {
		t.Errorf("more than there is: %v", err)
	}
	gone := errors.New("gone")
	if _, err := audit.VerifyRange(t.Context(), c, func(int, uint64, int) ([]byte, error) { return nil, gone }, 0, 1, from(all, 0), nil); !errors.Is(err, gone) {
		t.Errorf("what cannot be read: %v", err)
	}
}

// bent gives tiles with a byte changed, or without their last bytes.
func bent(read audit.TileReader, by byte) audit.TileReader {
	return func(level int, index uint64, width int) ([]byte, error) {
		data, err := read(level, index, width)
		if err == nil && level == 0 {
			data = bytes.Clone(data)
			data[0] ^= by
			if by == 0 {
				data = data[:len(data)-1]
			}
		}
		return data, err
	}
}
