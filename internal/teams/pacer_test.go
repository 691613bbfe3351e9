package teams_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"counterfoil/internal/teams"
)

// drain sends as fast as the pacer lets it for a while, and gives the times of the sends.
func drain(p *teams.Pacer, thread string, span time.Duration) []time.Time {
	var sent []time.Time
	for end := time.Now().Add(span); time.Now().Before(end); {
		if wait := p.Take(thread); wait > 0 {
			time.Sleep(wait)
			continue
		}
		sent = append(sent, time.Now())
	}
	return sent
}

func TestPacerKeepsEveryWindowWithinTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := teams.NewPacer(time.Now)
		sent := drain(p, "19:x@thread.tacv2", 3*time.Hour)
		for _, limit := range []struct {
			n    int
			span time.Duration
		}{{7, time.Second}, {8, 2 * time.Second}, {60, 30 * time.Second}, {1800, time.Hour}} {
			for i := limit.n; i < len(sent); i++ {
				if gap := sent[i].Sub(sent[i-limit.n]); gap < limit.span {
					t.Fatalf("%d sends within %v", limit.n+1, gap)
				}
			}
		}
		// It must not be slow either: about one minute an hour is given away for counting by minutes.
		if len(sent) < 3*1800*95/100 {
			t.Errorf("only %d sends in three hours", len(sent))
		}
		if first := sent[6].Sub(sent[0]); first != 0 {
			t.Errorf("the first burst took %v", first)
		}
		if first := sent[59].Sub(sent[0]); first > 15*time.Second {
			t.Errorf("the first 60 took %v", first)
		}
	})
}

func TestPacerTellsHowLongToWaitAndCountsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := teams.NewPacer(time.Now)
		for range 7 {
			if wait := p.Take("c"); wait != 0 {
				t.Fatalf("waits %v", wait)
			}
		}
		time.Sleep(300 * time.Millisecond)
		for range 100 {
			if wait := p.Take("c"); wait != 700*time.Millisecond {
				t.Fatalf("waits %v", wait)
			}
		}
		if wait := p.Take("c;messageid=5"); wait != 700*time.Millisecond {
			t.Errorf("a thread does not count with its channel: %v", wait)
		}
		if wait := p.Take("d"); wait != 0 {
			t.Errorf("another channel waits %v", wait)
		}
		time.Sleep(700 * time.Millisecond)
		if wait := p.Take("c"); wait != 0 {
			t.Errorf("after the wait: %v", wait)
		}
	})
}

func TestPacerForgetsTheLongestUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := teams.NewPacer(time.Now)
		fill := func(thread string) {
			for p.Take(thread) == 0 {
			}
		}
		fill("old")
		fill("used")
		for i := range 4095 {
			p.Take(fmt.Sprint(i))
			p.Take("used")
		}
		if p.Take("used") == 0 {
			t.Error("a thread in use was forgotten")
		}
		if p.Take("old") != 0 {
			t.Error("the oldest is still kept: memory is not bounded")
		}
	})
}
