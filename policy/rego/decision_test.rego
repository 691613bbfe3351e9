package test.decision

import data.counterfoil
import data.test.questions

good := questions.visitor_of_agent

test_a_release_names_its_rule if {
	counterfoil.decision == {
		"allow": true,
		"rule": "show_agent_to_visitor.own_conversation",
		"masked": set(),
		"obligations": set(),
	} with input as good
}

test_a_veto_wins_over_a_permit if {
	counterfoil.decision == {"allow": false, "reasons": {"legal_hold"}} with input as good
		with counterfoil.veto as {"legal_hold"}
}

test_what_nothing_explains_is_denied if {
	counterfoil.decision == {"allow": false, "reasons": {"no_rule"}} with input as {}
		with counterfoil.reasons as set()
}

test_an_empty_question_is_denied if {
	not counterfoil.decision.allow with input as {}
	counterfoil.decision.reasons == {"cross_organisation", "unknown_purpose"} with input as {}
}

test_other_organisation if {
	counterfoil.decision.reasons == {"cross_organisation"} with input as object.union(good, {"subject": {"organisation": "o2"}})
}

test_no_organisation if {
	counterfoil.decision.reasons == {"organisation_missing"} with input as object.union(good, {
		"actor": {"organisation": ""},
		"subject": {"organisation": ""},
	})
}

test_unknown_purpose_and_nothing_else if {
	counterfoil.decision.reasons == {"unknown_purpose"} with input as object.union(good, {"purpose": "curiosity"})
}

test_a_purpose_is_no_pattern if {
	counterfoil.decision.reasons == {"unknown_purpose"} with input as object.union(good, {"purpose": "*"})
}

test_unknown_words if {
	counterfoil.decision.reasons == {
		"unknown_actor_kind", "wrong_actor",
		"unknown_audience", "wrong_audience",
		"unknown_subject_kind", "wrong_subject",
		"unknown_field", "field_not_for_purpose",
	} with input as object.union(good, {
		"actor": {"kind": "Visitor"},
		"audience": "public",
		"subject": {"kind": "robot"},
		"fields": ["agent_shoe_size"],
	})
}

test_terms if {
	counterfoil.decision.reasons == {
		"wrong_actor", "wrong_audience", "wrong_subject", "wrong_state",
		"not_a_participant", "subject_not_a_participant", "field_not_for_purpose",
	} with input as object.union(good, {
		"actor": {"kind": "agent"},
		"audience": "agent",
		"subject": {"kind": "visitor"},
		"fields": ["agent_display_name", "agent_email"],
		"conversation": {"state": "waiting", "actor_is": "agent", "subject_is": "visitor"},
	})
}

test_no_fields if {
	counterfoil.decision.reasons == {"fields_missing"} with input as object.union(good, {"fields": []})
}

test_too_much_within_the_hour if {
	counterfoil.decision.allow with input as object.union(good, {"actor": {"recent": 999}})
	counterfoil.decision.reasons == {"volume_limit"} with input as object.union(good, {"actor": {"recent": 1000}})
}

test_every_kind_of_actor_has_a_limit if {
	every kind in ["visitor", "agent", "channel", "admin", "job", "operator"] {
		"volume_limit" in counterfoil.veto with input as object.union(good, {"actor": {"kind": kind, "recent": 1000000}})
		count(counterfoil.veto) == 0 with input as object.union(good, {"actor": {"kind": kind}})
	}
}

test_an_organisation_has_limits_of_its_own if {
	tight := object.union(good, {"organisation": {"limits": {"visitor": 50}}})
	counterfoil.decision.allow with input as object.union(tight, {"actor": {"recent": 49}})
	counterfoil.decision.reasons == {"volume_limit"} with input as object.union(tight, {"actor": {"recent": 50}})
	wide := object.union(good, {"organisation": {"limits": {"visitor": 3000}}})
	counterfoil.decision.allow with input as object.union(wide, {"actor": {"recent": 2999}})
	counterfoil.decision.reasons == {"volume_limit"} with input as object.union(wide, {"actor": {"recent": 3000}})
}

test_the_limits_of_other_kinds_do_not_matter if {
	others := object.union(good, {"organisation": {"limits": {"agent": 20, "admin": 2000}}})
	counterfoil.decision.allow with input as object.union(others, {"actor": {"recent": 999}})
	counterfoil.decision.reasons == {"volume_limit"} with input as object.union(others, {"actor": {"recent": 1000}})
}

test_a_limit_beyond_the_most_counts_as_the_most if {
	beyond := object.union(good, {"organisation": {"limits": {"visitor": 1000000}}})
	counterfoil.decision.allow with input as object.union(beyond, {"actor": {"recent": 4999}})
	counterfoil.decision.reasons == {"volume_limit"} with input as object.union(beyond, {"actor": {"recent": 5000}})
}

test_a_limit_below_zero_lets_nothing_through if {
	counterfoil.decision.reasons == {"volume_limit"} with input as object.union(good, {"organisation": {"limits": {"visitor": -1}}})
}

test_limits_are_set_within_bounds_only if {
	act := object.union(questions.nobody, {"actor": {"kind": "operator", "ref": "root"}, "purpose": "administer", "audience": "service"})
	counterfoil.decision.allow with input as act
	every kind, bounds in counterfoil.limits {
		every number in [bounds.least, bounds.most] {
			counterfoil.decision.allow with input as object.union(act, {"organisation": {"limits": {kind: number}}})
		}
	}
	every wrong in [
		{"visitor": 19}, {"visitor": 5001}, {"agent": 19}, {"agent": 50001}, {"channel": 19}, {"channel": 500001},
		{"admin": -1}, {"admin": 2001}, {"operator": -1}, {"operator": 5001}, {"job": 999}, {"job": 10000001},
	] {
		counterfoil.decision.reasons == {"limit_out_of_bounds"} with input as object.union(act, {"organisation": {"limits": wrong}})
	}
}

test_what_discloses_nothing_is_not_limited if {
	question := object.union(questions.admin_of_agent, {
		"actor": {"recent": 100000},
		"purpose": "read_audit_log",
		"fields": [],
	})
	counterfoil.decision.allow with input as question
}
