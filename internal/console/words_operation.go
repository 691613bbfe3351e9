package console

// operationWords are the texts of what the service does for its own working.
var operationWords = map[string][2]string{
	"act_oplog.kept_short": {"Removed old lines of the operational log", "A supprimé les anciennes lignes du journal d’exploitation"},
	"act_canary.scan":      {"Looked for planted names where none may be", "A cherché des noms témoins là où il ne doit pas y en avoir"},
	"act_backup.made":      {"Made a backup and proved that it is good", "A fait une sauvegarde et prouvé qu’elle est bonne"},
	"act_backup.proved":    {"Proved again that a backup is good", "A prouvé de nouveau qu’une sauvegarde est bonne"},
	"act_backup.restored":  {"Restored a backup", "A restauré une sauvegarde"},

	"rule_scan_for_canaries.operator": {"An operator has planted names looked for, and is shown nothing.", "Un opérateur fait chercher des noms semés et ne voit rien."},

	"fact_files": {"Files", "Fichiers"}, "fact_bytes": {"Bytes", "Octets"}, "fact_removed": {"Files removed since the record before", "Fichiers supprimés depuis l’enregistrement précédent"},
	"fact_oldest_seconds": {"Age of the oldest line (seconds)", "Âge de la plus ancienne ligne (secondes)"}, "fact_failures": {"Failures since then", "Échecs depuis lors"},
	"fact_backup": {"Backup", "Sauvegarde"}, "fact_logs": {"Logs verified in it", "Journaux vérifiés"}, "fact_seconds": {"Seconds", "Secondes"},
	"fact_places": {"Places looked through", "Endroits examinés"}, "fact_planted": {"Planted values", "Valeurs semées"}, "fact_found": {"Found", "Trouvées"}, "fact_unread": {"Places that could not be read", "Endroits illisibles"},

	"egress_telemetry": {"show how the service works: counts, times, and which routes were asked for", "montrer la marche du service : nombres, durées et routes demandées"},
	"data_measures":    {"counts and times", "nombres et durées"},
}
