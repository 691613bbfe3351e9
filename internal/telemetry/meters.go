package telemetry

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Dashboard is a Grafana dashboard of the meters, for a Prometheus that receives OTLP.
//
//go:embed dashboard.json
var Dashboard []byte

// Meters are what is measured. They count and time; nothing in them is about a person. The nil Meters measure nothing.
type Meters struct {
	meter     metric.Meter
	questions metric.Int64Counter
	batches   metric.Int64Histogram
	commits   metric.Float64Histogram
}

// Reading is one value that is looked up when metrics are sent.
type Reading struct {
	Name, Unit, Text string
	Read             func(context.Context) (map[string]int64, error) // by state; "" for the only one
}

// newMeters makes what is measured where it happens.
func newMeters(provider metric.MeterProvider) (*Meters, error) {
	m := &Meters{meter: provider.Meter(scope)}
	var err error
	if m.questions, err = m.meter.Int64Counter("counterfoil.decisions", metric.WithDescription("Questions put to policy, by purpose and answer; a denial is one of them.")); err != nil {
		return nil, fmt.Errorf("make meter: %w", err)
	}
	if m.batches, err = m.meter.Int64Histogram("counterfoil.log.batch", metric.WithUnit("{record}"), metric.WithDescription("Records that were committed together."),
		metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128, 256)); err != nil {
		return nil, fmt.Errorf("make meter: %w", err)
	}
	if m.commits, err = m.meter.Float64Histogram("counterfoil.log.commit", metric.WithUnit("s"), metric.WithDescription("How long a commit of records took, from the lock to its being durable."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 8)); err != nil {
		return nil, fmt.Errorf("make meter: %w", err)
	}
	return m, nil
}

// Decision counts one question. purpose and decision are of the closed lists of policy.
func (m *Meters) Decision(ctx context.Context, purpose, decision string, released bool) {
	if m == nil {
		return
	}
	m.questions.Add(ctx, 1, metric.WithAttributes(attribute.String("purpose", purpose), attribute.String("decision", decision), attribute.Bool("released", released)))
}

// Batch notes one commit of records.
func (m *Meters) Batch(ctx context.Context, records int, took time.Duration) {
	if m == nil {
		return
	}
	m.batches.Record(ctx, int64(records))
	m.commits.Record(ctx, took.Seconds())
}

// Watch has values looked up whenever metrics are sent. One that cannot be looked up is left out then.
func (m *Meters) Watch(all ...Reading) error {
	if m == nil {
		return nil
	}
	for _, r := range all {
		_, err := m.meter.Int64ObservableGauge(r.Name, metric.WithUnit(r.Unit), metric.WithDescription(r.Text),
			metric.WithInt64Callback(func(ctx context.Context, to metric.Int64Observer) error {
				values, err := r.Read(ctx)
				if err != nil {
					return nil // an error would keep all other metrics from being sent
				}
				for state, n := range values {
					if state == "" {
						to.Observe(n)
					} else {
						to.Observe(n, metric.WithAttributes(attribute.String("state", state)))
					}
				}
				return nil
			}))
		if err != nil {
			return fmt.Errorf("watch %s: %w", r.Name, err)
		}
	}
	return nil
}
