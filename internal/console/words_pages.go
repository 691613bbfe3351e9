package console

// pageWords are the texts of the frame around all pages, and of the pages on which the log is searched.
var pageWords = map[string][2]string{
	// Frame
	"display":       {"Display", "Affichage"},
	"theme":         {"Colours", "Couleurs"},
	"theme_":        {"As the system", "Selon le système"},
	"theme_light":   {"Light", "Clair"},
	"theme_dark":    {"Dark", "Sombre"},
	"times":         {"Times", "Heures"},
	"timesLocal":    {"Local time", "Heure locale"},
	"timesUTC":      {"UTC", "UTC"},
	"shortcuts":     {"Keyboard shortcuts", "Raccourcis clavier"},
	"shortcutsOn":   {"On", "Actifs"},
	"shortcutsOff":  {"Off", "Inactifs"},
	"keySearch":     {"Go to the filter", "Aller au filtre"},
	"keyDown":       {"Next record", "Enregistrement suivant"},
	"keyUp":         {"Previous record", "Enregistrement précédent"},
	"keyOpen":       {"Open the record", "Ouvrir l’enregistrement"},
	"keyClose":      {"Close what was opened", "Fermer ce qui est ouvert"},
	"keyTail":       {"Follow the log live", "Suivre le journal en direct"},
	"keyHelp":       {"Show this list", "Afficher cette liste"},
	"close":         {"Close", "Fermer"},
	"shortcutsNote": {"They work while no field has the focus, and can be turned off under Display.", "Ils agissent quand aucun champ n’a le focus, et se désactivent sous Affichage."},
}
