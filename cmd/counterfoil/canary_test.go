package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"counterfoil/internal/canary"
	"counterfoil/internal/config"
	"counterfoil/internal/egress"
	"counterfoil/internal/oplog"
)

// SEED-TEL-1: the scan itself finds what is leaked into each place to which the service writes.
func TestAScanFindsWhatIsLeakedIntoAnySink(t *testing.T) {
	const name = "Wilhelmina Leakage"
	for _, c := range []struct {
		name, where string
		leak        func(t *testing.T, s *service)
	}{
		{"a line of the operational log", "data/log/", func(_ *testing.T, s *service) { s.logger.Info("request", "who", name) }},
		{"a file of the database", "data/postgresql/", func(t *testing.T, s *service) {
			write(t, filepath.Join(s.config.DataDir, "postgresql", "base", "1", "16384"), strings.Repeat("\x00", 9000)+name)
		}},
		{"the write-ahead log, in hexadecimal", "data/postgresql/", func(t *testing.T, s *service) {
			write(t, filepath.Join(s.config.DataDir, "postgresql", "pg_wal", "000000010000000000000001"), "57696c68656c6d696e61204c65616b616765")
		}},
		{"what is published", "published/", func(t *testing.T, s *service) {
			write(t, filepath.Join(s.config.PublishDir, "tile", "entries", "000"), `{"who":"WILHELMINA LEAKAGE"}`)
		}},
		{"a name of a span", "telemetry", func(t *testing.T, s *service) {
			_, span := s.tracer.Tracer("test").Start(t.Context(), "GET /"+name)
			span.End()
		}},
		{"an attribute that is exported", "telemetry", func(t *testing.T, s *service) {
			_, span := s.tracer.Tracer("test").Start(t.Context(), "GET", trace.WithAttributes(attribute.String("http.route", name)))
			span.End()
		}},
		{"nothing", "", func(*testing.T, *service) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
			defer receiver.Close()
			data := t.TempDir()
			s := &service{config: config.Config{DataDir: data, LogDir: filepath.Join(data, "log"), PublishDir: t.TempDir(), OTLP: config.OTLP{Endpoint: receiver.URL}}, egress: egress.New()}
			defer s.stop()
			if err := s.operate(t.Context(), &app{stderr: io.Discard}, slog.LevelInfo); err != nil {
				t.Fatal(err)
			}
			s.telemetry.SendAll(true)
			c.leak(t, s)
			r, err := scan(t.Context(), s.config, s.egress, false, map[string]string{"a visitor's name": name}, s.searchTelemetry(t.Context()))
			if err != nil || len(r.Unread) > 0 || r.Places == 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			if c.where == "" {
				if !r.Clean() {
					t.Errorf("%+v", r)
				}
				return
			}
			if !slices.ContainsFunc(r.Found, func(f canary.Finding) bool {
				return strings.HasPrefix(f.Place, c.where) && f.What == "a visitor's name"
			}) {
				t.Errorf("not found: %+v", r)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSinksAreSearchedOnce(t *testing.T) {
	for _, c := range []struct {
		data, log, published string
		want                 string
	}{
		{"/d", "/d/log", "/d/export", "data"},
		{"/d", "/var/log/c", "/srv/export", "data log published"},
		{"/d", "/d2", "/d2/export", "data log"},
		{"/d", "/d/../x", "/x/y", "data log"},
	} {
		var names []string
		for _, s := range sinks(config.Config{DataDir: c.data, LogDir: c.log, PublishDir: c.published}) {
			names = append(names, s.name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestAListenerIsReachedFromItsOwnHost(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", ":80": "127.0.0.1:80", "10.0.0.1:80": "10.0.0.1:80", "localhost:80": "localhost:80"} {
		if got := here(addr); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
}

func TestHeadersOfAReceiverAreReadFromAFileOfTheirOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "headers")
	write(t, file, "Authorization: Bearer a:b\n\nX-Scope: c\n")
	all, err := headers(file)
	if err != nil || all["Authorization"] != "Bearer a:b" || all["X-Scope"] != "c" {
		t.Errorf("%v, %v", all, err)
	}
	write(t, file, "X-Scope: c\nsecret")
	if _, err := headers(file); err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "line 2") {
		t.Error(err)
	}
}

// What is said to be sent is sent, and what is read for it is there afterwards.
func TestATapKeepsWhatWasSentLast(t *testing.T) {
	var got bytes.Buffer
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&got, r.Body) }))
	defer receiver.Close()
	tapped := &tap{next: http.DefaultTransport}
	for range 3 {
		resp, err := (&http.Client{Transport: tapped}).Post(receiver.URL, "text/plain", strings.NewReader(strings.Repeat("x", maxTapped/2)+"end"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if sent := tapped.sent(); len(sent) != maxTapped || !bytes.HasSuffix(sent, []byte("end")) || got.Len() != 3*(maxTapped/2+3) {
		t.Errorf("%d kept, %d received", len(sent), got.Len())
	}
}

// SEED-TEL-2: each day every log says what became of the operational log.
func TestThatOldLinesAreRemovedStandsInEveryLog(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("alice", 0, "Made organisation", "org", "create", "Contoso")
	h.run("alice", 0, "Made organisation", "org", "create", "Fabrikam")
	a := &app{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard, environ: h.env, egress: egress.New()}
	heart, done, err := a.connect()
	if err != nil {
		t.Fatal(err)
	}
	before, now := oplog.Status{Removed: 2}, oplog.Status{Removed: 7, Files: 3, Bytes: 99, Oldest: 5000e9}
	if err := heart.recordLines(t.Context(), before, now); err != nil {
		t.Fatal(err)
	}
	if err := heart.recordScan(context.WithoutCancel(t.Context()), scanner, canary.Report{Planted: 7, Places: 2}); err != nil {
		t.Fatal(err)
	}
	done()
	for _, o := range []string{"Contoso", "Fabrikam"} {
		out := h.run("alice", 0, "", "audit", "list", "--org", o, "--json")
		if !strings.Contains(out, `"action":"oplog.kept_short"`) || !strings.Contains(out, `"removed":"5"`) || !strings.Contains(out, `"oldest_seconds":"5000"`) || !strings.Contains(out, `"action":"canary.scan"`) {
			t.Errorf("%s: %s", o, out)
		}
	}
}
