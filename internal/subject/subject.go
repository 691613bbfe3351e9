// Package subject answers people who ask about their own data: who was shown what of them and why, and their whole file for people
// and for programs. It writes as it reads, so the longest history takes no more memory than the shortest. It opens nothing: what
// is released comes from the edge that was given the reader for it.
package subject

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/policy"
)

// Person is one whose data is kept.
type Person struct {
	Organisation uuid.UUID
	Kind         string // visitor or agent
	ID           uuid.UUID
}

// Desk reads what is on record about people. It is safe for concurrent use.
type Desk struct {
	Gate *access.Gate
	Log  *pglog.Log
	Now  func() time.Time
}

func handle(kind, ref string) string { return chat.Handle(kind, ref) }

// Shown is one time that something of a person was shown to somebody, or that somebody was refused it.
type Shown struct {
	Record  uint64    `json:"record"`
	At      time.Time `json:"at"`
	To      string    `json:"to"`      // handle: nobody's name
	Kind    string    `json:"to_kind"` // visitor, agent, channel, admin, ...
	What    []string  `json:"what"`    // fields
	Why     string    `json:"why"`     // purpose
	Outcome string    `json:"outcome"` // allow, masked, deny
}

// conversationsAtOnce is how many of a person's conversations are looked up at once.
const conversationsAtOnce = 100

// Shown gives what the log says was shown of a person, the newest first: his name and the other fields, then what he wrote in each of
// his conversations. What he was shown himself is left out.
func (d Desk) Shown(ctx context.Context, p Person) iter.Seq2[Shown, error] {
	return func(yield func(Shown, error) bool) {
		self, err := d.Gate.Reference(ctx, p.Organisation, p.ID)
		if err != nil {
			yield(Shown{}, err)
			return
		}
		if !d.about(ctx, p, self, self, yield) || p.Kind != "visitor" {
			return
		}
		for conversation, err := range d.Conversations(ctx, p) {
			ref := ""
			if err == nil {
				ref, err = d.Gate.Reference(ctx, p.Organisation, conversation)
			}
			if err != nil {
				yield(Shown{}, err)
				return
			}
			if !d.about(ctx, p, self, ref, yield) {
				return
			}
		}
	}
}

// about gives the records about one reference, and says whether to go on.
func (d Desk) about(ctx context.Context, p Person, self, ref string, yield func(Shown, error) bool) bool {
	q := pglog.Query{Since: time.Unix(0, 0), Subject: ref, Limit: pglog.MaxPage}
	for more := true; more; {
		found, err := d.Log.Search(ctx, p.Organisation, q)
		if err != nil {
			yield(Shown{}, err)
			return false
		}
		for _, f := range found {
			e, err := audit.ParseEntry(f.Body)
			if err != nil {
				yield(Shown{}, fmt.Errorf("the log in the database is damaged: %w", err))
				return false
			}
			if e.Kind != audit.Disclosure && (e.Kind != audit.Denial || len(e.Fields) == 0) || e.Actor.Ref == self {
				continue
			}
			to := chat.Handle(e.Actor.Kind, e.Actor.Ref)
			if !yield(Shown{e.Seq, e.Time, to, e.Actor.Kind, e.Fields, e.Action, e.Decision}, nil) {
				return false
			}
		}
		if more = len(found) == q.Limit; more {
			q.Before = found[len(found)-1].Place
		}
	}
	return true
}

// Conversations gives the conversations of a visitor, or those an agent joined.
func (d Desk) Conversations(ctx context.Context, p Person) iter.Seq2[uuid.UUID, error] {
	return func(yield func(uuid.UUID, error) bool) {
		for after, more := uuid.Nil, true; more; {
			page, err := d.Gate.ConversationsOf(ctx, p.Organisation, p.Kind, p.ID, after, conversationsAtOnce)
			if err != nil {
				yield(uuid.Nil, err)
				return
			}
			for _, id := range page {
				if after = id; !yield(id, nil) {
					return
				}
			}
			more = len(page) == conversationsAtOnce
		}
	}
}

// Count is how often something of a person was shown for one purpose.
type Count struct {
	Why  string
	N    int64
	Last time.Time
}

// countedMost bounds the records from which is counted: the newest.
const countedMost = 20_000

// Counts counts by purpose what was shown of a person, the most frequent first. partly says that there is more than was counted.
func (d Desk) Counts(ctx context.Context, p Person) (counts []Count, newest uint64, partly bool, err error) {
	seen := 0
	for s, err := range d.Shown(ctx, p) {
		if err != nil {
			return nil, 0, false, err
		}
		if seen++; seen > countedMost {
			partly = true
			break
		}
		if s.Outcome == audit.DecisionDeny {
			continue
		}
		i := slices.IndexFunc(counts, func(c Count) bool { return c.Why == s.Why })
		if i < 0 {
			i, counts = len(counts), append(counts, Count{Why: s.Why})
		}
		counts[i].N++
		if s.At.After(counts[i].Last) {
			counts[i].Last = s.At
		}
		newest = max(newest, s.Record)
	}
	slices.SortStableFunc(counts, func(a, b Count) int { return int(b.N - a.N) })
	return counts, newest, partly, nil
}

// Proof gives a record and the proof that it is in the log (C2SP tlog-proof).
func (d Desk) Proof(ctx context.Context, organisation uuid.UUID, seq uint64) (entry []byte, proof audit.Proof, err error) {
	return d.Log.Proof(ctx, organisation, seq)
}

// Why is a purpose in words.
func Why(lang, action string) string { return policy.Purpose(action).Title(lang) }
