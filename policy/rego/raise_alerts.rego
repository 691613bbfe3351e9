# METADATA
# title: Watch the log and raise alerts
# description: >-
#   The watch reads records, which hold references and no EUII, and tells the
#   receivers that the organisation chose what its rules found.
package counterfoil.purposes.raise_alerts

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"job"},
	"audiences": {"service"},
	"subjects": {""},
	"fields": set(),
}

# METADATA
# title: The watch
# description: It reads the log by the organisation's rules, and is shown nobody.
permit := {"allow": true, "rule": "raise_alerts.job", "masked": set(), "obligations": set()} if {
	input.actor.kind == "job"
	input.actor.job == "alerts"
	input.audience == "service"
	input.subject.kind == ""
	input.fields == []
}

# METADATA
# title: Another job
# description: Every job has its own purpose.
reasons contains "wrong_job" if not input.actor.job == "alerts"
