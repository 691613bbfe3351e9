package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/bot"
	"counterfoil/internal/relay"
	"counterfoil/internal/teams"
)

const (
	messageRate = 500         // per second
	warmUp      = messageRate // messages that are sent first and not counted
	messages    = warmUp + 5*messageRate
	// chats is how many conversations, each with an agent of its own, the messages are spread over: Teams takes at most
	// 60 messages in 30 s for one chat.
	chats = 400
)

// connector is a Bot Connector that takes everything and notes when a marked message arrived.
type connector struct {
	mu      sync.Mutex
	arrived map[string]time.Time
}

const markStart, markEnd = "mark-", "-mark"

func (c *connector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	if strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token") {
		_, _ = io.WriteString(w, `{"token_type":"Bearer","access_token":"bench","expires_in":3600}`)
		return
	}
	if _, rest, ok := bytes.Cut(body, []byte(markStart)); ok {
		mark, _, _ := bytes.Cut(rest, []byte(markEnd))
		c.mu.Lock()
		c.arrived[string(mark)] = at
		c.mu.Unlock()
	}
	fmt.Fprintf(w, `{"id":%q,"activityId":"1"}`, uuid.NewString())
}

// arrivals is how many marked messages have arrived.
func (c *connector) arrivals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.arrived)
}

// BenchmarkMessage sends 500 visitor messages a second, each to be committed and delivered to Teams, and measures the
// time from the visitor's call to the arrival of the request at the Bot Connector. Beside it, in the same seconds, it
// measures a bare commit of one row.
func BenchmarkMessage(b *testing.B) {
	w := newWorld(b, 1)
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	wire := &connector{arrived: make(map[string]time.Time)}
	server := httptest.NewServer(wire)
	defer server.Close()
	sessions, deliver := w.deliverTo(b, server)
	var delivering sync.WaitGroup
	delivering.Go(func() { deliver(ctx) })
	defer delivering.Wait()
	defer stop()

	var whole, acknowledged, commits sample
	for b.Loop() {
		sent := make([]time.Time, messages)
		durable := make([]time.Duration, messages)
		before := wire.arrivals()
		var calls sync.WaitGroup
		done := make(chan struct{})
		calls.Go(func() { // bare commits beside the messages
			commits.run(b, 1, messages*time.Second/messageRate, func(ctx context.Context, _ int) error {
				_, err := w.pool.Exec(ctx, sqlFloorInsert, uuid.Nil, auditRow)
				time.Sleep(5 * time.Millisecond)
				return err
			})
			close(done)
		})
		begun := time.Now()
		run := uuid.NewString()
		errs := make([]error, messages)
		for i := range messages {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / messageRate)))
			calls.Go(func() {
				sent[i] = time.Now()
				text := fmt.Sprintf("hello %s%s/%d%s", markStart, run, i, markEnd)
				_, errs[i] = w.relay.VisitorSays(ctx, sessions[i%chats], uuid.New(), euii.Receive(text))
				durable[i] = time.Since(sent[i])
			})
		}
		calls.Wait()
		for _, err := range errs {
			must(b, err)
		}
		for patience := time.Now().Add(time.Minute); wire.arrivals() < before+messages; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(patience) {
				b.Fatalf("%d of %d messages arrived within a minute", wire.arrivals()-before, messages)
			}
		}
		wire.mu.Lock()
		for i := warmUp; i < messages; i++ {
			whole.latencies = append(whole.latencies, wire.arrived[fmt.Sprintf("%s/%d", run, i)].Sub(sent[i]))
		}
		wire.mu.Unlock()
		acknowledged.latencies = append(acknowledged.latencies, durable[warmUp:]...)
	}
	for i := range commits.latencies {
		commits.latencies[i] -= 5 * time.Millisecond // the pause between two
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(whole.ms(0.5), "p50-ms")
	b.ReportMetric(whole.ms(0.99), "p99-ms")
	b.ReportMetric(acknowledged.ms(0.5), "durable-p50-ms")
	b.ReportMetric(acknowledged.ms(0.99), "durable-p99-ms")
	b.ReportMetric(commits.ms(0.5), "commit-p50-ms")
	b.ReportMetric(commits.ms(0.99), "commit-p99-ms")
	b.ReportMetric(whole.ms(0.99)-commits.ms(0.5), "p99-above-one-commit-ms")
	b.ReportMetric(whole.ms(0.99)-commits.ms(0.99), "p99-above-commit-p99-ms")
}

// deliverTo makes joined conversations whose agents are reached through a connector, and what delivers to them.
func (w *world) deliverTo(b *testing.B, connector *httptest.Server) ([]relay.Session, func(context.Context)) {
	b.Helper()
	ctx := b.Context()
	cloud, err := teams.CustomCloud(teams.CustomSettings{
		MetadataURL: connector.URL + "/metadata", Issuer: "https://api.botframework.com", LoginURL: connector.URL,
		ServiceHosts: []string{strings.TrimPrefix(connector.URL, "http://")},
	})
	must(b, err)
	out := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	b.Cleanup(out.CloseIdleConnections)
	tokens, err := teams.NewTokenSource(teams.TokenSourceConfig{
		Cloud: cloud, AppID: uuid.NewString(), Secret: func() ([]byte, error) { return []byte("secret"), nil }, HTTPClient: out, Now: time.Now,
	})
	must(b, err)
	client, err := teams.NewClient(teams.ClientConfig{Tokens: tokens, Authority: uuid.NewString(), HTTPClient: out, Now: time.Now})
	must(b, err)
	r := w.readers
	toTeams := bot.New(bot.Config{
		Cloud: cloud, Client: client, Store: w.store, Relay: w.relay, Tenants: &bot.Tenants{Store: w.store, Now: time.Now}, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		VisitorToAgent: r.VisitorToAgent, JoinerToChannel: r.JoinerToChannel, FirstLine: r.FirstLineToChannel, ForAgent: r.ConversationForAgent,
	})
	must(b, w.relay.OnMoved(func(uuid.UUID) { toTeams.Wake() }))

	o := w.organisations[0]
	sessions := make([]relay.Session, chats)
	each(b, chats, workers, func(i int) (err error) {
		if sessions[i], err = w.open(ctx, o); err != nil {
			return err
		}
		name := fmt.Sprintf("agent%d", i)
		if err := w.join(ctx, o, sessions[i], name, connector.URL+"/teams/"); err != nil {
			return err
		}
		agent, err := w.store.AgentByDirectory(ctx, o.ID, "aad-"+name)
		if err != nil {
			return err
		}
		return w.store.SetPersonal(ctx, o.ID, agent.ID, "a:"+name, connector.URL+"/teams/", "29:"+name)
	})
	// What the joins left to be delivered is not what is measured. The channel takes two cards a second at most, so they
	// are taken for posted.
	var cards int
	must(b, w.inside(ctx, o, "with posted as (update chat.outbox set state = 'sent', done_at = now() where lane = 'card' returning 1) select count(*) from posted", &cards))
	drain, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { toTeams.Deliver(drain); close(done) }()
	toTeams.Wake()
	const open = "select count(*) from chat.outbox where state in ('waiting', 'sending')"
	for waiting, patience := 1, time.Now().Add(time.Minute); waiting > 0; time.Sleep(50 * time.Millisecond) {
		must(b, w.inside(ctx, o, open, &waiting))
		if time.Now().After(patience) {
			b.Fatalf("%d introductions are still to be delivered", waiting)
		}
	}
	stop()
	<-done
	return sessions, toTeams.Deliver
}
