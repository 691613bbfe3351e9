package signin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
)

// trialValid is how long a change of the allowlist counts that nobody has confirmed.
const trialValid = 5 * time.Minute

// Network is an entry of the allowlist. Which network it is can be told only to whoever was shown it.
type Network struct {
	Reference string
	Added     time.Time
	AddedBy   string    // reference; empty for the host
	OnHost    bool      // added on the host and not acknowledged yet
	Pending   string    // add or remove, while on trial
	Change    uuid.UUID // of the trial
	Until     time.Time // end of the trial
	prefix    netip.Prefix
}

// Prefix is the network itself; invalid when the entry does not open.
func (n Network) Prefix() netip.Prefix { return n.prefix }

const sqlAllowlist = "select network_ref, prefix, added_at, added_by, on_host, coalesce(pending, ''), change_id, until from access.allowlist($1)"

// Allowlist lists the entries, oldest first. The caller has policy decide and record that it is read.
func (d *Desk) Allowlist(ctx context.Context, organisation uuid.UUID) ([]Network, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlAllowlist, organisation)
	if err != nil {
		return nil, fmt.Errorf("read allowlist: %w", err)
	}
	var by []*uuid.UUID
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (n Network, err error) {
		var wrapped []byte
		var added, change *uuid.UUID
		var until *time.Time
		if err = row.Scan(&n.Reference, &wrapped, &n.Added, &added, &n.OnHost, &n.Pending, &change, &until); err != nil {
			return n, err
		}
		if change != nil && until != nil {
			n.Change, n.Until = *change, *until
		}
		if b, err := d.cfg.Ring.UnwrapSecret(keyring.Network, organisation, organisation, wrapped); err == nil {
			_ = n.prefix.UnmarshalBinary(b) // invalid then
		}
		by = append(by, added)
		return n, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read allowlist: %w", err)
	}
	for i, id := range by {
		if id == nil {
			continue
		}
		if all[i].AddedBy, err = d.cfg.Gate.Reference(ctx, organisation, *id); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// LockOutError says that a change of the allowlist would shut out who makes it, or another administrator from everywhere he signed in within
// the last thirty days. About names the change, so that a consent can be given to it.
type LockOutError struct {
	About string
	Other bool // it is another
}

func (LockOutError) Error() string { return "the change would shut out an administrator" }

const (
	sqlPutSeen = "select access.put_seen($1, $2, $3, $4)"
	sqlSeen    = "select admin_id, address from access.seen($1)"
)

// saw keeps, sealed, from where an administrator signs in.
func (d *Desk) saw(ctx context.Context, s session) error {
	b, err := s.from.Address().MarshalBinary()
	var sealed []byte
	if err == nil {
		sealed, err = d.cfg.Ring.WrapSecret(keyring.Seen, s.organisation(), s.admin, b)
	}
	if err == nil {
		_, err = d.cfg.Pool.Exec(ctx, sqlPutSeen, s.organisation(), s.admin, s.address, sealed)
	}
	if err != nil {
		return fmt.Errorf("keep address: %w", err)
	}
	return nil
}

// shutsOut reports whether somebody who may sign in could do so from nowhere he did within the last thirty days.
func (d *Desk) shutsOut(ctx context.Context, organisation uuid.UUID, after ipallow.List) (bool, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlSeen, organisation)
	if err != nil {
		return false, fmt.Errorf("get addresses: %w", err)
	}
	stays := make(map[uuid.UUID]bool)
	var admin uuid.UUID
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&admin, &sealed}, func() error {
		b, err := d.cfg.Ring.UnwrapSecret(keyring.Seen, organisation, admin, sealed)
		var a netip.Addr
		if err == nil {
			err = a.UnmarshalBinary(b)
		}
		_, ok := after.Check(a)
		stays[admin], sealed = stays[admin] || err == nil && ok, nil
		return nil // what does not open is nobody's address
	})
	if err != nil {
		return false, fmt.Errorf("get addresses: %w", err)
	}
	for _, ok := range stays {
		if !ok {
			return true, nil
		}
	}
	return false, nil
}

const sqlTry = "select access.try_network($1, $2, $3, $4, $5, $6, $7)"

// Changes of the allowlist.
const (
	Add    = "add"
	Remove = "remove"
)

// About names a change of the allowlist without saying which network it is.
func (d *Desk) About(ctx context.Context, organisation uuid.UUID, change string, p netip.Prefix) (string, error) {
	ref, err := d.cfg.Gate.ReferenceText(ctx, organisation, "network", p.String())
	return change + " " + ref, err
}

// Guard fails with a LockOutError when, after the change, the administrator's own address would not be admitted, or none from which another
// signed in of late.
func (d *Desk) Guard(ctx context.Context, who principal.Admin, change string, p netip.Prefix) error {
	all, err := d.Allowlist(ctx, who.Organisation())
	if err != nil {
		return err
	}
	var after []netip.Prefix
	for _, n := range all {
		if n.Pending != Remove && n.prefix.IsValid() && (change != Remove || n.prefix != p) {
			after = append(after, n.prefix)
		}
	}
	if change == Add {
		after = append(after, p)
	}
	list := ipallow.NewList(who.Organisation(), after)
	_, stays := list.Check(who.Address())
	others := false
	if stays && change == Remove {
		if others, err = d.shutsOut(ctx, who.Organisation(), list); err != nil {
			return err
		}
	}
	if stays && !others {
		return nil
	}
	about, err := d.About(ctx, who.Organisation(), change, p)
	if err != nil {
		return err
	}
	return LockOutError{about, stays}
}

// Try makes a change of the allowlist that counts at once, and for five minutes unless it is confirmed. The caller has it
// decided and recorded, and guards it. It fails with ErrNotDone when there is nothing to change.
func (d *Desk) Try(ctx context.Context, who principal.Admin, change string, p netip.Prefix) error {
	if change != Add && change != Remove {
		return errors.New("change allowlist: unknown change")
	}
	ref, wrapped, err := d.network(ctx, who.Organisation(), p)
	if err != nil {
		return err
	}
	return d.change(ctx, sqlTry, who.Organisation(), ref, wrapped, change, who.ID(), uuid.New(), int(trialValid.Seconds()))
}

const sqlSettle = "select access.settle_networks($1, $2, $3)"

// Settle confirms a change of the allowlist, or takes it back. Whoever asks was admitted under it. It fails with ErrNotDone
// when it returned already or is another one meanwhile. The caller has it decided and recorded.
func (d *Desk) Settle(ctx context.Context, organisation, change uuid.UUID, keep bool) error {
	return d.change(ctx, sqlSettle, organisation, change, keep)
}

const sqlAcknowledge = "select access.acknowledge_host($1)"

// Acknowledge notes that what was added on the host has been seen. The caller has it decided and recorded.
func (d *Desk) Acknowledge(ctx context.Context, organisation uuid.UUID) error {
	if _, err := d.cfg.Pool.Exec(ctx, sqlAcknowledge, organisation); err != nil {
		return fmt.Errorf("acknowledge allowlist: %w", err)
	}
	return nil
}

const sqlRefusalDue = "select coalesce(access.refusal_due($1), -1)"

// Refused notes a request from an address that no organisation admits: one a minute is recorded by each, with how many came
// in between.
func (d *Desk) Refused(ctx context.Context, from netip.Addr, through int) error {
	rows, err := d.cfg.Pool.Query(ctx, sqlOrganisationIDs)
	if err != nil {
		return fmt.Errorf("list organisations: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return fmt.Errorf("list organisations: %w", err)
	}
	for _, id := range ids {
		var skipped int64
		if err := d.cfg.Pool.QueryRow(ctx, sqlRefusalDue, id).Scan(&skipped); err != nil {
			return fmt.Errorf("note refusal: %w", err)
		}
		if skipped < 0 {
			continue
		}
		facts := map[string]string{"proxies": fmt.Sprint(through), "skipped": fmt.Sprint(skipped), "reason": "address_not_admitted"}
		if !from.IsValid() {
			facts["reason"] = "address_unknown"
		}
		if err := d.cfg.Gate.Door(ctx, id, uuid.Nil, from, "console.refused", facts); err != nil {
			return err
		}
	}
	return nil
}
