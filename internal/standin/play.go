package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"
)

// What the programmatic actions and the page refuse.
var (
	ErrNoMember = errors.New("no such member")
	ErrNoPost   = errors.New("no such message")
	ErrNoAction = errors.New("no such button on the card")
	ErrEmpty    = errors.New("message is empty")
	ErrInput    = errors.New("a required input of the card is empty")
)

// Answer is what Teams made of the bot's answer to a click.
type Answer struct {
	Error bool
	Text  string          // shown under the card, if not empty
	Card  json.RawMessage // replaced the card for the clicker, if not nil
}

// unreachable is what Teams tells who clicked when the bot gave no usable answer.
const unreachable = "Unable to reach app. Please try again."

// Install adds the app to the team with the channel FrontDesk selected. The bot may post from the moment it is called.
// It hears of it by two events, whose order changes with every call. The error tells of the first attempts alone.
func (s *Server) Install(ctx context.Context) error {
	var errs []error
	for _, a := range s.installation() {
		errs = append(errs, outcomeError(s.deliver(ctx, a, nil)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.installed()
	return nil
}

func (s *Server) installed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.installed = true
	s.touch()
}

func (s *Server) installation() []*activity {
	s.mu.Lock()
	swap := s.w.installs%2 == 1
	s.w.installs++
	s.w.inTeam = true
	s.touch()
	s.mu.Unlock()
	who := s.org.members[0]
	who.Name = "" // Teams does not name people in these events
	team := &teamRef{ID: teamID, Name: teamName, AADGroupID: teamGroup}
	added := s.newActivity("installationUpdate", who, teamID)
	added.Action = "add"
	added.ChannelData.Team = team
	added.ChannelData.Settings = &struct {
		SelectedChannel idRef `json:"selectedChannel"`
	}{idRef{frontID}}
	member := s.newActivity("conversationUpdate", who, teamID)
	member.MembersAdded = []account{{ID: s.org.bot.ID}}
	member.ChannelData.Team, member.ChannelData.EventType = team, "teamMemberAdded"
	if swap {
		return []*activity{member, added}
	}
	return []*activity{added, member}
}

// autoInstall waits for the bot's endpoint to answer and installs the app, until both events were accepted.
func (s *Server) autoInstall(ctx context.Context) {
	deadline := time.Now().Add(s.cfg.Timing.Install)
	for time.Now().Before(deadline) {
		if s.botAnswers(ctx) && s.installOnce(ctx) {
			s.cfg.Logger.Info("app installed in the stand-in's team")
			return
		}
		if sleep(ctx, 250*time.Millisecond) != nil {
			return
		}
	}
	s.cfg.Logger.Info("bot did not accept the installation; the page can install the app later")
}

func (s *Server) botAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, s.cfg.BotEndpoint, http.NoBody)
	if err != nil {
		return false
	}
	res, err := s.client.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode < http.StatusInternalServerError
}

func (s *Server) installOnce(ctx context.Context) bool {
	for _, a := range s.installation() {
		body, err := json.Marshal(a)
		if err != nil {
			return false
		}
		if outcomeError(s.attempt(ctx, body)) != nil {
			return false
		}
	}
	s.installed()
	return true
}

// Block lets the member remove the bot from the 1:1 chat, which answers MessageWritesBlocked from then on, or take it
// back. The bot hears of it by an installationUpdate.
func (s *Server) Block(ctx context.Context, short string, blocked bool) error {
	m, ok := s.org.byShort(short)
	if !ok {
		return ErrNoMember
	}
	s.mu.Lock()
	s.w.blocked[short] = blocked
	s.touch()
	s.mu.Unlock()
	who := m
	who.Name = ""
	a := s.newActivity("installationUpdate", who, m.ChatID)
	a.Action = "add"
	if blocked {
		a.Action = "remove"
	}
	return outcomeError(s.deliver(ctx, a, nil))
}

// Say writes in the member's 1:1 chat and returns the message's id once the bot answered the first delivery. An error
// tells that it did not accept it; the message stands in the chat and is delivered again all the same.
func (s *Server) Say(ctx context.Context, short, text string) (string, error) {
	m, ok := s.org.byShort(short)
	if !ok {
		return "", ErrNoMember
	}
	if strings.TrimSpace(text) == "" {
		return "", ErrEmpty
	}
	return s.say(ctx, m, m.ChatID, m.ChatID, text, false)
}

// SayInThread answers in a channel thread, named by its conversation id or the id of its first message. The bot hears of
// it only when it is mentioned.
func (s *Server) SayInThread(ctx context.Context, short, thread, text string, mention bool) (string, error) {
	m, ok := s.org.byShort(short)
	if !ok {
		return "", ErrNoMember
	}
	if strings.TrimSpace(text) == "" {
		return "", ErrEmpty
	}
	if _, root, found := strings.Cut(thread, threadMark); found {
		thread = root
	}
	s.mu.Lock()
	p := s.w.byID[thread]
	s.mu.Unlock()
	if p == nil || !p.Root {
		return "", ErrNoPost
	}
	place, _, _ := channelOf(p.Conversation)
	return s.say(ctx, m, place, p.Conversation, text, mention)
}

func (s *Server) say(ctx context.Context, m Member, place, conversation, text string, mention bool) (string, error) {
	p := &Post{Conversation: conversation, Author: m.Short, Text: text, Plain: true}
	forBot := place == m.ChatID || mention
	a := s.newActivity("message", m, conversation).fromPerson()
	a.Text, a.TextFormat = text, "plain"
	markup := html.EscapeString(text)
	if mention {
		at := "<at>" + botName + "</at>"
		p.Text = at + " " + text
		p.Mentions = []Mention{{Text: at, Name: botName}}
		a.Text = p.Text
		a.Entities = append(a.Entities, entity{Type: "mention", Text: at, Mentioned: &s.org.bot})
		markup = `<span itemscope itemtype="http://schema.skype.com/Mention" itemid="0">` + botName + "</span>&nbsp;" + markup
	}
	a.Attachments = []textCopy{{ContentType: "text/html", Content: "<p>" + strings.ReplaceAll(markup, "\n", "<br>") + "</p>"}}
	if forBot {
		p.Delivery = Sending
	}
	s.mu.Lock()
	s.add(place, p)
	id, at := p.ID, p.At
	s.mu.Unlock()
	if !forBot {
		return id, nil
	}
	a.stamp(id, at)
	return id, outcomeError(s.deliver(ctx, a, func(ans answer, err error, final bool) {
		if !final {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		p.Delivery = delivery(ans, err)
		s.touch()
	}))
}

// Typing tells the bot that the member is writing in the 1:1 chat.
func (s *Server) Typing(ctx context.Context, short string) error {
	m, ok := s.org.byShort(short)
	if !ok {
		return ErrNoMember
	}
	return outcomeError(s.deliver(ctx, s.newActivity("typing", m, m.ChatID).fromPerson(), nil))
}

// Click presses the button of a message's card that bears the verb (or, failing that, the title) as the member sees it.
// inputs fill the card's input fields and go over the button's data, whatever their names, as a forged client might do.
// The answer is that of the first delivery; a later one shows in the message's notices and cards.
func (s *Server) Click(ctx context.Context, short, activityID, verb string, inputs map[string]string) (Answer, error) {
	s.mu.Lock()
	p := s.w.byID[activityID]
	if p == nil || p.Deleted {
		s.mu.Unlock()
		return Answer{}, ErrNoPost
	}
	now := p.clone()
	s.mu.Unlock()
	return s.ClickSeen(ctx, short, now, verb, inputs)
}

// ClickSeen is Click on a message as the member saw it at some moment, which a client that lags behind still shows.
func (s *Server) ClickSeen(ctx context.Context, short string, seen Post, verb string, inputs map[string]string) (Answer, error) {
	for _, card := range seen.CardsSeenBy(short) {
		actions, err := actionsOf(card)
		if err != nil {
			return Answer{}, err
		}
		for _, a := range actions {
			if a.named(verb) {
				return s.press(ctx, short, seen.ID, a, inputs)
			}
		}
	}
	return Answer{}, fmt.Errorf("%w: %q", ErrNoAction, verb)
}

// press sends what pressing the button sends: an invoke for Action.Execute, a message for Action.Submit.
func (s *Server) press(ctx context.Context, short, activityID string, button cardAction, inputs map[string]string) (Answer, error) {
	m, ok := s.org.byShort(short)
	if !ok {
		return Answer{}, ErrNoMember
	}
	s.mu.Lock()
	p, old := s.w.byID[activityID], s.w.oldClient[short]
	if p == nil || p.Deleted {
		s.mu.Unlock()
		return Answer{}, ErrNoPost
	}
	conversation := p.Conversation
	if p.Notices[short] != (Notice{}) {
		delete(p.Notices, short)
		s.touch()
	}
	s.mu.Unlock()
	if old {
		if button, ok = button.forOldClient(); !ok {
			return Answer{}, fmt.Errorf("%w: it has no Action.Submit for old clients", ErrNoAction)
		}
	}
	data, err := button.merged(inputs)
	if err != nil {
		return Answer{}, err
	}
	switch button.Type {
	case "Action.Submit":
		a := s.newActivity("message", m, conversation).fromPerson()
		a.ReplyToID, a.Value = activityID, data
		return Answer{}, outcomeError(s.deliver(ctx, a, nil))
	case "Action.Execute":
		a := s.newActivity("invoke", m, conversation).fromPerson()
		a.Name, a.ReplyToID = "adaptiveCard/action", activityID
		a.Value = map[string]any{
			"action":  map[string]any{"type": button.Type, "title": button.Title, "verb": button.Verb, "data": data},
			"trigger": "manual",
		}
		ans, err := s.deliver(ctx, a, func(ans answer, err error, _ bool) {
			s.showAnswer(activityID, short, readAnswer(ans, err))
		})
		return readAnswer(ans, err), nil
	}
	return Answer{}, fmt.Errorf("%w: %s is not sent to a bot", ErrNoAction, button.Type)
}

// readAnswer understands the body of an invoke's answer as Teams does.
func readAnswer(ans answer, err error) Answer {
	if err != nil || ans.status != http.StatusOK {
		return Answer{Error: true, Text: unreachable}
	}
	var body struct {
		StatusCode int             `json:"statusCode"`
		Type       string          `json:"type"`
		Value      json.RawMessage `json:"value"`
	}
	if json.Unmarshal(ans.body, &body) != nil {
		return Answer{Error: true, Text: unreachable}
	}
	switch {
	case body.StatusCode == http.StatusOK && body.Type == cardType && checkCard(body.Value) == nil:
		return Answer{Card: bytes.Clone(body.Value)}
	case body.StatusCode == http.StatusOK && body.Type == "application/vnd.microsoft.activity.message":
		var text string
		if json.Unmarshal(body.Value, &text) == nil {
			return Answer{Text: text}
		}
	case body.Type == "application/vnd.microsoft.activity.loginRequest":
		return Answer{Error: true, Text: "The app asks you to sign in."}
	case strings.HasPrefix(body.Type, "application/vnd.microsoft.error"):
		var value struct{ Code, Message string }
		if json.Unmarshal(body.Value, &value) == nil && value.Message != "" {
			return Answer{Error: true, Text: value.Message}
		}
		return Answer{Error: true, Text: "Something went wrong. Please try again."}
	}
	return Answer{Error: true, Text: unreachable}
}

// showAnswer lets the clicker alone see what came of the click.
func (s *Server) showAnswer(activityID, short string, a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.w.byID[activityID]
	if p == nil || p.Deleted {
		return
	}
	switch {
	case a.Card != nil:
		if p.CardFor == nil {
			p.CardFor = map[string]json.RawMessage{}
		}
		p.CardFor[short] = a.Card
		delete(p.Notices, short)
	default:
		if p.Notices == nil {
			p.Notices = map[string]Notice{}
		}
		p.Notices[short] = Notice{Error: a.Error, Text: a.Text}
	}
	s.touch()
}
