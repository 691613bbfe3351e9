package teams_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/teams"
)

func assertDials(t *testing.T, raw, scheme, host string) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != scheme || u.Host != host || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		t.Fatalf("%q is read as %+v, %v", raw, u, err)
	}
}

const joinInvoke = `{"type":"invoke","name":"adaptiveCard/action","id":"f:1","timestamp":"2026-11-23T12:00:00.123Z","channelId":"msteams",
 "serviceUrl":"http://127.0.0.1:9999/_connector","from":{"id":"29:abc","name":"Alex Wilber","aadObjectId":"0000-20"},"recipient":{"id":"28:bot","name":"Counterfoil"},
 "conversation":{"id":"19:x@thread.tacv2;messageid=1795456273766","isGroup":true,"conversationType":"channel","tenantId":"T-1"},
 "channelData":{"channel":{"id":"19:x@thread.tacv2"},"team":{"id":"19:t@thread.tacv2"},"tenant":{"id":"t-1"},"source":{"name":"message"}},
 "replyToId":"1795456273766","value":{"action":{"type":"Action.Execute","title":"Join","verb":"join","data":{"conversation":"c-1","verb":"end"}},"trigger":"manual"},"later":{"added":[1]}}`

func TestDecodeReadsAnInvokeFromAThread(t *testing.T) {
	a := decode(t, joinInvoke)
	for _, tc := range []struct{ what, got, want string }{
		{"kind", string(a.Kind()), "invoke"}, {"verb", string(a.Verb()), "join"}, {"conversation", a.Conversation(), "c-1"},
		{"tenant", a.Tenant(), "t-1"}, {"root", a.ThreadRoot(), "1795456273766"}, {"channel", a.TeamsChannelID, "19:x@thread.tacv2"},
		{"from", a.From.ID, "29:abc"}, {"aad", a.From.AADObjectID, "0000-20"}, {"card", a.ReplyToID, "1795456273766"},
		{"time", a.Timestamp.Format("05.000"), "00.123"}, {"team", a.Team.ID, "19:t@thread.tacv2"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, tc.got, tc.want)
		}
	}
	if !a.IsChannel() || a.IsPersonal() || !euii.InboundEqualFold(a.From.Name, "alex wilber") {
		t.Error("place or name are wrong")
	}
	if printed := fmt.Sprintf("%v %+v %#v", *a, *a, *a); strings.Contains(printed, "Wilber") {
		t.Errorf("a printed activity shows the name: %s", printed)
	}
}

func TestDecodeReadsASubmitLikeAnExecute(t *testing.T) {
	a := decode(t, `{"type":"message","value":{"conversation":"c-2","verb":"reply","reply":"Hello there","n":5,"canned":"not ours!"}}`)
	if a.Kind() != teams.KindMessage || a.Verb() != teams.VerbReply || a.Conversation() != "c-2" {
		t.Errorf("got %s %s %v", a.Kind(), a.Verb(), a.Data())
	}
	if !euii.InboundEqualFold(a.ReplyText(), "Hello there") || !euii.InboundEmpty(a.Input("n")) {
		t.Error("the inputs are wrong")
	}
	if _, has := a.Data()["canned"]; has {
		t.Error("a reference of foreign form was kept")
	}
	if printed := fmt.Sprintf("%+v", *a); strings.Contains(printed, "Hello") {
		t.Error("a printed activity shows what was typed")
	}
}

func TestVerbIsOnlyForButtons(t *testing.T) {
	for _, text := range []string{
		`{"type":"invoke","name":"task/fetch","value":{"action":{"verb":"join","data":{}}}}`,
		`{"type":"messageReaction","value":{"verb":"join"}}`,
		`{"type":"message","value":{"verb":"two words"}}`,
		`{"type":"message","value":"join"}`,
		`{"type":"message","value":{"verb":"join","verb":"end"}}`,
		`{"type":"message"}`,
	} {
		if v := decode(t, text).Verb(); v != "" {
			t.Errorf("%s: verb %q", text, v)
		}
	}
}

func TestKindNamesWhatTheBotActsOn(t *testing.T) {
	for _, tc := range []struct {
		text string
		want teams.Kind
	}{
		{`{"type":"message","text":"x"}`, teams.KindMessage},
		{`{"type":"typing"}`, teams.KindTyping},
		{`{"type":"invoke"}`, teams.KindInvoke},
		{`{"type":"installationUpdate","action":"add"}`, teams.KindInstall},
		{`{"type":"installationUpdate","action":"add-upgrade"}`, teams.KindInstall},
		{`{"type":"installationUpdate","action":"remove"}`, teams.KindUninstall},
		{`{"type":"installationUpdate","action":"remove-upgrade"}`, teams.KindOther},
		{`{"type":"conversationUpdate","recipient":{"id":"28:b"},"membersAdded":[{"id":"29:a"},{"id":"28:b"}]}`, teams.KindInstall},
		{`{"type":"conversationUpdate","recipient":{"id":"28:b"},"membersRemoved":[{"id":"28:b"}]}`, teams.KindUninstall},
		{`{"type":"conversationUpdate","recipient":{"id":"28:b"},"membersAdded":[{"id":"29:a"}]}`, teams.KindOther},
		{`{"type":"conversationUpdate","membersAdded":[{}]}`, teams.KindOther},
		{`{"type":"conversationUpdate","channelData":{"eventType":"somethingNew"}}`, teams.KindOther},
		{`{"type":"messageUpdate","channelData":{"eventType":"editMessage"}}`, teams.KindEdit},
		{`{"type":"messageUpdate","channelData":{"eventType":"undeleteMessage"}}`, teams.KindOther},
		{`{"type":"messageDelete","channelData":{"eventType":"softDeleteMessage"}}`, teams.KindDelete},
		{`{"type":"messageReaction"}`, teams.KindOther},
	} {
		if got := decode(t, tc.text).Kind(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.text, got, tc.want)
		}
	}
}

func TestTenantsThatContradictGiveNone(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"x","channelData":{"tenant":{"id":"a"}}}`:                                 "a",
		`{"type":"x","conversation":{"tenantId":"a"}}`:                                     "a",
		`{"type":"x","conversation":{"tenantId":"A"},"channelData":{"tenant":{"id":"a"}}}`: "a",
		`{"type":"x","conversation":{"tenantId":"b"},"channelData":{"tenant":{"id":"a"}}}`: "",
		`{"type":"x"}`: "",
	} {
		if got := decode(t, text).Tenant(); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

func TestTextLosesMentionsByTheirEntities(t *testing.T) {
	for _, tc := range []struct {
		name, text, entities, want string
		mentioned                  []string
	}{
		{"the bot's mention goes", "<at>Counterfoil</at> status", `[{"type":"mention","text":"<at>Counterfoil</at>","mentioned":{"id":"28:b","name":"Counterfoil"}}]`, "status", nil},
		{"a colleague's mention goes too", "ask <at>Ada L</at>", `[{"type":"mention","text":"<at>Ada L</at>","mentioned":{"id":"29:ada"}},{"type":"mention","text":"<at>Ada L</at>","mentioned":{"id":"29:ada"}}]`, "ask", []string{"29:ada"}},
		{"markup without an entity stays", "<at>x</at> y", `[]`, "<at>x</at> y", nil},
		{"names are no pattern", "a+b <at>a+b</at>", `[{"type":"mention","text":"<at>a+b</at>","mentioned":{"id":"28:b"}}]`, "a+b", nil},
		{"other entities are passed over", "hi", `[{"type":"clientInfo","text":7},null,5,{"type":"mention","text":"hi"}]`, "hi", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := decode(t, fmt.Sprintf(`{"type":"message","recipient":{"id":"28:b"},"text":%q,"entities":%s}`, tc.text, tc.entities))
			if !euii.InboundEqualFold(a.TextWithoutMention(), tc.want) {
				t.Errorf("the text has %d bytes and is not %q", euii.InboundLen(a.TextWithoutMention()), tc.want)
			}
			if got := a.Mentioned(); !slices.Equal(got, tc.mentioned) {
				t.Errorf("mentioned %v", got)
			}
		})
	}
}

func TestAttachmentsHideTheirContent(t *testing.T) {
	a := decode(t, `{"type":"message","attachments":[{"contentType":"text/html","content":"<p>secret</p>"},{"contentType":"x","name":"secret.pdf","content":{"k":"secret"}},{"contentType":"y","content":null}]}`)
	if len(a.Attachments) != 3 || euii.InboundLen(a.Attachments[0].Content) != 13 || !euii.InboundEqualFold(a.Attachments[1].Content, `{"k":"secret"}`) || !euii.InboundEmpty(a.Attachments[2].Content) {
		t.Errorf("attachments: %d", len(a.Attachments))
	}
	if strings.Contains(fmt.Sprintf("%+v %#v", a.Attachments, a.Attachments), "secret") {
		t.Error("printed attachments show their content")
	}
}

func TestDecodeRefusesWhatIsNoActivity(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want error
	}{
		"nothing":           {"", teams.ErrActivity},
		"null":              {"null", teams.ErrActivity},
		"a list":            {"[]", teams.ErrActivity},
		"no type":           {"{}", teams.ErrActivity},
		"a number as type":  {`{"type":1}`, teams.ErrActivity},
		"a number as name":  {`{"type":"message","from":{"name":1}}`, teams.ErrActivity},
		"two values":        {`{"type":"message"}{}`, teams.ErrActivity},
		"half a value":      {`{"type":"message"`, teams.ErrActivity},
		"33 levels":         {`{"type":"message","x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, teams.ErrActivity},
		"more than allowed": {`{"type":"message","text":"` + strings.Repeat("x", teams.MaxActivity) + `"}`, teams.ErrActivityTooLong},
	} {
		a, err := teams.DecodeActivity(strings.NewReader(tc.body))
		if !errors.Is(err, tc.want) || a != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ok := `{"type":"message","text":"[[[[{{{{\"[[[","x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`
	if _, err := teams.DecodeActivity(strings.NewReader(ok)); err != nil {
		t.Errorf("32 levels: %v", err)
	}
	if _, err := teams.DecodeActivity(strings.NewReader(`{"type":"message","text":{"secret":1}}`)); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("the error quotes the body: %v", err)
	}
}

func FuzzDecodeActivity(f *testing.F) {
	f.Add(joinInvoke)
	f.Add(`{"type":"message","value":{"verb":"reply","conversation":"c","reply":"x"},"entities":[{"type":"mention","text":"<at>x</at>","mentioned":{"id":"1"}}]}`)
	f.Add(`{"type":"conversationUpdate","membersAdded":[{"id":"28:b","name":null}],"timestamp":5}`)
	f.Add(`{"type":"message","attachments":[{"content":{}}],"text":"\ud800"}`)
	f.Fuzz(func(t *testing.T, body string) {
		a, err := teams.DecodeActivity(strings.NewReader(body))
		if err != nil {
			if a != nil || !errors.Is(err, teams.ErrActivity) && !errors.Is(err, teams.ErrActivityTooLong) {
				t.Fatalf("%v %v", a, err)
			}
			return
		}
		if a.Kind() == "" || a.Verb() != "" && a.Kind() != teams.KindMessage && a.Kind() != teams.KindInvoke {
			t.Fatalf("kind %q, verb %q", a.Kind(), a.Verb())
		}
		for name, ref := range a.Data() {
			if name != "conversation" && name != "canned" || ref == "" || len(ref) > 128 || strings.ContainsAny(ref, " /<>\"'\n") {
				t.Fatalf("reference %q: %q", name, ref)
			}
		}
		if euii.InboundLen(a.TextWithoutMention()) > euii.InboundLen(a.Text) {
			t.Fatal("the text grew")
		}
		_, _, _ = a.ThreadRoot(), a.Tenant(), a.Mentioned()
	})
}
