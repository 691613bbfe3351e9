package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

func (s *Server) decisionRoutes(r chi.Router) {
	r.Get("/policy", s.signedIn(s.policy))
	r.Get("/policy/simulate", s.signedIn(s.simulate))
	r.Get("/policy/replay", s.signedIn(s.replay))
}

// policyPage is the policy as an auditor reads it.
type policyPage struct {
	Revision  string
	Candidate string // revision of the one that is tried beside; empty without one
	Shown     string // the revision whose source is shown
	Other     bool   // it is the candidate's
	Rule      string // that a link asked for
	Missing   bool   // no rule is called so
	Kept      string // digest of the bundle whose source is shown
	Chapters  []chapter
	Shadow    policy.Report
}

type chapter struct {
	policy.Chapter
	Clauses []clause
	Open    bool
}

type clause struct {
	policy.Clause
	Marked bool
}

// maxRule is more than the longest name of a rule has.
const maxRule = 200

func (s *Server) policy(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	query := r.URL.Query()
	candidate, report := s.cfg.Policy.Candidate()
	page := policyPage{Rule: query.Get("rule"), Other: query.Get("of") == "candidate", Shadow: report}
	if len(page.Rule) > maxRule || page.Other && candidate == nil {
		s.message(w, v, http.StatusNotFound, "noPolicy")
		return
	}
	facts := map[string]string{"of": query.Get("of"), "rule": page.Rule}
	engine := s.cfg.Policy
	if page.Other {
		engine = candidate
	} else if of := query.Get("of"); of != "" { // one that somebody asked for
		var err error
		if engine, err = s.kept(r.Context(), admin, of); errors.Is(err, access.ErrUnknown) {
			s.message(w, v, http.StatusNotFound, "noPolicy")
			return
		} else if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		page.Kept = of
	}
	chapters, err := engine.Source()
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.Missing = page.Rule != ""
	for _, c := range chapters {
		shown := chapter{Chapter: c}
		for _, cl := range c.Clauses {
			marked := page.Rule != "" && cl.Rule == page.Rule
			shown.Clauses = append(shown.Clauses, clause{cl, marked})
			if marked {
				page.Missing, shown.Open = false, true
			}
		}
		page.Chapters = append(page.Chapters, shown)
	}
	if page.Missing { // what was typed and is no rule of ours may be anything
		facts["rule"] = "something else"
	}
	if facts["of"] == "" {
		delete(facts, "of")
	}
	if _, _, err := s.read(r, admin, "console.policy", facts); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.Revision, page.Shown = s.cfg.Policy.Revision(), engine.Revision()
	if candidate != nil {
		page.Candidate = candidate.Revision()
	}
	s.showPolicy(w, r, v, admin, http.StatusOK, "policy", page, link("/policy", "rule", page.Rule, "of", facts["of"]))
}

func (s *Server) showPolicy(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, name string, page any, path string) {
	who, err := s.handle(r, admin, v.lang)
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	s.renderAs(w, v, status, name, page, view{Handle: who, Path: path})
}

// simulatePage puts a recorded question, changed as one likes, to the policy and the candidate.
type simulatePage struct {
	Record   string
	Controls []knob
	Changed  []string // by name
	Answers  []answer
	Problem  string
}

// knob is one thing of a question that can be changed.
type knob struct {
	Kind    string // select, checks, check, number
	Name    string
	Label   string
	Value   string
	On      bool
	Options []option
}

type option struct {
	Value, Text string
	On          bool
}

// answer is what a policy says to a question.
type answer struct {
	Title    string
	Revision string
	Outcome, OutcomeText,
	Rule, RuleText string
	Masked, Reasons []string
}

func (s *Server) simulate(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	query := r.URL.Query()
	page := simulatePage{Record: shorten(query.Get("record"))}
	show := func(status int, problem string) {
		if problem != "" {
			page.Problem = word(v.lang, problem)
		}
		path := link("/policy/simulate", "record", page.Record)
		if query.Get("asked") != "" && status == http.StatusOK {
			path = "/policy/simulate?" + query.Encode()
		}
		s.showPolicy(w, r, v, admin, status, "simulate", page, path)
	}
	if query.Get("record") == "" {
		if _, _, err := s.read(r, admin, "console.simulate", nil); err != nil {
			s.trouble(w, r, v, err)
			return
		}
		show(http.StatusOK, "")
		return
	}
	seq, ok := number(query.Get("record"))
	if !ok {
		show(http.StatusBadRequest, "badNumberText")
		return
	}
	facts := map[string]string{"index": fmt.Sprint(seq)}
	var changes url.Values
	if query.Get("asked") != "" {
		changes = query
		// What is asked is checked before it is recorded: only what the question can hold is written down.
		if _, err := changed(policy.Input{}, changes); err != nil {
			show(http.StatusBadRequest, "simulateValues")
			return
		}
		facts["asked"] = strings.Join(summary(changes), " ")
	}
	head, first, err := s.read(r, admin, "console.simulate", facts)
	switch {
	case err != nil:
		s.trouble(w, r, v, err)
		return
	case seq >= head.Size:
		show(http.StatusNotFound, "noRecordText")
		return
	case seq < first:
		show(http.StatusGone, "pruned")
		return
	}
	recorded, err := s.question(r.Context(), admin, seq)
	if errors.Is(err, access.ErrUndecided) {
		show(http.StatusBadRequest, "simulateUndecided")
		return
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	asked := recorded
	if changes != nil {
		if asked, err = changed(recorded, changes); err != nil {
			show(http.StatusBadRequest, "simulateValues")
			return
		}
	}
	page.Controls = controls(v.lang, asked)
	before, now := formOf(recorded), formOf(asked)
	for _, c := range page.Controls {
		if !slices.Equal(before[c.Name], now[c.Name]) {
			page.Changed = append(page.Changed, c.Label)
		}
	}
	if page.Answers, err = s.answers(r.Context(), v.lang, asked); err != nil {
		s.trouble(w, r, v, err)
		return
	}
	show(http.StatusOK, "")
}

// question is what the policy was asked when a record was made.
func (s *Server) question(ctx context.Context, admin principal.Admin, seq uint64) (policy.Input, error) {
	for body, err := range s.cfg.Log.Entries(ctx, admin.Organisation(), seq, seq+1) {
		if err != nil {
			return policy.Input{}, err
		}
		e, err := audit.ParseEntry(body)
		if err != nil {
			return policy.Input{}, fmt.Errorf("the log in the database is damaged: %w", err)
		}
		return access.InputOf(e)
	}
	return policy.Input{}, fmt.Errorf("record %d is missing", seq)
}

// answers asks the policy in force and the candidate.
func (s *Server) answers(ctx context.Context, lang string, in policy.Input) ([]answer, error) {
	engines := map[string]*policy.Engine{"policyNow": s.cfg.Policy}
	if candidate, _ := s.cfg.Policy.Candidate(); candidate != nil {
		engines["policyCandidate"] = candidate
	}
	var all []answer
	for _, name := range []string{"policyNow", "policyCandidate"} {
		engine, ok := engines[name]
		if !ok {
			continue
		}
		a, err := engine.Try(ctx, in)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		one := answer{
			Title: word(lang, name), Revision: a.Revision, Outcome: string(a.Outcome), OutcomeText: word(lang, "outcome_"+string(a.Outcome)),
			Masked: fieldNames(lang, a.Masked),
		}
		if a.Outcome != policy.Deny {
			one.Rule, one.RuleText = a.Rule, word(lang, "rule_"+a.Rule)
		}
		for _, code := range a.Reasons {
			one.Reasons = append(one.Reasons, cmp.Or(word(lang, "reason_"+code), code))
		}
		all = append(all, one)
	}
	return all, nil
}

// The members of a question that take one value of a closed list, several, or a truth.
var (
	oneOf   = []string{"actor.kind", "actor.address", "actor.job", "audience", "subject.kind", "conversation.state", "conversation.actor_is", "conversation.subject_is"}
	someOf  = []string{"actor.roles", "fields"}
	truths  = []string{"organisation.share_visitor_email", "organisation.create_agents", "organisation.name_in_channel", "justification"}
	numbers = []string{"actor.recent", "factor.password", "factor.totp", "factor.webauthn", "approval.expires_in_seconds"}
)

// oneText is the member of a question that holds one value of a closed list.
func oneText(in *policy.Input, name string) *string {
	switch name {
	case "actor.kind":
		return &in.Actor.Kind
	case "actor.address":
		return &in.Actor.Address
	case "actor.job":
		return &in.Actor.Job
	case "audience":
		return &in.Audience
	case "subject.kind":
		return &in.Subject.Kind
	case "conversation.state":
		return &in.Conversation.State
	case "conversation.actor_is":
		return &in.Conversation.ActorIs
	default:
		return &in.Conversation.SubjectIs
	}
}

func someTexts(in *policy.Input, name string) *[]string {
	if name == "fields" {
		return &in.Fields
	}
	return &in.Actor.Roles
}

func truth(in *policy.Input, name string) *bool {
	switch name {
	case "organisation.share_visitor_email":
		return &in.Organisation.ShareVisitorEmail
	case "organisation.create_agents":
		return &in.Organisation.CreateAgents
	case "organisation.name_in_channel":
		return &in.Organisation.NameInChannel
	default:
		return &in.Justification
	}
}

// madeUp is the reference of somebody or something of whom a record does not speak.
const madeUp = "madeup"

// otherOrganisation is the actor's, where a question has him come from another than the subject's.
const otherOrganisation = "another"

// formOf is a question as the form has it.
func formOf(in policy.Input) url.Values {
	f := url.Values{"purpose": {string(in.Purpose)}}
	for _, name := range oneOf {
		f.Set(name, *oneText(&in, name))
	}
	for _, name := range someOf {
		f[name] = slices.Sorted(slices.Values(*someTexts(&in, name)))
	}
	for _, name := range truths {
		if *truth(&in, name) {
			f.Set(name, "on")
		}
	}
	f.Set("actor.recent", strconv.Itoa(in.Actor.Recent))
	f.Set("approval.expires_in_seconds", strconv.Itoa(in.Approval.ExpiresInSeconds))
	for _, factor := range in.Actor.Factors {
		f.Set("factor."+factor.Method, strconv.Itoa(factor.AgeSeconds))
	}
	f.Set("actor.organisation", "same")
	if in.Actor.Organisation != in.Subject.Organisation {
		f.Set("actor.organisation", otherOrganisation)
	}
	f.Set("approval.by", "nobody")
	switch {
	case in.Approval.By == "":
	case in.Approval.By == in.Actor.Ref:
		f.Set("approval.by", "himself")
	default:
		f.Set("approval.by", "somebody")
	}
	return f
}

var errValue = errors.New("a value that a question cannot have")

// changed is a question with what the form says in place of what was recorded. References stay those of the record.
func changed(in policy.Input, form url.Values) (policy.Input, error) {
	one := func(name string, allowed []string) (string, error) {
		if v := form.Get(name); slices.Contains(allowed, v) {
			return v, nil
		}
		return "", errValue
	}
	var purposes []string
	for _, p := range policy.Purposes() {
		purposes = append(purposes, string(p))
	}
	purpose, err := one("purpose", purposes)
	failed := err
	in.Purpose = policy.Purpose(purpose)
	for _, name := range oneOf {
		*oneText(&in, name), err = one(name, policy.Values(name))
		failed = cmp.Or(failed, err)
	}
	for _, name := range someOf {
		some := []string{}
		for _, v := range form[name] {
			if !slices.Contains(policy.Values(name), v) {
				failed = errValue
			}
			some = append(some, v)
		}
		slices.Sort(some)
		*someTexts(&in, name) = slices.Compact(some)
	}
	for _, name := range truths {
		*truth(&in, name) = form.Get(name) != ""
	}
	in.Actor.Factors = nil
	for _, name := range numbers {
		text := form.Get(name)
		if text == "" {
			text = "0"
			if strings.HasPrefix(name, "factor.") {
				continue // not given
			}
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			failed = errValue
		}
		switch method, factor := strings.CutPrefix(name, "factor."); {
		case factor:
			in.Actor.Factors = append(in.Actor.Factors, policy.Factor{Method: method, AgeSeconds: int(n)})
		case name == "actor.recent":
			in.Actor.Recent = int(n)
		default:
			in.Approval.ExpiresInSeconds = int(n)
		}
	}
	switch { // the record may have spoken of nobody
	case in.Subject.Kind == "":
		in.Subject.Ref = ""
	case in.Subject.Kind == "conversation":
		in.Conversation.Ref = cmp.Or(in.Conversation.Ref, madeUp)
		in.Subject.Ref = in.Conversation.Ref
	default:
		in.Subject.Ref = cmp.Or(in.Subject.Ref, madeUp)
	}
	where, err := one("actor.organisation", []string{"same", otherOrganisation})
	failed = cmp.Or(failed, err)
	switch recorded := in.Actor.Organisation; {
	case where == "same":
		in.Actor.Organisation = in.Subject.Organisation
	case recorded == in.Subject.Organisation:
		in.Actor.Organisation = otherOrganisation
	}
	by, err := one("approval.by", []string{"nobody", "himself", "somebody"})
	failed = cmp.Or(failed, err)
	switch by {
	case "nobody":
		in.Approval = policy.Approval{}
	case "himself":
		in.Approval.By, in.Approval.Actor, in.Approval.Subject = in.Actor.Ref, in.Actor.Ref, in.Subject.Ref
	default:
		if in.Approval.By == "" || in.Approval.By == in.Actor.Ref {
			in.Approval.By, in.Approval.Actor, in.Approval.Subject = madeUp, in.Actor.Ref, in.Subject.Ref
		}
	}
	return in, failed
}

// summary is what was asked, for the record; every value has been checked.
func summary(form url.Values) []string {
	var all []string
	for _, name := range slices.Concat([]string{"purpose", "actor.organisation", "approval.by"}, oneOf, someOf, truths, numbers) {
		if v := strings.Join(form[name], ","); v != "" {
			if slices.Contains(truths, name) {
				v = "true"
			}
			all = append(all, name+"="+v)
		}
	}
	return all
}

// controls are the form in which a question can be changed.
func controls(lang string, in policy.Input) []knob {
	form := formOf(in)
	label := func(name string) string {
		return cmp.Or(word(lang, "fact_"+name), word(lang, "ask_"+name), name)
	}
	text := func(name, value string) string {
		prefix := map[string]string{"actor.kind": "kind_", "audience": "audience_", "subject.kind": "kind_", "fields": "field_"}[name]
		known := ""
		if prefix != "" {
			known = word(lang, prefix+value)
		}
		return cmp.Or(known, word(lang, "ask_"+name+"."+value), value, word(lang, "ask_none"))
	}
	choose := func(kind, name string, values []string) knob {
		c := knob{Kind: kind, Name: name, Label: label(name)}
		for _, v := range values {
			c.Options = append(c.Options, option{v, text(name, v), slices.Contains(form[name], v)})
		}
		return c
	}
	purpose := knob{Kind: "select", Name: "purpose", Label: label("purpose")}
	for _, p := range policy.Purposes() {
		purpose.Options = append(purpose.Options, option{string(p), p.Title(lang), p == in.Purpose})
	}
	all := []knob{purpose}
	for _, name := range oneOf {
		all = append(all, choose("select", name, policy.Values(name)))
	}
	all = append(all, choose("select", "actor.organisation", []string{"same", otherOrganisation}), choose("select", "approval.by", []string{"nobody", "somebody", "himself"}))
	for _, name := range numbers {
		all = append(all, knob{Kind: "number", Name: name, Label: label(name), Value: form.Get(name)})
	}
	for _, name := range someOf {
		all = append(all, choose("checks", name, policy.Values(name)))
	}
	for _, name := range truths {
		all = append(all, knob{Kind: "check", Name: name, Label: label(name), On: form.Get(name) != ""})
	}
	return all
}

// replayPage asks the candidate what the policy was asked of late.
type replayPage struct {
	Candidate            string
	Asked, Flipped, Acts int
	From                 uint64 // the oldest record that was asked again
	More                 bool   // there are older ones
	Flips                []flip
	Listed               bool // all flips are listed
	Begun                time.Time
}

// flip is a record to whose question the candidate has another answer.
type flip struct {
	Seq       uint64
	Time      time.Time
	What      string
	Now, Then answer
}

const (
	replayRecords = 20_000 // at most, the newest
	replayTime    = 8 * time.Second
	replayFlips   = 200 // listed
	replayAtOnce  = 1000
)

func (s *Server) replay(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	candidate, _ := s.cfg.Policy.Candidate()
	var page replayPage
	if candidate != nil {
		page.Candidate = candidate.Revision()
	}
	head, first, err := s.read(r, admin, "console.replay", map[string]string{"other": page.Candidate})
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if candidate == nil {
		s.showPolicy(w, r, v, admin, http.StatusOK, "replay", page, "/policy/replay")
		return
	}
	until := s.cfg.Now().Add(replayTime)
	least := max(first, head.Size-min(head.Size, replayRecords))
	page.From = head.Size
	for page.From > least && s.cfg.Now().Before(until) {
		from := max(least, page.From-min(page.From, replayAtOnce))
		var flips []flip
		for body, err := range s.cfg.Log.Entries(r.Context(), admin.Organisation(), from, page.From) {
			var e audit.Entry
			if err == nil {
				e, err = audit.ParseEntry(body)
			}
			if err != nil {
				s.trouble(w, r, v, err)
				return
			}
			in, err := access.InputOf(e)
			if errors.Is(err, access.ErrUndecided) {
				page.Acts++
				continue
			}
			if err != nil {
				s.trouble(w, r, v, err)
				return
			}
			then, err := candidate.Try(r.Context(), in)
			if err != nil && r.Context().Err() != nil {
				s.trouble(w, r, v, err)
				return
			}
			page.Asked++
			was := policy.Answer{Outcome: policy.Outcome(e.Decision), Rule: e.Rule, Masked: e.Masked, Reasons: e.Reasons}
			if !was.Flips(then) {
				continue
			}
			flips = append(flips, flip{e.Seq, e.Time, what(v.lang, e.Action), brief(v.lang, was), brief(v.lang, then)})
		}
		page.From, page.Flipped = from, page.Flipped+len(flips)
		slices.Reverse(flips)
		page.Flips = append(page.Flips, flips[:min(len(flips), replayFlips-len(page.Flips))]...)
	}
	page.More, page.Listed = page.From > first, page.Flipped == len(page.Flips)
	s.showPolicy(w, r, v, admin, http.StatusOK, "replay", page, "/policy/replay")
}

// brief is an answer in a list.
func brief(lang string, a policy.Answer) answer {
	b := answer{Outcome: string(a.Outcome), OutcomeText: word(lang, "outcome_"+string(a.Outcome)), Masked: fieldNames(lang, a.Masked)}
	if a.Outcome != policy.Deny {
		b.Rule = a.Rule
	}
	for _, code := range a.Reasons {
		b.Reasons = append(b.Reasons, cmp.Or(word(lang, "reason_"+code), code))
	}
	return b
}
