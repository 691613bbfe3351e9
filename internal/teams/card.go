package teams

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
)

const (
	contentTypeCard    = "application/vnd.microsoft.card.adaptive"
	contentTypeMessage = "application/vnd.microsoft.activity.message"
	contentTypeError   = "application/vnd.microsoft.error"
)

// Card is an Adaptive Card 1.5, made by one of the functions of this package. The zero Card is none.
type Card struct {
	// summary is what a notification shows in its place; it holds nothing foreign.
	summary string
	body    []any
	actions []any
	lang    Language
}

// IsZero reports whether there is no card.
func (c Card) IsZero() bool { return c.body == nil }

// MarshalJSON is the card's JSON, of at most 80 KB.
func (c Card) MarshalJSON() ([]byte, error) {
	if c.IsZero() {
		return nil, errors.New("teams: there is no card")
	}
	return encode(struct {
		Type    string         `json:"type"`
		Schema  string         `json:"$schema"`
		Version string         `json:"version"`
		Lang    Language       `json:"lang"`
		Body    []any          `json:"body"`
		Actions []any          `json:"actions,omitempty"`
		Teams   map[string]any `json:"msteams"`
	}{
		"AdaptiveCard", "http://adaptivecards.io/schemas/adaptive-card.json", "1.5", c.lang, c.body, c.actions,
		map[string]any{"width": "Full"},
	})
}

// The elements of our cards. There are two kinds of text: textBlock, which Teams reads as Markdown and which therefore
// holds only our own words, and textRun, which Teams shows as it is. Foreign text goes into runs only, through foreign.
type (
	textBlock struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		Weight   string `json:"weight,omitempty"`
		Size     string `json:"size,omitempty"`
		IsSubtle bool   `json:"isSubtle,omitempty"`
		Spacing  string `json:"spacing,omitempty"`
		Wrap     bool   `json:"wrap"`
	}
	richTextBlock struct {
		Type    string    `json:"type"`
		Inlines []textRun `json:"inlines"`
		Spacing string    `json:"spacing,omitempty"`
	}
	textRun struct {
		Type     string `json:"type"`
		Text     string `json:"text"`
		IsSubtle bool   `json:"isSubtle,omitempty"`
	}
	inputText struct {
		Type         string `json:"type"`
		ID           string `json:"id"`
		Label        string `json:"label"`
		Placeholder  string `json:"placeholder,omitempty"`
		IsMultiline  bool   `json:"isMultiline"`
		IsRequired   bool   `json:"isRequired"`
		ErrorMessage string `json:"errorMessage"`
		MaxLength    int    `json:"maxLength"`
	}
	inputChoice struct {
		Type         string        `json:"type"`
		ID           string        `json:"id"`
		Label        string        `json:"label"`
		Style        string        `json:"style"`
		IsRequired   bool          `json:"isRequired"`
		ErrorMessage string        `json:"errorMessage"`
		Value        string        `json:"value,omitempty"`
		Choices      []inputOption `json:"choices"`
	}
	inputOption struct {
		Title string `json:"title"`
		Value string `json:"value"`
	}
	// cardData is all that a button carries; who pressed it and whether he may is decided anew.
	cardData struct {
		Conversation string `json:"conversation,omitempty"`
		Verb         Verb   `json:"verb"`
		Version      string `json:"version,omitempty"`
	}
	actionExecute struct {
		Type     string       `json:"type"`
		Title    string       `json:"title"`
		Verb     Verb         `json:"verb"`
		Data     cardData     `json:"data"`
		Style    string       `json:"style,omitempty"`
		Inputs   string       `json:"associatedInputs"`
		Fallback actionSubmit `json:"fallback"`
	}
	// actionSubmit serves clients that know no Action.Execute; it arrives as a message.
	actionSubmit struct {
		Type   string   `json:"type"`
		Title  string   `json:"title"`
		Data   cardData `json:"data"`
		Style  string   `json:"style,omitempty"`
		Inputs string   `json:"associatedInputs"`
	}
	actionShowCard struct {
		Type  string    `json:"type"`
		Title string    `json:"title"`
		Style string    `json:"style,omitempty"`
		Card  innerCard `json:"card"`
	}
	innerCard struct {
		Type    string `json:"type"`
		Body    []any  `json:"body"`
		Actions []any  `json:"actions"`
	}
)

const (
	inputsAuto = "auto"
	inputsNone = "none"
	primary    = "positive"
)

func heading(text string) textBlock {
	return textBlock{Type: "TextBlock", Text: text, Weight: "Bolder", Size: "Medium", Wrap: true}
}

func note(text string) textBlock {
	return textBlock{Type: "TextBlock", Text: text, IsSubtle: true, Spacing: "Small", Wrap: true}
}

// lines is foreign text on one line, with our own label before it if there is one; no text, no line.
func lines(label, text string, limit int) []any {
	if text = foreign(text, limit); text == "" {
		return nil
	}
	b := richTextBlock{Type: "RichTextBlock", Spacing: "Small"}
	if label != "" {
		b.Inlines = append(b.Inlines, textRun{"TextRun", label + "  ", true})
	}
	b.Inlines = append(b.Inlines, textRun{"TextRun", text, false})
	return []any{b}
}

func execute(title string, verb Verb, conversation, style, inputs string) actionExecute {
	return executeWith(title, verb, cardData{Conversation: conversation, Verb: verb}, style, inputs)
}

func executeWith(title string, verb Verb, data cardData, style, inputs string) actionExecute {
	return actionExecute{
		Type: "Action.Execute", Title: title, Verb: verb, Data: data, Style: style, Inputs: inputs,
		Fallback: actionSubmit{"Action.Submit", title, data, style, inputs},
	}
}

// foreign makes a text of other people's fit one line: no control, format or direction characters, white space
// collapsed, at most limit characters. Two braces in a row are set apart, because "{{DATE(…)}}" is a macro of the card
// language and is expanded in runs too.
func foreign(s string, limit int) string {
	var b strings.Builder
	n, space, last := 0, false, rune(0)
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			space = n > 0
			continue
		case unicode.Is(unicode.C, r) && r != zeroWidthJoiner && r != zeroWidthNonJoiner, r == unicode.ReplacementChar:
			continue
		}
		if n >= limit {
			return b.String() + "…"
		}
		if space || r == '{' && last == '{' {
			b.WriteByte(' ')
			n++
		}
		b.WriteRune(r)
		n++
		space, last = false, r
	}
	return b.String()
}

// These two hold emoji together and spell several scripts, so they stay although they are format characters.
const (
	zeroWidthNonJoiner = '\u200c'
	zeroWidthJoiner    = '\u200d'
)

// InvokeResponse is the body of the HTTP answer, with status 200, to a card's Action.Execute.
type InvokeResponse struct {
	StatusCode int    `json:"statusCode"`
	Type       string `json:"type"`
	Value      any    `json:"value"`
}

// RespondCard replaces the card for the one who pressed the button; the others' changes by Client.Update.
func RespondCard(c Card) InvokeResponse {
	return InvokeResponse{http.StatusOK, contentTypeCard, c}
}

// RespondMessage shows a line below the card to the one who pressed the button.
func RespondMessage(text string) InvokeResponse {
	return InvokeResponse{http.StatusOK, contentTypeMessage, text}
}

// RespondError shows a line in red; status is 400 or 500.
func RespondError(status int, code, message string) InvokeResponse {
	return InvokeResponse{status, contentTypeError, struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{code, message}}
}
