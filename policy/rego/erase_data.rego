# METADATA
# title: Erase a person or a conversation
# description: >-
#   What is kept of a person or of a conversation is erased for good. Whether
#   a hold forbids it is for storage to say.
package counterfoil.purposes.erase_data

import data.counterfoil.admin
import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "operator", "visitor"},
	"audiences": {"console", "service", "visitor"},
	"subjects": {"agent", "conversation", "visitor"},
	"fields": set(),
}

# METADATA
# title: A privacy officer
# description: As privacy officer, proved a moment ago for this, justified in writing, at an admitted address.
permit := {"allow": true, "rule": "erase_data.privacy_officer", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"agent", "conversation", "visitor"}
	input.fields == []
	"privacy_officer" in input.actor.roles
	admin.fit
}

# METADATA
# title: Operator
# description: Somebody with a shell on the host.
permit := {"allow": true, "rule": "erase_data.operator", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience == "service"
	input.subject.kind in {"agent", "conversation", "visitor"}
	input.fields == []
}

# METADATA
# title: The visitor himself
# description: Who holds the session of his conversation may have himself erased.
permit := {"allow": true, "rule": "erase_data.visitor", "masked": set(), "obligations": set()} if {
	input.actor.kind == "visitor"
	input.audience == "visitor"
	input.subject.kind == "visitor"
	input.fields == []
	question.about_himself
}

# METADATA
# title: For whose eyes
# description: An administrator acts in the console, an operator on the host, a visitor in the widget.
reasons contains "wrong_audience" if {
	some kind, audience in {"admin": "console", "operator": "service", "visitor": "visitor"}
	input.actor.kind == kind
	input.audience != audience
}

# METADATA
# title: Somebody else
# description: A visitor may have nobody erased but himself.
reasons contains "not_own_data" if {
	input.actor.kind == "visitor"
	not question.about_himself
}

# METADATA
# title: Not a visitor
# description: Nor anything else.
reasons contains "wrong_subject" if {
	input.actor.kind == "visitor"
	input.subject.kind != "visitor"
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
