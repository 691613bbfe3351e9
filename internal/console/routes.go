package console

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"counterfoil/internal/principal"
	"counterfoil/policy"
)

// Declared is what a route of the console touches, why, and what of it stands in the log.
type Declared struct {
	Class   Class
	Purpose policy.Purpose // empty where nothing is decided
	Record  string         // action of the record; empty where the route only leads on
}

// Class is the kind of data that a route shows or takes.
type Class string

// The classes of data.
const (
	None       Class = "none"       // fixed files and ways to other pages
	References Class = "references" // records and handles, no person
	Secrets    Class = "secrets"    // passwords, codes, seeds, links
	EUII       Class = "euii"       // names, emails, addresses, what people wrote
)

// Declarations has a line for every route. A test walks the router and holds both against each other, and the record of
// each page against the log.
func Declarations() map[string]Declared {
	return map[string]Declared{
		"GET /set-up":               {Secrets, "", ""},
		"POST /set-up":              {Secrets, "", ""}, // recorded when a code confirms it
		"POST /set-up/confirm":      {Secrets, "", "admin.set_up"},
		"GET /assets/{file}":        {None, "", ""},
		"GET /favicon.ico":          {None, "", ""},
		"POST /violations":          {None, "", ""},
		"GET /sign-in":              {Secrets, "", ""},
		"POST /sign-in":             {Secrets, "", "sign_in.password"},
		"GET /sign-in/code":         {Secrets, "", ""},
		"POST /sign-in/code":        {Secrets, "", "sign_in.complete"},
		"POST /sign-in/recovery":    {Secrets, "", "sign_in.recovery_code"},
		"GET /sign-in/unlock":       {Secrets, "", ""},
		"POST /sign-in/unlock":      {Secrets, "", "sign_in.unlock"},
		"POST /sign-out":            {None, "", "sign_out"},
		"GET /":                     {References, policy.ReadAuditLog, "console.overview"},
		"GET /events":               {References, policy.ReadAuditLog, "console.events"},
		"GET /events/{seq}":         {References, policy.ReadAuditLog, "console.event"},
		"GET /events/{seq}/session": {References, policy.ReadAuditLog, "console.session"},
		"GET /access/signed-in":     {References, policy.ReadAuditLog, "console.signed_in"},
		"GET /export":               {References, policy.ReadAuditLog, "console.exported"},
		"POST /export/approved":     {References, policy.ExportRecords, "console.export_begun"},
		"GET /live":                 {References, policy.ReadAuditLog, "console.live"},
		"GET /live/stream":          {References, policy.ReadAuditLog, "console.live"},
		"GET /people":               {References, policy.ReadAuditLog, "console.people"},
		"GET /people/{ref}":         {References, policy.ReadAuditLog, "console.person"},
		"GET /letters/{ref}":        {References, policy.ReadAuditLog, "console.letter"},
		"GET /who/pairs":            {References, policy.ReadAuditLog, "console.exported"},
		"GET /who":                  {References, policy.ReadAuditLog, "console.who"},

		"POST /searches":        {EUII, policy.ReadAuditLog, "search.save"}, // people call a search what they like
		"POST /searches/delete": {References, policy.ReadAuditLog, "search.delete"},
		"GET /api/v1/searches":  {EUII, policy.ReadAuditLog, "api.searches"},

		"GET /policy":          {References, policy.ReadAuditLog, "console.policy"},
		"GET /policy/simulate": {References, policy.ReadAuditLog, "console.simulate"},
		"GET /policy/replay":   {References, policy.ReadAuditLog, "console.replay"},

		"GET /integrity":             {References, policy.ReadAuditLog, "console.integrity"},
		"POST /integrity/verify":     {References, policy.ReadAuditLog, "console.verify"},
		"GET /integrity/verify":      {None, "", ""}, // says how far it is
		"GET /integrity/proof":       {References, policy.ReadAuditLog, "console.proof"},
		"GET /integrity/consistency": {References, policy.ReadAuditLog, "console.consistency"},

		"POST /step-up":                       {Secrets, "", "step_up"},
		"GET /reveal":                         {References, policy.ReadAuditLog, "console.reveal"},
		"POST /reveal":                        {EUII, policy.RevealToAdmin, string(policy.RevealToAdmin)},
		"GET /approvals":                      {EUII, policy.ReadAuditLog, "console.approvals"},
		"GET /approvals/{id}":                 {EUII, policy.ReadAuditLog, "console.approval"},
		"GET /approvals/ask":                  {References, policy.ReadAuditLog, "console.ask"},
		"POST /approvals/ask":                 {EUII, "", "approval.ask"},
		"POST /approvals/decide":              {EUII, policy.ApproveBreakGlass, "approval.approve"},
		"POST /approvals/withdraw":            {References, "", "approval.withdraw"},
		"POST /approvals/end":                 {References, "", "approval.end"},
		"POST /approvals/review":              {References, "", "approval.review"},
		"GET /allowlist":                      {EUII, policy.ReadAuditLog, "console.allowlist"},
		"POST /allowlist/show":                {EUII, policy.Administer, "allowlist.show"},
		"POST /allowlist/add":                 {EUII, policy.Administer, "allowlist.add"},
		"POST /allowlist/remove":              {EUII, policy.Administer, "allowlist.remove"},
		"POST /allowlist/settle":              {References, policy.Administer, "allowlist.confirm"},
		"POST /allowlist/apply":               {EUII, policy.ChangeTogether, "allowlist.remove"},
		"POST /allowlist/acknowledge":         {References, policy.Administer, "allowlist.acknowledge"},
		"GET /access":                         {References, policy.ReadAuditLog, "console.access"},
		"POST /access/invite":                 {Secrets, policy.Administer, "admin.setup_link"},
		"POST /access/disable":                {References, policy.Administer, "admin.disable"},
		"POST /access/revoke":                 {References, policy.Administer, "session.revoke"},
		"POST /access/authenticators":         {Secrets, policy.OwnAccount, "factor.begin"},
		"POST /access/authenticators/confirm": {Secrets, policy.OwnAccount, "factor.add"},
		"POST /access/authenticators/remove":  {References, policy.OwnAccount, "factor.remove"},
		"POST /access/passkeys":               {Secrets, policy.OwnAccount, "passkey.begin"},
		"POST /access/passkeys/confirm":       {Secrets, policy.OwnAccount, "passkey.add"},
		"POST /access/passkeys/remove":        {References, policy.OwnAccount, "passkey.remove"},
		"POST /access/codes":                  {Secrets, policy.OwnAccount, "recovery_codes.renewed"},
		"POST /notices/read":                  {None, "", "notices.read"},

		"GET /alerts":                   {References, policy.ReadAuditLog, "console.alerts"},
		"GET /alerts/{id}":              {References, policy.ReadAuditLog, "console.alert"},
		"POST /alerts/acknowledge":      {References, policy.HandleAlerts, "alert.acknowledge"},
		"POST /alerts/review":           {References, policy.HandleAlerts, "review.day"},
		"GET /alerts/rules":             {References, policy.ReadAuditLog, "console.rules"},
		"GET /alerts/rule":              {References, policy.ReadAuditLog, "console.rule"},
		"POST /alerts/rule":             {References, policy.Administer, "alert.rule"},
		"POST /alerts/rule/silence":     {References, policy.Administer, "alert.silence"},
		"POST /alerts/rule/remove":      {References, policy.Administer, "alert.rule_remove"},
		"GET /alerts/receivers":         {References, policy.ReadAuditLog, "console.receivers"},
		"POST /alerts/receivers":        {Secrets, policy.Administer, "alert.receiver"},
		"POST /alerts/receivers/try":    {References, policy.Administer, "alert.try"},
		"POST /alerts/receivers/remove": {References, policy.Administer, "alert.receiver_remove"},
		"GET /policy/activation":        {References, policy.ReadAuditLog, "console.activation"},
		"POST /policy/demand":           {References, policy.Administer, "policy.demand"},
		"POST /policy/choose":           {References, policy.ChangeTogether, "policy.activate"},
		"POST /access/roles":            {References, policy.Administer, "admin.roles"},
		"GET /access/address":           {References, policy.ReadAuditLog, "console.address"},
		"POST /access/address":          {EUII, policy.RevealToAdmin, string(policy.RevealToAdmin)},
		"GET /access/reviews":           {References, policy.ReadAuditLog, "console.access_reviews"},
		"POST /access/reviews":          {References, policy.Administer, "access_review.begin"},
		"GET /access/reviews/{id}":      {EUII, policy.ReadAuditLog, "console.access_review"},
		"POST /access/reviews/decide":   {EUII, policy.Administer, "access_review.decide"},
		"GET /transcript":               {References, policy.ReadAuditLog, "console.transcript"},
		"POST /transcript":              {EUII, policy.ReadTranscript, string(policy.ReadTranscript)},
		"GET /notices":                  {References, policy.ReadAuditLog, "console.notices"},
		"POST /notices/draft":           {References, policy.EndUserPolicy, "notice.draft"},
		"POST /notices/publish":         {References, policy.EndUserPolicy, "notice.publish"},
		"GET /requests":                 {References, policy.HandleRequest, "console.requests"},
		"GET /requests/new":             {References, policy.HandleRequest, "console.new_request"},
		"GET /requests/{id}":            {EUII, policy.HandleRequest, "console.request"},
		"POST /requests/find":           {EUII, policy.FindPerson, string(policy.FindPerson)},
		"POST /requests/open":           {EUII, policy.HandleRequest, "request.open"},
		"POST /requests/step":           {EUII, policy.HandleRequest, "request.answered"},
		"POST /requests/use":            {References, policy.HandleRequest, "request.restrict"},
		"POST /requests/correct":        {EUII, policy.AnswerRequest, string(policy.AnswerRequest)},
		"POST /requests/erase":          {EUII, policy.EraseData, "erasure.order"},
		"POST /requests/file":           {EUII, policy.AnswerRequest, string(policy.AnswerRequest)},

		"GET /controls":                   {EUII, policy.ReadAuditLog, "console.controls"}, // the reasons of holds
		"GET /controls/certificate/{id}":  {References, policy.ReadAuditLog, "console.certificate"},
		"POST /controls/retention":        {References, policy.ControlData, "retention.set"},
		"POST /controls/hold":             {EUII, policy.ControlData, "hold.place"},
		"POST /controls/lift":             {EUII, policy.ControlData, "hold.lift"},
		"POST /controls/erase":            {References, policy.EraseData, "erasure.order"},
		"POST /controls/organisation":     {References, policy.EraseOrganisation, "erasure.order"},
		"GET /archive":                    {References, policy.ReadAuditLog, "console.archive"},
		"POST /archive/plan":              {References, policy.ControlData, "archive.plan"},
		"POST /archive/now":               {References, policy.ControlData, "archive.ask"},
		"GET /egress":                     {References, policy.ReadAuditLog, "console.egress"},
		"GET /access/tokens":              {References, policy.ReadAuditLog, "console.tokens"},
		"POST /access/tokens":             {Secrets, policy.Administer, "token.make"},
		"POST /access/tokens/revoke":      {References, policy.Administer, "token.revoke"},
		"GET /api/v1/openapi.json":        {None, "", ""},
		"GET /api/v1/records":             {References, policy.ReadAuditLog, "api.records"},
		"GET /api/v1/records/{seq}":       {References, policy.ReadAuditLog, "api.record"},
		"GET /api/v1/records/{seq}/proof": {References, policy.ReadAuditLog, "api.proof"},
		"GET /api/v1/counts":              {References, policy.ReadAuditLog, "api.counts"},
		"GET /api/v1/checkpoint":          {References, policy.ReadAuditLog, "api.checkpoint"},
	}
}

// accessRoutes are the pages of who may do what, and all that is done there.
func (s *Server) accessRoutes(r chi.Router) {
	s.act(r, "/step-up", s.stepUp)
	r.Get("/reveal", s.signedIn(s.showReveal))
	s.act(r, "/reveal", s.reveal)
	r.Get("/approvals", s.signedIn(s.approvals))
	r.Get("/approvals/ask", s.signedIn(s.showAsk))
	r.Get("/approvals/{id}", s.signedIn(s.report))
	s.act(r, "/approvals/ask", s.ask)
	s.act(r, "/approvals/decide", s.decide)
	s.act(r, "/approvals/withdraw", s.settle(func(r *http.Request, admin principal.Admin, id uuid.UUID) error {
		return s.cfg.Gate.Withdraw(r.Context(), admin, id)
	}))
	s.act(r, "/approvals/end", s.settle(func(r *http.Request, admin principal.Admin, id uuid.UUID) error {
		return s.cfg.Gate.End(r.Context(), admin, id)
	}))
	s.act(r, "/approvals/review", s.settle(func(r *http.Request, admin principal.Admin, id uuid.UUID) error {
		return s.cfg.Gate.Review(r.Context(), admin, id)
	}))
	r.Get("/allowlist", s.signedIn(s.allowlist))
	s.act(r, "/allowlist/show", s.showNetworks)
	s.act(r, "/allowlist/add", s.changeAllowlist("add"))
	s.act(r, "/allowlist/remove", s.changeAllowlist("remove"))
	s.act(r, "/allowlist/settle", s.settleAllowlist)
	s.act(r, "/allowlist/apply", s.apply)
	s.act(r, "/allowlist/acknowledge", s.acknowledge)
	r.Get("/access", s.signedIn(s.access))
	r.Get("/access/signed-in", s.signedIn(s.signedInAt))
	s.act(r, "/access/invite", s.invite)
	s.act(r, "/access/disable", s.disable)
	s.act(r, "/access/revoke", s.revoke)
	s.act(r, "/access/authenticators", s.addAuthenticator)
	s.act(r, "/access/authenticators/confirm", s.confirmAuthenticator)
	s.act(r, "/access/authenticators/remove", s.removeAuthenticator)
	s.act(r, "/access/passkeys", s.addPasskey)
	s.act(r, "/access/passkeys/confirm", s.confirmPasskey)
	s.act(r, "/access/passkeys/remove", s.removePasskey)
	s.act(r, "/access/codes", s.renewCodes)
	s.act(r, "/notices/read", s.readNotices)
}
