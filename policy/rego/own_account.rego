# METADATA
# title: Change his own factors and sessions
# description: An administrator adds and removes what proves who he is, and ends his own sessions.
package counterfoil.purposes.own_account

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console"},
	"subjects": {""},
	"fields": set(),
}

# METADATA
# title: Administrator
# description: With any role of the console, proved a moment ago for this, at an admitted address.
permit := {"allow": true, "rule": "own_account.admin", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == ""
	input.fields == []
	admin.with_any_role
	admin.with_totp
	admin.stepped_up
	admin.at_admitted_address
}

# METADATA
# title: No role for it
# description: He has none of the roles of the console.
reasons contains "role_missing" if not admin.with_any_role

# METADATA
# title: No one-time code
# description: He did not sign in with a one-time code.
reasons contains "factor_missing" if not admin.with_totp

# METADATA
# title: Not proved of late
# description: He gave no one-time code or security key for this within five minutes.
reasons contains "step_up_required" if not admin.stepped_up

# METADATA
# title: Address not admitted
# description: An administrator works from an admitted address only.
reasons contains "address_not_admitted" if not admin.at_admitted_address
