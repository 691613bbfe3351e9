package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rogpeppe/go-internal/testscript"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/chat"
	"counterfoil/internal/egress"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"counterfoil":        main,
		"counterfoil-verify": verifyCertificate,
		"counterfoil-asks": func() { // a person, of whom nothing but a key is kept, asks something so many days ago
			if err := asks(os.Args[1], os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(exitEnvironment)
			}
		},
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

// asks registers what somebody asks about his data, as a letter is registered.
func asks(kind, days string) error {
	ago, err := time.ParseDuration(days)
	if err != nil {
		return err
	}
	a := &app{context.Background(), os.Stdout, os.Stderr, os.Environ(), egress.New(), "en"}
	return a.within("", func(h *heart, o chat.Organisation) error {
		id := uuid.New()
		wrapped, _, err := h.gate.NewKey(o.ID, id)
		if err != nil {
			return err
		}
		if _, err := h.pool.Exec(a.ctx, "select access.create_key($1, $2, 'visitor', $3)", o.ID, id, wrapped); err != nil {
			return err
		}
		asked, err := h.gate.OpenRequest(a.ctx, operator(o.ID), access.NewRequest{Kind: kind, SubjectKind: "visitor", Subject: id, Source: "letter", Language: "en", Received: time.Now().Add(-ago)})
		fmt.Println(asked)
		return err
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
