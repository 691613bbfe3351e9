package euii_test

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/internal/grant"
)

func clear[A euii.Audience](text string) euii.Cleared[A] {
	return euii.Clear[A](grant.Issue(uuid.Nil, uuid.Nil, uuid.Nil, 0, 0, time.Now().Add(time.Hour)), text)
}

func TestAnInertGrantClearsNothing(t *testing.T) {
	var none grant.Grant
	if c := euii.Clear[euii.Visitor](none, canary); euii.Present(c) || euii.Reveal(c) != "" {
		t.Error("a zero grant cleared a text")
	}
	var sealing grant.Sealing
	if text, ok := euii.ForSealing(sealing, euii.Receive(canary)); ok || text != "" {
		t.Error("a zero sealing read a text")
	}
}

func TestZeroValuesAreEmpty(t *testing.T) {
	var in euii.Inbound
	var c euii.Cleared[euii.Agent]
	if !euii.InboundEmpty(in) || euii.InboundLen(in) != 0 || euii.Present(c) || euii.Reveal(c) != "" || euii.Present(euii.FirstLine(c, 10)) {
		t.Error("a zero value holds something")
	}
}

func TestFieldsHaveFixedNumbersAndNames(t *testing.T) {
	// The numbers are part of every ciphertext: a change makes what is stored unreadable.
	want := []string{
		1: "agent_display_name", 2: "agent_given_name", 3: "agent_surname", 4: "agent_email",
		5: "visitor_display_name", 6: "visitor_email", 7: "visitor_phone", 8: "visitor_answers", 9: "message_body", 10: "admin_address",
	}
	for number, name := range want {
		if number == 0 {
			continue
		}
		if got := euii.Field(number).String(); got != name {
			t.Errorf("field %d is %s, want %s", number, got, name)
		}
		if got, ok := euii.ParseField(name); !ok || got != euii.Field(number) {
			t.Errorf("%s is field %d, %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "field(0)", "field(11)", "Agent_email"} {
		if f, ok := euii.ParseField(name); ok {
			t.Errorf("%q is field %d", name, f)
		}
	}
	if euii.Field(len(want)).String() != "field(11)" || euii.Field(0).String() != "field(0)" {
		t.Error("a field has no line in this test")
	}
}

func TestEachAddressHasAnAADOfItsOwn(t *testing.T) {
	base := euii.Ref{Organisation: uuid.New(), Subject: uuid.New(), Row: uuid.New(), Item: uuid.New(), Field: euii.AgentEmail}
	swap := func(change func(*euii.Ref)) euii.Ref {
		r := base
		change(&r)
		return r
	}
	others := map[string]euii.Ref{
		"organisation":        swap(func(r *euii.Ref) { r.Organisation = uuid.New() }),
		"subject":             swap(func(r *euii.Ref) { r.Subject = uuid.New() }),
		"row":                 swap(func(r *euii.Ref) { r.Row = uuid.New() }),
		"item":                swap(func(r *euii.Ref) { r.Item = uuid.Nil }),
		"field":               swap(func(r *euii.Ref) { r.Field = euii.AgentDisplayName }),
		"subject and row":     swap(func(r *euii.Ref) { r.Subject, r.Row = r.Row, r.Subject }),
		"organisation, swept": swap(func(r *euii.Ref) { r.Organisation, r.Item = r.Item, r.Organisation }),
	}
	for name, other := range others {
		if bytes.Equal(base.AAD(), other.AAD()) {
			t.Errorf("an address with another %s has the same AAD", name)
		}
	}
	if !bytes.Equal(base.AAD(), swap(func(*euii.Ref) {}).AAD()) || len(base.AAD()) != 67 {
		t.Error("the AAD is not a function of the address")
	}
}

func TestMaskLeavesAFirstLetter(t *testing.T) {
	tests := []struct {
		field      euii.Field
		text, want string
	}{
		{euii.AgentDisplayName, "Ada Lovelace", "A•••"},
		{euii.AgentGivenName, "Élodie", "É•••"},
		{euii.VisitorDisplayName, "👩‍🔬 Ada", "👩•••"},
		{euii.VisitorDisplayName, "", ""},
		{euii.VisitorEmail, "ada@example.org", "a•••@example.org"},
		{euii.AgentEmail, `"a@b"@example.org`, `"•••@example.org`},
		{euii.VisitorEmail, "@example.org", "•••"},
		{euii.VisitorEmail, "no address", "•••"},
		{euii.VisitorPhone, "+33 1 23 45 67 89", "•••"},
		{euii.VisitorAnswers, "a lot", "•••"},
		{euii.MessageBody, "hello", "•••"},
		{euii.Field(0), "what", "•••"},
		{euii.Field(200), "what", "•••"},
	}
	for _, test := range tests {
		if got := euii.Mask(test.field, test.text); got != test.want {
			t.Errorf("%s %q is masked as %q, want %q", test.field, test.text, got, test.want)
		}
	}
}

func TestFirstLineEndsAtABorder(t *testing.T) {
	tests := []struct {
		text  string
		limit int
		want  string
	}{
		{"hello", 10, "hello"},
		{"\n\n hello \nworld", 10, "hello"},
		{"hello world", 5, "hello…"},
		{"hello world", 6, "hello…"},
		{"héllo", 2, "h…"},
		{"👩👩", 5, "👩…"},
		{"👩", 3, "…"},
		{"", 5, ""},
	}
	for _, test := range tests {
		if got := strings.TrimRight(euii.Reveal(euii.FirstLine(clear[euii.Channel](test.text), test.limit)), " "); got != test.want {
			t.Errorf("the first line of %q at %d is %q, want %q", test.text, test.limit, got, test.want)
		}
	}
}

func FuzzFirstLineAndMask(f *testing.F) {
	f.Add("hello\nworld", 3)
	f.Add("\xf0\x9f\x91", 2)
	f.Add("a@b", 0)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if !utf8.ValidString(text) || limit < 0 { // CheckInbound let nothing else in
			return
		}
		line := euii.Reveal(euii.FirstLine(clear[euii.Channel](text), limit))
		if !utf8.ValidString(line) || strings.Contains(line, "\n") || len(line) > limit+len("…") {
			t.Errorf("the first line of %q at %d is %q", text, limit, line)
		}
		for field := euii.AgentDisplayName; field <= euii.MessageBody; field++ {
			masked := euii.Mask(field, text)
			if !utf8.ValidString(masked) || text != "" && !strings.Contains(masked, "•••") {
				t.Errorf("%s %q is masked as %q", field, text, masked)
			}
		}
	})
}

func FuzzInbound(f *testing.F) {
	f.Add([]byte(`"text"`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"a":1}`))
	f.Add([]byte(`"\ud800"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in euii.Inbound
		if err := in.UnmarshalJSON(b); err != nil {
			if len(b) > 8 && strings.Contains(err.Error(), string(b)) {
				t.Errorf("the error quotes the input: %v", err)
			}
			return
		}
		if err := euii.CheckInbound(in, 1<<20, true); err == nil {
			euii.InboundWithout(euii.InboundJoin(" ", in, in), in)
		}
	})
}
