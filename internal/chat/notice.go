package chat

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Audience is whom a notice is for.
type Audience string

// The audiences of notices.
const (
	ForVisitors Audience = "visitor" // read and accepted before the first message of each conversation
	ForAgents   Audience = "agent"   // read and accepted at the first Join
)

// Languages are the languages in which everybody can read a notice.
func Languages() []string { return []string{"en", "fr"} }

// Notice is one version of what visitors or agents are told before they take part, in every language. A published one
// never changes.
type Notice struct {
	Audience Audience
	Version  int
	Texts    map[string]string // by language
}

// Paragraph is a part of a notice. Its heading may be empty.
type Paragraph struct{ Heading, Text string }

// Paragraphs takes the text of a language apart: empty lines separate paragraphs, and the first of several lines is a heading.
func (n Notice) Paragraphs(language string) []Paragraph {
	var all []Paragraph
	for part := range strings.SplitSeq(n.Texts[language], "\n\n") {
		heading, text, ok := strings.Cut(strings.TrimSpace(part), "\n")
		if !ok {
			heading, text = "", heading
		}
		if text != "" {
			all = append(all, Paragraph{heading, strings.Join(strings.Fields(text), " ")})
		}
	}
	return all
}

// maxNotice is the longest notice in characters: one that is longer is not read.
const maxNotice = 4000

// ErrNoticeText refuses a text that is empty, too long or not plain.
var ErrNoticeText = errors.New("a notice has 1 to 4000 characters of plain text in each language")

// NoticeText makes a text that was typed or read from a file the text of a notice.
func NoticeText(s string) (string, error) {
	s = strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n"))
	n := utf8.RuneCountInString(s)
	if n == 0 || n > maxNotice || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co) }) {
		return "", ErrNoticeText
	}
	return s, nil
}

// BuiltIn is the notice of an organisation that has published none of its own: version 1.
func BuiltIn(a Audience) Notice {
	if a == ForAgents {
		return Notice{ForAgents, 1, map[string]string{"en": `What this is
Visitors of your organisation's website write here, and you answer them.

What is kept
Your name and email address as Microsoft Teams gives them, and what you write. They are stored encrypted, with each conversation that you join.

Who sees it
The visitor whom you answer sees your display name, and the channel sees that you joined. Each time your name or email is shown to anyone, that showing is recorded; so is each time that a visitor's is shown to you.

Your rights
Write “my data” in this chat to see who was shown your name and email, and to get a copy. Ask your administrator to have it corrected, restricted or erased.`, "fr": `De quoi il s’agit
Les visiteurs du site web de votre organisation écrivent ici, et vous leur répondez.

Ce qui est conservé
Votre nom et votre adresse e-mail tels que Microsoft Teams les donne, et ce que vous écrivez. Ils sont enregistrés chiffrés, avec chaque conversation que vous rejoignez.

Qui les voit
Le visiteur auquel vous répondez voit votre nom d’affichage, et le canal voit que vous avez rejoint. Chaque fois que votre nom ou votre e-mail est montré à quelqu’un, cet affichage est consigné ; de même chaque fois que ceux d’un visiteur vous sont montrés.

Vos droits
Écrivez « mes données » dans cette discussion pour voir à qui votre nom et votre e-mail ont été montrés, et pour en obtenir une copie. Demandez à votre administrateur de les faire rectifier, limiter ou effacer.`}}
	}
	return Notice{ForVisitors, 1, map[string]string{"en": `What is kept
Your messages, and your name and email if you give them. They are stored encrypted.

How long
Until this company deletes them. Under “Your data” you can see, get and correct them, and ask for their erasure.

Who sees it
The team sees the first line of your first message; the colleague who joins you sees the rest. Each time your name or email, or a colleague’s, is shown to anyone, that showing is recorded.`, "fr": `Ce qui est conservé
Vos messages, ainsi que votre nom et votre adresse e-mail si vous les donnez. Ils sont enregistrés chiffrés.

Combien de temps
Jusqu’à ce que cette entreprise les supprime. Sous « Vos données », vous pouvez les voir, les obtenir et les corriger, et demander leur effacement.

Qui les voit
L’équipe voit la première ligne de votre premier message ; la personne qui vous répond voit le reste. Chaque fois que votre nom ou votre e-mail, ou ceux d’un de nos collègues, sont montrés à quelqu’un, cet affichage est consigné.`}}
}
