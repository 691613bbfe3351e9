# METADATA
# title: Carry on the conversation
# description: >-
#   Those who take part read the messages. The decision opens a stream and is
#   renewed every hour and when the participants change.
package counterfoil.purposes.converse

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields, in which states, with which parts.
terms := {
	"actors": {"visitor", "agent"},
	"audiences": {"visitor", "agent"},
	"subjects": {"conversation"},
	"fields": {"message_body"},
	"states": {"waiting", "active", "closed"},
	"actor_is": {"visitor", "agent"},
}

# METADATA
# title: The visitor
# description: The visitor reads his own conversation.
permit := {"allow": true, "rule": "converse.visitor", "masked": set(), "obligations": {"renew_hourly"}} if {
	input.actor.kind == "visitor"
	input.audience == "visitor"
	input.subject.kind == "conversation"
	input.subject.ref == input.conversation.ref
	input.conversation.actor_is == "visitor"
	input.conversation.state in {"waiting", "active", "closed"}
	input.fields == ["message_body"]
}

# METADATA
# title: The agent
# description: The agent who joined reads the conversation, also what was written before.
permit := {"allow": true, "rule": "converse.agent", "masked": set(), "obligations": {"renew_hourly"}} if {
	input.actor.kind == "agent"
	input.audience == "agent"
	input.subject.kind == "conversation"
	input.subject.ref == input.conversation.ref
	input.conversation.actor_is == "agent"
	input.conversation.state in {"active", "closed"}
	input.fields == ["message_body"]
}

# METADATA
# title: Shown to somebody else
# description: The messages are shown to the one who asks.
reasons contains "wrong_audience" if not input.audience == input.actor.kind

# METADATA
# title: Another part
# description: The actor has the part that is his kind.
reasons contains "not_a_participant" if not input.conversation.actor_is == input.actor.kind

# METADATA
# title: Not joined yet
# description: An agent reads nothing of a conversation that still waits.
reasons contains "wrong_state" if {
	input.actor.kind == "agent"
	not input.conversation.state in {"active", "closed"}
}

# METADATA
# title: Another conversation
# description: The subject is not the conversation in which the question arises.
reasons contains "other_conversation" if not input.subject.ref == input.conversation.ref
