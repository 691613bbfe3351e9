package access

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// What an organisation can want of the policy that decides.
const (
	Demand   = "demand"   // from now on two choose it, beginning with the one that decides
	Activate = "activate" // this one
	Release  = "release"  // nobody has to be asked any more
)

// Choice is which policy an organisation wants to be decided by.
type Choice struct {
	ID       uuid.UUID
	At       time.Time
	Act      string
	Digest   string // of the bundle; empty for the policy compiled in
	Revision string
	By       uuid.UUID // zero for the host
	Approval uuid.UUID
}

// About names what a consent to this choice is for.
func (c Choice) About() string { return c.Act + " " + c.Digest }

const sqlChoices = "select organisation_id, choice_id, chosen_at, act, digest, revision, chosen_by, approval_id, seal from access.policy_choices()"

// Choices gives what each organisation wanted, oldest first. A row that this service did not write is as if it were not there.
func (g *Gate) Choices(ctx context.Context) (map[uuid.UUID][]Choice, error) {
	rows, err := g.pool.Query(ctx, sqlChoices)
	if err != nil {
		return nil, fmt.Errorf("%w: get choices of policy: %w", ErrUnavailable, err)
	}
	type sealed struct {
		Choice
		of   uuid.UUID
		seal string
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c sealed, err error) {
		var by, approval *uuid.UUID
		err = row.Scan(&c.of, &c.ID, &c.At, &c.Act, &c.Digest, &c.Revision, &by, &approval, &c.seal)
		c.By, c.Approval = of(by), of(approval)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: get choices of policy: %w", ErrUnavailable, err)
	}
	choices := make(map[uuid.UUID][]Choice)
	for _, c := range all {
		want, err := g.choiceSeal(ctx, c.of, c.Choice)
		if err != nil {
			return nil, err
		}
		if c.seal != want {
			g.logger.ErrorContext(ctx, "a choice of policy in the database is not one that was made", "choice", c.ID)
			continue
		}
		choices[c.of] = append(choices[c.of], c.Choice)
	}
	return choices, nil
}

func (g *Gate) choiceSeal(ctx context.Context, organisation uuid.UUID, c Choice) (string, error) {
	text := fmt.Sprintf("%s|%d|%s|%s|%s|%s|%s", c.ID, c.At.UnixMicro(), c.Act, c.Digest, c.Revision, c.By, c.Approval)
	refs, err := g.keyed(ctx, organisation, []refKey{{organisation, organisation, "policy choice", text}})
	if err != nil {
		return "", err
	}
	return refs[0], nil
}

// Demanded reports whether two have to choose the policy, as the last choice says.
func Demanded(choices []Choice) bool {
	return len(choices) > 0 && choices[len(choices)-1].Act != Release
}

// Chosen gives the policy that all organisations agree on which demand to choose: the one to which the last of them came round
// last. It is false when none demands, and when they never agreed.
func Chosen(all map[uuid.UUID][]Choice) (chosen Choice, ok bool) {
	agreed := make(map[string]Choice) // by digest: the earliest of the organisations' last choices of it
	organisations := make(map[string]int)
	demanding := 0
	for _, choices := range all {
		if !Demanded(choices) {
			continue
		}
		demanding++
		last := make(map[string]Choice)
		for _, c := range choices {
			if c.Act != Release {
				last[c.Digest] = c
			}
		}
		for digest, c := range last {
			organisations[digest]++
			if first, is := agreed[digest]; !is || c.At.Before(first.At) {
				agreed[digest] = c
			}
		}
	}
	for digest, c := range agreed {
		if organisations[digest] == demanding && (!ok || cmp.Or(c.At.Compare(chosen.At), cmp.Compare(c.Digest, chosen.Digest)) > 0) {
			chosen, ok = c, true
		}
	}
	return chosen, ok
}

const (
	sqlKeepBundle = "select access.keep_bundle($1, $2, $3)"
	sqlBundle     = "select access.policy_bundle($1, $2)"
	sqlChoose     = "select access.choose_policy($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)

// KeepBundle keeps a bundle whose signature was verified, so that what is approved is what every node will have.
func (g *Gate) KeepBundle(ctx context.Context, organisation uuid.UUID, b policy.Signed) error {
	if b.Digest == "" {
		return nil // compiled in
	}
	if _, err := g.pool.Exec(ctx, sqlKeepBundle, organisation, b.Digest, b.Packed); err != nil {
		return fmt.Errorf("%w: keep policy bundle: %w", ErrUnavailable, err)
	}
	return nil
}

// KeptBundle gives a bundle as it was kept; ErrUnknown when there is none of this digest.
func (g *Gate) KeptBundle(ctx context.Context, organisation uuid.UUID, digest string) ([]byte, error) {
	var packed []byte
	if err := g.pool.QueryRow(ctx, sqlBundle, organisation, digest).Scan(&packed); err != nil {
		return nil, fmt.Errorf("%w: get policy bundle: %w", ErrUnavailable, err)
	}
	if packed == nil || policy.Digest(packed) != digest {
		return nil, ErrUnknown
	}
	return packed, nil
}

// DemandPolicy has it that from now on two choose the policy, beginning with this one. It is for whoever administers, in the console or on the
// host, and may be asked of one alone, since it only takes away.
func (g *Gate) DemandPolicy(ctx context.Context, who principal.Principal, organisation uuid.UUID, b policy.Signed) error {
	all, err := g.Choices(ctx)
	if err != nil {
		return err
	}
	if Demanded(all[organisation]) {
		return ErrSettled
	}
	if err := g.Act(ctx, who, policy.Administer, organisation, "policy."+Demand, map[string]string{"revision": b.Revision, "digest": b.Digest}); err != nil {
		return err
	}
	if err := g.KeepBundle(ctx, organisation, b); err != nil {
		return err
	}
	c := Choice{Act: Demand, Digest: b.Digest, Revision: b.Revision}
	if admin, ok := who.(principal.Admin); ok {
		c.By = admin.ID()
	}
	return g.choose(ctx, organisation, c)
}

// ChoosePolicy makes the choice to which somebody else consented. Policy decides, and it is on record before it counts; the consent is used up.
func (g *Gate) ChoosePolicy(ctx context.Context, who principal.Admin, act, digest, revision string, why Justification) error {
	if act != Activate && act != Release {
		return ErrUnknown
	}
	c := Choice{Act: act, Digest: digest, Revision: revision, By: who.ID()}
	consent, err := g.Consent(ctx, who, ForPolicy, uuid.Nil, c.About())
	if err != nil {
		return err
	}
	c.Approval = consent.approval
	facts := map[string]string{"revision": revision, "digest": digest}
	if err := g.ActOn(ctx, who, policy.ChangeTogether, who.Organisation(), "policy."+act, facts, Grounds{Justification: why, Consent: consent}); err != nil {
		return err
	}
	return g.choose(ctx, who.Organisation(), c)
}

func (g *Gate) choose(ctx context.Context, organisation uuid.UUID, c Choice) error {
	c.ID, c.At = uuid.New(), g.now().UTC().Truncate(time.Microsecond)
	seal, err := g.choiceSeal(ctx, organisation, c)
	if err != nil {
		return err
	}
	var by, approval *uuid.UUID
	if c.By != uuid.Nil {
		by = &c.By
	}
	if c.Approval != uuid.Nil {
		approval = &c.Approval
	}
	return g.settle(ctx, sqlChoose, organisation, c.ID, c.At, c.Act, c.Digest, c.Revision, by, approval, seal)
}
