package faults

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
)

// odd is what a record has to take up, or refuse: text that is too long (A7), and text on which a formatter may stumble (A8).
func odd() map[string]string {
	return map[string]string{
		"the longest there may be":       strings.Repeat("x", 256),
		"one byte too long":              strings.Repeat("x", 257),
		"a million bytes":                strings.Repeat("x", 1_000_000),
		"too long only when escaped":     strings.Repeat(`"\`, 128),
		"a zero byte":                    "a\x00b",
		"a new record":                   "a\"}\r\n{\"v\":1,\"kind\":\"disclosure\"}",
		"deeply nested":                  strings.Repeat(`[{"a":`, 42),
		"unbalanced":                     strings.Repeat("}]", 64),
		"directives of a format":         "%s%d%!v(PANIC=x)%[99999999]*.*x{{.}}${x}",
		"escapes of a terminal":          "\x1b[2J\x1b]0;x\x07",
		"a sequence of CEF":              `CEF:0|x|y=z\|=\=`,
		"text that runs the other way":   "\u202eabc\u2066",
		"half a character":               "abc\xe2\x82",
		"half a pair of surrogates":      "\xed\xa0\x80",
		"a character that is too long":   "\xf8\x88\x80\x80\x80",
		"the end of what Unicode has":    "\U0010ffff",
		"a mark of the order of bytes":   "\ufeffabc",
		"an end of line that is Unicode": "a\u2028b\u0085c",
	}
}

// Whatever is to be written into a record is written as it is or refused, and then nothing is released: it is never left
// out, and never costs anybody else an answer.
func TestOddInputIsRecordedAsItIsOrNothingIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNode)
	w.work(w.nodes...) // others disclose all the while, in the same batches
	all, err := callers(t.Context(), w.nodes[0].node, w.place)
	must(t, err)
	requests := make(map[string]release)
	var mu sync.Mutex
	var asking sync.WaitGroup
	i := 0
	for name, text := range odd() {
		for way := range 6 {
			c, other := *all[i%len(all)], *all[i%len(all)]
			i++
			asking.Go(func() {
				scene := c.scene
				scene.Request = text
				c.asked = way
				r := release{Node: name, Request: text, Index: -1}
				err := c.disclose(t.Context(), scene, &r)
				for err != nil && cause(err) != "other" { // the machine is busy: a lock or a connection was not to be had in time
					err = c.disclose(t.Context(), scene, &r)
				}
				if wrong := judge(r, err); wrong != "" {
					t.Errorf("%s: %s", name, wrong)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					requests[name] = r
				} else if requests[name].Request != "" {
					t.Errorf("%s: recorded one way, refused another: %v", name, err)
				}
			})
			// What policy is asked about is recorded too, and what it does not know it denies.
			asking.Go(func() {
				scene := other.scene
				scene.Conversation.State = chat.State(text)
				other.asked = way % 3
				r := release{Node: name, Index: -1}
				if err := other.disclose(t.Context(), scene, &r); !errors.Is(err, access.ErrDenied) && !errors.Is(err, access.ErrUnavailable) || r.Wrong {
					t.Errorf("%s as the state of a conversation: %v", name, err)
				}
			})
		}
	}
	asking.Wait()
	w.quiet(w.nodes...)
	w.mu.Lock()
	seen := w.seen
	w.mu.Unlock()
	_, bad := w.look()
	bad = slices.Concat(bad, seen.wrong, w.checker.released(seen.released, nil))
	spoilt := slices.ContainsFunc(seen.refused, func(r refusal) bool { return r.cause == "other" }) // no answer of the database, no broken connection
	if len(bad) > 0 || spoilt || len(seen.released) == 0 {
		t.Errorf("of the others %d were released, %d refused, for odd input too: %v; %v", len(seen.released), len(seen.refused), spoilt, bad)
	}
	want := []string{"a mark of the order of bytes", "a sequence of CEF", "deeply nested", "directives of a format", "text that runs the other way",
		"the end of what Unicode has", "the longest there may be", "too long only when escaped", "unbalanced"}
	if got := slices.Sorted(maps.Keys(requests)); !slices.Equal(got, want) {
		t.Errorf("released were\n%q, want\n%q", got, want)
	}
	for name, r := range requests {
		if n := w.checker.times[r.Request]; n < 6 {
			t.Errorf("%s: released six times, recorded %d times", name, n)
		}
	}
	for _, r := range w.checker.log {
		if r.kind != audit.Disclosure && r.kind != audit.Denial && r.request != "" {
			t.Errorf("a %s bears the request %q", r.kind, r.request)
		}
	}
}
