package teams

import (
	"strconv"
	"strings"
)

// Language is a language of the cards.
type Language string

// The languages. Any other value gives English.
const (
	English Language = "en"
	French  Language = "fr"
)

// words are the texts of the cards. They are ours, so they may go into Markdown.
type words struct {
	waiting, active, closed, open, intro                   string // followed by a handle
	joinedBy, name, email, page, language                  string // labels
	byAgent, byVisitor, byIdle, givenBack                  string
	join, reply, send, transfer, end, canned, change       string // buttons
	replyLabel, replyHint, replyMissing                    string
	cannedLabel, cannedMissing, switchLabel, switchMissing string
	current, typeHere, switchNone                          string
	notice, noticeWhy, accept, version                     string
	accepted, superseded                                   string
	own, ownNote, ownAsked, ownDue, ownRestricted          string
	file, correct, restrict, lift, object, erase           string // buttons
	objectWhat, objectIt, eraseWhat, eraseIt               string
}

func (l Language) words() words {
	if l == French {
		return words{
			waiting: "En attente :", active: "En cours :", closed: "Terminée :", open: "Vos conversations",
			intro: "Vous parlez avec", joinedBy: "Prise en charge par", name: "Nom", email: "E-mail", page: "Page",
			language: "Langue", byAgent: "Terminée par l’agent.", byVisitor: "Terminée par le visiteur.", givenBack: "Rendue au canal.",
			byIdle: "Terminée faute d’activité.",
			join:   "Rejoindre", reply: "Répondre", send: "Envoyer", transfer: "Transférer", end: "Terminer",
			canned: "Réponse type", change: "Changer", replyLabel: "Votre réponse",
			replyHint: "Le visiteur la voit aussitôt", replyMissing: "Écrivez d’abord une réponse.",
			cannedLabel: "Réponse type", cannedMissing: "Choisissez une réponse.",
			switchLabel: "À qui vont vos messages ?", switchMissing: "Choisissez une conversation.",
			current: "(actuelle)", typeHere: "Écrivez ici : chaque message va au visiteur.",
			switchNone: "Vous n’avez aucune conversation ouverte.",
			notice:     "Avant de rejoindre", noticeWhy: "Rien ne vous est montré avant que vous ayez accepté. La conversation vous est réservée cinq minutes.",
			accept: "Accepter et rejoindre", version: "Version",
			accepted: "Vous avez accepté.", superseded: "Cette version n’est plus en vigueur. La nouvelle suit.",
			own: "Vos données", ownNote: "Demandez ce que vous voulez : votre organisation répond sous 30 jours. Chaque demande est consignée.",
			ownAsked: "En cours", ownDue: "réponse au plus tard le", ownRestricted: "L’utilisation de vos données est limitée : elles ne sont montrées qu’à vous.",
			file: "Mon dossier", correct: "Rectifier mon nom", restrict: "Limiter l’utilisation", lift: "Lever la limitation", object: "M’opposer", erase: "Effacer",
			objectWhat: "Jusqu’à la réponse, vos données ne sont montrées qu’à vous.", objectIt: "Je m’oppose",
			eraseWhat: "Votre nom et votre e-mail disparaissent de chaque conversation, sauf conservation légale. Vous ne pourrez plus rejoindre sous ce profil.", eraseIt: "Demander l’effacement",
		}
	}
	return words{
		waiting: "Waiting:", active: "Active:", closed: "Closed:", open: "Your conversations",
		intro: "You are talking to", joinedBy: "Joined by", name: "Name", email: "Email", page: "Page",
		language: "Language", byAgent: "Ended by the agent.", byVisitor: "Ended by the visitor.", givenBack: "Given back to the channel.",
		byIdle: "Ended because nobody wrote.",
		join:   "Join", reply: "Reply", send: "Send", transfer: "Transfer", end: "End", canned: "Canned reply",
		change: "Switch", replyLabel: "Your reply", replyHint: "The visitor sees it at once",
		replyMissing: "Write a reply first.", cannedLabel: "Canned reply", cannedMissing: "Choose a reply.",
		switchLabel: "Who gets your messages?", switchMissing: "Choose a conversation.", current: "(current)",
		typeHere: "Write here: every message goes to the visitor.", switchNone: "You have no open conversation.",
		notice: "Before you join", noticeWhy: "Nothing is shown to you before you have accepted. The conversation is kept for you for five minutes.",
		accept: "Accept and join", version: "Version",
		accepted: "You have accepted.", superseded: "This version is no longer in force. The new one follows.",
		own: "Your data", ownNote: "Ask what you want: your organisation answers within 30 days. Each request is recorded.",
		ownAsked: "Open", ownDue: "answer due by", ownRestricted: "The use of your data is restricted: it is shown to nobody but you.",
		file: "My file", correct: "Correct my name", restrict: "Restrict the use", lift: "Lift the restriction", object: "Object", erase: "Erase",
		objectWhat: "Until it is answered, your data is shown to nobody but you.", objectIt: "I object",
		eraseWhat: "Your name and email go from every conversation, unless a legal hold forbids it. You cannot join under this profile again.", eraseIt: "Ask for erasure",
	}
}

// code is the language tag of the card.
func (l Language) code() Language {
	if l == French {
		return French
	}
	return English
}

const (
	lineLimit   = 200
	nameLimit   = 120
	pageLimit   = 300
	handleLimit = 40
	noticeLimit = 4000
	// MaxReply is the longest reply the reply box takes, in characters.
	MaxReply = 4000
	// maxOptions bounds a list of choices, so that a card stays a card.
	maxOptions = 25
)

// Canned is a prepared reply that an agent may pick: its id, and the title he sees.
type Canned struct{ ID, Title string }

// Waiting is what the channel sees of a conversation nobody has joined: no name, only the handle and the first line.
type Waiting struct {
	Conversation, Handle string
	FirstLine            string
}

// WaitingCard is the queue entry, with the button Join.
func WaitingCard(l Language, v Waiting) Card {
	w := l.words()
	title := w.waiting + " " + plainHandle(v.Handle)
	return Card{
		summary: title, lang: l.code(), body: append([]any{heading(title)}, lines("", v.FirstLine, lineLimit)...),
		actions: []any{execute(w.join, VerbJoin, v.Conversation, primary, inputsNone)},
	}
}

// Active is what the channel sees of a conversation an agent has joined.
type Active struct {
	Conversation, Handle string
	FirstLine            string
	// JoinedBy is a name cleared for the channel, or empty.
	JoinedBy string
	Canned   []Canned
}

// ActiveCard has the reply box and the other buttons of a running conversation.
func ActiveCard(l Language, v Active) Card {
	w := l.words()
	title := w.active + " " + plainHandle(v.Handle)
	body := append([]any{heading(title)}, lines("", v.FirstLine, lineLimit)...)
	return Card{
		summary: title, lang: l.code(), body: append(body, lines(w.joinedBy, v.JoinedBy, nameLimit)...),
		actions: append([]any{replyBox(w, v.Conversation)}, running(w, v.Conversation, v.Canned)...),
	}
}

// replyBox answers from the card, without a mention and without the 1:1 chat.
func replyBox(w words, conversation string) actionShowCard {
	return actionShowCard{"Action.ShowCard", w.reply, primary, innerCard{
		Type: "AdaptiveCard",
		Body: []any{inputText{
			Type: "Input.Text", ID: inputReply, Label: w.replyLabel, Placeholder: w.replyHint, IsMultiline: true,
			IsRequired: true, ErrorMessage: w.replyMissing, MaxLength: MaxReply,
		}},
		Actions: []any{execute(w.send, VerbReply, conversation, "", inputsAuto)},
	}}
}

// running are the buttons every running conversation has.
func running(w words, conversation string, canned []Canned) []any {
	var actions []any
	if options := cannedOptions(canned); len(options) > 0 {
		actions = append(actions, actionShowCard{"Action.ShowCard", w.canned, "", innerCard{
			Type: "AdaptiveCard",
			Body: []any{inputChoice{
				Type: "Input.ChoiceSet", ID: dataCanned, Label: w.cannedLabel, Style: "compact",
				IsRequired: true, ErrorMessage: w.cannedMissing, Choices: options,
			}},
			Actions: []any{execute(w.send, VerbCanned, conversation, "", inputsAuto)},
		}})
	}
	return append(actions,
		execute(w.transfer, VerbTransfer, conversation, "", inputsNone),
		execute(w.end, VerbEnd, conversation, "", inputsNone))
}

func cannedOptions(canned []Canned) []inputOption {
	var options []inputOption
	for _, c := range canned[:min(len(canned), maxOptions)] {
		options = append(options, inputOption{foreign(c.Title, nameLimit), c.ID})
	}
	return options
}

// Ending says how a conversation ended.
type Ending uint8

// The endings.
const (
	EndedIdle Ending = iota
	EndedByAgent
	EndedByVisitor
)

// ClosedCard is what stays in the channel. It has no button and no line of the visitor's, as nothing can take it out of
// Teams later but another update.
func ClosedCard(l Language, handle string, how Ending) Card {
	w := l.words()
	said := w.byIdle
	switch how {
	case EndedByAgent:
		said = w.byAgent
	case EndedByVisitor:
		said = w.byVisitor
	}
	title := w.closed + " " + plainHandle(handle)
	return Card{summary: title, lang: l.code(), body: []any{heading(title), note(said)}}
}

// LeftCard takes the place of an introduction whose agent gave the conversation back: no name and no button.
func LeftCard(l Language, handle string) Card {
	w := l.words()
	title := w.waiting + " " + plainHandle(handle)
	return Card{summary: title, lang: l.code(), body: []any{heading(title), note(w.givenBack)}}
}

// Choice is one open conversation of an agent.
type Choice struct{ Conversation, Handle string }

// SwitchCard asks which of the agent's conversations his messages go to; current is the id of the one that gets them
// now, or empty. The choice arrives as Activity.Conversation.
func SwitchCard(l Language, current string, choices []Choice) Card {
	w := l.words()
	if len(choices) == 0 {
		return Card{summary: w.switchNone, lang: l.code(), body: []any{heading(w.open), note(w.switchNone)}}
	}
	in := inputChoice{
		Type: "Input.ChoiceSet", ID: dataConversation, Label: w.switchLabel, Style: "expanded",
		IsRequired: true, ErrorMessage: w.switchMissing,
	}
	for _, c := range choices[:min(len(choices), maxOptions)] {
		title := plainHandle(c.Handle)
		if c.Conversation == current {
			title += " " + w.current
			in.Value = current
		}
		in.Choices = append(in.Choices, inputOption{title, c.Conversation})
	}
	return Card{
		summary: w.open, lang: l.code(), body: []any{heading(w.open), in},
		actions: []any{execute(w.change, VerbSwitch, "", primary, inputsAuto)},
	}
}

// Intro presents a visitor to the agent who joined. Its texts were cleared for that agent; empty ones are left out.
type Intro struct {
	Conversation, Handle        string
	Name, Email, Page, Language string
	Canned                      []Canned
}

// IntroCard opens a conversation in the 1:1 chat.
func IntroCard(l Language, v Intro) Card {
	w := l.words()
	title := w.intro + " " + plainHandle(v.Handle)
	body := []any{heading(title)}
	body = append(body, lines(w.name, v.Name, nameLimit)...)
	body = append(body, lines(w.email, v.Email, pageLimit)...)
	body = append(body, lines(w.page, v.Page, pageLimit)...)
	body = append(body, lines(w.language, v.Language, handleLimit)...)
	return Card{
		summary: title, lang: l.code(), body: append(body, note(w.typeHere)),
		actions: running(w, v.Conversation, v.Canned),
	}
}

// Paragraph is a part of a notice.
type Paragraph struct{ Heading, Text string }

// NoticeCard tells an agent in his 1:1 chat what he has to know, and asks him to accept it before he joins a conversation.
func NoticeCard(l Language, conversation string, version int, paragraphs []Paragraph) Card {
	w, number := l.words(), strconv.Itoa(version)
	c := noticed(l, paragraphs, w.noticeWhy+" "+w.version+" "+number+".")
	c.actions = []any{executeWith(w.accept, VerbAccept, cardData{conversation, VerbAccept, number}, primary, inputsNone)}
	return c
}

// AcceptedCard takes the place of a notice that was accepted: it can be read, and has no button.
func AcceptedCard(l Language, version int, paragraphs []Paragraph) Card {
	w := l.words()
	return noticed(l, paragraphs, w.accepted+" "+w.version+" "+strconv.Itoa(version)+".")
}

// SupersededCard takes the place of a notice whose version is not in force any more.
func SupersededCard(l Language) Card { return noticed(l, nil, l.words().superseded) }

func noticed(l Language, paragraphs []Paragraph, state string) Card {
	w := l.words()
	body := []any{heading(w.notice)}
	for _, p := range paragraphs {
		if p.Heading != "" {
			body = append(body, richTextBlock{"RichTextBlock", []textRun{{"TextRun", foreign(p.Heading, nameLimit), true}}, "Medium"})
		}
		body = append(body, lines("", p.Text, noticeLimit)...)
	}
	return Card{summary: w.notice, lang: l.code(), body: append(body, note(state))}
}

// Asked is a request of an agent about his own data that is open: what he asks, and the day by which he is answered.
type Asked struct{ What, Due string }

// OwnCard lets an agent ask about his own data. What is restricted can be lifted, and the other way round.
func OwnCard(l Language, restricted bool, open []Asked) Card {
	w := l.words()
	body := []any{heading(w.own), note(w.ownNote)}
	use := execute(w.restrict, VerbRestrict, "", "", inputsNone)
	if restricted {
		body, use = append(body, note(w.ownRestricted)), execute(w.lift, VerbLift, "", "", inputsNone)
	}
	for _, a := range open {
		body = append(body, lines(w.ownAsked, a.What+", "+w.ownDue+" "+a.Due, lineLimit)...)
	}
	return Card{summary: w.own, lang: l.code(), body: body, actions: []any{
		execute(w.file, VerbFile, "", primary, inputsNone), execute(w.correct, VerbCorrect, "", "", inputsNone), use,
		sure(w.object, w.objectWhat, w.objectIt, VerbObject), sure(w.erase, w.eraseWhat, w.eraseIt, VerbErase),
	}}
}

// sure says what a button does before it is pressed.
func sure(title, what, do string, verb Verb) actionShowCard {
	return actionShowCard{"Action.ShowCard", title, "", innerCard{Type: "AdaptiveCard", Body: []any{note(what)}, Actions: []any{execute(do, verb, "", "", inputsNone)}}}
}

// plainHandle keeps a handle ("visitor 7f2k") to letters, digits, spaces and hyphens: it goes where Markdown is read.
func plainHandle(handle string) string {
	kept := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == ' ' || r == '-' || r != '.' && r != '_' && r != '~' && unreserved(byte(r))) {
			return r
		}
		return -1
	}, handle)
	return foreign(kept, handleLimit)
}
