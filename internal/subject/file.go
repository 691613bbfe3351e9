package subject

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"iter"
	"sync"
	"time"
)

// Schema describes the JSON of a file (JSON Schema, draft 2020-12).
//
//go:embed file.schema.json
var Schema []byte

// format names the form of a file; a change that programs would have to know of changes it.
const format = "counterfoil-person/1"

// Value is something that is kept of a person, revealed for his file.
type Value struct {
	Field string    `json:"field"`
	Text  string    `json:"value"`
	Since time.Time `json:"since"`
}

// Message is something that was written in a conversation of his.
type Message struct {
	Conversation string    `json:"conversation"`
	Number       int64     `json:"number"`
	By           string    `json:"by"` // visitor, or the handle of an agent
	At           time.Time `json:"at"`
	Text         string    `json:"text"`
}

// Asked is something he asked about his data.
type Asked struct {
	Kind     string    `json:"kind"`
	State    string    `json:"state"`
	Received time.Time `json:"received_at"`
	Due      time.Time `json:"due_at"`
}

// Keeping is for how long something is kept, from the end of each conversation.
type Keeping struct {
	What string `json:"what"` // transcript, visitor, agent or conversation
	Days int    `json:"days"`
}

// File is all that is kept of one person. What may be long is read while it is written.
type File struct {
	Organisation string
	Person       Person
	Handle, Ref  string
	Made         time.Time
	Restricted   bool
	Values       []Value
	KeptFor      []Keeping
	Asked        []Asked
	Messages     iter.Seq2[Message, error] // nil where none belong to him
	Shown        iter.Seq2[Shown, error]
	Origin       string // of the log
	Size         uint64
}

// WriteJSON writes the file for programs. One that breaks off has no "complete" at its end.
func (f File) WriteJSON(w io.Writer) error {
	b := bufio.NewWriterSize(w, 32<<10)
	var failed error
	put := func(name string, v any) {
		text, err := json.Marshal(v)
		failed = errors.Join(failed, err)
		fmt.Fprintf(b, "%q:%s,\n", name, text)
	}
	fmt.Fprint(b, "{\n")
	put("format", format)
	put("organisation", f.Organisation)
	put("person", map[string]string{"kind": f.Person.Kind, "handle": f.Handle, "reference": f.Ref})
	put("made_at", f.Made.UTC())
	put("restricted", f.Restricted)
	put("kept", orEmpty(f.Values))
	put("kept_for", orEmpty(f.KeptFor))
	put("requests", orEmpty(f.Asked))
	if err := list(b, "messages", f.Messages); err != nil {
		return err
	}
	if err := list(b, "shown", f.Shown); err != nil {
		return err
	}
	put("log", map[string]any{"origin": f.Origin, "size": f.Size})
	fmt.Fprint(b, "\"complete\":true\n}\n")
	return errors.Join(failed, b.Flush())
}

func orEmpty[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// list writes a list of unknown length.
func list[T any](b *bufio.Writer, name string, all iter.Seq2[T, error]) error {
	fmt.Fprintf(b, "%q:[", name)
	between := ""
	if all != nil {
		for one, err := range all {
			if err != nil {
				return errors.Join(err, b.Flush())
			}
			text, err := json.Marshal(one)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(b, "%s\n%s", between, text); err != nil {
				return err // whoever asked has gone
			}
			between = ","
		}
	}
	_, err := fmt.Fprint(b, "],\n")
	return err
}

//go:embed file.html
var pages string

var parsed = sync.OnceValue(func() *template.Template { return template.Must(template.New("file").Parse(pages)) })

// page is what every part of the file for people has.
type page struct {
	File
	lang string
	Part any
}

// T gives a text in the language of the file.
func (p page) T(name string) string { return Word(p.lang, name) }

// Lang is the language of the file.
func (p page) Lang() string { return p.lang }

// When is a time as one reads it.
func (p page) When(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }

// Field names a field.
func (p page) Field(name string) string { return Word(p.lang, "field_"+name) }

// Fields names several.
func (p page) Fields(names []string) string { return FieldNames(p.lang, names) }

// Keeps says for how long something is kept.
func (p page) Keeps(k Keeping) string { return k.In(p.lang) }

// Why says a purpose.
func (p page) Why(action string) string { return Why(p.lang, action) }

// WriteHTML writes the file for people, as a page that needs nothing else and runs nothing. One that breaks off lacks its last line.
func (f File) WriteHTML(w io.Writer, lang string) error {
	b := bufio.NewWriterSize(w, 32<<10)
	p := page{File: f, lang: lang}
	part := func(name string, v any) error {
		p.Part = v
		return parsed().ExecuteTemplate(b, name, p)
	}
	if err := part("head", nil); err != nil {
		return err
	}
	if f.Messages != nil {
		if err := rows(b, part, "messages", f.Messages); err != nil {
			return err
		}
	}
	if err := rows(b, part, "shown", f.Shown); err != nil {
		return err
	}
	if err := part("foot", nil); err != nil {
		return err
	}
	return b.Flush()
}

// rows writes a table of unknown length.
func rows[T any](b *bufio.Writer, part func(string, any) error, name string, all iter.Seq2[T, error]) error {
	if err := part(name, nil); err != nil {
		return err
	}
	for one, err := range all {
		if err != nil {
			return errors.Join(err, b.Flush())
		}
		if err := part(name+"-row", one); err != nil {
			return err
		}
	}
	return part("rows-end", nil)
}
