package console

import (
	"context"
	"fmt"
	"strconv"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/control"
	"counterfoil/internal/principal"
)

// erased are those of the references on a page that stand for what was erased, with the record that certifies it.
type erased map[string]control.Gone

// handle is the neutral name of a person or thing, or says that it was erased.
func (gone erased) handle(lang string, p audit.Party) string {
	if at, ok := gone[p.Ref]; ok && p.Ref != "" {
		return word(lang, "erasedSubject") + " #" + strconv.FormatUint(at.Certificate, 10)
	}
	return handle(lang, p)
}

func (gone erased) has(ref string) bool {
	_, ok := gone[ref]
	return ok
}

// erased tells what was erased of whom and what records speak of.
func (s *Server) erased(ctx context.Context, admin principal.Admin, entries ...audit.Entry) (erased, error) {
	refs := make([]string, 0, 3*len(entries))
	for _, e := range entries {
		refs = append(refs, e.Actor.Ref, e.Subject.Ref, e.Conversation)
	}
	return s.erasedOf(ctx, admin, refs)
}

func (s *Server) erasedOf(ctx context.Context, admin principal.Admin, refs []string) (erased, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	return s.cfg.Control.Erased(ctx, admin.Organisation(), refs...)
}

// parsed reads records that were found, and tells what was erased of whom they speak of.
func (s *Server) parsed(ctx context.Context, admin principal.Admin, found []pglog.Found) (entries []audit.Entry, gone erased, err error) {
	for _, f := range found {
		e, err := audit.ParseEntry(f.Body)
		if err != nil {
			return nil, nil, fmt.Errorf("the log in the database is damaged: %w", err)
		}
		entries = append(entries, e)
	}
	gone, err = s.erased(ctx, admin, entries...)
	return entries, gone, err
}

// stillThere says of somebody whom a form names whether he was erased.
func (s *Server) stillThere(ctx context.Context, admin principal.Admin, p person) (bool, error) {
	gone, err := s.erasedOf(ctx, admin, []string{p.Ref})
	return !gone.has(p.Ref), err
}
