package console

// alertWords are the texts of the pages of alerts.
var alertWords = map[string][2]string{
	"rule_raise_alerts.job":       {"The watch reads the log by the rules of the organisation; it is shown nobody.", "La surveillance lit le journal selon les règles de l’organisation ; personne ne lui est montré."},
	"rule_handle_alerts.admin":    {"An auditor or a security administrator, with a one-time code, at an admitted address, handles alerts.", "Un auditeur ou un administrateur de sécurité, avec un code à usage unique et depuis une adresse admise, traite les alertes."},
	"rule_handle_alerts.operator": {"Somebody with a shell on the host handles alerts.", "Quelqu’un ayant un accès à la machine traite les alertes."},

	"act_alert.watch":           {"Watch the log by the rules", "Surveiller le journal selon les règles"},
	"act_alert.raise":           {"Raise an alert", "Lancer une alerte"},
	"act_alert.send":            {"Send a message about alerts", "Envoyer un message d’alerte"},
	"act_alert.acknowledge":     {"Acknowledge alerts", "Prendre acte d’alertes"},
	"act_alert.rule":            {"Change a rule of alerts", "Changer une règle d’alerte"},
	"act_alert.rule_remove":     {"Remove a rule of alerts", "Retirer une règle d’alerte"},
	"act_alert.silence":         {"Silence a rule of alerts", "Mettre en sourdine une règle d’alerte"},
	"act_alert.hear":            {"Let a rule of alerts be heard again", "Rétablir une règle d’alerte"},
	"act_alert.receiver":        {"Add a receiver of alerts", "Ajouter un destinataire d’alertes"},
	"act_alert.receiver_remove": {"Remove a receiver of alerts", "Retirer un destinataire d’alertes"},
	"act_alert.try":             {"Try a receiver of alerts", "Essayer un destinataire d’alertes"},
	"act_review.day":            {"Sign off the review of a day", "Valider la revue d’une journée"},
	"act_console.alerts":        {"Read the alerts", "Lire les alertes"},
	"act_console.alert":         {"Read an alert", "Lire une alerte"},
	"act_console.rules":         {"Read the rules of alerts", "Lire les règles d’alerte"},
	"act_console.rule":          {"Read a rule of alerts", "Lire une règle d’alerte"},
	"act_console.receivers":     {"Read the receivers of alerts", "Lire les destinataires d’alertes"},
}
