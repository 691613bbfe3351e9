package test.export

import data.counterfoil
import data.test.questions

asks := object.union(questions.stepped_up(questions.admin_of_agent, "export_records"), {"actor": {"roles": ["auditor"]}, "audience": "service", "subject": {"kind": "", "ref": ""}, "fields": []})

takes := object.union(asks, {"audience": "console", "approval": {"by": "m2", "actor": "m1", "expires_in_seconds": 600}})

test_whoever_reads_the_log_asks_and_takes_with_the_consent_of_another if {
	counterfoil.decision.rule == "export_records.asked" with input as asks
	counterfoil.decision.rule == "export_records.approved" with input as takes
}

test_asking_is_no_consent if {
	counterfoil.decision.reasons == {"approval_expired", "approval_for_another", "approval_missing"} with input as object.union(asks, {"audience": "console"})
}

test_nobody_consents_to_his_own_and_nobody_takes_what_another_asked_for if {
	counterfoil.decision.reasons == {"approval_missing"} with input as object.union(takes, {"approval": {"by": "m1"}})
	counterfoil.decision.reasons == {"approval_for_another"} with input as object.union(takes, {"approval": {"actor": "m3"}})
}

test_a_consent_ends if {
	every seconds in [0, -1, 28801] {
		counterfoil.decision.reasons == {"approval_expired"} with input as object.union(takes, {"approval": {"expires_in_seconds": seconds}})
	}
}

test_a_proof_an_address_a_reason_and_a_role_are_needed if {
	every question in [asks, takes] {
		counterfoil.decision.reasons == {"justification_missing"} with input as object.union(question, {"justification": false})
		counterfoil.decision.reasons == {"address_not_admitted"} with input as object.union(question, {"actor": {"address": "refused"}})
		counterfoil.decision.reasons == {"role_missing"} with input as object.union(question, {"actor": {"roles": []}})
		counterfoil.decision.reasons == {"step_up_required"} with input as questions.stepped_up(question, "administer") with input.purpose as question.purpose
	}
}
