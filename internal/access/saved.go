package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"counterfoil/internal/access/keyring"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Saved is a search that somebody keeps. What people call it is theirs, and lies in the database sealed; what it looks for holds
// references and no EUII, whatever was typed.
type Saved struct {
	ID          uuid.UUID `json:"id"`
	Owner       string    `json:"owner"` // by reference
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Filter      string    `json:"filter"`
	Readings    bool      `json:"readings,omitempty"` // readings of the log are shown too
	Shared      bool      `json:"shared"`
	Mine        bool      `json:"-"`
}

// ErrSaved refuses a name or description that is too long or says nothing, or one search too many.
var ErrSaved = errors.New("a saved search has a name of 1 to 60 characters and a description of at most 200, and nobody has more than a hundred")

func plain(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, unicode.IsControl)
}

// kept is what of a search is sealed. A row that somebody gave to another, or shared, in the database alone does not open as that.
type kept struct {
	Name, Description, Filter string
	Readings, Shared          bool
	Admin                     uuid.UUID
}

const sqlSaveSearch = "select access.save_search($1, $2, $3, $4, $5)"

// Save keeps a search for an administrator, or changes one of his, after that was decided and recorded.
func (g *Gate) Save(ctx context.Context, who principal.Admin, s Saved) error {
	s.Name, s.Description = strings.TrimSpace(s.Name), strings.TrimSpace(s.Description)
	if s.Name == "" || !plain(s.Name, 60) || !plain(s.Description, 200) {
		return ErrSaved
	}
	organisation := who.Organisation()
	f, err := filter.Parse(s.Filter)
	if err != nil {
		return err
	}
	sought, recorded, err := g.Seek(ctx, organisation, organisation, f)
	if err != nil {
		return err
	}
	if err := g.Act(ctx, who, policy.ReadAuditLog, organisation, "search.save", map[string]string{"search": s.ID.String(), "filter": recorded, "shared": truth(s.Shared)}); err != nil {
		return err
	}
	content, err := json.Marshal(kept{s.Name, s.Description, sought.String(), s.Readings, s.Shared, who.ID()})
	if err == nil {
		content, err = g.ring.WrapSecret(keyring.Saved, organisation, s.ID, content)
	}
	var done bool
	if err == nil {
		err = g.pool.QueryRow(ctx, sqlSaveSearch, organisation, s.ID, who.ID(), s.Shared, content).Scan(&done)
	}
	if err != nil {
		return fmt.Errorf("%w: save search: %w", ErrUnavailable, err)
	}
	if !done {
		return ErrSaved
	}
	return nil
}

const sqlDropSearch = "select access.drop_search($1, $2, $3)"

// Drop removes a search of an administrator's own; ErrUnknown when he has none with this id.
func (g *Gate) Drop(ctx context.Context, who principal.Admin, id uuid.UUID) error {
	if err := g.Act(ctx, who, policy.ReadAuditLog, who.Organisation(), "search.delete", map[string]string{"search": id.String()}); err != nil {
		return err
	}
	var done bool
	if err := g.pool.QueryRow(ctx, sqlDropSearch, who.Organisation(), id, who.ID()).Scan(&done); err != nil {
		return fmt.Errorf("%w: delete search: %w", ErrUnavailable, err)
	}
	if !done {
		return ErrUnknown
	}
	return nil
}

const sqlSavedSearches = "select saved_id, admin_id, content from access.saved_searches($1, $2)"

// Searches gives the searches of an administrator and those that are shared, by name; those alone when admin is zero.
func (g *Gate) Searches(ctx context.Context, organisation, admin uuid.UUID) ([]Saved, error) {
	rows, err := g.pool.Query(ctx, sqlSavedSearches, organisation, admin)
	if err != nil {
		return nil, fmt.Errorf("%w: list searches: %w", ErrUnavailable, err)
	}
	type row struct {
		ID, Admin uuid.UUID
		Content   []byte
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil {
		return nil, fmt.Errorf("%w: list searches: %w", ErrUnavailable, err)
	}
	all := make([]Saved, 0, len(found))
	for _, r := range found {
		var k kept
		content, err := g.ring.UnwrapSecret(keyring.Saved, organisation, r.ID, r.Content)
		if err == nil {
			err = json.Unmarshal(content, &k)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: list searches: %w", ErrUnavailable, err)
		}
		if k.Admin != r.Admin || !k.Shared && k.Admin != admin {
			g.logger.ErrorContext(ctx, "a saved search in the database is not one that was saved so", "search", r.ID)
			continue
		}
		owner, err := g.Reference(ctx, organisation, k.Admin)
		if err != nil {
			return nil, err
		}
		all = append(all, Saved{ID: r.ID, Owner: owner, Name: k.Name, Description: k.Description, Filter: k.Filter, Readings: k.Readings, Shared: k.Shared, Mine: k.Admin == admin})
	}
	slices.SortStableFunc(all, func(a, b Saved) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), strings.Compare(a.ID.String(), b.ID.String()))
	})
	return all, nil
}
