package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// messageAttempts is how often an unanswered activity is delivered in all.
const messageAttempts = 3

// ErrRefused says that the bot answered a delivery with a status from 300 to 499. Teams does not deliver it again.
var ErrRefused = errors.New("bot refused the activity")

// activity is what Teams delivers to a bot.
type activity struct {
	Type           string          `json:"type"`
	Name           string          `json:"name,omitempty"`
	Action         string          `json:"action,omitempty"`
	ID             string          `json:"id"`
	Timestamp      string          `json:"timestamp"`
	LocalTimestamp string          `json:"localTimestamp"`
	LocalTimezone  string          `json:"localTimezone"`
	Locale         string          `json:"locale"`
	ChannelID      string          `json:"channelId"`
	ServiceURL     string          `json:"serviceUrl"`
	From           account         `json:"from"`
	Recipient      account         `json:"recipient"`
	Conversation   conversationRef `json:"conversation"`
	ChannelData    channelData     `json:"channelData"`
	MembersAdded   []account       `json:"membersAdded,omitempty"`
	Text           string          `json:"text,omitempty"`
	TextFormat     string          `json:"textFormat,omitempty"`
	Attachments    []textCopy      `json:"attachments,omitempty"`
	Entities       []entity        `json:"entities,omitempty"`
	ReplyToID      string          `json:"replyToId,omitempty"`
	Value          any             `json:"value,omitempty"`
}

type account struct {
	ID          string `json:"id"`
	Name        string `json:"name,omitempty"`
	AADObjectID string `json:"aadObjectId,omitempty"`
}

type conversationRef struct {
	ID       string `json:"id"`
	Type     string `json:"conversationType"`
	IsGroup  bool   `json:"isGroup,omitempty"`
	TenantID string `json:"tenantId"`
}

type channelData struct {
	Tenant    idRef    `json:"tenant"`
	Team      *teamRef `json:"team,omitempty"`
	Channel   *idRef   `json:"channel,omitempty"`
	EventType string   `json:"eventType,omitempty"`
	Settings  *struct {
		SelectedChannel idRef `json:"selectedChannel"`
	} `json:"settings,omitempty"`
}

type idRef struct {
	ID string `json:"id"`
}

type teamRef struct {
	ID         string `json:"id"`
	Name       string `json:"name,omitempty"`
	AADGroupID string `json:"aadGroupId,omitempty"`
}

// textCopy is the HTML twin with which Teams accompanies a person's text.
type textCopy struct {
	ContentType string `json:"contentType"`
	Content     string `json:"content"`
}

type entity struct {
	Type      string   `json:"type"`
	Text      string   `json:"text,omitempty"`
	Mentioned *account `json:"mentioned,omitempty"`
	Locale    string   `json:"locale,omitempty"`
	Country   string   `json:"country,omitempty"`
	Platform  string   `json:"platform,omitempty"`
	Timezone  string   `json:"timezone,omitempty"`
}

// newActivity fills what every delivery has. place is a chat, a channel or a thread; from is named only where Teams
// names people, which is not in installation events.
func (s *Server) newActivity(kind string, from Member, place string) *activity {
	a := &activity{
		Type: kind, ChannelID: channelID, ServiceURL: s.ServiceURL(), Locale: "en-GB", LocalTimezone: "Etc/UTC",
		From:         account{ID: from.ID, Name: from.Name, AADObjectID: from.AADObjectID},
		Recipient:    s.org.bot,
		Conversation: conversationRef{ID: place, Type: "personal", TenantID: s.org.tenant},
		ChannelData:  channelData{Tenant: idRef{s.org.tenant}},
	}
	if id, _, ok := channelOf(place); ok {
		a.Conversation.Type, a.Conversation.IsGroup = "channel", true
		a.ChannelData.Team, a.ChannelData.Channel = &teamRef{ID: teamID}, &idRef{id}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.stamp(s.nextID(), s.cfg.Now())
	return a
}

func (a *activity) stamp(id string, now time.Time) {
	a.ID = id
	a.Timestamp = now.UTC().Format("2006-01-02T15:04:05.000Z")
	a.LocalTimestamp = now.UTC().Format("2006-01-02T15:04:05.000+00:00")
}

func (a *activity) fromPerson() *activity {
	a.Entities = append(a.Entities, entity{
		Type: "clientInfo", Locale: "en-GB", Country: "GB", Platform: "Web", Timezone: "Etc/UTC",
	})
	return a
}

// answer is the bot's HTTP answer.
type answer struct {
	status int
	body   []byte
}

// settled reports whether Teams takes the answer as final, good or bad.
func settled(ans answer, err error) bool {
	return err == nil && ans.status < http.StatusInternalServerError
}

// attempt delivers once, with a token of its own.
func (s *Server) attempt(ctx context.Context, body []byte) (answer, error) {
	if err := s.delay(ctx); err != nil {
		return answer{}, fmt.Errorf("deliver activity: %w", err)
	}
	token, err := s.deliveryToken()
	if err != nil {
		return answer{}, fmt.Errorf("deliver activity: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timing.Answer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.BotEndpoint, bytes.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("deliver activity: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	res, err := s.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("deliver activity: %w", err)
	}
	defer res.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return answer{}, fmt.Errorf("read the bot's answer: %w", err)
	}
	return answer{res.StatusCode, reply}, nil
}

// deliver hands the activity to the bot and returns what came of the first attempt. While that is not final, further
// attempts follow on their own. outcome, unless nil, is called after the first attempt and, when more followed, with the
// final result. A caller that gives up waiting does not stop the delivery.
func (s *Server) deliver(ctx context.Context, a *activity, outcome func(ans answer, err error, final bool)) (answer, error) {
	type result struct {
		ans answer
		err error
	}
	if outcome == nil {
		outcome = func(answer, error, bool) {}
	}
	first := make(chan result, 1)
	running := s.spawn(func(ctx context.Context) {
		start := time.Now()
		ans, err := s.firstAttempt(ctx, a)
		final := settled(ans, err)
		outcome(ans, err, final)
		first <- result{ans, err}
		if !final {
			ans, err = s.redeliver(ctx, a, start)
			outcome(ans, err, true)
		}
	})
	if !running {
		return answer{}, errors.New("stand-in is closed")
	}
	select {
	case o := <-first:
		return o.ans, o.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

// firstAttempt delivers once, or twice side by side when the next activity is to arrive as a duplicate.
func (s *Server) firstAttempt(ctx context.Context, a *activity) (answer, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return answer{}, fmt.Errorf("encode activity: %w", err)
	}
	var twin sync.WaitGroup
	if s.takeDuplicate() {
		twin.Go(func() {
			if _, err := s.attempt(ctx, body); err != nil {
				s.cfg.Logger.Debug("duplicate was not answered", "type", a.Type)
			}
		})
	}
	ans, err := s.attempt(ctx, body)
	twin.Wait()
	return ans, err
}

// redeliver follows Teams: the same activity again after a short pause; for an invoke, the pair once more with a new id
// and time.
func (s *Server) redeliver(ctx context.Context, a *activity, start time.Time) (answer, error) {
	attempts, t := messageAttempts-1, s.cfg.Timing
	invoke := a.Type == "invoke"
	if invoke {
		attempts = 3
	}
	var ans answer
	var err error
	for i := range attempts {
		pause := t.Resend
		if invoke && i == 1 {
			pause = t.SecondPair - time.Since(start)
		}
		if err := sleep(ctx, pause); err != nil {
			return answer{}, fmt.Errorf("deliver again: %w", err)
		}
		if invoke && i == 1 {
			s.mu.Lock()
			a.stamp(s.nextID(), s.cfg.Now())
			s.mu.Unlock()
		}
		var body []byte
		if body, err = json.Marshal(a); err != nil {
			return answer{}, fmt.Errorf("encode activity: %w", err)
		}
		s.cfg.Logger.Info("activity delivered again", "type", a.Type, "attempt", i+2)
		if ans, err = s.attempt(ctx, body); settled(ans, err) {
			break
		}
	}
	return ans, err
}

// outcomeError tells a caller in one word what came of a delivery.
func outcomeError(ans answer, err error) error {
	switch {
	case err != nil:
		return err
	case ans.status >= 500:
		return fmt.Errorf("bot answered %d", ans.status)
	case ans.status >= 300:
		return fmt.Errorf("%w with status %d", ErrRefused, ans.status)
	}
	return nil
}

func delivery(ans answer, err error) Delivery {
	switch {
	case err != nil || ans.status >= 500:
		return Undelivered
	case ans.status >= 300:
		return Refused
	}
	return Delivered
}
