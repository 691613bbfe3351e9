package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"counterfoil/audit"
)

func at(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// minimal has nothing but what must be there; full has everything.
func minimal() audit.Entry {
	return audit.Entry{
		Time: at(0), Organisation: "o", Kind: audit.Administration, Action: "organisation.create", Nonce: [16]byte{15: 1},
	}
}

func full() audit.Entry {
	return audit.Entry{
		Seq:          18446744073709551615,
		Time:         time.Date(2026, 2, 28, 23, 59, 59, 999999000, time.UTC),
		Organisation: "0b1f8f0e",
		Kind:         audit.Disclosure,
		Action:       "chat.participant",
		Actor:        audit.Party{Kind: "visitor", Ref: "c2f1"},
		Audience:     "visitor",
		Subject:      audit.Party{Kind: "agent", Ref: "7f2k"},
		Fields:       []string{"email", "display_name"},
		Masked:       []string{"email"},
		Decision:     audit.DecisionMasked,
		Rule:         "counterfoil.participants/agent_name",
		Reasons:      []string{`asked "why" <&> C:\`, "é中😀"},
		Policy:       "sha256:77",
		Conversation: "cv-1", Request: "rq-1",
		Peer: "p1", PeerNet: "p2", Address: "a1", AddressNet: "a2",
		Facts: map[string]string{"actor.role": "visitor", "conversation.state": "", `q"k`: "1"},
		Nonce: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255},
	}
}

func TestCanonicalBytesStayAsTheyAre(t *testing.T) {
	var got []byte
	for _, e := range []audit.Entry{minimal(), full()} {
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got = append(append(got, b...), '\n')
	}
	want, err := os.ReadFile("testdata/entries.golden")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the canonical form has changed; entries already written would no longer verify\n got %s\nwant %s", got, want)
	}
}

func TestParseEntryGivesBackWhatWasMarshalled(t *testing.T) {
	for _, e := range []audit.Entry{minimal(), full()} {
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(b) {
			t.Errorf("not JSON: %s", b)
		}
		got, err := audit.ParseEntry(b)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(e.Fields)
		if !reflect.DeepEqual(got, e) {
			t.Errorf("got  %+v\nwant %+v", got, e)
		}
		again, err := got.AppendTo([]byte("kept"))
		if err != nil || string(again) != "kept"+string(b) {
			t.Errorf("AppendTo gave %s, %v", again, err)
		}
	}
}

func TestTimeSurvivesFromTheFirstToTheLastYear(t *testing.T) {
	last := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	for when := at(0); !when.After(last); when = when.Add(1000*time.Hour + 7*time.Minute + 3*time.Second + 101*time.Microsecond) {
		e := minimal()
		e.Time = when
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := audit.ParseEntry(b); err != nil || !got.Time.Equal(when) {
			t.Fatalf("%s came back as %s, %v", when, got.Time, err)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	many := make([]string, 33)
	facts := make(map[string]string)
	for i := range many {
		many[i] = fmt.Sprintf("n%02d", i)
		facts[many[i]] = ""
	}
	long, longer := strings.Repeat("x", 257), strings.Repeat("x", 513)
	huge := maps.Clone(facts)
	delete(huge, "n32")
	for k := range huge {
		huge[k] = strings.Repeat(`"`, 512)
	}
	for name, change := range map[string]func(*audit.Entry){
		"no time":                     func(e *audit.Entry) { e.Time = time.Time{} },
		"a time before 1970":          func(e *audit.Entry) { e.Time = at(-1) },
		"a time of five digits":       func(e *audit.Entry) { e.Time = e.Time.AddDate(9000, 0, 0) },
		"parts of a microsecond":      func(e *audit.Entry) { e.Time = e.Time.Add(1) },
		"no organisation":             func(e *audit.Entry) { e.Organisation = "" },
		"no kind":                     func(e *audit.Entry) { e.Kind = "" },
		"an unknown kind":             func(e *audit.Entry) { e.Kind = "Disclosure" },
		"no action":                   func(e *audit.Entry) { e.Action = "" },
		"an unknown decision":         func(e *audit.Entry) { e.Decision = "maybe" },
		"no nonce":                    func(e *audit.Entry) { e.Nonce = [16]byte{} },
		"a string too long":           func(e *audit.Entry) { e.Rule = long },
		"a reason too long":           func(e *audit.Entry) { e.Reasons = []string{longer} },
		"a fact too long":             func(e *audit.Entry) { e.Facts = map[string]string{"a": longer} },
		"the name of a fact too long": func(e *audit.Entry) { e.Facts = map[string]string{long: ""} },
		"a fact without a name":       func(e *audit.Entry) { e.Facts = map[string]string{"": "x"} },
		"too many fields":             func(e *audit.Entry) { e.Fields = many },
		"too many facts":              func(e *audit.Entry) { e.Facts = facts },
		"a field named twice":         func(e *audit.Entry) { e.Fields = []string{"b", "a", "b"} },
		"an empty field":              func(e *audit.Entry) { e.Fields = []string{""} },
		"a line end":                  func(e *audit.Entry) { e.Action = "a\nb" },
		"a DEL":                       func(e *audit.Entry) { e.Actor.Ref = "\x7f" },
		"a C1 control":                func(e *audit.Entry) { e.Subject.Kind = "\u0085" },
		"bytes that are not UTF-8":    func(e *audit.Entry) { e.Request = "\xff" },
		"more than 16 KiB":            func(e *audit.Entry) { e.Facts = huge },
	} {
		t.Run(name, func(t *testing.T) {
			e := full()
			change(&e)
			b, err := e.AppendTo([]byte("kept"))
			if err == nil || string(b) != "kept" {
				t.Errorf("AppendTo = %q, %v", b, err)
			}
		})
	}
}

func TestParseEntryRefusesEveryOtherForm(t *testing.T) {
	b, err := full().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, change := range map[string][2]string{
		"another version":          {`"v":1`, `"v":2`},
		"a blank":                  {`"v":1,`, `"v":1, `},
		"a leading zero":           {`"seq":1`, `"seq":01`},
		"a number beyond 64 bits":  {`615,`, `616,`},
		"no fraction":              {`.999999Z`, `Z`},
		"a shorter fraction":       {`.999999Z`, `.99999Z`},
		"another zone":             {`999Z`, `999+00:00`},
		"a leap second":            {`:59.9`, `:60.9`},
		"a day that is not":        {`02-28`, `02-29`},
		"a month that is not":      {`-02-`, `-13-`},
		"an unknown kind":          {`"disclosure"`, `"disclosures"`},
		"an empty member":          {`"rule":"counterfoil.participants/agent_name"`, `"rule":""`},
		"an unknown member":        {`,"rule"`, `,"role":"x","rule"`},
		"a member twice":           {`,"audience":"visitor"`, `,"audience":"visitor","audience":"visitor"`},
		"members in another order": {`,"peer":"p1","peer_net":"p2"`, `,"peer_net":"p2","peer":"p1"`},
		"fields that descend":      {`["display_name","email"]`, `["email","display_name"]`},
		"a field twice":            {`["display_name","email"]`, `["email","email"]`},
		"an empty list":            {`["display_name","email"]`, `[]`},
		"an empty party":           {`{"kind":"agent","ref":"7f2k"}`, `{}`},
		"a party turned around":    {`{"kind":"agent","ref":"7f2k"}`, `{"ref":"7f2k","kind":"agent"}`},
		"an unknown decision":      {`"masked",`, `"maskeD",`},
		"an escaped letter":        {`why`, `\u0077hy`},
		"an escaped slash":         {`/agent`, `\/agent`},
		"a control character":      {`why`, "w\thy"},
		"a C1 control":             {`why`, "w\u0085hy"},
		"a byte that is not UTF-8": {`why`, "w\xc3hy"},
		"facts that descend":       {`"actor.role":"visitor"`, `"z":"visitor"`},
		"an upper-case nonce":      {`0eff"`, `0EFF"`},
		"no nonce":                 {`,"nonce":"000102030405060708090a0b0c0d0eff"`, ``},
		"a zero nonce":             {`000102030405060708090a0b0c0d0eff`, strings.Repeat("0", 32)},
		"a line end":               {`0eff"}`, `0eff"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(good, change[0], change[1], 1)
			if bad == good {
				t.Fatal("the change does nothing")
			}
			if _, err := audit.ParseEntry([]byte(bad)); !errors.Is(err, audit.ErrNotCanonical) {
				t.Errorf("ParseEntry(%s) = %v", bad, err)
			}
		})
	}
	for i := range b {
		if _, err := audit.ParseEntry(b[:i]); !errors.Is(err, audit.ErrNotCanonical) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range []audit.Entry{minimal(), full()} {
		b, err := e.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"v":1,"seq":00`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := audit.ParseEntry(b)
		if err != nil {
			return
		}
		again, err := e.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("accepted %q, which marshals to %q, %v", b, again, err)
		}
	})
}

func BenchmarkMarshal(b *testing.B) {
	e, room := full(), make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.AppendTo(room); err != nil {
			b.Fatal(err)
		}
	}
}
