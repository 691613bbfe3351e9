package test.emergency

import data.counterfoil
import data.test.questions

# An auditor, who would see masked values only, with the consent of an approver.
emergency := object.union(questions.stepped_up(questions.admin_of_agent, "break_glass"), {
	"actor": {"roles": ["auditor"]},
	"approval": {"by": "m2", "actor": "m1", "subject": "a1", "expires_in_seconds": 600},
})

with_approval(approval) := object.union(emergency, {"approval": approval})

test_an_approved_emergency_shows_plain if {
	counterfoil.decision.rule == "break_glass.approved" with input as emergency
	counterfoil.decision.masked == set() with input as emergency
}

test_an_emergency_may_concern_a_conversation if {
	question := object.union(emergency, {
		"subject": {"kind": "conversation", "ref": "c1"},
		"fields": ["message_body"],
		"approval": {"subject": "c1"},
	})
	counterfoil.decision.allow with input as question
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(question, {"fields": ["agent_email"]})
}

test_nobody_approves_himself if {
	counterfoil.decision.reasons == {"approval_missing"} with input as with_approval({"by": "m1"})
	counterfoil.decision.reasons == {"approval_missing"} with input as with_approval({"by": ""})
}

test_an_approval_serves_one_actor_and_one_subject if {
	counterfoil.decision.reasons == {"approval_for_another"} with input as with_approval({"actor": "m3"})
	counterfoil.decision.reasons == {"approval_for_another"} with input as with_approval({"actor": ""})
	counterfoil.decision.reasons == {"approval_for_another"} with input as with_approval({"subject": "a2"})
	counterfoil.decision.reasons == {"approval_for_another"} with input as object.union(with_approval({"subject": ""}), {"subject": {"ref": ""}})
}

test_an_approval_ends if {
	every seconds in [0, -1, 28801] {
		counterfoil.decision.reasons == {"approval_expired"} with input as with_approval({"expires_in_seconds": seconds})
	}
	counterfoil.decision.allow with input as with_approval({"expires_in_seconds": 28800})
}

test_an_emergency_replaces_no_proof if {
	counterfoil.decision.reasons == {
		"factor_missing", "step_up_required", "address_not_admitted", "justification_missing",
	} with input as object.union(emergency, {"actor": {"factors": [], "address": "refused"}, "justification": false})
}

test_an_emergency_is_for_the_console if {
	counterfoil.decision.reasons == {"role_missing"} with input as object.union(emergency, {"actor": {"roles": ["guest"]}})
}

consent := object.union(questions.stepped_up(questions.admin_of_agent, "approve_break_glass"), {
	"actor": {"ref": "m2", "roles": ["approver"]},
	"fields": [],
	"approval": {"actor": "m1", "subject": "a1", "expires_in_seconds": 600},
})

test_an_approver_consents if {
	counterfoil.decision.rule == "approve_break_glass.approver" with input as consent
}

test_an_approver_does_not_consent_to_his_own if {
	counterfoil.decision.reasons == {"approval_of_himself"} with input as object.union(consent, {"approval": {"actor": "m2"}})
	counterfoil.decision.reasons == {"approval_of_himself"} with input as object.union(consent, {"approval": {"actor": ""}})
}

test_a_consent_says_to_what_and_until_when if {
	counterfoil.decision.reasons == {"approval_for_another"} with input as object.union(consent, {"approval": {"subject": "a2"}})
	counterfoil.decision.reasons == {"approval_expired"} with input as object.union(consent, {"approval": {"expires_in_seconds": 0}})
}

test_only_an_approver_consents if {
	counterfoil.decision.reasons == {"role_missing"} with input as object.union(consent, {"actor": {"roles": ["privacy_officer"]}})
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(consent, {"justification": false})
}

test_an_approver_sees_nothing if {
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(consent, {"fields": ["agent_email"]})
}

transcript := object.union(questions.stepped_up(questions.admin_of_agent, "read_transcript"), {
	"subject": {"kind": "conversation", "ref": "c1"},
	"fields": ["message_body"],
	"conversation": {"ref": "c1", "state": "closed"},
})

test_a_privacy_officer_reads_a_transcript if {
	counterfoil.decision.rule == "read_transcript.privacy_officer" with input as transcript
	counterfoil.decision.reasons == {"roles_incompatible"} with input as object.union(transcript, {"actor": {"roles": ["privacy_officer", "security_admin"]}})
}

test_nobody_else_reads_a_transcript if {
	every role in ["auditor", "security_admin", "approver"] {
		counterfoil.decision.reasons == {"role_missing"} with input as object.union(transcript, {"actor": {"roles": [role]}})
	}
}

test_a_transcript_needs_every_proof if {
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(transcript, {"justification": false})
}

test_a_transcript_is_of_the_conversation_in_question if {
	counterfoil.decision.reasons == {"other_conversation"} with input as object.union(transcript, {"subject": {"ref": "c2"}})
}
