# METADATA
# title: Read the audit log
# description: >-
#   The log holds references and no EUII. Whoever works in the console reads
#   it, whatever his role.
package counterfoil.purposes.read_audit_log

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "client", "operator"},
	"audiences": {"console", "service"},
	"subjects": {"", "agent", "visitor", "conversation"},
	"fields": set(),
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host.
permit := {"allow": true, "rule": "read_audit_log.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience in {"console", "service"}
	input.subject.kind in {"", "agent", "visitor", "conversation"}
	input.fields == []
}

# METADATA
# title: Administrator
# description: With any role of the console, a one-time code, at an admitted address.
# custom:
#   statements: [SEED-ORG-3]
permit := {"allow": true, "rule": "read_audit_log.admin", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"", "agent", "visitor", "conversation"}
	input.fields == []
	admin.with_any_role
	admin.with_totp
	admin.at_admitted_address
}

# METADATA
# title: Program
# description: A program with a token that an administrator made for it, at an admitted address. It can do nothing else.
# custom:
#   statements: [SEED-ORG-3]
permit := {"allow": true, "rule": "read_audit_log.client", "masked": set(), "obligations": set()} if {
	input.actor.kind == "client"
	input.audience == "console"
	input.subject.kind in {"", "agent", "visitor", "conversation"}
	input.fields == []
	admin.at_admitted_address
}

# METADATA
# title: Outside the console
# description: An administrator acts in the console, and a program asks it.
reasons contains "wrong_audience" if {
	input.actor.kind in {"admin", "client"}
	not input.audience == "console"
}

# METADATA
# title: No role for it
# description: He has none of the roles of the console.
reasons contains "role_missing" if {
	input.actor.kind == "admin"
	not admin.with_any_role
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
# description: An administrator works from an admitted address only, and so does a program.
reasons contains "address_not_admitted" if {
	input.actor.kind in {"admin", "client"}
	not admin.at_admitted_address
}
