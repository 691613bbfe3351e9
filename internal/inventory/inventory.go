// Package inventory is the one list of all data that is kept: what each column and file holds, of whom, for which purpose and on which lawful
// basis, how long, and who receives it. It promises that nothing is kept that is not in the list, which a test and the doctor hold against the
// live catalog; the record of processing and the picture of flows are made from it.
package inventory

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
)

//go:embed inventory.json
var text []byte

// Term is something with a name in both languages.
type Term struct {
	EN    string `json:"en"`
	FR    string `json:"fr"`
	Basis string `json:"basis,omitempty"` // of a purpose
}

// In gives the name in French when lang is "fr", otherwise in English.
func (t Term) In(lang string) string {
	if lang == "fr" {
		return t.FR
	}
	return t.EN
}

// Place is a table or something outside the database, with all that it holds.
type Place struct {
	Place      string              `json:"place"`
	Purpose    string              `json:"purpose"`
	Subjects   []string            `json:"subjects"`
	Retention  string              `json:"retention"`
	Recipients []string            `json:"recipients"`
	Columns    map[string][]string `json:"columns"` // by class
}

// Inventory is the list.
type Inventory struct {
	Classes    map[string]Term `json:"classes"`
	Purposes   map[string]Term `json:"purposes"`
	Bases      map[string]Term `json:"bases"`
	Subjects   map[string]Term `json:"subjects"`
	Recipients map[string]Term `json:"recipients"`
	Retention  map[string]Term `json:"retention"`
	Places     []Place         `json:"places"`    // tables and views
	Elsewhere  []Place         `json:"elsewhere"` // files, browsers, other services
}

// Read gives the list as it was compiled in.
var Read = sync.OnceValues(func() (Inventory, error) {
	var i Inventory
	if err := json.Unmarshal(text, &i); err != nil {
		return i, fmt.Errorf("read the data inventory: %w", err)
	}
	return i, nil
})

// SQLColumns lists all columns of a database, those of monthly tables once.
const SQLColumns = `select c.oid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
	where n.nspname not like 'pg\_%' and n.nspname <> 'information_schema' and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and a.attnum > 0 and not a.attisdropped order by 1`

// Class gives the class of a column, written schema.table.column; empty when it has none.
func (i Inventory) Class(column string) string {
	at := strings.LastIndex(column, ".")
	if at < 0 {
		return ""
	}
	for _, p := range i.Places {
		if p.Place != column[:at] {
			continue
		}
		for class, names := range p.Columns {
			if slices.Contains(names, column[at+1:]) {
				return class
			}
		}
	}
	return ""
}

// Differences says which of the columns of a database are not in the list, and what is in the list and not among them.
func (i Inventory) Differences(columns []string) (untagged, gone []string) {
	for _, c := range columns {
		if i.Class(c) == "" {
			untagged = append(untagged, c)
		}
	}
	for _, p := range i.Places {
		for _, names := range p.Columns {
			for _, n := range names {
				if c := p.Place + "." + n; !slices.Contains(columns, c) {
					gone = append(gone, c)
				}
			}
		}
	}
	slices.Sort(gone)
	return untagged, gone
}

// Folders gives the names in the data directory that the list knows.
func (i Inventory) Folders() (names []string) {
	for _, p := range i.Elsewhere {
		if name, ok := strings.CutPrefix(p.Place, "data directory: "); ok {
			names = append(names, strings.TrimSuffix(name, "/"))
		}
	}
	return names
}

// all gives the places of the database and those elsewhere.
func (i Inventory) all() []Place { return slices.Concat(i.Places, i.Elsewhere) }

// Unexplained gives what the list itself lacks: a place without purpose, basis, retention or recipients, and a word that is explained nowhere or in one
// language only.
func (i Inventory) Unexplained() (lacks []string) {
	say := func(format string, args ...any) { lacks = append(lacks, fmt.Sprintf(format, args...)) }
	for kind, terms := range map[string]map[string]Term{"class": i.Classes, "purpose": i.Purposes, "basis": i.Bases, "subject": i.Subjects, "recipient": i.Recipients, "retention": i.Retention} {
		for name, t := range terms {
			if t.EN == "" || t.FR == "" || t.EN == t.FR && kind != "subject" {
				say("the %s %s is not explained in both languages", kind, name)
			}
			if _, ok := i.Bases[t.Basis]; kind == "purpose" && !ok {
				say("the purpose %s has no lawful basis", name)
			}
		}
	}
	for _, p := range i.all() {
		if _, ok := i.Purposes[p.Purpose]; !ok {
			say("%s has no purpose", p.Place)
		}
		if _, ok := i.Retention[p.Retention]; !ok {
			say("%s has no retention", p.Place)
		}
		if len(p.Subjects) == 0 || len(p.Recipients) == 0 && p.Retention != "none" {
			say("%s does not say of whom it is and who receives it", p.Place)
		}
		for _, s := range p.Subjects {
			if _, ok := i.Subjects[s]; !ok {
				say("%s is about %s, whom nobody knows", p.Place, s)
			}
		}
		for _, r := range p.Recipients {
			if _, ok := i.Recipients[r]; !ok {
				say("%s goes to %s, whom nobody knows", p.Place, r)
			}
		}
		for class := range p.Columns {
			if _, ok := i.Classes[class]; !ok {
				say("%s has the class %s, which nobody knows", p.Place, class)
			}
		}
	}
	slices.Sort(lacks)
	return lacks
}

// Processing writes the record of processing activities (GDPR art. 30) as Markdown.
func (i Inventory) Processing(w io.Writer, lang string) error {
	l := labels[lang == "fr"]
	fmt.Fprintf(w, "# %s\n\n%s\n", l.record, l.intro)
	for _, purpose := range slices.Sorted(maps.Keys(i.Purposes)) {
		var subjects, recipients, kept []string
		var lines []string
		for _, p := range i.all() {
			if p.Purpose != purpose || !p.concernsPeople() {
				continue
			}
			for _, s := range p.Subjects {
				subjects = append(subjects, i.Subjects[s].In(lang))
			}
			for _, r := range p.Recipients {
				recipients = append(recipients, i.Recipients[r].In(lang))
			}
			kept = append(kept, i.Retention[p.Retention].In(lang))
			for _, class := range []string{"personal", "pseudonym", "secret"} {
				if names := p.Columns[class]; len(names) > 0 {
					lines = append(lines, fmt.Sprintf("| `%s` | %s | %s | %s |", p.Place, i.Classes[class].In(lang), strings.Join(names, ", "), i.Retention[p.Retention].In(lang)))
				}
			}
		}
		if len(lines) == 0 {
			continue
		}
		t := i.Purposes[purpose]
		fmt.Fprintf(w, "\n## %s\n\n- %s%s\n- %s%s\n- %s%s\n- %s%s\n\n| %s |\n|---|---|---|---|\n%s\n", t.In(lang), l.basis, i.Bases[t.Basis].In(lang), l.subjects, list(subjects), l.recipients, list(recipients),
			l.retention, list(kept), strings.Join(l.head[:], " | "), strings.Join(lines, "\n"))
	}
	_, err := fmt.Fprintf(w, "\n## %s\n\n%s\n", l.security, l.measures)
	return err
}

func (p Place) concernsPeople() bool {
	return len(p.Subjects) > 0 && !slices.Equal(p.Subjects, []string{"organisation"})
}

// list joins different names, in their order.
func list(names []string) string {
	var all []string
	for _, n := range names {
		if !slices.Contains(all, n) {
			all = append(all, n)
		}
	}
	return strings.Join(all, "; ")
}

// Flow writes the picture of flows as Mermaid text: from whom data comes, where it lies, and who receives it.
func (i Inventory) Flow(w io.Writer, lang string) error {
	l := labels[lang == "fr"]
	fmt.Fprintf(w, "---\ntitle: %s\n---\nflowchart LR\n", l.flow)
	edges := make(map[string]bool)
	for _, p := range i.all() {
		if !p.concernsPeople() || len(p.Columns["personal"])+len(p.Columns["pseudonym"]) == 0 {
			continue
		}
		for _, s := range p.Subjects {
			edges[fmt.Sprintf("  from_%s([\"%s\"]) --> %s[(\"%s\")]", s, i.Subjects[s].In(lang), id(p.Place), p.Place)] = true
		}
		for _, r := range p.Recipients {
			arrow := "-.->"
			if len(p.Columns["personal"]) > 0 {
				arrow = "==>"
			}
			edges[fmt.Sprintf("  %s[(\"%s\")] %s to_%s{{\"%s\"}}", id(p.Place), p.Place, arrow, r, i.Recipients[r].In(lang))] = true
		}
	}
	_, err := fmt.Fprintf(w, "%s\n  %%%% %s\n", strings.Join(slices.Sorted(maps.Keys(edges)), "\n"), l.arrows)
	return err
}

// id is what a node of the picture is called.
func id(place string) string {
	return "p_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, place)
}

type label struct {
	record, intro, basis, subjects, recipients, retention, security, measures, flow, arrows string
	head                                                                                    [4]string
}

var labels = map[bool]label{
	false: {
		record: "Record of processing activities", intro: "GDPR article 30, made from the data inventory that the database is checked against.",
		basis: "Lawful basis: ", subjects: "Of whom: ", recipients: "Recipients: ", retention: "Kept: ", head: [4]string{"Where", "Class", "What", "Kept"},
		security: "Security measures (article 32)",
		measures: "Names, addresses and messages are sealed under a key of the person or conversation; none is opened unless policy allowed it and the record of it is committed. " +
			"Keys are wrapped by a key outside the database. Row level security separates organisations. Administrators need a password, a one-time code and an admitted address. Erasure destroys the keys and is certified in the log.",
		flow: "Flows of personal data", arrows: "thick arrows carry personal data, each transfer decided and recorded; dotted ones pseudonyms",
	},
	true: {
		record: "Registre des activités de traitement", intro: "Article 30 du RGPD, établi à partir de l'inventaire des données auquel la base est confrontée.",
		basis: "Base juridique : ", subjects: "Personnes concernées : ", recipients: "Destinataires : ", retention: "Conservation : ", head: [4]string{"Où", "Classe", "Quoi", "Conservation"},
		security: "Mesures de sécurité (article 32)",
		measures: "Noms, adresses et messages sont scellés par une clé de la personne ou de la conversation ; rien n'est ouvert sans l'accord de la politique et un enregistrement déjà validé. " +
			"Les clés sont enveloppées par une clé hors de la base. La sécurité au niveau des lignes sépare les organisations. Les administrateurs ont besoin d'un mot de passe, d'un code à usage unique et d'une adresse admise. L'effacement détruit les clés et est attesté dans le journal.",
		flow: "Flux de données personnelles", arrows: "les flèches épaisses portent des données personnelles, chaque transfert décidé et enregistré ; les pointillés des pseudonymes",
	},
}
