package standin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// cardAction is one button of a card.
type cardAction struct {
	Type     string          `json:"type"`
	Verb     string          `json:"verb"`
	Title    string          `json:"title"`
	Data     json.RawMessage `json:"data"`
	Fallback json.RawMessage `json:"fallback"`
	inputs   []cardInput     // what Teams would send with it
}

type cardInput struct {
	id, value string
	required  bool
}

// checkCard accepts what Teams would try to show.
func checkCard(raw json.RawMessage) error {
	var card struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &card) != nil {
		return errors.New("the card is not a JSON object")
	}
	if card.Type != "AdaptiveCard" {
		return errors.New("the card is not an AdaptiveCard")
	}
	return nil
}

// actionsOf lists the buttons of a card in the order they are drawn. A button of a card shown by Action.ShowCard is
// sent with the inputs of its own card and of those around it.
func actionsOf(raw json.RawMessage) ([]cardAction, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var card map[string]any
	if err := d.Decode(&card); err != nil {
		return nil, fmt.Errorf("read card: %w", err)
	}
	return collect(card, nil)
}

func collect(card map[string]any, around []cardInput) ([]cardAction, error) {
	inputs := append([]cardInput(nil), around...)
	var buttons []map[string]any
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			kind, _ := v["type"].(string)
			if strings.HasPrefix(kind, "Action.") {
				buttons = append(buttons, v)
				return
			}
			if strings.HasPrefix(kind, "Input.") {
				in := cardInput{}
				in.id, _ = v["id"].(string)
				in.value, _ = v["value"].(string)
				in.required, _ = v["isRequired"].(bool)
				inputs = append(inputs, in)
				return
			}
			for _, part := range []string{"body", "items", "columns", "selectAction", "actions"} {
				walk(v[part])
			}
		}
	}
	walk(card)
	var actions []cardAction
	for _, b := range buttons {
		if b["type"] == "Action.ShowCard" {
			inner, _ := b["card"].(map[string]any)
			more, err := collect(inner, inputs)
			if err != nil {
				return nil, err
			}
			actions = append(actions, more...)
			continue
		}
		raw, err := json.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("read card action: %w", err)
		}
		a := cardAction{inputs: inputs}
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, fmt.Errorf("read card action: %w", err)
		}
		actions = append(actions, a)
	}
	return actions, nil
}

// named reports whether a test means this button: by its verb, by the verb in its data, or by its title.
func (a *cardAction) named(name string) bool {
	if a.Verb == name || a.Title == name {
		return true
	}
	var data struct {
		Verb string `json:"verb"`
	}
	return json.Unmarshal(a.Data, &data) == nil && data.Verb == name
}

// forOldClient is what a client without Action.Execute makes of the button: its Action.Submit, if it has one.
func (a *cardAction) forOldClient() (cardAction, bool) {
	if a.Type != "Action.Execute" {
		return *a, true
	}
	var f cardAction
	if json.Unmarshal(a.Fallback, &f) != nil || f.Type != "Action.Submit" {
		return cardAction{}, false
	}
	f.inputs = a.inputs
	return f, true
}

// merged is the button's data with the inputs laid over it, as Teams sends it.
func (a *cardAction) merged(typed map[string]string) (json.RawMessage, error) {
	data := map[string]any{}
	if len(a.Data) > 0 {
		d := json.NewDecoder(bytes.NewReader(a.Data))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("read action data: %w", err)
		}
		switch v := v.(type) {
		case map[string]any:
			data = v
		case nil:
		default:
			if len(typed) == 0 && len(a.inputs) == 0 {
				return a.Data, nil
			}
		}
	}
	for _, in := range a.inputs {
		value, ok := typed[in.id]
		if !ok {
			value = in.value
		}
		if in.required && value == "" {
			return nil, fmt.Errorf("%w: %q", ErrInput, in.id)
		}
		if in.id != "" {
			data[in.id] = value
		}
	}
	for id, value := range typed {
		data[id] = value
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encode action data: %w", err)
	}
	return raw, nil
}
