# METADATA
# title: Handle what a person asks about his data
# description: >-
#   A request about one's data is made, carried on, answered or refused. Nothing
#   is shown by it.
package counterfoil.purposes.handle_request

import data.counterfoil.admin
import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "agent", "operator", "visitor"},
	"audiences": {"agent", "console", "service", "visitor"},
	"subjects": {"", "agent", "visitor"},
	"fields": set(),
}

# METADATA
# title: The person himself
# description: A visitor or an agent asks for himself, where he is known to be himself.
permit := {"allow": true, "rule": "handle_request.for_himself", "masked": set(), "obligations": set()} if {
	input.actor.kind in {"agent", "visitor"}
	input.audience == input.actor.kind
	question.about_himself
	input.fields == []
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host.
permit := {"allow": true, "rule": "handle_request.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience == "service"
	input.subject.kind in {"", "agent", "visitor"}
	input.fields == []
}

# METADATA
# title: Privacy officer
# description: As privacy officer who signed in with a one-time code, at an admitted address.
permit := {"allow": true, "rule": "handle_request.privacy_officer", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"", "agent", "visitor"}
	input.fields == []
	"privacy_officer" in input.actor.roles
	admin.with_totp
	admin.at_admitted_address
}

# METADATA
# title: Elsewhere
# description: Each asks where he is known to be himself.
reasons contains "wrong_audience" if {
	not input.audience == {"admin": "console", "agent": "agent", "operator": "service", "visitor": "visitor"}[input.actor.kind]
}

# METADATA
# title: For somebody else
# description: A visitor or an agent asks for himself only.
reasons contains "not_own_data" if {
	input.actor.kind in {"agent", "visitor"}
	not question.about_himself
}

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
