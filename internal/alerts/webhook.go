package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"counterfoil/internal/egress"
)

// way is how a receiver is reached.
type way struct {
	target string
	egress *egress.Way
	client *http.Client
}

// errRedirect says that a receiver sent a message elsewhere.
var errRedirect = errors.New("the receiver sends elsewhere, which is not followed")

// statusError is an answer that does not take a message.
type statusError int

func (e statusError) Error() string {
	return "the receiver answered with status " + strconv.Itoa(int(e))
}

// destination is a receiver as the register has it.
func destination(organisation, id uuid.UUID, target string) (egress.Destination, error) {
	host, err := egress.Host(target)
	return egress.Destination{
		Organisation: organisation, Name: "webhook " + id.String()[:8], Hosts: []string{host}, Owner: "internal/alerts", Purpose: "send alerts to a receiver of the organisation",
		Data: []egress.Class{egress.Handles}, Party: egress.ThirdParty, Chosen: true,
	}, err
}

// way gives how a receiver is reached, which is registered as long as it is one.
func (w *Watch) way(organisation uuid.UUID, r Receiver) (*way, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known, ok := w.ways[r.ID]; ok && known.target == r.Target {
		return known, nil
	}
	d, err := destination(organisation, r.ID, r.Target)
	if err != nil {
		return nil, err
	}
	out, err := w.cfg.Egress.Open(d)
	if err != nil {
		return nil, err
	}
	made := &way{r.Target, out, &http.Client{
		Transport:     w.cfg.Wrap(out.Transport()),
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}}
	w.ways[r.ID] = made
	return made, nil
}

// forget takes a receiver off the register.
func (w *Watch) forget(id uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known, ok := w.ways[id]; ok {
		known.egress.Close()
		known.client.CloseIdleConnections()
		delete(w.ways, id)
	}
}

// event is what a webhook is sent. It holds references and counts, no person.
type event struct {
	Type      string    `json:"type"` // alerts.raised, or alerts.trial
	Timestamp time.Time `json:"timestamp"`
	Data      eventData `json:"data"`
}

type eventData struct {
	Organisation string       `json:"organisation"`
	Alerts       []eventAlert `json:"alerts"`
}

type eventAlert struct {
	ID      string    `json:"id"`
	Rule    string    `json:"rule"`
	Kind    string    `json:"kind"`
	At      time.Time `json:"at"`
	Title   string    `json:"title"`
	Why     string    `json:"why"`
	WhyFR   string    `json:"why_fr"`
	Actor   string    `json:"actor,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Records []uint64  `json:"records"`
	URL     string    `json:"url"`
}

// answerMost bounds what is read of an answer.
const answerMost = 64 << 10

// post sends a message to a webhook, signed as the specification "Standard Webhooks" says. A repetition has the same id.
func (w *Watch) post(ctx context.Context, organisation uuid.UUID, r Receiver, m Message, all []Alert) (status int, err error) {
	e := event{"alerts.raised", m.Made.UTC(), eventData{organisation.String(), make([]eventAlert, len(all))}}
	if len(m.Alerts) == 0 {
		e.Type = "alerts.trial"
	}
	for i, a := range all {
		e.Data.Alerts[i] = eventAlert{a.ID.String(), a.Rule.String(), a.Kind, a.At, Title("en", a.Kind), a.Why("en"), a.Why("fr"), a.Actor.Ref, a.Subject.Ref, a.Records, w.address(a)}
	}
	body, err := json.Marshal(e)
	if err != nil {
		return 0, fmt.Errorf("write message: %w", err)
	}
	signer, err := webhooks.NewWebhook(string(r.secret))
	if err != nil {
		return 0, errors.New("the receiver's secret cannot be used")
	}
	at := w.cfg.Now()
	signature, err := signer.Sign(m.ID.String(), at, body)
	if err != nil {
		return 0, fmt.Errorf("sign message: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Target, bytes.NewReader(body))
	if err != nil {
		return 0, ErrTarget
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Counterfoil")
	req.Header.Set(webhooks.HeaderWebhookID, m.ID.String())
	req.Header.Set(webhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(webhooks.HeaderWebhookSignature, signature)
	to, err := w.way(organisation, r)
	if err != nil {
		return 0, err
	}
	resp, err := to.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, answerMost))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, statusError(resp.StatusCode)
	}
	return resp.StatusCode, err
}

// address is where an alert is shown.
func (w *Watch) address(a Alert) string { return w.cfg.URL + "/alerts/" + a.ID.String() }
