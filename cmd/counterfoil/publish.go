package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/config"
	"counterfoil/internal/telemetry"
	"counterfoil/internal/web"
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

// published gives the checkpoint of a log that was published, if there is one that the present key has signed.
func (h *heart) published(ctx context.Context, log uuid.UUID) ([]byte, error) {
	head, err := h.log.Head(ctx, log)
	if err != nil {
		return nil, err
	}
	dir, err := publish.Dir(h.config.PublishDir, head.Origin)
	if err != nil {
		return nil, err
	}
	signed, err := os.ReadFile(filepath.Join(dir, audit.CheckpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signer, err := h.key.For(head.Origin)
	if err != nil {
		return nil, err
	}
	_, byThis := audit.OpenCheckpoint(signed, signer.Verifier())
	if _, byEither := signer.Open(signed); byThis != nil && byEither == nil {
		return nil, nil // published before the key was replaced, and to be published anew
	}
	return signed, nil
}

// ready answers whether EUII can be served, and says why not. Of which logs nothing is released, and what to do about it, is
// for whoever runs the service, who finds it in its log and from every command.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	problems, of := s.heart.publisher.Problems(r.Context())
	if len(problems) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	var why strings.Builder
	for _, p := range problems {
		switch {
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
