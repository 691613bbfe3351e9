# METADATA
# title: Keep what a visitor says about himself
# description: >-
#   What the visitor writes about himself is sealed. Nobody is shown it.
package counterfoil.purposes.collect_visitor

import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"visitor"},
	"audiences": {"service"},
	"subjects": {"visitor"},
	"fields": question.fields_of.visitor,
}

# METADATA
# title: About himself
# description: The visitor speaks of himself and of nobody else.
permit := {"allow": true, "rule": "collect_visitor.about_himself", "masked": set(), "obligations": set()} if {
	input.actor.kind == "visitor"
	input.audience == "service"
	input.subject.kind == "visitor"
	question.about_himself
	input.fields != []
	every field in input.fields {
		field in question.fields_of.visitor
	}
}

# METADATA
# title: About somebody else
# description: The visitor is not the subject.
reasons contains "not_own_data" if not question.about_himself
