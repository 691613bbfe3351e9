package test.jobs

import data.counterfoil
import data.test.questions

archive := questions.job_of_conversation

retention := object.union(archive, {
	"actor": {"job": "retention"},
	"purpose": "apply_retention",
	"audience": "service",
	"subject": {"kind": "", "ref": ""},
	"fields": [],
})

scan := object.union(retention, {"actor": {"job": "canary_scan"}, "purpose": "scan_for_canaries"})

watch := object.union(retention, {"actor": {"job": "alerts"}, "purpose": "raise_alerts"})

test_each_job_has_its_purpose if {
	counterfoil.decision.rule == "archive_conversation.job" with input as archive
	counterfoil.decision.rule == "apply_retention.job" with input as retention
	counterfoil.decision.rule == "scan_for_canaries.job" with input as scan
	counterfoil.decision.rule == "raise_alerts.job" with input as watch
}

test_an_operator_has_planted_names_looked_for if {
	counterfoil.decision.rule == "scan_for_canaries.operator" with input as object.union(scan, {"actor": {"kind": "operator", "job": ""}})
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(scan, {"actor": {"kind": "operator", "job": ""}, "fields": ["agent_email"]})
	counterfoil.decision.reasons == {"wrong_actor"} with input as object.union(scan, {"actor": {"kind": "agent"}})
}

test_no_job_has_the_purpose_of_another if {
	every question in [archive, retention, scan, watch] {
		every job in {"", "alerts", "archive", "canary_scan", "retention", "*"} - {question.actor.job} {
			counterfoil.decision.reasons == {"wrong_job"} with input as object.union(question, {"actor": {"job": job}})
		}
	}
}

test_no_job_does_the_work_of_people if {
	every question in [questions.visitor_of_agent, questions.agent_of_visitor, questions.admin_of_agent] {
		not counterfoil.decision.allow with input as object.union(question, {"actor": {"kind": "job", "job": "archive"}})
	}
}

test_people_do_not_do_the_work_of_jobs if {
	every kind in ["visitor", "agent", "channel", "admin", "operator"] {
		counterfoil.decision.reasons == {"wrong_actor"} with input as object.union(archive, {"actor": {"kind": kind}})
	}
}

test_the_archive_takes_the_fields_of_its_subject if {
	counterfoil.decision.allow with input as object.union(archive, {"subject": {"kind": "agent"}, "fields": ["agent_display_name"]})
	counterfoil.decision.reasons == {"field_not_for_purpose"} with input as object.union(archive, {"fields": ["agent_email"]})
}

test_what_is_archived_goes_into_the_archive if {
	counterfoil.decision.reasons == {"wrong_audience"} with input as object.union(archive, {"audience": "service"})
}
