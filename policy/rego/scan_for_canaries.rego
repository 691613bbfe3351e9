# METADATA
# title: Look for planted names where none may be
# description: The scan looks for names of people who do not exist in logs and outputs. It reads no EUII of people who do.
package counterfoil.purposes.scan_for_canaries

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"job", "operator"},
	"audiences": {"service"},
	"subjects": {""},
	"fields": set(),
}

# METADATA
# title: The canary scan
# description: It looks for what it planted, and is shown nothing.
# custom:
#   statements: [SEED-TEL-1]
permit := {"allow": true, "rule": "scan_for_canaries.job", "masked": set(), "obligations": set()} if {
	input.actor.kind == "job"
	input.actor.job == "canary_scan"
	input.audience == "service"
	input.subject.kind == ""
	input.fields == []
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host has it look, and is told where something lies and never what.
permit := {"allow": true, "rule": "scan_for_canaries.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience == "service"
	input.subject.kind == ""
	input.fields == []
}

# METADATA
# title: Another job
# description: Every job has its own purpose.
reasons contains "wrong_job" if {
	input.actor.kind == "job"
	not input.actor.job == "canary_scan"
}
