// Package demo makes up the month before a try-out: what the log of a fictional organisation would hold, each question decided
// by the policy as it would have been, so that every page of the console has something to show from the first minute.
//
// It promises that nothing made up passes for real: every such record says so, there is nobody behind its references, and it
// is written only as the owner of a database that has no record of the organisation yet, which the service never is.
package demo

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/policy"
)

// Days is how long before the try-out the made-up records begin.
const Days = 30

// The fact by which a made-up record can be told, and its value.
const (
	Fact  = "generated"
	Value = "for a demonstration"
)

// Action is that of the first made-up record, which says how many follow.
const Action = "demonstration.generate"

// happening is something that leaves a record: a question to the policy, or an act that nobody decides on.
type happening struct {
	at    time.Time
	kind  audit.Kind
	act   string            // name of an administrative act; empty for a disclosure or collection
	in    policy.Input      // zero for an act that nobody decides on
	entry audit.Entry       // of such an act
	facts map[string]string // further ones
}

// month is what is being made up.
type month struct {
	random       *rand.Rand
	organisation string
	settings     policy.Organisation
	all          []happening
}

// Month makes up the records of the days before end, in order. The same organisation and end give the
// same records.
func Month(ctx context.Context, engine *policy.Engine, organisation uuid.UUID, end time.Time) ([]audit.Entry, error) {
	m := &month{
		random:       rand.New(rand.NewPCG(binary.BigEndian.Uint64(organisation[:8]), uint64(end.Unix()))),
		organisation: organisation.String(),
		settings:     policy.Organisation{ShareVisitorEmail: true, CreateAgents: true, NameInChannel: true},
	}
	m.live(end.UTC())
	slices.SortStableFunc(m.all, func(a, b happening) int { return a.at.Compare(b.at) })
	m.all = slices.DeleteFunc(m.all, func(h happening) bool { return !h.at.Before(end) })

	entries := make([]audit.Entry, 0, len(m.all)+1)
	begin := end.Add(-Days * 24 * time.Hour)
	entries = append(entries, audit.Entry{Kind: audit.Administration, Action: Action, Time: begin, Actor: audit.Party{Kind: "job", Ref: m.ref()},
		Facts: map[string]string{"records": strconv.Itoa(len(m.all) + 1)}})
	shown := make(map[string][]time.Time) // disclosures to an actor within the hour
	for _, h := range m.all {
		e := h.entry
		if h.in.Purpose != "" {
			actor := h.in.Actor.Ref
			shown[actor] = slices.DeleteFunc(shown[actor], func(t time.Time) bool { return h.at.Sub(t) >= time.Hour })
			if len(h.in.Fields) > 0 {
				h.in.Actor.Recent = len(shown[actor])
			}
			decision, err := engine.Decide(ctx, h.in)
			if err != nil {
				return nil, fmt.Errorf("decide on the question of a made-up record: %w", err)
			}
			e = access.EntryOf(h.in, decision, h.kind, h.act, h.facts)
			if e.Kind == audit.Disclosure {
				shown[actor] = append(shown[actor], h.at)
			}
		}
		e.Time = h.at
		entries = append(entries, e)
	}
	for i := range entries {
		e := &entries[i]
		e.Seq, e.Organisation, e.Time = uint64(i), m.organisation, e.Time.Truncate(time.Microsecond)
		for j := range e.Nonce {
			e.Nonce[j] = byte(m.random.Uint32())
		}
		if e.Facts == nil {
			e.Facts = make(map[string]string, 1)
		}
		e.Facts[Fact] = Value
	}
	return entries, nil
}

// ref is a reference like any other, made under no key.
func (m *month) ref() string {
	var b [10]byte
	for i := range b {
		b[i] = byte(m.random.Uint32())
	}
	return refEncoding.EncodeToString(b[:])
}

// refEncoding is the alphabet of the references that the keyring makes.
var refEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

func (m *month) chance(percent int) bool { return m.random.IntN(100) < percent }

// between is a time between two durations, more often a short one.
func (m *month) between(from, to time.Duration) time.Duration {
	r := m.random.Float64()
	return from + time.Duration(r*r*float64(to-from)).Truncate(time.Millisecond)
}

// person is somebody who works for the organisation.
type person struct {
	ref   string
	roles []string // of an administrator
	share int      // of the conversations, in parts of the sum
	known bool     // has a profile already
	net   string
}

func (m *month) live(end time.Time) {
	agents := make([]*person, 11)
	for i := range agents {
		agents[i] = &person{ref: m.ref(), share: 30 - 2*i}
	}
	office, home := m.ref(), m.ref()
	auditor := &person{ref: m.ref(), roles: []string{"auditor"}, net: office}
	officer := &person{ref: m.ref(), roles: []string{"auditor", "privacy_officer"}, net: office}
	security := &person{ref: m.ref(), roles: []string{"auditor", "security_admin"}, net: home}
	channel := policy.Actor{Kind: "channel", Organisation: m.organisation, Ref: m.ref(), Address: "none"}
	jobs := map[string]string{"canary_scan": m.ref(), "retention": m.ref()}

	var visitors []string // who may come again
	midnight := time.Date(end.Year(), end.Month(), end.Day(), 0, 0, 0, 0, time.UTC)
	for ago := Days - 1; ago >= 0; ago-- {
		day := midnight.AddDate(0, 0, -ago)
		weekend := day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
		conversations := 26 + m.random.IntN(16)
		if weekend {
			conversations = 3 + m.random.IntN(4)
		}
		for range conversations {
			visitor := m.ref()
			if len(visitors) > 0 && m.chance(15) {
				visitor = visitors[m.random.IntN(len(visitors))]
			}
			visitors = append(visitors, visitor)
			m.conversation(day.Add(m.hour(weekend)), visitor, m.pick(agents), m.pick(agents), channel)
		}
		m.job(day.Add(2*time.Hour+m.between(0, time.Minute)), policy.ScanForCanaries, "canary_scan", jobs["canary_scan"], map[string]string{"sinks": "5", "found": "0"})
		m.job(day.Add(3*time.Hour+m.between(0, time.Minute)), policy.ApplyRetention, "retention", jobs["retention"], map[string]string{"removed": strconv.Itoa(m.random.IntN(40))})
		if !weekend {
			m.look(day.Add(9*time.Hour+m.between(0, time.Hour)), auditor, 3+m.random.IntN(6))
			if m.chance(30) {
				m.look(day.Add(14*time.Hour+m.between(0, 2*time.Hour)), officer, 1+m.random.IntN(3))
			}
		}
		switch ago {
		case 23, 15, 2: // a question came in about somebody, and the officer says why he looks
			at := day.Add(11*time.Hour + m.between(0, time.Hour))
			m.look(at.Add(-2*time.Minute), officer, 2)
			m.reveal(at, officer, policy.Subject{Kind: "visitor", Ref: visitors[m.random.IntN(len(visitors))]}, true, policy.VisitorDisplayName, policy.VisitorEmail)
		case 19: // forgot to say why, then did
			at := day.Add(16 * time.Hour)
			m.look(at.Add(-time.Minute), officer, 1)
			agent := policy.Subject{Kind: "agent", Ref: agents[4].ref}
			m.reveal(at, officer, agent, false, policy.AgentDisplayName, policy.AgentEmail)
			m.reveal(at.Add(40*time.Second), officer, agent, true, policy.AgentDisplayName, policy.AgentEmail)
		case 12: // the security administrator may not, and tries
			at := day.Add(18 * time.Hour)
			m.look(at.Add(-time.Minute), security, 1)
			m.reveal(at, security, policy.Subject{Kind: "agent", Ref: agents[1].ref}, true, policy.AgentEmail)
		case 21: // somebody guesses at a password
			for i := range 6 {
				m.door(day.Add(4*time.Hour+time.Duration(i)*17*time.Second), security, "sign_in.password_refused", nil)
			}
		case 9: // somebody is curious about people whose conversations are not his
			for i := range 41 {
				m.ask(day.Add(22*time.Hour+50*time.Minute+time.Duration(i)*23*time.Second+m.between(0, 9*time.Second)), audit.Disclosure, policy.Input{
					Actor: m.actor("agent", agents[7].ref), Purpose: policy.IntroduceVisitorToAgent, Audience: "agent", Subject: policy.Subject{Kind: "visitor", Ref: visitors[len(visitors)-1-i]},
					Fields: []string{policy.VisitorDisplayName, policy.VisitorEmail}, Conversation: policy.Conversation{Ref: m.ref(), State: "closed", SubjectIs: "visitor"},
				})
			}
		}
	}
}

// hour is when in a day a conversation begins.
func (m *month) hour(weekend bool) time.Duration {
	peak := []time.Duration{9, 10, 10, 11, 13, 14, 15, 15, 16, 17}
	h := peak[m.random.IntN(len(peak))]
	if weekend || m.chance(8) {
		h = time.Duration(7 + m.random.IntN(15))
	}
	return h*time.Hour + time.Duration(m.random.IntN(3600))*time.Second + time.Duration(m.random.IntN(1000))*time.Millisecond
}

func (m *month) pick(agents []*person) *person {
	sum := 0
	for _, a := range agents {
		sum += a.share
	}
	n := m.random.IntN(sum)
	for _, a := range agents {
		if n -= a.share; n < 0 {
			return a
		}
	}
	return agents[0]
}

func (m *month) actor(kind, ref string) policy.Actor {
	return policy.Actor{Kind: kind, Organisation: m.organisation, Ref: ref, Address: "none"}
}

func (m *month) ask(at time.Time, kind audit.Kind, in policy.Input) {
	in.Subject.Organisation, in.Organisation = m.organisation, m.settings
	slices.Sort(in.Fields)
	m.all = append(m.all, happening{at: at, kind: kind, in: in})
}

// conversation is one as the relay carries it: who is shown whom, and when.
func (m *month) conversation(at time.Time, visitor string, agent, other *person, channel policy.Actor) {
	ref := m.ref()
	chat := func(state, actor, subject string) policy.Conversation {
		return policy.Conversation{Ref: ref, State: state, ActorIs: actor, SubjectIs: subject}
	}
	messages := policy.Subject{Kind: "conversation", Ref: ref}
	him := policy.Subject{Kind: "visitor", Ref: visitor}
	language := "en"
	if m.chance(40) {
		language = "fr"
	}
	m.all = append(m.all, happening{at: at, entry: audit.Entry{Kind: audit.Administration, Action: "notice.accept", Actor: audit.Party{Kind: "visitor", Ref: visitor}, Conversation: ref,
		Facts: map[string]string{"notice.version": "1", "notice.language": language}}})
	given := []string{policy.VisitorDisplayName, policy.VisitorEmail}
	if m.chance(20) {
		given = given[:1]
	}
	m.ask(at.Add(5*time.Millisecond), audit.Collection, policy.Input{Actor: m.actor("visitor", visitor), Purpose: policy.CollectVisitor, Audience: "service", Subject: him, Fields: slices.Clone(given), Conversation: chat("waiting", "visitor", "visitor")})
	m.ask(at.Add(90*time.Millisecond), audit.Disclosure, policy.Input{Actor: channel, Purpose: policy.AnnounceToChannel, Audience: "channel", Subject: messages, Fields: []string{policy.MessageBody}, Conversation: chat("waiting", "channel", "")})
	m.ask(at.Add(140*time.Millisecond), audit.Disclosure, policy.Input{Actor: m.actor("visitor", visitor), Purpose: policy.Converse, Audience: "visitor", Subject: messages, Fields: []string{policy.MessageBody}, Conversation: chat("waiting", "visitor", "")})
	if m.chance(7) {
		return // the visitor went before anybody joined
	}
	at = at.Add(m.between(4*time.Second, 6*time.Minute))
	m.join(at, visitor, agent, chat, him, messages, channel)
	if agent != other && m.chance(6) {
		at = at.Add(m.between(time.Minute, 8*time.Minute))
		m.join(at, visitor, other, chat, him, messages, channel)
		agent = other
	}
	for range m.random.IntN(3) { // the visitor opens another page of the site, or comes back
		at = at.Add(m.between(20*time.Second, 9*time.Minute))
		m.introduce(at, visitor, agent, chat)
	}
	if m.chance(2) { // he asks once more when it is over
		m.ask(at.Add(m.between(time.Hour, 5*time.Hour)), audit.Disclosure, policy.Input{Actor: m.actor("visitor", visitor), Purpose: policy.ShowAgentToVisitor, Audience: "visitor",
			Subject: policy.Subject{Kind: "agent", Ref: agent.ref}, Fields: []string{policy.AgentDisplayName}, Conversation: chat("closed", "visitor", "")})
	}
}

func (m *month) join(at time.Time, visitor string, agent *person, chat func(state, actor, subject string) policy.Conversation, him, messages policy.Subject, channel policy.Actor) {
	self := policy.Subject{Kind: "agent", Ref: agent.ref}
	m.ask(at, audit.Disclosure, policy.Input{Actor: m.actor("agent", agent.ref), Purpose: policy.MatchAgent, Audience: "service", Subject: self, Fields: []string{policy.AgentEmail}, Conversation: chat("waiting", "", "")})
	if !agent.known {
		agent.known = true
		m.ask(at.Add(3*time.Millisecond), audit.Collection, policy.Input{Actor: m.actor("agent", agent.ref), Purpose: policy.CollectAgent, Audience: "service", Subject: self,
			Fields: []string{policy.AgentDisplayName, policy.AgentEmail, policy.AgentGivenName, policy.AgentSurname}, Conversation: chat("waiting", "", "")})
	}
	m.ask(at.Add(60*time.Millisecond), audit.Disclosure, policy.Input{Actor: channel, Purpose: policy.ShowJoinerToChannel, Audience: "channel", Subject: self, Fields: []string{policy.AgentDisplayName}, Conversation: chat("active", "channel", "agent")})
	m.ask(at.Add(75*time.Millisecond), audit.Disclosure, policy.Input{Actor: m.actor("agent", agent.ref), Purpose: policy.IntroduceVisitorToAgent, Audience: "agent", Subject: him,
		Fields: []string{policy.VisitorDisplayName, policy.VisitorEmail}, Conversation: chat("active", "agent", "visitor")})
	m.ask(at.Add(80*time.Millisecond), audit.Disclosure, policy.Input{Actor: m.actor("agent", agent.ref), Purpose: policy.Converse, Audience: "agent", Subject: messages, Fields: []string{policy.MessageBody}, Conversation: chat("active", "agent", "")})
	m.introduce(at.Add(200*time.Millisecond), visitor, agent, chat)
}

// introduce shows the visitor who answers him.
func (m *month) introduce(at time.Time, visitor string, agent *person, chat func(state, actor, subject string) policy.Conversation) {
	m.ask(at, audit.Disclosure, policy.Input{Actor: m.actor("visitor", visitor), Purpose: policy.ShowAgentToVisitor, Audience: "visitor",
		Subject: policy.Subject{Kind: "agent", Ref: agent.ref}, Fields: []string{policy.AgentDisplayName}, Conversation: chat("active", "visitor", "agent")})
}

func (m *month) job(at time.Time, purpose policy.Purpose, name, ref string, facts map[string]string) {
	a := m.actor("job", ref)
	a.Job = name
	m.ask(at, audit.Administration, policy.Input{Actor: a, Purpose: purpose, Audience: "service"})
	m.all[len(m.all)-1].facts = facts
}

// look is a visit of the console: a sign-in, pages of the log, a sign-out.
func (m *month) look(at time.Time, who *person, pages int) {
	m.door(at, who, "sign_in.password", nil)
	at = at.Add(m.between(8*time.Second, 30*time.Second))
	m.door(at, who, "sign_in.complete", nil)
	signedIn := at
	for range pages {
		at = at.Add(m.between(5*time.Second, time.Minute))
		m.ask(at, audit.Administration, policy.Input{Actor: m.admin(who, at.Sub(signedIn)), Purpose: policy.ReadAuditLog, Audience: "console"})
		last := &m.all[len(m.all)-1]
		last.act, last.entry = "console.events", audit.Entry{}
	}
	m.door(at.Add(m.between(time.Minute, 12*time.Minute)), who, "sign_out", map[string]string{"stage": "signed_in"})
}

func (m *month) admin(who *person, age time.Duration) policy.Actor {
	a := m.actor("admin", who.ref)
	seconds := int(age.Seconds())
	a.Roles, a.Address = who.roles, "admitted"
	a.Factors = []policy.Factor{{Method: "password", AgeSeconds: seconds}, {Method: "totp", AgeSeconds: seconds}}
	return a
}

func (m *month) door(at time.Time, who *person, act string, facts map[string]string) {
	m.all = append(m.all, happening{at: at, entry: audit.Entry{Kind: audit.Administration, Action: act, Actor: audit.Party{Kind: "admin", Ref: who.ref}, Address: who.net, AddressNet: who.net, Facts: facts}})
}

func (m *month) reveal(at time.Time, who *person, subject policy.Subject, justified bool, fields ...string) {
	m.ask(at, audit.Disclosure, policy.Input{Actor: m.admin(who, 30*time.Second), Purpose: policy.RevealToAdmin, Audience: "console", Subject: subject, Fields: fields, Justification: justified})
}

// ErrNotEmpty means that the log holds records already. Nothing made up goes between real ones.
var ErrNotEmpty = errors.New("the log is not empty")

// Write puts the records into the log of an organisation that has none yet. owner is a connection as a superuser of the
// database: nothing less can write what happened at another time than now.
func Write(ctx context.Context, owner *pgx.Conn, key audit.Key, organisation uuid.UUID, entries []audit.Entry) error {
	tree := audit.NewTree()
	records := make([][]any, len(entries))
	var leaves []byte
	var tiles, nodes [][]any
	for i, e := range entries {
		body, err := e.Marshal()
		if err != nil {
			return fmt.Errorf("make record %d: %w", i, err)
		}
		records[i] = []any{organisation, int64(i), e.Time, body}
		leaf := audit.LeafHash(body)
		leaves = append(leaves, leaf[:]...)
		tree.Append(leaf, func(level int, index uint64, hash audit.Hash) {
			if level > 0 {
				nodes = append(nodes, []any{organisation, level, int64(index), hash[:]})
			}
		})
	}
	for tile := range len(entries) / audit.TileWidth {
		const size = audit.TileWidth * len(audit.Hash{})
		tiles = append(tiles, []any{organisation, int64(tile), leaves[tile*size : (tile+1)*size]})
	}
	err := pgx.BeginFunc(ctx, owner, func(tx pgx.Tx) error {
		var origin string
		var size int64
		if err := tx.QueryRow(ctx, "select origin, size from audit.head where organisation_id = $1 for update", organisation).Scan(&origin, &size); err != nil {
			return err
		}
		if size != 0 {
			return ErrNotEmpty
		}
		signer, err := key.For(origin)
		if err != nil {
			return err
		}
		checkpoint, err := signer.Sign(tree.Size(), tree.Root())
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "select audit.ensure_months($1, 3)", entries[0].Time); err != nil {
			return err
		}
		return errors.Join(
			put(ctx, tx, "record", []string{"organisation_id", "seq", "at", "body"}, records),
			put(ctx, tx, "tile", []string{"organisation_id", "idx", "hashes"}, tiles),
			put(ctx, tx, "node", []string{"organisation_id", "level", "idx", "hash"}, nodes),
			exec(ctx, tx, "update audit.head set size = $2, frontier = $3, checkpoint = $4, last_at = $5 where organisation_id = $1",
				organisation, int64(tree.Size()), tree.MarshalFrontier(), string(checkpoint), entries[len(entries)-1].Time))
	})
	if err != nil {
		return fmt.Errorf("write the records of a demonstration: %w", err)
	}
	return nil
}

func put(ctx context.Context, tx pgx.Tx, table string, columns []string, rows [][]any) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"audit", table}, columns, pgx.CopyFromRows(rows))
	return err
}

func exec(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// Made says how many records at the beginning of a log were made up, by its first; 0 for a log of real ones.
func Made(first audit.Entry) uint64 {
	if first.Action != Action || first.Facts[Fact] != Value {
		return 0
	}
	n, _ := strconv.ParseUint(cmp.Or(first.Facts["records"], "0"), 10, 63)
	return n
}
