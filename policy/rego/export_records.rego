# METADATA
# title: Take many records out of the log
# description: >-
#   More records than one person takes out by himself. He asks for exactly
#   those, somebody else consents, and then he has them once.
package counterfoil.purposes.export_records

import data.counterfoil.admin
import data.counterfoil.approval

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console", "service"},
	"subjects": {""},
	"fields": set(),
}

# METADATA
# title: To ask for it
# description: >-
#   With any role of the console, proved a moment ago, justified in writing. The
#   service keeps the question for somebody else, and shows nobody anything.
permit := {"allow": true, "rule": "export_records.asked", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "service"
	input.subject.kind == ""
	input.fields == []
	admin.with_any_role
	admin.fit
}

# METADATA
# title: Approved by somebody else
# description: With any role of the console, proved a moment ago, justified in writing, with the consent of somebody else, in force.
# custom:
#   statements: [SEED-ORG-3]
permit := {"allow": true, "rule": "export_records.approved", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == ""
	input.fields == []
	admin.with_any_role
	admin.fit
	approval.by_another
	approval.for_actor
	approval.in_force
}

# METADATA
# title: No role for it
# description: He has none of the roles of the console.
reasons contains "role_missing" if not admin.with_any_role

# METADATA
# title: Not fit to have them
# description: A proof, the address or the justification is missing.
reasons contains reason if some reason in admin.unfit

# METADATA
# title: Nobody else approved
# description: Nobody approved, or only the one who asks.
reasons contains "approval_missing" if {
	not input.audience == "service"
	not approval.by_another
}

# METADATA
# title: Approved for somebody else
# description: The approval was given to another administrator.
reasons contains "approval_for_another" if {
	not input.audience == "service"
	not approval.for_actor
}

# METADATA
# title: The approval is over
# description: It has ended, or claims to last longer than an approval can.
reasons contains "approval_expired" if {
	not input.audience == "service"
	not approval.in_force
}
