# METADATA
# title: Erase the organisation
# description: >-
#   A privacy officer, or an operator of the host, has all erased that an
#   organisation has, with the consent of somebody else.
package counterfoil.purposes.erase_organisation

import data.counterfoil.admin
import data.counterfoil.approval

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin", "operator"},
	"audiences": {"console", "service"},
	"subjects": {""},
	"fields": set(),
}

# METADATA
# title: Approved by somebody else
# description: As privacy officer, proved a moment ago, justified in writing, with the consent of somebody else, in force.
permit := {"allow": true, "rule": "erase_organisation.approved", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == ""
	input.fields == []
	"privacy_officer" in input.actor.roles
	admin.fit
	approval.by_another
	approval.for_actor
	approval.in_force
}

# METADATA
# title: Two operators
# description: Somebody with a shell on the host, justified in writing, with the consent of another, in force.
permit := {"allow": true, "rule": "erase_organisation.operators", "masked": set(), "obligations": set()} if {
	input.actor.kind == "operator"
	input.audience == "service"
	input.subject.kind == ""
	input.fields == []
	admin.justified
	approval.by_another
	approval.for_actor
	approval.in_force
}

# METADATA
# title: For whose eyes
# description: An administrator acts in the console, an operator on the host.
reasons contains "wrong_audience" if {
	some kind, audience in {"admin": "console", "operator": "service"}
	input.actor.kind == kind
	input.audience != audience
}

# METADATA
# title: No role for it
# description: Of administrators only a privacy officer may.
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

# METADATA
# title: Not justified
# description: The operator did not write down why.
reasons contains "justification_missing" if {
	input.actor.kind == "operator"
	not admin.justified
}

# METADATA
# title: Nobody else approved
# description: Nobody approved, or only the one who asks.
reasons contains "approval_missing" if not approval.by_another

# METADATA
# title: Approved for somebody else
# description: The approval was given to another administrator.
reasons contains "approval_for_another" if not approval.for_actor

# METADATA
# title: The approval is over
# description: It has ended, or claims to last longer than an approval can.
reasons contains "approval_expired" if not approval.in_force
