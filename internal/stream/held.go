package stream

import (
	"fmt"
	"net/http"
	"time"
)

// held is a stream whose handler's goroutine stays, because the connection belongs to others too (HTTP/2) or cannot
// be written without its own state (TLS). It takes its turns in that goroutine and not in a worker.
type held struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	ready chan struct{}
	done  chan struct{}
}

func (h *Hub) serveHeld(w http.ResponseWriter, r *http.Request, rd *reader, retry string) {
	rd.held = &held{w: w, rc: http.NewResponseController(w), ready: make(chan struct{}, 1), done: make(chan struct{})}
	w.WriteHeader(http.StatusOK)
	if rd.held.write([]byte(retry), h.cfg.WriteTimeout) != nil || !h.register(rd) {
		return
	}
	h.mark(rd, wantRead)
	for {
		select {
		case <-rd.held.done:
			return
		case <-r.Context().Done():
			h.close(rd)
			return
		case <-rd.held.ready:
			h.turn(r.Context(), rd)
		}
	}
}

func (s *held) write(b []byte, limit time.Duration) error {
	if err := s.rc.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("limit the write of a stream: %w", err)
	}
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("write to a stream: %w", err)
	}
	if err := s.rc.Flush(); err != nil {
		return fmt.Errorf("flush a stream: %w", err)
	}
	// On HTTP/2 a deadline that passes resets the stream even when nobody writes.
	if err := s.rc.SetWriteDeadline(time.Time{}); err != nil {
		return fmt.Errorf("lift the limit of a stream: %w", err)
	}
	return nil
}
