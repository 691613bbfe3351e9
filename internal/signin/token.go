package signin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
)

// TokenPrefix begins every token of a program, so that one that leaked can be found by who looks for it.
const TokenPrefix = "cfr_"

// MaxTokenDays is how long a token may work.
const MaxTokenDays = 90

// ErrNoToken means that nothing comes in with this token from this address.
var ErrNoToken = errors.New("no token that works here")

// ErrTokenTerms refuses a token that would work too long, or from a network that is none.
var ErrTokenTerms = errors.New("a token works for 1 to 90 days, from all addresses or one network")

const sqlMakeToken = "select access.make_token($1, $2, $3, $4, $5, $6, $7, $8)"

// MakeToken makes a token with which a program reads the log, and gives it, this once. It works from admitted addresses only, and of these
// only from network unless that is zero. The caller has it decided and recorded.
func (d *Desk) MakeToken(ctx context.Context, admin principal.Admin, id uuid.UUID, label string, network netip.Prefix, days int) (token string, ends time.Time, err error) {
	label, err = checkLabel(label)
	if err != nil {
		return "", ends, err
	}
	if days < 1 || days > MaxTokenDays || network.IsValid() && (network != network.Masked() || network.Addr().Is4In6()) {
		return "", ends, ErrTokenTerms
	}
	organisation := admin.Organisation()
	token, _ = newToken()
	token = TokenPrefix + token
	sealed, err := d.cfg.Ring.WrapSecret(keyring.Label, organisation, id, []byte(label))
	var from []byte
	if err == nil && network.IsValid() {
		_, from, err = d.network(ctx, organisation, network)
	}
	var seal string
	if err == nil {
		seal, err = d.tokenSeal(ctx, organisation, id, token, network)
	}
	if err == nil {
		err = d.cfg.Pool.QueryRow(ctx, sqlMakeToken, organisation, id, admin.ID(), tokenHash(token), sealed, from, seal, days).Scan(&ends)
	}
	if err != nil {
		return "", ends, fmt.Errorf("make token: %w", err)
	}
	return token, ends, nil
}

func (d *Desk) tokenSeal(ctx context.Context, organisation, id uuid.UUID, token string, network netip.Prefix) (string, error) {
	return d.seal(ctx, organisation, "token", token, id.String(), network.String())
}

const sqlTokenByHash = "select organisation_id, token_id, network, seal from access.token_by_hash($1) where token_id is not null"

// Client says which program presents a token. The address must be on the organisation's allowlist, and in the token's own network if
// it has one.
func (d *Desk) Client(ctx context.Context, admissions []ipallow.Admission, token string) (principal.Client, error) {
	if !strings.HasPrefix(token, TokenPrefix) || len(token) > 64 {
		return principal.Client{}, ErrNoToken
	}
	var organisation, id uuid.UUID
	var sealed []byte
	var seal string
	err := d.cfg.Pool.QueryRow(ctx, sqlTokenByHash, tokenHash(token)).Scan(&organisation, &id, &sealed, &seal)
	if errors.Is(err, pgx.ErrNoRows) {
		return principal.Client{}, ErrNoToken
	}
	if err != nil {
		return principal.Client{}, fmt.Errorf("find token: %w", err)
	}
	network, err := d.openNetwork(organisation, sealed)
	if err != nil {
		return principal.Client{}, fmt.Errorf("find token: %w", err)
	}
	want, err := d.tokenSeal(ctx, organisation, id, token, network)
	if err != nil {
		return principal.Client{}, err
	}
	from, admitted := admitted(admissions, organisation)
	if want != seal || !admitted || network.IsValid() && !network.Contains(from.Address()) {
		return principal.Client{}, ErrNoToken
	}
	return principal.NewClient(organisation, id, from)
}

func (d *Desk) openNetwork(organisation uuid.UUID, sealed []byte) (network netip.Prefix, err error) {
	if len(sealed) == 0 {
		return network, nil
	}
	b, err := d.cfg.Ring.UnwrapSecret(keyring.Network, organisation, organisation, sealed)
	if err == nil {
		err = network.UnmarshalBinary(b)
	}
	return network, err
}

// ListedToken is a token as lists show it; nobody can say it again.
type ListedToken struct {
	ID, Admin     uuid.UUID
	Reference     string // of the program, in records
	Label         string
	Bound         bool // works from one network only
	Made, Ends    time.Time
	Used, Revoked *time.Time
}

const sqlTokens = "select token_id, admin_id, label, network is not null, made_at, expires_at, used_at, revoked_at from access.tokens($1)"

// Tokens lists the tokens of an organisation, newest first.
func (d *Desk) Tokens(ctx context.Context, organisation uuid.UUID) ([]ListedToken, error) {
	rows, err := d.cfg.Pool.Query(ctx, sqlTokens, organisation)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t ListedToken, err error) {
		var label []byte
		if err = row.Scan(&t.ID, &t.Admin, &label, &t.Bound, &t.Made, &t.Ends, &t.Used, &t.Revoked); err == nil {
			label, err = d.cfg.Ring.UnwrapSecret(keyring.Label, organisation, t.ID, label)
		}
		t.Label = string(label)
		return t, err
	})
	for i := range all {
		if err == nil {
			all[i].Reference, err = d.cfg.Gate.ReferenceText(ctx, organisation, "client", all[i].ID.String())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return all, nil
}

const sqlRevokeToken = "select access.revoke_token($1, $2)"

// RevokeToken ends a token. The caller has it decided and recorded.
func (d *Desk) RevokeToken(ctx context.Context, organisation, id uuid.UUID) error {
	return d.change(ctx, sqlRevokeToken, organisation, id)
}
