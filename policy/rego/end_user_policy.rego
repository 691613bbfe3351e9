# METADATA
# title: Tell visitors and agents what is kept
# description: >-
#   The notices that visitors and agents accept before they take part are
#   drafted and published. A published one never changes.
package counterfoil.purposes.end_user_policy

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "operator"},
	"audiences": {"console", "service"},
	"subjects": {""},
	"fields": set(),
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host.
permit := {"allow": true, "rule": "end_user_policy.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience == "service"
	input.subject.kind == ""
	input.fields == []
}

# METADATA
# title: Privacy officer
# description: As privacy officer, proved a moment ago for this, at an admitted address.
permit := {"allow": true, "rule": "end_user_policy.privacy_officer", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == ""
	input.fields == []
	"privacy_officer" in input.actor.roles
	admin.with_totp
	admin.stepped_up
	admin.at_admitted_address
}

# METADATA
# title: Elsewhere
# description: An administrator acts in the console, an operator at the service.
reasons contains "wrong_audience" if not input.audience == {"admin": "console", "operator": "service"}[input.actor.kind]

# METADATA
# title: No role for it
# description: Only a privacy officer may.
reasons contains "role_missing" if {
	input.actor.kind == "admin"
	not "privacy_officer" in input.actor.roles
}

# METADATA
# title: No one-time code
# description: He did not sign in with a one-time code.
reasons contains "factor_missing" if {
	input.actor.kind == "admin"
	not admin.with_totp
}

# METADATA
# title: Address not admitted
# description: An administrator works from an admitted address only.
reasons contains "address_not_admitted" if {
	input.actor.kind == "admin"
	not admin.at_admitted_address
}

# METADATA
# title: Not proved of late
# description: He gave no one-time code or security key for this within five minutes.
reasons contains "step_up_required" if {
	input.actor.kind == "admin"
	not admin.stepped_up
}
