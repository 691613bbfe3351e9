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
with_password if input.actor.factors[_].method == "password"

# METADATA
# title: One-time code given
# description: He signed in with a one-time code.
# custom:
#   statements: [SEED-ORG-7]
with_totp if input.actor.factors[_].method == "totp"

# METADATA
# title: Proved of late
# description: >-
#   A one-time code or a security key, given for this purpose and not older than
#   300 seconds. An age below zero comes from a clock that cannot be right, and
#   proves nothing.
stepped_up if {
	some factor in input.actor.factors
	factor.method in {"totp", "webauthn"}
	factor.for == input.purpose
	factor.age_seconds >= 0
	factor.age_seconds <= 300
}

# METADATA
# title: Justified
# description: He wrote down why. The text is kept with the record and is no part of the question.
justified if input.justification == true

# METADATA
# title: Sets what others may, and sees people
# description: Nobody does both. Whoever sets policy, accounts and the allowlist is shown nobody in plain, whatever else he is.
both if {
	"security_admin" in input.actor.roles
	"privacy_officer" in input.actor.roles
}

# METADATA
# title: Fit to be shown EUII
# description: >-
#   Password, one-time code, one of them or a security key given a moment ago,
#   an admitted address, a written justification.
fit if {
	with_password
	with_totp
	stepped_up
	at_admitted_address
	justified
}

# METADATA
# title: No password
# description: He did not sign in with a password.
unfit contains "factor_missing" if not with_password

# METADATA
# title: No one-time code
# description: He did not sign in with a one-time code.
unfit contains "factor_missing" if not with_totp

# METADATA
# title: Not proved of late
# description: He gave no one-time code or security key for this purpose within five minutes.
unfit contains "step_up_required" if not stepped_up

# METADATA
# title: Address not admitted
# description: An administrator works from an admitted address only.
unfit contains "address_not_admitted" if not at_admitted_address

# METADATA
# title: No justification
# description: He did not write down why.
unfit contains "justification_missing" if not justified

# METADATA
# title: Admitted address
# description: The request comes from an address on the allowlist.
# custom:
#   statements: [SEED-ORG-6]
at_admitted_address if input.actor.address == "admitted"
