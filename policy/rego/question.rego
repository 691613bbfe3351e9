# METADATA
# title: The question in convenient form
# description: Values worked out from the input and used by several purposes.
package counterfoil.question

# METADATA
# title: Fields asked for
# description: The fields of the question as a set.
fields := {field | some field in input.fields}

# METADATA
# title: Fields of a person
# description: What is kept about an agent, a visitor, and an administrator.
fields_of := {
	"admin": {"admin_address"},
	"agent": {"agent_display_name", "agent_email", "agent_given_name", "agent_surname"},
	"visitor": {
		"visitor_address", "visitor_answers", "visitor_display_name", "visitor_email",
		"visitor_given_name", "visitor_phone", "visitor_surname",
	},
}

# METADATA
# title: Fields of whatever may be a subject
# description: Those of a person, and the messages of a conversation.
kept_of := object.union(fields_of, {"conversation": {"message_body"}})

# METADATA
# title: The subject is the actor himself
# description: >-
#   Same kind and same reference, and the reference is somebody's: all who were
#   erased have one.
about_himself if {
	not input.actor.ref in {"", "erased"}
	input.actor.ref == input.subject.ref
	input.actor.kind == input.subject.kind
}
