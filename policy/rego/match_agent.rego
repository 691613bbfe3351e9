# METADATA
# title: Find the profile of the agent who joins
# description: >-
#   When an agent clicks Join, the email that Teams reports is looked up among
#   the organisation's agents. Nobody is shown it.
package counterfoil.purposes.match_agent

# METADATA
# title: Terms
# description: Who may ask, for whose eyes, about whom and for which fields, in which states.
terms := {
	"actors": {"agent"},
	"audiences": {"service"},
	"subjects": {"agent"},
	"fields": {"agent_email"},
	"states": {"waiting", "active"},
}

# METADATA
# title: The agent is joining
# description: A conversation of his organisation waits or is under way.
# custom:
#   statements: [SEED-BOT-2]
permit := {"allow": true, "rule": "match_agent.joining", "masked": set(), "obligations": set()} if {
	input.actor.kind == "agent"
	input.audience == "service"
	input.subject.kind == "agent"
	input.conversation.state in {"waiting", "active"}
	input.fields == ["agent_email"]
}
