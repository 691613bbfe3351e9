package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// exportRows bounds an export that somebody makes by himself. For more a second person consents to exactly those records.
const exportRows = 20_000

// format is a form in which records are exported.
type format struct {
	name, kind, head string // of the file
	write            func(*bytes.Buffer, []pglog.Found) error
}

var formats = map[string]format{
	"csv":   {"records.csv", "text/csv; charset=utf-8", "record,time,kind,action,decision,actor_kind,actor,subject_kind,subject,audience,fields,masked,rule,reasons,policy,conversation,address,network\n", writeCSV},
	"jsonl": {"records.jsonl", "application/jsonl", "", writeLines},
	"ocsf":  {"records.ocsf.jsonl", "application/jsonl", "", writeOCSF},
	"cef":   {"records.cef", "text/plain; charset=utf-8", "", writeCEF},
}

// Formats are the forms in which what is shown can be had as a file.
func (eventsPage) Formats() []string { return []string{"csv", "jsonl", "ocsf", "cef"} }

// export gives the records that a search finds as a file. What is given is recorded, with its number of records and its digest, before
// any of it is sent. Where they are too many it leads to asking a second person.
func (s *Server) export(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	as := r.URL.Query().Get("as")
	to, known := formats[as]
	if !known {
		s.message(w, v, http.StatusNotFound, "notFound")
		return
	}
	f, err := s.look(r, admin)
	if asFilterError(err) != nil {
		http.Redirect(w, r, link("/events", "q", r.URL.Query().Get("q")), http.StatusSeeOther) // which shows what is wrong
		return
	}
	var head pglog.Head
	if err == nil {
		head, _, err = s.read(r, admin, "console.export", map[string]string{"filter": f.recorded, "format": as})
	}
	var before pglog.Place
	if err == nil {
		before, err = s.place(r.Context(), admin, max(head.Size, 1)-1, head.Size)
	}
	b, n := bytes.NewBufferString(to.head), 0
	if err == nil {
		for found, broken := range s.pages(r.Context(), admin, f, before) {
			if err = broken; err == nil {
				err = to.write(b, found)
			}
			if n += len(found); err != nil || n > s.alone {
				break
			}
		}
	}
	if err == nil && n > s.alone {
		s.askForExport(w, r, v, admin, f, as, before)
		return
	}
	sum := sha256.Sum256(b.Bytes())
	if err == nil {
		err = s.cfg.Gate.Act(r.Context(), admin, policy.ReadAuditLog, admin.Organisation(), exported,
			map[string]string{"filter": f.recorded, "format": as, "last": strconv.Itoa(n), "digest": "sha256:" + hex.EncodeToString(sum[:])})
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	to.announce(w)
	_, _ = w.Write(b.Bytes()) // whoever asked may have gone
}

// exported is the action of the record of what was given.
const exported = "console.exported"

func (f format) announce(w http.ResponseWriter) {
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
}

// pages gives what a search finds of the records before a place, the newest first and as many at a time as one query may.
func (s *Server) pages(ctx context.Context, admin principal.Admin, f search, before pglog.Place) iter.Seq2[[]pglog.Found, error] {
	return func(yield func([]pglog.Found, error) bool) {
		for {
			step, cancel := context.WithTimeout(ctx, requestLimit)
			found, err := s.findUpTo(step, admin, f, before, pglog.Place{}, pglog.MaxPage)
			cancel()
			if !yield(found, err) || err != nil || len(found) < pglog.MaxPage {
				return
			}
			before = found[len(found)-1].Place
		}
	}
}

// extract is records that somebody asks a second person for: those of a format, before a record, that answer a filter with references and
// no end that moves. As text it is what the consent is about.
type extract struct {
	As       string
	Before   uint64
	Readings bool
	Filter   string
}

func (x extract) String() string {
	readings := "-"
	if x.Readings {
		readings = "readings"
	}
	return fmt.Sprintf("%s %d %s %s", x.As, x.Before, readings, x.Filter)
}

func parseExtract(text string) (x extract, ok bool) {
	part := strings.SplitN(text, " ", 4)
	if len(part) < 4 {
		return x, false
	}
	n, ok := number(part[1])
	_, known := formats[part[0]]
	x = extract{part[0], n, part[2] == "readings", part[3]}
	return x, ok && known && x.String() == text
}

// facts are what records say of it.
func (x extract) facts() map[string]string {
	return map[string]string{"filter": x.Filter, "format": x.As, "before": strconv.FormatUint(x.Before, 10)}
}

// Link is where whoever is to consent sees these records.
func (x extract) Link() string {
	return link("/events", "q", x.Filter, "readings", search{readings: x.Readings}.Shown())
}

// What says what they are, as people read it.
func (x extract) What(lang string) string {
	return fmt.Sprintf(word(lang, "exportWhat"), word(lang, "export_"+x.As), x.Filter, number64(lang, int64(x.Before)))
}

// exportAskPage asks for a second person's consent.
type exportAskPage struct {
	extract
	Count     string
	Durations []int // minutes
}

// askForExport offers to ask for what a search found, with its end and its beginning fixed, so that later it finds the same.
func (s *Server) askForExport(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, f search, as string, before pglog.Place) {
	since, _ := f.window()
	if f.sought.IsZero() {
		since = time.Unix(0, 0).UTC()
	}
	fixed, err := filter.Parse(f.recorded)
	x := extract{as, before.Seq, f.readings, fixed.Within(filter.Moment{At: since.Truncate(time.Microsecond)}, filter.Moment{At: before.At.Add(time.Microsecond)}).String()}
	var n string
	if err == nil {
		n, err = s.extent(r.Context(), v.lang, admin, x)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "export-ask", exportAskPage{x, n, []int{15, 30, 60, 240}}, "")
}

// extentAtMost bounds what is counted record by record for whoever is to consent.
const extentAtMost = 1_000_000

// extent counts the records.
func (s *Server) extent(ctx context.Context, lang string, admin principal.Admin, x extract) (string, error) {
	f, err := s.lookFor(ctx, admin, x.Filter, x.Readings)
	if err != nil {
		return "", err
	}
	var n int64
	atLeast := ""
	for _, q := range f.queries {
		counts, more, err := s.cfg.Log.Times(ctx, admin.Organisation(), q, 24*time.Hour, extentAtMost)
		if err != nil {
			return "", err
		}
		for _, c := range counts {
			n += c.N
		}
		if more {
			atLeast = "≥ "
		}
	}
	return atLeast + number64(lang, n), nil
}

// exportAsked reads which records are asked for; what is not understood is ErrUnknown.
func (s *Server) exportAsked(r *http.Request, lang string, admin principal.Admin, a *access.Ask) error {
	x, ok := parseExtract(r.PostFormValue("extract"))
	f, err := filter.Parse(x.Filter)
	if !ok || err != nil || f.String() != x.Filter || f.Since.At.IsZero() || f.Until.At.IsZero() {
		return access.ErrUnknown
	}
	facts := x.facts()
	sought, recorded, err := s.cfg.Gate.Seek(r.Context(), admin.Organisation(), admin.Organisation(), f)
	if err == nil && (sought.String() != x.Filter || recorded != x.Filter) { // with references, as they were shown
		return access.ErrUnknown
	}
	var head pglog.Head
	if err == nil {
		head, _, err = s.read(r, admin, "console.export", facts)
	}
	var before pglog.Place
	if err == nil {
		before, err = s.place(r.Context(), admin, x.Before, head.Size)
	}
	if err == nil && f.Until.At.After(before.At.Add(time.Microsecond)) { // or not there
		return access.ErrUnknown
	}
	n := ""
	if err == nil {
		n, err = s.extent(r.Context(), lang, admin, x)
	}
	a.About, a.Detail, a.Facts = x.String(), n, facts
	facts["count"] = n
	return err
}

// exportApproved gives the records to which somebody else consented, once. That it begins is recorded before any of it is sent, and at
// its end what was given. It needs no more memory than a page takes, and ends soon after whoever asked may no longer.
func (s *Server) exportApproved(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	ctx, organisation := r.Context(), admin.Organisation()
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	a, err := s.cfg.Gate.Approval(ctx, organisation, id)
	x, ok := parseExtract(a.About)
	if err == nil && (a.Kind != access.ForExport || !ok) {
		err = access.ErrUnknown
	}
	var on access.Grounds
	if err == nil {
		on.Justification, err = s.cfg.Gate.Justify(ctx, organisation, a.Why)
	}
	if err == nil {
		on.Consent, err = s.cfg.Gate.Consent(ctx, admin, a.Kind, uuid.Nil, a.About)
	}
	facts := x.facts()
	if err == nil {
		err = s.cfg.Gate.ActOn(ctx, admin, policy.ExportRecords, organisation, "console.export_begun", facts, on)
	}
	var f search
	var before pglog.Place
	if err == nil {
		f, err = s.lookFor(ctx, admin, x.Filter, x.Readings)
	}
	if err == nil {
		before, err = s.place(ctx, admin, x.Before, x.Before+1)
	}
	if err == nil {
		err = s.cfg.Gate.UseUp(ctx, organisation, on.Consent) // of many requests one goes on
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ExportRecords, err)
		return
	}
	to := formats[x.As]
	to.announce(w)
	n, digest, err := s.pour(r, w, v, admin, to, f, before)
	facts["last"], facts["digest"], facts["complete"], facts[access.FactApproval] = strconv.Itoa(n), digest, strconv.FormatBool(err == nil), id.String()
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestLimit)
	defer cancel()
	if err = errors.Join(err, s.cfg.Gate.Act(record, admin, policy.ReadAuditLog, organisation, exported, facts)); err != nil {
		s.cfg.Logger.ErrorContext(ctx, "an export broke off", "error", err)
		panic(http.ErrAbortHandler) // so that what was sent does not pass for the whole
	}
}

// pour sends what a search finds, page by page, and says how many records it was and their digest.
func (s *Server) pour(r *http.Request, w http.ResponseWriter, v visit, admin principal.Admin, to format, f search, before pglog.Place) (n int, digest string, err error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context())) // whose limit is for pages; a reader who has gone takes nothing
	defer cancel()
	control, sum, checked := http.NewResponseController(w), sha256.New(), time.Now()
	send := func(b []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(tailWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		sum.Write(b)
		return nil
	}
	err = send([]byte(to.head))
	for found, broken := range s.pages(ctx, admin, f, before) {
		if err = errors.Join(err, broken); err == nil && time.Since(checked) >= tailCheck {
			err, checked = s.cfg.Desk.Stands(ctx, admin, v.token), time.Now()
		}
		var b bytes.Buffer
		if err == nil {
			err = to.write(&b, found)
		}
		if err == nil {
			err = send(b.Bytes())
		}
		select {
		case <-s.stopping:
			err = errors.Join(err, errStopping)
		default:
		}
		if err != nil {
			break
		}
		n += len(found)
	}
	return n, "sha256:" + hex.EncodeToString(sum.Sum(nil)), err
}

// writeLines gives the canonical entries, one a line, as they were signed.
func writeLines(b *bytes.Buffer, found []pglog.Found) error {
	for _, f := range found {
		b.Write(f.Body)
		b.WriteByte('\n')
	}
	return nil
}

// writeCSV gives a table for a spreadsheet.
func writeCSV(b *bytes.Buffer, found []pglog.Found) error {
	w := csv.NewWriter(b)
	var rows [][]string
	err := eachEntry(found, func(e audit.Entry) error {
		rows = append(rows, []string{strconv.FormatUint(e.Seq, 10), e.Time.Format("2006-01-02T15:04:05.000000Z"), string(e.Kind), e.Action, e.Decision, e.Actor.Kind, e.Actor.Ref, e.Subject.Kind, e.Subject.Ref,
			e.Audience, strings.Join(e.Fields, " "), strings.Join(e.Masked, " "), e.Rule, strings.Join(e.Reasons, " "), e.Policy, e.Conversation, e.Address, e.AddressNet})
		return nil
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		for i, cell := range row {
			row[i] = plainCell(cell)
		}
	}
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	return nil
}

// plainCell keeps a spreadsheet from taking a text for a formula (ASVS 1.2.10).
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r\n\x00＝＋－＠", []rune(s)[0]) {
		return "'" + s
	}
	return s
}
