package console_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// follower reads a live tail as a browser does.
type follower struct {
	t      *testing.T
	cancel func()
	lines  chan string
	last   string // id
}

// follow opens a stream over a real connection.
func (s *site) follow(filter, after, last string) *follower {
	s.t.Helper()
	srv := httptest.NewServer(s.handler)
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(srv.Close)
	s.t.Cleanup(cancel) // before
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/live/stream?q="+url.QueryEscape(filter)+"&after="+after, nil)
	must(s.t, err)
	for _, c := range s.cookies {
		r.AddCookie(c)
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	must(s.t, err)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("the stream is answered with %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	f := &follower{t: s.t, cancel: cancel, lines: make(chan string, 10000)}
	go func() {
		defer close(f.lines)
		defer resp.Body.Close()
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
			f.lines <- scanner.Text()
		}
	}()
	return f
}

var tailed = regexp.MustCompile(`data-seq="(\d+)"`)

// until reads until a line holds a text, and gives the records of that far, in the order of the log.
func (f *follower) until(text string) (seqs []string, all string) {
	f.t.Helper()
	var frame []string
	for deadline := time.After(20 * time.Second); ; {
		select {
		case line, ok := <-f.lines:
			if !ok {
				f.t.Fatalf("the stream ended before %q:\n%s", text, all)
			}
			all += line + "\n"
			if id, is := strings.CutPrefix(line, "id: "); is {
				f.last = id
			}
			if found := tailed.FindStringSubmatch(line); found != nil {
				frame = append(frame, found[1])
			}
			if line == "" {
				slices.Reverse(frame) // the newest is on top
				seqs, frame = append(seqs, frame...), nil
				if strings.Contains(all, text) {
					return seqs, all
				}
			}
		case <-deadline:
			f.t.Fatalf("%q did not come:\n%s", text, all)
		}
	}
}

func (s *site) record(action string) uint64 {
	s.t.Helper()
	receipts, err := s.Log.Append(s.t.Context(), s.Organisation.ID, pglog.Draft{Entry: audit.Entry{Kind: audit.Administration, Action: action}})
	must(s.t, err)
	return receipts[0].Receipt.Index()
}

// CON-04.
func TestALiveTailHasNoGapAndNoDoubleAndFiltersHere(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	_, page := s.expect(http.StatusOK, "GET", "/live?q="+url.QueryEscape("action:widget.create,organisation.create"), nil)
	connect := regexp.MustCompile(`hx-sse:connect="/live/stream\?after=(\d+)&amp;q=action%3Awidget.create%2Corganisation.create"`).FindStringSubmatch(page)
	if connect == nil {
		t.Fatalf("the page does not connect:\n%s", page)
	}
	var want []string
	add := func(n int, last string) {
		for i := range n {
			s.record("audit.verify")
			want = append(want, fmt.Sprint(s.record([]string{"widget.create", "organisation.create"}[i%2])))
		}
		want = append(want, fmt.Sprint(s.record(last)))
	}
	seen := []string{}
	f := s.follow("action:widget.create,organisation.create,org.first,org.second,org.third", connect[1], "")
	add(3, "org.first")
	got, _ := f.until("org.first")
	seen = append(seen, got...)
	add(60, "org.second") // more than one page
	got, _ = f.until("org.second")
	seen = append(seen, got...)
	f.cancel()
	add(4, "org.third") // while nobody follows
	f = s.follow("action:widget.create,organisation.create,org.first,org.second,org.third", "0", f.last)
	got, all := f.until("org.third")
	seen = append(seen, got...)
	if !slices.Equal(seen, want) {
		t.Errorf("seen are\n%v, want\n%v", seen, want)
	}
	if strings.Contains(all, "audit.verify") {
		t.Error("what the filter leaves out was sent")
	}
	n := 0
	for _, e := range s.Entries(t) {
		if e.Action == "console.live" && e.Facts["filter"] != "" {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d records say that the log was followed, want 3", n)
	}
	// What nobody could read is said to be left out.
	for range 10 {
		s.history(250)
	}
	last := s.record("org.third")
	f = s.follow("", "0", f.last)
	if _, all := f.until(fmt.Sprintf(`data-seq="%d"`, last)); !strings.Contains(all, "came too fast") || !strings.Contains(all, "/events?before=") {
		t.Errorf("%s", all)
	}
}

// CON-04, AUTH-SESS-04: a stream is cut within five seconds when its reader may no longer read.
func TestALiveTailEndsWithTheSessionAndTheAllowlist(t *testing.T) {
	for name, end := range map[string]func(s *site){
		"signed out": func(s *site) { s.expect(http.StatusSeeOther, "POST", "/sign-out", url.Values{}) },
		"idle": func(s *site) {
			_, err := s.DB.Superuser(s.t).Exec(s.t.Context(), "update console.session set seen_at = seen_at - interval '16 minutes'")
			must(s.t, err)
		},
		"off the allowlist": func(s *site) {
			_, err := s.desk.Disallow(s.t.Context(), s.Organisation.ID, netip.MustParsePrefix("127.0.0.1/32"))
			must(s.t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "http://127.0.0.1:8081")
			s.setUp()
			s.signIn()
			f := s.follow("", "0", "")
			f.until("data-seq")
			end(s)
			start := time.Now()
			f.until("event: end")
			for range f.lines {
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the stream went on for %s", took)
			}
			if e := s.last(); (e.Action == "session.refused") != (name == "off the allowlist") {
				t.Errorf("the last record is %s", e.Action)
			}
		})
	}
}

// A tail that nobody touches does not keep its session alive (AUTH-SESS-03).
func TestALiveTailDoesNotKeepASessionAlive(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	f := s.follow("", "0", "")
	f.until("data-seq")
	var before, after time.Time
	conn := s.DB.Superuser(t)
	must(t, conn.QueryRow(t.Context(), "select seen_at from console.session").Scan(&before))
	time.Sleep(3 * time.Second) // longer than it takes to look whether the session stands
	s.record("org.first")
	f.until("org.first")
	must(t, conn.QueryRow(t.Context(), "select seen_at from console.session").Scan(&after))
	if !after.Equal(before) {
		t.Errorf("the session was seen at %s and, untouched, at %s", before, after)
	}
}

func TestALiveTailEndsWhenTheServiceStops(t *testing.T) {
	s := newSite(t, "http://127.0.0.1:8081")
	s.setUp()
	s.signIn()
	f := s.follow("", "0", "")
	f.until("data-seq")
	s.server.Stop()
	s.server.Stop()
	for range f.lines {
	}
}
