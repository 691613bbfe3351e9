package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Outside is what is known of the logs outside the database.
type Outside struct {
	Witness string        // by name; empty without one
	Require bool          // nothing is released of a log that it has not seen for MaxAge
	MaxAge  time.Duration // of its cosignature
}

func (s *Server) integrityRoutes(r chi.Router) {
	r.Get("/integrity", s.signedIn(s.integrity))
	r.Post("/integrity/verify", s.signedIn(s.beginVerify))
	r.Get("/integrity/verify", s.signedIn(s.verifying))
	r.Get("/integrity/proof", s.signedIn(s.proof))
	r.Get("/integrity/consistency", s.signedIn(s.consistency))
}

// integrityPage says where the log stands, inside and outside the database, and how anybody can check it.
type integrityPage struct {
	Size         uint64
	Origin, Root string
	Key          string // the line by which outsiders check checkpoints
	Checkpoint   string // as it was signed
	First        uint64 // the first record that is kept
	Last         age    // of the last record
	Places       []place
	Witness      string
	Require      bool
	MaxAge       time.Duration
	Verified     *verified // nil if it never was
	Running      bool
	From, To     string // as they were typed
	Problem      string
	CLI          []command
}

// place is one destination of what is published.
type place struct {
	Where       string
	Records     uint64
	Outcome     string // as a chip shows it
	OutcomeText string
	Problem     string
	Cosigned    age
}

// age is a moment and how long ago it was.
type age struct {
	Time time.Time
	Text string
}

func (s *Server) age(lang string, t time.Time) age {
	if t.IsZero() {
		return age{}
	}
	return age{t.UTC(), duration(lang, s.cfg.Now().Sub(t))}
}

// duration is a span in the unit that suits it.
func duration(lang string, d time.Duration) string {
	d = max(d, 0)
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "days"}, {time.Hour, "hours"}, {time.Minute, "minutes"}, {time.Second, "seconds"}} {
		if d >= 2*u.unit || u.unit == time.Second {
			return fmt.Sprintf(word(lang, u.name), d/u.unit)
		}
	}
	return ""
}

// command is what an outsider types, and what for.
type command struct{ For, Line string }

// verified is the outcome of a verification, as its record says it.
type verified struct {
	Seq         uint64
	At          age
	From, To    string
	Took        string
	Faults      string
	Outcome     string
	OutcomeText string
}

// The outcomes of a verification, as records name them.
const (
	verifiedGood   = "good"
	verifiedFaults = "faults"
	verifiedFailed = "failed" // it could not be told
)

func (s *Server) integrity(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	s.showIntegrity(w, r, v, admin, http.StatusOK, integrityPage{})
}

// showIntegrity shows the page with what was typed and what is wrong with it.
func (s *Server) showIntegrity(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, page integrityPage) {
	head, first, err := s.read(r, admin, "console.integrity", nil)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	checkpoint, err := s.cfg.Log.Checkpoint(head)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if page.Key, err = s.cfg.Log.VerifierKey(head.Origin); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	for body, err := range s.cfg.Log.Entries(r.Context(), admin.Organisation(), head.Size-1, head.Size) {
		var e audit.Entry
		if err == nil {
			e, err = audit.ParseEntry(body)
		}
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		page.Last = s.age(v.lang, e.Time)
	}
	page.Size, page.Origin, page.Root, page.Checkpoint, page.First = head.Size, head.Origin, checkpoint.Root.String(), string(head.Checkpoint), first
	page.Witness, page.Require, page.MaxAge = s.cfg.Outside.Witness, s.cfg.Outside.Require, s.cfg.Outside.MaxAge
	page.Places = s.places(v.lang, admin.Organisation(), head)
	if page.Verified, err = s.lastVerified(r.Context(), v.lang, admin.Organisation()); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	_, page.Running = s.verifier.of(admin.Organisation())
	page.CLI = commands(v.lang, page.Key)
	name, err := s.handle(r, admin, v.lang)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.renderAs(w, v, status, "integrity", page, view{Handle: name, Path: "/integrity"})
}

func (s *Server) places(lang string, organisation uuid.UUID, head pglog.Head) []place {
	var all []place
	for _, p := range s.cfg.Publishers.Status(organisation, head.Origin) {
		at := place{Where: p.Where, Records: p.Published, Outcome: "allow", Cosigned: s.age(lang, p.Cosigned)}
		// The record of this very look is seldom published yet, and does not count.
		switch behind := head.Size - 1 - min(p.Published, head.Size-1); {
		case p.Problem != nil:
			at.Outcome, at.Problem = "deny", p.Problem.Error()
			at.OutcomeText = word(lang, "publishedProblem")
		case !p.Any:
			at.Outcome, at.OutcomeText = "masked", word(lang, "publishedNothing")
		case behind > 0:
			at.Outcome, at.OutcomeText = "masked", fmt.Sprintf(word(lang, "publishedBehind"), behind)
		default:
			at.OutcomeText = word(lang, "publishedAll")
		}
		all = append(all, at)
	}
	return all
}

// remembered is how far back a verification is looked for.
const remembered = 400 * 24 * time.Hour

func (s *Server) lastVerified(ctx context.Context, lang string, organisation uuid.UUID) (*verified, error) {
	found, err := s.cfg.Log.Search(ctx, organisation, pglog.Query{Action: "console.verified", Since: s.cfg.Now().Add(-remembered), Limit: 1})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	e, err := audit.ParseEntry(found[0].Body)
	if err != nil {
		return nil, fmt.Errorf("the log in the database is damaged: %w", err)
	}
	took, _ := strconv.ParseInt(e.Facts["milliseconds"], 10, 64)
	last := &verified{
		Seq: e.Seq, At: s.age(lang, e.Time), From: e.Facts["from"], To: e.Facts["to"], Faults: e.Facts["faults"], Outcome: "deny",
		Took: strconv.FormatFloat(float64(took)/1000, 'f', 1, 64),
	}
	if e.Facts["result"] == verifiedGood {
		last.Outcome = "allow"
	}
	last.OutcomeText = word(lang, "verified_"+e.Facts["result"])
	return last, nil
}

// commands are those of somebody outside, word for word.
func commands(lang, key string) []command {
	quoted := "'" + key + "'"
	return []command{
		{word(lang, "cliWhole"), "counterfoil-verify ./export --key " + quoted},
		{word(lang, "cliSince"), "counterfoil-verify ./export --key " + quoted + " --since ./checkpoint-kept-before"},
		{word(lang, "cliFsck"), "fsck --storage_url=file://$PWD/export/ --public_key=./export/key.pub --ui=false -N 4"},
		{word(lang, "cliRecord"), "tail -n +2 record-17.tlog-proof > record-17.json.spicy && spicy -verify " + quoted + " record-17.json"},
		{word(lang, "cliConsistency"), "curl --data-binary @update-17-42 https://witness.example/add-checkpoint"},
	}
}

// verifier runs verifications, one at a time.
type verifier struct {
	queue chan *verifyRun

	mu   sync.Mutex
	runs map[uuid.UUID]*verifyRun // waiting or running
}

// verifyRun is one verification.
type verifyRun struct {
	admin       principal.Admin
	from, to    uint64
	whole       bool // the head, the columns and what is known outside as well
	done, total uint64
}

func newVerifier() *verifier {
	return &verifier{queue: make(chan *verifyRun, 16), runs: make(map[uuid.UUID]*verifyRun)}
}

// of gives a copy of what runs for an organisation.
func (v *verifier) of(organisation uuid.UUID) (verifyRun, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	run, ok := v.runs[organisation]
	if !ok {
		return verifyRun{}, false
	}
	return *run, true
}

// begin queues a run; false says that one of the organisation is not over yet, or too many wait.
func (v *verifier) begin(run *verifyRun) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, busy := v.runs[run.admin.Organisation()]; busy {
		return false
	}
	select {
	case v.queue <- run:
		v.runs[run.admin.Organisation()] = run
		return true
	default:
		return false
	}
}

// verifyLimit is how long one verification may take.
const verifyLimit = time.Hour

// Run verifies what is asked for until ctx ends.
func (s *Server) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case run := <-s.verifier.queue:
			if err := s.verify(ctx, run); err != nil && ctx.Err() == nil {
				s.cfg.Logger.ErrorContext(ctx, "verify the log", "organisation", run.admin.Organisation(), "error", err)
			}
			s.verifier.mu.Lock()
			delete(s.verifier.runs, run.admin.Organisation())
			s.verifier.mu.Unlock()
		}
	}
}

// verify checks the records of a run, and records what came out.
func (s *Server) verify(ctx context.Context, run *verifyRun) error {
	ctx, cancel := context.WithTimeout(ctx, verifyLimit)
	defer cancel()
	organisation, begun := run.admin.Organisation(), s.cfg.Now()
	progress := func(done, total uint64) {
		s.verifier.mu.Lock()
		defer s.verifier.mu.Unlock()
		run.done, run.total = done, total
	}
	var faults []audit.Fault
	var err error
	if run.whole {
		var report audit.Report
		report, err = s.cfg.Log.Verify(ctx, organisation, audit.Options{Progress: progress})
		faults = report.Faults
	} else {
		faults, err = s.cfg.Log.VerifyRange(ctx, organisation, run.from, run.to, progress)
	}
	result := verifiedGood
	switch {
	case err != nil:
		result = verifiedFailed
	case len(faults) > 0:
		result = verifiedFaults
	}
	facts := map[string]string{
		"from": fmt.Sprint(run.from), "to": fmt.Sprint(run.to), "whole": fmt.Sprint(run.whole), "result": result, "faults": fmt.Sprint(len(faults)),
		"milliseconds": fmt.Sprint(s.cfg.Now().Sub(begun).Milliseconds()),
	}
	for _, f := range faults {
		facts["first_fault"] = string(f.Kind)
		s.cfg.Logger.ErrorContext(ctx, "the log in the database is not as it was signed", "organisation", organisation, "kind", f.Kind, "record", f.Index, "what", f.Text)
		break
	}
	recorded := s.cfg.Gate.Act(context.WithoutCancel(ctx), run.admin, policy.ReadAuditLog, organisation, "console.verified", facts)
	return errors.Join(err, recorded)
}

func (s *Server) beginVerify(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	from, to := r.PostFormValue("from"), r.PostFormValue("to")
	facts := map[string]string{}
	bad := func(text string) {
		s.showIntegrity(w, r, v, admin, http.StatusBadRequest, integrityPage{From: shorten(from), To: shorten(to), Problem: word(v.lang, text)})
	}
	run := &verifyRun{admin: admin, whole: from == "" && to == ""}
	for text, n := range map[string]*uint64{from: &run.from, to: &run.to} {
		var ok bool
		if *n, ok = number(text); !ok && text != "" {
			bad("verifyNumbers")
			return
		}
	}
	facts["from"], facts["to"] = fmt.Sprint(run.from), fmt.Sprint(run.to)
	head, first, err := s.read(r, admin, "console.verify", facts)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if from == "" {
		run.from = first
	}
	if to == "" {
		run.to = head.Size
	} else {
		run.to++ // both ends are meant
	}
	switch {
	case run.from < first:
		bad("pruned")
	case run.from >= run.to || run.to > head.Size:
		bad("verifyRange")
	case !s.verifier.begin(run):
		bad("verifyBusy")
	default:
		http.Redirect(w, r, "/integrity/verify", http.StatusSeeOther)
	}
}

// shorten keeps what is shown back of what was typed within bounds.
func shorten(s string) string {
	if len(s) > 20 {
		return ""
	}
	return s
}

// verifyingPage says how far a verification is.
type verifyingPage struct {
	Done, Total uint64
}

// verifying asks to be asked again, without a script, until the verification is over. It reads nothing of the log.
func (s *Server) verifying(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	run, ok := s.verifier.of(admin.Organisation())
	if !ok {
		http.Redirect(w, r, "/integrity", http.StatusSeeOther)
		return
	}
	name, err := s.handle(r, admin, v.lang)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	w.Header().Set("Refresh", "1")
	s.renderAs(w, v, http.StatusOK, "verifying", verifyingPage{run.done, max(run.total, run.to-run.from)}, view{Handle: name, Path: "/integrity/verify"})
}

// proof hands out the inclusion proof of a record (C2SP tlog-proof), or the record's exact bytes, which it is a proof of.
func (s *Server) proof(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	text, as := r.URL.Query().Get("record"), r.URL.Query().Get("as")
	index, ok := number(text)
	if !ok || as != "proof" && as != "record" {
		s.message(w, v, http.StatusBadRequest, "badNumber")
		return
	}
	head, first, err := s.read(r, admin, "console.proof", map[string]string{"index": text, "as": as})
	switch {
	case err != nil:
		s.trouble(w, r, v, err)
		return
	case index >= head.Size:
		s.message(w, v, http.StatusNotFound, "noRecord")
		return
	case index < first:
		s.message(w, v, http.StatusGone, "pruned")
		return
	}
	entry, proof, err := s.cfg.Log.Proof(r.Context(), admin.Organisation(), index)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if as == "record" {
		download(w, "application/json", fmt.Sprintf("record-%d.json", index), entry)
		return
	}
	var out bytes.Buffer
	if err := audit.WriteProof(&out, proof); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	download(w, "text/plain; charset=utf-8", fmt.Sprintf("record-%d.tlog-proof", index), out.Bytes())
}

// consistency hands out the proof that the log of some records continues that of fewer, in the form that a witness takes.
func (s *Server) consistency(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	query := r.URL.Query()
	old, okOld := number(query.Get("old"))
	size, okNew := number(query.Get("new"))
	present := query.Get("new") == ""
	if !okOld || !okNew && !present {
		s.message(w, v, http.StatusBadRequest, "badSizes")
		return
	}
	head, _, err := s.read(r, admin, "console.consistency", map[string]string{"old": query.Get("old"), "new": query.Get("new")})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	signed := head.Checkpoint
	switch {
	case present || size == head.Size:
		size = head.Size
	case size > head.Size:
		s.message(w, v, http.StatusBadRequest, "badSizes")
		return
	default:
		if signed, err = s.cfg.Publishers.Kept(r.Context(), head.Origin, size); err != nil {
			s.trouble(w, r, v, err)
			return
		}
		if signed == nil {
			s.message(w, v, http.StatusNotFound, "noCheckpoint")
			return
		}
	}
	if old > size {
		s.message(w, v, http.StatusBadRequest, "badSizes")
		return
	}
	now, err := s.cfg.Log.Checkpoint(pglog.Head{Origin: head.Origin, Checkpoint: signed})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	_, proof, err := s.cfg.Log.Consistency(r.Context(), admin.Organisation(), old, now)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	var out bytes.Buffer
	if err := audit.WriteUpdate(&out, old, proof, signed); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	download(w, "text/plain; charset=utf-8", fmt.Sprintf("update-%d-%d", old, size), out.Bytes())
}

// download hands out a file under a name of ours.
func download(w http.ResponseWriter, kind, name string, content []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", "attachment; filename="+url.PathEscape(name))
	_, _ = w.Write(content) // whoever asked may have gone
}
