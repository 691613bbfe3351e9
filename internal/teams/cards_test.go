package teams_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"counterfoil/internal/teams"
)

var update = flag.Bool("update", false, "write the golden files anew")

// nasty is what a visitor may write to break out of a card.
const nasty = "[Click](https://evil.test) **bold** _it_ <b>x</b> {{DATE(2026-01-01T00:00:00Z,SHORT)}} {{{x\n- item\r\n# head \u202egnp.exe\u202c \x00 `code` \\"

var canned = []teams.Canned{{ID: "hours", Title: "Opening hours"}, {ID: "thanks", Title: "Thanks & goodbye"}}

func cards(l teams.Language, text string) map[string]teams.Card {
	return map[string]teams.Card{
		"waiting":      teams.WaitingCard(l, teams.Waiting{Conversation: "c-1", Handle: "visitor 7f2k", FirstLine: text}),
		"active":       teams.ActiveCard(l, teams.Active{Conversation: "c-1", Handle: "visitor 7f2k", FirstLine: text, JoinedBy: text, Canned: canned}),
		"active-plain": teams.ActiveCard(l, teams.Active{Conversation: "c-1", Handle: "visitor 7f2k"}),
		"closed":       teams.ClosedCard(l, "visitor 7f2k", teams.EndedByVisitor),
		"left":         teams.LeftCard(l, "visitor 7f2k"),
		"switch":       teams.SwitchCard(l, "c-2", []teams.Choice{{Conversation: "c-1", Handle: "visitor 7f2k"}, {Conversation: "c-2", Handle: "visitor 9a3m"}}),
		"switch-none":  teams.SwitchCard(l, "", nil),
		"notice":       teams.NoticeCard(l, "c-1", 2, []teams.Paragraph{{"What is kept", "Your *name* and {{DATE(x)}}"}, {"", "alone"}}),
		"accepted":     teams.AcceptedCard(l, 2, []teams.Paragraph{{"What is kept", "Your *name* and {{DATE(x)}}"}}),
		"superseded":   teams.SupersededCard(l),
		"own":          teams.OwnCard(l, false, []teams.Asked{{"Erasure", "2026-12-24"}}),
		"own-limited":  teams.OwnCard(l, true, nil),
		"intro": teams.IntroCard(l, teams.Intro{
			Conversation: "c-1", Handle: "visitor 7f2k", Name: text, Email: text, Page: text, Language: "fr", Canned: canned,
		}),
	}
}

func TestCardsAreAsRecorded(t *testing.T) {
	for _, l := range []teams.Language{teams.English, teams.French} {
		for name, card := range cards(l, "My order [12](x) has **not** arrived & I wait") {
			raw, err := json.Marshal(card)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := json.Indent(&b, raw, "", "  "); err != nil {
				t.Fatal(err)
			}
			b.WriteByte('\n')
			file := filepath.Join("testdata", "cards", name+"."+string(l)+".json")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(want, b.Bytes()) {
				t.Errorf("%s differs (%v); run with -update and look at the difference\n%s", file, err, b.Bytes())
			}
		}
	}
}

// walk visits every object of a JSON value.
func walk(v any, visit func(object)) {
	switch v := v.(type) {
	case object:
		visit(v)
		for _, m := range v {
			walk(m, visit)
		}
	case []any:
		for _, m := range v {
			walk(m, visit)
		}
	}
}

func TestForeignTextStaysTextInEveryCard(t *testing.T) {
	for _, l := range []teams.Language{teams.English, teams.French, "xx"} {
		for name, card := range cards(l, nasty) {
			raw, err := json.Marshal(card)
			if err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := json.Unmarshal(raw, &tree); err != nil {
				t.Fatal(err)
			}
			walk(tree, func(o object) {
				text, _ := o["text"].(string)
				switch o["type"] {
				case "TextRun":
					if strings.ContainsAny(text, "\n\r\x00\u202e\u202c") || strings.Contains(text, "{{") {
						t.Errorf("%s: a run holds %q", name, text)
					}
				default:
					// Markdown is read here: only our own words may come in.
					for key, v := range o {
						if s, ok := v.(string); ok && (strings.Contains(s, "Click") || strings.ContainsAny(s, "*[`<")) {
							t.Errorf("%s: %v.%s holds %q", name, o["type"], key, s)
						}
					}
				}
				if u, has := o["url"]; has {
					t.Errorf("%s: a link to %v", name, u)
				}
			})
		}
	}
	evil := teams.WaitingCard(teams.English, teams.Waiting{Conversation: "c", Handle: "[x](https://evil.test) **b**", FirstLine: "x"})
	raw, err := json.Marshal(evil)
	if err != nil || bytes.ContainsAny(raw, "*()") || bytes.Contains(raw, []byte("evil.test")) {
		t.Errorf("a handle breaks out: %s %v", raw, err)
	}
}

func TestEveryButtonCarriesOnlyConversationVerbAndVersion(t *testing.T) {
	for name, card := range cards(teams.English, "x") {
		raw, err := json.Marshal(card)
		if err != nil {
			t.Fatal(err)
		}
		var tree any
		if err := json.Unmarshal(raw, &tree); err != nil {
			t.Fatal(err)
		}
		primary, submits := 0, 0
		walk(tree, func(o object) {
			kind, _ := o["type"].(string)
			if o["style"] == "positive" && kind != "Action.Submit" {
				primary++
			}
			switch kind {
			case "Action.Submit":
				submits++
			case "Action.Execute":
				fallback, _ := o["fallback"].(object)
				if fallback["type"] != "Action.Submit" || fallback["title"] != o["title"] || fallback["associatedInputs"] != o["associatedInputs"] {
					t.Errorf("%s: the fallback of %v is %v", name, o["title"], fallback)
				}
				data, _ := o["data"].(object)
				if data["verb"] != o["verb"] {
					t.Errorf("%s: verbs %v and %v", name, data["verb"], o["verb"])
				}
				for key, v := range data {
					if key != "verb" && (key != "conversation" || v != "c-1") && (key != "version" || v != "2") {
						t.Errorf("%s: data %s=%v", name, key, v)
					}
				}
				// What the client sends back is understood.
				back, err := json.Marshal(object{"type": "invoke", "name": "adaptiveCard/action", "value": object{"action": o}})
				if err != nil {
					t.Fatal(err)
				}
				if a := decode(t, string(back)); string(a.Verb()) != o["verb"] {
					t.Errorf("%s: came back as %q", name, a.Verb())
				}
			}
		})
		if primary > 1 {
			t.Errorf("%s has %d primary buttons", name, primary)
		}
		if want := strings.Count(string(raw), `"Action.Execute"`); submits != want {
			t.Errorf("%s: %d fallbacks for %d buttons", name, submits, want)
		}
	}
}

func TestCardsStaySmall(t *testing.T) {
	long := strings.Repeat("😀", 50_000)
	many := make([]teams.Canned, 1000)
	choices := make([]teams.Choice, 1000)
	for i := range many {
		many[i] = teams.Canned{ID: "x", Title: long}
		choices[i] = teams.Choice{Conversation: "c", Handle: strings.Repeat("v", 1000)}
	}
	for name, c := range map[string]teams.Card{
		"active": teams.ActiveCard(teams.French, teams.Active{Conversation: "c", FirstLine: long, JoinedBy: long, Canned: many}),
		"intro":  teams.IntroCard(teams.French, teams.Intro{Conversation: "c", Name: long, Email: long, Page: long, Language: long, Canned: many}),
		"notice": teams.NoticeCard(teams.French, "c", 2, []teams.Paragraph{{long, long}, {long, long}}),
		"switch": teams.SwitchCard(teams.French, "", choices),
	} {
		raw, err := json.Marshal(c)
		if err != nil || len(raw) > 80<<10 {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
	}
	if _, err := json.Marshal(teams.ActiveCard(teams.English, teams.Active{Conversation: strings.Repeat("x", 80<<10)})); !errors.Is(err, teams.ErrTooBig) {
		t.Errorf("a card beyond the limit: %v", err)
	}
	if _, err := json.Marshal(teams.Card{}); err == nil {
		t.Error("the zero card was encoded")
	}
}

func TestInvokeResponsesHaveTheFormTeamsReads(t *testing.T) {
	card := teams.ClosedCard(teams.English, "visitor 7f2k", teams.EndedByAgent)
	body, err := json.Marshal(card)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		r    teams.InvokeResponse
		want string
	}{
		{teams.RespondCard(card), `{"statusCode":200,"type":"application/vnd.microsoft.card.adaptive","value":` + string(body) + `}`},
		{teams.RespondMessage("Somebody else was first."), `{"statusCode":200,"type":"application/vnd.microsoft.activity.message","value":"Somebody else was first."}`},
		{teams.RespondError(400, "Closed", "The chat has ended."), `{"statusCode":400,"type":"application/vnd.microsoft.error","value":{"code":"Closed","message":"The chat has ended."}}`},
	} {
		if got, err := json.Marshal(tc.r); err != nil || string(got) != tc.want {
			t.Errorf("%s %v, want %s", got, err, tc.want)
		}
	}
}
