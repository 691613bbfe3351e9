package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
)

const (
	euii    = "counterfoil/internal/access/euii"
	archive = "counterfoil/internal/archive"
	grant   = "counterfoil/internal/access/internal/grant"
	access  = "counterfoil/internal/access"
	keyring = "counterfoil/internal/access/keyring"
	widget  = "counterfoil/internal/widget"
	bot     = "counterfoil/internal/bot"
	console = "counterfoil/internal/console"
)

// A place is a function that only some packages may use, and the reason, which completes "... may be used only in ...:".
type place struct {
	packages []string
	why      string
}

// places holds the functions through which EUII becomes readable, by package path and name.
func places() map[string]place {
	return map[string]place{
		euii + ".Reveal":      {[]string{archive, bot, console, widget}, "plain text leaves the program at its edges and nowhere else"},
		euii + ".Clear":       {[]string{access}, "a value is cleared only after policy and the committed record"},
		euii + ".ForSealing":  {[]string{keyring}, "what comes in is read only to be sealed or indexed"},
		grant + ".Issue":      {[]string{access}, "a grant is issued only after the committed record"},
		grant + ".ForSealing": {[]string{keyring}, "what comes in is read only to be sealed or indexed"},
	}
}

// sinks are the packages that write what they are given into logs, errors and spans, and the methods of their types
// likewise. A path ending in a slash stands for everything below it.
func sinks() []string {
	return []string{"errors", "expvar", "fmt", "log", "log/slog", "testing", "go.opentelemetry.io/otel/"}
}

var analyzer = &analysis.Analyzer{
	Name:     "euii",
	Doc:      "keep the functions that make EUII readable where they belong, and what they give out of logs, errors and spans",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      run,
}

func run(pass *analysis.Pass) (any, error) {
	// The package itself holds the functions; tests have to look at what was revealed.
	here, _, _ := strings.Cut(pass.Pkg.Path(), " ")
	if here == euii || here == grant {
		return nil, nil
	}
	c := &checker{pass: pass, here: here, places: places(), revealed: make(map[types.Object]bool)}
	all := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	c.followVariables(all)
	for n := range all.PreorderSeq((*ast.Ident)(nil), (*ast.CallExpr)(nil)) {
		if strings.HasSuffix(pass.Fset.File(n.Pos()).Name(), "_test.go") {
			continue
		}
		switch n := n.(type) {
		case *ast.Ident:
			c.checkPlace(n)
		case *ast.CallExpr:
			c.checkSink(n)
		}
	}
	return nil, nil
}

type checker struct {
	pass     *analysis.Pass
	here     string
	places   map[string]place
	revealed map[types.Object]bool // variables that were assigned revealed text
}

// checkPlace reports any mention of a function outside its packages: calling it, and also passing it on.
func (c *checker) checkPlace(id *ast.Ident) {
	name := fullName(c.pass.TypesInfo.Uses[id])
	p, ok := c.places[name]
	if !ok || slices.Contains(p.packages, c.here) {
		return
	}
	short := name[strings.LastIndexByte(name, '/')+1:]
	c.pass.Reportf(id.Pos(), "%s may be used only in %s: %s", short, strings.Join(p.packages, " and "), p.why)
}

// checkSink reports revealed text among the arguments of a call that writes them down.
func (c *checker) checkSink(call *ast.CallExpr) {
	sink := c.sink(call)
	if sink == "" {
		return
	}
	for _, arg := range call.Args {
		if c.holdsRevealed(arg) {
			c.pass.Reportf(arg.Pos(), "revealed text is given to %s: it must not reach logs, errors or spans", sink)
		}
	}
}

// sink is the name of the called function if it writes its arguments down, else empty.
func (c *checker) sink(call *ast.CallExpr) string {
	var callee types.Object
	switch f := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		callee = c.pass.TypesInfo.Uses[f]
	case *ast.SelectorExpr:
		callee = c.pass.TypesInfo.Uses[f.Sel]
	}
	if b, ok := callee.(*types.Builtin); ok && slices.Contains([]string{"panic", "print", "println"}, b.Name()) {
		return b.Name()
	}
	f, ok := callee.(*types.Func)
	if !ok || f.Pkg() == nil {
		return ""
	}
	for _, s := range sinks() {
		if f.Pkg().Path() == s || strings.HasPrefix(f.Pkg().Path()+"/", s) && strings.HasSuffix(s, "/") {
			return f.Pkg().Path() + "." + f.Name()
		}
	}
	return ""
}

// followVariables finds the variables that hold revealed text: those assigned an expression with it, until no more turn
// up. It does not follow text through fields, functions or channels; review does.
func (c *checker) followVariables(all *inspector.Inspector) {
	for before := -1; before != len(c.revealed); {
		before = len(c.revealed)
		for n := range all.PreorderSeq((*ast.AssignStmt)(nil), (*ast.ValueSpec)(nil)) {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					if id, ok := left.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) {
						c.assign(id, n.Rhs[i])
					}
				}
			case *ast.ValueSpec:
				for i, id := range n.Names {
					if len(n.Names) == len(n.Values) {
						c.assign(id, n.Values[i])
					}
				}
			}
		}
	}
}

func (c *checker) assign(id *ast.Ident, from ast.Expr) {
	to := c.pass.TypesInfo.ObjectOf(id)
	if to != nil && isText(to.Type()) && c.holdsRevealed(from) {
		c.revealed[to] = true
	}
}

// holdsRevealed reports whether the text of e has revealed text in it. It looks into calls that give text or that are
// sinks themselves (slog.String within slog.Info); any other call keeps what it was given to itself.
func (c *checker) holdsRevealed(e ast.Expr) bool {
	found := false
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.Ident:
			object := c.pass.TypesInfo.Uses[n]
			found = found || c.revealed[object] || fullName(object) == euii+".Reveal"
		case *ast.BinaryExpr:
			return n.Op == token.ADD // a comparison says little and gives no text
		case *ast.CallExpr:
			t := c.pass.TypesInfo.TypeOf(n)
			return !found && (t != nil && isText(t) || c.sink(n) != "")
		}
		return !found
	})
	return found
}

// isText reports whether a value of type t can hold text as such.
func isText(t types.Type) bool {
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Info()&types.IsString != 0
	case *types.Slice:
		b, ok := u.Elem().Underlying().(*types.Basic)
		return ok && (b.Kind() == types.Byte || b.Kind() == types.Rune || b.Info()&types.IsString != 0)
	}
	return false
}

// fullName is the path and name of a package's function, else empty.
func fullName(object types.Object) string {
	f, ok := object.(*types.Func)
	if !ok || f.Pkg() == nil || f.Signature().Recv() != nil {
		return ""
	}
	return f.Pkg().Path() + "." + f.Name()
}
