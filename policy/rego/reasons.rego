package counterfoil

# Reasons explain a denial. Most are read from the terms of the purpose, which
# say in one table what its permit says in full; terms leave out what does not
# matter to the purpose. A permit alone releases, so a reason forgotten here
# makes a denial less clear and never a release wider.

# METADATA
# title: Vetoes
# description: Every veto is a reason.
reasons contains reason if some reason in veto

# METADATA
# title: Reasons of the purpose
# description: What the purpose itself holds against the question.
reasons contains reason if some reason in data.counterfoil.purposes[input.purpose].reasons

# METADATA
# title: Unknown purpose
# description: The purpose is not in the closed list.
reasons contains "unknown_purpose" if not terms

# METADATA
# title: Unknown kind of actor
# description: The actor is of no kind that we know.
reasons contains "unknown_actor_kind" if {
	not input.actor.kind in {"visitor", "agent", "channel", "admin", "job", "operator", "client"}
}

# METADATA
# title: Unknown audience
# description: Nobody knows who would see it.
reasons contains "unknown_audience" if {
	not input.audience in {"archive", "visitor", "agent", "channel", "console", "service"}
}

# METADATA
# title: Unknown kind of subject
# description: The subject is of no kind that we know.
reasons contains "unknown_subject_kind" if {
	not input.subject.kind in {"", "agent", "visitor", "conversation", "admin"}
}

# METADATA
# title: Unknown field
# description: One of the fields does not exist.
reasons contains "unknown_field" if {
	some field in input.fields
	not field in {
		"admin_address",
		"agent_display_name", "agent_email", "agent_given_name", "agent_surname",
		"message_body",
		"visitor_address", "visitor_answers", "visitor_display_name", "visitor_email",
		"visitor_given_name", "visitor_phone", "visitor_surname",
	}
}

# METADATA
# title: Wrong actor
# description: The purpose is not for this kind of actor.
reasons contains "wrong_actor" if {
	allowed := terms.actors
	not input.actor.kind in allowed
}

# METADATA
# title: Wrong audience
# description: The purpose does not show anything to this audience.
reasons contains "wrong_audience" if {
	allowed := terms.audiences
	not input.audience in allowed
}

# METADATA
# title: Wrong subject
# description: The purpose is not about this kind of subject.
reasons contains "wrong_subject" if {
	allowed := terms.subjects
	not input.subject.kind in allowed
}

# METADATA
# title: Wrong state
# description: The conversation is not in a state in which the purpose arises.
reasons contains "wrong_state" if {
	allowed := terms.states
	not input.conversation.state in allowed
}

# METADATA
# title: The actor takes no part
# description: The actor does not have the part in the conversation that the purpose demands.
reasons contains "not_a_participant" if {
	allowed := terms.actor_is
	not input.conversation.actor_is in allowed
}

# METADATA
# title: The subject takes no part
# description: The subject does not have the part in the conversation that the purpose demands.
reasons contains "subject_not_a_participant" if {
	allowed := terms.subject_is
	not input.conversation.subject_is in allowed
}

# METADATA
# title: Field not for this purpose
# description: One of the fields is more than the purpose needs.
reasons contains "field_not_for_purpose" if {
	allowed := terms.fields
	some field in input.fields
	not field in allowed
}

# METADATA
# title: No field
# description: The purpose discloses something, but the question does not say what.
reasons contains "fields_missing" if {
	input.fields == []
	terms.fields != set()
}

# METADATA
# title: The purpose's terms
# description: Who may ask for the purpose, for whose eyes, about whom, for which fields, in which states.
terms := data.counterfoil.purposes[input.purpose].terms
