package console

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/filter"
	"counterfoil/policy"
)

// what names an action: the purpose of a disclosure, or an administrative act. What is not known is shown as it is recorded.
func what(lang, action string) string {
	return cmp.Or(policy.Purpose(action).Title(lang), word(lang, "act_"+action), action)
}

func fieldNames(lang string, fields []string) []string {
	var names []string
	for _, f := range fields {
		names = append(names, cmp.Or(word(lang, "field_"+f), f))
	}
	return names
}

// list joins names as a sentence does.
func list(lang string, names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + word(lang, "and") + names[len(names)-1]
}

var months = map[string][]string{
	"en": {"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"},
	"fr": {"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"},
}

// weekdays begin with Monday.
var weekdays = map[string][]string{
	"en": {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"},
	"fr": {"lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"},
}

func longDate(lang string, t time.Time) string {
	t = t.UTC()
	return fmt.Sprintf("%d %s %d", t.Day(), months[lang][t.Month()-1], t.Year())
}

// explain says in words what a record says: who asked for what, what policy answered, by which rule, and why.
func explain(lang string, e audit.Entry, gone erased) eventPage {
	p := eventPage{row: rowOf(lang, e, gone), Date: longDate(lang, e.Time), Kind: word(lang, "kind_of_"+string(e.Kind)), Rule: e.Rule}
	say := func(name string, values ...any) {
		p.Sentences = append(p.Sentences, fmt.Sprintf(word(lang, name), values...))
	}
	who := cmp.Or(p.Who, word(lang, "somebody"))
	asked := fieldNames(lang, e.Fields)
	switch {
	case e.Kind == audit.Administration && e.Decision == "":
		say("explain_happened", who)
	case e.Kind == audit.Administration:
		say("explain_act", who)
	case e.Kind == audit.Denial && len(asked) == 0:
		say("explain_denied_act", who)
	case e.Kind == audit.Denial:
		say("explain_denied", who, list(lang, asked), cmp.Or(p.About, "-"))
	case e.Kind == audit.Collection:
		say("explain_collected", list(lang, asked), cmp.Or(p.About, "-"))
	default:
		shown := slices.DeleteFunc(slices.Clone(e.Fields), func(f string) bool { return slices.Contains(e.Masked, f) })
		if len(shown) > 0 {
			say("explain_disclosed", who, list(lang, fieldNames(lang, shown)), cmp.Or(p.About, "-"))
		}
		if len(e.Masked) > 0 {
			say("explain_masked", who, list(lang, fieldNames(lang, e.Masked)), cmp.Or(p.About, "-"))
		}
	}
	switch e.Decision {
	case audit.DecisionAllow, audit.DecisionMasked:
		say("explain_by_rule")
		p.RuleText = word(lang, "rule_"+e.Rule)
	case audit.DecisionDeny:
		say("explain_no_rule")
		p.Rule = ""
	}
	for _, party := range []audit.Party{e.Subject, e.Actor} {
		if one := personOf(lang, party, e.Time); one.Link() != "" && !gone.has(party.Ref) && !slices.Contains(p.People, one) {
			p.People = append(p.People, one)
		}
	}
	if one := personOf(lang, audit.Party{Kind: "conversation", Ref: e.Conversation}, e.Time); one.Transcript() != "" && !gone.has(e.Conversation) {
		p.Conversation = one.Transcript()
	}
	if filter.IsReference(e.Conversation) {
		p.ChatFilter = filter.Filter{}.And(filter.Conversation, e.Conversation).Within(filter.Moment{At: e.Time.Add(-31 * 24 * time.Hour)}, filter.Moment{At: e.Time.Add(31 * 24 * time.Hour)}).String()
	}
	if _, ok := sessionOf(e); ok {
		p.Session = fmt.Sprintf("/events/%d/session", e.Seq)
	}
	for _, code := range e.Reasons {
		p.Reasons = append(p.Reasons, cmp.Or(word(lang, "reason_"+code), code))
	}
	add := func(name, value string, mono bool) {
		if value != "" {
			p.Facts = append(p.Facts, fact{cmp.Or(word(lang, name), name), value, mono})
		}
	}
	add("fact_actor", reference(p.Who, e.Actor.Ref), true)
	add("fact_subject", reference(p.About, cmp.Or(e.Subject.Ref, e.Conversation)), true)
	add("fact_audience", cmp.Or(word(lang, "audience_"+e.Audience), e.Audience), false)
	add("fact_of_address", e.Address, true)
	add("fact_of_network", e.AddressNet, true)
	add("fact_policy", e.Policy, true)
	names := make([]string, 0, len(e.Facts))
	for name := range e.Facts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add("fact_"+name, e.Facts[name], true)
	}
	for i := range p.Facts { // a fact without a name of its own is shown as it is recorded
		p.Facts[i].Name = strings.TrimPrefix(p.Facts[i].Name, "fact_")
	}
	return p
}

// reference is a handle with the whole reference that it is made from.
func reference(handle, ref string) string {
	if handle == "" || ref == "" {
		return handle
	}
	kind, _, found := strings.Cut(handle, " #") // of what was erased
	if !found {
		kind, _, _ = strings.Cut(handle, " ")
	}
	return kind + " " + ref
}
