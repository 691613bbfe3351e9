package console

// countWords are the texts of what is counted: people, pairs, hours and rules.
var countWords = map[string][2]string{
	"countedDays":      {"Counted are all records from %s to %s, by whole days (UTC).", "Sont comptés tous les enregistrements du %s au %s, par jours entiers (UTC)."},
	"everybody":        {"All of them", "Tous"},
	"fact_place":       {"Page from", "Page à partir de"},
	"export":           {"Get as a file", "Obtenir en fichier"},
	"exportLead":       {"What this filter finds, at most 20,000 records. The export is recorded with its number of records and its digest.", "Ce que trouve ce filtre, au plus 20 000 enregistrements. L’export est enregistré avec son nombre d’enregistrements et son empreinte."},
	"export_csv":       {"Table (CSV)", "Tableau (CSV)"},
	"export_jsonl":     {"Records as signed (JSONL)", "Enregistrements signés (JSONL)"},
	"export_ocsf":      {"OCSF 1.6.0", "OCSF 1.6.0"},
	"export_cef":       {"CEF", "CEF"},
	"overviewHeat":     {"When it happens: hour and weekday, within %d days", "Quand cela arrive : heure et jour de la semaine, sur %d jours"},
	"heatNote":         {"Hours in UTC. Each number leads to the latest such hour.", "Heures en UTC. Chaque nombre mène à la dernière heure de ce genre."},
	"overviewActors":   {"Who asked most this week", "Qui a le plus demandé cette semaine"},
	"overviewSubjects": {"Who was asked for most this week", "Qui a été le plus demandé cette semaine"},
	"overviewRules":    {"Rules that denied, within %d days", "Règles de refus, sur %d jours"},
	"key_rule":         {"Rule that denied", "Règle du refus"},
}
