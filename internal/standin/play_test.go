package standin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"counterfoil/internal/standin"
)

func TestSayReachesTheBot(t *testing.T) {
	s, b := setup(t, nil)
	id, err := s.Say(t.Context(), "amelie", "a <b>\nc")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := s.Member("amelie")
	got := b.deliveries("message")
	if len(got) != 1 {
		t.Fatalf("%d deliveries", len(got))
	}
	d := got[0]
	for _, c := range []struct{ got, want string }{
		{d.str("id"), id},
		{d.str("text"), "a <b>\nc"},
		{d.str("textFormat"), "plain"},
		{d.str("from", "id"), m.ID},
		{d.str("from", "aadObjectId"), m.AADObjectID},
		{d.str("recipient", "id"), "28:" + appID},
		{d.str("conversation", "id"), m.ChatID},
		{d.str("conversation", "conversationType"), "personal"},
		{d.str("conversation", "tenantId"), tenant},
		{d.str("channelData", "tenant", "id"), tenant},
		{d.str("serviceUrl"), s.ServiceURL()},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if !strings.Contains(string(d.raw), `\u003cp\u003ea \u0026lt;b\u0026gt;\u003cbr\u003ec`) {
		t.Errorf("the HTML copy is not escaped: %s", d.raw)
	}
	if strings.Contains(string(d.raw), m.Email) {
		t.Error("an activity holds an email")
	}
	if p := s.Chat("amelie")[0]; p.Delivery != standin.Delivered || p.Author != "amelie" {
		t.Errorf("%+v", p)
	}
	if _, err := s.Say(t.Context(), "nobody", "x"); !errors.Is(err, standin.ErrNoMember) {
		t.Error(err)
	}
	if _, err := s.Say(t.Context(), "amelie", " \n"); !errors.Is(err, standin.ErrEmpty) {
		t.Error(err)
	}
	if err := s.Typing(t.Context(), "amelie"); err != nil || len(b.deliveries("typing")) != 1 {
		t.Errorf("typing: %v", err)
	}
}

func TestThreadReachesTheBotOnlyWithAMention(t *testing.T) {
	s, b := setup(t, nil)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	thread, root := b.thread(b.token())
	if _, err := s.SayInThread(t.Context(), "jonas", thread, "among us", false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SayInThread(t.Context(), "jonas", root, "for you", true); err != nil {
		t.Fatal(err)
	}
	got := b.deliveries("message")
	if len(got) != 1 || got[0].str("text") != "<at>Counterfoil</at> for you" || got[0].str("conversation", "id") != thread ||
		got[0].str("conversation", "conversationType") != "channel" || got[0].str("channelData", "channel", "id") != b.front() {
		t.Fatalf("deliveries %s", got)
	}
	entities, _ := got[0].body["entities"].([]any)
	found := false
	for _, e := range entities {
		m, _ := e.(map[string]any)
		found = found || m["type"] == "mention" && m["text"] == "<at>Counterfoil</at>"
	}
	if !found {
		t.Errorf("no mention entity in %s", got[0].raw)
	}
	if posts := s.Posts(standin.FrontDesk); len(posts) != 3 || posts[1].Delivery != standin.NotForBot || posts[1].Conversation != thread {
		t.Errorf("posts %+v", posts)
	}
	if _, err := s.SayInThread(t.Context(), "jonas", "1", "x", true); !errors.Is(err, standin.ErrNoPost) {
		t.Error(err)
	}
}

func TestClick(t *testing.T) {
	s, b := setup(t, nil)
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	tok := b.token()
	thread, root := b.thread(tok)
	answer := func(status int, body any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.answer = func(int, delivery) (int, any) { return status, body }
	}
	for _, c := range []struct {
		name   string
		status int
		body   any
		want   standin.Answer
	}{
		{"shows a message", 200, obj{"statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": "Taken"}, standin.Answer{Text: "Taken"}},
		{"shows an error", 200, obj{"statusCode": 400, "type": "application/vnd.microsoft.error", "value": obj{"code": "C", "message": "No"}}, standin.Answer{Error: true, Text: "No"}},
		{"shows a server's error", 200, obj{"statusCode": 500, "type": "application/vnd.microsoft.error", "value": obj{"code": "C"}}, standin.Answer{Error: true, Text: "Something went wrong. Please try again."}},
		{"shows that nothing usable came", 200, nil, standin.Answer{Error: true, Text: "Unable to reach app. Please try again."}},
		{"shows that it was refused", 403, nil, standin.Answer{Error: true, Text: "Unable to reach app. Please try again."}},
		{"shows no card that is none", 200, obj{"statusCode": 200, "type": "application/vnd.microsoft.card.adaptive", "value": "x"}, standin.Answer{Error: true, Text: "Unable to reach app. Please try again."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer(c.status, c.body)
			got, err := s.Click(t.Context(), "grace", root, "join", nil)
			if err != nil || got.Error != c.want.Error || got.Text != c.want.Text || got.Card != nil {
				t.Errorf("got %+v, %v", got, err)
			}
			if n := s.Posts(standin.FrontDesk)[0].Notices; n["grace"] != (standin.Notice{Error: c.want.Error, Text: c.want.Text}) || len(n) != 1 {
				t.Errorf("notices %v", n)
			}
		})
	}
	t.Run("replaces the card for the clicker alone, until the message changes", func(t *testing.T) {
		answer(200, obj{"statusCode": 200, "type": "application/vnd.microsoft.card.adaptive", "value": obj{"type": "AdaptiveCard", "body": []obj{}}})
		if got, err := s.Click(t.Context(), "grace", root, "Join", nil); err != nil || got.Card == nil {
			t.Fatalf("%+v, %v", got, err)
		}
		p := s.Posts(standin.FrontDesk)[0]
		if len(p.CardFor) != 1 || string(p.CardsSeenBy("grace")[0]) == string(p.Cards[0]) || string(p.CardsSeenBy("jonas")[0]) != string(p.Cards[0]) || len(p.Notices) != 0 {
			t.Errorf("%+v", p)
		}
		if _, err := s.Click(t.Context(), "grace", root, "join", nil); !errors.Is(err, standin.ErrNoAction) {
			t.Errorf("the replaced button still works: %v", err)
		}
		b.must(http.MethodPut, "/v3/conversations/"+esc(thread)+"/activities/"+root, tok, cardMessage(waitingCard()))
		if p := s.Posts(standin.FrontDesk)[0]; len(p.CardFor) != 0 || !p.Edited {
			t.Errorf("after the change: %+v", p)
		}
	})
	t.Run("sends data with the inputs of the card and those around it", func(t *testing.T) {
		answer(200, nil)
		if _, err := s.Click(t.Context(), "grace", root, "send", nil); !errors.Is(err, standin.ErrInput) {
			t.Errorf("a required input was left empty: %v", err)
		}
		if _, err := s.Click(t.Context(), "grace", root, "send", map[string]string{"reply": "Bonjour"}); err != nil {
			t.Fatal(err)
		}
		all := b.deliveries("invoke")
		d := all[len(all)-1]
		if d.str("name") != "adaptiveCard/action" || d.str("replyToId") != root || d.str("conversation", "id") != thread ||
			d.str("value", "action", "verb") != "send" || d.str("value", "action", "type") != "Action.Execute" ||
			d.str("value", "action", "data", "reply") != "Bonjour" || d.str("value", "action", "data", "note") != "none" ||
			d.str("value", "action", "data", "chat") != "c-1" {
			t.Errorf("invoke %s", d.raw)
		}
		if _, err := s.Click(t.Context(), "grace", root, "join", nil); err != nil {
			t.Fatal(err)
		}
		all = b.deliveries("invoke")
		if d := all[len(all)-1]; !strings.Contains(string(d.raw), "9007199254740993") || d.str("value", "action", "data", "reply") != "" {
			t.Errorf("invoke %s", d.raw)
		}
	})
	t.Run("submits as a message", func(t *testing.T) {
		before := len(b.deliveries("message"))
		if _, err := s.Click(t.Context(), "grace", root, "old", nil); err != nil {
			t.Fatal(err)
		}
		s.OldClient("jonas", true)
		if _, err := s.Click(t.Context(), "jonas", root, "join", map[string]string{"note": "n"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Click(t.Context(), "jonas", root, "send", map[string]string{"reply": "x"}); !errors.Is(err, standin.ErrNoAction) {
			t.Errorf("an old client used a button without fallback: %v", err)
		}
		got := b.deliveries("message")[before:]
		if len(got) != 2 || got[0].str("value", "verb") != "old" || got[1].str("value", "verb") != "join" ||
			got[1].str("value", "note") != "n" || got[1].str("replyToId") != root || got[1].body["text"] != nil {
			t.Errorf("messages %s", got)
		}
	})
	t.Run("refuses what is not there", func(t *testing.T) {
		if _, err := s.Click(t.Context(), "grace", "1", "join", nil); !errors.Is(err, standin.ErrNoPost) {
			t.Error(err)
		}
		if _, err := s.Click(t.Context(), "nobody", root, "join", nil); !errors.Is(err, standin.ErrNoMember) {
			t.Error(err)
		}
		if _, err := s.Click(t.Context(), "grace", root, "Reply", nil); !errors.Is(err, standin.ErrNoAction) {
			t.Error(err)
		}
	})
}

func TestRedelivery(t *testing.T) {
	failures := func(n int) func(int, delivery) (int, any) {
		return func(i int, _ delivery) (int, any) {
			if i <= n {
				return http.StatusServiceUnavailable, nil
			}
			return http.StatusOK, nil
		}
	}
	for _, c := range []struct {
		name   string
		failed int
		want   int
		state  standin.Delivery
	}{
		{"does not follow an answer", 0, 1, standin.Delivered},
		{"follows a 503", 1, 2, standin.Delivered},
		{"ends after three attempts", 9, 3, standin.Undelivered},
	} {
		t.Run("of a message "+c.name, func(t *testing.T) {
			s, b := setup(t, nil)
			b.answer = failures(c.failed)
			id, err := s.Say(t.Context(), "grace", "x")
			if (err != nil) != (c.failed > 0) {
				t.Errorf("say: %v", err)
			}
			wait(t, s, func(st standin.State) bool { return st.Chats["grace"][0].Delivery == c.state })
			got := b.deliveries("message")
			if len(got) != c.want {
				t.Fatalf("%d deliveries", len(got))
			}
			for _, d := range got {
				if string(d.raw) != string(got[0].raw) || d.str("id") != id {
					t.Error("a repeated delivery differs")
				}
			}
		})
	}
	t.Run("does not follow a refusal", func(t *testing.T) {
		s, b := setup(t, nil)
		b.answer = func(int, delivery) (int, any) { return http.StatusForbidden, nil }
		if _, err := s.Say(t.Context(), "grace", "x"); !errors.Is(err, standin.ErrRefused) {
			t.Error(err)
		}
		if s.Chat("grace")[0].Delivery != standin.Refused {
			t.Error("not shown as refused")
		}
		s.Close()
		if n := len(b.deliveries("message")); n != 1 {
			t.Errorf("%d deliveries", n)
		}
	})
	t.Run("follows a late answer", func(t *testing.T) {
		s, b := setup(t, func(c *standin.Config) { c.Timing.Answer = time.Second })
		release := make(chan struct{})
		defer close(release)
		b.answer = func(i int, _ delivery) (int, any) {
			if i == 1 {
				<-release
			}
			return http.StatusOK, nil
		}
		if _, err := s.Say(t.Context(), "grace", "x"); err == nil {
			t.Error("a late answer counted")
		}
		wait(t, s, func(st standin.State) bool { return st.Chats["grace"][0].Delivery == standin.Delivered })
		if n := len(b.deliveries("message")); n != 2 {
			t.Errorf("%d deliveries", n)
		}
	})
	t.Run("of an invoke comes in two pairs with two ids", func(t *testing.T) {
		s, b := setup(t, nil)
		if err := s.Install(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, root := b.thread(b.token())
		b.answer = func(_ int, d delivery) (int, any) {
			if len(b.deliveries("invoke")) < 4 {
				return http.StatusInternalServerError, nil
			}
			return http.StatusOK, obj{"statusCode": 200, "type": "application/vnd.microsoft.activity.message", "value": "at last"}
		}
		if got, err := s.Click(t.Context(), "grace", root, "join", nil); err != nil || !got.Error {
			t.Errorf("%+v, %v", got, err)
		}
		wait(t, s, func(st standin.State) bool {
			return st.Channels[standin.FrontDesk][0].Notices["grace"].Text == "at last"
		})
		got := b.deliveries("invoke")
		if len(got) != 4 || got[0].str("id") != got[1].str("id") || got[2].str("id") != got[3].str("id") ||
			got[0].str("id") == got[2].str("id") || got[0].str("timestamp") != got[1].str("timestamp") {
			t.Errorf("invokes %s", got)
		}
	})
	t.Run("happens at once when a duplicate is asked for", func(t *testing.T) {
		s, b := setup(t, nil)
		s.DuplicateNext(true)
		for range 2 {
			if _, err := s.Say(t.Context(), "grace", "x"); err != nil {
				t.Fatal(err)
			}
		}
		got := b.deliveries("message")
		if len(got) != 3 || got[0].str("id") != got[1].str("id") || got[1].str("id") == got[2].str("id") {
			t.Errorf("deliveries %s", got)
		}
	})
}

func TestLatencyDelaysDeliveries(t *testing.T) {
	s, _ := setup(t, nil)
	s.SetLatency(30 * time.Millisecond)
	start := time.Now()
	if _, err := s.Say(t.Context(), "grace", "x"); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 30*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestWaitForEndsWithItsContext(t *testing.T) {
	s, _ := setup(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.WaitFor(ctx, func(standin.State) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func wait(t *testing.T, s *standin.Server, ok func(standin.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.WaitFor(ctx, ok); err != nil {
		t.Fatal(err)
	}
}
