package access

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"counterfoil/audit"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// input puts the question to the policy. recent is how much was disclosed to the actor within the last hour.
func (q question) input(refs references, recent int) policy.Input {
	fields := make([]string, len(q.fields))
	for i, f := range q.fields {
		fields[i] = f.String()
	}
	slices.Sort(fields)
	c := q.scene.Conversation
	actorIs := c.Part(q.who.ID())
	if q.who.Kind() == "channel" && q.who.Organisation() == c.Organisation {
		actorIs = "channel"
	}
	job := ""
	if q.who.Kind() == "job" {
		job = q.who.Name()
	}
	subjectIs := ""
	if q.subjectKind != "conversation" {
		subjectIs = c.Part(q.subject)
	}
	return policy.Input{
		Actor: policy.Actor{
			Kind: q.who.Kind(), Organisation: q.who.Organisation().String(), Ref: refs.actor, Address: noAddress, Job: job, Recent: recent,
		},
		Purpose:  q.purpose,
		Audience: q.audience,
		Subject:  policy.Subject{Kind: q.subjectKind, Organisation: c.Organisation.String(), Ref: refs.subject},
		Fields:   fields,
		Conversation: policy.Conversation{
			Ref: refs.conversation, State: string(c.State), ActorIs: actorIs, SubjectIs: subjectIs,
		},
		Organisation: policy.Organisation{
			ShareVisitorEmail: q.scene.Settings.ShareVisitorEmail,
			CreateAgents:      q.scene.Settings.CreateAgents,
			NameInChannel:     q.scene.Settings.NameInChannel,
			Limits:            policy.Limits(q.scene.Settings.Limits),
		},
		Retention: q.retention,
	}
}

// prove adds what an administrator proved of himself. Nobody is one, and no program is let in, whose address was not admitted.
func prove(a *policy.Actor, who principal.Principal, now time.Time) {
	if _, ok := who.(principal.Client); ok {
		a.Address = "admitted"
		return
	}
	admin, ok := who.(principal.Admin)
	if !ok {
		return
	}
	age := max(0, int(now.Sub(admin.ProvedAt()).Seconds()))
	a.Roles, a.Address = admin.Roles(), "admitted"
	a.Factors = []policy.Factor{{Method: "password", AgeSeconds: age}, {Method: "totp", AgeSeconds: age}}
	if f := admin.Fresh(); f.Purpose() != "" {
		a.Factors = append(a.Factors, policy.Factor{Method: f.Method(), AgeSeconds: max(0, int(now.Sub(f.At()).Seconds())), For: f.Purpose()})
	}
}

// noAddress is the address of an actor for whom no list of addresses is kept.
const noAddress = "none"

// EntryOf writes down a question that is asked of the policy by itself, and its decision, as a record of it does. InputOf reads it.
// kind is what the record is if the question is allowed; act names an administrative act.
func EntryOf(in policy.Input, d policy.Decision, kind audit.Kind, act string, facts map[string]string) audit.Entry {
	return entryOf(in, d, question{kind: kind, action: act, facts: facts})
}

// entryOf writes down the question and its decision. The facts together with the other members give the whole
// policy input again (InputOf), so that a decision can be replayed against another revision.
func entryOf(in policy.Input, d policy.Decision, q question) audit.Entry {
	facts := maps.Clone(q.facts)
	if facts == nil {
		facts = make(map[string]string)
	}
	q.grounds.note(facts)
	if a, ok := q.who.(principal.Admin); ok {
		facts[FactSession] = Began(a.ProvedAt())
	}
	maps.Copy(facts, factsOf(in, q.action))
	maps.DeleteFunc(facts, func(_, v string) bool { return v == "" })
	e := audit.Entry{
		Kind:         q.kind,
		Action:       cmp.Or(q.action, string(in.Purpose)),
		Actor:        audit.Party{Kind: in.Actor.Kind, Ref: in.Actor.Ref},
		Audience:     in.Audience,
		Subject:      audit.Party{Kind: in.Subject.Kind, Ref: in.Subject.Ref},
		Fields:       in.Fields,
		Masked:       d.Masked(),
		Decision:     string(d.Outcome()),
		Rule:         d.Rule(),
		Reasons:      d.Reasons(),
		Policy:       d.Revision(),
		Conversation: in.Conversation.Ref,
		Request:      q.scene.Request,
		Facts:        facts,
	}
	if !d.Allowed() {
		e.Kind, e.Masked = audit.Denial, nil
	}
	return e
}

// The facts that are members of a question and have no other place in an entry. What is not there is empty.
const (
	factPurpose            = "purpose" // where the action names an administrative act
	factActorOrganisation  = "actor.organisation"
	factActorRoles         = "actor.roles"
	factActorFactors       = "actor.factors"
	factActorAddress       = "actor.address"
	factActorJob           = "actor.job"
	factActorRecent        = "actor.recent"
	factState              = "conversation.state"
	factActorIs            = "conversation.actor_is"
	factSubjectIs          = "conversation.subject_is"
	factShareVisitorEmail  = "organisation.share_visitor_email"
	factCreateAgents       = "organisation.create_agents"
	factNameInChannel      = "organisation.name_in_channel"
	factLimitVisitor       = "organisation.limits.visitor"
	factLimitAgent         = "organisation.limits.agent"
	factLimitChannel       = "organisation.limits.channel"
	factLimitAdmin         = "organisation.limits.admin"
	factLimitOperator      = "organisation.limits.operator"
	factLimitJob           = "organisation.limits.job"
	factJustification      = "justification"
	factApprovalBy         = "approval.by"
	factApprovalActor      = "approval.actor"
	factApprovalSubject    = "approval.subject"
	factApprovalExpiration = "approval.expires_in_seconds"
	factRestricted         = "subject.restricted"
	factCovers             = "request.covers"
	factRetentionClass     = "retention.class"
	factRetentionDays      = "retention.days"
)

func factsOf(in policy.Input, action string) map[string]string {
	facts := map[string]string{
		factActorRoles: strings.Join(in.Actor.Roles, ","), factActorJob: in.Actor.Job, factActorRecent: number(in.Actor.Recent),
		factState: in.Conversation.State, factActorIs: in.Conversation.ActorIs, factSubjectIs: in.Conversation.SubjectIs,
		factShareVisitorEmail: truth(in.Organisation.ShareVisitorEmail), factCreateAgents: truth(in.Organisation.CreateAgents), factNameInChannel: truth(in.Organisation.NameInChannel),
		factLimitVisitor: number(in.Organisation.Limits.Visitor), factLimitAgent: number(in.Organisation.Limits.Agent), factLimitChannel: number(in.Organisation.Limits.Channel),
		factLimitAdmin: number(in.Organisation.Limits.Admin), factLimitOperator: number(in.Organisation.Limits.Operator), factLimitJob: number(in.Organisation.Limits.Job),
		factJustification: truth(in.Justification),
		factApprovalBy:    in.Approval.By, factApprovalActor: in.Approval.Actor, factApprovalSubject: in.Approval.Subject, factApprovalExpiration: number(in.Approval.ExpiresInSeconds),
		factRestricted: truth(in.Subject.Restricted), factCovers: in.Request,
		factRetentionClass: in.Retention.Class, factRetentionDays: number(in.Retention.Days),
	}
	factors := make([]string, len(in.Actor.Factors))
	for i, f := range in.Actor.Factors {
		factors[i] = f.Method + ":" + strconv.Itoa(f.AgeSeconds)
		if f.For != "" {
			factors[i] += ":" + f.For
		}
	}
	facts[factActorFactors] = strings.Join(factors, ",")
	if in.Actor.Organisation != in.Subject.Organisation {
		facts[factActorOrganisation] = cmp.Or(in.Actor.Organisation, "-")
	}
	if in.Actor.Address != noAddress {
		facts[factActorAddress] = in.Actor.Address
	}
	if action != "" {
		facts[factPurpose] = string(in.Purpose)
	}
	return facts
}

func truth(b bool) string {
	if b {
		return "true"
	}
	return ""
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// ErrUndecided means that an entry records no decision of the policy, so that there is nothing to ask again.
var ErrUndecided = errors.New("the record holds no decision")

// InputOf gives the question that an entry records, as the policy was asked it.
func InputOf(e audit.Entry) (policy.Input, error) {
	if e.Decision == "" {
		return policy.Input{}, ErrUndecided
	}
	r := factReader{facts: e.Facts}
	in := policy.Input{
		Actor: policy.Actor{
			Kind: e.Actor.Kind, Organisation: cmp.Or(e.Facts[factActorOrganisation], e.Organisation), Ref: e.Actor.Ref,
			Address: cmp.Or(e.Facts[factActorAddress], noAddress), Job: e.Facts[factActorJob], Recent: r.number(factActorRecent),
		},
		Purpose:  policy.Purpose(cmp.Or(e.Facts[factPurpose], e.Action)),
		Audience: e.Audience,
		Subject:  policy.Subject{Kind: e.Subject.Kind, Organisation: e.Organisation, Ref: e.Subject.Ref, Restricted: r.truth(factRestricted)},
		Fields:   e.Fields,
		Conversation: policy.Conversation{
			Ref: e.Conversation, State: e.Facts[factState], ActorIs: e.Facts[factActorIs], SubjectIs: e.Facts[factSubjectIs],
		},
		Organisation: policy.Organisation{
			ShareVisitorEmail: r.truth(factShareVisitorEmail), CreateAgents: r.truth(factCreateAgents), NameInChannel: r.truth(factNameInChannel),
			Limits: policy.Limits{
				Visitor: r.number(factLimitVisitor), Agent: r.number(factLimitAgent), Channel: r.number(factLimitChannel),
				Admin: r.number(factLimitAdmin), Operator: r.number(factLimitOperator), Job: r.number(factLimitJob),
			},
		},
		Justification: r.truth(factJustification),
		Approval: policy.Approval{
			By: e.Facts[factApprovalBy], Actor: e.Facts[factApprovalActor], Subject: e.Facts[factApprovalSubject], ExpiresInSeconds: r.number(factApprovalExpiration),
		},
		Request:   e.Facts[factCovers],
		Retention: policy.Retention{Class: e.Facts[factRetentionClass], Days: r.number(factRetentionDays)},
	}
	if in.Actor.Organisation == "-" {
		in.Actor.Organisation = ""
	}
	if roles := e.Facts[factActorRoles]; roles != "" {
		in.Actor.Roles = strings.Split(roles, ",")
	}
	if factors := e.Facts[factActorFactors]; factors != "" {
		for f := range strings.SplitSeq(factors, ",") {
			method, age, _ := strings.Cut(f, ":")
			age, purpose, _ := strings.Cut(age, ":")
			seconds, err := strconv.Atoi(age)
			if err != nil {
				r.err = fmt.Errorf("fact %s is damaged", factActorFactors)
			}
			in.Actor.Factors = append(in.Actor.Factors, policy.Factor{Method: method, AgeSeconds: seconds, For: purpose})
		}
	}
	if r.err != nil {
		return policy.Input{}, fmt.Errorf("record %d: %w", e.Seq, r.err)
	}
	return in, nil
}

// factReader reads facts and keeps the last error, which names a fact and not its value.
type factReader struct {
	facts map[string]string
	err   error
}

func (r *factReader) truth(name string) bool {
	v := r.facts[name]
	if v != "" && v != "true" {
		r.err = fmt.Errorf("fact %s is damaged", name)
	}
	return v == "true"
}

func (r *factReader) number(name string) int {
	v := r.facts[name]
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		r.err = fmt.Errorf("fact %s is damaged", name)
	}
	return n
}
