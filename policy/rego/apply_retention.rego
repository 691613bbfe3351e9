# METADATA
# title: Delete what has been kept long enough
# description: The retention job deletes. It reads no EUII to do so.
package counterfoil.purposes.apply_retention

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"job"},
	"audiences": {"service"},
	"subjects": {"", "agent", "conversation", "visitor"},
	"fields": set(),
}

# METADATA
# title: The retention job
# description: It deletes, and is shown nothing.
# custom:
#   statements: [SEED-ORG-1, SEED-ORG-2, SEED-TEL-2]
permit := {"allow": true, "rule": "apply_retention.job", "masked": set(), "obligations": set()} if {
	input.actor.kind == "job"
	input.actor.job == "retention"
	input.audience == "service"
	input.subject.kind in {"", "agent", "conversation", "visitor"}
	input.fields == []
}

# METADATA
# title: Another job
# description: Every job has its own purpose.
reasons contains "wrong_job" if not input.actor.job == "retention"
