package signin

import (
	"context"
	"fmt"

	"counterfoil/internal/principal"
)

// Stands says whether an administrator is still let in under a token, from where he is: his session lives and his address is on the
// allowlist. It does not keep the session alive, for a stream goes on while nobody does anything. It is ErrNoSession when he is not.
func (d *Desk) Stands(ctx context.Context, admin principal.Admin, token string) error {
	admissions, err := d.Admit(ctx, admin.Address())
	if err != nil {
		return err
	}
	if _, ok := admitted(admissions, admin.Organisation()); !ok { // on record
		if _, err := d.resume(ctx, admissions, admin.Address(), token); err != nil {
			return err
		}
		return ErrNoSession
	}
	proof, _, err := d.codes.Recall(ctx, tokenHash(token))
	if err != nil {
		return err
	}
	if proof.Admin() != admin.ID() || proof.Organisation() != admin.Organisation() {
		return fmt.Errorf("%w: it ended", ErrNoSession)
	}
	return nil
}
