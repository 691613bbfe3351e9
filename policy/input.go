package policy

import "slices"

// Purpose is the reason somebody is shown, or the service uses, what it asks
// for. The list is closed: whatever is not in Purposes is denied.
type Purpose string

// The purposes, in the order of a conversation's life and then of its upkeep.
const (
	CollectVisitor          Purpose = "collect_visitor"
	AnnounceToChannel       Purpose = "announce_to_channel"
	MatchAgent              Purpose = "match_agent"
	CollectAgent            Purpose = "collect_agent"
	ShowJoinerToChannel     Purpose = "show_joiner_to_channel"
	IntroduceVisitorToAgent Purpose = "introduce_visitor_to_agent"
	ShowAgentToVisitor      Purpose = "show_agent_to_visitor"
	Converse                Purpose = "converse"
	MyOwnData               Purpose = "my_own_data"
	RevealToAdmin           Purpose = "reveal_to_admin"
	ReadTranscript          Purpose = "read_transcript"
	BreakGlass              Purpose = "break_glass"
	ApproveBreakGlass       Purpose = "approve_break_glass"
	ArchiveConversation     Purpose = "archive_conversation"
	ApplyRetention          Purpose = "apply_retention"
	ScanForCanaries         Purpose = "scan_for_canaries"
	ReadAuditLog            Purpose = "read_audit_log"
	Administer              Purpose = "administer"
	ChangeTogether          Purpose = "change_together"
	ApproveChange           Purpose = "approve_change"
	OwnAccount              Purpose = "own_account"
	RaiseAlerts             Purpose = "raise_alerts"
	HandleAlerts            Purpose = "handle_alerts"
	EndUserPolicy           Purpose = "end_user_policy"
	HandleRequest           Purpose = "handle_request"
	AnswerRequest           Purpose = "answer_request"
	FindPerson              Purpose = "find_person"
	ControlData             Purpose = "control_data"
	EraseData               Purpose = "erase_data"
	EraseOrganisation       Purpose = "erase_organisation"
	ExportRecords           Purpose = "export_records"
)

// Purposes returns every purpose there is.
func Purposes() []Purpose {
	return []Purpose{
		CollectVisitor, AnnounceToChannel, MatchAgent, CollectAgent,
		ShowJoinerToChannel, IntroduceVisitorToAgent, ShowAgentToVisitor,
		Converse, MyOwnData, RevealToAdmin, ReadTranscript, BreakGlass, ApproveBreakGlass,
		ArchiveConversation, ApplyRetention, ScanForCanaries, ReadAuditLog, ExportRecords, Administer,
		ChangeTogether, ApproveChange, OwnAccount, ControlData, EraseData, EraseOrganisation,
		RaiseAlerts, HandleAlerts,
		EndUserPolicy, HandleRequest, AnswerRequest, FindPerson,
	}
}

// Title names the purpose for people, in French when lang is "fr" and in
// English otherwise. It is empty for an unknown purpose.
func (p Purpose) Title(lang string) string {
	var en, fr string
	switch p {
	case CollectVisitor:
		en, fr = "Keep what a visitor says about himself", "Conserver ce qu'un visiteur dit de lui-même"
	case AnnounceToChannel:
		en, fr = "Announce a waiting conversation to the channel", "Annoncer une conversation en attente dans le canal"
	case MatchAgent:
		en, fr = "Find the profile of the agent who joins", "Trouver le profil de l'agent qui rejoint"
	case CollectAgent:
		en, fr = "Keep the name and email of the agent who joined", "Conserver le nom et l'adresse de l'agent qui a rejoint"
	case ShowJoinerToChannel:
		en, fr = "Tell the channel who joined", "Dire au canal qui a rejoint"
	case IntroduceVisitorToAgent:
		en, fr = "Introduce the visitor to his agent", "Présenter le visiteur à son agent"
	case ShowAgentToVisitor:
		en, fr = "Show the visitor who answers him", "Montrer au visiteur qui lui répond"
	case Converse:
		en, fr = "Carry on the conversation", "Poursuivre la conversation"
	case MyOwnData:
		en, fr = "Show a person his own data", "Montrer à une personne ses propres données"
	case RevealToAdmin:
		en, fr = "Reveal a person to an administrator", "Révéler une personne à un administrateur"
	case ReadTranscript:
		en, fr = "Show an administrator what was written", "Montrer à un administrateur ce qui a été écrit"
	case BreakGlass:
		en, fr = "Reveal in an emergency, approved by a second person", "Révéler en urgence, avec l'accord d'une seconde personne"
	case ApproveBreakGlass:
		en, fr = "Approve an emergency of somebody else", "Approuver l'urgence de quelqu'un d'autre"
	case ArchiveConversation:
		en, fr = "Put a conversation into the archive", "Verser une conversation aux archives"
	case ApplyRetention:
		en, fr = "Delete what has been kept long enough", "Supprimer ce qui a été conservé assez longtemps"
	case ScanForCanaries:
		en, fr = "Look for planted names where none may be", "Chercher des noms témoins là où il ne doit pas y en avoir"
	case ReadAuditLog:
		en, fr = "Read the audit log", "Lire le journal d'audit"
	case ExportRecords:
		en, fr = "Take many records out of the log, approved by a second person", "Extraire beaucoup d'enregistrements du journal, avec l'accord d'une seconde personne"
	case Administer:
		en, fr = "Administer the service", "Administrer le service"
	case ChangeTogether:
		en, fr = "Change what needs a second person", "Changer ce qui demande une seconde personne"
	case ApproveChange:
		en, fr = "Approve a change of somebody else", "Approuver le changement de quelqu'un d'autre"
	case RaiseAlerts:
		en, fr = "Watch the log and raise alerts", "Surveiller le journal et lancer des alertes"
	case HandleAlerts:
		en, fr = "Handle alerts", "Traiter les alertes"
	case OwnAccount:
		en, fr = "Change his own factors and sessions", "Changer ses propres facteurs et sessions"
	case EndUserPolicy:
		en, fr = "Tell visitors and agents what is kept", "Dire aux visiteurs et aux agents ce qui est conservé"
	case HandleRequest:
		en, fr = "Handle what a person asks about his data", "Traiter ce qu'une personne demande sur ses données"
	case AnswerRequest:
		en, fr = "Answer a person who asks about his data", "Répondre à une personne qui demande ses données"
	case FindPerson:
		en, fr = "Find who asks by the email he writes from", "Trouver qui demande par l'adresse d'où il écrit"
	case ControlData:
		en, fr = "Set how long data is kept, and hold it", "Fixer la durée de conservation, et suspendre l'effacement"
	case EraseData:
		en, fr = "Erase a person or a conversation", "Effacer une personne ou une conversation"
	case EraseOrganisation:
		en, fr = "Erase the organisation, approved by a second person", "Effacer l'organisation, avec l'accord d'une seconde personne"
	}
	if lang == "fr" {
		return fr
	}
	return en
}

// The fields a purpose may ask for. They name EUII; they never hold it.
const (
	AgentDisplayName   = "agent_display_name"
	AgentGivenName     = "agent_given_name"
	AgentSurname       = "agent_surname"
	AgentEmail         = "agent_email"
	VisitorDisplayName = "visitor_display_name"
	VisitorGivenName   = "visitor_given_name"
	VisitorSurname     = "visitor_surname"
	VisitorEmail       = "visitor_email"
	VisitorPhone       = "visitor_phone"
	VisitorAddress     = "visitor_address"
	VisitorAnswers     = "visitor_answers"
	MessageBody        = "message_body"
	AdminAddress       = "admin_address"
)

// Fields returns every field there is.
func Fields() []string {
	return []string{
		AdminAddress, AgentDisplayName, AgentEmail, AgentGivenName, AgentSurname,
		MessageBody,
		VisitorAddress, VisitorAnswers, VisitorDisplayName, VisitorEmail,
		VisitorGivenName, VisitorPhone, VisitorSurname,
	}
}

// Input is the question put to the policy. It holds references and settings,
// never a name, an email or a message, so that it may be kept and asked again
// of another revision.
type Input struct {
	Actor        Actor        `json:"actor"`
	Purpose      Purpose      `json:"purpose"`
	Audience     string       `json:"audience"`     // visitor, agent, channel, console, service, archive
	Subject      Subject      `json:"subject"`      // taken from the sealed envelope
	Fields       []string     `json:"fields"`       // sorted; none for an administrative act
	Conversation Conversation `json:"conversation"` // zero where no conversation is concerned
	Organisation Organisation `json:"organisation"` // settings of the subject's organisation

	Justification bool     `json:"justification"` // a written one was given; its text is no part of the question
	Approval      Approval `json:"approval"`      // zero where nobody approved and nothing is to be approved
	Request       string   `json:"request"`       // reference of the subject that an open request of a person covers; empty without one

	Retention Retention `json:"retention"` // what is to be kept how long, where that is the question
}

// Actor is who asks.
type Actor struct {
	Kind         string   `json:"kind"`         // visitor, agent, channel, admin, job, operator, client
	Organisation string   `json:"organisation"` // the tenant he acts in
	Ref          string   `json:"ref"`          // keyed reference; empty for an agent without a profile
	Roles        []string `json:"roles"`        // of an admin: auditor, security_admin, privacy_officer, approver
	Factors      []Factor `json:"factors"`      // what he proved when he signed in or stepped up
	Address      string   `json:"address"`      // admitted, refused, none
	Job          string   `json:"job"`          // of a job: alerts, archive, canary_scan or retention
	Recent       int      `json:"recent"`       // disclosures to him within the last hour
}

// Factor is one proof of identity.
type Factor struct {
	Method     string `json:"method"`      // password, totp, webauthn
	AgeSeconds int    `json:"age_seconds"` // since it was given
	For        string `json:"for"`         // the purpose it was given for; empty when he signed in with it
}

// Subject is whom or what the fields are about. Of a conversation, Ref equals
// Conversation.Ref.
type Subject struct {
	Kind         string `json:"kind"`         // agent, visitor, conversation, admin; empty for an administrative act
	Organisation string `json:"organisation"` // the tenant it belongs to
	Ref          string `json:"ref"`
	Restricted   bool   `json:"restricted"` // he, or the visitor of the conversation, restricted what is done with his data
}

// Conversation is the conversation in which the question arises.
type Conversation struct {
	Ref       string `json:"ref"`
	State     string `json:"state"`      // empty, waiting, active, closed, offline
	ActorIs   string `json:"actor_is"`   // the actor's part in it: empty, visitor, agent, channel
	SubjectIs string `json:"subject_is"` // the subject's part in it
}

// Approval is the consent of a second person to an emergency or a change.
type Approval struct {
	By               string `json:"by"`                 // reference of who approved; empty while nobody did
	Actor            string `json:"actor"`              // reference of who asked for it
	Subject          string `json:"subject"`            // reference of whom or what it is about
	ExpiresInSeconds int    `json:"expires_in_seconds"` // from now
}

// Organisation holds the settings that policy reads.
type Organisation struct {
	ShareVisitorEmail bool   `json:"share_visitor_email"` // agents see a visitor's email and phone in plain
	CreateAgents      bool   `json:"create_agents"`       // the first Join may create an agent's profile
	NameInChannel     bool   `json:"name_in_channel"`     // the channel sees in plain who joined
	Limits            Limits `json:"limits"`              // its own; those it is to have where that is the question
}

// Retention is how long a class of data is to be kept.
type Retention struct {
	Class string `json:"class"` // transcript, visitor, agent, conversation, session, reason, backup; empty where that is not the question
	Days  int    `json:"days"`
}

// Limits are disclosures within an hour to one actor of a kind; 0 where the
// organisation has no number of its own.
type Limits struct {
	Visitor  int `json:"visitor"`
	Agent    int `json:"agent"`
	Channel  int `json:"channel"`
	Admin    int `json:"admin"`
	Operator int `json:"operator"`
	Job      int `json:"job"`
}

// clone returns a copy that shares no memory with in.
func (in Input) clone() Input {
	in.Actor.Roles = slices.Clone(in.Actor.Roles)
	in.Actor.Factors = slices.Clone(in.Actor.Factors)
	in.Fields = slices.Clone(in.Fields)
	return in
}

// closed returns the values an input member may take, by its path. The schema
// and the decision matrix are made from it.
func closed() map[string][]string {
	parts := []string{"", "visitor", "agent", "channel"}
	purposes := []string{""}
	for _, p := range Purposes() {
		purposes = append(purposes, string(p))
	}
	return map[string][]string{
		"actor.kind":              {"visitor", "agent", "channel", "admin", "job", "operator", "client"},
		"actor.roles":             {"auditor", "security_admin", "privacy_officer", "approver"},
		"actor.factors.method":    {"password", "totp", "webauthn"},
		"actor.factors.for":       purposes,
		"actor.address":           {"admitted", "refused", "none"},
		"actor.job":               {"", "alerts", "archive", "canary_scan", "retention"},
		"audience":                {"visitor", "agent", "channel", "console", "service", "archive"},
		"subject.kind":            {"", "agent", "visitor", "conversation", "admin"},
		"fields":                  Fields(),
		"conversation.state":      {"", "waiting", "active", "closed", "offline"},
		"conversation.actor_is":   parts,
		"conversation.subject_is": parts,
		"retention.class":         {"", "transcript", "visitor", "agent", "conversation", "session", "reason", "backup"},
	}
}
