package console

// countWords are the texts of what is counted: people, pairs, hours and rules.
var countWords = map[string][2]string{
	"countedDays": {"Counted are all records from %s to %s, by whole days (UTC).", "Sont comptés tous les enregistrements du %s au %s, par jours entiers (UTC)."},
	"everybody":   {"All of them", "Tous"},
	"fact_place":  {"Page from", "Page à partir de"},
	"key_rule":    {"Rule that denied", "Règle du refus"},
}
