# METADATA
# title: Keep the name and email of the agent who joined
# description: >-
#   What Teams reports of the agent who joined is sealed. Nobody is shown it.
package counterfoil.purposes.collect_agent

import data.counterfoil.question

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields.
terms := {
	"actors": {"agent"},
	"audiences": {"service"},
	"subjects": {"agent"},
	"fields": question.fields_of.agent,
}

# METADATA
# title: His own profile
# description: The agent has a profile, and it is the subject.
# custom:
#   statements: [SEED-BOT-1, SEED-BOT-3]
permit := {"allow": true, "rule": "collect_agent.own_profile", "masked": set(), "obligations": set()} if {
	input.actor.kind == "agent"
	input.audience == "service"
	input.subject.kind == "agent"
	question.about_himself
	input.fields != []
	every field in input.fields {
		field in question.fields_of.agent
	}
}

# METADATA
# title: A new profile
# description: The agent has no profile yet, and the organisation lets the first Join create one.
# custom:
#   statements: [SEED-BOT-1, SEED-BOT-3]
permit := {"allow": true, "rule": "collect_agent.first_join", "masked": set(), "obligations": set()} if {
	input.actor.kind == "agent"
	input.audience == "service"
	input.subject.kind == "agent"
	input.actor.ref == ""
	input.organisation.create_agents == true
	input.fields != []
	every field in input.fields {
		field in question.fields_of.agent
	}
}

# METADATA
# title: No new profiles
# description: The agent has no profile yet, and the organisation creates profiles itself.
reasons contains "agent_creation_off" if {
	input.actor.ref == ""
	not input.organisation.create_agents == true
}

# METADATA
# title: Somebody else's profile
# description: The agent has a profile, and it is not the subject.
reasons contains "not_own_data" if {
	not input.actor.ref == ""
	not question.about_himself
}
