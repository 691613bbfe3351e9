package alerts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are chosen by administrators, on hosts that may have none
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// The kinds of rules.
const (
	FirstPair    = "first_pair"    // an actor is shown somebody for the first time
	Volume       = "volume"        // more in an hour than he himself is used to
	OffHours     = "off_hours"     // outside of the hours of work
	NewAddress   = "new_address"   // an administrator comes from where he never came from
	ManySubjects = "many_subjects" // many people within a short time
	NoChat       = "no_chat"       // shown without an open conversation
	Canary       = "canary"        // somebody who does not exist was looked for
	BreakGlass   = "break_glass"   // an emergency was used
	Denials      = "denials"       // many refusals within a short time
	Count        = "count"         // so many records of a search within a time
)

// BuiltIn are the kinds of which every organisation has one rule, in the order in which they are shown.
func BuiltIn() []string {
	return []string{FirstPair, Volume, OffHours, NewAddress, ManySubjects, NoChat, Canary, BreakGlass, Denials}
}

// ErrTerms refuses terms that make no rule.
var ErrTerms = errors.New("these terms make no rule")

// ErrNoRule says that there is no such rule.
var ErrNoRule = errors.New("there is no such rule")

// Terms are the thresholds of a rule; each kind has its own.
type Terms struct {
	Filter   string   `json:"filter,omitempty"`   // with references in place of people
	AtLeast  int      `json:"at_least,omitempty"` // from which number on
	Minutes  int      `json:"minutes,omitempty"`  // within which
	Days     int      `json:"days,omitempty"`     // of the past that count as known
	From     string   `json:"from,omitempty"`     // beginning of the hours of work, such as 07:00
	To       string   `json:"to,omitempty"`
	Zone     string   `json:"zone,omitempty"` // such as Europe/Paris
	Weekends bool     `json:"weekends,omitempty"`
	Actors   []string `json:"actors,omitempty"`   // the kinds of actors it is about
	Subjects []string `json:"subjects,omitempty"` // references of planted people
}

// needs says which terms a kind has, besides actors.
var needs = map[string][]string{
	FirstPair: {"days"}, Volume: {"at_least"}, OffHours: {"hours"}, NewAddress: {"days"}, ManySubjects: {"at_least", "minutes"}, NoChat: {}, Canary: {"subjects"}, BreakGlass: {},
	Denials: {"at_least", "minutes"}, Count: {"filter", "at_least", "minutes"},
}

// Needs reports whether rules of a kind have this term: filter, at_least, minutes, days, hours, subjects or actors.
func Needs(kind, term string) bool {
	if term == "actors" {
		return kind != Canary && kind != BreakGlass && kind != Count && kind != NewAddress
	}
	return slices.Contains(needs[kind], term)
}

// ActorKinds are the kinds of actors that a rule may be about.
func ActorKinds() []string {
	return []string{"agent", "admin", "operator", "client", "visitor", "channel"}
}

// usual are the terms of a built-in rule that nobody changed, and whether it is on.
func usual(kind string) (Terms, bool) {
	people := []string{"agent", "admin", "operator", "client"}
	switch kind {
	case FirstPair:
		return Terms{Days: 90, Actors: []string{"admin", "operator"}}, true
	case Volume:
		return Terms{AtLeast: 20, Actors: people}, true
	case OffHours:
		return Terms{From: "07:00", To: "19:00", Zone: "UTC", Actors: []string{"agent", "admin", "operator"}}, false
	case NewAddress:
		return Terms{Days: 90}, true
	case ManySubjects:
		return Terms{AtLeast: 30, Minutes: 10, Actors: people}, true
	case NoChat:
		return Terms{Actors: []string{"agent", "admin"}}, true
	case Denials:
		return Terms{AtLeast: 10, Minutes: 10, Actors: people}, true
	}
	return Terms{}, true
}

// Rule is a rule as it stands.
type Rule struct {
	ID       uuid.UUID
	Kind     string
	Label    string // of a rule that an administrator made
	Version  int    // 0 while nobody changed it
	On       bool
	Terms    Terms
	Silenced *time.Time  // until when nobody is told
	By       audit.Party // who silenced it
	Changed  time.Time
}

// Quiet reports whether it is silenced.
func (r Rule) Quiet(now time.Time) bool { return r.Silenced != nil && now.Before(*r.Silenced) }

// builtInID is the id of a built-in rule of an organisation.
func builtInID(organisation uuid.UUID, kind string) uuid.UUID {
	return uuid.NewSHA1(space, []byte(organisation.String()+" "+kind))
}

const (
	sqlRules = `select rule_id, kind, version, label, enabled, terms, silenced_until, coalesce(silenced_by, ''), changed_at from access.alert_rules($1)`
	sqlPut   = "select access.put_alert_rule($1, $2, $3, $4, $5, $6, $7)"
	sqlHush  = "select access.silence_alert_rule($1, $2, $3, $4, $5, $6, $7)"
	sqlDrop  = "select access.remove_alert_rule($1, $2)"
)

// Rules gives the rules of an organisation: the built-in ones, then its own.
func (w *Watch) Rules(ctx context.Context, organisation uuid.UUID) ([]Rule, error) {
	rows, err := w.cfg.Pool.Query(ctx, sqlRules, organisation)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	kept, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Rule, err error) {
		var label []byte
		var by string
		defer func() { r.By = heard(by) }()
		if err = row.Scan(&r.ID, &r.Kind, &r.Version, &label, &r.On, &r.Terms, &r.Silenced, &by, &r.Changed); err == nil && label != nil {
			label, err = w.cfg.Ring.UnwrapSecret(keyring.Label, organisation, r.ID, label)
			r.Label = string(label)
		}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	var all []Rule
	for _, kind := range BuiltIn() {
		id := builtInID(organisation, kind)
		if i := slices.IndexFunc(kept, func(r Rule) bool { return r.ID == id }); i >= 0 {
			all = append(all, kept[i])
			kept = slices.Delete(kept, i, i+1)
			continue
		}
		terms, on := usual(kind)
		all = append(all, Rule{ID: id, Kind: kind, On: on, Terms: terms})
	}
	return append(all, kept...), nil
}

// Rule gives one rule.
func (w *Watch) Rule(ctx context.Context, organisation, id uuid.UUID) (Rule, error) {
	all, err := w.Rules(ctx, organisation)
	if err != nil {
		return Rule{}, err
	}
	if i := slices.IndexFunc(all, func(r Rule) bool { return r.ID == id }); i >= 0 {
		return all[i], nil
	}
	return Rule{}, ErrNoRule
}

// Check brings a rule into the form in which it is kept. Whatever is wrong with its filter is a *filter.Error; else it is ErrTerms.
func (w *Watch) Check(ctx context.Context, organisation uuid.UUID, r Rule) (Rule, error) {
	if _, ok := needs[r.Kind]; !ok {
		return r, ErrTerms
	}
	t := Terms{}
	for _, term := range append(slices.Clone(needs[r.Kind]), "actors") {
		switch {
		case !Needs(r.Kind, term):
		case term == "at_least":
			t.AtLeast = r.Terms.AtLeast
		case term == "minutes":
			t.Minutes = r.Terms.Minutes
		case term == "days":
			t.Days = r.Terms.Days
		case term == "hours":
			t.From, t.To, t.Zone, t.Weekends = r.Terms.From, r.Terms.To, r.Terms.Zone, r.Terms.Weekends
		case term == "subjects":
			t.Subjects = r.Terms.Subjects
		case term == "filter":
			t.Filter = r.Terms.Filter
		case term == "actors":
			t.Actors = r.Terms.Actors
		}
	}
	r.Terms = t
	fits := func(term string, n, least, most int) bool { return !Needs(r.Kind, term) || n >= least && n <= most }
	if !fits("at_least", t.AtLeast, 1, pageMost) || !fits("minutes", t.Minutes, 1, 24*60) || !fits("days", t.Days, 1, 365) {
		return r, ErrTerms
	}
	if Needs(r.Kind, "hours") {
		from, okFrom := clock(t.From)
		to, okTo := clock(t.To)
		if _, err := time.LoadLocation(t.Zone); err != nil || t.Zone == "" || t.Zone == "Local" || !okFrom || !okTo || from >= to {
			return r, ErrTerms
		}
	}
	if Needs(r.Kind, "actors") && (len(t.Actors) == 0 || slices.ContainsFunc(t.Actors, func(k string) bool { return !slices.Contains(ActorKinds(), k) })) {
		return r, ErrTerms
	}
	for i, s := range t.Subjects {
		ref, err := w.reference(ctx, organisation, s)
		if err != nil {
			return r, err
		}
		t.Subjects[i] = ref
	}
	if Needs(r.Kind, "subjects") && r.On && len(t.Subjects) > maxAtOnce {
		return r, ErrTerms
	}
	if r.Kind == Count {
		f, err := filter.Parse(t.Filter)
		if err != nil {
			return r, err
		}
		if f.Since != (filter.Moment{}) || f.Until != (filter.Moment{}) {
			return r, ErrTerms // the time is that of the rule
		}
		sought, _, err := w.cfg.Gate.Seek(ctx, organisation, organisation, f)
		if err != nil {
			return r, err
		}
		r.Terms.Filter = sought.String()
		r.Label = strings.TrimSpace(r.Label)
		if n := utf8.RuneCountInString(r.Label); n < 1 || n > 60 || !utf8.ValidString(r.Label) || strings.ContainsFunc(r.Label, unicode.IsControl) {
			return r, ErrTerms
		}
	}
	return r, nil
}

// reference is whom a handle or reference of a planted person stands for.
func (w *Watch) reference(ctx context.Context, organisation uuid.UUID, handle string) (string, error) {
	f, err := filter.Parse("subject:" + strconv.Quote(handle))
	if err != nil {
		return "", err
	}
	sought, _, err := w.cfg.Gate.Seek(ctx, organisation, organisation, f)
	if err != nil {
		return "", err
	}
	queries, err := access.Queries(sought, w.cfg.Now())
	if err != nil || len(queries) != 1 || queries[0].Subject == "" {
		return "", ErrTerms
	}
	return queries[0].Subject, nil
}

// clock reads a time of day.
func clock(s string) (minutes int, ok bool) {
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil
}

// Put keeps a rule that was checked, once policy lets somebody, on record.
func (w *Watch) Put(ctx context.Context, who principal.Principal, r Rule) error {
	organisation := who.Organisation()
	if r.ID == uuid.Nil {
		r.ID = uuid.New()
	}
	r, err := w.Check(ctx, organisation, r)
	if err != nil {
		return err
	}
	by, err := w.cfg.Gate.Actor(ctx, who)
	if err != nil {
		return err
	}
	var label []byte
	if r.Kind == Count {
		if label, err = w.cfg.Ring.WrapSecret(keyring.Label, organisation, r.ID, []byte(r.Label)); err != nil {
			return err
		}
	}
	facts := map[string]string{"rule": r.ID.String(), "rule.kind": r.Kind, "rule.on": strconv.FormatBool(r.On), "rule.at_least": number(r.Terms.AtLeast), "rule.minutes": number(r.Terms.Minutes),
		"rule.days": number(r.Terms.Days), "rule.actors": strings.Join(r.Terms.Actors, ","), "rule.planted": number(len(r.Terms.Subjects))}
	if Needs(r.Kind, "hours") {
		facts["rule.hours"] = r.Terms.From + "-" + r.Terms.To + " " + r.Terms.Zone
	}
	if err := w.cfg.Gate.Act(ctx, who, policy.Administer, organisation, "alert.rule", facts); err != nil {
		return err
	}
	if _, err := w.cfg.Pool.Exec(ctx, sqlPut, organisation, r.ID, r.Kind, label, r.On, r.Terms, said(by)); err != nil {
		return fmt.Errorf("keep rule: %w", err)
	}
	return nil
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// maxSilence is the longest time for which a rule can be silenced.
const maxSilence = 30 * 24 * time.Hour

// Silence lets nobody be told of a rule's alerts for a time, or, with none, lets them be told again. Its alerts are raised and listed all
// the same. Policy lets somebody, on record.
func (w *Watch) Silence(ctx context.Context, who principal.Principal, id uuid.UUID, long time.Duration) error {
	if long < 0 || long > maxSilence {
		return ErrTerms
	}
	organisation := who.Organisation()
	r, err := w.Rule(ctx, organisation, id)
	if err != nil {
		return err
	}
	by, err := w.cfg.Gate.Actor(ctx, who)
	if err != nil {
		return err
	}
	action, facts := "alert.hear", map[string]string{"rule": id.String(), "rule.kind": r.Kind}
	var until *time.Time
	if long > 0 {
		end := w.cfg.Now().Add(long)
		action, until, facts["until"] = "alert.silence", &end, end.UTC().Format(time.RFC3339)
	}
	if err := w.cfg.Gate.Act(ctx, who, policy.Administer, organisation, action, facts); err != nil {
		return err
	}
	if _, err := w.cfg.Pool.Exec(ctx, sqlHush, organisation, id, r.Kind, r.On, r.Terms, until, said(by)); err != nil {
		return fmt.Errorf("silence rule: %w", err)
	}
	return nil
}

// Remove takes a rule away that is not built in, once policy lets somebody, on record. Its alerts stay.
func (w *Watch) Remove(ctx context.Context, who principal.Principal, id uuid.UUID) error {
	organisation := who.Organisation()
	r, err := w.Rule(ctx, organisation, id)
	if err != nil {
		return err
	}
	if r.Kind != Count {
		return ErrTerms
	}
	if err := w.cfg.Gate.Act(ctx, who, policy.Administer, organisation, "alert.rule_remove", map[string]string{"rule": id.String(), "rule.kind": r.Kind}); err != nil {
		return err
	}
	if _, err := w.cfg.Pool.Exec(ctx, sqlDrop, organisation, id); err != nil {
		return fmt.Errorf("remove rule: %w", err)
	}
	return nil
}
