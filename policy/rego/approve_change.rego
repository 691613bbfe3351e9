# METADATA
# title: Approve a change of somebody else
# description: An approver consents to what a security administrator may not do by himself. He changes nothing.
package counterfoil.purposes.approve_change

import data.counterfoil.admin
import data.counterfoil.approval

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
# title: An approver
# description: As approver, proved a moment ago, justified in writing, for somebody else, until a certain time.
permit := {"allow": true, "rule": "approve_change.approver", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == ""
	input.fields == []
	"approver" in input.actor.roles
	admin.fit
	approval.for_another
	approval.in_force
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
# title: His own change
# description: Nobody approves himself.
reasons contains "approval_of_himself" if not approval.for_another

# METADATA
# title: No time, or too long
# description: An approval ends in the future and within eight hours.
reasons contains "approval_expired" if not approval.in_force
