package main

import (
	"fmt"
	"io/fs"
	"os"

	"counterfoil/policy"
)

// bundle is the policy a command is about: a directory, or the one compiled in.
func bundle(dir string) fs.FS {
	if dir == "" {
		return policy.Bundle()
	}
	return os.DirFS(dir)
}

type policyCheckCmd struct {
	Dir string `arg:"" optional:"" type:"existingdir" help:"Directory of a policy; without it the one compiled in."`
}

// Run checks a policy.
func (c policyCheckCmd) Run(a *app) error {
	if err := policy.Check(bundle(c.Dir)); err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	engine, err := policy.Load(a.ctx, bundle(c.Dir))
	if err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	fmt.Fprintf(a.stdout, "The policy is sound. Revision %s\n", engine.Revision())
	return nil
}

type policyTestCmd struct {
	Dir string `arg:"" optional:"" type:"existingdir" help:"Directory of a policy; without it the one compiled in."`
}

// Run tests a policy.
func (c policyTestCmd) Run(a *app) error {
	passed, failed, coverage, err := policy.Test(a.ctx, bundle(c.Dir), a.stdout)
	if err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	fmt.Fprintf(a.stdout, "%d passed, %d failed, %.1f %% of the policy covered\n", passed, failed, coverage)
	if failed > 0 {
		return found{}
	}
	return nil
}

type policyMatrixCmd struct {
	Dir string `arg:"" optional:"" type:"existingdir" help:"Directory of a policy; without it the one compiled in."`
}

// Run shows the decision matrix.
func (c policyMatrixCmd) Run(a *app) error {
	engine, err := policy.Load(a.ctx, bundle(c.Dir))
	if err != nil {
		fmt.Fprintln(a.stdout, err)
		return found{}
	}
	return policy.Matrix(a.stdout, engine)
}
