# METADATA
# title: Questions to start from
# description: One permitted question for each kind of actor; tests change what they are about.
package test.questions

nobody := {
	"actor": {"kind": "", "organisation": "o1", "ref": "", "roles": [], "factors": [], "address": "none", "job": "", "recent": 0},
	"purpose": "",
	"audience": "",
	"subject": {"kind": "", "organisation": "o1", "ref": "", "restricted": false},
	"fields": [],
	"conversation": {"ref": "", "state": "", "actor_is": "", "subject_is": ""},
	"organisation": {"share_visitor_email": false, "create_agents": false, "name_in_channel": false, "limits": {"visitor": 0, "agent": 0, "channel": 0, "admin": 0, "operator": 0, "job": 0}},
	"justification": false,
	"approval": {"by": "", "actor": "", "subject": "", "expires_in_seconds": 0},
	"request": "",
	"retention": {"class": "", "days": 0},
}

visitor_of_agent := object.union(nobody, {
	"actor": {"kind": "visitor", "ref": "v1"},
	"purpose": "show_agent_to_visitor",
	"audience": "visitor",
	"subject": {"kind": "agent", "ref": "a1"},
	"fields": ["agent_display_name"],
	"conversation": {"ref": "c1", "state": "active", "actor_is": "visitor", "subject_is": "agent"},
})

agent_of_visitor := object.union(nobody, {
	"actor": {"kind": "agent", "ref": "a1"},
	"purpose": "introduce_visitor_to_agent",
	"audience": "agent",
	"subject": {"kind": "visitor", "ref": "v1"},
	"fields": ["visitor_display_name", "visitor_email"],
	"conversation": {"ref": "c1", "state": "active", "actor_is": "agent", "subject_is": "visitor"},
})

channel_of_conversation := object.union(nobody, {
	"actor": {"kind": "channel", "ref": "t1"},
	"purpose": "announce_to_channel",
	"audience": "channel",
	"subject": {"kind": "conversation", "ref": "c1"},
	"fields": ["message_body"],
	"conversation": {"ref": "c1", "state": "waiting", "actor_is": "channel"},
})

admin_of_agent := object.union(nobody, {
	"actor": {
		"kind": "admin", "ref": "m1", "roles": ["privacy_officer"], "address": "admitted",
		"factors": [
			{"method": "password", "age_seconds": 4000, "for": ""},
			{"method": "totp", "age_seconds": 60, "for": "reveal_to_admin"},
		],
	},
	"purpose": "reveal_to_admin",
	"audience": "console",
	"subject": {"kind": "agent", "ref": "a1"},
	"fields": ["agent_email"],
	"justification": true,
})

job_of_conversation := object.union(nobody, {
	"actor": {"kind": "job", "ref": "j1", "job": "archive"},
	"purpose": "archive_conversation",
	"audience": "archive",
	"subject": {"kind": "conversation", "ref": "c1"},
	"fields": ["message_body"],
})

# stepped_up puts a question for a purpose, for which a code was given.
stepped_up(question, purpose) := object.union(question, {
	"purpose": purpose,
	"actor": {"factors": [
		{"method": "password", "age_seconds": 4000, "for": ""},
		{"method": "totp", "age_seconds": 60, "for": purpose},
	]},
})
