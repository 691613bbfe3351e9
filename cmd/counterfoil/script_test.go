package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"counterfoil/audit"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"counterfoil":        main,
		"counterfoil-verify": verifyCertificate,
		"counterfoil-alone": func() { // in a network namespace of its own
			if err := loopbackUp(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(exitEnvironment)
			}
			if os.Args[1] == "reach" {
				reach()
				return
			}
			main()
		},
	})
}

// verifyCertificate is what counterfoil-verify does with a certificate, whose own tests are beside it.
func verifyCertificate() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitEnvironment)
	}
	c, err := audit.ReadCertificate(f)
	says := audit.Certified{Key: c.Key, KeyFromWithin: true}
	if err == nil {
		says.Entry, says.Checkpoint, err = c.Verify(c.Key)
	}
	if err == nil {
		err = says.WriteText(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScripts drives the real program; the scripts double as its documentation.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// A data directory that PostgreSQL's unprivileged user can reach.
			dir, err := os.MkdirTemp("/tmp", "cf-")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				return err
			}
			env.Setenv("COUNTERFOIL_DATA_DIR", dir)
			rego, err := filepath.Abs("../../policy/rego")
			env.Setenv("POLICY", rego)
			return err
		},
	})
}
