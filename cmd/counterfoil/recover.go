package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/audit/publish"
	"counterfoil/internal/chat"
	"counterfoil/internal/config"
	"counterfoil/internal/pg/cluster"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

type auditRecoverCmd struct {
	Org  string `help:"Organisation, by name or id; not needed when there is one."`
	Code string `help:"The code that the first operator was given."`
}

// Help is shown below the flags.
func (auditRecoverCmd) Help() string {
	return "A log that does not continue what was published of it (after an older backup was put back, say) neither grows nor lets anything be disclosed. " +
		"If the newer database cannot be put back, two operators of this host decide together to begin the log anew: the first is told what will be the case and given a code, " +
		"the second, another user of the operating system, repeats the command with it. The old log is kept, and can be listed, exported and verified with --epoch. " +
		"The service must be stopped; against a database of your own, COUNTERFOIL_DATABASE_URL must be that of a superuser.\n\n" +
		"Examples:\n  counterfoil audit recover --org Contoso\n  counterfoil audit recover --org Contoso --code K7Q2MXN4"
}

// recovery is what the first operator began, and the second has to find unchanged.
type recovery struct {
	pairing
	Origin     string `json:"origin"`
	Size       uint64 `json:"size"`
	Checkpoint string `json:"checkpoint"`
	Next       string `json:"next"`     // origin of the log that is begun
	Approver   string `json:"approver"` // who repeated the command; empty before
}

// Run begins a log anew, when two operators want it.
func (c auditRecoverCmd) Run(a *app) error {
	settings, err := a.settings()
	if err != nil {
		return err
	}
	superuser, done, err := a.superuser(settings)
	if err != nil {
		return err
	}
	defer done()
	return a.within(c.Org, func(h *heart, o chat.Organisation) error {
		file := filepath.Join(settings.DataDir, "recover", o.ID.String()+".json")
		begun, err := readBegun[recovery](file)
		if err != nil {
			return err
		}
		head, err := h.log.Head(a.ctx, o.ID)
		if err != nil {
			return err
		}
		if begun.Approver != "" && head.Origin == begun.Next { // the end of the command was lost
			return c.finish(a, h, o, begun, file)
		}
		reason := h.publishers.Standing(a.ctx, o.ID, false)
		switch {
		case reason == nil:
			fmt.Fprintf(a.stdout, "The log %s continues what was published of it. There is nothing to recover.\n", head.Origin)
			return nil
		case !errors.Is(reason, publish.ErrFrozen):
			return reason
		case c.Code == "":
			return c.begin(a, h, o, head, reason, file)
		}
		name := operatorName()
		if err := begun.confirm(name, c.Code); err != nil {
			return err
		}
		if begun.Origin != head.Origin || begun.Size != head.Size || begun.Checkpoint != string(head.Checkpoint) {
			return usageError{"the log is not as it was when this was begun: run the command without --code again"}
		}
		next, kept, err := h.log.NextEpoch(o.ID, head)
		if err != nil {
			return err
		}
		begun.Approver, begun.Next = name, next.Origin
		if err := writeBegun(file, begun); err != nil {
			return err
		}
		_, err = superuser.Exec(a.ctx, "select audit.begin_epoch($1, $2, $3, $4, $5, $6)", o.ID, kept, int64(head.Size), string(head.Checkpoint), next.Origin, string(next.Checkpoint))
		if err != nil {
			return fmt.Errorf("begin the log %s: %w", next.Origin, err)
		}
		h.publishers.Forget(o.ID)
		return c.finish(a, h, o, begun, file)
	})
}

// begin tells the first operator what is the case, and gives the code.
func (auditRecoverCmd) begin(a *app, h *heart, o chat.Organisation, head pglog.Head, reason error, file string) error {
	now, err := h.log.Checkpoint(head)
	if err != nil {
		return err
	}
	begun := recovery{pairing: pair(), Origin: head.Origin, Size: head.Size, Checkpoint: string(head.Checkpoint)}
	if err := writeBegun(file, begun); err != nil {
		return err
	}
	var where []string
	for _, p := range h.publishers {
		where = append(where, p.To.Where(head.Origin))
	}
	fmt.Fprintf(a.stdout, `%v

In the database the log has %d records, its root is %s.
What was published of it lies in %s and stays there: no record in it is lost.

If the newer database can be put back, do that instead. Otherwise the log is begun anew as %s:
the old one is kept as it is now, nothing can be added to it, and this decision is the first that the new one records.

A second operator of this host, another user of the operating system, confirms it within an hour:

  counterfoil audit recover --org %s --code %s
`, reason, now.Size, now.Root, strings.Join(where, " and "), audit.NextOrigin(head.Origin), o.ID, begun.Code)
	return nil
}

// finish records who decided, as the first that the new log says.
func (c auditRecoverCmd) finish(a *app, h *heart, o chat.Organisation, begun recovery, file string) error {
	old, err := h.log.Checkpoint(pglog.Head{Origin: begun.Origin, Checkpoint: []byte(begun.Checkpoint)})
	if err != nil {
		return err
	}
	facts := map[string]string{"old.origin": old.Origin, "old.size": strconv.FormatUint(old.Size, 10), "old.root": old.Root.String()}
	all, err := h.publishers.Published(a.ctx, begun.Origin)
	if err != nil {
		return err
	}
	newest := uint64(0)
	for _, p := range all {
		seen, err := h.log.Checkpoint(pglog.Head{Origin: begun.Origin, Checkpoint: p.Checkpoint})
		if err == nil && seen.Size >= newest {
			newest = seen.Size
			facts["published.size"], facts["published.root"] = strconv.FormatUint(seen.Size, 10), seen.Root.String()
		}
	}
	head, err := h.log.Head(a.ctx, o.ID)
	if err != nil {
		return err
	}
	for i, name := range []string{begun.Operator, begun.Approver} {
		if head.Size > uint64(i) {
			continue // recorded before the end of the command was lost
		}
		err := h.gate.Act(a.ctx, principal.NewOperator(o.ID, name), policy.Administer, o.ID, []string{"log.recover", "log.recover.approve"}[i], facts)
		if err != nil {
			return err
		}
	}
	replayed, err := c.replay(a, h, o, old)
	if err != nil {
		return fmt.Errorf("do once more what was erased and held since (the command can be run again): %w", err)
	}
	if err := os.Remove(file); err != nil {
		return err
	}
	if replayed > 0 {
		fmt.Fprintf(a.stdout, "%d erasures, holds and settings of retention, which are newer than the database, were done once more.\n", replayed)
	}
	closed, err := h.log.Epochs(a.ctx, o.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "The log is begun anew as %s. The old one is kept: counterfoil audit list --org %s --epoch %d\nGive outsiders the new key line, which the next export holds in key.pub.\n", begun.Next, o.ID, len(closed))
	return nil
}

// replay does once more what was erased, held and set after the state that was put back, as the published log says.
func (auditRecoverCmd) replay(a *app, h *heart, o chat.Organisation, old audit.Checkpoint) (n int, err error) {
	if err := h.openControl(a.ctx); err != nil {
		return 0, err
	}
	defer h.closeControl()
	var newest [][]byte
	for _, p := range h.publishers {
		entries, err := p.After(a.ctx, old.Origin, old.Size)
		if errors.Is(err, publish.ErrFaults) {
			fmt.Fprintf(a.stdout, "%v\nWhat was erased and held since the database was backed up is not read from there.\n", err)
			continue
		}
		if err != nil {
			return 0, err
		}
		if len(entries) > len(newest) {
			newest = entries
		}
	}
	for _, body := range newest {
		e, err := audit.ParseEntry(body)
		if err != nil {
			return n, err
		}
		did, err := h.control.Replay(a.ctx, o.ID, e)
		if err != nil {
			return n, fmt.Errorf("record %d: %w", e.Seq, err)
		}
		if did {
			n++
		}
	}
	return n, nil
}

// recovered refuses to go on while a recovery that two operators decided on is not finished: what was erased may be there again.
func recovered(c config.Config, organisation uuid.UUID) error {
	r, err := readBegun[recovery](filepath.Join(c.DataDir, "recover", organisation.String()+".json"))
	if err == nil && r.Approver != "" {
		err = fmt.Errorf("the recovery of the log %s was not finished: run `counterfoil audit recover --org %s` again", r.Origin, organisation)
	}
	return err
}

// sqlServed asks whether anybody else is connected as the service.
const sqlServed = "select exists (select from pg_stat_activity where usename = $1 and datname = current_database() and pid <> pg_backend_pid())"

// superuser connects as whoever owns the database. The service must not run: it would go on with the log it knows.
func (a *app) superuser(c config.Config) (*pgx.Conn, func(), error) {
	stop, err := a.stopped(c)
	if err != nil {
		return nil, nil, err
	}
	if c.DatabaseURL == "" {
		url, err := cluster.RunningURL(clusterDir(c), cluster.Superuser, cluster.Database)
		if err == nil {
			_, err = migrateURL(a.ctx, a.egress, c, url, false)
		}
		if err != nil {
			stop()
			return nil, nil, err
		}
	}
	conn, err := a.asSuperuser(c)
	if err != nil {
		stop()
		return nil, nil, err
	}
	done := func() { _ = conn.Close(context.WithoutCancel(a.ctx)); stop() }
	return conn, done, nil
}
