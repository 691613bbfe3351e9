package test.control

import data.counterfoil
import data.test.questions

officer := object.union(questions.stepped_up(questions.admin_of_agent, "control_data"), {"subject": {"kind": "", "ref": ""}, "fields": []})

eraser := object.union(questions.stepped_up(questions.admin_of_agent, "erase_data"), {"fields": []})

together := object.union(questions.stepped_up(officer, "erase_organisation"), {"approval": {"by": "m2", "actor": "m1", "expires_in_seconds": 600}})

operator := {"actor": {"kind": "operator", "roles": [], "factors": [], "address": "none"}, "audience": "service", "justification": false}

visitor := object.union(questions.visitor_of_agent, {
	"purpose": "erase_data",
	"subject": {"kind": "visitor", "ref": "v1"},
	"fields": [],
	"conversation": {"subject_is": "visitor"},
})

keep(class, days) := object.union(officer, {"retention": {"class": class, "days": days}})

test_a_privacy_officer_controls_and_erases if {
	counterfoil.decision.rule == "control_data.privacy_officer" with input as officer
	counterfoil.decision.rule == "erase_data.privacy_officer" with input as eraser
	counterfoil.decision.rule == "erase_organisation.approved" with input as together
}

test_an_operator_controls_and_erases_and_an_organisation_with_another if {
	counterfoil.decision.rule == "control_data.operator" with input as object.union(officer, operator)
	counterfoil.decision.rule == "erase_data.operator" with input as object.union(eraser, operator)
	host := object.union(object.union(together, operator), {"justification": true})
	counterfoil.decision.rule == "erase_organisation.operators" with input as host
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(host, {"justification": false})
	counterfoil.decision.reasons == {"approval_missing"} with input as object.union(host, {"approval": {"by": "m1"}})
	counterfoil.decision.reasons == {"approval_for_another"} with input as object.union(host, {"approval": {"actor": "m3"}})
	counterfoil.decision.reasons == {"approval_expired"} with input as object.union(host, {"approval": {"expires_in_seconds": 0}})
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(host, {"audience": "console"})
}

test_nobody_else_does if {
	every question in [officer, eraser, together] {
		every role in ["auditor", "security_admin", "approver", "Privacy_Officer", "*"] {
			counterfoil.decision.reasons == {"role_missing"} with input as object.union(question, {"actor": {"roles": [role]}})
		}
	}
}

test_a_proof_an_address_and_a_reason_are_needed if {
	every question in [officer, eraser, together] {
		counterfoil.decision.reasons == {"justification_missing"} with input as object.union(question, {"justification": false})
		counterfoil.decision.reasons == {"address_not_admitted"} with input as object.union(question, {"actor": {"address": "refused"}})
		counterfoil.decision.reasons == {"step_up_required"} with input as questions.stepped_up(question, "administer") with input.purpose as question.purpose
	}
}

test_everybody_acts_where_he_belongs if {
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(officer, {"audience": "service"})
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(eraser, {"audience": "service"})
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(visitor, {"audience": "service"})
}

test_a_visitor_has_himself_erased_and_nobody_else if {
	counterfoil.decision.rule == "erase_data.visitor" with input as visitor
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(visitor, {"subject": {"ref": "v2"}})
	counterfoil.decision.reasons == {"not_own_data", "wrong_subject"} with input as object.union(visitor, {"subject": {"kind": "agent", "ref": "a1"}})
}

test_an_organisation_takes_a_second_person if {
	counterfoil.decision.reasons == {"approval_missing"} with input as object.union(together, {"approval": {"by": "m1"}})
	counterfoil.decision.reasons == {"approval_for_another"} with input as object.union(together, {"approval": {"actor": "m3"}})
	counterfoil.decision.reasons == {"approval_expired"} with input as object.union(together, {"approval": {"expires_in_seconds": 0}})
}

test_what_is_kept_stays_within_bounds if {
	every class, bounds in counterfoil.retention {
		counterfoil.decision.allow with input as keep(class, bounds.least)
		counterfoil.decision.allow with input as keep(class, bounds.most)
	}
	every case in [["transcript", 29], ["visitor", 29], ["agent", 3651], ["conversation", 89], ["session", 0], ["session", 91], ["reason", 89], ["backup", 3651]] {
		counterfoil.decision.reasons == {"retention_out_of_bounds"} with input as keep(case[0], case[1])
	}
	counterfoil.decision.reasons == {"retention_out_of_bounds"} with input as keep("other", 400)
}
