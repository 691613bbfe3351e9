# METADATA
# title: Answer a person who asks about his data
# description: >-
#   A privacy officer writes the file of a person who asked for it, for that
#   person, or corrects what is kept of him. That he asked takes the place of a
#   written justification.
package counterfoil.purposes.answer_request

import data.counterfoil.admin
import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console", "service"},
	"subjects": {"agent", "conversation", "visitor"},
	"fields": ((question.kept_of.agent | question.kept_of.visitor) | question.kept_of.conversation),
}

# METADATA
# title: His file
# description: What is kept of who asked, and what was written in a conversation of his.
permit := {"allow": true, "rule": "answer_request.file", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"agent", "conversation", "visitor"}
	"privacy_officer" in input.actor.roles
	proved
	covered
	input.fields != []
	every field in input.fields {
		field in question.kept_of[input.subject.kind]
	}
}

# METADATA
# title: A correction
# description: What he says of himself is kept in place of what was kept. Nobody is shown it.
permit := {"allow": true, "rule": "answer_request.correction", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "service"
	input.subject.kind in {"agent", "visitor"}
	"privacy_officer" in input.actor.roles
	proved
	covered
	input.fields != []
	every field in input.fields {
		field in question.fields_of[input.subject.kind]
	}
}

# METADATA
# title: Proved
# description: >-
#   Password, one-time code, one of them or a security key given a moment ago,
#   an admitted address.
proved if {
	admin.with_password
	admin.with_totp
	admin.stepped_up
	admin.at_admitted_address
}

# METADATA
# title: Covered by a request
# description: The person asked, and the request is open.
covered if {
	input.request != ""
	input.request == input.subject.ref
}

# METADATA
# title: Nobody asked
# description: No open request covers it.
reasons contains "request_missing" if not covered

# METADATA
# title: No role for it
# description: Only a privacy officer may.
reasons contains "role_missing" if not "privacy_officer" in input.actor.roles

# METADATA
# title: Not fit to be shown EUII
# description: A proof or the address is missing.
reasons contains reason if some reason in (admin.unfit - {"justification_missing"})

# METADATA
# title: Not a field of the subject
# description: Agents, visitors and conversations have different fields.
reasons contains "field_not_for_purpose" if {
	some field in input.fields
	not field in question.kept_of[input.subject.kind]
}

# METADATA
# title: Not corrected
# description: What was written in a conversation stays as it was written.
reasons contains "wrong_subject" if {
	input.audience == "service"
	input.subject.kind == "conversation"
}
