package bench

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/relay"
)

// visitors is how many lose their streams at once.
const visitors = 10_000

// stormAgents is how many agents share the joined half of the conversations.
const stormAgents = 50

// BenchmarkReconnectStorm lets 10,000 visitors come back at the same moment, as after the restart of a node that held
// them all: each follows its conversation anew from the beginning, and half of them see an agent's name again. Every one
// must get its whole conversation, each event once.
func BenchmarkReconnectStorm(b *testing.B) {
	w := newWorld(b, 1)
	ctx := b.Context()
	o := w.organisations[0]
	sessions := make([]relay.Session, visitors)
	// The agents exist before the crowd comes, so that no two joins make the same profile.
	make1 := func(i int) (err error) {
		if sessions[i], err = w.open(ctx, o); err != nil || i%2 == 1 {
			return err
		}
		return w.join(ctx, o, sessions[i], fmt.Sprintf("agent%d", i/2%stormAgents), "https://teams.example/")
	}
	each(b, 2*stormAgents, workers, make1)
	each(b, visitors-2*stormAgents, workers, func(i int) error { return make1(i + 2*stormAgents) })

	var last, recorded float64
	for b.Loop() {
		runtime.GC()
		before, err := w.log.Head(ctx, o.ID)
		must(b, err)
		errs := make([]error, visitors)
		var back sync.WaitGroup
		start := time.Now()
		for i := range visitors {
			back.Go(func() { errs[i] = w.comeBack(b, sessions[i], i%2 == 0) })
		}
		back.Wait()
		last += time.Since(start).Seconds()
		for _, err := range errs {
			must(b, err)
		}
		after, err := w.log.Head(ctx, o.ID)
		must(b, err)
		recorded += float64(after.Size - before.Size)
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(last/n, "s-until-all-are-back")
	b.ReportMetric(visitors*n/last, "visitors/s")
	b.ReportMetric(recorded/n, "records")
}

// comeBack follows a conversation from its beginning and checks that nothing is missing and nothing double.
func (w *world) comeBack(b *testing.B, s relay.Session, joined bool) error {
	items, err := w.relay.Follow(s).Next(b.Context(), 0)
	if err != nil {
		return err
	}
	want := 1
	if joined {
		want = 2
	}
	if len(items) != want || items[0].Event.Seq != 1 || euii.Reveal(items[0].Text) != "hello, is anybody there?" {
		return fmt.Errorf("a visitor got %d events instead of %d, or not his own", len(items), want)
	}
	if joined && (items[1].Event.Seq != 2 || items[1].Event.Kind != chat.AgentJoined || euii.Reveal(items[1].Name) == "") {
		return fmt.Errorf("a visitor does not see who joined")
	}
	return nil
}
