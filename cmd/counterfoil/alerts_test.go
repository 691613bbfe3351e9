package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/internal/alerts"
	"counterfoil/internal/jobs"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/principal"
)

// told is a receiver of alerts, which does not answer before it is let.
type told struct {
	*httptest.Server
	mu      sync.Mutex
	alerts  map[string][]string // by the id of the message
	times   map[string]int
	answers chan struct{}
}

func newTold(t *testing.T) *told {
	r := &told{alerts: make(map[string][]string), times: make(map[string]int), answers: make(chan struct{})}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var event struct {
			Data struct{ Alerts []struct{ ID string } }
		}
		if err := json.NewDecoder(req.Body).Decode(&event); err != nil {
			t.Error(err)
		}
		var ids []string
		for _, a := range event.Data.Alerts {
			ids = append(ids, a.ID)
		}
		id := req.Header.Get("webhook-id")
		r.mu.Lock()
		if before, again := r.alerts[id]; again && !slices.Equal(before, ids) {
			t.Errorf("the message %s is sent again with other alerts: %v, before %v", id, ids, before)
		}
		r.alerts[id] = ids
		r.times[id]++
		r.mu.Unlock()
		select {
		case <-r.answers:
			w.WriteHeader(http.StatusNoContent)
		case <-req.Context().Done():
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// heard is how many messages came, and which alerts they told of.
func (r *told) heard() (messages int, ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, some := range r.alerts {
		ids = append(ids, some...)
	}
	return len(r.alerts), ids
}

// A service that is killed after it decided to tell of an alert, and before it knows that it was heard, tells of it again after its start: under the same id,
// and with a receipt that says so.
func TestNoAlertIsLostByKillNine(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := serve(t, h.path, h.env)
	receiver := newTold(t)
	one := node(t, h.env)
	all, err := one.store.Organisations(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	queue, err := jobs.New(one.pool, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	watch, err := one.watch(slog.New(slog.DiscardHandler), noop.NewTracerProvider(), queue.Enqueue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Add(t.Context(), principal.NewOperator(all[0].ID, "olga"), receiver.URL); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "other"} {
		h.run("olga", 0, "", "alerts", "rules", "add", "--name", name, "--search", "action:admin.unlock")
	}
	h.run("olga", 0, "", "alerts", "check")
	h.run("olga", 0, "", "admin", "unlock")
	h.run("olga", 0, "", "alerts", "check")
	eventually(t, func() string {
		if n, _ := receiver.heard(); n == 0 {
			return "the receiver is told nothing"
		}
		return ""
	})
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait()
	close(receiver.answers)
	before, _ := receiver.heard()

	serve(t, h.path, h.env)
	again := node(t, h.env)
	owner, err := cluster.RunningURL(clusterDir(again.config), cluster.Superuser, cluster.Database)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "update console.alert_delivery set due_at = due_at - interval '3 minutes' where state = 'waiting'"); err != nil { // as if that time had passed
		t.Fatal(err)
	}
	h.run("olga", 0, "", "alerts", "check")
	var raised []string
	for line := range strings.Lines(h.run("olga", 0, "", "alerts", "list", "--json")) {
		var a struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		raised = append(raised, a.ID)
	}
	if len(raised) < 2 {
		t.Errorf("%d alerts", len(raised))
	}
	if watch, err = again.watch(slog.New(slog.DiscardHandler), noop.NewTracerProvider(), queue.Enqueue); err != nil {
		t.Fatal(err)
	}
	var receipts []alerts.Message
	eventually(t, func() string {
		if receipts, err = watch.Messages(t.Context(), all[0].ID, 100); err != nil {
			t.Fatal(err)
		}
		if len(receipts) == 0 || slices.ContainsFunc(receipts, func(m alerts.Message) bool { return m.State != alerts.Sent }) {
			return "a message has no receipt"
		}
		return ""
	})
	n, ids := receiver.heard()
	for _, id := range raised {
		if !slices.Contains(ids, id) {
			t.Errorf("nobody is told of the alert %s", id)
		}
	}
	if n != len(receipts) || before == 0 {
		t.Errorf("%d messages came, %d of them before the kill, and there are %d receipts", n, before, len(receipts))
	}
	twice := 0
	for _, m := range receipts {
		if times := receiver.times[m.ID.String()]; times == 0 || m.Status != http.StatusNoContent || m.Attempts != 1 || m.Tried == nil {
			t.Errorf("it came %d times, and its receipt is %+v", times, m)
		} else if times > 1 {
			twice++
		}
	}
	if twice == 0 {
		t.Error("what was in flight when the service was killed did not come again")
	}
}

// What a scan for planted people finds is an alert.
func TestAFindingOfTheCanaryScanRaisesAnAlert(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("alice", 0, "Made organisation", "org", "create", "Contoso")
	h.run("alice", 0, "", "alerts", "check")
	const name = "Wilhelmina Leakage"
	also := filepath.Join(t.TempDir(), "also")
	write(t, also, "a visitor's name: "+name+"\n")
	h.run("alice", 0, "0 found", "canary", "scan", "--also", also)
	h.run("alice", 0, "", "alerts", "check")
	h.run("alice", 0, "There is no such alert.", "alerts", "list")
	write(t, filepath.Join(h.data, "log", "leak.log"), "request of "+name)
	h.run("alice", 1, "a visitor's name lies in", "canary", "scan", "--also", also)
	h.run("alice", 0, "", "alerts", "check")
	if out := h.run("alice", 0, "found 1 values where none may lie", "alerts", "list"); !strings.Contains(out, "A planted person was touched") || strings.Contains(out, name) {
		t.Errorf("the alert: %s", out)
	}
}
