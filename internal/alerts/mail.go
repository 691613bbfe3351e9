package alerts

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail"
)

// Mail is how emails are sent. Addr is empty while there is no server.
type Mail struct {
	Addr     string // host:port
	From     string
	Username string // empty sends without signing in
	Password func() ([]byte, error)
}

// write sends a message by email. The server must offer STARTTLS with a certificate that counts.
func (w *Watch) write(ctx context.Context, r Receiver, m Message, all []Alert) error {
	if w.mail == nil {
		return ErrNoMail
	}
	c := w.cfg.Mail
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := msg.From(c.From); err != nil {
		return fmt.Errorf("write email: %w", err)
	}
	if err := msg.To(r.Target); err != nil {
		return ErrTarget
	}
	msg.SetMessageIDWithValue(m.ID.String() + "@counterfoil")
	msg.SetDate()
	subject, text := w.letter(m, all)
	msg.Subject(subject)
	msg.SetBodyString(mail.TypeTextPlain, text)
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return ErrNoMail
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return ErrNoMail
	}
	options := []mail.Option{
		mail.WithPort(n), mail.WithTLSPolicy(mail.TLSMandatory), mail.WithTimeout(patience), mail.WithHELO("localhost"), mail.WithDialContextFunc(w.mail.DialContext),
	}
	if c.Username != "" {
		password, err := c.Password()
		if err != nil {
			return fmt.Errorf("password of the mail server: %w", err)
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(c.Username), mail.WithPassword(strings.TrimSpace(string(password))))
	}
	client, err := mail.NewClient(host, options...)
	if err != nil {
		return fmt.Errorf("write email: %w", err)
	}
	return client.DialAndSendWithContext(ctx, msg)
}

// letter is a message in both languages.
func (w *Watch) letter(m Message, all []Alert) (subject, text string) {
	if len(m.Alerts) == 0 {
		return "Counterfoil: trial / essai", "This is a trial. Alerts will come to this mailbox.\nCeci est un essai. Les alertes arriveront dans cette boîte.\n"
	}
	subject = fmt.Sprintf("Counterfoil: %d alerts / alertes", len(all))
	if len(all) == 1 {
		subject = "Counterfoil: " + Title("en", all[0].Kind) + " / " + Title("fr", all[0].Kind)
	}
	var b strings.Builder
	for _, a := range all {
		fmt.Fprintf(&b, "%s\n%s\n%s\n%s\n\n", stamp(a.At), a.Why("en"), a.Why("fr"), w.address(a))
	}
	return subject, b.String()
}
