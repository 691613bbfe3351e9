// Package bot is the edge towards Teams: it takes validated activities in, and delivers the outbox. What an agent or a
// channel is shown has passed one of the readers it was handed.
package bot

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/relay"
	"counterfoil/internal/store"
	"counterfoil/internal/subject"
	"counterfoil/internal/teams"
	"counterfoil/internal/web"
)

// answerTime bounds the handling of one activity; Teams sends it again after about 15 s without an answer.
const answerTime = 12 * time.Second

// Config is what a Bot is made of. The readers are the capabilities it was handed: to introduce a visitor to the agent who
// joined, to name the joiner to the channel, to announce a conversation there, to follow one as its agent, and to
// show an agent what is kept of him. The collector keeps his name as Teams gives it, when he asks for that.
type Config struct {
	Cloud           teams.Cloud
	Verifier        *teams.Verifier
	Client          *teams.Client
	Store           *store.Store
	Relay           *relay.Relay
	Tenants         *Tenants
	VisitorToAgent  access.Reader[euii.Agent]
	JoinerToChannel access.Reader[euii.Channel]
	FirstLine       access.FirstLine
	ForAgent        access.Conversations[euii.Agent]
	Own             access.Reader[euii.Agent]
	Collector       access.Collector
	People          subject.Desk
	PublicURL       string                         // where links to one's own data lead
	Address         func(*http.Request) netip.Addr // from where they are used
	Logger          *slog.Logger
	Now             func() time.Time
}

// Bot is safe for concurrent use.
type Bot struct {
	Config
	pacer *teams.Pacer
	wake  chan struct{}

	guesses *rate.Limiter // of links that lead nowhere
	asking  singleflight.Group

	mu        sync.Mutex
	following map[following]*access.Following[euii.Agent]
}

type following struct{ agent, conversation uuid.UUID }

// New makes a Bot.
func New(c Config) *Bot {
	return &Bot{Config: c, pacer: teams.NewPacer(c.Now), wake: make(chan struct{}, 1), guesses: rate.NewLimiter(rate.Every(time.Second), 60), following: make(map[following]*access.Following[euii.Agent])}
}

// Tenants finds the organisation of a Teams tenant. Organisations change rarely, so they are looked up every few seconds.
type Tenants struct {
	Store *store.Store
	Now   func() time.Time

	mu       sync.Mutex
	at       time.Time
	byTenant map[string]chat.Organisation
	byID     map[uuid.UUID]chat.Organisation
}

const tenantsFresh = 5 * time.Second

// fresh looks the organisations up again when they were last looked up too long ago. t.mu is held.
func (t *Tenants) fresh(ctx context.Context) error {
	if t.byTenant != nil && t.Now().Sub(t.at) <= tenantsFresh {
		return nil
	}
	all, err := t.Store.Organisations(ctx)
	if err != nil {
		return err
	}
	t.byTenant, t.byID, t.at = make(map[string]chat.Organisation, len(all)), make(map[uuid.UUID]chat.Organisation, len(all)), t.Now()
	for _, o := range all {
		t.byID[o.ID] = o
		if o.Tenant != "" {
			t.byTenant[strings.ToLower(o.Tenant)] = o
		}
	}
	return nil
}

// Organisation is the organisation of a tenant; chat.ErrNotFound when none has it.
func (t *Tenants) Organisation(ctx context.Context, tenant string) (chat.Organisation, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.fresh(ctx); err != nil {
		return chat.Organisation{}, err
	}
	o, ok := t.byTenant[strings.ToLower(tenant)]
	if !ok {
		return chat.Organisation{}, chat.ErrNotFound
	}
	return o, nil
}

// ByID is the organisation of an id; chat.ErrNotFound when there is none.
func (t *Tenants) ByID(ctx context.Context, id uuid.UUID) (chat.Organisation, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.fresh(ctx); err != nil {
		return chat.Organisation{}, err
	}
	o, ok := t.byID[id]
	if !ok {
		return chat.Organisation{}, chat.ErrNotFound
	}
	return o, nil
}

// Allowed reports whether activities of a tenant are served.
func (t *Tenants) Allowed(ctx context.Context, tenant string) (bool, error) {
	_, err := t.Organisation(ctx, tenant)
	if errors.Is(err, chat.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ServeHTTP takes one activity.
func (b *Bot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		web.Problem(w, http.StatusMethodNotAllowed, "method", "activities are posted")
		return
	}
	a, err := teams.DecodeActivity(r.Body)
	switch {
	case errors.Is(err, teams.ErrActivityTooLong):
		web.Problem(w, http.StatusRequestEntityTooLarge, "too-long", "the activity is too long")
		return
	case err != nil:
		web.Problem(w, http.StatusBadRequest, "activity", "the body is no activity")
		return
	}
	token, err := b.Verifier.Verify(ctx, r.Header.Get("Authorization"), a)
	if errors.Is(err, teams.ErrUnauthorized) {
		b.Logger.WarnContext(ctx, "activity refused", "error", err)
		w.Header().Set("WWW-Authenticate", "Bearer")
		web.Problem(w, http.StatusUnauthorized, "token", "the token is not valid for this activity")
		return
	}
	var organisation chat.Organisation
	if err == nil {
		organisation, err = b.Tenants.Organisation(ctx, token.Tenant())
	}
	if err != nil {
		b.Logger.ErrorContext(ctx, "activity cannot be checked now", "error", err)
		web.Problem(w, http.StatusServiceUnavailable, "unavailable", "activities cannot be checked right now")
		return
	}
	in := inbound{b, a, organisation, token.ServiceURL(), wordsOf(organisation.Language), relay.Identity{
		Organisation: organisation.ID, DirectoryID: a.From.AADObjectID, TeamsUser: a.From.ID, ServiceURL: token.ServiceURL().String(),
	}}
	if a.IsPersonal() {
		in.from.Personal = a.ConversationID
	}
	answer, err := in.handle(ctx)
	if err != nil {
		b.Logger.ErrorContext(ctx, "activity failed", "kind", a.Kind(), "verb", a.Verb(), "error", err)
		web.Problem(w, http.StatusInternalServerError, "internal", "the activity could not be handled")
		return
	}
	if answer == nil {
		w.WriteHeader(http.StatusOK)
		return
	}
	web.JSON(w, http.StatusOK, answer)
}

// inbound is one validated activity with what is known about where it comes from.
type inbound struct {
	*Bot
	*teams.Activity
	organisation chat.Organisation
	at           teams.ServiceURL
	words        words
	from         relay.Identity
}

func (in inbound) handle(ctx context.Context) (*teams.InvokeResponse, error) {
	switch in.Kind() {
	case teams.KindInstall, teams.KindUninstall:
		return nil, in.install(ctx)
	case teams.KindInvoke:
		if in.Verb() == "" {
			r := teams.RespondError(http.StatusBadRequest, "BadRequest", in.words.gone)
			return &r, nil
		}
		r := in.press(ctx)
		return &r, nil
	case teams.KindMessage:
		switch {
		case in.Verb() != "": // Action.Submit of an older client: there is no answer to the click
			r := in.press(ctx)
			if text, ok := r.Value.(string); ok && r.StatusCode != http.StatusOK {
				return nil, in.say(ctx, text)
			}
			return nil, nil
		case in.IsPersonal():
			return nil, in.personal(ctx)
		case in.IsChannel() && in.ThreadRoot() != "":
			return nil, in.thread(ctx)
		}
	case teams.KindTyping:
		if agent, err := in.agent(ctx); err == nil && in.IsPersonal() {
			in.Relay.AgentTypes(agent)
		}
	}
	return nil, nil
}

func (in inbound) agent(ctx context.Context) (store.Agent, error) {
	if in.from.DirectoryID == "" {
		return store.Agent{}, chat.ErrNotFound
	}
	return in.Store.AgentByDirectory(ctx, in.organisation.ID, in.from.DirectoryID)
}

func (in inbound) install(ctx context.Context) error {
	if in.IsPersonal() {
		if agent, err := in.agent(ctx); err == nil {
			return in.Store.SetPersonal(ctx, in.organisation.ID, agent.ID, in.ConversationID, in.at.String(), in.From.ID)
		}
		return nil
	}
	if in.Team.ID == "" {
		return nil
	}
	if in.Kind() == teams.KindUninstall {
		return in.Store.Uninstalled(ctx, in.organisation.ID, "team", in.Team.ID)
	}
	channel := in.SelectedChannel
	if channel == "" {
		channel = in.TeamsChannelID
	}
	if channel == "" {
		channel = in.Team.ID // the id of the General channel is that of its team
	}
	err := in.Store.Installed(ctx, store.Installation{
		Organisation: in.organisation.ID, Scope: "team", Place: in.Team.ID, Channel: channel, ServiceURL: in.at.String(), Bot: in.Recipient.ID,
	}, in.SelectedChannel != "")
	in.Wake()
	return err
}

// press carries out the button of a card. Everything in it is the client's word; who he is and which conversation he
// may act on is decided anew.
func (in inbound) press(ctx context.Context) teams.InvokeResponse {
	if kind, own := ownAsks[in.Verb()]; own {
		return in.pressOwn(ctx, kind)
	}
	conversation, err := uuid.Parse(in.Conversation())
	if err == nil && in.from.DirectoryID == "" {
		err = chat.ErrNotFound
	}
	if err != nil {
		return teams.RespondError(http.StatusBadRequest, "BadRequest", in.words.gone)
	}
	text := in.words.joined
	switch in.Verb() {
	case teams.VerbJoin, teams.VerbAccept:
		if in.Verb() == teams.VerbAccept {
			if err = in.accept(ctx, conversation); err == nil || errors.Is(err, relay.ErrNotice) {
				defer in.retireNotice(ctx, err == nil)
			}
		}
		if err == nil {
			err = in.Relay.AgentJoins(ctx, in.from, conversation, in.fetch)
		}
		if errors.Is(err, relay.ErrNotice) {
			text, err = in.words.readFirst, in.inform(ctx, conversation)
		}
	default:
		text, err = in.act(ctx, conversation)
	}
	in.Wake()
	if err != nil {
		return in.refuse(ctx, err)
	}
	return teams.RespondMessage(text)
}

// accept takes the acceptance of the notice.
func (in inbound) accept(ctx context.Context, conversation uuid.UUID) error {
	version, err := strconv.Atoi(in.Version())
	if err != nil {
		return relay.ErrNotice
	}
	return in.Relay.AgentAccepts(ctx, in.from, conversation, version, in.organisation.Language)
}

// retireNotice takes the button off a notice that was accepted, or is not in force any more; once more when the press arrives again.
func (in inbound) retireNotice(ctx context.Context, accepted bool) {
	language := teams.Language(in.organisation.Language)
	card := teams.SupersededCard(language)
	if accepted {
		notice, err := in.Relay.Notice(ctx, in.organisation.ID, chat.ForAgents)
		if err != nil {
			in.Logger.WarnContext(ctx, "accepted notice keeps its button", "error", err)
			return
		}
		card = teams.AcceptedCard(language, notice.Version, paragraphs(notice, in.organisation.Language))
	}
	in.replace(ctx, card)
}

func paragraphs(n chat.Notice, language string) (all []teams.Paragraph) {
	for _, p := range n.Paragraphs(language) {
		all = append(all, teams.Paragraph(p))
	}
	return all
}

// inform puts the notice in force into the 1:1 chat of whoever pressed Join. The conversation is his meanwhile.
func (in inbound) inform(ctx context.Context, conversation uuid.UUID) error {
	notice, err := in.Relay.Notice(ctx, in.organisation.ID, chat.ForAgents)
	if err != nil {
		return err
	}
	personal := in.ConversationID
	if !in.IsPersonal() {
		if personal, err = in.Client.CreatePersonal(ctx, in.at, in.organisation.Tenant, in.From.ID); err != nil { // asking for the same chat twice gives the same chat
			return err
		}
		in.pacer.Take(personal) // asking counts as a message there
	}
	card := teams.NoticeCard(teams.Language(in.organisation.Language), conversation.String(), notice.Version, paragraphs(notice, in.organisation.Language))
	if err := in.turn(personal); err != nil {
		return err
	}
	_, err = in.Client.Send(ctx, in.at, personal, teams.Message{Card: card})
	return err
}

// act carries out a button that only the conversation's agent may press.
func (in inbound) act(ctx context.Context, conversation uuid.UUID) (string, error) {
	agent, err := in.agent(ctx)
	if errors.Is(err, chat.ErrNotFound) {
		return "", chat.ErrNotJoined
	}
	if err != nil {
		return "", err
	}
	switch in.Verb() {
	case teams.VerbReply:
		if err := euii.CheckInbound(in.ReplyText(), chat.MaxMessage, true); err != nil || euii.InboundEmpty(in.ReplyText()) {
			return "", errRefusedText
		}
		_, repeated, err := in.Relay.AgentReplies(ctx, agent, conversation, euii.InboundTrim(in.ReplyText()))
		if repeated {
			return in.words.repeated, err
		}
		return in.words.replied, err
	case teams.VerbEnd:
		return in.words.ended, in.Relay.AgentEnds(ctx, agent, conversation)
	case teams.VerbTransfer:
		return in.words.transferred, in.Relay.AgentTransfers(ctx, agent, conversation)
	case teams.VerbSwitch:
		return in.words.switched, in.Store.SetCurrent(ctx, in.organisation.ID, agent.ID, conversation)
	}
	return "", chat.ErrNotFound
}

var errRefusedText = errors.New("the text cannot be passed on")

// fetch gets the one member who clicked.
func (in inbound) fetch(ctx context.Context) (relay.Profile, error) {
	m, err := in.Client.Member(ctx, in.at, in.ConversationID, in.From.ID)
	if err != nil {
		return relay.Profile{}, err
	}
	if !strings.EqualFold(m.AADObjectID, in.from.DirectoryID) {
		return relay.Profile{}, errors.New("the bot service gave another member than the one who clicked")
	}
	return relay.Profile{DisplayName: m.Name, GivenName: m.GivenName, Surname: m.Surname, Email: m.Email}, nil
}

func (in inbound) refuse(ctx context.Context, err error) teams.InvokeResponse {
	text, known := in.explain(err)
	if !known {
		in.Logger.ErrorContext(ctx, "card button failed", "verb", in.Verb(), "error", err)
		return teams.RespondError(http.StatusInternalServerError, "InternalError", text)
	}
	return teams.RespondError(http.StatusBadRequest, "BadRequest", text)
}

// explain turns an error into what an agent reads.
func (in inbound) explain(err error) (text string, known bool) {
	switch {
	case errors.Is(err, chat.ErrTaken):
		return in.words.taken, true
	case errors.Is(err, chat.ErrClosed):
		return in.words.closed, true
	case errors.Is(err, chat.ErrNotJoined):
		return in.words.notJoined, true
	case errors.Is(err, chat.ErrNotFound):
		return in.words.gone, true
	case errors.Is(err, relay.ErrNoProfile):
		return in.words.noProfile, true
	case errors.Is(err, errRefusedText):
		return in.words.refused, true
	case errors.Is(err, access.ErrDenied):
		return in.words.denied, true
	}
	return in.words.unavailable, false
}

// personal takes what an agent writes in the 1:1 chat: a command, or the answer to his current conversation.
func (in inbound) personal(ctx context.Context) error {
	text := in.TextWithoutMention()
	verb, own := ownCommand(text)
	agent, err := in.agent(ctx)
	if errors.Is(err, chat.ErrNotFound) {
		if own {
			return in.say(ctx, in.words.ownNothing)
		}
		return in.say(ctx, in.words.noCurrent)
	}
	if err != nil {
		return err
	}
	if agent.Personal != in.ConversationID || agent.ServiceURL != in.at.String() {
		if err := in.Store.SetPersonal(ctx, in.organisation.ID, agent.ID, in.ConversationID, in.at.String(), in.From.ID); err != nil {
			return err
		}
	}
	switch {
	case euii.InboundEqualFold(text, "help"):
		return in.say(ctx, in.words.help)
	case own && verb == "":
		return in.myData(ctx, agent)
	case own:
		said, err := in.asks(ctx, agent, ownAsks[verb])
		if err != nil {
			return in.tell(ctx, err)
		}
		return in.say(ctx, said)
	case euii.InboundEqualFold(text, "chats"):
		return in.chats(ctx, agent)
	case agent.Current == uuid.Nil:
		return in.say(ctx, in.words.noCurrent)
	case euii.InboundEqualFold(text, "end"):
		return in.tell(ctx, in.Relay.AgentEnds(ctx, agent, agent.Current))
	case euii.InboundEqualFold(text, "transfer"):
		return in.tell(ctx, in.Relay.AgentTransfers(ctx, agent, agent.Current))
	}
	return in.answer(ctx, agent, agent.Current, text)
}

// thread takes a mention of the bot in the thread of a conversation's card as an answer to it.
func (in inbound) thread(ctx context.Context) error {
	conversation, err := in.Store.ByThread(ctx, in.organisation.ID, in.ConversationID)
	if errors.Is(err, chat.ErrNotFound) { // some other thread in which somebody mentioned the bot
		if euii.InboundEqualFold(in.TextWithoutMention(), "help") {
			return in.say(ctx, in.words.help)
		}
		return nil
	}
	if err != nil {
		return err
	}
	agent, err := in.agent(ctx)
	if errors.Is(err, chat.ErrNotFound) {
		return in.say(ctx, in.words.notJoined)
	}
	if err != nil {
		return err
	}
	return in.answer(ctx, agent, conversation, in.TextWithoutMention())
}

// answer passes an agent's message to the visitor.
func (in inbound) answer(ctx context.Context, agent store.Agent, conversation uuid.UUID, text euii.Inbound) error {
	files := false
	for _, a := range in.Attachments {
		files = files || !strings.HasPrefix(a.ContentType, "text/") // the text comes a second time as HTML
	}
	if euii.InboundEmpty(text) {
		if files {
			return in.say(ctx, in.words.noFiles)
		}
		return nil
	}
	if euii.InboundLen(text) > chat.MaxMessage {
		return in.say(ctx, in.words.tooLong)
	}
	if euii.CheckInbound(text, chat.MaxMessage, true) != nil {
		return in.say(ctx, in.words.refused)
	}
	_, err := in.Relay.AgentSays(ctx, agent, conversation, in.item(), text)
	if err == nil && files {
		return in.say(ctx, in.words.noFiles)
	}
	return in.tell(ctx, err)
}

// item identifies the activity, so that a redelivery is the same message.
func (in inbound) item() uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(in.organisation.ID.String()+"\x00"+in.ConversationID+"\x00"+in.ID))
}

// chats shows the agent's conversations to choose from.
func (in inbound) chats(ctx context.Context, agent store.Agent) error {
	held, err := in.Store.HeldBy(ctx, in.organisation.ID, agent.ID)
	if err != nil {
		return err
	}
	choices := make([]teams.Choice, len(held))
	for i, h := range held {
		handle, err := in.Relay.Handle(ctx, in.organisation.ID, "visitor", h.Visitor)
		if err != nil {
			return err
		}
		choices[i] = teams.Choice{Conversation: h.Conversation.String(), Handle: handle}
	}
	return in.post(ctx, teams.Message{Card: teams.SwitchCard(teams.Language(in.organisation.Language), agent.Current.String(), choices)})
}

// tell tells the agent why something did not happen; nil says nothing.
func (in inbound) tell(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	text, known := in.explain(err)
	if !known {
		in.Logger.ErrorContext(ctx, "agent's message failed", "error", err)
	}
	return in.say(ctx, text)
}

func (in inbound) say(ctx context.Context, text string) error {
	return in.post(ctx, teams.Message{Text: text})
}

// post answers in the same chat, as soon as it may. Such a line is about the moment: it is not queued, and losing it loses nothing.
func (in inbound) post(ctx context.Context, m teams.Message) error {
	if !in.awaitTurn(ctx) {
		return nil
	}
	if _, err := in.Client.Send(ctx, in.at, in.ConversationID, m); err != nil {
		in.Logger.WarnContext(ctx, "answer to agent not sent", "error", err)
	}
	return nil
}

// replace puts another card in place of the one whose button was pressed, in the 1:1 chat, where it is nobody else's. Replacing it again changes
// nothing, so where it fails it is done when the press arrives again.
func (in inbound) replace(ctx context.Context, card teams.Card) {
	if !in.IsPersonal() || in.ReplyToID == "" || !in.awaitTurn(ctx) {
		return
	}
	if err := in.Client.Update(ctx, in.at, in.ConversationID, in.ReplyToID, teams.Message{Card: card}); err != nil {
		in.Logger.WarnContext(ctx, "card not replaced", "verb", in.Verb(), "error", err)
	}
}

// awaitTurn waits until the chat may be written to, and reports whether it may.
func (in inbound) awaitTurn(ctx context.Context) bool {
	for wait := in.pacer.Take(in.ConversationID); wait > 0; wait = in.pacer.Take(in.ConversationID) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
	return true
}
