package console

import (
	"errors"
	"net/http"
	"strconv"

	"counterfoil/internal/chat"
	"counterfoil/internal/principal"
	"counterfoil/internal/store"
	"counterfoil/policy"
)

// noticesPage shows what visitors and agents are told, and who accepted it.
type noticesPage struct{ For []noticeShown }

// noticeShown is the notice for one audience.
type noticeShown struct {
	Audience, Title, Since string
	Version                int
	Texts                  []noticeText // in force
	Draft                  int          // its version; 0 without one
	DraftEN, DraftFR       string
	Accepted               []acceptance
}

type noticeText struct {
	Lang, Name string
	Paragraphs []chat.Paragraph
}

// acceptance is how many accepted a version.
type acceptance struct {
	Version int
	EN, FR  int64
}

func (s *Server) notices(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.notices", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	var page noticesPage
	for _, audience := range []chat.Audience{chat.ForVisitors, chat.ForAgents} {
		all, err := s.cfg.Store.Editions(r.Context(), admin.Organisation(), audience)
		if err != nil {
			s.trouble(w, r, v, err)
			return
		}
		shown := noticeShown{Audience: string(audience), Title: word(v.lang, "notice_"+string(audience))}
		for _, e := range all {
			if e.Version > 1 && e.Published.IsZero() {
				shown.Draft, shown.DraftEN, shown.DraftFR = e.Version, e.Texts["en"], e.Texts["fr"]
				continue
			}
			if shown.Version == 0 {
				shown.Version, shown.Since = e.Version, word(v.lang, "noticeBuiltIn")
				if !e.Published.IsZero() {
					shown.Since = moment(v.lang, e.Published)
				}
				for _, lang := range chat.Languages() {
					shown.Texts = append(shown.Texts, noticeText{lang, word(v.lang, "lang_"+lang), e.Paragraphs(lang)})
				}
				if shown.Draft == 0 {
					shown.DraftEN, shown.DraftFR = e.Texts["en"], e.Texts["fr"]
				}
			}
			shown.Accepted = append(shown.Accepted, acceptance{e.Version, e.Accepted["en"], e.Accepted["fr"]})
		}
		page.For = append(page.For, shown)
	}
	s.show(w, r, v, admin, http.StatusOK, "notices", page, "/notices")
}

// ofNotice reads whom a form is about.
func ofNotice(r *http.Request) (chat.Audience, bool) {
	a := chat.Audience(r.PostFormValue("audience"))
	return a, a == chat.ForVisitors || a == chat.ForAgents
}

// draftNotice keeps a text for later, which is recorded without it.
func (s *Server) draftNotice(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	audience, ok := ofNotice(r)
	n := chat.Notice{Audience: audience, Texts: make(map[string]string)}
	for _, lang := range chat.Languages() {
		text, err := chat.NoticeText(r.PostFormValue(lang))
		if err != nil || !ok {
			s.say(w, r, v, admin, http.StatusBadRequest, "badNotice")
			return
		}
		n.Texts[lang] = text
	}
	err := s.cfg.Gate.Act(r.Context(), admin, policy.EndUserPolicy, admin.Organisation(), "notice.draft", map[string]string{"notice.audience": string(audience)})
	if err == nil {
		_, err = s.cfg.Store.Draft(r.Context(), admin.Organisation(), n)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.EndUserPolicy, err)
		return
	}
	http.Redirect(w, r, "/notices", http.StatusSeeOther)
}

// publishNotice puts a draft in force: from then on everybody is asked again.
func (s *Server) publishNotice(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	audience, ok := ofNotice(r)
	version, err := strconv.Atoi(r.PostFormValue("version"))
	if err != nil || !ok {
		s.say(w, r, v, admin, http.StatusBadRequest, "badForm")
		return
	}
	err = s.cfg.Gate.Act(r.Context(), admin, policy.EndUserPolicy, admin.Organisation(), "notice.publish", map[string]string{"notice.audience": string(audience), "notice.version": strconv.Itoa(version)})
	if err == nil {
		err = s.cfg.Store.Publish(r.Context(), admin.Organisation(), audience, version)
	}
	if errors.Is(err, store.ErrNoDraft) {
		s.say(w, r, v, admin, http.StatusConflict, "settled")
		return
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.EndUserPolicy, err)
		return
	}
	http.Redirect(w, r, "/notices", http.StatusSeeOther)
}
