package standin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	connectorPath = "/connector/"
	cardType      = "application/vnd.microsoft.card.adaptive"
	// maxActivity is the documented limit of about 100 KB, counted as UTF-16.
	maxActivity = 100 << 10
	maxBody     = 1 << 20
)

// apiError is a refusal of the connector.
type apiError struct {
	status     int
	code, text string
	retryAfter time.Duration
}

func (e *apiError) Error() string { return e.code }

var (
	errNoConversation = &apiError{status: http.StatusNotFound, code: "ConversationNotFound", text: "Conversation not found."}
	errNoActivity     = &apiError{status: http.StatusNotFound, code: "ActivityNotFoundInConversation", text: "The activity was not found in the conversation."}
	errNoMember       = &apiError{status: http.StatusNotFound, code: "MemberNotFoundInConversation", text: "The member was not found in the conversation."}
	errNotInRoster    = &apiError{status: http.StatusForbidden, code: "BotNotInConversationRoster", text: "The bot is not part of the conversation roster."}
	errBlocked        = &apiError{status: http.StatusForbidden, code: "MessageWritesBlocked", text: "The user has blocked or removed the bot."}
	errTooBig         = &apiError{status: http.StatusRequestEntityTooLarge, code: "MessageSizeTooBig", text: "Message size too large."}
	errTenant         = &apiError{status: http.StatusForbidden, code: "Forbidden", text: "The bot is not allowed in this tenant."}
	errUser           = &apiError{status: http.StatusBadRequest, code: "BadArgument", text: "Failed to decrypt pairwise id."}
)

func badSyntax(text string) error {
	return &apiError{status: http.StatusBadRequest, code: "BadSyntax", text: text}
}

func badArgument(text string) error {
	return &apiError{status: http.StatusBadRequest, code: "BadArgument", text: text}
}

// sent is what the bot posts, as far as Teams would show it.
type sent struct {
	Type        string       `json:"type"`
	Text        string       `json:"text"`
	TextFormat  string       `json:"textFormat"`
	Attachments []attachment `json:"attachments"`
	Entities    []struct {
		Type      string  `json:"type"`
		Text      string  `json:"text"`
		Mentioned account `json:"mentioned"`
	} `json:"entities"`
}

type attachment struct {
	ContentType string          `json:"contentType"`
	Content     json.RawMessage `json:"content"`
}

type newConversation struct {
	IsGroup     bool      `json:"isGroup"`
	Members     []account `json:"members"`
	TenantID    string    `json:"tenantId"`
	ChannelData struct {
		Channel struct {
			ID string `json:"id"`
		} `json:"channel"`
		Tenant struct {
			ID string `json:"id"`
		} `json:"tenant"`
	} `json:"channelData"`
	Activity *sent `json:"activity"`
}

// call is one connector operation: it returns the status and the body of a success, or an apiError.
type call func(r *http.Request) (status int, body any, err error)

func (s *Server) connectorRoutes(mux *http.ServeMux) {
	const conversation = connectorPath + "v3/conversations/{conversation}"
	for pattern, c := range map[string]struct {
		name string
		do   call
	}{
		"POST " + connectorPath + "v3/conversations":             {CallCreate, s.createConversation},
		"POST " + conversation + "/activities":                   {CallSend, s.sendActivity},
		"POST " + conversation + "/activities/{activity}":        {CallSend, s.sendActivity},
		"PUT " + conversation + "/activities/{activity}":         {CallUpdate, s.updateActivity},
		"DELETE " + conversation + "/activities/{activity}":      {CallDelete, s.deleteActivity},
		"GET " + conversation + "/members":                       {CallMembers, s.members},
		"GET " + conversation + "/pagedmembers":                  {CallPagedMembers, s.pagedMembers},
		"GET " + conversation + "/members/{user}":                {CallMember, s.oneMember},
		"GET " + connectorPath + "v3/teams/{team}":               {CallTeam, s.team},
		"GET " + connectorPath + "v3/teams/{team}/conversations": {CallChannels, s.channels},
	} {
		mux.Handle(pattern, s.connectorCall(c.name, c.do))
	}
}

// connectorCall checks the token, counts the call, and lets it meet what faults are switched on.
func (s *Server) connectorCall(name string, do call) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.checkAccess(r.Header.Get("Authorization")); err != nil {
			s.count(CallRefused)
			w.Header().Set("WWW-Authenticate", `Bearer realm="botframework"`)
			writeJSON(w, http.StatusUnauthorized, map[string]string{"message": "Authorization has been denied for this request."})
			return
		}
		s.count(name)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		fault := s.takeFault()
		if s.delay(r.Context()) != nil {
			return
		}
		switch fault {
		case FaultThrottle:
			writeAPIError(w, throttled(2*time.Second))
			return
		case FaultError:
			writeAPIError(w, &apiError{status: http.StatusInternalServerError, code: "ServiceError", text: "Internal server error."})
			return
		}
		status, body, err := do(r)
		if fault == FaultStall {
			s.stall(r.Context())
			panic(http.ErrAbortHandler) // the connection goes without an answer
		}
		if err != nil {
			writeAPIError(w, err)
			return
		}
		if body == nil {
			w.WriteHeader(status)
			return
		}
		writeJSON(w, status, body)
	})
}

func (s *Server) stall(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	_ = sleep(ctx, s.cfg.Timing.Stall)
}

func writeAPIError(w http.ResponseWriter, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, code: "ServiceError", text: "Internal server error."}
	}
	if e.retryAfter > 0 {
		seconds := max(1, int((e.retryAfter+time.Second-1)/time.Second))
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]string{"code": e.code, "message": e.text}})
}

func throttled(wait time.Duration) *apiError {
	return &apiError{
		status: http.StatusTooManyRequests, code: "TooManyRequests",
		text: "API calls quota exceeded.", retryAfter: wait,
	}
}

// limitSend books n messages to the thread. s.mu is held.
func (s *Server) limitSend(place string, n int) error {
	if wait := s.w.sends.take(place, n, s.cfg.Now()); wait > 0 {
		return throttled(wait)
	}
	return nil
}

func (s *Server) createConversation(r *http.Request) (int, any, error) {
	var req newConversation
	if err := readJSON(r, &req); err != nil {
		return 0, nil, err
	}
	for _, t := range []string{req.TenantID, req.ChannelData.Tenant.ID} {
		if t != "" && t != s.org.tenant {
			return 0, nil, errTenant
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !req.IsGroup {
		return s.createChat(req)
	}
	channel, root, ok := channelOf(req.ChannelData.Channel.ID)
	if !ok || root != "" {
		return 0, nil, errNoConversation
	}
	if req.Activity == nil {
		return 0, nil, badSyntax("An activity must be specified.")
	}
	p, err := s.post(channel, "", *req.Activity)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, map[string]string{"id": p.Conversation, "activityId": p.ID}, nil
}

// createChat answers with the one 1:1 chat there is between a person and the bot. s.mu is held.
func (s *Server) createChat(req newConversation) (int, any, error) {
	if len(req.Members) != 1 {
		return 0, nil, badArgument("Exactly one member must be specified.")
	}
	m, ok := s.org.byUser(req.Members[0].ID)
	if !ok {
		return 0, nil, errUser
	}
	if req.Activity == nil {
		if err := s.limitSend(m.ChatID, 1); err != nil {
			return 0, nil, err
		}
		return http.StatusCreated, map[string]string{"id": m.ChatID}, nil
	}
	p, err := s.post(m.ChatID, "", *req.Activity)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, map[string]string{"id": m.ChatID, "activityId": p.ID}, nil
}

// place finds what a conversation id of the bot's means: a chat, a channel, or a thread whose first message exists.
// s.mu is held.
func (s *Server) place(conversation string) (place, root string, err error) {
	if m, ok := s.org.byChat(conversation); ok {
		return m.ChatID, "", nil
	}
	channel, root, ok := channelOf(conversation)
	if !ok {
		return "", "", errNoConversation
	}
	if !s.w.inTeam {
		return "", "", errNotInRoster
	}
	if root != "" {
		if p := s.w.byID[root]; p == nil || p.Conversation != conversation {
			return "", "", errNoConversation
		}
	}
	return channel, root, nil
}

// sendActivity makes a new thread of a message to a bare channel, whichever message it says it replies to: so does Teams.
func (s *Server) sendActivity(r *http.Request) (int, any, error) {
	var a sent
	if err := readJSON(r, &a); err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	conversation := r.PathValue("conversation")
	place, root, err := s.place(conversation)
	if err != nil {
		return 0, nil, err
	}
	if a.Type == "typing" {
		s.w.calls[CallTyping]++
		if err := s.limitSend(place, 1); err != nil {
			return 0, nil, err
		}
		s.w.typing[conversation] = s.cfg.Now()
		s.touch()
		return http.StatusAccepted, map[string]string{}, nil
	}
	p, err := s.post(place, root, a)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, map[string]string{"id": p.ID}, nil
}

// post adds what the bot says: to the thread of root, as a new thread, or to a 1:1 chat. A text with attachments becomes
// two messages, each of which counts, and the bot learns the id of the first alone. s.mu is held.
func (s *Server) post(place, root string, a sent) (*Post, error) {
	if _, _, channel := channelOf(place); channel && !s.w.inTeam {
		return nil, errNotInRoster
	}
	m, chat := s.org.byChat(place)
	if chat && s.w.blocked[m.Short] {
		return nil, errBlocked
	}
	text, err := s.content(a)
	if err != nil {
		return nil, err
	}
	var parts []*Post
	if text.Text != "" && len(text.Cards) > 0 {
		cards := &Post{Cards: text.Cards}
		text.Cards = nil
		parts = []*Post{text, cards}
	} else {
		parts = []*Post{text}
	}
	if err := s.limitSend(place, len(parts)); err != nil {
		return nil, err
	}
	for _, p := range parts {
		switch {
		case chat:
			p.Conversation = place
		case root != "":
			p.Conversation = place + threadMark + root
		default:
			p.Root = true
		}
		s.add(place, p)
		if p.Root {
			root = p.ID
		}
	}
	return parts[0], nil
}

// content is the visible part of a message.
func (s *Server) content(a sent) (*Post, error) {
	if a.Type != "message" {
		return nil, badArgument("Unknown activity type.")
	}
	p := &Post{Text: a.Text, Plain: a.TextFormat == "plain"}
	for _, att := range a.Attachments {
		if att.ContentType != cardType {
			return nil, badArgument("Unknown attachment type.")
		}
		if err := checkCard(att.Content); err != nil {
			return nil, badArgument(err.Error())
		}
		p.Cards = append(p.Cards, att.Content)
	}
	if strings.TrimSpace(p.Text) == "" && len(p.Cards) == 0 {
		return nil, badSyntax("Activity must have text or an attachment.")
	}
	for _, e := range a.Entities {
		if e.Type == "mention" && e.Text != "" && strings.Contains(p.Text, e.Text) {
			p.Mentions = append(p.Mentions, Mention{Text: e.Text, Name: e.Mentioned.Name})
		}
	}
	return p, nil
}

// own finds a message of the bot in the conversation. s.mu is held.
func (s *Server) own(r *http.Request) (*Post, error) {
	place, _, err := s.place(r.PathValue("conversation"))
	if err != nil {
		return nil, err
	}
	p := s.w.byID[r.PathValue("activity")]
	if p == nil || p.Deleted || p.Author != "" {
		return nil, errNoActivity
	}
	if in, _, _ := channelOf(p.Conversation); in != place {
		return nil, errNoActivity
	}
	return p, nil
}

func (s *Server) updateActivity(r *http.Request) (int, any, error) {
	var a sent
	if err := readJSON(r, &a); err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.own(r)
	if err != nil {
		return 0, nil, err
	}
	if m, ok := s.org.byChat(p.Conversation); ok && s.w.blocked[m.Short] {
		return 0, nil, errBlocked
	}
	next, err := s.content(a)
	if err != nil {
		return 0, nil, err
	}
	p.Text, p.Plain, p.Mentions, p.Cards = next.Text, next.Plain, next.Mentions, next.Cards
	p.CardFor = nil
	maps.DeleteFunc(p.Notices, func(_ string, n Notice) bool { return !n.Error }) // why a click came to nothing stays readable
	p.Edited = true
	s.touch()
	return http.StatusOK, map[string]string{"id": p.ID}, nil
}

func (s *Server) deleteActivity(r *http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.own(r)
	if err != nil {
		return 0, nil, err
	}
	*p = Post{ID: p.ID, Conversation: p.Conversation, Root: p.Root, At: p.At, Deleted: true}
	s.touch()
	return http.StatusOK, nil, nil
}

// roster is who is in a conversation: everybody in the team's channels, one person in a 1:1 chat.
func (s *Server) roster(r *http.Request) ([]Member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	place, _, err := s.place(r.PathValue("conversation"))
	if err != nil {
		return nil, err
	}
	if wait := s.w.reads.take(place, 1, s.cfg.Now()); wait > 0 {
		return nil, throttled(wait)
	}
	if m, ok := s.org.byChat(place); ok {
		return []Member{m}, nil
	}
	return s.org.members, nil
}

// memberJSON writes a person as the connector does; the directory id has another name in the unpaged list.
func (s *Server) memberJSON(m Member, directoryID string) map[string]string {
	return map[string]string{
		"id": m.ID, directoryID: m.AADObjectID, "name": m.Name, "givenName": m.GivenName, "surname": m.Surname,
		"email": m.Email, "userPrincipalName": m.Email, "tenantId": s.org.tenant, "userRole": "user",
	}
}

func (s *Server) oneMember(r *http.Request) (int, any, error) {
	roster, err := s.roster(r)
	if err != nil {
		return 0, nil, err
	}
	m, ok := s.org.byUser(r.PathValue("user"))
	if !ok || !slices.Contains(roster, m) {
		return 0, nil, errNoMember
	}
	return http.StatusOK, s.memberJSON(m, "aadObjectId"), nil
}

func (s *Server) members(r *http.Request) (int, any, error) {
	roster, err := s.roster(r)
	if err != nil {
		return 0, nil, err
	}
	list := make([]map[string]string, len(roster))
	for i, m := range roster {
		list[i] = s.memberJSON(m, "objectId")
	}
	return http.StatusOK, list, nil
}

// pagedMembers has one page: the smallest page of Teams, 50, is larger than the organisation.
func (s *Server) pagedMembers(r *http.Request) (int, any, error) {
	roster, err := s.roster(r)
	if err != nil {
		return 0, nil, err
	}
	if r.URL.Query().Get("continuationToken") != "" {
		return 0, nil, &apiError{status: http.StatusForbidden, code: "BadArgument", text: "Invalid continuation token."}
	}
	list := make([]map[string]string, len(roster))
	for i, m := range roster {
		list[i] = s.memberJSON(m, "aadObjectId")
	}
	return http.StatusOK, map[string]any{"members": list}, nil
}

func (s *Server) knownTeam(r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.PathValue("team") != teamID {
		return errNoConversation
	}
	if !s.w.inTeam {
		return errNotInRoster
	}
	return nil
}

func (s *Server) team(r *http.Request) (int, any, error) {
	if err := s.knownTeam(r); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{
		"id": teamID, "name": teamName, "aadGroupId": teamGroup, "tenantId": s.org.tenant, "type": "standard",
		"channelCount": 2, "memberCount": len(s.org.members),
	}, nil
}

func (s *Server) channels(r *http.Request) (int, any, error) {
	if err := s.knownTeam(r); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"conversations": []map[string]any{
		{"id": teamID, "name": nil}, // the General channel has the id of its team and no name
		{"id": frontID, "name": FrontDesk},
	}}, nil
}

// readJSON reads a body within the size limit of messages.
func readJSON(r *http.Request, into any) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		if tooBig := new(http.MaxBytesError); errors.As(err, &tooBig) {
			return errTooBig
		}
		return badSyntax("The body could not be read.")
	}
	if utf16Size(raw) > maxActivity {
		return errTooBig
	}
	if json.Unmarshal(raw, into) != nil {
		return badSyntax("The body is not valid JSON of an activity.")
	}
	return nil
}

func utf16Size(raw []byte) int {
	size := 0
	for _, r := range string(raw) {
		size += 2 * max(1, utf16.RuneLen(r))
	}
	return size
}
