package console

// chartWords are the texts of the chart that one can zoom.
var chartWords = map[string][2]string{
	"chartLabel": {"Records over time", "Enregistrements dans le temps"},
	"chartHelp":  {"Drag over a stretch to look closer. By keyboard: arrows move, with Shift they select, Enter looks closer, Escape lets go.", "Faites glisser sur une période pour la voir de plus près. Au clavier : les flèches déplacent, avec Maj elles sélectionnent, Entrée agrandit, Échap abandonne."},
}
