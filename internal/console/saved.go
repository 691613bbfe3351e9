package console

import (
	"errors"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/audit"
	"counterfoil/internal/access"
	"counterfoil/internal/principal"
	"counterfoil/internal/web"
	"counterfoil/policy"
)

// savedRoutes are what one does with searches that are kept. They are listed where one searches.
func (s *Server) savedRoutes(r chi.Router) {
	s.act(r, "/searches", s.saveSearch)
	s.act(r, "/searches/delete", s.dropSearch)
	r.Get("/api/v1/searches", s.program(s.apiSearches))
}

// saved is a search that is kept, as a page shows it.
type saved struct {
	access.Saved
	Who   string
	Shown string // as an address says that readings are shown
	Now   bool   // it is what the page shows
}

// saving is the fields in which one writes what a search is called.
type saving struct {
	view
	ID, Name, Description string
	Shared                bool
}

// Saving makes these fields on a page.
func (v view) Saving(id, name, description string, shared bool) saving {
	return saving{v, id, name, description, shared}
}

// searches are those that an administrator can open.
func (s *Server) searches(r *http.Request, lang string, admin principal.Admin, text string) ([]saved, error) {
	all, err := s.cfg.Gate.Searches(r.Context(), admin.Organisation(), admin.ID())
	if err != nil {
		return nil, err
	}
	list := make([]saved, len(all))
	for i, x := range all {
		list[i] = saved{x, handle(lang, audit.Party{Kind: "admin", Ref: x.Owner}), search{readings: x.Readings}.Shown(), text != "" && text == x.Filter}
	}
	return list, nil
}

// saveSearch keeps what the page looks for, or gives a search another name, description or readership.
func (s *Server) saveSearch(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	x := access.Saved{ID: uuid.New(), Name: r.PostFormValue("name"), Description: r.PostFormValue("description"), Filter: r.PostFormValue("q"), Readings: r.PostFormValue("readings") != "", Shared: r.PostFormValue("shared") != ""}
	if text := r.PostFormValue("id"); text != "" {
		id, err := uuid.Parse(text)
		if err != nil {
			s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
			return
		}
		x.ID = id
	}
	switch err := s.cfg.Gate.Save(r.Context(), admin, x); {
	case errors.Is(err, access.ErrSaved), asFilterError(err) != nil:
		s.say(w, r, v, admin, http.StatusBadRequest, "badSaved")
	case err != nil:
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
	default:
		http.Redirect(w, r, link("/events", "q", x.Filter, "readings", search{readings: x.Readings}.Shown()), http.StatusSeeOther)
	}
}

func (s *Server) dropSearch(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	if err := s.cfg.Gate.Drop(r.Context(), admin, id); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	http.Redirect(w, r, "/events", http.StatusSeeOther)
}

// apiSearches lists the searches that are shared.
func (s *Server) apiSearches(w http.ResponseWriter, r *http.Request, c principal.Client) error {
	if _, _, err := s.read(r, c, "api.searches", nil); err != nil {
		return err
	}
	all, err := s.cfg.Gate.Searches(r.Context(), c.Organisation(), uuid.Nil)
	if err != nil {
		return err
	}
	web.JSON(w, http.StatusOK, struct {
		Searches []access.Saved `json:"searches"`
	}{all})
	return nil
}
