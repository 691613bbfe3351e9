package console

// peopleWords are the texts of notices, and of what people ask about their own data.
var peopleWords = map[string][2]string{
	"reason_request_missing":               {"No open request of the person covers this, or it was not established who asks.", "Aucune demande en cours de la personne ne couvre cela, ou l’identité du demandeur n’a pas été établie."},
	"reason_restricted":                    {"The person has restricted the use of his data: it is shown to nobody but himself.", "La personne a limité l’utilisation de ses données : elles ne sont montrées qu’à elle-même."},
	"rule_answer_request.file":             {"A privacy officer who proved himself a moment ago is given the file of a person who asked for it, to hand it to that person.", "Un délégué à la protection des données qui vient de prouver son identité reçoit le dossier d’une personne qui l’a demandé, pour le lui remettre."},
	"rule_answer_request.correction":       {"A privacy officer who proved himself a moment ago keeps what a person says of himself in place of what was kept. Nobody is shown it.", "Un délégué à la protection des données qui vient de prouver son identité remplace ce qui était conservé par ce que la personne dit d’elle-même. Personne ne le voit."},
	"rule_end_user_policy.operator":        {"Somebody with a shell on the host may word the notices.", "Qui a un accès à la machine peut rédiger les notices."},
	"rule_end_user_policy.privacy_officer": {"A privacy officer who proved himself a moment ago may word and publish the notices.", "Un délégué à la protection des données qui vient de prouver son identité peut rédiger et publier les notices."},
	"rule_handle_request.for_himself":      {"A visitor or an agent asks about his own data.", "Un visiteur ou un agent interroge sur ses propres données."},
	"rule_handle_request.operator":         {"Somebody with a shell on the host may look at requests.", "Qui a un accès à la machine peut consulter les demandes."},
	"rule_handle_request.privacy_officer":  {"A privacy officer handles requests from an admitted address. He is shown no name by it.", "Un délégué à la protection des données traite les demandes depuis une adresse admise. Aucun nom ne lui est montré."},
}
