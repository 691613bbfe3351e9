package alerts

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/chat"
)

// kinds are the names of rules, in English and in French.
var kinds = map[string][2]string{
	FirstPair:    {"Shown somebody for the first time", "Première fois que quelqu’un est montré"},
	Volume:       {"More than usual", "Plus que d’habitude"},
	OffHours:     {"Outside of the hours of work", "En dehors des heures de travail"},
	NewAddress:   {"From a new address", "Depuis une nouvelle adresse"},
	ManySubjects: {"Many people within a short time", "Beaucoup de personnes en peu de temps"},
	NoChat:       {"Shown without an open conversation", "Montré sans conversation ouverte"},
	Canary:       {"A planted person was touched", "Une personne témoin a été touchée"},
	BreakGlass:   {"An emergency was used", "Une urgence a été utilisée"},
	Denials:      {"Many refusals within a short time", "Beaucoup de refus en peu de temps"},
	Count:        {"So many records of a search", "Autant d’enregistrements d’une recherche"},
}

func in(lang string, both [2]string) string {
	if lang == "fr" {
		return both[1]
	}
	return both[0]
}

// Title names a kind of rule in a language.
func Title(lang, kind string) string { return in(lang, kinds[kind]) }

// people are the kinds of actors and subjects.
var people = map[string][2]string{
	"agent": {"agent", "agent"}, "admin": {"admin", "admin"}, "operator": {"operator", "opérateur"}, "client": {"program", "programme"},
	"visitor": {"visitor", "visiteur"}, "channel": {"channel", "canal"}, "job": {"job", "tâche"}, "conversation": {"conversation", "conversation"},
}

// handle is the neutral name of somebody.
func handle(lang string, p audit.Party) string {
	kind := cmp.Or(in(lang, people[p.Kind]), p.Kind)
	if p.Ref == "" {
		return cmp.Or(kind, in(lang, [2]string{"nobody in particular", "personne en particulier"}))
	}
	return chat.Handle(kind, p.Ref)
}

func among(lang string, kinds []string) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = cmp.Or(in(lang, people[k]), k)
	}
	return strings.Join(names, ", ")
}

// Describe says what a rule looks for, with its numbers.
func Describe(lang string, r Rule) string {
	t := r.Terms
	say := func(en, fr string, args ...any) string { return fmt.Sprintf(in(lang, [2]string{en, fr}), args...) }
	text := ""
	switch r.Kind {
	case FirstPair:
		text = say("Somebody is shown a person whom he was not shown within the last %d days.", "Quelqu’un voit une personne qu’il n’a pas vue dans les %d derniers jours.", t.Days)
	case Volume:
		text = say("Somebody is shown more within an hour of the clock than in 99 of 100 of his own hours of the last 30 days, and at least %d.", "Quelqu’un voit en une heure de l’horloge plus que dans 99 de ses 100 heures des 30 derniers jours, et au moins %d.", t.AtLeast)
	case OffHours:
		text = say("Somebody is shown a person outside of %s to %s (%s).", "Quelqu’un voit une personne en dehors de %s à %s (%s).", t.From, t.To, t.Zone)
		if !t.Weekends {
			text += say(" The weekend is outside too.", " La fin de semaine est en dehors aussi.")
		}
	case NewAddress:
		text = say("An administrator or a program who is known comes from an address from which he did not come within the last %d days.", "Un administrateur ou un programme connu vient d’une adresse d’où il n’est pas venu dans les %d derniers jours.", t.Days)
	case ManySubjects:
		text = say("Somebody is shown at least %d different people within %d minutes.", "Quelqu’un voit au moins %d personnes différentes en %d minutes.", t.AtLeast, t.Minutes)
	case NoChat:
		text = say("Somebody is shown a person while no conversation with him waits or is open.", "Quelqu’un voit une personne sans conversation en attente ni ouverte avec elle.")
	case Canary:
		text = say("The nightly scan finds a value of somebody who does not exist where none may lie.", "L’analyse nocturne trouve une donnée d’une personne qui n’existe pas là où il ne doit pas y en avoir.")
		if len(t.Subjects) > 0 {
			return text + say(" Or a record, allowed or denied, is about one of %d planted people.", " Ou un enregistrement, permis ou refusé, porte sur une des %d personnes témoins.", len(t.Subjects))
		}
		text += say(" Nobody is planted in the log yet: name people who do not exist, and whoever asks for one of them is found.", " Personne n’est encore placé dans le journal : nommez des personnes qui n’existent pas, et qui en demande une est trouvé.")
	case BreakGlass:
		text = say("Somebody was shown a person in an emergency to which a second person consented.", "Quelqu’un a vu une personne dans une urgence acceptée par une seconde personne.")
	case Denials:
		text = say("Policy refuses the same actor at least %d times within %d minutes.", "La politique refuse le même acteur au moins %d fois en %d minutes.", t.AtLeast, t.Minutes)
	case Count:
		text = say("Records that answer the search %s within %d minutes: at least %d.", "Enregistrements qui répondent à la recherche %s en %d minutes : au moins %d.", t.Filter, t.Minutes, t.AtLeast)
	}
	if Needs(r.Kind, "actors") {
		text += say(" About: %s.", " Concerne : %s.", among(lang, t.Actors))
	}
	return text
}

// Why says why the alert was raised: what happened, and the numbers that were compared.
func (a Alert) Why(lang string) string {
	t, n := a.Terms, a.Numbers
	who, whom := handle(lang, a.Actor), handle(lang, a.Subject)
	say := func(en, fr string, args ...any) string { return fmt.Sprintf(in(lang, [2]string{en, fr}), args...) }
	switch a.Kind {
	case FirstPair:
		return say("%s was shown %s, for the first time within %d days.", "%s a vu %s, pour la première fois en %d jours.", who, whom, t.Days)
	case Volume:
		if n.Hours == 0 {
			return say("%s was shown %d people within one hour; he was shown nobody in the 30 days before, and the rule begins at %d.", "%s a vu %d personnes en une heure ; il n’en avait vu aucune les 30 jours d’avant, et la règle commence à %d.", who, n.N, n.Limit)
		}
		return say("%s was shown %d people within one hour; in 99 of 100 of his hours of the 30 days before (%d are known) it were %d at most, and the rule begins at %d.",
			"%s a vu %d personnes en une heure ; dans 99 de 100 de ses heures des 30 jours d’avant (%d sont connues), il y en avait %d au plus, et la règle commence à %d.", who, n.N, n.Hours, n.Usual, n.Limit)
	case OffHours:
		return say("%s was shown %s at %s (%s); the hours of work are %s to %s.", "%s a vu %s le %s (%s) ; les heures de travail sont de %s à %s.", who, whom, n.Local, t.Zone, t.From, t.To)
	case NewAddress:
		return say("%s came from an address from which he did not come in the %d days before.", "%s est venu d’une adresse d’où il n’était pas venu les %d jours d’avant.", who, t.Days)
	case ManySubjects:
		return say("%s was shown %d different people within %d minutes; the rule begins at %d.", "%s a vu %d personnes différentes en %d minutes ; la règle commence à %d.", who, n.N, t.Minutes, n.Limit)
	case NoChat:
		return say("%s was shown %s while no conversation waited or was open.", "%s a vu %s sans conversation en attente ni ouverte.", who, whom)
	case Canary:
		if a.Subject.Ref == "" {
			return say("A scan for planted people found %d values where none may lie, and could not search %d places: counterfoil canary scan says where.", "Une analyse des personnes témoins a trouvé %d valeurs là où il ne doit pas y en avoir, et n’a pas pu examiner %d endroits : counterfoil canary scan dit où.", n.N, n.Unread)
		}
		return say("%s asked for %s, who was planted and does not exist.", "%s a demandé %s, témoin qui n’existe pas.", who, whom)
	case BreakGlass:
		return say("%s was shown %s in an emergency to which a second person consented.", "%s a vu %s dans une urgence acceptée par une seconde personne.", who, whom)
	case Denials:
		return say("Policy refused %s %d times within %d minutes; the rule begins at %d.", "La politique a refusé %s %d fois en %d minutes ; la règle commence à %d.", who, n.N, t.Minutes, n.Limit)
	case Count:
		return say("Records that answer the search %s within %d minutes: %d; the rule begins at %d.", "Enregistrements qui répondent à la recherche %s en %d minutes : %d ; la règle commence à %d.", t.Filter, t.Minutes, n.N, n.Limit)
	}
	return ""
}

// stamp is a time as messages show it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
