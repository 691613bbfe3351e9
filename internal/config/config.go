// Package config reads the settings from the environment. There is no configuration file, no setting that switches a
// protection off, and an unknown COUNTERFOIL_ name is an error, because a misspelled protection would be none.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const prefix = "COUNTERFOIL_"

// Config holds all settings.
type Config struct {
	DataDir        string         // COUNTERFOIL_DATA_DIR
	DatabaseURL    string         // COUNTERFOIL_DATABASE_URL; empty runs an own PostgreSQL in DataDir
	RetentionURL   string         // COUNTERFOIL_RETENTION_URL: the same database as the role that prunes records
	PublicAddr     string         // COUNTERFOIL_PUBLIC_ADDR
	ConsoleAddr    string         // COUNTERFOIL_CONSOLE_ADDR
	DemoAddr       string         // COUNTERFOIL_DEMO_ADDR
	PublicURL      string         // COUNTERFOIL_PUBLIC_URL
	ConsoleURL     string         // COUNTERFOIL_CONSOLE_URL
	TrustedProxies []netip.Prefix // COUNTERFOIL_TRUSTED_PROXIES
	NATSURL        string         // COUNTERFOIL_NATS_URL; empty runs a server in this process
	KEKFile        string         // COUNTERFOIL_KEK_URI, a file: URI
	Policy         Policy
	Bot            Bot
	SMTP           SMTP

	LogDir     string // COUNTERFOIL_LOG_DIR
	BackupDir  string // COUNTERFOIL_BACKUP_DIR; empty while none are made each night
	BackupKeep int    // COUNTERFOIL_BACKUP_KEEP
	OTLP       OTLP

	PublishDir      string        // COUNTERFOIL_PUBLISH_DIR
	PublishInterval time.Duration // COUNTERFOIL_PUBLISH_INTERVAL
	Bucket          Bucket
	Witness         Witness

	ArchiveDir    string // COUNTERFOIL_ARCHIVE_DIR; empty while no archives are kept in a directory
	ArchiveBucket string // COUNTERFOIL_ARCHIVE_BUCKET, of the service, with the credentials and the lock of the bucket in which the logs are published
}

// OTLP is where telemetry is sent. Endpoint is empty while it is sent nowhere.
type OTLP struct {
	Endpoint    string // COUNTERFOIL_OTLP_ENDPOINT, of a receiver over HTTP
	HeadersFile string // COUNTERFOIL_OTLP_HEADERS_FILE: a line NAME: VALUE for each header that it wants
}

// SMTP is the mail server by which alerts are sent. Addr is empty while there is none.
type SMTP struct {
	Addr         string // COUNTERFOIL_SMTP_ADDR
	From         string // COUNTERFOIL_SMTP_FROM
	Username     string // COUNTERFOIL_SMTP_USERNAME
	PasswordFile string // COUNTERFOIL_SMTP_PASSWORD_FILE
}

// Bucket is where the logs are published beside the directory. Name is empty while there is none.
type Bucket struct {
	Name            string // COUNTERFOIL_PUBLISH_BUCKET
	Endpoint        string // COUNTERFOIL_PUBLISH_BUCKET_ENDPOINT
	Region          string // COUNTERFOIL_PUBLISH_BUCKET_REGION
	CredentialsFile string // COUNTERFOIL_PUBLISH_BUCKET_CREDENTIALS_FILE: the id of an access key, and on the next line its secret
	Lock            string // COUNTERFOIL_PUBLISH_BUCKET_LOCK: compliance or governance
}

// Witness is who cosigns the logs' checkpoints. URL is empty while there is none.
type Witness struct {
	URL    string        // COUNTERFOIL_WITNESS_URL
	Key    string        // COUNTERFOIL_WITNESS_KEY, its verifier key
	Policy string        // COUNTERFOIL_WITNESS_POLICY: one of the following
	MaxAge time.Duration // COUNTERFOIL_WITNESS_MAX_AGE
}

// What follows from a witness that does not cosign.
const (
	WitnessNone    = "none"    // there is no witness
	WitnessWarn    = "warn"    // it is said
	WitnessRequire = "require" // nothing is released of a log that no witness has seen for MaxAge
)

// Policy says which policy decides. With nothing set it is the one compiled in; there is always one.
type Policy struct {
	Bundle    string // COUNTERFOIL_POLICY_BUNDLE, a directory or a file; signed
	KeyFile   string // COUNTERFOIL_POLICY_KEY, the public key that verifies the bundle, and a candidate that is to decide
	Candidate string // COUNTERFOIL_POLICY_CANDIDATE, a directory or a file; asked beside, and decides only once it was activated
}

// Bot is the registration of the Teams bot. AppID is empty while Teams is not connected.
type Bot struct {
	AppID        string   // COUNTERFOIL_BOT_APP_ID
	TenantID     string   // COUNTERFOIL_BOT_TENANT_ID, of the registration; empty for a multi-tenant bot
	SecretFile   string   // COUNTERFOIL_BOT_SECRET_FILE
	Cloud        string   // COUNTERFOIL_BOT_CLOUD: public, gcc, gcchigh, dod, china or custom
	MetadataURL  string   // COUNTERFOIL_BOT_METADATA_URL, for a custom cloud
	Issuer       string   // COUNTERFOIL_BOT_ISSUER, for a custom cloud
	LoginURL     string   // COUNTERFOIL_BOT_LOGIN_URL, for a custom cloud
	ServiceHosts []string // COUNTERFOIL_BOT_SERVICE_HOSTS, for a custom cloud
}

// Setting is one setting as it is printed.
type Setting struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Default bool   `json:"default"`
}

type reader struct {
	values map[string]string
	used   map[string]bool
	shown  []Setting
	errs   []error
}

func (r *reader) text(name, fallback string) string {
	name = prefix + name
	r.used[name] = true
	v, set := r.values[name]
	r.shown = append(r.shown, Setting{name, cmp.Or(v, fallback), !set || v == ""})
	return cmp.Or(v, fallback)
}

func (r *reader) fail(name, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(prefix+name+" "+format, args...))
}

func (r *reader) address(name, fallback string) string {
	v := r.text(name, fallback)
	if _, _, err := net.SplitHostPort(v); err != nil {
		r.fail(name, "must be HOST:PORT, such as 127.0.0.1:8080")
	}
	return v
}

func (r *reader) origin(name, fallback string) string {
	v := strings.TrimSuffix(r.text(name, fallback), "/")
	r.isOrigin(name, v)
	return v
}

func (r *reader) isOrigin(name, v string) {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" || u.User != nil || u.RawQuery != "" {
		r.fail(name, "must be a scheme and a host, such as https://chat.example.com")
		return
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		r.fail(name, "must be https, except on loopback")
	}
}

func (r *reader) duration(name, fallback string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(r.text(name, fallback))
	if err != nil || d < least || d > most {
		r.fail(name, "must be a duration from %s to %s, such as %s", least, most, fallback)
	}
	return d
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Load reads the settings from environ, in the form of os.Environ. The error names every setting that is wrong; it holds
// no value.
func Load(environ []string) (Config, []Setting, error) {
	r := &reader{values: make(map[string]string), used: make(map[string]bool)}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, prefix) {
			r.values[name] = value
		}
	}
	var c Config
	c.DataDir = r.text("DATA_DIR", "./data")
	c.DatabaseURL = r.text("DATABASE_URL", "")
	if c.DatabaseURL != "" {
		r.shown[len(r.shown)-1].Value = "set, not shown"
	}
	c.RetentionURL = r.text("RETENTION_URL", "")
	if c.RetentionURL != "" {
		r.shown[len(r.shown)-1].Value = "set, not shown"
	}
	c.PublicAddr = r.address("PUBLIC_ADDR", "127.0.0.1:8080")
	c.ConsoleAddr = r.address("CONSOLE_ADDR", "127.0.0.1:8081")
	c.DemoAddr = r.address("DEMO_ADDR", "127.0.0.1:8082")
	c.PublicURL = r.origin("PUBLIC_URL", "http://localhost:"+port(c.PublicAddr))
	c.ConsoleURL = r.origin("CONSOLE_URL", "http://127.0.0.1:"+port(c.ConsoleAddr))
	for _, p := range list(r.text("TRUSTED_PROXIES", "")) {
		prefix, err := netip.ParsePrefix(p)
		switch {
		case err != nil:
			r.fail("TRUSTED_PROXIES", "must be a list of address ranges, such as 10.0.0.0/8,fd00::/8")
		case prefix.Bits() == 0:
			r.fail("TRUSTED_PROXIES", "must not trust every address")
		default:
			c.TrustedProxies = append(c.TrustedProxies, prefix.Masked())
		}
	}
	c.NATSURL = r.text("NATS_URL", "")
	if strings.Contains(c.NATSURL, "@") {
		r.shown[len(r.shown)-1].Value = "set, not shown"
	}
	kek := r.text("KEK_URI", "file:"+filepath.Join(c.DataDir, "keys", "kek.json"))
	path, ok := strings.CutPrefix(kek, "file:")
	if c.KEKFile = strings.TrimPrefix(path, "//"); !ok || c.KEKFile == "" {
		r.fail("KEK_URI", "must be file:PATH")
	}
	c.Policy = Policy{r.text("POLICY_BUNDLE", ""), r.text("POLICY_KEY", ""), r.text("POLICY_CANDIDATE", "")}
	if c.Policy.Bundle != "" && c.Policy.KeyFile == "" || c.Policy.KeyFile != "" && c.Policy.Bundle == "" && c.Policy.Candidate == "" {
		r.fail("POLICY_BUNDLE", "and COUNTERFOIL_POLICY_KEY need each other")
	}
	b := &c.Bot
	b.AppID = r.text("BOT_APP_ID", "")
	b.TenantID = r.text("BOT_TENANT_ID", "")
	b.SecretFile = r.text("BOT_SECRET_FILE", "")
	b.Cloud = r.text("BOT_CLOUD", "public")
	b.MetadataURL = r.text("BOT_METADATA_URL", "")
	b.Issuer = r.text("BOT_ISSUER", "")
	b.LoginURL = r.text("BOT_LOGIN_URL", "")
	b.ServiceHosts = list(r.text("BOT_SERVICE_HOSTS", ""))
	if b.AppID != "" && b.SecretFile == "" {
		r.fail("BOT_SECRET_FILE", "is needed with COUNTERFOIL_BOT_APP_ID")
	}
	if b.Cloud != "custom" && (b.MetadataURL != "" || b.Issuer != "" || b.LoginURL != "" || len(b.ServiceHosts) > 0) {
		r.fail("BOT_CLOUD", "must be custom for the addresses of a cloud to be set")
	}
	if c.BackupDir = r.text("BACKUP_DIR", ""); c.BackupDir != "" && c.DatabaseURL != "" {
		r.fail("BACKUP_DIR", "is for the database that Counterfoil runs itself: back up one that is named with what runs it")
	}
	keep, err := strconv.Atoi(r.text("BACKUP_KEEP", "7"))
	if c.BackupKeep = keep; err != nil || keep < 1 || keep > 1000 {
		r.fail("BACKUP_KEEP", "must be a number of backups from 1 to 1000")
	}
	c.LogDir = r.text("LOG_DIR", filepath.Join(c.DataDir, "log"))
	if c.OTLP.Endpoint = strings.TrimSuffix(r.text("OTLP_ENDPOINT", ""), "/"); c.OTLP.Endpoint != "" {
		r.isOrigin("OTLP_ENDPOINT", c.OTLP.Endpoint)
	}
	if c.OTLP.HeadersFile = r.text("OTLP_HEADERS_FILE", ""); c.OTLP.HeadersFile != "" && c.OTLP.Endpoint == "" {
		r.fail("OTLP_HEADERS_FILE", "needs COUNTERFOIL_OTLP_ENDPOINT")
	}
	c.PublishDir = r.text("PUBLISH_DIR", filepath.Join(c.DataDir, "export"))
	c.PublishInterval = r.duration("PUBLISH_INTERVAL", "1s", 100*time.Millisecond, time.Hour)
	p := &c.Bucket
	p.Name = r.text("PUBLISH_BUCKET", "")
	p.Region = r.text("PUBLISH_BUCKET_REGION", "us-east-1")
	p.Endpoint = r.origin("PUBLISH_BUCKET_ENDPOINT", "https://s3."+p.Region+".amazonaws.com")
	p.CredentialsFile = r.text("PUBLISH_BUCKET_CREDENTIALS_FILE", "")
	if p.Lock = r.text("PUBLISH_BUCKET_LOCK", "compliance"); p.Lock != "compliance" && p.Lock != "governance" {
		r.fail("PUBLISH_BUCKET_LOCK", "must be compliance (nobody ends a lock early) or governance (whom the bucket's owner lets)")
	}
	if (p.Name == "") != (p.CredentialsFile == "") {
		r.fail("PUBLISH_BUCKET", "and COUNTERFOIL_PUBLISH_BUCKET_CREDENTIALS_FILE need each other")
	}
	c.ArchiveDir, c.ArchiveBucket = r.text("ARCHIVE_DIR", ""), r.text("ARCHIVE_BUCKET", "")
	switch {
	case c.ArchiveDir != "" && c.ArchiveBucket != "":
		r.fail("ARCHIVE_DIR", "and COUNTERFOIL_ARCHIVE_BUCKET exclude each other: archives lie in one place")
	case c.ArchiveBucket != "" && p.CredentialsFile == "":
		r.fail("ARCHIVE_BUCKET", "is a bucket of the service that COUNTERFOIL_PUBLISH_BUCKET names, with its credentials: set that too")
	}
	w := &c.Witness
	fallback := WitnessNone
	if w.URL = r.text("WITNESS_URL", ""); w.URL != "" {
		fallback = WitnessWarn
		if u, err := url.Parse(w.URL); err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			r.fail("WITNESS_URL", "must be an https address without anything secret in it, or http on loopback")
		}
	}
	w.Key = r.text("WITNESS_KEY", "")
	if (w.URL == "") != (w.Key == "") {
		r.fail("WITNESS_KEY", "and COUNTERFOIL_WITNESS_URL belong together: whose cosignature counts, and where to get it")
	}
	w.Policy = r.text("WITNESS_POLICY", fallback)
	switch w.Policy {
	case WitnessNone, WitnessWarn, WitnessRequire:
		if (w.Policy == WitnessNone) != (w.URL == "") {
			r.fail("WITNESS_POLICY", "must be none without COUNTERFOIL_WITNESS_URL, and warn or require with it")
		}
	default:
		r.fail("WITNESS_POLICY", "must be none, warn or require")
	}
	w.MaxAge = r.duration("WITNESS_MAX_AGE", "10m", 10*time.Second, 24*time.Hour)
	m := &c.SMTP
	if m.Addr = r.text("SMTP_ADDR", ""); m.Addr != "" {
		if host, port, err := net.SplitHostPort(m.Addr); err != nil || host == "" || port == "" {
			r.fail("SMTP_ADDR", "must be HOST:PORT, such as mail.example.com:587")
		}
	}
	m.From = r.text("SMTP_FROM", "")
	if _, err := mail.ParseAddress(m.From); (m.Addr == "") != (m.From == "") || m.From != "" && err != nil {
		r.fail("SMTP_FROM", "and COUNTERFOIL_SMTP_ADDR belong together: by which server, and as whom alerts are sent")
	}
	m.Username, m.PasswordFile = r.text("SMTP_USERNAME", ""), r.text("SMTP_PASSWORD_FILE", "")
	if (m.Username == "") != (m.PasswordFile == "") || m.Addr == "" && m.Username != "" {
		r.fail("SMTP_PASSWORD_FILE", "and COUNTERFOIL_SMTP_USERNAME need each other, and a server")
	}
	for name := range r.values {
		if !r.used[name] {
			r.errs = append(r.errs, fmt.Errorf("%s is not a setting", name))
		}
	}
	slices.SortFunc(r.errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c, r.shown, errors.Join(r.errs...)
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}
