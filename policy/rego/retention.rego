package counterfoil

# How long is too short and too long. An organisation sets how long it keeps a
# class of data within these bounds; the least is what the law or the proof of
# what was done asks for, the most is what nobody needs.

# METADATA
# title: Bounds of what an organisation keeps
# description: >-
#   The least and the most days that a class of data may be kept. Of backups it
#   is what the organisation says of its own.
# custom:
#   statements: [SEED-ORG-2]
retention := {
	"transcript": {"least": 30, "most": 3650},
	"visitor": {"least": 30, "most": 3650},
	"agent": {"least": 30, "most": 3650},
	"conversation": {"least": 90, "most": 3650},
	"session": {"least": 1, "most": 90},
	"reason": {"least": 90, "most": 3650},
	"archive": {"least": 30, "most": 3650},
	"backup": {"least": 1, "most": 3650},
}

# METADATA
# title: Shorter than it must be kept
# description: Nobody keeps a class of data shorter than its least.
veto contains "retention_out_of_bounds" if {
	input.purpose == "control_data"
	input.retention.class != ""
	input.retention.days < retention[input.retention.class].least
}

# METADATA
# title: Longer than it may be kept
# description: Nor longer than its most.
veto contains "retention_out_of_bounds" if {
	input.purpose == "control_data"
	input.retention.class != ""
	input.retention.days > retention[input.retention.class].most
}

# METADATA
# title: A class that has no bounds
# description: What is not in the list is not kept, so nobody sets how long.
veto contains "retention_out_of_bounds" if {
	input.purpose == "control_data"
	input.retention.class != ""
	not retention[input.retention.class]
}
