# METADATA
# title: Handle alerts
# description: >-
#   Acknowledge alerts and sign off the review of a day, which hides nothing. Rules
#   and receivers are administered, which is another purpose.
package counterfoil.purposes.handle_alerts

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
permit := {"allow": true, "rule": "handle_alerts.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience in {"console", "service"}
	input.subject.kind == ""
	input.fields == []
}

# METADATA
# title: Administrator
# description: As auditor or security administrator, with a one-time code, at an admitted address.
permit := {"allow": true, "rule": "handle_alerts.admin", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == ""
	input.fields == []
	watches
	admin.with_totp
	admin.at_admitted_address
}

# METADATA
# title: Whose work it is
# description: He is auditor or security administrator.
watches if {
	some role in input.actor.roles
	role in {"auditor", "security_admin"}
}

# METADATA
# title: Outside the console
# description: An administrator acts in the console.
reasons contains "wrong_audience" if {
	input.actor.kind == "admin"
	not input.audience == "console"
}

# METADATA
# title: No role for it
# description: Only an auditor or a security administrator may.
reasons contains "role_missing" if {
	input.actor.kind == "admin"
	not watches
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
