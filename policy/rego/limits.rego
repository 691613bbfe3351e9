package counterfoil

# How much is too much: disclosures to one actor within an hour, by his kind.
# The limits lie far above what work needs, and stop whoever walks through
# everybody. A limit of zero lets nothing through; no number means "without
# limit". What discloses nothing is not limited.

# METADATA
# title: Visitors within the hour
# description: A visitor is shown at most 1000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "visitor"
	input.actor.recent >= 1000
	input.fields != []
}

# METADATA
# title: Agents within the hour
# description: An agent is shown at most 10000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "agent"
	input.actor.recent >= 10000
	input.fields != []
}

# METADATA
# title: Channels within the hour
# description: A channel is shown at most 100000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "channel"
	input.actor.recent >= 100000
	input.fields != []
}

# METADATA
# title: Administrators within the hour
# description: An administrator is shown at most 500 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "admin"
	input.actor.recent >= 500
	input.fields != []
}

# METADATA
# title: Operators within the hour
# description: An operator is shown at most 1000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "operator"
	input.actor.recent >= 1000
	input.fields != []
}

# METADATA
# title: Jobs within the hour
# description: A job is shown at most 1000000 times within an hour.
veto contains "volume_limit" if {
	input.actor.kind == "job"
	input.actor.recent >= 1000000
	input.fields != []
}
