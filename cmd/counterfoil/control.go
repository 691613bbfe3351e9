package main

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"counterfoil/internal/control"
	"counterfoil/internal/jobs"
	"counterfoil/internal/pg"
	"counterfoil/internal/pg/cluster"
)

// openControl makes the desk where what is kept is looked after. It connects as the role of retention where that is known: over the own database always,
// over another one when COUNTERFOIL_RETENTION_URL names it.
func (h *heart) openControl(ctx context.Context) error {
	url := h.config.RetentionURL
	if url == "" && h.config.DatabaseURL == "" {
		var err error
		if url, err = cluster.RunningURL(clusterDir(h.config), retentionRole, cluster.Database); err != nil {
			return err
		}
	}
	if url != "" {
		var err error
		if h.eraser, err = pg.Open(ctx, pg.Config{URL: url, MaxConns: 4}); err != nil {
			return err
		}
	}
	h.control = control.New(h.pool, h.eraser, h.gate)
	return nil
}

func (h *heart) closeControl() {
	if h.eraser != nil {
		h.eraser.Close()
	}
}

// Kinds of jobs.
const (
	jobRetention = "retention"
	jobErasure   = "erasure"
)

// atATime is how long a job works before it lets others: what is left is carried on.
const atATime = 5 * time.Minute

// controlJobs apply retention each day and carry on with erasures that broke off.
func (h *heart) controlJobs() []jobs.Job {
	return []jobs.Job{
		{Kind: jobRetention, Every: 24 * time.Hour, Run: func(ctx context.Context, r jobs.Run) error {
			begun := time.Now()
			all, err := h.store.Organisations(ctx)
			if err != nil {
				return err
			}
			for _, o := range all {
				if last, err := h.control.Runs(ctx, o.ID, 1); err == nil && len(last) == 1 && last[0].Done != nil && begun.Sub(*last[0].Done) < 6*time.Hour && begun.After(*last[0].Done) {
					continue // it broke off at another organisation
				}
				_, runErr := h.control.Apply(ctx, o.ID, false, func(class string, gone int64) error {
					if time.Since(begun) > atATime {
						return jobs.Again
					}
					return r.Progress(ctx, class, gone, gone)
				})
				if errors.Is(runErr, control.ErrRunning) {
					continue // somebody at the host does it
				}
				if errors.Is(runErr, control.ErrNoEraser) || errors.Is(runErr, jobs.Again) {
					return runErr
				}
				err = errors.Join(err, runErr) // one organisation keeps no other from it
			}
			return err
		}},
		{Kind: jobErasure, Every: time.Hour, Run: func(ctx context.Context, r jobs.Run) error {
			begun := time.Now()
			open, err := h.control.Open(ctx)
			if err != nil {
				return err
			}
			for _, e := range open {
				if r.About != uuid.Nil && r.About != e[1] {
					continue
				}
				_, runErr := h.control.Resume(ctx, e[0], e[1], func(e control.Erasure) error {
					if time.Since(begun) > atATime {
						return jobs.Again
					}
					return r.Progress(ctx, "conversations", e.Conversations, e.Conversations)
				})
				if errors.Is(runErr, jobs.Again) {
					return runErr
				}
				if !errors.Is(runErr, control.ErrHeld) { // that one goes on when the hold is lifted
					err = errors.Join(err, runErr)
				}
			}
			return err
		}},
	}
}
