# METADATA
# title: Reveal a person to an administrator
# description: >-
#   An administrator sees a name, an email or another field in the console, or
#   the address of a sign-in: in plain as privacy officer, masked as auditor.
#   Whoever only sets policy or approves sees nothing.
package counterfoil.purposes.reveal_to_admin

import data.counterfoil.admin
import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console"},
	"subjects": {"admin", "agent", "visitor"},
	"fields": ((question.fields_of.admin | question.fields_of.agent) | question.fields_of.visitor),
}

# METADATA
# title: Privacy officer
# description: In plain, to a privacy officer who proved himself a moment ago.
permit := {"allow": true, "rule": "reveal_to_admin.privacy_officer", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"admin", "agent", "visitor"}
	"privacy_officer" in input.actor.roles
	not admin.both
	admin.fit
	input.fields != []
	every field in input.fields {
		field in question.fields_of[input.subject.kind]
	}
}

# METADATA
# title: Auditor
# description: Masked, to an auditor who proved himself a moment ago.
permit := {"allow": true, "rule": "reveal_to_admin.auditor", "masked": question.fields, "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"admin", "agent", "visitor"}
	"auditor" in input.actor.roles
	not "privacy_officer" in input.actor.roles
	admin.fit
	input.fields != []
	every field in input.fields {
		field in question.fields_of[input.subject.kind]
	}
}

# METADATA
# title: No role for it
# description: Only a privacy officer or an auditor may.
reasons contains "role_missing" if {
	not "privacy_officer" in input.actor.roles
	not "auditor" in input.actor.roles
}

# METADATA
# title: Two roles that do not go together
# description: Whoever sets what others may is no privacy officer.
reasons contains "roles_incompatible" if admin.both

# METADATA
# title: Not fit to be shown EUII
# description: A proof, the address or the justification is missing.
reasons contains reason if some reason in admin.unfit

# METADATA
# title: Not a field of the subject
# description: Agents, visitors and administrators have different fields.
reasons contains "field_not_for_purpose" if {
	some field in input.fields
	not field in question.fields_of[input.subject.kind]
}
