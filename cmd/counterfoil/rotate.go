package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"counterfoil/audit"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/pg/cluster"
	"counterfoil/policy"
)

// The files of the key that signs checkpoints, and of the one before it while that still counts.
func seedFile(c config.Config) string         { return keyFile(c, "checkpoint.seed") }
func previousSeedFile(c config.Config) string { return keyFile(c, "checkpoint.previous.seed") }

type auditRotateKeyCmd struct {
	Finish bool `help:"End the time in which both keys sign, and forget the previous one."`
}

// Help is shown below the flags.
func (auditRotateKeyCmd) Help() string {
	return "A new key signs the checkpoints of all logs, and for a time the previous one does too, so that outsiders who know either can check them. " +
		"Every log has a record of the change. Give outsiders and witnesses the new key lines, then end that time with --finish. The service must be stopped; " +
		"on several nodes, copy the directory keys to the others.\n\n" +
		"Examples:\n  counterfoil audit rotate-key\n  counterfoil audit rotate-key --finish"
}

// Run replaces the key.
func (c auditRotateKeyCmd) Run(a *app) error {
	settings, err := a.settings()
	if err != nil {
		return err
	}
	done, err := a.stopped(settings)
	if err != nil {
		return err
	}
	defer done()
	rotating, err := rotation(settings)
	if err != nil {
		return err
	}
	switch {
	case c.Finish && !rotating:
		return usageError{"no key is being replaced"}
	case c.Finish:
		return c.finish(a, settings)
	case !rotating:
		if err := replaceSeed(settings); err != nil {
			return err
		}
	}
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	all, err := h.store.Organisations(a.ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		signer, err := h.key.For(o.Origin)
		if err != nil {
			return err
		}
		head, err := h.log.Head(a.ctx, o.ID)
		if err != nil {
			return err
		}
		if _, err := audit.OpenCheckpoint(head.Checkpoint, signer.Verifier()); err != nil { // not recorded yet
			facts := map[string]string{"next": signer.VerifierKey(), "previous": signer.PreviousVerifierKeys()[0]}
			if err := h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "checkpoint_key.rotate", facts); err != nil {
				return err
			}
		}
		fmt.Fprintf(a.stdout, "%s\n", signer.VerifierKey())
	}
	fmt.Fprintf(a.stdout, "Checkpoints bear the signatures of both keys now. Give the lines above to outsiders and witnesses, then: counterfoil audit rotate-key --finish\n")
	return nil
}

// finish forgets the previous key, if nothing depends on it any more.
func (auditRotateKeyCmd) finish(a *app, settings config.Config) error {
	h, done, err := a.connect()
	if err != nil {
		return err
	}
	defer done()
	all, err := h.store.Organisations(a.ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := h.signedAnew(a.ctx, o); err != nil {
			return err
		}
	}
	for _, o := range all {
		signer, err := h.key.For(o.Origin)
		if err != nil {
			return err
		}
		err = h.gate.Act(a.ctx, operator(o.ID), policy.Administer, o.ID, "checkpoint_key.retire", map[string]string{"previous": signer.PreviousVerifierKeys()[0]})
		if err != nil {
			return err
		}
	}
	if err := os.Remove(previousSeedFile(settings)); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "The previous key signs no more.")
	return nil
}

// signedAnew checks that what is known of a log, in the database and outside, bears the signature of the present key.
func (h *heart) signedAnew(ctx context.Context, o chat.Organisation) error {
	signer, err := h.key.For(o.Origin)
	if err != nil {
		return err
	}
	head, err := h.log.Head(ctx, o.ID)
	if err != nil {
		return err
	}
	if _, err := audit.OpenCheckpoint(head.Checkpoint, signer.Verifier()); err != nil {
		return errors.New("not every log has a record of the change yet: run counterfoil audit rotate-key again")
	}
	all, err := h.publishers.Published(ctx, o.Origin)
	if err != nil {
		return err
	}
	for _, p := range all {
		for name, signed := range map[string][]byte{audit.CheckpointFile: p.Checkpoint, audit.CosignedFile: p.Cosigned} {
			if signed == nil {
				continue
			}
			if _, err := audit.OpenCheckpoint(signed, signer.Verifier()); err != nil {
				return fmt.Errorf("%s/%s is signed by the previous key alone: let the service run until it is published anew", p.Where, name)
			}
		}
	}
	return nil
}

// rotation tells whether a previous key still counts. One that is the same as the present key is what an interrupted
// rotation left, before the new key was there.
func rotation(c config.Config) (bool, error) {
	previous, err := keyring.ReadSecret(previousSeedFile(c))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	present, err := keyring.ReadSecret(seedFile(c))
	return err == nil && !bytes.Equal(previous, present), err
}

// replaceSeed keeps the present key as the previous one and puts a new one in its place, in this order.
func replaceSeed(c config.Config) error {
	seed, err := keyring.ReadSecret(seedFile(c))
	if err != nil {
		return fmt.Errorf("checkpoint key: %w", err)
	}
	if err := keyring.WriteSecret(previousSeedFile(c), seed); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	next := make([]byte, len(seed))
	rand.Read(next)
	file := seedFile(c) + ".next"
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := keyring.WriteSecret(file, next); err != nil {
		return err
	}
	return os.Rename(file, seedFile(c))
}

// stopped makes sure that no service runs on the database.
func (a *app) stopped(c config.Config) (done func(), err error) {
	running := errors.New("the service is running: stop it first")
	if c.DatabaseURL == "" {
		db, err := cluster.Start(a.ctx, cluster.Options{DataDir: clusterDir(c), Notify: func(s string) { fmt.Fprintln(a.stderr, s) }})
		if errors.Is(err, cluster.ErrInUse) {
			return nil, running
		}
		if err != nil {
			return nil, err
		}
		return a.stopping(db), nil
	}
	conn, err := direct(a.ctx, a.egress, c.DatabaseURL)
	if err != nil {
		return nil, errors.New("the database cannot be reached with this URL and role")
	}
	defer conn.Close(context.WithoutCancel(a.ctx)) //nolint:errcheck // nothing was written
	served := false
	if err := conn.QueryRow(a.ctx, sqlServed, serviceRole).Scan(&served); err != nil {
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	if served {
		return nil, running
	}
	return func() {}, nil
}
