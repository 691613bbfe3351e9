package console

// navWords are the headings of the menu, and the texts of choosing one's own shortcuts.
var navWords = map[string][2]string{
	"navMenu":   {"Menu", "Menu"},
	"navNow":    {"What happens", "Ce qui se passe"},
	"navPeople": {"About people", "Les personnes"},
	"navProof":  {"Rules and proof", "Règles et preuves"},
	"navAccess": {"Who may come in", "Qui peut entrer"},
	"navData":   {"What is kept", "Ce qui est conservé"},

	"keyGo":     {"Go to a part of the console, with a second key", "Aller à une partie de la console, avec une seconde touche"},
	"keyChange": {"Change", "Changer"},
	"keyPress":  {"Press the new key, or Escape to leave it.", "Appuyez sur la nouvelle touche, ou Échap pour renoncer."},
	"keyTaken":  {"Only a single character that no other shortcut has can be chosen.", "Seul un caractère qu’aucun autre raccourci n’utilise peut être choisi."},
	"keyDone":   {"Changed, for this browser.", "Changé, pour ce navigateur."},
	"keyReset":  {"As they were", "Comme avant"},
	"keysSee":   {"See and change", "Voir et changer"},
}
