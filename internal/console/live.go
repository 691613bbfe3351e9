package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"counterfoil/audit/pglog"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
)

// The rhythm of a live tail.
const (
	tailTick  = time.Second     // how often the log is asked whether it grew
	tailCheck = 2 * time.Second // how often whoever follows is asked whether he still may
	tailWrite = 10 * time.Second
	tailBeat  = 15 * time.Second // a silent stream sends a comment, so that what lies between keeps it open
	// tailBehind is how many records a stream may be behind before it skips them and says so: nobody reads that fast.
	tailBehind = 2000
)

// livePath is where the stream of a live tail is. It has no end, so the limit of requests is not for it.
const livePath = "/live/stream"

// livePage follows the log.
type livePage struct {
	search
	Text  string
	Wrong *wrong
	After uint64 // the stream begins after this record
	Days  []day
}

// live shows the newest records, and those that come while one looks.
func (s *Server) live(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	page := livePage{Text: r.URL.Query().Get("q")}
	name, err := s.handle(r, admin, v.lang)
	if err == nil {
		page.search, err = s.look(r, admin)
	}
	if e := asFilterError(err); e != nil {
		page.Wrong = wrongFilter(v.lang, e)
		s.renderAs(w, v, http.StatusBadRequest, "live", page, view{Handle: name, Path: link("/live", "q", page.Text)})
		return
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.Text = page.Filter.String()
	head, first, err := s.read(r, admin, "console.live", map[string]string{"filter": page.recorded})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.After = max(head.Size, 1) - 1
	place, err := s.place(r.Context(), admin, page.After, head.Size)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	place.Seq++ // that record too
	found, err := s.find(r.Context(), admin, page.search, place, pglog.Place{})
	if err == nil {
		found = slices.DeleteFunc(found, func(f pglog.Found) bool { return f.Seq < first })
		page.Days, err = s.daysOf(r.Context(), v.lang, admin, found)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.renderAs(w, v, http.StatusOK, "live", page, view{Handle: name, Path: link("/live", "q", page.Text, "readings", page.Shown())})
}

// stream sends each record that answers the filter once, in the order of the log, from where the reader has come to: the event's id is the
// last record that was looked at, whether it answered or not. It ends soon after whoever reads may no longer.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	at, ok := number(r.URL.Query().Get("after"))
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		at, ok = number(last)
	}
	if !ok {
		s.message(w, v, http.StatusBadRequest, "badNumber")
		return
	}
	begin, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	f, err := s.look(r, admin)
	if e := asFilterError(err); e != nil {
		s.message(w, v, http.StatusBadRequest, "badNumber")
		return
	}
	if err == nil {
		_, _, err = s.read(r.WithContext(begin), admin, "console.live", map[string]string{"filter": f.recorded, "after": strconv.FormatUint(at, 10)})
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	t := tail{s: s, v: v, admin: admin, f: f, at: at, w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx and its kin must not collect events
	if err := errors.Join(t.control.SetReadDeadline(time.Time{}), t.send("")); err != nil {
		return
	}
	err = t.follow(r.Context())
	if err != nil && r.Context().Err() == nil && !errors.Is(err, errStopping) && !errors.Is(err, signin.ErrNoSession) {
		s.cfg.Logger.ErrorContext(r.Context(), "follow the log", "error", err)
	}
	if errors.Is(err, signin.ErrNoSession) {
		_ = t.send("event: end\ndata: \n\n") // whoever reads may have gone
	}
}

var errStopping = errors.New("the service stops")

// tail is one live tail.
type tail struct {
	s       *Server
	v       visit
	admin   principal.Admin
	f       search
	at      uint64 // the last record that was looked at
	w       http.ResponseWriter
	control *http.ResponseController
}

// send writes frames and flushes them; a reader who does not take them in time is cut off and comes back with his position.
func (t *tail) send(frames string) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(tailWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := t.w.Write([]byte(frames)); err != nil {
		return err
	}
	return t.control.Flush()
}

func (t *tail) follow(ctx context.Context) error {
	tick := time.NewTicker(tailTick)
	defer tick.Stop()
	var checked, sent time.Time
	for {
		step, cancel := context.WithTimeout(ctx, requestLimit)
		frames, err := "", error(nil)
		if time.Since(checked) >= tailCheck {
			err = t.s.cfg.Desk.Stands(step, t.admin, t.v.token)
			checked = time.Now()
		}
		if err == nil {
			frames, err = t.next(step)
		}
		cancel()
		if err != nil {
			return err
		}
		if frames == "" && time.Since(sent) >= tailBeat {
			frames = ":\n\n"
		}
		if frames != "" {
			if err := t.send(frames); err != nil {
				return err
			}
			sent = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.s.stopping:
			return errStopping
		case <-tick.C:
		}
	}
}

// next gives what has come since the last look, as one frame.
func (t *tail) next(ctx context.Context) (string, error) {
	head, err := t.s.cfg.Log.Head(ctx, t.admin.Organisation())
	if err != nil || t.at+1 >= head.Size {
		return "", err
	}
	var skipped string
	if behind := head.Size - 1 - t.at; behind > tailBehind {
		var b bytes.Buffer
		if err := t.s.assets.pages.ExecuteTemplate(&b, "skipped", view{Lang: t.v.lang, Page: skip{
			N: number64(t.v.lang, int64(behind-pageSize)), Path: link("/events", "q", t.f.Filter.String(), "readings", t.f.Shown(), "before", head.Size-pageSize),
		}}); err != nil {
			return "", fmt.Errorf("make page skipped: %w", err)
		}
		skipped, t.at = b.String(), head.Size-1-pageSize
	}
	place, err := t.s.place(ctx, t.admin, t.at, head.Size)
	if err != nil {
		return "", err
	}
	if place.At.IsZero() { // before the first record
		place = pglog.Place{At: time.Unix(0, 0), Seq: 0}
	}
	f := t.f
	f.queries = slices.Clone(f.queries)
	for i := range f.queries {
		f.queries[i].Since, f.queries[i].Until = place.At.Add(-time.Second), time.Time{} // what is to come has no end
	}
	found, err := t.s.find(ctx, t.admin, f, pglog.Place{}, place)
	if err != nil {
		return "", err
	}
	// What came after the head was read is left for the next look: of several searches only the later ones saw it.
	if t.at = head.Size - 1; len(found) == pageSize {
		t.at = min(t.at, found[pageSize-1].Seq)
	}
	found = slices.DeleteFunc(found, func(r pglog.Found) bool { return r.Seq > t.at })
	if skipped == "" && len(found) == 0 {
		return fmt.Sprintf("id: %d\n\n", t.at), nil
	}
	entries, gone, err := t.s.parsed(ctx, t.admin, found)
	if err != nil {
		return "", err
	}
	rows := make([]row, 0, len(found))
	for _, e := range slices.Backward(entries) {
		rows = append(rows, rowOf(t.v.lang, e, gone))
	}
	var b bytes.Buffer
	if err := t.s.assets.pages.ExecuteTemplate(&b, "tailed", view{Lang: t.v.lang, Page: rows}); err != nil {
		return "", fmt.Errorf("make page tailed: %w", err)
	}
	return fmt.Sprintf("id: %d\ndata: %s\n\n", t.at, strings.Join(strings.Split(strings.TrimSpace(b.String()+skipped), "\n"), "\ndata: ")), nil
}

// skip says that records were not shown, because they came too fast.
type skip struct{ N, Path string }

// Stop ends the live tails, so that the listener can end.
func (s *Server) Stop() { s.stop() }
