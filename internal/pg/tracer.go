package pg

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracer makes a span of each query and each batch. A span has the statement's verb and name, and the SQLSTATE of its
// error; never SQL, arguments or the text of an error, which may all hold values.
type tracer struct {
	tracer trace.Tracer
}

func newTracer(p trace.TracerProvider) *tracer {
	return &tracer{tracer: p.Tracer("counterfoil/internal/pg")}
}

// TraceQueryStart implements [pgx.QueryTracer].
func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return t.begin(ctx, spanName(data.SQL))
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	end(ctx, data.Err)
}

// TraceBatchStart implements [pgx.BatchTracer].
func (t *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	return t.begin(ctx, "batch", attribute.Int("db.operation.batch.size", data.Batch.Len()))
}

// TraceBatchQuery implements [pgx.BatchTracer]: the statements become events of the batch's span.
func (t *tracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	trace.SpanFromContext(ctx).AddEvent(spanName(data.SQL))
}

// TraceBatchEnd implements [pgx.BatchTracer].
func (t *tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	end(ctx, data.Err)
}

func (t *tracer) begin(ctx context.Context, name string, attrs ...attribute.KeyValue) context.Context {
	attrs = append(attrs, attribute.String("db.system.name", "postgresql"))
	ctx, _ = t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	return ctx
}

func end(ctx context.Context, err error) {
	span := trace.SpanFromContext(ctx)
	if err != nil {
		state := "connection"
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
			state = pgErr.Code
		}
		span.SetAttributes(attribute.String("db.response.status_code", state))
		span.SetStatus(codes.Error, state)
	}
	span.End()
}

// spanName returns the verb of the statement and, if it begins with a comment "-- name: x", that name: "select x".
// Both are cut to what a verb and a name look like, so that a span cannot carry a value.
func spanName(sql string) string {
	var name string
	for {
		sql = strings.TrimLeft(sql, " \t\r\n")
		comment, ok := strings.CutPrefix(sql, "--")
		if !ok {
			break
		}
		comment, sql, _ = strings.Cut(comment, "\n")
		if n, ok := strings.CutPrefix(strings.TrimSpace(comment), "name:"); ok && name == "" {
			name = word(strings.TrimSpace(n), 64)
		}
	}
	verb := strings.ToLower(word(sql, 16))
	switch {
	case verb == "":
		verb = "query"
	case name != "":
		verb += " " + name
	}
	return verb
}

// word returns the identifier that s begins with, or nothing if it is longer than limit.
func word(s string, limit int) string {
	n := strings.IndexFunc(s, func(r rune) bool {
		return !(r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	})
	if n < 0 {
		n = len(s)
	}
	if n > limit {
		return ""
	}
	return s[:n]
}
