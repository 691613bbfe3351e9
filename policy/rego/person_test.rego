package test.person

import data.counterfoil
import data.test.questions

visitor := object.union(questions.visitor_of_agent, {
	"purpose": "collect_visitor",
	"audience": "service",
	"subject": {"kind": "visitor", "ref": "v1"},
	"fields": ["visitor_email", "visitor_phone"],
})

agent := object.union(questions.agent_of_visitor, {
	"purpose": "collect_agent",
	"audience": "service",
	"subject": {"kind": "agent", "ref": "a1"},
	"fields": ["agent_display_name", "agent_email"],
})

test_a_visitor_speaks_of_himself if {
	counterfoil.decision.rule == "collect_visitor.about_himself" with input as visitor
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(visitor, {"subject": {"ref": "v2"}})
}

test_empty_references_are_nobodys if {
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(visitor, {
		"actor": {"ref": ""},
		"subject": {"ref": ""},
	})
}

test_all_who_were_erased_are_not_one if {
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(visitor, {
		"actor": {"ref": "erased"},
		"subject": {"ref": "erased"},
	})
}

test_an_agent_fills_his_profile if {
	counterfoil.decision.rule == "collect_agent.own_profile" with input as agent
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(agent, {"subject": {"ref": "a2"}})
}

test_a_first_join_creates_a_profile_only_if_allowed if {
	stranger := object.union(agent, {"actor": {"ref": ""}})
	counterfoil.decision.reasons == {"agent_creation_off"} with input as stranger
	created := object.union(stranger, {"organisation": {"create_agents": true}})
	counterfoil.decision.rule == "collect_agent.first_join" with input as created
}

test_everybody_sees_his_own_data if {
	counterfoil.decision.rule == "my_own_data.visitor" with input as object.union(visitor, {"purpose": "my_own_data", "audience": "visitor"})
	counterfoil.decision.rule == "my_own_data.agent" with input as object.union(agent, {"purpose": "my_own_data", "audience": "agent"})
}

test_nobody_sees_what_is_not_his if {
	own := object.union(visitor, {"purpose": "my_own_data", "audience": "visitor"})
	counterfoil.decision.reasons == {"not_own_data"} with input as object.union(own, {"subject": {"ref": "v2"}})
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(own, {"audience": "agent"})
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(own, {"fields": ["agent_email"]})
}
