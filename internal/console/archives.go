package console

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"counterfoil/internal/access"
	"counterfoil/internal/archive"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// archivesPage is to whose key archives are sealed, and which there are.
type archivesPage struct {
	Recipient, Every, Place, Key string
	Archives                     []shownArchive
	Problem                      string
	May, Ready                   bool
}

type shownArchive struct {
	Name, State, Conversations, Files, Bytes, Until string
	Number                                          int
	Began                                           time.Time
	Record                                          *uint64
	Whole                                           bool
}

func (s *Server) archiveRoutes(r chi.Router) {
	r.Get("/archive", s.signedIn(s.archives))
	s.act(r, "/archive/plan", s.planArchives)
	s.act(r, "/archive/now", s.archiveNow)
}

// archivesShown is how many archives are listed.
const archivesShown = 100

func (s *Server) archives(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.archive", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	s.showArchives(w, r, v, admin, http.StatusOK, "")
}

func (s *Server) showArchives(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, problem string) {
	ctx, organisation := r.Context(), admin.Organisation()
	page := archivesPage{Problem: problem, May: slices.Contains(admin.Roles(), "privacy_officer"), Ready: s.cfg.Archives.Ready(), Place: s.cfg.Archives.Place(organisation), Every: "1"}
	plan, err := s.cfg.Archives.Plan(ctx, organisation)
	var all []archive.Archive
	if err == nil {
		all, err = s.cfg.Archives.Archives(ctx, organisation, archivesShown)
	}
	if err == nil {
		head, headErr := s.cfg.Log.Head(ctx, organisation)
		if err = headErr; err == nil {
			page.Key, err = s.cfg.Log.VerifierKey(head.Origin)
		}
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	if page.Recipient = plan.Recipient; plan.Recipient != "" {
		page.Every = strconv.Itoa(plan.Every)
	}
	for _, a := range all {
		one := shownArchive{Name: a.Name, Number: a.Number, Began: a.Began.UTC(), Record: a.Record, Conversations: number64(v.lang, a.Conversations), Files: number64(v.lang, a.Parts),
			Bytes: number64(v.lang, a.Bytes), Until: longDate(v.lang, a.Until.UTC()), State: word(v.lang, "archiveUnderWay")}
		switch {
		case a.Removed != nil:
			one.State = word(v.lang, "archiveRemoved")
		case a.GivenUp != nil:
			one.State = word(v.lang, "archiveGivenUp")
		case a.Made != nil:
			one.State, one.Whole = word(v.lang, "archiveMade"), true
		}
		page.Archives = append(page.Archives, one)
	}
	s.show(w, r, v, admin, status, "archive", page, "/archive")
}

// notArchived answers what an act of this page ended in.
func (s *Server) notArchived(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, err error) {
	for what, problem := range map[error]string{archive.ErrRecipient: "archiveNoRecipient", archive.ErrNoTarget: "archiveNoPlace", archive.ErrNoRecipient: "archiveFirst", errControls: "archiveBad"} {
		if errors.Is(err, what) {
			s.showArchives(w, r, v, admin, http.StatusConflict, problem)
			return
		}
	}
	s.failed(w, r, v, admin, policy.ControlData, err)
}

func (s *Server) planArchives(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	recipient := strings.TrimSpace(r.PostFormValue("recipient"))
	every, err := strconv.Atoi(r.PostFormValue("every"))
	if err != nil || every < 0 || every > 31 {
		s.notArchived(w, r, v, admin, errControls)
		return
	}
	on, err := s.becauseOf(r, admin)
	if err == nil {
		err = s.cfg.Archives.SetPlan(r.Context(), admin, admin.Organisation(), recipient, every, on)
	}
	if err != nil {
		s.notArchived(w, r, v, admin, err)
		return
	}
	http.Redirect(w, r, "/archive", http.StatusSeeOther)
}

// archiveNow asks for an archive; the queue makes it.
func (s *Server) archiveNow(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	plan, err := s.cfg.Archives.Plan(r.Context(), admin.Organisation())
	switch {
	case err != nil:
	case !s.cfg.Archives.Ready():
		err = archive.ErrNoTarget
	case plan.Recipient == "":
		err = archive.ErrNoRecipient
	}
	var on access.Grounds
	if err == nil {
		on, err = s.becauseOf(r, admin)
	}
	if err == nil {
		_, err = s.cfg.Gate.Order(r.Context(), admin, access.Order{Organisation: admin.Organisation(), Purpose: policy.ControlData, Action: archive.ActAsk, On: on})
	}
	if err == nil {
		err = s.cfg.EnqueueArchive(r.Context(), admin.Organisation())
	}
	if err != nil {
		s.notArchived(w, r, v, admin, err)
		return
	}
	http.Redirect(w, r, "/archive", http.StatusSeeOther)
}
