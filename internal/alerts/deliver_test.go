package alerts_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"counterfoil/audit"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/alerts"
	"counterfoil/internal/relay"
)

// receiver takes messages as one who checks their signature does.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	ids     []string
	bodies  [][]byte
	headers []http.Header
	answer  atomic.Value // func(http.ResponseWriter, *http.Request)
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.answer.Store(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.ids, r.bodies, r.headers = append(r.ids, req.Header.Get("webhook-id")), append(r.bodies, body), append(r.headers, req.Header.Clone())
		r.mu.Unlock()
		r.answer.Load().(func(http.ResponseWriter, *http.Request))(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ids)
}

func (w *world) messages() []alerts.Message {
	w.t.Helper()
	all, err := w.watch.Messages(w.t.Context(), w.Organisation.ID, 500)
	must(w.t, err)
	return all
}

// deliver works off what was asked for, as the queue does.
func (w *world) deliver() {
	w.t.Helper()
	w.mu.Lock()
	asked := w.asked
	w.asked = nil
	w.mu.Unlock()
	for _, id := range asked {
		must(w.t, w.watch.Deliver(w.t.Context(), w.Organisation.ID, id))
	}
}

// due makes what waits due now.
func (w *world) due() {
	w.t.Helper()
	_, err := w.DB.Superuser(w.t).Exec(w.t.Context(), "update console.alert_delivery set due_at = now() where state = 'waiting'")
	must(w.t, err)
	w.round()
}

// closed is a disclosure with no open conversation, which makes an alert.
func closed(n int) audit.Entry {
	return with(shown(party("agent", 2), party("visitor", n)), func(e *audit.Entry) { e.Facts["conversation.state"] = "" })
}

func TestAMessageIsSignedSentOnceAndKeptWithItsReceipt(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	r := newReceiver(t)
	secret, err := w.watch.Add(ctx, w.operator, r.URL+"/alerts?key=1")
	must(t, err)
	w.append(closed(1))
	w.round()
	w.deliver()
	w.round()
	w.deliver() // nothing more
	all := w.messages()
	if len(all) != 1 || all[0].State != alerts.Sent || all[0].Status != http.StatusNoContent || all[0].Attempts != 1 || all[0].Tried == nil || r.count() != 1 {
		t.Fatalf("%+v, and %d arrived", all, r.count())
	}
	check, err := webhooks.NewWebhook(secret)
	must(t, err)
	if err := check.Verify(r.bodies[0], r.headers[0]); err != nil {
		t.Errorf("the signature: %v", err)
	}
	if check.Verify(append(r.bodies[0], ' '), r.headers[0]) == nil {
		t.Error("a changed message verifies")
	}
	replayed := r.headers[0].Clone()
	replayed.Set("webhook-timestamp", fmt.Sprint(time.Now().Add(-time.Hour).Unix()))
	if check.Verify(r.bodies[0], replayed) == nil {
		t.Error("a message replayed after an hour verifies")
	}
	var event struct {
		Type string
		Data struct {
			Alerts []struct{ Kind, Why, Actor, URL string }
		}
	}
	must(t, json.Unmarshal(r.bodies[0], &event))
	if a := event.Data.Alerts; event.Type != "alerts.raised" || len(a) != 1 || a[0].Kind != alerts.NoChat || a[0].Actor != ref(2) || !strings.Contains(a[0].Why, "no conversation") ||
		!strings.HasPrefix(a[0].URL, "https://console.example/alerts/") {
		t.Errorf("sent %s", r.bodies[0])
	}
	// Asked for again, as after a job that was lost: what is sent stays sent.
	must(t, w.watch.Deliver(ctx, w.Organisation.ID, all[0].ID))
	if r.count() != 1 {
		t.Error("sent twice")
	}
	if e := w.recorded("alert.send"); len(e) != 1 || e[0].Decision != audit.DecisionAllow || e[0].Facts["message"] != all[0].ID.String() {
		t.Errorf("recorded %+v", e)
	}
	var stored string
	must(t, w.DB.Superuser(t).QueryRow(ctx, "select string_agg(r::text, '') from console.alert_receiver r").Scan(&stored))
	if strings.Contains(stored, "127.0.0.1") || strings.Contains(stored, "whsec") {
		t.Errorf("in the database lies %s", stored)
	}
	reports, _ := w.config.Egress.Take()
	if len(reports) != 1 || reports[0].Organisation != w.Organisation.ID || reports[0].Connections != 1 || reports[0].Sent == 0 {
		t.Errorf("on the register: %+v", reports)
	}
	id := all[0].Receiver
	must(t, w.watch.Try(ctx, w.operator, id))
	w.deliver()
	if m := w.messages(); len(m) != 2 || m[0].State != alerts.Sent || r.count() != 2 || !strings.Contains(string(r.bodies[1]), "alerts.trial") {
		t.Errorf("a trial: %+v", m)
	}
	must(t, w.watch.Drop(ctx, w.operator, id))
	w.append(closed(2))
	w.round()
	w.deliver()
	if r.count() != 2 {
		t.Error("whoever was taken away is told")
	}
	if reports, _ := w.config.Egress.Take(); len(reports) != 0 {
		t.Errorf("he is still on the register: %+v", reports)
	}
}

func TestWhatIsNotTakenIsTriedAgainAndShown(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	r := newReceiver(t)
	_, err := w.watch.Add(ctx, w.operator, r.URL)
	must(t, err)
	r.answer.Store(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "anna@example.org is not here")
	})
	w.append(closed(1))
	w.round()
	w.deliver()
	m := w.messages()[0]
	if m.State != alerts.Waiting || m.Status != 500 || m.Problem != "the receiver answered with status 500" || !m.Due.After(time.Now().Add(10*time.Second)) {
		t.Errorf("answered with 500: %+v", m)
	}
	w.round()
	w.deliver()
	if r.count() != 1 {
		t.Error("it does not wait before the next attempt")
	}
	r.answer.Store(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	w.due()
	w.deliver()
	if m := w.messages()[0]; m.State != alerts.Sent || m.Attempts != 2 || r.ids[0] != r.ids[1] {
		t.Errorf("then with 200: %+v, ids %q", m, r.ids)
	}

	elsewhere := newReceiver(t)
	r.answer.Store(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, elsewhere.URL, http.StatusTemporaryRedirect)
	})
	w.append(closed(2))
	w.round()
	w.deliver()
	if m := w.messages()[0]; m.State != alerts.Waiting || !strings.Contains(m.Problem, "not followed") || elsewhere.count() != 0 {
		t.Errorf("sent elsewhere: %+v, %d arrived there", m, elsewhere.count())
	}

	// Nobody there: after twelve attempts it has failed, and is not tried any more.
	r.Close()
	for range 12 {
		w.due()
		w.deliver()
	}
	if m := w.messages()[0]; m.State != alerts.Failed || m.Attempts != 12 || m.Problem != "it could not be reached" {
		t.Errorf("nobody there: %+v", m)
	}

	// One who does not answer is left after a while.
	quick, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	slow := newReceiver(t)
	hold := make(chan struct{})
	slow.answer.Store(func(http.ResponseWriter, *http.Request) { <-hold })
	defer close(hold)
	_, err = w.watch.Add(ctx, w.operator, slow.URL)
	must(t, err)
	all, err := w.watch.Receivers(ctx, w.Organisation.ID)
	must(t, err)
	must(t, w.watch.Try(ctx, w.operator, all[1].ID))
	began := time.Now()
	must(t, w.watch.Deliver(quick, w.Organisation.ID, w.messages()[0].ID))
	if m := w.messages()[0]; m.State != alerts.Waiting || m.Problem != "there was no answer in time" || time.Since(began) > 10*time.Second {
		t.Errorf("no answer: %+v after %s", m, time.Since(began))
	}
}

// What was raised is told although the node that raised it was ended before it could ask for it.
func TestANodeThatEndsBetweenRaisingAndSendingLosesNothing(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	_, err := w.watch.Add(t.Context(), w.operator, r.URL)
	must(t, err)
	w.append(closed(1))
	if _, err := w.watch.Evaluate(t.Context(), w.Organisation.ID); err != nil { // and no more
		t.Fatal(err)
	}
	next := over(t, w.World)
	next.round()
	next.deliver()
	if m := next.messages(); len(m) != 1 || m[0].State != alerts.Sent || r.count() != 1 {
		t.Errorf("%+v, and %d arrived", m, r.count())
	}
}

func TestOnlyAddressesThatMayBeReachedAreKept(t *testing.T) {
	w := newWorld(t)
	for _, target := range []string{"", "http://receiver.example/x", "https://", "ftp://receiver.example", "https://user:word@receiver.example", "https://receiver.example/#x", "javascript://x", "https://graph.microsoft.com/v1.0/me",
		"https://receiver.example.:443", "Anna <anna@example.org>", "anna", "anna@example.org\r\nBcc: x@example.org", strings.Repeat("a", 600) + "@example.org"} {
		if _, err := w.watch.Add(t.Context(), w.operator, target); !errors.Is(err, alerts.ErrTarget) {
			t.Errorf("%q: %v", target, err)
		}
	}
	if _, err := w.watch.Add(t.Context(), w.operator, "anna@example.org"); !errors.Is(err, alerts.ErrNoMail) {
		t.Errorf("a mailbox without a mail server: %v", err)
	}
	if all, err := w.watch.Receivers(t.Context(), w.Organisation.ID); err != nil || len(all) != 0 {
		t.Errorf("kept %v, %v", all, err)
	}
}

// Alerts are many, and the chat goes on.
func TestAThousandAlertsAtOnceAreToldInFewMessagesWhileTheChatGoesOn(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	_, err := w.watch.Add(t.Context(), w.operator, r.URL)
	must(t, err)
	entries := make([]audit.Entry, 1000)
	for i := range entries {
		entries[i] = closed(i + 1)
	}
	w.append(entries...)
	done := make(chan struct{})
	var chats atomic.Int32
	go func() {
		defer close(done)
		for range 10 {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			_, err := w.Relay.Open(ctx, relay.OpenRequest{Widget: w.Widget, Language: "en", NoticeVersion: "1", ClientID: uuid.New(), Text: euii.Receive("hello")})
			cancel()
			if err != nil {
				t.Errorf("a chat while alerts are raised: %v", err)
			}
			chats.Add(1)
		}
	}()
	w.round()
	<-done
	w.deliver()
	if n := len(w.of(alerts.NoChat)); n != 1000 {
		t.Errorf("%d alerts", n)
	}
	if m := w.messages(); len(m) != 21 && len(m) != 20 || r.count() != len(m) {
		t.Errorf("%d messages, of which %d arrived", len(m), r.count())
	}
	if n, err := w.watch.Unseen(t.Context(), w.Organisation.ID); err != nil || n != 1000 {
		t.Errorf("%d are unseen, %v", n, err)
	}
}

// makeCertificate writes a certificate for localhost and its key.
func makeCertificate(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	half, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: half})...), 0o600)
}

// mailServer takes mail, over TLS once it was asked for if offered, and gives what came in.
func mailServer(t *testing.T, offersTLS bool) (addr string, letters chan string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certificates, certificates)
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	letters = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveMail(c, &tls.Config{Certificates: []tls.Certificate{pair}}, offersTLS, letters)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "localhost:" + port, letters
}

func serveMail(c net.Conn, secure *tls.Config, offersTLS bool, letters chan string) {
	defer func() { c.Close() }()
	said, isTLS := bufio.NewReader(c), false
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 mail")
	for {
		line, err := said.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			switch {
			case isTLS:
				say("250-mail\r\n250 AUTH PLAIN LOGIN")
			case offersTLS:
				say("250-mail\r\n250 STARTTLS")
			default:
				say("250 mail")
			}
		case "STARTTLS":
			say("220 go")
			c = tls.Server(c, secure)
			said, isTLS = bufio.NewReader(c), true
		case "AUTH":
			say("235 in")
		case "DATA":
			say("354 go")
			var letter strings.Builder
			for {
				line, err := said.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				letter.WriteString(line)
			}
			letters <- fmt.Sprintf("tls=%t\n%s", isTLS, letter.String())
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestAnEmailIsSentOverTLSOrNotAtAll(t *testing.T) {
	for _, offersTLS := range []bool{true, false} {
		addr, letters := mailServer(t, offersTLS)
		w := newWorld(t, func(c *alerts.Config) {
			c.Mail = alerts.Mail{Addr: addr, From: "counterfoil@example.org", Username: "u", Password: func() ([]byte, error) { return []byte("word\n"), nil }}
		})
		if _, err := w.watch.Add(t.Context(), w.operator, "soc@example.org"); err != nil {
			t.Fatal(err)
		}
		w.append(closed(1))
		w.round()
		w.deliver()
		m := w.messages()[0]
		if !offersTLS {
			if m.State != alerts.Waiting || len(letters) != 0 {
				t.Errorf("without TLS: %+v, %d letters", m, len(letters))
			}
			continue
		}
		if m.State != alerts.Sent {
			t.Fatalf("%+v", m)
		}
		letter := <-letters
		for _, want := range []string{"tls=true", "soc@example.org", "Subject:", "no conversation", m.ID.String(), "console.example/alerts/"} {
			if !strings.Contains(letter, want) {
				t.Errorf("the letter lacks %q:\n%s", want, letter)
			}
		}
		reports, refused := w.config.Egress.Take()
		if len(reports) != 1 || reports[0].Name != "mail" || reports[0].Connections != 1 || len(refused) != 0 {
			t.Errorf("on the register: %+v %v", reports, refused)
		}
		if all, err := w.watch.Receivers(t.Context(), w.Organisation.ID); err != nil || all[0].Kind != alerts.Email || all[0].Target != "soc@example.org" {
			t.Errorf("%+v %v", all, err)
		}
	}
}
