package test.conversation

import data.counterfoil
import data.test.questions

visitor := object.union(questions.visitor_of_agent, {
	"purpose": "converse",
	"subject": {"kind": "conversation", "ref": "c1"},
	"fields": ["message_body"],
	"conversation": {"subject_is": ""},
})

agent := object.union(visitor, {
	"actor": {"kind": "agent", "ref": "a1"},
	"audience": "agent",
	"conversation": {"actor_is": "agent"},
})

test_the_visitor_sees_the_agent_in_the_history if {
	counterfoil.decision.allow with input as object.union(questions.visitor_of_agent, {"conversation": {"state": "closed"}})
}

test_an_agent_is_matched_while_the_conversation_waits if {
	question := object.union(questions.agent_of_visitor, {
		"purpose": "match_agent",
		"audience": "service",
		"subject": {"kind": "agent", "ref": "a1"},
		"fields": ["agent_email"],
		"conversation": {"state": "waiting", "actor_is": ""},
	})
	counterfoil.decision.rule == "match_agent.joining" with input as question
	counterfoil.decision.reasons == {"wrong_state"} with input as object.union(question, {"conversation": {"state": "closed"}})
}

test_contact_is_masked_unless_shared if {
	counterfoil.decision.masked == {"visitor_email"} with input as questions.agent_of_visitor
	counterfoil.decision.rule == "introduce_visitor_to_agent.contact_masked" with input as questions.agent_of_visitor
}

test_contact_is_plain_when_shared if {
	shared := object.union(questions.agent_of_visitor, {"organisation": {"share_visitor_email": true}})
	counterfoil.decision.masked == set() with input as shared
	counterfoil.decision.rule == "introduce_visitor_to_agent.contact_in_plain" with input as shared
}

joiner := object.union(questions.channel_of_conversation, {
	"purpose": "show_joiner_to_channel",
	"subject": {"kind": "agent", "ref": "a1"},
	"fields": ["agent_display_name"],
	"conversation": {"state": "active", "subject_is": "agent"},
})

test_the_channel_sees_the_joiner_masked if {
	counterfoil.decision.masked == {"agent_display_name"} with input as joiner
}

test_the_channel_sees_the_joiner_when_the_organisation_says_so if {
	shown := object.union(joiner, {"organisation": {"name_in_channel": true}})
	counterfoil.decision.rule == "show_joiner_to_channel.in_plain" with input as shown
}

test_the_channel_sees_no_agent_of_another_conversation if {
	stranger := object.union(joiner, {"conversation": {"subject_is": ""}})
	counterfoil.decision.reasons == {"subject_not_a_participant"} with input as stranger
}

test_an_agent_learns_nothing_before_he_joined if {
	waiting := object.union(questions.agent_of_visitor, {"conversation": {"state": "waiting", "actor_is": ""}})
	counterfoil.decision.reasons == {"wrong_state", "not_a_participant"} with input as waiting
}

test_the_channel_sees_the_first_line if {
	counterfoil.decision.obligations == {"first_line"} with input as questions.channel_of_conversation
}

test_the_channel_sees_no_other_conversation if {
	counterfoil.decision.reasons == {"other_conversation"} with input as object.union(
		questions.channel_of_conversation,
		{"subject": {"ref": "c2"}},
	)
}

test_the_visitor_converses_in_every_open_state if {
	every state in ["waiting", "active", "closed"] {
		counterfoil.decision.rule == "converse.visitor" with input as object.union(visitor, {"conversation": {"state": state}})
	}
	counterfoil.decision.obligations == {"renew_hourly"} with input as visitor
}

test_the_agent_converses_once_joined if {
	counterfoil.decision.rule == "converse.agent" with input as agent
	counterfoil.decision.obligations == {"renew_hourly"} with input as agent
	counterfoil.decision.reasons == {"wrong_state"} with input as object.union(agent, {"conversation": {"state": "waiting"}})
}

test_nobody_converses_for_another if {
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(agent, {"audience": "visitor"})
	counterfoil.decision.reasons == {"not_a_participant"} with input as object.union(visitor, {"conversation": {"actor_is": "agent"}})
	counterfoil.decision.reasons == {"other_conversation"} with input as object.union(visitor, {"subject": {"ref": "c2"}})
}
