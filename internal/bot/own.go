package bot

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/store"
	"counterfoil/internal/subject"
	"counterfoil/internal/web"
)

// An agent gets a file by a link, not in Teams: a bot can send a file there only through the user's OneDrive, on hosts that
// are none of the bot service. The link leads to his file once and for ten minutes; looking at it does not use it up, because what scans links looks at them too.

// myData tells an agent how often his name and email were shown, and gives him the link to his file. The counts name nobody.
func (in inbound) myData(ctx context.Context, agent store.Agent) error {
	person := subject.Person{Organisation: in.organisation.ID, Kind: "agent", ID: agent.ID}
	token, ends, err := in.People.Gate.NewDownload(ctx, principal.NewAgent(in.organisation.ID, agent.ID), access.Download{
		Organisation: in.organisation.ID, SubjectKind: "agent", Subject: agent.ID, Language: in.organisation.Language,
	})
	if err != nil {
		return in.tell(ctx, err)
	}
	counts, _, partly, err := in.People.Counts(ctx, person)
	if err != nil {
		return in.tell(ctx, err)
	}
	restricted, err := in.People.Gate.Restricted(ctx, in.organisation.ID, agent.ID)
	if err != nil {
		return in.tell(ctx, err)
	}
	text := []string{in.words.ownNever}
	if len(counts) > 0 {
		text[0] = in.words.ownData
	}
	for _, c := range counts {
		text = append(text, fmt.Sprintf("%d × %s (%s UTC)", c.N, subject.Why(in.organisation.Language, c.Why), c.Last.UTC().Format("2006-01-02 15:04")))
	}
	if partly {
		text = append(text, in.words.ownPartly)
	}
	if restricted {
		text = append(text, in.words.ownRestricted)
	}
	text = append(text, fmt.Sprintf(in.words.ownLink, ends.UTC().Format("15:04"), in.PublicURL+"/your-data/"+token))
	return in.say(ctx, strings.Join(text, "\n"))
}

// link finds what a request's link leads to.
func (b *Bot) link(w http.ResponseWriter, r *http.Request, use bool) (access.Download, bool) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
	if !b.guesses.Allow() {
		h.Set("Retry-After", "5")
		web.Problem(w, http.StatusTooManyRequests, "rate", "too many links are looked at")
		return access.Download{}, false
	}
	_, token, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	d, err := b.People.Gate.Download(r.Context(), token, use)
	switch {
	case errors.Is(err, access.ErrUnknown):
		b.page(w, http.StatusNotFound, subject.LinkPage{Gone: true, Language: languageOf(r)})
	case err != nil:
		b.Logger.ErrorContext(r.Context(), "link to own data cannot be looked up", "error", err)
		b.page(w, http.StatusServiceUnavailable, subject.LinkPage{Trying: true, Language: languageOf(r)})
	}
	return d, err == nil
}

func languageOf(r *http.Request) string {
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Accept-Language")), "fr") {
		return "fr"
	}
	return "en"
}

func (b *Bot) page(w http.ResponseWriter, status int, p subject.LinkPage) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	if err := p.Write(w); err != nil {
		b.Logger.Debug("page not sent", "error", err)
	}
}

// ShowDownload is the page on which an agent presses the button that uses his link.
func (b *Bot) ShowDownload(w http.ResponseWriter, r *http.Request) {
	if d, ok := b.link(w, r, false); ok {
		b.page(w, http.StatusOK, subject.LinkPage{Language: d.Language})
	}
}

// fileTime bounds the making of a file, which may be long.
const fileTime = 10 * time.Minute

// Download uses up the link and sends the agent's file: a page, the same for programs, and the newest record with its proof.
func (b *Bot) Download(w http.ResponseWriter, r *http.Request) {
	d, ok := b.link(w, r, true)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), fileTime)
	defer cancel()
	f, proof, err := b.file(ctx, d)
	if err != nil {
		b.Logger.ErrorContext(ctx, "own data of an agent", "error", err)
		b.page(w, http.StatusServiceUnavailable, subject.LinkPage{Trying: true, Language: d.Language})
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(fileTime)) // where there is none it cannot be set
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="your-data.zip"`)
	z := zip.NewWriter(w)
	part := func(name string, write func(io.Writer) error) {
		if err == nil {
			var out io.Writer
			if out, err = z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: f.Made}); err == nil {
				err = write(out)
			}
		}
	}
	part("your-data.html", func(out io.Writer) error { return f.WriteHTML(out, d.Language) })
	part("your-data.json", f.WriteJSON)
	part("your-data.schema.json", func(out io.Writer) error { _, err := out.Write(subject.Schema); return err })
	name := fmt.Sprintf("record-%d", proof.record)
	part(name+".json", func(out io.Writer) error { _, err := out.Write(proof.entry); return err })
	part(name+".tlog-proof", func(out io.Writer) error { return audit.WriteProof(out, proof.proof) })
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		if r.Context().Err() == nil {
			b.Logger.ErrorContext(r.Context(), "agent's file broke off", "error", err)
		}
		panic(http.ErrAbortHandler) // so that what was sent does not pass for the whole
	}
}

type proofOf struct {
	record uint64
	entry  []byte
	proof  audit.Proof
}

// file opens what is kept of an agent, for him, and proves the record of that. The link stands for him: it was given to him in his 1:1 chat.
func (b *Bot) file(ctx context.Context, d access.Download) (subject.File, proofOf, error) {
	person := subject.Person{Organisation: d.Organisation, Kind: d.SubjectKind, ID: d.Subject}
	if d.SubjectKind != "agent" {
		return subject.File{}, proofOf{}, chat.ErrNotFound
	}
	organisation, err := b.Tenants.ByID(ctx, d.Organisation)
	if err != nil {
		return subject.File{}, proofOf{}, err
	}
	scene := access.Scene{Conversation: chat.Conversation{Organisation: d.Organisation}, Settings: organisation.Settings}
	own, err := b.Own.Read(ctx, principal.NewAgent(d.Organisation, d.Subject), scene, d.Subject, d.Subject)
	if err != nil {
		return subject.File{}, proofOf{}, err
	}
	f, err := b.People.Begin(ctx, person, organisation.Name)
	if err != nil {
		return f, proofOf{}, err
	}
	kept, err := b.People.Gate.Kept(ctx, d.Organisation, d.Subject)
	if err != nil {
		return f, proofOf{}, err
	}
	for _, k := range kept {
		if text := euii.Reveal(own.Value(k.Field)); text != "" && k.Row == d.Subject {
			f.Values = append(f.Values, subject.Value{Field: k.Field.String(), Text: text, Since: k.Since.UTC()})
		}
	}
	p := proofOf{record: own.Receipt().Index()}
	p.entry, p.proof, err = b.People.Proof(ctx, d.Organisation, p.record)
	return f, p, err
}
