package console

// savedWords are the texts of searches that are kept.
var savedWords = map[string][2]string{
	"saved":              {"Saved searches", "Recherches enregistrées"},
	"savedNone":          {"Searches that you keep, and those that others share, will be listed here.", "Les recherches que vous gardez, et celles que d’autres partagent, seront listées ici."},
	"savedThis":          {"Keep this search", "Garder cette recherche"},
	"savedName":          {"Name", "Nom"},
	"savedDescription":   {"What it is for", "À quoi elle sert"},
	"savedShare":         {"Share it with everybody who reads this log", "La partager avec quiconque lit ce journal"},
	"savedSave":          {"Save", "Enregistrer"},
	"savedShared":        {"yours, shared", "à vous, partagée"},
	"savedPrivate":       {"yours alone", "à vous seul"},
	"savedChange":        {"Rename, share or delete", "Renommer, partager ou supprimer"},
	"savedDelete":        {"Delete", "Supprimer"},
	"badSaved":           {"This search cannot be kept", "Cette recherche ne peut être gardée"},
	"badSavedText":       {"It needs a name of 1 to 60 characters, a description of at most 200, and a filter that can be read. Nobody keeps more than a hundred, and everybody changes his own only.", "Il faut un nom de 1 à 60 caractères, une description de 200 au plus, et un filtre lisible. Nul n’en garde plus de cent, et chacun ne modifie que les siennes."},
	"act_search.save":    {"Keep a search", "Garder une recherche"},
	"act_search.delete":  {"Delete a saved search", "Supprimer une recherche enregistrée"},
	"act_api.searches":   {"List saved searches by program", "Lister les recherches enregistrées par programme"},
	"act_audit.searches": {"List saved searches on the host", "Lister les recherches enregistrées sur la machine"},
	"fact_search":        {"Saved search", "Recherche enregistrée"},
	"fact_shared":        {"Shared", "Partagée"},
}
