package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"counterfoil/audit"
)

// record is what the checker needs of an entry of the log.
type record struct {
	request string
	kind    audit.Kind
}

// window is a time in which nothing could be recorded.
type window struct{ from, to time.Time }

// checker holds what was released against what is recorded.
type checker struct {
	log      []record
	times    map[string]int   // how often a request is recorded as a disclosure
	receipts map[int64]string // the request that was given a receipt
	once     map[string]bool  // requests that must be recorded exactly once
}

func newChecker() *checker {
	return &checker{times: make(map[string]int), receipts: make(map[int64]string), once: make(map[string]bool)}
}

// violation is a release that should not have been, or a record that is not as it should be.
type violation struct{ request, what string }

// recorded takes what the log has gained.
func (c *checker) recorded(more ...record) (bad []violation) {
	for _, r := range more {
		c.log = append(c.log, r)
		if r.kind != audit.Disclosure {
			continue
		}
		c.times[r.request]++
		if c.times[r.request] > 1 && c.once[r.request] {
			bad = append(bad, violation{r.request, fmt.Sprintf("recorded again as %d", len(c.log)-1)})
		}
	}
	return bad
}

// released checks what was released since the last time. The log has to hold it already.
func (c *checker) released(all []release, nothing []window) (bad []violation) {
	for _, r := range all {
		say := func(format string, args ...any) {
			bad = append(bad, violation{r.Request, fmt.Sprintf(format, args...)})
		}
		for _, w := range nothing {
			if r.began.After(w.from) && r.ended.Before(w.to) && len(r.Earlier) == 0 {
				say("released while nothing could be recorded")
			}
		}
		if r.Index < 0 {
			if c.times[r.Request] == 0 && !slices.ContainsFunc(r.Earlier, func(request string) bool { return c.times[request] > 0 }) {
				say("released without a record")
			}
			continue
		}
		if other, twice := c.receipts[r.Index]; twice {
			say("released under the receipt of %s", other)
		}
		c.receipts[r.Index] = r.Request
		c.once[r.Request] = true
		switch {
		case r.Index >= int64(len(c.log)):
			say("the receipt says record %d, but the log has %d", r.Index, len(c.log))
		case c.log[r.Index] != record{r.Request, audit.Disclosure}:
			say("the receipt says record %d, which is the %s of %q", r.Index, c.log[r.Index].kind, c.log[r.Index].request)
		case c.times[r.Request] != 1:
			say("recorded %d times", c.times[r.Request])
		}
	}
	return bad
}

// The checker itself is held to finding what it is there to find.
func TestTheCheckerFinds(t *testing.T) {
	now := time.Now()
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	log := []record{{"a", audit.Disclosure}, {"b", audit.Denial}, {"c", audit.Disclosure}, {"d", audit.Disclosure}, {"d", audit.Disclosure}}
	fine := release{Request: "a", Index: 0, began: at(1), ended: at(2)}
	for name, test := range map[string]struct {
		released []release
		nothing  []window
		later    []record
		want     int
	}{
		"nothing where all is well":                            {released: []release{fine, {Request: "c", Index: -1}, {Request: "z", Earlier: []string{"c"}, Index: -1}}},
		"nothing where the release began before the window":    {released: []release{fine}, nothing: []window{{at(1), at(3)}}},
		"nothing where the release ended after the window":     {released: []release{fine}, nothing: []window{{at(0), at(2)}}},
		"a release while nothing could be recorded":            {released: []release{fine}, nothing: []window{{at(0), at(3)}}, want: 1},
		"a receipt beyond the end of the log":                  {released: []release{{Request: "a", Index: 5}}, want: 1},
		"a receipt of another request's record":                {released: []release{{Request: "a", Index: 2}}, want: 1},
		"a receipt of a denial":                                {released: []release{{Request: "b", Index: 1}}, want: 1},
		"a made-up receipt of a request that was not recorded": {released: []release{{Request: "x", Index: 3}}, want: 1},
		"two releases under one receipt":                       {released: []release{fine, fine}, want: 1},
		"a record that is there twice":                         {released: []release{{Request: "d", Index: 3}}, want: 1},
		"a record that comes again later":                      {released: []release{fine}, later: []record{{"a", audit.Disclosure}}, want: 1},
		"messages without a record":                            {released: []release{{Request: "x", Index: -1}}, want: 1},
		"messages of a following that was never recorded":      {released: []release{{Request: "x", Earlier: []string{"y"}, Index: -1}}, want: 1},
		"messages whose only record is a denial":               {released: []release{{Request: "b", Index: -1}}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newChecker()
			bad := c.recorded(log...)
			bad = append(bad, c.released(test.released, test.nothing)...)
			bad = append(bad, c.recorded(test.later...)...)
			if len(bad) != test.want {
				t.Errorf("found %v, want %d", bad, test.want)
			}
		})
	}
}
