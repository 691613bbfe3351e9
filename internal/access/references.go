package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/audit"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/ipallow"
	"counterfoil/internal/principal"
)

// references are the keyed names of one question's parties, and of the address and network an administrator works from.
type references struct{ actor, subject, conversation, address, network, approver, asker, approved string }

// refCache remembers references, which never change while a key lives. A destroyed key's reference may be known until
// the entry is pushed out; it is only a name in records, and opens nothing.
type refCache struct {
	mu sync.RWMutex
	m  map[refKey]string
}

type refKey struct {
	organisation, id uuid.UUID
	kind, name       string
}

const refCacheSize = 1 << 16

func (c *refCache) get(k refKey) (string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ref, ok := c.m[k]
	return ref, ok
}

func (c *refCache) put(k refKey, ref string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= refCacheSize {
		c.m = make(map[refKey]string)
	}
	c.m[k] = ref
}

func (g *Gate) references(ctx context.Context, organisation uuid.UUID, q question) (references, error) {
	wanted := []refKey{
		actorKey(organisation, q.who),
		{organisation: organisation, id: q.subject},
		{organisation: organisation, id: q.scene.Conversation.ID},
	}
	from, ok := addressOf(q.who)
	if ok {
		wanted = append(wanted, addressKeys(organisation, from)...)
	}
	if c := q.grounds.Consent; c.actor != uuid.Nil {
		wanted = append(wanted, c.keys(organisation)...)
	}
	refs, err := g.keyed(ctx, organisation, wanted)
	if err != nil {
		return references{}, err
	}
	r := references{actor: refs[0], subject: refs[1], conversation: refs[2]}
	refs = refs[3:]
	if ok {
		r.address, r.network = refs[0], refs[1]
		refs = refs[2:]
	}
	if len(refs) > 0 {
		r.approver, r.asker, r.approved = refs[0], refs[1], refs[2]
	}
	return r, nil
}

// Actor is how an actor is referred to in the log of his organisation.
func (g *Gate) Actor(ctx context.Context, who principal.Principal) (audit.Party, error) {
	refs, err := g.keyed(ctx, who.Organisation(), []refKey{actorKey(who.Organisation(), who)})
	if err != nil {
		return audit.Party{}, err
	}
	return audit.Party{Kind: who.Kind(), Ref: refs[0]}, nil
}

// addressOf is where an actor works from for whom an address was admitted.
func addressOf(who principal.Principal) (from netip.Addr, ok bool) {
	switch who := who.(type) {
	case principal.Admin:
		return who.Address(), true
	case principal.Client:
		return who.Address(), true
	}
	return netip.Addr{}, false
}

// addressKeys are how an address and its neighbourhood are referred to.
func addressKeys(organisation uuid.UUID, a netip.Addr) []refKey {
	return []refKey{
		{organisation, organisation, "address", a.String()},
		{organisation, organisation, "network", ipallow.Network(a).String()},
	}
}

// addressRow is where a sealed address lies: of its reference, so that whoever has that of a session finds it.
func addressRow(ref string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, []byte(ref)) }

const sqlPutAddress = "select access.put_admin_address($1, $2, $3, $4)"

// KeepAddress keeps, sealed, from where an administrator signs in, as long as a session from there can last. Its record is that of the sign-in.
func (g *Gate) KeepAddress(ctx context.Context, organisation, admin uuid.UUID, from netip.Addr, ref string) error {
	wrapped, err := g.wrappedKeys(ctx, organisation, admin)
	if err != nil {
		return err
	}
	at := euii.Ref{Organisation: organisation, Subject: admin, Row: addressRow(ref), Field: euii.AdminAddress}
	sealed, err := g.ring.Seal(admin, wrapped[admin], at, euii.Receive(from.String()))
	if err == nil {
		_, err = g.pool.Exec(ctx, sqlPutAddress, organisation, admin, at.Row, sealed.Ciphertext())
	}
	if err != nil {
		return fmt.Errorf("%w: keep address: %w", ErrUnavailable, err)
	}
	return nil
}

// keyed gives the references of several keys; that of a key without an id is empty.
func (g *Gate) keyed(ctx context.Context, organisation uuid.UUID, wanted []refKey) ([]string, error) {
	refs := make([]string, len(wanted))
	var missing []uuid.UUID
	for i, k := range wanted {
		var ok bool
		if k.id == uuid.Nil {
			continue
		}
		if refs[i], ok = g.refs.get(k); !ok {
			missing = append(missing, k.id)
		}
	}
	if len(missing) == 0 {
		return refs, nil
	}
	wrapped, err := g.wrappedKeys(ctx, organisation, missing...)
	if err != nil {
		return nil, err
	}
	for i, k := range wanted {
		if refs[i] != "" || k.id == uuid.Nil {
			continue
		}
		ref, err := g.reference(k, wrapped[k.id])
		if errors.Is(err, keyring.ErrErased) {
			ref, err = "erased", nil // the record still says what was asked; opening fails later
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		refs[i] = ref
		if ref != "erased" {
			g.refs.put(k, ref)
		}
	}
	return refs, nil
}

// actorKey is how an actor is referred to in the log of the organisation whose data is asked for. An actor of another
// organisation has no key there and is named through the organisation's own.
func actorKey(organisation uuid.UUID, who principal.Principal) refKey {
	switch {
	case who.Organisation() != organisation:
		return refKey{organisation, organisation, who.Kind(), who.Organisation().String() + "/" + who.ID().String() + "/" + who.Name()}
	case who.Name() != "":
		return refKey{organisation, organisation, who.Kind(), who.Name()}
	}
	return refKey{organisation: organisation, id: who.ID()}
}

func (g *Gate) reference(k refKey, wrapped []byte) (string, error) {
	if k.name != "" {
		return g.ring.ReferenceText(k.organisation, wrapped, k.kind, k.name)
	}
	return g.ring.Reference(k.organisation, k.id, wrapped)
}

// wrappedKeys fetches wrapped keys; destroyed and unknown ones are absent.
func (g *Gate) wrappedKeys(ctx context.Context, organisation uuid.UUID, ids ...uuid.UUID) (map[uuid.UUID][]byte, error) {
	rows, err := g.pool.Query(ctx, "select key_id, wrapped from access.wrapped_keys($1, $2)", organisation, ids)
	if err != nil {
		return nil, fmt.Errorf("%w: get keys: %w", ErrUnavailable, err)
	}
	keys := make(map[uuid.UUID][]byte, len(ids))
	var id uuid.UUID
	var wrapped []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &wrapped}, func() error {
		keys[id], wrapped = wrapped, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: get keys: %w", ErrUnavailable, err)
	}
	return keys, nil
}

// ReferenceTexts is ReferenceText of several, each a kind and a text, for one look at the key.
func (g *Gate) ReferenceTexts(ctx context.Context, organisation uuid.UUID, all ...[2]string) ([]string, error) {
	wrapped, err := g.wrappedKeys(ctx, organisation, organisation)
	if err != nil {
		return nil, err
	}
	refs := make([]string, len(all))
	for i, one := range all {
		if refs[i], err = g.ring.ReferenceText(organisation, wrapped[organisation], one[0], one[1]); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// ReferenceText is the keyed name of something outside storage: an address, a network, a sign-in name.
func (g *Gate) ReferenceText(ctx context.Context, organisation uuid.UUID, kind, text string) (string, error) {
	refs, err := g.ReferenceTexts(ctx, organisation, [2]string{kind, text})
	if err != nil {
		return "", err
	}
	return refs[0], nil
}

// Reference is the keyed name under which a subject or conversation stands in the log; handles are made from it.
func (g *Gate) Reference(ctx context.Context, organisation, id uuid.UUID) (string, error) {
	k := refKey{organisation: organisation, id: id}
	if ref, ok := g.refs.get(k); ok {
		return ref, nil
	}
	wrapped, err := g.wrappedKeys(ctx, organisation, id)
	if err != nil {
		return "", err
	}
	ref, err := g.reference(k, wrapped[id])
	if err != nil {
		return "", err
	}
	g.refs.put(k, ref)
	return ref, nil
}

// NewKey makes the key of a new subject or conversation, to be stored by the caller's transaction, and its reference.
func (g *Gate) NewKey(organisation, id uuid.UUID) (wrapped []byte, reference string, err error) {
	if wrapped, err = g.ring.NewKey(organisation, id); err != nil {
		return nil, "", err
	}
	if reference, err = g.ring.Reference(organisation, id, wrapped); err != nil {
		return nil, "", err
	}
	g.refs.put(refKey{organisation: organisation, id: id}, reference)
	return wrapped, reference, nil
}
