# METADATA
# title: Set how long data is kept, and hold it
# description: >-
#   A privacy officer sets how long a class of data is kept, places a legal hold
#   and lifts it. He is shown nobody by that.
package counterfoil.purposes.control_data

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "operator"},
	"audiences": {"console", "service"},
	"subjects": {"", "agent", "conversation", "visitor"},
	"fields": set(),
}

# METADATA
# title: A privacy officer
# description: As privacy officer, proved a moment ago for this, justified in writing, at an admitted address.
permit := {"allow": true, "rule": "control_data.privacy_officer", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"", "agent", "conversation", "visitor"}
	input.fields == []
	"privacy_officer" in input.actor.roles
	admin.fit
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host.
permit := {"allow": true, "rule": "control_data.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience == "service"
	input.subject.kind in {"", "agent", "conversation", "visitor"}
	input.fields == []
}

# METADATA
# title: For whose eyes
# description: An administrator acts in the console, an operator on the host.
reasons contains "wrong_audience" if {
	some kind, audience in {"admin": "console", "operator": "service"}
	input.actor.kind == kind
	input.audience != audience
}

# METADATA
# title: No role for it
# description: Only a privacy officer may.
reasons contains "role_missing" if {
	input.actor.kind == "admin"
	not "privacy_officer" in input.actor.roles
}

# METADATA
# title: Not fit to do it
# description: A proof, the address or the justification is missing.
reasons contains reason if {
	input.actor.kind == "admin"
	some reason in admin.unfit
}
