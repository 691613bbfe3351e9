package test.request

import data.counterfoil
import data.test.questions

officer := object.union(questions.nobody, {
	"actor": {
		"kind": "admin", "ref": "m1", "roles": ["privacy_officer"], "address": "admitted",
		"factors": [
			{"method": "password", "age_seconds": 60, "for": ""}, {"method": "totp", "age_seconds": 60, "for": "end_user_policy"},
			{"method": "totp", "age_seconds": 60, "for": "answer_request"},
		],
	},
	"audience": "console",
})

operator := object.union(questions.nobody, {"actor": {"kind": "operator", "ref": "root"}, "audience": "service"})

test_a_privacy_officer_and_the_operator_publish_notices if {
	notice := {"purpose": "end_user_policy"}
	counterfoil.decision.rule == "end_user_policy.privacy_officer" with input as object.union(officer, notice)
	counterfoil.decision.rule == "end_user_policy.operator" with input as object.union(operator, notice)
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(object.union(operator, notice), {"audience": "console"})
	counterfoil.decision.reasons == {"role_missing"} with input as object.union(object.union(officer, notice), {"actor": {"roles": ["security_admin"]}})
	counterfoil.decision.reasons == {"factor_missing", "step_up_required"} with input as object.union(object.union(officer, notice), {"actor": {"factors": []}})
	counterfoil.decision.reasons == {"address_not_admitted"} with input as object.union(object.union(officer, notice), {"actor": {"address": "refused"}})
}

test_a_request_is_handled_by_who_makes_it_and_by_a_privacy_officer if {
	handle := {"purpose": "handle_request", "subject": {"kind": "visitor", "ref": "v1"}}
	counterfoil.decision.rule == "handle_request.privacy_officer" with input as object.union(officer, handle)
	counterfoil.decision.rule == "handle_request.operator" with input as object.union(operator, handle)
	own := object.union(object.union(questions.nobody, handle), {"actor": {"kind": "visitor", "ref": "v1"}, "audience": "visitor"})
	counterfoil.decision.rule == "handle_request.for_himself" with input as own
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(own, {"subject": {"ref": "v2"}})
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(own, {"audience": "console"})
	counterfoil.decision.reasons == {"role_missing"} with input as object.union(object.union(officer, handle), {"actor": {"roles": ["auditor"]}})
	counterfoil.decision.reasons == {"factor_missing"} with input as object.union(object.union(officer, handle), {"actor": {"factors": []}})
	counterfoil.decision.reasons == {"address_not_admitted"} with input as object.union(object.union(officer, handle), {"actor": {"address": "refused"}})
}

answer := object.union(officer, {
	"purpose": "answer_request",
	"subject": {"kind": "visitor", "ref": "v1"},
	"fields": ["visitor_display_name", "visitor_email"],
	"request": "v1",
})

test_who_asked_gets_his_file if {
	counterfoil.decision.rule == "answer_request.file" with input as answer
	chat := object.union(answer, {"subject": {"kind": "conversation", "ref": "c1"}, "request": "c1", "fields": ["message_body"]})
	counterfoil.decision.rule == "answer_request.file" with input as chat
	counterfoil.decision.rule == "answer_request.correction" with input as object.union(answer, {"audience": "service"})
	counterfoil.decision.reasons == {"wrong_subject"} with input as object.union(chat, {"audience": "service"})
	counterfoil.decision.reasons == {"request_missing"} with input as object.union(answer, {"request": ""})
	counterfoil.decision.reasons == {"request_missing"} with input as object.union(answer, {"request": "v2"})
	counterfoil.decision.reasons == {"request_missing"} with input as object.union(answer, {"request": "", "subject": {"ref": ""}})
	counterfoil.decision.reasons == {"role_missing"} with input as object.union(answer, {"actor": {"roles": ["auditor", "security_admin"]}})
	counterfoil.decision.reasons == {"factor_missing", "step_up_required"} with input as object.union(answer, {"actor": {"factors": []}})
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(answer, {"fields": ["agent_email"]})
}

test_what_is_restricted_is_shown_to_himself_alone if {
	restricted := {"subject": {"restricted": true}}
	counterfoil.decision.reasons == {"restricted"} with input as object.union(questions.agent_of_visitor, restricted)
	counterfoil.decision.reasons == {"restricted"} with input as object.union(questions.visitor_of_agent, restricted)
	counterfoil.decision.reasons == {"restricted"} with input as object.union(questions.channel_of_conversation, restricted)
	counterfoil.decision.rule == "answer_request.file" with input as object.union(answer, restricted)
	own := object.union(object.union(questions.nobody, restricted), {
		"purpose": "my_own_data", "actor": {"kind": "visitor", "ref": "v1"}, "audience": "visitor",
		"subject": {"kind": "visitor", "ref": "v1"}, "fields": ["visitor_email"],
	})
	counterfoil.decision.rule == "my_own_data.visitor" with input as own
	chat := object.union(object.union(questions.nobody, restricted), {
		"purpose": "converse", "actor": {"kind": "visitor", "ref": "v1"}, "audience": "visitor", "fields": ["message_body"],
		"subject": {"kind": "conversation", "ref": "c1"}, "conversation": {"ref": "c1", "state": "active", "actor_is": "visitor"},
	})
	counterfoil.decision.rule == "converse.visitor" with input as chat
	as_agent := {"actor": {"kind": "agent", "ref": "a1"}, "audience": "agent", "conversation": {"actor_is": "agent"}}
	counterfoil.decision.reasons == {"restricted"} with input as object.union(chat, as_agent)
}

find := object.union(officer, {
	"purpose": "find_person", "audience": "service", "justification": true,
	"subject": {"kind": "visitor"}, "fields": ["visitor_email"],
	"actor": {"factors": [{"method": "password", "age_seconds": 60, "for": ""}, {"method": "totp", "age_seconds": 60, "for": "find_person"}]},
})

test_who_writes_a_letter_is_found_by_a_privacy_officer_for_a_reason if {
	counterfoil.decision.rule == "find_person.by_email" with input as find
	counterfoil.decision.rule == "find_person.by_email" with input as object.union(find, {"subject": {"kind": "agent"}, "fields": ["agent_email"]})
	counterfoil.decision.reasons == {"justification_missing"} with input as object.union(find, {"justification": false})
	counterfoil.decision.reasons == {"role_missing"} with input as object.union(find, {"actor": {"roles": ["auditor"]}})
	counterfoil.decision.reasons == {"roles_incompatible"} with input as object.union(find, {"actor": {"roles": ["privacy_officer", "security_admin"]}})
	counterfoil.decision.reasons == {"step_up_required"} with input as object.union(find, {"actor": {"factors": [{"method": "password", "age_seconds": 60, "for": ""}, {"method": "totp", "age_seconds": 60, "for": "answer_request"}]}})
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(find, {"fields": ["agent_email"]})
}
