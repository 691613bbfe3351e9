package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracespb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// receiver is an OTLP receiver that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	raw     []byte
	spans   []*tracespb.ExportTraceServiceRequest
	metrics []*metricspb.ExportMetricsServiceRequest
	headers http.Header
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw, r.headers = append(r.raw, b...), q.Header
		spans, metrics := new(tracespb.ExportTraceServiceRequest), new(metricspb.ExportMetricsServiceRequest)
		switch {
		case strings.HasSuffix(q.URL.Path, "/v1/traces") && proto.Unmarshal(b, spans) == nil:
			r.spans = append(r.spans, spans)
		case strings.HasSuffix(q.URL.Path, "/v1/metrics") && proto.Unmarshal(b, metrics) == nil:
			r.metrics = append(r.metrics, metrics)
		default:
			t.Errorf("a request to %s that is no telemetry", q.URL.Path)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// names are those of the metrics that arrived.
func (r *receiver) names() map[string]bool {
	all := map[string]bool{}
	for _, m := range r.metrics {
		for _, rm := range m.ResourceMetrics {
			for _, sm := range rm.ScopeMetrics {
				for _, one := range sm.Metrics {
					all[one.Name] = true
				}
			}
		}
	}
	return all
}

func start(t *testing.T, r *receiver, logger *slog.Logger) *Export {
	t.Helper()
	e, err := Start(t.Context(), Config{Endpoint: r.URL, Headers: map[string]string{"Authorization": "Bearer of this test"}, Client: r.Client(), Instance: "instance", Version: "v0", Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// L1, SEED-TEL-1: whatever is put into a span, only names of our own leave.
func TestNothingLeavesInASpanThatIsNotOnTheList(t *testing.T) {
	r := newReceiver(t)
	e := start(t, r, slog.New(slog.DiscardHandler))
	const canary = "wilhelmina@canary.example"
	tracer := e.Tracer.Tracer("test")
	for range 200 { // a tenth of them is sent
		_, other := tracer.Start(t.Context(), "other")
		other.End()
		_, span := tracer.Start(t.Context(), "GET /v1/widgets/{key}", trace.WithLinks(trace.Link{SpanContext: other.SpanContext(), Attributes: []attribute.KeyValue{attribute.String("who", canary)}}))
		span.SetAttributes(attribute.String("http.route", "/v1/widgets/{key}"), attribute.String("enduser.id", canary), attribute.String("db.query.text", "select "+canary))
		span.AddEvent("select name", trace.WithAttributes(attribute.String("value", canary)))
		span.RecordError(errors.New("no such person: " + canary))
		span.SetStatus(codes.Error, canary)
		span.End()
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.spans) == 0 || !bytes.Contains(r.raw, []byte("/v1/widgets/{key}")) {
		t.Fatal("no span arrived")
	}
	if bytes.Contains(r.raw, []byte(canary)) {
		t.Error("the canary left")
	}
	if r.headers.Get("Authorization") != "Bearer of this test" {
		t.Error("the receiver's header is missing")
	}
	for _, s := range r.spans {
		for _, a := range s.ResourceSpans[0].Resource.Attributes {
			if !slices.Contains([]string{"service.name", "service.version", "service.instance.id"}, a.Key) {
				t.Errorf("the resource says %s", a.Key)
			}
		}
	}
}

func TestWhatIsMeasuredArrivesUnderTheNamesOfTheDashboard(t *testing.T) {
	r := newReceiver(t)
	e := start(t, r, slog.New(slog.DiscardHandler))
	e.Meters.Decision(t.Context(), "show_agent_to_visitor", "allow", true)
	e.Meters.Batch(t.Context(), 3, 2*time.Millisecond)
	named := []string{"counterfoil.streams", "counterfoil.outbox", "counterfoil.outbox.age", "counterfoil.log.unpublished", "counterfoil.log.checkpoint.age", "counterfoil.oplog.age", "counterfoil.pool"}
	for _, name := range named {
		unit := map[bool]string{true: "s", false: "{n}"}[strings.HasSuffix(name, ".age")]
		err := e.Meters.Watch(Reading{name, unit, "of this test", func(context.Context) (map[string]int64, error) { return map[string]int64{"used": 1}, nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Meters.Watch(Reading{"counterfoil.broken", "s", "of this test", func(context.Context) (map[string]int64, error) { return nil, errors.New("not now") }}); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := r.names()
	for _, name := range append(named, "counterfoil.decisions", "counterfoil.log.batch", "counterfoil.log.commit") {
		if !got[name] {
			t.Errorf("%s is not among %v", name, slices.Sorted(maps.Keys(got)))
		}
	}
	if got["counterfoil.broken"] {
		t.Error("what could not be read arrived")
	}

	// A Prometheus names them otherwise: dots become strokes, seconds and totals are said.
	known := map[string]bool{"counterfoil_decisions_total": true, "counterfoil_log_batch_sum": true, "counterfoil_log_batch_count": true, "counterfoil_log_commit_seconds_bucket": true}
	for _, name := range named {
		name = strings.ReplaceAll(name, ".", "_")
		if strings.HasSuffix(name, "_age") {
			name += "_seconds"
		}
		known[name] = true
	}
	if !json.Valid(Dashboard) {
		t.Fatal("the dashboard is no JSON")
	}
	asked := map[string]bool{}
	for _, name := range regexp.MustCompile(`counterfoil_[a-z_]+`).FindAllString(string(Dashboard), -1) {
		if asked[name] = true; !known[name] {
			t.Errorf("the dashboard asks for %s, which nobody measures", name)
		}
	}
	if len(asked) != len(known) {
		t.Errorf("the dashboard shows %d of %d", len(asked), len(known))
	}
}

func TestWithoutAReceiverNothingIsMeasured(t *testing.T) {
	e, err := Start(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	e.Meters.Decision(t.Context(), "a", "b", true)
	e.Meters.Batch(t.Context(), 1, 1)
	if err := errors.Join(e.Meters.Watch(Reading{}), e.Stop(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestAReceiverThatFailsIsSaidOnceAndNotQuoted(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "a text of the receiver", http.StatusBadRequest)
	}))
	defer broken.Close()
	var said bytes.Buffer
	e, err := Start(t.Context(), Config{Endpoint: broken.URL, Client: broken.Client(), Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		(&complaints{logger: slog.New(slog.DiscardHandler)}).Handle(errors.New("x"))
	}
	c := &complaints{logger: slog.New(slog.NewTextHandler(&said, nil))}
	c.Handle(errors.New("a text of the receiver"))
	c.Handle(errors.New("a text of the receiver"))
	if err := e.Stop(t.Context()); err == nil {
		e.Meters.Decision(t.Context(), "a", "b", true)
	}
	if n := strings.Count(said.String(), "telemetry is not sent"); n != 1 || strings.Contains(said.String(), "a text of the receiver") {
		t.Errorf("it is said %d times: %s", n, said.String())
	}
}
