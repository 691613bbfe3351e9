package bot

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/store"
	"counterfoil/internal/subject"
	"counterfoil/internal/teams"
	"counterfoil/internal/web"
)

// An agent gets a file by a link, not in Teams: a bot can send a file there only through the user's OneDrive, on hosts that
// are none of the bot service. The link leads to his file once and for ten minutes; looking at it does not use it up, because what scans links looks at them too.

// myData tells an agent how often his name and email were shown, gives him the link to his file, and lets him ask. The counts name nobody.
func (in inbound) myData(ctx context.Context, agent store.Agent) error {
	link, err := in.ownLink(ctx, agent)
	if err != nil {
		return in.tell(ctx, err)
	}
	counts, _, partly, err := in.People.Counts(ctx, personOf(agent))
	if err != nil {
		return in.tell(ctx, err)
	}
	card, err := in.ownCard(ctx, agent)
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
	text = append(text, link)
	if err := in.say(ctx, strings.Join(text, "\n")); err != nil {
		return err
	}
	return in.post(ctx, teams.Message{Card: card})
}

// ownAsks are what an agent may ask about his own data: a button's verb, and what it asks for.
var ownAsks = map[teams.Verb]string{
	teams.VerbFile: access.AsksAccess, teams.VerbCorrect: access.AsksRectification, teams.VerbRestrict: access.AsksRestriction,
	teams.VerbLift: subject.Lift, teams.VerbObject: access.AsksObjection, teams.VerbErase: access.AsksErasure,
}

// ownWords are what may follow "my data" and "mes données".
var ownWords = map[teams.Verb][2]string{
	"": {"", ""}, teams.VerbFile: {" file", " dossier"}, teams.VerbCorrect: {" correct", " rectifier"}, teams.VerbRestrict: {" restrict", " limiter"},
	teams.VerbLift: {" lift", " lever"}, teams.VerbObject: {" object", " opposer"}, teams.VerbErase: {" erase", " effacer"},
}

// ownCommand recognises a command about one's own data, in either language.
func ownCommand(text euii.Inbound) (teams.Verb, bool) {
	for verb, w := range ownWords {
		if euii.InboundEqualFold(text, "my data"+w[0]) || euii.InboundEqualFold(text, "mes données"+w[1]) {
			return verb, true
		}
	}
	return "", false
}

// pressOwn carries out a button of the card about an agent's own data, and shows there how it stands now.
func (in inbound) pressOwn(ctx context.Context, kind string) teams.InvokeResponse {
	if !in.IsPersonal() {
		return teams.RespondError(http.StatusBadRequest, "BadRequest", in.words.gone)
	}
	agent, err := in.agent(ctx)
	if errors.Is(err, chat.ErrNotFound) {
		return teams.RespondMessage(in.words.ownNothing)
	}
	said := ""
	if err == nil {
		said, err = in.asks(ctx, agent, kind)
	}
	if err != nil {
		return in.refuse(ctx, err)
	}
	if kind == access.AsksAccess { // a link is for a chat, where it can be followed
		if err := in.say(ctx, said); err != nil {
			return in.refuse(ctx, err)
		}
		said = in.words.ownSent
	}
	if card, err := in.ownCard(ctx, agent); err == nil {
		in.replace(ctx, card)
	}
	return teams.RespondMessage(said)
}

// asks takes what an agent asks about his own data and says what came of it. He is known to be himself by his account in Teams. The same asked
// twice at once is asked once.
func (in inbound) asks(ctx context.Context, agent store.Agent, kind string) (string, error) {
	said, err, _ := in.asking.Do(agent.ID.String()+kind, func() (any, error) {
		who, person := principal.NewAgent(in.organisation.ID, agent.ID), personOf(agent)
		again, err := in.justAnswered(ctx, person, kind)
		switch {
		case err != nil:
			return "", err
		case kind == access.AsksRectification && again:
			return in.words.ownCorrected, nil
		case kind == access.AsksRectification:
			return in.correctName(ctx, who, person)
		case kind == access.AsksAccess && again:
			return in.ownLink(ctx, agent)
		}
		if err := in.People.Ask(ctx, who, person, kind, "teams", access.ByTeams, in.organisation.Language); err != nil {
			return "", err
		}
		switch kind {
		case access.AsksAccess:
			return in.ownLink(ctx, agent)
		case access.AsksRestriction:
			return in.words.ownLimited, nil
		case subject.Lift:
			return in.words.ownLifted, nil
		case access.AsksObjection:
			return in.due(ctx, person, kind, in.words.ownObjected)
		}
		return in.due(ctx, person, kind, in.words.ownErase)
	})
	text, _ := said.(string)
	return text, err
}

// justAnswered reports whether what is asked was asked and answered a moment ago: a press that arrives once more is not a request of its own.
func (in inbound) justAnswered(ctx context.Context, p subject.Person, kind string) (bool, error) {
	all, err := in.People.Asked(ctx, p)
	return slices.ContainsFunc(all, func(a subject.Asked) bool {
		return a.Kind == kind && a.State == access.Answered && in.Now().Sub(a.Received) < 5*time.Minute
	}), err
}

// due puts the day by which a request is answered into a text.
func (in inbound) due(ctx context.Context, p subject.Person, kind, text string) (string, error) {
	all, err := in.People.Asked(ctx, p)
	for _, a := range all {
		if a.Kind == kind && a.State == "open" {
			return fmt.Sprintf(text, a.Due.Format(time.DateOnly)), nil
		}
	}
	return fmt.Sprintf(text, in.Now().UTC().Format(time.DateOnly)), err
}

// correctName keeps an agent's name as his profile in Teams gives it now, wherever another was kept: what he calls himself elsewhere nobody could
// check. Where his profile here says the same already, the mistake may be in the directory, so his organisation has to answer.
func (in inbound) correctName(ctx context.Context, who principal.Agent, p subject.Person) (string, error) {
	profile, err := in.fetch(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch member: %w", err)
	}
	scene := access.Scene{Conversation: chat.Conversation{Organisation: p.Organisation}, Settings: in.organisation.Settings}
	own, err := in.Own.Read(ctx, who, scene, p.ID, p.ID)
	if err != nil {
		return "", err
	}
	var fields []access.Field
	wrong := false
	for _, f := range []access.Field{{Name: euii.AgentDisplayName, Value: profile.DisplayName}, {Name: euii.AgentGivenName, Value: profile.GivenName}, {Name: euii.AgentSurname, Value: profile.Surname}} {
		if !euii.InboundEmpty(f.Value) {
			fields = append(fields, f)
			wrong = wrong || !euii.InboundIs(f.Value, euii.Reveal(own.Value(f.Name)))
		}
	}
	if err := in.People.Correct(ctx, who, in.Collector, scene, p, p.ID, "teams", access.ByTeams, in.organisation.Language, wrong, fields...); err != nil {
		return "", err
	}
	if wrong {
		return in.words.ownCorrected, nil
	}
	return in.due(ctx, p, access.AsksRectification, in.words.ownSame)
}

func personOf(agent store.Agent) subject.Person {
	return subject.Person{Organisation: agent.Organisation, Kind: "agent", ID: agent.ID}
}

// ownLink makes a link to an agent's file and says where it is.
func (in inbound) ownLink(ctx context.Context, agent store.Agent) (string, error) {
	token, ends, err := in.People.Gate.NewDownload(ctx, principal.NewAgent(agent.Organisation, agent.ID), access.Download{
		Organisation: agent.Organisation, SubjectKind: "agent", Subject: agent.ID, Language: in.organisation.Language,
	})
	return fmt.Sprintf(in.words.ownLink, ends.UTC().Format("15:04"), in.PublicURL+"/your-data/"+token), err
}

// ownCard shows how an agent's data and requests stand, with what he may ask.
func (in inbound) ownCard(ctx context.Context, agent store.Agent) (teams.Card, error) {
	restricted, err := in.People.Gate.Restricted(ctx, agent.Organisation, agent.ID)
	if err != nil {
		return teams.Card{}, err
	}
	all, err := in.People.Asked(ctx, personOf(agent))
	if err != nil {
		return teams.Card{}, err
	}
	var open []teams.Asked
	for _, a := range all {
		if a.State == "open" {
			open = append(open, teams.Asked{What: subject.Word(in.organisation.Language, "ask_"+a.Kind), Due: a.Due.Format(time.DateOnly)})
		}
	}
	return teams.OwnCard(teams.Language(in.organisation.Language), restricted, open), nil
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
	who, person := principal.NewAgent(d.Organisation, d.Subject), subject.Person{Organisation: d.Organisation, Kind: d.SubjectKind, ID: d.Subject}
	if err := b.People.Delivered(context.WithoutCancel(ctx), who, person); err != nil {
		b.Logger.ErrorContext(ctx, "that an agent has his file is not noted; his request stays open", "error", err)
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
