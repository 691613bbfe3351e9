# METADATA
# title: Tell the channel who joined
# description: >-
#   The card in the channel says which agent joined. Everybody in the channel
#   sees it.
package counterfoil.purposes.show_joiner_to_channel

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields, in which states, with which parts.
terms := {
	"actors": {"channel"},
	"audiences": {"channel"},
	"subjects": {"agent"},
	"fields": {"agent_display_name"},
	"states": {"active", "closed"},
	"subject_is": {"agent"},
}

# METADATA
# title: The name in plain
# description: The organisation shows its agents to the channel.
permit := {"allow": true, "rule": "show_joiner_to_channel.in_plain", "masked": set(), "obligations": set()} if {
	input.actor.kind == "channel"
	input.audience == "channel"
	input.subject.kind == "agent"
	input.conversation.subject_is == "agent"
	input.conversation.state in {"active", "closed"}
	input.organisation.name_in_channel == true
	input.fields == ["agent_display_name"]
}

# METADATA
# title: The name masked
# description: The organisation does not show its agents to the channel.
permit := {"allow": true, "rule": "show_joiner_to_channel.masked", "masked": {"agent_display_name"}, "obligations": set()} if {
	input.actor.kind == "channel"
	input.audience == "channel"
	input.subject.kind == "agent"
	input.conversation.subject_is == "agent"
	input.conversation.state in {"active", "closed"}
	not input.organisation.name_in_channel == true
	input.fields == ["agent_display_name"]
}
