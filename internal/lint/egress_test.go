package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// waysOut are the parts of packages by which something could be reached past the register of outbound destinations.
var waysOut = map[string][]string{
	"net": {"Dial", "DialTimeout", "Dialer", "DialTCP", "DialUDP", "DialIP", "DialUnix", "DefaultResolver", "Resolver", "LookupHost", "LookupIP", "LookupAddr", "LookupCNAME", "LookupMX",
		"LookupNS", "LookupSRV", "LookupTXT", "ListenPacket", "ListenUDP"},
	"net/http":                        {"DefaultClient", "DefaultTransport", "Get", "Head", "Post", "PostForm", "Transport"},
	"net/smtp":                        {"Dial", "SendMail"},
	"crypto/tls":                      {"Dial", "DialWithDialer", "Dialer"},
	"syscall":                         {"Connect", "Socket", "Sendto"},
	"github.com/jackc/pgx/v5":         {"Connect", "ConnectConfig", "ConnectWithOptions"},
	"github.com/jackc/pgx/v5/pgconn":  {"Connect", "ConnectConfig", "ConnectWithOptions"},
	"github.com/jackc/pgx/v5/pgxpool": {"New", "NewWithConfig"},
	"github.com/nats-io/nats.go":      {"Connect"},
	"github.com/minio/minio-go/v7":    {"New", "NewCore", "DefaultTransport"},
}

// mayReachOut are the packages that may use such parts, with what keeps them to the register or to this host.
var mayReachOut = map[string]string{
	"internal/egress":     "it is the register",
	"internal/pg":         "takes a way for every server that is not on this host",
	"internal/pg/cluster": "its own server, on a socket",
	"internal/bus":        "takes a way for every server that is named",
	"audit/publish":       "takes a transport",
	"internal/standin":    "plays Teams on loopback; its dialer leads nowhere else",
}

func TestNothingLeadsOutPastTheRegister(t *testing.T) {
	used := make(map[string]bool)
	for _, l := range list(t) {
		if layers()[l.name()].layer == testSupport {
			continue
		}
		for _, name := range l.GoFiles {
			path := filepath.Join(l.Dir, name)
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range reachesOut(f) {
				if _, ok := mayReachOut[l.name()]; !ok {
					t.Errorf("%s uses %s: what connects to something takes a way of internal/egress", fset.Position(found.at), found.what)
				}
				used[l.name()] = true
			}
		}
	}
	for name := range mayReachOut {
		if !used[name] {
			t.Errorf("%s does not need its line any more", name)
		}
	}
}

type use struct {
	at   token.Pos
	what string
}

// reachesOut finds what a file uses of the ways out, and HTTP clients that would use the default one.
func reachesOut(f *ast.File) (all []use) {
	names := make(map[string]string)
	for _, i := range f.Imports {
		path := strings.Trim(i.Path.Value, `"`)
		if _, watched := waysOut[path]; !watched {
			continue
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if len(name) == 2 && name[0] == 'v' { // pgx/v5
			name = filepath.Base(strings.TrimSuffix(path, "/"+name))
		}
		switch name {
		case "nats.go":
			name = "nats"
		case "minio-go":
			name = "minio"
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		if name == "." {
			all = append(all, use{i.Pos(), path + " imported without its name"})
		}
		names[name] = path
	}
	for n := range ast.Preorder(f) {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains(waysOut[names[x.Name]], n.Sel.Name) {
				all = append(all, use{n.Pos(), names[x.Name] + "." + n.Sel.Name})
			}
		case *ast.CompositeLit:
			s, ok := n.Type.(*ast.SelectorExpr)
			if !ok {
				continue
			}
			if x, ok := s.X.(*ast.Ident); ok && names[x.Name] == "net/http" && s.Sel.Name == "Client" && !slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
				kv, ok := e.(*ast.KeyValueExpr)
				if !ok {
					return false
				}
				key, ok := kv.Key.(*ast.Ident)
				return ok && key.Name == "Transport"
			}) {
				all = append(all, use{n.Pos(), "an http.Client without a transport"})
			}
		}
	}
	return all
}

// The test above would be worth nothing if it let such a use pass.
func TestTheWatchOfWaysOutFindsThem(t *testing.T) {
	for _, source := range []string{
		`import "net"; var c, _ = net.Dial("tcp", "192.0.2.1:1")`,
		`import n "net"; var d n.Dialer`,
		`import "net/http"; var c = http.DefaultClient`,
		`import "net/http"; var c = &http.Client{Timeout: 1}`,
		`import "net/http"; var c = &http.Client{}`,
		`import "net/http"; var r, _ = http.Get("https://example.com")`,
		`import "net/http"; var t = http.Transport{}`,
		`import "net/smtp"; var err = smtp.SendMail("", nil, "", nil, nil)`,
		`import "github.com/jackc/pgx/v5"; var c, _ = pgx.Connect(nil, "")`,
		`import "github.com/nats-io/nats.go"; var c, _ = nats.Connect("")`,
		`import . "net"`,
	} {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x; "+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if len(reachesOut(f)) == 0 {
			t.Errorf("not found: %s", source)
		}
	}
}
