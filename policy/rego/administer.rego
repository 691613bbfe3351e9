# METADATA
# title: Administer the service
# description: >-
#   Settings, policy, allowlist and accounts. Setting them gives no right to
#   read EUII.
package counterfoil.purposes.administer

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "operator"},
	"audiences": {"console", "service"},
	"subjects": {"", "agent", "visitor", "conversation"},
	"fields": set(),
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host.
permit := {"allow": true, "rule": "administer.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience in {"console", "service"}
	input.subject.kind in {"", "agent", "visitor", "conversation"}
	input.fields == []
}

# METADATA
# title: Administrator
# description: As security administrator, proved a moment ago for this, at an admitted address.
permit := {"allow": true, "rule": "administer.admin", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"", "agent", "visitor", "conversation"}
	input.fields == []
	"security_admin" in input.actor.roles
	admin.with_totp
	admin.stepped_up
	admin.at_admitted_address
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
# description: Only a security administrator may.
reasons contains "role_missing" if {
	input.actor.kind == "admin"
	not "security_admin" in input.actor.roles
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
