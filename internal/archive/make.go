package archive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"filippo.io/age"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// atOnce is how many conversations are read side by side: their records go into the log together.
const atOnce = 16

// maxPart is more than the largest file has: one of partBytes and what was read at once.
const maxPart = 32 << 20

const (
	sqlTakeUp    = "select access.take_up_archive($1, $2, $3)"
	sqlBegin     = "select access.begin_archive($1, $2)"
	sqlToArchive = "select conversation_id, closed_at, visitors, agents from access.to_archive($1, $2, $3, $4, $5)"
	sqlWrite     = "select access.write_archive_part($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
	sqlStored    = "select access.archive_part_stored($1, $2, $3, $4)"
	sqlForget    = "select access.forget_archive_part($1, $2, $3)"
	sqlParts     = "select name, sha256, bytes, conversations, events, people, first_at, last_at, stored from access.archive_parts($1, $2)"
	sqlFinish    = "select access.finish_archive($1, $2, $3)"
	sqlGiveUp    = "select access.give_up_archive($1, $2)"
)

// Make makes an archive of what is over and in none yet, or carries on with the one under way, and reports whether there was anything to archive. It is on record when it
// begins, at every name and message that is read, and when it is whole; until then it is no archive. progress may be nil; it is told how far the archive is after
// each file, and ends the work with its error.
func (d *Desk) Make(ctx context.Context, who principal.Principal, organisation uuid.UUID, progress func(Archive) error) (a Archive, any bool, err error) {
	if d.Target == nil {
		return a, false, ErrNoTarget
	}
	a, err = d.begin(ctx, who, organisation)
	if err != nil || a.ID == uuid.Nil {
		return a, false, err
	}
	w := &writer{Desk: d, id: uuid.New(), organisation: organisation, archive: a, progress: progress}
	if w.to, err = age.ParseX25519Recipient(a.Recipient); err != nil {
		return a, true, fmt.Errorf("make archive: %w", ErrRecipient)
	}
	var keep time.Time
	if a.Locked != nil {
		keep = *a.Locked
	}
	var release func()
	if w.place, release, err = d.Target.Open(ctx, placeOf(organisation, a.Name), keep); err != nil {
		return a, true, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	defer release()
	var mine bool
	if err = d.Pool.QueryRow(ctx, sqlTakeUp, organisation, a.ID, w.id).Scan(&mine); err != nil || !mine {
		return a, true, cmp.Or(err, ErrBusy)
	}
	if err = w.settle(ctx); err == nil {
		err = w.fill(ctx)
	}
	if err == nil {
		err = w.finish(ctx)
	}
	if errors.Is(err, ErrLost) {
		err = errors.Join(err, d.giveUp(ctx, organisation, a.ID, "lost"))
	}
	if err != nil {
		return a, true, err
	}
	a, err = d.one(ctx, organisation, a.ID)
	return a, true, err
}

// begin gives the archive that is under way, or begins one; none when there is nothing to archive.
func (d *Desk) begin(ctx context.Context, who principal.Principal, organisation uuid.UUID) (Archive, error) {
	plan, err := d.Plan(ctx, organisation)
	if err != nil {
		return Archive{}, err
	}
	all, err := d.Archives(ctx, organisation, listed)
	if err != nil {
		return Archive{}, err
	}
	for _, a := range all {
		if !a.UnderWay() {
			continue
		}
		if a.Recipient == plan.Recipient && a.Target == d.Place(organisation) {
			return a, nil
		}
		if err := d.giveUp(ctx, organisation, a.ID, "changed"); err != nil {
			return Archive{}, err
		}
	}
	if plan.Recipient == "" {
		return Archive{}, ErrNoRecipient
	}
	if some, err := d.toArchive(ctx, organisation, time.Now().Add(time.Hour), time.Unix(0, 0), uuid.Nil, 1); err != nil || len(some) == 0 {
		return Archive{}, err
	}
	id, now := uuid.New(), time.Now().UTC()
	facts := map[string]string{"archive.id": id.String(), "archive.recipient": plan.Recipient, "archive.target": d.Place(organisation),
		"archive.name": now.Format("20060102T150405Z") + "-" + id.String()[:8]}
	if d.Target.Locks() {
		var days int
		if err := d.Pool.QueryRow(ctx, sqlDays, organisation).Scan(&days); err != nil {
			return Archive{}, fmt.Errorf("begin archive: %w", err)
		}
		facts["archive.locked_until"] = now.AddDate(0, 0, days).Truncate(time.Second).Format(time.RFC3339)
	}
	var act uint64
	if _, job := who.(principal.Job); job {
		act, err = d.Gate.Archiving(ctx, organisation, ActBegin, facts)
	} else {
		act, err = d.Gate.Order(ctx, who, access.Order{Organisation: organisation, Purpose: policy.ControlData, Action: ActBegin, Facts: facts})
	}
	if err != nil {
		return Archive{}, err
	}
	if _, err := d.Pool.Exec(ctx, sqlBegin, organisation, int64(act)); err != nil {
		return Archive{}, fmt.Errorf("begin archive: %w", err)
	}
	return d.one(ctx, organisation, id)
}

const sqlDays = "select days from access.retention($1) where class = 'archive'"

func (d *Desk) one(ctx context.Context, organisation, id uuid.UUID) (Archive, error) {
	all, err := d.Archives(ctx, organisation, listed)
	if err != nil {
		return Archive{}, err
	}
	if i := slices.IndexFunc(all, func(a Archive) bool { return a.ID == id }); i >= 0 {
		return all[i], nil
	}
	return Archive{}, fmt.Errorf("archive %s is not there", id)
}

func (d *Desk) giveUp(ctx context.Context, organisation, id uuid.UUID, why string) error {
	act, err := d.Gate.Archiving(ctx, organisation, ActGivenUp, map[string]string{"archive.id": id.String(), "archive.why": why})
	if err != nil {
		return err
	}
	if _, err := d.Pool.Exec(ctx, sqlGiveUp, organisation, int64(act)); err != nil {
		return fmt.Errorf("give up archive: %w", err)
	}
	return nil
}

// talk is a conversation that is to be archived, with those who said something of themselves in it.
type talk struct {
	ID               uuid.UUID
	Closed           time.Time
	Visitors, Agents []uuid.UUID
}

func (d *Desk) toArchive(ctx context.Context, organisation uuid.UUID, before, afterAt time.Time, after uuid.UUID, limit int) ([]talk, error) {
	rows, err := d.Pool.Query(ctx, sqlToArchive, organisation, before, afterAt, after, limit)
	if err == nil {
		var all []talk
		if all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[talk]); err == nil {
			return all, nil
		}
	}
	return nil, fmt.Errorf("look for conversations to archive: %w", err)
}

// writer makes one archive.
type writer struct {
	*Desk
	id           uuid.UUID // whoever takes the archive up after it has another
	organisation uuid.UUID
	archive      Archive
	to           age.Recipient
	place        audit.Place
	progress     func(Archive) error

	stored int // files
	now    *part
}

// files gives the files of an archive as the database knows them.
func (d *Desk) files(ctx context.Context, organisation, archive uuid.UUID) (stored, written []File, err error) {
	rows, err := d.Pool.Query(ctx, sqlParts, organisation, archive)
	if err != nil {
		return nil, nil, fmt.Errorf("list files of the archive: %w", err)
	}
	var f File
	var first, last *time.Time
	var is bool
	_, err = pgx.ForEachRow(rows, []any{&f.Name, &f.SHA256, &f.Bytes, &f.Conversations, &f.Events, &f.People, &first, &last, &is}, func() error {
		f.First, f.Last = timeOf(first), timeOf(last)
		if is {
			stored = append(stored, f)
		} else {
			written = append(written, f)
		}
		f, first, last = File{}, nil, nil
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list files of the archive: %w", err)
	}
	return stored, written, nil
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// settle finds out what became of a file that was being written when somebody was stopped.
func (w *writer) settle(ctx context.Context) error {
	stored, written, err := w.files(ctx, w.organisation, w.archive.ID)
	if err != nil {
		return err
	}
	w.stored = len(stored)
	for _, f := range written {
		good, err := w.lies(ctx, f)
		if err != nil {
			return err
		}
		if good {
			if err := w.note(ctx, f.Name); err != nil {
				return err
			}
			continue
		}
		if err := w.Target.Remove(ctx, placeOf(w.organisation, w.archive.Name), f.Name); err != nil {
			return fmt.Errorf("%w: %w", ErrTarget, err)
		}
		if _, err := w.Pool.Exec(ctx, sqlForget, w.organisation, w.archive.ID, f.Name); err != nil {
			return fmt.Errorf("forget file of the archive: %w", err)
		}
	}
	return nil
}

// lies reports whether a file lies in its place as it was written.
func (w *writer) lies(ctx context.Context, f File) (bool, error) {
	data, err := w.place.Read(ctx, f.Name, maxPart)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]) == f.SHA256, nil
}

// fill archives all that was over when the archive began.
func (w *writer) fill(ctx context.Context) error {
	at, after := time.Unix(0, 0), uuid.Nil
	for {
		batch, err := w.toArchive(ctx, w.organisation, w.archive.Began, at, after, atOnce)
		if err != nil {
			return err
		}
		if len(batch) == 0 {
			return w.flush(ctx)
		}
		if err := w.take(ctx, batch); err != nil {
			return err
		}
		at, after = batch[len(batch)-1].Closed, batch[len(batch)-1].ID
	}
}

// take reads a few conversations side by side, and puts them one after another into files.
func (w *writer) take(ctx context.Context, batch []talk) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type reading struct {
		chunks chan chunk
		err    error // once chunks is closed
	}
	all := make([]*reading, len(batch))
	for i, t := range batch {
		r := &reading{chunks: make(chan chunk)}
		all[i] = r
		go func() {
			defer close(r.chunks)
			r.err = w.read(ctx, t, func(c chunk) error {
				select {
				case r.chunks <- c:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}()
	}
	for i, t := range batch {
		got := false
		for c := range all[i].chunks {
			got = true
			if err := w.add(ctx, c); err != nil {
				return err
			}
		}
		switch err := all[i].err; {
		case err == nil:
			w.now.end(t.ID, t.Closed.UTC())
			if err := w.roomy(ctx); err != nil {
				return err
			}
		case !got && withheld(err): // it is restricted or erased since a moment ago
		default:
			return fmt.Errorf("archive conversation %s: %w", t.ID, err)
		}
	}
	return nil
}

// withheld says that something is not to be archived now, and that this is as it must be.
func withheld(err error) bool {
	var denied access.DeniedError
	return errors.Is(err, access.ErrErased) || errors.Is(err, chat.ErrNotFound) || errors.As(err, &denied) && slices.Contains(denied.Reasons, "restricted")
}

func (w *writer) add(ctx context.Context, c chunk) error {
	if err := w.roomy(ctx); err != nil {
		return err
	}
	if w.now == nil {
		var err error
		if w.now, err = newPart(w.to); err != nil {
			return err
		}
	}
	return w.now.add(c)
}

// roomy puts a file away that is full.
func (w *writer) roomy(ctx context.Context) error {
	if w.now == nil || w.now.plain < w.PartBytes {
		return nil
	}
	return w.flush(ctx)
}

// flush puts the file that is being filled where archives lie. What is in it is noted first, so that it is known whatever happens.
func (w *writer) flush(ctx context.Context) error {
	p := w.now
	if w.now = nil; p == nil {
		return nil
	}
	if err := p.seal(w.stored + 1); err != nil {
		return err
	}
	var first, last *time.Time
	if p.Conversations > 0 {
		first, last = &p.First, &p.Last
	}
	if p.ended == nil {
		p.ended = []uuid.UUID{}
	}
	if p.subjects == nil {
		p.subjects = []uuid.UUID{}
	}
	var mine bool
	err := w.Pool.QueryRow(ctx, sqlWrite, w.organisation, w.archive.ID, w.id, p.Name, p.SHA256, p.Bytes, p.Events, p.People, first, last, p.ended, p.subjects).Scan(&mine)
	if err != nil {
		return fmt.Errorf("note file of the archive: %w", err)
	}
	if !mine {
		return ErrBusy
	}
	err = w.place.Create(ctx, p.Name, p.sealed.Bytes())
	if err == nil {
		err = w.place.Settle()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if err := w.note(ctx, p.Name); err != nil {
		return err
	}
	if w.progress == nil {
		return nil
	}
	a, err := w.one(ctx, w.organisation, w.archive.ID)
	if err != nil {
		return err
	}
	return w.progress(a)
}

// note makes a file count. One of a writer whose archive somebody else has taken up does not, and is removed.
func (w *writer) note(ctx context.Context, name string) error {
	var mine bool
	if err := w.Pool.QueryRow(ctx, sqlStored, w.organisation, w.archive.ID, w.id, name).Scan(&mine); err != nil {
		return fmt.Errorf("note file of the archive: %w", err)
	}
	if !mine {
		return errors.Join(ErrBusy, w.Target.Remove(ctx, placeOf(w.organisation, w.archive.Name), name))
	}
	w.stored++
	return nil
}

// read opens a conversation for the archive: who is in it, and then what was written.
func (w *writer) read(ctx context.Context, t talk, give func(chunk) error) error {
	scene, err := w.Scene(ctx, w.organisation, t.ID)
	if err != nil {
		return err
	}
	c := scene.Conversation
	job := principal.NewJob(w.organisation, "archive")
	o := opening{Type: "conversation", Conversation: c.ID, Widget: c.Widget, Language: c.Language, Opened: c.OpenedAt.UTC(), Closed: t.Closed.UTC(), ClosedBy: string(c.ClosedBy), People: []person{}}
	known := func(kind string, id uuid.UUID, reader access.Reader[euii.Archive]) error {
		values, err := reader.Read(ctx, job, scene, id, c.ID)
		if err != nil {
			return err
		}
		p := person{Kind: kind, ID: id, Values: make(map[string]string)}
		for _, f := range reader.Opens() {
			if v := values.Value(f); euii.Present(v) {
				p.Values[f.String()] = euii.Reveal(v)
			}
		}
		o.People = append(o.People, p)
		return nil
	}
	for _, id := range t.Visitors {
		if err := known("visitor", id, w.VisitorToArchive); err != nil {
			return err
		}
	}
	for _, id := range t.Agents {
		if err := known("agent", id, w.AgentToArchive); err != nil && !withheld(err) { // without his name, then
			return err
		}
	}
	first, err := lines(o)
	if err != nil {
		return err
	}
	begin := &chunk{lines: first, people: int64(len(o.People)), subjects: slices.Concat([]uuid.UUID{c.ID, c.Visitor}, t.Visitors, t.Agents)}
	if c.Agent != uuid.Nil {
		begin.subjects = append(begin.subjects, c.Agent)
	}
	events := int64(0)
	err = w.ConversationToArchive.Read(ctx, job, scene, func(messages []access.Message[euii.Archive]) error {
		next := chunk{events: int64(len(messages))}
		if begin != nil { // nothing is given before everything is allowed
			next, begin = *begin, nil
			next.events = int64(len(messages))
		}
		for _, m := range messages {
			e := event{Type: "event", Conversation: c.ID, Number: m.Seq, Kind: string(m.Kind), By: string(m.By), At: m.At.UTC(), Text: euii.Reveal(m.Text)}
			if m.ByID != uuid.Nil {
				e.ByID = &m.ByID
			}
			line, err := lines(e)
			if err != nil {
				return err
			}
			next.lines = append(next.lines, line...)
		}
		events += int64(len(messages))
		return give(next)
	})
	if err != nil {
		return err
	}
	last, err := lines(ending{"end", c.ID, events})
	if err != nil {
		return err
	}
	if begin != nil { // a conversation without events
		begin.lines = append(begin.lines, last...)
		return give(*begin)
	}
	return give(chunk{lines: last})
}

func lines(v any) ([]byte, error) {
	line, err := json.Marshal(v)
	return append(line, '\n'), err
}

// finish makes an archive of the files: they are looked at again, the manifest is written last, and only then it is on record that there is an archive.
func (w *writer) finish(ctx context.Context) error {
	stored, _, err := w.files(ctx, w.organisation, w.archive.ID)
	if err != nil {
		return err
	}
	if len(stored) == 0 { // all of it was withheld
		return w.giveUp(ctx, w.organisation, w.archive.ID, "empty")
	}
	for _, f := range stored {
		good, err := w.lies(ctx, f)
		if err == nil && !good {
			err = fmt.Errorf("%w (%s)", ErrLost, f.Name)
		}
		if err != nil {
			return err
		}
	}
	head, err := w.Log.Head(ctx, w.organisation)
	if err != nil {
		return err
	}
	signer, err := w.Key.For(head.Origin)
	if err != nil {
		return err
	}
	m, signed, err := w.manifest(ctx, stored, head.Checkpoint, signer)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(signed)
	digest := hex.EncodeToString(sum[:])
	facts := map[string]string{"archive.id": m.Archive.String(), "archive.name": m.Name, "archive.number": strconv.Itoa(m.Number), "archive.manifest": digest, "archive.recipient": m.Recipient,
		"archive.conversations": number(m.Conversations), "archive.events": number(m.Events), "archive.people": number(m.People), "archive.files": strconv.Itoa(len(m.Files)),
		"archive.first": m.First.Format(time.RFC3339), "archive.last": m.Last.Format(time.RFC3339), "archive.until": m.Until.Format(time.RFC3339)}
	act, err := w.Gate.Archiving(ctx, w.organisation, ActMade, facts)
	if err != nil {
		return err
	}
	var made bool
	if err := w.Pool.QueryRow(ctx, sqlFinish, w.organisation, w.id, int64(act)).Scan(&made); err != nil || !made {
		return errors.Join(errors.New("the archive could not be noted as made"), err)
	}
	return nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// manifest writes the manifest, unless somebody did who was stopped before it was on record.
func (w *writer) manifest(ctx context.Context, stored []File, checkpoint []byte, signer *audit.Signer) (Manifest, []byte, error) {
	m := Manifest{Archive: w.archive.ID, Name: w.archive.Name, Organisation: w.organisation, Log: signer.Origin(), Number: 1, Recipient: w.archive.Recipient,
		Began: w.archive.Began.UTC(), Files: stored, Checkpoint: string(checkpoint)}
	now, err := w.one(ctx, w.organisation, w.archive.ID)
	if err != nil {
		return m, nil, err
	}
	m.Until = now.Until.UTC().Truncate(time.Second)
	all, err := w.Archives(ctx, w.organisation, listed)
	if err != nil {
		return m, nil, err
	}
	for _, a := range all {
		if a.Number >= m.Number {
			m.Number, m.Previous = a.Number+1, &Previous{a.Number, a.Name, a.Manifest, a.Until.UTC().Truncate(time.Second)}
		}
	}
	for _, f := range stored {
		if f.Conversations > 0 && (m.Conversations == 0 || f.First.Before(m.First)) {
			m.First = f.First
		}
		if f.Last.After(m.Last) {
			m.Last = f.Last
		}
		m.Conversations, m.Events, m.People = m.Conversations+f.Conversations, m.Events+f.Events, m.People+f.People
	}
	there, err := w.place.Read(ctx, ManifestFile, audit.MaxSmall)
	if err == nil {
		if was, err := openManifest(there, append(signer.PreviousVerifierKeys(), signer.VerifierKey())); err == nil && was.Archive == m.Archive && was.Number == m.Number && slices.Equal(was.Files, m.Files) {
			return was, there, nil
		}
		if _, err := unsigned(there); err == nil {
			return m, nil, fmt.Errorf("%w (%s)", ErrLost, ManifestFile) // of something else
		}
		// torn
		if err := w.Target.Remove(ctx, placeOf(w.organisation, w.archive.Name), ManifestFile); err != nil {
			return m, nil, fmt.Errorf("%w: %w", ErrTarget, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return m, nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	signed, err := m.sign(signer)
	if err != nil {
		return m, nil, err
	}
	err = w.place.Create(ctx, ManifestFile, signed)
	if err == nil {
		err = w.place.Settle()
	}
	if err != nil {
		return m, nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	return m, signed, nil
}
