package alerts

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/egress"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// The kinds of receivers.
const (
	Webhook = "webhook"
	Email   = "email"
)

// The states of a message.
const (
	Waiting = "waiting"
	Sent    = "sent"
	Failed  = "failed" // for good
)

// Receiver is who is told of alerts.
type Receiver struct {
	ID      uuid.UUID
	Kind    string
	Target  string // a mailbox, or an address such as https://receiver.example/alerts
	Made    time.Time
	By      audit.Party
	Removed *time.Time

	secret []byte
}

// Hint is the receiver as lists show him: without what stands before the host of a mailbox, and after that of an address.
func (r Receiver) Hint() string {
	if name, host, ok := strings.Cut(r.Target, "@"); r.Kind == Email && ok {
		_, first := utf8.DecodeRuneInString(name)
		return name[:first] + "…@" + host
	}
	u, err := url.Parse(r.Target)
	if err != nil {
		return "…"
	}
	return u.Scheme + "://" + u.Host + "/…"
}

// Message is one about alerts, with what became of it.
type Message struct {
	ID       uuid.UUID
	Receiver uuid.UUID
	Alerts   []uuid.UUID // none when it is a trial
	State    string
	Made     time.Time
	Due      time.Time // when it is tried next
	Attempts int
	Tried    *time.Time
	Status   int    // that the receiver answered with
	Problem  string // why it was not taken
}

var (
	// ErrTarget refuses an address that alerts cannot be sent to.
	ErrTarget = errors.New("alerts are sent to an https address (http on this host only) or to a mailbox")
	// ErrNoMail says that the service has no mail server.
	ErrNoMail = errors.New("this service has no mail server: set COUNTERFOIL_SMTP_ADDR")
	// ErrNoReceiver says that there is no such receiver.
	ErrNoReceiver = errors.New("there is no such receiver")
)

const (
	sqlReceivers      = "select receiver_id, kind, target, secret, made_at, made_by, removed_at from access.alert_receivers($1)"
	sqlPutReceiver    = "select access.put_alert_receiver($1, $2, $3, $4, $5, $6)"
	sqlRemoveReceiver = "select access.remove_alert_receiver($1, $2)"
	sqlTryReceiver    = "select access.try_alert_receiver($1, $2, $3)"
	sqlMessages       = "select delivery_id, receiver_id, alerts, state, made_at, due_at, attempts, tried_at, status, error from access.alert_deliveries($1, $2, $3, $4)"
	sqlNote           = "select access.note_alert_delivery($1, $2, $3, $4, $5, $6)"
)

// Receivers lists who is told, and who was.
func (w *Watch) Receivers(ctx context.Context, organisation uuid.UUID) ([]Receiver, error) {
	rows, err := w.cfg.Pool.Query(ctx, sqlReceivers, organisation)
	if err != nil {
		return nil, fmt.Errorf("list receivers: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Receiver, err error) {
		var target, secret []byte
		var by string
		if err = row.Scan(&r.ID, &r.Kind, &target, &secret, &r.Made, &by, &r.Removed); err != nil {
			return r, err
		}
		r.By = heard(by)
		if target, err = w.cfg.Ring.UnwrapSecret(keyring.Receiver, organisation, r.ID, target); err == nil && secret != nil {
			r.secret, err = w.cfg.Ring.UnwrapSecret(keyring.Signing, organisation, r.ID, secret)
		}
		r.Target = string(target)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("list receivers: %w", err)
	}
	return all, nil
}

func (w *Watch) receiver(ctx context.Context, organisation, id uuid.UUID) (Receiver, error) {
	all, err := w.Receivers(ctx, organisation)
	if err != nil {
		return Receiver{}, err
	}
	for _, r := range all {
		if r.ID == id && r.Removed == nil {
			return r, nil
		}
	}
	return Receiver{}, ErrNoReceiver
}

// target reads the address of a receiver. Its kind follows from it.
func (w *Watch) target(s string) (kind, target string, err error) {
	s = strings.TrimSpace(s)
	if len(s) > 500 {
		return "", "", ErrTarget
	}
	if !strings.Contains(s, "://") {
		a, err := mail.ParseAddress(s)
		if err != nil || a.Name != "" || a.Address != s || strings.ContainsAny(s, "\r\n\"<>") {
			return "", "", ErrTarget
		}
		if w.mail == nil {
			return "", "", ErrNoMail
		}
		return Email, s, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", "", ErrTarget
	}
	u.Host = strings.ToLower(u.Host)
	return Webhook, u.String(), nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// Add lets somebody be told from now on, once policy lets who asks, on record. For a webhook it gives the secret that signs the messages, this
// once.
func (w *Watch) Add(ctx context.Context, who principal.Principal, address string) (secret string, err error) {
	organisation, id := who.Organisation(), uuid.New()
	kind, target, err := w.target(address)
	if err != nil {
		return "", err
	}
	if kind == Webhook { // it must be one that can be connected to
		d, err := destination(organisation, id, target)
		if err != nil {
			return "", err
		}
		way, err := w.cfg.Egress.Open(d)
		if err != nil {
			return "", ErrTarget
		}
		way.Close()
	}
	by, err := w.cfg.Gate.Actor(ctx, who)
	if err != nil {
		return "", err
	}
	if err := w.cfg.Gate.Act(ctx, who, policy.Administer, organisation, "alert.receiver", map[string]string{"receiver": id.String(), "receiver.kind": kind}); err != nil {
		return "", err
	}
	sealed, err := w.cfg.Ring.WrapSecret(keyring.Receiver, organisation, id, []byte(target))
	var signing []byte
	if err == nil && kind == Webhook {
		key := make([]byte, 32)
		rand.Read(key)
		secret = "whsec_" + base64.StdEncoding.EncodeToString(key)
		signing, err = w.cfg.Ring.WrapSecret(keyring.Signing, organisation, id, []byte(secret))
	}
	if err != nil {
		return "", err
	}
	if _, err := w.cfg.Pool.Exec(ctx, sqlPutReceiver, organisation, id, kind, sealed, signing, said(by)); err != nil {
		return "", fmt.Errorf("keep receiver: %w", err)
	}
	return secret, nil
}

// Drop lets a receiver be told no more, once policy lets who asks, on record. What waits for it fails.
func (w *Watch) Drop(ctx context.Context, who principal.Principal, id uuid.UUID) error {
	organisation := who.Organisation()
	if err := w.cfg.Gate.Act(ctx, who, policy.Administer, organisation, "alert.receiver_remove", map[string]string{"receiver": id.String()}); err != nil {
		return err
	}
	if _, err := w.cfg.Pool.Exec(ctx, sqlRemoveReceiver, organisation, id); err != nil {
		return fmt.Errorf("remove receiver: %w", err)
	}
	w.forget(id)
	return nil
}

// Try sends a message without an alert, to see whether it arrives, once policy lets who asks, on record.
func (w *Watch) Try(ctx context.Context, who principal.Principal, id uuid.UUID) error {
	organisation := who.Organisation()
	if _, err := w.receiver(ctx, organisation, id); err != nil {
		return err
	}
	if err := w.cfg.Gate.Act(ctx, who, policy.Administer, organisation, "alert.try", map[string]string{"receiver": id.String()}); err != nil {
		return err
	}
	message := uuid.New()
	if _, err := w.cfg.Pool.Exec(ctx, sqlTryReceiver, organisation, id, message); err != nil {
		return fmt.Errorf("ask for a trial: %w", err)
	}
	return w.cfg.Ask(ctx, deliverJob, organisation, message)
}

// Messages lists the newest messages.
func (w *Watch) Messages(ctx context.Context, organisation uuid.UUID, limit int) ([]Message, error) {
	return w.messages(ctx, organisation, "newest", uuid.Nil, limit)
}

func (w *Watch) messages(ctx context.Context, organisation uuid.UUID, which string, id uuid.UUID, limit int) ([]Message, error) {
	rows, err := w.cfg.Pool.Query(ctx, sqlMessages, organisation, which, id, limit)
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Message])
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	return all, nil
}

const (
	// dueAtOnce bounds how many messages of one organisation are asked for in one round.
	dueAtOnce = 200
	// lost is how long a message has been due when its job counts as lost with its process, and the round makes the attempt itself: the queue
	// waits longer, since it has jobs that take long. lostAtOnce bounds how many in one round.
	lost, lostAtOnce = 2 * time.Minute, 4
)

// send registers who is told, and asks for the jobs of messages that are due: those just made, those whose last attempt failed, and those
// whose job was lost.
func (w *Watch) send(ctx context.Context, organisation uuid.UUID) error {
	receivers, err := w.Receivers(ctx, organisation)
	if err != nil {
		return err
	}
	for _, r := range receivers {
		if r.Removed != nil {
			w.forget(r.ID)
		} else if r.Kind == Webhook {
			if _, err := w.way(organisation, r); err != nil {
				return err
			}
		}
	}
	due, err := w.messages(ctx, organisation, "due", uuid.Nil, dueAtOnce)
	tried := 0
	for _, m := range due {
		switch {
		case err != nil:
		case w.cfg.Now().Sub(m.Due) > lost && tried < lostAtOnce:
			tried++
			err = w.Deliver(ctx, organisation, m.ID)
		default:
			err = w.cfg.Ask(ctx, deliverJob, organisation, m.ID)
		}
	}
	return err
}

const (
	attemptsMost = 12
	// patience bounds one attempt, so that a slow receiver costs little.
	patience = 15 * time.Second
)

// pause is how long to wait after so many attempts: half a minute, then twice as long each time, six hours at most.
func pause(attempts int) time.Duration {
	return min(30*time.Second<<min(attempts, 12), 6*time.Hour)
}

// Deliver makes one attempt at a message that waits, if policy lets the watch, on record. A failure is no error: it is noted, and the
// message is due again later.
func (w *Watch) Deliver(ctx context.Context, organisation, id uuid.UUID) error {
	found, err := w.messages(ctx, organisation, "this", id, 1)
	if err != nil || len(found) == 0 || found[0].State != Waiting || found[0].Due.After(w.cfg.Now()) {
		return err
	}
	m := found[0]
	receiver, err := w.receiver(ctx, organisation, m.Receiver)
	if errors.Is(err, ErrNoReceiver) {
		return w.note(ctx, organisation, m, Failed, 0, "the receiver was taken away")
	}
	if err != nil {
		return err
	}
	all, err := w.These(ctx, organisation, m.Alerts...)
	if err != nil {
		return err
	}
	facts := map[string]string{"message": m.ID.String(), "receiver": receiver.ID.String(), "receiver.kind": receiver.Kind, "alerts": strconv.Itoa(len(all)), "attempt": strconv.Itoa(m.Attempts + 1)}
	if err := w.cfg.Gate.Act(ctx, principal.NewJob(organisation, task), policy.RaiseAlerts, organisation, "alert.send", facts); err != nil {
		return err
	}
	try, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status := 0
	if receiver.Kind == Webhook {
		status, err = w.post(try, organisation, receiver, m, all)
	} else {
		err = w.write(try, receiver, m, all)
	}
	state, problem := Sent, ""
	if err != nil {
		if state, problem = Waiting, problemOf(err); m.Attempts+1 >= attemptsMost {
			state = Failed
		}
	}
	return w.note(context.WithoutCancel(ctx), organisation, m, state, status, problem)
}

func (w *Watch) note(ctx context.Context, organisation uuid.UUID, m Message, state string, status int, problem string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := w.cfg.Pool.Exec(ctx, sqlNote, organisation, m.ID, state, status, problem, int(pause(m.Attempts).Seconds())); err != nil {
		return fmt.Errorf("note message: %w", err)
	}
	return nil
}

// problemOf is an error in words of ours: what others answer may hold anything.
func problemOf(err error) string {
	var status statusError
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, errRedirect):
		return errRedirect.Error()
	case errors.Is(err, egress.ErrBlocked):
		return egress.ErrBlocked.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "there was no answer in time"
	}
	return "it could not be reached"
}
