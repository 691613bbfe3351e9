package teams

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"counterfoil/internal/access/euii"
)

const (
	callTimeout = 10 * time.Second
	maxAnswer   = 256 << 10
	// maxOutgoing bounds a request. Teams counts in UTF-16 and refuses at about 100 KB.
	maxOutgoing = 80 << 10
)

// ErrTooBig says that a message or card is larger than Teams takes.
var ErrTooBig = errors.New("the message is larger than Teams takes")

// Message is what is posted: a text or a card, never both, because Teams splits such a message in two. The text is
// shown as it is, without formatting.
type Message struct {
	Text string
	Card Card
}

// Posted is a new thread and its first post.
type Posted struct{ ConversationID, ActivityID string }

// Member is one person of a conversation. It is EUII that has just arrived.
type Member struct {
	ID          string
	AADObjectID string
	Name        euii.Inbound
	GivenName   euii.Inbound
	Surname     euii.Inbound
	Email       euii.Inbound
	UPN         euii.Inbound
}

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Tokens *TokenSource
	// Authority is the tenant the bot is registered in. Empty stands for a multi-tenant bot.
	Authority  string
	HTTPClient *http.Client
	Now        func() time.Time
}

// Client calls the Bot Connector. Every error of its methods is classified by OutcomeOf. There is no call that lists a
// roster: Member reads one person.
type Client struct {
	tokens    *TokenSource
	authority string
	http      *http.Client
	now       func() time.Time
}

// NewClient makes a Client.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Tokens == nil || cfg.HTTPClient == nil || cfg.Now == nil {
		return nil, errors.New("teams: the client needs a token source, a client and a clock")
	}
	authority := cfg.Authority
	if authority == "" {
		authority = cfg.Tokens.cfg.Cloud.tenant
	}
	if !isReference(authority) {
		return nil, errors.New("teams: the client needs the tenant the bot is registered in")
	}
	return &Client{cfg.Tokens, authority, withoutRedirects(cfg.HTTPClient), cfg.Now}, nil
}

type (
	wireID struct {
		ID string `json:"id"`
	}
	wireOutChannelData struct {
		Channel *wireID `json:"channel,omitempty"`
		Tenant  wireID  `json:"tenant"`
	}
	wireCreate struct {
		IsGroup     bool               `json:"isGroup"`
		Bot         wireID             `json:"bot"`
		Members     []wireID           `json:"members,omitempty"`
		TenantID    string             `json:"tenantId"`
		ChannelData wireOutChannelData `json:"channelData"`
		Activity    *wireMessage       `json:"activity,omitempty"`
	}
	wireMessage struct {
		Type        string           `json:"type"`
		ID          string           `json:"id,omitempty"`
		Text        string           `json:"text,omitempty"`
		TextFormat  string           `json:"textFormat,omitempty"`
		Summary     string           `json:"summary,omitempty"`
		Attachments []wireAttachment `json:"attachments,omitempty"`
	}
	wireAttachment struct {
		ContentType string `json:"contentType"`
		Content     Card   `json:"content"`
	}
	wirePosted struct {
		ID         string `json:"id"`
		ActivityID string `json:"activityId"`
	}
)

func (m Message) wire() (*wireMessage, error) {
	switch {
	case m.Text != "" && m.Card.IsZero():
		// "plain" keeps a visitor's asterisks and brackets from becoming bold text and links.
		return &wireMessage{Type: "message", Text: m.Text, TextFormat: "plain"}, nil
	case m.Text == "" && !m.Card.IsZero():
		return &wireMessage{
			Type: "message", Summary: m.Card.summary,
			Attachments: []wireAttachment{{contentTypeCard, m.Card}},
		}, nil
	}
	return nil, errors.New("a message is either a text or a card")
}

func (c *Client) bot() wireID { return wireID{"28:" + c.tokens.cfg.AppID} }

// CreateThread starts a thread in a channel with a card as its first post. It is not idempotent.
func (c *Client) CreateThread(ctx context.Context, at ServiceURL, tenant, channelID string, card Card) (Posted, error) {
	const op = "create thread"
	post, err := Message{Card: card}.wire()
	if err != nil {
		return Posted{}, failed(op, err)
	}
	body := wireCreate{
		IsGroup: true, Bot: c.bot(), TenantID: tenant, Activity: post,
		ChannelData: wireOutChannelData{&wireID{channelID}, wireID{tenant}},
	}
	var got wirePosted
	if err := c.call(ctx, request{op, http.MethodPost, at, []string{"v3", "conversations"}, body, false}, &got); err != nil {
		return Posted{}, err
	}
	if got.ID == "" || got.ActivityID == "" {
		return Posted{}, unidentified(op)
	}
	return Posted{got.ID, got.ActivityID}, nil
}

// CreatePersonal opens the 1:1 chat with a person. Teams gives the same chat each time, so it may be repeated.
func (c *Client) CreatePersonal(ctx context.Context, at ServiceURL, tenant, userID string) (conversationID string, err error) {
	const op = "create personal chat"
	body := wireCreate{
		Bot: c.bot(), Members: []wireID{{userID}}, TenantID: tenant,
		ChannelData: wireOutChannelData{Tenant: wireID{tenant}},
	}
	var got wirePosted
	if err := c.call(ctx, request{op, http.MethodPost, at, []string{"v3", "conversations"}, body, true}, &got); err != nil {
		return "", err
	}
	if got.ID == "" {
		return "", unidentified(op)
	}
	return got.ID, nil
}

// Send posts to a conversation or thread and gives the post's id, which is empty if Teams did not name it. It is not
// idempotent.
func (c *Client) Send(ctx context.Context, at ServiceURL, conversationID string, m Message) (activityID string, err error) {
	return c.post(ctx, "send", at, []string{"v3", "conversations", conversationID, "activities"}, m)
}

// Reply posts as an answer to an activity. In a channel the thread comes from conversationID (with ";messageid="),
// not from replyTo. It is not idempotent.
func (c *Client) Reply(ctx context.Context, at ServiceURL, conversationID, replyTo string, m Message) (activityID string, err error) {
	return c.post(ctx, "reply", at, []string{"v3", "conversations", conversationID, "activities", replyTo}, m)
}

func (c *Client) post(ctx context.Context, op string, at ServiceURL, path []string, m Message) (string, error) {
	body, err := m.wire()
	if err != nil {
		return "", failed(op, err)
	}
	var got wirePosted
	if err := c.call(ctx, request{op, http.MethodPost, at, path, body, false}, &got); err != nil {
		return "", err
	}
	return got.ID, nil
}

// Update replaces a post for everybody. It is idempotent.
func (c *Client) Update(ctx context.Context, at ServiceURL, conversationID, activityID string, m Message) error {
	const op = "update"
	body, err := m.wire()
	if err != nil {
		return failed(op, err)
	}
	body.ID = activityID
	path := []string{"v3", "conversations", conversationID, "activities", activityID}
	return c.call(ctx, request{op, http.MethodPut, at, path, body, true}, nil)
}

// Typing shows that somebody types, for some seconds.
func (c *Client) Typing(ctx context.Context, at ServiceURL, conversationID string) error {
	path := []string{"v3", "conversations", conversationID, "activities"}
	return c.call(ctx, request{"typing", http.MethodPost, at, path, &wireMessage{Type: "typing"}, true}, nil)
}

// Member reads one person of a conversation by the id an activity came from. It is the one read of EUII from Teams.
func (c *Client) Member(ctx context.Context, at ServiceURL, conversationID, userID string) (Member, error) {
	const op = "member"
	var got struct {
		ID        string       `json:"id"`
		AAD       string       `json:"aadObjectId"`
		ObjectID  string       `json:"objectId"`
		Name      euii.Inbound `json:"name"`
		GivenName euii.Inbound `json:"givenName"`
		Surname   euii.Inbound `json:"surname"`
		Email     euii.Inbound `json:"email"`
		UPN       euii.Inbound `json:"userPrincipalName"`
	}
	path := []string{"v3", "conversations", conversationID, "members", userID}
	if err := c.call(ctx, request{op, http.MethodGet, at, path, nil, true}, &got); err != nil {
		return Member{}, err
	}
	m := Member{got.ID, got.AAD, got.Name, got.GivenName, got.Surname, got.Email, got.UPN}
	if m.AADObjectID == "" {
		m.AADObjectID = got.ObjectID
	}
	if m.ID == "" {
		return Member{}, unidentified(op)
	}
	return m, nil
}

func failed(op string, cause error) error {
	return &CallError{Op: op, outcome: Failed, cause: cause}
}

// unidentified is a success whose answer lacks the id: done, but there is nothing to refer to it by.
func unidentified(op string) error {
	return &CallError{Op: op, outcome: Unknown, cause: errors.New("the answer names no id")}
}

type request struct {
	op, method string
	at         ServiceURL
	path       []string
	body       any
	// repeatable: doing it twice is the same as once.
	repeatable bool
}

// call sends the request, once more with a new token if the first was refused, and decodes the answer into got.
func (c *Client) call(ctx context.Context, r request, got any) error {
	address, err := r.at.endpoint(r.path...)
	if err != nil {
		return failed(r.op, err)
	}
	var body []byte
	if r.body != nil {
		if body, err = encode(r.body); err != nil {
			return failed(r.op, err)
		}
	}
	for attempt := 0; ; attempt++ {
		token, err := c.tokens.token(ctx, c.authority)
		if err != nil {
			return &CallError{Op: r.op, outcome: Retry, cause: err}
		}
		err = c.once(ctx, r, address, body, token, got)
		refused, ok := errors.AsType[*CallError](err)
		if !ok || refused.Status != http.StatusUnauthorized || attempt > 0 {
			return err
		}
		c.tokens.invalidate(c.authority, token)
	}
}

func (c *Client) once(ctx context.Context, r request, address string, body []byte, token bearer, got any) error {
	if err := ctx.Err(); err != nil {
		return &CallError{Op: r.op, outcome: Retry, cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// The transport tells whether it ever had a connection; if not, nothing can have been sent.
	var dialled, connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { dialled.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(body))
	if err != nil {
		return failed(r.op, ErrServiceURL)
	}
	// Asked again of the address that will be dialled, whatever way it came here.
	if !c.tokens.cfg.Cloud.allows(req.URL.Scheme, req.URL.Host) || req.URL.User != nil || req.Host != req.URL.Host {
		return failed(r.op, ErrServiceURL)
	}
	req.Header.Set("Authorization", "Bearer "+token.text())
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		outcome := Unknown
		if r.repeatable || dialFailed(err) || dialled.Load() && !connected.Load() {
			outcome = Retry
		}
		return &CallError{Op: r.op, outcome: outcome, cause: withoutAddress(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	outcome := classify(resp.StatusCode, r.repeatable)
	answer, err := readCapped(resp.Body, maxAnswer)
	if outcome != Sent {
		return &CallError{
			Op: r.op, Status: resp.StatusCode, Code: connectorCode(answer), outcome: outcome,
			after: parseRetryAfter(resp.Header.Get("Retry-After"), c.now()),
		}
	}
	if got == nil {
		return nil
	}
	if err == nil && len(answer) > 0 && json.Unmarshal(answer, got) != nil {
		err = errors.New("the answer is not readable")
	}
	if err != nil {
		if r.repeatable {
			outcome = Retry
		} else {
			outcome = Unknown
		}
		return &CallError{Op: r.op, Status: resp.StatusCode, outcome: outcome, cause: withoutAddress(err)}
	}
	return nil
}

// withoutAddress takes the URL out of an error: it holds ids of people and conversations.
func withoutAddress(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// connectorCode finds the code in {error:{code}} and in the flat {errorCode}.
func connectorCode(answer []byte) string {
	var e struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
		Flat json.RawMessage `json:"errorCode"`
	}
	if json.Unmarshal(answer, &e) != nil {
		return ""
	}
	if code := cleanCode(e.Error.Code); code != "" {
		return code
	}
	if flat, ok := textOf(e.Flat); ok {
		return cleanCode(flat)
	}
	return cleanCode(string(e.Flat))
}

// encode makes the JSON body and refuses one that Teams would. "<" stays as it is: the escaped form is six times as
// long, and no browser reads this.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if utf16Len(b.Bytes()) > maxOutgoing {
		return nil, ErrTooBig
	}
	return b.Bytes(), nil
}

// utf16Len is the number of bytes the text takes in UTF-16.
func utf16Len(b []byte) int {
	n := 0
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		if n += 2; r > 0xffff {
			n += 2
		}
	}
	return n
}
