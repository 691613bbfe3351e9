package signin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/principal"
)

// passkey is a security key as it is stored.
type passkey struct {
	Factor
	Credential webauthn.Credential
}

const sqlPasskeys = "select passkey_id, credential, created_at, used_at from access.passkeys($1, $2)"

func (d *Desk) passkeys(ctx context.Context, organisation, admin uuid.UUID) ([]passkey, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlPasskeys, organisation, admin)
	if err != nil {
		return nil, fmt.Errorf("find security keys: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k passkey, err error) {
		var sealed []byte
		if err = row.Scan(&k.ID, &sealed, &k.Added, &k.Used); err != nil {
			return k, err
		}
		id, added, used := k.ID, k.Added, k.Used
		b, err := d.cfg.Ring.UnwrapSecret(keyring.Passkey, organisation, admin, sealed)
		if err == nil && json.Unmarshal(b, &k) != nil {
			err = errors.New("a security key has an unknown form")
		}
		k.ID, k.Added, k.Used = id, added, used
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("find security keys: %w", err)
	}
	return all, nil
}

// Passkeys lists the security keys of an administrator, oldest first.
func (d *Desk) Passkeys(ctx context.Context, who principal.Admin) ([]Factor, error) {
	all, err := d.passkeys(ctx, who.Organisation(), who.ID())
	if err != nil {
		return nil, err
	}
	factors := make([]Factor, len(all))
	for i, k := range all {
		factors[i] = k.Factor
	}
	return factors, nil
}
