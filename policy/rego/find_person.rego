# METADATA
# title: Find who asks by the email he writes from
# description: >-
#   A privacy officer finds whose email an address is, to register what a person
#   asks by letter or mail. Nobody is shown anything but a handle.
package counterfoil.purposes.find_person

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"service"},
	"subjects": {"agent", "visitor"},
	"fields": {"agent_email", "visitor_email"},
}

# METADATA
# title: By email
# description: A privacy officer who proved himself a moment ago and wrote down why.
permit := {"allow": true, "rule": "find_person.by_email", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "service"
	"privacy_officer" in input.actor.roles
	not admin.both
	admin.fit
	input.fields == [{"agent": "agent_email", "visitor": "visitor_email"}[input.subject.kind]]
}

# METADATA
# title: No role for it
# description: Only a privacy officer may.
reasons contains "role_missing" if not "privacy_officer" in input.actor.roles

# METADATA
# title: Two roles that do not go together
# description: Whoever sets what others may is no privacy officer.
reasons contains "roles_incompatible" if admin.both

# METADATA
# title: Not fit to be shown EUII
# description: A proof, the address or the justification is missing.
reasons contains reason if some reason in admin.unfit

# METADATA
# title: Not the email
# description: Somebody is found by his email and by nothing else of him.
reasons contains "field_not_for_purpose" if input.fields != [{"agent": "agent_email", "visitor": "visitor_email"}[input.subject.kind]]
