# METADATA
# title: How an administrator proved himself
# description: Conditions on roles, factors and address, shared by the purposes of the console.
package counterfoil.admin

# METADATA
# title: Any role of the console
# description: He has at least one of the four roles.
with_any_role if {
	some role in input.actor.roles
	role in {"approver", "auditor", "privacy_officer", "security_admin"}
}

# METADATA
# title: Password given
# description: He signed in with his password.
with_password if {
	some factor in input.actor.factors
	factor.method == "password"
}

# METADATA
# title: One-time code given
# description: He signed in with a one-time code.
with_totp if {
	some factor in input.actor.factors
	factor.method == "totp"
}

# METADATA
# title: Proved of late
# description: >-
#   A one-time code or a security key not older than 300 seconds. An age below
#   zero comes from a clock that cannot be right, and proves nothing.
stepped_up if {
	some factor in input.actor.factors
	factor.method in {"totp", "webauthn"}
	factor.age_seconds >= 0
	factor.age_seconds <= 300
}

# METADATA
# title: Admitted address
# description: The request comes from an address on the allowlist.
at_admitted_address if input.actor.address == "admitted"
