package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Readers is the record of processing: one field for each purpose for which EUII may be opened. Whoever wires the
// program hands each package the readers it may use, and no others.
type Readers struct {
	AgentToVisitor         Reader[euii.Visitor]
	VisitorToAgent         Reader[euii.Agent]
	JoinerToChannel        Reader[euii.Channel]
	ConversationForVisitor Conversations[euii.Visitor]
	ConversationForAgent   Conversations[euii.Agent]
	FirstLineToChannel     FirstLine
	AgentMatcher           Matcher
	VisitorCollector       Collector
	AgentCollector         Collector
	AgentToAdmin           Reader[euii.Admin]
	VisitorToAdmin         Reader[euii.Admin]
	AgentInEmergency       Reader[euii.Admin]
	VisitorInEmergency     Reader[euii.Admin]
	AddressToAdmin         Reader[euii.Admin]
	TranscriptToAdmin      Transcripts
	TranscriptInEmergency  Transcripts
	OwnVisitor             Reader[euii.Visitor]
	OwnAgent               Reader[euii.Agent]
	VisitorFile            Reader[euii.Admin]
	AgentFile              Reader[euii.Admin]
	ConversationFile       ConversationFile
	VisitorCorrector       Collector
	AgentCorrector         Collector
	VisitorToArchive       Reader[euii.Archive]
	AgentToArchive         Reader[euii.Archive]
	ConversationToArchive  ConversationToArchive
	PersonFinder           Finder
}

// Readers gives all capabilities.
func (g *Gate) Readers() Readers {
	return Readers{
		AgentToVisitor:         Reader[euii.Visitor]{g, policy.ShowAgentToVisitor, "visitor", "agent", []euii.Field{euii.AgentDisplayName}},
		VisitorToAgent:         Reader[euii.Agent]{g, policy.IntroduceVisitorToAgent, "agent", "visitor", []euii.Field{euii.VisitorDisplayName, euii.VisitorEmail}},
		JoinerToChannel:        Reader[euii.Channel]{g, policy.ShowJoinerToChannel, "channel", "agent", []euii.Field{euii.AgentDisplayName}},
		ConversationForVisitor: Conversations[euii.Visitor]{g, "visitor"},
		ConversationForAgent:   Conversations[euii.Agent]{g, "agent"},
		FirstLineToChannel:     FirstLine{gate: g},
		AgentMatcher:           Matcher{g},
		VisitorCollector:       Collector{g, policy.CollectVisitor, "visitor"},
		AgentCollector:         Collector{g, policy.CollectAgent, "agent"},
		AgentToAdmin:           Reader[euii.Admin]{g, policy.RevealToAdmin, "console", "agent", []euii.Field{euii.AgentDisplayName, euii.AgentEmail}},
		VisitorToAdmin:         Reader[euii.Admin]{g, policy.RevealToAdmin, "console", "visitor", []euii.Field{euii.VisitorDisplayName, euii.VisitorEmail}},
		AgentInEmergency:       Reader[euii.Admin]{g, policy.BreakGlass, "console", "agent", []euii.Field{euii.AgentDisplayName, euii.AgentEmail}},
		VisitorInEmergency:     Reader[euii.Admin]{g, policy.BreakGlass, "console", "visitor", []euii.Field{euii.VisitorDisplayName, euii.VisitorEmail}},
		AddressToAdmin:         Reader[euii.Admin]{g, policy.RevealToAdmin, "console", "admin", []euii.Field{euii.AdminAddress}},
		TranscriptToAdmin:      Transcripts{gate: g, purpose: policy.ReadTranscript},
		TranscriptInEmergency:  Transcripts{gate: g, purpose: policy.BreakGlass},
		OwnVisitor:             Reader[euii.Visitor]{g, policy.MyOwnData, "visitor", "visitor", []euii.Field{euii.VisitorDisplayName, euii.VisitorEmail}},
		OwnAgent:               Reader[euii.Agent]{g, policy.MyOwnData, "agent", "agent", ofAgents},
		VisitorFile:            Reader[euii.Admin]{g, policy.AnswerRequest, "console", "visitor", []euii.Field{euii.VisitorDisplayName, euii.VisitorEmail}},
		AgentFile:              Reader[euii.Admin]{g, policy.AnswerRequest, "console", "agent", ofAgents},
		ConversationFile:       ConversationFile{gate: g},
		VisitorCorrector:       Collector{g, policy.AnswerRequest, "visitor"},
		AgentCorrector:         Collector{g, policy.AnswerRequest, "agent"},
		VisitorToArchive:       Reader[euii.Archive]{g, policy.ArchiveConversation, "archive", "visitor", []euii.Field{euii.VisitorDisplayName, euii.VisitorEmail}},
		AgentToArchive:         Reader[euii.Archive]{g, policy.ArchiveConversation, "archive", "agent", ofAgents},
		ConversationToArchive:  ConversationToArchive{gate: g},
		PersonFinder:           Finder{g},
	}
}

var ofAgents = []euii.Field{euii.AgentDisplayName, euii.AgentGivenName, euii.AgentSurname, euii.AgentEmail}

// audience is the policy's name of A. That it depends on A keeps readers for one audience from being converted into
// readers for another, which Go allows between types of one structure.
type audience[A euii.Audience] string

// Reader opens certain fields of one kind of subject, for one audience and one purpose. The zero Reader opens nothing.
type Reader[A euii.Audience] struct {
	gate        *Gate
	purpose     policy.Purpose
	audience    audience[A]
	subjectKind string
	fields      []euii.Field
}

// Disclosed is what one reading released, with the receipt of its record.
type Disclosed[A euii.Audience] struct {
	values  map[euii.Field]euii.Cleared[A]
	receipt pglog.Receipt
	masked  bool
}

// Masked reports whether policy let through no more than what it takes to recognise somebody.
func (d Disclosed[A]) Masked() bool { return d.masked }

// Value gives one field; it is empty when nothing is stored there.
func (d Disclosed[A]) Value(f euii.Field) euii.Cleared[A] { return d.values[f] }

// Receipt proves the record of the reading.
func (d Disclosed[A]) Receipt() pglog.Receipt { return d.receipt }

// Opens gives the fields that it may open.
func (r Reader[A]) Opens() []euii.Field { return slices.Clone(r.fields) }

var errNoReader = errors.New("this reader was not handed out")

// Read discloses the reader's fields of a subject to who. The values are those of the given row: the conversation in
// whose history they lie, or the subject's own profile. It fails with ErrDenied, ErrErased or
// ErrUnavailable, and then nothing was released.
func (r Reader[A]) Read(ctx context.Context, who principal.Principal, scene Scene, subject, row uuid.UUID) (Disclosed[A], error) {
	return r.ReadOn(ctx, who, scene, subject, row, Grounds{})
}

// ReadOn is Read on grounds that were given for it.
func (r Reader[A]) ReadOn(ctx context.Context, who principal.Principal, scene Scene, subject, row uuid.UUID, on Grounds) (Disclosed[A], error) {
	if r.gate == nil {
		return Disclosed[A]{}, errNoReader
	}
	if row != scene.Conversation.ID && row != subject {
		return Disclosed[A]{}, fmt.Errorf("%w: the values of another conversation were asked for", ErrDenied)
	}
	return r.disclose(ctx, who, scene, subject, row, on)
}

// ReadAddress discloses from where an administrator signed in; ref is the reference of the address. It is empty once no session from
// there can be open.
func (r Reader[A]) ReadAddress(ctx context.Context, who principal.Admin, admin uuid.UUID, ref string, on Grounds) (Disclosed[A], error) {
	if r.gate == nil || r.subjectKind != "admin" {
		return Disclosed[A]{}, errNoReader
	}
	return r.disclose(ctx, who, Scene{Conversation: chat.Conversation{Organisation: who.Organisation()}}, admin, addressRow(ref), on)
}

func (r Reader[A]) disclose(ctx context.Context, who principal.Principal, scene Scene, subject, row uuid.UUID, on Grounds) (Disclosed[A], error) {
	a, err := r.gate.authorize(ctx, question{
		who: who, purpose: r.purpose, audience: string(r.audience), subjectKind: r.subjectKind, subject: subject, row: row,
		fields: r.fields, scene: scene, kind: audit.Disclosure, valid: ticketValid, grounds: on,
	})
	if err != nil {
		return Disclosed[A]{}, err
	}
	masked := make(map[string]bool, len(r.fields))
	for _, f := range a.decision.Masked() {
		masked[f] = true
	}
	d := Disclosed[A]{values: make(map[euii.Field]euii.Cleared[A], len(a.taken)), receipt: a.receipt, masked: len(masked) > 0}
	for _, t := range a.taken {
		f, ok := euii.ParseField(t.Field)
		if !ok {
			return Disclosed[A]{}, fmt.Errorf("%w: storage holds an unknown field", ErrUnavailable)
		}
		ref := euii.Ref{Organisation: scene.Conversation.Organisation, Subject: t.Subject, Row: t.Row, Field: f}
		text, err := r.gate.ring.Open(a.grant, t.Subject, t.Wrapped, euii.NewSealed(ref, t.Ciphertext), r.gate.now())
		if err != nil {
			return Disclosed[A]{}, opening(err)
		}
		if masked[t.Field] {
			text = euii.Mask(f, text)
		}
		d.values[f] = euii.Clear[A](a.grant, text)
	}
	return d, nil
}

// Matcher uses an agent's email to find a profile. The use is a disclosure of its own.
type Matcher struct{ gate *Gate }

// Match records the use and gives the blind index of the email that the bot service gave for the agent who clicked.
func (m Matcher) Match(ctx context.Context, who principal.Agent, scene Scene, email euii.Inbound) (euii.Index, error) {
	if m.gate == nil {
		return euii.Index{}, errNoReader
	}
	organisation := scene.Conversation.Organisation
	a, err := m.gate.authorize(ctx, question{
		who: who, purpose: policy.MatchAgent, audience: "service", subjectKind: "agent", subject: who.ID(), row: scene.Conversation.ID,
		fields: []euii.Field{euii.AgentEmail}, scene: scene, kind: audit.Disclosure,
	})
	if err != nil {
		return euii.Index{}, err
	}
	wrapped, err := m.gate.wrappedKeys(ctx, organisation, organisation)
	if err != nil {
		return euii.Index{}, err
	}
	ref := euii.Ref{Organisation: organisation, Subject: who.ID(), Row: scene.Conversation.ID, Field: euii.AgentEmail}
	index, err := m.gate.ring.BlindIndex(a.grant, ref, wrapped[organisation], email, m.gate.now())
	if err != nil {
		return euii.Index{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return index, nil
}

// Collector seals what comes in, after recording that it is collected.
type Collector struct {
	gate        *Gate
	purpose     policy.Purpose
	subjectKind string
}

// Field is one incoming value.
type Field struct {
	Name  euii.Field
	Value euii.Inbound
}

// Collect records the collection once and seals the values for each of the rows. Empty values are left out; if all are
// empty there is nothing to record. wrapped is the subject's key if it is not stored yet, otherwise nil.
func (c Collector) Collect(ctx context.Context, who principal.Principal, scene Scene, subject uuid.UUID, wrapped []byte, rows []uuid.UUID, fields ...Field) ([]euii.Sealed, error) {
	return c.collect(ctx, who, scene, subject, wrapped, rows, Grounds{}, fields...)
}

func (c Collector) collect(ctx context.Context, who principal.Principal, scene Scene, subject uuid.UUID, wrapped []byte, rows []uuid.UUID, on Grounds, fields ...Field) ([]euii.Sealed, error) {
	if c.gate == nil {
		return nil, errNoReader
	}
	var names []euii.Field
	for _, f := range fields {
		if !euii.InboundEmpty(f.Value) {
			names = append(names, f.Name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	organisation := scene.Conversation.Organisation
	a, err := c.gate.authorize(ctx, question{
		who: who, purpose: c.purpose, audience: "service", subjectKind: c.subjectKind, subject: subject, row: rows[0],
		fields: names, scene: scene, kind: audit.Collection, grounds: on,
	})
	if err != nil {
		return nil, err
	}
	var missing []uuid.UUID
	if wrapped == nil {
		missing = append(missing, subject)
	}
	if slices.Contains(names, euii.VisitorEmail) {
		missing = append(missing, organisation)
	}
	var keys map[uuid.UUID][]byte
	if len(missing) > 0 {
		if keys, err = c.gate.wrappedKeys(ctx, organisation, missing...); err != nil {
			return nil, err
		}
	}
	if wrapped == nil {
		wrapped = keys[subject]
	}
	var sealed []euii.Sealed
	for _, f := range fields {
		if euii.InboundEmpty(f.Value) {
			continue
		}
		for _, row := range rows {
			ref := euii.Ref{Organisation: organisation, Subject: subject, Row: row, Field: f.Name}
			s, err := c.gate.ring.Seal(subject, wrapped, ref, euii.InboundTrim(f.Value))
			if err == nil && f.Name == euii.VisitorEmail { // who writes a letter is found by it
				at := ref
				at.Row = rows[0]
				var index euii.Index
				index, err = c.gate.ring.BlindIndex(a.grant, at, keys[organisation], f.Value, c.gate.now())
				s = s.Found(index)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			sealed = append(sealed, s)
		}
	}
	return sealed, nil
}
