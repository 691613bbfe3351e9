# METADATA
# title: Show an administrator what was written
# description: >-
#   Whoever took no part in a conversation reads it as a disclosure of its own,
#   recorded each time like the revelation of a name.
package counterfoil.purposes.read_transcript

import data.counterfoil.admin

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about what and for which fields.
terms := {
	"actors": {"admin"},
	"audiences": {"console"},
	"subjects": {"conversation"},
	"fields": {"message_body"},
}

# METADATA
# title: Privacy officer
# description: One conversation, to a privacy officer who proved himself a moment ago and wrote down why.
permit := {"allow": true, "rule": "read_transcript.privacy_officer", "masked": set(), "obligations": set()} if {
	input.actor.kind == "admin"
	input.audience == "console"
	input.subject.kind == "conversation"
	input.subject.ref == input.conversation.ref
	"privacy_officer" in input.actor.roles
	not admin.both
	admin.fit
	input.fields == ["message_body"]
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
# title: Another conversation
# description: The subject is not the conversation in which the question arises.
reasons contains "other_conversation" if not input.subject.ref == input.conversation.ref
