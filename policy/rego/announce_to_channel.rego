# METADATA
# title: Announce a waiting conversation to the channel
# description: >-
#   The card in the channel bears the first line of what the visitor wrote,
#   and no name.
package counterfoil.purposes.announce_to_channel

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields, in which states.
terms := {
	"actors": {"channel"},
	"audiences": {"channel"},
	"subjects": {"conversation"},
	"fields": {"message_body"},
	"states": {"waiting", "active"},
}

# METADATA
# title: The first line
# description: Only the first line leaves; the obligation says so.
permit := {"allow": true, "rule": "announce_to_channel.first_line", "masked": set(), "obligations": {"first_line"}} if {
	input.actor.kind == "channel"
	input.audience == "channel"
	input.subject.kind == "conversation"
	input.subject.ref == input.conversation.ref
	input.conversation.state in {"waiting", "active"}
	input.fields == ["message_body"]
}

# METADATA
# title: Another conversation
# description: The subject is not the conversation in which the question arises.
reasons contains "other_conversation" if not input.subject.ref == input.conversation.ref
