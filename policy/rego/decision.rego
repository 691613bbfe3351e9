# METADATA
# title: Counterfoil decision
# description: >-
#   Answers one question: may this actor, for this purpose, be given these
#   fields of this subject? Nothing is allowed unless a rule of the purpose
#   permits it, and a veto prevents it whatever any rule permits.
package counterfoil

# METADATA
# title: Default
# description: What no rule permits is denied.
default decision := {"allow": false, "reasons": {"no_rule"}}

# METADATA
# title: Decision
# description: >-
#   What the rule of the purpose permits, unless there is a veto; otherwise a
#   denial with everything that speaks against it, as stable codes.
# entrypoint: true
decision := data.counterfoil.purposes[input.purpose].permit if {
	veto == set()
} else := {"allow": false, "reasons": reasons} if {
	reasons != set()
}

# METADATA
# title: No organisation
# description: The actor acts in no organisation, so nothing can belong to him.
veto contains "organisation_missing" if input.actor.organisation == ""

# METADATA
# title: Another organisation
# description: Actor and subject do not belong to the same organisation, or one of them is not said.
veto contains "cross_organisation" if not input.actor.organisation == input.subject.organisation
