// Package filter is the one line in which people say which records they look for: in the console's address, on the command line and
// wherever else the log is searched.
//
// It promises that whatever it prints it reads back as the same filter, that an error shows the place, and that a filter becomes
// columns and values and never text of a query. It knows no log: who a handle stands for is looked up by its caller.
package filter

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter says which records are looked for. The zero Filter is all of them.
type Filter struct {
	Since, Until Moment
	where        node // nil is everything
}

// Moment is a point in time, or a span back from now. The zero Moment is none.
type Moment struct {
	Ago time.Duration
	At  time.Time
}

// IsZero reports whether there is no moment.
func (m Moment) IsZero() bool { return m.Ago == 0 && m.At.IsZero() }

// On is the point in time that m means now; zero for none.
func (m Moment) On(now time.Time) time.Time {
	if m.Ago != 0 {
		return now.Add(-m.Ago)
	}
	return m.At
}

// String is m as one writes it.
func (m Moment) String() string {
	switch {
	case m.Ago != 0 && m.Ago%day == 0:
		return fmt.Sprintf("-%dd", m.Ago/day)
	case m.Ago != 0 && m.Ago%time.Hour == 0:
		return fmt.Sprintf("-%dh", m.Ago/time.Hour)
	case m.Ago != 0:
		return fmt.Sprintf("-%dm", m.Ago/time.Minute)
	case m.At.IsZero():
		return ""
	case m.At.Equal(m.At.Truncate(day)):
		return m.At.Format(time.DateOnly)
	}
	return m.At.Format("2006-01-02T15:04:05.999999Z")
}

const day = 24 * time.Hour

// The keys of terms. Each but Person and IP is a column that a log is searched by.
const (
	Actor        = "actor"        // who asked: a reference, or a handle such as "agent 4hk2a"
	Subject      = "subject"      // whom it is about
	Person       = "person"       // either of the two
	Conversation = "conversation" //
	Action       = "action"       // a purpose, or an administrative act
	Decision     = "decision"     // allow, masked, deny, none
	Kind         = "kind"         // disclosure, denial, collection, administration
	Rule         = "rule"         // of the policy, by which something was denied
	IP           = "ip"           // an address, or its /24 or /48
	Address      = "address"      // the same by reference
	Network      = "network"
)

// aliases are other words for keys.
var aliases = map[string]string{"who": Actor, "about": Subject, "chat": Conversation, "purpose": Action, "outcome": Decision}

var keys = []string{Actor, Subject, Person, Conversation, Action, Decision, Kind, Rule, IP, Address, Network, "since", "until"}

// choices are the values of keys that have a closed list.
var choices = map[string][]string{
	Decision: {"allow", "masked", "deny", "none"},
	Kind:     {"disclosure", "denial", "collection", "administration"},
}

// Term is a key with one or more values, of which a record must have one.
type Term struct {
	Key    string
	Values []string
	at     int // where it stands in the text
}

type node interface{ print(*strings.Builder, int) }

type (
	all    []node
	either []node
	not    struct{ node }
)

// How tightly parts hold together, for printing.
const (
	inEither = iota
	inAll
	inNot
)

func (t Term) print(b *strings.Builder, _ int) {
	b.WriteString(t.Key + ":")
	for i, v := range t.Values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quoted(v))
	}
}

func (n not) print(b *strings.Builder, _ int) {
	b.WriteByte('-')
	n.node.print(b, inNot)
}

func (n all) print(b *strings.Builder, within int) { list(b, n, " ", inAll, within) }

func (n either) print(b *strings.Builder, within int) { list(b, n, " or ", inEither, within) }

func list(b *strings.Builder, nodes []node, between string, own, within int) {
	if own < within {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	for i, n := range nodes {
		if i > 0 {
			b.WriteString(between)
		}
		n.print(b, own+1)
	}
}

// bare is a value that needs no quotation marks.
var bare = regexp.MustCompile(`^[\pL\pN._@/:+-]+$`)

func quoted(v string) string {
	if bare.MatchString(v) {
		return v
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
}

// String is the filter as one line, in one form for all ways to write it.
func (f Filter) String() string {
	var b strings.Builder
	if f.where != nil {
		within := inEither
		if !f.Since.IsZero() || !f.Until.IsZero() {
			within = inAll
		}
		f.where.print(&b, within)
	}
	for _, m := range []struct {
		name string
		Moment
	}{{"since", f.Since}, {"until", f.Until}} {
		if !m.IsZero() {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(m.name + ":" + m.String())
		}
	}
	return b.String()
}

// IsZero reports whether the filter narrows nothing.
func (f Filter) IsZero() bool { return f.where == nil && f.Since.IsZero() && f.Until.IsZero() }

// Within is the filter with another time.
func (f Filter) Within(since, until Moment) Filter {
	f.Since, f.Until = since, until
	return f
}

// And is the filter with one more term, or with one less that says the same.
func (f Filter) And(key string, values ...string) Filter {
	t := Term{Key: key, Values: values}
	switch n := f.where.(type) {
	case nil:
		f.where = t
	case all:
		f.where = append(slices.Clone(n), t)
	default:
		f.where = all{n, t}
	}
	return f
}

// Terms gives the terms that every record has to fulfil, and says whether the filter is nothing but those and times: what a form can show.
func (f Filter) Terms() (terms []Term, complete bool) {
	switch n := f.where.(type) {
	case nil:
		return nil, true
	case Term:
		return []Term{n}, true
	case all:
		complete = true
		for _, part := range n {
			if t, ok := part.(Term); ok {
				terms = append(terms, t)
			} else {
				complete = false
			}
		}
		return terms, complete
	}
	return nil, false
}

// Names reports whether any term has this key.
func (f Filter) Names(key string) (named bool) {
	_, _ = f.Map(func(t Term) ([]Term, error) {
		named = named || t.Key == key
		return []Term{t}, nil
	})
	return named
}

// Map puts other terms in the place of each term, of which a record must fulfil one. It is how handles become references.
func (f Filter) Map(with func(Term) ([]Term, error)) (Filter, error) {
	var walk func(node) (node, error)
	parts := func(nodes []node) ([]node, error) {
		mapped := make([]node, len(nodes))
		for i, n := range nodes {
			var err error
			if mapped[i], err = walk(n); err != nil {
				return nil, err
			}
		}
		return mapped, nil
	}
	walk = func(n node) (node, error) {
		switch n := n.(type) {
		case Term:
			terms, err := with(n)
			if err != nil || len(terms) == 1 {
				if err != nil {
					return nil, err
				}
				return terms[0], nil
			}
			options := make(either, len(terms))
			for i, t := range terms {
				options[i] = t
			}
			return options, nil
		case not:
			part, err := walk(n.node)
			return not{part}, err
		case all:
			mapped, err := parts(n)
			return all(mapped), err
		case either:
			mapped, err := parts(n)
			return either(mapped), err
		}
		return nil, nil
	}
	var err error
	f.where, err = walk(f.where)
	return f, err
}

// Is is one value of one column.
type Is struct{ Column, Value string }

// Conjunction is what a record has to be, and what it must not be.
type Conjunction struct{ Is, Not []Is }

// MaxAlternatives bounds the conjunctions of a filter: each is a search of its own.
const MaxAlternatives = 16

// Alternatives gives the conjunctions of which a record has to fulfil one; none can fulfil two, so what answers them can be counted
// one by one. Without any, no record answers the filter.
func (f Filter) Alternatives() ([]Conjunction, error) {
	found, ok := alternatives(f.where, false)
	var apart []Conjunction
	for _, c := range found {
		rest := []Conjunction{c}
		for _, before := range apart {
			var left []Conjunction
			for _, r := range rest {
				left = append(left, r.without(before)...)
			}
			rest = left
		}
		if apart = append(apart, rest...); len(apart) > MaxAlternatives {
			ok = false
			break
		}
	}
	if !ok {
		return nil, &Error{Problem: TooMany, Text: f.String()}
	}
	return apart, nil
}

// without gives what fulfils c and not other, in parts that have nothing in common.
func (c Conjunction) without(other Conjunction) (parts []Conjunction) {
	if !c.possible() {
		return nil
	}
	take := func(yes, no Conjunction) {
		if part := c.and(no); part.possible() {
			parts = append(parts, part)
		}
		c = c.and(yes)
	}
	for _, is := range other.Is {
		if !slices.Contains(c.Is, is) {
			take(Conjunction{Is: []Is{is}}, Conjunction{Not: []Is{is}})
		}
	}
	for _, is := range other.Not {
		if !slices.Contains(c.Not, is) {
			take(Conjunction{Not: []Is{is}}, Conjunction{Is: []Is{is}})
		}
	}
	return parts
}

func (c Conjunction) and(other Conjunction) Conjunction {
	return Conjunction{union(c.Is, other.Is), union(c.Not, other.Not)}
}

// possible reports whether a record can be all of it.
func (c Conjunction) possible() bool {
	one := make(map[string]string)
	for _, is := range c.Is {
		if v, ok := one[is.Column]; ok && v != is.Value || slices.Contains(c.Not, is) {
			return false
		}
		one[is.Column] = is.Value
	}
	return true
}

func alternatives(n node, negated bool) ([]Conjunction, bool) {
	switch n := n.(type) {
	case not:
		return alternatives(n.node, !negated)
	case all:
		return combine(n, negated, !negated)
	case either:
		return combine(n, negated, negated)
	case Term:
		columns := []string{n.Key}
		if n.Key == Person {
			columns = []string{Actor, Subject}
		}
		var options []Conjunction
		var none Conjunction
		for _, c := range columns {
			for _, v := range n.Values {
				options = append(options, Conjunction{Is: []Is{{c, v}}})
				none.Not = append(none.Not, Is{c, v})
			}
		}
		if negated {
			return []Conjunction{none}, true
		}
		return options, len(options) <= MaxAlternatives
	}
	return []Conjunction{{}}, true
}

// combine makes the alternatives of parts that all have to hold, or of which one has to.
func combine(nodes []node, negated, every bool) ([]Conjunction, bool) {
	var sum []Conjunction
	if every {
		sum = []Conjunction{{}}
	}
	for _, n := range nodes {
		part, ok := alternatives(n, negated)
		if !ok {
			return nil, false
		}
		if !every {
			sum = append(sum, part...)
		} else {
			var product []Conjunction
			for _, a := range sum {
				for _, b := range part {
					if c := a.and(b); c.possible() {
						product = append(product, c)
					}
				}
			}
			sum = product
		}
		if len(sum) > MaxAlternatives {
			return nil, false
		}
	}
	return sum, true
}

func union(a, b []Is) []Is {
	sum := slices.Clone(a)
	for _, is := range b {
		if !slices.Contains(sum, is) {
			sum = append(sum, is)
		}
	}
	return sum
}

// reference is what a keyed reference looks like; its beginning stands in handles.
var (
	reference = regexp.MustCompile(`^[a-z2-9]{16}$`)
	beginning = regexp.MustCompile(`^[a-z2-9]{4,16}$`)
	act       = regexp.MustCompile(`^[a-z0-9_.]{1,64}$`)
)

// IsReference reports whether a value is a whole reference.
func IsReference(v string) bool { return reference.MatchString(v) }

// Prefix gives the network that a value of IP names; a single address has all bits.
func Prefix(v string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(v); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(v)
	if err != nil || p.Addr().Is4In6() || p != p.Masked() {
		return p, false
	}
	bits := p.Bits()
	return p, p.Addr().Is4() && (bits == 24 || bits == 32) || p.Addr().Is6() && (bits == 48 || bits == 128)
}

// value brings a value into its one form.
func value(key, v string) (string, bool) {
	switch key {
	case Actor, Subject, Person, Conversation:
		v = strings.ToLower(strings.TrimRight(strings.TrimSpace(v), "….")) // a handle as it is shown, with its kind before it
		v = v[strings.LastIndexByte(v, ' ')+1:]
		return v, beginning.MatchString(v)
	case Address, Network:
		return v, reference.MatchString(v)
	case Action, Rule:
		return v, act.MatchString(v)
	case IP:
		p, ok := Prefix(v)
		if ok && p.IsSingleIP() {
			return p.Addr().String(), true
		}
		return p.String(), ok
	}
	v = strings.ToLower(v)
	return v, slices.Contains(choices[key], v)
}

// moment reads a time, or a span back from now.
func moment(s string) (Moment, bool) {
	if len(s) > 2 && s[0] == '-' {
		unit, ok := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': day, 'w': 7 * day}[s[len(s)-1]]
		n, err := strconv.ParseUint(s[1:len(s)-1], 10, 16)
		return Moment{Ago: time.Duration(n) * unit}, ok && err == nil && n > 0 && time.Duration(n)*unit <= 36500*day
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04Z07:00", time.RFC3339Nano} {
		if at, err := time.Parse(layout, s); err == nil {
			at = at.UTC().Truncate(time.Microsecond)
			return Moment{At: at}, at.Year() >= 1970 && at.Year() < 10000
		}
	}
	return Moment{}, false
}
