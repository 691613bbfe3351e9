package filter_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"counterfoil/internal/filter"
)

func parse(t *testing.T, text string) filter.Filter {
	t.Helper()
	f, err := filter.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// CON-01.
func TestAFilterHasOneFormForAllWaysToWriteIt(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"   ":                  "",
		"actor:4hk2a":          "actor:4hk2a",
		`ACTOR:"Agent 4hk2a…"`: "actor:4hk2a",
		`who:"agent 4hk2a" about:abcd2345efgh6789`: "actor:4hk2a subject:abcd2345efgh6789",
		"purpose:converse outcome:DENY":            "action:converse decision:deny",
		"not kind:denial":                          "-kind:denial",
		"--kind:denial":                            "kind:denial",
		"action:a,b,a":                             "action:a,b",
		"a:x":                                      "!",
		"action:a and action:b":                    "action:a action:b",
		"action:a or action:b action:c":            "action:a or action:b action:c",
		"(action:a or action:b) action:c":          "(action:a or action:b) action:c",
		"((action:a))":                             "action:a",
		"-(action:a or action:b)":                  "-(action:a or action:b)",
		"action:a or (action:b or action:c)":       "action:a or action:b or action:c",
		"since:-24h":                               "since:-1d",
		"since:-90m until:-1h":                     "since:-90m until:-1h",
		"since:2026-11-24 action:a":                "action:a since:2026-11-24",
		"since:2026-11-24T10:00+02:00":             "since:2026-11-24T08:00:00Z",
		"(action:a or action:b) since:-2w":         "(action:a or action:b) since:-14d",
		"ip:203.0.113.9":                           "ip:203.0.113.9",
		"ip:::ffff:203.0.113.9":                    "ip:203.0.113.9",
		"ip:203.0.113.0/24 ip:2001:db8::/48":       "ip:203.0.113.0/24 ip:2001:db8::/48",
		"person:4hk2a decision:none,allow":         "person:4hk2a decision:none,allow",
	} {
		f, err := filter.Parse(text)
		if want == "!" {
			if err == nil {
				t.Errorf("%q is read as %q", text, f)
			}
			continue
		}
		if err != nil || f.String() != want {
			t.Errorf("%q is read as %q, want %q (%v)", text, f, want, err)
		}
	}
}

// CON-01.
func TestAnErrorShowsThePlace(t *testing.T) {
	for text, want := range map[string]struct {
		problem filter.Problem
		part    string
	}{
		"actor:4hk2a purposse:x":            {filter.UnknownKey, "purposse"},
		"actor:4hk2a alice":                 {filter.NoKey, "alice"},
		`"alice" actor:4hk2a`:               {filter.NoTerm, `"`},
		"actor:alice@example.com":           {filter.BadValue, "alice@example.com"},
		"decision:perhaps":                  {filter.BadValue, "perhaps"},
		"kind:disclosure,secret":            {filter.BadValue, "secret"},
		"actor:":                            {filter.NoValue, ""},
		"action:a,":                         {filter.NoValue, ""},
		`actor:"agent 4hk2a`:                {filter.Unclosed, `"`},
		"(action:a":                         {filter.Unclosed, "("},
		"action:a)":                         {filter.NoTerm, ")"},
		"()":                                {filter.NoTerm, ")"},
		"action:a or":                       {filter.NoTerm, ""},
		"or action:a":                       {filter.NoKey, "or"},
		"-":                                 {filter.NoTerm, ""},
		"since:yesterday":                   {filter.BadMoment, "yesterday"},
		"since:-0h":                         {filter.BadMoment, "-0h"},
		"-since:-1h":                        {filter.NotHere, "-since:-1h"},
		"since:-1h since:-2h":               {filter.NotHere, "since:-2h"},
		"action:a or since:-1h":             {filter.NotHere, "action:a or since:-1h"},
		"(since:-1h action:a)":              {filter.NotHere, "(since:-1h action:a)"},
		"since:2026-02-01 until:2026-01-01": {filter.BackToFront, "since:2026-02-01 until:2026-01-01"},
		"ip:10.0.0.0/8":                     {filter.BadValue, "10.0.0.0/8"},
		"ip:203.0.113.7/24":                 {filter.BadValue, "203.0.113.7/24"},
		"ip:somewhere":                      {filter.BadValue, "somewhere"},
		"action:a,b,c,d,e person:aaaa,bbbb": {filter.TooMany, "action:a,b,c,d,e person:aaaa,bbbb"},
		strings.Repeat("(", 20):             {filter.TooDeep, "("},
		"é:x":                               {filter.UnknownKey, "é"},
	} {
		f, err := filter.Parse(text)
		var wrong *filter.Error
		if !errors.As(err, &wrong) || wrong.Problem != want.problem || wrong.Part() != want.part {
			t.Errorf("%q: %q, %v; want %s at %q", text, f, err, want.problem, want.part)
		}
	}
	_, err := filter.Parse("é:x")
	if want := "is no key"; err == nil || !strings.Contains(err.Error(), want) || !strings.HasSuffix(err.Error(), "\né:x\n^") {
		t.Errorf("%v", err)
	}
	if _, err := filter.Parse("action:a " + strings.Repeat("x", 2000)); err == nil || len(err.Error()) > 400 {
		t.Errorf("%v", err)
	}
}

// record is what the filters below are held against.
type record map[string]string

func (r record) is(f filter.Filter, t *testing.T) bool {
	t.Helper()
	alternatives, err := f.Alternatives()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range alternatives {
		if !slices.ContainsFunc(c.Is, func(is filter.Is) bool { return r[is.Column] != is.Value }) &&
			!slices.ContainsFunc(c.Not, func(is filter.Is) bool { return r[is.Column] == is.Value }) {
			n++
		}
	}
	if n > 1 {
		t.Errorf("%q finds %v %d times", f, r, n)
	}
	return n == 1
}

func TestAlternativesMeanWhatTheFilterSays(t *testing.T) {
	var all []record
	for _, actor := range []string{"aaaa", "bbbb", "cccc"} {
		for _, subject := range []string{"", "aaaa", "bbbb"} {
			for _, action := range []string{"x", "y"} {
				all = append(all, record{"actor": actor, "subject": subject, "action": action})
			}
		}
	}
	for text, want := range map[string]func(record) bool{
		"":                      func(record) bool { return true },
		"actor:aaaa":            func(r record) bool { return r["actor"] == "aaaa" },
		"actor:aaaa,bbbb":       func(r record) bool { return r["actor"] != "cccc" },
		"-actor:aaaa,bbbb":      func(r record) bool { return r["actor"] == "cccc" },
		"person:aaaa":           func(r record) bool { return r["actor"] == "aaaa" || r["subject"] == "aaaa" },
		"-person:aaaa":          func(r record) bool { return r["actor"] != "aaaa" && r["subject"] != "aaaa" },
		"actor:aaaa actor:bbbb": func(record) bool { return false },
		"action:x -action:x":    func(record) bool { return false },
		"actor:aaaa or subject:bbbb action:y or -action:x": func(r record) bool { return r["actor"] == "aaaa" || r["action"] == "y" },
		"actor:aaaa or actor:aaaa":                         func(r record) bool { return r["actor"] == "aaaa" },
		"actor:aaaa or action:y":                           func(r record) bool { return r["actor"] == "aaaa" || r["action"] == "y" },
		"-(actor:aaaa or action:y)":                        func(r record) bool { return r["actor"] != "aaaa" && r["action"] != "y" },
		"-(actor:aaaa action:y)":                           func(r record) bool { return r["actor"] != "aaaa" || r["action"] != "y" },
		"person:aaaa -(subject:bbbb or action:x) or actor:cccc": func(r record) bool {
			return (r["actor"] == "aaaa" || r["subject"] == "aaaa") && r["subject"] != "bbbb" && r["action"] != "x" || r["actor"] == "cccc"
		},
	} {
		f := parse(t, text)
		for _, r := range all {
			if got := r.is(f, t); got != want(r) {
				t.Errorf("%q of %v: %v", text, r, got)
			}
		}
	}
}

func TestTimesAreSpansBackFromNowOrPoints(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := parse(t, "since:-7d until:2026-03-01T11:30Z")
	if got := f.Since.On(now); !got.Equal(now.AddDate(0, 0, -7)) {
		t.Errorf("%s", got)
	}
	if got := f.Until.On(now); !got.Equal(now.Add(-30 * time.Minute)) {
		t.Errorf("%s", got)
	}
	if got := parse(t, "action:x").Since.On(now); !got.IsZero() {
		t.Errorf("%s", got)
	}
}

func TestAFilterGrowsByTermsAndGivesThemToAForm(t *testing.T) {
	f := parse(t, "action:x or action:y").And("actor", "aaaa").Within(filter.Moment{Ago: time.Hour}, filter.Moment{})
	if got := f.String(); got != "(action:x or action:y) actor:aaaa since:-1h" {
		t.Error(got)
	}
	if terms, complete := f.Terms(); complete || len(terms) != 1 || !f.Names("action") || f.Names("subject") {
		t.Errorf("%v %v", terms, complete)
	}
	if terms, complete := parse(t, "actor:aaaa kind:denial since:-1h").Terms(); !complete || len(terms) != 2 {
		t.Errorf("%v %v", terms, complete)
	}
	mapped, err := parse(t, "ip:203.0.113.9 -actor:aaaa").Map(func(t filter.Term) ([]filter.Term, error) {
		if t.Key == filter.IP {
			return []filter.Term{{Key: filter.Address, Values: []string{"abcd2345efgh6789"}}, {Key: filter.Network, Values: []string{"abcd2345efgh6789"}}}, nil
		}
		return []filter.Term{t}, nil
	})
	if err != nil || mapped.String() != "(address:abcd2345efgh6789 or network:abcd2345efgh6789) -actor:aaaa" {
		t.Errorf("%s %v", mapped, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "actor:4hk2a -action:x,y since:-24h", `who:"agent 4hk2a…" (ip:203.0.113.9 or -decision:deny)`, "((a", "-(action:a or action:b) until:2026-01-01T10:00:00.5Z", "not not kind:denial", "x:\\"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read, err := filter.Parse(text)
		if err != nil {
			var wrong *filter.Error
			if !errors.As(err, &wrong) || wrong.Begin < 0 || wrong.Begin > wrong.End || wrong.End > len(wrong.Text) || len(wrong.Caret()) > 10*len(wrong.Text)+100 {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		printed := read.String()
		again, err := filter.Parse(printed)
		if err != nil || again.String() != printed {
			t.Fatalf("%q is printed as %q, which is read as %q: %v", text, printed, again, err)
		}
		a, errA := read.Alternatives()
		b, errB := again.Alternatives()
		if errA != nil || errB != nil || len(a) != len(b) || again.Since != read.Since || again.Until != read.Until {
			t.Fatalf("%q and %q differ", text, printed)
		}
	})
}
