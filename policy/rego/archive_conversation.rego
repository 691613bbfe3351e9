# METADATA
# title: Put a conversation into the archive
# description: The archive job, and nothing else, writes messages and people into the organisation's sealed archive.
package counterfoil.purposes.archive_conversation

import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for which place, about whom and for which fields.
terms := {
	"actors": {"job"},
	"audiences": {"archive"},
	"subjects": {"agent", "conversation", "visitor"},
	"fields": ((question.kept_of.agent | question.kept_of.visitor) | question.kept_of.conversation),
}

# METADATA
# title: The archive job
# description: The fields of the subject go into the archive and nowhere else.
# custom:
#   statements: [SEED-ORG-4]
permit := {"allow": true, "rule": "archive_conversation.job", "masked": set(), "obligations": set()} if {
	input.actor.kind == "job"
	input.actor.job == "archive"
	input.audience == "archive"
	input.subject.kind in {"agent", "conversation", "visitor"}
	input.fields != []
	every field in input.fields {
		field in question.kept_of[input.subject.kind]
	}
}

# METADATA
# title: Another job
# description: Every job has its own purpose.
reasons contains "wrong_job" if not input.actor.job == "archive"

# METADATA
# title: Not a field of the subject
# description: Agents, visitors and conversations have different fields.
reasons contains "field_not_for_purpose" if {
	some field in input.fields
	not field in question.kept_of[input.subject.kind]
}
