package teams

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"counterfoil/internal/access/euii"
)

const (
	// MaxActivity is the largest activity that is read, in bytes. Teams itself stops at about 100 KB.
	MaxActivity = 256 << 10
	maxDepth    = 32
)

// ErrActivity says that a body is not an activity. It never quotes the body.
var ErrActivity = errors.New("teams: not an activity")

// ErrActivityTooLong says that a body is longer than MaxActivity: answer 413.
var ErrActivityTooLong = errors.New("teams: the activity is too long")

// Kind says what an activity is about.
type Kind string

// The kinds. Everything else Teams sends, now or later, is KindOther: answer 200 and do nothing.
const (
	KindMessage   Kind = "message"   // text, or a card's Action.Submit (then Verb is set)
	KindInvoke    Kind = "invoke"    // a card's Action.Execute; the HTTP answer is the result
	KindInstall   Kind = "install"   // the bot was added; arrives twice and in any order, so it must be idempotent
	KindUninstall Kind = "uninstall" // the bot was removed
	KindTyping    Kind = "typing"
	KindEdit      Kind = "edit"   // a message was changed
	KindDelete    Kind = "delete" // a message was withdrawn
	KindOther     Kind = "other"
)

// Verb is what a button of a card asks for.
type Verb string

// The verbs of our cards. A verb that arrives is the client's word: the person and the conversation are authorised anew.
const (
	VerbJoin     Verb = "join"
	VerbReply    Verb = "reply"
	VerbTransfer Verb = "transfer"
	VerbEnd      Verb = "end"
	VerbCanned   Verb = "canned"
	VerbSwitch   Verb = "switch"
	VerbAccept   Verb = "accept" // the notice for agents
)

// The verbs of what an agent asks about his own data. They are about nobody but who presses.
const (
	VerbFile     Verb = "file"
	VerbCorrect  Verb = "correct"
	VerbRestrict Verb = "restrict"
	VerbLift     Verb = "lift"
	VerbObject   Verb = "object"
	VerbErase    Verb = "erase"
)

// Names of the members of a card's data and of its inputs.
const (
	dataConversation = "conversation"
	dataVerb         = "verb"
	dataCanned       = "canned"
	dataVersion      = "version"
	inputReply       = "reply"
)

// Account is a person or a bot. ID is valid for this bot only; AADObjectID is the stable key of a person and is empty
// for bots. Name may be absent.
type Account struct {
	ID          string       `json:"id"`
	AADObjectID string       `json:"aadObjectId"`
	Name        euii.Inbound `json:"name"`
}

// Attachment is something that came with a message. Content is the raw JSON of an object, or the text itself.
type Attachment struct {
	ContentType string
	Name        euii.Inbound
	Content     euii.Inbound
}

// Team is the team of a channel activity; name and group id come with install and update events only.
type Team struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	AADGroupID string `json:"aadGroupId"`
}

// Activity is one event from Teams. Nothing in it is to be believed before Verifier.Verify accepted it.
type Activity struct {
	Type       string
	Name       string // of an invoke
	ID         string
	Timestamp  time.Time // zero if absent
	Locale     string
	ChannelID  string // of the Bot Framework: "msteams"
	ServiceURL string
	From       Account
	Recipient  Account
	ReplyToID  string
	Text       euii.Inbound

	// ConversationID is the chat, the channel, or a channel's thread ("…;messageid=ROOT").
	ConversationID   string
	ConversationType string

	Team            Team
	TeamsChannelID  string // the channel's id, without a thread
	SelectedChannel string // the channel picked when the app was installed
	MembersAdded    []Account
	MembersRemoved  []Account
	Attachments     []Attachment

	action             string
	eventType          string
	channelTenant      string
	conversationTenant string
	mentions           []mention
	verb               Verb
	references         map[string]string
	inputs             map[string]euii.Inbound
}

type mention struct {
	id   string
	text euii.Inbound
}

// wireActivity is the JSON form. Foreign text is euii.Inbound in it already.
type wireActivity struct {
	Type         string           `json:"type"`
	Name         string           `json:"name"`
	Action       string           `json:"action"`
	ID           string           `json:"id"`
	Timestamp    lenientTime      `json:"timestamp"`
	Locale       string           `json:"locale"`
	ChannelID    string           `json:"channelId"`
	ServiceURL   string           `json:"serviceUrl"`
	From         Account          `json:"from"`
	Recipient    Account          `json:"recipient"`
	ReplyToID    string           `json:"replyToId"`
	Text         euii.Inbound     `json:"text"`
	Conversation wireConversation `json:"conversation"`
	ChannelData  wireChannelData  `json:"channelData"`
	Added        []Account        `json:"membersAdded"`
	Removed      []Account        `json:"membersRemoved"`
	Entities     []wireEntity     `json:"entities"`
	Attachments  []Attachment     `json:"attachments"`
	Value        wireValue        `json:"value"`
}

type wireConversation struct {
	ID       string `json:"id"`
	Type     string `json:"conversationType"`
	TenantID string `json:"tenantId"`
}

type wireChannelData struct {
	Tenant struct {
		ID string `json:"id"`
	} `json:"tenant"`
	Team    Team `json:"team"`
	Channel struct {
		ID string `json:"id"`
	} `json:"channel"`
	EventType string `json:"eventType"`
	Settings  struct {
		SelectedChannel struct {
			ID string `json:"id"`
		} `json:"selectedChannel"`
	} `json:"settings"`
}

// lenientTime takes RFC 3339 and lets anything else be the zero time: nothing is decided by it.
type lenientTime struct{ time.Time }

func (t *lenientTime) UnmarshalJSON(b []byte) error {
	if s, ok := textOf(b); ok {
		t.Time, _ = time.Parse(time.RFC3339Nano, s)
	}
	return nil
}

// wireEntity keeps mentions and lets every other entity, of whatever shape, be empty.
type wireEntity struct{ mention }

func (e *wireEntity) UnmarshalJSON(b []byte) error {
	var m struct {
		Type      string       `json:"type"`
		Text      euii.Inbound `json:"text"`
		Mentioned struct {
			ID string `json:"id"`
		} `json:"mentioned"`
	}
	if json.Unmarshal(b, &m) == nil && m.Type == "mention" {
		e.mention = mention{m.Mentioned.ID, m.Text}
	}
	return nil
}

// UnmarshalJSON wraps name and content before anything can print them.
func (a *Attachment) UnmarshalJSON(b []byte) error {
	var w struct {
		ContentType string          `json:"contentType"`
		Name        euii.Inbound    `json:"name"`
		Content     json.RawMessage `json:"content"`
	}
	if json.Unmarshal(b, &w) != nil {
		return ErrActivity
	}
	*a = Attachment{ContentType: w.ContentType, Name: w.Name}
	if s, ok := textOf(w.Content); ok {
		a.Content = euii.Receive(s)
	} else if w.Content != nil && string(w.Content) != "null" {
		a.Content = euii.Receive(string(w.Content))
	}
	return nil
}

// wireValue is the payload of a button: {action:{verb,data}} of Action.Execute, or the bare data of Action.Submit.
// Values of other shapes belong to invokes we do not serve.
type wireValue struct {
	verb       string
	references map[string]string
	inputs     map[string]euii.Inbound
}

func (v *wireValue) UnmarshalJSON(b []byte) error {
	members, err := decodeObject(b)
	if err != nil {
		return nil
	}
	if action, has := members["action"]; has {
		if members, err = decodeObject(action); err != nil {
			return nil
		}
		verb, _ := textOf(members["verb"])
		if members, err = decodeObject(members["data"]); err != nil {
			members = nil
		}
		v.take(members)
		v.verb = verb
		return nil
	}
	v.take(members)
	return nil
}

func (v *wireValue) take(members map[string]json.RawMessage) {
	v.references, v.inputs = map[string]string{}, map[string]euii.Inbound{}
	for name, raw := range members {
		text, ok := textOf(raw)
		if !ok {
			continue
		}
		switch name {
		case dataVerb:
			v.verb = text
		case dataConversation, dataCanned, dataVersion:
			if isReference(text) {
				v.references[name] = text
			}
		default:
			v.inputs[name] = euii.Receive(text)
		}
	}
}

// isReference tells our own ids from anything a client may put in their place.
func isReference(s string) bool {
	for i := range len(s) {
		if !unreserved(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

// DecodeActivity reads one activity. Unknown members are passed over; the error is ErrActivity, ErrActivityTooLong or
// that of the reader.
func DecodeActivity(body io.Reader) (*Activity, error) {
	raw, err := readCapped(body, MaxActivity)
	switch {
	case errors.Is(err, errTooLong):
		return nil, ErrActivityTooLong
	case err != nil:
		return nil, fmt.Errorf("teams: read the activity: %w", err)
	}
	if !shallow(raw) {
		return nil, ErrActivity
	}
	var w wireActivity
	// The error of encoding/json may quote what it stumbled over; ours does not.
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) || json.Unmarshal(raw, &w) != nil || w.Type == "" {
		return nil, ErrActivity
	}
	a := &Activity{
		Type: w.Type, Name: w.Name, ID: w.ID, Timestamp: w.Timestamp.Time, Locale: w.Locale,
		ChannelID: w.ChannelID, ServiceURL: w.ServiceURL, From: w.From, Recipient: w.Recipient,
		ReplyToID: w.ReplyToID, Text: w.Text,
		ConversationID: w.Conversation.ID, ConversationType: w.Conversation.Type,
		Team: w.ChannelData.Team, TeamsChannelID: w.ChannelData.Channel.ID,
		SelectedChannel: w.ChannelData.Settings.SelectedChannel.ID,
		MembersAdded:    w.Added, MembersRemoved: w.Removed, Attachments: w.Attachments,
		action: w.Action, eventType: w.ChannelData.EventType,
		channelTenant: w.ChannelData.Tenant.ID, conversationTenant: w.Conversation.TenantID,
		references: w.Value.references, inputs: w.Value.inputs,
	}
	if isReference(w.Value.verb) {
		a.verb = Verb(w.Value.verb)
	}
	for _, e := range w.Entities {
		if e.id != "" {
			a.mentions = append(a.mentions, e.mention)
		}
	}
	if a.TeamsChannelID == "" && a.IsChannel() {
		a.TeamsChannelID, _, _ = strings.Cut(a.ConversationID, threadMark)
	}
	return a, nil
}

// shallow reports whether arrays and objects are nested at most maxDepth deep.
func shallow(raw []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

// Kind says what the activity is about.
func (a *Activity) Kind() Kind {
	switch a.Type {
	case "message":
		return KindMessage
	case "typing":
		return KindTyping
	case "invoke":
		return KindInvoke
	case "installationUpdate":
		switch a.action {
		case "add", "add-upgrade":
			return KindInstall
		case "remove":
			return KindUninstall
		}
	case "conversationUpdate":
		isBot := func(m Account) bool { return m.ID != "" && m.ID == a.Recipient.ID }
		switch {
		case slices.ContainsFunc(a.MembersAdded, isBot):
			return KindInstall
		case slices.ContainsFunc(a.MembersRemoved, isBot):
			return KindUninstall
		}
	case "messageUpdate":
		if a.eventType == "editMessage" {
			return KindEdit
		}
	case "messageDelete":
		if a.eventType == "softDeleteMessage" {
			return KindDelete
		}
	}
	return KindOther
}

// IsPersonal reports whether the activity is from the 1:1 chat with the bot.
func (a *Activity) IsPersonal() bool { return a.ConversationType == "personal" }

// IsChannel reports whether the activity is from a channel of a team.
func (a *Activity) IsChannel() bool { return a.ConversationType == "channel" }

const threadMark = ";messageid="

// ThreadRoot is the id of the post that the activity's thread hangs from; empty outside a thread.
func (a *Activity) ThreadRoot() string {
	_, root, _ := strings.Cut(a.ConversationID, threadMark)
	return root
}

// Tenant is the Microsoft 365 tenant the activity names. It is empty if there is none or if two places contradict.
func (a *Activity) Tenant() string {
	switch {
	case a.channelTenant == "":
		return a.conversationTenant
	case a.conversationTenant == "" || strings.EqualFold(a.channelTenant, a.conversationTenant):
		return a.channelTenant
	}
	return ""
}

// Verb is the button pressed, of Action.Execute and Action.Submit alike; empty for everything else.
func (a *Activity) Verb() Verb {
	if a.Type == "message" || a.Type == "invoke" && a.Name == "adaptiveCard/action" {
		return a.verb
	}
	return ""
}

// Data is what the card's data refer to: "conversation", "canned" and "version", each an id in the unreserved characters of
// RFC 3986, or absent. It is the client's word.
func (a *Activity) Data() map[string]string { return a.references }

// Conversation is the conversation the card is about, or the one chosen on a switch card.
func (a *Activity) Conversation() string { return a.references[dataConversation] }

// Version is the version of the notice that is accepted.
func (a *Activity) Version() string { return a.references[dataVersion] }

// Input is what was typed into an input of the card.
func (a *Activity) Input(name string) euii.Inbound { return a.inputs[name] }

// ReplyText is what was typed into the card's reply box.
func (a *Activity) ReplyText() euii.Inbound { return a.Input(inputReply) }

// TextWithoutMention is the text without the markup of those mentioned. Who was mentioned comes from the entities; the
// text is not searched for names. Colleagues' mentions go as well: they are real names, and the visitor may know an alias.
func (a *Activity) TextWithoutMention() euii.Inbound {
	parts := make([]euii.Inbound, len(a.mentions))
	for i, m := range a.mentions {
		parts[i] = m.text
	}
	return euii.InboundWithout(a.Text, parts...)
}

// Mentioned lists the ids of those mentioned, the bot left out, each once.
func (a *Activity) Mentioned() []string {
	var ids []string
	for _, m := range a.mentions {
		if m.id != a.Recipient.ID && !slices.Contains(ids, m.id) {
			ids = append(ids, m.id)
		}
	}
	return ids
}
