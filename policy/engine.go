// Package policy answers one typed question with one unforgeable answer: may
// this actor, for this purpose, be given these fields of this subject?
//
// The answer is worked out by Rego files that are part of the program (or of a
// bundle that is checked as strictly), default deny. An Engine never allows
// when anything goes wrong: an error, a timeout, no result or an odd one all
// come back as a Decision that denies, together with the error.
package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// limit is how long one decision may take, unless its context ends before. It is
// far beyond what one needs even on a starved machine,
// and only stops a bundle that would never end.
const limit = 2 * time.Second

// errOdd marks a result that is not a decision.
var errOdd = errors.New("odd result")

// ReasonPolicyError is the reason of a denial that comes from an error and not
// from a rule.
const ReasonPolicyError = "policy_error"

// Engine decides. It is safe for concurrent use. The nil Engine denies.
type Engine struct {
	program atomic.Pointer[program] // never nil
	shadow  atomic.Pointer[Shadow]  // nil while no candidate is tried
	limit   time.Duration
}

// program is one compiled bundle. It never changes.
type program struct {
	revision string
	files    []sourceFile // tests included
	compiler *ast.Compiler
	query    ast.Body
	queries  ast.QueryCompiler
	store    storage.Store // empty: policy reads its input and nothing else
}

// New returns an engine over the bundle compiled into the program. It is compiled once in a process; its tests were, by
// make check, when the program was built.
func New(ctx context.Context) (*Engine, error) {
	p, err := builtIn()
	if err != nil {
		return nil, err
	}
	return engine(ctx, p)
}

var builtIn = sync.OnceValues(func() (*program, error) {
	files, err := readBundle(Bundle())
	if err != nil {
		return nil, err
	}
	modules, err := parse(files, false)
	if err != nil {
		return nil, err
	}
	return newProgram(files, modules)
})

// Load returns an engine over the Rego files of fsys. Every file, tests
// included, must pass Check; the error names file, line and reason.
func Load(ctx context.Context, fsys fs.FS) (*Engine, error) {
	files, err := readBundle(fsys)
	if err != nil {
		return nil, err
	}
	modules, err := parse(files, true)
	if err != nil {
		return nil, err
	}
	if _, err := compile(modules); err != nil {
		return nil, err
	}
	for _, file := range files {
		if file.isTest() {
			delete(modules, file.path)
		}
	}
	p, err := newProgram(files, modules)
	if err != nil {
		return nil, err
	}
	return engine(ctx, p)
}

// newProgram compiles the modules of those files that decide.
func newProgram(files []sourceFile, modules map[string]*ast.Module) (*program, error) {
	compiler, err := compile(modules)
	if err != nil {
		return nil, err
	}
	queries := compiler.QueryCompiler()
	query, err := queries.Compile(ast.MustParseBody(entryPoint + " = decision"))
	if err != nil {
		return nil, fmt.Errorf("compile policy query: %w", err)
	}
	return &program{
		revision: revision(files),
		files:    files,
		compiler: compiler,
		query:    query,
		queries:  queries,
		store:    inmem.New(),
	}, nil
}

func engine(ctx context.Context, p *program) (*Engine, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	e := &Engine{limit: limit}
	e.program.Store(p)
	return e, nil
}

// Adopt makes e decide by the bundle of another engine from now on. Decisions under way end by the one they began with.
func (e *Engine) Adopt(other *Engine) { e.program.Store(other.program.Load()) }

// Revision names the bundle: a digest of the files that decide.
func (e *Engine) Revision() string {
	if e == nil {
		return ""
	}
	return e.program.Load().revision
}

// Decide answers the question. The Decision denies whenever the error is not
// nil; an ordinary denial is no error.
func (e *Engine) Decide(ctx context.Context, in Input) (Decision, error) {
	d, err := e.decide(ctx, in)
	if err == nil {
		e.shadow.Load().offer(d)
	}
	return d, err
}

func (e *Engine) decide(ctx context.Context, in Input) (Decision, error) {
	denied := Decision{
		outcome: Deny,
		rule:    defaultDeny,
		reasons: []string{ReasonPolicyError},
		input:   in.clone(),
	}
	if e == nil {
		return denied, errors.New("decide: no engine")
	}
	p := e.program.Load()
	denied.revision = p.revision
	if err := in.bounded(); err != nil {
		return denied, fmt.Errorf("decide %q: %w", shorten(string(in.Purpose)), err)
	}
	result, err := p.eval(ctx, in.value(), e.limit)
	if err != nil {
		return denied, fmt.Errorf("decide %s: %w", in.Purpose, err)
	}
	decided := denied
	if err := decided.read(result); err != nil {
		return denied, fmt.Errorf("decide %s: %w", in.Purpose, err)
	}
	return decided, nil
}

// eval asks the entry point and returns its one result.
func (p *program) eval(ctx context.Context, input ast.Value, limit time.Duration) (ast.Value, error) {
	bound := &bound{ctx: ctx, until: time.Now().Add(limit)}
	if err := bound.err(); err != nil {
		return nil, err
	}
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer p.store.Abort(ctx, txn)

	var result ast.Value
	count := 0
	err = topdown.NewQuery(p.query).
		WithQueryCompiler(p.queries).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(txn).
		WithInput(ast.NewTerm(input)).
		WithCancel(bound).
		WithMetrics(metrics.NoOp()).
		WithStrictBuiltinErrors(true).
		Iter(ctx, func(found topdown.QueryResult) error {
			count++
			if term := found[resultVar]; term != nil {
				result = term.Value
			}
			return nil
		})
	// The bound comes first: an evaluation that was cut short must not count,
	// whatever it says.
	if err := errors.Join(bound.err(), err); err != nil {
		return nil, err
	}
	if count != 1 || result == nil {
		return nil, fmt.Errorf("%w: %d answers", errOdd, count)
	}
	return result, nil
}

// resultVar is the variable of the query that the decision is bound to.
const resultVar = ast.Var("decision")

// bound stops an evaluation when its context ends or its time is over.
// Evaluation asks it at every step, so it looks at the clock and the context
// only now and then; that costs less than a goroutine and a timer each time.
type bound struct {
	ctx   context.Context
	until time.Time
	steps uint8
	over  bool
}

// Cancel implements topdown.Cancel.
func (b *bound) Cancel() { b.over = true }

// Cancelled implements topdown.Cancel.
func (b *bound) Cancelled() bool {
	b.steps++
	if b.steps == 0 && b.err() != nil {
		b.over = true
	}
	return b.over
}

func (b *bound) err() error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	if time.Now().After(b.until) {
		return context.DeadlineExceeded
	}
	return nil
}

// read takes over the engine's answer, or leaves an error and a Decision not
// to be used. A release has exactly the members allow, rule, masked and
// obligations; a denial has exactly allow and reasons.
func (d *Decision) read(result ast.Value) error {
	object, ok := result.(ast.Object)
	if !ok {
		return fmt.Errorf("%w: not an object", errOdd)
	}
	allow, ok := truth(object, keyAllow)
	if !ok {
		return fmt.Errorf("%w: neither a release nor a denial", errOdd)
	}
	if !allow {
		reasons, ok := texts(object, keyReasons)
		if !ok || len(reasons) == 0 || object.Len() != 2 {
			return fmt.Errorf("%w: a denial with wrong members", errOdd)
		}
		d.reasons = reasons
		return nil
	}
	rule, ok1 := text(object, keyRule)
	masked, ok2 := texts(object, keyMasked)
	obligations, ok3 := texts(object, keyObligations)
	if !ok1 || !ok2 || !ok3 || rule == "" || object.Len() != 4 {
		return fmt.Errorf("%w: a release with wrong members", errOdd)
	}
	for _, field := range masked {
		if !slices.Contains(d.input.Fields, field) {
			return fmt.Errorf("%w: masks a field nobody asked for", errOdd)
		}
	}
	d.outcome = Allow
	if len(masked) > 0 {
		d.outcome = Masked
	}
	d.rule, d.masked, d.obligations, d.reasons = rule, masked, obligations, nil
	return nil
}

// truth returns the boolean under key.
func truth(object ast.Object, key *ast.Term) (value, ok bool) {
	term := object.Get(key)
	if term == nil {
		return false, false
	}
	b, ok := term.Value.(ast.Boolean)
	return bool(b), ok
}

// text returns the string under key.
func text(object ast.Object, key *ast.Term) (string, bool) {
	term := object.Get(key)
	if term == nil {
		return "", false
	}
	s, ok := term.Value.(ast.String)
	return string(s), ok
}

// texts returns the set of strings under key, sorted; nil when it is empty.
func texts(object ast.Object, key *ast.Term) ([]string, bool) {
	term := object.Get(key)
	if term == nil {
		return nil, false
	}
	set, ok := term.Value.(ast.Set)
	if !ok || set.Len() == 0 {
		return nil, ok
	}
	all := make([]string, 0, set.Len())
	for _, member := range set.Slice() {
		s, ok := member.Value.(ast.String)
		if !ok {
			return nil, false
		}
		all = append(all, string(s))
	}
	slices.Sort(all)
	return all, true
}
