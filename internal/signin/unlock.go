package signin

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"counterfoil/internal/ipallow"
)

const sqlSpendCode = "select access.spend_recovery_code($1, $2, $3)"

// Unlock lets somebody try to sign in again who is held back because others failed in his name or from his network. It takes one of his recovery codes, which is
// used up, and signs nobody in. Codes have 80 random bits: one that is right is never held back, or whoever guesses could keep its owner out, and wrong ones
// are counted so that they cannot fill the log. Whether the name is somebody's makes no difference in the answer. It fails with ErrRefused.
func (d *Desk) Unlock(ctx context.Context, from []ipallow.Admission, name, recovery string) error {
	name = foldName(name)
	for _, a := range from {
		organisation := a.Organisation()
		ref, err := d.cfg.Gate.ReferenceText(ctx, organisation, "admin name", name)
		if err != nil {
			return err
		}
		var admin uuid.UUID
		var password string
		if err := d.cfg.Pool.QueryRow(ctx, sqlAdminByName, organisation, ref).Scan(&admin, &password); err != nil {
			return fmt.Errorf("find administrator: %w", err)
		}
		var done bool
		if err := d.cfg.Pool.QueryRow(ctx, sqlSpendCode, organisation, admin, recoveryHash(admin, recovery)).Scan(&done); err != nil {
			return fmt.Errorf("use recovery code: %w", err)
		}
		tries, err := d.count(ctx, a, "unlocks", "")
		if err != nil {
			return err
		}
		action := "sign_in.unlock"
		if !done {
			action = "sign_in.unlock_refused"
			if err := d.attempt(ctx, organisation, tries); err != nil {
				return err
			}
		}
		if err := d.cfg.Gate.Door(ctx, organisation, admin, a.Address(), action, nil); err != nil {
			return err
		}
		if admin != uuid.Nil {
			if err := d.notify(ctx, organisation, admin, action); err != nil {
				return err
			}
		}
		if !done {
			continue
		}
		own, err := d.cfg.Gate.Reference(ctx, organisation, admin)
		if err != nil {
			return err
		}
		forget := tries.shared
		for kind, about := range map[string]string{"passwords": ref, "codes": own, "recoveries": own} {
			c, err := d.count(ctx, a, kind, about)
			if err != nil {
				return err
			}
			forget = append(append(forget, c.own...), c.shared...)
		}
		return d.succeeded(ctx, organisation, counted{own: forget})
	}
	return ErrRefused
}
