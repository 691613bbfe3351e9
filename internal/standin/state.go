package standin

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Names of the calls that Calls counts. Only a connector call with a valid token counts under its own name; the others
// count as CallRefused. Typing counts as CallSend too.
const (
	CallMetadata     = "metadata"
	CallKeys         = "keys"
	CallToken        = "token"
	CallRefused      = "refused"
	CallCreate       = "create conversation"
	CallSend         = "send activity"
	CallTyping       = "typing"
	CallUpdate       = "update activity"
	CallDelete       = "delete activity"
	CallMember       = "get member"
	CallMembers      = "get members"
	CallPagedMembers = "get paged members"
	CallTeam         = "get team"
	CallChannels     = "get channels"
)

// Delivery says how far a person's message got on its way to the bot.
type Delivery string

const (
	NotForBot   Delivery = ""            // written by the bot, or in a channel without mentioning it
	Sending     Delivery = "sending"     // the bot has not answered yet
	Delivered   Delivery = "delivered"   // the bot answered 2xx
	Refused     Delivery = "refused"     // the bot answered with another status below 500; Teams does not try again
	Undelivered Delivery = "undelivered" // every attempt failed
)

// Notice is a line Teams shows one person under a card.
type Notice struct {
	Error bool   `json:"error"`
	Text  string `json:"text"`
}

// Mention is one name in a text that is a link to a person or the bot.
type Mention struct {
	Text string `json:"text"` // as it stands in the message, <at>…</at>
	Name string `json:"name"`
}

// Post is one message in a channel or 1:1 chat.
type Post struct {
	ID           string
	Conversation string // on the wire: the thread of a channel message, or the 1:1 chat
	Root         bool   // first message of a channel thread
	Author       string // short name of the member, empty for the bot
	Text         string
	Plain        bool // the text is not markdown
	Mentions     []Mention
	Cards        []json.RawMessage          // as everybody sees them
	CardFor      map[string]json.RawMessage // the card an invoke answer put in their place for one member
	Notices      map[string]Notice          // by member
	Edited       bool
	Deleted      bool
	Delivery     Delivery
	At           time.Time
}

// CardsSeenBy are the cards of the message as the member sees them.
func (p *Post) CardsSeenBy(short string) []json.RawMessage {
	if card, ok := p.CardFor[short]; ok {
		return []json.RawMessage{card}
	}
	return p.Cards
}

func (p *Post) clone() Post {
	c := *p
	c.Mentions = slices.Clone(p.Mentions)
	c.Cards = slices.Clone(p.Cards)
	c.CardFor = maps.Clone(p.CardFor)
	c.Notices = maps.Clone(p.Notices)
	return c
}

// State is a copy of what everybody in the organisation could see at one moment.
type State struct {
	Revision  uint64
	Installed bool                 // the bot has accepted both events of an installation
	Channels  map[string][]Post    // by channel name, oldest first
	Chats     map[string][]Post    // by member's short name, oldest first
	Typing    map[string]time.Time // by conversation, when the bot last said that it is typing
	Calls     map[string]int
}

// world is everything that changes. Server.mu guards it.
type world struct {
	revision  uint64
	changed   chan struct{} // closed at the next change
	lastID    int64
	inTeam    bool // the app is in the team, and the bot may post there
	installed bool // the bot has accepted that
	installs  int
	posts     map[string][]*Post // by channel id or chat id
	byID      map[string]*Post
	typing    map[string]time.Time
	seen      map[string]string // by member, the newest message of the 1:1 chat the person has looked at
	blocked   map[string]bool
	oldClient map[string]bool
	calls     map[string]int
	sends     meter
	reads     meter
	faults    faults
}

func newWorld() world {
	return world{
		changed:   make(chan struct{}),
		posts:     map[string][]*Post{},
		byID:      map[string]*Post{},
		typing:    map[string]time.Time{},
		seen:      map[string]string{},
		blocked:   map[string]bool{},
		oldClient: map[string]bool{},
		calls:     map[string]int{},
		sends:     newMeter(sendWindows),
		reads:     newMeter(readWindows),
	}
}

// touch tells everyone who waits that the world is another one now. s.mu is held.
func (s *Server) touch() {
	s.w.revision++
	close(s.w.changed)
	s.w.changed = make(chan struct{})
}

// nextID makes an activity id as Teams does, milliseconds since 1970, and never the same twice. s.mu is held.
func (s *Server) nextID() string {
	s.w.lastID = max(s.w.lastID+1, s.cfg.Now().UnixMilli())
	return strconv.FormatInt(s.w.lastID, 10)
}

// add puts a message at the end of a channel or chat and completes its id, thread and time. s.mu is held.
func (s *Server) add(place string, p *Post) {
	p.ID = s.nextID()
	if p.Root {
		p.Conversation = place + threadMark + p.ID
	}
	p.At = s.cfg.Now().UTC()
	s.w.posts[place] = append(s.w.posts[place], p)
	s.w.byID[p.ID] = p
	if p.Author == "" {
		delete(s.w.typing, p.Conversation)
	}
	s.touch()
}

func (s *Server) count(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w.calls[call]++
}

// Calls says how often each endpoint was called, by the Call names.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.w.calls)
}

// Members lists the people of the organisation.
func (s *Server) Members() []Member { return slices.Clone(s.org.members) }

// Member finds a person by short name.
func (s *Server) Member(short string) (Member, bool) { return s.org.byShort(short) }

// Posts lists the messages of a channel of the team, threads included, oldest first.
func (s *Server) Posts(channel string) []Post {
	id, ok := channelNamed(channel)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return clonePosts(s.w.posts[id])
}

// Chat lists the messages of a member's 1:1 chat with the bot, oldest first.
func (s *Server) Chat(short string) []Post {
	m, ok := s.org.byShort(short)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return clonePosts(s.w.posts[m.ChatID])
}

func clonePosts(posts []*Post) []Post {
	out := make([]Post, len(posts))
	for i, p := range posts {
		out[i] = p.clone()
	}
	return out
}

// snapshot also returns the channel that is closed at the next change.
func (s *Server) snapshot() (State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := State{
		Revision:  s.w.revision,
		Installed: s.w.installed,
		Channels: map[string][]Post{
			GeneralChannel: clonePosts(s.w.posts[teamID]),
			FrontDesk:      clonePosts(s.w.posts[frontID]),
		},
		Chats:  map[string][]Post{},
		Typing: maps.Clone(s.w.typing),
		Calls:  maps.Clone(s.w.calls),
	}
	for _, m := range s.org.members {
		st.Chats[m.Short] = clonePosts(s.w.posts[m.ChatID])
	}
	return st, s.w.changed
}

// WaitFor returns nil once ok holds, which it asks at every change, and the context's error when that ends first.
func (s *Server) WaitFor(ctx context.Context, ok func(State) bool) error {
	for {
		st, changed := s.snapshot()
		if ok(st) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
