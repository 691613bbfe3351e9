package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// exported are the attributes that leave this process; others are dropped, whoever sets them. Their values come from closed lists and
// from our own code.
var exported = attribute.NewAllowKeysFilter(
	"http.route", "http.response.status_code", "server.address",
	"db.system.name", "db.operation.batch.size", "db.response.status_code",
	"purpose", "decision", "released", "state", "destination",
)

// Config says where telemetry goes.
type Config struct {
	Endpoint string            // of an OTLP receiver over HTTP, without a path; empty sends nothing
	Headers  map[string]string // with each request
	Client   *http.Client      // by which it is reached
	Instance string            // a random name of this process
	Version  string
	Logger   *slog.Logger
}

// Export sends spans and metrics of this process.
type Export struct {
	Tracer trace.TracerProvider
	Meters *Meters // nil when nothing is sent

	whole   atomic.Bool // all traces are sent, not a sample
	flushes []func(context.Context) error
	ends    []func(context.Context) error
}

// ShouldSample implements sdktrace.Sampler.
func (e *Export) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if e.whole.Load() {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return sampler.ShouldSample(p)
}

// Description implements sdktrace.Sampler.
func (e *Export) Description() string { return sampler.Description() }

// SendAll has all traces sent, or a sample of them again.
func (e *Export) SendAll(all bool) { e.whole.Store(all) }

// Flush sends what waits.
func (e *Export) Flush(ctx context.Context) error {
	for _, flush := range e.flushes {
		if err := flush(ctx); err != nil {
			return errors.New("telemetry is not sent")
		}
	}
	return nil
}

// every is how often metrics are sent.
const every = 30 * time.Second

// sampler picks the traces that are sent. A disclosure has several spans, and metrics count all of them.
var sampler = sdktrace.TraceIDRatioBased(0.1)

// Start begins to export. Without an endpoint nothing is sent, and nothing is measured.
func Start(ctx context.Context, c Config) (*Export, error) {
	if c.Endpoint == "" {
		return &Export{Tracer: noop.NewTracerProvider()}, nil
	}
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.Endpoint+"/v1/traces"), otlptracehttp.WithHeaders(c.Headers), otlptracehttp.WithHTTPClient(c.Client))
	if err != nil {
		return nil, errors.New("telemetry: the receiver of traces cannot be used")
	}
	metrics, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(c.Endpoint+"/v1/metrics"), otlpmetrichttp.WithHeaders(c.Headers), otlpmetrichttp.WithHTTPClient(c.Client))
	if err != nil {
		return nil, errors.New("telemetry: the receiver of metrics cannot be used")
	}
	otel.SetErrorHandler(&complaints{logger: c.Logger})
	// Nothing of the machine, its user or the command line, which the SDK would otherwise find out.
	of := resource.NewSchemaless(attribute.String("service.name", "counterfoil"), attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Instance))
	e := &Export{}
	tracer := sdktrace.NewTracerProvider(sdktrace.WithResource(of), sdktrace.WithSampler(sdktrace.ParentBased(e)), sdktrace.WithBatcher(narrowed{spans}))
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithResource(of), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(metrics, sdkmetric.WithInterval(every))),
		sdkmetric.WithView(sdkmetric.NewView(sdkmetric.Instrument{Name: "*"}, sdkmetric.Stream{AttributeFilter: exported})))
	e.Tracer, e.flushes, e.ends = tracer, []func(context.Context) error{tracer.ForceFlush, meter.ForceFlush}, []func(context.Context) error{tracer.Shutdown, meter.Shutdown}
	e.Meters, err = newMeters(meter)
	return e, err
}

// Stop sends what waits, as far as ctx allows.
func (e *Export) Stop(ctx context.Context) error {
	var err error
	for _, end := range e.ends {
		err = errors.Join(err, end(ctx))
	}
	if err != nil {
		return fmt.Errorf("send the last telemetry: %w", err)
	}
	return nil
}

// complaints says at most once a minute that telemetry cannot be sent. What went wrong may quote what a receiver answered, so only
// its kind is said.
type complaints struct {
	logger *slog.Logger
	last   atomic.Int64
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	now := time.Now().Unix()
	if last := c.last.Load(); now-last >= 60 && c.last.CompareAndSwap(last, now) {
		c.logger.Warn("telemetry is not sent", "type", fmt.Sprintf("%T", err))
	}
}

// narrowed is an exporter of spans that lets nothing out but what is exported.
type narrowed struct{ sdktrace.SpanExporter }

// ExportSpans implements sdktrace.SpanExporter.
func (n narrowed) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	narrow := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		narrow[i] = narrowSpan{s}
	}
	return n.SpanExporter.ExportSpans(ctx, narrow)
}

// narrowSpan is a span without what is not exported: other attributes, links, the text of a status, and all of an event but its name.
type narrowSpan struct{ sdktrace.ReadOnlySpan }

// Attributes implements sdktrace.ReadOnlySpan.
func (s narrowSpan) Attributes() []attribute.KeyValue {
	var kept []attribute.KeyValue
	for _, a := range s.ReadOnlySpan.Attributes() {
		if exported(a) {
			kept = append(kept, a)
		}
	}
	return kept
}

// Events implements sdktrace.ReadOnlySpan.
func (s narrowSpan) Events() []sdktrace.Event {
	events := s.ReadOnlySpan.Events()
	kept := make([]sdktrace.Event, len(events))
	for i, e := range events {
		kept[i] = sdktrace.Event{Name: e.Name, Time: e.Time}
	}
	return kept
}

// Links implements sdktrace.ReadOnlySpan.
func (s narrowSpan) Links() []sdktrace.Link { return nil }

// Status implements sdktrace.ReadOnlySpan.
func (s narrowSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}
