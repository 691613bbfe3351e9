package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Conversations opens the messages of a conversation for those who take part in it. One decision and one record serve
// for an hour, or until the participants change.
type Conversations[A euii.Audience] struct {
	gate     *Gate
	audience audience[A]
}

// Message is one event with its text, if it is a message, cleared for A.
type Message[A euii.Audience] struct {
	chat.Event
	Text euii.Cleared[A]
}

// Following is one participant's view of a conversation. It is safe for concurrent use.
type Following[A euii.Audience] struct {
	gate     *Gate
	audience audience[A]
	who      principal.Principal

	mu      sync.Mutex
	grant   grant.Grant
	receipt pglog.Receipt
	agent   uuid.UUID // of the conversation, when the grant was given

	restricted bool // whether it was so then
}

// Follow prepares to read; nothing is decided or recorded before the first Read.
func (c Conversations[A]) Follow(who principal.Principal) *Following[A] {
	return &Following[A]{gate: c.gate, audience: c.audience, who: who}
}

// Renew makes the next Read decide and record anew.
func (f *Following[A]) Renew() {
	f.mu.Lock()
	f.grant, f.receipt = grant.Grant{}, pglog.Receipt{}
	f.mu.Unlock()
}

// renewBefore is how long before its end a conversation grant is renewed, so that no Read runs into the end.
const renewBefore = 5 * time.Minute

// Read gives the events after the number after, at most limit, with message texts opened under the conversation grant. A
// grant that was given while the conversation had another agent, or none, counts no more, nor one of before its visitor restricted it.
func (f *Following[A]) Read(ctx context.Context, scene Scene, after int64, limit int) ([]Message[A], error) {
	if f.gate == nil {
		return nil, errNoReader
	}
	g, receipt, err := f.current(ctx, scene)
	if err != nil {
		return nil, err
	}
	messages, err := takeMessages[A](ctx, f.gate, g, receipt, scene, after, limit)
	if err != nil || len(messages) > 0 || after >= scene.Conversation.LastSeq {
		return messages, err
	}
	// The ticket is gone before its time: the server restarted after a crash. Ask again once.
	f.Renew()
	if g, receipt, err = f.current(ctx, scene); err != nil {
		return nil, err
	}
	messages, err = takeMessages[A](ctx, f.gate, g, receipt, scene, after, limit)
	if err == nil && len(messages) == 0 {
		return nil, fmt.Errorf("%w: there are events after %d, but none can be taken", ErrUnavailable, after)
	}
	return messages, err
}

func (f *Following[A]) current(ctx context.Context, scene Scene) (grant.Grant, pglog.Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	restricted, err := f.gate.Restricted(ctx, scene.Conversation.Organisation, scene.Conversation.Visitor)
	if err != nil {
		return grant.Grant{}, pglog.Receipt{}, err
	}
	if f.receipt.Valid() && f.restricted == restricted && f.agent == scene.Conversation.Agent && f.gate.now().Before(f.grant.Until().Add(-renewBefore)) {
		return f.grant, f.receipt, nil
	}
	a, err := f.gate.authorize(ctx, converse(f.who, string(f.audience), scene))
	if err != nil {
		return grant.Grant{}, pglog.Receipt{}, err
	}
	f.grant, f.receipt, f.agent, f.restricted = a.grant, a.receipt, scene.Conversation.Agent, restricted
	return f.grant, f.receipt, nil
}

func converse(who principal.Principal, audience string, scene Scene) question {
	id := scene.Conversation.ID
	return question{
		who: who, purpose: policy.Converse, audience: audience, subjectKind: "conversation", subject: id, row: id,
		fields: []euii.Field{euii.MessageBody}, scene: scene, kind: audit.Disclosure,
		messages: pglog.AllMessages, valid: conversationValid,
	}
}

func takeMessages[A euii.Audience](ctx context.Context, g *Gate, gr grant.Grant, receipt pglog.Receipt, scene Scene, after int64, limit int) ([]Message[A], error) {
	organisation, conversation := scene.Conversation.Organisation, scene.Conversation.ID
	if err := g.stands(ctx, organisation, true); err != nil { // the record may be an hour old
		return nil, err
	}
	rows, err := g.log.Messages(ctx, organisation, receipt, after, limit)
	if err != nil {
		return nil, fmt.Errorf("%w: take messages: %w", ErrUnavailable, err)
	}
	var out []Message[A]
	var m Message[A]
	var wrapped []byte
	_, err = pgx.ForEachRow(rows, []any{&m.Seq, &m.Kind, &m.By, &m.ByID, &m.ClientID, &m.At, &m.Sealed, &wrapped}, func() error {
		if m.Kind == chat.Message {
			ref := messageRef(organisation, conversation, m.ClientID)
			text, err := g.ring.Open(gr, conversation, wrapped, euii.NewSealed(ref, m.Sealed), g.now())
			if err != nil {
				return err
			}
			m.Text = euii.Clear[A](gr, text)
		}
		m.Sealed = nil
		out = append(out, m)
		m, wrapped = Message[A]{}, nil
		return nil
	})
	if err != nil {
		return nil, opening(fmt.Errorf("take messages: %w", err))
	}
	return out, nil
}

func messageRef(organisation, conversation, item uuid.UUID) euii.Ref {
	return euii.Ref{Organisation: organisation, Subject: conversation, Row: conversation, Item: item, Field: euii.MessageBody}
}

// SealMessage seals a message body under the conversation's key, bound to the id its sender gave it.
func (g *Gate) SealMessage(ctx context.Context, organisation, conversation, item uuid.UUID, wrapped []byte, body euii.Inbound) (euii.Sealed, error) {
	if wrapped == nil {
		keys, err := g.wrappedKeys(ctx, organisation, conversation)
		if err != nil {
			return euii.Sealed{}, err
		}
		wrapped = keys[conversation]
	}
	s, err := g.ring.Seal(conversation, wrapped, messageRef(organisation, conversation, item), body)
	if err != nil {
		return euii.Sealed{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return s, nil
}

// ConversationFile opens what was written in a conversation of a visitor who asked for his file, for that file.
type ConversationFile struct {
	_    [0]euii.Admin // others with a gate are no ConversationFile
	gate *Gate
}

// filePage is how many events are taken at once.
const filePage = 200

// Read gives the events of a conversation, some at a time, under one decision and one record.
func (c ConversationFile) Read(ctx context.Context, who principal.Admin, scene Scene, on Grounds, each func([]Message[euii.Admin]) error) error {
	if c.gate == nil {
		return errNoReader
	}
	q := converse(who, "console", scene)
	q.purpose, q.grounds, q.valid = policy.AnswerRequest, on, grantValid
	return readAll(ctx, c.gate, q, each)
}

// readAll asks once and gives all events, some at a time.
func readAll[A euii.Audience](ctx context.Context, g *Gate, q question, each func([]Message[A]) error) error {
	a, err := g.authorize(ctx, q)
	if err != nil {
		return err
	}
	for after := int64(0); after < q.scene.Conversation.LastSeq; {
		messages, err := takeMessages[A](ctx, g, a.grant, a.receipt, q.scene, after, filePage)
		if err == nil && len(messages) == 0 {
			err = fmt.Errorf("%w: the ticket ended before it was presented", ErrUnavailable)
		}
		if err != nil {
			return err
		}
		if err := each(messages); err != nil {
			return err
		}
		after = messages[len(messages)-1].Seq
	}
	return nil
}

// ConversationToArchive opens what was written in a conversation that is over, for the archive of its organisation.
type ConversationToArchive struct {
	_    [0]euii.Archive
	gate *Gate
}

// Read gives the events of a conversation, some at a time, under one decision and one record.
func (c ConversationToArchive) Read(ctx context.Context, who principal.Job, scene Scene, each func([]Message[euii.Archive]) error) error {
	if c.gate == nil {
		return errNoReader
	}
	q := converse(who, "archive", scene)
	q.purpose, q.valid = policy.ArchiveConversation, grantValid
	return readAll(ctx, c.gate, q, each)
}

// FirstLine gives the channel the beginning of a waiting conversation.
type FirstLine struct {
	_    [0]euii.Channel // a Matcher is no FirstLine
	gate *Gate
}

// firstLineLimit is how much of the first message the channel card bears, in bytes.
const firstLineLimit = 160

// Read discloses the first line of the first message to the channel.
func (f FirstLine) Read(ctx context.Context, who principal.Channel, scene Scene) (euii.Cleared[euii.Channel], error) {
	var none euii.Cleared[euii.Channel]
	if f.gate == nil {
		return none, errNoReader
	}
	q := converse(who, "channel", scene)
	q.purpose, q.messages, q.valid = policy.AnnounceToChannel, 1, ticketValid
	a, err := f.gate.authorize(ctx, q)
	if err != nil {
		return none, err
	}
	messages, err := takeMessages[euii.Channel](ctx, f.gate, a.grant, a.receipt, scene, 0, 1)
	if err == nil && len(messages) == 0 { // a conversation begins with a message
		err = fmt.Errorf("%w: the ticket ended before it was presented", ErrUnavailable)
	}
	if err != nil {
		return none, err
	}
	return euii.FirstLine(messages[0].Text, firstLineLimit), nil
}

// Transcripts opens a whole conversation for an administrator, who took no part in it. Each reading is a disclosure of its own.
type Transcripts struct {
	_       [0]euii.Admin
	gate    *Gate
	purpose policy.Purpose
}

// How much of a conversation is shown at once, and how much is taken in one step.
const (
	transcriptMost = 5000
	transcriptStep = 500
)

// Transcript is what was written, with the receipt of the record of its reading.
type Transcript struct {
	Messages []Message[euii.Admin]
	Receipt  pglog.Receipt
	Cut      bool // there is more
}

// Read discloses the conversation of a scene.
func (t Transcripts) Read(ctx context.Context, who principal.Admin, scene Scene, on Grounds) (Transcript, error) {
	var out Transcript
	if t.gate == nil {
		return out, errNoReader
	}
	q := converse(who, "console", scene)
	q.purpose, q.valid, q.grounds = t.purpose, ticketValid, on
	a, err := t.gate.authorize(ctx, q)
	if err != nil {
		return out, err
	}
	out.Receipt = a.receipt
	for after := int64(0); after < scene.Conversation.LastSeq; {
		messages, err := takeMessages[euii.Admin](ctx, t.gate, a.grant, a.receipt, scene, after, transcriptStep)
		if err == nil && len(messages) == 0 {
			err = fmt.Errorf("%w: the ticket ended before it was presented", ErrUnavailable)
		}
		if err != nil {
			return Transcript{}, err
		}
		out.Messages = append(out.Messages, messages...)
		after = messages[len(messages)-1].Seq
		if len(out.Messages) >= transcriptMost {
			out.Cut = after < scene.Conversation.LastSeq
			break
		}
	}
	return out, nil
}

// MessageID is an id for a message that has none of its own: it depends on who said what in which minute, and on the
// conversation's key, so it says nothing about the text.
func (g *Gate) MessageID(ctx context.Context, organisation, conversation, by uuid.UUID, minute int64, body euii.Inbound) (uuid.UUID, error) {
	keys, err := g.wrappedKeys(ctx, organisation, conversation)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := g.ring.Digest(messageRef(organisation, conversation, by), keys[conversation], minute, body)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return id, nil
}
