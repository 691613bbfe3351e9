# METADATA
# title: The consent of a second person
# description: Conditions on an approval. Nobody approves himself, and no approval lasts longer than eight hours.
package counterfoil.approval

# METADATA
# title: Given by somebody else
# description: Somebody approved, and it was not the one who asks.
by_another if {
	input.approval.by != ""
	input.approval.by != input.actor.ref
}

# METADATA
# title: For this question
# description: It was given to the actor, about the subject.
for_this if {
	for_actor
	input.approval.subject != ""
	input.approval.subject == input.subject.ref
}

# METADATA
# title: For the one who asks
# description: It was given to the actor.
for_actor if {
	input.approval.actor != ""
	input.approval.actor == input.actor.ref
}

# METADATA
# title: For somebody else
# description: The one who asked for it is not the actor, who consents. Nobody approves himself.
for_another if {
	input.approval.actor != ""
	input.approval.actor != input.actor.ref
}

# METADATA
# title: In force
# description: It ends in the future, and in no more than eight hours.
in_force if {
	input.approval.expires_in_seconds > 0
	input.approval.expires_in_seconds <= 28800
}
