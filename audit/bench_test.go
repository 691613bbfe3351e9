package audit_test

import (
	"crypto/sha256"
	"runtime"
	"syscall"
	"testing"
	"time"

	"counterfoil/audit"
)

// cpu returns the processor time this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkVerifyExport gives records per processor second of a whole verification, those of the SHA-256 alone that it
// cannot do without (each leaf and one inner node per record), and the ratio of the two, from alternating rounds.
func BenchmarkVerifyExport(b *testing.B) {
	const n = 200_000
	dir, s := b.TempDir(), testSigner(b, 1, origin)
	all := history(b, n, 0)
	export(b, dir, s, all)
	for i := range all {
		all[i] = append([]byte{0}, all[i]...)
	}
	fsys := audit.Files(dir)
	var size int
	var verifying, hashing time.Duration
	rounds := 0
	runtime.GC() // what came before is not to be paid for below
	for b.Loop() {
		start := cpu(b)
		r, err := audit.VerifyExport(b.Context(), fsys, audit.Options{Key: s.VerifierKey()})
		if err != nil || len(r.Faults) > 0 || r.Records != n {
			b.Fatalf("%v, %+v", err, r.Faults)
		}
		size = int(r.Bytes / n)
		middle := cpu(b)
		var pair [65]byte
		for _, e := range all {
			h := sha256.Sum256(e)
			copy(pair[1:], h[:])
			h = sha256.Sum256(pair[:])
			copy(pair[33:], h[:])
		}
		verifying, hashing = verifying+middle-start, hashing+cpu(b)-middle
		rounds++
	}
	records := float64(n * rounds)
	b.ReportMetric(float64(size), "B/record")
	b.ReportMetric(records/verifying.Seconds(), "records/cpu-s")
	b.ReportMetric(records/hashing.Seconds(), "sha256-floor/cpu-s")
	b.ReportMetric(hashing.Seconds()/verifying.Seconds(), "of-floor")
}
