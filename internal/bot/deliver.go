package bot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/store"
	"counterfoil/internal/teams"
)

const (
	deliverAtOnce = 16
	// look is how often the outbox is looked at without a hint: due retries, and hints that were lost.
	look = time.Second
	// unknownPause lets a card that Teams has taken after all appear before it is posted again.
	unknownPause = 10 * time.Second
	// A delivery has to be over, and its outcome kept, before its lease ends.
	attemptTime = 12 * time.Second
	keepTime    = 5 * time.Second
	finishTime  = store.DeliveryLease - attemptTime - keepTime
)

// Wake makes the delivery look at the outbox now.
func (b *Bot) Wake() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Deliver drains the outbox until ctx ends: in order within a conversation and lane, many conversations at once.
func (b *Bot) Deliver(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, deliverAtOnce)
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.wake:
		case <-tick.C:
		}
		for ctx.Err() == nil {
			due, err := b.Store.ClaimDeliveries(ctx, deliverAtOnce)
			if err != nil {
				if ctx.Err() == nil {
					b.Logger.ErrorContext(ctx, "outbox cannot be read", "error", err)
				}
				break
			}
			for _, d := range due {
				slots <- struct{}{}
				running.Go(func() {
					defer func() { <-slots }()
					b.deliver(ctx, d)
					b.Wake() // the next of the same conversation and lane
				})
			}
			if len(due) < deliverAtOnce {
				break
			}
		}
	}
}

// outcome is what became of a delivery.
type outcome struct {
	state, reason string
	again         time.Duration
}

var (
	sent      = outcome{state: "sent"}
	notNeeded = outcome{state: "sent", reason: "not_needed"}
)

func (b *Bot) deliver(ctx context.Context, d store.Delivery) {
	o := outcome{state: "unknown", reason: "sender_died"}
	if !d.OutcomeUnknown || repeatable(d.Kind) {
		var err error
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		o, err = b.attempt(attempt, d)
		cancel()
		if err != nil {
			o = b.judge(ctx, d, err)
		}
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if err := b.Store.FinishDelivery(finish, d, o.state, o.reason, o.again); err != nil {
		b.Logger.ErrorContext(ctx, "outcome of a delivery not kept", "delivery", d.ID, "outcome", o.state, "error", err)
	}
}

// repeatable reports whether a delivery may be tried again when nobody knows whether Teams has it. Replacing a card again
// changes nothing. A second card of the same conversation is a nuisance, but without one nobody would ever join.
func repeatable(kind string) bool {
	return kind == "card.update" || kind == "intro.update" || kind == "card.post"
}

// judge says what to do after an error: nothing is repeated of which it is unknown whether Teams has it.
func (b *Bot) judge(ctx context.Context, d store.Delivery, err error) outcome {
	backoff := min(time.Second<<min(d.Attempts, 6), time.Minute)
	var wait *paced
	var call *teams.CallError
	switch {
	case errors.As(err, &wait):
		return outcome{"waiting", "paced", wait.wait}
	case errors.Is(err, access.ErrDenied):
		b.Logger.WarnContext(ctx, "delivery denied", "kind", d.Kind, "error", err)
		return outcome{"failed", "denied", 0}
	case errors.As(err, &call):
		b.Logger.WarnContext(ctx, "delivery to Teams", "kind", d.Kind, "outcome", teams.OutcomeOf(err).String(), "error", err)
		switch teams.OutcomeOf(err) {
		case teams.Retry:
			return outcome{"waiting", "retry", max(teams.RetryAfter(err), backoff)}
		case teams.Failed:
			return outcome{"failed", "refused", 0}
		}
		if repeatable(d.Kind) {
			return outcome{"waiting", "no_answer", max(backoff, unknownPause)}
		}
		return outcome{"unknown", "no_answer", 0}
	case errors.Is(err, teams.ErrTooBig):
		return outcome{"failed", "too_big", 0}
	}
	// Nothing has left: storage or the record was not to be had.
	b.Logger.WarnContext(ctx, "delivery waits", "kind", d.Kind, "error", err)
	return outcome{"waiting", "unavailable", backoff}
}

type paced struct{ wait time.Duration }

func (p *paced) Error() string { return fmt.Sprintf("the thread is at its limit for %s", p.wait) }

// turn waits for nothing: it says when the thread may be written to again.
func (b *Bot) turn(thread string) error {
	if wait := b.pacer.Take(thread); wait > 0 {
		return &paced{wait}
	}
	return nil
}

func (b *Bot) attempt(ctx context.Context, d store.Delivery) (outcome, error) {
	scene, err := b.Relay.Scene(ctx, d.Organisation, d.Conversation)
	if err != nil {
		return outcome{}, err
	}
	scene.Request = fmt.Sprintf("delivery-%d", d.ID)
	organisation, err := b.Tenants.ByID(ctx, d.Organisation)
	if err != nil {
		return outcome{}, err
	}
	scene.Conversation.Handle, err = b.Relay.Handle(ctx, d.Organisation, "visitor", scene.Conversation.Visitor)
	if err != nil {
		return outcome{}, err
	}
	switch d.Kind {
	case "card.post":
		return b.postCard(ctx, organisation, scene)
	case "card.update":
		return b.updateCard(ctx, organisation, scene)
	case "intro.update":
		return b.updateIntro(ctx, organisation, scene, d)
	}
	return b.toAgent(ctx, organisation, scene, d)
}

func (b *Bot) postCard(ctx context.Context, o chat.Organisation, scene access.Scene) (outcome, error) {
	c := scene.Conversation
	if c.State == chat.Closed || c.Card != "" {
		return notNeeded, nil
	}
	place, err := b.Store.CardChannel(ctx, o.ID)
	if errors.Is(err, chat.ErrNotFound) {
		return outcome{"waiting", "not_installed", 2 * time.Second}, nil
	}
	if err != nil {
		return outcome{}, err
	}
	at, err := teams.ParseServiceURL(place.ServiceURL, b.Cloud)
	if err != nil {
		return outcome{"failed", "service_url", 0}, nil
	}
	if err := b.turn(place.Channel); err != nil {
		return outcome{}, err
	}
	card, err := b.waitingCard(ctx, o, scene, place.Channel)
	if err != nil {
		return outcome{}, err
	}
	posted, err := b.Client.CreateThread(ctx, at, o.Tenant, place.Channel, card)
	if err != nil {
		return outcome{}, err
	}
	return sent, b.keep(ctx, func(ctx context.Context) error {
		return b.Store.SetCard(ctx, o.ID, c.ID, posted.ConversationID, posted.ActivityID, place.ServiceURL)
	})
}

// keep retries what must not be lost after Teams has done something.
func (b *Bot) keep(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		err := f(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

func (b *Bot) waitingCard(ctx context.Context, o chat.Organisation, scene access.Scene, channel string) (teams.Card, error) {
	line, err := b.FirstLine.Read(ctx, principal.NewChannel(o.ID, channel), scene)
	if err != nil && !restricted(err) {
		return teams.Card{}, err
	}
	return teams.WaitingCard(teams.Language(o.Language), teams.Waiting{
		Conversation: scene.Conversation.ID.String(), Handle: scene.Conversation.Handle, FirstLine: euii.Reveal(line),
	}), nil
}

// updateCard makes the channel card show the state the conversation has now.
func (b *Bot) updateCard(ctx context.Context, o chat.Organisation, scene access.Scene) (outcome, error) {
	c := scene.Conversation
	if c.Card == "" {
		return notNeeded, nil
	}
	at, err := teams.ParseServiceURL(c.ServiceURL, b.Cloud)
	if err != nil {
		return outcome{"failed", "service_url", 0}, nil
	}
	if err := b.turn(c.Thread); err != nil {
		return outcome{}, err
	}
	place, err := b.Store.CardChannel(ctx, o.ID)
	if err != nil && !errors.Is(err, chat.ErrNotFound) {
		return outcome{}, err
	}
	language := teams.Language(o.Language)
	var card teams.Card
	switch c.State {
	case chat.Waiting:
		if card, err = b.waitingCard(ctx, o, scene, place.Channel); err != nil {
			return outcome{}, err
		}
	case chat.Active:
		// The name on the card is a disclosure to everybody in the channel; where policy denies it, the card goes without.
		joiner, err := b.JoinerToChannel.Read(ctx, principal.NewChannel(o.ID, place.Channel), scene, c.Agent, c.ID)
		if err != nil && !errors.Is(err, access.ErrDenied) {
			return outcome{}, err
		}
		card = teams.ActiveCard(language, teams.Active{
			Conversation: c.ID.String(), Handle: c.Handle, JoinedBy: euii.Reveal(joiner.Value(euii.AgentDisplayName)),
		})
	default:
		card = closedCard(language, c)
	}
	if err := b.Client.Update(ctx, at, c.Thread, c.Card, teams.Message{Card: card}); err != nil {
		return outcome{}, err
	}
	return sent, nil
}

func closedCard(l teams.Language, c chat.Conversation) teams.Card {
	if c.ClosedBy == chat.PartyAgent {
		return teams.ClosedCard(l, c.Handle, teams.EndedByAgent)
	}
	return teams.ClosedCard(l, c.Handle, teams.EndedByVisitor)
}

// toAgent delivers to an agent's 1:1 chat, which is opened when it is not known yet.
func (b *Bot) toAgent(ctx context.Context, o chat.Organisation, scene access.Scene, d store.Delivery) (outcome, error) {
	if d.Agent == nil {
		return notNeeded, nil
	}
	agent, err := b.Store.Agent(ctx, o.ID, *d.Agent)
	if err != nil {
		return outcome{}, err
	}
	at, err := teams.ParseServiceURL(agent.ServiceURL, b.Cloud)
	if err != nil {
		return outcome{"failed", "service_url", 0}, nil
	}
	if agent.Personal == "" {
		agent.Personal, err = b.Client.CreatePersonal(ctx, at, o.Tenant, agent.TeamsUser)
		if err != nil && teams.OutcomeOf(err) == teams.Unknown {
			return outcome{"waiting", "retry", look}, nil // asking for the same chat twice gives the same chat
		}
		if err != nil {
			return outcome{}, err
		}
		b.pacer.Take(agent.Personal) // asking counts as a message there
		err := b.keep(ctx, func(ctx context.Context) error {
			return b.Store.SetPersonal(ctx, o.ID, agent.ID, agent.Personal, agent.ServiceURL, agent.TeamsUser)
		})
		if err != nil {
			return outcome{}, err
		}
	}
	if err := b.turn(agent.Personal); err != nil {
		return outcome{}, err
	}
	message, err := b.forAgent(ctx, o, scene, agent, d)
	if err != nil {
		return outcome{}, err
	}
	if message.Text == "" && message.Card.IsZero() {
		return notNeeded, nil
	}
	if err := b.retireIntro(ctx, at, o, scene.Conversation, agent.Personal, d.Kind); err != nil {
		return outcome{}, err
	}
	activity, err := b.Client.Send(ctx, at, agent.Personal, message)
	if err != nil {
		return outcome{}, err
	}
	if d.Kind == "intro" {
		return sent, b.keep(ctx, func(ctx context.Context) error { return b.Store.SetIntro(ctx, o.ID, scene.Conversation.ID, activity) })
	}
	return sent, nil
}

// updateIntro shows the agent who holds the conversation its visitor as he is kept now. It is a disclosure like the first.
func (b *Bot) updateIntro(ctx context.Context, o chat.Organisation, scene access.Scene, d store.Delivery) (outcome, error) {
	c := scene.Conversation
	if c.Intro == "" || c.State != chat.Active || d.Agent == nil || *d.Agent != c.Agent {
		return notNeeded, nil
	}
	agent, err := b.Store.Agent(ctx, o.ID, c.Agent)
	if err != nil {
		return outcome{}, err
	}
	at, err := teams.ParseServiceURL(agent.ServiceURL, b.Cloud)
	if err != nil {
		return outcome{"failed", "service_url", 0}, nil
	}
	if err := b.turn(agent.Personal); err != nil {
		return outcome{}, err
	}
	message, err := b.introduction(ctx, o, scene, principal.NewAgent(o.ID, agent.ID))
	if err != nil {
		return outcome{}, err
	}
	return sent, b.Client.Update(ctx, at, agent.Personal, c.Intro, message)
}

// introduction presents the visitor to his agent.
func (b *Bot) introduction(ctx context.Context, o chat.Organisation, scene access.Scene, who principal.Agent) (teams.Message, error) {
	c := scene.Conversation
	visitor, err := b.VisitorToAgent.Read(ctx, who, scene, c.Visitor, c.ID)
	if restricted(err) {
		return teams.Message{Card: teams.IntroCard(teams.Language(o.Language), teams.Intro{Conversation: c.ID.String(), Handle: c.Handle, Name: wordsOf(o.Language).restricted})}, nil
	}
	if err != nil {
		return teams.Message{}, err
	}
	return teams.Message{Card: teams.IntroCard(teams.Language(o.Language), teams.Intro{
		Conversation: c.ID.String(), Handle: c.Handle, Language: map[string]string{"en": "English", "fr": "français"}[c.Language],
		Name: euii.Reveal(visitor.Value(euii.VisitorDisplayName)), Email: euii.Reveal(visitor.Value(euii.VisitorEmail)),
	})}, nil
}

// retireIntro takes the visitor's name and the buttons out of the 1:1 chat when the conversation is no longer the agent's.
func (b *Bot) retireIntro(ctx context.Context, at teams.ServiceURL, o chat.Organisation, c chat.Conversation, chatID, kind string) error {
	if c.Intro == "" {
		return nil
	}
	var card teams.Card
	switch kind {
	case "closed":
		card = closedCard(teams.Language(o.Language), c)
	case "left":
		card = teams.LeftCard(teams.Language(o.Language), c.Handle)
	default:
		return nil
	}
	err := b.Client.Update(ctx, at, chatID, c.Intro, teams.Message{Card: card})
	switch {
	case err == nil, teams.OutcomeOf(err) == teams.Failed: // refused when the message is no longer there
		return nil
	case teams.OutcomeOf(err) == teams.Unknown:
		return &paced{look} // replacing a card again changes nothing
	}
	return err
}

// forAgent makes the message of one delivery, opening what it needs under the agent's own rights.
func (b *Bot) forAgent(ctx context.Context, o chat.Organisation, scene access.Scene, agent store.Agent, d store.Delivery) (teams.Message, error) {
	c, w, who := scene.Conversation, wordsOf(o.Language), principal.NewAgent(o.ID, agent.ID)
	switch d.Kind {
	case "intro":
		return b.introduction(ctx, o, scene, who)
	case "say":
		messages, err := b.follow(agent.ID, c.ID, who).Read(ctx, scene, d.Seq-1, 1)
		if restricted(err) {
			return teams.Message{Text: c.Handle + ": " + w.restrictedSay}, nil
		}
		if err != nil {
			return teams.Message{}, err
		}
		if len(messages) == 0 || messages[0].Seq != d.Seq {
			return teams.Message{}, fmt.Errorf("%w: the message is not to be had", access.ErrUnavailable)
		}
		text := euii.Reveal(messages[0].Text)
		if agent.Current != c.ID {
			text = c.Handle + ": " + text
		}
		return teams.Message{Text: text}, nil
	case "closed":
		b.forget(agent.ID, c.ID)
		if c.ClosedBy == chat.PartyAgent {
			return teams.Message{Text: c.Handle + ": " + w.youEnded}, nil
		}
		return teams.Message{Text: c.Handle + ": " + w.visitorEnded}, nil
	case "doubt":
		return teams.Message{Text: c.Handle + ": " + w.doubt}, nil
	case "left":
		b.forget(agent.ID, c.ID)
		return teams.Message{Text: c.Handle + ": " + w.left}, nil
	}
	return teams.Message{}, nil
}

// restricted reports whether something is not shown because the person restricted what is done with his data.
func restricted(err error) bool {
	var denied access.DeniedError
	return errors.As(err, &denied) && slices.Contains(denied.Reasons, "restricted")
}

// maxFollowing bounds what is remembered of conversations in progress; forgetting one costs a further record.
const maxFollowing = 1 << 14

func (b *Bot) follow(agent, conversation uuid.UUID, who principal.Agent) *access.Following[euii.Agent] {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := following{agent, conversation}
	f := b.following[k]
	if f == nil {
		if len(b.following) >= maxFollowing {
			clear(b.following)
		}
		f = b.ForAgent.Follow(who)
		b.following[k] = f
	}
	return f
}

func (b *Bot) forget(agent, conversation uuid.UUID) {
	b.mu.Lock()
	delete(b.following, following{agent, conversation})
	b.mu.Unlock()
}

// VisitorTypes shows the agent that his visitor types. It is about the moment, so anything in the way ends it.
func (b *Bot) VisitorTypes(ctx context.Context, organisation, conversation uuid.UUID) {
	c, _, err := b.Store.Conversation(ctx, organisation, conversation)
	if err != nil || c.State != chat.Active {
		return
	}
	agent, err := b.Store.Agent(ctx, organisation, c.Agent)
	if err != nil || agent.Personal == "" || agent.Current != conversation {
		return
	}
	if at, err := teams.ParseServiceURL(agent.ServiceURL, b.Cloud); err == nil && b.pacer.Take(agent.Personal) == 0 {
		_ = b.Client.Typing(ctx, at, agent.Personal)
	}
}
