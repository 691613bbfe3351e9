package standin

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

const (
	channelID = "msteams"
	botName   = "Counterfoil"

	// GeneralChannel and FrontDesk name the two channels of the team. The app is installed with FrontDesk selected.
	GeneralChannel = "General"
	FrontDesk      = "Front desk"

	teamName   = "Support"
	teamID     = "19:5b0f6d9c2a7e4c83b1d94e7f0a6c3d21@thread.tacv2"
	frontID    = "19:c3e1a8f47d2b4956a0f8b6d5e9172c4a@thread.tacv2"
	teamGroup  = "4d6c1f0e-8a2b-4f57-9c3d-71e5b08a26f9"
	threadMark = ";messageid="
)

// Member is one person of the fictional organisation.
type Member struct {
	Short       string // how tests and the page call the person, such as "amelie"
	ID          string // the id this bot knows the person by; another bot sees another one
	AADObjectID string
	Name        string
	GivenName   string
	Surname     string
	Email       string
	ChatID      string // conversation id of the person's 1:1 chat with the bot
}

// organisation is fixed, and its ids depend on nothing but the registration, so that what a bot has stored about people
// and channels still holds after the stand-in was started again.
type organisation struct {
	tenant  string
	bot     account
	members []Member
}

func newOrganisation(appID, tenantID string) organisation {
	o := organisation{tenant: tenantID, bot: account{ID: "28:" + appID, Name: botName}}
	for _, p := range []struct{ short, aad, given, surname, mailbox string }{
		{"amelie", "0d9b7c52-3f1e-4a86-b7d0-5c2e91f4a638", "Amélie", "Dubois", "amelie.dubois"},
		{"jonas", "7a41e6f3-98c2-4d05-8e3b-1f6d20b9c574", "Jonas", "Lindström", "jonas.lindstrom"},
		{"olena", "c58f2d90-6b7a-4e13-a9f4-83d1e70b52c6", "Олена", "Коваленко", "olena.kovalenko"},
		{"grace", "2e7d05b8-41f9-4c6a-9d82-b6a3f17c0e95", "Grace", "Okafor", "grace.okafor"},
		{"zoe", "91c4a3e7-d05b-4b28-8f6e-4e92d7a1b30f", "Zoë", "O’Brien-García", "zoe.obrien"},
	} {
		o.members = append(o.members, Member{
			Short: p.short, AADObjectID: p.aad,
			ID:   "29:1" + derive("user", appID, p.aad),
			Name: p.given + " " + p.surname, GivenName: p.given, Surname: p.surname,
			Email:  p.mailbox + "@contoso.example",
			ChatID: "a:1" + derive("chat", appID, p.aad),
		})
	}
	return o
}

func derive(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (o *organisation) member(match func(*Member) bool) (Member, bool) {
	for i := range o.members {
		if match(&o.members[i]) {
			return o.members[i], true
		}
	}
	return Member{}, false
}

func (o *organisation) byShort(short string) (Member, bool) {
	return o.member(func(m *Member) bool { return m.Short == short })
}

func (o *organisation) byChat(id string) (Member, bool) {
	return o.member(func(m *Member) bool { return m.ChatID == id })
}

// byUser finds a person as the connector does, by the bot's id for the person or by the directory's.
func (o *organisation) byUser(id string) (Member, bool) {
	return o.member(func(m *Member) bool { return m.ID == id || strings.EqualFold(m.AADObjectID, id) })
}

// channelOf is the channel a conversation id lies in, with or without a thread.
func channelOf(conversation string) (id, root string, ok bool) {
	id, root, _ = strings.Cut(conversation, threadMark)
	return id, root, id == teamID || id == frontID
}

func channelNamed(name string) (string, bool) {
	switch name {
	case GeneralChannel:
		return teamID, true
	case FrontDesk:
		return frontID, true
	}
	return "", false
}
