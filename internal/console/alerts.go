package console

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/internal/alerts"
	"counterfoil/internal/filter"
	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// alertsPage lists what the rules found, and which of the last days were looked through.
type alertsPage struct {
	Which  string // open, or acknowledged
	Alerts []shownAlert
	More   bool
	May    bool // acknowledge and sign off
	Days   []reviewedDay
}

type shownAlert struct {
	ID, Title, Why string
	At             time.Time
	Records        []uint64
	Silenced       bool
	By, Note       string // of whoever acknowledged it
	Acked          time.Time
}

type reviewedDay struct {
	Day, Text string // as addresses and as people have it
	By, Note  string
	Open      int
	Done      bool
}

// alertPage is one alert, explained.
type alertPage struct {
	shownAlert
	Rule  string // what it looks for
	About string // leads to the rule
	May   bool
}

// rulesPage lists the rules.
type rulesPage struct {
	Rules []shownRule
	May   bool // change them
}

type shownRule struct {
	ID, Title, Text string
	On, Own         bool
	Until           string // silenced until; empty when it is not
	By              string
}

// rulePage is one rule to be changed, or a new one.
type rulePage struct {
	shownRule
	Kind, Label, Filter, Zone, From, To, Subjects string
	AtLeast, Minutes, Days                        int
	Weekends, May                                 bool
	Actors                                        []choice
	Problem                                       string
}

// Has reports whether the rule has this term.
func (p rulePage) Has(term string) bool { return alerts.Needs(p.Kind, term) }

// receiversPage lists who is told, and what became of the newest messages.
type receiversPage struct {
	Receivers []shownReceiver
	Messages  []shownMessage
	May       bool
	Problem   string
	Target    string
}

type shownReceiver struct{ ID, Kind, Target, By string }

type shownMessage struct {
	To, State, Problem string
	Alerts, Attempts   int
	Status             int
	Made, Due          time.Time
	Tried              *time.Time
}

// secretPage shows what signs the messages to a receiver, once.
type secretPage struct{ Target, Secret string }

// alertsShown bounds a page of alerts, and so what is acknowledged in one go.
const alertsShown = 100

func (s *Server) alertRoutes(r chi.Router) {
	r.Get("/alerts", s.signedIn(s.alerts))
	r.Get("/alerts/{id}", s.signedIn(s.alert))
	s.act(r, "/alerts/acknowledge", s.acknowledgeAlerts)
	s.act(r, "/alerts/review", s.signOff)
	r.Get("/alerts/rules", s.signedIn(s.rules))
	r.Get("/alerts/rule", s.signedIn(s.rule))
	s.act(r, "/alerts/rule", s.putRule)
	s.act(r, "/alerts/rule/silence", s.silenceRule)
	s.act(r, "/alerts/rule/remove", s.removeRule)
	r.Get("/alerts/receivers", s.signedIn(s.receivers))
	s.act(r, "/alerts/receivers", s.addReceiver)
	s.act(r, "/alerts/receivers/try", s.aboutReceiver((*alerts.Watch).Try))
	s.act(r, "/alerts/receivers/remove", s.aboutReceiver((*alerts.Watch).Drop))
}

// handlesAlerts reports whether policy lets somebody handle alerts, so that he is shown how.
func handlesAlerts(admin principal.Admin) bool {
	return slices.ContainsFunc(admin.Roles(), func(r string) bool { return r == "auditor" || r == "security_admin" })
}

func changesAlerts(admin principal.Admin) bool {
	return slices.Contains(admin.Roles(), "security_admin")
}

// shownAlerts puts alerts into words, with the notes of those who acknowledged them.
func (s *Server) shownAlerts(r *http.Request, v visit, admin principal.Admin, all []alerts.Alert) ([]shownAlert, error) {
	var ids []uuid.UUID
	for _, a := range all {
		if a.Reason != uuid.Nil {
			ids = append(ids, a.Reason)
		}
	}
	labels := make(map[uuid.UUID]string) // of rules that administrators made
	if slices.ContainsFunc(all, func(a alerts.Alert) bool { return a.Kind == alerts.Count }) {
		rules, err := s.cfg.Alerts.Rules(r.Context(), admin.Organisation())
		if err != nil {
			return nil, err
		}
		for _, rule := range rules {
			labels[rule.ID] = rule.Label
		}
	}
	notes, err := s.cfg.Gate.Reasons(r.Context(), admin.Organisation(), ids...)
	shown := make([]shownAlert, len(all))
	for i, a := range all {
		shown[i] = shownAlert{ID: a.ID.String(), Title: cmp.Or(labels[a.Rule], alerts.Title(v.lang, a.Kind)), Why: a.Why(v.lang), At: a.At, Records: a.Records, Silenced: a.Silenced}
		if a.Acked != nil {
			shown[i].By, shown[i].Note, shown[i].Acked = handle(v.lang, a.AckedBy), notes[a.Reason], a.Acked.UTC()
		}
	}
	return shown, err
}

// reviewedDays are how many days back the page shows.
const reviewedDays = 7

func (s *Server) alerts(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	page := alertsPage{Which: alerts.Open, May: handlesAlerts(admin)}
	if r.URL.Query().Get("which") == alerts.Acknowledged {
		page.Which = alerts.Acknowledged
	}
	_, _, err := s.read(r, admin, "console.alerts", map[string]string{"which": page.Which})
	var found []alerts.Alert
	if err == nil {
		found, err = s.cfg.Alerts.List(r.Context(), admin.Organisation(), page.Which, alertsShown+1)
	}
	if err == nil {
		page.More = len(found) > alertsShown
		page.Alerts, err = s.shownAlerts(r, v, admin, found[:min(len(found), alertsShown)])
	}
	if err == nil {
		page.Days, err = s.reviewed(r, v, admin)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	s.show(w, r, v, admin, http.StatusOK, "alerts", page, link("/alerts", "which", r.URL.Query().Get("which")))
}

// reviewed are the last days, and who looked through them.
func (s *Server) reviewed(r *http.Request, v visit, admin principal.Admin) ([]reviewedDay, error) {
	today := s.cfg.Now().UTC().Truncate(24 * time.Hour)
	all, err := s.cfg.Alerts.Reviews(r.Context(), admin.Organisation(), today.AddDate(0, 0, 1-reviewedDays))
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(all))
	for i, review := range all {
		ids[i] = review.Reason
	}
	notes, err := s.cfg.Gate.Reasons(r.Context(), admin.Organisation(), ids...)
	if err != nil {
		return nil, err
	}
	days := make([]reviewedDay, reviewedDays)
	for i := range days {
		day := today.AddDate(0, 0, -i)
		days[i] = reviewedDay{Day: day.Format(time.DateOnly), Text: longDate(v.lang, day)}
		if n := slices.IndexFunc(all, func(review alerts.Review) bool { return review.Day.Equal(day) }); n >= 0 {
			days[i].Done, days[i].By, days[i].Note, days[i].Open = true, handle(v.lang, all[n].By), notes[all[n].Reason], all[n].Open
		}
	}
	return days, nil
}

func (s *Server) alert(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(chi.URLParam(r, "id"))
	if err != nil {
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	}
	_, _, err = s.read(r, admin, "console.alert", map[string]string{"alert": id.String()})
	var found []alerts.Alert
	if err == nil {
		found, err = s.cfg.Alerts.These(r.Context(), admin.Organisation(), id)
	}
	if err == nil && len(found) == 0 {
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		return
	}
	var shown []shownAlert
	if err == nil {
		shown, err = s.shownAlerts(r, v, admin, found)
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	a := found[0]
	rule := alerts.Describe(v.lang, alerts.Rule{Kind: a.Kind, Terms: a.Terms})
	name := "alert"
	if r.Header.Get("HX-Request") == "true" { // it opens beside a list
		name = "alert-beside"
	}
	s.show(w, r, v, admin, http.StatusOK, name, alertPage{shown[0], rule, link("/alerts/rule", "id", a.Rule), handlesAlerts(admin)}, page("/alerts/", id))
}

func (s *Server) acknowledgeAlerts(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	var ids []uuid.UUID
	for _, text := range r.PostForm["id"] {
		if id, err := uuid.Parse(text); err == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		s.say(w, r, v, admin, http.StatusBadRequest, "alertNone")
		return
	}
	if _, err := s.cfg.Alerts.Acknowledge(r.Context(), admin, r.PostFormValue("reason"), ids...); err != nil {
		s.failed(w, r, v, admin, policy.HandleAlerts, err)
		return
	}
	http.Redirect(w, r, "/alerts", http.StatusSeeOther)
}

func (s *Server) signOff(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	day, err := time.Parse(time.DateOnly, r.PostFormValue("day"))
	if err == nil {
		err = s.cfg.Alerts.SignOff(r.Context(), admin, day, r.PostFormValue("reason"))
	} else {
		err = alerts.ErrDay
	}
	switch {
	case errors.Is(err, alerts.ErrDay):
		s.say(w, r, v, admin, http.StatusConflict, "settled")
	case err != nil:
		s.failed(w, r, v, admin, policy.HandleAlerts, err)
	default:
		http.Redirect(w, r, "/alerts", http.StatusSeeOther)
	}
}

func (s *Server) shownRule(v visit, rule alerts.Rule) shownRule {
	shown := shownRule{ID: rule.ID.String(), Title: alerts.Title(v.lang, rule.Kind), Text: alerts.Describe(v.lang, rule), On: rule.On, Own: rule.Kind == alerts.Count}
	if rule.Label != "" {
		shown.Title = rule.Label
	}
	if rule.Quiet(s.cfg.Now()) {
		shown.Until, shown.By = moment(v.lang, *rule.Silenced), handle(v.lang, rule.By)
	}
	return shown
}

func (s *Server) rules(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	_, _, err := s.read(r, admin, "console.rules", nil)
	var all []alerts.Rule
	if err == nil {
		all, err = s.cfg.Alerts.Rules(r.Context(), admin.Organisation())
	}
	if err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	page := rulesPage{May: changesAlerts(admin)}
	for _, rule := range all {
		page.Rules = append(page.Rules, s.shownRule(v, rule))
	}
	s.show(w, r, v, admin, http.StatusOK, "alert-rules", page, "/alerts/rules")
}

// rule shows one rule with its terms, or, without an id, what makes a new one.
func (s *Server) rule(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.rule", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	rule := alerts.Rule{Kind: alerts.Count, On: true, Terms: alerts.Terms{Filter: r.URL.Query().Get("q"), AtLeast: 1, Minutes: 60}}
	if text := r.URL.Query().Get("id"); text != "" {
		id, err := uuid.Parse(text)
		if err == nil {
			rule, err = s.cfg.Alerts.Rule(r.Context(), admin.Organisation(), id)
		}
		if err != nil {
			s.say(w, r, v, admin, http.StatusNotFound, "notFound")
			return
		}
	}
	s.showRule(w, r, v, admin, http.StatusOK, rule, "")
}

func (s *Server) showRule(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, rule alerts.Rule, problem string) {
	t := rule.Terms
	page := rulePage{
		shownRule: s.shownRule(v, rule), Kind: rule.Kind, Label: rule.Label, Filter: t.Filter, AtLeast: t.AtLeast, Minutes: t.Minutes, Days: t.Days, From: t.From, To: t.To, Zone: t.Zone,
		Weekends: t.Weekends, Subjects: strings.Join(t.Subjects, "\n"), Problem: problem, May: changesAlerts(admin),
	}
	path := link("/alerts/rule", "id", rule.ID)
	if rule.ID == uuid.Nil {
		page.ID, page.Title, page.Text, path = "", word(v.lang, "ruleNew"), "", "/alerts/rule"
	}
	for _, kind := range alerts.ActorKinds() {
		page.Actors = append(page.Actors, choice{kind, word(v.lang, "kind_"+kind), slices.Contains(t.Actors, kind)})
	}
	s.show(w, r, v, admin, status, "alert-rule", page, path)
}

// putRule keeps a rule as it stands in the form.
func (s *Server) putRule(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	number := func(name string) int { n, _ := strconv.Atoi(r.PostFormValue(name)); return n } // 0 is refused where a number is needed
	rule := alerts.Rule{Kind: r.PostFormValue("kind"), Label: r.PostFormValue("label"), On: r.PostFormValue("on") != "", Terms: alerts.Terms{
		Filter: r.PostFormValue("filter"), AtLeast: number("at_least"), Minutes: number("minutes"), Days: number("days"), From: r.PostFormValue("from"), To: r.PostFormValue("to"),
		Zone: r.PostFormValue("zone"), Weekends: r.PostFormValue("weekends") != "", Actors: r.PostForm["actor"], Subjects: strings.Fields(r.PostFormValue("subjects")),
	}}
	if text := r.PostFormValue("id"); text != "" {
		id, err := uuid.Parse(text)
		var known alerts.Rule
		if err == nil {
			known, err = s.cfg.Alerts.Rule(r.Context(), admin.Organisation(), id)
		}
		if err != nil {
			s.say(w, r, v, admin, http.StatusNotFound, "notFound")
			return
		}
		rule.ID, rule.Kind = id, known.Kind
	} else {
		rule.Kind = alerts.Count
	}
	err := s.cfg.Alerts.Put(r.Context(), admin, rule)
	var wrong *filter.Error
	switch {
	case errors.As(err, &wrong):
		s.showRule(w, r, v, admin, http.StatusBadRequest, rule, "ruleBadFilter")
	case errors.Is(err, alerts.ErrTerms):
		s.showRule(w, r, v, admin, http.StatusBadRequest, rule, "ruleBad")
	case err != nil:
		s.failed(w, r, v, admin, policy.Administer, err)
	default:
		http.Redirect(w, r, "/alerts/rules", http.StatusSeeOther)
	}
}

func (s *Server) silenceRule(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, errID := uuid.Parse(r.PostFormValue("id"))
	hours, errHours := strconv.Atoi(r.PostFormValue("hours"))
	if errID != nil || errHours != nil {
		s.say(w, r, v, admin, http.StatusBadRequest, "notFound")
		return
	}
	s.ruleDone(w, r, v, admin, s.cfg.Alerts.Silence(r.Context(), admin, id, time.Duration(min(max(hours, -1), 10000))*time.Hour))
}

func (s *Server) removeRule(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	id, err := uuid.Parse(r.PostFormValue("id"))
	if err == nil {
		err = s.cfg.Alerts.Remove(r.Context(), admin, id)
	} else {
		err = alerts.ErrNoRule
	}
	s.ruleDone(w, r, v, admin, err)
}

func (s *Server) ruleDone(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, err error) {
	switch {
	case errors.Is(err, alerts.ErrNoRule):
		s.say(w, r, v, admin, http.StatusNotFound, "notFound")
	case errors.Is(err, alerts.ErrTerms):
		s.say(w, r, v, admin, http.StatusBadRequest, "badForm")
	case err != nil:
		s.failed(w, r, v, admin, policy.Administer, err)
	default:
		http.Redirect(w, r, "/alerts/rules", http.StatusSeeOther)
	}
}

func (s *Server) receivers(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	if _, _, err := s.read(r, admin, "console.receivers", nil); err != nil {
		s.failed(w, r, v, admin, policy.ReadAuditLog, err)
		return
	}
	s.showReceivers(w, r, v, admin, http.StatusOK, receiversPage{})
}

// messagesShown are how many messages the page shows.
const messagesShown = 25

func (s *Server) showReceivers(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin, status int, page receiversPage) {
	all, err := s.cfg.Alerts.Receivers(r.Context(), admin.Organisation())
	var messages []alerts.Message
	if err == nil {
		messages, err = s.cfg.Alerts.Messages(r.Context(), admin.Organisation(), messagesShown)
	}
	if err != nil {
		s.trouble(w, r, v, err)
		return
	}
	page.May = changesAlerts(admin)
	to := make(map[uuid.UUID]string)
	for _, receiver := range all {
		to[receiver.ID] = receiver.Hint()
		if receiver.Removed == nil {
			page.Receivers = append(page.Receivers, shownReceiver{receiver.ID.String(), word(v.lang, "receiver_"+receiver.Kind), receiver.Hint(), handle(v.lang, receiver.By)})
		}
	}
	for _, m := range messages {
		page.Messages = append(page.Messages, shownMessage{to[m.Receiver], m.State, m.Problem, len(m.Alerts), m.Attempts, m.Status, m.Made.UTC(), m.Due.UTC(), m.Tried})
	}
	s.show(w, r, v, admin, status, "alert-receivers", page, "/alerts/receivers")
}

// addReceiver keeps who is to be told, and shows the secret of a webhook, this once.
func (s *Server) addReceiver(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
	target := r.PostFormValue("target")
	secret, err := s.cfg.Alerts.Add(r.Context(), admin, target)
	switch {
	case errors.Is(err, alerts.ErrTarget):
		s.showReceivers(w, r, v, admin, http.StatusBadRequest, receiversPage{Problem: "receiverBad", Target: target})
	case errors.Is(err, alerts.ErrNoMail):
		s.showReceivers(w, r, v, admin, http.StatusBadRequest, receiversPage{Problem: "receiverNoMail", Target: target})
	case err != nil:
		s.failed(w, r, v, admin, policy.Administer, err)
	case secret == "":
		http.Redirect(w, r, "/alerts/receivers", http.StatusSeeOther)
	default:
		s.show(w, r, v, admin, http.StatusOK, "alert-secret", secretPage{strings.TrimSpace(target), secret}, "")
	}
}

// aboutReceiver does something about one receiver.
func (s *Server) aboutReceiver(do func(*alerts.Watch, context.Context, principal.Principal, uuid.UUID) error) func(http.ResponseWriter, *http.Request, visit, principal.Admin) {
	return func(w http.ResponseWriter, r *http.Request, v visit, admin principal.Admin) {
		id, err := uuid.Parse(r.PostFormValue("id"))
		if err == nil {
			err = do(s.cfg.Alerts, r.Context(), admin, id)
		} else {
			err = alerts.ErrNoReceiver
		}
		switch {
		case errors.Is(err, alerts.ErrNoReceiver):
			s.say(w, r, v, admin, http.StatusNotFound, "notFound")
		case err != nil:
			s.failed(w, r, v, admin, policy.Administer, err)
		default:
			http.Redirect(w, r, "/alerts/receivers", http.StatusSeeOther)
		}
	}
}
