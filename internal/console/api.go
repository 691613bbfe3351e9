package console

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/internal/signin"
	"counterfoil/internal/web"
)

//go:embed web/openapi.json
var openAPI []byte

// apiRoutes are what programs read: the same searches as the pages, decided on and recorded in the same way.
func (s *Server) apiRoutes(r chi.Router) {
	r.Get("/api/v1/openapi.json", s.door(func(w http.ResponseWriter, _ *http.Request, _ visit) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI) // whoever asked may have gone
	}))
	r.Get("/api/v1/records", s.program(s.apiRecords))
	r.Get("/api/v1/records/{seq}", s.program(s.apiRecord))
	r.Get("/api/v1/records/{seq}/proof", s.program(s.apiProof))
	r.Get("/api/v1/counts", s.program(s.apiCounts))
	r.Get("/api/v1/checkpoint", s.program(s.apiCheckpoint))
}

// A program may ask so often: its questions are records too.
const (
	apiRate  = 10 // a second
	apiBurst = 50
)

// paces are how often each token was used of late, and how often a wrong one is recorded: whoever is admitted must not fill the log.
type paces struct {
	mu       sync.Mutex
	of       map[string]*rate.Limiter
	refusals *rate.Limiter
}

func newPaces() *paces {
	return &paces{of: make(map[string]*rate.Limiter), refusals: rate.NewLimiter(rate.Every(10*time.Second), 5)}
}

// allows reports whether a token may ask now.
func (p *paces) allows(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.of) > 10_000 {
		p.of = make(map[string]*rate.Limiter)
	}
	l := p.of[token]
	if l == nil {
		l = rate.NewLimiter(apiRate, apiBurst)
		p.of[token] = l
	}
	return l.Allow()
}

// program lets a program through whose token works from where it asks. It answers in problem documents, never in pages.
func (s *Server) program(next func(http.ResponseWriter, *http.Request, principal.Client) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := s.cfg.Address(r)
		admissions, err := s.cfg.Desk.Admit(r.Context(), from)
		if err != nil {
			s.apiTrouble(w, r, err)
			return
		}
		if len(admissions) == 0 {
			if err := s.cfg.Desk.Refused(r.Context(), from, len(s.cfg.Through(r))); err != nil {
				s.cfg.Logger.ErrorContext(r.Context(), "record refused request", "error", err)
			}
			web.Problem(w, http.StatusForbidden, "address_not_admitted", "This address is not admitted: it is on no allowlist. Have a security administrator add it.")
			return
		}
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		client, err := s.cfg.Desk.Client(r.Context(), admissions, token)
		if errors.Is(err, signin.ErrNoToken) {
			if token != "" && s.paces.refusals.Allow() {
				for _, a := range admissions {
					if err := s.cfg.Gate.Door(r.Context(), a.Organisation(), uuid.Nil, from, "token.refused", nil); err != nil {
						s.apiTrouble(w, r, err)
						return
					}
				}
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="counterfoil"`)
			web.Problem(w, http.StatusUnauthorized, "no_token", "Send a token in force as \"Authorization: Bearer …\"; a security administrator makes one in the console, and it may work from one network only.")
			return
		}
		if err != nil {
			s.apiTrouble(w, r, err)
			return
		}
		if !s.paces.allows(client.Name()) {
			w.Header().Set("Retry-After", "1")
			web.Problem(w, http.StatusTooManyRequests, "too_fast", fmt.Sprintf("A token may ask %d times a second. Wait and ask again.", apiRate))
			return
		}
		if err := next(w, r, client); err != nil {
			s.apiTrouble(w, r, err)
		}
	}
}

// badAsk is a question that is not understood; it says what is wrong with it.
type badAsk struct {
	status       int
	code, detail string
}

func (b badAsk) Error() string { return b.detail }

func (s *Server) apiTrouble(w http.ResponseWriter, r *http.Request, err error) {
	var bad badAsk
	var wrong *filter.Error
	switch {
	case errors.As(err, &wrong):
		web.Problem(w, http.StatusBadRequest, "filter_"+string(wrong.Problem), fmt.Sprintf("%s (characters %d to %d of q)", word("en", "filter_"+string(wrong.Problem)), wrong.Begin+1, wrong.End))
	case errors.As(err, &bad):
		web.Problem(w, bad.status, bad.code, bad.detail)
	case errors.Is(err, access.ErrDenied):
		web.Problem(w, http.StatusForbidden, "denied", "Policy does not allow it. The refusal is recorded.")
	default:
		s.cfg.Logger.ErrorContext(r.Context(), "api", "error", err)
		web.Problem(w, http.StatusServiceUnavailable, "unavailable", "Nothing can be read now, because it cannot be recorded. Try again later.")
	}
}

// apiRecords gives a page of records, newest first, each as the log has it.
func (s *Server) apiRecords(w http.ResponseWriter, r *http.Request, c principal.Client) error {
	asked, err := s.seek(r.Context(), c, r.URL.Query().Get("q"))
	if err != nil {
		return err
	}
	query := r.URL.Query()
	limit := 100
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > pglog.MaxPage {
			return badAsk{http.StatusBadRequest, "bad_limit", fmt.Sprintf("limit is a number from 1 to %d.", pglog.MaxPage)}
		}
	}
	before, err := cursorPlace(query.Get("before"))
	if err != nil {
		return err
	}
	if _, _, err := s.read(r, c, "api.records", map[string]string{"filter": asked.recorded, "limit": strconv.Itoa(limit), "before": query.Get("before")}); err != nil {
		return err
	}
	for i := range asked.queries {
		asked.queries[i].Before, asked.queries[i].Limit = before, limit
	}
	found, err := s.cfg.Log.SearchAny(r.Context(), c.Organisation(), asked.queries)
	if err != nil {
		return err
	}
	out := struct {
		Records []json.RawMessage `json:"records"`
		Next    string            `json:"next,omitempty"`
	}{Records: make([]json.RawMessage, len(found))}
	for i, x := range found {
		out.Records[i] = x.Body
	}
	if len(found) == limit {
		out.Next = cursorOf(found[limit-1].Place)
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

// cursorOf and cursorPlace write and read where a page ended.
func cursorOf(p pglog.Place) string { return fmt.Sprintf("%d.%d", p.At.UnixMicro(), p.Seq) }

func cursorPlace(text string) (pglog.Place, error) {
	if text == "" {
		return pglog.Place{}, nil
	}
	at, seq, ok := strings.Cut(text, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	n, isNumber := number(seq)
	if !ok || err != nil || !isNumber || micros < 0 || micros > time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() {
		return pglog.Place{}, badAsk{http.StatusBadRequest, "bad_cursor", "before is the value of next in the page before."}
	}
	return pglog.Place{At: time.UnixMicro(micros).UTC(), Seq: n}, nil
}

// apiIndex reads the number of a record that is there.
func (s *Server) apiIndex(r *http.Request, c principal.Client, action string) (uint64, error) {
	seq, ok := number(chi.URLParam(r, "seq"))
	if !ok {
		return 0, badAsk{http.StatusBadRequest, "bad_number", "A record has a number from 0 on."}
	}
	head, first, err := s.read(r, c, action, map[string]string{"index": fmt.Sprint(seq)})
	switch {
	case err != nil:
		return 0, err
	case seq >= head.Size:
		return 0, badAsk{http.StatusNotFound, "not_found", fmt.Sprintf("The log has %d records, the first of which has the number 0.", head.Size)}
	case seq < first:
		return 0, badAsk{http.StatusGone, "pruned", fmt.Sprintf("Records before %d were pruned; they are in the exports that were made before.", first)}
	}
	return seq, nil
}

// apiRecord gives one record: the exact bytes of which the tree has the hash.
func (s *Server) apiRecord(w http.ResponseWriter, r *http.Request, c principal.Client) error {
	seq, err := s.apiIndex(r, c, "api.record")
	if err != nil {
		return err
	}
	for body, err := range s.cfg.Log.Entries(r.Context(), c.Organisation(), seq, seq+1) {
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // whoever asked may have gone
	}
	return nil
}

// apiProof gives the inclusion proof of a record (C2SP tlog-proof).
func (s *Server) apiProof(w http.ResponseWriter, r *http.Request, c principal.Client) error {
	seq, err := s.apiIndex(r, c, "api.proof")
	if err != nil {
		return err
	}
	_, proof, err := s.cfg.Log.Proof(r.Context(), c.Organisation(), seq)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := audit.WriteProof(&out, proof); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(out.Bytes()) // whoever asked may have gone
	return nil
}

// apiCount is how many records of a stretch of time have a decision.
type apiCount struct {
	Start    time.Time `json:"start"`
	Decision string    `json:"decision"`
	N        int64     `json:"n"`
}

// apiCounts counts what answers a filter, by hour or day.
func (s *Server) apiCounts(w http.ResponseWriter, r *http.Request, c principal.Client) error {
	asked, err := s.seek(r.Context(), c, r.URL.Query().Get("q"))
	if err != nil {
		return err
	}
	stretch, ok := map[string]time.Duration{"": 24 * time.Hour, "day": 24 * time.Hour, "hour": time.Hour}[r.URL.Query().Get("by")]
	if !ok {
		return badAsk{http.StatusBadRequest, "bad_stretch", "by is hour or day."}
	}
	if _, _, err := s.read(r, c, "api.counts", map[string]string{"filter": asked.recorded, "by": stretch.String()}); err != nil {
		return err
	}
	out := struct {
		Counts  []apiCount `json:"counts"`
		AtLeast bool       `json:"at_least"`
	}{Counts: []apiCount{}}
	if out.Counts, out.AtLeast, err = s.apiSum(r.Context(), c.Organisation(), asked.queries, stretch); err != nil {
		return err
	}
	web.JSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) apiSum(ctx context.Context, organisation uuid.UUID, queries []pglog.Query, stretch time.Duration) (counts []apiCount, atLeast bool, err error) {
	type key struct {
		start    time.Time
		decision string
	}
	sums := make(map[key]int64)
	for _, q := range queries {
		stretches, more, err := s.cfg.Log.Times(ctx, organisation, q, stretch, countedAtMost)
		if err != nil {
			return nil, false, err
		}
		for _, x := range stretches {
			sums[key{x.Start.UTC(), x.Decision}] += x.N
		}
		atLeast = atLeast || more
	}
	counts = make([]apiCount, 0, len(sums))
	for k, n := range sums {
		counts = append(counts, apiCount{k.start, k.decision, n})
	}
	slices.SortFunc(counts, func(a, b apiCount) int {
		if c := a.Start.Compare(b.Start); c != 0 {
			return c
		}
		return strings.Compare(a.Decision, b.Decision)
	})
	return counts, atLeast, nil
}

// apiCheckpoint gives the signed head of the log (C2SP tlog-checkpoint).
func (s *Server) apiCheckpoint(w http.ResponseWriter, r *http.Request, c principal.Client) error {
	head, _, err := s.read(r, c, "api.checkpoint", nil)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(head.Checkpoint) // whoever asked may have gone
	return nil
}
