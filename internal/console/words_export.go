package console

// exportWords are the texts of exports that take two.
var exportWords = map[string][2]string{
	"exportAskTitle":  {"Ask for a large export", "Demander un grand export"},
	"exportAskLead":   {"These are more records than one person exports by himself. Somebody else consents to exactly these; then you have them once, as long as the consent is in force. Who needs the whole log with its proofs has it on the host: counterfoil audit export DIR", "C’est plus d’enregistrements qu’une personne n’en exporte seule. Quelqu’un d’autre donne son accord pour exactement ceux-ci ; vous les obtenez alors une fois, tant que l’accord est en vigueur. Le journal entier avec ses preuves s’obtient sur la machine : counterfoil audit export DIR"},
	"exportWhat":      {"%s: %s, before record %s", "%s : %s, avant l’enregistrement %s"},
	"seeThem":         {"See them", "Les voir"},
	"approval_export": {"Export many records", "Exporter beaucoup d’enregistrements"},
	"bannerConsent":   {"Two people agreed: %s. %s may until %s UTC.", "Accord de deux personnes : %s. %s le peut jusqu’à %s UTC."},

	"act_console.export_begun":     {"Begin an export that a second person approved", "Commencer un export approuvé par une seconde personne"},
	"rule_export_records.asked":    {"Whoever reads the log, freshly proved and with a written reason, may ask a second person for more of it.", "Quiconque lit le journal, récemment authentifié et avec un motif écrit, peut en demander davantage à une seconde personne."},
	"rule_export_records.approved": {"Whoever reads the log, freshly proved and with a written reason, has exactly those records to which a second person consented.", "Quiconque lit le journal, récemment authentifié et avec un motif écrit, obtient exactement les enregistrements auxquels une seconde personne a consenti."},
	"fact_complete":                {"Given to the end", "Transmis jusqu’au bout"},
	"fact_count":                   {"Number of records", "Nombre d’enregistrements"},
}
