package policy

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Matrix writes the decisions of e as a table that a person can read, and that
// changes line by line when a policy does. For every purpose it starts from the
// questions that the purpose permits and changes them in one respect at a time,
// then in those two that rules combine. Values with the same answer share a
// line. The same engine always writes the same table.
func Matrix(w io.Writer, e *Engine) error {
	out := bufio.NewWriter(w)
	fmt.Fprint(out, header)
	for _, purpose := range Purposes() {
		fmt.Fprintf(out, "\n%s: %s\n", purpose, purpose.Title("en"))
		for _, base := range bases(purpose) {
			if err := section(out, e, base); err != nil {
				return fmt.Errorf("write decision matrix: %w", err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write decision matrix: %w", err)
	}
	return nil
}

const header = `Decision matrix

Under each purpose stand the questions it permits. Below each question, a line
says what becomes of it when one thing changes: the outcome, what changes (with
all values that have this answer), and after => the rule that permits it or the
reasons against it. "." means any value, with the answer unchanged. Two changes
at once are listed where the answer is not simply both sets of reasons.
`

// base is a question that the purpose permits.
type base struct {
	name string
	in   Input
}

// bases returns the permitted questions of a purpose, one for each kind of
// actor that may ask.
func bases(purpose Purpose) []base {
	var (
		visitor  = Actor{Kind: "visitor", Organisation: "o1", Ref: "v1", Address: "none"}
		agent    = Actor{Kind: "agent", Organisation: "o1", Ref: "a1", Address: "none"}
		channel  = Actor{Kind: "channel", Organisation: "o1", Ref: "t1", Address: "none"}
		operator = Actor{Kind: "operator", Organisation: "o1", Ref: "root", Address: "none"}
		client   = Actor{Kind: "client", Organisation: "o1", Ref: "p1", Address: "admitted"}
		admin    = func(role string) Actor {
			return Actor{
				Kind: "admin", Organisation: "o1", Ref: "m1", Roles: []string{role},
				Factors: []Factor{{"password", 3600, ""}, {"totp", 60, string(purpose)}}, Address: "admitted",
			}
		}
		aVisitor = Subject{Kind: "visitor", Organisation: "o1", Ref: "v1"}
		anAgent  = Subject{Kind: "agent", Organisation: "o1", Ref: "a1"}
		anAdmin  = Subject{Kind: "admin", Organisation: "o1", Ref: "m9"}
		aChat    = Subject{Kind: "conversation", Organisation: "o1", Ref: "c1"}
		nothing  = Subject{Organisation: "o1"}
		chat     = func(state, actorIs, subjectIs string) Conversation {
			return Conversation{Ref: "c1", State: state, ActorIs: actorIs, SubjectIs: subjectIs}
		}
	)
	job := func(name string) Actor {
		return Actor{Kind: "job", Organisation: "o1", Ref: "j1", Address: "none", Job: name}
	}
	justified := func(b base) base {
		b.in.Justification = true
		return b
	}
	requested := func(b base) base {
		b.in.Request = b.in.Subject.Ref
		return b
	}
	approved := func(by, actor string, b base) base {
		b.in.Approval = Approval{By: by, Actor: actor, Subject: b.in.Subject.Ref, ExpiresInSeconds: 600}
		return justified(b)
	}
	ask := func(name string, actor Actor, audience string, subject Subject, conversation Conversation, fields ...string) base {
		return base{name, Input{
			Actor: actor, Purpose: purpose, Audience: audience,
			Subject: subject, Fields: fields, Conversation: conversation,
		}}
	}
	switch purpose {
	case CollectVisitor:
		return []base{ask("a visitor about himself", visitor, "service", aVisitor, chat("waiting", "visitor", "visitor"), VisitorEmail)}
	case AnnounceToChannel:
		return []base{ask("the channel of a waiting conversation", channel, "channel", aChat, chat("waiting", "channel", ""), MessageBody)}
	case MatchAgent:
		return []base{ask("the agent who clicked Join", agent, "service", anAgent, chat("waiting", "", ""), AgentEmail)}
	case CollectAgent:
		return []base{ask("an agent with a profile", agent, "service", anAgent, chat("active", "agent", "agent"), AgentEmail)}
	case ShowJoinerToChannel:
		return []base{ask("the channel of an active conversation", channel, "channel", anAgent, chat("active", "channel", "agent"), AgentDisplayName)}
	case IntroduceVisitorToAgent:
		return []base{ask("the agent of the conversation", agent, "agent", aVisitor, chat("active", "agent", "visitor"), VisitorEmail)}
	case ShowAgentToVisitor:
		return []base{ask("the visitor of the conversation", visitor, "visitor", anAgent, chat("active", "visitor", "agent"), AgentDisplayName)}
	case Converse:
		return []base{
			ask("the visitor of the conversation", visitor, "visitor", aChat, chat("active", "visitor", ""), MessageBody),
			ask("the agent of the conversation", agent, "agent", aChat, chat("active", "agent", ""), MessageBody),
		}
	case MyOwnData:
		return []base{
			ask("a visitor about himself", visitor, "visitor", aVisitor, Conversation{}, VisitorEmail),
			ask("an agent about himself", agent, "agent", anAgent, Conversation{}, AgentEmail),
		}
	case RevealToAdmin:
		return []base{
			justified(ask("a privacy officer about an agent", admin("privacy_officer"), "console", anAgent, Conversation{}, AgentEmail)),
			justified(ask("a privacy officer about a visitor", admin("privacy_officer"), "console", aVisitor, Conversation{}, VisitorEmail)),
			justified(ask("a privacy officer about the address of a sign-in", admin("privacy_officer"), "console", anAdmin, Conversation{}, AdminAddress)),
			justified(ask("an auditor about an agent", admin("auditor"), "console", anAgent, Conversation{}, AgentEmail)),
		}
	case ReadTranscript:
		return []base{justified(ask("a privacy officer", admin("privacy_officer"), "console", aChat, chat("closed", "", ""), MessageBody))}
	case BreakGlass:
		return []base{approved("m2", "m1", ask("an auditor, approved by somebody else", admin("auditor"), "console", anAgent, Conversation{}, AgentEmail))}
	case ApproveBreakGlass:
		return []base{approved("", "m2", ask("an approver, for somebody else", admin("approver"), "console", anAgent, Conversation{}))}
	case ArchiveConversation:
		return []base{ask("the archive job", job("archive"), "archive", aChat, Conversation{}, MessageBody)}
	case ApplyRetention:
		return []base{ask("the retention job", job("retention"), "service", nothing, Conversation{})}
	case ScanForCanaries:
		return []base{ask("the canary scan", job("canary_scan"), "service", nothing, Conversation{})}
	case ReadAuditLog:
		return []base{
			ask("an auditor", admin("auditor"), "console", nothing, Conversation{}),
			ask("a program with a token", client, "console", nothing, Conversation{}),
			ask("the operator", operator, "service", nothing, Conversation{}),
		}
	case ExportRecords:
		return []base{
			justified(ask("an auditor who asks", admin("auditor"), "service", nothing, Conversation{})),
			approved("m2", "m1", ask("an auditor, approved by somebody else", admin("auditor"), "console", nothing, Conversation{})),
		}
	case Administer:
		return []base{
			ask("a security administrator", admin("security_admin"), "console", nothing, Conversation{}),
			ask("the operator", operator, "service", nothing, Conversation{}),
		}
	case ChangeTogether:
		return []base{approved("m2", "m1", ask("a security administrator, approved by somebody else", admin("security_admin"), "console", nothing, Conversation{}))}
	case ApproveChange:
		return []base{approved("", "m2", ask("an approver, for somebody else", admin("approver"), "console", nothing, Conversation{}))}
	case RaiseAlerts:
		return []base{ask("the watch", job("alerts"), "service", nothing, Conversation{})}
	case HandleAlerts:
		return []base{
			ask("an auditor", admin("auditor"), "console", nothing, Conversation{}),
			ask("the operator", operator, "service", nothing, Conversation{}),
		}
	case ControlData:
		set := justified(ask("a privacy officer, how long to keep transcripts", admin("privacy_officer"), "console", nothing, Conversation{}))
		set.in.Retention = Retention{"transcript", 400}
		return []base{
			set,
			justified(ask("a privacy officer, about a visitor", admin("privacy_officer"), "console", aVisitor, Conversation{})),
			ask("the operator", operator, "service", nothing, Conversation{}),
		}
	case EraseData:
		return []base{
			justified(ask("a privacy officer, about a visitor", admin("privacy_officer"), "console", aVisitor, Conversation{})),
			ask("a visitor about himself", visitor, "visitor", aVisitor, Conversation{}),
			ask("the operator, about a conversation", operator, "service", aChat, Conversation{}),
		}
	case EraseOrganisation:
		return []base{approved("m2", "m1", ask("a privacy officer, approved by somebody else", admin("privacy_officer"), "console", nothing, Conversation{}))}
	case OwnAccount:
		return []base{ask("an auditor", admin("auditor"), "console", nothing, Conversation{})}
	case EndUserPolicy:
		return []base{
			ask("a privacy officer", admin("privacy_officer"), "console", nothing, Conversation{}),
			ask("the operator", operator, "service", nothing, Conversation{}),
		}
	case HandleRequest:
		return []base{
			ask("a privacy officer", admin("privacy_officer"), "console", aVisitor, Conversation{}),
			ask("the operator", operator, "service", nothing, Conversation{}),
			ask("a visitor for himself", visitor, "visitor", aVisitor, Conversation{}),
			ask("an agent for himself", agent, "agent", anAgent, Conversation{}),
		}
	case AnswerRequest:
		return []base{
			requested(ask("a privacy officer about who asked", admin("privacy_officer"), "console", aVisitor, Conversation{}, VisitorEmail)),
			requested(ask("a privacy officer about a conversation of who asked", admin("privacy_officer"), "console", aChat, Conversation{}, MessageBody)),
			requested(ask("a privacy officer who corrects", admin("privacy_officer"), "service", aVisitor, Conversation{}, VisitorEmail)),
		}
	case FindPerson:
		return []base{justified(ask("a privacy officer, a visitor", admin("privacy_officer"), "service", Subject{Kind: "visitor", Organisation: "o1"}, Conversation{}, VisitorEmail))}
	}
	return nil
}

// change is one way in which a question differs from its base.
type change struct {
	value string
	apply func(*Input)
}

// dimension is a respect in which questions differ.
type dimension struct {
	name    string
	changes []change
}

// set is the dimension of a string that takes the given values, plus one that
// is in no list.
func set(name string, values []string, member func(*Input) *string) dimension {
	d := dimension{name: name}
	for _, value := range append(slices.Clone(values), "other") {
		d.changes = append(d.changes, change{cmp.Or(value, "none"), func(in *Input) { *member(in) = value }})
	}
	return d
}

// dimensions returns every respect in which the matrix varies a question.
func dimensions() []dimension {
	lists := closed()
	fields := dimension{name: "field"}
	for _, field := range append(Fields(), "other") {
		fields.changes = append(fields.changes, change{field, func(in *Input) { in.Fields = []string{field} }})
	}
	fields.changes = append(fields.changes,
		change{"none", func(in *Input) { in.Fields = nil }},
		change{"all of agents", func(in *Input) {
			in.Fields = []string{AgentDisplayName, AgentEmail, AgentGivenName, AgentSurname}
		}},
		change{"all of visitors", func(in *Input) {
			in.Fields = []string{
				VisitorAddress, VisitorAnswers, VisitorDisplayName, VisitorEmail,
				VisitorGivenName, VisitorPhone, VisitorSurname,
			}
		}},
		change{"what introduces a visitor", func(in *Input) {
			in.Fields = []string{VisitorAnswers, VisitorDisplayName, VisitorEmail, VisitorPhone}
		}},
	)

	settings := dimension{name: "settings"}
	for bits := range 8 {
		on := Organisation{ShareVisitorEmail: bits&1 != 0, CreateAgents: bits&2 != 0, NameInChannel: bits&4 != 0}
		var words []string
		for i, name := range []string{"share_visitor_email", "create_agents", "name_in_channel"} {
			if bits&(1<<i) != 0 {
				words = append(words, name)
			}
		}
		settings.changes = append(settings.changes, change{cmp.Or(strings.Join(words, "+"), "none"), func(in *Input) { in.Organisation = on }})
	}

	roles := dimension{name: "roles"}
	for bits := range 1 << len(lists["actor.roles"]) {
		var held []string
		for i, role := range lists["actor.roles"] {
			if bits&(1<<i) != 0 {
				held = append(held, role)
			}
		}
		roles.changes = append(roles.changes, change{cmp.Or(strings.Join(held, "+"), "none"), func(in *Input) { in.Actor.Roles = held }})
	}
	roles.changes = append(roles.changes, change{"other", func(in *Input) { in.Actor.Roles = []string{"other"} }})

	factors := dimension{name: "factors"}
	for _, ages := range [][3]int{ // of password, totp, webauthn in seconds; 0 is none
		{0, 0, 0}, {60, 0, 0}, {0, 60, 0}, {0, 0, 60}, {60, 60, 0}, {3600, 60, 0}, {3600, 300, 0}, {3600, 301, 0},
		{60, 3600, 0}, {60, -1, 0}, {60, 0, 60}, {3600, 3600, 60}, {3600, 3600, 301}, {3600, 3600, -1}, {0, 3600, 60},
	} {
		var given []Factor
		var words []string
		for i, method := range lists["actor.factors.method"] {
			if ages[i] != 0 {
				given = append(given, Factor{method, ages[i], ""})
				words = append(words, fmt.Sprintf("%s %d s", method, ages[i]))
			}
		}
		factors.changes = append(factors.changes, change{cmp.Or(strings.Join(words, ", "), "none"), func(in *Input) { in.Actor.Factors = givenFor(given, string(in.Purpose)) }})
	}
	for _, other := range []string{"", string(ScanForCanaries)} {
		factors.changes = append(factors.changes, change{cmp.Or(other, "nothing but signing in") + ": password 60 s, totp 60 s", func(in *Input) {
			in.Actor.Factors = givenFor([]Factor{{"password", 60, ""}, {"totp", 60, ""}}, other)
		}})
	}

	recent := dimension{name: "within the hour"}
	for _, n := range []int{0, 9, 10, 499, 500, 999, 1000, 1999, 2000, 9999, 10000, 99999, 100000, 999999, 1000000} {
		recent.changes = append(recent.changes, change{fmt.Sprint(n), func(in *Input) { in.Actor.Recent = n }})
	}

	limits := dimension{name: "limits"}
	for _, n := range []int{0, 1, 10, 2000, 1000000000} {
		limits.changes = append(limits.changes, change{fmt.Sprintf("%d for every kind", n), func(in *Input) {
			in.Organisation.Limits = Limits{n, n, n, n, n, n}
		}})
	}
	for i, kind := range []string{"visitor", "agent", "channel", "admin", "job", "operator"} { // a client is shown nobody
		limits.changes = append(limits.changes, change{"3000 for " + kind, func(in *Input) {
			l := &in.Organisation.Limits
			*[]*int{&l.Visitor, &l.Agent, &l.Channel, &l.Admin, &l.Job, &l.Operator}[i] = 3000
		}})
	}

	kept := dimension{name: "retention"}
	for _, class := range append(lists["retention.class"], "other") {
		for _, days := range []int{0, 1, 29, 30, 89, 90, 400, 3650, 3651, 36500} {
			kept.changes = append(kept.changes, change{fmt.Sprintf("%s %d", cmp.Or(class, "none"), days), func(in *Input) { in.Retention = Retention{class, days} }})
		}
	}

	return []dimension{
		fields,
		set("actor", lists["actor.kind"], func(in *Input) *string { return &in.Actor.Kind }),
		set("audience", lists["audience"], func(in *Input) *string { return &in.Audience }),
		set("subject", lists["subject.kind"], func(in *Input) *string { return &in.Subject.Kind }),
		set("state", lists["conversation.state"], func(in *Input) *string { return &in.Conversation.State }),
		set("actor is", lists["conversation.actor_is"], func(in *Input) *string { return &in.Conversation.ActorIs }),
		set("subject is", lists["conversation.subject_is"], func(in *Input) *string { return &in.Conversation.SubjectIs }),
		set("address", lists["actor.address"], func(in *Input) *string { return &in.Actor.Address }),
		{"organisation", []change{
			{"same", func(*Input) {}},
			{"the actor in another", func(in *Input) { in.Actor.Organisation = "o2" }},
			{"the subject in another", func(in *Input) { in.Subject.Organisation = "o2" }},
			{"of neither", func(in *Input) { in.Actor.Organisation, in.Subject.Organisation = "", "" }},
			{"a pattern", func(in *Input) { in.Actor.Organisation = "*" }},
		}},
		{"subject ref", []change{
			{"as it is", func(*Input) {}},
			{"another", func(in *Input) { in.Subject.Ref = "other" }},
			{"the actor has none", func(in *Input) { in.Actor.Ref = "" }},
			{"neither has one", func(in *Input) { in.Actor.Ref, in.Subject.Ref = "", "" }},
		}},
		settings,
		roles,
		factors,
		set("job", lists["actor.job"], func(in *Input) *string { return &in.Actor.Job }),
		{"justification", []change{
			{"none", func(in *Input) { in.Justification = false }},
			{"given", func(in *Input) { in.Justification = true }},
		}},
		{"approval", []change{
			{"as it is", func(*Input) {}},
			{"none", func(in *Input) { in.Approval = Approval{} }},
			{"by the actor himself", func(in *Input) { in.Approval.By = in.Actor.Ref }},
			{"for the actor himself", func(in *Input) { in.Approval.Actor = in.Actor.Ref }},
			{"for somebody else", func(in *Input) { in.Approval.Actor = "other" }},
			{"about somebody else", func(in *Input) { in.Approval.Subject = "other" }},
			{"ended", func(in *Input) { in.Approval.ExpiresInSeconds = 0 }},
			{"for a year", func(in *Input) { in.Approval.ExpiresInSeconds = 365 * 86400 }},
		}},
		{"restricted", []change{
			{"no", func(in *Input) { in.Subject.Restricted = false }},
			{"yes", func(in *Input) { in.Subject.Restricted = true }},
		}},
		{"request", []change{
			{"as it is", func(*Input) {}},
			{"none", func(in *Input) { in.Request = "" }},
			{"about somebody else", func(in *Input) { in.Request = "other" }},
		}},
		recent,
		limits,
		kept,
	}
}

// givenFor says that all but the password were given for a purpose.
func givenFor(factors []Factor, purpose string) []Factor {
	factors = slices.Clone(factors)
	for i := range factors {
		if factors[i].Method != "password" {
			factors[i].For = purpose
		}
	}
	return factors
}

// together lists the pairs of dimensions that are also varied with each other,
// because rules combine them.
func together() [][2]string {
	return [][2]string{
		{"actor", "audience"},
		{"state", "actor is"},
		{"field", "settings"},
		{"subject ref", "settings"},
		{"roles", "factors"},
		{"roles", "address"},
		{"roles", "approval"},
		{"actor", "job"},
		{"field", "restricted"},
		{"subject ref", "restricted"},
		{"limits", "within the hour"},
	}
}

// section writes the lines of one base: each dimension by itself, then the
// pairs.
func section(w io.Writer, e *Engine, base base) error {
	first, err := e.Decide(context.Background(), base.in)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n  %s\n", base.name)
	line(w, "as it is", first)
	single := map[string]map[string]Decision{}
	all := map[string]dimension{}
	for _, d := range dimensions() {
		order, groups, answers, err := grouped(e, base.in, d)
		if err != nil {
			return err
		}
		all[d.name], single[d.name] = d, answers
		if len(order) == 1 && say(groups[order[0]][0].decision) == say(first) {
			fmt.Fprintf(w, "    .       %s\n", d.name)
			continue
		}
		for _, key := range order {
			line(w, d.name+": "+names(groups[key]), groups[key][0].decision)
		}
	}
	for _, pair := range together() {
		a, b := all[pair[0]], all[pair[1]]
		for _, fixed := range a.changes {
			in := base.in.clone()
			fixed.apply(&in)
			order, groups, _, err := grouped(e, in, b)
			if err != nil {
				return err
			}
			for _, key := range order {
				news := slices.DeleteFunc(groups[key], func(g answered) bool {
					return expected(first, single[a.name][fixed.value], single[b.name][g.value], g.decision)
				})
				if len(news) > 0 {
					line(w, a.name+": "+fixed.value+", "+b.name+": "+names(news), news[0].decision)
				}
			}
		}
	}
	return nil
}

// expected reports whether two changes at once come to what each of them says
// by itself: both sets of reasons, or, where one changes nothing, the other.
func expected(first, a, b, both Decision) bool {
	if say(a) == say(first) {
		return say(both) == say(b)
	}
	if say(b) == say(first) {
		return say(both) == say(a)
	}
	union := slices.Compact(slices.Sorted(slices.Values(append(a.Reasons(), b.Reasons()...))))
	return !both.Allowed() && slices.Equal(union, both.Reasons())
}

// answered is a value of a dimension with its decision.
type answered struct {
	value    string
	decision Decision
}

// grouped asks for every value of d and groups the values by what the decision
// says, in the order in which that is first said.
func grouped(e *Engine, in Input, d dimension) (order []string, groups map[string][]answered, answers map[string]Decision, err error) {
	groups, answers = map[string][]answered{}, map[string]Decision{}
	for _, c := range d.changes {
		changed := in.clone()
		c.apply(&changed)
		decision, err := e.Decide(context.Background(), changed)
		if err != nil {
			return nil, nil, nil, err
		}
		answers[c.value] = decision
		key := say(decision)
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], answered{c.value, decision})
	}
	return order, groups, answers, nil
}

func names(group []answered) string {
	all := make([]string, len(group))
	for i, g := range group {
		all[i] = g.value
	}
	return strings.Join(all, " | ")
}

func line(w io.Writer, what string, d Decision) {
	fmt.Fprintf(w, "    %-6s  %s => %s\n", d.Outcome(), what, say(d))
}

// say is the decision in words, without its outcome.
func say(d Decision) string {
	if !d.Allowed() {
		return strings.Join(d.Reasons(), ", ")
	}
	s := d.Rule()
	if masked := d.Masked(); len(masked) > 0 {
		s += "; masks " + strings.Join(masked, ", ")
	}
	if obligations := d.Obligations(); len(obligations) > 0 {
		s += "; obliges to " + strings.Join(obligations, ", ")
	}
	return s
}
