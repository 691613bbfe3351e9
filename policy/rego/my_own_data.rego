# METADATA
# title: Show a person his own data
# description: >-
#   A visitor or an agent sees what is kept about himself.
package counterfoil.purposes.my_own_data

import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"visitor", "agent"},
	"audiences": {"visitor", "agent"},
	"subjects": {"visitor", "agent"},
	"fields": (question.fields_of.agent | question.fields_of.visitor),
}

# METADATA
# title: A visitor
# description: A visitor sees the fields of a visitor, his own.
permit := {"allow": true, "rule": "my_own_data.visitor", "masked": set(), "obligations": set()} if {
	input.actor.kind == "visitor"
	input.audience == "visitor"
	input.subject.kind == "visitor"
	question.about_himself
	input.fields != []
	every field in input.fields {
		field in question.fields_of.visitor
	}
}

# METADATA
# title: An agent
# description: An agent sees the fields of an agent, his own.
permit := {"allow": true, "rule": "my_own_data.agent", "masked": set(), "obligations": set()} if {
	input.actor.kind == "agent"
	input.audience == "agent"
	input.subject.kind == "agent"
	question.about_himself
	input.fields != []
	every field in input.fields {
		field in question.fields_of.agent
	}
}

# METADATA
# title: Somebody else
# description: The actor is not the subject.
reasons contains "not_own_data" if not question.about_himself

# METADATA
# title: Shown to somebody else
# description: The data is shown to the one who asks.
reasons contains "wrong_audience" if not input.audience == input.actor.kind

# METADATA
# title: Not a field of the subject
# description: Agents and visitors have different fields.
reasons contains "field_not_for_purpose" if {
	some field in input.fields
	not field in question.fields_of[input.subject.kind]
}
