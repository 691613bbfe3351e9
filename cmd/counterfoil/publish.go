package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/config"
	"counterfoil/internal/console"
	"counterfoil/internal/egress"
	"counterfoil/internal/telemetry"
	"counterfoil/internal/web"
)

// newPublishers makes what knows of the logs from outside the database.
func newPublishers(c config.Config, register *egress.Register, log *pglog.Log, logger *slog.Logger, tracer trace.TracerProvider) (publish.Publishers, error) {
	p := publish.Config{
		Log: log, To: publish.Directory(c.PublishDir), Interval: c.PublishInterval, Require: c.Witness.Policy == config.WitnessRequire, MaxAge: c.Witness.MaxAge,
		Logger: logger, Now: time.Now,
	}
	if c.Witness.URL != "" {
		way, err := outside(register, c.Witness.URL, egress.Destination{
			Name: "witness", Purpose: "have checkpoints of the logs cosigned", Data: []egress.Class{egress.Hashes}, Party: egress.ThirdParty,
		})
		if err != nil {
			return nil, err
		}
		if p.Witness, err = publish.NewWitness(c.Witness.URL, c.Witness.Key, telemetry.Transport(way.Transport(), tracer), time.Now); err != nil {
			return nil, usageError{"settings: COUNTERFOIL_WITNESS_KEY: " + err.Error()}
		}
	}
	all := publish.Publishers{publish.New(p)}
	if c.Bucket.Name != "" {
		bucket, err := openBucket(c.Bucket, register, tracer, egress.Destination{
			Name: "bucket", Purpose: "publish the logs where nobody can change them", Data: []egress.Class{egress.Credentials, egress.Records, egress.Hashes}, Party: egress.ThirdParty, Region: c.Bucket.Region,
		})
		if err != nil {
			return nil, err
		}
		p.To = bucket
		all = append(all, publish.New(p))
	}
	return all, nil
}

// outside registers where logs are made known outside of the database.
func outside(register *egress.Register, address string, d egress.Destination) (*egress.Way, error) {
	host, err := egress.Host(address)
	if err != nil {
		return nil, err
	}
	d.Hosts, d.Owner = []string{host}, "audit/publish"
	return register.Open(d)
}

// openBucket reads the credentials of the bucket; nothing is asked of it yet.
func openBucket(c config.Bucket, register *egress.Register, tracer trace.TracerProvider, d egress.Destination) (*publish.Bucket, error) {
	secret, err := keyring.ReadSecret(c.CredentialsFile)
	if err != nil {
		return nil, fmt.Errorf("credentials of the bucket: %w", err)
	}
	lines := strings.Fields(string(secret))
	if len(lines) != 2 {
		return nil, usageError{"settings: the file of COUNTERFOIL_PUBLISH_BUCKET_CREDENTIALS_FILE must hold the id of an access key, and on the next line its secret"}
	}
	way, err := outside(register, c.Endpoint, d)
	if err != nil {
		return nil, err
	}
	transport := way.Transport()
	transport.ResponseHeaderTimeout = 10 * time.Second
	return publish.OpenBucket(publish.BucketConfig{
		Name: c.Name, Endpoint: c.Endpoint, Region: c.Region, KeyID: lines[0], Secret: lines[1], Lock: c.Lock,
		Transport: telemetry.Transport(transport, tracer), Now: time.Now,
	})
}

// checkBucket refuses a bucket that would not keep what is put into it. One that cannot be asked now is asked again; until then
// nothing is released.
func (h *heart) checkBucket(ctx context.Context, logger *slog.Logger) error {
	for _, p := range h.publishers {
		bucket, ok := p.To.(*publish.Bucket)
		if !ok {
			continue
		}
		err := bucket.Check(ctx)
		if errors.Is(err, publish.ErrUnsafe) {
			return err
		}
		if err != nil {
			logger.Warn("the bucket cannot be asked: nothing is disclosed until the logs are compared with what lies in it", "error", err)
		}
	}
	return nil
}

// outside is what the console says of the witness.
func (h *heart) outside() console.Outside {
	o := console.Outside{Require: h.config.Witness.Policy == config.WitnessRequire, MaxAge: h.config.Witness.MaxAge}
	if w := h.publishers[0].Witness; w != nil {
		o.Witness = w.Name()
	}
	return o
}

// published gives the newest checkpoint of a log that was published anywhere, if there is one that the present key has signed.
func (h *heart) published(ctx context.Context, log uuid.UUID) (newest []byte, err error) {
	head, err := h.log.Head(ctx, log)
	if err != nil {
		return nil, err
	}
	all, err := h.publishers.Published(ctx, head.Origin)
	if err != nil {
		return nil, err
	}
	signer, err := h.key.For(head.Origin)
	if err != nil {
		return nil, err
	}
	size := uint64(0)
	for _, p := range all {
		c, byThis := audit.OpenCheckpoint(p.Checkpoint, signer.Verifier())
		_, byEither := signer.Open(p.Checkpoint)
		switch {
		case p.Checkpoint == nil || byThis != nil && byEither == nil: // published before the key was replaced, and to be published anew
		case byThis != nil: // of nobody we know: verifying says so
			return p.Checkpoint, nil
		case newest == nil || c.Size > size:
			newest, size = p.Checkpoint, c.Size
		}
	}
	return newest, nil
}

// ready answers whether EUII can be served, and says why not. Of which logs nothing is released, and what to do about it, is
// for whoever runs the service, who finds it in its log and from every command.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	problems, of := s.heart.publishers.Problems(r.Context())
	if len(problems) == 0 {
		fmt.Fprintln(w, "ready")
		return
	}
	var why strings.Builder
	for _, p := range problems {
		for _, known := range []error{publish.ErrFrozen, publish.ErrUnwitnessed, publish.ErrUnseen} {
			if errors.Is(p.Reason, known) && !strings.Contains(why.String(), known.Error()) {
				fmt.Fprintf(&why, "Nothing is disclosed: %v.\n", known)
			}
		}
	}
	if len(problems) == of {
		web.Problem(w, http.StatusServiceUnavailable, "log", strings.TrimSpace(why.String()))
		return
	}
	fmt.Fprintf(w, "ready, but not for everybody\n%s", &why)
}
