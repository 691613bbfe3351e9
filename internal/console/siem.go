package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
)

// ocsfVersion is the version of the Open Cybersecurity Schema Framework that an export follows, with its profile for what a control
// decided. What somebody asked to be shown is its class Datastore Activity (6005); what somebody did, API Activity (6003).
const ocsfVersion = "1.6.0"

// What of the schema is used, by its own names.
type (
	ocsfEvent struct {
		ActivityID     int             `json:"activity_id"`
		ActionID       int             `json:"action_id,omitempty"`
		DispositionID  int             `json:"disposition_id,omitempty"`
		Actor          ocsfActor       `json:"actor"`
		API            *ocsfAPI        `json:"api,omitempty"`
		Authorizations []ocsfAuthority `json:"authorizations,omitempty"`
		CategoryUID    int             `json:"category_uid"`
		ClassUID       int             `json:"class_uid"`
		Database       *ocsfDatabase   `json:"database,omitempty"`
		Message        string          `json:"message"`
		Metadata       ocsfMetadata    `json:"metadata"`
		SeverityID     int             `json:"severity_id"`
		SrcEndpoint    ocsfEndpoint    `json:"src_endpoint"`
		StatusID       int             `json:"status_id"`
		StatusDetail   string          `json:"status_detail,omitempty"`
		Time           int64           `json:"time"`
		TypeUID        int64           `json:"type_uid"`
		Unmapped       ocsfUnmapped    `json:"unmapped"`
	}
	ocsfActor struct {
		User ocsfUser `json:"user"`
	}
	ocsfUser struct {
		UID    string `json:"uid,omitempty"`
		Name   string `json:"name,omitempty"`
		Type   string `json:"type,omitempty"`
		TypeID int    `json:"type_id"`
	}
	ocsfAPI struct {
		Operation string `json:"operation"`
	}
	ocsfAuthority struct {
		Decision string     `json:"decision"`
		Policy   ocsfPolicy `json:"policy"`
	}
	ocsfPolicy struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	}
	ocsfDatabase struct {
		Name   string `json:"name"`
		TypeID int    `json:"type_id"`
	}
	ocsfEndpoint struct {
		UID  string `json:"uid,omitempty"`
		Name string `json:"name,omitempty"`
	}
	ocsfMetadata struct {
		EventCode      string      `json:"event_code"`
		CorrelationUID string      `json:"correlation_uid,omitempty"`
		LogName        string      `json:"log_name"`
		OriginalTime   string      `json:"original_time"`
		Product        ocsfProduct `json:"product"`
		Profiles       []string    `json:"profiles"`
		Sequence       int64       `json:"sequence"`
		TenantUID      string      `json:"tenant_uid"`
		UID            string      `json:"uid"`
		Version        string      `json:"version"`
	}
	ocsfProduct struct {
		Name       string `json:"name"`
		VendorName string `json:"vendor_name"`
	}
	// ocsfUnmapped is what the schema has no attribute for.
	ocsfUnmapped struct {
		Kind        string   `json:"kind"`
		SubjectKind string   `json:"subject_kind,omitempty"`
		Subject     string   `json:"subject,omitempty"`
		Audience    string   `json:"audience,omitempty"`
		Fields      []string `json:"fields,omitempty"`
		Masked      []string `json:"masked,omitempty"`
		Reasons     []string `json:"reasons,omitempty"`
		Network     string   `json:"network,omitempty"`
	}
)

// ocsf puts a record into an event of the schema. References stay references.
func ocsf(e audit.Entry) ocsfEvent {
	o := ocsfEvent{
		ActivityID: 1, CategoryUID: 6, ClassUID: 6005, SeverityID: 1, StatusID: 1, Message: what("en", e.Action), Time: e.Time.UnixMilli(),
		Actor:       ocsfActor{ocsfUser{UID: e.Actor.Ref, Type: e.Actor.Kind, TypeID: 99}},
		SrcEndpoint: ocsfEndpoint{UID: e.Address},
		Metadata: ocsfMetadata{
			EventCode: e.Action, CorrelationUID: e.Conversation, LogName: "audit", OriginalTime: e.Time.Format(time.RFC3339Nano), Product: ocsfProduct{"Counterfoil", "Counterfoil"}, Profiles: []string{"security_control"},
			Sequence: int64(e.Seq), TenantUID: e.Organisation, UID: e.Organisation + "/" + strconv.FormatUint(e.Seq, 10), Version: ocsfVersion,
		},
		Unmapped: ocsfUnmapped{Kind: string(e.Kind), SubjectKind: e.Subject.Kind, Subject: e.Subject.Ref, Audience: e.Audience, Fields: e.Fields, Masked: e.Masked, Reasons: e.Reasons, Network: e.AddressNet},
	}
	if id, known := map[string]int{"admin": 2, "operator": 2, "visitor": 1, "agent": 1, "job": 3, "client": 4}[e.Actor.Kind]; known {
		o.Actor.User.TypeID = id
	}
	if e.Actor.Ref == "" {
		o.Actor.User.Name = cmp.Or(e.Actor.Kind, "unknown")
	}
	if e.Address == "" {
		o.SrcEndpoint.Name = "not recorded"
	}
	switch _, asked := e.Facts["purpose"]; {
	case e.Kind == audit.Administration || e.Kind == audit.Denial && asked: // an act that was asked for by name
		o.ClassUID, o.ActivityID, o.API = 6003, 99, &ocsfAPI{e.Action}
	case e.Kind == audit.Collection:
		o.ActivityID = 5
	}
	if o.ClassUID == 6005 {
		o.Database = &ocsfDatabase{"euii", 1}
	}
	switch e.Decision {
	case audit.DecisionAllow:
		o.ActionID, o.DispositionID = 1, 1
	case audit.DecisionMasked:
		o.ActionID, o.DispositionID = 4, 1
	case audit.DecisionDeny:
		o.ActionID, o.DispositionID, o.StatusID, o.SeverityID, o.StatusDetail = 2, 2, 2, 3, strings.Join(e.Reasons, ", ")
	}
	if e.Decision != "" {
		o.Authorizations = []ocsfAuthority{{e.Decision, ocsfPolicy{cmp.Or(e.Rule, "none"), e.Policy}}}
	}
	o.TypeUID = int64(o.ClassUID)*100 + int64(o.ActivityID)
	return o
}

// writeOCSF gives events of the schema, one a line.
func writeOCSF(b *bytes.Buffer, found []pglog.Found) error {
	enc := json.NewEncoder(b)
	return eachEntry(found, func(e audit.Entry) error { return enc.Encode(ocsf(e)) })
}

func eachEntry(found []pglog.Found, write func(audit.Entry) error) error {
	for _, f := range found {
		e, err := audit.ParseEntry(f.Body)
		if err != nil {
			return fmt.Errorf("the log in the database is damaged: %w", err)
		}
		if err := write(e); err != nil {
			return fmt.Errorf("write record: %w", err)
		}
	}
	return nil
}

// In a CEF line a bar ends a field of the header, an equals sign the name of one behind it, and a line's end the event.
var (
	cefHeader = strings.NewReplacer(`\`, `\\`, "|", `\|`, "\r\n", " ", "\n", " ", "\r", " ")
	cefValue  = strings.NewReplacer(`\`, `\\`, "=", `\=`, "\r\n", `\n`, "\n", `\n`, "\r", `\r`)
)

// writeCEF gives lines of the Common Event Format, version 0.
func writeCEF(b *bytes.Buffer, found []pglog.Found) error {
	return eachEntry(found, func(e audit.Entry) error {
		severity := map[string]int{audit.DecisionDeny: 6, audit.DecisionMasked: 3}[e.Decision]
		fmt.Fprintf(b, "CEF:0|Counterfoil|Counterfoil|1|%s|%s|%d|", cefHeader.Replace(e.Action), cefHeader.Replace(what("en", e.Action)), max(severity, 1))
		between := ""
		put := func(key, v string) {
			if v != "" {
				b.WriteString(between + key + "=" + cefValue.Replace(v))
				between = " "
			}
		}
		put("rt", strconv.FormatInt(e.Time.UnixMilli(), 10))
		put("externalId", strconv.FormatUint(e.Seq, 10))
		put("cat", string(e.Kind))
		put("act", e.Decision)
		put("reason", strings.Join(e.Reasons, ","))
		put("suid", e.Actor.Ref)
		put("spriv", e.Actor.Kind)
		put("duid", e.Subject.Ref)
		put("dpriv", e.Subject.Kind)
		for i, c := range []struct{ label, value string }{{"rule", e.Rule}, {"policy", e.Policy}, {"conversation", e.Conversation}, {"fields", strings.Join(e.Fields, ",")}, {"address", e.Address}, {"network", e.AddressNet}} {
			if c.value != "" {
				put(fmt.Sprintf("cs%dLabel", i+1), c.label)
				put(fmt.Sprintf("cs%d", i+1), c.value)
			}
		}
		b.WriteByte('\n')
		return nil
	})
}
