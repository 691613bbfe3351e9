package console

// whoWords are the texts of marking pairs, and of taking them out as a table.
var whoWords = map[string][2]string{
	"whoLeast":         {"Mark from this many records on", "Signaler à partir de tant d’enregistrements"},
	"whoMark":          {"Mark", "Signaler"},
	"whoOver":          {"at or above the number to be marked", "égal ou supérieur au nombre à signaler"},
	"whoExport":        {"All pairs as a table (CSV)", "Toutes les paires en tableau (CSV)"},
	"pairsTooMany":     {"These are more pairs than fit into a table", "C’est plus de paires que n’en contient un tableau"},
	"pairsTooManyText": {"Narrow the filter to 20,000 pairs.", "Réduisez le filtre à 20 000 paires."},
}
