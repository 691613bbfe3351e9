package policy

import (
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds on a question: far beyond any honest one, so that nothing a stranger
// sends can make a decision slow or a record large.
const (
	maxList = 32
	maxText = 256
)

// bounded refuses a question too large to be put. The error says which member
// and not what it holds.
func (in *Input) bounded() error {
	if len(in.Fields) > maxList || len(in.Actor.Roles) > maxList || len(in.Actor.Factors) > maxList {
		return fmt.Errorf("fields, roles or factors: more than %d", maxList)
	}
	if in.Actor.Recent < 0 {
		return errors.New("actor.recent: below zero")
	}
	if l := in.Organisation.Limits; min(l.Visitor, l.Agent, l.Channel, l.Admin, l.Operator, l.Job) < 0 {
		return errors.New("organisation.limits: below zero")
	}
	if in.Retention.Days < 0 {
		return errors.New("retention.days: below zero")
	}
	for i := 1; i < len(in.Fields); i++ {
		if in.Fields[i-1] >= in.Fields[i] {
			return errors.New("fields: not sorted, or one twice")
		}
	}
	long := false
	for _, s := range []string{
		in.Actor.Kind, in.Actor.Organisation, in.Actor.Ref, in.Actor.Address, in.Actor.Job,
		string(in.Purpose), in.Audience,
		in.Subject.Kind, in.Subject.Organisation, in.Subject.Ref,
		in.Conversation.Ref, in.Conversation.State, in.Conversation.ActorIs, in.Conversation.SubjectIs,
		in.Approval.By, in.Approval.Actor, in.Approval.Subject, in.Request, in.Retention.Class,
	} {
		long = long || len(s) > maxText
	}
	for _, s := range in.Fields {
		long = long || len(s) > maxText
	}
	for _, s := range in.Actor.Roles {
		long = long || len(s) > maxText
	}
	for _, f := range in.Actor.Factors {
		long = long || len(f.Method) > maxText || len(f.For) > maxText
	}
	if long {
		return fmt.Errorf("a value longer than %d bytes", maxText)
	}
	return nil
}

// shorten cuts what goes into an error.
func shorten(s string) string { return s[:min(len(s), 32)] }

// The terms that every question and answer share. Terms are never changed
// once made, so that evaluations may share them.
var (
	keyAllow       = ast.StringTerm("allow")
	keyRule        = ast.StringTerm("rule")
	keyMasked      = ast.StringTerm("masked")
	keyObligations = ast.StringTerm("obligations")
	keyReasons     = ast.StringTerm("reasons")

	keyActor             = ast.StringTerm("actor")
	keyPurpose           = ast.StringTerm("purpose")
	keyAudience          = ast.StringTerm("audience")
	keySubject           = ast.StringTerm("subject")
	keyFields            = ast.StringTerm("fields")
	keyConversation      = ast.StringTerm("conversation")
	keyOrganisation      = ast.StringTerm("organisation")
	keyKind              = ast.StringTerm("kind")
	keyRef               = ast.StringTerm("ref")
	keyRoles             = ast.StringTerm("roles")
	keyFactors           = ast.StringTerm("factors")
	keyAddress           = ast.StringTerm("address")
	keyJob               = ast.StringTerm("job")
	keyRecent            = ast.StringTerm("recent")
	keyJustification     = ast.StringTerm("justification")
	keyApproval          = ast.StringTerm("approval")
	keyBy                = ast.StringTerm("by")
	keyExpiresInSeconds  = ast.StringTerm("expires_in_seconds")
	keyMethod            = ast.StringTerm("method")
	keyAgeSeconds        = ast.StringTerm("age_seconds")
	keyFor               = ast.StringTerm("for")
	keyState             = ast.StringTerm("state")
	keyActorIs           = ast.StringTerm("actor_is")
	keySubjectIs         = ast.StringTerm("subject_is")
	keyShareVisitorEmail = ast.StringTerm("share_visitor_email")
	keyCreateAgents      = ast.StringTerm("create_agents")
	keyNameInChannel     = ast.StringTerm("name_in_channel")
	keyLimits            = ast.StringTerm("limits")
	keyRestricted        = ast.StringTerm("restricted")
	keyRequest           = ast.StringTerm("request")
	keyRetention         = ast.StringTerm("retention")
	keyClass             = ast.StringTerm("class")
	keyDays              = ast.StringTerm("days")

	// shared holds a term for every value of a closed list.
	shared = func() map[string]*ast.Term {
		terms := map[string]*ast.Term{}
		for _, values := range closed() {
			for _, value := range values {
				terms[value] = ast.StringTerm(value)
			}
		}
		for _, purpose := range Purposes() {
			terms[string(purpose)] = ast.StringTerm(string(purpose))
		}
		return terms
	}()
)

// settings holds a term for every combination of an organisation's settings
// without limits of its own, by usual.
var settings = func() (terms [8]*ast.Term) {
	both := []bool{false, true}
	for _, share := range both {
		for _, create := range both {
			for _, name := range both {
				o := Organisation{ShareVisitorEmail: share, CreateAgents: create, NameInChannel: name}
				terms[o.usual()] = o.term()
			}
		}
	}
	return terms
}()

// usual is the place in settings of an organisation without limits of its own.
func (o *Organisation) usual() (at int) {
	if o.ShareVisitorEmail {
		at |= 1
	}
	if o.CreateAgents {
		at |= 2
	}
	if o.NameInChannel {
		at |= 4
	}
	return at
}

func (o Organisation) term() *ast.Term {
	l := o.Limits
	return ast.ObjectTerm(
		ast.Item(keyShareVisitorEmail, ast.InternedTerm(o.ShareVisitorEmail)),
		ast.Item(keyCreateAgents, ast.InternedTerm(o.CreateAgents)),
		ast.Item(keyNameInChannel, ast.InternedTerm(o.NameInChannel)),
		ast.Item(keyLimits, ast.ObjectTerm(
			ast.Item(word("visitor"), ast.InternedTerm(l.Visitor)),
			ast.Item(word("agent"), ast.InternedTerm(l.Agent)),
			ast.Item(word("channel"), ast.InternedTerm(l.Channel)),
			ast.Item(word("admin"), ast.InternedTerm(l.Admin)),
			ast.Item(word("operator"), ast.InternedTerm(l.Operator)),
			ast.Item(word("job"), ast.InternedTerm(l.Job)),
		)),
	)
}

// noApproval is the term of the zero Approval, which nearly every question has.
var noApproval = Approval{}.term()

func (a Approval) term() *ast.Term {
	return ast.ObjectTerm(
		ast.Item(keyBy, word(a.By)),
		ast.Item(keyActor, word(a.Actor)),
		ast.Item(keySubject, word(a.Subject)),
		ast.Item(keyExpiresInSeconds, ast.InternedTerm(a.ExpiresInSeconds)),
	)
}

// noRetention is the term of the zero Retention, which all questions but those about it have.
var noRetention = Retention{}.term()

func (r Retention) term() *ast.Term {
	return ast.ObjectTerm(ast.Item(keyClass, word(r.Class)), ast.Item(keyDays, ast.InternedTerm(r.Days)))
}

// noConversation is the term of the zero Conversation, which every question of the console has.
var noConversation = Conversation{}.term()

func (c Conversation) term() *ast.Term {
	return ast.ObjectTerm(
		ast.Item(keyRef, word(c.Ref)),
		ast.Item(keyState, word(c.State)),
		ast.Item(keyActorIs, word(c.ActorIs)),
		ast.Item(keySubjectIs, word(c.SubjectIs)),
	)
}

// words returns the array of the given strings.
func words(all []string) *ast.Term {
	terms := make([]*ast.Term, len(all))
	for i, s := range all {
		terms[i] = word(s)
	}
	return array(terms)
}

// array returns the array of the given terms.
func array(terms []*ast.Term) *ast.Term {
	if len(terms) == 0 {
		return ast.InternedEmptyArray
	}
	return ast.ArrayTerm(terms...)
}

// word returns the term of a value that mostly comes from a closed list.
func word(s string) *ast.Term {
	if term, ok := shared[s]; ok {
		return term
	}
	return ast.StringTerm(s)
}

// value is the question as OPA sees it. It equals what the JSON of in would
// parse to, without the detour (a test holds that).
func (in *Input) value() ast.Value {
	factors := make([]*ast.Term, len(in.Actor.Factors))
	for i, factor := range in.Actor.Factors {
		factors[i] = ast.ObjectTerm(
			ast.Item(keyMethod, word(factor.Method)),
			ast.Item(keyAgeSeconds, ast.InternedTerm(factor.AgeSeconds)),
			ast.Item(keyFor, word(factor.For)),
		)
	}
	approval := noApproval
	if in.Approval != (Approval{}) {
		approval = in.Approval.term()
	}
	retention := noRetention
	if in.Retention != (Retention{}) {
		retention = in.Retention.term()
	}
	conversation := noConversation
	if in.Conversation != (Conversation{}) {
		conversation = in.Conversation.term()
	}
	organisation := settings[in.Organisation.usual()]
	if in.Organisation.Limits != (Limits{}) {
		organisation = in.Organisation.term()
	}
	return ast.NewObject(
		ast.Item(keyActor, ast.ObjectTerm(
			ast.Item(keyKind, word(in.Actor.Kind)),
			ast.Item(keyOrganisation, word(in.Actor.Organisation)),
			ast.Item(keyRef, word(in.Actor.Ref)),
			ast.Item(keyRoles, words(in.Actor.Roles)),
			ast.Item(keyFactors, array(factors)),
			ast.Item(keyAddress, word(in.Actor.Address)),
			ast.Item(keyJob, word(in.Actor.Job)),
			ast.Item(keyRecent, ast.InternedTerm(in.Actor.Recent)),
		)),
		ast.Item(keyPurpose, word(string(in.Purpose))),
		ast.Item(keyAudience, word(in.Audience)),
		ast.Item(keySubject, ast.ObjectTerm(
			ast.Item(keyKind, word(in.Subject.Kind)),
			ast.Item(keyOrganisation, word(in.Subject.Organisation)),
			ast.Item(keyRef, word(in.Subject.Ref)),
			ast.Item(keyRestricted, ast.InternedTerm(in.Subject.Restricted)),
		)),
		ast.Item(keyFields, words(in.Fields)),
		ast.Item(keyConversation, conversation),
		ast.Item(keyOrganisation, organisation),
		ast.Item(keyJustification, ast.InternedTerm(in.Justification)),
		ast.Item(keyApproval, approval),
		ast.Item(keyRequest, word(in.Request)),
		ast.Item(keyRetention, retention),
	)
}
