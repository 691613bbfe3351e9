package test.console

import data.counterfoil
import data.test.questions

officer := questions.admin_of_agent

with_roles(question, roles) := object.union(question, {"actor": {"roles": roles}})

with_factors(question, factors) := object.union(question, {"actor": {"factors": factors}})

password := {"method": "password", "age_seconds": 4000, "for": ""}

totp(age) := {"method": "totp", "age_seconds": age, "for": "reveal_to_admin"}

webauthn(age) := {"method": "webauthn", "age_seconds": age, "for": "reveal_to_admin"}

test_a_privacy_officer_sees_plain if {
	counterfoil.decision.rule == "reveal_to_admin.privacy_officer" with input as officer
	counterfoil.decision.masked == set() with input as officer
}

test_an_auditor_sees_masked if {
	auditor := with_roles(officer, ["auditor"])
	counterfoil.decision.rule == "reveal_to_admin.auditor" with input as auditor
	counterfoil.decision.masked == {"agent_email"} with input as auditor
}

test_whoever_sets_policy_sees_nothing if {
	counterfoil.decision.reasons == {"role_missing"} with input as with_roles(officer, ["approver", "security_admin"])
}

test_nobody_sets_policy_and_sees_people if {
	counterfoil.decision.reasons == {"roles_incompatible"} with input as with_roles(officer, ["privacy_officer", "security_admin"])
}

test_the_address_of_a_sign_in_is_shown_like_a_person if {
	address := object.union(officer, {"subject": {"kind": "admin", "ref": "m9"}, "fields": ["admin_address"]})
	counterfoil.decision.rule == "reveal_to_admin.privacy_officer" with input as address
	counterfoil.decision.masked == {"admin_address"} with input as with_roles(address, ["auditor"])
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(address, {"fields": ["agent_email"]})
	counterfoil.decision.reasons == {"role_missing"} with input as with_roles(address, ["security_admin"])
}

test_a_role_is_no_pattern if {
	counterfoil.decision.reasons == {"role_missing"} with input as with_roles(officer, ["*", "Privacy_Officer"])
}

test_a_recent_security_key_steps_up if {
	counterfoil.decision.allow with input as with_factors(officer, [password, totp(4000), webauthn(300)])
}

test_an_old_proof_does_not_do if {
	counterfoil.decision.reasons == {"step_up_required"} with input as with_factors(officer, [password, totp(301)])
	counterfoil.decision.reasons == {"step_up_required"} with input as with_factors(officer, [password, totp(-1)])
}

test_a_code_serves_one_purpose if {
	every purpose in ["", "administer", "break_glass"] {
		factor := object.union(totp(1), {"for": purpose})
		counterfoil.decision.reasons == {"step_up_required"} with input as with_factors(officer, [password, factor])
	}
}

test_both_factors_are_needed if {
	counterfoil.decision.reasons == {"factor_missing"} with input as with_factors(officer, [totp(60)])
	counterfoil.decision.reasons == {"factor_missing"} with input as with_factors(officer, [password, webauthn(60)])
}

test_the_address_is_admitted if {
	every address in ["refused", "none", ""] {
		counterfoil.decision.reasons == {"address_not_admitted"} with input as object.union(officer, {"actor": {"address": address}})
	}
}

test_the_reason_is_written_down if {
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(officer, {"justification": false})
}

test_a_visitor_has_no_field_of_an_agent if {
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(officer, {"subject": {"kind": "visitor"}})
}

reader := object.union(officer, {
	"actor": {"roles": ["auditor"]},
	"purpose": "read_audit_log",
	"subject": {"kind": "", "ref": ""},
	"fields": [],
})

operator := object.union(reader, {
	"actor": {"kind": "operator", "roles": [], "factors": [], "address": "none"},
	"audience": "service",
})

test_any_role_reads_the_log if {
	every role in ["auditor", "security_admin", "privacy_officer", "approver"] {
		counterfoil.decision.rule == "read_audit_log.admin" with input as with_roles(reader, [role])
	}
}

program := object.union(reader, {"actor": {"kind": "client", "roles": [], "factors": [], "address": "admitted"}})

test_a_program_reads_the_log_and_nothing_else if {
	counterfoil.decision.rule == "read_audit_log.client" with input as program
	counterfoil.decision.reasons == {"address_not_admitted", "wrong_audience"} with input as object.union(program, {"actor": {"address": "none"}, "audience": "service"})
	every purpose in ["administer", "reveal_to_admin", "read_transcript", "own_account"] {
		not counterfoil.decision.allow with input as object.union(program, {"purpose": purpose})
	}
}

test_a_security_admin_administers if {
	setter := questions.stepped_up(with_roles(reader, ["security_admin"]), "administer")
	counterfoil.decision.rule == "administer.admin" with input as setter
	counterfoil.decision.reasons == {"step_up_required"} with input as with_factors(setter, [password, totp(1)])
}

test_the_operator_needs_the_shell_only if {
	counterfoil.decision.rule == "read_audit_log.operator" with input as operator
	counterfoil.decision.rule == "administer.operator" with input as object.union(operator, {"purpose": "administer"})
}

test_an_administrator_needs_everything if {
	stranger := object.union(reader, {
		"actor": {"roles": ["guest"], "factors": [password], "address": "refused"},
		"audience": "service",
	})
	missing := {"wrong_audience", "role_missing", "factor_missing", "address_not_admitted"}
	counterfoil.decision.reasons == missing with input as stranger
	every purpose in ["administer", "own_account"] {
		counterfoil.decision.reasons == missing | {"step_up_required"} with input as object.union(stranger, {"purpose": purpose})
	}
}

test_an_administrative_act_has_no_fields if {
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(operator, {"fields": ["agent_email"]})
}

test_everybody_looks_after_his_own_account if {
	every role in ["auditor", "security_admin", "privacy_officer", "approver"] {
		counterfoil.decision.rule == "own_account.admin" with input as questions.stepped_up(with_roles(reader, [role]), "own_account")
	}
}

together := object.union(questions.stepped_up(with_roles(reader, ["security_admin"]), "change_together"), {
	"justification": true,
	"approval": {"by": "m2", "actor": "m1", "subject": "", "expires_in_seconds": 600},
})

test_two_change_together if {
	counterfoil.decision.rule == "change_together.approved" with input as together
	counterfoil.decision.reasons == {"role_missing"} with input as with_roles(together, ["approver"])
	counterfoil.decision.reasons == {"step_up_required"} with input as with_factors(together, [password, totp(1)])
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(together, {"justification": false})
}

test_one_does_not_change_together if {
	counterfoil.decision.reasons == {"approval_missing"} with input as object.union(together, {"approval": {"by": "m1"}})
	counterfoil.decision.reasons == {"approval_missing"} with input as object.union(together, {"approval": {"by": ""}})
	counterfoil.decision.reasons == {"approval_for_another"} with input as object.union(together, {"approval": {"actor": "m3"}})
	counterfoil.decision.reasons == {"approval_expired"} with input as object.union(together, {"approval": {"expires_in_seconds": 0}})
}

consent := object.union(questions.stepped_up(with_roles(reader, ["approver"]), "approve_change"), {
	"justification": true,
	"approval": {"by": "", "actor": "m2", "subject": "", "expires_in_seconds": 600},
})

test_an_approver_consents_to_a_change if {
	counterfoil.decision.rule == "approve_change.approver" with input as consent
	counterfoil.decision.reasons == {"role_missing"} with input as with_roles(consent, ["security_admin"])
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(consent, {"justification": false})
	counterfoil.decision.reasons == {"approval_of_himself"} with input as object.union(consent, {"approval": {"actor": "m1"}})
	counterfoil.decision.reasons == {"approval_expired"} with input as object.union(consent, {"approval": {"expires_in_seconds": 0}})
}

handling := object.union(with_roles(reader, ["auditor"]), {"purpose": "handle_alerts"})

test_alerts_are_handled_by_whoever_looks_after_the_log if {
	counterfoil.decision.rule == "handle_alerts.admin" with input as handling
	counterfoil.decision.rule == "handle_alerts.admin" with input as with_roles(handling, ["security_admin"])
	counterfoil.decision.reasons == {"role_missing"} with input as with_roles(handling, ["approver", "privacy_officer"])
	counterfoil.decision.reasons == {"factor_missing"} with input as with_factors(handling, [password])
	counterfoil.decision.reasons == {"address_not_admitted"} with input as object.union(handling, {"actor": {"address": "none"}})
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(handling, {"audience": "service"})
	counterfoil.decision.rule == "handle_alerts.operator" with input as object.union(handling, {"actor": {"kind": "operator"}, "audience": "service"})
}
