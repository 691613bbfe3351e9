package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/config"
	"counterfoil/internal/telemetry"
	"counterfoil/internal/web"

	"go.opentelemetry.io/otel/trace"
)

// newPublisher makes what knows of the logs from outside the database.
func newPublisher(c config.Config, log *pglog.Log, logger *slog.Logger, tracer trace.TracerProvider) (*publish.Publisher, error) {
	p := publish.Config{
		Log: log, Dir: c.PublishDir, Interval: c.PublishInterval, Require: c.Witness.Policy == config.WitnessRequire, MaxAge: c.Witness.MaxAge,
		Logger: logger, Now: time.Now,
	}
	if c.Witness.URL != "" {
		transport := telemetry.Transport(http.DefaultTransport.(*http.Transport).Clone(), tracer)
		var err error
		if p.Witness, err = publish.NewWitness(c.Witness.URL, c.Witness.Key, transport, time.Now); err != nil {
			return nil, usageError{"settings: COUNTERFOIL_WITNESS_KEY: " + err.Error()}
		}
	}
	return publish.New(p), nil
}

// ready answers whether EUII can be served, and says why not. Of which logs nothing is released, and what to do about it, is
// for whoever runs the service.
func (s *service) ready(w http.ResponseWriter, r *http.Request, forOperators bool) {
	problems, of := s.heart.publisher.Problems(r.Context())
	if len(problems) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	var why strings.Builder
	for _, p := range problems {
		switch {
		case forOperators:
			fmt.Fprintf(&why, "Organisation %s: %v.\n", p.Organisation, p.Reason)
		case errors.Is(p.Reason, publish.ErrFrozen) && !strings.Contains(why.String(), publish.ErrFrozen.Error()):
			fmt.Fprintf(&why, "Nothing is disclosed: %v.\n", publish.ErrFrozen)
		case errors.Is(p.Reason, publish.ErrUnwitnessed) && !strings.Contains(why.String(), publish.ErrUnwitnessed.Error()):
			fmt.Fprintf(&why, "Nothing is disclosed: %v.\n", publish.ErrUnwitnessed)
		}
	}
	if len(problems) == of {
		web.Problem(w, http.StatusServiceUnavailable, "log", strings.TrimSpace(why.String()))
		return
	}
	fmt.Fprintf(w, "ready, but not for everybody\n%s", &why)
}
