package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// exportRows bounds an export: whoever needs more takes the whole log, with its proofs, on the host.
const exportRows = 20_000

// format is a form in which records are exported.
type format struct {
	name, kind string // of the file
	write      func(*bytes.Buffer, []pglog.Found) error
}

var formats = map[string]format{
	"csv":   {"records.csv", "text/csv; charset=utf-8", writeCSV},
	"jsonl": {"records.jsonl", "application/jsonl", writeLines},
	"ocsf":  {"records.ocsf.jsonl", "application/jsonl", writeOCSF},
	"cef":   {"records.cef", "text/plain; charset=utf-8", writeCEF},
}

// Formats are the forms in which what is shown can be had as a file.
func (eventsPage) Formats() []string { return []string{"csv", "jsonl", "ocsf", "cef"} }

// export gives the records that a search finds as a file. What is given is recorded, with its number of records and its digest, before
// any of it is sent.
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
	var found []pglog.Found
	if err == nil {
		found, err = s.all(r.Context(), admin, f, head)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if len(found) > exportRows {
		s.message(w, v, http.StatusRequestEntityTooLarge, "tooMuch")
		return
	}
	var b bytes.Buffer
	err = to.write(&b, found)
	sum := sha256.Sum256(b.Bytes())
	if err == nil {
		err = s.cfg.Gate.Act(r.Context(), admin, policy.ReadAuditLog, admin.Organisation(), "console.exported",
			map[string]string{"filter": f.recorded, "format": as, "last": strconv.Itoa(len(found)), "digest": "sha256:" + hex.EncodeToString(sum[:])})
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	w.Header().Set("Content-Type", to.kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+to.name+`"`)
	_, _ = w.Write(b.Bytes()) // whoever asked may have gone
}

// all finds up to one record more than an export may have, of those that were there when it was asked for.
func (s *Server) all(ctx context.Context, admin principal.Admin, f search, head pglog.Head) ([]pglog.Found, error) {
	var found []pglog.Found
	place, err := s.place(ctx, admin, max(head.Size, 1)-1, head.Size)
	if err != nil {
		return nil, err
	}
	for len(found) <= exportRows {
		page, err := s.find(ctx, admin, f, place, pglog.Place{})
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
		if len(page) < pageSize {
			break
		}
		place = page[len(page)-1].Place
	}
	return found, nil
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
	rows := [][]string{{"record", "time", "kind", "action", "decision", "actor_kind", "actor", "subject_kind", "subject", "audience", "fields", "masked", "rule", "reasons", "policy", "conversation", "address", "network"}}
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
