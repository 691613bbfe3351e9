package counterfoil

# How much is too much: disclosures to one actor within an hour, by his kind.
# The usual limits lie far above what work needs, and stop whoever walks through
# everybody. An organisation may have numbers of its own within bounds; zero is
# none. What discloses nothing is not limited.

# METADATA
# title: Visitors within the hour
# description: A visitor is usually shown at most 1000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "visitor"
	input.actor.recent >= 1000
	input.fields != []
	not input.organisation.limits.visitor > 0
}

# METADATA
# title: Agents within the hour
# description: An agent is usually shown at most 10000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "agent"
	input.actor.recent >= 10000
	input.fields != []
	not input.organisation.limits.agent > 0
}

# METADATA
# title: Channels within the hour
# description: A channel is usually shown at most 100000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "channel"
	input.actor.recent >= 100000
	input.fields != []
	not input.organisation.limits.channel > 0
}

# METADATA
# title: Administrators within the hour
# description: An administrator is usually shown at most 500 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "admin"
	input.actor.recent >= 500
	input.fields != []
	not input.organisation.limits.admin > 0
}

# METADATA
# title: Operators within the hour
# description: An operator is usually shown at most 1000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "operator"
	input.actor.recent >= 1000
	input.fields != []
	not input.organisation.limits.operator > 0
}

# METADATA
# title: Jobs within the hour
# description: A job is usually shown at most 1000000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "job"
	input.actor.recent >= 1000000
	input.fields != []
	not input.organisation.limits.job > 0
}

# METADATA
# title: The organisation's own limit within the hour
# description: The actor was shown as much as his organisation lets its actors of this kind be shown.
veto contains "volume_limit" if {
	own := input.organisation.limits[input.actor.kind]
	own != 0
	exhausted(own)
	input.fields != []
}

# METADATA
# title: Own limit
# description: A number below zero lets nothing through.
exhausted(own) if input.actor.recent >= own

# METADATA
# title: The most
# description: Whatever his organisation says, nobody is shown more than the most.
exhausted(_) if input.actor.recent >= limits[input.actor.kind].most

# METADATA
# title: Bounds of an organisation's own limits
# description: >-
#   The least and the most that an organisation may let actors of a kind be
#   shown within an hour.
limits := {
	"visitor": {"least": 20, "most": 5000},
	"agent": {"least": 20, "most": 50000},
	"channel": {"least": 20, "most": 500000},
	"admin": {"least": 1, "most": 2000},
	"operator": {"least": 1, "most": 5000},
	"job": {"least": 1000, "most": 10000000},
}

# METADATA
# title: Limit below the least
# description: >-
#   Whoever changes an organisation's limits asks with those that there are to
#   be. None may be below the least.
veto contains "limit_out_of_bounds" if {
	input.purpose == "administer"
	some kind, own in input.organisation.limits
	own != 0
	own < limits[kind].least
}

# METADATA
# title: Limit above the most
# description: None may be above the most.
veto contains "limit_out_of_bounds" if {
	input.purpose == "administer"
	some kind, own in input.organisation.limits
	own > limits[kind].most
}
