// Package telemetry is what the program says about its own working: one log line and one span per request at its edges.
// It promises that neither holds a path with an id in it, a query, a body, a header, or anything else a person sent:
// routes are named by their patterns, hosts by their names.
package telemetry

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

const scope = "counterfoil/internal/telemetry"

// Requests writes one line and makes one span for each request, and turns a panic into an answer without its text:
// a panic's value may hold anything.
func Requests(logger *slog.Logger, provider trace.TracerProvider) func(http.Handler) http.Handler {
	tracer := provider.Tracer(scope)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			id := rand.Text()[:12]
			w.Header().Set("X-Request-Id", id)
			ctx, span := tracer.Start(r.Context(), r.Method, trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
			ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
			level := slog.LevelInfo
			defer func() {
				status := ww.Status()
				if p := recover(); p != nil {
					if p == http.ErrAbortHandler {
						panic(p)
					}
					level, status = slog.LevelError, http.StatusInternalServerError
					if ww.Status() == 0 {
						w.WriteHeader(status)
					}
					logger.ErrorContext(ctx, "a request handler panicked", "id", id, "type", fmt.Sprintf("%T", p))
				}
				route := "unknown"
				if rc := chi.RouteContext(ctx); rc != nil && rc.RoutePattern() != "" {
					route = rc.RoutePattern()
				}
				span.SetName(r.Method + " " + route)
				span.SetAttributes(attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
				if status >= http.StatusInternalServerError {
					span.SetStatus(codes.Error, "")
				}
				logger.Log(ctx, level, "request", "id", id, "method", r.Method, "route", route, "status", status,
					"bytes", ww.BytesWritten(), "ms", time.Since(start).Milliseconds())
			}()
			next.ServeHTTP(ww, r.WithContext(ctx))
		})
	}
}

// Transport makes one span for each outgoing request, named by method and host.
func Transport(next http.RoundTripper, provider trace.TracerProvider) http.RoundTripper {
	return transport{next, provider.Tracer(scope)}
}

type transport struct {
	next   http.RoundTripper
	tracer trace.Tracer
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, span := t.tracer.Start(r.Context(), r.Method, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("server.address", r.URL.Hostname())))
	defer span.End()
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		span.SetStatus(codes.Error, "")
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	return resp, nil
}
