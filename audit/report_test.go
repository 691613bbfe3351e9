package audit

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestProgressIsDrawnOnATerminalAfterASecond(t *testing.T) {
	var out bytes.Buffer
	quick, slow := Progress{to: &out, start: time.Now()}, Progress{to: &out, start: time.Now().Add(-2 * time.Second)}
	quick.Update(1, 2)
	quick.Clear()
	if out.Len() > 0 {
		t.Errorf("drew %q at once", &out)
	}
	slow.Update(1, 2)
	slow.Update(2, 2) // too soon after the last to be seen
	slow.Clear()
	if got := out.String(); !strings.Contains(got, "[###############...............]  50 % of 2 records") || strings.Contains(got, "100") {
		t.Errorf("drew %q", got)
	}
	if NewProgress(&out).to != nil {
		t.Error("a buffer is no terminal")
	}
}

func TestEpochsOfALog(t *testing.T) {
	for origin, want := range map[string][2]string{
		"chat.example/audit/org1":    {"org1", "chat.example/audit/org1/2"},
		"chat.example/audit/org1/2":  {"org1", "chat.example/audit/org1/3"},
		"chat.example/audit/org1/02": {"02", "chat.example/audit/org1/02/2"},
		"chat.example/audit/org1/1":  {"1", "chat.example/audit/org1/1/2"},
		"org1/9":                     {"org1", "org1/10"},
		"7":                          {"7", "7/2"},
	} {
		if got := [2]string{organisationOf(origin), NextOrigin(origin)}; got != want {
			t.Errorf("%s: got %q, want %q", origin, got, want)
		}
	}
}
