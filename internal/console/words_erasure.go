package console

// erasureWords are the texts of what was erased and of its certificates.
var erasureWords = map[string][2]string{
	"erasedSubject":           {"erased subject", "sujet effacé"},
	"controlsCertificate":     {"Certificate", "Attestation"},
	"controlsCertificateText": {"to read", "à lire"},
	"controlsCertificateFile": {"to verify", "à vérifier"},
	"controlsVerify":          {"A certificate to verify is a record of the log with its proof. Anybody checks it without this service: counterfoil-verify erasure.json --key KEY", "Une attestation à vérifier est un enregistrement du journal avec sa preuve. Chacun la contrôle sans ce service : counterfoil-verify erasure.json --key CLÉ"},
	"controlsWidget":          {"Widget (for a hold on a widget)", "Widget (pour une suspension sur un widget)"},
	"act_console.certificate": {"Download the certificate of an erasure", "Télécharger l’attestation d’un effacement"},
	"act_erasure.ask":         {"Ask for the erasure of the organisation", "Demander l’effacement de l’organisation"},
	"act_erasure.approve":     {"Consent to the erasure of the organisation", "Consentir à l’effacement de l’organisation"},

	"rule_erase_organisation.operators": {"Somebody with a shell on the host has the organisation erased, for a written reason, with the consent of another.", "Quelqu’un qui a un accès à l’hôte fait effacer l’organisation, pour un motif écrit, avec l’accord d’un autre."},

	"fact_erasure": {"Erasure", "Effacement"},
}
