package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/principal"
)

// What a person may ask about the data that is kept of him.
const (
	AsksAccess        = "access"        // a copy, and who was shown it
	AsksPortability   = "portability"   // a copy that programs read
	AsksRectification = "rectification" // that it be corrected
	AsksRestriction   = "restriction"   // that it be kept and shown to nobody
	AsksObjection     = "objection"     // that it not be used
	AsksErasure       = "erasure"       // that it be erased
)

// RequestKinds are what may be asked.
func RequestKinds() []string {
	return []string{AsksAccess, AsksPortability, AsksRectification, AsksRestriction, AsksObjection, AsksErasure}
}

// How a request came, and how it was established who asks.
const (
	ByToken = "token" // the token of his session
	ByTeams = "teams" // his account
)

// RequestSources are how a request comes; Identifications how it is established who asks, other than by where he asks.
func RequestSources() []string  { return []string{"letter", "mail", "other"} }
func Identifications() []string { return []string{"document", "correspondence"} }

// What is done about a request.
const (
	Identified = "identified"
	Extended   = "extended"
	Answered   = "answered"
	Declined   = "refused"
	TakenBack  = "withdrawn"
	Restricts  = "restricted"
	Lifts      = "lifted"
	Corrected  = "corrected"
	Erased     = "erased"
	FileMade   = "file"
)

// Request is what a person asked about his data, as it stands.
type Request struct {
	ID                            uuid.UUID
	Kind                          string
	SubjectKind                   string
	SubjectID                     uuid.UUID
	Subject                       string // reference; "erased" once he is
	Source, State, Identification string
	Language                      string
	Received, Due                 time.Time
	Extended, Closed              time.Time // zero where they were not
}

// Open reports whether it has still to be answered.
func (r Request) Open() bool { return r.State == "open" }

// Overdue reports whether it should have been answered by now.
func (r Request) Overdue(now time.Time) bool { return r.Open() && now.After(r.Due) }

// Step is something that was done about a request.
type Step struct {
	Action, By string // By is kind and reference
	Why        string
	At         time.Time
}

// FactRequest names a request in records.
const FactRequest = "request.id"

// NewRequest is a request that comes in.
type NewRequest struct {
	Kind, SubjectKind      string
	Subject                uuid.UUID
	Source, Identification string
	Language               string
	Received               time.Time
	Note                   Justification // what the person wrote, or what is known of it
}

// ErrRequest refuses a request that cannot be.
var ErrRequest = errors.New("this is no request about data that is kept here")

const (
	sqlOpenRequest = "select access.open_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
	sqlStep        = "select access.step_request($1, $2, $3, $4, $5, $6)"
	sqlRequests    = "select request_id, kind, subject_kind, subject_id, source, state, identified, language, received_at, due_at, extended_at, closed_at from access.requests($1, $2, $3, $4)"
	sqlSteps       = "select action, by_ref, reason_id, at from access.request_steps($1, $2)"
)

// OpenRequest keeps what a person asks about his data, after that was decided and is on record. One of a kind that he asked before and that is
// still open is the same.
func (g *Gate) OpenRequest(ctx context.Context, who principal.Principal, n NewRequest) (uuid.UUID, error) {
	organisation, now := who.Organisation(), g.now()
	if n.Received.IsZero() {
		n.Received = now
	}
	if n.Received.After(now.Add(time.Minute)) || now.Sub(n.Received) > 365*24*time.Hour || !slices.Contains(RequestKinds(), n.Kind) {
		return uuid.Nil, ErrRequest
	}
	if _, err := g.Reference(ctx, organisation, n.Subject); err != nil { // nobody of whom anything is kept here
		return uuid.Nil, err
	}
	before, err := g.Requests(ctx, organisation, n.Subject, 50)
	if err != nil {
		return uuid.Nil, err
	}
	id, again := uuid.New(), false
	for _, r := range before {
		if r.Open() && r.Kind == n.Kind {
			id, again = r.ID, true
		}
	}
	facts := map[string]string{FactRequest: id.String(), "request.kind": n.Kind, "request.source": n.Source, "request.identified": n.Identification}
	if err := g.actAbout(ctx, who, organisation, n.SubjectKind, n.Subject, "request.open", facts, Grounds{Justification: n.Note}); err != nil {
		return uuid.Nil, err
	}
	if again {
		return id, nil
	}
	by, err := g.partyOf(ctx, who)
	if err != nil {
		return uuid.Nil, err
	}
	err = g.pool.QueryRow(ctx, sqlOpenRequest, organisation, id, n.Kind, n.SubjectKind, n.Subject, n.Source, n.Identification, n.Language, n.Received.UTC(), by, orNil(n.Note.id)).Scan(&id)
	if err != nil {
		return uuid.Nil, fmt.Errorf("%w: keep request: %w", ErrUnavailable, err)
	}
	return id, nil
}

func orNil(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// partyOf names who did something: his kind and reference.
func (g *Gate) partyOf(ctx context.Context, who principal.Principal) (string, error) {
	refs, err := g.keyed(ctx, who.Organisation(), []refKey{actorKey(who.Organisation(), who)})
	if err != nil {
		return "", err
	}
	return who.Kind() + " " + refs[0], nil
}

// StepRequest carries a request on, after that was decided and is on record. It fails with ErrSettled when it is not open, or its time was extended before.
func (g *Gate) StepRequest(ctx context.Context, who principal.Principal, r Request, action, identification string, why Justification) error {
	r, _, err := g.Request(ctx, who.Organisation(), r.ID)
	if err != nil {
		return err
	}
	if !r.Open() || action == Extended && (!r.Extended.IsZero() || r.Overdue(g.now())) {
		return ErrSettled
	}
	facts := map[string]string{FactRequest: r.ID.String(), "request.kind": r.Kind, "request.identified": identification}
	if err := g.actAbout(ctx, who, who.Organisation(), r.SubjectKind, r.SubjectID, "request."+action, facts, Grounds{Justification: why}); err != nil {
		return err
	}
	by, err := g.partyOf(ctx, who)
	if err != nil {
		return err
	}
	var done bool
	if err := g.pool.QueryRow(ctx, sqlStep, who.Organisation(), r.ID, action, identification, by, orNil(why.id)).Scan(&done); err != nil {
		return fmt.Errorf("%w: carry on request: %w", ErrUnavailable, err)
	}
	if !done {
		return ErrSettled
	}
	return nil
}

// Requests lists requests: those that are open first, by when they are due. A subject narrows them to his.
func (g *Gate) Requests(ctx context.Context, organisation, subject uuid.UUID, limit int) ([]Request, error) {
	return g.requests(ctx, organisation, uuid.Nil, subject, limit)
}

// Request gives one with its steps; ErrUnknown when there is none.
func (g *Gate) Request(ctx context.Context, organisation, id uuid.UUID) (Request, []Step, error) {
	all, err := g.requests(ctx, organisation, id, uuid.Nil, 1)
	if err == nil && (len(all) == 0 || id == uuid.Nil) {
		err = ErrUnknown
	}
	if err != nil {
		return Request{}, nil, err
	}
	rows, err := g.pool.Query(ctx, sqlSteps, organisation, id)
	if err != nil {
		return Request{}, nil, fmt.Errorf("%w: get request: %w", ErrUnavailable, err)
	}
	var steps []Step
	var reasons []*uuid.UUID
	var ids []uuid.UUID
	var s Step
	var reason *uuid.UUID
	_, err = pgx.ForEachRow(rows, []any{&s.Action, &s.By, &reason, &s.At}, func() error {
		steps, reasons = append(steps, s), append(reasons, reason)
		if reason != nil {
			ids = append(ids, *reason)
		}
		reason = nil
		return nil
	})
	if err != nil {
		return Request{}, nil, fmt.Errorf("%w: get request: %w", ErrUnavailable, err)
	}
	texts, err := g.Reasons(ctx, organisation, ids...)
	if err != nil {
		return Request{}, nil, err
	}
	for i, r := range reasons {
		if r != nil {
			steps[i].Why = texts[*r]
		}
	}
	return all[0], steps, nil
}

func (g *Gate) requests(ctx context.Context, organisation, id, subject uuid.UUID, limit int) ([]Request, error) {
	rows, err := g.pool.Query(ctx, sqlRequests, organisation, orNil(id), orNil(subject), limit)
	if err != nil {
		return nil, fmt.Errorf("%w: get requests: %w", ErrUnavailable, err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Request, err error) {
		var extended, closed *time.Time
		err = row.Scan(&r.ID, &r.Kind, &r.SubjectKind, &r.SubjectID, &r.Source, &r.State, &r.Identification, &r.Language, &r.Received, &r.Due, &extended, &closed)
		r.Extended, r.Closed = of(extended), of(closed)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: get requests: %w", ErrUnavailable, err)
	}
	keys := make([]refKey, len(all))
	for i, r := range all {
		keys[i] = refKey{organisation: organisation, id: r.SubjectID}
	}
	refs, err := g.keyed(ctx, organisation, keys)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Subject = refs[i]
	}
	return all, nil
}

// Covering is evidence that a person asked, that it was established that it is him, and that the request is open. The zero Covering is none.
type Covering struct{ request, subject uuid.UUID }

// Covers gives the evidence; where something is missing it is none, and policy answers that it is missing.
func (r Request) covers() Covering {
	if !r.Open() || r.Identification == "" {
		return Covering{}
	}
	return Covering{r.ID, r.SubjectID}
}

// Covering looks up a request and gives what it is evidence of.
func (g *Gate) Covering(ctx context.Context, organisation, id uuid.UUID) (Request, Covering, error) {
	r, _, err := g.Request(ctx, organisation, id)
	if err != nil {
		return Request{}, Covering{}, err
	}
	return r, r.covers(), nil
}

// Kept is a value that is kept of a person: where and since when, not what.
type Kept struct {
	Row   uuid.UUID
	Field euii.Field
	Since time.Time
}

const (
	sqlKept    = "select row_id, field, created_at from access.kept_values($1, $2)"
	sqlCorrect = "select access.put_value($1, $2, $3, $4, $5)"
	sqlDrop    = "select access.drop_values($1, $2, $3)"
	sqlIndex   = "select access.put_index($1, $2, $3, $4, $5)"
	sqlAnew    = "select access.show_anew($1, $2)"
)

// Kept lists the values that are kept of a person, the oldest first. It reads none of them.
func (g *Gate) Kept(ctx context.Context, organisation, subject uuid.UUID) ([]Kept, error) {
	rows, err := g.pool.Query(ctx, sqlKept, organisation, subject)
	if err != nil {
		return nil, fmt.Errorf("%w: list values: %w", ErrUnavailable, err)
	}
	var all []Kept
	var k Kept
	var field string
	_, err = pgx.ForEachRow(rows, []any{&k.Row, &field, &k.Since}, func() error {
		if f, ok := euii.ParseField(field); ok {
			k.Field = f
			all = append(all, k)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: list values: %w", ErrUnavailable, err)
	}
	return all, nil
}

// Correct keeps what a person says of himself in place of what was kept, wherever that lies, sealed under his key; an empty value takes
// the old one out. It was decided and is on record before. row is where a value lies of which none was kept.
func (g *Gate) Correct(ctx context.Context, c Collector, who principal.Principal, scene Scene, subject, row uuid.UUID, on Grounds, fields ...Field) error {
	organisation := scene.Conversation.Organisation
	kept, err := g.Kept(ctx, organisation, subject)
	if err != nil {
		return err
	}
	for _, f := range fields {
		rows := []uuid.UUID{}
		for _, k := range kept {
			if k.Field == f.Name && !slices.Contains(rows, k.Row) {
				rows = append(rows, k.Row)
			}
		}
		if euii.InboundEmpty(f.Value) {
			if len(rows) == 0 {
				continue
			}
			facts := map[string]string{"field": f.Name.String()}
			if on.Covering.request != uuid.Nil {
				facts[FactRequest] = on.Covering.request.String()
			}
			if err := g.actAbout(ctx, who, organisation, c.subjectKind, subject, "request.remove", facts, Grounds{}); err != nil {
				return err
			}
			if _, err := g.pool.Exec(ctx, sqlDrop, organisation, subject, f.Name.String()); err != nil {
				return fmt.Errorf("%w: correct: %w", ErrUnavailable, err)
			}
			continue
		}
		if len(rows) == 0 {
			rows = []uuid.UUID{row}
		}
		sealed, err := c.collect(ctx, who, scene, subject, nil, rows, on, f)
		if err != nil {
			return err
		}
		b := &pgx.Batch{}
		for _, v := range sealed {
			r := v.Ref()
			b.Queue(sqlCorrect, r.Organisation, r.Subject, r.Row, r.Field.String(), v.Ciphertext())
			if index := v.Index(); index != nil {
				b.Queue(sqlIndex, r.Organisation, r.Subject, r.Row, r.Field.String(), index)
			}
		}
		b.Queue(sqlAnew, organisation, subject)
		if err := g.pool.SendBatch(ctx, b).Close(); err != nil { // one transaction
			return fmt.Errorf("%w: correct: %w", ErrUnavailable, err)
		}
	}
	return nil
}

const sqlKeptFor = "select class, days from access.retention($1) where days is not null"

// KeptFor tells for how many days an organisation keeps each class of data.
func (g *Gate) KeptFor(ctx context.Context, organisation uuid.UUID) (map[string]int, error) {
	rows, err := g.pool.Query(ctx, sqlKeptFor, organisation)
	if err != nil {
		return nil, fmt.Errorf("%w: read retention: %w", ErrUnavailable, err)
	}
	days := make(map[string]int)
	var class string
	var n int
	if _, err = pgx.ForEachRow(rows, []any{&class, &n}, func() error { days[class] = n; return nil }); err != nil {
		return nil, fmt.Errorf("%w: read retention: %w", ErrUnavailable, err)
	}
	return days, nil
}

const sqlConversationsOf = "select conversation_id from access.conversations_of($1, $2, $3, $4, $5)"

// ConversationsOf lists the conversations of a visitor, or those an agent joined, after one of them.
func (g *Gate) ConversationsOf(ctx context.Context, organisation uuid.UUID, kind string, subject, after uuid.UUID, limit int) ([]uuid.UUID, error) {
	rows, err := g.pool.Query(ctx, sqlConversationsOf, organisation, kind, subject, after, limit)
	if err != nil {
		return nil, fmt.Errorf("%w: list conversations: %w", ErrUnavailable, err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("%w: list conversations: %w", ErrUnavailable, err)
	}
	return all, nil
}

// Download is a link by which a person gets his own data, once.
type Download struct {
	Organisation uuid.UUID
	SubjectKind  string
	Subject      uuid.UUID
	Language     string
}

// downloadValid is how long a link leads somewhere.
const downloadValid = 10 * time.Minute

const (
	sqlPutDownload = "select access.put_download($1, $2, $3, $4, $5, $6)"
	sqlDownload    = "select organisation_id, subject_kind, subject_id, language from access.download($1, $2)"
)

// NewDownload makes a link's token, after it is on record that the person asked for it. Only its hash is kept.
func (g *Gate) NewDownload(ctx context.Context, who principal.Principal, d Download) (token string, ends time.Time, err error) {
	if err := g.actAbout(ctx, who, d.Organisation, d.SubjectKind, d.Subject, "request.link", nil, Grounds{}); err != nil {
		return "", ends, err
	}
	var secret [32]byte
	rand.Read(secret[:])
	hash := sha256.Sum256(secret[:])
	err = g.pool.QueryRow(ctx, sqlPutDownload, d.Organisation, hash[:], d.SubjectKind, d.Subject, d.Language, int(downloadValid.Seconds())).Scan(&ends)
	if err != nil {
		return "", ends, fmt.Errorf("%w: make link: %w", ErrUnavailable, err)
	}
	return base64.RawURLEncoding.EncodeToString(secret[:]), ends, nil
}

// Download looks at a link, or uses it up: of all who use it at once one gets it. ErrUnknown when it leads nowhere.
func (g *Gate) Download(ctx context.Context, token string, use bool) (Download, error) {
	secret, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(secret) != 32 {
		return Download{}, ErrUnknown
	}
	hash := sha256.Sum256(secret)
	var organisation, subject *uuid.UUID
	var kind, language *string
	if err := g.pool.QueryRow(ctx, sqlDownload, hash[:], use).Scan(&organisation, &kind, &subject, &language); err != nil {
		return Download{}, fmt.Errorf("%w: find link: %w", ErrUnavailable, err)
	}
	if organisation == nil {
		return Download{}, ErrUnknown
	}
	return Download{*organisation, of(kind), of(subject), of(language)}, nil
}
