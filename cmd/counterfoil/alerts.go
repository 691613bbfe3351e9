package main

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/alerts"
	"counterfoil/internal/telemetry"
)

// watch makes what holds rules against the logs and tells of alerts.
func (h *heart) watch(logger *slog.Logger, tracer trace.TracerProvider, ask func(context.Context, string, uuid.UUID, uuid.UUID) error) (*alerts.Watch, error) {
	m := h.config.SMTP
	return alerts.New(alerts.Config{
		Pool: h.pool, Gate: h.gate, Log: h.log, Ring: h.ring, Egress: h.egress, Ask: ask, URL: h.config.ConsoleURL, Logger: logger, Now: time.Now,
		Wrap: func(next http.RoundTripper) http.RoundTripper { return telemetry.Transport(next, tracer) },
		Mail: alerts.Mail{Addr: m.Addr, From: m.From, Username: m.Username, Password: func() ([]byte, error) { return keyring.ReadSecret(m.PasswordFile) }},
	})
}
