package counterfoil

# A person may ask that his data be kept and not used. From then on it is shown
# to nobody but himself, until that is lifted.

# METADATA
# title: Restricted
# description: >-
#   What is restricted is released to nobody but the person himself. Left are
#   the answer to what he asks, which is for him, and an emergency that a second
#   person approved.
veto contains "restricted" if {
	input.subject.restricted
	input.fields != []
	not input.purpose in {"answer_request", "break_glass"}
	not data.counterfoil.question.about_himself
	not his_own_conversation
}

# METADATA
# title: His own conversation
# description: The visitor reads what he wrote and was answered.
his_own_conversation if {
	input.subject.kind == "conversation"
	input.actor.kind == "visitor"
	input.conversation.actor_is == "visitor"
}
