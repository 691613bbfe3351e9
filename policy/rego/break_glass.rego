# METADATA
# title: Reveal in an emergency, approved by a second person
# description: >-
#   An administrator without the role for it sees one person or one
#   conversation in plain, because somebody else approved, for a time.
package counterfoil.purposes.break_glass

import data.counterfoil.admin
import data.counterfoil.approval
import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console"},
	"subjects": {"agent", "conversation", "visitor"},
	"fields": ((question.kept_of.agent | question.kept_of.visitor) | question.kept_of.conversation),
}

# METADATA
# title: Approved by somebody else
# description: >-
#   With any role of the console, proved a moment ago, justified in writing, and
#   approved by somebody else for this actor and this subject, still in force.
permit := {"allow": true, "rule": "break_glass.approved", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"agent", "conversation", "visitor"}
	admin.with_any_role
	admin.fit
	approval.by_another
	approval.for_this
	approval.in_force
	input.fields != []
	every field in input.fields {
		field in question.kept_of[input.subject.kind]
	}
}

# METADATA
# title: No role of the console
# description: Not even an emergency opens the console to others.
reasons contains "role_missing" if not admin.with_any_role

# METADATA
# title: Not fit to be shown EUII
# description: A proof, the address or the justification is missing.
reasons contains reason if some reason in admin.unfit

# METADATA
# title: Nobody else approved
# description: Nobody approved, or only the one who asks.
reasons contains "approval_missing" if not approval.by_another

# METADATA
# title: Approved for another question
# description: The approval was given to somebody else or about somebody else.
reasons contains "approval_for_another" if not approval.for_this

# METADATA
# title: The approval is over
# description: It has ended, or claims to last longer than an approval can.
reasons contains "approval_expired" if not approval.in_force

# METADATA
# title: Not a field of the subject
# description: Agents, visitors and conversations have different fields.
reasons contains "field_not_for_purpose" if {
	some field in input.fields
	not field in question.kept_of[input.subject.kind]
}
