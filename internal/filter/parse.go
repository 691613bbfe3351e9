package filter

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is what can be wrong with a filter.
type Problem string

// The problems.
const (
	UnknownKey    Problem = "unknown_key"
	BadValue      Problem = "bad_value"
	BadMoment     Problem = "bad_moment"
	NoValue       Problem = "no_value"
	NoTerm        Problem = "no_term"    // a term is expected here
	Unclosed      Problem = "unclosed"   // a parenthesis or quotation mark
	NotHere       Problem = "not_here"   // a time stands beside everything else, once
	NoKey         Problem = "no_key"     // a word without a key
	TooMany       Problem = "too_many"   // alternatives
	TooLong       Problem = "too_long"   //
	TooDeep       Problem = "too_deep"   //
	SeveralPeople Problem = "ambiguous"  // a handle that is the beginning of several references; not found by Parse
	BackToFront   Problem = "back_front" // the time ends before it begins
)

var problems = map[Problem]string{
	UnknownKey:    "is no key; keys are " + strings.Join(keys, ", "),
	BadValue:      "is no value of this key",
	BadMoment:     "is no time; write 2026-11-24, 2026-11-24T10:00Z, or a span back from now such as -24h or -7d",
	NoValue:       "a value is missing here",
	NoTerm:        "a term is missing here",
	Unclosed:      "is never closed",
	NotHere:       "a time stands once, beside everything else, and is not negated",
	NoKey:         "says of nothing what it is; write KEY:VALUE, with one of " + strings.Join(keys, ", "),
	TooMany:       fmt.Sprintf("has more than %d alternatives", MaxAlternatives),
	TooLong:       fmt.Sprintf("is longer than %d characters", maxLength),
	TooDeep:       "is nested too deep",
	SeveralPeople: "is the beginning of several references; write more of it",
	BackToFront:   "ends before it begins",
}

// Error says what is wrong with a filter, and where.
type Error struct {
	Problem    Problem
	Text       string
	Begin, End int // bytes of Text
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s\n%s", problems[e.Problem], e.Caret())
}

// Part is what is wrong.
func (e *Error) Part() string { return e.Text[e.Begin:e.End] }

// Caret shows the place below the text.
func (e *Error) Caret() string {
	return e.Text + "\n" + strings.Repeat(" ", utf8.RuneCountInString(e.Text[:e.Begin])) + strings.Repeat("^", max(1, utf8.RuneCountInString(e.Part())))
}

// At makes an error of a term of this filter's text.
func (t Term) At(p Problem, text string) *Error {
	end := min(len(text), t.at+len(t.Key)+1)
	if t.at < 0 || t.at >= len(text) {
		return &Error{Problem: p, Text: text}
	}
	for end < len(text) && text[end] != ' ' && text[end] != ')' {
		end++
	}
	return &Error{p, text, t.at, end}
}

const (
	maxLength = 1000
	maxDepth  = 8
)

// Parse reads a filter.
func Parse(text string) (Filter, error) {
	p := parser{text: text}
	if len(text) > maxLength || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Filter{}, &Error{Problem: TooLong, Text: strings.ToValidUTF8(text[:min(len(text), 60)], "?")}
	}
	p.blank()
	if p.at == len(text) {
		return Filter{}, nil
	}
	n, err := p.either(0)
	if err != nil {
		return Filter{}, err
	}
	if p.at < len(text) { // a parenthesis that nothing opened
		return Filter{}, p.wrong(NoTerm, p.at, p.at+1)
	}
	f := Filter{Since: p.since, Until: p.until, where: n}
	if !f.Since.At.IsZero() && !f.Until.At.IsZero() && !f.Since.At.Before(f.Until.At) || f.Since.Ago != 0 && f.Until.Ago != 0 && f.Since.Ago <= f.Until.Ago {
		return Filter{}, p.wrong(BackToFront, 0, len(text))
	}
	if _, err := f.Alternatives(); err != nil {
		return Filter{}, p.wrong(TooMany, 0, len(text))
	}
	return f, nil
}

type parser struct {
	text         string
	at           int
	since, until Moment
	timed        bool // a time was read in the list that is being read
}

func (p *parser) wrong(problem Problem, begin, end int) error {
	return &Error{problem, p.text, begin, min(end, len(p.text))}
}

func (p *parser) blank() {
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
}

// word looks whether a word of its own comes, and takes it.
func (p *parser) word(w string) bool {
	rest := p.text[p.at:]
	if len(rest) < len(w) || !strings.EqualFold(rest[:len(w)], w) || len(rest) > len(w) && rest[len(w)] != ' ' && rest[len(w)] != '(' {
		return false
	}
	p.at += len(w)
	p.blank()
	return true
}

// either reads alternatives. A time among them would be a time for some records only.
func (p *parser) either(depth int) (node, error) {
	begin, timed := p.at, p.timed
	var parts either
	for n := 1; ; n++ {
		part, err := p.all(depth)
		if err != nil {
			return nil, err
		}
		if part != nil {
			parts = append(parts, part)
		}
		more := p.word("or")
		if (more || n > 1) && p.timed != timed {
			return nil, p.wrong(NotHere, begin, p.at)
		}
		if !more {
			break
		}
	}
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		return parts[0], nil
	}
	return flat(parts), nil
}

// flat takes lists of alternatives within alternatives apart.
func flat(parts either) either {
	var out either
	for _, n := range parts {
		if inner, ok := n.(either); ok {
			out = append(out, inner...)
		} else {
			out = append(out, n)
		}
	}
	return out
}

// all reads what has to hold together.
func (p *parser) all(depth int) (node, error) {
	var parts all
	read := false
	for {
		if p.at == len(p.text) || p.text[p.at] == ')' || read && p.peek("or") {
			break
		}
		if read && p.word("and") {
			if p.at == len(p.text) {
				return nil, p.wrong(NoTerm, p.at, p.at)
			}
			continue
		}
		n, err := p.one(depth)
		if err != nil {
			return nil, err
		}
		read = true
		switch n := n.(type) {
		case nil: // a time
		case all:
			parts = append(parts, n...)
		default:
			parts = append(parts, n)
		}
		p.blank()
	}
	if !read {
		return nil, p.wrong(NoTerm, p.at, p.at+1)
	}
	switch len(parts) {
	case 0:
		return nil, nil
	case 1:
		return parts[0], nil
	}
	return parts, nil
}

func (p *parser) peek(w string) bool {
	at := p.at
	found := p.word(w)
	p.at = at
	return found
}

// one reads a term, a negation or what stands in parentheses.
func (p *parser) one(depth int) (node, error) {
	begin := p.at
	if depth > maxDepth {
		return nil, p.wrong(TooDeep, p.at, p.at+1)
	}
	if p.text[p.at] == '-' || p.word("not") {
		if p.at == begin {
			p.at++
		}
		if p.at == len(p.text) {
			return nil, p.wrong(NoTerm, p.at, p.at)
		}
		n, err := p.one(depth + 1)
		if err != nil {
			return nil, err
		}
		if n == nil {
			return nil, p.wrong(NotHere, begin, p.at)
		}
		if inner, ok := n.(not); ok {
			return inner.node, nil
		}
		return not{n}, nil
	}
	if p.text[p.at] == '(' {
		p.at++
		p.blank()
		timed := p.timed
		n, err := p.either(depth + 1)
		if err != nil {
			return nil, err
		}
		if p.at == len(p.text) {
			return nil, p.wrong(Unclosed, begin, begin+1)
		}
		p.at++
		if p.timed != timed {
			return nil, p.wrong(NotHere, begin, p.at)
		}
		return n, nil
	}
	return p.term()
}

func (p *parser) term() (node, error) {
	begin := p.at
	for p.at < len(p.text) && !strings.ContainsRune(` :(),"`, rune(p.text[p.at])) {
		p.at++
	}
	if p.at == len(p.text) || p.text[p.at] != ':' {
		if p.at == begin {
			return nil, p.wrong(NoTerm, begin, begin+1)
		}
		return nil, p.wrong(NoKey, begin, p.at)
	}
	key := strings.ToLower(p.text[begin:p.at])
	if other, ok := aliases[key]; ok {
		key = other
	}
	if !slices.Contains(keys, key) {
		return nil, p.wrong(UnknownKey, begin, p.at)
	}
	t := Term{Key: key, at: begin}
	for {
		p.at++ // the colon or a comma
		from := p.at
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		if key == "since" || key == "until" {
			return nil, p.time(key, v, begin, from)
		}
		one, ok := value(key, v)
		if !ok {
			return nil, p.wrong(BadValue, from, p.at)
		}
		if !slices.Contains(t.Values, one) {
			t.Values = append(t.Values, one)
		}
		if p.at == len(p.text) || p.text[p.at] != ',' {
			return t, p.end()
		}
	}
}

// end wants a term to be over.
func (p *parser) end() error {
	if p.at < len(p.text) && p.text[p.at] != ' ' && p.text[p.at] != ')' {
		return p.wrong(NoTerm, p.at, p.at+1)
	}
	return nil
}

func (p *parser) time(key, v string, begin, from int) error {
	m, ok := moment(v)
	if !ok {
		return p.wrong(BadMoment, from, p.at)
	}
	into := &p.since
	if key == "until" {
		into = &p.until
	}
	if !into.IsZero() {
		return p.wrong(NotHere, begin, p.at)
	}
	*into, p.timed = m, true
	return p.end()
}

func (p *parser) value() (string, error) {
	begin := p.at
	if p.at < len(p.text) && p.text[p.at] == '"' {
		var b strings.Builder
		for p.at++; p.at < len(p.text); p.at++ {
			switch c := p.text[p.at]; {
			case c == '"':
				p.at++
				return b.String(), nil
			case c == '\\' && p.at+1 < len(p.text):
				p.at++
				b.WriteByte(p.text[p.at])
			default:
				b.WriteByte(c)
			}
		}
		return "", p.wrong(Unclosed, begin, begin+1)
	}
	for p.at < len(p.text) && !strings.ContainsRune(` (),"`, rune(p.text[p.at])) {
		p.at++
	}
	if p.at == begin {
		return "", p.wrong(NoValue, begin, begin+1)
	}
	return p.text[begin:p.at], nil
}
