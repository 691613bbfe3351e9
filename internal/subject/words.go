package subject

import (
	"fmt"
	"strings"
)

// Word gives a text in a language; the name itself where there is none.
func Word(lang, name string) string {
	both, ok := words[name]
	switch {
	case !ok:
		return name
	case lang == "fr":
		return both[1]
	}
	return both[0]
}

// FieldNames names fields as a sentence does.
func FieldNames(lang string, fields []string) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = Word(lang, "field_"+f)
	}
	return strings.Join(names, ", ")
}

// In says for how long, in a language.
func (k Keeping) In(lang string) string { return fmt.Sprintf(Word(lang, "keptDays"), k.Days) }

// words are all texts, in English and in French.
var words = map[string][2]string{
	"title":        {"What is kept about you", "Ce qui est conservé à votre sujet"},
	"lead":         {"This is all that is kept of you here, and each time that something of it was shown to somebody.", "Voici tout ce qui est conservé de vous ici, et chaque fois que quelque chose en a été montré à quelqu’un."},
	"organisation": {"Kept by", "Conservé par"},
	"you":          {"You appear as", "Vous apparaissez comme"},
	"made":         {"As of", "État au"},
	"since":        {"since", "depuis"},
	"use":          {"Use", "Utilisation"},
	"restricted":   {"restricted: it is shown to nobody but you", "limitée : vos données ne sont montrées qu’à vous"},
	"nothing":      {"No name and no address is kept of you.", "Ni nom ni adresse ne sont conservés de vous."},
	"keptFor":      {"For how long", "Pour combien de temps"},
	"keptDays":     {"%d days after the end of the conversation", "%d jours après la fin de la conversation"},
	"keptLonger":   {"Longer only while a law or a dispute demands it, and shorter if you have it erased.", "Plus longtemps seulement si une loi ou un litige l’exige, et moins longtemps si vous le faites effacer."},
	"asked":        {"What you asked", "Ce que vous avez demandé"},
	"messages":     {"What was written", "Ce qui a été écrit"},
	"when":         {"When", "Quand"},
	"by":           {"By", "Par"},
	"text":         {"Text", "Texte"},
	"shown":        {"Who was shown it", "À qui cela a été montré"},
	"shownLead":    {"The newest first. People appear by handles: their names are theirs.", "Les plus récents d’abord. Les personnes apparaissent sous des références : leurs noms leur appartiennent."},
	"to":           {"To", "À"},
	"what":         {"What", "Quoi"},
	"why":          {"Why", "Pourquoi"},
	"record":       {"Record", "Enregistrement"},
	"log":          {"Each line is a record of this log; behind it stands its number of records:", "Chaque ligne est un enregistrement de ce journal, suivi de son nombre d’enregistrements :"},
	"rights":       {"You may have it corrected, restricted or erased, object to its use, and complain to the data protection authority.", "Vous pouvez en demander la rectification, la limitation ou l’effacement, vous opposer à son utilisation et saisir l’autorité de protection des données."},
	"end":          {"End of the file.", "Fin du dossier."},

	"keeps_transcript": {"What was written", "Ce qui a été écrit"}, "keeps_visitor": {"Your name and email", "Votre nom et votre e-mail"}, "keeps_agent": {"Your name in conversations", "Votre nom dans les conversations"},
	"keeps_conversation": {"That there was a conversation", "Le fait qu’il y a eu une conversation"},

	"ask_access": {"A copy", "Une copie"}, "ask_portability": {"A copy for programs", "Une copie pour programmes"}, "ask_rectification": {"Correction", "Rectification"},
	"ask_restriction": {"Restriction", "Limitation"}, "ask_objection": {"Objection", "Opposition"}, "ask_erasure": {"Erasure", "Effacement"},
	"state_open": {"open", "en cours"}, "state_answered": {"answered", "répondue"}, "state_refused": {"refused", "refusée"}, "state_withdrawn": {"withdrawn", "retirée"},
	"step_received": {"Received", "Reçue"}, "step_identified": {"Identity established", "Identité établie"}, "step_extended": {"Extended", "Prolongée"}, "step_answered": {"Answered", "Répondue"},
	"step_refused": {"Refused", "Refusée"}, "step_withdrawn": {"Taken back", "Retirée"}, "step_restricted": {"Use restricted", "Utilisation limitée"}, "step_lifted": {"Restriction lifted", "Limitation levée"},
	"step_corrected": {"Corrected", "Rectifié"}, "step_erased": {"Erased", "Effacé"}, "step_file": {"File made", "Dossier établi"},
	"outcome_allow": {"shown", "montré"}, "outcome_masked": {"masked", "masqué"}, "outcome_deny": {"refused", "refusé"},

	"field_agent_display_name": {"name", "nom"}, "field_agent_given_name": {"given name", "prénom"}, "field_agent_surname": {"surname", "nom de famille"}, "field_agent_email": {"email", "e-mail"},
	"field_visitor_display_name": {"name", "nom"}, "field_visitor_email": {"email", "e-mail"}, "field_message_body": {"messages", "messages"},
	"field_visitor_given_name": {"given name", "prénom"}, "field_visitor_surname": {"surname", "nom de famille"}, "field_visitor_phone": {"phone", "téléphone"},
	"field_visitor_address": {"address", "adresse"}, "field_visitor_answers": {"answers", "réponses"},

	"linkTitle":  {"Your data", "Vos données"},
	"linkLead":   {"This link gives you your file once. It holds a page to read, the same for programs, and a proof of the newest record.", "Ce lien vous donne votre dossier une seule fois. Il contient une page à lire, la même pour programmes, et une preuve de l’enregistrement le plus récent."},
	"linkGet":    {"Download", "Télécharger"},
	"linkGone":   {"This link leads nowhere any more. Ask for a new one with “my data”.", "Ce lien ne mène plus nulle part. Demandez-en un autre avec « mes données »."},
	"linkTrying": {"Your file cannot be made right now, because nothing can be recorded. Ask for a new link in a moment.", "Votre dossier ne peut pas être établi pour le moment, car rien ne peut être enregistré. Demandez un autre lien dans un instant."},
}
