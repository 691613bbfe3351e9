package archive

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
)

// partName is what the name of a file looks like: its number and the beginning of its SHA-256, so that a second attempt never meets the first.
var partName = regexp.MustCompile(`^part-[0-9]{6,9}-[0-9a-f]{16}\.jsonl\.gz\.age$`)

// part is a file that is being filled: lines of JSON, packed, sealed. Nothing of it touches a disk before it is sealed.
type part struct {
	File
	sealed bytes.Buffer
	age    io.WriteCloser
	gzip   *gzip.Writer
	plain  int // bytes so far

	ended    []uuid.UUID // conversations
	subjects []uuid.UUID // of whom it has something
}

func newPart(to age.Recipient) (*part, error) {
	p := &part{}
	var err error
	if p.age, err = age.Encrypt(&p.sealed, to); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	p.gzip = gzip.NewWriter(p.age)
	return p, nil
}

// add puts what was read of a conversation into it.
func (p *part) add(c chunk) error {
	if _, err := p.gzip.Write(c.lines); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	p.plain += len(c.lines)
	p.Events += c.events
	p.People += c.people
	p.subjects = append(p.subjects, c.subjects...)
	return nil
}

// end notes that a conversation is complete with it.
func (p *part) end(conversation uuid.UUID, closed time.Time) {
	if p.Conversations == 0 || closed.Before(p.First) {
		p.First = closed
	}
	if closed.After(p.Last) {
		p.Last = closed
	}
	p.Conversations++
	p.ended = append(p.ended, conversation)
}

// seal closes it and gives it its name.
func (p *part) seal(number int) error {
	if err := errors.Join(p.gzip.Close(), p.age.Close()); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	sum := sha256.Sum256(p.sealed.Bytes())
	p.SHA256, p.Bytes = hex.EncodeToString(sum[:]), int64(p.sealed.Len())
	p.Name = fmt.Sprintf("part-%06d-%s.jsonl.gz.age", number, p.SHA256[:16])
	return nil
}

// Lines of a file. Each conversation begins with one that says of which it is and who is in it, and ends with one that says so; a conversation that begins again is the
// whole of it, and what came before counts no more.
type (
	opening struct {
		Type         string    `json:"type"` // conversation
		Conversation uuid.UUID `json:"conversation"`
		Widget       uuid.UUID `json:"widget"`
		Language     string    `json:"language"`
		Opened       time.Time `json:"opened_at"`
		Closed       time.Time `json:"closed_at"`
		ClosedBy     string    `json:"closed_by"`
		People       []person  `json:"people"`
	}
	person struct {
		Kind   string            `json:"kind"`
		ID     uuid.UUID         `json:"id"`
		Values map[string]string `json:"values"`
	}
	event struct {
		Type         string     `json:"type"` // event
		Conversation uuid.UUID  `json:"conversation"`
		Number       int64      `json:"number"`
		Kind         string     `json:"kind"`
		By           string     `json:"by"`
		ByID         *uuid.UUID `json:"by_id,omitempty"`
		At           time.Time  `json:"at"`
		Text         string     `json:"text,omitempty"`
	}
	ending struct {
		Type         string    `json:"type"` // end
		Conversation uuid.UUID `json:"conversation"`
		Events       int64     `json:"events"`
	}
)

// chunk is a part of what was read of a conversation.
type chunk struct {
	lines          []byte
	events, people int64
	subjects       []uuid.UUID
}
