package chat_test

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"counterfoil/internal/chat"
)

// Whoever accepted other words is asked again: the words of the built-in notices are those of version 1, for good.
func TestTheBuiltInNoticesAreThoseOfVersionOne(t *testing.T) {
	for audience, want := range map[chat.Audience]string{chat.ForVisitors: "e55dcf9b03ea676e", chat.ForAgents: "b016b1da98279bfb"} {
		n := chat.BuiltIn(audience)
		var all []byte
		for _, language := range chat.Languages() {
			text, err := chat.NoticeText(n.Texts[language])
			if err != nil || text != n.Texts[language] || len(n.Paragraphs(language)) < 3 {
				t.Errorf("the notice for %s in %s is no notice: %v", audience, language, err)
			}
			all = append(all, text...)
		}
		sum := sha256.Sum256(all)
		if got := hex.EncodeToString(sum[:8]); n.Version != 1 || got != want {
			t.Errorf("the built-in notice for %s has the sum %s, want %s", audience, got, want)
		}
	}
}

func TestANoticeIsPlainTextInParagraphs(t *testing.T) {
	n := chat.Notice{Texts: map[string]string{"en": "Heading\nwords\nand more\n\nalone\n\n\n\n  \n\nH\nw"}}
	want := []chat.Paragraph{{"Heading", "words and more"}, {"", "alone"}, {"H", "w"}}
	if got := n.Paragraphs("en"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"", " \n", strings.Repeat("é", 4001), "a\x00b", "a\u202eb", "\xff"} {
		if _, err := chat.NoticeText(bad); err == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
	if got, err := chat.NoticeText(" a\r\nb \r\n"); err != nil || got != "a\nb" {
		t.Errorf("got %q, %v", got, err)
	}
}
