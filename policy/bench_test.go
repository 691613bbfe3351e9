package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"

	"counterfoil/internal/config"
)

// BenchmarkDecide measures a whole decision, from struct to struct, against
// the bare prepared query over ready-made input. Both run in turns in the same
// loop and are given as medians, so that the ratio (x/prepared) does not depend
// on how busy the machine is. DESIGN: at most 60 µs and at most 1.2.
func BenchmarkDecide(b *testing.B) {
	defer config.HoldHeap()() // as the service does
	ctx := b.Context()
	engine, err := New(ctx)
	if err != nil {
		b.Fatal(err)
	}
	bare, err := rego.New(rego.Compiler(engine.program.Load().compiler), rego.Query(entryPoint)).PrepareForEval(ctx)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		in   Input
	}{
		{"show_agent_to_visitor", showAgent()},
		{"introduce_visitor_to_agent", introduce()},
		{"reveal_to_admin", reveal()},
		{"denied", denied()},
	} {
		b.Run(c.name, func(b *testing.B) {
			input := c.in.value()
			var whole, prepared []time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				if _, err := engine.Decide(ctx, c.in); err != nil {
					b.Fatal(err)
				}
				middle := time.Now()
				if _, err := bare.Eval(ctx, rego.EvalParsedInput(input)); err != nil {
					b.Fatal(err)
				}
				prepared = append(prepared, time.Since(middle))
				whole = append(whole, middle.Sub(start))
			}
			slices.Sort(whole)
			slices.Sort(prepared)
			w, p := whole[len(whole)/2], prepared[len(prepared)/2]
			b.ReportMetric(float64(w.Nanoseconds())/1e3, "p50-µs/decision")
			b.ReportMetric(float64(p.Nanoseconds())/1e3, "p50-µs/prepared")
			b.ReportMetric(float64(w)/float64(p), "x/prepared")
		})
	}
}

// BenchmarkDecideParallel measures decisions on every core at once.
func BenchmarkDecideParallel(b *testing.B) {
	ctx := b.Context()
	engine, err := New(ctx)
	if err != nil {
		b.Fatal(err)
	}
	in := showAgent()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if d, err := engine.Decide(ctx, in); err != nil || !d.Allowed() {
				b.Errorf("%v, %v", d.Reasons(), err)
				return
			}
		}
	})
}
