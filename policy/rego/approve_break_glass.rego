# METADATA
# title: Approve an emergency of somebody else
# description: An approver consents that somebody else sees a person or a conversation. He sees nothing himself.
package counterfoil.purposes.approve_break_glass

import data.counterfoil.admin
import data.counterfoil.approval

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console"},
	"subjects": {"agent", "conversation", "visitor"},
	"fields": set(),
}

# METADATA
# title: An approver
# description: >-
#   As approver, proved a moment ago, justified in writing, for somebody else,
#   about a certain subject and until a certain time.
permit := {"allow": true, "rule": "approve_break_glass.approver", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind in {"agent", "conversation", "visitor"}
	input.fields == []
	"approver" in input.actor.roles
	admin.fit
	approval.for_another
	about_the_subject
	approval.in_force
}

# METADATA
# title: About the subject
# description: What is approved is what the question is about.
about_the_subject if {
	input.approval.subject != ""
	input.approval.subject == input.subject.ref
}

# METADATA
# title: No role for it
# description: Only an approver may.
reasons contains "role_missing" if not "approver" in input.actor.roles

# METADATA
# title: Not fit to approve
# description: A proof, the address or the justification is missing.
reasons contains reason if some reason in admin.unfit

# METADATA
# title: His own emergency
# description: Nobody approves himself.
reasons contains "approval_of_himself" if not approval.for_another

# METADATA
# title: About another subject
# description: The approval is not about the subject of the question.
reasons contains "approval_for_another" if not about_the_subject

# METADATA
# title: No time, or too long
# description: An approval ends in the future and within eight hours.
reasons contains "approval_expired" if not approval.in_force
