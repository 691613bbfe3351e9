# METADATA
# title: Introduce the visitor to his agent
# description: >-
#   The agent who joined sees whom he talks to. Email and phone are masked
#   unless the organisation shares them.
package counterfoil.purposes.introduce_visitor_to_agent

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields, in which states, with which parts.
terms := {
	"actors": {"agent"},
	"audiences": {"agent"},
	"subjects": {"visitor"},
	"fields": {"visitor_answers", "visitor_display_name", "visitor_email", "visitor_phone"},
	"states": {"active"},
	"actor_is": {"agent"},
	"subject_is": {"visitor"},
}

# METADATA
# title: Email and phone in plain
# description: The organisation shares them with its agents.
permit := {"allow": true, "rule": "introduce_visitor_to_agent.contact_in_plain", "masked": set(), "obligations": set()} if {
	input.actor.kind == "agent"
	input.audience == "agent"
	input.subject.kind == "visitor"
	input.conversation.actor_is == "agent"
	input.conversation.subject_is == "visitor"
	input.conversation.state == "active"
	input.organisation.share_visitor_email == true
	input.fields != []
	every field in input.fields {
		field in {"visitor_answers", "visitor_display_name", "visitor_email", "visitor_phone"}
	}
}

# METADATA
# title: Email and phone masked
# description: The organisation does not share them with its agents.
permit := {"allow": true, "rule": "introduce_visitor_to_agent.contact_masked", "masked": contact, "obligations": set()} if {
	input.actor.kind == "agent"
	input.audience == "agent"
	input.subject.kind == "visitor"
	input.conversation.actor_is == "agent"
	input.conversation.subject_is == "visitor"
	input.conversation.state == "active"
	not input.organisation.share_visitor_email == true
	input.fields != []
	every field in input.fields {
		field in {"visitor_answers", "visitor_display_name", "visitor_email", "visitor_phone"}
	}
}

# METADATA
# title: Email and phone
# description: Those of the fields asked for by which a visitor can be reached outside the chat.
contact := {field | some field in input.fields; field in {"visitor_email", "visitor_phone"}}
