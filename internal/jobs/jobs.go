// Package jobs runs what takes long or comes back, in the queue of riverqueue/river in the same PostgreSQL. It promises that of equal
// jobs one runs at a time across all nodes, that what comes back comes once for each stretch of time, and that a job holds ids and
// nothing else: whoever runs it looks up what they stand for.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
)

// Again is what a job returns that has done its part and has more to do: it runs again soon, and that is no failure.
var Again = errors.New("there is more to do")

const (
	schema = "jobs"
	// most is how long one try may take. A job that needs longer works in parts and returns Again.
	most = 10 * time.Minute
	// rescue is when a job counts as lost whose process is gone.
	rescue = 12 * time.Minute
	// attempts are made over about two days, each after a longer pause; what comes back is tried again the next time anyway.
	attempts = 12
	// stopWithin is how long a stopping service waits for jobs before it tells them to break off, and then once more.
	stopWithin = 4 * time.Second
)

// Job is one kind of work.
type Job struct {
	Kind string
	// Every is how often it comes by itself, once across all nodes for each such stretch of time, missed ones left out; zero for what is only asked for.
	Every time.Duration
	Run   func(context.Context, Run) error
}

// Run is one try of a job.
type Run struct {
	Organisation uuid.UUID // zero for all
	About        uuid.UUID // zero when it is about the whole

	id     int64
	client *river.Client[pgx.Tx]
}

// Progress notes how far the job is: a word of ours and two counts.
func (r Run) Progress(ctx context.Context, step string, done, of int64) error {
	if _, err := r.client.JobUpdate(ctx, r.id, &river.JobUpdateParams{Output: Progress{step, done, of}}); err != nil {
		return fmt.Errorf("note progress of job %d: %w", r.id, err)
	}
	return nil
}

// Progress is how far a job is.
type Progress struct {
	Step string `json:"step"`
	Done int64  `json:"done"`
	Of   int64  `json:"of"`
}

// args are all that a job can hold.
type args struct {
	Organisation uuid.UUID `json:"organisation"`
	About        uuid.UUID `json:"about"`

	kind string
}

// Kind tells river which job it is.
func (a args) Kind() string { return a.kind }

// Worker works off the queue. It is safe for concurrent use.
type Worker struct {
	client *river.Client[pgx.Tx]
	every  map[string]time.Duration
}

// New makes a Worker for these jobs. Without any it can list and ask for jobs that another process works off.
func New(pool *pgxpool.Pool, logger *slog.Logger, all ...Job) (*Worker, error) {
	w := &Worker{every: make(map[string]time.Duration, len(all))}
	c := &river.Config{
		Schema: schema, PollOnly: true, Logger: logger, SkipUnknownJobCheck: true, FetchPollInterval: time.Second,
		MaxAttempts: attempts, JobTimeout: most, RescueStuckJobsAfter: rescue, SoftStopTimeout: stopWithin,
		CompletedJobRetentionPeriod: 8 * 24 * time.Hour, DiscardedJobRetentionPeriod: 30 * 24 * time.Hour, // longer than the longest stretch
		ReindexerIndexNames: []string{}, // the service owns no index
	}
	if len(all) > 0 {
		c.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}
		c.Workers = river.NewWorkers()
	}
	for _, j := range all {
		a := args{kind: j.Kind}
		river.AddWorkerArgs(c.Workers, a, &runner{run: j.Run, logger: logger, worker: w})
		if w.every[j.Kind] = j.Every; j.Every == 0 {
			continue
		}
		asked := func() (river.JobArgs, *river.InsertOpts) {
			return a, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByPeriod: j.Every}}
		}
		c.PeriodicJobs = append(c.PeriodicJobs, river.NewPeriodicJob(river.PeriodicInterval(min(j.Every, 15*time.Minute)), asked, &river.PeriodicJobOpts{ID: j.Kind, RunOnStart: true}))
	}
	var err error
	if w.client, err = river.NewClient(riverpgxv5.New(pool), c); err != nil {
		return nil, fmt.Errorf("make job queue: %w", err)
	}
	return w, nil
}

// Run works until ctx ends, then lets what runs finish for a few seconds.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start job queue: %w", err)
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopWithin)
	defer cancel()
	if err := w.client.Stop(stop); err != nil {
		return fmt.Errorf("stop job queue: %w", err)
	}
	return nil
}

// alive are the states in which a job is still to be done.
var alive = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled}

// Enqueue asks for a job, unless the same is waiting or running already. It may be asked for before the commit of what it is about: then it may
// find nothing, so ask afterwards, or let it come by itself as well.
func (w *Worker) Enqueue(ctx context.Context, kind string, organisation, about uuid.UUID) error {
	_, err := w.client.Insert(ctx, args{organisation, about, kind}, &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: alive}})
	if err != nil {
		return fmt.Errorf("ask for job %s: %w", kind, err)
	}
	return nil
}

// runner is how river calls a job.
type runner struct {
	river.WorkerDefaults[args]
	run    func(context.Context, Run) error
	logger *slog.Logger
	worker *Worker
}

// Work runs one try.
func (r *runner) Work(ctx context.Context, j *river.Job[args]) (err error) {
	defer func() {
		if p := recover(); p != nil { // what it holds may be anything, so it is not kept
			r.logger.ErrorContext(ctx, "a job panicked", "kind", j.Kind, "job", j.ID, "stack", string(debug.Stack()))
			err = errors.New("the job panicked; the service's log says where")
		}
	}()
	err = r.run(ctx, Run{Organisation: j.Args.Organisation, About: j.Args.About, id: j.ID, client: r.worker.client})
	if errors.Is(err, Again) {
		return river.JobSnooze(time.Second)
	}
	return err
}

// State is a job as it stands.
type State struct {
	ID           int64      `json:"id"`
	Kind         string     `json:"kind"`
	State        string     `json:"state"`
	Organisation string     `json:"organisation,omitempty"`
	About        string     `json:"about,omitempty"`
	Attempt      int        `json:"attempt"`
	Due          time.Time  `json:"due"`
	Began        *time.Time `json:"began,omitempty"`
	Ended        *time.Time `json:"ended,omitempty"`
	Progress     *Progress  `json:"progress,omitempty"`
	Error        string     `json:"error,omitempty"` // of the last try
}

// Late reports whether nobody has begun it though it was due five minutes ago, or nobody ended it long after its time.
func (s State) Late(now time.Time) bool {
	switch rivertype.JobState(s.State) {
	case rivertype.JobStateAvailable, rivertype.JobStateScheduled, rivertype.JobStateRetryable:
		return now.Sub(s.Due) > 5*time.Minute
	case rivertype.JobStateRunning:
		return s.Began != nil && now.Sub(*s.Began) > 2*rescue
	}
	return false
}

// Failed reports whether it was given up.
func (s State) Failed() bool { return rivertype.JobState(s.State) == rivertype.JobStateDiscarded }

// List gives the newest jobs, at most so many.
func (w *Worker) List(ctx context.Context, limit int) ([]State, error) {
	found, err := w.client.JobList(ctx, river.NewJobListParams().OrderBy(river.JobListOrderByID, river.SortOrderDesc).First(limit))
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	all := make([]State, len(found.Jobs))
	for i, j := range found.Jobs {
		var a args
		var meta struct {
			Output *Progress `json:"output"`
		}
		if err := errors.Join(json.Unmarshal(j.EncodedArgs, &a), json.Unmarshal(j.Metadata, &meta)); err != nil {
			return nil, fmt.Errorf("read job %d: it is damaged", j.ID)
		}
		all[i] = State{ID: j.ID, Kind: j.Kind, State: string(j.State), Attempt: j.Attempt, Due: j.ScheduledAt, Began: j.AttemptedAt, Ended: j.FinalizedAt, Progress: meta.Output}
		if a.Organisation != uuid.Nil {
			all[i].Organisation = a.Organisation.String()
		}
		if a.About != uuid.Nil {
			all[i].About = a.About.String()
		}
		if n := len(j.Errors); n > 0 {
			all[i].Error = j.Errors[n-1].Error
		}
	}
	return all, nil
}
