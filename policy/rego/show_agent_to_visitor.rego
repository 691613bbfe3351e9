# METADATA
# title: Show the visitor who answers him
# description: >-
#   The visitor sees the display name of the agent of his own conversation,
#   and keeps seeing it in the history.
package counterfoil.purposes.show_agent_to_visitor

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields, in which states, with which parts.
terms := {
	"actors": {"visitor"},
	"audiences": {"visitor"},
	"subjects": {"agent"},
	"fields": {"agent_display_name"},
	"states": {"active", "closed"},
	"actor_is": {"visitor"},
	"subject_is": {"agent"},
}

# METADATA
# title: His own conversation
# description: The visitor and the agent take part in this conversation.
permit := {"allow": true, "rule": "show_agent_to_visitor.own_conversation", "masked": set(), "obligations": set()} if {
	input.actor.kind == "visitor"
	input.audience == "visitor"
	input.subject.kind == "agent"
	input.conversation.actor_is == "visitor"
	input.conversation.subject_is == "agent"
	input.conversation.state in {"active", "closed"}
	input.fields == ["agent_display_name"]
}
